/* test_driver_parts.h: what the files of the test driver share. */
#ifndef MB_SPEC_TEST_DRIVER_PARTS_H
#define MB_SPEC_TEST_DRIVER_PARTS_H

#include "test_driver.h"

#include <pthread.h>
#include <sys/types.h>

#define TD_PARAMETERS 16
#define TD_COLUMNS 8

/* --- test_driver_text.c ------------------------------------------------- */

typedef enum td_verb {
  TD_NOTHING,
  TD_ROWS,
  TD_ECHO,
  TD_COUNT,
  TD_PUT,
  TD_AFFECTED,
  TD_SESSION,
  TD_NOTICE,
  TD_SQL_BEGIN,
  TD_SQL_COMMIT,
  TD_SQL_ROLLBACK,
  TD_SQL_SAVEPOINT,
  TD_SQL_RELEASE,
  TD_SQL_ROLLBACK_TO,
  TD_UNKNOWN
} td_verb;

/* A text that was read. */
typedef struct td_program {
  td_verb verb;
  int64_t n; /* the number behind the verb */
  int64_t columns, breaks, results;
  bool returning;
  char name[32];  /* the word behind the verb */
  size_t n_parameters;
  size_t wrong_at; /* of the error, from 1; 0: none */
  size_t consumed;
  bool empty;
} td_program;

td_program td_read(const char *text, size_t size);
bool td_only_reads(const td_program *program);
bool td_gives_rows(const td_program *program);

/* --- test_driver_server.c ----------------------------------------------- */

typedef struct td_savepoint {
  char name[32];
  size_t n; /* values that were pending */
} td_savepoint;

/* What the server knows of a session. */
typedef struct td_session {
  bool active, failed;
  int64_t pending[256];
  size_t n_pending;
  td_savepoint savepoints[64];
  size_t n_savepoints;
} td_session;

void td_breach(const char *format, ...) MB_PRINTF(1, 2);
/* Counts a call; the fault that it meets, or one of class 0 without flags. */
td_fault td_count(td_slot slot);
void td_count_trip(void);
void td_count_session(int change);
void td_count_statement(int change);
void td_count_object(int change);
/* Blocks a request to cancel that hangs. */
void td_hang(void);

int64_t td_visible(const td_session *session);
void td_put(td_session *session, int64_t value);
void td_server_begin(td_session *session);
void td_server_commit(td_session *session);
void td_server_rollback(td_session *session);
void td_server_savepoint(td_session *session, const char *name);
/* False: there is none of this name. */
bool td_server_release(td_session *session, const char *name);
bool td_server_rollback_to(td_session *session, const char *name);

#endif
