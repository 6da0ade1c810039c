/*
 * worker_test.c: calls that leave the thread of an event loop for a while.
 */
#include "session.h"

#include "../../drivers/sqlite/driver.h"
#include "../../src/core/fiber.h"
#include "../../src/core/worker.h"

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

/* Allowed is no thread in a child of a program that has others, and no change
 * of the clock beside one. */
#if defined(__SANITIZE_THREAD__)
#  define MAY_FORK false
#  define MAY_CHANGE_CLOCK false
#else
#  define MAY_FORK true
#  define MAY_CHANGE_CLOCK true
#endif

static bool go_on(mb_fiber *fiber)
{
  session_wait_for(fiber);
  return mb_fiber_resume(fiber);
}

/* --- Leaving and coming home -------------------------------------------- */

/* What is done elsewhere, until it may end. */
typedef struct trip {
  const mb_driver *driver;
  mb_op op;
  bool has_op;
  atomic_bool may_end;
  bool left;
  atomic_bool began;
  int stop;
  pthread_t before, there, after;
  bool inside_there, inside_after;
} trip;

/* A compiler takes it that a function stays on its thread, so that one who is
 * asked twice answers the same. */
static pthread_t (*volatile ask_self)(void) = pthread_self;

static pthread_t self(void)
{
  return ask_self();
}

static void travel(void *argument)
{
  trip *one = argument;
  one->before = self();
  one->left = mb__fiber_leave_home(one->has_op ? &one->op : NULL, one->driver);
  one->there = self();
  one->inside_there = mb_fiber_is_inside();
  atomic_store(&one->began, true);
  while (!atomic_load(&one->may_end) && atomic_load(&one->op.stop) == MB_GO_ON)
    mb_sleep_ns(NS_PER_MS / 10);
  one->stop = atomic_load(&one->op.stop);
  mb__fiber_come_home();
  one->after = self();
  one->inside_after = mb_fiber_is_inside();
}

static void open_trip(trip *one, bool may_end)
{
  memset(one, 0, sizeof *one);
  atomic_init(&one->may_end, may_end);
}

static void goes_on_where_there_is_no_fiber(void)
{
  trip one;
  open_trip(&one, true);
  travel(&one);
  CHECK(!one.left);
  CHECK(pthread_equal(one.there, pthread_self()));
}

static void goes_elsewhere_and_comes_home(void)
{
  trip one;
  mb_wait wait;
  mb_fiber *fiber = open_fiber();
  for (int i = 0; i < 3; i++) {
    open_trip(&one, false);
    CHECK(!mb_fiber_start(fiber, travel, &one));
    CHECK(!mb_fiber_is_inside());
    for (int early = 0; early < 3; early++)
      CHECK(!mb_fiber_resume(fiber));
    mb_fiber_waits_for(fiber, &wait);
    CHECK(wait.fd >= 0);
    CHECK_INT(wait.events, MB_READABLE_FD);
    CHECK(wait.deadline_ns == MB_NEVER);
    atomic_store(&one.may_end, true);
    while (!go_on(fiber))
      continue;
    CHECK(one.left);
    CHECK(pthread_equal(one.before, pthread_self()));
    CHECK(!pthread_equal(one.there, pthread_self()));
    CHECK(pthread_equal(one.after, pthread_self()));
    CHECK(!one.inside_there);
    CHECK(one.inside_after);
  }
  mb_fiber_close(fiber);
}

static void is_stopped_elsewhere(void)
{
  trip one;
  mb_fiber *fiber = open_fiber();
  open_trip(&one, false);
  one.has_op = true;
  CHECK(!mb_fiber_start(fiber, travel, &one));
  mb_fiber_stop(fiber, false);
  while (!go_on(fiber))
    continue;
  CHECK_INT(one.stop, MB_STOP_CANCEL);
  mb_fiber_close(fiber);
}

static void nap_and_travel(void *argument)
{
  mb_sleep_ns(NS_PER_MS);
  travel(argument);
}

/* Nothing has heard of it at home. */
static void is_stopped_before_it_leaves(void)
{
  trip one;
  mb_fiber *fiber = open_fiber();
  open_trip(&one, false);
  one.has_op = true;
  CHECK(!mb_fiber_start(fiber, nap_and_travel, &one));
  mb_fiber_stop(fiber, false);
  while (!go_on(fiber))
    continue;
  CHECK_INT(one.stop, MB_STOP_CANCEL);
  mb_fiber_close(fiber);
}

