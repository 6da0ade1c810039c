/*
 * many.c: one statement for many rows of parameters.
 *
 * As arrays, where server and library have them; else an INSERT becomes one of
 * many rows.  A block that fails is undone by the server, and then run row by
 * row, which tells the one that is wrong.  What is neither goes row by row.
 */
#include "mysql.h"

#include <string.h>

#define ROWS_MAX 1000
/* Of a message; half of what the server takes where that is less. */
#define BLOCK_SIZE 4000000

void mq_add_totals(mb_driver_stmt *stmt, mb_result *result)
{
  const mb_result *part = stmt->result;
  if (part->affected > 0)
    result->affected += part->affected;
  if (part->has_last_id && !result->has_last_id) {
    result->has_last_id = true;
    result->last_id = part->last_id;
  }
  result->warnings += part->warnings;
}

/* --- One by one --------------------------------------------------------- */

/* Runs a statement once; rows that come back are thrown away. */
static mb_status run_once(mb_driver_stmt *stmt, const mb_value *params,
    size_t n, mb_result *total, mb_op *op, mb_error *error)
{
  mb_result part = {.affected = -1};
  mb_status status = mq_execute(stmt, params, n, NULL, &part, op, error);
  if (status == MB_ROW || (status == MB_DONE && stmt->running))
    status = mq_finish(stmt, MB_FINISH_DRAIN, op, error);
  stmt->result = &part;
  if (status != MB_ERROR)
    mq_add_totals(stmt, total);
  stmt->result = total;
  return status;
}

static mb_status run_rows(mb_driver_stmt *stmt, const mb_value *params,
    size_t n, size_t from, size_t to, mb_result *total, mb_op *op,
    mb_error *error)
{
  for (size_t row = from; row < to; row++) {
    if (op->bounded && mb_op_stopped(stmt->conn->host, op))
      return mq_fail_stopped(stmt->conn, error);
    if (run_once(stmt, params + row * n, n, total, op, error) == MB_ERROR) {
      error->row = (int64_t)row + 1;
      return MB_ERROR;
    }
  }
  return MB_DONE;
}

/* --- Blocks ------------------------------------------------------------- */

/* The statement for so many rows at once; NULL: *error says why. */
static mb_driver_stmt *make_form(
    mb_driver_stmt *stmt, size_t rows, size_t from, size_t to, mb_error *error)
{
  const mb_host *host = stmt->conn->host;
  const size_t group = to - from;
  const size_t size = stmt->size + (rows - 1) * (group + 1);
  mb_driver_stmt *form = NULL;
  char *text = host->allocate(size + 1);
  if (text != NULL) {
    char *at = text;
    memcpy(at, stmt->sql, to);
    at += to;
    for (size_t i = 1; i < rows; i++) {
      *at++ = ',';
      memcpy(at, stmt->sql + from, group);
      at += group;
    }
    memcpy(at, stmt->sql + to, stmt->size - to);
    form = mq_make_statement(stmt->conn, text, size);
    host->release(text);
  }
  if (form == NULL) {
    (void)mq_out_of_memory(host, error);
    return NULL;
  }
  form->judgement = stmt->judgement;
  if (mq_make_handle(form, error) == MB_OK)
    return form;
  mq_close_statement(form);
  return NULL;
}

/* The form for rows, made at its first use; is_last: of those behind the full
 * blocks. */
static mb_driver_stmt *find_form(mb_driver_stmt *stmt, size_t rows,
    bool is_last, size_t from, size_t to, mb_error *error)
{
  for (size_t i = 0; i < MQ_FORMS; i++)
    if (stmt->forms[i] != NULL && stmt->rows_of_form[i] == rows)
      return stmt->forms[i];
  mb_driver_stmt **form = &stmt->forms[is_last ? 1 : 0];
  if (*form != NULL)
    mq_close_statement(*form);
  stmt->rows_of_form[is_last ? 1 : 0] = rows;
  *form = make_form(stmt, rows, from, to, error);
  return *form;
}

