/*
 * connector.c: options, checked against one table, and what is made of them.
 *
 * A URL and a list of options become one list of names and values.  Each name
 * is an option of the core, of the handle that the user gets, or of the driver;
 * what is none of these is refused, with the name that may have been meant.
 */
#include "connector.h"

#include "../driver_text.h"
#include "host.h"
#include "suggest.h"
#include "url.h"

#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NS_PER_SECOND 1000000000
/* Longer than anybody waits: ten years, which leaves room in nanoseconds. */
#define SECONDS_MAX INT64_C(315576000)

/* --- The options of the core -------------------------------------------- */

/* Where an integer or a time goes. */
#define NOWHERE SIZE_MAX
#define INTO(member) offsetof(mb_settings, member)

typedef struct core_option {
  mb_option_spec spec;
  size_t into;     /* mb_settings */
  int64_t minimum; /* of an integer */
} core_option;

static const core_option core_options[] = {
    {{"connect_timeout", MB_OPTION_SECONDS, NULL}, INTO(connect_timeout_ns), 0},
    {{"acquire_timeout", MB_OPTION_SECONDS, NULL}, INTO(acquire_timeout_ns), 0},
    {{"timeout", MB_OPTION_SECONDS, NULL}, INTO(timeout_ns), 0},
    {{"cancel_grace", MB_OPTION_SECONDS, NULL}, INTO(cancel_grace_ns), 0},
    {{"fetch_size", MB_OPTION_INTEGER, NULL}, INTO(fetch_size), 0},
    {{"statement_cache", MB_OPTION_INTEGER, NULL}, INTO(statement_cache), 0},
    {{"max", MB_OPTION_INTEGER, NULL}, INTO(max), 1},
    {{"min_idle", MB_OPTION_INTEGER, NULL}, INTO(min_idle), 0},
    {{"idle_timeout", MB_OPTION_SECONDS, NULL}, INTO(idle_timeout_ns), 0},
    {{"max_lifetime", MB_OPTION_SECONDS, NULL}, INTO(max_lifetime_ns), 0},
    {{"check_after_idle", MB_OPTION_SECONDS, "false"},
        INTO(check_after_idle_ns), 0},
    {{"sweep_interval", MB_OPTION_SECONDS, NULL}, INTO(sweep_interval_ns), 0},
    {{"leak_after", MB_OPTION_SECONDS, NULL}, INTO(leak_after_ns), 0},
    {{"shed_target", MB_OPTION_SECONDS, NULL}, INTO(shed_target_ns), 0},
    {{"shed_interval", MB_OPTION_SECONDS, NULL}, INTO(shed_interval_ns), 0},
    {{"single_writer", MB_OPTION_BOOLEAN, NULL}, INTO(single_writer), 0},
    {{"asks_password", MB_OPTION_BOOLEAN, NULL}, INTO(asks_password), 0},
    /* In the order of mb_session_reset. */
    {{"reset", MB_OPTION_TEXT, "auto full none"}, INTO(reset), 0},
    {{"name", MB_OPTION_TEXT, NULL}, NOWHERE, 0},
    {{"init", MB_OPTION_LIST, NULL}, NOWHERE, 0},
    /* Those of the handle: checked here, read by mb_pool_option. */
    {{"errors", MB_OPTION_TEXT, "raise return"}, NOWHERE, 0},
    {{"int64", MB_OPTION_TEXT, "string error"}, NOWHERE, 0},
    {{"decimal", MB_OPTION_TEXT, "string number"}, NOWHERE, 0},
    {{"booleans", MB_OPTION_BOOLEAN, NULL}, NOWHERE, 0},
    {{"log_parameters", MB_OPTION_BOOLEAN, NULL}, NOWHERE, 0},
};

#define N_CORE_OPTIONS (sizeof core_options / sizeof core_options[0])

static const core_option *find_core_option(const char *name)
{
  for (size_t i = 0; i < N_CORE_OPTIONS; i++)
    if (strcmp(core_options[i].spec.name, name) == 0)
      return &core_options[i];
  return NULL;
}

static const mb_option_spec *find_driver_option(
    const mb_driver *driver, const char *name)
{
  const mb_option_spec *spec = driver->options;
  while (spec->name != NULL && strcmp(spec->name, name) != 0)
    spec++;
  return spec->name != NULL ? spec : NULL;
}

