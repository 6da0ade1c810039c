/*
 * error.c: from a result code of SQLite to a class, its consequences, and the
 * names that its message holds.
 */
#include "sqlite.h"

#include <stdio.h>
#include <string.h>

mb_status sl_out_of_memory(const mb_host *host, mb_error *error)
{
  return host->fail(error, MB_RESOURCE, "out of memory");
}

/* --- Codes -------------------------------------------------------------- */

/* The names of result codes (https://sqlite.org/rescode.html), and the classes
 * of those that have one.  A code without an entry has the class of its lowest
 * byte; there MB_DATABASE_ERROR means: a plain EngineError. */
static const struct {
  int code;
  mb_class class;
  unsigned flags;
  const char *name;
} codes[] = {
#define CODE(name, class, flags) \
  {                              \
    name, class, flags, #name    \
  }
#define PLAIN(name)           \
  {                           \
    name, MB_ENGINE, 0, #name \
  }
    PLAIN(SQLITE_ERROR),
    PLAIN(SQLITE_ERROR_MISSING_COLLSEQ),
    PLAIN(SQLITE_ERROR_RETRY),
    PLAIN(SQLITE_ERROR_SNAPSHOT),
    PLAIN(SQLITE_INTERNAL),
    CODE(SQLITE_PERM, MB_PERMISSION, 0),
    PLAIN(SQLITE_ABORT),
    PLAIN(SQLITE_ABORT_ROLLBACK),
    CODE(SQLITE_BUSY, MB_TIMEOUT, MB_RETRYABLE),
    CODE(SQLITE_BUSY_RECOVERY, MB_TIMEOUT, MB_RETRYABLE),
    CODE(SQLITE_BUSY_SNAPSHOT, MB_SERIALIZATION, MB_RETRYABLE),
    CODE(SQLITE_BUSY_TIMEOUT, MB_TIMEOUT, MB_RETRYABLE),
    PLAIN(SQLITE_LOCKED),
    CODE(SQLITE_LOCKED_SHAREDCACHE, MB_SERIALIZATION, MB_RETRYABLE),
    PLAIN(SQLITE_LOCKED_VTAB),
    CODE(SQLITE_NOMEM, MB_RESOURCE, 0),
    CODE(SQLITE_READONLY, MB_READ_ONLY, 0),
    CODE(SQLITE_READONLY_RECOVERY, MB_READ_ONLY, 0),
    CODE(SQLITE_READONLY_CANTLOCK, MB_READ_ONLY, 0),
    CODE(SQLITE_READONLY_ROLLBACK, MB_READ_ONLY, 0),
    CODE(SQLITE_READONLY_DBMOVED, MB_READ_ONLY, 0),
    CODE(SQLITE_READONLY_CANTINIT, MB_READ_ONLY, 0),
    CODE(SQLITE_READONLY_DIRECTORY, MB_READ_ONLY, 0),
    CODE(SQLITE_INTERRUPT, MB_CANCELED, 0),
    CODE(SQLITE_IOERR, MB_CONNECTIVITY, MB_CONNECTION_DEAD),
    CODE(SQLITE_IOERR_READ, MB_CONNECTIVITY, MB_CONNECTION_DEAD),
    CODE(SQLITE_IOERR_SHORT_READ, MB_CONNECTIVITY, MB_CONNECTION_DEAD),
    CODE(SQLITE_IOERR_WRITE, MB_CONNECTIVITY, MB_CONNECTION_DEAD),
    CODE(SQLITE_IOERR_FSYNC, MB_CONNECTIVITY, MB_CONNECTION_DEAD),
    CODE(SQLITE_IOERR_DIR_FSYNC, MB_CONNECTIVITY, MB_CONNECTION_DEAD),
    CODE(SQLITE_IOERR_TRUNCATE, MB_CONNECTIVITY, MB_CONNECTION_DEAD),
    CODE(SQLITE_IOERR_FSTAT, MB_CONNECTIVITY, MB_CONNECTION_DEAD),
    CODE(SQLITE_IOERR_UNLOCK, MB_CONNECTIVITY, MB_CONNECTION_DEAD),
    CODE(SQLITE_IOERR_RDLOCK, MB_CONNECTIVITY, MB_CONNECTION_DEAD),
    CODE(SQLITE_IOERR_DELETE, MB_CONNECTIVITY, MB_CONNECTION_DEAD),
    CODE(SQLITE_IOERR_NOMEM, MB_RESOURCE, 0),
    CODE(SQLITE_IOERR_ACCESS, MB_CONNECTIVITY, MB_CONNECTION_DEAD),
    CODE(SQLITE_IOERR_CHECKRESERVEDLOCK, MB_CONNECTIVITY, MB_CONNECTION_DEAD),
    CODE(SQLITE_IOERR_LOCK, MB_CONNECTIVITY, MB_CONNECTION_DEAD),
    CODE(SQLITE_IOERR_CLOSE, MB_CONNECTIVITY, MB_CONNECTION_DEAD),
    CODE(SQLITE_IOERR_DIR_CLOSE, MB_CONNECTIVITY, MB_CONNECTION_DEAD),
    CODE(SQLITE_IOERR_SHMOPEN, MB_CONNECTIVITY, MB_CONNECTION_DEAD),
    CODE(SQLITE_IOERR_SHMSIZE, MB_CONNECTIVITY, MB_CONNECTION_DEAD),
    CODE(SQLITE_IOERR_SHMLOCK, MB_CONNECTIVITY, MB_CONNECTION_DEAD),
    CODE(SQLITE_IOERR_SHMMAP, MB_CONNECTIVITY, MB_CONNECTION_DEAD),
    CODE(SQLITE_IOERR_SEEK, MB_CONNECTIVITY, MB_CONNECTION_DEAD),
    CODE(SQLITE_IOERR_DELETE_NOENT, MB_CONNECTIVITY, MB_CONNECTION_DEAD),
    CODE(SQLITE_IOERR_MMAP, MB_CONNECTIVITY, MB_CONNECTION_DEAD),
    CODE(SQLITE_IOERR_GETTEMPPATH, MB_CONNECTIVITY, 0),
    CODE(SQLITE_IOERR_CONVPATH, MB_CONNECTIVITY, MB_CONNECTION_DEAD),
    CODE(SQLITE_IOERR_VNODE, MB_CONNECTIVITY, MB_CONNECTION_DEAD),
    CODE(SQLITE_IOERR_AUTH, MB_CONNECTIVITY, MB_CONNECTION_DEAD),
    CODE(SQLITE_IOERR_BEGIN_ATOMIC, MB_CONNECTIVITY, MB_CONNECTION_DEAD),
    CODE(SQLITE_IOERR_COMMIT_ATOMIC, MB_CONNECTIVITY, MB_CONNECTION_DEAD),
    CODE(SQLITE_IOERR_ROLLBACK_ATOMIC, MB_CONNECTIVITY, MB_CONNECTION_DEAD),
    CODE(SQLITE_IOERR_DATA, MB_CONNECTIVITY, MB_CONNECTION_DEAD),
    CODE(SQLITE_IOERR_CORRUPTFS, MB_CONNECTIVITY, MB_CONNECTION_DEAD),
    CODE(SQLITE_CORRUPT, MB_CONNECTIVITY, MB_CONNECTION_DEAD),
    CODE(SQLITE_CORRUPT_VTAB, MB_CONNECTIVITY, 0),
    CODE(SQLITE_CORRUPT_SEQUENCE, MB_CONNECTIVITY, 0),
    CODE(SQLITE_CORRUPT_INDEX, MB_CONNECTIVITY, MB_CONNECTION_DEAD),
    PLAIN(SQLITE_NOTFOUND),
    CODE(SQLITE_FULL, MB_RESOURCE, 0),
    CODE(SQLITE_CANTOPEN, MB_CONNECTIVITY, 0),
    CODE(SQLITE_CANTOPEN_NOTEMPDIR, MB_CONNECTIVITY, 0),
    CODE(SQLITE_CANTOPEN_ISDIR, MB_CONNECTIVITY, 0),
    CODE(SQLITE_CANTOPEN_FULLPATH, MB_CONNECTIVITY, 0),
    CODE(SQLITE_CANTOPEN_CONVPATH, MB_CONNECTIVITY, 0),
    CODE(SQLITE_CANTOPEN_DIRTYWAL, MB_CONNECTIVITY, 0),
    CODE(SQLITE_CANTOPEN_SYMLINK, MB_CONNECTIVITY, 0),
    PLAIN(SQLITE_PROTOCOL),
    PLAIN(SQLITE_EMPTY),
    PLAIN(SQLITE_SCHEMA),
    CODE(SQLITE_TOOBIG, MB_DATA, 0),
    CODE(SQLITE_CONSTRAINT, MB_CONSTRAINT, 0),
    CODE(SQLITE_CONSTRAINT_CHECK, MB_CONSTRAINT, 0),
    CODE(SQLITE_CONSTRAINT_COMMITHOOK, MB_CONSTRAINT, 0),
    CODE(SQLITE_CONSTRAINT_FOREIGNKEY, MB_CONSTRAINT, 0),
    CODE(SQLITE_CONSTRAINT_FUNCTION, MB_CONSTRAINT, 0),
    CODE(SQLITE_CONSTRAINT_NOTNULL, MB_CONSTRAINT, 0),
    CODE(SQLITE_CONSTRAINT_PRIMARYKEY, MB_CONSTRAINT, 0),
    CODE(SQLITE_CONSTRAINT_TRIGGER, MB_CONSTRAINT, 0),
    CODE(SQLITE_CONSTRAINT_UNIQUE, MB_CONSTRAINT, 0),
    CODE(SQLITE_CONSTRAINT_VTAB, MB_CONSTRAINT, 0),
    CODE(SQLITE_CONSTRAINT_ROWID, MB_CONSTRAINT, 0),
    CODE(SQLITE_CONSTRAINT_PINNED, MB_CONSTRAINT, 0),
    CODE(SQLITE_CONSTRAINT_DATATYPE, MB_CONSTRAINT, 0),
    CODE(SQLITE_MISMATCH, MB_DATA, 0),
    PLAIN(SQLITE_MISUSE),
    PLAIN(SQLITE_NOLFS),
    CODE(SQLITE_AUTH, MB_PERMISSION, 0),
    CODE(SQLITE_AUTH_USER, MB_PERMISSION, 0),
    PLAIN(SQLITE_FORMAT),
    PLAIN(SQLITE_RANGE),
    CODE(SQLITE_NOTADB, MB_CONNECTIVITY, MB_CONNECTION_DEAD),
#undef CODE
#undef PLAIN
};

