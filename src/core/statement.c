/*
 * statement.c: from a text to rows.
 *
 * A run is a task: settle what was dropped, make room beside open rows, prepare
 * if need be, execute.  Everything that a run needs is in its mb_stmt, so that
 * the commonest run (known text, one row) allocates nothing.
 */
#include "statement.h"

#include "pool.h"
#include "script.h"
#include "suggest.h"

#include <string.h>

/* Longer texts are not worth their memory in a cache. */
#define CACHED_TEXT_MAX 16384

/* For the steps of every run: calling them would take longer than they do. */
#define INLINE __attribute__((always_inline)) static inline

static atomic_uint_fast64_t last_shape;

/* --- Making and forgetting ---------------------------------------------- */

static void free_stmt(mb_stmt *stmt)
{
  mb_spool_free(stmt->spool);
  mb__scan_close(&stmt->scan);
  mb__host.release(stmt->row);
  mb__host.release(stmt->places);
  mb__host.release(stmt->many.placed);
  mb__host.release(stmt->text);
  mb__host.release(stmt);
}

void mb_stmt_keep(mb_stmt *stmt)
{
  (void)atomic_fetch_add_explicit(&stmt->refs, 1, memory_order_relaxed);
}

void mb_stmt_close(mb_stmt *stmt)
{
  if (stmt != NULL &&
      atomic_fetch_sub_explicit(&stmt->refs, 1, memory_order_acq_rel) == 1)
    free_stmt(stmt);
}

static void close_impl(mb_stmt *stmt)
{
  /* A child closes nothing that is its parent's. */
  if (stmt->impl != NULL && !stmt->conn->inherited)
    stmt->conn->driver->close_statement(stmt->impl);
  stmt->impl = NULL;
  stmt->shape = 0;
  memset(&stmt->result, 0, sizeof stmt->result);
}

/* The connection lets go of a statement that does not run. */
static void let_go(mb_stmt *stmt)
{
  close_impl(stmt);
  mb__cache_remove(&stmt->conn->cache, stmt);
  stmt->conn = NULL;
  mb_stmt_close(stmt);
}

/* Nothing is left of the run. */
static void stop_run(mb_stmt *stmt)
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

static void forget_rows(mb_stmt *stmt)
{
  stmt->at_end = false;
  if (stmt->spool == NULL && stmt->late == NULL)
    return;
  mb_spool_free(stmt->spool);
  stmt->spool = NULL;
  mb__host.release(stmt->late);
  stmt->late = NULL;
}

/* The database has nothing more to give; what was read ahead stays. */
static void leave_driver(mb_stmt *stmt)
{
  stmt->conn->n_at_driver -= stmt->at_driver;
  stmt->at_driver = false;
  stmt->params = NULL;
  if (stmt->dropped)
    forget_rows(stmt);
  if (stmt->spool == NULL && stmt->late == NULL && !stmt->at_end)
    stop_run(stmt);
}

/* Nobody will get the rest; it is ended before anything else is run. */
static void abandon_run(mb_stmt *stmt)
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
  abandon_run(stmt);
}

void mb__stmt_forget_from(mb_conn *conn, uint32_t depth)
{
  for (mb_stmt *stmt = conn->running, *next; stmt != NULL; stmt = next) {
    next = stmt->running_next;
    if (stmt->depth < depth)
      continue;
    forget_rows(stmt);
    leave_driver(stmt);
  }
}

void mb__stmt_forget_all(mb_conn *conn, bool close)
{
  for (mb_stmt *stmt = conn->cache.newest, *older; stmt != NULL; stmt = older) {
    older = stmt->older;
    forget_rows(stmt);
    leave_driver(stmt);
    if (close)
      let_go(stmt);
    else
      close_impl(stmt);
  }
  if (close)
    mb__cache_close(&conn->cache);
}

