/*
 * parameter.c: values as they are sent.
 *
 * A parameter's type is the statement's own: the server finds it, and only
 * blobs say what they are.  While the types are not known, values go as text;
 * later in binary form where that is shorter and means the same.
 */
#include "postgres.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define NUMBER_ROOM 32
/* What a message may hold, with room for all that is not a value. */
#define SIZE_LIMIT ((size_t)1023 * 1024 * 1024)

/* One parameter, on its way. */
struct slot {
  Oid type;
  const char *value;
  size_t size; /* of the binary form */
  bool binary;
};

/* --- Numbers ------------------------------------------------------------ */

static mb_status give_text(
    mb_driver_conn *conn, struct slot *slot, const char *text, mb_error *error)
{
  const size_t size = strlen(text) + 1;
  char *copy = pg_arena_take(&conn->sending, size);
  if (copy == NULL)
    return pg_out_of_memory(conn->host, error);
  memcpy(copy, text, size);
  slot->value = copy;
  slot->size = size - 1;
  return MB_OK;
}

static mb_status give_number(mb_driver_conn *conn, struct slot *slot,
    uint64_t bits, size_t size, mb_error *error)
{
  char *bytes = pg_arena_take(&conn->sending, 8);
  if (bytes == NULL)
    return pg_out_of_memory(conn->host, error);
  pg_put64(bytes, bits);
  slot->value = bytes + 8 - size;
  slot->size = size;
  slot->binary = true;
  return MB_OK;
}

static mb_status give_double(
    mb_driver_conn *conn, struct slot *slot, double value, mb_error *error)
{
  uint64_t bits;
  memcpy(&bits, &value, sizeof bits);
  return give_number(conn, slot, bits, 8, error);
}

/* The bytes of an integer of this type; 0: it is none, or too small. */
static size_t integer_size(const pg_type *type, int64_t value)
{
  if (type == NULL)
    return 0;
  switch (type->kind) {
  case PG_KIND_INT2:
    return value >= INT16_MIN && value <= INT16_MAX ? 2 : 0;
  case PG_KIND_INT4:
    return value >= INT32_MIN && value <= INT32_MAX ? 4 : 0;
  case PG_KIND_OID:
    return value >= 0 && value <= UINT32_MAX ? 4 : 0;
  case PG_KIND_INT8:
    return 8;
  default:
    return 0;
  }
}

/* What does not fit goes as text, so that the server says so in its words. */
static mb_status write_integer(mb_driver_conn *conn, const pg_type *type,
    int64_t value, struct slot *slot, mb_error *error)
{
  char text[NUMBER_ROOM];
  const size_t size = integer_size(type, value);
  if (size > 0)
    return give_number(conn, slot, (uint64_t)value, size, error);
  const int64_t exact = INT64_C(1) << 53;
  if (type != NULL && type->kind == PG_KIND_FLOAT8 && value >= -exact &&
      value <= exact)
    return give_double(conn, slot, (double)value, error);
  (void)snprintf(text, sizeof text, "%lld", (long long)value);
  return give_text(conn, slot, text, error);
}

static mb_status write_double(mb_driver_conn *conn, const pg_type *type,
    double value, struct slot *slot, mb_error *error)
{
  char text[PG_DOUBLE_ROOM];
  if (type != NULL && type->kind == PG_KIND_FLOAT8)
    return give_double(conn, slot, value, error);
  /* A whole number is one for integers too. */
  if (value >= -9223372036854775808.0 && value < 9223372036854775808.0 &&
      integer_size(type, (int64_t)value) > 0 && (double)(int64_t)value == value)
    return write_integer(conn, type, (int64_t)value, slot, error);
  (void)pg_write_double(value, text);
  return give_text(conn, slot, text, error);
}

/* --- Bytes -------------------------------------------------------------- */

/* Types that take the bytes of a text as they are. */
static bool takes_bytes(const pg_type *type)
{
  return type != NULL &&
         (type->kind == PG_KIND_TEXT || type->kind == PG_KIND_BYTEA);
}

