/*
 * observe.c: what the listeners of a Database are told.
 *
 * A call whose Database has listeners takes times while it goes on; when it is
 * over, and has given its connection back, the Lua side is told, and calls the
 * listeners.  What comes from elsewhere (another thread, a finalizer) waits for
 * the next such call.
 */
#include "binding.h"

#include <stdlib.h>
#include <string.h>

#define NS_PER_SECOND 1e9

/* Something that the database told by itself, until the call is over. */
struct mb_lua_notice {
  struct mb_lua_notice *next;
  const char *severity; /* both in the same piece of memory */
  const char *message;
  char code[8]; /* empty: none */
};

/* --- Times -------------------------------------------------------------- */

void mb_lua_watch_open(mb_lua_run *run)
{
  run->watch = (mb_lua_watch){
      .events = run->watch.events, .start_ns = mb_now_ns(), .drain_ns = -1};
  run->session->origin->call_ns = run->watch.start_ns;
}

/* What was done since then was done in order to tell of it. */
static void pass_over(mb_lua_watch *watch, int64_t since_ns)
{
  watch->start_ns += mb_now_ns() - since_ns;
}

static void on_event(void *context, const mb_event *event)
{
  mb_lua_session *origin = context;
  if (event->kind != MB_EVENT_NOTICE)
    return;
  const char *severity = event->name != NULL ? event->name : "";
  const char *message = event->text != NULL ? event->text : "";
  const size_t size = strlen(severity) + 1;
  const size_t message_size = strlen(message) + 1;
  mb_lua_notice *made = malloc(sizeof *made + size + message_size);
  if (made == NULL)
    return;
  char *texts = (char *)(made + 1);
  memcpy(texts, severity, size);
  memcpy(texts + size, message, message_size);
  *made = (mb_lua_notice){.severity = texts, .message = texts + size};
  if (event->code != NULL)
    (void)snprintf(made->code, sizeof made->code, "%s", event->code);
  mb_lua_notice **last = &origin->notices;
  while (*last != NULL)
    last = &(*last)->next;
  *last = made;
}

void mb_lua_free_notices(mb_lua_session *origin)
{
  while (origin->notices != NULL) {
    mb_lua_notice *first = origin->notices;
    origin->notices = first->next;
    free(first);
  }
}

void mb_lua_watch_borrowed(mb_lua_run *run, mb_status status)
{
  mb_lua_watch *watch = &run->watch;
  const int64_t taken_ns = mb_now_ns() - watch->mark_ns;
  watch->borrowed = true;
  watch->refused = status != MB_OK;
  watch->queue_ns = taken_ns;
  if (watch->refused || run->shared != NULL)
    return;
  watch->connect_ns = mb_conn_connecting_ns(run->conn, watch->mark_ns);
  if (watch->connect_ns > taken_ns)
    watch->connect_ns = taken_ns;
  watch->queue_ns -= watch->connect_ns;
}

/* Notes who has borrowed the connection. */
static void note_borrower(lua_State *L, mb_lua_run *run)
{
  const int64_t since_ns = mb_now_ns();
  luaL_checkstack(L, 8, NULL);
  mb_lua_push_traceback(L);
  const char *note = lua_tostring(L, -1);
  if (note != NULL)
    mb_conn_set_note(run->conn, note);
  lua_pop(L, 1);
  pass_over(&run->watch, since_ns);
}

void mb_lua_watch_connected(lua_State *L, mb_lua_run *run)
{
  const unsigned events = run->watch.events;
  if (events & MB_LUA_ON_NOTICE)
    mb_conn_on_event(run->conn, on_event, run->session->origin);
  if (events & MB_LUA_NOTES && run->watch.borrowed && run->shared == NULL)
    note_borrower(L, run);
}

/* The name of a column that another one has, too. */
static const char *find_duplicate(const mb_result *result)
{
  for (size_t i = 1; i < result->n_columns; i++)
    for (size_t k = 0; k < i; k++)
      if (strcmp(result->columns[i].name, result->columns[k].name) == 0)
        return result->columns[i].name;
  return NULL;
}

