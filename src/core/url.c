/* url.c: splits first and decodes then, into one block that is large enough for
 * all parts; messages have a fixed text, since any part may hold a password. */
#include "url.h"

#include "host.h"

#include <string.h>

#define PORT_MAX 65535

struct parser {
  const char *url;
  size_t size;
  mb__url *out;
  char *next; /* free memory */
  mb_error *error;
};

static mb_status refuse(
    struct parser *parser, const char *part, const char *what, size_t at)
{
  return mb__host.fail(parser->error, MB_CONNECTOR_VALIDATION,
      "%s: %s, at byte %zu", part, what, at + 1);
}

/* The offset of a byte between from and to, or to. */
static size_t find(
    const struct parser *parser, size_t from, size_t to, char byte)
{
  const char *found =
      to > from ? memchr(parser->url + from, byte, to - from) : NULL;
  return found != NULL ? (size_t)(found - parser->url) : to;
}

static int hex_digit(char byte)
{
  if (byte >= '0' && byte <= '9')
    return byte - '0';
  if (byte >= 'a' && byte <= 'f')
    return byte - 'a' + 10;
  if (byte >= 'A' && byte <= 'F')
    return byte - 'A' + 10;
  return -1;
}

/* Appends what stands between from and to; does not terminate it. */
static mb_status append_decoded(
    struct parser *parser, const char *part, size_t from, size_t to)
{
  for (size_t at = from; at < to; at++) {
    char byte = parser->url[at];
    if (byte == '%') {
      const int high = to - at > 2 ? hex_digit(parser->url[at + 1]) : -1;
      const int low = to - at > 2 ? hex_digit(parser->url[at + 2]) : -1;
      if (high < 0 || low < 0)
        return refuse(parser, part, "% without two hexadecimal digits", at);
      if (high == 0 && low == 0)
        return refuse(parser, part, "a zero byte", at);
      byte = (char)(high * 16 + low);
      at += 2;
    }
    *parser->next++ = byte;
  }
  return MB_OK;
}

static mb_status decode(struct parser *parser, const char *part, size_t from,
    size_t to, const char **out)
{
  *out = parser->next;
  const mb_status status = append_decoded(parser, part, from, to);
  *parser->next++ = '\0';
  return status;
}

/* --- Scheme ------------------------------------------------------------- */

static bool is_letter(char byte)
{
  return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z');
}

static mb_status check_scheme(struct parser *parser, size_t *end)
{
  size_t at = 0;
  while (at < parser->size && parser->url[at] != ':') {
    const char byte = parser->url[at];
    if (!is_letter(byte) &&
        (at == 0 || ((byte < '0' || byte > '9') && byte != '+' && byte != '-' &&
                        byte != '.')))
      return refuse(parser, "scheme", "a byte that none has", at);
    at++;
  }
  if (at == 0 || at == parser->size)
    return refuse(parser, "scheme", "missing", 0);
  *end = at;
  return MB_OK;
}

static void take_scheme(struct parser *parser, size_t end)
{
  parser->out->scheme = parser->next;
  for (size_t at = 0; at < end; at++) {
    const unsigned char byte = (unsigned char)parser->url[at];
    const int small = byte >= 'A' && byte <= 'Z' ? byte - 'A' + 'a' : byte;
    *parser->next++ = (char)small;
  }
  *parser->next++ = '\0';
}

/* --- Authority ---------------------------------------------------------- */

static mb_status parse_user(struct parser *parser, size_t from, size_t to)
{
  const size_t colon = find(parser, from, to, ':');
  if (colon > from &&
      decode(parser, "user", from, colon, &parser->out->user) != MB_OK)
    return MB_ERROR;
  if (colon < to)
    return decode(parser, "password", colon + 1, to, &parser->out->password);
  return MB_OK;
}

/* One host of a list: where its name is, and its port, perhaps empty. */
struct host {
  size_t from;
  size_t to;
  size_t port_from;
  size_t port_to;
};

