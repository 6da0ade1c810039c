-- The benchmark: Moonbase, C, LuaSQL and LuaDBI at the same work on SQLite.
--
--   lua5.4 bench/run.lua         from the root, when the library has been built
--
-- ROUNDS=n rounds (7), ONLY=a,b groups by their id (cases.lua), CORE=n the core
-- that all candidates run on (the last one), SUFFIX= of the build folders.
-- README.md says what is measured and how to read it.
package.path = "./?.lua;" .. package.path

local groups = require "bench.cases"

local rounds = tonumber(os.getenv "ROUNDS") or 7
local suffix = os.getenv "SUFFIX" or ""
local cc = os.getenv "CC" or "cc"
local folder = "build/bench"
local data = folder .. "/data.db"
local data_rows = 1000000

-- --- The shell ------------------------------------------------------------------

local function shell(command)
  local pipe = assert(io.popen(command))
  local text = pipe:read "a"
  return pipe:close() and true or false, text
end

local function must(command)
  local ok, text = shell(command)
  if not ok then error(("failed: %s\n%s"):format(command, text), 0) end
  return text
end

local function exists(path)
  local file = io.open(path)
  if file then file:close() end
  return file ~= nil
end

local function last_line(command)
  local _, text = shell(command)
  return (text:match "([^\n]*)\n?$" or ""):gsub("%s+$", "")
end

-- What a command begins with so that it stays on one core; nothing where that
-- cannot be had.
local function pin()
  local cores = tonumber((last_line "getconf _NPROCESSORS_ONLN 2>/dev/null")) or 1
  local prefix = ("taskset -c %s "):format(os.getenv "CORE" or cores - 1)
  return shell(prefix .. "true 2>/dev/null") and prefix or ""
end

local pinned = pin()

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
  if not exists(headers .. "/lua.h") then return nil, "no headers of " .. lua end
  local target = ("%s/%s"):format(folder, basename(headers))
  must(("mkdir -p %s && %s -O2 -shared -fPIC -I%s -o %s/bench_meter.so bench/meter.c"):format(
    target, cc, headers, target))
  return {
    library = ("build/%s%s"):format(basename(headers), suffix),
    meter = target,
  }
end

-- Builds the programs in C: the loops with SQLite alone, the others with the library.
local function build_programs()
  local archives = ("build/lib%s/libmoonbase-sqlite.a build/lib%s/libmoonbase.a"):format(suffix,
    suffix)
  for name, with in pairs { loops = "", pool = archives, writers = archives } do
    must(("mkdir -p %s && %s -std=c11 -D_POSIX_C_SOURCE=200809L -O2 -o %s/%s bench/%s.c %s "
      .. "$(pkg-config --cflags --libs sqlite3) -lpthread -lm"):format(folder, cc, folder, name,
      name, with))
  end
end

local function make_data()
  if exists(data) then return end
  io.write("making ", data, "\n")
  must(("rm -f %s.new* && %s/loops data %s.new %d && mv %s.new %s"):format(data, folder, data,
    data_rows, data, data))
end

-- --- Candidates -----------------------------------------------------------------

local luas = {}

local modules = { moonbase = "moonbase.driver.sqlite", luasql = "luasql.sqlite3", luadbi = "DBI" }

local function environment(lua)
  return ('LUA_PATH="lua/?.lua;lua/?/init.lua;./?.lua;;" LUA_CPATH="%s/?.so;%s/?.so;;"'):format(
    luas[lua].library, luas[lua].meter)
end

-- Why a candidate cannot be run, or nil.
local function obstacle(candidate)
  local lua = candidate.lua
  if not lua then return nil end
  if luas[lua] == nil then
    local found, reason = build_meter(lua)
    luas[lua] = found or false
    if not found then return reason end
  end
  if not luas[lua] then return "no headers of " .. lua end
  local ok = shell(('%s %s -e \'require "%s"\' 2>/dev/null'):format(environment(lua), lua,
    modules[candidate.program]))
  if not ok then return ("%s does not load %s"):format(lua, modules[candidate.program]) end
