/*
 * test_driver.h: a driver over a small server in memory, for tests of the core.
 *
 * Its texts are words, not SQL:
 *
 *   rows N         N rows of two columns, n (an integer) and name (a text)
 *   select N       the same; by its first word a read that leaves nothing
 *     cols C       of C columns
 *     break K      row K is an error
 *     results R    R results of that kind, one behind the other
 *   echo ? …       one row: the parameters
 *   count          one row: how many values this session sees
 *   put V          keeps the value V (or ?); its id is V
 *     returning    and gives it as a row
 *   affected N     N rows were affected
 *   session        leaves a setting behind
 *   notice WORD    tells an event
 *   begin, commit, rollback, savepoint X, release savepoint X,
 *   rollback to savepoint X
 *
 * A ! anywhere is a syntax error, a ; ends the statement.
 *
 * Every call may answer MB_WAIT, be deferred to the next request, fail, or
 * stall, as td and the functions below say.  From the other side of the table
 * the driver checks that the core keeps its promises; each one broken is
 * reported on stderr and counted (td_breaches).
 */
#ifndef MB_SPEC_TEST_DRIVER_H
#define MB_SPEC_TEST_DRIVER_H

#include "../../src/moonbase.h"

/* The functions of the table that are counted, and may fail or stall. */
typedef enum td_slot {
  TD_CONNECT,
  TD_CLOSE,
  TD_ABANDON,
  TD_IS_VALID,
  TD_CONSUME,
  TD_PING,
  TD_RESET,
  TD_RESUME,
  TD_PREPARE,
  TD_DESCRIBE,
  TD_EXECUTE,
  TD_EXECUTE_MANY,
  TD_FETCH,
  TD_NEXT_RESULT,
  TD_FINISH,
  TD_CLOSE_STATEMENT,
  TD_EXEC_TEXT,
  TD_BEGIN,
  TD_COMMIT,
  TD_ROLLBACK,
  TD_SAVEPOINT,
  TD_RELEASE,
  TD_ROLLBACK_TO,
  TD_COMMAND,
  TD_PIPELINE_BEGIN,
  TD_PIPELINE_SYNC,
  TD_PIPELINE_NEXT,
  TD_PIPELINE_END,
  TD_QUOTE,
  TD_CANCEL_QUERY,
  TD_CANCEL_SOCKET,
  TD_SLOTS
} td_slot;

/* What ends a wait. */
typedef enum td_wake {
  TD_BY_DATA,    /* the socket is readable at once */
  TD_BY_THREAD,  /* it becomes so a little later */
  TD_BY_DEADLINE /* the driver's own deadline comes */
} td_wake;

/* How long a call stalls. */
typedef enum td_until {
  TD_UNTIL_NOTHING, /* it does not */
  TD_UNTIL_ASKED,   /* the database is asked to stop it */
  TD_UNTIL_SHUT,    /* the socket is shut down */
  TD_UNTIL_END      /* for ever */
} td_until;

/* What the driver and its server do; a test sets it before the calls. */
typedef struct td_settings {
  int waits; /* of each call that may wait */
  td_wake wake;
  bool blocks; /* it never answers MB_WAIT, and looks at its bounds itself */
  bool deaf;   /* it never answers MB_WAIT, and looks at nothing: what ends a
                  call that stalls is cancel.  A connect that stalls lasts until
                  nobody waits for it, or until td_unhang */
  bool idle;   /* a call that stalls says that nothing runs */
  bool asks;   /* a finish that may cancel wants what runs to be asked to stop,
                  and lasts until that has come, unless it waits anyway */
  bool changes_fd; /* with each wait of a connect */
  bool writes;     /* a connect waits to write */
  bool noisy;      /* the socket of a call that stalls is always readable */
  /* These travel with the next request. */
  bool defers_prepare, defers_begin, defers_reset, defers_close;
  bool one_run;           /* nothing runs beside open rows */
  bool rows_block_writes; /* as in mb_capability */
  bool aborts;            /* an error makes an open transaction fail */
  bool tells_nothing;     /* prepare knows no number of parameters */
  unsigned reset_loses;   /* of mb_reset_lost */
  int cancel_ms;          /* how long asking the database takes */
  bool cancel_hangs;      /* until td_unhang */
  bool connect_hangs;     /* the same, of a connect of one that is deaf */
  mb_validity validity;   /* of sessions that have not died; MB_READABLE: until
                             consume has been called */
  unsigned statement_cache;
  uint32_t capability_size; /* 0: all of it */
  int max_connections;
  const char *const *lookups; /* of connectors */
  size_t n_lookups;
  const char *password; /* the only one that connects; NULL: any, or none */
  mb_pool *pool;        /* its lock is tried in each call; or NULL */
} td_settings;

extern td_settings td;

/* How a session was cut off. */
typedef enum td_cut {
  TD_WHOLE,
  TD_VANISHED, /* the next request finds out */
  TD_CLOSED    /* and whoever looks at the socket */
} td_cut;

/* One call that fails. */
typedef struct td_fault {
  td_slot slot;
  long nth; /* of that slot's calls, from 1 */
  mb_class class;
  unsigned flags; /* MB_CONNECTION_DEAD: the session dies */
  bool after;     /* the call has done its work all the same */
  bool ends_transaction;
  bool fails_transaction; /* before the call, without a word */
  td_until stall;
  bool ends_well; /* what ends the stall lets the call do its work */
} td_fault;

/* The settings anew, an empty server, all counters 0.  Nothing may be open. */
void td_reset(void);
/* The driver.  It has no reset, execute_many, pipelines and quote_identifier;
 * the second one has, and is copied by tests that take slots away. */
const mb_driver *td_driver(void);
const mb_driver *td_full_driver(void);

/* The nth call of a slot, counted from now, fails. */
void td_fail(td_slot slot, long nth, mb_class class, unsigned flags);
void td_fault_add(td_fault fault);
/* The nth call from now stalls. */
void td_stall(td_slot slot, long nth, td_until until);
/* Cuts off the session behind a connection, whoever has it. */
void td_cut_off(mb_conn *conn, td_cut cut);
/* Has strings of a session know backslashes, from now on. */
void td_set_backslashes(mb_conn *conn, bool known);
/* Nothing fails or stalls any more. */
void td_forgive(void);
/* Lets the requests to cancel go on that hang, and connects. */
void td_unhang(void);

/* How often a slot was called since td_reset, by all sessions. */
long td_calls(td_slot slot);
/* Requests that went to the server. */
long td_trips(void);
/* Promises that the core has broken since td_reset. */
long td_breaches(void);
/* Sessions, statements, connectors and handles that are open. */
long td_open_sessions(void);
long td_open_statements(void);
long td_open_objects(void);
/* The greatest number of sessions that were open at once. */
long td_most_sessions(void);
/* The addresses that the last connect was given, as "0=127.0.0.1 2=::1"; valid
 * until the next. */
const char *td_addresses(void);
/* Values that are kept for good, and whether one of them is. */
long td_stored(void);
bool td_is_stored(int64_t value);

/* Waits as a scheduler would for what a non-blocking operation wants, and goes
 * on with it to its end.  *error is replaced for each step, so that nobody can
 * write to an earlier one. */
mb_status td_drive(mb_conn *conn, mb_status status, mb_error **error);

/* An error whose bytes are garbage; freed with free. */
mb_error *td_new_error(void);

#endif
