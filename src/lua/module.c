/*
 * module.c: moonbase.core, the binding as a module of Lua's.
 *
 * It gives the Lua side functions, and the methods of handles, to which the Lua
 * side adds its own.  Users require "moonbase".
 */
#include "binding.h"

#include <string.h>

__attribute__((visibility("default"))) int luaopen_moonbase_core(lua_State *L);

/* --- The state ---------------------------------------------------------- */

/* The binding's own finalizer runs after those of all handles, which were made
 * later: the last chance to end what they have left. */
static int state_gc(lua_State *L)
{
  mb_lua *lua = lua_touserdata(L, 1);
  lua->n_frames = 0;
  lua->L = L;
  mb_dispose();
  mb_lua_leave_anchor(lua);
  return 0;
}

static lua_State *main_state(lua_State *L)
{
#if LUA_VERSION_NUM >= 502
  lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
  lua_State *main = lua_tothread(L, -1);
  lua_pop(L, 1);
  return main;
#else
  /* The one that loads the module: kept alive by the registry. */
  (void)lua_pushthread(L);
  (void)luaL_ref(L, LUA_REGISTRYINDEX);
  return L;
#endif
}

static void push_state(lua_State *L)
{
  mb_lua *lua = lua_newuserdata(L, sizeof *lua);
  memset(lua, 0, sizeof *lua);
  lua_newtable(L);
  lua_pushcfunction(L, state_gc);
  lua_setfield(L, -2, "__gc");
  lua_setmetatable(L, -2);
  lua->L = L;
  lua->main = main_state(L);
}

/* --- Functions for the Lua side ----------------------------------------- */

static int core_rawlen(lua_State *L)
{
  luaL_checkany(L, 1);
  lua_pushinteger(L, (lua_Integer)lua_rawlen(L, 1));
  return 1;
}

static int core_now(lua_State *L)
{
  lua_pushnumber(L, (lua_Number)mb_now_ns() / 1e9);
  return 1;
}

static int core_sleep(lua_State *L)
{
  mb_sleep_ns((int64_t)(luaL_checknumber(L, 1) * 1e9));
  return 0;
}

/* pause(x, seconds): the same for a call on the handle x. */
static int core_pause(lua_State *L)
{
  mb_sleep_ns((int64_t)(luaL_checknumber(L, 2) * 1e9));
  return 0;
}

/* is_yieldable(): whether the caller may yield, as far as this Lua tells. */
static int core_is_yieldable(lua_State *L)
{
  lua_pushboolean(L, compat_is_yieldable(L));
  return 1;
}

/* kind(value): "Database", "Rows" …; nil for what is no handle. */
static int core_kind(lua_State *L)
{
  static const char *const names[MB_LUA_KIND_COUNT] = {
      [MB_LUA_DATABASE] = "Database",
      [MB_LUA_CONNECTION] = "Connection",
      [MB_LUA_TRANSACTION] = "Transaction",
      [MB_LUA_STATEMENT] = "Statement",
      [MB_LUA_ROWS] = "Rows",
      [MB_LUA_CANCELLATION] = "Cancellation",
  };
  const mb_lua_head *head = mb_lua_handle(L, 1);
  if (head == NULL)
    lua_pushnil(L);
  else
    lua_pushstring(L, names[head->kind]);
  return 1;
}

/* check_session(value): raises a UsageError for what is none. */
static int core_check_session(lua_State *L)
{
  (void)mb_lua_check_session(L, 1);
  return 0;
}

/* set_close(kind, function): what __close does. */
static int core_set_close(lua_State *L)
{
  static const char *const names[] = {
      "Database", "Connection", "Transaction", NULL};
  const int kind = luaL_checkoption(L, 1, NULL, names) + MB_LUA_DATABASE;
  lua_rawgeti(L, lua_upvalueindex(MB_LUA_METATABLES), kind);
  lua_pushvalue(L, 2);
  lua_setfield(L, -2, "__close");
  return 0;
}

/* suggest(name, list): the name that is nearest, or nil. */
static int core_suggest(lua_State *L)
{
  size_t size;
  const char *word = luaL_checklstring(L, 1, &size);
  luaL_checktype(L, 2, LUA_TTABLE);
  const size_t n = lua_rawlen(L, 2);
  const char **names = lua_newuserdata(L, (n + 1) * sizeof *names);
  for (size_t i = 0; i < n; i++) {
    lua_rawgeti(L, 2, (int)i + 1);
    names[i] = luaL_checkstring(L, -1); /* the list holds it */
    lua_pop(L, 1);
  }
  lua_pushstring(L, mb_suggest(word, size, names, n));
  return 1;
}

