/*
 * cancel.c: ending from another thread what a connection does.
 *
 * The handle has a descriptor of its own for the connection's socket: libpq
 * closes its descriptor when it likes, and the number may then be another
 * file's.  Shutting one down shuts down the socket behind both.
 */
#include "postgres.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#define NS_PER_MS 1000000
#define MESSAGE_SIZE 256

#ifdef LIBPQ_HAS_ASYNC_CANCEL
typedef PGcancelConn pg_request_to_cancel;
#else
typedef PGcancel pg_request_to_cancel;
#endif

struct mb_driver_cancel {
  const mb_host *host;
  atomic_int refs;

  pthread_mutex_t asking;    /* held while the server is asked; guards ask */
  pg_request_to_cancel *ask; /* NULL: there is no session */

  pthread_mutex_t lock; /* guards what follows; held for a moment only */
  int fd;               /* -1: none */
  bool shut;
  bool ended;
};

mb_driver_cancel *pg_make_cancel(const mb_host *host)
{
  mb_driver_cancel *handle = host->allocate(sizeof *handle);
  if (handle == NULL)
    return NULL;
  *handle = (mb_driver_cancel){.host = host, .fd = -1};
  atomic_init(&handle->refs, 1);
  (void)pthread_mutex_init(&handle->asking, NULL);
  (void)pthread_mutex_init(&handle->lock, NULL);
  return handle;
}

mb_driver_cancel *pg_cancel_handle(mb_driver_conn *conn)
{
  if (conn->cancel != NULL)
    (void)atomic_fetch_add(&conn->cancel->refs, 1);
  return conn->cancel;
}

static void free_request(pg_request_to_cancel *ask)
{
  if (ask == NULL)
    return;
#ifdef LIBPQ_HAS_ASYNC_CANCEL
  PQcancelFinish(ask);
#else
  PQfreeCancel(ask);
#endif
}

void pg_release_cancel(mb_driver_cancel *handle)
{
  if (handle == NULL || atomic_fetch_sub(&handle->refs, 1) != 1)
    return;
  free_request(handle->ask);
  if (handle->fd >= 0)
    (void)close(handle->fd);
  (void)pthread_mutex_destroy(&handle->asking);
  (void)pthread_mutex_destroy(&handle->lock);
  handle->host->release(handle);
}

/* --- Which connection --------------------------------------------------- */

bool pg_set_cancel_socket(mb_driver_cancel *handle, int fd)
{
  const int own = fd >= 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 0) : -1;
  (void)pthread_mutex_lock(&handle->lock);
  const int before = handle->fd;
  const bool shut = handle->shut;
  handle->fd = own;
  (void)pthread_mutex_unlock(&handle->lock);
  if (before >= 0)
    (void)close(before);
  return !shut && (own >= 0 || fd < 0);
}

bool pg_set_cancel_session(mb_driver_cancel *handle, PGconn *pq)
{
#ifdef LIBPQ_HAS_ASYNC_CANCEL
  pg_request_to_cancel *ask = PQcancelCreate(pq);
#else
  pg_request_to_cancel *ask = PQgetCancel(pq);
#endif
  if (ask == NULL)
    return false;
  (void)pthread_mutex_lock(&handle->asking);
  handle->ask = ask;
  (void)pthread_mutex_unlock(&handle->asking);
  return true;
}

void pg_end_cancel(mb_driver_cancel *handle, bool inherited)
{
  if (inherited) {
    /* Nobody else is here, but a lock may have been held at the fork. */
    if (handle->fd >= 0)
      (void)close(handle->fd);
    return;
  }
  (void)pthread_mutex_lock(&handle->lock);
  const int fd = handle->fd;
  handle->fd = -1;
  handle->ended = true;
  (void)pthread_mutex_unlock(&handle->lock);
  if (fd >= 0)
    (void)close(fd);
  pg_release_cancel(handle);
}

/* --- Asking ------------------------------------------------------------- */

#ifdef LIBPQ_HAS_ASYNC_CANCEL

/* By a connection of its own, with the same TLS. */
static bool ask_server(mb_driver_cancel *handle, int64_t deadline_ns)
{
  const mb_host *host = handle->host;
  PGcancelConn *ask = handle->ask;
  PostgresPollingStatusType wants = PGRES_POLLING_WRITING;
  /* It was not made whole: memory was short, or the server has given the
   * session no key.  A reset would hide that. */
  if (PQcancelStatus(ask) == CONNECTION_BAD)
    return false;
  if (!PQcancelStart(ask))
    wants = PGRES_POLLING_FAILED;
  while (wants == PGRES_POLLING_READING || wants == PGRES_POLLING_WRITING) {
    struct pollfd wait = {.fd = PQcancelSocket(ask),
        .events = wants == PGRES_POLLING_READING ? POLLIN : POLLOUT};
    const int64_t left_ns = deadline_ns - host->now_ns();
    if (left_ns <= 0)
      break;
    const int64_t left_ms = left_ns / NS_PER_MS + 1;
    const int ready = poll(&wait, 1, left_ms < 60000 ? (int)left_ms : 60000);
    if (ready < 0 && errno != EINTR)
      break;
    if (ready > 0)
      wants = PQcancelPoll(ask);
  }
  PQcancelReset(ask);
  return wants == PGRES_POLLING_OK;
}

#else

/* This libpq has no way to bound it: the core lets go of a thread that does not
 * come back, and of the connection. */
static bool ask_server(mb_driver_cancel *handle, int64_t deadline_ns)
{
  char message[MESSAGE_SIZE];
  (void)deadline_ns;
  return PQcancel(handle->ask, message, sizeof message) == 1;
}

#endif

static bool has_ended(mb_driver_cancel *handle)
{
  (void)pthread_mutex_lock(&handle->lock);
  const bool ended = handle->ended;
  (void)pthread_mutex_unlock(&handle->lock);
  return ended;
}

mb_status pg_cancel(mb_driver_cancel *handle, enum mb_cancel_level level,
    int64_t deadline_ns, mb_error *error)
{
  if (level == MB_CANCEL_SOCKET) {
    (void)pthread_mutex_lock(&handle->lock);
    handle->shut = true;
    if (handle->fd >= 0)
      (void)shutdown(handle->fd, SHUT_RDWR);
    (void)pthread_mutex_unlock(&handle->lock);
    return MB_OK;
  }
  (void)pthread_mutex_lock(&handle->asking);
  const bool asked = handle->ask == NULL || has_ended(handle) ||
                     ask_server(handle, deadline_ns);
  (void)pthread_mutex_unlock(&handle->asking);
  return asked ? MB_OK
               : handle->host->fail(error, MB_CONNECTIVITY,
                     "the server could not be asked to stop");
}
