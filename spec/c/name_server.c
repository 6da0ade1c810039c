/* name_server.c: names that hang or fail as a test wants it. */
#include "name_server.h"

#include "../../src/core/resolve.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define NS_PER_MS 1000000
#define PATIENCE_MS 5000

static const struct {
  const char *name;
  int code;
} failures[] = {{"gone.test", EAI_NONAME}, {"later.test", EAI_AGAIN},
    {"memory.test", EAI_MEMORY}, {"system.test", EAI_SYSTEM}};

/* Guards the rest. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t released = PTHREAD_COND_INITIALIZER;
static bool hangs;
static pthread_t last_thread;
static struct seen {
  char name[32];
  int n, n_hanging;
} all[32];

/* What is known of a name; the names of a test are few. */
static struct seen *find_locked(const char *name)
{
  struct seen *one = all;
  while (one->name[0] != '\0' && strcmp(one->name, name) != 0)
    one++;
  (void)snprintf(one->name, sizeof one->name, "%s", name);
  return one;
}

static void come_in(const char *name)
{
  const bool may_hang = strncmp(name, "hang", 4) == 0;
  (void)pthread_mutex_lock(&lock);
  struct seen *seen = find_locked(name);
  seen->n++;
  last_thread = pthread_self();
  seen->n_hanging += may_hang;
  while (may_hang && hangs)
    (void)pthread_cond_wait(&released, &lock);
  seen->n_hanging -= may_hang;
  (void)pthread_mutex_unlock(&lock);
}

static int look_up(const char *name, const char *service,
    const struct addrinfo *hints, struct addrinfo **out)
{
  /* Without a type of socket an address is given for each. */
  const struct addrinfo numeric = {.ai_flags = AI_NUMERICHOST};
  come_in(name);
  if (service != NULL || hints->ai_socktype != SOCK_STREAM)
    return EAI_SERVICE;
  for (size_t i = 0; i < sizeof failures / sizeof *failures; i++)
    if (strcmp(name, failures[i].name) == 0) {
      errno = EIO;
      return failures[i].code;
    }
  return getaddrinfo("127.0.0.9", NULL, &numeric, out);
}

void name_server_start(void)
{
  mb__getaddrinfo = look_up;
}

void name_server_stop(void)
{
  mb__getaddrinfo = getaddrinfo;
}

void name_server_hang(bool wanted)
{
  (void)pthread_mutex_lock(&lock);
  hangs = wanted;
  (void)pthread_cond_broadcast(&released);
  (void)pthread_mutex_unlock(&lock);
}

bool name_server_is_hanging(const char *name, int n)
{
  const struct timespec pause = {.tv_nsec = NS_PER_MS};
  for (int ms = 0; ms < PATIENCE_MS; ms++) {
    (void)pthread_mutex_lock(&lock);
    const bool are = find_locked(name)->n_hanging == n;
    (void)pthread_mutex_unlock(&lock);
    if (are)
      return true;
    (void)nanosleep(&pause, NULL);
  }
  return false;
}

void name_server_forget(void)
{
  (void)pthread_mutex_lock(&lock);
  for (size_t i = 0; i < sizeof all / sizeof *all; i++)
    all[i].n_hanging = 0;
  (void)pthread_mutex_unlock(&lock);
}

int name_server_count(const char *name)
{
  (void)pthread_mutex_lock(&lock);
  const int n = find_locked(name)->n;
  (void)pthread_mutex_unlock(&lock);
  return n;
}

pthread_t name_server_thread(void)
{
  (void)pthread_mutex_lock(&lock);
  const pthread_t thread = last_thread;
  (void)pthread_mutex_unlock(&lock);
  return thread;
}
