/*
 * compat.h: one C API of Lua's for 5.1, LuaJIT, 5.3, 5.4 and 5.5.
 *
 * The only file that looks at versions.  The rest is written for the common
 * subset, with the names of 5.4.  What LuaJIT has beyond 5.1 is not used: rocks
 * are compiled with the headers of 5.1 and loaded by both.
 */
#ifndef MB_LUA_COMPAT_H
#define MB_LUA_COMPAT_H

#include <lauxlib.h>
#include <lua.h>
#include <stdbool.h>
#include <stdint.h>

/* What does not return; Lua's headers do not say it. */
#if defined(__GNUC__)
#  define COMPAT_NORETURN __attribute__((noreturn))
#else
#  define COMPAT_NORETURN
#endif
int lua_error(lua_State *L) COMPAT_NORETURN;
int luaL_error(lua_State *L, const char *format, ...) COMPAT_NORETURN;

/* Integers of 64 bits are a type of the language. */
#define COMPAT_HAS_INTEGERS (LUA_VERSION_NUM >= 503)
/* A for loop takes a fourth value, which it closes. */
#define COMPAT_HAS_CLOSE (LUA_VERSION_NUM >= 504)
/* A function of Lua's makes a row faster than the C API does. */
#define COMPAT_BUILDS_ROWS (LUA_VERSION_NUM == 501)
/* A callback may yield through pcall and iterators (LuaJIT says so at run
 * time). */
#define COMPAT_TYPE_CDATA 10 /* LuaJIT's lua_type of a cdata */

#if LUA_VERSION_NUM < 502
#  define LUA_OK 0
#  define lua_rawlen(L, index) lua_objlen(L, index)

static inline int lua_absindex(lua_State *L, int index)
{
  return index > 0 || index <= LUA_REGISTRYINDEX ? index
                                                 : lua_gettop(L) + index + 1;
}

static inline void compat_setfuncs(
    lua_State *L, const luaL_Reg *functions, int n_upvalues)
{
  for (; functions->name != NULL; functions++) {
    for (int i = 0; i < n_upvalues; i++)
      lua_pushvalue(L, -n_upvalues);
    lua_pushcclosure(L, functions->func, n_upvalues);
    lua_setfield(L, -(n_upvalues + 2), functions->name);
  }
  lua_pop(L, n_upvalues);
}
#else
static inline void compat_setfuncs(
    lua_State *L, const luaL_Reg *functions, int n_upvalues)
{
  luaL_setfuncs(L, functions, n_upvalues);
}
#endif

/* Whether the running coroutine may yield; true where nothing tells. */
#if LUA_VERSION_NUM < 502
/* LuaJIT has it, 5.1 has not. */
__attribute__((weak)) int lua_isyieldable(lua_State *L);
#endif
static inline bool compat_is_yieldable(lua_State *L)
{
#if LUA_VERSION_NUM < 502
  return lua_isyieldable == NULL || lua_isyieldable(L);
#elif LUA_VERSION_NUM >= 503
  return lua_isyieldable(L);
#else
  (void)L;
  return true;
#endif
}

/* Whether steps of the collector reach all garbage.  In 5.4 they do not: its
 * interpreter collects by generations, whose steps leave what is old alone. */
#define COMPAT_COLLECTS_BY_STEPS (LUA_VERSION_NUM < 504)

/* Pushes the value of t[n], and answers its type. */
static inline int compat_rawgeti(lua_State *L, int index, int n)
{
#if LUA_VERSION_NUM >= 503
  return lua_rawgeti(L, index, n);
#else
  lua_rawgeti(L, index, n);
  return lua_type(L, -1);
#endif
}

/* Pushes the value of t[key] for a light key of C's. */
static inline void compat_rawgetp(lua_State *L, int index, const void *key)
{
#if LUA_VERSION_NUM < 502
  index = lua_absindex(L, index);
  lua_pushlightuserdata(L, (void *)(uintptr_t)key);
  lua_rawget(L, index);
#else
  lua_rawgetp(L, index, key);
#endif
}

