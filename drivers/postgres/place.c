/* place.c: where servers may be: lists of hosts, addresses and ports. */
#include "postgres.h"

#include <stdio.h>
#include <string.h>

static bool is_folder(const char *name)
{
  return name[0] == '/' || name[0] == '@';
}

static bool is_numeric(const char *name)
{
  return name[0] != '\0' && (strspn(name, "0123456789.") == strlen(name) ||
                                strchr(name, ':') != NULL);
}

bool pg_is_socket(const pg_place *place)
{
  return place->address[0] == '\0' &&
         (place->name[0] == '\0' || is_folder(place->name));
}

bool pg_is_local(const pg_place *place)
{
  const char *where = place->address[0] != '\0' ? place->address : place->name;
  return pg_is_socket(place) || strcmp(where, "localhost") == 0 ||
         strcmp(where, "::1") == 0 ||
         (strncmp(where, "127.", 4) == 0 && is_numeric(where));
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
static const char *entry(
    mb_driver_connector *connector, const char *list, size_t n, size_t i)
{
  for (; n > 1 && i > 0; i--)
    list = strchr(list, ',') + 1;
  return pg_keep_text(connector, list, strcspn(list, ","));
}

static mb_status check_counts(const mb_host *host, size_t names,
    size_t addresses, size_t ports, mb_error *error)
{
  const size_t n = names > addresses ? names : addresses;
  if (names > 0 && addresses > 0 && names != addresses)
    return host->fail(error, MB_CONNECTOR_VALIDATION,
        "hostaddr: %zu addresses for %zu hosts", addresses, names);
  if (ports > 1 && ports != n)
    return host->fail(error, MB_CONNECTOR_VALIDATION,
        "port: %zu ports for %zu hosts", ports, n);
  return MB_OK;
}

static mb_status check_port(
    const mb_host *host, const char *port, mb_error *error)
{
  const size_t size = strlen(port);
  unsigned number = 0;
  if (size == 0)
    return MB_OK;
  for (size_t i = 0; i < size && size <= 5; i++)
    number = number * 10 + (unsigned)(port[i] - '0');
  if (strspn(port, "0123456789") != size || number < 1 || number > 65535)
    return host->fail(
        error, MB_CONNECTOR_VALIDATION, "port: wants a number from 1 to 65535");
  return MB_OK;
}

mb_status pg_read_places(mb_driver_connector *connector, const char *names,
    const char *addresses, const char *ports, mb_error *error)
{
  const mb_host *host = connector->host;
  const size_t n_names = count(names);
  const size_t n_addresses = count(addresses);
  const size_t n_ports = count(ports);
  size_t n = n_names > n_addresses ? n_names : n_addresses;
  n += n == 0; /* the default */
  if (check_counts(host, n_names, n_addresses, n_ports, error) != MB_OK)
    return MB_ERROR;
  connector->places =
      pg_arena_take(&connector->texts, n * sizeof *connector->places);
  connector->lookups =
      pg_arena_take(&connector->texts, n * sizeof *connector->lookups);
  if (connector->places == NULL || connector->lookups == NULL)
    return pg_out_of_memory(host, error);
  connector->n_places = n;
  connector->n_lookups = n;
  for (size_t i = 0; i < n; i++) {
    pg_place *place = &connector->places[i];
    place->name = entry(connector, names, n_names, i);
    place->address = entry(connector, addresses, n_addresses, i);
    place->port = entry(connector, ports, n_ports, i);
    place->lookup = i;
    if (place->name == NULL || place->address == NULL || place->port == NULL)
      return pg_out_of_memory(host, error);
    if (check_port(host, place->port, error) != MB_OK)
      return MB_ERROR;
    connector->lookups[i] =
        place->address[0] != '\0' || pg_is_socket(place) ? NULL : place->name;
  }
  return MB_OK;
}

mb_status pg_resolve_places(const mb_driver_connector *connector,
    const mb_connect_args *args, pg_arena *texts, pg_place **out, size_t *n,
    mb_error *error)
{
  const mb_host *host = connector->host;
  pg_place *places = pg_arena_take(
      texts, (connector->n_places + args->n_addresses) * sizeof *places);
  if (places == NULL)
    return pg_out_of_memory(host, error);
  *out = places;
  *n = 0;
  for (size_t i = 0; i < connector->n_places; i++) {
    const pg_place *place = &connector->places[i];
    /* A name without an address is left out: libpq would look it up, and
     * block. */
    if (connector->lookups[i] == NULL) {
      places[(*n)++] = *place;
      continue;
    }
    for (size_t k = 0; k < args->n_addresses; k++) {
      if (args->addresses[k].lookup != i)
        continue;
      const size_t size = strlen(args->addresses[k].text) + 1;
      char *address = pg_arena_take(texts, size);
      if (address == NULL)
        return pg_out_of_memory(host, error);
      memcpy(address, args->addresses[k].text, size);
      places[*n] = *place;
      places[(*n)++].address = address;
    }
  }
  return MB_OK;
}
