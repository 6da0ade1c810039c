--- Error objects: what all of Moonbase raises.
---@module moonbase.errors

local core = require "moonbase.core"

local errors = {}

local Error = {}
Error.__index = Error
Error.__name = "moonbase.Error"

-- Long statements would hide the message.
local sql_shown = 160

-- One line: class, message, where the database's code and the statement are.
function Error.__tostring(err)
  local parts = { tostring(err.class), ": ", tostring(err.message) }
  local place = {}
  if err.driver then place[#place + 1] = err.driver end
  if err.code then place[#place + 1] = err.code end
  if #place > 0 then
    parts[#parts + 1] = " [" .. table.concat(place, " ") .. "]"
  end
  if err.entry then parts[#parts + 1] = " (entry " .. err.entry .. ")" end
  if err.row then parts[#parts + 1] = " (row " .. err.row .. ")" end
  if err.attempts then parts[#parts + 1] = " (after " .. err.attempts .. " attempts)" end
  if err.hint then parts[#parts + 1] = " (hint: " .. err.hint .. ")" end
  if err.sql then
    local sql = err.sql
    if #sql > sql_shown then sql = sql:sub(1, sql_shown) .. "…" end
    parts[#parts + 1] = " in: " .. sql:gsub("%s+", " ")
  end
  return (table.concat(parts):gsub("[\r\n]+", " "))
end

--- True when an error is of a class or one below it.
---@param class string
---@return boolean
function Error:is(class)
  local own = self.class
  while own do
    if own == class then return true end
    local parent = core.classes[own] or errors.own_classes[own]
    if parent == own then return false end
    own = parent
  end
  return false
end

-- Classes that Lua modules define, with their parents.
errors.own_classes = {}

core.helpers.error_metatable = Error

--- True when a value is an error of Moonbase's, and of that class if one is given.
---@param value any
---@param class? string
---@return boolean
function errors.is(value, class)
  if type(value) ~= "table" or getmetatable(value) ~= Error then return false end
  return class == nil or Error.is(value, class)
end

--- Makes an error.
---@param class string
---@param message string
---@param fields? table
---@param level? integer of the call to blame, as for error(); 1 is the caller
---@return moonbase.Error
---@local
function errors.new(class, message, fields, level)
  local err = fields or {}
  err.class = class
  err.message = message
  for _, flag in ipairs { "connection_dead", "transaction_dead", "retryable", "sent",
    "commit_unknown" } do
    err[flag] = err[flag] or false
  end
  err.traceback = debug.traceback("", (level or 1) + 1)
  return setmetatable(err, Error)
end

--- Raises a UsageError.
---@param format string
---@param ... any
---@local
function errors.usage(format, ...)
  error(errors.new("UsageError", format:format(...), nil, 2), 0)
end

-- Raises what was caught, unless it is a DatabaseError; gives that otherwise.
local function sift(ok, ...)
  if ok then return true, ... end
  local err = ...
  if errors.is(err, "DatabaseError") then return false, err end
  error(err, 0)
end

--- As pcall, but catches DatabaseErrors only: other errors, which are mistakes in
--- the program, go on.
---@param f function
---@param ... any
---@return boolean ok
---@return any ... results, or the error
function errors.pcall(f, ...)
  return sift(pcall(f, ...))
end

return errors