void mb_lua_watch_columns(mb_lua_watch *watch, const mb_stmt *stmt)
{
  const mb_result *result = mb_stmt_result(stmt);
  if (!(watch->events & MB_LUA_ON_WARNING))
    return;
  const char *name = find_duplicate(result);
  if (name == NULL)
    return;
  size_t size = strlen(name);
  if (size > sizeof watch->duplicate - 1)
    size = sizeof watch->duplicate - 1;
  memcpy(watch->duplicate, name, size);
  watch->duplicate[size] = '\0';
}

/* --- Telling ------------------------------------------------------------ */

/* Sets a field of the table on the top. */
static void set_seconds(lua_State *L, const char *name, int64_t ns)
{
  lua_pushnumber(L, (lua_Number)((double)ns / NS_PER_SECOND));
  lua_setfield(L, -2, name);
}

static void set_integer(lua_State *L, const char *name, int64_t value)
{
  lua_pushinteger(L, (lua_Integer)value);
  lua_setfield(L, -2, name);
}

static void set_true(lua_State *L, const char *name, bool value)
{
  if (!value)
    return;
  lua_pushboolean(L, 1);
  lua_setfield(L, -2, name);
}

/* The arguments that are the statement's parameters, as they were given. */
static void set_parameters(lua_State *L, const mb_lua_run *run)
{
  const int n = run->params.top - run->params.first + 1;
  if (!run->config->logs_parameters || !run->watch.has_parameters || n < 1)
    return;
  lua_createtable(L, n, 1);
  for (int i = 0; i < n; i++) {
    lua_pushvalue(L, run->params.first + i);
    lua_rawseti(L, -2, i + 1);
  }
  set_integer(L, "n", n);
  lua_setfield(L, -2, "parameters");
}

static void push_details(lua_State *L, const mb_lua_run *run)
{
  luaL_checkstack(L, 8, NULL);
  lua_createtable(L, 0, 16);
  if (run->prepared != NULL)
    compat_getuservalue(L, 1, MB_LUA_EXTRA);
  else if (lua_type(L, 2) == LUA_TSTRING)
    lua_pushvalue(L, 2);
  else
    lua_pushnil(L);
  lua_setfield(L, -2, "text");
  set_parameters(L, run);
}

/* What was measured, into the table on the top. */
static void set_figures(lua_State *L, const mb_lua_watch *watch)
{
  const int64_t duration_ns = watch->busy_ns;
  set_seconds(L, "duration", duration_ns);
  set_seconds(L, "elapsed", watch->elapsed_ns);
  set_seconds(L, "queue", watch->queue_ns);
  set_seconds(L, "connect", watch->connect_ns);
  set_seconds(L, "server", watch->server_ns);
  const int64_t decode_ns =
      duration_ns - watch->queue_ns - watch->connect_ns - watch->server_ns;
  set_seconds(L, "decode", decode_ns > 0 ? decode_ns : 0);
  set_true(L, "is_query", watch->is_query);
  set_true(L, "borrowed", watch->borrowed);
  set_true(L, "refused", watch->refused);
  if (watch->rows >= 0)
    set_integer(L, "rows", watch->rows);
  if (watch->batch > 1)
    set_integer(L, "batch", watch->batch);
  if (watch->warnings > 0)
    set_integer(L, "warnings", watch->warnings);
  if (watch->drain_ns >= 0)
    set_seconds(L, "drain", watch->drain_ns);
  if (watch->duplicate[0] != '\0') {
    lua_pushstring(L, watch->duplicate);
    lua_setfield(L, -2, "duplicate");
  }
}

/* Whether somebody wants to hear of the call. */
static bool is_wanted(const mb_lua_session *origin, const mb_lua_watch *watch,
    const mb_error *error)
{
  const unsigned events = watch->events;
  return (watch->is_query && (events & MB_LUA_ON_QUERY ||
                                 (events & MB_LUA_ON_SLOW_QUERY &&
                                     watch->busy_ns >= origin->slow_ns))) ||
         (watch->borrowed && events & MB_LUA_ON_ACQUIRE) ||
         (error != NULL && events & MB_LUA_ON_ERROR) ||
         (watch->drain_ns >= 0 && events & MB_LUA_ON_DRAIN) ||
         ((watch->warnings > 0 || watch->duplicate[0] != '\0') &&
             events & MB_LUA_ON_WARNING);
}