static void is_closed_once_nobody_stands_on_it(void)
{
  trip one;
  mb_fiber *fiber = open_fiber();
  open_trip(&one, false);
  one.has_op = true;
  CHECK(!mb_fiber_start(fiber, travel, &one));
  mb_fiber_close(fiber);
  CHECK_INT(one.stop, MB_STOP_CANCEL);
}

/* --- Threads of drivers ------------------------------------------------- */

static _Thread_local int entered_by;
static atomic_int n_entered;

static void enter_first(void)
{
  CHECK_INT(entered_by, 0);
  entered_by = 1;
  (void)atomic_fetch_add(&n_entered, 1);
}

static void enter_second(void)
{
  CHECK_INT(entered_by, 0);
  entered_by = 2;
  (void)atomic_fetch_add(&n_entered, 1);
}

static void leave_driver(void)
{
  CHECK(entered_by != 0);
  entered_by = 0;
}

static const mb_driver first = {
    .thread_enter = enter_first, .thread_leave = leave_driver};
static const mb_driver second = {
    .thread_enter = enter_second, .thread_leave = leave_driver};

__attribute__((noinline)) static int who_entered(void)
{
  return entered_by;
}

typedef struct visit {
  const mb_driver *driver;
  int entered_by;
} visit;

static void call_driver(void *argument)
{
  visit *one = argument;
  CHECK(mb__fiber_leave_home(NULL, one->driver));
  one->entered_by = who_entered();
  mb__fiber_come_home();
}

static void makes_its_thread_one_of_the_driver(void)
{
  static const mb_driver *const drivers[] = {&first, &first, &second, &first};
  mb_fiber *fiber = open_fiber();
  for (size_t i = 0; i < sizeof drivers / sizeof *drivers; i++) {
    visit one = {.driver = drivers[i]};
    bool ended = mb_fiber_start(fiber, call_driver, &one);
    while (!ended)
      ended = go_on(fiber);
    CHECK_INT(one.entered_by, drivers[i] == &first ? 1 : 2);
  }
  CHECK_INT(who_entered(), 0);
  CHECK(atomic_load(&n_entered) >= 3);
  mb_fiber_close(fiber);
}

/* --- Many --------------------------------------------------------------- */

enum { FIBERS = 12, TRIPS = 60, OWNERS = 3 };

typedef struct wanderer {
  mb_fiber *fiber;
  int n;
  double sum;
} wanderer;

static void wander(void *argument)
{
  wanderer *one = argument;
  const pthread_t owner = self();
  for (int i = 0; i < TRIPS; i++) {
    CHECK(mb__fiber_leave_home(NULL, NULL));
    CHECK(!pthread_equal(self(), owner));
    one->sum += i / 2.0;
    if (i % 16 == 0)
      mb_sleep_ns(NS_PER_MS / 10);
    mb__fiber_come_home();
    CHECK(pthread_equal(self(), owner));
    one->n++;
    if (i % 8 == 0)
      mb_sleep_ns(NS_PER_MS / 10);
  }
}

static void *own_many(void *argument)
{
  wanderer all[FIBERS] = {{.n = 0}};
  int n_left = 0;
  (void)argument;
  for (int i = 0; i < FIBERS; i++) {
    all[i].fiber = open_fiber();
    n_left += mb_fiber_start(all[i].fiber, wander, &all[i]) ? 0 : 1;
  }
  /* Also those that nothing has become ready for. */
  for (int round = 0; n_left > 0; round++)
    for (int i = 0; i < FIBERS; i++) {
      if (all[i].n < TRIPS && round % 3 == 0)
        session_wait_for(all[i].fiber);
      if (all[i].fiber != NULL && all[i].n < TRIPS &&
          mb_fiber_resume(all[i].fiber))
        n_left--;
    }
  for (int i = 0; i < FIBERS; i++) {
    CHECK_INT(all[i].n, TRIPS);
    CHECK(all[i].sum == TRIPS * (TRIPS - 1) / 4.0);
    mb_fiber_close(all[i].fiber);
  }
  return NULL;
}

static void carries_many_of_several_threads(void)
{
  pthread_t owners[OWNERS];
  for (int i = 0; i < OWNERS; i++)
    if (pthread_create(&owners[i], NULL, own_many, NULL) != 0)
      abort();
  for (int i = 0; i < OWNERS; i++)
    (void)pthread_join(owners[i], NULL);
}

