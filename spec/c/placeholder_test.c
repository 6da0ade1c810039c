/* placeholder_test.c: what is a placeholder, and what is sent for it. */
#include "../../src/core/placeholder.h"

#include "check.h"
#include "dialects.h"
#include "memory.h"

/* Writes what a scan found as "sent | order | names"; what is NULL is left
 * out, an error is "! message @ position". */
static void describe(
    const mb_lexical *lexical, const char *sql, char *out, size_t room)
{
  mb__scan scan;
  mb_error error = {.position = 0};
  size_t used = 0;
  if (mb__scan_open(lexical, sql, strlen(sql), &scan, &error) != MB_OK) {
    CHECK_INT(error.class, MB_USAGE);
    (void)snprintf(out, room, "! %.*s @ %zu",
        (int)error.fields[MB_MESSAGE].size,
        error.room + error.fields[MB_MESSAGE].at, error.position);
    return;
  }
  used +=
      (size_t)snprintf(out, room, "%s", scan.sent != NULL ? scan.sent : sql);
  if (scan.sent != NULL)
    CHECK_INT(scan.sent_size, strlen(scan.sent));
  used += (size_t)snprintf(
      out + used, room - used, " | %zu/%zu", scan.n_parameters, scan.n_places);
  for (size_t i = 0; scan.order != NULL && i < scan.n_places; i++)
    used += (size_t)snprintf(out + used, room - used, "%c%u",
        i == 0 ? ' ' : ',', (unsigned)scan.order[i]);
  for (size_t i = 0; scan.names != NULL && i < scan.n_parameters; i++)
    used += (size_t)snprintf(out + used, room - used, "%s%.*s",
        i == 0 ? " | " : ",", (int)scan.names[i].size, scan.names[i].text);
  mb__scan_close(&scan);
}

#define CHECK_SCAN(lexical, sql, expected)          \
  do {                                              \
    char found[1024];                               \
    describe(&(lexical), sql, found, sizeof found); \
    CHECK_STRING(found, expected);                  \
  } while (0)

/* No placeholder in it for any database. */
#define CHECK_NONE(lexical, sql) CHECK_SCAN(lexical, sql, sql " | 0/0")

static void leaves_native_text_alone(void)
{
  CHECK_SCAN(sqlite, "a = ? and b = ?", "a = ? and b = ? | 2/2");
  CHECK_SCAN(sqlite, "?and?", "?and? | 2/2");
  CHECK_SCAN(sqlite, "$1 $2", "$1 $2 | 2/2");
  CHECK_SCAN(sqlite, "$2 $1 $2", "$2 $1 $2 | 2/2 1,0");
  CHECK_SCAN(sqlite, "$1 $1", "$1 $1 | 1/1");
  CHECK_SCAN(sqlite, ":b :a :b", ":b :a :b | 2/2 | b,a");
}

static void sends_questions(void)
{
  CHECK_SCAN(mysql, "a = ? and b = ?", "a = ? and b = ? | 2/2");
  CHECK_SCAN(mysql, "$2 $1 $2", "? ? ? | 2/3 1,0,1");
  CHECK_SCAN(mysql, "$1,$2", "?,? | 2/2");
  CHECK_SCAN(mysql, ":b :a :b", "? ? ? | 2/3 0,1,0 | b,a");
  CHECK_SCAN(mysql, "@x:=:a", "@x:=? | 1/1 | a");
  /* MySQL takes no ? with a letter behind it. */
  CHECK_SCAN(mysql, "a=?and b=?", "a=? and b=? | 2/2");
  CHECK_SCAN(mysql, "a=?$b", "a=? $b | 1/1");
}

static void sends_dollars(void)
{
  CHECK_SCAN(postgres, "a = ? and b = ?", "a = $1 and b = $2 | 2/2");
  CHECK_SCAN(postgres, "$1 $2", "$1 $2 | 2/2");
  /* Numbers are the user's own: group by f($1) has to mean select f($1). */
  CHECK_SCAN(postgres, "$2 $1 $2", "$2 $1 $2 | 2/2");
  CHECK_SCAN(postgres, "$1 $1", "$1 $1 | 1/1");
  CHECK_SCAN(postgres, "$2 ?? $1 ? $2", "$2 ? $1 ? $2 | 2/2");
  CHECK_SCAN(postgres, ":b :a :b", "$1 $2 $3 | 2/3 0,1,0 | b,a");
  CHECK_SCAN(postgres, "select ?::int", "select $1::int | 1/1");
}

