/*
 * proxy.c: a network that can be made to fail, for specs.
 *
 *   proxy PORT          forwards to 127.0.0.1:PORT
 *   proxy /path         forwards to a unix socket
 *
 * It listens on a loopback port of its own, or with a further argument "any" on
 * that of all addresses; the port is the first line of its output.  Each line
 * of its input is a command, answered by a line:
 *
 *   pass                forwards everything (as at the start)
 *   stop                forwards nothing, and keeps all connections
 *   slice N             forwards in pieces of N bytes, each sent for itself
 *   cut N up|down       after N more bytes in that direction resets all
 *                       connections, and takes no new ones
 *   before|after stop|drop TEXT
 *                       when a client sends TEXT (of any case) for the first
 *                       time: stops, or resets all, before these bytes are
 *                       forwarded or when they have been
 *   drop                resets all connections there are
 *   refuse, accept      takes no new connections; takes them
 *   count               answers how many connections it has taken
 *   trips               answers how often a server has answered after its
 * client had said something
 *
 * It ends when its input does.
 */
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define MAX_PAIRS 200
#define ROOM 65536
#define SLICE_PAUSE_MS 1

/* One direction of a connection. */
struct flow {
  int from, to;
  char bytes[ROOM];
  size_t size; /* read, and not forwarded yet */
  bool ended;  /* the sender has closed its side */
  bool told;   /* and the receiver knows */
};

struct pair {
  bool used;
  bool asked;           /* the client was the last to speak */
  struct flow up, down; /* client to server; server to client */
};

static struct pair pairs[MAX_PAIRS];
static const char *target;
static bool stopped, refusing;
static size_t slice;                    /* 0: no limit */
static long cut_up = -1, cut_down = -1; /* bytes left; -1: no limit */
static char trigger[256];               /* what a client sends; "": none */
static bool trigger_before, trigger_drops;
static bool trigger_fired; /* its bytes are on their way */
static unsigned long n_taken, n_trips;

static void die(const char *what)
{
  perror(what);
  exit(1);
}

/* With a reset in place of a goodbye. */
static void close_hard(int fd)
{
  const struct linger now = {.l_onoff = 1, .l_linger = 0};
  (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
  (void)close(fd);
}

static void drop(struct pair *pair)
{
  close_hard(pair->up.from);
  close_hard(pair->up.to);
  pair->used = false;
}

static void drop_all(void)
{
  for (size_t i = 0; i < MAX_PAIRS; i++)
    if (pairs[i].used)
      drop(&pairs[i]);
}

static int connect_target(void)
{
  int fd;
  if (target[0] == '/') {
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    (void)snprintf(to.sun_path, sizeof to.sun_path, "%s", target);
    fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof to) == 0)
      return fd;
  } else {
    struct sockaddr_in to = {.sin_family = AF_INET};
    to.sin_port = htons((uint16_t)atoi(target));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof to) == 0)
      return fd;
  }
  if (fd >= 0)
    (void)close(fd);
  return -1;
}

