/*
 * command.c: the commands of a driver: what it can do beside SQL.
 */
#include "statement.h"

#include <string.h>

static mb_status command_step(mb_conn *conn, void *argument, mb_error *error)
{
  mb_stmt *stmt = argument;
  mb_status status = MB_OK;

  MB_TASK_BEGIN(stmt->at);
  MB_TASK_CALL(stmt->at, status, mb__stmt_make_ready(conn, stmt, error));
  if (status == MB_ERROR)
    MB_TASK_LEAVE(stmt->at, MB_ERROR);
  if (mb__conn_proceed(conn, error) != MB_OK)
    MB_TASK_LEAVE(stmt->at, MB_ERROR);
  MB_TASK_AWAIT(stmt->at, status, conn,
      conn->driver->command(conn->impl, stmt->text, stmt->params,
          stmt->n_params, &stmt->impl, mb__stmt_totals(stmt), &conn->op,
          error));
  status = mb__stmt_answered(stmt, status, error);
  MB_TASK_END(stmt->at);
  return status;
}

mb_status mb_conn_command(mb_conn *conn, const mb_tx *tx, const char *name,
    const mb_value *values, size_t n, const mb_call *call, mb_stmt **out,
    mb_error *error)
{
  *out = NULL;
  if (conn->driver->command == NULL)
    return mb__host.fail(error, MB_UNSUPPORTED, "driver \"%s\" has no commands",
        conn->driver->name);
  /* It stands among the statements, where no text finds it. */
  mb_stmt *stmt;
  if (mb_conn_statement(conn, name, strlen(name),
          MB_STATEMENT_PLAIN | MB__STATEMENT_COMMAND, &stmt, error) != MB_OK ||
      mb__stmt_take(&stmt, tx, call, error) != MB_OK)
    return MB_ERROR;
  if (stmt->impl != NULL)
    mb__stmt_close_impl(stmt); /* an earlier run of the same command */
  for (size_t i = 0; i < n; i++)
    if (values[i].tag == MB_CALLBACK)
      conn->stays = true;
  conn->op.in_loop = conn->op.in_loop && !conn->stays;
  stmt->params = values;
  stmt->n_params = n;
  *out = stmt;
  const mb_status status = mb__conn_run(conn, command_step, stmt, error);
  if (status == MB_ERROR)
    *out = NULL;
  return status;
}
