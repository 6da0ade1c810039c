/*
 * connection.c: a session's life: opened, lent, cleaned, closed.
 */
#include "statement.h"

#include "dial.h"
#include "pool.h"

#include <string.h>

#define NS_PER_SECOND 1000000000
/* What a borrower left open has to be undone within this time. */
#define CLEAN_LIMIT_NS (5 * (int64_t)NS_PER_SECOND)
#define CLOSE_LIMIT_NS (1 * (int64_t)NS_PER_SECOND)

/* --- References and borrows --------------------------------------------- */

const mb_pool *mb_conn_pool(const mb_conn *conn)
{
  return conn->pool;
}

void mb_conn_ref(mb_conn *conn)
{
  (void)atomic_fetch_add_explicit(&conn->refs, 1, memory_order_relaxed);
}

void mb_conn_unref(mb_conn *conn)
{
  if (conn == NULL ||
      atomic_fetch_sub_explicit(&conn->refs, 1, memory_order_acq_rel) != 1)
    return;
  mb__connector_unref(conn->connector);
  mb__host.release(conn->levels);
  mb__host.release(conn->kept);
  mb__release_secret(conn->password);
  mb__condition_destroy(&conn->turn);
  mb__host.release(conn);
}

bool mb_conn_blocks(const mb_conn *conn)
{
  return conn->driver->resume == NULL;
}

bool mb_conn_is_writer(const mb_conn *conn)
{
  return conn->has_place;
}

bool mb_conn_take_fresh(mb_conn *conn)
{
  const bool fresh = conn->fresh;
  conn->fresh = false;
  return fresh;
}

void mb_conn_set_fresh(mb_conn *conn)
{
  conn->fresh = true;
}

void mb_conn_set_setup(mb_conn *conn, bool setup)
{
  conn->setup = setup;
}

const mb_capability *mb_conn_capability(const mb_conn *conn)
{
  return conn->capability;
}

mb_transaction_state mb_conn_transaction_state(mb_conn *conn)
{
  return conn->transaction;
}

void mb_conn_set_blocking(mb_conn *conn, bool blocking)
{
  conn->blocking = blocking;
}

void mb_conn_on_event(mb_conn *conn,
    void (*handler)(void *context, const mb_event *event), void *context)
{
  conn->on_event = handler;
  conn->event_context = context;
}

void mb__conn_event(void *owner, const mb_event *event)
{
  mb_conn *conn = owner;
  if (event->kind == MB_EVENT_PARAMETER)
    conn->lexical_stale = true;
  if (conn->on_event != NULL)
    conn->on_event(conn->event_context, event);
}

/* --- Calls -------------------------------------------------------------- */

mb_status mb__conn_refuse(mb_conn *conn, mb_error *error)
{
  if (conn->impl == NULL)
    return mb__host.fail(error, MB_USAGE, "the connection is closed");
  if (conn->inherited)
    return mb__host.fail(error, MB_USAGE,
        "the connection was opened before a fork: it is the parent's");
  if (conn->dead) {
    mb__host.fail(error, MB_CONNECTION_LOST,
        "the connection was lost before; get another one");
    error->flags =
        MB_CONNECTION_DEAD | MB_TRANSACTION_DEAD | conn->verdict.flags;
    return MB_ERROR;
  }
  const mb_fiber *left = mb__conn_left(conn);
  if (left != NULL && mb_fiber_is_inside() && left != mb__fiber_running())
    return mb__conn_enter_in_turn(conn, error);
  return mb__host.fail(error, MB_USAGE,
      "the connection is in the middle of another call (this one comes from a "
      "function that it calls, from a finalizer, or from another thread)");
}

void mb__conn_unbound(mb_conn *conn)
{
  mb__cancellation_unlisten(&conn->listener);
  conn->op.deadline_ns = MB_NEVER;
  atomic_store_explicit(&conn->op.stop, MB_GO_ON, memory_order_relaxed);
  conn->op.bounded = false;
}

static void limit_to(mb_conn *conn, int64_t timeout_ns)
{
  if (conn->op.bounded)
    mb__conn_unbound(conn);
  if (timeout_ns > 0) {
    conn->op.deadline_ns = mb__deadline_ns(timeout_ns);
    conn->op.bounded = true;
  }
}

void mb__conn_limit(mb_conn *conn, int64_t timeout_ns)
{
  const bool in_bounds = conn->tx_deadline_ns != MB_NEVER;
  limit_to(conn, timeout_ns <= 0 && in_bounds ? CLEAN_LIMIT_NS : timeout_ns);
}

