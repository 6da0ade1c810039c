/*
 * moonbase.h: Moonbase from C.
 *
 * A pool lends connections; a connection runs statements and transactions; a
 * statement's run gives rows.  The Lua binding is one user of this header.
 *
 *   mb_pool *pool;
 *   mb_conn *conn;
 *   mb_stmt *stmt;
 *   mb_error error;
 *   if (mb_pool_open(mb_driver_sqlite(), "sqlite:app.db", NULL, 0, &pool,
 *           &error) != MB_OK) …
 *   if (mb_pool_acquire(pool, NULL, 0, &conn, &error) != MB_OK) …
 *   if (mb_conn_statement(conn, sql, strlen(sql), 0, &stmt, &error) != MB_OK) …
 *   status = mb_stmt_run(stmt, NULL, params, n_params, NULL, &error);
 *   while (status == MB_ROW &&
 *       (status = mb_stmt_fetch(stmt, &row, &error)) == MB_ROW) …
 *   mb_conn_release(conn);
 *   mb_pool_close(pool, 0);
 *
 * Threads: a pool and a cancellation may be used from any thread.  A
 * connection, its statements and transactions are used by one thread at a time.
 *
 * Answers: MB_OK (or MB_ROW, MB_DONE) or MB_ERROR with *error written; nothing
 * is written to *error otherwise.  MB_WAIT is answered only by connections that
 * were made non-blocking (mb_conn_set_blocking).
 *
 * Out pointers get NULL on failure.  Strings that come back are borrowed from
 * the object that they describe.
 */
#ifndef MOONBASE_H
#define MOONBASE_H

#include "driver.h"

#if defined(__GNUC__) && !defined(MOONBASE_BUILTIN)
#  pragma GCC visibility push(default)
#endif

#define MB_VERSION "0.1.0"

typedef struct mb_pool mb_pool;
typedef struct mb_conn mb_conn;
typedef struct mb_stmt mb_stmt;
typedef struct mb_spool mb_spool;
typedef struct mb_cancellation mb_cancellation;

/* --- The process -------------------------------------------------------- */

/* Replace memory and clock; before any other call, or never.  The functions
 * keep the contracts of malloc, realloc, free, and of mb_host. */
void mb_set_allocator(void *(*allocate)(size_t),
    void *(*reallocate)(void *, size_t), void (*release)(void *));
void mb_set_clock(int64_t (*now_ns)(void), void (*sleep_ns)(int64_t));

int64_t mb_now_ns(void);
void mb_sleep_ns(int64_t duration_ns);

/* Works off what finalizers have left behind (connections that were dropped
 * while open), in every pool.  Called by the library itself at each acquire and
 * at exit. */
void mb_dispose(void);

/* --- Errors ------------------------------------------------------------- */

/* "ConstraintError" for MB_CONSTRAINT; static. */
const char *mb_class_name(mb_class class);
/* The parent; a root is its own. */
mb_class mb_class_parent(mb_class class);
/* True when class is ancestor or below it. */
bool mb_class_is(mb_class class, mb_class ancestor);

/* A text of an error and its size; NULL when it is absent.  Borrowed; not
 * terminated. */
const char *mb_error_text(const mb_error *error, mb_field field, size_t *size);

/* Starts an error of a class with a message, as a function of the library
 * would; answers MB_ERROR. */
MB_COLD mb_status mb_error_fill(
    mb_error *error, mb_class class, const char *message);
void mb_error_set_text(
    mb_error *error, mb_field field, const char *text, size_t size);

/* --- Cancellation ------------------------------------------------------- */

/*
 * Something that several operations listen to, in any thread: once cancelled,
 * all of them end with CanceledError, and so does whatever is started with it
 * later.  Reference-counted.  A name (NULL: none) gives the same object to all
 * who ask for it in the process.
 */
MB_CHECKED mb_status mb_cancellation_open(
    const char *name, mb_cancellation **out, mb_error *error);
