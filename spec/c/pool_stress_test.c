/*
 * pool_stress_test.c: everything that a pool does, at once, by many threads.
 *
 * MB_SOAK is the share of a minute; 2 seconds without it.
 */
#include "check.h"
#include "test_driver.h"

#include <pthread.h>

#define NS_PER_MS INT64_C(1000000)
#define N_THREADS 8
#define MAX 3

typedef struct stress {
  mb_pool *pool;
  mb_cancellation *cancelled;
  int64_t end_ns;
  atomic_int n_lent, n_most;
  atomic_int n_reading, n_most_reading; /* of these, not to write */
  atomic_long n_got, n_refused, n_wrong;
} stress;

typedef struct worker {
  stress *all;
  pthread_t thread;
  uint64_t random; /* never 0 */
} worker;

static unsigned choose(worker *w, unsigned n)
{
  w->random ^= w->random << 13;
  w->random ^= w->random >> 7;
  w->random ^= w->random << 17;
  return (unsigned)(w->random % n);
}

static void count(atomic_int *now, atomic_int *most, int change)
{
  const int n = atomic_fetch_add(now, change) + change;
  int before = atomic_load(most);
  while (n > before && !atomic_compare_exchange_weak(most, &before, n))
    continue;
}

static void note_lent(stress *all, unsigned flags, int change)
{
  count(&all->n_lent, &all->n_most, change);
  if (!(flags & MB_ACQUIRE_WRITER))
    count(&all->n_reading, &all->n_most_reading, change);
}

static void run_text(worker *w, mb_conn *conn, const mb_tx *tx, const char *sql)
{
  mb_error error;
  mb_stmt *stmt;
  const mb_value *row;
  const mb_call call = {.timeout_ns = (int64_t)(choose(w, 20) + 1) * NS_PER_MS};
  if (mb_conn_statement(conn, sql, strlen(sql), 0, &stmt, &error) != MB_OK)
    return;
  mb_status status =
      mb_stmt_run(&stmt, tx, NULL, 0, choose(w, 4) == 0 ? &call : NULL, &error);
  for (unsigned n = choose(w, 8); status == MB_ROW && n > 0; n--)
    status = mb_stmt_fetch(stmt, &row, &error);
}

static void use(worker *w, mb_conn *conn)
{
  mb_error error;
  mb_tx tx;
  switch (choose(w, 10)) {
  case 0:
    td_fail(TD_EXECUTE, 1, MB_CONNECTION_LOST, MB_CONNECTION_DEAD | MB_SENT);
    run_text(w, conn, NULL, "put 1");
    break;
  case 1:
    td_fail(TD_CONNECT, 1, MB_CONNECTIVITY, 0);
    break;
  case 2:
    if (mb_tx_begin(conn, NULL, NULL, &tx, &error) == MB_OK)
      run_text(w, conn, &tx, "put 2"); /* left open */
    break;
  case 3:
    run_text(w, conn, NULL, "session");
    break;
  case 4:
    (void)!mb_conn_ping(conn, NULL, &error);
    break;
  case 5:
    mb_sleep_ns((int64_t)choose(w, 3) * NS_PER_MS);
    break;
  default:
    run_text(w, conn, NULL, choose(w, 2) == 0 ? "rows 5" : "put 3");
  }
}

static void give_back(worker *w, mb_conn *conn, unsigned flags)
{
  note_lent(w->all, flags, -1);
  if (choose(w, 8) == 0)
    mb_conn_drop(conn);
  else
    mb_conn_release(conn);
}

static void try_once(worker *w)
{
  static const unsigned ways[] = {
      0, 0, 0, MB_ACQUIRE_NOW, MB_ACQUIRE_WRITER, MB_ACQUIRE_WRITER};
  mb_error error;
  mb_conn *conn;
  const mb_call call = {.cancellation = w->all->cancelled};
  const unsigned flags = ways[choose(w, 6)];
  if (mb_pool_acquire(w->all->pool, choose(w, 30) == 0 ? &call : NULL, flags,
          &conn, &error) == MB_OK) {
    (void)atomic_fetch_add(&w->all->n_got, 1);
    note_lent(w->all, flags, 1);
    use(w, conn);
    give_back(w, conn, flags);
    return;
  }
  (void)atomic_fetch_add(&w->all->n_refused, 1);
  if (error.class != MB_POOL_TIMEOUT && error.class != MB_CANCELED &&
      error.class != MB_CONNECTIVITY && error.class != MB_USAGE) {
    size_t size;
    const char *text = mb_error_text(&error, MB_MESSAGE, &size);
    (void)atomic_fetch_add(&w->all->n_wrong, 1);
    (void)fprintf(stderr, "an acquire ended with %s: %.*s\n",
        mb_class_name(error.class), (int)size, text);
  }
}

