/*
 * threads.h: what the programs with threads have in common: the clock, times
 * that are kept and sorted, threads that begin together, the report.
 */
#ifndef BENCH_THREADS_H
#define BENCH_THREADS_H

#include "meter.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>

#define NS_PER_US INT64_C(1000)
#define NS_PER_SECOND INT64_C(1000000000)

static inline int64_t bench_now_ns(void)
{
  struct timespec now;
  (void)clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * NS_PER_SECOND + now.tv_nsec;
}

static inline void bench_check(int holds, const char *what)
{
  if (holds)
    return;
  (void)fprintf(stderr, "failed: %s\n", what);
  exit(1);
}

static inline void bench_report(meter from, double checksum)
{
  const meter to = meter_read();
  printf("%.6f %.6f %ld %.2f", to.wall_s - from.wall_s, to.cpu_s - from.cpu_s,
      meter_peak_kb(), checksum);
}

/* A figure behind the report, for run.lua; the last one ends the line. */
static inline void bench_figure(const char *name, double value)
{
  printf(" %s=%.4f", name, value);
}

/* --- Times -------------------------------------------------------------- */

typedef struct bench_times {
  int64_t *all_ns;
  size_t n, room;
} bench_times;

static inline void bench_times_open(bench_times *times, size_t room)
{
  *times =
      (bench_times){.all_ns = malloc(room * sizeof(int64_t)), .room = room};
  bench_check(times->all_ns != NULL, "memory");
}

static inline void bench_times_add(bench_times *times, int64_t ns)
{
  if (times->n < times->room)
    times->all_ns[times->n++] = ns;
}

static inline int bench_compare(const void *a, const void *b)
{
  const int64_t first = *(const int64_t *)a;
  const int64_t second = *(const int64_t *)b;
  return (first > second) - (first < second);
}

/* Puts those of several threads into one, sorted. */
static inline bench_times bench_times_join(const bench_times *of, size_t n)
{
  bench_times all;
  size_t room = 1;
  for (size_t i = 0; i < n; i++)
    room += of[i].n;
  bench_times_open(&all, room);
  for (size_t i = 0; i < n; i++)
    for (size_t k = 0; k < of[i].n; k++)
      bench_times_add(&all, of[i].all_ns[k]);
  qsort(all.all_ns, all.n, sizeof(int64_t), bench_compare);
  return all;
}

/* The time that a part of them does not exceed; they are sorted. */
static inline double bench_times_at(const bench_times *times, double part)
{
  if (times->n == 0)
    return 0;
  const size_t at = (size_t)(part * (double)(times->n - 1));
  return (double)times->all_ns[at];
}

/* --- Threads ------------------------------------------------------------ */

/* Runs work on n threads that begin together, each with its own number, and
 * waits for their end. */
typedef struct bench_thread {
  pthread_t id;
  pthread_barrier_t *start;
  void (*work)(size_t number);
  size_t number;
} bench_thread;

static inline void *bench_begin(void *argument)
{
  const bench_thread *thread = argument;
  (void)pthread_barrier_wait(thread->start);
  thread->work(thread->number);
  return NULL;
}

static inline meter bench_run(size_t n, void (*work)(size_t number))
{
  bench_thread threads[64];
  pthread_barrier_t start;
  (void)pthread_barrier_init(&start, NULL, (unsigned)n + 1);
  for (size_t i = 0; i < n; i++) {
    threads[i] = (bench_thread){.start = &start, .work = work, .number = i};
    bench_check(
        pthread_create(&threads[i].id, NULL, bench_begin, &threads[i]) == 0,
        "thread");
  }
  const meter from = meter_read();
  (void)pthread_barrier_wait(&start);
  for (size_t i = 0; i < n; i++)
    (void)pthread_join(threads[i].id, NULL);
  (void)pthread_barrier_destroy(&start);
  return from;
}

#endif
