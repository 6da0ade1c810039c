/*
 * placeholder.c: reads the text twice, first to learn its style and how much
 * memory the rest takes, then to fill the one block in which all of it lies.
 */
#include "placeholder.h"

#include "host.h"
#include "place.h"

#include <stdio.h>
#include <string.h>

/* What a placeholder grows by at most: $, six digits, a blank on each side. */
#define GROWTH_MAX 9

/* Tables up to this many entries need no memory of their own. */
#define SMALL_TABLE 64

/* --- The first time: what kind of text it is ---------------------------- */

struct survey {
  mb_style style;
  size_t n;           /* placeholders */
  size_t n_operators; /* ?? */
  size_t greatest;    /* number */
  bool joins;         /* a ? has a byte of a word right behind it */
  size_t digit_at;    /* a ? with a digit behind it: byte from 1; 0: none */
};

static mb_status fail_at(mb_error *error, size_t byte)
{
  error->position = byte;
  return MB_ERROR;
}

static mb_status refuse_style(
    mb_error *error, mb_style first, mb_style second, size_t byte)
{
  static const char *const names[] = {"", "?", "$1", ":name"};
  (void)mb__host.fail(error, MB_USAGE,
      "both %s and %s as placeholders of one statement, the second at byte %zu",
      names[first], names[second], byte);
  return fail_at(error, byte);
}

static mb_status refuse_place(
    mb_error *error, const char *what, const mb__token *token)
{
  (void)mb__host.fail(
      error, MB_USAGE, "placeholder at byte %zu: %s", token->start + 1, what);
  return fail_at(error, token->start + 1);
}

/* The number of a $1. */
static mb_status read_number(
    const char *sql, const mb__token *token, size_t *number, mb_error *error)
{
  const char *digits = sql + token->start + 1;
  *number = 0;
  if (digits[0] == '0')
    return refuse_place(error,
        token->size == 2 ? "numbers start at $1" : "a number starts with 0",
        token);
  for (size_t i = 0; i < token->size - 1; i++) {
    *number = *number * 10 + (size_t)(digits[i] - '0');
    if (*number > MB__PLACES_MAX)
      return refuse_place(error, "the number is too great", token);
  }
  return MB_OK;
}

static mb_status survey_place(struct survey *survey, const mb__lexer *lexer,
    mb__place_kind kind, const mb__token *token, mb_error *error)
{
  const size_t byte = token->start + 1;
  const unsigned char next = mb__lexer_byte(lexer, token->start + token->size);
  const mb_style style = kind == MB__PLACE_NUMBER ? MB_STYLE_NUMBER
                         : kind == MB__PLACE_NAME ? MB_STYLE_NAME
                                                  : MB_STYLE_QUESTION;

  if (survey->style != style && survey->style != MB_STYLE_NONE)
    return refuse_style(error, survey->style, style, byte);
  survey->style = style;
  if (survey->n++ == MB__PLACES_MAX) {
    (void)mb__host.fail(
        error, MB_USAGE, "more than %d placeholders", MB__PLACES_MAX);
    return fail_at(error, byte);
  }

  if (style == MB_STYLE_QUESTION) {
    survey->joins |= mb__byte_in_word(next);
    if (mb__byte_is_digit(next) && survey->digit_at == 0)
      survey->digit_at = byte;
    return MB_OK;
  }
  if (style == MB_STYLE_NAME)
    return memchr(lexer->text + token->start, '$', token->size) == NULL
               ? MB_OK
               : refuse_place(error, "$ in its name", token);
  if (mb__byte_in_word(next))
    return refuse_place(error, "no blank behind its number", token);
  size_t number;
  if (read_number(lexer->text, token, &number, error) != MB_OK)
    return MB_ERROR;
  if (number > survey->greatest)
    survey->greatest = number;
  return MB_OK;
}

/* Says which number to write, when it is one. */
static mb_status refuse_digit(
    const char *sql, size_t size, size_t byte, mb_error *error)
{
  size_t n = 0;
  while (n < 6 && byte + n < size &&
         mb__byte_is_digit((unsigned char)sql[byte + n]))
    n++;
  (void)mb__host.fail(error, MB_USAGE,
      "?%.*s is no placeholder: write $%.*s, at byte %zu", (int)n, sql + byte,
      (int)n, sql + byte, byte);
  return fail_at(error, byte);
}

