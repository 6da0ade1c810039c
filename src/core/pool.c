/*
 * pool.c: lending connections.
 *
 * The connection that was used last is lent first; who waits longest is served
 * first, by a hand-over inside the lock.  Connecting, pinging, cleaning and
 * closing happen outside of it.
 */
#include "pool.h"

#include "thread.h"

#include <string.h>

#define NS_PER_MS INT64_C(1000000)
/* How often somebody who waits looks whether he was cancelled. */
#define LOOK_NS (20 * NS_PER_MS)
/* Between two attempts to connect: doubled from the first to the last, less
 * where somebody waits for it. */
#define FIRST_PAUSE_NS (10 * NS_PER_MS)
#define LAST_PAUSE_NS (5000 * NS_PER_MS)
#define AWAITED_PAUSE_NS (500 * NS_PER_MS)
/* For a ping that nobody asked for. */
#define PING_LIMIT_NS (5000 * NS_PER_MS)

/* --- States ------------------------------------------------------------- */

static void put_newest_locked(mb_pool *pool, mb_conn *conn, mb__pool_state to)
{
  conn->pool_state = (int)to;
  conn->pool_older = pool->lists[to].newest;
  conn->pool_newer = NULL;
  if (conn->pool_older != NULL)
    conn->pool_older->pool_newer = conn;
  else
    pool->lists[to].oldest = conn;
  pool->lists[to].newest = conn;
  pool->lists[to].n++;
}

static void put_oldest_locked(mb_pool *pool, mb_conn *conn, mb__pool_state to)
{
  conn->pool_state = (int)to;
  conn->pool_newer = pool->lists[to].oldest;
  conn->pool_older = NULL;
  if (conn->pool_newer != NULL)
    conn->pool_newer->pool_older = conn;
  else
    pool->lists[to].newest = conn;
  pool->lists[to].oldest = conn;
  pool->lists[to].n++;
}

static void take_locked(mb_pool *pool, mb_conn *conn)
{
  const int from = conn->pool_state;
  if (conn->pool_newer != NULL)
    conn->pool_newer->pool_older = conn->pool_older;
  else
    pool->lists[from].newest = conn->pool_older;
  if (conn->pool_older != NULL)
    conn->pool_older->pool_newer = conn->pool_newer;
  else
    pool->lists[from].oldest = conn->pool_newer;
  pool->lists[from].n--;
}

void mb__pool_move_locked(mb_pool *pool, mb_conn *conn, mb__pool_state to)
{
  const mb__pool_state from = mb__pool_state_of(conn);
  take_locked(pool, conn);
  /* One that was only looked at goes back to where it was. */
  if (from == MB__POOL_PINGING && to == MB__POOL_IDLE)
    put_oldest_locked(pool, conn, to);
  else
    put_newest_locked(pool, conn, to);
  if (from == MB__POOL_LEFT)
    (void)atomic_fetch_sub(&pool->n_left, 1);
  else if (to == MB__POOL_LEFT)
    (void)atomic_fetch_add(&pool->n_left, 1);
}

/* Connections that are open, and not on their way out. */
static int64_t n_open_locked(const mb_pool *pool)
{
  return pool->size - pool->lists[MB__POOL_CONNECTING].n -
         pool->lists[MB__POOL_CLOSING].n;
}

/* xorshift64, of George Marsaglia: from 0 to below limit. */
static int64_t random_locked(mb_pool *pool, int64_t limit)
{
  pool->random ^= pool->random << 13;
  pool->random ^= pool->random >> 7;
  pool->random ^= pool->random << 17;
  return limit > 0 ? (int64_t)(pool->random % (uint64_t)limit) : 0;
}

/* How many connections may be lent to others than the one who has the place to
 * write, for whom one is kept. */
static int64_t readers_max(const mb_pool *pool)
{
  const int64_t max = pool->connector->settings.max;
  return pool->place.wanted && max > 1 ? max - 1 : max;
}

