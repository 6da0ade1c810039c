-- The benchmark: Moonbase, C, and other libraries for Lua at the same work.
--
--   lua5.4 bench/run.lua         from the root, when the library has been built
--
-- DB=a,b databases (all), ROUNDS=n rounds (7), ONLY=a,b groups by their id (cases.lua),
-- CORE=n the core that all candidates run on (the last one; a server runs on another
-- one), PGMOON=folder a checkout of pgmoon, SUFFIX= of the build folders.  README.md
-- says what is measured and how to read it.
package.path = "./?.lua;" .. package.path

local cases = require "bench.cases"
local databases = require "bench.databases"
local figures = require "bench.figures"
local shell = require "spec.support.shell"

local rounds = tonumber(os.getenv "ROUNDS") or 7
local suffix = os.getenv "SUFFIX" or ""
local cc = os.getenv "CC" or "cc"
local folder = "build/bench"

-- --- The machine ----------------------------------------------------------------

local function works(command)
  return select(2, shell.run(command)) == 0
end

local function last_line(command)
  return (shell.run(command):match "([^\n]*)\n?$" or ""):gsub("%s+$", "")
end

local cores = tonumber((last_line "getconf _NPROCESSORS_ONLN 2>/dev/null")) or 1
local core = tonumber(os.getenv "CORE") or cores - 1
local can_pin = works(("taskset -c %d true"):format(core))

-- What a command begins with so that it stays on one core, and what keeps a process on
-- another one; nothing where that cannot be had.
local pinned = can_pin and ("taskset -c %d "):format(core) or ""
local pin_server = can_pin and ("taskset -acp %d"):format(core == 0 and cores > 1 and 1 or 0)
  or "true"

-- --- Building -------------------------------------------------------------------

-- The folder of a Lua's headers, as the Makefile finds it.
local function header_folder(lua)
  local flags = last_line("pkg-config --cflags-only-I " .. lua .. " 2>/dev/null")
  return flags:match "^%-I(%S+)" or "/usr/include/" .. lua
end

local function basename(path)
  return path:match "([^/]+)/*$"
end

-- Builds what measures in a Lua; nil, reason: this Lua cannot be measured.
local function build_meter(lua)
  local headers = header_folder(lua)
  if not works("test -e " .. headers .. "/lua.h") then return nil, "no headers of " .. lua end
  local target = ("%s/%s"):format(folder, basename(headers))
  shell.must(("mkdir -p %s && %s -O2 -shared -fPIC -I%s -o %s/bench_meter.so bench/meter.c")
    :format(target, cc, headers, target))
  return {
    library = ("build/%s%s"):format(basename(headers), suffix),
    meter = target,
  }
end

-- Builds the programs in C: the loops with the client library alone, the others with ours.
local function build_programs(name)
  local database, built = databases[name], {}
  local archives = ("build/lib%s/libmoonbase-%s.a build/lib%s/libmoonbase.a"):format(suffix, name,
    suffix)
  local function build(program, source, with)
    built[program] = ("%s/%s"):format(folder, source)
    shell.must(("mkdir -p %s && %s -std=c11 -D_POSIX_C_SOURCE=200809L -O2 -o %s bench/%s.c %s "
      .. "$(pkg-config --cflags --libs %s) -lpthread -lm"):format(folder, cc, built[program],
      source, with, database.package))
  end
  build("loops", "loops_" .. name, "")
  for _, program in ipairs(database.programs) do build(program, program, archives) end
  return built
end

-- --- Candidates -----------------------------------------------------------------

local luas = {}
local pgmoon = os.getenv "PGMOON"

local function environment(lua)
  local path = "lua/?.lua;lua/?/init.lua;./?.lua;"
  if pgmoon then path = ("%s%s/?.lua;%s/?/init.lua;"):format(path, pgmoon, pgmoon) end
  return ('LUA_PATH="%s;" LUA_CPATH="%s/?.so;%s/?.so;;"'):format(path, luas[lua].library,
    luas[lua].meter)
end

