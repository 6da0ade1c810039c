/*
 * sql.c: what can be told of a text by its words.
 *
 * It errs to one side only: what is called a plain read is one, as far as the
 * functions that it calls are not writing; all else counts as a write.
 */
#include "../../src/driver_text.h"
#include "mysql.h"

#include <string.h>

/* Longer texts are taken for what is worst. */
#define LONG_TEXT 1000000

static bool is_blank(char byte)
{
  return memchr(" \t\r\n\f\v", byte, 6) != NULL;
}

static const char *skip_line(const char *at, const char *end)
{
  const char *line = memchr(at, '\n', (size_t)(end - at));
  return line != NULL ? line + 1 : end;
}

/* The inside of a versioned comment is SQL, and left where it is. */
static const char *skip_comment(const char *at, const char *end)
{
  if (at[0] == '#')
    return skip_line(at, end);
  if (end - at >= 2 && at[0] == '-' && at[1] == '-' &&
      (end - at == 2 || is_blank(at[2])))
    return skip_line(at, end);
  if (end - at < 2 || at[0] != '/' || at[1] != '*' ||
      (end - at > 2 && (at[2] == '!' || at[2] == 'M')))
    return at;
  for (at += 2; end - at >= 2; at++)
    if (at[0] == '*' && at[1] == '/')
      return at + 2;
  return end;
}

/* To the first byte that is part of a statement; brackets before a SELECT are
 * passed over too, when they are wanted to be. */
static const char *skip_blank(const char *at, const char *end, bool brackets)
{
  while (at < end) {
    const char *before = at;
    if (is_blank(*at) || *at == ';' || (brackets && *at == '('))
      at++;
    else
      at = skip_comment(at, end);
    if (at == before)
      break;
  }
  return at;
}

static void judge_words(
    const char *at, const char *end, const char *first, mq_judgement *judgement)
{
  static const char reading[] =
      "select values table show explain describe desc with help";
  /* SHOW WARNINGS and its like tell of the statement before, which a PREPARE
   * between them would be. */
  static const char in_text[] = "show explain describe desc analyze check help "
                                "checksum optimize repair call execute with "
                                "select values table";
  const bool read =
      mb_word_is_one_of(reading, first) &&
      !mb_word_occurs(at, end, "insert update delete replace into") &&
      !mb_word_occurs(at, end, "for lock nextval analyze :=");
  judgement->reads_only = read;
  judgement->inserts = mb_word_is_one_of("insert replace", first);
  judgement->writes_rows =
      mb_word_is_one_of("insert replace update delete load", first);
  judgement->gives_rows =
      judgement->writes_rows && mb_word_occurs(at, end, "returning");
  judgement->changes_session = mb_word_is_one_of(
      "set use lock unlock prepare deallocate call begin", first);
  judgement->sets_mode =
      strcmp(first, "set") == 0 && mb_word_occurs(at, end, "sql_mode");
  judgement->is_plain =
      memchr(at, '?', (size_t)(end - at)) == NULL && first[0] != '\0' &&
      !judgement->gives_rows &&
      (!mb_word_is_one_of(in_text, first) ||
          mb_word_is_one_of(
              "show check checksum optimize repair analyze help", first));
}

mq_judgement mq_judge(const char *sql, size_t size)
{
  char first[16];
  const char *end = sql + size;
  const char *at = skip_blank(sql, end, false);
  mq_judgement judgement = {.empty = at == end, .changes_session = true};
  at = skip_blank(at, end, true);
  mb_word_read(at, end, first, sizeof first);
  if (size <= LONG_TEXT)
    judge_words(at, end, first, &judgement);
  return judgement;
}

/* --- The end of a statement --------------------------------------------- */

/* Behind a string or a name in quotes; a quote that is doubled begins the next
 * one. */
