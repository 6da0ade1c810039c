/*
 * connection.c: opening a file, the handlers that keep an operation in bounds,
 * closing.
 */
#include "sqlite.h"

#include <stdio.h>
#include <string.h>

#define NS_PER_MS INT64_C(1000000)
/* Instructions of SQLite's machine between two looks at the clock: some 10 us.
 */
#define WATCH_INTERVAL 1000
/* How long a change of the journal mode is tried for. */
#define WAL_TRIES 50

/* --- Handlers ----------------------------------------------------------- */

static int on_progress(void *argument)
{
  mb_driver_conn *conn = argument;
  if (conn->op != NULL)
    sl_make_way(conn, conn->op, false);
  if (conn->op != NULL && mb_op_stopped(conn->host, conn->op))
    conn->discarding = true;
  return conn->discarding || conn->collation_failed;
}

/* A cache that is shared is locked meanwhile: nobody may be served. */
static void pause_for_lock(const mb_driver_conn *conn)
{
  if (conn->connector->shares_cache)
    (void)sqlite3_sleep(1);
  else
    conn->host->sleep_ns(NS_PER_MS);
}

/* Tries again every millisecond: SQLite's own handler sleeps longer the longer
 * it waits, so that those who came last win, and no cancel wakes it. */
static int on_busy(void *argument, int tries)
{
  mb_driver_conn *conn = argument;
  if (conn->closing)
    return 0;
  if (conn->op != NULL)
    sl_make_way(conn, conn->op, true);
  const int64_t now_ns = conn->host->now_ns();
  conn->busy_handled = true;
  if (tries == 0)
    conn->busy_since_ns = now_ns;
  if (now_ns - conn->busy_since_ns >= conn->busy_timeout_ns ||
      (conn->op != NULL && mb_op_stopped(conn->host, conn->op)))
    return 0;
  pause_for_lock(conn);
  return 1;
}

void sl_set_watching(mb_driver_conn *conn, bool watch)
{
  conn->watching = watch;
  sqlite3_progress_handler(
      conn->db, watch ? WATCH_INTERVAL : 0, watch ? on_progress : NULL, conn);
}

/* Pragmas that take an argument and leave the session as it was. */
static bool only_asks(const char *pragma)
{
  static const char *const asking[] = {"application_id", "foreign_key_check",
      "foreign_key_list", "incremental_vacuum", "index_info", "index_list",
      "index_xinfo", "integrity_check", "optimize", "quick_check", "table_info",
      "table_list", "table_xinfo", "user_version", "wal_checkpoint"};
  for (size_t i = 0; i < sizeof asking / sizeof asking[0]; i++)
    if (sqlite3_stricmp(pragma, asking[i]) == 0)
      return true;
  return false;
}

static void note_name(char *room, size_t size, const char *name)
{
  const size_t length = name != NULL ? strlen(name) : 0;
  room[0] = '\0';
  if (length < size && name != NULL)
    memcpy(room, name, length + 1);
}

/* Looks at what a text does while it is prepared.  It refuses nothing but the
 * way out of a transaction that only reads. */
