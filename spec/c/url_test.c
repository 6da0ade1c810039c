/* url_test.c: the parts of a URL, and what a wrong one is told. */
#include "../../src/core/url.h"

#include "check.h"
#include "memory.h"

/* Writes the parts that are there, as "scheme user:… host:…", or an error. */
static void describe(const char *text, bool opaque, char *out, size_t room)
{
  mb__url url;
  mb_error error;
  size_t used = 0;
  out[0] = '\0';
  if (mb__url_parse(text, strlen(text), opaque, &url, &error) != MB_OK) {
    CHECK_INT(error.class, MB_CONNECTOR_VALIDATION);
    (void)snprintf(out, room, "! %.*s", (int)error.fields[MB_MESSAGE].size,
        error.room + error.fields[MB_MESSAGE].at);
    CHECK(url.memory == NULL && url.scheme == NULL && url.n_params == 0);
    return;
  }
  const struct {
    const char *name, *value;
  } parts[] = {{"", url.scheme}, {" user:", url.user},
      {" password:", url.password}, {" host:", url.host}, {" port:", url.port},
      {" path:", url.path}};
  for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
    if (parts[i].value != NULL)
      used += (size_t)snprintf(
          out + used, room - used, "%s%s", parts[i].name, parts[i].value);
  for (size_t i = 0; i < url.n_params; i++)
    used += (size_t)snprintf(out + used, room - used, " %s=%s",
        url.params[i].name, url.params[i].value);
  mb__url_close(&url);
}

#define CHECK_URL(text, opaque, expected)        \
  do {                                           \
    char found[512];                             \
    describe(text, opaque, found, sizeof found); \
    CHECK_STRING(found, expected);               \
  } while (0)

#define CHECK_FILE(text, expected) CHECK_URL(text, true, expected)
#define CHECK_SERVER(text, expected) CHECK_URL(text, false, expected)

static void parses_files(void)
{
  CHECK_FILE("sqlite:app.db?mode=ro", "sqlite path:app.db mode=ro");
  CHECK_FILE("sqlite::memory:", "sqlite path::memory:");
  CHECK_FILE("sqlite:/abs/path", "sqlite path:/abs/path");
  CHECK_FILE("sqlite:///abs/path", "sqlite path:/abs/path");
  CHECK_FILE("SQLite:a%20b%3Fc?x=%26", "sqlite path:a b?c x=&");
  CHECK_FILE("sqlite:a@b:c,d#e+f", "sqlite path:a@b:c,d#e+f");
  CHECK_FILE("sqlite:/a//b", "sqlite path:/a//b");
}

static void refuses_wrong_files(void)
{
  CHECK_FILE("sqlite:", "! path: missing, at byte 8");
  CHECK_FILE("sqlite://", "! path: missing, at byte 10");
  CHECK_FILE("sqlite:?mode=ro", "! path: missing, at byte 8");
  CHECK_FILE("sqlite://x/y",
      "! host: this scheme has a path and no host, as in sqlite:path, at byte "
      "10");
}

static void parses_servers(void)
{
  CHECK_SERVER("postgres://user:pw@h1:5432,[::1]:5433/db?x=y",
      "postgres user:user password:pw host:h1,::1 port:5432,5433 path:db x=y");
  CHECK_SERVER("postgres:///db?host=/run/x", "postgres path:db host=/run/x");
  CHECK_SERVER("postgresql://h", "postgresql host:h");
  CHECK_SERVER("mysql://h/", "mysql host:h");
  CHECK_SERVER("mysql://h?a=b", "mysql host:h a=b");
  CHECK_SERVER("mysql://", "mysql");
  CHECK_SERVER("x+1.-://h/a/b", "x+1.- host:h path:a/b");
}

static void parses_users(void)
{
  CHECK_SERVER("p://u@h", "p user:u host:h");
  CHECK_SERVER("p://u:@h", "p user:u password: host:h");
  CHECK_SERVER("p://:w@h", "p password:w host:h");
  CHECK_SERVER("p://@h", "p host:h");
  CHECK_SERVER("p://u:a@b@h", "p user:u password:a@b host:h");
  CHECK_SERVER("p://u:a:b@h/c@d", "p user:u password:a:b host:h path:c@d");
  CHECK_SERVER("p://h?a=b@c", "p host:h a=b@c");
  CHECK_SERVER("p://%40:%2F%3f%25+@h", "p user:@ password:/?%+ host:h");
}

static void parses_hosts(void)
{
  CHECK_SERVER("p://h1,h2:1,h3", "p host:h1,h2,h3 port:,1,");
  CHECK_SERVER("p://h1,h2", "p host:h1,h2");
  CHECK_SERVER("p://:1", "p port:1");
  CHECK_SERVER("p://h:", "p host:h");
  CHECK_SERVER("p://,h", "p host:,h");
  CHECK_SERVER("p://[::1]", "p host:::1");
  CHECK_SERVER("p://[fe80::1%25eth0]:65535", "p host:fe80::1%eth0 port:65535");
  CHECK_SERVER("p://%2Frun%2fx:1/d", "p host:/run/x port:1 path:d");
}

static void refuses_wrong_hosts(void)
{
  CHECK_SERVER("p://[::1", "! host: no ] behind [, at byte 5");
  CHECK_SERVER("p://[]", "! host: nothing between [ and ], at byte 5");
  CHECK_SERVER("p://[::1]x", "! host: no colon behind ], at byte 10");
  CHECK_SERVER("p://::1", "! host: an IPv6 address without [ and ], at byte 5");
  CHECK_SERVER("p://a[b", "! host: [ or ] inside a name, at byte 6");
  CHECK_SERVER("p://a]", "! host: [ or ] inside a name, at byte 6");
  CHECK_SERVER("p://a%2Cb", "! host: a comma inside a name, at byte 5");
  CHECK_SERVER("p:h", "! host: no // before it, at byte 3");
  CHECK_SERVER("p:/h", "! host: no // before it, at byte 3");
}

