/*
 * query.c: turns a run into Rows.
 *
 * Rows hold their connection only while there is more to read: the first rows
 * of a Database's query are read ahead, and when that was all, the connection
 * is back before the first of them is handed out.
 */
#include "binding.h"

/* What is read ahead of a Database's result. */
#define AHEAD_ROWS 64
#define AHEAD_BYTES 65536

/* Names of columns that are kept beside the rows themselves. */
#define KEYS_MAX 64

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
  rows->of_task = run->lua->task != NULL;
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
  mb_cursor_open(&rows->cursor, run->stmt);
  if (lease != NULL) {
    mb_lua_lease_join(run->lua, lease, true);
    rows->lease = lease;
  }
  run->frame->conn = NULL;
  run->frame->stmt = NULL;
}

/* The rows on the top are observed: tells what is to be told of the call, and
 * of them when nothing is to come. */
static void give_watched(lua_State *L, mb_lua_run *run, mb_lua_rows *rows)
{
  rows->watch->busy_ns = mb_now_ns() - rows->watch->start_ns;
  mb_lua_watch_tell(L, run, NULL);
  if (rows->ended)
    mb_lua_tell_rows(L, run->lua, lua_gettop(L), rows, NULL);
}

/* Turns a run into Rows; ahead: a Database's are read ahead. */
static int give_rows(lua_State *L, mb_lua_run *run, bool ahead)
{
  luaL_checkstack(L, 16, NULL);
  const int top = lua_gettop(L);
  const size_t n = mb_stmt_result(run->stmt)->n_columns;
  const int keys = n <= KEYS_MAX ? (int)n : 0;
  const bool watched = run->watch.events != 0;
  mb_lua_rows *rows =
      mb_lua_new(L, MB_LUA_ROWS, sizeof *rows, MB_LUA_HOOKS + keys + watched);
  rows->keys_room = (size_t)keys;
  attach(L, run, rows);
  if (ahead && run->status == MB_ROW &&
      run->session->head.kind == MB_LUA_DATABASE) {
    const int64_t since_ns = watched ? mb_now_ns() : 0;
    run->status =
        mb_stmt_prefetch(run->stmt, AHEAD_ROWS, AHEAD_BYTES, &run->error);
    if (watched)
      run->watch.server_ns += mb_now_ns() - since_ns;
    if (run->status == MB_ERROR)
      return mb_lua_run_fail(L, run);
    if (run->status == MB_DONE && !mb_stmt_result(run->stmt)->more_results)
      rows->spool = mb_stmt_take_spool(run->stmt);
  }
  if (watched) {
    mb_lua_watch_columns(&run->watch, run->stmt);
    mb_lua_watch_rows(L, run, rows);
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
  if (watched)
    give_watched(L, run, rows);
  return mb_lua_give_loop(L, lua_gettop(L));
}

/* x:query(sql, …), statement:query(…): Rows. */
int mb_lua_query(lua_State *L)
{
  mb_lua_run run;
  if (!mb_lua_run_start(L, &run))
    return mb_lua_run_fail(L, &run);
  return give_rows(L, &run, true);
}

/* command(x, name, …): Rows of a command of the driver, each of which is what
 * has just been done. */
int mb_lua_command(lua_State *L)
{
  mb_lua_run run;
  (void)mb_lua_check_session(L, 1);
  const char *name = luaL_checkstring(L, 2);
  mb_lua_run_open(L, &run);
  if (mb_lua_run_connect(L, &run) != MB_OK ||
      mb_lua_read_values(L, run.config, 3, &run.params, &run.error) != MB_OK)
    return mb_lua_run_fail(L, &run);
  const mb_call call = mb_lua_long_call(run.config);
  run.status = mb_conn_command(run.conn, run.tx, name, run.params.values,
      run.params.n, &call, &run.stmt, &run.error);
  if (run.status == MB_ERROR)
    return mb_lua_run_fail(L, &run);
  mb_lua_run_note(&run);
  return give_rows(L, &run, false);
}

/* control(db, name, …): runs a command of the driver that needs no connection,
 * and gives its value. */
int mb_lua_control(lua_State *L)
{
  mb_error error;
  mb_lua_params params;
  mb_value result;
  const mb_lua_session *session = mb_lua_check_session(L, 1);
  const char *name = luaL_checkstring(L, 2);
  const mb_lua_config config = {.returns_errors = false};
  (void)mb_lua_enter(L);
  if (mb_lua_read_values(L, &config, 3, &params, &error) != MB_OK ||
      mb_pool_control(session->pool, name, params.values, params.n, &result,
          &error) != MB_OK)
    return mb_lua_fail(L, NULL, &error, session->pool, 0);
  mb_lua_push_value(L, &config, &result, 0);
  return 1;
}
