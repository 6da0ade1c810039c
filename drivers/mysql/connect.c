/*
 * connect.c: connecting, to one host after the other until one answers.
 */
#include "mysql.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Galera: a node that is not part of its cluster. */
#define NODE_NOT_READY 1047
/* What may be sent and received at once: as much as the protocol can. */
#define PACKET_MAX (1024ul * 1024 * 1024)

static void set(MYSQL *db, enum mysql_option option, const char *value)
{
  if (value != NULL)
    (void)mysql_options(db, option, value);
}

static void set_options(MYSQL *db, const mb_driver_connector *connector,
    const mq_place *place, unsigned seconds, bool bound_all)
{
  const unsigned local_infile = connector->local_infile;
  const unsigned long packet_max = PACKET_MAX;
  const mq_bool yes = 1;
  const unsigned protocol =
      place->host != NULL ? MYSQL_PROTOCOL_TCP : MYSQL_PROTOCOL_SOCKET;
  (void)mysql_options(db, MYSQL_OPT_PROTOCOL, &protocol);
  (void)mysql_options(db, MYSQL_SET_CHARSET_NAME, "utf8mb4");
  (void)mysql_options(db, MYSQL_OPT_LOCAL_INFILE, &local_infile);
  (void)mysql_options(db, MYSQL_OPT_MAX_ALLOWED_PACKET, &packet_max);
  (void)mysql_options(db, MYSQL_REPORT_DATA_TRUNCATION, &yes);
  (void)mysql_options4(
      db, MYSQL_OPT_CONNECT_ATTR_ADD, "program_name", "moonbase");
  if (connector->compress)
    (void)mysql_options(db, MYSQL_OPT_COMPRESS, NULL);
  if (seconds > 0)
    (void)mysql_options(db, MYSQL_OPT_CONNECT_TIMEOUT, &seconds);
#if MQ_LIBMARIADB
  if (!bound_all)
    (void)mysql_options(db, MYSQL_OPT_NONBLOCK, NULL);
#endif
  if (bound_all) {
    (void)mysql_options(db, MYSQL_OPT_READ_TIMEOUT, &seconds);
    (void)mysql_options(db, MYSQL_OPT_WRITE_TIMEOUT, &seconds);
  }
  set(db, MYSQL_PLUGIN_DIR, connector->plugin_dir);
  set(db, MYSQL_DEFAULT_AUTH, connector->default_auth);
  set(db, MYSQL_SERVER_PUBLIC_KEY, connector->server_public_key);
#if !MQ_LIBMARIADB
  if (connector->get_server_public_key)
    (void)mysql_options(db, MYSQL_OPT_GET_SERVER_PUBLIC_KEY, &yes);
#endif
  mq_set_tls(db, connector, place);
}

/* Without the key that was named the libraries would ask whoever answers for
 * one, or print to stderr. */
static mb_status check_key(
    const mb_driver_connector *connector, mb_error *error)
{
  const char *path = connector->server_public_key;
  if (path == NULL || access(path, R_OK) == 0)
    return MB_OK;
  connector->host->fail(
      error, MB_CONNECTIVITY, "server_public_key: the file cannot be read");
  error->flags = MB_CONNECTION_DEAD;
  return MB_ERROR;
}

static mb_status refuse_plain(const mb_host *host, mb_error *error)
{
  host->fail(error, MB_CONNECTIVITY, "the server has no TLS, and tls wants it");
  error->flags = MB_CONNECTION_DEAD;
  return MB_ERROR;
}

typedef struct attempt {
  const mb_driver_connector *connector;
  mq_place place;
  const char *password;
  unsigned seconds;
  bool bound_all;
  bool is_careful; /* no method that sends the password itself */
  /* What it has come to. */
  bool held_back; /* the server wants such a method */
  bool server_has_tls;
} attempt;

static MYSQL *dial(attempt *one, mb_error *error)
{
  const mb_driver_connector *connector = one->connector;
  const mq_place *place = &one->place;
  MYSQL *db = mysql_init(NULL);
  if (db == NULL) {
    (void)mq_out_of_memory(connector->host, error);
    return NULL;
  }
  set_options(db, connector, place, one->seconds, one->bound_all);
  if (one->is_careful)
    mq_be_careful(db);
  if (place->host != NULL && place->tls != MQ_TLS_OFF)
    mq_forget_tls_errors();
  if (mysql_real_connect(db, place->host, connector->user, one->password,
          connector->database, place->port, place->socket,
          CLIENT_FOUND_ROWS | CLIENT_MULTI_RESULTS) == NULL)
    (void)mq_fail_connect(connector, place, db, error);
  else if (!mq_has_tls(db, place))
    (void)refuse_plain(connector->host, error);
  else
    return db;
  one->held_back = one->is_careful && mq_was_careful(db);
  one->server_has_tls = (db->server_capabilities & CLIENT_SSL) != 0;
  mq_hang_up(db);
  return NULL;
}

MYSQL *mq_dial(const mb_driver_connector *connector, const mq_place *place,
    const char *password, unsigned seconds, bool bound_all, mb_error *error)
{
  attempt one = {.connector = connector,
      .place = *place,
      .password = password,
      .seconds = seconds,
      .bound_all = bound_all,
      .is_careful = mq_wants_care(place)};
  if (check_key(connector, error) != MB_OK)
    return NULL;
  MYSQL *db = dial(&one, error);
  if (!one.held_back)
    return db;
  if (!one.server_has_tls && place->tls == MQ_TLS_REQUIRE) {
    (void)refuse_plain(connector->host, error);
    return NULL;
  }
  if (!one.server_has_tls)
    one.place.tls = MQ_TLS_OFF;
  one.is_careful = false;
  return dial(&one, error);
}

