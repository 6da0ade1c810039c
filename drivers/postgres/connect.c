/*
 * connect.c: making a connection, step by step.
 *
 * libpq goes through the places by itself, and knows no end of its own for any
 * of them: each gets an equal share of the time that is left.  One that does
 * not answer in its share is taken out, and libpq begins anew with the others.
 */
#include "postgres.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* The lowest version whose protocol and settings are relied on. */
#define VERSION_MIN 100000

/* --- Places ------------------------------------------------------------- */

enum list { NAMES, ADDRESSES, PORTS };

static const char *text_of(const pg_place *place, enum list which)
{
  return which == NAMES       ? place->name
         : which == ADDRESSES ? place->address
                              : place->port;
}

/* The texts of all places with commas between; "" when there is none at all. */
static const char *join(mb_driver_conn *conn, enum list which)
{
  size_t size = 1;
  bool any = false;
  for (size_t i = 0; i < conn->opening.n_places; i++) {
    const char *text = text_of(&conn->opening.places[i], which);
    any |= text[0] != '\0';
    size += strlen(text) + 1;
  }
  if (!any)
    return "";
  char *joined = pg_arena_take(&conn->opening.texts, size);
  if (joined == NULL)
    return NULL;
  char *at = joined;
  for (size_t i = 0; i < conn->opening.n_places; i++)
    at += sprintf(
        at, "%s%s", i > 0 ? "," : "", text_of(&conn->opening.places[i], which));
  return joined;
}

static bool is_same(const char *given, const char *used)
{
  return given[0] == '\0' || (used != NULL && strcmp(given, used) == 0);
}

/* Which of the places libpq is at. */
static size_t find_place(const mb_driver_conn *conn)
{
  const char *name = PQhost(conn->pq);
  const char *address = PQhostaddr(conn->pq);
  const char *port = PQport(conn->pq);
  for (size_t i = 0; i < conn->opening.n_places; i++) {
    const pg_place *place = &conn->opening.places[i];
    if (is_same(place->name, name) && is_same(place->address, address) &&
        is_same(place->port, port))
      return i;
  }
  return 0;
}

/* --- One attempt -------------------------------------------------------- */

/* Divides what is left of the time by the places that are left. */
static void share_time(mb_driver_conn *conn, const mb_op *op)
{
  conn->opening.at = find_place(conn);
  const size_t left = conn->opening.n_places - conn->opening.at;
  conn->opening.share_end_ns = MB_NEVER;
  if (op->deadline_ns == MB_NEVER || conn->opening.n_places < 2)
    return;
  const int64_t now_ns = conn->host->now_ns();
  const int64_t rest_ns = op->deadline_ns - now_ns;
  if (rest_ns > 0)
    conn->opening.share_end_ns = now_ns + rest_ns / (int64_t)left;
}

/* libpq may have opened another socket, perhaps under the same number. */
static mb_status follow_socket(
    mb_driver_conn *conn, const mb_op *op, mb_error *error)
{
  struct stat file;
  const int fd = PQsocket(conn->pq);
  uint64_t number = 0;
  if (fd >= 0 && fstat(fd, &file) == 0)
    number = (uint64_t)file.st_ino;
  if (number == conn->opening.socket_number)
    return MB_OK;
  conn->opening.socket_number = number;
  conn->fd_serial++;
  share_time(conn, op);
  if (!pg_set_cancel_socket(conn->cancel, fd)) {
    conn->host->fail(error, MB_CONNECTIVITY, "the attempt was ended");
    error->flags = MB_CONNECTION_DEAD;
    return MB_ERROR;
  }
  return MB_OK;
}

static mb_status begin_attempt(mb_driver_conn *conn, mb_error *error)
{
  const mb_driver_connector *connector = conn->connector;
  const char *password = conn->opening.password != NULL ? conn->opening.password
                                                        : connector->password;
  const size_t room = connector->n + 5;
  const char **keywords =
      pg_arena_take(&conn->opening.texts, room * sizeof(char *));
  const char **values =
      pg_arena_take(&conn->opening.texts, room * sizeof(char *));
  if (keywords == NULL || values == NULL)
    return pg_out_of_memory(conn->host, error);
  size_t n = connector->n;
  memcpy((void *)keywords, (const void *)connector->keywords,
      n * sizeof *keywords);
  memcpy((void *)values, (const void *)connector->values, n * sizeof *values);
  const struct {
    const char *keyword, *value;
  } more[] = {
      {"host", join(conn, NAMES)},
      {"hostaddr", join(conn, ADDRESSES)},
      {"port", join(conn, PORTS)},
      {"password", password},
  };
  for (size_t i = 0; i < sizeof more / sizeof more[0]; i++) {
    if (i < 3 && more[i].value == NULL)
      return pg_out_of_memory(conn->host, error);
    keywords[n] = more[i].keyword;
    values[n++] = more[i].value;
  }
  keywords[n] = NULL;
  conn->pq = PQconnectStartParams(keywords, values, 0);
  if (conn->pq == NULL)
    return pg_out_of_memory(conn->host, error);
  /* Codes are in messages only when they are verbose. */
  (void)PQsetErrorVerbosity(conn->pq, PQERRORS_VERBOSE);
  (void)PQsetNoticeReceiver(conn->pq, pg_notice, conn);
  return PQstatus(conn->pq) == CONNECTION_BAD ? pg_fail_connect(conn, error)
                                              : MB_OK;
}

