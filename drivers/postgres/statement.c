/*
 * statement.c: running and reading.
 *
 * A text that runs once goes as it is, in one trip; with its second run it is
 * prepared by a name, in the same trip, and from the third on its types are
 * known, so that values travel in binary form.
 */
#include "postgres.h"

#include <string.h>

/* --- Life --------------------------------------------------------------- */

mb_driver_stmt *pg_make_statement(
    mb_driver_conn *conn, pg_source source, mb_error *error)
{
  mb_driver_stmt *stmt = conn->host->allocate(sizeof *stmt);
  if (stmt == NULL) {
    (void)pg_out_of_memory(conn->host, error);
    return NULL;
  }
  *stmt = (mb_driver_stmt){.conn = conn,
      .source = source,
      .wide = true,
      .row_texts = {.host = conn->host}};
  return stmt;
}

static mb_status keep_text(mb_driver_stmt *stmt, const char *sql, size_t size,
    bool transfers, mb_error *error)
{
  if (transfers) {
    stmt->source = PG_SOURCE_LOAD;
    return pg_prepare_load(stmt, sql, size, error);
  }
  stmt->sql = stmt->conn->host->allocate(size + 1);
  if (stmt->sql == NULL)
    return pg_out_of_memory(stmt->conn->host, error);
  memcpy(stmt->sql, sql, size);
  stmt->sql[size] = '\0';
  stmt->size = size;
  return MB_OK;
}

mb_status pg_prepare(mb_driver_conn *conn, const char *sql, size_t size,
    mb_driver_stmt **out, mb_prepared *prepared, mb_op *op, mb_error *error)
{
  const pg_judgement judgement = pg_judge(sql, size);
  (void)op;
  *prepared = (mb_prepared){.n_parameters = -1, .empty = judgement.empty};
  if (judgement.empty)
    return MB_DONE;
  if (judgement.is_too_much)
    return pg_refuse_parameters(conn->host, error);
  mb_driver_stmt *stmt = pg_make_statement(conn, PG_SOURCE_SQL, error);
  if (stmt == NULL)
    return MB_ERROR;
  if (keep_text(stmt, sql, size, judgement.is_transfer, error) != MB_OK) {
    pg_close_statement(stmt);
    return MB_ERROR;
  }
  stmt->is_query = judgement.is_query;
  stmt->is_copy = judgement.is_copy;
  stmt->is_huge = judgement.is_huge;
  stmt->is_commit = judgement.is_commit;
  prepared->reads_only = judgement.reads_only;
  prepared->changes_session = judgement.changes_session;
  *out = stmt;
  return MB_DONE;
}

void pg_clear_rows(mb_driver_stmt *stmt)
{
  PQclear(stmt->rows);
  stmt->rows = NULL;
  stmt->row_at = stmt->n_rows = 0;
}

void pg_close_statement(mb_driver_stmt *stmt)
{
  mb_driver_conn *conn = stmt->conn;
  const mb_host *host = conn->host;
  pg_drop_prepared(stmt);
  pg_disown_parts(conn, stmt);
  if (conn->request.stmt == stmt) {
    /* In the middle of a run: the connection is about to be closed. */
    conn->request.stmt = NULL;
    conn->request.discard = true;
    conn->request.result = NULL;
    conn->request.row = NULL;
    conn->request.text = NULL;
  }
  if (conn->current == stmt)
    conn->current = NULL;
  pg_clear_rows(stmt);
  pg_arena_free(&stmt->row_texts);
  host->release(stmt->sql);
  host->release(stmt->load);
  host->release((void *)stmt->types);
  host->release(stmt->type_oids);
  host->release(stmt->columns);
  host->release((void *)stmt->column_types);
  host->release(stmt->column_oids);
  host->release(stmt->column_texts);
  host->release(stmt);
}

/* --- Running ------------------------------------------------------------ */

/* Adds the part that runs the text without a name. */
static mb_status send_text(
    mb_driver_stmt *stmt, const pg_params *params, mb_error *error)
{
  mb_driver_conn *conn = stmt->conn;
  return pg_add_part(conn,
      PQsendQueryParams(conn->pq, stmt->sql, params->n,
          stmt->described ? stmt->type_oids : params->types, params->values,
          params->lengths, params->formats, 0),
      PG_PART_RUN, error);
}

static mb_status send_prepared(
    mb_driver_stmt *stmt, const pg_params *params, mb_error *error)
{
  mb_driver_conn *conn = stmt->conn;
  const bool binary = stmt->described && stmt->binary;
  return pg_add_part(conn,
      PQsendQueryPrepared(conn->pq, stmt->name, params->n, params->values,
          params->lengths, params->formats, binary),
      PG_PART_RUN, error);
}

