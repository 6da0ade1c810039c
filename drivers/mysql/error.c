/*
 * error.c: from a number to a class and its consequences.
 *
 * Both servers and both libraries count alike: numbers below 2000, and from
 * 3000 on, are the server's, those between them the library's.
 */
#include "mysql.h"

#include <string.h>

#define LIBRARY_MIN 2000
#define LIBRARY_MAX 2999
#define OUT_OF_MEMORY 2008
#define TLS_FAILED 2026
#define PLUGIN_FAILED 2061

mb_status mq_out_of_memory(const mb_host *host, mb_error *error)
{
  return host->fail(error, MB_RESOURCE, "out of memory");
}

#define LOST MB_CONNECTION_LOST, MB_CONNECTION_DEAD
#define LOST_ALONE MB_CONNECTION_LOST, MB_CONNECTION_DEAD | MB_SESSION_ONLY

static const struct {
  unsigned short from, to;
  mb_class class;
  unsigned flags;
  mb_constraint_kind kind;
} codes[] = {
    /* What most errors are of comes first. */
    {1062, 1062, MB_CONSTRAINT, 0, MB_CONSTRAINT_UNIQUE},
    {1213, 1213, MB_SERIALIZATION, MB_RETRYABLE, MB_CONSTRAINT_NONE},
    {1205, 1205, MB_TIMEOUT, MB_RETRYABLE, MB_CONSTRAINT_NONE},
    {1022, 1022, MB_CONSTRAINT, 0, MB_CONSTRAINT_UNIQUE},
    {1169, 1169, MB_CONSTRAINT, 0, MB_CONSTRAINT_UNIQUE},
    {1586, 1586, MB_CONSTRAINT, 0, MB_CONSTRAINT_UNIQUE},
    {1859, 1859, MB_CONSTRAINT, 0, MB_CONSTRAINT_UNIQUE},
    {1048, 1048, MB_CONSTRAINT, 0, MB_CONSTRAINT_NOT_NULL},
    {1263, 1263, MB_CONSTRAINT, 0, MB_CONSTRAINT_NOT_NULL},
    {1364, 1364, MB_CONSTRAINT, 0, MB_CONSTRAINT_NOT_NULL},
    {1216, 1217, MB_CONSTRAINT, 0, MB_CONSTRAINT_FOREIGN_KEY},
    {1451, 1452, MB_CONSTRAINT, 0, MB_CONSTRAINT_FOREIGN_KEY},
    {1557, 1557, MB_CONSTRAINT, 0, MB_CONSTRAINT_FOREIGN_KEY},
    {1761, 1762, MB_CONSTRAINT, 0, MB_CONSTRAINT_FOREIGN_KEY},
    {3819, 3819, MB_CONSTRAINT, 0, MB_CONSTRAINT_CHECK},
    {4025, 4025, MB_CONSTRAINT, 0, MB_CONSTRAINT_CHECK},
    /* Conflicts and limits of time. */
    {1020, 1020, MB_SERIALIZATION, MB_RETRYABLE, MB_CONSTRAINT_NONE},
    {1614, 1614, MB_SERIALIZATION, MB_RETRYABLE, MB_CONSTRAINT_NONE},
    {3101, 3101, MB_SERIALIZATION, MB_RETRYABLE, MB_CONSTRAINT_NONE},
    {3572, 3572, MB_TIMEOUT, MB_RETRYABLE, MB_CONSTRAINT_NONE},
    {1028, 1028, MB_CANCELED, 0, MB_CONSTRAINT_NONE},
    {1317, 1317, MB_CANCELED, 0, MB_CONSTRAINT_NONE},
    {1969, 1969, MB_TIMEOUT, 0, MB_CONSTRAINT_NONE},
    {3024, 3024, MB_TIMEOUT, 0, MB_CONSTRAINT_NONE},
    /* Statements that the server does not know any more. */
    {1243, 1243, MB_ENGINE, MB_STALE_STATEMENT, MB_CONSTRAINT_NONE},
    {1615, 1615, MB_ENGINE, MB_STALE_STATEMENT, MB_CONSTRAINT_NONE},
    /* Wrong texts. */
    {1046, 1046, MB_SYNTAX, 0, MB_CONSTRAINT_NONE},
    {1049, 1049, MB_SYNTAX, 0, MB_CONSTRAINT_NONE},
    {1051, 1052, MB_SYNTAX, 0, MB_CONSTRAINT_NONE},
    {1054, 1056, MB_SYNTAX, 0, MB_CONSTRAINT_NONE},
    {1058, 1058, MB_SYNTAX, 0, MB_CONSTRAINT_NONE},
    {1060, 1061, MB_SYNTAX, 0, MB_CONSTRAINT_NONE},
    {1063, 1066, MB_SYNTAX, 0, MB_CONSTRAINT_NONE},
    {1109, 1109, MB_SYNTAX, 0, MB_CONSTRAINT_NONE},
    {1110, 1111, MB_SYNTAX, 0, MB_CONSTRAINT_NONE},
    {1136, 1136, MB_SYNTAX, 0, MB_CONSTRAINT_NONE},
    {1140, 1140, MB_SYNTAX, 0, MB_CONSTRAINT_NONE},
    {1146, 1146, MB_SYNTAX, 0, MB_CONSTRAINT_NONE},
    {1149, 1149, MB_SYNTAX, 0, MB_CONSTRAINT_NONE},
    {1193, 1193, MB_SYNTAX, 0, MB_CONSTRAINT_NONE},
    {1222, 1222, MB_SYNTAX, 0, MB_CONSTRAINT_NONE},
    {1247, 1248, MB_SYNTAX, 0, MB_CONSTRAINT_NONE},
    {1305, 1305, MB_SYNTAX, 0, MB_CONSTRAINT_NONE},
    {1318, 1318, MB_SYNTAX, 0, MB_CONSTRAINT_NONE},
    {1582, 1583, MB_SYNTAX, 0, MB_CONSTRAINT_NONE},
    /* Values. */
    {1264, 1265, MB_DATA, 0, MB_CONSTRAINT_NONE},
    {1292, 1292, MB_DATA, 0, MB_CONSTRAINT_NONE},
    {1300, 1300, MB_DATA, 0, MB_CONSTRAINT_NONE},
    {1365, 1367, MB_DATA, 0, MB_CONSTRAINT_NONE},
    {1406, 1406, MB_DATA, 0, MB_CONSTRAINT_NONE},
    {1411, 1411, MB_DATA, 0, MB_CONSTRAINT_NONE},
    {1416, 1416, MB_DATA, 0, MB_CONSTRAINT_NONE},
    {1525, 1525, MB_DATA, 0, MB_CONSTRAINT_NONE},
    {1690, 1690, MB_DATA, 0, MB_CONSTRAINT_NONE},
    {3140, 3141, MB_DATA, 0, MB_CONSTRAINT_NONE},
    {3156, 3156, MB_DATA, 0, MB_CONSTRAINT_NONE},
    {3988, 3988, MB_DATA, 0, MB_CONSTRAINT_NONE},
    {4038, 4038, MB_DATA, 0, MB_CONSTRAINT_NONE},
    /* Rights. */
    {1044, 1045, MB_PERMISSION, 0, MB_CONSTRAINT_NONE},
    {1142, 1143, MB_PERMISSION, 0, MB_CONSTRAINT_NONE},
    {1227, 1227, MB_PERMISSION, 0, MB_CONSTRAINT_NONE},
    {1370, 1370, MB_PERMISSION, 0, MB_CONSTRAINT_NONE},
    {1698, 1698, MB_PERMISSION, 0, MB_CONSTRAINT_NONE},
    {3118, 3118, MB_PERMISSION, 0, MB_CONSTRAINT_NONE},
    {3955, 3955, MB_PERMISSION, 0, MB_CONSTRAINT_NONE},
    {1290, 1290, MB_READ_ONLY, 0, MB_CONSTRAINT_NONE},
    {1792, 1792, MB_READ_ONLY, 0, MB_CONSTRAINT_NONE},
    {1836, 1836, MB_READ_ONLY, 0, MB_CONSTRAINT_NONE},
    {3100, 3100, MB_READ_ONLY, 0, MB_CONSTRAINT_NONE},
    /* What there is not enough of. */
    {1021, 1021, MB_RESOURCE, 0, MB_CONSTRAINT_NONE},
    {1037, 1038, MB_RESOURCE, 0, MB_CONSTRAINT_NONE},
    {1040, 1041, MB_RESOURCE, 0, MB_CONSTRAINT_NONE},
    {1114, 1114, MB_RESOURCE, 0, MB_CONSTRAINT_NONE},
    {1203, 1203, MB_RESOURCE, 0, MB_CONSTRAINT_NONE},
    {1206, 1206, MB_RESOURCE, 0, MB_CONSTRAINT_NONE},
    {1226, 1226, MB_RESOURCE, 0, MB_CONSTRAINT_NONE},
    {1461, 1461, MB_RESOURCE, 0, MB_CONSTRAINT_NONE},
    {OUT_OF_MEMORY, OUT_OF_MEMORY, MB_RESOURCE, 0, MB_CONSTRAINT_NONE},
    /* A session that has ended, or a server that nobody reaches. */
    {1047, 1047, MB_CONNECTIVITY, MB_CONNECTION_DEAD, MB_CONSTRAINT_NONE},
    {1053, 1053, LOST, MB_CONSTRAINT_NONE},
    {1152, 1152, LOST, MB_CONSTRAINT_NONE},
    {1153, 1161, LOST_ALONE, MB_CONSTRAINT_NONE},
    {1184, 1184, LOST, MB_CONSTRAINT_NONE},
    /* What MariaDB tells those that are there when it shuts down. */
    {1927, 1927, LOST, MB_CONSTRAINT_NONE},
    {2002, 2003, MB_CONNECTIVITY, MB_CONNECTION_DEAD, MB_CONSTRAINT_NONE},
    {2005, 2005, MB_CONNECTIVITY, MB_CONNECTION_DEAD, MB_CONSTRAINT_NONE},
    {3169, 3169, LOST_ALONE, MB_CONSTRAINT_NONE},
    {4031, 4031, LOST_ALONE, MB_CONSTRAINT_NONE},
};