void mb_cancellation_close(mb_cancellation *cancellation);
/* reason may be NULL; copied.  Only the first call counts. */
void mb_cancellation_cancel(mb_cancellation *cancellation, const char *reason);
bool mb_cancellation_is_cancelled(const mb_cancellation *cancellation);
/* Copies the reason (empty: none was given) and terminates it. */
void mb_cancellation_reason(
    mb_cancellation *cancellation, char *out, size_t size);

/* --- Pools -------------------------------------------------------------- */

/* How one call is bounded.  A NULL mb_call means the pool's settings. */
typedef struct mb_call {
  int64_t timeout_ns; /* to the first row, then for each fetch; 0: none */
  mb_cancellation *cancellation; /* borrowed until the run has ended; or NULL */
  int64_t fetch_size;            /* 0: no server-side cursor */
} mb_call;

/* What happens to a session whose borrower gives it back, in mb_settings. */
enum mb_session_reset {
  MB_SESSION_AUTO, /* made as new when something may have been left in it */
  MB_SESSION_FULL, /* always made as new, where the database can */
  MB_SESSION_NONE  /* stays as it is */
};

/* A setting of a pool as its options give it, for those who make mb_calls. */
typedef struct mb_settings {
  int64_t connect_timeout_ns;
  int64_t acquire_timeout_ns;
  int64_t timeout_ns; /* 0: none */
  int64_t cancel_grace_ns;
  int64_t fetch_size;
  int64_t statement_cache; /* -1: as the driver says */
  int64_t max;
  int64_t min_idle;
  int64_t idle_timeout_ns;     /* 0: none */
  int64_t max_lifetime_ns;     /* 0: none */
  int64_t check_after_idle_ns; /* 0: always; -1: never */
  int64_t sweep_interval_ns;   /* 0: never */
  int64_t leak_after_ns;       /* 0: never */
  int64_t shed_target_ns;      /* 0: never */
  int64_t shed_interval_ns;
  int64_t single_writer; /* 1: one at a time; -1: as the database needs it */
  int64_t reset;         /* of mb_session_reset */
  int64_t asks_password; /* 1: see mb_pool_set_password */
} mb_settings;

/*
 * Validates url (may be NULL) and options and makes a pool; opens no
 * connection. Options repeat url parameters of the same name and win over them.
 * driver is constant and outlives the process's use of it; the rest is copied.
 * Errors: MB_CONNECTOR_VALIDATION, MB_DRIVER_FAULT, MB_RESOURCE.  The caller
 * owns one reference and gives it back with mb_pool_close.
 */
MB_CHECKED mb_status mb_pool_open(const mb_driver *driver, const char *url,
    const mb_option *options, size_t n, mb_pool **out, mb_error *error);

/* The scheme of a URL: copied to out, which is empty when the URL has none or
 * it does not fit. */
void mb_url_scheme(const char *url, char *out, size_t size);

/* Stops lending, closes idle connections and those that the calling thread has
 * borrowed, waits up to timeout_ns for other borrowers, then gives the
 * reference back.  What is given back later is closed then.  Safe to call
 * while others hold references: they get "closed". */
void mb_pool_close(mb_pool *pool, int64_t timeout_ns);
/* The same without the last step: the pool stays readable. */
void mb_pool_shut(mb_pool *pool, int64_t timeout_ns);
/* Takes a further reference. */
void mb_pool_ref(mb_pool *pool);
/* For finalizers: a handle that was opened is no longer to be counted, though
 * what was made from it may live on.  Its reference is given back by
 * mb_pool_drop. */
void mb_pool_forget(mb_pool *pool);
/* Gives the reference back; the last one leaves the connections to be disposed
 * of.  Does no I/O, for finalizers. */
void mb_pool_drop(mb_pool *pool);

bool mb_pool_is_closed(mb_pool *pool);
/* Whether it has a name, and so other handles may use it. */
bool mb_pool_is_named(const mb_pool *pool);
const mb_driver *mb_pool_driver(const mb_pool *pool);
const mb_connector_info *mb_pool_info(const mb_pool *pool);
const mb_settings *mb_pool_settings(const mb_pool *pool);
/* The value of an option that belongs to whoever holds the pool (types, null,
 * errors …), or NULL. */
const char *mb_pool_option(const mb_pool *pool, const char *name);

