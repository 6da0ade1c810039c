/*
 * blocking_test.c: drivers whose calls block and look at nothing: the thread
 * that ends their calls, and connects that are left alone.  What such a call
 * comes to is also part of every test that goes each way (session.h).
 */
#include "session.h"

#include <pthread.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../drivers/sqlite/driver.h"

#define TIMEOUT_MS 10
/* Time that a busy machine may take on top of what is promised. */
#define SLACK_MS 4000

/* Sanitizers have threads of their own, allow none in a child, or take what a
 * thread holds at the end for lost. */
#if defined(__SANITIZE_THREAD__)
#  define IS_WATCHED true
#  define N_WATCHERS 1
#elif defined(__SANITIZE_ADDRESS__)
#  define IS_WATCHED true
#  define N_WATCHERS 0
#else
#  define IS_WATCHED false
#  define N_WATCHERS 0
#endif

static const mb_call brief = {.timeout_ns = TIMEOUT_MS * NS_PER_MS};
static const mb_option impatient = {"cancel_grace", "0.01"};

static mb_settings *settings(const session *s)
{
  return (mb_settings *)mb_pool_settings(s->pool);
}

/* The threads of this process, without those of what watches it. */
static int count_own_threads(void)
{
  return count_threads() - N_WATCHERS;
}

/* A thread may take a moment to be gone. */
static bool are_threads(int n)
{
  for (int ms = 0; ms < SLACK_MS && count_own_threads() != n; ms++)
    mb_sleep_ns(NS_PER_MS);
  return count_own_threads() == n;
}

static mb_status put(session *s, int64_t number, const mb_call *call)
{
  const mb_value value = {.tag = MB_INT64, .as.integer = number};
  s->call = call;
  const mb_status status = run_with(s, "put ?", &value, 1);
  s->call = NULL;
  return status;
}

/* A value whose execute stalls, and is bounded alone. */
static mb_status put_stalled(session *s, int64_t number, td_until until)
{
  const long before = td_calls(TD_EXECUTE);
  mb_status status = MB_ERROR;
  CHECK_INT(put(s, number, NULL), MB_DONE);
  td_stall(TD_EXECUTE, 1, until);
  while (status == MB_ERROR && td_calls(TD_EXECUTE) == before + 1)
    status = put(s, number + 1, &brief);
  return status;
}

/* --- Threads ------------------------------------------------------------ */

/* First, since the thread that others need stays for a while. */
static void needs_no_thread_where_the_library_looks(void)
{
  const mb_option options[] = {{"timeout", "5"}, {"connect_timeout", "5"}};
  session s;
  session_open(&s);
  s.driver = mb_driver_sqlite();
  CHECK_INT(open_pool(&s, "sqlite::memory:", options, 2), MB_OK);
  CHECK_INT(acquire(&s), MB_OK);
  s.call = &brief;
  while (run(&s, "select 1") != MB_ROW)
    CHECK_INT(s.error->class, MB_TIMEOUT);
  CHECK_INT(mb_stmt_finish(s.stmt, s.error), MB_OK);
  CHECK_INT(count_own_threads(), 1);
  s.call = NULL;
  session_close(&s);
}

ONE_WAY(needs_no_thread_without_bounds)
{
  const mb_option forever = {"connect_timeout", "0"};
  td.deaf = true;
  connect_with(s, &forever, 1);
  CHECK_INT(put(s, 1, NULL), MB_DONE);
  CHECK_INT(count_own_threads(), 1);
}

ONE_WAY(needs_one_thread_for_all)
{
  const mb_option two = {"sweep_interval", "0"};
  const mb_call call = {.timeout_ns = 60000 * NS_PER_MS};
  mb_conn *other;
  td.deaf = true;
  connect_with(s, &two, 1);
  CHECK(are_threads(1)); /* the one that has connected is gone */
  CHECK_INT(put(s, 1, &call), MB_DONE);
  CHECK_INT(count_own_threads(), 2);
  CHECK_INT(mb_pool_acquire(s->pool, NULL, 0, &other, fresh(s)), MB_OK);
  CHECK_INT(mb_conn_ping(other, &call, fresh(s)), MB_OK);
  CHECK(are_threads(2));
  mb_conn_release(other);
}

/* --- Calls -------------------------------------------------------------- */

