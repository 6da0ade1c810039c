/*
 * mysql.h: what the files of the driver of MySQL and MariaDB share.
 *
 * The client library blocks, so no function here answers MB_WAIT or looks at
 * its op but between two trips: the core ends what takes too long by cancel,
 * from another thread (blocks in mb_connector_info).  In an event loop the
 * calls of Connector/C wait from inside (call.h).
 */
#ifndef MB_DRIVERS_MYSQL_MYSQL_H
#define MB_DRIVERS_MYSQL_MYSQL_H

#include "../../src/driver.h"

#include "client.h"

#define MQ_NS_PER_SECOND INT64_C(1000000000)
/* The protocol counts them in two bytes. */
#define MQ_PARAMETERS_MAX 65535
/* "-838:59:59.999999", "2026-11-21 09:48:00.123456" and a zero byte. */
#define MQ_TIME_SIZE 32
/* One for most blocks of rows, one for the last. */
#define MQ_FORMS 2

/* --- Connectors --------------------------------------------------------- */

enum mq_tls {
  MQ_TLS_DEFAULT,
  MQ_TLS_OFF,
  MQ_TLS_PREFER,
  MQ_TLS_REQUIRE,
  MQ_TLS_VERIFY
};

/* Where a server may be. */
typedef struct mq_place {
  const char *host;   /* NULL: a socket */
  const char *socket; /* NULL: the library's own */
  unsigned port;      /* 0: the library's own */
  enum mq_tls tls;
} mq_place;

/* What is set of the library's TLS; each may be NULL. */
typedef struct mq_tls_files {
  const char *ca, *ca_path, *cert, *key, *passphrase, *cipher, *crl, *crl_path;
  const char *version;
} mq_tls_files;

struct mb_driver_connector {
  const mb_host *host;
  atomic_int refs; /* cancel handles have some of them */
  char *memory;    /* of all texts below */
  size_t used;
  mq_place *places;
  size_t n_places;
  const char *user, *password, *database;
  mq_tls_files files;
  const char *plugin_dir, *default_auth, *server_public_key;
  bool get_server_public_key;
  bool compress;
  bool local_infile;
  bool verifies_by_default; /* nobody has asked for it */
  bool waits_for_nodes;     /* wsrep_sync_wait is set */
  const char *settings;     /* the statement that makes a session ours */
  int zone_minutes;         /* the session's, east of UTC */
  bool zone_is_fixed;       /* else it is a name */
  const char *url;
};

/* --- Connections -------------------------------------------------------- */

struct mb_driver_conn {
  const mb_host *host;
  mb_driver_connector *connector;
  MYSQL *db;
  mb_driver_cancel *cancel;
  mb_capability capability;
  char server_version[80];
  mb_driver_stmt *stmts; /* all of them */
  bool dead;
  bool has_tls;
  bool never_blocks; /* the socket, of one with TLS */
  bool is_mariadb;
  bool has_arrays;
  bool names_row; /* the server tells the row that failed */
  size_t max_packet;
  bool sent;   /* of the present call: the server may have seen something */
  mb_op *loop; /* the present call's, where it waits by the core; or NULL */

  bool begin_waits; /* BEGIN goes out before the next statement */
  mb_begin begin;
};

/* --- Statements --------------------------------------------------------- */

/* What can be told of a text by its words. */
typedef struct mq_judgement {
  bool empty;
  bool reads_only;
  bool changes_session;
  bool sets_mode;   /* perhaps sql_mode */
  bool inserts;     /* INSERT or REPLACE: it may generate an id */
  bool writes_rows; /* those, UPDATE, DELETE */
  bool gives_rows;  /* a write that RETURNING makes one that gives rows */
  bool is_plain;    /* one trip does as well: no parameters, and no rows whose
                       values the text protocol would round */
} mq_judgement;

/* Of "insert … values (?, ?)": what stands between the brackets and these. */
typedef struct mq_group {
  size_t from, to;
  bool skips; /* behind it: on duplicate key update c = c */
} mq_group;

/* How the values of a column come, and what is made of them. */
enum mq_kind {
  MQ_INTEGER,
  MQ_UNSIGNED,
  MQ_BOOLEAN,
  MQ_FLOAT,
  MQ_DOUBLE,
  MQ_BIT,
  MQ_DATE,
  MQ_TIME,
  MQ_DATETIME,
  MQ_BYTES
};

