/*
 * sql.c: what can be told of a text by its words.
 *
 * It errs to one side only: what is called a plain read is one, as far as the
 * functions that it calls are not writing; all else counts as a write.
 */
#include "../../src/driver_text.h"
#include "postgres.h"

#include <string.h>

/* libpq before 17 takes a longer description for a broken connection. */
#define DESCRIBED_MAX 7000
/* Longer texts are taken for what is worst. */
#define LONG_TEXT 1000000

/* Behind a comment, which may have others inside. */
static const char *skip_comment(const char *at, const char *end)
{
  int depth = 0;
  for (; at < end; at++) {
    if (end - at >= 2 && at[0] == '/' && at[1] == '*') {
      depth++;
      at++;
    } else if (end - at >= 2 && at[0] == '*' && at[1] == '/') {
      at++;
      if (--depth == 0)
        return at + 1;
    }
  }
  return end;
}

/* To the first byte that is part of a statement; brackets before a SELECT are
 * passed over too, when they are wanted to be. */
static const char *skip_blank(const char *at, const char *end, bool brackets)
{
  while (at < end) {
    if (memchr(" \t\r\n\f\v;", *at, 7) != NULL || (brackets && *at == '('))
      at++;
    else if (end - at >= 2 && at[0] == '-' && at[1] == '-')
      while (at < end && *at != '\n' && *at != '\r')
        at++;
    else if (end - at >= 2 && at[0] == '/' && at[1] == '*')
      at = skip_comment(at, end);
    else
      break;
  }
  return at;
}

/* Counts what looks like a parameter; *beyond: one is $65536. */
static size_t count_dollars(const char *sql, size_t size, bool *beyond)
{
  size_t n = 0;
  const char *end = sql + size;
  *beyond = false;
  while (sql < end && (sql = memchr(sql, '$', (size_t)(end - sql))) != NULL) {
    *beyond |= mb_word_begins(sql, end, "$65536");
    n++;
    sql++;
  }
  return n;
}

static void judge_words(
    const char *at, const char *end, const char *first, pg_judgement *judgement)
{
  const bool read =
      mb_word_is_one_of("select values table show explain with", first);
  const bool changes =
      mb_word_occurs(at, end, "insert update delete merge into");
  judgement->reads_only =
      read && !changes && !mb_word_occurs(at, end, "for analyze");
  judgement->is_query =
      !changes && mb_word_is_one_of("select values table with", first);
  judgement->changes_session = mb_word_is_one_of("set reset discard", first) ||
                               mb_word_occurs(at, end, "set_config");
  judgement->is_transfer =
      judgement->is_copy && mb_word_occurs(at, end, "stdin stdout");
}

pg_judgement pg_judge(const char *sql, size_t size)
{
  char first[16];
  bool beyond;
  const char *end = sql + size;
  const char *at = skip_blank(sql, end, false);
  pg_judgement judgement = {.empty = at == end, .changes_session = true};
  at = skip_blank(at, end, true);
  mb_word_read(at, end, first, sizeof first);
  const size_t dollars = count_dollars(sql, size, &beyond);
  judgement.is_huge = dollars > DESCRIBED_MAX;
  judgement.is_too_much = dollars > PG_PARAMETERS_MAX && beyond;
  judgement.is_copy = strcmp(first, "copy") == 0;
  judgement.is_commit = mb_word_is_one_of("commit end", first);
  if (size <= LONG_TEXT)
    judge_words(at, end, first, &judgement);
  return judgement;
}
