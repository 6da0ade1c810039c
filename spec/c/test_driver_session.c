/*
 * test_driver_session.c: sessions, the waiting of their calls, and requests to
 * stop them.
 */
#include "../../src/core/connection.h"
#include "test_driver_parts.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAGIC 0x5e5510a7u
#define NS_PER_MS INT64_C(1000000)
/* A driver's own deadline, when that is how its waits end. */
#define DRIVER_WAIT_NS (NS_PER_MS / 4)

/* What leaves something behind, wherever it stands. */
static const char *const session_words[] = {"lock", NULL};

static const char *const slot_names[TD_SLOTS] = {
    [TD_CONNECT] = "connect",
    [TD_CLOSE] = "close",
    [TD_ABANDON] = "abandon",
    [TD_IS_VALID] = "is_valid",
    [TD_CONSUME] = "consume",
    [TD_PING] = "ping",
    [TD_RESET] = "reset",
    [TD_RESUME] = "resume",
    [TD_PREPARE] = "prepare",
    [TD_DESCRIBE] = "describe",
    [TD_EXECUTE] = "execute",
    [TD_EXECUTE_MANY] = "execute_many",
    [TD_FETCH] = "fetch",
    [TD_NEXT_RESULT] = "next_result",
    [TD_FINISH] = "finish",
    [TD_CLOSE_STATEMENT] = "close_statement",
    [TD_EXEC_TEXT] = "exec_text",
    [TD_BEGIN] = "begin",
    [TD_COMMIT] = "commit",
    [TD_ROLLBACK] = "rollback",
    [TD_SAVEPOINT] = "savepoint",
    [TD_RELEASE] = "release_savepoint",
    [TD_ROLLBACK_TO] = "rollback_to",
    [TD_COMMAND] = "command",
    [TD_PIPELINE_BEGIN] = "pipeline_begin",
    [TD_PIPELINE_SYNC] = "pipeline_sync",
    [TD_PIPELINE_NEXT] = "pipeline_next",
    [TD_PIPELINE_END] = "pipeline_end",
    [TD_QUOTE] = "quote_identifier",
    [TD_CANCEL_QUERY] = "cancel",
    [TD_CANCEL_SOCKET] = "cancel",
};

/* --- Calls -------------------------------------------------------------- */

mb_status td_out_of_memory(const mb_host *host, mb_error *error)
{
  return host->fail(error, MB_RESOURCE, "out of memory");
}

static bool is_open_run(const mb_driver_conn *conn)
{
  for (mb_driver_stmt *one = conn->statements; one != NULL; one = one->next)
    if (one->running)
      return true;
  return false;
}

/* What may be called between pipeline_begin and pipeline_end. */
static bool goes_in_pipeline(td_slot slot)
{
  switch (slot) {
  case TD_PREPARE:
  case TD_EXECUTE:
  case TD_FETCH:
  case TD_FINISH:
  case TD_NEXT_RESULT:
  case TD_PIPELINE_SYNC:
  case TD_PIPELINE_NEXT:
  case TD_PIPELINE_END:
    return true;
  default:
    return false;
  }
}

static void check_call(const mb_driver_conn *conn, td_slot slot, bool sends)
{
  const char *name = slot_names[slot];
  const bool ends =
      slot == TD_CLOSE || slot == TD_CLOSE_STATEMENT || slot == TD_ABANDON;
  if (conn->magic != MAGIC)
    td_breach("%s of a session that is closed", name);
  if (conn->pid != getpid() && slot != TD_ABANDON)
    td_breach("%s in a child, of its parent's session", name);
  if (conn->flight.on && !ends && slot != TD_RESUME)
    td_breach("%s while %s waits", name, slot_names[conn->flight.fault.slot]);
  if (sends && conn->pipeline.open && !goes_in_pipeline(slot))
    td_breach("%s inside a pipeline", name);
  if (sends && conn->cancel != NULL && atomic_load(&conn->cancel->out) > 0)
    td_breach("%s while a request to cancel is out", name);
  if (sends && td.one_run && is_open_run(conn) && slot != TD_FETCH &&
      slot != TD_FINISH && slot != TD_NEXT_RESULT && slot != TD_PIPELINE_END)
    td_breach("%s beside open rows", name);
}

