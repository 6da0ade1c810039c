/*
 * postgres.h: what the files of the PostgreSQL driver share.
 *
 * libpq never blocks here but while it looks up names: every request is put
 * into its buffers, and what cannot be sent or read at once is waited for by
 * the core (request.c).  A request is a list of parts that travel together:
 * what was left to be done before (closing statements, resetting the session,
 * BEGIN), and what was asked for.
 */
#ifndef MB_DRIVERS_POSTGRES_H
#define MB_DRIVERS_POSTGRES_H

#include "../../src/driver.h"
#include "arena.h"
#include "value.h"

#include <libpq-fe.h>

/* --- Connectors --------------------------------------------------------- */

/* One of the places that are tried in order.  No text is NULL. */
typedef struct pg_place {
  const char *name;    /* a name, an address, a socket's folder; "": default */
  const char *address; /* numeric; "": the name says where */
  const char *port;    /* "": default */
  size_t lookup;       /* its number among the connector's lookups */
} pg_place;

struct mb_driver_connector {
  const mb_host *host;
  pg_arena texts;        /* copies of all texts below */
  const char **keywords; /* for libpq, of n + 1, without those of the places */
  const char **values;
  size_t n;
  pg_place *places;
  size_t n_places;
  const char **lookups; /* one for each place; NULL: nothing to look up */
  size_t n_lookups;
  const char *password; /* NULL: none, or libpq knows one */
  const char *time_zone;
  const char *url; /* for people */
  bool verifies;   /* TLS is verified by default, not by the user's wish */
  bool unprepared; /* statements are not kept on the server */
  /* A server was met that had not prepared what this driver prepared there: it
   * is behind a pooler that shares its sessions.  Set by any thread. */
  atomic_bool shares_sessions;
};

/* --- Connections -------------------------------------------------------- */

/* What is sent together, in the order in which it is answered. */
typedef enum pg_part {
  PG_PART_CLOSE,    /* of a statement of before */
  PG_PART_RESET,    /* of the session, by what was to be done before */
  PG_PART_BEGIN,    /* that was not sent yet */
  PG_PART_PREPARE,  /* by a name */
  PG_PART_DESCRIBE, /* what was prepared */
  PG_PART_DECLARE,  /* a cursor */
  PG_PART_RUN,      /* whose rows and totals are wanted */
  PG_PART_SYNC      /* the end of what fails together */
} pg_part;

/* A part that was sent, and whose it is; NULL: of nobody any more, or a text's.
 */
typedef struct pg_sent {
  pg_part part;
  mb_driver_stmt *stmt;
} pg_sent;

#define PG_CLOSES_MAX 16 /* statements that are closed with one request */

/* Goes on with a call that waited. */
typedef mb_status pg_step(mb_driver_conn *conn, mb_op *op, mb_error *error);

/* The request in flight. */
typedef struct pg_request {
  size_t n_parts, at; /* of the connection's parts */
  bool pipelined;
  bool sent;     /* bytes may have reached the server */
  bool discard;  /* nobody wants the rows */
  bool whole;    /* rows come in one piece */
  bool undone;   /* COMMIT was answered by ROLLBACK */
  bool broken;   /* a row could not be given */
  bool may_ask;  /* to be cancelled, when much is left */
  bool stopped;  /* its rows are thrown away, since it was told to stop */
  bool many;     /* its run is one of those of execute_many */
  bool stepwise; /* each run is answered by itself: between pipeline_begin and
                    pipeline_end */
  size_t repeat; /* runs that are still to be answered */
  /* Sends more, when libpq's buffer is empty; NULL: all was sent. */
  mb_status (*feed)(mb_driver_conn *conn, mb_error *error);
  PGresult *failure; /* the first one; NULL: none so far */
  pg_part failed_part;
  mb_driver_stmt *stmt; /* whose; NULL: of a text */
  const char *text;     /* that was sent, for positions in it */
  size_t skipped;       /* characters that were put before it */
  mb_result *result;    /* gets the totals; NULL: nobody asks */
  mb_value *row;        /* where the next row goes; NULL: not asked for yet */
  pg_step *then;        /* when all has gone well; NULL: it is the end */
  size_t rows;          /* that were read */
  size_t unread; /* the column, from 1, of a broken row that is no value of its
                    type; 0: there was no memory */
} pg_request;

