/* batch_test.c: runs that are on their way together. */
#include "session.h"

#include <limits.h>

/* --- Calls -------------------------------------------------------------- */

/* A connection that takes batches. */
static void connect_full(session *s)
{
  s->driver = td_full_driver();
  connect(s);
  CHECK(mb_conn_takes_batches(s->conn));
}

static mb_status add_with(
    session *s, const char *sql, const mb_value *params, size_t n)
{
  mb_stmt *stmt;
  bool full;
  if (mb_conn_statement(s->conn, sql, strlen(sql), 0, &stmt, fresh(s)) != MB_OK)
    return MB_ERROR;
  return drive(
      s, mb_batch_add(&stmt, s->tx, params, n, s->call, &full, s->error));
}

static mb_status add(session *s, const char *sql)
{
  return add_with(s, sql, NULL, 0);
}

static mb_status dispatch(session *s)
{
  return drive(s, mb_batch_send(s->conn, s->call, fresh(s)));
}

/* The next answer, whose statement is s->stmt. */
static mb_status next(session *s)
{
  return drive(s, mb_batch_next(s->conn, s->call, &s->stmt, fresh(s)));
}

static mb_status end(session *s)
{
  return drive(s, mb_batch_end(s->conn, fresh(s)));
}

/* --- Answers ------------------------------------------------------------ */

EACH_WAY(answers_come_in_order)
{
  const mb_value number = {.tag = MB_INT64, .as.integer = 5};
  const mb_value *row;
  connect_full(s);
  CHECK_INT(add(s, "put 1"), MB_OK);
  CHECK_INT(add(s, "rows 3"), MB_OK);
  CHECK_INT(add_with(s, "echo ?", &number, 1), MB_OK);
  CHECK_INT(add(s, "rows 0"), MB_OK);
  CHECK_INT(add(s, "affected 4"), MB_OK);
  CHECK_INT(dispatch(s), MB_OK);
  CHECK_INT(next(s), MB_DONE);
  CHECK_INT(mb_stmt_result(s->stmt)->affected, 1);
  CHECK_INT(mb_stmt_result(s->stmt)->last_id, 1);
  CHECK_INT(next(s), MB_ROW);
  CHECK_INT(count_rest(s, s->stmt), 3);
  CHECK_INT(next(s), MB_ROW);
  CHECK_INT(fetch(s, s->stmt, &row), MB_ROW);
  CHECK_INT(row[0].as.integer, 5);
  CHECK_INT(fetch(s, s->stmt, &row), MB_DONE);
  CHECK_INT(next(s), MB_ROW);
  CHECK_INT(count_rest(s, s->stmt), 0);
  CHECK_INT(next(s), MB_DONE);
  CHECK_INT(mb_stmt_result(s->stmt)->affected, 4);
  CHECK(!mb_stmt_result(s->stmt)->has_last_id);
  CHECK_INT(next(s), MB_DONE);
  CHECK(s->stmt == NULL);
  CHECK_INT(end(s), MB_OK);
  CHECK_INT(td_calls(TD_PIPELINE_SYNC), 1);
  CHECK(td_is_stored(1));
  CHECK_INT(count_rows(s, "rows 2"), 2);
}

EACH_WAY(one_text_goes_several_times)
{
  const mb_value *row;
  connect_full(s);
  for (int64_t i = 1; i <= 3; i++) {
    char text[16];
    (void)snprintf(text, sizeof text, "text %d", (int)i);
    const mb_value value = {
        .tag = MB_TEXT, .as.bytes = {.data = text, .size = strlen(text)}};
    CHECK_INT(add_with(s, "echo ?", &value, 1), MB_OK);
    memset(text, 'x', sizeof text); /* they are done with */
  }
  CHECK_INT(td_calls(TD_PREPARE), 1);
  CHECK_INT(dispatch(s), MB_OK);
  for (int64_t i = 1; i <= 3; i++) {
    char text[16];
    (void)snprintf(text, sizeof text, "text %d", (int)i);
    CHECK_INT(next(s), MB_ROW);
    CHECK_INT(fetch(s, s->stmt, &row), MB_ROW);
    CHECK_BYTES(row[0].as.bytes.data, row[0].as.bytes.size, text);
    CHECK_INT(fetch(s, s->stmt, &row), MB_DONE);
  }
  CHECK_INT(end(s), MB_OK);
}

