/*
 * rows.c: what a run gives, and its end.
 *
 * Rows are at the driver until they are fetched, or have been read into memory
 * because something else needs the connection; whoever asks for them gets both
 * in their order.
 */
#include "statement.h"

/* --- The end of a run --------------------------------------------------- */

/* Nothing is left of the run. */
static void stop(mb_stmt *stmt)
{
  if (stmt->run == 0)
    return;
  if (stmt->running_prev != NULL)
    stmt->running_prev->running_next = stmt->running_next;
  else
    stmt->conn->running = stmt->running_next;
  if (stmt->running_next != NULL)
    stmt->running_next->running_prev = stmt->running_prev;
  stmt->run = 0;
  stmt->dropped = false;
  stmt->at_end = false;
}

void mb__stmt_free_rows(mb_stmt *stmt)
{
  mb_spool_free(stmt->spool);
  stmt->spool = NULL;
  mb__host.release(stmt->late);
  stmt->late = NULL;
}

void mb__stmt_end_at_driver(mb_stmt *stmt)
{
  stmt->conn->n_at_driver -= stmt->occupies;
  stmt->occupies = false;
  stmt->at_driver = false;
  if (stmt->dropped)
    mb__stmt_forget_rows(stmt);
  if (stmt->spool == NULL && stmt->late == NULL && !stmt->at_end)
    stop(stmt);
}

void mb__stmt_abandon(mb_stmt *stmt)
{
  stmt->dropped = true;
  stmt->result_ended = true;
  stmt->conn->unsettled = true;
}

/* A row was read, and there is no memory to keep it: whoever asks for it is
 * told so. */
static void lose_row(mb_stmt *stmt)
{
  stmt->lost = true;
  mb__stmt_abandon(stmt);
}

/* --- Rows --------------------------------------------------------------- */

/* The next run with rows to be read into memory. */
static mb_stmt *next_to_spool(const mb_conn *conn)
{
  mb_stmt *stmt = conn->running;
  while (
      stmt != NULL && (!stmt->occupies || stmt->result_ended || stmt->dropped))
    stmt = stmt->running_next;
  return stmt;
}

/* What is told to whoever asks for a row that there was no memory for. */
static mb_status report_lost(mb_stmt *stmt, mb_error *error)
{
  stmt->lost = false;
  return mb__out_of_memory(error);
}

static mb_status end_fetch(mb_stmt *stmt, mb_status status, mb_error *error)
{
  switch (status) {
  case MB_ROW:
    return MB_ROW;
  case MB_DONE:
    stmt->result_ended = true;
    if (!stmt->result.more_results)
      mb__stmt_leave_driver(stmt);
    return MB_DONE;
  default:
    mb__stmt_leave_driver(stmt);
    return mb__stmt_in_own_words(stmt, error);
  }
}

static mb_status start_fetch(mb_stmt *stmt, mb_error *error)
{
  return stmt->conn->driver->fetch(
      stmt->impl, stmt->row, &stmt->conn->op, error);
}

/* Where a fetch that had to wait goes on. */
static mb_status fetched_step(mb_conn *conn, void *argument, mb_error *error)
{
  mb_stmt *stmt = argument;
  const mb_status status = end_fetch(stmt, conn->answer, error);
  if (status == MB_ROW)
    *stmt->fetched = stmt->row;
  return status;
}

/* A fetch of its own trip: what occupies the connection is read before. */
static mb_status fetch_beside_step(
    mb_conn *conn, void *argument, mb_error *error)
{
  mb_stmt *stmt = argument;
  mb_status status = MB_OK;

  MB_TASK_BEGIN(stmt->at);
  MB_TASK_CALL(stmt->at, status, mb__stmt_spool_all(conn, error));
  if (status == MB_ERROR)
    MB_TASK_LEAVE(stmt->at, MB_ERROR);
  MB_TASK_AWAIT(stmt->at, status, conn, start_fetch(stmt, error));
  status = end_fetch(stmt, status, error);
  if (status == MB_ROW)
    *stmt->fetched = stmt->row;
  MB_TASK_END(stmt->at);
  return status;
}

/* The error that the rest of the rows met while they were read into memory. */
static mb_status raise_late(mb_stmt *stmt, mb_error *error)
{
  *error = *stmt->late;
  mb__host.release(stmt->late);
  stmt->late = NULL;
  stop(stmt);
  return MB_ERROR;
}

