--- Measures one worker of nginx that reads from databases, by Moonbase and by pgmoon.
---
---   make bench-openresty PGMOON=folder     a checkout of pgmoon
---
--- ROUNDS=n rounds (5), SECONDS=n of each run (3), ONLY=a,b cases by their id.  README.md says
--- what is measured and how to read it.
package.path = "./?.lua;" .. package.path

local files = require "spec.support.files"
local nginx = require "spec.support.nginx"
local postgres = require "spec.support.postgres"
local shell = require "spec.support.shell"

local rounds = tonumber(os.getenv "ROUNDS") or 5
local seconds = tonumber(os.getenv "SECONDS") or 3
local pgmoon = os.getenv "PGMOON"

-- What is compared: at least bar times the requests of the second in a second, where there is
-- one; cpu_bar: at most so many times the CPU time of a request.
local cases = {
  { id = "point", clients = 50, "moonbase", "pgmoon", bar = 1.15, cpu_bar = 1.0,
    title = "a row by its key" },
  { id = "point-1", path = "point", clients = 1, "moonbase", "pgmoon", bar = 1.05,
    title = "a row by its key" },
  { id = "rows", clients = 50, "moonbase", "pgmoon", bar = 1.25, title = "100 rows" },
  { id = "unprepared", clients = 50, "moonbase", "pgmoon", bar = 0.9,
    title = "a row by its key, both unprepared" },
  { id = "sqlite-point", path = "point", clients = 50, "loop", "blocking", bar = 0.9,
    title = "SQLite: a row by its key" },
  { id = "sqlite-sum", path = "sum", clients = 50, "loop", "blocking", bar = 0.7,
    title = "SQLite: a read that moves to a worker" },
}

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
    length, server:url(("/%s/%s"):format(candidate, case.path or case.id))))
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

local function judge(case, what, value, is_kept, bar)
  if is_kept then return ("bar %.2f"):format(bar) end
  missed[#missed + 1] = ("%s: %s %.2f, bar %.2f"):format(case.id, what, value, bar)
  return ("bar %.2f MISSED"):format(bar)
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
  print(("  %s by %s: requests %.2f (%.2f to %.2f), %s"):format(case[1], case[2], value, least,
    greatest, judge(case, "requests", value, value >= case.bar, case.bar)))
  value, least, greatest = ratio "cpu"
  print(("  %s by %s: CPU %.2f (%.2f to %.2f)%s"):format(case[1], case[2], value, least, greatest,
    case.cpu_bar and ", " .. judge(case, "CPU", value, value <= case.cpu_bar, case.cpu_bar) or ""))
end

-- --- All of it -------------------------------------------------------------------

local function is_wanted(case)
  local list = os.getenv "ONLY" or ""
  return list == "" or ("," .. list .. ","):find("," .. case.id .. ",", 1, true) ~= nil
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

local function start(database)
  local folder = files.folder()
  shell.must("chmod 777 " .. shell.quote(folder))
  return nginx.start {
    server = files.read "bench/openresty.conf",
    environment = {
      BENCH_PGMOON = pgmoon, BENCH_POSTGRES = database:url(),
      BENCH_SOCKET = ("%s/.s.PGSQL.%d"):format(database.folder, database.port),
      BENCH_SQLITE = "sqlite:" .. folder .. "/bench.db",
    },
  }
end

if not pgmoon or pgmoon == "" then
  io.stderr:write "PGMOON names no checkout of pgmoon\n"
  os.exit(2)
end
local database = postgres.start { "max_connections = 300", "shared_buffers = 256MB",
  "checkpoint_timeout = 1h" }
local server
local ok, err = pcall(function()
  server = start(database)
  assert(server:get "/data" == "made\n", server:log())
  print(("%s; PostgreSQL %s; %s; load %s\n%d rounds of %d s"):format(
    shell.run "nginx -v":match "nginx/[%d.]+", database:psql("show server_version"):match "%S+",
    shell.must "sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1":match "^[^\n]*",
    shell.must "cat /proc/loadavg":match "^%S+", rounds, seconds))
  for _, case in ipairs(cases) do
    if is_wanted(case) then measure(server, case) end
  end
end)
if server then server:close() end
database:close()
files.clean()
if not ok then error(err, 0) end
print(#missed == 0 and "\nNo bar was missed." or "\nMissed:\n  " .. table.concat(missed, "\n  "))
