/* identifier_test.c: names, quoted for the connected database. */
#include "session.h"

/* What a database says of itself, to be changed by a test. */
static mb_capability *capability(const session *s)
{
  return (mb_capability *)mb_conn_capability(s->conn);
}

static mb_status quote(
    session *s, const char *name, size_t size, char *out, size_t room)
{
  memset(out, '#', room);
  return mb_conn_quote(s->conn, name, size, out, room, fresh(s));
}

EACH_WAY(doubles_the_quote)
{
  static const struct {
    const char *name, *quoted;
  } cases[] = {
      {"a", "\"a\""},
      {"A b", "\"A b\""},
      {"\"", "\"\"\"\""},
      {"a\"b\"", "\"a\"\"b\"\"\""},
      {"a'b`c]d\\", "\"a'b`c]d\\\""},
      {"select", "\"select\""},
      {"\x01\x7F", "\"\x01\x7F\""},
      {"\xC3\xA4\xE2\x82\xAC\xF0\x9F\x8C\x99",
          "\"\xC3\xA4\xE2\x82\xAC\xF0\x9F\x8C\x99\""},
  };
  char out[64];
  connect(s);
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    const size_t size = strlen(cases[i].name);
    CHECK_INT(quote(s, cases[i].name, size, out, 2 * size + 3), MB_OK);
    CHECK_STRING(out, cases[i].quoted);
  }
}

ONE_WAY(uses_the_quote_of_the_database)
{
  char out[64];
  connect(s);
  capability(s)->identifier_quote = '`';
  CHECK_INT(quote(s, "a`b\"", 4, out, sizeof out), MB_OK);
  CHECK_STRING(out, "`a``b\"`");
}

EACH_WAY(leaves_it_to_a_driver_that_knows_better)
{
  char out[64];
  s->driver = td_full_driver();
  connect(s);
  CHECK_INT(quote(s, "a\"b", 3, out, sizeof out), MB_OK);
  CHECK_STRING(out, "[a\"b]");
  td_fail(TD_QUOTE, 1, MB_UNSUPPORTED, 0);
  CHECK_INT(quote(s, "a", 1, out, sizeof out), MB_ERROR);
  CHECK_INT(s->error->class, MB_UNSUPPORTED);
  /* What is no name does not reach it. */
  CHECK_INT(quote(s, "a\0b", 3, out, sizeof out), MB_ERROR);
  CHECK_INT(s->error->class, MB_USAGE);
  CHECK_INT(td_calls(TD_QUOTE), 2);
  CHECK_INT(run(s, "put 1"), MB_DONE);
}

ONE_WAY(refuses_what_is_no_name)
{
  static const struct {
    const char *name;
    size_t size;
    const char *message;
  } cases[] = {
#define NAME(text) text, sizeof(text) - 1
#define AT(byte) "a name has a zero byte, or is not UTF-8, at byte " byte
      {NAME(""), "a name is empty"},
      {NAME("\0"), AT("1")},
      {NAME("ab\0c"), AT("3")},
      {NAME("a\x80"), AT("2")},    /* alone */
      {NAME("a\xC3"), AT("2")},    /* cut */
      {NAME("a\xC3z"), AT("2")},   /* not continued */
      {NAME("\xC0\xAF"), AT("1")}, /* overlong */
      {NAME("\xC1\xBF"), AT("1")},
      {NAME("\xE0\x9F\xBF"), AT("1")},
      {NAME("\xE2\x82"), AT("1")},
      {NAME("\xE2\x82z"), AT("1")},
      {NAME("\xED\xA0\x80"), AT("1")}, /* a surrogate */
      {NAME("\xF0\x8F\xBF\xBF"), AT("1")},
      {NAME("\xF0\x9F\x8C"), AT("1")},
      {NAME("\xF0\x9F\x8Czz"), AT("1")},
      {NAME("\xF4\x90\x80\x80"), AT("1")}, /* beyond the last one */
      {NAME("ok\xF5\x80\x80\x80"), AT("3")},
      {NAME("\xFF"), AT("1")},
  };
  char out[64];
  connect(s);
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    CHECK_INT(
        quote(s, cases[i].name, cases[i].size, out, sizeof out), MB_ERROR);
    CHECK_INT(s->error->class, MB_USAGE);
    size_t size;
    const char *message = mb_error_text(s->error, MB_MESSAGE, &size);
    CHECK_BYTES(message, size, cases[i].message);
    CHECK_INT(out[0], '#');
  }
  /* The edges of each form. */
  static const char *const names[] = {"\x01", "\x7F", "\xC2\x80", "\xDF\xBF",
      "\xE0\xA0\x80", "\xEC\xBF\xBF", "\xED\x9F\xBF", "\xEE\x80\x80",
      "\xEF\xBF\xBF", "\xF0\x90\x80\x80", "\xF3\xBF\xBF\xBF",
      "\xF4\x8F\xBF\xBF"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    CHECK_INT(quote(s, names[i], strlen(names[i]), out, sizeof out), MB_OK);
}

ONE_WAY(keeps_to_the_length_of_the_database)
{
  char *long_name = check_repeat("x", 1 << 20);
  char *out = malloc((2 << 20) + 3);
  if (out == NULL)
    abort();
  connect(s);
  CHECK_INT(mb_conn_capability(s->conn)->max_identifier_length, 63);
  CHECK_INT(quote(s, long_name, 63, out, 2 * 63 + 3), MB_OK);
  CHECK_INT(strlen(out), 65);
  CHECK_INT(quote(s, long_name, 64, out, 2 * 64 + 3), MB_ERROR);
  CHECK_INT(s->error->class, MB_USAGE);
  CHECK(says(s, "64 bytes is too long: this database keeps 63"));
  /* Without a limit, any. */
  capability(s)->max_identifier_length = 0;
  memset(long_name, '"', 1 << 20);
  CHECK_INT(quote(s, long_name, 1 << 20, out, (2 << 20) + 3), MB_OK);
  CHECK_INT(strlen(out), (2 << 20) + 2);
  free(long_name);
  free(out);
}

ONE_WAY(wants_room)
{
  char out[16];
  connect(s);
  for (size_t room = 0; room < 9; room++) {
    CHECK_INT(mb_conn_quote(s->conn, "abc", 3, out, room, fresh(s)), MB_ERROR);
    CHECK_INT(s->error->class, MB_USAGE);
  }
  CHECK_INT(mb_conn_quote(s->conn, "abc", 3, out, 9, fresh(s)), MB_OK);
}

static const struct check_test tests[] = {
    CHECK_TEST(doubles_the_quote),
    CHECK_TEST(uses_the_quote_of_the_database),
    CHECK_TEST(leaves_it_to_a_driver_that_knows_better),
    CHECK_TEST(refuses_what_is_no_name),
    CHECK_TEST(keeps_to_the_length_of_the_database),
    CHECK_TEST(wants_room),
};

int main(void)
{
  return CHECK_RUN(tests);
}
