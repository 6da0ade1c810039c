/* transaction_test.c: transactions and savepoints, and how they end. */
#include "session.h"

#define DEPTH 20

/* --- Committing and rolling back ---------------------------------------- */

/* With a driver's own functions, and with SQL. */
static const mb_driver *driver_with_sql(void)
{
  static mb_driver driver;
  driver = *td_driver();
  driver.begin = NULL;
  driver.commit = NULL;
  driver.rollback = NULL;
  driver.savepoint = NULL;
  driver.release_savepoint = NULL;
  driver.rollback_to = NULL;
  return &driver;
}

static void check_ends(session *s)
{
  mb_tx tx;
  connect(s);
  CHECK_INT(begin(s, NULL, NULL, &tx), MB_OK);
  CHECK(mb_tx_is_open(&tx));
  CHECK_INT(mb_conn_transaction_state(s->conn), MB_TRANSACTION_ACTIVE);
  s->tx = &tx;
  CHECK_INT(run(s, "put 1"), MB_DONE);
  CHECK_INT(td_stored(), 0);
  CHECK_INT(one_value(s, "count"), 1);
  CHECK_INT(commit(s, &tx), MB_OK);
  CHECK(!mb_tx_is_open(&tx));
  CHECK_INT(td_stored(), 1);
  CHECK_INT(mb_conn_transaction_state(s->conn), MB_TRANSACTION_NONE);

  CHECK_INT(begin(s, NULL, NULL, &tx), MB_OK);
  CHECK_INT(run(s, "put 2"), MB_DONE);
  CHECK_INT(rollback(s, &tx), MB_OK);
  CHECK_INT(td_stored(), 1);
  /* Twice is a mistake. */
  CHECK_INT(commit(s, &tx), MB_ERROR);
  CHECK_INT(s->error->class, MB_USAGE);
  CHECK_INT(rollback(s, &tx), MB_ERROR);
  CHECK_INT(s->error->class, MB_USAGE);
  CHECK_INT(run(s, "put 3"), MB_ERROR);
  CHECK_INT(s->error->class, MB_USAGE);
  s->tx = NULL;
  CHECK_INT(run(s, "put 4"), MB_DONE);
  CHECK_INT(td_stored(), 2);
}

EACH_WAY(commits_and_rolls_back)
{
  check_ends(s);
}

EACH_WAY(commits_and_rolls_back_by_texts)
{
  s->driver = driver_with_sql();
  check_ends(s);
}

EACH_WAY(lets_begin_travel_with_the_first_statement)
{
  td.defers_begin = true;
  check_ends(s);
}

EACH_WAY(costs_nothing_when_nothing_is_run)
{
  td.defers_begin = true;
  mb_tx tx;
  connect(s);
  const long before = td_trips();
  CHECK_INT(begin(s, NULL, NULL, &tx), MB_OK);
  CHECK_INT(rollback(s, &tx), MB_OK);
  CHECK_INT(td_trips(), before);
}

EACH_WAY(reports_a_begin_that_fails)
{
  mb_tx tx;
  connect(s);
  td_fail(TD_BEGIN, 1, MB_ENGINE, MB_SENT);
  CHECK_INT(begin(s, NULL, NULL, &tx), MB_ERROR);
  CHECK_INT(s->error->origin, MB_ORIGIN_BEGIN);
  CHECK(tx.conn == NULL);
  CHECK(!mb_tx_is_open(&tx));
  CHECK_INT(run(s, "put 1"), MB_DONE);
  CHECK_INT(begin(s, NULL, NULL, &tx), MB_OK);
  CHECK_INT(rollback(s, &tx), MB_OK);
}

EACH_WAY(reports_a_begin_that_fails_later)
{
  td.defers_begin = true;
  mb_tx tx;
  connect(s);
  td_fail(TD_BEGIN, 1, MB_PERMISSION, MB_SENT);
  CHECK_INT(begin(s, NULL, NULL, &tx), MB_OK);
  s->tx = &tx;
  CHECK_INT(run(s, "put 1"), MB_ERROR);
  CHECK_INT(s->error->class, MB_PERMISSION);
  CHECK_INT(s->error->origin, MB_ORIGIN_BEGIN);
  CHECK(flags(s, MB_TRANSACTION_DEAD));
  /* Nothing runs by itself instead. */
  CHECK_INT(run(s, "put 2"), MB_ERROR);
  CHECK(says(s, "was ended by the database: fault in begin"));
  CHECK_INT(commit(s, &tx), MB_ERROR);
  CHECK_INT(td_stored(), 0);
  s->tx = NULL;
  CHECK_INT(run(s, "put 3"), MB_DONE);
}

EACH_WAY(refuses_what_the_database_has_not)
{
  mb_tx tx;
  connect(s);
  const mb_begin wrong[] = {
      {.isolation = MB_REPEATABLE_READ},
      {.mode = MB_IMMEDIATE},
      {.deferrable = true},
  };
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
    const mb_tx_options options = {.begin = wrong[i]};
    CHECK_INT(begin(s, NULL, &options, &tx), MB_ERROR);
    CHECK_INT(s->error->class, MB_UNSUPPORTED);
  }
  const mb_tx_options right = {
      .begin = {.isolation = MB_SERIALIZABLE, .read_only = true}};
  CHECK_INT(begin(s, NULL, &right, &tx), MB_OK);
  mb_tx inner;
  CHECK_INT(begin(s, &tx, &right, &inner), MB_ERROR);
  CHECK_INT(s->error->class, MB_USAGE);
  CHECK_INT(commit(s, &tx), MB_OK);
}