static int on_authorize(void *argument, int action, const char *first,
    const char *second, const char *schema, const char *inside)
{
  mb_driver_conn *conn = argument;
  sl_sight *sight = &conn->sight;
  switch (action) {
  case SQLITE_INSERT:
    /* Not by a trigger, and not into the tables of the schema. */
    if (inside == NULL && sqlite3_strnicmp(first, "sqlite_", 7) != 0) {
      sight->inserts = true;
      note_name(sight->table, sizeof sight->table, first);
      note_name(sight->schema, sizeof sight->schema, schema);
    }
    break;
  case SQLITE_UPDATE:
    sight->updates |= inside == NULL;
    break;
  case SQLITE_FUNCTION:
    sight->counts |= second != NULL && sqlite3_stricmp(second, "count") == 0;
    break;
  case SQLITE_TRANSACTION:
  case SQLITE_SAVEPOINT:
    sight->ends_transaction = true;
    break;
  case SQLITE_PRAGMA:
    sight->asks_files = true;
    if (conn->read_only && second != NULL &&
        sqlite3_stricmp(first, "query_only") == 0)
      return SQLITE_DENY;
    if (sqlite3_stricmp(first, "journal_mode") == 0) {
      sight->names_journal = true;
      if (second != NULL)
        conn->wal = SL_WAL_SETTLED;
    }
    if (second != NULL && !only_asks(first)) {
      sight->changes_session = true;
      sight->sets_busy_timeout |= sqlite3_stricmp(first, "busy_timeout") == 0;
    }
    break;
  case SQLITE_ATTACH:
  case SQLITE_DETACH:
    sight->asks_files = true;
    sight->changes_session = true;
    break;
  case SQLITE_CREATE_TEMP_INDEX:
  case SQLITE_CREATE_TEMP_TABLE:
  case SQLITE_CREATE_TEMP_TRIGGER:
  case SQLITE_CREATE_TEMP_VIEW:
  case SQLITE_DROP_TEMP_INDEX:
  case SQLITE_DROP_TEMP_TABLE:
  case SQLITE_DROP_TEMP_TRIGGER:
  case SQLITE_DROP_TEMP_VIEW:
    sight->changes_session = true;
    break;
  default:
    break;
  }
  return SQLITE_OK;
}

/* --- Small statements of our own ---------------------------------------- */

/* Runs a statement; the first column of its first row goes to word. */
static int run(mb_driver_conn *conn, const char *sql, char *word, size_t size)
{
  sqlite3_stmt *stmt = NULL;
  int code = sqlite3_prepare_v2(conn->db, sql, -1, &stmt, NULL);
  if (code == SQLITE_OK && stmt != NULL) {
    code = sqlite3_step(stmt);
    if (code == SQLITE_ROW && word != NULL)
      note_name(word, size, (const char *)sqlite3_column_text(stmt, 0));
    while (code == SQLITE_ROW)
      code = sqlite3_step(stmt);
  }
  const int end = sqlite3_finalize(stmt);
  return code == SQLITE_DONE || code == SQLITE_OK ? end : code;
}

void sl_take_busy_timeout(mb_driver_conn *conn)
{
  char word[32] = "";
  if (!conn->sight.sets_busy_timeout)
    return;
  conn->sight.sets_busy_timeout = false;
  if (run(conn, "pragma busy_timeout", word, sizeof word) == SQLITE_OK) {
    int64_t ms = 0;
    for (const char *at = word; *at >= '0' && *at <= '9'; at++)
      ms = ms * 10 + (*at - '0');
    conn->busy_timeout_ns = ms * NS_PER_MS;
  }
  (void)sqlite3_busy_handler(conn->db, on_busy, conn);
}

void sl_want_wal(mb_driver_conn *conn)
{
  if (conn->wal != SL_WAL_WANTED)
    return;
  const int64_t usual_ns = conn->busy_timeout_ns;
  int code = SQLITE_BUSY;
  /* SQLite calls the busy handler for some of the locks that it needs and not
   * for others, so the tries are the wait.  Whoever reads or writes for longer
   * keeps the journal until the next write, and the time to wait for a lock is
   * left to this one. */
  conn->busy_timeout_ns = 0;
  for (int i = 0; code == SQLITE_BUSY && i < WAL_TRIES; i++) {
    if (i > 0 && mb_op_stopped(conn->host, conn->op))
      break;
    if (i > 0)
      conn->host->sleep_ns(NS_PER_MS);
    code = run(conn, "pragma journal_mode = wal", NULL, 0);
  }
  conn->busy_timeout_ns = usual_ns;
  conn->wal = code == SQLITE_NOMEM || code == SQLITE_BUSY ? SL_WAL_WANTED
                                                          : SL_WAL_SETTLED;
}