static mb_status write_text(mb_driver_conn *conn, const pg_type *type,
    const mb_value *value, struct slot *slot, size_t number, mb_error *error)
{
  const size_t size = value->as.bytes.size;
  const char *data = size > 0 ? value->as.bytes.data : "";
  slot->size = size;
  if (takes_bytes(type)) {
    slot->value = data;
    slot->binary = true;
    return MB_OK;
  }
  /* As text it ends with a zero byte. */
  if (memchr(data, '\0', size) != NULL)
    return conn->host->fail(error, MB_DATA,
        "parameter %zu is a text with a zero byte, which only bytea can hold",
        number);
  char *copy =
      size < SIZE_LIMIT ? pg_arena_take(&conn->sending, size + 1) : NULL;
  if (copy == NULL)
    return pg_out_of_memory(conn->host, error);
  memcpy(copy, data, size);
  copy[size] = '\0';
  slot->value = copy;
  return MB_OK;
}

static mb_status write_blob(const mb_value *value, struct slot *slot)
{
  slot->type = PG_OID_BYTEA;
  slot->value = value->as.bytes.size > 0 ? value->as.bytes.data : "";
  slot->size = value->as.bytes.size;
  slot->binary = true;
  return MB_OK;
}

static mb_status write_array(mb_driver_conn *conn, const pg_type *type,
    const mb_value *value, struct slot *slot, mb_error *error)
{
  const bool blobs = value->as.array->element == MB_BLOB;
  const bool as_bytes = type != NULL && type->element == PG_OID_BYTEA;
  if (blobs)
    slot->type = PG_OID_BYTEA_ARRAY;
  if (pg_write_array(conn, value->as.array, as_bytes, &slot->value, error) !=
      MB_OK)
    return MB_ERROR;
  slot->size = strlen(slot->value);
  return MB_OK;
}

/* --- All of them -------------------------------------------------------- */

static mb_status write_value(mb_driver_conn *conn, const pg_type *type,
    const mb_value *value, struct slot *slot, size_t number, mb_error *error)
{
  char text[NUMBER_ROOM];
  switch (value->tag) {
  case MB_NULL:
    return MB_OK;
  case MB_BOOL:
    if (type != NULL && type->kind == PG_KIND_BOOL)
      return give_number(conn, slot, value->as.integer != 0, 1, error);
    return give_text(
        conn, slot, value->as.integer != 0 ? "true" : "false", error);
  case MB_INT64:
    return write_integer(conn, type, value->as.integer, slot, error);
  case MB_UINT64:
    (void)snprintf(
        text, sizeof text, "%llu", (unsigned long long)value->as.natural);
    return give_text(conn, slot, text, error);
  case MB_DOUBLE:
    return write_double(conn, type, value->as.real, slot, error);
  case MB_BLOB:
    return write_blob(value, slot);
  case MB_ARRAY:
    return write_array(conn, type, value, slot, error);
  case MB_CALLBACK:
  case MB_TAG_COUNT:
    return conn->host->fail(error, MB_UNSUPPORTED,
        "parameter %zu is a function, which PostgreSQL cannot keep", number);
  default:
    return write_text(conn, type, value, slot, number, error);
  }
}

mb_status pg_refuse_parameters(const mb_host *host, mb_error *error)
{
  return host->fail(error, MB_SYNTAX,
      "a statement has at most %d parameters on PostgreSQL", PG_PARAMETERS_MAX);
}

static mb_status make_room(
    mb_driver_conn *conn, size_t n, pg_params *out, mb_error *error)
{
  if (n > PG_PARAMETERS_MAX)
    return pg_refuse_parameters(conn->host, error);
  *out = (pg_params){.n = (int)n};
  if (n == 0)
    return MB_OK;
  const size_t each = sizeof(Oid) + sizeof(char *) + 2 * sizeof(int);
  char *memory = pg_arena_take(&conn->sending, n * each);
  if (memory == NULL)
    return pg_out_of_memory(conn->host, error);
  out->values = (const char **)(void *)memory;
  out->types = (Oid *)(void *)(out->values + n);
  out->lengths = (int *)(void *)(out->types + n);
  out->formats = out->lengths + n;
  return MB_OK;
}

