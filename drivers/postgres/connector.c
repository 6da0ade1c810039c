/*
 * connector.c: from options to what libpq is given.
 *
 * libpq itself finds what is not said: in its service file, the environment and
 * its defaults.  It is asked for that once, by an attempt that it refuses
 * before it opens a socket, so that the hosts are known.
 */
#include "../../src/driver_text.h"
#include "postgres.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const mb_option_spec pg_options[] = {
    /* The driver's own. */
    {"user", MB_OPTION_TEXT, NULL},
    {"password", MB_OPTION_SECRET, NULL},
    {"host", MB_OPTION_TEXT, NULL},
    {"port", MB_OPTION_TEXT, NULL},
    {"database", MB_OPTION_TEXT, NULL},
    {"tls", MB_OPTION_TEXT, "verify require prefer off"},
    {"time_zone", MB_OPTION_TEXT, NULL},
    /* Those of libpq. */
    {"dbname", MB_OPTION_TEXT, NULL},
    {"hostaddr", MB_OPTION_TEXT, NULL},
    {"service", MB_OPTION_TEXT, NULL},
    {"servicefile", MB_OPTION_TEXT, NULL},
    {"passfile", MB_OPTION_TEXT, NULL},
    {"client_encoding", MB_OPTION_TEXT, "UTF8 UTF-8 utf8 utf-8 auto"},
    {"options", MB_OPTION_TEXT, NULL},
    {"application_name", MB_OPTION_TEXT, NULL},
    {"fallback_application_name", MB_OPTION_TEXT, NULL},
    {"keepalives", MB_OPTION_INTEGER, NULL},
    {"keepalives_idle", MB_OPTION_INTEGER, NULL},
    {"keepalives_interval", MB_OPTION_INTEGER, NULL},
    {"keepalives_count", MB_OPTION_INTEGER, NULL},
    {"tcp_user_timeout", MB_OPTION_INTEGER, NULL},
    {"replication", MB_OPTION_TEXT, NULL},
    {"sslmode", MB_OPTION_TEXT,
        "disable allow prefer require verify-ca verify-full"},
    {"sslnegotiation", MB_OPTION_TEXT, "postgres direct"},
    {"sslcompression", MB_OPTION_TEXT, "0 1"},
    {"sslcert", MB_OPTION_TEXT, NULL},
    {"sslkey", MB_OPTION_TEXT, NULL},
    {"sslkeylogfile", MB_OPTION_TEXT, NULL},
    {"sslpassword", MB_OPTION_SECRET, NULL},
    {"sslcertmode", MB_OPTION_TEXT, "disable allow require"},
    {"sslrootcert", MB_OPTION_TEXT, NULL},
    {"sslcrl", MB_OPTION_TEXT, NULL},
    {"sslcrldir", MB_OPTION_TEXT, NULL},
    {"sslsni", MB_OPTION_TEXT, "0 1"},
    {"requirepeer", MB_OPTION_TEXT, NULL},
    {"require_auth", MB_OPTION_TEXT, NULL},
    {"channel_binding", MB_OPTION_TEXT, "disable prefer require"},
    {"ssl_min_protocol_version", MB_OPTION_TEXT,
        "TLSv1 TLSv1.1 TLSv1.2 TLSv1.3"},
    {"ssl_max_protocol_version", MB_OPTION_TEXT,
        "TLSv1 TLSv1.1 TLSv1.2 TLSv1.3"},
    {"min_protocol_version", MB_OPTION_TEXT, NULL},
    {"max_protocol_version", MB_OPTION_TEXT, NULL},
    {"gssencmode", MB_OPTION_TEXT, "disable prefer require"},
    {"krbsrvname", MB_OPTION_TEXT, NULL},
    {"gsslib", MB_OPTION_TEXT, NULL},
    {"gssdelegation", MB_OPTION_TEXT, "0 1"},
    {"scram_client_key", MB_OPTION_SECRET, NULL},
    {"scram_server_key", MB_OPTION_SECRET, NULL},
    {"oauth_issuer", MB_OPTION_TEXT, NULL},
    {"oauth_client_id", MB_OPTION_TEXT, NULL},
    {"oauth_client_secret", MB_OPTION_SECRET, NULL},
    {"oauth_scope", MB_OPTION_TEXT, NULL},
    {"target_session_attrs", MB_OPTION_TEXT,
        "any read-write read-only primary standby prefer-standby"},
    {"load_balance_hosts", MB_OPTION_TEXT, "disable random"},
    /* The core's, which it tells the driver too. */
    {"statement_cache", MB_OPTION_INTEGER, NULL},
    {NULL, MB_OPTION_TEXT, NULL},
};

