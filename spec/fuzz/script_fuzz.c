/* script_fuzz.c: statements and what is between them are the whole script. */
#include "../../src/core/script.h"

#include "fuzz.h"

static bool names_delimiter(const char *text, size_t size)
{
  static const char word[] = "delimiter";
  for (size_t i = 0; i + sizeof word - 1 <= size; i++) {
    size_t j = 0;
    while (j < sizeof word - 1 && (text[i + j] | 0x20) == word[j])
      j++;
    if (j == sizeof word - 1)
      return true;
  }
  return false;
}

static bool is_mark(const char *text, size_t size)
{
  return size == 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0;
}

/* A comment that is one only where a statement could start. */
static bool skip_dashes(mb__lexer *lexer)
{
  const size_t at = lexer->position;
  if (!lexer->lexical->dash_needs_space || mb__lexer_byte(lexer, at) != '-' ||
      mb__lexer_byte(lexer, at + 1) != '-')
    return false;
  while (lexer->position < lexer->size &&
         mb__lexer_byte(lexer, lexer->position) != '\n')
    lexer->position++;
  return true;
}

/* Between statements there are only blanks, comments and semicolons. */
static void require_nothing(
    const mb_lexical *lexical, const char *text, size_t size, bool first)
{
  mb__lexer lexer;
  if (first && size >= 3 && is_mark(text, 3)) {
    text += 3;
    size -= 3;
  }
  mb__lexer_open(&lexer, lexical, text, size);
  for (;;) {
    if (skip_dashes(&lexer))
      continue;
    const mb__token token = mb__lexer_next(&lexer);
    if (token.kind == MB__TOKEN_END)
      return;
    REQUIRE(token.kind == MB__TOKEN_BLANK || token.kind == MB__TOKEN_COMMENT ||
            token.kind == MB__TOKEN_SEMICOLON);
  }
}

/* A statement that is split again stays as it is, unless its end or its start
 * mean something else at the end or the start of a text. */
static void require_one(
    const mb_lexical *lexical, const char *text, size_t size)
{
  if ((size >= 3 && is_mark(text, 3)) ||
      (lexical->dash_needs_space && size >= 2 && text[size - 1] == '-' &&
          text[size - 2] == '-'))
    return;
  mb__script script;
  const char *start;
  size_t length;
  size_t line;
  mb__script_open(&script, lexical, text, size);
  REQUIRE(mb__script_next(&script, &start, &length, &line) == MB_ROW);
  REQUIRE(start == text && length == size && line == 1);
  REQUIRE(mb__script_next(&script, &start, &length, &line) == MB_DONE);
}

static size_t count_lines(const char *text, const char *end)
{
  size_t lines = 1;
  for (; text < end; text++)
    lines += *text == '\n';
  return lines;
}

static void require_more(const mb_lexical *lexical, const char *text,
    size_t size, size_t count, size_t first_end)
{
  size_t end;
  REQUIRE(mb__script_is_more(lexical, text, size) == (count > 0));
  REQUIRE(mb__script_has_more(lexical, text, size, &end) == (count > 1));
  REQUIRE(end == first_end);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  if (size < 2)
    return 0;
  const mb_lexical lexical = fuzz_lexical(data);
  const char *text = (const char *)data + 2;
  const char *const text_end = (const char *)data + size;
  const bool usual = lexical.compound != MB_COMPOUND_ROUTINE ||
                     !names_delimiter(text, size - 2);

  mb__script script;
  const char *start;
  size_t length;
  size_t line;
  size_t count = 0;
  size_t first_end = 0;
  const char *last = text;
  mb__script_open(&script, &lexical, text, size - 2);
  while (mb__script_next(&script, &start, &length, &line) == MB_ROW) {
    REQUIRE(length > 0 && start >= last && start + length <= text_end);
    REQUIRE(!mb__byte_is_blank((unsigned char)start[0]));
    REQUIRE(line == count_lines(text, start));
    if (usual) {
      require_nothing(&lexical, last, (size_t)(start - last), count == 0);
      require_one(&lexical, start, length);
    }
    last = start + length;
    if (count++ == 0)
      first_end = (size_t)(last - text);
  }
  if (usual)
    require_nothing(&lexical, last, (size_t)(text_end - last), count == 0);
  REQUIRE(mb__script_next(&script, &start, &length, &line) == MB_DONE);
  require_more(&lexical, text, size - 2, count, first_end);
  return 0;
}
