/*
 * memory_postgres_test.c: the core and the PostgreSQL driver without memory.
 *
 * A script does what a program may do with a server, whose URL is in MB_URL
 * (spec/support/serve.lua).  It is run with one allocation after the other
 * failing, those of the core and of the driver; libpq takes its own.  Whatever
 * fails is told as such, all memory comes back, and the table holds what was
 * committed and nothing else.
 */
#include "../../drivers/postgres/driver.h"
#include "../../src/moonbase.h"
#include "check.h"
#include "memory.h"

#include <libpq-fe.h>

static const char *url;
static PGconn *observer; /* a session beside, without Moonbase */

/* --- A run of the script ------------------------------------------------ */

/* The steps that write, each its own rows. */
enum part {
  ALONE,
  OUTER,
  INNER,
  UNDONE,
  MANY,
  LOADED,
  RETURNED,
  BATCHED,
  COPIED,
  N_PARTS
};

static const int64_t rows_of[N_PARTS] = {[ALONE] = 4,
    [OUTER] = 2,
    [INNER] = 1,
    [UNDONE] = 0,
    [MANY] = 20,
    [LOADED] = 20,
    [RETURNED] = 1,
    [BATCHED] = 40,
    [COPIED] = 2};

typedef struct trial {
  mb_pool *pool;
  mb_conn *conn;
  mb_error error;
  bool failed;              /* something has, for want of memory */
  int64_t written[N_PARTS]; /* rows that are committed */
  bool unknown[N_PARTS];    /* or it was reported as failed behind that */
} trial;

/* Whether a call went well, or failed for want of memory. */
static bool well(trial *t, mb_status status)
{
  return memory_well(status, &t->error, &t->failed);
}

/* The same for a call that has to fail, with an error of that class. */
static void badly(trial *t, mb_status status, mb_class class)
{
  if (!CHECK_INT(status, MB_ERROR))
    return;
  if (t->error.class != class) {
    (void)well(t, status);
  } else if (t->error.flags & MB_CONNECTION_DEAD) {
    /* There was no memory to ask the server to stop. */
    CHECK(memory_refused > 0);
    t->failed = true;
  }
}

/* The same for what is committed by itself: once it was sent, nobody knows. */
static bool wrote(trial *t, enum part part, mb_status status)
{
  if (!well(t, status)) {
    t->unknown[part] |= (t->error.flags & MB_SENT) != 0;
    return false;
  }
  t->written[part]++;
  return true;
}

static mb_value text_value(const char *text)
{
  return (mb_value){.tag = MB_TEXT, .as.bytes = {text, strlen(text)}};
}

static mb_status start_within(trial *t, const mb_tx *tx, const char *sql,
    const mb_value *params, size_t n, const mb_call *call, mb_stmt **stmt)
{
  if (mb_conn_statement(t->conn, sql, strlen(sql), 0, stmt, &t->error) != MB_OK)
    return MB_ERROR;
  return mb_stmt_run(stmt, tx, params, n, call, &t->error);
}

static mb_status execute(trial *t, const mb_tx *tx, const char *sql,
    const mb_value *params, size_t n)
{
  mb_stmt *stmt;
  const mb_status status = start_within(t, tx, sql, params, n, NULL, &stmt);
  return status == MB_ROW ? mb_stmt_finish(stmt, &t->error) : status;
}

/* --- Rows --------------------------------------------------------------- */

#define N_COLUMNS 7
#define LONG_SIZE 3000 /* more than an arena's first block */

static char long_text[LONG_SIZE];

static const mb_value numbers[] = {{.tag = MB_INT64, .as.integer = 1},
    {.tag = MB_NULL}, {.tag = MB_INT64, .as.integer = 3}};
static const mb_array list = {
    .element = MB_INT64, .n_dims = 1, .dims = {3}, .elements = numbers};

