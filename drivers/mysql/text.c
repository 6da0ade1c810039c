/* text.c: values as the text protocol sends them, made the same as others. */
#include "mysql.h"

#include <stdlib.h>
#include <string.h>

static void give_integer(const mq_slot *slot, const char *text, mb_value *out)
{
  out->tag = MB_INT64;
  if (slot->flags & UNSIGNED_FLAG) {
    const uint64_t natural = strtoull(text, NULL, 10);
    out->as.natural = natural;
    if (natural > INT64_MAX)
      out->tag = MB_UINT64;
  } else {
    out->as.integer = strtoll(text, NULL, 10);
  }
  if (slot->kind == MQ_BOOLEAN && out->as.natural <= 1)
    out->tag = MB_BOOL;
}

static void give_bits(
    const mq_slot *slot, const char *text, size_t size, mb_value *out)
{
  uint64_t natural = 0;
  for (size_t i = 0; i < size && i < 8; i++)
    natural = natural << 8 | (unsigned char)text[i];
  out->tag = slot->is_flag         ? MB_BOOL
             : natural > INT64_MAX ? MB_UINT64
                                   : MB_INT64;
  out->as.natural = natural;
}

/* Without zeroes at the end of a fraction. */
static size_t trim(const char *text, size_t size)
{
  if (memchr(text, '.', size) == NULL)
    return size;
  while (size > 0 && text[size - 1] == '0')
    size--;
  return text[size - 1] == '.' ? size - 1 : size;
}

static void read_text(
    const mq_slot *slot, const char *text, size_t size, mb_value *out)
{
  switch (slot->kind) {
  case MQ_INTEGER:
  case MQ_UNSIGNED:
  case MQ_BOOLEAN:
    give_integer(slot, text, out);
    break;
  case MQ_FLOAT:
    out->tag = MB_DOUBLE;
    out->as.real = (double)strtof(text, NULL);
    break;
  case MQ_DOUBLE:
    out->tag = MB_DOUBLE;
    out->as.real = strtod(text, NULL);
    break;
  case MQ_BIT:
    give_bits(slot, text, size, out);
    break;
  case MQ_DATE:
    mq_give_bytes(out, MB_DATE, text, size);
    break;
  case MQ_TIME:
    mq_give_bytes(out, MB_TIME, text, trim(text, size));
    break;
  case MQ_DATETIME:
    mq_give_bytes(out, MB_TIMESTAMP, text, trim(text, size));
    break;
  case MQ_BYTES:
    mq_give_bytes(out, slot->tag, text, size);
  }
}

mb_status mq_read_text_row(mb_driver_stmt *stmt, mb_value *row, mb_error *error)
{
  const unsigned long *lengths = mysql_fetch_lengths(stmt->rows);
  if (lengths == NULL)
    return mq_out_of_memory(stmt->conn->host, error);
  for (size_t i = 0; i < stmt->n_columns; i++) {
    if (stmt->row[i] == NULL)
      row[i].tag = MB_NULL;
    else
      read_text(&stmt->slots[i], stmt->row[i], lengths[i], &row[i]);
  }
  return MB_ROW;
}
