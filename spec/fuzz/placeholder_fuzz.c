/* placeholder_fuzz.c: whatever is sent has the tokens of the user's text. */
#include "../../src/core/lexer.h"
#include "../../src/core/placeholder.h"

#include "fuzz.h"

struct text {
  const char *bytes;
  size_t size;
};

static mb__token next_token(mb__lexer *lexer)
{
  mb__token token;
  do
    token = mb__lexer_next(lexer);
  while (token.kind == MB__TOKEN_BLANK);
  return token;
}

static bool is_same(const mb__lexer *a, const mb__token *one,
    const mb__lexer *b, const mb__token *other)
{
  return one->kind == other->kind && one->size == other->size &&
         (one->size == 0 || memcmp(a->text + one->start, b->text + other->start,
                                one->size) == 0);
}

static bool is_place(const mb__lexer *lexer, const mb__token *token,
    mb_placeholder placeholder, size_t number)
{
  char text[32] = "?";
  if (placeholder == MB_PLACEHOLDER_DOLLAR)
    (void)snprintf(text, sizeof text, "$%zu", number);
  return token->size == strlen(text) &&
         memcmp(lexer->text + token->start, text, token->size) == 0;
}

/* Token by token, but for blanks, what is sent is the user's text: only
 * placeholders differ, unless they are sent as they stand, and are then the
 * next in number; and ?? is ?. */
static void require_same_tokens(
    const mb_lexical *lexical, struct text sql, const mb__scan *scan)
{
  const bool keeps = (lexical->placeholder == MB_PLACEHOLDER_NATIVE &&
                         scan->n_parameters <= MB__NATIVE_MAX) ||
                     (lexical->placeholder == MB_PLACEHOLDER_DOLLAR &&
                         scan->style == MB_STYLE_NUMBER);
  size_t places = 0;
  mb__lexer a;
  mb__lexer b;
  mb__lexer_open(&a, lexical, sql.bytes, sql.size);
  mb__lexer_open(&b, lexical, scan->sent, scan->sent_size);
  for (;;) {
    const mb__token one = next_token(&a);
    const mb__token other = next_token(&b);
    const bool doubled = lexical->question_operators &&
                         one.kind == MB__TOKEN_QUESTION &&
                         mb__lexer_byte(&a, a.position) == '?';
    const bool placeholder =
        one.kind == MB__TOKEN_NUMBERED || one.kind == MB__TOKEN_NAMED ||
        (one.kind == MB__TOKEN_QUESTION && scan->style == MB_STYLE_QUESTION);
    if (doubled) {
      (void)mb__lexer_next(&a);
      REQUIRE(other.kind == MB__TOKEN_QUESTION);
    } else if (placeholder && !keeps &&
               is_place(&b, &other, lexical->placeholder, places + 1)) {
      places++;
    } else {
      REQUIRE(is_same(&a, &one, &b, &other));
    }
    if (one.kind == MB__TOKEN_END)
      break;
  }
  REQUIRE(keeps || places == scan->n_places);
}

static void require_names(struct text sql, const mb__scan *scan)
{
  REQUIRE((scan->names != NULL) == (scan->style == MB_STYLE_NAME));
  if (scan->names == NULL)
    return;
  for (size_t i = 0; i < scan->n_parameters; i++) {
    const mb__name *name = &scan->names[i];
    REQUIRE(name->size > 0 && name->text > sql.bytes);
    REQUIRE(name->text + name->size <= sql.bytes + sql.size);
    REQUIRE(name->text[-1] == ':');
    REQUIRE(i == 0 || name->text > scan->names[i - 1].text);
    for (size_t j = 0; j < i && j < 50; j++)
      REQUIRE(name->size != scan->names[j].size ||
              memcmp(name->text, scan->names[j].text, name->size) != 0);
  }
}

static void require_order(const mb__scan *scan)
{
  if (scan->order == NULL) {
    REQUIRE(scan->n_places == scan->n_parameters);
    return;
  }
  bool moved = scan->n_places != scan->n_parameters;
  bool *used = calloc(scan->n_parameters + 1, sizeof *used);
  REQUIRE(used != NULL);
  for (size_t i = 0; i < scan->n_places; i++) {
    REQUIRE(scan->order[i] < scan->n_parameters);
    used[scan->order[i]] = true;
    moved |= scan->order[i] != i;
  }
  for (size_t i = 0; i < scan->n_parameters; i++)
    REQUIRE(used[i]);
  REQUIRE(moved);
  free(used);
}

static void require_positions(struct text sql, const mb__scan *scan)
{
  const size_t size = scan->sent != NULL ? scan->sent_size : sql.size;
  REQUIRE(mb__scan_position(scan, 0) == 0);
  REQUIRE(size == 0 || mb__scan_position(scan, 1) == 1);
  size_t last = 0;
  for (size_t i = 1; i <= size + 1; i++) {
    const size_t position = mb__scan_position(scan, i);
    REQUIRE(position >= last && position >= 1 && position <= sql.size + 1);
    last = position;
  }
  REQUIRE(last == sql.size + 1);
}

/* What is sent is a text whose places are in order already.  Where ? operators
 * are left in it, that cannot be told: two of them in a row would be one. */
static void require_settled(const mb_lexical *lexical, const mb__scan *scan)
{
  mb__scan again;
  mb_error error;
  if (scan->n_places == 0 || lexical->placeholder == MB_PLACEHOLDER_NATIVE ||
      (lexical->question_operators && strchr(scan->sent, '?') != NULL))
    return;
  REQUIRE(mb__scan_open(lexical, scan->sent, scan->sent_size, &again, &error) ==
          MB_OK);
  REQUIRE(again.style == (lexical->placeholder == MB_PLACEHOLDER_DOLLAR
                                 ? MB_STYLE_NUMBER
                                 : MB_STYLE_QUESTION));
  REQUIRE(again.n_places == scan->n_places);
  REQUIRE(again.n_parameters == scan->n_places);
  REQUIRE(again.order == NULL);
  mb__scan_close(&again);
}

static void require_sense(
    const mb_lexical *lexical, struct text sql, const mb__scan *scan)
{
  REQUIRE((scan->style == MB_STYLE_NONE) == (scan->n_parameters == 0));
  REQUIRE((scan->style == MB_STYLE_NONE) == (scan->n_places == 0));
  require_names(sql, scan);
  require_order(scan);
  require_positions(sql, scan);
  if (scan->sent == NULL) {
    REQUIRE(scan->n_edits == 0);
    return;
  }
  REQUIRE(scan->sent[scan->sent_size] == '\0');
  REQUIRE(memchr(scan->sent, '\0', scan->sent_size) == NULL);
  require_same_tokens(lexical, sql, scan);
  require_settled(lexical, scan);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  if (size < 2)
    return 0;
  const mb_lexical lexical = fuzz_lexical(data);
  const struct text sql = {(const char *)data + 2, size - 2};
  mb__scan scan;
  mb_error error = {.position = 0};
  if (mb__scan_open(&lexical, sql.bytes, sql.size, &scan, &error) == MB_OK) {
    require_sense(&lexical, sql, &scan);
  } else {
    REQUIRE(error.class == MB_USAGE);
    REQUIRE(error.position <= sql.size);
    REQUIRE(scan.memory == NULL && scan.n_places == 0);
  }
  mb__scan_close(&scan);
  return 0;
}
