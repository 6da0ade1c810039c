--- The databases that are measured: what their programs need, and where their data is.
--- programs: those in C beside the loops.
---
--- open(loops, pin) makes the data, with the loops in C, where it is not there yet: what
--- it returns has place(group), what the candidates of a group are given, data, where
--- the table of 1,000,000 rows is, version, and close().
---@module bench.databases

local shell = require "spec.support.shell"

local databases = {}

local rows = 1000000

local function exists(path)
  local file = io.open(path)
  if file then file:close() end
  return file ~= nil
end

local function version_of(package)
  return shell.must("pkg-config --modversion " .. package):gsub("%s+$", "")
end

-- --- SQLite ---------------------------------------------------------------------

databases.sqlite = {
  title = "SQLite",
  package = "sqlite3",
  programs = { "pool", "writers" },
  modules = {
    moonbase = "moonbase.driver.sqlite", luasql = "luasql.sqlite3", luadbi = "dbd.sqlite3",
  },
}

function databases.sqlite.open(loops)
  local data, written = "build/bench/data.db", "build/bench/written.db"
  if not exists(data) then
    io.write("making ", data, "\n")
    shell.must(("rm -f %s.new* && %s data %s.new %d && mv %s.new %s"):format(data, loops, data,
      rows, data, data))
  end
  local function place(group)
    if not group.writes then return data end
    shell.must(("rm -f %s %s-wal %s-shm"):format(written, written, written))
    return written
  end
  return { data = data, place = place, version = "SQLite " .. version_of "sqlite3",
    close = function() end }
end

-- --- PostgreSQL -----------------------------------------------------------------

databases.postgres = {
  title = "PostgreSQL",
  package = "libpq",
  programs = {},
  modules = {
    moonbase = "moonbase.driver.postgres", luasql = "luasql.postgres", luadbi = "dbd.postgresql",
    pgmoon = "pgmoon",
  },
}

-- All data fits into the server's memory, and no checkpoint comes in between.
local settings = { "shared_buffers = 512MB", "checkpoint_timeout = 1h", "max_wal_size = 16GB" }

function databases.postgres.open(loops, pin)
  local server = require("spec.support.postgres").start(settings)
  local url = server:url()
  local pid = server:pid()
  shell.must(("for pid in %d $(pgrep -P %d); do %s $pid; done"):format(pid, pid, pin))
  shell.must(("%s data %s %d"):format(loops, shell.quote(url), rows))
  server:psql "checkpoint"
  local version = ("PostgreSQL %s, libpq %s"):format(
    server:psql("show server_version"):match "%S+", version_of "libpq")
  return { data = url, place = function() return url end, version = version,
    close = function() server:close() end }
end

-- --- MySQL ----------------------------------------------------------------------

local function is_there(package)
  return select(2, shell.run("pkg-config --exists " .. package)) == 0
end

databases.mysql = {
  title = "MySQL",
  package = is_there "libmariadb" and "libmariadb" or "mysqlclient",
  programs = {},
  modules = { moonbase = "moonbase.driver.mysql", luasql = "luasql.mysql", luadbi = "dbd.mysql" },
}

-- Waits until the server has written to its files what it has changed in memory.
local function write_out(server)
  server:sql "set global innodb_max_dirty_pages_pct = 0"
  for _ = 1, 600 do
    local left = server:sql "show global status like 'innodb_buffer_pool_pages_dirty'"
    if tonumber(left:match "%d+") < 100 then break end
    shell.must "sleep 0.1"
  end
  server:sql "set global innodb_max_dirty_pages_pct = 90"
end

function databases.mysql.open(loops, pin)
  local mysql = require "spec.support.mysql"
  -- All data fits into the server's memory, and nothing is written out in between.
  local server = mysql.start { "innodb-buffer-pool-size=1G",
    mysql.is_mariadb() and "innodb-log-file-size=1G" or "innodb-redo-log-capacity=1G" }
  local url = server:url()
  shell.must(("%s %d"):format(pin, server:pid()))
  shell.must(("%s data %s %d"):format(loops, shell.quote(url), rows))
  server:sql "analyze table moonbase.rows"
  write_out(server)
  local version = ("%s %s, %s %s"):format(server.is_mariadb and "MariaDB" or "MySQL",
    server:sql "select version()":match "^[%d.]+", databases.mysql.package,
    version_of(databases.mysql.package))
  return { data = url, place = function() return url end, version = version,
    close = function() server:close() end }
end

return databases
