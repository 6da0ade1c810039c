/* statement_test.c: statements, their cache, parameters, and errors of texts.
 */
#include "session.h"

/* --- Running ------------------------------------------------------------ */

EACH_WAY(gives_totals)
{
  connect(s);
  CHECK_INT(run(s, "affected 3"), MB_DONE);
  CHECK_INT(mb_stmt_result(s->stmt)->affected, 3);
  CHECK(!mb_stmt_result(s->stmt)->has_last_id);
  CHECK_INT(run(s, "put 41"), MB_DONE);
  CHECK_INT(mb_stmt_result(s->stmt)->affected, 1);
  CHECK(mb_stmt_result(s->stmt)->has_last_id);
  CHECK_INT(mb_stmt_result(s->stmt)->last_id, 41);
  CHECK_INT(run(s, "session"), MB_DONE);
  CHECK_INT(mb_stmt_result(s->stmt)->affected, 0);
  CHECK(!mb_stmt_result(s->stmt)->has_last_id);
  CHECK(td_is_stored(41));
}

EACH_WAY(gives_rows)
{
  const mb_value *row;
  connect(s);
  if (!CHECK_INT(run(s, "rows 3"), MB_ROW))
    return;
  CHECK(mb_stmt_is_running(s->stmt));
  CHECK(mb_conn_has_open_rows(s->conn));
  CHECK_INT(mb_stmt_result(s->stmt)->n_columns, 2);
  CHECK_STRING(mb_stmt_result(s->stmt)->columns[0].name, "c0");
  for (int i = 1; i <= 3; i++) {
    char expected[32];
    (void)snprintf(expected, sizeof expected, "row %d", i);
    if (!CHECK_INT(fetch(s, s->stmt, &row), MB_ROW))
      return;
    CHECK_INT(row[0].as.integer, i);
    CHECK_BYTES(row[1].as.bytes.data, row[1].as.bytes.size, expected);
  }
  CHECK_INT(fetch(s, s->stmt, &row), MB_DONE);
  CHECK_STRING(mb_stmt_result(s->stmt)->tag, "OK 0");
  CHECK(!mb_stmt_is_running(s->stmt));
  CHECK(!mb_conn_has_open_rows(s->conn));
  CHECK_INT(fetch(s, s->stmt, &row), MB_DONE);
  CHECK(row == NULL);
}

EACH_WAY(raises_an_error_at_its_row)
{
  const mb_value *row;
  connect(s);
  CHECK_INT(run(s, "rows 3 break 2"), MB_ROW);
  CHECK_INT(fetch(s, s->stmt, &row), MB_ROW);
  CHECK_INT(fetch(s, s->stmt, &row), MB_ERROR);
  CHECK_INT(s->error->class, MB_DATA);
  CHECK(!mb_stmt_is_running(s->stmt));
  CHECK_INT(fetch(s, s->stmt, &row), MB_DONE);
  CHECK_INT(run(s, "put 1"), MB_DONE);
}

EACH_WAY(is_left_early)
{
  const mb_value *row;
  connect(s);
  CHECK_INT(run(s, "rows 1000"), MB_ROW);
  CHECK_INT(fetch(s, s->stmt, &row), MB_ROW);
  CHECK_INT(finish(s, s->stmt), MB_OK);
  CHECK(!mb_stmt_is_running(s->stmt));
  CHECK_INT(finish(s, s->stmt), MB_OK); /* twice */
  CHECK_INT(td_calls(TD_FINISH), 1);
  CHECK_INT(count_rows(s, "rows 2"), 2);
  /* What a statement did stays done. */
  CHECK_INT(run(s, "put 7 returning"), MB_ROW);
  CHECK_INT(finish(s, s->stmt), MB_OK);
  CHECK(td_is_stored(7));
}

EACH_WAY(ends_a_dropped_run_before_the_next_call)
{
  const mb_value *row;
  connect(s);
  CHECK_INT(run(s, "rows 1000"), MB_ROW);
  CHECK_INT(fetch(s, s->stmt, &row), MB_ROW);
  mb_stmt_drop(s->stmt);
  CHECK_INT(td_calls(TD_FINISH), 0);
  CHECK_INT(run(s, "put 1"), MB_DONE);
  CHECK_INT(td_calls(TD_FINISH), 1);
  CHECK(!mb_conn_has_open_rows(s->conn));
  mb_stmt_drop(s->stmt); /* it does not run */
}

EACH_WAY(gives_several_results)
{
  connect(s);
  CHECK_INT(run(s, "rows 2 results 3"), MB_ROW);
  for (int i = 0; i < 3; i++) {
    CHECK_INT(mb_stmt_result(s->stmt)->n_columns, 2 + i);
    CHECK_INT(count_rest(s, s->stmt), 2);
    CHECK_INT(mb_stmt_result(s->stmt)->more_results, i < 2);
    CHECK_INT(mb_stmt_is_running(s->stmt), i < 2);
    CHECK_INT(drive(s, mb_stmt_next_result(s->stmt, fresh(s))),
        i < 2 ? MB_ROW : MB_DONE);
  }
  /* The rest is given up. */
  CHECK_INT(run(s, "rows 2 results 3"), MB_ROW);
  CHECK_INT(count_rest(s, s->stmt), 2);
  CHECK_INT(finish(s, s->stmt), MB_OK);
  CHECK(!mb_conn_has_open_rows(s->conn));
}

