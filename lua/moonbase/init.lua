--- Moonbase: a database layer for Lua.
---
---     local moonbase = require "moonbase"
---     local db = moonbase.open "sqlite:app.db"
---     for row in db:query("select id, name from users where age > ?", 18) do
---       print(row.id, row.name)
---     end
---@module moonbase

local core = require "moonbase.core"
local bulk = require "moonbase.bulk"
local errors = require "moonbase.errors"
local observe = require "moonbase.observe"
local options = require "moonbase.options"
local replicas = require "moonbase.replicas"
local rows = require "moonbase.rows"
local scheduler = require "moonbase.scheduler"
local setup = require "moonbase.setup"
local sql = require "moonbase.sql"
local transaction = require "moonbase.transaction"
local values = require "moonbase.values"

local moonbase = {
  _VERSION = core.version,
  scheduler = scheduler,
  sql = sql,
  null = values.null,
  blob = values.blob,
  decimal = values.decimal,
  json = values.json,
  uuid = values.uuid,
  timestamp = values.timestamp,
  epoch = values.epoch,
  float = values.float,
  array = values.array,
  params = values.params,
  is = errors.is,
  pcall = errors.pcall,
}

-- Debian's packages, for who lacks the module of a driver.
local packages = { sqlite = "libsqlite3-dev", postgres = "libpq-dev", mysql = "libmariadb-dev" }

-- Schemes of URLs that are not the name of their driver.
local schemes = { postgresql = "postgres", mariadb = "mysql" }

local function refuse(format, ...)
  error(errors.new("ConnectorValidationError", format:format(...), nil, 3), 0)
end

local load_driver

-- The driver of fault+sqlite: that of sqlite, with fault around it.
local function wrap_driver(around, name)
  local outer, inner = load_driver(around), load_driver(name)
  if type(outer) ~= "table" then refuse("driver \"%s\" goes around no other", around) end
  return outer.wrap(inner)
end

function load_driver(name)
  local around, inside = name:match "^([%w_]+)%+(.+)$"
  if around then return wrap_driver(around, inside) end
  local ok, driver = pcall(require, "moonbase.driver." .. name)
  if ok then return driver end
  if driver == "not enough memory" then error(driver, 0) end
  if not tostring(driver):find("module 'moonbase.driver." .. name .. "' not found", 1, true) then
    refuse("driver \"%s\" cannot be loaded: %s", name, tostring(driver))
  end
  if packages[name] then
    refuse("driver \"%s\" was not built: its client library was missing. Install it (on Debian: "
      .. "apt install %s) and build Moonbase again (luarocks install moonbase)", name,
      packages[name])
  end
  refuse("there is no driver \"%s\"; installed: %s", name, table.concat(moonbase.drivers(), ", "))
end

-- The driver: what the options name or bring, else what the URL's scheme says.
local function find_driver(url, given)
  if type(given.driver) == "userdata" then return given.driver end
  if given.driver ~= nil and type(given.driver) ~= "string" then
    refuse "option driver: wants a name, or what require gives for a driver module"
  end
  local name = given.driver
  if url and not name then
    local scheme = core.scheme(url)
    if not scheme then
      refuse "scheme: missing; a URL begins like sqlite:app.db"
    end
    name = schemes[scheme:lower()] or scheme:lower()
  end
  if not name then refuse "driver: missing; give a URL or driver = \"sqlite\"" end
  if not name:find "^[%w_+]*[%w_]$" then
    refuse "driver: the name has other than letters and digits"
  end
  local driver = load_driver(name)
  if type(driver) == "table" then
    refuse("driver \"%s\" goes around another one: %s+sqlite", name, name)
  end
  return driver
end

-- A Database without replicas, and the options that stay on the Lua side.
local function open_one(url, given, suffix)
  if url and url:find("\0", 1, true) then refuse "URL: holds a zero byte" end
  local driver = find_driver(url, given)
  local flat, kept = options.sort(given, url)
  local db = core.open(driver, url, flat)
  if core.option(db, "name") then options.check_shared(kept) end
  setup.keep(db, kept)
  observe.name(db, suffix)
  return core.configure(db, options.of_handle(db, kept)), kept
end

--- Opens a database: checks URL and options, and opens no connection yet.
---
--- Also open{ driver = "sqlite", path = "app.db" }.  The options are listed in
--- doc/api.md.
---@param url string|moonbase.OpenOptions
---@param given? moonbase.OpenOptions
---@return moonbase.Database
function moonbase.open(url, given)
  if type(url) == "table" and given == nil then url, given = nil, url end
  if url ~= nil and type(url) ~= "string" or given ~= nil and type(given) ~= "table" then
    errors.usage "open wants a URL and perhaps a table of options, or such a table alone"
  end
  given = given or {}
  local db, kept = open_one(url, given)
  local ok, err = pcall(replicas.open, db, kept, url, given, open_one)
  if not ok then
    core.close_database(db)
    error(err, 0)
  end
  return db
