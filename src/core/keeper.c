/*
 * keeper.c: the thread in the background of a pool.
 *
 * It closes what is too old, pings what has been idle for longest, cleans what
 * finalizers have left, and keeps min_idle connections.  It exists only where
 * there is work for it: from the second connection on, or where min_idle or a
 * name asks for it.
 */
#include "pool.h"

#include "thread.h"

#include <errno.h>

/* --- Sweeping ------------------------------------------------------------- */

/* The idle connection that has been idle too long, or is too old, moved to
 * MB__POOL_CLOSING; NULL: none. */
static mb_conn *take_expired_locked(
    mb_pool *pool, int64_t now_ns, mb_close_reason *reason)
{
  const mb_settings *settings = &pool->connector->settings;
  mb_conn *conn = pool->lists[MB__POOL_IDLE].oldest;
  for (; conn != NULL; conn = conn->pool_newer) {
    if (mb__pool_is_too_old(pool, conn, now_ns, reason))
      break;
    if (settings->idle_timeout_ns > 0 && !pool->is_database &&
        now_ns - conn->idle_ns >= settings->idle_timeout_ns &&
        pool->lists[MB__POOL_IDLE].n > settings->min_idle) {
      *reason = MB_CLOSED_IDLE;
      break;
    }
  }
  if (conn != NULL)
    mb__pool_move_locked(pool, conn, MB__POOL_CLOSING);
  return conn;
}

void mb__keeper_sweep(mb_pool *pool)
{
  mb_close_reason reason;
  mb__pool_tidy(pool);
  for (;;) {
    (void)pthread_mutex_lock(&pool->lock);
    mb_conn *expired = take_expired_locked(pool, mb__coarse_ns(), &reason);
    (void)pthread_mutex_unlock(&pool->lock);
    if (expired == NULL)
      break;
    mb__pool_close_conn(pool, expired, reason);
  }
  (void)pthread_mutex_lock(&pool->lock);
  mb__event_leaks_locked(pool, mb__coarse_ns());
  mb_conn *longest = pool->lists[MB__POOL_IDLE].oldest;
  if (longest != NULL && longest->driver->ping != NULL)
    mb__pool_move_locked(pool, longest, MB__POOL_PINGING);
  else
    longest = NULL;
  (void)pthread_mutex_unlock(&pool->lock);
  if (longest == NULL)
    return;
  if (!mb__pool_is_alive(pool, longest) || !mb__pool_answers(pool, longest)) {
    mb__pool_close_conn(pool, longest, MB_CLOSED_DEAD);
    return;
  }
  (void)pthread_mutex_lock(&pool->lock);
  const bool closed = pool->closed;
  if (!closed && pool->first_waiter != NULL)
    mb__pool_offer_locked(pool, longest, mb__coarse_ns());
  else if (!closed)
    mb__pool_move_locked(pool, longest, MB__POOL_IDLE);
  (void)pthread_mutex_unlock(&pool->lock);
  if (closed)
    mb__pool_close_conn(pool, longest, MB_CLOSED_POOL);
}

/* --- The thread ----------------------------------------------------------- */

static bool is_due(int64_t when_ns, int64_t now_ns)
{
  return when_ns != MB_NEVER && now_ns >= when_ns;
}

/* Whether there are fewer idle connections than are to be kept. */
static bool wants_more_locked(const mb_pool *pool)
{
  return pool->lists[MB__POOL_IDLE].n + pool->lists[MB__POOL_PINGING].n +
                 pool->lists[MB__POOL_CONNECTING].n <
             pool->connector->settings.min_idle &&
         !mb__pool_lacks_password_locked(pool);
}

/* When there is something to do next. */
static int64_t next_ns_locked(const mb_pool *pool)
{
  int64_t next_ns = pool->keeper.next_sweep_ns;
  if (wants_more_locked(pool) && pool->next_attempt_ns < next_ns &&
      pool->size < pool->connector->settings.max)
    next_ns = pool->next_attempt_ns;
  return next_ns;
}

