/*
 * pool.c: borrowing connections, and giving them back.
 *
 * The connection that was used last is lent first.  Connecting, pinging,
 * cleaning and closing happen outside of the lock.
 */
#include "pool.h"

#include "thread.h"

#define NS_PER_MS INT64_C(1000000)
/* How often somebody who waits looks whether he was cancelled. */
#define LOOK_NS (20 * NS_PER_MS)

/* Connections that are open, and not on their way out. */
static int64_t n_open_locked(const mb_pool *pool)
{
  return pool->size - pool->lists[MB__POOL_CONNECTING].n -
         pool->lists[MB__POOL_CLOSING].n;
}

/* Whether it was idle for so long that it has to be asked. */
static bool wants_ping(const mb_pool *pool, const mb_conn *conn, int64_t now_ns)
{
  const int64_t after_ns = pool->connector->settings.check_after_idle_ns;
  return after_ns >= 0 && conn->driver->ping != NULL &&
         now_ns - conn->idle_ns >= after_ns;
}

/* Takes the idle connection that was used last, in the state in which it is to
 * be looked at; NULL: there is none. */
static mb_conn *take_idle_locked(mb_pool *pool, unsigned flags, int64_t now_ns)
{
  mb_conn *conn = pool->lists[MB__POOL_IDLE].newest;
  mb_close_reason ignored;
  if (conn == NULL)
    return NULL;
  if (mb__pool_is_too_old(pool, conn, now_ns, &ignored)) {
    mb__pool_move_locked(pool, conn, MB__POOL_CLOSING);
  } else if (wants_ping(pool, conn, now_ns)) {
    mb__pool_move_locked(pool, conn, MB__POOL_PINGING);
    pool->n_readers_pinging += !(flags & MB_ACQUIRE_WRITER);
  } else {
    mb__pool_lend_locked(pool, conn, pthread_self(), flags, now_ns);
  }
  return conn;
}

/* A connection that was lent is not fit after all. */
static void take_back_unfit(
    mb_pool *pool, mb_conn *conn, mb_close_reason reason)
{
  (void)atomic_fetch_add(&conn->guard.borrow, 1);
  (void)pthread_mutex_lock(&pool->lock);
  pool->stats.acquired--;
  conn->has_place = false; /* it stays with who wanted the connection */
  (void)pthread_mutex_unlock(&pool->lock);
  mb__pool_close_conn(pool, conn, reason);
}

/* Looks at what take_idle_locked gave; false: it was closed. */
static bool try_idle(
    mb_pool *pool, mb_conn *conn, unsigned flags, int64_t now_ns)
{
  mb_close_reason reason = MB_CLOSED_DEAD;
  bool answered = false;
  switch (mb__pool_state_of(conn)) {
  case MB__POOL_CLOSING:
    (void)mb__pool_is_too_old(pool, conn, now_ns, &reason);
    mb__pool_close_conn(pool, conn, reason);
    return false;
  case MB__POOL_PINGING:
    answered = mb__pool_is_alive(pool, conn) && mb__pool_answers(pool, conn);
    (void)pthread_mutex_lock(&pool->lock);
    pool->n_readers_pinging -= !(flags & MB_ACQUIRE_WRITER);
    if (answered)
      mb__pool_lend_locked(pool, conn, pthread_self(), flags, now_ns);
    (void)pthread_mutex_unlock(&pool->lock);
    if (!answered)
      mb__pool_close_conn(pool, conn, MB_CLOSED_DEAD);
    return answered;
  default:
    if (mb__pool_is_alive(pool, conn))
      return true;
    take_back_unfit(pool, conn, MB_CLOSED_DEAD);
    return false;
  }
}

/* --- Taking back ---------------------------------------------------------- */

/* A borrow has ended: the connection, in MB__POOL_LENT or out of
 * MB__POOL_LEFT, is cleaned, and lent again or closed. */