/* The place that is being tried has had its time. */
static mb_status leave_place(
    mb_driver_conn *conn, const mb_op *op, mb_error *error)
{
  const size_t at = conn->opening.at;
  if (conn->opening.n_places < 2 || at >= conn->opening.n_places)
    return MB_OK;
  memmove(&conn->opening.places[at], &conn->opening.places[at + 1],
      (conn->opening.n_places - at - 1) * sizeof *conn->opening.places);
  conn->opening.n_places--;
  (void)pg_set_cancel_socket(conn->cancel, -1);
  PQfinish(conn->pq);
  conn->pq = NULL;
  conn->opening.socket_number = 0;
  if (begin_attempt(conn, error) != MB_OK)
    return MB_ERROR;
  return follow_socket(conn, op, error);
}

/* --- The session -------------------------------------------------------- */

static bool has_setting(
    const mb_driver_conn *conn, const char *name, const char *wanted)
{
  const char *value = PQparameterStatus(conn->pq, name);
  return value != NULL && strncmp(value, wanted, strlen(wanted)) == 0;
}

static mb_status check_server(mb_driver_conn *conn, mb_error *error)
{
  const mb_host *host = conn->host;
  if (PQserverVersion(conn->pq) < VERSION_MIN)
    return host->fail(error, MB_UNSUPPORTED,
        "PostgreSQL 10 or a later one is needed, and this is %d.%d",
        PQserverVersion(conn->pq) / 10000,
        PQserverVersion(conn->pq) / 100 % 100);
  if (!has_setting(conn, "client_encoding", "UTF8"))
    return host->fail(error, MB_UNSUPPORTED,
        "the server does not speak UTF-8 with this session");
  return MB_OK;
}

/* A setting that the server does not take is the fault of the options. */
static mb_status settled(mb_driver_conn *conn, mb_op *op, mb_error *error)
{
  (void)op;
  (void)error;
  pg_arena_free(&conn->opening.texts);
  return MB_DONE;
}

static mb_status begin_session(mb_driver_conn *conn, mb_op *op, mb_error *error)
{
  conn->step = NULL;
  conn->connected = true;
  (void)PQsetErrorVerbosity(conn->pq, PQERRORS_DEFAULT);
  if (check_server(conn, error) != MB_OK)
    return MB_ERROR;
  if (PQsetnonblocking(conn->pq, 1) != 0 ||
      !pg_set_cancel_session(conn->cancel, conn->pq))
    return pg_out_of_memory(conn->host, error);
  /* Where sessions are shared, a name of somebody else's is never taken for
   * one's own. */
  const uint64_t mixed =
      ((uint64_t)conn->host->now_ns() ^ (uint64_t)(uintptr_t)conn >> 4) *
      UINT64_C(0x9E3779B97F4A7C15);
  (void)snprintf(conn->prefix, sizeof conn->prefix, "mb_%x_%x_",
      (unsigned)PQbackendPID(conn->pq), (unsigned)(mixed >> 32));
  pg_fill_capability(conn);
  pg_follow_settings(conn);
  conn->sets = true;
  return pg_flush_queue(conn, settled, op, error);
}

mb_status pg_go_on_connecting(
    mb_driver_conn *conn, unsigned ready, mb_op *op, mb_error *error)
{
  PostgresPollingStatusType wants = PGRES_POLLING_WRITING;
  if (ready == 0 && conn->host->now_ns() >= conn->opening.share_end_ns) {
    if (leave_place(conn, op, error) != MB_OK)
      return MB_ERROR;
  } else {
    conn->opening.in_tls = PQstatus(conn->pq) == CONNECTION_SSL_STARTUP;
    wants = PQconnectPoll(conn->pq);
    if (wants == PGRES_POLLING_FAILED)
      return pg_fail_connect(conn, error);
    if (follow_socket(conn, op, error) != MB_OK)
      return MB_ERROR;
    if (wants == PGRES_POLLING_OK)
      return begin_session(conn, op, error);
  }
  (void)pg_wait(conn, op,
      wants == PGRES_POLLING_READING ? MB_READABLE_FD : MB_WRITABLE_FD, 0);
  op->wait.deadline_ns = conn->opening.share_end_ns;
  return MB_WAIT;
}

mb_status pg_connect(mb_driver_connector *connector,
    const mb_connect_args *args, mb_driver_conn **out, mb_op *op,
    mb_error *error)
{
  const mb_host *host = connector->host;
  mb_driver_conn *conn = host->allocate(sizeof *conn);
  if (conn == NULL)
    return pg_out_of_memory(host, error);
  *conn = (mb_driver_conn){.host = host,
      .connector = connector,
      .owner = args->owner,
      .opening = {.texts = {.host = host}, .password = args->password},
      .sending = {.host = host}};
  *out = conn;
  conn->cancel = pg_make_cancel(host);
  if (conn->cancel == NULL)
    return pg_out_of_memory(host, error);
  if (pg_resolve_places(connector, args, &conn->opening.texts,
          &conn->opening.places, &conn->opening.n_places, error) != MB_OK ||
      begin_attempt(conn, error) != MB_OK ||
      follow_socket(conn, op, error) != MB_OK)
    return MB_ERROR;
  (void)pg_wait(conn, op, MB_WRITABLE_FD, 0);
  op->wait.deadline_ns = conn->opening.share_end_ns;
  return MB_WAIT;
}
