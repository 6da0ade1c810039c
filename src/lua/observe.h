/*
 * observe.h: what listeners of a Database are told; a part of binding.h.
 */
#ifndef MB_LUA_OBSERVE_H
#define MB_LUA_OBSERVE_H

#include "../moonbase.h"
#include "compat.h"

struct mb_lua;
struct mb_lua_run;
struct mb_lua_rows;
struct mb_lua_session;

/* What listeners may listen to, in a set. */
enum mb_lua_events {
  MB_LUA_ON_QUERY = 1 << 0,
  MB_LUA_ON_SLOW_QUERY = 1 << 1,
  MB_LUA_ON_TRANSACTION = 1 << 2,
  MB_LUA_ON_ACQUIRE = 1 << 3,
  MB_LUA_ON_CONNECT = 1 << 4,
  MB_LUA_ON_CLOSE = 1 << 5,
  MB_LUA_ON_ERROR = 1 << 6,
  MB_LUA_ON_WARNING = 1 << 7,
  MB_LUA_ON_NOTICE = 1 << 8,
  MB_LUA_ON_RETRY = 1 << 9,
  MB_LUA_ON_DRAIN = 1 << 10,
  MB_LUA_ON_LEAK = 1 << 11,
  MB_LUA_NOTES = 1 << 16 /* not of a listener: who borrows is noted */
};

typedef struct mb_lua_notice mb_lua_notice;

/* What is measured of a call, or of rows, whose Database has listeners. */
typedef struct mb_lua_watch {
  unsigned events;     /* of mb_lua_events; 0: nothing is measured */
  bool is_query;       /* it runs a statement of the program */
  bool borrowed;       /* it has asked the pool for a connection */
  bool refused;        /* and got none */
  bool in_rows;        /* it goes on after the call, for busy_ns */
  bool has_parameters; /* they were read */
  int64_t start_ns;
  int64_t busy_ns;    /* inside the calls, and not between them */
  int64_t elapsed_ns; /* from the start to the end */
  int64_t mark_ns;    /* when that began which is going on */
  int64_t queue_ns, connect_ns, server_ns;
  int64_t drain_ns;   /* for ending a run early; -1: it was none */
  int64_t rows;       /* that were given; -1: none are wanted */
  int64_t batch;      /* statements, or rows of parameters, in one call */
  int64_t warnings;   /* as the database counts them */
  char duplicate[64]; /* the name of two columns; empty: there is none */
} mb_lua_watch;

/* These are called only where the watch has events. */

void mb_lua_watch_open(struct mb_lua_run *run);
/* A connection was asked for at the mark; status is what came of it. */
void mb_lua_watch_borrowed(struct mb_lua_run *run, mb_status status);
/* The call has its connection, which an error would give back. */
void mb_lua_watch_connected(lua_State *L, struct mb_lua_run *run);
/* Looks at the columns of rows that are given by name. */
void mb_lua_watch_columns(mb_lua_watch *watch, const mb_stmt *stmt);
/* The call is over: tells the listeners.  error: why it has failed, or NULL.
 * The stack is left as it was, and so is an error that was kept. */
void mb_lua_watch_tell(
    lua_State *L, struct mb_lua_run *run, const mb_error *error);
/* The same for what is no run: an error, or NULL for what came from elsewhere.
 */
void mb_lua_tell_error(lua_State *L, struct mb_lua *lua,
    struct mb_lua_session *session, const mb_error *error);

/* Hands what was measured to the rows on the top, made with a place more than
 * keys_room. */
void mb_lua_watch_rows(
    lua_State *L, struct mb_lua_run *run, struct mb_lua_rows *rows);
/* Tells of rows, which are at index and have ended. */
void mb_lua_tell_rows(lua_State *L, struct mb_lua *lua, int index,
    struct mb_lua_rows *rows, const mb_error *error);

/* For finalizers: they are told of with the next call. */
void mb_lua_postpone_rows(lua_State *L, int index, struct mb_lua_rows *rows);
void mb_lua_postpone_leak(
    lua_State *L, int index, struct mb_lua_session *session);
void mb_lua_free_notices(struct mb_lua_session *origin);

/* Notes where the Connection or Transaction on the top was begun. */
void mb_lua_note_begin(lua_State *L, struct mb_lua *lua);

/* Functions for the Lua side, described where they are defined. */
int mb_lua_listen(lua_State *L);
int mb_lua_observe(lua_State *L);
int mb_lua_observed(lua_State *L);
int mb_lua_database(lua_State *L);
int mb_lua_caller(lua_State *L);
int mb_lua_next_event(lua_State *L);

#endif
