/*
 * constraint.c: the names that messages hold.
 *
 * There is no other way to know them.  Words may be in the server's language,
 * so only quotes and the words of SQL are looked at.
 */
#include "mysql.h"

#include <string.h>

/* The next name in quotes; NULL: there is none. */
static const char *find_quoted(
    const char *at, char quote, const char **name, size_t *size)
{
  at = strchr(at, quote);
  const char *end = at != NULL ? strchr(at + 1, quote) : NULL;
  if (end == NULL)
    return NULL;
  *name = at + 1;
  *size = (size_t)(end - at - 1);
  return end + 1;
}

/* "Duplicate entry '…' for key 'item.name'": the last one, since the value may
 * hold anything; MariaDB leaves the table away. */
static void name_key(
    const mb_host *host, bool is_mariadb, const char *text, mb_error *error)
{
  static const char before[] = "' for key '";
  const char *end = strrchr(text, '\'');
  const char *start = end;
  while (start != NULL && start > text && start[-1] != '\'')
    start--;
  /* A name that holds quotes itself is found in an English message only. */
  for (const char *at = text; (at = strstr(at, before)) != NULL;)
    start = at += sizeof before - 1;
  if (end == NULL || start == end || start == text)
    return;
  const char *dot =
      is_mariadb ? NULL : memchr(start, '.', (size_t)(end - start));
  if (dot != NULL) {
    host->error_set(error, MB_TABLE, start, (size_t)(dot - start));
    start = dot + 1;
  }
  const size_t size = (size_t)(end - start);
  host->error_set(error, MB_CONSTRAINT_NAME, start, size);
  if (size == 7 && memcmp(start, "PRIMARY", 7) == 0)
    error->constraint_kind = MB_CONSTRAINT_PRIMARY_KEY;
}

/* "(`a`, `b`) …" */
static void name_columns(const mb_host *host, const char *at, mb_error *error)
{
  const char *end = strchr(at, ')');
  const char *name;
  size_t size;
  while ((at = find_quoted(at, '`', &name, &size)) != NULL &&
         (end == NULL || name < end))
    host->error_set(error, MB_COLUMNS, name, size);
}

/* "… (`db`.`child`, CONSTRAINT `name` FOREIGN KEY (`id`) REFERENCES …" */
static void name_foreign_key(
    const mb_host *host, const char *text, mb_error *error)
{
  const char *name;
  size_t size;
  const char *at = find_quoted(text, '`', &name, &size);
  if (at == NULL)
    return;
  host->error_set(error, MB_SCHEMA, name, size);
  at = find_quoted(at, '`', &name, &size);
  if (at == NULL)
    return;
  host->error_set(error, MB_TABLE, name, size);
  const char *constraint = strstr(at, "CONSTRAINT `");
  if (constraint != NULL && find_quoted(constraint, '`', &name, &size) != NULL)
    host->error_set(error, MB_CONSTRAINT_NAME, name, size);
  const char *columns = strstr(at, "FOREIGN KEY (");
  if (columns != NULL)
    name_columns(host, columns, error);
}

/* MySQL: "Check constraint 'name' is violated."; MariaDB: "CONSTRAINT `name`
 * failed for `db`.`table`", where the name of a column's own check has its
 * table before it. */
static void name_check(
    const mb_host *host, bool is_mariadb, const char *text, mb_error *error)
{
  const char *name;
  size_t size;
  const char *at = find_quoted(text, is_mariadb ? '`' : '\'', &name, &size);
  if (at == NULL)
    return;
  const char *dot = is_mariadb ? memchr(name, '.', size) : NULL;
  if (dot != NULL) {
    size -= (size_t)(dot + 1 - name);
    name = dot + 1;
  }
  host->error_set(error, MB_CONSTRAINT_NAME, name, size);
  if (!is_mariadb || (at = find_quoted(at, '`', &name, &size)) == NULL)
    return;
  host->error_set(error, MB_SCHEMA, name, size);
  if (find_quoted(at, '`', &name, &size) != NULL)
    host->error_set(error, MB_TABLE, name, size);
}

void mq_name_constraint(
    const mb_host *host, bool is_mariadb, const char *text, mb_error *error)
{
  const char *name;
  size_t size;
  switch (error->constraint_kind) {
  case MB_CONSTRAINT_UNIQUE:
    name_key(host, is_mariadb, text, error);
    break;
  case MB_CONSTRAINT_FOREIGN_KEY:
    name_foreign_key(host, text, error);
    break;
  case MB_CONSTRAINT_NOT_NULL:
    if (find_quoted(text, '\'', &name, &size) != NULL)
      host->error_set(error, MB_COLUMNS, name, size);
    break;
  case MB_CONSTRAINT_CHECK:
    name_check(host, is_mariadb, text, error);
    break;
  default:
    break;
  }
}
