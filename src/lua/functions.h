/*
 * functions.h: what module.c puts together; a part of binding.h.
 */
#ifndef MB_LUA_FUNCTIONS_H
#define MB_LUA_FUNCTIONS_H

#include "compat.h"

/* Methods of sessions and statements. */
extern const luaL_Reg mb_lua_run_methods[];
/* Methods of sessions. */
extern const luaL_Reg mb_lua_session_methods[];
extern const luaL_Reg mb_lua_session_meta[];
extern const luaL_Reg mb_lua_database_methods[];
extern const luaL_Reg mb_lua_statement_methods[];
extern const luaL_Reg mb_lua_statement_meta[];
extern const luaL_Reg mb_lua_rows_methods[];
extern const luaL_Reg mb_lua_rows_meta[];
extern const luaL_Reg mb_lua_fiber_meta[];
extern const luaL_Reg mb_lua_ticket_meta[];
extern const luaL_Reg mb_lua_cancellation_methods[];
extern const luaL_Reg mb_lua_cancellation_meta[];

/* Functions for the Lua side, described where they are defined. */

/* handle.c */
int mb_lua_configure(lua_State *L);
int mb_lua_options(lua_State *L);
int mb_lua_view(lua_State *L);
int mb_lua_original(lua_State *L);
int mb_lua_parent(lua_State *L);
int mb_lua_extra(lua_State *L);
int mb_lua_open(lua_State *L);
int mb_lua_option(lua_State *L);
int mb_lua_scheme(lua_State *L);
int mb_lua_begin(lua_State *L);
int mb_lua_commit(lua_State *L);
int mb_lua_rollback(lua_State *L);
int mb_lua_is_open(lua_State *L);
int mb_lua_is_lost(lua_State *L);
int mb_lua_close_connection(lua_State *L);
int mb_lua_close_database(lua_State *L);
int mb_lua_is_closed(lua_State *L);
int mb_lua_url(lua_State *L);
/* connect.c */
int mb_lua_join(lua_State *L);
int mb_lua_current(lua_State *L);
/* session.c */
int mb_lua_quote(lua_State *L);
int mb_lua_text(lua_State *L);
int mb_lua_places(lua_State *L);
int mb_lua_leave(lua_State *L);
/* batch.c */
int mb_lua_collect(lua_State *L);
int mb_lua_takes_batches(lua_State *L);
int mb_lua_batch_add(lua_State *L);
int mb_lua_batch_send(lua_State *L);
int mb_lua_batch_take(lua_State *L);
int mb_lua_batch_end(lua_State *L);
/* query.c */
int mb_lua_query(lua_State *L);
int mb_lua_command(lua_State *L);
int mb_lua_control(lua_State *L);
/* rows.c */
int mb_lua_next_tuple(lua_State *L);
int mb_lua_returns_errors(lua_State *L);
int mb_lua_block(lua_State *L);
/* statement.c */
int mb_lua_prepare(lua_State *L);
int mb_lua_source(lua_State *L);
int mb_lua_insert_rows(lua_State *L);
/* cancellation.c */
int mb_lua_cancellation_open(lua_State *L);
/* capability.c */
int mb_lua_capability(lua_State *L);
/* stats.c */
int mb_lua_about(lua_State *L);
int mb_lua_stats(lua_State *L);
/* fiber.c */
int mb_lua_start(lua_State *L);
int mb_lua_step(lua_State *L);
int mb_lua_tell(lua_State *L);
int mb_lua_abandon(lua_State *L);
int mb_lua_is_inside(lua_State *L);
int mb_lua_scheduler(lua_State *L);
/* hub.c */
int mb_lua_hub_open(lua_State *L);
/* callback.c */
int mb_lua_define(lua_State *L);
/* Called by databases, not by the Lua side. */
int mb_lua_call_back(lua_State *L);

#endif
