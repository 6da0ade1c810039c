/* body.c: a small automaton for each family of databases, fed with keywords. */
#include "body.h"

#include <string.h>

void mb__body_open(mb__body *body, mb_compound compound)
{
  *body = (mb__body){.compound = compound};
}

/* --- Keywords ----------------------------------------------------------- */

#define KEYWORDS(X)         \
  X(AGGREGATE, "aggregate") \
  X(ALTER, "alter")         \
  X(AS, "as")               \
  X(ATOMIC, "atomic")       \
  X(BEGIN, "begin")         \
  X(CASE, "case")           \
  X(CREATE, "create")       \
  X(DEFINER, "definer")     \
  X(DO, "do")               \
  X(ELSE, "else")           \
  X(END, "end")             \
  X(EVENT, "event")         \
  X(EXPLAIN, "explain")     \
  X(FOLLOWS, "follows")     \
  X(FOR, "for")             \
  X(FUNCTION, "function")   \
  X(HANDLER, "handler")     \
  X(IF, "if")               \
  X(IS, "is")               \
  X(LOOP, "loop")           \
  X(NOT, "not")             \
  X(OR, "or")               \
  X(PACKAGE, "package")     \
  X(PRECEDES, "precedes")   \
  X(PROCEDURE, "procedure") \
  X(REPEAT, "repeat")       \
  X(REPLACE, "replace")     \
  X(RETURN, "return")       \
  X(RETURNS, "returns")     \
  X(ROW, "row")             \
  X(SQLSTATE, "sqlstate")   \
  X(TEMP, "temp")           \
  X(TEMPORARY, "temporary") \
  X(THEN, "then")           \
  X(TRIGGER, "trigger")     \
  X(VALUE, "value")         \
  X(WHILE, "while")

enum keyword {
  NO_KEYWORD,
#define KEYWORD_CONSTANT(constant, text) KEYWORD_##constant,
  KEYWORDS(KEYWORD_CONSTANT)
#undef KEYWORD_CONSTANT
};

static enum keyword find_keyword(const mb__lexer *lexer, const mb__token *token)
{
  static const char *const texts[] = {
#define KEYWORD_TEXT(constant, text) text,
      KEYWORDS(KEYWORD_TEXT)
#undef KEYWORD_TEXT
  };
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
    if (mb__lexer_is(lexer, token, texts[i]))
      return (enum keyword)(i + 1);
  return NO_KEYWORD;
}

/* --- SQLite ------------------------------------------------------------- */

/* The states and the table are those of sqlite3_complete, which also explains
 * why CREATE may stand behind any words that follow EXPLAIN. */
enum trigger_state {
  TRIGGER_START,
  TRIGGER_NORMAL,
  TRIGGER_EXPLAIN,
  TRIGGER_CREATE,
  TRIGGER_BODY,
  TRIGGER_SEMICOLON,
  TRIGGER_END
};

static int trigger_next(int state, enum keyword keyword)
{
  const bool temporary =
      keyword == KEYWORD_TEMP || keyword == KEYWORD_TEMPORARY;
  switch (state) {
  case TRIGGER_START:
    return keyword == KEYWORD_EXPLAIN  ? TRIGGER_EXPLAIN
           : keyword == KEYWORD_CREATE ? TRIGGER_CREATE
                                       : TRIGGER_NORMAL;
  case TRIGGER_EXPLAIN:
    return keyword == KEYWORD_CREATE ? TRIGGER_CREATE
           : temporary || keyword == KEYWORD_EXPLAIN ||
                   keyword == KEYWORD_TRIGGER || keyword == KEYWORD_END
               ? TRIGGER_NORMAL
               : TRIGGER_EXPLAIN;
  case TRIGGER_CREATE:
    return keyword == KEYWORD_TRIGGER ? TRIGGER_BODY
           : temporary                ? TRIGGER_CREATE
                                      : TRIGGER_NORMAL;
  case TRIGGER_SEMICOLON:
    return keyword == KEYWORD_END ? TRIGGER_END : TRIGGER_BODY;
  case TRIGGER_BODY:
  case TRIGGER_END:
    return TRIGGER_BODY;
  default:
    return TRIGGER_NORMAL;
  }
}