mb_status pg_write_params(mb_driver_conn *conn, const pg_type *const *types,
    const mb_value *values, size_t n, pg_params *out, mb_error *error)
{
  if (make_room(conn, n, out, error) != MB_OK)
    return MB_ERROR;
  for (size_t i = 0; i < n; i++) {
    struct slot slot = {.type = 0};
    const pg_type *type = types != NULL ? types[i] : NULL;
    if (write_value(conn, type, &values[i], &slot, i + 1, error) != MB_OK)
      return MB_ERROR;
    out->size += slot.size;
    if (slot.size > SIZE_LIMIT || out->size > SIZE_LIMIT)
      return conn->host->fail(error, MB_DATA,
          "the parameters are larger together than the 1 GB that PostgreSQL "
          "takes at once");
    out->types[i] = slot.type;
    out->values[i] = slot.value;
    out->lengths[i] = (int)slot.size;
    out->formats[i] = slot.binary;
  }
  return MB_OK;
}

/* --- Types -------------------------------------------------------------- */

mb_status pg_write_types(mb_driver_conn *conn, const mb_value *values, size_t n,
    pg_params *out, mb_error *error)
{
  if (make_room(conn, n, out, error) != MB_OK)
    return MB_ERROR;
  for (size_t i = 0; i < n; i++) {
    const bool array = values[i].tag == MB_ARRAY;
    const bool blob =
        (array ? values[i].as.array->element : values[i].tag) == MB_BLOB;
    out->types[i] = (Oid)(!blob   ? 0
                          : array ? PG_OID_BYTEA_ARRAY
                                  : PG_OID_BYTEA);
  }
  return MB_OK;
}

/* Whether bytes are whole characters of UTF-8: that of PostgreSQL, to four
 * bytes and without surrogates. */
static bool is_utf8(const unsigned char *at, size_t size)
{
  for (const unsigned char *end = at + size; at < end;) {
    const unsigned first = *at++;
    if (first < 0x80)
      continue;
    const int more = first >= 0xC2 && first <= 0xDF   ? 1
                     : first >= 0xE0 && first <= 0xEF ? 2
                     : first >= 0xF0 && first <= 0xF4 ? 3
                                                      : 0;
    if (more == 0 || end - at < more)
      return false;
    if ((first == 0xE0 && *at < 0xA0) || (first == 0xED && *at > 0x9F) ||
        (first == 0xF0 && *at < 0x90) || (first == 0xF4 && *at > 0x8F))
      return false;
    for (int i = 0; i < more; i++)
      if ((*at++ & 0xC0) != 0x80)
        return false;
  }
  return true;
}

static bool is_plain(const mb_value *value)
{
  if (value->tag != MB_TEXT || value->as.bytes.size == 0)
    return true;
  const char *data = value->as.bytes.data;
  const size_t size = value->as.bytes.size;
  return memchr(data, '\\', size) == NULL && memchr(data, '\0', size) == NULL &&
         is_utf8((const unsigned char *)data, size);
}

static bool is_plain_array(const mb_array *array)
{
  size_t n = array->n_dims > 0 ? 1 : 0;
  for (uint32_t i = 0; i < array->n_dims; i++)
    n *= array->dims[i];
  for (size_t i = 0; i < n; i++)
    if (!is_plain(&array->elements[i]))
      return false;
  return true;
}

bool pg_wants_types(const mb_value *values, size_t n)
{
  for (size_t i = 0; i < n; i++)
    if (values[i].tag == MB_ARRAY ? !is_plain_array(values[i].as.array)
                                  : !is_plain(&values[i]))
      return true;
  return false;
}

bool pg_takes(const pg_type *const *types, const mb_value *values, size_t n)
{
  for (size_t i = 0; i < n; i++) {
    const bool array = values[i].tag == MB_ARRAY;
    if (types[i] == NULL ||
        (array ? values[i].as.array->element : values[i].tag) != MB_BLOB)
      continue;
    if (types[i]->oid != (Oid)(array ? PG_OID_BYTEA_ARRAY : PG_OID_BYTEA))
      return false;
  }
  return true;
}