/* The values of a row. */
static void fill_row(enum part part, mb_value *row)
{
  row[0] = (mb_value){.tag = MB_INT64, .as.integer = (int64_t)part};
  row[1] = (mb_value){.tag = MB_DOUBLE, .as.real = 0.5};
  row[2] = (mb_value){.tag = MB_BOOL, .as.integer = 1};
  row[3] = (mb_value){.tag = MB_TEXT, .as.bytes = {long_text, LONG_SIZE}};
  row[4] = (mb_value){.tag = MB_BLOB, .as.bytes = {"\0\1\2", 3}};
  row[5] = (mb_value){.tag = MB_ARRAY, .as.array = &list};
  row[6] = (mb_value){.tag = MB_NULL};
}

static void check_row(const mb_value *row)
{
  CHECK(row[1].tag == MB_DOUBLE && row[1].as.real == 0.5);
  CHECK(row[2].tag == MB_BOOL && row[2].as.integer == 1);
  CHECK(row[3].tag == MB_TEXT && row[3].as.bytes.size == LONG_SIZE);
  CHECK(row[4].tag == MB_BLOB && row[4].as.bytes.size == 3 &&
        memcmp(row[4].as.bytes.data, "\0\1\2", 3) == 0);
  if (CHECK_INT(row[5].tag, MB_ARRAY) &&
      CHECK_INT(row[5].as.array->dims[0], 3)) {
    CHECK_INT(row[5].as.array->elements[1].tag, MB_NULL);
    CHECK_INT(row[5].as.array->elements[2].as.integer, 3);
  }
  CHECK_INT(row[6].tag, MB_NULL);
}

static const char insert[] = "insert into t values (?, ?, ?, ?, ?, ?, ?)";
static const char all_rows[] = "select * from t order by part";

static mb_status write_row(trial *t, const mb_tx *tx, enum part part)
{
  mb_value row[N_COLUMNS];
  fill_row(part, row);
  return execute(t, tx, insert, row, N_COLUMNS);
}

/* Reads a run to its end; -1: it ends with an error. */
static int64_t read_rest(trial *t, mb_stmt *stmt)
{
  const mb_value *row;
  mb_status status;
  int64_t n = 0;
  while ((status = mb_stmt_fetch(stmt, &row, &t->error)) == MB_ROW) {
    check_row(row);
    n++;
  }
  return well(t, status) ? n : -1;
}

/* --- The steps of the script -------------------------------------------- */

/* As a text, prepared, and with types that are known. */
static void write_alone(trial *t)
{
  for (int64_t i = 0; i < rows_of[ALONE]; i++)
    (void)wrote(t, ALONE, write_row(t, NULL, ALONE));
}

/* Ends a transaction; rows of part are there when it ends well. */
static bool end(
    trial *t, const mb_tx *tx, bool written, enum part part, int64_t rows)
{
  if (!written) {
    (void)well(t, mb_tx_rollback(tx, &t->error));
    return false;
  }
  if (!well(t, mb_tx_commit(tx, &t->error))) {
    t->unknown[part] |= (t->error.flags & MB_COMMIT_UNKNOWN) != 0;
    return false;
  }
  t->written[part] += rows;
  return true;
}

static void write_in_transactions(trial *t)
{
  mb_tx tx;
  mb_tx inner;
  if (well(t, mb_tx_begin(t->conn, NULL, NULL, &tx, &t->error))) {
    bool written = true;
    for (int64_t i = 0; i < rows_of[OUTER]; i++)
      written = written && well(t, write_row(t, &tx, OUTER));
    if (written && well(t, mb_tx_begin(t->conn, &tx, NULL, &inner, &t->error)))
      (void)end(t, &inner, well(t, write_row(t, &inner, INNER)), INNER, 1);
    if (mb_tx_begin(t->conn, &tx, NULL, &inner, &t->error) == MB_OK) {
      badly(t, execute(t, &inner, "insert into one values (1), (1)", NULL, 0),
          MB_CONSTRAINT);
      (void)well(t, mb_tx_rollback(&inner, &t->error));
    } else {
      (void)well(t, MB_ERROR);
    }
    if (!end(t, &tx, written, OUTER, rows_of[OUTER])) {
      t->written[INNER] = 0;
      t->unknown[INNER] = t->unknown[OUTER];
    }
  }
  /* Dropped, for the next statement to roll back. */
  if (well(t, mb_tx_begin(t->conn, NULL, NULL, &tx, &t->error))) {
    (void)well(t, write_row(t, &tx, UNDONE));
    mb_tx_drop(&tx);
  }
}

