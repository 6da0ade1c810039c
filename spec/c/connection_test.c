/*
 * connection_test.c: the life of a connection: opened, lent, lost, cleaned,
 * closed.
 */
#include "session.h"

#include <pthread.h>
#include <time.h>

/* A clock that runs far ahead when a test has no time to wait. */
static atomic_llong ahead_ns;
static atomic_bool hurries;

static int64_t now_ns(void)
{
  struct timespec now;
  (void)clock_gettime(CLOCK_MONOTONIC, &now);
  if (hurries)
    ahead_ns += 50 * NS_PER_MS;
  return (int64_t)now.tv_sec * 1000 * NS_PER_MS + now.tv_nsec + ahead_ns;
}

static void sleep_ns(int64_t duration_ns)
{
  const struct timespec pause = {
      .tv_sec = (time_t)(duration_ns / (1000 * NS_PER_MS)),
      .tv_nsec = (long)(duration_ns % (1000 * NS_PER_MS))};
  (void)nanosleep(&pause, NULL);
}

/* The settings of a pool, to be changed between calls. */
static mb_settings *settings(const session *s)
{
  return (mb_settings *)mb_pool_settings(s->pool);
}

/* The connection is lost, and the one that is lent next works. */
static void check_lost(session *s)
{
  CHECK_INT(s->error->class, MB_CONNECTION_LOST);
  CHECK(flags(s, MB_CONNECTION_DEAD));
  release(s);
  CHECK_INT(acquire(s), MB_OK);
  CHECK_INT(run(s, "put 1"), MB_DONE);
}

/* --- Opening ------------------------------------------------------------ */

EACH_WAY(runs_the_init_statements)
{
  const mb_option options[] = {{"init", "session"}, {"init", "put 7"}};
  connect_with(s, options, 2);
  CHECK(td_is_stored(7));
  CHECK_INT(td_calls(TD_EXEC_TEXT), 2);
  /* They do not count as use. */
  release(s);
  CHECK_INT(acquire(s), MB_OK);
  CHECK_INT(td_calls(TD_CONNECT), 1);
  CHECK_INT(td_calls(TD_EXEC_TEXT), 2);
}

EACH_WAY(says_which_init_statement_has_failed)
{
  const mb_option options[] = {{"init", "put 1"}, {"init", "put 2"}};
  mb_pool_stats stats;
  size_t size;
  CHECK_INT(open_pool(s, NULL, options, 2), MB_OK);
  td_fail(TD_EXEC_TEXT, 2, MB_SYNTAX, 0);
  CHECK_INT(acquire(s), MB_ERROR);
  CHECK_INT(s->error->class, MB_SYNTAX);
  CHECK(says(s, "init statement 2: fault in exec_text"));
  const char *code = mb_error_text(s->error, MB_CODE, &size);
  CHECK_BYTES(code, size, "TD001");
  CHECK_INT(td_open_sessions(), 0);

  td_fail(TD_EXEC_TEXT, 1, MB_CONNECTION_LOST, MB_CONNECTION_DEAD | MB_SENT);
  CHECK_INT(acquire(s), MB_ERROR);
  CHECK_INT(s->error->class, MB_CONNECTION_LOST);
  CHECK(says(s, "init statement 1"));
  CHECK(flags(s, MB_CONNECTION_DEAD) && flags(s, MB_SENT));
  CHECK_INT(td_open_sessions(), 0);

  CHECK_INT(acquire(s), MB_OK);
  mb_pool_stats_read(s->pool, &stats);
  CHECK_INT(stats.failures, 2);
  CHECK_INT(stats.created, 1);
  CHECK_INT(stats.size, 1);
}

EACH_WAY(reports_why_it_could_not_connect)
{
  CHECK_INT(open_pool(s, NULL, NULL, 0), MB_OK);
  td_fail(TD_CONNECT, 1, MB_PERMISSION, 0);
  CHECK_INT(acquire(s), MB_ERROR);
  CHECK_INT(s->error->class, MB_PERMISSION);
  CHECK(s->conn == NULL);
  CHECK_INT(td_open_sessions(), 0);
  CHECK_INT(acquire(s), MB_OK);
}