/* What is measured ends here. */
static void stop(mb_lua_watch *watch)
{
  watch->elapsed_ns = mb_now_ns() - watch->start_ns;
  if (!watch->in_rows)
    watch->busy_ns = watch->elapsed_ns;
}

/* Whether something has come from elsewhere. */
static bool has_more(const mb_lua_session *origin)
{
  if (origin->watches_pool && origin->observed & MB_LUA_ON_LEAK &&
      mb_pool_settings(origin->pool)->leak_after_ns > 0)
    mb_pool_find_leaks(origin->pool);
  return origin->has_pending || origin->notices != NULL ||
         (origin->watches_pool &&
             mb_pool_has_events(origin->pool, origin->events_seen));
}

/* Calls helper tell with the Database and the table on the top (or nil), which
 * is popped.  What is there already is left as it was. */
static void tell(lua_State *L, mb_lua *lua, const mb_lua_session *origin)
{
  const bool had_raised = mb_lua_take_raised(L);
  if (had_raised)
    lua_insert(L, -2);
  mb_lua_helper(L, "tell");
  lua_insert(L, -2);
  mb_lua_push_known(L, origin);
  lua_insert(L, -2);
  const bool is_alive = !lua_isnil(L, -2);
  if (!is_alive)
    lua_pop(L, 3);
  else if (!mb_lua_pcall(L, lua, 2, 0))
    lua_pop(L, 1); /* out of memory: nothing is told */
  if (had_raised) {
    mb_error ignored;
    (void)mb_lua_keep_raised(L, &ignored);
  }
}

void mb_lua_watch_tell(lua_State *L, mb_lua_run *run, const mb_error *error)
{
  mb_lua_session *origin = run->session->origin;
  const bool more = has_more(origin);
  stop(&run->watch);
  luaL_checkstack(L, 16, NULL);
  if (is_wanted(origin, &run->watch, error)) {
    push_details(L, run);
    set_figures(L, &run->watch);
    if (error != NULL) {
      mb_lua_push_error(L, error, run->session->pool, run->text);
      lua_setfield(L, -2, "error");
    }
  } else if (more) {
    lua_pushnil(L);
  } else {
    return;
  }
  tell(L, run->lua, origin);
}

void mb_lua_tell_error(
    lua_State *L, mb_lua *lua, mb_lua_session *session, const mb_error *error)
{
  mb_lua_session *origin = session->origin;
  const bool more = has_more(origin);
  luaL_checkstack(L, 16, NULL);
  if (error != NULL && origin->observed & MB_LUA_ON_ERROR) {
    lua_createtable(L, 0, 1);
    mb_lua_push_error(L, error, session->pool, 0);
    lua_setfield(L, -2, "error");
  } else if (more) {
    lua_pushnil(L);
  } else {
    return;
  }
  tell(L, lua, origin);
}

/* --- Rows --------------------------------------------------------------- */

void mb_lua_watch_rows(lua_State *L, mb_lua_run *run, mb_lua_rows *rows)
{
  const int handle = lua_gettop(L);
  const int64_t since_ns = mb_now_ns();
  push_details(L, run);
  mb_lua_helper(L, "source");
  if (mb_lua_pcall(L, run->lua, 0, 1))
    lua_setfield(L, -2, "source");
  else
    lua_pop(L, 1);
  rows->watch = lua_newuserdata(L, sizeof *rows->watch);
  *rows->watch = run->watch;
  rows->watch->in_rows = true;
  rows->watch->borrowed = false; /* which is told at once */
  rows->watch->rows = 0;
  lua_rawseti(L, -2, 1);
  rows->origin = run->session->origin;
  compat_setuservalue(L, handle, MB_LUA_KEYS + (int)rows->keys_room);
  run->watch.is_query = false;
  run->watch.duplicate[0] = '\0';
  run->watch.warnings = 0;
  pass_over(rows->watch, since_ns);
}