static void take_back(mb_pool *pool, mb_conn *conn)
{
  mb_close_reason reason = MB_CLOSED_DEAD;
  bool fit = mb__conn_clean(conn, &reason);
  const int64_t now_ns = mb__coarse_ns();
  if (fit && mb__pool_is_too_old(pool, conn, now_ns, &reason))
    fit = false;
  (void)pthread_mutex_lock(&pool->lock);
  if (fit && pool->first_waiter != NULL) {
    /* Who waits gets it as it is; who finds it idle looks for himself. */
    (void)pthread_mutex_unlock(&pool->lock);
    fit = mb__pool_is_alive(pool, conn);
    reason = MB_CLOSED_DEAD;
    (void)pthread_mutex_lock(&pool->lock);
  }
  pool->stats.released++;
  pool->stats.cache_hits += (int64_t)conn->cache_hits;
  pool->stats.cache_misses += (int64_t)conn->cache_misses;
  conn->cache_hits = 0;
  conn->cache_misses = 0;
  if (pool->closed && !pool->is_database) {
    fit = false;
    reason = MB_CLOSED_POOL;
  }
  const bool keep = fit && !pool->closed;
  mb__pool_end_lending_locked(pool, conn);
  if (keep)
    mb__pool_offer_locked(pool, conn, now_ns);
  (void)pthread_mutex_unlock(&pool->lock);
  if (!keep)
    mb__pool_close_conn(pool, conn, fit ? MB_CLOSED_POOL : reason);
}

/* Ends a borrow; false: it has ended already. */
static bool end_borrow(mb_conn *conn)
{
  uint_fast64_t number =
      atomic_load_explicit(&conn->guard.borrow, memory_order_relaxed);
  return number % 2 == 1 && atomic_compare_exchange_strong(
                                &conn->guard.borrow, &number, number + 1);
}

static void leave(mb_conn *conn)
{
  mb_pool *pool = conn->pool;
  (void)pthread_mutex_lock(&pool->lock);
  mb__pool_move_locked(pool, conn, MB__POOL_LEFT);
  if (pool->first_waiter != NULL)
    mb__condition_signal(&pool->first_waiter->served);
  if (pool->place.first != NULL)
    mb__condition_signal(&pool->place.first->turn);
  mb__keeper_wake_locked(pool);
  (void)pthread_mutex_unlock(&pool->lock);
}

void mb_conn_release(mb_conn *conn)
{
  if (!end_borrow(conn))
    return;
  if (mb__conn_is_in_call(conn))
    leave(conn);
  else
    take_back(conn->pool, conn);
}

void mb_conn_settle(mb_conn *conn)
{
  if (!mb__conn_is_in_call(conn))
    mb__pool_tidy(conn->pool);
}

void mb_conn_drop(mb_conn *conn)
{
  if (end_borrow(conn))
    leave(conn);
}

/* One that was left, and is not in the middle of a call. */
static mb_conn *next_left_locked(const mb_pool *pool)
{
  mb_conn *conn = pool->lists[MB__POOL_LEFT].oldest;
  while (conn != NULL && mb__conn_is_in_call(conn))
    conn = conn->pool_newer;
  return conn;
}

bool mb__pool_has_left_locked(const mb_pool *pool)
{
  return next_left_locked(pool) != NULL;
}

void mb__pool_tidy(mb_pool *pool)
{
  for (;;) {
    (void)pthread_mutex_lock(&pool->lock);
    mb_conn *conn = next_left_locked(pool);
    if (conn != NULL) {
      mb__pool_move_locked(pool, conn, MB__POOL_LENT);
      pool->n_tidying++;
    }
    (void)pthread_mutex_unlock(&pool->lock);
    if (conn == NULL)
      return;
    take_back(pool, conn);
    (void)pthread_mutex_lock(&pool->lock);
    pool->n_tidying--;
    (void)pthread_mutex_unlock(&pool->lock);
  }
}

/* --- Borrowing ------------------------------------------------------------ */

