/*
 * run.c: runs of statements.
 *
 * A run is a task: settle what was dropped, make room beside open rows, prepare
 * if need be, execute.  Everything that a run needs is in its mb_stmt, so that
 * the commonest run (known text, one row) allocates nothing.
 */
#include "statement.h"

#include "pool.h"

#include <string.h>

/* For the steps of every run: calling them would take longer than they do. */
#define INLINE __attribute__((always_inline)) static inline

static atomic_uint_fast64_t last_shape;

/* --- Running ------------------------------------------------------------ */

/* Columns may change with every run and every further result. */
static void follow_columns(mb_stmt *stmt)
{
  if (MB_RARELY(stmt->shape == 0 ||
                stmt->columns_serial != stmt->result.columns_serial)) {
    stmt->columns_serial = stmt->result.columns_serial;
    stmt->shape = atomic_fetch_add(&last_shape, 1) + 1;
  }
}

static mb_status make_row(mb_stmt *stmt, mb_error *error)
{
  if (stmt->row_room >= stmt->result.n_columns)
    return MB_OK;
  mb_value *row =
      mb__host.reallocate(stmt->row, stmt->result.n_columns * sizeof *row);
  if (row == NULL)
    return mb__out_of_memory(error);
  stmt->row = row;
  stmt->row_room = stmt->result.n_columns;
  return MB_OK;
}

MB_COLD static mb_status refuse_parameters(
    const mb_stmt *stmt, size_t wanted, mb_error *error)
{
  return mb__host.fail(error, MB_USAGE,
      "the statement has %zu parameter%s, but %zu %s given", wanted,
      wanted == 1 ? "" : "s", stmt->n_params,
      stmt->n_params == 1 ? "was" : "were");
}

INLINE mb_status check_parameters(const mb_stmt *stmt, mb_error *error)
{
  const size_t wanted = mb__stmt_n_parameters(stmt);
  const bool unknown = (stmt->flags & MB_STATEMENT_PLAIN) != 0 &&
                       stmt->prepared.n_parameters < 0;
  return stmt->n_params == wanted || unknown
             ? MB_OK
             : refuse_parameters(stmt, wanted, error);
}

/* Brings the values into the order in which they are sent. */
INLINE mb_status place_parameters(mb_stmt *stmt, mb_error *error)
{
  const mb__scan *scan = &stmt->scan;
  if (stmt->places_room > 0 && stmt->params == stmt->places)
    return MB_OK; /* a second try */
  if (check_parameters(stmt, error) != MB_OK)
    return MB_ERROR;
  if (scan->order == NULL)
    return MB_OK;
  if (stmt->places_room < scan->n_places) {
    mb_value *places =
        mb__host.reallocate(stmt->places, scan->n_places * sizeof *places);
    if (places == NULL)
      return mb__out_of_memory(error);
    stmt->places = places;
    stmt->places_room = scan->n_places;
  }
  const mb_value *params = stmt->params;
  for (size_t i = 0; i < scan->n_places; i++) {
    /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): counted above. */
    stmt->places[i] = params[scan->order[i]];
  }
  stmt->params = stmt->places;
  stmt->n_params = scan->n_places;
  return MB_OK;
}

/* The totals of a run or result that begins. */
static void clear_totals(mb_stmt *stmt)
{
  stmt->result.beside = false;
  stmt->result.affected = -1;
  stmt->result.last_id = 0;
  stmt->result.has_last_id = false;
  stmt->result.more_results = false;
  stmt->result.warnings = 0;
  stmt->result.tag[0] = '\0';
}

INLINE mb_status start_execute(mb_stmt *stmt, mb_error *error)
{
  mb_conn *conn = stmt->conn;
  const mb_execute_options options = {.fetch_size = stmt->call.fetch_size};
  if (mb__conn_proceed(conn, error) != MB_OK)
    return MB_ERROR;
  clear_totals(stmt);
  return conn->driver->execute(stmt->impl, stmt->params, stmt->n_params,
      &options, &stmt->result, &conn->op, error);
}

static void add_totals(mb_stmt *stmt)
{
  if (stmt->result.affected > 0)
    stmt->many.affected += stmt->result.affected;
  if (stmt->result.has_last_id && !stmt->many.has_last_id) {
    stmt->many.has_last_id = true;
    stmt->many.last_id = stmt->result.last_id;
  }
}

static void give_totals(mb_stmt *stmt)
{
  stmt->result.affected = stmt->many.affected;
  stmt->result.has_last_id = stmt->many.has_last_id;
  stmt->result.last_id = stmt->many.last_id;
}

