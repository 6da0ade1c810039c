/*
 * hub.c: how OpenResty's light threads wait for file descriptors.
 *
 * nginx waits for its own only.  So one thread of the process waits for those
 * of all Lua states, and appends what became ready to the queue of the hub of
 * the state that asked, as a token; when the queue turns non-empty it writes a
 * byte to a socket whose other end is a cosocket of that state, in which
 * moonbase.scheduler.openresty reads.  The thread knows nothing of Lua.
 */
/* For SO_PEERCRED.
 * NOLINTNEXTLINE(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp) */
#define _DEFAULT_SOURCE 1

#include "binding.h"

#if defined(__linux__)

#  include <errno.h>
#  include <fcntl.h>
#  include <pthread.h>
#  include <signal.h>
#  include <stdio.h>
#  include <stdlib.h>
#  include <string.h>
#  include <sys/epoll.h>
#  include <sys/socket.h>
#  include <sys/un.h>
#  include <unistd.h>

/* Events that are taken from the kernel at once. */
#  define EVENTS 64

typedef struct mb_lua_hub {
  int listener;              /* -1: none */
  char folder[32], path[48]; /* of the listener; empty: there is none */
  /* Guarded by the lock. */
  int wake;        /* our end of the socket; -1: nobody reads */
  uint32_t *queue; /* a ring with room for all tokens; a power of two */
  size_t room, first, n;
  size_t n_watches;
} mb_lua_hub;

/* Of a token: a wait for one file descriptor after the other. */
typedef struct watch {
  mb_lua_hub *hub;     /* NULL: free */
  uint32_t generation; /* which wait the kernel's events have to be of */
  uint32_t next;       /* of those that are free */
  int fd;              /* -1: it does not wait */
  int copy; /* stands for fd, for which another one waits; -1: none */
  bool queued;
  bool is_ready; /* what it waits for; else its place in the queue is stale */
} watch;

#  define NO_WATCH UINT32_MAX

/* All of it guarded by the lock.  What the kernel still reports of a wait that
 * has ended, or of a file descriptor that was closed, has an older generation
 * than the watch.  The thread and its set stay for the life of the process. */
static struct {
  pthread_mutex_t lock;
  int set; /* epoll's; -1: there is no thread */
  bool handles_forks;
  watch *watches;
  uint32_t n, room, first_free;
  uint32_t *waiters; /* by file descriptor: its watch, plus 1 */
  size_t n_waiters;
} all = {.lock = PTHREAD_MUTEX_INITIALIZER, .set = -1, .first_free = NO_WATCH};

static void lock_all(void)
{
  (void)pthread_mutex_lock(&all.lock);
}

static void unlock_all(void)
{
  (void)pthread_mutex_unlock(&all.lock);
}

/* --- The thread ----------------------------------------------------------- */

