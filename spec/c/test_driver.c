/* test_driver.c: the table, transactions, and how a test waits. */
#include "test_driver_parts.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>

/* --- Connectors --------------------------------------------------------- */

static const mb_option_spec options[] = {
    {"user", MB_OPTION_TEXT, NULL},
    {"password", MB_OPTION_SECRET, NULL},
    {"host", MB_OPTION_TEXT, NULL},
    {"port", MB_OPTION_INTEGER, NULL},
    {"database", MB_OPTION_TEXT, NULL},
    {"pace", MB_OPTION_TEXT, "slow fast"},
    {"level", MB_OPTION_INTEGER, NULL},
    {"pause", MB_OPTION_SECONDS, NULL},
    {"loud", MB_OPTION_BOOLEAN, NULL},
    {"tag", MB_OPTION_LIST, NULL},
    {"key", MB_OPTION_SECRET, NULL},
    {NULL, MB_OPTION_TEXT, NULL},
};

static mb_status open_connector(const mb_host *host, const mb_option *given,
    size_t n, mb_driver_connector **out, mb_connector_info *info,
    mb_error *error)
{
  for (size_t i = 0; i < n; i++)
    if (strcmp(given[i].name, "database") == 0 &&
        strcmp(given[i].value, "wrong") == 0)
      return host->fail(
          error, MB_CONNECTOR_VALIDATION, "option database: not this one");
  const mb_host **made = host->allocate(sizeof *made);
  if (made == NULL)
    return td_out_of_memory(host, error);
  *made = host;
  *info = (mb_connector_info){.url = "test://server/database",
      .max_connections = td.max_connections,
      .blocks = td.deaf,
      .lookups = td.lookups,
      .n_lookups = td.n_lookups};
  *out = (mb_driver_connector *)made;
  td_count_object(1);
  return MB_OK;
}

static void close_connector(mb_driver_connector *connector)
{
  const mb_host *host = *(const mb_host **)connector;
  host->release(connector);
  td_count_object(-1);
}

static const char *library_version(void)
{
  return "1.0";
}

/* --- Transactions ------------------------------------------------------- */

static mb_status end_word(mb_driver_conn *conn, mb_error *error)
{
  return td_perform(conn, &conn->flight.program, NULL, NULL, error);
}

static mb_status word(mb_driver_conn *conn, td_slot slot, td_verb verb,
    const char *name, mb_op *op, mb_error *error)
{
  const td_fault fault = td_enter(conn, slot, true);
  conn->flight = (td_flight){.program = {.verb = verb}};
  if (name != NULL)
    memcpy(conn->flight.program.name, name, strlen(name) + 1);
  return td_start(conn, fault, true, end_word, op, error);
}

static mb_status begin(
    mb_driver_conn *conn, const mb_begin *given, mb_op *op, mb_error *error)
{
  (void)given;
  if (!td.defers_begin)
    return word(conn, TD_BEGIN, TD_SQL_BEGIN, NULL, op, error);
  const td_fault fault = td_enter(conn, TD_BEGIN, false);
  td_server_begin(&conn->session);
  td_queue(conn, MB_ORIGIN_BEGIN, fault, 0, NULL);
  return td_leave(conn, MB_DONE);
}

/* COMMIT of a transaction that has failed rolls it back, which is no success.
 */
static mb_status end_commit(mb_driver_conn *conn, mb_error *error)
{
  if (!conn->session.failed)
    return end_word(conn, error);
  td_server_rollback(&conn->session);
  return conn->host->fail(error, MB_ENGINE, "rolled back instead");
}

static mb_status commit(mb_driver_conn *conn, mb_op *op, mb_error *error)
{
  const td_fault fault = td_enter(conn, TD_COMMIT, true);
  conn->flight = (td_flight){.program = {.verb = TD_SQL_COMMIT}};
  return td_start(conn, fault, true, end_commit, op, error);
}

static mb_status rollback(mb_driver_conn *conn, mb_op *op, mb_error *error)
{
  if (!td_unqueue_begin(conn) && conn->session.active)
    return word(conn, TD_ROLLBACK, TD_SQL_ROLLBACK, NULL, op, error);
  (void)td_enter(conn, TD_ROLLBACK, false);
  td_server_rollback(&conn->session);
  return td_leave(conn, MB_DONE);
}

