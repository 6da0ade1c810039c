/*
 * handle.c: the life of Databases, Connections and Transactions.
 *
 * A Database holds its pool; a Connection and a Transaction hold a lease when
 * they have borrowed by themselves.  A view (x:with{…}) holds nothing but what
 * it looks at.  A finalizer does no I/O: it leaves the work to the next call.
 */
#include "binding.h"

#include <limits.h>
#include <string.h>

#define NS_PER_SECOND 1e9

/* --- Making ------------------------------------------------------------- */

/* A new session beside the one at parent: the same pool and options. */
static mb_lua_session *push_session(lua_State *L, mb_lua_kind kind, int parent)
{
  parent = lua_absindex(L, parent);
  const mb_lua_session *from = mb_lua_check_session(L, parent);
  mb_lua_session *made = mb_lua_new(L, kind, sizeof *made, MB_LUA_EXTRA);
  made->config = from->config;
  made->has_setup = from->has_setup;
  made->pool = from->pool;
  made->family = from->family;
  made->origin = from->origin;
  mb_pool_ref(made->pool);
  compat_getuservalue(L, parent, MB_LUA_OPTIONS);
  compat_setuservalue(L, -2, MB_LUA_OPTIONS);
  lua_pushvalue(L, parent);
  compat_setuservalue(L, -2, MB_LUA_PARENT);
  return made;
}

static void hold_conn(mb_lua_session *session, mb_conn *conn)
{
  session->conn = conn;
  session->borrow = mb_conn_borrow(conn);
  mb_conn_ref(conn);
}

void mb_lua_push_view(lua_State *L, mb_conn *conn)
{
  mb_lua_session *made = push_session(L, MB_LUA_CONNECTION, -1);
  hold_conn(made, conn);
  lua_remove(L, -2);
}

/* --- Options ------------------------------------------------------------ */

static bool has_field(lua_State *L, int table, const char *name)
{
  lua_getfield(L, table, name);
  const bool has = !lua_isnil(L, -1);
  lua_pop(L, 1);
  return has;
}

static bool field_is(
    lua_State *L, int table, const char *name, const char *wanted)
{
  lua_getfield(L, table, name);
  const char *word = lua_tostring(L, -1);
  const bool same = word != NULL && strcmp(word, wanted) == 0;
  lua_pop(L, 1);
  return same;
}

static bool field_is_false(lua_State *L, int table, const char *name)
{
  lua_getfield(L, table, name);
  const bool is = lua_isboolean(L, -1) && !lua_toboolean(L, -1);
  lua_pop(L, 1);
  return is;
}

static bool field_is_true(lua_State *L, int table, const char *name)
{
  lua_getfield(L, table, name);
  const bool is = lua_toboolean(L, -1) != 0;
  lua_pop(L, 1);
  return is;
}

static int64_t field_integer(lua_State *L, int table, const char *name)
{
  lua_getfield(L, table, name);
  const int64_t value = (int64_t)lua_tonumber(L, -1);
  lua_pop(L, 1);
  return value;
}

static int64_t field_ns(lua_State *L, int table, const char *name)
{
  lua_getfield(L, table, name);
  const double seconds = (double)lua_tonumber(L, -1);
  const int64_t ns = (int64_t)(seconds * NS_PER_SECOND);
  lua_pop(L, 1);
  return ns == 0 && seconds > 0 ? 1 : ns; /* 0 is no limit */
}

/* configure(x, options): takes the options, which the Lua side has checked. */
int mb_lua_configure(lua_State *L)
{
  mb_lua_session *session = mb_lua_check_session(L, 1);
  luaL_checktype(L, 2, LUA_TTABLE);
  mb_lua_config *config = &session->config;
  config->returns_errors = field_is(L, 2, "errors", "return");
  config->has_null = has_field(L, 2, "null");
  config->int64_raises = field_is(L, 2, "int64", "error");
  config->decimal_is_number = field_is(L, 2, "decimal", "number");
  config->keeps_booleans = field_is_false(L, 2, "booleans");
  config->has_json = has_field(L, 2, "json");
  config->has_hooks = config->has_json || has_field(L, 2, "types");
  config->is_plain = field_is_false(L, 2, "placeholders");
  config->logs_parameters = field_is_true(L, 2, "log_parameters");
  config->has_default_timeout = field_is_true(L, 2, "timeout_is_default");
  config->call.timeout_ns = field_ns(L, 2, "timeout");
  config->call.fetch_size = field_integer(L, 2, "fetch_size");
  lua_getfield(L, 2, "cancel");
  config->call.cancellation = NULL;
  if (!lua_isnil(L, -1)) {
    const mb_lua_cancellation *stop =
        mb_lua_check(L, lua_gettop(L), MB_LUA_CANCELLATION);
    config->call.cancellation = stop->cancellation;
  }
  if (session->head.kind == MB_LUA_DATABASE)
    session->has_setup = field_is_true(L, 2, "has_setup");
  session->has_password = mb_pool_settings(session->pool)->asks_password == 1;
  lua_pushvalue(L, 2);
  compat_setuservalue(L, 1, MB_LUA_OPTIONS);
  lua_settop(L, 1);
  return 1;
}

