/*
 * array.c: arrays of parameters, which MariaDB's library and server have.
 *
 * The library asks for one row after the other, and is shown the values where
 * they are.  All rows of a message have the same types: where a value has
 * another one, a new message begins.  In InnoDB a message is done as a whole or
 * not at all.
 */
#include "call.h"

#include <math.h>
#include <string.h>

#if MQ_LIBMARIADB

#  define BLOCK_SIZE 1000000
/* The greatest integer up to which doubles have all. */
#  define INTEGER_MAX (INT64_C(1) << 53)
#  define CANNOT_PREPARE 1295
#  define CANNOT_ARRAY 4161

/* What the library's calls for a row find. */
typedef struct block {
  mb_driver_stmt *stmt;
  const mb_value *params; /* of the first row */
  size_t n;
  char *indicators; /* of one row */
  bool *are_large;  /* columns with integers that no double can be */
  mb_error *error;
} block;

bool mq_takes_arrays(const mb_driver_stmt *stmt)
{
  return stmt->judgement.writes_rows && !stmt->judgement.gives_rows &&
         stmt->conn->has_arrays;
}

/* What most values are, without all that mq_bind_one looks at: they were bound
 * once already, and went well. */
static bool show_plain(const mb_value *value, MYSQL_BIND *bind)
{
  if (bind->buffer_type == MYSQL_TYPE_LONGLONG ||
      (bind->buffer_type == MYSQL_TYPE_DOUBLE && value->tag == MB_DOUBLE)) {
    bind->buffer = (void *)&value->as;
    bind->buffer_length = sizeof value->as.integer;
    return true;
  }
  if ((bind->buffer_type != MYSQL_TYPE_STRING &&
          bind->buffer_type != MYSQL_TYPE_BLOB) ||
      value->as.bytes.size == 0)
    return false;
  bind->buffer = (void *)value->as.bytes.data;
  bind->buffer_length = (unsigned long)value->as.bytes.size;
  return true;
}

static my_bool show_row(void *data, MYSQL_BIND *binds, unsigned row)
{
  const block *one = data;
  const mb_value *values = one->params + (size_t)row * one->n;
  for (size_t i = 0; i < one->n; i++) {
    MYSQL_BIND bind;
    one->indicators[i] = STMT_INDICATOR_NULL;
    binds[i].u.indicator = &one->indicators[i];
    if (values[i].tag == MB_NULL)
      continue;
    one->indicators[i] = STMT_INDICATOR_NONE;
    if (show_plain(&values[i], &binds[i]))
      continue;
    (void)mq_bind_one(one->stmt->conn, &values[i], &bind, &one->stmt->times[i],
        i + 1, one->error);
    if (binds[i].buffer_type == MYSQL_TYPE_DOUBLE &&
        values[i].tag != MB_DOUBLE) {
      const double real = (double)values[i].as.integer;
      bind.buffer = memcpy(&one->stmt->times[i], &real, sizeof real);
    }
    binds[i].buffer = bind.buffer;
    binds[i].buffer_length = bind.buffer_length;
  }
  return 0;
}

/* A Lua with one kind of number gives 1 and 1.5 different types: both can be
 * doubles. */
static bool join_numbers(MYSQL_BIND *type, const MYSQL_BIND *bind,
    const mb_value *value, bool *is_large)
{
  const bool is_double = bind->buffer_type == MYSQL_TYPE_DOUBLE;
  if ((!is_double && bind->buffer_type != MYSQL_TYPE_LONGLONG) ||
      bind->is_unsigned || type->is_unsigned)
    return false;
  if (!is_double)
    *is_large |=
        value->as.integer > INTEGER_MAX || value->as.integer < -INTEGER_MAX;
  if (type->buffer_type == bind->buffer_type)
    return true;
  if (*is_large || (type->buffer_type != MYSQL_TYPE_DOUBLE &&
                       type->buffer_type != MYSQL_TYPE_LONGLONG))
    return false;
  type->buffer_type = MYSQL_TYPE_DOUBLE;
  return true;
}

/* Whether a value is like those before it: its size, or 0. */
static size_t size_of_same(const MYSQL_BIND *type, const mb_value *value)
{
  if (value->tag == MB_BLOB && type->buffer_type == MYSQL_TYPE_BLOB)
    return value->as.bytes.size;
  const bool is_same =
      (value->tag == MB_INT64 && type->buffer_type == MYSQL_TYPE_LONGLONG &&
          !type->is_unsigned && value->as.integer <= INTEGER_MAX &&
          value->as.integer >= -INTEGER_MAX) ||
      (value->tag == MB_DOUBLE && type->buffer_type == MYSQL_TYPE_DOUBLE &&
          isfinite(value->as.real));
  return is_same ? sizeof value->as : 0;
}

/* Sets the types of stmt->params to those of a row, where they are not known
 * yet.  False: they differ. */
static bool join_row(const block *one, const mb_value *values, size_t *size,
    mb_status *status, mb_error *error)
{
  mb_driver_stmt *stmt = one->stmt;
  for (size_t i = 0; i < one->n; i++) {
    MYSQL_BIND bind;
    MYSQL_BIND *type = &stmt->params[i];
    const size_t same = size_of_same(type, &values[i]);
    if (same > 0) {
      *size += same + 12;
      continue;
    }
    *status = mq_bind_one(
        stmt->conn, &values[i], &bind, &stmt->times[i], i + 1, error);
    if (*status != MB_OK)
      return false;
    *size += bind.buffer_length + 12;
    if (bind.buffer_type == MYSQL_TYPE_NULL)
      continue;
    if (type->buffer_type == MYSQL_TYPE_NULL)
      *type = bind;
    if (!join_numbers(type, &bind, &values[i], &one->are_large[i]) &&
        (type->buffer_type != bind.buffer_type ||
            type->is_unsigned != bind.is_unsigned))
      return false;
  }
  return true;
}

