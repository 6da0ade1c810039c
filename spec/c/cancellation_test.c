/*
 * cancellation_test.c: cancellations themselves, and what they do to an
 * operation at every moment of it.
 */
#include "session.h"

#include "../../src/core/cancellation.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>

static mb_cancellation *make(const char *name)
{
  mb_cancellation *made;
  mb_error error;
  if (!CHECK_INT(mb_cancellation_open(name, &made, &error), MB_OK))
    abort();
  return made;
}

static bool is_readable(int fd)
{
  struct pollfd one = {.fd = fd, .events = POLLIN};
  return poll(&one, 1, 0) == 1;
}

/* --- Themselves --------------------------------------------------------- */

static void finds_a_name_again(void)
{
  mb_cancellation *first = make("jobs");
  mb_cancellation *other = make("joby");
  mb_cancellation *again = make("jobs");
  mb_cancellation *empty = make("");
  mb_cancellation *none = make(NULL);
  mb_cancellation *nor = make(NULL);
  CHECK(first == again);
  CHECK(first != other && first != empty && other != empty);
  CHECK(none != nor);
  mb_cancellation_cancel(first, NULL);
  CHECK(mb_cancellation_is_cancelled(again));
  CHECK(!mb_cancellation_is_cancelled(other));
  mb_cancellation_close(first);
  mb_cancellation *third = make("jobs");
  CHECK(third == again);
  mb_cancellation_close(third);
  mb_cancellation_close(again);
  /* With the last one the name is free. */
  mb_cancellation *fresh_one = make("jobs");
  CHECK(!mb_cancellation_is_cancelled(fresh_one));
  mb_cancellation_close(other);
  mb_cancellation_close(fresh_one);
  mb_cancellation_close(empty);
  mb_cancellation_close(none);
  mb_cancellation_close(nor);
  mb_cancellation_close(NULL);
}

static void keeps_the_first_reason(void)
{
  char reason[512];
  char room[4] = "abc";
  mb_cancellation *one = make(NULL);
  mb_cancellation_reason(one, reason, sizeof reason);
  CHECK_STRING(reason, "");
  mb_cancellation_cancel(one, "z\xC3\xA4h");
  mb_cancellation_cancel(one, "too late");
  mb_cancellation_reason(one, reason, sizeof reason);
  CHECK_STRING(reason, "z\xC3\xA4h");
  /* Cut at a character. */
  mb_cancellation_reason(one, room, 3);
  CHECK_STRING(room, "z");
  mb_cancellation_reason(one, room, 1);
  CHECK_STRING(room, "");
  room[0] = 'x';
  mb_cancellation_reason(one, room, 0);
  CHECK_INT(room[0], 'x');
  mb_cancellation_close(one);

  char *text = check_repeat("\xC3\xA4", 400);
  text[800] = '\0';
  one = make(NULL);
  mb_cancellation_cancel(one, text);
  mb_cancellation_reason(one, reason, sizeof reason);
  CHECK_INT(strlen(reason), MB__REASON_ROOM - 2);
  CHECK(memcmp(reason, text, strlen(reason)) == 0);
  free(text);
  mb_cancellation_close(one);
}

static void reaches_those_who_listen(void)
{
  enum { N = 4 };
  mb__listener listeners[N] = {{.cancellation = NULL}};
  mb_op ops[N] = {{.bounded = false}};
  mb_cancellation *one = make(NULL);
  for (int gone = 0; gone < N; gone++) {
    for (int i = 0; i < N; i++)
      CHECK(mb__cancellation_listen(one, &listeners[i], &ops[i]));
    mb__cancellation_unlisten(&listeners[gone]);
    mb__cancellation_unlisten(&listeners[gone]);
    for (int i = N; i-- > 0;)
      mb__cancellation_unlisten(&listeners[i]);
  }
  for (int i = 0; i < N; i++)
    CHECK(mb__cancellation_listen(one, &listeners[i], &ops[i]));
  mb__cancellation_unlisten(&listeners[2]);
  mb_cancellation_cancel(one, NULL);
  for (int i = 0; i < N; i++)
    CHECK_INT(ops[i].stop, i == 2 ? MB_GO_ON : MB_STOP_CANCEL);
  CHECK(!mb__cancellation_listen(one, &listeners[2], &ops[2]));
  CHECK(listeners[2].cancellation == NULL);
  for (int i = 0; i < N; i++)
    mb__cancellation_unlisten(&listeners[i]);
  mb_cancellation_close(one);
}

