/*
 * cancellation.h: stopping operations from outside.
 *
 * A cancellation reaches operations through listeners: while a connection's
 * operation is in flight it is on the cancellation's list, and a cancel sets
 * the flag of its mb_op.  A canceller asks the database, on a thread of its own
 * when that may block.  An ending is how far that has gone; wait.c takes it
 * from phase to phase, and alarm.c for calls that block.
 */
#ifndef MB_CORE_CANCELLATION_H
#define MB_CORE_CANCELLATION_H

#include "../moonbase.h"

/* A connection's place on the list of a cancellation; guarded by its lock. */
typedef struct mb__listener {
  mb_cancellation *cancellation; /* NULL: listens to none */
  mb_op *op;
  struct mb__listener *next, *prev;
} mb__listener;

/* Begins to listen; false: it is cancelled already. */
bool mb__cancellation_listen(
    mb_cancellation *cancellation, mb__listener *listener, mb_op *op);
/* Ends it; safe when not listening. */
void mb__cancellation_unlisten(mb__listener *listener);

/* A file descriptor that becomes readable when it is cancelled, and stays so;
 * -1 when there is none to be had.  Made at the first call. */
int mb__cancellation_fd(mb_cancellation *cancellation);

/* Around a fork nobody is in the middle of anything here, so that the child
 * finds no lock taken by a thread that it does not have. */
void mb__cancellations_lock(void);
void mb__cancellations_unlock(void);

/* A reason and its terminating zero byte. */
#define MB__REASON_ROOM 256

/* Reports that an operation was cancelled, with the reason. */
mb_status mb__cancellation_fail(mb_cancellation *cancellation, mb_error *error);

/* The right to cancel on a connection; reference-counted, so that a request
 * under way outlives the connection. */
typedef struct mb__canceller mb__canceller;

/* Takes the driver's handle over (and releases it at once without memory:
 * then NULL). */
mb__canceller *mb__canceller_open(
    const mb_driver *driver, mb_driver_cancel *handle);
void mb__canceller_close(mb__canceller *canceller);

/* Asks the database to stop what runs, on a helper thread.  False: no thread
 * could be started. */
bool mb__canceller_ask(mb__canceller *canceller, int64_t deadline_ns);
/* Waits until a request under way has returned; false: not by deadline_ns. */
bool mb__canceller_await(mb__canceller *canceller, int64_t deadline_ns);
/* Shuts the socket down; never blocks. */
void mb__canceller_shut(mb__canceller *canceller);

/* How far the ending of an operation has gone. */
typedef enum mb__phase {
  MB__PHASE_RUNNING,
  MB__PHASE_BESIDE, /* the call itself has the database asked */
  MB__PHASE_ASKED,  /* the database was asked to stop */
  MB__PHASE_SHUT,   /* the socket was shut down */
  MB__PHASE_ENDED   /* the call has ended, the asking has not */
} mb__phase;

typedef struct mb__ending {
  mb__phase phase;
  int64_t grace_end_ns; /* when its patience is over; from MB__PHASE_BESIDE on
                         */
} mb__ending;

/* Begins to end an operation: tells it so, and has the database asked.  Where
 * there is nobody to ask (canceller NULL) its grace is over at once. */
void mb__ending_ask(
    mb__ending *ending, mb_op *op, mb__canceller *canceller, int64_t grace_ns);

#endif