td_fault td_enter(mb_driver_conn *conn, td_slot slot, bool sends)
{
  if (atomic_exchange(&conn->inside, true))
    td_breach("%s inside another call", slot_names[slot]);
  check_call(conn, slot, sends);
  if (td.pool != NULL) {
    mb_pool_stats stats;
    mb_pool_stats_read(td.pool, &stats); /* hangs where the lock is held */
  }
  const td_fault met = td_count(slot);
  if (conn->cut == TD_WHOLE || !sends || slot == TD_CONNECT)
    return met;
  return (td_fault){.slot = slot,
      .class = MB_CONNECTION_LOST,
      .flags = MB_CONNECTION_DEAD | MB_SENT};
}

void td_cut_off(mb_conn *conn, td_cut cut)
{
  conn->impl->cut = cut;
}

mb_status td_leave(mb_driver_conn *conn, mb_status status)
{
  atomic_store(&conn->inside, false);
  return status;
}

bool td_fails(const td_fault *fault)
{
  return fault->class != MB_DATABASE_ERROR || fault->flags != 0;
}

mb_status td_raise(mb_driver_conn *conn, const td_fault *fault, mb_error *error)
{
  conn->host->fail(error, fault->class, "fault in %s", slot_names[fault->slot]);
  conn->host->error_set(error, MB_CODE, "TD001", 5);
  error->flags = fault->flags;
  if (fault->flags & MB_CONNECTION_DEAD)
    conn->dead = true;
  if (conn->dead || fault->ends_transaction)
    td_server_rollback(&conn->session);
  else if (td.aborts)
    conn->session.failed = conn->session.active;
  return MB_ERROR;
}

/* --- What travels with the next request --------------------------------- */

void td_queue(mb_driver_conn *conn, mb_origin origin, td_fault fault,
    size_t position, mb_driver_stmt *stmt)
{
  if (conn->n_queued == sizeof conn->queue / sizeof *conn->queue)
    abort();
  conn->queue[conn->n_queued++] = (td_queued){origin, fault, position, stmt};
}

bool td_unqueue_begin(mb_driver_conn *conn)
{
  for (size_t i = 0; i < conn->n_queued; i++)
    if (conn->queue[i].origin == MB_ORIGIN_BEGIN) {
      conn->n_queued--;
      memmove(&conn->queue[i], &conn->queue[i + 1],
          (conn->n_queued - i) * sizeof *conn->queue);
      return true;
    }
  return false;
}

static mb_status send_queue(mb_driver_conn *conn, mb_error *error)
{
  const size_t n = conn->n_queued;
  conn->n_queued = 0;
  for (size_t i = 0; i < n; i++) {
    const td_queued *one = &conn->queue[i];
    if (!td_fails(&one->fault))
      continue;
    if (one->stmt != NULL)
      one->stmt->lost = true;
    td_raise(conn, &one->fault, error);
    error->origin = one->origin;
    error->position = one->position;
    if (one->origin == MB_ORIGIN_BEGIN)
      td_server_rollback(&conn->session);
    return MB_ERROR;
  }
  return MB_DONE;
}

/* --- Waiting ------------------------------------------------------------ */

static void *write_later(void *argument)
{
  const struct timespec pause = {.tv_nsec = NS_PER_MS};
  const int fd = (int)(intptr_t)argument;
  (void)nanosleep(&pause, NULL);
  (void)send(fd, "x", 1, MSG_NOSIGNAL);
  (void)close(fd);
  return NULL;
}