static size_t size_of(const mb_value *values, size_t n)
{
  size_t size = 0;
  for (size_t i = 0; i < n; i++)
    size += 12 + (values[i].tag >= MB_TEXT && values[i].tag <= MB_OTHER
                         ? values[i].as.bytes.size
                         : 0);
  return size;
}

static size_t block_size(const mb_driver_conn *conn)
{
  const size_t half = conn->max_packet / 2;
  return half < BLOCK_SIZE ? half : BLOCK_SIZE;
}

/* What is wrong with a row, and not with the session or the transaction. */
static bool is_of_row(
    mb_driver_conn *conn, mb_transaction_state before, const mb_error *error)
{
  return (error->class == MB_CONSTRAINT || error->class == MB_DATA) &&
         !conn->dead && mq_transaction_state(conn) == before;
}

static mb_status run_block(mb_driver_stmt *stmt, mb_driver_stmt *form,
    const mb_value *params, size_t n, size_t from, size_t to, mb_result *total,
    mb_op *op, mb_error *error)
{
  mb_driver_conn *conn = stmt->conn;
  const mb_transaction_state before = mq_transaction_state(conn);
  if (op->bounded && mb_op_stopped(conn->host, op))
    return mq_fail_stopped(conn, error);
  if (size_of(params + from * n, (to - from) * n) > block_size(conn))
    return run_rows(stmt, params, n, from, to, total, op, error);
  if (run_once(form, params + from * n, (to - from) * n, total, op, error) !=
      MB_ERROR)
    return MB_DONE;
  return is_of_row(conn, before, error)
             ? run_rows(stmt, params, n, from, to, total, op, error)
             : MB_ERROR;
}

static mb_status run_blocks(mb_driver_stmt *stmt, const mb_value *params,
    size_t n, size_t rows, size_t from, size_t to, mb_result *total, mb_op *op,
    mb_error *error)
{
  const size_t limit = MQ_PARAMETERS_MAX / n;
  const size_t most = limit < ROWS_MAX ? limit : ROWS_MAX;
  for (size_t row = 0; row < rows;) {
    const size_t left = rows - row;
    const size_t count = left < most ? left : most;
    mb_driver_stmt *form = stmt;
    if (count > 1)
      form = find_form(stmt, count, row > 0 && count < most, from, to, error);
    if (form == NULL)
      return MB_ERROR;
    if (run_block(stmt, form, params, n, row, row + count, total, op, error) ==
        MB_ERROR)
      return MB_ERROR;
    row += count;
  }
  return MB_DONE;
}

/* --- All of them -------------------------------------------------------- */

mb_status mq_execute_many(mb_driver_stmt *stmt, const mb_value *params,
    size_t n, size_t rows, mb_result *result, mb_op *op, mb_error *error)
{
  mb_driver_conn *conn = stmt->conn;
  size_t from;
  size_t to;
  size_t done = 0;
  conn->sent = false;
  stmt->result = result;
  result->affected = 0;
  if (mq_settle(conn, op, error) != MB_OK)
    return MB_ERROR;
  if (stmt->handle == NULL && !stmt->unpreparable &&
      !stmt->judgement.is_plain && mq_make_handle(stmt, error) != MB_OK)
    return MB_ERROR;
  const bool many =
      n > 0 && n == stmt->n_parameters && rows > 1 && stmt->handle != NULL;
  if (many && mq_takes_arrays(stmt)) {
    const mb_status status =
        mq_run_arrays(stmt, params, n, rows, &done, op, error);
    if (status != MB_ERROR || error->class != MB_UNSUPPORTED)
      return status;
  } else if (many && n <= MQ_PARAMETERS_MAX / 2 && stmt->judgement.inserts &&
             !stmt->judgement.gives_rows &&
             mq_find_group(stmt->sql, stmt->size,
                 conn->capability.lexical.backslash_strings, &from, &to)) {
    return run_blocks(stmt, params, n, rows, from, to, result, op, error);
  }
  return run_rows(stmt, params, n, done, rows, result, op, error);
}