EACH_WAY(survives_a_failing_result)
{
  connect(s);
  CHECK_INT(run(s, "rows 1 results 2"), MB_ROW);
  CHECK_INT(count_rest(s, s->stmt), 1);
  td_fail(TD_NEXT_RESULT, 1, MB_ENGINE, MB_SENT);
  CHECK_INT(drive(s, mb_stmt_next_result(s->stmt, fresh(s))), MB_ERROR);
  CHECK(!mb_stmt_is_running(s->stmt));
  CHECK(!mb_conn_has_open_rows(s->conn));
  CHECK_INT(run(s, "put 1"), MB_DONE);
}

EACH_WAY(reports_a_failing_finish)
{
  connect(s);
  CHECK_INT(run(s, "rows 9"), MB_ROW);
  td_fail(TD_FINISH, 1, MB_ENGINE, MB_SENT);
  CHECK_INT(finish(s, s->stmt), MB_ERROR);
  CHECK(says(s, "fault in finish"));
  CHECK(!mb_stmt_is_running(s->stmt));
  CHECK_INT(count_rows(s, "rows 2"), 2);
}

static void note_event(void *context, const mb_event *event)
{
  (void)snprintf(
      context, 64, "%d %s %s", (int)event->kind, event->name, event->text);
}

EACH_WAY(hands_events_to_the_borrower)
{
  char told[64] = "";
  connect(s);
  mb_conn_on_event(s->conn, note_event, told);
  CHECK_INT(run(s, "notice heard"), MB_DONE);
  CHECK_STRING(told, "0 notice heard");
  release(s);
  CHECK_INT(acquire(s), MB_OK);
  CHECK_INT(run(s, "notice of-another"), MB_DONE);
  CHECK_STRING(told, "0 notice heard");
}

/* --- Cursors ------------------------------------------------------------ */

EACH_WAY(reads_through_a_cursor)
{
  mb_cursor cursor;
  const mb_value *row;
  connect(s);
  CHECK_INT(run(s, "rows 2"), MB_ROW);
  mb_cursor_open(&cursor, s->stmt);
  CHECK_INT(cursor.n_columns, 2);
  CHECK(cursor.shape != 0);
  CHECK_INT(drive(s, mb_cursor_fetch(&cursor, &row, fresh(s))), MB_ROW);
  CHECK_INT(row[0].as.integer, 1);
  CHECK_INT(drive(s, mb_cursor_fetch(&cursor, &row, fresh(s))), MB_ROW);
  CHECK_INT(drive(s, mb_cursor_fetch(&cursor, &row, fresh(s))), MB_DONE);
  mb_cursor_close(&cursor);
  mb_cursor_close(&cursor);
  CHECK_INT(mb_cursor_fetch(&cursor, &row, fresh(s)), MB_ERROR);
  CHECK_INT(s->error->class, MB_USAGE);
}

EACH_WAY(follows_the_results_through_a_cursor)
{
  mb_cursor cursor;
  const mb_value *row;
  connect(s);
  CHECK_INT(run(s, "rows 1 results 2"), MB_ROW);
  mb_cursor_open(&cursor, s->stmt);
  const uint64_t shape = cursor.shape;
  CHECK_INT(drive(s, mb_cursor_fetch(&cursor, &row, fresh(s))), MB_ROW);
  CHECK_INT(drive(s, mb_cursor_fetch(&cursor, &row, fresh(s))), MB_DONE);
  CHECK_INT(drive(s, mb_cursor_next_result(&cursor, fresh(s))), MB_ROW);
  CHECK_INT(cursor.n_columns, 3);
  CHECK(cursor.shape != shape);
  CHECK_INT(drive(s, mb_cursor_fetch(&cursor, &row, fresh(s))), MB_ROW);
  CHECK_INT(row[2].as.integer, 1);
  CHECK_INT(drive(s, mb_cursor_finish(&cursor, fresh(s))), MB_OK);
  CHECK(cursor.conn == NULL);
  CHECK(!mb_conn_has_open_rows(s->conn));
}

EACH_WAY(knows_that_the_connection_was_given_back)
{
  mb_cursor cursor;
  const mb_value *row;
  connect(s);
  CHECK_INT(run(s, "rows 2"), MB_ROW);
  mb_cursor_open(&cursor, s->stmt);
  release(s);
  CHECK_INT(mb_cursor_fetch(&cursor, &row, fresh(s)), MB_ERROR);
  CHECK_INT(s->error->class, MB_USAGE);
  /* Another borrower runs the same statement. */
  CHECK_INT(acquire(s), MB_OK);
  CHECK_INT(run(s, "rows 2"), MB_ROW);
  CHECK_INT(mb_cursor_fetch(&cursor, &row, fresh(s)), MB_ERROR);
  CHECK_INT(s->error->class, MB_USAGE);
  mb_cursor_close(&cursor);
  CHECK_INT(count_rest(s, s->stmt), 2);
}

