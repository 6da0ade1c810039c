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
  int ref;               /* in the registry: {call or step, finish, result} */
} callback;

enum { CALL = 1, FINISH, RESULT };

void mb_lua_anchor_release(mb_lua_anchor *anchor)
{
  if (--anchor->refs == 0)
    free(anchor);
}

static mb_status state_is_closed(mb_error *error)
{
  return mb_error_fill(
      error, MB_USAGE, "the Lua state of a function is closed");
}

static bool push_arguments(
    lua_State *L, const mb_value *arguments, size_t n)
{
  static const mb_lua_config plain;
  if (n > 1000 || !lua_checkstack(L, (int)n + 20))
    return false;
  for (size_t i = 0; i < n; i++)
    mb_lua_push_value(L, &plain, &arguments[i], 0);
  return true;
}

/* Calls what is on the stack and reads its value, which stays alive in the
 * callback's table. */
static mb_status call_and_read(lua_State *L, mb_lua *lua, int table, int n,
    mb_value *result, mb_error *error)
{
  static const mb_lua_config plain;
  if (!mb_lua_pcall(L, lua, n, 1))
    return mb_lua_keep_raised(L, error);
  if (result == NULL)
    return MB_OK;
  const int value = lua_gettop(L);
  if (mb_lua_read_value(L, &plain, value, result, error) != MB_OK)
    return mb_lua_name_parameter(error, "result of the function", 0, 0);
  lua_settop(L, value);
  lua_rawseti(L, table, RESULT);
  return MB_OK;
}

/* Calls function number which of the callback with an optional first argument. */
static mb_status run(callback *called, int which, const int64_t *group,
    const mb_value *arguments, size_t n, mb_value *result, mb_error *error)
{
  lua_State *L = called->anchor->lua != NULL ? called->anchor->lua->L : NULL;
  if (L == NULL)
    return state_is_closed(error);
  mb_lua *lua = called->anchor->lua;
  const int top = lua_gettop(L);
  if (!lua_checkstack(L, 10))
    return mb_error_fill(error, MB_RESOURCE, "out of memory");
  lua_rawgeti(L, LUA_REGISTRYINDEX, called->ref);
  const int table = lua_gettop(L);
  lua_rawgeti(L, table, which);
  if (group != NULL)
    lua_pushinteger(L, (lua_Integer)*group);
  if (which == FINISH)
    lua_pushboolean(L, result != NULL);
  mb_status status = MB_ERROR;
  if (push_arguments(L, arguments, n))
    status = call_and_read(
        L, lua, table, lua_gettop(L) - table - 1, result, error);
  else
    mb_error_fill(error, MB_RESOURCE, "too many arguments");
  lua_settop(L, top);
  return status;
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
  mb_lua_anchor_release(released->anchor);
  free(released);
}

/* Makes what the database is to hold of the functions at index call and finish
 * (nil: none). */
static callback *make(lua_State *L, mb_lua *lua, int call, int finish)
{
  lua_createtable(L, 3, 0);
  lua_pushvalue(L, call);
  lua_rawseti(L, -2, CALL);
  lua_pushvalue(L, finish);
  lua_rawseti(L, -2, FINISH);
  const int ref = luaL_ref(L, LUA_REGISTRYINDEX);
  callback *made = malloc(sizeof *made);
  if (made == NULL) {
    luaL_unref(L, LUA_REGISTRYINDEX, ref);
    (void)luaL_error(L, "out of memory");
    return NULL;
  }
  *made = (callback){.anchor = lua->anchor, .ref = ref};
  lua->anchor->refs++;
  return made;
}

static size_t fill_values(lua_State *L, const char *kind,
    const mb_callback *handed, mb_value *values)
{
  size_t n = 0;
  values[n].tag = MB_TEXT;
  values[n].as.bytes.data =
      luaL_checklstring(L, 3, &values[n].as.bytes.size);
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
 * aggregate, call takes a group's number and a row's arguments, finish the number
 * and whether a value is wanted. */
int mb_lua_define(lua_State *L)
{
  mb_lua_run run;
  mb_value values[4];
  char command[32];
  mb_lua_session *session = mb_lua_check(L, 1, MB_LUA_CONNECTION);
  const char *kind = luaL_checkstring(L, 2);
  luaL_checktype(L, 6, LUA_TFUNCTION);
  lua_settop(L, 7);
  (void)session;
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
  callback *made = make(L, run.lua, 6, 7);
  handed.context = made;
  if (mb_conn_command(run.conn, NULL, command, values, n, NULL, &run.stmt,
          &run.error) == MB_ERROR)
    return mb_lua_run_fail(L, &run);
  if (!mb_lua_run_end(&run))
    return mb_lua_run_fail(L, &run);
  return 0;
}