/* How far a COPY has gone. */
typedef enum pg_copying { PG_COPY_NONE, PG_COPY_IN, PG_COPY_OUT } pg_copying;

/* Rows on their way into a COPY. */
typedef struct pg_load {
  char *bytes; /* owned */
  size_t used, room;
} pg_load;

/* A prepared statement to be closed. */
typedef struct pg_name {
  struct pg_name *next;
  char text[40];
} pg_name;

struct mb_driver_conn {
  const mb_host *host;
  mb_driver_connector *connector;
  void *owner; /* for events */
  PGconn *pq;
  mb_driver_cancel *cancel;
  mb_capability capability;
  char server_version[32];
  bool connected;
  bool dead;

  /* While connecting. */
  struct {
    pg_place *places; /* those still to be tried */
    size_t n_places;
    size_t at;              /* the one that is being tried */
    int64_t share_end_ns;   /* when its share of the time is over */
    uint64_t socket_number; /* of the file behind the socket; 0: none */
    const char *password;
    bool in_tls; /* it is TLS that is being agreed on */
    pg_arena texts;
  } opening;

  /* The call that waits. */
  pg_step *step;
  uint32_t fd_serial;
  pg_request request;
  pg_sent *parts;
  size_t parts_room;
  pg_arena sending;

  /* What travels with the next request. */
  pg_name *closing;
  bool resets;         /* the session is to be made as new */
  bool sets;           /* what it needs is to be set */
  char begin[96];      /* BEGIN with its options; empty: none */
  bool in_transaction; /* before the request, or by it */

  char prefix[24]; /* of the names of its statements */
  unsigned last_name;
  unsigned names_epoch; /* moves when the session forgets all names */
  bool backslashes;     /* standard_conforming_strings is off */

  mb_result ended; /* what COMMIT has answered */

  pg_copying copying;
  struct {
    char *sql;
    pg_copying wanted;
    pg_step *after;   /* what goes on behind a COPY that was not wanted */
    const char *data; /* to be put */
    size_t left;
    const char *reason; /* to end it badly; NULL: it ends well */
    char *piece;        /* libpq's */
    const char **out;
    size_t *out_size;
    const char *no_data;
    pg_step *then;
  } copy;
  mb_driver_stmt *streaming; /* whose rows are coming */
  mb_driver_stmt *ran;       /* in a pipeline, the one that was answered last */
  mb_driver_stmt *current;   /* whose call goes on in several requests */
  mb_driver_stmt **next_out; /* of pipeline_next */
  /* Answers of a pipeline that were read before anybody asked for them, as
   * libpq gave them. */
  struct {
    PGresult **results; /* owned, from next on */
    size_t n, next, room;
    size_t part; /* whose answer is read next */
  } ahead;
  unsigned last_cursor;

  pg_load load;

  /* Of execute_many. */
  struct {
    mb_driver_stmt *stmt;
    const mb_value *params;
    size_t n, rows;
    size_t sent, done;
    mb_result *result;
    bool refused; /* a row could not be sent, for this: */
    mb_error refusal;
  } many;

  /* Notifications, kept for the command that takes them. */
  struct {
    int64_t deadline_ns; /* of who waits for one */
    size_t n;
    PGnotify *first, *last;
  } heard;

  /* What the server said when it ended the session. */
  struct {
    char code[6];
    char message[256];
  } farewell;
};

/* --- Statements --------------------------------------------------------- */

typedef enum pg_source {
  PG_SOURCE_SQL,
  PG_SOURCE_LOAD,     /* COPY … FROM STDIN, for execute_many */
  PG_SOURCE_COPY,     /* rows are pieces of COPY … TO STDOUT */
  PG_SOURCE_COPY_END, /* one row: how much was loaded */
  PG_SOURCE_HEARD     /* rows are notifications */
} pg_source;

struct mb_driver_stmt {
  mb_driver_conn *conn;
  pg_source source;
  char *sql; /* a copy, terminated */
  size_t size;
  char *load;          /* PG_SOURCE_LOAD: the COPY; sql is the INSERT like it */
  size_t load_bracket; /* before its columns */
  bool is_query;       /* what a cursor can be declared for */
  bool is_copy;        /* goes alone */
  bool is_huge;        /* it has more parameters than libpq lets describe */
  bool wide;           /* its rows may be large: they come one by one */
  bool was_run;

