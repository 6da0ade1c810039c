/*
 * command.c: what only PostgreSQL has, by name.
 *
 *   copy_in SQL       begins a COPY … FROM STDIN
 *   copy_data BYTES   goes on with it
 *   copy_end REASON   ends it, badly unless REASON is NULL; a row: affected
 *   copy_out SQL      rows of a COPY … TO STDOUT: data, of several lines each
 *   notifications S   waits for notifications, at most S seconds (NULL: for
 *                     ever); rows: channel, payload, pid
 */
#include "postgres.h"

#include <string.h>

#define NS_PER_SECOND 1e9

static bool is_text(const mb_value *value)
{
  return value->tag == MB_TEXT || value->tag == MB_BLOB;
}

static mb_status refuse(
    mb_driver_conn *conn, const char *wanted, mb_error *error)
{
  return conn->host->fail(error, MB_USAGE, "the command wants %s", wanted);
}

static mb_driver_stmt *make(mb_driver_conn *conn, pg_source source,
    const char *const *names, const mb_tag *tags, size_t n, mb_result *result,
    mb_error *error)
{
  mb_driver_stmt *stmt = pg_make_statement(conn, source, error);
  if (stmt == NULL)
    return NULL;
  if (pg_make_columns(stmt, names, tags, n, error) != MB_OK) {
    pg_close_statement(stmt);
    return NULL;
  }
  stmt->result = result;
  conn->current = stmt;
  pg_give_columns(stmt, result);
  return stmt;
}

/* --- COPY --------------------------------------------------------------- */

static mb_status copy_in(mb_driver_conn *conn, const mb_value *values, size_t n,
    mb_driver_stmt **out, mb_result *result, mb_op *op, mb_error *error)
{
  (void)out;
  (void)result;
  if (n != 1 || !is_text(&values[0]))
    return refuse(conn, "a COPY statement", error);
  return pg_copy_in_begin(
      conn, values[0].as.bytes.data, values[0].as.bytes.size, op, error);
}

static mb_status copy_data(mb_driver_conn *conn, const mb_value *values,
    size_t n, mb_driver_stmt **out, mb_result *result, mb_op *op,
    mb_error *error)
{
  (void)out;
  (void)result;
  if (n != 1 || !is_text(&values[0]))
    return refuse(conn, "bytes", error);
  return pg_copy_in_put(
      conn, values[0].as.bytes.data, values[0].as.bytes.size, op, error);
}

/* The end of a COPY is one row. */
static mb_status loaded(mb_driver_conn *conn, mb_op *op, mb_error *error)
{
  (void)op;
  (void)error;
  conn->current->loaded = conn->ended.affected;
  return MB_ROW;
}

static mb_status copy_end(mb_driver_conn *conn, const mb_value *values,
    size_t n, mb_driver_stmt **out, mb_result *result, mb_op *op,
    mb_error *error)
{
  static const char *const names[] = {"affected"};
  static const mb_tag tags[] = {MB_INT64};
  char reason[256] = "";
  if (n != 1 || (values[0].tag != MB_NULL && !is_text(&values[0])))
    return refuse(conn, "a reason, or NULL", error);
  const bool fails = values[0].tag != MB_NULL;
  const size_t size = fails ? values[0].as.bytes.size : 0;
  if (size > 0)
    memcpy(reason, values[0].as.bytes.data,
        size < sizeof reason ? size : sizeof reason - 1);
  *out = make(conn, PG_SOURCE_COPY_END, names, tags, 1, result, error);
  if (*out == NULL)
    return MB_ERROR;
  conn->ended = (mb_result){.affected = -1};
  conn->copy.then = loaded;
  return pg_copy_in_end(conn, fails ? reason : NULL, &conn->ended, op, error);
}

/* Rows follow, also when there is none. */
static mb_status flows(mb_driver_conn *conn, mb_op *op, mb_error *error)
{
  (void)conn;
  (void)op;
  (void)error;
  return MB_ROW;
}

static mb_status copy_out(mb_driver_conn *conn, const mb_value *values,
    size_t n, mb_driver_stmt **out, mb_result *result, mb_op *op,
    mb_error *error)
{
  static const char *const names[] = {"data"};
  static const mb_tag tags[] = {MB_BLOB};
  if (n != 1 || !is_text(&values[0]))
    return refuse(conn, "a COPY statement", error);
  *out = make(conn, PG_SOURCE_COPY, names, tags, 1, result, error);
  if (*out == NULL)
    return MB_ERROR;
  conn->copy.then = flows;
  return pg_copy_out_begin(
      conn, values[0].as.bytes.data, values[0].as.bytes.size, op, error);
}

static mb_status fetch_copy(
    mb_driver_stmt *stmt, mb_value *row, mb_op *op, mb_error *error)
{
  mb_driver_conn *conn = stmt->conn;
  row[0].tag = MB_BLOB;
  if (conn->copying != PG_COPY_OUT)
    return MB_DONE;
  return pg_copy_out_get(
      conn, &row[0].as.bytes.data, &row[0].as.bytes.size, op, error);
}

/* --- Notifications ------------------------------------------------------ */

