/*
 * pools.c: pools are opened, found by name, shared, closed, and left behind by
 * forks and finalizers.
 */
#include "pool.h"

#include "thread.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define NS_PER_MS INT64_C(1000000)
/* How long the end of the process waits for threads in the background. */
#define EXIT_LIMIT_NS (100 * NS_PER_MS)
/* How often it is looked whether a call has ended. */
#define LOOK_NS (2 * NS_PER_MS)

/* A file that the parent had open when it forked. */
typedef struct file {
  dev_t device;
  ino_t number;
  struct file *next;
} file;

static pthread_mutex_t pools_lock = PTHREAD_MUTEX_INITIALIZER;
static mb_pool *pools;      /* guarded by pools_lock */
static file *parents_files; /* guarded by pools_lock; never shrinks */
/* Pools without references that wait for mb__pools_dispose. */
atomic_int mb__pools_n_dropped;
atomic_uint mb__pools_fork_epoch;

/* --- Forks -------------------------------------------------------------- */

static const char *file_of(const mb_pool *pool)
{
  return pool->connector->info.file;
}

/* Sessions of files would be of no use to the parent either, if the child
 * closed them: the fewer there are the better. */
static void close_idle_files(void)
{
  for (mb_pool *pool = pools; pool != NULL; pool = pool->next) {
    mb_conn *idle = NULL;
    while (file_of(pool) != NULL && !mb__pool_is_inherited(pool)) {
      (void)pthread_mutex_lock(&pool->lock);
      idle = pool->lists[MB__POOL_IDLE].newest;
      if (idle != NULL)
        mb__pool_move_locked(pool, idle, MB__POOL_CLOSING);
      (void)pthread_mutex_unlock(&pool->lock);
      if (idle == NULL)
        break;
      mb__pool_close_conn(pool, idle, MB_CLOSED_FORK);
    }
  }
}

/* Remembers which files the parent had open. */
static void note_open_files(void)
{
  struct stat about;
  for (mb_pool *pool = pools; pool != NULL; pool = pool->next) {
    if (file_of(pool) == NULL || pool->size == 0 ||
        stat(file_of(pool), &about) != 0)
      continue;
    file *noted = mb__host.allocate(sizeof *noted);
    if (noted == NULL)
      continue;
    *noted = (file){about.st_dev, about.st_ino, parents_files};
    parents_files = noted;
  }
}

/* Around a fork nobody else changes a list. */
static void lock_all(void)
{
  (void)pthread_mutex_lock(&pools_lock);
  close_idle_files();
  for (mb_pool *pool = pools; pool != NULL; pool = pool->next)
    (void)pthread_mutex_lock(&pool->lock);
  mb__cancellations_lock();
}

static void unlock_all(void)
{
  mb__cancellations_unlock();
  for (mb_pool *pool = pools; pool != NULL; pool = pool->next)
    (void)pthread_mutex_unlock(&pool->lock);
  (void)pthread_mutex_unlock(&pools_lock);
}

/* The child: what there is belongs to its parent, and who waited is not there.
 */
static void inherit_all(void)
{
  note_open_files();
  (void)atomic_fetch_add(&mb__pools_fork_epoch, 1);
  for (mb_pool *pool = pools; pool != NULL; pool = pool->next) {
    pool->first_waiter = pool->last_waiter = NULL;
    pool->place.first = pool->place.last = NULL;
    pool->n_waiting = pool->place.n_waiting = 0;
    pool->keeper.running = pool->keeper.joinable = false;
    for (size_t state = 0; state < MB__POOL_STATES; state++)
      for (mb_conn *conn = pool->lists[state].newest; conn != NULL;
           conn = conn->pool_older)
        conn->inherited = conn->dead = true;
  }
  unlock_all();
}

