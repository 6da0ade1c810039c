/* time.c: dates and times between the library's struct and text. */
#include "mysql.h"

#include <string.h>

#define MINUTES_PER_DAY 1440

/* Writes number with at least digits digits. */
static char *write_number(char *at, unsigned long number, int digits)
{
  char room[20];
  int n = 0;
  do
    room[n++] = (char)('0' + number % 10);
  while ((number /= 10) != 0);
  while (n < digits)
    room[n++] = '0';
  while (n > 0)
    *at++ = room[--n];
  return at;
}

static char *write_day(char *at, const MYSQL_TIME *time)
{
  at = write_number(at, time->year, 4);
  *at++ = '-';
  at = write_number(at, time->month, 2);
  *at++ = '-';
  return write_number(at, time->day, 2);
}

static char *write_clock(char *at, unsigned long hours, const MYSQL_TIME *time)
{
  unsigned long fraction = time->second_part;
  at = write_number(at, hours, 2);
  *at++ = ':';
  at = write_number(at, time->minute, 2);
  *at++ = ':';
  at = write_number(at, time->second, 2);
  if (fraction == 0)
    return at;
  *at++ = '.';
  int digits = 6;
  for (; fraction % 10 == 0; fraction /= 10)
    digits--;
  return write_number(at, fraction, digits);
}

size_t mq_write_date(const MYSQL_TIME *time, char *out)
{
  return (size_t)(write_day(out, time) - out);
}

/* Times reach from -838:59:59 to 838:59:59; the library may count days. */
size_t mq_write_time(const MYSQL_TIME *time, char *out)
{
  char *at = out;
  if (time->neg)
    *at++ = '-';
  return (size_t)(write_clock(at, time->day * 24ul + time->hour, time) - out);
}

size_t mq_write_datetime(const MYSQL_TIME *time, char *out)
{
  char *at = write_day(out, time);
  *at++ = ' ';
  return (size_t)(write_clock(at, time->hour, time) - out);
}

/* --- Reading ------------------------------------------------------------ */

/* Digits and one byte behind them. */
static bool read_number(
    const char **at, int digits, char behind, unsigned *number)
{
  *number = 0;
  for (; digits > 0; digits--, (*at)++) {
    if (**at < '0' || **at > '9')
      return false;
    *number = *number * 10 + (unsigned)(**at - '0');
  }
  return behind == '\0' || *(*at)++ == behind;
}

static unsigned days_of(unsigned year, unsigned month)
{
  static const unsigned char days[] = {
      31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  const bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
  return month == 2 && leap ? 29 : days[month - 1];
}

/* Moves the clock by less than a day. */
static bool move(MYSQL_TIME *time, int minutes)
{
  int now = (int)(time->hour * 60 + time->minute) + minutes;
  if (now < 0 && time->day-- == 1) {
    time->month = time->month > 1 ? time->month - 1 : 12;
    time->year -= time->month == 12;
    time->day = days_of(time->year, time->month);
  } else if (now >= MINUTES_PER_DAY &&
             ++time->day > days_of(time->year, time->month)) {
    time->day = 1;
    time->month = time->month < 12 ? time->month + 1 : 1;
    time->year += time->month == 1;
  }
  now = (now + MINUTES_PER_DAY) % MINUTES_PER_DAY;
  time->hour = (unsigned)now / 60;
  time->minute = (unsigned)now % 60;
  return time->year >= 1 && time->year <= 9999;
}

bool mq_read_timestamptz(
    const char *text, size_t size, int zone_minutes, MYSQL_TIME *out)
{
  static const char zone[] = "+00:00";
  const size_t zone_size = sizeof zone - 1;
  const char *at = text;
  /* "2026-11-21 09:48:00" and up to seven bytes of a fraction. */
  if (size < 19 + zone_size || size > 26 + zone_size ||
      memcmp(text + size - zone_size, zone, zone_size) != 0)
    return false;
  const char *end = text + size - zone_size;
  *out = (MYSQL_TIME){.time_type = MYSQL_TIMESTAMP_DATETIME};
  if (!read_number(&at, 4, '-', &out->year) ||
      !read_number(&at, 2, '-', &out->month) ||
      !read_number(&at, 2, ' ', &out->day) ||
      !read_number(&at, 2, ':', &out->hour) ||
      !read_number(&at, 2, ':', &out->minute) ||
      !read_number(&at, 2, '\0', &out->second))
    return false;
  if (at < end) {
    const int digits = (int)(end - at) - 1;
    unsigned fraction;
    if (*at++ != '.' || digits == 0 ||
        !read_number(&at, digits, '\0', &fraction))
      return false;
    for (int i = digits; i < 6; i++)
      fraction *= 10;
    out->second_part = fraction;
  }
  return out->year >= 1 && out->month >= 1 && out->month <= 12 &&
         out->day >= 1 && out->day <= days_of(out->year, out->month) &&
         out->hour < 24 && out->minute < 60 && out->second < 60 &&
         move(out, zone_minutes);
}
