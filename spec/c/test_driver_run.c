/* test_driver_run.c: statements, their runs, and the words that do something.
 */
#include "test_driver_parts.h"

#include <stdio.h>
#include <string.h>

#define MAGIC 0x57a7e3e7u

/* --- Performing --------------------------------------------------------- */

static mb_status refuse(
    mb_driver_conn *conn, mb_class class, const char *message, mb_error *error)
{
  conn->host->fail(error, class, "%s", message);
  if (td.aborts)
    conn->session.failed = conn->session.active;
  return MB_ERROR;
}

static mb_status commit(mb_driver_conn *conn, mb_result *result)
{
  const bool failed = conn->session.failed;
  td_server_commit(&conn->session);
  if (result != NULL && failed)
    (void)snprintf(result->tag, sizeof result->tag, "ROLLBACK");
  return MB_DONE;
}

static void tell(mb_driver_conn *conn, const td_program *program)
{
  const mb_event event = {
      .kind = MB_EVENT_NOTICE, .name = "notice", .text = program->name};
  conn->host->event(conn->owner, &event);
}

static void put(mb_driver_conn *conn, const td_program *program,
    const mb_value *params, mb_result *result)
{
  const int64_t value = program->n >= 0 ? program->n : params[0].as.integer;
  td_put(&conn->session, value);
  result->affected = 1;
  result->last_id = value;
  result->has_last_id = true;
}

mb_status td_perform(mb_driver_conn *conn, const td_program *program,
    const mb_value *params, mb_result *result, mb_error *error)
{
  td_session *session = &conn->session;
  const bool ends = program->verb == TD_SQL_COMMIT ||
                    program->verb == TD_SQL_ROLLBACK ||
                    program->verb == TD_SQL_ROLLBACK_TO;
  if (session->failed && !ends)
    return refuse(conn, MB_ENGINE, "the transaction is aborted", error);
  switch (program->verb) {
  case TD_PUT:
    put(conn, program, params, result);
    break;
  case TD_AFFECTED:
    result->affected = program->n;
    break;
  case TD_SESSION:
    conn->changed = true;
    break;
  case TD_NOTICE:
    tell(conn, program);
    break;
  case TD_SQL_BEGIN:
    if (session->active)
      return refuse(conn, MB_ENGINE, "a transaction is open", error);
    td_server_begin(session);
    break;
  case TD_SQL_COMMIT:
    return commit(conn, result);
  case TD_SQL_ROLLBACK:
    td_server_rollback(session);
    break;
  case TD_SQL_SAVEPOINT:
    td_server_savepoint(session, program->name);
    break;
  case TD_SQL_RELEASE:
    if (!td_server_release(session, program->name))
      return refuse(conn, MB_ENGINE, "no such savepoint", error);
    break;
  case TD_SQL_ROLLBACK_TO:
    if (!td_server_rollback_to(session, program->name))
      return refuse(conn, MB_ENGINE, "no such savepoint", error);
    break;
  default:
    break;
  }
  return MB_DONE;
}

/* --- Columns ------------------------------------------------------------ */

static size_t wanted_columns(const mb_driver_stmt *stmt)
{
  switch (stmt->program.verb) {
  case TD_ROWS:
    return (size_t)(stmt->program.columns + stmt->result_number);
  case TD_ECHO:
    return stmt->program.n_parameters;
  case TD_COUNT:
    return 1;
  default:
    return stmt->program.returning;
  }
}

static void free_columns(mb_driver_stmt *stmt)
{
  stmt->conn->host->release(stmt->columns);
  stmt->conn->host->release(stmt->names);
  stmt->columns = NULL;
  stmt->names = NULL;
  stmt->n_columns = 0;
}

static mb_status make_columns(mb_driver_stmt *stmt, mb_error *error)
{
  const mb_host *host = stmt->conn->host;
  const size_t n = wanted_columns(stmt);
  if (stmt->columns != NULL && stmt->n_columns == n)
    return MB_OK;
  free_columns(stmt);
  stmt->columns = host->allocate((n + 1) * sizeof *stmt->columns);
  stmt->names = host->allocate((n + 1) * sizeof *stmt->names);
  if (stmt->columns == NULL || stmt->names == NULL) {
    free_columns(stmt);
    return td_out_of_memory(host, error);
  }
  for (size_t i = 0; i < n; i++) {
    (void)snprintf(stmt->names[i], sizeof stmt->names[i], "c%u", (unsigned)i);
    stmt->columns[i] =
        (mb_column){.name = stmt->names[i], .tag = MB_NULL, .nullable = -1};
  }
  stmt->n_columns = n;
  stmt->serial++;
  return MB_OK;
}

