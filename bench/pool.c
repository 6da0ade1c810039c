/*
 * pool.c: what a pool costs by itself: lending without a database.
 *
 *   pool locks N             locks and unlocks a mutex N times
 *   pool locks-12 N          12 times as often
 *   pool locks-12-poll N     and polls a socket each time
 *   pool flag N              borrows and gives back, with a driver whose
 *                            is_valid reads a flag
 *   pool socket N            whose is_valid polls a socket
 *   pool wait-alone N        2 threads, each with what it uses, that wait for
 *                            200 us, N times together
 *   pool wait N              8 threads with a pool of 2 connections do
 *   pool compute-alone N     the same, busy for 200 us
 *   pool compute N
 *
 * A process that has never had a second thread locks without atomic
 * instructions; so each case begins with one.
 */
#include "../src/moonbase.h"

#include "threads.h"

#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define HOLD_NS (200 * NS_PER_US)
#define N_BORROWERS 8
#define N_CONNECTIONS 2

/* --- A driver that only connects ---------------------------------------- */

static bool uses_socket;

struct mb_driver_conn {
  const mb_host *host;
  bool dead;
  int fds[2];
};

struct mb_driver_connector {
  const mb_host *host;
};

struct mb_driver_cancel {
  int unused;
};

static struct mb_driver_cancel only_cancel;

static const char *library_version(void)
{
  return "1";
}

static mb_status open_connector(const mb_host *host, const mb_option *options,
    size_t n, mb_driver_connector **out, mb_connector_info *info,
    mb_error *error)
{
  (void)options;
  (void)n;
  (void)error;
  *out = host->allocate(sizeof **out);
  bench_check(*out != NULL, "memory");
  (*out)->host = host;
  *info = (mb_connector_info){.url = "bench:"};
  return MB_OK;
}

static void close_connector(mb_driver_connector *connector)
{
  connector->host->release(connector);
}

static mb_status start_session(mb_driver_connector *connector,
    const mb_connect_args *args, mb_driver_conn **out, mb_op *op,
    mb_error *error)
{
  (void)args;
  (void)op;
  (void)error;
  mb_driver_conn *conn = connector->host->allocate(sizeof *conn);
  bench_check(conn != NULL, "memory");
  *conn = (mb_driver_conn){.host = connector->host, .fds = {-1, -1}};
  bench_check(
      !uses_socket || socketpair(AF_UNIX, SOCK_STREAM, 0, conn->fds) == 0,
      "socket");
  *out = conn;
  return MB_OK;
}

static void end_session(mb_driver_conn *conn, int64_t deadline_ns)
{
  (void)deadline_ns;
  for (int i = 0; i < 2; i++)
    if (conn->fds[i] >= 0)
      (void)close(conn->fds[i]);
  conn->host->release(conn);
}

static void abandon(mb_driver_conn *conn)
{
  (void)conn;
}

static mb_validity is_valid(mb_driver_conn *conn)
{
  struct pollfd asked = {.fd = conn->fds[0], .events = POLLIN};
  if (conn->dead)
    return MB_DEAD;
  return uses_socket && poll(&asked, 1, 0) != 0 ? MB_READABLE : MB_ALIVE;
}

static mb_status consume(mb_driver_conn *conn, mb_error *error)
{
  return conn->host->fail(error, MB_CONNECTION_LOST, "nobody writes here");
}

static const mb_capability *capability(mb_driver_conn *conn)
{
  static const mb_capability none = {.size = sizeof none};
  (void)conn;
  return &none;
}

static mb_transaction_state transaction_state(mb_driver_conn *conn)
{
  (void)conn;
  return MB_TRANSACTION_NONE;
}

static mb_driver_cancel *cancel_handle(mb_driver_conn *conn)
{
  (void)conn;
  return &only_cancel;
}

static mb_status cancel(mb_driver_cancel *handle, enum mb_cancel_level level,
    int64_t deadline_ns, mb_error *error)
{
  (void)handle;
  (void)level;
  (void)deadline_ns;
  (void)error;
  return MB_OK;
}

static void release_cancel(mb_driver_cancel *handle)
{
  (void)handle;
}

/* Nothing is run here. */
static mb_status prepare(mb_driver_conn *conn, const char *sql, size_t size,
    mb_driver_stmt **out, mb_prepared *prepared, mb_op *op, mb_error *error)
{
  (void)sql;
  (void)size;
  (void)out;
  (void)prepared;
  (void)op;
  return conn->host->fail(error, MB_UNSUPPORTED, "no statements");
}

static mb_status execute(mb_driver_stmt *stmt, const mb_value *params, size_t n,
    const mb_execute_options *options, mb_result *result, mb_op *op,
    mb_error *error)
{
  (void)stmt;
  (void)params;
  (void)n;
  (void)options;
  (void)result;
  (void)op;
  (void)error;
  return MB_ERROR;
}

static mb_status fetch(
    mb_driver_stmt *stmt, mb_value *row, mb_op *op, mb_error *error)
{
  (void)stmt;
  (void)row;
  (void)op;
  (void)error;
  return MB_ERROR;
}

static mb_status finish(
    mb_driver_stmt *stmt, mb_finish_mode mode, mb_op *op, mb_error *error)
{
  (void)stmt;
  (void)mode;
  (void)op;
  (void)error;
  return MB_ERROR;
}

static void close_statement(mb_driver_stmt *stmt)
{
  (void)stmt;
}

