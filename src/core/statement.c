/*
 * statement.c: a text on a connection, from its making to its end, and what the
 * database says when it prepares it.  run.c runs it, rows.c reads what it
 * gives.
 */
#include "statement.h"

#include "script.h"
#include "suggest.h"

#include <string.h>

/* Longer texts are not worth their memory in a cache. */
#define CACHED_TEXT_MAX 16384

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

void mb__stmt_close_impl(mb_stmt *stmt)
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
  mb__stmt_close_impl(stmt);
  mb__cache_remove(&stmt->conn->cache, stmt);
  stmt->conn = NULL;
  mb_stmt_close(stmt);
}

void mb__stmt_forget_from(mb_conn *conn, uint32_t depth)
{
  for (mb_stmt *stmt = conn->running, *next; stmt != NULL; stmt = next) {
    next = stmt->running_next;
    if (stmt->depth < depth)
      continue;
    mb__stmt_forget_rows(stmt);
    mb__stmt_leave_driver(stmt);
  }
}

void mb__stmt_forget_all(mb_conn *conn, bool close)
{
  for (mb_stmt *stmt = conn->cache.newest, *older; stmt != NULL; stmt = older) {
    older = stmt->older;
    mb__stmt_forget_rows(stmt);
    mb__stmt_leave_driver(stmt);
    if (close)
      let_go(stmt);
    else
      mb__stmt_close_impl(stmt);
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
  mb__stmt_close_impl(stmt);
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
  return mb__stmt_n_parameters(stmt);
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
mb_status mb__stmt_in_own_words(mb_stmt *stmt, mb_error *error)
{
  error->position = mb__scan_position(&stmt->scan, error->position);
  return MB_ERROR;
}

static mb_status refuse_text(
    mb_stmt *stmt, mb_error *error, const char *message)
{
  mb__stmt_close_impl(stmt);
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

mb_status mb__stmt_start_prepare(mb_stmt *stmt, mb_error *error)
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

mb_status mb__stmt_end_prepare(mb_stmt *stmt, mb_status status, mb_error *error)
{
  if (status != MB_ERROR)
    return check_prepared(stmt, error);
  mb__stmt_close_impl(stmt);
  if (error->origin == MB_ORIGIN_STATEMENT)
    error->origin = MB_ORIGIN_PREPARE;
  return mb__stmt_in_own_words(stmt, error);
}
