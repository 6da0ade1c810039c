/* value.c: values between Lua and the core. */
#include "binding.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- Out ---------------------------------------------------------------- */

static void push_digits(lua_State *L, bool negative, uint64_t magnitude)
{
  char room[24];
  char *at = room + sizeof room;
  do
    *--at = (char)('0' + magnitude % 10);
  while ((magnitude /= 10) != 0);
  if (negative)
    *--at = '-';
  lua_pushlstring(L, at, (size_t)(room + sizeof room - at));
}

void mb_lua_push_int64(lua_State *L, int64_t value)
{
#if COMPAT_HAS_INTEGERS
  lua_pushinteger(L, value);
#else
  if (value >= -MB_LUA_EXACT_MAX && value <= MB_LUA_EXACT_MAX)
    lua_pushnumber(L, (lua_Number)value);
  else
    push_digits(L, value < 0,
        value < 0 ? (uint64_t)0 - (uint64_t)value : (uint64_t)value);
#endif
}

/* An integer that this Lua cannot hold exactly. */
static bool is_inexact(const mb_value *value)
{
  if (value->tag == MB_UINT64)
    return true;
#if COMPAT_HAS_INTEGERS
  return false;
#else
  return value->tag == MB_INT64 && (value->as.integer < -MB_LUA_EXACT_MAX ||
                                       value->as.integer > MB_LUA_EXACT_MAX);
#endif
}

static void refuse_inexact(lua_State *L)
{
  mb_error error;
  (void)mb_error_fill(&error, MB_DATA,
      "an integer came that this Lua cannot hold exactly (int64 = \"error\")");
  mb_lua_unwind(L, mb_lua_of(L));
  (void)mb_lua_fail(L, NULL, &error, NULL, 0);
}

static void push_null(lua_State *L, const mb_lua_config *config, int options)
{
  if (config->has_null)
    lua_getfield(L, options, "null");
  else
    lua_pushnil(L);
}

/* Pushes dimension dim of an array as a list; *next is its first element. */
static void push_list(lua_State *L, const mb_lua_config *config,
    const mb_array *array, uint32_t dim, const mb_value **next, int options)
{
  const uint32_t n = array->n_dims > 0 ? array->dims[dim] : 0;
  luaL_checkstack(L, 4, NULL);
  lua_createtable(L, n <= INT_MAX ? (int)n : 0, 0);
  for (uint32_t i = 1; i <= n; i++) {
    if (dim + 1 < array->n_dims) {
      push_list(L, config, array, dim + 1, next, options);
    } else {
      /* A list has no holes. */
      if ((*next)->tag == MB_NULL)
        lua_pushlightuserdata(L, NULL);
      else
        mb_lua_push_value(L, config, *next, options);
      (*next)++;
    }
    lua_rawseti(L, -2, (int)i);
  }
}

void mb_lua_push_value(lua_State *L, const mb_lua_config *config,
    const mb_value *value, int options)
{
  switch (value->tag) {
  case MB_NULL:
    push_null(L, config, options);
    break;
  case MB_BOOL:
    if (config->keeps_booleans)
      lua_pushinteger(L, (lua_Integer)value->as.integer);
    else
      lua_pushboolean(L, value->as.integer != 0);
    break;
  case MB_INT64:
    if (config->int64_raises && is_inexact(value))
      refuse_inexact(L);
    mb_lua_push_int64(L, value->as.integer);
    break;
  case MB_UINT64:
    if (config->int64_raises)
      refuse_inexact(L);
    push_digits(L, false, value->as.natural);
    break;
  case MB_DOUBLE:
    lua_pushnumber(L, value->as.real);
    break;
  case MB_ARRAY: {
    const mb_value *next = value->as.array->elements;
    push_list(L, config, value->as.array, 0, &next, options);
    break;
  }
  default:
    lua_pushlstring(L, value->as.bytes.size > 0 ? value->as.bytes.data : "",
        value->as.bytes.size);
    if (value->tag == MB_DECIMAL && config->decimal_is_number) {
      const lua_Number number = lua_tonumber(L, -1);
      lua_pop(L, 1);
      lua_pushnumber(L, number);
    }
  }
}

/* --- In ----------------------------------------------------------------- */

static mb_status refuse(mb_error *error, const char *why)
{
  return mb_error_fill(error, MB_USAGE, why);
}

static void view_string(lua_State *L, int index, mb_tag tag, mb_value *out)
{
  out->tag = tag;
  out->as.bytes.data = lua_tolstring(L, index, &out->as.bytes.size);
}

