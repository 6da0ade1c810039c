/*
 * sql.c: what can be told of a text by its words.
 *
 * It errs to one side only: what is called a plain read is one, as far as the
 * functions that it calls are not writing; all else counts as a write.
 */
#include "postgres.h"

#include <string.h>

/* libpq before 17 takes a longer description for a broken connection. */
#define DESCRIBED_MAX 7000
/* Longer texts are taken for what is worst. */
#define LONG_TEXT 1000000

static bool is_letter(char byte)
{
  return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
         byte == '_' || (byte & 0x80) != 0;
}

static char lower(char byte)
{
  return byte >= 'A' && byte <= 'Z' ? (char)(byte - 'A' + 'a') : byte;
}

/* Whether the text has a word at a place, whatever its letters' case. */
static bool has_word(const char *at, const char *end, const char *word)
{
  for (; *word != '\0'; at++, word++)
    if (at == end || lower(*at) != *word)
      return false;
  return true;
}

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

/* Whether one of the words, each with a space behind it, stands anywhere: also
 * as a part of a longer word, or inside a text. */
static bool has_any(const char *at, const char *end, const char *words)
{
  char word[24];
  while (*words != '\0') {
    const size_t size = strcspn(words, " ");
    memcpy(word, words, size);
    word[size] = '\0';
    for (const char *place = at; place < end; place++)
      if (lower(*place) == word[0] && has_word(place, end, word))
        return true;
    words += size + (words[size] == ' ');
  }
  return false;
}

/* Counts what looks like a parameter; *beyond: one is $65536. */
static size_t count_dollars(const char *sql, size_t size, bool *beyond)
{
  size_t n = 0;
  const char *end = sql + size;
  *beyond = false;
  while (sql < end && (sql = memchr(sql, '$', (size_t)(end - sql))) != NULL) {
    *beyond |= has_word(sql, end, "$65536");
    n++;
    sql++;
  }
  return n;
}

/* Whether it is one of the words. */
static bool is_one_of(const char *words, const char *word)
{
  const size_t size = strlen(word);
  while (*words != '\0') {
    const size_t length = strcspn(words, " ");
    if (length == size && memcmp(words, word, size) == 0)
      return true;
    words += length + (words[length] == ' ');
  }
  return false;
}

/* The first word in small letters; cut where it is longer than any that
 * matters. */
static void read_word(const char *at, const char *end, char *out, size_t room)
{
  size_t length = 0;
  while (at + length < end && is_letter(at[length]) && length + 1 < room) {
    out[length] = lower(at[length]);
    length++;
  }
  out[length] = '\0';
}

static void judge_words(
    const char *at, const char *end, const char *first, pg_judgement *judgement)
{
  const bool read = is_one_of("select values table show explain with", first);
  const bool changes = has_any(at, end, "insert update delete merge into");
  judgement->reads_only = read && !changes && !has_any(at, end, "for analyze");
  judgement->is_query =
      !changes && is_one_of("select values table with", first);
  judgement->changes_session =
      is_one_of("set reset discard", first) || has_any(at, end, "set_config");
  judgement->is_transfer =
      judgement->is_copy && has_any(at, end, "stdin stdout");
}

pg_judgement pg_judge(const char *sql, size_t size)
{
  char first[16];
  bool beyond;
  const char *end = sql + size;
  const char *at = skip_blank(sql, end, false);
  pg_judgement judgement = {.empty = at == end, .changes_session = true};
  at = skip_blank(at, end, true);
  read_word(at, end, first, sizeof first);
  const size_t dollars = count_dollars(sql, size, &beyond);
  judgement.is_huge = dollars > DESCRIBED_MAX;
  judgement.is_too_much = dollars > PG_PARAMETERS_MAX && beyond;
  judgement.is_copy = strcmp(first, "copy") == 0;
  judgement.is_commit = is_one_of("commit end", first);
  if (size <= LONG_TEXT)
    judge_words(at, end, first, &judgement);
  return judgement;
}
