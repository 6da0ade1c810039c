/*
 * binding.h: what the files of the Lua binding share.
 *
 * Every function of the binding has four steps: check arguments, create the
 * empty handle, call the core, push the result.  Lua raises errors by longjmp,
 * from any call that allocates; so nothing may be owned by a C frame alone when
 * such a call is made.  A connection that a call has borrowed, and a run that
 * it has begun, are noted in a frame (below) before the first such call; what
 * an error leaves there is ended by the next call into the binding.
 */
#ifndef MB_LUA_BINDING_H
#define MB_LUA_BINDING_H

#include "../moonbase.h"
#include "compat.h"
#include "functions.h"
#include "lease.h"
#include "observe.h"

#include <math.h>

/* --- The state ---------------------------------------------------------- */

#define MB_LUA_SHAPES 256 /* shapes that are remembered; a power of two */
#define MB_LUA_FRAMES 16  /* calls inside calls, by functions of the program */
#define MB_LUA_READERS 16 /* rows that are read inside of each other */

/* A call of the binding that may have to be undone; all zero while there is
 * none. */
typedef struct mb_lua_frame {
  mb_conn *conn; /* borrowed by this call; NULL: none */
  uint64_t borrow;
  mb_stmt *stmt; /* begun by this call; NULL: none */
  uint64_t run;
  mb_conn *held; /* the connection that this call uses; NULL: none yet */
  bool reads;    /* it is reading its values */
  struct mb_lua_lease *shared; /* this call has a part in it; NULL: none */
  bool calls_back;             /* it is running Lua code: it is not over */
  /* Who it is: a finalizer of the program's may call while it allocates. */
  lua_State *L;
  const void *handle; /* its first argument */
  const void *place;  /* on the C stack */
} mb_lua_frame;

/* A row that is being handed out by an iterator: nothing may happen meanwhile
 * to what its values lie in. */
typedef struct mb_lua_reader {
  mb_conn *conn;
  lua_State *L;
  const void *handle; /* the rows */
  const void *place;  /* on the C stack */
} mb_lua_reader;

/* What callbacks of the database hold of a Lua state; it outlives the state. */
typedef struct mb_lua_anchor {
  unsigned refs;
  lua_State *L; /* NULL once the state is closed */
  struct mb_lua *lua;
} mb_lua_anchor;

/* A function of the program that a database is calling. */
typedef struct mb_lua_calling {
  const mb_pool *pool;                /* of the connection that calls it */
  const struct mb_lua_calling *outer; /* that it was called in, or NULL */
} mb_lua_calling;

/* The binding in one Lua state: the first upvalue of all its functions.  What
 * every call looks at stands first, together. */
typedef struct mb_lua {
  lua_State *L; /* of the call that is going on, for callbacks */
  size_t n_frames;
  size_t n_readers;
  struct mb_lua_fiber *fiber; /* that is running; NULL: none */
  const void *task; /* whose call it is; NULL: the program's, which blocks */
  lua_State *outer; /* that has called what runs there, for who asks by whom */
  struct mb_lua_fiber *free_fibers;
  size_t n_free_fibers;
  /* Of fibers: calls that they have, the most at a time lately and in the time
   * before, and calls that have ended lately. */
  size_t n_calls, most_calls, most_before, n_ended;
  int64_t collect_ns; /* garbage for calls that wait, not before */
  struct mb_lua_fiber *left_fibers; /* calls that wait */
  size_t n_orphans;                 /* of these: nobody waits for them */
  bool is_closing;    /* what is made now would never be finalized */
  const void *called; /* the handle that was called last, if it is alive */
  struct mb_lua_lease *leases; /* with users */
  /* The metatable by which a value's kind was found last (MB_LUA_KINDS keeps it
   * alive), and that kind. */
  const void *kind_metatable;
  int kind;
  int telling;      /* listeners are being called */
  bool has_raised;  /* a callback has left an error in the registry */
  bool has_dropped; /* a transaction was collected, and may be open */
  struct mb_lua_session *transactions; /* open ones, the latest first */
  const mb_lua_calling *calling;       /* the innermost, or NULL */
  mb_conn *expanding; /* of the statement whose fragments are being joined */
  const lua_State *looked_in; /* where a scheduler was looked for last */
  lua_State *main; /* the main coroutine, or the one that loaded the module */
  mb_lua_anchor *anchor; /* NULL: no database holds a callback */
  mb_lua_frame frames[MB_LUA_FRAMES];
  mb_lua_reader readers[MB_LUA_READERS];
  uint64_t shapes[MB_LUA_SHAPES]; /* which shape a slot of the table holds */
} mb_lua;