/* Sets t[key] to the value on the top, and pops it. */
static inline void compat_rawsetp(lua_State *L, int index, const void *key)
{
#if LUA_VERSION_NUM < 502
  index = lua_absindex(L, index);
  lua_pushlightuserdata(L, (void *)(uintptr_t)key);
  lua_insert(L, -2);
  lua_rawset(L, index);
#else
  lua_rawsetp(L, index, key);
#endif
}

/* A userdata with room for n values beside it.  Before 5.4 these are in a table
 * of its own. */
static inline void *compat_newuserdata(lua_State *L, size_t size, int n)
{
#if LUA_VERSION_NUM >= 504
  return lua_newuserdatauv(L, size, n);
#else
  void *userdata = lua_newuserdata(L, size);
  lua_createtable(L, n, 0);
#  if LUA_VERSION_NUM >= 502
  lua_setuservalue(L, -2);
#  else
  (void)lua_setfenv(L, -2);
#  endif
  return userdata;
#endif
}

/* Pushes value n (from 1) beside the userdata at index. */
static inline void compat_getuservalue(lua_State *L, int index, int n)
{
#if LUA_VERSION_NUM >= 504
  (void)lua_getiuservalue(L, index, n);
#else
#  if LUA_VERSION_NUM >= 502
  (void)lua_getuservalue(L, index);
#  else
  lua_getfenv(L, index);
#  endif
  lua_rawgeti(L, -1, n);
  lua_remove(L, -2);
#endif
}

/* Makes the values beside the userdata at index ready to be pushed one after
 * the other by compat_pushvalue, and says where; one value may be left on the
 * stack. */
static inline int compat_openvalues(lua_State *L, int index)
{
#if LUA_VERSION_NUM >= 504
  (void)L;
  return index;
#else
#  if LUA_VERSION_NUM >= 502
  (void)lua_getuservalue(L, index);
#  else
  lua_getfenv(L, index);
#  endif
  return lua_gettop(L);
#endif
}

static inline void compat_pushvalue(lua_State *L, int where, int n)
{
#if LUA_VERSION_NUM >= 504
  (void)lua_getiuservalue(L, where, n);
#else
  lua_rawgeti(L, where, n);
#endif
}

/* Sets value n beside the userdata at index to the one on the top; pops it. */
static inline void compat_setuservalue(lua_State *L, int index, int n)
{
#if LUA_VERSION_NUM >= 504
  (void)lua_setiuservalue(L, index, n);
#else
  index = lua_absindex(L, index);
#  if LUA_VERSION_NUM >= 502
  (void)lua_getuservalue(L, index);
#  else
  lua_getfenv(L, index);
#  endif
  lua_insert(L, -2);
  lua_rawseti(L, -2, n);
  lua_pop(L, 1);
#endif
}

/* Pushes the traceback of a coroutine, without its first level lines. */
static inline void compat_traceback(lua_State *L, lua_State *of, int level)
{
#if LUA_VERSION_NUM >= 502
  luaL_traceback(L, of, NULL, level);
#else
  lua_getglobal(L, "debug");
  if (lua_istable(L, -1))
    lua_getfield(L, -1, "traceback");
  else
    lua_pushnil(L);
  lua_remove(L, -2);
  if (!lua_isfunction(L, -1)) {
    lua_pop(L, 1);
    lua_pushliteral(L, "");
    return;
  }
  if (of != L) {
    lua_pushthread(of);
    lua_xmove(of, L, 1);
  }
  lua_pushliteral(L, "");
  lua_pushinteger(L, level);
  lua_call(L, of != L ? 3 : 2, 1);
#endif
}

static inline bool compat_isinteger(lua_State *L, int index)
{
#if COMPAT_HAS_INTEGERS
  return lua_isinteger(L, index) != 0;
#else
  (void)L;
  (void)index;
  return false;
#endif
}

#endif
