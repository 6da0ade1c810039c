/*
 * blob.c: reading a part of a value without reading all of it.
 *
 *   blob_read(schema, table, column, rowid, offset, size) -> (bytes, size)
 *
 * Gives at most size bytes from offset (0 is the first) on, and the size of the
 * whole value.
 */
#include "sqlite.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* A terminated copy of a text among the values, in room. */
static bool take_name(const mb_value *value, char *room, size_t size)
{
  if (value->tag != MB_TEXT || value->as.bytes.size == 0 ||
      value->as.bytes.size >= size ||
      memchr(value->as.bytes.data, '\0', value->as.bytes.size) != NULL)
    return false;
  memcpy(room, value->as.bytes.data, value->as.bytes.size);
  room[value->as.bytes.size] = '\0';
  return true;
}

/* A rowid, which a Lua without such integers has read as digits. */
static bool take_rowid(const mb_value *value, int64_t *rowid)
{
  char text[24];
  char *end;
  *rowid = value->as.integer;
  if (value->tag == MB_INT64)
    return true;
  if (!take_name(value, text, sizeof text))
    return false;
  errno = 0;
  *rowid = strtoll(text, &end, 10);
  return errno == 0 && *end == '\0';
}

static mb_status read_part(mb_driver_stmt *stmt, sqlite3_blob *blob,
    int64_t offset, int64_t size, mb_error *error)
{
  mb_driver_conn *conn = stmt->conn;
  stmt->blob_size = sqlite3_blob_bytes(blob);
  if (offset > stmt->blob_size)
    offset = stmt->blob_size;
  if (size > stmt->blob_size - offset)
    size = stmt->blob_size - offset;
  stmt->n_bytes = size;
  stmt->bytes = conn->host->allocate((size_t)size + 1);
  if (stmt->bytes == NULL)
    return sl_out_of_memory(conn->host, error);
  const int code = sqlite3_blob_read(blob, stmt->bytes, (int)size, (int)offset);
  return code == SQLITE_OK ? MB_OK : sl_fail(conn, code, SL_RUNNING, error);
}

mb_status sl_open_blob(mb_driver_conn *conn, const mb_value *values, size_t n,
    mb_driver_stmt *stmt, mb_error *error)
{
  static const char *const names[] = {"bytes", "size"};
  static const mb_tag tags[] = {MB_BLOB, MB_INT64};
  char texts[3][256];
  int64_t rowid;
  if (n != 6 || !take_rowid(&values[3], &rowid) || values[4].tag != MB_INT64 ||
      values[5].tag != MB_INT64 || values[4].as.integer < 0 ||
      values[5].as.integer < 0 || values[5].as.integer > INT_MAX)
    return conn->host->fail(error, MB_USAGE,
        "blob_read wants (schema, table, column, rowid, offset, size)");
  for (size_t i = 0; i < 3; i++)
    if (!take_name(&values[i], texts[i], sizeof texts[i]))
      return conn->host->fail(
          error, MB_USAGE, "blob_read: name %zu is not usable", i + 1);
  if (sl_make_columns(stmt, names, tags, 2, error) != MB_OK)
    return MB_ERROR;

  sqlite3_blob *blob = NULL;
  const int code = sqlite3_blob_open(
      conn->db, texts[0], texts[1], texts[2], rowid, 0, &blob);
  if (code != SQLITE_OK) {
    /* A table or column that is not there is as in a text. */
    const char *message = sqlite3_errmsg(conn->db);
    const bool is_name = strncmp(message, "no such table", 13) == 0 ||
                         strncmp(message, "no such column", 14) == 0;
    (void)sl_fail(conn, code, is_name ? SL_PREPARING : SL_RUNNING, error);
    (void)sqlite3_blob_close(blob);
    return MB_ERROR;
  }
  const mb_status status =
      read_part(stmt, blob, values[4].as.integer, values[5].as.integer, error);
  (void)sqlite3_blob_close(blob);
  return status;
}

mb_status sl_fetch_blob(mb_driver_stmt *stmt, mb_value *row)
{
  if (stmt->blob_given)
    return MB_DONE;
  stmt->blob_given = true;
  row[0] = (mb_value){.tag = MB_BLOB};
  row[0].as.bytes.data = stmt->bytes;
  row[0].as.bytes.size = (size_t)stmt->n_bytes;
  row[1] = (mb_value){.tag = MB_INT64, .as.integer = stmt->blob_size};
  return MB_ROW;
}