/* Whether a connection may be lent to who acquires with these flags. */
static bool may_lend_locked(const mb_pool *pool, unsigned flags)
{
  const int64_t readers = pool->lists[MB__POOL_LENT].n +
                          pool->lists[MB__POOL_LEFT].n - pool->n_writers;
  return (flags & MB_ACQUIRE_WRITER) || readers < readers_max(pool);
}

/* --- Who waits ---------------------------------------------------------- */

static void queue_locked(mb_pool *pool, mb__waiter *own)
{
  if (pool->last_waiter != NULL)
    pool->last_waiter->next = own;
  else
    pool->first_waiter = own;
  pool->last_waiter = own;
  pool->n_waiting++;
}

static void leave_queue_locked(mb_pool *pool, const mb__waiter *leaving)
{
  mb__waiter *before = NULL;
  mb__waiter *one = pool->first_waiter;
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
  pool->n_waiting--;
}

/* Who is to be served next: the one who has the place to write, then who has
 * waited longest; NULL: nobody may be. */
static mb__waiter *next_waiter_locked(const mb_pool *pool)
{
  mb__waiter *one = pool->first_waiter;
  while (one != NULL && !(one->flags & MB_ACQUIRE_WRITER))
    one = one->next;
  if (one == NULL && may_lend_locked(pool, 0))
    one = pool->first_waiter;
  return one;
}

/* Has who is next look whether there is something to do. */
static void wake_next_locked(const mb_pool *pool)
{
  mb__waiter *next = next_waiter_locked(pool);
  if (next != NULL)
    (void)pthread_cond_signal(&next->served);
}

static void refuse_locked(mb_pool *pool, mb__waiter *one)
{
  leave_queue_locked(pool, one);
  one->refused = true;
  (void)pthread_cond_signal(&one->served);
}

static mb_status refuse_closed(mb_error *error)
{
  return mb__host.fail(error, MB_USAGE, "the database is closed");
}

void mb__pool_refuse_all_locked(mb_pool *pool)
{
  while (pool->first_waiter != NULL) {
    if (pool->closed)
      (void)refuse_closed(pool->first_waiter->error);
    else
      *pool->first_waiter->error = pool->last_error;
    refuse_locked(pool, pool->first_waiter);
  }
}

/* Copies the note of a borrower as one line; nothing when there is none. */
static void read_note_locked(const mb_conn *conn, char *out, size_t size)
{
  static const char before[] = "; it was borrowed at: ";
  size_t n = 0;
  out[0] = '\0';
  if (conn == NULL || conn->note == NULL)
    return;
  memcpy(out, before, sizeof before);
  n = sizeof before - 1;
  for (const char *at = conn->note; *at != '\0' && n + 1 < size; at++)
    if (*at == '\n')
      out[n++] = ' ';
    else if (*at != '\t')
      out[n++] = *at;
  out[n] = '\0';
}

/* Says why there was no connection. */
static mb_status refuse_empty_locked(
    mb_pool *pool, const char *what, mb_error *error)
{
  size_t size = 0;
  const char *cause = pool->has_last_error
                          ? mb_error_text(&pool->last_error, MB_MESSAGE, &size)
                          : NULL;
  const mb_conn *longest = pool->lists[MB__POOL_LENT].oldest;
  const int64_t now_ns = mb__coarse_ns();
  char note[1024];
  pool->stats.timeouts++;
  read_note_locked(longest, note, sizeof note);
  mb__host.fail(error, MB_POOL_TIMEOUT,
      "%s: %lld of %lld are in use%s (the longest for %.1f s), %lld other "
      "callers wait%s%.*s%s",
      what, (long long)pool->lists[MB__POOL_LENT].n, (long long)pool->size,
      readers_max(pool) < pool->connector->settings.max
          ? ", and one is kept for who writes"
          : "",
      longest != NULL ? (double)(now_ns - longest->lent_ns) / 1e9 : 0.0,
      (long long)pool->n_waiting - 1,
      cause != NULL ? "; the last attempt to connect failed: " : "", (int)size,
      cause != NULL ? cause : "", note);
  return MB_ERROR;
}

