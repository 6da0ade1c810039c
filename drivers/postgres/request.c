/*
 * request.c: sending the parts of a request, and reading their answers.
 *
 * One part alone is a plain query of libpq's; several go in its pipeline mode,
 * where an error makes the server pass over all that follows up to the sync.
 * The first error is kept until everything was read, so that a call ends with
 * the connection ready for the next one.
 */
#include "postgres.h"

#include <string.h>

/* How many rows come in one result, where libpq can do that. */
#define CHUNK_ROWS 64
/* So many that nobody wants are listened to before the server is asked to stop:
 * that is dearer than most of what is left. */
#define ENOUGH_ROWS 1000

/* --- Waiting ------------------------------------------------------------ */

mb_status pg_wait(
    mb_driver_conn *conn, mb_op *op, unsigned events, unsigned flags)
{
  op->wait = (mb_wait){.fd = PQsocket(conn->pq),
      .events = events,
      .flags = flags,
      .deadline_ns = MB_NEVER,
      .fd_serial = conn->fd_serial};
  return MB_WAIT;
}

mb_status pg_pump(mb_driver_conn *conn, mb_op *op, mb_error *error)
{
  int unsent = PQflush(conn->pq);
  while (unsent == 0 && conn->request.feed != NULL) {
    if (conn->request.feed(conn, error) != MB_OK)
      return MB_ERROR;
    unsent = PQflush(conn->pq);
  }
  if (unsent < 0)
    return pg_fail_lost(conn, error);
  if (conn->ahead.next < conn->ahead.n || !PQisBusy(conn->pq))
    return MB_DONE;
  /* While both sides have something to say the server must be listened to. */
  return pg_wait(conn, op,
      unsent > 0 ? MB_READABLE_FD | MB_WRITABLE_FD : MB_READABLE_FD,
      conn->request.may_ask && conn->request.rows >= ENOUGH_ROWS ? MB_WAIT_ASK
                                                                 : 0);
}

/* --- Sending ------------------------------------------------------------ */

/* More parts than are added before the next look at the room for them: all that
 * was left to be done, and a few of the request's own. */
#define PARTS_FREE 64

mb_status pg_reserve_parts(mb_driver_conn *conn, mb_error *error)
{
  const size_t wanted = conn->request.n_parts + PARTS_FREE;
  if (conn->parts_room >= wanted)
    return MB_OK;
  pg_sent *parts =
      conn->host->reallocate(conn->parts, 2 * wanted * sizeof *conn->parts);
  if (parts == NULL)
    return pg_out_of_memory(conn->host, error);
  conn->parts = parts;
  conn->parts_room = 2 * wanted;
  return MB_OK;
}

mb_status pg_begin_request(mb_driver_conn *conn, bool several, mb_error *error)
{
  if (conn->copying != PG_COPY_NONE)
    return conn->host->fail(
        error, MB_USAGE, "a COPY is going on on this connection: end it first");
  if (conn->request.stepwise)
    return conn->host->fail(
        error, MB_USAGE, "a pipeline is open: end it first");
  if (conn->dead)
    return pg_fail_lost(conn, error);
  if (conn->request.at < conn->request.n_parts)
    return conn->host->fail(
        error, MB_USAGE, "rows are open on this connection");
  if (pg_reserve_parts(conn, error) != MB_OK)
    return MB_ERROR;
  const bool queued = pg_has_queue(conn);
  PQclear(conn->request.failure);
  conn->in_transaction =
      PQtransactionStatus(conn->pq) != PQTRANS_IDLE || conn->begin[0] != '\0';
  conn->request = (pg_request){.pipelined = several || queued};
  if (!conn->request.pipelined)
    return MB_OK;
  if (PQenterPipelineMode(conn->pq) != 1)
    return pg_fail_lost(conn, error);
  return queued ? pg_send_queue(conn, error) : MB_OK;
}

void pg_disown_parts(mb_driver_conn *conn, const mb_driver_stmt *stmt)
{
  for (size_t i = conn->request.at; i < conn->request.n_parts; i++)
    if (conn->parts[i].stmt == stmt)
      conn->parts[i].stmt = NULL;
}

