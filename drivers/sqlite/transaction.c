/*
 * transaction.c: BEGIN and its ends, kept prepared; and what makes a
 * transaction read-only.
 */
#include "sqlite.h"

mb_transaction_state sl_transaction_state(mb_driver_conn *conn)
{
  return sqlite3_get_autocommit(conn->db) != 0 ? MB_TRANSACTION_NONE
                                               : MB_TRANSACTION_ACTIVE;
}

/* Runs a statement of ours, which is prepared at its first use. */
static mb_status run(mb_driver_conn *conn, sqlite3_stmt **stmt,
    const char *sql, mb_op *op, mb_error *error)
{
  int code = SQLITE_OK;
  sl_watch(conn, op);
  if (*stmt == NULL)
    code = sqlite3_prepare_v3(
        conn->db, sql, -1, SQLITE_PREPARE_PERSISTENT, stmt, NULL);
  if (code == SQLITE_OK)
    code = sqlite3_step(*stmt);
  mb_status status = MB_DONE;
  if (code != SQLITE_DONE)
    status = sl_fail(conn, code, SL_RUNNING, error);
  (void)sqlite3_reset(*stmt);
  conn->op = NULL;
  return status;
}

/* SQLite has no read-only transactions, but sessions that only ask. */
static mb_status set_query_only(
    mb_driver_conn *conn, bool on, mb_error *error)
{
  if (conn->query_only == on)
    return MB_DONE;
  const int code = sqlite3_exec(conn->db,
      on ? "pragma query_only = 1" : "pragma query_only = 0", NULL, NULL,
      NULL);
  if (code != SQLITE_OK)
    return sl_fail(conn, code, SL_RUNNING, error);
  conn->query_only = on;
  return MB_DONE;
}

mb_status sl_begin(mb_driver_conn *conn, const mb_begin *options, mb_op *op,
    mb_error *error)
{
  static const struct {
    enum mb_mode mode;
    const char *sql;
  } forms[] = {
      {MB_DEFERRED, "begin deferred"},
      {MB_IMMEDIATE, "begin immediate"},
      {MB_EXCLUSIVE, "begin exclusive"},
  };
  enum mb_mode mode = options->mode;
  if (mode == MB_MODE_DEFAULT)
    mode = options->read_only ? MB_DEFERRED : MB_IMMEDIATE;
  if (options->read_only && mode != MB_DEFERRED)
    return conn->host->fail(error, MB_USAGE,
        "a read-only transaction takes no lock: leave out mode, or write "
        "mode = \"deferred\"");
  sl_watch(conn, op);
  if (mode != MB_DEFERRED)
    sl_want_wal(conn);

  size_t i = 0;
  while (forms[i].mode != mode)
    i++;
  if (run(conn, &conn->begin[i], forms[i].sql, op, error) == MB_ERROR)
    return MB_ERROR;
  if (!options->read_only || set_query_only(conn, true, error) == MB_DONE)
    return MB_DONE;
  mb_error ignored;
  (void)sl_rollback(conn, op, &ignored);
  return MB_ERROR;
}

mb_status sl_commit(mb_driver_conn *conn, mb_op *op, mb_error *error)
{
  if (run(conn, &conn->commit, "commit", op, error) == MB_ERROR)
    return MB_ERROR;
  return set_query_only(conn, false, error);
}

mb_status sl_rollback(mb_driver_conn *conn, mb_op *op, mb_error *error)
{
  if (sqlite3_get_autocommit(conn->db) == 0 &&
      run(conn, &conn->rollback, "rollback", op, error) == MB_ERROR)
    return MB_ERROR;
  return set_query_only(conn, false, error);
}

void sl_close_transaction_statements(mb_driver_conn *conn)
{
  for (size_t i = 0; i < sizeof conn->begin / sizeof conn->begin[0]; i++)
    (void)sqlite3_finalize(conn->begin[i]);
  (void)sqlite3_finalize(conn->commit);
  (void)sqlite3_finalize(conn->rollback);
}
