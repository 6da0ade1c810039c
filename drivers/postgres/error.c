/*
 * error.c: from what the server or libpq says to a class and its consequences.
 *
 * The class follows from SQLSTATE alone; whether the session is gone from the
 * severity and from the state of the connection.
 */
#include "postgres.h"

#include <stdio.h>
#include <string.h>

#define CODE_SIZE 5

mb_status pg_out_of_memory(const mb_host *host, mb_error *error)
{
  return host->fail(error, MB_RESOURCE, "out of memory");
}

mb_status pg_fail_row(mb_driver_conn *conn, mb_error *error)
{
  const size_t column = conn->request.unread;
  if (column == 0)
    return pg_out_of_memory(conn->host, error);
  return conn->host->fail(error, MB_DATA,
      "what the server has sent for column %zu is no value of its type",
      column);
}

/* --- Codes -------------------------------------------------------------- */

/* The first entry that is a beginning of the code. */
static const struct {
  const char *code;
  mb_class class;
  unsigned flags;
  mb_constraint_kind kind;
} codes[] = {
    {"08", MB_CONNECTION_LOST, MB_CONNECTION_DEAD, MB_CONSTRAINT_NONE},
    {"22", MB_DATA, 0, MB_CONSTRAINT_NONE},
    {"23502", MB_CONSTRAINT, 0, MB_CONSTRAINT_NOT_NULL},
    {"23503", MB_CONSTRAINT, 0, MB_CONSTRAINT_FOREIGN_KEY},
    {"23505", MB_CONSTRAINT, 0, MB_CONSTRAINT_UNIQUE},
    {"23514", MB_CONSTRAINT, 0, MB_CONSTRAINT_CHECK},
    {"23P01", MB_CONSTRAINT, 0, MB_CONSTRAINT_EXCLUSION},
    {"23", MB_CONSTRAINT, 0, MB_CONSTRAINT_NONE},
    {"25006", MB_READ_ONLY, 0, MB_CONSTRAINT_NONE},
    {"25P03", MB_CONNECTION_LOST, MB_CONNECTION_DEAD | MB_SESSION_ONLY,
        MB_CONSTRAINT_NONE},
    {"25P04", MB_CONNECTION_LOST, MB_CONNECTION_DEAD | MB_SESSION_ONLY,
        MB_CONSTRAINT_NONE},
    {"28", MB_PERMISSION, 0, MB_CONSTRAINT_NONE},
    {"40001", MB_SERIALIZATION, MB_RETRYABLE, MB_CONSTRAINT_NONE},
    {"40P01", MB_SERIALIZATION, MB_RETRYABLE, MB_CONSTRAINT_NONE},
    {"42501", MB_PERMISSION, 0, MB_CONSTRAINT_NONE},
    {"42", MB_SYNTAX, 0, MB_CONSTRAINT_NONE},
    {"53", MB_RESOURCE, 0, MB_CONSTRAINT_NONE},
    {"55P03", MB_TIMEOUT, MB_RETRYABLE, MB_CONSTRAINT_NONE},
    {"57014", MB_CANCELED, 0, MB_CONSTRAINT_NONE},
    {"57P01", MB_CONNECTION_LOST, MB_CONNECTION_DEAD, MB_CONSTRAINT_NONE},
    {"57P02", MB_CONNECTION_LOST, MB_CONNECTION_DEAD, MB_CONSTRAINT_NONE},
    {"57P03", MB_CONNECTION_LOST, MB_CONNECTION_DEAD, MB_CONSTRAINT_NONE},
    {"57P04", MB_CONNECTION_LOST, MB_CONNECTION_DEAD, MB_CONSTRAINT_NONE},
    {"57P05", MB_CONNECTION_LOST, MB_CONNECTION_DEAD | MB_SESSION_ONLY,
        MB_CONSTRAINT_NONE},
};

/* What a code means; fatal: the server ended the session with it. */
static void classify(const char *code, bool fatal, mb_error *error)
{
  size_t i = 0;
  while (i < sizeof codes / sizeof codes[0] &&
         strncmp(code, codes[i].code, strlen(codes[i].code)) != 0)
    i++;
  error->class = MB_ENGINE;
  if (i < sizeof codes / sizeof codes[0]) {
    error->class = codes[i].class;
    error->flags |= codes[i].flags;
    error->constraint_kind = codes[i].kind;
  }
  if (fatal) {
    error->class = MB_CONNECTION_LOST;
    error->flags |= MB_CONNECTION_DEAD;
    error->flags &= ~(unsigned)MB_RETRYABLE;
  }
}

static const char *field(const PGresult *result, int which)
{
  const char *text = PQresultErrorField(result, which);
  return text != NULL ? text : "";
}

static bool is_fatal(const PGresult *result)
{
  const char *severity = field(result, PG_DIAG_SEVERITY_NONLOCALIZED);
  return strcmp(severity, "FATAL") == 0 || strcmp(severity, "PANIC") == 0;
}

