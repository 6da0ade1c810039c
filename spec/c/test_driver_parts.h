/* test_driver_parts.h: what the files of the test driver share. */
#ifndef MB_SPEC_TEST_DRIVER_PARTS_H
#define MB_SPEC_TEST_DRIVER_PARTS_H

#include "test_driver.h"

#include <pthread.h>
#include <sys/types.h>

#define TD_PARAMETERS 16
#define TD_COLUMNS 8

/* --- test_driver_text.c ------------------------------------------------- */

typedef enum td_verb {
  TD_NOTHING,
  TD_ROWS,
  TD_ECHO,
  TD_COUNT,
  TD_PUT,
  TD_AFFECTED,
  TD_SESSION,
  TD_NOTICE,
  TD_SQL_BEGIN,
  TD_SQL_COMMIT,
  TD_SQL_ROLLBACK,
  TD_SQL_SAVEPOINT,
  TD_SQL_RELEASE,
  TD_SQL_ROLLBACK_TO,
  TD_UNKNOWN
} td_verb;

/* A text that was read. */
typedef struct td_program {
  td_verb verb;
  int64_t n; /* the number behind the verb */
  int64_t columns, breaks, results;
  bool returning;
  char name[32]; /* the word behind the verb */
  size_t n_parameters;
  size_t wrong_at; /* of the error, from 1; 0: none */
  size_t consumed;
  bool empty;
} td_program;

td_program td_read(const char *text, size_t size);
bool td_only_reads(const td_program *program);
bool td_gives_rows(const td_program *program);

/* --- test_driver_server.c ----------------------------------------------- */

typedef struct td_savepoint {
  char name[32];
  size_t n; /* values that were pending */
} td_savepoint;

/* What the server knows of a session. */
typedef struct td_session {
  bool active, failed;
  int64_t pending[256];
  size_t n_pending;
  td_savepoint savepoints[64];
  size_t n_savepoints;
} td_session;

void td_breach(const char *format, ...) MB_PRINTF(1, 2);
/* Counts a call; the fault that it meets, or one of class 0 without flags. */
td_fault td_count(td_slot slot);
void td_count_trip(void);
void td_count_session(int change);
void td_count_statement(int change);
void td_count_object(int change);
/* Blocks while one of td's switches says so. */
void td_hang(const bool *hangs);
void td_note_addresses(const mb_connect_args *args);

int64_t td_visible(const td_session *session);
void td_put(td_session *session, int64_t value);
void td_server_begin(td_session *session);
void td_server_commit(td_session *session);
void td_server_rollback(td_session *session);
void td_server_savepoint(td_session *session, const char *name);
/* False: there is none of this name. */
bool td_server_release(td_session *session, const char *name);
bool td_server_rollback_to(td_session *session, const char *name);

/* --- test_driver_session.c ---------------------------------------------- */

typedef mb_status td_end(mb_driver_conn *conn, mb_error *error);

/* A request that travels with the next one, and what it will meet. */
typedef struct td_queued {
  mb_origin origin;
  td_fault fault;
  size_t position;
  mb_driver_stmt *stmt; /* of a prepare; NULL: closed by now */
} td_queued;

/* The call that is going on, and what was given to it. */
typedef struct td_flight {
  bool on; /* it has answered MB_WAIT */
  bool sends;
  td_fault fault;
  int waits;
  td_end *end;
  mb_op *op;
  mb_driver_stmt *stmt;
  mb_driver_stmt **stmt_out;
  mb_prepared *prepared;
  mb_result *result;
  mb_value *row;
  const mb_value *params;
  size_t n, rows;
  unsigned *lost;
  td_program program;
} td_flight;

/* A run that was queued. */
typedef struct td_run {
  mb_driver_stmt *stmt; /* NULL: closed by now */
  td_fault fault;
  mb_value params[TD_PARAMETERS]; /* with bytes of their own */
  size_t n;
} td_run;

typedef struct td_pipeline {
  bool open;
  bool failed; /* a run of those up to the sync */
  td_run *runs;
  size_t n, room;
  size_t n_synced; /* of these */
  size_t next;     /* whose answer comes */
} td_pipeline;

struct mb_driver_cancel {
  const mb_host *host;
  atomic_int refs;
  atomic_int out;       /* requests under way */
  pthread_mutex_t lock; /* guards the rest */
  int fd;               /* -1: closed */
  int server_fd;
  bool in_flight; /* a call waits */
  bool asked;     /* it was asked to stop */
  bool shut;
};

struct mb_driver_conn {
  unsigned magic;
  const mb_host *host;
  pid_t pid;
  atomic_bool inside; /* a function is running */
  void *owner;
  mb_driver_cancel *cancel;
  uint32_t fd_serial;
  mb_capability capability;
  td_session session;
  td_flight flight;
  td_queued queue[64];
  size_t n_queued;
  mb_driver_stmt *statements;
  td_pipeline pipeline;
  bool dead, changed, consumed;
  td_cut cut;
};

struct mb_driver_stmt {
  unsigned magic;
  mb_driver_conn *conn;
  mb_driver_stmt *next, *prev;
  td_program program;
  bool lost; /* the server does not know it */
  mb_column *columns;
  size_t n_columns;
  char (*names)[8];
  char *text; /* of the row */

