/*
 * loops_mysql.c: what a careful program in C does with the client library of
 * MariaDB or MySQL, as the measure of the others.
 *
 *   loops_mysql data URL ROWS          makes the table that all read
 *   loops_mysql stream URL             reads all rows, prepared, binary,
 *                                      unbuffered
 *   loops_mysql stream-text URL        the same, text, unbuffered
 *   loops_mysql point URL COUNT        reads COUNT rows by key, each by itself
 *   loops_mysql bulk URL COUNT         loads COUNT rows by array binding, 1,000
 *                                      at a time (MariaDB's library)
 *   loops_mysql bulk-values URL COUNT  the same by prepared INSERTs of 1,000
 * rows
 *
 * The URL is that of a unix socket: mysql://USER@SOCKET/DATABASE, the socket's
 * slashes as %2F.  Prints one line: wall time, CPU time, peak memory, checksum.
 */
#include "rows.h"

#include <mysql.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK 1000 /* rows at a time */
#define COLUMNS 5

#define SELECT \
  "select id, big, x, t, b from moonbase.rows" /* rows is a reserved word */
#define POINT SELECT " where id = ?"
#define INSERT "insert into written (id, big, x, t, b) values (?, ?, ?, ?, ?)"

#ifdef MARIADB_BASE_VERSION
typedef my_bool flag;
#else
typedef bool flag;
#endif

static void check(bool ok, const char *what, const char *message)
{
  if (ok)
    return;
  (void)fprintf(stderr, "loops: %s: %s\n", what, message);
  exit(1);
}

static void run(MYSQL *conn, const char *sql)
{
  check(mysql_query(conn, sql) == 0, sql, mysql_error(conn));
}

static void check_stmt(MYSQL_STMT *stmt, bool ok, const char *what)
{
  check(ok, what, mysql_stmt_error(stmt));
}

static MYSQL_STMT *prepare(MYSQL *conn, const char *sql)
{
  MYSQL_STMT *stmt = mysql_stmt_init(conn);
  check(stmt != NULL, "prepare", "no memory");
  check_stmt(stmt, mysql_stmt_prepare(stmt, sql, strlen(sql)) == 0, "prepare");
  return stmt;
}

/* --- Connecting --------------------------------------------------------- */

static void cut(char *at)
{
  check(at != NULL, "URL", "wrong");
  *at = '\0';
}

static MYSQL *connect_to(const char *url)
{
  static char text[1024];
  const char *start = strstr(url, "://");
  check(start != NULL && strlen(url) < sizeof text, "URL", "wrong");
  memcpy(text, start + 3, strlen(start + 3) + 1);
  char *const user = text, *const host = strchr(text, '@') + 1;
  cut(host - 1);
  char *const database = strchr(host, '/') + 1;
  cut(database - 1);
  char *to = host;
  for (const char *from = host; *from != '\0'; to++)
    if (strncmp(from, "%2F", 3) == 0) {
      *to = '/';
      from += 3;
    } else {
      *to = *from++;
    }
  *to = '\0';
  MYSQL *conn = mysql_init(NULL);
  (void)mysql_options(conn, MYSQL_SET_CHARSET_NAME, "utf8mb4");
  check(mysql_real_connect(conn, NULL, user, "", database, 0, host, 0) != NULL,
      "connect", mysql_error(conn));
  return conn;
}

/* --- Reading ------------------------------------------------------------ */

/* Where the columns of one row go. */
static struct {
  int32_t id;
  int64_t big;
  double x;
  unsigned char t[64], b[64];
  unsigned long lengths[COLUMNS];
  flag nulls[COLUMNS];
} got;

static void bind(
    MYSQL_BIND *to, int i, enum enum_field_types type, void *at, size_t size)
{
  to[i] = (MYSQL_BIND){.buffer_type = type,
      .buffer = at,
      .buffer_length = (unsigned long)size,
      .length = &got.lengths[i],
      .is_null = &got.nulls[i]};
}

static void bind_columns(MYSQL_STMT *stmt)
{
  MYSQL_BIND to[COLUMNS];
  bind(to, 0, MYSQL_TYPE_LONG, &got.id, sizeof got.id);
  bind(to, 1, MYSQL_TYPE_LONGLONG, &got.big, sizeof got.big);
  bind(to, 2, MYSQL_TYPE_DOUBLE, &got.x, sizeof got.x);
  bind(to, 3, MYSQL_TYPE_STRING, got.t, sizeof got.t);
  bind(to, 4, MYSQL_TYPE_BLOB, got.b, sizeof got.b);
  check_stmt(stmt, mysql_stmt_bind_result(stmt, to) == 0, "bind");
}

