--- What Rows can do beside giving one row after the other.
---@module moonbase.rows

local core = require "moonbase.core"
local errors = require "moonbase.errors"

local rows = {}

local function close_and_give(result, ok, ...)
  result:close()
  if not ok then error((...), 0) end
  return ...
end

local function call_each(result, fn)
  while true do
    local row, err = result:next()
    if err ~= nil then return nil, err end
    if row == nil then return nil end
    local value = fn(row)
    if value ~= nil then return value end
  end
end

--- Calls fn with each row; stops at the first value that is not nil, and gives it.
--- The rows are closed afterwards, whatever happens.
---@param result moonbase.Rows
---@param fn fun(row: table): any
---@return any
function rows.each(result, fn)
  core.returns_errors(result) -- raises for what are no Rows
  if type(fn) ~= "function" then
    errors.usage("each wants a function, and got a %s", type(fn))
  end
  return close_and_give(result, pcall(call_each, result, fn))
end

local function take_one(result)
  local first, err = result:next()
  local second
  if first ~= nil then second, err = result:next() end
  if err ~= nil then return nil, err end
  if first ~= nil and second == nil then return first end
  err = errors.new("RowCountError", first == nil and "no row came, and one was expected"
    or "more than one row came, and one was expected",
    { expected = 1, got = first == nil and 0 or 2 }, 2)
  if core.returns_errors(result) then return nil, err end
  error(err, 0)
end

--- The only row; RowCountError when there is none, or another one.
---@param result moonbase.Rows
---@return table
function rows.one(result)
  core.returns_errors(result)
  return close_and_give(result, pcall(take_one, result))
end

-- A function that makes a row of its values, for a shape.
function core.helpers.row_builder(shape)
  if not shape.build then
    local arguments, fields = {}, {}
    for i = 1, #shape do
      arguments[i] = "v" .. i
      fields[i] = ("[%q]=v%d"):format(shape[i], i)
    end
    local text = ("return function(%s) return {%s} end"):format(table.concat(arguments, ","),
      table.concat(fields, ","))
    shape.build = assert((rawget(_G, "loadstring") or load)(text))()
  end
  return shape.build
end

-- The columns of a shape, for a user to keep and change.
function core.helpers.copy_columns(shape)
  local copy = {}
  for i, column in ipairs(shape.columns) do
    copy[i] = { name = column.name, type = column.type, nullable = column.nullable,
      table = column.table }
  end
  return copy
end

return rows
