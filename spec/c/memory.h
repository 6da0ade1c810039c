/*
 * memory.h: memory that runs out, and counts what is not given back.
 *
 * A test calls memory_limit(n) before the calls that it wants to see fail from
 * the allocation number n on, counted from 0, and memory_unlimit after them.
 */
#ifndef MB_SPEC_MEMORY_H
#define MB_SPEC_MEMORY_H

#include "../../src/core/host.h"

#include <stdlib.h>

static mb_host memory_host;   /* as it was */
static size_t memory_allowed; /* allocations that will succeed */
static size_t memory_taken;   /* allocations that succeeded */
static size_t memory_held;    /* of them, not released */

static inline void *memory_allocate(size_t size)
{
  if (memory_allowed == 0)
    return NULL;
  void *memory = malloc(size);
  memory_allowed--;
  memory_taken++;
  memory_held++;
  return memory;
}

static inline void *memory_reallocate(void *memory, size_t size)
{
  if (memory_allowed == 0)
    return NULL;
  memory_allowed--;
  memory_taken++;
  memory_held += memory == NULL;
  return realloc(memory, size);
}

static inline void memory_release(void *memory)
{
  memory_held -= memory != NULL;
  free(memory);
}

static inline void memory_limit(size_t n)
{
  memory_host = mb__host;
  memory_allowed = n;
  memory_taken = 0;
  memory_held = 0;
  mb__host.allocate = memory_allocate;
  mb__host.reallocate = memory_reallocate;
  mb__host.release = memory_release;
}

static inline void memory_unlimit(void)
{
  mb__host = memory_host;
}

#endif
