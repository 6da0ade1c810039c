/*
 * call.c: what every call that runs a statement has in common.
 */
#include "binding.h"

#include <string.h>

const char mb_lua_mark = 'm';

/* --- Errors of functions of the program ---------------------------------- */

static const char raised_key = 'r';

void mb_lua_reserve_raised(lua_State *L)
{
  lua_pushboolean(L, 0);
  compat_rawsetp(L, LUA_REGISTRYINDEX, &raised_key);
}

bool mb_lua_take_raised(lua_State *L)
{
  mb_lua *lua = mb_lua_of(L);
  if (!lua->has_raised)
    return false;
  lua->has_raised = false;
  compat_rawgetp(L, LUA_REGISTRYINDEX, &raised_key);
  mb_lua_reserve_raised(L);
  return true;
}

mb_status mb_lua_keep_raised(lua_State *L, mb_error *error)
{
  compat_rawsetp(L, LUA_REGISTRYINDEX, &raised_key);
  mb_lua_of(L)->has_raised = true;
  mb_error_fill(error, MB_ENGINE, "a function of the program has failed");
  error->flags |= MB_RAISED;
  return MB_ERROR;
}

void mb_lua_helper(lua_State *L, const char *name)
{
  lua_getfield(L, lua_upvalueindex(MB_LUA_HELPERS), name);
}

/* --- Handles ------------------------------------------------------------ */

void *mb_lua_new(lua_State *L, mb_lua_kind kind, size_t size, int n)
{
  mb_lua_head *head = compat_newuserdata(L, size, n);
  memset(head, 0, size);
  head->mark = &mb_lua_mark;
  head->kind = kind;
  lua_rawgeti(L, lua_upvalueindex(MB_LUA_METATABLES), (int)kind);
  lua_setmetatable(L, -2);
  return head;
}

static const char *const kind_names[MB_LUA_KIND_COUNT] = {
    [MB_LUA_DATABASE] = "Database",
    [MB_LUA_CONNECTION] = "Connection",
    [MB_LUA_TRANSACTION] = "Transaction",
    [MB_LUA_STATEMENT] = "Statement",
    [MB_LUA_ROWS] = "Rows",
    [MB_LUA_CANCELLATION] = "Cancellation",
};

void *mb_lua_check(lua_State *L, int index, mb_lua_kind kind)
{
  mb_lua_head *head = mb_lua_handle(L, index);
  if (head == NULL || head->kind != kind)
    (void)mb_lua_usage(L,
        "a %s is wanted here, and got %s (methods are called with a colon: "
        "x:name(…))",
        kind_names[kind],
        head != NULL ? kind_names[head->kind] : luaL_typename(L, index));
  return head;
}

mb_lua_session *mb_lua_check_session(lua_State *L, int index)
{
  mb_lua_head *head = mb_lua_handle(L, index);
  if (head == NULL || head->kind > MB_LUA_TRANSACTION)
    (void)mb_lua_usage(L,
        "a Database, Connection or Transaction is wanted here, and got %s "
        "(methods are called with a colon: x:name(…))",
        head != NULL ? kind_names[head->kind] : luaL_typename(L, index));
  return (mb_lua_session *)head;
}

/* --- Connecting --------------------------------------------------------- */

static bool is_in_transaction(const mb_lua_run *run)
{
  for (const mb_lua_session *tx = run->lua->transactions; tx != NULL;
       tx = tx->next)
    if (tx->managed && tx->pool == run->session->pool && mb_tx_is_open(&tx->tx))
      return true;
  return false;
}

/* A call on a Database inside its own transaction would wait for itself, or run
 * outside of what it seems to be in. */
static mb_status check_transactions(
    lua_State *L, const mb_lua_run *run, mb_error *error)
{
  /* One whose function was left without an end, as in a coroutine that nobody
   * resumes, is open until it is collected; for a coroutine 5.3 needs two
   * rounds. */
  for (int i = 0; i < 2 && is_in_transaction(run); i++)
    lua_gc(L, LUA_GCCOLLECT, 0);
  if (!is_in_transaction(run))
    return MB_OK;
  return mb_error_fill(error, MB_USAGE,
      "this is inside a transaction of the same Database: use the "
      "Transaction that the function was given, or db:connect() for a "
      "connection outside of it");
}

