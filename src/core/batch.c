/*
 * batch.c: runs that are on their way together.
 *
 * Their statements are kept in the order in which they were added, which is the
 * order of the answers.  A batch is open over several calls; any other call on
 * the connection ends it first (mb__conn_end_open): what was added and has not
 * been answered is then thrown away, done or not.
 */
#include "statement.h"

/* As many runs as are added before they are sent. */
#define RUNS_MAX 256
/* So many bytes of parameters end that earlier. */
#define BYTES_MAX 262144

bool mb_conn_takes_batches(const mb_conn *conn)
{
  const mb_driver *driver = conn->driver;
  return driver->pipeline_begin != NULL && driver->pipeline_sync != NULL &&
         driver->pipeline_next != NULL && driver->pipeline_end != NULL &&
         conn->capability->pipeline;
}

/* --- Ending ------------------------------------------------------------- */

static void forget(mb_conn *conn)
{
  for (size_t i = 0; i < conn->batch.n; i++)
    mb_stmt_close(conn->batch.stmts[i]);
  conn->batch.n = conn->batch.next = 0;
  conn->batch.bytes = 0;
  conn->batch.sent = false;
}

void mb__batch_close(mb_conn *conn)
{
  forget(conn);
  mb__host.release(conn->batch.stmts);
  conn->batch.stmts = NULL;
  conn->batch.room = 0;
}

/* Ends the pipeline, whatever the answers are; rows that are being read are
 * read into memory. */
static mb_status end(mb_conn *conn, mb_error *error)
{
  mb_status status = MB_OK;

  MB_TASK_BEGIN(conn->batch.end_at);
  if (conn->n_at_driver > 0 && !conn->dead)
    MB_TASK_CALL(conn->batch.end_at, status, mb__stmt_spool_all(conn, error));
  MB_TASK_AWAIT(conn->batch.end_at, status, conn,
      conn->driver->pipeline_end(conn->impl, &conn->op, error));
  forget(conn);
  conn->end_open = NULL;
  MB_TASK_END(conn->batch.end_at);
  return status;
}

static mb_status end_step(mb_conn *conn, void *argument, mb_error *error)
{
  (void)argument;
  return end(conn, error);
}

static bool is_open(const mb_conn *conn)
{
  return conn->end_open == end;
}

/* Begins a call that goes on with an open batch. */
static mb_status enter(mb_conn *conn, const mb_call *call, mb_error *error)
{
  if (!is_open(conn))
    return mb__host.fail(error, MB_USAGE,
        "the batch has ended: the connection was used for something else");
  if (mb__conn_enter(conn, error) != MB_OK)
    return MB_ERROR;
  const int64_t timeout_ns =
      call != NULL ? call->timeout_ns : conn->connector->settings.timeout_ns;
  mb_cancellation *cancellation = call != NULL ? call->cancellation : NULL;
  if (mb__conn_is_free(conn, timeout_ns, cancellation) ||
      mb__conn_bound(conn, timeout_ns, cancellation, error) == MB_OK)
    return MB_OK;
  mb__conn_leave(conn, error);
  return MB_ERROR;
}

mb_status mb_batch_end(mb_conn *conn, mb_error *error)
{
  if (!is_open(conn))
    return MB_OK;
  if (mb__conn_enter(conn, error) != MB_OK)
    return MB_ERROR;
  mb__conn_limit(conn, conn->connector->settings.timeout_ns);
  return mb__conn_run(conn, end_step, NULL, error);
}

/* A driver that answers for another statement is reported, not believed. */
static mb_status distrust(mb_conn *conn, mb_error *error)
{
  conn->dead = true;
  mb__host.fail(error, MB_DRIVER_FAULT,
      "driver \"%s\" has mixed up the answers of a pipeline",
      conn->driver->name);
  error->flags = MB_CONNECTION_DEAD | MB_TRANSACTION_DEAD | MB_SENT;
  return MB_ERROR;
}

/* Takes what stands behind the last answer; a task. */
static mb_status finish(mb_conn *conn, mb_error *error)
{
  mb_status status = MB_OK;

  MB_TASK_BEGIN(conn->batch.finish_at);
  conn->batch.answered = NULL;
  MB_TASK_AWAIT(conn->batch.finish_at, status, conn,
      conn->driver->pipeline_next(conn->impl, &conn->batch.answered,
          &conn->batch.result, &conn->op, error));
  if (status != MB_ERROR && conn->batch.answered != NULL)
    status = distrust(conn, error);
  forget(conn);
  MB_TASK_END(conn->batch.finish_at);
  return status;
}

/* --- Adding ------------------------------------------------------------- */

static mb_status make_room(mb_conn *conn, mb_error *error)
{
  if (conn->batch.n < conn->batch.room)
    return MB_OK;
  const size_t room = conn->batch.room == 0 ? 16 : 2 * conn->batch.room;
  mb_stmt **stmts =
      mb__host.reallocate((void *)conn->batch.stmts, room * sizeof(mb_stmt *));
  if (stmts == NULL)
    return mb__out_of_memory(error);
  conn->batch.stmts = stmts;
  conn->batch.room = room;
  return MB_OK;
}

static size_t size_of(const mb_value *values, size_t n)
{
  size_t size = 0;
  for (size_t i = 0; i < n; i++)
    if (values[i].tag >= MB_TEXT && values[i].tag <= MB_OTHER)
      size += values[i].as.bytes.size;
  return size;
}

