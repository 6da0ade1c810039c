/* connection.c: a session that is there: asked, reset, closed. */
#include "postgres.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

/* How often what has come is read in one call. */
#define READS_MAX 64

mb_status pg_resume(
    mb_driver_conn *conn, unsigned ready, mb_op *op, mb_error *error)
{
  if (!conn->connected)
    return pg_go_on_connecting(conn, ready, op, error);
  /* What fails here is found by who wants the answer. */
  if (ready & MB_READABLE_FD)
    (void)PQconsumeInput(conn->pq);
  return conn->step(conn, op, error);
}

/* Whether something can be read, or the other side has gone. */
static bool is_readable(const mb_driver_conn *conn)
{
  struct pollfd socket = {.fd = PQsocket(conn->pq), .events = POLLIN};
  return poll(&socket, 1, 0) != 0;
}

mb_validity pg_is_valid(mb_driver_conn *conn)
{
  if (conn->dead || PQstatus(conn->pq) != CONNECTION_OK)
    return MB_DEAD;
  return is_readable(conn) ? MB_READABLE : MB_ALIVE;
}

mb_status pg_consume(mb_driver_conn *conn, mb_error *error)
{
  conn->request.sent = false;
  for (int i = 0; i < READS_MAX && is_readable(conn); i++) {
    if (PQconsumeInput(conn->pq) == 0)
      return pg_fail_lost(conn, error);
    (void)PQisBusy(conn->pq); /* reads messages */
    pg_hear(conn);
  }
  pg_follow_settings(conn);
  return conn->farewell.code[0] != '\0' ? pg_fail_lost(conn, error) : MB_OK;
}

mb_status pg_ping(mb_driver_conn *conn, mb_op *op, mb_error *error)
{
  return pg_run_text(conn, "", NULL, NULL, op, error);
}

static mb_status queue_reset(mb_driver_conn *conn, mb_op *op, mb_error *error)
{
  (void)op;
  (void)error;
  conn->copy.then = NULL;
  conn->resets = true;
  conn->sets = true;
  pg_forget_heard(conn);
  return MB_DONE;
}

mb_status pg_reset(mb_driver_conn *conn, mb_reset_mode mode, unsigned *lost,
    mb_op *op, mb_error *error)
{
  (void)mode;
  *lost = MB_LOST_SETTINGS;
  return conn->copying != PG_COPY_NONE
             ? pg_end_copying(conn, queue_reset, op, error)
             : queue_reset(conn, op, error);
}

/* --- Closing ------------------------------------------------------------ */

static void free_memory(mb_driver_conn *conn)
{
  const mb_host *host = conn->host;
  PQclear(conn->request.failure);
  PQfreemem(conn->copy.piece);
  host->release(conn->copy.sql);
  pg_forget_ahead(conn);
  host->release((void *)conn->ahead.results);
  host->release(conn->parts);
  host->release(conn->load.bytes);
  pg_forget_heard(conn);
  pg_forget_names(conn);
  pg_arena_free(&conn->opening.texts);
  pg_arena_free(&conn->sending);
  host->release(conn);
}

void pg_close(mb_driver_conn *conn, int64_t deadline_ns)
{
  /* libpq does not wait while it says good-bye: its socket does not block. */
  (void)deadline_ns;
  if (conn->cancel != NULL)
    pg_end_cancel(conn->cancel, false);
  PQfinish(conn->pq);
  free_memory(conn);
}

void pg_abandon(mb_driver_conn *conn)
{
  if (conn->cancel != NULL)
    pg_end_cancel(conn->cancel, true);
  const int fd = conn->pq != NULL ? PQsocket(conn->pq) : -1;
  const int nowhere = fd >= 0 ? open("/dev/null", O_RDWR | O_CLOEXEC) : -1;
  const bool away = nowhere >= 0 && dup2(nowhere, fd) == fd;
  if (nowhere >= 0)
    (void)close(nowhere);
  /* libpq's good-bye goes nowhere; else its memory is left. */
  if (away || fd < 0)
    PQfinish(conn->pq);
  free_memory(conn);
}