/* What the library writes a value of a column into. */
typedef struct mq_slot {
  enum mq_kind kind;
  mb_tag tag;
  bool is_flag; /* MQ_BIT of one bit */
  mq_bool is_null, error;
  unsigned long length;
  union {
    int64_t integer;
    uint64_t natural;
    float single;
    double real;
    MYSQL_TIME time;
  } as;
  char text[MQ_TIME_SIZE];
  char *bytes; /* MQ_BYTES, MQ_BIT */
  size_t room;
  char *small; /* what bytes is without a long value */
  size_t small_room;
  /* What the column was made of. */
  enum enum_field_types type;
  unsigned flags, charset;
  unsigned long width;
} mq_slot;

struct mb_driver_stmt {
  mb_driver_conn *conn;
  mb_driver_stmt *next, *previous; /* of the connection's */
  char *sql;
  size_t size;
  mq_judgement judgement;
  bool unpreparable;   /* the server has said so */
  MYSQL_STMT *handle;  /* NULL: not prepared now */
  size_t n_parameters; /* of handle */

  mb_result *result; /* the core's, of the present run */
  bool running;
  bool by_text;    /* the present run is one of the text protocol */
  MYSQL_RES *rows; /* of such a one */
  bool reading;    /* a result with columns has not come to its end */
  bool has_row;    /* one that was read and not yet fetched */
  MYSQL_ROW row;   /* by_text */
  int64_t n_rows;
  int64_t fetch_size; /* of the cursor that handle is set up for */

  MYSQL_BIND *params;
  MYSQL_TIME *times;  /* of params */
  bool *were_numbers; /* which of them handle was run with as such */
  size_t params_room;

  mb_column *columns;
  size_t n_columns;
  uint32_t columns_serial;
  char *column_texts; /* and the small buffers of slots */
  MYSQL_BIND *binds;
  mq_slot *slots;
  bool is_bound; /* handle knows where the slots are */

  /* INSERTs of several rows, and one of one row without what stands behind it,
   * made of this one (many.c). */
  mb_driver_stmt *forms[MQ_FORMS];
  size_t rows_of_form[MQ_FORMS];
  mb_driver_stmt *plain;
};

/* --- error.c, constraint.c ---------------------------------------------- */

MB_COLD mb_status mq_out_of_memory(const mb_host *host, mb_error *error);
/* Reports what the library says of its last call on the connection, or, where
 * there is one, the statement. */
MB_COLD mb_status mq_fail(
    mb_driver_conn *conn, mb_driver_stmt *stmt, mb_error *error);
/* The same for an attempt to connect. */
MB_COLD mb_status mq_fail_connect(const mb_driver_connector *connector,
    const mq_place *place, MYSQL *db, mb_error *error);
/* What is answered for a connection that is known to be dead. */
MB_COLD mb_status mq_fail_dead(mb_driver_conn *conn, mb_error *error);
MB_COLD mb_status mq_fail_stopped(mb_driver_conn *conn, mb_error *error);
/* Adds the names that a violated constraint's message holds. */
void mq_name_constraint(
    const mb_host *host, bool is_mariadb, const char *text, mb_error *error);

/* --- connector.c, place.c, tls.c ---------------------------------------- */

extern const mb_option_spec mq_options[];
mb_status mq_open_connector(const mb_host *host, const mb_option *options,
    size_t n, mb_driver_connector **out, mb_connector_info *info,
    mb_error *error);
void mq_close_connector(mb_driver_connector *connector);
void mq_keep_connector(mb_driver_connector *connector);
/* Secrets do not stay behind in memory that is used again. */
void mq_wipe(const char *text);
/* Copies a text into the connector's memory, which was made large enough. */
const char *mq_keep_text(
    mb_driver_connector *connector, const char *text, size_t size);

mb_status mq_read_places(mb_driver_connector *connector,
    const mb_option *options, size_t n, mb_error *error);
bool mq_is_local(const mq_place *place);

/* Asks the library for what the place wants. */
void mq_set_tls(
    MYSQL *db, const mb_driver_connector *connector, const mq_place *place);
#if MQ_LIBMARIADB
/* Part of mq_enter, for a session with TLS. */
void mq_enter_tls(mb_driver_conn *conn);
#endif
/* Whether what is there is what the place wants. */
bool mq_has_tls(MYSQL *db, const mq_place *place);
/* Whether the password is to be held back until it is known that the server has
 * TLS: mq_be_careful does so, and mq_was_careful tells that this has ended the
 * attempt. */
bool mq_wants_care(const mq_place *place);
void mq_be_careful(MYSQL *db);
bool mq_was_careful(MYSQL *db);

/* --- connect.c, connection.c, capability.c ------------------------------ */

/* A session at a place, with all of the connector's options; seconds bounds
 * each wait of the attempt, 0: nothing does.  NULL: out of memory, or *error
 * says more. */
