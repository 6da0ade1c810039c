/* error_test.c: classes of errors, and the texts that one carries. */
#include "../../src/core/host.h"

#include "check.h"

#include "../../src/moonbase.h"

static bool is(const mb_error *error, mb_field field, const char *expected)
{
  size_t size;
  const char *text = mb_error_text(error, field, &size);
  return CHECK_BYTES(text, size, expected);
}

static size_t size_of(const mb_error *error, mb_field field)
{
  size_t size;
  (void)mb_error_text(error, field, &size);
  return size;
}

static void set(mb_error *error, mb_field field, const char *text)
{
  mb_error_set_text(error, field, text, strlen(text));
}

/* --- Classes ------------------------------------------------------------ */

static void knows_the_family_of_a_class(void)
{
  CHECK_STRING(mb_class_name(MB_DATABASE_ERROR), "DatabaseError");
  CHECK_STRING(mb_class_name(MB_CONSTRAINT), "ConstraintError");
  CHECK_STRING(mb_class_name(MB_USAGE), "UsageError");
  CHECK_INT(mb_class_parent(MB_CONNECTION_LOST), MB_CONNECTIVITY);
  CHECK_INT(mb_class_parent(MB_USAGE), MB_USAGE);
  CHECK(mb_class_is(MB_CONNECTION_LOST, MB_CONNECTION_LOST));
  CHECK(mb_class_is(MB_CONNECTION_LOST, MB_CONNECTIVITY));
  CHECK(mb_class_is(MB_CONNECTION_LOST, MB_DATABASE_ERROR));
  CHECK(!mb_class_is(MB_CONNECTION_LOST, MB_ENGINE));
  CHECK(!mb_class_is(MB_CONNECTIVITY, MB_CONNECTION_LOST));
  CHECK(!mb_class_is(MB_USAGE, MB_DATABASE_ERROR));
  CHECK(mb_class_is(MB_MISSING_IMPLEMENTATION, MB_DRIVER_FAULT));
}

static void gives_every_class_a_name_and_a_root(void)
{
  for (int i = 0; i < MB_CLASS_COUNT; i++) {
    const mb_class class = (mb_class)i;
    CHECK(mb_class_name(class) != NULL);
    CHECK(mb_class_is(class, MB_DATABASE_ERROR) +
              mb_class_is(class, MB_DRIVER_FAULT) +
              mb_class_is(class, MB_USAGE) ==
          1);
    for (int k = 0; k < i; k++)
      CHECK(strcmp(mb_class_name(class), mb_class_name((mb_class)k)) != 0);
  }
}

/* --- Texts -------------------------------------------------------------- */

static void starts_anew(void)
{
  mb_error error;
  memset(&error, 0xA5, sizeof error);
  CHECK_INT(mb_error_fill(&error, MB_DATA, "100 % wrong: %s"), MB_ERROR);
  CHECK_INT(error.class, MB_DATA);
  CHECK_INT(error.flags, 0);
  CHECK_INT(error.position, 0);
  CHECK_INT(error.origin, MB_ORIGIN_STATEMENT);
  is(&error, MB_MESSAGE, "100 % wrong: %s");
  for (int field = MB_MESSAGE + 1; field < MB_FIELD_COUNT; field++)
    is(&error, (mb_field)field, NULL);
  set(&error, MB_HINT, "try again");
  set(&error, MB_TABLE, "t");
  set(&error, MB_DETAIL, "");
  mb_error_set_text(&error, MB_SCHEMA, NULL, 5);
  is(&error, MB_MESSAGE, "100 % wrong: %s");
  is(&error, MB_HINT, "try again");
  is(&error, MB_TABLE, "t");
  is(&error, MB_DETAIL, NULL);
  is(&error, MB_SCHEMA, NULL);
  (void)mb_error_fill(&error, MB_DATA, "again");
  is(&error, MB_HINT, NULL);
}

static void has_no_text_without_one(void)
{
  mb_error error;
  (void)mb_error_fill(&error, MB_DATA, "");
  is(&error, MB_MESSAGE, NULL);
}

/* What does not fit is cut, and no character in the middle. */
static void cuts_what_is_too_long(void)
{
  static const char *const characters[] = {
      "x", "\xC3\xA4", "\xE2\x82\xAC", "\xF0\x9F\x8C\x99"};
  for (size_t i = 0; i < sizeof characters / sizeof *characters; i++)
    for (size_t before = 0; before < 4; before++) {
      mb_error error;
      const size_t size = strlen(characters[i]);
      char *text = check_repeat(characters[i], (size_t)3 * MB_ERROR_ROOM);
      memset(text, 'a', size * 4);
      text[(size_t)3 * MB_ERROR_ROOM * size - 1] = '\0';
      (void)mb_error_fill(&error, MB_DATA, text + before);
      const size_t message = size_of(&error, MB_MESSAGE);
      CHECK(message < MB_ERROR_ROOM / 2);
      CHECK(message > MB_ERROR_ROOM / 2 - 8);
      CHECK_INT((message - (4 * size - before)) % size, 0);
      set(&error, MB_DETAIL, text + before);
      const size_t detail = size_of(&error, MB_DETAIL);
      CHECK_INT((detail - (4 * size - before)) % size, 0);
      CHECK(message + detail <= MB_ERROR_ROOM);
      CHECK(message + detail > MB_ERROR_ROOM - 4);
      free(text);
    }
}