/* options(x): the table that configure was given. */
int mb_lua_options(lua_State *L)
{
  (void)mb_lua_check_session(L, 1);
  compat_getuservalue(L, 1, MB_LUA_OPTIONS);
  return 1;
}

/* view(x): another handle on the same session. */
int mb_lua_view(lua_State *L)
{
  const mb_lua_session *session = mb_lua_check_session(L, 1);
  mb_lua_session *made = push_session(L, session->head.kind, 1);
  made->is_view = true;
  made->tx = session->tx;
  made->managed = session->managed;
  if (session->conn != NULL) {
    hold_conn(made, session->conn);
    made->borrow = session->borrow;
  }
  return 1;
}

/* Pushes the session that a view, at index, looks at; itself otherwise. */
static mb_lua_session *push_original(lua_State *L, int index)
{
  lua_pushvalue(L, index);
  for (;;) {
    mb_lua_session *session = mb_lua_check_session(L, lua_gettop(L));
    if (!session->is_view)
      return session;
    compat_getuservalue(L, -1, MB_LUA_PARENT);
    lua_remove(L, -2);
  }
}

/* original(x): the handle that a view looks at. */
int mb_lua_original(lua_State *L)
{
  (void)push_original(L, 1);
  return 1;
}

/* parent(x): the handle that x was made from, or nil. */
int mb_lua_parent(lua_State *L)
{
  (void)mb_lua_check_session(L, 1);
  compat_getuservalue(L, 1, MB_LUA_PARENT);
  return 1;
}

/* extra(x): a table for the Lua side, shared with views of x. */
int mb_lua_extra(lua_State *L)
{
  (void)mb_lua_check_session(L, 1);
  (void)push_original(L, 1);
  compat_getuservalue(L, -1, MB_LUA_EXTRA);
  if (lua_isnil(L, -1)) {
    lua_pop(L, 1);
    lua_newtable(L);
    lua_pushvalue(L, -1);
    compat_setuservalue(L, -3, MB_LUA_EXTRA);
  }
  return 1;
}

/* --- Opening ------------------------------------------------------------ */

#define DRIVER_METATABLE "moonbase.driver"

static const mb_driver *check_driver(lua_State *L, int index)
{
  const mb_driver *const *held =
      lua_type(L, index) == LUA_TUSERDATA ? lua_touserdata(L, index) : NULL;
  bool is_driver = false;
  if (held != NULL && lua_getmetatable(L, index)) {
    luaL_getmetatable(L, DRIVER_METATABLE);
    is_driver = lua_rawequal(L, -1, -2) != 0;
    lua_pop(L, 2);
  }
  if (!is_driver)
    (void)mb_lua_usage(L,
        "option driver: a name, or what require gives for a driver module, is "
        "wanted");
  return *held;
}

/* open(driver, url or nil, {name, value, name, value, …}): a Database. */
int mb_lua_open(lua_State *L)
{
  mb_error error;
  (void)mb_lua_enter(L);
  const mb_driver *driver = check_driver(L, 1);
  const char *url = luaL_optstring(L, 2, NULL);
  luaL_checktype(L, 3, LUA_TTABLE);
  const size_t n = lua_rawlen(L, 3) / 2;
  mb_option *options = lua_newuserdata(L, (n + 1) * sizeof *options);
  for (size_t i = 0; i < n; i++) {
    lua_rawgeti(L, 3, (int)(2 * i) + 1);
    lua_rawgeti(L, 3, (int)(2 * i) + 2);
    options[i].name = luaL_checkstring(L, -2); /* the table holds both */
    options[i].value = luaL_checkstring(L, -1);
    lua_pop(L, 2);
  }

  mb_lua_session *session =
      mb_lua_new(L, MB_LUA_DATABASE, sizeof *session, MB_LUA_EXTRA);
  session->origin = session;
  if (mb_pool_open(driver, url, options, n, &session->pool, &error) != MB_OK)
    return mb_lua_fail(L, NULL, &error, NULL, 0);
  session->family = session->pool;
  session->config.call.timeout_ns = mb_pool_settings(session->pool)->timeout_ns;
  session->config.call.fetch_size = mb_pool_settings(session->pool)->fetch_size;
  if (mb_pool_settings(session->pool)->leak_after_ns > 0)
    session->observed = MB_LUA_NOTES;
  return 1;
}

