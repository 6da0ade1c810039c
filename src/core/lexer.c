/* lexer.c: one function for each kind of token that is longer than a byte; each
 * takes an offset and answers the offset behind what it has read. */
#include "lexer.h"

#include <string.h>

void mb__lexer_open(
    mb__lexer *lexer, const mb_lexical *lexical, const char *text, size_t size)
{
  *lexer = (mb__lexer){.lexical = lexical,
      .text = text,
      .size = size,
      .previous = MB__TOKEN_END};
}

static unsigned char small_letter(unsigned char byte)
{
  return byte >= 'A' && byte <= 'Z' ? (unsigned char)(byte + 'a' - 'A') : byte;
}

bool mb__lexer_is(
    const mb__lexer *lexer, const mb__token *token, const char *word)
{
  if (token->kind != MB__TOKEN_WORD ||
      small_letter(mb__lexer_byte(lexer, token->start)) !=
          (unsigned char)word[0] ||
      strlen(word) != token->size)
    return false;
  for (size_t i = 1; i < token->size; i++)
    if (small_letter(mb__lexer_byte(lexer, token->start + i)) !=
        (unsigned char)word[i])
      return false;
  return true;
}

static bool starts_with(const mb__lexer *lexer, size_t at, const char *what)
{
  const size_t size = strlen(what);
  return lexer->size - at >= size && memcmp(lexer->text + at, what, size) == 0;
}

static bool ends_line(const mb__lexer *lexer, unsigned char byte)
{
  return byte == '\n' || (byte == '\r' && lexer->lexical->escape_strings);
}

static size_t skip_blanks(const mb__lexer *lexer, size_t at)
{
  while (mb__byte_is_blank(mb__lexer_byte(lexer, at)))
    at++;
  return at;
}

static size_t skip_line(const mb__lexer *lexer, size_t at)
{
  while (at < lexer->size && !ends_line(lexer, mb__lexer_byte(lexer, at)))
    at++;
  return at;
}

static size_t skip_digits(const mb__lexer *lexer, size_t at)
{
  while (mb__byte_is_digit(mb__lexer_byte(lexer, at)))
    at++;
  return at;
}

static size_t skip_word(const mb__lexer *lexer, size_t at)
{
  while (mb__byte_in_word(mb__lexer_byte(lexer, at)))
    at++;
  return at;
}

/* The tag of a dollar quote, which may be empty. */
static size_t skip_tag(const mb__lexer *lexer, size_t at)
{
  if (!mb__byte_starts_name(mb__lexer_byte(lexer, at)))
    return at;
  while (mb__byte_in_word(mb__lexer_byte(lexer, at)) &&
         mb__lexer_byte(lexer, at) != '$')
    at++;
  return at;
}

/* From behind the opening of a comment. */
static size_t skip_comment(const mb__lexer *lexer, size_t at)
{
  size_t depth = 1;
  while (at < lexer->size) {
    if (starts_with(lexer, at, "*/")) {
      at += 2;
      if (--depth == 0)
        return at;
    } else if (lexer->lexical->nested_comments &&
               starts_with(lexer, at, "/*")) {
      at += 2;
      depth++;
    } else {
      at++;
    }
  }
  return lexer->size;
}

/* From behind the opening quote.  A doubled quote is one inside. */
static size_t skip_quoted(
    const mb__lexer *lexer, size_t at, unsigned char quote, bool backslashes)
{
  for (; at < lexer->size; at++) {
    const unsigned char byte = mb__lexer_byte(lexer, at);
    if (byte == '\\' && backslashes)
      at++;
    else if (byte == quote) {
      if (mb__lexer_byte(lexer, at + 1) != quote)
        return at + 1;
      at++;
    }
  }
  return lexer->size;
}

/* From behind an E string: the offset behind the quote that goes on with it, or
 * 0.  Only blanks and line comments may be between, and one line break must. */
static size_t find_continuation(const mb__lexer *lexer, size_t at)
{
  bool broken = false;
  for (;;) {
    if (mb__byte_is_blank(mb__lexer_byte(lexer, at)))
      broken |= ends_line(lexer, mb__lexer_byte(lexer, at++));
    else if (at < lexer->size && starts_with(lexer, at, "--"))
      at = skip_line(lexer, at);
    else
      return broken && mb__lexer_byte(lexer, at) == '\'' ? at + 1 : 0;
  }
}

