/* postgres_fuzz.c: what a server sends as a value is one or is refused, and
 * what is sent for it is read as the same.
 *
 * An input is the number of a type (two bytes), how it is read, which
 * allocation fails (0: none), and the bytes of the value; or those of a
 * statement, of which the driver finds out what it is without the server. */
#include "../../drivers/postgres/postgres.h"
#include "../c/memory.h"

#include "fuzz.h"

#include <math.h>

#define HEADER 4
#define BINARY 1 /* the format */
#define IN_ROW 2 /* it is read from a result of libpq's */
#define IS_SQL 4 /* it is no value, but a statement */

/* Numbers that types can have: no known one is above. */
#define OIDS_MAX 8192

/* A number that is known stands for itself, any other for one that is, or for
 * a type that nobody knows. */
static Oid choose_oid(const uint8_t *data)
{
  static Oid known[OIDS_MAX];
  static size_t n;
  const Oid oid = (Oid)data[0] << 8 | data[1];
  for (Oid i = 1; n == 0 && i < OIDS_MAX; i++)
    if (pg_find_type(i) != NULL)
      known[n++] = i;
  REQUIRE(n > 0);
  if (pg_find_type(oid) != NULL || oid % (n + 1) == n)
    return oid;
  return known[oid % (n + 1)];
}

/* --- What a value is ---------------------------------------------------- */

static bool has_bytes(mb_tag tag)
{
  return tag >= MB_TEXT && tag <= MB_OTHER;
}

static size_t count_elements(const mb_array *array)
{
  size_t n = array->n_dims > 0 ? 1 : 0;
  for (uint32_t i = 0; i < array->n_dims; i++)
    n *= array->dims[i];
  return n;
}

/* Reads all of it, where a sanitizer can see that. */
static void require_bytes(const mb_value *value)
{
  const size_t size = value->as.bytes.size;
  size_t sum = 0;
  REQUIRE(size == 0 || value->as.bytes.data != NULL);
  for (size_t i = 0; i < size; i++)
    sum += (unsigned char)value->as.bytes.data[i];
  REQUIRE(sum <= 255 * size);
}

/* The tag is the type's, but for numerics that are no numbers. */
static void require_value(const pg_type *type, const mb_value *value)
{
  if (type == NULL)
    REQUIRE(value->tag == MB_OTHER);
  else
    REQUIRE(value->tag == type->tag ||
            (type->kind == PG_KIND_NUMERIC && value->tag == MB_TEXT));
  if (value->tag == MB_BOOL)
    REQUIRE(value->as.integer == 0 || value->as.integer == 1);
  if (has_bytes(value->tag))
    require_bytes(value);
  if (value->tag != MB_ARRAY)
    return;
  const mb_array *array = value->as.array;
  const pg_type *element = pg_find_type(type->element);
  const size_t n = count_elements(array);
  REQUIRE(array->n_dims <= 6 && (n > 0) == (array->n_dims > 0));
  REQUIRE(element != NULL && array->element == element->tag);
  for (size_t i = 0; i < n; i++)
    if (array->elements[i].tag != MB_NULL)
      require_value(element, &array->elements[i]);
}

/* Not a number is the same as itself here, and zero is not minus zero. */
static bool is_same(const mb_value *a, const mb_value *b)
{
  if (a->tag != b->tag)
    return false;
  if (has_bytes(a->tag))
    return a->as.bytes.size == b->as.bytes.size &&
           (a->as.bytes.size == 0 || memcmp(a->as.bytes.data, b->as.bytes.data,
                                         a->as.bytes.size) == 0);
  switch (a->tag) {
  case MB_BOOL:
  case MB_INT64:
    return a->as.integer == b->as.integer;
  case MB_DOUBLE:
    return (isnan(a->as.real) && isnan(b->as.real)) ||
           (a->as.real == b->as.real &&
               signbit(a->as.real) == signbit(b->as.real));
  default:
    return true;
  }
}