/* The attempt succeeds when it has been given up. */
EACH_WAY(gives_nobody_a_connection_that_came_too_late)
{
  static const td_slot slots[] = {TD_CONNECT, TD_EXEC_TEXT};
  const mb_option options[] = {{"init", "put 1"}, {"cancel_grace", "0.01"}};
  if (td.blocks)
    return;
  CHECK_INT(open_pool(s, NULL, options, 2), MB_OK);
  for (size_t i = 0; i < sizeof slots / sizeof *slots; i++) {
    const long before = td_calls(TD_CONNECT);
    settings(s)->connect_timeout_ns = 50 * NS_PER_MS;
    td_fault_add((td_fault){
        .slot = slots[i], .nth = 1, .stall = TD_UNTIL_SHUT, .ends_well = true});
    CHECK_INT(acquire(s), MB_ERROR);
    CHECK_INT(s->error->class, MB_CONNECTIVITY);
    CHECK(flags(s, MB_TIMED_OUT));
    CHECK(is_called(TD_CONNECT, before + 1));
    CHECK(are_closed());
    settings(s)->connect_timeout_ns = 0;
    td_forgive(); /* it may have been too late for the init statement */
  }
  CHECK_INT(acquire(s), MB_OK);
  CHECK_INT(run(s, "put 1"), MB_DONE);
}

ONE_WAY(knows_nothing_of_what_a_driver_does_not_know)
{
  td.capability_size = offsetof(mb_capability, identifier_quote);
  connect(s);
  CHECK_INT(mb_conn_capability(s->conn)->identifier_quote, 0);
  CHECK(mb_conn_capability(s->conn)->savepoints);
  release(s);
  mb_pool_close(s->pool, 0);
  td.capability_size = (uint32_t)sizeof(mb_capability) * 2;
  connect(s);
  CHECK_INT(mb_conn_capability(s->conn)->identifier_quote, '"');
}

/* --- Asking whether it lives -------------------------------------------- */

EACH_WAY(pings)
{
  const mb_value *row;
  td.one_run = true;
  connect(s);
  CHECK_INT(run(s, "rows 3"), MB_ROW);
  CHECK_INT(fetch(s, s->stmt, &row), MB_ROW);
  /* Rows that are open make room, and go on. */
  CHECK_INT(drive(s, mb_conn_ping(s->conn, NULL, fresh(s))), MB_OK);
  CHECK_INT(td_calls(TD_PING), 1);
  CHECK_INT(count_rest(s, s->stmt), 2);
  td_fail(TD_PING, 1, MB_CONNECTION_LOST, MB_CONNECTION_DEAD | MB_SENT);
  CHECK_INT(drive(s, mb_conn_ping(s->conn, NULL, fresh(s))), MB_ERROR);
  CHECK_INT(s->error->class, MB_CONNECTION_LOST);
  CHECK_INT(drive(s, mb_conn_ping(s->conn, NULL, fresh(s))), MB_ERROR);
  check_lost(s);
}

EACH_WAY(pings_a_driver_that_needs_none)
{
  static mb_driver driver;
  driver = *td_driver();
  driver.ping = NULL;
  s->driver = &driver;
  connect(s);
  const long before = td_trips();
  CHECK_INT(drive(s, mb_conn_ping(s->conn, NULL, fresh(s))), MB_OK);
  CHECK_INT(td_trips(), before);
}

ONE_WAY(does_not_ping_what_was_cancelled)
{
  mb_cancellation *stop;
  CHECK_INT(mb_cancellation_open(NULL, &stop, fresh(s)), MB_OK);
  const mb_call call = {.cancellation = stop};
  connect(s);
  mb_cancellation_cancel(stop, "enough");
  CHECK_INT(mb_conn_ping(s->conn, &call, fresh(s)), MB_ERROR);
  CHECK_INT(s->error->class, MB_CANCELED);
  CHECK(says(s, "enough"));
  CHECK_INT(td_calls(TD_PING), 0);
  CHECK_INT(mb_conn_ping(s->conn, NULL, fresh(s)), MB_OK);
  mb_cancellation_close(stop);
}

/* --- Losing it ---------------------------------------------------------- */

