/*
 * wait.c: bringing a driver's call to its end, in time.
 *
 * An operation that runs out of time, or is cancelled, is ended in three
 * phases: the database is asked to stop it, then there is a time of grace for
 * its answer, then the socket is shut down and the connection is lost. Whatever
 * the phase, the connection is afterwards either fit for use or dead: an answer
 * is never left unread, and a request to stop never overtakes the operation.
 * A call that waits is taken through them here, one that blocks by its alarm.
 */
#include "connection.h"

#include "fiber.h"
#include "pool.h"

#include <errno.h>
#include <string.h>

#define NS_PER_MS 1000000
/* For how long a call may take to notice that its socket was shut down. */
#define SHUT_LIMIT_NS (100 * (int64_t)NS_PER_MS)
/* How often it is looked whether a request to stop has returned, or somebody
 * has cancelled, where nothing tells. */
#define LOOK_NS (2 * (int64_t)NS_PER_MS)
/* For how long a call that does not block may keep the thread of an event loop.
 */
#define BUDGET_NS (NS_PER_MS / 10)

static int64_t earlier(int64_t a, int64_t b)
{
  return a < b ? a : b;
}

/* When somebody has to look again, whatever the socket does. */
static int64_t next_look_ns(const mb_conn *conn)
{
  const int64_t driver_ns = conn->op.wait.deadline_ns;
  switch (conn->ending.phase) {
  case MB__PHASE_RUNNING:
  case MB__PHASE_BESIDE:
    /* Somebody may have cancelled it since. */
    return atomic_load(&conn->op.stop) != MB_GO_ON
               ? 0
               : earlier(driver_ns, conn->op.deadline_ns);
  case MB__PHASE_ASKED:
  case MB__PHASE_SHUT:
    return earlier(driver_ns, conn->ending.grace_end_ns);
  case MB__PHASE_ENDED:
    return driver_ns;
  }
  return driver_ns;
}

/* Whether nobody has wanted the operation to end so far. */
static bool is_wanted(const mb_conn *conn)
{
  return conn->ending.phase == MB__PHASE_RUNNING ||
         conn->ending.phase == MB__PHASE_BESIDE;
}

/* Shuts the socket down under the call, which has a moment to notice. */
static void shut(mb_conn *conn)
{
  conn->ending.phase = MB__PHASE_SHUT;
  conn->dead = true;
  mb__canceller_shut(conn->canceller);
  conn->ending.grace_end_ns = mb__host.now_ns() + SHUT_LIMIT_NS;
}

/* Whoever waited for the operation is gone. */
static void heed(mb_conn *conn, mb__fiber_stop stop)
{
  int expected = MB_GO_ON;
  (void)atomic_compare_exchange_strong(
      &conn->op.stop, &expected, MB_STOP_CANCEL);
  conn->op.bounded = true; /* the next one goes by its own */
  if ((stop == MB__FIBER_CUT_OFF || conn->connecting) &&
      conn->ending.phase != MB__PHASE_SHUT)
    shut(conn);
}