static void allocates_only_to_rewrite(void)
{
  static const char *const texts[] = {
      "", "select 1", "select ?", "select ?, ?, '?'"};
  mb_error error;
  mb__scan scan;
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
    memory_limit(0);
    CHECK_INT(mb__scan_open(&sqlite, texts[i], strlen(texts[i]), &scan, &error),
        MB_OK);
    CHECK_INT(mb__scan_open(&mysql, texts[i], strlen(texts[i]), &scan, &error),
        MB_OK);
    mb__scan_close(&scan);
    memory_unlimit();
  }
  memory_limit(1);
  CHECK_INT(mb__scan_open(&postgres, "$1 $2", 5, &scan, &error), MB_OK);
  CHECK(scan.memory == NULL && scan.sent == NULL && scan.order == NULL);
  CHECK_INT(memory_held, 0);
  memory_unlimit();
  memory_limit(1);
  CHECK_INT(mb__scan_open(&postgres, ":a :b :a", 8, &scan, &error), MB_OK);
  CHECK_INT(memory_taken, 1);
  mb__scan_close(&scan);
  CHECK_INT(memory_held, 0);
  memory_unlimit();
}

static void takes_an_empty_text(void)
{
  mb_error error;
  mb__scan scan;
  CHECK_INT(mb__scan_open(&postgres, NULL, 0, &scan, &error), MB_OK);
  CHECK_INT(scan.style, MB_STYLE_NONE);
  CHECK_INT(scan.n_places, 0);
  mb__scan_close(&scan);
  mb__scan_close(&scan);
}

static void leaves_strings_alone(void)
{
  CHECK_NONE(sqlite, "'?' \"?\" `?` [?] '$1' ':a'");
  CHECK_NONE(sqlite, "'a''?' \"a\"\"?\" [a'?]");
  CHECK_NONE(postgres, "'?' \"?\" E'\\'?' $$?$$ $t$ $1 $t$");
  CHECK_NONE(postgres, "E'\\\\\\'?'");
  CHECK_SCAN(postgres, "E'\\\\'?", "E'\\\\'$1 | 1/1");
  CHECK_SCAN(postgres, "'\\'?", "'\\'$1 | 1/1");
  CHECK_NONE(postgres_backslashes, "'\\'?'");
  CHECK_NONE(postgres, "E'a'\n'\\'?'");
  CHECK_NONE(mysql, "'\\'?' \"\\\"?\" `?`");
  CHECK_SCAN(mysql_ansi, "'\\'?", "'\\'? | 1/1");
  CHECK_NONE(mysql, "'? not ended");
  CHECK_NONE(postgres, "$a$ ? $A$ :x $ a$ $1");
}

static void leaves_comments_alone(void)
{
  CHECK_NONE(sqlite, "-- ? :a $1\n/* ? :a $1 */");
  CHECK_NONE(postgres, "/* /* ? */ ? */ -- ' ?");
  CHECK_SCAN(postgres, "-- '\n ? -- '", "-- '\n $1 -- ' | 1/1");
  CHECK_SCAN(postgres, "/* ' */ ? /* ' */", "/* ' */ $1 /* ' */ | 1/1");
  CHECK_NONE(postgres, "'/*' /* ' ? */ '*/'");
  CHECK_NONE(postgres, "'--' -- ' ?");
  CHECK_NONE(mysql, "# ?\n-- ?\n/* ? */");
  CHECK_SCAN(mysql, "1--?", "1--? | 1/1");
  CHECK_SCAN(mysql, "/*!50000 :a */", "/*!50000 ? */ | 1/1 | a");
  CHECK_SCAN(mysql, "/*!50000:a*/", "/*!50000?*/ | 1/1 | a");
  CHECK_NONE(sqlite, "/*! ? */ /* ?");
}

