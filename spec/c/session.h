/*
 * session.h: tests over one connection of the test driver, each in every way in
 * which its calls may come to their end: at once, by waiting inside the call,
 * and by MB_WAIT and mb_conn_resume.
 *
 *   EACH_WAY(counts_affected_rows)
 *   {
 *     connect(s);
 *     CHECK_INT(run(s, "affected 3"), MB_DONE);
 *     CHECK_INT(mb_stmt_result(s->stmt)->affected, 3);
 *   }
 *
 * Whatever a test leaves is given back and closed; then nothing may be open any
 * more, and the core must have kept all its promises.
 */
#ifndef MB_SPEC_SESSION_H
#define MB_SPEC_SESSION_H

#include "../../drivers/fault/driver.h"
#include "check.h"
#include "test_driver.h"

#include <dirent.h>
#include <poll.h>

#define NS_PER_MS INT64_C(1000000)

typedef struct session {
  bool blocking;
  const mb_driver *driver;
  mb_pool *pool;
  mb_conn *conn;
  mb_stmt *stmt;       /* of the last run */
  const mb_tx *tx;     /* where statements run; NULL: directly */
  const mb_call *call; /* their bounds; NULL: none */
  mb_error *error;     /* of the last call that failed */
} session;

/* --- Opening and closing ------------------------------------------------ */

static inline mb_error *fresh(session *s)
{
  free(s->error);
  s->error = td_new_error();
  return s->error;
}

static inline mb_status open_pool(
    session *s, const char *url, const mb_option *options, size_t n)
{
  return mb_pool_open(s->driver, url, options, n, &s->pool, fresh(s));
}

static inline mb_status acquire(session *s)
{
  const mb_status status =
      mb_pool_acquire(s->pool, NULL, 0, &s->conn, fresh(s));
  if (status == MB_OK)
    mb_conn_set_blocking(s->conn, s->blocking);
  return status;
}

/* A pool with these options, and a connection of it. */
static inline void connect_with(session *s, const mb_option *options, size_t n)
{
  if (!CHECK_INT(open_pool(s, NULL, options, n), MB_OK) ||
      !CHECK_INT(acquire(s), MB_OK))
    abort();
}

static inline void connect(session *s)
{
  connect_with(s, NULL, 0);
}

static inline void release(session *s)
{
  mb_conn_release(s->conn);
  s->conn = NULL;
  s->stmt = NULL;
  s->tx = NULL;
}

/* True when every session has been closed, if need be by the thread that was
 * left alone with it. */
static inline bool are_closed(void)
{
  for (int ms = 0; ms < 5000 && td.deaf && td_open_sessions() > 0; ms++)
    mb_sleep_ns(NS_PER_MS);
  return td_open_sessions() == 0;
}

/* With MB_FAULT in the environment the fault driver stands around the test
 * driver, and nobody may notice that. */
static inline const mb_driver *session_driver(void)
{
  return getenv("MB_FAULT") != NULL ? mb_driver_fault(td_driver())
                                    : td_driver();
}

/* Waits until a slot has been called n times, by whatever thread; false: it
 * takes too long. */
static inline bool is_called(td_slot slot, long n)
{
  for (int ms = 0; ms < 5000 && td_calls(slot) < n; ms++)
    mb_sleep_ns(NS_PER_MS);
  return td_calls(slot) == n;
}

static inline void session_open(session *s)
{
  *s = (session){.blocking = true, .driver = session_driver()};
  td_reset();
}

static inline void session_close(session *s)
{
  if (s->conn != NULL)
    mb_conn_release(s->conn);
  mb_pool_close(s->pool, 0);
  free(s->error);
  /* A request to cancel that nobody waits for may outlive its connection. */
  for (int ms = 0; ms < 5000 && td_open_objects() > 0; ms++)
    mb_sleep_ns(NS_PER_MS);
  CHECK_INT(td_open_sessions(), 0);
  CHECK_INT(td_open_statements(), 0);
  CHECK_INT(td_open_objects(), 0);
  CHECK_INT(td_breaches(), 0);
}

/* --- Calls, driven to their end ----------------------------------------- */