static mb_status give_columns(
    mb_driver_stmt *stmt, mb_result *result, mb_error *error)
{
  if (make_columns(stmt, error) != MB_OK)
    return MB_ERROR;
  result->columns = stmt->columns;
  result->n_columns = stmt->n_columns;
  result->columns_serial = stmt->serial;
  return MB_OK;
}

/* --- What the core has lent --------------------------------------------- */

static uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t size)
{
  const unsigned char *at = bytes;
  for (size_t i = 0; i < size; i++)
    hash = (hash ^ at[i]) * UINT64_C(1099511628211);
  return hash;
}

static uint64_t hash_values(const mb_value *values, size_t n)
{
  uint64_t hash = 14695981039346656037u;
  for (size_t i = 0; i < n; i++) {
    hash = hash_bytes(hash, &values[i].tag, sizeof values[i].tag);
    if (values[i].tag >= MB_TEXT && values[i].tag <= MB_OTHER)
      hash = hash_bytes(hash, values[i].as.bytes.data, values[i].as.bytes.size);
    else if (values[i].tag != MB_NULL)
      hash =
          hash_bytes(hash, &values[i].as.integer, sizeof values[i].as.integer);
  }
  return hash;
}

void td_check_borrowed(const mb_driver_stmt *stmt)
{
  if (stmt->magic != MAGIC)
    td_breach("a statement that is closed");
  if (stmt->running && stmt->hash != hash_values(stmt->params, stmt->n_params))
    td_breach("the parameters of a run have changed");
}

static void check_run(
    const mb_driver_stmt *stmt, size_t n, const mb_result *result)
{
  td_check_borrowed(stmt);
  if (stmt->lost)
    td_breach("a run of a statement that the server does not know");
  if (stmt->running)
    td_breach("a run of a statement that runs");
  if (n != stmt->program.n_parameters)
    td_breach("%zu parameters for %zu", n, stmt->program.n_parameters);
  if (result->affected != -1 || result->has_last_id || result->more_results ||
      result->warnings != 0 || result->tag[0] != '\0')
    td_breach("a result with totals of another run");
}

/* --- Preparing ---------------------------------------------------------- */

static mb_driver_stmt *make_statement(
    mb_driver_conn *conn, const td_program *program)
{
  mb_driver_stmt *stmt = conn->host->allocate(sizeof *stmt);
  if (stmt == NULL)
    return NULL;
  *stmt = (mb_driver_stmt){.magic = MAGIC,
      .conn = conn,
      .program = *program,
      .next = conn->statements};
  if (stmt->next != NULL)
    stmt->next->prev = stmt;
  conn->statements = stmt;
  td_count_statement(1);
  return stmt;
}

void td_free_statement(mb_driver_stmt *stmt)
{
  const mb_host *host = stmt->conn->host;
  if (stmt->prev != NULL)
    stmt->prev->next = stmt->next;
  else
    stmt->conn->statements = stmt->next;
  if (stmt->next != NULL)
    stmt->next->prev = stmt->prev;
  free_columns(stmt);
  host->release(stmt->text);
  memset(stmt, 0xDD, sizeof *stmt);
  host->release(stmt);
  td_count_statement(-1);
}

static mb_status end_prepare(mb_driver_conn *conn, mb_error *error)
{
  const td_flight *flight = &conn->flight;
  const td_program *program = &flight->program;
  if (program->empty) {
    flight->prepared->empty = true;
    return MB_DONE;
  }
  if (program->wrong_at != 0) {
    (void)refuse(conn, MB_SYNTAX, "syntax error", error);
    error->position = program->wrong_at;
    return MB_ERROR;
  }
  mb_driver_stmt *stmt = make_statement(conn, program);
  if (stmt == NULL)
    return td_out_of_memory(conn->host, error);
  *flight->prepared = (mb_prepared){
      .consumed = program->consumed,
      .n_parameters = td.tells_nothing ? -1 : (int)program->n_parameters,
      .reads_only = td_only_reads(program),
      .changes_session = program->verb == TD_SESSION,
      .returns_rows = td_gives_rows(program),
  };
  *flight->stmt_out = stmt;
  return MB_DONE;
}

