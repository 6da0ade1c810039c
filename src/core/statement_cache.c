/* statement_cache.c: a hash table and a list through the same statements. */
#include "statement_cache.h"

#include "host.h"
#include "statement.h"

#include <string.h>

#define FIRST_BUCKETS 32

/* Multiply-and-fold over eight bytes at a time, after wyhash (Wang Yi, public
 * domain); texts come from the program, not from an attacker. */
static uint64_t mix(uint64_t a, uint64_t b)
{
  const uint64_t low = a * b;
  return low ^ (low >> 32) ^ (a << 7);
}

uint64_t mb__cache_hash(const char *text, size_t size, unsigned flags)
{
  uint64_t hash = UINT64_C(0x9E3779B97F4A7C15) ^ size ^ flags;
  uint64_t word;
  while (size >= sizeof word) {
    memcpy(&word, text, sizeof word);
    hash = mix(hash ^ word, UINT64_C(0xA0761D6478BD642F));
    text += sizeof word;
    size -= sizeof word;
  }
  word = 0;
  memcpy(&word, text, size);
  return mix(hash ^ word, UINT64_C(0xE7037ED1A0B428DB));
}

static mb_stmt **bucket_of(const mb__cache *cache, uint64_t hash)
{
  return &cache->buckets[hash & (cache->n_buckets - 1)];
}

static void unlink_by_age(mb__cache *cache, mb_stmt *stmt)
{
  if (stmt->newer != NULL)
    stmt->newer->older = stmt->older;
  else
    cache->newest = stmt->older;
  if (stmt->older != NULL)
    stmt->older->newer = stmt->newer;
  else
    cache->oldest = stmt->newer;
}

static void link_as_newest(mb__cache *cache, mb_stmt *stmt)
{
  stmt->newer = NULL;
  stmt->older = cache->newest;
  if (cache->newest != NULL)
    cache->newest->newer = stmt;
  else
    cache->oldest = stmt;
  cache->newest = stmt;
}

mb_stmt *mb__cache_find(mb__cache *cache, uint64_t hash, const char *text,
    size_t size, unsigned flags)
{
  if (cache->buckets == NULL)
    return NULL;
  mb_stmt *stmt = *bucket_of(cache, hash);
  while (stmt != NULL &&
         !(stmt->hash == hash && stmt->run == 0 && stmt->size == size &&
             stmt->flags == flags && memcmp(stmt->text, text, size) == 0))
    stmt = stmt->hash_next;
  if (stmt != NULL && cache->newest != stmt) {
    unlink_by_age(cache, stmt);
    link_as_newest(cache, stmt);
  }
  return stmt;
}

static mb_status grow(mb__cache *cache, mb_error *error)
{
  mb__cache grown = *cache;
  grown.n_buckets =
      cache->n_buckets == 0 ? FIRST_BUCKETS : cache->n_buckets * 2;
  grown.buckets = mb__allocate_zeroed(grown.n_buckets, sizeof(mb_stmt *));
  if (grown.buckets == NULL)
    return mb__out_of_memory(error);
  for (mb_stmt *stmt = cache->newest; stmt != NULL; stmt = stmt->older) {
    mb_stmt **bucket = bucket_of(&grown, stmt->hash);
    stmt->hash_next = *bucket;
    *bucket = stmt;
  }
  mb__host.release(cache->buckets);
  *cache = grown;
  return MB_OK;
}

mb_status mb__cache_add(mb__cache *cache, mb_stmt *stmt, mb_error *error)
{
  if (cache->n >= cache->n_buckets && grow(cache, error) != MB_OK)
    return MB_ERROR;
  mb_stmt **bucket = bucket_of(cache, stmt->hash);
  stmt->hash_next = *bucket;
  *bucket = stmt;
  link_as_newest(cache, stmt);
  cache->n++;
  cache->n_transient += stmt->transient;
  return MB_OK;
}

void mb__cache_remove(mb__cache *cache, mb_stmt *stmt)
{
  mb_stmt **link = bucket_of(cache, stmt->hash);
  while (*link != stmt)
    link = &(*link)->hash_next;
  *link = stmt->hash_next;
  unlink_by_age(cache, stmt);
  cache->n--;
  cache->n_transient -= stmt->transient;
}

static bool may_go(const mb_stmt *stmt)
{
  return stmt->run == 0 && atomic_load(&stmt->refs) == 1;
}

mb_stmt *mb__cache_surplus(const mb__cache *cache)
{
  if (cache->n_transient > 0) {
    for (mb_stmt *stmt = cache->newest; stmt != NULL; stmt = stmt->older)
      if (stmt->transient && may_go(stmt))
        return stmt;
  }
  if (cache->n - cache->n_transient > cache->limit) {
    for (mb_stmt *stmt = cache->oldest; stmt != NULL; stmt = stmt->newer)
      if (!stmt->transient && may_go(stmt))
        return stmt;
  }
  return NULL;
}

void mb__cache_close(mb__cache *cache)
{
  mb__host.release(cache->buckets);
  memset(cache, 0, sizeof *cache);
}
