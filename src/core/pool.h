/*
 * pool.h: what the files of the pool share.
 *
 * pool.c borrows and gives back, lending.c says which connection goes to whom,
 * connecting.c makes connections and looks whether they are good, keeper.c
 * works in the background, pools.c opens and closes pools.
 *
 * A connection of a pool is in exactly one state, and is moved from one to
 * another in one place (mb__pool_move_locked):
 *
 *     CONNECTING ----- connected -----> IDLE <--- clean and fit --- LENT
 *      |      |                        ^ |  |                       ^ | |
 *      |      |          alive, or not | |  +------- lend ----------+ | |
 *      |      |             to be lent | |                          | | |
 *      |      |                       PINGING ---- alive -----------+ | |
 *      |      |                          |                          | | |
 *      |      +--- somebody waits -------|--------------------------+ | |
 *      |                                 |                            | |
 *      | failed                     dead |      LEFT <-- a finalizer -+ |
 *      v                                 v        |                     |
 *     CLOSING <--------------------------+--------+---- not fit --------+
 *      |
 *      +--> gone
 *
 * LEFT becomes IDLE, LENT or CLOSING when somebody who may wait has cleaned it.
 * A connection that comes back while somebody waits is LENT again at once.
 *
 * The lock guards the lists, the queue and the counts; nothing of a driver is
 * called under it, and nothing of a connection but the members that
 * connection.h names is touched.  Whoever moves a connection to CONNECTING,
 * PINGING or CLOSING, or takes it out of LEFT, has it for himself.
 */
#ifndef MB_CORE_POOL_H
#define MB_CORE_POOL_H

#include "connection.h"
#include "thread.h"

typedef enum mb__pool_state {
  MB__POOL_CONNECTING,
  MB__POOL_IDLE,
  MB__POOL_PINGING,
  MB__POOL_LENT, /* from lending to the end of the cleaning that follows */
  MB__POOL_LEFT, /* its borrower was collected: to be cleaned */
  MB__POOL_CLOSING,
  MB__POOL_STATES
} mb__pool_state;

/* Somebody who waits for a connection, on his own stack. */
typedef struct mb__waiter {
  pthread_t thread;
  mb__condition served;
  int64_t since_ns;
  unsigned flags;  /* of the acquire */
  mb_conn *conn;   /* handed over; NULL: none yet */
  bool refused;    /* *error says why */
  mb_error *error; /* the caller's */
  struct mb__waiter *next;
} mb__waiter;

/* Somebody who waits for the place to write. */
typedef struct mb__place_waiter {
  mb__condition turn;
  bool served;
  struct mb__place_waiter *next;
} mb__place_waiter;

struct mb_pool {
  /* Constant. */
  mb__connector *connector;
  const char *name;      /* in the connector; NULL: not shared */
  unsigned fork_epoch;   /* the process that opened it */
  bool connects_at_once; /* connecting waits for nobody */
  bool is_database; /* its connection is the database: never closed for age */
  mb_cancellation *ending; /* of what the pool asks servers for itself */

  /* Any thread. */
  atomic_uint refs;       /* of handles and of what was made from them */
  atomic_uint generation; /* older connections are not lent any more */
  atomic_bool dropped;    /* without references, to be closed by mb_dispose */
  atomic_int n_left;      /* connections in MB__POOL_LEFT */

  /* Guarded by the lock of the list of pools. */
  mb_pool *next, *prev;
  unsigned handles; /* that have not been closed */

  pthread_mutex_t lock; /* guards everything below */
  mb__condition smaller;
  bool closed;   /* lends nothing any more */
  bool finished; /* without references: the memory goes with the last part */
  struct {
    mb_conn *newest, *oldest;
    int64_t n;
  } lists[MB__POOL_STATES];
  int64_t size; /* the sum of all n */
  mb__waiter *first_waiter, *last_waiter;
  int64_t n_waiting;

  /* The server, as far as it is known. */
  bool suspect;             /* one attempt at a time, until one succeeds */
  unsigned failures_in_row; /* of connecting */
  int64_t next_attempt_ns;  /* no sooner */
  bool has_last_error;
  mb_error last_error; /* of connecting */
  uint64_t random;     /* never 0 */

  struct {
    char *text; /* instead of the option's; NULL: none was given */
    bool refused;
  } password;

  /* The place to write (writer.c). */
  struct {
    bool wanted; /* constant: every write needs it */
    bool taken;
    mb__place_waiter *first, *last;
    int64_t n_waiting;
  } place;
  int64_t n_writers; /* lent to who took the place before the connection */
  /* Who acquires, and not to write, and is connecting or pinging for that: is
   * as good as lent. */
  int64_t n_readers_connecting, n_readers_pinging;
  /* Lent only to who tidies them, having been left: they come back soon. */
  int64_t n_tidying;