/* The rows that were read into memory come first.  False: they are used up. */
static bool fetch_spooled(mb_stmt *stmt, const mb_value **row)
{
  *row = mb_spool_next(stmt->spool);
  if (*row != NULL)
    return true;
  mb_spool_free(stmt->spool);
  stmt->spool = NULL;
  if (!stmt->at_driver && stmt->late == NULL)
    stop(stmt);
  return false;
}

/* A fetch that is more than the commonest one: bounded, or at an end. */
static mb_status fetch_with_care(
    mb_stmt *stmt, mb_status status, const mb_value **row, mb_error *error)
{
  mb_conn *conn = stmt->conn;
  status = mb__conn_drive(conn, status, error);
  if (status == MB_WAIT) {
    stmt->fetched = row;
    return mb__conn_suspend(conn, fetched_step, stmt);
  }
  status = end_fetch(stmt, status, error);
  if (status == MB_ROW)
    *row = stmt->row;
  mb__conn_leave(conn, status == MB_ERROR ? error : NULL);
  return status;
}

mb_status mb__stmt_bound_fetch(mb_stmt *stmt, mb_error *error)
{
  mb_conn *conn = stmt->conn;
  if (mb__conn_bound(
          conn, stmt->call.timeout_ns, stmt->call.cancellation, error) == MB_OK)
    return MB_OK;
  mb__stmt_abandon(stmt);
  mb__conn_leave(conn, error);
  return MB_ERROR;
}

/* What is not at the driver: rows in memory, or the end. */
static mb_status fetch_elsewhere(
    mb_stmt *stmt, const mb_value **row, mb_error *error)
{
  if (stmt->spool != NULL && fetch_spooled(stmt, row))
    return MB_ROW;
  if (stmt->late != NULL)
    return raise_late(stmt, error);
  if (stmt->at_end)
    stop(stmt);
  return stmt->lost ? report_lost(stmt, error) : MB_DONE;
}

/* Whether rows that were read ahead are not wanted any more, and others would
 * follow them, whose fetch says so. */
static bool is_cancelled(const mb_stmt *stmt)
{
  return stmt->call.cancellation != NULL && stmt->at_driver &&
         !stmt->result_ended &&
         mb_cancellation_is_cancelled(stmt->call.cancellation);
}

mb_status mb_stmt_fetch(mb_stmt *stmt, const mb_value **row, mb_error *error)
{
  *row = NULL;
  if (stmt->spool != NULL && is_cancelled(stmt))
    mb__stmt_free_rows(stmt);
  if (stmt->spool != NULL || !stmt->at_driver || stmt->result_ended) {
    const mb_status status = fetch_elsewhere(stmt, row, error);
    if (status != MB_DONE || !stmt->at_driver || stmt->result_ended)
      return status;
  }
  mb_conn *conn = stmt->conn;
  if (mb__conn_enter(conn, error) != MB_OK)
    return MB_ERROR;
  if (MB_RARELY(!mb__conn_is_free(
          conn, stmt->call.timeout_ns, stmt->call.cancellation)) &&
      mb__stmt_bound_fetch(stmt, error) != MB_OK)
    return MB_ERROR;
  if (!stmt->occupies && mb__conn_is_occupied(conn)) {
    stmt->fetched = row;
    return mb__conn_run(conn, fetch_beside_step, stmt, error);
  }
  mb__conn_watch(conn);
  const mb_status status = start_fetch(stmt, error);
  if (status == MB_ROW && !conn->attended) {
    *row = stmt->row;
    mb__conn_pause(conn);
    return MB_ROW;
  }
  return fetch_with_care(stmt, status, row, error);
}
/* --- Cursors ------------------------------------------------------------ */

void mb_cursor_open(mb_cursor *cursor, mb_stmt *stmt)
{
  *cursor = (mb_cursor){
      .conn = stmt->conn,
      .stmt = stmt,
      .borrow = mb_conn_borrow(stmt->conn),
      .run = stmt->run,
      .shape = stmt->shape,
      .n_columns = stmt->result.n_columns,
  };
  mb_conn_ref(cursor->conn);
  mb_stmt_keep(stmt);
}

/* Whether the run is still the one that the cursor was opened on.  The
 * statement may be looked at only by its borrower. */