/* How tls is said to libpq. */
static const struct {
  const char *tls, *sslmode;
} tls_words[] = {
    {"verify", "verify-full"},
    {"require", "require"},
    {"prefer", "prefer"},
    {"off", "disable"},
};

const char *pg_keep_text(
    mb_driver_connector *connector, const char *text, size_t size)
{
  char *copy = pg_arena_take(&connector->texts, size + 1);
  if (copy != NULL) {
    memcpy(copy, text, size);
    copy[size] = '\0';
  }
  return copy;
}

/* --- What libpq is told ------------------------------------------------- */

/* Options that are said in another way, or not to libpq at all. */
static bool is_own(const char *name)
{
  static const char *const own[] = {"password", "host", "hostaddr", "port",
      "database", "tls", "time_zone", "client_encoding", "statement_cache"};
  for (size_t i = 0; i < sizeof own / sizeof own[0]; i++)
    if (strcmp(name, own[i]) == 0)
      return true;
  return false;
}

static void tell(
    mb_driver_connector *connector, const char *keyword, const char *value)
{
  connector->keywords[connector->n] = keyword;
  connector->values[connector->n++] = value;
}

static mb_status tell_copy(mb_driver_connector *connector, const char *keyword,
    const char *value, mb_error *error)
{
  const char *kept_keyword = pg_keep_text(connector, keyword, strlen(keyword));
  const char *kept = pg_keep_text(connector, value, strlen(value));
  if (kept_keyword == NULL || kept == NULL)
    return pg_out_of_memory(connector->host, error);
  tell(connector, kept_keyword, kept);
  return MB_OK;
}

/* Whether the running libpq knows a keyword. */
static bool is_known(const PQconninfoOption *known, const char *keyword)
{
  for (; known->keyword != NULL; known++)
    if (strcmp(known->keyword, keyword) == 0)
      return true;
  return false;
}

static mb_status tell_given(mb_driver_connector *connector,
    const mb_option *options, size_t n, const PQconninfoOption *known,
    mb_error *error)
{
  const mb_host *host = connector->host;
  for (size_t i = 0; i < n; i++) {
    if (is_own(options[i].name))
      continue;
    if (!is_known(known, options[i].name))
      return host->fail(error, MB_CONNECTOR_VALIDATION,
          "option %s: this libpq does not know it; a later one may",
          options[i].name);
    if (tell_copy(connector, options[i].name, options[i].value, error) != MB_OK)
      return MB_ERROR;
  }
  const char *database = mb_option_value(options, n, "database");
  if (database != NULL && database[0] != '\0' &&
      tell_copy(connector, "dbname", database, error) != MB_OK)
    return MB_ERROR;
  tell(connector, "client_encoding", "UTF8");
  tell(connector, "fallback_application_name", "moonbase");
  /* Tickets of Kerberos are no reason to go another way than was asked for. */
  if (mb_option_value(options, n, "gssencmode") == NULL &&
      is_known(known, "gssencmode"))
    tell(connector, "gssencmode", "disable");
  return MB_OK;
}

/* --- What libpq knows --------------------------------------------------- */

static const char *value_of(const PQconninfoOption *info, const char *keyword)
{
  for (; info != NULL && info->keyword != NULL; info++)
    if (strcmp(info->keyword, keyword) == 0)
      return info->val != NULL ? info->val : "";
  return "";
}

/* Asks libpq what it makes of it all.  It checks its options one after the
 * other, and nobody has such a session: so it opens no socket. */
static PQconninfoOption *resolve(mb_driver_connector *connector,
    const mb_option *options, size_t n, mb_error *error)
{
  static const char impossible[] = "target_session_attrs";
  static const char *const places[] = {"host", "hostaddr", "port"};
  const mb_host *host = connector->host;
  const size_t told = connector->n;
  for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
    const char *value = mb_option_value(options, n, places[i]);
    if (value != NULL)
      tell(connector, places[i], value);
  }
  /* Of one keyword twice the last counts. */
  tell(connector, impossible, "impossible");
  connector->keywords[connector->n] = NULL;
  PGconn *pq = PQconnectStartParams(connector->keywords, connector->values, 0);
  connector->n = told;
  PQconninfoOption *info = pq != NULL ? PQconninfo(pq) : NULL;
  if (info == NULL) {
    PQfinish(pq);
    (void)pg_out_of_memory(host, error);
    return NULL;
  }
  const char *message = PQerrorMessage(pq);
  if (strstr(message, impossible) == NULL) {
    /* Its words may quote what is secret; the option's name does not. */
    const char *name = "service";
    for (const PQconninfoOption *one = info; one->keyword != NULL; one++)
      if (strlen(one->keyword) > 7 && strstr(message, one->keyword) != NULL)
        name = one->keyword;
    host->fail(error, MB_CONNECTOR_VALIDATION,
        "option %s: libpq does not accept it", name);
    PQconninfoFree(info);
    info = NULL;
  }
  PQfinish(pq);
  return info;
}

