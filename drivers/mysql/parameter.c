/* parameter.c: from values to what the library binds. */
#include "mysql.h"

#include <math.h>
#include <string.h>

/* Of a message beside the values: its head, types and lengths. */
#define OVERHEAD 1024

mb_status mq_make_params(mb_driver_stmt *stmt, size_t n, mb_error *error)
{
  const mb_host *host = stmt->conn->host;
  if (stmt->params_room >= n)
    return MB_OK;
  MYSQL_BIND *params = host->allocate(n * sizeof *params);
  MYSQL_TIME *times = host->allocate(n * sizeof *times);
  bool *were_numbers = host->allocate(n * sizeof *were_numbers);
  if (params == NULL || times == NULL || were_numbers == NULL) {
    host->release(params);
    host->release(times);
    host->release(were_numbers);
    return mq_out_of_memory(host, error);
  }
  host->release(stmt->params);
  host->release(stmt->times);
  host->release(stmt->were_numbers);
  stmt->params = params;
  stmt->times = times;
  stmt->were_numbers = memset(were_numbers, 0, n * sizeof *were_numbers);
  stmt->params_room = n;
  return MB_OK;
}

static bool is_number(const mb_value *value)
{
  return value->tag == MB_BOOL || value->tag == MB_INT64 ||
         value->tag == MB_UINT64 || value->tag == MB_DOUBLE;
}

/* MySQL makes a number of a text where the statement was run with a number
 * before, and says nothing: 7 of '007', and 20 digits lose some. */
bool mq_is_spoilt(const mb_driver_stmt *stmt, const mb_value *values, size_t n)
{
  if (stmt->conn->is_mariadb)
    return false;
  for (size_t i = 0; i < n && i < stmt->params_room; i++)
    if (stmt->were_numbers[i] && values[i].tag != MB_NULL &&
        !is_number(&values[i]))
      return true;
  return false;
}

static void bind_bytes(const mb_value *value, MYSQL_BIND *bind)
{
  static char empty[1];
  bind->buffer_type =
      value->tag == MB_BLOB ? MYSQL_TYPE_BLOB : MYSQL_TYPE_STRING;
  bind->buffer =
      value->as.bytes.size > 0 ? (void *)value->as.bytes.data : empty;
  bind->buffer_length = (unsigned long)value->as.bytes.size;
}

/* As text: MySQL gives a column of texts a DATETIME without its fraction. */
static void bind_clock(MYSQL_BIND *bind, MYSQL_TIME *time)
{
  static const size_t whole = sizeof "2026-11-21 09:48:00" - 1;
  char text[MQ_TIME_SIZE];
  size_t size = mq_write_datetime(time, text);
  while (size > whole && size < whole + 7)
    text[size++] = '0';
  _Static_assert(sizeof *time >= MQ_TIME_SIZE, "a time has room for a text");
  bind->buffer_type = MYSQL_TYPE_STRING;
  bind->buffer = memcpy(time, text, size);
  bind->buffer_length = (unsigned long)size;
}

/* A text that tells a moment is the clock of the session's zone then. */
static void bind_text(const mb_driver_conn *conn, const mb_value *value,
    MYSQL_BIND *bind, MYSQL_TIME *time)
{
  const mb_driver_connector *connector = conn->connector;
  if (connector->zone_is_fixed &&
      mq_read_timestamptz(value->as.bytes.data, value->as.bytes.size,
          connector->zone_minutes, time)) {
    if (!conn->is_mariadb) {
      bind_clock(bind, time);
      return;
    }
    bind->buffer_type = MYSQL_TYPE_DATETIME;
    bind->buffer = time;
    bind->buffer_length = sizeof *time;
  } else {
    bind_bytes(value, bind);
  }
}

mb_status mq_bind_one(mb_driver_conn *conn, const mb_value *value,
    MYSQL_BIND *bind, MYSQL_TIME *time, size_t number, mb_error *error)
{
  *bind = (MYSQL_BIND){.buffer_type = MYSQL_TYPE_LONGLONG,
      .buffer = (void *)&value->as,
      .buffer_length = sizeof value->as.integer};
  switch (value->tag) {
  case MB_NULL:
    bind->buffer_type = MYSQL_TYPE_NULL;
    break;
  case MB_BOOL:
  case MB_INT64:
    break;
  case MB_UINT64:
    bind->is_unsigned = 1;
    break;
  case MB_DOUBLE:
    if (!isfinite(value->as.real))
      return conn->host->fail(error, MB_DATA,
          "parameter %zu is not a number (NaN) or infinite, which the "
          "database cannot keep",
          number);
    bind->buffer_type = MYSQL_TYPE_DOUBLE;
    break;
  case MB_TEXT:
  case MB_TIMESTAMPTZ:
    bind_text(conn, value, bind, time);
    break;
  case MB_ARRAY:
  case MB_CALLBACK:
  case MB_TAG_COUNT:
    return conn->host->fail(error, MB_UNSUPPORTED,
        "parameter %zu is an array, which the database does not have", number);
  default:
    bind_bytes(value, bind);
  }
  return MB_OK;
}

mb_status mq_check_size(
    const mb_driver_conn *conn, size_t size, mb_error *error)
{
  if (size + OVERHEAD <= conn->max_packet)
    return MB_OK;
  return conn->host->fail(error, MB_DATA,
      "the parameters take %zu bytes, and max_allowed_packet of the server is "
      "%zu",
      size + OVERHEAD, conn->max_packet);
}

mb_status mq_bind(
    mb_driver_stmt *stmt, const mb_value *values, size_t n, mb_error *error)
{
  mb_driver_conn *conn = stmt->conn;
  size_t size = 0;
  if (n != stmt->n_parameters)
    return conn->host->fail(error, MB_USAGE,
        "the statement has %zu parameters, but %zu were given",
        stmt->n_parameters, n);
  if (n == 0)
    return MB_OK;
  if (mq_make_params(stmt, n, error) != MB_OK)
    return MB_ERROR;
  for (size_t i = 0; i < n; i++) {
    if (mq_bind_one(conn, &values[i], &stmt->params[i], &stmt->times[i], i + 1,
            error) != MB_OK)
      return MB_ERROR;
    size += stmt->params[i].buffer_length + 12;
    stmt->were_numbers[i] |= is_number(&values[i]);
  }
  if (mq_check_size(conn, size, error) != MB_OK)
    return MB_ERROR;
  return mysql_stmt_bind_param(stmt->handle, stmt->params) == 0
             ? MB_OK
             : mq_fail(conn, stmt, error);
}
