/*
 * cursor.c: rows through a cursor of the server, for fetch_size.
 *
 * Between two blocks the connection is free for other requests.
 */
#include "postgres.h"

#include <stdio.h>
#include <string.h>

static const char form[] = "declare %s no scroll cursor for ";

/* Whether fewer rows came than were asked for. */
static mb_status took_block(mb_driver_conn *conn, mb_op *op, mb_error *error)
{
  mb_driver_stmt *stmt = conn->current;
  stmt->result->beside = true;
  stmt->cursor_at_end = stmt->n_rows < stmt->fetch_size;
  stmt->result->affected = -1;
  if (stmt->n_rows == 0)
    return pg_close_cursor(stmt, op, error);
  if (conn->request.row == NULL || pg_give_row(stmt, conn->request.row))
    return MB_ROW;
  return pg_fail_row(conn, error);
}

/* Whether the next block comes in binary form.  The first one never does: only
 * it says what the columns are, which may be others than when the statement was
 * described. */
static bool is_binary(const mb_driver_stmt *stmt)
{
  bool binary = stmt->declared;
  for (size_t i = 0; i < stmt->n_columns; i++)
    binary = binary && pg_has_binary(stmt->column_types[i]);
  return binary;
}

static mb_status send_fetch(mb_driver_stmt *stmt, mb_error *error)
{
  mb_driver_conn *conn = stmt->conn;
  char text[64];
  conn->request.stmt = stmt;
  conn->request.result = stmt->result;
  conn->request.whole = true;
  conn->request.then = took_block;
  (void)snprintf(text, sizeof text, "fetch %lld from %s",
      (long long)stmt->fetch_size, stmt->cursor);
  return pg_add_part(conn,
      PQsendQueryParams(
          conn->pq, text, 0, NULL, NULL, NULL, NULL, is_binary(stmt)),
      PG_PART_RUN, error);
}

/* The text that declares it; NULL: out of memory. */
static const char *write_declare(mb_driver_stmt *stmt)
{
  mb_driver_conn *conn = stmt->conn;
  const size_t room = sizeof form + sizeof stmt->cursor + stmt->size;
  char *text = pg_arena_take(&conn->sending, room);
  if (text == NULL)
    return NULL;
  (void)snprintf(
      stmt->cursor, sizeof stmt->cursor, "mb_c%u", ++conn->last_cursor);
  const int before = snprintf(text, room, form, stmt->cursor);
  memcpy(text + before, stmt->sql, stmt->size + 1);
  return text;
}

static mb_status send_declare(mb_driver_stmt *stmt, const char *text,
    const pg_params *params, mb_error *error)
{
  mb_driver_conn *conn = stmt->conn;
  conn->request.text = stmt->sql;
  conn->request.skipped = sizeof form - sizeof "%s" + strlen(stmt->cursor);
  return pg_add_part(conn,
      PQsendQueryParams(conn->pq, text, params->n,
          stmt->described ? stmt->type_oids : params->types, params->values,
          params->lengths, params->formats, 0),
      PG_PART_DECLARE, error);
}

mb_status pg_open_cursor(mb_driver_conn *conn, mb_op *op, mb_error *error)
{
  mb_driver_stmt *stmt = conn->current;
  if (pg_transaction_state(conn) != MB_TRANSACTION_ACTIVE)
    return conn->host->fail(error, MB_USAGE,
        "fetch_size wants a transaction on PostgreSQL, where a cursor lives no "
        "longer");
  if (!stmt->described && pg_wants_types(stmt->params, stmt->n_params))
    return pg_ask_types(stmt, pg_open_cursor, op, error);
  pg_params params;
  if (pg_write_run(stmt, &params, error) != MB_OK)
    return MB_ERROR;
  const char *text = write_declare(stmt);
  if (text == NULL)
    return pg_out_of_memory(conn->host, error);
  if (pg_begin_request(conn, true, error) != MB_OK ||
      send_declare(stmt, text, &params, error) != MB_OK ||
      send_fetch(stmt, error) != MB_OK)
    return MB_ERROR;
  return pg_end_request(conn, op, error);
}

mb_status pg_fetch_cursor(
    mb_driver_stmt *stmt, mb_value *row, mb_op *op, mb_error *error)
{
  mb_driver_conn *conn = stmt->conn;
  conn->current = stmt;
  if (stmt->cursor_at_end)
    return pg_close_cursor(stmt, op, error);
  if (pg_begin_request(conn, false, error) != MB_OK ||
      send_fetch(stmt, error) != MB_OK)
    return MB_ERROR;
  conn->request.row = row;
  return pg_end_request(conn, op, error);
}

mb_status pg_close_cursor(mb_driver_stmt *stmt, mb_op *op, mb_error *error)
{
  mb_driver_conn *conn = stmt->conn;
  char text[40];
  stmt->declared = false;
  pg_clear_rows(stmt);
  /* It has ended with its transaction; or it will, where rows of another
   * statement are in the way. */
  if (PQtransactionStatus(conn->pq) != PQTRANS_INTRANS)
    return MB_DONE;
  (void)snprintf(text, sizeof text, "close %s", stmt->cursor);
  return pg_run_text(conn, text, NULL, NULL, op, error);
}
