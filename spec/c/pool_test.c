/* pool_test.c: lending: who gets which connection, when, and who does not. */
#include "session.h"

#include "../../src/core/pool.h"

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#define NS_PER_SECOND (1000 * NS_PER_MS)

static mb_conn *lend(session *s)
{
  mb_conn *conn;
  CHECK_INT(mb_pool_acquire(s->pool, NULL, 0, &conn, fresh(s)), MB_OK);
  return conn;
}

static mb_status lend_now(session *s)
{
  const mb_status status =
      mb_pool_acquire(s->pool, NULL, MB_ACQUIRE_NOW, &s->conn, fresh(s));
  if (status == MB_OK)
    release(s);
  return status;
}

/* Makes a connection useless. */
static void lose(mb_conn *conn)
{
  mb_error error;
  td_fail(TD_PING, 1, MB_CONNECTION_LOST, MB_CONNECTION_DEAD);
  CHECK_INT(mb_conn_ping(conn, NULL, &error), MB_ERROR);
}

/* --- Somebody else who wants a connection -------------------------------- */

typedef struct borrower {
  pthread_t thread;
  mb_pool *pool;
  mb_call call;
  mb_status status;
  mb_conn *conn;
  mb_error error;
  int64_t took_ns;
  int turn; /* which of all who were served, from 1 */
} borrower;

static atomic_int turns;

static void *borrow(void *argument)
{
  borrower *b = argument;
  const int64_t start_ns = mb_now_ns();
  b->status = mb_pool_acquire(b->pool, &b->call, 0, &b->conn, &b->error);
  b->turn = ++turns;
  b->took_ns = mb_now_ns() - start_ns;
  return NULL;
}

/* The same, and back at once. */
static void *borrow_shortly(void *argument)
{
  borrower *b = argument;
  (void)borrow(b);
  if (b->status == MB_OK)
    mb_conn_release(b->conn);
  return NULL;
}

static void start(session *s, borrower *b, void *(*work)(void *),
    mb_cancellation *cancellation)
{
  *b = (borrower){.pool = s->pool, .call = {.cancellation = cancellation}};
  if (pthread_create(&b->thread, NULL, work, b) != 0)
    abort();
}

static void await_waiting(const session *s, int64_t n)
{
  while (stats_of(s).waiting != n)
    mb_sleep_ns(NS_PER_MS / 10);
}

/* Starts n of them, who wait in order. */
static void start_waiting(
    session *s, borrower *them, int n, void *(*work)(void *))
{
  turns = 0;
  for (int i = 0; i < n; i++) {
    start(s, &them[i], work, NULL);
    await_waiting(s, i + 1);
  }
}

static void end(borrower *b)
{
  (void)pthread_join(b->thread, NULL);
}

/* --- Lending ------------------------------------------------------------ */

ONE_WAY(lends_what_was_used_last)
{
  mb_conn *conns[3];
  open_with(s, "3", LONG);
  for (int i = 0; i < 3; i++)
    conns[i] = lend(s);
  for (int i = 0; i < 3; i++)
    mb_conn_release(conns[i]);
  mb_conn *last = lend(s);
  mb_conn *before = lend(s);
  CHECK(last == conns[2]);
  CHECK(before == conns[1]);
  mb_conn_release(last);
  mb_conn_release(before);
  CHECK_INT(td_calls(TD_CONNECT), 3);
}

EACH_WAY(opens_no_more_than_allowed)
{
  open_with(s, "2", "0");
  mb_conn *first = lend(s);
  mb_conn *second = lend(s);
  CHECK_INT(lend_now(s), MB_ERROR);
  CHECK_INT(s->error->class, MB_POOL_TIMEOUT);
  CHECK(says(s, "2 of 2 are in use"));
  CHECK(s->conn == NULL);
  CHECK_INT(acquire(s), MB_ERROR);
  CHECK_INT(s->error->class, MB_POOL_TIMEOUT);
  CHECK_INT(stats_of(s).timeouts, 2);
  CHECK_INT(stats_of(s).waiting, 0);
  mb_conn_release(first);
  CHECK_INT(lend_now(s), MB_OK);
  mb_conn_release(second);
  CHECK_INT(td_most_sessions(), 2);
}