/* Waits for a while; false: it is over, and the error says why. */
static bool wait_locked(mb_pool *pool, mb__waiter *own, int64_t deadline_ns,
    mb_cancellation *cancellation, unsigned flags)
{
  int64_t until_ns = deadline_ns;
  const int64_t now_ns = mb__host.now_ns();
  if (cancellation != NULL && mb_cancellation_is_cancelled(cancellation)) {
    (void)mb__cancellation_fail(cancellation, own->error);
    return false;
  }
  if (mb__fiber_take_stop() != MB__FIBER_GOES_ON) {
    (void)mb__fiber_refuse(own->error);
    return false;
  }
  /* What is not lent comes back, or makes room, without a borrower; so does
   * what another thread is tidying. */
  if ((flags & MB_ACQUIRE_NOW) && pool->n_tidying == 0 &&
      (pool->lists[MB__POOL_LENT].n >= pool->connector->settings.max ||
          !mb__pool_may_lend_locked(pool, flags))) {
    (void)mb__pool_refuse_empty_locked(
        pool, flags, "no connection is free", own->error);
    return false;
  }
  /* Nobody tells when what was left in the middle of a call can be cleaned. */
  if ((cancellation != NULL || (flags & MB_ACQUIRE_NOW) ||
          pool->lists[MB__POOL_LEFT].n > 0) &&
      now_ns + LOOK_NS < until_ns)
    until_ns = now_ns + LOOK_NS;
  if (pool->next_attempt_ns > now_ns && pool->next_attempt_ns < until_ns &&
      pool->size < pool->connector->settings.max)
    until_ns = pool->next_attempt_ns;
  if (mb__condition_wait(&own->served, &pool->lock, until_ns) ||
      until_ns < deadline_ns || own->conn != NULL || own->refused)
    return true;
  (void)mb__pool_refuse_empty_locked(
      pool, flags, "no connection became free", own->error);
  return false;
}

/* Whether an attempt to connect is made on the thread that wants it: when it
 * takes no time, or nothing else could come first, or be waited for. */
static bool connects_here_locked(const mb_pool *pool, unsigned flags)
{
  return pool->connects_at_once || n_open_locked(pool) == 0 ||
         pool->connector->settings.acquire_timeout_ns == 0 ||
         (flags & MB_ACQUIRE_NOW);
}

/* Whether another connection is to be made for those who wait. */
static bool wants_connect_locked(const mb_pool *pool, unsigned flags)
{
  const int64_t n_connecting = pool->lists[MB__POOL_CONNECTING].n;
  const int64_t readers = pool->lists[MB__POOL_LENT].n +
                          pool->lists[MB__POOL_LEFT].n + n_connecting +
                          pool->n_readers_pinging - pool->n_writers;
  return n_connecting < pool->n_waiting &&
         ((flags & MB_ACQUIRE_WRITER) ||
             readers < mb__pool_readers_max(pool)) &&
         mb__pool_may_connect_locked(pool, mb__host.now_ns());
}

/* Waits in the queue; unlocks.  Takes what comes first: a connection that comes
 * back, one that a helper makes, or its own. */
