/* capability.c: what the connected server can do. */
#include "mysql.h"

#include <stdio.h>
#include <string.h>

#define CARRIED                                                            \
  (1u << MB_DECIMAL | 1u << MB_DATE | 1u << MB_TIME | 1u << MB_TIMESTAMP | \
      1u << MB_JSON)
#define BASIC                                                         \
  (1u << MB_NULL | 1u << MB_BOOL | 1u << MB_INT64 | 1u << MB_UINT64 | \
      1u << MB_DOUBLE | 1u << MB_TEXT | 1u << MB_BLOB)

/* From which versions on. */
#define MARIADB_RETURNING 100500
#define MARIADB_ROW_NUMBER 100700
#define MARIADB_UUID 100700

static const char *const storage[MB_STORAGE_TYPE_COUNT] = {
    [MB_STORE_INTEGER8] = "tinyint",
    [MB_STORE_INTEGER16] = "smallint",
    [MB_STORE_INTEGER32] = "int",
    [MB_STORE_INTEGER64] = "bigint",
    [MB_STORE_UNSIGNED64] = "bigint unsigned",
    [MB_STORE_FLOAT] = "float",
    [MB_STORE_DOUBLE] = "double",
    [MB_STORE_BOOLEAN] = "tinyint(1)",
    [MB_STORE_TEXT] = "longtext",
    [MB_STORE_BLOB] = "longblob",
    [MB_STORE_UUID] = "char(36)",
    [MB_STORE_DECIMAL] = "decimal(65, 30)",
    [MB_STORE_DATE] = "date",
    [MB_STORE_TIME] = "time(6)",
    [MB_STORE_DATETIME] = "datetime(6)",
    [MB_STORE_TIMESTAMP] = "datetime(6)",
    [MB_STORE_JSON] = "json",
    [MB_STORE_ENUM] = "varchar(255)",
    [MB_STORE_LIST] = "json",
};

/* What reads and writes leave in a session: locks, values of sequences and
 * keys, user variables. */
static const char *const session_words[] = {"get_lock", "last_insert_id",
    "lastval", "into", "found_rows", "temporary", NULL};

static bool has_mode(const char *modes, const char *mode)
{
  return modes != NULL && strstr(modes, mode) != NULL;
}

void mq_follow_mode(mb_driver_conn *conn, const char *sql_mode)
{
  mb_lexical *lexical = &conn->capability.lexical;
  lexical->backslash_strings = !has_mode(sql_mode, "NO_BACKSLASH_ESCAPES");
  lexical->double_quote_strings = !has_mode(sql_mode, "ANSI_QUOTES");
}

const mb_capability *mq_capability(mb_driver_conn *conn)
{
  return &conn->capability;
}

/* What a version of one of the two families has. */
static void fill_by_version(mb_driver_conn *conn)
{
  mb_capability *capability = &conn->capability;
  const unsigned long version = mysql_get_server_version(conn->db);
  capability->returning = conn->is_mariadb && version >= MARIADB_RETURNING;
  capability->database_name = conn->is_mariadb ? "MariaDB" : "MySQL";
  capability->native_json = !conn->is_mariadb;
  capability->native_uuid = conn->is_mariadb && version >= MARIADB_UUID;
  conn->has_arrays = mq_has_arrays(conn->db);
  capability->bulk_insert = conn->has_arrays ? "array" : "values";
  conn->names_row = conn->is_mariadb && version >= MARIADB_ROW_NUMBER;
  if (capability->native_uuid) {
    capability->storage_types[MB_STORE_UUID] = "uuid";
    capability->result_types |= 1u << MB_UUID;
  }
}

void mq_fill_capability(mb_driver_conn *conn, const char *sql_mode)
{
  conn->capability = (mb_capability){
      .size = sizeof(mb_capability),
      .server_version = conn->server_version,
      .lexical = {.backtick_names = true,
          .hash_comments = true,
          .dash_needs_space = true,
          .versioned_comments = true,
          .compound = MB_COMPOUND_ROUTINE,
          .placeholder = MB_PLACEHOLDER_QUESTION},
      .sql = true,
      .upsert = true,
      .select_for_update = true,
      .savepoints = true,
      .read_only_transactions = true,
      .auto_increment = true,
      .nulls_first = true,
      .scan = true,
      .backward_pagination = true,
      .isolation_levels = MB_READ_UNCOMMITTED | MB_READ_COMMITTED |
                          MB_REPEATABLE_READ | MB_SERIALIZABLE,
      .max_identifier_length = 64,
      .max_parameters = MQ_PARAMETERS_MAX,
      .statement_cache = 64,
      .native_timestamp = true,
      .native_date = true,
      .native_time = true,
      .native_decimal = true,
      .native_enum = true,
      .native_varchar = true,
      .parameter_types = BASIC | CARRIED | 1u << MB_TIMESTAMPTZ |
                         1u << MB_INTERVAL | 1u << MB_UUID | 1u << MB_OTHER,
      .result_types = BASIC | CARRIED,
      .alter_column_type = true,
      .alter_column_properties_atomically = true,
      .rename_column = true,
      .drop_column = true,
      .add_constraint = true,
      .identifier_quote = '`',
      .insert_skip = "on duplicate key update :c = :c",
      .session_words = session_words,
  };
  memcpy(conn->capability.storage_types, storage, sizeof storage);
  fill_by_version(conn);
  mq_follow_mode(conn, sql_mode);
}