static const char *skip_quoted(
    const char *at, const char *end, bool backslashes)
{
  const char quote = *at++;
  while (at < end && *at != quote)
    at += backslashes && quote != '`' && *at == '\\' && end - at > 1 ? 2 : 1;
  return at < end ? at + 1 : end;
}

/* The next byte outside of strings and comments; a word begins at its first
 * letter. */
static const char *next_token(const char *at, const char *end, bool backslashes)
{
  if (at < end && mb_word_is_letter(*at))
    while (at < end && mb_word_is_letter(*at))
      at++;
  else if (at < end && memchr("'\"`", *at, 3) != NULL)
    at = skip_quoted(at, end, backslashes);
  else if (at < end)
    at++;
  while (at < end) {
    const char *before = at;
    at = is_blank(*at) ? at + 1 : skip_comment(at, end);
    if (at == before)
      break;
  }
  return at;
}

static bool is_word(const char *at, const char *end, const char *word)
{
  const char *behind = at + strlen(word);
  return mb_word_begins(at, end, word) &&
         (behind >= end || !mb_word_is_letter(*behind));
}

/* Statements that may have others inside, with semicolons of their own. */
static bool is_compound(const char *at, const char *end)
{
  static const char *const words[] = {
      "create", "alter", "begin", "if", "loop", "while", "repeat", "for"};
  for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
    if (is_word(at, end, words[i]))
      return true;
  return false;
}

size_t mq_end_of_statement(const char *sql, size_t size, bool backslashes)
{
  const char *end = sql + size;
  if (memchr(sql, ';', size) == NULL)
    return size;
  const char *at = skip_blank(sql, end, false);
  const bool compound = is_compound(at, end);
  for (; at < end; at = next_token(at, end, backslashes))
    if (*at == ';' && (!compound || skip_blank(at, end, false) == end))
      return (size_t)(at - sql);
  return size;
}

/* --- Groups of VALUES --------------------------------------------------- */

/* Whether nothing but "on duplicate key update c = c" stands there. */
static bool skips_duplicates(const char *at, const char *end, bool backslashes)
{
  static const char *const words[] = {"on", "duplicate", "key", "update"};
  for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
    if (!is_word(at, end, words[i]))
      return false;
    at = next_token(at, end, backslashes);
  }
  const char *sign = next_token(at, end, backslashes);
  const char *again = sign < end ? next_token(sign, end, backslashes) : end;
  if (sign >= end || *sign != '=' || next_token(again, end, backslashes) < end)
    return false;
  size_t size = (size_t)(sign - at);
  while (size > 0 && is_blank(at[size - 1]))
    size--;
  return (size_t)(end - again) >= size && memcmp(at, again, size) == 0 &&
         skip_blank(again + size, end, false) == end;
}

bool mq_find_group(
    const char *sql, size_t size, bool backslashes, mq_group *out)
{
  const char *end = sql + size;
  const char *at = skip_blank(sql, end, false);
  if (!is_word(at, end, "insert") && !is_word(at, end, "replace"))
    return false;
  int depth = 0;
  for (; at < end; at = next_token(at, end, backslashes)) {
    if (depth == 0 && is_word(at, end, "values"))
      break;
    if (*at == '?')
      return false;
    depth += (*at == '(') - (*at == ')');
  }
  at = next_token(at, end, backslashes);
  if (at >= end || *at != '(')
    return false;
  out->from = (size_t)(at - sql);
  for (depth = 0; at < end; at = next_token(at, end, backslashes)) {
    depth += (*at == '(') - (*at == ')');
    if (*at == ')' && depth == 0)
      break;
  }
  if (at >= end)
    return false;
  out->to = (size_t)(at + 1 - sql);
  at = next_token(at, end, backslashes);
  out->skips = skips_duplicates(at, end, backslashes);
  /* A second group, or parameters behind: each row would have its own. */
  if (at < end && *at == ',')
    return false;
  for (; at < end; at = next_token(at, end, backslashes))
    if (*at == '?')
      return false;
  return true;
}
