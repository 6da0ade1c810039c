/*
 * rows.h: the rows that all programs read and write, the order of the keys, and
 * what a loop in C prints.
 */
#ifndef BENCH_ROWS_H
#define BENCH_ROWS_H

#include "meter.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define ROWS 1000000
#define POOL 1000 /* values that inserts choose from */

/* --- Data --------------------------------------------------------------- */

/* splitmix64 (Sebastiano Vigna, public domain). */
static inline uint64_t random_bits(uint64_t *state)
{
  uint64_t bits = *state += UINT64_C(0x9E3779B97F4A7C15);
  bits = (bits ^ (bits >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
  bits = (bits ^ (bits >> 27)) * UINT64_C(0x94D049BB133111EB);
  return bits ^ (bits >> 31);
}

typedef struct row {
  int64_t big; /* within 2^53, of either sign */
  double x;    /* a multiple of a quarter: sums are exact */
  char t[17];
  unsigned char b[32]; /* none is zero */
} row;

static inline row make_row(uint64_t *state)
{
  row made;
  made.big = (int64_t)(random_bits(state) >> 10) - (INT64_C(1) << 53);
  made.x = (double)(random_bits(state) >> 40) / 4;
  (void)snprintf(
      made.t, sizeof made.t, "%016llx", (unsigned long long)random_bits(state));
  for (size_t i = 0; i < sizeof made.b; i++)
    made.b[i] = (unsigned char)(random_bits(state) % 255 + 1);
  return made;
}

/* --- Reading ------------------------------------------------------------ */

/* The keys of the whole table, each once, by a linear congruential generator of
 * full period; programs in Lua take the same. */
static inline int64_t next_key(int64_t *state)
{
  *state = (*state * 364641 + 54773) % ROWS;
  return *state + 1;
}

static volatile uint64_t touched;

static inline void touch(const unsigned char *bytes, int size)
{
  if (size > 0)
    touched += (uint64_t)bytes[0] + bytes[size - 1];
}

static inline void report(meter from, double checksum)
{
  const meter to = meter_read();
  printf("%.6f %.6f %ld %.2f\n", to.wall_s - from.wall_s, to.cpu_s - from.cpu_s,
      meter_peak_kb(), checksum);
}

#endif