/* Reads to the end of a result. */
static double read_rows(MYSQL_STMT *stmt)
{
  double sum = 0;
  int status;
  while ((status = mysql_stmt_fetch(stmt)) == 0) {
    touched += (uint64_t)got.big;
    touch(got.t, (int)got.lengths[3]);
    touch(got.b, (int)got.lengths[4]);
    sum += (double)got.id + got.x + (double)(got.lengths[3] + got.lengths[4]);
  }
  check_stmt(stmt, status == MYSQL_NO_DATA, "fetch");
  return sum;
}

static void stream(MYSQL *conn)
{
  MYSQL_STMT *stmt = prepare(conn, SELECT);
  const meter from = meter_read();
  check_stmt(stmt, mysql_stmt_execute(stmt) == 0, "execute");
  bind_columns(stmt);
  const double sum = read_rows(stmt);
  report(from, sum);
  (void)mysql_stmt_close(stmt);
}

static void stream_text(MYSQL *conn)
{
  double sum = 0;
  MYSQL_ROW texts;
  const meter from = meter_read();
  run(conn, SELECT);
  MYSQL_RES *result = mysql_use_result(conn);
  check(result != NULL, "stream", mysql_error(conn));
  while ((texts = mysql_fetch_row(result)) != NULL) {
    const unsigned long *lengths = mysql_fetch_lengths(result);
    touched += (uint64_t)strtoll(texts[1], NULL, 10);
    touch((const unsigned char *)texts[3], (int)lengths[3]);
    touch((const unsigned char *)texts[4], (int)lengths[4]);
    sum += (double)strtoll(texts[0], NULL, 10) + strtod(texts[2], NULL) +
           (double)(lengths[3] + lengths[4]);
  }
  check(mysql_errno(conn) == 0, "stream", mysql_error(conn));
  mysql_free_result(result);
  report(from, sum);
}

static void read_points(MYSQL *conn, int64_t n)
{
  double sum = 0;
  int64_t state = 0, key = 0;
  MYSQL_BIND parameter = {.buffer_type = MYSQL_TYPE_LONGLONG, .buffer = &key};
  MYSQL_STMT *stmt = prepare(conn, POINT);
  check_stmt(stmt, mysql_stmt_bind_param(stmt, &parameter) == 0, "bind");
  bind_columns(stmt);
  const meter from = meter_read();
  for (int64_t i = 0; i < n; i++) {
    key = next_key(&state);
    check_stmt(stmt, mysql_stmt_execute(stmt) == 0, "execute");
    sum += read_rows(stmt);
  }
  report(from, sum);
  (void)mysql_stmt_close(stmt);
}

/* --- Writing ------------------------------------------------------------ */

/* A row's place among the values of a block. */
struct place {
  int64_t id;
  unsigned long t_size, b_size;
};

static void bind_row(MYSQL_BIND *to, struct place *at, row *values)
{
  at->t_size = (unsigned long)strlen(values->t);
  at->b_size = sizeof values->b;
  to[0] = (MYSQL_BIND){.buffer_type = MYSQL_TYPE_LONGLONG, .buffer = &at->id};
  to[1] =
      (MYSQL_BIND){.buffer_type = MYSQL_TYPE_LONGLONG, .buffer = &values->big};
  to[2] = (MYSQL_BIND){.buffer_type = MYSQL_TYPE_DOUBLE, .buffer = &values->x};
  to[3] = (MYSQL_BIND){.buffer_type = MYSQL_TYPE_STRING,
      .buffer = values->t,
      .buffer_length = at->t_size,
      .length = &at->t_size};
  to[4] = (MYSQL_BIND){.buffer_type = MYSQL_TYPE_BLOB,
      .buffer = values->b,
      .buffer_length = at->b_size,
      .length = &at->b_size};
}

/* An INSERT of a whole block. */
static MYSQL_STMT *prepare_values(MYSQL *conn, const char *table)
{
  static char sql[BLOCK * 12 + 128];
  int used = snprintf(
      sql, sizeof sql, "insert into %s (id, big, x, t, b) values ", table);
  for (int i = 0; i < BLOCK; i++)
    used += snprintf(sql + used, sizeof sql - (size_t)used, "%s(?,?,?,?,?)",
        i > 0 ? "," : "");
  return prepare(conn, sql);
}

/* Inserts n rows, a multiple of a block: those of the pool in turns, or new
 * ones without a pool. */
