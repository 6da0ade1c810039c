/*
 * body.h: tells the semicolons that end a statement from those inside it.
 *
 * The statements of triggers and routines are not parsed; what is followed is
 * only where their bodies begin and end, as mb_compound says:
 *
 *  TRIGGER  as sqlite3_complete: CREATE [TEMP|TEMPORARY] TRIGGER, also behind
 *           EXPLAIN, goes on to "; END ;".
 *  ATOMIC   as psql: in CREATE [OR REPLACE] FUNCTION or PROCEDURE from BEGIN
 *           ATOMIC to its END, over CASE … END; and in any parentheses.
 *  ROUTINE  CREATE … PROCEDURE, FUNCTION, TRIGGER, EVENT and PACKAGE: BEGIN,
 *           IF, CASE, LOOP, WHILE, REPEAT and FOR up to their END, with labels,
 *           handlers and CASE expressions; also IF, LOOP and so on, and BEGIN
 *           NOT ATOMIC, as statements of their own (MariaDB), and bodies behind
 *           AS or IS (its mode for Oracle).  Words like end, begin and if are
 * keywords only where a statement may begin: they may be columns elsewhere.
 *
 * Nothing is allocated and nothing fails.  Where a body is not understood, the
 * statement goes on to the end of the text.
 */
#ifndef MB_CORE_BODY_H
#define MB_CORE_BODY_H

#include "lexer.h"

/* How far one statement has been read; its fields are body.c's. */
typedef struct mb__body {
  mb_compound compound;
  int state;        /* of the part that follows compound */
  size_t depth;     /* blocks that are open */
  size_t parens;    /* parentheses that are open */
  bool dotted;      /* the last token was a full stop */
  bool after_as;    /* the last token was AS */
  bool after_begin; /* the last token was BEGIN */

  /* The rest is for MB_COMPOUND_ROUTINE. */
  int handler;  /* how much of DECLARE … HANDLER FOR … has been read */
  size_t cases; /* CASE expressions that are open */
  size_t declarations; /* the depth at which BEGIN ends them; 0: none */
  bool package;        /* depth 1 is a package */
  bool function;       /* the routine has a result */
  bool returns;        /* which was given by RETURNS */
  bool at_start;       /* a statement may begin with the next token */
  bool labels;         /* the last token may be a label */
  bool after_end;      /* the last token was the END of a block */
  bool pending_end;    /* the last token was END, perhaps of a REPEAT */
} mb__body;

/* Starts a statement. */
void mb__body_open(mb__body *body, mb_compound compound);

/* Reads a token that is no blank, comment or semicolon. */
void mb__body_follow(
    mb__body *body, const mb__lexer *lexer, const mb__token *token);

/* Reads a semicolon; true when it ends the statement. */
bool mb__body_ends(mb__body *body);

#endif