static void wake_later(int server_fd)
{
  pthread_t thread;
  const int fd = dup(server_fd);
  if (fd < 0 ||
      pthread_create(&thread, NULL, write_later, (void *)(intptr_t)fd) != 0)
    abort();
  (void)pthread_detach(thread);
}

static void open_socket(mb_driver_conn *conn)
{
  int fds[2];
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) != 0)
    abort();
  mb_driver_cancel *cancel = conn->cancel;
  (void)pthread_mutex_lock(&cancel->lock);
  if (cancel->fd >= 0) {
    (void)close(cancel->fd);
    (void)close(cancel->server_fd);
  }
  cancel->fd = fds[0];
  cancel->server_fd = fds[1];
  if (cancel->shut)
    (void)shutdown(cancel->fd, SHUT_RDWR);
  (void)pthread_mutex_unlock(&cancel->lock);
  conn->fd_serial++;
}

static void set_in_flight(mb_driver_conn *conn, bool in_flight)
{
  (void)pthread_mutex_lock(&conn->cancel->lock);
  conn->cancel->in_flight = in_flight;
  conn->cancel->asked = false;
  (void)pthread_mutex_unlock(&conn->cancel->lock);
}

static unsigned wait_flags(const td_fault *fault)
{
  const bool stalls = fault->stall != TD_UNTIL_NOTHING;
  return (td.idle && stalls ? MB_WAIT_IDLE : 0u) |
         (td.asks && fault->slot == TD_FINISH ? MB_WAIT_ASK : 0u);
}

static mb_status wait_more(mb_driver_conn *conn)
{
  td_flight *flight = &conn->flight;
  if (td.changes_fd && flight->fault.slot == TD_CONNECT)
    open_socket(conn);
  const int server_fd = conn->cancel->server_fd;
  const bool stalls = flight->fault.stall != TD_UNTIL_NOTHING;
  const bool by_deadline = td.wake == TD_BY_DEADLINE && !stalls;
  const bool writes = td.writes && flight->fault.slot == TD_CONNECT;
  flight->op->wait = (mb_wait){.fd = conn->cancel->fd,
      .events = writes ? MB_WRITABLE_FD : MB_READABLE_FD,
      .flags = wait_flags(&flight->fault),
      .deadline_ns =
          by_deadline ? conn->host->now_ns() + DRIVER_WAIT_NS : MB_NEVER,
      .fd_serial = conn->fd_serial};
  if (writes)
    return MB_WAIT; /* it may at once */
  if (stalls ? td.noisy : td.wake == TD_BY_DATA)
    (void)send(server_fd, "x", 1, MSG_NOSIGNAL);
  else if (!stalls && td.wake == TD_BY_THREAD)
    wake_later(server_fd);
  return MB_WAIT;
}

/* The call does what it is for, unless it meets a fault. */
static mb_status come_to_end(mb_driver_conn *conn, mb_error *error)
{
  const td_flight flight = conn->flight;
  conn->flight.on = false;
  if (conn->cancel != NULL)
    set_in_flight(conn, false);
  if (flight.sends && send_queue(conn, error) == MB_ERROR)
    return MB_ERROR;
  if (td_fails(&flight.fault) && !flight.fault.after)
    return td_raise(conn, &flight.fault, error);
  if (flight.fault.fails_transaction)
    conn->session.failed = conn->session.active;
  const mb_status status = flight.end(conn, error);
  return td_fails(&flight.fault) && status != MB_ERROR
             ? td_raise(conn, &flight.fault, error)
             : status;
}

static mb_status stop(
    mb_driver_conn *conn, mb_class class, unsigned flags, mb_error *error)
{
  const td_fault fault = {
      .slot = conn->flight.fault.slot, .class = class, .flags = flags};
  if (conn->flight.stmt != NULL)
    conn->flight.stmt->running = false;
  conn->flight.on = false;
  set_in_flight(conn, false);
  return td_raise(conn, &fault, error);
}