static mb_status exec_text(mb_driver_conn *conn, const char *sql, size_t size,
    mb_result *result, mb_op *op, mb_error *error)
{
  (void)sql;
  (void)size;
  (void)result;
  (void)op;
  return conn->host->fail(error, MB_UNSUPPORTED, "no statements");
}

static const char *const schemes[] = {"bench", NULL};
static const mb_option_spec no_options[] = {{.name = NULL}};

static const mb_driver driver = {
    .abi = MB_DRIVER_ABI,
    .size = sizeof(mb_driver),
    .name = "bench",
    .schemes = schemes,
    .database_name = "Bench",
    .library_version = library_version,
    .options = no_options,
    .open_connector = open_connector,
    .close_connector = close_connector,
    .connect = start_session,
    .close = end_session,
    .abandon = abandon,
    .is_valid = is_valid,
    .consume = consume,
    .capability = capability,
    .transaction_state = transaction_state,
    .prepare = prepare,
    .execute = execute,
    .fetch = fetch,
    .finish = finish,
    .close_statement = close_statement,
    .exec_text = exec_text,
    .cancel_handle = cancel_handle,
    .cancel = cancel,
    .release_cancel = release_cancel,
};

static mb_pool *pool;

static void open_pool(const char *max)
{
  const mb_option options[] = {{"max", max}};
  mb_error error;
  bench_check(mb_pool_open(&driver, NULL, options, 1, &pool, &error) == MB_OK,
      "a pool");
}

static mb_conn *borrow(void)
{
  mb_conn *conn;
  mb_error error;
  bench_check(
      mb_pool_acquire(pool, NULL, 0, &conn, &error) == MB_OK, "a connection");
  return conn;
}

/* --- Alone -------------------------------------------------------------- */

static void do_nothing(size_t number)
{
  (void)number;
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static volatile int64_t counter;

static void lock(int64_t n, int64_t times, bool polls)
{
  int fds[2];
  bench_check(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0, "socket");
  const meter from = meter_read();
  for (int64_t i = 0; i < n; i++) {
    for (int64_t k = 0; k < times; k++) {
      (void)pthread_mutex_lock(&mutex);
      counter++;
      (void)pthread_mutex_unlock(&mutex);
    }
    struct pollfd asked = {.fd = fds[0], .events = POLLIN};
    if (polls)
      bench_check(poll(&asked, 1, 0) == 0, "poll");
  }
  bench_report(from, (double)n);
}

static void borrow_alone(int64_t n)
{
  open_pool("10");
  mb_conn_release(borrow());
  const meter from = meter_read();
  for (int64_t i = 0; i < n; i++)
    mb_conn_release(borrow());
  bench_report(from, (double)n);
  mb_pool_close(pool, 0);
}

/* --- Together ----------------------------------------------------------- */

static bool computes;
static atomic_long left; /* how often something is still to be held */
static bench_times waits[N_BORROWERS];

static void hold(void)
{
  const int64_t until_ns = bench_now_ns() + HOLD_NS;
  const struct timespec pause = {.tv_nsec = HOLD_NS};
  if (!computes)
    (void)nanosleep(&pause, NULL);
  while (computes && bench_now_ns() < until_ns)
    counter = until_ns;
}

static void hold_own(size_t number)
{
  (void)number;
  while (atomic_fetch_sub(&left, 1) > 0)
    hold();
}

static void hold_borrowed(size_t number)
{
  while (atomic_fetch_sub(&left, 1) > 0) {
    const int64_t since_ns = bench_now_ns();
    mb_conn *conn = borrow();
    bench_times_add(&waits[number], bench_now_ns() - since_ns);
    hold();
    mb_conn_release(conn);
  }
}

static void share_alone(int64_t n)
{
  atomic_store(&left, n);
  bench_report(bench_run(N_CONNECTIONS, hold_own), (double)n);
}

static void share(int64_t n)
{
  open_pool("2");
  for (size_t i = 0; i < N_BORROWERS; i++)
    bench_times_open(&waits[i], (size_t)n);
  atomic_store(&left, n);
  bench_report(bench_run(N_BORROWERS, hold_borrowed), (double)n);
  const bench_times all = bench_times_join(waits, N_BORROWERS);
  bench_check(all.n == (size_t)n, "every borrow is counted");
  const double median_ns = bench_times_at(&all, 0.5);
  bench_figure("median_us", median_ns / 1e3);
  bench_figure("p999_by_median", bench_times_at(&all, 0.999) / median_ns);
  bench_figure("most_by_median", bench_times_at(&all, 1) / median_ns);
  mb_pool_close(pool, 0);
}

int main(int argc, char **argv)
{
  if (argc < 3)
    return 2;
  const char *what = argv[1];
  const int64_t n = strtoll(argv[argc - 1], NULL, 10);
  (void)bench_run(1, do_nothing);
  uses_socket = strcmp(what, "socket") == 0;
  computes = strncmp(what, "compute", 7) == 0;
  if (strcmp(what, "locks") == 0)
    lock(n, 1, false);
  else if (strcmp(what, "locks-12") == 0)
    lock(n, 12, false);
  else if (strcmp(what, "locks-12-poll") == 0)
    lock(n, 12, true);
  else if (strcmp(what, "flag") == 0 || uses_socket)
    borrow_alone(n);
  else if (strcmp(what, "wait-alone") == 0 ||
           strcmp(what, "compute-alone") == 0)
    share_alone(n);
  else if (strcmp(what, "wait") == 0 || computes)
    share(n);
  else
    return 2;
  printf("\n");
  return 0;
}
