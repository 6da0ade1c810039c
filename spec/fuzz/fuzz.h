/*
 * fuzz.h: what the fuzz targets share.
 *
 * A target is one file with LLVMFuzzerTestOneInput.  It does more than run the
 * code: it requires what must hold for any input.
 */
#ifndef MB_SPEC_FUZZ_H
#define MB_SPEC_FUZZ_H

#include "../c/dialects.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Ends the program when a condition does not hold, so that libFuzzer keeps the
 * input. */
#define REQUIRE(condition)                                                  \
  do {                                                                      \
    if (!(condition)) {                                                     \
      (void)fprintf(                                                        \
          stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
      abort();                                                              \
    }                                                                       \
  } while (0)

/* The dialect that the first two bytes of an input choose: one of the known
 * ones, or any mixture that does not contradict itself. */
static inline mb_lexical fuzz_lexical(const uint8_t *data)
{
  const unsigned bits = data[1];
  if (data[0] % 8 < N_DIALECTS)
    return *dialects[data[0] % 8];
  mb_lexical lexical = {
      .backslash_strings = (bits & 1) != 0,
      .escape_strings = (bits & 2) != 0,
      .double_quote_strings = (bits & 4) != 0,
      .backtick_names = (bits & 8) != 0,
      .bracket_names = (bits & 16) != 0,
      .hash_comments = (bits & 32) != 0,
      .dash_needs_space = (bits & 64) != 0,
      .nested_comments = (bits & 128) != 0,
      .versioned_comments = (data[0] & 8) != 0,
      .dollar_quotes = (data[0] & 16) != 0,
      .colon_casts = (data[0] & 32) != 0,
      .compound = (mb_compound)(bits % 4),
      .placeholder = (mb_placeholder)(data[0] / 64 % 3),
  };
  lexical.question_operators =
      lexical.placeholder == MB_PLACEHOLDER_DOLLAR && (bits & 3) != 0;
  return lexical;
}

#endif
