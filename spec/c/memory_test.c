/*
 * memory_test.c: the core, the SQLite driver, and the fault driver around it,
 * without memory.
 *
 * A script does what a program may do with a database.  It is run with one
 * allocation after the other failing, those of the core and those of SQLite
 * counted in one row.  Whatever fails is told as such, all memory comes back,
 * and the file holds what was committed and nothing else.
 *
 * SQLite has no lookaside memory here, which would spare it allocations, and is
 * shut down after each run, so that its first steps fail as well.
 */
#include "../../drivers/fault/driver.h"
#include "../../drivers/sqlite/driver.h"
#include "../../src/moonbase.h"
#include "check.h"
#include "memory.h"
#include "memory_files.h"

#include <sqlite3.h>
#include <unistd.h>

/* --- SQLite's memory ---------------------------------------------------- */

/* SQLite asks for the size of a block. */
typedef union header {
  max_align_t unused;
  size_t size;
} header;

static int block_size(void *block)
{
  return block != NULL ? (int)((header *)block - 1)->size : 0;
}

static void *block_allocate(int size)
{
  header *made = memory_allocate(sizeof *made + (size_t)size);
  if (made == NULL)
    return NULL;
  made->size = (size_t)size;
  return made + 1;
}

static void block_release(void *block)
{
  if (block != NULL)
    memory_release((header *)block - 1);
}

static void *block_reallocate(void *block, int size)
{
  header *made =
      memory_reallocate((header *)block - 1, sizeof *made + (size_t)size);
  if (made == NULL)
    return NULL;
  made->size = (size_t)size;
  return made + 1;
}

static int block_round(int size)
{
  return (size + 7) / 8 * 8;
}

static int begin_nothing(void *unused)
{
  (void)unused;
  return SQLITE_OK;
}

static void end_nothing(void *unused)
{
  (void)unused;
}

static bool take_over_sqlite(void)
{
  static const sqlite3_mem_methods methods = {block_allocate, block_release,
      block_reallocate, block_size, block_round, begin_nothing, end_nothing,
      NULL};
  return sqlite3_config(SQLITE_CONFIG_MALLOC, &methods) == SQLITE_OK &&
         sqlite3_config(SQLITE_CONFIG_LOOKASIDE, 0, 0) == SQLITE_OK;
}

/* --- A run of the script ------------------------------------------------ */

/* The steps that write, each its own rows. */
enum part {
  ALONE,
  BY_NAME,
  OUTER,
  INNER,
  UNDONE,
  MANY,
  RETURNED,
  BESIDE,
  SCRIPT_1,
  SCRIPT_2,
  N_PARTS
};

static const int64_t rows_of[N_PARTS] = {[ALONE] = 1,
    [BY_NAME] = 1,
    [OUTER] = 2,
    [INNER] = 1,
    [UNDONE] = 0,
    [MANY] = 20,
    [RETURNED] = 1,
    [BESIDE] = 1,
    [SCRIPT_1] = 1,
    [SCRIPT_2] = 1};

enum outcome {
  ABSENT,  /* not tried, reported as failed, or rolled back */
  WRITTEN, /* and committed */
  UNKNOWN  /* reported as failed after it was committed */
};

typedef struct trial {
  mb_pool *pool;
  mb_conn *conn;
  mb_error error;
  bool failed; /* something has, for want of memory */
  enum outcome parts[N_PARTS];
  int functions; /* that the database has, or has had */
  int released;
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
  if (t->error.class != class)
    (void)well(t, status);
  else if (t->error.flags & MB_TRANSACTION_DEAD) {
    /* There was no memory to undo the statement alone. */
    CHECK(memory_refused > 0);
    t->failed = true;
  }
}

static mb_status start_within(trial *t, const mb_tx *tx, const char *sql,
    const mb_value *params, size_t n, const mb_call *call, mb_stmt **stmt)
{
  if (mb_conn_statement(t->conn, sql, strlen(sql), 0, stmt, &t->error) != MB_OK)
    return MB_ERROR;
  return mb_stmt_run(stmt, tx, params, n, call, &t->error);
}

static mb_status start(trial *t, const mb_tx *tx, const char *sql,
    const mb_value *params, size_t n, mb_stmt **stmt)
{
  return start_within(t, tx, sql, params, n, NULL, stmt);
}