static void refuses_wrong_ports(void)
{
  CHECK_SERVER("postgres://user:secret@host:54x2/db",
      "! port: not a number, at byte 31");
  CHECK_SERVER("p://h:0", "! port: 0, at byte 7");
  CHECK_SERVER("p://h:65536", "! port: above 65535, at byte 7");
  CHECK_SERVER(
      "p://h:1,i:99999999999999999999", "! port: above 65535, at byte 11");
  CHECK_SERVER("p://h:-1", "! port: not a number, at byte 7");
  CHECK_SERVER("p://h:%31", "! port: not a number, at byte 7");
}

static void parses_parameters(void)
{
  CHECK_SERVER("p://h?a=1&b=&a=2", "p host:h a=1 b= a=2");
  CHECK_SERVER("p://h?a=b=c?d/e", "p host:h a=b=c?d/e");
  CHECK_SERVER("p://h?%3d=%26+", "p host:h ==&+");
  CHECK_SERVER("p://h?", "p host:h");
}

static void refuses_wrong_parameters(void)
{
  CHECK_SERVER("p://h?a", "! parameter: no =, at byte 7");
  CHECK_SERVER("p://h?a=1&", "! parameter: no name, at byte 11");
  CHECK_SERVER("p://h?&a=1", "! parameter: no name, at byte 7");
  CHECK_SERVER("p://h?=1", "! parameter: no name, at byte 7");
}

static void refuses_wrong_schemes(void)
{
  CHECK_SERVER("", "! scheme: missing, at byte 1");
  CHECK_SERVER("app", "! scheme: missing, at byte 1");
  CHECK_SERVER("://h", "! scheme: missing, at byte 1");
  CHECK_SERVER("1p://h", "! scheme: a byte that none has, at byte 1");
  CHECK_SERVER("p_q://h", "! scheme: a byte that none has, at byte 2");
  CHECK_FILE("app.db?a=b:c", "! scheme: a byte that none has, at byte 7");
}

static void refuses_wrong_escapes(void)
{
  CHECK_SERVER("p://u:%0@h", "! password: % without two hexadecimal digits, "
                             "at byte 7");
  CHECK_SERVER(
      "p://%zz@h", "! user: % without two hexadecimal digits, at byte 5");
  CHECK_SERVER("p://h%", "! host: % without two hexadecimal digits, at byte 6");
  CHECK_SERVER("p://h/%00", "! path: a zero byte, at byte 7");
  CHECK_FILE("s:a?b=%0", "! parameter: % without two hexadecimal digits, "
                         "at byte 7");
  /* An escape does not reach into the next part. */
  CHECK_SERVER("p://h%2/0", "! host: % without two hexadecimal digits, "
                            "at byte 6");
}

static void refuses_zero_bytes(void)
{
  mb_error error;
  mb__url url;
  CHECK_INT(mb__url_parse("p://h\0x", 7, false, &url, &error), MB_ERROR);
  CHECK_BYTES(error.room + error.fields[MB_MESSAGE].at,
      error.fields[MB_MESSAGE].size, "url: a zero byte, at byte 6");
  CHECK_INT(mb__url_parse(NULL, 0, false, &url, &error), MB_ERROR);
}

static void survives_without_memory(void)
{
  static const char text[] = "p://u:w@h:1/d?a=b&c=d";
  mb_error error;
  mb__url url;
  for (size_t allowed = 0; allowed < 2; allowed++) {
    memory_limit(allowed);
    CHECK_INT(mb__url_parse(text, strlen(text), false, &url, &error),
        allowed == 0 ? MB_ERROR : MB_OK);
    if (allowed == 0)
      CHECK_INT(error.class, MB_RESOURCE);
    mb__url_close(&url);
    mb__url_close(&url);
    CHECK_INT(memory_held, 0);
    memory_unlimit();
  }
}

/* What is released was wiped. */
static char released[256];

static void keep_released(void *memory)
{
  if (memory != NULL)
    memcpy(released, memory, 32);
  free(memory);
}

static void wipes_passwords(void)
{
  static const char text[] = "p://user:secret@hh";
  static const char zeros[32];
  void (*const release)(void *) = mb__host.release;
  mb_error error;
  mb__url url;
  memset(released, 'x', sizeof released);
  mb__host.release = keep_released;
  CHECK_INT(mb__url_parse(text, strlen(text), false, &url, &error), MB_OK);
  CHECK_STRING(url.password, "secret");
  mb__url_close(&url);
  CHECK(memcmp(released, zeros, sizeof zeros) == 0);
  mb__host.release = release;
}

static const struct check_test tests[] = {
    CHECK_TEST(parses_files),
    CHECK_TEST(refuses_wrong_files),
    CHECK_TEST(parses_servers),
    CHECK_TEST(parses_users),
    CHECK_TEST(parses_hosts),
    CHECK_TEST(refuses_wrong_hosts),
    CHECK_TEST(refuses_wrong_ports),
    CHECK_TEST(parses_parameters),
    CHECK_TEST(refuses_wrong_parameters),
    CHECK_TEST(refuses_wrong_schemes),
    CHECK_TEST(refuses_wrong_escapes),
    CHECK_TEST(refuses_zero_bytes),
    CHECK_TEST(survives_without_memory),
    CHECK_TEST(wipes_passwords),
};

int main(void)
{
  return CHECK_RUN(tests);
}
