/*
 * rows.c: the results of a run, from the first to the last.
 *
 * Rows are not stored: they are read as they come.  The first one is read at
 * once, so that a run without any is over when it has begun.
 */
#include "call.h"

/* A plain read that has more than this left is stopped, and not read. */
#define LEFT_MAX 10000
/* For asking the server, where the call has no bounds. */
#define ASK_NS (2 * MQ_NS_PER_SECOND)

static void leave_run(mb_driver_stmt *stmt)
{
  if (stmt->rows != NULL)
    mysql_free_result(stmt->rows);
  stmt->rows = NULL;
  stmt->running = false;
  stmt->reading = false;
  stmt->has_row = false;
  mq_shrink_slots(stmt);
}

mb_status mq_fail_run(mb_driver_stmt *stmt, mb_error *error)
{
  (void)mq_fail(stmt->conn, stmt, error);
  leave_run(stmt);
  if (error->flags & MB_STALE_STATEMENT)
    mq_drop_handle(stmt);
  mq_refresh_status(stmt->conn);
  return MB_ERROR;
}

/* Reads a row from the library: MB_ROW, MB_DONE or MB_ERROR. */
static inline mb_status step(mb_driver_stmt *stmt, mb_error *error)
{
  if (MB_RARELY(stmt->by_text)) {
    stmt->row = mq_fetch_row(stmt->conn, stmt->rows);
    if (stmt->row != NULL)
      return MB_ROW;
    return mysql_errno(stmt->conn->db) == 0 ? MB_DONE
                                            : mq_fail_run(stmt, error);
  }
  const int code = mq_stmt_fetch(stmt);
  if (code == 0 || code == MYSQL_DATA_TRUNCATED)
    return MB_ROW;
  return code == MYSQL_NO_DATA ? MB_DONE : mq_fail_run(stmt, error);
}

/* A result has come to its end. */
static mb_status end_result(mb_driver_stmt *stmt)
{
  MYSQL *db = stmt->conn->db;
  mb_result *result = stmt->result;
  if (stmt->fetch_size == 0 || stmt->by_text)
    mq_read_end(db, !stmt->by_text);
  if (stmt->judgement.writes_rows)
    result->affected = stmt->n_rows;
  result->warnings = mysql_warning_count(db);
  result->more_results = (db->server_status & MQ_STATUS_MORE_RESULTS) != 0;
  leave_run(stmt);
  stmt->running = result->more_results;
  return MB_DONE;
}

/* One that has no columns. */
static mb_status take_totals(mb_driver_stmt *stmt)
{
  MYSQL *db = stmt->conn->db;
  mb_result *result = stmt->result;
  const bool by_text = stmt->by_text;
  const uint64_t affected = by_text ? mysql_affected_rows(db)
                                    : mysql_stmt_affected_rows(stmt->handle);
  const uint64_t id =
      by_text ? mysql_insert_id(db) : mysql_stmt_insert_id(stmt->handle);
  result->n_columns = 0;
  result->affected = affected <= INT64_MAX ? (int64_t)affected : 0;
  result->has_last_id = stmt->judgement.inserts && id != 0;
  result->last_id = (int64_t)id;
  result->warnings = mysql_warning_count(db);
  result->more_results = (db->server_status & MQ_STATUS_MORE_RESULTS) != 0;
  stmt->running = result->more_results;
  return MB_DONE;
}

/* There is no memory for what has come: it is thrown away. */
static mb_status abandon_result(mb_driver_stmt *stmt)
{
  mb_driver_conn *conn = stmt->conn;
  if (stmt->by_text && stmt->rows == NULL)
    stmt->rows = mysql_use_result(conn->db);
  leave_run(stmt);
  if (stmt->handle != NULL && !stmt->by_text)
    (void)mysql_stmt_free_result(stmt->handle);
  mq_drop_handle(stmt);
  /* A closed statement has none any more. */
  while (stmt->by_text && mq_session_next_result(conn) == 0)
    mysql_free_result(mysql_use_result(conn->db));
  return MB_ERROR;
}

/* For the results of a CALL the library forgets what was bound. */
static bool is_only(const MYSQL *db)
{
  return (db->server_status & MQ_STATUS_MORE) == 0;
}

mb_status mq_take_result(mb_driver_stmt *stmt, mb_error *error)
{
  MYSQL *db = stmt->conn->db;
  mb_result *result = stmt->result;
  const unsigned n = mysql_field_count(db);
  if (n == 0)
    return take_totals(stmt);
  if (stmt->by_text) {
    stmt->rows = mysql_use_result(db);
    if (stmt->rows == NULL)
      return mq_fail_run(stmt, error);
  }
  if (mq_read_columns(stmt,
          stmt->by_text ? mysql_fetch_fields(stmt->rows) : db->fields, n,
          error) != MB_OK ||
      (!stmt->by_text && !(stmt->is_bound && is_only(db)) &&
          mq_bind_columns(stmt, error) != MB_OK))
    return abandon_result(stmt);
  result->columns = stmt->columns;
  result->n_columns = stmt->n_columns;
  result->columns_serial = stmt->columns_serial;
  result->beside = !stmt->by_text && stmt->fetch_size > 0 &&
                   (db->server_status & SERVER_STATUS_CURSOR_EXISTS) != 0;
  stmt->running = true;
  stmt->reading = true;
  const mb_status status = step(stmt, error);
  if (status == MB_DONE)
    return end_result(stmt);
  stmt->has_row = status == MB_ROW;
  return status;
}