EACH_WAY(goes_on_behind_the_last_answer)
{
  connect_full(s);
  for (int i = 0; i < 3; i++) {
    CHECK_INT(add(s, "put 1"), MB_OK);
    CHECK_INT(add(s, "rows 1"), MB_OK);
    CHECK_INT(dispatch(s), MB_OK);
    CHECK_INT(next(s), MB_DONE);
    CHECK_INT(next(s), MB_ROW);
    CHECK_INT(count_rest(s, s->stmt), 1);
  }
  CHECK_INT(td_calls(TD_PIPELINE_BEGIN), 1);
  CHECK_INT(end(s), MB_OK);
  CHECK_INT(end(s), MB_OK); /* twice */
  CHECK_INT(td_stored(), 3);
}

EACH_WAY(rows_may_be_left)
{
  const mb_value *row;
  connect_full(s);
  CHECK_INT(add(s, "rows 1000"), MB_OK);
  CHECK_INT(add(s, "put 2"), MB_OK);
  CHECK_INT(dispatch(s), MB_OK);
  CHECK_INT(next(s), MB_ROW);
  CHECK_INT(fetch(s, s->stmt, &row), MB_ROW);
  CHECK_INT(finish(s, s->stmt), MB_OK);
  CHECK_INT(next(s), MB_DONE);
  CHECK_INT(end(s), MB_OK);
  CHECK(td_is_stored(2));
}

/* --- Limits ------------------------------------------------------------- */

ONE_WAY(says_when_it_is_time_to_send)
{
  static char long_text[300000];
  const mb_value value = {
      .tag = MB_BLOB, .as.bytes = {long_text, sizeof long_text}};
  mb_stmt *stmt;
  bool full = false;
  int n = 0;
  connect_full(s);
  CHECK_INT(mb_conn_statement(s->conn, "put 1", 5, 0, &stmt, fresh(s)), MB_OK);
  for (; n < 1000 && !full; n++)
    if (!CHECK_INT(
            mb_batch_add(&stmt, NULL, NULL, 0, NULL, &full, s->error), MB_OK))
      return;
  CHECK_INT(n, 256);
  CHECK_INT(end(s), MB_OK);
  CHECK_INT(mb_conn_statement(s->conn, "echo ?", 6, 0, &stmt, fresh(s)), MB_OK);
  CHECK_INT(mb_batch_add(&stmt, NULL, &value, 1, NULL, &full, s->error), MB_OK);
  CHECK(full);
  CHECK_INT(end(s), MB_OK);
  CHECK_INT(
      mb_conn_statement(s->conn, "session", 7, 0, &stmt, fresh(s)), MB_OK);
  CHECK_INT(mb_batch_add(&stmt, NULL, NULL, 0, NULL, &full, s->error), MB_OK);
  CHECK(full); /* what comes next may mean something else */
}

ONE_WAY(keeps_more_statements_than_the_cache)
{
  char text[32];
  td.statement_cache = 4;
  connect_full(s);
  for (int i = 0; i < 20; i++) {
    (void)snprintf(text, sizeof text, "put %d", i);
    CHECK_INT(add(s, text), MB_OK);
  }
  CHECK_INT(dispatch(s), MB_OK);
  for (int i = 0; i < 20; i++) {
    CHECK_INT(next(s), MB_DONE);
    CHECK_INT(mb_stmt_result(s->stmt)->last_id, i);
  }
  CHECK_INT(end(s), MB_OK);
  CHECK_INT(run(s, "put 20"), MB_DONE);
  CHECK(td_open_statements() <= 6);
}

EACH_WAY(refuses_the_wrong_order)
{
  connect_full(s);
  CHECK_INT(next(s), MB_ERROR);
  CHECK_INT(s->error->class, MB_USAGE);
  CHECK_INT(dispatch(s), MB_ERROR);
  CHECK_INT(s->error->class, MB_USAGE);
  CHECK_INT(add(s, "put 1"), MB_OK);
  CHECK_INT(next(s), MB_ERROR);
  CHECK(says(s, "has not been sent"));
  CHECK_INT(dispatch(s), MB_OK);
  CHECK_INT(add(s, "put 2"), MB_ERROR);
  CHECK(says(s, "have to be taken first"));
  CHECK_INT(next(s), MB_DONE);
  CHECK_INT(add(s, "put 3"), MB_OK);
  CHECK_INT(end(s), MB_OK);
  CHECK(!td_is_stored(2));
  CHECK(td_is_stored(3));
}

