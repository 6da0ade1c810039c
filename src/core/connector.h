/*
 * connector.h: what is known before a connection is opened.
 *
 * A connector is made from a URL and options, checked against one table of the
 * core's own options and the driver's.  It is immutable and shared.
 */
#ifndef MB_CORE_CONNECTOR_H
#define MB_CORE_CONNECTOR_H

#include "../moonbase.h"

typedef struct mb__connector {
  atomic_uint refs;
  const mb_driver *driver; /* the core's full-sized copy */
  mb_driver_connector *impl;
  mb_connector_info info;
  mb_settings settings;
  mb_option *options; /* all that were given, in order; owned, with a copy of
                         each text */
  size_t n_options;
  const char **init; /* statements; inside options */
  size_t n_init;
} mb__connector;

/* As mb_pool_open says of url and options.  *out has one reference. */
MB_CHECKED mb_status mb__connector_open(const mb_driver *driver,
    const char *url, const mb_option *options, size_t n, mb__connector **out,
    mb_error *error);
void mb__connector_ref(mb__connector *connector);
void mb__connector_unref(mb__connector *connector);
/* Whether two lead to the same: the same driver and options, in whatever order
 * these were given, but for the values of one option. */
bool mb__connector_equals(const mb__connector *a, const mb__connector *b);

/* Checks a driver's table, initializes its library once, and gives a copy in
 * which what an older driver lacks is NULL; it lives as long as the process. */
MB_CHECKED mb_status mb__driver_load(
    const mb_driver *given, const mb_driver **out, mb_error *error);

#endif
