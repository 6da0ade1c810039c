/* column.c: what a result says of its columns. */
#include "postgres.h"

#include <string.h>

/* Whether the columns are those that are known already. */
static bool are_known(const mb_driver_stmt *stmt, const PGresult *result)
{
  if (stmt->columns_serial == 0 || stmt->n_columns != (size_t)PQnfields(result))
    return false;
  for (size_t i = 0; i < stmt->n_columns; i++)
    if (stmt->column_oids[i] != PQftype(result, (int)i) ||
        strcmp(stmt->columns[i].name, PQfname(result, (int)i)) != 0)
      return false;
  return true;
}

static bool grow(const mb_host *host, void **memory, size_t size)
{
  void *grown = host->reallocate(*memory, size);
  if (grown != NULL)
    *memory = grown;
  return grown != NULL;
}

static mb_status make_room(
    mb_driver_stmt *stmt, size_t n, size_t texts_size, mb_error *error)
{
  const mb_host *host = stmt->conn->host;
  void *columns = stmt->columns;
  void *types = (void *)stmt->column_types;
  void *oids = stmt->column_oids;
  void *texts = stmt->column_texts;
  bool there = true;
  if (n > stmt->columns_room) {
    there = grow(host, &columns, n * sizeof *stmt->columns) &&
            grow(host, &types, n * sizeof *stmt->column_types) &&
            grow(host, &oids, n * sizeof *stmt->column_oids);
    stmt->columns = columns;
    stmt->column_types = (const pg_type **)types;
    stmt->column_oids = oids;
    if (there)
      stmt->columns_room = n;
  }
  if (there && texts_size > stmt->texts_room) {
    there = grow(host, &texts, texts_size);
    stmt->column_texts = texts;
    if (there)
      stmt->texts_room = texts_size;
  }
  return there ? MB_OK : pg_out_of_memory(host, error);
}

mb_status pg_read_columns(
    mb_driver_stmt *stmt, const PGresult *result, mb_error *error)
{
  if (are_known(stmt, result))
    return MB_OK;
  const size_t n = (size_t)PQnfields(result);
  size_t size = 0;
  for (size_t i = 0; i < n; i++)
    size += strlen(PQfname(result, (int)i)) + 1;
  stmt->n_columns = 0; /* none, should there be no memory */
  if (make_room(stmt, n, size, error) != MB_OK)
    return MB_ERROR;
  char *at = stmt->column_texts;
  for (size_t i = 0; i < n; i++) {
    const char *name = PQfname(result, (int)i);
    const size_t length = strlen(name) + 1;
    const Oid oid = PQftype(result, (int)i);
    const pg_type *type = pg_find_type(oid);
    memcpy(at, name, length);
    stmt->columns[i] = (mb_column){.name = at,
        .type = type != NULL ? type->name : NULL,
        .tag = type != NULL ? type->tag : MB_OTHER,
        .nullable = -1};
    stmt->column_types[i] = type;
    stmt->column_oids[i] = oid;
    at += length;
  }
  stmt->n_columns = n;
  stmt->columns_serial++;
  return MB_OK;
}

mb_status pg_make_columns(mb_driver_stmt *stmt, const char *const *names,
    const mb_tag *tags, size_t n, mb_error *error)
{
  if (make_room(stmt, n, 0, error) != MB_OK)
    return MB_ERROR;
  for (size_t i = 0; i < n; i++)
    stmt->columns[i] =
        (mb_column){.name = names[i], .tag = tags[i], .nullable = 0};
  stmt->n_columns = n;
  stmt->columns_serial++;
  return MB_OK;
}

void pg_give_columns(const mb_driver_stmt *stmt, mb_result *result)
{
  result->columns = stmt->columns;
  result->n_columns = stmt->n_columns;
  result->columns_serial = stmt->columns_serial;
}
