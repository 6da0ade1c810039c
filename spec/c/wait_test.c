/*
 * wait_test.c: calls that take too long: the three phases in which they are
 * ended, and what is left afterwards.
 */
#include "session.h"

/* Time that a busy machine may take on top of what is promised. */
#define SLACK_NS (4000 * NS_PER_MS)
#define TIMEOUT_MS 10
#define GRACE_MS 10

static const mb_option impatient = {"cancel_grace", "0.01"};
static const mb_option patient = {"cancel_grace", "60"};
static const mb_call brief = {.timeout_ns = TIMEOUT_MS * NS_PER_MS};

/* The settings of a pool, to be changed between calls, so that nothing but what
 * a test is about is short of time. */
static mb_settings *settings(const session *s)
{
  return (mb_settings *)mb_pool_settings(s->pool);
}

/* What the three phases may take together. */
static bool is_in_time(int64_t start_ns)
{
  const int64_t most_ns = (TIMEOUT_MS + GRACE_MS + 100) * NS_PER_MS + SLACK_NS;
  const int64_t took_ns = mb_now_ns() - start_ns;
  if (took_ns >= most_ns)
    (void)fprintf(
        stderr, "it took %lld ms\n", (long long)(took_ns / NS_PER_MS));
  return took_ns < most_ns;
}

/* Puts a value; nothing bounds it. */
static mb_status put(session *s, int64_t number)
{
  const mb_value value = {.tag = MB_INT64, .as.integer = number};
  return run_with(s, "put ?", &value, 1);
}

/* Puts a value, with bounds on the execute alone.  A machine that is too slow
 * to come so far in time tries again. */
static mb_status put_briefly(session *s, int64_t number)
{
  const mb_value value = {.tag = MB_INT64, .as.integer = number};
  const long before = td_calls(TD_EXECUTE);
  mb_status status = MB_ERROR;
  if (mb_conn_statement(s->conn, "put ?", 5, 0, &s->stmt, fresh(s)) != MB_OK ||
      drive(s, mb_stmt_prepare(s->stmt, s->tx, NULL, s->error)) != MB_OK)
    return MB_ERROR;
  while (status == MB_ERROR && td_calls(TD_EXECUTE) == before)
    status =
        drive(s, mb_stmt_run(&s->stmt, s->tx, &value, 1, &brief, fresh(s)));
  return status;
}

static void start_anew(session *s, int *tries)
{
  if (++*tries == 100)
    abort();
  release(s);
  CHECK_INT(acquire(s), MB_OK);
}

/* Rows whose fetches are bounded, tried in the same way. */
static void start_rows(session *s, const mb_call *call, const char *sql)
{
  int tries = 0;
  for (;;) {
    s->call = call;
    const mb_status status = run(s, sql);
    s->call = NULL;
    /* It may have been lost while its rows came. */
    if (status == MB_ROW &&
        drive(s, mb_conn_ping(s->conn, NULL, fresh(s))) == MB_OK)
      return;
    start_anew(s, &tries);
  }
}

/* The same without a row, of which the end has been read. */
static void start_results(session *s, const mb_call *call)
{
  int tries = 0;
  start_rows(s, call, "rows 0 results 2");
  while (count_rest(s, s->stmt) != 0) {
    start_anew(s, &tries);
    start_rows(s, call, "rows 0 results 2");
  }
}

/* Whatever has happened: the connection works, or says that it is lost and
 * makes place for another one. */
static void check_aftermath(session *s)
{
  const bool lost = s->error->flags & MB_CONNECTION_DEAD;
  if (lost) {
    CHECK_INT(run(s, "put 1"), MB_ERROR);
    CHECK_INT(s->error->class, MB_CONNECTION_LOST);
    release(s);
    CHECK_INT(acquire(s), MB_OK);
  }
  CHECK_INT(run(s, "put 1"), MB_DONE);
  CHECK_INT(count_rows(s, "rows 3"), 3);
}

/* --- Three phases ------------------------------------------------------- */