static mb_status scan_text(mb_conn *conn, mb_stmt *stmt, mb_error *error)
{
  stmt->leaves =
      mb__conn_resets_on_need(conn) &&
      ((stmt->flags & MB__STATEMENT_COMMAND) ||
          mb__may_leave_something(conn->capability, stmt->text, stmt->size));
  if (!(stmt->flags & MB_STATEMENT_PLAIN))
    return mb__scan_open(
        &conn->capability->lexical, stmt->text, stmt->size, &stmt->scan, error);
  const char *zero = memchr(stmt->text, '\0', stmt->size);
  if (zero != NULL)
    return mb__host.fail(error, MB_USAGE, "zero byte in the text, at byte %zu",
        (size_t)(zero - stmt->text) + 1);
  return MB_OK;
}

static mb_status make(mb_conn *conn, const char *sql, size_t size,
    unsigned flags, uint64_t hash, mb_stmt **out, mb_error *error)
{
  mb_stmt *stmt = mb__allocate_zeroed(1, sizeof *stmt);
  if (stmt == NULL)
    return mb__out_of_memory(error);
  atomic_init(&stmt->refs, 1);
  stmt->flags = flags;
  stmt->hash = hash;
  stmt->size = size;
  stmt->transient = size > CACHED_TEXT_MAX || conn->cache.limit == 0 ||
                    (flags & MB__STATEMENT_COMMAND) != 0;
  stmt->text = mb__copy_text(sql, size);
  mb_status status = stmt->text != NULL ? scan_text(conn, stmt, error)
                                        : mb__out_of_memory(error);
  if (status == MB_OK)
    status = mb__cache_add(&conn->cache, stmt, error);
  if (status != MB_OK) {
    free_stmt(stmt);
    return status;
  }
  stmt->conn = conn;
  stmt->lexical_serial = conn->lexical_serial;
  *out = stmt;
  return MB_OK;
}

/* The text means something else than it did.  A run that is going on keeps what
 * it began with. */
static mb_status scan_again(mb_stmt *stmt, mb_error *error)
{
  if (stmt->run != 0)
    return MB_OK;
  close_impl(stmt);
  mb__scan_close(&stmt->scan);
  if (scan_text(stmt->conn, stmt, error) != MB_OK)
    return MB_ERROR;
  stmt->lexical_serial = stmt->conn->lexical_serial;
  return MB_OK;
}

/* The text may mean something else since a setting has changed; stmt is the
 * statement that was found for it, or NULL. */
static mb_status follow_lexical(mb_conn *conn, mb_stmt *stmt, mb_error *error)
{
  mb_status status = MB_OK;
  /* Nothing may be asked, or closed, under a call that is going on. */
  if (mb__conn_enter(conn, error) != MB_OK)
    return MB_ERROR;
  if (conn->lexical_stale)
    mb__conn_follow_lexical(conn);
  if (stmt != NULL && stmt->lexical_serial != conn->lexical_serial)
    status = scan_again(stmt, error);
  atomic_store_explicit(&conn->entered, false, memory_order_release);
  return status;
}

mb_status mb_conn_statement(mb_conn *conn, const char *sql, size_t size,
    unsigned flags, mb_stmt **out, mb_error *error)
{
  const uint64_t hash = mb__cache_hash(sql, size, flags);
  *out = mb__cache_find(&conn->cache, hash, sql, size, flags);
  if ((conn->lexical_stale ||
          (*out != NULL && (*out)->lexical_serial != conn->lexical_serial)) &&
      follow_lexical(conn, *out, error) != MB_OK) {
    *out = NULL;
    return MB_ERROR;
  }
  if (*out != NULL) {
    conn->cache_hits++;
    return MB_OK;
  }
  /* Nothing may be made, or closed, under a call that is going on. */
  if (mb__conn_enter(conn, error) != MB_OK)
    return MB_ERROR;
  conn->cache_misses++;
  /* A call around this one may be about to use any of them. */
  for (mb_stmt *stmt; atomic_load(&conn->guard.held) <= 1 &&
                      (stmt = mb__cache_surplus(&conn->cache)) != NULL;)
    let_go(stmt);
  const mb_status status = make(conn, sql, size, flags, hash, out, error);
  atomic_store_explicit(&conn->entered, false, memory_order_release);
  return status;
}

/* --- What a statement is ------------------------------------------------ */

mb_style mb_stmt_style(const mb_stmt *stmt)
{
  return stmt->scan.style;
}