/* How many rows, from the first, go into one message. */
static size_t measure(
    const block *one, size_t rows, mb_status *status, mb_error *error)
{
  mb_driver_stmt *stmt = one->stmt;
  const size_t n = one->n;
  const size_t half = stmt->conn->max_packet / 2;
  const size_t size_max = half < BLOCK_SIZE ? half : BLOCK_SIZE;
  size_t size = 0;
  size_t row = 0;
  *status = MB_OK;
  for (size_t i = 0; i < n; i++) {
    stmt->params[i] = (MYSQL_BIND){.buffer_type = MYSQL_TYPE_NULL};
    one->are_large[i] = false;
  }
  while (row < rows &&
         join_row(one, one->params + row * n, &size, status, error)) {
    if (row == 0)
      *status = mq_check_size(stmt->conn, size, error);
    if (*status != MB_OK || (row > 0 && size > size_max))
      break;
    row++;
  }
  /* A column of nothing but NULL has some type all the same. */
  for (size_t i = 0; i < n; i++)
    if (stmt->params[i].buffer_type == MYSQL_TYPE_NULL)
      stmt->params[i].buffer_type = MYSQL_TYPE_STRING;
  return row;
}

/* The row of the message that the server has refused. */
static int64_t ask_row(mb_driver_conn *conn)
{
  static const char sql[] =
      "get diagnostics condition 1 @moonbase_row = row_number";
  MYSQL_ROW row;
  int64_t number = 0;
  if (!conn->names_row || conn->dead ||
      mq_real_query(conn, sql, sizeof sql - 1) != 0)
    return 0;
  MYSQL_RES *rows = mq_ask(conn, "select @moonbase_row", &row);
  for (const char *digit = rows != NULL && row[0] != NULL ? row[0] : "";
       *digit >= '0' && *digit <= '9' && number < INT32_MAX; digit++)
    number = number * 10 + (*digit - '0');
  if (rows != NULL)
    mysql_free_result(rows);
  return number;
}

static mb_status send_block(
    mb_driver_stmt *stmt, block *one, size_t rows, mb_error *error)
{
  MYSQL_STMT *handle = stmt->handle;
  unsigned size = (unsigned)rows;
  stmt->by_text = false;
  if (mysql_stmt_bind_param(handle, stmt->params) != 0 ||
      mysql_stmt_attr_set(handle, STMT_ATTR_ARRAY_SIZE, &size) != 0)
    return mq_fail(stmt->conn, stmt, error);
  handle->user_data = one;
  handle->param_callback = show_row;
  stmt->conn->sent = true;
  const bool failed = mq_stmt_execute(stmt) != 0;
  handle->user_data = NULL;
  handle->param_callback = NULL;
  if (failed) {
    (void)mq_fail(stmt->conn, stmt, error);
    error->row = ask_row(stmt->conn);
    mq_refresh_status(stmt->conn);
  }
  size = 0;
  (void)mysql_stmt_attr_set(handle, STMT_ATTR_ARRAY_SIZE, &size);
  return failed ? MB_ERROR : MB_OK;
}

static mb_status run_block(mb_driver_stmt *stmt, block *one, size_t rows,
    mb_result *total, mb_error *error)
{
  mb_result part = {.affected = -1};
  if (send_block(stmt, one, rows, error) != MB_OK)
    return MB_ERROR;
  stmt->result = &part;
  mb_status status = mq_take_result(stmt, error);
  if (status != MB_ERROR)
    mq_add_totals(stmt, total);
  stmt->result = total;
  return status;
}

mb_status mq_run_arrays(mb_driver_stmt *stmt, const mb_value *params, size_t n,
    size_t rows, size_t *done, const mb_op *op, mb_error *error)
{
  const mb_host *host = stmt->conn->host;
  mb_result *total = stmt->result;
  if (mq_make_params(stmt, n, error) != MB_OK)
    return MB_ERROR;
  char *indicators = host->allocate(2 * n);
  if (indicators == NULL)
    return mq_out_of_memory(host, error);
  mb_status status = MB_OK;
  while (status == MB_OK && *done < rows) {
    block one = {.stmt = stmt,
        .params = params + *done * n,
        .n = n,
        .indicators = indicators,
        .are_large = (bool *)(indicators + n),
        .error = error};
    mb_error refusal;
    const size_t count = measure(&one, rows - *done, &status, &refusal);
    if (op->bounded && mb_op_stopped(host, op)) {
      status = mq_fail_stopped(stmt->conn, error);
    } else if (count == 0) {
      *error = refusal;
      error->row = (int64_t)*done + 1;
    } else {
      status = run_block(stmt, &one, count, total, error);
      if (status == MB_ERROR && error->row > 0)
        error->row += (int64_t)*done;
    }
    if (status != MB_ERROR)
      *done += count;
  }
  host->release(indicators);
  if (status == MB_ERROR && (error->native_code == CANNOT_PREPARE ||
                                error->native_code == CANNOT_ARRAY))
    error->class = MB_UNSUPPORTED;
  return status;
}

#else

bool mq_takes_arrays(const mb_driver_stmt *stmt)
{
  (void)stmt;
  return false;
}

mb_status mq_run_arrays(mb_driver_stmt *stmt, const mb_value *params, size_t n,
    size_t rows, size_t *done, const mb_op *op, mb_error *error)
{
  (void)params;
  (void)n;
  (void)rows;
  (void)done;
  (void)op;
  return stmt->conn->host->fail(
      error, MB_UNSUPPORTED, "the library has no arrays");
}

#endif