/* A library that can only block, and asks its bounds. */
static mb_status stall_here(mb_driver_conn *conn, mb_op *op, mb_error *error)
{
  if (!op->bounded) {
    td_breach("%s stalls, and nothing bounds it",
        slot_names[conn->flight.fault.slot]);
    return stop(conn, MB_CANCELED, 0, error);
  }
  while (!mb_op_stopped(conn->host, op))
    conn->host->sleep_ns(NS_PER_MS / 5);
  if (conn->flight.fault.ends_well)
    return come_to_end(conn, error);
  return stop(conn, MB_CANCELED, 0, error);
}

/* What the other side has done to a call; MB_WAIT: nothing that ends it. */
static mb_status meet(mb_driver_conn *conn, mb_error *error)
{
  const td_fault *fault = &conn->flight.fault;
  mb_driver_cancel *cancel = conn->cancel;
  char ignored[64];
  (void)recv(cancel->fd, ignored, sizeof ignored, MSG_DONTWAIT);
  (void)pthread_mutex_lock(&cancel->lock);
  const bool shut = cancel->shut;
  const bool asked = cancel->asked;
  (void)pthread_mutex_unlock(&cancel->lock);
  if (shut && fault->stall != TD_UNTIL_END)
    return fault->ends_well ? come_to_end(conn, error)
                            : stop(conn, MB_CONNECTION_LOST,
                                  MB_CONNECTION_DEAD | MB_SENT, error);
  if (asked && fault->stall < TD_UNTIL_SHUT)
    return fault->ends_well ? come_to_end(conn, error)
                            : stop(conn, MB_CANCELED, 0, error);
  return MB_WAIT;
}

/* Nobody has a handle yet. */
static mb_status connect_blindly(
    mb_driver_conn *conn, const mb_op *op, int64_t end_ns, mb_error *error)
{
  td_hang(&td.connect_hangs);
  while ((conn->flight.fault.stall != TD_UNTIL_NOTHING ||
             conn->host->now_ns() < end_ns) &&
         atomic_load(&op->stop) == MB_GO_ON)
    conn->host->sleep_ns(NS_PER_MS / 5);
  return come_to_end(conn, error);
}

/* A library that can only block, and does not ask its bounds: it waits for its
 * socket. */
static mb_status block(mb_driver_conn *conn, const mb_op *op, mb_error *error)
{
  const bool stalls = conn->flight.fault.stall != TD_UNTIL_NOTHING;
  const int64_t end_ns = conn->host->now_ns() + td.waits * NS_PER_MS;
  if (conn->flight.fault.slot == TD_CONNECT)
    return connect_blindly(conn, op, end_ns, error);
  if (stalls && !op->bounded) {
    td_breach("%s stalls, and nothing bounds it",
        slot_names[conn->flight.fault.slot]);
    return stop(conn, MB_CANCELED, 0, error);
  }
  set_in_flight(conn, true);
  for (;;) {
    struct pollfd fd = {.fd = conn->cancel->fd, .events = POLLIN};
    (void)poll(&fd, 1, stalls ? -1 : 1);
    const mb_status status = meet(conn, error);
    if (status != MB_WAIT)
      return status;
    if (!stalls && conn->host->now_ns() >= end_ns)
      return come_to_end(conn, error);
  }
}

mb_status td_start(mb_driver_conn *conn, td_fault fault, bool sends,
    td_end *end, mb_op *op, mb_error *error)
{
  td_flight *flight = &conn->flight;
  flight->fault = fault;
  flight->sends = sends;
  flight->end = end;
  flight->op = op;
  if (sends)
    td_count_trip();
  const bool stalls = fault.stall != TD_UNTIL_NOTHING;
  if (td.blocks && op->in_loop)
    conn->host->make_way(op, true);
  if (td.blocks && stalls)
    return td_leave(conn, stall_here(conn, op, error));
  if (td.deaf && (stalls || td.waits > 0 || td.connect_hangs))
    return td_leave(conn, block(conn, op, error));
  if (td.deaf || td.blocks || (td.waits == 0 && !stalls))
    return td_leave(conn, come_to_end(conn, error));
  flight->on = true;
  flight->waits = td.waits;
  set_in_flight(conn, true);
  return td_leave(conn, wait_more(conn));
}