/*
 * Says the password with which connections are made from now on, in place of
 * the option's; it is copied.  Where the option asks_password is true, the
 * thread in the background connects only after this was called, and when the
 * password is refused, not before it is called again.  Errors: MB_RESOURCE.
 */
MB_CHECKED mb_status mb_pool_set_password(
    mb_pool *pool, const char *password, mb_error *error);
/* True where the option asks_password is true and an acquire that came now
 * would have to connect. */
bool mb_pool_needs_password(mb_pool *pool);

/* Runs a command of the driver's that needs no connection (see its
 * documentation).  Bytes in *result live as long as the pool.  Errors:
 * MB_UNSUPPORTED and its own. */
MB_CHECKED mb_status mb_pool_control(mb_pool *pool, const char *name,
    const mb_value *values, size_t n, mb_value *result, mb_error *error);

/* Why a connection was closed. */
typedef enum mb_close_reason {
  MB_CLOSED_DEAD,       /* it was lost, or did not answer */
  MB_CLOSED_GENERATION, /* others of its time were lost */
  MB_CLOSED_LIFETIME,
  MB_CLOSED_IDLE,
  MB_CLOSED_CHANGED, /* a borrower left settings behind */
  MB_CLOSED_POOL,    /* its pool was closed */
  MB_CLOSED_FORK,
  MB_CLOSE_REASON_COUNT
} mb_close_reason;

/* "dead" for MB_CLOSED_DEAD; static. */
const char *mb_close_reason_name(mb_close_reason reason);

/* Counts; of time, nanoseconds. */
typedef struct mb_pool_stats {
  int64_t max;
  int64_t size; /* connections, with those that are being made and closed */
  int64_t open, idle, in_use, connecting;
  int64_t waiting; /* callers */
  int64_t acquired, released;
  int64_t acquire_ns; /* that callers have waited, together */
  int64_t timeouts, shed;
  int64_t created, closed, failures; /* of connecting */
  int64_t closed_by[MB_CLOSE_REASON_COUNT];
  int64_t pings;
  int64_t cache_hits, cache_misses; /* of statements */
} mb_pool_stats;
void mb_pool_stats_read(mb_pool *pool, mb_pool_stats *out);

/* What a pool tells of by itself, on whatever thread it happened. */
typedef enum mb_pool_event_kind {
  MB_POOL_CONNECTED, /* an attempt to connect has ended, well or not */
  MB_POOL_CLOSED,    /* a connection was closed */
  MB_POOL_LEAKED     /* a borrower has had one for longer than leak_after */
} mb_pool_event_kind;

#define MB_POOL_EVENT_CODE 32
#define MB_POOL_EVENT_TEXT 2048

typedef struct mb_pool_event {
  mb_pool_event_kind kind;
  mb_close_reason reason; /* of closing */
  bool failed;            /* connecting has */
  mb_class class;         /* of that error */
  bool own_thread;        /* it happened on the thread that asks */
  uint64_t missed;        /* events before it that are kept no longer */
  int64_t at_ns;          /* when it happened, by mb_now_ns */
  int64_t duration_ns;    /* of connecting; of the connection's life; since it
                             was lent */
  char code[MB_POOL_EVENT_CODE]; /* of the error; empty: none */
  char text[MB_POOL_EVENT_TEXT]; /* the error's message, or the borrower's
                                    note; cut; empty: none */
} mb_pool_event;

/* Has the pool keep its latest events from here on; each call is matched by one
 * of mb_pool_unwatch.  *seen is where to read from.  False: out of memory. */
MB_CHECKED bool mb_pool_watch(mb_pool *pool, uint64_t *seen);
void mb_pool_unwatch(mb_pool *pool);
/* Whether there are events after *seen; an atomic load. */
bool mb_pool_has_events(const mb_pool *pool, uint64_t seen);
/* Copies the first of them and moves *seen behind it; false: there is none. */
bool mb_pool_next_event(mb_pool *pool, uint64_t *seen, mb_pool_event *out);
/* Makes an event, once a borrow, of each connection that has been lent for
 * longer than leak_after; every sweep does, too. */
void mb_pool_find_leaks(mb_pool *pool);

