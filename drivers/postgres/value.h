/*
 * value.h: the types of the server, and values in its two formats.
 */
#ifndef MB_DRIVERS_POSTGRES_VALUE_H
#define MB_DRIVERS_POSTGRES_VALUE_H

#include "../../src/driver.h"
#include "arena.h"

#include <libpq-fe.h>

/* How the values of a type are read and written. */
typedef enum pg_kind {
  PG_KIND_TEXT,  /* the same bytes in both formats */
  PG_KIND_OTHER, /* asked for as text, and given as it is */
  PG_KIND_BOOL,
  PG_KIND_INT2,
  PG_KIND_INT4,
  PG_KIND_INT8,
  PG_KIND_OID,
  PG_KIND_FLOAT4,
  PG_KIND_FLOAT8,
  PG_KIND_NUMERIC,
  PG_KIND_BYTEA,
  PG_KIND_UUID,
  PG_KIND_JSONB,
  PG_KIND_DATE,
  PG_KIND_TIME,
  PG_KIND_TIMETZ,
  PG_KIND_TIMESTAMP,
  PG_KIND_TIMESTAMPTZ,
  PG_KIND_ARRAY
} pg_kind;

typedef struct pg_type {
  Oid oid;
  const char *name;
  pg_kind kind;
  mb_tag tag;
  Oid element; /* of an array */
} pg_type;

#define PG_PARAMETERS_MAX 65535

#define PG_OID_BYTEA 17
#define PG_OID_BYTEA_ARRAY 1001

/* --- type.c ------------------------------------------------------------- */

/* NULL: not known. */
const pg_type *pg_find_type(Oid oid);

/* --- value.c, array.c, number.c, time.c --------------------------------- */

/* Reads a value; what is not in its bytes is in texts.  False: out of memory,
 * or bytes that no server sends. */
bool pg_read_value(const pg_type *type, bool binary, const char *data,
    size_t size, pg_arena *texts, mb_value *out);
bool pg_read_text_array(
    Oid element, const char *data, size_t size, pg_arena *texts, mb_value *out);
bool pg_read_binary_array(
    Oid oid, const char *data, size_t size, pg_arena *texts, mb_value *out);
/* An array as the server reads it.  as_bytes: texts are bytes of bytea. */
mb_status pg_write_array(mb_driver_conn *conn, const mb_array *array,
    bool as_bytes, const char **out, mb_error *error);

#define PG_DOUBLE_ROOM 32
/* Writes a double in the shortest form that is read as the same; gives its
 * length. */
size_t pg_write_double(double value, char *out);
/* The same in any form, which takes a fifth of the time. */
size_t pg_write_digits(double value, char *out);
bool pg_read_double(const char *data, size_t size, double *out);
/* NULL: out of memory, or not a numeric. */
const char *pg_read_numeric(
    const char *data, size_t size, pg_arena *texts, size_t *length);

#define PG_TIME_ROOM 64
/* Write what the binary forms say, and give the length; 0: no such time. */
size_t pg_write_date(int32_t days, char *out);
size_t pg_write_time(int64_t microseconds, char *out);
size_t pg_write_zone(int32_t seconds_west, char *out);
size_t pg_write_timestamp(int64_t microseconds, bool zone, char *out);

/* Integers as they travel. */
static inline uint32_t pg_get32(const char *data)
{
  const unsigned char *at = (const unsigned char *)data;
  return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 |
         at[3];
}

static inline uint64_t pg_get64(const char *data)
{
  return (uint64_t)pg_get32(data) << 32 | pg_get32(data + 4);
}

static inline uint16_t pg_get16(const char *data)
{
  const unsigned char *at = (const unsigned char *)data;
  return (uint16_t)(at[0] << 8 | at[1]);
}

static inline void pg_put64(char *out, uint64_t value)
{
  for (int i = 7; i >= 0; i--, value >>= 8)
    out[i] = (char)(value & 0xFF);
}

#endif
