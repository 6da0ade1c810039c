/* stats.c: what is known of a Database's pool. */
#include "binding.h"

#define NS_PER_SECOND 1e9

/* about(db): what is known of the database before a connection is made. */
int mb_lua_about(lua_State *L)
{
  const mb_lua_session *session = mb_lua_check_session(L, 1);
  const mb_connector_info *info = mb_pool_info(session->pool);
  lua_createtable(L, 0, 4);
  lua_pushstring(L, mb_pool_driver(session->pool)->name);
  lua_setfield(L, -2, "driver");
  lua_pushstring(L, info->database);
  lua_setfield(L, -2, "database");
  lua_pushstring(L, info->host);
  lua_setfield(L, -2, "host");
  if (info->port != 0) {
    lua_pushinteger(L, info->port);
    lua_setfield(L, -2, "port");
  }
  return 1;
}

/* stats(db): a table of counts. */
int mb_lua_stats(lua_State *L)
{
  mb_pool_stats stats;
  const mb_lua_session *session = mb_lua_check_session(L, 1);
  mb_pool_stats_read(session->pool, &stats);
  const struct {
    const char *name;
    int64_t value;
  } fields[] = {
      {"max", stats.max},
      {"size", stats.size},
      {"open", stats.open},
      {"idle", stats.idle},
      {"in_use", stats.in_use},
      {"connecting", stats.connecting},
      {"waiting", stats.waiting},
      {"acquired", stats.acquired},
      {"released", stats.released},
      {"timeouts", stats.timeouts},
      {"shed", stats.shed},
      {"created", stats.created},
      {"closed", stats.closed},
      {"failures", stats.failures},
      {"pings", stats.pings},
      {"cache_hits", stats.cache_hits},
      {"cache_misses", stats.cache_misses},
  };
  lua_newtable(L);
  for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
    lua_pushinteger(L, (lua_Integer)fields[i].value);
    lua_setfield(L, -2, fields[i].name);
  }
  lua_pushnumber(L, (lua_Number)((double)stats.acquire_ns / NS_PER_SECOND));
  lua_setfield(L, -2, "acquire_time");
  lua_createtable(L, 0, MB_CLOSE_REASON_COUNT);
  for (int reason = 0; reason < MB_CLOSE_REASON_COUNT; reason++) {
    lua_pushinteger(L, (lua_Integer)stats.closed_by[reason]);
    lua_setfield(L, -2, mb_close_reason_name((mb_close_reason)reason));
  }
  lua_setfield(L, -2, "closed_by");
  return 1;
}
