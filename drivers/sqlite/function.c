/*
 * function.c: functions, aggregates and collations of the program.
 *
 *   create_function(name, arguments or -1, deterministic, callback)
 *   create_aggregate(name, arguments or -1, callback)
 *   create_collation(name, callback)
 *
 * A callback that fails makes its statement fail with the callback's own error.
 */
#include "sqlite.h"

#include <string.h>

#define ARGUMENTS_MAX 127 /* of a function of SQLite's */

typedef struct function {
  mb_driver_conn *conn;
  mb_callback callback; /* a copy */
} function;

static void forget(void *argument)
{
  function *called = argument;
  if (called->callback.release != NULL)
    called->callback.release(called->callback.context);
  called->conn->host->release(called);
}

/* Ends the statement with what the callback said. */
static void fail_statement(
    mb_driver_conn *conn, sqlite3_context *context, const mb_error *error)
{
  if (!conn->callback_failed)
    conn->callback_error = *error;
  conn->callback_failed = true;
  if (context != NULL)
    sqlite3_result_error(
        context, "a function of the program has failed", -1);
  else
    sqlite3_interrupt(conn->db);
}

static bool read_arguments(
    int n, sqlite3_value **values, mb_value *arguments)
{
  for (int i = 0; i < n; i++)
    if (!sl_read(values[i], &arguments[i]))
      return false;
  return true;
}

static void on_call(sqlite3_context *context, int n, sqlite3_value **values)
{
  const function *called = sqlite3_user_data(context);
  mb_value arguments[ARGUMENTS_MAX];
  mb_value result = {.tag = MB_NULL};
  mb_error error;
  if (!read_arguments(n, values, arguments))
    sqlite3_result_error_nomem(context);
  else if (called->callback.call(called->callback.context, arguments,
               (size_t)n, &result, &error) == MB_ERROR)
    fail_statement(called->conn, context, &error);
  else
    sl_give(context, &result);
}

static void on_step(sqlite3_context *context, int n, sqlite3_value **values)
{
  const function *called = sqlite3_user_data(context);
  mb_value arguments[ARGUMENTS_MAX];
  mb_error error;
  int64_t *group = sqlite3_aggregate_context(context, sizeof *group);
  if (group == NULL || !read_arguments(n, values, arguments)) {
    sqlite3_result_error_nomem(context);
    return;
  }
  if (called->conn->callback_failed)
    return;
  if (*group == 0)
    *group = ++called->conn->last_group;
  if (called->callback.step(called->callback.context, *group, arguments,
          (size_t)n, &error) == MB_ERROR)
    fail_statement(called->conn, context, &error);
}

static void on_end(sqlite3_context *context)
{
  const function *called = sqlite3_user_data(context);
  const int64_t *group = sqlite3_aggregate_context(context, 0);
  mb_value result = {.tag = MB_NULL};
  mb_error error;
  /* After a failure SQLite ends the groups that it has begun. */
  const bool wanted = !called->conn->callback_failed;
  if (called->callback.finish(called->callback.context,
          group != NULL ? *group : 0, wanted ? &result : NULL,
          &error) == MB_ERROR)
    fail_statement(called->conn, context, &error);
  else if (wanted)
    sl_give(context, &result);
}

static int on_compare(void *argument, int left_size, const void *left,
    int right_size, const void *right)
{
  const function *called = argument;
  mb_value sides[2] = {{.tag = MB_TEXT}, {.tag = MB_TEXT}};
  mb_value result = {.tag = MB_INT64};
  mb_error error;
  sides[0].as.bytes.data = left;
  sides[0].as.bytes.size = (size_t)left_size;
  sides[1].as.bytes.data = right;
  sides[1].as.bytes.size = (size_t)right_size;
  if (called->conn->callback_failed)
    return 0;
  if (called->callback.call(called->callback.context, sides, 2, &result,
          &error) == MB_ERROR) {
    fail_statement(called->conn, NULL, &error);
    return 0;
  }
  return result.as.integer < 0 ? -1 : result.as.integer > 0;
}

/* Checks name and callback, and makes what SQLite is to hold. */
static function *make(mb_driver_conn *conn, const mb_value *name,
    const mb_value *callback, mb_error *error)
{
  if (name->tag != MB_TEXT || name->as.bytes.size == 0 ||
      name->as.bytes.size > 255 ||
      memchr(name->as.bytes.data, '\0', name->as.bytes.size) != NULL ||
      callback->tag != MB_CALLBACK) {
    conn->host->fail(error, MB_USAGE,
        "a function wants a name of 1 to 255 bytes without a zero byte");
    return NULL;
  }
  function *made = conn->host->allocate(sizeof *made);
  if (made == NULL) {
    (void)sl_out_of_memory(conn->host, error);
    return NULL;
  }
  made->conn = conn;
  conn->has_callbacks = true;
  made->callback = *callback->as.callback;
  return made;
}

static void copy_name(const mb_value *name, char *room)
{
  memcpy(room, name->as.bytes.data, name->as.bytes.size);
  room[name->as.bytes.size] = '\0';
}

static mb_status create(mb_driver_conn *conn, const mb_value *name,
    const mb_value *arguments, bool deterministic, const mb_value *callback,
    bool aggregate, mb_error *error)
{
  char room[256];
  function *made = make(conn, name, callback, error);
  if (made == NULL)
    return MB_ERROR;
  copy_name(name, room);
  const int n = arguments->tag == MB_INT64 && arguments->as.integer >= -1 &&
                        arguments->as.integer <= ARGUMENTS_MAX
                    ? (int)arguments->as.integer
                    : -1;
  /* SQLite calls forget also when this fails. */
  const int code = sqlite3_create_function_v2(conn->db, room, n,
      SQLITE_UTF8 | (deterministic ? SQLITE_DETERMINISTIC : 0), made,
      aggregate ? NULL : on_call, aggregate ? on_step : NULL,
      aggregate ? on_end : NULL, forget);
  return code == SQLITE_OK ? MB_DONE : sl_fail(conn, code, SL_RUNNING, error);
}

mb_status sl_create_function(mb_driver_conn *conn, const mb_value *values,
    size_t n, mb_error *error)
{
  if (n != 4)
    return conn->host->fail(error, MB_USAGE,
        "create_function wants (name, arguments, deterministic, callback)");
  return create(conn, &values[0], &values[1],
      values[2].tag == MB_BOOL && values[2].as.integer != 0, &values[3], false,
      error);
}

mb_status sl_create_aggregate(mb_driver_conn *conn, const mb_value *values,
    size_t n, mb_error *error)
{
  if (n != 3)
    return conn->host->fail(error, MB_USAGE,
        "create_aggregate wants (name, arguments, callback)");
  return create(
      conn, &values[0], &values[1], false, &values[2], true, error);
}

mb_status sl_create_collation(mb_driver_conn *conn, const mb_value *values,
    size_t n, mb_error *error)
{
  char room[256];
  if (n != 2)
    return conn->host->fail(
        error, MB_USAGE, "create_collation wants (name, callback)");
  function *made = make(conn, &values[0], &values[1], error);
  if (made == NULL)
    return MB_ERROR;
  copy_name(&values[0], room);
  const int code = sqlite3_create_collation_v2(
      conn->db, room, SQLITE_UTF8, made, on_compare, forget);
  if (code != SQLITE_OK) {
    forget(made); /* here SQLite does not */
    return sl_fail(conn, code, SL_RUNNING, error);
  }
  return MB_DONE;
}