static void begin_run(mb_stmt *stmt)
{
  mb_conn *conn = stmt->conn;
  stmt->run = ++conn->last_run;
  stmt->depth = conn->depth;
  stmt->at_driver = true;
  stmt->occupies = !stmt->result.beside;
  conn->n_at_driver += stmt->occupies;
  stmt->dropped = false;
  stmt->lost = false;
  stmt->running_prev = NULL;
  stmt->running_next = conn->running;
  if (conn->running != NULL)
    conn->running->running_prev = stmt;
  conn->running = stmt;
}

/* A setting that a user leaves behind is remembered. */
static void follow_session(const mb_stmt *stmt)
{
  if (!stmt->prepared.changes_session && !stmt->leaves)
    return;
  stmt->conn->lexical_stale = true;
  if (!stmt->conn->setup)
    stmt->conn->session_changed = true;
}

/* A run has failed.  A prepare that travelled with it, and was what failed, is
 * asked for anew by the next run. */
static mb_status fail_run(mb_stmt *stmt, mb_error *error)
{
  mb__stmt_leave_driver(stmt);
  if (error->origin == MB_ORIGIN_PREPARE)
    mb__stmt_close_impl(stmt);
  return mb__stmt_in_own_words(stmt, error);
}

/* Whether an execute, or the next result, leaves nothing to read or to end. */
static bool is_over(const mb_stmt *stmt, mb_status status)
{
  return status == MB_DONE && !stmt->result.more_results;
}

/* What an execute, or the next result, has answered. */
INLINE mb_status end_execute(mb_stmt *stmt, mb_status status, mb_error *error)
{
  follow_session(stmt);
  if (status == MB_ERROR)
    return fail_run(stmt, error);
  follow_columns(stmt);
  if (status == MB_ROW && make_row(stmt, error) != MB_OK) {
    mb__stmt_abandon(stmt);
    return MB_ERROR;
  }
  stmt->result_ended = status == MB_DONE;
  if (is_over(stmt, status))
    mb__stmt_leave_driver(stmt);
  return status;
}

/* Whether the rows of others may make this run, which is prepared, fail. */
static bool is_in_the_way(const mb_conn *conn, const mb_stmt *stmt)
{
  return conn->n_at_driver > 0 && conn->capability->rows_block_writes &&
         !stmt->prepared.reads_only && conn->transaction == MB_TRANSACTION_NONE;
}

/* Whether nothing comes before an execute but a look at the transaction. */
static inline bool is_ready(const mb_conn *conn, const mb_stmt *stmt)
{
  return stmt->impl != NULL && !conn->unsettled && conn->n_at_driver == 0 &&
         conn->end_open == NULL;
}

mb_status mb__stmt_make_ready(mb_conn *conn, mb_stmt *stmt, mb_error *error)
{
  mb_status status = MB_OK;

  MB_TASK_BEGIN(stmt->ready_at);
  if (conn->unsettled || conn->end_open != NULL) {
    MB_TASK_CALL(stmt->ready_at, status, mb__conn_settle(conn, error));
    if (status == MB_ERROR)
      MB_TASK_LEAVE(stmt->ready_at, MB_ERROR);
  }
  if (mb__tx_check(conn, stmt->tx, error) != MB_OK)
    MB_TASK_LEAVE(stmt->ready_at, MB_ERROR);
  if (mb__conn_is_occupied(conn)) {
    MB_TASK_CALL(stmt->ready_at, status, mb__stmt_spool_all(conn, error));
    /* What was read may have been the end of the transaction. */
    if (status == MB_ERROR || mb__tx_check(conn, stmt->tx, error) != MB_OK)
      MB_TASK_LEAVE(stmt->ready_at, MB_ERROR);
  }
  if (stmt->flags & MB__STATEMENT_COMMAND)
    MB_TASK_LEAVE(stmt->ready_at, MB_OK);
  if (stmt->impl == NULL) {
    MB_TASK_AWAIT(
        stmt->ready_at, status, conn, mb__stmt_start_prepare(stmt, error));
    if (mb__stmt_end_prepare(stmt, status, error) != MB_OK)
      MB_TASK_LEAVE(stmt->ready_at, MB_ERROR);
  }
  if (is_in_the_way(conn, stmt)) {
    MB_TASK_CALL(stmt->ready_at, status, mb__stmt_spool_all(conn, error));
    if (status == MB_ERROR)
      MB_TASK_LEAVE(stmt->ready_at, MB_ERROR);
  }
  MB_TASK_END(stmt->ready_at);
  return MB_OK;
}

/* A library that prepares with the first run is asked all the same, so that a
 * wrong text is found here. */
