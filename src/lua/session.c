/*
 * session.c: what a Database, a Connection and a Transaction have in common:
 * running SQL.  A Statement's methods are the same functions.
 */
#include "binding.h"

#include <limits.h>
#include <stdio.h>

/* --- Results ------------------------------------------------------------ */

static lua_Integer affected_of(const mb_result *result)
{
  return result->affected > 0 ? (lua_Integer)result->affected : 0;
}

/* Pushes the affected rows, and the generated id where there is one. */
static int push_totals(lua_State *L, const mb_result *result)
{
  lua_pushinteger(L, affected_of(result));
  if (!result->has_last_id)
    return 1;
  mb_lua_push_int64(L, result->last_id);
  return 2;
}

/* Options, shape and hooks of a run are pushed, in this order. */
static int push_sink(lua_State *L, mb_lua_run *run, mb_lua_sink *sink)
{
  sink->config = run->config;
  sink->lua = run->lua;
  sink->options = 0;
  sink->hooks = 0;
  mb_lua_push_shape(L, run->lua, run->stmt);
  const int shape = lua_gettop(L);
  if (run->config->has_null) {
    compat_getuservalue(L, 1, MB_LUA_OPTIONS);
    sink->options = lua_gettop(L);
  }
  if (run->config->has_hooks) {
    mb_lua_push_hooks(L, run->lua, run->config, shape);
    sink->hooks = lua_isnil(L, -1) ? 0 : lua_gettop(L);
  }
  return shape;
}

/* --- exec --------------------------------------------------------------- */

static mb_status drain(mb_lua_run *run)
{
  if (run->watch.events == 0)
    return mb_stmt_finish(run->stmt, &run->error);
  const int64_t since_ns = mb_now_ns();
  const mb_status status = mb_stmt_finish(run->stmt, &run->error);
  run->watch.drain_ns = mb_now_ns() - since_ns;
  run->watch.server_ns += run->watch.drain_ns;
  return status;
}

static int session_exec(lua_State *L)
{
  mb_lua_run run;
  const bool started = mb_lua_run_start(L, &run);
  run.watch.rows = -1;
  if (!started)
    return mb_lua_run_fail(L, &run);
  const mb_result *result = mb_stmt_result(run.stmt);
  /* Rows are not wanted; their end gives the totals. */
  if (run.status == MB_ROW && drain(&run) == MB_ERROR)
    return mb_lua_run_fail(L, &run);
  const int n = push_totals(L, result);
  if (!mb_lua_run_end(&run))
    return mb_lua_run_fail(L, &run);
  return n;
}

/* --- query_row, query_value, query_column, query_all --------------------- */

static void note_fetch(mb_lua_run *run)
{
  run->watch.server_ns += mb_now_ns() - run->watch.mark_ns;
  run->watch.rows += run->status == MB_ROW;
}

static inline void fetch(mb_lua_run *run, const mb_value **row)
{
  if (run->watch.events != 0)
    run->watch.mark_ns = mb_now_ns();
  run->status = mb_stmt_fetch(run->stmt, row, &run->error);
  if (run->watch.events != 0)
    note_fetch(run);
}

/* The first row, or NULL. */
static inline bool fetch_first(mb_lua_run *run, const mb_value **row)
{
  *row = NULL;
  if (run->status == MB_ROW)
    fetch(run, row);
  if (run->status != MB_ROW)
    *row = NULL;
  return run->status != MB_ERROR;
}

static int session_query_row(lua_State *L)
{
  mb_lua_run run;
  mb_lua_sink sink;
  const mb_value *row;
  if (!mb_lua_run_start(L, &run) || !fetch_first(&run, &row))
    return mb_lua_run_fail(L, &run);
  if (row == NULL) {
    lua_pushnil(L);
  } else {
    mb_lua_run_reads(&run, true);
    const int shape = push_sink(L, &run, &sink);
    if (run.watch.events != 0)
      mb_lua_watch_columns(&run.watch, run.stmt);
    mb_lua_push_named(
        L, &sink, row, mb_stmt_result(run.stmt)->n_columns, shape);
    mb_lua_run_reads(&run, false);
  }
  if (!mb_lua_run_end(&run))
    return mb_lua_run_fail(L, &run);
  return 1;
}

