/* suggest.c: Damerau and Levenshtein's distance (its form in which no piece is
 * changed twice), which needs three rows of the table at a time. */
#include "suggest.h"

#include <stdint.h>
#include <string.h>

static int small_letter(char byte)
{
  return byte >= 'A' && byte <= 'Z' ? byte - 'A' + 'a' : byte;
}

static size_t smaller(size_t a, size_t b)
{
  return a < b ? a : b;
}

/* What may be wrong in names of which the longer one has size bytes. */
static size_t bound_of(size_t size)
{
  return size < 2 ? 0 : size < 6 ? 1 : smaller(size / 3, 4);
}

size_t mb__suggest_distance(
    const char *word, size_t word_size, const char *name, size_t name_size)
{
  const size_t longer = word_size > name_size ? word_size : name_size;
  const size_t bound = bound_of(longer);
  size_t rows[3][MB__SUGGEST_MAX + 1];
  size_t *before = rows[0];
  size_t *last = rows[1];
  size_t *row = rows[2];
  if (longer > MB__SUGGEST_MAX ||
      longer - smaller(word_size, name_size) > bound)
    return SIZE_MAX;

  for (size_t j = 0; j <= name_size; j++)
    row[j] = j;
  for (size_t i = 1; i <= word_size; i++) {
    size_t *const free_row = before;
    before = last;
    last = row;
    row = free_row;
    row[0] = i;
    for (size_t j = 1; j <= name_size; j++) {
      const int a = small_letter(word[i - 1]);
      const int b = small_letter(name[j - 1]);
      row[j] =
          smaller(last[j - 1] + (a != b), smaller(last[j], row[j - 1]) + 1);
      if (i > 1 && j > 1 && a == small_letter(name[j - 2]) &&
          b == small_letter(word[i - 2]))
        row[j] = smaller(row[j], before[j - 2] + 1);
    }
  }
  return row[name_size] <= bound ? row[name_size] : SIZE_MAX;
}

const char *mb__suggest(
    const char *word, size_t size, const char *const *names, size_t n)
{
  const char *nearest = NULL;
  size_t least = SIZE_MAX;
  for (size_t i = 0; i < n; i++) {
    if (names[i] == NULL)
      continue;
    const size_t distance =
        mb__suggest_distance(word, size, names[i], strlen(names[i]));
    if (distance < least) {
      least = distance;
      nearest = names[i];
    }
  }
  return nearest;
}
