/*
 * sqlite.h: what the files of the SQLite driver share.
 *
 * SQLite answers at once or blocks; it never says "wait".  Where it blocks (a
 * long statement, a lock of another process) it calls back, and there the
 * bounds of the operation are kept: sl_watch.  There, and before what calls
 * back nowhere, it makes way for an event loop: sl_make_way, sl_expect_files.
 */
#ifndef MB_DRIVERS_SQLITE_H
#define MB_DRIVERS_SQLITE_H

#include "../../src/driver.h"

#include <sqlite3.h>

/* How long a lock is waited for unless a time-out comes first; what PRAGMA
 * busy_timeout changes. */
#define SL_BUSY_TIMEOUT_NS (5 * INT64_C(1000000000))

struct mb_driver_connector {
  const mb_host *host;
  char *file; /* for sqlite3_open_v2 */
  char *url;  /* for people */
  char *path;
  int open_flags;
  bool in_memory;
  bool shared;          /* by several connections */
  bool shares_cache;    /* whose locks belong to threads */
  bool read_only;       /* asked for */
  bool keeps_journal;   /* the user chose a journal mode */
  const char **pragmas; /* as the user wrote them; inside memory */
  size_t n_pragmas;
  const char **extensions;
  size_t n_extensions;
  char *memory; /* copies of all texts */
};

/* What the authorizer sees while a text is prepared. */
typedef struct sl_sight {
  bool inserts; /* into a table that the text names itself */
  bool updates;
  bool changes_session;
  bool names_journal;
  bool sets_busy_timeout; /* not yet taken over */
  bool counts;            /* rows: SQLite does not call back meanwhile */
  bool asks_files;        /* a pragma, or another database */
  bool ends_transaction;  /* perhaps */
  char table[64];         /* that it inserts into; empty: the name is longer */
  char schema[64];
} sl_sight;

enum sl_wal { SL_WAL_UNKNOWN, SL_WAL_WANTED, SL_WAL_SETTLED };

struct mb_driver_conn {
  const mb_host *host;
  const mb_driver_connector *connector;
  sqlite3 *db;
  mb_driver_cancel *cancel;
  mb_capability capability;

  /* The operation in flight, for the handlers. */
  mb_op *op;
  bool watching;      /* the progress handler is set */
  bool has_callbacks; /* functions of the program are known to SQLite */
  bool has_collations;
  bool closing;          /* wait for no lock */
  bool busy_handled;     /* the busy handler ran */
  bool callback_failed;  /* a function of the program */
  bool collation_failed; /* it was a collation */
  bool discarding;       /* nobody wants what aggregates that end now give */
  int64_t busy_since_ns;
  int64_t busy_timeout_ns;

  sl_sight sight;
  enum sl_wal wal;
  bool read_only;  /* in a transaction that only reads */
  bool query_only; /* set by it, to be taken back */
  bool dead;
  int64_t last_group; /* of aggregates */
  mb_error callback_error;

  sqlite3_stmt *begin[3]; /* deferred, immediate, exclusive; NULL: not yet */
  sqlite3_stmt *commit;
  sqlite3_stmt *rollback;

  /* An upsert's insert is told from its update by a hook. */
  const mb_driver_stmt *hooked;
  bool hook_inserted;
  int64_t hook_rowid;
};

/* What stands behind a statement of the driver. */
typedef enum sl_kind { SL_SQL, SL_BACKUP, SL_BLOB } sl_kind;

struct mb_driver_stmt {
  mb_driver_conn *conn;
  sl_kind kind;
  mb_result *result; /* the core's, of the present run */
  mb_column *columns;
  size_t n_columns;
  size_t columns_room;
  char *column_texts;
  uint32_t columns_serial;

  /* SL_SQL */
  sqlite3_stmt *stmt;
  int n_parameters;
  int reprepared; /* SQLite's count when the columns were read */
  bool reads_only;
  bool names_journal;                /* it asks for its mode or sets it */
  bool asks_files, ends_transaction; /* as sl_sight says */
  bool is_blind; /* there is work in it that SQLite does not call back in */
  bool is_quick; /* and it took little time so far */
  bool inserts, upserts;
  bool has_rowid, rowid_known; /* its id is the rowid; not asked yet: false */
  bool first_row; /* sqlite3_step stands on a row not yet fetched */
  bool running;
  bool *booleans; /* columns declared as such */
  bool is_plain;  /* no column is declared as boolean or JSON */
  int64_t changes_before;
  char table[64], schema[64];