ONE_WAY(waits_for_a_while)
{
  open_with(s, "1", "0.03");
  mb_conn *conn = lend(s);
  const int64_t start_ns = mb_now_ns();
  CHECK_INT(acquire(s), MB_ERROR);
  CHECK_INT(s->error->class, MB_POOL_TIMEOUT);
  CHECK(mb_now_ns() - start_ns >= 30 * NS_PER_MS);
  CHECK(mb_now_ns() - start_ns < 5 * NS_PER_SECOND);
  mb_conn_release(conn);
  CHECK_INT(acquire(s), MB_OK);
}

ONE_WAY(has_as_many_as_the_database_allows)
{
  td.max_connections = 1;
  open_with(s, "5", "0");
  mb_conn *conn = lend(s);
  CHECK_INT(stats_of(s).max, 1);
  CHECK_INT(mb_pool_info(s->pool)->max_connections, 1);
  CHECK_INT(lend_now(s), MB_ERROR);
  mb_conn_release(conn);
}

/* --- Waiting ------------------------------------------------------------ */

EACH_WAY(serves_first_who_waits_longest)
{
  borrower them[4];
  open_with(s, "1", LONG);
  mb_conn *conn = lend(s);
  start_waiting(s, them, 4, borrow_shortly);
  /* It is handed over: nobody comes in between. */
  mb_conn_release(conn);
  for (int i = 0; i < 4; i++) {
    end(&them[i]);
    CHECK_INT(them[i].status, MB_OK);
    CHECK_INT(them[i].turn, i + 1);
  }
  CHECK_INT(td_calls(TD_CONNECT), 1);
  CHECK_INT(stats_of(s).acquired, 5);
  CHECK_INT(stats_of(s).released, 5);
}

ONE_WAY(hands_over_nothing_that_has_died)
{
  borrower waiting;
  open_with(s, "1", LONG);
  mb_conn *conn = lend(s);
  start_waiting(s, &waiting, 1, borrow_shortly);
  td_cut_off(conn, TD_CLOSED);
  mb_conn_release(conn);
  end(&waiting);
  CHECK_INT(waiting.status, MB_OK);
  CHECK_INT(td_calls(TD_CONNECT), 2);
  CHECK_INT(stats_of(s).closed_by[MB_CLOSED_DEAD], 1);
}

/* Looking may cost a call of the system: once a borrow is enough. */
ONE_WAY(looks_at_a_connection_once_a_borrow)
{
  open_with(s, "1", LONG);
  mb_conn_release(lend(s));
  const long before = td_calls(TD_IS_VALID);
  for (int i = 0; i < 10; i++)
    mb_conn_release(lend(s));
  CHECK_INT(td_calls(TD_IS_VALID), before + 10);
}

ONE_WAY(lets_nobody_pass_those_who_wait)
{
  borrower waiting;
  open_with(s, "1", LONG);
  mb_conn *conn = lend(s);
  start_waiting(s, &waiting, 1, borrow);
  mb_conn_release(conn);
  CHECK_INT(lend_now(s), MB_ERROR);
  CHECK_INT(s->error->class, MB_POOL_TIMEOUT);
  end(&waiting);
  mb_conn_release(waiting.conn);
  CHECK_INT(lend_now(s), MB_OK);
}

/* Nobody waits for what will not come; who comes later finds the server. */
static void tell_all(session *s, mb_class class)
{
  borrower them[3];
  open_with(s, "1", LONG);
  mb_conn *conn = lend(s);
  start_waiting(s, them, 3, borrow_shortly);
  lose(conn);
  td_fail(TD_CONNECT, 1, class, 0);
  mb_conn_release(conn);
  for (int i = 0; i < 3; i++)
    end(&them[i]);
  for (int i = 0; i < 3; i++) {
    CHECK_INT(them[i].status, MB_ERROR);
    CHECK_INT(them[i].error.class, class);
  }
  CHECK_INT(td_calls(TD_CONNECT), 2);
  mb_conn_release(lend(s));
  CHECK_INT(td_calls(TD_CONNECT), 3);
  CHECK_INT(td_most_sessions(), 1);
  CHECK_INT(stats_of(s).failures, 1);
}

