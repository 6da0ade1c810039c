/*
 * rows.c: results that are read row by row.
 *
 * query.c makes them; here they are read, and ended.
 */
#include "binding.h"

#include <limits.h>

/* --- Holding and letting go --------------------------------------------- */

/* Lets go of the connection and of what was read ahead. */
static void end(mb_lua *lua, mb_lua_rows *rows, bool finalizing)
{
  mb_cursor_close(&rows->cursor);
  if (rows->lease != NULL)
    mb_lua_lease_leave(lua, rows->lease, true, finalizing);
  rows->lease = NULL;
  mb_spool_free(rows->spool);
  rows->spool = NULL;
  rows->ended = true;
}

/* Ends rows that are observed. */
static void close_watched(lua_State *L, mb_lua *lua, mb_lua_rows *rows)
{
  mb_error error;
  const bool is_open = rows->cursor.conn != NULL;
  const int64_t since_ns = mb_now_ns();
  const mb_status status = mb_cursor_finish(&rows->cursor, &error);
  const int64_t taken_ns = mb_now_ns() - since_ns;
  if (is_open)
    rows->watch->drain_ns = taken_ns;
  rows->watch->server_ns += taken_ns;
  rows->watch->busy_ns += taken_ns;
  end(lua, rows, false);
  mb_lua_tell_rows(L, lua, 1, rows, status != MB_OK ? &error : NULL);
}

static void close_now(lua_State *L, mb_lua *lua, mb_lua_rows *rows)
{
  mb_error ignored;
  rows->pushing = false;
  if (rows->watch != NULL) {
    close_watched(L, lua, rows);
    return;
  }
  (void)!mb_cursor_finish(&rows->cursor, &ignored);
  end(lua, rows, false);
}

/* --- Reading ------------------------------------------------------------ */

/* What a fiber reads ahead where the database blocks. */
#define AHEAD_ROWS 64
#define AHEAD_BYTES 65536
#define AHEAD_NS 200000

/* What tells the Lua side that a fiber has to go on. */
static int give_wait(lua_State *L)
{
  lua_pushlightuserdata(L, (void *)(uintptr_t)&mb_lua_mark);
  return 1;
}

static inline mb_lua_rows *check_rows(lua_State *L, mb_lua *lua)
{
  mb_lua_head *head = mb_lua_called(L, lua);
  if (head == NULL || head->kind != MB_LUA_ROWS)
    head = mb_lua_check(L, 1, MB_LUA_ROWS);
  return (mb_lua_rows *)head;
}

/* What is not at the connection, or no longer. */
static mb_status fetch_elsewhere(
    mb_lua *lua, mb_lua_rows *rows, const mb_value **row, mb_error *error)
{
  if (rows->spool != NULL) {
    *row = mb_spool_next(rows->spool);
    if (*row != NULL)
      return MB_ROW;
    end(lua, rows, false);
  }
  if (!rows->closed)
    return MB_DONE;
  (void)mb_error_fill(error, MB_USAGE, "the rows are closed");
  return MB_ERROR;
}

/* Of rows that do not block: MB_WAIT where a fiber has to go on. */
static mb_status try_fetch(
    const mb_lua *lua, mb_lua_rows *rows, const mb_value **row, mb_error *error)
{
  mb_conn *conn = rows->cursor.conn;
  mb_status status = MB_WAIT;
  if (rows->pending) {
    rows->pending = false;
    status = mb_conn_resume(conn, 0, error);
    *row = rows->row;
    return status;
  }
  if (mb_cursor_is_ready(&rows->cursor))
    return mb_cursor_fetch(&rows->cursor, row, error);
  if (mb_conn_blocks(conn))
    return lua->fiber == NULL ? MB_WAIT
                              : mb_cursor_fetch_ahead(&rows->cursor, AHEAD_ROWS,
                                    AHEAD_BYTES, AHEAD_NS, row, error);
  if (lua->fiber != NULL)
    return mb_cursor_fetch(&rows->cursor, row, error);
  if (rows->watch != NULL)
    return MB_WAIT;
  mb_conn_set_blocking(conn, false);
  status = mb_cursor_fetch(&rows->cursor, &rows->row, error);
  mb_conn_set_blocking(conn, true);
  rows->pending = status == MB_WAIT;
  *row = rows->row;
  return status;
}

/* Functions of the program, which convert values, may wait themselves: their
 * rows are read and pushed on a fiber. */
static inline bool wants_fiber(const mb_lua *lua, const mb_lua_rows *rows)
{
  return rows->of_task && rows->config.has_hooks && lua->fiber == NULL;
}

