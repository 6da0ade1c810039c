/* test_driver_text.c: the words of a statement. */
#include "test_driver_parts.h"

#include <stdlib.h>
#include <string.h>

/* A text that is being read; words are separated by blanks and commas. */
typedef struct reader {
  const char *text;
  size_t size, at;
} reader;

typedef struct word {
  const char *text;
  size_t size;
} word;

static bool is_blank(char byte)
{
  return byte == ' ' || byte == '\t' || byte == '\n' || byte == ',';
}

static bool next_word(reader *from, word *out)
{
  while (from->at < from->size && is_blank(from->text[from->at]))
    from->at++;
  out->text = from->text + from->at;
  while (from->at < from->size && !is_blank(from->text[from->at]) &&
         from->text[from->at] != ';')
    from->at++;
  out->size = (size_t)(from->text + from->at - out->text);
  return out->size > 0;
}

static bool is(const word *one, const char *text)
{
  return one->size == strlen(text) && memcmp(one->text, text, one->size) == 0;
}

static void count_parameter(td_program *program, const word *one)
{
  if (one->text[0] == '?')
    program->n_parameters++;
  if (one->text[0] == '$') {
    const size_t number = (size_t)strtoul(one->text + 1, NULL, 10);
    if (number > program->n_parameters)
      program->n_parameters = number;
  }
}

/* The number behind a word; a parameter stands for -1. */
static int64_t read_number(reader *from, td_program *program)
{
  word one;
  if (!next_word(from, &one))
    return 0;
  count_parameter(program, &one);
  if (one.text[0] == '?' || one.text[0] == '$')
    return -1;
  return strtoll(one.text, NULL, 10);
}

static void read_name(reader *from, td_program *program)
{
  word one;
  if (!next_word(from, &one))
    return;
  const size_t size =
      one.size < sizeof program->name ? one.size : sizeof program->name - 1;
  memcpy(program->name, one.text, size);
}

static td_verb read_verb(reader *from, td_program *program)
{
  static const struct {
    const char *word;
    td_verb verb;
    bool has_number, has_name;
  } verbs[] = {
      {"rows", TD_ROWS, true, false},
      {"select", TD_ROWS, true, false},
      {"echo", TD_ECHO, false, false},
      {"count", TD_COUNT, false, false},
      {"put", TD_PUT, true, false},
      {"affected", TD_AFFECTED, true, false},
      {"session", TD_SESSION, false, false},
      {"notice", TD_NOTICE, false, true},
      {"begin", TD_SQL_BEGIN, false, false},
      {"start", TD_SQL_BEGIN, false, false},
      {"commit", TD_SQL_COMMIT, false, false},
      {"savepoint", TD_SQL_SAVEPOINT, false, true},
  };
  word one;
  if (!next_word(from, &one)) {
    program->empty = true;
    return TD_NOTHING;
  }
  for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
    if (is(&one, verbs[i].word)) {
      if (verbs[i].has_number)
        program->n = read_number(from, program);
      if (verbs[i].has_name)
        read_name(from, program);
      return verbs[i].verb;
    }
  if (is(&one, "release") && next_word(from, &one)) {
    read_name(from, program);
    return TD_SQL_RELEASE;
  }
  if (is(&one, "rollback")) {
    if (!next_word(from, &one) || !next_word(from, &one))
      return TD_SQL_ROLLBACK;
    read_name(from, program);
    return TD_SQL_ROLLBACK_TO;
  }
  return TD_UNKNOWN;
}

td_program td_read(const char *text, size_t size)
{
  td_program program = {.columns = 2, .results = 1};
  reader from = {.text = text, .size = size};
  word one;
  program.verb = read_verb(&from, &program);
  while (next_word(&from, &one)) {
    if (is(&one, "cols"))
      program.columns = read_number(&from, &program);
    else if (is(&one, "break"))
      program.breaks = read_number(&from, &program);
    else if (is(&one, "results"))
      program.results = read_number(&from, &program);
    else if (is(&one, "returning"))
      program.returning = true;
    else
      count_parameter(&program, &one);
  }
  program.consumed = from.at + (from.at < size);
  const char *wrong = memchr(text, '!', program.consumed);
  if (wrong != NULL || program.verb == TD_UNKNOWN)
    program.wrong_at = wrong != NULL ? (size_t)(wrong - text) + 1 : 1;
  return program;
}

bool td_only_reads(const td_program *program)
{
  return program->verb == TD_ROWS || program->verb == TD_ECHO ||
         program->verb == TD_COUNT;
}

bool td_gives_rows(const td_program *program)
{
  return td_only_reads(program) ||
         (program->verb == TD_PUT && program->returning);
}
