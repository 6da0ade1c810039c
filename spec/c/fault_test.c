/*
 * fault_test.c: the fault driver around the test driver, whose calls wait: a
 * fault may come before a call, in its middle and behind it, and what is inside
 * must never notice more than that calls are left out.
 */
#include "../../drivers/fault/driver.h"
#include "session.h"

#include <pthread.h>

/* --- Rules -------------------------------------------------------------- */

typedef struct rule {
  const char *slot, *act, *text, *flags;
  bool after;
  int64_t nth, times;
  double delay_s;
} rule;

static mb_value text_value(const char *text)
{
  return text != NULL
             ? (mb_value){.tag = MB_TEXT, .as.bytes = {text, strlen(text)}}
             : (mb_value){.tag = MB_NULL};
}

static mb_value number_value(int64_t number)
{
  return (mb_value){.tag = MB_INT64, .as.integer = number};
}

static mb_status control(
    session *s, const char *name, const mb_value *values, size_t n)
{
  mb_value result;
  return mb_pool_control(s->pool, name, values, n, &result, fresh(s));
}

static mb_status try_rule(session *s, const rule *wanted)
{
  const mb_value values[] = {text_value(wanted->slot), text_value(wanted->text),
      number_value(wanted->nth > 0 ? wanted->nth : 1),
      number_value(wanted->times),
      {.tag = MB_DOUBLE, .as.real = wanted->delay_s},
      text_value(wanted->act != NULL ? wanted->act : ""),
      {.tag = MB_BOOL, .as.integer = wanted->after},
      text_value("SerializationError"),
      text_value(wanted->flags != NULL ? wanted->flags : ""), {.tag = MB_NULL},
      {.tag = MB_NULL}};
  return control(s, "fault_at", values, sizeof values / sizeof *values);
}

static void add_rule(session *s, rule wanted)
{
  CHECK_INT(try_rule(s, &wanted), MB_OK);
}

static void forget_rules(session *s)
{
  CHECK_INT(control(s, "fault_clear", NULL, 0), MB_OK);
}

static int64_t calls(session *s, const char *slot)
{
  const mb_value value = text_value(slot);
  mb_value result;
  if (!CHECK_INT(
          mb_pool_control(s->pool, "fault_calls", &value, 1, &result, fresh(s)),
          MB_OK))
    return -1;
  return result.as.integer;
}

static void wrap(session *s)
{
  s->driver = mb_driver_fault(td_driver());
}

static void connect_wrapped(session *s)
{
  wrap(s);
  connect(s);
}

#define FOR_EVER 1e10

/* Long enough for what comes before a delay, on a busy machine. */
static const mb_call brief = {.timeout_ns = 200 * NS_PER_MS};

/* --- Nothing is wanted --------------------------------------------------- */

EACH_WAY(hands_everything_on)
{
  mb_tx tx;
  mb_tx inner;
  connect_wrapped(s);
  CHECK_INT(count_rows(s, "rows 3"), 3);
  CHECK_INT(begin(s, NULL, NULL, &tx), MB_OK);
  s->tx = &tx;
  CHECK_INT(run(s, "put 7"), MB_DONE);
  CHECK_INT(begin(s, &tx, NULL, &inner), MB_OK);
  CHECK_INT(rollback(s, &inner), MB_OK);
  CHECK_INT(commit(s, &tx), MB_OK);
  s->tx = NULL;
  CHECK(td_is_stored(7));
  CHECK_INT(drive(s, mb_conn_ping(s->conn, NULL, fresh(s))), MB_OK);
  CHECK_INT(td_calls(TD_PING), 1);
  CHECK_INT(calls(s, "execute"), td_calls(TD_EXECUTE));
  CHECK_INT(calls(s, "commit"), 1);
}

ONE_WAY(has_the_slots_of_the_driver_inside)
{
  static mb_driver bare;
  const mb_driver *const full = mb_driver_fault(td_full_driver());
  CHECK(full->reset != NULL && full->execute_many != NULL);
  wrap(s);
  CHECK(s->driver->reset == NULL && s->driver->execute_many == NULL);
  CHECK(mb_driver_fault(td_driver()) == s->driver);
  bare = *td_driver();
  bare.ping = NULL;
  bare.consume = NULL;
  bare.resume = NULL;
  bare.begin = NULL;
  bare.size = offsetof(mb_driver, command); /* an older one */
  const mb_driver *const around = mb_driver_fault(&bare);
  CHECK(around->begin == NULL && around->command == NULL);
  CHECK(around->ping != NULL && around->consume != NULL &&
        around->resume != NULL && around->control != NULL);
  s->driver = around;
  connect(s);
  CHECK_INT(drive(s, mb_conn_ping(s->conn, NULL, fresh(s))), MB_OK);
  const rule other = {.slot = "begin", .act = "fail"};
  CHECK_INT(try_rule(s, &other), MB_ERROR);
  CHECK_INT(s->error->class, MB_UNSUPPORTED);
}