/* Pushes what is to be told of rows, which are at index; false: nothing. */
static bool push_rows(
    lua_State *L, int index, mb_lua_rows *rows, const mb_error *error)
{
  mb_lua_watch *watch = rows->watch;
  rows->watch = NULL; /* once */
  stop(watch);
  if (rows->as_arrays || rows->count > 0)
    watch->duplicate[0] = '\0';
  if (!is_wanted(rows->origin, watch, error))
    return false;
  compat_getuservalue(L, index, MB_LUA_KEYS + (int)rows->keys_room);
  set_figures(L, watch);
  if (error != NULL) {
    mb_lua_push_error(L, error, rows->pool, 0);
    lua_setfield(L, -2, "error");
  }
  return true;
}

void mb_lua_tell_rows(lua_State *L, mb_lua *lua, int index, mb_lua_rows *rows,
    const mb_error *error)
{
  mb_lua_session *origin = rows->origin;
  const bool more = has_more(origin);
  index = lua_absindex(L, index);
  luaL_checkstack(L, 16, NULL);
  if (!push_rows(L, index, rows, error)) {
    if (!more)
      return;
    lua_pushnil(L);
  }
  tell(L, lua, origin);
}

/* --- Finalizers --------------------------------------------------------- */

/* Has the Lua side keep what is on the top, popped, until the next call. */
static void postpone(lua_State *L, mb_lua_session *origin)
{
  mb_lua_helper(L, "postpone");
  lua_insert(L, -2);
  mb_lua_push_known(L, origin);
  lua_insert(L, -2);
  if (lua_isnil(L, -2)) {
    lua_pop(L, 3);
    return;
  }
  if (lua_pcall(L, 2, 0, 0) == LUA_OK)
    origin->has_pending = true;
  else
    lua_pop(L, 1);
}

void mb_lua_postpone_rows(lua_State *L, int index, mb_lua_rows *rows)
{
  mb_lua_session *origin = rows->origin;
  if (push_rows(L, index, rows, NULL))
    postpone(L, origin);
}

void mb_lua_postpone_leak(lua_State *L, int index, mb_lua_session *session)
{
  compat_getuservalue(L, index, MB_LUA_EXTRA);
  if (lua_type(L, -1) != LUA_TTABLE) {
    lua_pop(L, 1);
    return;
  }
  lua_getfield(L, -1, "begun");
  lua_remove(L, -2);
  if (lua_type(L, -1) == LUA_TTABLE)
    postpone(L, session->origin);
  else
    lua_pop(L, 1);
}

void mb_lua_note_begin(lua_State *L, mb_lua *lua)
{
  luaL_checkstack(L, 8, NULL);
  mb_lua_helper(L, "note_begin");
  lua_pushvalue(L, -2);
  if (!mb_lua_pcall(L, lua, 1, 0))
    lua_pop(L, 1);
}

/* --- Functions for the Lua side ----------------------------------------- */

/* listen(db, events, seconds): what is listened to, and from when on a query is
 * slow. */
int mb_lua_listen(lua_State *L)
{
  mb_lua_session *session = mb_lua_check(L, 1, MB_LUA_DATABASE);
  mb_lua_session *origin = session->origin;
  const unsigned events = (unsigned)luaL_checkinteger(L, 2);
  const unsigned of_pool = MB_LUA_ON_CONNECT | MB_LUA_ON_CLOSE | MB_LUA_ON_LEAK;
  origin->slow_ns = (int64_t)(luaL_checknumber(L, 3) * NS_PER_SECOND);
  mb_lua_know(L, origin, 1);
  const bool watches = (events & of_pool) != 0;
  if (watches && !origin->watches_pool &&
      !mb_pool_watch(origin->pool, &origin->events_seen))
    return luaL_error(L, "out of memory");
  if (!watches && origin->watches_pool)
    mb_pool_unwatch(origin->pool);
  origin->watches_pool = watches;
  return 0;
}

/* observe(db, events, change): from here on calls tell of these; 0: of none.
 * change: 1 before listeners are called, -1 after it. */
int mb_lua_observe(lua_State *L)
{
  mb_lua_session *origin = mb_lua_check_session(L, 1)->origin;
  const int change = (int)luaL_checkinteger(L, 3);
  mb_lua_of(L)->telling += change;
  const unsigned events = (unsigned)luaL_checkinteger(L, 2);
  origin->observed = events | (origin->observed & MB_LUA_NOTES);
  if (change > 0)
    origin->has_pending = false;
  return 0;
}

