/*
 * pool_model_test.c: random sequences of what can happen to a pool, on a clock
 * that only they move, against a model of lists.
 *
 * The seed of a sequence that goes wrong is printed with the shortest part of
 * it that still does.  MB_SEED=n runs one; MB_SOAK makes more of them.
 */
#include "../../src/core/pool.h"

#include "check.h"
#include "test_driver.h"

#define NS_PER_MS INT64_C(1000000)
#define NS_PER_SECOND (1000 * NS_PER_MS)
#define MAX 3
#define IDLE_TIMEOUT_S 20
#define CHECK_AFTER_S 7
#define STEPS 60

static const mb_option options[] = {{"max", "3"}, {"min_idle", "0"},
    {"sweep_interval", "0"}, {"idle_timeout", "20"}, {"check_after_idle", "7"},
    {"max_lifetime", "100"}};

/* --- The clock ---------------------------------------------------------- */

static int64_t clock_ns = 1000 * NS_PER_SECOND;

/* A little later each time, so that who waits for a time finds it come. */
static int64_t now_ns(void)
{
  clock_ns += 1000;
  return clock_ns;
}

static void sleep_ns(int64_t duration_ns)
{
  clock_ns += duration_ns;
}

/* --- The model ---------------------------------------------------------- */

typedef struct model_conn {
  mb_conn *conn; /* a reference */
  unsigned generation;
  int64_t retire_ns, idle_ns;
  td_cut cut;
  bool dead; /* a borrower has found out */
} model_conn;

typedef struct model {
  model_conn idle[MAX], lent[MAX], left[MAX]; /* the last is the newest */
  size_t n_idle, n_lent, n_left;
  unsigned generation;
  bool down; /* the next attempt to connect fails */
  mb_pool_stats stats;
} model;

typedef enum event_kind {
  ACQUIRE,
  RELEASE,
  DROP,
  USE,
  CUT,
  PASS, /* of time */
  SWEEP,
  GO_DOWN,
  EVENT_KINDS
} event_kind;

typedef struct event {
  event_kind kind;
  unsigned choice;
} event;

static const char *const event_names[EVENT_KINDS] = {
    "acquire", "release", "drop", "use", "cut", "pass", "sweep", "go down"};

/* What differed, of the sequence that is running. */
static char difference[256];

static void differ(const char *what, intmax_t actual, intmax_t expected)
{
  if (difference[0] == '\0')
    (void)snprintf(difference, sizeof difference,
        "%s is %jd, and the model says %jd", what, actual, expected);
}

static model_conn take(model_conn *list, size_t *n, size_t at)
{
  const model_conn taken = list[at];
  memmove(list + at, list + at + 1, (*n - at - 1) * sizeof *list);
  --*n;
  return taken;
}

static void forget(model *m, const model_conn *one, mb_close_reason reason)
{
  m->stats.closed++;
  m->stats.closed_by[reason]++;
  mb_conn_unref(one->conn);
}

static void suspect(model *m, const model_conn *one)
{
  m->generation += one->generation == m->generation;
}

/* Whether it is found dead by who looks at it. */
static bool looks_dead(model *m, const model_conn *one)
{
  if (one->cut == TD_CLOSED && !one->dead)
    suspect(m, one);
  return one->dead || one->cut == TD_CLOSED;
}

static bool is_old(const model *m, const model_conn *one, mb_close_reason *why)
{
  *why = one->generation != m->generation ? MB_CLOSED_GENERATION
                                          : MB_CLOSED_LIFETIME;
  return one->generation != m->generation || clock_ns >= one->retire_ns;
}

/* True: it answers. */
static bool pinged(model *m, const model_conn *one)
{
  if (looks_dead(m, one))
    return false;
  m->stats.pings++;
  if (one->cut == TD_WHOLE)
    return true;
  suspect(m, one);
  return false;
}

/* A connection that a borrower has no more.  Nobody waits for it, so nobody
 * looks before it is lent again. */