/* What is known without asking the server. */
static mb_status defer_prepare(
    mb_driver_conn *conn, td_fault fault, mb_error *error)
{
  const td_flight *flight = &conn->flight;
  const td_program *program = &flight->program;
  if (program->empty)
    return end_prepare(conn, error);
  mb_driver_stmt *stmt = make_statement(conn, program);
  if (stmt == NULL)
    return td_out_of_memory(conn->host, error);
  *flight->prepared = (mb_prepared){.n_parameters = -1};
  if (program->wrong_at != 0)
    fault.class = MB_SYNTAX;
  td_queue(conn, MB_ORIGIN_PREPARE, fault, program->wrong_at, stmt);
  *flight->stmt_out = stmt;
  return MB_DONE;
}

mb_status td_prepare(mb_driver_conn *conn, const char *sql, size_t size,
    mb_driver_stmt **out, mb_prepared *prepared, mb_op *op, mb_error *error)
{
  const td_fault fault = td_enter(conn, TD_PREPARE, !td.defers_prepare);
  conn->flight = (td_flight){
      .stmt_out = out, .prepared = prepared, .program = td_read(sql, size)};
  if (td.defers_prepare)
    return td_leave(conn, defer_prepare(conn, fault, error));
  return td_start(conn, fault, true, end_prepare, op, error);
}

static mb_status end_describe(mb_driver_conn *conn, mb_error *error)
{
  td_flight *flight = &conn->flight;
  flight->prepared->n_parameters = (int)flight->stmt->program.n_parameters;
  if (!td_gives_rows(&flight->stmt->program))
    return MB_DONE;
  return give_columns(flight->stmt, flight->result, error);
}

mb_status td_describe(mb_driver_stmt *stmt, mb_prepared *prepared,
    mb_result *result, mb_op *op, mb_error *error)
{
  mb_driver_conn *conn = stmt->conn;
  const td_fault fault = td_enter(conn, TD_DESCRIBE, true);
  conn->flight =
      (td_flight){.stmt = stmt, .prepared = prepared, .result = result};
  return td_start(conn, fault, true, end_describe, op, error);
}

void td_close_statement(mb_driver_stmt *stmt)
{
  mb_driver_conn *conn = stmt->conn;
  const td_fault fault = td_enter(conn, TD_CLOSE_STATEMENT, false);
  td_check_borrowed(stmt);
  for (size_t i = 0; i < conn->n_queued; i++)
    if (conn->queue[i].stmt == stmt)
      conn->queue[i].stmt = NULL;
  td_pipeline_forget(stmt);
  td_free_statement(stmt);
  if (td.defers_close)
    td_queue(conn, MB_ORIGIN_CLOSE, fault, 0, NULL);
  (void)td_leave(conn, MB_DONE);
}

/* --- Running ------------------------------------------------------------ */

static mb_status end_run(mb_driver_stmt *stmt)
{
  stmt->running = false;
  if (stmt->program.verb != TD_PUT && stmt->result->affected < 0 &&
      !td_gives_rows(&stmt->program))
    stmt->result->affected = 0;
  (void)snprintf(stmt->result->tag, sizeof stmt->result->tag, "OK %u",
      (unsigned)stmt->result_number);
  return MB_DONE;
}

/* The result that begins has no rows, or gives them. */
static mb_status begin_result(mb_driver_stmt *stmt, mb_error *error)
{
  stmt->row = 0;
  if (!td_gives_rows(&stmt->program))
    return end_run(stmt);
  if (give_columns(stmt, stmt->result, error) != MB_OK)
    return MB_ERROR;
  stmt->running = true;
  return MB_ROW;
}

mb_status td_run_statement(mb_driver_stmt *stmt, const mb_value *params,
    size_t n, mb_result *result, mb_error *error)
{
  mb_driver_conn *conn = stmt->conn;
  if (stmt->lost)
    return refuse(conn, MB_ENGINE, "no such statement", error);
  stmt->result = result;
  stmt->result_number = 0;
  stmt->params = params;
  stmt->n_params = n;
  stmt->hash = hash_values(params, n);
  if (td_perform(conn, &stmt->program, params, result, error) == MB_ERROR)
    return MB_ERROR;
  return begin_result(stmt, error);
}

static mb_status end_execute(mb_driver_conn *conn, mb_error *error)
{
  const td_flight *flight = &conn->flight;
  return td_run_statement(
      flight->stmt, flight->params, flight->n, flight->result, error);
}

