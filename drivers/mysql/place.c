/* place.c: where servers may be: lists of hosts and ports, or a socket. */
#include "../../src/driver_text.h"
#include "mysql.h"

#include <stdlib.h>
#include <string.h>

bool mq_is_local(const mq_place *place)
{
  const char *host = place->host;
  return host == NULL || strcmp(host, "localhost") == 0 ||
         strcmp(host, "::1") == 0 ||
         (strncmp(host, "127.", 4) == 0 &&
             strspn(host, "0123456789.") == strlen(host));
}

/* Entries of a list with commas; an empty list has none. */
static size_t count(const char *list)
{
  size_t n = list[0] != '\0';
  for (; *list != '\0'; list++)
    n += *list == ',';
  return n;
}

/* Entry i; of one that is for all: the first. */
static const char *entry(const char *list, size_t n, size_t i, size_t *size)
{
  for (; n > 1 && i > 0; i--)
    list = strchr(list, ',') + 1;
  *size = strcspn(list, ",");
  return list;
}

static mb_status read_port(const mb_host *host, const char *digits, size_t size,
    unsigned *port, mb_error *error)
{
  *port = 0;
  if (size == 0)
    return MB_OK;
  for (size_t i = 0; i < size && size <= 5; i++)
    if (digits[i] >= '0' && digits[i] <= '9')
      *port = *port * 10 + (unsigned)(digits[i] - '0');
    else
      *port = 65536;
  if (size > 5 || *port < 1 || *port > 65535)
    return host->fail(
        error, MB_CONNECTOR_VALIDATION, "port: wants a number from 1 to 65535");
  return MB_OK;
}

static enum mq_tls tls_of(
    mb_driver_connector *connector, const char *word, const mq_place *place)
{
  static const struct {
    const char *word;
    enum mq_tls tls;
  } words[] = {
      {"verify", MQ_TLS_VERIFY},
      {"require", MQ_TLS_REQUIRE},
      {"prefer", MQ_TLS_PREFER},
      {"off", MQ_TLS_OFF},
  };
  for (size_t i = 0; word != NULL && i < sizeof words / sizeof words[0]; i++)
    if (strcmp(word, words[i].word) == 0)
      return place->host != NULL ? words[i].tls : MQ_TLS_DEFAULT;
  if (mq_is_local(place))
    return MQ_TLS_DEFAULT;
  connector->verifies_by_default = true;
  return MQ_TLS_VERIFY;
}

/* A name that is a path is a socket's. */
static void read_place(mb_driver_connector *connector, mq_place *place,
    const char *name, size_t size, const char *socket)
{
  if (size > 0 && (name[0] == '/' || name[0] == '@'))
    place->socket = mq_keep_text(connector, name, size);
  else if (size > 0)
    place->host = mq_keep_text(connector, name, size);
  else if (socket != NULL)
    place->socket = mq_keep_text(connector, socket, strlen(socket));
}

mb_status mq_read_places(mb_driver_connector *connector,
    const mb_option *options, size_t n, mb_error *error)
{
  const mb_host *host = connector->host;
  const char *names = mb_option_value(options, n, "host");
  const char *ports = mb_option_value(options, n, "port");
  const char *socket = mb_option_value(options, n, "socket");
  const char *tls = mb_option_value(options, n, "tls");
  names = names != NULL ? names : "";
  ports = ports != NULL ? ports : "";
  const size_t n_names = count(names);
  const size_t n_ports = count(ports);
  const size_t n_places = n_names > 0 ? n_names : 1;
  if (socket != NULL && n_names > 0)
    return host->fail(error, MB_CONNECTOR_VALIDATION,
        "socket: is of this machine, and there is a host as well");
  if (n_ports > 1 && n_ports != n_places)
    return host->fail(error, MB_CONNECTOR_VALIDATION,
        "port: %zu ports for %zu hosts", n_ports, n_places);
  connector->places = host->allocate(n_places * sizeof *connector->places);
  if (connector->places == NULL)
    return mq_out_of_memory(host, error);
  connector->n_places = n_places;
  for (size_t i = 0; i < n_places; i++) {
    mq_place *place = &connector->places[i];
    size_t size;
    *place = (mq_place){.host = NULL};
    const char *name = entry(names, n_names, i, &size);
    read_place(connector, place, name, size, socket);
    const char *port = entry(ports, n_ports, i, &size);
    if (read_port(host, port, size, &place->port, error) != MB_OK)
      return MB_ERROR;
    place->tls = tls_of(connector, tls, place);
  }
  return MB_OK;
}