static bool trigger_ends(mb__body *body)
{
  if (body->state != TRIGGER_BODY && body->state != TRIGGER_SEMICOLON)
    return true;
  body->state = TRIGGER_SEMICOLON;
  return false;
}

/* --- PostgreSQL --------------------------------------------------------- */

enum atomic_state {
  ATOMIC_START,
  ATOMIC_CREATE,
  ATOMIC_OR,
  ATOMIC_REPLACE,
  ATOMIC_ROUTINE,
  ATOMIC_OTHER
};

static int atomic_next(int state, enum keyword keyword)
{
  const bool routine =
      keyword == KEYWORD_FUNCTION || keyword == KEYWORD_PROCEDURE;
  switch (state) {
  case ATOMIC_START:
    return keyword == KEYWORD_CREATE ? ATOMIC_CREATE : ATOMIC_OTHER;
  case ATOMIC_CREATE:
    return keyword == KEYWORD_OR ? ATOMIC_OR
           : routine             ? ATOMIC_ROUTINE
                                 : ATOMIC_OTHER;
  case ATOMIC_OR:
    return keyword == KEYWORD_REPLACE ? ATOMIC_REPLACE : ATOMIC_OTHER;
  case ATOMIC_REPLACE:
    return routine ? ATOMIC_ROUTINE : ATOMIC_OTHER;
  default:
    return state;
  }
}

static void atomic_follow(
    mb__body *body, enum keyword keyword, unsigned char symbol)
{
  if (symbol == '(')
    body->parens++;
  else if (symbol == ')' && body->parens > 0)
    body->parens--;

  if (body->state != ATOMIC_ROUTINE)
    body->state = atomic_next(body->state, keyword);
  else if (body->parens > 0)
    return;
  else if ((keyword == KEYWORD_ATOMIC && body->after_begin) ||
           (keyword == KEYWORD_CASE && body->depth > 0))
    body->depth++;
  else if (keyword == KEYWORD_END && body->depth > 0)
    body->depth--;
}

/* --- MySQL and MariaDB -------------------------------------------------- */

enum routine_state {
  ROUTINE_START,
  ROUTINE_BEGIN,      /* behind the first BEGIN */
  ROUTINE_CREATE,     /* before the word for what is created */
  ROUTINE_DEFINER,    /* before the name of a user */
  ROUTINE_PARAMETERS, /* up to the list of parameters, and in it */
  ROUTINE_HEADER,     /* between them and the body */
  ROUTINE_AS,         /* behind an AS there */
  ROUTINE_ROW,        /* of a trigger, before FOR EACH ROW */
  ROUTINE_ORDER,      /* behind it */
  ROUTINE_OTHER,      /* before the name of another trigger */
  ROUTINE_DO,         /* of an event, before DO */
  ROUTINE_BODY,
  ROUTINE_PLAIN /* no body */
};

enum handler_state {
  HANDLER_NONE,
  HANDLER_FOR,       /* before FOR */
  HANDLER_CONDITION, /* before a condition */
  HANDLER_STATEMENT  /* behind one */
};

static bool opens_block(enum keyword keyword)
{
  switch (keyword) {
  case KEYWORD_BEGIN:
  case KEYWORD_CASE:
  case KEYWORD_FOR:
  case KEYWORD_IF:
  case KEYWORD_LOOP:
  case KEYWORD_REPEAT:
  case KEYWORD_WHILE:
    return true;
  default:
    return false;
  }
}

static void enter_body(mb__body *body)
{
  body->state = ROUTINE_BODY;
  body->at_start = true;
}

/* The others have an expression first. */
static void open_block(mb__body *body, enum keyword keyword)
{
  body->depth++;
  body->at_start = keyword == KEYWORD_BEGIN || keyword == KEYWORD_LOOP ||
                   keyword == KEYWORD_REPEAT;
}

