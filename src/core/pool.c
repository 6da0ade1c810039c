/*
 * pool.c: lending connections.
 *
 * One lock guards the lists; connecting, cleaning and closing happen outside
 * it. The connection that was used last is lent first; who waits longest is
 * served first, by a hand-over inside the lock.
 */
#include "pool.h"

#include "statement.h"
#include "thread.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* How often somebody who waits looks whether he was cancelled. */
#define LOOK_NS (20 * INT64_C(1000000))

#define N_LISTS MB__POOL_AWAY

typedef struct waiter {
  pthread_t thread;
  pthread_cond_t served;
  mb_conn *conn;    /* handed over; NULL: none yet */
  bool may_connect; /* there is room for a new connection */
  struct waiter *next;
} waiter;

struct mb_pool {
  mb__connector *connector; /* constant */
  unsigned fork_epoch;      /* constant: the process that opened it */
  atomic_uint refs;
  atomic_bool dropped;  /* without references, to be closed by mb_dispose */
  atomic_bool finished; /* without references for good: the memory goes with the
                           last connection */
  atomic_int n_dropped; /* connections in MB__POOL_DROPPED */
  mb_pool *next, *prev; /* of all pools; guarded by pools_lock */

  pthread_mutex_t lock; /* guards everything below */
  pthread_cond_t returned;
  bool closed;
  int64_t size; /* connections that are, or are being made */
  int64_t lent;
  mb_conn *lists[N_LISTS]; /* by mb__pool_state; the newest first */
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
  conn->pool_state = MB__POOL_AWAY;
}

