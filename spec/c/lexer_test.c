/* lexer_test.c: what each database takes for strings, names and comments. */
#include "../../src/core/lexer.h"

#include "check.h"
#include "dialects.h"

/* One letter for each kind of token; blanks are left out. */
static const char letters[] = "._cSQWDV?$:;{}y";

/* Writes the tokens of sql as letter(text) to out. */
static void write_tokens(
    const mb_lexical *lexical, const char *sql, char *out, size_t room)
{
  mb__lexer lexer;
  size_t used = 0;
  out[0] = '\0';
  mb__lexer_open(&lexer, lexical, sql, strlen(sql));
  for (;;) {
    const mb__token token = mb__lexer_next(&lexer);
    if (token.kind == MB__TOKEN_END)
      return;
    if (token.kind == MB__TOKEN_BLANK)
      continue;
    const int n = snprintf(out + used, room - used, "%c(%.*s)",
        letters[token.kind], (int)token.size, sql + token.start);
    used += (size_t)n;
  }
}

#define CHECK_TOKENS(lexical, sql, expected)              \
  do {                                                    \
    char tokens[1024];                                    \
    write_tokens(&(lexical), sql, tokens, sizeof tokens); \
    CHECK_STRING(tokens, expected);                       \
  } while (0)

static void covers_every_byte(void)
{
  static const char *const texts[] = {
      "select 'a' -- b\n, \"c\" /* d */ from [e]",
      "$$x$$ $1 :a ?? @x @@y `z` E'\\'' # no", "/*!50000 a */ /*! b */ /*", "'",
      "\"", "`", "[", "$a$", "E'", ":", "$", "@", "#", "\\", "\x80\xff", "--"};
  for (size_t d = 0; d < N_DIALECTS; d++)
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
      mb__lexer lexer;
      size_t end = 0;
      mb__lexer_open(&lexer, dialects[d], texts[i], strlen(texts[i]));
      for (;;) {
        const mb__token token = mb__lexer_next(&lexer);
        CHECK_INT(token.start, end);
        end += token.size;
        if (token.kind == MB__TOKEN_END)
          break;
        CHECK(token.size > 0);
      }
      CHECK_INT(end, strlen(texts[i]));
      CHECK_INT(mb__lexer_next(&lexer).kind, MB__TOKEN_END);
    }
}

static void takes_an_empty_text(void)
{
  mb__lexer lexer;
  mb__lexer_open(&lexer, &sqlite, NULL, 0);
  CHECK_INT(mb__lexer_next(&lexer).kind, MB__TOKEN_END);
  CHECK_INT(mb__lexer_next(&lexer).kind, MB__TOKEN_END);
}

static void reads_strings(void)
{
  CHECK_TOKENS(sqlite, "'a''b' 'c\\' d", "S('a''b')S('c\\')W(d)");
  CHECK_TOKENS(postgres, "'a''b' 'c\\' d", "S('a''b')S('c\\')W(d)");
  CHECK_TOKENS(postgres_backslashes, "'a\\' d' e", "S('a\\' d')W(e)");
  CHECK_TOKENS(mysql, "'a\\' d' e", "S('a\\' d')W(e)");
  CHECK_TOKENS(mysql, "'a\\\\' e", "S('a\\\\')W(e)");
  CHECK_TOKENS(mysql, "\"a\\\" d\" e", "S(\"a\\\" d\")W(e)");
  CHECK_TOKENS(mysql_ansi, "'a\\' e", "S('a\\')W(e)");
  CHECK_TOKENS(mysql_ansi, "\"a\\\" e", "Q(\"a\\\")W(e)");
  CHECK_TOKENS(mysql, "'it''s' x'00' N'y'", "S('it''s')W(x)S('00')W(N)S('y')");
}

static void reads_escape_strings(void)
{
  CHECK_TOKENS(postgres, "E'\\'' a", "S(E'\\'')W(a)");
  CHECK_TOKENS(postgres, "e'\\\\' a", "S(e'\\\\')W(a)");
  CHECK_TOKENS(postgres, "E'a''b\\'' a", "S(E'a''b\\'')W(a)");
  CHECK_TOKENS(postgres, "e '\\' a", "W(e)S('\\')W(a)");
  CHECK_TOKENS(postgres, "nameE'\\' a", "W(nameE)S('\\')W(a)");
  CHECK_TOKENS(postgres, "$E'\\'' a", "y($)S(E'\\'')W(a)");
  CHECK_TOKENS(postgres, ":E'\\'' a", "y(:)S(E'\\'')W(a)");
  CHECK_TOKENS(postgres, ":ne'\\' a", ":(:ne)S('\\')W(a)");
  CHECK_TOKENS(sqlite, "E'\\' a", "W(E)S('\\')W(a)");
  /* A number ends before an E that is no exponent. */
  CHECK_TOKENS(postgres, "1E'\\'' a", "D(1)S(E'\\'')W(a)");
  CHECK_TOKENS(postgres, "1e5E'\\'' a", "D(1e5)S(E'\\'')W(a)");
  CHECK_TOKENS(postgres, "1.5e-5E'\\'' a", "D(1.5e-5)S(E'\\'')W(a)");
  CHECK_TOKENS(postgres, "1.E'\\'' a", "D(1.)S(E'\\'')W(a)");
  CHECK_TOKENS(postgres, "1xE'\\' a", "D(1)W(xE)S('\\')W(a)");
}

