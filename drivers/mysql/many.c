/*
 * many.c: one statement for many rows of parameters.
 *
 * As arrays, where server and library have them; else an INSERT becomes one of
 * many rows.  A block that fails is undone by the server, and then run row by
 * row, which tells the one that is wrong.  What is neither goes row by row.
 *
 * An INSERT that leaves duplicates as they are counts them among the affected
 * rows, which is not what whoever leaves them out wants to know.  The server
 * tells how many there were where there is more than one row; a single one is
 * inserted without that clause, and may be refused.
 */
#include "mysql.h"

#include <stdlib.h>
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

/* All that the calls for blocks and rows share. */
typedef struct many {
  mb_driver_stmt *stmt;
  const mb_value *params;
  size_t n;       /* of a row */
  mq_group group; /* where rows go together */
  mb_driver_stmt *plain;
  mb_result *total;
  mb_op *op;
} many;

/* --- One by one --------------------------------------------------------- */

/* "Records: 4  Duplicates: 1  Warnings: 0", in the server's language. */
static int64_t count_inserted(const mb_driver_conn *conn)
{
  static const char digits[] = "0123456789";
  const char *text = mysql_info(conn->db);
  int64_t numbers[2] = {0, 0};
  for (size_t i = 0; text != NULL && i < 2; i++) {
    char *end;
    text += strcspn(text, digits);
    numbers[i] = strtoll(text, &end, 10);
    text = end;
  }
  return numbers[0] - numbers[1];
}

/* Runs a statement once; rows that come back are thrown away.  several: of an
 * INSERT whose duplicates do not count. */
static mb_status run_once(mb_driver_stmt *stmt, const mb_value *params,
    size_t n, bool several, mb_result *total, mb_op *op, mb_error *error)
{
  mb_result part = {.affected = -1};
  mb_status status = mq_execute(stmt, params, n, NULL, &part, op, error);
  if (status == MB_ROW || (status == MB_DONE && stmt->running))
    status = mq_finish(stmt, MB_FINISH_DRAIN, op, error);
  if (status != MB_ERROR && several)
    part.affected = count_inserted(stmt->conn);
  stmt->result = &part;
  if (status != MB_ERROR)
    mq_add_totals(stmt, total);
  stmt->result = total;
  return status;
}

static bool is_duplicate(const mb_error *error)
{
  return error->class == MB_CONSTRAINT &&
         (error->constraint_kind == MB_CONSTRAINT_UNIQUE ||
             error->constraint_kind == MB_CONSTRAINT_PRIMARY_KEY);
}

static mb_status run_row(const many *all, size_t row, mb_error *error)
{
  const mb_value *params = all->params + row * all->n;
  mb_error refusal;
  if (all->plain == NULL)
    return run_once(
        all->stmt, params, all->n, false, all->total, all->op, error);
  if (run_once(all->plain, params, all->n, false, all->total, all->op,
          &refusal) != MB_ERROR ||
      is_duplicate(&refusal))
    return MB_DONE;
  *error = refusal;
  return MB_ERROR;
}

static mb_status run_rows(
    const many *all, size_t from, size_t to, mb_error *error)
{
  mb_driver_conn *conn = all->stmt->conn;
  for (size_t row = from; row < to; row++) {
    if (all->op->bounded && mb_op_stopped(conn->host, all->op))
      return mq_fail_stopped(conn, error);
    if (run_row(all, row, error) == MB_ERROR) {
      error->row = (int64_t)row + 1;
      return MB_ERROR;
    }
  }
  return MB_DONE;
}

/* --- Blocks ------------------------------------------------------------- */

/* The statement for so many rows at once, with what stands behind them or
 * without; NULL: *error says why. */