#define N_CODES (sizeof codes / sizeof codes[0])

static size_t find_code(int code)
{
  size_t i = 0;
  while (i < N_CODES && codes[i].code != code)
    i++;
  return i;
}

/* What the code alone cannot tell. */
static void judge(const mb_driver_conn *conn, int code, enum sl_where where,
    mb_class *class, unsigned *flags)
{
  const size_t exact = find_code(code);
  const size_t family = exact < N_CODES ? exact : find_code(code & 0xFF);
  *class = family < N_CODES ? codes[family].class : MB_ENGINE;
  *flags = family < N_CODES ? codes[family].flags : 0;

  if ((code & 0xFF) == SQLITE_ERROR && where != SL_RUNNING)
    *class = where == SL_PREPARING ? MB_SYNTAX : MB_CONNECTIVITY;
  if ((code & 0xFF) == SQLITE_BUSY && *class == MB_TIMEOUT) {
    /* Not asked to wait: SQLite saw that waiting would be a deadlock. */
    if (!conn->busy_handled)
      *class = MB_SERIALIZATION;
    else if (conn->op != NULL && mb_op_stopped(conn->host, conn->op))
      *class = MB_CANCELED; /* the core knows whose wish it was */
  }
  /* An in-memory database's one connection is worth more than the doubt. */
  if (conn->connector->in_memory)
    *flags &= ~(unsigned)MB_CONNECTION_DEAD;
}

