/*
 * connector.c: from options to what the library is told.
 */
#include "../../src/driver_text.h"
#include "mysql.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const mb_option_spec mq_options[] = {
    /* The driver's own. */
    {"user", MB_OPTION_TEXT, NULL},
    {"password", MB_OPTION_SECRET, NULL},
    {"host", MB_OPTION_TEXT, NULL},
    {"port", MB_OPTION_TEXT, NULL},
    {"database", MB_OPTION_TEXT, NULL},
    {"tls", MB_OPTION_TEXT, "verify require prefer off"},
    {"time_zone", MB_OPTION_TEXT, NULL},
    {"sql_mode", MB_OPTION_TEXT, NULL},
    {"local_infile", MB_OPTION_BOOLEAN, NULL},
    {"wsrep_sync_wait", MB_OPTION_INTEGER, NULL},
    /* Those of the library. */
    {"socket", MB_OPTION_TEXT, NULL},
    {"charset", MB_OPTION_TEXT, "utf8mb4"},
    {"compress", MB_OPTION_BOOLEAN, NULL},
    {"ssl_ca", MB_OPTION_TEXT, NULL},
    {"ssl_capath", MB_OPTION_TEXT, NULL},
    {"ssl_cert", MB_OPTION_TEXT, NULL},
    {"ssl_key", MB_OPTION_TEXT, NULL},
    {"ssl_passphrase", MB_OPTION_SECRET, NULL},
    {"ssl_cipher", MB_OPTION_TEXT, NULL},
    {"ssl_crl", MB_OPTION_TEXT, NULL},
    {"ssl_crlpath", MB_OPTION_TEXT, NULL},
    {"tls_version", MB_OPTION_TEXT, NULL},
    {"plugin_dir", MB_OPTION_TEXT, NULL},
    {"default_auth", MB_OPTION_TEXT, NULL},
    {"server_public_key", MB_OPTION_TEXT, NULL},
    {"get_server_public_key", MB_OPTION_BOOLEAN, NULL},
    {NULL, MB_OPTION_TEXT, NULL},
};

const char *mq_keep_text(
    mb_driver_connector *connector, const char *text, size_t size)
{
  char *copy = connector->memory + connector->used;
  memcpy(copy, text, size);
  copy[size] = '\0';
  connector->used += size + 1;
  return copy;
}

static const char *keep_option(mb_driver_connector *connector,
    const mb_option *options, size_t n, const char *name)
{
  const char *value = mb_option_value(options, n, name);
  return value != NULL ? mq_keep_text(connector, value, strlen(value)) : NULL;
}

static bool is_true(const mb_option *options, size_t n, const char *name)
{
  const char *value = mb_option_value(options, n, name);
  return value != NULL && strcmp(value, "true") == 0;
}

/* --- What makes a session ours ------------------------------------------ */

/* Beside what the server has: values that do not fit are errors, and so is what
 * cannot be done. */
static const char strict_mode[] =
    "concat_ws(',', nullif(@@sql_mode, ''), 'STRICT_TRANS_TABLES,"
    "STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION')";

/* "+05:30", "UTC", "Europe/Berlin". */
static bool read_zone(mb_driver_connector *connector, const char *zone)
{
  static const char letters[] = "abcdefghijklmnopqrstuvwxyz"
                                "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_/+-:";
  unsigned hours;
  unsigned minutes;
  char sign;
  char more;
  connector->zone_is_fixed = true;
  if (strcmp(zone, "UTC") == 0 || strcmp(zone, "utc") == 0)
    return true;
  if (sscanf(zone, "%c%2u:%2u%c", &sign, &hours, &minutes, &more) == 3 &&
      (sign == '+' || sign == '-') && hours < 15 && minutes < 60) {
    connector->zone_minutes = (int)(hours * 60 + minutes);
    if (sign == '-')
      connector->zone_minutes = -connector->zone_minutes;
    return true;
  }
  connector->zone_is_fixed = false;
  return zone[0] != '\0' && strspn(zone, letters) == strlen(zone);
}

static mb_status write_settings(mb_driver_connector *connector,
    const mb_option *options, size_t n, mb_error *error)
{
  static const char letters[] = "abcdefghijklmnopqrstuvwxyz"
                                "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_, ";
  const mb_host *host = connector->host;
  const char *mode = mb_option_value(options, n, "sql_mode");
  const char *zone = mb_option_value(options, n, "time_zone");
  const char *wait = mb_option_value(options, n, "wsrep_sync_wait");
  if (zone == NULL)
    zone = "UTC";
  if (!read_zone(connector, zone))
    return host->fail(error, MB_CONNECTOR_VALIDATION,
        "time_zone: wants the name of a zone, or an offset as +02:00");
  if (mode != NULL && strspn(mode, letters) != strlen(mode))
    return host->fail(error, MB_CONNECTOR_VALIDATION,
        "sql_mode: wants names of modes with commas between them");
  if (wait != NULL && (strlen(wait) > 2 || atoi(wait) > 15))
    return host->fail(error, MB_CONNECTOR_VALIDATION,
        "wsrep_sync_wait: wants a number from 0 to 15");
  const char *quote = mode != NULL ? "'" : "";
  const bool utc = connector->zone_is_fixed && connector->zone_minutes == 0;
  char *at = connector->memory + connector->used;
  const int size = sprintf(at,
      "set names utf8mb4, sql_mode = %s%s%s, time_zone = '%s'%s%s", quote,
      mode != NULL ? mode : strict_mode, quote, utc ? "+00:00" : zone,
      wait != NULL ? ", wsrep_sync_wait = " : "", wait != NULL ? wait : "");
  connector->settings = at;
  connector->waits_for_nodes = wait != NULL && atoi(wait) > 0;
  connector->used += (size_t)size + 1;
  return MB_OK;
}

