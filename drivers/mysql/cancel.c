/*
 * cancel.c: ending from another thread what a connection does.
 *
 * The handle has a descriptor of its own for the connection's socket: shutting
 * one down shuts down the socket behind both, and the number of the library's
 * may become another file's.  It holds the connector, since a thread that asks
 * the server may be left behind and come to its end later than all else.
 */
#include "mysql.h"

#include <fcntl.h>
#include <netdb.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define HOST_SIZE 128
#define SERVER_SIZE 512

struct mb_driver_cancel {
  const mb_host *host;
  mb_driver_connector *connector;
  atomic_int refs;
  char *password; /* or NULL */

  pthread_mutex_t lock; /* guards what follows; held for a moment only */
  const mq_place *place;
  int fd; /* -1: none */
  uint64_t id;
  char server[SERVER_SIZE]; /* tells it from others */
  bool shut;
};

mb_driver_cancel *mq_make_cancel(
    mb_driver_connector *connector, const char *password)
{
  const mb_host *host = connector->host;
  const size_t size = password != NULL ? strlen(password) + 1 : 1;
  mb_driver_cancel *handle = host->allocate(sizeof *handle);
  char *copy = host->allocate(size);
  if (handle == NULL || copy == NULL) {
    host->release(handle);
    host->release(copy);
    return NULL;
  }
  copy[0] = '\0';
  if (password != NULL)
    memcpy(copy, password, size);
  *handle = (mb_driver_cancel){
      .host = host, .connector = connector, .password = copy, .fd = -1};
  mq_keep_connector(connector);
  atomic_init(&handle->refs, 1);
  (void)pthread_mutex_init(&handle->lock, NULL);
  return handle;
}

const char *mq_cancel_password(const mb_driver_cancel *handle)
{
  return handle->password[0] != '\0' ? handle->password : NULL;
}

mb_driver_cancel *mq_cancel_handle(mb_driver_conn *conn)
{
  (void)atomic_fetch_add(&conn->cancel->refs, 1);
  return conn->cancel;
}

void mq_release_cancel(mb_driver_cancel *handle)
{
  const mb_host *host = handle->host;
  if (atomic_fetch_sub(&handle->refs, 1) != 1)
    return;
  if (handle->fd >= 0)
    (void)close(handle->fd);
  (void)pthread_mutex_destroy(&handle->lock);
  mq_wipe(handle->password);
  mq_close_connector(handle->connector);
  host->release(handle->password);
  host->release(handle);
}

/* --- Which session ------------------------------------------------------ */

bool mq_set_cancel_session(mb_driver_cancel *handle, const mq_place *place,
    int fd, uint64_t id, const char *server)
{
  const int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
  (void)pthread_mutex_lock(&handle->lock);
  const int before = handle->fd;
  handle->place = place;
  handle->fd = own;
  handle->id = id;
  (void)snprintf(handle->server, sizeof handle->server, "%s", server);
  const bool shut = handle->shut;
  (void)pthread_mutex_unlock(&handle->lock);
  if (before >= 0)
    (void)close(before);
  return own >= 0 && !shut;
}

void mq_end_cancel(mb_driver_cancel *handle, bool inherited)
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
  handle->id = 0;
  (void)pthread_mutex_unlock(&handle->lock);
  if (fd >= 0)
    (void)close(fd);
  mq_release_cancel(handle);
}

static void shut(mb_driver_cancel *handle)
{
  (void)pthread_mutex_lock(&handle->lock);
  handle->shut = true;
  if (handle->fd >= 0)
    (void)shutdown(handle->fd, SHUT_RDWR);
  (void)pthread_mutex_unlock(&handle->lock);
}

void mq_shut(mb_driver_conn *conn)
{
  conn->dead = true;
  shut(conn->cancel);
}

/* --- Asking ------------------------------------------------------------- */

/* The address that was reached, since a name may lead elsewhere: but a
 * certificate is verified against the name. */
static void read_address(int fd, mq_place *place, char *room, size_t size)
{
  struct sockaddr_storage address;
  socklen_t length = sizeof address;
  if (place->host == NULL || place->tls == MQ_TLS_VERIFY ||
      getpeername(fd, (struct sockaddr *)&address, &length) != 0 ||
      getnameinfo((struct sockaddr *)&address, length, room, (socklen_t)size,
          NULL, 0, NI_NUMERICHOST) != 0)
    return;
  place->host = room;
}

/* A proxy may have led to another server. */
static bool is_server(MYSQL *db, const char *server)
{
  static const char sql[] =
      "select concat(@@hostname, ':', @@port, ':', @@server_id, ':', "
      "@@datadir)";
  mb_driver_conn side = {.db = db};
  MYSQL_ROW row;
  MYSQL_RES *rows = mq_ask(&side, sql, &row);
  const bool same = rows != NULL && row[0] != NULL &&
                    strncmp(row[0], server, SERVER_SIZE - 1) == 0;
  if (rows != NULL)
    mysql_free_result(rows);
  return same;
}

static bool ask_server(mb_driver_cancel *handle, int64_t deadline_ns)
{
  const mb_host *host = handle->host;
  char address[HOST_SIZE];
  char server[SERVER_SIZE];
  char sql[64];
  mb_error ignored;
  (void)pthread_mutex_lock(&handle->lock);
  const uint64_t id = handle->id;
  mq_place place = id != 0 ? *handle->place : (mq_place){.host = NULL};
  (void)snprintf(server, sizeof server, "%s", handle->server);
  if (id != 0)
    read_address(handle->fd, &place, address, sizeof address);
  (void)pthread_mutex_unlock(&handle->lock);
  if (id == 0)
    return true;
  const int64_t left_ns = deadline_ns - host->now_ns();
  if (left_ns <= 0)
    return false;
  const int64_t seconds = left_ns / MQ_NS_PER_SECOND + 1;
  MYSQL *db = mq_dial(handle->connector, &place, mq_cancel_password(handle),
      seconds < 3600 ? (unsigned)seconds : 3600, true, &ignored);
  if (db == NULL)
    return false;
  (void)snprintf(sql, sizeof sql, "kill query %llu", (unsigned long long)id);
  const bool asked = is_server(db, server) &&
                     mysql_real_query(db, sql, (unsigned long)strlen(sql)) == 0;
  mq_hang_up(db);
  return asked;
}

mb_status mq_cancel(mb_driver_cancel *handle, enum mb_cancel_level level,
    int64_t deadline_ns, mb_error *error)
{
  if (level == MB_CANCEL_SOCKET) {
    shut(handle);
    return MB_OK;
  }
  return ask_server(handle, deadline_ns)
             ? MB_OK
             : handle->host->fail(error, MB_CONNECTIVITY,
                   "the server could not be asked to stop");
}