/* --- Nesting ------------------------------------------------------------ */

static void check_nesting(session *s)
{
  mb_tx tx[DEPTH];
  char text[32];
  connect(s);
  for (int i = 0; i < DEPTH; i++) {
    CHECK_INT(begin(s, i > 0 ? &tx[i - 1] : NULL, NULL, &tx[i]), MB_OK);
    s->tx = &tx[i];
    (void)snprintf(text, sizeof text, "put %d", i + 1);
    CHECK_INT(run(s, text), MB_DONE);
  }
  /* Every other one is rolled back, and with it what it holds. */
  for (int i = DEPTH - 1; i > 0; i--) {
    CHECK_INT(i % 2 ? rollback(s, &tx[i]) : commit(s, &tx[i]), MB_OK);
    CHECK(!mb_tx_is_open(&tx[i]));
    CHECK(mb_tx_is_open(&tx[i - 1]));
  }
  CHECK_INT(commit(s, &tx[0]), MB_OK);
  CHECK_INT(td_stored(), 1);
  CHECK(td_is_stored(1));
}

EACH_WAY(nests)
{
  check_nesting(s);
}

EACH_WAY(nests_by_texts)
{
  s->driver = driver_with_sql();
  check_nesting(s);
}

EACH_WAY(ends_children_with_their_parent)
{
  mb_tx outer, middle, inner;
  connect(s);
  for (int i = 0; i < 2; i++) {
    CHECK_INT(begin(s, NULL, NULL, &outer), MB_OK);
    CHECK_INT(begin(s, &outer, NULL, &middle), MB_OK);
    CHECK_INT(begin(s, &middle, NULL, &inner), MB_OK);
    s->tx = &inner;
    CHECK_INT(run(s, "put 1"), MB_DONE);
    CHECK_INT(i ? commit(s, &outer) : rollback(s, &outer), MB_OK);
    CHECK(!mb_tx_is_open(&inner));
    CHECK(!mb_tx_is_open(&middle));
    CHECK_INT(commit(s, &inner), MB_ERROR);
    CHECK_INT(s->error->class, MB_USAGE);
    s->tx = NULL;
    CHECK_INT(td_stored(), i);
  }
}

EACH_WAY(takes_statements_only_in_the_innermost)
{
  mb_tx outer, inner;
  connect(s);
  CHECK_INT(begin(s, NULL, NULL, &outer), MB_OK);
  CHECK_INT(run(s, "put 1"), MB_ERROR);
  CHECK_INT(s->error->class, MB_USAGE);
  CHECK_INT(begin(s, NULL, NULL, &inner), MB_ERROR);
  CHECK_INT(s->error->class, MB_USAGE);
  CHECK_INT(begin(s, &outer, NULL, &inner), MB_OK);
  s->tx = &outer;
  CHECK_INT(run(s, "put 2"), MB_ERROR);
  CHECK_INT(s->error->class, MB_USAGE);
  s->tx = &inner;
  CHECK_INT(run(s, "put 3"), MB_DONE);
  CHECK_INT(rollback(s, &inner), MB_OK);
  s->tx = &outer;
  CHECK_INT(run(s, "put 4"), MB_DONE);
  CHECK_INT(commit(s, &outer), MB_OK);
  CHECK_INT(td_stored(), 1);
  CHECK(td_is_stored(4));
}

/* One of another connection would let it run by itself here. */
EACH_WAY(takes_statements_only_of_its_connection)
{
  mb_tx tx, other;
  mb_conn *second;
  mb_stmt *stmt;
  connect(s);
  CHECK_INT(mb_pool_acquire(s->pool, NULL, 0, &second, fresh(s)), MB_OK);
  CHECK_INT(mb_tx_begin(second, NULL, NULL, &tx, fresh(s)), MB_OK);
  s->tx = &tx;
#define CHECK_REFUSED(call)               \
  do {                                    \
    CHECK_INT(call, MB_ERROR);            \
    CHECK_INT(s->error->class, MB_USAGE); \
  } while (0)
  CHECK_REFUSED(run(s, "put 1"));
  CHECK_REFUSED(begin(s, &tx, NULL, &other));
  CHECK_REFUSED(drive(s,
      mb_conn_command(s->conn, &tx, "list", NULL, 0, NULL, &stmt, fresh(s))));
  CHECK_INT(td_stored(), 0);
  mb_conn_release(second);
}

EACH_WAY(does_not_nest_without_savepoints)
{
  mb_tx tx, inner;
  td.capability_size = (uint32_t)offsetof(mb_capability, savepoints);
  connect(s);
  CHECK_INT(begin(s, NULL, NULL, &tx), MB_OK);
  CHECK_INT(begin(s, &tx, NULL, &inner), MB_ERROR);
  CHECK_INT(s->error->class, MB_UNSUPPORTED);
  CHECK_INT(commit(s, &tx), MB_OK);
}