enum mb_acquire {
  MB_ACQUIRE_WAIT = 0,
  MB_ACQUIRE_NOW = 1,    /* do not wait for other borrowers */
  MB_ACQUIRE_ALONE = 4,  /* there are none, and never will be: nor is the
                            connection to wait for others */
  MB_ACQUIRE_WRITER = 2, /* in order to write: wait for the place to write
                            first, where the database has one */
  MB_ACQUIRE_LOOK = 8 /* with MB_ACQUIRE_NOW: who gets none asks again, and is
                         not counted as one who got none in time */
};

/*
 * Borrows a connection: an idle one, a new one, or the first that comes back.
 * Errors: MB_POOL_TIMEOUT, what connecting gives, MB_USAGE when closed.
 * Give it back with mb_conn_release.
 */
MB_CHECKED mb_status mb_pool_acquire(mb_pool *pool, const mb_call *call,
    unsigned flags, mb_conn **out, mb_error *error);

/* Whether a text, or a transaction, is to be begun on a connection that was
 * acquired with MB_ACQUIRE_WRITER; a guess, which costs nothing but fairness
 * where it is wrong. */
bool mb_pool_expects_write(const mb_pool *pool, const char *sql, size_t size);
typedef struct mb_tx_options mb_tx_options;
bool mb_pool_begin_writes(const mb_pool *pool, const mb_tx_options *options);

/* --- Connections -------------------------------------------------------- */

/* Gives a borrowed connection back: ends its rows, rolls back what is open.
 * Statements of it become invalid. */
void mb_conn_release(mb_conn *conn);
/* The same for finalizers: no I/O; the work is done by the next acquire. */
void mb_conn_drop(mb_conn *conn);

/* A borrow has a number; a handle that keeps conn beyond its borrow holds a
 * reference and compares. */
void mb_conn_ref(mb_conn *conn);
void mb_conn_unref(mb_conn *conn);
static inline uint64_t mb_conn_borrow(const mb_conn *conn);
/* Whose it is, as long as that is open. */
const mb_pool *mb_conn_pool(const mb_conn *conn);
/* Whether it has the pool's place to write. */
bool mb_conn_is_writer(const mb_conn *conn);

/* Notes for people who has borrowed it (a traceback); copied, and forgotten
 * when it comes back.  A PoolTimeoutError tells that of the oldest borrower. */
void mb_conn_set_note(mb_conn *conn, const char *note);
/* How much of the time since since_ns went into connecting it. */
int64_t mb_conn_connecting_ns(const mb_conn *conn, int64_t since_ns);

/* True from the connection's making until somebody has asked: the borrower
 * then sets up what belongs to it. */
bool mb_conn_take_fresh(mb_conn *conn);
/* Setting it up has failed: the next borrower tries again. */
void mb_conn_set_fresh(mb_conn *conn);
/* What is run from here to the matching call with false does not count as a
 * change of the session by a user. */
void mb_conn_set_setup(mb_conn *conn, bool setup);

/*
 * For callers between whose steps anything may happen on the same thread, as
 * functions of a program or its finalizers.  A connection that is held is not
 * closed or cleaned, whoever gives it back: that waits for the last
 * mb_conn_let. While its values are being read, no call is let in.  Both nest.
 */
typedef struct mb_conn_guard {
  atomic_uint held;
  atomic_uint read;
  atomic_uint_fast64_t borrow; /* odd while lent */
} mb_conn_guard;               /* an mb_conn begins with it */

static inline uint64_t mb_conn_borrow(const mb_conn *conn)
{
  const mb_conn_guard *guard = (const mb_conn_guard *)conn;
  return atomic_load_explicit(&guard->borrow, memory_order_relaxed);
}