mb_status mb__conn_bound(mb_conn *conn, int64_t timeout_ns,
    mb_cancellation *cancellation, mb_error *error)
{
  limit_to(conn, timeout_ns);
  if (conn->tx_deadline_ns != MB_NEVER) {
    if (conn->tx_deadline_ns < conn->op.deadline_ns)
      conn->op.deadline_ns = conn->tx_deadline_ns;
    conn->op.bounded = true;
    if (mb__host.now_ns() >= conn->tx_deadline_ns)
      return mb__host.fail(
          error, MB_TIMEOUT, "the transaction's time-out has passed");
  }
  if (cancellation != NULL) {
    conn->op.bounded = true;
    if (!mb__cancellation_listen(cancellation, &conn->listener, &conn->op))
      return mb__cancellation_fail(cancellation, error);
  }
  /* An attempt to connect has a thread of its own. */
  return conn->op.bounded && conn->connector->info.blocks && conn->impl != NULL
             ? mb__alarm_prepare(error)
             : MB_OK;
}

mb_status mb__conn_suspend(mb_conn *conn, mb__step *step, void *argument)
{
  conn->step = step;
  conn->step_argument = argument;
  conn->waiting = true;
  return MB_WAIT;
}

mb_status mb__conn_settle(mb_conn *conn, mb_error *error)
{
  mb_status status = MB_OK;

  MB_TASK_BEGIN(conn->settle_at);
  if (conn->end_open != NULL) {
    MB_TASK_CALL(conn->settle_at, status, mb__conn_end_open(conn, error));
    if (status == MB_ERROR && conn->dead)
      MB_TASK_LEAVE(conn->settle_at, MB_ERROR);
  }
  if (!conn->unsettled)
    MB_TASK_LEAVE(conn->settle_at, MB_OK);
  MB_TASK_CALL(
      conn->settle_at, status, mb__stmt_finish_from(conn, UINT32_MAX, error));
  if (status == MB_ERROR)
    MB_TASK_LEAVE(conn->settle_at, MB_ERROR);
  conn->settle_depth = mb__tx_kept_depth(conn);
  if (conn->settle_depth < conn->depth) {
    MB_TASK_CALL(conn->settle_at, status,
        mb__tx_unwind(conn, conn->settle_depth, error));
    if (status == MB_ERROR)
      MB_TASK_LEAVE(conn->settle_at, MB_ERROR);
    /* What goes on asks for it before the call is over. */
    conn->transaction = conn->driver->transaction_state(conn->impl);
  }
  conn->unsettled = false;
  MB_TASK_END(conn->settle_at);
  return MB_OK;
}

static mb_status settle_step(mb_conn *conn, void *argument, mb_error *error)
{
  (void)argument;
  return mb__conn_settle(conn, error);
}

mb_status mb_conn_end_dropped(mb_conn *conn, mb_error *error)
{
  if (!conn->unsettled)
    return MB_OK;
  if (mb__conn_enter(conn, error) != MB_OK)
    return MB_ERROR;
  mb__conn_limit(conn, CLEAN_LIMIT_NS);
  return mb__conn_run(conn, settle_step, NULL, error);
}

static mb_status ping_step(mb_conn *conn, void *argument, mb_error *error)
{
  mb_status status = MB_OK;
  (void)argument;

  MB_TASK_BEGIN(conn->opening.at);
  MB_TASK_CALL(conn->opening.at, status, mb__conn_settle(conn, error));
  if (status != MB_ERROR && mb__conn_is_occupied(conn))
    MB_TASK_CALL(conn->opening.at, status, mb__stmt_spool_all(conn, error));
  if (status != MB_ERROR)
    status = mb__conn_proceed(conn, error);
  if (status != MB_ERROR && conn->driver->ping != NULL)
    MB_TASK_AWAIT(conn->opening.at, status, conn,
        conn->driver->ping(conn->impl, &conn->op, error));
  MB_TASK_END(conn->opening.at);
  return status == MB_ERROR ? MB_ERROR : MB_OK;
}

mb_status mb_conn_ping(mb_conn *conn, const mb_call *call, mb_error *error)
{
  if (mb__conn_enter(conn, error) != MB_OK)
    return MB_ERROR;
  if (mb__conn_bound(conn,
          call != NULL ? call->timeout_ns
                       : conn->connector->settings.timeout_ns,
          call != NULL ? call->cancellation : NULL, error) != MB_OK) {
    mb__conn_leave(conn, error);
    return MB_ERROR;
  }
  return mb__conn_run(conn, ping_step, NULL, error);
}

