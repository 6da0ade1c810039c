/*
 * meter.h: what is measured of a process: wall time, its own CPU time and its
 * peak memory.  For the loops in C, and, as a module, for every Lua alike.
 */
#ifndef BENCH_METER_H
#define BENCH_METER_H

#include <stdio.h>
#include <sys/resource.h>
#include <time.h>

typedef struct meter {
  double wall_s, cpu_s;
} meter;

static double meter_seconds(struct timeval time)
{
  return (double)time.tv_sec + (double)time.tv_usec / 1e6;
}

static meter meter_read(void)
{
  struct timespec now;
  struct rusage usage;
  (void)clock_gettime(CLOCK_MONOTONIC, &now);
  (void)getrusage(RUSAGE_SELF, &usage);
  return (meter){(double)now.tv_sec + (double)now.tv_nsec / 1e9,
      meter_seconds(usage.ru_utime) + meter_seconds(usage.ru_stime)};
}

/* The most memory that was resident since the program was started.  Not
 * ru_maxrss: that begins with what the parent had. */
static long meter_peak_kb(void)
{
  char line[128];
  long kb = 0;
  FILE *status = fopen("/proc/self/status", "r");
  if (status == NULL)
    return 0;
  while (fgets(line, sizeof line, status) != NULL)
    if (sscanf(line, "VmHWM: %ld", &kb) == 1)
      break;
  (void)fclose(status);
  return kb;
}

#endif