static void goes_on_with_escape_strings(void)
{
  CHECK_TOKENS(postgres, "E'a'\n'\\' b' c", "S(E'a'\n'\\' b')W(c)");
  CHECK_TOKENS(postgres, "E'a' \r '\\' b' c", "S(E'a' \r '\\' b')W(c)");
  CHECK_TOKENS(
      postgres, "E'a' -- x\n--y\n'\\' b' c", "S(E'a' -- x\n--y\n'\\' b')W(c)");
  CHECK_TOKENS(postgres, "E'a'\n'b'\n'\\'' c", "S(E'a'\n'b'\n'\\'')W(c)");
  CHECK_TOKENS(postgres, "E'a' '\\' c", "S(E'a')S('\\')W(c)");
  CHECK_TOKENS(postgres, "E'a' /*\n*/ '\\' c", "S(E'a')c(/*\n*/)S('\\')W(c)");
  CHECK_TOKENS(postgres, "'a'\n'\\' c", "S('a')S('\\')W(c)");
  CHECK_TOKENS(postgres, "E'a'\n -- x", "S(E'a')c(-- x)");
}

static void reads_quoted_names(void)
{
  CHECK_TOKENS(sqlite, "\"a\"\"b\" `c``d` [e\"] f",
      "Q(\"a\"\"b\")Q(`c``d`)Q([e\"])W(f)");
  CHECK_TOKENS(sqlite, "a[b:c]", "W(a)Q([b:c])");
  CHECK_TOKENS(postgres, "\"a\\\" `", "Q(\"a\\\")y(`)");
  CHECK_TOKENS(postgres, "a[1]", "W(a)y([)D(1)y(])");
  CHECK_TOKENS(mysql, "`a\\` `b``c`", "Q(`a\\`)Q(`b``c`)");
}

static void reads_comments(void)
{
  CHECK_TOKENS(sqlite, "a--b\rc\nd", "W(a)c(--b\rc)W(d)");
  CHECK_TOKENS(postgres, "a--b\rc\nd", "W(a)c(--b)W(c)W(d)");
  CHECK_TOKENS(sqlite, "/* /* */ */", "c(/* /* */)y(*)y(/)");
  CHECK_TOKENS(postgres, "/* /* */ */ a", "c(/* /* */ */)W(a)");
  CHECK_TOKENS(postgres, "/*/ */ a", "c(/*/ */)W(a)");
  CHECK_TOKENS(postgres, "/*/* */ a", "c(/*/* */ a)");
  CHECK_TOKENS(postgres, "/***/ a", "c(/***/)W(a)");
  CHECK_TOKENS(postgres, "/*'*/ ' /*'", "c(/*'*/)S(' /*')");
  CHECK_TOKENS(postgres, "--'\n '--'", "c(--')S('--')");
  CHECK_TOKENS(postgres, "a # b", "W(a)y(#)W(b)");
  CHECK_TOKENS(mysql, "a # b\nc", "W(a)c(# b)W(c)");
  CHECK_TOKENS(mysql, "5--3 -- x\ny", "W(5)y(-)y(-)W(3)c(-- x)W(y)");
  CHECK_TOKENS(mysql, "--\tx\n--\n--", "c(--\tx)c(--)c(--)");
  CHECK_TOKENS(mysql, "--\x01x\n--\x7fx", "c(--\x01x)c(--\x7fx)");
}

static void reads_versioned_comments(void)
{
  CHECK_TOKENS(mysql, "/*!50003 a */ b", "{(/*!50003)W(a)}(*/)W(b)");
  CHECK_TOKENS(mysql, "/*!100100a */", "{(/*!100100)W(a)}(*/)");
  CHECK_TOKENS(mysql, "/*!1234 */", "{(/*!)W(1234)}(*/)");
  CHECK_TOKENS(mysql, "/*M!100100 a */", "{(/*M!100100)W(a)}(*/)");
  CHECK_TOKENS(
      mysql, "/*! /* x */ a */ */", "{(/*!)c(/* x */)W(a)}(*/)y(*)y(/)");
  CHECK_TOKENS(mysql, "/*!50000$1*/", "{(/*!50000)$($1)}(*/)");
  CHECK_TOKENS(mysql, "/*+ hint ' */ a", "c(/*+ hint ' */)W(a)");
  CHECK_TOKENS(sqlite, "/*! a */ b", "c(/*! a */)W(b)");
}