EACH_WAY(outlives_its_connection)
{
  mb_cursor cursor;
  mb_stmt *kept;
  const mb_value *row;
  mb_error *error = td_new_error();
  connect(s);
  CHECK_INT(run(s, "rows 2"), MB_ROW);
  mb_cursor_open(&cursor, s->stmt);
  kept = s->stmt;
  mb_stmt_keep(kept);
  release(s);
  mb_pool_shut(s->pool, 0);
  CHECK_INT(mb_cursor_fetch(&cursor, &row, error), MB_ERROR);
  mb_cursor_close(&cursor);
  CHECK_INT(mb_stmt_run(&kept, NULL, NULL, 0, NULL, error), MB_ERROR);
  CHECK_INT(error->class, MB_USAGE);
  CHECK(kept != NULL);
  CHECK_INT(mb_stmt_prepare(kept, NULL, NULL, error), MB_ERROR);
  CHECK_INT(mb_stmt_fetch(kept, &row, error), MB_DONE);
  CHECK_INT(mb_stmt_finish(kept, error), MB_OK);
  mb_stmt_drop(kept);
  mb_stmt_close(kept);
  free(error);
}

/* --- The cache ---------------------------------------------------------- */

/* Each waits to be prepared as often as it is called. */
static long prepared(session *s, const char *sql)
{
  const long before = td_calls(TD_PREPARE);
  CHECK(run(s, sql) != MB_ERROR);
  if (mb_stmt_is_running(s->stmt))
    CHECK_INT(finish(s, s->stmt), MB_OK);
  return td_calls(TD_PREPARE) - before;
}

EACH_WAY(prepares_a_text_once)
{
  mb_pool_stats stats;
  connect(s);
  CHECK_INT(prepared(s, "rows 1"), 1);
  CHECK_INT(prepared(s, "rows 1"), 0);
  CHECK_INT(prepared(s, "rows 2"), 1);
  CHECK_INT(prepared(s, "rows 1"), 0);
  release(s);
  mb_pool_stats_read(s->pool, &stats);
  CHECK_INT(stats.cache_hits, 2);
  CHECK_INT(stats.cache_misses, 2);
  /* It stays when the connection is given back. */
  CHECK_INT(acquire(s), MB_OK);
  CHECK_INT(prepared(s, "rows 1"), 0);
}

EACH_WAY(forgets_what_was_used_longest_ago)
{
  const mb_option cache = {"statement_cache", "2"};
  connect_with(s, &cache, 1);
  CHECK_INT(prepared(s, "rows 1"), 1);
  CHECK_INT(prepared(s, "rows 2"), 1);
  CHECK_INT(prepared(s, "rows 1"), 0);
  CHECK_INT(prepared(s, "rows 3"), 1);
  CHECK_INT(prepared(s, "rows 4"), 1); /* two are too many by now */
  CHECK(td_open_statements() <= 3);
  CHECK_INT(td_calls(TD_CLOSE_STATEMENT), 4 - td_open_statements());
  CHECK_INT(prepared(s, "rows 4"), 0);
  CHECK_INT(prepared(s, "rows 3"), 0);
  CHECK_INT(prepared(s, "rows 2"), 1); /* it was the one to go */
}

EACH_WAY(keeps_nothing_without_a_cache)
{
  const mb_option cache = {"statement_cache", "0"};
  connect_with(s, &cache, 1);
  CHECK_INT(prepared(s, "rows 1"), 1);
  CHECK_INT(prepared(s, "rows 2"), 1);
  CHECK_INT(prepared(s, "rows 1"), 1);
  CHECK(td_open_statements() <= 1);
}

EACH_WAY(keeps_no_long_texts)
{
  enum { SIZE = 16385 };
  static char text[SIZE + 1];
  memset(text, ' ', SIZE);
  memcpy(text, "rows 1", 6);
  connect(s);
  CHECK_INT(prepared(s, text), 1);
  CHECK_INT(prepared(s, "rows 2"), 1);
  CHECK_INT(td_open_statements(), 1);
  CHECK_INT(prepared(s, text), 1);
  text[SIZE - 1] = '\0';
  CHECK_INT(prepared(s, text), 1);
  CHECK_INT(prepared(s, "rows 3"), 1);
  CHECK_INT(prepared(s, text), 0);
}

EACH_WAY(does_not_forget_what_somebody_keeps)
{
  const mb_option cache = {"statement_cache", "1"};
  mb_stmt *kept;
  connect_with(s, &cache, 1);
  CHECK_INT(prepared(s, "rows 1"), 1);
  kept = s->stmt;
  mb_stmt_keep(kept);
  for (int i = 2; i < 9; i++) {
    char text[32];
    (void)snprintf(text, sizeof text, "rows %d", i);
    CHECK_INT(prepared(s, text), 1);
  }
  const long before = td_calls(TD_PREPARE);
  CHECK_INT(
      drive(s, mb_stmt_run(&kept, NULL, NULL, 0, NULL, fresh(s))), MB_ROW);
  CHECK_INT(td_calls(TD_PREPARE), before);
  CHECK_INT(count_rest(s, kept), 1);
  mb_stmt_close(kept);
}