static mb_status survey_text(const mb_lexical *lexical, const char *sql,
    size_t size, struct survey *out, mb_error *error)
{
  struct survey questions = {.style = MB_STYLE_NONE};
  mb__places places;
  mb__token token;
  mb__place_kind kind;
  *out = questions;
  mb__places_open(&places, lexical, sql, size);
  while ((kind = mb__places_next(&places, &token)) != MB__PLACE_END) {
    if (kind == MB__PLACE_TOO_DEEP)
      return refuse_place(error, "subscripts are nested too deep", &token);
    if (kind == MB__PLACE_OPERATOR) {
      out->n_operators++;
      continue;
    }
    /* Where ? may be an operator, those are counted by themselves. */
    struct survey *counted =
        kind == MB__PLACE_QUESTION && lexical->question_operators ? &questions
                                                                  : out;
    if (survey_place(counted, &places.lexer, kind, &token, error) != MB_OK)
      return MB_ERROR;
  }
  if (out->style == MB_STYLE_NONE) {
    questions.n_operators = out->n_operators;
    *out = questions;
  }
  if (out->digit_at != 0)
    return refuse_digit(sql, size, out->digit_at, error);
  return MB_OK;
}

/* --- The second time: the result ---------------------------------------- */

struct filler {
  const mb_lexical *lexical;
  const char *sql;
  size_t size;
  mb__scan *scan;
  bool keeps;      /* placeholders are sent as they stand */
  bool by_number;  /* and the database numbers them as the user does */
  bool writes;     /* the text that is sent may be another */
  bool changed;    /* and is */
  bool reordered;  /* order is not 0, 1, 2 … */
  size_t copied;   /* of the user's text, up to here */
  uint32_t *table; /* names: hash table of indexes from 1; numbers: used */
  size_t table_size;
};

static bool add_size(size_t *total, size_t count, size_t size)
{
  if (count > (SIZE_MAX - *total) / size)
    return false;
  *total += count * size;
  return true;
}

/* One block for all: edits, names, order, text. */
static mb_status allocate_result(
    struct filler *filler, const struct survey *survey, mb_error *error)
{
  mb__scan *scan = filler->scan;
  const size_t n_edits = filler->writes ? survey->n + survey->n_operators : 0;
  const size_t n_names = survey->style == MB_STYLE_NAME ? survey->n : 0;
  size_t total = 0;
  if (!add_size(&total, n_edits, sizeof *scan->edits) ||
      !add_size(&total, n_names, sizeof *scan->names) ||
      !add_size(&total, survey->n, sizeof *scan->order) ||
      (filler->writes && (!add_size(&total, survey->n, GROWTH_MAX) ||
                             !add_size(&total, filler->size, 1))) ||
      !add_size(&total, 1, 1))
    return mb__out_of_memory(error);

  char *memory = mb__host.allocate(total);
  if (memory == NULL)
    return mb__out_of_memory(error);
  scan->memory = memory;
  scan->edits = (mb__edit *)(void *)memory;
  memory += n_edits * sizeof *scan->edits;
  scan->names = (mb__name *)(void *)memory;
  memory += n_names * sizeof *scan->names;
  scan->order = (uint32_t *)(void *)memory;
  memory += survey->n * sizeof *scan->order;
  scan->sent = memory;
  return MB_OK;
}

/* The index of a name, which is new when it is scan->n_parameters. */
static size_t find_name(struct filler *filler, const char *text, size_t size)
{
  mb__scan *scan = filler->scan;
  /* It starts from an address, so that nobody can choose names that collide. */
  uint64_t hash = 14695981039346656037u ^ (uintptr_t)scan->memory;
  for (size_t i = 0; i < size; i++)
    hash = (hash ^ (unsigned char)text[i]) * 1099511628211u;
  hash ^= hash >> 32;

  size_t slot = (size_t)hash & (filler->table_size - 1);
  for (; filler->table[slot] != 0;
       slot = (slot + 1) & (filler->table_size - 1)) {
    const size_t index = filler->table[slot] - 1;
    if (scan->names[index].size == size &&
        memcmp(scan->names[index].text, text, size) == 0)
      return index;
  }
  filler->table[slot] = (uint32_t)(scan->n_parameters + 1);
  scan->names[scan->n_parameters] = (mb__name){text, size};
  return scan->n_parameters;
}