/* The upvalues of every function of the binding. */
enum mb_lua_upvalue {
  MB_LUA_STATE = 1,  /* userdata: mb_lua */
  MB_LUA_SHAPE_LIST, /* table: slot -> shape */
  MB_LUA_KINDS,      /* table: metatable of a value -> its kind */
  MB_LUA_METATABLES, /* table: mb_lua_kind -> metatable */
  MB_LUA_HELPERS,    /* table: functions written in Lua that C calls */
  MB_LUA_N_UPVALUES = MB_LUA_HELPERS
};

static inline mb_lua *mb_lua_of(lua_State *L)
{
  return lua_touserdata(L, lua_upvalueindex(MB_LUA_STATE));
}

/* The key of the registry that the running call has in place of key: each fiber
 * has its own, and key lies in mb_lua or is that of the kept error. */
const void *mb_lua_own_key(const mb_lua *lua, const void *key);
/* The call of a task is about to wait for what only the collection of a handle
 * may free: collects some, now and while it waits; and not any more. */
void mb_lua_want_garbage(lua_State *L, mb_lua *lua);
void mb_lua_have_garbage(const mb_lua *lua);
/* For a program that blocks: takes calls whose tasks were forgotten to their
 * ends. */
void mb_lua_end_orphans(lua_State *L, mb_lua *lua);
/* Before a handle is finalized: at the end of a state calls that wait may still
 * be using it; they are brought to their ends. */
void mb_lua_end_fibers(lua_State *L, mb_lua *lua, const void *handle);

/* Ends what errors have left in frames; place is that of the caller on the C
 * stack. */
void mb_lua_sweep(lua_State *L, mb_lua *lua, const void *place);
/* The same where no call goes on. */
void mb_lua_sweep_all(mb_lua *lua);
/* Lets go of the connection that a call has used. */
static inline void mb_lua_let(mb_lua_frame *frame)
{
  mb_conn *held = frame->held;
  frame->held = NULL;
  if (held != NULL)
    mb_conn_let(held);
}
/* Ends the call that is going on, for an error that is about to be raised: it
 * may be long until the next call, and what is open may be a lock. */
void mb_lua_unwind(lua_State *L, mb_lua *lua);

/* Where the function that is running has its place on the C stack. */
#define MB_LUA_PLACE() __builtin_frame_address(0)

/* Sweeps, and notes who is running.  Inlined, for the place of the caller. */
__attribute__((always_inline)) static inline mb_lua *mb_lua_enter(lua_State *L)
{
  mb_lua *lua = mb_lua_of(L);
  if (lua->n_frames > 0 || lua->n_readers > 0)
    mb_lua_sweep(L, lua, MB_LUA_PLACE());
  lua->L = L;
  return lua;
}

/* Whether a function of C's with this first argument is running in L, below the
 * one that asks. */
bool mb_lua_is_running(lua_State *L, const void *handle);

/* Calls the Lua function that stands below its n arguments on the top, catching
 * errors; false: the error is on the top.  Frames are kept meanwhile. */
bool mb_lua_pcall(lua_State *L, mb_lua *lua, int n, int results);
/* Makes room for an error that is kept, so that keeping one takes no memory. */
void mb_lua_reserve_raised(lua_State *L, const mb_lua *lua);
/* Takes the error on the top, to be raised as it is by mb_lua_fail; answers
 * MB_ERROR. */
