/*
 * copy.c: COPY between the program and the server.
 *
 * libpq refuses COPY in its pipeline mode, so what was left to be done goes
 * before it in a request of its own.
 */
#include "postgres.h"

#include <string.h>

/* --- Beginning ---------------------------------------------------------- */

static mb_status put_end(mb_driver_conn *conn, mb_op *op, mb_error *error);
static mb_status drain(mb_driver_conn *conn, mb_op *op, mb_error *error);

/* A text that was no COPY, or one in the other direction, has run: that is
 * all. */
static mb_status not_begun(mb_driver_conn *conn, mb_op *op, mb_error *error)
{
  (void)op;
  return conn->host->fail(error, MB_USAGE,
      "the statement is no COPY between program and server in this direction");
}

/* Ends a COPY in the direction that was not asked for. */
static mb_status turn_back(
    mb_driver_conn *conn, pg_copying direction, mb_op *op, mb_error *error)
{
  conn->copying = direction;
  conn->copy.then = not_begun;
  conn->copy.after = not_begun;
  if (direction == PG_COPY_IN) {
    conn->copy.reason = "another direction was asked for";
    return put_end(conn, op, error);
  }
  conn->copy.out = &conn->copy.no_data;
  conn->copy.out_size = &conn->copy.left;
  return drain(conn, op, error);
}

/* What COPY has answered to its text. */
static mb_status begun(mb_driver_conn *conn, mb_op *op, mb_error *error)
{
  const pg_copying wanted = conn->copy.wanted;
  const mb_status status = pg_pump(conn, op, error);
  if (status != MB_DONE)
    return status;
  PGresult *result = PQgetResult(conn->pq);
  const ExecStatusType answer = PQresultStatus(result);
  conn->step = NULL;
  if (answer == PGRES_FATAL_ERROR) {
    conn->request.failure = result;
    conn->request.failed_part = PG_PART_RUN;
    conn->step = pg_read_request;
    return pg_read_request(conn, op, error);
  }
  PQclear(result);
  if (answer != PGRES_COPY_IN && answer != PGRES_COPY_OUT) {
    conn->step = pg_read_request;
    return pg_read_request(conn, op, error);
  }
  const pg_copying direction =
      answer == PGRES_COPY_IN ? PG_COPY_IN : PG_COPY_OUT;
  if (direction != wanted)
    return turn_back(conn, direction, op, error);
  conn->copying = wanted;
  return conn->copy.then != NULL ? conn->copy.then(conn, op, error) : MB_DONE;
}

static mb_status send_copy(mb_driver_conn *conn, mb_op *op, mb_error *error)
{
  if (pg_begin_request(conn, false, error) != MB_OK)
    return MB_ERROR;
  conn->request.text = conn->copy.sql;
  conn->request.discard = true;
  conn->request.then = not_begun;
  if (pg_add_part(conn,
          PQsendQueryParams(
              conn->pq, conn->copy.sql, 0, NULL, NULL, NULL, NULL, 0),
          PG_PART_RUN, error) != MB_OK)
    return MB_ERROR;
  conn->step = begun;
  return begun(conn, op, error);
}

static mb_status begin(mb_driver_conn *conn, pg_copying direction,
    const char *sql, size_t size, mb_op *op, mb_error *error)
{
  char *copy = conn->host->reallocate(conn->copy.sql, size + 1);
  if (copy == NULL)
    return pg_out_of_memory(conn->host, error);
  memcpy(copy, sql, size);
  copy[size] = '\0';
  conn->copy.sql = copy;
  conn->copy.wanted = direction;
  conn->copy.after = NULL;
  if (conn->copying == PG_COPY_NONE && pg_has_queue(conn))
    return pg_flush_queue(conn, send_copy, op, error);
  return send_copy(conn, op, error);
}

mb_status pg_copy_in_begin(mb_driver_conn *conn, const char *sql, size_t size,
    mb_op *op, mb_error *error)
{
  return begin(conn, PG_COPY_IN, sql, size, op, error);
}

mb_status pg_copy_out_begin(mb_driver_conn *conn, const char *sql, size_t size,
    mb_op *op, mb_error *error)
{
  return begin(conn, PG_COPY_OUT, sql, size, op, error);
}

static mb_status check(mb_driver_conn *conn, pg_copying wanted, mb_error *error)
{
  if (conn->copying == wanted)
    return MB_OK;
  return conn->host->fail(
      error, MB_USAGE, "no COPY in this direction is going on");
}

/* --- In ----------------------------------------------------------------- */

/* More than this is not put into libpq's buffer at once. */
#define PIECE_MAX (1 << 20)

/* Waits until libpq has sent what it holds, so that its buffer does not grow.
 */
static mb_status put(mb_driver_conn *conn, mb_op *op, mb_error *error)
{
  for (;;) {
    const int unsent = PQflush(conn->pq);
    if (unsent < 0)
      return pg_fail_lost(conn, error);
    if (unsent > 0) {
      conn->step = put;
      return pg_wait(conn, op, MB_READABLE_FD | MB_WRITABLE_FD, 0);
    }
    if (conn->copy.left == 0)
      break;
    const size_t size =
        conn->copy.left < PIECE_MAX ? conn->copy.left : PIECE_MAX;
    const int sent = PQputCopyData(conn->pq, conn->copy.data, (int)size);
    if (sent < 0) {
      conn->dead |= PQstatus(conn->pq) == CONNECTION_BAD;
      return conn->dead ? pg_fail_lost(conn, error)
                        : pg_out_of_memory(conn->host, error);
    }
    if (sent > 0) {
      conn->copy.data += size;
      conn->copy.left -= size;
    }
  }
  conn->step = NULL;
  return MB_DONE;
}

