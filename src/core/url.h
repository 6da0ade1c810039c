/*
 * url.h: takes a URL apart.
 *
 *   scheme://user:password@host:port,[::1]:port/path?name=value&name=value
 *   scheme:path?name=value
 *
 * The first form is for schemes that name a server, the second for those whose
 * databases are files ("opaque"); scheme:///path is the same as scheme:/path
 * there.  The last @ before the first / or ? ends the password, so that one may
 * stand in it unescaped.  A plus sign is a plus sign, # is nothing special.
 */
#ifndef MB_CORE_URL_H
#define MB_CORE_URL_H

#include "../driver.h"

typedef struct mb__url_param {
  const char *name; /* not empty */
  const char *value;
} mb__url_param;

/* The parts, percent-decoded and terminated, all inside memory.  What is absent
 * is NULL. */
typedef struct mb__url {
  char *memory; /* owned */
  size_t memory_size;
  const char *scheme; /* in small letters */
  const char *user;
  const char *password; /* "" when there is a colon and nothing behind it */
  const char *host;     /* several: a comma between two, an IPv6 address without
                           its brackets; one of several may be empty */
  const char *port;     /* each 1 to 65535; several: as many as hosts, a comma
                           between two, empty where a host has none */
  const char *path;     /* of an opaque URL as it stands, of others without the
                           slash before it */
  mb__url_param *params; /* in order; a name may come several times */
  size_t n_params;
} mb__url;

/*
 * Parses size bytes of url, which are borrowed for the call.  opaque: the
 * scheme is one of the second form.
 *
 * On success out is closed with mb__url_close.  On failure it is zeroed.
 * Errors: MB_CONNECTOR_VALIDATION, which names the part and the byte, from 1,
 * and quotes nothing of the URL; MB_RESOURCE, out of memory.
 */
MB_CHECKED mb_status mb__url_parse(
    const char *url, size_t size, bool opaque, mb__url *out, mb_error *error);

/* Wipes and frees what url owns, and zeroes it.  A zeroed one may be closed. */
void mb__url_close(mb__url *url);

#endif