EACH_WAY(names_the_innermost)
{
  mb_tx outer, inner, found;
  connect(s);
  mb_tx_innermost(s->conn, &found);
  CHECK_INT(found.depth, 0);
  CHECK(!mb_tx_is_open(&found));
  CHECK_INT(begin(s, NULL, NULL, &outer), MB_OK);
  CHECK_INT(begin(s, &outer, NULL, &inner), MB_OK);
  mb_tx_innermost(s->conn, &found);
  CHECK_INT(found.serial, inner.serial);
  mb_tx_drop(&outer);
  mb_tx_innermost(s->conn, &found);
  CHECK_INT(found.depth, 0);
  CHECK(!mb_tx_is_open(&inner));
}

/* --- Dropping ----------------------------------------------------------- */

EACH_WAY(rolls_back_what_was_dropped)
{
  mb_tx outer, inner;
  connect(s);
  CHECK_INT(begin(s, NULL, NULL, &outer), MB_OK);
  s->tx = &outer;
  CHECK_INT(run(s, "put 1"), MB_DONE);
  CHECK_INT(begin(s, &outer, NULL, &inner), MB_OK);
  s->tx = &inner;
  CHECK_INT(run(s, "put 2"), MB_DONE);
  mb_tx_drop(&inner);
  mb_tx_drop(&inner);
  CHECK_INT(td_calls(TD_ROLLBACK_TO), 0);
  s->tx = &outer;
  CHECK_INT(run(s, "put 3"), MB_DONE);
  CHECK_INT(td_calls(TD_ROLLBACK_TO), 1);
  CHECK_INT(commit(s, &outer), MB_OK);
  CHECK_INT(td_stored(), 2);
  CHECK(!td_is_stored(2));

  CHECK_INT(begin(s, NULL, NULL, &outer), MB_OK);
  CHECK_INT(run(s, "put 4"), MB_DONE);
  mb_tx_drop(&outer);
  s->tx = NULL;
  CHECK_INT(run(s, "put 5"), MB_DONE);
  CHECK(!td_is_stored(4));
  mb_tx_drop(&outer); /* it names nothing any more */
  CHECK_INT(run(s, "put 6"), MB_DONE);
  CHECK(td_is_stored(6));
}

EACH_WAY(rolls_back_a_dropped_outer_with_all_in_it)
{
  mb_tx outer, inner;
  connect(s);
  for (int i = 0; i < 4; i++) {
    CHECK_INT(begin(s, NULL, NULL, &outer), MB_OK);
    CHECK_INT(begin(s, &outer, NULL, &inner), MB_OK);
    s->tx = &inner;
    CHECK_INT(run(s, "put 1"), MB_DONE);
    mb_tx_drop(&outer);
    CHECK(!mb_tx_is_open(&inner));
    mb_status status = MB_ERROR;
    if (i == 0)
      status = run(s, "put 2");
    else if (i == 1)
      status = commit(s, &inner);
    else if (i == 2)
      status = begin(s, &inner, NULL, &outer);
    else
      fresh(s)->class = MB_USAGE;
    CHECK_INT(status, MB_ERROR);
    CHECK_INT(s->error->class, MB_USAGE);
    s->tx = NULL;
    CHECK_INT(run(s, "put 7"), MB_DONE);
    CHECK_INT(td_stored(), i + 1);
  }
}

EACH_WAY(rolls_back_before_the_connection_is_lent_again)
{
  mb_tx tx;
  connect(s);
  for (int i = 0; i < 3; i++) {
    CHECK_INT(begin(s, NULL, NULL, &tx), MB_OK);
    s->tx = &tx;
    CHECK_INT(run(s, "put 1"), MB_DONE);
    if (i == 1)
      mb_tx_drop(&tx);
    if (i == 2)
      CHECK_INT(run(s, "rows 9"), MB_ROW);
    release(s);
    CHECK(!mb_tx_is_open(&tx));
    CHECK_INT(acquire(s), MB_OK);
    CHECK_INT(mb_conn_transaction_state(s->conn), MB_TRANSACTION_NONE);
    CHECK_INT(commit(s, &tx), MB_ERROR);
    CHECK_INT(s->error->class, MB_USAGE);
    CHECK(says(s, "its connection was given back"));
  }
  CHECK_INT(td_stored(), 0);
  CHECK_INT(td_most_sessions(), 1);
  CHECK_INT(td_calls(TD_CONNECT), 1);
}

/* --- Rows --------------------------------------------------------------- */

EACH_WAY(closes_rows_with_their_transaction)
{
  mb_tx outer, inner;
  mb_cursor cursors[3];
  const mb_value *row;
  connect(s);
  for (int i = 0; i < 2; i++) {
    CHECK_INT(run(s, "rows 5"), MB_ROW);
    mb_cursor_open(&cursors[0], s->stmt);
    CHECK_INT(begin(s, NULL, NULL, &outer), MB_OK);
    s->tx = &outer;
    CHECK_INT(run(s, "rows 5"), MB_ROW);
    mb_cursor_open(&cursors[1], s->stmt);
    CHECK_INT(begin(s, &outer, NULL, &inner), MB_OK);
    s->tx = &inner;
    CHECK_INT(run(s, "rows 5"), MB_ROW);
    mb_cursor_open(&cursors[2], s->stmt);
    CHECK_INT(i ? commit(s, &inner) : rollback(s, &inner), MB_OK);
    CHECK_INT(mb_cursor_fetch(&cursors[2], &row, fresh(s)), MB_ERROR);
    CHECK_INT(s->error->class, MB_USAGE);
    CHECK_INT(drive(s, mb_cursor_fetch(&cursors[1], &row, fresh(s))), MB_ROW);
    CHECK_INT(i ? commit(s, &outer) : rollback(s, &outer), MB_OK);
    CHECK_INT(mb_cursor_fetch(&cursors[1], &row, fresh(s)), MB_ERROR);
    s->tx = NULL;
    CHECK_INT(drive(s, mb_cursor_fetch(&cursors[0], &row, fresh(s))), MB_ROW);
    CHECK_INT(drive(s, mb_cursor_finish(&cursors[0], fresh(s))), MB_OK);
    mb_cursor_close(&cursors[1]);
    mb_cursor_close(&cursors[2]);
    CHECK(!mb_conn_has_open_rows(s->conn));
  }
}

