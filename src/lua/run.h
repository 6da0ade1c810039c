/*
 * run.h: a call that runs a statement (call.c, connect.c); a part of binding.h.
 */
#ifndef MB_LUA_RUN_H
#define MB_LUA_RUN_H

#include "binding.h"

/* One call that runs a statement: where, which, and what came of it. */
typedef struct mb_lua_run {
  mb_lua *lua;
  mb_lua_session *session;
  const mb_lua_statement *prepared; /* that is called; NULL: the session is */
  const mb_lua_config *config;
  mb_conn *conn;
  mb_lua_lease *shared; /* of rows, whose connection is used; NULL: none */
  mb_lua_frame *frame;
  const mb_tx *tx;
  mb_stmt *stmt;
  mb_status status;
  int text;     /* index of the text; 0: none */
  bool outside; /* it may go beside an open transaction */
  bool writes;  /* it is to have the place to write */
  bool fits;    /* values that are not given are nil, and more are refused */
  mb_lua_watch watch; /* only events is set where they are 0 */
  mb_lua_params params;
  mb_error error;
} mb_lua_run;

/* Opens a call on the handle at index 1: a session, or a statement.  Its errors
 * are raised before anything is owned. */
void mb_lua_run_open(lua_State *L, mb_lua_run *run);
/* Finds the connection: borrows one, or checks that of the session. */
MB_CHECKED mb_status mb_lua_run_connect(lua_State *L, mb_lua_run *run);
/* The first of these: for a call on a Database (connect.c). */
MB_CHECKED mb_status mb_lua_run_borrow(lua_State *L, mb_lua_run *run);
/* Collects what was forgotten, if it may be what holds the place to write. */
void mb_lua_run_make_place(lua_State *L, const mb_lua_run *run);
/* Whether another Connection or Transaction of this task writes, so that a
 * write would wait for it for ever. */
static inline bool mb_lua_holds_place(const mb_lua_run *run)
{
  for (const mb_lua_lease *lease = run->lua->leases; lease != NULL;
       lease = lease->next)
    if (lease->pool == run->session->pool && lease->task == run->lua->task &&
        lease->rows < lease->users && lease->conn != run->session->conn &&
        mb_lua_lease_holds(lease) && mb_conn_is_writer(lease->conn))
      return true;
  return false;
}
/* What happens to the connection during the call, by a function of the program
 * or a finalizer, waits for its end. */
static inline void mb_lua_run_hold(mb_lua_run *run)
{
  run->frame->borrow = mb_conn_borrow(run->conn);
  run->frame->held = run->conn;
  mb_conn_hold(run->conn);
}
/* Finds the statement of the prepared one at index 1. */
MB_CHECKED mb_status mb_lua_run_find(lua_State *L, mb_lua_run *run);
/* Replaces the text at index 2 and the arguments behind it by a text without
 * fragments and moonbase.params. */
MB_CHECKED mb_status mb_lua_run_expand(lua_State *L, mb_lua_run *run);
/* Notes a run that has begun, so that it can be undone. */
void mb_lua_run_note(mb_lua_run *run);
/* Opens a call, connects, finds the statement (its text at index 2, when the
 * handle is a session), reads the arguments behind it, and runs it.
 * run->status is MB_ROW or MB_DONE.  False: it has failed. */
bool mb_lua_run_start(lua_State *L, mb_lua_run *run);
/* The same for an entry of a batch, which has as many values as its statement
 * has parameters; and all of that but running it. */
bool mb_lua_run_start_entry(lua_State *L, mb_lua_run *run);
bool mb_lua_run_read_entry(lua_State *L, mb_lua_run *run);
/* Values of the run's connection are read, or parameters for it, until the next
 * call with false: nothing else may use it. */
static inline void mb_lua_run_reads(mb_lua_run *run, bool reads)
{
  run->frame->reads = reads;
  if (reads)
    mb_conn_read_begin(run->conn);
  else
    mb_conn_read_end(run->conn);
}
/* Ends the run and gives the connection back.  False: that has failed. */
bool mb_lua_run_end(mb_lua_run *run);
/* Pushes {rows =, affected =, id =} of a run that has begun (session.c). False:
 * it has failed. */
bool mb_lua_run_give(lua_State *L, mb_lua_run *run);
/* Gives the connection back, if the call still has it; the run is another's. */
void mb_lua_run_leave(mb_lua_run *run);
/* Ends all after a failure; gives what the function returns (or raises). */
MB_COLD int mb_lua_run_fail(lua_State *L, mb_lua_run *run);

/* Pushes the lease of the borrow that the call has: a new one, or that of the
 * rows it shares. */
mb_lua_lease *mb_lua_run_lease(lua_State *L, mb_lua_run *run);

/* Returns the rows at index, the top, as a for loop wants them: with what it
 * closes. */
int mb_lua_give_loop(lua_State *L, int index);

#endif
