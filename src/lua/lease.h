/*
 * lease.h: connections that were borrowed through a Database, and their users;
 * a part of binding.h.
 */
#ifndef MB_LUA_LEASE_H
#define MB_LUA_LEASE_H

#include "../moonbase.h"
#include "compat.h"

struct mb_lua;
struct mb_lua_session;

/*
 * A borrow of a connection, shared by the handles that use it; a userdata
 * beside each of them.  Rows let others in (the task that reads them may go on
 * on their connection); Connections and transactions do not.
 */
typedef struct mb_lua_lease {
  mb_conn *conn; /* a reference while there are users; then NULL */
  uint64_t borrow;
  mb_pool *pool;                       /* borrowed from the users */
  const struct mb_lua_session *origin; /* theirs */
  const void *task;                    /* that borrowed it */
  unsigned users;
  unsigned rows;                    /* of these */
  struct mb_lua_lease *next, *prev; /* in mb_lua.leases while there are users */
} mb_lua_lease;

/* Makes the userdata at index known by its address. */
void mb_lua_know(lua_State *L, const void *userdata, int index);
/* Pushes a known userdata, which is alive. */
void mb_lua_push_known(lua_State *L, const void *userdata);

/* Pushes a lease of a connection that was just borrowed, without users. */
mb_lua_lease *mb_lua_push_lease(
    lua_State *L, const struct mb_lua_session *origin, mb_conn *conn);
/* Ends the borrows that were made through a Database. */
void mb_lua_end_leases(struct mb_lua *lua, const struct mb_lua_session *origin);
void mb_lua_lease_join(struct mb_lua *lua, mb_lua_lease *lease, bool as_rows);
/* Leaves it; the last one gives the connection back, or, in a finalizer, leaves
 * it to be given back. */
void mb_lua_lease_leave(
    struct mb_lua *lua, mb_lua_lease *lease, bool as_rows, bool finalizing);
/* Rolls back what was collected on connections that others still hold: nobody
 * else can, and somebody may wait for what it has locked. */
void mb_lua_end_dropped(struct mb_lua *lua);
/* A lease of the running task that is held by rows alone, or NULL. */
mb_lua_lease *mb_lua_find_lease(
    const struct mb_lua *lua, const mb_pool *pool, bool writes);

static inline bool mb_lua_lease_holds(const mb_lua_lease *lease)
{
  return lease->conn != NULL && mb_conn_borrow(lease->conn) == lease->borrow;
}

#endif