static mb_driver_stmt *make_form(mb_driver_stmt *stmt, const mq_group *group,
    size_t rows, bool whole, mb_error *error)
{
  const mb_host *host = stmt->conn->host;
  const size_t one = group->to - group->from;
  const size_t rest = whole ? stmt->size - group->to : 0;
  const size_t size = group->to + (rows - 1) * (one + 1) + rest;
  mb_driver_stmt *form = NULL;
  char *text = host->allocate(size + 1);
  if (text != NULL) {
    char *at = text;
    memcpy(at, stmt->sql, group->to);
    at += group->to;
    for (size_t i = 1; i < rows; i++) {
      *at++ = ',';
      memcpy(at, stmt->sql + group->from, one);
      at += one;
    }
    memcpy(at, stmt->sql + group->to, rest);
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
  mq_free_statement(form);
  return NULL;
}

/* The form for rows, made at its first use; is_last: of those behind the full
 * blocks. */
static mb_driver_stmt *find_form(mb_driver_stmt *stmt, const mq_group *group,
    size_t rows, bool is_last, mb_error *error)
{
  for (size_t i = 0; i < MQ_FORMS; i++)
    if (stmt->forms[i] != NULL && stmt->rows_of_form[i] == rows)
      return stmt->forms[i];
  mb_driver_stmt **form = &stmt->forms[is_last ? 1 : 0];
  if (*form != NULL)
    mq_free_statement(*form);
  stmt->rows_of_form[is_last ? 1 : 0] = rows;
  *form = make_form(stmt, group, rows, true, error);
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

static mb_status run_block(const many *all, mb_driver_stmt *form, size_t from,
    size_t to, mb_error *error)
{
  mb_driver_conn *conn = form->conn;
  const mb_value *params = all->params + from * all->n;
  const size_t n = (to - from) * all->n;
  const mb_transaction_state before = mq_transaction_state(conn);
  if (all->op->bounded && mb_op_stopped(conn->host, all->op))
    return mq_fail_stopped(conn, error);
  if (size_of(params, n) > block_size(conn))
    return run_rows(all, from, to, error);
  if (run_once(form, params, n, all->group.skips, all->total, all->op, error) !=
      MB_ERROR)
    return MB_DONE;
  return is_of_row(conn, before, error) ? run_rows(all, from, to, error)
                                        : MB_ERROR;
}

static mb_status run_blocks(const many *all, size_t rows, mb_error *error)
{
  const size_t limit = MQ_PARAMETERS_MAX / all->n;
  const size_t most = limit < ROWS_MAX ? limit : ROWS_MAX;
  for (size_t row = 0; row < rows;) {
    const size_t left = rows - row;
    const size_t count = left < most ? left : most;
    if (count == 1)
      return run_rows(all, row, rows, error);
    mb_driver_stmt *form = find_form(
        all->stmt, &all->group, count, row > 0 && count < most, error);
    if (form == NULL ||
        run_block(all, form, row, row + count, error) == MB_ERROR)
      return MB_ERROR;
    row += count;
  }
  return MB_DONE;
}

/* --- All of them -------------------------------------------------------- */

/* Rows that can go together as one INSERT. */
static bool can_group(many *all)
{
  const mb_driver_stmt *stmt = all->stmt;
  return all->n > 0 && all->n <= MQ_PARAMETERS_MAX / 2 &&
         all->n == stmt->n_parameters && stmt->handle != NULL &&
         stmt->judgement.inserts && !stmt->judgement.gives_rows &&
         mq_find_group(stmt->sql, stmt->size,
             stmt->conn->capability.lexical.backslash_strings, &all->group);
}

mb_status mq_execute_many(mb_driver_stmt *stmt, const mb_value *params,
    size_t n, size_t rows, mb_result *result, mb_op *op, mb_error *error)
{
  mb_driver_conn *conn = stmt->conn;
  many all = {
      .stmt = stmt, .params = params, .n = n, .total = result, .op = op};
  size_t done = 0;
  mq_enter(conn, op);
  conn->sent = false;
  stmt->result = result;
  result->affected = 0;
  if (mq_settle(conn, op, error) != MB_OK)
    return MB_ERROR;
  if (stmt->handle == NULL && !stmt->unpreparable &&
      !stmt->judgement.is_plain && mq_make_handle(stmt, error) != MB_OK)
    return MB_ERROR;
  const bool groups = can_group(&all);
  if (groups && all.group.skips) {
    if (stmt->plain == NULL)
      stmt->plain = make_form(stmt, &all.group, 1, false, error);
    if (stmt->plain == NULL)
      return MB_ERROR;
    all.plain = stmt->plain;
  } else if (n > 0 && n == stmt->n_parameters && rows > 1 &&
             stmt->handle != NULL && mq_takes_arrays(stmt)) {
    const mb_status status =
        mq_run_arrays(stmt, params, n, rows, &done, op, error);
    if (status != MB_ERROR || error->class != MB_UNSUPPORTED)
      return status;
    return run_rows(&all, done, rows, error);
  }
  return groups ? run_blocks(&all, rows, error)
                : run_rows(&all, 0, rows, error);
}
