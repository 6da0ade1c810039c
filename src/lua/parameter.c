/*
 * parameter.c: the arguments of a call as the values of a statement.
 *
 * Positional ones stand on the stack as they were given; named ones and those
 * of moonbase.params are fetched from their table.  What a view needs stays on
 * the stack until the run is over, or is kept by the rows (mb_lua_keep_values).
 */
#include "binding.h"

#include <stdio.h>
#include <string.h>

static mb_status too_many(mb_error *error)
{
  return mb_error_fill(error, MB_USAGE, "too many parameters");
}

static mb_status reserve(lua_State *L, mb_lua_params *out, size_t n)
{
  out->n = n;
  out->values = out->room;
  if (n > sizeof out->room / sizeof out->room[0])
    out->values = lua_newuserdata(L, n * sizeof(mb_value));
  return MB_OK;
}

/* Puts the parameter's name before what is wrong with it. */
mb_status mb_lua_name_parameter(
    mb_error *error, const char *name, size_t size, size_t number)
{
  char message[512];
  size_t length;
  const char *why = mb_error_text(error, MB_MESSAGE, &length);
  if (error->class != MB_USAGE || why == NULL)
    return MB_ERROR;
  if (name != NULL)
    (void)snprintf(message, sizeof message, "parameter :%.*s %.*s",
        (int)(size < 60 ? size : 60), name, (int)length, why);
  else
    (void)snprintf(message, sizeof message, "parameter %zu %.*s", number,
        (int)length, why);
  return mb_error_fill(error, MB_USAGE, message);
}

/* --- Positional --------------------------------------------------------- */

/* Reads the arguments from out->first to out->top: of nearly every run. */
__attribute__((always_inline)) static inline mb_status read_positional(
    lua_State *L, const mb_lua *lua, const mb_lua_config *config,
    mb_lua_params *out, mb_error *error)
{
  const int first = out->first;
  const int top = out->top;
  (void)reserve(L, out, top >= first ? (size_t)(top - first) + 1 : 0);
  mb_value *value = out->values;
  for (int at = first; at <= top; at++, value++) {
    const int type = lua_type(L, at);
    if (mb_lua_read_simple(L, type, at, value) ||
        mb_lua_read_marked(L, lua, config, type, at, value))
      continue;
    if (mb_lua_kind_of(L, at) == MB_LUA_FRAGMENT) {
      out->is_fragment = true;
      return MB_OK;
    }
    if (mb_lua_read_value(L, config, at, value, error) != MB_OK)
      return mb_lua_name_parameter(error, NULL, 0, (size_t)(at - first) + 1);
  }
  return MB_OK;
}

mb_status mb_lua_read_values(lua_State *L, const mb_lua_config *config,
    int first, mb_lua_params *out, mb_error *error)
{
  out->is_fragment = false;
  out->first = first;
  out->top = lua_gettop(L);
  return read_positional(L, mb_lua_of(L), config, out, error);
}

/* moonbase.params: a list of n values, nils inside; n below 0: as many as the
 * statement has parameters. */
static mb_status read_list(lua_State *L, const mb_lua_config *config,
    const mb_stmt *stmt, int list, mb_lua_params *out, mb_error *error)
{
  lua_getfield(L, list, "n");
  const lua_Integer wanted = lua_tointeger(L, -1);
  lua_pop(L, 1);
  size_t n = wanted >= 0 ? (size_t)wanted : mb_stmt_n_parameters(stmt);
  if (wanted < 0 && config->is_plain)
    n = lua_rawlen(L, list); /* only the database knows how many it wants */
  if (wanted < 0 && lua_rawlen(L, list) > n)
    return mb_error_fill(error, MB_USAGE,
        "more values are given than the statement has parameters");
  (void)reserve(L, out, n);
  /* The values are kept apart: the list is the user's and may change. */
  lua_createtable(L, n < INT32_MAX ? (int)n : 0, 0);
  const int kept = lua_gettop(L);
  for (size_t i = 0; i < n; i++) {
    lua_rawgeti(L, list, (int)i + 1);
    if (mb_lua_kind_of(L, -1) == MB_LUA_FRAGMENT) {
      out->is_fragment = true;
      return MB_OK;
    }
    const int value = lua_gettop(L);
    if (mb_lua_read_value(L, config, value, &out->values[i], error) != MB_OK)
      return mb_lua_name_parameter(error, NULL, 0, i + 1);
    /* A view may need more than the value: what was left above it. */
    lua_rawseti(L, kept, (int)i + 1);
    if (lua_gettop(L) > kept && !lua_checkstack(L, 8))
      return too_many(error);
  }
  return MB_OK;
}

/* --- Named -------------------------------------------------------------- */

/* A key of the table that the statement does not use. */
static mb_status refuse_key(lua_State *L, const mb_stmt *stmt, mb_error *error)
{
  char message[256];
  if (lua_type(L, -2) != LUA_TSTRING)
    return mb_error_fill(error, MB_USAGE,
        "the table of named parameters has a key that is no string: give "
        "positional ones one by one, or in moonbase.params{…}");
  size_t size;
  const char *key = lua_tolstring(L, -2, &size);
  const char *guess = NULL;
  size_t guess_size = 0;
  mb_suggest_parameter(stmt, key, size, &guess, &guess_size);
  (void)snprintf(message, sizeof message,
      "parameter :%.60s is given but not used in the statement%s%.*s%s", key,
      guess != NULL ? "; did you mean :" : "", (int)guess_size,
      guess != NULL ? guess : "", guess != NULL ? "?" : "");
  return mb_error_fill(error, MB_USAGE, message);
}