static void model_take_back(model *m, model_conn one)
{
  mb_close_reason why = MB_CLOSED_DEAD;
  m->stats.released++;
  if (one.dead || is_old(m, &one, &why)) {
    forget(m, &one, why);
    return;
  }
  one.idle_ns = clock_ns;
  m->idle[m->n_idle++] = one;
}

static void model_tidy(model *m)
{
  while (m->n_left > 0)
    model_take_back(m, take(m->left, &m->n_left, 0));
}

/* The connection that an acquire is to give; false: a new one, or none. */
static bool model_take_idle(model *m)
{
  mb_close_reason why;
  while (m->n_idle > 0) {
    const model_conn one = take(m->idle, &m->n_idle, m->n_idle - 1);
    if (is_old(m, &one, &why)) {
      forget(m, &one, why);
      continue;
    }
    const bool asks = clock_ns - one.idle_ns >= CHECK_AFTER_S * NS_PER_SECOND;
    if (asks ? !pinged(m, &one) : looks_dead(m, &one)) {
      forget(m, &one, MB_CLOSED_DEAD);
      continue;
    }
    m->stats.acquired++;
    m->lent[m->n_lent++] = one;
    return true;
  }
  return false;
}

/* --- Events ------------------------------------------------------------- */

static void do_acquire(model *m, mb_pool *pool)
{
  mb_error error;
  mb_conn *conn;
  model_tidy(m);
  const bool idle = model_take_idle(m);
  const bool full = !idle && m->n_lent == MAX;
  const bool fails = !idle && !full && m->down;
  const mb_status status =
      mb_pool_acquire(pool, NULL, MB_ACQUIRE_NOW, &conn, &error);
  if ((status == MB_OK) != (!full && !fails)) {
    differ("whether an acquire succeeds", status == MB_OK, !full && !fails);
    return;
  }
  m->stats.timeouts += full;
  m->stats.failures += fails;
  m->down &= !fails;
  if (status != MB_OK)
    return;
  if (idle && conn != m->lent[m->n_lent - 1].conn)
    differ("the connection that was lent is that of the model", 0, 1);
  if (idle)
    return;
  mb_conn_ref(conn);
  m->stats.created++;
  m->stats.acquired++;
  m->lent[m->n_lent++] = (model_conn){
      .conn = conn, .generation = m->generation, .retire_ns = conn->retire_ns};
}

static void do_use(model *m, unsigned choice)
{
  mb_error error;
  mb_stmt *stmt;
  if (m->n_lent == 0)
    return;
  model_conn *one = &m->lent[choice % m->n_lent];
  const bool lives = !one->dead && one->cut == TD_WHOLE;
  const bool done =
      mb_conn_statement(one->conn, "put 1", 5, 0, &stmt, &error) == MB_OK &&
      mb_stmt_run(&stmt, NULL, NULL, 0, NULL, &error) == MB_DONE;
  if (done != lives)
    differ("whether a statement runs", done, lives);
  if (!lives && !one->dead)
    suspect(m, one);
  one->dead |= !lives;
}

static void do_cut(model *m, unsigned choice)
{
  const size_t n = m->n_idle + m->n_lent + m->n_left;
  if (n == 0)
    return;
  size_t at = choice / 2 % n;
  model_conn *one = at < m->n_idle ? &m->idle[at] : NULL;
  at -= m->n_idle;
  if (one == NULL)
    one = at < m->n_lent ? &m->lent[at] : &m->left[at - m->n_lent];
  if (one->dead)
    return;
  one->cut = choice % 2 == 0 ? TD_VANISHED : TD_CLOSED;
  td_cut_off(one->conn, one->cut);
}