EACH_WAY(runs_a_text_inside_itself)
{
  mb_stmt *outer, *inner;
  const mb_value *row;
  connect(s);
  CHECK_INT(run(s, "rows 3"), MB_ROW);
  outer = s->stmt;
  CHECK_INT(fetch(s, outer, &row), MB_ROW);
  CHECK_INT(run(s, "rows 3"), MB_ROW);
  inner = s->stmt;
  CHECK(inner != outer);
  CHECK_INT(fetch(s, inner, &row), MB_ROW);
  CHECK_INT(row[0].as.integer, 1);
  CHECK_INT(fetch(s, outer, &row), MB_ROW);
  CHECK_INT(row[0].as.integer, 2);
  CHECK_INT(count_rest(s, inner), 2);
  CHECK_INT(count_rest(s, outer), 1);
  CHECK_INT(td_calls(TD_PREPARE), 2);
  CHECK_INT(count_rows(s, "rows 3"), 3);
  CHECK_INT(td_calls(TD_PREPARE), 2);
  /* By its handle, too. */
  CHECK_INT(run(s, "rows 3"), MB_ROW);
  outer = inner = s->stmt;
  CHECK_INT(
      drive(s, mb_stmt_run(&inner, NULL, NULL, 0, NULL, fresh(s))), MB_ROW);
  CHECK(inner != outer);
  CHECK_INT(count_rest(s, inner), 3);
  CHECK_INT(count_rest(s, outer), 3);
}

EACH_WAY(keeps_the_handle_of_a_run_that_was_refused)
{
  mb_tx tx, inner;
  mb_stmt *stmt;
  connect(s);
  CHECK_INT(begin(s, NULL, NULL, &tx), MB_OK);
  CHECK_INT(begin(s, &tx, NULL, &inner), MB_OK);
  s->tx = &inner;
  CHECK_INT(run(s, "rows 3"), MB_ROW);
  stmt = s->stmt;
  CHECK_INT(
      drive(s, mb_stmt_run(&stmt, &tx, NULL, 0, NULL, fresh(s))), MB_ERROR);
  CHECK_INT(s->error->class, MB_USAGE);
  CHECK(stmt != NULL);
  CHECK_INT(count_rest(s, s->stmt), 3);
  /* The connection dies under an open run. */
  CHECK_INT(run(s, "rows 3"), MB_ROW);
  stmt = s->stmt;
  td_fail(TD_EXECUTE, 1, MB_CONNECTION_LOST, MB_CONNECTION_DEAD);
  CHECK_INT(run(s, "put 1"), MB_ERROR);
  mb_stmt *const before = stmt;
  CHECK_INT(
      drive(s, mb_stmt_run(&stmt, &inner, NULL, 0, NULL, fresh(s))), MB_ERROR);
  CHECK(stmt == before);
}

EACH_WAY(gives_each_shape_its_number)
{
  connect(s);
  CHECK_INT(count_rows(s, "rows 1"), 1);
  const uint64_t first = mb_stmt_shape(s->stmt);
  CHECK(first != 0);
  CHECK_INT(count_rows(s, "rows 1 cols 3"), 1);
  CHECK(mb_stmt_shape(s->stmt) != first);
  CHECK_INT(count_rows(s, "rows 1"), 1);
  CHECK_INT(mb_stmt_shape(s->stmt), first);
}

/* --- Parameters --------------------------------------------------------- */

#define INTEGER(value)                     \
  {                                        \
    .tag = MB_INT64, .as.integer = (value) \
  }

/* Runs a text and reads its one row of integers. */
static void check_echo(session *s, const char *sql, const mb_value *params,
    size_t n, const char *expected)
{
  char found[128] = "";
  const mb_value *row;
  if (!CHECK_INT(run_with(s, sql, params, n), MB_ROW) ||
      !CHECK_INT(fetch(s, s->stmt, &row), MB_ROW))
    return;
  for (size_t i = 0; i < mb_stmt_result(s->stmt)->n_columns; i++) {
    const size_t used = strlen(found);
    (void)snprintf(found + used, sizeof found - used, "%lld ",
        (long long)row[i].as.integer);
  }
  CHECK_STRING(found, expected);
  CHECK_INT(fetch(s, s->stmt, &row), MB_DONE);
}

EACH_WAY(brings_parameters_into_order)
{
  const mb_value params[] = {INTEGER(10), INTEGER(20), INTEGER(30)};
  connect(s);
  check_echo(s, "echo ?, ?, ?", params, 3, "10 20 30 ");
  check_echo(s, "echo $1, $2, $3", params, 3, "10 20 30 ");
  check_echo(s, "echo :a, :b, :a, :c, :b", params, 3, "10 20 10 30 20 ");
  check_echo(s, "echo :a, :b, :a, :c, :b", params, 3, "10 20 10 30 20 ");
  CHECK_INT(mb_stmt_n_parameters(s->stmt), 3);
  CHECK_INT(mb_stmt_style(s->stmt), MB_STYLE_NAME);
}

EACH_WAY(counts_parameters)
{
  const mb_value params[] = {INTEGER(1), INTEGER(2), INTEGER(3)};
  connect(s);
  for (size_t n = 0; n <= 3; n++)
    CHECK_INT(run_with(s, "put ?", params, n), n == 1 ? MB_DONE : MB_ERROR);
  CHECK_INT(s->error->class, MB_USAGE);
  CHECK(says(s, "the statement has 1 parameter, but 3 were given"));
  CHECK_INT(td_calls(TD_EXECUTE), 1);
  CHECK_INT(run_with(s, "put 5", params, 1), MB_ERROR);
  CHECK(says(s, "the statement has 0 parameters, but 1 was given"));
}