static mb_status split_host(
    struct parser *parser, size_t from, size_t to, struct host *host)
{
  const bool brackets = from < to && parser->url[from] == '[';
  size_t colon = find(parser, from, to, ':');
  *host = (struct host){from, colon, to, to};
  if (brackets) {
    const size_t end = find(parser, from, to, ']');
    if (end == to)
      return refuse(parser, "host", "no ] behind [", from);
    if (end == from + 1)
      return refuse(parser, "host", "nothing between [ and ]", from);
    colon = end + 1;
    if (colon < to && parser->url[colon] != ':')
      return refuse(parser, "host", "no colon behind ]", colon);
    host->from = from + 1;
    host->to = end;
  } else if (colon < to && find(parser, colon + 1, to, ':') < to) {
    return refuse(parser, "host", "an IPv6 address without [ and ]", from);
  }
  const size_t bracket = find(parser, host->from, host->to, '[');
  const size_t other = find(parser, host->from, host->to, ']');
  if (bracket < host->to || other < host->to)
    return refuse(parser, "host", "[ or ] inside a name",
        bracket < other ? bracket : other);
  host->port_from = colon < to ? colon + 1 : to;
  return MB_OK;
}

static mb_status check_port(struct parser *parser, const struct host *host)
{
  unsigned port = 0;
  for (size_t at = host->port_from; at < host->port_to; at++) {
    const char byte = parser->url[at];
    if (byte < '0' || byte > '9')
      return refuse(parser, "port", "not a number", at);
    port = port * 10 + (unsigned)(byte - '0');
    if (port > PORT_MAX)
      return refuse(parser, "port", "above 65535", host->port_from);
  }
  if (port == 0 && host->port_from < host->port_to)
    return refuse(parser, "port", "0", host->port_from);
  return MB_OK;
}

/* Ports are written behind all hosts, since both become one text each. */
static mb_status parse_hosts(struct parser *parser, size_t from, size_t to)
{
  struct host host;
  char *const hosts = parser->next;
  bool has_port = false;
  for (size_t at = from; at <= to; at = find(parser, at, to, ',') + 1) {
    if (at > from)
      *parser->next++ = ',';
    const char *name = parser->next;
    if (split_host(parser, at, find(parser, at, to, ','), &host) != MB_OK ||
        check_port(parser, &host) != MB_OK ||
        append_decoded(parser, "host", host.from, host.to) != MB_OK)
      return MB_ERROR;
    if (memchr(name, ',', (size_t)(parser->next - name)) != NULL)
      return refuse(parser, "host", "a comma inside a name", host.from);
    has_port |= host.port_from < host.port_to;
  }
  if (parser->next > hosts)
    parser->out->host = hosts;
  *parser->next++ = '\0';
  if (!has_port)
    return MB_OK;

  parser->out->port = parser->next;
  for (size_t at = from; at <= to; at = find(parser, at, to, ',') + 1) {
    if (at > from)
      *parser->next++ = ',';
    if (split_host(parser, at, find(parser, at, to, ','), &host) != MB_OK)
      return MB_ERROR;
    const size_t size = host.port_to - host.port_from;
    memcpy(parser->next, parser->url + host.port_from, size);
    parser->next += size;
  }
  *parser->next++ = '\0';
  return MB_OK;
}

static mb_status parse_authority(struct parser *parser, size_t from, size_t to)
{
  size_t at = to;
  while (at > from && parser->url[at - 1] != '@')
    at--;
  if (at > from && parse_user(parser, from, at - 1) != MB_OK)
    return MB_ERROR;
  return parse_hosts(parser, at, to);
}

/* --- The rest ----------------------------------------------------------- */

