/*
 * thread.h: the few things that the core needs of threads.
 */
#ifndef MB_CORE_THREAD_H
#define MB_CORE_THREAD_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* Runs work(argument) on a new detached thread with all signals blocked, so
 * that no handler of the program runs there.  False: none could be started. */
bool mb__thread_start(void (*work)(void *argument), void *argument);

/* The same on a thread that has to be joined or detached. */
bool mb__thread_start_joinable(
    void *(*work)(void *argument), void *argument, pthread_t *thread);

/* What threads and fibers wait for, inside a lock. */
typedef struct mb__condition {
  pthread_cond_t threads;
  struct mb__sleeper *sleepers; /* fibers */
} mb__condition;

void mb__condition_init(mb__condition *condition);
void mb__condition_destroy(mb__condition *condition);
/* Wakes one who waits, or all of them; with the lock of those who wait. */
void mb__condition_signal(mb__condition *condition);
void mb__condition_broadcast(mb__condition *condition);

/* Waits for the condition, at most until deadline_ns of mb_host.now_ns
 * (INT64_MAX: for ever).  False: the time has come. */
bool mb__condition_wait(
    mb__condition *condition, pthread_mutex_t *lock, int64_t deadline_ns);

#endif
