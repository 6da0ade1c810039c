/* pool_threads_test.c: lending to many threads, while much fails. */
#include "session.h"

#include <pthread.h>

#define N_THREADS 8

typedef struct worker {
  pthread_t thread;
  mb_pool *pool;
  mb_cancellation *stop;
  uint64_t random;
  int64_t until_ns;
  int64_t stored;
  int64_t borrowed;
} worker;

static unsigned pick(worker *w, unsigned n)
{
  w->random = w->random * UINT64_C(6364136223846793005) + 1442695040888963407u;
  return (unsigned)(w->random >> 33) % n;
}

static void maybe_fail(worker *w, td_slot slot)
{
  switch (pick(w, 60)) {
  case 0:
    td_fail(slot, 1, MB_CONNECTION_LOST, MB_CONNECTION_DEAD | MB_SENT);
    break;
  case 1:
  case 2:
    td_fail(slot, 1, MB_ENGINE, MB_SENT);
    break;
  default:
    break;
  }
}

static void read_some(worker *w, mb_conn *conn)
{
  mb_stmt *stmt;
  mb_error error;
  const mb_value *row;
  mb_call call = {.cancellation = pick(w, 2) ? w->stop : NULL};
  if (mb_conn_statement(conn, "rows 9", 6, 0, &stmt, &error) != MB_OK ||
      mb_stmt_run(&stmt, NULL, NULL, 0, &call, &error) != MB_ROW)
    return;
  maybe_fail(w, TD_FETCH);
  for (unsigned left = pick(w, 12); left > 0; left--)
    if (mb_stmt_fetch(stmt, &row, &error) != MB_ROW)
      return;
  if (pick(w, 2))
    mb_stmt_drop(stmt); /* else it is left open */
}

static void write_some(worker *w, mb_conn *conn)
{
  mb_error error;
  maybe_fail(w, TD_EXECUTE);
  for (unsigned left = pick(w, 3) + 1; left > 0; left--)
    w->stored += execute(conn, "put 1", &error) == MB_DONE;
}

static void write_together(worker *w, mb_conn *conn)
{
  mb_tx tx;
  mb_stmt *stmt;
  mb_error error;
  int64_t written = 0;
  if (mb_tx_begin(conn, NULL, NULL, &tx, &error) != MB_OK)
    return;
  for (unsigned left = pick(w, 3) + 1; left > 0; left--)
    if (mb_conn_statement(conn, "put 2", 5, 0, &stmt, &error) == MB_OK)
      written += mb_stmt_run(&stmt, &tx, NULL, 0, NULL, &error) == MB_DONE;
  switch (pick(w, 4)) {
  case 0:
    maybe_fail(w, TD_ROLLBACK);
    (void)(mb_tx_rollback(&tx, &error) == MB_OK);
    break;
  case 1:
    mb_tx_drop(&tx);
    break;
  case 2:
    break; /* left open */
  default:
    maybe_fail(w, TD_COMMIT);
    if (mb_tx_commit(&tx, &error) == MB_OK)
      w->stored += written;
  }
}

static void use(worker *w, mb_conn *conn)
{
  mb_error error;
  for (unsigned left = pick(w, 4); left > 0; left--)
    switch (pick(w, 4)) {
    case 0:
      read_some(w, conn);
      break;
    case 1:
      write_some(w, conn);
      break;
    case 2:
      write_together(w, conn);
      break;
    default:
      maybe_fail(w, TD_PING);
      (void)(mb_conn_ping(conn, NULL, &error) == MB_OK);
    }
}

static void *work(void *argument)
{
  worker *w = argument;
  mb_error error;
  while (mb_now_ns() < w->until_ns) {
    mb_conn *conn;
    const mb_call call = {.cancellation = pick(w, 2) ? w->stop : NULL};
    maybe_fail(w, TD_CONNECT);
    if (mb_pool_acquire(w->pool, &call, pick(w, 4) ? 0 : MB_ACQUIRE_NOW, &conn,
            &error) == MB_OK) {
      w->borrowed++;
      use(w, conn);
      if (pick(w, 5) == 0)
        mb_conn_drop(conn);
      else
        mb_conn_release(conn);
    }
    if (pick(w, 50) == 0) { /* somebody stops what they do */
      mb_cancellation_cancel(w->stop, NULL);
      mb_cancellation_close(w->stop);
      if (mb_cancellation_open(NULL, &w->stop, &error) != MB_OK)
        abort();
    }
  }
  return NULL;
}

/* MB_SOAK is the share of the whole length, a minute, that is run. */
static int64_t soak_ns(void)
{
  const char *share = getenv("MB_SOAK");
  const double seconds = share != NULL ? 60 * strtod(share, NULL) : 2;
  return (int64_t)((seconds > 0.5 ? seconds : 0.5) * 1e9);
}

ONE_WAY(keeps_order_among_many_threads)
{
  worker workers[N_THREADS];
  int64_t stored = 0;
  int64_t borrowed = 0;
  td.waits = 1;
  open_with(s, "3", LONG);
  for (int i = 0; i < N_THREADS; i++) {
    workers[i] = (worker){.pool = s->pool,
        .random = (uint64_t)i * 977 + 1,
        .until_ns = mb_now_ns() + soak_ns()};
    CHECK_INT(mb_cancellation_open(NULL, &workers[i].stop, fresh(s)), MB_OK);
    if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0)
      abort();
  }
  for (int i = 0; i < N_THREADS; i++) {
    (void)pthread_join(workers[i].thread, NULL);
    stored += workers[i].stored;
    borrowed += workers[i].borrowed;
    mb_cancellation_close(workers[i].stop);
  }
  /* No fault is left for what comes. */
  for (int tries = 0; tries < 100 && acquire(s) != MB_OK; tries++)
    continue;
  release(s);
  mb_pool_stats stats = stats_of(s);
  /* The pool's thread may be closing what is too old. */
  for (int ms = 0; ms < 5000 && stats.size != stats.idle; ms++) {
    mb_sleep_ns(NS_PER_MS);
    stats = stats_of(s);
  }
  CHECK(borrowed > 0 && stored > 0);
  CHECK_INT(td_stored(), stored);
  CHECK(td_most_sessions() <= 3);
  CHECK_INT(stats.acquired, borrowed + 1);
  CHECK_INT(stats.released, borrowed + 1);
  CHECK_INT(stats.in_use, 0);
  CHECK_INT(stats.waiting, 0);
  CHECK_INT(stats.size, stats.idle);
  CHECK_INT(stats.size, td_open_sessions());
  CHECK_INT(stats.created - stats.closed, stats.size);
}

static const struct check_test tests[] = {
    CHECK_TEST(keeps_order_among_many_threads),
};

int main(void)
{
  return CHECK_RUN(tests);
}