static mb_status parse_params(struct parser *parser, size_t from)
{
  if (from >= parser->size)
    return MB_OK;
  for (size_t at = from; at <= parser->size;) {
    const size_t end = find(parser, at, parser->size, '&');
    const size_t equals = find(parser, at, end, '=');
    mb__url_param *param = &parser->out->params[parser->out->n_params];
    if (equals == at || at == end)
      return refuse(parser, "parameter", "no name", at);
    if (equals == end)
      return refuse(parser, "parameter", "no =", at);
    if (decode(parser, "parameter", at, equals, &param->name) != MB_OK ||
        decode(parser, "parameter", equals + 1, end, &param->value) != MB_OK)
      return MB_ERROR;
    parser->out->n_params++;
    at = end + 1;
  }
  return MB_OK;
}

static mb_status parse_opaque(
    struct parser *parser, size_t from, size_t to, bool slashes)
{
  if (slashes) {
    from += 2;
    if (from < to && parser->url[from] != '/')
      return refuse(parser, "host",
          "this scheme has a path and no host, as in sqlite:path", from);
  }
  if (from == to)
    return refuse(parser, "path", "missing", from);
  return decode(parser, "path", from, to, &parser->out->path);
}

static mb_status parse_server(
    struct parser *parser, size_t from, size_t to, bool slashes)
{
  if (!slashes)
    return refuse(parser, "host", "no // before it", from);
  from += 2;
  const size_t slash = find(parser, from, to, '/');
  if (parse_authority(parser, from, slash) != MB_OK)
    return MB_ERROR;
  if (slash + 1 >= to)
    return MB_OK;
  return decode(parser, "path", slash + 1, to, &parser->out->path);
}

static mb_status parse_parts(
    struct parser *parser, size_t scheme_end, bool opaque)
{
  const size_t from = scheme_end + 1;
  const size_t query = find(parser, from, parser->size, '?');
  const bool slashes =
      query - from >= 2 && memcmp(parser->url + from, "//", 2) == 0;
  take_scheme(parser, scheme_end);
  const mb_status status = opaque ? parse_opaque(parser, from, query, slashes)
                                  : parse_server(parser, from, query, slashes);
  return status == MB_OK ? parse_params(parser, query + 1) : status;
}

/* Room for a parameter behind each ? or &, and for all parts: none is longer
 * than what it comes from and its end, but commas are there for ports too. */
static bool allocate(struct parser *parser)
{
  size_t n = 0;
  for (size_t at = 0; at < parser->size; at++)
    n += parser->url[at] == '&' || parser->url[at] == '?';
  const size_t params_size = n * sizeof *parser->out->params;
  if (parser->size > SIZE_MAX / (2 * sizeof *parser->out->params) - 16)
    return false;
  const size_t size = params_size + 2 * parser->size + 16;
  parser->out->memory = mb__host.allocate(size);
  if (parser->out->memory == NULL)
    return false;
  parser->out->memory_size = size;
  if (n > 0)
    parser->out->params = (mb__url_param *)(void *)parser->out->memory;
  parser->next = parser->out->memory + params_size;
  return true;
}

mb_status mb__url_parse(
    const char *url, size_t size, bool opaque, mb__url *out, mb_error *error)
{
  struct parser parser = {.url = url, .size = size, .out = out, .error = error};
  size_t scheme_end = 0;
  *out = (mb__url){.memory = NULL};
  const size_t zero = find(&parser, 0, size, '\0');
  if (zero < size)
    return refuse(&parser, "url", "a zero byte", zero);
  if (check_scheme(&parser, &scheme_end) != MB_OK)
    return MB_ERROR;
  if (!allocate(&parser))
    return mb__out_of_memory(error);
  if (parse_parts(&parser, scheme_end, opaque) != MB_OK) {
    mb__url_close(out);
    return MB_ERROR;
  }
  return MB_OK;
}

void mb__url_close(mb__url *url)
{
  /* Through a volatile pointer, so that the wiping is not optimised away. */
  volatile char *byte = url->memory;
  for (size_t i = 0; i < url->memory_size; i++)
    byte[i] = 0;
  mb__host.release(url->memory);
  *url = (mb__url){.memory = NULL};
}