static void wakes_by_a_descriptor(void)
{
  mb_cancellation *before = make(NULL);
  const int fd = mb__cancellation_fd(before);
  CHECK(fd >= 0);
  CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
  CHECK_INT(mb__cancellation_fd(before), fd);
  CHECK(!is_readable(fd));
  mb_cancellation_cancel(before, NULL);
  CHECK(is_readable(fd));
  mb_cancellation_cancel(before, NULL);
  CHECK(is_readable(fd));
  CHECK_INT(mb__cancellation_fd(before), fd);
  mb_cancellation_close(before);
  CHECK_INT(fcntl(fd, F_GETFD), -1);

  mb_cancellation *after = make(NULL);
  mb_cancellation_cancel(after, NULL);
  CHECK(is_readable(mb__cancellation_fd(after)));
  mb_cancellation_close(after);
}

/* --- From another thread ------------------------------------------------ */

typedef struct canceller {
  pthread_t thread;
  mb_cancellation *stop;
  td_slot slot; /* when this one has been called */
  long calls;   /* as often */
  int64_t pause_ns;
} canceller;

static void *cancel_then(void *argument)
{
  canceller *c = argument;
  while (td_calls(c->slot) < c->calls)
    mb_sleep_ns(NS_PER_MS / 20);
  if (c->pause_ns > 0)
    mb_sleep_ns(c->pause_ns);
  mb_cancellation_cancel(c->stop, "enough");
  return NULL;
}

/* Cancels a little after the nth call of a slot from now. */
static void start_canceller(canceller *c, mb_cancellation *stop, td_slot slot,
    long nth, int64_t pause_ns)
{
  *c = (canceller){.stop = stop,
      .slot = slot,
      .calls = td_calls(slot) + nth,
      .pause_ns = pause_ns};
  if (pthread_create(&c->thread, NULL, cancel_then, c) != 0)
    abort();
}

static mb_status put(session *s, int64_t number, const mb_call *call)
{
  const mb_value value = {.tag = MB_INT64, .as.integer = number};
  s->call = call;
  const mb_status status = run_with(s, "put ?", &value, 1);
  s->call = NULL;
  return status;
}

static const mb_option patient = {"cancel_grace", "60"};

/* Whenever it comes: the statement has taken place, or says that it was
 * cancelled; and what is run next is not met. */
EACH_WAY(meets_only_what_it_is_for)
{
  enum { ROUNDS = 60 };
  int64_t cancelled = 0;
  connect_with(s, &patient, 1);
  CHECK_INT(put(s, 1000, NULL), MB_DONE);
  for (int i = 0; i < ROUNDS; i++) {
    canceller c;
    mb_cancellation *stop = make(NULL);
    const mb_call call = {.cancellation = stop};
    td.cancel_ms = i % 3 == 0;
    start_canceller(&c, stop, TD_EXECUTE, 1, i % 12 * NS_PER_MS / 10);
    const mb_status status = put(s, i, &call);
    if (status == MB_ERROR) {
      CHECK_INT(s->error->class, MB_CANCELED);
      CHECK(says(s, "enough"));
      cancelled++;
    }
    CHECK(td_is_stored(i) == (status == MB_DONE));
    CHECK_INT(put(s, 2000 + i, NULL), MB_DONE);
    CHECK_INT(count_rows(s, "rows 3"), 3);
    (void)pthread_join(c.thread, NULL);
    mb_cancellation_close(stop);
  }
  CHECK(cancelled <= ROUNDS);
  CHECK_INT(td_calls(TD_CONNECT), 1);
  CHECK_INT(td_calls(TD_CANCEL_SOCKET), 0);
}

