/* url_fuzz.c: a URL that was understood says the same when it is written again
 * from its parts; an error names a part and a byte, and nothing else. */
#include "../../src/core/url.h"

#include "fuzz.h"

struct writer {
  char *bytes;
  size_t size;
};

static void put(struct writer *writer, const char *text)
{
  const size_t size = strlen(text);
  memcpy(writer->bytes + writer->size, text, size);
  writer->size += size;
}

/* Escapes all but letters, digits and what kept names. */
static void put_escaped(
    struct writer *writer, const char *text, size_t size, const char *kept)
{
  for (size_t i = 0; i < size; i++) {
    const unsigned char byte = (unsigned char)text[i];
    char escaped[4] = {text[i], '\0'};
    const bool kept_as_is = (byte >= '0' && byte <= '9') ||
                            ((byte | 0x20) >= 'a' && (byte | 0x20) <= 'z') ||
                            strchr(kept, byte) != NULL;
    if (!kept_as_is || byte == '\0')
      (void)snprintf(escaped, sizeof escaped, "%%%02X", byte);
    put(writer, escaped);
  }
}

static size_t count_commas(const char *list)
{
  size_t n = 0;
  for (; list != NULL && *list != '\0'; list++)
    n += *list == ',';
  return n;
}

static void put_hosts(struct writer *writer, const mb__url *url)
{
  const char *host = url->host != NULL ? url->host : "";
  const char *port = url->port != NULL ? url->port : "";
  for (;;) {
    const size_t size = strcspn(host, ",");
    const size_t digits = strcspn(port, ",");
    const bool brackets = memchr(host, ':', size) != NULL;
    put(writer, brackets ? "[" : "");
    put_escaped(writer, host, size, brackets ? ":" : "");
    put(writer, brackets ? "]" : "");
    put(writer, digits > 0 ? ":" : "");
    put_escaped(writer, port, digits, "");
    host += size;
    port += digits;
    if (*host != ',' && *port != ',')
      return;
    put(writer, ",");
    host += *host == ',';
    port += *port == ',';
  }
}

static void write_url(struct writer *writer, const mb__url *url, bool opaque)
{
  put(writer, url->scheme);
  put(writer, opaque ? ":" : "://");
  if (url->user != NULL)
    put_escaped(writer, url->user, strlen(url->user), "");
  if (url->password != NULL) {
    put(writer, ":");
    put_escaped(writer, url->password, strlen(url->password), "");
  }
  if (url->user != NULL || url->password != NULL)
    put(writer, "@");
  if (!opaque)
    put_hosts(writer, url);
  if (url->path != NULL) {
    put(writer, opaque ? "" : "/");
    put_escaped(writer, url->path, strlen(url->path), "");
  }
  for (size_t i = 0; i < url->n_params; i++) {
    put(writer, i == 0 ? "?" : "&");
    put_escaped(writer, url->params[i].name, strlen(url->params[i].name), "");
    put(writer, "=");
    put_escaped(writer, url->params[i].value, strlen(url->params[i].value), "");
  }
}

static bool is_same(const char *a, const char *b)
{
  return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static void require_inside(const mb__url *url, const char *text)
{
  REQUIRE(text == NULL ||
          (text >= url->memory &&
              text + strlen(text) < url->memory + url->memory_size));
}

static void require_ports(const mb__url *url)
{
  if (url->port == NULL)
    return;
  REQUIRE(
      url->host == NULL || count_commas(url->host) == count_commas(url->port));
  for (const char *port = url->port; *port != '\0';) {
    if (*port == ',') {
      port++;
      continue;
    }
    char *end;
    const unsigned long number = strtoul(port, &end, 10);
    REQUIRE(end > port && number >= 1 && number <= 65535);
    REQUIRE(*end == ',' || *end == '\0');
    port = end;
  }
}

static void require_sense(const mb__url *url, bool opaque, size_t size)
{
  const char *const parts[] = {
      url->scheme, url->user, url->password, url->host, url->port, url->path};
  for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
    require_inside(url, parts[i]);
  for (size_t i = 0; i < url->n_params; i++) {
    require_inside(url, url->params[i].name);
    require_inside(url, url->params[i].value);
    REQUIRE(url->params[i].name[0] != '\0');
  }
  require_ports(url);
  REQUIRE(url->scheme != NULL && url->scheme[0] != '\0');
  REQUIRE(!opaque || (url->path != NULL && url->host == NULL));

  struct writer writer = {malloc(4 * size + 64), 0};
  REQUIRE(writer.bytes != NULL);
  write_url(&writer, url, opaque);
  mb__url again;
  mb_error error;
  REQUIRE(mb__url_parse(writer.bytes, writer.size, opaque, &again, &error) ==
          MB_OK);
  REQUIRE(is_same(again.scheme, url->scheme) && is_same(again.user, url->user));
  REQUIRE(is_same(again.password, url->password));
  REQUIRE(is_same(again.host, url->host) && is_same(again.port, url->port));
  REQUIRE(is_same(again.path, url->path));
  REQUIRE(again.n_params == url->n_params);
  for (size_t i = 0; i < url->n_params; i++)
    REQUIRE(is_same(again.params[i].name, url->params[i].name) &&
            is_same(again.params[i].value, url->params[i].value));
  mb__url_close(&again);
  free(writer.bytes);
}

static void require_message(const mb_error *error, size_t size)
{
  static const char *const parts[] = {"url: ", "scheme: ", "user: ",
      "password: ", "host: ", "port: ", "path: ", "parameter: "};
  char message[128];
  REQUIRE(error->class == MB_CONNECTOR_VALIDATION);
  REQUIRE(error->fields[MB_MESSAGE].size < sizeof message);
  memcpy(message, error->room + error->fields[MB_MESSAGE].at,
      error->fields[MB_MESSAGE].size);
  message[error->fields[MB_MESSAGE].size] = '\0';
  bool known = false;
  for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
    known |= strncmp(message, parts[i], strlen(parts[i])) == 0;
  REQUIRE(known);
  const char *byte = strrchr(message, ' ');
  REQUIRE(byte != NULL && strtoul(byte, NULL, 10) >= 1);
  REQUIRE(strtoul(byte, NULL, 10) <= size + 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  if (size < 1)
    return 0;
  const bool opaque = (data[0] & 1) != 0;
  mb__url url;
  mb_error error;
  if (mb__url_parse((const char *)data + 1, size - 1, opaque, &url, &error) ==
      MB_OK) {
    require_sense(&url, opaque, size);
  } else {
    REQUIRE(url.memory == NULL && url.n_params == 0);
    require_message(&error, size);
  }
  mb__url_close(&url);
  return 0;
}
