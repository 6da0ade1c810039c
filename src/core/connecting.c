/*
 * connecting.c: making connections, and knowing whether they are still good.
 *
 * A server that cannot be reached is asked by one caller at a time, with pauses
 * that grow; a connection that was lost makes all older ones suspect.
 */
#include "pool.h"

#include "thread.h"

#include <string.h>

#define NS_PER_MS INT64_C(1000000)
/* Between two attempts to connect: doubled from the first to the last, less
 * where somebody waits for it. */
#define FIRST_PAUSE_NS (10 * NS_PER_MS)
#define LAST_PAUSE_NS (5000 * NS_PER_MS)
#define AWAITED_PAUSE_NS (500 * NS_PER_MS)
/* For a ping that nobody asked for. */
#define PING_LIMIT_NS (5000 * NS_PER_MS)

/* --- Whether it is good --------------------------------------------------- */

void mb__pool_suspect(mb_pool *pool, unsigned generation)
{
  /* Many may notice the same loss. */
  if (atomic_compare_exchange_strong(
          &pool->generation, &generation, generation + 1)) {
    (void)pthread_mutex_lock(&pool->lock);
    pool->suspect = true;
    pool->keeper.sweep = true;
    mb__keeper_wake_locked(pool);
    (void)pthread_mutex_unlock(&pool->lock);
  }
}

bool mb__pool_consume(mb_pool *pool, mb_conn *conn)
{
  const mb_driver *driver = conn->driver;
  mb_error error;
  if (driver->consume == NULL)
    return true;
  if (driver->consume(conn->impl, &error) == MB_OK)
    return driver->is_valid(conn->impl) != MB_DEAD;
  if (!(error.flags & MB_SESSION_ONLY))
    mb__pool_suspect(pool, conn->generation);
  return false;
}

bool mb__pool_answers(mb_pool *pool, mb_conn *conn)
{
  mb_error error;
  const mb_call call = {
      .timeout_ns = PING_LIMIT_NS, .cancellation = pool->ending};
  const bool answered = mb_conn_ping(conn, &call, &error) == MB_OK;
  (void)pthread_mutex_lock(&pool->lock);
  pool->stats.pings++;
  (void)pthread_mutex_unlock(&pool->lock);
  if (!answered)
    mb__pool_suspect(pool, conn->generation);
  return answered;
}

void mb__pool_close_conn(mb_pool *pool, mb_conn *conn, mb_close_reason reason)
{
  (void)pthread_mutex_lock(&pool->lock);
  if (mb__pool_state_of(conn) != MB__POOL_CLOSING)
    mb__pool_move_locked(pool, conn, MB__POOL_CLOSING);
  mb__pool_end_lending_locked(pool, conn);
  (void)pthread_mutex_unlock(&pool->lock);
  /* Only when it has gone there is room for another one. */
  mb__conn_close(conn);
  (void)pthread_mutex_lock(&pool->lock);
  mb__pool_remove_locked(pool, conn);
  pool->stats.closed++;
  pool->stats.closed_by[reason]++;
  mb__event_closed_locked(pool, conn, reason);
  mb__pool_wake_next_locked(pool); /* to connect */
  mb_conn_unref(conn);
  mb__pool_unlock_smaller(pool);
}

/* --- Passwords ---------------------------------------------------------- */

mb_status mb_pool_set_password(
    mb_pool *pool, const char *password, mb_error *error)
{
  char *copy = mb__copy_text(password, strlen(password));
  if (copy == NULL)
    return mb__out_of_memory(error);
  (void)pthread_mutex_lock(&pool->lock);
  char *before = pool->password.text;
  pool->password.text = copy;
  pool->password.refused = false;
  mb__keeper_wake_locked(pool);
  (void)pthread_mutex_unlock(&pool->lock);
  mb__release_secret(before);
  return MB_OK;
}

bool mb_pool_needs_password(mb_pool *pool)
{
  const mb_settings *settings = &pool->connector->settings;
  if (settings->asks_password != 1)
    return false;
  (void)pthread_mutex_lock(&pool->lock);
  const bool needed =
      pool->lists[MB__POOL_IDLE].n == 0 && pool->size < settings->max;
  (void)pthread_mutex_unlock(&pool->lock);
  return needed;
}

bool mb__pool_lacks_password_locked(const mb_pool *pool)
{
  return pool->connector->settings.asks_password == 1 &&
         (pool->password.text == NULL || pool->password.refused);
}

/* --- Connecting ----------------------------------------------------------- */

/* xorshift64, of George Marsaglia: from 0 to below limit. */
static int64_t random_locked(mb_pool *pool, int64_t limit)
{
  pool->random ^= pool->random << 13;
  pool->random ^= pool->random >> 7;
  pool->random ^= pool->random << 17;
  return limit > 0 ? (int64_t)(pool->random % (uint64_t)limit) : 0;
}

bool mb__pool_may_connect_locked(const mb_pool *pool, int64_t now_ns)
{
  const bool careful = pool->suspect || pool->failures_in_row > 0;
  return !pool->closed && pool->size < pool->connector->settings.max &&
         !(careful && pool->lists[MB__POOL_CONNECTING].n > 0) &&
         now_ns >= pool->next_attempt_ns;
}

void mb__pool_hasten_locked(mb_pool *pool, int64_t now_ns)
{
  if (pool->next_attempt_ns > now_ns + AWAITED_PAUSE_NS)
    pool->next_attempt_ns = now_ns + random_locked(pool, AWAITED_PAUSE_NS);
}

