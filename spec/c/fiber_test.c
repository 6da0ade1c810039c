/*
 * fiber_test.c: stacks that are left while they wait.
 */
#include "../../src/core/fiber.h"

#include "../../src/core/thread.h"
#include "session.h"

#include <pthread.h>
#include <string.h>
#include <unistd.h>

/* --- Works -------------------------------------------------------------- */

static void add_one(void *argument)
{
  CHECK(mb_fiber_is_inside());
  ++*(int *)argument;
}

static void runs_one_work_after_the_other(void)
{
  int n = 0;
  mb_fiber *fiber = open_fiber();
  CHECK(!mb_fiber_is_inside());
  for (int i = 0; i < 1000; i++)
    CHECK(mb_fiber_start(fiber, add_one, &n));
  CHECK_INT(n, 1000);
  CHECK(!mb_fiber_is_inside());
  mb_fiber_close(fiber);
  mb_fiber_close(NULL);
}

static void run_inside(void *argument)
{
  mb_fiber *inner = open_fiber();
  CHECK(mb_fiber_start(inner, add_one, argument));
  CHECK(mb_fiber_is_inside());
  mb_fiber_close(inner);
}

static void runs_one_inside_another(void)
{
  int n = 0;
  mb_fiber *fiber = open_fiber();
  CHECK(mb_fiber_start(fiber, run_inside, &n));
  CHECK_INT(n, 1);
  mb_fiber_close(fiber);
}

typedef struct deep {
  int depth;
  double sum;
} deep;

static double go_deeper(int depth, double with)
{
  volatile char room[512];
  memset((char *)room, depth, sizeof room);
  return depth == 0 ? with
                    : go_deeper(depth - 1, with / 2 + room[depth % 512]) + 1;
}

static void go_deep(void *argument)
{
  deep *how = argument;
  how->sum = go_deeper(how->depth, 0.5);
}

/* Numbers, and what a function preserves, are the same there. */
static void has_room_for_deep_calls(void)
{
  deep there = {.depth = 200};
  mb_fiber *fiber = open_fiber();
  CHECK(mb_fiber_start(fiber, go_deep, &there));
  CHECK(there.sum == go_deeper(200, 0.5));
  mb_fiber_close(fiber);
}

/* --- Waiting ------------------------------------------------------------ */

typedef struct reader {
  int fds[2][2]; /* of pipes */
  nfds_t n;
  int64_t deadline_ns;
  int ready;
  bool was_stopped;
} reader;

static void read_pipes(void *argument)
{
  reader *one = argument;
  struct pollfd fds[2] = {{.fd = one->fds[0][0], .events = POLLIN},
      {.fd = one->fds[1][0], .events = POLLIN}};
  one->ready = 0;
  while (
      one->ready == 0 && !one->was_stopped && mb_now_ns() < one->deadline_ns) {
    one->ready = mb__fiber_poll(fds, one->n, one->deadline_ns);
    one->was_stopped = mb__fiber_take_stop();
  }
}

static void open_reader(reader *one, nfds_t n)
{
  *one = (reader){.n = n, .deadline_ns = MB_NEVER};
  for (int i = 0; i < 2; i++)
    if (pipe(one->fds[i]) != 0)
      abort();
}

static void close_reader(const reader *one)
{
  for (int i = 0; i < 2; i++)
    for (int end = 0; end < 2; end++)
      (void)close(one->fds[i][end]);
}

static bool is_readable(int fd, int timeout_ms)
{
  struct pollfd one = {.fd = fd, .events = POLLIN};
  return poll(&one, 1, timeout_ms) == 1;
}

static void is_left_while_it_waits(void)
{
  reader one;
  mb_wait wait;
  mb_fiber *fiber = open_fiber();
  open_reader(&one, 1);
  CHECK(!mb_fiber_start(fiber, read_pipes, &one));
  CHECK(!mb_fiber_is_inside());
  mb_fiber_waits_for(fiber, &wait);
  CHECK_INT(wait.fd, one.fds[0][0]);
  CHECK_INT(wait.events, MB_READABLE_FD);
  CHECK(wait.deadline_ns == MB_NEVER);
  CHECK(!mb_fiber_resume(fiber)); /* too early */
  CHECK_INT(write(one.fds[0][1], "x", 1), 1);
  CHECK(mb_fiber_resume(fiber));
  CHECK_INT(one.ready, 1);
  close_reader(&one);
  mb_fiber_close(fiber);
}

