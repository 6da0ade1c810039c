/*
 * dial.h: connecting by a library that blocks.
 *
 * Such a library can hang in a name server or a handshake, and before there is
 * a session there is nothing to cancel.  So a connect that has bounds is an
 * errand.  A session that comes when nobody waits for it any more is closed by
 * the errand's own thread.
 */
#ifndef MB_CORE_DIAL_H
#define MB_CORE_DIAL_H

#include "connection.h"

/* True when a connection is to be made in this way. */
bool mb__dial_wants(const mb_conn *conn);

/* As the driver's connect and resume, for a connection that is wanted so. */
MB_CHECKED mb_status mb__dial_start(mb_conn *conn, mb_error *error);
MB_CHECKED mb_status mb__dial_resume(mb_conn *conn, mb_error *error);

/* Leaves an attempt that has not ended; safe where there is none. */
void mb__dial_leave(mb_conn *conn);

#endif