static const luaL_Reg functions[] = {
    {"abandon", mb_lua_abandon},
    {"about", mb_lua_about},
    {"batch_add", mb_lua_batch_add},
    {"batch_end", mb_lua_batch_end},
    {"batch_send", mb_lua_batch_send},
    {"batch_take", mb_lua_batch_take},
    {"begin", mb_lua_begin},
    {"caller", mb_lua_caller},
    {"block", mb_lua_block},
    {"cancellation", mb_lua_cancellation_open},
    {"capability", mb_lua_capability},
    {"check_session", core_check_session},
    {"close_connection", mb_lua_close_connection},
    {"close_database", mb_lua_close_database},
    {"collect", mb_lua_collect},
    {"command", mb_lua_command},
    {"commit", mb_lua_commit},
    {"configure", mb_lua_configure},
    {"control", mb_lua_control},
    {"current", mb_lua_current},
    {"database", mb_lua_database},
    {"define", mb_lua_define},
    {"extra", mb_lua_extra},
    {"hub", mb_lua_hub_open},
    {"insert_rows", mb_lua_insert_rows},
    {"is_closed", mb_lua_is_closed},
    {"is_inside", mb_lua_is_inside},
    {"is_lost", mb_lua_is_lost},
    {"is_open", mb_lua_is_open},
    {"is_yieldable", core_is_yieldable},
    {"join", mb_lua_join},
    {"kind", core_kind},
    {"leave", mb_lua_leave},
    {"listen", mb_lua_listen},
    {"next_event", mb_lua_next_event},
    {"now", core_now},
    {"observe", mb_lua_observe},
    {"observed", mb_lua_observed},
    {"open", mb_lua_open},
    {"option", mb_lua_option},
    {"options", mb_lua_options},
    {"original", mb_lua_original},
    {"parent", mb_lua_parent},
    {"pause", core_pause},
    {"places", mb_lua_places},
    {"quote", mb_lua_quote},
    {"rawlen", core_rawlen},
    {"returns_errors", mb_lua_returns_errors},
    {"rollback", mb_lua_rollback},
    {"scheduler", mb_lua_scheduler},
    {"scheme", mb_lua_scheme},
    {"set_close", core_set_close},
    {"sleep", core_sleep},
    {"source", mb_lua_source},
    {"start", mb_lua_start},
    {"stats", mb_lua_stats},
    {"step", mb_lua_step},
    {"suggest", core_suggest},
    {"takes_batches", mb_lua_takes_batches},
    {"tell", mb_lua_tell},
    {"text", mb_lua_text},
    {"url", mb_lua_url},
    {"view", mb_lua_view},
    {NULL, NULL},
};

/* --- Numbers that both sides know --------------------------------------- */

typedef struct number {
  const char *name;
  int value;
} number;

static const number kind_numbers[] = {
    {"double", MB_DOUBLE},
    {"blob", MB_BLOB},
    {"decimal", MB_DECIMAL},
    {"timestamptz", MB_TIMESTAMPTZ},
    {"json", MB_JSON},
    {"uuid", MB_UUID},
    {"array", MB_ARRAY},
    {"fragment", MB_LUA_FRAGMENT},
    {"params", MB_LUA_PARAMS},
    {NULL, 0},
};

static const number isolations[] = {
    {"read uncommitted", MB_READ_UNCOMMITTED},
    {"read committed", MB_READ_COMMITTED},
    {"repeatable read", MB_REPEATABLE_READ},
    {"serializable", MB_SERIALIZABLE},
    {NULL, 0},
};

static const number events[] = {
    {"query", MB_LUA_ON_QUERY},
    {"slow_query", MB_LUA_ON_SLOW_QUERY},
    {"transaction", MB_LUA_ON_TRANSACTION},
    {"acquire", MB_LUA_ON_ACQUIRE},
    {"connect", MB_LUA_ON_CONNECT},
    {"close", MB_LUA_ON_CLOSE},
    {"error", MB_LUA_ON_ERROR},
    {"warning", MB_LUA_ON_WARNING},
    {"notice", MB_LUA_ON_NOTICE},
    {"retry", MB_LUA_ON_RETRY},
    {"drain", MB_LUA_ON_DRAIN},
    {"leak", MB_LUA_ON_LEAK},
    {NULL, 0},
};

static const number modes[] = {
    {"deferred", MB_DEFERRED},
    {"immediate", MB_IMMEDIATE},
    {"exclusive", MB_EXCLUSIVE},
    {NULL, 0},
};

static const number kinds[] = {
    {"Rows", MB_LUA_ROWS},
    {NULL, 0},
};

static void set_numbers(lua_State *L, const char *field, const number *list)
{
  lua_newtable(L);
  for (; list->name != NULL; list++) {
    lua_pushinteger(L, list->value);
    lua_setfield(L, -2, list->name);
  }
  lua_setfield(L, -2, field);
}

/* --- Handles ------------------------------------------------------------ */

