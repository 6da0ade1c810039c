/*
 * rows.c: results that are read row by row.
 *
 * Rows hold their connection only while there is more to read: the first rows of
 * a Database's query are read ahead, and when that was all, the connection is
 * back before the first of them is handed out.
 */
#include "binding.h"

#include <limits.h>

/* What is read ahead of a Database's result. */
#define AHEAD_ROWS 64
#define AHEAD_BYTES 65536

/* --- Holding and letting go --------------------------------------------- */

/* Lets go of the connection; what was read ahead stays. */
static void let_go(mb_lua *lua, mb_lua_rows *rows, bool finalizing)
{
  if (rows->stmt != NULL) {
    if (mb_conn_borrow(rows->conn) == rows->borrow &&
        mb_stmt_run_number(rows->stmt) == rows->run)
      mb_stmt_drop(rows->stmt);
    mb_stmt_close(rows->stmt);
    rows->stmt = NULL;
  }
  if (rows->lease != NULL)
    mb_lua_lease_leave(lua, rows->lease, true, finalizing);
  rows->lease = NULL;
  if (rows->conn != NULL)
    mb_conn_unref(rows->conn);
  rows->conn = NULL;
}

static void end(mb_lua *lua, mb_lua_rows *rows, bool finalizing)
{
  let_go(lua, rows, finalizing);
  mb_spool_free(rows->spool);
  rows->spool = NULL;
  rows->ended = true;
}

/* --- Reading ------------------------------------------------------------ */

/* Reads on at the connection. */
static mb_status fetch_there(
    mb_lua *lua, mb_lua_rows *rows, const mb_value **row, mb_error *error)
{
  if (mb_conn_borrow(rows->conn) != rows->borrow ||
      mb_stmt_run_number(rows->stmt) != rows->run) {
    end(lua, rows, false);
    rows->closed = true;
    return mb_error_fill(error, MB_USAGE,
        "the rows were closed with their transaction or connection");
  }
  const mb_status status = mb_stmt_fetch(rows->stmt, row, error);
  if (status == MB_ERROR ||
      (status == MB_DONE && !mb_stmt_result(rows->stmt)->more_results))
    end(lua, rows, false);
  return status;
}

static mb_status fetch(
    mb_lua *lua, mb_lua_rows *rows, const mb_value **row, mb_error *error)
{
  if (rows->spool != NULL) {
    *row = mb_spool_next(rows->spool);
    if (*row != NULL)
      return MB_ROW;
    end(lua, rows, false);
    return MB_DONE;
  }
  if (rows->closed)
    return mb_error_fill(error, MB_USAGE, "the rows are closed");
  if (rows->ended)
    return MB_DONE;
  return fetch_there(lua, rows, row, error);
}

/* Values beside the rows at index 1 that a row needs, pushed. */
static int push_sink(
    lua_State *L, mb_lua *lua, mb_lua_rows *rows, mb_lua_sink *sink)
{
  sink->config = &rows->config;
  sink->lua = lua;
  sink->options = 0;
  sink->hooks = 0;
  /* The columns may have changed with the row that was fetched. */
  if (rows->stmt != NULL && mb_stmt_shape(rows->stmt) != rows->shape) {
    mb_lua_push_shape(L, lua, rows->stmt);
    mb_lua_push_hooks(L, lua, &rows->config, -1);
    compat_setuservalue(L, 1, MB_LUA_HOOKS);
    compat_setuservalue(L, 1, MB_LUA_EXTRA);
    rows->shape = mb_stmt_shape(rows->stmt);
    rows->n_columns = mb_stmt_result(rows->stmt)->n_columns;
  }
  compat_getuservalue(L, 1, MB_LUA_EXTRA);
  const int shape = lua_gettop(L);
  if (rows->config.has_null) {
    compat_getuservalue(L, 1, MB_LUA_OPTIONS);
    sink->options = lua_gettop(L);
  }
  if (rows->config.has_hooks) {
    compat_getuservalue(L, 1, MB_LUA_HOOKS);
    sink->hooks = lua_isnil(L, -1) ? 0 : lua_gettop(L);
  }
  return shape;
}

