/*
 * place.h: walks from placeholder to placeholder of a text.
 *
 * The rules of what is none are in placeholder.h.  Nothing is allocated and
 * nothing fails.
 */
#ifndef MB_CORE_PLACE_H
#define MB_CORE_PLACE_H

#include "lexer.h"

/* Subscripts inside subscripts.  Only these are kept, so that parentheses may
 * be nested without limit. */
#define MB__SUBSCRIPTS_MAX 32

typedef enum mb__place_kind {
  MB__PLACE_END,
  MB__PLACE_QUESTION, /* a placeholder or an operator: the whole text decides */
  MB__PLACE_NUMBER,
  MB__PLACE_NAME,
  MB__PLACE_OPERATOR, /* ?? for one ?, an operator for certain */
  MB__PLACE_TOO_DEEP  /* a subscript too many: the token is its bracket */
} mb__place_kind;

typedef struct mb__places {
  mb__lexer lexer;
  mb__token last;                        /* the last one that is no blank */
  size_t depth;                          /* of brackets and parentheses */
  size_t subscripts[MB__SUBSCRIPTS_MAX]; /* the depths of the open ones */
  size_t n_subscripts;
} mb__places;

/* Starts at the first byte.  lexical and sql are borrowed for as long as places
 * is used. */
void mb__places_open(mb__places *places, const mb_lexical *lexical,
    const char *sql, size_t size);

/* The next placeholder, and its token with the sign ($, : or ?).  After
 * MB__PLACE_END and MB__PLACE_TOO_DEEP there is nothing more to ask. */
mb__place_kind mb__places_next(mb__places *places, mb__token *token);

#endif