EACH_WAY(borrows_parameters_until_the_run_has_ended)
{
  char *text = malloc(6);
  mb_value *params = malloc(sizeof *params);
  const mb_value *row;
  if (text == NULL || params == NULL)
    abort();
  memcpy(text, "abcdef", 6);
  params[0] = (mb_value){.tag = MB_TEXT, .as.bytes = {.data = text, .size = 6}};
  connect(s);
  CHECK_INT(run_with(s, "echo ?", params, 1), MB_ROW);
  CHECK_INT(fetch(s, s->stmt, &row), MB_ROW);
  CHECK_BYTES(row[0].as.bytes.data, row[0].as.bytes.size, "abcdef");
  CHECK_INT(fetch(s, s->stmt, &row), MB_DONE);
  free(params);
  free(text);
  CHECK_INT(run(s, "put 1"), MB_DONE);
}

EACH_WAY(lets_the_database_count_in_plain_texts)
{
  const mb_value params[] = {INTEGER(8)};
  mb_stmt *stmt;
  connect(s);
  for (int i = 0; i < 2; i++) {
    td.tells_nothing = i == 1;
    const char *sql = i == 0 ? "put ?" : "put  ?";
    CHECK_INT(mb_conn_statement(s->conn, sql, strlen(sql), MB_STATEMENT_PLAIN,
                  &stmt, fresh(s)),
        MB_OK);
    CHECK_INT(mb_stmt_n_parameters(stmt), 0);
    CHECK_INT(
        drive(s, mb_stmt_run(&stmt, NULL, params, 1, NULL, fresh(s))), MB_DONE);
  }
  CHECK_INT(td_stored(), 2);
}

/* --- Wrong texts -------------------------------------------------------- */

EACH_WAY(reports_errors_in_the_words_of_the_user)
{
  connect(s);
  CHECK_INT(run(s, "echo :name, :other, !"), MB_ERROR);
  CHECK_INT(s->error->class, MB_SYNTAX);
  CHECK_INT(s->error->origin, MB_ORIGIN_PREPARE);
  CHECK_INT(s->error->position, 21);
  CHECK_INT(td_open_statements(), 0);
  CHECK_INT(run(s, "echo :name, :other, !"), MB_ERROR);
  CHECK_INT(s->error->position, 21);
}

EACH_WAY(reports_errors_that_come_with_the_first_run)
{
  td.defers_prepare = true;
  const mb_value params[] = {INTEGER(1), INTEGER(2)};
  connect(s);
  for (int i = 0; i < 2; i++) {
    CHECK_INT(run_with(s, "echo :name, :other, !", params, 2), MB_ERROR);
    CHECK_INT(s->error->class, MB_SYNTAX);
    CHECK_INT(s->error->origin, MB_ORIGIN_PREPARE);
    CHECK_INT(s->error->position, 21);
  }
  CHECK_INT(td_open_statements(), 0);
  CHECK_INT(run(s, "put 1"), MB_DONE);
}

EACH_WAY(finds_a_wrong_text_when_it_is_prepared)
{
  mb_stmt *stmt;
  td.defers_prepare = true;
  connect(s);
  CHECK_INT(
      mb_conn_statement(s->conn, "rows 1 !", 8, 0, &stmt, fresh(s)), MB_OK);
  CHECK_INT(drive(s, mb_stmt_prepare(stmt, NULL, NULL, fresh(s))), MB_ERROR);
  CHECK_INT(s->error->class, MB_SYNTAX);
  CHECK_INT(td_open_statements(), 0);
  CHECK_INT(mb_conn_statement(s->conn, "rows 1", 6, 0, &stmt, fresh(s)), MB_OK);
  CHECK_INT(drive(s, mb_stmt_prepare(stmt, NULL, NULL, fresh(s))), MB_OK);
  CHECK_INT(mb_stmt_result(stmt)->n_columns, 2);
  CHECK_INT(td_calls(TD_EXECUTE), 0);
}

EACH_WAY(refuses_texts_without_or_with_two_statements)
{
  connect(s);
  CHECK_INT(run(s, " "), MB_ERROR);
  CHECK_INT(s->error->class, MB_USAGE);
  CHECK(says(s, "no statement"));
  CHECK_INT(run(s, "put 1; put 2"), MB_ERROR);
  CHECK_INT(s->error->class, MB_USAGE);
  CHECK(says(s, "more than one statement"));
  CHECK_INT(td_stored(), 0);
  CHECK_INT(td_open_statements(), 0);
  CHECK_INT(run(s, "put 1; "), MB_DONE);
}

ONE_WAY(refuses_texts_with_zero_bytes)
{
  mb_stmt *stmt;
  connect(s);
  for (unsigned flags = 0; flags <= MB_STATEMENT_PLAIN; flags++) {
    CHECK_INT(mb_conn_statement(s->conn, "put\0 1", 6, flags, &stmt, fresh(s)),
        MB_ERROR);
    CHECK_INT(s->error->class, MB_USAGE);
    CHECK(stmt == NULL);
  }
  CHECK_INT(run(s, "put 1"), MB_DONE);
}