/* --- Opening ------------------------------------------------------------ */

static mb_status load_extensions(mb_driver_conn *conn, mb_error *error)
{
  const mb_driver_connector *connector = conn->connector;
  if (connector->n_extensions == 0)
    return MB_OK;
  (void)sqlite3_db_config(
      conn->db, SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 1, NULL);
  for (size_t i = 0; i < connector->n_extensions; i++) {
    char *message = NULL;
    const int code = sqlite3_load_extension(
        conn->db, connector->extensions[i], NULL, &message);
    if (code != SQLITE_OK) {
      conn->host->fail(error, MB_CONNECTIVITY, "extension %zu: %s", i + 1,
          message != NULL ? message : sqlite3_errstr(code));
      error->native_code = code;
      sqlite3_free(message);
      return MB_ERROR;
    }
  }
  (void)sqlite3_db_config(
      conn->db, SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0, NULL);
  return MB_OK;
}

static mb_status refuse_pragma(
    mb_driver_conn *conn, int code, size_t index, mb_error *error)
{
  char hint[64];
  (void)sl_fail(conn, code, SL_RUNNING, error);
  if ((code & 0xFF) == SQLITE_ERROR)
    error->class = MB_SYNTAX;
  (void)snprintf(
      hint, sizeof hint, "it is number %zu of the option pragma", index + 1);
  conn->host->error_set(error, MB_HINT, hint, strlen(hint));
  return MB_ERROR;
}

static mb_status run_pragmas(mb_driver_conn *conn, mb_error *error)
{
  for (size_t i = 0; i < conn->connector->n_pragmas; i++) {
    char *sql = sqlite3_mprintf("pragma %s", conn->connector->pragmas[i]);
    if (sql == NULL)
      return sl_out_of_memory(conn->host, error);
    conn->sight = (sl_sight){.inserts = false};
    const int code = run(conn, sql, NULL, 0);
    sqlite3_free(sql);
    if (code != SQLITE_OK)
      return refuse_pragma(conn, code, i, error);
    sl_take_busy_timeout(conn);
  }
  return MB_OK;
}

static void configure(mb_driver_conn *conn)
{
  static const struct {
    int option, value;
  } wanted[] = {
      {SQLITE_DBCONFIG_ENABLE_FKEY, 1},
      {SQLITE_DBCONFIG_DQS_DML, 0},
      {SQLITE_DBCONFIG_DQS_DDL, 0},
      {SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0},
      {SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0},
  };
  for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++)
    (void)sqlite3_db_config(conn->db, wanted[i].option, wanted[i].value, NULL);
  (void)sqlite3_extended_result_codes(conn->db, 1);
  (void)sqlite3_busy_handler(conn->db, on_busy, conn);
  (void)sqlite3_set_authorizer(conn->db, on_authorize, conn);
}

/* Reads the file for the first time, so that what is no database is found. */
static mb_status look_at_file(mb_driver_conn *conn, mb_error *error)
{
  char mode[16] = "";
  const int code = run(conn, "pragma journal_mode", mode, sizeof mode);
  if (code != SQLITE_OK)
    return sl_fail(conn, code, SL_CONNECTING, error);
  const mb_driver_connector *connector = conn->connector;
  const bool can_change = !connector->in_memory && !connector->keeps_journal &&
                          sqlite3_db_readonly(conn->db, "main") == 0;
  conn->wal =
      can_change && strcmp(mode, "wal") != 0 ? SL_WAL_WANTED : SL_WAL_SETTLED;
  const int synced = run(conn, "pragma synchronous = normal", NULL, 0);
  return synced == SQLITE_OK ? MB_OK
                             : sl_fail(conn, synced, SL_CONNECTING, error);
}

