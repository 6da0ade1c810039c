/*
 * array.c: arrays, in both formats and both directions.
 *
 * The server's text is {1,2,NULL,"a \"b\""}, with further braces for further
 * dimensions, and with [0:2]= before it where the numbers do not begin at 1.
 */
#include "postgres.h"

#include <stdio.h>
#include <string.h>

#define DIMS_MAX (sizeof((mb_array *)NULL)->dims / sizeof(uint32_t))

/* --- Reading text ------------------------------------------------------- */

struct reader {
  const char *at, *end;
  const pg_type *element;
  pg_arena *texts;
  mb_array *array;
  mb_value *next; /* NULL: elements are counted */
  size_t n;
};

static bool skip_bounds(struct reader *reader)
{
  if (reader->at == reader->end || *reader->at != '[')
    return true;
  const char *equals =
      memchr(reader->at, '=', (size_t)(reader->end - reader->at));
  if (equals == NULL)
    return false;
  reader->at = equals + 1;
  return true;
}

/* "a \"b\"", without its quotes and backslashes. */
static bool read_quoted(struct reader *reader, const char **data, size_t *size)
{
  const char *from = ++reader->at;
  size_t escapes = 0;
  while (reader->at < reader->end && *reader->at != '"') {
    if (*reader->at == '\\') {
      escapes++;
      reader->at++;
      if (reader->at == reader->end)
        return false;
    }
    reader->at++;
  }
  if (reader->at == reader->end)
    return false;
  const size_t raw = (size_t)(reader->at - from);
  reader->at++;
  *data = from;
  *size = raw - escapes;
  if (escapes == 0 || reader->next == NULL)
    return true;
  char *text = pg_arena_take(reader->texts, raw);
  if (text == NULL)
    return false;
  *data = text;
  for (size_t i = 0; i < raw; i++) {
    if (from[i] == '\\')
      i++;
    *text++ = from[i];
  }
  return true;
}

static bool read_element(struct reader *reader)
{
  const char *data = reader->at;
  size_t size = 0;
  const bool quoted = *reader->at == '"';
  if (quoted) {
    if (!read_quoted(reader, &data, &size))
      return false;
  } else {
    while (reader->at < reader->end && *reader->at != ',' && *reader->at != '}')
      reader->at++;
    size = (size_t)(reader->at - data);
    if (size == 0)
      return false;
  }
  reader->n++;
  if (reader->next == NULL)
    return true;
  mb_value *out = reader->next++;
  if (!quoted && size == 4 && memcmp(data, "NULL", 4) == 0) {
    out->tag = MB_NULL;
    return true;
  }
  return pg_read_value(reader->element, false, data, size, reader->texts, out);
}

/* One pair of braces at depth dim, and all inside.  The first pair of each
 * depth says how many there are. */
static bool read_braces(struct reader *reader, uint32_t dim, bool first)
{
  mb_array *array = reader->array;
  uint32_t n = 0;
  if (!first && dim >= array->n_dims)
    return false;
  if (reader->at == reader->end || *reader->at++ != '{')
    return false;
  if (reader->at < reader->end && *reader->at == '}') {
    reader->at++;
    return dim == 0 && first; /* an empty array */
  }
  if (first && reader->next == NULL) {
    if (dim == DIMS_MAX)
      return false;
    array->n_dims = dim + 1;
  }
  for (;;) {
    if (reader->at == reader->end)
      return false;
    const bool nested = *reader->at == '{';
    /* As deep everywhere as at the beginning. */
    if (reader->next != NULL && nested != (dim + 1 < array->n_dims))
      return false;
    if (nested ? !read_braces(reader, dim + 1, first && n == 0)
               : !read_element(reader))
      return false;
    n++;
    if (reader->at == reader->end)
      return false;
    const char byte = *reader->at++;
    if (byte == '}')
      break;
    if (byte != ',')
      return false;
  }
  if (first)
    array->dims[dim] = n;
  return n == array->dims[dim];
}