/* --- Drivers ------------------------------------------------------------ */

typedef struct loaded {
  const mb_driver *given;
  mb_driver driver;
  struct loaded *next;
} loaded;

static pthread_mutex_t load_lock = PTHREAD_MUTEX_INITIALIZER;
static loaded *drivers; /* guarded by load_lock; never shrinks */

/* The slots without which nothing works. */
static const struct {
  const char *name;
  size_t at;
} required[] = {
/* clang-format off */
#define REQUIRED(slot) {#slot, offsetof(mb_driver, slot)}
    /* clang-format on */
    REQUIRED(library_version),
    REQUIRED(open_connector),
    REQUIRED(close_connector),
    REQUIRED(connect),
    REQUIRED(close),
    REQUIRED(abandon),
    REQUIRED(is_valid),
    REQUIRED(capability),
    REQUIRED(transaction_state),
    REQUIRED(prepare),
    REQUIRED(execute),
    REQUIRED(fetch),
    REQUIRED(finish),
    REQUIRED(close_statement),
    REQUIRED(exec_text),
    REQUIRED(cancel_handle),
    REQUIRED(cancel),
    REQUIRED(release_cancel),
#undef REQUIRED
};

static mb_status check_slots(const mb_driver *driver, mb_error *error)
{
  if (driver->name == NULL || driver->schemes == NULL ||
      driver->options == NULL)
    return mb__host.fail(
        error, MB_DRIVER_FAULT, "a driver gives no name, schemes or options");
  for (size_t i = 0; i < sizeof required / sizeof required[0]; i++) {
    void (*slot)(void);
    memcpy(&slot, (const char *)driver + required[i].at, sizeof slot);
    if (slot == NULL)
      return mb__host.fail(error, MB_MISSING_IMPLEMENTATION,
          "driver \"%s\" has no %s", driver->name, required[i].name);
  }
  return MB_OK;
}

/* Whether a driver's library is in use already: by the same function, in the
 * table of a driver that goes around it. */
static bool is_initialised_locked(const mb_driver *driver)
{
  const loaded *one = drivers;
  while (one != NULL && one->driver.library_init != driver->library_init)
    one = one->next;
  return one != NULL;
}

static mb_status load_locked(
    const mb_driver *given, const mb_driver **out, mb_error *error)
{
  for (loaded *one = drivers; one != NULL; one = one->next)
    if (one->given == given) {
      *out = &one->driver;
      return MB_OK;
    }
  loaded *one = mb__allocate_zeroed(1, sizeof *one);
  if (one == NULL)
    return mb__out_of_memory(error);
  memcpy(&one->driver, given,
      given->size < sizeof one->driver ? given->size : sizeof one->driver);
  one->given = given;
  if (check_slots(&one->driver, error) != MB_OK ||
      (one->driver.library_init != NULL &&
          !is_initialised_locked(&one->driver) &&
          one->driver.library_init(&mb__host, error) != MB_OK)) {
    mb__host.release(one);
    return MB_ERROR;
  }
  one->next = drivers;
  drivers = one;
  *out = &one->driver;
  return MB_OK;
}

mb_status mb__driver_load(
    const mb_driver *given, const mb_driver **out, mb_error *error)
{
  if (given->abi != MB_DRIVER_ABI)
    return mb__host.fail(error, MB_DRIVER_FAULT,
        "the driver speaks version %u of the driver interface, this Moonbase "
        "version %u: build both from one release",
        (unsigned)given->abi, (unsigned)MB_DRIVER_ABI);
  (void)pthread_mutex_lock(&load_lock);
  const mb_status status = load_locked(given, out, error);
  (void)pthread_mutex_unlock(&load_lock);
  return status;
}

/* --- Values ------------------------------------------------------------- */

static mb_status refuse_value(
    const char *name, const char *wanted, mb_error *error)
{
  return mb__host.fail(
      error, MB_CONNECTOR_VALIDATION, "option %s: %s", name, wanted);
}

static bool read_integer(const char *text, int64_t *out)
{
  char *end;
  errno = 0;
  const long long value = strtoll(text, &end, 10);
  *out = value;
  return errno == 0 && end != text && *end == '\0' &&
         strspn(text, "-0123456789") == strlen(text);
}

