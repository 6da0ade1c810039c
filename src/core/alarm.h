/*
 * alarm.h: ending calls that block and do not look at their bounds.
 *
 * While such a call runs its own thread can do nothing for it.  One thread of
 * the process looks at the clock for all of them, and takes what is out of
 * time, or was cancelled, through the phases of its ending: the database is
 * asked, and after the time of grace the socket is shut down.  The thread is
 * there from the first call that needs it until there was none for a while.
 */
#ifndef MB_CORE_ALARM_H
#define MB_CORE_ALARM_H

#include "cancellation.h"

/* A call that is looked after.  What it points to is the alarm's while it is
 * set. */
typedef struct mb__alarm {
  mb_op *op;
  mb__ending *ending;
  const mb_driver *driver;
  mb__canceller *canceller;
  int64_t grace_ns;

  /* Guarded by the lock of all alarms. */
  bool is_shutting;
  struct mb__alarm *next, *prev;
} mb__alarm;

/* Sees to it that alarms are heard.  MB_RESOURCE: there is no thread to be had
 * for that. */
MB_CHECKED mb_status mb__alarm_prepare(mb_error *error);

/* Before the call, and after it: then the ending says how far it has gone, and
 * nobody touches it or the canceller any more. */
void mb__alarm_set(mb__alarm *alarm);
void mb__alarm_clear(mb__alarm *alarm);

/* Somebody has cancelled operations. */
void mb__alarm_look(void);

#endif
