/*
 * driver_module.h: makes a Lua module of a driver, in one macro.
 *
 *   MB_DRIVER_MODULE(NAME, pointer to the constant mb_driver)
 *
 * defines luaopen_moonbase_driver_NAME, which gives a full userdata that holds
 * the pointer.  (A light one could not hold every address on LuaJIT.)  Link the
 * module with -z nodelete: a pool may outlive the Lua state that loaded it.
 */
#ifndef MB_DRIVER_MODULE_H
#define MB_DRIVER_MODULE_H

#include "driver.h"

#include <lauxlib.h>
#include <lua.h>

/* The metatable that the core knows a driver by. */
#define MB_DRIVER_METATABLE "moonbase.driver"

#define MB_DRIVER_MODULE(name, pointer)                                      \
  __attribute__((visibility("default"))) int luaopen_moonbase_driver_##name( \
      lua_State *L);                                                         \
  int luaopen_moonbase_driver_##name(lua_State *L)                           \
  {                                                                          \
    const mb_driver **held = lua_newuserdata(L, sizeof *held);               \
    *held = (pointer);                                                       \
    luaL_newmetatable(L, MB_DRIVER_METATABLE);                               \
    lua_setmetatable(L, -2);                                                 \
    return 1;                                                                \
  }

#endif
