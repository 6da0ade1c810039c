/*
 * transaction.c: transactions and savepoints as a stack of levels.
 *
 * Level 1 is the database's transaction, deeper ones are savepoints named after
 * their depth.  What the stack says is checked against what the session says
 * after every call: a transaction that the database has ended by itself is over
 * for all its levels, and nothing runs in its place.
 */
#include "statement.h"

#include <stdio.h>
#include <string.h>

/* --- What is open ------------------------------------------------------- */

uint32_t mb__tx_kept_depth(const mb_conn *conn)
{
  uint32_t depth = 0;
  while (depth < conn->depth && !conn->levels[depth].dropped)
    depth++;
  return depth;
}

bool mb_tx_is_open(const mb_tx *tx)
{
  return mb__tx_is_level(tx) && tx->depth <= mb__tx_kept_depth(tx->conn);
}

void mb_tx_innermost(mb_conn *conn, mb_tx *out)
{
  *out = (mb_tx){.conn = conn, .borrow = mb_conn_borrow(conn)};
  const uint32_t depth = mb__tx_kept_depth(conn);
  if (depth > 0) {
    out->depth = depth;
    out->serial = conn->levels[depth - 1].serial;
  }
}

/* Nobody waits for those that were dropped. */
static void follow_deadlines(mb_conn *conn)
{
  const uint32_t depth = mb__tx_kept_depth(conn);
  conn->tx_deadline_ns = MB_NEVER;
  for (uint32_t i = 0; i < depth; i++)
    if (conn->levels[i].deadline_ns < conn->tx_deadline_ns)
      conn->tx_deadline_ns = conn->levels[i].deadline_ns;
}

void mb_tx_drop(const mb_tx *tx)
{
  if (!mb__tx_is_level(tx))
    return;
  tx->conn->levels[tx->depth - 1].dropped = true;
  tx->conn->unsettled = true;
  follow_deadlines(tx->conn);
}

static void pop_to(mb_conn *conn, uint32_t depth)
{
  if (depth < conn->depth)
    conn->depth = depth;
  follow_deadlines(conn);
  if (conn->depth == 0)
    conn->verdict = (mb__verdict){.over = false};
}

/* Room for one level more, so that a begin that succeeded can be noted. */
static mb_status reserve(mb_conn *conn, mb_error *error)
{
  if (conn->depth < conn->levels_room)
    return MB_OK;
  const uint32_t room = conn->levels_room == 0 ? 4 : conn->levels_room * 2;
  mb__level *levels = mb__host.reallocate(conn->levels, room * sizeof *levels);
  if (levels == NULL)
    return mb__out_of_memory(error);
  conn->levels = levels;
  conn->levels_room = room;
  return MB_OK;
}

/* --- What the session says ---------------------------------------------- */

static void condemn(mb_conn *conn, bool late, const mb_error *error)
{
  mb__verdict *verdict = &conn->verdict;
  if (verdict->over)
    return;
  *verdict = (mb__verdict){.over = true, .late = late};
  if (error == NULL)
    return;
  size_t size;
  const char *message = mb_error_text(error, MB_MESSAGE, &size);
  size = mb__utf8_cut(message, size, sizeof verdict->message - 1);
  if (message != NULL)
    memcpy(verdict->message, message, size);
  verdict->flags = error->flags & MB_RETRYABLE;
}

/* A connection that is lost takes its transaction with it: as if it had never
 * been, unless it may have been committed. */
static void offer_retry(const mb_conn *conn, mb_error *error)
{
  if (conn->dead && mb_class_is(error->class, MB_CONNECTIVITY))
    error->flags |= MB_RETRYABLE;
}

void mb__tx_judge(mb_conn *conn, mb_error *error)
{
  const bool late = error != NULL && conn->tx_deadline_ns != MB_NEVER &&
                    mb__host.now_ns() >= conn->tx_deadline_ns;
  if (error != NULL)
    offer_retry(conn, error);
  if (conn->transaction != MB_TRANSACTION_ACTIVE || conn->dead || late)
    condemn(conn, late, error);
  if (error != NULL && conn->verdict.over)
    error->flags |= MB_TRANSACTION_DEAD;
}

/* A savepoint was rolled back to: the session may be well again. */
static void reconsider(mb_conn *conn)
{
  conn->transaction = conn->driver->transaction_state(conn->impl);
  if (conn->transaction == MB_TRANSACTION_ACTIVE)
    conn->verdict = (mb__verdict){.over = false};
}

