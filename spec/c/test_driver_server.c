/* test_driver_server.c: what is kept, what goes wrong, and what was counted. */
#include "test_driver_parts.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FAULTS_MAX 64

td_settings td;

/* Guards everything below; driver calls come from many threads. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t unhung = PTHREAD_COND_INITIALIZER;
static long calls[TD_SLOTS];
static td_fault faults[FAULTS_MAX];
static size_t n_faults;
static int64_t *stored;
static size_t n_stored, stored_room;
static long sessions, most_sessions;
static char addresses[1024];

static atomic_long trips, breaches, statements, objects;

void td_reset(void)
{
  (void)pthread_mutex_lock(&lock);
  if (sessions != 0 || statements != 0 || objects != 0)
    (void)fprintf(stderr, "the test before has left something open\n");
  td = (td_settings){.statement_cache = 16, .validity = MB_ALIVE};
  memset(calls, 0, sizeof calls);
  n_faults = 0;
  n_stored = 0;
  most_sessions = 0;
  addresses[0] = '\0';
  trips = 0;
  breaches = 0;
  (void)pthread_mutex_unlock(&lock);
}

/* --- Faults and counters ------------------------------------------------ */

void td_breach(const char *format, ...)
{
  va_list arguments;
  va_start(arguments, format);
  (void)fputs("the core broke its promise: ", stderr);
  (void)vfprintf(stderr, format, arguments);
  (void)fputc('\n', stderr);
  va_end(arguments);
  atomic_fetch_add(&breaches, 1);
}

/* Room for a fault: one of the same call, or one that has been met; else new.
 */
static td_fault *find_room_locked(const td_fault *fault)
{
  for (size_t i = 0; i < n_faults; i++)
    if (faults[i].nth <= calls[faults[i].slot] ||
        (faults[i].slot == fault->slot && faults[i].nth == fault->nth))
      return &faults[i];
  if (n_faults == FAULTS_MAX)
    abort();
  return &faults[n_faults++];
}

void td_fault_add(td_fault fault)
{
  (void)pthread_mutex_lock(&lock);
  fault.nth += calls[fault.slot];
  *find_room_locked(&fault) = fault;
  (void)pthread_mutex_unlock(&lock);
}

void td_fail(td_slot slot, long nth, mb_class class, unsigned flags)
{
  td_fault_add(
      (td_fault){.slot = slot, .nth = nth, .class = class, .flags = flags});
}

void td_stall(td_slot slot, long nth, td_until until)
{
  td_fault_add((td_fault){.slot = slot, .nth = nth, .stall = until});
}

void td_forgive(void)
{
  (void)pthread_mutex_lock(&lock);
  n_faults = 0;
  (void)pthread_mutex_unlock(&lock);
}

td_fault td_count(td_slot slot)
{
  td_fault met = {.slot = slot};
  (void)pthread_mutex_lock(&lock);
  calls[slot]++;
  for (size_t i = 0; i < n_faults;)
    if (faults[i].slot == slot && faults[i].nth == calls[slot]) {
      met = faults[i];
      faults[i] = faults[--n_faults];
    } else {
      i++;
    }
  (void)pthread_mutex_unlock(&lock);
  return met;
}

long td_calls(td_slot slot)
{
  (void)pthread_mutex_lock(&lock);
  const long n = calls[slot];
  (void)pthread_mutex_unlock(&lock);
  return n;
}

void td_count_trip(void)
{
  atomic_fetch_add(&trips, 1);
}

void td_count_session(int change)
{
  (void)pthread_mutex_lock(&lock);
  sessions += change;
  if (sessions > most_sessions)
    most_sessions = sessions;
  (void)pthread_mutex_unlock(&lock);
}

void td_count_statement(int change)
{
  atomic_fetch_add(&statements, change);
}

void td_count_object(int change)
{
  atomic_fetch_add(&objects, change);
}

long td_trips(void)
{
  return trips;
}

long td_breaches(void)
{
  return breaches;
}

long td_open_sessions(void)
{
  (void)pthread_mutex_lock(&lock);
  const long n = sessions;
  (void)pthread_mutex_unlock(&lock);
  return n;
}

