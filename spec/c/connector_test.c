/* connector_test.c: options, URLs and driver tables, and what is refused. */
#include "session.h"

#define NS_PER_SECOND (1000 * NS_PER_MS)

/* Opens a pool and closes it; its settings, as far as it was made. */
static mb_status open_as(session *s, const char *url, const mb_option *options,
    size_t n, mb_settings *out)
{
  *out = (mb_settings){.max = 0};
  const mb_status status = open_pool(s, url, options, n);
  if (status == MB_OK) {
    *out = *mb_pool_settings(s->pool);
    mb_pool_close(s->pool, 0);
  }
  s->pool = NULL;
  CHECK_INT(td_open_objects(), 0);
  return status;
}

static void check_message(const session *s, const char *expected)
{
  size_t size;
  const char *message = mb_error_text(s->error, MB_MESSAGE, &size);
  CHECK_INT(s->error->class, MB_CONNECTOR_VALIDATION);
  CHECK_BYTES(message, size, expected);
}

/* --- Options ------------------------------------------------------------ */

ONE_WAY(knows_what_is_not_said)
{
  mb_settings found;
  CHECK_INT(open_as(s, NULL, NULL, 0, &found), MB_OK);
  CHECK_INT(found.connect_timeout_ns, 10 * NS_PER_SECOND);
  CHECK_INT(found.acquire_timeout_ns, 30 * NS_PER_SECOND);
  CHECK_INT(found.timeout_ns, 0);
  CHECK_INT(found.cancel_grace_ns, 2 * NS_PER_SECOND);
  CHECK_INT(found.fetch_size, 0);
  CHECK_INT(found.statement_cache, -1);
  CHECK_INT(found.max, 10);
}

ONE_WAY(reads_numbers_and_times)
{
  static const struct {
    mb_option option;
    int64_t expected;
    size_t at;
  } cases[] = {
#define INTO(member) offsetof(mb_settings, member)
      {{"max", "1"}, 1, INTO(max)},
      {{"max", "0123"}, 123, INTO(max)},
      {{"max", "9223372036854775807"}, INT64_MAX, INTO(max)},
      {{"statement_cache", "0"}, 0, INTO(statement_cache)},
      {{"statement_cache", "-0"}, 0, INTO(statement_cache)},
      {{"fetch_size", "500"}, 500, INTO(fetch_size)},
      {{"timeout", "0"}, 0, INTO(timeout_ns)},
      {{"timeout", "0.5"}, NS_PER_SECOND / 2, INTO(timeout_ns)},
      {{"timeout", "1.25"}, 1250 * NS_PER_MS, INTO(timeout_ns)},
      {{"timeout", "0.000000001"}, 1, INTO(timeout_ns)},
      {{"timeout", "0.0000000019"}, 1, INTO(timeout_ns)},
      {{"timeout", "315576000"}, 315576000 * NS_PER_SECOND, INTO(timeout_ns)},
      {{"connect_timeout", "007"}, 7 * NS_PER_SECOND, INTO(connect_timeout_ns)},
      {{"acquire_timeout", "2"}, 2 * NS_PER_SECOND, INTO(acquire_timeout_ns)},
      {{"cancel_grace", "3"}, 3 * NS_PER_SECOND, INTO(cancel_grace_ns)},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    mb_settings found;
    int64_t number;
    if (!CHECK_INT(open_as(s, NULL, &cases[i].option, 1, &found), MB_OK))
      continue;
    memcpy(&number, (const char *)&found + cases[i].at, sizeof number);
    if (!CHECK_INT(number, cases[i].expected))
      (void)fprintf(stderr, "  for %s\n", cases[i].option.value);
  }
}