EACH_WAY(stops_what_waits)
{
  enum { ROUNDS = 10 };
  connect_with(s, &patient, 1);
  CHECK_INT(put(s, 1000, NULL), MB_DONE);
  for (int i = 0; i < ROUNDS; i++) {
    canceller c;
    mb_cancellation *stop = make(NULL);
    const mb_call call = {.cancellation = stop};
    td_stall(TD_EXECUTE, 1, TD_UNTIL_ASKED);
    start_canceller(&c, stop, TD_EXECUTE, 1, i % 2 * NS_PER_MS);
    const int64_t start_ns = mb_now_ns();
    CHECK_INT(put(s, i, &call), MB_ERROR);
    CHECK(mb_now_ns() - start_ns < 20000 * NS_PER_MS);
    CHECK_INT(s->error->class, MB_CANCELED);
    CHECK(says(s, "cancelled: enough"));
    CHECK(!flags(s, MB_CONNECTION_DEAD));
    CHECK(!td_is_stored(i));
    (void)pthread_join(c.thread, NULL);
    CHECK_INT(put(s, 2000 + i, NULL), MB_DONE);
    mb_cancellation_close(stop);
  }
  CHECK_INT(td_calls(TD_CANCEL_QUERY), td.blocks ? 0 : ROUNDS);
  CHECK_INT(td_calls(TD_CONNECT), 1);
}

/* Nothing runs at the database: the call itself is told. */
EACH_WAY(stops_what_only_waits)
{
  if (td.blocks || td.deaf)
    return;
  canceller c;
  mb_cancellation *stop = make(NULL);
  const mb_call call = {.cancellation = stop};
  connect_with(s, &patient, 1);
  td.idle = true;
  td_stall(TD_EXECUTE, 1, TD_UNTIL_ASKED);
  start_canceller(&c, stop, TD_EXECUTE, 1, NS_PER_MS);
  CHECK_INT(put(s, 1, &call), MB_ERROR);
  CHECK_INT(s->error->class, MB_CANCELED);
  CHECK(says(s, "cancelled: enough"));
  CHECK(!flags(s, MB_CONNECTION_DEAD));
  (void)pthread_join(c.thread, NULL);
  CHECK_INT(td_calls(TD_CANCEL_QUERY), 0);
  CHECK_INT(put(s, 2, NULL), MB_DONE);
  CHECK_INT(td_calls(TD_CONNECT), 1);
  mb_cancellation_close(stop);
}

EACH_WAY(starts_nothing_that_is_cancelled)
{
  mb_stmt *stmt;
  mb_tx tx;
  const mb_value value = {.tag = MB_INT64, .as.integer = 1};
  mb_cancellation *stop = make(NULL);
  const mb_call call = {.cancellation = stop};
  connect(s);
  CHECK_INT(begin(s, NULL, NULL, &tx), MB_OK);
  s->tx = &tx;
  mb_cancellation_cancel(stop, NULL);
  const long before = td_trips();
#define CHECK_CANCELED(status)               \
  do {                                       \
    CHECK_INT(status, MB_ERROR);             \
    CHECK_INT(s->error->class, MB_CANCELED); \
  } while (0)
  CHECK_CANCELED(put(s, 1, &call));
  CHECK_CANCELED(drive(s, mb_conn_ping(s->conn, &call, fresh(s))));
  CHECK_CANCELED(drive(s,
      mb_conn_command(s->conn, &tx, "list", NULL, 0, &call, &stmt, fresh(s))));
  CHECK_INT(mb_conn_statement(s->conn, "put ?", 5, 0, &stmt, fresh(s)), MB_OK);
  CHECK_CANCELED(drive(s, mb_stmt_prepare(stmt, &tx, &call, fresh(s))));
  CHECK_CANCELED(
      drive(s, mb_stmt_run_many(&stmt, &tx, &value, 1, 1, 1, &call, fresh(s))));
  CHECK_INT(td_trips(), before);
  /* The transaction has not noticed. */
  CHECK_INT(put(s, 2, NULL), MB_DONE);
  CHECK_INT(commit(s, &tx), MB_OK);
  CHECK_INT(td_stored(), 1);
  mb_cancellation_close(stop);
}

