/*
 * place.c: tells placeholders from the colons of array slices and from the ?
 * operators, which takes more than one token: the one before, and the brackets.
 */
#include "place.h"

void mb__places_open(
    mb__places *places, const mb_lexical *lexical, const char *sql, size_t size)
{
  mb__lexer_open(&places->lexer, lexical, sql, size);
  places->last = (mb__token){MB__TOKEN_END, 0, 0};
  places->depth = 0;
  places->n_subscripts = 0;
}

/* Words of an expression behind which another operand comes. */
static bool is_operator_word(const mb__places *places)
{
  static const char *const words[] = {"all", "and", "any", "array", "between",
      "case", "distinct", "else", "escape", "from", "ilike", "in", "is", "like",
      "not", "or", "select", "similar", "some", "symmetric", "then", "to",
      "when", "zone"};
  for (size_t i = 0; i < sizeof words / sizeof *words; i++)
    if (mb__lexer_is(&places->lexer, &places->last, words[i]))
      return true;
  return false;
}

static bool ends_expression(const mb__places *places)
{
  switch (places->last.kind) {
  case MB__TOKEN_WORD:
    return !is_operator_word(places);
  case MB__TOKEN_DIGITS:
  case MB__TOKEN_STRING:
  case MB__TOKEN_QUOTED:
  case MB__TOKEN_VARIABLE:
  case MB__TOKEN_QUESTION:
  case MB__TOKEN_NUMBERED:
  case MB__TOKEN_NAMED:
    return true;
  case MB__TOKEN_SYMBOL: {
    const unsigned char byte =
        mb__lexer_byte(&places->lexer, places->last.start);
    return byte == ')' || byte == ']';
  }
  default:
    return false;
  }
}

static bool in_subscript(const mb__places *places)
{
  return places->n_subscripts > 0 &&
         places->subscripts[places->n_subscripts - 1] == places->depth;
}

/* False when there are more subscripts than can be kept. */
static bool follow_brackets(mb__places *places, const mb__token *token)
{
  switch (mb__lexer_byte(&places->lexer, token->start)) {
  case '[':
    places->depth++;
    if (!ends_expression(places))
      return true;
    if (places->n_subscripts == MB__SUBSCRIPTS_MAX)
      return false;
    places->subscripts[places->n_subscripts++] = places->depth;
    return true;
  case '(':
    places->depth++;
    return true;
  case ')':
  case ']':
    if (in_subscript(places))
      places->n_subscripts--;
    if (places->depth > 0)
      places->depth--;
    return true;
  default:
    return true;
  }
}

/* ?? where ? is an operator.  Both are taken at once, and what follows comes
 * behind an operator. */
static bool take_operator(mb__places *places, mb__token *token)
{
  mb__lexer *lexer = &places->lexer;
  if (!lexer->lexical->question_operators ||
      mb__lexer_byte(lexer, lexer->position) != '?')
    return false;
  (void)mb__lexer_next(lexer);
  token->size = 2;
  places->last = (mb__token){MB__TOKEN_SYMBOL, token->start, 2};
  return true;
}

mb__place_kind mb__places_next(mb__places *places, mb__token *token)
{
  const bool slices = places->lexer.lexical->colon_casts;
  for (;;) {
    *token = mb__lexer_next(&places->lexer);
    mb__place_kind kind = MB__PLACE_END;
    switch (token->kind) {
    case MB__TOKEN_END:
      return MB__PLACE_END;
    case MB__TOKEN_BLANK:
    case MB__TOKEN_COMMENT:
      continue;
    case MB__TOKEN_QUESTION:
      if (take_operator(places, token))
        return MB__PLACE_OPERATOR;
      kind = MB__PLACE_QUESTION;
      break;
    case MB__TOKEN_NUMBERED:
      kind = MB__PLACE_NUMBER;
      break;
    case MB__TOKEN_NAMED:
      if (!in_subscript(places) || !ends_expression(places))
        kind = MB__PLACE_NAME;
      break;
    case MB__TOKEN_SYMBOL:
      if (slices && !follow_brackets(places, token))
        return MB__PLACE_TOO_DEEP;
      break;
    default:
      break;
    }
    places->last = *token;
    if (kind != MB__PLACE_END)
      return kind;
  }
}
