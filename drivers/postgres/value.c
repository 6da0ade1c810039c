/*
 * value.c: values from the server, in either of its formats.
 *
 * A first run gets text, since the types of its columns are known only from the
 * answer; later runs get binary values where each column has a type that is
 * known.  Both give the same.
 */
#include "postgres.h"

#include <string.h>

static bool give_bytes(mb_value *out, mb_tag tag, const char *data, size_t size)
{
  out->tag = tag;
  out->as.bytes.data = data;
  out->as.bytes.size = size;
  return true;
}

static bool give_integer(mb_value *out, int64_t value)
{
  out->tag = MB_INT64;
  out->as.integer = value;
  return true;
}

static bool give_double(mb_value *out, double value)
{
  out->tag = MB_DOUBLE;
  out->as.real = value;
  return true;
}

/* --- Text --------------------------------------------------------------- */

static bool read_integer(const char *data, size_t size, mb_value *out)
{
  size_t at = size > 0 && data[0] == '-';
  const bool negative = at > 0;
  uint64_t value = 0;
  if (size == at || size > 20)
    return false;
  for (; at < size; at++) {
    const unsigned digit = (unsigned)(data[at] - '0');
    if (digit > 9)
      return false;
    value = value * 10 + digit;
  }
  if (value > (uint64_t)INT64_MAX + negative)
    return false;
  return give_integer(
      out, negative ? (int64_t)((uint64_t)0 - value) : (int64_t)value);
}

/* Sixteen more than the value of a digit; 0: it is none.  A table, because
 * digits come by chance, and no branch would be guessed. */
static const unsigned char hex_digits[256] = {['0'] = 16,
    ['1'] = 17,
    ['2'] = 18,
    ['3'] = 19,
    ['4'] = 20,
    ['5'] = 21,
    ['6'] = 22,
    ['7'] = 23,
    ['8'] = 24,
    ['9'] = 25,
    ['a'] = 26,
    ['b'] = 27,
    ['c'] = 28,
    ['d'] = 29,
    ['e'] = 30,
    ['f'] = 31};

/* \x68690a */
static bool read_hex(
    const char *data, size_t size, pg_arena *texts, mb_value *out)
{
  char *bytes = pg_arena_take(texts, size / 2 + 1);
  if (bytes == NULL || size % 2 != 0)
    return false;
  unsigned all = 16;
  for (size_t i = 0; i < size / 2; i++) {
    const unsigned high = hex_digits[(unsigned char)data[2 * i]];
    const unsigned low = hex_digits[(unsigned char)data[2 * i + 1]];
    all &= high & low;
    bytes[i] = (char)(unsigned char)(high << 4 | (low & 15));
  }
  return all != 0 && give_bytes(out, MB_BLOB, bytes, size / 2);
}

/* hi\012\\, which bytea_output = escape gives. */
static bool read_escaped(
    const char *data, size_t size, pg_arena *texts, mb_value *out)
{
  char *bytes = pg_arena_take(texts, size + 1);
  size_t n = 0;
  if (bytes == NULL)
    return false;
  for (size_t i = 0; i < size; i++) {
    if (data[i] != '\\') {
      bytes[n++] = data[i];
    } else if (size - i >= 2 && data[i + 1] == '\\') {
      bytes[n++] = '\\';
      i++;
    } else if (size - i >= 4) {
      int byte = 0;
      for (int digit = 1; digit <= 3; digit++) {
        const int value = data[i + (size_t)digit] - '0';
        if (value < 0 || value > 7)
          return false;
        byte = byte * 8 + value;
      }
      bytes[n++] = (char)byte;
      i += 3;
    } else {
      return false;
    }
  }
  return give_bytes(out, MB_BLOB, bytes, n);
}

/* The offset has minutes too, also where the server leaves them out. */
static bool read_zoned(
    const char *data, size_t size, mb_tag tag, pg_arena *texts, mb_value *out)
{
  size_t sign = size;
  while (sign > 0 && data[sign - 1] != '+' && data[sign - 1] != '-')
    sign--;
  /* Two digits and then nothing, or " BC"; infinity has no digits. */
  if (sign == 0 || size - sign < 2 || data[sign] < '0' || data[sign] > '9' ||
      (size - sign > 2 && data[sign + 2] != ' ') ||
      memchr(data, ':', size) == NULL)
    return give_bytes(out, tag, data, size);
  char *text = pg_arena_take(texts, size + 3);
  if (text == NULL)
    return false;
  memcpy(text, data, sign + 2);
  memcpy(text + sign + 2, ":00", 3);
  memcpy(text + sign + 5, data + sign + 2, size - sign - 2);
  return give_bytes(out, tag, text, size + 3);
}

/* What is no number cannot be made one. */
static bool give_numeric(mb_value *out, const char *data, size_t size)
{
  const bool number =
      size > 0 && data[size - 1] >= '0' && data[size - 1] <= '9';
  return give_bytes(out, number ? MB_DECIMAL : MB_TEXT, data, size);
}

static bool read_float4(const char *data, size_t size, mb_value *out)
{
  double value;
  if (!pg_read_double(data, size, &value))
    return false;
  return give_double(out, (double)(float)value);
}