/* Prepares and runs in one trip; the types are known behind it. */
static mb_status send_both(
    mb_driver_stmt *stmt, const pg_params *params, mb_error *error)
{
  if (pg_send_prepare(stmt, params->n, params->types, error) != MB_OK)
    return MB_ERROR;
  return send_prepared(stmt, params, error);
}

/* Whether it goes as a text: the first time, and where nothing is kept. */
static bool goes_unprepared(const mb_driver_stmt *stmt)
{
  return !stmt->prepared && (!stmt->was_run || !pg_may_keep(stmt));
}

/* A statement's own types are what its values are written as. */
static mb_status check_count(const mb_driver_stmt *stmt, mb_error *error)
{
  if (!stmt->described || stmt->n_types == stmt->n_params)
    return MB_OK;
  return stmt->conn->host->fail(error, MB_USAGE,
      "the statement has %zu parameters, but %zu were given", stmt->n_types,
      stmt->n_params);
}

mb_status pg_write_run(mb_driver_stmt *stmt, pg_params *out, mb_error *error)
{
  mb_driver_conn *conn = stmt->conn;
  pg_arena_clear(&conn->sending);
  return pg_write_params(conn, stmt->described ? stmt->types : NULL,
      stmt->params, stmt->n_params, out, error);
}

mb_status pg_queue_run(
    mb_driver_stmt *stmt, const pg_params *params, mb_error *error)
{
  mb_status status = MB_OK;
  if (stmt->name[0] != '\0' || stmt->prepared)
    status = send_prepared(stmt, params, error);
  else if (goes_unprepared(stmt))
    status = send_text(stmt, params, error);
  else
    status = send_both(stmt, params, error);
  if (status == MB_OK)
    stmt->was_run = true;
  return status;
}

static mb_status run(mb_driver_conn *conn, mb_op *op, mb_error *error)
{
  mb_driver_stmt *stmt = conn->current;
  pg_params params;
  if (check_count(stmt, error) != MB_OK ||
      pg_write_run(stmt, &params, error) != MB_OK ||
      pg_begin_request(
          conn, !stmt->prepared && !goes_unprepared(stmt), error) != MB_OK)
    return MB_ERROR;
  conn->request.stmt = stmt;
  conn->request.text = stmt->sql;
  conn->request.result = stmt->result;
  if (pg_queue_run(stmt, &params, error) != MB_OK)
    return MB_ERROR;
  stmt->running = true;
  conn->streaming = stmt;
  return pg_end_request(conn, op, error);
}

/* A text that means something else to a bytea than to others is written only
 * once the type is known. */
static mb_status ask_first(mb_driver_stmt *stmt, mb_op *op, mb_error *error)
{
  mb_driver_conn *conn = stmt->conn;
  if (!pg_may_prepare(conn) &&
      pg_transaction_state(conn) != MB_TRANSACTION_ACTIVE)
    return conn->host->fail(error, MB_USAGE,
        "a text with a backslash, or one that is not UTF-8, may be meant as "
        "bytes: without prepared statements give moonbase.blob, write a cast, "
        "or run it in a transaction");
  return pg_ask_types(stmt, run, op, error);
}

/* As many runs as are kept back in a pipeline. */
#define QUEUED_MAX 32

/* Adds a run to the pipeline that is open. */
static mb_status queue(mb_driver_stmt *stmt, mb_op *op, mb_error *error)
{
  pg_params params;
  if (check_count(stmt, error) != MB_OK)
    return MB_ERROR;
  if (!stmt->described && !stmt->is_huge &&
      pg_wants_types(stmt->params, stmt->n_params))
    return pg_queue_described(stmt, op, error);
  stmt->conn->request.stmt = stmt;
  if (pg_write_run(stmt, &params, error) != MB_OK ||
      pg_reserve_parts(stmt->conn, error) != MB_OK ||
      pg_queue_run(stmt, &params, error) != MB_OK)
    return MB_ERROR;
  /* The server has something to do while further ones are added. */
  return stmt->conn->request.n_parts % QUEUED_MAX == 0 &&
                 PQflush(stmt->conn->pq) < 0
             ? pg_fail_lost(stmt->conn, error)
             : MB_DONE;
}