/* --- Making the session ours -------------------------------------------- */

mb_status mq_settle_session(mb_driver_conn *conn, mb_error *error)
{
  const char *settings = conn->connector->settings;
  return mq_run_text(conn, settings, strlen(settings), error);
}

/* What the server is, and which session this is there. */
static mb_status ask_server(
    mb_driver_conn *conn, const mq_place *place, mb_error *error)
{
  static const char sql[] =
      "select connection_id(), @@max_allowed_packet, @@sql_mode, version(), "
      "concat(@@hostname, ':', @@port, ':', @@server_id, ':', @@datadir)";
  MYSQL_ROW row;
  MYSQL_RES *rows = mq_ask(conn, sql, &row);
  if (rows == NULL)
    return mq_fail(conn, NULL, error);
  conn->max_packet = (size_t)strtoull(row[1], NULL, 10);
  (void)snprintf(
      conn->server_version, sizeof conn->server_version, "%s", row[3]);
  conn->is_mariadb = strstr(row[3], "MariaDB") != NULL;
  conn->has_tls = mysql_get_ssl_cipher(conn->db) != NULL;
  mq_fill_capability(conn, row[2]);
  const bool kept =
      mq_set_cancel_session(conn->cancel, place, mq_socket(conn->db),
          strtoull(row[0], NULL, 10), row[4] != NULL ? row[4] : "");
  mysql_free_result(rows);
  return kept ? MB_OK : mq_out_of_memory(conn->host, error);
}

/* Whether a variable or status of the server, the second column of what sql
 * gives, is the word. */
static bool says(mb_driver_conn *conn, const char *sql, const char *word)
{
  MYSQL_ROW row = NULL;
  MYSQL_RES *rows = mq_ask(conn, sql, &row);
  const bool same = rows != NULL && row[1] != NULL && strcmp(row[1], word) == 0;
  if (rows != NULL)
    mysql_free_result(rows);
  return same;
}

/* A node of a cluster that takes part in it answers; it says ON also when it
 * refuses everything else. */
static mb_status check_node(mb_driver_conn *conn, mb_error *error)
{
  if (!conn->is_mariadb || conn->connector->n_places < 2 ||
      !says(conn, "show variables like 'wsrep_on'", "ON") ||
      says(conn, "show status like 'wsrep_ready'", "ON"))
    return MB_OK;
  conn->host->fail(error, MB_CONNECTIVITY,
      "the node is not ready: it is not part of its cluster");
  error->native_code = NODE_NOT_READY;
  error->flags = MB_CONNECTION_DEAD;
  return MB_ERROR;
}

static mb_status try_place(mb_driver_conn *conn, const mq_place *place,
    unsigned seconds, mb_error *error)
{
  conn->db = mq_dial(conn->connector, place, mq_cancel_password(conn->cancel),
      seconds, false, error);
  if (conn->db == NULL)
    return MB_ERROR;
  if (mq_settle_session(conn, error) == MB_OK &&
      ask_server(conn, place, error) == MB_OK &&
      check_node(conn, error) == MB_OK)
    return MB_OK;
  mq_hang_up(conn->db);
  conn->db = NULL;
  conn->dead = false;
  /* There was no connection that could be lost. */
  if (error->class == MB_CONNECTION_LOST || error->class == MB_ENGINE)
    error->class = MB_CONNECTIVITY;
  error->flags = MB_CONNECTION_DEAD;
  return MB_ERROR;
}

/* The share of one place in the time that is left, in seconds rounded up. */
static unsigned share(const mb_host *host, const mb_op *op, size_t places)
{
  if (op->deadline_ns == MB_NEVER)
    return 0;
  const int64_t left_ns = (op->deadline_ns - host->now_ns()) / (int64_t)places;
  return left_ns <= 0 ? 1 : (unsigned)(left_ns / MQ_NS_PER_SECOND) + 1;
}

/* Where one has refused, another one may take: but not a wrong password. */
static bool is_final(const mb_error *error)
{
  return error->class == MB_PERMISSION || error->class == MB_SYNTAX ||
         (error->class == MB_RESOURCE && error->native_code == 0);
}

static mb_status try_places(mb_driver_conn *conn, mb_op *op, mb_error *error)
{
  const mb_driver_connector *connector = conn->connector;
  const size_t n = connector->n_places;
  for (size_t i = 0; i < n; i++) {
    if (i > 0 && mb_op_stopped(conn->host, op))
      return mq_fail_stopped(conn, error);
    if (try_place(conn, &connector->places[i], share(conn->host, op, n - i),
            error) == MB_OK)
      return MB_OK;
    if (is_final(error))
      break;
  }
  return MB_ERROR;
}

mb_status mq_connect(mb_driver_connector *connector,
    const mb_connect_args *args, mb_driver_conn **out, mb_op *op,
    mb_error *error)
{
  const mb_host *host = connector->host;
  mb_driver_conn *conn = host->allocate(sizeof *conn);
  if (conn == NULL)
    return mq_out_of_memory(host, error);
  *conn = (mb_driver_conn){.host = host, .connector = connector};
  conn->cancel = mq_make_cancel(
      connector, args->password != NULL ? args->password : connector->password);
  if (conn->cancel == NULL) {
    host->release(conn);
    return mq_out_of_memory(host, error);
  }
  *out = conn;
  return try_places(conn, op, error);
}
