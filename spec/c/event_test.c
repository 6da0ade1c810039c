/* event_test.c: what a pool tells of by itself. */
#include "check.h"
#include "test_driver.h"

#include <pthread.h>

#define NS_PER_MS INT64_C(1000000)

static mb_pool *open_with(const mb_option *options, size_t n)
{
  mb_pool *pool;
  mb_error error;
  td_reset();
  if (mb_pool_open(td_driver(), NULL, options, n, &pool, &error) != MB_OK)
    abort();
  return pool;
}

static mb_conn *acquire(mb_pool *pool)
{
  mb_conn *conn;
  mb_error error;
  if (mb_pool_acquire(pool, NULL, 0, &conn, &error) != MB_OK)
    abort();
  return conn;
}

/* Nothing may be open after a test, and no promise broken. */
static void end(mb_pool *pool)
{
  mb_pool_close(pool, 0);
  CHECK_INT(td_open_sessions(), 0);
  CHECK_INT(td_breaches(), 0);
}

static void nothing_is_kept_unless_somebody_watches(void)
{
  uint64_t seen;
  mb_pool_event event;
  mb_pool *pool = open_with(NULL, 0);
  mb_conn_release(acquire(pool));
  CHECK(mb_pool_watch(pool, &seen));
  CHECK(!mb_pool_has_events(pool, seen));
  CHECK(!mb_pool_next_event(pool, &seen, &event));
  mb_pool_unwatch(pool);
  end(pool);
}

static void each_watcher_reads_all(void)
{
  uint64_t seen[2];
  mb_pool_event event;
  mb_pool *pool = open_with(NULL, 0);
  CHECK(mb_pool_watch(pool, &seen[0]));
  CHECK(mb_pool_watch(pool, &seen[1]));
  mb_conn_release(acquire(pool));
  mb_pool_shut(pool, 0);
  for (int i = 0; i < 2; i++) {
    CHECK(mb_pool_has_events(pool, seen[i]));
    CHECK(mb_pool_next_event(pool, &seen[i], &event));
    CHECK_INT(event.kind, MB_POOL_CONNECTED);
    CHECK(!event.failed && event.own_thread && event.duration_ns >= 0);
    CHECK(mb_pool_next_event(pool, &seen[i], &event));
    CHECK_INT(event.kind, MB_POOL_CLOSED);
    CHECK_INT(event.reason, MB_CLOSED_POOL);
    CHECK(!mb_pool_next_event(pool, &seen[i], &event));
    mb_pool_unwatch(pool);
  }
  end(pool);
}

static void a_failed_connect_says_why(void)
{
  uint64_t seen;
  mb_conn *conn;
  mb_error error;
  mb_pool_event event;
  mb_pool *pool = open_with(NULL, 0);
  CHECK(mb_pool_watch(pool, &seen));
  td_fail(TD_CONNECT, 1, MB_CONNECTIVITY, MB_CONNECTION_DEAD);
  CHECK_INT(mb_pool_acquire(pool, NULL, 0, &conn, &error), MB_ERROR);
  CHECK(mb_pool_next_event(pool, &seen, &event));
  CHECK_INT(event.kind, MB_POOL_CONNECTED);
  CHECK(event.failed);
  CHECK_INT(event.class, MB_CONNECTIVITY);
  CHECK_STRING(event.text, "fault in connect");
  CHECK_STRING(event.code, "TD001");
  mb_pool_unwatch(pool);
  end(pool);
}

static void old_events_are_counted(void)
{
  static const mb_option options[] = {{"statement_cache", "0"}};
  uint64_t seen;
  mb_pool_event event;
  mb_pool *pool = open_with(options, 1);
  CHECK(mb_pool_watch(pool, &seen));
  for (int i = 0; i < 100; i++) { /* two events each, but for the last */
    mb_conn *conn = acquire(pool);
    td_cut_off(conn, TD_CLOSED);
    mb_conn_release(conn);
  }
  CHECK(mb_pool_next_event(pool, &seen, &event));
  CHECK_INT(event.missed, 199 - 64);
  int n = 1;
  while (mb_pool_next_event(pool, &seen, &event)) {
    CHECK_INT(event.missed, 0);
    n++;
  }
  CHECK_INT(n, 64);
  mb_pool_unwatch(pool);
  end(pool);
}

