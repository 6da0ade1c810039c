/*
 * rule.c: what is wanted of which call.
 *
 * Rules belong to a connector, so they hold for all connections of a pool, also
 * for those that it opens by itself, and are changed from any thread.
 */
#include "fault.h"

#include <stddef.h>
#include <string.h>

#define NS_PER_SECOND 1000000000
#define LONGEST_S 1e9

struct ft_rule {
  ft_slot slot;
  int64_t nth;   /* the first call that it is for, from 1 */
  int64_t times; /* how many from there on; 0: all */
  int64_t count; /* of the calls so far */
  ft_fault fault;
  ft_rule *next;
  size_t size; /* of text; 0: any statement */
  char text[];
};

static const struct {
  const char *name;
  unsigned means;
  size_t at; /* in the table */
} slots[FT_N_SLOTS] = {
#define FT_SLOT(slot, means) {#slot, (means), offsetof(mb_driver, slot)},
    FT_SLOTS(FT_SLOT)
#undef FT_SLOT
};

/* --- The list ----------------------------------------------------------- */

ft_rules *ft_rules_open(const mb_host *host, const mb_driver *driver)
{
  ft_rules *rules = host->allocate(sizeof *rules);
  if (rules == NULL)
    return NULL;
  memset(rules, 0, sizeof *rules);
  rules->host = host;
  rules->driver = driver;
  atomic_init(&rules->refs, 1);
  (void)pthread_mutex_init(&rules->lock, NULL);
  return rules;
}

void ft_rules_ref(ft_rules *rules)
{
  (void)atomic_fetch_add(&rules->refs, 1);
}

static void clear(ft_rules *rules)
{
  (void)pthread_mutex_lock(&rules->lock);
  ft_rule *rule = rules->first;
  rules->first = rules->last = NULL;
  atomic_store(&rules->n, 0);
  (void)pthread_mutex_unlock(&rules->lock);
  (void)atomic_fetch_add(&rules->cleared, 1);
  while (rule != NULL) {
    ft_rule *next = rule->next;
    rules->host->release(rule);
    rule = next;
  }
}

void ft_rules_unref(ft_rules *rules)
{
  if (rules == NULL || atomic_fetch_sub(&rules->refs, 1) != 1)
    return;
  clear(rules);
  (void)pthread_mutex_destroy(&rules->lock);
  rules->host->release(rules);
}

static bool contains(
    const char *text, size_t size, const char *part, size_t part_size)
{
  if (part_size == 0)
    return true;
  for (; text != NULL && size >= part_size; text++, size--)
    if (memcmp(text, part, part_size) == 0)
      return true;
  return false;
}

void ft_rules_ask(
    ft_rules *rules, ft_slot slot, const char *text, size_t size, ft_fault *out)
{
  (void)atomic_fetch_add_explicit(&rules->calls[slot], 1, memory_order_relaxed);
  out->means = 0;
  if (atomic_load_explicit(&rules->n, memory_order_acquire) == 0)
    return;
  (void)pthread_mutex_lock(&rules->lock);
  for (ft_rule *rule = rules->first; rule != NULL; rule = rule->next) {
    if (rule->slot != slot || !contains(text, size, rule->text, rule->size))
      continue;
    const int64_t behind = ++rule->count - rule->nth;
    if (out->means == 0 && behind >= 0 &&
        (rule->times == 0 || behind < rule->times))
      *out = rule->fault;
  }
  (void)pthread_mutex_unlock(&rules->lock);
}

/* --- Reading ------------------------------------------------------------ */

static mb_status refuse(const ft_rules *rules, const char *what,
    const mb_value *value, mb_error *error)
{
  const bool is_text = value->tag == MB_TEXT;
  return rules->host->fail(error, MB_USAGE, "%s%s%.*s", what,
      is_text ? ": " : "", is_text ? (int)value->as.bytes.size : 0,
      is_text ? value->as.bytes.data : "");
}

static bool is(const mb_value *value, const char *word)
{
  return value->tag == MB_TEXT && value->as.bytes.size == strlen(word) &&
         memcmp(value->as.bytes.data, word, strlen(word)) == 0;
}

/* Whether the driver inside, or this one in its place, has a slot. */
static bool has_slot(const ft_rules *rules, ft_slot slot)
{
  void (*function)(void);
  memcpy(
      &function, (const char *)rules->driver + slots[slot].at, sizeof function);
  return function != NULL || slot == ft_slot_consume || slot == ft_slot_ping ||
         slot == ft_slot_resume;
}

