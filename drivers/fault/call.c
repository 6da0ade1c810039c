/*
 * call.c: one call, from the core to the driver inside and back.
 *
 * Before it is handed on, and before its answer is, the rules have their way.
 * A delay is a wait like others, so that the core can end it in time; what the
 * call was given is kept meanwhile.  Around a driver whose calls block it
 * blocks as they do, and is ended by cancel as they are.
 */
#include "fault.h"

#include <string.h>

/* How often a delay looks whether it is over. */
#define LOOK_NS INT64_C(5000000)

/* --- Faults ------------------------------------------------------------- */

static const char *const slot_names[FT_N_SLOTS] = {
#define FT_NAME(slot, means) #slot,
    FT_SLOTS(FT_NAME)
#undef FT_NAME
};

/* Writes the error that a fault is. */
static mb_status give(
    mb_driver_conn *conn, ft_slot slot, const ft_fault *fault, mb_error *error)
{
  const bool loses = (fault->means & FT_LOSE) != 0;
  if (fault->message[0] != '\0')
    conn->host->fail(error, fault->class, "%s", fault->message);
  else
    conn->host->fail(error, fault->class, "%s (a fault at %s)",
        loses ? "the connection was lost" : "it has failed", slot_names[slot]);
  conn->host->error_set(error, MB_CODE, fault->code, strlen(fault->code));
  error->flags = fault->flags;
  if (loses)
    error->flags |= MB_CONNECTION_DEAD | MB_TRANSACTION_DEAD;
  if (error->flags & MB_CONNECTION_DEAD)
    conn->lost = true;
  return MB_ERROR;
}

/* A call on a connection that is lost already. */
static mb_status give_lost(
    mb_driver_conn *conn, const ft_call *call, mb_error *error)
{
  const ft_fault fault = {.means = FT_LOSE,
      .class =
          call->slot == ft_slot_connect ? MB_CONNECTIVITY : MB_CONNECTION_LOST,
      .flags = MB_SENT,
      .message = "the connection was lost by a fault"};
  return give(conn, call->slot, &fault, error);
}

/* --- The end ------------------------------------------------------------ */

static void let_go(mb_driver_conn *conn, ft_call *call)
{
  conn->host->release(call->kept);
  conn->host->release(call->made);
  call->kept = NULL;
  call->made = NULL;
}

void ft_drop_call(mb_driver_conn *conn)
{
  let_go(conn, &conn->call);
}

/* Whether a run is open inside that is to be over for the core. */
static bool leaves_run(const ft_call *call, mb_status status)
{
  switch (call->slot) {
  case ft_slot_fetch:
  case ft_slot_fetch_batch:
  case ft_slot_next_result:
  case ft_slot_finish:
    return call->stage == FT_DELAYED || status == MB_ROW;
  default:
    return call->stage == FT_HANDED_ON && status == MB_ROW;
  }
}

/* The statement whose run it is. */
static mb_driver_stmt *run_of(const ft_call *call)
{
  return call->made != NULL ? call->made : call->stmt;
}

/* The call fails, and nothing is left of it. */
static mb_status fail(mb_driver_conn *conn, ft_call *call, mb_error *error)
{
  mb_driver_stmt *made = call->made;
  if (made != NULL && made->inner != NULL)
    conn->driver->close_statement(made->inner);
  let_go(conn, call);
  return give(conn, call->slot, &call->fault, error);
}

static mb_status end_run(mb_driver_conn *conn, ft_call *call, mb_status status,
    mb_op *op, mb_error *error)
{
  const mb_driver_stmt *stmt = run_of(call);
  const bool loses = (call->fault.means & FT_LOSE) != 0;
  if (stmt == NULL || stmt->inner == NULL || loses || op == NULL ||
      !leaves_run(call, status))
    return fail(conn, call, error);
  call->stage = FT_ENDING;
  status = conn->driver->finish(stmt->inner,
      stmt->reads_only ? MB_FINISH_CANCEL : MB_FINISH_DRAIN, op, error);
  return status == MB_WAIT ? MB_WAIT : fail(conn, call, error);
}

/* What was made is the core's from here on. */
static void hand_over(mb_driver_conn *conn, ft_call *call)
{
  mb_driver_stmt *made = call->made;
  if (call->slot == ft_slot_pipeline_next)
    *call->out = ft_find_statement(conn, call->found);
  if (made == NULL || made->inner == NULL)
    return;
  made->reads_only = call->prepared != NULL && call->prepared->reads_only;
  ft_link_statement(made);
  *call->out = made;
  call->made = NULL;
}

/* The driver inside has answered. */
static mb_status end(mb_driver_conn *conn, ft_call *call, mb_status status,
    mb_op *op, mb_error *error)
{
  if (call->fault.means & FT_AFTER && status != MB_ERROR)
    return end_run(conn, call, status, op, error);
  if (call->slot == ft_slot_connect && status != MB_ERROR &&
      atomic_load(&conn->cancel->inner) == NULL)
    return conn->host->fail(error, MB_RESOURCE, "out of memory");
  hand_over(conn, call);
  if (call->slot == ft_slot_describe && status != MB_ERROR)
    call->stmt->reads_only = call->prepared->reads_only;
  let_go(conn, call);
  return status;
}

/* --- Handing on --------------------------------------------------------- */

static mb_status hand_on(
    mb_driver_conn *conn, ft_call *call, mb_op *op, mb_error *error)
{
  const unsigned means = call->fault.means;
  if (means & (FT_LOSE | FT_FAIL) && !(means & FT_AFTER))
    return end_run(conn, call, MB_ERROR, op, error);
  call->stage = FT_HANDED_ON;
  atomic_store(&conn->cancel->delayed, false);
  const mb_status status = call->hand_on(conn, call, op, error);
  return status == MB_WAIT ? MB_WAIT : end(conn, call, status, op, error);
}

