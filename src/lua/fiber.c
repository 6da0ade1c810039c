/*
 * fiber.c: calls that are left while they wait.
 *
 * Lua 5.1 and LuaJIT cannot yield inside a function of C's.  So a call that may
 * wait runs on a stack of its own, with a coroutine of its own that nobody
 * resumes: when it waits, its caller gets what for, lets its scheduler wait,
 * and steps.  What the binding knows of running calls is exchanged with the
 * stacks.
 */
#include "binding.h"

#include <string.h>

typedef struct mb_lua_fiber {
  mb_fiber *fiber;
  lua_State *L; /* its own */
  const void *task; /* that it is a call of */
  mb_lua *lua;
  int n;      /* arguments */
  int status; /* of the call */
  struct mb_lua_fiber *next; /* in the list of those that are free */

  /* While it is left: what is going on there. */
  lua_State *before;
  size_t n_frames, n_readers;
  mb_lua_frame frames[MB_LUA_FRAMES];
  mb_lua_reader readers[MB_LUA_READERS];
  int telling;
  bool has_raised;
  const mb_lua_calling *calling;
  mb_conn *expanding;
} mb_lua_fiber;

#define SWAP(type, a, b)     \
  do {                       \
    type kept = (a);         \
    (a) = (b);               \
    (b) = kept;              \
  } while (0)

/* Exchanges what is going on with what was, where the fiber was left. */
static void exchange(mb_lua *lua, mb_lua_fiber *fiber)
{
  const size_t frames = lua->n_frames > fiber->n_frames ? lua->n_frames
                                                        : fiber->n_frames;
  const size_t readers = lua->n_readers > fiber->n_readers ? lua->n_readers
                                                           : fiber->n_readers;
  for (size_t i = 0; i < frames; i++)
    SWAP(mb_lua_frame, lua->frames[i], fiber->frames[i]);
  for (size_t i = 0; i < readers; i++)
    SWAP(mb_lua_reader, lua->readers[i], fiber->readers[i]);
  SWAP(size_t, lua->n_frames, fiber->n_frames);
  SWAP(size_t, lua->n_readers, fiber->n_readers);
  SWAP(int, lua->telling, fiber->telling);
  SWAP(bool, lua->has_raised, fiber->has_raised);
  SWAP(const mb_lua_calling *, lua->calling, fiber->calling);
  SWAP(mb_conn *, lua->expanding, fiber->expanding);
  SWAP(lua_State *, lua->L, fiber->before);
}

static void work(void *argument)
{
  mb_lua_fiber *fiber = argument;
  fiber->status = lua_pcall(fiber->L, fiber->n, LUA_MULTRET, 0);
}

/* A fiber that is free, or a new one. */
static mb_lua_fiber *take(lua_State *L, mb_lua *lua)
{
  mb_error error;
  mb_lua_fiber *fiber = lua->free_fibers;
  if (fiber != NULL) {
    lua->free_fibers = fiber->next;
    return fiber;
  }
  fiber = compat_newuserdata(L, sizeof *fiber, 1);
  memset(fiber, 0, sizeof *fiber);
  fiber->lua = lua;
  lua_rawgeti(L, lua_upvalueindex(MB_LUA_METATABLES), MB_LUA_FIBER);
  lua_setmetatable(L, -2);
  fiber->L = lua_newthread(L);
  fiber->before = fiber->L;
  compat_setuservalue(L, -2, 1);
  /* Kept until the state ends: one that waits may have nobody else. */
  lua_pushvalue(L, -1);
  compat_rawsetp(L, LUA_REGISTRYINDEX, fiber);
  lua_pop(L, 1);
  if (mb_fiber_open(&fiber->fiber, &error) != MB_OK)
    (void)mb_lua_fail(L, NULL, &error, NULL, 0);
  return fiber;
}