static int session_query_value(lua_State *L)
{
  mb_lua_run run;
  mb_lua_sink sink;
  const mb_value *row;
  if (!mb_lua_run_start(L, &run) || !fetch_first(&run, &row))
    return mb_lua_run_fail(L, &run);
  if (row == NULL) {
    lua_pushnil(L);
  } else {
    mb_lua_run_reads(&run, true);
    if (run.config->has_null || run.config->has_hooks) {
      (void)push_sink(L, &run, &sink);
      mb_lua_push_column(L, &sink, &row[0], 0);
    } else if (!mb_lua_push_simple(L, run.config, &row[0])) {
      mb_lua_push_value(L, run.config, &row[0], 0);
    }
    mb_lua_run_reads(&run, false);
  }
  if (!mb_lua_run_end(&run))
    return mb_lua_run_fail(L, &run);
  return 1;
}

/* The values of the first row as results; none without a row. */
static int session_query_values(lua_State *L)
{
  mb_lua_run run;
  mb_lua_sink sink = {.hooks = 0};
  const mb_value *row;
  int n = 0;
  if (!mb_lua_run_start(L, &run) || !fetch_first(&run, &row))
    return mb_lua_run_fail(L, &run);
  sink.config = run.config;
  if (row != NULL) {
    mb_lua_run_reads(&run, true);
    if (run.config->has_null || run.config->has_hooks)
      (void)push_sink(L, &run, &sink);
    const size_t n_columns = mb_stmt_result(run.stmt)->n_columns;
    n = n_columns < INT_MAX ? (int)n_columns : 0;
    if (n > LUA_MINSTACK - 10)
      luaL_checkstack(L, n + 10, "too many columns");
    for (int i = 0; i < n; i++)
      mb_lua_push_column(L, &sink, &row[i], (size_t)i);
    mb_lua_run_reads(&run, false);
  }
  if (!mb_lua_run_end(&run))
    return mb_lua_run_fail(L, &run);
  return n;
}

typedef void push_one(lua_State *L, const mb_lua_sink *sink,
    const mb_value *row, size_t n, int shape);

static void push_first_column(lua_State *L, const mb_lua_sink *sink,
    const mb_value *row, size_t n, int shape)
{
  (void)n;
  (void)shape;
  if (row[0].tag == MB_NULL && !sink->config->has_null)
    lua_pushlightuserdata(L, NULL); /* a list has no holes */
  else
    mb_lua_push_column(L, sink, &row[0], 0);
}

/* A finalizer may have ended the run, with its transaction. */
static mb_status next_row(mb_lua_run *run, const mb_value **row)
{
  *row = NULL;
  if (mb_stmt_run_number(run->stmt) != run->frame->run)
    return mb_error_fill(&run->error, MB_USAGE,
        "the rows were closed with their transaction or connection");
  fetch(run, row);
  return run->status;
}

/* Collects the rows of a run into the list on the top. */
static bool collect(lua_State *L, mb_lua_run *run, push_one *push)
{
  mb_lua_sink sink;
  const mb_value *row;
  if (run->watch.events != 0 && push == mb_lua_push_named)
    mb_lua_watch_columns(&run->watch, run->stmt);
  if (run->status != MB_ROW)
    return true;
  const int list = lua_gettop(L);
  const int shape = push_sink(L, run, &sink);
  const size_t n = mb_stmt_result(run->stmt)->n_columns;
  for (int i = 1; i < INT_MAX; i++) {
    run->status = next_row(run, &row);
    if (run->status != MB_ROW)
      break;
    mb_lua_run_reads(run, true);
    push(L, &sink, row, n, shape);
    lua_rawseti(L, list, i);
    mb_lua_run_reads(run, false);
  }
  lua_settop(L, list);
  return run->status != MB_ERROR;
}

static int query_list(lua_State *L, push_one *push)
{
  mb_lua_run run;
  if (!mb_lua_run_start(L, &run))
    return mb_lua_run_fail(L, &run);
  luaL_checkstack(L, 4, NULL);
  lua_newtable(L);
  if (!collect(L, &run, push) || !mb_lua_run_end(&run))
    return mb_lua_run_fail(L, &run);
  return 1;
}

static int session_query_column(lua_State *L)
{
  return query_list(L, push_first_column);
}

