/*
 * statement.c: preparing, running, reading.
 *
 * A statement stays prepared between its runs; SQLite prepares it anew by
 * itself when the schema has changed, and then its columns are read again.
 */
#include "sqlite.h"

#include <limits.h>
#include <string.h>

/* What may be done on the thread of an event loop, without a look from inside.
 */
#define QUICK_NS INT64_C(100000)

/* --- Preparing ---------------------------------------------------------- */

/* Whether an insert's id is SQLite's rowid is to be found out. */
static void forget_rowid(mb_driver_stmt *stmt)
{
  stmt->rowid_known = !stmt->inserts || stmt->upserts;
}

/* Its id is, but in a view, and in a table WITHOUT ROWID. */
static void find_rowid(mb_driver_stmt *stmt)
{
  const int code =
      stmt->table[0] == '\0'
          ? SQLITE_OK
          : sqlite3_table_column_metadata(stmt->conn->db,
                stmt->schema[0] != '\0' ? stmt->schema : NULL, stmt->table,
                "rowid", NULL, NULL, NULL, NULL, NULL);
  stmt->rowid_known = code != SQLITE_NOMEM;
  stmt->has_rowid = code == SQLITE_OK;
}

static void note_sight(mb_driver_stmt *stmt, const sl_sight *sight)
{
  stmt->names_journal = sight->names_journal;
  stmt->asks_files = sight->asks_files;
  stmt->ends_transaction = sight->ends_transaction;
  stmt->is_blind = sight->counts;
  stmt->inserts = sight->inserts;
  stmt->upserts = sight->inserts && sight->updates;
  memcpy(stmt->table, sight->table, sizeof stmt->table);
  memcpy(stmt->schema, sight->schema, sizeof stmt->schema);
  forget_rowid(stmt);
}

mb_status sl_prepare(mb_driver_conn *conn, const char *sql, size_t size,
    mb_driver_stmt **out, mb_prepared *prepared, mb_op *op, mb_error *error)
{
  if (size > INT_MAX)
    return sl_fail(conn, SQLITE_TOOBIG, SL_PREPARING, error);
  mb_driver_stmt *stmt = conn->host->allocate(sizeof *stmt);
  if (stmt == NULL)
    return sl_out_of_memory(conn->host, error);
  *stmt = (mb_driver_stmt){.conn = conn, .kind = SL_SQL};

  const char *tail = NULL;
  sl_watch(conn, op);
  conn->sight = (sl_sight){.inserts = false};
  const int code = sqlite3_prepare_v3(
      conn->db, sql, (int)size, SQLITE_PREPARE_PERSISTENT, &stmt->stmt, &tail);
  if (code != SQLITE_OK || stmt->stmt == NULL) {
    conn->host->release(stmt);
    if (code != SQLITE_OK)
      return sl_fail(conn, code, SL_PREPARING, error);
    prepared->empty = true;
    return MB_DONE;
  }
  note_sight(stmt, &conn->sight);
  sl_take_busy_timeout(conn);
  stmt->n_parameters = sqlite3_bind_parameter_count(stmt->stmt);
  stmt->reads_only = sqlite3_stmt_readonly(stmt->stmt) != 0;
  stmt->is_blind |= !stmt->reads_only;
  *prepared = (mb_prepared){
      .consumed = (size_t)(tail - sql),
      .n_parameters = stmt->n_parameters,
      .reads_only = stmt->reads_only,
      .changes_session = conn->sight.changes_session,
      .returns_rows = sqlite3_column_count(stmt->stmt) > 0,
  };
  *out = stmt;
  return MB_DONE;
}

static void give_columns(mb_driver_stmt *stmt, mb_result *result)
{
  result->columns = stmt->columns;
  result->n_columns = stmt->n_columns;
  result->columns_serial = stmt->columns_serial;
}

mb_status sl_describe(mb_driver_stmt *stmt, mb_prepared *prepared,
    mb_result *result, mb_op *op, mb_error *error)
{
  (void)prepared;
  (void)op;
  if (stmt->columns_serial == 0 && sl_read_columns(stmt, error) != MB_OK)
    return MB_ERROR;
  give_columns(stmt, result);
  return MB_DONE;
}

/* --- Running ------------------------------------------------------------ */

