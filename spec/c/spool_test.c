/* spool_test.c: rows that are read into memory, to make room or to let go of
 * the connection. */
#include "session.h"

#include <limits.h>

static bool is_row(const mb_value *row, int64_t n)
{
  char expected[32];
  (void)snprintf(expected, sizeof expected, "row %lld", (long long)n);
  return CHECK_INT(row[0].as.integer, n) &&
         CHECK_BYTES(row[1].as.bytes.data, row[1].as.bytes.size, expected);
}

/* Fetches rows from first to last, and then the end. */
static void check_rest(session *s, mb_stmt *stmt, int64_t first, int64_t last)
{
  const mb_value *row;
  for (int64_t n = first; n <= last; n++)
    if (!CHECK_INT(fetch(s, stmt, &row), MB_ROW) || !is_row(row, n))
      return;
  CHECK_INT(fetch(s, stmt, &row), MB_DONE);
  CHECK(!mb_stmt_is_running(stmt));
}

/* --- Making room -------------------------------------------------------- */

EACH_WAY(goes_on_beside_open_rows)
{
  const mb_value *row;
  mb_stmt *first, *second;
  connect(s);
  CHECK_INT(run(s, "rows 5"), MB_ROW);
  first = s->stmt;
  CHECK_INT(fetch(s, first, &row), MB_ROW);
  CHECK_INT(run(s, "rows 4"), MB_ROW);
  second = s->stmt;
  CHECK_INT(fetch(s, second, &row), MB_ROW);
  CHECK_INT(run(s, "put 1"), MB_DONE);
  check_rest(s, first, 2, 5);
  check_rest(s, second, 2, 4);
}

EACH_WAY(makes_room_for_every_kind_of_request)
{
  td.one_run = true;
  const mb_value *row;
  mb_stmt *first, *second, *other;
  mb_tx tx, inner;
  connect(s);
  CHECK_INT(run(s, "rows 5"), MB_ROW);
  first = s->stmt;
  CHECK_INT(fetch(s, first, &row), MB_ROW);
  CHECK_INT(run(s, "rows 4"), MB_ROW); /* a text that has to be prepared */
  second = s->stmt;
  CHECK_INT(
      mb_conn_statement(s->conn, "rows 3", 6, 0, &other, fresh(s)), MB_OK);
  CHECK_INT(drive(s, mb_stmt_prepare(other, NULL, NULL, fresh(s))), MB_OK);
  check_rest(s, second, 1, 4);
  check_rest(s, first, 2, 5);

  CHECK_INT(run(s, "rows 5"), MB_ROW);
  first = s->stmt;
  CHECK_INT(drive(s, mb_conn_ping(s->conn, NULL, fresh(s))), MB_OK);
  check_rest(s, first, 1, 5);
  CHECK_INT(run(s, "rows 5"), MB_ROW);
  first = s->stmt;
  CHECK_INT(drive(s, mb_conn_command(s->conn, NULL, "list", NULL, 0, NULL,
                         &other, fresh(s))),
      MB_DONE);
  check_rest(s, first, 1, 5);

  CHECK_INT(run(s, "rows 5"), MB_ROW);
  first = s->stmt;
  CHECK_INT(begin(s, NULL, NULL, &tx), MB_OK);
  check_rest(s, first, 1, 5);
  s->tx = &tx;
  CHECK_INT(run(s, "rows 5"), MB_ROW);
  first = s->stmt;
  CHECK_INT(begin(s, &tx, NULL, &inner), MB_OK);
  s->tx = &inner;
  CHECK_INT(run(s, "rows 3"), MB_ROW);
  CHECK_INT(rollback(s, &inner), MB_OK);
  check_rest(s, first, 1, 5);
  s->tx = &tx;
  CHECK_INT(run(s, "rows 3"), MB_ROW);
  CHECK_INT(commit(s, &tx), MB_OK);
}

EACH_WAY(moves_rows_out_of_the_way_of_a_write)
{
  td.rows_block_writes = true;
  mb_stmt *first;
  mb_tx tx;
  connect(s);
  CHECK_INT(run(s, "rows 3"), MB_ROW);
  first = s->stmt;
  CHECK_INT(count_rows(s, "rows 2"), 2);
  CHECK(mb_conn_has_open_rows(s->conn)); /* reading moves nothing */
  CHECK_INT(run(s, "put 1"), MB_DONE);
  CHECK(!mb_conn_has_open_rows(s->conn));
  check_rest(s, first, 1, 3);

  CHECK_INT(run(s, "rows 3"), MB_ROW);
  first = s->stmt;
  CHECK_INT(begin(s, NULL, NULL, &tx), MB_OK);
  CHECK(!mb_conn_has_open_rows(s->conn));
  check_rest(s, first, 1, 3);
  s->tx = &tx;
  CHECK_INT(run(s, "rows 3"), MB_ROW);
  first = s->stmt;
  CHECK_INT(run(s, "put 2"), MB_DONE);
  CHECK(mb_conn_has_open_rows(s->conn)); /* nor a write inside */
  check_rest(s, first, 1, 3);
  CHECK_INT(commit(s, &tx), MB_OK);
}