static int session_query_all(lua_State *L)
{
  return query_list(L, mb_lua_push_named);
}

bool mb_lua_run_give(lua_State *L, mb_lua_run *run)
{
  luaL_checkstack(L, 8, NULL);
  lua_createtable(L, 0, 3);
  lua_newtable(L);
  if (!collect(L, run, mb_lua_push_named))
    return false;
  lua_setfield(L, -2, "rows");
  const mb_result *result = mb_stmt_result(run->stmt);
  lua_pushinteger(L, affected_of(result));
  lua_setfield(L, -2, "affected");
  if (result->has_last_id) {
    mb_lua_push_int64(L, result->last_id);
    lua_setfield(L, -2, "id");
  }
  return true;
}

/* --- exec_script -------------------------------------------------------- */

/* Says which statement of a script has failed. */
static void name_statement(mb_error *error, int64_t number, size_t line)
{
  char message[MB_ERROR_ROOM / 2];
  size_t size;
  const mb_error given = *error;
  const char *text = mb_error_text(&given, MB_MESSAGE, &size);
  (void)snprintf(message, sizeof message, "statement %lld, at line %zu: %.*s",
      (long long)number, line, (int)size, text != NULL ? text : "");
  (void)mb_error_fill(error, given.class, message);
  for (int field = MB_DETAIL; field < MB_FIELD_COUNT; field++) {
    text = mb_error_text(&given, (mb_field)field, &size);
    mb_error_set_text(error, (mb_field)field, text, size);
  }
  error->flags = given.flags;
  error->origin = given.origin;
  error->native_code = given.native_code;
  error->constraint_kind = given.constraint_kind;
  error->position = given.position;
  error->entry = number;
}

static mb_status run_one(
    mb_lua_run *run, const char *sql, size_t size, const mb_call *call)
{
  if (mb_conn_statement(run->conn, sql, size, MB_STATEMENT_PLAIN, &run->stmt,
          &run->error) != MB_OK)
    return MB_ERROR;
  const mb_status status =
      mb_stmt_run(&run->stmt, run->tx, NULL, 0, call, &run->error);
  return status == MB_ROW ? mb_stmt_finish(run->stmt, &run->error) : status;
}

static mb_status run_script(
    mb_lua_run *run, const char *text, size_t size, int64_t *n)
{
  mb_script *script;
  const char *sql;
  size_t sql_size;
  size_t line;
  mb_call call = mb_lua_long_call(run->config);
  call.fetch_size = 0;
  if (mb_script_open(run->conn, text, size, &script, &run->error) != MB_OK)
    return MB_ERROR;
  mb_status status = MB_OK;
  while (status == MB_OK && mb_script_next(script, &sql, &sql_size, &line)) {
    (*n)++;
    status = run_one(run, sql, sql_size, &call);
    if (status == MB_ERROR) {
      if (run->error.position != 0)
        run->error.position += (size_t)(sql - text);
      name_statement(&run->error, *n, line);
    }
  }
  mb_script_close(script);
  return status;
}

/* exec_script(x, text): the number of statements. */
static int session_exec_script(lua_State *L)
{
  mb_lua_run run;
  size_t size;
  int64_t n = 0;
  (void)mb_lua_check_session(L, 1);
  if (lua_type(L, 2) != LUA_TSTRING)
    return mb_lua_usage(L, "the first argument is the script, a string");
  const char *text = lua_tolstring(L, 2, &size);
  mb_lua_run_open(L, &run);
  static const mb_tx_options unknown;
  run.writes = mb_pool_begin_writes(run.session->pool, &unknown);
  run.watch.is_query = true;
  run.watch.rows = -1;
  if (mb_lua_run_connect(L, &run) != MB_OK)
    return mb_lua_run_fail(L, &run);
  const int64_t since_ns = run.watch.events != 0 ? mb_now_ns() : 0;
  const mb_status status = run_script(&run, text, size, &n);
  if (run.watch.events != 0)
    run.watch.server_ns = mb_now_ns() - since_ns;
  run.watch.batch = n;
  if (status == MB_ERROR)
    return mb_lua_run_fail(L, &run);
  run.stmt = NULL;
  if (!mb_lua_run_end(&run))
    return mb_lua_run_fail(L, &run);
  lua_pushinteger(L, (lua_Integer)n);
  return 1;
}