/* Whether the dimensions make as many elements as there are. */
static bool fits(const mb_array *array, size_t n)
{
  size_t product = array->n_dims > 0 ? 1 : 0;
  for (uint32_t i = 0; i < array->n_dims; i++) {
    if (array->dims[i] == 0 || product > n / array->dims[i])
      return false;
    product *= array->dims[i];
  }
  return product == n;
}

bool pg_read_text_array(
    Oid element, const char *data, size_t size, pg_arena *texts, mb_value *out)
{
  mb_array *array = pg_arena_take(texts, sizeof *array);
  if (array == NULL)
    return false;
  struct reader reader = {.at = data,
      .end = data + size,
      .element = pg_find_type(element),
      .texts = texts,
      .array = array};
  *array = (mb_array){
      .element = reader.element != NULL ? reader.element->tag : MB_OTHER};
  if (!skip_bounds(&reader))
    return false;
  const char *from = reader.at;
  if (!read_braces(&reader, 0, true) || reader.at != reader.end ||
      !fits(array, reader.n))
    return false;
  if (reader.n > SIZE_MAX / sizeof(mb_value))
    return false;
  mb_value *elements = pg_arena_take(texts, reader.n * sizeof(mb_value) + 1);
  if (elements == NULL)
    return false;
  array->elements = elements;
  out->tag = MB_ARRAY;
  out->as.array = array;
  if (reader.n == 0)
    return true;
  reader.at = from;
  reader.next = elements;
  return read_braces(&reader, 0, true);
}

/* --- Reading binary ----------------------------------------------------- */

static bool read_elements(const pg_type *element, const char *data,
    const char *end, size_t n, pg_arena *texts, mb_value *out)
{
  for (size_t i = 0; i < n; i++) {
    if (end - data < 4)
      return false;
    const int32_t size = (int32_t)pg_get32(data);
    data += 4;
    out[i].tag = MB_NULL;
    if (size < 0)
      continue;
    if (end - data < size ||
        !pg_read_value(element, true, data, (size_t)size, texts, &out[i]))
      return false;
    data += size;
  }
  return data == end;
}

bool pg_read_binary_array(
    Oid oid, const char *data, size_t size, pg_arena *texts, mb_value *out)
{
  if (size < 12)
    return false;
  const uint32_t n_dims = pg_get32(data);
  const pg_type *element = pg_find_type(oid);
  /* Another element than the type's might be an array, and so on. */
  if (n_dims > DIMS_MAX || size < 12 + 8 * (size_t)n_dims || element == NULL ||
      pg_get32(data + 8) != oid)
    return false;
  mb_array *array = pg_arena_take(texts, sizeof *array);
  if (array == NULL)
    return false;
  *array = (mb_array){.element = element->tag, .n_dims = n_dims};
  /* Each element has 4 bytes at least. */
  const size_t most = size / 4;
  size_t n = n_dims > 0 ? 1 : 0;
  for (uint32_t i = 0; i < n_dims; i++) {
    array->dims[i] = pg_get32(data + 12 + 8 * (size_t)i);
    if (array->dims[i] == 0 || n > most / array->dims[i])
      return false;
    n *= array->dims[i];
  }
  mb_value *elements = pg_arena_take(texts, n * sizeof(mb_value) + 1);
  if (elements == NULL)
    return false;
  array->elements = elements;
  out->tag = MB_ARRAY;
  out->as.array = array;
  return read_elements(
      element, data + 12 + 8 * (size_t)n_dims, data + size, n, texts, elements);
}

/* --- Writing ------------------------------------------------------------ */

#define NUMBER_ROOM 32

static size_t count_elements(const mb_array *array)
{
  size_t n = array->n_dims > 0 ? 1 : 0;
  for (uint32_t i = 0; i < array->n_dims; i++)
    n *= array->dims[i];
  return n;
}

