/* identifier.c: names, quoted for the connected database. */
#include "connection.h"

#include <string.h>

/* The length of the well-formed UTF-8 character at text, or 0 (Unicode 15,
 * table 3-7). */
static size_t utf8_length(const unsigned char *text, size_t size)
{
  static const struct {
    unsigned char first, last; /* of the first byte */
    unsigned char second_first, second_last;
    size_t length;
  } forms[] = {
      {0x01, 0x7F, 0, 0, 1},
      {0xC2, 0xDF, 0x80, 0xBF, 2},
      {0xE0, 0xE0, 0xA0, 0xBF, 3},
      {0xE1, 0xEC, 0x80, 0xBF, 3},
      {0xED, 0xED, 0x80, 0x9F, 3},
      {0xEE, 0xEF, 0x80, 0xBF, 3},
      {0xF0, 0xF0, 0x90, 0xBF, 4},
      {0xF1, 0xF3, 0x80, 0xBF, 4},
      {0xF4, 0xF4, 0x80, 0x8F, 4},
  };
  for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
    if (text[0] < forms[i].first || text[0] > forms[i].last)
      continue;
    if (forms[i].length > size)
      return 0;
    if (forms[i].length > 1 &&
        (text[1] < forms[i].second_first || text[1] > forms[i].second_last))
      return 0;
    for (size_t k = 2; k < forms[i].length; k++)
      if ((text[k] & 0xC0) != 0x80)
        return 0;
    return forms[i].length;
  }
  return 0;
}

static mb_status check_name(
    const mb_conn *conn, const char *name, size_t length, mb_error *error)
{
  if (length == 0)
    return mb__host.fail(error, MB_USAGE, "a name is empty");
  const unsigned most = conn->capability->max_identifier_length;
  if (most != 0 && length > most)
    return mb__host.fail(error, MB_USAGE,
        "a name of %zu bytes is too long: this database keeps %u", length,
        most);
  for (size_t at = 0; at < length;) {
    const size_t one =
        utf8_length((const unsigned char *)name + at, length - at);
    if (one == 0)
      return mb__host.fail(error, MB_USAGE,
          "a name has a zero byte, or is not UTF-8, at byte %zu", at + 1);
    at += one;
  }
  return MB_OK;
}

/* In the way of the connected database's library. */
static mb_status quote_there(
    mb_conn *conn, const char *name, size_t length, char *out, mb_error *error)
{
  size_t written = 0;
  if (mb__conn_enter(conn, error) != MB_OK)
    return MB_ERROR;
  const mb_status status = conn->driver->quote_identifier(
      conn->impl, name, length, out, &written, error);
  mb__conn_pause(conn);
  if (status == MB_OK)
    out[written] = '\0';
  return status;
}

mb_status mb_conn_quote(mb_conn *conn, const char *name, size_t length,
    char *out, size_t size, mb_error *error)
{
  if (check_name(conn, name, length, error) != MB_OK)
    return MB_ERROR;
  if (size < 3 || (size - 3) / 2 < length)
    return mb__host.fail(error, MB_USAGE, "the room for a name is too small");
  if (conn->driver->quote_identifier != NULL)
    return quote_there(conn, name, length, out, error);
  size_t written = 0;
  const char quote = conn->capability->identifier_quote;
  out[written++] = quote;
  for (size_t i = 0; i < length; i++) {
    if (name[i] == quote)
      out[written++] = quote;
    out[written++] = name[i];
  }
  out[written++] = quote;
  out[written] = '\0';
  return MB_OK;
}
