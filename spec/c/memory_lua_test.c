/*
 * memory_lua_test.c: the Lua binding without memory.
 *
 * memory_script.lua does what a program may do with a database, in steps that
 * are called one after the other in a Lua state of its own.  They run with one
 * allocation after the other failing, those of Lua and those of the core
 * counted in one row; memory_test.c does the same with those of SQLite.  An
 * error is that of Lua, or a ResourceError; all memory comes back, by then or
 * when the state is closed; the connections can be used; and the file holds
 * what was committed and nothing else.
 *
 * Lua 5.4 collects all garbage and tries again when it gets no memory, so that
 * two allocations have to fail for it to notice.  What takes less memory than
 * before never fails: Lua relies on that.
 *
 * LuaJIT is run without its compiler.  Its beta3 does not survive every lack of
 * memory by itself: a program in plain Lua, without this binding, crashes when
 * each of its allocations fails in turn, most of all where code is compiled.
 */
#include "../../drivers/sqlite/driver.h"
#include "../../src/core/worker.h"
#include "../../src/lua/compat.h"
#include "../../src/moonbase.h"
#include "check.h"
#include "memory.h"
#include "memory_files.h"

#include <lualib.h>
#include <sqlite3.h>
#include <unistd.h>

#define N_PARTS 9

enum outcome {
  ABSENT,  /* its step has failed before its end */
  UNKNOWN, /* or then */
  WRITTEN  /* it has said that it is committed */
};

/* Rows of the steps that write. */
static const int rows_of[N_PARTS] = {0, 1, 1, 3, 0, 2, 20, 1, 1};

static enum outcome parts[N_PARTS]; /* of the steps that write */
static bool in_tasks;               /* the steps are tasks of a scheduler */

int luaopen_moonbase_core(lua_State *L);
int luaopen_moonbase_driver_sqlite(lua_State *L);

/* --- The state ---------------------------------------------------------- */

static void *give_memory(void *context, void *block, size_t old, size_t size)
{
  (void)context;
  if (size == 0) {
    memory_release(block);
    return NULL;
  }
  if ((block == NULL || size > old) && !memory_may())
    return NULL;
  return block == NULL ? memory_add(malloc(size)) : realloc(block, size);
}

static void tell(lua_State *L, enum outcome outcome)
{
  const lua_Integer part = lua_tointeger(L, 1);
  if (CHECK(part > 0 && part < N_PARTS))
    parts[part] = outcome;
}

static int on_ended(lua_State *L)
{
  tell(L, UNKNOWN);
  return 0;
}

static int on_done(lua_State *L)
{
  tell(L, WRITTEN);
  return 0;
}

/* Makes the modules known that are linked in, and switches a compiler off. */
static int prepare(lua_State *L)
{
  luaL_openlibs(L);
  lua_getglobal(L, "package");
  lua_pushliteral(L, "lua/?.lua;lua/?/init.lua");
  lua_setfield(L, -2, "path");
  lua_getfield(L, -1, "preload");
  lua_pushcfunction(L, luaopen_moonbase_core);
  lua_setfield(L, -2, "moonbase.core");
  lua_pushcfunction(L, luaopen_moonbase_driver_sqlite);
  lua_setfield(L, -2, "moonbase.driver.sqlite");
  lua_getglobal(L, "jit");
  if (lua_istable(L, -1)) {
    lua_getfield(L, -1, "off");
    lua_call(L, 0, 0);
  }
  return 0;
}

/* Gives the list of steps and the function that ends them. */
static int load_script(lua_State *L)
{
  if (luaL_loadfile(L, "spec/c/memory_script.lua") != 0)
    return lua_error(L);
  lua_pushstring(L, url);
  lua_pushstring(L, copy_path);
  lua_pushcfunction(L, on_ended);
  lua_pushcfunction(L, on_done);
  lua_pushboolean(L, in_tasks);
  lua_call(L, 5, 2);
  return 2;
}

/* --- Errors ------------------------------------------------------------- */

/* Whether a field of the error on the top is that text, or true when text is
 * NULL; nothing is allocated. */
static bool has_field(lua_State *L, const char *name, const char *text)
{
  bool has = false;
  lua_pushnil(L);
  while (lua_next(L, -2) != 0) {
    if (lua_type(L, -2) == LUA_TSTRING &&
        strcmp(lua_tostring(L, -2), name) == 0)
      has = text == NULL ? lua_toboolean(L, -1) != 0
                         : lua_type(L, -1) == LUA_TSTRING &&
                               strcmp(lua_tostring(L, -1), text) == 0;
    lua_pop(L, 1);
  }
  return has;
}

/* Whether what is on the top says that there was no memory, or that the end of
 * its transaction or connection has followed from that.  A stack that cannot
 * grow has overflown, for Lua. */
static bool is_of_memory(lua_State *L)
{
  if (lua_type(L, -1) == LUA_TTABLE)
    return has_field(L, "class", "ResourceError") ||
           has_field(L, "transaction_dead", NULL) ||
           has_field(L, "connection_dead", NULL);
  const char *text = lua_tostring(L, -1);
  return text != NULL && (strstr(text, "not enough memory") != NULL ||
                             strstr(text, "stack overflow") != NULL);
}

static void report(lua_State *L)
{
  memory_unlimit();
  lua_getglobal(L, "tostring");
  lua_pushvalue(L, -2);
  if (lua_pcall(L, 1, 1, 0) == 0)
    (void)fprintf(stderr, "%s\n", lua_tostring(L, -1));
  lua_pop(L, 1);
}