ONE_WAY(is_dead_only_when_its_socket_was_shut)
{
  const mb_option patient = {"cancel_grace", "60"};
  td.deaf = true;
  connect_with(s, &patient, 1);
  CHECK_INT(put_stalled(s, 1, TD_UNTIL_ASKED), MB_ERROR);
  CHECK_INT(s->error->class, MB_TIMEOUT);
  CHECK(!flags(s, MB_CONNECTION_DEAD));
  CHECK_INT(td_calls(TD_CANCEL_SOCKET), 0);
  CHECK_INT(put(s, 3, NULL), MB_DONE);
  CHECK_INT(td_calls(TD_CONNECT), 1);

  settings(s)->cancel_grace_ns = NS_PER_MS;
  CHECK_INT(put_stalled(s, 5, TD_UNTIL_SHUT), MB_ERROR);
  CHECK_INT(s->error->class, MB_TIMEOUT);
  CHECK_INT(
      flags(s, MB_CONNECTION_DEAD | MB_SENT), MB_CONNECTION_DEAD | MB_SENT);
  CHECK_INT(td_calls(TD_CANCEL_SOCKET), 1);
  CHECK(!td_is_stored(6));
}

/* What was done before its socket was shut is done, and the connection is
 * lost. */
ONE_WAY(takes_an_answer_that_comes_with_the_end)
{
  td.deaf = true;
  connect_with(s, &impatient, 1);
  CHECK_INT(put(s, 1, NULL), MB_DONE);
  td_fault_add((td_fault){
      .slot = TD_EXECUTE, .nth = 1, .stall = TD_UNTIL_SHUT, .ends_well = true});
  mb_status status = MB_ERROR;
  while (
      status == MB_ERROR && !td_is_stored(2) && td_calls(TD_CANCEL_SOCKET) == 0)
    status = put(s, 2, &brief);
  CHECK_INT(status, MB_DONE);
  CHECK(td_is_stored(2));
  CHECK_INT(put(s, 3, NULL), MB_ERROR);
  CHECK_INT(s->error->class, MB_CONNECTION_LOST);
}

/* Each call has an alarm of its own: a late one would meet the next. */
ONE_WAY(leaves_alone_what_ends_in_time)
{
  enum { ROUNDS = 300 };
  int64_t late = 0;
  td.deaf = true;
  connect_with(s, NULL, 0);
  CHECK_INT(put(s, 1000, NULL), MB_DONE);
  td.waits = 1;
  for (int i = 0; i < ROUNDS; i++) {
    const mb_call close_call = {
        .timeout_ns = NS_PER_MS + i % 7 * NS_PER_MS / 8};
    const mb_status status = put(s, i, &close_call);
    if (status == MB_ERROR) {
      CHECK_INT(s->error->class, MB_TIMEOUT);
      late++;
    }
    CHECK(td_is_stored(i) == (status == MB_DONE));
    CHECK_INT(put(s, 2000 + i, NULL), MB_DONE);
  }
  CHECK(late <= ROUNDS);
  CHECK_INT(td_calls(TD_CONNECT), 1);
  CHECK_INT(td_calls(TD_CANCEL_SOCKET), 0);
}

enum { USERS = 6, CALLS = 25 };

typedef struct user {
  pthread_t thread;
  mb_pool *pool;
  int number;
  int64_t done, timeouts, others;
} user;

/* Calls of which some stall, whoever makes them. */
static void *use(void *argument)
{
  user *u = argument;
  for (int i = 0; i < CALLS; i++) {
    mb_conn *conn;
    mb_stmt *stmt;
    mb_error error;
    if (i % 3 == u->number % 3)
      td_stall(TD_EXECUTE, 1, i % 2 == 0 ? TD_UNTIL_ASKED : TD_UNTIL_SHUT);
    mb_status status = mb_pool_acquire(u->pool, NULL, 0, &conn, &error);
    if (!CHECK_INT(status, MB_OK))
      break;
    status = mb_conn_statement(conn, "put 1", 5, 0, &stmt, &error);
    if (status == MB_OK)
      status = mb_stmt_run(&stmt, NULL, NULL, 0, &brief, &error);
    u->done += status == MB_DONE;
    u->timeouts += status == MB_ERROR && error.class == MB_TIMEOUT;
    u->others += status == MB_ERROR && error.class != MB_TIMEOUT;
    mb_conn_release(conn);
  }
  return NULL;
}