  /* SL_BACKUP */
  sqlite3 *target;
  sqlite3_backup *backup;
  char *target_path;
  bool target_is_new; /* to be removed when the backup does not end */
  int pages;

  /* SL_BLOB */
  char *bytes;
  int64_t n_bytes;
  int64_t blob_size;
  bool blob_given;
};

struct mb_driver_cancel {
  const mb_host *host;
  atomic_int refs;
  atomic_flag lock; /* guards db */
  sqlite3 *db;      /* NULL once closed */
};

/* --- error.c, constraint.c ---------------------------------------------- */

/* Where SQLite reported a code: only a text that is being prepared can be
 * wrong. */
enum sl_where { SL_CONNECTING, SL_PREPARING, SL_RUNNING };

/* Reports code, with the connection's latest message.  db may be NULL. */
MB_COLD mb_status sl_fail(
    mb_driver_conn *conn, int code, enum sl_where where, mb_error *error);
/* Reports a code of another connection than conn's (a backup's target). */
mb_status sl_fail_on(mb_driver_conn *conn, sqlite3 *db, int code,
    enum sl_where where, mb_error *error);
MB_COLD mb_status sl_out_of_memory(const mb_host *host, mb_error *error);

/* Adds the name of the unique or primary key constraint, which is looked up;
 * the statement that broke it has been reset. */
void sl_name_constraint(mb_driver_conn *conn, mb_error *error);

/* --- connector.c -------------------------------------------------------- */

extern const mb_option_spec sl_options[];
mb_status sl_open_connector(const mb_host *host, const mb_option *options,
    size_t n, mb_driver_connector **out, mb_connector_info *info,
    mb_error *error);
void sl_close_connector(mb_driver_connector *connector);

/* --- connection.c ------------------------------------------------------- */

mb_status sl_connect(mb_driver_connector *connector,
    const mb_connect_args *args, mb_driver_conn **out, mb_op *op,
    mb_error *error);
void sl_close(mb_driver_conn *conn, int64_t deadline_ns);
void sl_abandon(mb_driver_conn *conn);
mb_validity sl_is_valid(mb_driver_conn *conn);
const mb_capability *sl_capability(mb_driver_conn *conn);
mb_driver_cancel *sl_cancel_handle(mb_driver_conn *conn);
mb_status sl_cancel(mb_driver_cancel *handle, enum mb_cancel_level level,
    int64_t deadline_ns, mb_error *error);
void sl_release_cancel(mb_driver_cancel *handle);

/* Sets the progress handler, or takes it away. */
void sl_set_watching(mb_driver_conn *conn, bool watch);
/* Makes op the one that the handlers look at; before every call that may take
 * long. */
static inline void sl_watch(mb_driver_conn *conn, mb_op *op)
{
  const bool watch = op->bounded || op->in_loop || conn->has_collations;
  conn->op = op;
  conn->busy_handled = false;
  conn->callback_failed = false;
  conn->collation_failed = false;
  conn->discarding = false;
  if (watch != conn->watching)
    sl_set_watching(conn, watch);
}
/* Others may be served from here on, if they wait for this thread. */
static inline void sl_make_way(
    const mb_driver_conn *conn, mb_op *op, bool at_once)
{
  if (op->in_loop && !conn->connector->shares_cache)
    conn->host->make_way(op, at_once);
}
/* The same before what may wait for the disk; where what there is was not
 * written to yet, only where is_write is true. */
static inline void sl_expect_files(
    const mb_driver_conn *conn, mb_op *op, bool is_write)
{
  if (op->in_loop && !conn->connector->in_memory &&
      (is_write || sqlite3_txn_state(conn->db, NULL) == SQLITE_TXN_WRITE))
    sl_make_way(conn, op, true);
}
/* Turns the journal into a write-ahead log before the first write. */
void sl_want_wal(mb_driver_conn *conn);
/* Sets the busy handler again where a PRAGMA busy_timeout, which SQLite runs
 * while it prepares it, has replaced it. */
void sl_take_busy_timeout(mb_driver_conn *conn);

/* --- statement.c -------------------------------------------------------- */

mb_status sl_prepare(mb_driver_conn *conn, const char *sql, size_t size,
    mb_driver_stmt **out, mb_prepared *prepared, mb_op *op, mb_error *error);
mb_status sl_describe(mb_driver_stmt *stmt, mb_prepared *prepared,
    mb_result *result, mb_op *op, mb_error *error);
mb_status sl_execute(mb_driver_stmt *stmt, const mb_value *params, size_t n,
    const mb_execute_options *options, mb_result *result, mb_op *op,
    mb_error *error);
