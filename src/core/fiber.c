/*
 * fiber.c: stacks of their own for calls that are left while they wait.
 *
 * A call of the core that waits on such a stack leaves it as it is and comes
 * back to whoever started it, with a file descriptor to wait for; resumed, it
 * goes on where it was.  So the same lines serve a program that blocks and one
 * that has an event loop, and nothing has to be taken apart for the latter.
 */
/* For MAP_ANONYMOUS.
 * NOLINTNEXTLINE(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp) */
#define _DEFAULT_SOURCE 1

#include "fiber.h"

#include "alarm.h"
#include "host.h"
#include "stack.h"
#include "worker.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#if defined(__linux__)
#  include <sys/epoll.h>
#  include <sys/eventfd.h>
#endif

#if defined(__SANITIZE_ADDRESS__)
#  include <sanitizer/common_interface_defs.h>
#  define WATCHED_BY_ASAN 1
#else
#  define WATCHED_BY_ASAN 0
#endif
#if defined(__SANITIZE_THREAD__)
#  include <sanitizer/tsan_interface.h>
#  define WATCHED_BY_TSAN 1
#else
#  define WATCHED_BY_TSAN 0
#endif

#define NS_PER_MS INT64_C(1000000)
/* More than twice of what was measured: SQLite takes 388 KB for the deepest
 * expressions that it accepts.  Only the pages that were touched take memory.
 */
#define STACK_SIZE ((size_t)1024 * 1024)
/* How often something is looked at that nothing tells of. */
#define LOOK_NS (2 * NS_PER_MS)

struct mb_fiber {
#if MB__SWITCHES_ITSELF
  void *inside, *outside;
#else
  ucontext_t inside, outside;
#endif
  void *memory; /* a page that may not be touched, then the stack */
  size_t guard;
  void (*work)(void *argument);
  void *argument;
  bool ended;
  bool told; /* that what it waits for is ready */
  mb__fiber_stop stop;
  bool stopped; /* at any time since its start */
  const void *task;
  int64_t entered_ns; /* or asked first since; 0: nobody has asked */
  mb_wait wait;

  /* Elsewhere. */
  atomic_bool away;
  atomic_int holders; /* workers that have something to do with it */
  mb_op *op;          /* the owner's to stop; or NULL */
  mb__worker *worker; /* that is to go on with it, or does */
  bool goes;          /* as soon as it is left */
  unsigned epoch;     /* of the workers, when it left */

  int wake[2]; /* to read, to write: may be the same; -1: none yet */
  int both;    /* stands for two file descriptors; -1: none yet */
#if WATCHED_BY_ASAN
  void *fake_inside;
  const void *outer_stack;
  size_t outer_size;
#endif
#if WATCHED_BY_TSAN
  void *tsan_inside, *tsan_outside;
#endif
};

atomic_bool mb__fiber_known;

static _Thread_local mb_fiber *current;
/* The one that a worker goes on with. */
static _Thread_local mb_fiber *guest;

/* --- Changing stacks ------------------------------------------------------ */

/* Never inlined: a thread may not keep the address of what is its own over a
 * change of stacks. */
__attribute__((noinline)) mb_fiber *mb__fiber_running(void)
{
  return current;
}

__attribute__((noinline)) static void set_running(mb_fiber *fiber)
{
  current = fiber;
}

__attribute__((noinline)) static mb_fiber *visiting(void)
{
  return guest;
}

__attribute__((noinline)) static void set_visiting(mb_fiber *fiber)
{
  guest = fiber;
}

static void note_inside(mb_fiber *fiber)
{
#if WATCHED_BY_ASAN
  __sanitizer_finish_switch_fiber(
      fiber->fake_inside, &fiber->outer_stack, &fiber->outer_size);
#endif
  (void)fiber;
}

/* Goes on with the fiber until it is left. */
static void change_to(mb_fiber *fiber)
{
#if WATCHED_BY_TSAN
  fiber->tsan_outside = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(fiber->tsan_inside, 0);
#endif
#if WATCHED_BY_ASAN
  void *fake;
  __sanitizer_start_switch_fiber(
      &fake, (char *)fiber->memory + fiber->guard, STACK_SIZE);
#endif
#if MB__SWITCHES_ITSELF
  mb__stack_switch(&fiber->outside, fiber->inside);
#else
  (void)swapcontext(&fiber->outside, &fiber->inside);
#endif
#if WATCHED_BY_ASAN
  __sanitizer_finish_switch_fiber(fake, NULL, NULL);
#endif
}

static void carry(void *argument);

