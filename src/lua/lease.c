/*
 * lease.c: connections that were borrowed through a Database, and their users.
 */
#include "binding.h"

/* Where userdata are found by their addresses, without keeping them alive. */
static const char known_key = 'k';

void mb_lua_know(lua_State *L, const void *userdata, int index)
{
  index = lua_absindex(L, index);
  compat_rawgetp(L, LUA_REGISTRYINDEX, &known_key);
  if (lua_isnil(L, -1)) {
    lua_pop(L, 1);
    lua_newtable(L);
    lua_createtable(L, 0, 1);
    lua_pushliteral(L, "v");
    lua_setfield(L, -2, "__mode");
    lua_setmetatable(L, -2);
    lua_pushvalue(L, -1);
    compat_rawsetp(L, LUA_REGISTRYINDEX, &known_key);
  }
  lua_pushvalue(L, index);
  compat_rawsetp(L, -2, userdata);
  lua_pop(L, 1);
}

void mb_lua_push_known(lua_State *L, const void *userdata)
{
  compat_rawgetp(L, LUA_REGISTRYINDEX, &known_key);
  compat_rawgetp(L, -1, userdata);
  lua_remove(L, -2);
}

mb_lua_lease *mb_lua_push_lease(
    lua_State *L, const mb_lua_session *origin, mb_conn *conn)
{
  mb_lua_lease *lease = lua_newuserdata(L, sizeof *lease);
  *lease = (mb_lua_lease){.conn = conn,
      .borrow = mb_conn_borrow(conn),
      .pool = origin->pool,
      .origin = origin,
      .task = mb_lua_of(L)->task};
  mb_lua_know(L, lease, -1);
  return lease;
}

void mb_lua_lease_join(mb_lua *lua, mb_lua_lease *lease, bool as_rows)
{
  lease->rows += as_rows;
  if (lease->users++ > 0)
    return;
  mb_conn_ref(lease->conn);
  lease->prev = NULL;
  lease->next = lua->leases;
  if (lease->next != NULL)
    lease->next->prev = lease;
  lua->leases = lease;
}

/* What a Connection has begun ends with it, though rows keep what it was lent.
 */
static void drop_transactions(mb_lua *lua, const mb_lua_lease *lease)
{
  mb_tx tx;
  if (!mb_lua_lease_holds(lease))
    return;
  for (mb_tx_innermost(lease->conn, &tx); tx.depth > 0;
       mb_tx_innermost(lease->conn, &tx)) {
    mb_tx_drop(&tx);
    lua->has_dropped = true;
  }
}

void mb_lua_lease_leave(
    mb_lua *lua, mb_lua_lease *lease, bool as_rows, bool finalizing)
{
  lease->rows -= as_rows;
  if (--lease->users > 0) {
    if (!as_rows && lease->rows == lease->users)
      drop_transactions(lua, lease);
    if (!as_rows && lua->has_dropped && !finalizing)
      mb_lua_end_dropped(lua);
    return;
  }
  if (lease->prev != NULL)
    lease->prev->next = lease->next;
  else
    lua->leases = lease->next;
  if (lease->next != NULL)
    lease->next->prev = lease->prev;

  mb_conn *conn = lease->conn;
  lease->conn = NULL;
  if (mb_conn_borrow(conn) == lease->borrow) {
    if (finalizing)
      mb_conn_drop(conn);
    else
      mb_conn_release(conn);
  }
  mb_conn_unref(conn);
}

void mb_lua_end_leases(mb_lua *lua, const mb_lua_session *origin)
{
  for (mb_lua_lease *lease = lua->leases; lease != NULL; lease = lease->next)
    if (lease->origin == origin && mb_lua_lease_holds(lease) &&
        (lua->task == NULL || lease->task == lua->task))
      mb_conn_release(lease->conn);
}

void mb_lua_end_dropped(mb_lua *lua)
{
  mb_error error;
  bool again = false;
  for (mb_lua_lease *lease = lua->leases; lease != NULL; lease = lease->next)
    if (mb_lua_lease_holds(lease) &&
        mb_conn_end_dropped(lease->conn, &error) != MB_OK)
      again |= error.class == MB_USAGE;
  lua->has_dropped = again;
}

mb_lua_lease *mb_lua_find_lease(
    const mb_lua *lua, const mb_pool *pool, bool writes)
{
  mb_lua_lease *found = NULL;
  for (mb_lua_lease *lease = lua->leases; lease != NULL; lease = lease->next)
    if (lease->pool == pool && lease->task == lua->task &&
        lease->rows == lease->users && mb_lua_lease_holds(lease) &&
        (found == NULL || (writes && mb_conn_is_writer(lease->conn))))
      found = lease;
  return found;
}

mb_lua_lease *mb_lua_run_lease(lua_State *L, mb_lua_run *run)
{
  if (run->shared == NULL)
    return mb_lua_push_lease(L, run->session->origin, run->conn);
  compat_rawgetp(L, LUA_REGISTRYINDEX, mb_lua_own_key(run->lua, run->frame));
  return run->shared;
}