EACH_WAY(asks_the_database_to_stop)
{
  connect_with(s, &patient, 1);
  td_stall(TD_EXECUTE, 1, TD_UNTIL_ASKED);
  const int64_t start_ns = mb_now_ns();
  CHECK_INT(put_briefly(s, 5), MB_ERROR);
  CHECK_INT(s->error->class, MB_TIMEOUT);
  CHECK(mb_now_ns() - start_ns >= TIMEOUT_MS * NS_PER_MS);
  CHECK(is_in_time(start_ns));
  CHECK(!flags(s, MB_CONNECTION_DEAD));
  CHECK_INT(td_calls(TD_CANCEL_QUERY), td.blocks ? 0 : 1);
  CHECK_INT(td_calls(TD_CANCEL_SOCKET), 0);
  check_aftermath(s);
  CHECK(!td_is_stored(5));
}

/* Also when it never stops talking. */
EACH_WAY(shuts_the_socket_when_asking_does_not_help)
{
  if (td.blocks)
    return;
  connect_with(s, &impatient, 1);
  for (int noisy = 0; noisy < 2; noisy++)
    for (td_until until = TD_UNTIL_SHUT; until <= TD_UNTIL_END; until++) {
      const long before = td_calls(TD_CANCEL_SOCKET);
      if (td.deaf && until == TD_UNTIL_END)
        continue;
      td.noisy = noisy;
      td_stall(TD_EXECUTE, 1, until);
      const int64_t start_ns = mb_now_ns();
      CHECK_INT(put_briefly(s, 5), MB_ERROR);
      CHECK_INT(s->error->class, MB_TIMEOUT);
      CHECK(says(s, "did not stop in time"));
      CHECK_INT(
          flags(s, MB_CONNECTION_DEAD | MB_SENT), MB_CONNECTION_DEAD | MB_SENT);
      CHECK(is_in_time(start_ns));
      CHECK_INT(td_calls(TD_CANCEL_SOCKET), before + 1);
      check_aftermath(s);
    }
}

EACH_WAY(takes_an_answer_that_comes_after_all)
{
  if (td.blocks)
    return;
  connect_with(s, &patient, 1);
  CHECK_INT(put(s, 4), MB_DONE);
  /* It takes longer than its time, and the asking even longer. */
  td.wake = TD_BY_THREAD;
  td.waits = td.deaf ? 1000 : TIMEOUT_MS + 10;
  td.cancel_ms = 30;
  const int64_t start_ns = mb_now_ns();
  const mb_status status = put_briefly(s, 5);
  td.waits = 0;
  CHECK(mb_now_ns() - start_ns >= (TIMEOUT_MS + 30) * NS_PER_MS);
  CHECK(status == MB_DONE || s->error->class == MB_TIMEOUT);
  CHECK(td_is_stored(5) == (status == MB_DONE));
  CHECK_INT(td_calls(TD_CANCEL_QUERY), 1);
  /* The request to stop was out until the call had its answer: nothing else is
   * met by it. */
  for (int i = 0; i < 20; i++)
    CHECK_INT(run(s, "put 6"), MB_DONE);
  CHECK_INT(td_calls(TD_CONNECT), 1);
}

/* An operation of several requests that is out of time after one sends no
 * other: it would have to be stopped again. */
EACH_WAY(sends_nothing_more_when_its_time_is_up)
{
  if (td.blocks)
    return;
  connect_with(s, &patient, 1);
  td.wake = TD_BY_THREAD;
  td.waits = TIMEOUT_MS + 10;
  td.cancel_ms = 100;
  s->call = &brief;
  for (int tries = 0; tries < 100 && td_calls(TD_PREPARE) == 0; tries++)
    CHECK_INT(run(s, "put 5"), MB_ERROR);
  CHECK_INT(s->error->class, MB_TIMEOUT);
  CHECK(!flags(s, MB_CONNECTION_DEAD | MB_SENT));
  CHECK_INT(td_calls(TD_PREPARE), 1);
  CHECK_INT(td_calls(TD_EXECUTE), 0);
  /* One that was too late to begin may be asked to stop as well. */
  CHECK(td_calls(TD_CANCEL_QUERY) == 1 || td.deaf);
  td.waits = 0;
  s->call = NULL;
  CHECK_INT(run(s, "put 6"), MB_DONE);
}