static mb_status execute(trial *t, const mb_tx *tx, const char *sql,
    const mb_value *params, size_t n)
{
  mb_stmt *stmt;
  const mb_status status = start(t, tx, sql, params, n, &stmt);
  return status == MB_ROW ? mb_stmt_finish(stmt, &t->error) : status;
}

/* --- Rows --------------------------------------------------------------- */

#define N_COLUMNS 7
#define LONG_SIZE 3000 /* more than fits on a page with another row */

static char long_text[LONG_SIZE];

/* The values of a row: one of each type that SQLite has. */
static void fill_row(enum part part, mb_value *row)
{
  row[0] = (mb_value){.tag = MB_INT64, .as.integer = (int64_t)part};
  row[1] = (mb_value){.tag = MB_DOUBLE, .as.real = 0.5};
  row[2] = (mb_value){.tag = MB_BOOL, .as.integer = 1};
  row[3] = (mb_value){.tag = MB_TEXT, .as.bytes = {long_text, LONG_SIZE}};
  row[4] = (mb_value){.tag = MB_BLOB, .as.bytes = {"\0\1\2", 3}};
  row[5] = (mb_value){.tag = MB_JSON, .as.bytes = {"[1]", 3}};
  row[6] = (mb_value){.tag = MB_NULL};
}

static bool same_bytes(const mb_value *value, const mb_value *expected)
{
  return value->tag == expected->tag &&
         value->as.bytes.size == expected->as.bytes.size &&
         memcmp(value->as.bytes.data, expected->as.bytes.data,
             expected->as.bytes.size) == 0;
}

static void check_row(const mb_value *row)
{
  mb_value expected[N_COLUMNS];
  if (!CHECK_INT(row[0].tag, MB_INT64))
    return;
  fill_row((enum part)row[0].as.integer, expected);
  CHECK(row[1].tag == MB_DOUBLE && row[1].as.real == 0.5);
  CHECK(row[2].tag == MB_BOOL && row[2].as.integer == 1);
  for (size_t i = 3; i <= 5; i++)
    CHECK(same_bytes(&row[i], &expected[i]));
  CHECK_INT(row[6].tag, MB_NULL);
}

static const char insert[] = "insert into t values (?, ?, ?, ?, ?, ?, ?)";

static bool write_row(trial *t, const mb_tx *tx, enum part part)
{
  mb_value row[N_COLUMNS];
  mb_stmt *stmt;
  fill_row(part, row);
  if (!well(t, start(t, tx, insert, row, N_COLUMNS, &stmt)))
    return false;
  CHECK_INT(mb_stmt_result(stmt)->affected, 1);
  CHECK(mb_stmt_result(stmt)->has_last_id);
  return true;
}