__attribute__((always_inline)) static inline mb_status fetch(
    mb_lua *lua, mb_lua_rows *rows, const mb_value **row, mb_error *error)
{
  if (MB_RARELY(wants_fiber(lua, rows)))
    return MB_WAIT;
  if (rows->cursor.conn == NULL)
    return fetch_elsewhere(lua, rows, row, error);
  const int64_t since_ns = rows->watch != NULL ? mb_now_ns() : 0;
  const mb_status status = MB_RARELY(rows->of_task)
                               ? try_fetch(lua, rows, row, error)
                               : mb_cursor_fetch(&rows->cursor, row, error);
  if (rows->watch != NULL)
    rows->watch->server_ns += mb_now_ns() - since_ns;
  if (status == MB_ROW || status == MB_WAIT)
    return status;
  if (status == MB_ERROR)
    rows->closed = error->class == MB_USAGE;
  if (status == MB_ERROR || !mb_stmt_result(rows->cursor.stmt)->more_results)
    end(lua, rows, false);
  return status;
}

/* Values beside the rows at index 1 that a value needs, pushed. */
static inline void push_sink(
    lua_State *L, mb_lua *lua, mb_lua_rows *rows, mb_lua_sink *sink)
{
  sink->config = &rows->config;
  sink->lua = lua;
  sink->options = 0;
  sink->hooks = 0;
  if (rows->config.has_null) {
    compat_getuservalue(L, 1, MB_LUA_OPTIONS);
    sink->options = lua_gettop(L);
  }
  if (rows->config.has_hooks) {
    compat_getuservalue(L, 1, MB_LUA_HOOKS);
    sink->hooks = lua_isnil(L, -1) ? 0 : lua_gettop(L);
  }
}

static void push_array(
    lua_State *L, const mb_lua_sink *sink, const mb_value *row, size_t n)
{
  lua_createtable(L, n < INT_MAX ? (int)n : 0, 1);
  for (size_t i = 0; i < n; i++) {
    mb_lua_push_column(L, sink, &row[i], i);
    lua_rawseti(L, -2, (int)i + 1);
  }
  lua_pushinteger(L, (lua_Integer)n);
  lua_setfield(L, -2, "n");
}

/* Copies the names of the columns from the shape to beside the rows, from where
 * they are pushed faster.  False: there is no room. */
static bool copy_keys(lua_State *L, mb_lua_rows *rows)
{
  if (rows->keys_shape == rows->shape)
    return true;
  if (rows->n_columns > rows->keys_room)
    return false;
  compat_getuservalue(L, 1, MB_LUA_EXTRA);
  for (int i = 0; i < (int)rows->n_columns; i++) {
    lua_rawgeti(L, -1, i + 1);
    compat_setuservalue(L, 1, MB_LUA_KEYS + i);
  }
  lua_pop(L, 1);
  rows->keys_shape = rows->shape;
  return true;
}

/* Whether values need nothing but themselves. */
static inline bool is_plain(const mb_lua_sink *sink)
{
  return sink->options == 0 && sink->hooks == 0;
}

static inline void push_plain_value(
    lua_State *L, const mb_lua_rows *rows, const mb_value *value)
{
  if (!mb_lua_push_simple(L, &rows->config, value))
    mb_lua_push_value(L, &rows->config, value, 0);
}

/* Pushes a row by name when nothing has to be converted.  A NULL is set too: it
 * takes the place of an earlier column of its name. */
static void push_plain(
    lua_State *L, const mb_lua_rows *rows, const mb_value *row)
{
  const int n = (int)rows->n_columns;
  const int keys = compat_openvalues(L, 1);
  lua_createtable(L, 0, n);
  for (int i = 0; i < n; i++) {
    compat_pushvalue(L, keys, MB_LUA_KEYS + i);
    push_plain_value(L, rows, &row[i]);
    lua_rawset(L, -3);
  }
}

/* Rows that are observed have given what they were asked for since then. */
static void note_fetch(lua_State *L, mb_lua *lua, mb_lua_rows *rows,
    int64_t since_ns, mb_status status, const mb_error *error)
{
  rows->watch->busy_ns += mb_now_ns() - since_ns;
  rows->watch->rows += status == MB_ROW;
  if (status == MB_ERROR || rows->ended)
    mb_lua_tell_rows(L, lua, 1, rows, status == MB_ERROR ? error : NULL);
}

#if COMPAT_BUILDS_ROWS

/* From which row on a function is worth making. */
#  define BUILT_FROM 32

/* Pushes a row by name that a function makes of its values; it is kept with the
 * shape. */
static void push_built(lua_State *L, mb_lua_rows *rows, const mb_value *row)
{
  const int n = (int)rows->n_columns;
  if (!rows->builds) {
    mb_lua_helper(L, "row_builder");
    compat_getuservalue(L, 1, MB_LUA_EXTRA);
    lua_call(L, 1, 1);
    compat_setuservalue(L, 1, MB_LUA_KEYS);
    rows->builds = true;
    rows->keys_shape = 0;
  }
  luaL_checkstack(L, n + 10, "too many columns");
  compat_getuservalue(L, 1, MB_LUA_KEYS);
  for (int i = 0; i < n; i++)
    push_plain_value(L, rows, &row[i]);
  lua_call(L, n, 1);
}

