/*
 * resolve_test.c: names of hosts, looked up beside those who wait for them.
 */
#include "session.h"

#include "../../src/core/resolve.h"
#include "name_server.h"

#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define TIMEOUT_MS 20
/* Time that a busy machine may take on top of what is promised. */
#define SLACK_MS 4000

/* Sanitizers allow no threads in a child. */
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#  define IS_WATCHED true
#else
#  define IS_WATCHED false
#endif

/* --- Memory ------------------------------------------------------------- */

static atomic_long n_allocations, n_held;
static atomic_long fails_at = LONG_MAX; /* and from there on */

static void *allocate(size_t size)
{
  if (atomic_fetch_add(&n_allocations, 1) >= atomic_load(&fails_at))
    return NULL;
  void *made = malloc(size);
  (void)atomic_fetch_add(&n_held, made != NULL);
  return made;
}

static void *reallocate(void *memory, size_t size)
{
  if (memory == NULL)
    return allocate(size);
  if (atomic_fetch_add(&n_allocations, 1) >= atomic_load(&fails_at))
    return NULL;
  return realloc(memory, size);
}

static void release_memory(void *memory)
{
  (void)atomic_fetch_sub(&n_held, memory != NULL);
  free(memory);
}

/* --- By themselves ------------------------------------------------------ */

static mb_op op_within(int64_t timeout_ns)
{
  return (mb_op){.bounded = true,
      .deadline_ns = timeout_ns > 0 ? mb_now_ns() + timeout_ns : MB_NEVER};
}

/* Waits as anybody would. */
static mb_status resolve(mb__lookups *lookups, const char *const *names,
    size_t n, mb_op *op, mb_error *error)
{
  mb_status status = mb__lookups_start(lookups, names, n, false, op, error);
  while (status == MB_WAIT) {
    struct pollfd fd = {.fd = op->wait.fd, .events = POLLIN};
    int64_t until_ns = op->wait.deadline_ns;
    CHECK_INT(op->wait.events, MB_READABLE_FD);
    CHECK_INT(op->wait.flags, MB_WAIT_IDLE);
    if (op->deadline_ns < until_ns)
      until_ns = op->deadline_ns;
    const int64_t left_ns = until_ns - mb_now_ns();
    (void)poll(&fd, 1,
        until_ns == MB_NEVER ? -1
        : left_ns > 0        ? (int)(left_ns / NS_PER_MS + 1)
                             : 0);
    status = mb__lookups_resume(lookups, op, error);
  }
  return status;
}

static bool error_says(const mb_error *error, const char *text)
{
  const session s = {.error = (mb_error *)error};
  return says(&s, text);
}

static bool error_ends_with(const mb_error *error, const char *text)
{
  size_t size;
  const char *message = mb_error_text(error, MB_MESSAGE, &size);
  const size_t n = strlen(text);
  return size >= n && memcmp(message + size - n, text, n) == 0;
}

static void finds_at_once_what_is_no_name(void)
{
  static const char *const names[] = {
      NULL, "127.0.0.1", "::1", "fe80::1%lo", "127.1"};
  mb__lookups lookups;
  mb_error error;
  mb_op op = op_within(0);
  CHECK_INT(mb__lookups_start(&lookups, names, 5, false, &op, &error), MB_DONE);
  for (size_t i = 1; i < 5; i++)
    CHECK_INT(name_server_count(names[i]), 0);
  if (CHECK_INT(lookups.n_addresses, 4)) {
    CHECK_INT(lookups.addresses[0].lookup, 1);
    CHECK_STRING(lookups.addresses[0].text, "127.0.0.1");
    CHECK_STRING(lookups.addresses[1].text, "::1");
    CHECK_STRING(lookups.addresses[2].text, "fe80::1%lo");
    CHECK_INT(lookups.addresses[3].lookup, 4);
    CHECK_STRING(lookups.addresses[3].text, "127.0.0.1");
  }
  mb__lookups_free(&lookups);
  mb__lookups_free(&lookups);
  CHECK_INT(mb__lookups_start(&lookups, NULL, 0, false, &op, &error), MB_DONE);
  mb__lookups_free(&lookups);
  CHECK_INT(n_held, 0);
}

static void finds_names(void)
{
  static const char *const names[] = {"one.test", NULL, "two.test"};
  mb__lookups lookups;
  mb_error error;
  mb_op op = op_within(60000 * NS_PER_MS);
  CHECK_INT(resolve(&lookups, names, 3, &op, &error), MB_DONE);
  CHECK(lookups.n_addresses > 2 && lookups.n_addresses % 2 == 0);
  for (size_t i = 0; i < lookups.n_addresses; i++) {
    CHECK_INT(lookups.addresses[i].lookup, i < lookups.n_addresses / 2 ? 0 : 2);
    CHECK_STRING(lookups.addresses[i].text, "127.0.0.9");
  }
  mb__lookups_free(&lookups);
}