EACH_WAY(does_not_wait_for_ever_for_a_request_to_stop)
{
  if (td.blocks)
    return;
  const mb_option grace = {"cancel_grace", "0.1"};
  connect_with(s, &grace, 1);
  CHECK_INT(put(s, 4), MB_DONE);
  td.cancel_hangs = true;
  /* The call ends by itself, in the time of grace. */
  td.wake = TD_BY_THREAD;
  td.waits = TIMEOUT_MS + 10;
  mb_status status;
  do { /* until somebody has noticed in time */
    const int64_t start_ns = mb_now_ns();
    status = put_briefly(s, 5);
    CHECK(is_in_time(start_ns));
  } while (status == MB_DONE && td.deaf && td_calls(TD_CANCEL_QUERY) == 0);
  td.waits = 0;
  CHECK(status == MB_DONE || s->error->class == MB_TIMEOUT);
  CHECK(td_is_stored(5) || status != MB_DONE);
  /* But nothing more is sent. */
  CHECK_INT(run(s, "put 6"), MB_ERROR);
  CHECK_INT(s->error->class, MB_CONNECTION_LOST);
  release(s);
  td_unhang();
  CHECK_INT(acquire(s), MB_OK);
  CHECK_INT(run(s, "put 7"), MB_DONE);
  while (td_open_objects() > 2)
    mb_sleep_ns(NS_PER_MS);
}

/* --- What a driver says of its waits ------------------------------------ */

/* Nothing runs, so nobody is asked: the call is told, and ends at once. */
EACH_WAY(tells_a_call_that_only_waits)
{
  if (td.blocks || td.deaf)
    return;
  connect_with(s, &patient, 1);
  td.idle = true;
  td_stall(TD_EXECUTE, 1, TD_UNTIL_ASKED);
  const int64_t start_ns = mb_now_ns();
  CHECK_INT(put_briefly(s, 5), MB_ERROR);
  CHECK_INT(s->error->class, MB_TIMEOUT);
  CHECK(!flags(s, MB_CONNECTION_DEAD));
  CHECK(mb_now_ns() - start_ns >= TIMEOUT_MS * NS_PER_MS);
  CHECK(is_in_time(start_ns));
  CHECK_INT(td_calls(TD_CANCEL_QUERY), 0);
  CHECK_INT(td_calls(TD_CANCEL_SOCKET), 0);
  CHECK_INT(run(s, "put 1"), MB_DONE);
  CHECK_INT(td_calls(TD_CONNECT), 1);
}

/* It was told, and says once more that nothing runs. */
EACH_WAY(asks_when_telling_does_not_help)
{
  if (td.blocks || td.deaf)
    return;
  connect_with(s, &impatient, 1);
  td.idle = true;
  td_stall(TD_EXECUTE, 1, TD_UNTIL_SHUT);
  const int64_t start_ns = mb_now_ns();
  CHECK_INT(put_briefly(s, 5), MB_ERROR);
  CHECK_INT(s->error->class, MB_TIMEOUT);
  CHECK(flags(s, MB_CONNECTION_DEAD));
  CHECK(is_in_time(start_ns));
  CHECK(is_called(TD_CANCEL_QUERY, 1));
  CHECK_INT(td_calls(TD_CANCEL_SOCKET), 1);
  check_aftermath(s);
}

/* Left early, the rows are stopped at the database; what follows is sent when
 * the request to do that has returned. */