ONE_WAY(looks_after_many_at_once)
{
  user users[USERS];
  int64_t done = 0;
  const mb_option options[] = {impatient, {"max", "6"}};
  td.deaf = true;
  CHECK_INT(open_pool(s, NULL, options, 2), MB_OK);
  for (int i = 0; i < USERS; i++) {
    users[i] = (user){.pool = s->pool, .number = i};
    if (pthread_create(&users[i].thread, NULL, use, &users[i]) != 0)
      abort();
  }
  for (int i = 0; i < USERS; i++) {
    (void)pthread_join(users[i].thread, NULL);
    CHECK_INT(users[i].done + users[i].timeouts, CALLS);
    CHECK_INT(users[i].others, 0);
    done += users[i].done;
  }
  td_forgive();
  CHECK_INT(td_stored(), done);
  CHECK_INT(acquire(s), MB_OK);
  CHECK_INT(put(s, 7, NULL), MB_DONE);
}

/* --- Connecting --------------------------------------------------------- */

ONE_WAY(leaves_a_connect_that_hangs)
{
  td.deaf = true;
  td.connect_hangs = true;
  CHECK_INT(open_pool(s, NULL, NULL, 0), MB_OK);
  settings(s)->connect_timeout_ns = brief.timeout_ns;
  const int64_t start_ns = mb_now_ns();
  CHECK_INT(acquire(s), MB_ERROR);
  CHECK(mb_now_ns() - start_ns >= TIMEOUT_MS * NS_PER_MS);
  CHECK(mb_now_ns() - start_ns < (TIMEOUT_MS + SLACK_MS) * NS_PER_MS);
  CHECK_INT(s->error->class, MB_CONNECTIVITY);
  CHECK(flags(s, MB_TIMED_OUT));
  CHECK(says(s, "could not connect in time"));
  /* It goes on, also when its pool has gone. */
  mb_pool_close(s->pool, 0);
  s->pool = NULL;
  CHECK(is_called(TD_CONNECT, 1));
  CHECK_INT(td_open_sessions(), 1);
  td_unhang();
  CHECK(are_closed());
}

ONE_WAY(tells_what_a_connect_came_to)
{
  td.deaf = true;
  CHECK_INT(open_pool(s, NULL, NULL, 0), MB_OK);
  td_fail(TD_CONNECT, 1, MB_PERMISSION, 0);
  CHECK_INT(acquire(s), MB_ERROR);
  CHECK_INT(s->error->class, MB_PERMISSION);
  CHECK(says(s, "fault in connect"));
  CHECK(are_closed());
  CHECK_INT(acquire(s), MB_OK);
  CHECK_INT(put(s, 1, NULL), MB_DONE);
}

/* Its own copy, since the attempt may outlive the one who wanted it. */
ONE_WAY(takes_the_password_along)
{
  const mb_option asks = {"asks_password", "true"};
  char password[] = "one";
  td.deaf = true;
  td.password = "one";
  td.connect_hangs = true;
  CHECK_INT(open_pool(s, NULL, &asks, 1), MB_OK);
  CHECK_INT(mb_pool_set_password(s->pool, password, fresh(s)), MB_OK);
  settings(s)->connect_timeout_ns = brief.timeout_ns;
  CHECK_INT(acquire(s), MB_ERROR);
  memset(password, 'x', sizeof password - 1);
  CHECK_INT(mb_pool_set_password(s->pool, "one", fresh(s)), MB_OK);
  td_unhang();
  CHECK(are_closed());
  settings(s)->connect_timeout_ns = 60000 * NS_PER_MS;
  CHECK_INT(acquire(s), MB_OK);
}

ONE_WAY(says_that_it_has_no_descriptor)
{
  enum { MOST = 256 };
  struct rlimit before;
  int fds[MOST];
  int n = 0;
  td.deaf = true;
  CHECK_INT(open_pool(s, NULL, NULL, 0), MB_OK);
  CHECK_INT(getrlimit(RLIMIT_NOFILE, &before), 0);
  const struct rlimit few = {.rlim_cur = MOST, .rlim_max = before.rlim_max};
  CHECK_INT(setrlimit(RLIMIT_NOFILE, &few), 0);
  while (n < MOST && (fds[n] = dup(2)) >= 0)
    n++;
  CHECK_INT(acquire(s), MB_ERROR);
  CHECK_INT(s->error->class, MB_RESOURCE);
  CHECK(says(s, "no file descriptor"));
  while (n > 0)
    (void)close(fds[--n]);
  CHECK_INT(setrlimit(RLIMIT_NOFILE, &before), 0);
  CHECK_INT(acquire(s), MB_OK);
}