static void close_block(mb__body *body)
{
  if (body->depth > 0)
    body->depth--;
  body->at_start = false;
}

static void enter_routine(mb__body *body, enum keyword keyword)
{
  body->state = ROUTINE_PARAMETERS;
  body->function = keyword == KEYWORD_FUNCTION;
  body->returns = false;
  body->parens = 0;
}

/* The first word of a statement in a body. */
static void start_statement(mb__body *body, enum keyword keyword)
{
  const bool declared =
      body->depth > 0 && (body->depth == body->declarations ||
                             (body->package && body->depth == 1));
  if (keyword == KEYWORD_BEGIN && declared) {
    body->declarations = 0;
  } else if (opens_block(keyword)) {
    open_block(body, keyword);
  } else if (keyword == KEYWORD_END) {
    close_block(body);
    body->after_end = true;
  } else if (keyword != KEYWORD_ELSE && keyword != KEYWORD_NOT &&
             keyword != KEYWORD_ATOMIC) {
    body->at_start = false;
    body->labels = true;
  }
}

/* A word inside a statement of a body. */
static void go_on(mb__body *body, enum keyword keyword)
{
  switch (keyword) {
  case KEYWORD_CASE:
    body->cases++;
    break;
  case KEYWORD_THEN:
  case KEYWORD_DO:
  case KEYWORD_LOOP:
    body->at_start = true;
    break;
  case KEYWORD_HANDLER:
    body->handler = HANDLER_FOR;
    break;
  case KEYWORD_END:
    body->pending_end = true;
    break;
  default:
    break;
  }
}

/* True when the word belongs to the conditions of a handler. */
static bool follow_handler(mb__body *body, enum keyword keyword)
{
  switch (body->handler) {
  case HANDLER_FOR:
    body->handler = keyword == KEYWORD_FOR ? HANDLER_CONDITION : HANDLER_NONE;
    return keyword == KEYWORD_FOR;
  case HANDLER_CONDITION:
    if (keyword != KEYWORD_NOT && keyword != KEYWORD_SQLSTATE &&
        keyword != KEYWORD_VALUE)
      body->handler = HANDLER_STATEMENT;
    return true;
  case HANDLER_STATEMENT:
    body->handler = HANDLER_NONE;
    body->at_start = true;
    return false;
  default:
    return false;
  }
}

static void follow_body_word(mb__body *body, enum keyword keyword)
{
  const bool after_end = body->after_end;
  const bool pending_end = body->pending_end;
  body->after_end = false;
  body->pending_end = false;
  body->labels = false;
  if (after_end || follow_handler(body, keyword))
    return;

  if (body->cases > 0) {
    if (keyword == KEYWORD_CASE)
      body->cases++;
    else if (keyword == KEYWORD_END)
      body->cases--;
  } else if (pending_end && keyword == KEYWORD_REPEAT) {
    close_block(body);
  } else if (body->package && body->depth == 1 &&
             (keyword == KEYWORD_PROCEDURE || keyword == KEYWORD_FUNCTION)) {
    enter_routine(body, keyword);
  } else if (body->package && body->depth == 1 &&
             (keyword == KEYWORD_AS || keyword == KEYWORD_IS)) {
    body->at_start = true;
  } else if (body->at_start) {
    start_statement(body, keyword);
  } else {
    go_on(body, keyword);
  }
}

/* Words between the parameters of a procedure and its body. */
static bool is_characteristic(const mb__lexer *lexer, const mb__token *token)
{
  static const char *const words[] = {"comment", "contains", "data", "definer",
      "deterministic", "invoker", "javascript", "language", "modifies", "no",
      "not", "reads", "security", "sql", "using"};
  for (size_t i = 0; i < sizeof words / sizeof *words; i++)
    if (mb__lexer_is(lexer, token, words[i]))
      return true;
  return false;
}

