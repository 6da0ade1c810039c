/*
 * connection.h: a connection as the core sees it, and what its files share.
 *
 * One mb_conn is one session of a database.  It owns its statements (the cache
 * and those that are kept), knows which of them are running, and holds the
 * stack of transactions.  A borrower uses it from one thread at a time; what
 * other threads touch is atomic or said.
 */
#ifndef MB_CORE_CONNECTION_H
#define MB_CORE_CONNECTION_H

#include "../moonbase.h"
#include "alarm.h"
#include "cancellation.h"
#include "connector.h"
#include "fiber.h"
#include "host.h"
#include "resolve.h"
#include "statement_cache.h"
#include "task.h"
#include "thread.h"

#include <pthread.h>

typedef mb_status mb__step(mb_conn *conn, void *argument, mb_error *error);

/* Goes on with a wait of the core's own, in place of the driver's resume. */
typedef mb_status mb__resume(mb_conn *conn, mb_error *error);

/* A connect on a thread of its own (dial.c). */
typedef struct mb__dial mb__dial;

/* An open transaction or savepoint. */
typedef struct mb__level {
  uint32_t serial;
  bool dropped;        /* its handle was collected: roll back to here */
  const void *task;    /* that began it; NULL: one that is no fiber's */
  int64_t deadline_ns; /* of the whole; MB_NEVER */
} mb__level;

/* Why the open transaction can only be rolled back. */
typedef struct mb__verdict {
  bool over;         /* the database has ended it, or only a rollback will do */
  bool late;         /* its time-out has passed */
  unsigned flags;    /* of the error that did it, as far as they still hold */
  char message[200]; /* of that error, terminated; empty: none is known */
} mb__verdict;

/* What every call looks at stands first, together. */
struct mb_conn {
  mb_conn_guard guard; /* first: users of the library find it there */

  /* Constant while open. */
  const mb_driver *driver;
  mb__connector *connector; /* a reference */
  mb_pool *pool;            /* borrowed: the pool outlives its connections */
  const mb_capability *capability; /* &own_capability, once connected */

  /* Any thread. */
  atomic_uint refs;
  atomic_bool entered; /* a call is going on */
  atomic_bool waiting; /* it has answered MB_WAIT */

  /* The one who forks. */
  bool inherited; /* by a child from its parent: only to be abandoned */

  /* The borrower's thread. */
  bool blocking;
  mb_driver_conn *impl;  /* NULL once closed */
  bool dead;             /* the session is lost: to be dropped */
  bool fresh;            /* made, and not yet set up by a borrower */
  bool setup;            /* what runs now is setting up, not use */
  bool session_changed;  /* by a statement of a user */
  bool unsettled;        /* there are dropped runs or levels */
  bool no_wait;          /* the borrower may not wait for others */
  bool has_place;        /* the pool's place to write */
  bool place_for_borrow; /* it is left when the connection comes back */
  bool attended;         /* what runs at the driver; see mb__conn_attend */
  bool has_alarm;        /* alarm is set */
  bool away;             /* the call goes on on a worker */
  bool stays;            /* on the thread of its borrower: the database knows
                            functions of the program */
  bool awaits;           /* its calls wait by mb_host.await */
  bool connecting;       /* until the init statements have been run */
  bool lexical_stale;    /* a setting has changed: the driver is asked again */
  uint32_t lexical_serial; /* moves when texts mean something else */

  /* Fibers of the borrower's thread. */
  /* Its call is going on, and it was left meanwhile; who asks may be a thread
   * that has no business here. */
  _Atomic(mb_fiber *) left;
  unsigned n_turns;   /* that wait for their turn */
  mb__condition turn; /* with the pool's lock */

  /* Transactions. */
  mb__level *levels; /* depth of them, room for more */
  uint32_t depth;
  mb_transaction_state transaction; /* as the session said last */
  int64_t tx_deadline_ns;           /* the earliest of them; MB_NEVER */
  uint32_t levels_room;
  uint32_t last_serial;