EACH_WAY(ends_rows)
{
  const mb_value *row;
  connect(s);
  for (int dropped = 0; dropped < 2; dropped++) {
    mb_cancellation *stop = make(NULL);
    const mb_call call = {.cancellation = stop};
    s->call = &call;
    CHECK_INT(run(s, "rows 5"), MB_ROW);
    s->call = NULL;
    mb_stmt *rows = s->stmt;
    CHECK_INT(fetch(s, rows, &row), MB_ROW);
    mb_cancellation_cancel(stop, NULL);
    CHECK_INT(dropped ? drive(s, mb_stmt_prefetch(rows, 9, 9999, fresh(s)))
                      : fetch(s, rows, &row),
        MB_ERROR);
    CHECK_INT(s->error->class, MB_CANCELED);
    CHECK_INT(put(s, 1, NULL), MB_DONE);
    CHECK(!mb_stmt_is_running(rows));
    mb_cancellation_close(stop);
  }
}

/* Rows of several requests, the second of which is met. */
EACH_WAY(stops_reading_ahead)
{
  canceller c;
  mb_cancellation *stop = make(NULL);
  const mb_call call = {.cancellation = stop};
  connect_with(s, &patient, 1);
  s->call = &call;
  CHECK_INT(run(s, "rows 5"), MB_ROW);
  s->call = NULL;
  mb_stmt *rows = s->stmt;
  td_fault_add((td_fault){
      .slot = TD_FETCH, .nth = 2, .stall = TD_UNTIL_ASKED, .ends_well = true});
  start_canceller(&c, stop, TD_FETCH, 2, NS_PER_MS);
  CHECK_INT(drive(s, mb_stmt_prefetch(rows, 9, 9999, fresh(s))), MB_ERROR);
  CHECK_INT(s->error->class, MB_CANCELED);
  (void)pthread_join(c.thread, NULL);
  /* The row that came all the same was the last one. */
  CHECK_INT(td_calls(TD_FETCH), 2);
  CHECK(td_calls(TD_CANCEL_QUERY) <= 1);
  CHECK_INT(put(s, 1, NULL), MB_DONE);
  CHECK(!mb_stmt_is_running(rows));
  mb_cancellation_close(stop);
}

/* Rows of others are read into memory on behalf of an operation; when that is
 * cancelled they go on. */
EACH_WAY(spares_the_rows_of_others)
{
  canceller c;
  mb_cancellation *stop = make(NULL);
  const mb_call call = {.cancellation = stop};
  td.one_run = true;
  connect_with(s, &patient, 1);
  CHECK_INT(put(s, 1, NULL), MB_DONE);
  CHECK_INT(run(s, "rows 5"), MB_ROW);
  mb_stmt *rows = s->stmt;
  td_fault_add((td_fault){
      .slot = TD_FETCH, .nth = 2, .stall = TD_UNTIL_ASKED, .ends_well = true});
  start_canceller(&c, stop, TD_FETCH, 2, NS_PER_MS);
  CHECK_INT(put(s, 2, &call), MB_ERROR);
  CHECK_INT(s->error->class, MB_CANCELED);
  (void)pthread_join(c.thread, NULL);
  CHECK_INT(td_calls(TD_FETCH), 2);
  CHECK_INT(count_rest(s, rows), 5);
  CHECK(!td_is_stored(2));
  mb_cancellation_close(stop);
}

EACH_WAY(stops_connecting)
{
  canceller c;
  mb_cancellation *stop = make(NULL);
  const mb_call call = {.cancellation = stop};
  CHECK_INT(open_pool(s, NULL, &patient, 1), MB_OK);
  td_stall(TD_CONNECT, 1, TD_UNTIL_ASKED);
  start_canceller(&c, stop, TD_CONNECT, 1, NS_PER_MS);
  CHECK_INT(mb_pool_acquire(s->pool, &call, 0, &s->conn, fresh(s)), MB_ERROR);
  CHECK_INT(s->error->class, MB_CANCELED);
  CHECK(says(s, "enough"));
  CHECK(are_closed());
  CHECK_INT(td_calls(TD_CANCEL_QUERY), 0);
  (void)pthread_join(c.thread, NULL);
  mb_cancellation_close(stop);
  CHECK_INT(acquire(s), MB_OK);
}