/* LuaJIT's int64_t and uint64_t, which print as "1LL" and "1ULL". */
static mb_status read_cdata(
    lua_State *L, int index, mb_value *out, mb_error *error)
{
  const char *text =
      luaL_callmeta(L, index, "__tostring") ? lua_tostring(L, -1) : NULL;
  const size_t digits = text != NULL ? strspn(text, "-0123456789") : 0;
  if (digits > 0 && strcmp(text + digits, "LL") == 0) {
    out->tag = MB_INT64;
    out->as.integer = strtoll(text, NULL, 10);
    return MB_OK;
  }
  if (digits > 0 && strcmp(text + digits, "ULL") == 0) {
    out->as.natural = strtoull(text, NULL, 10);
    out->tag = out->as.natural > INT64_MAX ? MB_UINT64 : MB_INT64;
    return MB_OK;
  }
  return refuse(error, "is a cdata that is no 64-bit integer");
}

/* Encodes with the json option; the text stays on the stack. */
static mb_status read_json(lua_State *L, const mb_lua_config *config, int index,
    mb_value *out, mb_error *error)
{
  if (!config->has_json)
    return refuse(error,
        "is moonbase.json(…), but the database was opened without a json "
        "option (as json = require \"cjson\")");
  mb_lua_helper(L, "encode_json");
  compat_getuservalue(L, 1, MB_LUA_OPTIONS);
  lua_pushvalue(L, index);
  if (!mb_lua_pcall(L, mb_lua_of(L), 2, 1))
    return mb_lua_keep_raised(L, error);
  if (lua_type(L, -1) != LUA_TSTRING)
    return refuse(error, "was not turned into a string by json.encode");
  view_string(L, -1, MB_JSON, out);
  return MB_OK;
}

/* The dimensions of a list of lists, as its first elements say. */
static mb_status measure_array(lua_State *L, mb_array *array, mb_error *error)
{
  lua_pushvalue(L, -1);
  for (;;) {
    const size_t n = lua_rawlen(L, -1);
    if (array->n_dims == sizeof array->dims / sizeof array->dims[0])
      return refuse(error, "is an array of more than 6 dimensions");
    if (n > UINT32_MAX)
      return refuse(error, "is too long an array");
    array->dims[array->n_dims++] = (uint32_t)n;
    lua_rawgeti(L, -1, 1);
    lua_remove(L, -2);
    if (!lua_istable(L, -1) || lua_getmetatable(L, -1))
      break; /* a value, not a list of values */
  }
  if (array->dims[0] == 0)
    array->n_dims = 0;
  return MB_OK;
}

/* Reads dimension dim from the list on the top, which it pops. */
static mb_status read_dimension(lua_State *L, const mb_lua_config *config,
    mb_array *array, uint32_t dim, mb_value **next, mb_error *error)
{
  const int list = lua_gettop(L);
  luaL_checkstack(L, 8, NULL);
  if (!lua_istable(L, list) || lua_rawlen(L, list) != array->dims[dim])
    return refuse(error, "is an array whose rows differ in length");
  for (uint32_t i = 1; i <= array->dims[dim]; i++) {
    lua_rawgeti(L, list, (int)i);
    mb_status status = MB_OK;
    if (dim + 1 < array->n_dims) {
      status = read_dimension(L, config, array, dim + 1, next, error);
    } else {
      status = mb_lua_read_value(L, config, lua_gettop(L), *next, error);
      if (status == MB_OK && (*next)->tag != MB_NULL)
        array->element = (*next)->tag;
      (*next)++;
    }
    if (status != MB_OK)
      return MB_ERROR;
    lua_settop(L, list);
  }
  lua_pop(L, 1);
  return MB_OK;
}

/* Reads an array; its memory stays on the stack. */
static mb_status read_array(lua_State *L, const mb_lua_config *config,
    int index, mb_value *out, mb_error *error)
{
  mb_array shape = {.n_dims = 0};
  size_t n = 1;
  const int top = lua_gettop(L);
  lua_rawgeti(L, index, 1);
  if (measure_array(L, &shape, error) != MB_OK)
    return MB_ERROR;
  for (uint32_t i = 0; i < shape.n_dims; i++) {
    if (n > SIZE_MAX / sizeof(mb_value) / (shape.dims[i] + 1))
      return refuse(error, "is too long an array");
    n *= shape.dims[i];
  }
  lua_settop(L, top + 1);
  mb_array *array = lua_newuserdata(L, sizeof *array + n * sizeof(mb_value));
  mb_value *next = (mb_value *)(void *)(array + 1);
  *array = shape;
  array->elements = next;
  lua_insert(L, top + 1);
  out->tag = MB_ARRAY;
  out->as.array = array;
  if (array->n_dims == 0) {
    lua_settop(L, top + 1);
    return MB_OK;
  }
  return read_dimension(L, config, array, 0, &next, error);
}