ONE_WAY(refuses_wrong_values)
{
#define WHOLE "wants a whole number"
#define SECONDS "wants a number of seconds, 0 or more"
  static const struct {
    mb_option option;
    const char *message;
  } cases[] = {
      {{"max", ""}, "option max: " WHOLE},
      {{"max", "ten"}, "option max: " WHOLE},
      {{"max", "1.5"}, "option max: " WHOLE},
      {{"max", " 1"}, "option max: " WHOLE},
      {{"max", "1 "}, "option max: " WHOLE},
      {{"max", "+1"}, "option max: " WHOLE},
      {{"max", "--1"}, "option max: " WHOLE},
      {{"max", "1-"}, "option max: " WHOLE},
      {{"max", "0x10"}, "option max: " WHOLE},
      {{"max", "9223372036854775808"}, "option max: " WHOLE},
      {{"max", "0"}, "option max: wants at least 1"},
      {{"max", "-1"}, "option max: wants at least 1"},
      {{"statement_cache", "-1"}, "option statement_cache: wants at least 0"},
      {{"fetch_size", "-1"}, "option fetch_size: wants at least 0"},
      {{"level", "high"}, "option level: " WHOLE},
      {{"timeout", ""}, "option timeout: " SECONDS},
      {{"timeout", "-1"}, "option timeout: " SECONDS},
      {{"timeout", ".5"}, "option timeout: " SECONDS},
      {{"timeout", "1,5"}, "option timeout: " SECONDS},
      {{"timeout", "1e3"}, "option timeout: " SECONDS},
      {{"timeout", "1s"}, "option timeout: " SECONDS},
      {{"timeout", "inf"}, "option timeout: " SECONDS},
      {{"timeout", "1.0.0"}, "option timeout: " SECONDS},
      {{"timeout", "315576001"}, "option timeout: " SECONDS},
      {{"timeout", "99999999999999999999999"}, "option timeout: " SECONDS},
      {{"pause", "soon"}, "option pause: " SECONDS},
      {{"errors", "ignore"}, "option errors: wants one of: raise return"},
      {{"errors", ""}, "option errors: wants one of: raise return"},
      {{"errors", "raise return"}, "option errors: wants one of: raise return"},
      {{"int64", "float"}, "option int64: wants one of: string error"},
      {{"decimal", "s"}, "option decimal: wants one of: string number"},
      {{"pace", "slower"}, "option pace: wants one of: slow fast"},
      {{"booleans", "yes"}, "option booleans: wants true or false"},
      {{"loud", "True"}, "option loud: wants true or false"},
      {{"database", "wrong"}, "option database: not this one"},
  };
  mb_settings found;
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    CHECK_INT(open_as(s, NULL, &cases[i].option, 1, &found), MB_ERROR);
    check_message(s, cases[i].message);
  }
}

ONE_WAY(suggests_what_was_meant)
{
  static const struct {
    const char *name, *message;
  } cases[] = {
      {"time_out",
          "\"time_out\" is no option of test; did you mean \"timeout\"?"},
      {"statment_cache", "\"statment_cache\" is no option of test; did you "
                         "mean \"statement_cache\"?"},
      {"pasword",
          "\"pasword\" is no option of test; did you mean \"password\"?"},
      {"loude", "\"loude\" is no option of test; did you mean \"loud\"?"},
      /* What never comes as text is known all the same. */
      {"on_conect",
          "\"on_conect\" is no option of test; did you mean \"on_connect\"?"},
      {"color", "\"color\" is no option of test"},
      {"", "\"\" is no option of test"},
      {"MAX", "\"MAX\" is no option of test; did you mean \"max\"?"},
      {"a_name_that_is_much_longer_than_anybody_wants_to_read",
          "\"a_name_that_is_much_longer_than_anybody_\" is no option of test"},
  };
  mb_settings found;
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    const mb_option option = {cases[i].name, "1"};
    CHECK_INT(open_as(s, NULL, &option, 1, &found), MB_ERROR);
    check_message(s, cases[i].message);
  }
}

ONE_WAY(keeps_the_options_of_others)
{
  const mb_option options[] = {{"errors", "return"}, {"int64", "error"},
      {"booleans", "false"}, {"tag", "a"}, {"tag", "b"}, {"pace", "slow"},
      {"int64", "string"}};
  CHECK_INT(open_pool(s, NULL, options, 7), MB_OK);
  CHECK_STRING(mb_pool_option(s->pool, "errors"), "return");
  /* The last one counts. */
  CHECK_STRING(mb_pool_option(s->pool, "int64"), "string");
  CHECK_STRING(mb_pool_option(s->pool, "booleans"), "false");
  CHECK_STRING(mb_pool_option(s->pool, "tag"), "b");
  CHECK_STRING(mb_pool_option(s->pool, "decimal"), NULL);
  CHECK(mb_pool_driver(s->pool) != NULL);
  CHECK_STRING(mb_pool_driver(s->pool)->name, "test");
  CHECK_STRING(mb_pool_info(s->pool)->url, "test://server/database");
  CHECK(!mb_pool_is_closed(s->pool));
}

