/* error.c: errors of the core as objects of Lua's. */
#include "binding.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct {
  mb_field field;
  const char *name;
} texts[] = {
    {MB_MESSAGE, "message"},
    {MB_DETAIL, "detail"},
    {MB_HINT, "hint"},
    {MB_CODE, "code"},
    {MB_CONSTRAINT_NAME, "constraint"},
    {MB_SCHEMA, "schema"},
    {MB_TABLE, "table"},
};

static const struct {
  unsigned flag;
  const char *name;
} flags[] = {
    {MB_CONNECTION_DEAD, "connection_dead"},
    {MB_TRANSACTION_DEAD, "transaction_dead"},
    {MB_RETRYABLE, "retryable"},
    {MB_SENT, "sent"},
    {MB_COMMIT_UNKNOWN, "commit_unknown"},
};

static const char *const kinds[] = {
    [MB_CONSTRAINT_UNIQUE] = "unique",
    [MB_CONSTRAINT_PRIMARY_KEY] = "primary_key",
    [MB_CONSTRAINT_FOREIGN_KEY] = "foreign_key",
    [MB_CONSTRAINT_NOT_NULL] = "not_null",
    [MB_CONSTRAINT_CHECK] = "check",
    [MB_CONSTRAINT_EXCLUSION] = "exclusion",
};

static const char *const origins[] = {
    [MB_ORIGIN_STATEMENT] = "statement",
    [MB_ORIGIN_PREPARE] = "prepare",
    [MB_ORIGIN_BEGIN] = "begin",
    [MB_ORIGIN_RESET] = "reset",
    [MB_ORIGIN_CLOSE] = "close",
};

static void set_string(lua_State *L, const char *name, const char *value)
{
  lua_pushstring(L, value);
  lua_setfield(L, -2, name);
}

static void set_number(lua_State *L, const char *name, int64_t value)
{
  if (value == 0)
    return;
  lua_pushinteger(L, (lua_Integer)value);
  lua_setfield(L, -2, name);
}

/* Sets columns to the list of names, and column to the first. */
static void set_columns(lua_State *L, const mb_error *error)
{
  size_t size;
  const char *at = mb_error_text(error, MB_COLUMNS, &size);
  if (at == NULL)
    return;
  lua_newtable(L);
  for (int i = 1;; i++) {
    const char *end = memchr(at, '\0', size);
    const size_t one = end != NULL ? (size_t)(end - at) : size;
    lua_pushlstring(L, at, one);
    if (i == 1) {
      lua_pushvalue(L, -1);
      lua_setfield(L, -4, "column");
    }
    lua_rawseti(L, -2, i);
    if (end == NULL)
      break;
    at = end + 1;
    size -= one + 1;
  }
  lua_setfield(L, -2, "columns");
}

static void set_metatable(lua_State *L)
{
  mb_lua_helper(L, "error_metatable");
  lua_setmetatable(L, -2);
}

/* A time limit was the cause: an error of its own. */
static void set_cause(lua_State *L, const mb_error *error)
{
  if (!(error->flags & MB_TIMED_OUT))
    return;
  size_t size;
  const char *message = mb_error_text(error, MB_MESSAGE, &size);
  lua_newtable(L);
  set_string(L, "class", mb_class_name(MB_TIMEOUT));
  lua_pushlstring(L, message != NULL ? message : "", size);
  lua_setfield(L, -2, "message");
  set_metatable(L);
  lua_setfield(L, -2, "cause");
}

void mb_lua_push_error(
    lua_State *L, const mb_error *error, mb_pool *pool, int sql)
{
  luaL_checkstack(L, 8, NULL);
  lua_createtable(L, 0, 16);
  set_string(L, "class", mb_class_name(error->class));
  for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
    size_t size;
    const char *text = mb_error_text(error, texts[i].field, &size);
    if (text != NULL) {
      lua_pushlstring(L, text, size);
      lua_setfield(L, -2, texts[i].name);
    }
  }
  for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
    lua_pushboolean(L, (error->flags & flags[i].flag) != 0);
    lua_setfield(L, -2, flags[i].name);
  }
  if (pool != NULL)
    set_string(L, "driver", mb_pool_driver(pool)->name);
  if (error->constraint_kind != MB_CONSTRAINT_NONE)
    set_string(L, "constraint_kind", kinds[error->constraint_kind]);
  set_columns(L, error);
  set_number(L, "native_code", error->native_code);
  set_number(L, "position", (int64_t)error->position);
  set_number(L, "entry", error->entry);
  set_number(L, "row", error->row);
  set_string(L, "origin", origins[error->origin]);
  if (sql != 0 && lua_type(L, sql) == LUA_TSTRING) {
    lua_pushvalue(L, sql);
    lua_setfield(L, -2, "sql");
  }
  set_cause(L, error);
  mb_lua_push_traceback(L);
  lua_setfield(L, -2, "traceback");
  set_metatable(L);
}

void mb_lua_push_traceback(lua_State *L)
{
  static const char title[] = "stack traceback:";
  lua_State *outer = mb_lua_of(L)->outer;
  compat_traceback(L, L, 1);
  if (outer == NULL)
    return;
  compat_traceback(L, outer, 1);
  const char *lines = lua_tostring(L, -1);
  lines = lines != NULL ? strstr(lines, title) : NULL;
  if (lines == NULL || !lua_isstring(L, -2)) {
    lua_remove(L, -2);
    return;
  }
  lua_pushstring(L, lines + sizeof title - 1);
  lua_remove(L, -2);
  lua_concat(L, 2);
}

int mb_lua_usage(lua_State *L, const char *format, ...)
{
  mb_error error;
  char message[512];
  va_list arguments;
  va_start(arguments, format);
  (void)vsnprintf(message, sizeof message, format, arguments);
  va_end(arguments);
  mb_error_fill(&error, MB_USAGE, message);
  mb_lua_push_error(L, &error, NULL, 0);
  lua_error(L);
}

int mb_lua_fail(lua_State *L, const mb_lua_config *config,
    const mb_error *error, mb_pool *pool, int sql)
{
  if ((error->flags & MB_RAISED) && mb_lua_take_raised(L))
    return lua_error(L);
  const bool raises = config == NULL || !config->returns_errors ||
                      error->class == MB_USAGE ||
                      mb_class_is(error->class, MB_DRIVER_FAULT);
  if (!raises)
    lua_pushnil(L);
  mb_lua_push_error(L, error, pool, sql);
  return raises ? lua_error(L) : 2;
}