static void write_many(
    trial *t, const char *sql, unsigned flags, enum part part)
{
  mb_value rows[20][N_COLUMNS];
  mb_stmt *stmt;
  mb_tx tx;
  for (size_t i = 0; i < 20; i++)
    fill_row(part, rows[i]);
  if (!well(t, mb_tx_begin(t->conn, NULL, NULL, &tx, &t->error)))
    return;
  const bool written = well(t, mb_conn_statement(t->conn, sql, strlen(sql),
                                   flags, &stmt, &t->error)) &&
                       well(t, mb_stmt_run_many(&stmt, &tx, rows[0], N_COLUMNS,
                                   20, 1, NULL, &t->error));
  (void)end(t, &tx, written, part, 20);
}

static void write_each(trial *t)
{
  write_many(t, insert, 0, MANY);
}

static void load(trial *t)
{
  write_many(t,
      "copy \"t\" (\"part\", \"d\", \"b\", \"x\", \"z\", \"a\", \"n\") "
      "from stdin",
      MB_STATEMENT_PLAIN, LOADED);
}

static void write_returning(trial *t)
{
  mb_value values[N_COLUMNS];
  mb_stmt *stmt;
  fill_row(RETURNED, values);
  const mb_status status = start_within(t, NULL,
      "insert into t values (?, ?, ?, ?, ?, ?, ?) returning *", values,
      N_COLUMNS, NULL, &stmt);
  t->unknown[RETURNED] = true;
  if (well(t, status) && CHECK_INT(status, MB_ROW) && read_rest(t, stmt) == 1) {
    t->unknown[RETURNED] = false;
    t->written[RETURNED] = 1;
  }
}

/* Three times, so that they come as texts and in binary form. */
static void read_rows(trial *t)
{
  static const char types[] =
      "select 1::int2, 2::oid, 1.5::float4, -12345.678::numeric, "
      "'infinity'::numeric, date '2000-01-01', time '12:00', "
      "timetz '12:00:00-03:30', timestamp '2000-01-01', "
      "timestamptz '2000-01-01', interval '1 day', '{\"a\": 1}'::jsonb, "
      "'00112233-4455-6677-8899-aabbccddeeff'::uuid, array['a', null, 'b\"c'], "
      "array[[1.5, 2], [3, null]]::numeric[], array['\\x00'::bytea], "
      "array[timestamptz '2000-01-01'] where 1 = ?";
  const mb_value one = {.tag = MB_INT64, .as.integer = 1};
  for (int i = 0; i < 4; i++) {
    mb_stmt *stmt;
    const mb_value *row;
    mb_status status = start_within(t, NULL, types, &one, 1, NULL, &stmt);
    if (well(t, status) && CHECK_INT(status, MB_ROW)) {
      status = mb_stmt_fetch(stmt, &row, &t->error);
      if (well(t, status) && CHECK_INT(status, MB_ROW)) {
        CHECK_BYTES(row[3].as.bytes.data, row[3].as.bytes.size, "-12345.678");
        (void)well(t, mb_stmt_finish(stmt, &t->error));
      }
    }
    status = start_within(t, NULL, all_rows, NULL, 0, NULL, &stmt);
    if (well(t, status) && status == MB_ROW)
      (void)read_rest(t, stmt);
  }
}

/* By a cursor of the server's: what does not fail gives every row. */
static void read_by_cursor(trial *t)
{
  static const char sql[] = "select i, array[i, null], repeat('x', 1500) from "
                            "generate_series(1, 20) i";
  const mb_call call = {.fetch_size = 7};
  for (int i = 0; i < 2; i++) {
    mb_tx tx;
    mb_stmt *stmt;
    const mb_value *row;
    if (!well(t, mb_tx_begin(t->conn, NULL, NULL, &tx, &t->error)))
      return;
    mb_status status = start_within(t, &tx, sql, NULL, 0, &call, &stmt);
    int64_t n = 0;
    while (status == MB_ROW &&
           (status = mb_stmt_fetch(stmt, &row, &t->error)) == MB_ROW)
      CHECK_INT(row[0].as.integer, ++n);
    if (well(t, status))
      CHECK_INT(n, 20);
    (void)well(t, mb_tx_rollback(&tx, &t->error));
  }
}