/* Waits for the socket, a cancel or the time, and says what became ready. */
static unsigned wait_for_something(mb_conn *conn)
{
  struct pollfd fds[2];
  nfds_t n = 1;
  /* A closed or broken socket reports itself even to who waits for nothing. */
  fds[0].fd = conn->op.wait.events != 0 ? conn->op.wait.fd : -1;
  fds[0].events = 0;
  fds[0].revents = 0;
  if (conn->op.wait.events & MB_READABLE_FD)
    fds[0].events |= POLLIN;
  if (conn->op.wait.events & MB_WRITABLE_FD)
    fds[0].events |= POLLOUT;
  int64_t until_ns = next_look_ns(conn);
  if (is_wanted(conn) && conn->listener.cancellation != NULL) {
    fds[1].fd = mb__cancellation_fd(conn->listener.cancellation);
    fds[1].events = POLLIN;
    fds[1].revents = 0;
    n = 2;
    if (fds[1].fd < 0)
      until_ns = earlier(until_ns, mb__host.now_ns() + LOOK_NS);
  }
  const int n_ready = mb__fiber_poll(fds, n, until_ns);
  const mb__fiber_stop stop = mb__fiber_take_stop();
  if (stop != MB__FIBER_GOES_ON)
    heed(conn, stop);
  if (n_ready <= 0 || fds[0].revents == 0)
    return 0;
  unsigned ready = 0;
  if (fds[0].revents & POLLOUT)
    ready |= MB_WRITABLE_FD;
  /* Errors and hang-ups are found by reading. */
  if (fds[0].revents & (POLLIN | POLLERR | POLLHUP | POLLNVAL))
    ready |= MB_READABLE_FD;
  return ready & conn->op.wait.events ? ready & conn->op.wait.events
                                      : conn->op.wait.events;
}

/* The operation did not end by itself: why, and that the connection is gone. */
static mb_status give_up(mb_conn *conn, unsigned flags, mb_error *error)
{
  char reason[MB__REASON_ROOM] = "";
  conn->dead = true;
  if (atomic_load(&conn->op.stop) == MB_STOP_CANCEL) {
    if (conn->listener.cancellation != NULL)
      mb_cancellation_reason(
          conn->listener.cancellation, reason, sizeof reason);
    mb__host.fail(error, MB_CANCELED,
        "cancelled%s%s; the connection was dropped",
        reason[0] != '\0' ? ": " : "", reason);
  } else if (conn->connecting) {
    mb__host.fail(error, MB_CONNECTIVITY, "could not connect in time");
    error->flags |= MB_TIMED_OUT;
  } else {
    mb__host.fail(error, MB_TIMEOUT,
        "the database did not stop in time; the connection was dropped");
  }
  error->flags |= flags | MB_CONNECTION_DEAD | MB_TRANSACTION_DEAD;
  return MB_ERROR;
}

mb_status mb__conn_within(mb_conn *conn, mb_error *error)
{
  if (!mb_op_stopped(&mb__host, &conn->op))
    return MB_OK;
  if (atomic_load(&conn->op.stop) == MB_STOP_CANCEL) {
    if (conn->listener.cancellation != NULL)
      return mb__cancellation_fail(conn->listener.cancellation, error);
    (void)mb__fiber_take_stop(); /* it is heard here */
    return mb__host.fail(error, MB_CANCELED, "cancelled");
  }
  mb__host.fail(error, conn->connecting ? MB_CONNECTIVITY : MB_TIMEOUT,
      "the time was up before the request was sent");
  error->flags = conn->connecting ? MB_TIMED_OUT : 0u;
  return MB_ERROR;
}

mb_status mb__conn_lost(mb_conn *conn, mb_error *error)
{
  if (atomic_load(&conn->op.stop) != MB_GO_ON)
    return give_up(conn, 0, error);
  return mb__conn_refuse(conn, error);
}

/* Without room to keep an answer, the asking is waited for in place. */
static void make_room(mb_conn *conn)
{
  if (!conn->blocking && conn->kept == NULL)
    conn->kept = mb__host.allocate(sizeof *conn->kept);
}

/* Time is up, or somebody wants it to end: begins to end the operation. */
static void ask(mb_conn *conn)
{
  /* An attempt to connect has nobody to ask yet. */
  mb__ending_ask(&conn->ending, &conn->op,
      conn->capability != NULL ? conn->canceller : NULL,
      conn->connector->settings.cancel_grace_ns);
  make_room(conn);
}

/* The call wants what runs to be stopped, and goes on. */
static void ask_beside(mb_conn *conn)
{
  const int64_t grace_ns = conn->connector->settings.cancel_grace_ns;
  conn->ending.phase = MB__PHASE_BESIDE;
  conn->ending.grace_end_ns = mb__deadline_ns(grace_ns);
  /* Where nobody can ask, the call has to take what comes. */
  (void)mb__canceller_ask(conn->canceller, conn->ending.grace_end_ns);
  make_room(conn);
}