EACH_WAY(raises_a_late_error_at_its_row)
{
  td.one_run = true;
  const mb_value *row;
  mb_stmt *first;
  connect(s);
  CHECK_INT(run(s, "rows 9 break 3"), MB_ROW);
  first = s->stmt;
  CHECK_INT(run(s, "put 1"), MB_DONE);
  CHECK(mb_stmt_is_running(first));
  for (int64_t n = 1; n < 3; n++)
    CHECK(CHECK_INT(fetch(s, first, &row), MB_ROW) && is_row(row, n));
  CHECK_INT(fetch(s, first, &row), MB_ERROR);
  CHECK_INT(s->error->class, MB_DATA);
  CHECK(!mb_stmt_is_running(first));
  CHECK_INT(fetch(s, first, &row), MB_DONE);
  /* Or never, when nobody gets there. */
  CHECK_INT(run(s, "rows 9 break 3"), MB_ROW);
  first = s->stmt;
  CHECK_INT(run(s, "put 2"), MB_DONE);
  CHECK_INT(finish(s, first), MB_OK);
  CHECK(!mb_stmt_is_running(first));
}

EACH_WAY(ends_the_transaction_with_a_late_error)
{
  td.one_run = true;
  td.aborts = true;
  mb_tx tx, inner;
  mb_stmt *first;
  connect(s);
  CHECK_INT(begin(s, NULL, NULL, &tx), MB_OK);
  s->tx = &tx;
  CHECK_INT(run(s, "rows 9 break 3"), MB_ROW);
  first = s->stmt;
  CHECK_INT(run(s, "put 1"), MB_ERROR);
  CHECK(says(s, "not run: the transaction has failed: a row is broken"));
  CHECK_INT(begin(s, &tx, NULL, &inner), MB_ERROR);
  CHECK_INT(count_rest(s, first), -1);
  CHECK_INT(s->error->class, MB_DATA);
  CHECK(flags(s, MB_TRANSACTION_DEAD));
  CHECK_INT(commit(s, &tx), MB_ERROR);
  CHECK_INT(td_stored(), 0);
}

EACH_WAY(tells_everybody_that_the_connection_was_lost)
{
  td.one_run = true;
  const mb_value *row;
  mb_stmt *first;
  connect(s);
  CHECK_INT(run(s, "rows 5"), MB_ROW);
  first = s->stmt;
  td_fail(TD_FETCH, 3, MB_CONNECTION_LOST, MB_CONNECTION_DEAD | MB_SENT);
  CHECK_INT(run(s, "put 1"), MB_ERROR);
  CHECK_INT(s->error->class, MB_CONNECTION_LOST);
  CHECK_INT(td_calls(TD_EXECUTE), 1);
  CHECK_INT(fetch(s, first, &row), MB_ROW);
  CHECK_INT(fetch(s, first, &row), MB_ROW);
  CHECK_INT(fetch(s, first, &row), MB_ERROR);
  CHECK_INT(s->error->class, MB_CONNECTION_LOST);
  CHECK_INT(run(s, "put 1"), MB_ERROR);
  CHECK_INT(td_stored(), 0);
}

EACH_WAY(refuses_to_lose_further_results)
{
  td.one_run = true;
  mb_stmt *first;
  connect(s);
  CHECK_INT(run(s, "rows 2 results 2"), MB_ROW);
  first = s->stmt;
  CHECK_INT(run(s, "put 1"), MB_ERROR);
  CHECK_INT(s->error->class, MB_USAGE);
  CHECK_INT(td_stored(), 0);
  CHECK_INT(count_rest(s, first), 2);
  CHECK_INT(drive(s, mb_stmt_next_result(first, fresh(s))), MB_ROW);
  CHECK_INT(run(s, "put 1"), MB_DONE);
  CHECK_INT(count_rest(s, first), 2);
  /* What was read into memory is not taken for a part of the next result. */
  CHECK_INT(run(s, "rows 2 results 2"), MB_ROW);
  first = s->stmt;
  CHECK_INT(run(s, "put 2"), MB_ERROR);
  CHECK_INT(drive(s, mb_stmt_next_result(first, fresh(s))), MB_ROW);
  CHECK_INT(mb_stmt_result(first)->n_columns, 3);
  CHECK_INT(count_rest(s, first), 2);
}