ONE_WAY(tells_all_who_wait_when_there_is_no_connecting)
{
  tell_all(s, MB_CONNECTIVITY);
}

ONE_WAY(tells_all_who_wait_when_the_database_cancels)
{
  tell_all(s, MB_CANCELED);
}

ONE_WAY(connects_for_the_next_when_one_has_cancelled)
{
  borrower them[2];
  mb_cancellation *stop;
  open_with(s, "1", LONG);
  CHECK_INT(mb_cancellation_open(NULL, &stop, fresh(s)), MB_OK);
  td_stall(TD_CONNECT, 1, TD_UNTIL_ASKED);
  start(s, &them[0], borrow_shortly, stop);
  while (td_calls(TD_CONNECT) == 0)
    mb_sleep_ns(NS_PER_MS / 10);
  start(s, &them[1], borrow_shortly, NULL);
  await_waiting(s, 1);
  mb_cancellation_cancel(stop, NULL);
  end(&them[0]);
  end(&them[1]);
  CHECK_INT(them[0].error.class, MB_CANCELED);
  CHECK_INT(them[1].status, MB_OK);
  CHECK_INT(stats_of(s).failures, 0);
  mb_cancellation_close(stop);
}

ONE_WAY(stops_waiting_when_it_is_cancelled)
{
  borrower them[3];
  mb_cancellation *stop;
  open_with(s, "1", LONG);
  CHECK_INT(mb_cancellation_open(NULL, &stop, fresh(s)), MB_OK);
  mb_conn *conn = lend(s);
  turns = 0;
  for (int i = 0; i < 3; i++) {
    start(s, &them[i], borrow_shortly, i == 1 ? stop : NULL);
    await_waiting(s, i + 1);
  }
  mb_cancellation_cancel(stop, "enough");
  end(&them[1]);
  CHECK_INT(them[1].status, MB_ERROR);
  CHECK_INT(them[1].error.class, MB_CANCELED);
  CHECK(them[1].conn == NULL);
  CHECK(them[1].took_ns < 30 * NS_PER_SECOND);
  CHECK_INT(stats_of(s).waiting, 2);
  CHECK_INT(stats_of(s).timeouts, 0);
  /* The others keep their places. */
  mb_conn_release(conn);
  end(&them[0]);
  end(&them[2]);
  CHECK_INT(them[0].turn, 2);
  CHECK_INT(them[2].turn, 3);
  /* What is cancelled already gets nothing, and be it there. */
  const mb_call call = {.cancellation = stop};
  CHECK_INT(mb_pool_acquire(s->pool, &call, 0, &s->conn, fresh(s)), MB_ERROR);
  CHECK_INT(s->error->class, MB_CANCELED);
  CHECK(says(s, "enough"));
  mb_cancellation_close(stop);
}

ONE_WAY(leaves_the_queue_from_any_place)
{
  borrower them[3];
  mb_cancellation *stop;
  CHECK_INT(mb_cancellation_open(NULL, &stop, fresh(s)), MB_OK);
  open_with(s, "1", LONG);
  mb_conn *conn = lend(s);
  for (int i = 0; i < 3; i++) {
    start(s, &them[i], borrow, stop);
    await_waiting(s, i + 1);
  }
  mb_cancellation_cancel(stop, NULL);
  for (int i = 0; i < 3; i++) {
    end(&them[i]);
    CHECK_INT(them[i].error.class, MB_CANCELED);
  }
  CHECK_INT(stats_of(s).waiting, 0);
  start_waiting(s, them, 2, borrow_shortly);
  mb_conn_release(conn);
  end(&them[0]);
  end(&them[1]);
  CHECK_INT(them[1].status, MB_OK);
  mb_cancellation_close(stop);
}

/* --- Dropped by its borrower --------------------------------------------- */