EACH_WAY(leaves_its_text_open_to_be_prepared_again)
{
  connect(s);
  td_fail(TD_PREPARE, 1, MB_RESOURCE, MB_SENT);
  CHECK_INT(run(s, "put 1"), MB_ERROR);
  CHECK_INT(s->error->class, MB_RESOURCE);
  CHECK_INT(s->error->origin, MB_ORIGIN_PREPARE);
  CHECK_INT(run(s, "put 1"), MB_DONE);
  td_fail(TD_EXECUTE, 1, MB_CONSTRAINT, MB_SENT);
  CHECK_INT(run(s, "put 1"), MB_ERROR);
  CHECK_INT(s->error->class, MB_CONSTRAINT);
  CHECK_INT(s->error->origin, MB_ORIGIN_STATEMENT);
  CHECK_INT(run(s, "put 1"), MB_DONE);
  CHECK_INT(td_stored(), 2);
}

/* --- Stale statements --------------------------------------------------- */

EACH_WAY(prepares_a_stale_statement_again)
{
  const mb_value params[] = {INTEGER(5), INTEGER(6)};
  connect(s);
  check_echo(s, "echo :a, :b, :a", params, 2, "5 6 5 ");
  td_fail(TD_EXECUTE, 1, MB_ENGINE, MB_STALE_STATEMENT);
  check_echo(s, "echo :a, :b, :a", params, 2, "5 6 5 ");
  CHECK_INT(td_calls(TD_PREPARE), 2);
  CHECK_INT(td_calls(TD_EXECUTE), 3);
  CHECK_INT(td_open_statements(), 1);
}

EACH_WAY(prepares_a_stale_statement_again_only_once)
{
  connect(s);
  td_fail(TD_EXECUTE, 1, MB_ENGINE, MB_STALE_STATEMENT);
  td_fail(TD_EXECUTE, 2, MB_ENGINE, MB_STALE_STATEMENT);
  CHECK_INT(run(s, "put 1"), MB_ERROR);
  CHECK_INT(td_calls(TD_EXECUTE), 2);
  CHECK_INT(td_stored(), 0);
  CHECK_INT(run(s, "put 1"), MB_DONE);
  CHECK_INT(td_stored(), 1);
}

EACH_WAY(marks_a_stale_statement_inside_a_transaction)
{
  mb_tx tx;
  connect(s);
  CHECK_INT(begin(s, NULL, NULL, &tx), MB_OK);
  s->tx = &tx;
  td_fail(TD_EXECUTE, 1, MB_ENGINE, MB_STALE_STATEMENT);
  CHECK_INT(run(s, "put 1"), MB_ERROR);
  CHECK(flags(s, MB_RETRYABLE));
  CHECK_INT(td_calls(TD_EXECUTE), 1);
  CHECK_INT(rollback(s, &tx), MB_OK);
  s->tx = NULL;
  /* So in one that was begun by a text. */
  CHECK_INT(run(s, "begin"), MB_DONE);
  td_fail(TD_EXECUTE, 1, MB_ENGINE, MB_STALE_STATEMENT);
  CHECK_INT(run(s, "put 1"), MB_ERROR);
  CHECK(flags(s, MB_RETRYABLE));
  CHECK_INT(run(s, "rollback"), MB_DONE);
  CHECK_INT(td_stored(), 0);
}

/* --- Many rows ---------------------------------------------------------- */

static mb_status run_many(session *s, const char *sql, const mb_value *params,
    size_t n, size_t rows, int64_t first)
{
  if (mb_conn_statement(s->conn, sql, strlen(sql), 0, &s->stmt, fresh(s)) !=
      MB_OK)
    return MB_ERROR;
  return drive(s, mb_stmt_run_many(&s->stmt, s->tx, params, n, rows, first,
                      s->call, s->error));
}

/* By a driver that runs row by row, and by one that takes them all at once. */
static void check_many(session *s)
{
  const mb_value params[] = {INTEGER(1), INTEGER(2), INTEGER(3), INTEGER(4)};
  connect(s);
  CHECK_INT(run_many(s, "put ?", params, 1, 4, 1), MB_DONE);
  CHECK_INT(mb_stmt_result(s->stmt)->affected, 4);
  CHECK(mb_stmt_result(s->stmt)->has_last_id);
  CHECK_INT(mb_stmt_result(s->stmt)->last_id, 1);
  CHECK_INT(run_many(s, "put :a :b :a", params, 2, 2, 1), MB_DONE);
  CHECK_INT(td_stored(), 6);
  CHECK_INT(mb_stmt_result(s->stmt)->affected, 2);
  CHECK_INT(run_many(s, "put 1", NULL, 0, 3, 1), MB_DONE);
  CHECK_INT(td_stored(), 9);
  CHECK_INT(run_many(s, "put ?", NULL, 1, 0, 1), MB_DONE);
  CHECK_INT(mb_stmt_result(s->stmt)->affected, 0);
  CHECK_INT(run_many(s, "put ?", params, 2, 2, 1), MB_ERROR);
  CHECK_INT(s->error->class, MB_USAGE);
  CHECK_INT(td_stored(), 9);
}

EACH_WAY(runs_many_rows)
{
  check_many(s);
  CHECK_INT(td_calls(TD_EXECUTE), 9);
}

