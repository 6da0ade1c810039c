/*
 * connector.c: from options to a file name for sqlite3_open_v2.
 *
 * The parameters of SQLite's own URIs are options here; when one is given the
 * path is written as such a URI, else it goes to SQLite as it is.
 */
#include "../../src/driver_text.h"
#include "sqlite.h"

#include <stdio.h>
#include <string.h>

#define VERSION_MIN 3040000

const mb_option_spec sl_options[] = {
    {"path", MB_OPTION_TEXT, NULL},
    {"mode", MB_OPTION_TEXT, "ro rw rwc memory"},
    {"cache", MB_OPTION_TEXT, "shared private"},
    {"immutable", MB_OPTION_TEXT, "0 1"},
    {"nolock", MB_OPTION_TEXT, "0 1"},
    {"psow", MB_OPTION_TEXT, "0 1"},
    {"modeof", MB_OPTION_TEXT, NULL},
    {"vfs", MB_OPTION_TEXT, NULL},
    {"pragma", MB_OPTION_LIST, NULL},
    {"extensions", MB_OPTION_LIST, NULL},
    {NULL, MB_OPTION_TEXT, NULL},
};

/* Options that are parameters of the URI. */
static bool is_uri_parameter(const char *name)
{
  return strcmp(name, "path") != 0 && strcmp(name, "pragma") != 0 &&
         strcmp(name, "extensions") != 0;
}

static bool is(
    const mb_option *options, size_t n, const char *name, const char *wanted)
{
  const char *value = mb_option_value(options, n, name);
  return value != NULL && strcmp(value, wanted) == 0;
}

/* Appends text, percent-encoding what means something in a URI. */
static char *encode(char *at, const char *text)
{
  for (; *text != '\0'; text++) {
    if (strchr("%?#&=", *text) != NULL)
      at += sprintf(at, "%%%02X", (unsigned)(unsigned char)*text);
    else
      *at++ = *text;
  }
  *at = '\0';
  return at;
}

/* Writes "file:path?name=value&…"; room was counted by size_of_texts. */
static void write_uri(
    char *at, const char *path, const mb_option *options, size_t n)
{
  char separator = '?';
  at += sprintf(at, "file:");
  at = encode(at, path);
  for (size_t i = 0; i < n; i++)
    if (is_uri_parameter(options[i].name)) {
      at += sprintf(at, "%c%s=", separator, options[i].name);
      at = encode(at, options[i].value);
      separator = '&';
    }
}

static size_t size_of_texts(const mb_option *options, size_t n)
{
  size_t size = sizeof "sqlite:./";
  for (size_t i = 0; i < n; i++)
    size += strlen(options[i].name) + 3 * strlen(options[i].value) + 3;
  return size;
}

/* "journal_mode = delete": the user has decided. */
static bool chooses_journal(const char *pragma)
{
  pragma += strspn(pragma, " \t");
  const char *dot = strchr(pragma, '.');
  if (dot != NULL && dot < pragma + strcspn(pragma, "=("))
    pragma = dot + 1;
  return sqlite3_strnicmp(pragma, "journal_mode", 12) == 0;
}

/* Whether something follows the first semicolon: SQLite would not run it. */
static bool is_several(const char *pragma)
{
  const char *rest = strchr(pragma, ';');
  return rest != NULL && rest[strspn(rest, "; \t\r\n")] != '\0';
}

static mb_status copy_lists(mb_driver_connector *connector,
    const mb_option *options, size_t n, char *at, mb_error *error)
{
  const mb_host *host = connector->host;
  connector->pragmas = host->allocate((n + 1) * sizeof(char *));
  connector->extensions = host->allocate((n + 1) * sizeof(char *));
  if (connector->pragmas == NULL || connector->extensions == NULL)
    return sl_out_of_memory(host, error);
  for (size_t i = 0; i < n; i++) {
    const bool pragma = strcmp(options[i].name, "pragma") == 0;
    if (!pragma && strcmp(options[i].name, "extensions") != 0)
      continue;
    const size_t size = strlen(options[i].value) + 1;
    memcpy(at, options[i].value, size);
    if (pragma && is_several(at))
      return host->fail(error, MB_CONNECTOR_VALIDATION,
          "pragma: number %zu of them is more than one setting",
          connector->n_pragmas + 1);
    if (pragma) {
      connector->pragmas[connector->n_pragmas++] = at;
      connector->keeps_journal |= chooses_journal(at);
    } else {
      connector->extensions[connector->n_extensions++] = at;
    }
    at += size;
  }
  return MB_OK;
}

static mb_status fill(mb_driver_connector *connector, const mb_option *options,
    size_t n, mb_error *error)
{
  const mb_host *host = connector->host;
  const char *path = mb_option_value(options, n, "path");
  const size_t size = size_of_texts(options, n);
  connector->memory = host->allocate(4 * size);
  if (connector->memory == NULL)
    return sl_out_of_memory(host, error);
  connector->file = connector->memory;
  connector->url = connector->memory + size;
  connector->path = connector->memory + 2 * size;

  bool uri = false;
  for (size_t i = 0; i < n; i++)
    uri |= is_uri_parameter(options[i].name);
  if (uri)
    write_uri(connector->file, path, options, n);
  else /* some builds of SQLite take "file:…" for a URI unasked */
    (void)sprintf(connector->file, "%s%s",
        strncmp(path, "file:", 5) == 0 ? "./" : "", path);
  (void)sprintf(connector->url, "sqlite:%s", path);
  (void)strcpy(connector->path, path);

  connector->open_flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE |
                          SQLITE_OPEN_NOMUTEX | (uri ? SQLITE_OPEN_URI : 0);
  const bool memory_vfs = is(options, n, "vfs", "memdb");
  connector->in_memory = path[0] == '\0' || strcmp(path, ":memory:") == 0 ||
                         is(options, n, "mode", "memory") || memory_vfs;
  connector->read_only =
      is(options, n, "mode", "ro") || is(options, n, "immutable", "1");
  connector->shares_cache = is(options, n, "cache", "shared");
  connector->shared = connector->shares_cache || (memory_vfs && path[0] == '/');
  return copy_lists(connector, options, n, connector->memory + 3 * size, error);
}

mb_status sl_open_connector(const mb_host *host, const mb_option *options,
    size_t n, mb_driver_connector **out, mb_connector_info *info,
    mb_error *error)
{
  if (sqlite3_libversion_number() < VERSION_MIN)
    return host->fail(error, MB_UNSUPPORTED,
        "SQLite 3.40 or a later one is needed, and this is %s",
        sqlite3_libversion());
  if (mb_option_value(options, n, "path") == NULL)
    return host->fail(error, MB_CONNECTOR_VALIDATION,
        "path: missing; write sqlite:FILE, or sqlite::memory:");
  mb_driver_connector *connector = host->allocate(sizeof *connector);
  if (connector == NULL)
    return sl_out_of_memory(host, error);
  *connector = (mb_driver_connector){.host = host};
  if (fill(connector, options, n, error) != MB_OK) {
    sl_close_connector(connector);
    return MB_ERROR;
  }
  *out = connector;
  *info = (mb_connector_info){
      .url = connector->url,
      .database = connector->path,
      .file = connector->in_memory ? NULL : connector->path,
      .max_connections = connector->in_memory && !connector->shared ? 1 : 0,
      .is_the_database = connector->in_memory,
  };
  return MB_OK;
}

void sl_close_connector(mb_driver_connector *connector)
{
  const mb_host *host = connector->host;
  host->release(connector->pragmas);
  host->release(connector->extensions);
  host->release(connector->memory);
  host->release(connector);
}