/* The parameter of a placeholder; *again tells whether it was there before. */
static size_t find_parameter(struct filler *filler, mb__place_kind kind,
    const mb__token *token, bool *again)
{
  mb__scan *scan = filler->scan;
  const char *text = filler->sql + token->start + 1;
  size_t index = scan->n_parameters;
  *again = false;
  if (kind == MB__PLACE_NAME) {
    index = find_name(filler, text, token->size - 1);
    *again = index < scan->n_parameters;
  } else if (kind == MB__PLACE_NUMBER) {
    size_t number = 0;
    for (size_t i = 0; i < token->size - 1; i++)
      number = number * 10 + (size_t)(text[i] - '0');
    index = number - 1;
    if (index < filler->table_size) {
      *again = filler->table[index] != 0;
      filler->table[index] = 1;
    }
    return index;
  }
  if (!*again)
    scan->n_parameters++;
  return index;
}

static void put(struct filler *filler, const char *text, size_t size)
{
  if (size > 0)
    memcpy(filler->scan->sent + filler->scan->sent_size, text, size);
  filler->scan->sent_size += size;
}

/* A $1 right behind one of these would be a part of a name or variable. */
static bool joins_dollar(char byte)
{
  return mb__byte_in_word((unsigned char)byte) || byte == '@' || byte == '.';
}

/* Writes what stands for a token, and all before it that is not written. */
static void rewrite(
    struct filler *filler, mb__place_kind kind, const mb__token *token)
{
  mb__scan *scan = filler->scan;
  const bool dollar = filler->lexical->placeholder == MB_PLACEHOLDER_DOLLAR;
  const size_t end = token->start + token->size;
  char text[GROWTH_MAX] = "?";
  int size = 1;

  put(filler, filler->sql + filler->copied, token->start - filler->copied);
  const size_t from = scan->sent_size;
  if (kind != MB__PLACE_OPERATOR && dollar) {
    size = snprintf(text, sizeof text, "$%zu", scan->n_places);
    if (from > 0 && joins_dollar(scan->sent[from - 1]))
      put(filler, " ", 1);
  }
  put(filler, text, (size_t)size);
  if (kind != MB__PLACE_OPERATOR && end < filler->size &&
      mb__byte_in_word((unsigned char)filler->sql[end]))
    put(filler, " ", 1);

  filler->changed |=
      scan->sent_size - from != token->size ||
      memcmp(scan->sent + from, filler->sql + token->start, token->size) != 0;
  filler->copied = end;
  scan->edits[scan->n_edits++] = (mb__edit){token->start, end, scan->sent_size};
}

static void fill(struct filler *filler, mb_style style)
{
  mb__scan *scan = filler->scan;
  mb__places places;
  mb__token token;
  mb__place_kind kind;
  mb__places_open(&places, filler->lexical, filler->sql, filler->size);
  while ((kind = mb__places_next(&places, &token)) != MB__PLACE_END) {
    if (kind == MB__PLACE_QUESTION && style != MB_STYLE_QUESTION)
      continue;
    if (kind != MB__PLACE_OPERATOR) {
      bool again;
      const size_t index = find_parameter(filler, kind, &token, &again);
      if (!again || !filler->keeps) {
        filler->reordered |= index != scan->n_places;
        scan->order[scan->n_places++] = (uint32_t)index;
      }
    }
    if (kind == MB__PLACE_OPERATOR || !filler->keeps)
      rewrite(filler, kind, &token);
  }
  if (filler->writes) {
    put(filler, filler->sql + filler->copied, filler->size - filler->copied);
    scan->sent[scan->sent_size] = '\0';
  }
}

/* Numbers must all be used: one of the first n + 1 is free when there are n
 * placeholders and a greater number than n. */
static mb_status check_numbers(
    const struct filler *filler, const struct survey *survey, mb_error *error)
{
  for (size_t i = 0; i < survey->greatest && i < filler->table_size; i++)
    if (filler->table[i] == 0)
      return mb__host.fail(
          error, MB_USAGE, "parameter $%zu is not used", i + 1);
  filler->scan->n_parameters = survey->greatest;
  return MB_OK;
}

static size_t choose_table_size(const struct survey *survey)
{
  size_t size = 1;
  switch (survey->style) {
  case MB_STYLE_NUMBER:
    return survey->greatest <= survey->n ? survey->greatest : survey->n + 1;
  case MB_STYLE_NAME:
    while (size < survey->n * 2)
      size *= 2;
    return size;
  default:
    return 0;
  }
}

