/* script.c: lexer.c cuts the tokens, body.c knows the semicolons that do not
 * count, and here is what the mysql client adds to that. */
#include "script.h"

#include "body.h"

#include <string.h>

/* As the mysql client has it; also what makes the search linear. */
#define DELIMITER_MAX 15

void mb__script_open(mb__script *script, const mb_lexical *lexical,
    const char *text, size_t size)
{
  static const char mark[] = {'\xEF', '\xBB', '\xBF'};
  *script = (mb__script){.line = 1};
  mb__lexer_open(&script->lexer, lexical, text, size);
  if (size >= sizeof mark && memcmp(text, mark, sizeof mark) == 0)
    script->lexer.position = sizeof mark;
}

/* --- Delimiters --------------------------------------------------------- */

static bool is_line_end(unsigned char byte)
{
  return byte == '\n' || byte == '\r';
}

/* Behind the word DELIMITER: reads the rest of the line.  False when it names
 * no delimiter, so that the word is none of ours. */
static bool read_delimiter(mb__script *script)
{
  mb__lexer *lexer = &script->lexer;
  size_t at = lexer->position;
  while (mb__byte_is_blank(mb__lexer_byte(lexer, at)) &&
         !is_line_end(mb__lexer_byte(lexer, at)))
    at++;
  if (at == lexer->position)
    return false;

  unsigned char quote = mb__lexer_byte(lexer, at);
  if (quote == '\'' || quote == '"' || quote == '`')
    at++;
  else
    quote = 0;
  size_t end = at;
  while (end < lexer->size && !is_line_end(mb__lexer_byte(lexer, end)) &&
         (quote != 0 ? mb__lexer_byte(lexer, end) != quote
                     : !mb__byte_is_blank(mb__lexer_byte(lexer, end))))
    end++;
  if (end == at || end - at > DELIMITER_MAX)
    return false;

  const bool usual = end == at + 1 && lexer->text[at] == ';';
  script->delimiter = usual ? NULL : lexer->text + at;
  script->delimiter_size = usual ? 0 : end - at;
  while (end < lexer->size && !is_line_end(mb__lexer_byte(lexer, end)))
    end++;
  lexer->position = end;
  return true;
}

static bool delimiter_is_word(const mb__script *script)
{
  const unsigned char byte = (unsigned char)script->delimiter[0];
  return mb__byte_in_word(byte) && byte != '$';
}

static bool is_delimiter(const mb__script *script, size_t at)
{
  const mb__lexer *lexer = &script->lexer;
  const size_t size = script->delimiter_size;
  return size > 0 && !lexer->versioned && lexer->size - at >= size &&
         memcmp(lexer->text + at, script->delimiter, size) == 0 &&
         (!delimiter_is_word(script) ||
             !mb__byte_in_word(mb__lexer_byte(lexer, at + size)));
}

/* Cuts a token off where the delimiter starts inside it. */
static void cut_token(mb__script *script, mb__token *token)
{
  switch (token->kind) {
  case MB__TOKEN_BLANK:
  case MB__TOKEN_COMMENT:
  case MB__TOKEN_STRING:
  case MB__TOKEN_QUOTED:
  case MB__TOKEN_VERSION_OPEN:
  case MB__TOKEN_VERSION_CLOSE:
    return;
  default:
    break;
  }
  if (script->delimiter_size == 0 || delimiter_is_word(script))
    return;
  for (size_t i = 1; i < token->size; i++)
    if (is_delimiter(script, token->start + i)) {
      token->size = i;
      script->lexer.position = token->start + i;
      return;
    }
}

/* --- Statements --------------------------------------------------------- */

static size_t count_lines(mb__script *script, size_t at)
{
  const char *text = script->lexer.text;
  while (script->counted < at) {
    const char *line_end =
        memchr(text + script->counted, '\n', at - script->counted);
    if (line_end == NULL) {
      script->counted = at;
    } else {
      script->counted = (size_t)(line_end - text) + 1;
      script->line++;
    }
  }
  return script->line;
}

/* Reads past a delimiter, if one is next. */
static bool take_delimiter(mb__script *script)
{
  if (!is_delimiter(script, script->lexer.position))
    return false;
  script->lexer.position += script->delimiter_size;
  script->lexer.previous = MB__TOKEN_SEMICOLON;
  return true;
}

/* Reads past a line that starts with --, without a blank behind it: for the
 * client it is a comment where a statement could start. */
static bool take_dashes(mb__script *script)
{
  mb__lexer *lexer = &script->lexer;
  const size_t left = lexer->size - lexer->position;
  const char *text = left > 0 ? lexer->text + lexer->position : NULL;
  if (!lexer->lexical->dash_needs_space || left < 2 ||
      memcmp(text, "--", 2) != 0)
    return false;
  const char *line_end = memchr(text, '\n', left);
  lexer->position =
      line_end != NULL ? (size_t)(line_end - lexer->text) : lexer->size;
  return true;
}

/* True for a semicolon that ends the statement that body follows. */
static bool ends_statement(
    const mb__script *script, mb__body *body, const mb__token *token)
{
  return token->kind == MB__TOKEN_SEMICOLON && script->delimiter_size == 0 &&
         mb__body_ends(body) && !script->lexer.versioned;
}

mb_status mb__script_next(
    mb__script *script, const char **start, size_t *size, size_t *line)
{
  mb__lexer *lexer = &script->lexer;
  const mb_compound compound = lexer->lexical->compound;
  size_t from = 0;
  size_t to = 0; /* 0: the statement has not begun */
  mb__body body;
  mb__body_open(&body, compound);
  for (;;) {
    if (take_delimiter(script)) {
      if (to > 0)
        break;
      continue;
    }
    if (to == 0 && take_dashes(script))
      continue;
    mb__token token = mb__lexer_next(lexer);
    if (token.kind == MB__TOKEN_END)
      break;
    if (token.kind == MB__TOKEN_BLANK || token.kind == MB__TOKEN_COMMENT)
      continue;
    if (to == 0 && compound == MB_COMPOUND_ROUTINE &&
        mb__lexer_is(lexer, &token, "delimiter") && read_delimiter(script))
      continue;
    cut_token(script, &token);
    if (ends_statement(script, &body, &token)) {
      if (to > 0)
        break;
      continue;
    }
    if (to == 0)
      from = token.start;
    to = token.start + token.size;
    if (token.kind != MB__TOKEN_SEMICOLON)
      mb__body_follow(&body, lexer, &token);
  }
  if (to == 0)
    return MB_DONE;
  *start = lexer->text + from;
  *size = to - from;
  *line = count_lines(script, from);
  return MB_ROW;
}

bool mb__script_is_more(
    const mb_lexical *lexical, const char *text, size_t size)
{
  mb__script script;
  const char *start;
  size_t length;
  size_t line;
  mb__script_open(&script, lexical, text, size);
  return mb__script_next(&script, &start, &length, &line) == MB_ROW;
}

bool mb__script_has_more(
    const mb_lexical *lexical, const char *text, size_t size, size_t *end)
{
  mb__script script;
  const char *start;
  size_t length;
  size_t line;
  *end = 0;
  mb__script_open(&script, lexical, text, size);
  if (mb__script_next(&script, &start, &length, &line) == MB_DONE)
    return false;
  *end = (size_t)(start - text) + length;
  return mb__script_next(&script, &start, &length, &line) == MB_ROW;
}