  /* Shedding: the shortest wait of this interval, and whether that of the last
   * one was too long. */
  int64_t shed_until_ns, shed_shortest_ns;
  bool shedding;

  /* The thread in the background. */
  struct {
    bool running;
    bool joinable; /* nobody has joined it yet */
    bool stop;
    bool sweep; /* now, whatever the time is */
    pthread_t thread;
    mb__condition wake;
    int64_t next_sweep_ns;
  } keeper;

  mb_pool_stats stats;

  /* Events (event.c). */
  struct {
    unsigned watchers;
    struct mb__event_slot *ring; /* NULL: nobody has watched yet */
    atomic_uint_fast64_t count;  /* of all so far; read by any thread */
  } events;
};

/* --- lending.c ---------------------------------------------------------- */

static inline mb__pool_state mb__pool_state_of(const mb_conn *conn)
{
  return (mb__pool_state)conn->pool_state;
}

/* Moves a connection to another state, as the newest there. */
void mb__pool_move_locked(mb_pool *pool, mb_conn *conn, mb__pool_state to);
/* A new one, in MB__POOL_CONNECTING. */
void mb__pool_add_locked(mb_pool *pool, mb_conn *conn);
/* One that has gone; its memory is the caller's. */
void mb__pool_remove_locked(mb_pool *pool, mb_conn *conn);

/* How many connections may be lent to others than the one who has the place to
 * write, for whom one is kept. */
static inline int64_t mb__pool_readers_max(const mb_pool *pool)
{
  const int64_t max = pool->connector->settings.max;
  return pool->place.wanted && max > 1 ? max - 1 : max;
}
/* Whether a connection may be lent to who acquires with these flags. */
static inline bool mb__pool_may_lend_locked(const mb_pool *pool, unsigned flags)
{
  const int64_t readers = pool->lists[MB__POOL_LENT].n +
                          pool->lists[MB__POOL_LEFT].n - pool->n_writers +
                          pool->n_readers_connecting + pool->n_readers_pinging;
  return (flags & MB_ACQUIRE_WRITER) || readers < mb__pool_readers_max(pool);
}
void mb__pool_lend_locked(mb_pool *pool, mb_conn *conn, pthread_t borrower,
    unsigned flags, int64_t now_ns);
/* The borrower is done with it, and with the place to write. */
void mb__pool_end_lending_locked(mb_pool *pool, mb_conn *conn);
/* Hands a connection that is fit to who waits for one, or keeps it idle. */
void mb__pool_offer_locked(mb_pool *pool, mb_conn *conn, int64_t now_ns);

void mb__pool_queue_locked(mb_pool *pool, mb__waiter *own);
void mb__pool_leave_queue_locked(mb_pool *pool, const mb__waiter *leaving);
/* Has who is next look whether there is something to do. */
void mb__pool_wake_next_locked(const mb_pool *pool);

/* Each fails and fills *error: with what it says, and what is known of why
 * there was no connection. */
mb_status mb__pool_refuse_empty_locked(
    mb_pool *pool, unsigned flags, const char *what, mb_error *error);
mb_status mb__pool_refuse_closed(mb_error *error);
/* Fails everybody who waits. */
void mb__pool_refuse_all_locked(mb_pool *pool);

/* --- connecting.c ------------------------------------------------------- */

/* True when nothing may be connected without a borrower, who asks for it. */
bool mb__pool_lacks_password_locked(const mb_pool *pool);
/* True when another attempt to connect may begin now. */
bool mb__pool_may_connect_locked(const mb_pool *pool, int64_t now_ns);
/* Somebody has come to wait for the next attempt: it is made sooner. */
void mb__pool_hasten_locked(mb_pool *pool, int64_t now_ns);
/* Room for a new connection, in MB__POOL_CONNECTING; NULL: out of memory. */
mb_conn *mb__pool_begin_connect_locked(mb_pool *pool);
/* Connects, and hands what came of it to who waits, or keeps it idle.  The
 * error is the pool's to tell. */
void mb__pool_connect(mb_pool *pool, mb_conn *conn);
/* Has a helper do that, so that the caller may be served by somebody else
 * meanwhile; false: none could be started. */
bool mb__pool_start_connect(mb_pool *pool, mb_conn *conn);
/* Connects on the caller's own thread, and lends it to him. */
MB_CHECKED mb_status mb__pool_connect_here(mb_pool *pool, mb_conn *conn,
    mb_cancellation *cancellation, unsigned flags, mb_conn **out,
    mb_error *error);