mb_conn *mb__pool_begin_connect_locked(mb_pool *pool)
{
  mb_conn *conn = mb__conn_new(pool->connector, pool);
  if (conn == NULL)
    return NULL;
  if (pool->password.text != NULL) {
    conn->password =
        mb__copy_text(pool->password.text, strlen(pool->password.text));
    if (conn->password == NULL) {
      mb_conn_unref(conn);
      return NULL;
    }
  }
  conn->generation = atomic_load(&pool->generation);
  mb__pool_add_locked(pool, conn);
  return conn;
}

/* The server can be reached: what was known before is history. */
static void note_success_locked(mb_pool *pool, mb_conn *conn, int64_t now_ns)
{
  const int64_t lifetime_ns = pool->connector->settings.max_lifetime_ns;
  pool->stats.created++;
  pool->suspect = false;
  pool->failures_in_row = 0;
  pool->next_attempt_ns = 0;
  conn->retire_ns = lifetime_ns > 0 ? now_ns + lifetime_ns -
                                          random_locked(pool, lifetime_ns / 10)
                                    : MB_NEVER;
}

/* Connections that may come back, and be lent again. */
static bool expects_some_locked(const mb_pool *pool)
{
  const unsigned generation = atomic_load(&pool->generation);
  static const mb__pool_state states[] = {
      MB__POOL_LENT, MB__POOL_LEFT, MB__POOL_PINGING, MB__POOL_CONNECTING};
  for (size_t i = 0; i < sizeof states / sizeof states[0]; i++)
    for (const mb_conn *one = pool->lists[states[i]].newest; one != NULL;
         one = one->pool_older)
      if (one->generation == generation)
        return true;
  return false;
}

static void note_failure_locked(
    mb_pool *pool, const mb_error *error, int64_t now_ns)
{
  pool->stats.failures++;
  pool->last_error = *error;
  pool->has_last_error = true;
  pool->password.refused = error->class == MB_PERMISSION;
  if (!pool->connects_at_once) {
    const unsigned doublings =
        pool->failures_in_row < 16 ? pool->failures_in_row : 16;
    int64_t most_ns = FIRST_PAUSE_NS << doublings;
    if (most_ns > LAST_PAUSE_NS)
      most_ns = LAST_PAUSE_NS;
    if (most_ns > AWAITED_PAUSE_NS && pool->first_waiter != NULL)
      most_ns = AWAITED_PAUSE_NS;
    pool->failures_in_row++;
    pool->next_attempt_ns = now_ns + random_locked(pool, most_ns);
  }
  /* Nobody waits for what will not come. */
  if (!expects_some_locked(pool))
    mb__pool_refuse_all_locked(pool);
}

/* What an attempt to connect has come to, for its maker (own) or whoever waits;
 * unwanted: its maker has cancelled it, which says nothing of the server.
 * False: it was of no use, and the error says why. */
static bool end_connect(mb_pool *pool, mb_conn *conn, mb_status status,
    bool own, bool unwanted, unsigned flags, mb_error *error)
{
  const int64_t now_ns = mb__coarse_ns();
  (void)pthread_mutex_lock(&pool->lock);
  pool->n_readers_connecting -= own && !(flags & MB_ACQUIRE_WRITER);
  mb__event_connected_locked(pool, conn, status != MB_OK ? error : NULL);
  if (status != MB_OK) {
    mb__pool_remove_locked(pool, conn);
    if (unwanted)
      mb__pool_wake_next_locked(pool);
    else
      note_failure_locked(pool, error, now_ns);
    mb__keeper_wake_locked(pool);
    mb_conn_unref(conn);
    mb__pool_unlock_smaller(pool);
    return false;
  }
  note_success_locked(pool, conn, now_ns);
  const bool closed = pool->closed;
  if (!closed && own)
    mb__pool_lend_locked(pool, conn, pthread_self(), flags, now_ns);
  else if (!closed)
    mb__pool_offer_locked(pool, conn, now_ns);
  mb__pool_wake_next_locked(pool); /* to connect, which is allowed again */
  mb__keeper_need_locked(pool);
  (void)pthread_mutex_unlock(&pool->lock);
  if (!closed)
    return true;
  mb__pool_close_conn(pool, conn, MB_CLOSED_POOL);
  (void)mb__pool_refuse_closed(error);
  return false;
}

void mb__pool_connect(mb_pool *pool, mb_conn *conn)
{
  mb_error error;
  const mb_status status = mb__conn_connect(conn, pool->ending, &error);
  (void)end_connect(pool, conn, status, false, false, 0, &error);
}

mb_status mb__pool_connect_here(mb_pool *pool, mb_conn *conn,
    mb_cancellation *cancellation, unsigned flags, mb_conn **out,
    mb_error *error)
{
  const mb_status status = mb__conn_connect(conn, cancellation, error);
  /* By its cancellation, or its task was stopped. */
  const bool unwanted =
      (cancellation != NULL && mb_cancellation_is_cancelled(cancellation)) ||
      mb__fiber_was_stopped();
  if (!end_connect(pool, conn, status, true, unwanted, flags, error))
    return MB_ERROR;
  *out = conn;
  return MB_OK;
}

typedef struct attempt {
  mb_pool *pool;
  mb_conn *conn;
} attempt;

static void connect_there(void *argument)
{
  const attempt todo = *(attempt *)argument;
  const mb_driver *driver = todo.conn->driver;
  mb__host.release(argument);
  if (driver->thread_enter != NULL)
    driver->thread_enter();
  mb__pool_connect(todo.pool, todo.conn);
  if (driver->thread_leave != NULL)
    driver->thread_leave();
}

bool mb__pool_start_connect(mb_pool *pool, mb_conn *conn)
{
  attempt *todo = mb__host.allocate(sizeof *todo);
  if (todo == NULL)
    return false;
  *todo = (attempt){.pool = pool, .conn = conn};
  if (mb__thread_start(connect_there, todo))
    return true;
  mb__host.release(todo);
  return false;
}