/* Whether what was added is to be sent before more is. */
static bool is_full(const mb_conn *conn, const mb_stmt *stmt)
{
  /* A setting may change what the next text means. */
  return conn->batch.n >= RUNS_MAX || conn->batch.bytes >= BYTES_MAX ||
         stmt->prepared.changes_session;
}

static mb_status open(mb_conn *conn, mb_error *error)
{
  if (conn->batch.opened)
    return MB_OK;
  const mb_status status = conn->driver->pipeline_begin(conn->impl, error);
  conn->batch.opened = status == MB_OK;
  return status;
}

static mb_status add_step(mb_conn *conn, void *argument, mb_error *error)
{
  mb_stmt *stmt = argument;
  mb_status status = MB_OK;

  MB_TASK_BEGIN(conn->batch.at);
  if (is_open(conn) && conn->batch.sent) {
    MB_TASK_CALL(conn->batch.at, status, finish(conn, error));
    if (status == MB_ERROR)
      MB_TASK_LEAVE(conn->batch.at, MB_ERROR);
  }
  if (make_room(conn, error) != MB_OK)
    MB_TASK_LEAVE(conn->batch.at, MB_ERROR);
  /* What is open now ends, unless it is the batch. */
  conn->batch.opened = is_open(conn);
  if (conn->batch.opened)
    conn->end_open = NULL;
  MB_TASK_CALL(conn->batch.at, status, mb__stmt_ready(conn, stmt, error));
  if (status != MB_ERROR)
    MB_TASK_AWAIT(conn->batch.at, status, conn, open(conn, error));
  if (conn->batch.opened)
    conn->end_open = end;
  if (status == MB_ERROR)
    MB_TASK_LEAVE(conn->batch.at, MB_ERROR);
  MB_TASK_AWAIT(conn->batch.at, status, conn, mb__stmt_queue(stmt, error));
  conn->batch.bytes += size_of(stmt->params, stmt->n_params);
  stmt->params = NULL;
  if (status == MB_ERROR)
    MB_TASK_LEAVE(conn->batch.at, mb__stmt_answered(stmt, MB_ERROR, error));
  mb_stmt_keep(stmt);
  conn->batch.stmts[conn->batch.n++] = stmt;
  MB_TASK_END(conn->batch.at);
  return MB_OK;
}

mb_status mb_batch_add(mb_stmt **which, const mb_tx *tx, const mb_value *params,
    size_t n, const mb_call *call, bool *full, mb_error *error)
{
  const mb_stmt *given = *which;
  *full = false;
  if (given->conn != NULL && is_open(given->conn) && given->conn->batch.sent &&
      given->conn->batch.next < given->conn->batch.n)
    return mb__host.fail(error, MB_USAGE,
        "the batch was sent, and its answers have to be taken first");
  if (mb__stmt_take(which, tx, call, error) != MB_OK)
    return MB_ERROR;
  mb_stmt *stmt = *which;
  mb_conn *conn = stmt->conn;
  stmt->call.fetch_size = 0; /* its rows come behind those of the one before */
  stmt->params = params;
  stmt->n_params = n;
  const mb_status status = mb__conn_run(conn, add_step, stmt, error);
  *full = status == MB_OK && is_full(conn, stmt);
  return status;
}

/* --- Sending ------------------------------------------------------------ */

static mb_status send_step(mb_conn *conn, void *argument, mb_error *error)
{
  mb_status status = MB_OK;
  (void)argument;

  MB_TASK_BEGIN(conn->batch.at);
  if (mb__conn_proceed(conn, error) != MB_OK)
    MB_TASK_LEAVE(conn->batch.at, MB_ERROR);
  MB_TASK_AWAIT(conn->batch.at, status, conn,
      conn->driver->pipeline_sync(conn->impl, &conn->op, error));
  conn->batch.sent = status != MB_ERROR;
  MB_TASK_END(conn->batch.at);
  return status;
}

mb_status mb_batch_send(mb_conn *conn, const mb_call *call, mb_error *error)
{
  return enter(conn, call, error) == MB_OK
             ? mb__conn_run(conn, send_step, NULL, error)
             : MB_ERROR;
}

/* --- Answers ------------------------------------------------------------ */

static mb_status next_step(mb_conn *conn, void *argument, mb_error *error)
{
  mb_stmt *stmt = argument;
  mb_status status = MB_OK;

  MB_TASK_BEGIN(conn->batch.at);
  MB_TASK_AWAIT(conn->batch.at, status, conn,
      conn->driver->pipeline_next(conn->impl, &conn->batch.answered,
          mb__stmt_totals(stmt), &conn->op, error));
  conn->batch.next++;
  if (status != MB_ERROR && conn->batch.answered != stmt->impl)
    status = distrust(conn, error);
  status = mb__stmt_answered(stmt, status, error);
  MB_TASK_END(conn->batch.at);
  return status;
}

static mb_status finish_step(mb_conn *conn, void *argument, mb_error *error)
{
  (void)argument;
  return finish(conn, error);
}

mb_status mb_batch_next(
    mb_conn *conn, const mb_call *call, mb_stmt **out, mb_error *error)
{
  *out = NULL;
  if (is_open(conn) && !conn->batch.sent)
    return mb__host.fail(error, MB_USAGE, "the batch has not been sent");
  if (enter(conn, call, error) != MB_OK)
    return MB_ERROR;
  conn->batch.answered = NULL;
  if (conn->batch.next == conn->batch.n)
    return mb__conn_run(conn, finish_step, NULL, error);
  mb_stmt *stmt = conn->batch.stmts[conn->batch.next];
  *out = stmt;
  return mb__conn_run(conn, next_step, stmt, error);
}