static void leaves_operators_alone(void)
{
  CHECK_NONE(postgres, "a::int, f(b := 1), @x, c[1:2], d[x:y], '{}'[1:z]");
  CHECK_NONE(mysql, "@a := @@b, @$1, @a.b$1");
  CHECK_NONE(sqlite, "$a, @b, #c, :1, $a::b(:c), $d(:e)");
  CHECK_NONE(mysql, "$a, foo$1, $$b");
  CHECK_NONE(postgres, "foo$1, foo$1$2, $a, $ 1");
  CHECK_NONE(mysql, "x:begin end");
}

static void knows_slices(void)
{
  CHECK_SCAN(postgres, "a[:i]", "a[$1] | 1/1 | i");
  CHECK_SCAN(postgres, "a[:i:n]", "a[$1:n] | 1/1 | i");
  CHECK_SCAN(postgres, "a[:i: :j]", "a[$1: $2] | 2/2 | i,j");
  CHECK_SCAN(postgres, "a[1:n] = :n", "a[1:n] = $1 | 1/1 | n");
  CHECK_SCAN(postgres, "a[ 1 /*c*/ :n]+:m", "a[ 1 /*c*/ :n]+$1 | 1/1 | m");
  CHECK_SCAN(postgres, "a[b[1:x]:y] || :z", "a[b[1:x]:y] || $1 | 1/1 | z");
  CHECK_SCAN(postgres, "array[:a, :b]", "array[$1, $2] | 2/2 | a,b");
  CHECK_SCAN(postgres, "ARRAY[[x], [:b]]", "ARRAY[[x], [$1]] | 1/1 | b");
  CHECK_SCAN(postgres, "a[f(x, :b):y]", "a[f(x, $1):y] | 1/1 | b");
  CHECK_SCAN(postgres, "a[(select x from t where y = :b):y]",
      "a[(select x from t where y = $1):y] | 1/1 | b");
  CHECK_SCAN(postgres, "a[case when x then :b end:y]",
      "a[case when x then $1 end:y] | 1/1 | b");
  CHECK_SCAN(postgres, "a[x AND :b]", "a[x AND $1] | 1/1 | b");
  CHECK_SCAN(postgres, "(a)[x:y], a[1][x:y] = :b",
      "(a)[x:y], a[1][x:y] = $1 | 1/1 | b");
  CHECK_SCAN(postgres, "a[$1:n]", "a[$1:n] | 1/1");
  CHECK_SCAN(postgres, "a[?:n]", "a[$1:n] | 1/1");
  CHECK_SCAN(postgres, "a[1:b$c$ + ?], 'x', ?, $c$",
      "a[1:b$c$ + $1], 'x', $2, $c$ | 2/2");
  CHECK_SCAN(postgres, "a]) :b", "a]) $1 | 1/1 | b");
  /* Where there are no slices, brackets mean nothing. */
  CHECK_SCAN(mysql, "a[1:n]", "a[1?] | 1/1 | n");
}

static void bounds_slices(void)
{
  char sql[256] = "";
  for (size_t i = 0; i < 32; i++)
    (void)strcat(sql, "a[");
  (void)strcat(sql, "x:y");
  char expected[512];
  (void)snprintf(expected, sizeof expected, "%s | 0/0", sql);
  CHECK_SCAN(postgres, sql, expected);
  sql[64] = '\0';
  (void)strcat(sql, "a[:b");
  CHECK_SCAN(postgres, sql,
      "! placeholder at byte 66: subscripts are nested too deep @ 66");
}

static void knows_question_operators(void)
{
  CHECK_SCAN(postgres, "a ? $1", "a ? $1 | 1/1");
  CHECK_SCAN(postgres, "a ?| $1 and b ?& $2", "a ?| $1 and b ?& $2 | 2/2");
  CHECK_SCAN(postgres, "a ? :b", "a ? $1 | 1/1 | b");
  CHECK_SCAN(postgres, "a ?5 $1", "a ?5 $1 | 1/1");
  CHECK_SCAN(postgres, "a ?? ?", "a ? $1 | 1/1");
  CHECK_SCAN(postgres, "a ??| ?", "a ?| $1 | 1/1");
  CHECK_SCAN(postgres, "a ???", "a ?$1 | 1/1");
  CHECK_SCAN(postgres, "a ???? ?", "a ?? $1 | 1/1");
  CHECK_SCAN(postgres, "a ?? $1", "a ? $1 | 1/1");
  CHECK_SCAN(postgres, "a ?? 'b'", "a ? 'b' | 0/0");
  CHECK_SCAN(postgres, "a @?? ?", "a @? $1 | 1/1");
  CHECK_SCAN(sqlite, "??", "?? | 2/2");
  CHECK_SCAN(mysql, "??", "?? | 2/2");
}