bool pg_is_stale(const PGresult *result)
{
  const char *code = field(result, PG_DIAG_SQLSTATE);
  /* 0A000 is used for all that is not supported: the place in the server tells
   * what it was. */
  return strcmp(code, "26000") == 0 ||
         (strcmp(code, "0A000") == 0 &&
             strcmp(field(result, PG_DIAG_SOURCE_FUNCTION),
                 "RevalidateCachedQuery") == 0);
}

/* --- Texts -------------------------------------------------------------- */

static void set(
    const mb_host *host, mb_error *error, mb_field which, const char *text)
{
  host->error_set(error, which, text, strlen(text));
}

/* "Key (a, b)=(1, 2) …": the columns of a key, in any language. */
static void name_columns(
    const mb_host *host, const char *detail, mb_error *error)
{
  const char *at = strchr(detail, '(');
  const char *end = strstr(detail, ")=(");
  if (at == NULL || end == NULL || end < at)
    return;
  for (at++; at < end;) {
    const char *next = strstr(at, ", ");
    if (next == NULL || next > end)
      next = end;
    /* Not of an expression, nor of a name in quotes. */
    const size_t size = (size_t)(next - at);
    if (memchr(at, '(', size) == NULL && memchr(at, '"', size) == NULL)
      host->error_set(error, MB_COLUMNS, at, size);
    at = next + 2;
  }
}

static void set_fields(
    const mb_host *host, const PGresult *result, mb_error *error)
{
  static const struct {
    int which;
    mb_field field;
  } fields[] = {
      {PG_DIAG_SQLSTATE, MB_CODE},
      {PG_DIAG_CONSTRAINT_NAME, MB_CONSTRAINT_NAME},
      {PG_DIAG_SCHEMA_NAME, MB_SCHEMA},
      {PG_DIAG_TABLE_NAME, MB_TABLE},
      {PG_DIAG_COLUMN_NAME, MB_COLUMNS},
      {PG_DIAG_MESSAGE_HINT, MB_HINT},
      {PG_DIAG_MESSAGE_DETAIL, MB_DETAIL},
  };
  for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++)
    set(host, error, fields[i].field, field(result, fields[i].which));
  if (error->constraint_kind == MB_CONSTRAINT_UNIQUE ||
      error->constraint_kind == MB_CONSTRAINT_FOREIGN_KEY)
    name_columns(host, field(result, PG_DIAG_MESSAGE_DETAIL), error);

  /* The server does not tell a primary key from others but by the name that it
   * gives it. */
  const char *table = field(result, PG_DIAG_TABLE_NAME);
  const char *name = field(result, PG_DIAG_CONSTRAINT_NAME);
  const size_t size = strlen(table);
  if (error->constraint_kind == MB_CONSTRAINT_UNIQUE && size > 0 &&
      strncmp(name, table, size) == 0 && strcmp(name + size, "_pkey") == 0)
    error->constraint_kind = MB_CONSTRAINT_PRIMARY_KEY;
}

/* The byte, from 1, of a character, from 1, of a text in UTF-8. */
static size_t byte_of(const char *text, size_t character)
{
  size_t at = 0;
  for (size_t n = 1; n < character && text[at] != '\0'; n++) {
    at++;
    while (((unsigned char)text[at] & 0xC0) == 0x80)
      at++;
  }
  return at + 1;
}

static size_t position_of(
    const PGresult *result, const char *text, size_t skipped)
{
  const char *digits = field(result, PG_DIAG_STATEMENT_POSITION);
  size_t position = 0;
  for (; *digits >= '0' && *digits <= '9'; digits++)
    position = position * 10 + (size_t)(*digits - '0');
  if (text == NULL || position <= skipped)
    return 0;
  return byte_of(text, position - skipped);
}

/* "COPY item, line 3, column id": of a bulk load, the row. */
static int64_t row_of(const PGresult *result)
{
  const char *at = field(result, PG_DIAG_CONTEXT);
  if (strncmp(at, "COPY ", 5) != 0)
    return 0;
  at = strchr(at, ',');
  if (at == NULL)
    return 0;
  at += strcspn(at, "0123456789\n");
  int64_t row = 0;
  for (; *at >= '0' && *at <= '9' && row < INT64_MAX / 10 - 1; at++)
    row = row * 10 + (*at - '0');
  return row;
}

mb_status pg_fail_result(mb_driver_conn *conn, const PGresult *result,
    const char *text, size_t skipped, mb_error *error)
{
  const mb_host *host = conn->host;
  const char *code = field(result, PG_DIAG_SQLSTATE);
  const bool lost = PQstatus(conn->pq) == CONNECTION_BAD;
  if (code[0] == '\0') {
    if (lost)
      return pg_fail_lost(conn, error);
    /* Not the server's words, but libpq's: there was no memory. */
    const char *message = PQresultErrorMessage(result);
    return host->fail(
        error, MB_RESOURCE, "%.*s", (int)strcspn(message, "\n"), message);
  }
  host->fail(error, MB_ENGINE, "%s", field(result, PG_DIAG_MESSAGE_PRIMARY));
  classify(code, is_fatal(result) || lost, error);
  error->flags |= MB_SENT;
  set_fields(host, result, error);
  error->position = position_of(result, text, skipped);
  error->row = row_of(result);
  if (error->flags & MB_CONNECTION_DEAD)
    conn->dead = true;
  return MB_ERROR;
}