mb_status pg_execute(mb_driver_stmt *stmt, const mb_value *params, size_t n,
    const mb_execute_options *options, mb_result *result, mb_op *op,
    mb_error *error)
{
  mb_driver_conn *conn = stmt->conn;
  if (stmt->source == PG_SOURCE_LOAD)
    return conn->host->fail(error, MB_USAGE,
        "COPY from the program takes many rows at once: see copy_from of "
        "moonbase.postgres, and bulk_insert");
  stmt->result = result;
  stmt->params = params;
  stmt->n_params = n;
  stmt->fetch_size = options != NULL ? options->fetch_size : 0;
  /* A cursor that an error has ended is left to its transaction. */
  stmt->declared = stmt->cursor_at_end = false;
  pg_clear_rows(stmt);
  conn->current = stmt;
  if (stmt->epoch != conn->names_epoch ||
      (stmt->name[0] != '\0' && !pg_may_keep(stmt)))
    pg_forget_prepared(stmt);
  if (stmt->described && stmt->n_types == n &&
      !pg_takes(stmt->types, params, n))
    pg_drop_prepared(stmt);
  if (conn->request.stepwise)
    return queue(stmt, op, error);
  pg_step *first =
      stmt->fetch_size > 0 && stmt->is_query ? pg_open_cursor : run;
  if (stmt->is_copy && pg_has_queue(conn))
    return pg_flush_queue(conn, first, op, error);
  if (!stmt->described && first == run && !stmt->is_huge &&
      pg_wants_types(params, n))
    return ask_first(stmt, op, error);
  return first(conn, op, error);
}

/* --- Reading ------------------------------------------------------------ */

bool pg_give_row(mb_driver_stmt *stmt, mb_value *row)
{
  const PGresult *rows = stmt->rows;
  const int at = stmt->row_at++;
  const int n = (int)stmt->n_columns;
  pg_arena_clear(&stmt->row_texts);
  for (int i = 0; i < n; i++) {
    const int size = PQgetlength(rows, at, i);
    if (size == 0 && PQgetisnull(rows, at, i)) {
      row[i].tag = MB_NULL;
      continue;
    }
    if (!pg_read_value(stmt->column_types[i], stmt->is_binary,
            PQgetvalue(rows, at, i), (size_t)size, &stmt->row_texts, &row[i])) {
      stmt->conn->request.unread = stmt->row_texts.refused ? 0 : (size_t)i + 1;
      return false;
    }
  }
  return true;
}

mb_status pg_fetch(
    mb_driver_stmt *stmt, mb_value *row, mb_op *op, mb_error *error)
{
  mb_driver_conn *conn = stmt->conn;
  if (stmt->source != PG_SOURCE_SQL)
    return pg_fetch_special(stmt, row, op, error);
  if (stmt->row_at < stmt->n_rows) {
    if (pg_give_row(stmt, row))
      return MB_ROW;
    /* What it has left goes with its transaction. */
    if (stmt->declared)
      return pg_fail_row(conn, error);
    conn->request.broken = conn->request.discard = true;
  }
  pg_clear_rows(stmt);
  if (stmt->declared)
    return pg_fetch_cursor(stmt, row, op, error);
  conn->request.row = row;
  conn->step = pg_read_request;
  return pg_read_request(conn, op, error);
}

/* --- Ending early ------------------------------------------------------- */

/* A plain read that has failed since has not changed anything. */
static mb_status ended(mb_driver_conn *conn, mb_op *op, mb_error *error)
{
  const mb_status status = pg_read_request(conn, op, error);
  if (status == MB_WAIT)
    conn->step = ended;
  if (status != MB_ERROR || conn->dead || conn->in_transaction)
    return status;
  return MB_DONE;
}

mb_status pg_finish(
    mb_driver_stmt *stmt, mb_finish_mode mode, mb_op *op, mb_error *error)
{
  mb_driver_conn *conn = stmt->conn;
  pg_clear_rows(stmt);
  if (stmt->source != PG_SOURCE_SQL)
    return pg_finish_special(stmt, op, error);
  if (stmt->declared)
    return pg_close_cursor(stmt, op, error);
  if (!stmt->running)
    return MB_DONE;
  pg_request *request = &conn->request;
  request->discard = true;
  request->row = NULL;
  if (mode != MB_FINISH_CANCEL) {
    conn->step = pg_read_request;
    return pg_read_request(conn, op, error);
  }
  request->may_ask = !conn->in_transaction;
  request->rows = 0;
  conn->step = ended;
  return ended(conn, op, error);
}

/* --- Texts -------------------------------------------------------------- */

mb_status pg_exec_text(mb_driver_conn *conn, const char *sql, size_t size,
    mb_result *result, mb_op *op, mb_error *error)
{
  char *text = pg_arena_take(&conn->sending, size + 1);
  if (text == NULL)
    return pg_out_of_memory(conn->host, error);
  memcpy(text, sql, size);
  text[size] = '\0';
  return pg_run_text(conn, text, result, NULL, op, error);
}