/* --- Names in messages -------------------------------------------------- */

static const struct {
  int code;
  mb_constraint_kind kind;
} kinds[] = {
    {SQLITE_CONSTRAINT_UNIQUE, MB_CONSTRAINT_UNIQUE},
    {SQLITE_CONSTRAINT_PRIMARYKEY, MB_CONSTRAINT_PRIMARY_KEY},
    {SQLITE_CONSTRAINT_ROWID, MB_CONSTRAINT_PRIMARY_KEY},
    {SQLITE_CONSTRAINT_FOREIGNKEY, MB_CONSTRAINT_FOREIGN_KEY},
    {SQLITE_CONSTRAINT_NOTNULL, MB_CONSTRAINT_NOT_NULL},
    {SQLITE_CONSTRAINT_CHECK, MB_CONSTRAINT_CHECK},
};

/* "… failed: users.email, users.org" names a table and columns. */
static void name_columns(
    const mb_host *host, const char *names, mb_error *error)
{
  const char *dot = strchr(names, '.');
  if (dot == NULL)
    return;
  const size_t table = (size_t)(dot - names);
  host->error_set(error, MB_TABLE, names, table);
  for (const char *at = names; at != NULL;) {
    const char *next = strstr(at, ", ");
    const size_t size = next != NULL ? (size_t)(next - at) : strlen(at);
    if (size > table + 1 && memcmp(at, names, table + 1) == 0)
      host->error_set(error, MB_COLUMNS, at + table + 1, size - table - 1);
    at = next != NULL ? next + 2 : NULL;
  }
}

