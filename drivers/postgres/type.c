/* type.c: the types that are known without asking, in the order of their
 * numbers, which are the same in every PostgreSQL. */
#include "postgres.h"

/* clang-format off */
#define PLAIN(oid, name, kind, tag) {oid, name, PG_KIND_##kind, MB_##tag, 0}
#define ARRAY(oid, name, element) {oid, name, PG_KIND_ARRAY, MB_ARRAY, element}
/* clang-format on */

static const pg_type types[] = {
    PLAIN(16, "bool", BOOL, BOOL),
    PLAIN(PG_OID_BYTEA, "bytea", BYTEA, BLOB),
    PLAIN(18, "char", OTHER, TEXT),
    PLAIN(19, "name", TEXT, TEXT),
    PLAIN(20, "int8", INT8, INT64),
    PLAIN(21, "int2", INT2, INT64),
    PLAIN(23, "int4", INT4, INT64),
    PLAIN(25, "text", TEXT, TEXT),
    PLAIN(26, "oid", OID, INT64),
    PLAIN(114, "json", TEXT, JSON),
    PLAIN(142, "xml", OTHER, OTHER),
    ARRAY(143, "xml[]", 142),
    ARRAY(199, "json[]", 114),
    PLAIN(650, "cidr", OTHER, OTHER),
    ARRAY(651, "cidr[]", 650),
    PLAIN(700, "float4", FLOAT4, DOUBLE),
    PLAIN(701, "float8", FLOAT8, DOUBLE),
    PLAIN(705, "unknown", TEXT, TEXT),
    PLAIN(774, "macaddr8", OTHER, OTHER),
    ARRAY(775, "macaddr8[]", 774),
    PLAIN(790, "money", OTHER, OTHER),
    ARRAY(791, "money[]", 790),
    PLAIN(829, "macaddr", OTHER, OTHER),
    PLAIN(869, "inet", OTHER, OTHER),
    ARRAY(1000, "bool[]", 16),
    ARRAY(PG_OID_BYTEA_ARRAY, "bytea[]", PG_OID_BYTEA),
    ARRAY(1002, "char[]", 18),
    ARRAY(1003, "name[]", 19),
    ARRAY(1005, "int2[]", 21),
    ARRAY(1007, "int4[]", 23),
    ARRAY(1009, "text[]", 25),
    ARRAY(1014, "bpchar[]", 1042),
    ARRAY(1015, "varchar[]", 1043),
    ARRAY(1016, "int8[]", 20),
    ARRAY(1021, "float4[]", 700),
    ARRAY(1022, "float8[]", 701),
    ARRAY(1028, "oid[]", 26),
    ARRAY(1040, "macaddr[]", 829),
    ARRAY(1041, "inet[]", 869),
    PLAIN(1042, "bpchar", TEXT, TEXT),
    PLAIN(1043, "varchar", TEXT, TEXT),
    PLAIN(1082, "date", DATE, DATE),
    PLAIN(1083, "time", TIME, TIME),
    PLAIN(1114, "timestamp", TIMESTAMP, TIMESTAMP),
    ARRAY(1115, "timestamp[]", 1114),
    ARRAY(1182, "date[]", 1082),
    ARRAY(1183, "time[]", 1083),
    PLAIN(1184, "timestamptz", TIMESTAMPTZ, TIMESTAMPTZ),
    ARRAY(1185, "timestamptz[]", 1184),
    PLAIN(1186, "interval", OTHER, INTERVAL),
    ARRAY(1187, "interval[]", 1186),
    ARRAY(1231, "numeric[]", 1700),
    PLAIN(1266, "timetz", TIMETZ, TIME),
    ARRAY(1270, "timetz[]", 1266),
    PLAIN(1560, "bit", OTHER, OTHER),
    ARRAY(1561, "bit[]", 1560),
    PLAIN(1562, "varbit", OTHER, OTHER),
    ARRAY(1563, "varbit[]", 1562),
    PLAIN(1700, "numeric", NUMERIC, DECIMAL),
    PLAIN(2205, "regclass", OTHER, OTHER),
    PLAIN(2206, "regtype", OTHER, OTHER),
    PLAIN(2950, "uuid", UUID, UUID),
    ARRAY(2951, "uuid[]", 2950),
    PLAIN(3220, "pg_lsn", OTHER, OTHER),
    PLAIN(3614, "tsvector", OTHER, OTHER),
    PLAIN(3615, "tsquery", OTHER, OTHER),
    PLAIN(3802, "jsonb", JSONB, JSON),
    ARRAY(3807, "jsonb[]", 3802),
    PLAIN(3904, "int4range", OTHER, OTHER),
    PLAIN(3906, "numrange", OTHER, OTHER),
    PLAIN(3908, "tsrange", OTHER, OTHER),
    PLAIN(3910, "tstzrange", OTHER, OTHER),
    PLAIN(3912, "daterange", OTHER, OTHER),
    PLAIN(3926, "int8range", OTHER, OTHER),
};

#undef PLAIN
#undef ARRAY

const pg_type *pg_find_type(Oid oid)
{
  size_t from = 0;
  size_t to = sizeof types / sizeof types[0];
  while (from < to) {
    const size_t middle = from + (to - from) / 2;
    if (types[middle].oid == oid)
      return &types[middle];
    if (types[middle].oid < oid)
      from = middle + 1;
    else
      to = middle;
  }
  return NULL;
}