/* leave(view): it can no longer be used; what it looks at goes on. */
int mb_lua_leave(lua_State *L)
{
  mb_lua_check_session(L, 1)->closed = true;
  return 0;
}

/* --- ping, quote, places ------------------------------------------------- */

static int session_ping(lua_State *L)
{
  mb_lua_run run;
  mb_lua_run_open(L, &run);
  if (mb_lua_run_connect(L, &run) != MB_OK ||
      mb_conn_ping(run.conn, &run.config->call, &run.error) != MB_OK)
    return mb_lua_run_fail(L, &run);
  if (!mb_lua_run_end(&run))
    return mb_lua_run_fail(L, &run);
  lua_pushboolean(L, 1);
  return 1;
}

/* The connection whose fragments are being joined; raises without one. */
static mb_conn *expanding(lua_State *L)
{
  mb_conn *conn = mb_lua_of(L)->expanding;
  if (conn == NULL)
    (void)mb_lua_usage(L, "this works only while a statement is being run");
  return conn;
}

/* quote(name): the name as the connection whose fragments are being joined
 * wants it. */
int mb_lua_quote(lua_State *L)
{
  mb_error error;
  size_t size;
  mb_conn *conn = expanding(L);
  const char *name = luaL_checklstring(L, 1, &size);
  const size_t room = 2 * size + 3;
  char *out = lua_newuserdata(L, room);
  if (mb_conn_quote(conn, name, size, out, room, &error) != MB_OK)
    return mb_lua_fail(L, NULL, &error, NULL, 0);
  lua_pushstring(L, out);
  return 1;
}

/* text(x, fragment): the text of a fragment for x's connection, and its
 * parameters. */
int mb_lua_text(lua_State *L)
{
  mb_lua_run run;
  (void)mb_lua_check_session(L, 1);
  lua_settop(L, 2);
  mb_lua_run_open(L, &run);
  if (mb_lua_run_connect(L, &run) != MB_OK ||
      mb_lua_run_expand(L, &run) != MB_OK)
    return mb_lua_run_fail(L, &run);
  if (!mb_lua_run_end(&run))
    return mb_lua_run_fail(L, &run);
  return 2;
}

/* places(text): style, number of parameters, and for each placeholder its first
 * byte (from 1), its size and its parameter (from 1), in one list. */
int mb_lua_places(lua_State *L)
{
  static const char *const styles[] = {
      [MB_STYLE_NONE] = "none",
      [MB_STYLE_QUESTION] = "?",
      [MB_STYLE_NUMBER] = "$",
      [MB_STYLE_NAME] = ":",
  };
  mb_error error;
  mb_places found;
  size_t size;
  const mb_capability *capability = mb_conn_capability(expanding(L));
  const char *text = luaL_checklstring(L, 1, &size);
  mb_place *places =
      lua_newuserdata(L, (mb_places_bound(text, size) + 1) * sizeof *places);
  if (mb_places_read(
          &capability->lexical, text, size, places, &found, &error) != MB_OK)
    return mb_lua_fail(L, NULL, &error, NULL, 0);
  lua_pushstring(L, styles[found.style]);
  lua_pushinteger(L, (lua_Integer)found.n_parameters);
  lua_newtable(L);
  for (size_t i = 0; i < found.n; i++) {
    const size_t numbers[] = {
        places[i].at + 1, places[i].size, places[i].parameter + 1};
    for (size_t k = 0; k < 3; k++) {
      lua_pushinteger(L, (lua_Integer)numbers[k]);
      lua_rawseti(L, -2, (int)(3 * i + k) + 1);
    }
  }
  return 3;
}

const luaL_Reg mb_lua_run_methods[] = {
    {"exec", session_exec},
    {"query_row", session_query_row},
    {"query_value", session_query_value},
    {"query_values", session_query_values},
    {"query_column", session_query_column},
    {"query_all", session_query_all},
    {"query", mb_lua_query},
    {NULL, NULL},
};

const luaL_Reg mb_lua_session_methods[] = {
    {"exec_script", session_exec_script},
    {"prepare", mb_lua_prepare},
    {"ping", session_ping},
    {NULL, NULL},
};