EACH_WAY(rolls_back_over_rows_that_end_badly)
{
  mb_tx tx;
  connect(s);
  CHECK_INT(begin(s, NULL, NULL, &tx), MB_OK);
  s->tx = &tx;
  CHECK_INT(run(s, "put 1"), MB_DONE);
  for (int i = 0; i < 3; i++)
    CHECK_INT(run(s, "rows 5"), MB_ROW);
  td_fail(TD_FINISH, 1, MB_ENGINE, MB_SENT);
  td_fail(TD_FINISH, 2, MB_ENGINE, MB_SENT);
  CHECK_INT(rollback(s, &tx), MB_OK);
  CHECK(!mb_conn_has_open_rows(s->conn));
  CHECK_INT(td_calls(TD_FINISH), 3);
  s->tx = NULL;
  CHECK_INT(run(s, "put 2"), MB_DONE);
  CHECK_INT(td_stored(), 1);
}

EACH_WAY(does_not_commit_over_rows_that_end_badly)
{
  mb_tx tx;
  connect(s);
  for (int dropped = 0; dropped < 2; dropped++) {
    CHECK_INT(begin(s, NULL, NULL, &tx), MB_OK);
    s->tx = &tx;
    CHECK_INT(run(s, "put 1"), MB_DONE);
    CHECK_INT(run(s, "rows 5"), MB_ROW);
    if (dropped)
      mb_stmt_drop(s->stmt);
    td_fail(TD_FINISH, 1, MB_ENGINE, MB_SENT);
    CHECK_INT(commit(s, &tx), MB_ERROR);
    CHECK(says(s, "fault in finish"));
    CHECK(!flags(s, MB_COMMIT_UNKNOWN));
    CHECK(!mb_tx_is_open(&tx));
    CHECK_INT(mb_conn_transaction_state(s->conn), MB_TRANSACTION_NONE);
    s->tx = NULL;
  }
  CHECK_INT(td_stored(), 0);
  CHECK_INT(run(s, "put 2"), MB_DONE);
}

/* --- Ended by the database ---------------------------------------------- */

EACH_WAY(runs_nothing_after_the_database_has_ended_it)
{
  mb_tx outer, inner;
  connect(s);
  CHECK_INT(begin(s, NULL, NULL, &outer), MB_OK);
  CHECK_INT(begin(s, &outer, NULL, &inner), MB_OK);
  s->tx = &inner;
  CHECK_INT(run(s, "put 1"), MB_DONE);
  td_fault_add((td_fault){.slot = TD_EXECUTE,
      .nth = 1,
      .class = MB_SERIALIZATION,
      .flags = MB_RETRYABLE | MB_SENT,
      .ends_transaction = true});
  CHECK_INT(run(s, "put 2"), MB_ERROR);
  CHECK_INT(s->error->class, MB_SERIALIZATION);
  CHECK(flags(s, MB_TRANSACTION_DEAD));
  CHECK(flags(s, MB_RETRYABLE));
  CHECK_INT(run(s, "put 3"), MB_ERROR);
  CHECK(says(s, "not run: the transaction was ended by the database: fault"));
  CHECK(flags(s, MB_RETRYABLE));
  /* Also not after its savepoint was left. */
  CHECK_INT(rollback(s, &inner), MB_OK);
  s->tx = &outer;
  CHECK_INT(run(s, "put 4"), MB_ERROR);
  CHECK_INT(commit(s, &outer), MB_ERROR);
  CHECK(says(s, "not committed"));
  CHECK(flags(s, MB_RETRYABLE));
  CHECK(!flags(s, MB_COMMIT_UNKNOWN));
  s->tx = NULL;
  CHECK_INT(td_stored(), 0);
  CHECK_INT(run(s, "put 5"), MB_DONE);
}

EACH_WAY(notices_that_a_text_has_ended_it)
{
  mb_tx tx;
  connect(s);
  CHECK_INT(begin(s, NULL, NULL, &tx), MB_OK);
  s->tx = &tx;
  CHECK_INT(run(s, "rollback"), MB_DONE);
  CHECK_INT(run(s, "put 1"), MB_ERROR);
  CHECK(says(s, "was ended by the database; roll it back"));
  CHECK_INT(rollback(s, &tx), MB_OK);
  CHECK_INT(td_stored(), 0);
}