size_t mb_stmt_n_parameters(const mb_stmt *stmt)
{
  if ((stmt->flags & MB_STATEMENT_PLAIN) && stmt->prepared.n_parameters > 0)
    return (size_t)stmt->prepared.n_parameters;
  return stmt->scan.n_parameters;
}

const char *mb_stmt_parameter(const mb_stmt *stmt, size_t index, size_t *size)
{
  if (stmt->scan.names == NULL || index >= stmt->scan.n_parameters)
    return NULL;
  *size = stmt->scan.names[index].size;
  return stmt->scan.names[index].text;
}

void mb_suggest_parameter(const mb_stmt *stmt, const char *word, size_t size,
    const char **name, size_t *name_size)
{
  size_t best = SIZE_MAX;
  *name = NULL;
  *name_size = 0;
  for (size_t i = 0; stmt->scan.names != NULL && i < stmt->scan.n_parameters;
       i++) {
    const mb__name *one = &stmt->scan.names[i];
    const size_t distance =
        mb__suggest_distance(word, size, one->text, one->size);
    if (distance < best) {
      best = distance;
      *name = one->text;
      *name_size = one->size;
    }
  }
}

const char *mb_stmt_text(const mb_stmt *stmt, size_t *size)
{
  *size = stmt->size;
  return stmt->text;
}

bool mb_stmt_is_running(const mb_stmt *stmt)
{
  return stmt->run != 0;
}

const mb_result *mb_stmt_result(const mb_stmt *stmt)
{
  return &stmt->result;
}

uint64_t mb_stmt_shape(const mb_stmt *stmt)
{
  return stmt->shape;
}

uint64_t mb_stmt_run_number(const mb_stmt *stmt)
{
  return stmt->run;
}

bool mb_conn_has_open_rows(const mb_conn *conn)
{
  return conn->n_at_driver > 0;
}

/* --- Preparing ---------------------------------------------------------- */

/* The driver's error speaks of the text that was sent. */
static mb_status in_own_words(mb_stmt *stmt, mb_error *error)
{
  error->position = mb__scan_position(&stmt->scan, error->position);
  return MB_ERROR;
}

static mb_status refuse_text(
    mb_stmt *stmt, mb_error *error, const char *message)
{
  close_impl(stmt);
  return mb__host.fail(error, MB_USAGE, "%s", message);
}

/* Whether another statement stands behind the one that was prepared. */
static bool is_more(const mb_stmt *stmt, const char *sent, size_t size)
{
  const mb_lexical *lexical = &stmt->conn->capability->lexical;
  const size_t consumed = stmt->prepared.consumed;
  size_t end;
  if (consumed == 0)
    return mb__script_has_more(lexical, sent, size, &end);
  return consumed < size &&
         mb__script_is_more(lexical, sent + consumed, size - consumed);
}

/* What can be said of a text only once the database has read it. */
static mb_status check_prepared(mb_stmt *stmt, mb_error *error)
{
  const mb_prepared *prepared = &stmt->prepared;
  if (prepared->empty || stmt->impl == NULL)
    return refuse_text(stmt, error, "the text holds no statement");
  const size_t sent_size =
      stmt->scan.sent != NULL ? stmt->scan.sent_size : stmt->size;
  const char *sent = stmt->scan.sent != NULL ? stmt->scan.sent : stmt->text;
  if (is_more(stmt, sent, sent_size))
    return refuse_text(
        stmt, error, "the text holds more than one statement; use exec_script");
  if (!(stmt->flags & MB_STATEMENT_PLAIN) && prepared->n_parameters >= 0 &&
      (size_t)prepared->n_parameters != stmt->scan.n_places)
    return refuse_text(stmt, error,
        "the text has placeholders of the database's own (as @name, $name or "
        "?5); write ?, $1 or :name");
  return MB_OK;
}