long td_most_sessions(void)
{
  (void)pthread_mutex_lock(&lock);
  const long n = most_sessions;
  (void)pthread_mutex_unlock(&lock);
  return n;
}

void td_note_addresses(const mb_connect_args *args)
{
  size_t used = 0;
  (void)pthread_mutex_lock(&lock);
  addresses[0] = '\0';
  for (size_t i = 0; i < args->n_addresses && used < sizeof addresses; i++)
    used += (size_t)snprintf(addresses + used, sizeof addresses - used,
        "%s%zu=%s", i > 0 ? " " : "", args->addresses[i].lookup,
        args->addresses[i].text);
  (void)pthread_mutex_unlock(&lock);
}

const char *td_addresses(void)
{
  return addresses;
}

long td_open_statements(void)
{
  return statements;
}

long td_open_objects(void)
{
  return objects;
}

void td_hang(const bool *hangs)
{
  (void)pthread_mutex_lock(&lock);
  while (*hangs)
    (void)pthread_cond_wait(&unhung, &lock);
  (void)pthread_mutex_unlock(&lock);
}

void td_unhang(void)
{
  (void)pthread_mutex_lock(&lock);
  td.cancel_hangs = false;
  td.connect_hangs = false;
  (void)pthread_cond_broadcast(&unhung);
  (void)pthread_mutex_unlock(&lock);
}

/* --- Values and transactions -------------------------------------------- */

static void store_locked(int64_t value)
{
  if (n_stored == stored_room) {
    stored_room = stored_room == 0 ? 256 : stored_room * 2;
    stored = realloc(stored, stored_room * sizeof *stored);
    if (stored == NULL)
      abort();
  }
  stored[n_stored++] = value;
}

long td_stored(void)
{
  (void)pthread_mutex_lock(&lock);
  const long n = (long)n_stored;
  (void)pthread_mutex_unlock(&lock);
  return n;
}

bool td_is_stored(int64_t value)
{
  bool found = false;
  (void)pthread_mutex_lock(&lock);
  for (size_t i = 0; i < n_stored; i++)
    found |= stored[i] == value;
  (void)pthread_mutex_unlock(&lock);
  return found;
}

int64_t td_visible(const td_session *session)
{
  return td_stored() + (int64_t)session->n_pending;
}

void td_put(td_session *session, int64_t value)
{
  if (!session->active) {
    (void)pthread_mutex_lock(&lock);
    store_locked(value);
    (void)pthread_mutex_unlock(&lock);
  } else if (session->n_pending <
             sizeof session->pending / sizeof *session->pending) {
    session->pending[session->n_pending++] = value;
  }
}

void td_server_begin(td_session *session)
{
  session->active = true;
  session->failed = false;
  session->n_pending = 0;
  session->n_savepoints = 0;
}

void td_server_rollback(td_session *session)
{
  td_server_begin(session);
  session->active = false;
}

void td_server_commit(td_session *session)
{
  (void)pthread_mutex_lock(&lock);
  for (size_t i = 0; i < session->n_pending && !session->failed; i++)
    store_locked(session->pending[i]);
  (void)pthread_mutex_unlock(&lock);
  td_server_rollback(session);
}

void td_server_savepoint(td_session *session, const char *name)
{
  if (session->n_savepoints ==
      sizeof session->savepoints / sizeof *session->savepoints)
    abort();
  td_savepoint *made = &session->savepoints[session->n_savepoints++];
  (void)snprintf(made->name, sizeof made->name, "%s", name);
  made->n = session->n_pending;
}

/* The last savepoint of a name, from 1; 0: none. */
static size_t find(const td_session *session, const char *name)
{
  size_t at = session->n_savepoints;
  while (at > 0 && strcmp(session->savepoints[at - 1].name, name) != 0)
    at--;
  return at;
}

bool td_server_release(td_session *session, const char *name)
{
  const size_t at = find(session, name);
  if (at == 0)
    return false;
  session->n_savepoints = at - 1;
  return true;
}

bool td_server_rollback_to(td_session *session, const char *name)
{
  const size_t at = find(session, name);
  if (at == 0)
    return false;
  session->n_savepoints = at;
  session->n_pending = session->savepoints[at - 1].n;
  session->failed = false;
  return true;
}