ONE_WAY(is_not_taken_without_all_slots)
{
  static mb_driver driver; /* drivers are kept by their addresses */
  driver = *td_full_driver();
  driver.pipeline_next = NULL;
  s->driver = &driver;
  connect(s);
  CHECK(!mb_conn_takes_batches(s->conn));
  CHECK_INT(run(s, "put 1"), MB_DONE);
}

/* --- Errors ------------------------------------------------------------- */

EACH_WAY(an_error_is_that_of_its_run)
{
  connect_full(s);
  CHECK_INT(add(s, "put 1"), MB_OK);
  CHECK_INT(add(s, "rows 3 break 2"), MB_OK);
  CHECK_INT(add(s, "put 3"), MB_OK);
  CHECK_INT(dispatch(s), MB_OK);
  CHECK_INT(next(s), MB_DONE);
  CHECK_INT(next(s), MB_ROW);
  CHECK_INT(count_rest(s, s->stmt), -1);
  CHECK_INT(s->error->class, MB_DATA);
  CHECK_INT(end(s), MB_OK);
  CHECK_INT(run(s, "put 4"), MB_DONE);
  CHECK(td_is_stored(1));
  CHECK(td_is_stored(4));
}

EACH_WAY(nothing_is_run_behind_an_error)
{
  mb_tx tx;
  td.aborts = true;
  connect_full(s);
  CHECK_INT(begin(s, NULL, NULL, &tx), MB_OK);
  s->tx = &tx;
  CHECK_INT(add(s, "put 1"), MB_OK);
  CHECK_INT(add(s, "release savepoint x"), MB_OK);
  CHECK_INT(add(s, "put 3"), MB_OK);
  CHECK_INT(dispatch(s), MB_OK);
  CHECK_INT(next(s), MB_DONE);
  CHECK_INT(next(s), MB_ERROR);
  CHECK(says(s, "no such savepoint"));
  CHECK(s->stmt != NULL);
  CHECK_INT(flags(s, MB_TRANSACTION_DEAD), MB_TRANSACTION_DEAD);
  CHECK_INT(run(s, "put 4"), MB_ERROR);
  CHECK(says(s, "no such savepoint"));
  CHECK_INT(rollback(s, &tx), MB_OK);
  s->tx = NULL;
  CHECK_INT(run(s, "put 5"), MB_DONE);
  CHECK_INT(td_stored(), 1);
}

EACH_WAY(a_wrong_text_leaves_the_others)
{
  connect_full(s);
  CHECK_INT(add(s, "put 1"), MB_OK);
  CHECK_INT(add(s, "put !"), MB_ERROR);
  CHECK_INT(s->error->class, MB_SYNTAX);
  CHECK_INT(add_with(s, "echo ?", NULL, 0), MB_ERROR);
  CHECK_INT(s->error->class, MB_USAGE);
  CHECK_INT(dispatch(s), MB_OK);
  CHECK_INT(next(s), MB_DONE);
  CHECK_INT(next(s), MB_DONE);
  CHECK(s->stmt == NULL);
}

EACH_WAY(a_stale_statement_is_not_run_again)
{
  connect_full(s);
  td_fail(TD_EXECUTE, 2, MB_ENGINE, MB_STALE_STATEMENT);
  CHECK_INT(add(s, "put 1"), MB_OK);
  CHECK_INT(add(s, "put 2"), MB_OK);
  CHECK_INT(dispatch(s), MB_OK);
  CHECK_INT(next(s), MB_DONE);
  CHECK_INT(next(s), MB_ERROR);
  CHECK_INT(flags(s, MB_RETRYABLE), MB_RETRYABLE);
  CHECK_INT(end(s), MB_OK);
  CHECK_INT(run(s, "put 2"), MB_DONE);
  CHECK_INT(td_calls(TD_PREPARE), 3);
}

/* A driver that answers for another run than the one whose turn it is. */
static mb_status mix_up(mb_driver_conn *conn, mb_driver_stmt **stmt,
    mb_result *result, mb_op *op, mb_error *error)
{
  const mb_status status =
      td_full_driver()->pipeline_next(conn, stmt, result, op, error);
  *stmt = NULL;
  return status;
}

ONE_WAY(distrusts_a_driver_that_mixes_up_answers)
{
  static mb_driver driver;
  driver = *td_full_driver();
  driver.pipeline_next = mix_up;
  s->driver = &driver;
  connect(s);
  CHECK_INT(add(s, "put 1"), MB_OK);
  CHECK_INT(dispatch(s), MB_OK);
  CHECK_INT(next(s), MB_ERROR);
  CHECK_INT(s->error->class, MB_DRIVER_FAULT);
  CHECK_INT(flags(s, MB_CONNECTION_DEAD), MB_CONNECTION_DEAD);
}

