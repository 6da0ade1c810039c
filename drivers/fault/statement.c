/*
 * statement.c: statements around others, and texts.
 */
#include "fault.h"

#include <string.h>

/* --- Life --------------------------------------------------------------- */

static mb_driver_stmt *make(mb_driver_conn *conn, const char *text, size_t size)
{
  mb_driver_stmt *stmt = conn->host->allocate(sizeof *stmt + size);
  if (stmt == NULL)
    return NULL;
  memset(stmt, 0, sizeof *stmt);
  stmt->conn = conn;
  stmt->size = size;
  if (size > 0)
    memcpy(stmt->text, text, size);
  return stmt;
}

void ft_link_statement(mb_driver_stmt *stmt)
{
  mb_driver_conn *conn = stmt->conn;
  stmt->link = &conn->stmts;
  stmt->next = conn->stmts;
  if (stmt->next != NULL)
    stmt->next->link = &stmt->next;
  conn->stmts = stmt;
}

mb_driver_stmt *ft_find_statement(
    const mb_driver_conn *conn, const mb_driver_stmt *inner)
{
  mb_driver_stmt *stmt = inner != NULL ? conn->stmts : NULL;
  while (stmt != NULL && stmt->inner != inner)
    stmt = stmt->next;
  return stmt;
}

void ft_close_statement(mb_driver_stmt *stmt)
{
  mb_driver_conn *conn = stmt->conn;
  ft_fault fault;
  ft_rules_ask(
      conn->rules, ft_slot_close_statement, stmt->text, stmt->size, &fault);
  ft_sleep(conn->rules, &fault, MB_NEVER);
  if (fault.means & FT_LOSE)
    conn->lost = true;
  conn->driver->close_statement(stmt->inner);
  *stmt->link = stmt->next;
  if (stmt->next != NULL)
    stmt->next->link = stmt->link;
  conn->host->release(stmt);
}

/* Runs a call that makes a statement. */
static mb_status run_making(mb_driver_conn *conn, ft_call *call,
    mb_driver_stmt **out, mb_op *op, mb_error *error)
{
  *out = NULL;
  call->out = out;
  call->made = make(conn, call->text, call->size);
  if (call->made == NULL)
    return conn->host->fail(error, MB_RESOURCE, "out of memory");
  return ft_run(conn, call, op, error);
}

/* --- Preparing ---------------------------------------------------------- */

static mb_status prepare_inside(
    mb_driver_conn *conn, ft_call *call, mb_op *op, mb_error *error)
{
  return conn->driver->prepare(conn->inner, call->text, call->size,
      &call->made->inner, call->prepared, op, error);
}

mb_status ft_prepare(mb_driver_conn *conn, const char *sql, size_t size,
    mb_driver_stmt **out, mb_prepared *prepared, mb_op *op, mb_error *error)
{
  ft_call call = {.slot = ft_slot_prepare,
      .hand_on = prepare_inside,
      .text = sql,
      .size = size,
      .prepared = prepared};
  return run_making(conn, &call, out, op, error);
}

static mb_status describe_inside(
    mb_driver_conn *conn, ft_call *call, mb_op *op, mb_error *error)
{
  return conn->driver->describe(
      call->stmt->inner, call->prepared, call->result, op, error);
}

mb_status ft_describe(mb_driver_stmt *stmt, mb_prepared *prepared,
    mb_result *result, mb_op *op, mb_error *error)
{
  const ft_call call = {.slot = ft_slot_describe,
      .hand_on = describe_inside,
      .stmt = stmt,
      .prepared = prepared,
      .result = result};
  return ft_run(stmt->conn, &call, op, error);
}

/* --- Running ------------------------------------------------------------ */

static mb_status execute_inside(
    mb_driver_conn *conn, ft_call *call, mb_op *op, mb_error *error)
{
  return conn->driver->execute(call->stmt->inner, call->values, call->n,
      &call->options, call->result, op, error);
}

mb_status ft_execute(mb_driver_stmt *stmt, const mb_value *params, size_t n,
    const mb_execute_options *options, mb_result *result, mb_op *op,
    mb_error *error)
{
  const ft_call call = {.slot = ft_slot_execute,
      .hand_on = execute_inside,
      .stmt = stmt,
      .values = params,
      .n = n,
      .options = *options,
      .result = result};
  return ft_run(stmt->conn, &call, op, error);
}

static mb_status execute_many_inside(
    mb_driver_conn *conn, ft_call *call, mb_op *op, mb_error *error)
{
  return conn->driver->execute_many(call->stmt->inner, call->values, call->n,
      call->rows, call->result, op, error);
}

mb_status ft_execute_many(mb_driver_stmt *stmt, const mb_value *params,
    size_t n, size_t rows, mb_result *result, mb_op *op, mb_error *error)
{
  const ft_call call = {.slot = ft_slot_execute_many,
      .hand_on = execute_many_inside,
      .stmt = stmt,
      .values = params,
      .n = n,
      .rows = rows,
      .result = result};
  return ft_run(stmt->conn, &call, op, error);
}

static mb_status fetch_inside(
    mb_driver_conn *conn, ft_call *call, mb_op *op, mb_error *error)
{
  return conn->driver->fetch(call->stmt->inner, call->row, op, error);
}

