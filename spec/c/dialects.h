/* dialects.h: how the databases that Moonbase knows read SQL, for tests. */
#ifndef MB_SPEC_DIALECTS_H
#define MB_SPEC_DIALECTS_H

#include "../../src/driver.h"

static const mb_lexical sqlite = {
    .backtick_names = true,
    .bracket_names = true,
    .compound = MB_COMPOUND_TRIGGER,
    .placeholder = MB_PLACEHOLDER_NATIVE,
};

static const mb_lexical postgres = {
    .escape_strings = true,
    .nested_comments = true,
    .dollar_quotes = true,
    .colon_casts = true,
    .question_operators = true,
    .compound = MB_COMPOUND_ATOMIC,
    .placeholder = MB_PLACEHOLDER_DOLLAR,
};

/* With standard_conforming_strings = off. */
static const mb_lexical postgres_backslashes = {
    .backslash_strings = true,
    .escape_strings = true,
    .nested_comments = true,
    .dollar_quotes = true,
    .colon_casts = true,
    .question_operators = true,
    .compound = MB_COMPOUND_ATOMIC,
    .placeholder = MB_PLACEHOLDER_DOLLAR,
};

static const mb_lexical mysql = {
    .backslash_strings = true,
    .double_quote_strings = true,
    .backtick_names = true,
    .hash_comments = true,
    .dash_needs_space = true,
    .versioned_comments = true,
    .compound = MB_COMPOUND_ROUTINE,
    .placeholder = MB_PLACEHOLDER_QUESTION,
};

/* With sql_mode = ANSI_QUOTES,NO_BACKSLASH_ESCAPES. */
static const mb_lexical mysql_ansi = {
    .backtick_names = true,
    .hash_comments = true,
    .dash_needs_space = true,
    .versioned_comments = true,
    .compound = MB_COMPOUND_ROUTINE,
    .placeholder = MB_PLACEHOLDER_QUESTION,
};

/* No traits at all. */
static const mb_lexical plain = {
    .compound = MB_COMPOUND_NONE,
    .placeholder = MB_PLACEHOLDER_QUESTION,
};

static const mb_lexical *const dialects[] = {
    &sqlite, &postgres, &postgres_backslashes, &mysql, &mysql_ansi, &plain};

#define N_DIALECTS (sizeof dialects / sizeof *dialects)

#endif
