/*
 * loops_postgres.c: what a careful program in C does with libpq, as the measure
 * of the others.
 *
 *   loops_postgres data URL ROWS        makes the table that all read
 *   loops_postgres stream URL           reads all rows, single-row mode, text
 *   loops_postgres stream-binary URL    the same, binary
 *   loops_postgres stream-chunked URL   the same, text, in chunks (libpq 17)
 *   loops_postgres point URL COUNT      reads COUNT rows by key, each by itself
 *   loops_postgres pipeline URL COUNT   the same in pipelines of 100
 *   loops_postgres bulk URL COUNT       loads COUNT rows by one COPY, text
 *
 * Values are brought into the same form as in the other programs: numbers,
 * bytes in place of hexadecimal digits.  Prints one line: wall time, CPU time,
 * peak memory, checksum.
 */
#include "rows.h"

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define PIPELINE 100
#define COPY_BUFFER ((size_t)64 * 1024)
#define CHUNK 1000

#define SELECT "select id, big, x, t, b from rows"
#define POINT SELECT " where id = $1"

static void check(PGconn *conn, bool ok, const char *what)
{
  if (ok)
    return;
  (void)fprintf(stderr, "loops: %s: %s\n", what, PQerrorMessage(conn));
  exit(1);
}

static void run(PGconn *conn, const char *sql)
{
  PGresult *result = PQexec(conn, sql);
  const ExecStatusType status = PQresultStatus(result);
  check(conn, status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK, sql);
  PQclear(result);
}

/* --- Reading ------------------------------------------------------------ */

static int64_t read_int(const char *text)
{
  int64_t n = 0;
  const char *c = *text == '-' ? text + 1 : text;
  for (; *c != '\0'; c++)
    n = n * 10 + (*c - '0');
  return *text == '-' ? -n : n;
}

static unsigned digit(char c)
{
  return (unsigned)(c & 15) + (c > '9' ? 9 : 0);
}

/* What a bytea is in text: \x and two digits for each byte. */
static int read_hex(const char *text, int size, unsigned char *bytes)
{
  const int n = size / 2 - 1;
  for (int i = 0; i < n; i++)
    bytes[i] =
        (unsigned char)(digit(text[2 * i + 2]) << 4 | digit(text[2 * i + 3]));
  return n;
}

static double read_text_row(const PGresult *result, int i)
{
  unsigned char b[64];
  const int64_t id = read_int(PQgetvalue(result, i, 0));
  touched += (uint64_t)read_int(PQgetvalue(result, i, 1));
  const double x = strtod(PQgetvalue(result, i, 2), NULL);
  const int t_size = PQgetlength(result, i, 3);
  touch((const unsigned char *)PQgetvalue(result, i, 3), t_size);
  const int b_size =
      read_hex(PQgetvalue(result, i, 4), PQgetlength(result, i, 4), b);
  touch(b, b_size);
  return (double)id + x + t_size + b_size;
}

static uint64_t read_uint(const char *bytes, int size)
{
  uint64_t bits = 0;
  for (int i = 0; i < size; i++)
    bits = bits << 8 | (unsigned char)bytes[i];
  return bits;
}

static double read_binary_row(const PGresult *result, int i)
{
  const int32_t id = (int32_t)read_uint(PQgetvalue(result, i, 0), 4);
  touched += read_uint(PQgetvalue(result, i, 1), 8);
  const uint64_t bits = read_uint(PQgetvalue(result, i, 2), 8);
  double x;
  memcpy(&x, &bits, sizeof x);
  const int t_size = PQgetlength(result, i, 3);
  touch((const unsigned char *)PQgetvalue(result, i, 3), t_size);
  const int b_size = PQgetlength(result, i, 4);
  touch((const unsigned char *)PQgetvalue(result, i, 4), b_size);
  return (double)id + x + t_size + b_size;
}

static double read_result(const PGresult *result, bool binary)
{
  double sum = 0;
  const int n = PQntuples(result);
  for (int i = 0; i < n; i++)
    sum += binary ? read_binary_row(result, i) : read_text_row(result, i);
  return sum;
}

static bool set_chunked(PGconn *conn)
{
#ifdef LIBPQ_HAS_CHUNK_MODE
  return PQsetChunkedRowsMode(conn, CHUNK) == 1;
#else
  (void)conn;
  return false;
#endif
}

static void stream(PGconn *conn, bool binary, bool chunked)
{
  double sum = 0;
  PGresult *result;
  const meter from = meter_read();
  check(conn,
      PQsendQueryParams(
          conn, SELECT, 0, NULL, NULL, NULL, NULL, binary ? 1 : 0) == 1,
      "stream");
  check(conn, chunked ? set_chunked(conn) : PQsetSingleRowMode(conn) == 1,
      "row mode");
  while ((result = PQgetResult(conn)) != NULL) {
    check(conn, PQresultStatus(result) != PGRES_FATAL_ERROR, "stream");
    sum += read_result(result, binary);
    PQclear(result);
  }
  report(from, sum);
}

/* --- One row by its key ------------------------------------------------- */

static double read_point(PGconn *conn, PGresult *result)
{
  check(conn, PQresultStatus(result) == PGRES_TUPLES_OK, "point");
  const double sum = read_result(result, false);
  PQclear(result);
  return sum;
}