EACH_WAY(says_that_it_is_lost)
{
  mb_tx tx, other;
  mb_stmt *stmt;
  const mb_value *row;
  connect(s);
  CHECK_INT(begin(s, NULL, NULL, &tx), MB_OK);
  s->tx = &tx;
  CHECK_INT(run(s, "rows 3"), MB_ROW);
  mb_stmt *rows = s->stmt;
  td_fail(TD_EXECUTE, 1, MB_CONNECTION_LOST, MB_CONNECTION_DEAD | MB_SENT);
  CHECK_INT(run(s, "put 1"), MB_ERROR);
  CHECK(flags(s, MB_CONNECTION_DEAD) && flags(s, MB_TRANSACTION_DEAD));

  CHECK_INT(run(s, "put 1"), MB_ERROR);
  CHECK_INT(s->error->class, MB_CONNECTION_LOST);
  CHECK(flags(s, MB_CONNECTION_DEAD) && flags(s, MB_TRANSACTION_DEAD));
  CHECK_INT(run(s, "put 2"), MB_ERROR);
  CHECK_INT(s->error->class, MB_CONNECTION_LOST);
  CHECK_INT(fetch(s, rows, &row), MB_ERROR);
  CHECK_INT(s->error->class, MB_CONNECTION_LOST);
  CHECK_INT(finish(s, rows), MB_ERROR);
  CHECK_INT(s->error->class, MB_CONNECTION_LOST);
  CHECK_INT(begin(s, &tx, NULL, &other), MB_ERROR);
  CHECK_INT(s->error->class, MB_CONNECTION_LOST);
  CHECK_INT(
      mb_conn_command(s->conn, &tx, "list", NULL, 0, NULL, &stmt, fresh(s)),
      MB_ERROR);
  CHECK_INT(s->error->class, MB_CONNECTION_LOST);
  CHECK(mb_tx_is_open(&tx));
  CHECK_INT(commit(s, &tx), MB_ERROR);
  CHECK_INT(s->error->class, MB_CONNECTION_LOST);
  CHECK(!flags(s, MB_COMMIT_UNKNOWN));
  CHECK(!mb_tx_is_open(&tx));
  s->tx = NULL;
  CHECK_INT(run(s, "put 1"), MB_ERROR);
  CHECK_INT(td_stored(), 0);
  check_lost(s);
}

/* What follows from an error is told by its flags, whatever its class. */
EACH_WAY(looks_at_flags_and_not_at_classes)
{
  connect(s);
  td_fail(TD_EXECUTE, 1, MB_CONNECTION_LOST, MB_SENT);
  CHECK_INT(run(s, "put 1"), MB_ERROR);
  CHECK_INT(run(s, "put 2"), MB_DONE);
  td_fail(TD_EXECUTE, 1, MB_SYNTAX, MB_CONNECTION_DEAD);
  CHECK_INT(run(s, "put 3"), MB_ERROR);
  CHECK_INT(s->error->class, MB_SYNTAX);
  CHECK_INT(run(s, "put 4"), MB_ERROR);
  check_lost(s);
  CHECK_INT(td_calls(TD_CONNECT), 2);
}

/* Rows that were read before are still given. */
EACH_WAY(gives_what_it_has_when_it_is_lost)
{
  connect(s);
  CHECK_INT(run(s, "rows 3"), MB_ROW);
  mb_stmt *rows = s->stmt;
  CHECK_INT(drive(s, mb_stmt_prefetch(rows, 10, 10000, fresh(s))), MB_DONE);
  td_fail(TD_EXECUTE, 1, MB_CONNECTION_LOST, MB_CONNECTION_DEAD);
  CHECK_INT(run(s, "put 1"), MB_ERROR);
  CHECK_INT(count_rest(s, rows), 3);
}

/* --- Closed ------------------------------------------------------------- */

ONE_WAY(refuses_everything_when_it_is_closed)
{
  mb_tx tx;
  mb_stmt *stmt;
  const mb_value *row;
  mb_cursor cursor;
  char name[16];
  connect(s);
  CHECK_INT(begin(s, NULL, NULL, &tx), MB_OK);
  s->tx = &tx;
  CHECK_INT(run(s, "rows 3"), MB_ROW);
  mb_conn *conn = s->conn;
  mb_stmt *rows = s->stmt;
  mb_cursor_open(&cursor, rows);
  mb_stmt_keep(rows);
  mb_conn_ref(conn);
  mb_pool_shut(s->pool, 0);
  s->conn = NULL;
  CHECK_INT(td_open_sessions(), 0);
  CHECK_INT(td_open_statements(), 0);

#define CHECK_REFUSED(call)               \
  do {                                    \
    CHECK_INT(call, MB_ERROR);            \
    CHECK_INT(s->error->class, MB_USAGE); \
  } while (0)
  CHECK_REFUSED(mb_conn_statement(conn, "put 1", 5, 0, &stmt, fresh(s)));
  CHECK_REFUSED(mb_stmt_run(&rows, NULL, NULL, 0, NULL, fresh(s)));
  CHECK_REFUSED(mb_stmt_prepare(rows, NULL, NULL, fresh(s)));
  CHECK_REFUSED(mb_cursor_fetch(&cursor, &row, fresh(s)));
  CHECK_REFUSED(mb_conn_ping(conn, NULL, fresh(s)));
  CHECK_REFUSED(mb_tx_begin(conn, NULL, NULL, &tx, fresh(s)));
  CHECK_REFUSED(mb_tx_commit(&tx, fresh(s)));
  CHECK_REFUSED(mb_tx_rollback(&tx, fresh(s)));
  CHECK_REFUSED(mb_conn_resume(conn, 0, fresh(s)));
  CHECK_REFUSED(
      mb_conn_command(conn, NULL, "list", NULL, 0, NULL, &stmt, fresh(s)));
  CHECK_REFUSED(mb_pool_acquire(s->pool, NULL, 0, &s->conn, fresh(s)));
  /* What needs no session goes on. */
  CHECK_INT(mb_stmt_fetch(rows, &row, fresh(s)), MB_DONE);
  CHECK_INT(mb_stmt_finish(rows, fresh(s)), MB_OK);
  CHECK_INT(mb_conn_quote(conn, "a", 1, name, sizeof name, fresh(s)), MB_OK);
  CHECK(!mb_tx_is_open(&tx));
  mb_cursor_close(&cursor);
  mb_stmt_drop(rows);
  mb_stmt_close(rows);
  mb_conn_release(conn);
  mb_conn_unref(conn);
}

