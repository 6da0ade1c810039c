/* capability.c: what the connected server can do. */
#include "postgres.h"

#include <stdio.h>
#include <string.h>

#define CARRIED                                                            \
  (1u << MB_DECIMAL | 1u << MB_DATE | 1u << MB_TIME | 1u << MB_TIMESTAMP | \
      1u << MB_TIMESTAMPTZ | 1u << MB_INTERVAL | 1u << MB_JSON |           \
      1u << MB_UUID | 1u << MB_OTHER)
#define BASIC                                                         \
  (1u << MB_NULL | 1u << MB_BOOL | 1u << MB_INT64 | 1u << MB_DOUBLE | \
      1u << MB_TEXT | 1u << MB_BLOB | 1u << MB_ARRAY)

const mb_capability *pg_capability(mb_driver_conn *conn)
{
  return &conn->capability;
}

static const char *const storage[MB_STORAGE_TYPE_COUNT] = {
    [MB_STORE_INTEGER8] = "smallint",
    [MB_STORE_INTEGER16] = "smallint",
    [MB_STORE_INTEGER32] = "integer",
    [MB_STORE_INTEGER64] = "bigint",
    [MB_STORE_UNSIGNED64] = "numeric(20)",
    [MB_STORE_FLOAT] = "real",
    [MB_STORE_DOUBLE] = "double precision",
    [MB_STORE_BOOLEAN] = "boolean",
    [MB_STORE_TEXT] = "text",
    [MB_STORE_BLOB] = "bytea",
    [MB_STORE_UUID] = "uuid",
    [MB_STORE_DECIMAL] = "numeric",
    [MB_STORE_DATE] = "date",
    [MB_STORE_TIME] = "time",
    [MB_STORE_DATETIME] = "timestamp",
    [MB_STORE_TIMESTAMP] = "timestamptz",
    [MB_STORE_JSON] = "jsonb",
    [MB_STORE_ENUM] = "text",
    [MB_STORE_LIST] = "text[]",
};

/* What reads and writes leave in a session: settings, locks, values of
 * sequences, SELECT INTO TEMP, connections of dblink. */
static const char *const session_words[] = {
    "set_config", "advisory", "currval", "lastval", "temp", "dblink", NULL};

void pg_fill_capability(mb_driver_conn *conn)
{
  const int version = PQserverVersion(conn->pq);
  (void)snprintf(conn->server_version, sizeof conn->server_version, "%d.%d",
      version / 10000, version % 10000);
  conn->capability = (mb_capability){
      .size = sizeof(mb_capability),
      .server_version = conn->server_version,
      .lexical = {.escape_strings = true,
          .nested_comments = true,
          .dollar_quotes = true,
          .colon_casts = true,
          .question_operators = true,
          .compound = MB_COMPOUND_ATOMIC,
          .placeholder = MB_PLACEHOLDER_DOLLAR},
      .sql = true,
      .returning = true,
      .upsert = true,
      .select_for_update = true,
      .savepoints = true,
      .read_only_transactions = true,
      .deferrable_transactions = true,
      .transactional_ddl = true,
      .auto_increment = true,
      .pipeline = true,
      .non_blocking = true,
      .scan = true,
      .backward_pagination = true,
      .isolation_levels = MB_READ_UNCOMMITTED | MB_READ_COMMITTED |
                          MB_REPEATABLE_READ | MB_SERIALIZABLE,
      .max_identifier_length = 63,
      .max_parameters = 65535,
      .statement_cache = 256,
      .native_json = true,
      .native_jsonb = true,
      .native_uuid = true,
      .native_timestamp = true,
      .native_date = true,
      .native_time = true,
      .native_decimal = true,
      .native_enum = true,
      .native_array = true,
      .native_varchar = true,
      .parameter_types = BASIC | CARRIED | 1u << MB_UINT64,
      .result_types = BASIC | CARRIED,
      .bulk_insert = "copy",
      .insert_skip = "on conflict do nothing",
      .alter_column_type = true,
      .alter_column_properties_atomically = true,
      .rename_column = true,
      .drop_column = true,
      .add_constraint = true,
      .identifier_quote = '"',
      .session_words = session_words,
  };
  memcpy(conn->capability.storage_types, storage, sizeof storage);
}
