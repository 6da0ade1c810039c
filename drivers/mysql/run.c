/* run.c: the start of a run. */
#include "call.h"

#include <string.h>

/* The statement has other columns than when it was prepared, and the library
 * does not take them. */
#define NEW_COLUMNS 2057

/* A cursor that is read only, of so many rows a trip; 0: none.  A handle that
 * had one goes on to believe in it, so another one is made. */
static mb_status set_cursor(
    mb_driver_stmt *stmt, int64_t fetch_size, mb_error *error)
{
  if (stmt->fetch_size == fetch_size)
    return MB_OK;
  if (stmt->fetch_size > 0) {
    mq_drop_handle(stmt);
    if (mq_make_handle(stmt, error) != MB_OK)
      return MB_ERROR;
    if (stmt->handle == NULL)
      return mq_out_of_memory(stmt->conn->host, error);
  }
  const unsigned long type =
      fetch_size > 0 ? CURSOR_TYPE_READ_ONLY : CURSOR_TYPE_NO_CURSOR;
  const unsigned long rows = (unsigned long)(fetch_size > 0 ? fetch_size : 1);
  (void)mysql_stmt_attr_set(stmt->handle, STMT_ATTR_CURSOR_TYPE, &type);
  (void)mysql_stmt_attr_set(stmt->handle, STMT_ATTR_PREFETCH_ROWS, &rows);
  stmt->fetch_size = fetch_size;
  return MB_OK;
}

static mb_status run_prepared(mb_driver_stmt *stmt, const mb_value *params,
    size_t n, int64_t fetch_size, mb_error *error)
{
  for (bool again = false;; again = true) {
    if (mq_is_spoilt(stmt, params, n)) {
      mq_drop_handle(stmt);
      if (mq_make_handle(stmt, error) != MB_OK)
        return MB_ERROR;
      if (stmt->handle == NULL)
        return mq_out_of_memory(stmt->conn->host, error);
    }
    if (set_cursor(stmt, fetch_size, error) != MB_OK ||
        mq_bind(stmt, params, n, error) != MB_OK)
      return MB_ERROR;
    stmt->conn->sent = true;
    if (mq_stmt_execute(stmt) == 0)
      return mq_take_result(stmt, error);
    const bool changed = mysql_stmt_errno(stmt->handle) == NEW_COLUMNS;
    if (!changed || again || !stmt->judgement.reads_only)
      return mq_fail_run(stmt, error);
    mq_drop_handle(stmt);
    if (mq_make_handle(stmt, error) != MB_OK)
      return MB_ERROR;
  }
}

static mb_status run_text(mb_driver_stmt *stmt, size_t n, mb_error *error)
{
  mb_driver_conn *conn = stmt->conn;
  stmt->by_text = true;
  if (n > 0)
    return conn->host->fail(error, MB_USAGE,
        "the statement has 0 parameters, but %zu were given", n);
  conn->sent = true;
  if (mq_real_query(conn, stmt->sql, stmt->size) != 0)
    return mq_fail_run(stmt, error);
  return mq_take_result(stmt, error);
}

/* The lexical record follows a mode that was set. */
static void read_mode(mb_driver_conn *conn)
{
  MYSQL_ROW row;
  MYSQL_RES *rows = mq_ask(conn, "select @@sql_mode", &row);
  if (rows == NULL)
    return;
  mq_follow_mode(conn, row[0]);
  mysql_free_result(rows);
}

mb_status mq_execute(mb_driver_stmt *stmt, const mb_value *params, size_t n,
    const mb_execute_options *options, mb_result *result, mb_op *op,
    mb_error *error)
{
  mb_driver_conn *conn = stmt->conn;
  stmt->result = result;
  stmt->by_text = false;
  stmt->n_rows = 0;
  mq_enter(conn, op);
  conn->sent = false;
  if (mq_settle(conn, op, error) != MB_OK)
    return MB_ERROR;
  if (stmt->handle == NULL && !stmt->unpreparable &&
      !stmt->judgement.is_plain && mq_make_handle(stmt, error) != MB_OK)
    return MB_ERROR;
  const int64_t fetch_size =
      options != NULL && stmt->judgement.reads_only ? options->fetch_size : 0;
  const mb_status status =
      stmt->handle != NULL ? run_prepared(stmt, params, n, fetch_size, error)
                           : run_text(stmt, n, error);
  if (status == MB_DONE && stmt->judgement.sets_mode)
    read_mode(conn);
  /* Somebody is asking the server to stop: that must not hit what comes next,
   * so this goes on to its end. */
  if (status == MB_ROW && op->bounded && mb_op_stopped(conn->host, op)) {
    if (mq_finish(stmt, MB_FINISH_DRAIN, op, error) != MB_ERROR)
      (void)mq_fail_stopped(conn, error);
    return MB_ERROR;
  }
  return status;
}

mb_status mq_exec_text(mb_driver_conn *conn, const char *sql, size_t size,
    mb_result *result, mb_op *op, mb_error *error)
{
  mq_enter(conn, op);
  conn->sent = false;
  if (mq_settle(conn, op, error) != MB_OK)
    return MB_ERROR;
  if (mq_run_text(conn, sql, size, error) != MB_DONE) {
    mq_refresh_status(conn);
    return MB_ERROR;
  }
  const uint64_t affected = mysql_affected_rows(conn->db);
  result->affected = affected <= INT64_MAX ? (int64_t)affected : -1;
  result->warnings = mysql_warning_count(conn->db);
  return MB_DONE;
}