EACH_WAY(asks_beside_a_call_that_wants_it)
{
  if (td.blocks || td.deaf)
    return;
  const mb_value *row;
  connect_with(s, &patient, 1);
  td.asks = true;
  td.cancel_ms = 20;
  for (int waits = 0; waits < 3; waits += 2) {
    const long before = td_calls(TD_CANCEL_QUERY);
    CHECK_INT(run(s, "rows 5"), MB_ROW);
    CHECK_INT(fetch(s, s->stmt, &row), MB_ROW);
    td.waits = waits;
    const int64_t start_ns = mb_now_ns();
    CHECK_INT(finish(s, s->stmt), MB_OK);
    CHECK(mb_now_ns() - start_ns >= td.cancel_ms * NS_PER_MS);
    CHECK_INT(td_calls(TD_CANCEL_QUERY), before + 1);
    CHECK_INT(run(s, "put 1"), MB_DONE);
  }
  CHECK_INT(td_calls(TD_CONNECT), 1);
  CHECK_INT(td_calls(TD_CANCEL_SOCKET), 0);
}

/* The call has ended, but nobody knows what the request will meet. */
EACH_WAY(drops_what_a_request_beside_it_may_meet)
{
  const mb_option grace = {"cancel_grace", "0.1"};
  if (td.blocks || td.deaf)
    return;
  connect_with(s, &grace, 1);
  CHECK_INT(run(s, "rows 5"), MB_ROW);
  td.asks = true;
  td.cancel_hangs = true;
  td.waits = 2;
  const int64_t start_ns = mb_now_ns();
  CHECK_INT(finish(s, s->stmt), MB_OK);
  CHECK(is_in_time(start_ns));
  CHECK(is_called(TD_CANCEL_QUERY, 1));
  CHECK_INT(run(s, "put 6"), MB_ERROR);
  CHECK_INT(s->error->class, MB_CONNECTION_LOST);
  release(s);
  td_unhang();
  CHECK_INT(acquire(s), MB_OK);
  CHECK_INT(run(s, "put 7"), MB_DONE);
}

/* A time-out ends it as any other call. */
EACH_WAY(bounds_a_call_that_asks)
{
  if (td.blocks || td.deaf)
    return;
  connect_with(s, &impatient, 1);
  start_rows(s, &brief, "rows 2");
  const long before = td_calls(TD_CANCEL_SOCKET);
  td.asks = true;
  td.cancel_hangs = true;
  td_stall(TD_FINISH, 1, TD_UNTIL_SHUT);
  const int64_t start_ns = mb_now_ns();
  CHECK_INT(finish(s, s->stmt), MB_ERROR);
  CHECK_INT(s->error->class, MB_TIMEOUT);
  CHECK(flags(s, MB_CONNECTION_DEAD));
  CHECK(is_in_time(start_ns));
  CHECK_INT(td_calls(TD_CANCEL_SOCKET), before + 1);
  td_unhang();
  check_aftermath(s);
}

/* --- Every call --------------------------------------------------------- */

/* Everything before the call that uses a slot. */
static void come_to(session *s, td_slot slot, mb_tx *outer, mb_tx *inner)
{
  switch (slot) {
  case TD_SAVEPOINT:
  case TD_COMMIT:
  case TD_ROLLBACK:
    CHECK_INT(begin(s, NULL, NULL, outer), MB_OK);
    break;
  case TD_RELEASE:
  case TD_ROLLBACK_TO:
    CHECK_INT(begin(s, NULL, NULL, outer), MB_OK);
    CHECK_INT(begin(s, outer, NULL, inner), MB_OK);
    break;
  case TD_FETCH:
  case TD_FINISH:
    start_rows(s, &brief, "rows 2");
    break;
  case TD_NEXT_RESULT:
    start_results(s, &brief);
    break;
  default:
    break;
  }
}

