/* suggest_test.c: which name is meant. */
#include "../../src/core/suggest.h"

#include "check.h"

static const char *const options[] = {"user", "password", "host", "port",
    "timeout", "connect_timeout", "acquire_timeout", NULL, "id", "x"};

static const char *suggest(const char *word)
{
  return mb__suggest(
      word, strlen(word), options, sizeof options / sizeof *options);
}

static void finds_the_nearest(void)
{
  CHECK_STRING(suggest("pasword"), "password");
  CHECK_STRING(suggest("passwrod"), "password");
  CHECK_STRING(suggest("hots"), "host");
  CHECK_STRING(suggest("hostt"), "host");
  CHECK_STRING(suggest("prot"), "port");
  CHECK_STRING(suggest("timeot"), "timeout");
  CHECK_STRING(suggest("conect_timeout"), "connect_timeout");
  CHECK_STRING(suggest("TimeOut"), "timeout");
  CHECK_STRING(suggest("di"), "id");
  CHECK_STRING(suggest("ids"), "id");
}

static void leaves_the_far_alone(void)
{
  CHECK_STRING(suggest(""), NULL);
  CHECK_STRING(suggest("y"), NULL);
  CHECK_STRING(suggest("ab"), NULL);
  CHECK_STRING(suggest("database"), NULL);
  CHECK_STRING(suggest("pool"), NULL);
  CHECK_STRING(suggest("statement_cache"), NULL);
  CHECK_STRING(mb__suggest("a", 1, NULL, 0), NULL);
}

static void measures(void)
{
  static const struct {
    const char *a, *b;
    size_t distance;
  } pairs[] = {{"", "", 0}, {"a", "a", 0}, {"a", "A", 0}, {"a", "b", SIZE_MAX},
      {"abc", "acb", 1}, {"abcdef", "badcef", 2}, {"abcdef", "abdcfe", 2},
      {"kitten", "sitting", SIZE_MAX}, {"saturday", "sunday", SIZE_MAX},
      {"abcdefghi", "abcdxyzhi", 3}, {"abcdefghijkl", "bcdefghijkl", 1},
      {"abcdefghijklmno", "xxxxxfghijklmno", SIZE_MAX}};
  for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
    const char *a = pairs[i].a;
    const char *b = pairs[i].b;
    CHECK_INT(
        mb__suggest_distance(a, strlen(a), b, strlen(b)), pairs[i].distance);
    CHECK_INT(
        mb__suggest_distance(b, strlen(b), a, strlen(a)), pairs[i].distance);
  }
}

static void takes_long_names(void)
{
  char a[MB__SUGGEST_MAX + 2];
  memset(a, 'a', sizeof a);
  CHECK_INT(mb__suggest_distance(a, MB__SUGGEST_MAX, a, MB__SUGGEST_MAX), 0);
  CHECK_INT(
      mb__suggest_distance(a, MB__SUGGEST_MAX, a, MB__SUGGEST_MAX - 4), 4);
  CHECK_INT(mb__suggest_distance(a, MB__SUGGEST_MAX, a, MB__SUGGEST_MAX - 5),
      SIZE_MAX);
  CHECK_INT(mb__suggest_distance(a, sizeof a, a, sizeof a), SIZE_MAX);
}

static const struct check_test tests[] = {
    CHECK_TEST(finds_the_nearest),
    CHECK_TEST(leaves_the_far_alone),
    CHECK_TEST(measures),
    CHECK_TEST(takes_long_names),
};

int main(void)
{
  return CHECK_RUN(tests);
}
