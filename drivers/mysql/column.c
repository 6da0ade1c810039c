/*
 * column.c: what the columns of a result are, and where their values go.
 *
 * They are made of what came with the run, and kept until another run comes
 * with others.  The library writes each value into a slot of the statement's; a
 * text that is longer than its slot is asked for once more (value.c).
 */
#include "mysql.h"

#include <string.h>

#define SMALL_MIN 16
#define SMALL_MAX 256
/* Larger buffers do not outlive their run. */
#define KEPT_MAX 65536

#define FLAGS                                                           \
  (NOT_NULL_FLAG | UNSIGNED_FLAG | BINARY_FLAG | ENUM_FLAG | SET_FLAG | \
      BLOB_FLAG)

/* --- Types -------------------------------------------------------------- */

typedef struct type_of_column {
  enum mq_kind kind;
  mb_tag tag;
  const char *word;
} type_of_column;

static type_of_column integer(
    const MYSQL_FIELD *field, const char *word, const char *unsigned_word)
{
  if (field->type == MYSQL_TYPE_TINY && field->length == 1)
    return (type_of_column){MQ_BOOLEAN, MB_BOOL, word};
  if (field->flags & UNSIGNED_FLAG)
    return (type_of_column){MQ_UNSIGNED, MB_INT64, unsigned_word};
  return (type_of_column){MQ_INTEGER, MB_INT64, word};
}

/* All texts and blobs that are not VARCHAR and its like come as one type, with
 * the length that they may have: of texts in bytes of UTF-8. */
static const char *size_word(const MYSQL_FIELD *field, const char *const *words)
{
  const unsigned long unit = field->charsetnr != MQ_CHARSET_BINARY ? 4 : 1;
  const unsigned long length = field->length;
  return length <= 255 * unit        ? words[0]
         : length <= 65535 * unit    ? words[1]
         : length <= 16777215 * unit ? words[2]
                                     : words[3];
}

static type_of_column bytes(
    const MYSQL_FIELD *field, const char *text, const char *blob)
{
  const bool is_text = field->charsetnr != MQ_CHARSET_BINARY;
  /* What was computed has no length that somebody has declared. */
  if (field->org_table == NULL || field->org_table[0] == '\0') {
    text = "text";
    blob = "blob";
  }
  if (field->flags & ENUM_FLAG)
    text = "enum";
  else if (field->flags & SET_FLAG)
    text = "set";
  return (type_of_column){
      MQ_BYTES, is_text ? MB_TEXT : MB_BLOB, is_text ? text : blob};
}

/* MariaDB has words for what it sends as text. */
static type_of_column text_of(const MYSQL_FIELD *field,
    const MYSQL_FIELD *prepared, const char *text, const char *blob)
{
  static const struct {
    const char *word;
    mb_tag tag;
  } words[] = {
      {"json", MB_JSON},
      {"uuid", MB_UUID},
      {"inet6", MB_TEXT},
      {"inet4", MB_TEXT},
  };
  const char *word;
  size_t size;
  mq_type_word(field, &word, &size);
  if (size == 0 && prepared != NULL)
    mq_type_word(prepared, &word, &size);
  for (size_t i = 0; size > 0 && i < sizeof words / sizeof words[0]; i++)
    if (strlen(words[i].word) == size && memcmp(words[i].word, word, size) == 0)
      return (type_of_column){MQ_BYTES, words[i].tag, words[i].word};
  return bytes(field, text, blob);
}