static void looks_once_unless_it_is_told(void)
{
  reader one;
  mb_fiber *fiber = open_fiber();
  open_reader(&one, 1);
  CHECK(!mb_fiber_start(fiber, read_pipes, &one));
  CHECK(!mb_fiber_resume(fiber));
  mb_fiber_tell(fiber);
  CHECK(mb_fiber_resume(fiber));
  CHECK_INT(one.ready, 1);
  /* That was said of one wait. */
  CHECK(!mb_fiber_start(fiber, read_pipes, &one));
  CHECK(!mb_fiber_resume(fiber));
  CHECK_INT(write(one.fds[0][1], "x", 1), 1);
  CHECK(mb_fiber_resume(fiber));
  close_reader(&one);
  /* Which of two it is has to be seen. */
  open_reader(&one, 2);
  CHECK(!mb_fiber_start(fiber, read_pipes, &one));
  mb_fiber_tell(fiber);
  CHECK(!mb_fiber_resume(fiber));
  CHECK_INT(write(one.fds[1][1], "x", 1), 1);
  CHECK(mb_fiber_resume(fiber));
  close_reader(&one);
  mb_fiber_close(fiber);
}

static void waits_for_either_of_two(void)
{
  for (int which = 0; which < 2; which++) {
    reader one;
    mb_wait wait;
    mb_fiber *fiber = open_fiber();
    open_reader(&one, 2);
    CHECK(!mb_fiber_start(fiber, read_pipes, &one));
    mb_fiber_waits_for(fiber, &wait);
    CHECK(!is_readable(wait.fd, 0));
    CHECK_INT(write(one.fds[which][1], "x", 1), 1);
    CHECK(is_readable(wait.fd, 0));
    CHECK(mb_fiber_resume(fiber));
    CHECK_INT(one.ready, 1);
    close_reader(&one);
    mb_fiber_close(fiber);
  }
}

static void comes_back_when_it_is_time(void)
{
  reader one;
  mb_wait wait;
  mb_fiber *fiber = open_fiber();
  open_reader(&one, 1);
  one.deadline_ns = mb_now_ns() + 5 * NS_PER_MS;
  CHECK(!mb_fiber_start(fiber, read_pipes, &one));
  mb_fiber_waits_for(fiber, &wait);
  CHECK(wait.deadline_ns == one.deadline_ns);
  CHECK(!mb_fiber_resume(fiber));
  while (mb_now_ns() < one.deadline_ns)
    mb_sleep_ns(NS_PER_MS);
  CHECK(mb_fiber_resume(fiber));
  CHECK_INT(one.ready, 0);
  close_reader(&one);
  mb_fiber_close(fiber);
}

static void nap(void *argument)
{
  mb_sleep_ns(*(const int64_t *)argument);
}

static void sleeps_outside(void)
{
  int64_t duration_ns = 3 * NS_PER_MS;
  mb_wait wait;
  mb_fiber *fiber = open_fiber();
  const int64_t start_ns = mb_now_ns();
  CHECK(!mb_fiber_start(fiber, nap, &duration_ns));
  mb_fiber_waits_for(fiber, &wait);
  CHECK_INT(wait.fd, -1);
  CHECK(wait.deadline_ns >= start_ns + duration_ns);
  CHECK(mb_fiber_resume(fiber));
  mb_fiber_close(fiber);
}

static void is_stopped_once(void)
{
  reader one;
  mb_fiber *fiber = open_fiber();
  open_reader(&one, 1);
  CHECK(!mb_fiber_start(fiber, read_pipes, &one));
  mb_fiber_stop(fiber, false);
  CHECK(mb_fiber_resume(fiber));
  CHECK(one.was_stopped);
  /* The next work begins anew. */
  one.was_stopped = false;
  CHECK(!mb_fiber_start(fiber, read_pipes, &one));
  CHECK(!mb_fiber_resume(fiber));
  CHECK_INT(write(one.fds[0][1], "x", 1), 1);
  CHECK(mb_fiber_resume(fiber));
  CHECK(!one.was_stopped);
  close_reader(&one);
  mb_fiber_close(fiber);
}

/* --- Conditions --------------------------------------------------------- */

/* Tokens that are taken one by one. */
typedef struct store {
  pthread_mutex_t lock;
  mb__condition changed;
  int tokens, taken;
} store;

static void open_store(store *s)
{
  *s = (store){.tokens = 0};
  (void)pthread_mutex_init(&s->lock, NULL);
  mb__condition_init(&s->changed);
}

static void close_store(store *s)
{
  mb__condition_destroy(&s->changed);
  (void)pthread_mutex_destroy(&s->lock);
}

static void put_tokens(store *s, int n)
{
  (void)pthread_mutex_lock(&s->lock);
  s->tokens += n;
  if (n == 1)
    mb__condition_signal(&s->changed);
  else
    mb__condition_broadcast(&s->changed);
  (void)pthread_mutex_unlock(&s->lock);
}

static void take_token(void *argument)
{
  store *s = argument;
  (void)pthread_mutex_lock(&s->lock);
  while (s->tokens == 0 && mb__fiber_take_stop() == MB__FIBER_GOES_ON)
    (void)mb__condition_wait(&s->changed, &s->lock, MB_NEVER);
  if (s->tokens > 0) {
    s->tokens--;
    s->taken++;
  }
  (void)pthread_mutex_unlock(&s->lock);
}