mb_status mb_lua_keep_raised(lua_State *L, mb_error *error);
/* Pushes what was kept; false: nothing was. */
bool mb_lua_take_raised(lua_State *L);
/* The state is closing: callbacks that are left will find none. */
void mb_lua_leave_anchor(mb_lua *lua);
/* Pushes helper name. */
void mb_lua_helper(lua_State *L, const char *name);

/* --- Handles ------------------------------------------------------------ */

typedef enum mb_lua_kind {
  MB_LUA_DATABASE = 1,
  MB_LUA_CONNECTION,
  MB_LUA_TRANSACTION,
  MB_LUA_STATEMENT,
  MB_LUA_ROWS,
  MB_LUA_CANCELLATION,
  MB_LUA_KIND_COUNT,
  MB_LUA_FIBER = MB_LUA_KIND_COUNT, /* no handles: only metatables */
  MB_LUA_TICKET
} mb_lua_kind;

/* Every handle's start: nobody else's userdata begins with this address. */
typedef struct mb_lua_head {
  const void *mark;
  mb_lua_kind kind;
  bool collected; /* its finalizer has run */
} mb_lua_head;

extern const char mb_lua_mark;

/* The handle at index, or NULL when the value is none. */
static inline mb_lua_head *mb_lua_handle(lua_State *L, int index)
{
  if (lua_type(L, index) != LUA_TUSERDATA ||
      lua_rawlen(L, index) < sizeof(mb_lua_head))
    return NULL;
  mb_lua_head *head = lua_touserdata(L, index);
  return head->mark == &mb_lua_mark ? head : NULL;
}

/* The handle at index 1, or NULL, remembered for the next call. */
mb_lua_head *mb_lua_remember(lua_State *L, mb_lua *lua);

/* The same; in a loop it is the one of the last call. */
static inline mb_lua_head *mb_lua_called(lua_State *L, mb_lua *lua)
{
  void *given = lua_touserdata(L, 1);
  return given != NULL && given == lua->called ? given
                                               : mb_lua_remember(L, lua);
}

/* The handle is being finalized.  It may still be called, by another finalizer,
 * but nobody is told when its memory is freed. */
static inline void mb_lua_forget(lua_State *L, mb_lua *lua, mb_lua_head *head)
{
  if (lua->left_fibers != NULL)
    mb_lua_end_fibers(L, lua, head);
  head->collected = true;
  if (lua->called == head)
    lua->called = NULL;
}

/* Creates a handle: zeroed but for its head, with n values beside it. */
void *mb_lua_new(lua_State *L, mb_lua_kind kind, size_t size, int n);
/* The handle of that kind at index; raises a UsageError when it is none. */
void *mb_lua_check(lua_State *L, int index, mb_lua_kind kind);

/* Values beside handles.  All that convert values have the options first. */
enum {
  MB_LUA_OPTIONS = 1, /* table: null, types, json, cancel; or nil */
  MB_LUA_PARENT,      /* the handle that this one needs alive */
  MB_LUA_LEASE,       /* the borrow that it has a part in; or nil */
  MB_LUA_EXTRA,       /* sessions: a table for the Lua side; rows: the shape;
                         statements: the text */
  MB_LUA_KEPT,        /* rows: what the parameters' views need */
  MB_LUA_HOOKS,       /* rows: converting functions, or nil */
  MB_LUA_KEYS         /* rows: the first of the names of the columns */
};

/* How a handle turns values and errors. */
typedef struct mb_lua_config {
  bool returns_errors;
  bool has_null; /* the options' null stands for NULL */
  bool int64_raises;
  bool decimal_is_number;
  bool keeps_booleans; /* 0 and 1 as integers */
  bool has_hooks;      /* the options' types or json convert */
  bool has_json;
  bool is_plain;            /* texts have no placeholders */
  bool logs_parameters;     /* events show them */
  bool has_default_timeout; /* nobody has said that of call */
  mb_call call;
} mb_lua_config;