/* --- URLs --------------------------------------------------------------- */

ONE_WAY(takes_the_parts_of_a_url_for_options)
{
  const mb_option options[] = {{"timeout", "3"}, {"user", "eve"}};
  CHECK_INT(open_pool(s,
                "proof://ada:pass%20word@example.org:54321/"
                "big?timeout=2&max=4&tag=a&tag=b",
                options, 2),
      MB_OK);
  /* An option wins over the URL. */
  CHECK_STRING(mb_pool_option(s->pool, "user"), "eve");
  CHECK_STRING(mb_pool_option(s->pool, "password"), "pass word");
  CHECK_STRING(mb_pool_option(s->pool, "host"), "example.org");
  CHECK_STRING(mb_pool_option(s->pool, "port"), "54321");
  CHECK_STRING(mb_pool_option(s->pool, "database"), "big");
  CHECK_STRING(mb_pool_option(s->pool, "tag"), "b");
  CHECK_INT(mb_pool_settings(s->pool)->timeout_ns, 3 * NS_PER_SECOND);
  CHECK_INT(mb_pool_settings(s->pool)->max, 4);
}

ONE_WAY(runs_the_init_of_a_url)
{
  CHECK_INT(open_pool(s, "test://?init=put%201&init=put%202", NULL, 0), MB_OK);
  CHECK_INT(acquire(s), MB_OK);
  CHECK(td_is_stored(1) && td_is_stored(2));
  release(s);
  mb_pool_close(s->pool, 0);
  /* Those of the options take their place. */
  const mb_option init = {"init", "put 4"};
  CHECK_INT(open_pool(s, "test://?init=put%203", &init, 1), MB_OK);
  CHECK_INT(acquire(s), MB_OK);
  CHECK(!td_is_stored(3) && td_is_stored(4));
}

/* Nothing of a URL is quoted: any part may be a piece of the password. */
ONE_WAY(quotes_nothing_of_a_url)
{
  static const struct {
    const char *url, *message;
  } cases[] = {
      {"test://server/?max=2&hunter2=1",
          "parameter 2 of the URL is no option of test"},
      {"test://server/?paswort=hunter2",
          "parameter 1 of the URL is no option of test; did you mean "
          "\"password\"?"},
      {"other://hunter2/", "scheme: not one of driver \"test\""},
      {"test://server/?max=hunter2", "option max: " WHOLE},
      {"test://server/?loud=hunter2", "option loud: wants true or false"},
  };
  mb_settings found;
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    CHECK_INT(open_as(s, cases[i].url, NULL, 0, &found), MB_ERROR);
    check_message(s, cases[i].message);
  }
  CHECK_INT(open_as(s, "test://user:hunter2@[::1/", NULL, 0, &found), MB_ERROR);
  CHECK_INT(s->error->class, MB_CONNECTOR_VALIDATION);
  size_t size;
  const char *message = mb_error_text(s->error, MB_MESSAGE, &size);
  for (size_t i = 0; i + 7 <= size; i++)
    CHECK(memcmp(message + i, "hunter2", 7) != 0);
}

/* Where a driver's databases are files. */
ONE_WAY(takes_a_url_for_a_path)
{
  static const mb_option_spec specs[] = {{"path", MB_OPTION_TEXT, NULL},
      {"mode", MB_OPTION_TEXT, "ro rw"}, {NULL, MB_OPTION_TEXT, NULL}};
  static mb_driver driver;
  mb_settings found;
  driver = *td_driver();
  driver.options = specs;
  s->driver = &driver;
  CHECK_INT(open_pool(s, "test:some/file.db?mode=ro", NULL, 0), MB_OK);
  CHECK_STRING(mb_pool_option(s->pool, "path"), "some/file.db");
  CHECK_STRING(mb_pool_option(s->pool, "mode"), "ro");
  mb_pool_close(s->pool, 0);
  const mb_option host = {"host", "here"};
  CHECK_INT(open_as(s, NULL, &host, 1, &found), MB_ERROR);
  check_message(s, "\"host\" is no option of test");
}

static void tells_the_scheme_of_a_url(void)
{
  static const struct {
    const char *url, *scheme;
  } cases[] = {
      {"sqlite:app.db", "sqlite"},
      {"postgres://host/", "postgres"},
      {"sqlite:", "sqlite"},
      {"app.db", ""},
      {"", ""},
      {":memory:", ""},
      {"/some:where", ""},
      {"some where:x", ""},
      {"user@host:x", ""},
      {"schemethatistoolong:x", ""},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    char scheme[16];
    mb_url_scheme(cases[i].url, scheme, sizeof scheme);
    CHECK_STRING(scheme, cases[i].scheme);
  }
}