/* Sees every row that an upsert touches. */
static void on_update(void *argument, int action, const char *schema,
    const char *table, sqlite3_int64 rowid)
{
  mb_driver_conn *conn = argument;
  (void)schema;
  if (action == SQLITE_INSERT && conn->hooked != NULL &&
      (conn->hooked->table[0] == '\0' ||
          sqlite3_stricmp(table, conn->hooked->table) == 0)) {
    conn->hook_inserted = true;
    conn->hook_rowid = rowid;
  }
}

/* Finds out before the run what is wanted of it, while it can still fail
 * without having changed anything. */
static mb_status look_ahead(mb_driver_stmt *stmt, mb_error *error)
{
  if (stmt->columns_serial == 0 && sl_read_columns(stmt, error) != MB_OK)
    return MB_ERROR;
  if (!stmt->rowid_known)
    find_rowid(stmt);
  return stmt->rowid_known ? MB_OK : sl_out_of_memory(stmt->conn->host, error);
}

static void hook(mb_driver_stmt *stmt)
{
  stmt->conn->hooked = stmt;
  stmt->conn->hook_inserted = false;
  (void)sqlite3_update_hook(stmt->conn->db, on_update, stmt->conn);
}

static void unhook(mb_driver_conn *conn)
{
  conn->hooked = NULL;
  (void)sqlite3_update_hook(conn->db, NULL, NULL);
}

static void note_id(mb_driver_stmt *stmt, mb_result *result)
{
  mb_driver_conn *conn = stmt->conn;
  if (stmt->upserts) {
    result->has_last_id = conn->hook_inserted;
    result->last_id = conn->hook_rowid;
    return;
  }
  if (!stmt->rowid_known)
    find_rowid(stmt); /* it was prepared anew since */
  result->has_last_id = stmt->has_rowid;
  if (stmt->has_rowid)
    result->last_id = sqlite3_last_insert_rowid(conn->db);
}

static void note_totals(mb_driver_stmt *stmt, mb_result *result)
{
  mb_driver_conn *conn = stmt->conn;
  if (stmt->reads_only) {
    result->affected = stmt->n_columns > 0 ? -1 : 0;
    return;
  }
  /* Statements that are no insert, update or delete leave the count of the last
   * one that was. */
  result->affected = 0;
  if (sqlite3_total_changes64(conn->db) != stmt->changes_before) {
    result->affected = sqlite3_changes64(conn->db);
    if (stmt->inserts && result->affected > 0)
      note_id(stmt, result);
  }
}

/* Makes the statement ready for its next run, and answers as SQLite does. */
static int reset(mb_driver_stmt *stmt)
{
  mb_driver_conn *conn = stmt->conn;
  stmt->running = false;
  conn->discarding = true;
  const int code = sqlite3_reset(stmt->stmt);
  conn->discarding = false;
  return code;
}

/* What is left to do after the reset. */
static void leave_run(mb_driver_stmt *stmt)
{
  mb_driver_conn *conn = stmt->conn;
  if (conn->sight.sets_busy_timeout)
    sl_take_busy_timeout(conn);
  if (conn->hooked == stmt)
    unhook(conn);
  conn->op = NULL;
}

/* Ends a run that SQLite has failed with code. */
static mb_status fail_run(mb_driver_stmt *stmt, int code, mb_error *error)
{
  (void)sl_fail(stmt->conn, code, SL_RUNNING, error);
  (void)reset(stmt);
  if (error->class == MB_CONSTRAINT)
    sl_name_constraint(stmt->conn, error);
  leave_run(stmt);
  return MB_ERROR;
}

/* Ends a run that has come to its end, or is left early. */
static inline mb_status end_run(mb_driver_stmt *stmt, mb_error *error)
{
  const int code = reset(stmt);
  if (code != SQLITE_OK)
    return fail_run(stmt, code, error);
  /* Here, since a run that is left early is counted by the reset. */
  note_totals(stmt, stmt->result);
  leave_run(stmt);
  return MB_DONE;
}

/* Ends a run whose row, or columns, there is no memory for. */
static mb_status abandon_run(mb_driver_stmt *stmt, mb_error *error)
{
  mb_error ignored;
  if (stmt->running)
    (void)fail_run(stmt, SQLITE_NOMEM, &ignored);
  return sl_out_of_memory(stmt->conn->host, error);
}

