/*
 * writers.c: many threads that write one SQLite file.
 *
 *   writers plain FILE N      16 threads write N rows each by autocommit, each
 *                             on a connection of its own, with
 *                             sqlite3_busy_timeout
 *   writers handler FILE N    by a pool without a place to write, whose
 *                             connections wait with the driver's busy handler
 *   writers place FILE N      by a pool with one place to write
 *   writers beside-plain, beside-handler, beside-place FILE N
 *                             the same, beside a thread that reads a row each
 *                             millisecond
 *
 * A connection is opened as the driver opens it: SQLITE_OPEN_NOMUTEX, a write-
 * ahead log, synchronous = normal.  A write's wait is all of its time, from the
 * wish to write to the end.
 */
#include "../drivers/sqlite/driver.h"
#include "../src/moonbase.h"

#include "threads.h"

#include <sqlite3.h>
#include <stdbool.h>
#include <string.h>

#define N_WRITERS 16
#define READ_PAUSE_NS (1000 * NS_PER_US)
#define BUSY_TIMEOUT_MS 60000
#define INSERT "insert into t (writer, n) values (?, ?)"
#define READ "select n from r where id = ?"
#define N_READABLE 1000

static const char *path;
static int64_t n_rows; /* of each writer */
static bool by_pool, by_place, reads;
static mb_pool *pool;
static atomic_int n_writing; /* threads that have not come to their end */
static bench_times waits[N_WRITERS];
static bench_times reading_alone, reading_beside;

/* --- SQLite itself ------------------------------------------------------ */

static sqlite3 *open_file(void)
{
  sqlite3 *db = NULL;
  bench_check(
      sqlite3_open_v2(path, &db,
          SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX,
          NULL) == SQLITE_OK,
      path);
  (void)sqlite3_busy_timeout(db, BUSY_TIMEOUT_MS);
  bench_check(sqlite3_exec(db, "pragma synchronous = normal", NULL, NULL,
                  NULL) == SQLITE_OK,
      "pragma");
  return db;
}

static sqlite3_stmt *prepare(sqlite3 *db, const char *sql)
{
  sqlite3_stmt *stmt = NULL;
  bench_check(sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, &stmt,
                  NULL) == SQLITE_OK,
      sql);
  return stmt;
}

static void make_file(void)
{
  sqlite3 *db = open_file();
  bench_check(sqlite3_exec(db,
                  "pragma journal_mode = wal;"
                  "create table t (writer integer, n integer);"
                  "create table r (id integer primary key, n integer);"
                  "with recursive i(n) as (select 1 union all select n + 1 "
                  "from i where "
                  "n < 1000) insert into r select n, -n from i;",
                  NULL, NULL, NULL) == SQLITE_OK,
      "the file");
  (void)sqlite3_close(db);
}

/* Runs a statement with up to two values, and ends it. */
static int run(sqlite3_stmt *stmt, int64_t first, int64_t second)
{
  (void)sqlite3_bind_int64(stmt, 1, first);
  if (sqlite3_bind_parameter_count(stmt) > 1)
    (void)sqlite3_bind_int64(stmt, 2, second);
  const int code = sqlite3_step(stmt);
  (void)sqlite3_reset(stmt);
  return code;
}

/* --- The same by a pool -------------------------------------------------- */

static void open_pool(void)
{
  const mb_option options[] = {
      {"path", path}, {"single_writer", by_place ? "true" : "false"}};
  mb_error error;
  bench_check(mb_pool_open(
                  mb_driver_sqlite(), NULL, options, 2, &pool, &error) == MB_OK,
      "a pool");
}

static void run_by_pool(
    const char *sql, unsigned flags, int64_t first, int64_t second)
{
  const mb_value values[] = {{.tag = MB_INT64, .as.integer = first},
      {.tag = MB_INT64, .as.integer = second}};
  const mb_value *row;
  mb_conn *conn;
  mb_stmt *stmt;
  mb_error error;
  bench_check(mb_pool_acquire(pool, NULL, flags, &conn, &error) == MB_OK,
      "a connection");
  bench_check(
      mb_conn_statement(conn, sql, strlen(sql), 0, &stmt, &error) == MB_OK,
      "a statement");
  mb_status status = mb_stmt_run(
      &stmt, NULL, values, mb_stmt_n_parameters(stmt), NULL, &error);
  if (status == MB_ROW &&
      (status = mb_stmt_fetch(stmt, &row, &error)) == MB_ROW)
    status = mb_stmt_finish(stmt, &error);
  bench_check(status == MB_DONE, sql);
  mb_conn_release(conn);
}

/* --- Threads ------------------------------------------------------------ */

