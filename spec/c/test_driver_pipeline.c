/*
 * test_driver_pipeline.c: runs that are queued, and answered one by one.
 *
 * What was queued is done when its answer is taken, or when the pipeline ends;
 * behind one that has failed nothing is done.
 */
#include "test_driver_parts.h"

#include <string.h>

/* --- Queueing ----------------------------------------------------------- */

static void free_run(const mb_host *host, td_run *run)
{
  for (size_t i = 0; i < run->n; i++)
    if (run->params[i].tag >= MB_TEXT && run->params[i].tag <= MB_OTHER)
      host->release((void *)run->params[i].as.bytes.data);
}

void td_pipeline_free(mb_driver_conn *conn)
{
  td_pipeline *pipeline = &conn->pipeline;
  for (size_t i = 0; i < pipeline->n; i++)
    free_run(conn->host, &pipeline->runs[i]);
  conn->host->release(pipeline->runs);
  *pipeline = (td_pipeline){.open = pipeline->open};
}

/* Copies, since the core may do with its own what it likes. */
static bool copy_params(
    const mb_host *host, td_run *run, const mb_value *params, size_t n)
{
  for (run->n = 0; run->n < n; run->n++) {
    mb_value *copy = &run->params[run->n];
    *copy = params[run->n];
    if (copy->tag < MB_TEXT || copy->tag > MB_OTHER)
      continue;
    char *bytes = host->allocate(copy->as.bytes.size + 1);
    if (bytes == NULL)
      return false;
    memcpy(bytes, copy->as.bytes.data, copy->as.bytes.size);
    copy->as.bytes.data = bytes;
  }
  return true;
}

static bool make_room(mb_driver_conn *conn)
{
  td_pipeline *pipeline = &conn->pipeline;
  if (pipeline->n < pipeline->room)
    return true;
  const size_t room = 2 * pipeline->room + 4;
  td_run *runs =
      conn->host->reallocate(pipeline->runs, room * sizeof *pipeline->runs);
  if (runs == NULL)
    return false;
  pipeline->runs = runs;
  pipeline->room = room;
  return true;
}

mb_status td_pipeline_add(mb_driver_stmt *stmt, const mb_value *params,
    size_t n, td_fault fault, mb_error *error)
{
  mb_driver_conn *conn = stmt->conn;
  td_pipeline *pipeline = &conn->pipeline;
  td_run run = {.stmt = stmt};
  if (n > TD_PARAMETERS || pipeline->n_synced > pipeline->next)
    td_breach("a run is queued where it cannot be");
  if (td_fails(&fault) && !(fault.flags & MB_STALE_STATEMENT))
    return td_raise(conn, &fault, error);
  run.fault = fault;
  if (!make_room(conn) || !copy_params(conn->host, &run, params, n)) {
    free_run(conn->host, &run);
    return td_out_of_memory(conn->host, error);
  }
  pipeline->runs[pipeline->n++] = run;
  return MB_DONE;
}

void td_pipeline_forget(mb_driver_stmt *stmt)
{
  td_pipeline *pipeline = &stmt->conn->pipeline;
  for (size_t i = 0; i < pipeline->n; i++)
    if (pipeline->runs[i].stmt == stmt)
      pipeline->runs[i].stmt = NULL;
}

/* --- The calls ---------------------------------------------------------- */

static void check_open(const mb_driver_conn *conn, const char *name)
{
  if (!conn->pipeline.open)
    td_breach("%s, and no pipeline is open", name);
}

mb_status td_pipeline_begin(mb_driver_conn *conn, mb_error *error)
{
  const td_fault fault = td_enter(conn, TD_PIPELINE_BEGIN, false);
  if (conn->pipeline.open)
    td_breach("pipeline_begin inside a pipeline");
  if (td_fails(&fault))
    return td_leave(conn, td_raise(conn, &fault, error));
  conn->pipeline.open = true;
  return td_leave(conn, MB_DONE);
}

static mb_status end_sync(mb_driver_conn *conn, mb_error *error)
{
  (void)error;
  conn->pipeline.n_synced = conn->pipeline.n;
  conn->pipeline.failed = false;
  return MB_DONE;
}

mb_status td_pipeline_sync(mb_driver_conn *conn, mb_op *op, mb_error *error)
{
  const td_fault fault = td_enter(conn, TD_PIPELINE_SYNC, true);
  check_open(conn, "pipeline_sync");
  conn->flight = (td_flight){.stmt = NULL};
  return td_start(conn, fault, true, end_sync, op, error);
}

static mb_status run_next(
    mb_driver_conn *conn, mb_result *result, mb_error *error)
{
  td_pipeline *pipeline = &conn->pipeline;
  td_run *run = &pipeline->runs[pipeline->next++];
  mb_status status = MB_ERROR;
  if (run->stmt != NULL && (run->fault.flags & MB_STALE_STATEMENT))
    run->stmt->lost = true;
  if (run->stmt == NULL)
    td_breach("a statement was closed before its answer was taken");
  else if (td_fails(&run->fault))
    (void)td_raise(conn, &run->fault, error);
  else
    status = td_run_statement(run->stmt, run->params, run->n, result, error);
  pipeline->failed = status == MB_ERROR;
  return status;
}

static mb_status end_next(mb_driver_conn *conn, mb_error *error)
{
  td_pipeline *pipeline = &conn->pipeline;
  const td_flight *flight = &conn->flight;
  if (pipeline->failed || pipeline->next == pipeline->n_synced) {
    td_pipeline_free(conn);
    return MB_DONE;
  }
  *flight->stmt_out = pipeline->runs[pipeline->next].stmt;
  return run_next(conn, flight->result, error);
}

mb_status td_pipeline_next(mb_driver_conn *conn, mb_driver_stmt **stmt,
    mb_result *result, mb_op *op, mb_error *error)
{
  const td_fault fault = td_enter(conn, TD_PIPELINE_NEXT, false);
  check_open(conn, "pipeline_next");
  for (size_t i = 0; i < conn->pipeline.next; i++)
    if (conn->pipeline.runs[i].stmt != NULL &&
        conn->pipeline.runs[i].stmt->running)
      td_breach("pipeline_next beside rows that were not read");
  *stmt = NULL;
  conn->flight = (td_flight){.stmt_out = stmt, .result = result};
  return td_start(conn, fault, false, end_next, op, error);
}

static mb_status end_end(mb_driver_conn *conn, mb_error *error)
{
  td_pipeline *pipeline = &conn->pipeline;
  mb_result ignored;
  while (!pipeline->failed && pipeline->next < pipeline->n &&
         pipeline->runs[pipeline->next].stmt != NULL) {
    mb_driver_stmt *stmt = pipeline->runs[pipeline->next].stmt;
    ignored = (mb_result){.affected = -1};
    (void)run_next(conn, &ignored, error);
    stmt->running = false;
    stmt->result = NULL;
  }
  td_pipeline_free(conn);
  pipeline->open = false;
  return MB_DONE;
}

mb_status td_pipeline_end(mb_driver_conn *conn, mb_op *op, mb_error *error)
{
  const td_fault fault = td_enter(conn, TD_PIPELINE_END, true);
  check_open(conn, "pipeline_end");
  conn->flight = (td_flight){.stmt = NULL};
  if (td_fails(&fault)) {
    td_pipeline_free(conn);
    conn->pipeline.open = false;
  }
  return td_start(conn, fault, true, end_end, op, error);
}