  /* On the server. */
  char name[40];         /* empty: not prepared, nor sent to be */
  bool prepared;         /* by that name */
  unsigned epoch;        /* of the session's names */
  bool described;        /* types are known */
  const pg_type **types; /* of the parameters; NULL elements: unknown ones */
  Oid *type_oids;
  size_t n_types;
  mb_prepared *description; /* the core's, while it is asked for */
  bool binary;              /* every column can be read in binary form */

  mb_column *columns;
  const pg_type **column_types;
  Oid *column_oids;
  size_t n_columns, columns_room;
  char *column_texts;
  size_t texts_room;
  uint32_t columns_serial;

  /* The run. */
  bool running;
  bool is_binary; /* its rows are */
  mb_result *result;
  const mb_value *params;
  size_t n_params;
  PGresult *rows; /* that were read; owned */
  int row_at, n_rows;
  pg_arena row_texts;
  int64_t fetch_size; /* of its cursor; 0: none */
  char cursor[24];
  bool declared;
  bool cursor_at_end;
  bool is_commit; /* what ROLLBACK is no good answer to */
  int64_t loaded; /* PG_SOURCE_COPY_END */
  bool given;
};

/* --- error.c ------------------------------------------------------------ */

mb_status pg_out_of_memory(const mb_host *host, mb_error *error);
/* Reports what a result says.  text: what was sent, for the position; or NULL;
 * skipped: characters before it. */
mb_status pg_fail_result(mb_driver_conn *conn, const PGresult *result,
    const char *text, size_t skipped, mb_error *error);
/* Reports why a row could not be given. */
mb_status pg_fail_row(mb_driver_conn *conn, mb_error *error);
/* Reports that the connection is gone. */
mb_status pg_fail_lost(mb_driver_conn *conn, mb_error *error);
/* Reports that none was made. */
mb_status pg_fail_connect(mb_driver_conn *conn, mb_error *error);
/* Whether a result says that what was prepared cannot be run any more. */
bool pg_is_stale(const PGresult *result);

/* --- connector.c, place.c ----------------------------------------------- */

extern const mb_option_spec pg_options[];
mb_status pg_open_connector(const mb_host *host, const mb_option *options,
    size_t n, mb_driver_connector **out, mb_connector_info *info,
    mb_error *error);
void pg_close_connector(mb_driver_connector *connector);

/* A copy in the connector's memory; NULL: out of memory. */
const char *pg_keep_text(
    mb_driver_connector *connector, const char *text, size_t size);
/* Makes the list of places of lists of names, addresses and ports, each with
 * commas, "" where there is none. */
mb_status pg_read_places(mb_driver_connector *connector, const char *names,
    const char *addresses, const char *ports, mb_error *error);
/* Whether a place is a socket of this machine, or this machine's own address.
 */
bool pg_is_local(const pg_place *place);
/* Whether a place is a unix socket. */
bool pg_is_socket(const pg_place *place);
/* The places of one attempt, with the addresses that were found; in texts. */
mb_status pg_resolve_places(const mb_driver_connector *connector,
    const mb_connect_args *args, pg_arena *texts, pg_place **out, size_t *n,
    mb_error *error);

/* --- connect.c, connection.c, capability.c ------------------------------ */

mb_status pg_connect(mb_driver_connector *connector,
    const mb_connect_args *args, mb_driver_conn **out, mb_op *op,
    mb_error *error);
void pg_close(mb_driver_conn *conn, int64_t deadline_ns);
void pg_abandon(mb_driver_conn *conn);
mb_validity pg_is_valid(mb_driver_conn *conn);
mb_status pg_consume(mb_driver_conn *conn, mb_error *error);
mb_status pg_ping(mb_driver_conn *conn, mb_op *op, mb_error *error);
mb_status pg_reset(mb_driver_conn *conn, mb_reset_mode mode, unsigned *lost,
    mb_op *op, mb_error *error);
mb_status pg_resume(
    mb_driver_conn *conn, unsigned ready, mb_op *op, mb_error *error);

/* Attempts to connect: called by resume until it is done. */
mb_status pg_go_on_connecting(
    mb_driver_conn *conn, unsigned ready, mb_op *op, mb_error *error);
const mb_capability *pg_capability(mb_driver_conn *conn);
void pg_fill_capability(mb_driver_conn *conn);

