/*
 * module.c: the fault driver as a module of Lua's: a table with
 *
 *   wrap(driver)  the driver around one that require has given
 */
#include "driver.h"

#include "../../src/driver_module.h"

__attribute__((visibility("default"))) int luaopen_moonbase_driver_fault(
    lua_State *L);

static int wrap(lua_State *L)
{
  const mb_driver *const *inner = luaL_checkudata(L, 1, MB_DRIVER_METATABLE);
  const mb_driver **held = lua_newuserdata(L, sizeof *held);
  *held = mb_driver_fault(*inner);
  if (*held == NULL)
    return luaL_error(L, "too many drivers are wrapped already");
  luaL_newmetatable(L, MB_DRIVER_METATABLE);
  lua_setmetatable(L, -2);
  return 1;
}

int luaopen_moonbase_driver_fault(lua_State *L)
{
  lua_newtable(L);
  lua_pushcfunction(L, wrap);
  lua_setfield(L, -2, "wrap");
  return 1;
}