/* option(db, name): what the URL or the options say, a string; or nil. */
int mb_lua_option(lua_State *L)
{
  const mb_lua_session *session = mb_lua_check_session(L, 1);
  const char *value = mb_pool_option(session->pool, luaL_checkstring(L, 2));
  if (value == NULL)
    lua_pushnil(L);
  else
    lua_pushstring(L, value);
  return 1;
}

/* scheme(url): "sqlite" of "sqlite:app.db"; nil without one. */
int mb_lua_scheme(lua_State *L)
{
  char scheme[32];
  mb_url_scheme(luaL_checkstring(L, 1), scheme, sizeof scheme);
  if (scheme[0] == '\0')
    lua_pushnil(L);
  else
    lua_pushstring(L, scheme);
  return 1;
}

/* db:connect(): a Connection of one's own. */
static int database_connect(lua_State *L)
{
  mb_lua_run run;
  (void)mb_lua_check(L, 1, MB_LUA_DATABASE);
  mb_lua_run_open(L, &run);
  run.outside = true;
  if (mb_lua_run_connect(L, &run) != MB_OK)
    return mb_lua_run_fail(L, &run);
  mb_lua_session *made = push_session(L, MB_LUA_CONNECTION, 1);
  mb_lua_lease *lease = mb_lua_run_lease(L, &run);
  compat_setuservalue(L, -2, MB_LUA_LEASE);
  hold_conn(made, run.conn);
  mb_lua_lease_join(run.lua, lease, false);
  made->lease = lease;
  run.frame->conn = NULL;
  if (run.watch.events & MB_LUA_ON_LEAK)
    mb_lua_note_begin(L, run.lua);
  (void)mb_lua_run_end(&run);
  return 1;
}

/* --- Transactions ------------------------------------------------------- */

static void list(mb_lua *lua, mb_lua_session *session)
{
  session->prev = NULL;
  session->next = lua->transactions;
  if (session->next != NULL)
    session->next->prev = session;
  lua->transactions = session;
  session->listed = true;
}

static void unlist(mb_lua *lua, mb_lua_session *session)
{
  if (!session->listed)
    return;
  if (session->prev != NULL)
    session->prev->next = session->next;
  else
    lua->transactions = session->next;
  if (session->next != NULL)
    session->next->prev = session->prev;
  session->listed = false;
}

/* begin(x, {isolation =, mode =, read_only =, deferrable =, timeout =},
 * managed): a Transaction inside x.  Isolation and mode are the numbers of
 * driver.h. */
int mb_lua_begin(lua_State *L)
{
  mb_lua_run run;
  luaL_checktype(L, 2, LUA_TTABLE);
  const mb_tx_options options = {
      .begin = {.isolation =
                    (enum mb_isolation)field_integer(L, 2, "isolation"),
          .mode = (enum mb_mode)field_integer(L, 2, "mode"),
          .read_only = field_is_true(L, 2, "read_only"),
          .deferrable = field_is_true(L, 2, "deferrable")},
      .exclusive = field_is_true(L, 2, "exclusive"),
      .timeout_ns = field_ns(L, 2, "timeout"),
  };
  const bool managed = lua_toboolean(L, 3) != 0;
  mb_lua_run_open(L, &run);
  run.writes = mb_pool_begin_writes(run.session->pool, &options);
  if (mb_lua_run_connect(L, &run) != MB_OK)
    return mb_lua_run_fail(L, &run);

  mb_lua_session *made = push_session(L, MB_LUA_TRANSACTION, 1);
  const int handle = lua_gettop(L);
  mb_lua_lease *lease = NULL;
  if (run.session->head.kind == MB_LUA_DATABASE) {
    lease = mb_lua_run_lease(L, &run);
    compat_setuservalue(L, handle, MB_LUA_LEASE);
  }
  mb_lua_know(L, made, handle);
  if (mb_tx_begin(run.conn, run.tx, &options, &made->tx, &run.error) != MB_OK)
    return mb_lua_run_fail(L, &run);
  hold_conn(made, run.conn);
  made->owns_tx = true;
  made->managed = managed;
  made->task = run.lua->task;
  if (managed)
    made->config.returns_errors = false;
  if (lease != NULL) {
    mb_lua_lease_join(run.lua, lease, false);
    made->lease = lease;
    run.frame->conn = NULL;
  }
  list(run.lua, made);
  if (run.watch.events & (MB_LUA_ON_TRANSACTION | MB_LUA_ON_LEAK))
    mb_lua_note_begin(L, run.lua);
  (void)mb_lua_run_end(&run);
  return 1;
}