/* More than are kept back at once, of a text whose types are asked for in the
 * middle, since its value may be meant as bytes. */
static void write_batch(trial *t)
{
  static const char sql[] = "insert into t values (?, ?, ?, ?, ?, ?, ?) ";
  mb_value row[N_COLUMNS];
  mb_stmt *stmt;
  mb_tx tx;
  bool full;
  fill_row(BATCHED, row);
  row[3] = text_value("a\\b");
  if (!well(t, mb_tx_begin(t->conn, NULL, NULL, &tx, &t->error)))
    return;
  bool written = true;
  for (int64_t i = 0; written && i < rows_of[BATCHED]; i++)
    written = well(t, mb_conn_statement(
                          t->conn, sql, sizeof sql - 1, 0, &stmt, &t->error)) &&
              well(t, mb_batch_add(
                          &stmt, &tx, row, N_COLUMNS, NULL, &full, &t->error));
  written = written && well(t, mb_batch_send(t->conn, NULL, &t->error));
  for (int64_t i = 0; written && i < rows_of[BATCHED]; i++)
    written = well(t, mb_batch_next(t->conn, NULL, &stmt, &t->error));
  if (!well(t, mb_batch_end(t->conn, &t->error)))
    written = false;
  (void)end(t, &tx, written, BATCHED, rows_of[BATCHED]);
}

/* --- Commands ----------------------------------------------------------- */

/* A command; rows are passed over. */
static mb_status command(
    trial *t, const char *name, const mb_value *value, const mb_call *call)
{
  mb_stmt *stmt = NULL;
  const mb_value *row;
  mb_status status =
      mb_conn_command(t->conn, NULL, name, value, 1, call, &stmt, &t->error);
  while (status == MB_ROW)
    status = mb_stmt_fetch(stmt, &row, &t->error);
  return status;
}

static void copy(trial *t)
{
  const mb_value in =
      text_value("copy t from stdin with (format csv, null 'none')");
  const mb_value out = text_value("copy t to stdout");
  const mb_value nothing = {.tag = MB_NULL};
  const mb_value line = text_value("8,0.5,t,none,none,none,none\n");
  const mb_value reason = text_value("enough");
  if (well(t, command(t, "copy_in", &in, NULL))) {
    const bool put = well(t, command(t, "copy_data", &line, NULL)) &&
                     well(t, command(t, "copy_data", &line, NULL));
    const mb_status status =
        command(t, "copy_end", put ? &nothing : &reason, NULL);
    t->written[COPIED] = well(t, status) && put ? 2 : 0;
    t->unknown[COPIED] = status == MB_ERROR && put;
    /* It still goes on: the pool ends it. */
    if (status == MB_ERROR)
      return;
  }
  (void)well(t, command(t, "copy_out", &out, NULL));
}

static void listen(trial *t)
{
  const mb_value seconds = {.tag = MB_DOUBLE, .as.real = 1};
  if (well(t, execute(t, NULL, "listen c", NULL, 0)) &&
      well(t, execute(t, NULL, "notify c, 'text'", NULL, 0)))
    (void)well(t, command(t, "notifications", &seconds, NULL));
}

/* Statements that are ended from outside, and those that are wrong. */
static void interrupt(trial *t)
{
  const mb_call call = {.timeout_ns = 10000000};
  mb_stmt *stmt;
  badly(t, start_within(t, NULL, "select pg_sleep(20)", NULL, 0, &call, &stmt),
      MB_TIMEOUT);
  badly(t, execute(t, NULL, "selec 1", NULL, 0), MB_SYNTAX);
  badly(t, execute(t, NULL, "select 1 / 0", NULL, 0), MB_DATA);
  (void)well(t, mb_conn_ping(t->conn, NULL, &t->error));
}

