/*
 * memory.h: memory that runs out, and counts what is not given back.
 *
 * A test calls memory_limit(n) before the calls that it wants to see fail from
 * the allocation number n on, counted from 0, and memory_unlimit after them; or
 * memory_count before all, and then memory_refuse(n, m) where of the
 * allocations from there on m fail, from number n on.  Other allocators than
 * the core's take part by asking memory_may and telling memory_add.
 */
#ifndef MB_SPEC_MEMORY_H
#define MB_SPEC_MEMORY_H

#include "../../src/core/host.h"
#include "../../src/moonbase.h"
#include "check.h"

#include <stdlib.h>

/* The core's own threads allocate as well. */
static atomic_size_t memory_first = SIZE_MAX; /* the first that fails */
static atomic_size_t memory_last = SIZE_MAX;  /* the last one */
static atomic_size_t memory_asked;            /* that were tried */
static atomic_size_t memory_taken;            /* of them, that succeeded */
static atomic_size_t memory_refused;          /* and that failed */
static atomic_size_t memory_held;             /* blocks that are there */

/* Whether the allocation that is being asked for succeeds. */
static inline bool memory_may(void)
{
  const size_t number = memory_asked++;
  const bool may = number < memory_first || number > memory_last;
  memory_taken += may;
  memory_refused += !may;
  return may;
}

static inline void *memory_add(void *block)
{
  memory_held += block != NULL;
  return block;
}

static inline void memory_release(void *block)
{
  memory_held -= block != NULL;
  free(block);
}

static inline void *memory_allocate(size_t size)
{
  return memory_may() ? memory_add(malloc(size)) : NULL;
}

static inline void *memory_reallocate(void *block, size_t size)
{
  if (!memory_may())
    return NULL;
  return block == NULL ? memory_add(malloc(size)) : realloc(block, size);
}

/* The counts begin anew, and nothing fails. */
static inline void memory_count(void)
{
  memory_first = SIZE_MAX;
  memory_asked = 0;
  memory_taken = 0;
  memory_refused = 0;
  memory_held = 0;
  mb__host.allocate = memory_allocate;
  mb__host.reallocate = memory_reallocate;
  mb__host.release = memory_release;
}

static inline void memory_refuse(size_t first, size_t n)
{
  memory_first = memory_asked + first;
  memory_last = n <= SIZE_MAX - memory_first ? memory_first + n - 1 : SIZE_MAX;
}

static inline void memory_limit(size_t n)
{
  memory_count();
  memory_refuse(n, SIZE_MAX);
}

/* What was taken is still counted when it is released. */
static inline void memory_unlimit(void)
{
  memory_first = SIZE_MAX;
}

/* Every which allocation fails, where each has its turn: all of them when there
 * is time for that, which MB_SOAK says. */
static inline size_t memory_step(size_t step)
{
  const char *soak = getenv("MB_SOAK");
  return soak != NULL && strtod(soak, NULL) >= 1 ? 1 : step;
}

/* Runs with each allocation failing in its turn, or every step-th where time is
 * short, and the n - 1 behind it, until none is left to fail: run says whether
 * one has. */
static inline void memory_fail_each(
    bool (*run)(size_t first, size_t n), size_t n, size_t step)
{
  const char *name = check_name;
  char full[128];
  size_t first = 0;
  bool more = true;
  step = memory_step(step);
  while (more && check_failures < CHECK_PRINTED_MAX) {
    (void)snprintf(full, sizeof full, "%s, from %zu on", name, first);
    check_name = full;
    more = run(first, n);
    first += step;
  }
  check_name = name;
}

/* Whether a call went well.  When it did not, memory was the cause, or what had
 * happened to its transaction or connection for want of memory before, which
 * failed remembers. */
static inline bool memory_well(
    mb_status status, const mb_error *error, bool *failed)
{
  if (status != MB_ERROR)
    return true;
  const bool follows =
      *failed && (error->flags & (MB_TRANSACTION_DEAD | MB_CONNECTION_DEAD));
  *failed |= error->class == MB_RESOURCE;
  CHECK(memory_refused > 0);
  if (!CHECK(error->class == MB_RESOURCE || follows)) {
    size_t size;
    const char *text = mb_error_text(error, MB_MESSAGE, &size);
    (void)fprintf(stderr, "%s: %.*s\n", mb_class_name(error->class), (int)size,
        text != NULL ? text : "");
  }
  return false;
}

#endif
