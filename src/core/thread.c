/* thread.c: threads, started so that they disturb nobody. */
#include "thread.h"

#include "fiber.h"
#include "host.h"

#include <errno.h>
#include <signal.h>
#include <time.h>

#define NS_PER_SECOND 1000000000
/* How often a condition is looked at where the clock is another. */
#define STEP_NS 2000000

typedef struct job {
  void (*work)(void *argument);
  void *argument;
} job;

static void *run(void *argument)
{
  const job todo = *(job *)argument;
  mb__host.release(argument);
  todo.work(todo.argument);
  return NULL;
}

bool mb__thread_start_joinable(
    void *(*work)(void *argument), void *argument, pthread_t *thread)
{
  sigset_t all;
  sigset_t before;
  (void)sigfillset(&all);
  (void)pthread_sigmask(SIG_SETMASK, &all, &before);
  const int failed = pthread_create(thread, NULL, work, argument);
  (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
  return failed == 0;
}

bool mb__thread_start(void (*work)(void *argument), void *argument)
{
  pthread_t thread;
  job *todo = mb__host.allocate(sizeof *todo);
  if (todo == NULL)
    return false;
  todo->work = work;
  todo->argument = argument;
  if (!mb__thread_start_joinable(run, todo, &thread)) {
    mb__host.release(todo);
    return false;
  }
  (void)pthread_detach(thread);
  return true;
}

void mb__condition_init(mb__condition *condition)
{
  pthread_condattr_t attributes;
  (void)pthread_condattr_init(&attributes);
  (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
  (void)pthread_cond_init(&condition->threads, &attributes);
  (void)pthread_condattr_destroy(&attributes);
  condition->sleepers = NULL;
}

void mb__condition_destroy(mb__condition *condition)
{
  (void)pthread_cond_destroy(&condition->threads);
}

void mb__condition_signal(mb__condition *condition)
{
  mb__sleeper *first = condition->sleepers;
  if (first == NULL) {
    (void)pthread_cond_signal(&condition->threads);
    return;
  }
  condition->sleepers = first->next;
  mb__fiber_wake(first);
}

void mb__condition_broadcast(mb__condition *condition)
{
  while (condition->sleepers != NULL)
    mb__condition_signal(condition);
  (void)pthread_cond_broadcast(&condition->threads);
}

/* The same on a fiber, which is left meanwhile. */
static bool sleep_until(
    mb__condition *condition, pthread_mutex_t *lock, int64_t deadline_ns)
{
  mb__sleeper own;
  const bool is_told = mb__fiber_lie_down(&own);
  const int64_t look_ns = mb__host.now_ns() + STEP_NS;
  if (is_told) {
    mb__sleeper **last = &condition->sleepers;
    while (*last != NULL)
      last = &(*last)->next;
    own.next = NULL;
    *last = &own;
  }
  (void)pthread_mutex_unlock(lock);
  const bool early = is_told
                         ? mb__fiber_sleep(deadline_ns)
                         : (mb__fiber_poll(NULL, 0,
                                look_ns < deadline_ns ? look_ns : deadline_ns),
                               mb__host.now_ns() < deadline_ns);
  (void)pthread_mutex_lock(lock);
  mb__sleeper **link = &condition->sleepers;
  while (*link != NULL && *link != &own)
    link = &(*link)->next;
  if (*link != NULL)
    *link = own.next;
  return early;
}

bool mb__condition_wait(
    mb__condition *condition, pthread_mutex_t *lock, int64_t deadline_ns)
{
  if (mb_fiber_is_inside())
    return sleep_until(condition, lock, deadline_ns);
  if (deadline_ns == MB_NEVER) {
    (void)pthread_cond_wait(&condition->threads, lock);
    return true;
  }
  if (!mb__clock_is_real()) {
    /* Nobody but the one who moves the clock can tell when it is time, and he
     * knows nothing of the condition. */
    const int64_t left_ns = deadline_ns - mb__host.now_ns();
    (void)pthread_mutex_unlock(lock);
    mb__host.sleep_ns(left_ns < STEP_NS ? left_ns : STEP_NS);
    (void)pthread_mutex_lock(lock);
    return mb__host.now_ns() < deadline_ns;
  }
  const struct timespec until = {
      .tv_sec = (time_t)(deadline_ns / NS_PER_SECOND),
      .tv_nsec = (long)(deadline_ns % NS_PER_SECOND)};
  return pthread_cond_timedwait(&condition->threads, lock, &until) != ETIMEDOUT;
}
