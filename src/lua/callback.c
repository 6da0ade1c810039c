/*
 * callback.c: Lua functions that the database calls.
 *
 * They run while a call of the binding is going on, on its stack.  The database
 * may forget them later than the Lua state lives, so what it holds is an anchor
 * that knows whether the state is still there.
 */
#include "binding.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct callback {
  mb_lua_anchor *anchor; /* a reference */
  const mb_pool *pool;   /* whose connection knows it; to be compared only */
  int ref;               /* in the registry: a table of what follows */
} callback;

/* The function or step, the end of a group, the last result, and what calls
 * them (mb_lua_call_back). */
enum { CALL = 1, FINISH, RESULT, CALL_BACK };

static mb_lua_anchor *hold_anchor(mb_lua *lua)
{
  if (lua->anchor == NULL) {
    lua->anchor = malloc(sizeof *lua->anchor);
    if (lua->anchor == NULL)
      return NULL;
    *lua->anchor = (mb_lua_anchor){.L = lua->main, .lua = lua};
  }
  lua->anchor->refs++;
  return lua->anchor;
}

static void release_anchor(mb_lua_anchor *anchor)
{
  if (--anchor->refs > 0)
    return;
  if (anchor->lua != NULL)
    anchor->lua->anchor = NULL;
  free(anchor);
}

void mb_lua_leave_anchor(mb_lua *lua)
{
  if (lua->anchor == NULL)
    return;
  lua->anchor->L = NULL;
  lua->anchor->lua = NULL;
  lua->anchor = NULL;
}

static mb_status state_is_closed(mb_error *error)
{
  return mb_error_fill(
      error, MB_USAGE, "the Lua state of a function is closed");
}

/* Says whose value it is that cannot be used. */
static mb_status name_result(mb_error *error)
{
  char message[512];
  size_t size;
  const char *why = mb_error_text(error, MB_MESSAGE, &size);
  if (error->class != MB_USAGE || why == NULL)
    return MB_ERROR;
  (void)snprintf(message, sizeof message, "the result of the function %.*s",
      (int)size, why);
  return mb_error_fill(error, MB_USAGE, message);
}

/* One call of a function of the program. */
typedef struct invocation {
  mb_lua_calling calling; /* first: it is found by that */
  const callback *called;
  int which;            /* function of the callback */
  const int64_t *group; /* its first argument; NULL: none */
  const mb_value *arguments;
  size_t n;
  mb_value *result; /* NULL: it is not wanted */
  mb_error *error;
  mb_status status;
} invocation;

/* Calls the function on the top with its n arguments and reads its value, which
 * stays alive in the callback's table. */
static void call_and_read(
    lua_State *L, int n, int table, const invocation *call, mb_status *status)
{
  static const mb_lua_config plain;
  lua_call(L, n, 1);
  if (call->result == NULL)
    return;
  const int value = lua_gettop(L);
  if (mb_lua_read_value(L, &plain, value, call->result, call->error) != MB_OK)
    *status = name_result(call->error);
  lua_settop(L, value);
  lua_rawseti(L, table, RESULT);
}

/* The whole of a call, from reading the database's values to giving one back:
 * whatever fails in it must not get past the library that calls. */
int mb_lua_call_back(lua_State *L)
{
  static const mb_lua_config plain;
  invocation *call = (invocation *)(void *)mb_lua_of(L)->calling;
  const int n = (int)call->n;
  luaL_checkstack(L, n + 20, "too many arguments");
  lua_rawgeti(L, LUA_REGISTRYINDEX, call->called->ref);
  const int table = lua_gettop(L);
  lua_rawgeti(L, table, call->which);
  const int function = lua_gettop(L);
  if (call->group != NULL)
    lua_pushinteger(L, (lua_Integer)*call->group);
  if (call->which == FINISH)
    lua_pushboolean(L, call->result != NULL);
  for (int i = 0; i < n; i++)
    mb_lua_push_value(L, &plain, &call->arguments[i], 0);
  call_and_read(L, lua_gettop(L) - function, table, call, &call->status);
  return 0;
}

/* Calls the callback's function number which, an optional argument first. */
static mb_status run(callback *called, int which, const int64_t *group,
    const mb_value *arguments, size_t n, mb_value *result, mb_error *error)
{
  mb_lua *lua = called->anchor->lua;
  if (lua == NULL)
    return state_is_closed(error);
  lua_State *L = lua->L;
  invocation call = {
      .calling = {.pool = called->pool, .outer = lua->calling},
      .called = called,
      .which = which,
      .group = group,
      .arguments = arguments,
      .n = n,
      .result = result,
      .error = error,
      .status = MB_OK,
  };
  /* Nothing of this takes memory. */
  lua_rawgeti(L, LUA_REGISTRYINDEX, called->ref);
  lua_rawgeti(L, -1, CALL_BACK);
  lua_remove(L, -2);
  lua->calling = &call.calling;
  const bool done = mb_lua_pcall(L, lua, 0, 0);
  lua->calling = call.calling.outer;
  return done ? call.status : mb_lua_keep_raised(L, error);
}