static void fill_capability(mb_driver_conn *conn)
{
  const unsigned carried = 1u << MB_TEXT | 1u << MB_DECIMAL | 1u << MB_DATE |
                           1u << MB_TIME | 1u << MB_TIMESTAMP |
                           1u << MB_TIMESTAMPTZ | 1u << MB_INTERVAL |
                           1u << MB_JSON | 1u << MB_UUID | 1u << MB_OTHER;
  const unsigned basic = 1u << MB_NULL | 1u << MB_BOOL | 1u << MB_INT64 |
                         1u << MB_DOUBLE | 1u << MB_BLOB;
  conn->capability = (mb_capability){
      .size = sizeof conn->capability,
      .server_version = sqlite3_libversion(),
      .lexical = {.backtick_names = true,
          .bracket_names = true,
          .compound = MB_COMPOUND_TRIGGER,
          .placeholder = MB_PLACEHOLDER_NATIVE},
      .sql = true,
      .returning = true,
      .upsert = true,
      .savepoints = true,
      .read_only_transactions = true,
      .transactional_ddl = true,
      .auto_increment = true,
      .multiple_open_rows = true,
      .rows_block_writes = true,
      .nulls_first = true,
      .scan = true,
      .backward_pagination = true,
      .isolation_levels = MB_SERIALIZABLE,
      .transaction_modes = MB_DEFERRED | MB_IMMEDIATE | MB_EXCLUSIVE,
      .max_parameters =
          (unsigned)sqlite3_limit(conn->db, SQLITE_LIMIT_VARIABLE_NUMBER, -1),
      .statement_cache = 256,
      .native_varchar = false,
      .parameter_types = basic | carried,
      .result_types = basic | 1u << MB_TEXT | 1u << MB_JSON,
      .bulk_insert = "prepared",
      .insert_skip = "on conflict do nothing",
      .rename_column = true,
      .drop_column = true,
      .identifier_quote = '"',
  };
  static const char *const storage[MB_STORAGE_TYPE_COUNT] = {
      [MB_STORE_INTEGER8] = "integer",
      [MB_STORE_INTEGER16] = "integer",
      [MB_STORE_INTEGER32] = "integer",
      [MB_STORE_INTEGER64] = "integer",
      [MB_STORE_FLOAT] = "real",
      [MB_STORE_DOUBLE] = "real",
      [MB_STORE_BOOLEAN] = "boolean",
      [MB_STORE_TEXT] = "text",
      [MB_STORE_BLOB] = "blob",
      [MB_STORE_UUID] = "text",
      [MB_STORE_DECIMAL] = "text",
      [MB_STORE_DATE] = "text",
      [MB_STORE_TIME] = "text",
      [MB_STORE_DATETIME] = "text",
      [MB_STORE_TIMESTAMP] = "text",
      [MB_STORE_JSON] = "json",
      [MB_STORE_ENUM] = "text",
  };
  memcpy(conn->capability.storage_types, storage, sizeof storage);
}

static mb_driver_cancel *make_cancel(const mb_host *host)
{
  mb_driver_cancel *cancel = host->allocate(sizeof *cancel);
  if (cancel != NULL) {
    *cancel = (mb_driver_cancel){.host = host, .lock = ATOMIC_FLAG_INIT};
    atomic_init(&cancel->refs, 1);
  }
  return cancel;
}

