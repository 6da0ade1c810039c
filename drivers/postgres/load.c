/*
 * load.c: a COPY … FROM STDIN as a statement whose parameters are the columns,
 * for execute_many.
 *
 * What the columns' types are is asked for by an INSERT; so values mean the
 * same as in one, and a wrong name is found when the statement is prepared.
 * Where COPY would not do what the INSERT does, that is what is run.
 */
#include "postgres.h"

#include <stdio.h>
#include <string.h>

#define BLOCK_SIZE 65536
#define NUMBER_ROOM 32

/* --- The statement ------------------------------------------------------ */

static bool is_blank(char byte)
{
  return byte == ' ' || byte == '\n' || byte == '\t' || byte == '\r';
}

/* Whether a text ends with a word, and where what stands before it ends. */
static bool ends_with(const char *text, size_t *size, const char *word)
{
  const size_t length = strlen(word);
  while (*size > 0 && is_blank(text[*size - 1]))
    (*size)--;
  if (*size <= length || !is_blank(text[*size - length - 1]))
    return false;
  for (size_t i = 0; i < length; i++)
    if ((text[*size - length + i] | 0x20) != word[i])
      return false;
  *size -= length;
  return true;
}

/* How many names a list in brackets at the end of a text has, and where the
 * bracket stands; 0: none. */
static size_t count_columns(const char *text, size_t size, size_t *bracket)
{
  size_t n = 1;
  bool quoted = false;
  while (size > 0 && is_blank(text[size - 1]))
    size--;
  if (size == 0 || text[--size] != ')')
    return 0;
  while (size > 0 && (quoted || text[size - 1] != '(')) {
    size--;
    quoted ^= text[size] == '"';
    n += !quoted && text[size] == ',';
  }
  *bracket = size - 1;
  return size > 0 ? n : 0;
}

/* "copy t (a, b) from stdin" as "insert into t (a, b) values ($1, $2)". */
mb_status pg_prepare_load(
    mb_driver_stmt *stmt, const char *sql, size_t size, mb_error *error)
{
  static const char refusal[] =
      "COPY from or to the program itself is not run as a statement: see "
      "copy_from and copy_to of moonbase.postgres";
  const mb_host *host = stmt->conn->host;
  size_t end = size;
  const size_t n = ends_with(sql, &end, "stdin") && ends_with(sql, &end, "from")
                       ? count_columns(sql, end, &stmt->load_bracket)
                       : 0;
  /* A table is named behind "copy ". */
  if (n == 0 || stmt->load_bracket <= 5 || (sql[0] | 0x20) != 'c' ||
      !is_blank(sql[4]))
    return host->fail(error, MB_USAGE, "%s", refusal);
  stmt->load = host->allocate(size + 1);
  stmt->sql = host->allocate(end + n * 12 + 32);
  if (stmt->load == NULL || stmt->sql == NULL)
    return pg_out_of_memory(host, error);
  memcpy(stmt->load, sql, size);
  stmt->load[size] = '\0';
  char *at = stmt->sql;
  at += sprintf(at, "insert into");
  memcpy(at, sql + 4, end - 4); /* behind "copy" */
  at += end - 4;
  for (size_t i = 1; i <= n; i++)
    at += sprintf(at, i == 1 ? " values ($%zu" : ", $%zu", i);
  (void)sprintf(at, ")");
  stmt->size = strlen(stmt->sql);
  return MB_OK;
}

/* --- Whether COPY will do ----------------------------------------------- */

/* Of a view COPY takes no rows, of a table with rules or row-level security
 * others than INSERT, and it overrides what is always generated.  $1: the
 * table, $2: its columns, as they stand in the text. */
static const char question[] =
    "select c.relkind in ('r', 'p') and not c.relhasrules and "
    "not pg_catalog.row_security_active(c.oid) and not exists (select from "
    "pg_catalog.pg_attribute a where a.attrelid = c.oid and a.attidentity = "
    "'a' "
    "and pg_catalog.strpos(', ' || $2 || ', ', ', \"' || "
    "pg_catalog.replace(a.attname, '\"', '\"\"') || '\", ') > 0) "
    "from pg_catalog.pg_class c where c.oid = pg_catalog.to_regclass($1)";

/* A copy of a piece of the COPY, terminated. */
static const char *piece(mb_driver_stmt *stmt, size_t from, size_t to)
{
  char *copy = pg_arena_take(&stmt->conn->sending, to - from + 1);
  if (copy == NULL)
    return NULL;
  memcpy(copy, stmt->load + from, to - from);
  copy[to - from] = '\0';
  return copy;
}

mb_status pg_write_load_question(
    mb_driver_stmt *stmt, pg_load_question *out, mb_error *error)
{
  const size_t bracket = stmt->load_bracket;
  size_t end = strlen(stmt->load);
  while (stmt->load[end - 1] != ')')
    end--;
  out->table = piece(stmt, 5, bracket);
  out->columns = piece(stmt, bracket + 1, end - 1);
  return out->table != NULL && out->columns != NULL
             ? MB_OK
             : pg_out_of_memory(stmt->conn->host, error);
}