static void check_resume(
    const mb_driver_conn *conn, unsigned ready, const mb_op *op)
{
  if (!conn->flight.on)
    td_breach("resume, and nothing waits");
  if (op != conn->flight.op)
    td_breach("resume with another mb_op");
  const bool told =
      (op->wait.flags & MB_WAIT_IDLE) && atomic_load(&op->stop) != MB_GO_ON;
  if (ready == 0 && !told && conn->host->now_ns() < op->wait.deadline_ns)
    td_breach("resume before anything was ready");
  if ((ready & ~op->wait.events) != 0)
    td_breach("resume with events that nobody waits for");
}

mb_status td_resume(
    mb_driver_conn *conn, unsigned ready, mb_op *op, mb_error *error)
{
  (void)td_enter(conn, TD_RESUME, false);
  check_resume(conn, ready, op);
  td_flight *flight = &conn->flight;
  const td_until stall = flight->fault.stall;
  mb_status status = meet(conn, error);
  if (status == MB_WAIT && stall == TD_UNTIL_ASKED &&
      (op->wait.flags & MB_WAIT_IDLE) && atomic_load(&op->stop) != MB_GO_ON)
    status = stop(conn, MB_CANCELED, 0, error);
  else if (status == MB_WAIT)
    status = stall != TD_UNTIL_NOTHING || --flight->waits > 0
                 ? wait_more(conn)
                 : come_to_end(conn, error);
  return td_leave(conn, status);
}

/* --- Connecting --------------------------------------------------------- */

static mb_driver_cancel *make_cancel(const mb_host *host)
{
  mb_driver_cancel *cancel = host->allocate(sizeof *cancel);
  if (cancel == NULL)
    return NULL;
  memset(cancel, 0, sizeof *cancel);
  cancel->host = host;
  cancel->fd = cancel->server_fd = -1;
  atomic_init(&cancel->refs, 1);
  (void)pthread_mutex_init(&cancel->lock, NULL);
  td_count_object(1);
  return cancel;
}

static void fill_capability(mb_driver_conn *conn)
{
  conn->capability = (mb_capability){
      .size = td.capability_size != 0 ? td.capability_size
                                      : (uint32_t)sizeof conn->capability,
      .server_version = "1",
      .lexical = {.colon_casts = true,
          .dollar_quotes = true,
          .placeholder = MB_PLACEHOLDER_DOLLAR},
      .sql = true,
      .savepoints = true,
      .read_only_transactions = true,
      .multiple_open_rows = !td.one_run,
      .rows_block_writes = td.rows_block_writes,
      .pipeline = true,
      .non_blocking = !td.blocks,
      .isolation_levels = MB_READ_COMMITTED | MB_SERIALIZABLE,
      .max_identifier_length = 63,
      .statement_cache = td.statement_cache,
      .identifier_quote = '"',
      .session_words = session_words,
  };
}

static mb_status end_connect(mb_driver_conn *conn, mb_error *error)
{
  (void)error;
  fill_capability(conn);
  return MB_DONE;
}

mb_status td_connect(mb_driver_connector *connector,
    const mb_connect_args *args, mb_driver_conn **out, mb_op *op,
    mb_error *error)
{
  const mb_host *host = *(const mb_host **)connector;
  mb_driver_conn *conn = host->allocate(sizeof *conn);
  if (conn == NULL)
    return td_out_of_memory(host, error);
  memset(conn, 0, sizeof *conn);
  conn->magic = MAGIC;
  conn->host = host;
  conn->pid = getpid();
  conn->owner = args->owner;
  td_note_addresses(args);
  td_count_session(1);
  *out = conn;
  const td_fault fault = td_enter(conn, TD_CONNECT, true);
  conn->cancel = make_cancel(host);
  if (conn->cancel == NULL)
    return td_leave(conn, td_out_of_memory(host, error));
  if (td.password != NULL &&
      (args->password == NULL || strcmp(args->password, td.password) != 0))
    return td_leave(conn, host->fail(error, MB_PERMISSION, "wrong password"));
  open_socket(conn);
  return td_start(conn, fault, true, end_connect, op, error);
}