static mb_status call_it(session *s, td_slot slot, mb_tx *outer, mb_tx *inner)
{
  const mb_value *row;
  mb_stmt *stmt;
  switch (slot) {
  case TD_PREPARE:
  case TD_DESCRIBE:
    CHECK_INT(
        mb_conn_statement(s->conn, "rows 7", 6, 0, &stmt, fresh(s)), MB_OK);
    return drive(s, mb_stmt_prepare(stmt, NULL, NULL, s->error));
  case TD_EXECUTE:
    return put_briefly(s, 5);
  case TD_FETCH:
    return fetch(s, s->stmt, &row);
  case TD_NEXT_RESULT:
    return drive(s, mb_stmt_next_result(s->stmt, fresh(s)));
  case TD_FINISH:
    return finish(s, s->stmt);
  case TD_COMMAND:
    return drive(s,
        mb_conn_command(s->conn, NULL, "list", NULL, 0, NULL, &stmt, fresh(s)));
  case TD_PING:
    return drive(s, mb_conn_ping(s->conn, NULL, fresh(s)));
  case TD_BEGIN:
    return begin(s, NULL, NULL, outer);
  case TD_SAVEPOINT:
    return begin(s, outer, NULL, inner);
  case TD_RELEASE:
    return commit(s, inner);
  case TD_ROLLBACK_TO:
    return rollback(s, inner);
  case TD_COMMIT:
    return commit(s, outer);
  default:
    return rollback(s, outer);
  }
}

EACH_WAY(bounds_every_call)
{
  static const td_slot slots[] = {TD_PREPARE, TD_DESCRIBE, TD_EXECUTE, TD_FETCH,
      TD_NEXT_RESULT, TD_FINISH, TD_COMMAND, TD_PING, TD_BEGIN, TD_SAVEPOINT,
      TD_RELEASE, TD_ROLLBACK_TO, TD_COMMIT, TD_ROLLBACK};
  connect_with(s, &impatient, 1);
  for (size_t i = 0; i < sizeof slots / sizeof *slots; i++)
    for (td_until until = TD_UNTIL_ASKED; until <= TD_UNTIL_SHUT; until++) {
      mb_tx outer, inner;
      if (until == TD_UNTIL_SHUT && td.blocks)
        continue;
      come_to(s, slots[i], &outer, &inner);
      td_stall(slots[i], 1, until);
      settings(s)->timeout_ns = brief.timeout_ns;
      const int64_t start_ns = mb_now_ns();
      CHECK_INT(call_it(s, slots[i], &outer, &inner), MB_ERROR);
      CHECK_INT(s->error->class, MB_TIMEOUT);
      CHECK(is_in_time(start_ns));
      settings(s)->timeout_ns = 0;
      td_forgive(); /* it may have been too late for the call itself */
      release(s);
      CHECK_INT(acquire(s), MB_OK);
      CHECK_INT(mb_conn_transaction_state(s->conn), MB_TRANSACTION_NONE);
      CHECK_INT(run(s, "put 1"), MB_DONE);
      CHECK(!td_is_stored(5));
    }
}

EACH_WAY(ends_a_transaction_whose_time_is_up)
{
  const mb_tx_options bounded = {.timeout_ns = 100 * NS_PER_MS};
  connect_with(s, &patient, 1);
  for (int finishes = 0; finishes < 2; finishes++) {
    mb_tx tx;
    CHECK_INT(begin(s, NULL, &bounded, &tx), MB_OK);
    s->tx = &tx;
    const mb_status status = run(s, "rows 3");
    mb_sleep_ns(bounded.timeout_ns);
    if (finishes && status == MB_ROW)
      CHECK_INT(finish(s, s->stmt), MB_OK);
    CHECK_INT(rollback(s, &tx), MB_OK);
    s->tx = NULL;
  }
  CHECK_INT(run(s, "put 1"), MB_DONE);
}

EACH_WAY(counts_the_time_of_each_fetch_alone)
{
  const mb_call call = {.timeout_ns = 150 * NS_PER_MS};
  const mb_value *row;
  connect_with(s, &patient, 1);
  start_rows(s, &call, "rows 4");
  mb_sleep_ns(call.timeout_ns);
  CHECK_INT(fetch(s, s->stmt, &row), MB_ROW);
  mb_sleep_ns(call.timeout_ns);
  CHECK_INT(fetch(s, s->stmt, &row), MB_ROW);
  td_stall(TD_FETCH, 1, TD_UNTIL_ASKED);
  CHECK_INT(fetch(s, s->stmt, &row), MB_ERROR);
  CHECK_INT(s->error->class, MB_TIMEOUT);
  CHECK(!mb_stmt_is_running(s->stmt));
  check_aftermath(s);
}

