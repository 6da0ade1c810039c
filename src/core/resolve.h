/*
 * resolve.h: the addresses of a connector's hosts.
 *
 * Looking a name up blocks, for as long as the name servers like.  So each name
 * is an errand, which an attempt to connect waits for like for its socket, and
 * leaves when its time is up.  Who asks for a name that is being looked up
 * waits for the same errand: there is one thread for a name, however many
 * connections are made and however long a look-up hangs.
 */
#ifndef MB_CORE_RESOLVE_H
#define MB_CORE_RESOLVE_H

#include "../driver.h"

struct addrinfo;

/* What finds the addresses of a name; tests replace it, before the first use
 * and while nothing is being looked up. */
extern int (*mb__getaddrinfo)(const char *name, const char *service,
    const struct addrinfo *hints, struct addrinfo **out);

/* One name that is looked up. */
typedef struct mb__lookup mb__lookup;

/* The look-ups of one attempt to connect; zeroed before and after. */
typedef struct mb__lookups {
  const char *const *names; /* NULL: nothing to look up */
  size_t n;
  mb__lookup **each; /* n; NULL: no name, or nobody waits for it */
  int64_t enough_ns; /* when the first that are found are enough; MB_NEVER */
  mb_address *addresses;
  size_t n_addresses;
} mb__lookups;

/*
 * Looks n names up, each NULL or terminated and there until the look-ups are
 * freed.  MB_DONE: the addresses are there, or one name is NULL.  MB_WAIT:
 * op->wait is filled, go on with mb__lookups_resume.  MB_CONNECTIVITY: none has
 * an address; MB_CANCELED: op was stopped before.  here: the calling thread may
 * be blocked.
 */
MB_CHECKED mb_status mb__lookups_start(mb__lookups *lookups,
    const char *const *names, size_t n, bool here, mb_op *op, mb_error *error);
MB_CHECKED mb_status mb__lookups_resume(
    mb__lookups *lookups, mb_op *op, mb_error *error);

/* Adds to the message of an error that the others gave which names were not
 * found. */
void mb__lookups_explain(const mb__lookups *lookups, mb_error *error);

void mb__lookups_free(mb__lookups *lookups);

#endif