/* Whether the next row by name is to be built. */
static bool builds(mb_lua_rows *rows)
{
  if (rows->n_pushed < BUILT_FROM) {
    rows->n_pushed++;
    return false;
  }
  return rows->n_columns > 0 && rows->n_columns <= rows->keys_room;
}

#endif

/* Pushes a row in the form that the rows give. */
static void push_row(
    lua_State *L, mb_lua *lua, mb_lua_rows *rows, const mb_value *row)
{
  mb_lua_sink sink;
  push_sink(L, lua, rows, &sink);
  if (rows->as_arrays) {
    push_array(L, &sink, row, rows->n_columns);
#if COMPAT_BUILDS_ROWS
  } else if (is_plain(&sink) && builds(rows)) {
    push_built(L, rows, row);
#endif
  } else if (is_plain(&sink) && copy_keys(L, rows)) {
    push_plain(L, rows, row);
  } else {
    compat_getuservalue(L, 1, MB_LUA_EXTRA);
    mb_lua_push_named(L, &sink, row, rows->n_columns, lua_gettop(L));
  }
}

/* From here to end_push what the row lies in stays, whatever a function of the
 * program or a finalizer does.  Inlined, for the place of the caller. */
__attribute__((always_inline)) static inline void begin_push(
    lua_State *L, mb_lua *lua, mb_lua_rows *rows)
{
  rows->pushing = true;
  if (rows->cursor.conn == NULL)
    return;
  if (lua->n_readers == MB_LUA_READERS)
    (void)mb_lua_usage(L, "calls are nested too deeply");
  lua->readers[lua->n_readers++] = (mb_lua_reader){.conn = rows->cursor.conn,
      .L = L,
      .handle = rows,
      .place = MB_LUA_PLACE()};
  mb_conn_read_begin(rows->cursor.conn);
}

static inline void end_push(lua_State *L, mb_lua *lua, mb_lua_rows *rows)
{
  mb_conn *conn = rows->cursor.conn;
  rows->pushing = false;
  if (conn != NULL) {
    lua->n_readers--;
    mb_conn_read_end(conn);
    if (mb_conn_borrow(conn) != rows->cursor.borrow)
      mb_conn_settle(conn);
  }
  if (rows->closed)
    close_now(L, lua, rows);
}

__attribute__((always_inline)) static inline mb_status push_fetched(
    lua_State *L, mb_lua *lua, mb_lua_rows *rows, mb_error *error)
{
  const mb_value *row;
  const mb_status status = fetch(lua, rows, &row, error);
  if (status == MB_ROW) {
    begin_push(L, lua, rows);
    push_row(L, lua, rows, row);
    end_push(L, lua, rows);
  } else if (status == MB_DONE) {
    lua_pushnil(L);
  }
  return status;
}

/* Pushes the next row, or nil. */
__attribute__((always_inline)) static inline mb_status push_next(
    lua_State *L, mb_lua *lua, mb_lua_rows *rows, mb_error *error)
{
  if (rows->watch == NULL)
    return push_fetched(L, lua, rows, error);
  const int64_t since_ns = mb_now_ns();
  const mb_status status = push_fetched(L, lua, rows, error);
  if (rows->watch != NULL && status != MB_WAIT)
    note_fetch(L, lua, rows, since_ns, status, error);
  return status;
}

/* In a for loop: there is no other way than to raise. */
static int rows_call(lua_State *L)
{
  mb_error error;
  mb_lua *lua = mb_lua_enter(L);
  mb_lua_rows *rows = check_rows(L, lua);
  const mb_status status = push_next(L, lua, rows, &error);
  if (status == MB_ERROR)
    return mb_lua_fail(L, NULL, &error, rows->pool, 0);
  return MB_RARELY(status == MB_WAIT) ? give_wait(L) : 1;
}

static int rows_next(lua_State *L)
{
  mb_error error;
  mb_lua *lua = mb_lua_enter(L);
  mb_lua_rows *rows = check_rows(L, lua);
  const mb_status status = push_next(L, lua, rows, &error);
  if (status == MB_ERROR)
    return mb_lua_fail(L, &rows->config, &error, rows->pool, 0);
  return MB_RARELY(status == MB_WAIT) ? give_wait(L) : 1;
}

/* n, value, value, …: n counts, so that a NULL in the first column does not end
 * the loop. */