/* Which functions a kind of handle has. */
static const struct {
  mb_lua_kind kind;
  const char *name;
  const luaL_Reg *methods[4];
  const luaL_Reg *meta;
} handles[] = {
    {MB_LUA_DATABASE, "Database",
        {mb_lua_run_methods, mb_lua_session_methods, mb_lua_database_methods,
            NULL},
        mb_lua_session_meta},
    {MB_LUA_CONNECTION, "Connection",
        {mb_lua_run_methods, mb_lua_session_methods, NULL},
        mb_lua_session_meta},
    {MB_LUA_TRANSACTION, "Transaction",
        {mb_lua_run_methods, mb_lua_session_methods, NULL},
        mb_lua_session_meta},
    {MB_LUA_STATEMENT, "Statement",
        {mb_lua_run_methods, mb_lua_statement_methods, NULL},
        mb_lua_statement_meta},
    {MB_LUA_ROWS, "Rows", {mb_lua_rows_methods, NULL}, mb_lua_rows_meta},
    {MB_LUA_CANCELLATION, "Cancellation", {mb_lua_cancellation_methods, NULL},
        mb_lua_cancellation_meta},
};

/* Sets functions with the upvalues, which are the values from first on, into
 * the table on the top. */
static void set_functions(lua_State *L, const luaL_Reg *list, int first)
{
  for (int i = 0; i < MB_LUA_N_UPVALUES; i++)
    lua_pushvalue(L, first + i);
  compat_setfuncs(L, list, MB_LUA_N_UPVALUES);
}

/* Makes the metatables, and the table of tables of methods, which is pushed. */
static void make_handles(lua_State *L, int first)
{
  lua_newtable(L);
  set_functions(L, mb_lua_fiber_meta, first);
  lua_rawseti(L, first + MB_LUA_METATABLES - MB_LUA_STATE, MB_LUA_FIBER);
  lua_newtable(L);
  set_functions(L, mb_lua_ticket_meta, first);
  lua_rawseti(L, first + MB_LUA_METATABLES - MB_LUA_STATE, MB_LUA_TICKET);
  lua_newtable(L);
  for (size_t i = 0; i < sizeof handles / sizeof handles[0]; i++) {
    lua_newtable(L); /* the metatable */
    set_functions(L, handles[i].meta, first);
    lua_pushfstring(L, "moonbase.%s", handles[i].name);
    lua_setfield(L, -2, "__name");
    lua_pushliteral(L, "moonbase");
    lua_setfield(L, -2, "__metatable");
    lua_newtable(L); /* methods */
    for (size_t k = 0; handles[i].methods[k] != NULL; k++)
      set_functions(L, handles[i].methods[k], first);
    lua_pushvalue(L, -1);
    lua_setfield(L, -3, "__index");
    lua_setfield(L, -3, handles[i].name);
    lua_rawseti(
        L, first + MB_LUA_METATABLES - MB_LUA_STATE, (int)handles[i].kind);
  }
}

/* class -> parent. */
static void push_classes(lua_State *L)
{
  lua_newtable(L);
  for (int i = 0; i < MB_CLASS_COUNT; i++) {
    lua_pushstring(L, mb_class_name(mb_class_parent((mb_class)i)));
    lua_setfield(L, -2, mb_class_name((mb_class)i));
  }
}

int luaopen_moonbase_core(lua_State *L)
{
  lua_settop(L, 0);
  luaL_checkstack(L, 40, NULL);
  push_state(L);
  for (int i = MB_LUA_SHAPE_LIST; i <= MB_LUA_N_UPVALUES; i++)
    lua_newtable(L);

  lua_newtable(L);
  set_functions(L, functions, 1);
  make_handles(L, 1);
  lua_setfield(L, -2, "methods");
  push_classes(L);
  lua_setfield(L, -2, "classes");
  set_numbers(L, "kind_numbers", kind_numbers);
  set_numbers(L, "isolations", isolations);
  set_numbers(L, "modes", modes);
  set_numbers(L, "events", events);
  set_numbers(L, "kind_of", kinds);
  /* Tables that the Lua side fills. */
  lua_pushvalue(L, MB_LUA_KINDS);
  lua_setfield(L, -2, "kinds");
  lua_pushvalue(L, MB_LUA_METATABLES);
  lua_setfield(L, -2, "metatables");
  lua_pushvalue(L, MB_LUA_HELPERS);
  lua_setfield(L, -2, "helpers");

  static const luaL_Reg kept[] = {
      {"call_back", mb_lua_call_back},
      {"next_tuple", mb_lua_next_tuple},
      {NULL, NULL},
  };
  lua_pushvalue(L, MB_LUA_HELPERS);
  set_functions(L, kept, 1);
  lua_pop(L, 1);
  mb_lua_reserve_raised(L, lua_touserdata(L, MB_LUA_STATE));

  lua_pushliteral(L, MB_VERSION);
  lua_setfield(L, -2, "version");
  lua_pushboolean(L, COMPAT_HAS_CLOSE);
  lua_setfield(L, -2, "has_close");
  lua_pushboolean(L, COMPAT_HAS_INTEGERS);
  lua_setfield(L, -2, "has_integers");
  lua_pushlightuserdata(L, NULL);
  lua_setfield(L, -2, "null");
  lua_pushlightuserdata(L, (void *)(uintptr_t)&mb_lua_mark);
  lua_setfield(L, -2, "must_wait");
  return 1;
}