static inline mb_status drive(session *s, mb_status status)
{
  return td_drive(s->conn, status, &s->error);
}

static inline mb_status run_with(
    session *s, const char *sql, const mb_value *params, size_t n)
{
  if (mb_conn_statement(s->conn, sql, strlen(sql), 0, &s->stmt, fresh(s)) !=
      MB_OK)
    return MB_ERROR;
  return drive(s, mb_stmt_run(&s->stmt, s->tx, params, n, s->call, s->error));
}

static inline mb_status run(session *s, const char *sql)
{
  return run_with(s, sql, NULL, 0);
}

static inline mb_status fetch(session *s, mb_stmt *stmt, const mb_value **row)
{
  return drive(s, mb_stmt_fetch(stmt, row, fresh(s)));
}

static inline mb_status finish(session *s, mb_stmt *stmt)
{
  return drive(s, mb_stmt_finish(stmt, fresh(s)));
}

/* Fetches to the end and counts; -1: an error. */
static inline int64_t count_rest(session *s, mb_stmt *stmt)
{
  const mb_value *row;
  int64_t n = 0;
  mb_status status;
  while ((status = fetch(s, stmt, &row)) == MB_ROW)
    n++;
  return status == MB_DONE ? n : -1;
}

/* Runs a text and counts its rows. */
static inline int64_t count_rows(session *s, const char *sql)
{
  const mb_status status = run(s, sql);
  return status == MB_ROW ? count_rest(s, s->stmt) : status == MB_DONE ? 0 : -1;
}

/* The one integer that a text gives; -1: none. */
static inline int64_t one_value(session *s, const char *sql)
{
  const mb_value *row;
  if (run(s, sql) != MB_ROW || fetch(s, s->stmt, &row) != MB_ROW)
    return -1;
  const int64_t value = row[0].as.integer;
  return finish(s, s->stmt) == MB_OK ? value : -1;
}

static inline mb_status begin(
    session *s, const mb_tx *parent, const mb_tx_options *options, mb_tx *out)
{
  return drive(s, mb_tx_begin(s->conn, parent, options, out, fresh(s)));
}

static inline mb_status commit(session *s, const mb_tx *tx)
{
  return drive(s, mb_tx_commit(tx, fresh(s)));
}

static inline mb_status rollback(session *s, const mb_tx *tx)
{
  return drive(s, mb_tx_rollback(tx, fresh(s)));
}

/* True when the message of the last error has a text in it. */
static inline bool says(const session *s, const char *text)
{
  char message[MB_ERROR_ROOM + 1];
  size_t size;
  const char *found = mb_error_text(s->error, MB_MESSAGE, &size);
  if (found == NULL)
    return false;
  memcpy(message, found, size);
  message[size] = '\0';
  if (strstr(message, text) == NULL)
    (void)fprintf(stderr, "the message is: %s\n", message);
  return strstr(message, text) != NULL;
}

/* The flags of the last error that are among these. */
static inline unsigned flags(const session *s, unsigned among)
{
  return s->error->flags & among;
}

/* --- Pools -------------------------------------------------------------- */

/* Longer than anything takes, on any machine. */
#define LONG "60"

static inline mb_pool_stats stats_of(const session *s)
{
  mb_pool_stats stats;
  mb_pool_stats_read(s->pool, &stats);
  return stats;
}

/* A pool whose lock no call of the driver may find held. */
static inline void open_with(
    session *s, const char *max, const char *acquire_timeout)
{
  const mb_option options[] = {
      {"max", max}, {"acquire_timeout", acquire_timeout}};
  if (!CHECK_INT(open_pool(s, NULL, options, 2), MB_OK))
    abort();
  td.pool = s->pool;
}

/* Runs a text on a connection of the pool, in the calling thread. */
static inline mb_status execute(mb_conn *conn, const char *sql, mb_error *error)
{
  mb_stmt *stmt;
  if (mb_conn_statement(conn, sql, strlen(sql), 0, &stmt, error) != MB_OK)
    return MB_ERROR;
  return mb_stmt_run(&stmt, NULL, NULL, 0, NULL, error);
}

