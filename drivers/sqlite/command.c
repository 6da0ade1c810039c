/* command.c: what only SQLite has, by name. */
#include "sqlite.h"

#include <string.h>

/* Commands that give rows. */
static const struct {
  const char *name;
  sl_kind kind;
  mb_status (*open)(mb_driver_conn *conn, const mb_value *values, size_t n,
      mb_driver_stmt *stmt, mb_error *error);
} with_rows[] = {
    {"backup", SL_BACKUP, sl_open_backup},
    {"blob_read", SL_BLOB, sl_open_blob},
};

static const struct {
  const char *name;
  mb_status (*run)(
      mb_driver_conn *conn, const mb_value *values, size_t n, mb_error *error);
} without_rows[] = {
    {"create_function", sl_create_function},
    {"create_aggregate", sl_create_aggregate},
    {"create_collation", sl_create_collation},
};

static mb_status open_rows(mb_driver_conn *conn, size_t which,
    const mb_value *values, size_t n, mb_driver_stmt **out, mb_result *result,
    mb_error *error)
{
  mb_driver_stmt *stmt = conn->host->allocate(sizeof *stmt);
  if (stmt == NULL)
    return sl_out_of_memory(conn->host, error);
  *stmt = (mb_driver_stmt){
      .conn = conn, .kind = with_rows[which].kind, .result = result};
  if (with_rows[which].open(conn, values, n, stmt, error) == MB_ERROR) {
    sl_close_statement(stmt);
    return MB_ERROR;
  }
  result->columns = stmt->columns;
  result->n_columns = stmt->n_columns;
  result->columns_serial = stmt->columns_serial;
  *out = stmt;
  return MB_ROW;
}

mb_status sl_command(mb_driver_conn *conn, const char *name,
    const mb_value *values, size_t n, mb_driver_stmt **out, mb_result *result,
    mb_op *op, mb_error *error)
{
  sl_watch(conn, op);
  for (size_t i = 0; i < sizeof with_rows / sizeof with_rows[0]; i++)
    if (strcmp(name, with_rows[i].name) == 0) {
      sl_make_way(conn, op, true);
      return open_rows(conn, i, values, n, out, result, error);
    }
  for (size_t i = 0; i < sizeof without_rows / sizeof without_rows[0]; i++)
    if (strcmp(name, without_rows[i].name) == 0)
      return without_rows[i].run(conn, values, n, error);
  return conn->host->fail(
      error, MB_UNSUPPORTED, "SQLite has no command \"%.40s\"", name);
}