static mb_status start_prepare(mb_stmt *stmt, mb_error *error)
{
  mb_conn *conn = stmt->conn;
  const bool rewritten = stmt->scan.sent != NULL;
  if (mb__conn_proceed(conn, error) != MB_OK)
    return MB_ERROR;
  stmt->prepared = (mb_prepared){.n_parameters = -1};
  return conn->driver->prepare(conn->impl,
      rewritten ? stmt->scan.sent : stmt->text,
      rewritten ? stmt->scan.sent_size : stmt->size, &stmt->impl,
      &stmt->prepared, &conn->op, error);
}

static mb_status end_prepare(mb_stmt *stmt, mb_status status, mb_error *error)
{
  if (status != MB_ERROR)
    return check_prepared(stmt, error);
  close_impl(stmt);
  if (error->origin == MB_ORIGIN_STATEMENT)
    error->origin = MB_ORIGIN_PREPARE;
  return in_own_words(stmt, error);
}

/* --- Running ------------------------------------------------------------ */

/* Columns may change with every run and every further result. */
static void follow_columns(mb_stmt *stmt)
{
  if (stmt->shape != 0 && stmt->columns_serial == stmt->result.columns_serial)
    return;
  stmt->columns_serial = stmt->result.columns_serial;
  stmt->shape = atomic_fetch_add(&last_shape, 1) + 1;
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

static mb_status check_parameters(const mb_stmt *stmt, mb_error *error)
{
  const size_t wanted = mb_stmt_n_parameters(stmt);
  const bool unknown = (stmt->flags & MB_STATEMENT_PLAIN) != 0 &&
                       stmt->prepared.n_parameters < 0;
  if (stmt->n_params == wanted || unknown)
    return MB_OK;
  return mb__host.fail(error, MB_USAGE,
      "the statement has %zu parameter%s, but %zu %s given", wanted,
      wanted == 1 ? "" : "s", stmt->n_params,
      stmt->n_params == 1 ? "was" : "were");
}

/* Brings the values into the order in which they are sent. */
INLINE mb_status place_parameters(mb_stmt *stmt, mb_error *error)
{
  const mb__scan *scan = &stmt->scan;
  if (stmt->params != NULL && stmt->params == stmt->places)
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
  for (size_t i = 0; i < scan->n_places; i++)
    stmt->places[i] = stmt->params[scan->order[i]];
  stmt->params = stmt->places;
  stmt->n_params = scan->n_places;
  return MB_OK;
}

/* The totals of a run or result that begins. */
static void clear_totals(mb_stmt *stmt)
{
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
  conn->n_at_driver++;
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
  leave_driver(stmt);
  if (error->origin == MB_ORIGIN_PREPARE)
    close_impl(stmt);
  return in_own_words(stmt, error);
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
    abandon_run(stmt);
    return MB_ERROR;
  }
  stmt->result_ended = status == MB_DONE;
  if (is_over(stmt, status))
    leave_driver(stmt);
  return status;
}

/* Whether the rows of others may make this run, which is prepared, fail. */
static bool is_in_the_way(const mb_conn *conn, const mb_stmt *stmt)
{
  return conn->n_at_driver > 0 && conn->capability->rows_block_writes &&
         !stmt->prepared.reads_only && conn->transaction == MB_TRANSACTION_NONE;
}