/* --- Closing ------------------------------------------------------------ */

static void free_session(mb_driver_conn *conn)
{
  mb_driver_cancel *cancel = conn->cancel;
  if (cancel != NULL) {
    (void)pthread_mutex_lock(&cancel->lock);
    if (cancel->fd >= 0) {
      (void)close(cancel->fd);
      (void)close(cancel->server_fd);
    }
    cancel->fd = -1;
    (void)pthread_mutex_unlock(&cancel->lock);
    td_release_cancel(cancel);
  }
  const mb_host *host = conn->host;
  td_pipeline_free(conn);
  memset(conn, 0xDD, sizeof *conn);
  host->release(conn);
  td_count_session(-1);
}

void td_close(mb_driver_conn *conn, int64_t deadline_ns)
{
  (void)td_enter(conn, TD_CLOSE, false);
  if (deadline_ns == MB_NEVER)
    td_breach("close without a deadline");
  if (conn->statements != NULL)
    td_breach("close of a session whose statements are open");
  /* The server is told good-bye. */
  if (conn->cancel != NULL && !conn->cancel->shut &&
      atomic_load(&conn->cancel->out) > 0)
    td_breach("close while a request to cancel is out");
  td_server_rollback(&conn->session);
  free_session(conn);
}

void td_abandon(mb_driver_conn *conn)
{
  (void)td_enter(conn, TD_ABANDON, false);
  if (conn->pid == getpid())
    td_breach("abandon in the process that connected");
  while (conn->statements != NULL)
    td_free_statement(conn->statements);
  free_session(conn);
}

mb_validity td_is_valid(mb_driver_conn *conn)
{
  (void)td_enter(conn, TD_IS_VALID, false);
  (void)td_leave(conn, MB_DONE);
  if (conn->dead)
    return MB_DEAD;
  if (conn->cut == TD_CLOSED)
    return MB_READABLE;
  return td.validity == MB_READABLE && conn->consumed ? MB_ALIVE : td.validity;
}

mb_status td_consume(mb_driver_conn *conn, mb_error *error)
{
  const td_fault fault = td_enter(conn, TD_CONSUME, conn->cut == TD_CLOSED);
  const mb_event event = {
      .kind = MB_EVENT_NOTIFICATION, .name = "idle", .text = "told"};
  conn->consumed = true;
  conn->host->event(conn->owner, &event);
  return td_leave(
      conn, td_fails(&fault) ? td_raise(conn, &fault, error) : MB_DONE);
}

/* --- Other calls of a session ------------------------------------------- */

static mb_status end_ping(mb_driver_conn *conn, mb_error *error)
{
  (void)conn;
  (void)error;
  return MB_DONE;
}

mb_status td_ping(mb_driver_conn *conn, mb_op *op, mb_error *error)
{
  const td_fault fault = td_enter(conn, TD_PING, true);
  return td_start(conn, fault, true, end_ping, op, error);
}

static mb_status end_reset(mb_driver_conn *conn, mb_error *error)
{
  (void)error;
  conn->changed = false;
  if (td.reset_loses & MB_LOST_STATEMENTS)
    for (mb_driver_stmt *one = conn->statements; one != NULL; one = one->next)
      one->lost = true;
  return MB_DONE;
}