static inline void mb_conn_hold(mb_conn *conn)
{
  mb_conn_guard *guard = (mb_conn_guard *)conn;
  atomic_store_explicit(&guard->held,
      atomic_load_explicit(&guard->held, memory_order_relaxed) + 1,
      memory_order_relaxed);
}
/* What was given back under a call is cleaned now, where that has ended. */
void mb_conn_settle(mb_conn *conn);
static inline void mb_conn_let(mb_conn *conn)
{
  mb_conn_guard *guard = (mb_conn_guard *)conn;
  /* Who sees it may be another thread, which cleans the connection. */
  atomic_store_explicit(&guard->held,
      atomic_load_explicit(&guard->held, memory_order_relaxed) - 1,
      memory_order_release);
  if (mb_conn_borrow(conn) % 2 == 0)
    mb_conn_settle(conn);
}
/* Ends rows and transactions that were dropped now, and not with the next call;
 * others may wait for what they have locked.  MB_USAGE: a call is going on. */
MB_CHECKED mb_status mb_conn_end_dropped(mb_conn *conn, mb_error *error);

static inline void mb_conn_read_begin(mb_conn *conn)
{
  mb_conn_guard *guard = (mb_conn_guard *)conn;
  atomic_store_explicit(&guard->read,
      atomic_load_explicit(&guard->read, memory_order_relaxed) + 1,
      memory_order_relaxed);
}
static inline void mb_conn_read_end(mb_conn *conn)
{
  mb_conn_guard *guard = (mb_conn_guard *)conn;
  atomic_store_explicit(&guard->read,
      atomic_load_explicit(&guard->read, memory_order_relaxed) - 1,
      memory_order_relaxed);
}

const mb_capability *mb_conn_capability(const mb_conn *conn);
MB_CHECKED mb_status mb_conn_ping(
    mb_conn *conn, const mb_call *call, mb_error *error);
/* Writes name quoted for this database to out, terminated; size must be at
 * least 2 * length + 3.  Errors: MB_USAGE for a zero byte, invalid UTF-8, an
 * empty or a too long name. */
MB_CHECKED mb_status mb_conn_quote(mb_conn *conn, const char *name,
    size_t length, char *out, size_t size, mb_error *error);
mb_transaction_state mb_conn_transaction_state(mb_conn *conn);
bool mb_conn_has_open_rows(const mb_conn *conn);

/* Has what the session tells by itself (notices, notifications) handed to
 * handler, inside the calls that read it; NULL: nobody. */
void mb_conn_on_event(mb_conn *conn,
    void (*handler)(void *context, const mb_event *event), void *context);

/*
 * Non-blocking use.  On a connection that was made non-blocking an operation
 * that cannot go on answers MB_WAIT; the caller waits for what mb_conn_wait
 * says and calls mb_conn_resume, whose last answer is the operation's.  Until
 * then everything that the operation was given by pointer stays valid, but for
 * error, which each call has its own of.
 */
void mb_conn_set_blocking(mb_conn *conn, bool blocking);
/* Whether its driver knows no other way than to block. */
bool mb_conn_blocks(const mb_conn *conn);
void mb_conn_wait(const mb_conn *conn, mb_wait *out);
MB_CHECKED mb_status mb_conn_resume(
    mb_conn *conn, unsigned ready, mb_error *error);

/* --- Fibers ------------------------------------------------------------- */

/*
 * A stack of its own for calls of this library, for programs with an event
 * loop.  What would block there leaves the stack as it is instead: start and
 * resume come back, and say by false that the work has not ended.  The program
 * waits for what mb_fiber_waits_for says, and resumes; too early does no harm.
 *
 * A fiber is used by one thread at a time, and one work after the other may run
 * on it.  What is held across calls on it (locks, thread-local values) is the
 * program's to think of.  The stack has 1 MB, of which what was touched takes
 * memory.
 */
typedef struct mb_fiber mb_fiber;

MB_CHECKED mb_status mb_fiber_open(mb_fiber **out, mb_error *error);
/* Not while a work has not ended. */
void mb_fiber_close(mb_fiber *fiber);
/* Runs work(argument); true: it has ended. */
bool mb_fiber_start(
    mb_fiber *fiber, void (*work)(void *argument), void *argument);
bool mb_fiber_resume(mb_fiber *fiber);
/* Whose calls the next ones on it are: calls of one task never wait for each
 * other, since none would go on. */
void mb_fiber_set_task(mb_fiber *fiber, const void *task);
/* Nobody wants the work any more: what it waits for at the database is
 * cancelled, or, at once, cut off with its connection; what else it waits for
 * is as if its time had come.  The work goes on with that when it is resumed,
 * until it ends. */