mb_status pg_add_part(
    mb_driver_conn *conn, int sent, pg_part part, mb_error *error)
{
  pg_request *request = &conn->request;
  if (sent == 1) {
    request->sent = true;
    conn->parts[request->n_parts++] =
        (pg_sent){.part = part, .stmt = request->stmt};
    return MB_OK;
  }
  if (PQstatus(conn->pq) == CONNECTION_BAD)
    return pg_fail_lost(conn, error);
  /* Nobody knows which half of it is in libpq's buffer. */
  conn->dead = true;
  pg_out_of_memory(conn->host, error);
  error->flags |= MB_CONNECTION_DEAD | (request->sent ? MB_SENT : 0u);
  return MB_ERROR;
}

/* Rows are given as they come. */
static void want_rows(mb_driver_conn *conn)
{
  const pg_request *request = &conn->request;
  if (request->at >= request->n_parts ||
      conn->parts[request->at].part != PG_PART_RUN || request->whole ||
      request->many)
    return;
#ifdef LIBPQ_HAS_CHUNK_MODE
  if (request->stmt != NULL && !request->stmt->wide) {
    (void)PQsetChunkedRowsMode(conn->pq, CHUNK_ROWS);
    return;
  }
#endif
  (void)PQsetSingleRowMode(conn->pq);
}

mb_status pg_end_request(mb_driver_conn *conn, mb_op *op, mb_error *error)
{
  if (conn->request.pipelined &&
      pg_add_part(conn, PQpipelineSync(conn->pq), PG_PART_SYNC, error) != MB_OK)
    return MB_ERROR;
  pg_arena_clear(&conn->sending);
  want_rows(conn);
  conn->step = pg_read_request;
  return pg_read_request(conn, op, error);
}

mb_status pg_flush_queue(
    mb_driver_conn *conn, pg_step *then, mb_op *op, mb_error *error)
{
  if (pg_begin_request(conn, true, error) != MB_OK)
    return MB_ERROR;
  conn->request.then = then;
  return pg_end_request(conn, op, error);
}

/* --- Totals ------------------------------------------------------------- */

static bool is_tag(const char *tag, const char *word)
{
  const size_t size = strlen(word);
  return strncmp(tag, word, size) == 0 &&
         (tag[size] == '\0' || tag[size] == ' ');
}

void pg_note_totals(const PGresult *from, bool has_rows, mb_result *result)
{
  const char *tag = PQcmdStatus((PGresult *)from);
  const char *count = PQcmdTuples((PGresult *)from);
  size_t size = 0;
  while (size + 1 < sizeof result->tag && tag[size] != '\0' &&
         (tag[size] < '0' || tag[size] > '9'))
    size++;
  while (size > 0 && tag[size - 1] == ' ')
    size--;
  memcpy(result->tag, tag, size);
  result->tag[size] = '\0';

  result->affected = 0;
  for (; *count >= '0' && *count <= '9'; count++)
    result->affected = result->affected * 10 + (*count - '0');
  if (has_rows && !is_tag(tag, "INSERT") && !is_tag(tag, "UPDATE") &&
      !is_tag(tag, "DELETE") && !is_tag(tag, "MERGE"))
    result->affected = -1;
}

/* Words of a user after which names are gone. */
static void follow_tag(mb_driver_conn *conn, const PGresult *result)
{
  const char *tag = PQcmdStatus((PGresult *)result);
  if (strcmp(tag, "DISCARD ALL") != 0 && strcmp(tag, "DEALLOCATE ALL") != 0)
    return;
  conn->names_epoch++;
  pg_forget_names(conn);
  conn->sets = strcmp(tag, "DISCARD ALL") == 0;
}

/* --- Reading ------------------------------------------------------------ */

