/*
 * pool.c: lending connections.
 *
 * One lock guards the lists; connecting, cleaning and closing happen outside it.
 * The connection that was used last is lent first; who waits longest is served
 * first, by a hand-over inside the lock.
 */
#include "pool.h"

#include "statement.h"
#include "thread.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

typedef struct waiter {
  pthread_cond_t served;
  mb_conn *conn;    /* handed over; NULL: none yet */
  bool may_connect; /* there is room for a new connection */
  struct waiter *next;
} waiter;

struct mb_pool {
  mb__connector *connector; /* constant */
  unsigned fork_epoch;      /* constant: the process that opened it */
  atomic_uint refs;
  atomic_int n_dropped; /* connections in MB__POOL_DROPPED */
  mb_pool *next, *prev; /* of all pools; guarded by pools_lock */

  pthread_mutex_t lock; /* guards everything below */
  pthread_cond_t returned;
  bool closed;
  int64_t size;   /* connections that are, or are being made */
  int64_t lent;
  mb_conn *lists[3]; /* by mb__pool_state; the newest first */
  waiter *first_waiter, *last_waiter;
  mb_pool_stats stats;
};

static pthread_mutex_t pools_lock = PTHREAD_MUTEX_INITIALIZER;
static mb_pool *pools; /* guarded by pools_lock */
/* Pools without references that wait for mb_dispose. */
static atomic_int n_abandoned;
/* How often this process is a child of one that used the library. */
static atomic_uint fork_epoch;

static bool is_inherited(const mb_pool *pool)
{
  return pool->fork_epoch != atomic_load(&fork_epoch);
}

/* --- Lists -------------------------------------------------------------- */

static void put_locked(mb_pool *pool, mb_conn *conn, enum mb__pool_state state)
{
  conn->pool_state = (int)state;
  conn->pool_prev = NULL;
  conn->pool_next = pool->lists[state];
  if (conn->pool_next != NULL)
    conn->pool_next->pool_prev = conn;
  pool->lists[state] = conn;
  pool->lent += state == MB__POOL_LENT;
  if (state == MB__POOL_DROPPED)
    (void)atomic_fetch_add(&pool->n_dropped, 1);
}

static void take_locked(mb_pool *pool, mb_conn *conn)
{
  if (conn->pool_prev != NULL)
    conn->pool_prev->pool_next = conn->pool_next;
  else
    pool->lists[conn->pool_state] = conn->pool_next;
  if (conn->pool_next != NULL)
    conn->pool_next->pool_prev = conn->pool_prev;
  pool->lent -= conn->pool_state == MB__POOL_LENT;
  if (conn->pool_state == MB__POOL_DROPPED)
    (void)atomic_fetch_sub(&pool->n_dropped, 1);
}

static waiter *next_waiter_locked(mb_pool *pool)
{
  waiter *first = pool->first_waiter;
  if (first == NULL)
    return NULL;
  pool->first_waiter = first->next;
  if (pool->first_waiter == NULL)
    pool->last_waiter = NULL;
  pool->stats.waiting--;
  return first;
}

static void leave_queue_locked(mb_pool *pool, const waiter *leaving)
{
  waiter *before = NULL;
  waiter *one = pool->first_waiter;
  while (one != leaving) {
    before = one;
    one = one->next;
  }
  if (before != NULL)
    before->next = one->next;
  else
    pool->first_waiter = one->next;
  if (pool->last_waiter == one)
    pool->last_waiter = before;
  pool->stats.waiting--;
}

static void lend_locked(mb_pool *pool, mb_conn *conn)
{
  put_locked(pool, conn, MB__POOL_LENT);
  (void)atomic_fetch_add(&conn->borrow, 1);
  pool->stats.acquired++;
}

/* A connection is free: the next waiter's, or idle. */
static void offer_locked(mb_pool *pool, mb_conn *conn)
{
  waiter *next = next_waiter_locked(pool);
  if (next == NULL) {
    put_locked(pool, conn, MB__POOL_IDLE);
    return;
  }
  lend_locked(pool, conn);
  next->conn = conn;
  (void)pthread_cond_signal(&next->served);
}

