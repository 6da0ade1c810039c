/*
 * many.c: one statement for many rows of parameters.
 *
 * In a transaction all rows go in one pipeline, filled as fast as the server
 * takes them; elsewhere each is a transaction of its own, and waits for the one
 * before, so that nothing is run behind one that has failed.
 */
#include "postgres.h"

/* What is put into libpq's buffer at once. */
#define BLOCK_SIZE 65536

/* Each row adds to the totals. */
static void count(mb_driver_conn *conn)
{
  if (conn->ended.affected > 0)
    conn->many.result->affected += conn->ended.affected;
}

/* --- One by one --------------------------------------------------------- */

static mb_status run_next(mb_driver_conn *conn, mb_op *op, mb_error *error);

static mb_status next_row(mb_driver_conn *conn, mb_op *op, mb_error *error)
{
  count(conn);
  conn->many.done++;
  return conn->many.done < conn->many.rows ? run_next(conn, op, error)
                                           : MB_DONE;
}

static mb_status run_next(mb_driver_conn *conn, mb_op *op, mb_error *error)
{
  mb_driver_stmt *stmt = conn->many.stmt;
  pg_params params;
  pg_arena_clear(&conn->sending);
  if (pg_write_params(conn, stmt->types,
          conn->many.params + conn->many.done * conn->many.n, conn->many.n,
          &params, error) != MB_OK) {
    error->row = (int64_t)conn->many.done + 1;
    return MB_ERROR;
  }
  if (pg_begin_request(conn, false, error) != MB_OK)
    return MB_ERROR;
  conn->ended = (mb_result){.affected = -1};
  conn->request.stmt = stmt;
  conn->request.text = stmt->sql;
  conn->request.result = &conn->ended;
  conn->request.discard = true;
  conn->request.many = true;
  conn->request.then = next_row;
  if (pg_add_part(conn,
          stmt->prepared && stmt->name[0] != '\0'
              ? PQsendQueryPrepared(conn->pq, stmt->name, params.n,
                    params.values, params.lengths, params.formats, 0)
              : PQsendQueryParams(conn->pq, stmt->sql, params.n,
                    stmt->type_oids, params.values, params.lengths,
                    params.formats, 0),
          PG_PART_RUN, error) != MB_OK)
    return MB_ERROR;
  return pg_end_request(conn, op, error);
}

/* --- All at once -------------------------------------------------------- */

/* Without a name each row would be parsed anew: with it the server does that
 * once. */
static int send_row(mb_driver_stmt *stmt, const pg_params *params)
{
  return PQsendQueryPrepared(stmt->conn->pq, stmt->name, params->n,
      params->values, params->lengths, params->formats, 0);
}

/* Puts further rows into libpq's buffer, which is empty; behind the last one
 * the sync. */
static mb_status feed(mb_driver_conn *conn, mb_error *error)
{
  mb_driver_stmt *stmt = conn->many.stmt;
  size_t size = 0;
  while (size < BLOCK_SIZE && conn->many.sent < conn->many.rows) {
    pg_params params;
    pg_arena_clear(&conn->sending);
    if (pg_write_params(conn, stmt->types,
            conn->many.params + conn->many.sent * conn->many.n, conn->many.n,
            &params, &conn->many.refusal) != MB_OK) {
      /* What was sent is undone by the transaction's end. */
      conn->many.refused = true;
      conn->many.rows = conn->many.sent;
      break;
    }
    if (send_row(stmt, &params) != 1)
      return pg_fail_lost(conn, error);
    conn->many.sent++;
    conn->request.repeat++;
    size += params.size + 16 * (size_t)params.n + 64;
  }
  if (conn->many.sent < conn->many.rows)
    return MB_OK;
  conn->request.feed = NULL;
  return pg_add_part(conn, PQpipelineSync(conn->pq), PG_PART_SYNC, error);
}

static mb_status sent_all(mb_driver_conn *conn, mb_op *op, mb_error *error)
{
  (void)op;
  if (!conn->many.refused)
    return MB_DONE;
  *error = conn->many.refusal;
  error->row = (int64_t)conn->many.rows + 1;
  return MB_ERROR;
}

static mb_status send_all(mb_driver_conn *conn, mb_op *op, mb_error *error)
{
  mb_driver_stmt *stmt = conn->many.stmt;
  if (pg_begin_request(conn, true, error) != MB_OK)
    return MB_ERROR;
  conn->ended = (mb_result){.affected = -1};
  conn->request.stmt = stmt;
  conn->request.text = stmt->sql;
  conn->request.result = &conn->ended;
  conn->request.discard = true;
  conn->request.many = true;
  conn->request.feed = feed;
  conn->request.then = sent_all;
  if (pg_add_part(conn, 1, PG_PART_RUN, error) != MB_OK)
    return MB_ERROR;
  conn->step = pg_read_request;
  return pg_read_request(conn, op, error);
}

static mb_status start(mb_driver_conn *conn, mb_op *op, mb_error *error)
{
  mb_driver_stmt *stmt = conn->many.stmt;
  if (stmt->source == PG_SOURCE_LOAD && stmt->rows != NULL)
    pg_take_load_answer(stmt);
  if (stmt->source == PG_SOURCE_LOAD)
    return pg_load_rows(conn, op, error);
  if (stmt->n_types != conn->many.n)
    return conn->host->fail(error, MB_USAGE,
        "the statement has %zu parameters, but %zu were given", stmt->n_types,
        conn->many.n);
  const bool together = pg_transaction_state(conn) == MB_TRANSACTION_ACTIVE &&
                        stmt->name[0] != '\0';
  return together ? send_all(conn, op, error) : run_next(conn, op, error);
}

void pg_count_row(mb_driver_conn *conn)
{
  count(conn);
  conn->ended.affected = -1;
  conn->many.done++;
}

mb_status pg_execute_many(mb_driver_stmt *stmt, const mb_value *params,
    size_t n, size_t rows, mb_result *result, mb_op *op, mb_error *error)
{
  mb_driver_conn *conn = stmt->conn;
  conn->many.stmt = stmt;
  conn->many.params = params;
  conn->many.n = n;
  conn->many.rows = rows;
  conn->many.sent = conn->many.done = 0;
  conn->many.refused = false;
  conn->many.result = result;
  result->affected = 0;
  conn->current = stmt;
  stmt->result = result;
  /* Blobs of the first row say what they are. */
  stmt->params = stmt->source == PG_SOURCE_LOAD ? NULL : params;
  stmt->n_params = n;
  if (stmt->epoch != conn->names_epoch)
    pg_forget_prepared(stmt);
  return stmt->described ? start(conn, op, error)
                         : pg_ask_types(stmt, start, op, error);
}