static mb_status read_slot(
    const ft_rules *rules, const mb_value *value, ft_slot *out, mb_error *error)
{
  int found = 0;
  while (found < FT_N_SLOTS && !is(value, slots[found].name))
    found++;
  if (found == FT_N_SLOTS)
    return refuse(rules, "there are no rules for such a slot", value, error);
  *out = (ft_slot)found;
  if (has_slot(rules, *out))
    return MB_OK;
  return rules->host->fail(error, MB_UNSUPPORTED,
      "driver \"%s\" has no %s: what it is for goes by other slots",
      rules->driver->name, slots[found].name);
}

static mb_status read_class(const ft_rules *rules, const mb_value *value,
    mb_class *out, mb_error *error)
{
  static const char *const names[MB_CLASS_COUNT] = {
#define FT_CLASS(constant, name, parent) [constant] = (name),
      MB_CLASSES(FT_CLASS)
#undef FT_CLASS
  };
  int found = 0;
  while (found < MB_CLASS_COUNT && !is(value, names[found]))
    found++;
  if (found == MB_CLASS_COUNT)
    return refuse(rules, "there is no class of errors", value, error);
  *out = (mb_class)found;
  return MB_OK;
}

/* Words with a blank between two. */
static mb_status read_flags(const ft_rules *rules, const mb_value *value,
    unsigned *out, mb_error *error)
{
  static const struct {
    const char *name;
    unsigned flag;
  } flags[] = {
      {"connection_dead", MB_CONNECTION_DEAD},
      {"transaction_dead", MB_TRANSACTION_DEAD},
      {"retryable", MB_RETRYABLE},
      {"sent", MB_SENT},
      {"stale_statement", MB_STALE_STATEMENT},
      {"session_only", MB_SESSION_ONLY},
  };
  const size_t n = sizeof flags / sizeof flags[0];
  mb_value word = *value;
  size_t left = value->as.bytes.size;
  *out = 0;
  while (left > 0) {
    const char *start = word.as.bytes.data;
    const char *blank = memchr(start, ' ', left);
    word.as.bytes.size = blank != NULL ? (size_t)(blank - start) : left;
    size_t found = 0;
    while (found < n && !is(&word, flags[found].name))
      found++;
    if (found == n)
      return refuse(rules, "there is no flag", &word, error);
    *out |= flags[found].flag;
    const size_t taken = word.as.bytes.size + (blank != NULL);
    word.as.bytes.data = start + taken;
    left -= taken;
  }
  return MB_OK;
}

/* What is to happen, beside a delay. */
static mb_status read_act(const ft_rules *rules, const mb_value *value,
    ft_fault *fault, mb_error *error)
{
  static const struct {
    const char *name;
    unsigned means;
    mb_validity answer;
  } acts[] = {
      {"", 0, MB_DEAD},
      {"lose", FT_LOSE, MB_DEAD},
      {"fail", FT_FAIL, MB_DEAD},
      {"dead", FT_ANSWER, MB_DEAD},
      {"alive", FT_ANSWER, MB_ALIVE},
      {"readable", FT_ANSWER, MB_READABLE},
  };
  for (size_t i = 0; i < sizeof acts / sizeof acts[0]; i++)
    if (is(value, acts[i].name)) {
      fault->means |= acts[i].means;
      fault->answer = acts[i].answer;
      return MB_OK;
    }
  return refuse(rules, "there is no such fault", value, error);
}

static int64_t read_delay_ns(const mb_value *value)
{
  const double seconds = value->tag == MB_DOUBLE  ? value->as.real
                         : value->tag == MB_INT64 ? (double)value->as.integer
                                                  : 0.0;
  return seconds > LONGEST_S ? MB_NEVER : (int64_t)(seconds * NS_PER_SECOND);
}

static void copy_cut(char *out, size_t room, const mb_value *value)
{
  size_t size = value->tag == MB_TEXT ? value->as.bytes.size : 0;
  if (size >= room)
    size = room - 1;
  if (size > 0)
    memcpy(out, value->as.bytes.data, size);
  out[size] = '\0';
}

/* The values of fault_at. */
enum {
  AT_SLOT,
  AT_TEXT, /* or NULL */
  AT_NTH,
  AT_TIMES,
  AT_DELAY, /* seconds */
  AT_ACT,
  AT_AFTER,
  AT_CLASS,
  AT_FLAGS,
  AT_CODE,    /* or NULL */
  AT_MESSAGE, /* or NULL */
  AT_N
};