static void follow_header_word(mb__body *body, enum keyword keyword,
    const mb__lexer *lexer, const mb__token *token)
{
  if (body->parens > 0)
    return;
  if (keyword == KEYWORD_AS || keyword == KEYWORD_IS) {
    body->state = ROUTINE_AS;
  } else if (body->state == ROUTINE_PARAMETERS) {
    return;
  } else if (opens_block(keyword)) {
    enter_body(body);
    open_block(body, keyword);
  } else if (body->function) {
    body->returns |= keyword == KEYWORD_RETURNS;
    if (keyword == KEYWORD_RETURN && body->returns) {
      enter_body(body);
      follow_body_word(body, keyword);
    }
  } else if (!is_characteristic(lexer, token)) {
    enter_body(body);
    follow_body_word(body, keyword);
  }
}

static void follow_created(mb__body *body, enum keyword keyword)
{
  switch (keyword) {
  case KEYWORD_OR:
  case KEYWORD_REPLACE:
  case KEYWORD_AGGREGATE:
    break;
  case KEYWORD_DEFINER:
    body->state = ROUTINE_DEFINER;
    break;
  case KEYWORD_PROCEDURE:
  case KEYWORD_FUNCTION:
    enter_routine(body, keyword);
    break;
  case KEYWORD_TRIGGER:
    body->state = ROUTINE_ROW;
    break;
  case KEYWORD_EVENT:
    body->state = ROUTINE_DO;
    break;
  case KEYWORD_PACKAGE:
    body->state = ROUTINE_BODY;
    body->package = true;
    body->depth = 1;
    break;
  default:
    body->state = ROUTINE_PLAIN;
  }
}

static void follow_word(mb__body *body, enum keyword keyword,
    const mb__lexer *lexer, const mb__token *token)
{
  switch (body->state) {
  case ROUTINE_START:
    body->state = keyword == KEYWORD_CREATE || keyword == KEYWORD_ALTER
                      ? ROUTINE_CREATE
                  : keyword == KEYWORD_BEGIN ? ROUTINE_BEGIN
                                             : ROUTINE_PLAIN;
    if (body->state == ROUTINE_PLAIN && opens_block(keyword)) {
      enter_body(body);
      open_block(body, keyword);
    }
    break;
  case ROUTINE_BEGIN:
    body->state = ROUTINE_PLAIN;
    if (keyword == KEYWORD_NOT) {
      enter_body(body);
      open_block(body, KEYWORD_BEGIN);
    }
    break;
  case ROUTINE_CREATE:
    follow_created(body, keyword);
    break;
  case ROUTINE_DEFINER:
    body->state = ROUTINE_CREATE;
    break;
  case ROUTINE_PARAMETERS:
  case ROUTINE_HEADER:
    follow_header_word(body, keyword, lexer, token);
    break;
  case ROUTINE_ROW:
    if (keyword == KEYWORD_ROW)
      body->state = ROUTINE_ORDER;
    break;
  case ROUTINE_ORDER:
    if (keyword == KEYWORD_FOLLOWS || keyword == KEYWORD_PRECEDES) {
      body->state = ROUTINE_OTHER;
      break;
    }
    enter_body(body);
    follow_body_word(body, keyword);
    break;
  case ROUTINE_OTHER:
    body->state = ROUTINE_ORDER;
    break;
  case ROUTINE_DO:
    if (keyword == KEYWORD_DO)
      enter_body(body);
    break;
  case ROUTINE_BODY:
    follow_body_word(body, keyword);
    break;
  default:
    break;
  }
}

/* Anything but a keyword or a name in a body. */
static void follow_body_other(
    mb__body *body, const mb__token *token, unsigned char symbol)
{
  const bool labels = body->labels;
  const bool at_start = body->at_start;
  body->labels = false;
  body->after_end = false;
  body->pending_end = false;
  if (body->handler == HANDLER_CONDITION && token->kind != MB__TOKEN_SYMBOL)
    body->handler = HANDLER_STATEMENT;
  else if (body->handler == HANDLER_STATEMENT)
    body->handler = symbol == ',' ? HANDLER_CONDITION : HANDLER_NONE;

  /* A label is x: or, in the mode for Oracle, <<x>>. */
  body->at_start = symbol == ':'   ? labels
                   : symbol == '>' ? labels || at_start
                                   : symbol == '<' && at_start;
  body->labels = at_start && (token->kind == MB__TOKEN_QUOTED);
}

