/* text.c: scripts and placeholders, for users of the library. */
#include "connection.h"
#include "place.h"
#include "placeholder.h"
#include "script.h"
#include "suggest.h"

#include <string.h>

struct mb_script {
  mb__script script;
  mb_lexical lexical; /* a copy: the connection may go */
};

mb_status mb_script_open(mb_conn *conn, const char *text, size_t size,
    mb_script **out, mb_error *error)
{
  *out = NULL;
  const char *zero = size > 0 ? memchr(text, '\0', size) : NULL;
  if (zero != NULL) {
    mb__host.fail(error, MB_USAGE, "zero byte in the script, at byte %zu",
        (size_t)(zero - text) + 1);
    error->position = (size_t)(zero - text) + 1;
    return MB_ERROR;
  }
  mb_script *opened = mb__host.allocate(sizeof *opened);
  if (opened == NULL)
    return mb__out_of_memory(error);
  opened->lexical = conn->capability->lexical;
  mb__script_open(&opened->script, &opened->lexical, text, size);
  *out = opened;
  return MB_OK;
}

bool mb_script_next(
    mb_script *script, const char **start, size_t *size, size_t *line)
{
  return mb__script_next(&script->script, start, size, line) == MB_ROW;
}

void mb_script_close(mb_script *script)
{
  mb__host.release(script);
}

/* The user's parameter that a place stands for. */
static size_t parameter_of(const mb__scan *scan, const mb__token *token,
    const char *sql, size_t nth_question)
{
  const char *name = sql + token->start + 1;
  const size_t size = token->size - 1;
  size_t number = 0;
  switch (scan->style) {
  case MB_STYLE_NUMBER:
    for (size_t i = 0; i < size; i++)
      number = number * 10 + (size_t)(name[i] - '0');
    return number - 1;
  case MB_STYLE_NAME:
    for (size_t i = 0; i < scan->n_parameters; i++)
      if (scan->names[i].size == size &&
          memcmp(scan->names[i].text, name, size) == 0)
        return i;
    return 0;
  default:
    return nth_question;
  }
}

/* Whether a place belongs to the style of the text. */
static bool counts(const mb__scan *scan, mb__place_kind kind)
{
  return (kind == MB__PLACE_QUESTION && scan->style == MB_STYLE_QUESTION) ||
         kind == MB__PLACE_NUMBER || kind == MB__PLACE_NAME;
}

size_t mb_places_bound(const char *sql, size_t size)
{
  size_t n = 0;
  for (size_t i = 0; i < size; i++)
    n += sql[i] == '?' || sql[i] == '$' || sql[i] == ':';
  return n;
}

mb_status mb_places_read(const mb_lexical *lexical, const char *sql,
    size_t size, mb_place *out, mb_places *found, mb_error *error)
{
  mb__scan scan;
  mb__places walk;
  mb__token token;
  mb__place_kind kind;
  *found = (mb_places){.n = 0};
  if (mb__scan_open(lexical, sql, size, &scan, error) != MB_OK)
    return MB_ERROR;
  mb__places_open(&walk, lexical, sql, size);
  while ((kind = mb__places_next(&walk, &token)) != MB__PLACE_END)
    if (counts(&scan, kind)) {
      out[found->n] = (mb_place){.at = token.start,
          .size = token.size,
          .parameter = parameter_of(&scan, &token, sql, found->n)};
      found->n++;
    }
  found->style = scan.style;
  found->n_parameters = scan.n_parameters;
  mb__scan_close(&scan);
  return MB_OK;
}

const char *mb_suggest(
    const char *word, size_t size, const char *const *names, size_t n)
{
  return mb__suggest(word, size, names, n);
}