/* Errors of the library's that tell of wrong use, and not of a lost session:
 * parameters that are not bound, columns that are not there. */
static bool is_usage(int code)
{
  return (code >= 2029 && code <= 2037) || code == 2051 || code == 2052 ||
         code == 2054 || code == 2057;
}

static void classify(int code, mb_error *error)
{
  size_t i = 0;
  const size_t n = sizeof codes / sizeof codes[0];
  while (i < n && (code < codes[i].from || code > codes[i].to))
    i++;
  error->class = MB_ENGINE;
  if (i < n) {
    error->class = codes[i].class;
    error->flags |= codes[i].flags;
    error->constraint_kind = codes[i].kind;
  } else if (code >= LIBRARY_MIN && code <= LIBRARY_MAX && !is_usage(code)) {
    error->class = MB_CONNECTION_LOST;
    error->flags |= MB_CONNECTION_DEAD;
  }
}

static void set(
    const mb_host *host, mb_error *error, mb_field which, const char *text)
{
  if (text[0] != '\0')
    host->error_set(error, which, text, strlen(text));
}

/* "… near 'selec 1' at line 1": the rest of the text, or its beginning where it
 * is long. */
static size_t position_of(const char *message, const char *sql, size_t size)
{
  static const char near[] = "near '";
  const char *at = strstr(message, near);
  const char *end = at != NULL ? strstr(at, "' at line ") : NULL;
  if (end == NULL || sql == NULL)
    return 0;
  at += sizeof near - 1;
  for (const char *next; (next = strstr(end + 1, "' at line ")) != NULL;)
    end = next;
  const size_t length = (size_t)(end - at);
  if (length == 0)
    return size + 1;
  if (length <= size && memcmp(sql + size - length, at, length) == 0)
    return size - length + 1;
  for (size_t i = 0; length >= 40 && i + length <= size; i++)
    if (memcmp(sql + i, at, length) == 0)
      return i + 1;
  return 0;
}