EACH_WAY(cleans_what_was_dropped)
{
  mb_error error;
  open_with(s, "1", LONG);
  s->conn = lend(s);
  mb_conn_set_blocking(s->conn, s->blocking);
  CHECK_INT(run(s, "begin"), MB_DONE);
  CHECK_INT(run(s, "put 1"), MB_DONE);
  CHECK_INT(run(s, "rows 3"), MB_ROW);
  mb_conn *conn = s->conn;
  const long before = td_trips();
  mb_conn_drop(conn);
  mb_conn_drop(conn);
  mb_conn_release(conn);
  CHECK_INT(td_trips(), before);
  CHECK_INT(stats_of(s).in_use, 0);
  CHECK_INT(stats_of(s).idle, 0);
  CHECK(lend(s) == conn);
  CHECK_INT(mb_conn_transaction_state(conn), MB_TRANSACTION_NONE);
  CHECK_INT(execute(conn, "put 2", &error), MB_DONE);
  CHECK_INT(td_stored(), 1);
  s->conn = conn;
}

/* A dropped one is news for those who wait, whatever else is going on. */
ONE_WAY(tells_those_who_wait_of_a_dropped_one)
{
  borrower them[2];
  open_with(s, "2", "20");
  for (int i = 0; i < 100; i++) {
    mb_conn *first = lend(s);
    mb_conn *second = lend(s);
    start_waiting(s, them, 2, borrow);
    mb_conn_drop(first);
    mb_conn_release(second);
    for (int k = 0; k < 2; k++) {
      end(&them[k]);
      if (!CHECK_INT(them[k].status, MB_OK))
        abort();
    }
    mb_conn_release(them[0].conn);
    mb_conn_release(them[1].conn);
  }
  CHECK_INT(td_calls(TD_CONNECT), 2);
}

ONE_WAY(tells_the_next_when_the_first_has_left)
{
  borrower them[2];
  mb_cancellation *stop;
  CHECK_INT(mb_cancellation_open(NULL, &stop, fresh(s)), MB_OK);
  open_with(s, "1", "20");
  mb_conn *conn = lend(s);
  start(s, &them[0], borrow_shortly, stop);
  await_waiting(s, 1);
  start(s, &them[1], borrow_shortly, NULL);
  await_waiting(s, 2);
  mb_cancellation_cancel(stop, NULL);
  mb_conn_drop(conn);
  end(&them[0]);
  end(&them[1]);
  CHECK_INT(them[1].status, MB_OK);
  CHECK(them[1].took_ns < 15 * NS_PER_SECOND);
  mb_cancellation_close(stop);
}

/* --- Shutting ----------------------------------------------------------- */

ONE_WAY(shuts_while_others_borrow)
{
  borrower holds, waits;
  mb_error error;
  open_with(s, "2", LONG);
  mb_conn *own = lend(s);
  start(s, &holds, borrow, NULL);
  end(&holds);
  start_waiting(s, &waits, 1, borrow);
  const int64_t start_ns = mb_now_ns();
  mb_pool_shut(s->pool, 30 * NS_PER_MS);
  CHECK(mb_now_ns() - start_ns >= 30 * NS_PER_MS);
  CHECK(mb_now_ns() - start_ns < 20 * NS_PER_SECOND);
  CHECK(mb_pool_is_closed(s->pool));
  /* Who waited is told; what its own thread held is closed. */
  end(&waits);
  CHECK_INT(waits.status, MB_ERROR);
  CHECK_INT(waits.error.class, MB_USAGE);
  CHECK_INT(td_open_sessions(), 1);
  CHECK_INT(stats_of(s).size, 1);
  (void)own;
  /* Who still has one goes on, and gives it back to be closed. */
  CHECK_INT(execute(holds.conn, "put 1", &error), MB_DONE);
  CHECK_INT(lend_now(s), MB_ERROR);
  CHECK_INT(s->error->class, MB_USAGE);
  mb_conn_release(holds.conn);
  CHECK_INT(td_open_sessions(), 0);
  CHECK_INT(stats_of(s).size, 0);
  CHECK_INT(stats_of(s).closed, 2);
}

static void *release_later(void *argument)
{
  mb_sleep_ns(30 * NS_PER_MS);
  mb_conn_release(argument);
  return NULL;
}

