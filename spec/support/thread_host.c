/*
 * thread_host.c: Lua states in threads, and forks, as a module of Lua's for
 * specs (spec/support/threads.lua).
 *
 *   start(text, …)   runs a text in a new Lua state on a new thread
 *   join(thread)     waits for its end: true and its results, or false and the
 *                    error
 *   meet(name, n)    waits until n callers of the process have come, and raises
 *                    an error when they do not within a minute
 *   fork()           0 in the child
 *   wait(pid)        the status of a child, or nil and the signal that ended it
 *   leave(status)    ends the process at once, as a crash does
 *   limit(seconds)   ends the process by a signal when it takes longer
 *
 * Texts take and give nil, booleans, numbers and strings.
 */
#include <errno.h>
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define METATABLE "moonbase.spec.thread"
#define MOST_VALUES 32
/* One that has failed comes no more. */
#define MEET_LIMIT_S 60

__attribute__((visibility("default"))) int luaopen_spec_support_thread_host(
    lua_State *L);

/* --- Values on their way between states --------------------------------- */

typedef struct value {
  int type; /* of lua_type */
  bool is_integer;
  lua_Integer integer; /* also 0 or 1 for a boolean */
  lua_Number number;
  char *bytes;
  size_t size;
} value;

typedef struct list {
  int n;
  value values[MOST_VALUES];
} list;

static bool is_integer(lua_State *L, int index)
{
#if LUA_VERSION_NUM >= 503
  return lua_isinteger(L, index) != 0;
#else
  (void)L;
  (void)index;
  return false;
#endif
}

/* Copies the values from index first on; false: one of them cannot go. */
static bool take(lua_State *L, int first, list *out)
{
  const int top = lua_gettop(L);
  out->n = 0;
  for (int i = first; i <= top; i++) {
    if (out->n == MOST_VALUES)
      return false;
    value *one = &out->values[out->n++];
    size_t size;
    const char *bytes;
    *one = (value){.type = lua_type(L, i)};
    switch (one->type) {
    case LUA_TNIL:
      break;
    case LUA_TBOOLEAN:
      one->integer = lua_toboolean(L, i);
      break;
    case LUA_TNUMBER:
      one->is_integer = is_integer(L, i);
      one->integer = one->is_integer ? lua_tointeger(L, i) : 0;
      one->number = lua_tonumber(L, i);
      break;
    case LUA_TSTRING:
      bytes = lua_tolstring(L, i, &size);
      one->bytes = malloc(size + 1);
      if (one->bytes == NULL)
        abort();
      memcpy(one->bytes, bytes, size);
      one->size = size;
      break;
    default:
      return false;
    }
  }
  return true;
}

static void push(lua_State *L, const list *given)
{
  luaL_checkstack(L, given->n + 4, "too many values");
  for (int i = 0; i < given->n; i++) {
    const value *one = &given->values[i];
    if (one->type == LUA_TBOOLEAN)
      lua_pushboolean(L, one->integer != 0);
    else if (one->type == LUA_TNUMBER && one->is_integer)
      lua_pushinteger(L, one->integer);
    else if (one->type == LUA_TNUMBER)
      lua_pushnumber(L, one->number);
    else if (one->type == LUA_TSTRING)
      lua_pushlstring(L, one->bytes, one->size);
    else
      lua_pushnil(L);
  }
}

static void clear(list *given)
{
  for (int i = 0; i < given->n; i++)
    free(given->values[i].bytes);
  given->n = 0;
}

/* --- Threads ------------------------------------------------------------ */

typedef struct thread {
  atomic_int refs; /* of the thread itself, and of the value in Lua */
  pthread_t id;
  list given; /* the text's paths, the text, its arguments */
  list got;   /* true and its results, or false and the error */
} thread;

static void let_go(thread *one)
{
  if (atomic_fetch_sub(&one->refs, 1) != 1)
    return;
  clear(&one->given);
  clear(&one->got);
  free(one);
}

/* What each state runs first. */
static const char prelude[] =
    "local path, cpath, text = ...\n"
    "local arguments, n = { select(4, ...) }, select('#', ...) - 3\n"
    "package.path, package.cpath = path, cpath\n"
    "local fn = assert((loadstring or load)(text, '=thread'))\n"
    "return xpcall(function()\n"
    "  return fn((table.unpack or unpack)(arguments, 1, n))\n"
    "end, function(err) return debug.traceback(tostring(err), 2) end)\n";

static void run(lua_State *L, thread *one)
{
  luaL_openlibs(L);
  int failed = luaL_loadstring(L, prelude);
  if (failed == 0) {
    push(L, &one->given);
    failed = lua_pcall(L, one->given.n, LUA_MULTRET, 0);
  }
  if (failed != 0) {
    lua_pushboolean(L, 0);
    lua_insert(L, 1);
  }
  if (take(L, 1, &one->got))
    return;
  clear(&one->got);
  lua_settop(L, 0);
  lua_pushboolean(L, 0);
  lua_pushliteral(L, "a thread gives nil, booleans, numbers and strings");
  (void)take(L, 1, &one->got);
}

static void *work(void *argument)
{
  thread *one = argument;
  lua_State *L = luaL_newstate();
  if (L == NULL)
    abort();
  run(L, one);
  lua_close(L);
  let_go(one);
  return NULL;
}