static void is_woken_by_a_condition(void)
{
  enum { FIBERS = 3 };
  store s;
  mb_fiber *fibers[FIBERS];
  bool ended[FIBERS] = {false};
  open_store(&s);
  for (int i = 0; i < FIBERS; i++) {
    fibers[i] = open_fiber();
    CHECK(!mb_fiber_start(fibers[i], take_token, &s));
  }
  for (int n = 1; n <= FIBERS; n++) {
    int n_woken = 0;
    put_tokens(&s, 1);
    for (int i = 0; i < FIBERS; i++) {
      mb_wait wait;
      mb_fiber_waits_for(fibers[i], &wait);
      if (ended[i] || !is_readable(wait.fd, 0))
        continue;
      n_woken++;
      ended[i] = mb_fiber_resume(fibers[i]);
    }
    CHECK_INT(n_woken, 1);
    CHECK_INT(s.taken, n);
  }
  for (int i = 0; i < FIBERS; i++) {
    CHECK(ended[i]);
    mb_fiber_close(fibers[i]);
  }
  close_store(&s);
}

static void gives_up_a_condition_when_stopped(void)
{
  store s;
  open_store(&s);
  mb_fiber *fiber = open_fiber();
  CHECK(!mb_fiber_start(fiber, take_token, &s));
  mb_fiber_stop(fiber, false);
  CHECK(mb_fiber_resume(fiber));
  CHECK_INT(s.taken, 0);
  put_tokens(&s, 1); /* nobody is there any more */
  CHECK_INT(s.tokens, 1);
  mb_fiber_close(fiber);
  close_store(&s);
}

enum { FIBERS = 40, ROUNDS = 25, THREADS = 4 };

typedef struct party {
  pthread_t thread;
  store *store;
  int n;
} party;

static void take_many(void *argument)
{
  for (int i = 0; i < ROUNDS; i++)
    take_token(argument);
}

/* The event loop of one thread. */
static void *run_loop(void *argument)
{
  const party *own = argument;
  mb_fiber *fibers[FIBERS];
  struct pollfd fds[FIBERS];
  int n_left = FIBERS;
  for (int i = 0; i < FIBERS; i++) {
    fibers[i] = open_fiber();
    if (mb_fiber_start(fibers[i], take_many, own->store)) {
      mb_fiber_close(fibers[i]);
      fibers[i] = NULL;
      n_left--;
    }
  }
  while (n_left > 0) {
    for (int i = 0; i < FIBERS; i++) {
      mb_wait wait = {.fd = -1};
      if (fibers[i] != NULL)
        mb_fiber_waits_for(fibers[i], &wait);
      fds[i] = (struct pollfd){.fd = wait.fd, .events = POLLIN};
    }
    (void)poll(fds, FIBERS, -1);
    for (int i = 0; i < FIBERS; i++)
      if (fds[i].revents != 0 && mb_fiber_resume(fibers[i])) {
        mb_fiber_close(fibers[i]);
        fibers[i] = NULL;
        n_left--;
      }
  }
  return NULL;
}

/* Fibers of several threads, and threads that block, wait for the same. */
static void serves_many_on_several_threads(void)
{
  store s;
  party parties[THREADS];
  open_store(&s);
  for (int i = 0; i < THREADS; i++) {
    parties[i] = (party){.store = &s};
    if (pthread_create(&parties[i].thread, NULL, run_loop, &parties[i]) != 0)
      abort();
  }
  for (int i = 0; i < THREADS * FIBERS * ROUNDS; i += i % 3 == 0 ? 1 : 2)
    put_tokens(&s, i % 3 == 0 ? 1 : 2);
  put_tokens(&s, 2);
  for (int i = 0; i < THREADS; i++)
    (void)pthread_join(parties[i].thread, NULL);
  CHECK_INT(s.taken, THREADS * FIBERS * ROUNDS);
  close_store(&s);
}

static const struct check_test tests[] = {
    CHECK_TEST(runs_one_work_after_the_other),
    CHECK_TEST(runs_one_inside_another),
    CHECK_TEST(has_room_for_deep_calls),
    CHECK_TEST(is_left_while_it_waits),
    CHECK_TEST(looks_once_unless_it_is_told),
    CHECK_TEST(waits_for_either_of_two),
    CHECK_TEST(comes_back_when_it_is_time),
    CHECK_TEST(sleeps_outside),
    CHECK_TEST(is_stopped_once),
    CHECK_TEST(is_woken_by_a_condition),
    CHECK_TEST(gives_up_a_condition_when_stopped),
    CHECK_TEST(serves_many_on_several_threads),
};

int main(void)
{
  return CHECK_RUN(tests);
}