int mb_lua_kind_of(lua_State *L, int index)
{
  return lua_type(L, index) == LUA_TTABLE ? mb_lua_table_kind(L, index) : 0;
}

int mb_lua_table_kind(lua_State *L, int index)
{
  if (!lua_getmetatable(L, index))
    return 0;
  mb_lua *lua = mb_lua_of(L);
  const void *metatable = lua_topointer(L, -1);
  if (metatable == lua->kind_metatable) {
    lua_pop(L, 1);
    return lua->kind;
  }
  lua_rawget(L, lua_upvalueindex(MB_LUA_KINDS));
  const int kind =
      lua_type(L, -1) == LUA_TNUMBER ? (int)lua_tointeger(L, -1) : -1;
  lua_pop(L, 1);
  if (kind > 0) {
    lua->kind_metatable = metatable;
    lua->kind = kind;
  }
  return kind;
}

/* A table that stands for a value: its kind is its metatable's. */
static mb_status read_table(lua_State *L, const mb_lua_config *config,
    int index, int kind, mb_value *out, mb_error *error)
{
  switch (kind) {
  case 0:
  case -1:
    return refuse(error, "is a table: write moonbase.json, moonbase.array or "
                         "moonbase.params, or give named parameters alone");
  case MB_LUA_FRAGMENT:
    return refuse(error, "is a fragment of SQL, which has no value here");
  case MB_LUA_PARAMS:
    return refuse(error, "is moonbase.params, which must stand alone");
  case MB_JSON:
    return read_json(L, config, index, out, error);
  case MB_ARRAY:
    return read_array(L, config, index, out, error);
  case MB_DOUBLE:
    lua_rawgeti(L, index, 1);
    out->tag = MB_DOUBLE;
    out->as.real = lua_tonumber(L, -1);
    lua_pop(L, 1);
    return MB_OK;
  default:
    lua_rawgeti(L, index, 1);
    view_string(L, -1, (mb_tag)kind, out);
    lua_pop(L, 1); /* the table holds it */
    return MB_OK;
  }
}

/* The configured null, which may be anything. */
bool mb_lua_is_null(lua_State *L, const mb_lua_config *config, int index)
{
  if (!config->has_null)
    return false;
  compat_getuservalue(L, 1, MB_LUA_OPTIONS);
  lua_getfield(L, -1, "null");
  const bool same = lua_rawequal(L, -1, index) != 0;
  lua_pop(L, 2);
  return same;
}

static mb_status refuse_type(lua_State *L, int index, mb_error *error)
{
  char why[64];
  (void)snprintf(why, sizeof why, "is a %s, which no database can keep",
      luaL_typename(L, index));
  return refuse(error, why);
}

mb_status mb_lua_read_value(lua_State *L, const mb_lua_config *config,
    int index, mb_value *out, mb_error *error)
{
  switch (lua_type(L, index)) {
  case LUA_TNIL:
    out->tag = MB_NULL;
    return MB_OK;
  case LUA_TBOOLEAN:
    out->tag = MB_BOOL;
    out->as.integer = lua_toboolean(L, index);
    return MB_OK;
  case LUA_TNUMBER:
  case LUA_TSTRING:
    (void)mb_lua_read_simple(L, lua_type(L, index), index, out);
    return MB_OK;
  case LUA_TLIGHTUSERDATA:
    out->tag = MB_NULL;
    if (lua_touserdata(L, index) == NULL || mb_lua_is_null(L, config, index))
      return MB_OK;
    return refuse_type(L, index, error);
  case LUA_TTABLE:
    out->tag = MB_NULL;
    if (mb_lua_is_null(L, config, index))
      return MB_OK;
    return read_table(
        L, config, index, mb_lua_table_kind(L, index), out, error);
  case COMPAT_TYPE_CDATA:
    return read_cdata(L, index, out, error);
  default:
    out->tag = MB_NULL;
    if (mb_lua_is_null(L, config, index))
      return MB_OK;
    return refuse_type(L, index, error);
  }
}