ONE_WAY(leaves_an_older_driver_to_the_core)
{
  static mb_driver older;
  older = *td_driver();
  older.abi = MB_DRIVER_ABI + 1;
  s->driver = mb_driver_fault(&older);
  CHECK_INT(open_pool(s, NULL, NULL, 0), MB_ERROR);
  CHECK_INT(s->error->class, MB_DRIVER_FAULT);
}

/* A library is initialised once, whatever stands around its driver. */
static int initialised;

static mb_status library_init(const mb_host *host, mb_error *error)
{
  (void)host;
  (void)error;
  initialised++;
  return MB_OK;
}

ONE_WAY(initialises_the_library_once)
{
  static mb_driver inside;
  inside = *td_driver();
  inside.library_init = library_init;
  s->driver = &inside;
  CHECK_INT(open_pool(s, NULL, NULL, 0), MB_OK);
  mb_pool_close(s->pool, 0);
  s->driver = mb_driver_fault(&inside);
  CHECK_INT(open_pool(s, NULL, NULL, 0), MB_OK);
  CHECK_INT(initialised, 1);
}

/* --- Delays -------------------------------------------------------------- */

EACH_WAY(delays_a_call)
{
  connect_wrapped(s);
  add_rule(s, (rule){.slot = "execute", .delay_s = 0.02, .times = 1});
  add_rule(s, (rule){.slot = "prepare", .delay_s = 0.02, .times = 1});
  const int64_t start_ns = mb_now_ns();
  CHECK_INT(count_rows(s, "rows 2"), 2);
  CHECK(mb_now_ns() - start_ns >= 40 * NS_PER_MS);
  CHECK_INT(count_rows(s, "rows 2"), 2);
}

EACH_WAY(ends_a_delay_in_time)
{
  connect_wrapped(s);
  add_rule(s, (rule){.slot = "execute", .delay_s = FOR_EVER, .times = 1});
  s->call = &brief;
  CHECK_INT(run(s, "put 1"), MB_ERROR);
  CHECK_INT(s->error->class, MB_TIMEOUT);
  CHECK_INT(flags(s, MB_CONNECTION_DEAD), 0);
  CHECK_INT(td_calls(TD_EXECUTE), 0);
  s->call = NULL;
  forget_rules(s);
  CHECK_INT(run(s, "put 1"), MB_DONE);
  CHECK_INT(td_stored(), 1);
}

EACH_WAY(ends_a_delay_between_rows)
{
  connect_wrapped(s);
  add_rule(
      s, (rule){.slot = "fetch", .delay_s = FOR_EVER, .nth = 3, .times = 1});
  s->call = &brief;
  CHECK_INT(run(s, "rows 5"), MB_ROW);
  CHECK_INT(count_rest(s, s->stmt), -1);
  CHECK_INT(s->error->class, MB_TIMEOUT);
  s->call = NULL;
  forget_rules(s);
  CHECK_INT(count_rows(s, "rows 5"), 5);
}

static void *cancel_later(void *argument)
{
  mb_sleep_ns(20 * NS_PER_MS);
  mb_cancellation_cancel(argument, "enough");
  return NULL;
}

EACH_WAY(ends_a_delay_when_cancelled)
{
  mb_cancellation *stop;
  pthread_t thread;
  connect_wrapped(s);
  add_rule(s, (rule){.slot = "execute", .delay_s = FOR_EVER, .times = 1});
  if (mb_cancellation_open(NULL, &stop, fresh(s)) != MB_OK ||
      pthread_create(&thread, NULL, cancel_later, stop) != 0)
    abort();
  const mb_call call = {.cancellation = stop};
  s->call = &call;
  CHECK_INT(run(s, "put 1"), MB_ERROR);
  CHECK_INT(s->error->class, MB_CANCELED);
  s->call = NULL;
  (void)pthread_join(thread, NULL);
  CHECK_INT(td_calls(TD_EXECUTE), 0);
  mb_cancellation_close(stop);
  forget_rules(s);
  CHECK_INT(run(s, "put 1"), MB_DONE);
}