/* A request to stop what runs is still under way. */
ONE_WAY(waits_for_a_request_to_stop_before_it_closes)
{
  const mb_option grace = {"cancel_grace", "60"};
  mb_cancellation *stop;
  CHECK_INT(mb_cancellation_open(NULL, &stop, fresh(s)), MB_OK);
  const mb_call call = {.cancellation = stop};
  s->blocking = false;
  connect_with(s, &grace, 1);
  td.cancel_ms = 40;
  td_stall(TD_PREPARE, 1, TD_UNTIL_ASKED);
  CHECK_INT(
      mb_conn_statement(s->conn, "put 1", 5, 0, &s->stmt, fresh(s)), MB_OK);
  CHECK_INT(mb_stmt_run(&s->stmt, NULL, NULL, 0, &call, s->error), MB_WAIT);
  mb_cancellation_cancel(stop, NULL);
  CHECK_INT(mb_conn_resume(s->conn, 0, s->error), MB_WAIT);
  while (td_calls(TD_CANCEL_QUERY) == 0)
    mb_sleep_ns(NS_PER_MS / 10);
  mb_sleep_ns(NS_PER_MS);
  release(s);
  CHECK_INT(td_calls(TD_CANCEL_SOCKET), 0);
  CHECK_INT(td_open_sessions(), 0);
  mb_cancellation_close(stop);
}

/* Nor is one waited for that does not return. */
ONE_WAY(closes_in_spite_of_a_request_that_hangs)
{
  const mb_option grace = {"cancel_grace", "60"};
  mb_cancellation *stop;
  CHECK_INT(mb_cancellation_open(NULL, &stop, fresh(s)), MB_OK);
  const mb_call call = {.cancellation = stop};
  s->blocking = false;
  connect_with(s, &grace, 1);
  td.cancel_hangs = true;
  td_stall(TD_PREPARE, 1, TD_UNTIL_SHUT);
  CHECK_INT(
      mb_conn_statement(s->conn, "put 1", 5, 0, &s->stmt, fresh(s)), MB_OK);
  CHECK_INT(mb_stmt_run(&s->stmt, NULL, NULL, 0, &call, s->error), MB_WAIT);
  mb_cancellation_cancel(stop, NULL);
  CHECK_INT(mb_conn_resume(s->conn, 0, s->error), MB_WAIT);
  while (td_calls(TD_CANCEL_QUERY) == 0)
    mb_sleep_ns(NS_PER_MS);
  release(s);
  CHECK_INT(td_calls(TD_CANCEL_SOCKET), 1);
  CHECK_INT(td_open_sessions(), 0);
  mb_cancellation_close(stop);
  td_unhang();
}

/* --- Between two borrowers ---------------------------------------------- */

static void count_event(void *context, const mb_event *event)
{
  int *n = context;
  (void)event;
  (*n)++;
}

EACH_WAY(leaves_nothing_to_the_next_borrower)
{
  mb_tx tx, inner;
  int events = 0;
  connect(s);
  CHECK(mb_conn_take_fresh(s->conn));
  CHECK(!mb_conn_take_fresh(s->conn));
  const uint64_t borrow = mb_conn_borrow(s->conn);
  mb_conn_on_event(s->conn, count_event, &events);
  CHECK_INT(run(s, "notice a"), MB_DONE);
  CHECK_INT(events, 1);
  CHECK_INT(run(s, "rows 3"), MB_ROW);
  CHECK_INT(begin(s, NULL, NULL, &tx), MB_OK);
  s->tx = &tx;
  CHECK_INT(run(s, "put 1"), MB_DONE);
  CHECK_INT(begin(s, &tx, NULL, &inner), MB_OK);
  s->tx = &inner;
  CHECK_INT(run(s, "rows 4"), MB_ROW);
  mb_conn_set_setup(s->conn, true);
  mb_conn *conn = s->conn;
  release(s);
  CHECK_INT(mb_conn_borrow(conn), borrow + 1);

  td.validity = MB_READABLE; /* it is read, and nobody hears it */
  CHECK_INT(acquire(s), MB_OK);
  CHECK_INT(td_calls(TD_CONNECT), 1);
  CHECK(mb_conn_borrow(s->conn) > borrow + 1);
  CHECK(!mb_conn_take_fresh(s->conn));
  CHECK(!mb_conn_has_open_rows(s->conn));
  CHECK_INT(mb_conn_transaction_state(s->conn), MB_TRANSACTION_NONE);
  CHECK_INT(run(s, "notice b"), MB_DONE);
  CHECK_INT(events, 1);
  CHECK_INT(td_stored(), 0);
  CHECK(!mb_tx_is_open(&tx));
  CHECK_INT(rollback(s, &tx), MB_ERROR);
  CHECK_INT(s->error->class, MB_USAGE);
  CHECK(says(s, "given back"));
}

