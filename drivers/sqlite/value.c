/* value.c: values between Moonbase and SQLite. */
#include "sqlite.h"

#include <math.h>

static int bind_bytes(sqlite3_stmt *stmt, int index, const mb_value *value)
{
  const char *data = value->as.bytes.data;
  const sqlite3_uint64 size = value->as.bytes.size;
  if (value->tag != MB_BLOB)
    return sqlite3_bind_text64(stmt, index, data != NULL ? data : "", size,
        SQLITE_STATIC, SQLITE_UTF8);
  if (size == 0) /* a blob at NULL would be NULL */
    return sqlite3_bind_zeroblob(stmt, index, 0);
  return sqlite3_bind_blob64(stmt, index, data, size, SQLITE_STATIC);
}

static mb_status bind_one(mb_driver_conn *conn, sqlite3_stmt *stmt, int index,
    const mb_value *value, mb_error *error)
{
  int code = SQLITE_OK;
  switch (value->tag) {
  case MB_NULL:
    code = sqlite3_bind_null(stmt, index);
    break;
  case MB_BOOL:
  case MB_INT64:
    code = sqlite3_bind_int64(stmt, index, value->as.integer);
    break;
  case MB_DOUBLE:
    if (isnan(value->as.real))
      return conn->host->fail(error, MB_DATA,
          "parameter %d is not a number (NaN), which SQLite cannot keep",
          index);
    code = sqlite3_bind_double(stmt, index, value->as.real);
    break;
  case MB_UINT64:
    return conn->host->fail(error, MB_DATA,
        "parameter %d is above 2^63 - 1, the greatest integer of SQLite",
        index);
  case MB_ARRAY:
  case MB_CALLBACK:
  case MB_TAG_COUNT:
    return conn->host->fail(error, MB_UNSUPPORTED,
        "parameter %d is an array, which SQLite does not have", index);
  default:
    code = bind_bytes(stmt, index, value);
  }
  return code == SQLITE_OK ? MB_OK : sl_fail(conn, code, SL_RUNNING, error);
}

mb_status sl_bind(mb_driver_conn *conn, sqlite3_stmt *stmt,
    const mb_value *values, size_t n, mb_error *error)
{
  for (int i = 0; i < (int)n; i++) {
    const mb_value *value = &values[i];
    int code = SQLITE_ERROR;
    /* What most are of, without a jump through a table. */
    if (value->tag == MB_INT64)
      code = sqlite3_bind_int64(stmt, i + 1, value->as.integer);
    else if (value->tag == MB_TEXT && value->as.bytes.data != NULL)
      code = sqlite3_bind_text64(stmt, i + 1, value->as.bytes.data,
          value->as.bytes.size, SQLITE_STATIC, SQLITE_UTF8);
    if (code != SQLITE_OK && bind_one(conn, stmt, i + 1, value, error) != MB_OK)
      return MB_ERROR;
  }
  return MB_OK;
}

mb_status sl_give(mb_driver_conn *conn, sqlite3_context *context,
    const mb_value *value, mb_error *error)
{
  switch (value->tag) {
  case MB_NULL:
    sqlite3_result_null(context);
    break;
  case MB_BOOL:
  case MB_INT64:
    sqlite3_result_int64(context, value->as.integer);
    break;
  case MB_DOUBLE:
    if (isnan(value->as.real))
      return conn->host->fail(error, MB_DATA,
          "a function gave what is not a number (NaN), which SQLite cannot "
          "keep");
    sqlite3_result_double(context, value->as.real);
    break;
  case MB_BLOB:
    if (value->as.bytes.size == 0)
      sqlite3_result_zeroblob(context, 0);
    else
      sqlite3_result_blob64(context, value->as.bytes.data, value->as.bytes.size,
          SQLITE_TRANSIENT);
    break;
  case MB_UINT64:
    return conn->host->fail(error, MB_DATA,
        "a function gave a number above 2^63 - 1, the greatest integer of "
        "SQLite");
  case MB_ARRAY:
  case MB_CALLBACK:
  case MB_TAG_COUNT:
    return conn->host->fail(error, MB_UNSUPPORTED,
        "a function gave an array, which SQLite does not have");
  default:
    sqlite3_result_text64(context,
        value->as.bytes.data != NULL ? value->as.bytes.data : "",
        value->as.bytes.size, SQLITE_TRANSIENT, SQLITE_UTF8);
  }
  return MB_OK;
}
