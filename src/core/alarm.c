/*
 * alarm.c: the thread that looks at the clock for calls that block.
 */
#include "alarm.h"

#include "host.h"
#include "thread.h"

#define NS_PER_SECOND INT64_C(1000000000)
/* For how long the thread stays without anything to do. */
#define IDLE_NS (10 * NS_PER_SECOND)

/* Guards everything below, and what the alarms that are set point to. */
static pthread_mutex_t alarms_lock = PTHREAD_MUTEX_INITIALIZER;
static mb__condition wake;
static mb__condition was_shut;
static mb__alarm *alarms;
static bool running;          /* the thread */
static bool used;             /* since it looked last */
static int64_t next_look_ns;  /* when it looks by itself */
static atomic_bool was_ready; /* ever: there may be alarms */

/* --- Forks -------------------------------------------------------------- */

static void lock_alarms(void)
{
  (void)pthread_mutex_lock(&alarms_lock);
}

static void unlock_alarms(void)
{
  (void)pthread_mutex_unlock(&alarms_lock);
}

/* The child has neither the thread nor those whose calls it looked after. */
static void forget_alarms(void)
{
  alarms = NULL;
  running = false;
  mb__condition_init(&wake);
  mb__condition_init(&was_shut);
  (void)pthread_mutex_unlock(&alarms_lock);
}

static void make_ready(void)
{
  mb__condition_init(&wake);
  mb__condition_init(&was_shut);
  (void)pthread_atfork(lock_alarms, unlock_alarms, forget_alarms);
  atomic_store(&was_ready, true);
}

/* Before the thread waits for the first time: what it waits on is not to be
 * made anew under it. */
static void get_ready(void)
{
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  (void)pthread_once(&once, make_ready);
}

/* --- The thread --------------------------------------------------------- */

/* When a call comes to its next phase. */
static int64_t due_ns(const mb__alarm *alarm)
{
  switch (alarm->ending->phase) {
  case MB__PHASE_RUNNING:
    return atomic_load(&alarm->op->stop) != MB_GO_ON ? 0
                                                     : alarm->op->deadline_ns;
  case MB__PHASE_ASKED:
    return alarm->ending->grace_end_ns;
  default:
    return MB_NEVER;
  }
}

/* Nothing of a driver is called with the lock; who clears the alarm meanwhile
 * waits. */
static void shut_locked(mb__alarm *alarm)
{
  const mb_driver *driver = alarm->driver;
  alarm->ending->phase = MB__PHASE_SHUT;
  alarm->is_shutting = true;
  (void)pthread_mutex_unlock(&alarms_lock);
  if (driver->thread_enter != NULL)
    driver->thread_enter();
  mb__canceller_shut(alarm->canceller);
  if (driver->thread_leave != NULL)
    driver->thread_leave();
  (void)pthread_mutex_lock(&alarms_lock);
  alarm->is_shutting = false;
  mb__condition_broadcast(&was_shut);
}

/* Does what is due, and says when there is something to do next. */
static int64_t work_locked(void)
{
  int64_t next_ns = MB_NEVER;
  for (mb__alarm *one = alarms; one != NULL;) {
    const int64_t when_ns = due_ns(one);
    if (mb__host.now_ns() < when_ns || when_ns == MB_NEVER) {
      next_ns = when_ns < next_ns ? when_ns : next_ns;
      one = one->next;
    } else if (one->ending->phase == MB__PHASE_RUNNING) {
      mb__ending_ask(one->ending, one->op, one->canceller, one->grace_ns);
    } else {
      shut_locked(one);
      /* The list may have changed. */
      one = alarms;
      next_ns = MB_NEVER;
    }
  }
  return next_ns;
}

static void look_after_all(void *unused)
{
  (void)unused;
  (void)pthread_mutex_lock(&alarms_lock);
  for (bool idle = false; !idle;) {
    const int64_t idle_ns = mb__deadline_ns(IDLE_NS);
    next_look_ns = work_locked();
    used = false;
    if (idle_ns < next_look_ns)
      next_look_ns = idle_ns;
    const bool woken = mb__condition_wait(&wake, &alarms_lock, next_look_ns);
    idle = !woken && !used && alarms == NULL && next_look_ns == idle_ns;
  }
  running = false;
  (void)pthread_mutex_unlock(&alarms_lock);
}

static void start_locked(void)
{
  if (running)
    return;
  next_look_ns = 0;
  running = mb__thread_start(look_after_all, NULL);
}

/* --- Those who are looked after ----------------------------------------- */

mb_status mb__alarm_prepare(mb_error *error)
{
  get_ready();
  (void)pthread_mutex_lock(&alarms_lock);
  start_locked();
  used = true;
  const bool prepared = running;
  (void)pthread_mutex_unlock(&alarms_lock);
  return prepared
             ? MB_OK
             : mb__host.fail(error, MB_RESOURCE,
                   "no thread could be started that would look at the time");
}

void mb__alarm_set(mb__alarm *alarm)
{
  get_ready();
  (void)pthread_mutex_lock(&alarms_lock);
  alarm->is_shutting = false;
  alarm->prev = NULL;
  alarm->next = alarms;
  if (alarms != NULL)
    alarms->prev = alarm;
  alarms = alarm;
  used = true;
  start_locked();
  if (due_ns(alarm) < next_look_ns)
    mb__condition_signal(&wake);
  (void)pthread_mutex_unlock(&alarms_lock);
}

void mb__alarm_clear(mb__alarm *alarm)
{
  (void)pthread_mutex_lock(&alarms_lock);
  while (alarm->is_shutting)
    (void)mb__condition_wait(&was_shut, &alarms_lock, MB_NEVER);
  if (alarm->prev != NULL)
    alarm->prev->next = alarm->next;
  else
    alarms = alarm->next;
  if (alarm->next != NULL)
    alarm->next->prev = alarm->prev;
  (void)pthread_mutex_unlock(&alarms_lock);
}

void mb__alarm_look(void)
{
  if (!atomic_load(&was_ready))
    return;
  (void)pthread_mutex_lock(&alarms_lock);
  if (alarms != NULL)
    mb__condition_signal(&wake);
  (void)pthread_mutex_unlock(&alarms_lock);
}