/* --- TLS ---------------------------------------------------------------- */

static bool is_file(const char *path)
{
  return path != NULL && path[0] != '\0' && access(path, R_OK) == 0;
}

/* Where libpq looks by itself. */
static bool has_own_root(void)
{
  char path[512];
  const char *home = getenv("HOME");
  (void)snprintf(
      path, sizeof path, "%s/.postgresql/root.crt", home != NULL ? home : "");
  return is_file(path);
}

/* Names the authorities for what is to be verified and says not by whom. */
static mb_status find_authorities(mb_driver_connector *connector,
    const PQconninfoOption *info, mb_error *error)
{
  if (value_of(info, "sslrootcert")[0] != '\0' || has_own_root())
    return MB_OK;
  const char *bundle = connector->host->authorities();
  return bundle != NULL ? tell_copy(connector, "sslrootcert", bundle, error)
                        : MB_OK;
}

static mb_status settle_tls(mb_driver_connector *connector,
    const mb_option *options, size_t n, const PQconninfoOption *info,
    mb_error *error)
{
  const char *tls = mb_option_value(options, n, "tls");
  const char *given = mb_option_value(options, n, "sslmode");
  const char *mode = given;
  for (size_t i = 0; tls != NULL && i < sizeof tls_words / sizeof tls_words[0];
       i++)
    if (strcmp(tls, tls_words[i].tls) == 0)
      mode = tls_words[i].sslmode;
  if (tls != NULL && given != NULL && strcmp(mode, given) != 0)
    return connector->host->fail(error, MB_CONNECTOR_VALIDATION,
        "tls: says something else than sslmode");
  if (mode == NULL) {
    bool local = true;
    for (size_t i = 0; i < connector->n_places; i++)
      local &= pg_is_local(&connector->places[i]);
    /* The environment or the service file may have said it. */
    const char *known = value_of(info, "sslmode");
    const bool by_default =
        strcmp(known, "prefer") == 0 && getenv("PGSSLMODE") == NULL;
    mode = !local && by_default ? "verify-full" : known;
    connector->verifies = !local && by_default;
  }
  if (mode[0] != '\0' && given == NULL)
    tell(connector, "sslmode", pg_keep_text(connector, mode, strlen(mode)));
  if (strncmp(mode, "verify", 6) == 0)
    return find_authorities(connector, info, error);
  return MB_OK;
}

/* --- For people --------------------------------------------------------- */

/* postgres://user@host:port,host:port/database */
static mb_status write_url(mb_driver_connector *connector, const char *user,
    const char *database, mb_error *error)
{
  size_t room = strlen(user) + strlen(database) + 32;
  for (size_t i = 0; i < connector->n_places; i++)
    room += strlen(connector->places[i].name) +
            strlen(connector->places[i].address) +
            strlen(connector->places[i].port) + 4;
  char *url = pg_arena_take(&connector->texts, room);
  if (url == NULL)
    return pg_out_of_memory(connector->host, error);
  char *at =
      url + sprintf(url, "postgres://%s%s", user, user[0] != '\0' ? "@" : "");
  for (size_t i = 0; i < connector->n_places; i++) {
    const pg_place *place = &connector->places[i];
    const char *where = place->name[0] != '\0' ? place->name : place->address;
    const bool colons = strchr(where, ':') != NULL;
    at +=
        sprintf(at, "%s%s%s%s%s%s", i > 0 ? "," : "", colons ? "[" : "", where,
            colons ? "]" : "", place->port[0] != '\0' ? ":" : "", place->port);
  }
  (void)sprintf(at, "/%s", database);
  connector->url = url;
  return MB_OK;
}

/* --- All of it ---------------------------------------------------------- */