/*
 * Whether somebody who waits is turned away, because everybody has been waiting
 * too long for an interval.  After the CoDel algorithm of Nichols and Jacobson
 * (ACM Queue 10/5, 2012), as Elixir's DBConnection applies it to pools.
 */
static bool is_shed_locked(mb_pool *pool, const mb__waiter *one, int64_t now_ns)
{
  const mb_settings *settings = &pool->connector->settings;
  const int64_t waited_ns = now_ns - one->since_ns;
  if (settings->shed_target_ns <= 0)
    return false;
  if (now_ns >= pool->shed_until_ns) {
    pool->shedding = pool->shed_shortest_ns > settings->shed_target_ns &&
                     pool->shed_shortest_ns != MB_NEVER;
    pool->shed_until_ns = now_ns + settings->shed_interval_ns;
    pool->shed_shortest_ns = MB_NEVER;
  }
  if (waited_ns < pool->shed_shortest_ns)
    pool->shed_shortest_ns = waited_ns;
  return pool->shedding && waited_ns > 2 * settings->shed_target_ns;
}

/* --- Lending ------------------------------------------------------------ */

static void lend_locked(mb_pool *pool, mb_conn *conn, pthread_t borrower,
    unsigned flags, int64_t now_ns)
{
  mb__pool_move_locked(pool, conn, MB__POOL_LENT);
  conn->borrower = borrower;
  conn->no_wait = (flags & MB_ACQUIRE_ALONE) != 0;
  conn->as_writer = (flags & MB_ACQUIRE_WRITER) != 0;
  conn->has_place = conn->place_for_borrow = conn->as_writer;
  pool->n_writers += conn->as_writer;
  conn->lent_ns = now_ns;
  /* Nobody else counts while it is not lent. */
  atomic_store_explicit(&conn->borrow,
      atomic_load_explicit(&conn->borrow, memory_order_relaxed) + 1,
      memory_order_relaxed);
  pool->stats.acquired++;
}

/* The borrower is done with it, and with the place to write. */
static void end_lending_locked(mb_pool *pool, mb_conn *conn)
{
  pool->n_writers -= conn->as_writer;
  conn->as_writer = false;
  if (conn->has_place)
    mb__place_leave_locked(pool);
  conn->has_place = false;
  if (conn->note != NULL) {
    mb__host.release(conn->note);
    conn->note = NULL;
  }
}

void mb__pool_offer_locked(mb_pool *pool, mb_conn *conn, int64_t now_ns)
{
  conn->idle_ns = now_ns;
  mb__pool_move_locked(pool, conn, MB__POOL_IDLE);
  if (pool->first_waiter == NULL)
    return;
  mb__waiter *next = next_waiter_locked(pool);
  while (next != NULL && is_shed_locked(pool, next, now_ns)) {
    pool->stats.shed++;
    (void)refuse_empty_locked(
        pool, "too many callers wait for a connection", next->error);
    refuse_locked(pool, next);
    next = next_waiter_locked(pool);
  }
  if (next == NULL)
    return;
  leave_queue_locked(pool, next);
  lend_locked(pool, conn, next->thread, next->flags, now_ns);
  next->conn = conn;
  (void)pthread_cond_signal(&next->served);
}

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

/* Whether a session that nobody uses is alive; what came for it is read. */
static bool is_alive(mb_pool *pool, mb_conn *conn)
{
  const mb_driver *driver = conn->driver;
  mb_error error;
  mb_validity validity = driver->is_valid(conn->impl);
  if (validity == MB_READABLE && driver->consume != NULL) {
    if (driver->consume(conn->impl, &error) == MB_OK) {
      validity = driver->is_valid(conn->impl);
    } else {
      validity = MB_DEAD;
      if (!(error.flags & MB_SESSION_ONLY))
        mb__pool_suspect(pool, conn->generation);
    }
  }
  return validity != MB_DEAD;
}