/* Whether a Connection or Transaction of this program writes, so that another
 * write would wait for it for ever. */
static bool holds_place(const mb_lua_run *run)
{
  for (const mb_lua_lease *lease = run->lua->leases; lease != NULL;
       lease = lease->next)
    if (lease->pool == run->session->pool && lease->rows < lease->users &&
        mb_lua_lease_holds(lease) && mb_conn_is_writer(lease->conn))
      return true;
  return false;
}

/* Whether this program holds a connection of the pool by itself. */
static bool holds_connection(const mb_lua_run *run)
{
  for (const mb_lua_lease *lease = run->lua->leases; lease != NULL;
       lease = lease->next)
    if (lease->pool == run->session->pool)
      return true;
  return false;
}

/* No connection is to be had, and nobody but this program could give one back:
 * that is a mistake of the program where there is only one. */
static mb_status explain_empty(mb_lua_run *run)
{
  const mb_pool *pool = run->session->pool;
  if (run->writes && holds_place(run))
    return mb_error_fill(&run->error, MB_USAGE,
        "a transaction or Connection of this program is writing, and this "
        "would wait for it for ever: use that one, or end it first");
  if (mb_pool_settings(pool)->max == 1 && holds_connection(run))
    return mb_error_fill(&run->error, MB_USAGE,
        "the only connection is held by a Connection or Transaction of this "
        "program: use that one, or close it first");
  return MB_ERROR;
}

static mb_status acquire(mb_lua_run *run, unsigned flags)
{
  mb_pool *pool = run->session->pool;
  if (!mb_pool_is_named(pool))
    flags |= MB_ACQUIRE_ALONE;
  if (run->writes)
    flags |= MB_ACQUIRE_WRITER;
  return mb_pool_acquire(
      pool, &run->config->call, flags, &run->conn, &run->error);
}

/* Takes part in a borrow that rows alone hold.  The rows may be collected
 * during the call, so it has a part of its own; false: there is none, or its
 * rows have been collected and only wait for their finalizers. */
static bool share(lua_State *L, mb_lua_run *run)
{
  mb_lua_lease *lease =
      mb_lua_find_lease(run->lua, run->session->pool, run->writes);
  if (lease == NULL)
    return false;
  mb_lua_push_known(L, lease);
  const bool alive = !lua_isnil(L, -1);
  compat_rawsetp(L, LUA_REGISTRYINDEX, run->frame); /* keeps it */
  if (!alive || !mb_lua_lease_holds(lease))
    return false;
  mb_lua_lease_join(run->lua, lease, true);
  run->frame->shared = lease;
  run->shared = lease;
  run->conn = lease->conn;
  return true;
}

/* Has the Lua side say the password before something connects. */
static mb_status ask_password(lua_State *L, mb_lua_run *run)
{
  mb_lua_helper(L, "password");
  if (run->prepared != NULL)
    compat_getuservalue(L, 1, MB_LUA_PARENT);
  else
    lua_pushvalue(L, 1);
  if (!mb_lua_pcall(L, run->lua, 1, 1))
    return mb_lua_keep_raised(L, &run->error);
  const mb_status status = mb_pool_set_password(
      run->session->pool, lua_tostring(L, -1), &run->error);
  lua_pop(L, 1);
  return status;
}

static mb_status borrow(lua_State *L, mb_lua_run *run)
{
  mb_error *error = &run->error;
  mb_pool *pool = run->session->pool;
  if (run->session->has_password && mb_pool_needs_password(pool) &&
      ask_password(L, run) != MB_OK)
    return MB_ERROR;
  if (acquire(run, MB_ACQUIRE_NOW) == MB_OK)
    return MB_OK;
  if (error->class != MB_POOL_TIMEOUT)
    return MB_ERROR;
  if (share(L, run))
    return MB_OK;
  /* Handles that were forgotten hold connections until they are collected. */
  lua_gc(L, LUA_GCCOLLECT, 0);
  if (acquire(run, MB_ACQUIRE_NOW) == MB_OK)
    return MB_OK;
  if (error->class != MB_POOL_TIMEOUT)
    return MB_ERROR;
  if (share(L, run))
    return MB_OK;
  /* Others may give something back, but not what this program waits for. */
  if (mb_pool_is_named(pool) && !(run->writes && holds_place(run)))
    return acquire(run, 0);
  return explain_empty(run);
}

