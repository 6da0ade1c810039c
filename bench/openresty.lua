--- Measures one worker of nginx that reads from databases, by Moonbase and by pgmoon or
--- lua-resty-mysql.
---
---   make bench-openresty PGMOON=folder RESTY_MYSQL=folder     checkouts; one is enough
---
--- ROUNDS=n rounds (5), SECONDS=n of each run (3), ONLY=a,b cases by their id.  README.md says
--- what is measured and how to read it.
package.path = "./?.lua;" .. package.path

local files = require "spec.support.files"
local mysql = require "spec.support.mysql"
local nginx = require "spec.support.nginx"
local postgres = require "spec.support.postgres"
local shell = require "spec.support.shell"

local rounds = tonumber(os.getenv "ROUNDS") or 5
local seconds = tonumber(os.getenv "SECONDS") or 3

-- What is compared, on a database: at least bar times the requests of the second in a second,
-- where there is one; cpu_bar: at most so many times the CPU time of a request.
local cases = {
  { id = "point", on = "postgres", clients = 50, "moonbase", "pgmoon", bar = 1.15, cpu_bar = 1.0,
    title = "PostgreSQL: a row by its key" },
  { id = "point-1", on = "postgres", path = "point", clients = 1, "moonbase", "pgmoon", bar = 1.05,
    title = "PostgreSQL: a row by its key" },
  { id = "rows", on = "postgres", clients = 50, "moonbase", "pgmoon", bar = 1.25,
    title = "PostgreSQL: 100 rows" },
  { id = "unprepared", on = "postgres", clients = 50, "moonbase", "pgmoon", bar = 0.9,
    title = "PostgreSQL: a row by its key, both unprepared" },
  { id = "mysql-point", on = "mysql", path = "point", clients = 50, "moonbase", "resty",
    title = "MySQL: a row by its key" },
  { id = "mysql-point-1", on = "mysql", path = "point", clients = 1, "moonbase", "resty",
    title = "MySQL: a row by its key" },
  { id = "mysql-rows", on = "mysql", path = "rows", clients = 50, "moonbase", "resty",
    title = "MySQL: 100 rows" },
  { id = "sqlite-point", on = "sqlite", path = "point", clients = 50, "loop", "blocking", bar = 0.9,
    title = "SQLite: a row by its key" },
  { id = "sqlite-sum", on = "sqlite", path = "sum", clients = 50, "loop", "blocking", bar = 0.7,
    title = "SQLite: a read that moves to a worker" },
}

-- --- Databases -------------------------------------------------------------------

-- Where there is a peer: the variable that names its checkout, where its modules are (resty.mysql
-- wants lua-resty-string beside it), and what starts a server: that, its name, and its socket.
local databases = {
  sqlite = {},
  postgres = {
    variable = "PGMOON", modules = "%s/?.lua;%s/?/init.lua;",
    start = function()
      local server = postgres.start { "max_connections = 300", "shared_buffers = 256MB",
        "checkpoint_timeout = 1h" }
      return server, "PostgreSQL " .. server:psql("show server_version"):match "%S+",
        ("%s/.s.PGSQL.%d"):format(server.folder, server.port)
    end,
  },
  mysql = {
    variable = "RESTY_MYSQL", modules = "%s/lib/?.lua;%s/../lua-resty-string/lib/?.lua;",
    start = function()
      local server = mysql.start { "innodb-buffer-pool-size=256M" }
      return server, (server.is_mariadb and "MariaDB " or "MySQL ")
        .. server:sql "select version()":match "^[%d.]+", server.socket
    end,
  },
}

local function checkout_of(name)
  local folder = os.getenv(databases[name].variable or "")
  return folder ~= "" and folder or nil
end

-- --- One run ---------------------------------------------------------------------

-- The clock's ticks that a process has used.
local function ticks(pid)
  local fields = files.read(("/proc/%d/stat"):format(pid)):match "%) (.*)"
  local user, system = fields:match(("%S+ "):rep(11) .. "(%d+) (%d+)")
  return tonumber(user) + tonumber(system)
end

local tick = 1 / tonumber((shell.must "getconf CLK_TCK"))

local units = { us = 1, ms = 1e3, s = 1e6 }

-- A time as wrk prints it, in microseconds.
local function microseconds(text)
  local number, unit = text:match "^([%d.]+)(%a+)$"
  return tonumber(number) * units[unit]
end

local function run(server, case, candidate, length)
  local pid = server:workers()[1]
  local before = ticks(pid)
  local text = shell.must(("wrk -t1 -c%d -d%ds --latency http://%s"):format(case.clients,
    length, server:url(("/%s/%s/%s"):format(case.on, candidate, case.path or case.id))))
  local used = (ticks(pid) - before) * tick
  local requests = tonumber(text:match "(%d+) requests in")
  if text:find "Non%-2xx" or text:find "Socket errors" or requests == 0 then
    error(text .. server:log():sub(-2000), 0)
  end
  return {
    rate = tonumber(text:match "Requests/sec:%s+([%d.]+)"), cpu = used / requests * 1e6,
    p50 = microseconds(text:match "\n +50%%%s+(%S+)"),
    p99 = microseconds(text:match "\n +99%%%s+(%S+)"),
  }