static mb_status refuse_over(
    const mb_conn *conn, const char *what, const char *advice, mb_error *error)
{
  const mb__verdict *verdict = &conn->verdict;
  mb__host.fail(error, verdict->late ? MB_TIMEOUT : MB_ENGINE,
      "%s: the transaction %s%s%s%s", what,
      conn->transaction == MB_TRANSACTION_NONE ? "was ended by the database"
                                               : "has failed",
      verdict->message[0] != '\0' ? ": " : "", verdict->message, advice);
  error->flags = MB_TRANSACTION_DEAD | verdict->flags;
  return MB_ERROR;
}

static mb_status refuse_closed(const mb_tx *tx, mb_error *error)
{
  if (tx->conn == NULL || tx->borrow != mb_conn_borrow(tx->conn))
    return mb__host.fail(error, MB_USAGE,
        "the transaction has ended: its connection was given back");
  return mb__host.fail(error, MB_USAGE,
      "the transaction has ended (it was committed or rolled back)");
}

mb_status mb__tx_refuse(const mb_conn *conn, const mb_tx *tx, mb_error *error)
{
  if (tx != NULL && tx->conn != NULL && tx->conn != conn)
    return mb__host.fail(
        error, MB_USAGE, "the transaction is one of another connection");
  if (tx != NULL && !mb__tx_is_level(tx))
    return refuse_closed(tx, error);
  if ((tx != NULL ? tx->depth : 0) < conn->depth)
    return mb__host.fail(error, MB_USAGE,
        tx == NULL ? "a transaction is open on this connection: use it, or end "
                     "it first"
                   : "a nested transaction is open: use it, or end it first");
  return refuse_over(conn, "not run", "; roll it back", error);
}

/* --- Sending ------------------------------------------------------------ */

static mb_status send(mb_conn *conn, const char *sql, mb_error *error)
{
  conn->tx.result = (mb_result){.affected = -1};
  return conn->driver->exec_text(
      conn->impl, sql, strlen(sql), &conn->tx.result, &conn->op, error);
}

static const char *const isolation_words[] = {
    [MB_READ_UNCOMMITTED] = "read uncommitted",
    [MB_READ_COMMITTED] = "read committed",
    [MB_REPEATABLE_READ] = "repeatable read",
    [MB_SERIALIZABLE] = "serializable",
};

static mb_status send_begin(mb_conn *conn, mb_error *error)
{
  const mb_begin *begin = &conn->tx.begin;
  if (conn->driver->begin != NULL)
    return conn->driver->begin(conn->impl, begin, &conn->op, error);
  char sql[128];
  const char *isolation = isolation_words[begin->isolation];
  const bool further = isolation != NULL || begin->read_only;
  (void)snprintf(sql, sizeof sql, "start transaction%s%s%s%s%s%s",
      isolation != NULL ? " isolation level " : "",
      isolation != NULL ? isolation : "",
      isolation != NULL && begin->read_only ? "," : "",
      begin->read_only ? " read only" : "",
      further && begin->deferrable ? "," : "",
      begin->deferrable ? " deferrable" : "");
  return send(conn, sql, error);
}

static mb_status send_commit(mb_conn *conn, mb_error *error)
{
  conn->tx.sent = true;
  conn->tx.result = (mb_result){.affected = -1};
  return conn->driver->commit != NULL
             ? conn->driver->commit(conn->impl, &conn->op, error)
             : send(conn, "commit", error);
}

/* COMMIT of a transaction that has failed rolls back, and may call that a
 * success. */
static mb_status check_commit(const mb_conn *conn, mb_error *error)
{
  if (strcmp(conn->tx.result.tag, "ROLLBACK") != 0)
    return MB_OK;
  return mb__host.fail(error, MB_ENGINE,
      "not committed: the transaction had failed and was rolled back");
}

static mb_status send_rollback(mb_conn *conn, mb_error *error)
{
  if (conn->driver->rollback != NULL)
    return conn->driver->rollback(conn->impl, &conn->op, error);
  if (conn->driver->transaction_state(conn->impl) == MB_TRANSACTION_NONE)
    return MB_DONE;
  return send(conn, "rollback", error);
}

typedef mb_status savepoint_slot(
    mb_driver_conn *conn, const char *name, mb_op *op, mb_error *error);