  bool running;
  const mb_value *params;
  size_t n_params;
  uint64_t hash; /* of the parameters as they were */
  mb_result *result;
  uint32_t serial;
  int64_t row, result_number;
};

/* The beginning of every function: checks, counts, gives what it will meet. */
td_fault td_enter(mb_driver_conn *conn, td_slot slot, bool sends);
/* Its end; the answer again. */
mb_status td_leave(mb_driver_conn *conn, mb_status status);
/* The end of a function that may wait: conn->flight has its arguments. */
mb_status td_start(mb_driver_conn *conn, td_fault fault, bool sends,
    td_end *end, mb_op *op, mb_error *error);
bool td_fails(const td_fault *fault);
mb_status td_raise(
    mb_driver_conn *conn, const td_fault *fault, mb_error *error);
void td_queue(mb_driver_conn *conn, mb_origin origin, td_fault fault,
    size_t position, mb_driver_stmt *stmt);
/* Forgets a queued begin; false: there is none. */
bool td_unqueue_begin(mb_driver_conn *conn);
mb_status td_out_of_memory(const mb_host *host, mb_error *error);

mb_status td_connect(mb_driver_connector *connector,
    const mb_connect_args *args, mb_driver_conn **out, mb_op *op,
    mb_error *error);
void td_close(mb_driver_conn *conn, int64_t deadline_ns);
void td_abandon(mb_driver_conn *conn);
mb_validity td_is_valid(mb_driver_conn *conn);
mb_status td_consume(mb_driver_conn *conn, mb_error *error);
mb_status td_ping(mb_driver_conn *conn, mb_op *op, mb_error *error);
mb_status td_reset_session(mb_driver_conn *conn, mb_reset_mode mode,
    unsigned *lost, mb_op *op, mb_error *error);
const mb_capability *td_capability(mb_driver_conn *conn);
mb_transaction_state td_transaction_state(mb_driver_conn *conn);
mb_status td_resume(
    mb_driver_conn *conn, unsigned ready, mb_op *op, mb_error *error);
mb_status td_quote_identifier(mb_driver_conn *conn, const char *name,
    size_t size, char *out, size_t *written, mb_error *error);
mb_driver_cancel *td_cancel_handle(mb_driver_conn *conn);
mb_status td_cancel(mb_driver_cancel *handle, enum mb_cancel_level level,
    int64_t deadline_ns, mb_error *error);
void td_release_cancel(mb_driver_cancel *handle);
void td_thread_enter(void);
void td_thread_leave(void);

/* --- test_driver_run.c -------------------------------------------------- */

/* The server does what a text says. */
mb_status td_perform(mb_driver_conn *conn, const td_program *program,
    const mb_value *params, mb_result *result, mb_error *error);
void td_free_statement(mb_driver_stmt *stmt);
/* Runs a statement, as execute and pipeline_next answer it. */
mb_status td_run_statement(mb_driver_stmt *stmt, const mb_value *params,
    size_t n, mb_result *result, mb_error *error);
/* Checks that what was given to a run is still what it was. */
void td_check_borrowed(const mb_driver_stmt *stmt);

mb_status td_prepare(mb_driver_conn *conn, const char *sql, size_t size,
    mb_driver_stmt **out, mb_prepared *prepared, mb_op *op, mb_error *error);
mb_status td_describe(mb_driver_stmt *stmt, mb_prepared *prepared,
    mb_result *result, mb_op *op, mb_error *error);
mb_status td_execute(mb_driver_stmt *stmt, const mb_value *params, size_t n,
    const mb_execute_options *options, mb_result *result, mb_op *op,
    mb_error *error);
mb_status td_execute_many(mb_driver_stmt *stmt, const mb_value *params,
    size_t n, size_t rows, mb_result *result, mb_op *op, mb_error *error);
mb_status td_fetch(
    mb_driver_stmt *stmt, mb_value *row, mb_op *op, mb_error *error);
mb_status td_next_result(
    mb_driver_stmt *stmt, mb_result *result, mb_op *op, mb_error *error);
mb_status td_finish(
    mb_driver_stmt *stmt, mb_finish_mode mode, mb_op *op, mb_error *error);
void td_close_statement(mb_driver_stmt *stmt);
mb_status td_exec_text(mb_driver_conn *conn, const char *sql, size_t size,
    mb_result *result, mb_op *op, mb_error *error);
mb_status td_command(mb_driver_conn *conn, const char *name,
    const mb_value *values, size_t n, mb_driver_stmt **out, mb_result *result,
    mb_op *op, mb_error *error);

/* --- test_driver_pipeline.c ---------------------------------------------- */

mb_status td_pipeline_begin(mb_driver_conn *conn, mb_error *error);
mb_status td_pipeline_sync(mb_driver_conn *conn, mb_op *op, mb_error *error);
mb_status td_pipeline_next(mb_driver_conn *conn, mb_driver_stmt **stmt,
    mb_result *result, mb_op *op, mb_error *error);
mb_status td_pipeline_end(mb_driver_conn *conn, mb_op *op, mb_error *error);
/* Queues a run, which may meet a fault. */
mb_status td_pipeline_add(mb_driver_stmt *stmt, const mb_value *params,
    size_t n, td_fault fault, mb_error *error);
/* The statement is closed. */
void td_pipeline_forget(mb_driver_stmt *stmt);
void td_pipeline_free(mb_driver_conn *conn);

#endif