static mb_status on_call(void *context, const mb_value *arguments, size_t n,
    mb_value *result, mb_error *error)
{
  return run(context, CALL, NULL, arguments, n, result, error);
}

static mb_status on_step(void *context, int64_t group,
    const mb_value *arguments, size_t n, mb_error *error)
{
  return run(context, CALL, &group, arguments, n, NULL, error);
}

static mb_status on_finish(
    void *context, int64_t group, mb_value *result, mb_error *error)
{
  return run(context, FINISH, &group, NULL, 0, result, error);
}

static void on_release(void *context)
{
  callback *released = context;
  if (released->anchor->L != NULL)
    luaL_unref(released->anchor->L, LUA_REGISTRYINDEX, released->ref);
  release_anchor(released->anchor);
  free(released);
}

/* Makes what the database is to hold of the functions at index call and finish
 * (nil: none). */
static callback *make(
    lua_State *L, mb_lua *lua, const mb_pool *pool, int call, int finish)
{
  lua_createtable(L, CALL_BACK, 0);
  lua_pushvalue(L, call);
  lua_rawseti(L, -2, CALL);
  lua_pushvalue(L, finish);
  lua_rawseti(L, -2, FINISH);
  lua_pushboolean(L, 0);
  lua_rawseti(L, -2, RESULT);
  mb_lua_helper(L, "call_back");
  lua_rawseti(L, -2, CALL_BACK);
  const int ref = luaL_ref(L, LUA_REGISTRYINDEX);
  callback *made = malloc(sizeof *made);
  mb_lua_anchor *anchor = made != NULL ? hold_anchor(lua) : NULL;
  if (anchor == NULL) {
    free(made);
    luaL_unref(L, LUA_REGISTRYINDEX, ref);
    (void)luaL_error(L, "not enough memory");
    return NULL;
  }
  *made = (callback){.anchor = anchor, .pool = pool, .ref = ref};
  return made;
}

static size_t fill_values(
    lua_State *L, const char *kind, const mb_callback *handed, mb_value *values)
{
  size_t n = 0;
  values[n].tag = MB_TEXT;
  values[n].as.bytes.data = luaL_checklstring(L, 3, &values[n].as.bytes.size);
  n++;
  if (kind[0] != 'c') {
    values[n].tag = MB_INT64;
    values[n++].as.integer = (int64_t)luaL_optnumber(L, 4, -1);
  }
  if (kind[0] == 'f') {
    values[n].tag = MB_BOOL;
    values[n++].as.integer = lua_toboolean(L, 5);
  }
  values[n].tag = MB_CALLBACK;
  values[n++].as.callback = handed;
  return n;
}

/* define(connection, "function" | "aggregate" | "collation", name, arguments or
 * nil, deterministic, call, finish or nil): what SQLite calls by name.  For an
 * aggregate, call takes a group's number and a row's arguments, finish the
 * number and whether a value is wanted. */
int mb_lua_define(lua_State *L)
{
  mb_lua_run run;
  mb_value values[4];
  char command[32];
  mb_lua_session *session = mb_lua_check(L, 1, MB_LUA_CONNECTION);
  const char *kind = luaL_checkstring(L, 2);
  luaL_checktype(L, 6, LUA_TFUNCTION);
  lua_settop(L, 7);
  mb_callback handed = {.release = on_release};
  if (kind[0] == 'a') {
    handed.step = on_step;
    handed.finish = on_finish;
  } else {
    handed.call = on_call;
  }
  const size_t n = fill_values(L, kind, &handed, values);
  (void)snprintf(command, sizeof command, "create_%s", kind);

  mb_lua_run_open(L, &run);
  if (mb_lua_run_connect(L, &run) != MB_OK)
    return mb_lua_run_fail(L, &run);
  callback *made = make(L, run.lua, session->pool, 6, 7);
  handed.context = made;
  if (mb_conn_command(run.conn, NULL, command, values, n, NULL, &run.stmt,
          &run.error) == MB_ERROR) {
    on_release(made);
    return mb_lua_run_fail(L, &run);
  }
  if (!mb_lua_run_end(&run))
    return mb_lua_run_fail(L, &run);
  return 0;
}