/* Waits for a notification, or for the end of the time. */
static mb_status hear(mb_driver_conn *conn, mb_op *op, mb_error *error)
{
  const int64_t now_ns = conn->host->now_ns();
  if (PQisBusy(conn->pq) == 0 && PQstatus(conn->pq) == CONNECTION_BAD)
    return pg_fail_lost(conn, error);
  pg_hear(conn);
  const bool over = now_ns >= conn->heard.deadline_ns;
  if (conn->heard.first == NULL && !over) {
    if (atomic_load_explicit(&op->stop, memory_order_relaxed) != MB_GO_ON ||
        (op->deadline_ns != MB_NEVER && now_ns >= op->deadline_ns)) {
      conn->step = NULL;
      return conn->host->fail(error, MB_CANCELED, "nothing was heard in time");
    }
    conn->step = hear;
    (void)pg_wait(conn, op, MB_READABLE_FD, MB_WAIT_IDLE);
    op->wait.deadline_ns = conn->heard.deadline_ns;
    return MB_WAIT;
  }
  conn->step = NULL;
  return MB_ROW;
}

static bool read_seconds(const mb_value *value, double *out)
{
  *out = -1;
  if (value->tag == MB_INT64)
    *out = (double)value->as.integer;
  else if (value->tag == MB_DOUBLE)
    *out = value->as.real;
  else
    return value->tag == MB_NULL;
  return *out >= 0;
}

static mb_status notifications(mb_driver_conn *conn, const mb_value *values,
    size_t n, mb_driver_stmt **out, mb_result *result, mb_op *op,
    mb_error *error)
{
  static const char *const names[] = {"channel", "payload", "pid"};
  static const mb_tag tags[] = {MB_TEXT, MB_TEXT, MB_INT64};
  double seconds;
  if (n != 1 || !read_seconds(&values[0], &seconds))
    return refuse(conn, "a number of seconds, or NULL", error);
  *out = make(conn, PG_SOURCE_HEARD, names, tags, 3, result, error);
  if (*out == NULL)
    return MB_ERROR;
  const bool ends = seconds >= 0 && seconds < 1e9;
  conn->heard.deadline_ns =
      ends ? conn->host->now_ns() + (int64_t)(seconds * NS_PER_SECOND)
           : MB_NEVER;
  conn->request.sent = false;
  if (pg_has_queue(conn))
    return pg_flush_queue(conn, hear, op, error);
  (void)PQconsumeInput(conn->pq);
  return hear(conn, op, error);
}

static void view(mb_value *value, const char *text)
{
  value->tag = MB_TEXT;
  value->as.bytes.data = text;
  value->as.bytes.size = strlen(text);
}

/* The one that was given before is let go of first. */
static mb_status fetch_heard(mb_driver_stmt *stmt, mb_value *row)
{
  mb_driver_conn *conn = stmt->conn;
  PGnotify *heard = conn->heard.first;
  if (stmt->given && heard != NULL) {
    pg_forget_heard_first(conn);
    heard = conn->heard.first;
  }
  stmt->given = heard != NULL;
  if (heard == NULL)
    return MB_DONE;
  view(&row[0], heard->relname);
  view(&row[1], heard->extra);
  row[2].tag = MB_INT64;
  row[2].as.integer = heard->be_pid;
  return MB_ROW;
}

/* --- All of them -------------------------------------------------------- */

mb_status pg_fetch_special(
    mb_driver_stmt *stmt, mb_value *row, mb_op *op, mb_error *error)
{
  switch (stmt->source) {
  case PG_SOURCE_COPY:
    return fetch_copy(stmt, row, op, error);
  case PG_SOURCE_HEARD:
    return fetch_heard(stmt, row);
  default:
    if (stmt->given)
      return MB_DONE;
    stmt->given = true;
    row[0].tag = MB_INT64;
    row[0].as.integer = stmt->loaded;
    return MB_ROW;
  }
}

mb_status pg_finish_special(mb_driver_stmt *stmt, mb_op *op, mb_error *error)
{
  mb_driver_conn *conn = stmt->conn;
  if (stmt->source == PG_SOURCE_HEARD)
    pg_forget_heard(conn);
  if (stmt->source == PG_SOURCE_COPY && conn->copying == PG_COPY_OUT)
    return pg_copy_out_end(conn, stmt->result, op, error);
  return MB_DONE;
}

static const struct {
  const char *name;
  mb_status (*run)(mb_driver_conn *conn, const mb_value *values, size_t n,
      mb_driver_stmt **out, mb_result *result, mb_op *op, mb_error *error);
} commands[] = {
    {"copy_in", copy_in},
    {"copy_data", copy_data},
    {"copy_end", copy_end},
    {"copy_out", copy_out},
    {"notifications", notifications},
};

mb_status pg_command(mb_driver_conn *conn, const char *name,
    const mb_value *values, size_t n, mb_driver_stmt **out, mb_result *result,
    mb_op *op, mb_error *error)
{
  conn->copy.then = NULL;
  for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
    if (strcmp(name, commands[i].name) == 0)
      return commands[i].run(conn, values, n, out, result, op, error);
  return conn->host->fail(
      error, MB_UNSUPPORTED, "PostgreSQL has no command \"%.40s\"", name);
}