/* There is room for one more: the next waiter's to connect. */
static void give_room_locked(mb_pool *pool)
{
  pool->size--;
  waiter *next = next_waiter_locked(pool);
  if (next != NULL) {
    pool->size++;
    next->may_connect = true;
    (void)pthread_cond_signal(&next->served);
  }
}

/* --- Ending connections ------------------------------------------------- */

static void close_conn(mb_conn *conn)
{
  mb__conn_close(conn);
  mb_conn_unref(conn);
}

/* A borrow has ended: the connection is cleaned, and lent again or closed. */
static void take_back(mb_pool *pool, mb_conn *conn)
{
  const bool fit = mb__conn_clean(conn) &&
                   conn->driver->is_valid(conn->impl) != MB_DEAD;
  (void)pthread_mutex_lock(&pool->lock);
  pool->stats.released++;
  pool->stats.cache_hits += (int64_t)conn->cache_hits;
  pool->stats.cache_misses += (int64_t)conn->cache_misses;
  conn->cache_hits = 0;
  conn->cache_misses = 0;
  const bool keep = fit && !pool->closed;
  if (keep) {
    offer_locked(pool, conn);
  } else {
    pool->stats.closed++;
    give_room_locked(pool);
  }
  (void)pthread_cond_broadcast(&pool->returned);
  (void)pthread_mutex_unlock(&pool->lock);
  if (!keep)
    close_conn(conn);
}

/* Works off what finalizers have left. */
static void tidy(mb_pool *pool)
{
  for (;;) {
    (void)pthread_mutex_lock(&pool->lock);
    mb_conn *conn = pool->lists[MB__POOL_DROPPED];
    if (conn != NULL)
      take_locked(pool, conn);
    (void)pthread_mutex_unlock(&pool->lock);
    if (conn == NULL)
      return;
    take_back(pool, conn);
  }
}

void mb_conn_release(mb_conn *conn)
{
  mb_pool *pool = conn->pool;
  (void)pthread_mutex_lock(&pool->lock);
  take_locked(pool, conn);
  (void)atomic_fetch_add(&conn->borrow, 1);
  (void)pthread_mutex_unlock(&pool->lock);
  take_back(pool, conn);
}

void mb_conn_drop(mb_conn *conn)
{
  mb_pool *pool = conn->pool;
  (void)pthread_mutex_lock(&pool->lock);
  take_locked(pool, conn);
  (void)atomic_fetch_add(&conn->borrow, 1);
  put_locked(pool, conn, MB__POOL_DROPPED);
  (void)pthread_mutex_unlock(&pool->lock);
}

/* --- Borrowing ---------------------------------------------------------- */

static mb_status refuse_empty(mb_pool *pool, mb_error *error)
{
  (void)pthread_mutex_lock(&pool->lock);
  pool->stats.timeouts++;
  const int64_t size = pool->size;
  const int64_t lent = pool->lent;
  const int64_t waiting = pool->stats.waiting;
  (void)pthread_mutex_unlock(&pool->lock);
  return mb__host.fail(error, MB_POOL_TIMEOUT,
      "no connection became free: %lld of %lld are in use, %lld other callers "
      "wait",
      (long long)lent, (long long)size, (long long)waiting);
}

/* Makes the connection that there is room for. */
static mb_status connect_new(
    mb_pool *pool, const mb_call *call, mb_conn **out, mb_error *error)
{
  const mb_status status = mb__conn_open(pool->connector, pool,
      call != NULL ? call->cancellation : NULL, out, error);
  (void)pthread_mutex_lock(&pool->lock);
  if (status == MB_OK) {
    pool->stats.created++;
    lend_locked(pool, *out);
  } else {
    pool->stats.failures++;
    give_room_locked(pool);
  }
  (void)pthread_mutex_unlock(&pool->lock);
  return status;
}

/* Takes the idle connection that was used last, or counts a new one.  False:
 * neither is to be had. */
static bool take_or_grow_locked(mb_pool *pool, mb_conn **out)
{
  *out = NULL;
  if (pool->first_waiter != NULL)
    return false; /* they were first */
  if (pool->lists[MB__POOL_IDLE] != NULL) {
    *out = pool->lists[MB__POOL_IDLE];
    take_locked(pool, *out);
    lend_locked(pool, *out);
    return true;
  }
  if (pool->size >= pool->connector->settings.max)
    return false;
  pool->size++;
  return true;
}