static void do_sweep(model *m, mb_pool *pool)
{
  mb_close_reason why;
  model_tidy(m);
  for (size_t i = 0; i < m->n_idle;) {
    const bool old = is_old(m, &m->idle[i], &why);
    if (!old &&
        clock_ns - m->idle[i].idle_ns < IDLE_TIMEOUT_S * NS_PER_SECOND) {
      i++;
      continue;
    }
    const model_conn one = take(m->idle, &m->n_idle, i);
    forget(m, &one, old ? why : MB_CLOSED_IDLE);
  }
  if (m->n_idle > 0 && !pinged(m, &m->idle[0])) {
    const model_conn one = take(m->idle, &m->n_idle, 0);
    forget(m, &one, MB_CLOSED_DEAD);
  }
  mb__keeper_sweep(pool);
}

/* No age may be so near to a limit that the steps of the clock decide. */
static bool is_near_limit(const model *m)
{
  const struct {
    const model_conn *list;
    size_t n;
  } lists[] = {
      {m->idle, m->n_idle}, {m->lent, m->n_lent}, {m->left, m->n_left}};
  for (size_t k = 0; k < 3; k++)
    for (size_t i = 0; i < lists[k].n; i++) {
      const model_conn *one = &lists[k].list[i];
      const int64_t idle_ns = clock_ns - one->idle_ns;
      const int64_t ages[] = {idle_ns - IDLE_TIMEOUT_S * NS_PER_SECOND,
          idle_ns - CHECK_AFTER_S * NS_PER_SECOND, clock_ns - one->retire_ns};
      for (size_t a = 0; a < 3; a++)
        if (ages[a] > -NS_PER_SECOND && ages[a] < NS_PER_SECOND)
          return true;
    }
  return false;
}

static void do_event(model *m, mb_pool *pool, event one)
{
  static const int64_t passes_s[] = {1, 3, 8, 21, 101};
  while (is_near_limit(m))
    clock_ns += NS_PER_SECOND;
  switch (one.kind) {
  case ACQUIRE:
    do_acquire(m, pool);
    break;
  case RELEASE:
    if (m->n_lent > 0) {
      model_conn given = take(m->lent, &m->n_lent, one.choice % m->n_lent);
      mb_conn *conn = given.conn;
      model_take_back(m, given);
      mb_conn_release(conn);
    }
    break;
  case DROP:
    if (m->n_lent > 0) {
      m->left[m->n_left++] = take(m->lent, &m->n_lent, one.choice % m->n_lent);
      mb_conn_drop(m->left[m->n_left - 1].conn);
    }
    break;
  case USE:
    do_use(m, one.choice);
    break;
  case CUT:
    do_cut(m, one.choice);
    break;
  case PASS:
    clock_ns += passes_s[one.choice % 5] * NS_PER_SECOND;
    break;
  case SWEEP:
    do_sweep(m, pool);
    break;
  case GO_DOWN:
    if (!m->down)
      td_fail(TD_CONNECT, 1, MB_CONNECTIVITY, 0);
    m->down = true;
    break;
  case EVENT_KINDS:
    break;
  }
}

