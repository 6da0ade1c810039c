/*
 * arena.h: memory that is taken in pieces and given back all at once.
 *
 * What is sent is written into one, and what a row holds beside libpq's own
 * bytes; pieces do not move while others are taken.
 */
#ifndef MB_DRIVERS_POSTGRES_ARENA_H
#define MB_DRIVERS_POSTGRES_ARENA_H

#include "../../src/driver.h"

typedef struct pg_block pg_block;

typedef struct pg_arena {
  const mb_host *host;
  pg_block *blocks; /* the newest first */
  size_t used;      /* of the newest */
  bool refused;     /* since it was cleared there was no memory */
} pg_arena;

/* size bytes for any type; NULL: out of memory. */
void *pg_arena_take(pg_arena *arena, size_t size);
/* All pieces are invalid; one block is kept, unless it is large. */
void pg_arena_clear(pg_arena *arena);
/* Frees everything; the arena can be used again. */
void pg_arena_free(pg_arena *arena);

#endif
