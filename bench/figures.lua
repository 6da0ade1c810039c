--- What the runs of candidates amount to: ratios, bars, and the tables of results.
---@module bench.figures

local figures = {}

-- Median, least and greatest.
local function spread(list)
  local sorted = { table.unpack(list) } -- luacheck: ignore 143
  table.sort(sorted)
  local n = #sorted
  return (sorted[(n + 1) // 2] + sorted[n // 2 + 1]) / 2, sorted[1], sorted[n]
end

local function median(candidate, field)
  local list = {}
  for i, one in ipairs(candidate.runs) do list[i] = one[field] end
  return (spread(list))
end

-- The ratio of two candidates: of each round, then their median.
local function ratio(candidate, base, field)
  local list = {}
  for i, one in ipairs(candidate.runs) do list[i] = one[field] / base.runs[i][field] end
  return spread(list)
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

local lua_names = { ["lua5.4"] = "Lua 5.4", luajit = "LuaJIT" }

-- --- Bars -----------------------------------------------------------------------

local bars, missed = 0, {}
-- Of each database: Moonbase's greatest peak while rows are streamed, and its bar.
local peaks = {}

local function miss(group, candidate, what)
  missed[#missed + 1] = ("%s, %s: %s, %s: %s"):format(group.database, group.id,
    lua_names[candidate.lua] or "C", candidate.name, what)
end

local function verdict(group, candidate, base, kind, value, bar)
  if not bar then return "" end
  bars = bars + 1
  if value <= bar then return (" %s %.2f ok"):format(kind, bar) end
  miss(group, candidate, ("%.2f of %s, %s %.2f"):format(value, base, kind, bar))
  return (" %s %.2f MISSED"):format(kind, bar)
end

local function peak_verdict(group, candidate, peak)
  local bar = group.peak_bar
  if not bar or candidate.program ~= "moonbase" then return nil end
  bars = bars + 1
  local one = peaks[group.database] or { greatest = 0, bar = bar }
  peaks[group.database] = one
  one.greatest = math.max(one.greatest, peak)
  if peak <= bar then return (" peak memory: bar %d MB ok"):format(bar) end
  miss(group, candidate, ("%.1f MB, bar %d MB"):format(peak, bar))
  return (" peak memory: bar %d MB MISSED"):format(bar)
end

-- --- Files ----------------------------------------------------------------------

local csv = {
  "database,group,lua,candidate,against,wall_s,cpu_s,wall_us_each,cpu_us_each,peak_mb,"
    .. "ratio,ratio_min,ratio_max,cpu_ratio,bar,cpu_bar"
}

local function number(x)
  return x and ("%.4f"):format(x) or ""
end

local function note(group, candidate, base, compared)
  local wall, cpu = median(candidate, "wall"), median(candidate, "cpu")
  csv[#csv + 1] = table.concat({ group.database, group.id, candidate.lua or "",
    '"' .. candidate.name .. '"', base and '"' .. base.name .. '"' or "", number(wall),
    number(cpu), number(wall / group.count * 1e6), number(cpu / group.count * 1e6),
    number(median(candidate, "peak")), number(compared.wall), number(compared.least),
    number(compared.greatest), number(compared.cpu), number(compared.bar or nil),
    number(compared.cpu_bar) }, ",")
end

-- What README.md shows of a database: a line for each comparison, a column for each Lua; and
-- a table of what is in C alone.
local lines_of, order, c_lines = {}, {}, {}

local function tabulate_c(database, line)
  local list = c_lines[database] or { "\n| work | against | C | bar |", "|---|---|---|---|" }
  c_lines[database] = list
  list[#list + 1] = line
end

local function tabulate(group, candidate, base, compared)
  local key = ("%s: %s | %s"):format(group.id, candidate.name, base.name)
  local bar = ""
  if compared.bar then
    bar = ("%.2f"):format(compared.bar)
    if compared.cpu_bar then bar = ("%s (%.2f)"):format(bar, compared.cpu_bar) end
    if compared.missed then bar = bar .. ", missed" end
  end
  local result = ("%.2f (%.2f) | %s"):format(compared.wall, compared.cpu, bar)
  if not candidate.lua then
    return tabulate_c(group.database, ("| %s | %s |"):format(key, result))
  end
  local lines = lines_of[group.database] or {}
  lines_of[group.database] = lines
  if not lines[key] then
    lines[key] = {}
    order[#order + 1] = { database = group.database, key = key }
  end
  lines[key][candidate.lua] = result
end

local function tabulate_figure(group, candidate, figure, value)
  local bar = figure.bar and ("%.2f%s"):format(figure.bar, value <= figure.bar and "" or ", missed")
  tabulate_c(group.database, ("| %s: %s, %s | %s | %.2f | %s |"):format(group.id, candidate.name,
    figure.title, figure.against or "", value, bar or ""))
end

local function ratios_of(database)
  local text = {
    "| work | against | Lua 5.4 | bar | LuaJIT | bar |", "|---|---|---|---|---|---|"
  }
  for _, one in ipairs(order) do
    if one.database == database then
      local line = lines_of[database][one.key]
      text[#text + 1] = ("| %s | %s | %s |"):format(one.key, line["lua5.4"] or " | ",
        line["luajit"] or " | ")
    end
  end
  for _, line in ipairs(c_lines[database] or {}) do text[#text + 1] = line end
  if peaks[database] then
    text[#text + 1] = ("\nPeak memory of Moonbase while rows are streamed: %.1f MB (bar: %d MB).")
      :format(peaks[database].greatest, peaks[database].bar)
  end
  return table.concat(text, "\n") .. "\n"
end

-- What one row, query or insert takes, in microseconds.
local each_of = {}

local function note_each(group, candidate)
  local list = each_of[group.database] or {
    "| work | Lua | wall us | CPU us | MB |", "|---|---|---|---|---|"
  }
  each_of[group.database] = list
  list[#list + 1] = ("| %s: %s | %s | %.2f | %.2f | %.1f |"):format(group.id, candidate.name,
    lua_names[candidate.lua] or "", median(candidate, "wall") / group.count * 1e6,
    median(candidate, "cpu") / group.count * 1e6, median(candidate, "peak"))
end

--- All figures, for a program.
---@return string
function figures.csv()
  return table.concat(csv, "\n") .. "\n"
end

--- The tables of a database, for README.md.
---@param database string
---@return string
function figures.markdown(database)
  return ratios_of(database) .. "\n" .. table.concat(each_of[database] or {}, "\n") .. "\n"
end

-- --- What is printed ------------------------------------------------------------

local function compare(group, candidate, base, against)
  local bar, cpu_bar = against, nil
  if type(against) == "table" then bar, cpu_bar = against[1], against[2] end
  local compared = { bar = bar, cpu_bar = cpu_bar }
  compared.wall, compared.least, compared.greatest = ratio(candidate, base, "wall")
  compared.cpu = ratio(candidate, base, "cpu")
  compared.missed = bar and compared.wall > bar or cpu_bar and compared.cpu > cpu_bar
  note(group, candidate, base, compared)
  tabulate(group, candidate, base, compared)
  return ("%5.2f (%.2f-%.2f) %5.2f of %-24s%s%s"):format(compared.wall, compared.least,
    compared.greatest, compared.cpu, base.name,
    verdict(group, candidate, base.name, "bar", compared.wall, bar),
    verdict(group, candidate, base.name, "CPU bar", compared.cpu, cpu_bar))
end

-- The lines that compare a candidate with others, the C loop first.
local function comparisons(group, candidate)
  local names = {}
  for name in pairs(candidate.against or {}) do names[#names + 1] = name end
  table.sort(names)
  local lines = {}
  for _, name in ipairs(names) do
    local base = find(group, name, candidate.lua)
    if not base.obstacle then
      lines[#lines + 1] = compare(group, candidate, base, candidate.against[name])
    end
  end
  if #lines == 0 then note(group, candidate, nil, {}) end
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

local function add_own_figures(lines, group, candidate)
  for _, figure in ipairs(candidate.figures or {}) do
    local value, low, high = figure_of(group, candidate, figure)
    tabulate_figure(group, candidate, figure, value)
    lines[#lines + 1] = ("%5.2f (%.2f-%.2f) %s%s %s"):format(value, low, high, figure.title,
      figure.against and " of " .. figure.against or "",
      verdict(group, candidate, figure.title, "bar", value, figure.bar))
  end
end

-- A line without blanks at its end.
local function write_line(...)
  print((string.format(...):gsub("%s+$", "")))
end

--- Prints a group whose candidates have been run.
function figures.show(group)
  local reference
  print(("\n%s: %s\n"):format(group.id, group.title))
  print(("%-8s %-27s %7s %7s %7s %7s %7s   %s"):format("", "", "wall s", "CPU s", "us each",
    "CPU us", "peak MB", "ratio of wall times: median (least-greatest), of CPU times"))
  for _, candidate in ipairs(group.candidates) do
    local who = ("%-8s %-27s"):format(lua_names[candidate.lua] or "C", candidate.name)
    if candidate.obstacle then
      print(who .. " left out: " .. candidate.obstacle)
    else
      local wall, cpu = median(candidate, "wall"), median(candidate, "cpu")
      local peak = median(candidate, "peak")
      local lines = comparisons(group, candidate)
      add_own_figures(lines, group, candidate)
      local checksum = candidate.runs[1].checksum
      reference = reference or checksum
      if checksum ~= reference then lines[#lines + 1] = "another checksum: " .. checksum end
      lines[#lines + 1] = peak_verdict(group, candidate, peak)
      note_each(group, candidate)
      write_line("%s %7.3f %7.3f %7.2f %7.2f %7.1f   %s", who, wall, cpu,
        wall / group.count * 1e6, cpu / group.count * 1e6, peak, lines[1] or "")
      for i = 2, #lines do write_line("%s%s", (" "):rep(79), lines[i]) end
    end
  end
end

--- Prints how many bars are met, and which are not.
function figures.summarize()
  print(("\n%d of %d bars are met."):format(bars - #missed, bars))
  for _, line in ipairs(missed) do print("MISSED  " .. line) end
end

return figures
