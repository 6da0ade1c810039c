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
static mb_status run(mb_driver_conn *conn, sqlite3_stmt **stmt, const char *sql,
    mb_op *op, mb_error *error)
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

static int note_number(void *out, int n, char **texts, char **names)
{
  (void)n;
  (void)names;
  *(bool *)out = texts[0] != NULL && texts[0][0] == '1';
  return 0;
}

/* SQLite has no read-only transactions, but sessions that only ask. */
static mb_status make_read_only(mb_driver_conn *conn, mb_error *error)
{
  bool already = false;
  int code =
      sqlite3_exec(conn->db, "pragma query_only", note_number, &already, NULL);
  if (code == SQLITE_OK && !already) {
    conn->query_only = true; /* perhaps also when the next line fails */
    code = sqlite3_exec(conn->db, "pragma query_only = 1", NULL, NULL, NULL);
  }
  /* From here on the authorizer keeps it so. */
  conn->read_only = code == SQLITE_OK;
  return code == SQLITE_OK ? MB_DONE : sl_fail(conn, code, SL_RUNNING, error);
}

mb_status sl_settle_session(mb_driver_conn *conn, mb_error *error)
{
  if (!conn->query_only || conn->read_only)
    return MB_DONE;
  const int code =
      sqlite3_exec(conn->db, "pragma query_only = 0", NULL, NULL, NULL);
  conn->query_only = code != SQLITE_OK;
  return code == SQLITE_OK ? MB_DONE : sl_fail(conn, code, SL_RUNNING, error);
}

/* Leaves the session as make_read_only has found it.  The transaction has ended
 * well or badly already: what fails here is done before the next statement. */
static void end_read_only(mb_driver_conn *conn)
{
  mb_error ignored;
  conn->read_only = false;
  (void)sl_settle_session(conn, &ignored);
}

mb_status sl_begin(
    mb_driver_conn *conn, const mb_begin *options, mb_op *op, mb_error *error)
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
  if (mode != MB_DEFERRED && conn->wal == SL_WAL_WANTED) {
    sl_expect_files(conn, op, true);
    sl_want_wal(conn);
  }

  size_t i = 0;
  while (forms[i].mode != mode)
    i++;
  if (sl_settle_session(conn, error) == MB_ERROR)
    return MB_ERROR;
  /* Before it, since there may be no memory to end what was begun. */
  if ((!options->read_only || make_read_only(conn, error) == MB_DONE) &&
      run(conn, &conn->begin[i], forms[i].sql, op, error) == MB_DONE)
    return MB_DONE;
  end_read_only(conn);
  return MB_ERROR;
}

mb_status sl_commit(mb_driver_conn *conn, mb_op *op, mb_error *error)
{
  sl_expect_files(conn, op, false);
  if (run(conn, &conn->commit, "commit", op, error) == MB_ERROR)
    return MB_ERROR;
  end_read_only(conn);
  return MB_DONE;
}

mb_status sl_rollback(mb_driver_conn *conn, mb_op *op, mb_error *error)
{
  sl_expect_files(conn, op, false);
  if (sqlite3_get_autocommit(conn->db) == 0 &&
      run(conn, &conn->rollback, "rollback", op, error) == MB_ERROR)
    return MB_ERROR;
  end_read_only(conn);
  return MB_DONE;
}

void sl_close_transaction_statements(mb_driver_conn *conn)
{
  for (size_t i = 0; i < sizeof conn->begin / sizeof conn->begin[0]; i++)
    (void)sqlite3_finalize(conn->begin[i]);
  (void)sqlite3_finalize(conn->commit);
  (void)sqlite3_finalize(conn->rollback);
}