ONE_WAY(waits_for_borrowers_before_it_is_shut)
{
  borrower holds;
  pthread_t thread;
  open_with(s, "2", LONG);
  start(s, &holds, borrow, NULL);
  end(&holds);
  if (pthread_create(&thread, NULL, release_later, holds.conn) != 0)
    abort();
  mb_pool_shut(s->pool, 60 * NS_PER_SECOND);
  CHECK_INT(td_open_sessions(), 0);
  (void)pthread_join(thread, NULL);
  mb_pool_shut(s->pool, 60 * NS_PER_SECOND);
}

ONE_WAY(lends_nothing_that_was_connected_too_late)
{
  borrower late;
  open_with(s, "1", LONG);
  td.waits = 40;
  td.wake = TD_BY_THREAD;
  start(s, &late, borrow, NULL);
  while (td_calls(TD_CONNECT) == 0)
    mb_sleep_ns(NS_PER_MS);
  mb_pool_shut(s->pool, 0);
  end(&late);
  CHECK_INT(late.status, MB_ERROR);
  CHECK_INT(late.error.class, MB_USAGE);
  CHECK_INT(td_open_sessions(), 0);
  CHECK_INT(stats_of(s).size, 0);
}

/* --- References --------------------------------------------------------- */

ONE_WAY(lives_as_long_as_somebody_refers_to_it)
{
  open_with(s, "2", LONG);
  mb_conn *conn = lend(s);
  mb_pool_ref(s->pool);
  mb_pool_ref(s->pool);
  mb_conn_release(conn);
  mb_pool_close(s->pool, 0);
  CHECK_INT(td_open_sessions(), 0);
  CHECK_INT(lend_now(s), MB_ERROR);
  CHECK_INT(s->error->class, MB_USAGE);
  CHECK_INT(stats_of(s).closed, 1);
  mb_pool_drop(s->pool);
  CHECK_INT(td_open_objects(), 1);
}

/* For finalizers: nothing is done before somebody has the time, who is not the
 * pool's own thread here. */
ONE_WAY(is_disposed_of_by_somebody_else)
{
  session other;
  const mb_option alone = {"sweep_interval", "0"};
  CHECK_INT(open_pool(s, NULL, &alone, 1), MB_OK);
  mb_conn *borrowed = lend(s);
  mb_conn_release(lend(s));
  mb_pool_drop(s->pool);
  CHECK_INT(td_open_sessions(), 2);
  mb_dispose();
  CHECK_INT(td_open_sessions(), 0);
  CHECK_INT(td_open_objects(), 0);
  (void)borrowed;

  s->pool = NULL;
  open_with(s, "2", LONG);
  td.pool = NULL;
  mb_conn_release(lend(s));
  mb_pool_drop(s->pool);
  other = (session){.blocking = true, .driver = td_driver()};
  CHECK_INT(open_pool(&other, NULL, NULL, 0), MB_OK);
  CHECK_INT(acquire(&other), MB_OK);
  CHECK_INT(td_open_sessions(), 1);
  s->pool = other.pool;
  s->conn = other.conn;
  free(other.error);
}

/* What it may not close is closed when its borrower gives it back. */
ONE_WAY(is_disposed_of_by_its_thread)
{
  open_with(s, "2", LONG);
  td.pool = NULL;
  mb_conn *borrowed = lend(s);
  mb_conn_release(lend(s));
  mb_pool_drop(s->pool);
  s->pool = NULL;
  for (int ms = 0; ms < 5000 && td_open_sessions() > 1; ms++)
    mb_sleep_ns(NS_PER_MS);
  CHECK_INT(td_open_sessions(), 1);
  mb_conn_release(borrowed);
  for (int ms = 0; ms < 5000 && td_open_objects() > 0; ms++)
    mb_sleep_ns(NS_PER_MS);
  CHECK_INT(td_open_objects(), 0);
}

static void *open_and_close(void *argument)
{
  mb_pool *pool;
  mb_error error;
  for (int i = 0; i < 20000; i++) {
    if (mb_pool_open(td_driver(), NULL, NULL, 0, &pool, &error) != MB_OK)
      abort();
    mb_pool_close(pool, 0);
  }
  return argument;
}