EACH_WAY(closes_what_cannot_be_cleaned)
{
  mb_tx tx;
  connect(s);
  CHECK_INT(begin(s, NULL, NULL, &tx), MB_OK);
  td_fail(TD_ROLLBACK, 1, MB_ENGINE, MB_SENT);
  release(s);
  CHECK_INT(td_open_sessions(), 0);
  CHECK_INT(acquire(s), MB_OK);
  CHECK_INT(run(s, "rows 3"), MB_ROW);
  td_fail(TD_FINISH, 1, MB_ENGINE, MB_SENT);
  release(s);
  CHECK_INT(td_open_sessions(), 0);
  CHECK_INT(acquire(s), MB_OK);
  /* A transaction that goes on whatever is tried. */
  CHECK_INT(run(s, "begin"), MB_DONE);
  td_fail(TD_ROLLBACK, 1, MB_CONNECTION_LOST, MB_CONNECTION_DEAD);
  release(s);
  CHECK_INT(td_open_sessions(), 0);
  CHECK_INT(acquire(s), MB_OK);
  CHECK_INT(run(s, "put 1"), MB_DONE);
}

EACH_WAY(closes_what_is_not_clean_in_time)
{
  const mb_option grace = {"cancel_grace", "1"};
  mb_tx tx;
  connect_with(s, &grace, 1);
  CHECK_INT(begin(s, NULL, NULL, &tx), MB_OK);
  td.noisy = true; /* so that nobody sleeps by the true clock */
  td_stall(TD_ROLLBACK, 1, TD_UNTIL_SHUT);
  if (td.blocks)
    td_stall(TD_ROLLBACK, 1, TD_UNTIL_ASKED);
  /* The database is asked by a thread that is in no hurry. */
  hurries = true;
  release(s);
  hurries = false;
  ahead_ns = 0;
  CHECK_INT(td_open_sessions(), 0);
  CHECK_INT(acquire(s), MB_OK);
  CHECK_INT(run(s, "put 1"), MB_DONE);
}

EACH_WAY(resets_the_session)
{
  const mb_option options[] = {{"init", "put 7"}, {"reset", "full"}};
  s->driver = td_full_driver();
  connect_with(s, options, 2);
  CHECK(mb_conn_take_fresh(s->conn));
  CHECK_INT(run(s, "session"), MB_DONE);
  CHECK_INT(count_rows(s, "rows 2"), 2);
  release(s);
  CHECK_INT(td_calls(TD_RESET), 1);
  CHECK_INT(acquire(s), MB_OK);
  CHECK(!mb_conn_take_fresh(s->conn));
  CHECK_INT(count_rows(s, "rows 2"), 2);
  CHECK_INT(td_calls(TD_PREPARE), 2);

  /* What it loses is set up again. */
  td.reset_loses = MB_LOST_STATEMENTS | MB_LOST_SETTINGS;
  release(s);
  CHECK_INT(td_calls(TD_EXEC_TEXT), 2);
  CHECK_INT(acquire(s), MB_OK);
  CHECK(mb_conn_take_fresh(s->conn));
  CHECK_INT(count_rows(s, "rows 2"), 2);
  CHECK_INT(td_calls(TD_PREPARE), 3);
  CHECK_INT(td_calls(TD_CONNECT), 1);

  td_fail(TD_RESET, 1, MB_ENGINE, MB_SENT);
  release(s);
  CHECK_INT(td_open_sessions(), 0);
  CHECK_INT(acquire(s), MB_OK);
  CHECK_INT(td_calls(TD_CONNECT), 2);

  CHECK_INT(run(s, "session"), MB_DONE);
  td_fail(TD_EXEC_TEXT, 1, MB_SYNTAX, MB_SENT);
  release(s);
  CHECK_INT(td_open_sessions(), 0);
}

