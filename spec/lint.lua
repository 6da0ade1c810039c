-- Checks that no tool of others makes, over the files that are named:
--
--   lua spec/lint.lua text FILE …             includes, columns, length, places
--   lua spec/lint.lua exports PATTERN FILE …  what libraries export
--   lua spec/lint.lua api HEADER FILE         exactly what a header declares
--
-- A finding is a line "file:line: what"; with one, the status is 1.
local findings = 0

local function report(file, line, ...)
  findings = findings + 1
  print(("%s:%d: %s"):format(file, line, string.format(...)))
end

local function output_of(command)
  local pipe = assert(io.popen(command, "r"))
  local text = pipe:read "*a"
  pipe:close()
  return text
end

-- --- Layers ---------------------------------------------------------------------

-- Who may include what: for the files that begin with a path (the first that fits),
-- the beginnings of paths.  Headers of libraries are "lua" and the drivers' names; all
-- other headers in <> are the system's.
local layers = {
  { "src/driver.h", {} },
  { "src/moonbase.h", { "src/driver.h" } },
  { "src/driver_text.h", { "src/driver.h" } },
  { "src/driver_module.h", { "src/driver.h", "lua" } },
  { "src/core/", { "src/core/", "src/moonbase.h", "src/driver.h", "src/driver_text.h" } },
  { "src/lua/compat.h", { "lua" } },
  { "src/lua/", { "src/lua/binding.h", "src/lua/functions.h", "src/lua/lease.h",
    "src/lua/observe.h", "src/lua/run.h", "src/lua/compat.h", "src/moonbase.h", "lua" } },
  { "drivers/([^/]+)/module.c", { "drivers/%1/", "src/driver_module.h" } },
  { "drivers/([^/]+)/", { "drivers/%1/", "src/driver.h", "src/driver_text.h", "%1" } },
}

local libraries = {
  { "^lua", "lua" },
  { "^lauxlib", "lua" },
  { "^sqlite3", "sqlite" },
  { "^libpq", "postgres" },
  { "^mysql", "mysql" },
  { "^mariadb", "mysql" },
}

-- The path that an include in a file means; "" for the system's headers.
local function resolve(file, sign, name)
  if sign == "<" then
    for _, library in ipairs(libraries) do
      if name:find(library[1]) then return library[2] end
    end
    return ""
  end
  local path = file:gsub("[^/]*$", "") .. name
  local changed
  repeat
    path, changed = path:gsub("[^/]+/%.%./", "", 1)
  until changed == 0
  return path
end