void mb_fiber_stop(mb_fiber *fiber, bool at_once);
/* What it waits for: fd (-1: none) and events, and when to come back whatever
 * happens. */
void mb_fiber_waits_for(const mb_fiber *fiber, mb_wait *out);
/* It has become ready: whoever knows spares the fiber a look of its own. */
void mb_fiber_tell(mb_fiber *fiber);
/* Whether the caller is on a fiber. */
bool mb_fiber_is_inside(void);

/* --- Transactions ------------------------------------------------------- */

/* A transaction or savepoint; a plain value that may be copied and outlive what
 * it names, but not the connection (see mb_conn_ref).  Its members are the
 * library's. */
typedef struct mb_tx {
  mb_conn *conn;
  uint64_t borrow;
  uint32_t depth;
  uint32_t serial;
} mb_tx;

struct mb_tx_options {
  mb_begin begin;
  bool exclusive;     /* one at a time of those of the pool that ask for it */
  int64_t timeout_ns; /* of the whole; 0: none */
};

/* Begins inside parent, or NULL: the outermost.  options NULL: defaults; on a
 * savepoint only timeout_ns may be set. */
MB_CHECKED mb_status mb_tx_begin(mb_conn *conn, const mb_tx *parent,
    const mb_tx_options *options, mb_tx *out, mb_error *error);
/* Ends the transaction and those inside it.  A failed commit has rolled back,
 * or has lost the connection; error says which, and whether the outcome is
 * unknown. */
MB_CHECKED mb_status mb_tx_commit(const mb_tx *tx, mb_error *error);
/* A rollback that fails leaves the connection to be dropped. */
MB_CHECKED mb_status mb_tx_rollback(const mb_tx *tx, mb_error *error);
/*
 * On a fiber: waits for the turn of tx (NULL: of who has no transaction) on its
 * connection, until no transaction that another task has begun is open inside
 * it.  Else, and where it is the caller's own, does nothing: what follows will
 * say so.  Errors: MB_POOL_TIMEOUT after the pool's acquire_timeout.
 */
MB_CHECKED mb_status mb_conn_await_turn(
    mb_conn *conn, const mb_tx *tx, mb_error *error);

/* Leaves it to be rolled back before anything else is run; no I/O. */
void mb_tx_drop(const mb_tx *tx);
bool mb_tx_is_open(const mb_tx *tx);
/* The innermost open transaction of a connection; depth 0: none. */
void mb_tx_innermost(mb_conn *conn, mb_tx *out);

/* --- Statements --------------------------------------------------------- */

enum mb_statement_flags {
  MB_STATEMENT_PLAIN = 1 /* the text has no placeholders of Moonbase's */
};

/* The style of a statement's placeholders. */
typedef enum mb_style {
  MB_STYLE_NONE,
  MB_STYLE_QUESTION, /* ? */
  MB_STYLE_NUMBER,   /* $1 */
  MB_STYLE_NAME      /* :name */
} mb_style;

/*
 * The statement for a text: from the connection's cache, or new and then kept
 * there.  No I/O.  It is borrowed until its run has ended.  Errors: MB_USAGE
 * (a zero byte in the text, two styles of placeholders …).
 */
MB_CHECKED mb_status mb_conn_statement(mb_conn *conn, const char *sql,
    size_t size, unsigned flags, mb_stmt **out, mb_error *error);
/* Keeps a statement, so that it is the caller's until mb_stmt_close. */
void mb_stmt_keep(mb_stmt *stmt);
/* Ends a keeping.  Its run goes on. */
void mb_stmt_close(mb_stmt *stmt);
/* Asks the database at once, so that a wrong text is found. */
MB_CHECKED mb_status mb_stmt_prepare(
    mb_stmt *stmt, const mb_tx *tx, const mb_call *call, mb_error *error);

