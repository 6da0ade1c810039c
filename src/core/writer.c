/*
 * writer.c: the one place to write of a pool.
 *
 * Where a database lets one session write at a time, those who want to write
 * queue here, in the order of their arrival, rather than at its lock, where
 * chance decides.  Who waits for the place as a borrower to be has no
 * connection yet; who has one of his own waits with it.  The place is left when
 * the session says that no transaction is open and no write is going on.
 */
#include "pool.h"

#include "statement.h"
#include "thread.h"

/* How often somebody who waits looks whether he was stopped. */
#define LOOK_NS (20 * INT64_C(1000000))

static void queue_locked(mb_pool *pool, mb__place_waiter *own)
{
  if (pool->place.last != NULL)
    pool->place.last->next = own;
  else
    pool->place.first = own;
  pool->place.last = own;
  pool->place.n_waiting++;
}

static void leave_queue_locked(mb_pool *pool, const mb__place_waiter *leaving)
{
  mb__place_waiter *before = NULL;
  mb__place_waiter *one = pool->place.first;
  while (one != leaving) {
    before = one;
    one = one->next;
  }
  if (before != NULL)
    before->next = one->next;
  else
    pool->place.first = one->next;
  if (pool->place.last == one)
    pool->place.last = before;
  pool->place.n_waiting--;
}

void mb__place_leave_locked(mb_pool *pool)
{
  mb__place_waiter *first = pool->place.first;
  if (first == NULL) {
    pool->place.taken = false;
    return;
  }
  leave_queue_locked(pool, first);
  first->served = true;
  mb__condition_signal(&first->turn);
}

static mb_status refuse(mb_pool *pool, unsigned flags, mb_error *error)
{
  pool->stats.timeouts += !(flags & MB_ACQUIRE_LOOK);
  mb__host.fail(error, MB_POOL_TIMEOUT,
      "the place to write did not become free: another transaction or "
      "statement is writing");
  return MB_ERROR;
}

/* Waits for a while; false: it is over, and the error says why. */
static bool wait_locked(mb_pool *pool, mb__place_waiter *own,
    int64_t deadline_ns, unsigned flags, const mb_op *op,
    mb_cancellation *cancellation, mb_error *error)
{
  if (pool->closed) {
    mb__host.fail(error, MB_USAGE, "the database is closed");
    return false;
  }
  if (cancellation != NULL && mb_cancellation_is_cancelled(cancellation)) {
    (void)mb__cancellation_fail(cancellation, error);
    return false;
  }
  if (mb__fiber_take_stop() != MB__FIBER_GOES_ON) {
    (void)mb__fiber_refuse(error);
    return false;
  }
  if (op != NULL && mb_op_stopped(&mb__host, op)) {
    mb__host.fail(error, MB_TIMEOUT,
        "the time was over before it was this one's turn to write");
    error->flags |= MB_RETRYABLE;
    return false;
  }
  int64_t until_ns = deadline_ns;
  if (op != NULL && op->deadline_ns < until_ns)
    until_ns = op->deadline_ns;
  const int64_t look_ns = mb__host.now_ns() + LOOK_NS;
  if ((op != NULL || cancellation != NULL || (flags & MB_ACQUIRE_NOW)) &&
      look_ns < until_ns)
    until_ns = look_ns;
  if (mb__condition_wait(&own->turn, &pool->lock, until_ns) ||
      until_ns < deadline_ns || own->served)
    return true;
  (void)refuse(pool, 0, error);
  return false;
}