end

local function command_of(group, candidate, file)
  if not candidate.lua then
    return ("%s%s/%s %s %s %d"):format(group.threads and "" or pinned, folder, candidate.program,
      candidate.case, file, group.count)
  end
  return ("%s %s%s bench/%s.lua %s %s %d %s %d"):format(environment(candidate.lua), pinned,
    candidate.lua, candidate.program, candidate.case, file, group.count, data, group.live or 0)
end

-- The figures behind the first four of a line: name=value.
local function read_figures(text)
  local figures = {}
  for name, value in text:gmatch "(%S+)=(%S+)" do figures[name] = tonumber(value) end
  return figures
end

-- Runs a candidate once.
local function run(group, candidate)
  local file = data
  if group.writes then
    file = folder .. "/written.db"
    must(("rm -f %s %s-wal %s-shm"):format(file, file, file))
  end
  local text = must(command_of(group, candidate, file))
  local wall, cpu, peak, checksum, rest = text:match "^(%S+) (%S+) (%S+) (%S+)([^\n]*)\n$"
  assert(wall, text)
  return {
    wall = tonumber(wall), cpu = tonumber(cpu), peak = tonumber(peak) / 1024, checksum = checksum,
    figures = read_figures(rest),
  }
end

local has_terminal = shell "test -t 2"

-- Shows how far it is, where somebody looks.
local function progress(text)
  if has_terminal then io.stderr:write(("\r%-60s\r"):format(text)) end
end