mb_status pg_copy_in_put(mb_driver_conn *conn, const char *data, size_t size,
    mb_op *op, mb_error *error)
{
  if (check(conn, PG_COPY_IN, error) != MB_OK)
    return MB_ERROR;
  conn->copy.data = data;
  conn->copy.left = size;
  return put(conn, op, error);
}

/* The error that the reason itself has caused is none. */
static mb_status aborted(mb_driver_conn *conn, mb_op *op, mb_error *error)
{
  const mb_status status = pg_read_request(conn, op, error);
  if (status == MB_WAIT)
    conn->step = aborted;
  if (status != MB_ERROR || conn->dead)
    return status;
  return conn->copy.then != NULL ? conn->copy.then(conn, op, error) : MB_DONE;
}

/* The end is not taken before there is room for it. */
static mb_status put_end(mb_driver_conn *conn, mb_op *op, mb_error *error)
{
  const int unsent = PQflush(conn->pq);
  if (unsent < 0)
    return pg_fail_lost(conn, error);
  const int sent = unsent > 0 ? 0 : PQputCopyEnd(conn->pq, conn->copy.reason);
  if (sent < 0)
    return pg_fail_lost(conn, error);
  if (sent == 0) {
    conn->step = put_end;
    return pg_wait(conn, op, MB_READABLE_FD | MB_WRITABLE_FD, 0);
  }
  conn->copying = PG_COPY_NONE;
  conn->request.then = conn->copy.then;
  conn->step = conn->copy.reason != NULL ? aborted : pg_read_request;
  return conn->step(conn, op, error);
}

mb_status pg_copy_in_end(mb_driver_conn *conn, const char *abort,
    mb_result *result, mb_op *op, mb_error *error)
{
  if (check(conn, PG_COPY_IN, error) != MB_OK)
    return MB_ERROR;
  conn->copy.reason = NULL;
  if (abort != NULL) {
    const size_t size = strlen(abort) + 1;
    char *reason = pg_arena_take(&conn->sending, size);
    if (reason == NULL)
      return pg_out_of_memory(conn->host, error);
    memcpy(reason, abort, size);
    conn->copy.reason = reason;
  }
  conn->request.result = result;
  return put_end(conn, op, error);
}

/* --- Out ---------------------------------------------------------------- */

static void free_piece(mb_driver_conn *conn)
{
  PQfreemem(conn->copy.piece);
  conn->copy.piece = NULL;
}

/* The next piece; MB_DONE: there is none, and the answer to COPY comes next. */
static mb_status get(mb_driver_conn *conn, mb_op *op, mb_error *error)
{
  free_piece(conn);
  const int size = PQgetCopyData(conn->pq, &conn->copy.piece, 1);
  conn->step = get;
  if (size == 0)
    return pg_wait(conn, op, MB_READABLE_FD, 0);
  if (size > 0) {
    *conn->copy.out = conn->copy.piece;
    *conn->copy.out_size = (size_t)size;
    conn->step = NULL;
    return MB_ROW;
  }
  conn->copying = PG_COPY_NONE;
  conn->request.then = conn->copy.after;
  conn->step = pg_read_request;
  return pg_read_request(conn, op, error);
}

mb_status pg_copy_out_get(mb_driver_conn *conn, const char **data, size_t *size,
    mb_op *op, mb_error *error)
{
  if (check(conn, PG_COPY_OUT, error) != MB_OK)
    return MB_ERROR;
  conn->copy.out = data;
  conn->copy.out_size = size;
  conn->request.result = &conn->ended;
  return get(conn, op, error);
}

/* Reads on to the end. */
static mb_status drain(mb_driver_conn *conn, mb_op *op, mb_error *error)
{
  mb_status status;
  do
    status = get(conn, op, error);
  while (status == MB_ROW);
  if (status == MB_WAIT && conn->copying == PG_COPY_OUT)
    conn->step = drain;
  return status;
}

mb_status pg_copy_out_end(
    mb_driver_conn *conn, mb_result *result, mb_op *op, mb_error *error)
{
  if (conn->copying != PG_COPY_OUT) {
    *result = conn->ended;
    return MB_DONE;
  }
  conn->copy.out = &conn->copy.no_data;
  conn->copy.out_size = &conn->copy.left;
  conn->request.result = result;
  return drain(conn, op, error);
}

mb_status pg_end_copying(
    mb_driver_conn *conn, pg_step *then, mb_op *op, mb_error *error)
{
  conn->copy.then = then;
  if (conn->copying == PG_COPY_IN)
    return pg_copy_in_end(
        conn, "the program went on without it", &conn->ended, op, error);
  conn->copy.after = then;
  return pg_copy_out_end(conn, &conn->ended, op, error);
}
