/* meter.c: meter.h as a Lua module, bench_meter. */
#include "meter.h"

#include <lauxlib.h>
#include <lua.h>

int luaopen_bench_meter(lua_State *L);

/* read(): wall time and CPU time in seconds. */
static int read_both(lua_State *L)
{
  const meter now = meter_read();
  lua_pushnumber(L, now.wall_s);
  lua_pushnumber(L, now.cpu_s);
  return 2;
}

static int peak_kb(lua_State *L)
{
  lua_pushinteger(L, meter_peak_kb());
  return 1;
}

int luaopen_bench_meter(lua_State *L)
{
  lua_createtable(L, 0, 2);
  lua_pushcfunction(L, read_both);
  lua_setfield(L, -2, "read");
  lua_pushcfunction(L, peak_kb);
  lua_setfield(L, -2, "peak_kb");
  return 1;
}