  /* Ends what is open over several calls, for any other call; a task.  NULL:
   * nothing is open. */
  mb__resume *end_open;

  /* The operation in flight. */
  mb_op op;
  mb__listener listener;
  mb__step *step;
  void *step_argument;
  mb_status answer;   /* of the driver's call, when a task is entered again */
  mb__resume *resume; /* NULL: the driver's */
  mb__ending ending;
  mb__alarm alarm; /* of a call that blocks */
  mb_error *kept;  /* of a call in MB__PHASE_ENDED; NULL: nothing is kept */
  mb__canceller *canceller;
  void (*on_event)(void *context, const mb_event *event);
  void *event_context;
  char *password; /* to connect with; owned; NULL: the option's */

  /* Statements. */
  size_t n_at_driver; /* runs with rows that the database still holds */
  mb_stmt *running;   /* those with rows that have not been read or given up */
  uint64_t last_run;
  mb__cache cache;
  uint64_t cache_hits, cache_misses;

  mb__verdict verdict;
  mb_capability own_capability;

  /* Memory of tasks. */
  struct {
    int at, unwind_at;
    const mb_tx *parent;
    mb_begin begin;
    bool writes; /* it needs the place to write */
    int64_t deadline_ns;
    uint32_t target; /* depth to be left */
    bool failed;
    bool sent; /* COMMIT, as far as the core can tell */
    char name[24];
    char sql[64];
    mb_result result;
    mb_error reason;
  } tx;
  struct {
    int at, inner_at;
    mb_connect_args args;
    mb__lookups lookups;
    mb__dial *dial; /* NULL: there is none */
    size_t init;
    mb_result result;
  } opening;
  struct {
    int at;
    unsigned lost;
  } cleaning;
  struct {
    int at;
    mb_stmt *stmt;
  } settling;
  int settle_at;
  uint32_t settle_depth;
  struct {
    int at, end_at, finish_at;
    mb_stmt **stmts; /* n of them, kept, in the order of their answers */
    size_t n, next, room;
    size_t bytes; /* of their parameters */
    bool sent;
    bool opened; /* it was open before the run that is being added */
    mb_driver_stmt *answered;
    mb_result result; /* of nobody */
  } batch;

  /* The pool's (pool.h); guarded by its lock, but for what never changes. */
  mb_conn *pool_older, *pool_newer;
  int pool_state;
  pthread_t borrower;  /* the thread that it is lent to */
  bool as_writer;      /* lent to who took the place to write before */
  unsigned generation; /* constant: of the pool, when it was begun */
  int64_t retire_ns;   /* constant once connected: when it is too old */
  int64_t idle_ns;     /* since when it is idle */
  int64_t lent_ns;     /* since when it is lent */
  int64_t connect_start_ns, connect_end_ns; /* constant once connected */
  char *note; /* who has borrowed it, for people; owned; NULL: unknown */
  uint_fast64_t leak_told; /* the borrow that was said to be too long */
};

/* --- transaction.c ------------------------------------------------------ */

/* How many levels are open, and neither dropped nor inside a dropped one. */
uint32_t mb__tx_kept_depth(const mb_conn *conn);

/* Whether tx names a level that is open. */
static inline bool mb__tx_is_level(const mb_tx *tx)
{
  const mb_conn *conn = tx->conn;
  return conn != NULL && tx->depth >= 1 && tx->depth <= conn->depth &&
         tx->borrow == mb_conn_borrow(conn) &&
         conn->levels[tx->depth - 1].serial == tx->serial;
}

/* Why no statement may run in tx now. */
MB_CHECKED MB_COLD mb_status mb__tx_refuse(
    const mb_conn *conn, const mb_tx *tx, mb_error *error);

