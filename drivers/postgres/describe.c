/* describe.c: what is prepared on the server, and what it says of that. */
#include "postgres.h"

#include <stdio.h>
#include <string.h>

bool pg_may_prepare(const mb_driver_conn *conn)
{
  return !conn->connector->unprepared &&
         !atomic_load_explicit(
             &conn->connector->shares_sessions, memory_order_relaxed);
}

bool pg_may_keep(const mb_driver_stmt *stmt)
{
  return stmt->source == PG_SOURCE_SQL && pg_may_prepare(stmt->conn) &&
         !stmt->is_huge;
}

void pg_forget_prepared(mb_driver_stmt *stmt)
{
  stmt->name[0] = '\0';
  stmt->prepared = false;
  stmt->described = false;
  stmt->binary = false;
}

void pg_drop_prepared(mb_driver_stmt *stmt)
{
  if (stmt->prepared && stmt->name[0] != '\0' &&
      stmt->epoch == stmt->conn->names_epoch)
    pg_close_name(stmt->conn, stmt->name);
  pg_forget_prepared(stmt);
}

mb_status pg_send_prepare(
    mb_driver_stmt *stmt, int n, const Oid *types, mb_error *error)
{
  mb_driver_conn *conn = stmt->conn;
  stmt->name[0] = '\0';
  if (pg_may_keep(stmt))
    (void)snprintf(
        stmt->name, sizeof stmt->name, "%s%u", conn->prefix, ++conn->last_name);
  stmt->epoch = conn->names_epoch;
  if (pg_add_part(conn,
          PQsendPrepare(conn->pq, stmt->name, stmt->sql, n, types),
          PG_PART_PREPARE, error) != MB_OK)
    return MB_ERROR;
  if (stmt->is_huge)
    return MB_OK;
  return pg_add_part(conn, PQsendDescribePrepared(conn->pq, stmt->name),
      PG_PART_DESCRIBE, error);
}

static mb_status read_parameters(
    mb_driver_stmt *stmt, const PGresult *result, mb_error *error)
{
  const mb_host *host = stmt->conn->host;
  const size_t n = (size_t)PQnparams(result);
  const pg_type **types =
      host->reallocate((void *)stmt->types, (n + 1) * sizeof *types);
  if (types == NULL)
    return pg_out_of_memory(host, error);
  stmt->types = types;
  Oid *oids = host->reallocate(stmt->type_oids, (n + 1) * sizeof *oids);
  if (oids == NULL)
    return pg_out_of_memory(host, error);
  stmt->type_oids = oids;
  for (size_t i = 0; i < n; i++) {
    oids[i] = PQparamtype(result, (int)i);
    types[i] = pg_find_type(oids[i]);
  }
  stmt->n_types = n;
  return MB_OK;
}

bool pg_has_binary(const pg_type *type)
{
  if (type != NULL && type->kind == PG_KIND_ARRAY)
    type = pg_find_type(type->element);
  return type != NULL && type->kind != PG_KIND_OTHER;
}

/* Whether values of a type may be longer than a few bytes. */
static bool is_long(const pg_type *type)
{
  return type == NULL || type->kind == PG_KIND_TEXT ||
         type->kind == PG_KIND_OTHER || type->kind == PG_KIND_BYTEA ||
         type->kind == PG_KIND_JSONB || type->kind == PG_KIND_NUMERIC ||
         type->kind == PG_KIND_ARRAY;
}

mb_status pg_read_description(
    mb_driver_stmt *stmt, const PGresult *result, mb_error *error)
{
  if (read_parameters(stmt, result, error) != MB_OK ||
      pg_read_columns(stmt, result, error) != MB_OK)
    return MB_ERROR;
  stmt->described = true;
  stmt->binary = true;
  stmt->wide = false;
  for (size_t i = 0; i < stmt->n_columns; i++) {
    stmt->binary &= pg_has_binary(stmt->column_types[i]);
    stmt->wide |= is_long(stmt->column_types[i]);
  }
  return MB_OK;
}

mb_status pg_ask_types(
    mb_driver_stmt *stmt, pg_step *then, mb_op *op, mb_error *error)
{
  mb_driver_conn *conn = stmt->conn;
  pg_params params = {.n = 0};
  pg_load_question question;
  const bool loads = stmt->source == PG_SOURCE_LOAD;
  pg_arena_clear(&conn->sending);
  /* Blobs say what they are, now as later. */
  if ((stmt->params != NULL && pg_write_types(conn, stmt->params,
                                   stmt->n_params, &params, error) != MB_OK) ||
      (loads && pg_write_load_question(stmt, &question, error) != MB_OK) ||
      pg_begin_request(conn, true, error) != MB_OK)
    return MB_ERROR;
  conn->current = stmt;
  conn->request.stmt = stmt;
  conn->request.text = stmt->sql;
  conn->request.then = then;
  if (pg_send_prepare(stmt, params.n, params.types, error) != MB_OK ||
      (loads && pg_send_load_question(stmt, &question, error) != MB_OK))
    return MB_ERROR;
  return pg_end_request(conn, op, error);
}

static void give(const mb_driver_stmt *stmt, mb_prepared *prepared)
{
  prepared->n_parameters = (int)stmt->n_types;
  prepared->returns_rows = stmt->n_columns > 0;
}

static mb_status described(mb_driver_conn *conn, mb_op *op, mb_error *error)
{
  mb_driver_stmt *stmt = conn->current;
  (void)op;
  (void)error;
  if (stmt->is_huge) {
    stmt->prepared = false;
    return MB_DONE;
  }
  if (stmt->source == PG_SOURCE_LOAD)
    pg_take_load_answer(stmt);
  give(stmt, stmt->description);
  pg_give_columns(stmt, stmt->result);
  return MB_DONE;
}

mb_status pg_describe(mb_driver_stmt *stmt, mb_prepared *prepared,
    mb_result *result, mb_op *op, mb_error *error)
{
  stmt->params = NULL;
  stmt->description = prepared;
  stmt->result = result;
  if (stmt->described && stmt->epoch == stmt->conn->names_epoch) {
    give(stmt, prepared);
    pg_give_columns(stmt, result);
    return MB_DONE;
  }
  pg_forget_prepared(stmt);
  return pg_ask_types(stmt, described, op, error);
}