/* What a run has given, but for errors. */
static void take_rows(mb_driver_conn *conn, PGresult *result, mb_error *error)
{
  pg_request *request = &conn->request;
  mb_driver_stmt *stmt = request->stmt;
  const ExecStatusType status = PQresultStatus(result);
  const bool has_rows = PQnfields(result) > 0;
  /* The answer to a row that is there is given at once; all others come here
   * when a run ends. */
  if (stmt != NULL && !request->discard && has_rows && request->rows == 0 &&
      pg_read_columns(stmt, result, error) != MB_OK)
    request->broken = request->discard = true;
  if (status == PGRES_SINGLE_TUPLE || PQntuples(result) > 0)
    request->rows += (size_t)PQntuples(result);
  if (status == PGRES_COMMAND_OK && stmt != NULL && !request->discard) {
    stmt->columns_serial += stmt->n_columns > 0;
    stmt->n_columns = 0;
  }
  if (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK ||
      status == PGRES_EMPTY_QUERY) {
    if (request->result != NULL)
      pg_note_totals(result, has_rows, request->result);
    request->undone = stmt != NULL && stmt->is_commit &&
                      is_tag(PQcmdStatus(result), "ROLLBACK");
    follow_tag(conn, result);
  }
}

/* Keeps the first error; those of statements that are closed do no harm. */
static void take_failure(mb_driver_conn *conn, pg_part part, PGresult *result)
{
  pg_request *request = &conn->request;
  const bool lost = PQstatus(conn->pq) == CONNECTION_BAD;
  if ((part == PG_PART_CLOSE && !lost) || request->failure != NULL) {
    PQclear(result);
    return;
  }
  request->failure = result;
  request->failed_part = part;
}

static void next_part(mb_driver_conn *conn)
{
  pg_request *request = &conn->request;
  if (request->many && request->repeat > 0 &&
      conn->parts[request->at].part == PG_PART_RUN) {
    if (request->failure == NULL)
      pg_count_row(conn);
    if (--request->repeat > 0 || request->feed != NULL)
      return;
  }
  request->at++;
  want_rows(conn);
}

/* COPY cannot be told from a text that begins with another word. */
static void refuse_copy(mb_driver_conn *conn)
{
  conn->dead = true;
}

/* Takes one answer.  True: rows are there to be given. */
static bool take_answer(mb_driver_conn *conn, PGresult *result, mb_error *error)
{
  pg_request *request = &conn->request;
  const pg_part part = conn->parts[request->at].part;
  switch (PQresultStatus(result)) {
  case PGRES_PIPELINE_SYNC:
    PQclear(result);
    next_part(conn);
    return false;
  case PGRES_FATAL_ERROR:
  case PGRES_BAD_RESPONSE:
    take_failure(conn, part, result);
    return false;
  case PGRES_COPY_IN:
  case PGRES_COPY_OUT:
  case PGRES_COPY_BOTH:
    refuse_copy(conn);
    break;
  case PGRES_PIPELINE_ABORTED:
    if (part == PG_PART_PREPARE && request->stmt != NULL)
      pg_forget_prepared(request->stmt);
    break;
  default:
    if (part == PG_PART_PREPARE && request->stmt != NULL)
      request->stmt->prepared = true;
    if (part == PG_PART_DESCRIBE && request->stmt != NULL &&
        pg_read_description(request->stmt, result, error) != MB_OK)
      request->broken = request->discard = true;
    if (part == PG_PART_DECLARE && request->stmt != NULL)
      request->stmt->declared = true;
    if (part != PG_PART_RUN)
      break;
    take_rows(conn, result, error);
    if (request->stmt != NULL && !request->discard && PQntuples(result) > 0) {
      request->stmt->rows = result;
      request->stmt->is_binary = PQfformat(result, 0) != 0;
      request->stmt->row_at = 0;
      request->stmt->n_rows = PQntuples(result);
      return !request->whole;
    }
  }
  PQclear(result);
  return false;
}

static mb_origin origin_of(pg_part part)
{
  switch (part) {
  case PG_PART_PREPARE:
  case PG_PART_DESCRIBE:
    return MB_ORIGIN_PREPARE;
  case PG_PART_BEGIN:
    return MB_ORIGIN_BEGIN;
  case PG_PART_RESET:
    return MB_ORIGIN_RESET;
  default:
    return MB_ORIGIN_STATEMENT;
  }
}