MYSQL *mq_dial(const mb_driver_connector *connector, const mq_place *place,
    const char *password, unsigned seconds, bool bound_all, mb_error *error);
mb_status mq_connect(mb_driver_connector *connector,
    const mb_connect_args *args, mb_driver_conn **out, mb_op *op,
    mb_error *error);
/* Makes the session ours, also after a reset. */
mb_status mq_settle_session(mb_driver_conn *conn, mb_error *error);

void mq_close(mb_driver_conn *conn, int64_t deadline_ns);
void mq_abandon(mb_driver_conn *conn);
mb_validity mq_is_valid(mb_driver_conn *conn);
mb_status mq_ping(mb_driver_conn *conn, mb_op *op, mb_error *error);
mb_status mq_reset(mb_driver_conn *conn, mb_reset_mode mode, unsigned *lost,
    mb_op *op, mb_error *error);
/* Runs a text and throws away what it gives. */
mb_status mq_run_text(
    mb_driver_conn *conn, const char *sql, size_t size, mb_error *error);
/* The library's own: one row of up to n texts, each of which may be NULL;
 * they live until mysql_free_result. */
MYSQL_RES *mq_ask(mb_driver_conn *conn, const char *sql, MYSQL_ROW *row);
/* Every function that the core calls with an op begins with this. */
static inline void mq_enter(mb_driver_conn *conn, mb_op *op)
{
  conn->loop = MQ_LIBMARIADB && op->in_loop ? op : NULL;
#if MQ_LIBMARIADB
  if (conn->has_tls)
    mq_enter_tls(conn);
#endif
}
/* What the session says about its transaction is known again after an error,
 * which does not tell it. */
void mq_refresh_status(mb_driver_conn *conn);

void mq_fill_capability(mb_driver_conn *conn, const char *sql_mode);
void mq_follow_mode(mb_driver_conn *conn, const char *sql_mode);
const mb_capability *mq_capability(mb_driver_conn *conn);

/* --- cancel.c ----------------------------------------------------------- */

mb_driver_cancel *mq_make_cancel(
    mb_driver_connector *connector, const char *password);
/* Of which session the handle is from now on.  False: there is no memory. */
bool mq_set_cancel_session(mb_driver_cancel *handle, const mq_place *place,
    int fd, uint64_t id, const char *server);
/* The connection has come to its end; inherited: it is another process's. */
void mq_end_cancel(mb_driver_cancel *handle, bool inherited);
const char *mq_cancel_password(const mb_driver_cancel *handle);
mb_driver_cancel *mq_cancel_handle(mb_driver_conn *conn);
mb_status mq_cancel(mb_driver_cancel *handle, enum mb_cancel_level level,
    int64_t deadline_ns, mb_error *error);
void mq_release_cancel(mb_driver_cancel *handle);
/* No further byte is waited for. */
void mq_shut(mb_driver_conn *conn);

/* --- sql.c -------------------------------------------------------------- */

mq_judgement mq_judge(const char *sql, size_t size);
/* Without what stands behind the first semicolon, which the server would not
 * take. */
size_t mq_end_of_statement(const char *sql, size_t size, bool backslashes);
/* Finds the group of "insert … values (?, ?)".  False: there is none that can
 * be repeated. */
bool mq_find_group(
    const char *sql, size_t size, bool backslashes, mq_group *out);

/* --- statement.c, run.c, rows.c ----------------------------------------- */

mb_status mq_prepare(mb_driver_conn *conn, const char *sql, size_t size,
    mb_driver_stmt **out, mb_prepared *prepared, mb_op *op, mb_error *error);
mb_status mq_describe(mb_driver_stmt *stmt, mb_prepared *prepared,
    mb_result *result, mb_op *op, mb_error *error);
void mq_close_statement(mb_driver_stmt *stmt);
/* The same inside a call. */
void mq_free_statement(mb_driver_stmt *stmt);
/* Makes a statement of a text, not prepared yet. */
mb_driver_stmt *mq_make_statement(
    mb_driver_conn *conn, const char *sql, size_t size);
/* Prepares what is not prepared now, unless it cannot be. */
mb_status mq_make_handle(mb_driver_stmt *stmt, mb_error *error);
void mq_drop_handle(mb_driver_stmt *stmt);
/* All that are not running: the server has a limit for all sessions. */
void mq_drop_handles(mb_driver_conn *conn);

mb_status mq_execute(mb_driver_stmt *stmt, const mb_value *params, size_t n,
    const mb_execute_options *options, mb_result *result, mb_op *op,
    mb_error *error);