static void wake_locked(const mb_lua_hub *hub)
{
  if (hub->wake < 0)
    return;
  /* When there is no room, what wakes it is there already. */
  if (send(hub->wake, "", 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
    return;
}

static void report_locked(uint64_t data)
{
  const uint32_t token = (uint32_t)data;
  watch *found = &all.watches[token];
  mb_lua_hub *hub = found->hub;
  if (hub == NULL || found->generation != (uint32_t)(data >> 32))
    return;
  found->generation++;
  found->is_ready = true;
  if (found->queued)
    return;
  found->queued = true;
  hub->queue[(hub->first + hub->n++) & (hub->room - 1)] = token;
  if (hub->n == 1)
    wake_locked(hub);
}

static void *watch_all(void *argument)
{
  const int set = *(int *)argument;
  struct epoll_event events[EVENTS];
  free(argument);
  for (;;) {
    const int n = epoll_wait(set, events, EVENTS, -1);
    if (n < 0 && errno != EINTR)
      return NULL;
    lock_all();
    for (int i = 0; i < n; i++)
      report_locked(events[i].data.u64);
    unlock_all();
  }
}

/* A child has no such thread, and its parent's set is none of its business. */
static void after_fork(void)
{
  if (all.set >= 0)
    (void)close(all.set);
  all.set = -1;
  unlock_all();
}

/* With all signals blocked: handlers of nginx's may not run there. */
static bool start_thread(int set)
{
  sigset_t everything;
  sigset_t before;
  pthread_t thread;
  int *argument = malloc(sizeof *argument);
  if (argument == NULL)
    return false;
  *argument = set;
  (void)sigfillset(&everything);
  (void)pthread_sigmask(SIG_SETMASK, &everything, &before);
  const bool ok = pthread_create(&thread, NULL, watch_all, argument) == 0;
  (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (ok)
    (void)pthread_detach(thread);
  else
    free(argument);
  return ok;
}

/* Starts the thread when it is first needed: nginx has forked by then. */
static bool is_watched_locked(void)
{
  if (all.set >= 0)
    return true;
  if (!all.handles_forks)
    all.handles_forks = pthread_atfork(lock_all, unlock_all, after_fork) == 0;
  const int set = epoll_create1(EPOLL_CLOEXEC);
  if (set < 0)
    return false;
  if (!start_thread(set)) {
    (void)close(set);
    return false;
  }
  all.set = set;
  return true;
}

/* --- Watches -------------------------------------------------------------- */

static bool grow_queue_locked(mb_lua_hub *hub)
{
  if (hub->n_watches < hub->room)
    return true;
  const size_t room = hub->room > 0 ? hub->room * 2 : 16;
  uint32_t *queue = malloc(room * sizeof *queue);
  if (queue == NULL)
    return false;
  for (size_t i = 0; i < hub->n; i++)
    queue[i] = hub->queue[(hub->first + i) & (hub->room - 1)];
  free(hub->queue);
  hub->queue = queue;
  hub->room = room;
  hub->first = 0;
  return true;
}

static uint32_t new_watch_locked(mb_lua_hub *hub)
{
  uint32_t token = all.first_free;
  if (!grow_queue_locked(hub))
    return NO_WATCH;
  if (token != NO_WATCH) {
    all.first_free = all.watches[token].next;
  } else {
    if (all.n == all.room) {
      const uint32_t room = all.room > 0 ? all.room * 2 : 16;
      watch *grown = realloc(all.watches, room * sizeof *grown);
      if (grown == NULL)
        return NO_WATCH;
      all.watches = grown;
      all.room = room;
    }
    token = all.n++;
    all.watches[token].generation = 0;
  }
  hub->n_watches++;
  all.watches[token] = (watch){.hub = hub,
      .generation = all.watches[token].generation + 1,
      .fd = -1,
      .copy = -1};
  return token;
}

static void disarm_locked(watch *one)
{
  one->is_ready = false;
  if (one->fd < 0)
    return;
  one->generation++;
  if (one->copy >= 0) {
    /* Closing it takes nothing out of the set while the other one is open. */
    (void)epoll_ctl(all.set, EPOLL_CTL_DEL, one->copy, NULL);
    (void)close(one->copy);
    one->copy = -1;
  } else {
    all.waiters[one->fd] = 0;
  }
  one->fd = -1;
}

static bool make_waiters_locked(int fd)
{
  const size_t n = (size_t)fd + 1;
  if (n <= all.n_waiters)
    return true;
  const size_t room = n < 64 ? 64 : n * 2;
  uint32_t *grown = realloc(all.waiters, room * sizeof *grown);
  if (grown == NULL)
    return false;
  memset(grown + all.n_waiters, 0, (room - all.n_waiters) * sizeof *grown);
  all.waiters = grown;
  all.n_waiters = room;
  return true;
}

/* Readies a token for fd: what has to stand in the set for it, or -1. */
static int prepare_locked(uint32_t token, int fd, uint64_t *data)
{
  watch *one = &all.watches[token];
  disarm_locked(one);
  if (!is_watched_locked() || !make_waiters_locked(fd))
    return -1;
  if (all.waiters[fd] != 0) {
    one->copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (one->copy < 0)
      return -1;
  } else {
    all.waiters[fd] = token + 1;
  }
  one->fd = fd;
  one->generation++;
  *data = (uint64_t)one->generation << 32 | token;
  return one->copy >= 0 ? one->copy : fd;
}

/* Has the kernel tell of fd once; without the lock, for the thread may have to
 * tell of it at once. */
static bool add(int fd, uint32_t events, uint64_t data)
{
  struct epoll_event event = {
      .events = events | EPOLLONESHOT, .data.u64 = data};
  return epoll_ctl(all.set, EPOLL_CTL_MOD, fd, &event) == 0 ||
         epoll_ctl(all.set, EPOLL_CTL_ADD, fd, &event) == 0;
}

static void release_watches_locked(const mb_lua_hub *hub)
{
  for (uint32_t token = 0; token < all.n; token++) {
    watch *one = &all.watches[token];
    if (one->hub != hub)
      continue;
    disarm_locked(one);
    one->hub = NULL;
    one->next = all.first_free;
    all.first_free = token;
  }
}

/* --- The socket ----------------------------------------------------------- */

static void unlink_listener(mb_lua_hub *hub)
{
  if (hub->listener >= 0)
    (void)close(hub->listener);
  hub->listener = -1;
  if (hub->folder[0] == '\0')
    return;
  (void)unlink(hub->path);
  (void)rmdir(hub->folder);
  hub->folder[0] = '\0';
}

static bool make_folder(mb_lua_hub *hub)
{
  static const char *const places[] = {"/tmp", "/var/tmp", "/dev/shm", "/run"};
  for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
    (void)snprintf(
        hub->folder, sizeof hub->folder, "%s/moonbase.XXXXXX", places[i]);
    if (mkdtemp(hub->folder) != NULL)
      return true;
  }
  hub->folder[0] = '\0';
  return false;
}

static bool open_listener(mb_lua_hub *hub)
{
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  unlink_listener(hub);
  if (!make_folder(hub))
    return false;
  (void)snprintf(hub->path, sizeof hub->path, "%s/hub", hub->folder);
  (void)snprintf(address.sun_path, sizeof address.sun_path, "%s", hub->path);
  hub->listener =
      socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  return hub->listener >= 0 &&
         bind(hub->listener, (struct sockaddr *)&address, sizeof address) ==
             0 &&
         listen(hub->listener, 1) == 0;
}

/* Whether the other end is this process. */
static bool is_own(int fd)
{
  /* struct ucred, which POSIX does not know. */
  struct {
    pid_t pid;
    uid_t uid;
    gid_t gid;
  } peer;
  socklen_t size = sizeof peer;
  return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 &&
         peer.pid == getpid();
}

/* Our end of the connection to it; -1: it is not there. */
static int accept_own(const mb_lua_hub *hub)
{
  const int fd = accept(hub->listener, NULL, NULL);
  if (fd < 0)
    return -1;
  if (is_own(fd) && fcntl(fd, F_SETFD, FD_CLOEXEC) == 0)
    return fd;
  (void)close(fd);
  errno = EPERM;
  return -1;
}

static void detach(mb_lua_hub *hub)
{
  unlink_listener(hub);
  lock_all();
  if (hub->wake >= 0)
    (void)close(hub->wake);
  hub->wake = -1;
  unlock_all();
}

/* --- For the Lua side ----------------------------------------------------- */

static const char metatable[] = "moonbase.Hub";

static mb_lua_hub *check_hub(lua_State *L)
{
  return luaL_checkudata(L, 1, metatable);
}

/* The token at index 2. */
static uint32_t check_token_locked(lua_State *L, const mb_lua_hub *hub)
{
  const lua_Integer token = lua_tointeger(L, 2);
  return token >= 0 && token < (lua_Integer)all.n &&
                 all.watches[token].hub == hub
             ? (uint32_t)token
             : NO_WATCH;
}

static int fail(lua_State *L)
{
  lua_pushnil(L);
  lua_pushstring(L, strerror(errno));
  return 2;
}

/* hub:listen(): the path that the cosocket has to connect to. */
static int hub_listen(lua_State *L)
{
  mb_lua_hub *hub = check_hub(L);
  if (!open_listener(hub)) {
    const int why = errno;
    unlink_listener(hub);
    errno = why;
    return fail(L);
  }
  lua_pushstring(L, hub->path);
  return 1;
}

/* hub:attach(): it has connected; true, or nil and why not. */
static int hub_attach(lua_State *L)
{
  mb_lua_hub *hub = check_hub(L);
  const int wake = accept_own(hub);
  const int why = errno;
  unlink_listener(hub);
  errno = why;
  if (wake < 0)
    return fail(L);
  lock_all();
  if (hub->wake >= 0)
    (void)close(hub->wake);
  hub->wake = wake;
  if (hub->n > 0)
    wake_locked(hub);
  unlock_all();
  lua_pushboolean(L, true);
  return 1;
}

/* hub:detach(): nobody reads any more. */
static int hub_detach(lua_State *L)
{
  detach(check_hub(L));
  return 0;
}

/* hub:wake(): as if a token had come. */
static int hub_wake(lua_State *L)
{
  const mb_lua_hub *hub = check_hub(L);
  lock_all();
  wake_locked(hub);
  unlock_all();
  return 0;
}

/* hub:watch(): a new token, for the life of the hub; nil: no memory is left. */
static int hub_watch(lua_State *L)
{
  mb_lua_hub *hub = check_hub(L);
  lock_all();
  const uint32_t token = new_watch_locked(hub);
  unlock_all();
  if (token == NO_WATCH)
    lua_pushnil(L);
  else
    lua_pushinteger(L, (lua_Integer)token);
  return 1;
}

/* hub:arm(token, fd, "r", "w" or "rw"): has the token come once fd is ready;
 * false: nothing will tell. */
static int hub_arm(lua_State *L)
{
  const mb_lua_hub *hub = check_hub(L);
  const int fd = (int)luaL_checkinteger(L, 3);
  const char *words = luaL_checkstring(L, 4);
  const uint32_t events = (strchr(words, 'r') != NULL ? EPOLLIN : 0u) |
                          (strchr(words, 'w') != NULL ? EPOLLOUT : 0u);
  uint64_t data = 0;
  lock_all();
  const uint32_t token = check_token_locked(L, hub);
  const int watched =
      token != NO_WATCH && fd >= 0 ? prepare_locked(token, fd, &data) : -1;
  unlock_all();
  const bool ok = watched >= 0 && add(watched, events, data);
  if (watched >= 0 && !ok) {
    lock_all();
    disarm_locked(&all.watches[token]);
    unlock_all();
  }
  lua_pushboolean(L, ok);
  return 1;
}

/* hub:disarm(token): it does not come any more. */
static int hub_disarm(lua_State *L)
{
  const mb_lua_hub *hub = check_hub(L);
  lock_all();
  const uint32_t token = check_token_locked(L, hub);
  if (token != NO_WATCH)
    disarm_locked(&all.watches[token]);
  unlock_all();
  return 0;
}

/* hub:next(): a token that has come, or nil. */
static int hub_next(lua_State *L)
{
  mb_lua_hub *hub = check_hub(L);
  uint32_t token = NO_WATCH;
  lock_all();
  while (token == NO_WATCH && hub->n > 0) {
    const uint32_t first = hub->queue[hub->first];
    hub->first = (hub->first + 1) & (hub->room - 1);
    hub->n--;
    all.watches[first].queued = false;
    if (all.watches[first].is_ready)
      token = first;
  }
  unlock_all();
  if (token == NO_WATCH)
    lua_pushnil(L);
  else
    lua_pushinteger(L, (lua_Integer)token);
  return 1;
}

static int hub_gc(lua_State *L)
{
  mb_lua_hub *hub = check_hub(L);
  detach(hub);
  lock_all();
  release_watches_locked(hub);
  free(hub->queue);
  hub->queue = NULL;
  hub->room = hub->n = hub->n_watches = 0;
  unlock_all();
  return 0;
}

static const luaL_Reg methods[] = {
    {"arm", hub_arm},
    {"attach", hub_attach},
    {"detach", hub_detach},
    {"disarm", hub_disarm},
    {"listen", hub_listen},
    {"next", hub_next},
    {"wake", hub_wake},
    {"watch", hub_watch},
    {NULL, NULL},
};

/* hub(): a new one; nil: there is no such thing here. */
int mb_lua_hub_open(lua_State *L)
{
  mb_lua_hub *hub = lua_newuserdata(L, sizeof *hub);
  memset(hub, 0, sizeof *hub);
  hub->listener = hub->wake = -1;
  if (luaL_newmetatable(L, metatable)) {
    lua_newtable(L);
    compat_setfuncs(L, methods, 0);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, hub_gc);
    lua_setfield(L, -2, "__gc");
  }
  lua_setmetatable(L, -2);
  return 1;
}

#else

int mb_lua_hub_open(lua_State *L)
{
  lua_pushnil(L);
  return 1;
}

#endif
