/*
 * fault.h: what the files of the fault driver share.
 *
 * Every function of the table is a call (ft_call) that is handed on to the
 * driver inside by a function of its own, unless the rules of the connector
 * want something else of it: to wait before, to fail, to lose the connection.
 * Its types are those of driver.h, completed here; what the driver inside has
 * made is only ever pointed to.
 */
#ifndef MB_DRIVERS_FAULT_FAULT_H
#define MB_DRIVERS_FAULT_FAULT_H

#include "../../src/driver.h"

#include <pthread.h>

/* What a rule may want of a slot. */
enum ft_means {
  FT_DELAY = 1,
  FT_LOSE = 2,
  FT_FAIL = 4,
  FT_AFTER = 8, /* the last two also when the call has done its work */
  FT_ANSWER = 16,
  FT_ENDLESS = 32 /* a delay without an end: something else ends it */
};

#define FT_FALLIBLE (FT_DELAY | FT_LOSE | FT_FAIL | FT_AFTER)
#define FT_WAITING (FT_FALLIBLE | FT_ENDLESS)

/* The slots that rules may be for: X(slot, what they may want). */
#define FT_SLOTS(X)                           \
  X(connect, FT_WAITING)                      \
  X(close, FT_DELAY | FT_ENDLESS)             \
  X(is_valid, FT_DELAY | FT_LOSE | FT_ANSWER) \
  X(consume, FT_FALLIBLE)                     \
  X(ping, FT_WAITING)                         \
  X(reset, FT_WAITING)                        \
  X(resume, FT_LOSE)                          \
  X(prepare, FT_WAITING)                      \
  X(describe, FT_WAITING)                     \
  X(execute, FT_WAITING)                      \
  X(execute_many, FT_WAITING)                 \
  X(fetch, FT_WAITING)                        \
  X(fetch_batch, FT_WAITING)                  \
  X(next_result, FT_WAITING)                  \
  X(finish, FT_WAITING)                       \
  X(close_statement, FT_DELAY | FT_LOSE)      \
  X(exec_text, FT_WAITING)                    \
  X(query_once, FT_WAITING)                   \
  X(pipeline_begin, FT_FALLIBLE)              \
  X(pipeline_sync, FT_WAITING)                \
  X(pipeline_next, FT_WAITING)                \
  X(pipeline_end, FT_WAITING)                 \
  X(copy_in_begin, FT_WAITING)                \
  X(copy_in_put, FT_WAITING)                  \
  X(copy_in_end, FT_WAITING)                  \
  X(copy_out_begin, FT_WAITING)               \
  X(copy_out_get, FT_WAITING)                 \
  X(copy_out_end, FT_WAITING)                 \
  X(begin, FT_WAITING)                        \
  X(commit, FT_WAITING)                       \
  X(rollback, FT_WAITING)                     \
  X(savepoint, FT_WAITING)                    \
  X(release_savepoint, FT_WAITING)            \
  X(rollback_to, FT_WAITING)                  \
  X(cancel, FT_DELAY | FT_ENDLESS | FT_FAIL)  \
  X(describe_schema, FT_WAITING)              \
  X(quote_identifier, FT_FALLIBLE)            \
  X(command, FT_WAITING)

typedef enum ft_slot {
#define FT_CONSTANT(slot, means) ft_slot_##slot,
  FT_SLOTS(FT_CONSTANT)
#undef FT_CONSTANT
      FT_N_SLOTS
} ft_slot;

/* --- rule.c ------------------------------------------------------------- */

#define FT_CODE_ROOM 32
#define FT_MESSAGE_ROOM 256

/* What is wanted of one call. */
typedef struct ft_fault {
  unsigned means;   /* of ft_means; 0: nothing */
  int64_t delay_ns; /* MB_NEVER: until somebody stops it */
  mb_validity answer;
  mb_class class;
  unsigned flags; /* of mb_consequence */
  char code[FT_CODE_ROOM];
  char message[FT_MESSAGE_ROOM];
} ft_fault;

typedef struct ft_rule ft_rule;

/* The rules of a connector, which its handles to cancel need longer than it
 * lives. */
typedef struct ft_rules {
  const mb_host *host;
  const mb_driver *driver; /* the one inside; constant */
  atomic_int refs;

  /* Any thread. */
  atomic_int_fast64_t calls[FT_N_SLOTS];
  atomic_int_fast64_t last_connection; /* its number, from 1 */
  atomic_int_fast64_t lost; /* the last one of those that are lost together */
  atomic_uint cleared;      /* how often: delays that began before are over */
  atomic_int n;             /* of rules */

  pthread_mutex_t lock; /* guards everything below */
  ft_rule *first, *last;
} ft_rules;

/* NULL: out of memory. */
ft_rules *ft_rules_open(const mb_host *host, const mb_driver *driver);
void ft_rules_ref(ft_rules *rules);
void ft_rules_unref(ft_rules *rules);

/* Counts a call of a slot, and says what is wanted of it; text (or NULL): the
 * statement that it is for. */
