/*
 * turn.c: whose turn it is on a connection that several tasks use.
 */
#include "connection.h"

#include "pool.h"
#include "statement.h"

void mb__conn_pass_turn(mb_conn *conn)
{
  (void)pthread_mutex_lock(&conn->pool->lock);
  mb__condition_broadcast(&conn->turn);
  (void)pthread_mutex_unlock(&conn->pool->lock);
}

/* Whether the caller's turn has not come: another fiber's call is going on, or
 * another task's transaction is open inside the one at depth. */
static bool is_taken(const mb_conn *conn, uint32_t depth)
{
  const mb_fiber *left = mb__conn_left(conn);
  if (left != NULL && left != mb__fiber_running())
    return true;
  const uint32_t open = mb__tx_kept_depth(conn);
  return open > depth && conn->levels[open - 1].task != mb__fiber_task();
}

static mb_status wait_for_turn(mb_conn *conn, uint32_t depth, mb_error *error)
{
  mb_pool *pool = conn->pool;
  const uint64_t borrow = mb_conn_borrow(conn);
  const int64_t deadline_ns =
      mb__deadline_ns(pool->connector->settings.acquire_timeout_ns);
  bool in_time = true;
  bool stopped = false;
  (void)pthread_mutex_lock(&pool->lock);
  conn->n_turns++;
  while (in_time && !stopped && mb_conn_borrow(conn) == borrow &&
         is_taken(conn, depth)) {
    in_time = mb__condition_wait(&conn->turn, &pool->lock, deadline_ns);
    stopped = mb__fiber_take_stop() != MB__FIBER_GOES_ON;
  }
  conn->n_turns--;
  (void)pthread_mutex_unlock(&pool->lock);
  if (stopped)
    return mb__fiber_refuse(error);
  if (in_time || !is_taken(conn, depth))
    return MB_OK;
  return mb__host.fail(error, MB_POOL_TIMEOUT,
      mb__conn_left(conn) != NULL
          ? "a call of another task on this connection did not end"
          : "a transaction of another task on this connection did not end");
}

mb_status mb_conn_await_turn(mb_conn *conn, const mb_tx *tx, mb_error *error)
{
  const uint32_t depth = tx != NULL ? tx->depth : 0;
  if (!mb_fiber_is_inside() || !is_taken(conn, depth))
    return MB_OK;
  return wait_for_turn(conn, depth, error);
}

mb_status mb__conn_enter_in_turn(mb_conn *conn, mb_error *error)
{
  if (wait_for_turn(conn, UINT32_MAX, error) != MB_OK)
    return MB_ERROR;
  return mb__conn_enter(conn, error);
}