static void check_resets(session *s, const char *sql, int64_t n)
{
  const int64_t before = td_calls(TD_RESET);
  if (!CHECK_INT(count_rows(s, sql), 1))
    fprintf(stderr, "  %s\n", sql);
  release(s);
  if (!CHECK_INT(td_calls(TD_RESET) - before, n))
    fprintf(stderr, "  %s\n", sql);
  CHECK_INT(acquire(s), MB_OK);
}

EACH_WAY(resets_what_may_have_been_changed)
{
  s->driver = td_full_driver();
  connect(s);
  check_resets(s, "select 1", 0);
  check_resets(s, "select 1 get_Lock", 1);
  check_resets(s, "rows 1", 1);
  check_resets(s, "select 1", 0);
  CHECK_INT(run(s, "session"), MB_DONE);
  check_resets(s, "select 1", 1);
  mb_conn_set_setup(s->conn, true);
  CHECK_INT(run(s, "session"), MB_DONE);
  mb_conn_set_setup(s->conn, false);
  check_resets(s, "select 1", 0);
}

EACH_WAY(resets_every_session)
{
  const mb_option reset = {"reset", "full"};
  s->driver = td_full_driver();
  connect_with(s, &reset, 1);
  check_resets(s, "select 1", 1);
  check_resets(s, "rows 1", 1);
}

EACH_WAY(resets_no_session)
{
  const mb_option reset = {"reset", "none"};
  s->driver = td_full_driver();
  connect_with(s, &reset, 1);
  CHECK_INT(run(s, "session"), MB_DONE);
  check_resets(s, "rows 1", 0);
  CHECK_INT(td_calls(TD_CONNECT), 1);
}

/* A reset that travels with the next borrower's request: nothing of that was
 * run, and the session is not fit for anybody. */
EACH_WAY(drops_a_session_whose_reset_fails_late)
{
  const mb_option full = {"reset", "full"};
  s->driver = td_full_driver();
  td.defers_reset = true;
  connect_with(s, &full, 1);
  CHECK_INT(run(s, "put 1"), MB_DONE);
  td_fail(TD_RESET, 1, MB_ENGINE, MB_SENT);
  release(s);
  CHECK_INT(acquire(s), MB_OK);
  CHECK_INT(run(s, "put 2"), MB_ERROR);
  CHECK_INT(s->error->origin, MB_ORIGIN_RESET);
  CHECK(flags(s, MB_RETRYABLE) && flags(s, MB_CONNECTION_DEAD));
  CHECK(!td_is_stored(2));
  CHECK_INT(run(s, "put 2"), MB_ERROR);
  check_lost(s);
}

EACH_WAY(closes_a_session_that_a_user_has_changed)
{
  connect(s);
  mb_conn_set_setup(s->conn, true);
  CHECK_INT(run(s, "session"), MB_DONE);
  mb_conn_set_setup(s->conn, false);
  release(s);
  CHECK_INT(acquire(s), MB_OK);
  CHECK_INT(td_calls(TD_CONNECT), 1);
  CHECK_INT(run(s, "session"), MB_DONE);
  release(s);
  CHECK_INT(td_open_sessions(), 0);
  CHECK_INT(acquire(s), MB_OK);
  CHECK_INT(td_calls(TD_CONNECT), 2);
}

/* A database that lives in its only connection. */
EACH_WAY(keeps_a_session_that_is_the_database)
{
  td.max_connections = 1;
  connect(s);
  CHECK_INT(run(s, "session"), MB_DONE);
  release(s);
  CHECK_INT(acquire(s), MB_OK);
  CHECK_INT(td_calls(TD_CONNECT), 1);
}

EACH_WAY(lends_nothing_that_has_died)
{
  connect(s);
  release(s);
  td.validity = MB_DEAD;
  CHECK_INT(acquire(s), MB_OK);
  CHECK_INT(td_calls(TD_CONNECT), 2);
  td.validity = MB_READABLE;
  td_fail(TD_CONSUME, 1, MB_CONNECTION_LOST, MB_CONNECTION_DEAD);
  release(s);
  CHECK_INT(acquire(s), MB_OK);
  CHECK_INT(td_calls(TD_CONNECT), 3);
  CHECK_INT(td_open_sessions(), 1);
  CHECK_INT(run(s, "put 1"), MB_DONE);
}

/* --- One call at a time ------------------------------------------------- */

typedef struct work {
  session *s;
  const mb_call *call;
  mb_status status;
  mb_error error;
} work;

static void *put_stalled(void *argument)
{
  work *w = argument;
  w->status = mb_stmt_run(&w->s->stmt, NULL, NULL, 0, w->call, &w->error);
  return NULL;
}

