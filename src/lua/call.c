/*
 * call.c: what every call that runs a statement has in common.
 */
#include "binding.h"

#include <string.h>

/* For the steps of every call: calling them would take longer than they do. */
#define INLINE __attribute__((always_inline)) static inline

const char mb_lua_mark = 'm';

/* --- Errors of functions of the program ---------------------------------- */

static const char raised_key = 'r';

void mb_lua_reserve_raised(lua_State *L, const mb_lua *lua)
{
  lua_pushboolean(L, 0);
  compat_rawsetp(L, LUA_REGISTRYINDEX, mb_lua_own_key(lua, &raised_key));
}

bool mb_lua_take_raised(lua_State *L)
{
  mb_lua *lua = mb_lua_of(L);
  if (!lua->has_raised)
    return false;
  lua->has_raised = false;
  compat_rawgetp(
      L, LUA_REGISTRYINDEX, mb_lua_own_key(mb_lua_of(L), &raised_key));
  mb_lua_reserve_raised(L, lua);
  return true;
}

mb_status mb_lua_keep_raised(lua_State *L, mb_error *error)
{
  compat_rawsetp(
      L, LUA_REGISTRYINDEX, mb_lua_own_key(mb_lua_of(L), &raised_key));
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
  if (mb_lua_of(L)->is_closing)
    (void)luaL_error(L, "the Lua state is being closed");
  mb_lua_head *head = compat_newuserdata(L, size, n);
  memset(head, 0, size);
  head->mark = &mb_lua_mark;
  head->kind = kind;
  lua_rawgeti(L, lua_upvalueindex(MB_LUA_METATABLES), (int)kind);
  lua_setmetatable(L, -2);
  return head;
}

/* A coroutine that is new here may be that of a scheduler which was loaded
 * after the databases were opened. */
static void look_for_scheduler(lua_State *L, mb_lua *lua)
{
  lua->looked_in = L;
  if (L == lua->main || lua->fiber != NULL)
    return;
  mb_lua_helper(L, "look_for_scheduler");
  if (!mb_lua_pcall(L, lua, 0, 0))
    lua_pop(L, 1); /* it blocks, then */
}

mb_lua_head *mb_lua_remember(lua_State *L, mb_lua *lua)
{
  if (L != lua->looked_in)
    look_for_scheduler(L, lua);
  mb_lua_head *head = mb_lua_handle(L, 1);
  lua->called = head != NULL && !head->collected ? head : NULL;
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

/* --- Running ------------------------------------------------------------ */

/* Opens the call in a frame of its own; inlined, for the place of the caller.
 */
INLINE void open_run(lua_State *L, mb_lua_run *run)
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
  run->fits = false;
  run->tx = NULL;
  run->stmt = NULL;
  run->text = 0;
  run->watch.events = run->session->origin->observed;
  if (MB_RARELY(run->watch.events != 0))
    mb_lua_watch_open(run);
  if (run->lua->n_frames == MB_LUA_FRAMES)
    (void)mb_lua_usage(L, "calls are nested too deeply");
  run->frame = &run->lua->frames[run->lua->n_frames++];
  run->frame->L = L;
  run->frame->handle = head;
  run->frame->place = MB_LUA_PLACE();
}

void mb_lua_run_open(lua_State *L, mb_lua_run *run)
{
  open_run(L, run);
}

static mb_status refuse_session(mb_lua_run *run)
{
  const mb_lua_session *session = run->session;
  return mb_error_fill(&run->error, MB_USAGE,
      session->head.kind == MB_LUA_CONNECTION ? "the connection is closed"
      : !session->closed ? "the transaction has ended: its connection was "
                           "closed"
      : session->is_view ? "the handle is closed"
                         : "the transaction has ended (it was committed or "
                           "rolled back)");
}

INLINE mb_status connect_run(lua_State *L, mb_lua_run *run)
{
  mb_lua_session *session = run->session;
  if (run->lua->has_dropped)
    mb_lua_end_dropped(run->lua);
  if (session->head.kind == MB_LUA_DATABASE)
    return mb_lua_run_borrow(L, run);
  /* As for a connection, so for the place to write: see mb_lua_run_borrow. */
  if (MB_RARELY(run->writes) && !session->closed)
    mb_lua_run_make_place(L, run);
  if (session->closed || mb_conn_borrow(session->conn) != session->borrow)
    return refuse_session(run);
  run->conn = session->conn;
  if (MB_RARELY(run->lua->task != NULL) &&
      mb_conn_await_turn(run->conn,
          session->head.kind == MB_LUA_TRANSACTION ? &session->tx : NULL,
          &run->error) != MB_OK)
    return MB_ERROR;
  if (session->closed || mb_conn_borrow(session->conn) != session->borrow)
    return refuse_session(run);
  mb_lua_run_hold(run);
  if (MB_RARELY(run->watch.events != 0))
    mb_lua_watch_connected(L, run);
  if (session->head.kind == MB_LUA_TRANSACTION)
    run->tx = &session->tx;
  return MB_OK;
}

mb_status mb_lua_run_connect(lua_State *L, mb_lua_run *run)
{
  return connect_run(L, run);
}