/* Rows that there are, as far as it is known; -1: it is not. */
static int64_t count_written(const trial *t)
{
  int64_t n = 0;
  for (size_t i = 0; i < N_PARTS; i++) {
    if (t->parts[i] == UNKNOWN)
      return -1;
    n += t->parts[i] == WRITTEN ? rows_of[i] : 0;
  }
  return n;
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

static const char all_rows[] = "select * from t order by part";

static void write_alone(trial *t)
{
  mb_value row[N_COLUMNS];
  if (write_row(t, NULL, ALONE))
    t->parts[ALONE] = WRITTEN;
  fill_row(BY_NAME, row);
  if (well(t,
          execute(t, NULL, "insert into t values (:a, :b, :c, :d, :e, :f, :g)",
              row, N_COLUMNS)))
    t->parts[BY_NAME] = WRITTEN;
}

/* A transaction inside the one given, in which something is wrong at first. */
static void write_inside(trial *t, const mb_tx *outer)
{
  mb_tx inner;
  if (!well(t, mb_tx_begin(t->conn, outer, NULL, &inner, &t->error)))
    return;
  badly(t, execute(t, &inner, "insert into one values (1), (1)", NULL, 0),
      MB_CONSTRAINT);
  const bool written = write_row(t, &inner, INNER);
  if (!written)
    (void)well(t, mb_tx_rollback(&inner, &t->error));
  else if (well(t, mb_tx_commit(&inner, &t->error)))
    t->parts[INNER] = WRITTEN;
}

static void write_in_transactions(trial *t)
{
  mb_tx tx;
  if (well(t, mb_tx_begin(t->conn, NULL, NULL, &tx, &t->error))) {
    bool written = true;
    for (int64_t i = 0; i < rows_of[OUTER]; i++)
      written = written && write_row(t, &tx, OUTER);
    write_inside(t, &tx);
    if (!written)
      (void)well(t, mb_tx_rollback(&tx, &t->error));
    if (written && well(t, mb_tx_commit(&tx, &t->error)))
      t->parts[OUTER] = WRITTEN;
    else
      t->parts[INNER] = ABSENT;
  }
  const mb_tx_options deferred = {
      .begin = {.mode = MB_DEFERRED}, .timeout_ns = INT64_C(60000000000)};
  if (well(t, mb_tx_begin(t->conn, NULL, &deferred, &tx, &t->error))) {
    (void)write_row(t, &tx, UNDONE);
    (void)well(t, mb_tx_rollback(&tx, &t->error));
  }
  const mb_tx_options reading = {.begin = {.read_only = true}};
  if (well(t, mb_tx_begin(t->conn, NULL, &reading, &tx, &t->error))) {
    (void)well(t, execute(t, &tx, all_rows, NULL, 0));
    (void)well(t, mb_tx_commit(&tx, &t->error));
  }
  /* Dropped, for the next statement to roll back. */
  if (well(t, mb_tx_begin(t->conn, NULL, NULL, &tx, &t->error))) {
    (void)write_row(t, &tx, UNDONE);
    mb_tx_drop(&tx);
  }
}

static void write_many(trial *t)
{
  mb_value rows[20][N_COLUMNS];
  mb_stmt *stmt;
  mb_tx tx;
  for (size_t i = 0; i < 20; i++)
    fill_row(MANY, rows[i]);
  if (!well(t, mb_tx_begin(t->conn, NULL, NULL, &tx, &t->error)))
    return;
  const bool written = well(t, mb_conn_statement(t->conn, insert,
                                   sizeof insert - 1, 0, &stmt, &t->error)) &&
                       well(t, mb_stmt_run_many(&stmt, &tx, rows[0], N_COLUMNS,
                                   20, 1, NULL, &t->error));
  if (!written)
    (void)well(t, mb_tx_rollback(&tx, &t->error));
  else if (well(t, mb_tx_commit(&tx, &t->error)))
    t->parts[MANY] = WRITTEN;
}

/* The row is there before it is given back, so that an error on its way here
 * does not say that it is not. */
static void write_returning(trial *t)
{
  mb_value values[N_COLUMNS];
  mb_stmt *stmt;
  fill_row(RETURNED, values);
  mb_status status =
      start(t, NULL, "insert into t values (?, ?, ?, ?, ?, ?, ?) returning *",
          values, N_COLUMNS, &stmt);
  if (well(t, status) && CHECK_INT(status, MB_ROW) && read_rest(t, stmt) == 1)
    t->parts[RETURNED] = WRITTEN;
  else
    t->parts[RETURNED] = UNKNOWN;
}

/* Rows that are being read while another statement writes. */
static void write_beside(trial *t)
{
  const int64_t there = count_written(t);
  const mb_value *row;
  mb_stmt *stmt;
  const mb_status status = start(t, NULL, all_rows, NULL, 0, &stmt);
  if (!well(t, status) || status != MB_ROW)
    return;
  if (well(t, mb_stmt_fetch(stmt, &row, &t->error))) {
    check_row(row);
    mb_stmt_keep(stmt);
    if (write_row(t, NULL, BESIDE))
      t->parts[BESIDE] = WRITTEN;
    const int64_t left = read_rest(t, stmt);
    if (left >= 0 && there >= 0)
      CHECK_INT(left + 1, there);
    mb_stmt_close(stmt);
  }
}

/* Rows that outlive their statement's run: by a cursor, and in memory. */
static void read_rows(trial *t)
{
  const int64_t there = count_written(t);
  const mb_value *row;
  mb_cursor cursor;
  mb_stmt *stmt;
  mb_status status = start(t, NULL, all_rows, NULL, 0, &stmt);
  if (well(t, status) && status == MB_ROW) {
    mb_cursor_open(&cursor, stmt);
    while ((status = mb_cursor_fetch(&cursor, &row, &t->error)) == MB_ROW)
      check_row(row);
    (void)well(t, status);
    mb_cursor_close(&cursor);
  }
  status = start(t, NULL, all_rows, NULL, 0, &stmt);
  if (!well(t, status) || status != MB_ROW)
    return;
  if (well(t, mb_stmt_prefetch(stmt, 1000, SIZE_MAX, &t->error))) {
    mb_spool *spool = mb_stmt_take_spool(stmt);
    int64_t n = 0;
    while (spool != NULL && (row = mb_spool_next(spool)) != NULL) {
      check_row(row);
      n++;
    }
    mb_spool_free(spool);
    if (there >= 0)
      CHECK_INT(n, there);
  }
}

/* Statements that are ended from outside, and one that is wrong. */
static void interrupt(trial *t)
{
  mb_cancellation *stop;
  mb_stmt *stmt;
  if (!well(t, mb_cancellation_open("stop", &stop, &t->error)))
    return;
  const mb_call call = {.cancellation = stop};
  const mb_status status =
      start_within(t, NULL, all_rows, NULL, 0, &call, &stmt);
  mb_cancellation_cancel(stop, "enough");
  if (well(t, status) && status == MB_ROW) {
    const mb_value *row;
    badly(t, mb_stmt_fetch(stmt, &row, &t->error), MB_CANCELED);
  }
  mb_cancellation_close(stop);

  badly(t, execute(t, NULL, "selec 1", NULL, 0), MB_SYNTAX);
}

static void run_script(trial *t)
{
  static const char text[] =
      "insert into t values (8, 0.5, 1, null, x'000102', '[1]', null);\n"
      "insert into t values (9, 0.5, 1, null, x'000102', '[1]', null);\n";
  mb_script *script;
  const char *sql;
  size_t size;
  size_t line;
  if (!well(t,
          mb_script_open(t->conn, text, sizeof text - 1, &script, &t->error)))
    return;
  for (size_t part = SCRIPT_1; mb_script_next(script, &sql, &size, &line);
       part++) {
    mb_stmt *stmt;
    if (CHECK(part <= SCRIPT_2) &&
        well(t, mb_conn_statement(t->conn, sql, size, MB_STATEMENT_PLAIN, &stmt,
                    &t->error)) &&
        well(t, mb_stmt_run(&stmt, NULL, NULL, 0, NULL, &t->error)))
      t->parts[part] = WRITTEN;
  }
  mb_script_close(script);
}

/* --- Commands ----------------------------------------------------------- */

static mb_status twice(void *context, const mb_value *arguments, size_t n,
    mb_value *result, mb_error *error)
{
  (void)context;
  if (n != 1 || arguments[0].tag != MB_INT64)
    return mb_error_fill(error, MB_DATA, "twice wants an integer");
  *result =
      (mb_value){.tag = MB_INT64, .as.integer = 2 * arguments[0].as.integer};
  return MB_OK;
}

/* The comparison of a collation that turns the order round. */
static mb_status compare(void *context, const mb_value *arguments, size_t n,
    mb_value *result, mb_error *error)
{
  (void)context;
  (void)error;
  const size_t a = arguments[0].as.bytes.size;
  const size_t b = arguments[n - 1].as.bytes.size;
  *result = (mb_value){.tag = MB_INT64, .as.integer = a < b ? 1 : -(a > b)};
  return MB_OK;
}

static void note_release(void *context)
{
  trial *t = context;
  t->released++;
}

static mb_value text_value(const char *text)
{
  return (mb_value){.tag = MB_TEXT, .as.bytes = {text, strlen(text)}};
}

/* A command that gives no rows. */
static bool command(
    trial *t, const char *name, const mb_value *values, size_t n)
{
  mb_stmt *stmt;
  return well(t,
      mb_conn_command(t->conn, NULL, name, values, n, NULL, &stmt, &t->error));
}

static void define_functions(trial *t)
{
  const mb_callback function = {
      .context = t, .call = twice, .release = note_release};
  const mb_value values[] = {text_value("twice"),
      {.tag = MB_INT64, .as.integer = 1}, {.tag = MB_BOOL, .as.integer = 1},
      {.tag = MB_CALLBACK, .as.callback = &function}};
  if (command(t, "create_function", values, 4)) {
    const mb_value *row;
    mb_stmt *stmt;
    t->functions++;
    mb_status status = start(t, NULL, "select twice(21)", NULL, 0, &stmt);
    if (well(t, status) && CHECK_INT(status, MB_ROW) &&
        well(t, mb_stmt_fetch(stmt, &row, &t->error))) {
      CHECK_INT(row[0].as.integer, 42);
      (void)well(t, mb_stmt_finish(stmt, &t->error));
    }
  }
  const mb_callback collation = {
      .context = t, .call = compare, .release = note_release};
  const mb_value names[] = {
      text_value("longest"), {.tag = MB_CALLBACK, .as.callback = &collation}};
  if (command(t, "create_collation", names, 2)) {
    t->functions++;
    (void)well(t, execute(t, NULL,
                      "select 1 from (select 'a' as x union select 'bb') order "
                      "by x collate longest",
                      NULL, 0));
  }
}

static void run_commands(trial *t)
{
  const mb_value *row;
  mb_stmt *stmt;
  const mb_value part[] = {text_value("main"), text_value("t"), text_value("z"),
      {.tag = MB_INT64, .as.integer = 1}, {.tag = MB_INT64, .as.integer = 1},
      {.tag = MB_INT64, .as.integer = 10}};
  /* The first row may be missing; and then so is the blob. */
  if (t->parts[ALONE] == WRITTEN) {
    mb_status status = mb_conn_command(
        t->conn, NULL, "blob_read", part, 6, NULL, &stmt, &t->error);
    if (well(t, status) && CHECK_INT(status, MB_ROW) &&
        well(t, mb_stmt_fetch(stmt, &row, &t->error))) {
      CHECK_BYTES(row[0].as.bytes.data, row[0].as.bytes.size, "\1\2");
      (void)well(t, mb_stmt_finish(stmt, &t->error));
    }
  }
  const mb_value target[] = {
      text_value(copy_path), {.tag = MB_INT64, .as.integer = 4}};
  mb_status status = mb_conn_command(
      t->conn, NULL, "backup", target, 2, NULL, &stmt, &t->error);
  if (well(t, status) && CHECK_INT(status, MB_ROW)) {
    while ((status = mb_stmt_fetch(stmt, &row, &t->error)) == MB_ROW)
      continue;
    (void)well(t, status);
  }
  /* No file is left that is no copy.  A run whose row had no memory is ended
   * before the next call. */
  (void)well(t, mb_conn_ping(t->conn, NULL, &t->error));
  CHECK_INT(access(copy_path, F_OK) == 0, status == MB_DONE);
}

static void ask(trial *t)
{
  char name[32];
  (void)well(t, mb_conn_ping(t->conn, NULL, &t->error));
  CHECK_INT(
      mb_conn_quote(t->conn, "a\"b", 3, name, sizeof name, &t->error), MB_OK);
  CHECK_STRING(name, "\"a\"\"b\"");
}

/* --- The script --------------------------------------------------------- */

static bool acquire(trial *t)
{
  return well(t, mb_pool_acquire(t->pool, NULL, 0, &t->conn, &t->error));
}

static void use(trial *t)
{
  static void (*const steps[])(trial *) = {write_alone, write_in_transactions,
      write_many, write_returning, write_beside, read_rows, interrupt,
      run_script, define_functions, run_commands, ask};
  if (!acquire(t))
    return;
  const bool prepared =
      well(t, execute(t, NULL,
                  "create table t (part integer, d double, b boolean, x text, "
                  "z blob, j json, n text)",
                  NULL, 0)) &&
      well(
          t, execute(t, NULL,
                 "create table one (x integer, constraint only_one unique (x))",
                 NULL, 0));
  for (size_t i = 0; prepared && i < sizeof steps / sizeof steps[0]; i++) {
    steps[i](t);
    /* As a pool would be used: a connection that is lost is replaced. */
    mb_conn_release(t->conn);
    if (!acquire(t))
      return;
  }
  mb_conn_release(t->conn);
}

static const mb_driver *driver; /* that is tried */
static bool loaded;             /* its description stays for good */

/* Has some calls of the fault driver wait, which takes memory for their texts.
 */
static void delay(trial *t)
{
  static const char *const slots[] = {"prepare", "exec_text", "command"};
  const mb_value nothing = {.tag = MB_NULL};
  const mb_value one = {.tag = MB_INT64, .as.integer = 1};
  const mb_value moment = {.tag = MB_DOUBLE, .as.real = 1e-6};
  const mb_value empty = {.tag = MB_TEXT, .as.bytes = {"", 0}};
  const mb_value class = {.tag = MB_TEXT, .as.bytes = {"DataError", 9}};
  const mb_value never = {.tag = MB_BOOL};
  mb_value result;
  for (size_t i = 0; i < sizeof slots / sizeof *slots; i++) {
    const mb_value values[] = {
        {.tag = MB_TEXT, .as.bytes = {slots[i], strlen(slots[i])}}, nothing,
        one, one, moment, empty, never, class, empty, nothing, nothing};
    (void)well(t, mb_pool_control(t->pool, "fault_at", values,
                      sizeof values / sizeof *values, &result, &t->error));
  }
}

static void run_all(trial *t)
{
  const mb_option options[] = {
      {"max", "2"}, {"init", "select 1"}, {"pragma", "synchronous = off"}};
  *t = (trial){.pool = NULL};
  if (!well(t, mb_pool_open(driver, url, options, 3, &t->pool, &t->error)))
    return;
  if (driver != mb_driver_sqlite())
    delay(t);
  use(t);
  mb_pool_close(t->pool, 0);
}

/* --- What is left of it ------------------------------------------------- */

/* Whether the first value that a statement gives is that word. */
static bool says(sqlite3 *db, const char *sql, const char *word)
{
  sqlite3_stmt *stmt = NULL;
  const bool same =
      sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) == SQLITE_OK &&
      sqlite3_step(stmt) == SQLITE_ROW &&
      strcmp((const char *)sqlite3_column_text(stmt, 0), word) == 0;
  (void)sqlite3_finalize(stmt);
  return same;
}