static void write_rows(size_t number)
{
  sqlite3 *db = by_pool ? NULL : open_file();
  sqlite3_stmt *stmt = by_pool ? NULL : prepare(db, INSERT);
  for (int64_t i = 0; i < n_rows; i++) {
    const int64_t since_ns = bench_now_ns();
    if (by_pool)
      run_by_pool(INSERT, by_place ? MB_ACQUIRE_WRITER : 0, (int64_t)number, i);
    else
      bench_check(run(stmt, (int64_t)number, i) == SQLITE_DONE, "a write");
    bench_times_add(&waits[number], bench_now_ns() - since_ns);
  }
  (void)sqlite3_finalize(stmt);
  (void)sqlite3_close(db);
  (void)atomic_fetch_sub(&n_writing, 1);
}

static void read_once(sqlite3_stmt *stmt, bench_times *times)
{
  static int64_t key;
  const struct timespec pause = {.tv_nsec = READ_PAUSE_NS};
  (void)nanosleep(&pause, NULL);
  key = key % N_READABLE + 1;
  const int64_t since_ns = bench_now_ns();
  if (by_pool)
    run_by_pool(READ, 0, key, 0);
  else
    bench_check(run(stmt, key, 0) == SQLITE_ROW, "a read");
  bench_times_add(times, bench_now_ns() - since_ns);
}

static void read_rows(void)
{
  sqlite3 *db = by_pool ? NULL : open_file();
  sqlite3_stmt *stmt = by_pool ? NULL : prepare(db, READ);
  for (int i = 0; i < 500; i++)
    read_once(stmt, &reading_alone);
  atomic_store(&n_writing, N_WRITERS);
  (void)sched_yield();
  while (atomic_load(&n_writing) > 0)
    read_once(stmt, &reading_beside);
  (void)sqlite3_finalize(stmt);
  (void)sqlite3_close(db);
}

/* The last thread reads, where there is one more than writers. */
static void work(size_t number)
{
  const struct timespec pause = {.tv_nsec = READ_PAUSE_NS};
  if (number == N_WRITERS) {
    read_rows();
    return;
  }
  while (atomic_load(&n_writing) == 0)
    (void)nanosleep(&pause, NULL);
  write_rows(number);
}

/* --- All of it ---------------------------------------------------------- */

static void check_rows(void)
{
  sqlite3 *db = open_file();
  sqlite3_stmt *stmt = prepare(
      db, "select count(*) from (select distinct writer, n from t) where ?");
  (void)sqlite3_bind_int64(stmt, 1, 1);
  bench_check(sqlite3_step(stmt) == SQLITE_ROW &&
                  sqlite3_column_int64(stmt, 0) == N_WRITERS * n_rows,
      "no row is lost");
  (void)sqlite3_finalize(stmt);
  (void)sqlite3_close(db);
}

static void report(meter from)
{
  bench_report(from, (double)(N_WRITERS * n_rows));
  const bench_times all = bench_times_join(waits, N_WRITERS);
  bench_figure("median_ms", bench_times_at(&all, 0.5) / 1e6);
  bench_figure("longest_ms", bench_times_at(&all, 1) / 1e6);
  if (reads) {
    const bench_times alone = bench_times_join(&reading_alone, 1);
    const bench_times beside = bench_times_join(&reading_beside, 1);
    bench_figure("read_alone_us", bench_times_at(&alone, 0.5) / 1e3);
    bench_figure("read_us", bench_times_at(&beside, 0.5) / 1e3);
    bench_figure("read_p99_us", bench_times_at(&beside, 0.99) / 1e3);
  }
  printf("\n");
}

int main(int argc, char **argv)
{
  if (argc != 4)
    return 2;
  static const char beside[] = "beside-";
  const char *what = argv[1];
  reads = strncmp(what, beside, sizeof beside - 1) == 0;
  what += reads ? sizeof beside - 1 : 0;
  path = argv[2];
  n_rows = strtoll(argv[3], NULL, 10);
  by_pool = strcmp(what, "plain") != 0;
  by_place = strcmp(what, "place") == 0;
  if (by_pool && !by_place && strcmp(what, "handler") != 0)
    return 2;
  make_file();
  if (by_pool)
    open_pool();
  for (size_t i = 0; i < N_WRITERS; i++)
    bench_times_open(&waits[i], (size_t)n_rows);
  bench_times_open(&reading_alone, 1000);
  bench_times_open(&reading_beside, 1000000);
  atomic_init(&n_writing, reads ? 0 : N_WRITERS);
  const meter from = bench_run(N_WRITERS + reads, work);
  report(from);
  if (by_pool)
    mb_pool_close(pool, 0);
  check_rows();
  return 0;
}