static void is_full_at_some_time(void)
{
  mb_error error;
  char *text = check_repeat("x", MB_ERROR_ROOM);
  (void)mb_error_fill(&error, MB_DATA, "short");
  mb_error_set_text(&error, MB_DETAIL, text, MB_ERROR_ROOM - 5);
  CHECK_INT(size_of(&error, MB_DETAIL), MB_ERROR_ROOM - 5);
  set(&error, MB_HINT, "no room");
  is(&error, MB_HINT, NULL);
  is(&error, MB_MESSAGE, "short");
  free(text);
}

/* --- Columns ------------------------------------------------------------ */

static void lists_columns(void)
{
  mb_error error;
  (void)mb_error_fill(&error, MB_CONSTRAINT, "m");
  set(&error, MB_COLUMNS, "a");
  is(&error, MB_COLUMNS, "a");
  set(&error, MB_COLUMNS, "bc");
  CHECK_INT(size_of(&error, MB_COLUMNS), 4);
  /* Also when something else has come in between. */
  set(&error, MB_TABLE, "t");
  set(&error, MB_COLUMNS, "d");
  size_t size;
  const char *columns = mb_error_text(&error, MB_COLUMNS, &size);
  CHECK_INT(size, 6);
  CHECK(size == 6 && memcmp(columns, "a\0bc\0d", 6) == 0);
  is(&error, MB_TABLE, "t");
  is(&error, MB_MESSAGE, "m");
}

/* Half of a name would be another one. */
static void leaves_out_columns_that_do_not_fit(void)
{
  mb_error error;
  char *text = check_repeat("x", MB_ERROR_ROOM);
  for (size_t left = 0; left < 8; left++)
    for (int moves = 0; moves < 2; moves++) {
      (void)mb_error_fill(&error, MB_CONSTRAINT, "m");
      set(&error, MB_COLUMNS, "ab");
      if (moves)
        set(&error, MB_TABLE, "t");
      const size_t used = error.used;
      mb_error_set_text(&error, MB_DETAIL, text, MB_ERROR_ROOM - used - left);
      set(&error, MB_COLUMNS, "cd");
      /* The detail stands between, so that the list has to be moved. */
      CHECK_INT(size_of(&error, MB_COLUMNS), left >= 5 ? 5 : 2);
      CHECK_INT(size_of(&error, MB_DETAIL), MB_ERROR_ROOM - used - left);
      CHECK(error.used <= MB_ERROR_ROOM);
    }
  free(text);
}

/* --- Time and memory ---------------------------------------------------- */

static void counts_times_from_now(void)
{
  const int64_t before_ns = mb_now_ns();
  mb_sleep_ns(2000000);
  CHECK(mb_now_ns() - before_ns >= 1000000);
  mb_sleep_ns(0);
  mb_sleep_ns(-1);
  CHECK(mb__deadline_ns(1000) >= before_ns + 1000);
  CHECK(mb__deadline_ns(1000) <= mb_now_ns() + 1000);
  CHECK(mb__deadline_ns(MB_NEVER) == MB_NEVER);
  CHECK(mb__deadline_ns(MB_NEVER - 1) == MB_NEVER);
}

static void gives_no_memory_for_what_is_no_size(void)
{
  CHECK(mb__allocate_zeroed(SIZE_MAX / 2, 3) == NULL);
  char *memory = mb__allocate_zeroed(3, 4);
  CHECK(memory != NULL);
  for (int i = 0; memory != NULL && i < 12; i++)
    CHECK_INT(memory[i], 0);
  mb__host.release(memory);
}

static const struct check_test tests[] = {
    CHECK_TEST(knows_the_family_of_a_class),
    CHECK_TEST(gives_every_class_a_name_and_a_root),
    CHECK_TEST(starts_anew),
    CHECK_TEST(has_no_text_without_one),
    CHECK_TEST(cuts_what_is_too_long),
    CHECK_TEST(is_full_at_some_time),
    CHECK_TEST(lists_columns),
    CHECK_TEST(leaves_out_columns_that_do_not_fit),
    CHECK_TEST(counts_times_from_now),
    CHECK_TEST(gives_no_memory_for_what_is_no_size),
};

int main(void)
{
  return CHECK_RUN(tests);
}