/* Of what takes as long as it takes, unless it is told: a script, a COPY. */
static inline mb_call mb_lua_long_call(const mb_lua_config *config)
{
  mb_call call = config->call;
  if (config->has_default_timeout)
    call.timeout_ns = 0;
  return call;
}

/* A Database, Connection or Transaction. */
typedef struct mb_lua_session {
  mb_lua_head head;
  mb_lua_config config;
  mb_pool *pool;         /* a reference; of all three */
  const mb_pool *family; /* the same, or that of a replica's primary */
  mb_conn *conn;         /* Connection, Transaction: a reference */
  uint64_t borrow;
  mb_lua_lease *lease;           /* beside it; NULL: it has none of its own */
  struct mb_lua_session *origin; /* the Database that it comes from */
  bool closed;
  bool has_setup;    /* Database: fresh connections are set up by Lua */
  bool has_password; /* Database: a function of the program's knows it */
  bool is_view;      /* of its parent */
  bool managed;      /* Transaction: it is that of a function */
  bool owns_tx;      /* Transaction: it was begun with this handle */
  bool listed;       /* Transaction: in mb_lua.transactions */
  const void *task;  /* Transaction: that began it */
  mb_tx tx;
  struct mb_lua_session *next, *prev;

  /* Database, and not a view: its listeners (observe.c). */
  unsigned observed; /* of mb_lua_events: what is told now */
  bool has_pending;  /* the Lua side keeps something to be told */
  bool watches_pool;
  uint64_t events_seen;   /* of the pool's */
  int64_t call_ns;        /* when the latest call began */
  int64_t slow_ns;        /* from when on a query is slow */
  mb_lua_notice *notices; /* that came in this call */
} mb_lua_session;

/* A prepared statement: of a Database (found on whatever connection it gets) or
 * of a connection. */
typedef struct mb_lua_statement {
  mb_lua_head head;
  mb_lua_session *session; /* its parent */
  mb_conn *conn;           /* a reference; NULL: of a Database */
  uint64_t borrow;
  mb_stmt *stmt; /* kept; NULL: of a Database */
  bool closed;
} mb_lua_statement;

/* An open result. */
typedef struct mb_lua_rows {
  mb_lua_head head;
  mb_lua_config config;
  mb_pool *pool;       /* borrowed from the parent, for errors */
  mb_cursor cursor;    /* closed once nothing is left at the connection */
  mb_lua_lease *lease; /* beside it; NULL: the connection is not its own */
  mb_spool *spool;     /* rows that are no longer the connection's */
  uint64_t shape;      /* that the values beside it are of */
  size_t n_columns;
  size_t keys_room;    /* names that there is room for beside the rows */
  uint64_t keys_shape; /* whose names are there; 0: none */
  bool as_arrays;
  bool builds;       /* a function that makes rows is kept beside them */
  unsigned n_pushed; /* rows, as far as it matters for that */
  bool pushing;      /* a row is being handed out, or an error has ended that */
  bool ended;        /* all rows were given */
  bool of_task;      /* a task has made them: they do not block */
  bool pending;      /* a fetch is under way, to be gone on with on a fiber */
  const mb_value *row; /* what that fetch gives */
  bool closed;         /* by the user */
  int64_t count;       /* rows given, for tuples */
  mb_lua_watch *watch; /* beside it; NULL: it is not observed, or was told of */
  mb_lua_session *origin; /* of watch */
} mb_lua_rows;

typedef struct mb_lua_cancellation {
  mb_lua_head head;
  mb_cancellation *cancellation; /* a reference */
} mb_lua_cancellation;

/* The session at index; raises a UsageError when it is none. */
mb_lua_session *mb_lua_check_session(lua_State *L, int index);
/* Replaces the session on the top by a Connection on conn with its options,
 * which has no part in the borrow. */
void mb_lua_push_view(lua_State *L, mb_conn *conn);

/* --- Errors (error.c) --------------------------------------------------- */

/* Pushes an error object.  sql: index of the statement's text, or 0. */
void mb_lua_push_error(
    lua_State *L, const mb_error *error, mb_pool *pool, int sql);