/* --- Connections -------------------------------------------------------- */

/* libpq's words in one line. */
static void one_line(const char *from, char *out, size_t size)
{
  size_t n = 0;
  bool space = false;
  for (; *from != '\0' && n + 2 < size; from++) {
    if (*from == '\n' || *from == '\t' || *from == ' ') {
      space = n > 0;
      continue;
    }
    if (space)
      out[n++] = ' ';
    space = false;
    out[n++] = *from;
  }
  out[n] = '\0';
}

mb_status pg_fail_lost(mb_driver_conn *conn, mb_error *error)
{
  const mb_host *host = conn->host;
  char message[512];
  conn->dead = true;
  if (conn->farewell.code[0] != '\0') {
    host->fail(error, MB_CONNECTION_LOST, "%s", conn->farewell.message);
    classify(conn->farewell.code, true, error);
    set(host, error, MB_CODE, conn->farewell.code);
  } else {
    one_line(PQerrorMessage(conn->pq), message, sizeof message);
    host->fail(error, MB_CONNECTION_LOST, "%s",
        message[0] != '\0' ? message : "the connection to the server is lost");
  }
  error->flags |= MB_CONNECTION_DEAD | (conn->request.sent ? MB_SENT : 0u);
  return MB_ERROR;
}

static bool is_code(const char *text)
{
  for (int i = 0; i < CODE_SIZE; i++)
    if ((text[i] < '0' || text[i] > '9') && (text[i] < 'A' || text[i] > 'Z'))
      return false;
  return true;
}

/* libpq gives the code of a connection that was refused only inside a message:
 * "FATAL:  28P01: …" where it is asked to be verbose.  The last one counts. */
static void find_code(const char *message, char *code)
{
  code[0] = '\0';
  for (const char *at = message; (at = strstr(at, ":  ")) != NULL; at++)
    if (strlen(at) > 3 + CODE_SIZE && is_code(at + 3) &&
        at[3 + CODE_SIZE] == ':') {
      memcpy(code, at + 3, CODE_SIZE);
      code[CODE_SIZE] = '\0';
    }
}

/* Takes out the code, and the line that names a place in the server. */
static void drop_details(char *message, const char *code)
{
  char *at = code[0] != '\0' ? strstr(message, code) : NULL;
  while (at != NULL && at - message > 2 && at[CODE_SIZE] == ':') {
    const char *rest = at + CODE_SIZE + 1;
    rest += *rest == ' ';
    memmove(at, rest, strlen(rest) + 1);
    at = strstr(at, code);
  }
  char *line = message;
  while (line != NULL && *line != '\0') {
    char *next = strchr(line, '\n');
    const size_t size = next != NULL ? (size_t)(next - line) : strlen(line);
    /* "LOCATION:  auth_failed, auth.c:335", whatever its first word. */
    const bool place = size > 4 && line[0] != '\t' && line[0] != ' ' &&
                       memchr(line, '"', size) == NULL &&
                       strstr(line, ".c:") != NULL &&
                       strstr(line, ".c:") < line + size;
    if (place && next != NULL)
      memmove(line, next + 1, strlen(next + 1) + 1);
    else if (place)
      *line = '\0';
    else
      line = next != NULL ? next + 1 : NULL;
  }
}

mb_status pg_fail_connect(mb_driver_conn *conn, mb_error *error)
{
  const mb_host *host = conn->host;
  char raw[1024];
  char message[1024];
  char code[CODE_SIZE + 1];
  (void)snprintf(raw, sizeof raw, "%s",
      conn->pq != NULL ? PQerrorMessage(conn->pq) : "out of memory");
  find_code(raw, code);
  drop_details(raw, code);
  one_line(raw, message, sizeof message);
  host->fail(error, MB_CONNECTIVITY, "%s",
      message[0] != '\0' ? message : "could not connect to the server");
  if (code[0] != '\0') {
    classify(code, false, error);
    set(host, error, MB_CODE, code);
  }
  /* There was no connection that could be lost. */
  if (error->class == MB_CONNECTION_LOST || error->class == MB_ENGINE)
    error->class = MB_CONNECTIVITY;
  if (conn->pq != NULL && PQconnectionNeedsPassword(conn->pq))
    error->class = MB_PERMISSION;
  error->flags = MB_CONNECTION_DEAD;
  if (conn->opening.in_tls && conn->connector->verifies)
    set(host, error, MB_HINT,
        "a host that is not this machine is verified by TLS: name its "
        "authority as sslrootcert, or write tls = \"require\", \"prefer\" or "
        "\"off\"");
  return MB_ERROR;
}
