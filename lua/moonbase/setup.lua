--- What a new connection gets from the program before it is lent: SQLite's
--- functions, aggregates and collations, and on_connect.
---@module moonbase.setup

local core = require "moonbase.core"
local errors = require "moonbase.errors"
local suggest = require "moonbase.suggest"

local setup = {}

local function refuse(name, what, wanted)
  error(errors.new("ConnectorValidationError", ("option %s: %s %s"):format(what, tostring(name),
    wanted), nil, 4), 0)
end

local function check_name(name, what)
  if type(name) ~= "string" or name == "" or #name > 255 or name:find("\0", 1, true) then
    refuse(name, what, "is no name of 1 to 255 bytes without a zero byte")
  end
end

-- Fields that are none would be settings that are misspelt.
local function check_fields(name, what, given, known)
  for field in pairs(given) do
    if field ~= 1 and not known[field] then
      refuse(name, what, ("has no field %s%s"):format(tostring(field), suggest(field, known)))
    end
  end
  local n = given.arguments
  if n ~= nil and (type(n) ~= "number" or n < 0 or n > 1000 or n ~= math.floor(n)) then
    refuse(name, what, "wants a whole number as arguments")
  end
end

-- slug = fn, or slug = { fn, deterministic = true, arguments = 1 }.
local function read_function(name, given)
  check_name(name, "functions")
  if type(given) == "function" then given = { given } end
  if type(given) ~= "table" or type(given[1]) ~= "function" then
    refuse(name, "functions", "wants a function, or { fn, deterministic =, arguments = }")
  end
  check_fields(name, "functions", given, { deterministic = true, arguments = true })
  return given
end

-- median = { init = fn, step = fn(state, …), final = fn(state), arguments = 1 }.
local function read_aggregate(name, given)
  check_name(name, "aggregates")
  if type(given) ~= "table" or type(given.step) ~= "function"
    or type(given.final) ~= "function"
    or given.init ~= nil and type(given.init) ~= "function" then
    refuse(name, "aggregates", "wants { step = fn, final = fn } and perhaps init = fn")
  end
  check_fields(name, "aggregates", given,
    { init = true, step = true, final = true, arguments = true })
  return given
end

local function read_collation(name, given)
  check_name(name, "collations")
  if type(given) ~= "function" then
    refuse(name, "collations", "wants a function that compares two texts")
  end
  return given
end

-- The state of each group of an aggregate, by the number that the core gives it.
local function make_aggregate(given)
  local groups = {}
  local function start()
    if given.init then return given.init() end
    return nil
  end
  local function step(group, ...)
    local held = groups[group]
    if not held then
      held = { start() }
      groups[group] = held
    end
    local changed = given.step(held[1], ...)
    if changed ~= nil then held[1] = changed end
  end
  local function finish(group, wanted)
    local held = groups[group]
    groups[group] = nil
    if not wanted then return nil end
    if not held then return given.final(start()) end
    return given.final(held[1])
  end
  return step, finish
end

local function copy_checked(given, read)
  local copy = {}
  for name, one in pairs(given or {}) do copy[name] = read(name, one) end
  return copy
end

--- Keeps what was given to open for the connections to come.
---@param db moonbase.Database
---@param kept table
function setup.keep(db, kept)
  core.extra(db).setup = {
    functions = copy_checked(kept.functions, read_function),
    aggregates = copy_checked(kept.aggregates, read_aggregate),
    collations = copy_checked(kept.collations, read_collation),
    on_connect = kept.on_connect,
    password = kept.password,
  }
end

-- Called by the binding before something connects.
function core.helpers.password(db)
  local password = core.extra(db).setup.password()
  if type(password) ~= "string" or password:find("\0", 1, true) then
    errors.usage("the function that is option password returned %s; a text without a zero byte is "
      .. "wanted", type(password) == "string" and "one with a zero byte" or "a " .. type(password))
  end
  return password
end

-- Called by the binding with a new connection.
function core.helpers.set_up(db, conn)
  local given = core.extra(db).setup
  for name, one in pairs(given.functions) do
    core.define(conn, "function", name, one.arguments, one.deterministic or false, one[1])
  end
  for name, one in pairs(given.aggregates) do
    core.define(conn, "aggregate", name, one.arguments, false, make_aggregate(one))
  end
  for name, compare in pairs(given.collations) do
    core.define(conn, "collation", name, nil, false, compare)
  end
  if given.on_connect then given.on_connect(conn) end
  core.close_connection(conn)
end

return setup
