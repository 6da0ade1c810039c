/*
 * pipeline.c: many statements on their way at once.
 *
 * It is one request that grows while it is answered: execute adds parts to it,
 * and pipeline_next reads on to the end of one run.
 */
#include "postgres.h"

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