static void name_constraint(
    const mb_driver_conn *conn, int code, const char *message, mb_error *error)
{
  for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
    if (kinds[i].code == code)
      error->constraint_kind = kinds[i].kind;
  const char *names = strstr(message, " failed: ");
  if (names == NULL)
    return;
  names += strlen(" failed: ");

  static const char by_index[] = "index '";
  if (error->constraint_kind == MB_CONSTRAINT_CHECK) {
    conn->host->error_set(error, MB_CONSTRAINT_NAME, names, strlen(names));
  } else if (strncmp(names, by_index, sizeof by_index - 1) == 0) {
    names += sizeof by_index - 1;
    conn->host->error_set(
        error, MB_CONSTRAINT_NAME, names, strcspn(names, "'"));
  } else {
    name_columns(conn->host, names, error);
  }
}

/* --- Reporting ---------------------------------------------------------- */

mb_status sl_fail_on(mb_driver_conn *conn, sqlite3 *db, int code,
    enum sl_where where, mb_error *error)
{
  mb_class class;
  unsigned flags;
  const int at = db != NULL ? sqlite3_error_offset(db) : -1;
  const char *message = db != NULL && sqlite3_errcode(db) == code
                            ? sqlite3_errmsg(db)
                            : sqlite3_errstr(code);
  judge(conn, code, where, &class, &flags);
  if (db != conn->db)
    flags &= ~(unsigned)MB_CONNECTION_DEAD;
  conn->host->fail(error, class, "%s", message);
  error->flags = flags;
  error->native_code = code;
  if (where == SL_PREPARING && at >= 0)
    error->position = (size_t)at + 1;

  size_t name = find_code(code);
  if (name == N_CODES)
    name = find_code(code & 0xFF);
  if (name < N_CODES)
    conn->host->error_set(
        error, MB_CODE, codes[name].name, strlen(codes[name].name));
  if ((code & 0xFF) == SQLITE_CONSTRAINT)
    name_constraint(conn, code, message, error);
  if (code == SQLITE_LOCKED) {
    static const char hint[] =
        "rows of the same connection are still open: read them to the end, or "
        "close them";
    conn->host->error_set(error, MB_HINT, hint, sizeof hint - 1);
  }
  return MB_ERROR;
}

mb_status sl_fail(
    mb_driver_conn *conn, int code, enum sl_where where, mb_error *error)
{
  const mb_status status = sl_fail_on(conn, conn->db, code, where, error);
  conn->dead |= (error->flags & MB_CONNECTION_DEAD) != 0;
  return status;
}