/* The transaction is over, well or not: its borrow is, too. */
static void end_transaction(mb_lua *lua, mb_lua_session *session)
{
  unlist(lua, session);
  session->closed = true;
  if (session->lease != NULL)
    mb_lua_lease_leave(lua, session->lease, false, false);
  session->lease = NULL;
}

/* What is told from here on belongs to this call. */
static void note_call(const mb_lua_session *session)
{
  if (session->origin->observed != 0)
    session->origin->call_ns = mb_now_ns();
}

static int finish_transaction(
    lua_State *L, mb_status (*finish)(const mb_tx *tx, mb_error *error))
{
  mb_error error;
  (void)mb_lua_check(L, 1, MB_LUA_TRANSACTION);
  mb_lua *lua = mb_lua_enter(L);
  mb_lua_session *session = push_original(L, 1);
  if (session->closed)
    return mb_lua_usage(
        L, "the transaction has ended (it was committed or rolled back)");
  note_call(session);
  const mb_status status = finish(&session->tx, &error);
  if (status == MB_OK || !mb_tx_is_open(&session->tx))
    end_transaction(lua, session);
  if (session->origin->observed != 0)
    mb_lua_tell_error(L, lua, session, status != MB_OK ? &error : NULL);
  if (status != MB_OK)
    return mb_lua_fail(L, NULL, &error, session->pool, 0);
  lua_pushboolean(L, 1);
  return 1;
}

/* commit(tx), rollback(tx): true.  They raise, whatever the handle says: the
 * Lua side has something to do before it hands an error on. */
int mb_lua_commit(lua_State *L)
{
  return finish_transaction(L, mb_tx_commit);
}

int mb_lua_rollback(lua_State *L)
{
  return finish_transaction(L, mb_tx_rollback);
}

/* is_open(tx): it can be committed or rolled back. */
int mb_lua_is_open(lua_State *L)
{
  (void)mb_lua_check(L, 1, MB_LUA_TRANSACTION);
  const mb_lua_session *session = push_original(L, 1);
  lua_pushboolean(L, !session->closed && mb_tx_is_open(&session->tx));
  return 1;
}

/* is_lost(tx): its connection was taken from it before it had ended. */
int mb_lua_is_lost(lua_State *L)
{
  (void)mb_lua_check(L, 1, MB_LUA_TRANSACTION);
  const mb_lua_session *session = push_original(L, 1);
  lua_pushboolean(
      L, !session->closed && mb_conn_borrow(session->conn) != session->borrow);
  return 1;
}

/* --- Closing ------------------------------------------------------------ */

/* close(x): of a Connection.  Never raises, and may be called twice. */
int mb_lua_close_connection(lua_State *L)
{
  mb_error ignored;
  (void)mb_lua_check(L, 1, MB_LUA_CONNECTION);
  mb_lua *lua = mb_lua_enter(L);
  mb_lua_session *session = push_original(L, 1);
  note_call(session);
  session->closed = true; /* for others, while it waits */
  if (lua->task != NULL && session->lease != NULL &&
      mb_lua_lease_holds(session->lease))
    (void)!mb_conn_await_turn(session->conn, NULL, &ignored);
  if (session->lease != NULL)
    mb_lua_lease_leave(lua, session->lease, false, false);
  session->lease = NULL;
  if (session->origin->observed != 0)
    mb_lua_tell_error(L, lua, session, NULL);
  return 0;
}

/* How long others have for giving their connections back. */
#define CLOSE_LIMIT_S 30.0

/* close(db, seconds or nil): ends what was begun with it, and lends nothing any
 * more.  The last handle of a pool takes everything back. */