/* Waits for nothing but a little time. */
static mb_status look_again(mb_conn *conn)
{
  conn->op.wait.fd = -1;
  conn->op.wait.events = 0;
  conn->op.wait.deadline_ns = mb__host.now_ns() + LOOK_NS;
  return MB_WAIT;
}

/* The call has ended, but nobody may use the connection before the request to
 * stop it has returned: a non-blocking caller is not held up for that. */
static mb_status keep(mb_conn *conn, mb_status status, const mb_error *error)
{
  conn->ending.phase = MB__PHASE_ENDED;
  conn->answer = status;
  if (status == MB_ERROR)
    *conn->kept = *error;
  return look_again(conn);
}

static mb_status look_for_asking(mb_conn *conn, mb_error *error)
{
  if (mb__host.now_ns() < conn->ending.grace_end_ns &&
      !mb__canceller_await(conn->canceller, 0))
    return look_again(conn);
  conn->ending.phase = MB__PHASE_ASKED;
  if (conn->answer == MB_ERROR)
    *error = *conn->kept;
  mb__host.release(conn->kept);
  conn->kept = NULL;
  return conn->answer;
}

/* Whoever stopped the call while it was away has been heard, if it failed. */
static void come_home(mb_conn *conn, mb_status status)
{
  mb__fiber_come_home();
  mb__conn_come_back(conn);
  conn->away = false;
  conn->op.in_loop = true;
  if (status == MB_ERROR && atomic_load(&conn->op.stop) == MB_STOP_CANCEL)
    (void)mb__fiber_take_stop();
}

static mb_status go_on(mb_conn *conn, unsigned ready, mb_error *error)
{
  const mb_status status =
      conn->resume != NULL
          ? conn->resume(conn, error)
          : conn->driver->resume(conn->impl, ready, &conn->op, error);
  /* A driver that waits may block at its end. */
  if (conn->away)
    come_home(conn, status);
  return status;
}

/* Nothing runs that could be asked to stop: the call is told, and ends. */
static mb_status tell(mb_conn *conn, mb_error *error)
{
  int expected = MB_GO_ON;
  (void)atomic_compare_exchange_strong(
      &conn->op.stop, &expected, MB_STOP_TIMEOUT);
  const mb_status status = go_on(conn, 0, error);
  conn->op.wait.flags &= ~(unsigned)MB_WAIT_IDLE; /* it had its chance */
  return status;
}

/* Begins to end what has to end; true: the socket was shut down. */
static bool end_in_time(mb_conn *conn)
{
  if (is_wanted(conn) && mb_op_stopped(&mb__host, &conn->op))
    ask(conn);
  /* Whatever the socket brings: the end of the grace is the end. */
  if (conn->ending.phase != MB__PHASE_ASKED ||
      mb__host.now_ns() < conn->ending.grace_end_ns)
    return false;
  shut(conn);
  return true;
}

/* One step: what became ready is handed to the driver. */
static mb_status advance(mb_conn *conn, unsigned ready, mb_error *error)
{
  mb_status status = MB_WAIT;
  if (conn->ending.phase == MB__PHASE_ENDED)
    return look_for_asking(conn, error);
  if ((conn->op.wait.flags & MB_WAIT_IDLE) && is_wanted(conn) &&
      mb_op_stopped(&mb__host, &conn->op))
    return tell(conn, error);
  if (end_in_time(conn))
    return MB_WAIT;
  if (ready != 0 || mb__host.now_ns() >= conn->op.wait.deadline_ns)
    status = go_on(conn, ready, error);
  if (conn->ending.phase != MB__PHASE_SHUT)
    return status;
  if (status == MB_ERROR)
    return give_up(conn, error->flags | MB_SENT, error);
  return status == MB_WAIT && mb__host.now_ns() >= conn->ending.grace_end_ns
             ? give_up(conn, MB_SENT, error)
             : status;
}