/* Looks into the file with nothing but SQLite. */
static void check_file(const trial *t)
{
  int64_t found[N_PARTS] = {0};
  sqlite3 *db = NULL;
  sqlite3_stmt *stmt = NULL;
  CHECK_INT(sqlite3_open(path, &db), SQLITE_OK);
  if (sqlite3_prepare_v2(db, "select part, count(*) from t group by part", -1,
          &stmt, NULL) == SQLITE_OK)
    while (sqlite3_step(stmt) == SQLITE_ROW)
      found[sqlite3_column_int(stmt, 0)] = sqlite3_column_int64(stmt, 1);
  (void)sqlite3_finalize(stmt);
  CHECK(says(db, "pragma integrity_check", "ok"));
  /* Also where a log could not be had at once. */
  if (t->parts[SCRIPT_2] == WRITTEN)
    CHECK(says(db, "pragma journal_mode", "wal"));
  CHECK_INT(sqlite3_close(db), SQLITE_OK);
  for (size_t i = 0; i < N_PARTS; i++) {
    if (t->parts[i] == UNKNOWN)
      CHECK(found[i] == 0 || found[i] == rows_of[i]);
    else
      CHECK_INT(found[i], t->parts[i] == WRITTEN ? rows_of[i] : 0);
  }
}