static void refuses_two_styles(void)
{
  CHECK_SCAN(sqlite, "? $1",
      "! both ? and $1 as placeholders of one statement, the second at byte 3 "
      "@ 3");
  CHECK_SCAN(mysql, ":a, ?",
      "! both :name and ? as placeholders of one statement, the second at byte "
      "5 @ 5");
  CHECK_SCAN(postgres, "? $1 :a",
      "! both $1 and :name as placeholders of one statement, the second at "
      "byte 6 @ 6");
}

static void refuses_wrong_numbers(void)
{
  CHECK_SCAN(
      sqlite, "a $0", "! placeholder at byte 3: numbers start at $1 @ 3");
  CHECK_SCAN(
      sqlite, "$00001", "! placeholder at byte 1: a number starts with 0 @ 1");
  CHECK_SCAN(postgres, "$524281",
      "! placeholder at byte 1: the number is too great @ 1");
  CHECK_SCAN(postgres, "$99999999999999999999999999999999",
      "! placeholder at byte 1: the number is too great @ 1");
  CHECK_SCAN(postgres, "$18446744073709551617",
      "! placeholder at byte 1: the number is too great @ 1");
  CHECK_SCAN(postgres, "$1 $3", "! parameter $2 is not used @ 0");
  CHECK_SCAN(sqlite, "$2", "! parameter $1 is not used @ 0");
  CHECK_SCAN(mysql, "$524280 $1", "! parameter $2 is not used @ 0");
  CHECK_SCAN(mysql, "$1 $2 $2 $1 $4 $6 $5", "! parameter $3 is not used @ 0");
}

static void refuses_sqlite_numbers(void)
{
  CHECK_SCAN(sqlite, "a ?5", "! ?5 is no placeholder: write $5, at byte 3 @ 3");
  CHECK_SCAN(
      postgres, "?, ?12", "! ?12 is no placeholder: write $12, at byte 4 @ 4");
  CHECK_SCAN(mysql, "?00000000000001",
      "! ?000000 is no placeholder: write $000000, at byte 1 @ 1");
}

static void refuses_zero_bytes(void)
{
  mb_error error;
  mb__scan scan;
  for (size_t d = 0; d < N_DIALECTS; d++) {
    CHECK_INT(
        mb__scan_open(dialects[d], "? '\0' $1", 8, &scan, &error), MB_ERROR);
    CHECK_INT(error.class, MB_USAGE);
    CHECK_INT(error.position, 4);
    CHECK_BYTES(error.room + error.fields[MB_MESSAGE].at,
        error.fields[MB_MESSAGE].size, "zero byte in the text, at byte 4");
    CHECK_INT(scan.n_places, 0);
    CHECK(scan.memory == NULL);
  }
}

static void refuses_words_behind(void)
{
  static const char *const numbers[] = {
      "$1a", "$1$2", "$1_", "$1\xc3\xa4", "$1$a$?$a$", "$1$$"};
  static const char *const names[] = {":a$", ":a$1", ":a$$", ":a$b$?$b$"};
  for (size_t d = 0; d < N_DIALECTS; d++) {
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
      CHECK_SCAN(*dialects[d], numbers[i],
          "! placeholder at byte 1: no blank behind its number @ 1");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
      CHECK_SCAN(
          *dialects[d], names[i], "! placeholder at byte 1: $ in its name @ 1");
  }
}

/* A value is never a part of the text, and a placeholder never joins with what
 * stands beside it. */