mb_status pg_send_load_question(
    mb_driver_stmt *stmt, const pg_load_question *asked, mb_error *error)
{
  mb_driver_conn *conn = stmt->conn;
  const char *const values[] = {asked->table, asked->columns};
  conn->request.whole = true;
  return pg_add_part(conn,
      PQsendQueryParams(conn->pq, question, 2, NULL, values, NULL, NULL, 0),
      PG_PART_RUN, error);
}

void pg_take_load_answer(mb_driver_stmt *stmt)
{
  if (stmt->n_rows == 0 || PQgetvalue(stmt->rows, 0, 0)[0] != 't')
    stmt->source = PG_SOURCE_SQL;
  pg_clear_rows(stmt);
  stmt->n_columns = 0;
  stmt->columns_serial++;
}

/* --- Rows as text ------------------------------------------------------- */

static mb_status make_room(mb_driver_conn *conn, size_t size, mb_error *error)
{
  pg_load *load = &conn->load;
  if (load->room - load->used >= size)
    return MB_OK;
  if (size > SIZE_MAX / 4 || load->used > SIZE_MAX / 4)
    return pg_out_of_memory(conn->host, error);
  const size_t room = 2 * (load->used + size) + BLOCK_SIZE;
  char *bytes = conn->host->reallocate(load->bytes, room);
  if (bytes == NULL)
    return pg_out_of_memory(conn->host, error);
  load->bytes = bytes;
  load->room = room;
  return MB_OK;
}

/* What has a meaning of its own between columns and lines. */
static mb_status add_escaped(
    mb_driver_conn *conn, const char *data, size_t size, mb_error *error)
{
  if (make_room(conn, 2 * size, error) != MB_OK)
    return MB_ERROR;
  char *at = conn->load.bytes + conn->load.used;
  for (size_t i = 0; i < size; i++) {
    const char byte = data[i];
    const char letter = byte == '\n'   ? 'n'
                        : byte == '\r' ? 'r'
                        : byte == '\t' ? 't'
                        : byte == '\\' ? '\\'
                                       : '\0';
    if (letter != '\0')
      *at++ = '\\';
    *at++ = letter != '\0' ? letter : byte;
  }
  conn->load.used = (size_t)(at - conn->load.bytes);
  return MB_OK;
}

static mb_status add_plain(
    mb_driver_conn *conn, const char *data, size_t size, mb_error *error)
{
  if (make_room(conn, size, error) != MB_OK)
    return MB_ERROR;
  memcpy(conn->load.bytes + conn->load.used, data, size);
  conn->load.used += size;
  return MB_OK;
}

/* \\x68690a, whose first backslash is one of COPY's. */
static mb_status add_hex(
    mb_driver_conn *conn, const mb_value *value, mb_error *error)
{
  static const char digits[] = "0123456789abcdef";
  const size_t size = value->as.bytes.size;
  if (size > SIZE_MAX / 4 || make_room(conn, 2 * size + 3, error) != MB_OK)
    return MB_ERROR;
  char *at = conn->load.bytes + conn->load.used;
  memcpy(at, "\\\\x", 3);
  at += 3;
  for (size_t i = 0; i < size; i++) {
    const unsigned char byte = (unsigned char)value->as.bytes.data[i];
    *at++ = digits[byte >> 4];
    *at++ = digits[byte & 15];
  }
  conn->load.used = (size_t)(at - conn->load.bytes);
  return MB_OK;
}

static mb_status add_bytes(mb_driver_conn *conn, const pg_type *type,
    const mb_value *value, mb_error *error)
{
  const size_t size = value->as.bytes.size;
  const bool bytea = type != NULL && type->kind == PG_KIND_BYTEA;
  if (bytea && (value->tag == MB_TEXT || value->tag == MB_BLOB))
    return add_hex(conn, value, error);
  if (value->tag == MB_BLOB && type != NULL)
    return conn->host->fail(
        error, MB_DATA, "bytes are given for a column of type %s", type->name);
  if (size > 0 && memchr(value->as.bytes.data, '\0', size) != NULL)
    return conn->host->fail(
        error, MB_DATA, "a text has a zero byte, which only bytea can hold");
  return value->tag == MB_BLOB
             ? add_hex(conn, value, error)
             : add_escaped(conn, value->as.bytes.data, size, error);
}

static mb_status add_array(mb_driver_conn *conn, const pg_type *type,
    const mb_value *value, mb_error *error)
{
  const char *text;
  pg_arena_clear(&conn->sending);
  if (pg_write_array(conn, value->as.array,
          type != NULL && type->element == PG_OID_BYTEA, &text, error) != MB_OK)
    return MB_ERROR;
  return add_escaped(conn, text, strlen(text), error);
}