/* Runs the script with n allocations failing from number first on; false: it
 * needed no more than first. */
static bool fails(size_t first, size_t n)
{
  static trial t;
  memory_count();
  memory_refuse(first, n);
  run_all(&t);
  const bool refused = memory_refused > 0;
  CHECK_INT(sqlite3_shutdown(), SQLITE_OK);
  memory_unlimit();
  CHECK_INT(t.released, t.functions);
  if (!refused)
    for (size_t i = 0; i < N_PARTS; i++)
      CHECK(t.parts[i] == WRITTEN || i == UNDONE);
  if (!loaded && memory_held == 1)
    loaded = true;
  else
    CHECK_INT(memory_held, 0);
  check_file(&t);
  CHECK_INT(sqlite3_shutdown(), SQLITE_OK);
  remove_files();
  return refused;
}

static void one_allocation_fails(void)
{
  memory_fail_each(fails, 1, 3);
}

static void all_allocations_fail(void)
{
  memory_fail_each(fails, SIZE_MAX, 3);
}

static void the_same_with_faults_around(void)
{
  driver = mb_driver_fault(mb_driver_sqlite());
  loaded = false;
  memory_fail_each(fails, 1, 3);
  memory_fail_each(fails, SIZE_MAX, 3);
}

static const struct check_test tests[] = {CHECK_TEST(one_allocation_fails),
    CHECK_TEST(all_allocations_fail), CHECK_TEST(the_same_with_faults_around)};

int main(void)
{
  if (!take_over_sqlite() || !make_folder())
    return 1;
  memset(long_text, 'x', sizeof long_text);
  driver = mb_driver_sqlite();
  const int status = CHECK_RUN(tests);
  (void)rmdir(folder);
  return status;
}