mb_status td_execute(mb_driver_stmt *stmt, const mb_value *params, size_t n,
    const mb_execute_options *options, mb_result *result, mb_op *op,
    mb_error *error)
{
  mb_driver_conn *conn = stmt->conn;
  (void)options;
  const bool queues = conn->pipeline.open;
  const td_fault fault = td_enter(conn, TD_EXECUTE, !queues);
  check_run(stmt, n, result);
  if (queues)
    return td_leave(conn, td_pipeline_add(stmt, params, n, fault, error));
  if (fault.flags & MB_STALE_STATEMENT)
    stmt->lost = true;
  conn->flight =
      (td_flight){.stmt = stmt, .params = params, .n = n, .result = result};
  return td_start(conn, fault, true, end_execute, op, error);
}

static mb_status end_execute_many(mb_driver_conn *conn, mb_error *error)
{
  const td_flight *flight = &conn->flight;
  mb_result sum = {.affected = 0};
  for (size_t i = 0; i < flight->rows; i++) {
    mb_result one = {.affected = -1};
    if (td_perform(conn, &flight->stmt->program, flight->params + i * flight->n,
            &one, error) == MB_ERROR) {
      error->row = (int64_t)i + 1;
      return MB_ERROR;
    }
    sum.affected += one.affected > 0 ? one.affected : 0;
    if (one.has_last_id && !sum.has_last_id) {
      sum.has_last_id = true;
      sum.last_id = one.last_id;
    }
  }
  flight->result->affected = sum.affected;
  flight->result->has_last_id = sum.has_last_id;
  flight->result->last_id = sum.last_id;
  return MB_DONE;
}

mb_status td_execute_many(mb_driver_stmt *stmt, const mb_value *params,
    size_t n, size_t rows, mb_result *result, mb_op *op, mb_error *error)
{
  mb_driver_conn *conn = stmt->conn;
  const td_fault fault = td_enter(conn, TD_EXECUTE_MANY, true);
  check_run(stmt, n, result);
  if (fault.flags & MB_STALE_STATEMENT)
    stmt->lost = true;
  conn->flight = (td_flight){
      .stmt = stmt, .params = params, .n = n, .rows = rows, .result = result};
  return td_start(conn, fault, true, end_execute_many, op, error);
}

/* --- Rows --------------------------------------------------------------- */

static mb_status fill_row(mb_driver_stmt *stmt, mb_value *row, mb_error *error)
{
  const mb_host *host = stmt->conn->host;
  const size_t room = 32;
  if (stmt->program.verb == TD_ECHO) {
    memcpy(row, stmt->params, stmt->n_params * sizeof *row);
    return MB_ROW;
  }
  /* Somewhere else each time, so that nobody can live on the last row. */
  char *text = host->allocate(room);
  if (text == NULL) {
    stmt->running = false;
    return td_out_of_memory(host, error);
  }
  host->release(stmt->text);
  stmt->text = text;
  (void)snprintf(text, room, "row %lld", (long long)stmt->row);
  for (size_t i = 0; i < stmt->n_columns; i++)
    row[i] = (mb_value){.tag = MB_INT64, .as.integer = stmt->row};
  if (stmt->program.verb == TD_COUNT)
    row[0].as.integer = td_visible(&stmt->conn->session);
  else if (stmt->program.verb == TD_PUT)
    row[0].as.integer = stmt->result->last_id;
  else if (stmt->n_columns > 1)
    row[1] = (mb_value){
        .tag = MB_TEXT, .as.bytes = {.data = text, .size = strlen(text)}};
  return MB_ROW;
}

static mb_status end_fetch(mb_driver_conn *conn, mb_error *error)
{
  mb_driver_stmt *stmt = conn->flight.stmt;
  const td_program *program = &stmt->program;
  const int64_t last = program->verb == TD_ROWS ? program->n : 1;
  if (++stmt->row == program->breaks) {
    stmt->running = false;
    return refuse(conn, MB_DATA, "a row is broken", error);
  }
  if (stmt->row <= last)
    return fill_row(stmt, conn->flight.row, error);
  const bool more = stmt->result_number + 1 < program->results;
  stmt->result->more_results = more;
  (void)end_run(stmt);
  stmt->running = more;
  return MB_DONE;
}