mb_status sl_connect(mb_driver_connector *connector,
    const mb_connect_args *args, mb_driver_conn **out, mb_op *op,
    mb_error *error)
{
  (void)args;
  const mb_host *host = connector->host;
  mb_driver_conn *conn = host->allocate(sizeof *conn);
  if (conn == NULL)
    return sl_out_of_memory(host, error);
  *conn = (mb_driver_conn){.host = host,
      .connector = connector,
      .busy_timeout_ns = SL_BUSY_TIMEOUT_NS};
  conn->cancel = make_cancel(host);
  *out = conn;
  if (conn->cancel == NULL)
    return sl_out_of_memory(host, error);

  if (!connector->in_memory)
    sl_make_way(conn, op, true);
  const int code =
      sqlite3_open_v2(connector->file, &conn->db, connector->open_flags, NULL);
  if (conn->db == NULL)
    return sl_out_of_memory(host, error);
  conn->cancel->db = conn->db;
  if (code != SQLITE_OK)
    return sl_fail(conn, code, SL_CONNECTING, error);
  configure(conn);
  sl_watch(conn, op);
  if (look_at_file(conn, error) != MB_OK ||
      load_extensions(conn, error) != MB_OK ||
      run_pragmas(conn, error) != MB_OK)
    return MB_ERROR;
  fill_capability(conn);
  return MB_DONE;
}

/* --- Closing ------------------------------------------------------------ */

static void lock(mb_driver_cancel *cancel)
{
  while (atomic_flag_test_and_set_explicit(&cancel->lock, memory_order_acquire))
    continue; /* held for a few instructions only */
}

static void unlock(mb_driver_cancel *cancel)
{
  atomic_flag_clear_explicit(&cancel->lock, memory_order_release);
}

/* Lets SQLite refresh its statistics where its own rules find that worth the
 * while, without waiting for anybody. */
static void optimize(mb_driver_conn *conn, int64_t deadline_ns)
{
  /* Functions of the program may be gone by now. */
  if (conn->connector->in_memory || conn->dead || conn->has_callbacks ||
      sqlite3_db_readonly(conn->db, "main") != 0 ||
      sqlite3_get_autocommit(conn->db) == 0)
    return;
  mb_op op = {.bounded = true, .deadline_ns = deadline_ns};
  atomic_init(&op.stop, MB_GO_ON);
  sl_watch(conn, &op);
  if (run(conn, "pragma analysis_limit = 400", NULL, 0) == SQLITE_OK)
    (void)run(conn, "pragma optimize", NULL, 0);
  conn->op = NULL;
}

void sl_close(mb_driver_conn *conn, int64_t deadline_ns)
{
  const mb_host *host = conn->host;
  conn->closing = true;
  if (conn->cancel != NULL) {
    lock(conn->cancel);
    conn->cancel->db = NULL;
    unlock(conn->cancel);
    sl_release_cancel(conn->cancel);
  }
  if (conn->db != NULL) {
    optimize(conn, deadline_ns);
    sl_close_transaction_statements(conn);
    (void)sqlite3_close_v2(conn->db);
  }
  host->release(conn);
}

void sl_abandon(mb_driver_conn *conn)
{
  /* Closing the file would drop the parent's locks with the child's; the memory
   * is left to the child. */
  (void)conn;
}

mb_validity sl_is_valid(mb_driver_conn *conn)
{
  return conn->dead ? MB_DEAD : MB_ALIVE;
}

const mb_capability *sl_capability(mb_driver_conn *conn)
{
  return &conn->capability;
}

/* --- Cancelling --------------------------------------------------------- */

mb_driver_cancel *sl_cancel_handle(mb_driver_conn *conn)
{
  if (conn->cancel != NULL)
    (void)atomic_fetch_add(&conn->cancel->refs, 1);
  return conn->cancel;
}

mb_status sl_cancel(mb_driver_cancel *handle, enum mb_cancel_level level,
    int64_t deadline_ns, mb_error *error)
{
  /* The handlers see that the operation is to stop.  sqlite3_interrupt would
   * stop every statement of the connection, which is right only when nothing
   * else helps. */
  (void)deadline_ns;
  (void)error;
  if (level == MB_CANCEL_SOCKET) {
    lock(handle);
    if (handle->db != NULL)
      sqlite3_interrupt(handle->db);
    unlock(handle);
  }
  return MB_OK;
}

void sl_release_cancel(mb_driver_cancel *handle)
{
  if (atomic_fetch_sub(&handle->refs, 1) == 1)
    handle->host->release(handle);
}
