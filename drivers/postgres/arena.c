/* arena.c: blocks in a list, each at least as large as the piece that it was
 * made for. */
#include "arena.h"

#include <stddef.h>

#define BLOCK_MIN 1024
#define KEPT_MAX 65536 /* larger blocks are not kept for the next time */

struct pg_block {
  pg_block *older;
  size_t size;
  max_align_t bytes[];
};

void *pg_arena_take(pg_arena *arena, size_t size)
{
  const size_t unit = sizeof(max_align_t);
  if (size > SIZE_MAX / 2) {
    arena->refused = true;
    return NULL;
  }
  const size_t wanted = (size + unit - 1) / unit * unit;
  if (arena->blocks == NULL || arena->blocks->size - arena->used < wanted) {
    const size_t room = wanted > BLOCK_MIN ? wanted : BLOCK_MIN;
    pg_block *block = arena->host->allocate(sizeof *block + room);
    if (block == NULL) {
      arena->refused = true;
      return NULL;
    }
    block->older = arena->blocks;
    block->size = room;
    arena->blocks = block;
    arena->used = 0;
  }
  char *piece = (char *)arena->blocks->bytes + arena->used;
  arena->used += wanted;
  return piece;
}

static void free_older(const pg_arena *arena, pg_block *block)
{
  while (block != NULL) {
    pg_block *older = block->older;
    arena->host->release(block);
    block = older;
  }
}

void pg_arena_clear(pg_arena *arena)
{
  pg_block *newest = arena->blocks;
  arena->used = 0;
  arena->refused = false;
  if (newest == NULL)
    return;
  if (newest->size > KEPT_MAX) {
    pg_arena_free(arena);
    return;
  }
  free_older(arena, newest->older);
  newest->older = NULL;
}

void pg_arena_free(pg_arena *arena)
{
  free_older(arena, arena->blocks);
  arena->blocks = NULL;
  arena->used = 0;
  arena->refused = false;
}
