/*
 * script.h: splits a script into statements by the rules of its database.
 *
 * Statements end at semicolons outside strings, names, comments and the bodies
 * of triggers and routines (body.h), or, where mb_compound is ROUTINE, at what
 * a DELIMITER line has named.  Such a line is what the mysql client knows: the
 * word DELIMITER where a statement could start, a blank, and up to the next
 * blank the new delimiter, of at most 15 bytes, perhaps in quotes; the rest of
 * the line means nothing.  As there, another delimiter than ; ends a statement
 * wherever it stands outside strings, names and comments, even inside a word
 * when it starts with no letter or digit (END$$); unlike there, not inside a
 * word when it does, and not inside a versioned comment.
 *
 * Where mb_lexical.dash_needs_space is set, -- is a comment without it too
 * where a statement could start, as for that client.
 *
 * Nothing is allocated and nothing fails: what is no SQL comes out as a
 * statement, for the database to refuse.
 */
#ifndef MB_CORE_SCRIPT_H
#define MB_CORE_SCRIPT_H

#include "lexer.h"

/* The fields are script.c's. */
typedef struct mb__script {
  mb__lexer lexer;
  const char *delimiter; /* inside the text; NULL: a semicolon */
  size_t delimiter_size;
  size_t line;    /* of the byte at counted, from 1 */
  size_t counted; /* how far lines have been counted */
} mb__script;

/* Starts at the first byte, or behind a byte order mark.  lexical and text are
 * borrowed for as long as script is used; text may be NULL when size is 0. */
void mb__script_open(mb__script *script, const mb_lexical *lexical,
    const char *text, size_t size);

/*
 * MB_ROW: *start and *size bound the next statement, inside the text, without
 * the blanks, comments and delimiters around it; *line is where it starts, from
 * 1.  MB_DONE: there is no other, and nothing is written.  All of it together
 * takes time in proportion to the text.
 */
mb_status mb__script_next(
    mb__script *script, const char **start, size_t *size, size_t *line);

/* True when a text holds a statement: anything but blanks, comments and
 * delimiters. */
bool mb__script_is_more(
    const mb_lexical *lexical, const char *text, size_t size);

/* True when a text holds more than one statement.  *end becomes the offset
 * behind the first one, its delimiter not counted; 0 when there is none. */
bool mb__script_has_more(
    const mb_lexical *lexical, const char *text, size_t size, size_t *end);

#endif