static int64_t after_interval_ns(const mb_pool *pool)
{
  const int64_t interval_ns = pool->connector->settings.sweep_interval_ns;
  return interval_ns > 0 ? mb__deadline_ns(interval_ns) : MB_NEVER;
}

/* One piece of work, with the lock let go of meanwhile; false: there is none.
 */
static bool work_locked(mb_pool *pool)
{
  const int64_t now_ns = mb__host.now_ns();
  if (wants_more_locked(pool) && mb__pool_may_connect_locked(pool, now_ns)) {
    mb_conn *made = mb__pool_begin_connect_locked(pool);
    if (made != NULL) {
      (void)pthread_mutex_unlock(&pool->lock);
      mb__pool_connect(pool, made);
      (void)pthread_mutex_lock(&pool->lock);
      return true;
    }
  }
  if (atomic_load(&pool->n_left) > 0) {
    (void)pthread_mutex_unlock(&pool->lock);
    mb__pool_tidy(pool);
    (void)pthread_mutex_lock(&pool->lock);
    /* What is in the middle of a call is looked at again later. */
    if (atomic_load(&pool->n_left) == 0)
      return true;
  }
  if (!pool->keeper.sweep && !is_due(pool->keeper.next_sweep_ns, now_ns))
    return false;
  /* Requests that come from here on fold into the next sweep. */
  pool->keeper.sweep = false;
  (void)pthread_mutex_unlock(&pool->lock);
  mb__keeper_sweep(pool);
  (void)pthread_mutex_lock(&pool->lock);
  pool->keeper.next_sweep_ns = after_interval_ns(pool);
  return true;
}

static void *keep(void *argument)
{
  mb_pool *pool = argument;
  const mb_driver *driver = pool->connector->driver;
  if (driver->thread_enter != NULL)
    driver->thread_enter();
  (void)pthread_mutex_lock(&pool->lock);
  while (!pool->keeper.stop) {
    if (!work_locked(pool) && !pool->keeper.stop)
      (void)mb__condition_wait(
          &pool->keeper.wake, &pool->lock, next_ns_locked(pool));
  }
  (void)pthread_mutex_unlock(&pool->lock);
  if (driver->thread_leave != NULL)
    driver->thread_leave();
  /* A pool without references is closed here, which no finalizer may do. */
  mb__pool_dispose(pool);
  (void)pthread_mutex_lock(&pool->lock);
  pool->keeper.running = false;
  mb__pool_unlock_smaller(pool);
  return NULL;
}

void mb__keeper_need_locked(mb_pool *pool)
{
  const mb_settings *settings = &pool->connector->settings;
  const bool needed =
      settings->min_idle > 0 || (settings->sweep_interval_ns > 0 &&
                                    (pool->name != NULL || pool->size > 1));
  if (!needed || pool->keeper.running || pool->closed || pool->is_database)
    return;
  pool->keeper.next_sweep_ns = after_interval_ns(pool);
  pool->keeper.stop = false;
  pool->keeper.running =
      mb__thread_start_joinable(keep, pool, &pool->keeper.thread);
  pool->keeper.joinable = pool->keeper.running;
}

void mb__keeper_wake_locked(mb_pool *pool)
{
  if (pool->keeper.running)
    mb__condition_signal(&pool->keeper.wake);
}

void mb__keeper_stop(mb_pool *pool, bool wait)
{
  (void)pthread_mutex_lock(&pool->lock);
  pool->keeper.stop = true;
  mb__condition_signal(&pool->keeper.wake);
  const bool joinable = pool->keeper.joinable;
  const pthread_t thread = pool->keeper.thread;
  pool->keeper.joinable = false;
  (void)pthread_mutex_unlock(&pool->lock);
  if (!joinable)
    return;
  if (wait && !pthread_equal(thread, pthread_self()))
    (void)pthread_join(thread, NULL);
  else
    (void)pthread_detach(thread);
}