/* Whether a statement may run in tx now (NULL: directly on the connection). */
MB_CHECKED static inline mb_status mb__tx_check(
    const mb_conn *conn, const mb_tx *tx, mb_error *error)
{
  if (tx == NULL ? conn->depth == 0
                 : tx->conn == conn && tx->depth == conn->depth &&
                       mb__tx_is_level(tx) && !conn->verdict.over)
    return MB_OK;
  return mb__tx_refuse(conn, tx, error);
}

/* Judges what the session has said beside an open transaction. */
MB_COLD void mb__tx_judge(mb_conn *conn, mb_error *error);

/* Draws the consequences of what the session says after a call.  error: the one
 * that the call gave, or NULL; gets MB_TRANSACTION_DEAD when that is so. */
static inline void mb__tx_follow(mb_conn *conn, mb_error *error)
{
  conn->transaction = conn->driver->transaction_state(conn->impl);
  if (conn->depth > 0 && (error != NULL || conn->dead ||
                             conn->transaction != MB_TRANSACTION_ACTIVE))
    mb__tx_judge(conn, error);
}

/* Rolls back until depth levels are left; a task on conn->tx. */
MB_CHECKED mb_status mb__tx_unwind(
    mb_conn *conn, uint32_t depth, mb_error *error);

/* --- writer.c ----------------------------------------------------------- */

/* Takes the pool's place to write for this connection, unless it has it. */
MB_CHECKED mb_status mb__place_enter(mb_conn *conn, mb_error *error);
/* Leaves it, when nothing is being written any more. */
void mb__place_consider(mb_conn *conn);

/* --- batch.c ------------------------------------------------------------ */

/* Lets go of what was added, when the connection is closed. */
void mb__batch_close(mb_conn *conn);

/* --- connection.c ------------------------------------------------------- */

/* A connection that is not connected yet, with one reference; NULL: out of
 * memory. */
mb_conn *mb__conn_new(mb__connector *connector, mb_pool *pool);

/*
 * Connects, and runs the connector's init statements.  Errors: what connecting
 * gives; an expired connect_timeout is MB_CONNECTIVITY.  The connection is
 * closed then.
 */
MB_CHECKED mb_status mb__conn_connect(
    mb_conn *conn, mb_cancellation *cancellation, mb_error *error);

/* True while the driver runs, so that the connection cannot be ended: by
 * another thread, or by a function of the program that the database has called;
 * and while somebody holds it. */
static inline bool mb__conn_is_in_call(const mb_conn *conn)
{
  return (atomic_load(&conn->entered) && !atomic_load(&conn->waiting)) ||
         atomic_load(&conn->guard.held) > 0 ||
         atomic_load(&conn->guard.read) > 0;
}

/* Ends the session and detaches what hangs on it; the memory lives until the
 * last reference is given back.  Safe twice.  No lock may be held. */
void mb__conn_close(mb_conn *conn);

/* Ends all runs and transactions and makes the session fit for the next
 * borrower; false: it is not, and has to be closed, for *reason. */
bool mb__conn_clean(mb_conn *conn, mb_close_reason *reason);

/* True where a session that was changed is made as new, and others are not. */
static inline bool mb__conn_resets_on_need(const mb_conn *conn)
{
  return conn->driver->reset != NULL &&
         conn->connector->settings.reset == MB_SESSION_AUTO;
}

/* Marks a call as going on.  MB_USAGE: another one is, or it is closed;
 * MB_CONNECTION_LOST: it has died before. */
MB_CHECKED MB_COLD mb_status mb__conn_refuse(mb_conn *conn, mb_error *error);

/* Notes whether the caller has an event loop. */
void mb__conn_note_loop(mb_conn *conn);
static inline void mb__conn_look_around(mb_conn *conn)
{
  if (MB_RARELY(atomic_load_explicit(&mb__fiber_known, memory_order_relaxed)))
    mb__conn_note_loop(conn);
}