mb_status mb__pools_check_file(const char *path, mb_error *error)
{
  struct stat about;
  if (path == NULL || atomic_load(&mb__pools_fork_epoch) == 0 ||
      stat(path, &about) != 0)
    return MB_OK;
  (void)pthread_mutex_lock(&pools_lock);
  const file *one = parents_files;
  while (one != NULL &&
         (one->device != about.st_dev || one->number != about.st_ino))
    one = one->next;
  (void)pthread_mutex_unlock(&pools_lock);
  if (one == NULL)
    return MB_OK;
  return mb__host.fail(error, MB_USAGE,
      "open after fork: the parent of this process was using the file when it "
      "forked, and the database library would believe to hold its locks; give "
      "connections back before the fork, or open the file in a new program");
}

/* --- The end of the process --------------------------------------------- */

static void stop_keepers(void)
{
  const int64_t deadline_ns = mb__deadline_ns(EXIT_LIMIT_NS);
  (void)pthread_mutex_lock(&pools_lock);
  for (mb_pool *pool = pools; pool != NULL; pool = pool->next) {
    (void)pthread_mutex_lock(&pool->lock);
    pool->keeper.stop = true;
    if (pool->keeper.running)
      mb__condition_signal(&pool->keeper.wake);
    while (pool->keeper.running &&
           mb__condition_wait(&pool->smaller, &pool->lock, deadline_ns))
      continue;
    (void)pthread_mutex_unlock(&pool->lock);
  }
  (void)pthread_mutex_unlock(&pools_lock);
}

/* The last chance to end sessions in order: SQLite leaves its log behind
 * otherwise. */
static void end_process(void)
{
  mb_dispose();
  stop_keepers();
}

static void watch_process(void)
{
  (void)pthread_atfork(lock_all, unlock_all, inherit_all);
  (void)atexit(end_process);
}

/* --- Opening ------------------------------------------------------------ */

static mb_pool *make(mb__connector *connector)
{
  mb_error error;
  mb_pool *pool = mb__allocate_zeroed(1, sizeof *pool);
  if (pool == NULL)
    return NULL;
  if (mb_cancellation_open(NULL, &pool->ending, &error) != MB_OK) {
    mb__host.release(pool);
    return NULL;
  }
  pool->connector = connector;
  for (size_t i = 0; i < connector->n_options; i++)
    if (strcmp(connector->options[i].name, "name") == 0)
      pool->name = connector->options[i].value;
  pool->fork_epoch = atomic_load(&mb__pools_fork_epoch);
  pool->connects_at_once =
      connector->driver->resume == NULL && !connector->info.blocks;
  pool->is_database = connector->info.is_the_database;
  pool->place.wanted =
      connector->settings.single_writer != 0 &&
      (connector->settings.single_writer > 0 || connector->info.file != NULL) &&
      !pool->is_database;
  pool->random = (uint64_t)mb__host.now_ns() ^ (uint64_t)(uintptr_t)pool;
  pool->random |= 1;
  pool->shed_shortest_ns = MB_NEVER;
  pool->keeper.next_sweep_ns = MB_NEVER;
  atomic_init(&pool->refs, 1);
  pool->handles = 1;
  (void)pthread_mutex_init(&pool->lock, NULL);
  mb__condition_init(&pool->smaller);
  mb__condition_init(&pool->keeper.wake);
  return pool;
}

/* The pool of this name that is open in this process; NULL: none. */
static mb_pool *find_named(const char *name)
{
  mb_pool *pool = pools;
  while (
      pool != NULL && (pool->name == NULL || strcmp(pool->name, name) != 0 ||
                          pool->handles == 0 || atomic_load(&pool->refs) == 0 ||
                          mb__pool_is_inherited(pool)))
    pool = pool->next;
  return pool;
}

static void add_to_list(mb_pool *pool)
{
  pool->next = pools;
  if (pools != NULL)
    pools->prev = pool;
  pools = pool;
}

static void destroy(mb_pool *pool)
{
  mb__events_free(pool);
  mb__release_secret(pool->password.text);
  mb__connector_unref(pool->connector);
  if (!mb__pool_is_inherited(
          pool)) { /* else others may seem to wait for them */
    mb__condition_destroy(&pool->smaller);
    mb__condition_destroy(&pool->keeper.wake);
    (void)pthread_mutex_destroy(&pool->lock);
    mb_cancellation_close(pool->ending);
  }
  mb__host.release(pool);
}