/* Has a new connection set up by the Lua side, before it is used. */
static mb_status set_up(lua_State *L, mb_lua_run *run)
{
  mb_lua_helper(L, "set_up");
  if (run->prepared != NULL)
    compat_getuservalue(L, 1, MB_LUA_PARENT);
  else
    lua_pushvalue(L, 1);
  lua_pushvalue(L, -1);
  mb_lua_push_view(L, run->conn);
  mb_conn_set_setup(run->conn, true);
  const bool done = mb_lua_pcall(L, run->lua, 2, 0);
  mb_conn_set_setup(run->conn, false);
  if (done)
    return MB_OK;
  mb_conn_set_fresh(run->conn);
  return mb_lua_keep_raised(L, &run->error);
}

/* A function that a database calls would wait for the statement that it is in.
 */
static mb_status check_calling(const mb_lua_run *run, mb_error *error)
{
  for (const mb_lua_calling *calling = run->lua->calling; calling != NULL;
       calling = calling->outer)
    if (calling->pool == run->session->pool)
      return mb_error_fill(error, MB_USAGE,
          "this is inside a function that the same Database calls: such a "
          "function may not use it");
  return MB_OK;
}

/* What happens to the connection during the call, by a function of the program
 * or a finalizer, waits for its end. */
static void hold(mb_lua_run *run)
{
  run->frame->held = run->conn;
  mb_conn_hold(run->conn);
}

static mb_status connect_database(lua_State *L, mb_lua_run *run)
{
  if ((run->lua->calling != NULL && check_calling(run, &run->error) != MB_OK) ||
      (run->lua->transactions != NULL && !run->outside &&
          run->lua->telling == 0 &&
          check_transactions(L, run, &run->error) != MB_OK))
    return MB_ERROR;
  if (run->watch.events != 0)
    run->watch.mark_ns = mb_now_ns();
  const mb_status status = borrow(L, run);
  if (run->watch.events != 0)
    mb_lua_watch_borrowed(run, status);
  if (status != MB_OK)
    return MB_ERROR;
  run->frame->borrow = mb_conn_borrow(run->conn);
  hold(run);
  if (run->shared == NULL)
    run->frame->conn = run->conn;
  if (run->watch.events != 0)
    mb_lua_watch_connected(L, run);
  if (run->session->has_setup && mb_conn_take_fresh(run->conn))
    return set_up(L, run);
  return MB_OK;
}

mb_status mb_lua_run_connect(lua_State *L, mb_lua_run *run)
{
  mb_lua_session *session = run->session;
  const bool is_database = session->head.kind == MB_LUA_DATABASE;
  if (session->closed || (is_database && session->origin->closed))
    return mb_error_fill(&run->error, MB_USAGE,
        is_database                               ? "the database is closed"
        : session->head.kind == MB_LUA_CONNECTION ? "the connection is closed"
        : session->is_view                        ? "the handle is closed"
                                                  : "the transaction has ended "
                                                    "(it was committed or "
                                                    "rolled back)");
  if (is_database)
    return connect_database(L, run);
  if (mb_conn_borrow(session->conn) != session->borrow)
    return mb_error_fill(&run->error, MB_USAGE,
        session->head.kind == MB_LUA_CONNECTION
            ? "the connection is closed"
            : "the transaction has ended: its connection was closed");
  run->conn = session->conn;
  run->frame->borrow = session->borrow;
  hold(run);
  if (run->watch.events != 0)
    mb_lua_watch_connected(L, run);
  if (session->head.kind == MB_LUA_TRANSACTION)
    run->tx = &session->tx;
  return MB_OK;
}

/* --- Running ------------------------------------------------------------ */