static mb_status prepare_step(mb_conn *conn, void *argument, mb_error *error)
{
  mb_stmt *stmt = argument;
  mb_status status = MB_OK;

  MB_TASK_BEGIN(stmt->at);
  MB_TASK_CALL(stmt->at, status, mb__stmt_make_ready(conn, stmt, error));
  if (status == MB_ERROR || conn->driver->describe == NULL)
    MB_TASK_LEAVE(stmt->at, status);
  if (mb__conn_proceed(conn, error) != MB_OK)
    MB_TASK_LEAVE(stmt->at, MB_ERROR);
  MB_TASK_AWAIT(stmt->at, status, conn,
      conn->driver->describe(
          stmt->impl, &stmt->prepared, &stmt->result, &conn->op, error));
  status = mb__stmt_end_prepare(stmt, status, error);
  MB_TASK_END(stmt->at);
  return status;
}

/* A statement that went stale is prepared again, once, where nobody can have
 * relied on it: outside a transaction. */
static bool may_try_again(mb_stmt *stmt, mb_error *error)
{
  mb_conn *conn = stmt->conn;
  if (!(error->flags & MB_STALE_STATEMENT))
    return false;
  mb__stmt_close_impl(stmt);
  /* By what the session says: a transaction may come from SQL text. */
  if (conn->dead || conn->depth > 0 ||
      conn->driver->transaction_state(conn->impl) != MB_TRANSACTION_NONE) {
    error->flags |= MB_RETRYABLE;
    return false;
  }
  if (stmt->retried)
    return false;
  stmt->retried = true;
  return true;
}

/* Takes the place to write, where there is one and this writes. */
static mb_status take_place(const mb_stmt *stmt, mb_error *error)
{
  mb_conn *conn = stmt->conn;
  if (stmt->prepared.reads_only || conn->has_place || !conn->pool->place.wanted)
    return MB_OK;
  return mb__place_enter(conn, error);
}

/* One run.  Compiled twice: as a task, and for its start, where most runs end
 * and at is known. */
INLINE mb_status run(mb_conn *conn, mb_stmt *stmt, mb_error *error)
{
  mb_status status = MB_OK;

  MB_TASK_BEGIN(stmt->at);
  do {
    if (MB_RARELY(!is_ready(conn, stmt)))
      MB_TASK_CALL(stmt->at, status, mb__stmt_make_ready(conn, stmt, error));
    else
      status = mb__tx_check(conn, stmt->tx, error);
    if (status == MB_ERROR || place_parameters(stmt, error) != MB_OK ||
        take_place(stmt, error) != MB_OK)
      MB_TASK_LEAVE(stmt->at, MB_ERROR);
    MB_TASK_AWAIT(stmt->at, status, conn, start_execute(stmt, error));
  } while (status == MB_ERROR && may_try_again(stmt, error));
  if (status != MB_ERROR && !is_over(stmt, status))
    begin_run(stmt);
  status = end_execute(stmt, status, error);
  MB_TASK_END(stmt->at);
  return status;
}

static mb_status run_step(mb_conn *conn, void *argument, mb_error *error)
{
  return run(conn, argument, error);
}

/* --- Running many ------------------------------------------------------- */

/* The parameters of the row whose turn it is. */
static mb_status place_row(mb_stmt *stmt, mb_error *error)
{
  stmt->params = stmt->many.params + stmt->many.row * stmt->many.n;
  stmt->n_params = stmt->many.n;
  return place_parameters(stmt, error);
}

/* The parameters of all rows, in the order in which they are sent. */
static mb_status place_rows(mb_stmt *stmt, mb_error *error)
{
  const mb__scan *scan = &stmt->scan;
  stmt->params = stmt->many.params;
  stmt->n_params = stmt->many.n;
  if (check_parameters(stmt, error) != MB_OK)
    return MB_ERROR;
  if (scan->order == NULL || stmt->many.placed != NULL)
    return MB_OK;
  mb_value *placed =
      mb__allocate_zeroed(stmt->many.rows, scan->n_places * sizeof *placed);
  if (placed == NULL)
    return mb__out_of_memory(error);
  stmt->many.placed = placed;
  for (size_t row = 0; row < stmt->many.rows; row++)
    for (size_t i = 0; i < scan->n_places; i++)
      *placed++ = stmt->many.params[row * stmt->many.n + scan->order[i]];
  return MB_OK;
}

/* A driver that takes all rows at once, and gives back none, is given them. */
static bool takes_rows(const mb_stmt *stmt)
{
  return stmt->conn->driver->execute_many != NULL &&
         !stmt->prepared.returns_rows && stmt->many.rows > 0;
}