/* What comes before each statement: BEGIN that waits.  An error has its
 * origin. */
mb_status mq_settle(mb_driver_conn *conn, const mb_op *op, mb_error *error);
mb_status mq_exec_text(mb_driver_conn *conn, const char *sql, size_t size,
    mb_result *result, mb_op *op, mb_error *error);
mb_status mq_execute_many(mb_driver_stmt *stmt, const mb_value *params,
    size_t n, size_t rows, mb_result *result, mb_op *op, mb_error *error);

/* Whether the server takes arrays of parameters for the statement. */
bool mq_takes_arrays(const mb_driver_stmt *stmt);
/* Runs it for all rows; *done: as many as are done.  MB_UNSUPPORTED: the server
 * does not take them after all. */
mb_status mq_run_arrays(mb_driver_stmt *stmt, const mb_value *params, size_t n,
    size_t rows, size_t *done, const mb_op *op, mb_error *error);
/* Adds the totals of a part to those of all rows. */
void mq_add_totals(mb_driver_stmt *stmt, mb_result *result);

mb_status mq_next_result(
    mb_driver_stmt *stmt, mb_result *result, mb_op *op, mb_error *error);
mb_status mq_fetch(
    mb_driver_stmt *stmt, mb_value *row, mb_op *op, mb_error *error);
mb_status mq_finish(
    mb_driver_stmt *stmt, mb_finish_mode mode, mb_op *op, mb_error *error);
/* Reads what a run has begun with: its first row, or its totals. */
mb_status mq_take_result(mb_driver_stmt *stmt, mb_error *error);
/* A run has failed: nothing of it is left. */
mb_status mq_fail_run(mb_driver_stmt *stmt, mb_error *error);

/* --- parameter.c, value.c, text.c, column.c, time.c --------------------- */

/* Binds the parameters of a run; bytes are borrowed. */
mb_status mq_bind(
    mb_driver_stmt *stmt, const mb_value *values, size_t n, mb_error *error);
/* One value; number counts from 1. */
mb_status mq_bind_one(mb_driver_conn *conn, const mb_value *value,
    MYSQL_BIND *bind, MYSQL_TIME *time, size_t number, mb_error *error);
mb_status mq_make_params(mb_driver_stmt *stmt, size_t n, mb_error *error);
/* Refuses what the server would: it ends a session that sends it a message
 * above its limit.  size: of all values of the message. */
mb_status mq_check_size(
    const mb_driver_conn *conn, size_t size, mb_error *error);
/* Whether the server would take one of the values for another one, by what
 * handle was run with before. */
bool mq_is_spoilt(const mb_driver_stmt *stmt, const mb_value *values, size_t n);

/* Makes the columns of a run; fields are the library's. */
mb_status mq_read_columns(
    mb_driver_stmt *stmt, const MYSQL_FIELD *fields, size_t n, mb_error *error);
/* Tells the library where values go. */
mb_status mq_bind_columns(mb_driver_stmt *stmt, mb_error *error);
/* Buffers that have become large are not kept. */
void mq_shrink_slots(mb_driver_stmt *stmt);
void mq_free_columns(mb_driver_stmt *stmt);

static inline void mq_give_bytes(
    mb_value *out, mb_tag tag, const char *data, size_t size)
{
  out->tag = tag;
  out->as.bytes.data = data;
  out->as.bytes.size = size;
}
/* Reads the row that was fetched last. */
mb_status mq_read_row(mb_driver_stmt *stmt, mb_value *row, mb_error *error);
mb_status mq_read_text_row(
    mb_driver_stmt *stmt, mb_value *row, mb_error *error);

/* Each gives the length of what it has written to out, of MQ_TIME_SIZE. */
size_t mq_write_date(const MYSQL_TIME *time, char *out);
size_t mq_write_time(const MYSQL_TIME *time, char *out);
size_t mq_write_datetime(const MYSQL_TIME *time, char *out);
/* Reads "2026-11-21 09:48:00.5+00:00" as the clock of a zone shows it.  False:
 * it is not of that form. */
bool mq_read_timestamptz(
    const char *text, size_t size, int zone_minutes, MYSQL_TIME *out);

/* --- transaction.c ------------------------------------------------------ */

mb_transaction_state mq_transaction_state(mb_driver_conn *conn);
mb_status mq_begin(
    mb_driver_conn *conn, const mb_begin *options, mb_op *op, mb_error *error);
mb_status mq_commit(mb_driver_conn *conn, mb_op *op, mb_error *error);
mb_status mq_rollback(mb_driver_conn *conn, mb_op *op, mb_error *error);

#endif