/* The threads of this process, with those of what watches it. */
static inline int count_threads(void)
{
  int n = 0;
  DIR *tasks = opendir("/proc/self/task");
  if (tasks == NULL)
    abort();
  for (const struct dirent *one; (one = readdir(tasks)) != NULL;)
    n += one->d_name[0] != '.';
  (void)closedir(tasks);
  return n;
}

/* --- Ways --------------------------------------------------------------- */

typedef struct session_way {
  const char *name;
  bool blocking, blocks, deaf;
  int waits;
  td_wake wake;
  bool in_loop;
} session_way;

/* One test on a fiber. */
typedef struct session_task {
  void (*test)(session *s);
  session *session;
} session_task;

static inline void session_work(void *argument)
{
  const session_task *task = argument;
  task->test(task->session);
}

static inline mb_fiber *open_fiber(void)
{
  mb_error error;
  mb_fiber *fiber;
  if (mb_fiber_open(&fiber, &error) != MB_OK)
    abort();
  return fiber;
}

/* Waits as an event loop would. */
static inline void session_wait_for(const mb_fiber *fiber)
{
  mb_wait wait;
  mb_fiber_waits_for(fiber, &wait);
  struct pollfd fd = {.fd = wait.fd};
  if (wait.events & MB_READABLE_FD)
    fd.events |= POLLIN;
  if (wait.events & MB_WRITABLE_FD)
    fd.events |= POLLOUT;
  const int64_t left_ns = wait.deadline_ns - mb_now_ns();
  (void)poll(&fd, 1,
      wait.deadline_ns == MB_NEVER ? -1
      : left_ns <= 0               ? 0
                                   : (int)(left_ns / NS_PER_MS) + 1);
}

static inline void session_in_loop(void (*test)(session *s), session *s)
{
  session_task task = {test, s};
  mb_fiber *fiber = open_fiber();
  for (bool ended = mb_fiber_start(fiber, session_work, &task); !ended;
       ended = mb_fiber_resume(fiber))
    session_wait_for(fiber);
  mb_fiber_close(fiber);
}

static inline void session_each_way(void (*test)(session *s))
{
  static const session_way ways[] = {
      {"at once", true, true, false, 0, TD_BY_DATA, false},
      {"at once, deaf", true, false, true, 0, TD_BY_DATA, false},
      {"blocking", true, false, false, 2, TD_BY_DATA, false},
      {"blocking, slowly", true, false, false, 1, TD_BY_THREAD, false},
      {"non-blocking, at once", false, false, false, 0, TD_BY_DATA, false},
      {"non-blocking", false, false, false, 1, TD_BY_DATA, false},
      {"non-blocking, by deadlines", false, false, false, 2, TD_BY_DEADLINE,
          false},
      {"in a loop", true, false, false, 1, TD_BY_DATA, true},
      {"in a loop, elsewhere", true, true, false, 0, TD_BY_DATA, true},
      {"in a loop, deaf", true, false, true, 0, TD_BY_DATA, true},
  };
  const char *name = check_name;
  char full[256];
  check_name = full;
  for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
    session s;
    (void)snprintf(full, sizeof full, "%s, %s", name, ways[i].name);
    session_open(&s);
    s.blocking = ways[i].blocking;
    td.blocks = ways[i].blocks;
    td.deaf = ways[i].deaf;
    td.waits = ways[i].waits;
    td.wake = ways[i].wake;
    if (ways[i].in_loop)
      session_in_loop(test, &s);
    else
      test(&s);
    session_close(&s);
  }
  check_name = name;
}

#define EACH_WAY(name)                 \
  static void name##_once(session *s); \
  static void name(void)               \
  {                                    \
    session_each_way(name##_once);     \
  }                                    \
  static void name##_once(session *s)

/* One way is enough: blocking, at once. */
#define ONE_WAY(name)                  \
  static void name##_once(session *s); \
  static void name(void)               \
  {                                    \
    session s;                         \
    session_open(&s);                  \
    name##_once(&s);                   \
    session_close(&s);                 \
  }                                    \
  static void name##_once(session *s)

#endif