static mb_status start_execute_many(mb_stmt *stmt, mb_error *error)
{
  const bool placed = stmt->many.placed != NULL;
  if (mb__conn_proceed(stmt->conn, error) != MB_OK)
    return MB_ERROR;
  clear_totals(stmt);
  return stmt->conn->driver->execute_many(stmt->impl,
      placed ? stmt->many.placed : stmt->many.params,
      placed ? stmt->scan.n_places : stmt->many.n, stmt->many.rows,
      &stmt->result, &stmt->conn->op, error);
}

/* All rows in one call, or row after row; rows that they return are not
 * wanted. */
static mb_status run_rows(mb_conn *conn, mb_stmt *stmt, mb_error *error)
{
  mb_status status = MB_OK;

  MB_TASK_BEGIN(stmt->many.at);
  if (takes_rows(stmt)) {
    if (place_rows(stmt, error) != MB_OK)
      MB_TASK_LEAVE(stmt->many.at, MB_ERROR);
    MB_TASK_AWAIT(stmt->many.at, status, conn, start_execute_many(stmt, error));
    if (status == MB_ERROR && error->row > 0)
      error->row += stmt->many.first - 1;
    if (status == MB_ERROR)
      MB_TASK_LEAVE(stmt->many.at, fail_run(stmt, error));
    add_totals(stmt);
    MB_TASK_LEAVE(stmt->many.at, MB_DONE);
  }
  for (; stmt->many.row < stmt->many.rows; stmt->many.row++) {
    status = place_row(stmt, error);
    if (status != MB_ERROR)
      MB_TASK_AWAIT(stmt->many.at, status, conn, start_execute(stmt, error));
    if (status == MB_ROW)
      MB_TASK_AWAIT(stmt->many.at, status, conn,
          conn->driver->finish(stmt->impl, MB_FINISH_DRAIN, &conn->op, error));
    if (status == MB_ERROR) {
      error->row = stmt->many.first + (int64_t)stmt->many.row;
      MB_TASK_LEAVE(stmt->many.at, fail_run(stmt, error));
    }
    add_totals(stmt);
  }
  MB_TASK_END(stmt->many.at);
  return MB_DONE;
}

static mb_status run_many_step(mb_conn *conn, void *argument, mb_error *error)
{
  mb_stmt *stmt = argument;
  mb_status status = MB_OK;

  MB_TASK_BEGIN(stmt->at);
  do {
    MB_TASK_CALL(stmt->at, status, mb__stmt_make_ready(conn, stmt, error));
    if (status == MB_ERROR)
      break;
    MB_TASK_CALL(stmt->at, status, run_rows(conn, stmt, error));
    follow_session(stmt);
  } while (status == MB_ERROR && may_try_again(stmt, error));
  give_totals(stmt);
  stmt->params = NULL;
  mb__host.release(stmt->many.placed);
  stmt->many.placed = NULL;
  MB_TASK_END(stmt->at);
  return status;
}
/* --- Starting ----------------------------------------------------------- */

/* Finds a statement that is free to run, and enters its connection.  On failure
 * *which stays what it was. */
INLINE mb_status take(
    mb_stmt **which, const mb_tx *tx, const mb_call *call, mb_error *error)
{
  mb_stmt *stmt = *which;
  /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): found, or made. */
  if (stmt->conn == NULL)
    return mb__host.fail(
        error, MB_USAGE, "the connection of the statement is closed");
  if (MB_RARELY(stmt->run != 0) &&
      mb_conn_statement(stmt->conn, stmt->text, stmt->size, stmt->flags, &stmt,
          error) != MB_OK)
    return MB_ERROR;
  if (mb__conn_enter(stmt->conn, error) != MB_OK)
    return MB_ERROR;

  const mb_settings *settings = &stmt->conn->connector->settings;
  if (call != NULL)
    stmt->call = *call;
  else
    stmt->call = (mb_call){
        .timeout_ns = settings->timeout_ns, .fetch_size = settings->fetch_size};
  stmt->tx = tx;
  stmt->retried = false;
  stmt->result_ended = false;
  if (MB_RARELY(!mb__conn_is_free(
          stmt->conn, stmt->call.timeout_ns, stmt->call.cancellation)) &&
      mb__conn_bound(stmt->conn, stmt->call.timeout_ns, stmt->call.cancellation,
          error) != MB_OK) {
    mb__conn_leave(stmt->conn, error);
    return MB_ERROR;
  }
  *which = stmt;
  return MB_OK;
}