mb_style mb_stmt_style(const mb_stmt *stmt);
size_t mb_stmt_n_parameters(const mb_stmt *stmt);
/* The name of parameter index (from 0); NULL for other styles. */
const char *mb_stmt_parameter(const mb_stmt *stmt, size_t index, size_t *size);
/* The name nearest to a misspelt one; *name is NULL when none is near. */
void mb_suggest_parameter(const mb_stmt *stmt, const char *word, size_t size,
    const char **name, size_t *name_size);
const char *mb_stmt_text(const mb_stmt *stmt, size_t *size);
bool mb_stmt_is_running(const mb_stmt *stmt);

/*
 * Runs a statement inside tx (NULL: directly on the connection).  MB_ROW: rows
 * follow; MB_DONE: it has ended and mb_stmt_result has the totals.  params are
 * borrowed until the run has ended.  When the statement is running already,
 * *stmt is replaced by another one of the same text.
 */
MB_CHECKED mb_status mb_stmt_run(mb_stmt **stmt, const mb_tx *tx,
    const mb_value *params, size_t n, const mb_call *call, mb_error *error);
/* Runs it once for each of rows groups of n parameters, one after the other.
 * error->row counts from first. */
MB_CHECKED mb_status mb_stmt_run_many(mb_stmt **stmt, const mb_tx *tx,
    const mb_value *params, size_t n, size_t rows, int64_t first,
    const mb_call *call, mb_error *error);
/* MB_ROW: *row has as many values as there are columns, valid until the next
 * call.  MB_DONE and MB_ERROR end the run. */
MB_CHECKED mb_status mb_stmt_fetch(
    mb_stmt *stmt, const mb_value **row, mb_error *error);
/* Ends a run early, without changing what the statement did. */
MB_CHECKED mb_status mb_stmt_finish(mb_stmt *stmt, mb_error *error);
/* Leaves a run to be ended before anything else is run; no I/O. */
void mb_stmt_drop(mb_stmt *stmt);
/* The next result of a CALL, answered as mb_stmt_run. */
MB_CHECKED mb_status mb_stmt_next_result(mb_stmt *stmt, mb_error *error);
/* Columns and totals of the last run. */
const mb_result *mb_stmt_result(const mb_stmt *stmt);
/* A number that changes whenever the columns of the statement do; never the
 * same for two statements of the process. */
uint64_t mb_stmt_shape(const mb_stmt *stmt);
/* A number of the run; 0 when none is going on. */
uint64_t mb_stmt_run_number(const mb_stmt *stmt);

/*
 * A run as somebody holds it who may outlive it (an iterator): once the
 * connection was given back, or the transaction has ended, its rows are gone
 * and the cursor knows.  Its members are the library's; shape and n_columns may
 * be read.
 */
typedef struct mb_cursor {
  mb_conn *conn; /* a reference; NULL: closed */
  mb_stmt *stmt; /* kept */
  uint64_t borrow;
  uint64_t run;
  uint64_t shape;
  size_t n_columns;
} mb_cursor;

/* Holds the run that is going on. */
void mb_cursor_open(mb_cursor *cursor, mb_stmt *stmt);
/* As mb_stmt_fetch.  MB_USAGE: the rows are gone. */
MB_CHECKED mb_status mb_cursor_fetch(
    mb_cursor *cursor, const mb_value **row, mb_error *error);
/* Whether a fetch would need no database. */
bool mb_cursor_is_ready(const mb_cursor *cursor);
/* The same on a connection that blocks; where the row is not in memory, as many
 * as come within the limits are read there. */
MB_CHECKED mb_status mb_cursor_fetch_ahead(mb_cursor *cursor, size_t rows,
    size_t bytes, int64_t limit_ns, const mb_value **row, mb_error *error);
/* As mb_stmt_next_result; shape and n_columns are those of the result. */
MB_CHECKED mb_status mb_cursor_next_result(mb_cursor *cursor, mb_error *error);
/* Lets go, and leaves the run, if it still goes on, to be ended before anything
 * else is run.  No I/O; a closed cursor may be closed. */
void mb_cursor_close(mb_cursor *cursor);
/* Ends the run at once, then as mb_cursor_close. */
MB_CHECKED mb_status mb_cursor_finish(mb_cursor *cursor, mb_error *error);