static void enter(mb_fiber *fiber)
{
  mb_fiber *outer = mb__fiber_running();
  set_running(fiber);
  fiber->entered_ns = 0;
  change_to(fiber);
  set_running(outer);
  /* Here, where all of it has been left. */
  if (fiber->goes) {
    fiber->goes = false;
    mb__worker_give(fiber->worker, carry, fiber, fiber->op);
  }
}

static void leave(mb_fiber *fiber)
{
#if WATCHED_BY_TSAN
  __tsan_switch_to_fiber(fiber->tsan_outside, 0);
#endif
#if WATCHED_BY_ASAN
  if (fiber->ended)
    fiber->fake_inside = NULL;
  __sanitizer_start_switch_fiber(fiber->ended ? NULL : &fiber->fake_inside,
      fiber->outer_stack, fiber->outer_size);
#endif
#if MB__SWITCHES_ITSELF
  mb__stack_switch(&fiber->inside, fiber->outside);
#else
  (void)swapcontext(&fiber->inside, &fiber->outside);
#endif
  note_inside(fiber);
}

/* What runs on the stack: one work after the other. */
static void run(void)
{
  mb_fiber *fiber = mb__fiber_running();
  note_inside(fiber);
  for (;;) {
    fiber->work(fiber->argument);
    fiber->ended = true;
    leave(fiber);
  }
}

/* --- Waking ------------------------------------------------------------- */

static bool make_wake(mb_fiber *fiber)
{
  if (fiber->wake[0] >= 0)
    return true;
#if defined(__linux__)
  fiber->wake[0] = fiber->wake[1] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  return fiber->wake[0] >= 0;
#else
  if (pipe(fiber->wake) != 0) {
    fiber->wake[0] = fiber->wake[1] = -1;
    return false;
  }
  for (int end = 0; end < 2; end++) {
    (void)fcntl(fiber->wake[end], F_SETFD, FD_CLOEXEC);
    (void)fcntl(fiber->wake[end], F_SETFL, O_NONBLOCK);
  }
  return true;
#endif
}

/* Readies the file descriptor that the fiber is woken by. */
static bool ready_wake(mb_fiber *fiber)
{
  uint64_t before;
  if (!make_wake(fiber))
    return false;
  /* Somebody may have woken it after its time was up.  One read takes all of an
   * eventfd, and of a pipe what is left says it again. */
  (void)!read(fiber->wake[0], &before, sizeof before);
  return true;
}

static void wake(int fd)
{
  const uint64_t one = 1;
  while (write(fd, &one, sizeof one) < 0 && errno == EINTR)
    continue;
}

/* --- Fibers ------------------------------------------------------------- */

static bool is_away(const mb_fiber *fiber)
{
  return atomic_load_explicit(&fiber->away, memory_order_acquire);
}

static void stop_op(mb_op *op)
{
  int expected = MB_GO_ON;
  (void)atomic_compare_exchange_strong(&op->stop, &expected, MB_STOP_CANCEL);
  mb__alarm_look();
}

/* A worker may stand on the stack still. */
static void await_home(mb_fiber *fiber)
{
  struct pollfd home = {.fd = fiber->wake[0], .events = POLLIN};
  if (fiber->epoch != mb__worker_epoch())
    return;
  if (is_away(fiber))
    mb_fiber_stop(fiber, false);
  while (is_away(fiber))
    (void)poll(&home, 1, -1);
  while (atomic_load(&fiber->holders) > 0)
    (void)sched_yield(); /* for the rest of a function */
}