/* --- event.c ------------------------------------------------------------ */

/* Tells what the server says by itself; conn is the argument. */
void pg_notice(void *argument, const PGresult *result);
/* Tells of, or keeps, the notifications that have come. */
void pg_hear(mb_driver_conn *conn);
/* Follows the settings that change how texts are read. */
void pg_follow_settings(mb_driver_conn *conn);
void pg_forget_heard(mb_driver_conn *conn);
void pg_forget_heard_first(mb_driver_conn *conn);

/* --- request.c ---------------------------------------------------------- */

/* Begins a request; several: it has more than one part of its own.  What was
 * left to be done is sent before, unless alone is said. */
mb_status pg_begin_request(mb_driver_conn *conn, bool several, mb_error *error);
/* Makes sure that there is room for the parts of one call, before anything of
 * them is sent. */
mb_status pg_reserve_parts(mb_driver_conn *conn, mb_error *error);
/* Adds a part; sent is what libpq's function for sending has answered. */
mb_status pg_add_part(
    mb_driver_conn *conn, int sent, pg_part part, mb_error *error);
/* Sends it all and reads what comes; the last answer is the request's. */
mb_status pg_end_request(mb_driver_conn *conn, mb_op *op, mb_error *error);
/* Whether something was left to be done with the next request. */
bool pg_has_queue(const mb_driver_conn *conn);
/* Sends what was left to be done, alone, and goes on with then. */
mb_status pg_flush_queue(
    mb_driver_conn *conn, pg_step *then, mb_op *op, mb_error *error);
/* What libpq, or the store of what was read ahead, gives next. */
PGresult *pg_next_result(mb_driver_conn *conn);
/* Goes on reading. */
mb_status pg_read_request(mb_driver_conn *conn, mb_op *op, mb_error *error);
/* Sends what libpq holds, and says whether a result can be taken (MB_DONE),
 * must be waited for, or will never come. */
mb_status pg_pump(mb_driver_conn *conn, mb_op *op, mb_error *error);
/* Answers that the socket is waited for. */
mb_status pg_wait(
    mb_driver_conn *conn, mb_op *op, unsigned events, unsigned flags);
/* Runs a text without parameters; rows are thrown away. */
mb_status pg_run_text(mb_driver_conn *conn, const char *sql, mb_result *result,
    pg_step *then, mb_op *op, mb_error *error);
/* Notes the totals that a result gives. */
void pg_note_totals(const PGresult *from, bool has_rows, mb_result *result);

/* --- queue.c ------------------------------------------------------------ */

/* Sends what was left to be done, as parts of the request. */
mb_status pg_send_queue(mb_driver_conn *conn, mb_error *error);
/* Remembers to close a name on the server. */
void pg_close_name(mb_driver_conn *conn, const char *name);
void pg_forget_names(mb_driver_conn *conn);
/* What a part of the queue has come to. */
void pg_queue_part_done(mb_driver_conn *conn, pg_part part);

/* --- statement.c, sql.c, describe.c ------------------------------------- */

mb_status pg_prepare(mb_driver_conn *conn, const char *sql, size_t size,
    mb_driver_stmt **out, mb_prepared *prepared, mb_op *op, mb_error *error);
mb_status pg_describe(mb_driver_stmt *stmt, mb_prepared *prepared,
    mb_result *result, mb_op *op, mb_error *error);
mb_status pg_execute(mb_driver_stmt *stmt, const mb_value *params, size_t n,
    const mb_execute_options *options, mb_result *result, mb_op *op,
    mb_error *error);
mb_status pg_fetch(
    mb_driver_stmt *stmt, mb_value *row, mb_op *op, mb_error *error);
mb_status pg_finish(
    mb_driver_stmt *stmt, mb_finish_mode mode, mb_op *op, mb_error *error);
void pg_close_statement(mb_driver_stmt *stmt);
mb_status pg_exec_text(mb_driver_conn *conn, const char *sql, size_t size,
    mb_result *result, mb_op *op, mb_error *error);

/* What can be told of a text without asking the server. */
typedef struct pg_judgement {
  bool empty;
  bool reads_only;
  bool changes_session;
  bool is_query; /* what a cursor can be declared for */
  bool is_copy;  /* COPY */
  bool is_huge;  /* it may have very many parameters */
  bool is_commit;
  bool is_too_much; /* it has more than there can be */
  bool is_transfer; /* COPY from or to the client */
} pg_judgement;
pg_judgement pg_judge(const char *sql, size_t size);