/* --- Other calls -------------------------------------------------------- */

/* A batch of which one answer was taken. */
static void leave_open(session *s)
{
  CHECK_INT(add(s, "put 1"), MB_OK);
  CHECK_INT(add(s, "rows 3"), MB_OK);
  CHECK_INT(add(s, "put 2"), MB_OK);
  CHECK_INT(dispatch(s), MB_OK);
  CHECK_INT(next(s), MB_DONE);
}

EACH_WAY(any_other_call_ends_it)
{
  mb_tx tx;
  connect_full(s);
  leave_open(s);
  CHECK_INT(run(s, "put 3"), MB_DONE);
  CHECK_INT(next(s), MB_ERROR);
  CHECK(says(s, "the batch has ended"));
  leave_open(s);
  CHECK_INT(drive(s, mb_conn_ping(s->conn, NULL, fresh(s))), MB_OK);
  leave_open(s);
  CHECK_INT(begin(s, NULL, NULL, &tx), MB_OK);
  s->tx = &tx;
  leave_open(s);
  CHECK_INT(commit(s, &tx), MB_OK);
  CHECK_INT(begin(s, NULL, NULL, &tx), MB_OK);
  leave_open(s);
  CHECK_INT(rollback(s, &tx), MB_OK);
  s->tx = NULL;
  /* It was added, and not sent. */
  CHECK_INT(add(s, "put 9"), MB_OK);
  CHECK_INT(count_rows(s, "rows 2"), 2);
  CHECK_INT(td_calls(TD_PIPELINE_BEGIN), td_calls(TD_PIPELINE_END));
}

EACH_WAY(rows_that_are_being_read_stay)
{
  const mb_value *row;
  connect_full(s);
  CHECK_INT(add(s, "rows 3"), MB_OK);
  CHECK_INT(dispatch(s), MB_OK);
  CHECK_INT(next(s), MB_ROW);
  mb_stmt *reading = s->stmt;
  CHECK_INT(fetch(s, reading, &row), MB_ROW);
  CHECK_INT(run(s, "put 1"), MB_DONE);
  CHECK_INT(count_rest(s, reading), 2);
}

EACH_WAY(rows_of_before_are_read_first)
{
  const mb_value *row;
  td.one_run = true;
  connect_full(s);
  CHECK_INT(run(s, "rows 5"), MB_ROW);
  mb_stmt *reading = s->stmt;
  CHECK_INT(fetch(s, reading, &row), MB_ROW);
  CHECK_INT(add(s, "rows 5"), MB_OK);
  CHECK_INT(add(s, "put 1"), MB_OK);
  CHECK_INT(dispatch(s), MB_OK);
  CHECK_INT(next(s), MB_ROW);
  CHECK_INT(count_rest(s, s->stmt), 5);
  CHECK_INT(count_rest(s, reading), 4);
  CHECK_INT(next(s), MB_DONE);
  CHECK_INT(end(s), MB_OK);
}

EACH_WAY(ends_with_its_connection)
{
  connect_full(s);
  leave_open(s);
  release(s);
  CHECK_INT(acquire(s), MB_OK);
  CHECK_INT(run(s, "put 5"), MB_DONE);
  leave_open(s);
  td_cut_off(s->conn, TD_VANISHED);
  CHECK_INT(run(s, "put 6"), MB_ERROR);
  CHECK_INT(flags(s, MB_CONNECTION_DEAD), MB_CONNECTION_DEAD);
  release(s);
  CHECK_INT(acquire(s), MB_OK);
  leave_open(s); /* and then the pool is closed */
}

/* --- Faults, time and memory -------------------------------------------- */

/* All that a batch may do; false: something has failed. */
static bool do_all(session *s)
{
  mb_tx tx;
  const mb_value text = {.tag = MB_TEXT, .as.bytes = {"text", 4}};
  if (begin(s, NULL, NULL, &tx) != MB_OK)
    return false;
  s->tx = &tx;
  bool well =
      add(s, "put 1") == MB_OK && add_with(s, "echo ?", &text, 1) == MB_OK &&
      add(s, "rows 2") == MB_OK && dispatch(s) == MB_OK && next(s) == MB_DONE &&
      next(s) == MB_ROW && count_rest(s, s->stmt) == 1 && next(s) == MB_ROW &&
      count_rest(s, s->stmt) == 2 && add(s, "put 2") == MB_OK &&
      dispatch(s) == MB_OK && next(s) == MB_DONE && end(s) == MB_OK;
  well = (well ? commit(s, &tx) : rollback(s, &tx)) == MB_OK && well;
  s->tx = NULL;
  return well;
}