mb_status mq_next_result(
    mb_driver_stmt *stmt, mb_result *result, mb_op *op, mb_error *error)
{
  mq_enter(stmt->conn, op);
  stmt->result = result;
  stmt->n_rows = 0;
  stmt->conn->sent = true;
  const int code = stmt->by_text ? mq_session_next_result(stmt->conn)
                                 : mq_stmt_next_result(stmt);
  if (code > 0)
    return mq_fail_run(stmt, error);
  if (code == 0)
    return mq_take_result(stmt, error);
  stmt->running = false;
  result->n_columns = 0;
  return MB_DONE;
}

/* Rows of a stopped call are thrown away, so that the request to stop that is
 * on its way does not hit the next one. */
static mb_status give_up(mb_driver_stmt *stmt, mb_op *op, mb_error *error)
{
  if (mq_finish(stmt, MB_FINISH_DRAIN, op, error) == MB_ERROR)
    return MB_ERROR;
  return mq_fail_stopped(stmt->conn, error);
}

mb_status mq_fetch(
    mb_driver_stmt *stmt, mb_value *row, mb_op *op, mb_error *error)
{
  mq_enter(stmt->conn, op);
  if (!stmt->has_row) {
    const mb_status status = step(stmt, error);
    if (status == MB_DONE)
      return end_result(stmt);
    if (status == MB_ERROR)
      return MB_ERROR;
    if (MB_RARELY(op->bounded) &&
        atomic_load_explicit(&op->stop, memory_order_relaxed) != MB_GO_ON)
      return give_up(stmt, op, error);
  }
  stmt->has_row = false;
  stmt->n_rows++;
  const mb_status status = stmt->by_text ? mq_read_text_row(stmt, row, error)
                                         : mq_read_row(stmt, row, error);
  if (status == MB_ERROR) {
    mb_error ignored;
    (void)mq_finish(stmt, MB_FINISH_DRAIN, op, &ignored);
  }
  return status;
}

/* --- Leaving ------------------------------------------------------------ */

/* Reads a result to its end. */
static mb_status drain(
    mb_driver_stmt *stmt, mb_finish_mode mode, const mb_op *op, mb_error *error)
{
  const mb_host *host = stmt->conn->host;
  bool asked = mode != MB_FINISH_CANCEL;
  for (int64_t n = 0;; n++) {
    const mb_status status = step(stmt, error);
    if (status != MB_ROW)
      return status;
    stmt->n_rows++;
    if (n < LEFT_MAX || asked)
      continue;
    mb_error ignored;
    if (stmt->conn->loop != NULL) {
      host->make_way(stmt->conn->loop, true);
      mq_enter(stmt->conn, stmt->conn->loop);
    }
    int64_t deadline_ns = host->now_ns() + ASK_NS;
    if (deadline_ns > op->deadline_ns)
      deadline_ns = op->deadline_ns;
    (void)mq_cancel(stmt->conn->cancel, MB_CANCEL_QUERY, deadline_ns, &ignored);
    asked = true;
  }
}

/* What was asked for is no error. */
static bool is_asked_for(
    const mb_error *error, mb_finish_mode mode, const mb_op *op)
{
  return mode == MB_FINISH_CANCEL && error->class == MB_CANCELED &&
         atomic_load(&op->stop) == MB_GO_ON;
}

mb_status mq_finish(
    mb_driver_stmt *stmt, mb_finish_mode mode, mb_op *op, mb_error *error)
{
  mb_result *result = stmt->result;
  mq_enter(stmt->conn, op);
  while (stmt->running) {
    if (result->beside) {
      result->beside = false;
      leave_run(stmt);
      if (mq_stmt_reset(stmt) != 0)
        return mq_fail_run(stmt, error);
      break;
    }
    if (stmt->reading) {
      stmt->n_rows += stmt->has_row;
      stmt->has_row = false;
      if (drain(stmt, mode, op, error) == MB_ERROR)
        return is_asked_for(error, mode, op) ? MB_DONE : MB_ERROR;
      (void)end_result(stmt);
      continue;
    }
    result->more_results = false;
    if (mq_next_result(stmt, result, op, error) == MB_ERROR)
      return MB_ERROR;
  }
  return MB_DONE;
}