static void a_leak_is_told_once_a_borrow_with_its_note(void)
{
  static const mb_option options[] = {{"leak_after", "0.02"}};
  uint64_t seen;
  mb_pool_event event;
  mb_pool *pool = open_with(options, 1);
  mb_conn_release(acquire(pool));
  CHECK(mb_pool_watch(pool, &seen));
  for (int round = 0; round < 2; round++) {
    mb_conn *conn = acquire(pool);
    mb_conn_set_note(conn, "who");
    mb_conn_set_note(conn, "me");
    mb_pool_find_leaks(pool);
    CHECK(!mb_pool_has_events(pool, seen));
    mb_sleep_ns(40 * NS_PER_MS);
    mb_pool_find_leaks(pool);
    mb_pool_find_leaks(pool);
    CHECK(mb_pool_next_event(pool, &seen, &event));
    CHECK_INT(event.kind, MB_POOL_LEAKED);
    CHECK(event.duration_ns >= 20 * NS_PER_MS);
    CHECK_STRING(event.text, "me");
    CHECK(!mb_pool_has_events(pool, seen));
    mb_conn_release(conn);
  }
  mb_pool_unwatch(pool);
  end(pool);
}

static void a_time_out_names_the_oldest_borrower(void)
{
  static const mb_option options[] = {{"max", "2"}, {"acquire_timeout", "1"}};
  mb_conn *conn;
  mb_error error;
  size_t size;
  mb_pool *pool = open_with(options, 2);
  mb_conn *first = acquire(pool);
  mb_conn *second = acquire(pool);
  mb_conn_set_note(first, "line one\n\tline two");
  mb_conn_set_note(second, "another");
  CHECK_INT(mb_pool_acquire(pool, NULL, 0, &conn, &error), MB_ERROR);
  CHECK_INT(error.class, MB_POOL_TIMEOUT);
  char text[MB_ERROR_ROOM + 1] = "";
  const char *message = mb_error_text(&error, MB_MESSAGE, &size);
  memcpy(text, message, size);
  CHECK(strstr(text, "; it was borrowed at: line one line two") != NULL);
  CHECK(strstr(text, "another") == NULL);
  mb_conn_release(first);
  CHECK_INT(mb_pool_acquire(pool, NULL, 0, &conn, &error), MB_OK);
  mb_conn_release(second);
  mb_conn_release(conn);
  end(pool);
}

static void *borrow_and_lose(void *argument)
{
  mb_pool *pool = argument;
  for (int i = 0; i < 200; i++) {
    mb_conn *conn = acquire(pool);
    mb_conn_set_note(conn, "a thread");
    if (i % 3 == 0)
      td_cut_off(conn, TD_CLOSED);
    mb_conn_release(conn);
  }
  return NULL;
}

static void other_threads_are_heard_of(void)
{
  static const mb_option options[] = {{"max", "2"}, {"leak_after", "0.001"}};
  pthread_t threads[3];
  uint64_t seen;
  uint64_t n = 0;
  mb_pool_event event;
  mb_pool *pool = open_with(options, 2);
  CHECK(mb_pool_watch(pool, &seen));
  for (int i = 0; i < 3; i++)
    if (pthread_create(&threads[i], NULL, borrow_and_lose, pool) != 0)
      abort();
  for (int i = 0; i < 200; i++) {
    mb_pool_find_leaks(pool);
    while (mb_pool_next_event(pool, &seen, &event)) {
      CHECK(!event.own_thread || event.kind == MB_POOL_LEAKED);
      n += 1 + event.missed;
    }
    mb_sleep_ns(NS_PER_MS / 10);
  }
  for (int i = 0; i < 3; i++)
    (void)pthread_join(threads[i], NULL);
  mb_pool_shut(pool, 0);
  while (mb_pool_next_event(pool, &seen, &event))
    n += 1 + event.missed;
  mb_pool_stats stats;
  mb_pool_stats_read(pool, &stats);
  CHECK(n >= (uint64_t)(stats.created + stats.closed));
  mb_pool_unwatch(pool);
  end(pool);
}

static const struct check_test tests[] = {
    CHECK_TEST(nothing_is_kept_unless_somebody_watches),
    CHECK_TEST(each_watcher_reads_all),
    CHECK_TEST(a_failed_connect_says_why),
    CHECK_TEST(old_events_are_counted),
    CHECK_TEST(a_leak_is_told_once_a_borrow_with_its_note),
    CHECK_TEST(a_time_out_names_the_oldest_borrower),
    CHECK_TEST(other_threads_are_heard_of),
};

int main(void)
{
  return CHECK_RUN(tests);
}