/* Reads up to rows or bytes (whatever comes first) of the run into memory, from
 * where mb_stmt_fetch goes on to give them.  MB_DONE: the rest is there and the
 * run has ended for the database; MB_ROW: more is left. */
MB_CHECKED mb_status mb_stmt_prefetch(
    mb_stmt *stmt, size_t rows, size_t bytes, mb_error *error);
/* After MB_DONE of mb_stmt_prefetch: takes the rows out, so that the connection
 * can be given back.  The caller frees them with mb_spool_free. */
mb_spool *mb_stmt_take_spool(mb_stmt *stmt);
/* The next row, or NULL; valid until the next call. */
const mb_value *mb_spool_next(mb_spool *spool);
size_t mb_spool_n_columns(const mb_spool *spool);
void mb_spool_free(mb_spool *spool);

/* --- Batches ------------------------------------------------------------ */

/*
 * Runs of one connection that are on their way together: some are added, then
 * sent, then their answers are taken in the same order; after the last one
 * further ones may be added.  When one fails those behind it were not run.  Any
 * other call on the connection ends the batch first.
 */

/* Whether the driver can; else statements are run one by one. */
bool mb_conn_takes_batches(const mb_conn *conn);
/*
 * Adds a run, as mb_stmt_run starts it; the parameters are done with when this
 * answers.  *full: it is time to send.  Errors: also MB_UNSUPPORTED, for a run
 * that has to go alone, which changes nothing.
 */
MB_CHECKED mb_status mb_batch_add(mb_stmt **stmt, const mb_tx *tx,
    const mb_value *params, size_t n, const mb_call *call, bool *full,
    mb_error *error);
MB_CHECKED mb_status mb_batch_send(
    mb_conn *conn, const mb_call *call, mb_error *error);
/* The next answer: MB_ROW, whose rows are read to the end by mb_stmt_fetch, or
 * MB_DONE; *stmt says whose, also when it has failed.  NULL with MB_DONE: there
 * was none left. */
MB_CHECKED mb_status mb_batch_next(
    mb_conn *conn, const mb_call *call, mb_stmt **stmt, mb_error *error);
/* Ends it; what was not answered is thrown away. */
MB_CHECKED mb_status mb_batch_end(mb_conn *conn, mb_error *error);

/* --- Scripts, commands, tools ------------------------------------------- */

/* Splits a script by the database's rules: *at is moved behind the next
 * statement, which *size bytes from *start on hold; false: no more. */
typedef struct mb_script mb_script;
MB_CHECKED mb_status mb_script_open(mb_conn *conn, const char *text,
    size_t size, mb_script **out, mb_error *error);
bool mb_script_next(
    mb_script *script, const char **start, size_t *size, size_t *line);
void mb_script_close(mb_script *script);

/* Runs a command of the driver (see its documentation).  MB_ROW: *out gives
 * rows and is closed when they end.  Errors: MB_UNSUPPORTED and its own. */
MB_CHECKED mb_status mb_conn_command(mb_conn *conn, const mb_tx *tx,
    const char *name, const mb_value *values, size_t n, const mb_call *call,
    mb_stmt **out, mb_error *error);

/* The nearest of n names to a misspelt word; NULL: none is near. */
const char *mb_suggest(
    const char *word, size_t size, const char *const *names, size_t n);

/* A placeholder of a text. */
typedef struct mb_place {
  size_t at;        /* bytes before it */
  size_t size;      /* with its sign */
  size_t parameter; /* from 0 */
} mb_place;

/* What mb_places_read found. */
typedef struct mb_places {
  mb_style style;
  size_t n_parameters;
  size_t n; /* written to out */
} mb_places;

/* No text has more placeholders than this. */
size_t mb_places_bound(const char *sql, size_t size);
/* Finds the placeholders of a text, in the order in which they stand; out has
 * room for mb_places_bound.  Errors: as mb_conn_statement. */
MB_CHECKED mb_status mb_places_read(const mb_lexical *lexical, const char *sql,
    size_t size, mb_place *out, mb_places *found, mb_error *error);

#if defined(__GNUC__) && !defined(MOONBASE_BUILTIN)
#  pragma GCC visibility pop
#endif

#endif