static inline mb_status mb__conn_enter(mb_conn *conn, mb_error *error)
{
  if (conn->impl == NULL || conn->dead ||
      atomic_load_explicit(&conn->entered, memory_order_relaxed) ||
      atomic_load_explicit(&conn->guard.read, memory_order_relaxed) > 0)
    return mb__conn_refuse(conn, error);
  atomic_store_explicit(&conn->entered, true, memory_order_relaxed);
  mb__conn_look_around(conn);
  return MB_OK;
}

/* --- turn.c ------------------------------------------------------------- */

/* Begins a call when the one of another fiber has ended. */
MB_CHECKED mb_status mb__conn_enter_in_turn(mb_conn *conn, mb_error *error);
/* Wakes fibers that wait for their turn. */
MB_COLD void mb__conn_pass_turn(mb_conn *conn);
static inline const mb_fiber *mb__conn_left(const mb_conn *conn)
{
  return atomic_load_explicit(&conn->left, memory_order_relaxed);
}
/* Around what may leave a fiber in the middle of a call. */
static inline void mb__conn_leave_fiber(mb_conn *conn)
{
  atomic_store_explicit(&conn->left, mb__fiber_running(), memory_order_relaxed);
}
static inline void mb__conn_come_back(mb_conn *conn)
{
  atomic_store_explicit(&conn->left, NULL, memory_order_relaxed);
}

/* Forgets the bounds of the operation. */
void mb__conn_unbound(mb_conn *conn);

/* Leaves a call that waits: step goes on with it. */
MB_CHECKED mb_status mb__conn_suspend(
    mb_conn *conn, mb__step *step, void *argument);

/* Ends a call that left a row to be read, so that the session's state cannot
 * have changed. */
static inline void mb__conn_pause(mb_conn *conn)
{
  if (conn->op.bounded)
    mb__conn_unbound(conn);
  if (conn->n_turns > 0)
    mb__conn_pass_turn(conn);
  /* Who sees it false may be another thread, which ends the connection. */
  atomic_store_explicit(&conn->entered, false, memory_order_release);
}

/* True when nothing bounds an operation with this time-out and cancellation,
 * nor did the one before: there is nothing to do. */
static inline bool mb__conn_is_free(const mb_conn *conn, int64_t timeout_ns,
    const mb_cancellation *cancellation)
{
  return timeout_ns == 0 && cancellation == NULL && !conn->op.bounded &&
         conn->tx_deadline_ns == MB_NEVER;
}

/* Bounds an operation that is to take place even when time is up elsewhere: by
 * a time-out of its own (0: none, but what ends something in a transaction with
 * a deadline does not take for ever). */
void mb__conn_limit(mb_conn *conn, int64_t timeout_ns);

/* Bounds the operation that begins: by a time-out (0: none), the deadlines of
 * the open transactions, and a cancellation (or NULL).  MB_ERROR: it is over
 * already. */
MB_CHECKED mb_status mb__conn_bound(mb_conn *conn, int64_t timeout_ns,
    mb_cancellation *cancellation, mb_error *error);

/* Ends the call: follows the session's transaction state, forgets the bounds.
 * error: the one that the call gives, or NULL. */
static inline void mb__conn_leave(mb_conn *conn, mb_error *error)
{
  mb__tx_follow(conn, error);
  if (conn->has_place && conn->depth == 0)
    mb__place_consider(conn);
  mb__conn_pause(conn);
}

/* What step has answered, on a connection that was entered for it: when it has
 * ended, the connection is left. */
MB_CHECKED static inline mb_status mb__conn_end_step(mb_conn *conn,
    mb__step *step, void *argument, mb_status status, mb_error *error)
{
  if (status == MB_WAIT)
    return mb__conn_suspend(conn, step, argument);
  if (status == MB_ROW)
    mb__conn_pause(conn); /* the statement is still going on */
  else
    mb__conn_leave(conn, status == MB_ERROR ? error : NULL);
  return status;
}