void ft_rules_ask(ft_rules *rules, ft_slot slot, const char *text, size_t size,
    ft_fault *out);

/* The slot control. */
mb_status ft_control(mb_driver_connector *connector, const char *name,
    const mb_value *values, size_t n, mb_value *result, mb_error *error);

/* --- connector.c -------------------------------------------------------- */

struct mb_driver_connector {
  const mb_host *host;
  const mb_driver *driver;    /* the one inside */
  mb_driver_connector *inner; /* its connector */
  ft_rules *rules;            /* a reference */
  bool blocks;                /* as mb_connector_info says */
  char *url;
};

mb_status ft_open_connector(const mb_driver *driver, const mb_host *host,
    const mb_option *options, size_t n, mb_driver_connector **out,
    mb_connector_info *info, mb_error *error);
void ft_close_connector(mb_driver_connector *connector);
mb_status ft_reset_db(
    mb_driver_connector *connector, mb_op *op, mb_error *error);

/* --- call.c ------------------------------------------------------------- */

typedef struct ft_call ft_call;
typedef mb_status ft_hand_on(
    mb_driver_conn *conn, ft_call *call, mb_op *op, mb_error *error);

typedef enum ft_stage {
  FT_DELAYED,
  FT_HANDED_ON,
  FT_ENDING /* the run inside ends, before the call fails */
} ft_stage;

/* A call, with what it was given; members that it does not have are NULL. */
struct ft_call {
  ft_slot slot;
  ft_hand_on *hand_on;

  mb_driver_stmt *stmt;
  mb_driver_stmt **out;
  mb_driver_stmt *made;  /* owned; becomes *out */
  mb_driver_stmt *found; /* the driver's inside */
  const char
      *text; /* of statements, savepoints, commands; during a delay: kept */
  size_t size;
  const mb_connect_args *args;
  const mb_value *values;
  size_t n;
  size_t rows; /* of values; or those that are wanted */
  mb_execute_options options;
  mb_begin begin;
  mb_finish_mode finish_mode;
  mb_reset_mode reset_mode;
  unsigned *lost;
  mb_prepared *prepared;
  mb_result *result;
  mb_value *row;
  mb_batch *batch;
  const char *data; /* not copied: it stays */
  const char **data_out;
  char *quoted;
  size_t *size_out;

  /* call.c's own. */
  ft_stage stage;
  ft_fault fault;
  int64_t until_ns;
  unsigned cleared; /* that of the rules when the delay began */
  char *kept;       /* owned: a copy of text; NULL: none */
};

/* Runs a call to its end, or to MB_WAIT.  op NULL: the slot cannot wait. */
mb_status ft_run(
    mb_driver_conn *conn, const ft_call *call, mb_op *op, mb_error *error);
mb_status ft_resume(
    mb_driver_conn *conn, unsigned ready, mb_op *op, mb_error *error);
/* Frees what a call that will not go on owns. */
void ft_drop_call(mb_driver_conn *conn);
/* Sleeps as long as rules want it, not past deadline_ns. */
void ft_sleep(ft_rules *rules, const ft_fault *fault, int64_t deadline_ns);

/* --- connection.c ------------------------------------------------------- */

struct mb_driver_conn {
  const mb_host *host;
  const mb_driver *driver; /* the one inside */
  mb_driver_conn *inner;   /* its connection; NULL: not begun */
  mb_driver_connector *connector;
  ft_rules *rules;          /* the connector's */
  mb_driver_cancel *cancel; /* a reference */
  int64_t number;
  bool lost;
  mb_driver_stmt *stmts; /* that are open */
  ft_call call;          /* the one that may wait */
};

struct mb_driver_cancel {
  const mb_host *host;
  ft_rules *rules; /* a reference */
  atomic_int refs;
  _Atomic(mb_driver_cancel *) inner; /* NULL: not yet */
  atomic_bool delayed;               /* there is nothing to stop inside */
  atomic_int asked; /* 1 + mb_cancel_level, since the call began; or 0 */
};

/* Whether the connection was lost, by a rule for one of its calls or together
 * with others. */
bool ft_is_lost(mb_driver_conn *conn);

mb_status ft_connect(mb_driver_connector *connector,
    const mb_connect_args *args, mb_driver_conn **out, mb_op *op,
    mb_error *error);
void ft_close(mb_driver_conn *conn, int64_t deadline_ns);
void ft_abandon(mb_driver_conn *conn);
mb_validity ft_is_valid(mb_driver_conn *conn);
mb_status ft_consume(mb_driver_conn *conn, mb_error *error);
mb_status ft_ping(mb_driver_conn *conn, mb_op *op, mb_error *error);
mb_status ft_reset(mb_driver_conn *conn, mb_reset_mode mode, unsigned *lost,
    mb_op *op, mb_error *error);
const mb_capability *ft_capability(mb_driver_conn *conn);
mb_transaction_state ft_transaction_state(mb_driver_conn *conn);
mb_driver_cancel *ft_cancel_handle(mb_driver_conn *conn);
mb_status ft_cancel(mb_driver_cancel *handle, enum mb_cancel_level level,
    int64_t deadline_ns, mb_error *error);