EACH_WAY(runs_many_rows_at_once)
{
  s->driver = td_full_driver();
  check_many(s);
  CHECK_INT(td_calls(TD_EXECUTE), 0);
  CHECK_INT(td_calls(TD_EXECUTE_MANY), 3);
}

EACH_WAY(gives_back_the_rows_of_many)
{
  const mb_value params[] = {INTEGER(1), INTEGER(2)};
  connect(s);
  CHECK_INT(run_many(s, "put ? returning", params, 1, 2, 1), MB_DONE);
  CHECK_INT(td_stored(), 2);
  CHECK(!mb_stmt_is_running(s->stmt));
}

EACH_WAY(numbers_the_row_that_failed)
{
  const mb_value params[] = {INTEGER(1), INTEGER(2), INTEGER(3)};
  connect(s);
  td_fail(TD_EXECUTE, 3, MB_CONSTRAINT, MB_SENT);
  CHECK_INT(run_many(s, "put ?", params, 1, 3, 101), MB_ERROR);
  CHECK_INT(s->error->class, MB_CONSTRAINT);
  CHECK_INT(s->error->row, 103);
  CHECK_INT(td_stored(), 2);
  td_fail(TD_FINISH, 2, MB_CONSTRAINT, MB_SENT);
  CHECK_INT(run_many(s, "put ? returning", params, 1, 3, 1), MB_ERROR);
  CHECK_INT(s->error->row, 2);
  CHECK_INT(run_many(s, "put ?", params, 1, 3, 1), MB_DONE);
}

EACH_WAY(numbers_the_row_of_many_at_once_that_failed)
{
  s->driver = td_full_driver();
  connect(s);
  CHECK_INT(run_many(s, "begin", NULL, 0, 3, 101), MB_ERROR);
  CHECK_INT(td_calls(TD_EXECUTE_MANY), 1);
  CHECK_INT(s->error->row, 102);
  CHECK_INT(run(s, "rollback"), MB_DONE);
}

EACH_WAY(numbers_no_row_of_a_wrong_text)
{
  const mb_value params[] = {INTEGER(1), INTEGER(2)};
  connect(s);
  CHECK_INT(run_many(s, "put :value :other, !", params, 2, 1, 7), MB_ERROR);
  CHECK_INT(s->error->class, MB_SYNTAX);
  CHECK_INT(s->error->position, 20);
  CHECK_INT(s->error->row, 0);
}

EACH_WAY(prepares_a_stale_statement_of_many_again)
{
  const mb_value params[] = {INTEGER(1), INTEGER(2), INTEGER(3)};
  for (int at_once = 0; at_once < 2; at_once++) {
    mb_tx tx;
    const td_slot slot = at_once ? TD_EXECUTE_MANY : TD_EXECUTE;
    s->driver = at_once ? td_full_driver() : td_driver();
    connect(s);
    const long before = td_stored();
    CHECK_INT(run_many(s, "put ?", params, 1, 3, 1), MB_DONE);
    td_fail(slot, at_once ? 1 : 2, MB_ENGINE, MB_STALE_STATEMENT);
    CHECK_INT(run_many(s, "put ?", params, 1, 3, 1), MB_DONE);
    CHECK_INT(mb_stmt_result(s->stmt)->affected, 3);
    CHECK_INT(td_stored(), before + 6);
    CHECK_INT(begin(s, NULL, NULL, &tx), MB_OK);
    s->tx = &tx;
    td_fail(slot, 1, MB_ENGINE, MB_STALE_STATEMENT);
    CHECK_INT(run_many(s, "put ?", params, 1, 3, 1), MB_ERROR);
    CHECK(flags(s, MB_RETRYABLE));
    CHECK_INT(run_many(s, "put ?", params, 1, 3, 1), MB_DONE);
    CHECK_INT(commit(s, &tx), MB_OK);
    CHECK_INT(td_stored(), before + 9);
    release(s);
    mb_pool_close(s->pool, 0);
    s->pool = NULL;
  }
}

/* --- Commands ----------------------------------------------------------- */

EACH_WAY(runs_commands)
{
  const mb_value three[] = {INTEGER(3)};
  connect(s);
  CHECK_INT(drive(s, mb_conn_command(s->conn, NULL, "list", NULL, 0, NULL,
                         &s->stmt, fresh(s))),
      MB_DONE);
  CHECK(!mb_stmt_is_running(s->stmt));
  for (int i = 0; i < 2; i++) {
    CHECK_INT(drive(s, mb_conn_command(s->conn, NULL, "list", three, 1, NULL,
                           &s->stmt, fresh(s))),
        MB_ROW);
    CHECK_INT(mb_stmt_result(s->stmt)->n_columns, 2);
    CHECK_INT(count_rest(s, s->stmt), 3);
  }
  CHECK_INT(drive(s, mb_conn_command(s->conn, NULL, "vacuum", NULL, 0, NULL,
                         &s->stmt, fresh(s))),
      MB_ERROR);
  CHECK_INT(s->error->class, MB_UNSUPPORTED);
  /* A text that looks like a command is none. */
  CHECK_INT(run(s, "list"), MB_ERROR);
  CHECK_INT(s->error->class, MB_SYNTAX);
  CHECK_INT(run(s, "put 1"), MB_DONE);
  CHECK_INT(td_open_statements(), 1);
}

