/*
 * statement.c: prepared statements.
 *
 * A statement of a connection keeps what the core has prepared; one of a
 * Database keeps its text only, and is found in the cache of whatever
 * connection it gets.
 */
#include "binding.h"

#include <limits.h>
#include <string.h>

/* --- Making ------------------------------------------------------------- */

/* prepare(x, sql): a Statement. */
int mb_lua_prepare(lua_State *L)
{
  mb_lua_run run;
  size_t size;
  (void)mb_lua_check_session(L, 1);
  if (lua_type(L, 2) != LUA_TSTRING)
    return mb_lua_usage(L, "the first argument is the SQL text, a string");
  const char *text = lua_tolstring(L, 2, &size);
  mb_lua_run_open(L, &run);
  run.text = 2;
  if (mb_lua_run_connect(L, &run) != MB_OK ||
      mb_conn_statement(run.conn, text, size,
          run.config->is_plain ? MB_STATEMENT_PLAIN : 0, &run.stmt,
          &run.error) != MB_OK ||
      mb_stmt_prepare(run.stmt, run.tx, &run.config->call, &run.error) != MB_OK)
    return mb_lua_run_fail(L, &run);

  mb_lua_statement *made =
      mb_lua_new(L, MB_LUA_STATEMENT, sizeof *made, MB_LUA_EXTRA);
  const int handle = lua_gettop(L);
  compat_getuservalue(L, 1, MB_LUA_OPTIONS);
  compat_setuservalue(L, handle, MB_LUA_OPTIONS);
  lua_pushvalue(L, 1);
  compat_setuservalue(L, handle, MB_LUA_PARENT);
  lua_pushvalue(L, 2);
  compat_setuservalue(L, handle, MB_LUA_EXTRA);
  made->session = run.session;
  if (run.session->head.kind != MB_LUA_DATABASE) {
    made->conn = run.conn;
    made->borrow = mb_conn_borrow(run.conn);
    mb_conn_ref(made->conn);
    made->stmt = run.stmt;
    mb_stmt_keep(made->stmt);
  }
  run.stmt = NULL;
  if (!mb_lua_run_end(&run))
    return mb_lua_run_fail(L, &run);
  return 1;
}

/* --- What it is --------------------------------------------------------- */

/* Opens a call on the statement at index 1 and finds what the core has of it,
 * prepared. */
static mb_status open_prepared(lua_State *L, mb_lua_run *run)
{
  (void)mb_lua_check(L, 1, MB_LUA_STATEMENT);
  mb_lua_run_open(L, run);
  if (mb_lua_run_connect(L, run) != MB_OK || mb_lua_run_find(L, run) != MB_OK)
    return MB_ERROR;
  return mb_stmt_prepare(run->stmt, run->tx, &run->config->call, &run->error);
}

static int statement_columns(lua_State *L)
{
  mb_lua_run run;
  if (open_prepared(L, &run) != MB_OK)
    return mb_lua_run_fail(L, &run);
  mb_lua_helper(L, "copy_columns");
  mb_lua_push_description(L, mb_stmt_result(run.stmt));
  lua_call(L, 1, 1);
  run.stmt = NULL;
  if (!mb_lua_run_end(&run))
    return mb_lua_run_fail(L, &run);
  return 1;
}

/* parameters(): how many they are, and their names where they have any. */
static int statement_parameters(lua_State *L)
{
  mb_lua_run run;
  if (open_prepared(L, &run) != MB_OK)
    return mb_lua_run_fail(L, &run);
  const size_t n = mb_stmt_n_parameters(run.stmt);
  int results = 1;
  lua_pushinteger(L, (lua_Integer)n);
  if (mb_stmt_style(run.stmt) == MB_STYLE_NAME) {
    lua_createtable(L, n < INT_MAX ? (int)n : 0, 0);
    for (size_t i = 0; i < n; i++) {
      size_t size;
      const char *name = mb_stmt_parameter(run.stmt, i, &size);
      lua_pushlstring(L, name, size);
      lua_rawseti(L, -2, (int)i + 1);
    }
    results = 2;
  }
  run.stmt = NULL;
  if (!mb_lua_run_end(&run))
    return mb_lua_run_fail(L, &run);
  return results;
}

/* source(statement): the handle that it was prepared by, and its text. */
int mb_lua_source(lua_State *L)
{
  const mb_lua_statement *statement = mb_lua_check(L, 1, MB_LUA_STATEMENT);
  if (statement->closed)
    return mb_lua_usage(L, "the statement is closed");
  compat_getuservalue(L, 1, MB_LUA_PARENT);
  compat_getuservalue(L, 1, MB_LUA_EXTRA);
  return 2;
}