mb_status td_fetch(
    mb_driver_stmt *stmt, mb_value *row, mb_op *op, mb_error *error)
{
  mb_driver_conn *conn = stmt->conn;
  const td_fault fault = td_enter(conn, TD_FETCH, false);
  td_check_borrowed(stmt);
  if (!stmt->running || stmt->result->more_results)
    td_breach("fetch where there are no rows");
  conn->flight = (td_flight){.stmt = stmt, .row = row};
  if (td_fails(&fault))
    stmt->running = false;
  return td_start(conn, fault, false, end_fetch, op, error);
}

static mb_status end_next_result(mb_driver_conn *conn, mb_error *error)
{
  mb_driver_stmt *stmt = conn->flight.stmt;
  stmt->result_number++;
  return begin_result(stmt, error);
}

mb_status td_next_result(
    mb_driver_stmt *stmt, mb_result *result, mb_op *op, mb_error *error)
{
  mb_driver_conn *conn = stmt->conn;
  const td_fault fault = td_enter(conn, TD_NEXT_RESULT, false);
  td_check_borrowed(stmt);
  if (!stmt->running || result != stmt->result)
    td_breach("next_result where there is none");
  if (result->affected != -1 || result->more_results || result->tag[0] != '\0')
    td_breach("a result with totals of the one before");
  conn->flight = (td_flight){.stmt = stmt, .result = result};
  if (td_fails(&fault))
    stmt->running = false;
  return td_start(conn, fault, false, end_next_result, op, error);
}

static mb_status end_finish(mb_driver_conn *conn, mb_error *error)
{
  (void)error;
  conn->flight.stmt->running = false;
  return MB_DONE;
}

mb_status td_finish(
    mb_driver_stmt *stmt, mb_finish_mode mode, mb_op *op, mb_error *error)
{
  mb_driver_conn *conn = stmt->conn;
  td_fault fault = td_enter(conn, TD_FINISH, false);
  td_check_borrowed(stmt);
  if (td.asks && mode == MB_FINISH_CANCEL && fault.stall == TD_UNTIL_NOTHING) {
    fault.stall = td.waits == 0 ? TD_UNTIL_ASKED : TD_UNTIL_NOTHING;
    fault.ends_well = true;
  }
  if (mode == MB_FINISH_CANCEL && !td_only_reads(&stmt->program))
    td_breach("a statement that writes may be cancelled");
  conn->flight = (td_flight){.stmt = stmt};
  if (td_fails(&fault))
    stmt->running = false;
  return td_start(conn, fault, false, end_finish, op, error);
}

/* --- Texts and commands ------------------------------------------------- */

static mb_status end_exec_text(mb_driver_conn *conn, mb_error *error)
{
  const td_program *program = &conn->flight.program;
  if (program->wrong_at != 0)
    return refuse(conn, MB_SYNTAX, "syntax error", error);
  return td_perform(conn, program, NULL, conn->flight.result, error);
}

mb_status td_exec_text(mb_driver_conn *conn, const char *sql, size_t size,
    mb_result *result, mb_op *op, mb_error *error)
{
  const td_fault fault = td_enter(conn, TD_EXEC_TEXT, true);
  conn->flight = (td_flight){.program = td_read(sql, size), .result = result};
  return td_start(conn, fault, true, end_exec_text, op, error);
}

static mb_status end_command(mb_driver_conn *conn, mb_error *error)
{
  const td_flight *flight = &conn->flight;
  if (flight->n == 0)
    return MB_DONE;
  mb_driver_stmt *stmt = make_statement(conn, &flight->program);
  if (stmt == NULL)
    return td_out_of_memory(conn->host, error);
  *flight->stmt_out = stmt;
  stmt->result = flight->result;
  stmt->params = flight->params;
  stmt->n_params = flight->n;
  stmt->hash = hash_values(flight->params, flight->n);
  return begin_result(stmt, error);
}

/* "list" with a number gives as many rows, without one it gives none. */
mb_status td_command(mb_driver_conn *conn, const char *name,
    const mb_value *values, size_t n, mb_driver_stmt **out, mb_result *result,
    mb_op *op, mb_error *error)
{
  const td_fault fault = td_enter(conn, TD_COMMAND, true);
  if (strcmp(name, "list") != 0)
    return td_leave(conn,
        conn->host->fail(error, MB_UNSUPPORTED, "no command \"%s\"", name));
  conn->flight = (td_flight){.stmt_out = out,
      .result = result,
      .params = values,
      .n = n,
      .program = {.verb = TD_ROWS,
          .n = n > 0 ? values[0].as.integer : 0,
          .columns = 2,
          .results = 1}};
  return td_start(conn, fault, true, end_command, op, error);
}