/* Begins a run on another thread that stalls until it is cancelled. */
static pthread_t start_stalled(session *s, work *w)
{
  pthread_t thread;
  *w = (work){.s = s, .call = s->call};
  CHECK_INT(
      mb_conn_statement(s->conn, "put 5", 5, 0, &s->stmt, fresh(s)), MB_OK);
  td_stall(TD_EXECUTE, 1, TD_UNTIL_ASKED);
  const long before = td_calls(TD_EXECUTE);
  if (pthread_create(&thread, NULL, put_stalled, w) != 0)
    abort();
  while (td_calls(TD_EXECUTE) == before)
    mb_sleep_ns(NS_PER_MS / 10);
  return thread;
}

static void check_refused(session *s, mb_conn *conn)
{
  mb_tx tx;
  mb_stmt *stmt;
  CHECK_REFUSED(mb_conn_ping(conn, NULL, fresh(s)));
  CHECK(says(s, "in the middle of another call"));
  CHECK_REFUSED(mb_conn_statement(conn, "put 9", 5, 0, &stmt, fresh(s)));
  CHECK_REFUSED(mb_tx_begin(conn, NULL, NULL, &tx, fresh(s)));
}

EACH_WAY(refuses_a_second_thread)
{
  const mb_option grace = {"cancel_grace", "60"};
  mb_cancellation *stop;
  work w;
  if (!s->blocking)
    return;
  CHECK_INT(mb_cancellation_open(NULL, &stop, fresh(s)), MB_OK);
  const mb_call call = {.cancellation = stop};
  connect_with(s, &grace, 1);
  s->call = &call;
  const pthread_t thread = start_stalled(s, &w);
  check_refused(s, s->conn);
  mb_cancellation_cancel(stop, NULL);
  (void)pthread_join(thread, NULL);
  CHECK_INT(w.status, MB_ERROR);
  CHECK_INT(w.error.class, MB_CANCELED);
  s->call = NULL;
  CHECK_INT(run(s, "put 6"), MB_DONE);
  mb_cancellation_close(stop);
}

/* It ends when the call has ended, and is found by whoever waits for it. */
EACH_WAY(may_be_given_back_under_a_call)
{
  const mb_option options[] = {{"cancel_grace", "60"}, {"max", "1"}};
  mb_cancellation *stop;
  work w;
  if (!s->blocking)
    return;
  CHECK_INT(mb_cancellation_open(NULL, &stop, fresh(s)), MB_OK);
  const mb_call call = {.cancellation = stop};
  connect_with(s, options, 2);
  s->call = &call;
  const pthread_t thread = start_stalled(s, &w);
  mb_conn *conn = s->conn;
  mb_conn_release(conn);
  CHECK_INT(td_open_sessions(), 1);
  CHECK_INT(mb_pool_acquire(s->pool, NULL, MB_ACQUIRE_NOW, &s->conn, fresh(s)),
      MB_ERROR);
  CHECK_INT(s->error->class, MB_POOL_TIMEOUT);
  mb_cancellation_cancel(stop, NULL);
  s->call = NULL;
  CHECK_INT(acquire(s), MB_OK);
  (void)pthread_join(thread, NULL);
  CHECK_INT(w.status, MB_ERROR);
  CHECK_INT(w.error.class, MB_CANCELED);
  CHECK_INT(run(s, "put 6"), MB_DONE);
  mb_cancellation_close(stop);
}

/* The same for a pool that is shut. */
EACH_WAY(is_waited_for_when_it_is_in_a_call)
{
  const mb_option grace = {"cancel_grace", "60"};
  mb_cancellation *stop;
  work w;
  if (!s->blocking)
    return;
  CHECK_INT(mb_cancellation_open(NULL, &stop, fresh(s)), MB_OK);
  const mb_call call = {.cancellation = stop};
  connect_with(s, &grace, 1);
  s->call = &call;
  const pthread_t thread = start_stalled(s, &w);
  mb_conn_release(s->conn);
  s->conn = NULL;
  mb_pool_shut(s->pool, 0);
  CHECK_INT(td_open_sessions(), 1);
  mb_cancellation_cancel(stop, NULL);
  mb_pool_shut(s->pool, 60000 * NS_PER_MS);
  CHECK_INT(td_open_sessions(), 0);
  (void)pthread_join(thread, NULL);
  mb_cancellation_close(stop);
}

typedef struct inside {
  session *s;
  mb_stmt *rows, *read, *cached;
  mb_cursor cursor;
  mb_tx tx;
} inside;