/* --- Many rows ---------------------------------------------------------- */

/* Parameters that are read before they are sent: many where the database has a
 * way of its own for many rows. */
#define CHUNK_VALUES 1024
#define CHUNK_VALUES_MANY 65536
/* Values of a chunk that may lie on the stack, since they have to. */
#define STACK_VALUES 2048
#define PILE 16 /* values of a row that may lie on the stack unneeded */

/* Reads row number i of the list at index rows into values. */
static mb_status read_row(
    lua_State *L, mb_lua_run *run, int rows, int64_t i, int n, mb_value *values)
{
  const int row = lua_gettop(L) + 1;
  if (compat_rawgeti(L, rows, (int)i) != LUA_TTABLE ||
      mb_lua_table_kind(L, row) > 0)
    return mb_error_fill(&run->error, MB_USAGE, "a row is no list of values");
  if (lua_rawlen(L, row) > (size_t)n)
    return mb_error_fill(
        &run->error, MB_USAGE, "a row has more values than are wanted");
  /* The row holds its values, unless reading one has made something new, or a
   * function of the program could change the row meanwhile. */
  bool keeps = run->session->has_setup;
  int at = row;
  for (int k = 1; k <= n; k++, values++) {
    const int type = compat_rawgeti(L, row, k);
    at++;
    if (!mb_lua_read_simple(L, type, at, values) &&
        !mb_lua_read_marked(L, run->lua, run->config, type, at, values)) {
      if (mb_lua_read_value(L, run->config, at, values, &run->error) != MB_OK)
        return mb_lua_name_parameter(&run->error, NULL, 0, (size_t)k);
      keeps |= lua_gettop(L) > at;
      at = lua_gettop(L);
    }
    if (keeps) {
      luaL_checkstack(L, PILE + 8, "too many values");
    } else if (at == row + PILE) {
      lua_settop(L, row);
      at = row;
    }
  }
  if (!keeps)
    lua_settop(L, row - 1);
  return MB_OK;
}

/* Rows of a list that are read and run together. */
typedef struct chunk {
  int list; /* index */
  int64_t first, last;
  int64_t number;   /* of the first one, in an error */
  mb_value *values; /* of all of them */
  size_t n;         /* of one */
  size_t size;      /* of the bytes of those that were read */
} chunk;

static size_t size_of(const mb_value *values, size_t n)
{
  size_t size = 0;
  for (size_t i = 0; i < n; i++)
    if (values[i].tag >= MB_TEXT && values[i].tag <= MB_OTHER)
      size += values[i].as.bytes.size;
  return size;
}

/* Reads the rows of a chunk, or its first ones: last is moved to the last one
 * that was read. */
static mb_status read_chunk(lua_State *L, mb_lua_run *run, chunk *one)
{
  const int top = lua_gettop(L);
  mb_value *values = one->values;
  for (int64_t i = one->first; i <= one->last; i++) {
    if (read_row(L, run, one->list, i, (int)one->n, values) != MB_OK) {
      run->error.row = one->number + i - one->first;
      return MB_ERROR;
    }
    one->size += size_of(values, one->n);
    values += one->n;
    if (lua_gettop(L) - top > STACK_VALUES)
      one->last = i;
  }
  return MB_OK;
}

/* Runs the statement for the rows of a chunk. */
static mb_status run_chunk(lua_State *L, mb_lua_run *run, chunk *one)
{
  const int top = lua_gettop(L);
  mb_lua_run_reads(run, true);
  if (read_chunk(L, run, one) != MB_OK)
    return MB_ERROR;
  mb_lua_run_reads(run, false);
  const int64_t since_ns = run->watch.events != 0 ? mb_now_ns() : 0;
  const mb_call call = mb_lua_long_call(run->config);
  const mb_status status = mb_stmt_run_many(&run->stmt, run->tx, one->values,
      one->n, (size_t)(one->last - one->first + 1), one->number, &call,
      &run->error);
  if (run->watch.events != 0)
    run->watch.server_ns += mb_now_ns() - since_ns;
  lua_settop(L, top);
  return status;
}