/* A pool that somebody closes is nobody else's to dispose of. */
ONE_WAY(disposes_only_of_what_was_dropped)
{
  pthread_t threads[2];
  mb_pool *pool;
  for (int i = 0; i < 2; i++)
    if (pthread_create(&threads[i], NULL, open_and_close, NULL) != 0)
      abort();
  for (int i = 0; i < 20000; i++) {
    CHECK_INT(mb_pool_open(s->driver, NULL, NULL, 0, &pool, fresh(s)), MB_OK);
    mb_pool_drop(pool);
    mb_dispose();
  }
  for (int i = 0; i < 2; i++)
    (void)pthread_join(threads[i], NULL);
  mb_dispose();
}

/* The memory of a pool without references goes with its last connection. */
ONE_WAY(outlives_its_references_while_it_is_borrowed)
{
  borrower holds;
  mb_error error;
  open_with(s, "2", LONG);
  td.pool = NULL;
  start(s, &holds, borrow, NULL);
  end(&holds);
  mb_pool_close(s->pool, 0);
  s->pool = NULL;
  CHECK_INT(execute(holds.conn, "put 1", &error), MB_DONE);
  mb_conn_release(holds.conn);
  CHECK_INT(td_open_objects(), 0);
}

/* --- Numbers ------------------------------------------------------------ */

ONE_WAY(counts)
{
  open_with(s, "3", LONG);
  mb_conn *first = lend(s);
  mb_conn *second = lend(s);
  mb_error error;
  CHECK_INT(execute(first, "put 1", &error), MB_DONE);
  CHECK_INT(execute(first, "put 1", &error), MB_DONE);
  CHECK_INT(execute(first, "put 2", &error), MB_DONE);
  mb_pool_stats stats = stats_of(s);
  CHECK_INT(stats.max, 3);
  CHECK_INT(stats.size, 2);
  CHECK_INT(stats.in_use, 2);
  CHECK_INT(stats.idle, 0);
  mb_conn_release(first);
  td_fail(TD_PING, 1, MB_CONNECTION_LOST, MB_CONNECTION_DEAD | MB_SESSION_ONLY);
  CHECK_INT(mb_conn_ping(second, NULL, &error), MB_ERROR);
  mb_conn_release(second);
  stats = stats_of(s);
  CHECK_INT(stats.size, 1);
  CHECK_INT(stats.idle, 1);
  CHECK_INT(stats.in_use, 0);
  CHECK_INT(stats.acquired, 2);
  CHECK_INT(stats.released, 2);
  CHECK_INT(stats.created, 2);
  CHECK_INT(stats.closed, 1);
  CHECK_INT(stats.cache_hits, 1);
  CHECK_INT(stats.cache_misses, 2);
  /* An idle one that has died is replaced. */
  td.validity = MB_DEAD;
  mb_conn *third = lend(s);
  td.validity = MB_ALIVE;
  stats = stats_of(s);
  CHECK_INT(stats.created, 3);
  CHECK_INT(stats.closed, 2);
  CHECK_INT(stats.acquired, 3);
  mb_conn_release(third);
  td.validity = MB_DEAD;
  td_fail(TD_CONNECT, 1, MB_CONNECTIVITY, 0);
  CHECK_INT(lend_now(s), MB_ERROR);
  stats = stats_of(s);
  CHECK_INT(stats.failures, 1);
  CHECK_INT(stats.size, 0);
  CHECK_INT(stats.acquired, stats.released);
  CHECK_INT(stats.created, stats.closed);
}

/* --- Forks -------------------------------------------------------------- */