/* --- Opening ------------------------------------------------------------ */

static mb_status resume_look_up(mb_conn *conn, mb_error *error)
{
  return mb__lookups_resume(&conn->opening.lookups, &conn->op, error);
}

/* The names that the driver would else look up by itself, and block. */
static mb_status start_look_up(mb_conn *conn, mb_error *error)
{
  const mb_connector_info *info = &conn->connector->info;
  conn->resume = resume_look_up;
  return mb__lookups_start(&conn->opening.lookups, info->lookups,
      info->n_lookups, conn->blocking && !conn->op.bounded, &conn->op, error);
}

static mb_status start_connect(mb_conn *conn, mb_error *error)
{
  conn->opening.args.addresses = conn->opening.lookups.addresses;
  conn->opening.args.n_addresses = conn->opening.lookups.n_addresses;
  conn->resume = mb__dial_wants(conn) ? mb__dial_resume : NULL;
  if (conn->resume != NULL)
    return mb__dial_start(conn, error);
  const mb_status status = conn->driver->connect(conn->connector->impl,
      &conn->opening.args, &conn->impl, &conn->op, error);
  /* From its first step on an attempt can be cancelled. */
  if (conn->impl != NULL)
    conn->canceller = mb__canceller_open(
        conn->driver, conn->driver->cancel_handle(conn->impl));
  return status;
}

/* What an attempt to connect has come to. */
static void end_connect(mb_conn *conn, mb_status status, mb_error *error)
{
  conn->resume = NULL;
  if (conn->impl != NULL && conn->canceller == NULL)
    conn->canceller = mb__canceller_open(
        conn->driver, conn->driver->cancel_handle(conn->impl));
  conn->awaits = status != MB_ERROR && conn->connector->info.awaits;
  if (status == MB_ERROR)
    mb__lookups_explain(&conn->opening.lookups, error);
  conn->opening.args.addresses = NULL;
  conn->opening.args.n_addresses = 0;
  mb__lookups_free(&conn->opening.lookups);
}

/* What the driver says it can do, with zeroes for what it does not know of. */
static void copy_capability(mb_conn *conn, mb_capability *out)
{
  const mb_capability *given = conn->driver->capability(conn->impl);
  const size_t size = given->size < sizeof *out ? given->size : sizeof *out;
  memset(out, 0, sizeof *out);
  memcpy(out, given, size);
}

void mb__conn_follow_lexical(mb_conn *conn)
{
  mb_capability now;
  conn->lexical_stale = false;
  copy_capability(conn, &now);
  if (memcmp(&now.lexical, &conn->own_capability.lexical, sizeof now.lexical) ==
      0)
    return;
  conn->own_capability.lexical = now.lexical;
  conn->lexical_serial++;
}

static void read_capability(mb_conn *conn)
{
  copy_capability(conn, &conn->own_capability);
  conn->capability = &conn->own_capability;
  conn->lexical_stale = conn->connector->n_init > 0;

  const int64_t wanted = conn->connector->settings.statement_cache;
  conn->cache.limit =
      wanted >= 0 ? (size_t)wanted : conn->capability->statement_cache;
}

static mb_status start_init(mb_conn *conn, mb_error *error)
{
  const char *sql = conn->connector->init[conn->opening.init];
  if (mb__conn_proceed(conn, error) != MB_OK)
    return MB_ERROR;
  conn->opening.result = (mb_result){.affected = -1};
  return conn->driver->exec_text(
      conn->impl, sql, strlen(sql), &conn->opening.result, &conn->op, error);
}

/* An init statement that fails is the fault of the one who wrote it. */
static mb_status blame_init(const mb_conn *conn, mb_error *error)
{
  const mb_error given = *error;
  size_t size;
  const char *message = mb_error_text(&given, MB_MESSAGE, &size);
  mb__host.fail(error, given.class, "init statement %zu: %.*s",
      conn->opening.init + 1, (int)size, message != NULL ? message : "");
  error->flags = given.flags;
  error->native_code = given.native_code;
  message = mb_error_text(&given, MB_CODE, &size);
  mb__host.error_set(error, MB_CODE, message, size);
  return MB_ERROR;
}

