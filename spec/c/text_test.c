/* text_test.c: scripts, placeholders and suggestions, as a program asks. */
#include "dialects.h"
#include "session.h"

/* --- Scripts ------------------------------------------------------------ */

ONE_WAY(splits_a_script)
{
  static const char text[] = "put 1;\n-- no end: ;\nput ';';\n\n  put 3";
  static const struct {
    const char *statement;
    size_t line;
  } expected[] = {{"put 1", 1}, {"put ';'", 3}, {"put 3", 5}};
  mb_script *script;
  const char *start;
  size_t size, line;
  connect(s);
  CHECK_INT(
      mb_script_open(s->conn, text, sizeof text - 1, &script, fresh(s)), MB_OK);
  /* It needs the connection no more. */
  release(s);
  mb_pool_close(s->pool, 0);
  s->pool = NULL;
  for (size_t i = 0; i < 3; i++) {
    if (!CHECK(mb_script_next(script, &start, &size, &line)))
      break;
    CHECK(size >= strlen(expected[i].statement));
    CHECK_BYTES(start + size - strlen(expected[i].statement),
        strlen(expected[i].statement), expected[i].statement);
    CHECK_INT(line, expected[i].line);
  }
  CHECK(!mb_script_next(script, &start, &size, &line));
  CHECK(!mb_script_next(script, &start, &size, &line));
  mb_script_close(script);
  mb_script_close(NULL);
}

ONE_WAY(splits_nothing)
{
  mb_script *script;
  const char *start;
  size_t size, line;
  connect(s);
  CHECK_INT(mb_script_open(s->conn, NULL, 0, &script, fresh(s)), MB_OK);
  CHECK(!mb_script_next(script, &start, &size, &line));
  mb_script_close(script);
  CHECK_INT(mb_script_open(s->conn, "put 1;\0put 2", 12, &script, fresh(s)),
      MB_ERROR);
  CHECK_INT(s->error->class, MB_USAGE);
  CHECK_INT(s->error->position, 7);
  CHECK(script == NULL);
}

/* --- Placeholders ------------------------------------------------------- */

/* Writes "style n: at+size=parameter …". */
static void describe(
    const mb_lexical *lexical, const char *sql, char *out, size_t room)
{
  static const char *const styles[] = {"none", "question", "number", "name"};
  mb_place places[16];
  mb_places found;
  mb_error error;
  CHECK(mb_places_bound(sql, strlen(sql)) <= 16);
  if (mb_places_read(lexical, sql, strlen(sql), places, &found, &error) !=
      MB_OK) {
    CHECK_INT(error.class, MB_USAGE);
    (void)snprintf(out, room, "!");
    return;
  }
  CHECK(found.n <= mb_places_bound(sql, strlen(sql)));
  size_t used = (size_t)snprintf(
      out, room, "%s %zu:", styles[found.style], found.n_parameters);
  for (size_t i = 0; i < found.n; i++)
    used += (size_t)snprintf(out + used, room - used, " %zu+%zu=%zu",
        places[i].at, places[i].size, places[i].parameter);
}

static void finds_placeholders(void)
{
  static const struct {
    const mb_lexical *lexical;
    const char *sql, *expected;
  } cases[] = {
      {&sqlite, "select 1", "none 0:"},
      {&sqlite, "", "none 0:"},
      {&sqlite, "a = ? and b in (?, ?)",
          "question 3: 4+1=0 16+1=1 "
          "19+1=2"},
      {&sqlite, "'?' -- ?\n ?", "question 1: 10+1=0"},
      {&sqlite, "$2 $1 $2", "number 2: 0+2=1 3+2=0 6+2=1"},
      {&sqlite, ":b :a :b", "name 2: 0+2=0 3+2=1 6+2=0"},
      {&sqlite, ":ab :a", "name 2: 0+3=0 4+2=1"},
      {&postgres, "a ? 'k' and b = $1", "number 1: 16+2=0"},
      {&postgres, "a ?? 'k' and b = ?", "question 1: 17+1=0"},
      {&postgres, "x[1:2]::int = :n", "name 1: 14+2=0"},
      {&sqlite, "? :a", "!"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    char found[256];
    describe(cases[i].lexical, cases[i].sql, found, sizeof found);
    CHECK_STRING(found, cases[i].expected);
  }
}

ONE_WAY(tells_the_parameters_of_a_statement)
{
  mb_stmt *stmt;
  size_t size;
  const char *name;
  connect(s);
  CHECK_INT(
      mb_conn_statement(s->conn, "echo :first :second", 19, 0, &stmt, fresh(s)),
      MB_OK);
  CHECK_INT(mb_stmt_style(stmt), MB_STYLE_NAME);
  CHECK_INT(mb_stmt_n_parameters(stmt), 2);
  name = mb_stmt_parameter(stmt, 1, &size);
  CHECK_BYTES(name, size, "second");
  CHECK(mb_stmt_parameter(stmt, 2, &size) == NULL);
  name = mb_stmt_text(stmt, &size);
  CHECK_BYTES(name, size, "echo :first :second");
  mb_suggest_parameter(stmt, "secnd", 5, &name, &size);
  CHECK_BYTES(name, size, "second");
  mb_suggest_parameter(stmt, "other", 5, &name, &size);
  CHECK(name == NULL);
  CHECK_INT(size, 0);
  CHECK_INT(mb_stmt_run_number(stmt), 0);
  CHECK_INT(mb_conn_statement(s->conn, "echo ?", 6, 0, &stmt, fresh(s)), MB_OK);
  CHECK_INT(mb_stmt_style(stmt), MB_STYLE_QUESTION);
  CHECK(mb_stmt_parameter(stmt, 0, &size) == NULL);
  mb_suggest_parameter(stmt, "a", 1, &name, &size);
  CHECK(name == NULL);
}

static void suggests(void)
{
  static const char *const names[] = {"timeout", "cancel"};
  CHECK(mb_suggest("time_out", 8, names, 2) == names[0]);
  CHECK(mb_suggest("colour", 6, names, 2) == NULL);
  CHECK(mb_suggest("timeout", 7, names, 0) == NULL);
}

static const struct check_test tests[] = {
    CHECK_TEST(splits_a_script),
    CHECK_TEST(splits_nothing),
    CHECK_TEST(finds_placeholders),
    CHECK_TEST(tells_the_parameters_of_a_statement),
    CHECK_TEST(suggests),
};

int main(void)
{
  return CHECK_RUN(tests);
}