/* The statement of a text, on the connection that was found. */
static mb_status find(lua_State *L, mb_lua_run *run, int text)
{
  size_t size;
  const char *sql = lua_tolstring(L, text, &size);
  return mb_conn_statement(run->conn, sql, size,
      run->config->is_plain ? MB_STATEMENT_PLAIN : 0, &run->stmt, &run->error);
}

/* The same for a prepared one of a Database, which keeps its text only. */
static mb_status find_source(lua_State *L, mb_lua_run *run)
{
  compat_getuservalue(L, 1, MB_LUA_EXTRA);
  const mb_status status = find(L, run, -1);
  lua_pop(L, 1); /* the handle holds it */
  return status;
}

/* The same for a prepared one. */
INLINE mb_status find_prepared(lua_State *L, mb_lua_run *run)
{
  if (run->prepared->closed)
    return mb_error_fill(&run->error, MB_USAGE, "the statement is closed");
  run->stmt = run->prepared->stmt;
  return run->stmt != NULL ? MB_OK : find_source(L, run);
}

mb_status mb_lua_run_find(lua_State *L, mb_lua_run *run)
{
  return find_prepared(L, run);
}

static mb_status find_text(lua_State *L, mb_lua_run *run)
{
  if (lua_type(L, 2) != LUA_TSTRING) {
    if (mb_lua_kind_of(L, 2) != MB_LUA_FRAGMENT)
      return mb_error_fill(&run->error, MB_USAGE,
          "the first argument is the SQL text, a string");
    if (mb_lua_run_expand(L, run) != MB_OK)
      return MB_ERROR;
  }
  run->text = 2;
  return find(L, run, 2);
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

INLINE mb_status read_params(lua_State *L, mb_lua_run *run, int first)
{
  mb_lua_run_reads(run, true);
  const mb_status status = mb_lua_read_params(L, run, first);
  mb_lua_run_reads(run, false);
  return status;
}

/* The same once the fragments among the parameters have become text. */
static mb_status find_expanded(lua_State *L, mb_lua_run *run)
{
  if (run->prepared != NULL)
    return mb_error_fill(&run->error, MB_USAGE,
        "a fragment of SQL cannot be a parameter of a prepared statement");
  lua_settop(L, run->params.top);
  if (mb_lua_run_expand(L, run) != MB_OK || find_text(L, run) != MB_OK)
    return MB_ERROR;
  return read_params(L, run, 3);
}

INLINE mb_status read_and_find(lua_State *L, mb_lua_run *run)
{
  const bool prepared = run->prepared != NULL;
  if ((prepared ? find_prepared(L, run) : find_text(L, run)) != MB_OK ||
      read_params(L, run, prepared ? 2 : 3) != MB_OK)
    return MB_ERROR;
  return run->params.is_fragment ? find_expanded(L, run) : MB_OK;
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

INLINE mb_status run_statement(lua_State *L, mb_lua_run *run)
{
  if (read_and_find(L, run) != MB_OK)
    return MB_ERROR;
  if (MB_RARELY(run->watch.events != 0))
    run->watch.mark_ns = mb_now_ns();
  run->status = mb_stmt_run(&run->stmt, run->tx, run->params.values,
      run->params.n, &run->config->call, &run->error);
  if (MB_RARELY(run->watch.events != 0))
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

/* Opens a query and connects. */
INLINE mb_status open_query(lua_State *L, mb_lua_run *run)
{
  open_run(L, run);
  run->watch.is_query = true;
  if (run->session->head.kind == MB_LUA_DATABASE || mb_lua_holds_place(run))
    run->writes = expects_write(L, run);
  return connect_run(L, run);
}

bool mb_lua_run_start(lua_State *L, mb_lua_run *run)
{
  return open_query(L, run) == MB_OK && run_statement(L, run) != MB_ERROR;
}

bool mb_lua_run_start_entry(lua_State *L, mb_lua_run *run)
{
  const mb_status status = open_query(L, run);
  run->fits = true;
  return status == MB_OK && run_statement(L, run) != MB_ERROR;
}

bool mb_lua_run_read_entry(lua_State *L, mb_lua_run *run)
{
  const mb_status status = open_query(L, run);
  run->fits = true;
  return status == MB_OK && read_and_find(L, run) == MB_OK;
}

/* Gives back what the frame holds, and closes it. */
INLINE void leave_run(mb_lua_run *run)
{
  mb_lua_frame *frame = run->frame;
  if (frame == NULL)
    return;
  mb_lua_let(frame);
  if (frame->conn != NULL)
    mb_conn_release(frame->conn);
  if (frame->shared != NULL)
    mb_lua_lease_leave(run->lua, frame->shared, true, false);
  frame->conn = NULL;
  frame->shared = NULL;
  frame->stmt = NULL;
  run->frame = NULL;
  run->lua->n_frames--;
  if (run->lua->n_frames > 0)
    run->lua->L = run->lua->frames[run->lua->n_frames - 1].L;
}

void mb_lua_run_leave(mb_lua_run *run)
{
  leave_run(run);
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
  if (MB_RARELY(run->watch.events != 0))
    return end_watched(run);
  const bool done = run->stmt == NULL || !mb_stmt_is_running(run->stmt) ||
                    mb_stmt_finish(run->stmt, &run->error) != MB_ERROR;
  leave_run(run);
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