/* The savepoint of a depth, by the driver's function or as SQL. */
static mb_status send_savepoint(mb_conn *conn, savepoint_slot *slot,
    const char *sql, uint32_t depth, mb_error *error)
{
  (void)snprintf(conn->tx.name, sizeof conn->tx.name, "mb_%u", (unsigned)depth);
  if (slot != NULL)
    return slot(conn->impl, conn->tx.name, &conn->op, error);
  (void)snprintf(
      conn->tx.sql, sizeof conn->tx.sql, "%s %s", sql, conn->tx.name);
  return send(conn, conn->tx.sql, error);
}

/* --- Beginning ---------------------------------------------------------- */

static mb_status check_options(const mb_conn *conn,
    const mb_tx_options *options, bool nested, mb_error *error)
{
  const mb_capability *capability = conn->capability;
  const mb_begin *begin = &options->begin;
  if (nested &&
      (options->exclusive || begin->isolation != MB_ISOLATION_DEFAULT ||
          begin->mode != MB_MODE_DEFAULT || begin->read_only ||
          begin->deferrable))
    return mb__host.fail(error, MB_USAGE,
        "isolation, mode, read_only, deferrable and exclusive belong to the "
        "outermost transaction");
  if (nested && !capability->savepoints)
    return mb__host.fail(error, MB_UNSUPPORTED,
        "this database has no savepoints, so transactions do not nest");
  const char *missing = NULL;
  if ((begin->isolation & ~capability->isolation_levels) != 0)
    missing = "isolation level";
  else if ((begin->mode & ~capability->transaction_modes) != 0)
    missing = "transaction mode";
  else if (begin->read_only && !capability->read_only_transactions)
    missing = "read-only transaction";
  else if (begin->deferrable && !capability->deferrable_transactions)
    missing = "deferrable transaction";
  if (missing != NULL)
    return mb__host.fail(
        error, MB_UNSUPPORTED, "this database has no such %s", missing);
  return MB_OK;
}

/* Whether rows of a write are open where rows and writes get into each other's
 * way: no savepoint can be set beside them. */
static bool has_open_write(const mb_conn *conn)
{
  const mb_stmt *stmt =
      conn->capability->rows_block_writes ? conn->running : NULL;
  while (stmt != NULL && (!stmt->at_driver || stmt->prepared.reads_only))
    stmt = stmt->running_next;
  return stmt != NULL;
}

/* A level more is open, the running task's. */
static void note_begun(mb_conn *conn)
{
  conn->levels[conn->depth++] = (mb__level){.serial = ++conn->last_serial,
      .task = mb__fiber_task(),
      .deadline_ns = conn->tx.deadline_ns};
  follow_deadlines(conn);
}

static mb_status begin_step(mb_conn *conn, void *argument, mb_error *error)
{
  mb_tx *out = argument;
  mb_status status = MB_OK;

  MB_TASK_BEGIN(conn->tx.at);
  MB_TASK_CALL(conn->tx.at, status, mb__conn_settle(conn, error));
  if (status == MB_ERROR ||
      mb__tx_check(conn, conn->tx.parent, error) != MB_OK ||
      reserve(conn, error) != MB_OK)
    MB_TASK_LEAVE(conn->tx.at, MB_ERROR);
  if (conn->depth == 0) {
    if (conn->transaction != MB_TRANSACTION_NONE)
      MB_TASK_LEAVE(conn->tx.at,
          mb__host.fail(error, MB_USAGE,
              "a transaction is open already, begun by SQL text: end it by "
              "SQL text first"));
    /* Rows that hold an old snapshot would make the first write fail. */
    if (conn->n_at_driver > 0 && (!conn->capability->multiple_open_rows ||
                                     conn->capability->rows_block_writes)) {
      MB_TASK_CALL(conn->tx.at, status, mb__stmt_spool_all(conn, error));
      if (status == MB_ERROR)
        MB_TASK_LEAVE(conn->tx.at, MB_ERROR);
    }
    if ((conn->tx.writes && mb__place_enter(conn, error) != MB_OK) ||
        mb__conn_proceed(conn, error) != MB_OK)
      MB_TASK_LEAVE(conn->tx.at, MB_ERROR);
    MB_TASK_AWAIT(conn->tx.at, status, conn, send_begin(conn, error));
    if (status == MB_ERROR && error->origin == MB_ORIGIN_STATEMENT)
      error->origin = MB_ORIGIN_BEGIN;
    /* One that has begun all the same would be nobody's. */
    if (status == MB_ERROR && !conn->dead &&
        conn->driver->transaction_state(conn->impl) != MB_TRANSACTION_NONE) {
      conn->tx.reason = *error;
      mb__conn_limit(conn, conn->connector->settings.timeout_ns);
      MB_TASK_CALL(conn->tx.at, status, mb__tx_unwind(conn, 0, error));
      *error = conn->tx.reason;
      status = MB_ERROR;
    }
  } else {
    if (mb__conn_is_occupied(conn) || has_open_write(conn)) {
      MB_TASK_CALL(conn->tx.at, status, mb__stmt_spool_all(conn, error));
      if (status == MB_ERROR)
        MB_TASK_LEAVE(conn->tx.at, MB_ERROR);
    }
    /* No savepoint can be set in a transaction that is over. */
    if (mb__tx_check(conn, conn->tx.parent, error) != MB_OK ||
        mb__conn_proceed(conn, error) != MB_OK)
      MB_TASK_LEAVE(conn->tx.at, MB_ERROR);
    MB_TASK_AWAIT(conn->tx.at, status, conn,
        send_savepoint(conn, conn->driver->savepoint, "savepoint",
            conn->depth + 1, error));
  }
  if (status == MB_ERROR)
    MB_TASK_LEAVE(conn->tx.at, MB_ERROR);
  note_begun(conn);
  mb_tx_innermost(conn, out);
  MB_TASK_END(conn->tx.at);
  return MB_OK;
}