/* observed(x): whether its Database has listeners that may be told something
 * now. */
int mb_lua_observed(lua_State *L)
{
  const mb_lua_session *origin = mb_lua_check_session(L, 1)->origin;
  lua_pushboolean(L, (origin->observed & ~(unsigned)MB_LUA_NOTES) != 0);
  return 1;
}

/* database(x): the Database that x comes from, which was listened to; or nil.
 */
int mb_lua_database(lua_State *L)
{
  mb_lua_push_known(L, mb_lua_check_session(L, 1)->origin);
  return 1;
}

static void push_notice(lua_State *L, mb_lua_session *origin)
{
  const mb_lua_notice *first = origin->notices;
  lua_createtable(L, 0, 3);
  lua_pushliteral(L, "notice");
  lua_setfield(L, -2, "kind");
  lua_pushstring(L, first->severity);
  lua_setfield(L, -2, "severity");
  lua_pushstring(L, first->message);
  lua_setfield(L, -2, "message");
  if (first->code[0] != '\0') {
    lua_pushstring(L, first->code);
    lua_setfield(L, -2, "code");
  }
  mb_lua_notice *gone = origin->notices;
  origin->notices = gone->next;
  free(gone);
}

static void push_pool_event(
    lua_State *L, const mb_lua_session *origin, const mb_pool_event *event)
{
  static const char *const kinds[] = {
      [MB_POOL_CONNECTED] = "connect",
      [MB_POOL_CLOSED] = "close",
      [MB_POOL_LEAKED] = "leak",
  };
  lua_createtable(L, 0, 8);
  lua_pushstring(L, kinds[event->kind]);
  lua_setfield(L, -2, "kind");
  set_seconds(L, "duration", event->duration_ns);
  set_true(L, "own_call", event->own_thread && event->at_ns >= origin->call_ns);
  if (event->missed > 0)
    set_integer(L, "missed", (int64_t)event->missed);
  if (event->kind == MB_POOL_CLOSED) {
    lua_pushstring(L, mb_close_reason_name(event->reason));
    lua_setfield(L, -2, "reason");
  }
  if (event->failed) {
    lua_pushstring(L, mb_class_name(event->class));
    lua_setfield(L, -2, "class");
  }
  if (event->code[0] != '\0') {
    lua_pushstring(L, event->code);
    lua_setfield(L, -2, "code");
  }
  if (event->text[0] != '\0') {
    lua_pushstring(L, event->text);
    lua_setfield(L, -2, "text");
  }
}

/* How many callers are looked at. */
#define CALLERS_MAX 60

/* Finds the nearest Lua code on a coroutine whose source does not begin with
 * folder. */
static bool find_caller(
    lua_State *L, const char *folder, size_t size, lua_Debug *found)
{
  for (int level = 1; level < CALLERS_MAX; level++) {
    if (!lua_getstack(L, level, found) || !lua_getinfo(L, "Sl", found))
      return false;
    if (found->currentline > 0 && strncmp(found->source, folder, size) != 0)
      return true;
  }
  return false;
}

/* caller(folder): the place of the nearest Lua code that is called from, and
 * whose source does not begin with folder, as "app.lua:12"; or nil. */
int mb_lua_caller(lua_State *L)
{
  size_t size;
  const char *folder = luaL_checklstring(L, 1, &size);
  lua_State *outer = mb_lua_of(L)->outer;
  lua_Debug found;
  if (find_caller(L, folder, size, &found) ||
      (outer != NULL && find_caller(outer, folder, size, &found)))
    lua_pushfstring(L, "%s:%d", found.short_src, found.currentline);
  else
    lua_pushnil(L);
  return 1;
}

/* next_event(db): a table of what has come from elsewhere, or nil. */
int mb_lua_next_event(lua_State *L)
{
  mb_pool_event event;
  mb_lua_session *origin = mb_lua_check(L, 1, MB_LUA_DATABASE);
  origin = origin->origin;
  if (origin->notices != NULL)
    push_notice(L, origin);
  else if (origin->watches_pool && origin->pool != NULL &&
           mb_pool_next_event(origin->pool, &origin->events_seen, &event))
    push_pool_event(L, origin, &event);
  else
    lua_pushnil(L);
  return 1;
}