/* From behind E'.  A string that goes on behind a line break still takes
 * backslashes there: read as a plain one, its end would be another. */
static size_t skip_escape_string(const mb__lexer *lexer, size_t at)
{
  do {
    const size_t end = skip_quoted(lexer, at, '\'', true);
    at = find_continuation(lexer, end);
    if (at == 0)
      return end;
  } while (true);
}

/* From behind the opening $tag$, whose size counts both dollars.  A tag holds
 * no dollar, so no byte is compared more than twice. */
static size_t skip_dollar_string(
    const mb__lexer *lexer, size_t at, const char *tag, size_t size)
{
  while (lexer->size - at >= size) {
    const char *dollar = memchr(lexer->text + at, '$', lexer->size - at);
    if (dollar == NULL)
      break;
    at = (size_t)(dollar - lexer->text);
    if (lexer->size - at >= size && memcmp(dollar, tag, size) == 0)
      return at + size;
    at++;
  }
  return lexer->size;
}

static size_t skip_number(const mb__lexer *lexer, size_t at)
{
  at = skip_digits(lexer, at);
  if (mb__lexer_byte(lexer, at) == '.' && mb__lexer_byte(lexer, at + 1) != '.')
    at = skip_digits(lexer, at + 1);
  if (small_letter(mb__lexer_byte(lexer, at)) != 'e')
    return at;
  const unsigned char sign = mb__lexer_byte(lexer, at + 1);
  const size_t digits = at + (sign == '+' || sign == '-' ? 2 : 1);
  const size_t end = skip_digits(lexer, digits);
  return end > digits ? end : at;
}

/* SQLite's variables, from their first byte: letters, digits and ::, and in the
 * end something in parentheses, which hides whatever is inside. */
static size_t skip_native_variable(const mb__lexer *lexer, size_t at)
{
  const size_t start = at++;
  bool named = false;
  for (;;) {
    const unsigned char byte = mb__lexer_byte(lexer, at);
    if (mb__byte_in_word(byte)) {
      named = true;
      at++;
    } else if (byte == ':' && mb__lexer_byte(lexer, at + 1) == ':') {
      at += 2;
    } else {
      break;
    }
  }
  if (!named)
    return start + 1;
  if (mb__lexer_byte(lexer, at) == '(') {
    while (at < lexer->size && mb__lexer_byte(lexer, at) != ')' &&
           !mb__byte_is_blank(mb__lexer_byte(lexer, at)))
      at++;
    at += mb__lexer_byte(lexer, at) == ')';
  }
  return at;
}

/* A placeholder that ends at end, unless SQLite goes on reading there.  Bytes
 * of a word behind $1 are no part of it: the scanner refuses those. */
static mb__token_kind native_kind(
    const mb__lexer *lexer, size_t at, mb__token_kind kind, size_t *end)
{
  if (lexer->lexical->placeholder != MB_PLACEHOLDER_NATIVE ||
      mb__byte_in_word(mb__lexer_byte(lexer, *end)))
    return kind;
  const size_t variable = skip_native_variable(lexer, at);
  if (variable == *end)
    return kind;
  *end = variable;
  return MB__TOKEN_VARIABLE;
}

static mb__token_kind read_variable(
    const mb__lexer *lexer, size_t at, size_t *end)
{
  if (lexer->lexical->placeholder == MB_PLACEHOLDER_NATIVE) {
    *end = skip_native_variable(lexer, at);
  } else {
    *end = at + 1;
    while (mb__byte_in_word(mb__lexer_byte(lexer, *end)) ||
           mb__lexer_byte(lexer, *end) == '.')
      (*end)++;
  }
  return *end > at + 1 ? MB__TOKEN_VARIABLE : MB__TOKEN_SYMBOL;
}

static mb__token_kind read_dollar(
    const mb__lexer *lexer, size_t at, size_t *end)
{
  if (mb__byte_is_digit(mb__lexer_byte(lexer, at + 1))) {
    *end = skip_digits(lexer, at + 1);
    return native_kind(lexer, at, MB__TOKEN_NUMBERED, end);
  }
  if (lexer->lexical->dollar_quotes) {
    *end = skip_tag(lexer, at + 1);
    if (mb__lexer_byte(lexer, *end) == '$') {
      const size_t size = *end + 1 - at;
      *end = skip_dollar_string(lexer, *end + 1, lexer->text + at, size);
      return MB__TOKEN_STRING;
    }
    *end = at + 1;
    return MB__TOKEN_SYMBOL;
  }
  if (lexer->lexical->placeholder == MB_PLACEHOLDER_NATIVE)
    return read_variable(lexer, at, end);
  *end = skip_word(lexer, at + 1);
  return *end > at + 1 ? MB__TOKEN_WORD : MB__TOKEN_SYMBOL;
}