/* Pushes the traceback of the running call; it ends with that of who has called
 * what runs on a fiber. */
void mb_lua_push_traceback(lua_State *L);
/* Raises a UsageError. */
int mb_lua_usage(lua_State *L, const char *format, ...)
    MB_PRINTF(2, 3) COMPAT_NORETURN;
/* What a function that has failed returns: raises, or gives nil and the error.
 * A UsageError is always raised. */
int mb_lua_fail(lua_State *L, const mb_lua_config *config,
    const mb_error *error, mb_pool *pool, int sql);

/* --- Values (value.c, parameter.c) -------------------------------------- */

/* Integers up to here are exact in a double. */
#define MB_LUA_EXACT_MAX (INT64_C(1) << 53)

/* Kinds of values that tables with a metatable stand for, as MB_LUA_KINDS says;
 * the others are tags of mb_tag. */
enum { MB_LUA_FRAGMENT = 100, MB_LUA_PARAMS = 101 };

/* Pushes an integer: as digits, where this Lua cannot hold it exactly. */
void mb_lua_push_int64(lua_State *L, int64_t value);
/* Pushes a value that is not of the simplest kind.  options: index of the
 * session's options. */
void mb_lua_push_value(lua_State *L, const mb_lua_config *config,
    const mb_value *value, int options);
/* Reads the value at index (not relative to the top); bytes are views of what
 * is there, or of what is left on the stack above.  The handle that was called
 * is at index 1.  An error's message begins with "is". */
MB_CHECKED mb_status mb_lua_read_value(lua_State *L,
    const mb_lua_config *config, int index, mb_value *out, mb_error *error);
/* Reads a value of one of the kinds that most are of; false: it is another. */
static inline bool mb_lua_read_simple(
    lua_State *L, int type, int index, mb_value *out)
{
  if (type == LUA_TSTRING) {
    out->tag = MB_TEXT;
    out->as.bytes.data = lua_tolstring(L, index, &out->as.bytes.size);
    return true;
  }
  if (type != LUA_TNUMBER)
    return false;
#if COMPAT_HAS_INTEGERS
  if (lua_isinteger(L, index)) {
    out->tag = MB_INT64;
    out->as.integer = lua_tointeger(L, index);
    return true;
  }
  out->tag = MB_DOUBLE;
  out->as.real = lua_tonumber(L, index);
#else
  const lua_Number number = lua_tonumber(L, index);
  if (number >= -(lua_Number)MB_LUA_EXACT_MAX &&
      number <= (lua_Number)MB_LUA_EXACT_MAX &&
      number == (lua_Number)(int64_t)number &&
      !(number == 0 && signbit(number))) {
    out->tag = MB_INT64;
    out->as.integer = (int64_t)number;
    return true;
  }
  out->tag = MB_DOUBLE;
  out->as.real = number;
#endif
  return true;
}
/* Whether the value at index (not relative to the top) is the configured null,
 * which may be anything. */
bool mb_lua_is_null(lua_State *L, const mb_lua_config *config, int index);
/* The kind of a table: an mb_tag, MB_LUA_FRAGMENT, MB_LUA_PARAMS; 0: a plain
 * table, or no table; -1: another metatable. */
int mb_lua_kind_of(lua_State *L, int index);
/* The same for what is a table. */
int mb_lua_table_kind(lua_State *L, int index);
/* Reads a table that marks a string (as bytes, as a date …) by its metatable,
 * when the last one had the same; false: it is another value. */
static inline bool mb_lua_read_marked(lua_State *L, const mb_lua *lua,
    const mb_lua_config *config, int type, int index, mb_value *out)
{
  if (type != LUA_TTABLE || config->has_null || !lua_getmetatable(L, index))
    return false;
  const bool marks = lua_topointer(L, -1) == lua->kind_metatable &&
                     lua->kind >= MB_BLOB && lua->kind < MB_ARRAY &&
                     lua->kind != MB_JSON;
  if (marks) {
    lua_rawgeti(L, index, 1);
    out->tag = (mb_tag)lua->kind;
    out->as.bytes.data = lua_tolstring(L, -1, &out->as.bytes.size);
  }
  lua_pop(L, marks ? 2 : 1); /* the table holds the string */
  return marks;
}