static bool is_on(const mb_cursor *cursor)
{
  return mb_conn_borrow(cursor->conn) == cursor->borrow &&
         cursor->stmt->run == cursor->run;
}

mb_status mb_cursor_fetch(
    mb_cursor *cursor, const mb_value **row, mb_error *error)
{
  if (cursor->conn == NULL || !is_on(cursor))
    return mb__host.fail(error, MB_USAGE,
        "the rows were closed with their transaction or connection");
  return mb_stmt_fetch(cursor->stmt, row, error);
}

void mb_cursor_close(mb_cursor *cursor)
{
  if (cursor->conn == NULL)
    return;
  if (is_on(cursor))
    mb_stmt_drop(cursor->stmt);
  mb_stmt_close(cursor->stmt);
  mb_conn_unref(cursor->conn);
  *cursor = (mb_cursor){.conn = NULL};
}

mb_status mb_cursor_finish(mb_cursor *cursor, mb_error *error)
{
  mb_status status = MB_OK;
  if (cursor->conn != NULL && is_on(cursor))
    status = mb_stmt_finish(cursor->stmt, error);
  mb_cursor_close(cursor);
  return status;
}
/* --- Rows in memory ----------------------------------------------------- */

/* The error behind rows that were read for later is raised when its turn has
 * come; only a connection that is lost concerns everybody at once. */
static mb_status keep_error(mb_stmt *stmt, mb_error *error)
{
  mb_conn *conn = stmt->conn;
  mb__stmt_in_own_words(stmt, error);
  mb__tx_follow(conn, error);
  stmt->late = mb__host.allocate(sizeof *error);
  if (stmt->late != NULL)
    *stmt->late = *error;
  else
    stmt->lost = true;
  mb__stmt_leave_driver(stmt);
  return conn->dead ? MB_ERROR : MB_OK;
}

/* What a row that is read for later has come to. */
static mb_status keep_for_later(
    mb_stmt *stmt, mb_status status, size_t *bytes, mb_error *error)
{
  if (status == MB_ERROR)
    return keep_error(stmt, error);
  if (status == MB_DONE) {
    stmt->at_end = stmt->spool == NULL && !stmt->result.more_results;
    return end_fetch(stmt, status, error);
  }
  if (mb__spool_add(&stmt->spool, stmt->row, stmt->result.n_columns, bytes,
          error) == MB_OK)
    return MB_OK;
  lose_row(stmt);
  return MB_ERROR;
}

/* There is no memory for rows that are read ahead: the run ends, and whoever
 * asked for them is told now. */
static void drop_ahead(mb_stmt *stmt)
{
  stmt->lost = false;
  mb__stmt_forget_rows(stmt);
  mb__stmt_abandon(stmt);
}

/* Reads on into memory, until a limit or the end. */
static mb_status prefetch_step(mb_conn *conn, void *argument, mb_error *error)
{
  mb_stmt *stmt = argument;
  mb_status status = MB_ROW;

  MB_TASK_BEGIN(stmt->at);
  while (stmt->prefetch.rows > 0 &&
         stmt->prefetch.bytes < stmt->prefetch.bytes_max) {
    if (mb__conn_proceed(conn, error) != MB_OK) {
      mb__stmt_forget_rows(stmt);
      mb__stmt_abandon(stmt);
      MB_TASK_LEAVE(stmt->at, MB_ERROR);
    }
    MB_TASK_AWAIT(stmt->at, status, conn, start_fetch(stmt, error));
    if (status == MB_ERROR)
      mb__stmt_forget_rows(
          stmt); /* the error is raised now, and ends the run */
    status = end_fetch(stmt, status, error);
    if (status != MB_ROW)
      MB_TASK_LEAVE(stmt->at, status);
    if (mb__spool_add(&stmt->spool, stmt->row, stmt->result.n_columns,
            &stmt->prefetch.bytes, error) != MB_OK) {
      drop_ahead(stmt);
      MB_TASK_LEAVE(stmt->at, MB_ERROR);
    }
    stmt->prefetch.rows--;
  }
  MB_TASK_END(stmt->at);
  return MB_ROW;
}