/* True for the colon of a label, written without blanks: x:begin. */
static bool is_label(const mb__lexer *lexer, size_t at, size_t end)
{
  static const char *const statements[] = {
      "begin", "loop", "while", "repeat", "for"};
  if (lexer->lexical->compound != MB_COMPOUND_ROUTINE ||
      (lexer->previous != MB__TOKEN_WORD &&
          lexer->previous != MB__TOKEN_QUOTED))
    return false;
  const mb__token word = {MB__TOKEN_WORD, at + 1, end - at - 1};
  for (size_t i = 0; i < sizeof statements / sizeof *statements; i++)
    if (mb__lexer_is(lexer, &word, statements[i]))
      return true;
  return false;
}

static bool starts_escape_string(const mb__lexer *lexer, size_t at)
{
  return lexer->lexical->escape_strings &&
         small_letter(mb__lexer_byte(lexer, at)) == 'e' &&
         mb__lexer_byte(lexer, at + 1) == '\'';
}

static mb__token_kind read_colon(const mb__lexer *lexer, size_t at, size_t *end)
{
  const unsigned char next = mb__lexer_byte(lexer, at + 1);
  *end = at + (next == ':' || next == '=' ? 2 : 1);
  if (next == ':' || next == '=')
    return MB__TOKEN_SYMBOL;
  if (!mb__byte_starts_name(next)) {
    if (lexer->lexical->placeholder == MB_PLACEHOLDER_NATIVE)
      return read_variable(lexer, at, end);
    return MB__TOKEN_SYMBOL;
  }
  const size_t name_end = skip_word(lexer, at + 1);
  if (is_label(lexer, at, name_end) || starts_escape_string(lexer, at + 1))
    return MB__TOKEN_SYMBOL;
  *end = name_end;
  return native_kind(lexer, at, MB__TOKEN_NAMED, end);
}

/* True where [ opens a subscript rather than a name. */
static bool is_subscript(const mb__lexer *lexer, size_t at)
{
  if (!lexer->lexical->colon_casts)
    return false;
  switch (lexer->previous) {
  case MB__TOKEN_STRING:
  case MB__TOKEN_QUOTED:
  case MB__TOKEN_WORD:
  case MB__TOKEN_QUESTION:
  case MB__TOKEN_NUMBERED:
  case MB__TOKEN_NAMED:
    return true;
  case MB__TOKEN_SYMBOL:
    return lexer->text[at - 1] == ')' || lexer->text[at - 1] == ']';
  default:
    return false;
  }
}

static mb__token_kind read_bracket(
    const mb__lexer *lexer, size_t at, size_t *end)
{
  if (is_subscript(lexer, at)) {
    *end = at + 1;
    return MB__TOKEN_SYMBOL;
  }
  const char *bracket = memchr(lexer->text + at, ']', lexer->size - at);
  *end = bracket != NULL ? (size_t)(bracket - lexer->text) + 1 : lexer->size;
  return MB__TOKEN_QUOTED;
}

/* From the exclamation mark of a versioned comment: five or six digits behind
 * it are a version, fewer are SQL. */
static size_t skip_version(const mb__lexer *lexer, size_t at)
{
  const size_t digits = skip_digits(lexer, at + 1) - (at + 1);
  return at + 1 + (digits < 5 ? 0 : digits == 5 ? 5 : 6);
}

static mb__token_kind read_slash(mb__lexer *lexer, size_t at, size_t *end)
{
  if (!starts_with(lexer, at, "/*")) {
    *end = at + 1;
    return MB__TOKEN_SYMBOL;
  }
  const bool marked = starts_with(lexer, at, "/*!");
  if (lexer->lexical->versioned_comments &&
      (marked || starts_with(lexer, at, "/*M!"))) {
    *end = skip_version(lexer, at + (marked ? 2 : 3));
    lexer->versioned = true;
    return MB__TOKEN_VERSION_OPEN;
  }
  *end = skip_comment(lexer, at + 2);
  return MB__TOKEN_COMMENT;
}