static mb_status keep_own(mb_driver_connector *connector,
    const mb_option *options, size_t n, mb_error *error)
{
  const char *password = mb_option_value(options, n, "password");
  const char *zone = mb_option_value(options, n, "time_zone");
  const char *cache = mb_option_value(options, n, "statement_cache");
  if (zone == NULL)
    zone = "UTC";
  connector->time_zone = pg_keep_text(connector, zone, strlen(zone));
  if (password != NULL)
    connector->password = pg_keep_text(connector, password, strlen(password));
  connector->unprepared = cache != NULL && strcmp(cache, "0") == 0;
  return connector->time_zone == NULL ||
                 (password != NULL && connector->password == NULL)
             ? pg_out_of_memory(connector->host, error)
             : MB_OK;
}

static mb_status fill(mb_driver_connector *connector, const mb_option *options,
    size_t n, const PQconninfoOption *known, PQconninfoOption **info,
    mb_error *error)
{
  /* What is given, what is told beside it, and what resolve adds for a while;
   * and the places and the password of an attempt. */
  const size_t room = n + 24;
  connector->keywords = pg_arena_take(&connector->texts, room * sizeof(char *));
  connector->values = pg_arena_take(&connector->texts, room * sizeof(char *));
  if (connector->keywords == NULL || connector->values == NULL)
    return pg_out_of_memory(connector->host, error);
  if (keep_own(connector, options, n, error) != MB_OK ||
      tell_given(connector, options, n, known, error) != MB_OK)
    return MB_ERROR;
  *info = resolve(connector, options, n, error);
  if (*info == NULL)
    return MB_ERROR;
  if (pg_read_places(connector, value_of(*info, "host"),
          value_of(*info, "hostaddr"), value_of(*info, "port"),
          error) != MB_OK ||
      settle_tls(connector, options, n, *info, error) != MB_OK)
    return MB_ERROR;
  return write_url(
      connector, value_of(*info, "user"), value_of(*info, "dbname"), error);
}

static mb_status give_info(mb_driver_connector *connector,
    const PQconninfoOption *resolved, mb_connector_info *info, mb_error *error)
{
  const pg_place *first = &connector->places[0];
  const char *database = value_of(resolved, "dbname");
  database = pg_keep_text(connector, database, strlen(database));
  if (database == NULL)
    return pg_out_of_memory(connector->host, error);
  *info = (mb_connector_info){
      .url = connector->url,
      .host = first->name[0] != '\0' ? first->name : first->address,
      .database = database[0] != '\0' ? database : NULL,
      .port =
          first->port[0] != '\0' ? (int)strtol(first->port, NULL, 10) : 5432,
      .lookups = connector->lookups,
      .n_lookups = connector->n_lookups,
  };
  if (info->host[0] == '\0')
    info->host = NULL;
  return MB_OK;
}

mb_status pg_open_connector(const mb_host *host, const mb_option *options,
    size_t n, mb_driver_connector **out, mb_connector_info *info,
    mb_error *error)
{
  mb_driver_connector *connector = host->allocate(sizeof *connector);
  if (connector == NULL)
    return pg_out_of_memory(host, error);
  *connector = (mb_driver_connector){.host = host, .texts = {.host = host}};
  atomic_init(&connector->shares_sessions, false);
  PQconninfoOption *known = PQconndefaults();
  PQconninfoOption *resolved = NULL;
  mb_status status = known == NULL
                         ? pg_out_of_memory(host, error)
                         : fill(connector, options, n, known, &resolved, error);
  if (status == MB_OK)
    status = give_info(connector, resolved, info, error);
  PQconninfoFree(known);
  PQconninfoFree(resolved);
  if (status != MB_OK) {
    pg_close_connector(connector);
    return MB_ERROR;
  }
  *out = connector;
  return MB_OK;
}

/* Secrets do not stay behind in memory that is used again. */
static void wipe(const char *text)
{
  /* Through a volatile pointer, so that it is not optimised away. */
  volatile char *byte = (char *)text;
  for (size_t size = strlen(text); size > 0; size--)
    *byte++ = '\0';
}

void pg_close_connector(mb_driver_connector *connector)
{
  const mb_host *host = connector->host;
  if (connector->password != NULL)
    wipe(connector->password);
  for (size_t i = 0; i < connector->n; i++)
    if (strcmp(connector->keywords[i], "sslpassword") == 0 ||
        strstr(connector->keywords[i], "secret") != NULL)
      wipe(connector->values[i]);
  pg_arena_free(&connector->texts);
  host->release(connector);
}