/* The values for a statement. */
typedef struct mb_lua_params {
  mb_value *values;
  size_t n;
  int first, top;   /* indices of the first and the last argument */
  bool is_fragment; /* one of them is SQL: nothing was read */
  mb_value room[16];
} mb_lua_params;

struct mb_lua_run;

/* Reads the arguments from first to the top for the statement of a run.  A view
 * is valid while the stack is not cut below what is there afterwards. */
MB_CHECKED mb_status mb_lua_read_params(
    lua_State *L, struct mb_lua_run *run, int first);

/* Reads them as positional values, for no statement. */
MB_CHECKED mb_status mb_lua_read_values(lua_State *L,
    const mb_lua_config *config, int first, mb_lua_params *out,
    mb_error *error);
/* Puts a parameter's name, or its number, before an error of
 * mb_lua_read_value; answers MB_ERROR. */
MB_COLD mb_status mb_lua_name_parameter(
    mb_error *error, const char *name, size_t size, size_t number);

/* Keeps what the views need beside the handle at index. */
void mb_lua_keep_values(lua_State *L, const mb_lua_params *params, int handle);

/* --- Rows (row.c) ------------------------------------------------------- */

/* Pushes the shape of a statement's columns: a table of their names, with their
 * description in its field "columns". */
void mb_lua_push_shape(lua_State *L, mb_lua *lua, const mb_stmt *stmt);
/* Pushes a shape of columns, anew. */
void mb_lua_push_description(lua_State *L, const mb_result *result);
/* Pushes the functions that convert a shape's columns, or nil.  The shape is at
 * index. */
void mb_lua_push_hooks(
    lua_State *L, mb_lua *lua, const mb_lua_config *config, int shape);

/* Where a row's values are turned into Lua's. */
typedef struct mb_lua_sink {
  const mb_lua_config *config;
  mb_lua *lua;
  int options; /* index */
  int hooks;   /* index; 0: none */
} mb_lua_sink;

/* Pushes a value of one of the kinds that most are of; false: it is another. */
static inline bool mb_lua_push_simple(
    lua_State *L, const mb_lua_config *config, const mb_value *value)
{
  switch (value->tag) {
  case MB_INT64:
#if COMPAT_HAS_INTEGERS
    lua_pushinteger(L, value->as.integer);
    return true;
#else
    if (value->as.integer < -MB_LUA_EXACT_MAX ||
        value->as.integer > MB_LUA_EXACT_MAX)
      return false;
    lua_pushnumber(L, (lua_Number)value->as.integer);
    return true;
#endif
  case MB_DOUBLE:
    lua_pushnumber(L, value->as.real);
    return true;
  case MB_TEXT:
  case MB_BLOB:
    if (value->as.bytes.data == NULL)
      return false;
    lua_pushlstring(L, value->as.bytes.data, value->as.bytes.size);
    return true;
  case MB_NULL:
    if (config->has_null)
      return false;
    lua_pushnil(L);
    return true;
  default:
    return false;
  }
}

/* Converts the value on the top with its column's hook, if there is one. */
void mb_lua_convert(lua_State *L, const mb_lua_sink *sink, size_t column);

/* Pushes value number column (from 0). */
static inline void mb_lua_push_column(
    lua_State *L, const mb_lua_sink *sink, const mb_value *value, size_t column)
{
  if (!mb_lua_push_simple(L, sink->config, value))
    mb_lua_push_value(L, sink->config, value, sink->options);
  if (sink->hooks != 0 && value->tag != MB_NULL)
    mb_lua_convert(L, sink, column);
}

/* Pushes a row as a table by name; shape is an index. */
void mb_lua_push_named(lua_State *L, const mb_lua_sink *sink,
    const mb_value *row, size_t n, int shape);

#include "run.h"

#endif