static int host_start(lua_State *L)
{
  (void)luaL_checkstring(L, 1);
  lua_getglobal(L, "package");
  lua_getfield(L, -1, "path");
  lua_insert(L, 1);
  lua_getfield(L, -1, "cpath");
  lua_insert(L, 2);
  lua_pop(L, 1);

  thread **held = lua_newuserdata(L, sizeof *held);
  lua_insert(L, 1);
  thread *one = calloc(1, sizeof *one);
  if (one == NULL)
    abort();
  *held = one;
  atomic_init(&one->refs, 2);
  const bool taken = take(L, 2, &one->given);
  if (!taken || pthread_create(&one->id, NULL, work, one) != 0) {
    atomic_init(&one->refs, 1);
    let_go(one);
    return luaL_error(L, "the thread could not be started with these values");
  }
  lua_settop(L, 1);
  luaL_getmetatable(L, METATABLE);
  lua_setmetatable(L, 1);
  return 1;
}

static int host_join(lua_State *L)
{
  thread **held = luaL_checkudata(L, 1, METATABLE);
  thread *one = *held;
  luaL_argcheck(L, one != NULL, 1, "it was joined before");
  *held = NULL;
  (void)pthread_join(one->id, NULL);
  push(L, &one->got);
  const int n = one->got.n;
  let_go(one);
  return n;
}

/* One that nobody joins runs on. */
static int thread_gc(lua_State *L)
{
  thread **held = luaL_checkudata(L, 1, METATABLE);
  if (*held == NULL)
    return 0;
  (void)pthread_detach((*held)->id);
  let_go(*held);
  *held = NULL;
  return 0;
}

/* --- Meeting ------------------------------------------------------------ */

typedef struct place {
  char name[64];
  lua_Integer here;
  unsigned round;
  struct place *next;
} place;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t came = PTHREAD_COND_INITIALIZER;
static place *places; /* guarded by lock; never shrinks */

static place *find_locked(const char *name)
{
  place *one = places;
  while (one != NULL && strcmp(one->name, name) != 0)
    one = one->next;
  if (one != NULL)
    return one;
  one = calloc(1, sizeof *one);
  if (one == NULL)
    abort();
  (void)snprintf(one->name, sizeof one->name, "%s", name);
  one->next = places;
  places = one;
  return one;
}

static int host_meet(lua_State *L)
{
  size_t size;
  const char *name = luaL_checklstring(L, 1, &size);
  const lua_Integer n = luaL_checkinteger(L, 2);
  luaL_argcheck(L, size < sizeof places->name, 1, "the name is too long");
  (void)pthread_mutex_lock(&lock);
  place *one = find_locked(name);
  const unsigned round = one->round;
  if (++one->here >= n) {
    one->here = 0;
    one->round++;
    (void)pthread_cond_broadcast(&came);
  }
  struct timespec until;
  (void)clock_gettime(CLOCK_REALTIME, &until);
  until.tv_sec += MEET_LIMIT_S;
  bool all_here = true;
  while (one->round == round && all_here)
    all_here = pthread_cond_timedwait(&came, &lock, &until) != ETIMEDOUT ||
               one->round != round;
  if (!all_here)
    one->here--;
  (void)pthread_mutex_unlock(&lock);
  if (!all_here)
    return luaL_error(L, "not everybody has come to \"%s\"", name);
  return 0;
}

/* --- Processes ---------------------------------------------------------- */

/* Seconds; 0: none. */
static unsigned limit;

static int host_fork(lua_State *L)
{
  (void)fflush(NULL);
  const pid_t child = fork();
  if (child < 0)
    return luaL_error(L, "no child could be made");
  if (child == 0)
    (void)alarm(limit); /* its parent's is not its own */
  lua_pushinteger(L, (lua_Integer)child);
  return 1;
}

static int host_wait(lua_State *L)
{
  int status = 0;
  const pid_t child = (pid_t)luaL_checkinteger(L, 1);
  if (waitpid(child, &status, 0) != child)
    return luaL_error(L, "there is no such child");
  if (WIFEXITED(status)) {
    lua_pushinteger(L, WEXITSTATUS(status));
    return 1;
  }
  lua_pushnil(L);
  lua_pushinteger(L, WTERMSIG(status));
  return 2;
}

static int host_leave(lua_State *L)
{
  const int status = (int)luaL_checkinteger(L, 1);
  (void)fflush(NULL);
  _exit(status);
}

static int host_limit(lua_State *L)
{
  limit = (unsigned)luaL_checkinteger(L, 1);
  (void)alarm(limit);
  return 0;
}

int luaopen_spec_support_thread_host(lua_State *L)
{
  static const luaL_Reg functions[] = {
      {"start", host_start},
      {"join", host_join},
      {"meet", host_meet},
      {"fork", host_fork},
      {"wait", host_wait},
      {"leave", host_leave},
      {"limit", host_limit},
      {NULL, NULL},
  };
  luaL_newmetatable(L, METATABLE);
  lua_pushcfunction(L, thread_gc);
  lua_setfield(L, -2, "__gc");
  lua_newtable(L);
  for (const luaL_Reg *one = functions; one->name != NULL; one++) {
    lua_pushcfunction(L, one->func);
    lua_setfield(L, -2, one->name);
  }
  return 1;
}