int mb_lua_close_database(lua_State *L)
{
  (void)mb_lua_check(L, 1, MB_LUA_DATABASE);
  mb_lua *lua = mb_lua_enter(L);
  double limit_s = lua_type(L, 2) == LUA_TNUMBER ? (double)lua_tonumber(L, 2)
                                                 : CLOSE_LIMIT_S;
  mb_lua_session *session = push_original(L, 1);
  if (session->closed) {
    mb_lua_end_leases(lua, session); /* what was in a call the first time */
    return 0;
  }
  /* Nobody else has anything of a pool without a name; and what a call has in
   * which this one is made is not given back meanwhile. */
  if ((!mb_pool_is_named(session->pool) && lua->task == NULL) ||
      lua->n_frames > 0 || lua->n_readers > 0)
    limit_s = 0;
  session->closed = true;
  note_call(session);
  mb_lua_end_leases(lua, session);
  mb_pool_shut(session->pool,
      limit_s > 0 && limit_s < 1e9 ? (int64_t)(limit_s * NS_PER_SECOND) : 0);
  if (session->origin->observed != 0)
    mb_lua_tell_error(L, lua, session, NULL);
  return 0;
}

int mb_lua_is_closed(lua_State *L)
{
  (void)mb_lua_check_session(L, 1);
  const mb_lua_session *session = push_original(L, 1);
  bool closed = session->closed || session->origin->closed ||
                mb_pool_is_closed(session->pool);
  if (session->head.kind == MB_LUA_CONNECTION)
    closed |= mb_conn_borrow(session->conn) != session->borrow;
  else if (session->head.kind == MB_LUA_TRANSACTION)
    closed |= !mb_tx_is_open(&session->tx);
  lua_pushboolean(L, closed);
  return 1;
}

static int session_gc(lua_State *L)
{
  mb_lua *lua = mb_lua_of(L);
  mb_lua_session *session = mb_lua_check_session(L, 1);
  const bool is_leak =
      session->origin != session && !session->closed &&
      session->origin->observed & MB_LUA_ON_LEAK &&
      (session->owns_tx ? mb_tx_is_open(&session->tx) : session->lease != NULL);
  mb_lua_forget(L, lua, &session->head);
  unlist(lua, session);
  if (session->owns_tx) {
    lua->has_dropped |= mb_tx_is_open(&session->tx);
    mb_tx_drop(&session->tx);
  }
  if (session->lease != NULL)
    mb_lua_lease_leave(lua, session->lease, false, true);
  session->lease = NULL;
  if (session->conn != NULL)
    mb_conn_unref(session->conn);
  session->conn = NULL;
  if (session->watches_pool)
    mb_pool_unwatch(session->pool);
  session->watches_pool = false;
  session->observed = 0;
  mb_lua_free_notices(session);
  if (session->pool != NULL && session->origin == session && !session->closed)
    mb_pool_forget(session->pool);
  if (session->pool != NULL)
    mb_pool_drop(session->pool);
  session->pool = NULL;
  session->closed = true;
  if (is_leak)
    mb_lua_postpone_leak(L, 1, session);
  return 0;
}

/* --- What a session is -------------------------------------------------- */

int mb_lua_url(lua_State *L)
{
  const mb_lua_session *session = mb_lua_check_session(L, 1);
  lua_pushstring(L, mb_pool_info(session->pool)->url);
  return 1;
}

static int session_tostring(lua_State *L)
{
  const mb_lua_session *session = mb_lua_check_session(L, 1);
  if (session->pool == NULL) {
    lua_pushliteral(L, "moonbase handle (collected)");
    return 1;
  }
  mb_pool_stats stats;
  mb_pool_stats_read(session->pool, &stats);
  const char *url = mb_pool_info(session->pool)->url;
  const bool is_closed = session->closed || session->origin->closed ||
                         mb_pool_is_closed(session->pool);
  const char *closed = is_closed ? ", closed" : "";
  if (session->head.kind == MB_LUA_DATABASE)
    lua_pushfstring(L, "moonbase.Database (%s, %d of %d connections in use%s)",
        url, (int)stats.in_use, (int)stats.max, closed);
  else
    lua_pushfstring(L, "moonbase.%s (%s%s)",
        session->head.kind == MB_LUA_CONNECTION ? "Connection" : "Transaction",
        url, closed);
  return 1;
}

const luaL_Reg mb_lua_database_methods[] = {
    {"connect", database_connect},
    {NULL, NULL},
};

const luaL_Reg mb_lua_session_meta[] = {
    {"__gc", session_gc},
    {"__tostring", session_tostring},
    {NULL, NULL},
};