/* A handle of the named pool that is there, in place of the one just made. */
static mb_status join(
    mb_pool *found, mb_pool *made, mb_pool **out, mb_error *error)
{
  const bool same = mb__connector_equals(found->connector, made->connector);
  if (same) {
    (void)atomic_fetch_add(&found->refs, 1);
    found->handles++;
    *out = found;
  }
  return same ? MB_OK
              : mb__host.fail(error, MB_CONNECTOR_VALIDATION,
                    "option name: \"%s\" is a pool with another URL or other "
                    "options",
                    made->name);
}

mb_status mb_pool_open(const mb_driver *driver, const char *url,
    const mb_option *options, size_t n, mb_pool **out, mb_error *error)
{
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  mb__connector *connector;
  mb_status status = MB_OK;
  *out = NULL;
  if (mb__connector_open(driver, url, options, n, &connector, error) != MB_OK)
    return MB_ERROR;
  mb_pool *pool = make(connector);
  if (pool == NULL) {
    mb__connector_unref(connector);
    return mb__out_of_memory(error);
  }

  (void)pthread_once(&once, watch_process);
  (void)pthread_mutex_lock(&pools_lock);
  mb_pool *found = pool->name != NULL ? find_named(pool->name) : NULL;
  if (found != NULL) {
    status = join(found, pool, out, error);
  } else {
    add_to_list(pool);
    *out = pool;
  }
  (void)pthread_mutex_unlock(&pools_lock);
  if (found != NULL) {
    destroy(pool);
    return status;
  }
  (void)pthread_mutex_lock(&pool->lock);
  mb__keeper_need_locked(pool);
  (void)pthread_mutex_unlock(&pool->lock);
  return MB_OK;
}

/* --- Closing ------------------------------------------------------------ */

static void free_pool(mb_pool *pool)
{
  (void)pthread_mutex_lock(&pools_lock);
  if (pool->prev != NULL)
    pool->prev->next = pool->next;
  else
    pools = pool->next;
  if (pool->next != NULL)
    pool->next->prev = pool->prev;
  (void)pthread_mutex_unlock(&pools_lock);
  destroy(pool);
}

void mb__pool_unlock_smaller(mb_pool *pool)
{
  mb__condition_broadcast(&pool->smaller);
  const bool last = pool->finished && !pool->keeper.running &&
                    (pool->size == 0 || mb__pool_is_inherited(pool));
  (void)pthread_mutex_unlock(&pool->lock);
  if (last)
    free_pool(pool);
}

/* Whether a connection may be ended by the thread that closes its pool: not
 * what another one has borrowed, nor what is running. */
static bool may_close(const mb_pool *pool, const mb_conn *conn)
{
  if (mb__pool_is_inherited(pool))
    return true;
  return !mb__conn_is_in_call(conn) &&
         (mb__pool_state_of(conn) != MB__POOL_LENT ||
             pthread_equal(conn->borrower, pthread_self()));
}

/* Takes a connection out of a list, to be closed; NULL: none may be. */
static mb_conn *take_from(mb_pool *pool, mb__pool_state state)
{
  (void)pthread_mutex_lock(&pool->lock);
  mb_conn *conn = pool->lists[state].newest;
  for (; conn != NULL; conn = conn->pool_older) {
    if (!may_close(pool, conn))
      continue;
    uint_fast64_t number = atomic_load(&conn->guard.borrow);
    /* One whose borrow has ended is being taken back by who ended it. */
    if (state != MB__POOL_LENT ||
        (number % 2 == 1 && atomic_compare_exchange_strong(
                                &conn->guard.borrow, &number, number + 1)))
      break;
  }
  if (conn != NULL)
    mb__pool_move_locked(pool, conn, MB__POOL_CLOSING);
  (void)pthread_mutex_unlock(&pool->lock);
  return conn;
}

static void close_list(mb_pool *pool, mb__pool_state state)
{
  for (mb_conn *conn; (conn = take_from(pool, state)) != NULL;)
    mb__pool_close_conn(pool, conn, MB_CLOSED_POOL);
}