mb_status mb_tx_begin(mb_conn *conn, const mb_tx *parent,
    const mb_tx_options *options, mb_tx *out, mb_error *error)
{
  static const mb_tx_options defaults;
  *out = (mb_tx){.conn = NULL};
  if (mb__conn_enter(conn, error) != MB_OK)
    return MB_ERROR;
  if (options == NULL)
    options = &defaults;
  if (check_options(conn, options, parent != NULL, error) != MB_OK ||
      mb__conn_bound(conn, conn->connector->settings.timeout_ns, NULL, error) !=
          MB_OK) {
    mb__conn_leave(conn, error);
    return MB_ERROR;
  }
  conn->tx.parent = parent;
  conn->tx.begin = options->begin;
  conn->tx.writes = mb_pool_begin_writes(conn->pool, options);
  conn->tx.deadline_ns =
      options->timeout_ns > 0 ? mb__deadline_ns(options->timeout_ns) : MB_NEVER;
  if (conn->tx.deadline_ns < conn->op.deadline_ns) {
    conn->op.deadline_ns = conn->tx.deadline_ns;
    conn->op.bounded = true;
  }
  return mb__conn_run(conn, begin_step, out, error);
}

/* --- Ending ------------------------------------------------------------- */

mb_status mb__tx_unwind(mb_conn *conn, uint32_t depth, mb_error *error)
{
  mb_status status = MB_OK;

  MB_TASK_BEGIN(conn->tx.unwind_at);
  if (conn->end_open != NULL)
    MB_TASK_CALL(conn->tx.unwind_at, status, mb__conn_end_open(conn, error));
  /* A run that ends badly has ended; the rollback decides. */
  do {
    MB_TASK_CALL(conn->tx.unwind_at, status,
        mb__stmt_finish_from(conn, depth + 1, error));
  } while (status == MB_ERROR && !conn->dead);
  conn->tx.failed = status == MB_ERROR;
  if (conn->dead) {
    mb__stmt_forget_from(conn, depth + 1); /* all goes with the session */
  } else if (depth == 0) {
    MB_TASK_AWAIT(conn->tx.unwind_at, status, conn, send_rollback(conn, error));
    conn->tx.failed = status == MB_ERROR;
  } else if (conn->driver->transaction_state(conn->impl) !=
             MB_TRANSACTION_NONE) {
    MB_TASK_AWAIT(conn->tx.unwind_at, status, conn,
        send_savepoint(conn, conn->driver->rollback_to, "rollback to savepoint",
            depth + 1, error));
    if (status != MB_ERROR)
      MB_TASK_AWAIT(conn->tx.unwind_at, status, conn,
          send_savepoint(conn, conn->driver->release_savepoint,
              "release savepoint", depth + 1, error));
    conn->tx.failed = status == MB_ERROR;
    reconsider(conn);
  }
  pop_to(conn, depth);
  /* Nobody knows what is left in a session that could not be rolled back. */
  if (conn->tx.failed)
    conn->dead = true;
  MB_TASK_END(conn->tx.unwind_at);
  return conn->tx.failed ? MB_ERROR : MB_OK;
}

static mb_status rollback_step(mb_conn *conn, void *argument, mb_error *error)
{
  (void)argument;
  return mb__tx_unwind(conn, conn->tx.target, error);
}