static mb_status wait_instead(mb_driver_connector *connector,
    const mb_connect_args *args, mb_driver_conn **out, mb_op *op,
    mb_error *error)
{
  const mb_status status =
      td_driver()->connect(connector, args, out, op, error);
  return status == MB_DONE ? MB_WAIT : status;
}

ONE_WAY(does_not_believe_a_driver_that_waits_all_the_same)
{
  static mb_driver driver;
  driver = *td_driver();
  driver.connect = wait_instead;
  s->driver = &driver;
  td.deaf = true;
  CHECK_INT(open_pool(s, NULL, NULL, 0), MB_OK);
  CHECK_INT(acquire(s), MB_ERROR);
  CHECK_INT(s->error->class, MB_DRIVER_FAULT);
  CHECK(are_closed());
}

/* --- Processes ---------------------------------------------------------- */

/* What a child says with its status, within a time; -1: it does not end. */
static int status_of(pid_t child)
{
  int status;
  for (int ms = 0; ms < SLACK_MS; ms++) {
    if (waitpid(child, &status, WNOHANG) == child)
      return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    mb_sleep_ns(NS_PER_MS);
  }
  (void)kill(child, SIGKILL);
  (void)waitpid(child, &status, 0);
  return -1;
}

/* The child has no thread that looks after it until it needs one. */
ONE_WAY(looks_after_a_child_too)
{
  const mb_call call = {.timeout_ns = 60000 * NS_PER_MS};
  if (IS_WATCHED)
    return;
  td.deaf = true;
  connect_with(s, &impatient, 1);
  CHECK_INT(put(s, 1, &call), MB_DONE);
  release(s);
  const pid_t child = fork();
  if (child == 0) {
    session own = {.blocking = true, .driver = td_driver()};
    bool good = open_pool(&own, NULL, &impatient, 1) == MB_OK &&
                acquire(&own) == MB_OK &&
                put_stalled(&own, 1, TD_UNTIL_SHUT) == MB_ERROR &&
                own.error->class == MB_TIMEOUT;
    _exit(good ? 0 : 1);
  }
  CHECK_INT(status_of(child), 0);
  CHECK_INT(acquire(s), MB_OK);
  CHECK_INT(put(s, 2, &call), MB_DONE);
}

/* A connect that was left does not hold the end up. */
ONE_WAY(ends_while_a_connect_hangs)
{
  if (IS_WATCHED)
    return;
  td.deaf = true;
  td.connect_hangs = true;
  CHECK_INT(open_pool(s, NULL, NULL, 0), MB_OK);
  const pid_t child = fork();
  if (child == 0) {
    session own = {.blocking = true, .driver = td_driver()};
    if (open_pool(&own, NULL, NULL, 0) == MB_OK) {
      settings(&own)->connect_timeout_ns = brief.timeout_ns;
      exit(acquire(&own) == MB_ERROR && is_called(TD_CONNECT, 1) ? 0 : 1);
    }
    _exit(2);
  }
  CHECK_INT(status_of(child), 0);
  td_unhang();
}

static const struct check_test tests[] = {
    CHECK_TEST(needs_no_thread_where_the_library_looks),
    CHECK_TEST(needs_no_thread_without_bounds),
    CHECK_TEST(needs_one_thread_for_all),
    CHECK_TEST(is_dead_only_when_its_socket_was_shut),
    CHECK_TEST(takes_an_answer_that_comes_with_the_end),
    CHECK_TEST(leaves_alone_what_ends_in_time),
    CHECK_TEST(looks_after_many_at_once),
    CHECK_TEST(leaves_a_connect_that_hangs),
    CHECK_TEST(tells_what_a_connect_came_to),
    CHECK_TEST(takes_the_password_along),
    CHECK_TEST(says_that_it_has_no_descriptor),
    CHECK_TEST(does_not_believe_a_driver_that_waits_all_the_same),
    CHECK_TEST(looks_after_a_child_too),
    CHECK_TEST(ends_while_a_connect_hangs),
};

static void *end(void *unused)
{
  return unused;
}

int main(void)
{
  pthread_t first;
  /* Those who watch begin with the first thread. */
  if (pthread_create(&first, NULL, end, NULL) != 0 ||
      pthread_join(first, NULL) != 0 || !are_threads(1))
    return 1;
  return CHECK_RUN(tests);
}