EACH_WAY(ends_dropped_rows_instead_of_reading_them)
{
  td.one_run = true;
  connect(s);
  CHECK_INT(run(s, "rows 1000"), MB_ROW);
  mb_stmt_drop(s->stmt);
  CHECK_INT(run(s, "put 1"), MB_DONE);
  CHECK_INT(td_calls(TD_FETCH), 0);
  CHECK_INT(td_calls(TD_FINISH), 1);
}

EACH_WAY(keeps_values_of_all_kinds)
{
  td.one_run = true;
  char text[] = "text\0with a zero";
  mb_value elements[] = {
      {.tag = MB_TEXT, .as.bytes = {.data = text, .size = 4}},
      {.tag = MB_NULL},
      {.tag = MB_INT64, .as.integer = 3},
  };
  mb_array array = {
      .element = MB_TEXT, .n_dims = 1, .dims = {3}, .elements = elements};
  mb_array empty = {.element = MB_INT64, .n_dims = 0};
  mb_value params[] = {
      {.tag = MB_NULL},
      {.tag = MB_BOOL, .as.integer = 1},
      {.tag = MB_UINT64, .as.natural = UINT64_MAX},
      {.tag = MB_DOUBLE, .as.real = 0.5},
      {.tag = MB_BLOB, .as.bytes = {.data = text, .size = sizeof text}},
      {.tag = MB_TEXT, .as.bytes = {.data = NULL, .size = 0}},
      {.tag = MB_ARRAY, .as.array = &array},
      {.tag = MB_ARRAY, .as.array = &empty},
  };
  const mb_value *row;
  mb_stmt *stmt;
  connect(s);
  CHECK_INT(run_with(s, "echo ? ? ? ? ? ? ? ?", params, 8), MB_ROW);
  stmt = s->stmt;
  CHECK_INT(run(s, "put 1"), MB_DONE);
  /* The run has ended for the database: nothing is borrowed any more. */
  memset(text, 'x', sizeof text);
  memset(elements, 0, sizeof elements);
  memset(&array, 0, sizeof array);
  memset(params, 0, sizeof params);
  if (!CHECK_INT(fetch(s, stmt, &row), MB_ROW))
    return;
  CHECK_INT(row[0].tag, MB_NULL);
  CHECK_INT(row[1].as.integer, 1);
  CHECK(row[2].as.natural == UINT64_MAX);
  CHECK(row[3].as.real == 0.5);
  CHECK_INT(row[4].as.bytes.size, sizeof text);
  CHECK(memcmp(row[4].as.bytes.data, "text\0with a zero", sizeof text) == 0);
  CHECK_INT(row[5].as.bytes.size, 0);
  CHECK_INT(row[6].as.array->n_dims, 1);
  CHECK_BYTES(row[6].as.array->elements[0].as.bytes.data,
      row[6].as.array->elements[0].as.bytes.size, "text");
  CHECK_INT(row[6].as.array->elements[1].tag, MB_NULL);
  CHECK_INT(row[6].as.array->elements[2].as.integer, 3);
  CHECK_INT(row[7].as.array->n_dims, 0);
}

/* --- Reading ahead ------------------------------------------------------ */

EACH_WAY(reads_ahead_up_to_a_number_of_rows)
{
  const mb_value *row;
  connect(s);
  CHECK_INT(run(s, "rows 5"), MB_ROW);
  CHECK_INT(drive(s, mb_stmt_prefetch(s->stmt, 3, SIZE_MAX, fresh(s))), MB_ROW);
  CHECK_INT(td_calls(TD_FETCH), 3);
  CHECK_INT(fetch(s, s->stmt, &row), MB_ROW);
  CHECK(is_row(row, 1));
  CHECK_INT(td_calls(TD_FETCH), 3);
  check_rest(s, s->stmt, 2, 5);
  CHECK_INT(run(s, "rows 5"), MB_ROW);
  CHECK_INT(drive(s, mb_stmt_prefetch(s->stmt, 99, 1, fresh(s))), MB_ROW);
  CHECK_INT(
      drive(s, mb_stmt_prefetch(s->stmt, 99, SIZE_MAX, fresh(s))), MB_DONE);
  CHECK(mb_stmt_is_running(s->stmt));
  CHECK(!mb_conn_has_open_rows(s->conn));
  CHECK_INT(
      drive(s, mb_stmt_prefetch(s->stmt, 99, SIZE_MAX, fresh(s))), MB_DONE);
  check_rest(s, s->stmt, 1, 5);
}