/* Whether the session is lost, and no call on it goes on. */
static bool is_lost(const mb_conn *conn)
{
  return conn->dead && !conn->inherited && !atomic_load(&conn->entered);
}

/* Leaves levels of a session that is lost. */
static void leave_lost(mb_conn *conn, uint32_t depth)
{
  mb__stmt_forget_from(conn, depth + 1);
  pop_to(conn, depth);
}

mb_status mb_tx_rollback(const mb_tx *tx, mb_error *error)
{
  if (!mb__tx_is_level(tx))
    return refuse_closed(tx, error);
  mb_conn *conn = tx->conn;
  if (is_lost(conn)) {
    leave_lost(conn, tx->depth - 1);
    return MB_OK; /* the database rolls back what was lost */
  }
  if (mb__conn_enter(conn, error) != MB_OK)
    return MB_ERROR;
  mb__conn_limit(conn, conn->connector->settings.timeout_ns);
  conn->tx.target = tx->depth - 1;
  return mb__conn_run(conn, rollback_step, NULL, error);
}

/* A commit has failed: the reason stays, whatever the rollback says. */
static void draw_conclusions(mb_conn *conn, mb_error *error)
{
  if (conn->tx.sent && (error->flags & MB_CONNECTION_DEAD) &&
      (error->flags & MB_SENT))
    error->flags |= MB_COMMIT_UNKNOWN;
  if (error->flags & MB_COMMIT_UNKNOWN)
    error->flags &= ~(unsigned)MB_RETRYABLE;
  else
    offer_retry(conn, error);
  error->flags |= MB_TRANSACTION_DEAD;
  conn->tx.reason = *error;
}

static mb_status commit_step(mb_conn *conn, void *argument, mb_error *error)
{
  (void)argument;
  mb_status status = MB_OK;

  MB_TASK_BEGIN(conn->tx.at);
  conn->tx.sent = false;
  MB_TASK_CALL(conn->tx.at, status, mb__conn_settle(conn, error));
  if (conn->tx.target >= conn->depth)
    MB_TASK_LEAVE(conn->tx.at,
        status == MB_ERROR
            ? MB_ERROR
            : mb__host.fail(error, MB_USAGE,
                  "the transaction has ended: the one around it was dropped"));
  if (status != MB_ERROR)
    MB_TASK_CALL(conn->tx.at, status,
        mb__stmt_finish_from(conn, conn->tx.target + 1, error));
  if (status != MB_ERROR && conn->verdict.over)
    status = refuse_over(conn, "not committed", "", error);
  if (status != MB_ERROR)
    status = mb__conn_proceed(conn, error);
  if (status != MB_ERROR && conn->tx.target == 0) {
    MB_TASK_AWAIT(conn->tx.at, status, conn, send_commit(conn, error));
    if (status != MB_ERROR)
      status = check_commit(conn, error);
  } else if (status != MB_ERROR) {
    MB_TASK_AWAIT(conn->tx.at, status, conn,
        send_savepoint(conn, conn->driver->release_savepoint,
            "release savepoint", conn->tx.target + 1, error));
  }
  if (status != MB_ERROR) {
    pop_to(conn, conn->tx.target);
    MB_TASK_LEAVE(conn->tx.at, MB_OK);
  }
  draw_conclusions(conn, error);
  mb__conn_limit(conn, conn->connector->settings.timeout_ns);
  MB_TASK_CALL(
      conn->tx.at, status, mb__tx_unwind(conn, conn->tx.target, error));
  *error = conn->tx.reason;
  if (conn->dead)
    error->flags |= MB_CONNECTION_DEAD;
  MB_TASK_END(conn->tx.at);
  return MB_ERROR;
}

mb_status mb_tx_commit(const mb_tx *tx, mb_error *error)
{
  if (!mb__tx_is_level(tx))
    return refuse_closed(tx, error);
  mb_conn *conn = tx->conn;
  if (mb__conn_enter(conn, error) != MB_OK) {
    if (is_lost(conn))
      leave_lost(conn, tx->depth - 1);
    return MB_ERROR;
  }
  conn->tx.target = tx->depth - 1;
  if (mb__conn_bound(conn, conn->connector->settings.timeout_ns, NULL, error) !=
      MB_OK) {
    /* Too late to commit. */
    condemn(conn, true, error);
    mb__conn_limit(conn, conn->connector->settings.timeout_ns);
  }
  return mb__conn_run(conn, commit_step, NULL, error);
}