/* A call was stopped: the reason is ours to name. */
static void name_reason(mb_conn *conn, mb_error *error)
{
  const int stop = atomic_load(&conn->op.stop);
  if (stop == MB_STOP_CANCEL && conn->listener.cancellation != NULL) {
    const unsigned flags = error->flags;
    const mb_origin origin = error->origin;
    mb__cancellation_fail(conn->listener.cancellation, error);
    error->flags = flags;
    error->origin = origin;
  } else if (stop == MB_STOP_TIMEOUT ||
             (conn->op.deadline_ns != MB_NEVER &&
                 mb__host.now_ns() >= conn->op.deadline_ns)) {
    error->class = conn->connecting ? MB_CONNECTIVITY : MB_TIMEOUT;
    error->flags |= conn->connecting ? MB_TIMED_OUT : 0u;
  }
}

/* What a call has come to, once no request to stop it is under way. */
static mb_status conclude(mb_conn *conn, mb_status status, mb_error *error)
{
  const bool given_up = conn->dead; /* which has named the reason */
  if (conn->ending.phase == MB__PHASE_ASKED ||
      conn->ending.phase == MB__PHASE_BESIDE) {
    mb__conn_leave_fiber(conn);
    const bool returned = mb__canceller_await(conn->canceller,
        conn->blocking || conn->kept == NULL ? conn->ending.grace_end_ns : 0);
    mb__conn_come_back(conn);
    if (!returned && conn->kept != NULL &&
        mb__host.now_ns() < conn->ending.grace_end_ns)
      return keep(conn, status, error);
    if (!returned) {
      /* Nothing may be sent while the request may arrive. */
      conn->dead = true;
      mb__canceller_shut(conn->canceller);
    }
  }
  conn->ending.phase = MB__PHASE_RUNNING;
  if (status != MB_ERROR)
    return status;

  if (error->class == MB_CANCELED && !given_up)
    name_reason(conn, error);
  if (error->origin == MB_ORIGIN_RESET) {
    /* What the borrower before has set is still set, and nothing was run. */
    conn->dead = true;
    error->flags |= MB_RETRYABLE;
  }
  if (error->flags & MB_CONNECTION_DEAD)
    conn->dead = true;
  /* One that was lost is hardly the only one. */
  if (conn->dead && error->class == MB_CONNECTION_LOST &&
      !(error->flags & MB_SESSION_ONLY))
    mb__pool_suspect(conn->pool, conn->generation);
  if (conn->dead)
    error->flags |= MB_CONNECTION_DEAD | MB_TRANSACTION_DEAD;
  return MB_ERROR;
}

/* A driver that answers what it may not is reported, not believed. */
static mb_status distrust(mb_conn *conn, mb_error *error)
{
  conn->dead = true;
  mb__host.fail(error, MB_DRIVER_FAULT,
      "driver \"%s\" asked to wait but has no resume", conn->driver->name);
  error->flags = MB_CONNECTION_DEAD | MB_TRANSACTION_DEAD | MB_SENT;
  return MB_ERROR;
}

/* Waits, where the caller lets it, and draws the consequences. */
static mb_status bring(mb_conn *conn, mb_status status, mb_error *error)
{
  for (;;) {
    while (status == MB_WAIT) {
      if ((conn->op.wait.flags & MB_WAIT_ASK) &&
          conn->ending.phase == MB__PHASE_RUNNING)
        ask_beside(conn);
      if (!conn->blocking)
        return MB_WAIT;
      mb__conn_leave_fiber(conn);
      const unsigned ready = wait_for_something(conn);
      mb__conn_come_back(conn);
      status = advance(conn, ready, error);
    }
    status = conclude(conn, status, error);
    if (status != MB_WAIT)
      return status;
  }
}