static type_of_column type_of(
    const MYSQL_FIELD *field, const MYSQL_FIELD *prepared)
{
  static const char *const texts[] = {
      "tinytext", "text", "mediumtext", "longtext"};
  static const char *const blobs[] = {
      "tinyblob", "blob", "mediumblob", "longblob"};
  switch (field->type) {
  case MYSQL_TYPE_TINY:
    return integer(field, "tinyint", "tinyint unsigned");
  case MYSQL_TYPE_SHORT:
    return integer(field, "smallint", "smallint unsigned");
  case MYSQL_TYPE_INT24:
    return integer(field, "mediumint", "mediumint unsigned");
  case MYSQL_TYPE_LONG:
    return integer(field, "int", "int unsigned");
  case MYSQL_TYPE_LONGLONG:
    return integer(field, "bigint", "bigint unsigned");
  case MYSQL_TYPE_YEAR:
    return integer(field, "year", "year");
  case MYSQL_TYPE_FLOAT:
    return (type_of_column){MQ_FLOAT, MB_DOUBLE, "float"};
  case MYSQL_TYPE_DOUBLE:
    return (type_of_column){MQ_DOUBLE, MB_DOUBLE, "double"};
  case MYSQL_TYPE_DECIMAL:
  case MYSQL_TYPE_NEWDECIMAL:
    return (type_of_column){MQ_BYTES, MB_DECIMAL, "decimal"};
  case MYSQL_TYPE_BIT:
    return (type_of_column){
        MQ_BIT, field->length == 1 ? MB_BOOL : MB_INT64, "bit"};
  case MYSQL_TYPE_DATE:
  case MYSQL_TYPE_NEWDATE:
    return (type_of_column){MQ_DATE, MB_DATE, "date"};
  case MYSQL_TYPE_TIME:
    return (type_of_column){MQ_TIME, MB_TIME, "time"};
  case MYSQL_TYPE_DATETIME:
    return (type_of_column){MQ_DATETIME, MB_TIMESTAMP, "datetime"};
  case MYSQL_TYPE_TIMESTAMP:
    return (type_of_column){MQ_DATETIME, MB_TIMESTAMP, "timestamp"};
  case MYSQL_TYPE_JSON:
    return (type_of_column){MQ_BYTES, MB_JSON, "json"};
  case MYSQL_TYPE_GEOMETRY:
    return (type_of_column){MQ_BYTES, MB_BLOB, "geometry"};
  case MYSQL_TYPE_STRING:
    return text_of(field, prepared, "char", "binary");
  case MYSQL_TYPE_VAR_STRING:
  case MYSQL_TYPE_VARCHAR:
    return text_of(field, prepared, "varchar", "varbinary");
  case MYSQL_TYPE_NULL:
    return (type_of_column){MQ_BYTES, MB_NULL, NULL};
  default:
    return text_of(
        field, prepared, size_word(field, texts), size_word(field, blobs));
  }
}

/* --- Making ------------------------------------------------------------- */

static bool same_text(const char *one, const char *other)
{
  return strcmp(one != NULL ? one : "", other != NULL ? other : "") == 0;
}

static bool same_columns(
    const mb_driver_stmt *stmt, const MYSQL_FIELD *fields, size_t n)
{
  if (stmt->columns_serial == 0 || stmt->n_columns != n)
    return false;
  for (size_t i = 0; i < n; i++) {
    const mq_slot *slot = &stmt->slots[i];
    const MYSQL_FIELD *field = &fields[i];
    if (slot->type != field->type || slot->width != field->length ||
        slot->flags != (field->flags & FLAGS) ||
        slot->charset != field->charsetnr ||
        !same_text(stmt->columns[i].name, field->name) ||
        !same_text(stmt->columns[i].table, field->org_table))
      return false;
  }
  return true;
}

static void free_large(const mb_host *host, mq_slot *slot)
{
  if (slot->bytes != slot->small)
    host->release(slot->bytes);
  slot->bytes = slot->small;
  slot->room = slot->small_room;
}

void mq_free_columns(mb_driver_stmt *stmt)
{
  const mb_host *host = stmt->conn->host;
  stmt->is_bound = false;
  for (size_t i = 0; i < stmt->n_columns; i++)
    free_large(host, &stmt->slots[i]);
  host->release(stmt->columns);
  host->release(stmt->slots);
  host->release(stmt->binds);
  host->release(stmt->column_texts);
  stmt->columns = NULL;
  stmt->slots = NULL;
  stmt->binds = NULL;
  stmt->column_texts = NULL;
  stmt->n_columns = 0;
}

void mq_shrink_slots(mb_driver_stmt *stmt)
{
  for (size_t i = 0; i < stmt->n_columns; i++)
    if (stmt->slots[i].room > KEPT_MAX) {
      free_large(stmt->conn->host, &stmt->slots[i]);
      stmt->is_bound = false;
    }
}

static size_t small_room(const MYSQL_FIELD *field)
{
  const unsigned long length = field->length;
  return length < SMALL_MIN   ? SMALL_MIN
         : length > SMALL_MAX ? SMALL_MAX
                              : (size_t)length;
}

static size_t size_of_texts(const MYSQL_FIELD *fields, size_t n)
{
  size_t size = 1;
  for (size_t i = 0; i < n; i++)
    size += strlen(fields[i].name) + small_room(&fields[i]) + 2 +
            (fields[i].org_table != NULL ? strlen(fields[i].org_table) : 0);
  return size;
}