/* --- The script --------------------------------------------------------- */

static void use(trial *t)
{
  static void (*const steps[])(trial *) = {write_alone, write_in_transactions,
      write_each, load, write_returning, read_rows, read_by_cursor, write_batch,
      copy, listen, interrupt};
  for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
    /* As a pool would be used: a connection that is lost is replaced. */
    if (!well(t, mb_pool_acquire(t->pool, NULL, 0, &t->conn, &t->error)))
      continue;
    steps[i](t);
    mb_conn_release(t->conn);
  }
}

/* Whatever has failed, it works once there is memory again. */
static void use_again(trial *t)
{
  if (!CHECK_INT(mb_pool_acquire(t->pool, NULL, 0, &t->conn, &t->error), MB_OK))
    return;
  CHECK_INT(execute(t, NULL, all_rows, NULL, 0), MB_OK);
  mb_conn_release(t->conn);
}

static void run_all(trial *t)
{
  const mb_option options[] = {{"max", "2"}, {"init", "select 1"}};
  *t = (trial){.pool = NULL};
  if (!well(t, mb_pool_open(
                   mb_driver_postgres(), url, options, 2, &t->pool, &t->error)))
    return;
  use(t);
  memory_unlimit();
  use_again(t);
  mb_pool_close(t->pool, 0);
}

/* --- What is left of it ------------------------------------------------- */

static void ask(const char *sql)
{
  PGresult *result = PQexec(observer, sql);
  const ExecStatusType status = PQresultStatus(result);
  if (!CHECK(status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK))
    (void)fprintf(stderr, "%s\n", PQerrorMessage(observer));
  PQclear(result);
}

/* Looks into the table with nothing but libpq. */
static void check_table(const trial *t)
{
  int64_t found[N_PARTS] = {0};
  PGresult *result =
      PQexec(observer, "select part, count(*) from t group by part");
  CHECK_INT(PQresultStatus(result), PGRES_TUPLES_OK);
  for (int i = 0; i < PQntuples(result); i++)
    found[strtol(PQgetvalue(result, i, 0), NULL, 10)] =
        strtol(PQgetvalue(result, i, 1), NULL, 10);
  PQclear(result);
  for (size_t i = 0; i < N_PARTS; i++) {
    if (t->unknown[i])
      CHECK(found[i] >= t->written[i] && found[i] <= rows_of[i]);
    else
      CHECK_INT(found[i], t->written[i]);
  }
}

/* Runs the script with n allocations failing from number first on; false: it
 * needed no more than first. */
static bool fails(size_t first, size_t n)
{
  static trial t;
  static bool loaded; /* the driver, whose description stays for good */
  ask("truncate t, one");
  memory_count();
  memory_refuse(first, n);
  run_all(&t);
  const bool refused = memory_refused > 0;
  memory_unlimit();
  if (!refused)
    for (size_t i = 0; i < N_PARTS; i++)
      CHECK_INT(t.written[i], rows_of[i]);
  if (!loaded && memory_held == 1)
    loaded = true;
  else
    CHECK_INT(memory_held, 0);
  check_table(&t);
  return refused;
}

static void nothing_fails(void)
{
  CHECK(!fails(SIZE_MAX / 2, 1));
}

static void one_allocation_fails(void)
{
  memory_fail_each(fails, 1, 5);
}

static void all_allocations_fail(void)
{
  memory_fail_each(fails, SIZE_MAX, 11);
}

static const struct check_test tests[] = {CHECK_TEST(nothing_fails),
    CHECK_TEST(one_allocation_fails), CHECK_TEST(all_allocations_fail)};

int main(void)
{
  url = getenv("MB_URL");
  if (url == NULL) {
    (void)fprintf(stderr, "MB_URL names no server\n");
    return 1;
  }
  memset(long_text, 'x', sizeof long_text);
  observer = PQconnectdb(url);
  ask("create table t (part integer, d double precision, b boolean, x text, "
      "z bytea, a integer[], n text); "
      "create table one (x integer, constraint only_one unique (x))");
  const int status = CHECK_RUN(tests);
  PQfinish(observer);
  return status;
}
