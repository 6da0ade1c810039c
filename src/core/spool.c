/*
 * spool.c: rows that were read into memory, to be given later.
 *
 * A row and all its bytes lie in one block, blocks form a list; a block is
 * freed when the row behind it is asked for.
 */
#include "statement.h"

#include <string.h>

typedef struct block {
  struct block *next;
  mb_value values[];
} block;

struct mb_spool {
  size_t n_columns;
  block *first, *last;
  block *given; /* the row that the user looks at; NULL: none */
};

static bool has_bytes(mb_tag tag)
{
  return tag >= MB_TEXT && tag <= MB_OTHER;
}

/* A multiple of the strictest alignment that a value has. */
static size_t aligned(size_t size)
{
  const size_t unit = _Alignof(mb_value);
  return (size + unit - 1) / unit * unit;
}

static size_t array_length(const mb_array *array)
{
  size_t n = array->n_dims > 0 ? 1 : 0;
  for (uint32_t i = 0; i < array->n_dims; i++)
    n *= array->dims[i];
  return n;
}

/* The bytes that a value needs beside itself. */
static size_t extra_size(const mb_value *value)
{
  if (has_bytes(value->tag))
    return aligned(value->as.bytes.size);
  if (value->tag != MB_ARRAY)
    return 0;
  const size_t n = array_length(value->as.array);
  size_t size = aligned(sizeof(mb_array)) + n * sizeof(mb_value);
  for (size_t i = 0; i < n; i++)
    if (has_bytes(value->as.array->elements[i].tag))
      size += aligned(value->as.array->elements[i].as.bytes.size);
  return size;
}

/* Copies a value's bytes to at, makes copy point there, and gives the end. */
static char *copy_bytes(mb_value *copy, char *at)
{
  if (!has_bytes(copy->tag))
    return at;
  if (copy->as.bytes.size > 0)
    memcpy(at, copy->as.bytes.data, copy->as.bytes.size);
  copy->as.bytes.data = at;
  return at + aligned(copy->as.bytes.size);
}

static char *copy_array(mb_value *copy, char *at)
{
  const mb_array *from = copy->as.array;
  const size_t n = array_length(from);
  mb_array *to = (void *)at;
  at += aligned(sizeof *to);
  mb_value *elements = (void *)at;
  at += n * sizeof *elements;
  *to = *from;
  to->elements = elements;
  for (size_t i = 0; i < n; i++) {
    elements[i] = from->elements[i];
    at = copy_bytes(&elements[i], at);
  }
  copy->as.array = to;
  return at;
}

mb_status mb__spool_add(mb_spool **spool, const mb_value *row, size_t n_columns,
    size_t *bytes, mb_error *error)
{
  if (*spool == NULL &&
      (*spool = mb__allocate_zeroed(1, sizeof **spool)) == NULL)
    return mb__out_of_memory(error);
  (*spool)->n_columns = n_columns;

  size_t size = sizeof(block) + n_columns * sizeof *row;
  for (size_t i = 0; i < n_columns; i++)
    size += extra_size(&row[i]);
  block *added = mb__host.allocate(size);
  if (added == NULL)
    return mb__out_of_memory(error);
  *bytes += size;

  added->next = NULL;
  char *at = (char *)(added->values + n_columns);
  for (size_t i = 0; i < n_columns; i++) {
    added->values[i] = row[i];
    at = row[i].tag == MB_ARRAY ? copy_array(&added->values[i], at)
                                : copy_bytes(&added->values[i], at);
  }
  if ((*spool)->last != NULL)
    (*spool)->last->next = added;
  else
    (*spool)->first = added;
  (*spool)->last = added;
  return MB_OK;
}

bool mb__spool_is_empty(const mb_spool *spool)
{
  return spool->first == NULL;
}

const mb_value *mb_spool_next(mb_spool *spool)
{
  mb__host.release(spool->given);
  spool->given = spool->first;
  if (spool->first == NULL)
    return NULL;
  spool->first = spool->first->next;
  if (spool->first == NULL)
    spool->last = NULL;
  return spool->given->values;
}

size_t mb_spool_n_columns(const mb_spool *spool)
{
  return spool->n_columns;
}

void mb_spool_free(mb_spool *spool)
{
  if (spool == NULL)
    return;
  mb__host.release(spool->given);
  for (block *one = spool->first, *next; one != NULL; one = next) {
    next = one->next;
    mb__host.release(one);
  }
  mb__host.release(spool);
}
