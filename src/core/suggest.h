/*
 * suggest.h: "did you mean": the name that a misspelt one is nearest to.
 *
 * Nearness is the number of bytes left out, put in or changed, and of
 * neighbours exchanged; the case of ASCII letters does not count.  A third of
 * the longer name may be wrong, and at most four bytes; in names of up to five
 * bytes one, in names of one none.
 */
#ifndef MB_CORE_SUGGEST_H
#define MB_CORE_SUGGEST_H

#include <stddef.h>

/* Names that are longer are near to none. */
#define MB__SUGGEST_MAX 64

/* The distance between two names, or SIZE_MAX when they are not near. */
size_t mb__suggest_distance(
    const char *word, size_t word_size, const char *name, size_t name_size);

/* The nearest of n names to word, of size bytes; the first of several; NULL:
 * none is near.  The answer is one of the pointers in names; an entry may be
 * NULL. */
const char *mb__suggest(
    const char *word, size_t size, const char *const *names, size_t n);

#endif
