/*
 * time.c: dates and times from their binary forms, written as PostgreSQL writes
 * them: the calendar of ISO 8601 in both directions without end, "BC" behind
 * years before the first.
 */
#include "postgres.h"

#include <stdio.h>
#include <string.h>

#define US_PER_SECOND INT64_C(1000000)
#define US_PER_DAY (INT64_C(86400) * US_PER_SECOND)
/* Days from 0000-03-01 to 2000-01-01, where PostgreSQL counts from. */
#define EPOCH_DAYS 730425
#define DAYS_PER_ERA 146097 /* 400 years */

/* Days are counted from March on, so that a leap day is the last of a year. */
static void split_days(int64_t days, int64_t *year, int *month, int *day)
{
  days += EPOCH_DAYS;
  const int64_t era =
      (days >= 0 ? days : days - (DAYS_PER_ERA - 1)) / DAYS_PER_ERA;
  const int64_t of_era = days - era * DAYS_PER_ERA;
  const int64_t year_of_era =
      (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
  const int64_t of_year =
      of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
  const int64_t shifted = (5 * of_year + 2) / 153; /* 0: March */
  *day = (int)(of_year - (153 * shifted + 2) / 5 + 1);
  *month = (int)(shifted < 10 ? shifted + 3 : shifted - 9);
  *year = year_of_era + era * 400 + (*month <= 2);
}

/* Writes number with at least digits digits. */
static char *write_number(char *at, uint64_t number, int digits)
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

/* Gives whether "BC" belongs behind it. */
static bool write_day(char **at, int64_t days)
{
  int64_t year;
  int month;
  int day;
  split_days(days, &year, &month, &day);
  const bool before = year <= 0;
  *at = write_number(*at, (uint64_t)(before ? 1 - year : year), 4);
  *(*at)++ = '-';
  *at = write_number(*at, (uint64_t)month, 2);
  *(*at)++ = '-';
  *at = write_number(*at, (uint64_t)day, 2);
  return before;
}

static char *write_clock(char *at, int64_t microseconds)
{
  const int64_t seconds = microseconds / US_PER_SECOND;
  uint64_t fraction = (uint64_t)(microseconds % US_PER_SECOND);
  at = write_number(at, (uint64_t)(seconds / 3600), 2);
  *at++ = ':';
  at = write_number(at, (uint64_t)(seconds / 60 % 60), 2);
  *at++ = ':';
  at = write_number(at, (uint64_t)(seconds % 60), 2);
  if (fraction == 0)
    return at;
  *at++ = '.';
  int digits = 6;
  for (; fraction % 10 == 0; fraction /= 10)
    digits--;
  return write_number(at, fraction, digits);
}

static size_t write_infinity(char *out, bool negative)
{
  return strlen(strcpy(out, negative ? "-infinity" : "infinity"));
}

size_t pg_write_date(int32_t days, char *out)
{
  if (days == INT32_MAX || days == INT32_MIN)
    return write_infinity(out, days < 0);
  char *at = out;
  if (write_day(&at, days)) {
    memcpy(at, " BC", 3);
    at += 3;
  }
  return (size_t)(at - out);
}

size_t pg_write_time(int64_t microseconds, char *out)
{
  if (microseconds < 0 || microseconds > US_PER_DAY)
    return 0;
  return (size_t)(write_clock(out, microseconds) - out);
}

size_t pg_write_zone(int32_t seconds_west, char *out)
{
  char *at = out;
  /* The server counts westward. */
  const int64_t west = seconds_west;
  const uint64_t seconds = (uint64_t)(west < 0 ? -west : west);
  *at++ = west > 0 ? '-' : '+';
  at = write_number(at, seconds / 3600, 2);
  *at++ = ':';
  at = write_number(at, seconds / 60 % 60, 2);
  if (seconds % 60 != 0) {
    *at++ = ':';
    at = write_number(at, seconds % 60, 2);
  }
  return (size_t)(at - out);
}

size_t pg_write_timestamp(int64_t microseconds, bool zone, char *out)
{
  if (microseconds == INT64_MAX || microseconds == INT64_MIN)
    return write_infinity(out, microseconds < 0);
  int64_t days = microseconds / US_PER_DAY;
  int64_t rest = microseconds % US_PER_DAY;
  if (rest < 0) {
    rest += US_PER_DAY;
    days--;
  }
  char *at = out;
  const bool before = write_day(&at, days);
  *at++ = ' ';
  at = write_clock(at, rest);
  if (zone) {
    memcpy(at, "+00:00", 6);
    at += 6;
  }
  if (before) {
    memcpy(at, " BC", 3);
    at += 3;
  }
  return (size_t)(at - out);
}