/* Asks the database to stop what borrowers are running; their calls end with an
 * error, and their connections are closed when they come back. */
static void cancel_lent(mb_pool *pool, int64_t deadline_ns)
{
  (void)pthread_mutex_lock(&pool->lock);
  for (mb_conn *conn = pool->lists[MB__POOL_LENT].newest; conn != NULL;
       conn = conn->pool_older)
    if (conn->canceller != NULL && mb__conn_is_in_call(conn))
      (void)mb__canceller_ask(conn->canceller, deadline_ns);
  (void)pthread_mutex_unlock(&pool->lock);
}

/* Works off what comes back, until nothing is open any more. */
static void await_empty(mb_pool *pool, int64_t deadline_ns)
{
  bool waits = !mb__pool_is_inherited(pool);
  while (waits) {
    mb__pool_tidy(pool);
    (void)pthread_mutex_lock(&pool->lock);
    int64_t until_ns = mb__host.now_ns() + LOOK_NS;
    waits = pool->size > 0 && until_ns - LOOK_NS < deadline_ns;
    if (pool->lists[MB__POOL_LEFT].n == 0 || until_ns > deadline_ns)
      until_ns = deadline_ns;
    if (waits)
      (void)mb__condition_wait(&pool->smaller, &pool->lock, until_ns);
    (void)pthread_mutex_unlock(&pool->lock);
  }
}

/* joins: the thread in the background is waited for. */
static void shut(mb_pool *pool, int64_t timeout_ns, bool joins)
{
  const int64_t grace_ns = pool->connector->settings.cancel_grace_ns;
  (void)pthread_mutex_lock(&pool->lock);
  pool->closed = true;
  mb__pool_refuse_all_locked(pool);
  (void)pthread_mutex_unlock(&pool->lock);
  if (!mb__pool_is_inherited(pool))
    mb_cancellation_cancel(pool->ending, "the database is closed");
  mb__keeper_stop(pool, joins && !mb__pool_is_inherited(pool));

  mb__pool_tidy(pool);
  close_list(pool, MB__POOL_IDLE);
  close_list(pool, MB__POOL_LENT);
  if (timeout_ns <= 0)
    return;
  await_empty(pool, mb__deadline_ns(timeout_ns));
  const int64_t deadline_ns = mb__deadline_ns(grace_ns);
  cancel_lent(pool, deadline_ns);
  await_empty(pool, deadline_ns);
}

/* A handle less; true: it was the last. */
static bool give_handle_back(mb_pool *pool)
{
  (void)pthread_mutex_lock(&pools_lock);
  const bool last = pool->handles <= 1;
  if (pool->handles > 0)
    pool->handles--;
  (void)pthread_mutex_unlock(&pools_lock);
  return last;
}

void mb_pool_shut(mb_pool *pool, int64_t timeout_ns)
{
  if (give_handle_back(pool))
    shut(pool, timeout_ns, true);
}

static void give_reference_back(mb_pool *pool)
{
  if (atomic_fetch_sub(&pool->refs, 1) != 1)
    return;
  (void)pthread_mutex_lock(&pool->lock);
  pool->finished = true;
  mb__pool_unlock_smaller(pool);
}

void mb_pool_close(mb_pool *pool, int64_t timeout_ns)
{
  if (pool == NULL)
    return;
  mb_pool_shut(pool, timeout_ns);
  give_reference_back(pool);
}

void mb_pool_ref(mb_pool *pool)
{
  (void)atomic_fetch_add(&pool->refs, 1);
}

void mb_pool_forget(mb_pool *pool)
{
  (void)give_handle_back(pool);
}

void mb_pool_drop(mb_pool *pool)
{
  if (atomic_fetch_sub(&pool->refs, 1) != 1)
    return;
  (void)pthread_mutex_lock(&pool->lock);
  pool->keeper.stop = true;
  if (pool->keeper.running)
    mb__condition_signal(&pool->keeper.wake);
  (void)atomic_fetch_add(&mb__pools_n_dropped, 1);
  atomic_store(&pool->dropped, true); /* from here on it is anybody's */
  (void)pthread_mutex_unlock(&pool->lock);
}

