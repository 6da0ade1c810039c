/*
 * fiber.h: how the core waits for whoever runs it on a stack of its own.
 *
 * Everything that waits on the caller's thread does so by mb__fiber_poll or
 * mb__thread_wait.  On a thread's own stack they block; on a fiber's they
 * leave it, and mb_fiber_start or mb_fiber_resume comes back to whoever called
 * that.
 */
#ifndef MB_CORE_FIBER_H
#define MB_CORE_FIBER_H

#include "../moonbase.h"
#include "host.h"

#include <poll.h>

/* poll(fds, n, …) until deadline_ns of mb_host.now_ns; n is at most 2.  May
 * come back early, with 0. */
int mb__fiber_poll(struct pollfd *fds, nfds_t n, int64_t deadline_ns);

/* The fiber that the caller is on, and whose call that is; NULL: none. */
mb_fiber *mb__fiber_running(void);
const void *mb__fiber_task(void);

/* Whether the work that runs was stopped by mb_fiber_stop; said once. */
typedef enum mb__fiber_stop {
  MB__FIBER_GOES_ON,
  MB__FIBER_STOPPED,
  MB__FIBER_CUT_OFF
} mb__fiber_stop;
mb__fiber_stop mb__fiber_take_stop(void);
/* The same, said as often as it is asked. */
bool mb__fiber_was_stopped(void);
/* What a wait that was stopped fails with; answers MB_ERROR. */
mb_status mb__fiber_refuse(mb_error *error);

/* Whether there was ever a fiber in this process: a program without has nothing
 * to ask. */
extern atomic_bool mb__fiber_known;

/* --- Working elsewhere --------------------------------------------------
 *
 * What blocks, and cannot wait in either of these ways, goes on with its stack
 * on a worker thread, while the owner's has it seem to wait.  Elsewhere it is
 * as on a thread's own stack: whatever waits there blocks, and nothing that is
 * the owner's may be touched.
 */

/* Has a worker go on with the fiber that is running; op: what mb_fiber_stop
 * stops there (or NULL); driver: whose calls follow.  False: it goes on here,
 * since there is no fiber, or no thread to be had. */
bool mb__fiber_leave_home(mb_op *op, const mb_driver *driver);
/* Has the owner go on with it; nothing happens to who is at home. */
void mb__fiber_come_home(void);

/* Whether the fiber that is running has kept its owner's thread for duration_ns
 * by now, as far as this was asked before. */
bool mb__fiber_is_late(int64_t duration_ns);

/* Somebody who waits for a condition on a fiber; on its stack. */
typedef struct mb__sleeper {
  struct mb__sleeper *next;
  int fd; /* to be written to */
} mb__sleeper;

/* Readies the fiber that is running for being woken.  False: it has to look by
 * itself now and then. */
bool mb__fiber_lie_down(mb__sleeper *sleeper);
/* Waits for mb__fiber_wake; false: the time has come. */
bool mb__fiber_sleep(int64_t deadline_ns);
/* From any thread, while the sleeper exists. */
void mb__fiber_wake(const mb__sleeper *sleeper);

#endif
