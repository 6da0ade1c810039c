/*
 * loops_sqlite.c: what a careful program in C does, as the measure of the
 * others.
 *
 *   loops data FILE ROWS           makes the table that all read
 *   loops stream FILE              reads all rows
 *   loops point-cold FILE COUNT    reads COUNT rows by key, each by itself
 *   loops point-cached FILE COUNT  the same in one transaction, all in memory
 *   loops value-cached FILE COUNT  the same, one column
 *   loops insert FILE COUNT        writes COUNT rows in one transaction
 *
 * A connection is opened as the driver opens it: SQLITE_OPEN_NOMUTEX, a write-
 * ahead log, synchronous = normal.  All five columns are read, and bytes are
 * touched at both ends, where pointer and length say.  Prints one line: wall
 * time, CPU time, peak memory, checksum.
 */
#include "rows.h"

#include <sqlite3.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static void check(sqlite3 *db, bool ok, const char *what)
{
  if (ok)
    return;
  (void)fprintf(stderr, "loops: %s: %s\n", what,
      db != NULL ? sqlite3_errmsg(db) : "no memory");
  exit(1);
}

static sqlite3 *open_file(const char *path)
{
  sqlite3 *db = NULL;
  const int code = sqlite3_open_v2(path, &db,
      SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
  check(db, code == SQLITE_OK, path);
  return db;
}

static void run(sqlite3 *db, const char *sql)
{
  check(db, sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK, sql);
}

static sqlite3_stmt *prepare(sqlite3 *db, const char *sql)
{
  sqlite3_stmt *stmt = NULL;
  const int code =
      sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, &stmt, NULL);
  check(db, code == SQLITE_OK, sql);
  return stmt;
}

/* --- Data --------------------------------------------------------------- */

#define INSERT "insert into rows (id, big, x, t, b) values (?, ?, ?, ?, ?)"

static void create_table(sqlite3 *db)
{
  run(db, "pragma journal_mode = wal");
  run(db, "pragma synchronous = normal");
  run(db, "create table rows (id integer primary key, big integer, x real, "
          "t text, b blob)");
}

static void insert_row(
    sqlite3 *db, sqlite3_stmt *stmt, int64_t id, const row *values)
{
  (void)sqlite3_bind_int64(stmt, 1, id);
  (void)sqlite3_bind_int64(stmt, 2, values->big);
  (void)sqlite3_bind_double(stmt, 3, values->x);
  (void)sqlite3_bind_text(stmt, 4, values->t, 16, SQLITE_STATIC);
  (void)sqlite3_bind_blob(
      stmt, 5, values->b, (int)sizeof values->b, SQLITE_STATIC);
  check(db, sqlite3_step(stmt) == SQLITE_DONE, "insert");
  (void)sqlite3_reset(stmt);
}

static void make_data(sqlite3 *db, int64_t n)
{
  uint64_t state = 1;
  create_table(db);
  run(db, "begin");
  sqlite3_stmt *stmt = prepare(db, INSERT);
  for (int64_t id = 1; id <= n; id++) {
    const row made = make_row(&state);
    insert_row(db, stmt, id, &made);
  }
  (void)sqlite3_finalize(stmt);
  run(db, "commit");
  run(db, "pragma wal_checkpoint(truncate)");
}

/* --- Reading ------------------------------------------------------------ */

static double read_row(sqlite3_stmt *stmt)
{
  const int64_t id = sqlite3_column_int64(stmt, 0);
  touched += (uint64_t)sqlite3_column_int64(stmt, 1);
  const double x = sqlite3_column_double(stmt, 2);
  const unsigned char *t = sqlite3_column_text(stmt, 3);
  const int t_size = sqlite3_column_bytes(stmt, 3);
  const unsigned char *b = sqlite3_column_blob(stmt, 4);
  const int b_size = sqlite3_column_bytes(stmt, 4);
  touch(t, t_size);
  touch(b, b_size);
  return (double)id + x + t_size + b_size;
}

static void stream(sqlite3 *db)
{
  double sum = 0;
  const meter from = meter_read();
  sqlite3_stmt *stmt = prepare(db, "select id, big, x, t, b from rows");
  int code;
  while ((code = sqlite3_step(stmt)) == SQLITE_ROW)
    sum += read_row(stmt);
  check(db, code == SQLITE_DONE, "stream");
  (void)sqlite3_finalize(stmt);
  report(from, sum);
}

static void read_points(sqlite3 *db, const char *sql, int64_t n, bool all)
{
  double sum = 0;
  int64_t state = 0;
  sqlite3_stmt *stmt = prepare(db, sql);
  const meter from = meter_read();
  for (int64_t i = 0; i < n; i++) {
    (void)sqlite3_bind_int64(stmt, 1, next_key(&state));
    check(db, sqlite3_step(stmt) == SQLITE_ROW, "point");
    sum += all ? read_row(stmt) : sqlite3_column_double(stmt, 0);
    (void)sqlite3_reset(stmt);
  }
  report(from, sum);
  (void)sqlite3_finalize(stmt);
}

#define POINT "select id, big, x, t, b from rows where id = ?"
#define VALUE "select x from rows where id = ?"

/* Brings the whole table into the page cache. */
static void warm_up(sqlite3 *db)
{
  run(db, "pragma cache_size = -262144");
  run(db, "begin");
  run(db, "select sum(length(b)) from rows");
}

/* --- Writing ------------------------------------------------------------ */

static void insert(sqlite3 *db, int64_t n)
{
  static row pool[POOL];
  uint64_t state = 1;
  for (size_t i = 0; i < POOL; i++)
    pool[i] = make_row(&state);
  create_table(db);
  const meter from = meter_read();
  run(db, "begin immediate");
  sqlite3_stmt *stmt = prepare(db, INSERT);
  for (int64_t id = 1; id <= n; id++)
    insert_row(db, stmt, id, &pool[id % POOL]);
  (void)sqlite3_finalize(stmt);
  run(db, "commit");
  report(from, (double)n);
}

int main(int argc, char **argv)
{
  if (argc < 3)
    return 2;
  const char *what = argv[1];
  sqlite3 *db = open_file(argv[2]);
  const int64_t n = argc > 3 ? strtoll(argv[3], NULL, 10) : 0;
  if (strcmp(what, "data") == 0) {
    make_data(db, n);
  } else if (strcmp(what, "stream") == 0) {
    stream(db);
  } else if (strcmp(what, "insert") == 0) {
    insert(db, n);
  } else if (strcmp(what, "point-cold") == 0) {
    read_points(db, POINT, n, true);
  } else if (strcmp(what, "point-cached") == 0) {
    warm_up(db);
    read_points(db, POINT, n, true);
  } else if (strcmp(what, "value-cached") == 0) {
    warm_up(db);
    read_points(db, VALUE, n, false);
  } else {
    return 2;
  }
  (void)sqlite3_close(db);
  return 0;
}