void mb_lua_run_open(lua_State *L, mb_lua_run *run)
{
  run->lua = mb_lua_enter(L);
  mb_lua_head *head = mb_lua_called(L, run->lua);
  if (head != NULL && head->kind == MB_LUA_STATEMENT) {
    run->prepared = (mb_lua_statement *)head;
    run->session = run->prepared->session;
  } else {
    run->prepared = NULL;
    run->session = head != NULL && head->kind <= MB_LUA_TRANSACTION
                       ? (mb_lua_session *)head
                       : mb_lua_check_session(L, 1);
  }
  run->config = &run->session->config;
  run->conn = NULL;
  run->shared = NULL;
  run->outside = false;
  run->writes = false;
  run->tx = NULL;
  run->stmt = NULL;
  run->text = 0;
  run->watch.events = run->session->origin->observed;
  if (run->watch.events != 0)
    mb_lua_watch_open(run);
  if (run->lua->n_frames == MB_LUA_FRAMES)
    (void)mb_lua_usage(L, "calls are nested too deeply");
  run->frame = &run->lua->frames[run->lua->n_frames++];
  *run->frame = (mb_lua_frame){.L = L, .handle = head, .place = MB_LUA_PLACE()};
}

/* The statement of a prepared one, on the connection that was found. */
mb_status mb_lua_run_find(lua_State *L, mb_lua_run *run)
{
  const mb_lua_statement *statement = run->prepared;
  if (statement->closed)
    return mb_error_fill(&run->error, MB_USAGE, "the statement is closed");
  if (statement->stmt != NULL) {
    run->stmt = statement->stmt;
    return MB_OK;
  }
  size_t size;
  compat_getuservalue(L, 1, MB_LUA_EXTRA);
  const char *text = lua_tolstring(L, -1, &size);
  lua_pop(L, 1); /* the handle holds it */
  return mb_conn_statement(run->conn, text, size,
      run->config->is_plain ? MB_STATEMENT_PLAIN : 0, &run->stmt, &run->error);
}

static mb_status find_text(lua_State *L, mb_lua_run *run)
{
  size_t size;
  if (lua_type(L, 2) != LUA_TSTRING)
    return mb_error_fill(
        &run->error, MB_USAGE, "the first argument is the SQL text, a string");
  run->text = 2;
  const char *text = lua_tolstring(L, 2, &size);
  return mb_conn_statement(run->conn, text, size,
      run->config->is_plain ? MB_STATEMENT_PLAIN : 0, &run->stmt, &run->error);
}

/* Puts the fragments among the arguments into the text: the stack then is as if
 * text and moonbase.params had been given. */
mb_status mb_lua_run_expand(lua_State *L, mb_lua_run *run)
{
  const int n = lua_gettop(L);
  mb_conn *before = run->lua->expanding;
  run->lua->expanding = run->conn;
  mb_lua_helper(L, "expand");
  luaL_checkstack(L, n + 4, NULL);
  for (int i = 2; i <= n; i++)
    lua_pushvalue(L, i);
  const bool done = mb_lua_pcall(L, run->lua, n - 1, 2);
  run->lua->expanding = before;
  if (!done)
    return mb_lua_keep_raised(L, &run->error);
  lua_pushvalue(L, n + 1);
  lua_replace(L, 2);
  lua_pushvalue(L, n + 2);
  lua_replace(L, 3);
  lua_settop(L, 3);
  return MB_OK;
}

static mb_status read_params(lua_State *L, mb_lua_run *run, int first)
{
  mb_lua_run_reads(run, true);
  const mb_status status = mb_lua_read_params(
      L, run->config, run->stmt, first, &run->params, &run->error);
  mb_lua_run_reads(run, false);
  return status;
}

static mb_status read_and_find(lua_State *L, mb_lua_run *run)
{
  const bool prepared = run->prepared != NULL;
  if (!prepared && mb_lua_kind_of(L, 2) == MB_LUA_FRAGMENT &&
      mb_lua_run_expand(L, run) != MB_OK)
    return MB_ERROR;
  if ((prepared ? mb_lua_run_find(L, run) : find_text(L, run)) != MB_OK)
    return MB_ERROR;
  const int first = prepared ? 2 : 3;
  if (read_params(L, run, first) != MB_OK)
    return MB_ERROR;
  if (!run->params.is_fragment)
    return MB_OK;
  if (prepared)
    return mb_error_fill(&run->error, MB_USAGE,
        "a fragment of SQL cannot be a parameter of a prepared statement");
  lua_settop(L, run->params.top);
  if (mb_lua_run_expand(L, run) != MB_OK || find_text(L, run) != MB_OK)
    return MB_ERROR;
  return read_params(L, run, first);
}