/* What a child of the process sees; its own counters say what it did. */
static void be_child(session *s, mb_conn *lent, mb_stmt *running,
    mb_cursor *cursor, const mb_tx *tx)
{
  const mb_value *row;
  mb_error error;
  mb_stmt *stmt;
  mb_tx other;
  const long closed = td_calls(TD_CLOSE);
  const long trips = td_trips();
#define CHECK_REFUSED(call)           \
  do {                                \
    CHECK_INT(call, MB_ERROR);        \
    CHECK_INT(error.class, MB_USAGE); \
  } while (0)
  CHECK_REFUSED(mb_pool_acquire(s->pool, NULL, 0, &s->conn, &error));
  CHECK_REFUSED(mb_conn_statement(lent, "put 2", 5, 0, &stmt, &error));
  CHECK_REFUSED(mb_conn_ping(lent, NULL, &error));
  CHECK_REFUSED(mb_stmt_fetch(running, &row, &error));
  CHECK_REFUSED(mb_tx_begin(lent, tx, NULL, &other, &error));
  CHECK_REFUSED(mb_tx_commit(tx, &error));
  CHECK_REFUSED(mb_tx_rollback(tx, &error));
  mb_cursor_close(cursor);
  mb_conn_release(lent);
  CHECK_INT(stats_of(s).waiting, 0);
  mb_pool_shut(s->pool, 60 * NS_PER_SECOND);
  CHECK_INT(td_open_sessions(), 0);
  CHECK_INT(td_calls(TD_ABANDON), 3);
  CHECK_INT(td_calls(TD_CLOSE), closed);
  CHECK_INT(td_trips(), trips);
  td.pool = NULL;
  mb_pool_close(s->pool, 0);
  s->pool = NULL;
  s->conn = NULL;
  s->tx = NULL;

  CHECK_INT(open_pool(s, NULL, NULL, 0), MB_OK);
  CHECK_INT(acquire(s), MB_OK);
  CHECK_INT(run(s, "put 3"), MB_DONE);
  release(s);
  mb_pool_close(s->pool, 0);
  CHECK_INT(td_open_sessions(), 0);
  CHECK_INT(td_open_statements(), 0);
  CHECK_INT(td_breaches(), 0);
}

