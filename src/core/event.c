/*
 * event.c: what a pool tells of by itself.
 *
 * The latest events are kept in a ring while somebody watches, under numbers
 * that go up; each watcher remembers how far it has read.  So a thread in the
 * background can tell something to handles that live in other threads, and none
 * of them is waited for.
 */
#include "pool.h"

#include <stdio.h>
#include <string.h>

#define RING 64 /* events; a power of two */

struct mb__event_slot {
  mb_pool_event_kind kind;
  mb_close_reason reason;
  bool failed;
  mb_class class;
  pthread_t thread;
  int64_t at_ns;
  int64_t duration_ns;
  char code[MB_POOL_EVENT_CODE];
  char *text; /* owned; NULL: none */
};

static struct mb__event_slot *next_slot_locked(mb_pool *pool)
{
  if (pool->events.watchers == 0)
    return NULL;
  const uint_fast64_t number = atomic_fetch_add(&pool->events.count, 1);
  struct mb__event_slot *slot = &pool->events.ring[number & (RING - 1)];
  mb__host.release(slot->text);
  *slot = (struct mb__event_slot){
      .thread = pthread_self(), .at_ns = mb__host.now_ns()};
  return slot;
}

void mb__event_connected_locked(
    mb_pool *pool, const mb_conn *conn, const mb_error *error)
{
  struct mb__event_slot *slot = next_slot_locked(pool);
  if (slot == NULL)
    return;
  slot->kind = MB_POOL_CONNECTED;
  slot->duration_ns = conn->connect_end_ns - conn->connect_start_ns;
  if (error == NULL)
    return;
  size_t size;
  slot->failed = true;
  slot->class = error->class;
  const char *text = mb_error_text(error, MB_MESSAGE, &size);
  if (text != NULL)
    slot->text = mb__copy_text(text, size);
  text = mb_error_text(error, MB_CODE, &size);
  if (text != NULL)
    (void)snprintf(slot->code, sizeof slot->code, "%.*s", (int)size, text);
}

void mb__event_closed_locked(
    mb_pool *pool, const mb_conn *conn, mb_close_reason reason)
{
  struct mb__event_slot *slot = next_slot_locked(pool);
  if (slot == NULL)
    return;
  slot->kind = MB_POOL_CLOSED;
  slot->reason = reason;
  slot->duration_ns = slot->at_ns - conn->connect_end_ns;
}

void mb__event_leaks_locked(mb_pool *pool, int64_t now_ns)
{
  const int64_t after_ns = pool->connector->settings.leak_after_ns;
  if (after_ns <= 0 || pool->events.watchers == 0)
    return;
  /* Who has borrowed first comes first. */
  mb_conn *conn = pool->lists[MB__POOL_LENT].oldest;
  for (; conn != NULL; conn = conn->pool_newer) {
    const uint_fast64_t borrow = atomic_load(&conn->guard.borrow);
    if (conn->leak_told == borrow || now_ns - conn->lent_ns < after_ns)
      continue;
    conn->leak_told = borrow;
    struct mb__event_slot *slot = next_slot_locked(pool);
    slot->kind = MB_POOL_LEAKED;
    slot->duration_ns = now_ns - conn->lent_ns;
    if (conn->note != NULL)
      slot->text = mb__copy_text(conn->note, strlen(conn->note));
  }
}

void mb__events_free(mb_pool *pool)
{
  for (size_t i = 0; pool->events.ring != NULL && i < RING; i++)
    mb__host.release(pool->events.ring[i].text);
  mb__host.release(pool->events.ring);
  pool->events.ring = NULL;
}

bool mb_pool_watch(mb_pool *pool, uint64_t *seen)
{
  (void)pthread_mutex_lock(&pool->lock);
  if (pool->events.ring == NULL)
    pool->events.ring = mb__allocate_zeroed(RING, sizeof *pool->events.ring);
  const bool there = pool->events.ring != NULL;
  pool->events.watchers += there;
  *seen = atomic_load(&pool->events.count);
  (void)pthread_mutex_unlock(&pool->lock);
  return there;
}

void mb_pool_unwatch(mb_pool *pool)
{
  (void)pthread_mutex_lock(&pool->lock);
  pool->events.watchers--;
  (void)pthread_mutex_unlock(&pool->lock);
}

void mb_pool_find_leaks(mb_pool *pool)
{
  (void)pthread_mutex_lock(&pool->lock);
  mb__event_leaks_locked(pool, mb__coarse_ns());
  (void)pthread_mutex_unlock(&pool->lock);
}

bool mb_pool_has_events(const mb_pool *pool, uint64_t seen)
{
  return atomic_load(&pool->events.count) != seen;
}

bool mb_pool_next_event(mb_pool *pool, uint64_t *seen, mb_pool_event *out)
{
  (void)pthread_mutex_lock(&pool->lock);
  const uint64_t count = atomic_load(&pool->events.count);
  const bool there = *seen != count;
  if (there) {
    memset(out, 0, sizeof *out);
    if (count - *seen > RING) {
      out->missed = count - *seen - RING;
      *seen = count - RING;
    }
    const struct mb__event_slot *slot = &pool->events.ring[*seen & (RING - 1)];
    (*seen)++;
    out->kind = slot->kind;
    out->reason = slot->reason;
    out->failed = slot->failed;
    out->class = slot->class;
    out->own_thread = pthread_equal(slot->thread, pthread_self()) != 0;
    out->at_ns = slot->at_ns;
    out->duration_ns = slot->duration_ns;
    memcpy(out->code, slot->code, sizeof out->code);
    if (slot->text != NULL)
      (void)snprintf(out->text, sizeof out->text, "%s", slot->text);
  }
  (void)pthread_mutex_unlock(&pool->lock);
  return there;
}

/* --- Who has borrowed --------------------------------------------------- */

void mb_conn_set_note(mb_conn *conn, const char *note)
{
  mb_pool *pool = conn->pool;
  char *copy = mb__copy_text(note, strlen(note));
  (void)pthread_mutex_lock(&pool->lock);
  mb__host.release(conn->note);
  conn->note = copy;
  (void)pthread_mutex_unlock(&pool->lock);
}

int64_t mb_conn_connecting_ns(const mb_conn *conn, int64_t since_ns)
{
  if (conn->connect_end_ns <= since_ns)
    return 0;
  return conn->connect_end_ns - (conn->connect_start_ns > since_ns
                                        ? conn->connect_start_ns
                                        : since_ns);
}
