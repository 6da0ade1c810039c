/*
 * tls.c: what is asked of the library about TLS.
 *
 * Without a word of the user's, a socket and this machine are left to the
 * library, and other hosts are verified.
 */
#include "mysql.h"

#include <fcntl.h>

/* Of Connector/C: the server wants a method that it was not allowed. */
#define METHOD_NOT_ALLOWED 5010

static void set(MYSQL *db, enum mysql_option option, const char *value)
{
  if (value != NULL)
    (void)mysql_options(db, option, value);
}

static void set_mode(MYSQL *db, enum mq_tls tls)
{
#if MQ_LIBMARIADB
  const mq_bool wanted = tls != MQ_TLS_OFF;
  const mq_bool verified = tls == MQ_TLS_VERIFY;
  if (tls == MQ_TLS_DEFAULT)
    return;
  (void)mysql_options(db, MYSQL_OPT_SSL_ENFORCE, &wanted);
  (void)mysql_options(db, MYSQL_OPT_SSL_VERIFY_SERVER_CERT, &verified);
#else
  static const unsigned modes[] = {
      [MQ_TLS_DEFAULT] = SSL_MODE_PREFERRED,
      [MQ_TLS_OFF] = SSL_MODE_DISABLED,
      [MQ_TLS_PREFER] = SSL_MODE_PREFERRED,
      [MQ_TLS_REQUIRE] = SSL_MODE_REQUIRED,
      [MQ_TLS_VERIFY] = SSL_MODE_VERIFY_IDENTITY,
  };
  (void)mysql_options(db, MYSQL_OPT_SSL_MODE, &modes[tls]);
#endif
}

void mq_set_tls(
    MYSQL *db, const mb_driver_connector *connector, const mq_place *place)
{
  const mq_tls_files *files = &connector->files;
  const char *ca = files->ca;
  if (place->tls == MQ_TLS_OFF || place->host == NULL) {
    set_mode(db, place->tls);
    return;
  }
  if (ca == NULL && files->ca_path == NULL && place->tls == MQ_TLS_VERIFY)
    ca = connector->host->authorities();
  set(db, MYSQL_OPT_SSL_CA, ca);
  set(db, MYSQL_OPT_SSL_CAPATH, files->ca_path);
  set(db, MYSQL_OPT_SSL_CERT, files->cert);
  set(db, MYSQL_OPT_SSL_KEY, files->key);
  set(db, MYSQL_OPT_SSL_CIPHER, files->cipher);
  set(db, MYSQL_OPT_SSL_CRL, files->crl);
  set(db, MYSQL_OPT_SSL_CRLPATH, files->crl_path);
#if MQ_LIBMARIADB
  set(db, MARIADB_OPT_TLS_PASSPHRASE, files->passphrase);
  set(db, MARIADB_OPT_TLS_VERSION, files->version);
#else
  set(db, MYSQL_OPT_TLS_VERSION, files->version);
#endif
  set_mode(db, place->tls);
}

/* Connector/C takes a session without TLS where it was not told to verify. */
bool mq_has_tls(MYSQL *db, const mq_place *place)
{
  return (place->tls != MQ_TLS_REQUIRE && place->tls != MQ_TLS_VERIFY) ||
         mysql_get_ssl_cipher(db) != NULL;
}

/* Where TLS was asked for, but not verified, Connector/C takes it for granted:
 * a method that sends the password itself does so, also when the server has no
 * TLS.  So the first attempt has none of them. */
bool mq_wants_care(const mq_place *place)
{
  return MQ_LIBMARIADB && place->host != NULL &&
         (place->tls == MQ_TLS_REQUIRE || place->tls == MQ_TLS_PREFER);
}

void mq_be_careful(MYSQL *db)
{
#if MQ_LIBMARIADB
  (void)mysql_options(db, MARIADB_OPT_RESTRICTED_AUTH,
      "mysql_native_password,client_ed25519,parsec,auth_gssapi_client");
#else
  (void)db;
#endif
}

bool mq_was_careful(MYSQL *db)
{
  return mysql_errno(db) == METHOD_NOT_ALLOWED;
}

#if MQ_LIBMARIADB

/* Where a call waits by the core the socket must not block: without TLS
 * Connector/C sees to that for each read and write.  Elsewhere it must: for
 * room to write Connector/C waits until there is something to read. */
void mq_enter_tls(mb_driver_conn *conn)
{
  const bool waits = conn->loop != NULL;
  mq_forget_tls_errors();
  if (waits == conn->never_blocks)
    return;
  const int fd = mq_socket(conn->db);
  const int flags = fcntl(fd, F_GETFL);
  (void)fcntl(fd, F_SETFL, waits ? flags | O_NONBLOCK : flags & ~O_NONBLOCK);
  conn->never_blocks = waits;
}

#endif
