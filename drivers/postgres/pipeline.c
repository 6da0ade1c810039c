/*
 * pipeline.c: many statements on their way at once.
 *
 * It is one request that grows while it is answered: execute adds parts to it,
 * and pipeline_next reads on to the end of one run.
 */
#include "postgres.h"

/* --- Reading ahead ------------------------------------------------------ */

void pg_forget_ahead(mb_driver_conn *conn)
{
  while (conn->ahead.next < conn->ahead.n)
    PQclear(conn->ahead.results[conn->ahead.next++]);
  conn->ahead.n = conn->ahead.next = conn->ahead.part = 0;
}

static bool keep(mb_driver_conn *conn, PGresult *result)
{
  if (conn->ahead.n == conn->ahead.room) {
    const size_t room = conn->ahead.room == 0 ? 32 : 2 * conn->ahead.room;
    void *results = conn->host->reallocate(
        (void *)conn->ahead.results, room * sizeof(PGresult *));
    if (results == NULL)
      return false;
    conn->ahead.results = results;
    conn->ahead.room = room;
  }
  conn->ahead.results[conn->ahead.n++] = result;
  return true;
}

/* Reads all that was asked for so far, and keeps it. */
static mb_status read_ahead(mb_driver_conn *conn, mb_op *op, mb_error *error)
{
  mb_driver_stmt *stmt = conn->current;
  while (conn->ahead.part < conn->request.n_parts) {
    conn->step = read_ahead;
    const int unsent = PQflush(conn->pq);
    if (unsent < 0)
      return pg_fail_lost(conn, error);
    if (PQisBusy(conn->pq))
      return pg_wait(conn, op,
          unsent > 0 ? MB_READABLE_FD | MB_WRITABLE_FD : MB_READABLE_FD, 0);
    PGresult *result = PQgetResult(conn->pq);
    const pg_sent *sent = &conn->parts[conn->ahead.part];
    if (result == NULL && PQstatus(conn->pq) == CONNECTION_BAD)
      return pg_fail_lost(conn, error);
    if (!keep(conn, result)) {
      PQclear(result);
      conn->dead = true;
      (void)pg_out_of_memory(conn->host, error);
      error->flags |= MB_CONNECTION_DEAD | MB_SENT;
      return MB_ERROR;
    }
    if (result == NULL)
      conn->ahead.part++;
    else if (sent->part == PG_PART_DESCRIBE && sent->stmt == stmt &&
             PQresultStatus(result) == PGRES_COMMAND_OK &&
             pg_read_description(stmt, result, error) != MB_OK)
      return MB_ERROR;
  }
  conn->step = NULL;
  conn->request.stmt = stmt;
  pg_params params;
  if (pg_write_run(stmt, &params, error) != MB_OK)
    return MB_ERROR;
  return pg_queue_run(stmt, &params, error);
}

mb_status pg_queue_described(mb_driver_stmt *stmt, mb_op *op, mb_error *error)
{
  mb_driver_conn *conn = stmt->conn;
  pg_params params;
  pg_arena_clear(&conn->sending);
  conn->request.stmt = stmt;
  conn->current = stmt;
  if (conn->ahead.part < conn->request.at)
    conn->ahead.part = conn->request.at;
  /* Blobs say what they are, now as later. */
  if (pg_reserve_parts(conn, error) != MB_OK ||
      pg_write_types(conn, stmt->params, stmt->n_params, &params, error) !=
          MB_OK ||
      pg_send_prepare(stmt, params.n, params.types, error) != MB_OK)
    return MB_ERROR;
  if (PQsendFlushRequest(conn->pq) != 1)
    return pg_fail_lost(conn, error);
  return read_ahead(conn, op, error);
}

/* --- The pipeline ------------------------------------------------------- */

static mb_status check(mb_driver_conn *conn, mb_error *error)
{
  if (conn->dead)
    return pg_fail_lost(conn, error);
  if (conn->request.stepwise)
    return MB_OK;
  return conn->host->fail(error, MB_USAGE, "no pipeline is open");
}

mb_status pg_pipeline_begin(mb_driver_conn *conn, mb_error *error)
{
  if (pg_begin_request(conn, true, error) != MB_OK)
    return MB_ERROR;
  conn->request.stepwise = true;
  return MB_OK;
}

/* Waits until libpq has sent what it holds. */
static mb_status flush(mb_driver_conn *conn, mb_op *op, mb_error *error)
{
  const int unsent = PQflush(conn->pq);
  if (unsent < 0)
    return pg_fail_lost(conn, error);
  if (unsent > 0) {
    conn->step = flush;
    return pg_wait(conn, op, MB_READABLE_FD | MB_WRITABLE_FD, 0);
  }
  conn->step = NULL;
  return MB_DONE;
}

mb_status pg_pipeline_sync(mb_driver_conn *conn, mb_op *op, mb_error *error)
{
  if (check(conn, error) != MB_OK)
    return MB_ERROR;
  conn->request.stmt = NULL;
  if (pg_reserve_parts(conn, error) != MB_OK)
    return MB_ERROR;
  if (pg_add_part(conn, PQpipelineSync(conn->pq), PG_PART_SYNC, error) != MB_OK)
    return MB_ERROR;
  return flush(conn, op, error);
}

/* A row, or the end of a run, says whose it is. */
static mb_status answered(mb_driver_conn *conn, mb_op *op, mb_error *error)
{
  const mb_status status = pg_read_request(conn, op, error);
  if (status == MB_WAIT)
    conn->step = answered;
  if (status == MB_ROW)
    *conn->next_out = conn->request.stmt;
  if (status == MB_DONE)
    *conn->next_out = conn->ran;
  return status;
}

mb_status pg_pipeline_next(mb_driver_conn *conn, mb_driver_stmt **stmt,
    mb_result *result, mb_op *op, mb_error *error)
{
  *stmt = NULL;
  if (check(conn, error) != MB_OK)
    return MB_ERROR;
  if (conn->request.at >= conn->request.n_parts) {
    conn->request.at = conn->request.n_parts = 0;
    pg_forget_ahead(conn);
    return MB_DONE;
  }
  conn->request.result = result;
  conn->request.row = NULL;
  conn->next_out = stmt;
  return answered(conn, op, error);
}

/* Reads what nobody has asked for. */
static mb_status read_rest(mb_driver_conn *conn, mb_op *op, mb_error *error)
{
  mb_status status = MB_DONE;
  while (status != MB_WAIT && !conn->dead &&
         conn->request.at < conn->request.n_parts) {
    conn->request.discard = true;
    status = pg_read_request(conn, op, error);
  }
  if (status == MB_WAIT) {
    conn->step = read_rest;
    return MB_WAIT;
  }
  conn->step = NULL;
  conn->request.stepwise = false;
  pg_forget_ahead(conn);
  if (conn->dead || PQexitPipelineMode(conn->pq) != 1)
    return pg_fail_lost(conn, error);
  return MB_DONE;
}

mb_status pg_pipeline_end(mb_driver_conn *conn, mb_op *op, mb_error *error)
{
  if (check(conn, error) != MB_OK)
    return MB_ERROR;
  conn->request.result = NULL;
  conn->request.row = NULL;
  /* What was queued behind the last sync has to end somewhere. */
  if (conn->request.n_parts > conn->request.at &&
      conn->parts[conn->request.n_parts - 1].part != PG_PART_SYNC &&
      pg_add_part(conn, PQpipelineSync(conn->pq), PG_PART_SYNC, error) != MB_OK)
    return MB_ERROR;
  return read_rest(conn, op, error);
}