static mb_status wait_for_one(mb_pool *pool, mb_cancellation *cancellation,
    unsigned flags, mb_conn **out, mb_error *error)
{
  if (pool->closed) {
    (void)pthread_mutex_unlock(&pool->lock);
    return mb__pool_refuse_closed(error);
  }
  const int64_t since_ns = mb__host.now_ns();
  const int64_t deadline_ns =
      mb__deadline_ns(pool->connector->settings.acquire_timeout_ns);
  mb__waiter own = {.thread = pthread_self(),
      .since_ns = since_ns,
      .flags = flags,
      .error = error};
  mb_conn *made = NULL;
  mb__condition_init(&own.served);
  mb__pool_queue_locked(pool, &own);
  mb__pool_hasten_locked(pool, since_ns);

  while (own.conn == NULL && !own.refused) {
    if (next_left_locked(pool) != NULL) {
      (void)pthread_mutex_unlock(&pool->lock);
      mb__pool_tidy(pool);
      (void)pthread_mutex_lock(&pool->lock);
    } else if (wants_connect_locked(pool, flags)) {
      const bool here = connects_here_locked(pool, flags);
      made = mb__pool_begin_connect_locked(pool);
      if (made == NULL) {
        if (mb__out_of_memory(error) == MB_ERROR)
          break;
      }
      if (here || !mb__pool_start_connect(pool, made))
        break;
      made = NULL;
    } else if (!wait_locked(pool, &own, deadline_ns, cancellation, flags)) {
      break;
    }
  }
  const bool served = own.conn != NULL || own.refused;
  if (!served) {
    mb__pool_leave_queue_locked(pool, &own);
    /* What was told to this one is news for the next. */
    if (pool->first_waiter != NULL)
      mb__condition_signal(&pool->first_waiter->served);
  }
  const bool makes = made != NULL && !served;
  pool->n_readers_connecting += makes && !(flags & MB_ACQUIRE_WRITER);
  pool->stats.acquire_ns += mb__host.now_ns() - since_ns;
  (void)pthread_mutex_unlock(&pool->lock);
  mb__condition_destroy(&own.served);

  if (makes)
    return mb__pool_connect_here(pool, made, cancellation, flags, out, error);
  *out = own.conn;
  return own.conn != NULL ? MB_OK : MB_ERROR;
}

/* Takes what is idle, or waits. */
static mb_status take_one(mb_pool *pool, mb_cancellation *cancellation,
    unsigned flags, mb_conn **out, mb_error *error)
{
  for (;;) {
    const int64_t now_ns = mb__coarse_ns();
    mb_conn *conn = NULL;
    (void)pthread_mutex_lock(&pool->lock);
    if ((pool->first_waiter == NULL || (flags & MB_ACQUIRE_WRITER)) &&
        !pool->closed && mb__pool_may_lend_locked(pool, flags))
      conn = take_idle_locked(pool, flags, now_ns);
    if (conn == NULL)
      return wait_for_one(pool, cancellation, flags, out, error);
    (void)pthread_mutex_unlock(&pool->lock);
    if (try_idle(pool, conn, flags, now_ns)) {
      *out = conn;
      return MB_OK;
    }
  }
}

/* Takes the place to write before the connection. */
static mb_status take_one_to_write(mb_pool *pool, mb_cancellation *cancellation,
    unsigned flags, mb_conn **out, mb_error *error)
{
  (void)pthread_mutex_lock(&pool->lock);
  mb_status status =
      mb__place_take_locked(pool, flags, NULL, cancellation, error);
  (void)pthread_mutex_unlock(&pool->lock);
  if (status != MB_OK)
    return status;
  status = take_one(pool, cancellation, flags, out, error);
  if (status == MB_OK)
    return MB_OK;
  (void)pthread_mutex_lock(&pool->lock);
  mb__place_leave_locked(pool);
  (void)pthread_mutex_unlock(&pool->lock);
  return status;
}

mb_status mb_pool_acquire(mb_pool *pool, const mb_call *call, unsigned flags,
    mb_conn **out, mb_error *error)
{
  mb_cancellation *cancellation = call != NULL ? call->cancellation : NULL;
  *out = NULL;
  mb__pools_dispose();
  if (mb__pool_is_inherited(pool))
    return mb__host.fail(error, MB_USAGE,
        "the database was opened before a fork: open it again in the child");
  if (cancellation != NULL && mb_cancellation_is_cancelled(cancellation))
    return mb__cancellation_fail(cancellation, error);
  if (atomic_load_explicit(&pool->n_left, memory_order_relaxed) > 0)
    mb__pool_tidy(pool);
  return flags & MB_ACQUIRE_WRITER
             ? take_one_to_write(pool, cancellation, flags, out, error)
             : take_one(pool, cancellation, flags, out, error);
}