/* Lets go of what turned out to say nothing. */
static void tidy(struct filler *filler)
{
  mb__scan *scan = filler->scan;
  if (!filler->changed) {
    scan->sent = NULL;
    scan->sent_size = 0;
    scan->edits = NULL;
    scan->n_edits = 0;
  }
  if (filler->by_number)
    filler->reordered = false;
  if (!filler->reordered && scan->n_places == scan->n_parameters)
    scan->order = NULL;
  if (scan->style != MB_STYLE_NAME)
    scan->names = NULL;
  if (scan->sent == NULL && scan->order == NULL && scan->names == NULL) {
    mb__host.release(scan->memory);
    scan->memory = NULL;
  }
}

static mb_status build(
    struct filler *filler, const struct survey *survey, mb_error *error)
{
  uint32_t small[SMALL_TABLE];
  filler->table_size = choose_table_size(survey);
  filler->table = small;
  if (filler->table_size > SMALL_TABLE) {
    filler->table =
        mb__allocate_zeroed(filler->table_size, sizeof *filler->table);
    if (filler->table == NULL)
      return mb__out_of_memory(error);
  } else {
    memset(small, 0, sizeof small);
  }

  mb_status status = allocate_result(filler, survey, error);
  if (status == MB_OK) {
    filler->scan->style = survey->style;
    fill(filler, survey->style);
    if (survey->style == MB_STYLE_NUMBER)
      status = check_numbers(filler, survey, error);
  }
  if (filler->table != small)
    mb__host.release(filler->table);
  filler->table = NULL;
  return status;
}

mb_status mb__scan_open(const mb_lexical *lexical, const char *sql, size_t size,
    mb__scan *out, mb_error *error)
{
  *out = (mb__scan){.style = MB_STYLE_NONE};
  const char *zero = size > 0 ? memchr(sql, '\0', size) : NULL;
  if (zero != NULL) {
    const size_t byte = (size_t)(zero - sql) + 1;
    (void)mb__host.fail(
        error, MB_USAGE, "zero byte in the text, at byte %zu", byte);
    return fail_at(error, byte);
  }

  struct survey survey;
  if (survey_text(lexical, sql, size, &survey, error) != MB_OK)
    return MB_ERROR;

  const bool native = lexical->placeholder == MB_PLACEHOLDER_NATIVE;
  const bool by_number = survey.style == MB_STYLE_NUMBER &&
                         lexical->placeholder == MB_PLACEHOLDER_DOLLAR;
  const bool same = survey.style == MB_STYLE_NONE ||
                    (survey.style == MB_STYLE_QUESTION &&
                        lexical->placeholder != MB_PLACEHOLDER_DOLLAR &&
                        (native || !survey.joins));
  if (same && survey.n_operators == 0) {
    out->style = survey.style;
    out->n_parameters = survey.n;
    out->n_places = survey.n;
    return MB_OK;
  }

  struct filler filler = {.lexical = lexical,
      .sql = sql,
      .size = size,
      .scan = out,
      .keeps = native || by_number,
      .by_number = by_number,
      .writes = !(native || by_number) || survey.n_operators > 0};
  mb_status status = build(&filler, &survey, error);
  if (status == MB_OK && native && out->n_parameters > MB__NATIVE_MAX &&
      survey.style != MB_STYLE_QUESTION) {
    mb__scan_close(out);
    filler = (struct filler){.lexical = lexical,
        .sql = sql,
        .size = size,
        .scan = out,
        .writes = true};
    status = build(&filler, &survey, error);
  }
  if (status != MB_OK) {
    mb__scan_close(out);
    return MB_ERROR;
  }
  tidy(&filler);
  return MB_OK;
}

void mb__scan_close(mb__scan *scan)
{
  mb__host.release(scan->memory);
  *scan = (mb__scan){.style = MB_STYLE_NONE};
}

size_t mb__scan_position(const mb__scan *scan, size_t sent_position)
{
  if (sent_position == 0 || scan->sent == NULL)
    return sent_position;
  const size_t at =
      sent_position <= scan->sent_size ? sent_position - 1 : scan->sent_size;
  /* The first edit that ends behind at: [0, low) end at it or before. */
  size_t low = 0;
  size_t high = scan->n_edits;
  while (low < high) {
    const size_t middle = low + (high - low) / 2;
    if (scan->edits[middle].sent_end <= at)
      low = middle + 1;
    else
      high = middle;
  }
  size_t found = at;
  if (low > 0)
    found = scan->edits[low - 1].text_end + at - scan->edits[low - 1].sent_end;
  if (low < scan->n_edits && found > scan->edits[low].text_start)
    found = scan->edits[low].text_start;
  return found + 1;
}