static void compare(const model *m, mb_pool *pool)
{
  mb_pool_stats stats;
  mb_pool_stats_read(pool, &stats);
#define SAME(member)                   \
  if (stats.member != m->stats.member) \
  differ(#member, stats.member, m->stats.member)
  SAME(acquired);
  SAME(released);
  SAME(timeouts);
  SAME(created);
  SAME(failures);
  SAME(pings);
  SAME(closed);
  for (int i = 0; i < MB_CLOSE_REASON_COUNT; i++)
    if (stats.closed_by[i] != m->stats.closed_by[i])
      differ(mb_close_reason_name((mb_close_reason)i), stats.closed_by[i],
          m->stats.closed_by[i]);
#undef SAME
  const int64_t n = (int64_t)(m->n_idle + m->n_lent + m->n_left);
  if (stats.idle != (int64_t)m->n_idle)
    differ("idle", stats.idle, (intmax_t)m->n_idle);
  if (stats.in_use != (int64_t)m->n_lent)
    differ("in_use", stats.in_use, (intmax_t)m->n_lent);
  if (stats.size != n || stats.open != n)
    differ("size", stats.size, n);
}

static void unref_all(const model *m)
{
  for (size_t i = 0; i < m->n_idle; i++)
    mb_conn_unref(m->idle[i].conn);
  for (size_t i = 0; i < m->n_lent; i++) {
    mb_conn_release(m->lent[i].conn);
    mb_conn_unref(m->lent[i].conn);
  }
  for (size_t i = 0; i < m->n_left; i++)
    mb_conn_unref(m->left[i].conn);
}

/* Runs a sequence; the number of the step at which pool and model differ, from
 * 1; 0: they never do. */
static size_t run(const event *events, size_t n)
{
  mb_pool *pool;
  mb_error error;
  model m = {.n_idle = 0};
  size_t at = 0;
  td_reset();
  difference[0] = '\0';
  if (mb_pool_open(td_driver(), NULL, options, sizeof options / sizeof *options,
          &pool, &error) != MB_OK)
    abort();
  while (at < n && difference[0] == '\0') {
    do_event(&m, pool, events[at++]);
    if (difference[0] == '\0')
      compare(&m, pool);
  }
  unref_all(&m);
  mb_pool_close(pool, 0);
  if (difference[0] == '\0' && (td_open_sessions() > 0 || td_breaches() > 0))
    differ("sessions left behind, or promises broken",
        td_open_sessions() + td_breaches(), 0);
  return difference[0] != '\0' ? at : 0;
}

/* --- Sequences ---------------------------------------------------------- */

static uint64_t next_random(uint64_t *state)
{
  *state ^= *state << 13;
  *state ^= *state >> 7;
  *state ^= *state << 17;
  return *state;
}

static void make(event *events, size_t n, unsigned seed)
{
  static const event_kind often[] = {ACQUIRE, ACQUIRE, ACQUIRE, ACQUIRE,
      RELEASE, RELEASE, RELEASE, DROP, USE, USE, CUT, PASS, PASS, SWEEP,
      GO_DOWN};
  uint64_t state = 0x9E3779B97F4A7C15u ^ ((uint64_t)seed << 20);
  for (size_t i = 0; i < n; i++) {
    events[i].kind =
        often[next_random(&state) % (sizeof often / sizeof *often)];
    events[i].choice = (unsigned)(next_random(&state) % 1000);
  }
}

/* Leaves out every event without which it goes wrong all the same. */
static size_t shrink(event *events, size_t n)
{
  for (size_t i = n; i-- > 0;) {
    event without[STEPS];
    memcpy(without, events, n * sizeof *events);
    memmove(without + i, without + i + 1, (n - i - 1) * sizeof *events);
    const size_t at = run(without, n - 1);
    if (at > 0) {
      n = at;
      memcpy(events, without, n * sizeof *events);
      i = i < n ? i : n;
    }
  }
  return n;
}

static bool follows(unsigned seed)
{
  event events[STEPS];
  make(events, STEPS, seed);
  size_t n = run(events, STEPS);
  if (n == 0)
    return true;
  n = shrink(events, n);
  (void)run(events, n);
  (void)fprintf(stderr, "seed %u: %s after:", seed, difference);
  for (size_t i = 0; i < n; i++)
    (void)fprintf(
        stderr, " %s(%u)", event_names[events[i].kind], events[i].choice);
  (void)fputc('\n', stderr);
  return false;
}

static void follows_the_model(void)
{
  const char *seed = getenv("MB_SEED");
  const char *soak = getenv("MB_SOAK");
  const double wanted = soak != NULL ? 40000 * strtod(soak, NULL) : 0;
  const unsigned n = wanted > 2000 ? (unsigned)wanted : 2000;
  if (seed != NULL) {
    CHECK(follows((unsigned)strtoul(seed, NULL, 10)));
    return;
  }
  for (unsigned i = 1; i <= n; i++)
    if (!CHECK(follows(i)))
      return;
}

static const struct check_test tests[] = {CHECK_TEST(follows_the_model)};

int main(void)
{
  mb_set_clock(now_ns, sleep_ns);
  return CHECK_RUN(tests);
}
