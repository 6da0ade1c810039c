/*
 * lexer.h: cuts SQL text into tokens the way the connected database does.
 *
 * Nothing is allocated, nothing fails, and every byte belongs to exactly one
 * token.  A string, name or comment that is not ended goes on to the end of the
 * text: the database will say so.  Bytes from 0x80 on are letters, as they are
 * for all databases here, so the text may be any UTF-8 or none.  The character
 * set of the connection must be one in which no byte below 0x80 is a part of
 * another character (UTF-8 is, GBK and Shift-JIS are not).
 *
 * mb_lexical does not say everything.  Three traits of a family follow from
 * flags that only that family sets:
 *  - escape_strings: a carriage return ends a line, a number ends before
 *    letters that are no exponent (1E'\'' is 1 and a string), and an E string
 *    goes on behind a line break (PostgreSQL);
 *  - colon_casts: @ is an operator; else @x is a variable;
 *  - MB_PLACEHOLDER_NATIVE: variables have SQLite's forms, $x::y(z) too, and a
 *    byte order mark before a word is a blank.
 */
#ifndef MB_CORE_LEXER_H
#define MB_CORE_LEXER_H

#include "../driver.h"

typedef enum mb__token_kind {
  MB__TOKEN_END, /* of the text; size 0 */
  MB__TOKEN_BLANK,
  MB__TOKEN_COMMENT,
  MB__TOKEN_STRING,        /* with its quotes, E, $tag$ */
  MB__TOKEN_QUOTED,        /* a quoted name */
  MB__TOKEN_WORD,          /* a keyword or name; also a number with letters */
  MB__TOKEN_DIGITS,        /* a number, where escape_strings is set */
  MB__TOKEN_VARIABLE,      /* @x, and SQLite's $x */
  MB__TOKEN_QUESTION,      /* one ? */
  MB__TOKEN_NUMBERED,      /* $ and digits */
  MB__TOKEN_NAMED,         /* : and a word */
  MB__TOKEN_SEMICOLON,     /* one ; */
  MB__TOKEN_VERSION_OPEN,  /* the start of a versioned comment, version too */
  MB__TOKEN_VERSION_CLOSE, /* its end */
  MB__TOKEN_SYMBOL         /* ::, := or one byte that is none of the above */
} mb__token_kind;

typedef struct mb__token {
  mb__token_kind kind;
  size_t start; /* offset in the text, from 0 */
  size_t size;
} mb__token;

typedef struct mb__lexer {
  const mb_lexical *lexical;
  const char *text;
  size_t size;
  size_t position;         /* where the next token starts; may be moved */
  mb__token_kind previous; /* the token before it; END: none */
  bool versioned;          /* inside a versioned comment */
} mb__lexer;

/* Starts at the first byte.  lexical and text are borrowed for as long as the
 * lexer is used; text may be NULL when size is 0. */
void mb__lexer_open(
    mb__lexer *lexer, const mb_lexical *lexical, const char *text, size_t size);

/* The next token; at the end of the text MB__TOKEN_END, as often as asked. */
mb__token mb__lexer_next(mb__lexer *lexer);

/* True when the token is a word that equals word, whose letters are small; the
 * case of the token's ASCII letters does not matter. */
bool mb__lexer_is(
    const mb__lexer *lexer, const mb__token *token, const char *word);

/* The byte at offset at, or 0 past the end. */
static inline unsigned char mb__lexer_byte(const mb__lexer *lexer, size_t at)
{
  return at < lexer->size ? (unsigned char)lexer->text[at] : 0;
}

/* A blank of any kind, line breaks too. */
static inline bool mb__byte_is_blank(unsigned char byte)
{
  return byte == ' ' || (byte >= '\t' && byte <= '\r');
}

static inline bool mb__byte_is_digit(unsigned char byte)
{
  return byte >= '0' && byte <= '9';
}

/* A byte that may begin the name of a parameter or the tag of a dollar quote.
 */
static inline bool mb__byte_starts_name(unsigned char byte)
{
  return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
         byte == '_' || byte >= 0x80;
}

/* A byte that joins with a word beside it. */
static inline bool mb__byte_in_word(unsigned char byte)
{
  return mb__byte_starts_name(byte) || mb__byte_is_digit(byte) || byte == '$';
}

#endif
