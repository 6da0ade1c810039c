/*
 * resolve.c: names of hosts, looked up beside those who wait for them.
 */
#include "resolve.h"

#include "../moonbase.h"
#include "errand.h"
#include "host.h"

#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define NS_PER_MS INT64_C(1000000)
/* For how long the hosts that were found wait for those that were not, where
 * half of the time is not less. */
#define STRAGGLERS_NS (2000 * NS_PER_MS)
/* How often it is looked which of several look-ups has ended first. */
#define LOOK_NS (10 * NS_PER_MS)
/* A numeric address: of IPv6, with the name of an interface. */
#define ADDRESS_ROOM 64
/* What is told of those that were not found. */
#define MISSING_ROOM (MB_ERROR_ROOM / 4)

int (*mb__getaddrinfo)(const char *name, const char *service,
    const struct addrinfo *hints, struct addrinfo **out) = getaddrinfo;

struct mb__lookup {
  mb__errand errand; /* first */
  char *name;
  mb__lookup *next; /* of those under way */

  /* What came out. */
  char (*addresses)[ADDRESS_ROOM];
  size_t n;
  bool out_of_memory;
  char reason[128]; /* why there is none */
};

/* Guards the list of those under way, by which they are found. */
static pthread_mutex_t under_way_lock = PTHREAD_MUTEX_INITIALIZER;
static mb__lookup *under_way;

/* --- One name ----------------------------------------------------------- */