/* What a function of the program has met is told in its own words. */
static mb_status report_callback(
    mb_driver_stmt *stmt, int code, mb_error *error)
{
  mb_driver_conn *conn = stmt->conn;
  const bool done = code == SQLITE_ROW || code == SQLITE_DONE;
  mb_error ignored;
  (void)fail_run(stmt, done ? SQLITE_ERROR : code, &ignored);
  /* A write that a wrong order went into cannot be undone alone. */
  if (done && !stmt->reads_only && sqlite3_get_autocommit(conn->db) == 0)
    (void)sqlite3_exec(conn->db, "rollback", NULL, NULL, NULL);
  *error = conn->callback_error;
  return MB_ERROR;
}

static inline mb_status take_step(mb_driver_stmt *stmt, mb_error *error)
{
  const int code = sqlite3_step(stmt->stmt);
  if (stmt->conn->callback_failed && sl_callback_failed(stmt->conn, code))
    return report_callback(stmt, code, error);
  if (code == SQLITE_ROW)
    return MB_ROW;
  return code == SQLITE_DONE ? end_run(stmt, error)
                             : fail_run(stmt, code, error);
}

/* SQLite has prepared the statement anew: its columns, and the id of what it
 * has inserted, are perhaps others. */
static mb_status follow_schema(mb_driver_stmt *stmt, mb_error *error)
{
  forget_rowid(stmt);
  return sl_read_columns(stmt, error) == MB_OK ? MB_OK
                                               : abandon_run(stmt, error);
}

/* SQLite tells a text that has become wrong, because its table has gone, from
 * what a run meets only where the text is prepared. */
static void judge_text(const mb_driver_stmt *stmt, mb_error *error)
{
  mb_driver_conn *conn = stmt->conn;
  sqlite3_stmt *again = NULL;
  const int code =
      sqlite3_prepare_v2(conn->db, sqlite3_sql(stmt->stmt), -1, &again, NULL);
  if (code == SQLITE_ERROR)
    (void)sl_fail(conn, code, SL_PREPARING, error);
  (void)sqlite3_finalize(again);
}

/* What is to be done elsewhere from its start: what writes to files or asks for
 * them, and what took long or may, without a look from inside. */
static void leave_loop(mb_driver_stmt *stmt, mb_op *op)
{
  mb_driver_conn *conn = stmt->conn;
  const bool commits =
      !stmt->reads_only && sqlite3_get_autocommit(conn->db) != 0;
  if (commits || stmt->asks_files || stmt->ends_transaction)
    sl_expect_files(conn, op, commits || stmt->asks_files);
  if (stmt->is_blind && !stmt->is_quick)
    sl_make_way(conn, op, true);
}

/* The first step of a run, which does most of the work. */
static mb_status take_first_step(
    mb_driver_stmt *stmt, mb_op *op, mb_error *error)
{
  const mb_host *host = stmt->conn->host;
  if (!op->in_loop)
    return take_step(stmt, error);
  leave_loop(stmt, op);
  if (!stmt->is_blind)
    return take_step(stmt, error);
  const int64_t start_ns = host->now_ns();
  const mb_status status = take_step(stmt, error);
  stmt->is_quick = host->now_ns() - start_ns < QUICK_NS;
  return status;
}

mb_status sl_execute(mb_driver_stmt *stmt, const mb_value *params, size_t n,
    const mb_execute_options *options, mb_result *result, mb_op *op,
    mb_error *error)
{
  mb_driver_conn *conn = stmt->conn;
  (void)options;
  stmt->result = result;
  if ((conn->query_only && sl_settle_session(conn, error) != MB_DONE) ||
      ((stmt->columns_serial == 0 || !stmt->rowid_known) &&
          look_ahead(stmt, error) != MB_OK) ||
      sl_bind(conn, stmt->stmt, params, n, error) != MB_OK)
    return MB_ERROR;
  sl_watch(conn, op);
  if (!stmt->reads_only) {
    stmt->changes_before = sqlite3_total_changes64(conn->db);
    if (conn->wal == SL_WAL_WANTED && !stmt->names_journal &&
        sqlite3_get_autocommit(conn->db) != 0) {
      sl_expect_files(conn, op, true);
      sl_want_wal(conn);
    }
    if (stmt->upserts)
      hook(stmt);
  }
  stmt->running = true;
  const mb_status status = take_first_step(stmt, op, error);
  if (status == MB_ERROR && error->native_code == SQLITE_ERROR)
    judge_text(stmt, error);
  if (status != MB_ERROR &&
      stmt->reprepared !=
          sqlite3_stmt_status(stmt->stmt, SQLITE_STMTSTATUS_REPREPARE, 0) &&
      follow_schema(stmt, error) != MB_OK)
    return MB_ERROR;
  give_columns(stmt, result);
  stmt->first_row = status == MB_ROW;
  return status;
}