static void insert_values(MYSQL *conn, const char *table, int64_t n, row *pool)
{
  static MYSQL_BIND binds[BLOCK * COLUMNS];
  static struct place places[BLOCK];
  static row made[BLOCK];
  uint64_t state = 1;
  MYSQL_STMT *stmt = prepare_values(conn, table);
  for (int64_t id = 1; id <= n;) {
    for (int i = 0; i < BLOCK; i++, id++) {
      row *values = pool != NULL ? &pool[id % POOL] : &made[i];
      if (pool == NULL)
        made[i] = make_row(&state);
      places[i].id = id;
      bind_row(&binds[(size_t)i * COLUMNS], &places[i], values);
    }
    check_stmt(stmt, mysql_stmt_bind_param(stmt, binds) == 0, "bind");
    check_stmt(stmt, mysql_stmt_execute(stmt) == 0, "insert");
  }
  (void)mysql_stmt_close(stmt);
}

#ifdef MARIADB_BASE_VERSION
/* Where the columns of a block are: one array each. */
static struct {
  int64_t id[BLOCK], big[BLOCK];
  double x[BLOCK];
  char *t[BLOCK], *b[BLOCK];
  unsigned long t_size[BLOCK], b_size[BLOCK];
} block;

static void insert_arrays(MYSQL *conn, int64_t n, row *pool)
{
  const unsigned size = BLOCK;
  MYSQL_STMT *stmt = prepare(conn, INSERT);
  MYSQL_BIND from[COLUMNS] = {
      {.buffer_type = MYSQL_TYPE_LONGLONG, .buffer = block.id},
      {.buffer_type = MYSQL_TYPE_LONGLONG, .buffer = block.big},
      {.buffer_type = MYSQL_TYPE_DOUBLE, .buffer = block.x},
      {.buffer_type = MYSQL_TYPE_STRING,
          .buffer = (void *)block.t,
          .length = block.t_size},
      {.buffer_type = MYSQL_TYPE_BLOB,
          .buffer = (void *)block.b,
          .length = block.b_size}};
  (void)mysql_stmt_attr_set(stmt, STMT_ATTR_ARRAY_SIZE, &size);
  check_stmt(stmt, mysql_stmt_bind_param(stmt, from) == 0, "bind");
  for (int64_t id = 1; id <= n;) {
    for (int i = 0; i < BLOCK; i++, id++) {
      row *values = &pool[id % POOL];
      block.id[i] = id;
      block.big[i] = values->big;
      block.x[i] = values->x;
      block.t[i] = values->t;
      block.t_size[i] = (unsigned long)strlen(values->t);
      block.b[i] = (char *)values->b;
      block.b_size[i] = sizeof values->b;
    }
    check_stmt(stmt, mysql_stmt_execute(stmt) == 0, "insert");
  }
  (void)mysql_stmt_close(stmt);
}
#else
static void insert_arrays(MYSQL *conn, int64_t n, row *pool)
{
  (void)conn, (void)n, (void)pool;
  check(false, "bulk", "this library binds no arrays");
}
#endif

static void make_data(MYSQL *conn, int64_t n)
{
  static const char definition[] = " (id integer not null primary key, "
                                   "big bigint, x double, t text, b blob)";
  char sql[256];
  for (int i = 0; i < 2; i++) {
    (void)snprintf(sql, sizeof sql, "create table %s%s",
        i == 0 ? "moonbase.rows" : "written", definition);
    run(conn, sql);
  }
  run(conn, "begin");
  insert_values(conn, "moonbase.rows", n, NULL);
  run(conn, "commit");
}

static void bulk(MYSQL *conn, int64_t n, bool arrays)
{
  static row pool[POOL];
  uint64_t state = 1;
  for (size_t i = 0; i < POOL; i++)
    pool[i] = make_row(&state);
  run(conn, "truncate written");
  const meter from = meter_read();
  run(conn, "begin");
  if (arrays)
    insert_arrays(conn, n, pool);
  else
    insert_values(conn, "written", n, pool);
  run(conn, "commit");
  report(from, (double)n);
}

int main(int argc, char **argv)
{
  if (argc < 3)
    return 2;
  const char *what = argv[1];
  MYSQL *conn = connect_to(argv[2]);
  const int64_t n = argc > 3 ? strtoll(argv[3], NULL, 10) : 0;
  if (strcmp(what, "data") == 0) {
    make_data(conn, n);
  } else if (strcmp(what, "stream") == 0) {
    stream(conn);
  } else if (strcmp(what, "stream-text") == 0) {
    stream_text(conn);
  } else if (strcmp(what, "point") == 0) {
    read_points(conn, n);
  } else if (strcmp(what, "bulk") == 0) {
    bulk(conn, n, true);
  } else if (strcmp(what, "bulk-values") == 0) {
    bulk(conn, n, false);
  } else {
    return 2;
  }
  mysql_close(conn);
  mysql_library_end();
  return 0;
}
