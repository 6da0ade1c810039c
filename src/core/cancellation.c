/*
 * cancellation.c: flags that reach operations, and requests that reach
 * databases.
 */
#include "cancellation.h"

#include "alarm.h"
#include "host.h"
#include "thread.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

struct mb_cancellation {
  atomic_uint refs;
  atomic_bool cancelled;
  char *name;            /* NULL: none; constant */
  mb_cancellation *next; /* of those with a name; guarded by names_lock */

  pthread_mutex_t lock; /* guards everything below */
  char reason[MB__REASON_ROOM];
  mb__listener *listeners;
  int fds[2]; /* a pipe; -1: not made yet */
};

static pthread_mutex_t names_lock = PTHREAD_MUTEX_INITIALIZER;
static mb_cancellation *names; /* guarded by names_lock */

static mb_cancellation *make(const char *name)
{
  mb_cancellation *made = mb__allocate_zeroed(1, sizeof *made);
  if (made == NULL)
    return NULL;
  if (name != NULL &&
      (made->name = mb__copy_text(name, strlen(name))) == NULL) {
    mb__host.release(made);
    return NULL;
  }
  atomic_init(&made->refs, 1);
  made->fds[0] = made->fds[1] = -1;
  (void)pthread_mutex_init(&made->lock, NULL);
  return made;
}

void mb__cancellations_lock(void)
{
  (void)pthread_mutex_lock(&names_lock);
  for (mb_cancellation *one = names; one != NULL; one = one->next)
    (void)pthread_mutex_lock(&one->lock);
}

void mb__cancellations_unlock(void)
{
  for (mb_cancellation *one = names; one != NULL; one = one->next)
    (void)pthread_mutex_unlock(&one->lock);
  (void)pthread_mutex_unlock(&names_lock);
}

mb_status mb_cancellation_open(
    const char *name, mb_cancellation **out, mb_error *error)
{
  *out = NULL;
  if (name == NULL) {
    *out = make(NULL);
    return *out != NULL ? MB_OK : mb__out_of_memory(error);
  }

  (void)pthread_mutex_lock(&names_lock);
  mb_cancellation *found = names;
  while (found != NULL && strcmp(found->name, name) != 0)
    found = found->next;
  if (found != NULL) {
    (void)atomic_fetch_add(&found->refs, 1);
  } else if ((found = make(name)) != NULL) {
    found->next = names;
    names = found;
  }
  (void)pthread_mutex_unlock(&names_lock);
  *out = found;
  return found != NULL ? MB_OK : mb__out_of_memory(error);
}

void mb_cancellation_close(mb_cancellation *cancellation)
{
  if (cancellation == NULL)
    return;
  /* With the lock, so that nobody finds a name whose object is going. */
  (void)pthread_mutex_lock(&names_lock);
  const bool last = atomic_fetch_sub(&cancellation->refs, 1) == 1;
  if (last && cancellation->name != NULL) {
    mb_cancellation **link = &names;
    while (*link != cancellation)
      link = &(*link)->next;
    *link = cancellation->next;
  }
  (void)pthread_mutex_unlock(&names_lock);
  if (!last)
    return;

  if (cancellation->fds[0] >= 0) {
    (void)close(cancellation->fds[0]);
    (void)close(cancellation->fds[1]);
  }
  (void)pthread_mutex_destroy(&cancellation->lock);
  mb__host.release(cancellation->name);
  mb__host.release(cancellation);
}

/* A terminated copy, cut at a character where it does not fit. */
static void copy_cut(char *out, size_t room, const char *text)
{
  if (room == 0)
    return;
  const size_t size = mb__utf8_cut(text, strlen(text), room - 1);
  memcpy(out, text, size);
  out[size] = '\0';
}