/* Pushes the set of the parameters' names. */
static void push_names(lua_State *L, const mb_stmt *stmt)
{
  const size_t n = mb_stmt_n_parameters(stmt);
  lua_newtable(L);
  for (size_t i = 0; i < n; i++) {
    size_t size;
    const char *name = mb_stmt_parameter(stmt, i, &size);
    lua_pushlstring(L, name, size);
    lua_pushboolean(L, 1);
    lua_rawset(L, -3);
  }
}

/* Finds a key that no placeholder names. */
static mb_status check_keys(
    lua_State *L, const mb_stmt *stmt, int table, mb_error *error)
{
  push_names(L, stmt);
  const int names = lua_gettop(L);
  lua_pushnil(L);
  while (lua_next(L, table) != 0) {
    lua_pushvalue(L, -2);
    lua_rawget(L, names);
    const bool used = lua_toboolean(L, -1) != 0;
    lua_pop(L, 1);
    if (!used)
      return refuse_key(L, stmt, error);
    lua_pop(L, 1);
  }
  return MB_OK;
}

static size_t count_keys(lua_State *L, int table)
{
  size_t n = 0;
  lua_pushnil(L);
  while (lua_next(L, table) != 0) {
    n++;
    lua_pop(L, 1);
  }
  return n;
}

static mb_status read_named(lua_State *L, const mb_lua_config *config,
    const mb_stmt *stmt, int table, mb_lua_params *out, mb_error *error)
{
  const size_t n = mb_stmt_n_parameters(stmt);
  const mb_style style = mb_stmt_style(stmt);
  if (style == MB_STYLE_QUESTION || style == MB_STYLE_NUMBER)
    return mb_error_fill(error, MB_USAGE,
        "named parameters are given, but the statement has positional "
        "placeholders: write :name there, or moonbase.params{…} here");
  (void)reserve(L, out, n);
  if (n > INT32_MAX / 2 - 16 || !lua_checkstack(L, 2 * (int)n + 16))
    return too_many(error);
  size_t found = 0;
  for (size_t i = 0; i < n; i++) {
    size_t size;
    const char *name = mb_stmt_parameter(stmt, i, &size);
    lua_pushlstring(L, name, size);
    lua_rawget(L, table); /* stays on the stack: a view may need it */
    found += !lua_isnil(L, -1);
    if (mb_lua_kind_of(L, -1) == MB_LUA_FRAGMENT) {
      out->is_fragment = true;
      return MB_OK;
    }
    if (mb_lua_read_value(L, config, lua_gettop(L), &out->values[i], error) !=
        MB_OK)
      return mb_lua_name_parameter(error, name, size, 0);
  }
  return count_keys(L, table) == found ? MB_OK
                                       : check_keys(L, stmt, table, error);
}

/* Gives positional arguments the length that the statement wants. */
static mb_status fit(lua_State *L, mb_lua_run *run, int first)
{
  const size_t n = mb_stmt_n_parameters(run->stmt);
  const int given = lua_gettop(L) - first + 1;
  if (given == 1 && lua_type(L, first) == LUA_TTABLE &&
      (mb_lua_table_kind(L, first) == 0 ||
          mb_lua_table_kind(L, first) == MB_LUA_PARAMS))
    return MB_OK;
  if (given > 0 && (size_t)given > n)
    return mb_error_fill(&run->error, MB_USAGE,
        "more values are given than the statement has parameters");
  if (n > INT32_MAX / 2 || !lua_checkstack(L, (int)n + 8))
    return too_many(&run->error);
  lua_settop(L, first - 1 + (int)n);
  return MB_OK;
}

mb_status mb_lua_read_params(lua_State *L, mb_lua_run *run, int first)
{
  const mb_lua_config *config = run->config;
  mb_lua_params *out = &run->params;
  if (run->fits && !config->is_plain && fit(L, run, first) != MB_OK)
    return MB_ERROR;
  const int top = lua_gettop(L);
  out->is_fragment = false;
  out->first = first;
  out->top = top;
  if (top == first && lua_type(L, first) == LUA_TTABLE) {
    const int kind = mb_lua_table_kind(L, first);
    if (kind == MB_LUA_PARAMS)
      return read_list(L, config, run->stmt, first, out, &run->error);
    if (kind == 0 && !mb_lua_is_null(L, config, first))
      return read_named(L, config, run->stmt, first, out, &run->error);
  }
  if (top >= first && mb_stmt_style(run->stmt) == MB_STYLE_NAME)
    return mb_error_fill(&run->error, MB_USAGE,
        "the statement has named placeholders: give one table of parameters");
  return read_positional(L, run->lua, config, out, &run->error);
}

void mb_lua_keep_values(lua_State *L, const mb_lua_params *params, int handle)
{
  bool views = false;
  for (size_t i = 0; i < params->n; i++)
    views |= params->values[i].tag >= MB_TEXT;
  if (!views)
    return;
  const int top = lua_gettop(L);
  lua_createtable(L, top - params->first + 1, 0);
  for (int i = params->first; i <= top; i++) {
    lua_pushvalue(L, i);
    lua_rawseti(L, -2, i - params->first + 1);
  }
  compat_setuservalue(L, handle, MB_LUA_KEPT);
}
