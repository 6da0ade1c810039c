/*
 * row.c: rows as tables of Lua's.
 *
 * The names of a statement's columns are turned into Lua strings once and kept
 * in a shape, a table found by the number that the core gives to columns; a row
 * is then a table of the right size, filled by raw assignments.
 */
#include "binding.h"

#include <limits.h>

/* --- Shapes ------------------------------------------------------------- */

static void push_description(lua_State *L, const mb_column *column)
{
  lua_createtable(L, 0, 4);
  lua_pushstring(L, column->name);
  lua_setfield(L, -2, "name");
  if (column->type != NULL) {
    lua_pushstring(L, column->type);
    lua_setfield(L, -2, "type");
  }
  if (column->table != NULL) {
    lua_pushstring(L, column->table);
    lua_setfield(L, -2, "table");
  }
  if (column->nullable >= 0) {
    lua_pushboolean(L, column->nullable);
    lua_setfield(L, -2, "nullable");
  }
  if (column->tag == MB_JSON) {
    lua_pushboolean(L, 1);
    lua_setfield(L, -2, "is_json");
  }
}

void mb_lua_push_description(lua_State *L, const mb_result *result)
{
  const int n = result->n_columns < INT_MAX ? (int)result->n_columns : 0;
  luaL_checkstack(L, 6, NULL);
  lua_createtable(L, n, 1);
  lua_createtable(L, n, 0);
  for (int i = 0; i < n; i++) {
    push_description(L, &result->columns[i]);
    lua_rawseti(L, -2, i + 1);
    lua_pushstring(L, result->columns[i].name);
    lua_rawseti(L, -3, i + 1);
  }
  lua_setfield(L, -2, "columns");
}

void mb_lua_push_shape(lua_State *L, mb_lua *lua, const mb_stmt *stmt)
{
  const uint64_t shape = mb_stmt_shape(stmt);
  const size_t slot = (size_t)(shape & (MB_LUA_SHAPES - 1));
  if (lua->shapes[slot] == shape) {
    lua_rawgeti(L, lua_upvalueindex(MB_LUA_SHAPE_LIST), (int)slot + 1);
    return;
  }
  lua->shapes[slot] = 0;
  mb_lua_push_description(L, mb_stmt_result(stmt));
  lua_pushvalue(L, -1);
  lua_rawseti(L, lua_upvalueindex(MB_LUA_SHAPE_LIST), (int)slot + 1);
  lua->shapes[slot] = shape;
}

void mb_lua_push_hooks(
    lua_State *L, mb_lua *lua, const mb_lua_config *config, int shape)
{
  (void)lua;
  if (!config->has_hooks) {
    lua_pushnil(L);
    return;
  }
  shape = lua_absindex(L, shape);
  mb_lua_helper(L, "hooks");
  compat_getuservalue(L, 1, MB_LUA_OPTIONS);
  lua_pushvalue(L, shape);
  lua_call(L, 2, 1); /* builds a table; runs nothing of the user's */
}

/* --- Values and rows ---------------------------------------------------- */

void mb_lua_convert(lua_State *L, const mb_lua_sink *sink, size_t column)
{
  lua_rawgeti(L, sink->hooks, (int)column + 1);
  if (lua_type(L, -1) != LUA_TFUNCTION) {
    lua_pop(L, 1);
    return;
  }
  lua_insert(L, -2);
  if (mb_lua_pcall(L, sink->lua, 1, 1))
    return;
  mb_lua_unwind(L, sink->lua);
  (void)lua_error(L);
}

void mb_lua_push_named(lua_State *L, const mb_lua_sink *sink,
    const mb_value *row, size_t n, int shape)
{
  lua_createtable(L, 0, n < INT_MAX ? (int)n : 0);
  for (size_t i = 0; i < n; i++) {
    lua_rawgeti(L, shape, (int)i + 1);
    mb_lua_push_column(L, sink, &row[i], i);
    lua_rawset(L, -3);
  }
}