/* Why a connection may not be lent any more, by what is known of it. */
static inline bool mb__pool_is_too_old(const mb_pool *pool, const mb_conn *conn,
    int64_t now_ns, mb_close_reason *reason)
{
  if (pool->is_database)
    return false;
  const bool current =
      conn->generation ==
      atomic_load_explicit(&pool->generation, memory_order_relaxed);
  *reason = current ? MB_CLOSED_LIFETIME : MB_CLOSED_GENERATION;
  return !current || now_ns >= conn->retire_ns;
}

/* Reads what came for a session that nobody uses; false: it is dead. */
bool mb__pool_consume(mb_pool *pool, mb_conn *conn);
/* Whether such a session is alive; what came for it is read. */
static inline bool mb__pool_is_alive(mb_pool *pool, mb_conn *conn)
{
  const mb_validity validity = conn->driver->is_valid(conn->impl);
  return validity == MB_READABLE ? mb__pool_consume(pool, conn)
                                 : validity != MB_DEAD;
}
/* Asks a session that is in MB__POOL_PINGING; true: it has answered. */
bool mb__pool_answers(mb_pool *pool, mb_conn *conn);
/* Makes every connection of today too old to be lent. */
void mb__pool_suspect(mb_pool *pool, unsigned generation);

/* Closes a connection that is the caller's own, for a reason. */
void mb__pool_close_conn(mb_pool *pool, mb_conn *conn, mb_close_reason reason);

/* --- pool.c ------------------------------------------------------------- */

/* Cleans what finalizers have left. */
void mb__pool_tidy(mb_pool *pool);
/* Whether there is anything of the kind that can be cleaned now. */
bool mb__pool_has_left_locked(const mb_pool *pool);

/* --- event.c ------------------------------------------------------------ */

/* Each is kept where somebody watches.  error: why connecting has failed, or
 * NULL. */
void mb__event_connected_locked(
    mb_pool *pool, const mb_conn *conn, const mb_error *error);
void mb__event_closed_locked(
    mb_pool *pool, const mb_conn *conn, mb_close_reason reason);
void mb__event_leaks_locked(mb_pool *pool, int64_t now_ns);
/* Of a pool that is being freed. */
void mb__events_free(mb_pool *pool);

/* --- keeper.c ----------------------------------------------------------- */

/* Closes what is idle and too old, and looks whether the one that was idle for
 * longest is alive. */
void mb__keeper_sweep(mb_pool *pool);

/* Starts the thread in the background where there is need of it and none is
 * running. */
void mb__keeper_need_locked(mb_pool *pool);
/* Tells it that there is work. */
void mb__keeper_wake_locked(mb_pool *pool);
/* Tells it to end; where wait is true, returns when it has. */
void mb__keeper_stop(mb_pool *pool, bool wait);

/* --- writer.c ----------------------------------------------------------- */

/* Takes the place to write, in its turn.  flags: of the acquire; op and
 * cancellation (or NULL) may end the wait, and so may acquire_timeout. */
MB_CHECKED mb_status mb__place_take_locked(mb_pool *pool, unsigned flags,
    const mb_op *op, mb_cancellation *cancellation, mb_error *error);
/* Gives it to who is next. */
void mb__place_leave_locked(mb_pool *pool);

/* --- pools.c ------------------------------------------------------------ */

/* How often this process is a child of one that used the library. */
extern atomic_uint mb__pools_fork_epoch;
/* Pools without references that wait for mb_dispose. */
extern atomic_int mb__pools_n_dropped;

/* Whether it was opened by the parent of this process. */
static inline bool mb__pool_is_inherited(const mb_pool *pool)
{
  return pool->fork_epoch !=
         atomic_load_explicit(&mb__pools_fork_epoch, memory_order_relaxed);
}
/* Works off what was dropped while it was open. */
static inline void mb__pools_dispose(void)
{
  if (atomic_load_explicit(&mb__pools_n_dropped, memory_order_relaxed) > 0)
    mb_dispose();
}
/* The same of one pool alone, where that was dropped. */
void mb__pool_dispose(mb_pool *pool);
/* Unlocks a pool from which something has gone; frees it when that was the
 * last. */
void mb__pool_unlock_smaller(mb_pool *pool);
/* MB_USAGE: the file was open in the parent at the fork, and SQLite's locks on
 * it are not this process's. */
MB_CHECKED mb_status mb__pools_check_file(const char *path, mb_error *error);

#endif
