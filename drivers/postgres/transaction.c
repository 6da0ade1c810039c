/*
 * transaction.c: BEGIN, which travels with the next request, and its ends.
 */
#include "postgres.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>

mb_transaction_state pg_transaction_state(mb_driver_conn *conn)
{
  if (conn->dead)
    return MB_TRANSACTION_UNKNOWN;
  switch (PQtransactionStatus(conn->pq)) {
  case PQTRANS_IDLE:
    return conn->begin[0] != '\0' ? MB_TRANSACTION_ACTIVE : MB_TRANSACTION_NONE;
  case PQTRANS_ACTIVE: /* rows are coming: as it was before */
    return conn->in_transaction ? MB_TRANSACTION_ACTIVE : MB_TRANSACTION_NONE;
  case PQTRANS_INTRANS:
    return MB_TRANSACTION_ACTIVE;
  case PQTRANS_INERROR:
    return MB_TRANSACTION_FAILED;
  case PQTRANS_UNKNOWN:
    break;
  }
  return MB_TRANSACTION_UNKNOWN;
}

mb_status pg_begin(
    mb_driver_conn *conn, const mb_begin *options, mb_op *op, mb_error *error)
{
  static const struct {
    enum mb_isolation isolation;
    const char *words;
  } levels[] = {
      {MB_READ_UNCOMMITTED, " isolation level read uncommitted"},
      {MB_READ_COMMITTED, " isolation level read committed"},
      {MB_REPEATABLE_READ, " isolation level repeatable read"},
      {MB_SERIALIZABLE, " isolation level serializable"},
  };
  const char *level = "";
  (void)op;
  (void)error;
  for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++)
    if (levels[i].isolation == options->isolation)
      level = levels[i].words;
  (void)snprintf(conn->begin, sizeof conn->begin, "begin%s%s%s", level,
      options->read_only ? " read only" : "",
      options->deferrable ? " deferrable" : "");
  return MB_DONE;
}

/* COMMIT of a transaction that has failed is answered by ROLLBACK. */
static mb_status check_commit(mb_driver_conn *conn, mb_op *op, mb_error *error)
{
  (void)op;
  if (strcmp(conn->ended.tag, "ROLLBACK") != 0)
    return MB_DONE;
  conn->host->fail(error, MB_ENGINE,
      "not committed: the transaction had failed and was rolled back");
  error->flags = MB_SENT | MB_TRANSACTION_DEAD;
  return MB_ERROR;
}

/* A server that has gone already has not committed: it is worth a look before,
 * since nobody knows what has become of a COMMIT that was sent. */
static bool has_gone(mb_driver_conn *conn)
{
  struct pollfd socket = {.fd = PQsocket(conn->pq), .events = POLLIN};
  mb_error ignored;
  return poll(&socket, 1, 0) != 0 && pg_consume(conn, &ignored) != MB_OK;
}

mb_status pg_commit(mb_driver_conn *conn, mb_op *op, mb_error *error)
{
  if (conn->begin[0] != '\0') {
    conn->begin[0] = '\0'; /* nothing was run in it */
    return MB_DONE;
  }
  conn->request.sent = false;
  if (conn->dead || has_gone(conn))
    return pg_fail_lost(conn, error);
  conn->ended = (mb_result){.affected = -1};
  return pg_run_text(conn, "commit", &conn->ended, check_commit, op, error);
}

static mb_status send_rollback(mb_driver_conn *conn, mb_op *op, mb_error *error)
{
  conn->copy.then = NULL;
  if (PQtransactionStatus(conn->pq) == PQTRANS_IDLE)
    return MB_DONE;
  return pg_run_text(conn, "rollback", NULL, NULL, op, error);
}

mb_status pg_rollback(mb_driver_conn *conn, mb_op *op, mb_error *error)
{
  if (conn->begin[0] != '\0') {
    conn->begin[0] = '\0';
    return MB_DONE;
  }
  return conn->copying != PG_COPY_NONE
             ? pg_end_copying(conn, send_rollback, op, error)
             : send_rollback(conn, op, error);
}