/* Nobody is served any more by a pool that was closed. */
static waiter *next_waiter_locked(mb_pool *pool)
{
  waiter *first = pool->first_waiter;
  if (first == NULL || pool->closed)
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

static void lend_locked(mb_pool *pool, mb_conn *conn, pthread_t borrower)
{
  put_locked(pool, conn, MB__POOL_LENT);
  conn->borrower = borrower;
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
  lend_locked(pool, conn, next->thread);
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

/* The session can be used: what came while nobody listened is read. */
static bool is_alive(mb_conn *conn)
{
  const mb_driver *driver = conn->driver;
  mb_error ignored;
  mb_validity validity = driver->is_valid(conn->impl);
  if (validity == MB_READABLE) {
    if (driver->consume == NULL ||
        driver->consume(conn->impl, &ignored) != MB_OK)
      return false;
    validity = driver->is_valid(conn->impl);
  }
  return validity != MB_DEAD;
}

static void free_pool(mb_pool *pool);

/* Unlocks a pool from which a connection has gone. */
static void unlock_smaller(mb_pool *pool)
{
  (void)pthread_cond_broadcast(&pool->returned);
  const bool last =
      atomic_load(&pool->finished) && (pool->size == 0 || is_inherited(pool));
  (void)pthread_mutex_unlock(&pool->lock);
  if (last)
    free_pool(pool);
}

/* A borrow has ended: the connection is cleaned, and lent again or closed. */
static void take_back(mb_pool *pool, mb_conn *conn)
{
  const bool fit = mb__conn_clean(conn) && is_alive(conn);
  (void)pthread_mutex_lock(&pool->lock);
  pool->stats.released++;
  pool->stats.cache_hits += (int64_t)conn->cache_hits;
  pool->stats.cache_misses += (int64_t)conn->cache_misses;
  conn->cache_hits = 0;
  conn->cache_misses = 0;
  const bool keep = fit && !pool->closed;
  if (keep)
    offer_locked(pool, conn);
  (void)pthread_mutex_unlock(&pool->lock);
  if (keep)
    return;

  /* There is room for another one only when this one has gone. */
  close_conn(conn);
  (void)pthread_mutex_lock(&pool->lock);
  pool->stats.closed++;
  give_room_locked(pool);
  unlock_smaller(pool);
}

/* One that was dropped, and is not in the middle of a call; or NULL. */
static mb_conn *next_dropped_locked(const mb_pool *pool)
{
  mb_conn *conn = pool->lists[MB__POOL_DROPPED];
  while (conn != NULL && mb__conn_is_in_call(conn))
    conn = conn->pool_next;
  return conn;
}

/* Works off what finalizers have left. */
static void tidy(mb_pool *pool)
{
  for (;;) {
    (void)pthread_mutex_lock(&pool->lock);
    mb_conn *conn = next_dropped_locked(pool);
    if (conn != NULL)
      take_locked(pool, conn);
    (void)pthread_mutex_unlock(&pool->lock);
    if (conn == NULL)
      return;
    take_back(pool, conn);
  }
}

/* Leaves a connection to be cleaned by whoever wants one. */
static void drop_locked(mb_pool *pool, mb_conn *conn)
{
  put_locked(pool, conn, MB__POOL_DROPPED);
  if (pool->first_waiter != NULL)
    (void)pthread_cond_signal(&pool->first_waiter->served);
}

/* Ends a borrow; false: there is none. */
static bool end_borrow_locked(mb_pool *pool, mb_conn *conn)
{
  if (conn->pool_state != MB__POOL_LENT)
    return false;
  take_locked(pool, conn);
  (void)atomic_fetch_add(&conn->borrow, 1);
  return true;
}

void mb_conn_release(mb_conn *conn)
{
  mb_pool *pool = conn->pool;
  (void)pthread_mutex_lock(&pool->lock);
  const bool ended = end_borrow_locked(pool, conn);
  const bool busy = ended && mb__conn_is_in_call(conn);
  if (busy)
    drop_locked(pool, conn);
  (void)pthread_mutex_unlock(&pool->lock);
  if (ended && !busy)
    take_back(pool, conn);
}

void mb_conn_let(mb_conn *conn)
{
  if (atomic_fetch_sub(&conn->guard.held, 1) > 1 ||
      mb_conn_borrow(conn) % 2 == 1)
    return;
  tidy(conn->pool); /* it was given back meanwhile */
}

void mb_conn_drop(mb_conn *conn)
{
  mb_pool *pool = conn->pool;
  (void)pthread_mutex_lock(&pool->lock);
  if (end_borrow_locked(pool, conn))
    drop_locked(pool, conn);
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

static mb_status refuse_closed(mb_error *error)
{
  return mb__host.fail(error, MB_USAGE, "the database is closed");
}

/* Makes the connection that there is room for. */
static mb_status connect_new(
    mb_pool *pool, const mb_call *call, mb_conn **out, mb_error *error)
{
  mb_conn *made;
  const mb_status status = mb__conn_open(pool->connector, pool,
      call != NULL ? call->cancellation : NULL, &made, error);
  (void)pthread_mutex_lock(&pool->lock);
  pool->stats.created += status == MB_OK;
  pool->stats.failures += status != MB_OK;
  const bool kept = status == MB_OK && !pool->closed;
  if (kept) {
    *out = made;
    lend_locked(pool, made, pthread_self());
  }
  (void)pthread_mutex_unlock(&pool->lock);
  if (kept)
    return MB_OK;

  if (made != NULL)
    close_conn(made);
  (void)pthread_mutex_lock(&pool->lock);
  pool->stats.closed += made != NULL;
  give_room_locked(pool);
  unlock_smaller(pool);
  return made != NULL ? refuse_closed(error) : MB_ERROR;
}

/* An idle connection that was taken has died: its room is that of a new one. */
static mb_status replace(
    mb_pool *pool, const mb_call *call, mb_conn **out, mb_error *error)
{
  (void)pthread_mutex_lock(&pool->lock);
  (void)end_borrow_locked(pool, *out);
  pool->stats.acquired--;
  pool->stats.closed++;
  (void)pthread_mutex_unlock(&pool->lock);
  close_conn(*out);
  *out = NULL;
  return connect_new(pool, call, out, error);
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
    lend_locked(pool, *out, pthread_self());
    return true;
  }
  if (pool->size >= pool->connector->settings.max)
    return false;
  pool->size++;
  return true;
}

static int64_t next_look_ns(int64_t deadline_ns)
{
  const int64_t look_ns = mb__deadline_ns(LOOK_NS);
  return look_ns < deadline_ns ? look_ns : deadline_ns;
}

/* Until when nobody has to look whether a connection has come back: nobody
 * tells when the call ends of one that was dropped inside it. */
static int64_t next_return_ns_locked(const mb_pool *pool, int64_t deadline_ns)
{
  return pool->lists[MB__POOL_DROPPED] != NULL ? next_look_ns(deadline_ns)
                                               : deadline_ns;
}

/* Waits for a while; false: it is over. */
static bool wait_locked(mb_pool *pool, waiter *own, int64_t deadline_ns,
    mb_cancellation *cancellation)
{
  if (cancellation != NULL && mb_cancellation_is_cancelled(cancellation))
    return false;
  const int64_t until_ns = cancellation != NULL
                               ? next_look_ns(deadline_ns)
                               : next_return_ns_locked(pool, deadline_ns);
  return mb__thread_wait(&own->served, &pool->lock, until_ns) ||
         until_ns < deadline_ns;
}

static bool queue_locked(mb_pool *pool, int64_t deadline_ns,
    mb_cancellation *cancellation, mb_conn **out)
{
  waiter own = {.thread = pthread_self()};
  mb__thread_condition(&own.served);
  if (pool->last_waiter != NULL)
    pool->last_waiter->next = &own;
  else
    pool->first_waiter = &own;
  pool->last_waiter = &own;
  pool->stats.waiting++;

  bool in_time = true;
  while (own.conn == NULL && !own.may_connect && !pool->closed && in_time) {
    if (next_dropped_locked(pool) != NULL) {
      (void)pthread_mutex_unlock(&pool->lock);
      tidy(pool);
      (void)pthread_mutex_lock(&pool->lock);
    } else {
      in_time = wait_locked(pool, &own, deadline_ns, cancellation);
    }
  }
  const bool served = own.conn != NULL || own.may_connect;
  if (!served)
    leave_queue_locked(pool, &own);
  /* That one was dropped may have been told to this one alone. */
  if (pool->first_waiter != NULL && pool->lists[MB__POOL_DROPPED] != NULL)
    (void)pthread_cond_signal(&pool->first_waiter->served);
  (void)pthread_cond_destroy(&own.served);
  *out = own.conn;
  return served;
}

/* What a pool that is open can be got from: a connection, or room for one. */
static bool get(mb_pool *pool, mb_cancellation *cancellation, unsigned flags,
    mb_conn **out, bool *was_idle)
{
  (void)pthread_mutex_lock(&pool->lock);
  bool got = !pool->closed && take_or_grow_locked(pool, out);
  *was_idle = got && *out != NULL;
  if (!got && !pool->closed && !(flags & MB_ACQUIRE_NOW))
    got = queue_locked(pool,
        mb__deadline_ns(pool->connector->settings.acquire_timeout_ns),
        cancellation, out);
  (void)pthread_mutex_unlock(&pool->lock);
  return got;
}

mb_status mb_pool_acquire(mb_pool *pool, const mb_call *call, unsigned flags,
    mb_conn **out, mb_error *error)
{
  mb_cancellation *cancellation = call != NULL ? call->cancellation : NULL;
  bool was_idle;
  *out = NULL;
  if (atomic_load(&n_abandoned) > 0)
    mb_dispose();
  if (is_inherited(pool))
    return mb__host.fail(error, MB_USAGE,
        "the database was opened before a fork: open it again in the child");
  if (cancellation != NULL && mb_cancellation_is_cancelled(cancellation))
    return mb__cancellation_fail(cancellation, error);
  if (atomic_load(&pool->n_dropped) > 0)
    tidy(pool);

  if (get(pool, cancellation, flags, out, &was_idle)) {
    if (*out == NULL)
      return connect_new(pool, call, out, error);
    return !was_idle || is_alive(*out) ? MB_OK
                                       : replace(pool, call, out, error);
  }
  if (mb_pool_is_closed(pool))
    return refuse_closed(error);
  if (cancellation != NULL && mb_cancellation_is_cancelled(cancellation))
    return mb__cancellation_fail(cancellation, error);
  return refuse_empty(pool, error);
}

/* --- Opening and closing ------------------------------------------------ */

/* Around a fork nobody else changes a list. */
static void lock_all(void)
{
  (void)pthread_mutex_lock(&pools_lock);
  for (mb_pool *pool = pools; pool != NULL; pool = pool->next)
    (void)pthread_mutex_lock(&pool->lock);
}

static void unlock_all(void)
{
  for (mb_pool *pool = pools; pool != NULL; pool = pool->next)
    (void)pthread_mutex_unlock(&pool->lock);
  (void)pthread_mutex_unlock(&pools_lock);
}

/* The child: what there is belongs to its parent, and who waited is not there.
 */
static void inherit_all(void)
{
  (void)atomic_fetch_add(&fork_epoch, 1);
  for (mb_pool *pool = pools; pool != NULL; pool = pool->next) {
    pool->first_waiter = pool->last_waiter = NULL;
    pool->stats.waiting = 0;
    for (size_t state = 0; state < N_LISTS; state++)
      for (mb_conn *conn = pool->lists[state]; conn != NULL;
           conn = conn->pool_next)
        conn->inherited = conn->dead = true;
  }
  unlock_all();
}

/* At exit is the last chance to end sessions in order: SQLite leaves its log
 * behind otherwise. */
static void watch_process(void)
{
  (void)pthread_atfork(lock_all, unlock_all, inherit_all);
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

/* Whether a connection may be ended by the thread that closes its pool: not
 * what another one has borrowed, nor what is running. */
static bool may_close(const mb_pool *pool, const mb_conn *conn)
{
  if (is_inherited(pool))
    return true;
  return !mb__conn_is_in_call(conn) &&
         (conn->pool_state != MB__POOL_LENT ||
             pthread_equal(conn->borrower, pthread_self()));
}

/* Takes a connection out of a list, to be closed; NULL: none may be. */
static mb_conn *take_from(mb_pool *pool, enum mb__pool_state state)
{
  (void)pthread_mutex_lock(&pool->lock);
  mb_conn *conn = pool->lists[state];
  while (conn != NULL && !may_close(pool, conn))
    conn = conn->pool_next;
  if (conn != NULL) {
    take_locked(pool, conn);
    (void)atomic_fetch_add(&conn->borrow, state == MB__POOL_LENT);
    pool->stats.closed++;
  }
  (void)pthread_mutex_unlock(&pool->lock);
  return conn;
}

static void close_list(mb_pool *pool, enum mb__pool_state state)
{
  for (mb_conn *conn; (conn = take_from(pool, state)) != NULL;) {
    close_conn(conn);
    (void)pthread_mutex_lock(&pool->lock);
    pool->size--;
    (void)pthread_mutex_unlock(&pool->lock);
  }
}

/* Waits for somebody to give back; false: nobody will, or not in time. */
static bool await_return(mb_pool *pool, int64_t deadline_ns)
{
  (void)pthread_mutex_lock(&pool->lock);
  const bool waits =
      pool->size > 0 && !is_inherited(pool) && mb__host.now_ns() < deadline_ns;
  if (waits)
    (void)mb__thread_wait(
        &pool->returned, &pool->lock, next_return_ns_locked(pool, deadline_ns));
  (void)pthread_mutex_unlock(&pool->lock);
  return waits;
}

void mb_pool_shut(mb_pool *pool, int64_t timeout_ns)
{
  const int64_t deadline_ns = mb__deadline_ns(timeout_ns);
  (void)pthread_mutex_lock(&pool->lock);
  pool->closed = true;
  for (waiter *one = pool->first_waiter; one != NULL; one = one->next)
    (void)pthread_cond_signal(&one->served);
  (void)pthread_mutex_unlock(&pool->lock);

  close_list(pool, MB__POOL_IDLE);
  close_list(pool, MB__POOL_LENT);
  do
    tidy(pool);
  while (await_return(pool, deadline_ns));
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
  if (!is_inherited(pool)) { /* else others may seem to wait for them */
    (void)pthread_cond_destroy(&pool->returned);
    (void)pthread_mutex_destroy(&pool->lock);
  }
  mb__host.release(pool);
}

void mb_pool_close(mb_pool *pool, int64_t timeout_ns)
{
  if (pool == NULL)
    return;
  mb_pool_shut(pool, timeout_ns);
  if (atomic_fetch_sub(&pool->refs, 1) != 1)
    return;
  (void)pthread_mutex_lock(&pool->lock);
  atomic_store(&pool->finished, true);
  unlock_smaller(pool);
}

void mb_pool_ref(mb_pool *pool)
{
  (void)atomic_fetch_add(&pool->refs, 1);
}

void mb_pool_drop(mb_pool *pool)
{
  if (atomic_fetch_sub(&pool->refs, 1) != 1)
    return;
  (void)atomic_fetch_add(&n_abandoned, 1);
  atomic_store(&pool->dropped, true); /* from here on it is anybody's */
}

/* A pool without references, referenced again; NULL: there is none. */
static mb_pool *find_dropped(void)
{
  (void)pthread_mutex_lock(&pools_lock);
  mb_pool *pool = pools;
  while (pool != NULL && !atomic_load(&pool->dropped))
    pool = pool->next;
  if (pool != NULL) {
    atomic_store(&pool->dropped, false);
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