mb_status ft_fetch(
    mb_driver_stmt *stmt, mb_value *row, mb_op *op, mb_error *error)
{
  const ft_call call = {
      .slot = ft_slot_fetch, .hand_on = fetch_inside, .stmt = stmt, .row = row};
  return ft_run(stmt->conn, &call, op, error);
}

static mb_status fetch_batch_inside(
    mb_driver_conn *conn, ft_call *call, mb_op *op, mb_error *error)
{
  return conn->driver->fetch_batch(
      call->stmt->inner, call->rows, call->batch, op, error);
}

mb_status ft_fetch_batch(mb_driver_stmt *stmt, size_t max, mb_batch *batch,
    mb_op *op, mb_error *error)
{
  const ft_call call = {.slot = ft_slot_fetch_batch,
      .hand_on = fetch_batch_inside,
      .stmt = stmt,
      .rows = max,
      .batch = batch};
  return ft_run(stmt->conn, &call, op, error);
}

static mb_status next_result_inside(
    mb_driver_conn *conn, ft_call *call, mb_op *op, mb_error *error)
{
  return conn->driver->next_result(call->stmt->inner, call->result, op, error);
}

mb_status ft_next_result(
    mb_driver_stmt *stmt, mb_result *result, mb_op *op, mb_error *error)
{
  const ft_call call = {.slot = ft_slot_next_result,
      .hand_on = next_result_inside,
      .stmt = stmt,
      .result = result};
  return ft_run(stmt->conn, &call, op, error);
}

static mb_status finish_inside(
    mb_driver_conn *conn, ft_call *call, mb_op *op, mb_error *error)
{
  return conn->driver->finish(call->stmt->inner, call->finish_mode, op, error);
}

mb_status ft_finish(
    mb_driver_stmt *stmt, mb_finish_mode mode, mb_op *op, mb_error *error)
{
  const ft_call call = {.slot = ft_slot_finish,
      .hand_on = finish_inside,
      .stmt = stmt,
      .finish_mode = mode};
  return ft_run(stmt->conn, &call, op, error);
}

/* --- Texts -------------------------------------------------------------- */

static mb_status exec_text_inside(
    mb_driver_conn *conn, ft_call *call, mb_op *op, mb_error *error)
{
  return conn->driver->exec_text(
      conn->inner, call->text, call->size, call->result, op, error);
}

mb_status ft_exec_text(mb_driver_conn *conn, const char *sql, size_t size,
    mb_result *result, mb_op *op, mb_error *error)
{
  const ft_call call = {.slot = ft_slot_exec_text,
      .hand_on = exec_text_inside,
      .text = sql,
      .size = size,
      .result = result};
  return ft_run(conn, &call, op, error);
}

static mb_status query_once_inside(
    mb_driver_conn *conn, ft_call *call, mb_op *op, mb_error *error)
{
  return conn->driver->query_once(conn->inner, call->text, call->size,
      call->values, call->n, &call->made->inner, call->result, op, error);
}

mb_status ft_query_once(mb_driver_conn *conn, const char *sql, size_t size,
    const mb_value *params, size_t n, mb_driver_stmt **out, mb_result *result,
    mb_op *op, mb_error *error)
{
  ft_call call = {.slot = ft_slot_query_once,
      .hand_on = query_once_inside,
      .text = sql,
      .size = size,
      .values = params,
      .n = n,
      .result = result};
  return run_making(conn, &call, out, op, error);
}

/* --- What else gives statements ----------------------------------------- */

static mb_status describe_schema_inside(
    mb_driver_conn *conn, ft_call *call, mb_op *op, mb_error *error)
{
  return conn->driver->describe_schema(
      conn->inner, &call->made->inner, call->result, op, error);
}

mb_status ft_describe_schema(mb_driver_conn *conn, mb_driver_stmt **out,
    mb_result *result, mb_op *op, mb_error *error)
{
  ft_call call = {.slot = ft_slot_describe_schema,
      .hand_on = describe_schema_inside,
      .result = result};
  return run_making(conn, &call, out, op, error);
}

static mb_status command_inside(
    mb_driver_conn *conn, ft_call *call, mb_op *op, mb_error *error)
{
  return conn->driver->command(conn->inner, call->text, call->values, call->n,
      &call->made->inner, call->result, op, error);
}

mb_status ft_command(mb_driver_conn *conn, const char *name,
    const mb_value *values, size_t n, mb_driver_stmt **out, mb_result *result,
    mb_op *op, mb_error *error)
{
  ft_call call = {.slot = ft_slot_command,
      .hand_on = command_inside,
      .text = name,
      .size = strlen(name),
      .values = values,
      .n = n,
      .result = result};
  return run_making(conn, &call, out, op, error);
}

static mb_status quote_inside(
    mb_driver_conn *conn, ft_call *call, mb_op *op, mb_error *error)
{
  (void)op;
  return conn->driver->quote_identifier(
      conn->inner, call->text, call->size, call->quoted, call->size_out, error);
}

mb_status ft_quote_identifier(mb_driver_conn *conn, const char *name,
    size_t size, char *out, size_t *written, mb_error *error)
{
  ft_call call = {.slot = ft_slot_quote_identifier,
      .hand_on = quote_inside,
      .text = name,
      .size = size};
  call.quoted = out;
  call.size_out = written;
  return ft_run(conn, &call, NULL, error);
}