mb_status mb__place_take_locked(mb_pool *pool, unsigned flags, const mb_op *op,
    mb_cancellation *cancellation, mb_error *error)
{
  if (!pool->place.taken) {
    pool->place.taken = true;
    return MB_OK;
  }
  if ((flags & MB_ACQUIRE_NOW) && atomic_load(&pool->n_left) == 0 &&
      pool->n_tidying == 0)
    return refuse(pool, flags, error);
  mb__place_waiter own = {.served = false};
  const int64_t since_ns = mb__host.now_ns();
  const int64_t deadline_ns =
      mb__deadline_ns(pool->connector->settings.acquire_timeout_ns);
  mb__condition_init(&own.turn);
  queue_locked(pool, &own);
  bool going_on = true;
  while (!own.served && going_on) {
    if (mb__pool_has_left_locked(pool)) {
      /* A finalizer may have left the one who has the place. */
      (void)pthread_mutex_unlock(&pool->lock);
      mb__pool_tidy(pool);
      (void)pthread_mutex_lock(&pool->lock);
    } else if ((flags & MB_ACQUIRE_NOW) && pool->n_tidying == 0) {
      (void)refuse(pool, flags, error);
      going_on = false;
    } else {
      going_on =
          wait_locked(pool, &own, deadline_ns, flags, op, cancellation, error);
    }
  }
  if (!own.served)
    leave_queue_locked(pool, &own);
  pool->stats.acquire_ns += mb__host.now_ns() - since_ns;
  mb__condition_destroy(&own.turn);
  return own.served ? MB_OK : MB_ERROR;
}

mb_status mb__place_enter(mb_conn *conn, mb_error *error)
{
  mb_pool *pool = conn->pool;
  if (conn->has_place)
    return MB_OK;
  (void)pthread_mutex_lock(&pool->lock);
  mb_status status = MB_OK;
  if (pool->place.taken && conn->no_wait && pool->n_tidying == 0 &&
      !mb__pool_has_left_locked(pool))
    status = mb__host.fail(error, MB_USAGE,
        "another transaction or Connection of this program is writing, and "
        "this "
        "one would wait for it for ever: end it first");
  else {
    mb__conn_leave_fiber(conn);
    status = mb__place_take_locked(pool, conn->no_wait ? MB_ACQUIRE_NOW : 0u,
        conn->op.bounded ? &conn->op : NULL, NULL, error);
    mb__conn_come_back(conn);
  }
  (void)pthread_mutex_unlock(&pool->lock);
  conn->has_place = status == MB_OK;
  conn->place_for_borrow = false;
  if (status != MB_OK && conn->listener.cancellation != NULL &&
      atomic_load(&conn->op.stop) == MB_STOP_CANCEL)
    return mb__cancellation_fail(conn->listener.cancellation, error);
  return status;
}

/* Whether a write is still at the database. */
static bool is_writing(const mb_conn *conn)
{
  for (const mb_stmt *one = conn->running; one != NULL; one = one->running_next)
    if (one->at_driver && !one->prepared.reads_only)
      return true;
  return false;
}

void mb__place_consider(mb_conn *conn)
{
  mb_pool *pool = conn->pool;
  if (conn->place_for_borrow || conn->depth > 0 ||
      conn->transaction != MB_TRANSACTION_NONE || is_writing(conn))
    return;
  conn->has_place = false;
  (void)pthread_mutex_lock(&pool->lock);
  mb__place_leave_locked(pool);
  (void)pthread_mutex_unlock(&pool->lock);
}

/* --- What writes -------------------------------------------------------- */

/* Words that begin statements which only read, or only prepare to. */
static const char *const reading[] = {"select", "values", "explain", "with",
    "pragma", "attach", "detach", "begin", "commit", "end", "rollback",
    "savepoint", "release"};

static bool is_blank(char c)
{
  return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f';
}

static bool is_word(const char *at, size_t size, const char *word)
{
  size_t i = 0;
  for (; word[i] != '\0'; i++)
    if (i >= size || (at[i] | 0x20) != word[i])
      return false;
  return i == size || is_blank(at[i]) || at[i] == '(' || at[i] == '*' ||
         at[i] == ';';
}

/* By the first word: what it is wrong about waits for the place with the
 * connection that it has. */
bool mb_pool_expects_write(const mb_pool *pool, const char *sql, size_t size)
{
  if (!pool->place.wanted)
    return false;
  while (size > 0 && is_blank(*sql)) {
    sql++;
    size--;
  }
  for (size_t i = 0; i < sizeof reading / sizeof reading[0]; i++)
    if (is_word(sql, size, reading[i]))
      return false;
  return size > 0 && *sql != '-' && *sql != '/' && *sql != '(';
}

bool mb_pool_begin_writes(const mb_pool *pool, const mb_tx_options *options)
{
  return options->exclusive ||
         (pool->place.wanted && !options->begin.read_only &&
             options->begin.mode != MB_DEFERRED);
}