mb_status mq_fail(mb_driver_conn *conn, mb_driver_stmt *stmt, mb_error *error)
{
  const mb_host *host = conn->host;
  MYSQL_STMT *handle = stmt != NULL && !stmt->by_text && stmt->handle != NULL &&
                               mysql_stmt_errno(stmt->handle) != 0
                           ? stmt->handle
                           : NULL;
  const int code =
      (int)(handle != NULL ? mysql_stmt_errno(handle) : mysql_errno(conn->db));
  const char *text =
      handle != NULL ? mysql_stmt_error(handle) : mysql_error(conn->db);
  if (code == OUT_OF_MEMORY || code == 0)
    return mq_out_of_memory(host, error);
  host->fail(error, MB_ENGINE, "%s", text);
  classify(code, error);
  error->native_code = code;
  if (conn->sent)
    error->flags |= MB_SENT;
  set(host, error, MB_CODE,
      handle != NULL ? mysql_stmt_sqlstate(handle) : mysql_sqlstate(conn->db));
  if (error->class == MB_CONSTRAINT)
    mq_name_constraint(host, conn->is_mariadb, text, error);
  if (error->class == MB_SYNTAX && stmt != NULL)
    error->position = position_of(text, stmt->sql, stmt->size);
  if (error->flags & MB_CONNECTION_DEAD)
    conn->dead = true;
  return MB_ERROR;
}