EACH_WAY(recovers_by_a_savepoint)
{
  td.aborts = true;
  mb_tx outer, inner;
  connect(s);
  CHECK_INT(begin(s, NULL, NULL, &outer), MB_OK);
  s->tx = &outer;
  CHECK_INT(run(s, "put 1"), MB_DONE);
  CHECK_INT(begin(s, &outer, NULL, &inner), MB_OK);
  s->tx = &inner;
  td_fail(TD_EXECUTE, 1, MB_CONSTRAINT, MB_SENT);
  CHECK_INT(run(s, "put 2"), MB_ERROR);
  CHECK(flags(s, MB_TRANSACTION_DEAD));
  CHECK_INT(mb_conn_transaction_state(s->conn), MB_TRANSACTION_FAILED);
  CHECK_INT(run(s, "put 3"), MB_ERROR);
  CHECK(says(s, "not run: the transaction has failed: fault in execute"));
  mb_tx deeper;
  CHECK_INT(begin(s, &inner, NULL, &deeper), MB_ERROR);
  CHECK_INT(commit(s, &inner), MB_ERROR);
  CHECK(says(s, "not committed: the transaction has failed: fault"));
  CHECK(!mb_tx_is_open(&inner));
  s->tx = &outer;
  CHECK_INT(run(s, "put 4"), MB_DONE);
  CHECK_INT(commit(s, &outer), MB_OK);
  CHECK_INT(td_stored(), 2);
  CHECK(!td_is_stored(2));
}

EACH_WAY(does_not_commit_what_has_failed)
{
  td.aborts = true;
  mb_tx tx;
  connect(s);
  CHECK_INT(begin(s, NULL, NULL, &tx), MB_OK);
  s->tx = &tx;
  CHECK_INT(run(s, "put 1"), MB_DONE);
  td_fail(TD_EXECUTE, 1, MB_CONSTRAINT, MB_SENT);
  CHECK_INT(run(s, "put 2"), MB_ERROR);
  CHECK_INT(commit(s, &tx), MB_ERROR);
  CHECK_INT(td_calls(TD_COMMIT), 0);
  CHECK_INT(td_stored(), 0);
  CHECK_INT(mb_conn_transaction_state(s->conn), MB_TRANSACTION_NONE);
}

EACH_WAY(does_not_take_a_rollback_for_a_commit)
{
  mb_tx tx;
  for (int by_texts = 0; by_texts < 2; by_texts++) {
    s->driver = by_texts ? driver_with_sql() : td_driver();
    connect(s);
    CHECK_INT(begin(s, NULL, NULL, &tx), MB_OK);
    s->tx = &tx;
    CHECK_INT(run(s, "put 1"), MB_DONE);
    td_fault_add((td_fault){.slot = by_texts ? TD_EXEC_TEXT : TD_COMMIT,
        .nth = 1,
        .fails_transaction = true});
    CHECK_INT(commit(s, &tx), MB_ERROR);
    CHECK_INT(s->error->class, MB_ENGINE);
    CHECK(!flags(s, MB_COMMIT_UNKNOWN | MB_CONNECTION_DEAD));
    CHECK_INT(td_stored(), by_texts);
    s->tx = NULL;
    CHECK_INT(run(s, "put 2"), MB_DONE);
    release(s);
    mb_pool_close(s->pool, 0);
    s->pool = NULL;
  }
}

/* --- Commits that fail -------------------------------------------------- */

EACH_WAY(rolls_back_after_a_failing_commit)
{
  mb_tx tx;
  connect(s);
  for (int nested = 0; nested < 2; nested++) {
    mb_tx inner;
    CHECK_INT(begin(s, NULL, NULL, &tx), MB_OK);
    s->tx = &tx;
    if (nested) {
      CHECK_INT(begin(s, &tx, NULL, &inner), MB_OK);
      s->tx = &inner;
    }
    CHECK_INT(run(s, "put 1"), MB_DONE);
    td_fail(nested ? TD_RELEASE : TD_COMMIT, 1, MB_CONSTRAINT, MB_SENT);
    CHECK_INT(commit(s, nested ? &inner : &tx), MB_ERROR);
    CHECK_INT(s->error->class, MB_CONSTRAINT);
    CHECK(flags(s, MB_TRANSACTION_DEAD));
    CHECK(!flags(s, MB_CONNECTION_DEAD | MB_COMMIT_UNKNOWN));
    CHECK_INT(td_stored(), nested);
    if (nested)
      CHECK_INT(commit(s, &tx), MB_OK);
    CHECK_INT(mb_conn_transaction_state(s->conn), MB_TRANSACTION_NONE);
    s->tx = NULL;
    CHECK_INT(run(s, "put 9"), MB_DONE);
    CHECK_INT(td_stored(), nested + 1);
  }
}

EACH_WAY(gives_the_reason_of_a_failing_commit)
{
  mb_tx tx;
  connect(s);
  CHECK_INT(begin(s, NULL, NULL, &tx), MB_OK);
  td_fail(TD_COMMIT, 1, MB_CONSTRAINT, MB_SENT);
  td_fail(TD_ROLLBACK, 1, MB_ENGINE, MB_SENT);
  CHECK_INT(commit(s, &tx), MB_ERROR);
  CHECK_INT(s->error->class, MB_CONSTRAINT);
  CHECK(flags(s, MB_CONNECTION_DEAD));
  CHECK_INT(run(s, "put 1"), MB_ERROR);
  CHECK_INT(s->error->class, MB_CONNECTION_LOST);
}

/* The connection is lost: before COMMIT was sent, or later, when nobody knows.
 */