/* Called by the database, in the middle of a call. */
static void call_back(void *context, const mb_event *event)
{
  inside *in = context;
  session *s = in->s;
  const mb_value *row;
  (void)event;
  check_refused(s, s->conn);
  CHECK_REFUSED(mb_stmt_run(&in->cached, NULL, NULL, 0, NULL, fresh(s)));
  CHECK_REFUSED(mb_stmt_fetch(in->rows, &row, fresh(s)));
  CHECK_REFUSED(mb_stmt_finish(in->rows, fresh(s)));
  CHECK_REFUSED(mb_stmt_prefetch(in->rows, 1, 1, fresh(s)));
  CHECK_REFUSED(mb_stmt_finish(in->read, fresh(s)));
  CHECK_REFUSED(mb_tx_commit(&in->tx, fresh(s)));
  CHECK_REFUSED(mb_tx_rollback(&in->tx, fresh(s)));
  mb_cursor_close(&in->cursor);
}

EACH_WAY(refuses_a_call_inside_a_call)
{
  inside in = {.s = s};
  connect(s);
  CHECK_INT(begin(s, NULL, NULL, &in.tx), MB_OK);
  s->tx = &in.tx;
  CHECK_INT(run(s, "put 1"), MB_DONE);
  in.cached = s->stmt;
  CHECK_INT(run(s, "rows 3"), MB_ROW);
  in.rows = s->stmt;
  CHECK_INT(run(s, "rows 4"), MB_ROW);
  in.read = s->stmt;
  CHECK_INT(drive(s, mb_stmt_prefetch(in.read, 2, 10000, fresh(s))), MB_ROW);
  CHECK_INT(run(s, "rows 5"), MB_ROW);
  mb_cursor_open(&in.cursor, s->stmt);
  mb_conn_on_event(s->conn, call_back, &in);
  CHECK_INT(run(s, "notice a"), MB_DONE);
  mb_conn_on_event(s->conn, NULL, NULL);
  CHECK_INT(td_calls(TD_PING), 0);
  CHECK_INT(run(s, "put 2"), MB_DONE);
  CHECK_INT(count_rest(s, in.rows), 3);
  CHECK_INT(count_rest(s, in.read), 4);
  CHECK_INT(commit(s, &in.tx), MB_OK);
  CHECK_INT(td_stored(), 2);
}

static void give_back(void *context, const mb_event *event)
{
  (void)event;
  mb_conn_release(context);
}

EACH_WAY(may_be_given_back_inside_a_call)
{
  const mb_option one = {"max", "1"};
  connect_with(s, &one, 1);
  mb_conn_on_event(s->conn, give_back, s->conn);
  CHECK_INT(run(s, "notice a"), MB_DONE);
  CHECK_INT(td_open_sessions(), 1);
  CHECK_INT(acquire(s), MB_OK);
  CHECK_INT(run(s, "put 1"), MB_DONE);
  CHECK_INT(td_most_sessions(), 1);
}

static const struct check_test tests[] = {
    CHECK_TEST(runs_the_init_statements),
    CHECK_TEST(says_which_init_statement_has_failed),
    CHECK_TEST(reports_why_it_could_not_connect),
    CHECK_TEST(gives_nobody_a_connection_that_came_too_late),
    CHECK_TEST(knows_nothing_of_what_a_driver_does_not_know),
    CHECK_TEST(pings),
    CHECK_TEST(pings_a_driver_that_needs_none),
    CHECK_TEST(does_not_ping_what_was_cancelled),
    CHECK_TEST(says_that_it_is_lost),
    CHECK_TEST(looks_at_flags_and_not_at_classes),
    CHECK_TEST(gives_what_it_has_when_it_is_lost),
    CHECK_TEST(refuses_everything_when_it_is_closed),
    CHECK_TEST(waits_for_a_request_to_stop_before_it_closes),
    CHECK_TEST(closes_in_spite_of_a_request_that_hangs),
    CHECK_TEST(leaves_nothing_to_the_next_borrower),
    CHECK_TEST(closes_what_cannot_be_cleaned),
    CHECK_TEST(closes_what_is_not_clean_in_time),
    CHECK_TEST(resets_the_session),
    CHECK_TEST(resets_what_may_have_been_changed),
    CHECK_TEST(resets_every_session),
    CHECK_TEST(resets_no_session),
    CHECK_TEST(drops_a_session_whose_reset_fails_late),
    CHECK_TEST(closes_a_session_that_a_user_has_changed),
    CHECK_TEST(keeps_a_session_that_is_the_database),
    CHECK_TEST(lends_nothing_that_has_died),
    CHECK_TEST(refuses_a_second_thread),
    CHECK_TEST(may_be_given_back_under_a_call),
    CHECK_TEST(is_waited_for_when_it_is_in_a_call),
    CHECK_TEST(refuses_a_call_inside_a_call),
    CHECK_TEST(may_be_given_back_inside_a_call),
};

int main(void)
{
  mb_set_clock(now_ns, sleep_ns);
  return CHECK_RUN(tests);
}
