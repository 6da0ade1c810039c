/*
 * queue.c: what travels with the next request, in front of it.
 *
 * Statements are closed up to a sync of their own, since that may fail without
 * harm.  All else fails together with what comes behind it: a session that
 * could not be reset runs nothing.  The reset is a transaction, so that the end
 * of a later one cannot undo it.
 */
#include "postgres.h"

#include <stdio.h>
#include <string.h>

/* What DISCARD ALL does, but for the prepared statements. */
static const char *const reset[] = {
    "begin",
    "reset session authorization",
    "reset all",
    "close all",
    "unlisten *",
    "select pg_advisory_unlock_all()",
    "discard temp",
    "discard sequences",
};

/* What values are written by; a role, a database or a server may prefer
 * something else, and not all of it is told by the server. */
static const char settings[] =
    "select set_config('TimeZone', $1, false), "
    "set_config('DateStyle', 'ISO', false), "
    "set_config('IntervalStyle', 'postgres', false), "
    "set_config('bytea_output', 'hex', false), "
    "set_config('extra_float_digits', '1', false), "
    "set_config('standard_conforming_strings', 'on', false)";

/* Names are closed where that cannot harm: a name that is not there would make
 * a transaction fail, unless libpq can close it by a message of the protocol.
 */
static bool may_close(const mb_driver_conn *conn)
{
#ifdef LIBPQ_HAS_CLOSE_PREPARED
  (void)conn;
  return true;
#else
  return PQtransactionStatus(conn->pq) == PQTRANS_IDLE;
#endif
}

bool pg_has_queue(const mb_driver_conn *conn)
{
  return conn->resets || conn->sets || conn->begin[0] != '\0' ||
         (conn->closing != NULL && may_close(conn));
}

static mb_status send_text(mb_driver_conn *conn, const char *text, int n,
    const char *const *values, pg_part part, mb_error *error)
{
  return pg_add_part(conn,
      PQsendQueryParams(conn->pq, text, n, NULL, values, NULL, NULL, 0), part,
      error);
}

static mb_status send_close(
    mb_driver_conn *conn, const char *name, mb_error *error)
{
#ifdef LIBPQ_HAS_CLOSE_PREPARED
  return pg_add_part(
      conn, PQsendClosePrepared(conn->pq, name), PG_PART_CLOSE, error);
#else
  char text[64];
  (void)snprintf(text, sizeof text, "deallocate \"%s\"", name);
  return send_text(conn, text, 0, NULL, PG_PART_CLOSE, error);
#endif
}

static mb_status send_closes(mb_driver_conn *conn, mb_error *error)
{
  if (conn->closing == NULL || !may_close(conn))
    return MB_OK;
  for (int i = 0; i < PG_CLOSES_MAX && conn->closing != NULL; i++) {
    pg_name *name = conn->closing;
    const mb_status status = send_close(conn, name->text, error);
    conn->closing = name->next;
    conn->host->release(name);
    if (status != MB_OK)
      return MB_ERROR;
  }
  return pg_add_part(conn, PQpipelineSync(conn->pq), PG_PART_SYNC, error);
}

mb_status pg_send_queue(mb_driver_conn *conn, mb_error *error)
{
  const char *const zone[] = {conn->connector->time_zone};
  if (send_closes(conn, error) != MB_OK)
    return MB_ERROR;
  if (conn->resets)
    for (size_t i = 0; i < sizeof reset / sizeof reset[0]; i++)
      if (send_text(conn, reset[i], 0, NULL, PG_PART_RESET, error) != MB_OK)
        return MB_ERROR;
  if (conn->sets &&
      send_text(conn, settings, 1, zone, PG_PART_RESET, error) != MB_OK)
    return MB_ERROR;
  if (conn->resets &&
      send_text(conn, "commit", 0, NULL, PG_PART_RESET, error) != MB_OK)
    return MB_ERROR;
  conn->resets = false;
  conn->sets = false;
  if (conn->begin[0] != '\0') {
    if (send_text(conn, conn->begin, 0, NULL, PG_PART_BEGIN, error) != MB_OK)
      return MB_ERROR;
    conn->begin[0] = '\0';
  }
  return MB_OK;
}

void pg_close_name(mb_driver_conn *conn, const char *name)
{
  pg_name *one = conn->host->allocate(sizeof *one);
  if (one == NULL)
    return; /* it goes with the session */
  (void)snprintf(one->text, sizeof one->text, "%s", name);
  one->next = conn->closing;
  conn->closing = one;
}

void pg_forget_names(mb_driver_conn *conn)
{
  while (conn->closing != NULL) {
    pg_name *next = conn->closing->next;
    conn->host->release(conn->closing);
    conn->closing = next;
  }
}