/* Takes what the server says of a prepared statement. */
mb_status pg_read_description(
    mb_driver_stmt *stmt, const PGresult *result, mb_error *error);
/* Whether a type can be read in its binary form. */
bool pg_has_binary(const pg_type *type);
/* Whether statements stay prepared on the server. */
bool pg_may_prepare(const mb_driver_conn *conn);
/* Whether this one does. */
bool pg_may_keep(const mb_driver_stmt *stmt);
/* Forgets what the server knows of it. */
void pg_forget_prepared(mb_driver_stmt *stmt);
/* Has what the server knows of it closed, and forgets it. */
void pg_drop_prepared(mb_driver_stmt *stmt);
/* Adds the parts that prepare it, by a name where that may be, and describe it;
 * types: what parameters are declared as, or NULL. */
mb_status pg_send_prepare(
    mb_driver_stmt *stmt, int n, const Oid *types, mb_error *error);
/* Asks for types, then goes on. */
mb_status pg_ask_types(
    mb_driver_stmt *stmt, pg_step *then, mb_op *op, mb_error *error);
/* Gives the row that is next among those that were read. */
bool pg_give_row(mb_driver_stmt *stmt, mb_value *row);
void pg_clear_rows(mb_driver_stmt *stmt);
mb_driver_stmt *pg_make_statement(
    mb_driver_conn *conn, pg_source source, mb_error *error);

/* A cursor of the server, for fetch_size. */
mb_status pg_open_cursor(mb_driver_conn *conn, mb_op *op, mb_error *error);
mb_status pg_fetch_cursor(
    mb_driver_stmt *stmt, mb_value *row, mb_op *op, mb_error *error);
mb_status pg_close_cursor(mb_driver_stmt *stmt, mb_op *op, mb_error *error);

/* --- column.c ----------------------------------------------------------- */

/* Reads the columns of a result, where they differ from those known. */
mb_status pg_read_columns(
    mb_driver_stmt *stmt, const PGresult *result, mb_error *error);
/* Columns that the driver itself makes up; texts are static. */
mb_status pg_make_columns(mb_driver_stmt *stmt, const char *const *names,
    const mb_tag *tags, size_t n, mb_error *error);
void pg_give_columns(const mb_driver_stmt *stmt, mb_result *result);

/* --- parameter.c -------------------------------------------------------- */

/* Values as libpq wants them; in the connection's memory for sending. */
typedef struct pg_params {
  int n;
  Oid *types; /* as the statement is to be prepared with */
  const char **values;
  int *lengths;
  int *formats;
  size_t size; /* of all */
} pg_params;

mb_status pg_refuse_parameters(const mb_host *host, mb_error *error);
/* Writes the values.  types: of the parameters, where they are known. */
mb_status pg_write_params(mb_driver_conn *conn, const pg_type *const *types,
    const mb_value *values, size_t n, pg_params *out, mb_error *error);
/* Only what the values say of their types. */
mb_status pg_write_types(mb_driver_conn *conn, const mb_value *values, size_t n,
    pg_params *out, mb_error *error);
/* Whether a value means something else as text than as the type that only the
 * server knows. */
bool pg_wants_types(const mb_value *values, size_t n);
/* Whether a prepared statement takes values of these types. */
bool pg_takes(const pg_type *const *types, const mb_value *values, size_t n);

/* --- transaction.c ------------------------------------------------------ */

mb_transaction_state pg_transaction_state(mb_driver_conn *conn);
mb_status pg_begin(
    mb_driver_conn *conn, const mb_begin *options, mb_op *op, mb_error *error);
mb_status pg_commit(mb_driver_conn *conn, mb_op *op, mb_error *error);
mb_status pg_rollback(mb_driver_conn *conn, mb_op *op, mb_error *error);

/* --- cancel.c ----------------------------------------------------------- */

mb_driver_cancel *pg_make_cancel(const mb_host *host);
mb_driver_cancel *pg_cancel_handle(mb_driver_conn *conn);
mb_status pg_cancel(mb_driver_cancel *handle, enum mb_cancel_level level,
    int64_t deadline_ns, mb_error *error);