static void read_points(PGconn *conn, int64_t n)
{
  double sum = 0;
  int64_t state = 0;
  char key[24];
  const char *const values[] = {key};
  PQclear(PQprepare(conn, "point", POINT, 0, NULL));
  const meter from = meter_read();
  for (int64_t i = 0; i < n; i++) {
    (void)snprintf(key, sizeof key, "%lld", (long long)next_key(&state));
    sum += read_point(
        conn, PQexecPrepared(conn, "point", 1, values, NULL, NULL, 0));
  }
  report(from, sum);
}

static void read_pipelines(PGconn *conn, int64_t n)
{
  double sum = 0;
  int64_t state = 0;
  char key[24];
  const char *const values[] = {key};
  PQclear(PQprepare(conn, "point", POINT, 0, NULL));
  const meter from = meter_read();
  check(conn, PQenterPipelineMode(conn) == 1, "pipeline");
  for (int64_t done = 0; done < n; done += PIPELINE) {
    for (int i = 0; i < PIPELINE; i++) {
      (void)snprintf(key, sizeof key, "%lld", (long long)next_key(&state));
      check(conn,
          PQsendQueryPrepared(conn, "point", 1, values, NULL, NULL, 0) == 1,
          "send");
    }
    check(conn, PQpipelineSync(conn) == 1, "sync");
    for (int i = 0; i < PIPELINE; i++) {
      sum += read_point(conn, PQgetResult(conn));
      check(conn, PQgetResult(conn) == NULL, "end of a statement");
    }
    PGresult *end = PQgetResult(conn);
    check(conn, PQresultStatus(end) == PGRES_PIPELINE_SYNC, "sync");
    PQclear(end);
  }
  report(from, sum);
}

/* --- Writing ------------------------------------------------------------ */

static size_t write_row(char *to, int64_t id, const row *values)
{
  char hex[2 * sizeof values->b + 1];
  for (size_t i = 0; i < sizeof values->b; i++) {
    hex[2 * i] = "0123456789abcdef"[values->b[i] >> 4];
    hex[2 * i + 1] = "0123456789abcdef"[values->b[i] & 15];
  }
  hex[2 * sizeof values->b] = '\0';
  return (size_t)sprintf(to, "%lld\t%lld\t%.17g\t%s\t\\\\x%s\n", (long long)id,
      (long long)values->big, values->x, values->t, hex);
}

/* Loads n rows: those of the pool in turns, or new ones without a pool. */
static void copy_rows(PGconn *conn, const char *sql, int64_t n, const row *pool)
{
  static char buffer[COPY_BUFFER];
  size_t used = 0;
  uint64_t state = 1;
  PGresult *result = PQexec(conn, sql);
  check(conn, PQresultStatus(result) == PGRES_COPY_IN, sql);
  PQclear(result);
  for (int64_t id = 1; id <= n; id++) {
    const row made = pool != NULL ? pool[id % POOL] : make_row(&state);
    used += write_row(buffer + used, id, &made);
    if (used < COPY_BUFFER - 256 && id < n)
      continue;
    check(conn, PQputCopyData(conn, buffer, (int)used) == 1, "copy");
    used = 0;
  }
  check(conn, PQputCopyEnd(conn, NULL) == 1, "end of copy");
  result = PQgetResult(conn);
  check(conn, PQresultStatus(result) == PGRES_COMMAND_OK, "copy");
  PQclear(result);
  check(conn, PQgetResult(conn) == NULL, "end of copy");
}

static void make_data(PGconn *conn, int64_t n)
{
  run(conn, "create table rows (id integer not null, big bigint, "
            "x double precision, t text, b bytea)");
  copy_rows(conn, "copy rows from stdin", n, NULL);
  run(conn, "alter table rows add primary key (id)");
  run(conn, "vacuum (freeze, analyze) rows");
  run(conn, "create table written (like rows including indexes)");
}

static void bulk(PGconn *conn, int64_t n)
{
  static row pool[POOL];
  uint64_t state = 1;
  for (size_t i = 0; i < POOL; i++)
    pool[i] = make_row(&state);
  run(conn, "truncate written");
  const meter from = meter_read();
  copy_rows(conn, "copy written (id, big, x, t, b) from stdin", n, pool);
  report(from, (double)n);
}

int main(int argc, char **argv)
{
  if (argc < 3)
    return 2;
  const char *what = argv[1];
  PGconn *conn = PQconnectdb(argv[2]);
  check(conn, PQstatus(conn) == CONNECTION_OK, "connect");
  const int64_t n = argc > 3 ? strtoll(argv[3], NULL, 10) : 0;
  if (strcmp(what, "data") == 0) {
    make_data(conn, n);
  } else if (strcmp(what, "stream") == 0) {
    stream(conn, false, false);
  } else if (strcmp(what, "stream-binary") == 0) {
    stream(conn, true, false);
  } else if (strcmp(what, "stream-chunked") == 0) {
    stream(conn, false, true);
  } else if (strcmp(what, "point") == 0) {
    read_points(conn, n);
  } else if (strcmp(what, "pipeline") == 0) {
    read_pipelines(conn, n);
  } else if (strcmp(what, "bulk") == 0) {
    bulk(conn, n);
  } else {
    return 2;
  }
  PQfinish(conn);
  return 0;
}
