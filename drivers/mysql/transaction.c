/*
 * transaction.c: BEGIN, which goes out before the first statement, and its
 * ends.
 */
#include "mysql.h"

#include <poll.h>
#include <string.h>

mb_transaction_state mq_transaction_state(mb_driver_conn *conn)
{
  if (conn->dead || conn->db == NULL)
    return MB_TRANSACTION_UNKNOWN;
  return conn->begin_waits ||
                 (conn->db->server_status & SERVER_STATUS_IN_TRANS) != 0
             ? MB_TRANSACTION_ACTIVE
             : MB_TRANSACTION_NONE;
}

mb_status mq_begin(
    mb_driver_conn *conn, const mb_begin *options, mb_op *op, mb_error *error)
{
  (void)op;
  (void)error;
  conn->begin_waits = true;
  conn->begin = *options;
  return MB_DONE;
}

static const char *level_of(enum mb_isolation isolation)
{
  switch (isolation) {
  case MB_READ_UNCOMMITTED:
    return "set transaction isolation level read uncommitted";
  case MB_READ_COMMITTED:
    return "set transaction isolation level read committed";
  case MB_REPEATABLE_READ:
    return "set transaction isolation level repeatable read";
  case MB_SERIALIZABLE:
    return "set transaction isolation level serializable";
  case MB_ISOLATION_DEFAULT:
    break;
  }
  return NULL;
}

mb_status mq_settle(mb_driver_conn *conn, const mb_op *op, mb_error *error)
{
  if (conn->dead)
    return mq_fail_dead(conn, error);
  if (!conn->begin_waits)
    return MB_OK;
  const char *level = level_of(conn->begin.isolation);
  const char *begin = conn->begin.read_only ? "start transaction read only"
                                            : "start transaction";
  conn->begin_waits = false;
  mb_status status = MB_OK;
  if (level != NULL)
    status = mq_run_text(conn, level, strlen(level), error);
  if (status == MB_OK)
    status = mq_run_text(conn, begin, strlen(begin), error);
  /* Nothing runs behind what has stopped one of the two. */
  if (status == MB_OK && op->bounded && mb_op_stopped(conn->host, op))
    status = mq_fail_stopped(conn, error);
  if (status != MB_OK)
    error->origin = MB_ORIGIN_BEGIN;
  return status;
}

/* A server that has gone already has not committed: it is worth a look before,
 * since nobody knows what has become of a COMMIT that was sent. */
mb_status mq_commit(mb_driver_conn *conn, mb_op *op, mb_error *error)
{
  mq_enter(conn, op);
  if (conn->begin_waits) {
    conn->begin_waits = false; /* nothing was run in it */
    return MB_DONE;
  }
  conn->sent = false;
  if (mq_is_valid(conn) == MB_DEAD) {
    conn->dead = true;
    return mq_fail_dead(conn, error);
  }
  return mq_run_text(conn, "commit", 6, error);
}

mb_status mq_rollback(mb_driver_conn *conn, mb_op *op, mb_error *error)
{
  mq_enter(conn, op);
  if (conn->begin_waits) {
    conn->begin_waits = false;
    return MB_DONE;
  }
  if (conn->dead)
    return mq_fail_dead(conn, error);
  if (mq_transaction_state(conn) == MB_TRANSACTION_NONE)
    return MB_DONE;
  return mq_run_text(conn, "rollback", 8, error);
}