static const char *keep(char **at, const char *text)
{
  const size_t size = strlen(text) + 1;
  char *copy = memcpy(*at, text, size);
  *at += size;
  return copy;
}

static void set_bind(MYSQL_BIND *bind, mq_slot *slot)
{
  *bind = (MYSQL_BIND){.buffer = &slot->as,
      .buffer_length = sizeof slot->as,
      .length = &slot->length,
      .is_null = &slot->is_null,
      .error = &slot->error};
  switch (slot->kind) {
  case MQ_INTEGER:
  case MQ_UNSIGNED:
  case MQ_BOOLEAN:
    bind->buffer_type = MYSQL_TYPE_LONGLONG;
    bind->is_unsigned = (slot->flags & UNSIGNED_FLAG) != 0;
    break;
  case MQ_FLOAT:
    bind->buffer_type = MYSQL_TYPE_FLOAT;
    break;
  case MQ_DOUBLE:
    bind->buffer_type = MYSQL_TYPE_DOUBLE;
    break;
  case MQ_DATE:
    bind->buffer_type = MYSQL_TYPE_DATE;
    break;
  case MQ_TIME:
    bind->buffer_type = MYSQL_TYPE_TIME;
    break;
  case MQ_DATETIME:
    bind->buffer_type = MYSQL_TYPE_DATETIME;
    break;
  case MQ_BIT:
  case MQ_BYTES:
    bind->buffer_type = slot->kind == MQ_BIT   ? MYSQL_TYPE_BIT
                        : slot->tag == MB_BLOB ? MYSQL_TYPE_BLOB
                                               : MYSQL_TYPE_STRING;
    bind->buffer = slot->bytes;
    bind->buffer_length = (unsigned long)slot->room;
  }
}

static void make_column(mb_driver_stmt *stmt, size_t i,
    const MYSQL_FIELD *field, const MYSQL_FIELD *prepared, char **at)
{
  const type_of_column type = type_of(field, prepared);
  const bool has_table =
      field->org_table != NULL && field->org_table[0] != '\0';
  const bool not_null = (field->flags & NOT_NULL_FLAG) != 0;
  mq_slot *slot = &stmt->slots[i];
  stmt->columns[i] = (mb_column){.name = keep(at, field->name),
      .type = type.word,
      .table = has_table ? keep(at, field->org_table) : NULL,
      .tag = type.tag,
      .nullable = not_null ? 0 : 1};
  *slot = (mq_slot){.kind = type.kind,
      .tag = type.tag,
      .is_flag = type.kind == MQ_BIT && field->length == 1,
      .type = field->type,
      .flags = field->flags & FLAGS,
      .charset = field->charsetnr,
      .width = field->length,
      .small = *at,
      .small_room = small_room(field)};
  slot->bytes = slot->small;
  slot->room = slot->small_room;
  *at += slot->small_room;
}

mb_status mq_read_columns(
    mb_driver_stmt *stmt, const MYSQL_FIELD *fields, size_t n, mb_error *error)
{
  const mb_host *host = stmt->conn->host;
  if (same_columns(stmt, fields, n))
    return MB_OK;
  mq_free_columns(stmt);
  stmt->columns_serial++;
  stmt->columns = host->allocate(n * sizeof *stmt->columns);
  stmt->slots = host->allocate(n * sizeof *stmt->slots);
  stmt->binds = host->allocate(n * sizeof *stmt->binds);
  stmt->column_texts = host->allocate(size_of_texts(fields, n));
  if (stmt->columns == NULL || stmt->slots == NULL || stmt->binds == NULL ||
      stmt->column_texts == NULL) {
    mq_free_columns(stmt);
    return mq_out_of_memory(host, error);
  }
  char *at = stmt->column_texts;
  const MYSQL_FIELD *prepared = mq_prepared_fields(stmt->handle, n);
  for (size_t i = 0; i < n; i++)
    make_column(
        stmt, i, &fields[i], prepared != NULL ? &prepared[i] : NULL, &at);
  stmt->n_columns = n;
  return MB_OK;
}

mb_status mq_bind_columns(mb_driver_stmt *stmt, mb_error *error)
{
  for (size_t i = 0; i < stmt->n_columns; i++)
    set_bind(&stmt->binds[i], &stmt->slots[i]);
  stmt->is_bound = mysql_stmt_bind_result(stmt->handle, stmt->binds) == 0;
  return stmt->is_bound ? MB_OK : mq_fail(stmt->conn, stmt, error);
}