static bool read_text(const pg_type *type, const char *data, size_t size,
    pg_arena *texts, mb_value *out)
{
  double real;
  switch (type->kind) {
  case PG_KIND_BOOL:
    out->tag = MB_BOOL;
    out->as.integer = size > 0 && data[0] == 't';
    return true;
  case PG_KIND_INT2:
  case PG_KIND_INT4:
  case PG_KIND_INT8:
  case PG_KIND_OID:
    return read_integer(data, size, out);
  case PG_KIND_FLOAT4:
    return read_float4(data, size, out);
  case PG_KIND_FLOAT8:
    return pg_read_double(data, size, &real) && give_double(out, real);
  case PG_KIND_BYTEA:
    if (size >= 2 && data[0] == '\\' && data[1] == 'x')
      return read_hex(data + 2, size - 2, texts, out);
    return read_escaped(data, size, texts, out);
  case PG_KIND_NUMERIC:
    return give_numeric(out, data, size);
  case PG_KIND_TIMETZ:
  case PG_KIND_TIMESTAMPTZ:
    return read_zoned(data, size, type->tag, texts, out);
  case PG_KIND_ARRAY:
    return pg_read_text_array(type->element, data, size, texts, out);
  default:
    return give_bytes(out, type->tag, data, size);
  }
}

/* --- Binary ------------------------------------------------------------- */

static bool read_uuid(
    const char *data, size_t size, pg_arena *texts, mb_value *out)
{
  static const char digits[] = "0123456789abcdef";
  char *text = size == 16 ? pg_arena_take(texts, 36) : NULL;
  if (text == NULL)
    return false;
  char *at = text;
  for (int i = 0; i < 16; i++) {
    if (i == 4 || i == 6 || i == 8 || i == 10)
      *at++ = '-';
    *at++ = digits[(unsigned char)data[i] >> 4];
    *at++ = digits[(unsigned char)data[i] & 15];
  }
  return give_bytes(out, MB_UUID, text, 36);
}

/* What a time is written into; its length is 0 where there is no such time. */
static bool read_time(const pg_type *type, const char *data, size_t size,
    pg_arena *texts, mb_value *out)
{
  char *text = pg_arena_take(texts, PG_TIME_ROOM);
  if (text == NULL)
    return false;
  size_t length = 0;
  if (type->kind == PG_KIND_DATE && size == 4) {
    length = pg_write_date((int32_t)pg_get32(data), text);
  } else if (type->kind == PG_KIND_TIME && size == 8) {
    length = pg_write_time((int64_t)pg_get64(data), text);
  } else if (type->kind == PG_KIND_TIMETZ && size == 12) {
    length = pg_write_time((int64_t)pg_get64(data), text);
    if (length > 0)
      length += pg_write_zone((int32_t)pg_get32(data + 8), text + length);
  } else if (size == 8 && (type->kind == PG_KIND_TIMESTAMP ||
                              type->kind == PG_KIND_TIMESTAMPTZ)) {
    length = pg_write_timestamp(
        (int64_t)pg_get64(data), type->kind == PG_KIND_TIMESTAMPTZ, text);
  }
  return length > 0 && give_bytes(out, type->tag, text, length);
}

static bool read_float(const char *data, size_t size, mb_value *out)
{
  if (size == 8) {
    const uint64_t bits = pg_get64(data);
    double value;
    memcpy(&value, &bits, sizeof value);
    return give_double(out, value);
  }
  const uint32_t bits = pg_get32(data);
  float value;
  memcpy(&value, &bits, sizeof value);
  return give_double(out, (double)value);
}

static bool read_binary(const pg_type *type, const char *data, size_t size,
    pg_arena *texts, mb_value *out)
{
  const char *text;
  size_t length;
  switch (type->kind) {
  case PG_KIND_TEXT:
  case PG_KIND_BYTEA:
    return give_bytes(out, type->tag, data, size);
  case PG_KIND_BOOL:
    out->tag = MB_BOOL;
    out->as.integer = size == 1 && data[0] != 0;
    return size == 1;
  case PG_KIND_INT2:
    return size == 2 && give_integer(out, (int16_t)pg_get16(data));
  case PG_KIND_INT4:
    return size == 4 && give_integer(out, (int32_t)pg_get32(data));
  case PG_KIND_INT8:
    return size == 8 && give_integer(out, (int64_t)pg_get64(data));
  case PG_KIND_OID:
    return size == 4 && give_integer(out, (int64_t)pg_get32(data));
  case PG_KIND_FLOAT4:
    return size == 4 && read_float(data, size, out);
  case PG_KIND_FLOAT8:
    return size == 8 && read_float(data, size, out);
  case PG_KIND_NUMERIC:
    text = pg_read_numeric(data, size, texts, &length);
    return text != NULL && give_numeric(out, text, length);
  case PG_KIND_UUID:
    return read_uuid(data, size, texts, out);
  case PG_KIND_JSONB: /* a version before the text */
    return size >= 1 && data[0] == 1 &&
           give_bytes(out, type->tag, data + 1, size - 1);
  case PG_KIND_DATE:
  case PG_KIND_TIME:
  case PG_KIND_TIMETZ:
  case PG_KIND_TIMESTAMP:
  case PG_KIND_TIMESTAMPTZ:
    return read_time(type, data, size, texts, out);
  case PG_KIND_ARRAY:
    return pg_read_binary_array(type->element, data, size, texts, out);
  case PG_KIND_OTHER:
    break; /* never asked for in this format */
  }
  return false;
}

bool pg_read_value(const pg_type *type, bool binary, const char *data,
    size_t size, pg_arena *texts, mb_value *out)
{
  if (type == NULL)
    return give_bytes(out, MB_OTHER, data, size);
  return binary ? read_binary(type, data, size, texts, out)
                : read_text(type, data, size, texts, out);
}
