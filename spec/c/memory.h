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

#endif