static int64_t chunk_rows(const mb_lua_run *run, size_t n)
{
  const char *way = mb_conn_capability(run->conn)->bulk_insert;
  const size_t values = way == NULL || strcmp(way, "prepared") == 0
                            ? CHUNK_VALUES
                            : CHUNK_VALUES_MANY;
  return n < values ? (int64_t)(values / (n + 1)) + 1 : 1;
}

/* insert_rows(statement, rows, first, last, number): runs the statement once
 * for each of rows[first … last]; number is that of the first in an error.
 * Gives the affected rows, the first generated id or nil, and the size of what
 * was sent. */
int mb_lua_insert_rows(lua_State *L)
{
  mb_lua_run run;
  (void)mb_lua_check(L, 1, MB_LUA_STATEMENT);
  luaL_checktype(L, 2, LUA_TTABLE);
  const int64_t first = (int64_t)luaL_checknumber(L, 3);
  const int64_t last = (int64_t)luaL_checknumber(L, 4);
  chunk one = {
      .list = 2, .first = first, .number = (int64_t)luaL_checknumber(L, 5)};
  const mb_status opened = open_prepared(L, &run);
  run.watch.is_query = true;
  run.watch.rows = -1;
  run.watch.batch = last - first + 1;
  if (opened != MB_OK)
    return mb_lua_run_fail(L, &run);

  one.n = mb_stmt_n_parameters(run.stmt);
  int64_t rows = chunk_rows(&run, one.n);
  if (rows > last - first + 1)
    rows = last - first + 1;
  one.values =
      lua_newuserdata(L, ((size_t)rows * one.n + 1) * sizeof *one.values);
  int64_t affected = 0;
  int64_t id = 0;
  bool has_id = false;
  luaL_checkstack(L, 32, NULL);
  while (one.first <= last) {
    one.last = last - one.first < rows ? last : one.first + rows - 1;
    if (run_chunk(L, &run, &one) == MB_ERROR)
      return mb_lua_run_fail(L, &run);
    const mb_result *result = mb_stmt_result(run.stmt);
    affected += result->affected > 0 ? result->affected : 0;
    if (!has_id && result->has_last_id) {
      has_id = true;
      id = result->last_id;
    }
    one.number += one.last - one.first + 1;
    one.first = one.last + 1;
  }
  run.stmt = NULL;
  if (!mb_lua_run_end(&run))
    return mb_lua_run_fail(L, &run);
  lua_pushinteger(L, (lua_Integer)affected);
  if (has_id)
    mb_lua_push_int64(L, id);
  else
    lua_pushnil(L);
  lua_pushnumber(L, (lua_Number)one.size);
  return 3;
}

/* --- Closing ------------------------------------------------------------ */

static void close_statement(mb_lua_statement *statement)
{
  mb_stmt_close(statement->stmt);
  statement->stmt = NULL;
  if (statement->conn != NULL)
    mb_conn_unref(statement->conn);
  statement->conn = NULL;
  statement->closed = true;
}

static int statement_close(lua_State *L)
{
  close_statement(mb_lua_check(L, 1, MB_LUA_STATEMENT));
  return 0;
}

static int statement_gc(lua_State *L)
{
  mb_lua_statement *statement = mb_lua_check(L, 1, MB_LUA_STATEMENT);
  mb_lua_forget(L, mb_lua_of(L), &statement->head);
  close_statement(statement);
  return 0;
}

static int statement_is_closed(lua_State *L)
{
  const mb_lua_statement *statement = mb_lua_check(L, 1, MB_LUA_STATEMENT);
  lua_pushboolean(L, statement->closed || (statement->conn != NULL &&
                                              mb_conn_borrow(statement->conn) !=
                                                  statement->borrow));
  return 1;
}

static int statement_tostring(lua_State *L)
{
  const mb_lua_statement *statement = mb_lua_check(L, 1, MB_LUA_STATEMENT);
  compat_getuservalue(L, 1, MB_LUA_EXTRA);
  const char *text = lua_tostring(L, -1);
  lua_pushfstring(L, "moonbase.Statement (%s%s)", text != NULL ? text : "",
      statement->closed ? ", closed" : "");
  return 1;
}

const luaL_Reg mb_lua_statement_methods[] = {
    {"columns", statement_columns},
    {"parameters", statement_parameters},
    {"close", statement_close},
    {"is_closed", statement_is_closed},
    {NULL, NULL},
};

const luaL_Reg mb_lua_statement_meta[] = {
    {"__gc", statement_gc},
    {"__close", statement_close},
    {"__tostring", statement_tostring},
    {NULL, NULL},
};