void mb_lua_run_note(mb_lua_run *run)
{
  run->frame->stmt = run->stmt;
  run->frame->run = mb_stmt_run_number(run->stmt);
}

static void note_run(mb_lua_run *run)
{
  run->watch.has_parameters = true;
  run->watch.server_ns += mb_now_ns() - run->watch.mark_ns;
  if (run->status != MB_ERROR)
    run->watch.warnings = mb_stmt_result(run->stmt)->warnings;
}

mb_status mb_lua_run_statement(lua_State *L, mb_lua_run *run)
{
  if (read_and_find(L, run) != MB_OK)
    return MB_ERROR;
  if (run->watch.events != 0)
    run->watch.mark_ns = mb_now_ns();
  run->status = mb_stmt_run(&run->stmt, run->tx, run->params.values,
      run->params.n, &run->config->call, &run->error);
  if (run->watch.events != 0)
    note_run(run);
  if (run->status == MB_ERROR)
    return MB_ERROR;
  mb_lua_run_note(run);
  return run->status;
}

/* Whether the statement is likely to write, by its text. */
static bool expects_write(lua_State *L, const mb_lua_run *run)
{
  size_t size;
  int index = 2;
  if (run->prepared != NULL) {
    compat_getuservalue(L, 1, MB_LUA_EXTRA);
    index = -1;
  }
  const bool is_text = lua_type(L, index) == LUA_TSTRING;
  const char *text = is_text ? lua_tolstring(L, index, &size) : NULL;
  if (run->prepared != NULL)
    lua_pop(L, 1); /* the handle holds it */
  return is_text && mb_pool_expects_write(run->session->pool, text, size);
}

bool mb_lua_run_start(lua_State *L, mb_lua_run *run)
{
  mb_lua_run_open(L, run);
  run->watch.is_query = true;
  if (run->session->head.kind == MB_LUA_DATABASE)
    run->writes = expects_write(L, run);
  return mb_lua_run_connect(L, run) == MB_OK &&
         mb_lua_run_statement(L, run) != MB_ERROR;
}

/* Gives back what the frame holds, and closes it. */
void mb_lua_run_leave(mb_lua_run *run)
{
  if (run->frame == NULL)
    return;
  mb_lua_let(run->frame);
  if (run->frame->conn != NULL)
    mb_conn_release(run->frame->conn);
  if (run->frame->shared != NULL)
    mb_lua_lease_leave(run->lua, run->frame->shared, true, false);
  run->frame = NULL;
  run->lua->n_frames--;
  if (run->lua->n_frames > 0)
    run->lua->L = run->lua->frames[run->lua->n_frames - 1].L;
}

static bool end_watched(mb_lua_run *run)
{
  bool done = true;
  if (run->stmt != NULL && mb_stmt_is_running(run->stmt)) {
    const int64_t since_ns = mb_now_ns();
    done = mb_stmt_finish(run->stmt, &run->error) != MB_ERROR;
    run->watch.drain_ns = mb_now_ns() - since_ns;
    run->watch.server_ns += run->watch.drain_ns;
  }
  mb_lua_run_leave(run);
  if (done)
    mb_lua_watch_tell(run->lua->L, run, NULL);
  return done;
}

bool mb_lua_run_end(mb_lua_run *run)
{
  if (run->watch.events != 0)
    return end_watched(run);
  const bool done = run->stmt == NULL || !mb_stmt_is_running(run->stmt) ||
                    mb_stmt_finish(run->stmt, &run->error) != MB_ERROR;
  mb_lua_run_leave(run);
  return done;
}

int mb_lua_run_fail(lua_State *L, mb_lua_run *run)
{
  if (run->frame != NULL && run->frame->reads)
    mb_lua_run_reads(run, false);
  if (run->frame != NULL && run->frame->stmt != NULL)
    mb_stmt_drop(run->frame->stmt);
  mb_lua_run_leave(run);
  if (run->watch.events != 0)
    mb_lua_watch_tell(L, run, &run->error);
  return mb_lua_fail(
      L, run->config, &run->error, run->session->pool, run->text);
}