EACH_WAY(runs_a_command_inside_itself)
{
  const mb_value three[] = {INTEGER(3)};
  mb_stmt *outer, *inner;
  connect(s);
  CHECK_INT(drive(s, mb_conn_command(s->conn, NULL, "list", three, 1, NULL,
                         &outer, fresh(s))),
      MB_ROW);
  CHECK_INT(drive(s, mb_conn_command(s->conn, NULL, "list", three, 1, NULL,
                         &inner, fresh(s))),
      MB_ROW);
  CHECK(inner != outer);
  CHECK_INT(count_rest(s, inner), 3);
  CHECK_INT(count_rest(s, outer), 3);
}

EACH_WAY(keeps_commands_out_of_closed_transactions)
{
  mb_tx tx;
  connect(s);
  CHECK_INT(begin(s, NULL, NULL, &tx), MB_OK);
  CHECK_INT(drive(s, mb_conn_command(s->conn, NULL, "list", NULL, 0, NULL,
                         &s->stmt, fresh(s))),
      MB_ERROR);
  CHECK_INT(s->error->class, MB_USAGE);
  CHECK_INT(drive(s, mb_conn_command(s->conn, &tx, "list", NULL, 0, NULL,
                         &s->stmt, fresh(s))),
      MB_DONE);
  CHECK_INT(rollback(s, &tx), MB_OK);
  CHECK_INT(drive(s, mb_conn_command(s->conn, &tx, "list", NULL, 0, NULL,
                         &s->stmt, fresh(s))),
      MB_ERROR);
  CHECK_INT(s->error->class, MB_USAGE);
}

/* A setting of the session may change where a string ends. */
EACH_WAY(reads_texts_as_the_session_does_now)
{
  static const char sql[] = "echo '\\' -- ' ?";
  mb_stmt *stmt;
  connect(s);
  CHECK_INT(mb_conn_statement(s->conn, sql, sizeof sql - 1, 0, &stmt, fresh(s)),
      MB_OK);
  CHECK_INT(mb_stmt_n_parameters(stmt), 0);
  td_set_backslashes(s->conn, true);
  CHECK_INT(run(s, "session"), MB_DONE);
  CHECK_INT(mb_conn_statement(s->conn, sql, sizeof sql - 1, 0, &stmt, fresh(s)),
      MB_OK);
  CHECK_INT(mb_stmt_n_parameters(stmt), 1);
}

static const struct check_test tests[] = {
    CHECK_TEST(reads_texts_as_the_session_does_now),
    CHECK_TEST(gives_totals),
    CHECK_TEST(gives_rows),
    CHECK_TEST(raises_an_error_at_its_row),
    CHECK_TEST(is_left_early),
    CHECK_TEST(ends_a_dropped_run_before_the_next_call),
    CHECK_TEST(gives_several_results),
    CHECK_TEST(survives_a_failing_result),
    CHECK_TEST(reports_a_failing_finish),
    CHECK_TEST(hands_events_to_the_borrower),
    CHECK_TEST(reads_through_a_cursor),
    CHECK_TEST(follows_the_results_through_a_cursor),
    CHECK_TEST(knows_that_the_connection_was_given_back),
    CHECK_TEST(outlives_its_connection),
    CHECK_TEST(prepares_a_text_once),
    CHECK_TEST(forgets_what_was_used_longest_ago),
    CHECK_TEST(keeps_nothing_without_a_cache),
    CHECK_TEST(keeps_no_long_texts),
    CHECK_TEST(does_not_forget_what_somebody_keeps),
    CHECK_TEST(runs_a_text_inside_itself),
    CHECK_TEST(keeps_the_handle_of_a_run_that_was_refused),
    CHECK_TEST(gives_each_shape_its_number),
    CHECK_TEST(brings_parameters_into_order),
    CHECK_TEST(counts_parameters),
    CHECK_TEST(borrows_parameters_until_the_run_has_ended),
    CHECK_TEST(lets_the_database_count_in_plain_texts),
    CHECK_TEST(reports_errors_in_the_words_of_the_user),
    CHECK_TEST(reports_errors_that_come_with_the_first_run),
    CHECK_TEST(finds_a_wrong_text_when_it_is_prepared),
    CHECK_TEST(refuses_texts_without_or_with_two_statements),
    CHECK_TEST(refuses_texts_with_zero_bytes),
    CHECK_TEST(leaves_its_text_open_to_be_prepared_again),
    CHECK_TEST(prepares_a_stale_statement_again),
    CHECK_TEST(prepares_a_stale_statement_again_only_once),
    CHECK_TEST(marks_a_stale_statement_inside_a_transaction),
    CHECK_TEST(runs_many_rows),
    CHECK_TEST(runs_many_rows_at_once),
    CHECK_TEST(gives_back_the_rows_of_many),
    CHECK_TEST(numbers_the_row_that_failed),
    CHECK_TEST(numbers_the_row_of_many_at_once_that_failed),
    CHECK_TEST(numbers_no_row_of_a_wrong_text),
    CHECK_TEST(prepares_a_stale_statement_of_many_again),
    CHECK_TEST(runs_commands),
    CHECK_TEST(runs_a_command_inside_itself),
    CHECK_TEST(keeps_commands_out_of_closed_transactions),
};

int main(void)
{
  return CHECK_RUN(tests);
}