void ft_release_cancel(mb_driver_cancel *handle);

/* --- statement.c -------------------------------------------------------- */

struct mb_driver_stmt {
  mb_driver_conn *conn;
  mb_driver_stmt *inner; /* NULL: not made yet */
  mb_driver_stmt *next, **link;
  bool reads_only;
  size_t size;
  char text[]; /* size bytes */
};

/* Takes a statement into, or out of, its connection's list. */
void ft_link_statement(mb_driver_stmt *stmt);
void ft_free_statement(mb_driver_stmt *stmt);
/* The statement around one of the driver inside; NULL: none. */
mb_driver_stmt *ft_find_statement(
    const mb_driver_conn *conn, const mb_driver_stmt *inner);

mb_status ft_prepare(mb_driver_conn *conn, const char *sql, size_t size,
    mb_driver_stmt **out, mb_prepared *prepared, mb_op *op, mb_error *error);
mb_status ft_describe(mb_driver_stmt *stmt, mb_prepared *prepared,
    mb_result *result, mb_op *op, mb_error *error);
mb_status ft_execute(mb_driver_stmt *stmt, const mb_value *params, size_t n,
    const mb_execute_options *options, mb_result *result, mb_op *op,
    mb_error *error);
mb_status ft_execute_many(mb_driver_stmt *stmt, const mb_value *params,
    size_t n, size_t rows, mb_result *result, mb_op *op, mb_error *error);
mb_status ft_fetch(
    mb_driver_stmt *stmt, mb_value *row, mb_op *op, mb_error *error);
mb_status ft_fetch_batch(mb_driver_stmt *stmt, size_t max, mb_batch *batch,
    mb_op *op, mb_error *error);
mb_status ft_next_result(
    mb_driver_stmt *stmt, mb_result *result, mb_op *op, mb_error *error);
mb_status ft_finish(
    mb_driver_stmt *stmt, mb_finish_mode mode, mb_op *op, mb_error *error);
void ft_close_statement(mb_driver_stmt *stmt);
mb_status ft_exec_text(mb_driver_conn *conn, const char *sql, size_t size,
    mb_result *result, mb_op *op, mb_error *error);
mb_status ft_query_once(mb_driver_conn *conn, const char *sql, size_t size,
    const mb_value *params, size_t n, mb_driver_stmt **out, mb_result *result,
    mb_op *op, mb_error *error);
mb_status ft_describe_schema(mb_driver_conn *conn, mb_driver_stmt **out,
    mb_result *result, mb_op *op, mb_error *error);
mb_status ft_quote_identifier(mb_driver_conn *conn, const char *name,
    size_t size, char *out, size_t *written, mb_error *error);
mb_status ft_command(mb_driver_conn *conn, const char *name,
    const mb_value *values, size_t n, mb_driver_stmt **out, mb_result *result,
    mb_op *op, mb_error *error);

/* --- batch.c ------------------------------------------------------------ */

mb_status ft_pipeline_begin(mb_driver_conn *conn, mb_error *error);
mb_status ft_pipeline_sync(mb_driver_conn *conn, mb_op *op, mb_error *error);
mb_status ft_pipeline_next(mb_driver_conn *conn, mb_driver_stmt **stmt,
    mb_result *result, mb_op *op, mb_error *error);
mb_status ft_pipeline_end(mb_driver_conn *conn, mb_op *op, mb_error *error);
mb_status ft_copy_in_begin(mb_driver_conn *conn, const char *sql, size_t size,
    mb_op *op, mb_error *error);
mb_status ft_copy_in_put(mb_driver_conn *conn, const char *data, size_t size,
    mb_op *op, mb_error *error);
mb_status ft_copy_in_end(mb_driver_conn *conn, const char *abort,
    mb_result *result, mb_op *op, mb_error *error);
mb_status ft_copy_out_begin(mb_driver_conn *conn, const char *sql, size_t size,
    mb_op *op, mb_error *error);
mb_status ft_copy_out_get(mb_driver_conn *conn, const char **data, size_t *size,
    mb_op *op, mb_error *error);
mb_status ft_copy_out_end(
    mb_driver_conn *conn, mb_result *result, mb_op *op, mb_error *error);

/* --- transaction.c ------------------------------------------------------ */

mb_status ft_begin(
    mb_driver_conn *conn, const mb_begin *options, mb_op *op, mb_error *error);
mb_status ft_commit(mb_driver_conn *conn, mb_op *op, mb_error *error);
mb_status ft_rollback(mb_driver_conn *conn, mb_op *op, mb_error *error);
mb_status ft_savepoint(
    mb_driver_conn *conn, const char *name, mb_op *op, mb_error *error);
mb_status ft_release_savepoint(
    mb_driver_conn *conn, const char *name, mb_op *op, mb_error *error);
mb_status ft_rollback_to(
    mb_driver_conn *conn, const char *name, mb_op *op, mb_error *error);

#endif
