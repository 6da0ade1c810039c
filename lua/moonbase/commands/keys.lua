--- Idempotency keys: what a list of commands has given, kept in a table of the database
--- under a name that the caller has chosen.
---
--- Keys and results are stored as ASCII, so that no collation takes two keys for one and no
--- text type refuses a byte: other bytes are written as % and two hexadecimal digits.
---@module moonbase.commands.keys

local moonbase = require "moonbase"

local sql = moonbase.sql

local keys = {}

keys.default_table = "moonbase_command_keys"

--- The longest key in bytes.  Written out it is at most three times as long, which an
--- index of every database takes.
keys.longest = 255

local statements = {
  create = "create table if not exists :table (command_key varchar(765) not null primary key, "
    .. "results :text not null, created bigint not null)",
  find = "select results from :table where command_key = :key",
  claim = "insert into :table (command_key, results, created) values (:key, '', :now)",
  store = "update :table set results = :results where command_key = :key",
}

-- --- Texts -------------------------------------------------------------------------

local function escape(byte)
  return ("%%%02x"):format(byte:byte())
end

local function unescape(text)
  return (text:gsub("%%(%x%x)", function(digits) return string.char(tonumber(digits, 16)) end))
end

-- Capital letters too: to some collations they are the same as small ones.
local function key_text(key)
  return (key:gsub("[^-_.:0-9a-z]", escape))
end

local math_type = math.type -- luacheck: ignore 143

-- A number that is a whole one in its Lua: its digits; nil for others.
local function integer_text(value)
  if math_type then return math_type(value) == "integer" and ("%d"):format(value) or nil end
  local is_whole = value == math.floor(value) and math.abs(value) <= 2 ^ 53
  local is_negative_zero = value == 0 and 1 / value < 0
  return is_whole and not is_negative_zero and ("%.0f"):format(value) or nil
end

-- A double with all its digits; it has a point or an exponent, unlike an integer.
local function float_text(value)
  if value ~= value then return "nan" end
  if value == math.huge then return "inf" end
  if value == -math.huge then return "-inf" end
  local text = ("%.17g"):format(value):gsub("[^%d+e-]", ".") -- the locale may say a comma
  return text:find "[.e]" and text or text .. "e0"
end

-- As an integer that is read from the database: one that this Lua cannot hold stays a
-- string of digits.
local function read_integer(digits)
  local value = tonumber(digits)
  if math_type or math.abs(value) <= 2 ^ 53 and ("%.0f"):format(value) == digits then
    return value
  end
  return digits
end

local special_floats = { nan = 0 / 0, inf = math.huge, ["-inf"] = -math.huge }

local function read_float(text)
  return special_floats[text] or tonumber(text) or tonumber((text:gsub("%.", ",")))
end

-- type -> a value as a letter and what is behind it.
local writers = {
  ["nil"] = function() return "n" end,
  boolean = function(value) return value and "t" or "f" end,
  number = function(value)
    local digits = integer_text(value)
    return digits and "i" .. digits or "d" .. float_text(value)
  end,
  string = function(value) return "s" .. value:gsub("[^!-$&-~]", escape) end,
}

local readers = {
  n = function() return nil end,
  t = function() return true end,
  f = function() return false end,
  i = read_integer,
  d = read_float,
  s = unescape,
}

--- The text of results; nil and the position of the first that is no nil, boolean, number
--- or string.
---@param results moonbase.CommandResults
---@return string?
---@return integer? position
function keys.encode(results)
  local words = {}
  for i = 1, results.n do
    local write = writers[type(results[i])]
    if not write then return nil, i end
    words[i] = write(results[i])
  end
  return table.concat(words, " ")
end

--- The results of such a text.
---@param text string
---@return moonbase.CommandResults
function keys.decode(text)
  local results = { n = 0 }
  for letter, rest in text:gmatch "(%S)(%S*)" do
    results.n = results.n + 1
    results[results.n] = readers[letter](rest)
  end
  return results
end

-- --- The table ---------------------------------------------------------------------

-- What the user has set for values and placeholders is for the user's own statements.
local function plain(x)
  return x:with { types = {}, placeholders = true }
end

--- Creates the table unless it is there.
---@param x moonbase.Session
---@param name string
function keys.create(x, name)
  x = plain(x):with { errors = "raise" }
  local text = x:capability().storage_types.text or "text"
  x:exec(statements.create, { table = sql.identifier(name), text = sql.raw(text) })
end

--- The text that is stored under a key, or nil.
---@param x moonbase.Session
---@param name string of the table
---@param key string
---@return string?
function keys.find(x, name, key)
  return plain(x):query_value(statements.find,
    { table = sql.identifier(name), key = key_text(key) })
end

--- Takes a key for a transaction.  Another transaction that has taken it is waited for; a
--- ConstraintError when it was committed.
---@param tx moonbase.Transaction
---@param name string
---@param key string
function keys.claim(tx, name, key)
  plain(tx):exec(statements.claim,
    { table = sql.identifier(name), key = key_text(key), now = os.time() })
end

--- Stores a text under a key that the transaction has taken.
---@param tx moonbase.Transaction
---@param name string
---@param key string
---@param text string
function keys.store(tx, name, key, text)
  plain(tx):exec(statements.store,
    { table = sql.identifier(name), key = key_text(key), results = text })
end

return keys