EACH_WAY(knows_when_the_outcome_is_unknown)
{
  const struct {
    td_fault fault;
    unsigned expected;
    long stored;
  } cases[] = {
      {{.slot = TD_COMMIT, .flags = MB_CONNECTION_DEAD | MB_SENT},
          MB_COMMIT_UNKNOWN, 0},
      {{.slot = TD_COMMIT,
           .flags = MB_CONNECTION_DEAD | MB_SENT | MB_RETRYABLE,
           .after = true},
          MB_COMMIT_UNKNOWN, 1},
      {{.slot = TD_COMMIT, .flags = MB_CONNECTION_DEAD}, MB_RETRYABLE, 0},
      {{.slot = TD_FINISH, .flags = MB_CONNECTION_DEAD | MB_SENT}, MB_RETRYABLE,
          0},
  };
  const unsigned all = MB_COMMIT_UNKNOWN | MB_RETRYABLE;
  connect(s);
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    mb_tx tx;
    td_fault fault = cases[i].fault;
    const long before = td_stored();
    CHECK_INT(begin(s, NULL, NULL, &tx), MB_OK);
    s->tx = &tx;
    CHECK_INT(run(s, "put 1"), MB_DONE);
    CHECK_INT(run(s, "rows 5"), MB_ROW);
    fault.nth = 1;
    fault.class = MB_CONNECTION_LOST;
    td_fault_add(fault);
    CHECK_INT(commit(s, &tx), MB_ERROR);
    CHECK_INT(s->error->class, MB_CONNECTION_LOST);
    CHECK_INT(flags(s, all), cases[i].expected);
    CHECK(flags(s, MB_CONNECTION_DEAD));
    CHECK(!mb_tx_is_open(&tx));
    CHECK_INT(td_stored(), before + cases[i].stored);
    release(s);
    CHECK_INT(acquire(s), MB_OK);
  }
  CHECK_INT(td_most_sessions(), 1);
}

EACH_WAY(offers_to_run_a_lost_transaction_again)
{
  mb_tx tx, inner;
  connect(s);
  CHECK_INT(begin(s, NULL, NULL, &tx), MB_OK);
  CHECK_INT(begin(s, &tx, NULL, &inner), MB_OK);
  s->tx = &inner;
  td_fail(TD_EXECUTE, 1, MB_CONNECTION_LOST, MB_CONNECTION_DEAD | MB_SENT);
  CHECK_INT(run(s, "put 1"), MB_ERROR);
  CHECK(flags(s, MB_RETRYABLE));
  CHECK(flags(s, MB_TRANSACTION_DEAD));
  /* Later errors of it say so, too. */
  CHECK_INT(run(s, "put 2"), MB_ERROR);
  CHECK(flags(s, MB_RETRYABLE));
  CHECK_INT(rollback(s, &inner), MB_OK);
  CHECK_INT(commit(s, &tx), MB_ERROR);
  CHECK(flags(s, MB_RETRYABLE));
  CHECK(!flags(s, MB_COMMIT_UNKNOWN));
  CHECK(!mb_tx_is_open(&tx));
  CHECK_INT(rollback(s, &tx), MB_ERROR);
  release(s);
  CHECK_INT(acquire(s), MB_OK);
  /* A statement of its own may have done its work. */
  td_fail(TD_EXECUTE, 1, MB_CONNECTION_LOST, MB_CONNECTION_DEAD | MB_SENT);
  CHECK_INT(run(s, "put 1"), MB_ERROR);
  CHECK(!flags(s, MB_RETRYABLE));
}

EACH_WAY(closes_spooled_rows_of_a_lost_transaction)
{
  td.one_run = true;
  mb_tx tx;
  mb_cursor cursor;
  const mb_value *row;
  connect(s);
  CHECK_INT(begin(s, NULL, NULL, &tx), MB_OK);
  s->tx = &tx;
  CHECK_INT(run(s, "rows 5"), MB_ROW);
  mb_cursor_open(&cursor, s->stmt);
  td_fail(TD_EXECUTE, 1, MB_CONNECTION_LOST, MB_CONNECTION_DEAD | MB_SENT);
  CHECK_INT(run(s, "put 1"), MB_ERROR);
  CHECK_INT(rollback(s, &tx), MB_OK);
  CHECK_INT(mb_cursor_fetch(&cursor, &row, fresh(s)), MB_ERROR);
  CHECK_INT(s->error->class, MB_USAGE);
  mb_cursor_close(&cursor);
}

EACH_WAY(gives_up_a_connection_that_cannot_roll_back)
{
  mb_tx tx, inner;
  connect(s);
  CHECK_INT(begin(s, NULL, NULL, &tx), MB_OK);
  CHECK_INT(begin(s, &tx, NULL, &inner), MB_OK);
  td_fail(TD_ROLLBACK_TO, 1, MB_ENGINE, MB_SENT);
  CHECK_INT(rollback(s, &inner), MB_ERROR);
  s->tx = &tx;
  CHECK_INT(run(s, "put 1"), MB_ERROR);
  CHECK_INT(s->error->class, MB_CONNECTION_LOST);
  CHECK_INT(commit(s, &tx), MB_ERROR);
  release(s);
  CHECK_INT(acquire(s), MB_OK);
  CHECK_INT(td_calls(TD_CONNECT), 2);
  /* So where a dropped one cannot be rolled back, under a commit. */
  CHECK_INT(begin(s, NULL, NULL, &tx), MB_OK);
  CHECK_INT(begin(s, &tx, NULL, &inner), MB_OK);
  mb_tx_drop(&tx);
  td_fail(TD_ROLLBACK, 1, MB_ENGINE, MB_SENT);
  CHECK_INT(commit(s, &inner), MB_ERROR);
  mb_tx found;
  mb_tx_innermost(s->conn, &found);
  CHECK_INT(found.depth, 0);
}