static bool queue_locked(mb_pool *pool, int64_t deadline_ns, mb_conn **out)
{
  waiter own = {.conn = NULL};
  mb__thread_condition(&own.served);
  if (pool->last_waiter != NULL)
    pool->last_waiter->next = &own;
  else
    pool->first_waiter = &own;
  pool->last_waiter = &own;
  pool->stats.waiting++;

  bool in_time = true;
  while (own.conn == NULL && !own.may_connect && !pool->closed && in_time)
    in_time = mb__thread_wait(&own.served, &pool->lock, deadline_ns);
  const bool served = own.conn != NULL || own.may_connect;
  if (!served)
    leave_queue_locked(pool, &own);
  (void)pthread_cond_destroy(&own.served);
  *out = own.conn;
  return served;
}

mb_status mb_pool_acquire(mb_pool *pool, const mb_call *call, unsigned flags,
    mb_conn **out, mb_error *error)
{
  *out = NULL;
  if (atomic_load(&n_abandoned) > 0)
    mb_dispose();
  if (is_inherited(pool))
    return mb__host.fail(error, MB_USAGE,
        "the database was opened before a fork: open it again in the child");
  if (call != NULL && call->cancellation != NULL &&
      mb_cancellation_is_cancelled(call->cancellation))
    return mb__cancellation_fail(call->cancellation, error);
  if (atomic_load(&pool->n_dropped) > 0)
    tidy(pool);

  bool got = false;
  (void)pthread_mutex_lock(&pool->lock);
  if (!pool->closed)
    got = take_or_grow_locked(pool, out);
  if (!got && !pool->closed && !(flags & MB_ACQUIRE_NOW))
    got = queue_locked(pool,
        mb__host.now_ns() + pool->connector->settings.acquire_timeout_ns, out);
  const bool closed = pool->closed;
  (void)pthread_mutex_unlock(&pool->lock);

  if (got && *out == NULL)
    return connect_new(pool, call, out, error);
  if (got)
    return MB_OK;
  if (closed)
    return mb__host.fail(error, MB_USAGE, "the database is closed");
  return refuse_empty(pool, error);
}

/* --- Opening and closing ------------------------------------------------ */

static void count_fork(void)
{
  (void)atomic_fetch_add(&fork_epoch, 1);
}

/* At exit is the last chance to end sessions in order: SQLite leaves its log
 * behind otherwise. */
static void watch_process(void)
{
  (void)pthread_atfork(NULL, NULL, count_fork);
  (void)atexit(mb_dispose);
}

mb_status mb_pool_open(const mb_driver *driver, const char *url,
    const mb_option *options, size_t n, mb_pool **out, mb_error *error)
{
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  *out = NULL;
  mb_pool *pool = mb__allocate_zeroed(1, sizeof *pool);
  if (pool == NULL)
    return mb__out_of_memory(error);
  if (mb__connector_open(driver, url, options, n, &pool->connector, error) !=
      MB_OK) {
    mb__host.release(pool);
    return MB_ERROR;
  }
  atomic_init(&pool->refs, 1);
  pool->fork_epoch = atomic_load(&fork_epoch);
  (void)pthread_mutex_init(&pool->lock, NULL);
  mb__thread_condition(&pool->returned);

  (void)pthread_once(&once, watch_process);
  (void)pthread_mutex_lock(&pools_lock);
  pool->next = pools;
  if (pools != NULL)
    pools->prev = pool;
  pools = pool;
  (void)pthread_mutex_unlock(&pools_lock);
  *out = pool;
  return MB_OK;
}

/* Takes one connection out of a list; NULL: it is empty. */
static mb_conn *take_from(mb_pool *pool, enum mb__pool_state state)
{
  (void)pthread_mutex_lock(&pool->lock);
  mb_conn *conn = pool->lists[state];
  if (conn != NULL) {
    take_locked(pool, conn);
    (void)atomic_fetch_add(&conn->borrow, state == MB__POOL_LENT);
    pool->size--;
    pool->stats.closed++;
  }
  (void)pthread_mutex_unlock(&pool->lock);
  return conn;
}

static void close_list(mb_pool *pool, enum mb__pool_state state)
{
  for (mb_conn *conn; (conn = take_from(pool, state)) != NULL;)
    close_conn(conn);
}