static void push_array(lua_State *L, const mb_lua_sink *sink,
    const mb_value *row, size_t n)
{
  lua_createtable(L, n < INT_MAX ? (int)n : 0, 1);
  for (size_t i = 0; i < n; i++) {
    mb_lua_push_column(L, sink, &row[i], i);
    lua_rawseti(L, -2, (int)i + 1);
  }
  lua_pushinteger(L, (lua_Integer)n);
  lua_setfield(L, -2, "n");
}

/* Pushes the next row in the form that the rows give, or nil. */
static mb_status push_next(
    lua_State *L, mb_lua *lua, mb_lua_rows *rows, mb_error *error)
{
  mb_lua_sink sink;
  const mb_value *row;
  const mb_status status = fetch(lua, rows, &row, error);
  if (status != MB_ROW) {
    if (status == MB_DONE)
      lua_pushnil(L);
    return status;
  }
  const int shape = push_sink(L, lua, rows, &sink);
  if (rows->as_arrays)
    push_array(L, &sink, row, rows->n_columns);
  else
    mb_lua_push_named(L, &sink, row, rows->n_columns, shape);
  return MB_ROW;
}

/* In a for loop: there is no other way than to raise. */
static int rows_call(lua_State *L)
{
  mb_error error;
  mb_lua *lua = mb_lua_enter(L);
  mb_lua_rows *rows = mb_lua_check(L, 1, MB_LUA_ROWS);
  lua_settop(L, 1);
  if (push_next(L, lua, rows, &error) == MB_ERROR)
    return mb_lua_fail(L, NULL, &error, rows->pool, 0);
  return 1;
}

static int rows_next(lua_State *L)
{
  mb_error error;
  mb_lua *lua = mb_lua_enter(L);
  mb_lua_rows *rows = mb_lua_check(L, 1, MB_LUA_ROWS);
  lua_settop(L, 1);
  if (push_next(L, lua, rows, &error) == MB_ERROR)
    return mb_lua_fail(L, &rows->config, &error, rows->pool, 0);
  return 1;
}

/* n, value, value, …: n counts, so that a NULL in the first column does not end
 * the loop. */
int mb_lua_next_tuple(lua_State *L)
{
  mb_error error;
  mb_lua_sink sink;
  const mb_value *row;
  mb_lua *lua = mb_lua_enter(L);
  mb_lua_rows *rows = mb_lua_check(L, 1, MB_LUA_ROWS);
  lua_settop(L, 1);
  const mb_status status = fetch(lua, rows, &row, &error);
  if (status == MB_ERROR)
    return mb_lua_fail(L, NULL, &error, rows->pool, 0);
  if (status == MB_DONE) {
    lua_pushnil(L);
    return 1;
  }
  (void)push_sink(L, lua, rows, &sink);
  const int n = rows->n_columns < INT_MAX ? (int)rows->n_columns : 0;
  luaL_checkstack(L, n + 8, "too many columns");
  lua_pushinteger(L, (lua_Integer)++rows->count);
  for (int i = 0; i < n; i++)
    mb_lua_push_column(L, &sink, &row[i], (size_t)i);
  return n + 1;
}

/* --- Methods ------------------------------------------------------------ */

/* The rows, at index on the top, as a for loop wants them: with what it closes. */
static int give_loop(lua_State *L, int index)
{
#if COMPAT_HAS_CLOSE
  lua_pushnil(L);
  lua_pushnil(L);
  lua_pushvalue(L, index);
  return 4;
#else
  (void)L;
  (void)index;
  return 1;
#endif
}

static int rows_tuples(lua_State *L)
{
  (void)mb_lua_check(L, 1, MB_LUA_ROWS);
  lua_settop(L, 1);
  mb_lua_helper(L, "next_tuple");
  lua_pushvalue(L, 1);
  lua_pushinteger(L, 0);
#if COMPAT_HAS_CLOSE
  lua_pushvalue(L, 1);
  return 4;
#else
  return 3;
#endif
}

static int rows_arrays(lua_State *L)
{
  mb_lua_rows *rows = mb_lua_check(L, 1, MB_LUA_ROWS);
  lua_settop(L, 1);
  rows->as_arrays = true;
  return give_loop(L, 1);
}