end

--- The names of the drivers that are installed.
---@return string[]
function moonbase.drivers()
  local found = {}
  for name in pairs(packages) do
    if package.loaded["moonbase.driver." .. name] or pcall(require, "moonbase.driver." .. name) then
      found[#found + 1] = name
    end
  end
  table.sort(found)
  return found
end

--- Something that operations listen to: db:with{ cancel = stop }, stop:cancel().
---@param given? { name: string } the same object for all Lua states of the process
---@return moonbase.Cancellation
function moonbase.cancellation(given)
  if given == nil then return core.cancellation() end
  if type(given) ~= "table" then
    errors.usage("cancellation wants a table of options, and got a %s", type(given))
  end
  for name in pairs(given) do
    if name ~= "name" then
      errors.usage("%s is no option of cancellation%s", tostring(name),
        require "moonbase.suggest"(name, { name = true }))
    end
  end
  if given.name ~= nil and type(given.name) ~= "string" then
    errors.usage("option name of cancellation: wants a string, and got a %s", type(given.name))
  end
  if given.name and given.name:find("\0", 1, true) then
    errors.usage "option name of cancellation: holds a zero byte"
  end
  return core.cancellation(given.name)
end

-- --- Methods -------------------------------------------------------------------

local function with(x, changes)
  local base = core.options(x) or {}
  local merged = options.overlay(base, changes)
  if changes.replica then replicas.check_view(x) end
  local view = core.configure(core.view(x), merged)
  if core.kind(x) == "Transaction" then transaction.set_attempt(view, x.attempt) end
  return merged.replica and replicas.dress(view) or view
end

-- Whether ipairs sees what a metatable gives; in LuaJIT and 5.1 a table can be
-- read-only or be gone through, and not both.
local can_freeze = false
for _ in ipairs(setmetatable({}, { __index = { true } })) do can_freeze = true end

-- A table that can be read, at any depth, and not changed; where that is not to
-- be had, the caller's own.
local function freeze(value)
  if type(value) ~= "table" or not can_freeze then return value end
  local copy = {}
  for key, inner in pairs(value) do copy[key] = freeze(inner) end
  return setmetatable({}, {
    __index = copy,
    __len = function() return #copy end,
    __pairs = function() return pairs(copy) end,
    __newindex = function() errors.usage "a capability table cannot be changed" end,
    __metatable = "moonbase.Capability",
  })
end

-- The longest pause between two looks whether a handle has been closed, in seconds.
local longest_look = 0.05

-- The method wait_closed of a kind of handle, which nobody else can close in a program
-- that blocks.
local function wait_with(is_closed)
  return function(x, timeout)
    if is_closed(x) then return true end
    if not scheduler.is_task(x) then
      errors.usage "this would wait for ever: nobody else can close it in a blocking program"
    end
    local now, pause = core.now(), 0.001
    local deadline = timeout and now + timeout or math.huge
    while not is_closed(x) do
      if now >= deadline then return false end
      core.pause(x, math.min(pause, deadline - now))
      now, pause = core.now(), math.min(2 * pause, longest_look)
    end
    return true
  end
end

local session_methods = {
  batch = bulk.batch,
  begin = transaction.begin,
  bulk_insert = bulk.bulk_insert,
  is_closed = core.is_closed,
  transaction = transaction.run,
  wait_closed = wait_with(core.is_closed),
  with = with,
  capability = function(x) return freeze(core.capability(x)) end,
}

local own_methods = {
  Database = {
    close = replicas.close,
    current = core.current,
    on = replicas.on,
    stats = replicas.stats,
    url = core.url,
  },
  Connection = { close = function(...) return core.close_connection(...) end },
  Transaction = {
    attempt = 1,
    commit = transaction.commit,
    on_commit = transaction.on_commit,
    on_rollback = transaction.on_rollback,
    rollback = transaction.rollback,
  },
}

for kind, methods in pairs(own_methods) do
  local target = core.methods[kind]
  for name, method in pairs(session_methods) do target[name] = method end
  for name, method in pairs(methods) do target[name] = method end
end

for _, kind in ipairs { "Statement", "Rows" } do
  core.methods[kind].wait_closed = wait_with(core.methods[kind].is_closed)
end
core.methods.Statement.exec_many = bulk.exec_many
core.methods.Rows.each = rows.each
core.methods.Rows.one = rows.one

-- What `local x <close>` does at the end of its block.
core.set_close("Database", replicas.close)
core.set_close("Connection", own_methods.Connection.close)
core.set_close("Transaction", transaction.close)

return moonbase