-- Why a candidate cannot be run, or nil.
local function obstacle(database, candidate)
  local needs, lua = candidate.needs, candidate.lua
  if needs and not works(("pkg-config --exists '%s'"):format(needs)) then
    return "needs " .. needs
  end
  if not lua then return nil end
  if luas[lua] == nil then
    local found, reason = build_meter(lua)
    luas[lua] = found or false
    if not found then return reason end
  end
  if not luas[lua] then return "no headers of " .. lua end
  if candidate.program == "pgmoon" and not pgmoon then return "PGMOON names no checkout of it" end
  local module = databases[database].modules[candidate.program]
  if not works(("%s %s -e 'require \"%s\"'"):format(environment(lua), lua, module)) then
    return ("%s does not load %s"):format(lua, module)
  end
end

local function command_of(group, candidate, opened)
  local place = shell.quote(opened.place(group))
  if not candidate.lua then
    return ("%s%s %s %s %d"):format(group.threads and "" or pinned,
      opened.programs[candidate.program], candidate.case, place, group.count)
  end
  return ("%s %s%s bench/%s.lua %s %s %d %s %d"):format(environment(candidate.lua), pinned,
    candidate.lua, candidate.program, candidate.case, place, group.count,
    shell.quote(opened.data), group.live or 0)
end

-- The figures behind the first four of a line: name=value.
local function read_figures(text)
  local found = {}
  for name, value in text:gmatch "(%S+)=(%S+)" do found[name] = tonumber(value) end
  return found
end

-- Runs a candidate once.
local function run(group, candidate, opened)
  local text = shell.must(command_of(group, candidate, opened))
  local wall, cpu, peak, checksum, rest = text:match "^(%S+) (%S+) (%S+) (%S+)([^\n]*)\n$"
  assert(wall, text)
  return {
    wall = tonumber(wall), cpu = tonumber(cpu), peak = tonumber(peak) / 1024, checksum = checksum,
    figures = read_figures(rest),
  }
end

local has_terminal = os.execute "test -t 2"

-- Shows how far it is, where somebody looks.
local function progress(text)
  if has_terminal then io.stderr:write(("\r%-60s\r"):format(text)) end
end

-- Runs all candidates of a group in turns, each round beginning with another one.
local function run_rounds(group, opened)
  local able = {}
  for _, candidate in ipairs(group.candidates) do
    candidate.obstacle = obstacle(group.database, candidate)
    candidate.runs = {}
    if not candidate.obstacle then able[#able + 1] = candidate end
  end
  for round = 1, rounds do
    for i = 0, #able - 1 do
      local candidate = able[(i + round - 1) % #able + 1]
      progress(("%s: round %d of %d, %d of %d"):format(group.id, round, rounds, i + 1, #able))
      candidate.runs[round] = run(group, candidate, opened)
    end
  end
  progress ""
end

-- --- All of it ------------------------------------------------------------------

-- Whether a list in the environment names it, or there is none.
local function wanted(variable, name)
  local list = os.getenv(variable)
  return not list or list == "" or ("," .. list:gsub("%s+", ",") .. ","):find("," .. name .. ",",
    1, true) ~= nil
end

local function machine()
  return ("%s, %s cores, load %s; %s\n%s; %s\n%d rounds%s"):format(
    last_line "sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1", cores,
    last_line "cut -d ' ' -f 1 /proc/loadavg", last_line "uname -srm",
    last_line "lua5.4 -v", last_line "luajit -v", rounds, can_pin and ", " .. pinned or "")
end

local function write_file(name, text)
  local file = assert(io.open(folder .. "/" .. name, "w"))
  file:write(text)
  file:close()
end

local function groups_of(name)
  local groups = {}
  for _, group in ipairs(cases[name]) do
    if wanted("ONLY", group.id) then
      group.database = name
      groups[#groups + 1] = group
    end
  end
  return groups
end

local machine_line = machine()
print(machine_line)
local text = machine_line:gsub("\n", "; ") .. "\n"
for _, name in ipairs{ "sqlite", "postgres", "mysql" } do
  local groups = wanted("DB", name) and groups_of(name) or {}
  if #groups > 0 then
    local programs = build_programs(name)
    local opened = databases[name].open(programs.loops, pin_server)
    opened.programs = programs
    print("\n" .. opened.version)
    for _, group in ipairs(groups) do
      run_rounds(group, opened)
      figures.show(group)
    end
    opened.close()
    text = ("%s\n%s\n\n%s"):format(text, opened.version, figures.markdown(name))
  end
end
figures.summarize()
write_file("results.csv", figures.csv())
write_file("results.md", text)