/* Digits, and perhaps a point and digits: not strtod, which listens to the
 * locale. */
static bool read_seconds(const char *text, int64_t *out_ns)
{
  int64_t value_ns = 0;
  int64_t unit_ns = NS_PER_SECOND;
  const char *at = text;
  for (; *at >= '0' && *at <= '9'; at++) {
    value_ns = value_ns * 10 + (int64_t)(*at - '0') * NS_PER_SECOND;
    if (value_ns > SECONDS_MAX * NS_PER_SECOND)
      return false;
  }
  if (at == text)
    return false;
  if (*at == '.')
    for (at++; *at >= '0' && *at <= '9'; at++) {
      unit_ns /= 10;
      value_ns += (*at - '0') * unit_ns;
    }
  *out_ns = value_ns;
  return *at == '\0';
}

/* Which of the words it is, from 0; -1: none of them. */
static int find_word(const char *words, const char *value)
{
  const size_t size = strlen(value);
  for (int i = 0; *words != '\0'; i++) {
    const size_t word = strcspn(words, " ");
    if (word == size && memcmp(words, value, size) == 0)
      return i;
    words += word;
    words += strspn(words, " ");
  }
  return -1;
}

static bool is_word(const char *words, const char *value)
{
  return find_word(words, value) >= 0;
}

static mb_status check_value(
    const mb_option_spec *spec, const char *value, mb_error *error)
{
  int64_t ignored;
  switch (spec->kind) {
  case MB_OPTION_INTEGER:
    if (!read_integer(value, &ignored))
      return refuse_value(spec->name, "wants a whole number", error);
    break;
  case MB_OPTION_SECONDS:
    if (spec->words != NULL && is_word(spec->words, value))
      break;
    if (!read_seconds(value, &ignored))
      return refuse_value(
          spec->name, "wants a number of seconds, 0 or more", error);
    break;
  case MB_OPTION_BOOLEAN:
    if (!is_word("true false", value))
      return refuse_value(spec->name, "wants true or false", error);
    break;
  default:
    if (spec->words != NULL && !is_word(spec->words, value))
      return mb__host.fail(error, MB_CONNECTOR_VALIDATION,
          "option %s: wants one of: %s", spec->name, spec->words);
  }
  return MB_OK;
}

static mb_status store_setting(const core_option *option, const char *value,
    mb_settings *settings, mb_error *error)
{
  int64_t number = 0;
  if (option->into == NOWHERE)
    return MB_OK;
  if (option->spec.kind == MB_OPTION_SECONDS) {
    if (!read_seconds(value, &number))
      number = -1; /* one of its words */
  } else if (option->spec.kind == MB_OPTION_BOOLEAN) {
    number = strcmp(value, "true") == 0;
  } else if (option->spec.kind == MB_OPTION_TEXT) {
    number = find_word(option->spec.words, value);
  } else {
    (void)read_integer(value, &number);
    if (number < option->minimum)
      return mb__host.fail(error, MB_CONNECTOR_VALIDATION,
          "option %s: wants at least %lld", option->spec.name,
          (long long)option->minimum);
  }
  memcpy((char *)settings + option->into, &number, sizeof number);
  return MB_OK;
}

/* --- Names -------------------------------------------------------------- */

/* Options that never come as text: the Lua side keeps them. */
static const char *const lua_options[] = {"null", "types", "json", "on_connect",
    "functions", "aggregates", "collations", "pool"};

/* The option that a wrong name comes next to, or NULL. */
static const char *meant(const mb_driver *driver, const char *name)
{
  const char *names[N_CORE_OPTIONS + 64];
  size_t n = 0;
  for (; n < N_CORE_OPTIONS; n++)
    names[n] = core_options[n].spec.name;
  for (size_t i = 0; i < sizeof lua_options / sizeof lua_options[0]; i++)
    names[n++] = lua_options[i];
  for (const mb_option_spec *spec = driver->options;
       spec->name != NULL && n < sizeof names / sizeof names[0]; spec++)
    names[n++] = spec->name;
  return mb__suggest(name, strlen(name), names, n);
}

/* A name from a URL is not quoted: a misplaced character makes one of a part of
 * the password. */