static mb_status savepoint(
    mb_driver_conn *conn, const char *name, mb_op *op, mb_error *error)
{
  return word(conn, TD_SAVEPOINT, TD_SQL_SAVEPOINT, name, op, error);
}

static mb_status release_savepoint(
    mb_driver_conn *conn, const char *name, mb_op *op, mb_error *error)
{
  return word(conn, TD_RELEASE, TD_SQL_RELEASE, name, op, error);
}

static mb_status rollback_to(
    mb_driver_conn *conn, const char *name, mb_op *op, mb_error *error)
{
  return word(conn, TD_ROLLBACK_TO, TD_SQL_ROLLBACK_TO, name, op, error);
}

/* --- The table ---------------------------------------------------------- */

static const char *const schemes[] = {"test", "proof", NULL};

#define SLOTS                                                              \
  .abi = MB_DRIVER_ABI, .size = sizeof(mb_driver), .name = "test",         \
  .schemes = schemes, .database_name = "Test",                             \
  .library_version = library_version, .options = options,                  \
  .thread_enter = td_thread_enter, .thread_leave = td_thread_leave,        \
  .open_connector = open_connector, .close_connector = close_connector,    \
  .connect = td_connect, .close = td_close, .abandon = td_abandon,         \
  .is_valid = td_is_valid, .consume = td_consume, .ping = td_ping,         \
  .capability = td_capability, .transaction_state = td_transaction_state,  \
  .resume = td_resume, .prepare = td_prepare, .describe = td_describe,     \
  .execute = td_execute, .fetch = td_fetch, .next_result = td_next_result, \
  .finish = td_finish, .close_statement = td_close_statement,              \
  .exec_text = td_exec_text, .begin = begin, .commit = commit,             \
  .rollback = rollback, .savepoint = savepoint,                            \
  .release_savepoint = release_savepoint, .rollback_to = rollback_to,      \
  .cancel_handle = td_cancel_handle, .cancel = td_cancel,                  \
  .release_cancel = td_release_cancel, .command = td_command

static const mb_driver driver = {SLOTS};

static const mb_driver full_driver = {
    SLOTS,
    .reset = td_reset_session,
    .execute_many = td_execute_many,
    .pipeline_begin = td_pipeline_begin,
    .pipeline_sync = td_pipeline_sync,
    .pipeline_next = td_pipeline_next,
    .pipeline_end = td_pipeline_end,
    .quote_identifier = td_quote_identifier,
};

const mb_driver *td_driver(void)
{
  return &driver;
}

const mb_driver *td_full_driver(void)
{
  return &full_driver;
}

/* --- Waiting ------------------------------------------------------------ */

mb_error *td_new_error(void)
{
  mb_error *made = malloc(sizeof *made);
  if (made == NULL)
    abort();
  memset(made, 0xA5, sizeof *made);
  return made;
}

/* At most a few milliseconds, so that a cancel is noticed. */
static unsigned wait_for(const mb_wait *wait)
{
  struct pollfd fd = {.fd = wait->fd};
  if (wait->events & MB_READABLE_FD)
    fd.events |= POLLIN;
  if (wait->events & MB_WRITABLE_FD)
    fd.events |= POLLOUT;
  if (wait->events == 0)
    fd.fd = -1;
  int timeout_ms = 5;
  const int64_t left_ns =
      wait->deadline_ns == MB_NEVER ? 5000000 : wait->deadline_ns - mb_now_ns();
  if (left_ns < 5000000)
    timeout_ms = left_ns <= 0 ? 0 : (int)((left_ns + 999999) / 1000000);
  if (poll(&fd, 1, timeout_ms) <= 0)
    return 0;
  return ((fd.revents & (POLLIN | POLLERR | POLLHUP)) ? MB_READABLE_FD : 0u) |
         ((fd.revents & POLLOUT) ? MB_WRITABLE_FD : 0u);
}

mb_status td_drive(mb_conn *conn, mb_status status, mb_error **error)
{
  while (status == MB_WAIT) {
    mb_wait wait;
    mb_conn_wait(conn, &wait);
    const unsigned ready = wait_for(&wait) & wait.events;
    free(*error);
    *error = td_new_error();
    status = mb_conn_resume(conn, ready, *error);
  }
  return status;
}
