/*
 * connect.c: connections for calls on a Database.
 */
#include "binding.h"

/* join(db, primary): db is a replica; from here on the program may not use it
 * inside a transaction of primary, nor the other way round. */
int mb_lua_join(lua_State *L)
{
  mb_lua_session *session = mb_lua_check(L, 1, MB_LUA_DATABASE);
  const mb_lua_session *primary = mb_lua_check(L, 2, MB_LUA_DATABASE);
  session->family = primary->family;
  return 0;
}

static bool is_in_transaction(const mb_lua_run *run)
{
  for (const mb_lua_session *tx = run->lua->transactions; tx != NULL;
       tx = tx->next)
    if (tx->managed && tx->task == run->lua->task &&
        tx->family == run->session->family && mb_tx_is_open(&tx->tx))
      return true;
  return false;
}

/* current(db, task): the innermost open Transaction of the task (nil: of a
 * program that blocks) on db or a replica, or nil. */
int mb_lua_current(lua_State *L)
{
  const mb_lua_session *session = mb_lua_check_session(L, 1);
  const void *task =
      lua_isthread(L, 2) ? lua_topointer(L, 2) : mb_lua_of(L)->task;
  for (mb_lua_session *tx = mb_lua_of(L)->transactions; tx != NULL;
       tx = tx->next)
    if (tx->task == task && tx->family == session->family &&
        mb_tx_is_open(&tx->tx)) {
      mb_lua_push_known(L, tx);
      return 1;
    }
  lua_pushnil(L);
  return 1;
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

/* Whether this task, and calls that this one is made in, have all connections
 * of the pool that this one could get.  The one that is kept for who writes may
 * be idle while its turn has come for another task. */
static bool holds_all(const mb_lua_run *run)
{
  const mb_lua *lua = run->lua;
  const mb_pool *pool = run->session->pool;
  mb_pool_stats stats;
  int64_t n = 0;
  for (const mb_lua_lease *lease = lua->leases; lease != NULL;
       lease = lease->next)
    n += lease->pool == pool && lease->task == lua->task;
  for (size_t i = 0; i < lua->n_frames; i++)
    n += lua->frames[i].conn != NULL &&
         mb_conn_pool(lua->frames[i].conn) == pool;
  mb_pool_stats_read(run->session->pool, &stats);
  return n > 0 && (run->writes ? n >= stats.max : n + stats.idle >= stats.size);
}

/* No connection is to be had, and nobody but this program could give one back:
 * that is a mistake of the program where there is only one. */
static mb_status explain_empty(mb_lua_run *run)
{
  const mb_pool *pool = run->session->pool;
  if (run->writes && mb_lua_holds_place(run))
    return mb_error_fill(&run->error, MB_USAGE,
        "a transaction or Connection of this program is writing, and this "
        "would wait for it for ever: use that one, or end it first");
  if (mb_pool_settings(pool)->max == 1 && holds_all(run))
    return mb_error_fill(&run->error, MB_USAGE,
        "the only connection is held by a Connection or Transaction of this "
        "program: use that one, or close it first");
  return MB_ERROR;
}

/* Whether somebody but the caller may have a connection of the pool, and give
 * it back while he waits. */
static bool has_others(const mb_lua_run *run)
{
  return run->lua->task != NULL || mb_pool_is_named(run->session->pool);
}

static mb_status acquire(mb_lua_run *run, unsigned flags)
{
  mb_pool *pool = run->session->pool;
  if (!has_others(run))
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
  compat_rawsetp(L, LUA_REGISTRYINDEX,
      mb_lua_own_key(run->lua, run->frame)); /* keeps it */
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

/* Has what the program has forgotten collected: all of it, or, where others
 * would be held up and may give something back, as much as they can bear. */
static void collect(lua_State *L, const mb_lua_run *run, bool whole)
{
  if (whole)
    lua_gc(L, LUA_GCCOLLECT, 0);
  else
    mb_lua_want_garbage(L, run->lua);
  if (run->lua->has_dropped)
    mb_lua_end_dropped(run->lua);
}

void mb_lua_run_make_place(lua_State *L, const mb_lua_run *run)
{
  if (mb_lua_holds_place(run))
    collect(L, run, true);
}

/* Whether somebody may give a connection back that this call can use; what it
 * would wait for by itself comes never. */
static bool may_wait(const mb_lua_run *run)
{
  if (run->writes && mb_lua_holds_place(run))
    return false;
  return has_others(run) && !(run->lua->task != NULL && holds_all(run));
}

/* One that is free, or new, or of rows that share it.  MB_WAIT: there is none.
 */
static mb_status borrow_now(lua_State *L, mb_lua_run *run)
{
  if (acquire(run, MB_ACQUIRE_NOW | MB_ACQUIRE_LOOK) == MB_OK)
    return MB_OK;
  if (run->error.class != MB_POOL_TIMEOUT)
    return MB_ERROR;
  if (!(run->writes && mb_lua_holds_place(run)) && share(L, run))
    return MB_OK;
  return MB_WAIT;
}

/* The same after nobody has given one back in time. */
static mb_status borrow_late(lua_State *L, mb_lua_run *run)
{
  const mb_error waited = run->error;
  collect(L, run, true);
  const mb_status status = borrow_now(L, run);
  if (status != MB_WAIT)
    return status;
  run->error = waited;
  return MB_ERROR;
}

static mb_status borrow(lua_State *L, mb_lua_run *run)
{
  mb_error *error = &run->error;
  if (run->session->has_password &&
      mb_pool_needs_password(run->session->pool) &&
      ask_password(L, run) != MB_OK)
    return MB_ERROR;
  /* Nobody else would take them on while this blocks. */
  if (run->lua->fiber == NULL && run->lua->n_orphans > 0)
    mb_lua_end_orphans(L, run->lua);
  mb_status status = borrow_now(L, run);
  if (status != MB_WAIT)
    return status;
  /* Handles that were forgotten hold connections until they are collected. */
  const bool is_task = run->lua->task != NULL;
  collect(L, run, !(is_task && may_wait(run)));
  status = borrow_now(L, run);
  if (status != MB_WAIT)
    return status;
  const bool waits = may_wait(run);
  if (acquire(run, waits ? 0 : MB_ACQUIRE_NOW) == MB_OK)
    return MB_OK;
  if (error->class != MB_POOL_TIMEOUT)
    return MB_ERROR;
  if (!waits)
    return explain_empty(run);
  return is_task ? borrow_late(L, run) : MB_ERROR;
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

mb_status mb_lua_run_borrow(lua_State *L, mb_lua_run *run)
{
  if (run->session->closed || run->session->origin->closed)
    return mb_error_fill(&run->error, MB_USAGE, "the database is closed");
  if ((run->lua->calling != NULL && check_calling(run, &run->error) != MB_OK) ||
      (run->lua->transactions != NULL && !run->outside &&
          run->lua->telling == 0 &&
          check_transactions(L, run, &run->error) != MB_OK))
    return MB_ERROR;
  if (run->watch.events != 0)
    run->watch.mark_ns = mb_now_ns();
  const mb_status status = borrow(L, run);
  if (MB_RARELY(run->lua->task != NULL))
    mb_lua_have_garbage(run->lua);
  if (run->watch.events != 0)
    mb_lua_watch_borrowed(run, status);
  if (status != MB_OK)
    return MB_ERROR;
  mb_lua_run_hold(run);
  if (run->shared == NULL)
    run->frame->conn = run->conn;
  if (run->watch.events != 0)
    mb_lua_watch_connected(L, run);
  if (run->session->has_setup && mb_conn_take_fresh(run->conn))
    return set_up(L, run);
  return MB_OK;
}