/* As many as there are calls, since one may wait for another. */
static void has_a_thread_for_each(void)
{
  enum { CALLS = 20 };
  trip trips[CALLS];
  mb_fiber *fibers[CALLS];
  for (int i = 0; i < CALLS; i++) {
    fibers[i] = open_fiber();
    open_trip(&trips[i], false);
    CHECK(!mb_fiber_start(fibers[i], travel, &trips[i]));
  }
  for (int i = 0; i < CALLS; i++)
    while (!atomic_load(&trips[i].began))
      mb_sleep_ns(NS_PER_MS / 10);
  for (int i = 0; i < CALLS; i++)
    atomic_store(&trips[i].may_end, true);
  for (int i = 0; i < CALLS; i++) {
    while (!go_on(fibers[i]))
      continue;
    mb_fiber_close(fibers[i]);
  }
}

/* --- Calls of drivers --------------------------------------------------- */

static atomic_int_fast64_t ahead_ns;

static int64_t shifted_ns(void)
{
  struct timespec now;
  (void)clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec +
         atomic_load(&ahead_ns);
}

static void nap_shortly(int64_t duration_ns)
{
  const struct timespec time = {.tv_nsec = (long)(duration_ns % 1000000000)};
  (void)nanosleep(&time, NULL);
}

static mb_status put(session *s, int64_t number)
{
  const mb_value value = {.tag = MB_INT64, .as.integer = number};
  return run_with(s, "put ?", &value, 1);
}

static void put_one(session *s)
{
  connect(s);
  CHECK_INT(put(s, 1), MB_DONE);
}

static void put_stalled(session *s)
{
  connect(s);
  CHECK_INT(put(s, 1), MB_DONE);
  td_stall(TD_EXECUTE, 1, TD_UNTIL_ASKED);
  CHECK_INT(put(s, 2), MB_ERROR);
  CHECK_INT(s->error->class, MB_CANCELED);
  CHECK(!flags(s, MB_CONNECTION_DEAD));
  /* That was all that was stopped. */
  CHECK_INT(put(s, 3), MB_DONE);
  CHECK(!td_is_stored(2));
  CHECK(td_is_stored(3));
}

/* A call that nobody bounds is stopped all the same. */
static void stops_what_is_elsewhere(void)
{
  for (int deaf = 0; deaf < 2; deaf++) {
    session s;
    session_open(&s);
    td.blocks = deaf == 0;
    td.deaf = deaf == 1;
    session_task task = {put_stalled, &s};
    mb_fiber *fiber = open_fiber();
    bool ended = mb_fiber_start(fiber, session_work, &task);
    while (td_calls(TD_EXECUTE) < 2 && !ended) {
      mb_sleep_ns(NS_PER_MS);
      ended = mb_fiber_resume(fiber);
    }
    CHECK(!ended);
    mb_fiber_stop(fiber, false);
    while (!ended)
      ended = go_on(fiber);
    mb_fiber_close(fiber);
    session_close(&s);
  }
}

/* --- SQLite ------------------------------------------------------------- */

enum { READERS = 3, WRITES = 15 };

typedef struct user {
  session s;
  mb_fiber *fiber;
  const char *url;
  int64_t sum;
  bool done;
} user;

/* Reads what takes some milliseconds, and writes beside others. */
static void use_sqlite(void *argument)
{
  user *one = argument;
  session *s = &one->s;
  CHECK_INT(open_pool(s, one->url, NULL, 0), MB_OK);
  CHECK_INT(acquire(s), MB_OK);
  for (int i = 0; i < WRITES; i++) {
    mb_tx tx;
    CHECK_INT(run(s, "insert into item default values"), MB_DONE);
    CHECK_INT(begin(s, NULL, NULL, &tx), MB_OK);
    s->tx = &tx;
    CHECK_INT(run(s, "insert into item default values"), MB_DONE);
    CHECK_INT(commit(s, &tx), MB_OK);
    s->tx = NULL;
    one->sum += one_value(s,
        "with recursive n (i) as (select 1 union all select i + 1 from n "
        "where i < 5000) select sum(i) from n");
  }
  release(s);
  mb_pool_close(s->pool, 0);
  free(s->error);
}

static void *use_many(void *argument)
{
  user users[READERS];
  int n_left = READERS;
  for (int i = 0; i < READERS; i++) {
    users[i] = (user){.s = {.blocking = true, .driver = mb_driver_sqlite()},
        .fiber = open_fiber(),
        .url = argument};
    users[i].done = mb_fiber_start(users[i].fiber, use_sqlite, &users[i]);
    n_left -= users[i].done ? 1 : 0;
  }
  while (n_left > 0) {
    nap_shortly(NS_PER_MS / 10);
    for (int i = 0; i < READERS; i++)
      if (!users[i].done && (users[i].done = mb_fiber_resume(users[i].fiber)))
        n_left--;
  }
  for (int i = 0; i < READERS; i++) {
    CHECK_INT(users[i].sum, WRITES * INT64_C(12502500));
    mb_fiber_close(users[i].fiber);
  }
  return NULL;
}