local function may_include(file, included)
  for _, layer in ipairs(layers) do
    local first, last, driver = file:find("^" .. layer[1])
    if first then
      for _, allowed in ipairs(layer[2]) do
        allowed = allowed:gsub("%%1", last and driver or "")
        if included:sub(1, #allowed) == allowed then return true end
      end
      return false
    end
  end
  return true
end

local function check_include(file, number, line)
  local sign, name = line:match '^%s*#%s*include%s*([<"])([^>"]+)'
  if not sign then return end
  local included = resolve(file, sign, name)
  if included ~= "" and not may_include(file, included) then
    report(file, number, "%s is of a layer that must not be included here", name)
  end
end

-- --- Lines ----------------------------------------------------------------------

local columns = { c = 80, h = 80, lua = 100, rockspec = 100 }
-- Lines of a file: of those that begin with a path (the first that fits).
local lengths = {
  { "spec/c/", 1000 },
  { "src/driver.h", 900 },
  { "src/moonbase.h", 720 },
  { "", 600 },
}

local function check_columns(file, number, line)
  local most = columns[file:match "%.(%w+)$"]
  -- Bytes that continue a character of UTF-8 take no column.
  local _, width = line:gsub("[^\128-\191]", "")
  if most and width > most then
    report(file, number, "%d columns, at most %d", width, most)
  end
end

local function check_white_space(file, number, line)
  if line:find "%s$" then report(file, number, "white space at the end") end
  if line:find "\t" and columns[file:match "%.(%w+)$"] then report(file, number, "a tab") end
end

local function check_length(file, number)
  for _, length in ipairs(lengths) do
    if file:sub(1, #length[1]) == length[1] then
      if number > length[2] then report(file, number, "%d lines, at most %d", number, length[2]) end
      return
    end
  end
end

-- --- Places ---------------------------------------------------------------------

-- The web sites that texts may lead to.  A mirror of packages is none of them.
local sites = {
  "example.com", "example.net", "example.org", "github.com", "lua.org", "luajit.org",
  "luarocks.org", "mariadb.org", "mysql.com", "openresty.org", "postgresql.org", "sqlite.org",
}

local function is_known(host)
  for _, site in ipairs(sites) do
    if host == site or host:sub(-#site - 1) == "." .. site then return true end
  end
  return false
end

-- Folders of this machine that no file may name: the checkout, and what it lies in.
local function own_folders()
  local here = output_of "pwd":match "[^\n]+"
  local list = { here }
  local around = here:match "^(.+)/[^/]+$"
  local common = { ["/tmp"] = true, ["/home"] = true, ["/root"] = true, ["/usr"] = true,
    ["/opt"] = true, ["/srv"] = true, ["/var"] = true }
  if around and not common[around] then list[#list + 1] = around .. "/" end
  return list
end

local folders

local function check_places(file, number, line)
  folders = folders or own_folders()
  for _, folder in ipairs(folders) do
    if line:find(folder, 1, true) then report(file, number, "names a folder of this machine") end
  end
  for host in line:gmatch "https?://([%w.-]+)" do
    if not is_known(host) then report(file, number, "leads to %s", host) end
  end
end

-- --- Commands -------------------------------------------------------------------

local commands = {}

function commands.text(files)
  for _, file in ipairs(files) do
    local number = 0
    for line in assert(io.lines(file)) do
      number = number + 1
      if not line:find "\0" then
        check_include(file, number, line)
        check_columns(file, number, line)
        check_white_space(file, number, line)
        check_places(file, number, line)
      end
    end
    if file:find "%.[ch]$" then check_length(file, number) end
  end
end

-- The symbols that a library defines for others.
local function exports_of(file)
  local symbols = {}
  for symbol in output_of("nm -D --defined-only " .. file):gmatch "%S+ %u (%S+)\n" do
    symbols[#symbols + 1] = symbol
  end
  return symbols
end

function commands.exports(arguments)
  for i = 2, #arguments do
    local symbols = exports_of(arguments[i])
    if #symbols == 0 then report(arguments[i], 0, "exports nothing") end
    for _, symbol in ipairs(symbols) do
      if not symbol:find("^" .. arguments[1] .. "$") then
        report(arguments[i], 0, "exports %s", symbol)
      end
    end
  end
end

function commands.api(arguments)
  local header, library = arguments[1], arguments[2]
  local file = assert(io.open(header))
  local text = file:read "*a":gsub("/%*.-%*/", ""):gsub("\\\n", "")
  file:close()
  local declared, exported = {}, {}
  for before, name in ("\n" .. text):gmatch "\n([%w_][%w_ *\n]-)[ *\n](mb_[%w_]+)%(" do
    if not before:find "^static inline" then declared[name] = true end
  end
  for _, name in ipairs(exports_of(library)) do
    exported[name] = true
    if not declared[name] then report(library, 0, "exports %s, which %s does not declare", name,
      header) end
  end
  for name in pairs(declared) do
    if not exported[name] then report(library, 0, "does not export %s of %s", name, header) end
  end
end

local command = assert(commands[arg[1]], "text, exports or api?")
command { select(2, (table.unpack or unpack)(arg)) } -- luacheck: ignore 113 143
os.exit(findings == 0 and 0 or 1)
