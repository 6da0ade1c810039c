/*
 * statement_cache.h: the statements of a connection, by text.
 *
 * A hash table finds a text; a list in order of use says which goes first when
 * there are too many.  Statements that run, or that somebody keeps, stay
 * whatever their age; several may have one text, when it runs inside itself.
 */
#ifndef MB_CORE_STATEMENT_CACHE_H
#define MB_CORE_STATEMENT_CACHE_H

#include "../moonbase.h"

typedef struct mb__cache {
  mb_stmt **buckets;  /* NULL until the first statement */
  size_t n_buckets;   /* a power of two */
  size_t n;           /* statements in the table */
  size_t n_transient; /* of these, not to stay when idle */
  size_t limit;       /* idle ones that stay */
  mb_stmt *newest, *oldest;
} mb__cache;

uint64_t mb__cache_hash(const char *text, size_t size, unsigned flags);

/* An idle statement of this text, moved to the front; or NULL. */
mb_stmt *mb__cache_find(mb__cache *cache, uint64_t hash, const char *text,
    size_t size, unsigned flags);
/* Adds a statement whose hash is set, at the front. */
MB_CHECKED mb_status mb__cache_add(
    mb__cache *cache, mb_stmt *stmt, mb_error *error);
void mb__cache_remove(mb__cache *cache, mb_stmt *stmt);
/* A statement that is to go, because it may not stay or there are too many; or
 * NULL. */
mb_stmt *mb__cache_surplus(const mb__cache *cache);
/* Frees the table, which is empty. */
void mb__cache_close(mb__cache *cache);

#endif