/* --- Delays ------------------------------------------------------------- */

static int64_t later_ns(int64_t from_ns, int64_t duration_ns)
{
  return duration_ns < MB_NEVER - from_ns ? from_ns + duration_ns : MB_NEVER;
}

void ft_sleep(ft_rules *rules, const ft_fault *fault, int64_t deadline_ns)
{
  const mb_host *host = rules->host;
  const unsigned cleared = atomic_load(&rules->cleared);
  if (!(fault->means & FT_DELAY))
    return;
  int64_t until_ns = later_ns(host->now_ns(), fault->delay_ns);
  if (deadline_ns < until_ns)
    until_ns = deadline_ns;
  for (int64_t now_ns = host->now_ns();
       now_ns < until_ns && atomic_load(&rules->cleared) == cleared;
       now_ns = host->now_ns())
    host->sleep_ns(until_ns - now_ns < LOOK_NS ? until_ns - now_ns : LOOK_NS);
}

static mb_status wait_on(const mb_driver_conn *conn, mb_op *op)
{
  const int64_t look_ns = conn->host->now_ns() + LOOK_NS;
  atomic_store(&conn->cancel->delayed, true);
  op->wait.fd = -1;
  op->wait.events = 0;
  op->wait.flags = MB_WAIT_IDLE;
  op->wait.deadline_ns =
      conn->call.until_ns < look_ns ? conn->call.until_ns : look_ns;
  return MB_WAIT;
}

/* Somebody wants the call to end that has not been handed on. */
static mb_status stop(
    mb_driver_conn *conn, ft_call *call, mb_op *op, mb_error *error)
{
  call->fault = (ft_fault){
      .class = MB_CANCELED, .message = "stopped during a delay by a fault"};
  return end_run(conn, call, MB_ERROR, op, error);
}

static mb_status go_on_waiting(
    mb_driver_conn *conn, ft_call *call, mb_op *op, mb_error *error)
{
  const int asked = atomic_load(&conn->cancel->asked);
  if (asked == 1 + MB_CANCEL_SOCKET) {
    let_go(conn, call);
    return give_lost(conn, call, error);
  }
  if (asked != 0 || mb_op_stopped(conn->host, op))
    return stop(conn, call, op, error);
  if (conn->host->now_ns() < call->until_ns &&
      atomic_load(&conn->rules->cleared) == call->cleared)
    return wait_on(conn, op);
  return hand_on(conn, call, op, error);
}

/* The texts of a call are there during its start only. */
static mb_status start_waiting(
    mb_driver_conn *conn, ft_call *call, mb_op *op, mb_error *error)
{
  call->until_ns = later_ns(conn->host->now_ns(), call->fault.delay_ns);
  call->cleared = atomic_load(&conn->rules->cleared);
  if (call->text != NULL) {
    call->kept = conn->host->allocate(call->size + 1);
    if (call->kept == NULL) {
      let_go(conn, call);
      return conn->host->fail(error, MB_RESOURCE, "out of memory");
    }
    memcpy(call->kept, call->text, call->size);
    call->kept[call->size] = '\0';
    call->text = call->kept;
  }
  return wait_on(conn, op);
}

/* --- Start and resume --------------------------------------------------- */

static mb_status start(
    mb_driver_conn *conn, ft_call *call, mb_op *op, mb_error *error)
{
  const mb_driver_stmt *stmt = call->stmt;
  ft_rules_ask(conn->rules, call->slot, stmt != NULL ? stmt->text : call->text,
      stmt != NULL ? stmt->size : call->size, &call->fault);
  call->stage = FT_DELAYED;
  atomic_store(&conn->cancel->asked, 0);
  atomic_store(&conn->cancel->delayed, false);
  if (ft_is_lost(conn)) {
    let_go(conn, call);
    return give_lost(conn, call, error);
  }
  if (op == NULL || !(call->fault.means & FT_DELAY)) {
    ft_sleep(conn->rules, &call->fault, MB_NEVER);
    return hand_on(conn, call, op, error);
  }
  mb_status status = start_waiting(conn, call, op, error);
  while (status == MB_WAIT && conn->connector->blocks) {
    conn->host->sleep_ns(op->wait.deadline_ns - conn->host->now_ns());
    status = go_on_waiting(conn, call, op, error);
  }
  return status;
}

mb_status ft_run(
    mb_driver_conn *conn, const ft_call *call, mb_op *op, mb_error *error)
{
  if (op == NULL) {
    ft_call own = *call;
    return start(conn, &own, NULL, error);
  }
  conn->call = *call;
  return start(conn, &conn->call, op, error);
}

mb_status ft_resume(
    mb_driver_conn *conn, unsigned ready, mb_op *op, mb_error *error)
{
  ft_call *call = &conn->call;
  ft_fault fault = {.means = 0};
  if (call->stage != FT_DELAYED)
    ft_rules_ask(conn->rules, ft_slot_resume, NULL, 0, &fault);
  if (fault.means & FT_LOSE) {
    let_go(conn, call);
    return give(conn, ft_slot_resume, &fault, error);
  }
  if (ft_is_lost(conn)) {
    let_go(conn, call);
    return give_lost(conn, call, error);
  }
  if (call->stage == FT_DELAYED)
    return go_on_waiting(conn, call, op, error);
  const mb_status status = conn->driver->resume(conn->inner, ready, op, error);
  if (status == MB_WAIT)
    return MB_WAIT;
  return call->stage == FT_ENDING ? fail(conn, call, error)
                                  : end(conn, call, status, op, error);
}