mb_status sl_fetch(
    mb_driver_stmt *stmt, mb_value *row, mb_op *op, mb_error *error);
mb_status sl_finish(
    mb_driver_stmt *stmt, mb_finish_mode mode, mb_op *op, mb_error *error);
void sl_close_statement(mb_driver_stmt *stmt);
mb_status sl_exec_text(mb_driver_conn *conn, const char *sql, size_t size,
    mb_result *result, mb_op *op, mb_error *error);

/* --- value.c ------------------------------------------------------------ */

/* Binds values to the parameters, in their order; bytes are borrowed. */
mb_status sl_bind(mb_driver_conn *conn, sqlite3_stmt *stmt,
    const mb_value *values, size_t n, mb_error *error);
/* Gives value as a function's result.  Errors: MB_DATA, MB_UNSUPPORTED. */
mb_status sl_give(mb_driver_conn *conn, sqlite3_context *context,
    const mb_value *value, mb_error *error);

/* Reads a value of SQLite's; bytes are views.  False: out of memory.  Here,
 * since it is called for every value of every row. */
static inline bool sl_read(sqlite3_value *from, mb_value *to)
{
  switch (sqlite3_value_type(from)) {
  case SQLITE_INTEGER:
    to->tag = MB_INT64;
    to->as.integer = sqlite3_value_int64(from);
    return true;
  case SQLITE_FLOAT:
    to->tag = MB_DOUBLE;
    to->as.real = sqlite3_value_double(from);
    return true;
  case SQLITE_TEXT:
    to->tag = MB_TEXT;
    to->as.bytes.data = (const char *)sqlite3_value_text(from);
    to->as.bytes.size = (size_t)sqlite3_value_bytes(from);
    return to->as.bytes.data != NULL;
  case SQLITE_BLOB:
    to->tag = MB_BLOB;
    to->as.bytes.data = sqlite3_value_blob(from);
    to->as.bytes.size = (size_t)sqlite3_value_bytes(from);
    return to->as.bytes.data != NULL || to->as.bytes.size == 0;
  default:
    to->tag = MB_NULL;
    return true;
  }
}

/* --- column.c ----------------------------------------------------------- */

/* Reads the columns of a prepared statement anew. */
mb_status sl_read_columns(mb_driver_stmt *stmt, mb_error *error);
/* Gives the columns that the driver itself makes up; texts are static. */
mb_status sl_make_columns(mb_driver_stmt *stmt, const char *const *names,
    const mb_tag *tags, size_t n, mb_error *error);

/* --- transaction.c ------------------------------------------------------ */

mb_transaction_state sl_transaction_state(mb_driver_conn *conn);
mb_status sl_begin(
    mb_driver_conn *conn, const mb_begin *options, mb_op *op, mb_error *error);
mb_status sl_commit(mb_driver_conn *conn, mb_op *op, mb_error *error);
mb_status sl_rollback(mb_driver_conn *conn, mb_op *op, mb_error *error);
/* Takes back what a transaction that only read has left in the session, where
 * its end could not; before every statement. */
mb_status sl_settle_session(mb_driver_conn *conn, mb_error *error);
void sl_close_transaction_statements(mb_driver_conn *conn);

/* --- command.c, backup.c, blob.c, function.c ---------------------------- */

mb_status sl_command(mb_driver_conn *conn, const char *name,
    const mb_value *values, size_t n, mb_driver_stmt **out, mb_result *result,
    mb_op *op, mb_error *error);

mb_status sl_open_backup(mb_driver_conn *conn, const mb_value *values, size_t n,
    mb_driver_stmt *stmt, mb_error *error);
mb_status sl_fetch_backup(
    mb_driver_stmt *stmt, mb_value *row, mb_op *op, mb_error *error);
void sl_close_backup(mb_driver_stmt *stmt, bool finished);

mb_status sl_open_blob(mb_driver_conn *conn, const mb_value *values, size_t n,
    mb_driver_stmt *stmt, mb_error *error);
mb_status sl_fetch_blob(mb_driver_stmt *stmt, mb_value *row);

mb_status sl_create_function(
    mb_driver_conn *conn, const mb_value *values, size_t n, mb_error *error);
mb_status sl_create_aggregate(
    mb_driver_conn *conn, const mb_value *values, size_t n, mb_error *error);
mb_status sl_create_collation(
    mb_driver_conn *conn, const mb_value *values, size_t n, mb_error *error);
/* Whether the step that has just given code failed because of a function of the
 * program. */
bool sl_callback_failed(const mb_driver_conn *conn, int code);

#endif