static mb__token_kind read_dash(const mb__lexer *lexer, size_t at, size_t *end)
{
  *end = at + 1;
  if (!starts_with(lexer, at, "--"))
    return MB__TOKEN_SYMBOL;
  if (lexer->lexical->dash_needs_space && at + 2 < lexer->size) {
    const unsigned char next = mb__lexer_byte(lexer, at + 2);
    if (next > ' ' && next != 0x7F)
      return MB__TOKEN_SYMBOL;
  }
  *end = skip_line(lexer, at);
  return MB__TOKEN_COMMENT;
}

static mb__token_kind read_quote(const mb__lexer *lexer, size_t at, size_t *end)
{
  const unsigned char quote = mb__lexer_byte(lexer, at);
  const bool is_string =
      quote == '\'' || (quote == '"' && lexer->lexical->double_quote_strings);
  *end = skip_quoted(
      lexer, at + 1, quote, is_string && lexer->lexical->backslash_strings);
  return is_string ? MB__TOKEN_STRING : MB__TOKEN_QUOTED;
}

static mb__token_kind read_word(const mb__lexer *lexer, size_t at, size_t *end)
{
  const unsigned char byte = mb__lexer_byte(lexer, at);
  if (lexer->lexical->escape_strings && mb__byte_is_digit(byte)) {
    *end = skip_number(lexer, at);
    return MB__TOKEN_DIGITS;
  }
  if (starts_escape_string(lexer, at)) {
    *end = skip_escape_string(lexer, at + 2);
    return MB__TOKEN_STRING;
  }
  *end = skip_word(lexer, at);
  return MB__TOKEN_WORD;
}

static mb__token_kind read_token(mb__lexer *lexer, size_t at, size_t *end)
{
  const mb_lexical *lexical = lexer->lexical;
  const unsigned char byte = mb__lexer_byte(lexer, at);

  if (mb__byte_is_blank(byte)) {
    *end = skip_blanks(lexer, at);
    return MB__TOKEN_BLANK;
  }
  if (lexical->placeholder == MB_PLACEHOLDER_NATIVE &&
      starts_with(lexer, at, "\xEF\xBB\xBF")) {
    *end = at + 3;
    return MB__TOKEN_BLANK;
  }
  if (byte != '$' && mb__byte_in_word(byte))
    return read_word(lexer, at, end);

  *end = at + 1;
  switch (byte) {
  case '\'':
  case '"':
    return read_quote(lexer, at, end);
  case '`':
    return lexical->backtick_names ? read_quote(lexer, at, end)
                                   : MB__TOKEN_SYMBOL;
  case '[':
    return lexical->bracket_names ? read_bracket(lexer, at, end)
                                  : MB__TOKEN_SYMBOL;
  case '-':
    return read_dash(lexer, at, end);
  case '/':
    return read_slash(lexer, at, end);
  case '*':
    if (!lexer->versioned || !starts_with(lexer, at, "*/"))
      return MB__TOKEN_SYMBOL;
    *end = at + 2;
    lexer->versioned = false;
    return MB__TOKEN_VERSION_CLOSE;
  case '#':
    if (lexical->hash_comments) {
      *end = skip_line(lexer, at);
      return MB__TOKEN_COMMENT;
    }
    return lexical->placeholder == MB_PLACEHOLDER_NATIVE
               ? read_variable(lexer, at, end)
               : MB__TOKEN_SYMBOL;
  case '@':
    return lexical->colon_casts ? MB__TOKEN_SYMBOL
                                : read_variable(lexer, at, end);
  case '$':
    return read_dollar(lexer, at, end);
  case ':':
    return read_colon(lexer, at, end);
  case '?':
    return MB__TOKEN_QUESTION;
  case ';':
    return MB__TOKEN_SEMICOLON;
  default:
    return MB__TOKEN_SYMBOL;
  }
}

mb__token mb__lexer_next(mb__lexer *lexer)
{
  mb__token token = {MB__TOKEN_END, lexer->position, 0};
  if (lexer->position < lexer->size) {
    token.kind = read_token(lexer, token.start, &lexer->position);
    token.size = lexer->position - token.start;
  }
  lexer->previous = token.kind;
  return token;
}