static mb_status read_fault(const ft_rules *rules, ft_slot slot,
    const mb_value *values, ft_fault *fault, mb_error *error)
{
  fault->delay_ns = read_delay_ns(&values[AT_DELAY]);
  fault->means = (fault->delay_ns > 0 ? FT_DELAY : 0u) |
                 (fault->delay_ns == MB_NEVER ? FT_ENDLESS : 0u) |
                 (values[AT_AFTER].as.integer ? FT_AFTER : 0u);
  if (read_act(rules, &values[AT_ACT], fault, error) != MB_OK ||
      read_class(rules, &values[AT_CLASS], &fault->class, error) != MB_OK ||
      read_flags(rules, &values[AT_FLAGS], &fault->flags, error) != MB_OK)
    return MB_ERROR;
  copy_cut(fault->code, sizeof fault->code, &values[AT_CODE]);
  copy_cut(fault->message, sizeof fault->message, &values[AT_MESSAGE]);
  if ((fault->means & ~slots[slot].means) == 0)
    return MB_OK;
  const unsigned means = slots[slot].means;
  return rules->host->fail(error, MB_USAGE,
      "a rule for %s can have no more than:%s%s%s%s%s", slots[slot].name,
      means & FT_ENDLESS ? " delay"
      : means & FT_DELAY ? " delay (with an end)"
                         : "",
      means & FT_LOSE ? " lose" : "", means & FT_FAIL ? " fail" : "",
      means & FT_AFTER ? " after" : "", means & FT_ANSWER ? " answer" : "");
}

/* --- Commands ----------------------------------------------------------- */

static bool are_values(const mb_value *values, size_t n)
{
  static const mb_tag tags[AT_N] = {
      [AT_SLOT] = MB_TEXT,
      [AT_NTH] = MB_INT64,
      [AT_TIMES] = MB_INT64,
      [AT_ACT] = MB_TEXT,
      [AT_AFTER] = MB_BOOL,
      [AT_CLASS] = MB_TEXT,
      [AT_FLAGS] = MB_TEXT,
  };
  bool right = n == AT_N;
  for (size_t i = 0; right && i < AT_N; i++)
    right = tags[i] == MB_NULL || values[i].tag == tags[i];
  return right && values[AT_NTH].as.integer >= 1 &&
         values[AT_TIMES].as.integer >= 0;
}

static mb_status add(
    ft_rules *rules, const mb_value *values, size_t n, mb_error *error)
{
  if (!are_values(values, n))
    return rules->host->fail(
        error, MB_USAGE, "fault_at wants other values than these");
  const mb_value *text = &values[AT_TEXT];
  const size_t size = text->tag == MB_TEXT ? text->as.bytes.size : 0;
  ft_rule *rule = rules->host->allocate(sizeof *rule + size);
  if (rule == NULL)
    return rules->host->fail(error, MB_RESOURCE, "out of memory");
  memset(rule, 0, sizeof *rule);
  rule->nth = values[AT_NTH].as.integer;
  rule->times = values[AT_TIMES].as.integer;
  rule->size = size;
  if (size > 0)
    memcpy(rule->text, text->as.bytes.data, size);
  if (read_slot(rules, &values[AT_SLOT], &rule->slot, error) != MB_OK ||
      read_fault(rules, rule->slot, values, &rule->fault, error) != MB_OK) {
    rules->host->release(rule);
    return MB_ERROR;
  }
  (void)pthread_mutex_lock(&rules->lock);
  if (rules->last != NULL)
    rules->last->next = rule;
  else
    rules->first = rule;
  rules->last = rule;
  (void)atomic_fetch_add(&rules->n, 1);
  (void)pthread_mutex_unlock(&rules->lock);
  return MB_OK;
}

static mb_status count(const ft_rules *rules, const mb_value *values, size_t n,
    mb_value *result, mb_error *error)
{
  static const mb_value nothing = {.tag = MB_NULL};
  ft_slot slot;
  if (read_slot(rules, n > 0 ? &values[0] : &nothing, &slot, error) != MB_OK)
    return MB_ERROR;
  result->tag = MB_INT64;
  result->as.integer = atomic_load(&rules->calls[slot]);
  return MB_OK;
}

mb_status ft_control(mb_driver_connector *connector, const char *name,
    const mb_value *values, size_t n, mb_value *result, mb_error *error)
{
  ft_rules *rules = connector->rules;
  const mb_driver *driver = connector->driver;
  if (strcmp(name, "fault_at") == 0)
    return add(rules, values, n, error);
  if (strcmp(name, "fault_calls") == 0)
    return count(rules, values, n, result, error);
  if (strcmp(name, "fault_clear") == 0) {
    clear(rules);
    return MB_OK;
  }
  if (strcmp(name, "fault_lose") == 0) {
    atomic_store(&rules->lost, atomic_load(&rules->last_connection));
    return MB_OK;
  }
  if (driver->control != NULL)
    return driver->control(connector->inner, name, values, n, result, error);
  return rules->host->fail(
      error, MB_UNSUPPORTED, "driver \"%s\" has no %s", driver->name, name);
}