EACH_WAY(does_not_name_what_it_did_not_ask_for)
{
  connect(s);
  td_fail(TD_EXECUTE, 1, MB_CANCELED, MB_SENT);
  CHECK_INT(run(s, "put 1"), MB_ERROR);
  CHECK_INT(s->error->class, MB_CANCELED);
  td_fail(TD_EXECUTE, 1, MB_TIMEOUT, MB_SENT);
  CHECK_INT(run(s, "put 1"), MB_ERROR);
  CHECK_INT(s->error->class, MB_TIMEOUT);
}

/* --- Connecting --------------------------------------------------------- */

EACH_WAY(connects_over_several_sockets)
{
  td.changes_fd = true;
  td.waits *= 3;
  for (int writes = 0; writes < 2; writes++) {
    td.writes = writes;
    connect(s);
    CHECK_INT(run(s, "put 1"), MB_DONE);
    release(s);
    mb_pool_close(s->pool, 0);
    s->pool = NULL;
  }
}

EACH_WAY(bounds_connecting)
{
  CHECK_INT(open_pool(s, NULL, &impatient, 1), MB_OK);
  settings(s)->connect_timeout_ns = brief.timeout_ns;
  for (td_until until = TD_UNTIL_ASKED; until <= TD_UNTIL_END; until++) {
    if (until > TD_UNTIL_ASKED && td.blocks)
      continue;
    const long before = td_calls(TD_CONNECT);
    td_stall(TD_CONNECT, 1, until);
    const int64_t start_ns = mb_now_ns();
    CHECK_INT(acquire(s), MB_ERROR);
    CHECK_INT(s->error->class, MB_CONNECTIVITY);
    CHECK(flags(s, MB_TIMED_OUT));
    CHECK(is_in_time(start_ns));
    CHECK(is_called(TD_CONNECT, before + 1));
    CHECK(are_closed());
  }
  CHECK_INT(td_calls(TD_CANCEL_QUERY), 0);
  settings(s)->connect_timeout_ns = 0;
  CHECK_INT(acquire(s), MB_OK);
  CHECK_INT(run(s, "put 1"), MB_DONE);
}

EACH_WAY(bounds_connecting_as_a_whole)
{
  if (td.blocks)
    return;
  /* Each step is quick; all of them are not. */
  CHECK_INT(open_pool(s, NULL, &impatient, 1), MB_OK);
  settings(s)->connect_timeout_ns = brief.timeout_ns;
  td.wake = TD_BY_THREAD;
  td.changes_fd = true;
  td.waits = 1000;
  const int64_t start_ns = mb_now_ns();
  CHECK_INT(acquire(s), MB_ERROR);
  CHECK_INT(s->error->class, MB_CONNECTIVITY);
  CHECK(flags(s, MB_TIMED_OUT));
  CHECK(is_in_time(start_ns));
}

EACH_WAY(bounds_the_init_statements)
{
  const mb_option options[] = {patient, {"init", "session"}, {"init", "put 1"}};
  CHECK_INT(open_pool(s, NULL, options, 3), MB_OK);
  settings(s)->connect_timeout_ns = 100 * NS_PER_MS;
  int64_t start_ns;
  long before;
  do { /* until a slow machine has come so far */
    td_forgive();
    td_stall(TD_EXEC_TEXT, 2, TD_UNTIL_ASKED);
    before = td_calls(TD_EXEC_TEXT);
    start_ns = mb_now_ns();
    CHECK_INT(acquire(s), MB_ERROR);
  } while (td_calls(TD_EXEC_TEXT) != before + 2);
  CHECK_INT(s->error->class, MB_CONNECTIVITY);
  CHECK(flags(s, MB_TIMED_OUT));
  CHECK(says(s, "init statement 2"));
  CHECK(is_in_time(start_ns));
  CHECK_INT(td_open_sessions(), 0);
  settings(s)->connect_timeout_ns = 0;
  CHECK_INT(acquire(s), MB_OK);
}

