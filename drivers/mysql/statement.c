/*
 * statement.c: preparing and closing.
 *
 * A statement keeps its text, so that what the server knows of it can be given
 * up at any time and made again: when too many are prepared there, when its
 * table has changed.
 */
#include "call.h"

#include <string.h>

#define CANNOT_PREPARE 1295
#define TOO_MANY_PREPARED 1461

/* --- Making ------------------------------------------------------------- */

mb_driver_stmt *mq_make_statement(
    mb_driver_conn *conn, const char *sql, size_t size)
{
  const mb_host *host = conn->host;
  mb_driver_stmt *stmt = host->allocate(sizeof *stmt);
  char *copy = host->allocate(size + 1);
  if (stmt == NULL || copy == NULL) {
    host->release(stmt);
    host->release(copy);
    return NULL;
  }
  memcpy(copy, sql, size);
  copy[size] = '\0';
  *stmt = (mb_driver_stmt){
      .conn = conn, .sql = copy, .size = size, .next = conn->stmts};
  if (conn->stmts != NULL)
    conn->stmts->previous = stmt;
  conn->stmts = stmt;
  return stmt;
}

void mq_drop_handle(mb_driver_stmt *stmt)
{
  if (stmt->handle != NULL)
    (void)mysql_stmt_close(stmt->handle);
  stmt->handle = NULL;
  stmt->is_bound = false;
}

void mq_drop_handles(mb_driver_conn *conn)
{
  for (mb_driver_stmt *stmt = conn->stmts; stmt != NULL; stmt = stmt->next)
    if (!stmt->running)
      mq_drop_handle(stmt);
}

/* Once: the server's answer. */
static unsigned ask_to_prepare(mb_driver_stmt *stmt)
{
  stmt->handle = mysql_stmt_init(stmt->conn->db);
  if (stmt->handle == NULL)
    return mysql_errno(stmt->conn->db);
  stmt->fetch_size = 0;
  if (stmt->params_room > 0)
    memset(stmt->were_numbers, 0, stmt->params_room);
  stmt->conn->sent = true;
  if (mq_stmt_prepare(stmt) != 0)
    return mysql_stmt_errno(stmt->handle);
  stmt->n_parameters = (size_t)mysql_stmt_param_count(stmt->handle);
  return 0;
}

mb_status mq_make_handle(mb_driver_stmt *stmt, mb_error *error)
{
  mb_driver_conn *conn = stmt->conn;
  const bool has_parameters = memchr(stmt->sql, '?', stmt->size) != NULL;
  if (stmt->size + 16 > conn->max_packet)
    return conn->host->fail(error, MB_DATA,
        "the text takes %zu bytes, and max_allowed_packet of the server is %zu",
        stmt->size, conn->max_packet);
  stmt->by_text = false;
  unsigned code = ask_to_prepare(stmt);
  if (code == TOO_MANY_PREPARED) {
    mq_drop_handles(conn);
    code = ask_to_prepare(stmt);
  }
  if (code == 0 && stmt->handle != NULL)
    return MB_OK;
  if ((code == CANNOT_PREPARE || code == TOO_MANY_PREPARED) &&
      !has_parameters) {
    mq_drop_handle(stmt);
    stmt->unpreparable |= code == CANNOT_PREPARE;
    return MB_OK;
  }
  (void)mq_fail(conn, stmt, error);
  error->origin = MB_ORIGIN_PREPARE;
  mq_drop_handle(stmt);
  return MB_ERROR;
}

static void give_prepared(const mb_driver_stmt *stmt, mb_prepared *prepared)
{
  const mq_judgement *judgement = &stmt->judgement;
  *prepared = (mb_prepared){
      .n_parameters = stmt->handle != NULL ? (int)stmt->n_parameters : 0,
      .reads_only = judgement->reads_only,
      .changes_session = judgement->changes_session,
      .returns_rows =
          judgement->gives_rows ||
          (stmt->handle != NULL && mysql_stmt_field_count(stmt->handle) > 0),
  };
}

mb_status mq_prepare(mb_driver_conn *conn, const char *sql, size_t size,
    mb_driver_stmt **out, mb_prepared *prepared, mb_op *op, mb_error *error)
{
  const mq_judgement judgement = mq_judge(sql, size);
  mq_enter(conn, op);
  conn->sent = false;
  if (judgement.empty) {
    prepared->empty = true;
    return MB_DONE;
  }
  if (conn->dead)
    return mq_fail_dead(conn, error);
  mb_driver_stmt *stmt = mq_make_statement(conn, sql,
      mq_end_of_statement(
          sql, size, conn->capability.lexical.backslash_strings));
  if (stmt == NULL)
    return mq_out_of_memory(conn->host, error);
  stmt->judgement = judgement;
  *out = stmt;
  if (!judgement.is_plain && mq_make_handle(stmt, error) != MB_OK)
    return MB_ERROR;
  give_prepared(stmt, prepared);
  return MB_DONE;
}

mb_status mq_describe(mb_driver_stmt *stmt, mb_prepared *prepared,
    mb_result *result, mb_op *op, mb_error *error)
{
  mb_driver_conn *conn = stmt->conn;
  mq_enter(conn, op);
  conn->sent = false;
  if (conn->dead)
    return mq_fail_dead(conn, error);
  if (stmt->handle == NULL && !stmt->unpreparable &&
      mq_make_handle(stmt, error) != MB_OK)
    return MB_ERROR;
  give_prepared(stmt, prepared);
  MYSQL_RES *shape =
      stmt->handle != NULL ? mysql_stmt_result_metadata(stmt->handle) : NULL;
  if (shape == NULL)
    return MB_DONE;
  const mb_status status = mq_read_columns(
      stmt, mysql_fetch_fields(shape), mysql_num_fields(shape), error);
  mysql_free_result(shape);
  if (status != MB_OK)
    return MB_ERROR;
  result->columns = stmt->columns;
  result->n_columns = stmt->n_columns;
  result->columns_serial = stmt->columns_serial;
  return MB_DONE;
}

/* --- Closing ------------------------------------------------------------ */

void mq_free_statement(mb_driver_stmt *stmt)
{
  mb_driver_conn *conn = stmt->conn;
  const mb_host *host = conn->host;
  /* The library would read on to the end, whenever that comes. */
  if (stmt->running && !conn->dead)
    mq_shut(conn);
  for (size_t i = 0; i < MQ_FORMS; i++)
    if (stmt->forms[i] != NULL)
      mq_free_statement(stmt->forms[i]);
  if (stmt->plain != NULL)
    mq_free_statement(stmt->plain);
  if (stmt->rows != NULL)
    mysql_free_result(stmt->rows);
  mq_drop_handle(stmt);
  if (stmt->previous != NULL)
    stmt->previous->next = stmt->next;
  else
    conn->stmts = stmt->next;
  if (stmt->next != NULL)
    stmt->next->previous = stmt->previous;
  mq_free_columns(stmt);
  host->release(stmt->params);
  host->release(stmt->times);
  host->release(stmt->were_numbers);
  host->release(stmt->sql);
  host->release(stmt);
}

void mq_close_statement(mb_driver_stmt *stmt)
{
  stmt->conn->loop = NULL;
  if (stmt->conn->has_tls)
    mq_forget_tls_errors();
  mq_free_statement(stmt);
}