static void reads_dollar_quotes(void)
{
  CHECK_TOKENS(postgres, "$$a'$b$$ c", "S($$a'$b$$)W(c)");
  CHECK_TOKENS(postgres, "$a$ $b$ $$ $a$ c", "S($a$ $b$ $$ $a$)W(c)");
  CHECK_TOKENS(postgres, "$a$ $aa$a$ c", "S($a$ $aa$a$)W(c)");
  CHECK_TOKENS(postgres, "$a$ $A$ c", "S($a$ $A$ c)");
  CHECK_TOKENS(postgres, "$\xc3\xa4_1$'$\xc3\xa4_1$ c",
      "S($\xc3\xa4_1$'$\xc3\xa4_1$)W(c)");
  CHECK_TOKENS(postgres, "foo$1 foo$$ $1a$", "W(foo$1)W(foo$$)$($1)W(a$)");
  CHECK_TOKENS(postgres, "$a b $-$", "y($)W(a)W(b)y($)y(-)y($)");
  CHECK_TOKENS(postgres, "$1$a$'$a$", "$($1)S($a$'$a$)");
  CHECK_TOKENS(postgres, "1$$'$$", "D(1)S($$'$$)");
  CHECK_TOKENS(mysql, "$$ ' $$'", "W($$)S(' $$')");
}

static void reads_placeholders(void)
{
  CHECK_TOKENS(postgres, "?? $12 :ab :1 a::b a:=b",
      "?(?)?(?)$($12):(:ab)y(:)D(1)W(a)y(::)W(b)W(a)y(:=)W(b)");
  CHECK_TOKENS(postgres, ":::a", "y(::):(:a)");
  CHECK_TOKENS(postgres, ":a\xc3\xa4$", ":(:a\xc3\xa4$)");
  CHECK_TOKENS(sqlite, ":a $1 ?1 :a$b", ":(:a)$($1)?(?)W(1):(:a$b)");
}

static void reads_variables(void)
{
  CHECK_TOKENS(
      mysql, "@a.b$1 @@x @'y' @`z`", "V(@a.b$1)y(@)V(@x)y(@)S('y')y(@)Q(`z`)");
  CHECK_TOKENS(postgres, "@$1 <@:a", "y(@)$($1)y(<)y(@):(:a)");
  CHECK_TOKENS(sqlite, "@a $b #c :1", "V(@a)V($b)V(#c)V(:1)");
  CHECK_TOKENS(sqlite, "$a::b(:x) :c(') :d::e", "V($a::b(:x))V(:c('))V(:d::e)");
  CHECK_TOKENS(sqlite, "$a(x y", "V($a(x)W(y)");
  CHECK_TOKENS(mysql, "$a $$b", "W($a)W($$b)");
}

static void reads_labels(void)
{
  CHECK_TOKENS(mysql, "x:begin y:LOOP", "W(x)y(:)W(begin)W(y)y(:)W(LOOP)");
  CHECK_TOKENS(mysql, "x :begin x:beginning", "W(x):(:begin)W(x):(:beginning)");
  CHECK_TOKENS(mysql, ":a:begin", ":(:a):(:begin)");
  CHECK_TOKENS(postgres, "x:begin", "W(x):(:begin)");
}

static void knows_words(void)
{
  mb__lexer lexer;
  mb__lexer_open(&lexer, &sqlite, "BeGin", 5);
  mb__token token = mb__lexer_next(&lexer);
  CHECK(mb__lexer_is(&lexer, &token, "begin"));
  CHECK(!mb__lexer_is(&lexer, &token, "begi"));
  CHECK(!mb__lexer_is(&lexer, &token, "beginn"));
  mb__lexer_open(&lexer, &sqlite, "'in'", 4);
  token = mb__lexer_next(&lexer);
  CHECK(!mb__lexer_is(&lexer, &token, "'in'"));
}

/* Comments a million deep, in a text of four megabytes. */
static void nests_without_recursion(void)
{
  const size_t depth = 1000000;
  char *text = check_repeat("/*", 2 * depth + 1);
  for (size_t i = depth; i < 2 * depth; i++)
    memcpy(text + 2 * i, "*/", 2);
  text[4 * depth] = 'a';
  mb__lexer lexer;
  mb__lexer_open(&lexer, &postgres, text, 4 * depth + 1);
  CHECK_INT(mb__lexer_next(&lexer).size, 4 * depth);
  CHECK_INT(mb__lexer_next(&lexer).kind, MB__TOKEN_WORD);
  mb__lexer_open(&lexer, &postgres, text, 4 * depth - 2);
  CHECK_INT(mb__lexer_next(&lexer).size, 4 * depth - 2);
  CHECK_INT(mb__lexer_next(&lexer).kind, MB__TOKEN_END);
  free(text);
}

static const struct check_test tests[] = {
    CHECK_TEST(covers_every_byte),
    CHECK_TEST(takes_an_empty_text),
    CHECK_TEST(reads_strings),
    CHECK_TEST(reads_escape_strings),
    CHECK_TEST(goes_on_with_escape_strings),
    CHECK_TEST(reads_quoted_names),
    CHECK_TEST(reads_comments),
    CHECK_TEST(reads_versioned_comments),
    CHECK_TEST(reads_dollar_quotes),
    CHECK_TEST(reads_placeholders),
    CHECK_TEST(reads_variables),
    CHECK_TEST(reads_labels),
    CHECK_TEST(knows_words),
    CHECK_TEST(nests_without_recursion),
};

int main(void)
{
  return CHECK_RUN(tests);
}
