/*
 * lending.c: which connection goes to whom.
 *
 * Moves connections between their states, keeps the queue of those who wait,
 * and hands over inside the lock: who waits longest is served first.
 */
#include "pool.h"

#include "thread.h"

#include <string.h>

/* --- States --------------------------------------------------------------- */

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

void mb__pool_add_locked(mb_pool *pool, mb_conn *conn)
{
  put_newest_locked(pool, conn, MB__POOL_CONNECTING);
  pool->size++;
}

void mb__pool_remove_locked(mb_pool *pool, mb_conn *conn)
{
  take_locked(pool, conn);
  pool->size--;
}

/* --- Who waits ------------------------------------------------------------ */

void mb__pool_queue_locked(mb_pool *pool, mb__waiter *own)
{
  if (pool->last_waiter != NULL)
    pool->last_waiter->next = own;
  else
    pool->first_waiter = own;
  pool->last_waiter = own;
  pool->n_waiting++;
}

void mb__pool_leave_queue_locked(mb_pool *pool, const mb__waiter *leaving)
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
  if (one == NULL && mb__pool_may_lend_locked(pool, 0))
    one = pool->first_waiter;
  return one;
}

void mb__pool_wake_next_locked(const mb_pool *pool)
{
  mb__waiter *next = next_waiter_locked(pool);
  if (next != NULL)
    mb__condition_signal(&next->served);
}

static void refuse_locked(mb_pool *pool, mb__waiter *one)
{
  mb__pool_leave_queue_locked(pool, one);
  one->refused = true;
  mb__condition_signal(&one->served);
}

mb_status mb__pool_refuse_closed(mb_error *error)
{
  return mb__host.fail(error, MB_USAGE, "the database is closed");
}

void mb__pool_refuse_all_locked(mb_pool *pool)
{
  while (pool->first_waiter != NULL) {
    if (pool->closed)
      (void)mb__pool_refuse_closed(pool->first_waiter->error);
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

mb_status mb__pool_refuse_empty_locked(
    mb_pool *pool, unsigned flags, const char *what, mb_error *error)
{
  size_t size = 0;
  const char *cause = pool->has_last_error
                          ? mb_error_text(&pool->last_error, MB_MESSAGE, &size)
                          : NULL;
  const mb_conn *longest = pool->lists[MB__POOL_LENT].oldest;
  const int64_t now_ns = mb__coarse_ns();
  char note[1024];
  pool->stats.timeouts += !(flags & MB_ACQUIRE_LOOK);
  read_note_locked(longest, note, sizeof note);
  mb__host.fail(error, MB_POOL_TIMEOUT,
      "%s: %lld of %lld are in use%s (the longest for %.1f s), %lld other "
      "callers wait%s%.*s%s",
      what, (long long)pool->lists[MB__POOL_LENT].n, (long long)pool->size,
      mb__pool_readers_max(pool) < pool->connector->settings.max
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

/* --- Lending -------------------------------------------------------------- */

void mb__pool_lend_locked(mb_pool *pool, mb_conn *conn, pthread_t borrower,
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
  atomic_store_explicit(&conn->guard.borrow,
      atomic_load_explicit(&conn->guard.borrow, memory_order_relaxed) + 1,
      memory_order_relaxed);
  pool->stats.acquired++;
}

void mb__pool_end_lending_locked(mb_pool *pool, mb_conn *conn)
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
    (void)mb__pool_refuse_empty_locked(
        pool, 0, "too many callers wait for a connection", next->error);
    refuse_locked(pool, next);
    next = next_waiter_locked(pool);
  }
  if (next == NULL)
    return;
  mb__pool_leave_queue_locked(pool, next);
  mb__pool_lend_locked(pool, conn, next->thread, next->flags, now_ns);
  next->conn = conn;
  mb__condition_signal(&next->served);
}