void mb_cancellation_cancel(mb_cancellation *cancellation, const char *reason)
{
  (void)pthread_mutex_lock(&cancellation->lock);
  if (!atomic_load(&cancellation->cancelled)) {
    if (reason != NULL)
      copy_cut(cancellation->reason, sizeof cancellation->reason, reason);
    atomic_store(&cancellation->cancelled, true);
    for (mb__listener *one = cancellation->listeners; one != NULL;
         one = one->next)
      atomic_store(&one->op->stop, MB_STOP_CANCEL);
    if (cancellation->fds[1] >= 0) {
      /* Never read again: everybody who polls it is to be woken. */
      while (write(cancellation->fds[1], "", 1) < 0 && errno == EINTR)
        continue;
    }
  }
  (void)pthread_mutex_unlock(&cancellation->lock);
  mb__alarm_look();
}

bool mb_cancellation_is_cancelled(const mb_cancellation *cancellation)
{
  return atomic_load(&cancellation->cancelled);
}

void mb_cancellation_reason(
    mb_cancellation *cancellation, char *out, size_t size)
{
  (void)pthread_mutex_lock(&cancellation->lock);
  copy_cut(out, size, cancellation->reason);
  (void)pthread_mutex_unlock(&cancellation->lock);
}

mb_status mb__cancellation_fail(mb_cancellation *cancellation, mb_error *error)
{
  char reason[MB__REASON_ROOM];
  mb_cancellation_reason(cancellation, reason, sizeof reason);
  return mb__host.fail(error, MB_CANCELED, "cancelled%s%s",
      reason[0] != '\0' ? ": " : "", reason);
}

bool mb__cancellation_listen(
    mb_cancellation *cancellation, mb__listener *listener, mb_op *op)
{
  (void)pthread_mutex_lock(&cancellation->lock);
  const bool cancelled = atomic_load(&cancellation->cancelled);
  if (!cancelled) {
    listener->cancellation = cancellation;
    listener->op = op;
    listener->prev = NULL;
    listener->next = cancellation->listeners;
    if (listener->next != NULL)
      listener->next->prev = listener;
    cancellation->listeners = listener;
  }
  (void)pthread_mutex_unlock(&cancellation->lock);
  return !cancelled;
}

void mb__cancellation_unlisten(mb__listener *listener)
{
  mb_cancellation *cancellation = listener->cancellation;
  if (cancellation == NULL)
    return;
  (void)pthread_mutex_lock(&cancellation->lock);
  if (listener->prev != NULL)
    listener->prev->next = listener->next;
  else
    cancellation->listeners = listener->next;
  if (listener->next != NULL)
    listener->next->prev = listener->prev;
  (void)pthread_mutex_unlock(&cancellation->lock);
  listener->cancellation = NULL;
}

int mb__cancellation_fd(mb_cancellation *cancellation)
{
  int fds[2]; /* which a failing pipe may have written to */
  (void)pthread_mutex_lock(&cancellation->lock);
  if (cancellation->fds[0] < 0 && pipe(fds) == 0) {
    for (int end = 0; end < 2; end++) {
      (void)fcntl(fds[end], F_SETFD, FD_CLOEXEC);
      cancellation->fds[end] = fds[end];
    }
    if (atomic_load(&cancellation->cancelled))
      while (write(cancellation->fds[1], "", 1) < 0 && errno == EINTR)
        continue;
  }
  const int fd = cancellation->fds[0];
  (void)pthread_mutex_unlock(&cancellation->lock);
  return fd;
}

/* --- Asking the database ------------------------------------------------ */

struct mb__canceller {
  atomic_uint refs;
  const mb_driver *driver; /* constant */
  mb_driver_cancel *handle;

  pthread_mutex_t lock; /* guards everything below */
  mb__condition returned;
  bool asking;
  int64_t deadline_ns;
};