static mb_status refuse_name(
    const mb_driver *driver, const char *name, size_t in_url, mb_error *error)
{
  const char *guess = meant(driver, name);
  char where[64];
  if (in_url > 0)
    (void)snprintf(where, sizeof where, "parameter %zu of the URL", in_url);
  else
    (void)snprintf(where, sizeof where, "\"%.*s\"",
        (int)mb__utf8_cut(name, strlen(name), 40), name);
  return mb__host.fail(error, MB_CONNECTOR_VALIDATION,
      "%s is no option of %s%s%s%s", where, driver->name,
      guess != NULL ? "; did you mean \"" : "", guess != NULL ? guess : "",
      guess != NULL ? "\"?" : "");
}

/* Checks one option and keeps it; in_url: its number among the parameters. */
static mb_status take_option(mb__connector *connector, const char *name,
    const char *value, size_t in_url, mb_error *error)
{
  const core_option *core = find_core_option(name);
  const mb_option_spec *spec =
      core != NULL ? &core->spec : find_driver_option(connector->driver, name);
  if (spec == NULL)
    return refuse_name(connector->driver, name, in_url, error);
  if (check_value(spec, value, error) != MB_OK ||
      (core != NULL &&
          store_setting(core, value, &connector->settings, error) != MB_OK))
    return MB_ERROR;

  mb_option *kept = &connector->options[connector->n_options];
  kept->name = spec->name;
  kept->value = mb__copy_text(value, strlen(value));
  if (kept->value == NULL)
    return mb__out_of_memory(error);
  connector->n_options++;
  if (strcmp(name, "init") == 0)
    connector->init[connector->n_init++] = kept->value;
  return MB_OK;
}

/* --- Opening ------------------------------------------------------------ */

/* Whether the driver's URLs name a path, as sqlite:app.db. */
static bool has_paths(const mb_driver *driver)
{
  return find_driver_option(driver, "path") != NULL;
}

static bool serves(const mb_driver *driver, const char *scheme)
{
  const char *const *one = driver->schemes;
  while (*one != NULL && strcmp(*one, scheme) != 0)
    one++;
  return *one != NULL;
}

/* The parts of the URL that no option replaces. */
static mb_status take_url(mb__connector *connector, const mb__url *url,
    const mb_option *options, size_t n, mb_error *error)
{
  const struct {
    const char *name, *value;
  } parts[] = {
      {"user", url->user},
      {"password", url->password},
      {"host", url->host},
      {"port", url->port},
      {has_paths(connector->driver) ? "path" : "database", url->path},
  };
  for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
    if (parts[i].value != NULL &&
        mb_option_value(options, n, parts[i].name) == NULL &&
        take_option(connector, parts[i].name, parts[i].value, 0, error) !=
            MB_OK)
      return MB_ERROR;
  for (size_t i = 0; i < url->n_params; i++)
    if (mb_option_value(options, n, url->params[i].name) == NULL &&
        take_option(connector, url->params[i].name, url->params[i].value, i + 1,
            error) != MB_OK)
      return MB_ERROR;
  return MB_OK;
}

static mb_status take_all(mb__connector *connector, const mb__url *url,
    const mb_option *options, size_t n, mb_error *error)
{
  const size_t room = 5 + url->n_params + n;
  connector->options = mb__allocate_zeroed(room, sizeof *connector->options);
  connector->init = mb__allocate_zeroed(room, sizeof *connector->init);
  if (connector->options == NULL || connector->init == NULL)
    return mb__out_of_memory(error);
  if (url->scheme != NULL && !serves(connector->driver, url->scheme))
    return mb__host.fail(error, MB_CONNECTOR_VALIDATION,
        "scheme: not one of driver \"%s\"", connector->driver->name);
  if (take_url(connector, url, options, n, error) != MB_OK)
    return MB_ERROR;
  for (size_t i = 0; i < n; i++)
    if (take_option(connector, options[i].name, options[i].value, 0, error) !=
        MB_OK)
      return MB_ERROR;
  return MB_OK;
}

/* Whether the driver wants to know of it: its own options, and those of the
 * core that it lists too. */
static bool concerns_driver(const mb_driver *driver, const char *name)
{
  return find_core_option(name) == NULL ||
         find_driver_option(driver, name) != NULL;
}