EACH_WAY(ends_a_delayed_connect)
{
  static const mb_option soon = {"connect_timeout", "0.2"};
  wrap(s);
  CHECK_INT(open_pool(s, NULL, &soon, 1), MB_OK);
  add_rule(s, (rule){.slot = "connect", .delay_s = FOR_EVER, .times = 1});
  CHECK_INT(acquire(s), MB_ERROR);
  CHECK_INT(s->error->class, MB_CONNECTIVITY);
  CHECK_INT(td_calls(TD_CONNECT), 0);
  CHECK_INT(acquire(s), MB_OK);
  CHECK_INT(count_rows(s, "rows 1"), 1);
}

static void *clear_later(void *argument)
{
  session *s = argument;
  mb_error error;
  mb_value result;
  mb_sleep_ns(20 * NS_PER_MS);
  CHECK_INT(
      mb_pool_control(s->pool, "fault_clear", NULL, 0, &result, &error), MB_OK);
  return NULL;
}

EACH_WAY(ends_delays_with_their_rules)
{
  pthread_t thread;
  connect_wrapped(s);
  add_rule(s, (rule){.slot = "execute", .delay_s = FOR_EVER});
  if (pthread_create(&thread, NULL, clear_later, s) != 0)
    abort();
  CHECK_INT(run(s, "put 1"), MB_DONE);
  (void)pthread_join(thread, NULL);
  CHECK_INT(td_stored(), 1);
}

/* --- Failures ------------------------------------------------------------ */

/* What fails leaves a connection that works. */
static void fail_and_go_on(session *s, const char *slot, bool after)
{
  add_rule(s, (rule){.slot = slot,
                  .act = "fail",
                  .after = after,
                  .times = 1,
                  .flags = "retryable"});
  CHECK_INT(count_rows(s, "rows 3 cols 1"), -1);
  CHECK_INT(s->error->class, MB_SERIALIZATION);
  CHECK_INT(flags(s, MB_RETRYABLE | MB_CONNECTION_DEAD), MB_RETRYABLE);
  CHECK_INT(count_rows(s, "rows 3"), 3);
}

EACH_WAY(fails_before_and_after)
{
  connect_wrapped(s);
  fail_and_go_on(s, "prepare", false);
  fail_and_go_on(s, "prepare", true);
  fail_and_go_on(s, "execute", false);
  fail_and_go_on(s, "execute", true);
  fail_and_go_on(s, "fetch", false);
  fail_and_go_on(s, "fetch", true);
}

EACH_WAY(fails_between_results)
{
  connect_wrapped(s);
  add_rule(s, (rule){.slot = "next_result", .act = "fail", .times = 1});
  CHECK_INT(run(s, "rows 2 results 3"), MB_ROW);
  CHECK_INT(count_rest(s, s->stmt), 2);
  CHECK_INT(drive(s, mb_stmt_next_result(s->stmt, fresh(s))), MB_ERROR);
  CHECK_INT(s->error->class, MB_SERIALIZATION);
  CHECK_INT(count_rows(s, "rows 3"), 3);
}

EACH_WAY(fails_to_finish)
{
  const mb_value *row;
  connect_wrapped(s);
  add_rule(s, (rule){.slot = "finish", .act = "fail", .times = 1});
  CHECK_INT(run(s, "rows 1000"), MB_ROW);
  CHECK_INT(fetch(s, s->stmt, &row), MB_ROW);
  CHECK_INT(finish(s, s->stmt), MB_ERROR);
  CHECK_INT(s->error->class, MB_SERIALIZATION);
  CHECK_INT(count_rows(s, "rows 3"), 3);
}

EACH_WAY(fails_for_a_text_only)
{
  connect_wrapped(s);
  add_rule(s, (rule){.slot = "execute", .act = "fail", .text = "put"});
  CHECK_INT(count_rows(s, "rows 3"), 3);
  CHECK_INT(run(s, "put 1"), MB_ERROR);
  CHECK_INT(count_rows(s, "rows 3"), 3);
  CHECK_INT(td_stored(), 0);
}

EACH_WAY(fails_to_connect)
{
  wrap(s);
  CHECK_INT(open_pool(s, NULL, NULL, 0), MB_OK);
  add_rule(s, (rule){.slot = "connect", .act = "fail", .times = 1});
  add_rule(s, (rule){.slot = "connect",
                  .act = "fail",
                  .after = true,
                  .nth = 2,
                  .times = 1});
  CHECK_INT(acquire(s), MB_ERROR);
  CHECK_INT(acquire(s), MB_ERROR);
  CHECK_INT(td_calls(TD_CONNECT), 1);
  CHECK_INT(acquire(s), MB_OK);
}

/* --- Losses -------------------------------------------------------------- */

