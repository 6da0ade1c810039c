/*
 * batch.c: the entries of a batch, one by one or on their way together.
 *
 * For the latter the Lua side adds one after the other, sends them, and takes
 * their answers (moonbase.bulk); what an error leaves open is ended by the next
 * call on the connection.
 */
#include "binding.h"

#include <stdio.h>

/* --- Entries ------------------------------------------------------------ */

/* More than any database takes. */
#define VALUES_MAX 10000000

static int refuse_entry(lua_State *L, int64_t number, const char *message)
{
  mb_error error;
  (void)mb_error_fill(&error, MB_USAGE, message);
  error.entry = number;
  return mb_lua_fail(L, NULL, &error, NULL, 0);
}

/* The greatest whole key of the table at index 2. */
static lua_Number find_last(lua_State *L)
{
  lua_Number last = 0;
  lua_pushnil(L);
  while (lua_next(L, 2) != 0) {
    lua_pop(L, 1);
    if (lua_type(L, -1) != LUA_TNUMBER)
      continue;
    const lua_Number key = lua_tonumber(L, -1);
    if (key > last && key == floor(key))
      last = key;
  }
  return last;
}

static size_t count_keys(lua_State *L)
{
  size_t n = 0;
  lua_pushnil(L);
  while (lua_next(L, 2) != 0) {
    lua_pop(L, 1);
    n++;
  }
  return n;
}

/* Replaces an entry at index 2, and its number behind it, by its text and its
 * values; gives the number. */
static int64_t spread(lua_State *L)
{
  char message[96];
  const int64_t number = (int64_t)luaL_checknumber(L, 3);
  luaL_checktype(L, 2, LUA_TTABLE);
  lua_settop(L, 2);
  lua_rawgeti(L, 2, 1);
  if (lua_type(L, 3) != LUA_TSTRING) {
    if (count_keys(L) > 1)
      (void)refuse_entry(L, number,
          "a fragment has its parameters already: none can be given beside it");
    lua_remove(L, 2);
    return number;
  }
  const lua_Number last = find_last(L);
  if (last > VALUES_MAX) {
    (void)snprintf(message, sizeof message,
        "value %.0f is more than any statement has", (double)last);
    (void)refuse_entry(L, number, message);
  }
  luaL_checkstack(L, (int)last + 8, "too many parameters");
  for (int i = 2; i <= (int)last; i++)
    lua_rawgeti(L, 2, i);
  lua_remove(L, 2);
  return number;
}

/* --- One by one --------------------------------------------------------- */

/* collect(x, entry, number): {rows =, affected =, id =}. */
int mb_lua_collect(lua_State *L)
{
  mb_lua_run run;
  const int64_t number = spread(L);
  if (mb_lua_run_start_entry(L, &run) && mb_lua_run_give(L, &run) &&
      mb_lua_run_end(&run))
    return 1;
  run.error.entry = number;
  return mb_lua_run_fail(L, &run);
}

/* --- Together ----------------------------------------------------------- */

/* Opens a call on the session at index 1 and finds its connection. */
static mb_status open_call(lua_State *L, mb_lua_run *run)
{
  (void)mb_lua_check_session(L, 1);
  mb_lua_run_open(L, run);
  return mb_lua_run_connect(L, run);
}

/* takes_batches(x): whether statements of x can be on their way together. Where
 * events show parameters they go one by one, with theirs. */
int mb_lua_takes_batches(lua_State *L)
{
  mb_lua_run run;
  if (open_call(L, &run) != MB_OK)
    return mb_lua_run_fail(L, &run);
  const bool takes =
      mb_conn_takes_batches(run.conn) && !run.config->logs_parameters;
  (void)mb_lua_run_end(&run);
  lua_pushboolean(L, takes);
  return 1;
}

/* batch_add(x, entry, number): true when it is time to send. */
int mb_lua_batch_add(lua_State *L)
{
  mb_lua_run run;
  bool full;
  const int64_t number = spread(L);
  if (!mb_lua_run_read_entry(L, &run) ||
      mb_batch_add(&run.stmt, run.tx, run.params.values, run.params.n,
          &run.config->call, &full, &run.error) != MB_OK) {
    run.error.entry = number;
    return mb_lua_run_fail(L, &run);
  }
  run.stmt = NULL;
  run.watch.is_query = false; /* it is told of with its answer */
  (void)mb_lua_run_end(&run);
  lua_pushboolean(L, full);
  return 1;
}

/* batch_send(x) */
int mb_lua_batch_send(lua_State *L)
{
  mb_lua_run run;
  if (open_call(L, &run) != MB_OK ||
      mb_batch_send(run.conn, &run.config->call, &run.error) != MB_OK)
    return mb_lua_run_fail(L, &run);
  (void)mb_lua_run_end(&run);
  return 0;
}

/* Errors and events show the text of the statement. */
static void show_text(lua_State *L, mb_lua_run *run)
{
  size_t size;
  const char *text = mb_stmt_text(run->stmt, &size);
  lua_pushlstring(L, text, size);
  lua_replace(L, 2);
  run->text = 2;
}

/* The answer to the next one, on the top.  False: it has failed. */
static bool take_one(lua_State *L, mb_lua_run *run)
{
  const int64_t since_ns = run->watch.events != 0 ? mb_now_ns() : 0;
  run->status =
      mb_batch_next(run->conn, &run->config->call, &run->stmt, &run->error);
  if (run->status != MB_ERROR && run->stmt != NULL)
    mb_lua_run_note(run);
  if (run->watch.events != 0)
    run->watch.server_ns += mb_now_ns() - since_ns;
  if (run->stmt != NULL && (run->watch.events != 0 || run->status == MB_ERROR))
    show_text(L, run);
  return run->status != MB_ERROR && mb_lua_run_give(L, run);
}

/* batch_take(x, nil, results, first, last): puts the answers to entries first
 * to last into results; the number behind the last one that was taken: where
 * there are listeners, who hear of each, one. */
int mb_lua_batch_take(lua_State *L)
{
  mb_lua_run run;
  const int64_t first = (int64_t)luaL_checknumber(L, 4);
  int64_t last = (int64_t)luaL_checknumber(L, 5);
  luaL_checktype(L, 3, LUA_TTABLE);
  if (open_call(L, &run) != MB_OK)
    return mb_lua_run_fail(L, &run);
  run.watch.is_query = true;
  if (run.watch.events != 0)
    last = first;
  for (int64_t i = first; i <= last; i++) {
    if (!take_one(L, &run)) {
      run.error.entry = i;
      return mb_lua_run_fail(L, &run);
    }
    lua_rawseti(L, 3, (int)i);
  }
  if (!mb_lua_run_end(&run))
    return mb_lua_run_fail(L, &run);
  lua_pushnumber(L, (lua_Number)(last + 1));
  return 1;
}

/* batch_end(x) */
int mb_lua_batch_end(lua_State *L)
{
  mb_lua_run run;
  if (open_call(L, &run) != MB_OK ||
      mb_batch_end(run.conn, &run.error) != MB_OK)
    return mb_lua_run_fail(L, &run);
  (void)mb_lua_run_end(&run);
  return 0;
}
