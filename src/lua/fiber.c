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

#include <poll.h>
#include <string.h>

/* What the Lua side has of a call that waits; it is collected with whoever
 * waits for it. */
typedef struct mb_lua_ticket {
  struct mb_lua_fiber *fiber; /* NULL once the call has ended */
} mb_lua_ticket;

typedef struct mb_lua_fiber {
  mb_fiber *fiber;
  lua_State *L; /* its own */
  mb_lua *lua;
  const void *task;      /* that it is a call of */
  const void *handle;    /* its first argument */
  mb_lua_ticket *ticket; /* NULL: nobody waits for it */
  int n;                 /* arguments */
  int status;            /* of the call */
  bool is_left;
  bool is_news; /* that nobody waits for it: it has not been told */
  bool wants_garbage;
  /* In the list of those that are free, or of those that were left. */
  struct mb_lua_fiber *next, *prev;

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

#define SWAP(type, a, b) \
  do {                   \
    type kept = (a);     \
    (a) = (b);           \
    (b) = kept;          \
  } while (0)

/* Exchanges what is going on with what was, where the fiber was left. */
static void exchange(mb_lua *lua, mb_lua_fiber *fiber)
{
  const size_t frames =
      lua->n_frames > fiber->n_frames ? lua->n_frames : fiber->n_frames;
  const size_t readers =
      lua->n_readers > fiber->n_readers ? lua->n_readers : fiber->n_readers;
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

const void *mb_lua_own_key(const mb_lua *lua, const void *key)
{
  const char *own = (const char *)lua->fiber;
  const uintptr_t first = (uintptr_t)lua->frames;
  if (own == NULL)
    return key;
  return (uintptr_t)key >= first && (uintptr_t)key < first + sizeof lua->frames
             ? own + 1 + ((uintptr_t)key - first) / sizeof lua->frames[0]
             : own;
}

static void work(void *argument)
{
  mb_lua_fiber *fiber = argument;
  fiber->status = lua_pcall(fiber->L, fiber->n, LUA_MULTRET, 0);
  /* What an error has left: no later call is on this stack. */
  mb_lua_sweep_all(fiber->lua);
}

/* --- Fibers ------------------------------------------------------------- */

/* How many are kept for calls to come, each of which may have a file descriptor
 * and some pages: as many as calls have had at the same time lately, which is
 * during one or two times so many calls, and within these bounds. */
#define KEPT_MIN 32
#define KEPT_MAX 256
#define LATELY 1024

/* Takes a key out of the registry.  One that is not there would take memory. */
static void forget(lua_State *L, const void *key)
{
  compat_rawgetp(L, LUA_REGISTRYINDEX, key);
  if (!lua_isnil(L, -1)) {
    lua_pushnil(L);
    compat_rawsetp(L, LUA_REGISTRYINDEX, key);
  }
  lua_pop(L, 1);
}

/* Forgets what the registry has of it: it goes when Lua collects it. */
static void release(lua_State *L, mb_lua_fiber *fiber)
{
  const char *first = (const char *)fiber;
  mb_fiber_close(fiber->fiber);
  fiber->fiber = NULL;
  for (const char *key = first; key <= first + MB_LUA_FRAMES; key++)
    forget(L, key);
  forget(L, first + sizeof *fiber - 1);
}

static mb_lua_fiber *make(lua_State *L, mb_lua *lua)
{
  mb_error error;
  mb_lua_fiber *fiber = compat_newuserdata(L, sizeof *fiber, 1);
  memset(fiber, 0, sizeof *fiber);
  fiber->lua = lua;
  lua_rawgeti(L, lua_upvalueindex(MB_LUA_METATABLES), MB_LUA_FIBER);
  lua_setmetatable(L, -2);
  fiber->L = lua_newthread(L);
  fiber->before = fiber->L;
  compat_setuservalue(L, -2, 1);
  /* Kept until the state ends, under the key of its error: a call that waits
   * may have nobody else. */
  compat_rawsetp(L, LUA_REGISTRYINDEX, (const char *)fiber + sizeof *fiber - 1);
  lua_pushboolean(L, 0);
  compat_rawsetp(L, LUA_REGISTRYINDEX, fiber);
  if (mb_fiber_open(&fiber->fiber, &error) != MB_OK) {
    release(L, fiber);
    (void)mb_lua_fail(L, NULL, &error, NULL, 0);
  }
  return fiber;
}

/* A fiber that is free, or a new one. */
static mb_lua_fiber *take(lua_State *L, mb_lua *lua)
{
  mb_lua_fiber *fiber = lua->free_fibers;
  if (fiber == NULL) {
    fiber = make(L, lua);
  } else {
    lua->free_fibers = fiber->next;
    lua->n_free_fibers--;
  }
  if (++lua->n_calls > lua->most_calls)
    lua->most_calls = lua->n_calls;
  return fiber;
}

/* Whether there are enough without one more. */
static bool has_enough(const mb_lua *lua)
{
  size_t wanted =
      lua->most_calls > lua->most_before ? lua->most_calls : lua->most_before;
  if (wanted < KEPT_MIN)
    wanted = KEPT_MIN;
  else if (wanted > KEPT_MAX)
    wanted = KEPT_MAX;
  return lua->n_free_fibers + lua->n_calls >= wanted;
}

/* Its call has ended. */
static void put_back(lua_State *L, mb_lua_fiber *fiber)
{
  mb_lua *lua = fiber->lua;
  lua_settop(fiber->L, 0);
  fiber->wants_garbage = false;
  lua->n_calls--;
  if (++lua->n_ended == LATELY) {
    lua->n_ended = 0;
    lua->most_before = lua->most_calls;
    lua->most_calls = lua->n_calls;
  }
  if (has_enough(lua)) {
    release(L, fiber);
    return;
  }
  lua->n_free_fibers++;
  fiber->next = lua->free_fibers;
  lua->free_fibers = fiber;
}

/* Its call is left, or goes on. */
static void note_left(mb_lua_fiber *fiber, bool is_left)
{
  mb_lua *lua = fiber->lua;
  if (fiber->is_left == is_left)
    return;
  fiber->is_left = is_left;
  if (is_left) {
    fiber->prev = NULL;
    fiber->next = lua->left_fibers;
    if (fiber->next != NULL)
      fiber->next->prev = fiber;
    lua->left_fibers = fiber;
    return;
  }
  if (fiber->prev != NULL)
    fiber->prev->next = fiber->next;
  else
    lua->left_fibers = fiber->next;
  if (fiber->next != NULL)
    fiber->next->prev = fiber->prev;
}

/* Runs it until its call has ended (true), or waits. */
static bool go(lua_State *L, mb_lua_fiber *fiber, bool starts)
{
  mb_lua *lua = fiber->lua;
  mb_lua_fiber *outer = lua->fiber;
  const void *outer_task = lua->task;
  exchange(lua, fiber);
  lua->fiber = fiber;
  lua->task = fiber->task;
  lua->outer = L;
  const bool ended = starts ? mb_fiber_start(fiber->fiber, work, fiber)
                            : mb_fiber_resume(fiber->fiber);
  lua->fiber = outer;
  lua->task = outer_task;
  lua->outer = NULL;
  exchange(lua, fiber);
  note_left(fiber, !ended);
  return ended;
}

/* --- Calls that wait for forgotten handles ------------------------------- */

/* Other tasks would be held up by a whole collection, and by one for each call
 * of many that wait. */
#define COLLECT_LIMIT_NS INT64_C(1000000)
#define COLLECT_STEP_KB 64
#define COLLECT_PAUSE_NS INT64_C(100000000)
/* The least pause after one, in times that it took. */
#define COLLECT_PAUSES 50

static void collect(lua_State *L, mb_lua *lua)
{
  const int64_t since_ns = mb_now_ns();
  if (since_ns < lua->collect_ns)
    return;
  if (!COMPAT_COLLECTS_BY_STEPS)
    lua_gc(L, LUA_GCCOLLECT, 0);
  else
    while (lua_gc(L, LUA_GCSTEP, COLLECT_STEP_KB) == 0 &&
           mb_now_ns() - since_ns < COLLECT_LIMIT_NS)
      continue;
  const int64_t now_ns = mb_now_ns();
  const int64_t pause_ns = COLLECT_PAUSES * (now_ns - since_ns);
  lua->collect_ns =
      now_ns + (pause_ns > COLLECT_PAUSE_NS ? pause_ns : COLLECT_PAUSE_NS);
}

void mb_lua_want_garbage(lua_State *L, mb_lua *lua)
{
  lua->fiber->wants_garbage = true;
  collect(L, lua);
}

void mb_lua_have_garbage(const mb_lua *lua)
{
  lua->fiber->wants_garbage = false;
}

/* --- Calls that nobody waits for ---------------------------------------- */

/* How long is waited at a time for one that has to end. */
#define LOOK_MS 10

/* Waits for what a call waits for, at most so many milliseconds; false: it is
 * not there. */
static bool poll_for(const mb_lua_fiber *fiber, int limit_ms)
{
  mb_wait wait;
  mb_fiber_waits_for(fiber->fiber, &wait);
  struct pollfd fd = {.fd = wait.fd};
  if (wait.events & MB_READABLE_FD)
    fd.events |= POLLIN;
  if (wait.events & MB_WRITABLE_FD)
    fd.events |= POLLOUT;
  if (mb_now_ns() >= wait.deadline_ns)
    return true;
  return poll(&fd, 1, limit_ms) > 0 || mb_now_ns() >= wait.deadline_ns;
}

/* Nobody waits for it, until somebody does. */
static void note_orphan(mb_lua_fiber *fiber, bool is_orphan)
{
  fiber->is_news = is_orphan;
  if (is_orphan)
    fiber->lua->n_orphans++;
  else
    fiber->lua->n_orphans--;
}

/* Nobody waits for it any more. */
static void orphan(mb_lua_fiber *fiber)
{
  if (fiber->ticket == NULL)
    return;
  fiber->ticket->fiber = NULL;
  fiber->ticket = NULL;
  note_orphan(fiber, true);
  mb_fiber_stop(fiber->fiber, false);
}

/* Takes calls on whose tasks were collected a step towards their ends. */
static void tidy(lua_State *L, mb_lua *lua)
{
  mb_lua_fiber *next;
  for (mb_lua_fiber *fiber = lua->left_fibers; fiber != NULL; fiber = next) {
    next = fiber->next;
    if (fiber->ticket != NULL || !(fiber->is_news || poll_for(fiber, 0)))
      continue;
    if (fiber->is_news)
      mb_fiber_stop(fiber->fiber, false);
    fiber->is_news = false;
    if (go(L, fiber, false)) {
      lua->n_orphans--;
      put_back(L, fiber);
    }
  }
}

void mb_lua_end_orphans(lua_State *L, mb_lua *lua)
{
  while (lua->n_orphans > 0) {
    const mb_lua_fiber *fiber = lua->left_fibers;
    while (fiber->ticket != NULL)
      fiber = fiber->next;
    (void)poll_for(fiber, fiber->is_news ? 0 : LOOK_MS);
    tidy(L, lua);
  }
}

static void end_all(lua_State *L, mb_lua *lua)
{
  for (mb_lua_fiber *fiber = lua->left_fibers; fiber != NULL;
       fiber = fiber->next)
    orphan(fiber);
  /* They may wait for each other. */
  while (lua->left_fibers != NULL) {
    (void)poll_for(lua->left_fibers, LOOK_MS);
    tidy(L, lua);
  }
}

void mb_lua_end_fibers(lua_State *L, mb_lua *lua, const void *handle)
{
  bool is_used = false;
  for (mb_lua_fiber *fiber = lua->left_fibers; fiber != NULL;
       fiber = fiber->next)
    is_used |= fiber->handle == handle;
  if (is_used && lua->fiber == NULL)
    end_all(L, lua);
}

static int ticket_gc(lua_State *L)
{
  mb_lua_ticket *ticket = lua_touserdata(L, 1);
  if (ticket->fiber != NULL)
    orphan(ticket->fiber);
  return 0;
}

/* --- For the Lua side --------------------------------------------------- */

/* Has a wait end after so many nanoseconds at the latest. */
static void come_back(mb_wait *wait, int64_t duration_ns)
{
  const int64_t until_ns = mb_now_ns() + duration_ns;
  if (until_ns < wait->deadline_ns)
    wait->deadline_ns = until_ns;
}

/* Gives what start and step give; the ticket, where there is one yet, is at
 * index 1. */
static int answer(lua_State *L, mb_lua_fiber *fiber, bool ended)
{
  static const char *const words[] = {"r", "r", "w", "rw"};
  mb_wait wait;
  if (ended) {
    const int n = lua_gettop(fiber->L);
    if (fiber->ticket != NULL)
      fiber->ticket->fiber = NULL;
    fiber->ticket = NULL;
    if (!lua_checkstack(L, n + 4)) {
      put_back(L, fiber);
      return luaL_error(L, "stack overflow (too many results)");
    }
    lua_pushboolean(L, fiber->status == LUA_OK);
    lua_xmove(fiber->L, L, n);
    put_back(L, fiber);
    return n + 1;
  }
  if (fiber->ticket == NULL) {
    /* There may be no memory for it, and then nobody waits. */
    note_orphan(fiber, true);
    mb_lua_ticket *ticket = lua_newuserdata(L, sizeof *ticket);
    note_orphan(fiber, false);
    ticket->fiber = NULL;
    lua_rawgeti(L, lua_upvalueindex(MB_LUA_METATABLES), MB_LUA_TICKET);
    lua_setmetatable(L, -2);
    ticket->fiber = fiber;
    fiber->ticket = ticket;
  } else {
    lua_pushvalue(L, 1);
  }
  mb_fiber_waits_for(fiber->fiber, &wait);
  if (wait.fd >= 0)
    lua_pushinteger(L, wait.fd);
  else
    lua_pushnil(L);
  lua_pushstring(L, words[wait.events & 3u]);
  /* Somebody has to look after those that nobody waits for. */
  if (fiber->lua->n_orphans > 0)
    come_back(&wait, LOOK_MS * INT64_C(1000000));
  if (fiber->wants_garbage)
    come_back(&wait, COLLECT_PAUSE_NS);
  if (wait.deadline_ns == MB_NEVER) {
    lua_pushnil(L);
  } else {
    const int64_t left_ns = wait.deadline_ns - mb_now_ns();
    lua_pushnumber(L, left_ns > 0 ? (lua_Number)left_ns / 1e9 : 0);
  }
  return 4;
}

/* start(task, fn, …): calls fn for the task, a coroutine.  true and its
 * results, or false and its error, or, when it has to wait: a ticket for step,
 * a file descriptor or nil, "r", "w" or "rw", and the seconds until it has to
 * be stepped at the latest, or nil. */
int mb_lua_start(lua_State *L)
{
  mb_lua *lua = mb_lua_of(L);
  const int n = lua_gettop(L) - 1;
  if (lua->n_orphans > 0)
    tidy(L, lua);
  mb_lua_fiber *fiber = take(L, lua);
  if (!lua_checkstack(fiber->L, n)) {
    put_back(L, fiber);
    return luaL_error(L, "stack overflow (too many arguments)");
  }
  fiber->task = lua_topointer(L, 1);
  fiber->handle = lua_touserdata(L, 3);
  fiber->n = n - 1;
  lua_settop(L, n + 1);
  lua_xmove(L, fiber->L, n);
  mb_fiber_set_task(fiber->fiber, fiber->task);
  return answer(L, fiber, go(L, fiber, true));
}

static mb_lua_fiber *check_ticket(lua_State *L)
{
  const mb_lua_ticket *ticket = lua_touserdata(L, 1);
  if (ticket == NULL || ticket->fiber == NULL)
    (void)mb_lua_usage(L, "the call has ended");
  return ticket->fiber;
}

/* step(ticket): the same once more. */
int mb_lua_step(lua_State *L)
{
  mb_lua_fiber *fiber = check_ticket(L);
  lua_settop(L, 1);
  if (fiber->lua->n_orphans > 0)
    tidy(L, fiber->lua);
  if (fiber->wants_garbage)
    collect(L, fiber->lua);
  return answer(L, fiber, go(L, fiber, false));
}

/* tell(ticket): what it waits for is ready; step is next. */
int mb_lua_tell(lua_State *L)
{
  mb_fiber_tell(check_ticket(L)->fiber);
  return 0;
}

/* abandon(ticket, at_once): nobody wants it any more.  It ends as soon as that
 * can be had, at once with its connection, and has to be stepped until then;
 * gives what step gives. */
int mb_lua_abandon(lua_State *L)
{
  mb_lua_fiber *fiber = check_ticket(L);
  mb_fiber_stop(fiber->fiber, lua_toboolean(L, 2) != 0);
  lua_settop(L, 1);
  return answer(L, fiber, go(L, fiber, false));
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
  /* The registry keeps it: the state is closing. */
  if (fiber->is_left) {
    fiber->lua->is_closing = true;
    end_all(L, fiber->lua);
  }
  mb_fiber_close(fiber->fiber);
  fiber->fiber = NULL;
  return 0;
}

const luaL_Reg mb_lua_ticket_meta[] = {
    {"__gc", ticket_gc},
    {NULL, NULL},
};

const luaL_Reg mb_lua_fiber_meta[] = {
    {"__gc", fiber_gc},
    {NULL, NULL},
};