static bool has_bytes(mb_tag tag)
{
  return tag >= MB_TEXT && tag <= MB_OTHER;
}

/* More than the text can be long: bytes are doubled at most, in quotes. */
static size_t measure(const mb_array *array, size_t n)
{
  size_t size = 16;
  for (size_t i = 0; i < n; i++) {
    const mb_value *value = &array->elements[i];
    /* Each may be the first inside all braces and the last. */
    size += NUMBER_ROOM + 2 * DIMS_MAX;
    if (has_bytes(value->tag))
      size += 2 * value->as.bytes.size + 8;
  }
  return size;
}

static char *write_hex(char *at, const char *data, size_t size)
{
  static const char digits[] = "0123456789abcdef";
  memcpy(at, "\"\\\\x", 4);
  at += 4;
  for (size_t i = 0; i < size; i++) {
    *at++ = digits[(unsigned char)data[i] >> 4];
    *at++ = digits[(unsigned char)data[i] & 15];
  }
  *at++ = '"';
  return at;
}

static char *write_quoted(char *at, const char *data, size_t size)
{
  *at++ = '"';
  for (size_t i = 0; i < size; i++) {
    if (data[i] == '"' || data[i] == '\\')
      *at++ = '\\';
    *at++ = data[i];
  }
  *at++ = '"';
  return at;
}

/* NULL: a value that no text can hold. */
static char *write_element(char *at, const mb_value *value, bool as_bytes)
{
  switch (value->tag) {
  case MB_NULL:
    memcpy(at, "NULL", 4);
    return at + 4;
  case MB_BOOL:
    *at = value->as.integer ? 't' : 'f';
    return at + 1;
  case MB_INT64:
    return at + sprintf(at, "%lld", (long long)value->as.integer);
  case MB_UINT64:
    return at + sprintf(at, "%llu", (unsigned long long)value->as.natural);
  case MB_DOUBLE:
    return at + pg_write_double(value->as.real, at);
  case MB_ARRAY:
  case MB_CALLBACK:
  case MB_TAG_COUNT:
    return NULL;
  default:
    if (value->tag == MB_BLOB || (as_bytes && value->tag == MB_TEXT))
      return write_hex(at, value->as.bytes.data, value->as.bytes.size);
    if (value->as.bytes.size > 0 &&
        memchr(value->as.bytes.data, '\0', value->as.bytes.size) != NULL)
      return NULL;
    return write_quoted(at, value->as.bytes.data, value->as.bytes.size);
  }
}

/* Braces that open before element i, or close behind it: one for each dimension
 * whose lists begin, or end, there. */
static uint32_t braces_at(const mb_array *array, size_t i)
{
  uint32_t n = 0;
  size_t length = 1;
  for (uint32_t dim = array->n_dims; dim > 0; dim--) {
    length *= array->dims[dim - 1];
    if (i % length != 0)
      break;
    n++;
  }
  return n;
}

mb_status pg_write_array(mb_driver_conn *conn, const mb_array *array,
    bool as_bytes, const char **out, mb_error *error)
{
  const size_t n = count_elements(array);
  char *text = pg_arena_take(&conn->sending, measure(array, n));
  if (text == NULL)
    return pg_out_of_memory(conn->host, error);
  char *at = text;
  if (n == 0) {
    *at++ = '{';
    *at++ = '}';
  }
  for (size_t i = 0; i < n; i++) {
    if (i > 0)
      *at++ = ',';
    for (uint32_t open = braces_at(array, i); open > 0; open--)
      *at++ = '{';
    at = write_element(at, &array->elements[i], as_bytes);
    if (at == NULL)
      return conn->host->fail(error, MB_DATA,
          "element %zu of an array has a zero byte, or is no value that an "
          "array can hold",
          i + 1);
    for (uint32_t close = braces_at(array, i + 1); close > 0; close--)
      *at++ = '}';
  }
  *at = '\0';
  *out = text;
  return MB_OK;
}