/* --- Time --------------------------------------------------------------- */

/* Begins and puts a value; a machine that is too slow for that tries again. */
static void put_in_time(
    session *s, const mb_tx_options *bounded, mb_tx *tx, const char *sql)
{
  for (int tries = 0; tries < 100; tries++) {
    s->tx = NULL;
    if (begin(s, NULL, bounded, tx) != MB_OK)
      continue;
    s->tx = tx;
    if (run(s, sql) == MB_DONE)
      return;
    CHECK_INT(rollback(s, tx), MB_OK);
  }
  abort();
}

EACH_WAY(keeps_the_time_of_a_transaction)
{
  const mb_tx_options bounded = {.timeout_ns = 120 * NS_PER_MS};
  mb_tx tx;
  connect(s);
  /* Inside a statement. */
  put_in_time(s, &bounded, &tx, "put 1");
  td_stall(TD_EXECUTE, 1, TD_UNTIL_ASKED);
  const int64_t start_ns = mb_now_ns();
  CHECK_INT(run(s, "put 2"), MB_ERROR);
  CHECK_INT(s->error->class, MB_TIMEOUT);
  CHECK(flags(s, MB_TRANSACTION_DEAD));
  CHECK(!flags(s, MB_CONNECTION_DEAD));
  CHECK(mb_now_ns() - start_ns < 5000 * NS_PER_MS);
  CHECK_INT(run(s, "put 3"), MB_ERROR);
  CHECK_INT(s->error->class, MB_TIMEOUT);
  CHECK_INT(rollback(s, &tx), MB_OK);
  /* Between two of them. */
  put_in_time(s, &bounded, &tx, "put 4");
  mb_sleep_ns(bounded.timeout_ns);
  CHECK_INT(run(s, "put 5"), MB_ERROR);
  CHECK_INT(s->error->class, MB_TIMEOUT);
  CHECK_INT(commit(s, &tx), MB_ERROR);
  CHECK_INT(s->error->class, MB_TIMEOUT);
  CHECK(says(s, "not committed"));
  CHECK(!mb_tx_is_open(&tx));
  /* Before the commit. */
  put_in_time(s, &bounded, &tx, "put 6");
  mb_sleep_ns(bounded.timeout_ns);
  CHECK_INT(commit(s, &tx), MB_ERROR);
  CHECK_INT(s->error->class, MB_TIMEOUT);
  s->tx = NULL;
  CHECK_INT(run(s, "put 7"), MB_DONE);
  CHECK_INT(td_stored(), 1);
}

EACH_WAY(keeps_the_time_of_a_savepoint)
{
  const mb_tx_options bounded = {.timeout_ns = 120 * NS_PER_MS};
  mb_tx tx, inner;
  connect(s);
  CHECK_INT(begin(s, NULL, NULL, &tx), MB_OK);
  CHECK_INT(begin(s, &tx, &bounded, &inner), MB_OK);
  s->tx = &inner;
  mb_sleep_ns(bounded.timeout_ns);
  CHECK_INT(run(s, "put 1"), MB_ERROR);
  CHECK_INT(s->error->class, MB_TIMEOUT);
  CHECK_INT(rollback(s, &inner), MB_OK);
  s->tx = &tx;
  CHECK_INT(run(s, "put 2"), MB_DONE);
  CHECK_INT(commit(s, &tx), MB_OK);
  CHECK_INT(td_stored(), 1);
}

EACH_WAY(forgets_the_time_of_a_dropped_transaction)
{
  const mb_tx_options bounded = {.timeout_ns = 100 * NS_PER_MS};
  mb_tx tx, inner;
  connect(s);
  CHECK_INT(begin(s, NULL, NULL, &tx), MB_OK);
  CHECK_INT(begin(s, &tx, &bounded, &inner), MB_OK);
  mb_tx_drop(&inner);
  mb_sleep_ns(bounded.timeout_ns);
  s->tx = &tx;
  CHECK_INT(run(s, "put 1"), MB_DONE);
  CHECK_INT(commit(s, &tx), MB_OK);
  s->tx = NULL;

  CHECK_INT(begin(s, NULL, &bounded, &tx), MB_OK);
  mb_tx_drop(&tx);
  mb_sleep_ns(bounded.timeout_ns);
  CHECK_INT(run(s, "put 2"), MB_DONE);
  CHECK_INT(td_stored(), 2);
}

/* The socket of a call was shut down, but it has not ended. */
ONE_WAY(does_not_end_under_a_call)
{
  const mb_option grace = {"cancel_grace", "0.01"};
  mb_cancellation *stop;
  CHECK_INT(mb_cancellation_open(NULL, &stop, fresh(s)), MB_OK);
  const mb_call call = {.cancellation = stop};
  mb_wait wait;
  mb_tx tx;
  s->blocking = false;
  connect_with(s, &grace, 1);
  CHECK_INT(begin(s, NULL, NULL, &tx), MB_OK);
  s->tx = &tx;
  CHECK_INT(run(s, "rows 3"), MB_ROW);
  td_stall(TD_EXECUTE, 1, TD_UNTIL_END);
  CHECK_INT(
      mb_conn_statement(s->conn, "put 1", 5, 0, &s->stmt, fresh(s)), MB_OK);
  mb_status status = mb_stmt_run(&s->stmt, &tx, NULL, 0, &call, s->error);
  mb_cancellation_cancel(stop, NULL);
  while (status == MB_WAIT && td_calls(TD_CANCEL_SOCKET) == 0) {
    mb_conn_wait(s->conn, &wait);
    mb_sleep_ns(NS_PER_MS);
    status = mb_conn_resume(s->conn, 0, s->error);
  }
  if (CHECK_INT(status, MB_WAIT)) {
    CHECK_INT(mb_tx_rollback(&tx, fresh(s)), MB_ERROR);
    CHECK_INT(mb_tx_commit(&tx, fresh(s)), MB_ERROR);
    CHECK(mb_tx_is_open(&tx));
    CHECK_INT(drive(s, MB_WAIT), MB_ERROR);
  }
  CHECK_INT(rollback(s, &tx), MB_OK);
  mb_cancellation_close(stop);
}