mb_status mb_stmt_run(mb_stmt **which, const mb_tx *tx, const mb_value *params,
    size_t n, const mb_call *call, mb_error *error)
{
  if (take(which, tx, call, error) != MB_OK)
    return MB_ERROR;
  mb_stmt *stmt = *which;
  stmt->params = params;
  stmt->n_params = n;
  stmt->lost = false;
  stmt->at = 0;
  return mb__conn_end_step(
      stmt->conn, run_step, stmt, run(stmt->conn, stmt, error), error);
}

mb_status mb_stmt_run_many(mb_stmt **which, const mb_tx *tx,
    const mb_value *params, size_t n, size_t rows, int64_t first,
    const mb_call *call, mb_error *error)
{
  if (take(which, tx, call, error) != MB_OK)
    return MB_ERROR;
  mb_stmt *stmt = *which;
  stmt->many.params = params;
  stmt->many.n = n;
  stmt->many.rows = rows;
  stmt->many.row = 0;
  stmt->many.placed = NULL;
  stmt->many.first = first;
  stmt->many.affected = 0;
  stmt->many.has_last_id = false;
  return mb__conn_run(stmt->conn, run_many_step, stmt, error);
}

mb_status mb_stmt_prepare(
    mb_stmt *stmt, const mb_tx *tx, const mb_call *call, mb_error *error)
{
  mb_stmt *which = stmt;
  if (stmt->run != 0)
    return MB_OK;
  if (take(&which, tx, call, error) != MB_OK)
    return MB_ERROR;
  return mb__conn_run(stmt->conn, prepare_step, stmt, error);
}

/* --- Further results ---------------------------------------------------- */

static mb_status next_result_step(
    mb_conn *conn, void *argument, mb_error *error)
{
  mb_stmt *stmt = argument;
  mb_status status = MB_OK;

  MB_TASK_BEGIN(stmt->at);
  mb__stmt_forget_rows(stmt);
  clear_totals(stmt);
  MB_TASK_AWAIT(stmt->at, status, conn,
      conn->driver->next_result(stmt->impl, &stmt->result, &conn->op, error));
  stmt->shape = 0;
  status = end_execute(stmt, status, error);
  if (stmt->follower != NULL) {
    stmt->follower->shape = stmt->shape;
    stmt->follower->n_columns = stmt->result.n_columns;
  }
  MB_TASK_END(stmt->at);
  return status;
}

mb_status mb__stmt_next_result(
    mb_stmt *stmt, mb_cursor *follower, mb_error *error)
{
  if (!stmt->at_driver || !stmt->result.more_results ||
      stmt->conn->driver->next_result == NULL)
    return MB_DONE;
  if (mb__conn_enter(stmt->conn, error) != MB_OK ||
      mb__stmt_bound_fetch(stmt, error) != MB_OK)
    return MB_ERROR;
  stmt->follower = follower;
  return mb__conn_run(stmt->conn, next_result_step, stmt, error);
}

mb_status mb_stmt_next_result(mb_stmt *stmt, mb_error *error)
{
  return mb__stmt_next_result(stmt, NULL, error);
}

/* --- Together with others ------------------------------------------------ */

mb_status mb__stmt_take(
    mb_stmt **which, const mb_tx *tx, const mb_call *call, mb_error *error)
{
  return take(which, tx, call, error);
}

mb_status mb__stmt_ready(mb_conn *conn, mb_stmt *stmt, mb_error *error)
{
  /* Called again by one that has waited, it goes on where it was. */
  const mb_status status = stmt->ready_at == 0 && is_ready(conn, stmt)
                               ? mb__tx_check(conn, stmt->tx, error)
                               : mb__stmt_make_ready(conn, stmt, error);
  if (status != MB_OK)
    return status;
  return place_parameters(stmt, error) == MB_OK ? take_place(stmt, error)
                                                : MB_ERROR;
}

mb_status mb__stmt_queue(mb_stmt *stmt, mb_error *error)
{
  return start_execute(stmt, error);
}

mb_result *mb__stmt_totals(mb_stmt *stmt)
{
  clear_totals(stmt);
  return &stmt->result;
}

mb_status mb__stmt_answered(mb_stmt *stmt, mb_status status, mb_error *error)
{
  /* It is not run again alone: what it stands among has been undone. */
  if (status == MB_ERROR && (error->flags & MB_STALE_STATEMENT)) {
    error->flags |= MB_RETRYABLE;
    mb__stmt_close_impl(stmt);
  }
  if (status != MB_ERROR && !is_over(stmt, status))
    begin_run(stmt);
  return end_execute(stmt, status, error);
}