/* Why a connection may not be lent any more, by what is known of it. */
static bool is_too_old(const mb_pool *pool, const mb_conn *conn, int64_t now_ns,
    mb_close_reason *reason)
{
  if (pool->is_database)
    return false;
  if (conn->generation !=
      atomic_load_explicit(&pool->generation, memory_order_relaxed)) {
    *reason = MB_CLOSED_GENERATION;
    return true;
  }
  *reason = MB_CLOSED_LIFETIME;
  return now_ns >= conn->retire_ns;
}

/* Whether it was idle for so long that it has to be asked. */
static bool wants_ping(const mb_pool *pool, const mb_conn *conn, int64_t now_ns)
{
  const int64_t after_ns = pool->connector->settings.check_after_idle_ns;
  return after_ns >= 0 && conn->driver->ping != NULL &&
         now_ns - conn->idle_ns >= after_ns;
}

/* Asks a session that is in MB__POOL_PINGING; true: it has answered. */
static bool answers(mb_pool *pool, mb_conn *conn)
{
  mb_error error;
  const mb_call call = {.timeout_ns = PING_LIMIT_NS};
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
  end_lending_locked(pool, conn);
  (void)pthread_mutex_unlock(&pool->lock);
  /* Only when it has gone there is room for another one. */
  mb__conn_close(conn);
  (void)pthread_mutex_lock(&pool->lock);
  take_locked(pool, conn);
  pool->size--;
  pool->stats.closed++;
  pool->stats.closed_by[reason]++;
  mb__event_closed_locked(pool, conn, reason);
  wake_next_locked(pool); /* to connect */
  mb_conn_unref(conn);
  mb__pool_unlock_smaller(pool);
}

/* Takes the idle connection that was used last, in the state in which it is to
 * be looked at; NULL: there is none. */
static mb_conn *take_idle_locked(mb_pool *pool, unsigned flags, int64_t now_ns)
{
  mb_conn *conn = pool->lists[MB__POOL_IDLE].newest;
  mb_close_reason ignored;
  if (conn == NULL)
    return NULL;
  if (is_too_old(pool, conn, now_ns, &ignored)) {
    mb__pool_move_locked(pool, conn, MB__POOL_CLOSING);
  } else if (wants_ping(pool, conn, now_ns)) {
    mb__pool_move_locked(pool, conn, MB__POOL_PINGING);
  } else {
    lend_locked(pool, conn, pthread_self(), flags, now_ns);
  }
  return conn;
}

/* A connection that was lent is not fit after all. */
static void take_back_unfit(
    mb_pool *pool, mb_conn *conn, mb_close_reason reason)
{
  (void)atomic_fetch_add(&conn->borrow, 1);
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
  switch (mb__pool_state_of(conn)) {
  case MB__POOL_CLOSING:
    (void)is_too_old(pool, conn, now_ns, &reason);
    mb__pool_close_conn(pool, conn, reason);
    return false;
  case MB__POOL_PINGING:
    if (!is_alive(pool, conn) || !answers(pool, conn)) {
      mb__pool_close_conn(pool, conn, MB_CLOSED_DEAD);
      return false;
    }
    (void)pthread_mutex_lock(&pool->lock);
    lend_locked(pool, conn, pthread_self(), flags, now_ns);
    (void)pthread_mutex_unlock(&pool->lock);
    return true;
  default:
    if (is_alive(pool, conn))
      return true;
    take_back_unfit(pool, conn, MB_CLOSED_DEAD);
    return false;
  }
}

/* --- Connecting --------------------------------------------------------- */

bool mb__pool_may_connect_locked(const mb_pool *pool, int64_t now_ns)
{
  const bool careful = pool->suspect || pool->failures_in_row > 0;
  return !pool->closed && pool->size < pool->connector->settings.max &&
         !(careful && pool->lists[MB__POOL_CONNECTING].n > 0) &&
         now_ns >= pool->next_attempt_ns;
}

