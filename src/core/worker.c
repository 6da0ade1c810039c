/*
 * worker.c: threads for calls that would hold up an event loop.
 */
#include "worker.h"

#include "alarm.h"
#include "host.h"
#include "thread.h"

#include <stdlib.h>

#define NS_PER_MS INT64_C(1000000)
/* For how long one stays without work. */
#define IDLE_NS (10000 * NS_PER_MS)
/* For how long the end of the process waits for calls that are going on. */
#define EXIT_LIMIT_NS (100 * NS_PER_MS)

struct mb__worker {
  const mb_driver *entered; /* whose thread_enter was called; its own */

  /* Guarded by the lock. */
  mb__condition given;
  mb__worker *next, *prev; /* of those that are idle, or of the others */
  bool idle;
  const mb_driver *driver;
  void (*work)(void *argument); /* NULL: there is none yet */
  void *argument;
  mb_op *op;
};

/* Guards everything below. */
static pthread_mutex_t workers_lock = PTHREAD_MUTEX_INITIALIZER;
static mb__worker *idle; /* the one that was busy last comes first */
static mb__worker *busy;
static size_t n_threads;
static bool ending; /* the process */
static mb__condition gone;
static atomic_uint epoch;

unsigned mb__worker_epoch(void)
{
  return atomic_load(&epoch);
}

static void add(mb__worker **list, mb__worker *worker)
{
  worker->idle = list == &idle;
  worker->prev = NULL;
  worker->next = *list;
  if (*list != NULL)
    (*list)->prev = worker;
  *list = worker;
}

static void take_out(mb__worker *worker)
{
  if (worker->prev != NULL)
    worker->prev->next = worker->next;
  else if (worker->idle)
    idle = worker->next;
  else
    busy = worker->next;
  if (worker->next != NULL)
    worker->next->prev = worker->prev;
}

/* --- Forks, and the end ------------------------------------------------- */

static void lock_workers(void)
{
  (void)pthread_mutex_lock(&workers_lock);
}

static void unlock_workers(void)
{
  (void)pthread_mutex_unlock(&workers_lock);
}

/* The child has none of the threads. */
static void forget_workers(void)
{
  mb__worker *const lists[] = {idle, busy};
  for (size_t i = 0; i < 2; i++)
    for (mb__worker *one = lists[i], *next; one != NULL; one = next) {
      next = one->next;
      mb__host.release(one);
    }
  idle = busy = NULL;
  n_threads = 0;
  mb__condition_init(&gone);
  (void)atomic_fetch_add(&epoch, 1);
  (void)pthread_mutex_unlock(&workers_lock);
}

/* What a call has begun is ended in order, as far as it lets itself be told. */
static void end_workers(void)
{
  const int64_t deadline_ns = mb__deadline_ns(EXIT_LIMIT_NS);
  (void)pthread_mutex_lock(&workers_lock);
  ending = true;
  for (mb__worker *one = idle; one != NULL; one = one->next)
    mb__condition_signal(&one->given);
  for (mb__worker *one = busy; one != NULL; one = one->next)
    if (one->op != NULL)
      atomic_store(&one->op->stop, MB_STOP_CANCEL);
  (void)pthread_mutex_unlock(&workers_lock);
  mb__alarm_look();
  (void)pthread_mutex_lock(&workers_lock);
  while (n_threads > 0 && mb__condition_wait(&gone, &workers_lock, deadline_ns))
    continue;
  (void)pthread_mutex_unlock(&workers_lock);
}

static void get_ready(void)
{
  mb__condition_init(&gone);
  (void)pthread_atfork(lock_workers, unlock_workers, forget_workers);
  (void)atexit(end_workers);
}

/* --- The threads -------------------------------------------------------- */

/* Makes the thread one of the driver's; NULL: of none any more. */
static void become(mb__worker *worker, const mb_driver *driver)
{
  if (worker->entered == driver)
    return;
  if (worker->entered != NULL && worker->entered->thread_leave != NULL)
    worker->entered->thread_leave();
  worker->entered = driver;
  if (driver != NULL && driver->thread_enter != NULL)
    driver->thread_enter();
}

/* Waits for work; false: it is time to end. */
static bool wait_locked(mb__worker *worker)
{
  const int64_t until_ns = mb__deadline_ns(IDLE_NS);
  bool in_time = true;
  while (worker->work == NULL && !(worker->idle && (ending || !in_time)))
    in_time = mb__condition_wait(
        &worker->given, &workers_lock, worker->idle ? until_ns : MB_NEVER);
  return worker->work != NULL;
}

static void run(void *argument)
{
  mb__worker *worker = argument;
  (void)pthread_mutex_lock(&workers_lock);
  while (wait_locked(worker)) {
    const mb_driver *driver = worker->driver;
    (void)pthread_mutex_unlock(&workers_lock);
    become(worker, driver);
    worker->work(worker->argument);
    (void)pthread_mutex_lock(&workers_lock);
  }
  take_out(worker);
  (void)pthread_mutex_unlock(&workers_lock);
  become(worker, NULL);
  (void)pthread_mutex_lock(&workers_lock);
  mb__condition_destroy(&worker->given);
  mb__host.release(worker);
  n_threads--;
  mb__condition_broadcast(&gone);
  (void)pthread_mutex_unlock(&workers_lock);
}

static mb__worker *start(void)
{
  mb__worker *worker = mb__allocate_zeroed(1, sizeof *worker);
  if (worker == NULL)
    return NULL;
  mb__condition_init(&worker->given);
  (void)pthread_mutex_lock(&workers_lock);
  add(&busy, worker);
  const bool started = mb__thread_start(run, worker);
  if (started)
    n_threads++;
  else
    take_out(worker);
  (void)pthread_mutex_unlock(&workers_lock);
  if (started)
    return worker;
  mb__condition_destroy(&worker->given);
  mb__host.release(worker);
  return NULL;
}

size_t mb__worker_count(void)
{
  (void)pthread_mutex_lock(&workers_lock);
  const size_t n = n_threads;
  (void)pthread_mutex_unlock(&workers_lock);
  return n;
}

/* --- Their work --------------------------------------------------------- */

mb__worker *mb__worker_take(const mb_driver *driver)
{
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  (void)pthread_once(&once, get_ready);
  (void)pthread_mutex_lock(&workers_lock);
  mb__worker *worker = idle;
  if (worker != NULL) {
    take_out(worker);
    add(&busy, worker);
  }
  (void)pthread_mutex_unlock(&workers_lock);
  if (worker == NULL && (worker = start()) == NULL)
    return NULL;
  worker->driver = driver;
  return worker;
}

void mb__worker_give(
    mb__worker *worker, void (*work)(void *argument), void *argument, mb_op *op)
{
  (void)pthread_mutex_lock(&workers_lock);
  worker->work = work;
  worker->argument = argument;
  worker->op = op;
  mb__condition_signal(&worker->given);
  (void)pthread_mutex_unlock(&workers_lock);
}

void mb__worker_leave(mb__worker *worker)
{
  (void)pthread_mutex_lock(&workers_lock);
  worker->work = NULL;
  worker->op = NULL;
  take_out(worker);
  add(&idle, worker);
  (void)pthread_mutex_unlock(&workers_lock);
}