/* Hands the driver what concerns it. */
static mb_status open_impl(mb__connector *connector, mb_error *error)
{
  mb_option *own = mb__allocate_zeroed(connector->n_options + 1, sizeof *own);
  if (own == NULL)
    return mb__out_of_memory(error);
  size_t n = 0;
  for (size_t i = 0; i < connector->n_options; i++)
    if (concerns_driver(connector->driver, connector->options[i].name))
      own[n++] = connector->options[i];
  const mb_status status = connector->driver->open_connector(
      &mb__host, own, n, &connector->impl, &connector->info, error);
  mb__host.release(own);
  return status;
}

mb_status mb__connector_open(const mb_driver *driver, const char *url,
    const mb_option *options, size_t n, mb__connector **out, mb_error *error)
{
  *out = NULL;
  mb__connector *connector = mb__allocate_zeroed(1, sizeof *connector);
  if (connector == NULL)
    return mb__out_of_memory(error);
  atomic_init(&connector->refs, 1);
  connector->settings = (mb_settings){
      .connect_timeout_ns = 10 * (int64_t)NS_PER_SECOND,
      .acquire_timeout_ns = 30 * (int64_t)NS_PER_SECOND,
      .cancel_grace_ns = 2 * (int64_t)NS_PER_SECOND,
      .statement_cache = -1,
      .max = 10,
      .single_writer = -1,
      .idle_timeout_ns = 600 * (int64_t)NS_PER_SECOND,
      .max_lifetime_ns = 1800 * (int64_t)NS_PER_SECOND,
      .check_after_idle_ns = 30 * (int64_t)NS_PER_SECOND,
      .sweep_interval_ns = 60 * (int64_t)NS_PER_SECOND,
      .shed_interval_ns = NS_PER_SECOND / 10,
  };

  mb__url parsed = {.scheme = NULL};
  mb_status status = mb__driver_load(driver, &connector->driver, error);
  if (status == MB_OK && url != NULL)
    status = mb__url_parse(
        url, strlen(url), has_paths(connector->driver), &parsed, error);
  if (status == MB_OK)
    status = take_all(connector, &parsed, options, n, error);
  mb__url_close(&parsed);
  if (status == MB_OK && connector->settings.asks_password == 1 &&
      find_driver_option(connector->driver, "password") == NULL)
    status = refuse_name(connector->driver, "password", 0, error);
  if (status == MB_OK)
    status = open_impl(connector, error);
  if (status != MB_OK) {
    mb__connector_unref(connector);
    return MB_ERROR;
  }
  const int most = connector->info.max_connections;
  if (most > 0 && connector->settings.max > most)
    connector->settings.max = most;
  *out = connector;
  return MB_OK;
}

void mb__connector_ref(mb__connector *connector)
{
  (void)atomic_fetch_add(&connector->refs, 1);
}

void mb__connector_unref(mb__connector *connector)
{
  if (atomic_fetch_sub(&connector->refs, 1) != 1)
    return;
  if (connector->impl != NULL)
    connector->driver->close_connector(connector->impl);
  for (size_t i = 0; i < connector->n_options; i++)
    mb__release_secret((char *)connector->options[i].value);
  mb__host.release(connector->options);
  mb__host.release(connector->init);
  mb__host.release(connector);
}

/* The value of an option behind skipped ones of it; NULL: there is none. */
static const char *find_value(
    const mb__connector *connector, const char *name, size_t skipped)
{
  for (size_t i = 0; i < connector->n_options; i++)
    if (strcmp(connector->options[i].name, name) == 0 && skipped-- == 0)
      return connector->options[i].value;
  return NULL;
}

bool mb__connector_equals(const mb__connector *a, const mb__connector *b)
{
  bool same = a->driver == b->driver && a->n_options == b->n_options;
  for (size_t i = 0; same && i < a->n_options; i++) {
    const mb_option *option = &a->options[i];
    size_t before = 0;
    for (size_t k = 0; k < i; k++)
      before += strcmp(a->options[k].name, option->name) == 0;
    const char *value = find_value(b, option->name, before);
    same = value != NULL && strcmp(value, option->value) == 0;
  }
  return same;
}

void mb_url_scheme(const char *url, char *out, size_t size)
{
  const size_t length = strcspn(url, ":/?#@ ");
  out[0] = '\0';
  if (url[length] != ':' || length == 0 || length >= size)
    return;
  memcpy(out, url, length);
  out[length] = '\0';
}