/* Everything that comes before an execute; a task. */
INLINE mb_status make_ready(mb_conn *conn, mb_stmt *stmt, mb_error *error)
{
  mb_status status = MB_OK;

  MB_TASK_BEGIN(stmt->ready_at);
  if (conn->unsettled) {
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
  if (stmt->impl == NULL) {
    MB_TASK_AWAIT(stmt->ready_at, status, conn, start_prepare(stmt, error));
    if (end_prepare(stmt, status, error) != MB_OK)
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
  MB_TASK_CALL(stmt->at, status, make_ready(conn, stmt, error));
  if (status == MB_ERROR || conn->driver->describe == NULL)
    MB_TASK_LEAVE(stmt->at, status);
  if (mb__conn_proceed(conn, error) != MB_OK)
    MB_TASK_LEAVE(stmt->at, MB_ERROR);
  MB_TASK_AWAIT(stmt->at, status, conn,
      conn->driver->describe(
          stmt->impl, &stmt->prepared, &stmt->result, &conn->op, error));
  status = end_prepare(stmt, status, error);
  MB_TASK_END(stmt->at);
  return status;
}

/* A statement that went stale is prepared again, once, where nobody can have
 * relied on it: outside a transaction. */
static bool may_try_again(mb_stmt *stmt, mb_status status, mb_error *error)
{
  mb_conn *conn = stmt->conn;
  if (status != MB_ERROR || !(error->flags & MB_STALE_STATEMENT))
    return false;
  close_impl(stmt);
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

static mb_status run_step(mb_conn *conn, void *argument, mb_error *error)
{
  mb_stmt *stmt = argument;
  mb_status status = MB_OK;

  MB_TASK_BEGIN(stmt->at);
  do {
    MB_TASK_CALL(stmt->at, status, make_ready(conn, stmt, error));
    if (status == MB_ERROR || place_parameters(stmt, error) != MB_OK ||
        take_place(stmt, error) != MB_OK)
      MB_TASK_LEAVE(stmt->at, MB_ERROR);
    MB_TASK_AWAIT(stmt->at, status, conn, start_execute(stmt, error));
  } while (may_try_again(stmt, status, error));
  if (status != MB_ERROR && !is_over(stmt, status))
    begin_run(stmt);
  status = end_execute(stmt, status, error);
  MB_TASK_END(stmt->at);
  return status;
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
    MB_TASK_CALL(stmt->at, status, make_ready(conn, stmt, error));
    if (status == MB_ERROR)
      break;
    MB_TASK_CALL(stmt->at, status, run_rows(conn, stmt, error));
    follow_session(stmt);
  } while (may_try_again(stmt, status, error));
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
  if (stmt->run != 0 && mb_conn_statement(stmt->conn, stmt->text, stmt->size,
                            stmt->flags, &stmt, error) != MB_OK)
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
  if (!mb__conn_is_free(
          stmt->conn, stmt->call.timeout_ns, stmt->call.cancellation) &&
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
  return mb__conn_run(stmt->conn, run_step, stmt, error);
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

/* --- Rows --------------------------------------------------------------- */

/* The next run with rows to be read into memory. */
static mb_stmt *next_to_spool(const mb_conn *conn)
{
  mb_stmt *stmt = conn->running;
  while (
      stmt != NULL && (!stmt->at_driver || stmt->result_ended || stmt->dropped))
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
      leave_driver(stmt);
    return MB_DONE;
  default:
    leave_driver(stmt);
    return in_own_words(stmt, error);
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

/* The error that the rest of the rows met while they were read into memory. */
static mb_status raise_late(mb_stmt *stmt, mb_error *error)
{
  *error = *stmt->late;
  mb__host.release(stmt->late);
  stmt->late = NULL;
  stop_run(stmt);
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
    stop_run(stmt);
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

/* Bounds a fetch, where it has bounds. */
static mb_status bound_fetch(mb_stmt *stmt, mb_error *error)
{
  mb_conn *conn = stmt->conn;
  if (mb__conn_bound(
          conn, stmt->call.timeout_ns, stmt->call.cancellation, error) == MB_OK)
    return MB_OK;
  abandon_run(stmt);
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
    stop_run(stmt);
  return stmt->lost ? report_lost(stmt, error) : MB_DONE;
}

mb_status mb_stmt_fetch(mb_stmt *stmt, const mb_value **row, mb_error *error)
{
  *row = NULL;
  if (stmt->spool != NULL || !stmt->at_driver || stmt->result_ended) {
    const mb_status status = fetch_elsewhere(stmt, row, error);
    if (status != MB_DONE || !stmt->at_driver || stmt->result_ended)
      return status;
  }
  mb_conn *conn = stmt->conn;
  if (mb__conn_enter(conn, error) != MB_OK)
    return MB_ERROR;
  if (!mb__conn_is_free(conn, stmt->call.timeout_ns, stmt->call.cancellation) &&
      bound_fetch(stmt, error) != MB_OK)
    return MB_ERROR;
  mb__conn_watch(conn);
  const mb_status status = start_fetch(stmt, error);
  if (status == MB_ROW && !conn->has_alarm) {
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
  return atomic_load_explicit(&cursor->conn->borrow, memory_order_relaxed) ==
             cursor->borrow &&
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

/* Reads on into memory, until a limit or the end. */
static mb_status prefetch_step(mb_conn *conn, void *argument, mb_error *error)
{
  mb_stmt *stmt = argument;
  mb_status status = MB_ROW;

  MB_TASK_BEGIN(stmt->at);
  while (stmt->prefetch.rows > 0 &&
         stmt->prefetch.bytes < stmt->prefetch.bytes_max) {
    if (mb__conn_proceed(conn, error) != MB_OK) {
      forget_rows(stmt);
      abandon_run(stmt);
      MB_TASK_LEAVE(stmt->at, MB_ERROR);
    }
    MB_TASK_AWAIT(stmt->at, status, conn, start_fetch(stmt, error));
    if (status == MB_ERROR)
      forget_rows(stmt); /* the error is raised now, and ends the run */
    status = end_fetch(stmt, status, error);
    if (status != MB_ROW)
      MB_TASK_LEAVE(stmt->at, status);
    if (mb__spool_add(&stmt->spool, stmt->row, stmt->result.n_columns,
            &stmt->prefetch.bytes, error) != MB_OK) {
      forget_rows(stmt);
      abandon_run(stmt);
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
  if (mb__conn_enter(conn, error) != MB_OK || bound_fetch(stmt, error) != MB_OK)
    return MB_ERROR;
  stmt->prefetch.rows = rows;
  stmt->prefetch.bytes = 0;
  stmt->prefetch.bytes_max = bytes;
  return mb__conn_run(conn, prefetch_step, stmt, error);
}

mb_spool *mb_stmt_take_spool(mb_stmt *stmt)
{
  mb_spool *spool = stmt->spool;
  stmt->spool = NULL;
  if (!stmt->at_driver && stmt->late == NULL)
    stop_run(stmt);
  return spool;
}

/* The error behind rows that were read for later is raised when its turn has
 * come; only a connection that is lost concerns everybody at once. */
static mb_status keep_error(mb_stmt *stmt, mb_error *error)
{
  mb_conn *conn = stmt->conn;
  in_own_words(stmt, error);
  mb__tx_follow(conn, error);
  stmt->late = mb__host.allocate(sizeof *error);
  if (stmt->late != NULL)
    *stmt->late = *error;
  else
    stmt->lost = true;
  leave_driver(stmt);
  return conn->dead ? MB_ERROR : MB_OK;
}

/* What a row that is read for later has come to. */
static mb_status keep_for_later(
    mb_stmt *stmt, mb_status status, mb_error *error)
{
  size_t ignored = 0;
  if (status == MB_ERROR)
    return keep_error(stmt, error);
  if (status == MB_DONE) {
    stmt->at_end = stmt->spool == NULL && !stmt->result.more_results;
    return end_fetch(stmt, status, error);
  }
  if (mb__spool_add(&stmt->spool, stmt->row, stmt->result.n_columns, &ignored,
          error) == MB_OK)
    return MB_OK;
  lose_row(stmt);
  return MB_ERROR;
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
    if (keep_for_later(conn->settling.stmt, status, error) == MB_ERROR)
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

/* How a run may be ended early: a plain read may be cancelled. */
static mb_finish_mode finish_mode(const mb_stmt *stmt)
{
  return stmt->prepared.reads_only ? MB_FINISH_CANCEL : MB_FINISH_DRAIN;
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
    forget_rows(conn->settling.stmt);
    leave_driver(conn->settling.stmt);
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
  leave_driver(argument);
  return conn->answer == MB_ERROR ? MB_ERROR : MB_OK;
}

mb_status mb_stmt_finish(mb_stmt *stmt, mb_error *error)
{
  mb_conn *conn = stmt->conn;
  /* One that is refused leaves the rows as they are. */
  if (stmt->at_driver && mb__conn_enter(conn, error) != MB_OK)
    return MB_ERROR;
  forget_rows(stmt);
  stmt->lost = false;
  if (!stmt->at_driver) {
    stop_run(stmt);
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
  leave_driver(stmt);
  mb__conn_leave(conn, status == MB_ERROR ? error : NULL);
  return status == MB_ERROR ? MB_ERROR : MB_OK;
}

void mb_stmt_drop(mb_stmt *stmt)
{
  if (stmt->conn == NULL)
    return;
  forget_rows(stmt);
  if (stmt->at_driver)
    abandon_run(stmt);
  else
    stop_run(stmt);
}

static mb_status next_result_step(
    mb_conn *conn, void *argument, mb_error *error)
{
  mb_stmt *stmt = argument;
  mb_status status = MB_OK;

  MB_TASK_BEGIN(stmt->at);
  forget_rows(stmt);
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

static mb_status next_result(
    mb_stmt *stmt, mb_cursor *follower, mb_error *error)
{
  if (!stmt->at_driver || !stmt->result.more_results ||
      stmt->conn->driver->next_result == NULL)
    return MB_DONE;
  if (mb__conn_enter(stmt->conn, error) != MB_OK ||
      bound_fetch(stmt, error) != MB_OK)
    return MB_ERROR;
  stmt->follower = follower;
  return mb__conn_run(stmt->conn, next_result_step, stmt, error);
}

mb_status mb_stmt_next_result(mb_stmt *stmt, mb_error *error)
{
  return next_result(stmt, NULL, error);
}

mb_status mb_cursor_next_result(mb_cursor *cursor, mb_error *error)
{
  if (cursor->conn == NULL || !is_on(cursor))
    return MB_DONE;
  return next_result(cursor->stmt, cursor, error);
}

/* --- Commands ----------------------------------------------------------- */

static mb_status command_step(mb_conn *conn, void *argument, mb_error *error)
{
  mb_stmt *stmt = argument;
  mb_status status = MB_OK;

  MB_TASK_BEGIN(stmt->at);
  if (conn->unsettled) {
    MB_TASK_CALL(stmt->at, status, mb__conn_settle(conn, error));
    if (status == MB_ERROR)
      MB_TASK_LEAVE(stmt->at, MB_ERROR);
  }
  if (mb__tx_check(conn, stmt->tx, error) != MB_OK)
    MB_TASK_LEAVE(stmt->at, MB_ERROR);
  if (mb__conn_is_occupied(conn)) {
    MB_TASK_CALL(stmt->at, status, mb__stmt_spool_all(conn, error));
    if (status == MB_ERROR || mb__tx_check(conn, stmt->tx, error) != MB_OK)
      MB_TASK_LEAVE(stmt->at, MB_ERROR);
  }
  if (mb__conn_proceed(conn, error) != MB_OK)
    MB_TASK_LEAVE(stmt->at, MB_ERROR);
  clear_totals(stmt);
  MB_TASK_AWAIT(stmt->at, status, conn,
      conn->driver->command(conn->impl, stmt->text, stmt->params,
          stmt->n_params, &stmt->impl, &stmt->result, &conn->op, error));
  if (status != MB_ERROR)
    begin_run(stmt);
  status = end_execute(stmt, status, error);
  MB_TASK_END(stmt->at);
  return status;
}

mb_status mb_conn_command(mb_conn *conn, const mb_tx *tx, const char *name,
    const mb_value *values, size_t n, const mb_call *call, mb_stmt **out,
    mb_error *error)
{
  *out = NULL;
  if (conn->driver->command == NULL)
    return mb__host.fail(error, MB_UNSUPPORTED, "driver \"%s\" has no commands",
        conn->driver->name);
  /* It stands among the statements, where no text finds it. */
  mb_stmt *stmt;
  if (mb_conn_statement(conn, name, strlen(name),
          MB_STATEMENT_PLAIN | MB__STATEMENT_COMMAND, &stmt, error) != MB_OK ||
      take(&stmt, tx, call, error) != MB_OK)
    return MB_ERROR;
  if (stmt->impl != NULL)
    close_impl(stmt); /* an earlier run of the same command */
  stmt->params = values;
  stmt->n_params = n;
  *out = stmt;
  const mb_status status = mb__conn_run(conn, command_step, stmt, error);
  if (status == MB_ERROR)
    *out = NULL;
  return status;
}