/* --- A driver that breaks its own promise ------------------------------- */

ONE_WAY(does_not_believe_a_driver_without_resume)
{
  static mb_driver driver;
  driver = *td_driver();
  driver.resume = NULL;
  s->driver = &driver;
  CHECK_INT(open_pool(s, NULL, NULL, 0), MB_OK);
  CHECK_INT(acquire(s), MB_OK);
  td.waits = 1;
  CHECK_INT(run(s, "put 1"), MB_ERROR);
  CHECK_INT(s->error->class, MB_DRIVER_FAULT);
  CHECK(flags(s, MB_CONNECTION_DEAD));
  td.waits = 0;
  CHECK_INT(run(s, "put 1"), MB_ERROR);
  CHECK_INT(s->error->class, MB_CONNECTION_LOST);
}

/* --- Non-blocking use --------------------------------------------------- */

static void open_non_blocking(session *s, int waits)
{
  const mb_option options[] = {{"timeout", "60"}};
  s->blocking = false;
  connect_with(s, options, 1);
  td.waits = waits;
  CHECK_INT(
      mb_conn_statement(s->conn, "put 1", 5, 0, &s->stmt, fresh(s)), MB_OK);
}

ONE_WAY(says_what_it_waits_for)
{
  mb_wait wait;
  open_non_blocking(s, 1);
  td.wake = TD_BY_THREAD;
  const int64_t start_ns = mb_now_ns();
  CHECK_INT(mb_stmt_run(&s->stmt, NULL, NULL, 0, NULL, s->error), MB_WAIT);
  mb_conn_wait(s->conn, &wait);
  CHECK(wait.fd >= 0);
  CHECK_INT(wait.events, MB_READABLE_FD);
  /* The nearest of all deadlines. */
  CHECK(wait.deadline_ns >= start_ns + 60000 * NS_PER_MS);
  CHECK(wait.deadline_ns <= mb_now_ns() + 60000 * NS_PER_MS);
  /* Too early: it goes on waiting. */
  CHECK_INT(mb_conn_resume(s->conn, 0, s->error), MB_WAIT);
  CHECK_INT(drive(s, MB_WAIT), MB_DONE);
}

ONE_WAY(does_nothing_else_while_it_waits)
{
  mb_tx tx;
  mb_stmt *other;
  mb_error error;
  const mb_value *row;
  char name[16];
  open_non_blocking(s, 1);
  CHECK_INT(mb_stmt_run(&s->stmt, NULL, NULL, 0, NULL, s->error), MB_WAIT);
  mb_stmt *same = s->stmt;
  CHECK_INT(mb_stmt_run(&same, NULL, NULL, 0, NULL, &error), MB_ERROR);
  CHECK_INT(error.class, MB_USAGE);
  CHECK_INT(
      mb_conn_statement(s->conn, "put 2", 5, 0, &other, &error), MB_ERROR);
  CHECK_INT(error.class, MB_USAGE);
  CHECK_INT(mb_tx_begin(s->conn, NULL, NULL, &tx, &error), MB_ERROR);
  CHECK_INT(error.class, MB_USAGE);
  CHECK_INT(mb_conn_ping(s->conn, NULL, &error), MB_ERROR);
  CHECK_INT(mb_stmt_fetch(s->stmt, &row, &error), MB_DONE);
  CHECK_INT(mb_conn_quote(s->conn, "a", 1, name, sizeof name, &error), MB_OK);
  CHECK_INT(drive(s, MB_WAIT), MB_DONE);
  CHECK_INT(mb_conn_resume(s->conn, MB_READABLE_FD, fresh(s)), MB_ERROR);
  CHECK_INT(s->error->class, MB_USAGE);
  CHECK_INT(td_stored(), 1);
}

