/*
 * notice_driver.c: the SQLite driver, with a session that talks: each execution
 * tells a notice and counts two warnings.  Of one connection at a time.
 *
 * luaopen_notice_driver(the module of the SQLite driver) gives a module.
 */
#include "../../src/driver.h"

#include <lauxlib.h>
#include <lua.h>

static mb_driver talking;
static const mb_driver *quiet;
static const mb_host *talking_host;
static void *owner;

static mb_status open_connector(const mb_host *host, const mb_option *options,
    size_t n, mb_driver_connector **out, mb_connector_info *info,
    mb_error *error)
{
  talking_host = host;
  return quiet->open_connector(host, options, n, out, info, error);
}

static mb_status connect(mb_driver_connector *connector,
    const mb_connect_args *args, mb_driver_conn **out, mb_op *op,
    mb_error *error)
{
  owner = args->owner;
  return quiet->connect(connector, args, out, op, error);
}

static mb_status execute(mb_driver_stmt *stmt, const mb_value *params, size_t n,
    const mb_execute_options *options, mb_result *result, mb_op *op,
    mb_error *error)
{
  const mb_event event = {
      .kind = MB_EVENT_NOTICE, .name = "WARNING", .text = "by the way"};
  const mb_event other = {.kind = MB_EVENT_PARAMETER, .name = "a", .text = "b"};
  talking_host->event(owner, &event);
  talking_host->event(owner, &other);
  const mb_status status =
      quiet->execute(stmt, params, n, options, result, op, error);
  result->warnings = 2;
  return status;
}

int luaopen_notice_driver(lua_State *L);
int luaopen_notice_driver(lua_State *L)
{
  const mb_driver *const *held = lua_touserdata(L, 1);
  quiet = *held;
  talking = **held;
  talking.open_connector = open_connector;
  talking.connect = connect;
  talking.execute = execute;
  const mb_driver **made = lua_newuserdata(L, sizeof *made);
  *made = &talking;
  lua_getmetatable(L, 1);
  lua_setmetatable(L, -2);
  return 1;
}