/* A name that is missing, or there already, though this session has not done
 * that: its server is shared. */
static void suspect_pooler(mb_driver_conn *conn, const PGresult *failure)
{
  const char *code = PQresultErrorField(failure, PG_DIAG_SQLSTATE);
  if (code == NULL ||
      (strcmp(code, "26000") != 0 && strcmp(code, "42P05") != 0) ||
      atomic_exchange(&conn->connector->shares_sessions, true))
    return;
  const mb_event event = {
      .kind = MB_EVENT_NOTICE,
      .name = "WARNING",
      .code = code,
      .text = "the server does not know what was prepared in this session: it "
              "is behind a pooler that shares sessions.  Statements are no "
              "longer prepared; say so with statement_cache = 0",
  };
  conn->host->event(conn->owner, &event);
}

static mb_status report(mb_driver_conn *conn, mb_error *error)
{
  pg_request *request = &conn->request;
  mb_driver_stmt *stmt = request->stmt;
  PGresult *failure = request->failure;
  const pg_part part = request->failed_part;
  const bool own =
      part == PG_PART_RUN || part == PG_PART_PREPARE || part == PG_PART_DECLARE;
  request->failure = NULL;
  (void)pg_fail_result(
      conn, failure, own ? request->text : NULL, request->skipped, error);
  error->origin = origin_of(part);
  if (request->many && part == PG_PART_RUN)
    error->row = (int64_t)conn->many.done + 1;
  if (stmt != NULL && stmt->name[0] != '\0' && own) {
    const bool unknown = part == PG_PART_PREPARE || !stmt->prepared;
    const char *code = PQresultErrorField(failure, PG_DIAG_SQLSTATE);
    if (pg_is_stale(failure) ||
        (unknown && code != NULL && strcmp(code, "42P05") == 0)) {
      error->flags |= MB_STALE_STATEMENT;
      suspect_pooler(conn, failure);
    }
    if (unknown)
      pg_forget_prepared(stmt);
  }
  PQclear(failure);
  return MB_ERROR;
}

/* Everything was read. */
static mb_status conclude(mb_driver_conn *conn, mb_op *op, mb_error *error)
{
  pg_request *request = &conn->request;
  conn->step = NULL;
  if (conn->streaming == request->stmt)
    conn->streaming = NULL;
  if (request->stmt != NULL)
    request->stmt->running = false;
  pg_hear(conn);
  pg_follow_settings(conn);
  if (request->failure != NULL)
    return report(conn, error);
  if (conn->dead) {
    conn->host->fail(error, MB_UNSUPPORTED,
        "COPY between the program and the server is not run as a statement");
    error->flags |= MB_CONNECTION_DEAD | MB_SENT;
    return MB_ERROR;
  }
  if (request->broken) {
    (void)pg_fail_row(conn, error);
    error->flags |= MB_SENT;
    return MB_ERROR;
  }
  if (request->undone) {
    conn->host->fail(error, MB_ENGINE,
        "not committed: the transaction had failed and was rolled back");
    error->flags = MB_SENT;
    return MB_ERROR;
  }
  if (request->stopped)
    return conn->host->fail(error, MB_CANCELED, "stopped");
  if (request->stmt != NULL && !request->discard)
    pg_give_columns(request->stmt, request->stmt->result);
  pg_step *then = request->then;
  request->then = NULL;
  return then != NULL ? then(conn, op, error) : MB_DONE;
}

/* The connection broke, or nobody can tell what else would come. */
static mb_status break_off(mb_driver_conn *conn, mb_error *error)
{
  pg_request *request = &conn->request;
  conn->step = NULL;
  conn->streaming = NULL;
  conn->dead = true;
  if (request->stmt != NULL)
    request->stmt->running = false;
  if (request->failure != NULL)
    return report(conn, error);
  return pg_fail_lost(conn, error);
}

/* Of a pipeline, the statement whose answer comes. */
static void enter_part(mb_driver_conn *conn)
{
  pg_request *request = &conn->request;
  const pg_sent *sent = &conn->parts[request->at];
  request->stmt = sent->stmt;
  request->text = sent->stmt != NULL ? sent->stmt->sql : NULL;
}