mb_status mq_fail_connect(const mb_driver_connector *connector,
    const mq_place *place, MYSQL *db, mb_error *error)
{
  const mb_host *host = connector->host;
  const int code = (int)mysql_errno(db);
  host->fail(error, MB_CONNECTIVITY, "%s", mysql_error(db));
  classify(code, error);
  error->native_code = code;
  set(host, error, MB_CODE, mysql_sqlstate(db));
  /* There was no connection that could be lost. */
  if (error->class == MB_CONNECTION_LOST || error->class == MB_ENGINE)
    error->class = MB_CONNECTIVITY;
  error->flags = MB_CONNECTION_DEAD;
  if (connector->verifies_by_default && place->tls == MQ_TLS_VERIFY &&
      code == TLS_FAILED)
    set(host, error, MB_HINT,
        "a host that is not this machine is verified by TLS: name its "
        "authority as ssl_ca, or write tls = \"require\", \"prefer\" or "
        "\"off\"");
  else if (code == PLUGIN_FAILED && place->host != NULL &&
           mysql_get_ssl_cipher(db) == NULL)
    set(host, error, MB_HINT,
        "the server asks for the password itself, which goes by TLS, by a "
        "socket, or encrypted with the server's key: server_public_key, "
        "get_server_public_key");
  return MB_ERROR;
}

mb_status mq_fail_dead(mb_driver_conn *conn, mb_error *error)
{
  conn->host->fail(
      error, MB_CONNECTION_LOST, "the connection to the server is lost");
  error->flags = MB_CONNECTION_DEAD | (conn->sent ? MB_SENT : 0u);
  return MB_ERROR;
}

mb_status mq_fail_stopped(mb_driver_conn *conn, mb_error *error)
{
  conn->host->fail(error, MB_CANCELED, "stopped");
  error->flags = conn->sent ? MB_SENT : 0u;
  return MB_ERROR;
}