mb_conn *mb__pool_begin_connect_locked(mb_pool *pool)
{
  mb_conn *conn = mb__conn_new(pool->connector, pool);
  if (conn == NULL)
    return NULL;
  conn->generation = atomic_load(&pool->generation);
  put_newest_locked(pool, conn, MB__POOL_CONNECTING);
  pool->size++;
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

/* What an attempt to connect has come to, for its maker (own, or NULL: whoever
 * waits).  False: it was of no use, and the error says why. */
static bool end_connect(mb_pool *pool, mb_conn *conn, mb_status status,
    bool own, unsigned flags, mb_error *error)
{
  const int64_t now_ns = mb__coarse_ns();
  (void)pthread_mutex_lock(&pool->lock);
  mb__event_connected_locked(pool, conn, status != MB_OK ? error : NULL);
  if (status != MB_OK) {
    take_locked(pool, conn);
    pool->size--;
    note_failure_locked(pool, error, now_ns);
    mb__keeper_wake_locked(pool);
    mb_conn_unref(conn);
    mb__pool_unlock_smaller(pool);
    return false;
  }
  note_success_locked(pool, conn, now_ns);
  const bool closed = pool->closed;
  if (!closed && own)
    lend_locked(pool, conn, pthread_self(), flags, now_ns);
  else if (!closed)
    mb__pool_offer_locked(pool, conn, now_ns);
  wake_next_locked(pool); /* to connect, which is allowed again */
  mb__keeper_need_locked(pool);
  (void)pthread_mutex_unlock(&pool->lock);
  if (!closed)
    return true;
  mb__pool_close_conn(pool, conn, MB_CLOSED_POOL);
  (void)refuse_closed(error);
  return false;
}

void mb__pool_connect(mb_pool *pool, mb_conn *conn)
{
  mb_error error;
  (void)end_connect(
      pool, conn, mb__conn_connect(conn, NULL, &error), false, 0, &error);
}

/* Connects on the caller's own thread. */
static mb_status connect_here(mb_pool *pool, mb_conn *conn,
    mb_cancellation *cancellation, unsigned flags, mb_conn **out,
    mb_error *error)
{
  const mb_status status = mb__conn_connect(conn, cancellation, error);
  if (!end_connect(pool, conn, status, true, flags, error))
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

/* Has a helper connect, so that the caller may be served by somebody else
 * meanwhile; false: none could be started. */
static bool start_connect(mb_pool *pool, mb_conn *conn)
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

/* --- Taking back -------------------------------------------------------- */

/* A borrow has ended: the connection, in MB__POOL_LENT or out of
 * MB__POOL_LEFT, is cleaned, and lent again or closed. */
static void take_back(mb_pool *pool, mb_conn *conn)
{
  mb_close_reason reason = MB_CLOSED_DEAD;
  bool fit = mb__conn_clean(conn, &reason);
  if (fit)
    fit = is_alive(pool, conn);
  const int64_t now_ns = mb__coarse_ns();
  if (fit && is_too_old(pool, conn, now_ns, &reason))
    fit = false;
  (void)pthread_mutex_lock(&pool->lock);
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
  end_lending_locked(pool, conn);
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
      atomic_load_explicit(&conn->borrow, memory_order_relaxed);
  return number % 2 == 1 &&
         atomic_compare_exchange_strong(&conn->borrow, &number, number + 1);
}

static void leave(mb_conn *conn)
{
  mb_pool *pool = conn->pool;
  (void)pthread_mutex_lock(&pool->lock);
  mb__pool_move_locked(pool, conn, MB__POOL_LEFT);
  if (pool->first_waiter != NULL)
    (void)pthread_cond_signal(&pool->first_waiter->served);
  if (pool->place.first != NULL)
    (void)pthread_cond_signal(&pool->place.first->turn);
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

void mb_conn_let(mb_conn *conn)
{
  (void)atomic_fetch_sub(&conn->guard.held, 1);
  if (mb_conn_borrow(conn) % 2 == 0)
    mb_conn_settle(conn);
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
    if (conn != NULL)
      mb__pool_move_locked(pool, conn, MB__POOL_LENT);
    (void)pthread_mutex_unlock(&pool->lock);
    if (conn == NULL)
      return;
    take_back(pool, conn);
  }
}

/* --- Borrowing ---------------------------------------------------------- */

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
  /* What is not lent comes back, or makes room, without a borrower. */
  if ((flags & MB_ACQUIRE_NOW) &&
      (pool->lists[MB__POOL_LENT].n >= pool->connector->settings.max ||
          !may_lend_locked(pool, flags))) {
    (void)refuse_empty_locked(pool, "no connection is free", own->error);
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
  if (mb__thread_wait(&own->served, &pool->lock, until_ns) ||
      until_ns < deadline_ns || own->conn != NULL || own->refused)
    return true;
  (void)refuse_empty_locked(pool, "no connection became free", own->error);
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
                          pool->lists[MB__POOL_LEFT].n + n_connecting -
                          pool->n_writers;
  return n_connecting < pool->n_waiting &&
         ((flags & MB_ACQUIRE_WRITER) || readers < readers_max(pool)) &&
         mb__pool_may_connect_locked(pool, mb__host.now_ns());
}

/* Waits in the queue; unlocks.  Takes what comes first: a connection that comes
 * back, one that a helper makes, or its own. */
static mb_status wait_for_one(mb_pool *pool, mb_cancellation *cancellation,
    unsigned flags, mb_conn **out, mb_error *error)
{
  if (pool->closed) {
    (void)pthread_mutex_unlock(&pool->lock);
    return refuse_closed(error);
  }
  const int64_t since_ns = mb__host.now_ns();
  const int64_t deadline_ns =
      mb__deadline_ns(pool->connector->settings.acquire_timeout_ns);
  mb__waiter own = {.thread = pthread_self(),
      .since_ns = since_ns,
      .flags = flags,
      .error = error};
  mb_conn *made = NULL;
  mb__thread_condition(&own.served);
  queue_locked(pool, &own);

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
      if (here || !start_connect(pool, made))
        break;
      made = NULL;
    } else if (!wait_locked(pool, &own, deadline_ns, cancellation, flags)) {
      break;
    }
  }
  const bool served = own.conn != NULL || own.refused;
  if (!served) {
    leave_queue_locked(pool, &own);
    /* What was told to this one is news for the next. */
    if (pool->first_waiter != NULL)
      (void)pthread_cond_signal(&pool->first_waiter->served);
  }
  pool->stats.acquire_ns += mb__host.now_ns() - since_ns;
  (void)pthread_mutex_unlock(&pool->lock);
  (void)pthread_cond_destroy(&own.served);

  if (made != NULL && !served)
    return connect_here(pool, made, cancellation, flags, out, error);
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
        !pool->closed && may_lend_locked(pool, flags))
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

/* --- Sweeping ----------------------------------------------------------- */

/* The idle connection that has been idle too long, or is too old, moved to
 * MB__POOL_CLOSING; NULL: none. */
static mb_conn *take_expired_locked(
    mb_pool *pool, int64_t now_ns, mb_close_reason *reason)
{
  const mb_settings *settings = &pool->connector->settings;
  mb_conn *conn = pool->lists[MB__POOL_IDLE].oldest;
  for (; conn != NULL; conn = conn->pool_newer) {
    if (is_too_old(pool, conn, now_ns, reason))
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

void mb__pool_sweep(mb_pool *pool)
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
  if (!is_alive(pool, longest) || !answers(pool, longest)) {
    mb__pool_close_conn(pool, longest, MB_CLOSED_DEAD);
    return;
  }
  (void)pthread_mutex_lock(&pool->lock);
  if (pool->first_waiter != NULL)
    mb__pool_offer_locked(pool, longest, mb__coarse_ns());
  else
    mb__pool_move_locked(pool, longest, MB__POOL_IDLE);
  (void)pthread_mutex_unlock(&pool->lock);
}