/* What start and step give. */
static int answer(lua_State *L, mb_lua_fiber *fiber, bool ended)
{
  mb_wait wait;
  if (!ended) {
    mb_fiber_waits_for(fiber->fiber, &wait);
    static const char *const words[] = {"r", "r", "w", "rw"};
    lua_pushlightuserdata(L, fiber);
    if (wait.fd >= 0)
      lua_pushinteger(L, wait.fd);
    else
      lua_pushnil(L);
    lua_pushstring(L, words[wait.events & 3u]);
    if (wait.deadline_ns == MB_NEVER) {
      lua_pushnil(L);
    } else {
      const int64_t left_ns = wait.deadline_ns - mb_now_ns();
      lua_pushnumber(L, left_ns > 0 ? (lua_Number)left_ns / 1e9 : 0);
    }
    return 4;
  }
  const int n = lua_gettop(fiber->L);
  luaL_checkstack(L, n + 1, "too many results");
  lua_pushboolean(L, fiber->status == LUA_OK);
  lua_xmove(fiber->L, L, n);
  fiber->next = fiber->lua->free_fibers;
  fiber->lua->free_fibers = fiber;
  return n + 1;
}

static int go(lua_State *L, mb_lua_fiber *fiber, bool starts)
{
  mb_lua *lua = fiber->lua;
  exchange(lua, fiber);
  lua->fiber = fiber;
  const bool ended = starts ? mb_fiber_start(fiber->fiber, work, fiber)
                            : mb_fiber_resume(fiber->fiber);
  lua->fiber = NULL;
  exchange(lua, fiber);
  return answer(L, fiber, ended);
}

/* start(task, fn, …): calls fn for the task, a coroutine.  true and its
 * results, or false and its error, or, when it has to wait: something for step,
 * a file descriptor or nil, "r", "w" or "rw", and the seconds until it has to
 * be stepped at the latest, or nil. */
int mb_lua_start(lua_State *L)
{
  mb_lua *lua = mb_lua_of(L);
  const int n = lua_gettop(L) - 1;
  mb_lua_fiber *fiber = take(L, lua);
  luaL_checkstack(fiber->L, n, "too many arguments");
  fiber->task = lua_topointer(L, 1);
  fiber->n = n - 1;
  lua_xmove(L, fiber->L, n);
  return go(L, fiber, true);
}

/* step(what start gave): the same once more. */
int mb_lua_step(lua_State *L)
{
  mb_lua_fiber *fiber = lua_touserdata(L, 1);
  lua_settop(L, 0);
  return go(L, fiber, false);
}

/* abandon(what start gave): nobody wants it any more.  It is ended as soon as
 * that can be had, and has to be stepped until it has ended; gives what step
 * gives. */
int mb_lua_abandon(lua_State *L)
{
  mb_lua_fiber *fiber = lua_touserdata(L, 1);
  lua_settop(L, 0);
  mb_fiber_stop(fiber->fiber);
  return go(L, fiber, false);
}

/* is_inside(): whether the caller is part of a call that may be left. */
int mb_lua_is_inside(lua_State *L)
{
  lua_pushboolean(L, mb_lua_of(L)->fiber != NULL);
  return 1;
}

/* scheduler(value): that of a handle, as its options say; else nil. */
int mb_lua_scheduler(lua_State *L)
{
  if (mb_lua_handle(L, 1) == NULL) {
    lua_pushnil(L);
    return 1;
  }
  compat_getuservalue(L, 1, MB_LUA_OPTIONS);
  if (lua_istable(L, -1)) {
    lua_pushliteral(L, "scheduler");
    lua_rawget(L, -2);
  } else {
    lua_pushnil(L);
  }
  return 1;
}

static int fiber_gc(lua_State *L)
{
  mb_lua_fiber *fiber = lua_touserdata(L, 1);
  mb_fiber_close(fiber->fiber);
  fiber->fiber = NULL;
  return 0;
}

const luaL_Reg mb_lua_fiber_meta[] = {
    {"__gc", fiber_gc},
    {NULL, NULL},
};