static void prepare_socket(int fd)
{
  const int on = 1;
  (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  (void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

static void take(int listener)
{
  const int client = accept(listener, NULL, NULL);
  if (client < 0)
    return;
  n_taken++;
  struct pair *pair = NULL;
  for (size_t i = 0; i < MAX_PAIRS && pair == NULL; i++)
    if (!pairs[i].used)
      pair = &pairs[i];
  const int server = refusing || pair == NULL ? -1 : connect_target();
  if (server < 0) {
    close_hard(client);
    return;
  }
  prepare_socket(client);
  prepare_socket(server);
  pair->used = true;
  pair->asked = false;
  pair->up = (struct flow){.from = client, .to = server};
  pair->down = (struct flow){.from = server, .to = client};
}

static bool has_trigger(const struct flow *flow)
{
  const size_t length = strlen(trigger);
  for (size_t at = 0; length > 0 && at + length <= flow->size; at++) {
    size_t same = 0;
    while (same < length && tolower((unsigned char)flow->bytes[at + same]) ==
                                tolower((unsigned char)trigger[same]))
      same++;
    if (same == length)
      return true;
  }
  return false;
}

/* What a trigger does; true: all connections are gone. */
static bool fire(void)
{
  trigger[0] = '\0';
  trigger_fired = false;
  if (!trigger_drops) {
    stopped = true;
    return false;
  }
  drop_all();
  return true;
}

/* Reads what there is; false: the pair is gone. */
static bool fill(struct pair *pair, struct flow *flow)
{
  const ssize_t n =
      read(flow->from, flow->bytes + flow->size, ROOM - flow->size);
  if (n < 0 && (errno == EAGAIN || errno == EINTR))
    return true;
  if (n < 0) {
    drop(pair);
    return false;
  }
  if (n == 0)
    flow->ended = true;
  flow->size += (size_t)n;
  if (flow == &pair->down && pair->asked)
    n_trips++;
  pair->asked = flow == &pair->up;
  if (flow != &pair->up || !has_trigger(flow))
    return true;
  if (trigger_before)
    return !fire();
  trigger[0] = '\0';
  trigger_fired = true;
  return true;
}

/* How much of a flow may be sent at once. */
static size_t allowance(const struct flow *flow, long left)
{
  size_t n = flow->size;
  if (slice > 0 && n > slice)
    n = slice;
  return left >= 0 && n > (size_t)left ? (size_t)left : n;
}

/* Forwards; false: the pair is gone. */
static bool forward(struct pair *pair, struct flow *flow, long *left)
{
  const size_t n = allowance(flow, *left);
  if (n > 0) {
    const ssize_t sent = send(flow->to, flow->bytes, n, MSG_NOSIGNAL);
    if (sent < 0 && (errno == EAGAIN || errno == EINTR))
      return true;
    if (sent < 0) {
      drop(pair);
      return false;
    }
    flow->size -= (size_t)sent;
    memmove(flow->bytes, flow->bytes + sent, flow->size);
    if (*left >= 0)
      *left -= sent;
  }
  if (*left == 0) {
    *left = -1;
    refusing = true;
    drop_all();
    return false;
  }
  if (trigger_fired && flow == &pair->up && flow->size == 0)
    return !fire();
  if (flow->ended && flow->size == 0 && !flow->told) {
    (void)shutdown(flow->to, SHUT_WR);
    flow->told = true;
  }
  if (pair->up.told && pair->down.told) {
    (void)close(pair->up.from);
    (void)close(pair->up.to);
    pair->used = false;
    return false;
  }
  return true;
}

static void answer(const char *text)
{
  (void)printf("%s\n", text);
  (void)fflush(stdout);
}

static void obey(const char *line)
{
  char when[16], what[16], direction[16];
  long n;
  if (strcmp(line, "pass") == 0) {
    stopped = refusing = false;
    slice = 0;
    cut_up = cut_down = -1;
    trigger[0] = '\0';
  } else if (strcmp(line, "stop") == 0) {
    stopped = true;
  } else if (strcmp(line, "drop") == 0) {
    drop_all();
  } else if (strcmp(line, "refuse") == 0) {
    refusing = true;
  } else if (strcmp(line, "accept") == 0) {
    refusing = false;
  } else if (strcmp(line, "count") == 0 || strcmp(line, "trips") == 0) {
    char text[32];
    (void)snprintf(
        text, sizeof text, "%lu", line[0] == 'c' ? n_taken : n_trips);
    answer(text);
    return;
  } else if (sscanf(line, "slice %ld", &n) == 1 && n > 0) {
    slice = (size_t)n;
  } else if (sscanf(line, "cut %ld %15s", &n, direction) == 2 && n > 0) {
    *(strcmp(direction, "up") == 0 ? &cut_up : &cut_down) = n;
  } else if (sscanf(line, "%15s %15s %255[^\n]", when, what, trigger) == 3) {
    trigger_before = strcmp(when, "before") == 0;
    trigger_drops = strcmp(what, "drop") == 0;
    trigger_fired = false;
  } else {
    answer("what?");
    return;
  }
  answer("ok");
}

/* Commands as they come; false: the input has ended. */
static bool read_commands(void)
{
  static char line[512];
  static size_t size;
  const ssize_t n = read(0, line + size, sizeof line - 1 - size);
  if (n <= 0)
    return false;
  size += (size_t)n;
  char *end;
  while ((end = memchr(line, '\n', size)) != NULL) {
    *end = '\0';
    obey(line);
    const size_t used = (size_t)(end - line) + 1;
    size -= used;
    memmove(line, line + used, size);
  }
  return true;
}

static int listen_on(in_addr_t address)
{
  struct sockaddr_in at = {.sin_family = AF_INET};
  socklen_t size = sizeof at;
  at.sin_addr.s_addr = htonl(address);
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof at) != 0 ||
      listen(fd, 100) != 0 ||
      getsockname(fd, (struct sockaddr *)&at, &size) != 0)
    die("proxy");
  (void)printf("%d\n", ntohs(at.sin_port));
  (void)fflush(stdout);
  return fd;
}

/* What a flow waits for goes into the set. */
static void watch(
    const struct flow *flow, struct pollfd *from, struct pollfd *to)
{
  if (!flow->ended && flow->size < ROOM)
    from->events |= POLLIN;
  if (flow->size > 0 || (flow->ended && !flow->told))
    to->events |= POLLOUT;
}

static void serve(
    struct pair *pair, const struct pollfd *client, const struct pollfd *server)
{
  const short broken = POLLERR | POLLNVAL;
  if ((client->revents | server->revents) & broken) {
    drop(pair);
    return;
  }
  if ((client->revents & (POLLIN | POLLHUP)) && !pair->up.ended &&
      pair->up.size < ROOM && !fill(pair, &pair->up))
    return;
  if ((server->revents & (POLLIN | POLLHUP)) && !pair->down.ended &&
      pair->down.size < ROOM && !fill(pair, &pair->down))
    return;
  if (stopped)
    return;
  if (forward(pair, &pair->up, &cut_up))
    (void)forward(pair, &pair->down, &cut_down);
}

static void serve_all(const struct pollfd *fds)
{
  for (size_t i = 0; i < MAX_PAIRS && !stopped; i++)
    if (pairs[i].used && fds[2 + 2 * i].fd == pairs[i].up.from)
      serve(&pairs[i], &fds[2 + 2 * i], &fds[3 + 2 * i]);
}

int main(int argc, char **argv)
{
  static struct pollfd fds[2 + 2 * MAX_PAIRS];
  if (argc < 2)
    return 2;
  target = argv[1];
  const int listener = listen_on(argc > 2 ? INADDR_ANY : INADDR_LOOPBACK);
  for (;;) {
    fds[0] = (struct pollfd){.fd = 0, .events = POLLIN};
    fds[1] = (struct pollfd){.fd = listener, .events = POLLIN};
    for (size_t i = 0; i < MAX_PAIRS; i++) {
      struct pair *pair = &pairs[i];
      struct pollfd *client = &fds[2 + 2 * i];
      struct pollfd *server = &fds[3 + 2 * i];
      const bool waits = pair->used && !stopped;
      *client = (struct pollfd){.fd = waits ? pair->up.from : -1};
      *server = (struct pollfd){.fd = waits ? pair->up.to : -1};
      if (waits) {
        watch(&pair->up, client, server);
        watch(&pair->down, server, client);
      }
    }
    if (poll(fds, sizeof fds / sizeof fds[0], -1) < 0 && errno != EINTR)
      die("poll");
    /* Commands first: what they forbid is not done any more. */
    if (fds[0].revents != 0 && !read_commands())
      return 0;
    if (fds[1].revents != 0)
      take(listener);
    serve_all(fds);
    if (slice > 0)
      (void)poll(NULL, 0, SLICE_PAUSE_MS);
  }
}
