/*
 * check.h: tests in C.
 *
 * A test is a function without arguments that checks; a program lists its tests
 * and runs them:
 *
 *   static void adds(void)
 *   {
 *     CHECK_INT(1 + 1, 2);
 *   }
 *
 *   static const struct check_test tests[] = {CHECK_TEST(adds)};
 *
 *   int main(void)
 *   {
 *     return CHECK_RUN(tests);
 *   }
 *
 * A failed check is reported on stderr, with its place and values, and the test
 * goes on; each macro answers whether the check held, so that a test can stop.
 * CHECK_RUN answers main's status: 1 when a test failed.
 */
#ifndef MB_SPEC_CHECK_H
#define MB_SPEC_CHECK_H

#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Failures of one test that are printed; the others are only counted. */
#define CHECK_PRINTED_MAX 20

struct check_test {
  const char *name;
  void (*run)(void);
};

/* The test that is running, and its failures. */
static const char *check_name = "";
static size_t check_failures;

static inline bool check_fails(const char *file, int line)
{
  check_failures++;
  if (check_failures == CHECK_PRINTED_MAX + 1)
    (void)fprintf(stderr, "%s: more failures\n", check_name);
  if (check_failures > CHECK_PRINTED_MAX)
    return false;
  (void)fprintf(stderr, "%s:%d: %s: ", file, line, check_name);
  return true;
}

/* Bytes as they may stand in a line of a report. */
static inline void check_print(const char *text, size_t size)
{
  if (text == NULL) {
    (void)fputs("NULL", stderr);
    return;
  }
  (void)fputc('"', stderr);
  for (size_t i = 0; i < size; i++) {
    const unsigned char byte = (unsigned char)text[i];
    if (byte < ' ' || byte >= 0x7F || byte == '"' || byte == '\\')
      (void)fprintf(stderr, "\\x%02x", byte);
    else
      (void)fputc(byte, stderr);
  }
  (void)fputc('"', stderr);
}

static inline bool check_that(
    bool holds, const char *condition, const char *file, int line)
{
  if (!holds && check_fails(file, line))
    (void)fprintf(stderr, "not true: %s\n", condition);
  return holds;
}

static inline bool check_int(intmax_t actual, intmax_t expected,
    const char *what, const char *file, int line)
{
  if (actual != expected && check_fails(file, line))
    (void)fprintf(stderr, "%s is %" PRIdMAX ", expected %" PRIdMAX "\n", what,
        actual, expected);
  return actual == expected;
}

static inline bool check_bytes(const char *actual, size_t size,
    const char *expected, size_t expected_size, const char *what,
    const char *file, int line)
{
  const bool holds =
      actual == NULL || expected == NULL
          ? actual == expected
          : size == expected_size &&
                (size == 0 || memcmp(actual, expected, size) == 0);
  if (!holds && check_fails(file, line)) {
    (void)fprintf(stderr, "%s is ", what);
    check_print(actual, size);
    (void)fputs(", expected ", stderr);
    check_print(expected, expected_size);
    (void)fputc('\n', stderr);
  }
  return holds;
}

static inline size_t check_length(const char *text)
{
  return text != NULL ? strlen(text) : 0;
}

/* A text of n times piece, not terminated, which the caller frees. */
static inline char *check_repeat(const char *piece, size_t n)
{
  const size_t size = strlen(piece);
  char *text = malloc(n * size + 1);
  if (text == NULL)
    abort();
  for (size_t i = 0; i < n; i++)
    memcpy(text + i * size, piece, size);
  return text;
}

static inline int check_run(const struct check_test *tests, size_t n)
{
  size_t failed = 0;
  for (size_t i = 0; i < n; i++) {
    check_name = tests[i].name;
    check_failures = 0;
    tests[i].run();
    failed += check_failures > 0;
  }
  (void)printf("%zu passed, %zu failed, 0 skipped\n", n - failed, failed);
  return failed > 0 ? 1 : 0;
}

#define CHECK_TEST(function)             \
  {                                      \
    .name = #function, .run = (function) \
  }

#define CHECK_RUN(tests) check_run(tests, sizeof(tests) / sizeof *(tests))

#define CHECK(condition) check_that(condition, #condition, __FILE__, __LINE__)

/* Two integers of any type. */
#define CHECK_INT(actual, expected) \
  check_int(                        \
      (intmax_t)(actual), (intmax_t)(expected), #actual, __FILE__, __LINE__)

/* Two terminated strings, or NULL. */
#define CHECK_STRING(actual, expected)                                        \
  check_bytes(actual, check_length(actual), expected, check_length(expected), \
      #actual, __FILE__, __LINE__)

/* size bytes, or NULL, and a terminated string, or NULL. */
#define CHECK_BYTES(actual, size, expected)                            \
  check_bytes(actual, size, expected, check_length(expected), #actual, \
      __FILE__, __LINE__)

#endif