static const struct addrinfo any_family = {
    .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
static const struct addrinfo no_look_up = {.ai_family = AF_UNSPEC,
    .ai_socktype = SOCK_STREAM,
    .ai_flags = AI_NUMERICHOST};

static void keep_reason(mb__lookup *lookup, int code, int system_code)
{
  char text[sizeof lookup->reason];
  lookup->out_of_memory = code == EAI_MEMORY;
  if (code != EAI_SYSTEM)
    (void)snprintf(text, sizeof text, "%s", gai_strerror(code));
  else if (strerror_r(system_code, text, sizeof text) != 0)
    (void)snprintf(text, sizeof text, "system error %d", system_code);
  memcpy(lookup->reason, text, sizeof text);
}

static void keep_addresses(mb__lookup *lookup, const struct addrinfo *found)
{
  size_t n = 0;
  for (const struct addrinfo *one = found; one != NULL; one = one->ai_next)
    n++;
  lookup->addresses = mb__allocate_zeroed(n + 1, sizeof *lookup->addresses);
  if (lookup->addresses == NULL) {
    keep_reason(lookup, EAI_MEMORY, 0);
    return;
  }
  int code = EAI_NONAME;
  for (const struct addrinfo *one = found; one != NULL; one = one->ai_next) {
    code = getnameinfo(one->ai_addr, one->ai_addrlen,
        lookup->addresses[lookup->n], ADDRESS_ROOM, NULL, 0, NI_NUMERICHOST);
    lookup->n += code == 0;
  }
  if (lookup->n == 0)
    keep_reason(lookup, code, errno);
}

static void leave_list(const mb__lookup *lookup)
{
  (void)pthread_mutex_lock(&under_way_lock);
  mb__lookup **link = &under_way;
  while (*link != NULL && *link != lookup)
    link = &(*link)->next;
  if (*link != NULL)
    *link = lookup->next;
  (void)pthread_mutex_unlock(&under_way_lock);
}

static void look_up(mb__errand *errand)
{
  mb__lookup *lookup = (mb__lookup *)errand;
  struct addrinfo *found = NULL;
  const int code = mb__getaddrinfo(lookup->name, NULL, &any_family, &found);
  if (code == 0) {
    keep_addresses(lookup, found);
    freeaddrinfo(found);
  } else {
    keep_reason(lookup, code, errno);
  }
  leave_list(lookup);
}

/* An address that is numeric is its own. */
static void copy_number(mb__errand *errand)
{
  mb__lookup *lookup = (mb__lookup *)errand;
  struct addrinfo *found = NULL;
  if (getaddrinfo(lookup->name, NULL, &no_look_up, &found) != 0)
    return;
  keep_addresses(lookup, found);
  freeaddrinfo(found);
}

static void free_lookup(mb__errand *errand)
{
  mb__lookup *lookup = (mb__lookup *)errand;
  mb__host.release(lookup->addresses);
  mb__host.release(lookup->name);
  mb__host.release(lookup);
}

static mb__lookup *make_lookup(const char *name)
{
  mb__lookup *made = mb__allocate_zeroed(1, sizeof *made);
  if (made == NULL)
    return NULL;
  made->errand.work = look_up;
  made->errand.free = free_lookup;
  made->name = mb__copy_text(name, strlen(name));
  if (made->name != NULL)
    return made;
  mb__host.release(made);
  return NULL;
}

/* --- Under way ---------------------------------------------------------- */

static void lock_list(void)
{
  (void)pthread_mutex_lock(&under_way_lock);
}

static void unlock_list(void)
{
  (void)pthread_mutex_unlock(&under_way_lock);
}

/* Nobody looks up in the child what the parent has begun. */
static void forget_list(void)
{
  under_way = NULL;
  (void)pthread_mutex_unlock(&under_way_lock);
}

static void watch_forks(void)
{
  (void)pthread_atfork(lock_list, unlock_list, forget_list);
}

/* A look-up of this name that is under way, to be waited for by one more. */
static mb__lookup *join_locked(const char *name)
{
  mb__lookup *found = under_way;
  while (found != NULL && strcmp(found->name, name) != 0)
    found = found->next;
  if (found != NULL)
    mb__errand_join(&found->errand);
  return found;
}

/* With the lock, so that it is on the list before it leaves that. */
static mb_status start_there(
    const char *name, mb__lookup **out, mb_error *error)
{
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  mb_status status = MB_OK;
  (void)pthread_once(&once, watch_forks);
  (void)pthread_mutex_lock(&under_way_lock);
  *out = join_locked(name);
  if (*out == NULL) {
    *out = make_lookup(name);
    status = *out != NULL ? mb__errand_start(&(*out)->errand, error)
                          : mb__out_of_memory(error);
    if (status == MB_OK) {
      (*out)->next = under_way;
      under_way = *out;
    }
  }
  (void)pthread_mutex_unlock(&under_way_lock);
  return status;
}

static mb_status start(
    const char *name, bool here, mb__lookup **out, mb_error *error)
{
  mb__lookup *made = make_lookup(name);
  if (made == NULL)
    return mb__out_of_memory(error);
  made->errand.work = copy_number;
  mb__errand_run_here(&made->errand);
  if (made->n == 0 && !made->out_of_memory && here) {
    made->errand.work = look_up;
    mb__errand_run_here(&made->errand);
  } else if (made->n == 0 && !made->out_of_memory) {
    mb__errand_leave(&made->errand);
    return start_there(name, out, error);
  }
  *out = made;
  return MB_OK;
}

/* --- All of an attempt -------------------------------------------------- */

static bool is_done(const mb__lookup *lookup)
{
  return lookup == NULL || mb__errand_is_done(&lookup->errand);
}

/* How many addresses were found by now. */
static size_t count(const mb__lookup *lookup)
{
  return lookup != NULL && is_done(lookup) ? lookup->n : 0;
}

/* Whether there is a host that can be tried by now. */
static bool has_host(const mb__lookups *lookups)
{
  for (size_t i = 0; i < lookups->n; i++)
    if (lookups->names[i] == NULL || count(lookups->each[i]) > 0)
      return true;
  return false;
}

/* The names that were not found, and why. */
static void list_missing(const mb__lookups *lookups, char *out, size_t room)
{
  size_t used = 0;
  out[0] = '\0';
  for (size_t i = 0; i < lookups->n; i++) {
    const mb__lookup *one = lookups->each[i];
    if (lookups->names[i] == NULL || count(one) > 0)
      continue;
    const int size =
        snprintf(out + used, room - used, "%s\"%s\" (%s)", used > 0 ? ", " : "",
            lookups->names[i], one != NULL ? one->reason : "no answer in time");
    if (size < 0 || (size_t)size >= room - used) {
      out[used] = '\0';
      return;
    }
    used += (size_t)size;
  }
}

static mb_status fail(const mb__lookups *lookups, mb_error *error)
{
  char missing[MISSING_ROOM];
  for (size_t i = 0; i < lookups->n; i++)
    if (lookups->each[i] != NULL && lookups->each[i]->out_of_memory)
      return mb__out_of_memory(error);
  list_missing(lookups, missing, sizeof missing);
  return mb__host.fail(
      error, MB_CONNECTIVITY, "could not look up host %s", missing);
}

/* What has not ended by now is not waited for. */
static void leave_stragglers(mb__lookups *lookups)
{
  for (size_t i = 0; i < lookups->n; i++)
    if (!is_done(lookups->each[i])) {
      mb__errand_leave(&lookups->each[i]->errand);
      lookups->each[i] = NULL;
    }
}

static mb_status gather(mb__lookups *lookups, mb_error *error)
{
  size_t n = 0;
  leave_stragglers(lookups);
  if (!has_host(lookups))
    return fail(lookups, error);
  for (size_t i = 0; i < lookups->n; i++)
    n += count(lookups->each[i]);
  lookups->addresses = mb__allocate_zeroed(n + 1, sizeof *lookups->addresses);
  if (lookups->addresses == NULL)
    return mb__out_of_memory(error);
  for (size_t i = 0; i < lookups->n; i++)
    for (size_t k = 0; k < count(lookups->each[i]); k++)
      lookups->addresses[lookups->n_addresses++] =
          (mb_address){.lookup = i, .text = lookups->each[i]->addresses[k]};
  return MB_DONE;
}

/* When enough time has gone by for those that are not found yet. */
static int64_t enough_ns(size_t n, const mb_op *op)
{
  if (n < 2)
    return MB_NEVER;
  const int64_t now_ns = mb__host.now_ns();
  const int64_t left_ns =
      op->deadline_ns == MB_NEVER ? MB_NEVER : op->deadline_ns - now_ns;
  return now_ns + (left_ns / 2 < STRAGGLERS_NS ? left_ns / 2 : STRAGGLERS_NS);
}

mb_status mb__lookups_start(mb__lookups *lookups, const char *const *names,
    size_t n, bool here, mb_op *op, mb_error *error)
{
  *lookups = (mb__lookups){.names = names, .n = n};
  if (n == 0)
    return MB_DONE;
  lookups->each = mb__allocate_zeroed(n, sizeof(mb__lookup *));
  if (lookups->each == NULL) {
    lookups->n = 0;
    return mb__out_of_memory(error);
  }
  lookups->enough_ns = enough_ns(n, op);
  for (size_t i = 0; i < n; i++)
    if (names[i] != NULL &&
        start(names[i], here, &lookups->each[i], error) != MB_OK)
      return MB_ERROR;
  return mb__lookups_resume(lookups, op, error);
}

mb_status mb__lookups_resume(mb__lookups *lookups, mb_op *op, mb_error *error)
{
  const mb__lookup *awaited = NULL;
  size_t n_awaited = 0;
  for (size_t i = 0; i < lookups->n; i++)
    if (!is_done(lookups->each[i])) {
      awaited = lookups->each[i];
      n_awaited++;
    }
  const bool enough = mb__host.now_ns() >= lookups->enough_ns;
  if (awaited == NULL || (enough && has_host(lookups)))
    return gather(lookups, error);
  if (mb_op_stopped(&mb__host, op))
    return mb__host.fail(error, MB_CANCELED,
        "looking up host \"%s\" took too long", awaited->name);
  int64_t deadline_ns = enough ? MB_NEVER : lookups->enough_ns;
  if (enough && n_awaited > 1)
    deadline_ns = mb__host.now_ns() + LOOK_NS;
  return mb__errand_wait(&awaited->errand, deadline_ns, op);
}

void mb__lookups_explain(const mb__lookups *lookups, mb_error *error)
{
  char missing[MISSING_ROOM];
  char message[MB_ERROR_ROOM / 2];
  size_t size;
  list_missing(lookups, missing, sizeof missing);
  if (missing[0] == '\0')
    return;
  const char *text = mb_error_text(error, MB_MESSAGE, &size);
  const int wanted =
      snprintf(message, sizeof message, "%.*s; could not look up host %s",
          (int)size, text != NULL ? text : "", missing);
  if (wanted > 0 && (size_t)wanted < sizeof message)
    mb__host.error_set(error, MB_MESSAGE, message, (size_t)wanted);
}

void mb__lookups_free(mb__lookups *lookups)
{
  for (size_t i = 0; i < lookups->n; i++)
    if (lookups->each[i] != NULL)
      mb__errand_leave(&lookups->each[i]->errand);
  mb__host.release(lookups->each);
  mb__host.release(lookups->addresses);
  *lookups = (mb__lookups){.names = NULL};
}
