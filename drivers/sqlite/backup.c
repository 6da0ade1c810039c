/*
 * backup.c: copying the open database to a file, some pages at a time.
 *
 *   backup(path, pages a step) -> rows (remaining pages, total pages)
 *
 * Others may go on reading and writing; a write by another connection makes
 * SQLite begin again, before one by this connection the core has the copy
 * brought to its end.  A file that did not exist is removed when the backup
 * does not end.
 */
#include "sqlite.h"

#include <limits.h>
#include <string.h>
#include <unistd.h>

#define NS_PER_MS INT64_C(1000000)

static bool exists(const char *path)
{
  return access(path, F_OK) == 0;
}

static mb_status copy_path(
    mb_driver_stmt *stmt, const mb_value *path, mb_error *error)
{
  const mb_host *host = stmt->conn->host;
  const size_t size = path->as.bytes.size;
  const char *data = path->as.bytes.data;
  /* Names that mean something else to SQLite are those of files here. */
  const bool special = data[0] == ':' || strncmp(data, "file:", 5) == 0;
  const size_t at = special ? strlen("./") : 0;
  stmt->target_path = host->allocate(at + size + 1);
  if (stmt->target_path == NULL)
    return sl_out_of_memory(host, error);
  memcpy(stmt->target_path, "./", at);
  memcpy(stmt->target_path + at, data, size);
  stmt->target_path[at + size] = '\0';
  return MB_OK;
}

mb_status sl_open_backup(mb_driver_conn *conn, const mb_value *values, size_t n,
    mb_driver_stmt *stmt, mb_error *error)
{
  static const char *const names[] = {"remaining", "total"};
  static const mb_tag tags[] = {MB_INT64, MB_INT64};
  if (n != 2 || values[1].tag != MB_INT64 || values[1].as.integer < 1 ||
      values[1].as.integer > INT_MAX || values[0].tag != MB_TEXT ||
      values[0].as.bytes.size == 0 ||
      memchr(values[0].as.bytes.data, '\0', values[0].as.bytes.size) != NULL)
    return conn->host->fail(
        error, MB_USAGE, "backup wants (path, pages a step)");
  if (sqlite3_txn_state(conn->db, "main") == SQLITE_TXN_WRITE)
    return conn->host->fail(error, MB_USAGE,
        "a transaction that writes is open on this connection: make the "
        "backup before or after it, or on another connection");
  stmt->pages = (int)values[1].as.integer;
  if (sl_make_columns(stmt, names, tags, 2, error) != MB_OK ||
      copy_path(stmt, &values[0], error) != MB_OK)
    return MB_ERROR;
  stmt->target_is_new = !exists(stmt->target_path);
  const int code = sqlite3_open_v2(stmt->target_path, &stmt->target,
      SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
  if (code != SQLITE_OK)
    return sl_fail_on(conn, stmt->target, code, SL_CONNECTING, error);
  (void)sqlite3_extended_result_codes(stmt->target, 1);
  stmt->backup = sqlite3_backup_init(stmt->target, "main", conn->db, "main");
  if (stmt->backup == NULL)
    return sl_fail_on(conn, stmt->target, sqlite3_errcode(stmt->target),
        SL_CONNECTING, error);
  return MB_OK;
}

/* One step, which waits for locks as statements do. */
static int step(mb_driver_stmt *stmt, mb_op *op)
{
  mb_driver_conn *conn = stmt->conn;
  const int64_t until_ns = conn->host->now_ns() + conn->busy_timeout_ns;
  for (;;) {
    if (mb_op_stopped(conn->host, op))
      return SQLITE_INTERRUPT;
    const int code = sqlite3_backup_step(stmt->backup, stmt->pages);
    const int family = code & 0xFF;
    if ((family != SQLITE_BUSY && family != SQLITE_LOCKED) ||
        conn->host->now_ns() >= until_ns)
      return code;
    conn->busy_handled = true;
    conn->host->sleep_ns(NS_PER_MS);
  }
}

mb_status sl_fetch_backup(
    mb_driver_stmt *stmt, mb_value *row, mb_op *op, mb_error *error)
{
  if (stmt->backup == NULL)
    return MB_DONE;
  sl_watch(stmt->conn, op);
  sl_make_way(stmt->conn, op, true);
  const int code = step(stmt, op);
  if (code != SQLITE_OK && code != SQLITE_DONE) {
    const mb_status status =
        sl_fail_on(stmt->conn, stmt->target, code, SL_RUNNING, error);
    sl_close_backup(stmt, false);
    return status;
  }
  row[0] = (mb_value){
      .tag = MB_INT64, .as.integer = sqlite3_backup_remaining(stmt->backup)};
  row[1] = (mb_value){
      .tag = MB_INT64, .as.integer = sqlite3_backup_pagecount(stmt->backup)};
  if (code == SQLITE_DONE)
    sl_close_backup(stmt, true);
  return MB_ROW;
}

void sl_close_backup(mb_driver_stmt *stmt, bool finished)
{
  if (stmt->backup != NULL)
    (void)sqlite3_backup_finish(stmt->backup);
  if (stmt->target != NULL)
    (void)sqlite3_close_v2(stmt->target);
  /* Also where opening it has failed: by then the file may be there. */
  if (stmt->target_is_new && !finished)
    (void)unlink(stmt->target_path);
  stmt->backup = NULL;
  stmt->target = NULL;
  stmt->target_is_new = false;
  stmt->conn->host->release(stmt->target_path);
  stmt->target_path = NULL;
}