mb_status mb_fiber_open(mb_fiber **out, mb_error *error)
{
  const size_t guard = (size_t)sysconf(_SC_PAGESIZE);
  mb_fiber *fiber = mb__allocate_zeroed(1, sizeof *fiber);
  *out = NULL;
  if (fiber == NULL)
    return mb__out_of_memory(error);
  fiber->guard = guard;
  fiber->memory = mmap(NULL, guard + STACK_SIZE, PROT_READ | PROT_WRITE,
      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (fiber->memory == MAP_FAILED) {
    mb__host.release(fiber);
    return mb__out_of_memory(error);
  }
  (void)mprotect(fiber->memory, guard, PROT_NONE);
#if MB__SWITCHES_ITSELF
  fiber->inside =
      mb__stack_prepare((char *)fiber->memory + guard, STACK_SIZE, run);
#else
  (void)getcontext(&fiber->inside);
  fiber->inside.uc_stack.ss_sp = (char *)fiber->memory + guard;
  fiber->inside.uc_stack.ss_size = STACK_SIZE;
  fiber->inside.uc_link = NULL;
  makecontext(&fiber->inside, run, 0);
#endif
  fiber->ended = true;
  fiber->wake[0] = fiber->wake[1] = fiber->both = -1;
#if WATCHED_BY_TSAN
  fiber->tsan_inside = __tsan_create_fiber(0);
#endif
  atomic_store(&mb__fiber_known, true);
  *out = fiber;
  return MB_OK;
}

void mb_fiber_close(mb_fiber *fiber)
{
  if (fiber == NULL)
    return;
  await_home(fiber);
  if (fiber->both >= 0)
    (void)close(fiber->both);
  if (fiber->wake[1] >= 0 && fiber->wake[1] != fiber->wake[0])
    (void)close(fiber->wake[1]);
  if (fiber->wake[0] >= 0)
    (void)close(fiber->wake[0]);
#if WATCHED_BY_TSAN
  __tsan_destroy_fiber(fiber->tsan_inside);
#endif
  (void)munmap(fiber->memory, fiber->guard + STACK_SIZE);
  mb__host.release(fiber);
}

bool mb_fiber_start(
    mb_fiber *fiber, void (*work)(void *argument), void *argument)
{
  fiber->work = work;
  fiber->argument = argument;
  fiber->ended = false;
  fiber->stop = MB__FIBER_GOES_ON;
  fiber->stopped = false;
  enter(fiber);
  return fiber->ended;
}

bool mb_fiber_resume(mb_fiber *fiber)
{
  /* What has told so far was not this; what comes from now on is. */
  if (is_away(fiber) && ready_wake(fiber) && is_away(fiber))
    return false;
  enter(fiber);
  return fiber->ended;
}

void mb_fiber_set_task(mb_fiber *fiber, const void *task)
{
  fiber->task = task;
}

const void *mb__fiber_task(void)
{
  const mb_fiber *fiber = mb__fiber_running();
  return fiber != NULL ? fiber->task : NULL;
}

void mb_fiber_stop(mb_fiber *fiber, bool at_once)
{
  fiber->stop = at_once ? MB__FIBER_CUT_OFF : MB__FIBER_STOPPED;
  fiber->stopped = true;
  if (is_away(fiber) && fiber->op != NULL)
    stop_op(fiber->op);
}

mb__fiber_stop mb__fiber_take_stop(void)
{
  mb_fiber *fiber = mb__fiber_running();
  if (fiber == NULL)
    return MB__FIBER_GOES_ON;
  const mb__fiber_stop stop = fiber->stop;
  fiber->stop = MB__FIBER_GOES_ON;
  return stop;
}

bool mb__fiber_was_stopped(void)
{
  const mb_fiber *fiber = mb__fiber_running();
  return fiber != NULL && fiber->stopped;
}

mb_status mb__fiber_refuse(mb_error *error)
{
  return mb__host.fail(
      error, MB_CANCELED, "cancelled: nobody waits for it any more");
}

void mb_fiber_waits_for(const mb_fiber *fiber, mb_wait *out)
{
  *out = fiber->wait;
}

void mb_fiber_tell(mb_fiber *fiber)
{
  fiber->told = true;
}

bool mb_fiber_is_inside(void)
{
  return mb__fiber_running() != NULL;
}

/* --- Waiting -------------------------------------------------------------- */

static unsigned events_of(short events)
{
  return (events & POLLIN ? MB_READABLE_FD : 0u) |
         (events & POLLOUT ? MB_WRITABLE_FD : 0u);
}

/* One file descriptor that is readable when one of two is ready; -1: there is
 * no such thing here. */
static int join(mb_fiber *fiber, const struct pollfd *fds)
{
#if defined(__linux__)
  if (fiber->both < 0)
    fiber->both = epoll_create1(EPOLL_CLOEXEC);
  for (int i = 0; i < 2 && fiber->both >= 0; i++) {
    struct epoll_event event = {
        .events = (fds[i].events & POLLIN ? EPOLLIN : 0u) |
                  (fds[i].events & POLLOUT ? EPOLLOUT : 0u)};
    if (epoll_ctl(fiber->both, EPOLL_CTL_ADD, fds[i].fd, &event) != 0)
      return -1;
  }
  return fiber->both;
#else
  (void)fiber;
  (void)fds;
  return -1;
#endif
}

static void part(mb_fiber *fiber, const struct pollfd *fds)
{
#if defined(__linux__)
  for (int i = 0; i < 2 && fiber->both >= 0; i++)
    (void)epoll_ctl(fiber->both, EPOLL_CTL_DEL, fds[i].fd, NULL);
#else
  (void)fiber;
  (void)fds;
#endif
}

/* Leaves the fiber until it is resumed. */
static void wait_outside(
    mb_fiber *fiber, const struct pollfd *fds, nfds_t n, int64_t deadline_ns)
{
  fiber->wait = (mb_wait){.fd = -1, .deadline_ns = deadline_ns};
  const bool two = n == 2 && fds[0].fd >= 0 && fds[1].fd >= 0;
  const struct pollfd *one = n == 2 && fds[0].fd < 0 ? &fds[1] : fds;
  if (two) {
    fiber->wait.fd = join(fiber, fds);
    fiber->wait.events = MB_READABLE_FD;
  }
  if (n > 0 && fiber->wait.fd < 0 && one->fd >= 0) {
    fiber->wait.fd = one->fd;
    fiber->wait.events = events_of(one->events);
  }
  const int64_t look_ns = mb__host.now_ns() + LOOK_NS;
  if (two && fiber->wait.fd != fiber->both && look_ns < deadline_ns)
    fiber->wait.deadline_ns = look_ns;
  fiber->told = false;
  leave(fiber);
  if (two)
    part(fiber, fds);
}

/* Milliseconds for poll, rounded up: the time has come when it returns. */
static int left_ms(int64_t deadline_ns)
{
  if (deadline_ns == MB_NEVER)
    return -1;
  const int64_t left_ns = deadline_ns - mb__host.now_ns();
  if (left_ns <= 0)
    return 0;
  const int64_t ms = (left_ns - 1) / NS_PER_MS + 1;
  return ms < INT_MAX ? (int)ms : INT_MAX;
}

/* What was told of one event needs no look. */
static bool is_told(const mb_fiber *fiber, struct pollfd *fds, nfds_t n)
{
  if (!fiber->told || n != 1 ||
      (fds[0].events != POLLIN && fds[0].events != POLLOUT))
    return false;
  fds[0].revents = fds[0].events;
  return true;
}

int mb__fiber_poll(struct pollfd *fds, nfds_t n, int64_t deadline_ns)
{
  mb_fiber *fiber = mb__fiber_running();
  int timeout_ms = left_ms(deadline_ns);
  if (fiber != NULL && timeout_ms != 0) {
    wait_outside(fiber, fds, n, deadline_ns);
    if (is_told(fiber, fds, n))
      return 1;
    timeout_ms = 0;
  }
  return poll(fds, n, timeout_ms);
}

/* --- Conditions ----------------------------------------------------------- */

bool mb__fiber_lie_down(mb__sleeper *sleeper)
{
  mb_fiber *fiber = mb__fiber_running();
  if (!ready_wake(fiber))
    return false;
  sleeper->fd = fiber->wake[1];
  return true;
}

bool mb__fiber_sleep(int64_t deadline_ns)
{
  mb_fiber *fiber = mb__fiber_running();
  struct pollfd woken = {.fd = fiber->wake[0], .events = POLLIN};
  return mb__fiber_poll(&woken, 1, deadline_ns) > 0 ||
         mb__host.now_ns() < deadline_ns;
}

void mb__fiber_wake(const mb__sleeper *sleeper)
{
  wake(sleeper->fd);
}

/* --- Working elsewhere -------------------------------------------------- */

/* On a worker, and on its own stack wherever it touches what others see. */
static void carry(void *argument)
{
  mb_fiber *fiber = argument;
  set_visiting(fiber);
  change_to(fiber);
  set_visiting(NULL);
  mb__worker_leave(fiber->worker);
  /* Before it is told, since who hears of it runs at once, and would else have
   * to come again and again. */
  atomic_store_explicit(&fiber->away, false, memory_order_release);
  wake(fiber->wake[1]);
  (void)atomic_fetch_sub(&fiber->holders, 1);
}

bool mb__fiber_leave_home(mb_op *op, const mb_driver *driver)
{
  mb_fiber *fiber = mb__fiber_running();
  if (fiber == NULL || !ready_wake(fiber) ||
      (fiber->worker = mb__worker_take(driver)) == NULL)
    return false;
  fiber->wait = (mb_wait){
      .fd = fiber->wake[0], .events = MB_READABLE_FD, .deadline_ns = MB_NEVER};
  fiber->op = op;
  fiber->epoch = mb__worker_epoch();
  if (fiber->stop != MB__FIBER_GOES_ON && op != NULL)
    stop_op(op);
  fiber->goes = true;
  (void)atomic_fetch_add(&fiber->holders, 1);
  atomic_store(&fiber->away, true);
  leave(fiber);
  return true;
}

void mb__fiber_come_home(void)
{
  mb_fiber *fiber = visiting();
  if (fiber == NULL)
    return;
  leave(fiber);
  fiber->op = NULL;
}

bool mb__fiber_is_late(int64_t duration_ns)
{
  mb_fiber *fiber = mb__fiber_running();
  if (fiber == NULL)
    return false;
  const int64_t now_ns = mb__host.now_ns();
  if (fiber->entered_ns == 0)
    fiber->entered_ns = now_ns;
  return now_ns - fiber->entered_ns >= duration_ns;
}
