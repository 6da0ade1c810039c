/*
 * constraint.c: the name of the constraint that a statement broke.
 *
 * SQLite tells the columns only.  The name is that of the index on just these
 * columns, or, where SQLite has made the index by itself for a constraint of
 * the table, the name that the table's text gives to that constraint.
 */
#include "sqlite.h"

#include <string.h>

#define COLUMNS_MAX 32

typedef struct words {
  const char *at[COLUMNS_MAX];
  size_t size[COLUMNS_MAX];
  size_t n;
} words;

static bool same(const char *a, size_t a_size, const char *b, size_t b_size)
{
  return a_size == b_size && sqlite3_strnicmp(a, b, (int)a_size) == 0;
}

static bool same_words(const words *a, const words *b)
{
  if (a->n != b->n)
    return false;
  for (size_t i = 0; i < a->n; i++)
    if (!same(a->at[i], a->size[i], b->at[i], b->size[i]))
      return false;
  return true;
}

static void add(words *to, const char *at, size_t size)
{
  if (to->n < COLUMNS_MAX) {
    to->at[to->n] = at;
    to->size[to->n] = size;
  }
  to->n++; /* a list that is too long equals none */
}

/* --- The text of a table ------------------------------------------------ */

typedef struct token {
  const char *at; /* of a name: without its quotes */
  size_t size;
  char kind; /* 'w' a word, '"' a quoted name, 0 the end, else itself */
} token;

static bool in_word(char c)
{
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
         (c >= '0' && c <= '9') || c == '_' || c == '$' ||
         (unsigned char)c >= 0x80;
}

static const char *skip_blanks(const char *at)
{
  for (;;) {
    at += strspn(at, " \t\r\n\f");
    if (at[0] == '-' && at[1] == '-') {
      at += strcspn(at, "\n");
    } else if (at[0] == '/' && at[1] == '*') {
      const char *end = strstr(at + 2, "*/");
      at = end != NULL ? end + 2 : at + strlen(at);
    } else {
      return at;
    }
  }
}

/* The token at *text, which is moved behind it. */
static token next(const char **text)
{
  const char *at = skip_blanks(*text);
  const char first = *at;
  token found = {.at = at, .size = 1, .kind = first};
  if (first == '\0') {
    found.size = 0;
  } else if (strchr("\"`['", first) != NULL) {
    const char last = first == '[' ? ']' : first;
    const char *end = strchr(at + 1, last);
    found.kind = first == '\'' ? '\'' : '"';
    found.at = at + 1;
    found.size = end != NULL ? (size_t)(end - at - 1) : strlen(at + 1);
    at = found.at + found.size + (end != NULL);
    *text = at;
    return found;
  } else if (in_word(first)) {
    found.kind = 'w';
    found.size = 0;
    while (in_word(at[found.size]))
      found.size++;
  }
  *text = at + found.size;
  return found;
}

static bool is_word(const token *found, const char *word)
{
  return found->kind == 'w' && same(found->at, found->size, word, strlen(word));
}

static bool is_name(const token *found)
{
  return found->kind == 'w' || found->kind == '"' || found->kind == '\'';
}

/* Reads "(a, b desc, c)" behind a constraint; false: there is no such list. */
static bool read_columns(const char **text, words *columns)
{
  const char *at = *text;
  token found = next(&at);
  columns->n = 0;
  if (found.kind != '(')
    return false;
  bool wanted = true;
  for (found = next(&at); found.kind != ')' && found.kind != '\0';
       found = next(&at)) {
    if (found.kind == ',')
      wanted = true;
    else if (wanted && is_name(&found)) {
      add(columns, found.at, found.size);
      wanted = false;
    }
  }
  *text = at;
  return true;
}

/* What has been read of one definition of a table. */
typedef struct definition {
  token column; /* its first token */
  token name;   /* behind the last CONSTRAINT; kind 0: none */
} definition;

/* Whether UNIQUE or PRIMARY KEY, just read, stands for these columns. */
static bool fits(
    const char **text, const definition *read, const words *columns)
{
  words own = {.n = 0};
  if (!read_columns(text, &own))
    add(&own, read->column.at, read->column.size);
  return same_words(&own, columns);
}

/* Finds CONSTRAINT name UNIQUE or PRIMARY KEY, as kind says, over these
 * columns. */
