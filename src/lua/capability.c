/* capability.c: what the connected database can do, as a table. */
#include "binding.h"

#include <stddef.h>

static const struct {
  const char *name;
  size_t at;
} flags[] = {
#define FLAG(member)                         \
  {                                          \
#    member, offsetof(mb_capability, member) \
  }
    FLAG(sql),
    FLAG(returning),
    FLAG(upsert),
    FLAG(select_for_update),
    FLAG(savepoints),
    FLAG(read_only_transactions),
    FLAG(deferrable_transactions),
    FLAG(transactional_ddl),
    FLAG(auto_increment),
    FLAG(multiple_open_rows),
    FLAG(pipeline),
    FLAG(non_blocking),
    FLAG(nulls_first),
    FLAG(scan),
    FLAG(backward_pagination),
#undef FLAG
};

static const struct {
  const char *name;
  size_t at;
} natives[] = {
#define NATIVE(member)                                \
  {                                                   \
#    member, offsetof(mb_capability, native_##member) \
  }
    NATIVE(json),
    NATIVE(jsonb),
    NATIVE(uuid),
    NATIVE(timestamp),
    NATIVE(date),
    NATIVE(time),
    NATIVE(decimal),
    NATIVE(enum),
    NATIVE(array),
    NATIVE(varchar),
#undef NATIVE
};

static const struct {
  const char *name;
  size_t at;
} mutations[] = {
#define MUTATION(member)                     \
  {                                          \
#    member, offsetof(mb_capability, member) \
  }
    MUTATION(alter_column_type),
    MUTATION(alter_column_properties_atomically),
    MUTATION(rename_column),
    MUTATION(drop_column),
    MUTATION(add_constraint),
#undef MUTATION
};

typedef struct word {
  unsigned bit;
  const char *name;
} word;

static const word isolations[] = {
    {MB_READ_UNCOMMITTED, "read uncommitted"},
    {MB_READ_COMMITTED, "read committed"},
    {MB_REPEATABLE_READ, "repeatable read"},
    {MB_SERIALIZABLE, "serializable"},
    {0, NULL},
};

static const word modes[] = {
    {MB_DEFERRED, "deferred"},
    {MB_IMMEDIATE, "immediate"},
    {MB_EXCLUSIVE, "exclusive"},
    {0, NULL},
};

static const word tags[] = {
    {1u << MB_NULL, "null"},
    {1u << MB_BOOL, "boolean"},
    {1u << MB_INT64, "integer"},
    {1u << MB_UINT64, "unsigned"},
    {1u << MB_DOUBLE, "double"},
    {1u << MB_TEXT, "text"},
    {1u << MB_BLOB, "blob"},
    {1u << MB_DECIMAL, "decimal"},
    {1u << MB_DATE, "date"},
    {1u << MB_TIME, "time"},
    {1u << MB_TIMESTAMP, "timestamp"},
    {1u << MB_TIMESTAMPTZ, "timestamptz"},
    {1u << MB_INTERVAL, "interval"},
    {1u << MB_JSON, "json"},
    {1u << MB_UUID, "uuid"},
    {1u << MB_OTHER, "other"},
    {1u << MB_ARRAY, "array"},
    {0, NULL},
};

static const struct {
  enum mb_storage_type type;
  const char *name;
} storage[] = {
#define STORAGE(constant, name) {constant, name},
    MB_STORAGE_TYPES(STORAGE)
#undef STORAGE
};

static void set_flag(
    lua_State *L, const mb_capability *from, const char *name, size_t at)
{
  lua_pushboolean(L, *((const bool *)(const void *)((const char *)from + at)));
  lua_setfield(L, -2, name);
}

static void set_words(
    lua_State *L, const char *field, const word *words, unsigned bits)
{
  int n = 0;
  lua_newtable(L);
  for (; words->name != NULL; words++)
    if (bits & words->bit) {
      lua_pushstring(L, words->name);
      lua_rawseti(L, -2, ++n);
    }
  lua_setfield(L, -2, field);
}

static void push_capability(
    lua_State *L, const mb_capability *from, const mb_pool *pool)
{
  const mb_connector_info *info = mb_pool_info(pool);
  lua_newtable(L);
  for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++)
    set_flag(L, from, flags[i].name, flags[i].at);
  for (size_t i = 0; i < sizeof natives / sizeof natives[0]; i++)
    set_flag(L, from, natives[i].name, natives[i].at);
  lua_newtable(L);
  for (size_t i = 0; i < sizeof mutations / sizeof mutations[0]; i++)
    set_flag(L, from, mutations[i].name, mutations[i].at);
  lua_setfield(L, -2, "schema_mutations");
  lua_newtable(L);
  for (size_t i = 0; i < sizeof storage / sizeof storage[0]; i++) {
    lua_pushstring(L, from->storage_types[storage[i].type]);
    lua_setfield(L, -2, storage[i].name);
  }
  lua_setfield(L, -2, "storage_types");
  set_words(L, "isolation_levels", isolations, from->isolation_levels);
  set_words(L, "transaction_modes", modes, from->transaction_modes);
  set_words(L, "parameter_types", tags, from->parameter_types);
  set_words(L, "result_types", tags, from->result_types);

  static const char *const placeholders[] = {
      [MB_PLACEHOLDER_NATIVE] = "native",
      [MB_PLACEHOLDER_QUESTION] = "?",
      [MB_PLACEHOLDER_DOLLAR] = "$1",
  };
  const struct {
    const char *name, *value;
  } texts[] = {
      {"driver", mb_pool_driver(pool)->name},
      {"database", from->database_name != NULL
                       ? from->database_name
                       : mb_pool_driver(pool)->database_name},
      {"server_version", from->server_version},
      {"library_version", mb_pool_driver(pool)->library_version()},
      {"placeholder", placeholders[from->lexical.placeholder]},
      {"bulk_insert", from->bulk_insert},
      {"insert_skip", from->insert_skip},
  };
  for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
    lua_pushstring(L, texts[i].value);
    lua_setfield(L, -2, texts[i].name);
  }
  const struct {
    const char *name;
    unsigned value;
  } numbers[] = {
      {"max_identifier_length", from->max_identifier_length},
      {"max_parameters", from->max_parameters},
      {"max_connections", (unsigned)info->max_connections},
      {"statement_cache", from->statement_cache},
  };
  for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
    if (numbers[i].value != 0) {
      lua_pushinteger(L, (lua_Integer)numbers[i].value);
      lua_setfield(L, -2, numbers[i].name);
    }
}

/* capability(x): the table, which the Lua side makes read-only. */
int mb_lua_capability(lua_State *L)
{
  mb_lua_run run;
  (void)mb_lua_check_session(L, 1);
  mb_lua_run_open(L, &run);
  run.outside = true;
  if (mb_lua_run_connect(L, &run) != MB_OK)
    return mb_lua_run_fail(L, &run);
  push_capability(L, mb_conn_capability(run.conn), run.session->pool);
  if (!mb_lua_run_end(&run))
    return mb_lua_run_fail(L, &run);
  return 1;
}