void mb__conn_note_loop(mb_conn *conn)
{
  conn->op.in_loop = !conn->stays && mb_fiber_is_inside();
}

void mb__conn_make_way(mb_op *op, bool at_once)
{
  mb_conn *conn = (mb_conn *)((char *)op - offsetof(mb_conn, op));
  if (!op->in_loop || conn->away || (!at_once && !mb__fiber_is_late(BUDGET_NS)))
    return;
  /* From now on it can be stopped, and has to forget that it was. */
  const bool bounded = op->bounded;
  op->bounded = true;
  mb__conn_leave_fiber(conn);
  if (mb__fiber_leave_home(op, conn->driver)) {
    conn->away = conn->attended = true;
    op->in_loop = false; /* on the worker nobody else waits for the thread */
    return;
  }
  mb__conn_come_back(conn);
  op->bounded = bounded;
}

static bool hears_alarms(void)
{
  mb_error ignored;
  return mb__alarm_prepare(&ignored) == MB_OK;
}

void mb__conn_attend(mb_conn *conn)
{
  const bool bounded = conn->op.bounded;
  if (conn->op.in_loop)
    mb__conn_make_way(&conn->op, true);
  /* What has no bounds, and was not asked to be ready for them. */
  if (!bounded && !(conn->op.bounded && hears_alarms()))
    return;
  /* An attempt to connect is no call that could be ended. */
  if (conn->canceller == NULL)
    return;
  conn->alarm = (mb__alarm){.op = &conn->op,
      .ending = &conn->ending,
      .driver = conn->driver,
      .canceller = conn->canceller,
      .grace_ns = conn->connector->settings.cancel_grace_ns};
  mb__alarm_set(&conn->alarm);
  conn->has_alarm = conn->attended = true;
}

unsigned mb__conn_await(mb_op *op)
{
  mb_conn *conn = (mb_conn *)((char *)op - offsetof(mb_conn, op));
  unsigned ready;
  conn->attended = true;
  do {
    mb__conn_leave_fiber(conn);
    ready = wait_for_something(conn);
    mb__conn_come_back(conn);
    (void)end_in_time(conn);
  } while (ready == 0 && mb__host.now_ns() < op->wait.deadline_ns);
  return ready;
}

/* The call is over, and its socket may have been shut down under it. */
static mb_status see_to_socket(mb_conn *conn, mb_status status, mb_error *error)
{
  if (conn->ending.phase != MB__PHASE_SHUT)
    return status;
  conn->dead = true;
  return status == MB_ERROR ? give_up(conn, error->flags | MB_SENT, error)
                            : status;
}

mb_status mb__conn_bring(mb_conn *conn, mb_status status, mb_error *error)
{
  conn->attended = false;
  if (conn->away)
    come_home(conn, status);
  if (conn->has_alarm) {
    mb__alarm_clear(&conn->alarm);
    conn->has_alarm = false;
  }
  if (status != MB_WAIT)
    status = see_to_socket(conn, status, error);
  if (status == MB_WAIT && conn->resume == NULL && conn->driver->resume == NULL)
    status = distrust(conn, error);
  return bring(conn, status, error);
}

void mb_conn_wait(const mb_conn *conn, mb_wait *out)
{
  *out = conn->op.wait;
  out->deadline_ns = next_look_ns(conn);
}

mb_status mb_conn_resume(mb_conn *conn, unsigned ready, mb_error *error)
{
  if (!conn->waiting)
    return mb__host.fail(error, MB_USAGE, "no operation is waiting");
  conn->waiting = false; /* it goes on: nobody may do that inside it */
  const mb_status status = bring(conn, advance(conn, ready, error), error);
  if (status == MB_WAIT)
    return mb__conn_suspend(conn, conn->step, conn->step_argument);
  conn->answer = status;
  return mb__conn_run(conn, conn->step, conn->step_argument, error);
}
