/*
 * statement.h: a text on a connection, and its run.
 *
 * At most one run of a statement is going on; the same text runs inside itself
 * by a second statement.  All are in the connection's cache, also those that do
 * not stay there when they are idle.
 *
 * The connection holds a reference to each, every handle that keeps one holds
 * another; the driver's side is closed by the connection alone.  Only the count
 * of references is touched by other threads than the borrower's.
 */
#ifndef MB_CORE_STATEMENT_H
#define MB_CORE_STATEMENT_H

#include "connection.h"
#include "placeholder.h"

/* Beside mb_statement_flags: a command of the driver, not a text. */
#define MB__STATEMENT_COMMAND (1u << 31)

/* What every run looks at stands first, together. */
struct mb_stmt {
  mb_conn *conn; /* borrowed; NULL once the connection has let go of it */

  /* The run. */
  uint64_t run;      /* its number; 0: idle */
  bool at_driver;    /* rows are open there; on the connection's list */
  bool occupies;     /* and nothing can be sent before they were read */
  bool result_ended; /* of several results, this one has no more rows */
  bool dropped;
  bool lost;   /* a row that was read: there was no memory to keep it */
  bool at_end; /* it was read ahead, and its reader has to be told */
  bool retried;
  bool leaves; /* it may leave something in the session, by its words */
  unsigned flags;
  int at, ready_at; /* of its task */
  const mb_tx *tx;
  const mb_value *params;
  size_t n_params;
  mb_value *places; /* the parameters in the order that is sent */

  /* The driver's side. */
  mb_driver_stmt *impl; /* NULL: not prepared (any more) */
  mb_result result;
  mb_prepared prepared;
  uint32_t columns_serial; /* as seen last */
  uint64_t shape;          /* 0: no columns seen */
  mb_value *row;
  size_t row_room;

  /* The run, further. */
  mb_call call;
  uint32_t depth;  /* of transactions when it began */
  mb_spool *spool; /* rows that were read ahead; NULL: none */
  mb_error *late;  /* what came behind them; NULL: no error */
  mb_stmt *running_next, *running_prev;
  const mb_value **fetched; /* where a fetch that waits will put its row */
  mb_cursor *follower; /* whose columns a further result changes; or NULL */
  size_t places_room;
  struct {
    int at;
    const mb_value *params;
    mb_value *placed; /* the parameters of all rows as they are sent; or NULL */
    size_t n, rows, row;
    int64_t first, affected, last_id;
    bool has_last_id;
  } many;
  struct {
    size_t rows, bytes, bytes_max;
    int64_t until_ns;
  } prefetch;

  /* The text. */
  mb__scan scan;
  char *text; /* a copy, terminated */
  size_t size;
  uint32_t lexical_serial; /* of the connection, when it was scanned */
  atomic_uint refs;

  /* Its place in the cache. */
  uint64_t hash;
  mb_stmt *hash_next;
  mb_stmt *newer, *older;
  bool transient; /* not to stay when idle */
};

/* --- leftover.c --------------------------------------------------------- */

/* True unless the text is plainly one that reads or writes rows only. */
bool mb__may_leave_something(
    const mb_capability *capability, const char *text, size_t size);

/* --- statement.c -------------------------------------------------------- */

/* Closes the driver's side; the next run prepares anew. */
void mb__stmt_close_impl(mb_stmt *stmt);

/* Has the driver's error speak of the user's text, not of the one that was
 * sent; answers MB_ERROR. */
MB_COLD mb_status mb__stmt_in_own_words(mb_stmt *stmt, mb_error *error);

/* How many parameters it takes, as far as that is known. */
static inline size_t mb__stmt_n_parameters(const mb_stmt *stmt)
{
  return (stmt->flags & MB_STATEMENT_PLAIN) && stmt->prepared.n_parameters > 0
             ? (size_t)stmt->prepared.n_parameters
             : stmt->scan.n_parameters;
}

/* A prepare, and what follows from its answer. */
MB_CHECKED mb_status mb__stmt_start_prepare(mb_stmt *stmt, mb_error *error);
MB_CHECKED mb_status mb__stmt_end_prepare(
    mb_stmt *stmt, mb_status status, mb_error *error);

/* --- rows.c ------------------------------------------------------------- */

/* Forgets the rows that were read ahead, and the error behind them. */
void mb__stmt_free_rows(mb_stmt *stmt);
static inline void mb__stmt_forget_rows(mb_stmt *stmt)
{
  stmt->at_end = false;
  if (MB_RARELY(stmt->spool != NULL || stmt->late != NULL))
    mb__stmt_free_rows(stmt);
}

/* Nobody will get the rest; it is ended before anything else is run. */
void mb__stmt_abandon(mb_stmt *stmt);

/* Ends a run as far as the database is concerned. */
void mb__stmt_end_at_driver(mb_stmt *stmt);

/* The database has nothing more to give, if it had; what was read ahead stays.
 */
static inline void mb__stmt_leave_driver(mb_stmt *stmt)
{
  stmt->params = NULL;
  if (stmt->run != 0)
    mb__stmt_end_at_driver(stmt);
}

/* Bounds a fetch, where it has bounds. */
MB_CHECKED mb_status mb__stmt_bound_fetch(mb_stmt *stmt, mb_error *error);

/* --- run.c -------------------------------------------------------------- */

/* The next result of a run, whose columns become those of follower (or NULL).
 */
MB_CHECKED mb_status mb__stmt_next_result(
    mb_stmt *stmt, mb_cursor *follower, mb_error *error);

/* The parts of a run, for one that goes with others (batch.c) and for commands
 * (command.c). */

/* Finds one that is free to run, and enters its connection. */
MB_CHECKED mb_status mb__stmt_take(
    mb_stmt **which, const mb_tx *tx, const mb_call *call, mb_error *error);
/* Everything that may come before an execute, or a command; a task. */
MB_CHECKED mb_status mb__stmt_make_ready(
    mb_conn *conn, mb_stmt *stmt, mb_error *error);
/* Brings the statement, and its parameters, to where they can be sent; a task
 * on the statement. */
MB_CHECKED mb_status mb__stmt_ready(
    mb_conn *conn, mb_stmt *stmt, mb_error *error);
/* What the driver answers to the run. */
MB_CHECKED mb_status mb__stmt_queue(mb_stmt *stmt, mb_error *error);
/* Where the totals of the run go, cleared. */
mb_result *mb__stmt_totals(mb_stmt *stmt);
/* What the run has come to, by the driver's answer. */
MB_CHECKED mb_status mb__stmt_answered(
    mb_stmt *stmt, mb_status status, mb_error *error);

/* --- spool.c ------------------------------------------------------------ */

/* Whether all its rows were given. */
bool mb__spool_is_empty(const mb_spool *spool);

/* Adds a copy of row.  *spool is made at the first row.  *bytes is raised by
 * what it took. */
MB_CHECKED mb_status mb__spool_add(mb_spool **spool, const mb_value *row,
    size_t n_columns, size_t *bytes, mb_error *error);

#endif