void pg_release_cancel(mb_driver_cancel *handle);
/* Which socket is meant; -1: none.  False: it was shut down before, or there is
 * no descriptor left. */
bool pg_set_cancel_socket(mb_driver_cancel *handle, int fd);
/* Whom to ask, now that a session is there.  False: out of memory. */
bool pg_set_cancel_session(mb_driver_cancel *handle, PGconn *pq);
/* The connection ends; after a fork in the child the lock is not touched. */
void pg_end_cancel(mb_driver_cancel *handle, bool inherited);

/* Frees what a request held, whose statement is closed. */
void pg_disown_parts(mb_driver_conn *conn, const mb_driver_stmt *stmt);
/* Writes the values of a run.  It comes before the request is begun: what was
 * put into libpq's buffer cannot be taken back. */
mb_status pg_write_run(mb_driver_stmt *stmt, pg_params *out, mb_error *error);
/* Adds a run to the request, with all that it needs. */
mb_status pg_queue_run(
    mb_driver_stmt *stmt, const pg_params *params, mb_error *error);

/* --- copy.c, load.c, pipeline.c, many.c, command.c ---------------------- */

mb_status pg_copy_in_begin(mb_driver_conn *conn, const char *sql, size_t size,
    mb_op *op, mb_error *error);
mb_status pg_copy_in_put(mb_driver_conn *conn, const char *data, size_t size,
    mb_op *op, mb_error *error);
mb_status pg_copy_in_end(mb_driver_conn *conn, const char *abort,
    mb_result *result, mb_op *op, mb_error *error);
/* Ends a COPY that goes on, badly, and goes on with then. */
mb_status pg_end_copying(
    mb_driver_conn *conn, pg_step *then, mb_op *op, mb_error *error);
mb_status pg_copy_out_begin(mb_driver_conn *conn, const char *sql, size_t size,
    mb_op *op, mb_error *error);
mb_status pg_copy_out_get(mb_driver_conn *conn, const char **data, size_t *size,
    mb_op *op, mb_error *error);
mb_status pg_copy_out_end(
    mb_driver_conn *conn, mb_result *result, mb_op *op, mb_error *error);

/* Rows of commands. */
mb_status pg_fetch_special(
    mb_driver_stmt *stmt, mb_value *row, mb_op *op, mb_error *error);
mb_status pg_finish_special(mb_driver_stmt *stmt, mb_op *op, mb_error *error);
/* Queues a run whose types have to be known before. */
mb_status pg_queue_described(mb_driver_stmt *stmt, mb_op *op, mb_error *error);
void pg_forget_ahead(mb_driver_conn *conn);
mb_status pg_pipeline_begin(mb_driver_conn *conn, mb_error *error);
mb_status pg_pipeline_sync(mb_driver_conn *conn, mb_op *op, mb_error *error);
mb_status pg_pipeline_next(mb_driver_conn *conn, mb_driver_stmt **stmt,
    mb_result *result, mb_op *op, mb_error *error);
mb_status pg_pipeline_end(mb_driver_conn *conn, mb_op *op, mb_error *error);

mb_status pg_execute_many(mb_driver_stmt *stmt, const mb_value *params,
    size_t n, size_t rows, mb_result *result, mb_op *op, mb_error *error);
/* COPY … FROM STDIN as a statement: MB_USAGE where that cannot be. */
mb_status pg_prepare_load(
    mb_driver_stmt *stmt, const char *sql, size_t size, mb_error *error);
/* Writes and adds the question whether COPY does what INSERT does, and takes
 * its answer: where it does not the statement becomes the INSERT. */
typedef struct pg_load_question {
  const char *table, *columns;
} pg_load_question;
mb_status pg_write_load_question(
    mb_driver_stmt *stmt, pg_load_question *out, mb_error *error);
mb_status pg_send_load_question(
    mb_driver_stmt *stmt, const pg_load_question *asked, mb_error *error);
void pg_take_load_answer(mb_driver_stmt *stmt);
mb_status pg_load_rows(mb_driver_conn *conn, mb_op *op, mb_error *error);
/* One of its rows was run. */
void pg_count_row(mb_driver_conn *conn);

mb_status pg_command(mb_driver_conn *conn, const char *name,
    const mb_value *values, size_t n, mb_driver_stmt **out, mb_result *result,
    mb_op *op, mb_error *error);

#endif