/* What the declared types of columns make of their values. */
static void interpret(const mb_driver_stmt *stmt, mb_value *row)
{
  for (size_t i = 0; i < stmt->n_columns; i++) {
    if (stmt->booleans[i] && row[i].tag == MB_INT64 &&
        (row[i].as.integer == 0 || row[i].as.integer == 1))
      row[i].tag = MB_BOOL;
    else if (row[i].tag == MB_TEXT && stmt->columns[i].tag == MB_JSON)
      row[i].tag = MB_JSON;
  }
}

static mb_status read_row(mb_driver_stmt *stmt, mb_value *row, mb_error *error)
{
  const int n = (int)stmt->n_columns;
  for (int i = 0; i < n; i++)
    if (!sl_read(sqlite3_column_value(stmt->stmt, i), &row[i]))
      return abandon_run(stmt, error);
  if (!stmt->is_plain)
    interpret(stmt, row);
  return MB_ROW;
}

/* A write by itself commits with its end. */
static void expect_commit(const mb_driver_stmt *stmt, mb_op *op)
{
  if (op->in_loop && sqlite3_get_autocommit(stmt->conn->db) != 0)
    sl_expect_files(stmt->conn, op, true);
}

mb_status sl_fetch(
    mb_driver_stmt *stmt, mb_value *row, mb_op *op, mb_error *error)
{
  if (stmt->kind != SL_SQL)
    return stmt->kind == SL_BACKUP ? sl_fetch_backup(stmt, row, op, error)
                                   : sl_fetch_blob(stmt, row);
  if (!stmt->first_row) {
    sl_watch(stmt->conn, op);
    if (!stmt->reads_only)
      expect_commit(stmt, op);
    const mb_status status = take_step(stmt, error);
    if (status != MB_ROW)
      return status;
  }
  stmt->first_row = false;
  return read_row(stmt, row, error);
}

mb_status sl_finish(
    mb_driver_stmt *stmt, mb_finish_mode mode, mb_op *op, mb_error *error)
{
  (void)mode;
  if (stmt->kind == SL_BACKUP)
    sl_close_backup(stmt, false);
  if (stmt->kind != SL_SQL || !stmt->running)
    return MB_DONE;
  /* SQLite does all changes with the first step; a reset keeps them. */
  sl_watch(stmt->conn, op);
  if (!stmt->reads_only)
    expect_commit(stmt, op);
  return end_run(stmt, error);
}

void sl_close_statement(mb_driver_stmt *stmt)
{
  const mb_host *host = stmt->conn->host;
  if (stmt->conn->hooked == stmt)
    unhook(stmt->conn);
  sl_close_backup(stmt, false);
  stmt->conn->discarding = true;
  (void)sqlite3_finalize(stmt->stmt);
  stmt->conn->discarding = false;
  host->release(stmt->bytes);
  host->release(stmt->columns);
  host->release(stmt->booleans);
  host->release(stmt->column_texts);
  host->release(stmt);
}

mb_status sl_exec_text(mb_driver_conn *conn, const char *sql, size_t size,
    mb_result *result, mb_op *op, mb_error *error)
{
  mb_driver_stmt *stmt = NULL;
  mb_prepared prepared = {.empty = false};
  mb_status status = sl_prepare(conn, sql, size, &stmt, &prepared, op, error);
  if (status == MB_ERROR || stmt == NULL)
    return status;
  status = sl_execute(stmt, NULL, 0, NULL, result, op, error);
  if (status == MB_ROW)
    status = sl_finish(stmt, MB_FINISH_DRAIN, op, error);
  sl_close_statement(stmt);
  *result = (mb_result){.affected = result->affected};
  return status;
}