static void *work(void *argument)
{
  worker *w = argument;
  while (mb_now_ns() < w->all->end_ns)
    try_once(w);
  return NULL;
}

static int64_t duration_ns(void)
{
  const char *given = getenv("MB_SOAK");
  const double seconds = given != NULL ? 60 * strtod(given, NULL) : 2;
  return (int64_t)((seconds > 2 ? seconds : 2) * 1e9);
}

static void stress_with(
    int waits, int most_reading, const mb_option *options, size_t n)
{
  worker workers[N_THREADS];
  mb_error error;
  mb_pool_stats stats;
  stress all = {.end_ns = mb_now_ns() + duration_ns() / 2};
  td_reset();
  td.waits = waits;
  if (!CHECK_INT(mb_pool_open(td_driver(), NULL, options, n, &all.pool, &error),
          MB_OK) ||
      !CHECK_INT(mb_cancellation_open(NULL, &all.cancelled, &error), MB_OK))
    return;
  if (n < 5)
    td.pool = all.pool; /* no thread in the background reads it yet */
  mb_cancellation_cancel(all.cancelled, NULL);
  mb_pool_ref(all.pool);
  for (unsigned i = 0; i < N_THREADS; i++) {
    workers[i] = (worker){.all = &all, .random = 88172645463325252u + i};
    if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0)
      abort();
  }
  /* It is closed while they are at it. */
  mb_sleep_ns(duration_ns() / 2 - 100 * NS_PER_MS);
  mb_pool_close(all.pool, 50 * NS_PER_MS);
  for (unsigned i = 0; i < N_THREADS; i++)
    (void)pthread_join(workers[i].thread, NULL);

  mb_pool_stats_read(all.pool, &stats);
  for (int ms = 0; ms < 5000 && stats.size > 0; ms++) {
    mb_sleep_ns(NS_PER_MS);
    mb_dispose();
    mb_pool_stats_read(all.pool, &stats);
  }
  CHECK(atomic_load(&all.n_got) > 100);
  CHECK_INT(atomic_load(&all.n_wrong), 0);
  CHECK(atomic_load(&all.n_most) <= MAX);
  CHECK(atomic_load(&all.n_most_reading) <= most_reading);
  CHECK(td_most_sessions() <= MAX);
  CHECK_INT(stats.acquired, atomic_load(&all.n_got));
  CHECK_INT(stats.acquired, stats.released);
  CHECK_INT(stats.created, stats.closed + stats.open);
  CHECK_INT(stats.size, 0);
  CHECK_INT(stats.waiting, 0);
  td.pool = NULL;
  mb_pool_drop(all.pool);
  mb_dispose();
  mb_cancellation_close(all.cancelled);
  for (int ms = 0; ms < 5000 && td_open_objects() > 0; ms++)
    mb_sleep_ns(NS_PER_MS);
  CHECK_INT(td_open_sessions(), 0);
  CHECK_INT(td_open_objects(), 0);
  CHECK_INT(td_breaches(), 0);
}

static void survives_everything_at_once(void)
{
  static const mb_option options[] = {{"max", "3"}, {"acquire_timeout", "0.05"},
      {"check_after_idle", "0"}, {"sweep_interval", "0.01"},
      {"idle_timeout", "0.02"}, {"max_lifetime", "0.2"}, {"min_idle", "1"}};
  stress_with(0, MAX, options, sizeof options / sizeof *options);
}

static void survives_it_with_one_place_to_write(void)
{
  static const mb_option options[] = {{"max", "3"}, {"acquire_timeout", "0.05"},
      {"single_writer", "true"}, {"shed_target", "0.005"}};
  /* One is kept for who writes. */
  stress_with(1, MAX - 1, options, sizeof options / sizeof *options);
}

static const struct check_test tests[] = {
    CHECK_TEST(survives_everything_at_once),
    CHECK_TEST(survives_it_with_one_place_to_write),
};

int main(void)
{
  return CHECK_RUN(tests);
}