static int rows_all(lua_State *L)
{
  mb_error error;
  mb_lua *lua = mb_lua_enter(L);
  mb_lua_rows *rows = mb_lua_check(L, 1, MB_LUA_ROWS);
  lua_settop(L, 1);
  lua_newtable(L);
  for (int i = 1; i < INT_MAX; i++) {
    const mb_status status = push_next(L, lua, rows, &error);
    if (status == MB_ERROR)
      return mb_lua_fail(L, &rows->config, &error, rows->pool, 0);
    if (status == MB_DONE)
      break;
    lua_rawseti(L, 2, i);
    lua_settop(L, 2);
  }
  lua_settop(L, 2);
  return 1;
}

/* Ends the run in order: for the methods that close. */
static mb_status finish(mb_lua *lua, mb_lua_rows *rows, mb_error *error)
{
  mb_status status = MB_OK;
  if (rows->stmt != NULL && mb_conn_borrow(rows->conn) == rows->borrow &&
      mb_stmt_run_number(rows->stmt) == rows->run)
    status = mb_stmt_finish(rows->stmt, error);
  end(lua, rows, false);
  return status;
}

/* Closing never raises: what goes wrong there goes wrong for the next user of the
 * connection, who is told. */
static int rows_close(lua_State *L)
{
  mb_error ignored;
  mb_lua *lua = mb_lua_enter(L);
  mb_lua_rows *rows = mb_lua_check(L, 1, MB_LUA_ROWS);
  if (finish(lua, rows, &ignored) == MB_OK)
    rows->closed = true;
  rows->closed = true;
  return 0;
}

static int rows_is_closed(lua_State *L)
{
  const mb_lua_rows *rows = mb_lua_check(L, 1, MB_LUA_ROWS);
  lua_pushboolean(L, rows->closed || rows->ended);
  return 1;
}

/* columns(): a copy, which is the user's. */
static int rows_columns(lua_State *L)
{
  (void)mb_lua_check(L, 1, MB_LUA_ROWS);
  mb_lua_helper(L, "copy_columns");
  compat_getuservalue(L, 1, MB_LUA_EXTRA);
  lua_call(L, 1, 1);
  return 1;
}

static int rows_next_result(lua_State *L)
{
  mb_error error;
  mb_lua *lua = mb_lua_enter(L);
  mb_lua_rows *rows = mb_lua_check(L, 1, MB_LUA_ROWS);
  if (rows->stmt == NULL || !mb_stmt_result(rows->stmt)->more_results) {
    lua_pushboolean(L, 0);
    return 1;
  }
  const mb_status status = mb_stmt_next_result(rows->stmt, &error);
  if (status == MB_ERROR) {
    end(lua, rows, false);
    return mb_lua_fail(L, &rows->config, &error, rows->pool, 0);
  }
  lua_pushboolean(L, 1);
  return 1;
}

static int rows_gc(lua_State *L)
{
  mb_lua_rows *rows = mb_lua_check(L, 1, MB_LUA_ROWS);
  end(mb_lua_of(L), rows, true);
  return 0;
}

static int rows_tostring(lua_State *L)
{
  const mb_lua_rows *rows = mb_lua_check(L, 1, MB_LUA_ROWS);
  lua_pushfstring(L, "moonbase.Rows (%s)",
      rows->closed  ? "closed"
      : rows->ended ? "ended"
                    : "open");
  return 1;
}

/* --- Making ------------------------------------------------------------- */

/* What the rows need beside them; rows are on the top. */
static void attach(lua_State *L, mb_lua_run *run, mb_lua_rows *rows)
{
  const int handle = lua_gettop(L);
  mb_stmt *stmt = run->stmt;
  rows->config = *run->config;
  rows->pool = run->session->pool;
  compat_getuservalue(L, 1, MB_LUA_OPTIONS);
  compat_setuservalue(L, handle, MB_LUA_OPTIONS);
  lua_pushvalue(L, 1);
  compat_setuservalue(L, handle, MB_LUA_PARENT);
  mb_lua_push_shape(L, run->lua, stmt);
  if (rows->config.has_hooks) {
    mb_lua_push_hooks(L, run->lua, &rows->config, -1);
    compat_setuservalue(L, handle, MB_LUA_HOOKS);
  }
  compat_setuservalue(L, handle, MB_LUA_EXTRA);
  rows->shape = mb_stmt_shape(stmt);
  rows->n_columns = mb_stmt_result(stmt)->n_columns;
}