mb_status mb_stmt_prefetch(
    mb_stmt *stmt, size_t rows, size_t bytes, mb_error *error)
{
  if (!stmt->at_driver || stmt->result_ended)
    return stmt->late != NULL || stmt->lost ? MB_ROW : MB_DONE;
  mb_conn *conn = stmt->conn;
  if (mb__conn_enter(conn, error) != MB_OK ||
      mb__stmt_bound_fetch(stmt, error) != MB_OK)
    return MB_ERROR;
  stmt->prefetch.rows = rows;
  stmt->prefetch.bytes = 0;
  stmt->prefetch.bytes_max = bytes;
  return mb__conn_run(conn, prefetch_step, stmt, error);
}

static bool wants_more(const mb_stmt *stmt)
{
  return stmt->prefetch.rows > 0 &&
         stmt->prefetch.bytes < stmt->prefetch.bytes_max &&
         mb__host.now_ns() < stmt->prefetch.until_ns;
}

/* A row of a driver that blocks, or as many as are wanted where it has left the
 * thread: the way there costs more than they do. */
static mb_status fetch_some(mb_stmt *stmt, mb_error *error)
{
  mb_status status;
  do {
    status = start_fetch(stmt, error);
    stmt->lost = status == MB_ROW &&
                 mb__spool_add(&stmt->spool, stmt->row, stmt->result.n_columns,
                     &stmt->prefetch.bytes, error) != MB_OK;
    stmt->prefetch.rows--;
  } while (
      status == MB_ROW && !stmt->lost && stmt->conn->away && wants_more(stmt));
  return status;
}

/* The same for rows that are being read: what comes behind them comes when its
 * turn has come. */
static mb_status ahead_step(mb_conn *conn, void *argument, mb_error *error)
{
  mb_stmt *stmt = argument;
  mb_status status = MB_ROW;

  MB_TASK_BEGIN(stmt->at);
  do {
    if (mb__conn_proceed(conn, error) != MB_OK) {
      if (stmt->spool == NULL)
        mb__stmt_abandon(stmt);
      MB_TASK_LEAVE(stmt->at, stmt->spool == NULL ? MB_ERROR : MB_ROW);
    }
    MB_TASK_AWAIT(stmt->at, status, conn, fetch_some(stmt, error));
    if (stmt->lost) {
      drop_ahead(stmt);
      MB_TASK_LEAVE(stmt->at, mb__out_of_memory(error));
    }
    if (status == MB_ERROR && stmt->spool == NULL)
      MB_TASK_LEAVE(stmt->at, end_fetch(stmt, status, error));
    if (status != MB_ROW)
      (void)keep_for_later(stmt, status, &stmt->prefetch.bytes, error);
  } while (status == MB_ROW && wants_more(stmt));
  MB_TASK_END(stmt->at);
  return status == MB_ERROR ? MB_ROW : status;
}

bool mb_cursor_is_ready(const mb_cursor *cursor)
{
  const mb_stmt *stmt = cursor->stmt;
  return cursor->conn == NULL || !is_on(cursor) || !stmt->at_driver ||
         stmt->result_ended ||
         (stmt->spool != NULL && !mb__spool_is_empty(stmt->spool));
}

mb_status mb_cursor_fetch_ahead(mb_cursor *cursor, size_t rows, size_t bytes,
    int64_t limit_ns, const mb_value **row, mb_error *error)
{
  mb_stmt *stmt = cursor->stmt;
  if (mb_cursor_is_ready(cursor))
    return mb_cursor_fetch(cursor, row, error);
  mb_spool_free(stmt->spool);
  stmt->spool = NULL;
  if (mb__conn_enter(stmt->conn, error) != MB_OK ||
      mb__stmt_bound_fetch(stmt, error) != MB_OK)
    return MB_ERROR;
  stmt->prefetch.rows = rows;
  stmt->prefetch.bytes = 0;
  stmt->prefetch.bytes_max = bytes;
  stmt->prefetch.until_ns = mb__host.now_ns() + limit_ns;
  const mb_status status = mb__conn_run(stmt->conn, ahead_step, stmt, error);
  return status == MB_ERROR ? MB_ERROR : mb_cursor_fetch(cursor, row, error);
}

mb_spool *mb_stmt_take_spool(mb_stmt *stmt)
{
  mb_spool *spool = stmt->spool;
  stmt->spool = NULL;
  if (!stmt->at_driver && stmt->late == NULL)
    stop(stmt);
  return spool;
}

