/*
 * client.h: the client library, which is MariaDB's Connector/C or Oracle's
 * libmysqlclient, and all that differs between them but options of TLS (tls.c).
 */
#ifndef MB_DRIVERS_MYSQL_CLIENT_H
#define MB_DRIVERS_MYSQL_CLIENT_H

/* Its headers are not written for the warnings that these files are compiled
 * with. */
#if defined(__GNUC__)
#  pragma GCC diagnostic push
#  pragma GCC diagnostic ignored "-Wpedantic"
#  pragma GCC diagnostic ignored "-Wstrict-prototypes"
#  pragma GCC diagnostic ignored "-Wundef"
#endif
#include <mysql.h>
#if defined(__GNUC__)
#  pragma GCC diagnostic pop
#endif

#include <stdbool.h>
#include <stdint.h>

#ifdef LIBMARIADB
#  define MQ_LIBMARIADB 1
#  define MQ_STATUS_MORE_RESULTS SERVER_MORE_RESULTS_EXIST
typedef my_bool mq_bool;
#else
#  define MQ_LIBMARIADB 0
#  define MQ_STATUS_MORE_RESULTS SERVER_MORE_RESULTS_EXISTS
typedef bool mq_bool;
#endif

/* The character set of bytes. */
#define MQ_CHARSET_BINARY 63
/* Further results follow. */
#define MQ_STATUS_MORE 8u

#if MQ_LIBMARIADB
/* Of OpenSSL, where the library is built with it. */
extern void ERR_clear_error(void) __attribute__((weak));
#endif

/* OpenSSL keeps its errors in a list of the thread, and Connector/C takes what
 * somebody else has left there, as the end of a session that was lost, for the
 * reason why it has to wait.  So the list is emptied before each call that may
 * have to. */
static inline void mq_forget_tls_errors(void)
{
#if MQ_LIBMARIADB
  if (ERR_clear_error != NULL)
    ERR_clear_error();
#endif
}

/* Leaves no errors to others, either. */
static inline void mq_hang_up(MYSQL *db)
{
  const bool has_tls = mysql_get_ssl_cipher(db) != NULL;
  mysql_close(db);
  if (has_tls)
    mq_forget_tls_errors();
}

static inline int mq_socket(MYSQL *db)
{
#if MQ_LIBMARIADB
  return (int)mysql_get_socket(db);
#else
  return (int)db->net.fd;
#endif
}

/* Whether the server is MariaDB. */
static inline bool mq_is_mariadb(MYSQL *db)
{
#if MQ_LIBMARIADB
  return mariadb_connection(db) != 0;
#else
  (void)db;
  return false;
#endif
}

/* Whether library and server have arrays of parameters. */
static inline bool mq_has_arrays(MYSQL *db)
{
#if MQ_LIBMARIADB
  unsigned long long capabilities = 0;
  (void)mariadb_get_infov(
      db, MARIADB_CONNECTION_EXTENDED_SERVER_CAPABILITIES, &capabilities);
  return mq_is_mariadb(db) &&
         (capabilities & (MARIADB_CLIENT_STMT_BULK_OPERATIONS >> 32)) != 0;
#else
  (void)db;
  return false;
#endif
}

/* The packet behind the last row has the session's status as it is then, and
 * Connector/C does not look at it. */
static inline void mq_read_end(MYSQL *db, bool binary)
{
#if MQ_LIBMARIADB
  const unsigned char *packet = db->net.read_pos;
  if (!binary || packet == NULL || packet[0] != 254)
    return;
  db->warning_count = packet[1] | (unsigned)packet[2] << 8;
  db->server_status = packet[3] | (unsigned)packet[4] << 8;
#else
  (void)db;
  (void)binary;
#endif
}

/* The columns as they were when the statement was prepared: of the copy that
 * comes with a run Connector/C forgets the format.  NULL: they are not. */
static inline const MYSQL_FIELD *mq_prepared_fields(
    const MYSQL_STMT *handle, size_t n)
{
#if MQ_LIBMARIADB
  return handle != NULL && handle->field_count == n ? handle->fields : NULL;
#else
  (void)handle;
  (void)n;
  return NULL;
#endif
}

/* The word that MariaDB has for what is sent as another type; "": none. */
static inline void mq_type_word(
    const MYSQL_FIELD *field, const char **word, size_t *size)
{
  *word = "";
  *size = 0;
#if MQ_LIBMARIADB
  MARIADB_CONST_STRING text = {NULL, 0};
  if (mariadb_field_attr(&text, field, MARIADB_FIELD_ATTR_FORMAT_NAME) != 0 ||
      text.length == 0)
    (void)mariadb_field_attr(&text, field, MARIADB_FIELD_ATTR_DATA_TYPE_NAME);
  if (text.length > 0) {
    *word = text.str;
    *size = text.length;
  }
#else
  (void)field;
#endif
}

#endif