static void never_joins_tokens(void)
{
  CHECK_SCAN(postgres, "1-?", "1-$1 | 1/1");
  CHECK_SCAN(postgres, "-?-?", "-$1-$2 | 2/2");
  CHECK_SCAN(postgres, "1?", "1 $1 | 1/1");
  CHECK_SCAN(postgres, "a?b", "a $1 b | 1/1");
  CHECK_SCAN(postgres, "a?\xc3\xa4", "a $1 \xc3\xa4 | 1/1");
  CHECK_SCAN(postgres, "?E'\\'?'", "$1 E'\\'?' | 1/1");
  CHECK_SCAN(postgres, "?$$?$$", "$1 $$?$$ | 1/1");
  CHECK_SCAN(postgres, "$$?$$?", "$$?$$ $1 | 1/1");
  CHECK_SCAN(postgres, "$:a", "$ $1 | 1/1 | a");
  CHECK_SCAN(postgres, "$a:b", "$a $1 | 1/1 | b");
  CHECK_SCAN(postgres, "a[1:e'\\'?'] ?", "a[1:e'\\'?'] $1 | 1/1");
  CHECK_SCAN(postgres, ":a:b", "$1 $2 | 2/2 | a,b");
  CHECK_SCAN(postgres, "in:a", "in $1 | 1/1 | a");
  CHECK_SCAN(postgres, "'x'?'y'", "'x'$1'y' | 1/1");
  CHECK_SCAN(postgres, "@? t.?", "@ $1 t. $2 | 2/2");
  CHECK_SCAN(postgres, "/:a*:b/*", "/$1*$2/* | 2/2 | a,b");
  CHECK_SCAN(mysql, "--:a", "--? | 1/1 | a");
  CHECK_SCAN(mysql, ":a:b", "?? | 2/2 | a,b");
  CHECK_SCAN(mysql, "1?", "1? | 1/1");
}

static void reads_any_bytes(void)
{
  CHECK_SCAN(sqlite, "\xEF\xBB\xBF$2 $1 a\xEF\xBB\xBF$3",
      "\xEF\xBB\xBF$2 $1 a\xEF\xBB\xBF$3 | 2/2 1,0");
  CHECK_SCAN(postgres, "\xff? '\xc3'?", "\xff $1 '\xc3'$2 | 2/2");
  CHECK_SCAN(postgres, ":\xff\x80 :\xff", "$1 $2 | 2/2 | \xff\x80,\xff");
}

static void survives_without_memory(void)
{
  static char sql[2048];
  size_t used = 0;
  for (unsigned i = 0; i < 100; i++)
    used += (size_t)snprintf(sql + used, sizeof sql - used, ":name%u,", i);
  mb_error error;
  mb__scan scan;
  for (size_t d = 0; d < N_DIALECTS; d++)
    for (size_t allowed = 0; allowed < 3; allowed++) {
      memory_limit(allowed);
      const mb_status status =
          mb__scan_open(dialects[d], sql, used, &scan, &error);
      CHECK_INT(status, allowed < 2 ? MB_ERROR : MB_OK);
      if (status != MB_OK) {
        CHECK_INT(error.class, MB_RESOURCE);
        CHECK_INT(memory_held, 0);
        CHECK(scan.memory == NULL && scan.names == NULL);
      } else {
        CHECK_INT(scan.n_parameters, 100);
      }
      mb__scan_close(&scan);
      CHECK_INT(memory_held, 0);
      memory_unlimit();
    }
}

static void maps_positions(void)
{
  static const char sql[] = "a ?? :long and:b x";
  static const char sent[] = "a ? $1 and $2 x";
  static const size_t expected[] = {
      0, 1, 2, 3, 5, 6, 6, 11, 12, 13, 14, 15, 15, 15, 17, 18, 19, 19};
  mb_error error;
  mb__scan scan;
  if (!CHECK_INT(
          mb__scan_open(&postgres, sql, strlen(sql), &scan, &error), MB_OK))
    return;
  CHECK_STRING(scan.sent, sent);
  for (size_t i = 0; i < sizeof expected / sizeof *expected; i++)
    CHECK_INT(mb__scan_position(&scan, i), expected[i]);
  CHECK_INT(mb__scan_position(&scan, SIZE_MAX), 19);
  mb__scan_close(&scan);
  CHECK_INT(mb__scan_position(&scan, 7), 7);
}