/* Runs step until it has ended, or, when non-blocking, until it waits. */
MB_CHECKED static inline mb_status mb__conn_run(
    mb_conn *conn, mb__step *step, void *argument, mb_error *error)
{
  return mb__conn_end_step(
      conn, step, argument, step(conn, argument, error), error);
}

/* Ends what is open over several calls; a task. */
MB_CHECKED static inline mb_status mb__conn_end_open(
    mb_conn *conn, mb_error *error)
{
  return conn->end_open != NULL ? conn->end_open(conn, error) : MB_OK;
}

/* Rolls back dropped transactions and ends dropped runs, and what is open over
 * several calls; a task. */
MB_CHECKED mb_status mb__conn_settle(mb_conn *conn, mb_error *error);

void mb__conn_event(void *owner, const mb_event *event);

/* Asks the driver again how texts are to be read. */
void mb__conn_follow_lexical(mb_conn *conn);

/* True when open rows are in the way of any request: they have to be read into
 * memory first. */
static inline bool mb__conn_is_occupied(const mb_conn *conn)
{
  return conn->n_at_driver > 0 && !conn->capability->multiple_open_rows;
}

/* --- wait.c ------------------------------------------------------------- */

/* What a driver's call has answered, brought to its end (or to MB_WAIT on a
 * non-blocking connection): waits, ends operations that are out of time, and
 * draws the consequences of an error. */
MB_CHECKED mb_status mb__conn_bring(
    mb_conn *conn, mb_status status, mb_error *error);

/* Whether an operation that has bounds is still within them. */
MB_CHECKED mb_status mb__conn_within(mb_conn *conn, mb_error *error);

/* Whether an operation may send a further request: not once its time is up, or
 * somebody has cancelled it.  What only ends something is sent all the same. */
MB_CHECKED static inline mb_status mb__conn_proceed(
    mb_conn *conn, mb_error *error)
{
  return conn->op.bounded ? mb__conn_within(conn, error) : MB_OK;
}

/* What is answered instead of a call on a connection that is dead. */
MB_CHECKED MB_COLD mb_status mb__conn_lost(mb_conn *conn, mb_error *error);

/* The call of the driver that follows blocks: has it leave an event loop, and
 * somebody look after its bounds.  mb__conn_drive is told what it has come to;
 * where nothing is to be done this is free. */
void mb__conn_attend(mb_conn *conn);
static inline void mb__conn_watch(mb_conn *conn)
{
  if ((conn->op.bounded || conn->op.in_loop) && conn->connector->info.blocks &&
      !(conn->op.in_loop && conn->awaits))
    mb__conn_attend(conn);
}

/* Those of mb_host. */
void mb__conn_make_way(mb_op *op, bool at_once);
unsigned mb__conn_await(mb_op *op);

static inline mb_status mb__conn_drive(
    mb_conn *conn, mb_status status, mb_error *error)
{
  if (MB_RARELY((status != MB_DONE && status != MB_ROW) || conn->attended))
    return mb__conn_bring(conn, status, error);
  return status;
}

/* --- statement.c -------------------------------------------------------- */

/* Ends runs begun at this depth of transactions or deeper; a task on
 * conn->settling. */
MB_CHECKED mb_status mb__stmt_finish_from(
    mb_conn *conn, uint32_t depth, mb_error *error);

/* Ends runs begun at this depth of transactions or deeper, of a session that is
 * lost: the database is not asked. */
void mb__stmt_forget_from(mb_conn *conn, uint32_t depth);

/* Reads all open rows into memory; a task on conn->settling.  MB_USAGE: a
 * further result would be in the way all the same. */
MB_CHECKED mb_status mb__stmt_spool_all(mb_conn *conn, mb_error *error);

/* Forgets the driver's side of every statement (the session lost them, or is
 * being closed). */
void mb__stmt_forget_all(mb_conn *conn, bool close);

#endif