EACH_WAY(loses_a_connection)
{
  connect_wrapped(s);
  add_rule(s, (rule){.slot = "execute", .act = "lose", .flags = "sent"});
  CHECK_INT(run(s, "put 1"), MB_ERROR);
  CHECK_INT(
      flags(s, MB_CONNECTION_DEAD | MB_SENT), MB_CONNECTION_DEAD | MB_SENT);
  CHECK_INT(run(s, "put 2"), MB_ERROR);
  CHECK_INT(td_calls(TD_EXECUTE), 0);
  release(s);
  CHECK_INT(td_open_sessions(), 0);
}

EACH_WAY(loses_the_answer)
{
  mb_tx tx;
  connect_wrapped(s);
  CHECK_INT(begin(s, NULL, NULL, &tx), MB_OK);
  s->tx = &tx;
  CHECK_INT(run(s, "put 5"), MB_DONE);
  add_rule(s,
      (rule){.slot = "commit", .act = "lose", .after = true, .flags = "sent"});
  CHECK_INT(commit(s, &tx), MB_ERROR);
  CHECK_INT(flags(s, MB_COMMIT_UNKNOWN | MB_RETRYABLE), MB_COMMIT_UNKNOWN);
  CHECK(td_is_stored(5));
}

/* Where calls wait there is a middle. */
EACH_WAY(loses_a_connection_in_the_middle)
{
  const bool waits = td.waits > 0;
  connect_wrapped(s);
  add_rule(s, (rule){.slot = "resume", .act = "lose", .times = 1});
  CHECK_INT(run(s, "put 1"), waits ? MB_ERROR : MB_DONE);
  if (waits)
    CHECK_INT(flags(s, MB_CONNECTION_DEAD), MB_CONNECTION_DEAD);
}

EACH_WAY(loses_all_at_once)
{
  mb_conn *first;
  connect_wrapped(s);
  first = s->conn;
  CHECK_INT(acquire(s), MB_OK);
  CHECK_INT(run(s, "rows 3"), MB_ROW);
  CHECK_INT(control(s, "fault_lose", NULL, 0), MB_OK);
  CHECK_INT(count_rest(s, s->stmt), -1);
  CHECK_INT(flags(s, MB_CONNECTION_DEAD), MB_CONNECTION_DEAD);
  release(s);
  mb_conn_release(first);
  CHECK_INT(td_open_sessions(), 0);
  CHECK_INT(acquire(s), MB_OK);
  CHECK_INT(count_rows(s, "rows 3"), 3);
}

/* --- Rules that are wrong ------------------------------------------------ */

ONE_WAY(refuses_what_a_slot_cannot_do)
{
  static const rule wrong[] = {
      {.slot = "nothing", .act = "fail"},
      {.slot = "capability", .act = "fail"},
      {.slot = "close", .act = "fail"},
      {.slot = "ping", .act = "alive"},
      {.slot = "resume", .delay_s = 1},
      {.slot = "is_valid", .act = "fail"},
      {.slot = "ping", .act = "explode"},
      {.slot = "ping", .act = "fail", .flags = "retryable quickly"},
  };
  wrap(s);
  CHECK_INT(open_pool(s, NULL, NULL, 0), MB_OK);
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
    CHECK_INT(try_rule(s, &wrong[i]), MB_ERROR);
    CHECK_INT(s->error->class, MB_USAGE);
  }
  CHECK_INT(control(s, "fault_at", NULL, 0), MB_ERROR);
  CHECK_INT(control(s, "fault_calls", NULL, 0), MB_ERROR);
  CHECK_INT(control(s, "unknown", NULL, 0), MB_ERROR);
  CHECK_INT(s->error->class, MB_UNSUPPORTED);
}

static const struct check_test tests[] = {
    CHECK_TEST(hands_everything_on),
    CHECK_TEST(has_the_slots_of_the_driver_inside),
    CHECK_TEST(leaves_an_older_driver_to_the_core),
    CHECK_TEST(initialises_the_library_once),
    CHECK_TEST(delays_a_call),
    CHECK_TEST(ends_a_delay_in_time),
    CHECK_TEST(ends_a_delay_between_rows),
    CHECK_TEST(ends_a_delay_when_cancelled),
    CHECK_TEST(ends_a_delayed_connect),
    CHECK_TEST(ends_delays_with_their_rules),
    CHECK_TEST(fails_before_and_after),
    CHECK_TEST(fails_between_results),
    CHECK_TEST(fails_to_finish),
    CHECK_TEST(fails_for_a_text_only),
    CHECK_TEST(fails_to_connect),
    CHECK_TEST(loses_a_connection),
    CHECK_TEST(loses_the_answer),
    CHECK_TEST(loses_a_connection_in_the_middle),
    CHECK_TEST(loses_all_at_once),
    CHECK_TEST(refuses_what_a_slot_cannot_do),
};

int main(void)
{
  return CHECK_RUN(tests);
}
