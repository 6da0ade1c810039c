/*
 * leftover.c: whether a text may leave something behind in its session.
 *
 * A guess by words, on the safe side: what is not plainly a read or a write is
 * taken to.  What a function of the database does cannot be seen from here;
 * for those the program says reset = "full".
 */
#include "statement.h"

#include "lexer.h"

#include <string.h>

/* First words of statements that change rows at most. */
static bool is_plain(const mb__lexer *lexer, const mb__token *token)
{
  static const char *const words[] = {"select", "insert", "update", "delete",
      "with", "values", "table", "merge", "replace", "show"};
  for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
    if (mb__lexer_is(lexer, token, words[i]))
      return true;
  return false;
}

static int small_letter(unsigned char byte)
{
  return byte >= 'A' && byte <= 'Z' ? byte - 'A' + 'a' : byte;
}

/* Whether piece, in small letters, is a part of the word. */
static bool has_piece(
    const mb__lexer *lexer, const mb__token *token, const char *piece)
{
  const size_t size = strlen(piece);
  for (size_t at = 0; at + size <= token->size; at++) {
    size_t same = 0;
    while (same < size && small_letter(mb__lexer_byte(
                              lexer, token->start + at + same)) == piece[same])
      same++;
    if (same == size)
      return true;
  }
  return false;
}

static bool is_telling(const mb__lexer *lexer, const mb__token *token,
    const mb_capability *capability)
{
  const char *const *piece = capability->session_words;
  while (piece != NULL && *piece != NULL && !has_piece(lexer, token, *piece))
    piece++;
  return piece != NULL && *piece != NULL;
}

bool mb__may_leave_something(
    const mb_capability *capability, const char *text, size_t size)
{
  mb__lexer lexer;
  bool is_first = true;
  mb__lexer_open(&lexer, &capability->lexical, text, size);
  for (;;) {
    const mb__token token = mb__lexer_next(&lexer);
    switch (token.kind) {
    case MB__TOKEN_END:
      return false;
    case MB__TOKEN_BLANK:
    case MB__TOKEN_COMMENT:
      break;
    case MB__TOKEN_SEMICOLON:
      is_first = true;
      break;
    case MB__TOKEN_SYMBOL:
      /* Parentheses around a SELECT. */
      break;
    case MB__TOKEN_VARIABLE:
      return true;
    case MB__TOKEN_WORD:
    case MB__TOKEN_QUOTED:
      if ((is_first && !is_plain(&lexer, &token)) ||
          is_telling(&lexer, &token, capability))
        return true;
      is_first = false;
      break;
    default:
      is_first = false;
    }
  }
}