ONE_WAY(ends_in_one_go_when_it_is_made_blocking)
{
  open_non_blocking(s, 3);
  CHECK_INT(mb_stmt_run(&s->stmt, NULL, NULL, 0, NULL, s->error), MB_WAIT);
  mb_conn_set_blocking(s->conn, true);
  CHECK_INT(mb_conn_resume(s->conn, 0, s->error), MB_DONE);
  CHECK_INT(run(s, "put 2"), MB_DONE);
  CHECK_INT(td_stored(), 2);
}

/* Given back in the middle of a call, while somebody may still cancel it. */
ONE_WAY(is_given_back_while_it_waits)
{
  mb_cancellation *stop;
  CHECK_INT(mb_cancellation_open(NULL, &stop, fresh(s)), MB_OK);
  const mb_call call = {.cancellation = stop};
  for (int dropped = 0; dropped < 2; dropped++) {
    td.waits = 0;
    if (s->pool == NULL)
      open_non_blocking(s, 1);
    else
      CHECK_INT(acquire(s), MB_OK);
    td.waits = 1;
    CHECK_INT(
        mb_conn_statement(s->conn, "put 1", 5, 0, &s->stmt, fresh(s)), MB_OK);
    CHECK_INT(mb_stmt_run(&s->stmt, NULL, NULL, 0, &call, s->error), MB_WAIT);
    if (dropped)
      mb_conn_drop(s->conn);
    else
      mb_conn_release(s->conn);
    td.waits = 0;
    CHECK_INT(acquire(s), MB_OK);
    CHECK_INT(run(s, "put 2"), MB_DONE);
    release(s);
  }
  mb_cancellation_cancel(stop, NULL);
  mb_cancellation_close(stop);
  CHECK(!td_is_stored(1));
}

ONE_WAY(is_lent_blocking_again)
{
  s->blocking = false;
  connect(s);
  CHECK_INT(run(s, "put 1"), MB_DONE);
  release(s);
  CHECK_INT(mb_pool_acquire(s->pool, NULL, 0, &s->conn, fresh(s)), MB_OK);
  td.waits = 2;
  CHECK_INT(mb_conn_ping(s->conn, NULL, s->error), MB_OK);
}

static const struct check_test tests[] = {
    CHECK_TEST(asks_the_database_to_stop),
    CHECK_TEST(shuts_the_socket_when_asking_does_not_help),
    CHECK_TEST(takes_an_answer_that_comes_after_all),
    CHECK_TEST(sends_nothing_more_when_its_time_is_up),
    CHECK_TEST(does_not_wait_for_ever_for_a_request_to_stop),
    CHECK_TEST(tells_a_call_that_only_waits),
    CHECK_TEST(asks_when_telling_does_not_help),
    CHECK_TEST(asks_beside_a_call_that_wants_it),
    CHECK_TEST(drops_what_a_request_beside_it_may_meet),
    CHECK_TEST(bounds_a_call_that_asks),
    CHECK_TEST(bounds_every_call),
    CHECK_TEST(ends_a_transaction_whose_time_is_up),
    CHECK_TEST(counts_the_time_of_each_fetch_alone),
    CHECK_TEST(does_not_name_what_it_did_not_ask_for),
    CHECK_TEST(connects_over_several_sockets),
    CHECK_TEST(bounds_connecting),
    CHECK_TEST(bounds_connecting_as_a_whole),
    CHECK_TEST(bounds_the_init_statements),
    CHECK_TEST(does_not_believe_a_driver_without_resume),
    CHECK_TEST(says_what_it_waits_for),
    CHECK_TEST(does_nothing_else_while_it_waits),
    CHECK_TEST(ends_in_one_go_when_it_is_made_blocking),
    CHECK_TEST(is_given_back_while_it_waits),
    CHECK_TEST(is_lent_blocking_again),
};

int main(void)
{
  return CHECK_RUN(tests);
}