/* --- Drivers ------------------------------------------------------------ */

/* Each needs a table of its own: one that was taken is not looked at again. */
static mb_status open_driver(session *s, const mb_driver *driver)
{
  mb_settings found;
  s->driver = driver;
  return open_as(s, NULL, NULL, 0, &found);
}

ONE_WAY(refuses_a_driver_of_another_version)
{
  static mb_driver driver;
  driver = *td_driver();
  driver.abi = MB_DRIVER_ABI + 1;
  CHECK_INT(open_driver(s, &driver), MB_ERROR);
  CHECK_INT(s->error->class, MB_DRIVER_FAULT);
  CHECK(says(s, "build both from one release"));
}

ONE_WAY(refuses_a_driver_that_lacks_something)
{
  static mb_driver nameless, without_fetch, without_cancel;
  nameless = *td_driver();
  nameless.name = NULL;
  CHECK_INT(open_driver(s, &nameless), MB_ERROR);
  CHECK_INT(s->error->class, MB_DRIVER_FAULT);
  without_fetch = *td_driver();
  without_fetch.fetch = NULL;
  CHECK_INT(open_driver(s, &without_fetch), MB_ERROR);
  CHECK_INT(s->error->class, MB_MISSING_IMPLEMENTATION);
  CHECK(says(s, "driver \"test\" has no fetch"));
  /* One whose table ends before. */
  without_cancel = *td_driver();
  without_cancel.size = offsetof(mb_driver, cancel);
  CHECK_INT(open_driver(s, &without_cancel), MB_ERROR);
  CHECK(says(s, "driver \"test\" has no cancel"));
  without_cancel.size = sizeof(mb_driver);
  CHECK_INT(open_driver(s, &without_cancel), MB_OK);
}

/* What it does not know of is not there. */
ONE_WAY(takes_a_driver_that_is_older)
{
  static mb_driver driver;
  mb_stmt *stmt;
  driver = *td_full_driver();
  driver.size = offsetof(mb_driver, describe_schema);
  s->driver = &driver;
  connect(s);
  CHECK_INT(
      mb_conn_command(s->conn, NULL, "list", NULL, 0, NULL, &stmt, fresh(s)),
      MB_ERROR);
  CHECK_INT(s->error->class, MB_UNSUPPORTED);
  CHECK(stmt == NULL);
  char name[16];
  CHECK_INT(mb_conn_quote(s->conn, "a", 1, name, sizeof name, fresh(s)), MB_OK);
  CHECK_STRING(name, "\"a\"");
}

static int inits;

static mb_status init_library(const mb_host *host, mb_error *error)
{
  return ++inits > 1 ? MB_OK
                     : host->fail(error, MB_DRIVER_FAULT, "the wrong library");
}

ONE_WAY(initializes_a_library_once)
{
  static mb_driver driver;
  driver = *td_driver();
  driver.library_init = init_library;
  CHECK_INT(open_driver(s, &driver), MB_ERROR);
  CHECK(says(s, "the wrong library"));
  CHECK_INT(open_driver(s, &driver), MB_OK);
  CHECK_INT(open_driver(s, &driver), MB_OK);
  CHECK_INT(inits, 2);
}

static const struct check_test tests[] = {
    CHECK_TEST(knows_what_is_not_said),
    CHECK_TEST(reads_numbers_and_times),
    CHECK_TEST(refuses_wrong_values),
    CHECK_TEST(suggests_what_was_meant),
    CHECK_TEST(keeps_the_options_of_others),
    CHECK_TEST(takes_the_parts_of_a_url_for_options),
    CHECK_TEST(runs_the_init_of_a_url),
    CHECK_TEST(quotes_nothing_of_a_url),
    CHECK_TEST(takes_a_url_for_a_path),
    CHECK_TEST(tells_the_scheme_of_a_url),
    CHECK_TEST(refuses_a_driver_of_another_version),
    CHECK_TEST(refuses_a_driver_that_lacks_something),
    CHECK_TEST(takes_a_driver_that_is_older),
    CHECK_TEST(initializes_a_library_once),
};

int main(void)
{
  return CHECK_RUN(tests);
}
