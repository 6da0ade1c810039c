/*
 * errand.h: work that blocks and cannot be stopped, on a thread of its own.
 *
 * Its end can be waited for as a socket is waited for, and whoever waits may
 * leave at any time: the thread owns all that it needs, and the last one who
 * leaves an errand frees it.  It is the first member of a struct that holds
 * what goes in and comes out.
 */
#ifndef MB_CORE_ERRAND_H
#define MB_CORE_ERRAND_H

#include "../driver.h"

typedef struct mb__errand mb__errand;

struct mb__errand {
  void (*work)(mb__errand *errand); /* on the thread */
  void (*free)(mb__errand *errand); /* by the last one who leaves */
  const mb_driver *driver; /* whose functions these call; NULL: nobody's */

  /* The errand's own. */
  atomic_uint refs;
  atomic_bool done;
  int fds[2];
  uint32_t fd_serial;
};

/* Starts an errand whose first three members are set.  The caller is one of
 * those who have to leave it, also after MB_RESOURCE (there is no thread to be
 * had, or no descriptor): then it never runs. */
MB_CHECKED mb_status mb__errand_start(mb__errand *errand, mb_error *error);

/* Runs one on the calling thread, and it is done. */
void mb__errand_run_here(mb__errand *errand);

/* One more who waits, when one of them does this. */
void mb__errand_join(mb__errand *errand);
/* One less; NULL: none. */
void mb__errand_leave(mb__errand *errand);

/* What comes out may be read from now on. */
bool mb__errand_is_done(const mb__errand *errand);

/* Waits for its end: fills op->wait, and answers MB_WAIT.  deadline_ns: when to
 * go on all the same. */
MB_CHECKED mb_status mb__errand_wait(
    const mb__errand *errand, int64_t deadline_ns, mb_op *op);

#endif
