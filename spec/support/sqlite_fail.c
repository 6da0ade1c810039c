/*
 * sqlite_fail.c: an extension of SQLite's for specs, with functions that fail.
 *
 *   fail(code)     ends its statement with that result code
 *   interrupt()    interrupts the connection, as somebody else could
 */
#include <sqlite3ext.h>
#include <stddef.h>
SQLITE_EXTENSION_INIT1

int sqlite3_sqlitefail_init(
    sqlite3 *db, char **message, const sqlite3_api_routines *api);

static void fail(sqlite3_context *context, int n, sqlite3_value **values)
{
  (void)n;
  sqlite3_result_error_code(context, sqlite3_value_int(values[0]));
}

static void interrupt(sqlite3_context *context, int n, sqlite3_value **values)
{
  (void)n;
  (void)values;
  sqlite3_interrupt(sqlite3_context_db_handle(context));
  sqlite3_result_int(context, 1);
}

int sqlite3_sqlitefail_init(
    sqlite3 *db, char **message, const sqlite3_api_routines *api)
{
  SQLITE_EXTENSION_INIT2(api);
  (void)message;
  int code = sqlite3_create_function_v2(
      db, "fail", 1, SQLITE_UTF8, NULL, fail, NULL, NULL, NULL);
  if (code == SQLITE_OK)
    code = sqlite3_create_function_v2(
        db, "interrupt", 0, SQLITE_UTF8, NULL, interrupt, NULL, NULL, NULL);
  return code;
}
