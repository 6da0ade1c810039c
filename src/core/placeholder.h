/*
 * placeholder.h: finds the placeholders of a statement and writes the text that
 * is sent.
 *
 * A statement uses one style: ?, $1 or :name.  Only placeholders are rewritten,
 * never a value, and a rewritten text has the tokens of the user's text, one by
 * one, with other placeholders: where a new one would join with a byte beside
 * it, a blank is put between, and what the databases would read in two ways is
 * refused (a word right behind $1, a digit right behind ?).
 *
 * Left alone are strings, quoted names, comments, dollar quotes, ::, :=,
 * variables (@x, @@x, SQLite's $x), words with a $ inside, and:
 *  - where mb_lexical.colon_casts is set, the colon of an array slice: directly
 *    inside the brackets of a subscript (not in parentheses in them) a colon is
 *    one when the token before it, blanks and comments aside, can end an
 *    expression: a word that is no operator or opening keyword, a number,
 *    string, quoted name or placeholder, ), or ].  Brackets are a subscript
 *    when the token before them can end an expression.  So a[1:n] slices up to
 *    the column n, a[:i] is an index, a[:i: :j] slices between two parameters.
 *  - where mb_lexical.question_operators is set, every ? of a text that has $1
 *    or :name.  ?? is sent as one ?, in any text.
 */
#ifndef MB_CORE_PLACEHOLDER_H
#define MB_CORE_PLACEHOLDER_H

#include "../driver.h"
#include "../moonbase.h"

/* A library that reads names itself looks for each among all before it: more
 * than this many are sent as ?, which it only counts. */
#define MB__NATIVE_MAX 1000

/* The most placeholders of a text, and the greatest number of one. */
#define MB__PLACES_MAX 524280

/* A name, borrowed from the user's text. */
typedef struct mb__name {
  const char *text;
  size_t size;
} mb__name;

/* A piece of the user's text that is sent in another form. */
typedef struct mb__edit {
  size_t text_start;
  size_t text_end;
  size_t sent_end;
} mb__edit;

/* What was found.  All pointers but those inside names are owned, by memory. */
typedef struct mb__scan {
  mb_style style;
  size_t n_parameters; /* what the user must give */
  size_t n_places;     /* parameters of the text that is sent */
  uint32_t *order;     /* n_places: the user's parameter (from 0) that each
                          takes; NULL: one to one */
  mb__name *names;     /* n_parameters, in order of first occurrence, for
                          MB_STYLE_NAME; else NULL */
  char *sent;          /* what goes to the library, terminated; NULL: the user's
                          text as it is */
  size_t sent_size;
  mb__edit *edits; /* n_edits, in order; with sent */
  size_t n_edits;
  void *memory; /* the one allocation; NULL: none was needed */
} mb__scan;

/*
 * Scans size bytes of sql, which are borrowed: as long as out is used, where
 * the style is MB_STYLE_NAME; else for the call.  Takes time in proportion to
 * size.
 *
 * On success out is closed with mb__scan_close.  On failure it is zeroed.
 * Errors, with the position in sql: MB_USAGE (a zero byte, two styles, a wrong
 * number, a number that is not used, more than MB__PLACES_MAX placeholders,
 * subscripts nested very deep); MB_RESOURCE, out of memory.
 */
MB_CHECKED mb_status mb__scan_open(const mb_lexical *lexical, const char *sql,
    size_t size, mb__scan *out, mb_error *error);

/* Frees what scan owns and zeroes it.  A zeroed one may be closed. */
void mb__scan_close(mb__scan *scan);

/*
 * The byte of the user's text, from 1, for a byte of the sent one, from 1.  A
 * byte of a rewritten placeholder becomes the first one of the user's; 0 stays
 * 0, and what is past the end of the sent text stays just past the end.
 */
size_t mb__scan_position(const mb__scan *scan, size_t sent_position);

#endif
