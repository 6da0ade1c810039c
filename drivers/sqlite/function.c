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

#include <math.h>
#include <string.h>

#define ARGUMENTS_MAX 1000 /* of a function, in the latest SQLite */

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

static const char failed_text[] = "a function of the program has failed";

/* Ends the statement with what the callback said. */
static void fail_statement(
    mb_driver_conn *conn, sqlite3_context *context, const mb_error *error)
{
  conn->callback_error = *error;
  conn->callback_failed = true;
  sqlite3_result_error(context, failed_text, -1);
}

/* A comparison has no way to fail: what follows from it is undone. */
static int fail_comparison(mb_driver_conn *conn, const mb_error *error)
{
  conn->callback_error = *error;
  conn->callback_failed = true;
  conn->collation_failed = true;
  return 0;
}

/* Whether the statement is to end already, for a comparison. */
static bool is_over(const mb_driver_conn *conn, sqlite3_context *context)
{
  if (conn->collation_failed)
    sqlite3_result_error(context, failed_text, -1);
  return conn->collation_failed;
}

/* A statement that has failed for another reason ends its aggregates, too, and
 * nobody wants to know what they say then. */
bool sl_callback_failed(const mb_driver_conn *conn, int code)
{
  return conn->callback_failed &&
         (conn->collation_failed ||
             (code == SQLITE_ERROR &&
                 strcmp(sqlite3_errmsg(conn->db), failed_text) == 0));
}

static bool read_arguments(int n, sqlite3_value **values, mb_value *arguments)
{
  if (n > ARGUMENTS_MAX)
    return false;
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
  if (is_over(called->conn, context))
    return;
  if (!read_arguments(n, values, arguments))
    sqlite3_result_error_nomem(context);
  else if (called->callback.call(called->callback.context, arguments, (size_t)n,
               &result, &error) == MB_ERROR ||
           sl_give(called->conn, context, &result, &error) == MB_ERROR)
    fail_statement(called->conn, context, &error);
}

static void on_step(sqlite3_context *context, int n, sqlite3_value **values)
{
  const function *called = sqlite3_user_data(context);
  mb_value arguments[ARGUMENTS_MAX];
  mb_error error;
  int64_t *group = sqlite3_aggregate_context(context, sizeof *group);
  if (is_over(called->conn, context))
    return;
  if (group == NULL || !read_arguments(n, values, arguments)) {
    sqlite3_result_error_nomem(context);
    return;
  }
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
  const bool wanted =
      !called->conn->callback_failed && !called->conn->discarding;
  if (called->callback.finish(called->callback.context,
          group != NULL ? *group : 0, wanted ? &result : NULL,
          &error) == MB_ERROR ||
      sl_give(called->conn, context, &result, &error) == MB_ERROR)
    fail_statement(called->conn, context, &error);
}

/* The sign of what a comparison gave: -1, 0 or 1; else false. */
static bool read_sign(const mb_value *value, int *sign)
{
  if (value->tag == MB_INT64)
    *sign = (value->as.integer > 0) - (value->as.integer < 0);
  else if (value->tag == MB_DOUBLE && !isnan(value->as.real))
    *sign = (value->as.real > 0) - (value->as.real < 0);
  else
    return false;
  return true;
}

static int on_compare(void *argument, int left_size, const void *left,
    int right_size, const void *right)
{
  const function *called = argument;
  mb_value sides[2] = {{.tag = MB_TEXT}, {.tag = MB_TEXT}};
  mb_value result = {.tag = MB_NULL};
  mb_error error;
  int sign;
  sides[0].as.bytes.data = left;
  sides[0].as.bytes.size = (size_t)left_size;
  sides[1].as.bytes.data = right;
  sides[1].as.bytes.size = (size_t)right_size;
  if (called->conn->callback_failed)
    return 0;
  if (called->callback.call(
          called->callback.context, sides, 2, &result, &error) == MB_ERROR)
    return fail_comparison(called->conn, &error);
  if (!read_sign(&result, &sign)) {
    called->conn->host->fail(&error, MB_USAGE,
        "a collation has to give a number: below, equal to or above 0");
    return fail_comparison(called->conn, &error);
  }
  return sign;
}

/* What was ordered by a comparison that failed may be in the wrong place. */
static int on_commit(void *argument)
{
  const mb_driver_conn *conn = argument;
  return conn->collation_failed;
}

/* Checks name and callback, and makes what SQLite is to hold.  The callback is
 * the caller's until SQLite has taken it: SQLite may call forget also when it
 * has not. */
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
  made->callback.release = NULL;
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
  const int most = sqlite3_limit(conn->db, SQLITE_LIMIT_FUNCTION_ARG, -1);
  if (arguments->tag != MB_INT64 || arguments->as.integer < -1 ||
      arguments->as.integer > most)
    return conn->host->fail(
        error, MB_USAGE, "a function takes 0 to %d arguments", most);
  function *made = make(conn, name, callback, error);
  if (made == NULL)
    return MB_ERROR;
  copy_name(name, room);
  const int n = (int)arguments->as.integer;
  /* What has no other effect than its result may stand in an index or a CHECK,
   * although the schema is not trusted. */
  const int pure = SQLITE_DETERMINISTIC | SQLITE_INNOCUOUS;
  /* SQLite calls forget also when this fails. */
  const int code = sqlite3_create_function_v2(conn->db, room, n,
      SQLITE_UTF8 | (deterministic ? pure : 0), made,
      aggregate ? NULL : on_call, aggregate ? on_step : NULL,
      aggregate ? on_end : NULL, forget);
  if (code != SQLITE_OK)
    return sl_fail(conn, code, SL_RUNNING, error);
  made->callback.release = callback->as.callback->release;
  return MB_DONE;
}

mb_status sl_create_function(
    mb_driver_conn *conn, const mb_value *values, size_t n, mb_error *error)
{
  if (n != 4)
    return conn->host->fail(error, MB_USAGE,
        "create_function wants (name, arguments, deterministic, callback)");
  return create(conn, &values[0], &values[1],
      values[2].tag == MB_BOOL && values[2].as.integer != 0, &values[3], false,
      error);
}

mb_status sl_create_aggregate(
    mb_driver_conn *conn, const mb_value *values, size_t n, mb_error *error)
{
  if (n != 3)
    return conn->host->fail(
        error, MB_USAGE, "create_aggregate wants (name, arguments, callback)");
  return create(conn, &values[0], &values[1], false, &values[2], true, error);
}

mb_status sl_create_collation(
    mb_driver_conn *conn, const mb_value *values, size_t n, mb_error *error)
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
  made->callback.release = values[1].as.callback->release;
  conn->has_collations = true;
  (void)sqlite3_commit_hook(conn->db, on_commit, conn);
  return MB_DONE;
}
