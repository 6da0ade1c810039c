/*
 * driver_text.h: options by their names, and what a text of SQL does as far as
 * its words tell; for drivers.
 *
 * Letters of words are those of ASCII, of either case, digits, underlines, and
 * all bytes above ASCII; what words are compared with is written in small
 * letters.
 */
#ifndef MB_DRIVER_TEXT_H
#define MB_DRIVER_TEXT_H

#include "driver.h"

#include <string.h>

/* The value of an option; of one that is there twice the last; NULL: it is not
 * there. */
static inline const char *mb_option_value(
    const mb_option *options, size_t n, const char *name)
{
  while (n-- > 0)
    if (strcmp(options[n].name, name) == 0)
      return options[n].value;
  return NULL;
}

static inline char mb_word_lower(char byte)
{
  return byte >= 'A' && byte <= 'Z' ? (char)(byte - 'A' + 'a') : byte;
}

static inline bool mb_word_is_letter(char byte)
{
  return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
         (byte >= '0' && byte <= '9') || byte == '_' || (byte & 0x80) != 0;
}

/* Whether what begins at a place begins with the word. */
static inline bool mb_word_begins(
    const char *at, const char *end, const char *word)
{
  for (; *word != '\0'; at++, word++)
    if (at == end || mb_word_lower(*at) != *word)
      return false;
  return true;
}

/* Whether one of the words, with a space between each two, stands anywhere:
 * also as a part of a longer word, or inside a text.  None is longer than 23
 * bytes. */
static inline bool mb_word_occurs(
    const char *at, const char *end, const char *words)
{
  char word[24];
  while (*words != '\0') {
    const size_t size = strcspn(words, " ");
    memcpy(word, words, size);
    word[size] = '\0';
    for (const char *place = at; place < end; place++)
      if (mb_word_lower(*place) == word[0] && mb_word_begins(place, end, word))
        return true;
    words += size + (words[size] == ' ');
  }
  return false;
}

/* Whether it is one of the words, with a space between each two. */
static inline bool mb_word_is_one_of(const char *words, const char *word)
{
  const size_t size = strlen(word);
  while (*words != '\0') {
    const size_t length = strcspn(words, " ");
    if (length == size && memcmp(words, word, size) == 0)
      return true;
    words += length + (words[length] == ' ');
  }
  return false;
}

/* The word that begins at a place in small letters, with a zero byte behind it;
 * cut where it is longer than room. */
static inline void mb_word_read(
    const char *at, const char *end, char *out, size_t room)
{
  size_t length = 0;
  while (
      at + length < end && mb_word_is_letter(at[length]) && length + 1 < room) {
    out[length] = mb_word_lower(at[length]);
    length++;
  }
  out[length] = '\0';
}

#endif