static mb_status set_up(mb_conn *conn, mb_error *error)
{
  mb_status status = MB_OK;

  MB_TASK_BEGIN(conn->opening.inner_at);
  for (conn->opening.init = 0; conn->opening.init < conn->connector->n_init;
       conn->opening.init++) {
    MB_TASK_AWAIT(
        conn->opening.inner_at, status, conn, start_init(conn, error));
    if (status == MB_ERROR)
      MB_TASK_LEAVE(conn->opening.inner_at, blame_init(conn, error));
  }
  MB_TASK_END(conn->opening.inner_at);
  return MB_OK;
}

static mb_status open_step(mb_conn *conn, void *argument, mb_error *error)
{
  mb_status status = MB_OK;
  (void)argument;

  MB_TASK_BEGIN(conn->opening.at);
  conn->connecting = true;
  MB_TASK_AWAIT(conn->opening.at, status, conn, start_look_up(conn, error));
  if (status == MB_ERROR)
    MB_TASK_LEAVE(conn->opening.at, MB_ERROR);
  MB_TASK_AWAIT(conn->opening.at, status, conn, start_connect(conn, error));
  end_connect(conn, status, error);
  if (status == MB_ERROR)
    MB_TASK_LEAVE(conn->opening.at, MB_ERROR);
  if (conn->canceller == NULL)
    MB_TASK_LEAVE(conn->opening.at, mb__out_of_memory(error));
  read_capability(conn);
  MB_TASK_CALL(conn->opening.at, status, set_up(conn, error));
  /* It may have been too late for what has come to a good end. */
  if (status != MB_ERROR && conn->dead)
    status = mb__conn_lost(conn, error);
  conn->connecting = false;
  MB_TASK_END(conn->opening.at);
  return status;
}

mb_conn *mb__conn_new(mb__connector *connector, mb_pool *pool)
{
  mb_conn *conn = mb__allocate_zeroed(1, sizeof *conn);
  if (conn == NULL)
    return NULL;
  mb__connector_ref(connector);
  atomic_init(&conn->refs, 1);
  mb__condition_init(&conn->turn);
  conn->driver = connector->driver;
  conn->connector = connector;
  conn->pool = pool;
  conn->blocking = true;
  conn->fresh = true;
  conn->op.deadline_ns = MB_NEVER;
  conn->tx_deadline_ns = MB_NEVER;
  conn->opening.args.owner = conn;
  return conn;
}

mb_status mb__conn_connect(
    mb_conn *conn, mb_cancellation *cancellation, mb_error *error)
{
  atomic_store(&conn->entered, true);
  mb__conn_look_around(conn);
  conn->connect_start_ns = mb__host.now_ns();
  conn->opening.args.password = conn->password;
  mb_status status = mb__pools_check_file(conn->connector->info.file, error);
  if (status == MB_OK)
    status = mb__conn_bound(conn, conn->connector->settings.connect_timeout_ns,
        cancellation, error);
  if (status == MB_OK)
    status = open_step(conn, NULL, error);
  conn->connect_end_ns = mb__host.now_ns();
  conn->opening.args.password = NULL;
  mb__release_secret(conn->password);
  conn->password = NULL;
  if (status == MB_OK) {
    mb__conn_leave(conn, NULL);
    return MB_OK;
  }
  mb__conn_close(conn);
  return MB_ERROR;
}

/* --- Cleaning and closing ----------------------------------------------- */

/* Whether the session is to be made as new for the next borrower. */
static bool wants_reset(const mb_conn *conn)
{
  return conn->driver->reset != NULL &&
         (conn->connector->settings.reset == MB_SESSION_FULL ||
             (conn->connector->settings.reset == MB_SESSION_AUTO &&
                 conn->session_changed));
}

static mb_status start_reset(mb_conn *conn, mb_error *error)
{
  conn->cleaning.lost = 0;
  return conn->driver->reset(
      conn->impl, MB_RESET_FULL, &conn->cleaning.lost, &conn->op, error);
}