void mb_pool_shut(mb_pool *pool, int64_t timeout_ns)
{
  const int64_t deadline_ns = mb__host.now_ns() + timeout_ns;
  (void)pthread_mutex_lock(&pool->lock);
  pool->closed = true;
  for (waiter *one = pool->first_waiter; one != NULL; one = one->next)
    (void)pthread_cond_signal(&one->served);
  (void)pthread_mutex_unlock(&pool->lock);
  if (is_inherited(pool))
    return;

  tidy(pool);
  close_list(pool, MB__POOL_IDLE);
  (void)pthread_mutex_lock(&pool->lock);
  while (pool->lent > 0 && timeout_ns > 0 &&
         mb__thread_wait(&pool->returned, &pool->lock, deadline_ns))
    continue;
  (void)pthread_mutex_unlock(&pool->lock);
  close_list(pool, MB__POOL_LENT);
}

static void free_pool(mb_pool *pool)
{
  (void)pthread_mutex_lock(&pools_lock);
  if (pool->prev != NULL)
    pool->prev->next = pool->next;
  else
    pools = pool->next;
  if (pool->next != NULL)
    pool->next->prev = pool->prev;
  (void)pthread_mutex_unlock(&pools_lock);
  mb__connector_unref(pool->connector);
  (void)pthread_cond_destroy(&pool->returned);
  (void)pthread_mutex_destroy(&pool->lock);
  mb__host.release(pool);
}

void mb_pool_close(mb_pool *pool, int64_t timeout_ns)
{
  if (pool == NULL)
    return;
  mb_pool_shut(pool, timeout_ns);
  if (atomic_fetch_sub(&pool->refs, 1) == 1)
    free_pool(pool);
}

void mb_pool_ref(mb_pool *pool)
{
  (void)atomic_fetch_add(&pool->refs, 1);
}

void mb_pool_drop(mb_pool *pool)
{
  if (atomic_fetch_sub(&pool->refs, 1) == 1)
    (void)atomic_fetch_add(&n_abandoned, 1);
}

/* A pool without references, referenced again; NULL: there is none. */
static mb_pool *find_dropped(void)
{
  (void)pthread_mutex_lock(&pools_lock);
  mb_pool *pool = pools;
  while (pool != NULL &&
         (atomic_load(&pool->refs) != 0 || is_inherited(pool)))
    pool = pool->next;
  if (pool != NULL) {
    (void)atomic_fetch_add(&pool->refs, 1);
    (void)atomic_fetch_sub(&n_abandoned, 1);
  }
  (void)pthread_mutex_unlock(&pools_lock);
  return pool;
}

void mb_dispose(void)
{
  for (mb_pool *pool; (pool = find_dropped()) != NULL;)
    mb_pool_close(pool, 0);
}

/* --- What a pool is ----------------------------------------------------- */

bool mb_pool_is_closed(mb_pool *pool)
{
  (void)pthread_mutex_lock(&pool->lock);
  const bool closed = pool->closed;
  (void)pthread_mutex_unlock(&pool->lock);
  return closed;
}

const mb_driver *mb_pool_driver(const mb_pool *pool)
{
  return pool->connector->driver;
}

const mb_connector_info *mb_pool_info(const mb_pool *pool)
{
  return &pool->connector->info;
}

const mb_settings *mb_pool_settings(const mb_pool *pool)
{
  return &pool->connector->settings;
}

const char *mb_pool_option(const mb_pool *pool, const char *name)
{
  const char *value = NULL;
  for (size_t i = 0; i < pool->connector->n_options; i++)
    if (strcmp(pool->connector->options[i].name, name) == 0)
      value = pool->connector->options[i].value;
  return value;
}

void mb_pool_stats_read(mb_pool *pool, mb_pool_stats *out)
{
  (void)pthread_mutex_lock(&pool->lock);
  *out = pool->stats;
  out->max = pool->connector->settings.max;
  out->size = pool->size;
  out->in_use = pool->lent;
  out->idle = 0;
  for (mb_conn *one = pool->lists[MB__POOL_IDLE]; one != NULL;
       one = one->pool_next)
    out->idle++;
  (void)pthread_mutex_unlock(&pool->lock);
}
