/*
 * driver.c: a table for each driver that is wrapped.
 *
 * It has the slots that the one inside has, and three more, since a fault may
 * need them: consume, because is_valid may answer MB_READABLE; ping, because a
 * connection may be lost; resume, because any call may be delayed.
 * open_connector is not told whose it is, so each place for a table has one of
 * its own.
 */
#include "driver.h"

#include "fault.h"

#include <stdio.h>
#include <string.h>

/* The places: X(number). */
#define PLACES(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7)

#define SCHEMES_MAX 4 /* of a driver */
#define SCHEME_ROOM 40

typedef struct place {
  const mb_driver *given; /* NULL: the place is free */
  mb_driver inner;        /* with NULL for what given does not know of */
  mb_driver driver;
  const char *schemes[2 * SCHEMES_MAX + 1];
  char names[SCHEMES_MAX][SCHEME_ROOM];
} place;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* Guarded by the lock until they are taken; constant then. */
#define PLACE(number) {.given = NULL},
static place places[] = {PLACES(PLACE)};
#undef PLACE

#define OPEN(number)                                                 \
  static mb_status open_##number(const mb_host *host,                \
      const mb_option *options, size_t n, mb_driver_connector **out, \
      mb_connector_info *info, mb_error *error)                      \
  {                                                                  \
    return ft_open_connector(                                        \
        &places[number].inner, host, options, n, out, info, error);  \
  }
PLACES(OPEN)
#undef OPEN

typedef mb_status open_connector(const mb_host *host, const mb_option *options,
    size_t n, mb_driver_connector **out, mb_connector_info *info,
    mb_error *error);

#define OPENER(number) open_##number,
static open_connector *const openers[] = {PLACES(OPENER)};
#undef OPENER

/* Both "sqlite" and "fault+sqlite" lead here. */
static void name_schemes(place *made)
{
  size_t n = 0;
  const char *const *scheme = made->inner.schemes;
  for (size_t i = 0; scheme != NULL && scheme[i] != NULL && i < SCHEMES_MAX;
       i++) {
    (void)snprintf(made->names[i], SCHEME_ROOM, "fault+%s", scheme[i]);
    made->schemes[n++] = made->names[i];
    made->schemes[n++] = scheme[i];
  }
  made->driver.schemes = scheme != NULL ? made->schemes : NULL;
}

/* The functions that are there where the one inside has them: X(slot). */
/* clang-format off */
#define WRAPPED(X) \
  X(close_connector) X(reset_db) X(connect) X(close) X(abandon) \
  X(is_valid) X(reset) X(capability) X(transaction_state) X(prepare) \
  X(describe) X(execute) X(execute_many) X(fetch) X(fetch_batch) \
  X(next_result) X(finish) X(close_statement) X(exec_text) X(query_once) \
  X(pipeline_begin) X(pipeline_sync) X(pipeline_next) X(pipeline_end) \
  X(copy_in_begin) X(copy_in_put) X(copy_in_end) X(copy_out_begin) \
  X(copy_out_get) X(copy_out_end) X(begin) X(commit) X(rollback) \
  X(savepoint) X(release_savepoint) X(rollback_to) X(cancel_handle) \
  X(cancel) X(release_cancel) X(describe_schema) X(quote_identifier) \
  X(command)
/* clang-format on */

static void fill(place *made, open_connector *open)
{
  const mb_driver *inner = &made->inner;
  mb_driver *driver = &made->driver;
  *driver = (mb_driver){
      .abi = MB_DRIVER_ABI,
      .size = sizeof *driver,
      .name = inner->name,
      .database_name = inner->database_name,
      .library_version = inner->library_version,
      .options = inner->options,
      .library_init = inner->library_init,
      .thread_enter = inner->thread_enter,
      .thread_leave = inner->thread_leave,
      .open_connector = inner->open_connector != NULL ? open : NULL,
      .consume = ft_consume,
      .ping = ft_ping,
      .resume = ft_resume,
      .release_batch = inner->release_batch,
      .control = ft_control,
  };
  name_schemes(made);

#define WRAP(slot)         \
  if (inner->slot != NULL) \
    driver->slot = ft_##slot;
  WRAPPED(WRAP)
#undef WRAP
}

static const mb_driver *find_locked(const mb_driver *inner)
{
  for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
    place *one = &places[i];
    if (one->given == NULL) {
      one->given = inner;
      memcpy(&one->inner, inner,
          inner->size < sizeof one->inner ? inner->size : sizeof one->inner);
      fill(one, openers[i]);
    }
    if (one->given == inner)
      return &one->driver;
  }
  return NULL;
}

const mb_driver *mb_driver_fault(const mb_driver *inner)
{
  /* The core says what is wrong with it, and reads nothing else. */
  if (inner->abi != MB_DRIVER_ABI)
    return inner;
  (void)pthread_mutex_lock(&lock);
  const mb_driver *found = find_locked(inner);
  (void)pthread_mutex_unlock(&lock);
  return found;
}
