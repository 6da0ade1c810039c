--- What may be given to open and with, and how it is checked.
---@module moonbase.options

local core = require "moonbase.core"
local errors = require "moonbase.errors"
local scheduler = require "moonbase.scheduler"
local suggest = require "moonbase.suggest"

local options = {}

-- Options of a handle that are plain words or numbers: with(…) takes all of
-- them, open those that can stand in a URL through the core.
local checks = {
  errors = { words = { raise = true, ["return"] = true } },
  int64 = { words = { string = true, error = true } },
  decimal = { words = { string = true, number = true } },
  booleans = { type = "boolean" },
  log_parameters = { type = "boolean" },
  placeholders = { type = "boolean" },
  timeout = { type = "number", minimum = 0 },
  fetch_size = { type = "number", minimum = 0, whole = true },
  types = { type = "table" },
  json = { json = true },
  null = { any = true },
  cancel = { cancellation = true },
  replica = { type = "boolean" },
}

local function refuse(name, wanted, class)
  error(errors.new(class, ("option %s: wants %s"):format(name, wanted), nil, 3), 0)
end

local function words_of(set)
  local list = {}
  for word in pairs(set) do list[#list + 1] = '"' .. word .. '"' end
  table.sort(list)
  return table.concat(list, " or ")
end

local function is_callable(value)
  if type(value) == "function" then return true end
  local metatable = type(value) == "table" and getmetatable(value)
  return metatable and metatable.__call ~= nil or false
end

-- json = require "cjson", or a decoding function alone.
local function is_json(value)
  return is_callable(value) or type(value) == "table" and is_callable(value.decode)
end

local function check_types(types, class)
  for name, convert in pairs(types) do
    if type(name) ~= "string" or not is_callable(convert) then
      refuse("types", "functions by the names of types", class)
    end
  end
end

local function check(name, value, class)
  local rule = checks[name]
  if rule.words and not rule.words[value] then refuse(name, words_of(rule.words), class) end
  if rule.type and type(value) ~= rule.type then refuse(name, "a " .. rule.type, class) end
  if rule.minimum and not (value >= rule.minimum and value < 2 ^ 31) then
    refuse(name, "a number of at least " .. rule.minimum, class)
  end
  if rule.whole and value ~= math.floor(value) then refuse(name, "a whole number", class) end
  if rule.json and not is_json(value) then
    refuse(name, "a module with encode and decode, as cjson", class)
  end
  if rule.cancellation and core.kind(value) ~= "Cancellation" then
    refuse(name, "what moonbase.cancellation gives", class)
  end
  if name == "types" then check_types(value, class) end
end

--- Checks the options of with(…) and lays them over those of the handle.
---@param base table
---@param changes table
---@return table
function options.overlay(base, changes)
  if type(changes) ~= "table" then
    errors.usage("with wants a table of options, and got a %s", type(changes))
  end
  local merged = {}
  for name, value in pairs(base) do merged[name] = value end
  merged.plain = nil -- made of them, by moonbase.replicas
  for name, value in pairs(changes) do
    if not checks[name] then
      errors.usage("%s is no option of with%s", tostring(name), suggest(name, checks))
    end
    check(name, value, "UsageError")
    merged[name] = value
  end
  if changes.timeout then merged.timeout_is_default = nil end
  return merged
end

-- Options of open that stay on the Lua side.
local lua_side = {
  types = true, json = true, null = true, on_connect = "function", functions = "table",
  aggregates = "table", collations = "table", replicas = "table", read_your_writes = "boolean",
  scheduler = true,
}

-- Those that take several texts.
local lists = { init = true, pragma = true, extensions = true }

-- Those that may also stand in the table pool.
local pool_options = {}
for name in ([[acquire_timeout check_after_idle idle_timeout leak_after max max_lifetime min_idle
  reset shed_interval shed_target single_writer sweep_interval]]):gmatch "%S+" do
  pool_options[name] = true
end

-- A number of seconds with a point, whatever the locale; whole numbers as digits.
local function number_text(value)
  if value ~= value or value < 0 or value >= 2 ^ 53 then return tostring(value) end
  local whole = math.floor(value)
  if whole == value then return ("%d"):format(whole) end
  return ("%d.%09d"):format(whole, math.max(1, math.floor((value - whole) * 1e9)))
end

local function scalar_text(name, value)
  local kind = type(value)
  if kind == "string" then
    if value:find("\0", 1, true) then
      refuse(name, "a text without a zero byte", "ConnectorValidationError")
    end
    return value
  end
  if kind == "number" then return number_text(value) end
  if kind == "boolean" then return tostring(value) end
  local wanted = lists[name] and "a text or a list of texts" or "a text, a number or a boolean"
  refuse(name, wanted .. suggest(name, lua_side), "ConnectorValidationError")
end

local function add(flat, name, value)
  if type(value) ~= "table" or not lists[name] then
    flat[#flat + 1] = name
    flat[#flat + 1] = scalar_text(name, value)
    return
  end
  if core.rawlen(value) == 0 and next(value) ~= nil then
    refuse(name, "a text or a list of texts", "ConnectorValidationError")
  end
  for i = 1, core.rawlen(value) do
    flat[#flat + 1] = name
    flat[#flat + 1] = scalar_text(name, value[i])
  end
end

local function check_lua_side(name, value)
  if name == "scheduler" then
    scheduler.check(value)
  elseif checks[name] then
    check(name, value, "ConnectorValidationError")
  elseif type(value) ~= lua_side[name] then
    refuse(name, "a " .. lua_side[name], "ConnectorValidationError")
  end
end

-- Functions of one Lua state, which a pool that several share cannot call.
local of_one_state = { "functions", "aggregates", "collations", "on_connect", "password" }

--- Refuses what cannot be kept for the handles of a shared pool.
---@param kept table
function options.check_shared(kept)
  for _, name in ipairs(of_one_state) do
    if kept[name] ~= nil then
      error(errors.new("ConnectorValidationError", ("option %s: a pool with a name is shared, and "
        .. "cannot call a function of one Lua state; %s"):format(name, name == "on_connect"
        and "give init instead" or "leave the name out"), nil, 2), 0)
    end
  end
end

-- Seconds that a request in OpenResty is kept waiting, unless something else is said.
local limits = { timeout = 30, acquire_timeout = 5 }

local function add_limits(flat, url, kept)
  local is_given = {}
  for i = 1, #flat, 2 do is_given[flat[i]] = true end
  for name, seconds in pairs(limits) do
    if not is_given[name] and not (url and url:find("[?&]" .. name .. "=")) then
      add(flat, name, seconds)
      if name == "timeout" then kept.timeout_is_default = true end
    end
  end
end

--- Sorts the options of open: those for the core as a flat list of texts, and
--- those that stay here.
---@param given table
---@param url? string
---@return string[] flat
---@return table kept
function options.sort(given, url)
  local flat, kept = {}, {}
  local names = {}
  for name in pairs(given) do
    if type(name) ~= "string" or name:find("\0", 1, true) then
      errors.usage "open: the options are a table with names as keys"
    end
    names[#names + 1] = name
  end
  table.sort(names)
  for _, name in ipairs(names) do
    local value = given[name]
    if lua_side[name] then
      check_lua_side(name, value)
      kept[name] = value
    elseif name == "pool" then
      if type(value) ~= "table" then refuse("pool", "a table", "ConnectorValidationError") end
      for pool_name, pool_value in pairs(value) do
        if not pool_options[pool_name] then
          error(errors.new("ConnectorValidationError", ("%s is no option of the pool%s"):format(
            tostring(pool_name), suggest(pool_name, pool_options)), nil, 2), 0)
        end
        add(flat, pool_name, pool_value)
      end
    elseif name == "password" and type(value) == "function" then
      add(flat, "asks_password", true)
      kept.password = value
    elseif name ~= "driver" then
      add(flat, name, value)
    end
  end
  if package.loaded.ngx then add_limits(flat, url, kept) end
  return flat, kept
end

--- The options of a handle that has just been opened: what was kept, and what the
--- URL or the texts say.
---@param db moonbase.Database
---@param kept table
---@return table
function options.of_handle(db, kept)
  local own = { null = kept.null, types = kept.types, json = kept.json,
    scheduler = scheduler.open(kept.scheduler), timeout_is_default = kept.timeout_is_default }
  for _, name in ipairs { "errors", "int64", "decimal" } do own[name] = core.option(db, name) end
  for _, name in ipairs { "booleans", "log_parameters" } do
    if core.option(db, name) then own[name] = core.option(db, name) == "true" end
  end
  for _, name in ipairs { "timeout", "fetch_size" } do
    own[name] = tonumber(core.option(db, name) or nil)
  end
  own.has_setup = kept.on_connect ~= nil or kept.functions ~= nil or kept.aggregates ~= nil
    or kept.collations ~= nil
  return own
end

-- Decodes texts.  SQLite keeps a JSON number as a number, which is its own value.
local function decoder_of(json)
  local decode = type(json) == "table" and json.decode or json
  return function(value)
    if type(value) ~= "string" then return value end
    return decode(value)
  end
end

-- The functions that convert a shape's columns, or nil when none does.
function core.helpers.hooks(handle_options, shape)
  local types, json = handle_options.types, handle_options.json
  local hooks, found = {}, false
  for i, column in ipairs(shape.columns) do
    local convert = types and column.type and types[column.type]
    if not convert and types and column.is_json then convert = types.json end
    if not convert and json and column.is_json then
      convert = decoder_of(json)
    end
    hooks[i] = convert or false
    found = found or convert ~= nil and convert ~= false
  end
  if not found then return nil end
  for i, convert in ipairs(hooks) do
    if convert and type(convert) ~= "function" then
      hooks[i] = function(value) return convert(value) end
    end
  end
  return hooks
end

return options