-- Runs all candidates of a group in turns, each round beginning with another one.
local function run_rounds(group)
  local able = {}
  for _, candidate in ipairs(group.candidates) do
    candidate.obstacle = obstacle(candidate)
    candidate.runs = {}
    if not candidate.obstacle then able[#able + 1] = candidate end
  end
  for round = 1, rounds do
    for i = 0, #able - 1 do
      local candidate = able[(i + round - 1) % #able + 1]
      progress(("%s: round %d of %d, %d of %d"):format(group.id, round, rounds, i + 1, #able))
      candidate.runs[round] = run(group, candidate)
    end
  end
  progress ""
end

-- --- Figures --------------------------------------------------------------------

-- Median, least and greatest.
local function spread(list)
  local sorted = { table.unpack(list) } -- luacheck: ignore 143
  table.sort(sorted)
  local n = #sorted
  return (sorted[(n + 1) // 2] + sorted[n // 2 + 1]) / 2, sorted[1], sorted[n]
end

local function column(candidate, field)
  local list = {}
  for i, one in ipairs(candidate.runs) do list[i] = one[field] end
  return list
end

-- The candidate of that name on the same Lua, or in C.
local function find(group, name, lua)
  for _, candidate in ipairs(group.candidates) do
    if candidate.name == name and (candidate.lua == lua or not candidate.lua) then
      return candidate
    end
  end
  error("cases.lua: no candidate " .. name)
end

-- The ratio of two candidates: of each round, then their median.
local function ratio(candidate, base, field)
  local list = {}
  for i, one in ipairs(candidate.runs) do list[i] = one[field] / base.runs[i][field] end
  return spread(list)
end

local lua_names = { ["lua5.4"] = "Lua 5.4", ["lua5.3"] = "Lua 5.3", luajit = "LuaJIT" }

local function lua_name(candidate)
  return lua_names[candidate.lua] or "C"
end

local bars, missed = 0, {}
local greatest_peak, peak_bar = 0, nil

local function verdict(group, candidate, base, value, bar)
  if not bar then return "" end
  bars = bars + 1
  if value <= bar then return ("bar %.2f ok"):format(bar) end
  missed[#missed + 1] = ("%s: %s, %s: %.2f of %s, bar %.2f"):format(group.id,
    lua_name(candidate), candidate.name, value, base, bar)
  return ("bar %.2f MISSED"):format(bar)
end

local function peak_verdict(group, candidate, peak)
  if not group.peak_bar or candidate.program ~= "moonbase" then return nil end
  bars, peak_bar = bars + 1, group.peak_bar
  greatest_peak = math.max(greatest_peak, peak)
  if peak <= group.peak_bar then return (" peak memory: bar %d MB ok"):format(group.peak_bar) end
  missed[#missed + 1] = ("%s: %s, %s: %.1f MB, bar %d MB"):format(group.id,
    lua_name(candidate), candidate.name, peak, group.peak_bar)
  return (" peak memory: bar %d MB MISSED"):format(group.peak_bar)
end

local csv = {
  "group,lua,candidate,against,wall_s,cpu_s,peak_mb,ratio,ratio_min,ratio_max,cpu_ratio,bar"
}

local function note(group, candidate, base, ...)
  local wall, cpu, peak = spread(column(candidate, "wall")), spread(column(candidate, "cpu")),
    spread(column(candidate, "peak"))
  local value, low, high, cpu_ratio, bar = ...
  local function number(x) return x and ("%.4f"):format(x) or "" end
  csv[#csv + 1] = table.concat({ group.id, candidate.lua or "", '"' .. candidate.name .. '"',
    base and '"' .. base.name .. '"' or "", number(wall), number(cpu), number(peak), number(value),
    number(low), number(high), number(cpu_ratio), number(bar or nil) }, ",")
end

-- What README.md shows: a line for each comparison, a column for each Lua; and a table of
-- what is in C alone.
local lines_of, order, c_lines = {}, {}, {}

local function describe_bar(value, bar)
  return bar and ("%.2f%s"):format(bar, value <= bar and "" or ", missed") or ""
end

local function tabulate(group, candidate, base, value, cpu, bar)
  local key = ("%s: %s | %s"):format(group.id, candidate.name, base.name)
  local result = ("%.2f (%.2f) | %s"):format(value, cpu, describe_bar(value, bar))
  if not candidate.lua then
    c_lines[#c_lines + 1] = ("| %s | %s |"):format(key, result)
    return
  end
  if not lines_of[key] then
    lines_of[key] = {}
    order[#order + 1] = key
  end
  lines_of[key][candidate.lua] = result
end

local function tabulate_figure(group, candidate, figure, value)
  c_lines[#c_lines + 1] = ("| %s: %s, %s | %s | %.2f | %s |"):format(group.id, candidate.name,
    figure.title, figure.against or "", value, describe_bar(value, figure.bar))
end

local function markdown()
  local text = {
    "| work | against | Lua 5.4 | bar | LuaJIT | bar |", "|---|---|---|---|---|---|"
  }
  for _, key in ipairs(order) do
    local line = lines_of[key]
    text[#text + 1] = ("| %s | %s | %s |"):format(key, line["lua5.4"] or " | ",
      line["luajit"] or " | ")
  end
  if #c_lines > 0 then
    text[#text + 1] = "\n| work | against | C | bar |\n|---|---|---|---|\n"
      .. table.concat(c_lines, "\n")
  end
  if peak_bar then
    text[#text + 1] = ("\nPeak memory of Moonbase while rows are streamed: %.1f MB (bar: %d MB).")
      :format(greatest_peak, peak_bar)
  end
  return table.concat(text, "\n") .. "\n"
end

-- The lines that compare a candidate with others, the C loop first.
local function comparisons(group, candidate)
  local names = {}
  for name in pairs(candidate.against or {}) do names[#names + 1] = name end
  table.sort(names)
  local lines = {}
  for _, name in ipairs(names) do
    local base, bar = find(group, name, candidate.lua), candidate.against[name]
    if not base.obstacle then
      local value, low, high = ratio(candidate, base, "wall")
      local cpu = ratio(candidate, base, "cpu")
      note(group, candidate, base, value, low, high, cpu, bar)
      tabulate(group, candidate, base, value, cpu, bar)
      lines[#lines + 1] = ("%5.2f (%.2f-%.2f) %5.2f of %-24s %s"):format(value, low, high, cpu,
        base.name, verdict(group, candidate, base.name, value, bar))
    end
  end
  if #lines == 0 then note(group, candidate) end
  return lines
end

-- A figure that a candidate tells of itself: median, least and greatest of the rounds, or of
-- the ratios to that of another candidate.
local function figure_of(group, candidate, figure)
  local base = figure.against and find(group, figure.against, candidate.lua)
  local list = {}
  for i, one in ipairs(candidate.runs) do
    list[i] = one.figures[figure.name] / (base and base.runs[i].figures[figure.name] or 1)
  end
  return spread(list)
end

local function figures(group, candidate)
  local lines = {}
  for _, figure in ipairs(candidate.figures or {}) do
    local value, low, high = figure_of(group, candidate, figure)
    tabulate_figure(group, candidate, figure, value)
    lines[#lines + 1] = ("%5.2f (%.2f-%.2f) %s%s  %s"):format(value, low, high, figure.title,
      figure.against and " of " .. figure.against or "",
      verdict(group, candidate, figure.title, value, figure.bar))
  end
  return lines
end

-- A line without blanks at its end.
local function write_line(...)
  print((string.format(...):gsub("%s+$", "")))
end

local function show(group)
  local reference
  print(("\n%s\n"):format(group.title))
  print(("%-8s %-27s %7s %7s %8s   %s"):format("", "", "wall s", "CPU s", "peak MB",
    "ratio of wall times: median (least-greatest), of CPU times"))
  for _, candidate in ipairs(group.candidates) do
    local who = ("%-8s %-27s"):format(lua_name(candidate), candidate.name)
    if candidate.obstacle then
      print(who .. " left out: " .. candidate.obstacle)
    else
      local peak = spread(column(candidate, "peak"))
      local lines = comparisons(group, candidate)
      for _, line in ipairs(figures(group, candidate)) do lines[#lines + 1] = line end
      local checksum = candidate.runs[1].checksum
      reference = reference or checksum
      if checksum ~= reference then lines[#lines + 1] = "another checksum: " .. checksum end
      lines[#lines + 1] = peak_verdict(group, candidate, peak)
      write_line("%s %7.3f %7.3f %8.1f   %s", who, spread(column(candidate, "wall")),
        spread(column(candidate, "cpu")), peak, lines[1] or "")
      for i = 2, #lines do write_line("%s%s", (" "):rep(64), lines[i]) end
    end
  end
end

-- --- All of it ------------------------------------------------------------------

local function wanted(group)
  local only = os.getenv "ONLY"
  return not only or only == "" or ("," .. only .. ","):find("," .. group.id .. ",", 1, true)
end

local function machine()
  return ("%s, %s cores, load %s; %s\n%s; %s; SQLite %s\n%d rounds%s"):format(
    last_line "sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1",
    last_line "getconf _NPROCESSORS_ONLN", last_line "cut -d ' ' -f 1 /proc/loadavg",
    last_line "uname -srm", last_line "lua5.4 -v 2>&1", last_line "luajit -v 2>&1",
    last_line "pkg-config --modversion sqlite3", rounds, pinned ~= "" and ", " .. pinned or "")
end

local function write_file(name, text)
  local file = assert(io.open(folder .. "/" .. name, "w"))
  file:write(text)
  file:close()
end

build_programs()
make_data()
local machine_line = machine()
print(machine_line)
for _, group in ipairs(groups) do
  if wanted(group) then
    run_rounds(group)
    show(group)
  end
end
print(("\n%d of %d bars are met."):format(bars - #missed, bars))
for _, line in ipairs(missed) do print("MISSED  " .. line) end
write_file("results.csv", table.concat(csv, "\n") .. "\n")
write_file("results.md", machine_line:gsub("\n", "; ") .. "\n\n" .. markdown())