/* By the system's own functions. */
static void finds_what_the_system_knows(void)
{
  static const char *const localhost[] = {"localhost"};
  static const char *const none[] = {"no-such-host.invalid"};
  mb__lookups lookups;
  mb_error error;
  mb_op op = op_within(60000 * NS_PER_MS);
  name_server_stop();
  CHECK_INT(resolve(&lookups, localhost, 1, &op, &error), MB_DONE);
  CHECK(lookups.n_addresses > 0);
  for (size_t i = 0; i < lookups.n_addresses; i++)
    CHECK(strncmp(lookups.addresses[i].text, "127.", 4) == 0 ||
          strcmp(lookups.addresses[i].text, "::1") == 0);
  mb__lookups_free(&lookups);

  CHECK_INT(resolve(&lookups, none, 1, &op, &error), MB_ERROR);
  CHECK_INT(error.class, MB_CONNECTIVITY);
  CHECK(error_says(&error, "could not look up host \"no-such-host.invalid\""));
  mb__lookups_free(&lookups);
  name_server_start();
}

static void says_why(void)
{
  static const struct {
    const char *names[3];
    size_t n;
    mb_class class;
    const char *text;
  } cases[] = {
      {{"gone.test"}, 1, MB_CONNECTIVITY, "host \"gone.test\" ("},
      {{"system.test"}, 1, MB_CONNECTIVITY, "\"system.test\" (Input/output"},
      {{"memory.test"}, 1, MB_RESOURCE, "out of memory"},
      {{"gone.test", "later.test"}, 2, MB_CONNECTIVITY, "), \"later.test\" ("},
      {{"gone.test", "memory.test"}, 2, MB_RESOURCE, "out of memory"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    mb__lookups lookups;
    mb_error error;
    mb_op op = op_within(60000 * NS_PER_MS);
    CHECK_INT(
        resolve(&lookups, cases[i].names, cases[i].n, &op, &error), MB_ERROR);
    CHECK_INT(error.class, cases[i].class);
    CHECK(error_says(&error, cases[i].text));
    mb__lookups_free(&lookups);
  }
}

/* As many as one likes: what does not fit is left out. */
static void says_it_of_many(void)
{
  enum { N = 200 };
  const char *names[N];
  mb__lookups lookups;
  mb_error error;
  mb_op op = op_within(60000 * NS_PER_MS);
  for (size_t i = 0; i < N; i++)
    names[i] = "gone.test";
  CHECK_INT(resolve(&lookups, names, N, &op, &error), MB_ERROR);
  CHECK_INT(error.class, MB_CONNECTIVITY);
  CHECK(error_says(&error, ", \"gone.test\" ("));
  CHECK(error_ends_with(&error, ")"));
  (void)mb_error_fill(&error, MB_CONNECTIVITY, "refused");
  mb__lookups_explain(&lookups, &error);
  CHECK(error_says(&error, "refused; could not look up host \"gone.test\" ("));
  CHECK(error_ends_with(&error, ")"));
  mb__lookups_free(&lookups);
}

/* Nothing hangs any more, and nobody looks these up. */
static void let_go(const char *const *names, size_t n)
{
  mb_error error;
  mb__lookups lookups;
  name_server_hang(false);
  for (size_t i = 0; i < n; i++) {
    mb_op op = op_within(60000 * NS_PER_MS);
    CHECK_INT(resolve(&lookups, names + i, 1, &op, &error), MB_DONE);
    mb__lookups_free(&lookups);
  }
}

/* Those that were found do not wait for ever for the others. */
static void goes_on_with_what_was_found(void)
{
  static const char *const names[] = {"hang.test", "one.test", "hanger.test"};
  mb__lookups lookups;
  mb_error error;
  name_server_hang(true);
  for (int with_socket = 0; with_socket < 2; with_socket++) {
    const char *const sockets[] = {NULL, "hang.test"};
    mb_op op = op_within(200 * NS_PER_MS);
    const int64_t start_ns = mb_now_ns();
    CHECK_INT(with_socket ? resolve(&lookups, sockets, 2, &op, &error)
                          : resolve(&lookups, names, 3, &op, &error),
        MB_DONE);
    CHECK(mb_now_ns() - start_ns >= 100 * NS_PER_MS);
    if (!with_socket && CHECK(lookups.n_addresses > 0))
      CHECK_INT(lookups.addresses[0].lookup, 1);
    (void)mb_error_fill(&error, MB_CONNECTIVITY, "refused");
    mb__lookups_explain(&lookups, &error);
    CHECK(error_says(&error,
        "refused; could not look up host \"hang.test\" (no answer in time)"));
    mb__lookups_free(&lookups);
  }
  let_go(names, 3);
}

/* Nothing is found in the half of the time, and something later. */
static void waits_for_the_first_of_several(void)
{
  static const char *const names[] = {"hang.test", "hanger.test"};
  mb__lookups lookups;
  mb_error error;
  mb_op op = op_within(60000 * NS_PER_MS);
  name_server_hang(true);
  CHECK_INT(mb__lookups_start(&lookups, names, 2, false, &op, &error), MB_WAIT);
  lookups.enough_ns = mb_now_ns();
  CHECK_INT(mb__lookups_resume(&lookups, &op, &error), MB_WAIT);
  CHECK(op.wait.deadline_ns < mb_now_ns() + 1000 * NS_PER_MS);
  let_go(names, 2);
  mb_status status = MB_WAIT;
  for (int ms = 0; ms < SLACK_MS && status == MB_WAIT; ms++) {
    mb_sleep_ns(NS_PER_MS);
    status = mb__lookups_resume(&lookups, &op, &error);
  }
  CHECK_INT(status, MB_DONE);
  CHECK(lookups.n_addresses > 0);
  mb__lookups_free(&lookups);
}

/* However many want it, and come and go. */
static void looks_a_name_up_once_at_a_time(void)
{
  enum { N = 20 };
  static const char *const names[] = {"hang.once.test"};
  mb__lookups lookups[N];
  mb_error error;
  mb_op op = op_within(60000 * NS_PER_MS);
  name_server_hang(true);
  for (int i = 0; i < N; i++)
    CHECK_INT(
        mb__lookups_start(&lookups[i], names, 1, false, &op, &error), MB_WAIT);
  for (int i = 0; i < N; i += 2)
    mb__lookups_free(&lookups[i]);
  CHECK(name_server_is_hanging(names[0], 1));
  CHECK_INT(name_server_count(names[0]), 1);
  name_server_hang(false);
  for (int i = 1; i < N; i += 2) {
    struct pollfd fd = {.fd = op.wait.fd, .events = POLLIN};
    CHECK_INT(poll(&fd, 1, SLACK_MS), 1);
    CHECK_INT(mb__lookups_resume(&lookups[i], &op, &error), MB_DONE);
    mb__lookups_free(&lookups[i]);
  }
  /* The next one looks anew. */
  CHECK_INT(resolve(&lookups[0], names, 1, &op, &error), MB_DONE);
  mb__lookups_free(&lookups[0]);
  CHECK_INT(name_server_count(names[0]), 2);
}

/* Nobody waits for what hangs, and nothing is lost when it ends. */
static void forgets_what_it_has_left(void)
{
  static const char *const names[] = {"hang.test"};
  mb__lookups lookups;
  mb_error error;
  mb_op op = op_within(TIMEOUT_MS * NS_PER_MS);
  name_server_hang(true);
  CHECK_INT(resolve(&lookups, names, 1, &op, &error), MB_ERROR);
  CHECK_INT(error.class, MB_CANCELED);
  mb__lookups_free(&lookups);
  CHECK(n_held > 0);
  name_server_hang(false);
  for (int ms = 0; ms < SLACK_MS && n_held > 0; ms++)
    mb_sleep_ns(NS_PER_MS);
  CHECK_INT(n_held, 0);
}

/* --- Of a connection ---------------------------------------------------- */

static mb_settings *settings(const session *s)
{
  return (mb_settings *)mb_pool_settings(s->pool);
}

static void set_lookups(const char *const *names, size_t n)
{
  td.lookups = names;
  td.n_lookups = n;
}

EACH_WAY(hands_the_driver_addresses)
{
  static const char *const names[] = {"10.0.0.1", NULL, "gone.test", "::2"};
  set_lookups(names, 4);
  connect(s);
  CHECK_STRING(td_addresses(), "0=10.0.0.1 3=::2");
  CHECK_INT(run(s, "put 1"), MB_DONE);
}

EACH_WAY(does_not_connect_to_nowhere)
{
  static const char *const names[] = {"gone.test", "later.test"};
  set_lookups(names, 2);
  CHECK_INT(open_pool(s, NULL, NULL, 0), MB_OK);
  CHECK_INT(acquire(s), MB_ERROR);
  CHECK_INT(s->error->class, MB_CONNECTIVITY);
  CHECK(!flags(s, MB_TIMED_OUT));
  CHECK(says(s, "could not look up host \"gone.test\""));
  CHECK_INT(td_calls(TD_CONNECT), 0);
}

EACH_WAY(adds_who_was_not_found_to_an_error)
{
  static const char *const names[] = {"gone.test", "10.0.0.1"};
  set_lookups(names, 2);
  CHECK_INT(open_pool(s, NULL, NULL, 0), MB_OK);
  td_fail(TD_CONNECT, 1, MB_CONNECTIVITY, 0);
  CHECK_INT(acquire(s), MB_ERROR);
  CHECK_INT(s->error->class, MB_CONNECTIVITY);
  CHECK(says(s, "fault in connect; could not look up host \"gone.test\" ("));
}

EACH_WAY(bounds_looking_up)
{
  static const char *const names[] = {"hang.test"};
  set_lookups(names, 1);
  name_server_hang(true);
  CHECK_INT(open_pool(s, NULL, NULL, 0), MB_OK);
  settings(s)->connect_timeout_ns = TIMEOUT_MS * NS_PER_MS;
  const int64_t start_ns = mb_now_ns();
  CHECK_INT(acquire(s), MB_ERROR);
  CHECK(mb_now_ns() - start_ns >= TIMEOUT_MS * NS_PER_MS);
  CHECK(mb_now_ns() - start_ns < (TIMEOUT_MS + SLACK_MS) * NS_PER_MS);
  CHECK_INT(s->error->class, MB_CONNECTIVITY);
  CHECK(flags(s, MB_TIMED_OUT));
  CHECK(says(s, "looking up host \"hang.test\" took too long"));
  CHECK_INT(td_calls(TD_CONNECT), 0);
  CHECK_INT(td_calls(TD_CANCEL_QUERY) + td_calls(TD_CANCEL_SOCKET), 0);
  let_go(names, 1);
  settings(s)->connect_timeout_ns = 60000 * NS_PER_MS;
  CHECK_INT(acquire(s), MB_OK);
  CHECK_INT(run(s, "put 1"), MB_DONE);
}

static void *cancel(void *argument)
{
  CHECK(name_server_is_hanging("hang.test", 1));
  mb_cancellation_cancel(argument, "enough");
  return NULL;
}

EACH_WAY(cancels_looking_up)
{
  static const char *const names[] = {"hang.test"};
  pthread_t canceller;
  mb_cancellation *stop;
  set_lookups(names, 1);
  name_server_hang(true);
  CHECK_INT(mb_cancellation_open(NULL, &stop, fresh(s)), MB_OK);
  const mb_call call = {.cancellation = stop};
  CHECK_INT(open_pool(s, NULL, NULL, 0), MB_OK);
  settings(s)->connect_timeout_ns = 0;
  if (pthread_create(&canceller, NULL, cancel, stop) != 0)
    abort();
  CHECK_INT(mb_pool_acquire(s->pool, &call, 0, &s->conn, fresh(s)), MB_ERROR);
  CHECK_INT(s->error->class, MB_CANCELED);
  CHECK(says(s, "cancelled: enough"));
  (void)pthread_join(canceller, NULL);
  let_go(names, 1);
  mb_cancellation_close(stop);
}

/* Without bounds there is no need for a thread. */
ONE_WAY(looks_up_here_when_nothing_bounds_it)
{
  static const char *const names[] = {"one.test"};
  const mb_option forever = {"connect_timeout", "0"};
  set_lookups(names, 1);
  connect_with(s, &forever, 1);
  CHECK(pthread_equal(name_server_thread(), pthread_self()));
  CHECK(strncmp(td_addresses(), "0=127.0.0.9", 11) == 0);
}

ONE_WAY(says_that_it_has_no_descriptor)
{
  enum { MOST = 256 };
  static const char *const names[] = {"one.test"};
  struct rlimit before;
  int fds[MOST];
  int n = 0;
  set_lookups(names, 1);
  CHECK_INT(open_pool(s, NULL, NULL, 0), MB_OK);
  CHECK_INT(getrlimit(RLIMIT_NOFILE, &before), 0);
  const struct rlimit few = {.rlim_cur = MOST, .rlim_max = before.rlim_max};
  CHECK_INT(setrlimit(RLIMIT_NOFILE, &few), 0);
  while (n < MOST && (fds[n] = dup(2)) >= 0)
    n++;
  CHECK_INT(acquire(s), MB_ERROR);
  CHECK_INT(s->error->class, MB_RESOURCE);
  while (n > 0)
    (void)close(fds[--n]);
  CHECK_INT(setrlimit(RLIMIT_NOFILE, &before), 0);
  CHECK_INT(acquire(s), MB_OK);
}

/* A thread may take a moment to be done with what was left to it. */
static bool is_held(long n)
{
  for (int ms = 0; ms < SLACK_MS && n_held != n; ms++)
    mb_sleep_ns(NS_PER_MS);
  return CHECK_INT(n_held, n);
}

/* Connects, with allocations failing from the number first on. */
static mb_status connect_without_memory(bool deaf, long first)
{
  static const char *const names[] = {"one.test", "10.0.0.1", "two.test"};
  session s;
  session_open(&s);
  set_lookups(names, 3);
  td.deaf = deaf;
  CHECK_INT(open_pool(&s, NULL, NULL, 0), MB_OK);
  (void)fresh(&s);
  n_allocations = 0;
  fails_at = first;
  const mb_status status = mb_pool_acquire(s.pool, NULL, 0, &s.conn, s.error);
  fails_at = LONG_MAX;
  if (status == MB_ERROR)
    CHECK_INT(s.error->class, MB_RESOURCE);
  session_close(&s);
  return status;
}

static void fail_each(bool deaf)
{
  mb_status status = MB_ERROR;
  mb_sleep_ns(50 * NS_PER_MS);
  const long before = n_held;
  for (long first = 0; status == MB_ERROR && first < 500; first++) {
    status = connect_without_memory(deaf, first);
    if (!is_held(before))
      return;
  }
  CHECK_INT(status, MB_OK);
}

static void leaves_nothing_without_memory(void)
{
  fail_each(false);
  fail_each(true);
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

/* The child looks up for itself what its parent waits for. */
static void belongs_to_one_process(void)
{
  static const char *const names[] = {"hang.test"};
  mb__lookups lookups, own_lookups;
  mb_error error;
  mb_op op = op_within(60000 * NS_PER_MS);
  if (IS_WATCHED)
    return;
  name_server_hang(true);
  CHECK_INT(mb__lookups_start(&lookups, names, 1, false, &op, &error), MB_WAIT);
  CHECK(name_server_is_hanging(names[0], 1));
  const pid_t child = fork();
  if (child == 0) {
    name_server_forget();
    name_server_hang(false);
    _exit(resolve(&own_lookups, names, 1, &op, &error) != MB_DONE);
  }
  CHECK_INT(status_of(child), 0);
  let_go(names, 1);
  mb__lookups_free(&lookups);
}

/* What hangs does not hold the end up. */
static void ends_while_a_name_hangs(void)
{
  static const char *const names[] = {"hang.test"};
  mb__lookups lookups;
  mb_error error;
  if (IS_WATCHED)
    return;
  const pid_t child = fork();
  if (child == 0) {
    mb_op op = op_within(TIMEOUT_MS * NS_PER_MS);
    name_server_hang(true);
    const bool hung = resolve(&lookups, names, 1, &op, &error) == MB_ERROR &&
                      error.class == MB_CANCELED &&
                      name_server_is_hanging(names[0], 1);
    mb__lookups_free(&lookups);
    exit(hung ? 0 : 1);
  }
  CHECK_INT(status_of(child), 0);
}

static const struct check_test tests[] = {
    CHECK_TEST(finds_at_once_what_is_no_name),
    CHECK_TEST(finds_names),
    CHECK_TEST(finds_what_the_system_knows),
    CHECK_TEST(says_why),
    CHECK_TEST(says_it_of_many),
    CHECK_TEST(goes_on_with_what_was_found),
    CHECK_TEST(waits_for_the_first_of_several),
    CHECK_TEST(looks_a_name_up_once_at_a_time),
    CHECK_TEST(forgets_what_it_has_left),
    CHECK_TEST(hands_the_driver_addresses),
    CHECK_TEST(does_not_connect_to_nowhere),
    CHECK_TEST(adds_who_was_not_found_to_an_error),
    CHECK_TEST(bounds_looking_up),
    CHECK_TEST(cancels_looking_up),
    CHECK_TEST(looks_up_here_when_nothing_bounds_it),
    CHECK_TEST(says_that_it_has_no_descriptor),
    CHECK_TEST(leaves_nothing_without_memory),
    CHECK_TEST(belongs_to_one_process),
    CHECK_TEST(ends_while_a_name_hangs),
};

int main(void)
{
  mb_set_allocator(allocate, reallocate, release_memory);
  name_server_start();
  return CHECK_RUN(tests);
}