/* The decimal digits of an integer, without the C library's detours. */
static mb_status add_integer(
    mb_driver_conn *conn, int64_t value, mb_error *error)
{
  char room[NUMBER_ROOM];
  char *at = room + sizeof room;
  uint64_t rest = value < 0 ? (uint64_t)0 - (uint64_t)value : (uint64_t)value;
  do
    *--at = (char)('0' + rest % 10);
  while ((rest /= 10) != 0);
  if (value < 0)
    *--at = '-';
  return add_plain(conn, at, (size_t)(room + sizeof room - at), error);
}

static mb_status add_value(mb_driver_conn *conn, const pg_type *type,
    const mb_value *value, mb_error *error)
{
  char text[NUMBER_ROOM];
  switch (value->tag) {
  case MB_NULL:
    return add_plain(conn, "\\N", 2, error);
  case MB_BOOL:
    return value->as.integer != 0 ? add_plain(conn, "true", 4, error)
                                  : add_plain(conn, "false", 5, error);
  case MB_INT64:
    return add_integer(conn, value->as.integer, error);
  case MB_UINT64:
    (void)snprintf(
        text, sizeof text, "%llu", (unsigned long long)value->as.natural);
    return add_plain(conn, text, strlen(text), error);
  case MB_DOUBLE:
    /* Only a double reads all digits as what they are. */
    return add_plain(conn, text,
        type != NULL && type->kind == PG_KIND_FLOAT8
            ? pg_write_digits(value->as.real, text)
            : pg_write_double(value->as.real, text),
        error);
  case MB_ARRAY:
    return add_array(conn, type, value, error);
  case MB_CALLBACK:
  case MB_TAG_COUNT:
    return conn->host->fail(
        error, MB_UNSUPPORTED, "a function is no value of PostgreSQL");
  default:
    return add_bytes(conn, type, value, error);
  }
}

static mb_status add_row(
    mb_driver_conn *conn, const mb_value *values, mb_error *error)
{
  const mb_driver_stmt *stmt = conn->many.stmt;
  for (size_t i = 0; i < conn->many.n; i++) {
    if (i > 0 && add_plain(conn, "\t", 1, error) != MB_OK)
      return MB_ERROR;
    if (add_value(conn, stmt->types[i], &values[i], error) != MB_OK)
      return MB_ERROR;
  }
  return add_plain(conn, "\n", 1, error);
}

/* --- Running ------------------------------------------------------------ */

static mb_status ended(mb_driver_conn *conn, mb_op *op, mb_error *error)
{
  (void)op;
  conn->copy.then = NULL;
  if (conn->many.refused) {
    *error = conn->many.refusal;
    error->row = (int64_t)conn->many.sent + 1;
    error->flags |= MB_SENT;
    return MB_ERROR;
  }
  return MB_DONE;
}

/* Fills blocks and hands them to libpq, as fast as it can send them. */
static mb_status fill(mb_driver_conn *conn, mb_op *op, mb_error *error)
{
  pg_load *load = &conn->load;
  for (;;) {
    const int unsent = PQflush(conn->pq);
    if (unsent < 0)
      return pg_fail_lost(conn, error);
    if (unsent > 0) {
      conn->step = fill;
      return pg_wait(conn, op, MB_READABLE_FD | MB_WRITABLE_FD, 0);
    }
    if (conn->many.refused || conn->many.sent == conn->many.rows)
      break;
    load->used = 0;
    while (load->used < BLOCK_SIZE && conn->many.sent < conn->many.rows &&
           !conn->many.refused) {
      const size_t before = load->used;
      conn->many.refused =
          add_row(conn, conn->many.params + conn->many.sent * conn->many.n,
              &conn->many.refusal) != MB_OK;
      if (conn->many.refused)
        load->used = before;
      else
        conn->many.sent++;
    }
    if (load->used > INT32_MAX / 2 ||
        (load->used > 0 &&
            PQputCopyData(conn->pq, load->bytes, (int)load->used) != 1)) {
      conn->dead = true;
      return pg_fail_lost(conn, error);
    }
  }
  conn->step = NULL;
  conn->copy.then = ended;
  return pg_copy_in_end(conn,
      conn->many.refused ? "a row could not be written" : NULL,
      conn->many.result, op, error);
}

mb_status pg_load_rows(mb_driver_conn *conn, mb_op *op, mb_error *error)
{
  const mb_driver_stmt *stmt = conn->many.stmt;
  if (stmt->n_types != conn->many.n)
    return conn->host->fail(error, MB_USAGE,
        "%zu columns are loaded, but %zu values were given", stmt->n_types,
        conn->many.n);
  conn->copy.then = fill;
  return pg_copy_in_begin(conn, stmt->load, strlen(stmt->load), op, error);
}