static const td_slot slots[] = {TD_PREPARE, TD_EXECUTE, TD_FETCH, TD_BEGIN,
    TD_COMMIT, TD_PIPELINE_BEGIN, TD_PIPELINE_SYNC, TD_PIPELINE_NEXT,
    TD_PIPELINE_END};

EACH_WAY(survives_a_fault_anywhere)
{
  static const unsigned consequences[] = {
      MB_SENT, MB_CONNECTION_DEAD | MB_SENT};
  td.aborts = true;
  connect_full(s);
  for (size_t i = 0; i < sizeof slots / sizeof *slots; i++)
    for (size_t k = 0; k < 2; k++)
      for (long nth = 1; nth <= 8; nth++) {
        const mb_class class = k > 0 ? MB_CONNECTION_LOST : MB_ENGINE;
        const long before = td_stored();
        td_fail(slots[i], nth, class, consequences[k]);
        const bool well = do_all(s);
        td_forgive();
        CHECK_INT(td_stored() - before, well ? 2 : 0);
        release(s);
        if (!CHECK_INT(acquire(s), MB_OK))
          return;
        CHECK_INT(count_rows(s, "rows 2"), 2);
      }
}

EACH_WAY(ends_in_time)
{
  const mb_call call = {.timeout_ns = 20 * NS_PER_MS};
  connect_full(s);
  s->call = &call;
  CHECK_INT(add(s, "put 1"), MB_OK);
  CHECK_INT(add(s, "put 2"), MB_OK);
  CHECK_INT(dispatch(s), MB_OK);
  CHECK_INT(next(s), MB_DONE);
  td_stall(TD_PIPELINE_NEXT, 1, TD_UNTIL_ASKED);
  CHECK_INT(next(s), MB_ERROR);
  CHECK_INT(s->error->class, MB_TIMEOUT);
  s->call = NULL;
  CHECK_INT(run(s, "put 3"), MB_DONE);
}

static long allocations_left = LONG_MAX;

static void *allocate(size_t size)
{
  return allocations_left-- > 0 ? malloc(size) : NULL;
}

static void *reallocate(void *memory, size_t size)
{
  return allocations_left-- > 0 ? realloc(memory, size) : NULL;
}

/* However memory runs out, all of it is done or nothing. */
EACH_WAY(is_done_or_not_without_memory)
{
  connect_full(s);
  for (long n = 0; n < 100; n++) {
    const long stored = td_stored();
    allocations_left = n;
    const bool well = do_all(s);
    const bool enough = allocations_left > 0;
    allocations_left = LONG_MAX;
    CHECK_INT(td_stored() - stored, well ? 2 : 0);
    CHECK(well || !enough);
    release(s);
    if (!CHECK_INT(acquire(s), MB_OK) || enough)
      return;
  }
}

static const struct check_test tests[] = {
    CHECK_TEST(answers_come_in_order),
    CHECK_TEST(one_text_goes_several_times),
    CHECK_TEST(goes_on_behind_the_last_answer),
    CHECK_TEST(rows_may_be_left),
    CHECK_TEST(says_when_it_is_time_to_send),
    CHECK_TEST(keeps_more_statements_than_the_cache),
    CHECK_TEST(refuses_the_wrong_order),
    CHECK_TEST(is_not_taken_without_all_slots),
    CHECK_TEST(an_error_is_that_of_its_run),
    CHECK_TEST(nothing_is_run_behind_an_error),
    CHECK_TEST(a_wrong_text_leaves_the_others),
    CHECK_TEST(a_stale_statement_is_not_run_again),
    CHECK_TEST(distrusts_a_driver_that_mixes_up_answers),
    CHECK_TEST(any_other_call_ends_it),
    CHECK_TEST(rows_that_are_being_read_stay),
    CHECK_TEST(rows_of_before_are_read_first),
    CHECK_TEST(ends_with_its_connection),
    CHECK_TEST(survives_a_fault_anywhere),
    CHECK_TEST(ends_in_time),
    CHECK_TEST(is_done_or_not_without_memory),
};

int main(void)
{
  mb_set_allocator(allocate, reallocate, free);
  return CHECK_RUN(tests);
}