static bool find_in_table(
    const char *text, const char *kind, const words *columns, token *out)
{
  definition read = {.name = {.kind = 0}};
  int depth = 0;
  bool first = false;
  for (token found = next(&text); found.kind != '\0'; found = next(&text)) {
    if (found.kind == '(' && ++depth == 1)
      first = true;
    else if (found.kind == ')')
      depth--;
    else if (depth == 1 && found.kind == ',')
      first = true;
    else if (depth == 1) {
      if (first)
        read = (definition){.column = found, .name = {.kind = 0}};
      first = false;
      if (is_word(&found, "constraint")) {
        read.name = next(&text);
      } else if (is_word(&found, "unique") || is_word(&found, "primary")) {
        const bool wanted = is_word(&found, kind);
        if (is_word(&found, "primary"))
          (void)next(&text); /* KEY */
        if (fits(&text, &read, columns) && wanted && is_name(&read.name)) {
          *out = read.name;
          return true;
        }
        read.name.kind = 0;
      }
    }
  }
  return false;
}

/* --- Looking up --------------------------------------------------------- */

/* The columns that an error names. */
static void read_error(const mb_error *error, words *columns)
{
  const char *at = error->room + error->fields[MB_COLUMNS].at;
  size_t left = error->fields[MB_COLUMNS].size;
  columns->n = 0;
  while (left > 0) {
    const char *zero = memchr(at, '\0', left);
    const size_t size = zero != NULL ? (size_t)(zero - at) : left;
    add(columns, at, size);
    at += size;
    left -= size;
    if (zero != NULL) {
      at++;
      left--;
    }
  }
}

static sqlite3_stmt *prepare(
    mb_driver_conn *conn, const char *sql, const char *name, size_t size)
{
  sqlite3_stmt *stmt = NULL;
  if (sqlite3_prepare_v2(conn->db, sql, -1, &stmt, NULL) != SQLITE_OK)
    return NULL;
  (void)sqlite3_bind_text(stmt, 1, name, (int)size, SQLITE_STATIC);
  return stmt;
}

/* Finds the unique index on just these columns, made by CREATE INDEX. */
static bool find_index(
    mb_driver_conn *conn, const words *columns, mb_error *error)
{
  static const char sql[] =
      "select l.name, i.name, i.seqno, (select count(*) from "
      "pragma_index_info(l.name)) from pragma_index_list(?1) l, "
      "pragma_index_info(l.name) i where l.\"unique\" and l.origin = 'c' "
      "order by l.seq, i.seqno";
  const char *table = error->room + error->fields[MB_TABLE].at;
  sqlite3_stmt *stmt = prepare(conn, sql, table, error->fields[MB_TABLE].size);
  bool found = false;
  size_t matched = 0;
  while (!found && stmt != NULL && sqlite3_step(stmt) == SQLITE_ROW) {
    const char *name = (const char *)sqlite3_column_text(stmt, 1);
    const size_t number = (size_t)sqlite3_column_int(stmt, 2);
    if (number == 0)
      matched = 0;
    if (name != NULL && number < columns->n && number < COLUMNS_MAX &&
        same(name, strlen(name), columns->at[number], columns->size[number]))
      matched++;
    found = matched == columns->n &&
            (size_t)sqlite3_column_int(stmt, 3) == columns->n;
  }
  if (found) {
    const char *name = (const char *)sqlite3_column_text(stmt, 0);
    if (name != NULL)
      conn->host->error_set(error, MB_CONSTRAINT_NAME, name, strlen(name));
  }
  (void)sqlite3_finalize(stmt);
  return found;
}

/* Finds the name that the table's own text gives. */
static void find_in_text(mb_driver_conn *conn, const char *kind,
    const words *columns, mb_error *error)
{
  const char *table = error->room + error->fields[MB_TABLE].at;
  sqlite3_stmt *stmt = prepare(conn,
      "select sql from sqlite_master where type = 'table' and name = ?1 "
      "collate nocase union all select sql from sqlite_temp_master where type "
      "= 'table' and name = ?1 collate nocase",
      table, error->fields[MB_TABLE].size);
  if (stmt != NULL && sqlite3_step(stmt) == SQLITE_ROW) {
    const char *text = (const char *)sqlite3_column_text(stmt, 0);
    token name;
    if (text != NULL && find_in_table(text, kind, columns, &name))
      conn->host->error_set(error, MB_CONSTRAINT_NAME, name.at, name.size);
  }
  (void)sqlite3_finalize(stmt);
}

void sl_name_constraint(mb_driver_conn *conn, mb_error *error)
{
  words columns = {.n = 0};
  if ((error->constraint_kind != MB_CONSTRAINT_UNIQUE &&
          error->constraint_kind != MB_CONSTRAINT_PRIMARY_KEY) ||
      error->fields[MB_TABLE].size == 0 ||
      error->fields[MB_COLUMNS].size == 0 ||
      error->fields[MB_CONSTRAINT_NAME].size != 0)
    return;
  read_error(error, &columns);
  const bool primary = error->constraint_kind == MB_CONSTRAINT_PRIMARY_KEY;
  if (columns.n <= COLUMNS_MAX &&
      (primary || !find_index(conn, &columns, error)))
    find_in_text(conn, primary ? "primary" : "unique", &columns, error);
}
