/*
 * errand.c: work on a thread that may be left alone with it.
 */
#include "errand.h"

#include "host.h"
#include "thread.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* Errands count here, far from where drivers begin to count their sockets. */
static atomic_uint last_serial = 0x80000000u;

void mb__errand_join(mb__errand *errand)
{
  (void)atomic_fetch_add(&errand->refs, 1);
}

void mb__errand_leave(mb__errand *errand)
{
  if (errand == NULL || atomic_fetch_sub(&errand->refs, 1) != 1)
    return;
  for (int end = 0; end < 2; end++)
    if (errand->fds[end] >= 0)
      (void)close(errand->fds[end]);
  errand->free(errand);
}

static void run(void *argument)
{
  mb__errand *errand = argument;
  const mb_driver *driver = errand->driver;
  if (driver != NULL && driver->thread_enter != NULL)
    driver->thread_enter();
  errand->work(errand);
  atomic_store(&errand->done, true);
  /* Never read: everybody who waits is to be woken. */
  while (write(errand->fds[1], "", 1) < 0 && errno == EINTR)
    continue;
  mb__errand_leave(errand);
  if (driver != NULL && driver->thread_leave != NULL)
    driver->thread_leave();
}

mb_status mb__errand_start(mb__errand *errand, mb_error *error)
{
  atomic_init(&errand->refs, 2);
  atomic_init(&errand->done, false);
  errand->fd_serial = atomic_fetch_add(&last_serial, 1) + 1;
  if (pipe(errand->fds) != 0) {
    errand->fds[0] = errand->fds[1] = -1;
    atomic_store(&errand->refs, 1);
    return mb__host.fail(
        error, MB_RESOURCE, "there is no file descriptor left");
  }
  for (int end = 0; end < 2; end++)
    (void)fcntl(errand->fds[end], F_SETFD, FD_CLOEXEC);
  if (mb__thread_start(run, errand))
    return MB_OK;
  atomic_store(&errand->refs, 1);
  return mb__host.fail(error, MB_RESOURCE, "no thread could be started");
}

void mb__errand_run_here(mb__errand *errand)
{
  atomic_init(&errand->refs, 1);
  errand->fds[0] = errand->fds[1] = -1;
  errand->work(errand);
  atomic_init(&errand->done, true);
}

bool mb__errand_is_done(const mb__errand *errand)
{
  return atomic_load(&errand->done);
}

mb_status mb__errand_wait(
    const mb__errand *errand, int64_t deadline_ns, mb_op *op)
{
  op->wait = (mb_wait){.fd = errand->fds[0],
      .events = MB_READABLE_FD,
      .flags = MB_WAIT_IDLE,
      .deadline_ns = deadline_ns,
      .fd_serial = errand->fd_serial};
  return MB_WAIT;
}