/* A pool without references (that one, or NULL: any), referenced again; NULL:
 * there is none. */
static mb_pool *take_dropped(const mb_pool *only)
{
  (void)pthread_mutex_lock(&pools_lock);
  mb_pool *pool = pools;
  while (pool != NULL &&
         ((only != NULL && pool != only) || !atomic_load(&pool->dropped)))
    pool = pool->next;
  if (pool != NULL) {
    atomic_store(&pool->dropped, false);
    pool->handles = 0; /* nobody finds it by its name */
    (void)atomic_fetch_add(&pool->refs, 1);
    (void)atomic_fetch_sub(&mb__pools_n_dropped, 1);
  }
  (void)pthread_mutex_unlock(&pools_lock);
  return pool;
}

/* The thread in the background ends by itself: it may be in the middle of a
 * ping, or be disposing of its pool just the same. */
static void dispose(mb_pool *pool)
{
  shut(pool, 0, false);
  give_reference_back(pool);
}

void mb_dispose(void)
{
  for (mb_pool *pool; (pool = take_dropped(NULL)) != NULL;)
    dispose(pool);
}

void mb__pool_dispose(mb_pool *pool)
{
  if (take_dropped(pool) != NULL)
    dispose(pool);
}

/* --- What a pool is ----------------------------------------------------- */

bool mb_pool_is_closed(mb_pool *pool)
{
  (void)pthread_mutex_lock(&pool->lock);
  const bool closed = pool->closed;
  (void)pthread_mutex_unlock(&pool->lock);
  return closed;
}

bool mb_pool_is_named(const mb_pool *pool)
{
  return pool->name != NULL;
}

const mb_driver *mb_pool_driver(const mb_pool *pool)
{
  return pool->connector->driver;
}

const mb_connector_info *mb_pool_info(const mb_pool *pool)
{
  return &pool->connector->info;
}

const mb_settings *mb_pool_settings(const mb_pool *pool)
{
  return &pool->connector->settings;
}

const char *mb_pool_option(const mb_pool *pool, const char *name)
{
  const char *value = NULL;
  for (size_t i = 0; i < pool->connector->n_options; i++)
    if (strcmp(pool->connector->options[i].name, name) == 0)
      value = pool->connector->options[i].value;
  return value;
}

mb_status mb_pool_control(mb_pool *pool, const char *name,
    const mb_value *values, size_t n, mb_value *result, mb_error *error)
{
  const mb_driver *driver = pool->connector->driver;
  *result = (mb_value){.tag = MB_NULL};
  if (driver->control == NULL)
    return mb__host.fail(
        error, MB_UNSUPPORTED, "driver \"%s\" has no %s", driver->name, name);
  return driver->control(pool->connector->impl, name, values, n, result, error);
}

static const char *const reason_names[MB_CLOSE_REASON_COUNT] = {
    [MB_CLOSED_DEAD] = "dead",
    [MB_CLOSED_GENERATION] = "generation",
    [MB_CLOSED_LIFETIME] = "lifetime",
    [MB_CLOSED_IDLE] = "idle",
    [MB_CLOSED_CHANGED] = "changed",
    [MB_CLOSED_POOL] = "pool",
    [MB_CLOSED_FORK] = "fork",
};

const char *mb_close_reason_name(mb_close_reason reason)
{
  return reason_names[reason];
}

void mb_pool_stats_read(mb_pool *pool, mb_pool_stats *out)
{
  (void)pthread_mutex_lock(&pool->lock);
  *out = pool->stats;
  out->max = pool->connector->settings.max;
  out->size = pool->size;
  out->connecting = pool->lists[MB__POOL_CONNECTING].n;
  out->open = pool->size - out->connecting - pool->lists[MB__POOL_CLOSING].n;
  out->idle = pool->lists[MB__POOL_IDLE].n + pool->lists[MB__POOL_PINGING].n;
  out->in_use = pool->lists[MB__POOL_LENT].n;
  out->waiting = pool->n_waiting + pool->place.n_waiting;
  (void)pthread_mutex_unlock(&pool->lock);
}
