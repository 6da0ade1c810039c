/*
 * capi.c: what a shop has in stock, through Moonbase's API for C.
 *
 *   cc capi.c -o capi $(pkg-config --cflags --libs moonbase-sqlite)
 *   ./capi sqlite:stock.db
 *
 * Every call answers a status; where it is MB_ERROR the mb_error is filled, and
 * what the call would have given is NULL.
 */
#include <moonbase/moonbase.h>
#include <moonbase/sqlite.h>

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

typedef struct article {
  const char *name;
  int64_t count;
  const char *shelf; /* NULL: not known yet */
} article;

static int fail(const mb_error *error)
{
  size_t size;
  const char *text = mb_error_text(error, MB_MESSAGE, &size);
  (void)fprintf(stderr, "%s: %.*s\n", mb_class_name(error->class), (int)size,
      text != NULL ? text : "");
  return 1;
}

static mb_value text_value(const char *text)
{
  mb_value value = {.tag = text != NULL ? MB_TEXT : MB_NULL};
  value.as.bytes.data = text;
  value.as.bytes.size = text != NULL ? strlen(text) : 0;
  return value;
}

/* Runs a statement inside tx (NULL: by itself) whose rows nobody wants.  The
 * connection keeps what it has prepared: the same text is prepared once. */
static mb_status execute(mb_conn *conn, const mb_tx *tx, const char *sql,
    const mb_value *params, size_t n, mb_error *error)
{
  mb_stmt *stmt;
  if (mb_conn_statement(conn, sql, strlen(sql), 0, &stmt, error) != MB_OK)
    return MB_ERROR;
  const mb_status status = mb_stmt_run(&stmt, tx, params, n, NULL, error);
  return status == MB_ROW ? mb_stmt_finish(stmt, error) : status;
}

static mb_status add(
    mb_conn *conn, const mb_tx *tx, const article *added, mb_error *error)
{
  const mb_value values[] = {text_value(added->name),
      {.tag = MB_INT64, .as.integer = added->count}, text_value(added->shelf)};
  return execute(
      conn, tx, "insert into article values (?, ?, ?)", values, 3, error);
}

/* All articles or none: a transaction that is dropped is rolled back before the
 * connection does anything else. */
static mb_status add_all(
    mb_conn *conn, const article *list, size_t n, mb_error *error)
{
  mb_tx tx;
  if (mb_tx_begin(conn, NULL, NULL, &tx, error) != MB_OK)
    return MB_ERROR;
  for (size_t i = 0; i < n; i++)
    if (add(conn, &tx, &list[i], error) != MB_OK) {
      mb_tx_drop(&tx);
      return MB_ERROR;
    }
  return mb_tx_commit(&tx, error);
}

/* Prints what there is at least so many of. */
static mb_status print_stock(mb_conn *conn, int64_t least, mb_error *error)
{
  static const char sql[] =
      "select name, count, shelf from article where count >= :least order by "
      "name";
  const mb_value param = {.tag = MB_INT64, .as.integer = least};
  const mb_value *row;
  mb_stmt *stmt;
  if (mb_conn_statement(conn, sql, sizeof sql - 1, 0, &stmt, error) != MB_OK)
    return MB_ERROR;
  mb_status status = mb_stmt_run(&stmt, NULL, &param, 1, NULL, error);
  while (status == MB_ROW &&
         (status = mb_stmt_fetch(stmt, &row, error)) == MB_ROW) {
    const bool known = row[2].tag != MB_NULL;
    (void)printf("%3" PRId64 " %.*s, shelf %.*s\n", row[1].as.integer,
        (int)row[0].as.bytes.size, row[0].as.bytes.data,
        known ? (int)row[2].as.bytes.size : 1,
        known ? row[2].as.bytes.data : "?");
  }
  return status;
}

static mb_status use(mb_conn *conn, mb_error *error)
{
  static const article delivered[] = {
      {"pen", 120, "A1"}, {"paper", 40, "B7"}, {"ink", 6, NULL}};
  static const article wrong[] = {{"ruler", 15, "A2"}, {"glue", -1, "A3"}};

  if (execute(conn, NULL,
          "create table article (name text primary key, count integer not "
          "null, shelf text, constraint not_less_than_none check (count >= 0))",
          NULL, 0, error) != MB_OK ||
      add_all(conn, delivered, 3, error) != MB_OK)
    return MB_ERROR;

  /* An error that is expected: its class says what it is, its texts of whom. */
  if (add_all(conn, wrong, 2, error) == MB_ERROR) {
    size_t size;
    const char *name = mb_error_text(error, MB_CONSTRAINT_NAME, &size);
    if (!mb_class_is(error->class, MB_CONSTRAINT) || name == NULL)
      return MB_ERROR;
    (void)printf("refused: %.*s\n", (int)size, name);
  }
  return print_stock(conn, 1, error);
}

int main(int argc, char **argv)
{
  const char *url = argc > 1 ? argv[1] : "sqlite::memory:";
  mb_pool *pool;
  mb_conn *conn;
  mb_error error;
  if (mb_pool_open(mb_driver_sqlite(), url, NULL, 0, &pool, &error) != MB_OK)
    return fail(&error);
  mb_status status = mb_pool_acquire(pool, NULL, 0, &conn, &error);
  if (status == MB_OK) {
    status = use(conn, &error);
    mb_conn_release(conn);
  }
  mb_pool_close(pool, 0);
  return status == MB_ERROR ? fail(&error) : 0;
}
