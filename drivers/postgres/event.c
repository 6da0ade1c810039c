/* event.c: what a session says without being asked: notices, notifications, and
 * settings that have changed. */
#include "postgres.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *field(const PGresult *result, int which)
{
  const char *text = PQresultErrorField(result, which);
  return text != NULL ? text : "";
}

void pg_notice(void *argument, const PGresult *result)
{
  mb_driver_conn *conn = argument;
  const char *severity = field(result, PG_DIAG_SEVERITY_NONLOCALIZED);
  const char *code = field(result, PG_DIAG_SQLSTATE);
  if (strcmp(severity, "FATAL") == 0 || strcmp(severity, "PANIC") == 0) {
    /* It is told by the next call, which finds the session gone. */
    (void)snprintf(conn->farewell.code, sizeof conn->farewell.code, "%s", code);
    (void)snprintf(conn->farewell.message, sizeof conn->farewell.message, "%s",
        field(result, PG_DIAG_MESSAGE_PRIMARY));
    return;
  }
  const mb_event event = {
      .kind = MB_EVENT_NOTICE,
      .name = severity,
      .text = field(result, PG_DIAG_MESSAGE_PRIMARY),
      .code = code[0] != '\0' ? code : NULL,
  };
  conn->host->event(conn->owner, &event);
}

static void tell(mb_driver_conn *conn, PGnotify *heard)
{
  const mb_event event = {
      .kind = MB_EVENT_NOTIFICATION,
      .name = heard->relname,
      .text = heard->extra,
      .number = heard->be_pid,
  };
  conn->host->event(conn->owner, &event);
}

void pg_forget_heard_first(mb_driver_conn *conn)
{
  PGnotify *heard = conn->heard.first;
  conn->heard.first = heard->next;
  conn->heard.n--;
  if (conn->heard.first == NULL)
    conn->heard.last = NULL;
  PQfreemem(heard);
}

/* So many are kept for a command that takes them; a program that never calls it
 * hears of all by events. */
#define KEPT_MAX 10000

void pg_hear(mb_driver_conn *conn)
{
  PGnotify *heard;
  while ((heard = PQnotifies(conn->pq)) != NULL) {
    tell(conn, heard);
    heard->next = NULL;
    if (++conn->heard.n > KEPT_MAX)
      pg_forget_heard_first(conn);
    if (conn->heard.last != NULL)
      conn->heard.last->next = heard;
    else
      conn->heard.first = heard;
    conn->heard.last = heard;
  }
}

void pg_forget_heard(mb_driver_conn *conn)
{
  while (conn->heard.first != NULL)
    pg_forget_heard_first(conn);
}

void pg_follow_settings(mb_driver_conn *conn)
{
  static const char name[] = "standard_conforming_strings";
  const char *now = PQparameterStatus(conn->pq, name);
  const bool backslashes = now != NULL && strcmp(now, "off") == 0;
  if (backslashes == conn->backslashes)
    return;
  conn->backslashes = backslashes;
  conn->capability.lexical.backslash_strings = backslashes;
  const mb_event event = {
      .kind = MB_EVENT_PARAMETER, .name = name, .text = now};
  conn->host->event(conn->owner, &event);
}