ONE_WAY(leaves_to_a_parent_what_is_its)
{
  borrower waits;
  mb_error error;
  mb_cursor cursor;
  mb_tx tx;
  int status = 0;
  open_with(s, "3", LONG);
  mb_conn *lent = lend(s);
  mb_conn *dropped = lend(s);
  mb_conn *last = lend(s);
  CHECK_INT(execute(last, "put 1", &error), MB_DONE);
  start_waiting(s, &waits, 1, borrow_shortly);
  s->conn = lent;
  CHECK_INT(begin(s, NULL, NULL, &tx), MB_OK);
  s->tx = &tx;
  CHECK_INT(run(s, "rows 3"), MB_ROW);
  mb_stmt *running = s->stmt;
  mb_cursor_open(&cursor, running);

  (void)fflush(NULL);
  const pid_t child = fork();
  if (child == 0) {
    mb_conn_release(dropped);
    be_child(s, lent, running, &cursor, &tx);
    _exit(check_failures > 0);
  }
  CHECK(child > 0);
  CHECK(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  /* The parent goes on as if nothing had been. */
  CHECK_INT(count_rest(s, running), 3);
  mb_cursor_close(&cursor);
  CHECK_INT(run(s, "put 4"), MB_DONE);
  CHECK_INT(commit(s, &tx), MB_OK);
  mb_conn_drop(dropped);
  end(&waits);
  CHECK_INT(waits.status, MB_OK);
  mb_conn_release(last);
  CHECK_INT(td_stored(), 2);
  CHECK_INT(td_calls(TD_ABANDON), 0);
}

/* --- Connecting ---------------------------------------------------------- */

/* After many failures, which nobody waited for, the pauses are long. */
ONE_WAY(tries_soon_for_who_comes_to_wait)
{
  open_with(s, "2", "30");
  const int64_t since_ns = mb_now_ns();
  s->pool->failures_in_row = 12;
  s->pool->next_attempt_ns = since_ns + 60 * NS_PER_SECOND;
  CHECK_INT(acquire(s), MB_OK);
  CHECK(mb_now_ns() < since_ns + 30 * NS_PER_SECOND);
}

EACH_WAY(connects_with_the_password_that_was_said_last)
{
  const mb_option options[] = {{"asks_password", "true"}, {"max", "2"}};
  td.password = "one";
  CHECK_INT(open_pool(s, NULL, options, 2), MB_OK);
  CHECK(mb_pool_needs_password(s->pool));
  CHECK_INT(acquire(s), MB_ERROR);
  CHECK_INT(s->error->class, MB_PERMISSION);
  CHECK_INT(mb_pool_set_password(s->pool, "one", s->error), MB_OK);
  CHECK_INT(acquire(s), MB_OK);
  CHECK(mb_pool_needs_password(s->pool));
  release(s);
  CHECK(!mb_pool_needs_password(s->pool));
  CHECK_INT(acquire(s), MB_OK);
  td_cut_off(s->conn, TD_CLOSED);
  release(s);
  td.password = "two";
  CHECK_INT(mb_pool_set_password(s->pool, "two", s->error), MB_OK);
  CHECK_INT(acquire(s), MB_OK);
  release(s);
}

static bool has_idle(session *s, int64_t n, int64_t limit_ms)
{
  for (int64_t ms = 0; ms < limit_ms && stats_of(s).idle != n; ms++)
    mb_sleep_ns(NS_PER_MS);
  return stats_of(s).idle == n;
}

/* Its thread cannot ask, so it connects with what it was told. */
EACH_WAY(does_not_guess_the_password)
{
  const mb_option options[] = {{"asks_password", "true"}, {"min_idle", "2"}};
  td.password = "two";
  CHECK_INT(open_pool(s, NULL, options, 2), MB_OK);
  CHECK(!has_idle(s, 2, 30));
  CHECK_INT(td_calls(TD_CONNECT), 0);
  CHECK_INT(mb_pool_set_password(s->pool, "one", s->error), MB_OK);
  for (int ms = 0; ms < 5000 && stats_of(s).failures == 0; ms++)
    mb_sleep_ns(NS_PER_MS);
  CHECK(!has_idle(s, 2, 30));
  CHECK_INT(td_calls(TD_CONNECT), 1);
  CHECK_INT(mb_pool_set_password(s->pool, "two", s->error), MB_OK);
  CHECK(has_idle(s, 2, 5000));
}

static const struct check_test tests[] = {
    CHECK_TEST(lends_what_was_used_last),
    CHECK_TEST(opens_no_more_than_allowed),
    CHECK_TEST(waits_for_a_while),
    CHECK_TEST(has_as_many_as_the_database_allows),
    CHECK_TEST(serves_first_who_waits_longest),
    CHECK_TEST(hands_over_nothing_that_has_died),
    CHECK_TEST(looks_at_a_connection_once_a_borrow),
    CHECK_TEST(lets_nobody_pass_those_who_wait),
    CHECK_TEST(tells_all_who_wait_when_there_is_no_connecting),
    CHECK_TEST(tells_all_who_wait_when_the_database_cancels),
    CHECK_TEST(connects_for_the_next_when_one_has_cancelled),
    CHECK_TEST(stops_waiting_when_it_is_cancelled),
    CHECK_TEST(leaves_the_queue_from_any_place),
    CHECK_TEST(cleans_what_was_dropped),
    CHECK_TEST(tells_those_who_wait_of_a_dropped_one),
    CHECK_TEST(tells_the_next_when_the_first_has_left),
    CHECK_TEST(shuts_while_others_borrow),
    CHECK_TEST(waits_for_borrowers_before_it_is_shut),
    CHECK_TEST(lends_nothing_that_was_connected_too_late),
    CHECK_TEST(lives_as_long_as_somebody_refers_to_it),
    CHECK_TEST(is_disposed_of_by_somebody_else),
    CHECK_TEST(is_disposed_of_by_its_thread),
    CHECK_TEST(disposes_only_of_what_was_dropped),
    CHECK_TEST(outlives_its_references_while_it_is_borrowed),
    CHECK_TEST(counts),
    CHECK_TEST(tries_soon_for_who_comes_to_wait),
    CHECK_TEST(connects_with_the_password_that_was_said_last),
    CHECK_TEST(does_not_guess_the_password),
    CHECK_TEST(leaves_to_a_parent_what_is_its),
};

int main(void)
{
  return CHECK_RUN(tests);
}