static bool is_same_array(const mb_array *a, const mb_array *b)
{
  if (a->element != b->element || a->n_dims != b->n_dims ||
      memcmp(a->dims, b->dims, a->n_dims * sizeof *a->dims) != 0)
    return false;
  for (size_t i = 0; i < count_elements(a); i++)
    if (!is_same(&a->elements[i], &b->elements[i]))
      return false;
  return true;
}

/* --- Both ways ---------------------------------------------------------- */

/* Whether a text has a zero byte, which no server sends and none takes. */
static bool has_zero(const mb_value *value)
{
  if (value->tag != MB_ARRAY)
    return has_bytes(value->tag) && value->tag != MB_BLOB &&
           value->as.bytes.size > 0 &&
           memchr(value->as.bytes.data, '\0', value->as.bytes.size) != NULL;
  for (size_t i = 0; i < count_elements(value->as.array); i++)
    if (has_zero(&value->as.array->elements[i]))
      return true;
  return false;
}

/* What is sent for a value, with its type known or not, is read as it. */
static void require_way_back(
    mb_driver_conn *conn, const pg_type *type, const mb_value *value, bool told)
{
  pg_arena texts = {.host = conn->host};
  pg_params params;
  mb_value again;
  mb_error error = {.position = 0};
  if (pg_write_params(conn, told ? &type : NULL, value, 1, &params, &error) !=
      MB_OK) {
    REQUIRE(error.class == MB_RESOURCE
                ? memory_refused > 0
                : error.class == MB_DATA && has_zero(value));
  } else {
    REQUIRE(params.n == 1 && params.values[0] != NULL);
    const size_t size = params.formats[0] != 0 ? (size_t)params.lengths[0]
                                               : strlen(params.values[0]);
    if (pg_read_value(type, params.formats[0] != 0, params.values[0], size,
            &texts, &again))
      REQUIRE(value->tag == MB_ARRAY
                  ? is_same_array(value->as.array, again.as.array)
                  : is_same(value, &again));
    else
      REQUIRE(memory_refused > 0);
  }
  pg_arena_free(&texts);
  pg_arena_clear(&conn->sending);
}

static void require_sense(
    mb_driver_conn *conn, const pg_type *type, const mb_value *value)
{
  require_value(type, value);
  require_way_back(conn, type, value, true);
  /* What is no bytea takes bytes that say that they are. */
  require_way_back(conn, type, value, false);
  (void)pg_wants_types(value, 1);
  REQUIRE(type == NULL || pg_takes(&type, value, 1));
}

static void read_value(mb_driver_conn *conn, const pg_type *type, bool binary,
    const char *data, size_t size)
{
  pg_arena texts = {.host = conn->host};
  mb_value value;
  if (pg_read_value(type, binary, data, size, &texts, &value))
    require_sense(conn, type, &value);
  pg_arena_free(&texts);
}

/* --- In a row ----------------------------------------------------------- */

/* A row of the value, NULL, and a text. */
static PGresult *make_result(Oid oid, bool binary, char *data, size_t size)
{
  static char names[3][8] = {"value", "nothing", "text"};
  static char text[] = "abc";
  PGresAttDesc columns[3];
  PGresult *result = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
  REQUIRE(result != NULL);
  for (int i = 0; i < 3; i++)
    columns[i] = (PGresAttDesc){
        .name = names[i], .typid = i < 2 ? oid : 25, .format = binary};
  REQUIRE(PQsetResultAttrs(result, 3, columns) != 0);
  REQUIRE(PQsetvalue(result, 0, 0, data, (int)size) != 0);
  REQUIRE(PQsetvalue(result, 0, 1, NULL, -1) != 0);
  REQUIRE(PQsetvalue(result, 0, 2, text, 3) != 0);
  return result;
}