static void follow_other(
    mb__body *body, const mb__token *token, unsigned char symbol)
{
  switch (body->state) {
  case ROUTINE_START:
  case ROUTINE_BEGIN:
    body->state = ROUTINE_PLAIN;
    break;
  case ROUTINE_DEFINER:
    if (token->kind == MB__TOKEN_STRING || token->kind == MB__TOKEN_QUOTED)
      body->state = ROUTINE_CREATE;
    break;
  case ROUTINE_PARAMETERS:
  case ROUTINE_HEADER:
    if (symbol == '(')
      body->parens++;
    else if (symbol == ')' && body->parens > 0 && --body->parens == 0)
      body->state = ROUTINE_HEADER;
    break;
  case ROUTINE_OTHER:
    body->state = ROUTINE_ORDER;
    break;
  case ROUTINE_BODY:
    follow_body_other(body, token, symbol);
    break;
  default:
    break;
  }
}

static void routine_follow(mb__body *body, enum keyword keyword,
    unsigned char symbol, const mb__lexer *lexer, const mb__token *token)
{
  if (token->kind == MB__TOKEN_VERSION_OPEN ||
      token->kind == MB__TOKEN_VERSION_CLOSE)
    return;
  if (body->state == ROUTINE_AS) {
    /* A body in another language is a string. */
    enter_body(body);
    if (token->kind != MB__TOKEN_STRING)
      body->declarations = ++body->depth;
  }
  if (token->kind == MB__TOKEN_WORD && !body->dotted)
    follow_word(body, keyword, lexer, token);
  else
    follow_other(body, token, symbol);
}

static bool routine_ends(mb__body *body)
{
  if (body->depth == 0)
    return true;
  body->state = ROUTINE_BODY;
  body->at_start = true;
  body->labels = false;
  body->after_end = false;
  body->pending_end = false;
  body->cases = 0;
  body->handler = HANDLER_NONE;
  return false;
}

/* --- All ---------------------------------------------------------------- */

void mb__body_follow(
    mb__body *body, const mb__lexer *lexer, const mb__token *token)
{
  const unsigned char symbol =
      token->kind == MB__TOKEN_SYMBOL ? mb__lexer_byte(lexer, token->start) : 0;
  const bool is_name =
      body->dotted || (body->after_as && body->compound == MB_COMPOUND_ATOMIC);
  const enum keyword keyword = body->compound == MB_COMPOUND_TRIGGER || !is_name
                                   ? find_keyword(lexer, token)
                                   : NO_KEYWORD;
  switch (body->compound) {
  case MB_COMPOUND_TRIGGER:
    body->state = trigger_next(body->state, keyword);
    break;
  case MB_COMPOUND_ATOMIC:
    atomic_follow(body, keyword, symbol);
    break;
  case MB_COMPOUND_ROUTINE:
    routine_follow(body, keyword, symbol, lexer, token);
    break;
  default:
    break;
  }
  body->dotted = symbol == '.';
  body->after_as = keyword == KEYWORD_AS;
  body->after_begin = keyword == KEYWORD_BEGIN;
}

bool mb__body_ends(mb__body *body)
{
  body->dotted = false;
  body->after_as = false;
  body->after_begin = false;
  switch (body->compound) {
  case MB_COMPOUND_TRIGGER:
    return trigger_ends(body);
  case MB_COMPOUND_ATOMIC:
    return body->parens == 0 && body->depth == 0;
  case MB_COMPOUND_ROUTINE:
    return routine_ends(body);
  default:
    return true;
  }
}