ONE_WAY(knows_times_that_no_clock_reaches)
{
  const mb_tx_options bounded = {.timeout_ns = MB_NEVER};
  const mb_call call = {.timeout_ns = MB_NEVER};
  mb_tx tx;
  connect(s);
  s->call = &call;
  CHECK_INT(begin(s, NULL, &bounded, &tx), MB_OK);
  s->tx = &tx;
  CHECK_INT(count_rows(s, "rows 3"), 3);
  CHECK_INT(drive(s, mb_conn_ping(s->conn, &call, fresh(s))), MB_OK);
  CHECK_INT(commit(s, &tx), MB_OK);
}

/* --- By texts ----------------------------------------------------------- */

EACH_WAY(sees_a_transaction_that_a_text_has_begun)
{
  mb_tx tx;
  connect(s);
  CHECK_INT(run(s, "begin"), MB_DONE);
  CHECK_INT(mb_conn_transaction_state(s->conn), MB_TRANSACTION_ACTIVE);
  CHECK_INT(begin(s, NULL, NULL, &tx), MB_ERROR);
  CHECK_INT(s->error->class, MB_USAGE);
  CHECK_INT(run(s, "put 1"), MB_DONE);
  CHECK_INT(run(s, "commit"), MB_DONE);
  CHECK_INT(td_stored(), 1);
  CHECK_INT(begin(s, NULL, NULL, &tx), MB_OK);
  CHECK_INT(rollback(s, &tx), MB_OK);
  /* One that is left open is rolled back. */
  CHECK_INT(run(s, "begin"), MB_DONE);
  CHECK_INT(run(s, "put 2"), MB_DONE);
  release(s);
  CHECK_INT(acquire(s), MB_OK);
  CHECK_INT(mb_conn_transaction_state(s->conn), MB_TRANSACTION_NONE);
  CHECK_INT(td_stored(), 1);
  CHECK_INT(td_calls(TD_CONNECT), 1);
}

static const struct check_test tests[] = {
    CHECK_TEST(commits_and_rolls_back),
    CHECK_TEST(commits_and_rolls_back_by_texts),
    CHECK_TEST(lets_begin_travel_with_the_first_statement),
    CHECK_TEST(costs_nothing_when_nothing_is_run),
    CHECK_TEST(reports_a_begin_that_fails),
    CHECK_TEST(reports_a_begin_that_fails_later),
    CHECK_TEST(refuses_what_the_database_has_not),
    CHECK_TEST(nests),
    CHECK_TEST(nests_by_texts),
    CHECK_TEST(ends_children_with_their_parent),
    CHECK_TEST(takes_statements_only_in_the_innermost),
    CHECK_TEST(takes_statements_only_of_its_connection),
    CHECK_TEST(does_not_nest_without_savepoints),
    CHECK_TEST(names_the_innermost),
    CHECK_TEST(rolls_back_what_was_dropped),
    CHECK_TEST(rolls_back_a_dropped_outer_with_all_in_it),
    CHECK_TEST(rolls_back_before_the_connection_is_lent_again),
    CHECK_TEST(closes_rows_with_their_transaction),
    CHECK_TEST(rolls_back_over_rows_that_end_badly),
    CHECK_TEST(does_not_commit_over_rows_that_end_badly),
    CHECK_TEST(runs_nothing_after_the_database_has_ended_it),
    CHECK_TEST(notices_that_a_text_has_ended_it),
    CHECK_TEST(recovers_by_a_savepoint),
    CHECK_TEST(does_not_commit_what_has_failed),
    CHECK_TEST(does_not_take_a_rollback_for_a_commit),
    CHECK_TEST(rolls_back_after_a_failing_commit),
    CHECK_TEST(gives_the_reason_of_a_failing_commit),
    CHECK_TEST(knows_when_the_outcome_is_unknown),
    CHECK_TEST(offers_to_run_a_lost_transaction_again),
    CHECK_TEST(closes_spooled_rows_of_a_lost_transaction),
    CHECK_TEST(gives_up_a_connection_that_cannot_roll_back),
    CHECK_TEST(keeps_the_time_of_a_transaction),
    CHECK_TEST(keeps_the_time_of_a_savepoint),
    CHECK_TEST(forgets_the_time_of_a_dropped_transaction),
    CHECK_TEST(does_not_end_under_a_call),
    CHECK_TEST(knows_times_that_no_clock_reaches),
    CHECK_TEST(sees_a_transaction_that_a_text_has_begun),
};

int main(void)
{
  return CHECK_RUN(tests);
}