/* Calls the function on the top, which may fail only for want of memory. */
static bool call(lua_State *L, int results)
{
  if (lua_pcall(L, 0, results, 0) == 0)
    return true;
  if (!CHECK(memory_refused > 0 && is_of_memory(L)))
    report(L);
  lua_pop(L, 1);
  return false;
}

/* What a step has left open when it failed is the garbage collector's. */
static int collect(lua_State *L)
{
  (void)lua_gc(L, LUA_GCCOLLECT, 0);
  return 0;
}

/* --- A trial ------------------------------------------------------------ */

/* The steps, of which each stands on the stack before memory runs out. */
static void run_steps(lua_State *L, size_t first, size_t n)
{
  lua_pushcfunction(L, load_script);
  if (!CHECK_INT(lua_pcall(L, 0, 2, 0), 0)) {
    report(L);
    return;
  }
  const int steps = (int)lua_rawlen(L, 1);
  luaL_checkstack(L, 2 * steps + 20, NULL);
  for (int i = 1; i <= steps; i++)
    lua_rawgeti(L, 1, i);
  lua_pushcfunction(L, collect);
  const int collector = lua_gettop(L);
  memory_refuse(first, n);
  for (int i = 1; i <= steps; i++) {
    lua_pushvalue(L, 2 + i);
    if (!call(L, 0) && n != SIZE_MAX) {
      lua_pushvalue(L, collector);
      (void)call(L, 0);
    }
  }
  memory_unlimit();
  lua_pushvalue(L, 2);
  if (!CHECK_INT(lua_pcall(L, 0, 0, 0), 0))
    report(L);
}

static lua_State *open_state(void)
{
  lua_State *L = lua_newstate(give_memory, NULL);
  if (L == NULL)
    abort();
  lua_pushcfunction(L, prepare);
  if (lua_pcall(L, 0, 0, 0) != 0)
    abort();
  return L;
}

/* Looks into the file with nothing but SQLite. */
static void check_file(void)
{
  int found[N_PARTS] = {0};
  sqlite3 *db = NULL;
  sqlite3_stmt *stmt = NULL;
  CHECK_INT(sqlite3_open(path, &db), SQLITE_OK);
  if (sqlite3_prepare_v2(db, "select part, count(*) from t group by part", -1,
          &stmt, NULL) == SQLITE_OK)
    while (sqlite3_step(stmt) == SQLITE_ROW)
      found[sqlite3_column_int(stmt, 0)] = sqlite3_column_int(stmt, 1);
  (void)sqlite3_finalize(stmt);
  CHECK_INT(sqlite3_close(db), SQLITE_OK);
  for (size_t i = 0; i < N_PARTS; i++) {
    if (parts[i] == UNKNOWN)
      CHECK(found[i] == 0 || found[i] == rows_of[i]);
    else
      CHECK_INT(found[i], parts[i] == WRITTEN ? rows_of[i] : 0);
  }
}

/* Runs the steps with n allocations failing from number first on; false: they
 * needed no more than first. */
static bool fails(size_t first, size_t n)
{
  static bool loaded; /* the driver, whose description stays for good */
  const sqlite3_int64 used = sqlite3_memory_used();
  const size_t workers = mb__worker_count();
  memset(parts, 0, sizeof parts);
  memory_count();
  lua_State *L = open_state();
  run_steps(L, first, n);
  lua_close(L);
  CHECK_INT(memory_held + workers, mb__worker_count() + (loaded ? 0 : 1));
  loaded = true;
  if (memory_refused == 0)
    for (size_t i = 1; i < N_PARTS; i++)
      CHECK(parts[i] == WRITTEN || rows_of[i] == 0);
  CHECK_INT(sqlite3_shutdown(), SQLITE_OK);
  CHECK_INT(sqlite3_memory_used(), used);
  check_file();
  CHECK_INT(sqlite3_shutdown(), SQLITE_OK);
  remove_files();
  return memory_refused > 0;
}

/* Loads the module with n allocations failing; false: it needed fewer. */
static bool fails_to_load(size_t first, size_t n)
{
  memory_count();
  lua_State *L = open_state();
  lua_pushcfunction(L, load_script);
  memory_refuse(first, n);
  (void)call(L, 2);
  memory_unlimit();
  lua_close(L);
  CHECK_INT(memory_held, 0);
  return memory_refused > 0;
}

static void nothing_fails(void)
{
  CHECK(!fails(SIZE_MAX / 2, 1));
}

static void one_allocation_fails(void)
{
  memory_fail_each(fails, 1, 41);
}

static void two_allocations_fail(void)
{
  memory_fail_each(fails, 2, 13);
}

static void all_allocations_fail(void)
{
  memory_fail_each(fails, SIZE_MAX, 37);
}

static void fail_in_tasks(void)
{
  in_tasks = true;
  CHECK(!fails(SIZE_MAX / 2, 1));
  memory_fail_each(fails, 1, 83);
  memory_fail_each(fails, 2, 29);
  memory_fail_each(fails, SIZE_MAX, 79);
  in_tasks = false;
}

static void loading_fails(void)
{
  memory_fail_each(fails_to_load, 2, 97);
}

static const struct check_test tests[] = {CHECK_TEST(nothing_fails),
    CHECK_TEST(one_allocation_fails), CHECK_TEST(two_allocations_fail),
    CHECK_TEST(all_allocations_fail), CHECK_TEST(fail_in_tasks),
    CHECK_TEST(loading_fails)};

int main(void)
{
  if (!make_folder())
    return 1;
  const int status = CHECK_RUN(tests);
  (void)rmdir(folder);
  return status;
}