mb_status td_reset_session(mb_driver_conn *conn, mb_reset_mode mode,
    unsigned *lost, mb_op *op, mb_error *error)
{
  (void)mode;
  const td_fault fault = td_enter(conn, TD_RESET, !td.defers_reset);
  *lost = td.reset_loses;
  if (!td.defers_reset)
    return td_start(conn, fault, true, end_reset, op, error);
  td_queue(conn, MB_ORIGIN_RESET, fault, 0, NULL);
  return td_leave(conn, end_reset(conn, error));
}

void td_set_backslashes(mb_conn *conn, bool known)
{
  conn->impl->capability.lexical.backslash_strings = known;
}

const mb_capability *td_capability(mb_driver_conn *conn)
{
  return &conn->capability;
}

mb_transaction_state td_transaction_state(mb_driver_conn *conn)
{
  if (conn->magic != MAGIC)
    td_breach("transaction_state of a session that is closed");
  if (conn->pid != getpid())
    td_breach("transaction_state in a child, of its parent's session");
  if (conn->dead)
    return MB_TRANSACTION_UNKNOWN;
  if (!conn->session.active)
    return MB_TRANSACTION_NONE;
  return conn->session.failed ? MB_TRANSACTION_FAILED : MB_TRANSACTION_ACTIVE;
}

mb_status td_quote_identifier(mb_driver_conn *conn, const char *name,
    size_t size, char *out, size_t *written, mb_error *error)
{
  const td_fault fault = td_enter(conn, TD_QUOTE, false);
  if (td_fails(&fault))
    return td_leave(conn, td_raise(conn, &fault, error));
  out[0] = '[';
  memcpy(out + 1, name, size);
  out[size + 1] = ']';
  *written = size + 2;
  return td_leave(conn, MB_OK);
}

/* --- Cancelling --------------------------------------------------------- */

static _Thread_local int entered;

void td_thread_enter(void)
{
  if (entered++ != 0)
    td_breach("thread_enter twice");
}

void td_thread_leave(void)
{
  if (--entered != 0)
    td_breach("thread_leave without thread_enter");
}

mb_driver_cancel *td_cancel_handle(mb_driver_conn *conn)
{
  if (conn->cancel != NULL)
    (void)atomic_fetch_add(&conn->cancel->refs, 1);
  return conn->cancel;
}

void td_release_cancel(mb_driver_cancel *handle)
{
  if (atomic_fetch_sub(&handle->refs, 1) != 1)
    return;
  (void)pthread_mutex_destroy(&handle->lock);
  handle->host->release(handle);
  td_count_object(-1);
}

static void ask(mb_driver_cancel *handle)
{
  const struct timespec pause = {.tv_nsec = td.cancel_ms * NS_PER_MS};
  if (entered == 0)
    td_breach("the database is asked to cancel on a thread of the program");
  (void)atomic_fetch_add(&handle->out, 1);
  (void)nanosleep(&pause, NULL);
  td_hang(&td.cancel_hangs);
  (void)pthread_mutex_lock(&handle->lock);
  if (handle->in_flight && handle->fd >= 0) {
    handle->asked = true;
    (void)send(handle->server_fd, "c", 1, MSG_NOSIGNAL);
  }
  (void)pthread_mutex_unlock(&handle->lock);
  (void)atomic_fetch_sub(&handle->out, 1);
}

mb_status td_cancel(mb_driver_cancel *handle, enum mb_cancel_level level,
    int64_t deadline_ns, mb_error *error)
{
  (void)deadline_ns;
  if (level == MB_CANCEL_QUERY) {
    const td_fault fault = td_count(TD_CANCEL_QUERY);
    if (td_fails(&fault))
      return handle->host->fail(error, fault.class, "fault in cancel");
    ask(handle);
    return MB_OK;
  }
  (void)td_count(TD_CANCEL_SOCKET);
  (void)pthread_mutex_lock(&handle->lock);
  handle->shut = true;
  if (handle->fd >= 0)
    (void)shutdown(handle->fd, SHUT_RDWR);
  (void)pthread_mutex_unlock(&handle->lock);
  return MB_OK;
}