static void carries_reads_and_writes(void)
{
  char folder[] = "/tmp/moonbase.XXXXXX";
  char url[80];
  char file[64];
  pthread_t owners[OWNERS];
  session s = {.blocking = true, .driver = mb_driver_sqlite()};
  if (mkdtemp(folder) == NULL)
    abort();
  (void)snprintf(file, sizeof file, "%s/worker.db", folder);
  (void)snprintf(url, sizeof url, "sqlite:%s", file);
  CHECK_INT(open_pool(&s, url, NULL, 0), MB_OK);
  CHECK_INT(acquire(&s), MB_OK);
  CHECK_INT(run(&s, "create table item (id integer primary key)"), MB_DONE);
  for (int i = 0; i < OWNERS; i++)
    if (pthread_create(&owners[i], NULL, use_many, url) != 0)
      abort();
  for (int i = 0; i < OWNERS; i++)
    (void)pthread_join(owners[i], NULL);
  CHECK_INT(one_value(&s, "select count(*) from item"),
      2 * WRITES * READERS * OWNERS);
  release(&s);
  mb_pool_close(s.pool, 0);
  free(s.error);
  (void)unlink(file);
  (void)rmdir(folder);
}

static void opens_no_thread_without_a_loop(void)
{
  for (int deaf = 0; deaf < 2; deaf++) {
    const mb_option forever = {"connect_timeout", "0"};
    const int before = count_threads();
    session s;
    session_open(&s);
    td.blocks = deaf == 0;
    td.deaf = deaf == 1;
    connect_with(&s, &forever, 1);
    CHECK_INT(put(&s, 1), MB_DONE);
    CHECK_INT(count_threads(), before);
    session_close(&s);
  }
}

static void begins_anew_in_a_child(void)
{
  session s;
  if (!MAY_FORK)
    return;
  session_open(&s);
  td.blocks = true;
  session_in_loop(put_one, &s); /* there is a thread that is idle now */
  session_close(&s);
  trip away;
  mb_fiber *fiber = open_fiber();
  open_trip(&away, false);
  CHECK(!mb_fiber_start(fiber, travel, &away));
  const pid_t child = fork();
  if (child == 0) {
    mb_fiber_close(fiber); /* waits for nobody: there is no such thread */
    session_open(&s);
    td.blocks = true;
    session_in_loop(put_one, &s);
    session_close(&s);
    (void)fflush(NULL);
    _exit(check_failures > 0);
  }
  int status = -1;
  CHECK_INT(waitpid(child, &status, 0), child);
  CHECK_INT(status, 0);
  atomic_store(&away.may_end, true);
  while (!go_on(fiber))
    continue;
  mb_fiber_close(fiber);
}

/* Last, since the clock is another from here on. */
static void ends_threads_that_are_idle(void)
{
  trip one;
  if (!MAY_CHANGE_CLOCK)
    return;
  mb_fiber *fiber = open_fiber();
  mb_set_clock(shifted_ns, nap_shortly);
  open_trip(&one, true);
  bool ended = mb_fiber_start(fiber, travel, &one);
  while (!ended)
    ended = go_on(fiber);
  mb_fiber_close(fiber);
  const int before = count_threads();
  atomic_store(&ahead_ns, INT64_C(11000) * NS_PER_MS);
  for (int ms = 0; ms < 5000 && count_threads() >= before; ms++)
    mb_sleep_ns(NS_PER_MS);
  CHECK(count_threads() < before);
}

static const struct check_test tests[] = {
    CHECK_TEST(opens_no_thread_without_a_loop),
    CHECK_TEST(goes_on_where_there_is_no_fiber),
    CHECK_TEST(goes_elsewhere_and_comes_home),
    CHECK_TEST(is_stopped_elsewhere),
    CHECK_TEST(is_stopped_before_it_leaves),
    CHECK_TEST(is_closed_once_nobody_stands_on_it),
    CHECK_TEST(makes_its_thread_one_of_the_driver),
    CHECK_TEST(carries_many_of_several_threads),
    CHECK_TEST(has_a_thread_for_each),
    CHECK_TEST(stops_what_is_elsewhere),
    CHECK_TEST(carries_reads_and_writes),
    CHECK_TEST(begins_anew_in_a_child),
    CHECK_TEST(ends_threads_that_are_idle),
};

int main(void)
{
  return CHECK_RUN(tests);
}