mb__canceller *mb__canceller_open(
    const mb_driver *driver, mb_driver_cancel *handle)
{
  if (handle == NULL)
    return NULL;
  mb__canceller *canceller = mb__allocate_zeroed(1, sizeof *canceller);
  if (canceller == NULL) {
    driver->release_cancel(handle);
    return NULL;
  }
  atomic_init(&canceller->refs, 1);
  canceller->driver = driver;
  canceller->handle = handle;
  (void)pthread_mutex_init(&canceller->lock, NULL);
  mb__condition_init(&canceller->returned);
  return canceller;
}

static void free_canceller(mb__canceller *canceller)
{
  canceller->driver->release_cancel(canceller->handle);
  mb__condition_destroy(&canceller->returned);
  (void)pthread_mutex_destroy(&canceller->lock);
  mb__host.release(canceller);
}

void mb__canceller_close(mb__canceller *canceller)
{
  if (canceller == NULL || atomic_fetch_sub(&canceller->refs, 1) != 1)
    return;
  /* The helper lets go inside the lock, which it has to leave first. */
  (void)pthread_mutex_lock(&canceller->lock);
  (void)pthread_mutex_unlock(&canceller->lock);
  free_canceller(canceller);
}

/* On the helper thread.  What the database says to it does not matter: the
 * operation's own answer tells. */
static void ask(void *argument)
{
  mb__canceller *canceller = argument;
  mb_error ignored;
  const mb_driver *driver = canceller->driver;
  if (driver->thread_enter != NULL)
    driver->thread_enter();
  (void)driver->cancel(
      canceller->handle, MB_CANCEL_QUERY, canceller->deadline_ns, &ignored);

  (void)pthread_mutex_lock(&canceller->lock);
  canceller->asking = false;
  mb__condition_broadcast(&canceller->returned);
  /* Inside the lock: who has waited finds that nobody else holds the handle. */
  const bool last = atomic_fetch_sub(&canceller->refs, 1) == 1;
  (void)pthread_mutex_unlock(&canceller->lock);
  if (last)
    free_canceller(canceller);
  if (driver->thread_leave != NULL)
    driver->thread_leave();
}

bool mb__canceller_ask(mb__canceller *canceller, int64_t deadline_ns)
{
  if (canceller == NULL)
    return false;
  (void)pthread_mutex_lock(&canceller->lock);
  const bool free_to_ask = !canceller->asking;
  if (free_to_ask) {
    canceller->asking = true;
    canceller->deadline_ns = deadline_ns;
  }
  (void)pthread_mutex_unlock(&canceller->lock);
  if (!free_to_ask)
    return true;

  (void)atomic_fetch_add(&canceller->refs, 1);
  if (mb__thread_start(ask, canceller))
    return true;
  (void)pthread_mutex_lock(&canceller->lock);
  canceller->asking = false;
  (void)pthread_mutex_unlock(&canceller->lock);
  mb__canceller_close(canceller);
  return false;
}

bool mb__canceller_await(mb__canceller *canceller, int64_t deadline_ns)
{
  if (canceller == NULL)
    return true;
  (void)pthread_mutex_lock(&canceller->lock);
  while (canceller->asking && mb__condition_wait(&canceller->returned,
                                  &canceller->lock, deadline_ns))
    continue;
  const bool returned = !canceller->asking;
  (void)pthread_mutex_unlock(&canceller->lock);
  return returned;
}

void mb__canceller_shut(mb__canceller *canceller)
{
  mb_error ignored;
  if (canceller != NULL)
    (void)canceller->driver->cancel(
        canceller->handle, MB_CANCEL_SOCKET, mb__host.now_ns(), &ignored);
}

void mb__ending_ask(
    mb__ending *ending, mb_op *op, mb__canceller *canceller, int64_t grace_ns)
{
  int expected = MB_GO_ON;
  (void)atomic_compare_exchange_strong(&op->stop, &expected, MB_STOP_TIMEOUT);
  ending->phase = MB__PHASE_ASKED;
  ending->grace_end_ns = mb__deadline_ns(grace_ns);
  if (!mb__canceller_ask(canceller, ending->grace_end_ns))
    ending->grace_end_ns = 0;
}