/* Hands the run, and a part in its borrow, to the rows on the top. */
static void hand_over(lua_State *L, mb_lua_run *run, mb_lua_rows *rows)
{
  const int handle = lua_gettop(L);
  mb_lua_lease *lease = NULL;
  if (run->session->head.kind == MB_LUA_DATABASE) {
    lease = mb_lua_run_lease(L, run);
    compat_setuservalue(L, handle, MB_LUA_LEASE);
  }
  rows->conn = run->conn;
  rows->borrow = mb_conn_borrow(run->conn);
  mb_conn_ref(rows->conn);
  rows->stmt = run->stmt;
  rows->run = mb_stmt_run_number(run->stmt);
  mb_stmt_keep(rows->stmt);
  if (lease != NULL) {
    mb_lua_lease_join(run->lua, lease, true);
    rows->lease = lease;
  }
  *run->frame = (mb_lua_frame){.conn = NULL};
}

/* Turns a run into Rows. */
static int give_rows(lua_State *L, mb_lua_run *run)
{
  luaL_checkstack(L, 16, NULL);
  const int top = lua_gettop(L);
  mb_lua_rows *rows =
      mb_lua_new(L, MB_LUA_ROWS, sizeof *rows, MB_LUA_HOOKS);
  attach(L, run, rows);
  if (run->status == MB_ROW &&
      run->session->head.kind == MB_LUA_DATABASE) {
    run->status =
        mb_stmt_prefetch(run->stmt, AHEAD_ROWS, AHEAD_BYTES, &run->error);
    if (run->status == MB_ERROR)
      return mb_lua_run_fail(L, run);
    if (run->status == MB_DONE && !mb_stmt_result(run->stmt)->more_results)
      rows->spool = mb_stmt_take_spool(run->stmt);
  }
  if (mb_stmt_run_number(run->stmt) != 0) {
    lua_insert(L, 2); /* out of the way of what is to be kept */
    run->params.first++;
    if (top >= run->params.first - 1)
      mb_lua_keep_values(L, &run->params, 2);
    lua_pushvalue(L, 2);
    hand_over(L, run, rows);
  } else {
    rows->ended = rows->spool == NULL;
  }
  mb_lua_run_leave(run);
  return give_loop(L, lua_gettop(L));
}

/* x:query(sql, …), statement:query(…): Rows. */
int mb_lua_query(lua_State *L)
{
  mb_lua_run run;
  if (!mb_lua_run_start(L, &run))
    return mb_lua_run_fail(L, &run);
  return give_rows(L, &run);
}

/* command(x, name, …): Rows of a command of the driver. */
int mb_lua_command(lua_State *L)
{
  mb_lua_run run;
  (void)mb_lua_check_session(L, 1);
  const char *name = luaL_checkstring(L, 2);
  mb_lua_run_open(L, &run);
  if (mb_lua_run_connect(L, &run) != MB_OK ||
      mb_lua_read_values(L, run.config, 3, &run.params, &run.error) != MB_OK)
    return mb_lua_run_fail(L, &run);
  run.status = mb_conn_command(run.conn, run.tx, name, run.params.values,
      run.params.n, &run.config->call, &run.stmt, &run.error);
  if (run.status == MB_ERROR)
    return mb_lua_run_fail(L, &run);
  mb_lua_run_note(&run);
  return give_rows(L, &run);
}

const luaL_Reg mb_lua_rows_methods[] = {
    {"next", rows_next},
    {"tuples", rows_tuples},
    {"arrays", rows_arrays},
    {"all", rows_all},
    {"columns", rows_columns},
    {"next_result", rows_next_result},
    {"close", rows_close},
    {"is_closed", rows_is_closed},
    {NULL, NULL},
};

const luaL_Reg mb_lua_rows_meta[] = {
    {"__call", rows_call},
    {"__gc", rows_gc},
    {"__close", rows_close},
    {"__tostring", rows_tostring},
    {NULL, NULL},
};
