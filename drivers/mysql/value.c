/* value.c: from slots to values. */
#include "mysql.h"

#include <string.h>

static void give_natural(mb_value *out, uint64_t natural)
{
  if (natural > INT64_MAX) {
    out->tag = MB_UINT64;
    out->as.natural = natural;
  } else {
    out->tag = MB_INT64;
    out->as.integer = (int64_t)natural;
  }
}

/* Bytes with the greatest first. */
static void give_bits(const mq_slot *slot, mb_value *out)
{
  uint64_t natural = 0;
  for (size_t i = 0; i < slot->length && i < 8; i++)
    natural = natural << 8 | (unsigned char)slot->bytes[i];
  give_natural(out, natural);
  if (slot->is_flag)
    out->tag = MB_BOOL;
}

/* A value that was too long for its buffer is still in the library's, as long
 * as nothing is bound anew. */
static mb_status fetch_long(mb_driver_stmt *stmt, size_t i, mb_error *error)
{
  const mb_host *host = stmt->conn->host;
  mq_slot *slot = &stmt->slots[i];
  const size_t doubled = 2 * slot->room;
  const size_t room = slot->length > doubled ? slot->length : doubled;
  char *bytes = host->allocate(room);
  if (bytes == NULL)
    return mq_out_of_memory(host, error);
  MYSQL_BIND bind = stmt->binds[i];
  bind.buffer = bytes;
  bind.buffer_length = (unsigned long)room;
  const bool failed =
      mysql_stmt_fetch_column(stmt->handle, &bind, (unsigned)i, 0) != 0;
  if (slot->bytes != slot->small)
    host->release(slot->bytes);
  slot->bytes = bytes;
  slot->room = room;
  return failed ? mq_fail(stmt->conn, stmt, error) : MB_OK;
}

static mb_status read_slot(
    mb_driver_stmt *stmt, size_t i, mb_value *out, mb_error *error)
{
  mq_slot *slot = &stmt->slots[i];
  size_t size;
  switch (slot->kind) {
  case MQ_INTEGER:
    out->tag = MB_INT64;
    out->as.integer = slot->as.integer;
    break;
  case MQ_UNSIGNED:
    give_natural(out, slot->as.natural);
    break;
  case MQ_BOOLEAN:
    out->tag = slot->as.natural <= 1 ? MB_BOOL : MB_INT64;
    out->as.integer = slot->as.integer;
    break;
  case MQ_FLOAT:
    out->tag = MB_DOUBLE;
    out->as.real = (double)slot->as.single;
    break;
  case MQ_DOUBLE:
    out->tag = MB_DOUBLE;
    out->as.real = slot->as.real;
    break;
  case MQ_BIT:
    give_bits(slot, out);
    break;
  case MQ_DATE:
    size = mq_write_date(&slot->as.time, slot->text);
    mq_give_bytes(out, MB_DATE, slot->text, size);
    break;
  case MQ_TIME:
    size = mq_write_time(&slot->as.time, slot->text);
    mq_give_bytes(out, MB_TIME, slot->text, size);
    break;
  case MQ_DATETIME:
    size = mq_write_datetime(&slot->as.time, slot->text);
    mq_give_bytes(out, MB_TIMESTAMP, slot->text, size);
    break;
  case MQ_BYTES:
    if (slot->length > slot->room && fetch_long(stmt, i, error) != MB_OK)
      return MB_ERROR;
    mq_give_bytes(out, slot->tag, slot->bytes, slot->length);
  }
  return MB_OK;
}

mb_status mq_read_row(mb_driver_stmt *stmt, mb_value *row, mb_error *error)
{
  const size_t n = stmt->n_columns;
  mb_status status = MB_OK;
  bool moved = false;
  for (size_t i = 0; i < n && status == MB_OK; i++) {
    const char *before = stmt->slots[i].bytes;
    if (stmt->slots[i].is_null)
      row[i].tag = MB_NULL;
    else
      status = read_slot(stmt, i, &row[i], error);
    moved |= stmt->slots[i].bytes != before;
  }
  /* Also where it failed: what comes is written into the buffers. */
  if (MB_RARELY(moved)) {
    mb_error ignored;
    const bool failed = status != MB_OK;
    if (mq_bind_columns(stmt, failed ? &ignored : error) != MB_OK)
      status = MB_ERROR;
  }
  return status == MB_OK ? MB_ROW : MB_ERROR;
}
