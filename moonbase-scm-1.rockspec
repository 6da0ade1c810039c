rockspec_format = "3.0"
package = "moonbase"
version = "scm-1"
source = { url = "git+https://example.org/moonbase.git" }
description = {
  summary = "A database layer for Lua over a C core: SQLite, PostgreSQL, MySQL",
  detailed = [[
    Queries, prepared statements, pools and managed transactions that work the same on every
    database, over a C core.  Drivers are built for the client libraries that are there.
  ]],
  license = "MIT",
}
dependencies = { "lua >= 5.1, < 5.5" }
-- Where a client library may be: the Makefile decides which drivers it can build, so
-- none is required, and only the variables are wanted (SQLITE_DIR and so on).
external_dependencies = { SQLITE = {}, PGSQL = {}, MYSQL = {} }
build = {
  type = "make",
  variables = {
    CC = "$(CC)",
    CFLAGS = "$(CFLAGS)",
    LIBFLAG = "$(LIBFLAG)",
    LUA_INCDIR = "$(LUA_INCDIR)",
    SQLITE_DIR = "$(SQLITE_DIR)",
    SQLITE_INCDIR = "$(SQLITE_INCDIR)",
    SQLITE_LIBDIR = "$(SQLITE_LIBDIR)",
    PGSQL_DIR = "$(PGSQL_DIR)",
    PGSQL_INCDIR = "$(PGSQL_INCDIR)",
    PGSQL_LIBDIR = "$(PGSQL_LIBDIR)",
    MYSQL_DIR = "$(MYSQL_DIR)",
    MYSQL_INCDIR = "$(MYSQL_INCDIR)",
    MYSQL_LIBDIR = "$(MYSQL_LIBDIR)",
  },
  install_target = "install-lua",
  install_variables = {
    LUADIR = "$(LUADIR)",
    LIBDIR = "$(LIBDIR)",
    BINDIR = "$(BINDIR)",
  },
}
test = { type = "command", command = "make test" }