/* A repeated piece, scanned in a time that grows with its size only. */
static void scan_many(const mb_lexical *lexical, const char *piece, size_t n,
    mb_status expected, size_t places)
{
  const size_t size = strlen(piece);
  mb_error error;
  mb__scan scan;
  char *sql = check_repeat(piece, n);
  CHECK_INT(mb__scan_open(lexical, sql, n * size, &scan, &error), expected);
  CHECK_INT(scan.n_places, places);
  mb__scan_close(&scan);
  free(sql);
}

static void takes_large_texts(void)
{
  scan_many(&postgres, "?,", 524280, MB_OK, 524280);
  scan_many(&postgres, "?,", 524281, MB_ERROR, 0);
  scan_many(&mysql, ":ab,", 524280, MB_OK, 524280);
  scan_many(&sqlite, ":ab,", 524280, MB_OK, 1);
  scan_many(&postgres, "??", 5000000, MB_OK, 0);
  scan_many(&postgres, "/*", 5000000, MB_OK, 0);
  scan_many(&postgres, "$a$b", 2500000, MB_OK, 0);
  scan_many(&postgres, "$a $b$", 1600000, MB_OK, 0);
  scan_many(&postgres, "E'' \n", 2000000, MB_OK, 0);
  scan_many(&postgres, "E'a'\n", 2000000, MB_OK, 0);
  scan_many(&postgres, "a[(", 3000000, MB_ERROR, 0);
  scan_many(&postgres, "([", 4000000, MB_OK, 0);
  scan_many(&postgres, "a[b:c](", 1400000, MB_OK, 0);
  scan_many(&postgres, "'", 9999999, MB_OK, 0);
  scan_many(&postgres, "-", 9999999, MB_OK, 0);
  scan_many(&sqlite, "$a(", 3000000, MB_OK, 0);
  scan_many(&mysql, "/*!", 3000000, MB_OK, 0);
}

static void takes_many_names(void)
{
  enum { COUNT = 100000, SIZE = 8 };
  char *sql = check_repeat(":n00000,", COUNT);
  for (size_t i = 0; i < COUNT; i++) {
    char piece[32];
    (void)snprintf(piece, sizeof piece, ":n%05zu,", i);
    memcpy(sql + i * SIZE, piece, SIZE);
  }
  mb_error error;
  mb__scan scan;
  CHECK_INT(mb__scan_open(&postgres, sql, (size_t)COUNT * SIZE, &scan, &error),
      MB_OK);
  CHECK_INT(scan.n_parameters, COUNT);
  CHECK_INT(scan.n_places, COUNT);
  CHECK(scan.order == NULL);
  for (size_t i = 0; i < COUNT && scan.names != NULL; i += 999)
    CHECK(scan.names[i].text == sql + i * SIZE + 1 && scan.names[i].size == 6);
  mb__scan_close(&scan);
  free(sql);
}

static const struct check_test tests[] = {
    CHECK_TEST(leaves_native_text_alone),
    CHECK_TEST(sends_questions),
    CHECK_TEST(sends_dollars),
    CHECK_TEST(allocates_only_to_rewrite),
    CHECK_TEST(takes_an_empty_text),
    CHECK_TEST(leaves_strings_alone),
    CHECK_TEST(leaves_comments_alone),
    CHECK_TEST(leaves_operators_alone),
    CHECK_TEST(knows_slices),
    CHECK_TEST(bounds_slices),
    CHECK_TEST(knows_question_operators),
    CHECK_TEST(refuses_two_styles),
    CHECK_TEST(refuses_wrong_numbers),
    CHECK_TEST(refuses_sqlite_numbers),
    CHECK_TEST(refuses_zero_bytes),
    CHECK_TEST(refuses_words_behind),
    CHECK_TEST(never_joins_tokens),
    CHECK_TEST(reads_any_bytes),
    CHECK_TEST(survives_without_memory),
    CHECK_TEST(maps_positions),
    CHECK_TEST(takes_large_texts),
    CHECK_TEST(takes_many_names),
};

int main(void)
{
  return CHECK_RUN(tests);
}