static mb_status clean_step(mb_conn *conn, void *argument, mb_error *error)
{
  mb_status status = MB_OK;
  (void)argument;

  MB_TASK_BEGIN(conn->cleaning.at);
  if (conn->end_open != NULL)
    MB_TASK_CALL(conn->cleaning.at, status, mb__conn_end_open(conn, error));
  MB_TASK_CALL(conn->cleaning.at, status, mb__stmt_finish_from(conn, 0, error));
  if (status == MB_ERROR)
    MB_TASK_LEAVE(conn->cleaning.at, MB_ERROR);
  /* By what the session says: an open transaction may come from SQL text. */
  if (conn->depth > 0 ||
      conn->driver->transaction_state(conn->impl) != MB_TRANSACTION_NONE) {
    MB_TASK_CALL(conn->cleaning.at, status, mb__tx_unwind(conn, 0, error));
    if (status == MB_ERROR)
      MB_TASK_LEAVE(conn->cleaning.at, MB_ERROR);
  }
  if (wants_reset(conn)) {
    MB_TASK_AWAIT(conn->cleaning.at, status, conn, start_reset(conn, error));
    if (status == MB_ERROR)
      MB_TASK_LEAVE(conn->cleaning.at, MB_ERROR);
    if (conn->cleaning.lost & MB_LOST_STATEMENTS)
      mb__stmt_forget_all(conn, false);
    if (conn->cleaning.lost & MB_LOST_SETTINGS) {
      conn->fresh = true;
      MB_TASK_CALL(conn->cleaning.at, status, set_up(conn, error));
    }
    conn->session_changed = false;
  }
  MB_TASK_END(conn->cleaning.at);
  return status == MB_ERROR ? MB_ERROR : MB_OK;
}

/* Nothing was left behind: the commonest case. */
static bool is_clean(const mb_conn *conn)
{
  return conn->running == NULL && conn->depth == 0 && !conn->unsettled &&
         conn->end_open == NULL && conn->transaction == MB_TRANSACTION_NONE &&
         !wants_reset(conn) && conn->impl != NULL && !conn->dead &&
         !conn->session_changed && !atomic_load(&conn->entered);
}

bool mb__conn_clean(mb_conn *conn, mb_close_reason *reason)
{
  mb_error ignored;
  *reason = MB_CLOSED_DEAD;
  conn->on_event = NULL;
  conn->setup = false;
  conn->blocking = true;
  if (is_clean(conn))
    return true;
  if (mb__conn_enter(conn, &ignored) != MB_OK)
    return false;
  mb__conn_limit(conn, CLEAN_LIMIT_NS);
  if (mb__conn_run(conn, clean_step, NULL, &ignored) != MB_OK || conn->dead)
    return false;
  conn->unsettled = false;
  if (conn->transaction != MB_TRANSACTION_NONE)
    return false;
  /* The sessions of an in-memory database are the database. */
  const mb_connector_info *info = &conn->connector->info;
  *reason = MB_CLOSED_CHANGED;
  return !conn->session_changed || info->max_connections == 1 ||
         info->is_the_database ||
         conn->connector->settings.reset == MB_SESSION_NONE;
}

/* Nothing is sent, and be it a good-bye, before a request to stop what ran has
 * returned. */
static void end_asking(mb_conn *conn)
{
  const mb__phase phase = conn->ending.phase;
  if (phase != MB__PHASE_RUNNING && phase != MB__PHASE_SHUT &&
      !mb__canceller_await(conn->canceller, mb__deadline_ns(CLOSE_LIMIT_NS)))
    mb__canceller_shut(conn->canceller);
}

/* Nobody stops that, but it may block. */
static void close_session(mb_conn *conn, mb_driver_conn *impl)
{
  mb__conn_look_around(conn);
  const bool blocks =
      conn->driver->resume == NULL || conn->connector->info.blocks;
  const bool away =
      blocks && conn->op.in_loop && mb__fiber_leave_home(NULL, conn->driver);
  conn->driver->close(impl, mb__host.now_ns() + CLOSE_LIMIT_NS);
  if (away)
    mb__fiber_come_home();
}

void mb__conn_close(mb_conn *conn)
{
  mb_driver_conn *impl = conn->impl;
  /* An operation that waits ends with its connection. */
  mb__conn_unbound(conn);
  conn->waiting = false;
  if (!conn->inherited)
    end_asking(conn);
  mb__dial_leave(conn);
  mb__lookups_free(&conn->opening.lookups);
  mb__batch_close(conn);
  mb__stmt_forget_all(conn, true);
  conn->impl = NULL;
  conn->depth = 0;
  if (impl != NULL && conn->inherited)
    conn->driver->abandon(impl);
  else if (impl != NULL)
    close_session(conn, impl);
  /* The right to cancel is the parent's, like the session. */
  if (!conn->inherited)
    mb__canceller_close(conn->canceller);
  conn->canceller = NULL;
}
