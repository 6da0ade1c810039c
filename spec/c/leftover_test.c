/* leftover_test.c: which texts may leave something behind in their session. */
#include "check.h"
#include "dialects.h"

#include "../../src/core/statement.h"

static const char *const words[] = {"set_config", "advisory", NULL};

static bool leaves(const mb_lexical *lexical, const char *text)
{
  const mb_capability capability = {
      .lexical = *lexical, .session_words = words};
  return mb__may_leave_something(&capability, text, strlen(text));
}

static void reads_and_writes_leave_nothing(void)
{
  static const char *const texts[] = {
      "",
      "select 1",
      " -- set x\n SELECT /* set y */ 1",
      "(select 1) union (select 2)",
      "with a as (select 1) select * from a",
      "insert into t values (1) returning *",
      "update t set x = 1; delete from t;",
      "merge into t using u on t.a = u.a when matched then delete",
      "table t",
      "values (1), (2)",
      "select 'set_config', $$pg_advisory_lock$$",
  };
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
    if (!CHECK(!leaves(&postgres, texts[i])))
      fprintf(stderr, "  %s\n", texts[i]);
}

static void all_others_may(void)
{
  static const char *const texts[] = {
      "set x = 1",
      "begin",
      "create temporary table t (a int)",
      "select 1; set x = 1",
      ";;listen a",
      "\"select\"",
      "select set_config('a', 'b', false)",
      "select pg_try_ADVISORY_lock(1)",
      "select \"pg_advisory_lock\"(1)",
      "do $$ begin end $$",
      "call p()",
  };
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
    if (!CHECK(leaves(&postgres, texts[i])))
      fprintf(stderr, "  %s\n", texts[i]);
}

static void variables_stay(void)
{
  CHECK(leaves(&mysql, "select @x := 1"));
  CHECK(leaves(&mysql, "select a into @x from t"));
  CHECK(!leaves(&mysql, "select '@x' # @y"));
}

static const struct check_test tests[] = {
    CHECK_TEST(reads_and_writes_leave_nothing),
    CHECK_TEST(all_others_may),
    CHECK_TEST(variables_stay),
};

int main(void)
{
  return CHECK_RUN(tests);
}
