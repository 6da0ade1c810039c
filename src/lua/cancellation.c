/* cancellation.c: cancellations as objects of Lua's. */
#include "binding.h"

/* cancellation(name or nil): a Cancellation. */
int mb_lua_cancellation_open(lua_State *L)
{
  mb_error error;
  const char *name = luaL_optstring(L, 1, NULL);
  mb_lua_cancellation *made =
      mb_lua_new(L, MB_LUA_CANCELLATION, sizeof *made, 0);
  if (mb_cancellation_open(name, &made->cancellation, &error) != MB_OK)
    return mb_lua_fail(L, NULL, &error, NULL, 0);
  return 1;
}

static int cancellation_cancel(lua_State *L)
{
  mb_lua_cancellation *stop = mb_lua_check(L, 1, MB_LUA_CANCELLATION);
  if (!lua_isnoneornil(L, 2) && lua_type(L, 2) != LUA_TSTRING)
    return mb_lua_usage(L, "cancel wants a reason, a string, and got a %s",
        luaL_typename(L, 2));
  mb_cancellation_cancel(stop->cancellation, lua_tostring(L, 2));
  return 0;
}

static int cancellation_is_cancelled(lua_State *L)
{
  const mb_lua_cancellation *stop = mb_lua_check(L, 1, MB_LUA_CANCELLATION);
  lua_pushboolean(L, mb_cancellation_is_cancelled(stop->cancellation));
  return 1;
}

static int cancellation_gc(lua_State *L)
{
  mb_lua_cancellation *stop = mb_lua_check(L, 1, MB_LUA_CANCELLATION);
  mb_lua_forget(L, mb_lua_of(L), &stop->head);
  mb_cancellation_close(stop->cancellation);
  stop->cancellation = NULL;
  return 0;
}

static int cancellation_tostring(lua_State *L)
{
  const mb_lua_cancellation *stop = mb_lua_check(L, 1, MB_LUA_CANCELLATION);
  lua_pushfstring(L, "moonbase.Cancellation (%s)",
      mb_cancellation_is_cancelled(stop->cancellation) ? "cancelled"
                                                       : "not cancelled");
  return 1;
}

const luaL_Reg mb_lua_cancellation_methods[] = {
    {"cancel", cancellation_cancel},
    {"is_cancelled", cancellation_is_cancelled},
    {NULL, NULL},
};

const luaL_Reg mb_lua_cancellation_meta[] = {
    {"__gc", cancellation_gc},
    {"__tostring", cancellation_tostring},
    {NULL, NULL},
};
