/* host.c: memory, time, the writing of errors and what the system has, behind
 * one table. */
#include "host.h"

#include "../moonbase.h"
#include "connection.h"
#include "fiber.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_SECOND 1000000000

static int64_t monotonic_ns(void)
{
  struct timespec now;
  /* CLOCK_MONOTONIC cannot fail on a POSIX system that has it. */
  (void)clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * NS_PER_SECOND + now.tv_nsec;
}

static void sleep_for_ns(int64_t duration_ns)
{
  struct timespec wanted = {.tv_sec = (time_t)(duration_ns / NS_PER_SECOND),
      .tv_nsec = (long)(duration_ns % NS_PER_SECOND)};
  if (duration_ns <= 0)
    return;
  if (mb_fiber_is_inside())
    (void)mb__fiber_poll(NULL, 0, mb__host.now_ns() + duration_ns);
  else
    (void)nanosleep(&wanted, NULL); /* a signal may end it early */
}

static bool is_file(const char *path)
{
  return path != NULL && path[0] != '\0' && access(path, R_OK) == 0;
}

static const char *find_authorities(void)
{
  static const char *const bundles[] = {
      "/etc/ssl/certs/ca-certificates.crt",
      "/etc/pki/tls/certs/ca-bundle.crt",
      "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
      "/etc/ssl/ca-bundle.pem",
      "/etc/ssl/cert.pem",
      "/usr/local/share/certs/ca-root-nss.crt",
  };
  const char *bundle = getenv("SSL_CERT_FILE");
  for (size_t i = 0; i < sizeof bundles / sizeof bundles[0]; i++)
    if (!is_file(bundle))
      bundle = bundles[i];
  return is_file(bundle) ? bundle : NULL;
}

size_t mb__utf8_cut(const char *text, size_t size, size_t limit)
{
  if (size <= limit)
    return size;
  size_t cut = limit;
  while (cut > 0 && ((unsigned char)text[cut] & 0xC0) == 0x80)
    cut--;
  return cut;
}

/* Puts a zero byte behind the list of columns, for a further one of size bytes;
 * the list is moved to the end when another text was added since.  False: there
 * is no room for all of that. */
static bool open_columns(mb_error *error, size_t size)
{
  const uint16_t at = error->fields[MB_COLUMNS].at;
  const uint16_t listed = error->fields[MB_COLUMNS].size;
  const bool moves = at + listed != error->used;
  const size_t room = sizeof error->room - error->used;
  if (room < size + 1 || (moves && room - size - 1 < listed))
    return false;
  if (moves) {
    memcpy(error->room + error->used, error->room + at, listed);
    error->fields[MB_COLUMNS].at = error->used;
    error->used = (uint16_t)(error->used + listed);
  }
  error->room[error->used++] = '\0';
  return true;
}

static void set_field(
    mb_error *error, mb_field field, const char *text, size_t size)
{
  if (text == NULL || size == 0)
    return;
  const bool further = field == MB_COLUMNS && error->fields[field].size != 0;
  /* Half of a further name would be another one. */
  if (further && !open_columns(error, size))
    return;
  const size_t kept =
      mb__utf8_cut(text, size, sizeof error->room - error->used);
  if (kept == 0)
    return;
  if (!further)
    error->fields[field].at = error->used;
  memcpy(error->room + error->used, text, kept);
  error->used = (uint16_t)(error->used + kept);
  error->fields[field].size = (uint16_t)(error->used - error->fields[field].at);
}

static mb_status fail(mb_error *error, mb_class class, const char *format, ...)
{
  /* All but the texts, whose bytes count only as far as they are used. */
  memset(error, 0, offsetof(mb_error, room));
  error->class = class;

  char message[MB_ERROR_ROOM / 2];
  va_list arguments;
  va_start(arguments, format);
  const int wanted = vsnprintf(message, sizeof message, format, arguments);
  va_end(arguments);
  if (wanted > 0) {
    const size_t size = strlen(message);
    set_field(error, MB_MESSAGE, message,
        (size_t)wanted < sizeof message
            ? size
            : mb__utf8_cut(message, size, size - 1));
  }
  return MB_ERROR;
}

mb_host mb__host = {
    .abi = MB_DRIVER_ABI,
    .size = sizeof(mb_host),
    .allocate = malloc,
    .reallocate = realloc,
    .release = free,
    .now_ns = monotonic_ns,
    .sleep_ns = sleep_for_ns,
    .fail = fail,
    .error_set = set_field,
    .event = mb__conn_event,
    .make_way = mb__conn_make_way,
    .await = mb__conn_await,
    .authorities = find_authorities,
};

void mb_set_allocator(void *(*allocate)(size_t),
    void *(*reallocate)(void *, size_t), void (*release)(void *))
{
  mb__host.allocate = allocate;
  mb__host.reallocate = reallocate;
  mb__host.release = release;
}

void mb_set_clock(int64_t (*now_ns)(void), void (*sleep_ns)(int64_t))
{
  mb__host.now_ns = now_ns;
  mb__host.sleep_ns = sleep_ns;
}

bool mb__clock_is_real(void)
{
  return mb__host.now_ns == monotonic_ns;
}

int64_t mb__coarse_ns(void)
{
#ifdef CLOCK_MONOTONIC_COARSE
  struct timespec now;
  if (mb__clock_is_real() && clock_gettime(CLOCK_MONOTONIC_COARSE, &now) == 0)
    return (int64_t)now.tv_sec * NS_PER_SECOND + now.tv_nsec;
#endif
  return mb__host.now_ns();
}

int64_t mb__deadline_ns(int64_t timeout_ns)
{
  const int64_t now_ns = mb__host.now_ns();
  return timeout_ns < MB_NEVER - now_ns ? now_ns + timeout_ns : MB_NEVER;
}

void *mb__allocate_zeroed(size_t count, size_t size)
{
  if (size != 0 && count > SIZE_MAX / size)
    return NULL;
  void *memory = mb__host.allocate(count * size);
  if (memory != NULL)
    memset(memory, 0, count * size);
  return memory;
}

char *mb__copy_text(const char *text, size_t size)
{
  char *copy = mb__host.allocate(size + 1);
  if (copy != NULL) {
    memcpy(copy, text, size);
    copy[size] = '\0';
  }
  return copy;
}

void mb__release_secret(char *text)
{
  /* Through a volatile pointer, so that the wiping is not optimised away. */
  volatile char *byte = text;
  while (byte != NULL && *byte != '\0')
    *byte++ = '\0';
  mb__host.release(text);
}

mb_status mb__out_of_memory(mb_error *error)
{
  return fail(error, MB_RESOURCE, "out of memory");
}

mb_status mb_error_fill(mb_error *error, mb_class class, const char *message)
{
  return fail(error, class, "%s", message);
}

void mb_error_set_text(
    mb_error *error, mb_field field, const char *text, size_t size)
{
  set_field(error, field, text, size);
}

int64_t mb_now_ns(void)
{
  return mb__host.now_ns();
}

void mb_sleep_ns(int64_t duration_ns)
{
  if (mb_fiber_is_inside())
    (void)mb__fiber_poll(NULL, 0, mb__host.now_ns() + duration_ns);
  else
    mb__host.sleep_ns(duration_ns);
}