int mb_lua_next_tuple(lua_State *L)
{
  mb_error error;
  mb_lua_sink sink;
  const mb_value *row;
  mb_lua *lua = mb_lua_enter(L);
  mb_lua_rows *rows = check_rows(L, lua);
  const int64_t since_ns = rows->watch != NULL ? mb_now_ns() : 0;
  const mb_status status = fetch(lua, rows, &row, &error);
  if (MB_RARELY(status == MB_WAIT))
    return give_wait(L);
  if (status != MB_ROW && rows->watch != NULL)
    note_fetch(L, lua, rows, since_ns, status, &error);
  if (status == MB_ERROR)
    return mb_lua_fail(L, NULL, &error, rows->pool, 0);
  if (status == MB_DONE) {
    lua_pushnil(L);
    return 1;
  }
  begin_push(L, lua, rows);
  push_sink(L, lua, rows, &sink);
  const int n = rows->n_columns < INT_MAX ? (int)rows->n_columns : 0;
  if (n > LUA_MINSTACK - 10)
    luaL_checkstack(L, n + 10, "too many columns");
  lua_pushinteger(L, (lua_Integer)++rows->count);
  if (is_plain(&sink))
    for (int i = 0; i < n; i++)
      push_plain_value(L, rows, &row[i]);
  else
    for (int i = 0; i < n; i++)
      mb_lua_push_column(L, &sink, &row[i], (size_t)i);
  end_push(L, lua, rows);
  if (rows->watch != NULL)
    note_fetch(L, lua, rows, since_ns, MB_ROW, NULL);
  return n + 1;
}

/* --- Methods ------------------------------------------------------------ */

int mb_lua_give_loop(lua_State *L, int index)
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
  return mb_lua_give_loop(L, 1);
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

/* Closing never raises: what goes wrong there goes wrong for the next user of
 * the connection, who is told. */
static int rows_close(lua_State *L)
{
  mb_lua *lua = mb_lua_enter(L);
  mb_lua_rows *rows = mb_lua_check(L, 1, MB_LUA_ROWS);
  rows->closed = true;
  /* A row that is being handed out goes first. */
  if (!rows->pushing || !mb_lua_is_running(L, rows))
    close_now(L, lua, rows);
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

/* A further result has columns of its own. */
static void follow_shape(lua_State *L, mb_lua *lua, mb_lua_rows *rows)
{
  mb_lua_push_shape(L, lua, rows->cursor.stmt);
  if (rows->config.has_hooks) {
    mb_lua_push_hooks(L, lua, &rows->config, -1);
    compat_setuservalue(L, 1, MB_LUA_HOOKS);
  }
  compat_setuservalue(L, 1, MB_LUA_EXTRA);
  rows->shape = rows->cursor.shape;
  rows->builds = false;
  rows->n_pushed = 0;
  rows->n_columns = rows->cursor.n_columns;
}

static int rows_next_result(lua_State *L)
{
  mb_error error;
  mb_lua *lua = mb_lua_enter(L);
  mb_lua_rows *rows = mb_lua_check(L, 1, MB_LUA_ROWS);
  const bool more = rows->cursor.conn != NULL &&
                    mb_stmt_result(rows->cursor.stmt)->more_results;
  if (more && mb_cursor_next_result(&rows->cursor, &error) == MB_ERROR) {
    end(lua, rows, false);
    if (rows->watch != NULL)
      mb_lua_tell_rows(L, lua, 1, rows, &error);
    return mb_lua_fail(L, &rows->config, &error, rows->pool, 0);
  }
  if (more)
    follow_shape(L, lua, rows);
  rows->ended = !more;
  /* The last result of a procedure has no columns, and is over already. */
  if (more && !mb_stmt_is_running(rows->cursor.stmt)) {
    end(lua, rows, false);
    if (rows->watch != NULL)
      mb_lua_tell_rows(L, lua, 1, rows, NULL);
  }
  lua_pushboolean(L, more);
  return 1;
}

/* block(rows): they are read by a program that blocks from here on. */
int mb_lua_block(lua_State *L)
{
  mb_lua_rows *rows = mb_lua_check(L, 1, MB_LUA_ROWS);
  rows->of_task = rows->pending;
  return 0;
}

/* returns_errors(rows): they give nil and the error. */
int mb_lua_returns_errors(lua_State *L)
{
  const mb_lua_rows *rows = mb_lua_check(L, 1, MB_LUA_ROWS);
  lua_pushboolean(L, rows->config.returns_errors);
  return 1;
}

static int rows_gc(lua_State *L)
{
  mb_lua *lua = mb_lua_of(L);
  mb_lua_rows *rows = mb_lua_check(L, 1, MB_LUA_ROWS);
  mb_lua_forget(L, lua, &rows->head);
  end(lua, rows, true);
  if (rows->watch != NULL)
    mb_lua_postpone_rows(L, 1, rows);
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