/* One run of a pipeline has ended. */
static mb_status end_run(mb_driver_conn *conn, mb_error *error)
{
  pg_request *request = &conn->request;
  mb_driver_stmt *stmt = request->stmt;
  const bool broken = request->broken;
  conn->step = NULL;
  request->discard = request->broken = request->undone = false;
  request->rows = 0;
  if (broken) {
    (void)pg_fail_row(conn, error);
    request->unread = 0;
    return MB_ERROR;
  }
  if (stmt != NULL && request->result != NULL)
    pg_give_columns(stmt, request->result);
  conn->ran = stmt;
  return MB_DONE;
}

/* Everything up to a sync was read. */
static mb_status end_segment(mb_driver_conn *conn, mb_error *error)
{
  conn->step = NULL;
  conn->ran = NULL;
  pg_hear(conn);
  pg_follow_settings(conn);
  return conn->request.failure != NULL ? report(conn, error) : MB_DONE;
}

/* Behind the last part.  In a pipeline the sync was the last. */
static mb_status end_parts(mb_driver_conn *conn, mb_op *op, mb_error *error)
{
  if (conn->request.pipelined && PQexitPipelineMode(conn->pq) != 1)
    return break_off(conn, error);
  return conclude(conn, op, error);
}

PGresult *pg_next_result(mb_driver_conn *conn)
{
  return conn->ahead.next < conn->ahead.n
             ? conn->ahead.results[conn->ahead.next++]
             : PQgetResult(conn->pq);
}

mb_status pg_read_request(mb_driver_conn *conn, mb_op *op, mb_error *error)
{
  pg_request *request = &conn->request;
  for (;;) {
    if (request->at >= request->n_parts)
      return end_parts(conn, op, error);
    if (conn->dead && request->failure == NULL)
      return break_off(conn, error);
    const mb_status status = pg_pump(conn, op, error);
    if (status == MB_WAIT)
      return MB_WAIT;
    if (status == MB_ERROR)
      return break_off(conn, error);
    PGresult *result = pg_next_result(conn);
    if (result == NULL) {
      if (PQstatus(conn->pq) == CONNECTION_BAD)
        return break_off(conn, error);
      const bool ran = conn->parts[request->at].part == PG_PART_RUN;
      next_part(conn);
      if (request->stepwise && ran && request->failure == NULL)
        return end_run(conn, error);
      continue;
    }
    if (request->stepwise)
      enter_part(conn);
    if (request->stepwise && PQresultStatus(result) == PGRES_PIPELINE_SYNC) {
      PQclear(result);
      next_part(conn);
      return end_segment(conn, error);
    }
    if (!take_answer(conn, result, error))
      continue;
    /* A row that comes behind the wish to stop is none: the server has been
     * asked, and what it answers belongs to this call. */
    if (atomic_load_explicit(&op->stop, memory_order_relaxed) != MB_GO_ON) {
      request->stopped = request->discard = true;
      pg_clear_rows(request->stmt);
      continue;
    }
    if (request->row == NULL) {
      pg_give_columns(request->stmt,
          request->stepwise ? request->result : request->stmt->result);
      return MB_ROW;
    }
    if (pg_give_row(request->stmt, request->row))
      return MB_ROW;
    request->broken = request->discard = true;
  }
}

/* --- Texts -------------------------------------------------------------- */

mb_status pg_run_text(mb_driver_conn *conn, const char *sql, mb_result *result,
    pg_step *then, mb_op *op, mb_error *error)
{
  if (pg_begin_request(conn, false, error) != MB_OK)
    return MB_ERROR;
  conn->request.result = result;
  conn->request.discard = true;
  conn->request.then = then;
  if (pg_add_part(conn,
          PQsendQueryParams(conn->pq, sql, 0, NULL, NULL, NULL, NULL, 0),
          PG_PART_RUN, error) != MB_OK)
    return MB_ERROR;
  return pg_end_request(conn, op, error);
}