mb_status mb__stmt_spool_all(mb_conn *conn, mb_error *error)
{
  mb_status status = MB_OK;

  MB_TASK_BEGIN(conn->settling.at);
  while ((conn->settling.stmt = next_to_spool(conn)) != NULL) {
    if (mb__conn_proceed(conn, error) != MB_OK)
      MB_TASK_LEAVE(conn->settling.at, MB_ERROR);
    MB_TASK_AWAIT(conn->settling.at, status, conn,
        start_fetch(conn->settling.stmt, error));
    if (keep_for_later(conn->settling.stmt, status,
            &conn->settling.stmt->prefetch.bytes, error) == MB_ERROR)
      MB_TASK_LEAVE(conn->settling.at, MB_ERROR);
  }
  if (mb__conn_is_occupied(conn))
    MB_TASK_LEAVE(conn->settling.at,
        mb__host.fail(error, MB_USAGE,
            "a statement of this connection has further results: read them, "
            "or close it first"));
  MB_TASK_END(conn->settling.at);
  return MB_OK;
}

/* How a run may be ended early: a plain read may be cancelled, where nothing
 * else is on its way. */
static mb_finish_mode finish_mode(const mb_stmt *stmt)
{
  return stmt->prepared.reads_only && stmt->conn->end_open == NULL
             ? MB_FINISH_CANCEL
             : MB_FINISH_DRAIN;
}

/* The next run that has to be ended: begun at depth or deeper, or dropped. */
static mb_stmt *next_to_finish(mb_conn *conn, uint32_t depth)
{
  mb_stmt *stmt = conn->running;
  while (stmt != NULL && stmt->depth < depth && !stmt->dropped)
    stmt = stmt->running_next;
  return stmt;
}

mb_status mb__stmt_finish_from(mb_conn *conn, uint32_t depth, mb_error *error)
{
  mb_status status = MB_OK;

  MB_TASK_BEGIN(conn->settling.at);
  while ((conn->settling.stmt = next_to_finish(conn, depth)) != NULL) {
    if (conn->settling.stmt->at_driver && !conn->dead)
      MB_TASK_AWAIT(conn->settling.at, status, conn,
          conn->driver->finish(conn->settling.stmt->impl,
              finish_mode(conn->settling.stmt), &conn->op, error));
    mb__stmt_forget_rows(conn->settling.stmt);
    mb__stmt_leave_driver(conn->settling.stmt);
    if (status == MB_ERROR)
      MB_TASK_LEAVE(conn->settling.at, MB_ERROR);
  }
  MB_TASK_END(conn->settling.at);
  return MB_OK;
}

/* Where a finish that had to wait goes on. */
static mb_status finished_step(mb_conn *conn, void *argument, mb_error *error)
{
  (void)error;
  mb__stmt_leave_driver(argument);
  return conn->answer == MB_ERROR ? MB_ERROR : MB_OK;
}

mb_status mb_stmt_finish(mb_stmt *stmt, mb_error *error)
{
  mb_conn *conn = stmt->conn;
  /* One that is refused leaves the rows as they are. */
  if (stmt->at_driver && mb__conn_enter(conn, error) != MB_OK)
    return MB_ERROR;
  mb__stmt_forget_rows(stmt);
  stmt->lost = false;
  if (!stmt->at_driver) {
    stop(stmt);
    return MB_OK;
  }
  if (stmt->call.timeout_ns != 0 || conn->op.bounded ||
      conn->tx_deadline_ns != MB_NEVER)
    mb__conn_limit(conn, stmt->call.timeout_ns);
  mb__conn_watch(conn);
  const mb_status status = mb__conn_drive(conn,
      conn->driver->finish(stmt->impl, finish_mode(stmt), &conn->op, error),
      error);
  if (status == MB_WAIT)
    return mb__conn_suspend(conn, finished_step, stmt);
  mb__stmt_leave_driver(stmt);
  mb__conn_leave(conn, status == MB_ERROR ? error : NULL);
  return status == MB_ERROR ? MB_ERROR : MB_OK;
}

void mb_stmt_drop(mb_stmt *stmt)
{
  if (stmt->conn == NULL)
    return;
  mb__stmt_forget_rows(stmt);
  if (stmt->at_driver)
    mb__stmt_abandon(stmt);
  else
    stop(stmt);
}

mb_status mb_cursor_next_result(mb_cursor *cursor, mb_error *error)
{
  if (cursor->conn == NULL || !is_on(cursor))
    return MB_DONE;
  return mb__stmt_next_result(cursor->stmt, cursor, error);
}