end

-- --- Figures ---------------------------------------------------------------------

-- Median, least and greatest of what fn gives for each round.
local function spread(fn)
  local list = {}
  for i = 1, rounds do list[i] = fn(i) end
  table.sort(list)
  return (list[(rounds + 1) // 2] + list[rounds // 2 + 1]) / 2, list[1], list[rounds]
end

local missed = {}

local function judge(case, what, value, bar, is_kept)
  if is_kept then return (", bar %.2f"):format(bar) end
  missed[#missed + 1] = ("%s: %s %.2f, bar %.2f"):format(case.id, what, value, bar)
  return (", bar %.2f MISSED"):format(bar)
end

local function show(case, runs)
  print(("\n%s, %d client%s (%s)"):format(case.title, case.clients,
    case.clients == 1 and "" or "s", case.id))
  for _, name in ipairs(case) do
    local function median(field)
      return (spread(function(i) return runs[name][i][field] end))
    end
    print(("  %-10s %7.0f requests/s   %6.1f us of CPU   50%% in %6.0f us, 99%% in %6.0f us")
      :format(name, median "rate", median "cpu", median "p50", median "p99"))
  end
  local function ratio(field)
    return spread(function(i) return runs[case[1]][i][field] / runs[case[2]][i][field] end)
  end
  local value, least, greatest = ratio "rate"
  print(("  %s by %s: requests %.2f (%.2f to %.2f)%s"):format(case[1], case[2], value, least,
    greatest, case.bar and judge(case, "requests", value, case.bar, value >= case.bar) or ""))
  value, least, greatest = ratio "cpu"
  print(("  %s by %s: CPU %.2f (%.2f to %.2f)%s"):format(case[1], case[2], value, least, greatest,
    case.cpu_bar and judge(case, "CPU", value, case.cpu_bar, value <= case.cpu_bar) or ""))
end

-- --- All of it -------------------------------------------------------------------

local function is_wanted(case)
  local list = os.getenv "ONLY" or ""
  return (list == "" or ("," .. list .. ","):find("," .. case.id .. ",", 1, true) ~= nil)
    and (not databases[case.on].start or checkout_of(case.on) ~= nil)
end

-- In turns, each round beginning with the other one.
local function measure(server, case)
  local runs = { [case[1]] = {}, [case[2]] = {} }
  for _, name in ipairs(case) do run(server, case, name, 1) end
  for round = 1, rounds do
    for i = 0, 1 do
      local name = case[(i + round) % 2 + 1]
      runs[name][round] = run(server, case, name, seconds)
    end
  end
  show(case, runs)
end

local servers, names = {}, {}

-- Starts the servers of the databases that have a checkout, and nginx.
local function start()
  local folder = files.folder()
  shell.must("chmod 777 " .. shell.quote(folder))
  local environment = { BENCH_SQLITE = "sqlite:" .. folder .. "/bench.db", BENCH_MODULES = "" }
  for name, database in pairs(databases) do
    local checkout = checkout_of(name)
    if checkout then
      local server, socket
      server, names[#names + 1], socket = database.start()
      servers[#servers + 1] = server
      environment["BENCH_" .. name:upper()] = server:url()
      environment[("BENCH_%s_SOCKET"):format(name:upper())] = socket
      environment.BENCH_MODULES = environment.BENCH_MODULES
        .. database.modules:gsub("%%s", (checkout:gsub("%%", "%%%%")))
    end
  end
  return nginx.start { server = files.read "bench/openresty.conf", environment = environment }
end

if not checkout_of "postgres" and not checkout_of "mysql" then
  io.stderr:write "PGMOON names no checkout of pgmoon, and RESTY_MYSQL none of lua-resty-mysql\n"
  os.exit(2)
end
local server
local ok, err = pcall(function()
  server = start()
  assert(server:get "/data" == "made\n", server:log())
  print(("%s; %s; %s; load %s\n%d rounds of %d s"):format(
    shell.run "nginx -v":match "nginx/[%d.]+", table.concat(names, "; "),
    shell.must "sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1":match "^[^\n]*",
    shell.must "cat /proc/loadavg":match "^%S+", rounds, seconds))
  for _, case in ipairs(cases) do
    if is_wanted(case) then measure(server, case) end
  end
end)
if server then server:close() end
for _, one in ipairs(servers) do one:close() end
files.clean()
if not ok then error(err, 0) end
print(#missed == 0 and "\nNo bar was missed." or "\nMissed:\n  " .. table.concat(missed, "\n  "))
