/*
 * name_server.h: what looks names up in tests.
 *
 *   gone.test, later.test, memory.test, system.test
 *                    fail, each in its way
 *   hang…            hangs while name_server_hang says so
 *   all others       have the address 127.0.0.9, several times
 */
#ifndef MB_SPEC_NAME_SERVER_H
#define MB_SPEC_NAME_SERVER_H

#include <pthread.h>
#include <stdbool.h>

/* Takes the place of the system's functions, or leaves it to them. */
void name_server_start(void);
void name_server_stop(void);

/* Whether names hang from now on; if not, those that do go on. */
void name_server_hang(bool wanted);
/* Waits until so many look-ups of a name hang; false: it takes too long. */
bool name_server_is_hanging(const char *name, int n);
/* In a child, whose parent may have had some that hang. */
void name_server_forget(void);

/* How often a name was looked up, and by which thread the last one was. */
int name_server_count(const char *name);
pthread_t name_server_thread(void);

#endif
