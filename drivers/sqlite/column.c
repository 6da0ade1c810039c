/* column.c: what a statement says of its columns. */
#include "sqlite.h"

#include <string.h>

/* There only when SQLite was built with column metadata; NULL otherwise. */
#pragma weak sqlite3_column_table_name
#pragma weak sqlite3_column_database_name
#pragma weak sqlite3_column_origin_name

/* Declared types whose values are more than their storage class says. */
static const struct {
  const char *type;
  mb_tag tag;
} tags[] = {
    {"integer", MB_INT64},
    {"int", MB_INT64},
    {"bigint", MB_INT64},
    {"real", MB_DOUBLE},
    {"double", MB_DOUBLE},
    {"double precision", MB_DOUBLE},
    {"float", MB_DOUBLE},
    {"text", MB_TEXT},
    {"varchar", MB_TEXT},
    {"blob", MB_BLOB},
    {"bool", MB_BOOL},
    {"boolean", MB_BOOL},
    {"json", MB_JSON},
};

static mb_tag tag_of(const char *type)
{
  for (size_t i = 0; type != NULL && i < sizeof tags / sizeof tags[0]; i++)
    if (strcmp(type, tags[i].type) == 0)
      return tags[i].tag;
  return MB_NULL;
}

/* "VARCHAR(20)" is "varchar": small letters, and nothing from a bracket on. */
static char *write_type(char *at, const char *declared)
{
  size_t size = strcspn(declared, "(");
  while (size > 0 && declared[size - 1] == ' ')
    size--;
  for (size_t i = 0; i < size; i++)
    *at++ = declared[i] >= 'A' && declared[i] <= 'Z'
                ? (char)(declared[i] - 'A' + 'a')
                : declared[i];
  *at++ = '\0';
  return at;
}

static const char *origin(
    const char *(*ask)(sqlite3_stmt *, int), sqlite3_stmt *stmt, int index)
{
  return ask != NULL ? ask(stmt, index) : NULL;
}

/* Of a column that is INTEGER and in the primary key it is not told: only alone
 * in it, it stands for the rowid and is never NULL. */
static signed nullable_of(mb_driver_stmt *stmt, int index, const char *table)
{
  const char *column = origin(sqlite3_column_origin_name, stmt->stmt, index);
  const char *type = NULL;
  int not_null = 0;
  int primary_key = 0;
  if (table == NULL || column == NULL ||
      sqlite3_table_column_metadata(stmt->conn->db,
          origin(sqlite3_column_database_name, stmt->stmt, index), table,
          column, &type, NULL, &not_null, &primary_key, NULL) != SQLITE_OK)
    return -1;
  if (primary_key && !not_null && type != NULL &&
      sqlite3_stricmp(type, "integer") == 0)
    return -1;
  return !not_null;
}

static mb_status make_room(
    mb_driver_stmt *stmt, size_t n, size_t text_size, mb_error *error)
{
  const mb_host *host = stmt->conn->host;
  if (n > stmt->columns_room) {
    mb_column *columns = host->reallocate(stmt->columns, n * sizeof *columns);
    if (columns == NULL)
      return sl_out_of_memory(host, error);
    stmt->columns = columns;
    bool *booleans = host->reallocate(stmt->booleans, n * sizeof *booleans);
    if (booleans == NULL)
      return sl_out_of_memory(host, error);
    stmt->booleans = booleans;
    stmt->columns_room = n;
  }
  if (text_size > 0) {
    char *texts = host->reallocate(stmt->column_texts, text_size);
    if (texts == NULL)
      return sl_out_of_memory(host, error);
    stmt->column_texts = texts;
  }
  return MB_OK;
}

/* What the texts of all columns need. */
static size_t measure(sqlite3_stmt *stmt, int n)
{
  size_t size = 0;
  for (int i = 0; i < n; i++) {
    const char *name = sqlite3_column_name(stmt, i);
    const char *type = sqlite3_column_decltype(stmt, i);
    const char *table = origin(sqlite3_column_table_name, stmt, i);
    if (name == NULL)
      return 0; /* out of memory */
    size += strlen(name) + 1 + (type != NULL ? strlen(type) + 1 : 0) +
            (table != NULL ? strlen(table) + 1 : 0);
  }
  return size;
}

static char *write_text(char *at, const char *text)
{
  const size_t size = strlen(text) + 1;
  memcpy(at, text, size);
  return at + size;
}

mb_status sl_read_columns(mb_driver_stmt *stmt, mb_error *error)
{
  const int n = sqlite3_column_count(stmt->stmt);
  const size_t text_size = measure(stmt->stmt, n);
  if (n > 0 && text_size == 0)
    return sl_out_of_memory(stmt->conn->host, error);
  if (n > 0 && make_room(stmt, (size_t)n, text_size, error) != MB_OK)
    return MB_ERROR;

  char *at = stmt->column_texts;
  stmt->is_plain = true;
  for (int i = 0; i < n; i++) {
    mb_column *column = &stmt->columns[i];
    const char *type = sqlite3_column_decltype(stmt->stmt, i);
    const char *table = origin(sqlite3_column_table_name, stmt->stmt, i);
    *column = (mb_column){.name = at};
    at = write_text(at, sqlite3_column_name(stmt->stmt, i));
    if (type != NULL) {
      column->type = at;
      at = write_type(at, type);
    }
    if (table != NULL) {
      column->table = at;
      at = write_text(at, table);
    }
    column->tag = tag_of(column->type);
    column->nullable = nullable_of(stmt, i, table);
    stmt->booleans[i] = column->tag == MB_BOOL;
    stmt->is_plain &= column->tag != MB_BOOL && column->tag != MB_JSON;
  }
  stmt->n_columns = (size_t)n;
  stmt->columns_serial++;
  stmt->reprepared =
      sqlite3_stmt_status(stmt->stmt, SQLITE_STMTSTATUS_REPREPARE, 0);
  return MB_OK;
}

mb_status sl_make_columns(mb_driver_stmt *stmt, const char *const *names,
    const mb_tag *column_tags, size_t n, mb_error *error)
{
  if (make_room(stmt, n, 0, error) != MB_OK)
    return MB_ERROR;
  for (size_t i = 0; i < n; i++)
    stmt->columns[i] =
        (mb_column){.name = names[i], .tag = column_tags[i], .nullable = 0};
  stmt->n_columns = n;
  stmt->columns_serial++;
  return MB_OK;
}