/* --- For people --------------------------------------------------------- */

/* mysql://user@host:port,host:port/database */
static void write_url(mb_driver_connector *connector)
{
  char *start = connector->memory + connector->used;
  char *at = start;
  const char *user = connector->user;
  at += sprintf(
      at, "mysql://%s%s", user != NULL ? user : "", user != NULL ? "@" : "");
  for (size_t i = 0; i < connector->n_places; i++) {
    const mq_place *place = &connector->places[i];
    const char *where = place->host != NULL ? place->host : "";
    const bool colons = strchr(where, ':') != NULL;
    at += sprintf(at, "%s%s%s%s", i > 0 ? "," : "", colons ? "[" : "", where,
        colons ? "]" : "");
    if (place->port != 0)
      at += sprintf(at, ":%u", place->port);
  }
  at += sprintf(
      at, "/%s", connector->database != NULL ? connector->database : "");
  connector->url = start;
  connector->used += (size_t)(at - start) + 1;
}

/* --- All of it ---------------------------------------------------------- */

static void keep_options(
    mb_driver_connector *connector, const mb_option *options, size_t n)
{
  const struct {
    const char *name;
    const char **to;
  } texts[] = {
      {"user", &connector->user},
      {"password", &connector->password},
      {"database", &connector->database},
      {"plugin_dir", &connector->plugin_dir},
      {"default_auth", &connector->default_auth},
      {"server_public_key", &connector->server_public_key},
      {"ssl_ca", &connector->files.ca},
      {"ssl_capath", &connector->files.ca_path},
      {"ssl_cert", &connector->files.cert},
      {"ssl_key", &connector->files.key},
      {"ssl_passphrase", &connector->files.passphrase},
      {"ssl_cipher", &connector->files.cipher},
      {"ssl_crl", &connector->files.crl},
      {"ssl_crlpath", &connector->files.crl_path},
      {"tls_version", &connector->files.version},
  };
  for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
    *texts[i].to = keep_option(connector, options, n, texts[i].name);
  if (connector->user != NULL && connector->user[0] == '\0')
    connector->user = NULL;
  if (connector->database != NULL && connector->database[0] == '\0')
    connector->database = NULL;
  connector->compress = is_true(options, n, "compress");
  connector->local_infile = is_true(options, n, "local_infile");
  connector->get_server_public_key =
      is_true(options, n, "get_server_public_key");
}

static mb_status fill(mb_driver_connector *connector, const mb_option *options,
    size_t n, mb_error *error)
{
  const mb_host *host = connector->host;
  /* Each text is kept once, and most of them are part of the URL as well. */
  size_t room = sizeof strict_mode + 256;
  for (size_t i = 0; i < n; i++)
    room += 4 * strlen(options[i].value) + 64;
  connector->memory = host->allocate(room);
  if (connector->memory == NULL)
    return mq_out_of_memory(host, error);
  keep_options(connector, options, n);
  if (mq_read_places(connector, options, n, error) != MB_OK ||
      write_settings(connector, options, n, error) != MB_OK)
    return MB_ERROR;
  write_url(connector);
  return MB_OK;
}

mb_status mq_open_connector(const mb_host *host, const mb_option *options,
    size_t n, mb_driver_connector **out, mb_connector_info *info,
    mb_error *error)
{
  mb_driver_connector *connector = host->allocate(sizeof *connector);
  if (connector == NULL)
    return mq_out_of_memory(host, error);
  *connector = (mb_driver_connector){.host = host};
  atomic_init(&connector->refs, 1);
  if (fill(connector, options, n, error) != MB_OK) {
    mq_close_connector(connector);
    return MB_ERROR;
  }
  const mq_place *first = &connector->places[0];
  *out = connector;
  *info = (mb_connector_info){
      .url = connector->url,
      .host = first->host,
      .database = connector->database,
      .port = first->host == NULL ? 0
              : first->port != 0  ? (int)first->port
                                  : 3306,
      .blocks = true,
      .awaits = MQ_LIBMARIADB,
  };
  return MB_OK;
}

void mq_keep_connector(mb_driver_connector *connector)
{
  (void)atomic_fetch_add(&connector->refs, 1);
}

void mq_wipe(const char *text)
{
  /* Through a volatile pointer, so that it is not optimised away. */
  volatile char *byte = (char *)text;
  for (size_t size = text != NULL ? strlen(text) : 0; size > 0; size--)
    *byte++ = '\0';
}

void mq_close_connector(mb_driver_connector *connector)
{
  const mb_host *host = connector->host;
  if (atomic_fetch_sub(&connector->refs, 1) != 1)
    return;
  mq_wipe(connector->password);
  mq_wipe(connector->files.passphrase);
  host->release(connector->places);
  host->release(connector->memory);
  host->release(connector);
}
