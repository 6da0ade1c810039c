/*
 * number.c: numbers that are not integers.
 *
 * The C library reads and writes them by the locale, which belongs to the
 * program: what its decimal point is is found out from what it writes.
 */
#include "postgres.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- Doubles ------------------------------------------------------------ */

/* Makes a point of what the locale puts between the digits. */
static size_t with_point(char *text)
{
  size_t at = strspn(text, "-0123456789");
  if (text[at] == '\0' || text[at] == 'e' || text[at] == '.')
    return strlen(text);
  const size_t rest = at + strcspn(text + at, "0123456789e");
  text[at] = '.';
  memmove(text + at + 1, text + rest, strlen(text + rest) + 1);
  return strlen(text);
}

/* Whether it is a word instead of digits. */
static bool write_word(double value, char *out)
{
  const char *word = isnan(value)    ? "NaN"
                     : !isinf(value) ? ""
                     : value < 0     ? "-Infinity"
                                     : "Infinity";
  (void)strcpy(out, word);
  return word[0] != '\0';
}

size_t pg_write_double(double value, char *out)
{
  if (write_word(value, out))
    return strlen(out);
  for (int digits = 15; digits <= 17; digits++) {
    (void)snprintf(out, PG_DOUBLE_ROOM, "%.*g", digits, value);
    if (digits == 17 || strtod(out, NULL) == value)
      break;
  }
  return with_point(out);
}

size_t pg_write_digits(double value, char *out)
{
  if (write_word(value, out))
    return strlen(out);
  (void)snprintf(out, PG_DOUBLE_ROOM, "%.17g", value);
  return with_point(out);
}

/* The powers of ten that a double holds exactly. */
static const double powers[] = {1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8,
    1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21,
    1e22};

#define EXACT_MAX (UINT64_C(1) << 53)
#define POWER_MAX 22

/* Digits with a point, few enough that one rounding makes the double.  False:
 * it is something else. */
static bool read_short(const char *data, size_t size, double *out)
{
  uint64_t digits = 0;
  int behind = -1; /* digits behind the point; -1: there is none */
  size_t at = size > 0 && data[0] == '-';
  const size_t first = at;
  for (; at < size; at++) {
    if (data[at] == '.' && behind < 0) {
      behind = 0;
      continue;
    }
    if (data[at] < '0' || data[at] > '9' || digits > EXACT_MAX / 10 - 1)
      return false;
    digits = digits * 10 + (uint64_t)(data[at] - '0');
    behind += behind >= 0;
  }
  if (at == first || behind > POWER_MAX)
    return false;
  double value = (double)digits;
  if (behind > 0)
    value /= powers[behind];
  *out = first > 0 ? -value : value;
  return true;
}

static bool is(const char *data, size_t size, const char *word)
{
  return size == strlen(word) && memcmp(data, word, size) == 0;
}

bool pg_read_double(const char *data, size_t size, double *out)
{
  char text[64 + 8];
  if (read_short(data, size, out))
    return true;
  *out = (double)NAN;
  if (is(data, size, "NaN"))
    return true;
  *out = (double)INFINITY;
  if (is(data, size, "Infinity"))
    return true;
  *out = -(double)INFINITY;
  if (is(data, size, "-Infinity"))
    return true;
  if (size == 0 || size > 64 ||
      memchr("-0123456789", data[0], sizeof "-0123456789" - 1) == NULL)
    return false;
  char *end;
  memcpy(text, data, size);
  text[size] = '\0';
  *out = strtod(text, &end);
  if (*end == '\0')
    return true;
  /* The locale has another point. */
  char half[8];
  (void)snprintf(half, sizeof half, "%.1f", 0.5);
  char *point = strchr(text, '.');
  const size_t width = strlen(half) - 2;
  if (point == NULL || width > 4)
    return false;
  memmove(point + width, point + 1, strlen(point + 1) + 1);
  memcpy(point, half + 1, width);
  *out = strtod(text, &end);
  return *end == '\0';
}

/* --- Numeric ------------------------------------------------------------ */

#define SIGN_NEGATIVE 0x4000
#define SIGN_NAN 0xC000
#define SIGN_INFINITY 0xD000
#define SIGN_MINUS_INFINITY 0xF000
#define BASE_DIGITS 4
#define SCALE_MAX 0x3FFF

/* Digit group i, with zeroes outside of those that were sent. */
static unsigned group(const char *groups, int n, int i)
{
  return i >= 0 && i < n ? pg_get16(groups + 2 * (ptrdiff_t)i) : 0;
}

static char *write_group(char *at, unsigned value)
{
  for (unsigned unit = 1000; unit > 0; unit /= 10)
    *at++ = (char)('0' + value / unit % 10);
  return at;
}

static const char *special(unsigned sign)
{
  switch (sign) {
  case SIGN_NAN:
    return "NaN";
  case SIGN_INFINITY:
    return "Infinity";
  case SIGN_MINUS_INFINITY:
    return "-Infinity";
  default:
    return NULL;
  }
}

const char *pg_read_numeric(
    const char *data, size_t size, pg_arena *texts, size_t *length)
{
  if (size < 8)
    return NULL;
  const int n = pg_get16(data);
  const int weight = (int16_t)pg_get16(data + 2);
  const unsigned sign = pg_get16(data + 4);
  const int scale = pg_get16(data + 6);
  const char *word = special(sign);
  if (word != NULL) {
    *length = strlen(word);
    return word;
  }
  if (size != 8 + 2 * (size_t)n || (sign != 0 && sign != SIGN_NEGATIVE) ||
      scale > SCALE_MAX)
    return NULL;
  for (int i = 0; i < n; i++)
    if (group(data + 8, n, i) > 9999)
      return NULL;

  const size_t whole = weight >= 0 ? (size_t)(weight + 1) * BASE_DIGITS : 1;
  char *text = pg_arena_take(texts, whole + (size_t)scale + BASE_DIGITS + 3);
  if (text == NULL)
    return NULL;
  char *at = text;
  if (sign == SIGN_NEGATIVE)
    *at++ = '-';
  char *first = at;
  for (int i = 0; i <= weight; i++)
    at = write_group(at, group(data + 8, n, i));
  /* Without the zeroes before it. */
  size_t zeroes = 0;
  while (zeroes + 1 < (size_t)(at - first) && first[zeroes] == '0')
    zeroes++;
  memmove(first, first + zeroes, (size_t)(at - first) - zeroes);
  at -= zeroes;
  if (at == first)
    *at++ = '0';
  if (scale > 0) {
    *at++ = '.';
    char *point = at;
    for (int i = weight + 1; at - point < scale; i++)
      at = write_group(at, i < 0 ? 0 : group(data + 8, n, i));
    at = point + scale;
  }
  *length = (size_t)(at - text);
  return text;
}
