/*
 * connection.c: a connection around another one, and how both are cancelled.
 */
#include "fault.h"

#include <string.h>

/* --- Losing ------------------------------------------------------------- */

bool ft_is_lost(mb_driver_conn *conn)
{
  if (!conn->lost && conn->number <= atomic_load(&conn->rules->lost))
    conn->lost = true;
  return conn->lost;
}

/* --- Opening ------------------------------------------------------------ */

static mb_driver_cancel *make_cancel(const mb_host *host, ft_rules *rules)
{
  mb_driver_cancel *cancel = host->allocate(sizeof *cancel);
  if (cancel == NULL)
    return NULL;
  memset(cancel, 0, sizeof *cancel);
  cancel->host = host;
  cancel->rules = rules;
  ft_rules_ref(rules);
  atomic_init(&cancel->refs, 1);
  return cancel;
}

static mb_status connect_inside(
    mb_driver_conn *conn, ft_call *call, mb_op *op, mb_error *error)
{
  const mb_status status = conn->driver->connect(
      conn->connector->inner, call->args, &conn->inner, op, error);
  /* From its first step on it can be cancelled; NULL: out of memory. */
  if (conn->inner != NULL)
    atomic_store(
        &conn->cancel->inner, conn->driver->cancel_handle(conn->inner));
  return status;
}

mb_status ft_connect(mb_driver_connector *connector,
    const mb_connect_args *args, mb_driver_conn **out, mb_op *op,
    mb_error *error)
{
  const mb_host *host = connector->host;
  mb_driver_conn *conn = host->allocate(sizeof *conn);
  mb_driver_cancel *cancel = make_cancel(host, connector->rules);
  if (conn == NULL || cancel == NULL) {
    host->release(conn);
    if (cancel != NULL)
      ft_release_cancel(cancel);
    return host->fail(error, MB_RESOURCE, "out of memory");
  }
  memset(conn, 0, sizeof *conn);
  conn->host = host;
  conn->driver = connector->driver;
  conn->connector = connector;
  conn->rules = connector->rules;
  conn->cancel = cancel;
  conn->number = atomic_fetch_add(&conn->rules->last_connection, 1) + 1;
  *out = conn;
  const ft_call call = {
      .slot = ft_slot_connect, .hand_on = connect_inside, .args = args};
  return ft_run(conn, &call, op, error);
}

/* --- Closing ------------------------------------------------------------ */

void ft_close(mb_driver_conn *conn, int64_t deadline_ns)
{
  ft_fault fault;
  ft_rules_ask(conn->rules, ft_slot_close, NULL, 0, &fault);
  ft_sleep(conn->rules, &fault, deadline_ns);
  if (conn->inner != NULL)
    conn->driver->close(conn->inner, deadline_ns);
  ft_drop_call(conn);
  ft_release_cancel(conn->cancel);
  conn->host->release(conn);
}

void ft_abandon(mb_driver_conn *conn)
{
  if (conn->inner != NULL)
    conn->driver->abandon(conn->inner);
  ft_drop_call(conn);
  conn->host->release(conn);
}

/* --- Between calls ------------------------------------------------------ */

mb_validity ft_is_valid(mb_driver_conn *conn)
{
  ft_fault fault;
  ft_rules_ask(conn->rules, ft_slot_is_valid, NULL, 0, &fault);
  ft_sleep(conn->rules, &fault, MB_NEVER);
  if (fault.means & FT_LOSE)
    conn->lost = true;
  if (fault.means & FT_ANSWER)
    return fault.answer;
  return ft_is_lost(conn) ? MB_DEAD : conn->driver->is_valid(conn->inner);
}

static mb_status consume_inside(
    mb_driver_conn *conn, ft_call *call, mb_op *op, mb_error *error)
{
  (void)call;
  (void)op;
  return conn->driver->consume != NULL
             ? conn->driver->consume(conn->inner, error)
             : MB_OK;
}

mb_status ft_consume(mb_driver_conn *conn, mb_error *error)
{
  const ft_call call = {.slot = ft_slot_consume, .hand_on = consume_inside};
  return ft_run(conn, &call, NULL, error);
}

static mb_status ping_inside(
    mb_driver_conn *conn, ft_call *call, mb_op *op, mb_error *error)
{
  (void)call;
  return conn->driver->ping != NULL ? conn->driver->ping(conn->inner, op, error)
                                    : MB_DONE;
}

mb_status ft_ping(mb_driver_conn *conn, mb_op *op, mb_error *error)
{
  const ft_call call = {.slot = ft_slot_ping, .hand_on = ping_inside};
  return ft_run(conn, &call, op, error);
}

static mb_status reset_inside(
    mb_driver_conn *conn, ft_call *call, mb_op *op, mb_error *error)
{
  return conn->driver->reset(
      conn->inner, call->reset_mode, call->lost, op, error);
}

mb_status ft_reset(mb_driver_conn *conn, mb_reset_mode mode, unsigned *lost,
    mb_op *op, mb_error *error)
{
  ft_call call = {
      .slot = ft_slot_reset, .hand_on = reset_inside, .reset_mode = mode};
  call.lost = lost;
  return ft_run(conn, &call, op, error);
}

const mb_capability *ft_capability(mb_driver_conn *conn)
{
  return conn->driver->capability(conn->inner);
}

mb_transaction_state ft_transaction_state(mb_driver_conn *conn)
{
  return ft_is_lost(conn) ? MB_TRANSACTION_UNKNOWN
                          : conn->driver->transaction_state(conn->inner);
}

/* --- Cancelling --------------------------------------------------------- */

mb_driver_cancel *ft_cancel_handle(mb_driver_conn *conn)
{
  (void)atomic_fetch_add(&conn->cancel->refs, 1);
  return conn->cancel;
}

mb_status ft_cancel(mb_driver_cancel *handle, enum mb_cancel_level level,
    int64_t deadline_ns, mb_error *error)
{
  const mb_driver *driver = handle->rules->driver;
  mb_driver_cancel *inner = atomic_load(&handle->inner);
  if (level == MB_CANCEL_QUERY) {
    ft_fault fault;
    ft_rules_ask(handle->rules, ft_slot_cancel, NULL, 0, &fault);
    ft_sleep(handle->rules, &fault, deadline_ns);
    if (fault.means & FT_FAIL)
      return handle->host->fail(error, fault.class,
          "the request to stop has failed (a fault at cancel)");
  }
  atomic_store(&handle->asked, 1 + (int)level);
  /* Shutting down also ends a request that is still out. */
  const bool wanted =
      level == MB_CANCEL_SOCKET || !atomic_load(&handle->delayed);
  return inner != NULL && wanted
             ? driver->cancel(inner, level, deadline_ns, error)
             : MB_OK;
}

void ft_release_cancel(mb_driver_cancel *handle)
{
  if (atomic_fetch_sub(&handle->refs, 1) != 1)
    return;
  mb_driver_cancel *inner = atomic_load(&handle->inner);
  if (inner != NULL)
    handle->rules->driver->release_cancel(inner);
  ft_rules_unref(handle->rules);
  handle->host->release(handle);
}