/* --- When asking does not help ------------------------------------------ */

EACH_WAY(drops_the_connection_of_what_does_not_stop)
{
  const mb_option impatient = {"cancel_grace", "0.01"};
  if (td.blocks)
    return;
  connect_with(s, &impatient, 1);
  CHECK_INT(put(s, 1, NULL), MB_DONE);
  canceller c;
  mb_cancellation *stop = make(NULL);
  const mb_call call = {.cancellation = stop};
  td_stall(TD_EXECUTE, 1, TD_UNTIL_SHUT);
  td_fail(TD_CANCEL_QUERY, 1, MB_CONNECTIVITY, 0);
  start_canceller(&c, stop, TD_EXECUTE, 1, 0);
  CHECK_INT(put(s, 2, &call), MB_ERROR);
  CHECK_INT(s->error->class, MB_CANCELED);
  CHECK(says(s, "cancelled: enough; the connection was dropped"));
  CHECK(flags(s, MB_CONNECTION_DEAD) && flags(s, MB_SENT));
  (void)pthread_join(c.thread, NULL);
  CHECK_INT(put(s, 3, NULL), MB_ERROR);
  CHECK_INT(s->error->class, MB_CONNECTION_LOST);
  release(s);
  CHECK_INT(acquire(s), MB_OK);
  CHECK_INT(put(s, 4, NULL), MB_DONE);
  mb_cancellation_close(stop);
}

/* Without a descriptor to be woken by, it is looked for. */
EACH_WAY(needs_no_descriptor)
{
  enum { MOST = 256 };
  struct rlimit before;
  int fds[MOST];
  int n = 0;
  connect_with(s, &patient, 1);
  CHECK_INT(put(s, 1, NULL), MB_DONE);
  CHECK_INT(getrlimit(RLIMIT_NOFILE, &before), 0);
  const struct rlimit few = {.rlim_cur = MOST, .rlim_max = before.rlim_max};
  CHECK_INT(setrlimit(RLIMIT_NOFILE, &few), 0);
  while (n < MOST && (fds[n] = dup(2)) >= 0)
    n++;
  canceller c;
  mb_cancellation *stop = make(NULL);
  const mb_call call = {.cancellation = stop};
  CHECK_INT(mb__cancellation_fd(stop), -1);
  td_stall(TD_EXECUTE, 1, TD_UNTIL_ASKED);
  start_canceller(&c, stop, TD_EXECUTE, 1, NS_PER_MS);
  CHECK_INT(put(s, 2, &call), MB_ERROR);
  CHECK_INT(s->error->class, MB_CANCELED);
  (void)pthread_join(c.thread, NULL);
  while (n > 0)
    (void)close(fds[--n]);
  CHECK_INT(setrlimit(RLIMIT_NOFILE, &before), 0);
  CHECK(is_readable(mb__cancellation_fd(stop)));
  CHECK_INT(put(s, 3, NULL), MB_DONE);
  mb_cancellation_close(stop);
}

static const struct check_test tests[] = {
    CHECK_TEST(finds_a_name_again),
    CHECK_TEST(keeps_the_first_reason),
    CHECK_TEST(reaches_those_who_listen),
    CHECK_TEST(wakes_by_a_descriptor),
    CHECK_TEST(meets_only_what_it_is_for),
    CHECK_TEST(stops_what_waits),
    CHECK_TEST(stops_what_only_waits),
    CHECK_TEST(starts_nothing_that_is_cancelled),
    CHECK_TEST(ends_rows),
    CHECK_TEST(stops_reading_ahead),
    CHECK_TEST(spares_the_rows_of_others),
    CHECK_TEST(stops_connecting),
    CHECK_TEST(drops_the_connection_of_what_does_not_stop),
    CHECK_TEST(needs_no_descriptor),
};

int main(void)
{
  return CHECK_RUN(tests);
}