static void read_row(
    mb_driver_conn *conn, Oid oid, bool binary, char *data, size_t size)
{
  mb_error error = {.position = 0};
  mb_value row[3];
  mb_driver_stmt *stmt = pg_make_statement(conn, PG_SOURCE_SQL, &error);
  if (stmt == NULL) {
    REQUIRE(error.class == MB_RESOURCE && memory_refused > 0);
    return;
  }
  stmt->rows = make_result(oid, binary, data, size);
  stmt->is_binary = binary;
  stmt->n_rows = 1;
  if (pg_read_columns(stmt, stmt->rows, &error) != MB_OK) {
    REQUIRE(error.class == MB_RESOURCE && memory_refused > 0);
    REQUIRE(stmt->n_columns == 0);
  } else {
    REQUIRE(stmt->n_columns == 3);
    REQUIRE(strcmp(stmt->columns[2].name, "text") == 0);
    if (pg_give_row(stmt, row)) {
      require_sense(conn, pg_find_type(oid), &row[0]);
      REQUIRE(row[1].tag == MB_NULL);
      REQUIRE(row[2].tag == MB_TEXT && row[2].as.bytes.size == 3);
    } else {
      (void)pg_fail_row(conn, &error);
      REQUIRE(error.class == (memory_refused > 0 ? MB_RESOURCE : MB_DATA));
    }
  }
  pg_close_statement(stmt);
}

/* --- Statements --------------------------------------------------------- */

/* A COPY as a statement has a table and columns to ask for. */
static void load(mb_driver_stmt *stmt, const char *sql, size_t size)
{
  pg_load_question question;
  mb_error error = {.position = 0};
  if (pg_prepare_load(stmt, sql, size, &error) != MB_OK) {
    REQUIRE(error.class == MB_USAGE || memory_refused > 0);
    return;
  }
  REQUIRE(strlen(stmt->load) == size && strlen(stmt->sql) == stmt->size);
  REQUIRE(stmt->load[stmt->load_bracket] == '(');
  if (pg_write_load_question(stmt, &question, &error) != MB_OK) {
    REQUIRE(error.class == MB_RESOURCE && memory_refused > 0);
    return;
  }
  REQUIRE(strlen(question.table) > 0);
  REQUIRE(strlen(question.table) + strlen(question.columns) < size);
}

/* The core refuses texts with a zero byte. */
static void read_sql(mb_driver_conn *conn, const char *sql, size_t size)
{
  mb_error error = {.position = 0};
  if (memchr(sql, '\0', size) != NULL)
    return;
  const pg_judgement judgement = pg_judge(sql, size);
  REQUIRE(!judgement.is_transfer || judgement.is_copy);
  REQUIRE(!judgement.is_query || !judgement.is_copy);
  mb_driver_stmt *stmt = pg_make_statement(conn, PG_SOURCE_LOAD, &error);
  if (stmt == NULL)
    return;
  if (judgement.is_transfer)
    load(stmt, sql, size);
  pg_close_statement(stmt);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  if (size < HEADER)
    return 0;
  const Oid oid = choose_oid(data);
  const pg_type *type = pg_find_type(oid);
  const bool binary = (data[2] & BINARY) != 0;
  mb_driver_conn conn = {.host = &mb__host, .sending = {.host = &mb__host}};
  /* Of its own size, so that nothing stands behind it. */
  char *exact = malloc(size > HEADER ? size - HEADER : 1);
  REQUIRE(exact != NULL);
  memcpy(exact, data + HEADER, size - HEADER);
  memory_count();
  if (data[3] > 0)
    memory_refuse(data[3] - 1, 1);
  if ((data[2] & IS_SQL) != 0)
    read_sql(&conn, exact, size - HEADER);
  else if ((data[2] & IN_ROW) != 0)
    read_row(&conn, oid, binary, exact, size - HEADER);
  else
    read_value(&conn, type, binary, exact, size - HEADER);
  pg_arena_free(&conn.sending);
  REQUIRE(memory_held == 0);
  free(exact);
  return 0;
}