EACH_WAY(takes_rows_away_from_the_connection)
{
  mb_spool *spool;
  const mb_value *row;
  connect(s);
  CHECK_INT(run(s, "rows 3"), MB_ROW);
  CHECK_INT(
      drive(s, mb_stmt_prefetch(s->stmt, 99, SIZE_MAX, fresh(s))), MB_DONE);
  spool = mb_stmt_take_spool(s->stmt);
  CHECK(!mb_stmt_is_running(s->stmt));
  release(s);
  CHECK_INT(mb_spool_n_columns(spool), 2);
  for (int64_t n = 1; n <= 3; n++)
    CHECK((row = mb_spool_next(spool)) != NULL && is_row(row, n));
  CHECK(mb_spool_next(spool) == NULL);
  CHECK(mb_spool_next(spool) == NULL);
  mb_spool_free(spool);
  mb_spool_free(NULL);
  CHECK_INT(acquire(s), MB_OK);
  CHECK_INT(run(s, "rows 0"), MB_ROW);
  CHECK_INT(
      drive(s, mb_stmt_prefetch(s->stmt, 99, SIZE_MAX, fresh(s))), MB_DONE);
  CHECK(mb_stmt_take_spool(s->stmt) == NULL);
  CHECK(!mb_stmt_is_running(s->stmt));
}

EACH_WAY(ends_with_an_error_that_it_reads_ahead)
{
  const mb_value *row;
  connect(s);
  CHECK_INT(run(s, "rows 5 break 3"), MB_ROW);
  CHECK_INT(
      drive(s, mb_stmt_prefetch(s->stmt, 99, SIZE_MAX, fresh(s))), MB_ERROR);
  CHECK_INT(s->error->class, MB_DATA);
  CHECK(!mb_stmt_is_running(s->stmt));
  CHECK_INT(fetch(s, s->stmt, &row), MB_DONE);
}

EACH_WAY(does_not_take_a_late_error_for_the_end)
{
  td.one_run = true;
  mb_stmt *first;
  connect(s);
  CHECK_INT(run(s, "rows 5 break 3"), MB_ROW);
  first = s->stmt;
  CHECK_INT(run(s, "put 1"), MB_DONE);
  CHECK_INT(drive(s, mb_stmt_prefetch(first, 99, SIZE_MAX, fresh(s))), MB_ROW);
  CHECK_INT(count_rest(s, first), -1);
}

/* --- Out of memory ------------------------------------------------------ */

static long allocations_left = LONG_MAX;

static void *allocate(size_t size)
{
  return allocations_left-- > 0 ? malloc(size) : NULL;
}

static void *reallocate(void *memory, size_t size)
{
  return allocations_left-- > 0 ? realloc(memory, size) : NULL;
}

/* However the memory for rows runs out, no row is left out in silence. */
static void loses_no_row_in_silence(void)
{
  for (long allowed = 0; allowed < 64; allowed++) {
    session s;
    const mb_value *row;
    mb_status status;
    int64_t n = 0;
    session_open(&s);
    td.one_run = true;
    connect(&s);
    CHECK_INT(count_rows(&s, "rows 1"), 1);
    CHECK_INT(run(&s, allowed % 2 ? "rows 8 break 8" : "rows 8"), MB_ROW);
    mb_stmt *first = s.stmt;
    allocations_left = allowed;
    if (run(&s, "rows 1") == MB_ERROR)
      CHECK_INT(s.error->class, MB_RESOURCE);
    allocations_left = LONG_MAX;
    while ((status = fetch(&s, first, &row)) == MB_ROW)
      CHECK(is_row(row, ++n));
    const bool whole = allowed % 2 ? n == 7 && status == MB_ERROR
                                   : n == 8 && status == MB_DONE;
    CHECK(whole || (status == MB_ERROR && s.error->class == MB_RESOURCE));
    CHECK_INT(run(&s, "put 1"), MB_DONE);
    session_close(&s);
  }
}

static const struct check_test tests[] = {
    CHECK_TEST(goes_on_beside_open_rows),
    CHECK_TEST(makes_room_for_every_kind_of_request),
    CHECK_TEST(moves_rows_out_of_the_way_of_a_write),
    CHECK_TEST(raises_a_late_error_at_its_row),
    CHECK_TEST(ends_the_transaction_with_a_late_error),
    CHECK_TEST(tells_everybody_that_the_connection_was_lost),
    CHECK_TEST(refuses_to_lose_further_results),
    CHECK_TEST(ends_dropped_rows_instead_of_reading_them),
    CHECK_TEST(keeps_values_of_all_kinds),
    CHECK_TEST(reads_ahead_up_to_a_number_of_rows),
    CHECK_TEST(takes_rows_away_from_the_connection),
    CHECK_TEST(ends_with_an_error_that_it_reads_ahead),
    CHECK_TEST(does_not_take_a_late_error_for_the_end),
    CHECK_TEST(loses_no_row_in_silence),
};

int main(void)
{
  mb_set_allocator(allocate, reallocate, free);
  return CHECK_RUN(tests);
}
