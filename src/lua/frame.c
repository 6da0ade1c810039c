/*
 * frame.c: what would have to be undone if Lua raised an error now.
 *
 * Frames are a stack: a call inside another one comes from a function of the
 * program that the outer one is running, and ends before it.
 */
#include "binding.h"

/* Undoes a call, or, without I/O, leaves it to be undone. */
static void undo(mb_lua *lua, mb_lua_frame *frame, bool at_once)
{
  mb_error ignored;
  if (frame->reads)
    mb_conn_read_end(frame->held);
  if (frame->stmt != NULL && mb_conn_borrow(frame->held) == frame->borrow &&
      mb_stmt_run_number(frame->stmt) == frame->run &&
      (!at_once || mb_stmt_finish(frame->stmt, &ignored) == MB_ERROR))
    mb_stmt_drop(frame->stmt);
  mb_lua_let(frame);
  if (frame->conn != NULL && mb_conn_borrow(frame->conn) == frame->borrow) {
    if (at_once)
      mb_conn_release(frame->conn);
    else
      mb_conn_drop(frame->conn);
  }
  if (frame->shared != NULL)
    mb_lua_lease_leave(lua, frame->shared, true, !at_once);
  *frame = (mb_lua_frame){.conn = NULL};
}

bool mb_lua_is_running(lua_State *L, const void *handle)
{
  lua_Debug call;
  for (int level = 0; lua_getstack(L, level, &call); level++) {
    (void)lua_getinfo(L, "S", &call);
    if (call.what[0] != 'C' || lua_getlocal(L, &call, 1) == NULL)
      continue;
    const bool same = lua_touserdata(L, -1) == handle;
    lua_pop(L, 1);
    if (same && level > 0)
      return true;
  }
  return false;
}

/*
 * Whether a call is still going on, so that this one comes from inside it: from
 * a finalizer of the program's, which Lua runs while the call allocates.  A
 * call that an error has left is higher on the C stack than who asks, unless
 * that one was called more deeply; then the Lua stack tells.  Of another
 * coroutine's, which may be gone, it stays open: a later call asks again.
 */
static bool is_going_on(lua_State *L, const mb_lua *lua, lua_State *its_L,
    const void *handle, const void *its_place, const void *place)
{
  if ((uintptr_t)its_place <= (uintptr_t)place)
    return false;
  if (its_L == L)
    return mb_lua_is_running(L, handle);
  return L != lua->main;
}

static void drop_reader(mb_lua *lua)
{
  mb_conn_read_end(lua->readers[--lua->n_readers].conn);
}

static void sweep_frames(lua_State *L, mb_lua *lua, const void *place)
{
  while (lua->n_frames > 0) {
    mb_lua_frame *frame = &lua->frames[lua->n_frames - 1];
    if (frame->calls_back ||
        is_going_on(L, lua, frame->L, frame->handle, frame->place, place))
      return;
    lua->n_frames--;
    undo(lua, frame, false);
  }
}

void mb_lua_sweep(lua_State *L, mb_lua *lua, const void *place)
{
  while (lua->n_readers > 0) {
    const mb_lua_reader *last = &lua->readers[lua->n_readers - 1];
    if (is_going_on(L, lua, last->L, last->handle, last->place, place))
      break;
    drop_reader(lua);
  }
  sweep_frames(L, lua, place);
}

void mb_lua_sweep_all(mb_lua *lua)
{
  while (lua->n_readers > 0)
    drop_reader(lua);
  while (lua->n_frames > 0)
    undo(lua, &lua->frames[--lua->n_frames], false);
}

void mb_lua_unwind(lua_State *L, mb_lua *lua)
{
  const mb_lua_reader *reader =
      lua->n_readers > 0 ? &lua->readers[lua->n_readers - 1] : NULL;
  if (reader != NULL && reader->handle == lua_touserdata(L, 1))
    drop_reader(lua);
  mb_lua_frame *frame =
      lua->n_frames > 0 ? &lua->frames[lua->n_frames - 1] : NULL;
  if (frame == NULL || frame->calls_back ||
      frame->handle != lua_touserdata(L, 1))
    return;
  lua->n_frames--;
  undo(lua, frame, true);
}

bool mb_lua_pcall(lua_State *L, mb_lua *lua, int n, int results)
{
  mb_lua_frame *frame =
      lua->n_frames > 0 ? &lua->frames[lua->n_frames - 1] : NULL;
  lua_State *before = lua->L;
  const bool was = frame != NULL && frame->calls_back;
  const size_t n_readers = lua->n_readers;
  if (frame != NULL)
    frame->calls_back = true;
  const int status = lua_pcall(L, n, results, 0);
  /* What an error has left inside. */
  while (lua->n_readers > n_readers)
    drop_reader(lua);
  sweep_frames(L, lua, MB_LUA_PLACE());
  if (frame != NULL)
    frame->calls_back = was;
  lua->L = before;
  return status == LUA_OK;
}
