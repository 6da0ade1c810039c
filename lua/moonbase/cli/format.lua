--- Rows as a table for people, as CSV or as JSON, written while they come.
---
--- A format is made for an output and the columns of a result; row(values) takes a
--- list with its length in n, finish(count) the number of rows.
---@module moonbase.cli.format

local core = require "moonbase.core"
local text = require "moonbase.cli.text"

local format = {}

-- Declared types whose values are bytes and not text.
local byte_types = {
  blob = true, tinyblob = true, mediumblob = true, longblob = true, bytea = true, binary = true,
  varbinary = true,
}

-- Declared types of which LuaJIT has integers above 2^53 as strings of digits.
local integer_types = { int = true, integer = true, bigint = true, int8 = true }

local function is_bytes(value, column)
  return byte_types[column.type] or not text.is_utf8(value)
end

local function is_integer_text(value, column)
  return integer_types[column.type] and value:find "^%-?%d+$" ~= nil
end

-- --- Values in JSON ------------------------------------------------------------

local escapes = {
  ['"'] = '\\"', ["\\"] = "\\\\", ["\b"] = "\\b", ["\f"] = "\\f", ["\n"] = "\\n", ["\r"] = "\\r",
  ["\t"] = "\\t",
}

local function json_string(s)
  return '"' .. s:gsub('[%c"\\]', function(c)
    return escapes[c] or ("\\u%04x"):format(c:byte())
  end) .. '"'
end

local json_value

-- An array, whose elements are of the type before the brackets.
local function json_list(list, column)
  local element = { type = column.type and column.type:match "^[^%[]*" }
  local parts = {}
  for i, value in ipairs(list) do parts[i] = json_value(value, element) end
  return "[" .. table.concat(parts, ",") .. "]"
end

function json_value(value, column)
  if value == nil or value == core.null then return "null" end
  if type(value) == "table" then return json_list(value, column) end
  if type(value) == "boolean" then return tostring(value) end
  if type(value) == "number" then
    if value ~= value or value == math.huge or value == -math.huge then return "null" end
    return text.number(value)
  end
  if is_integer_text(value, column) then return value end
  if is_bytes(value, column) then return '"' .. text.base64(value) .. '"' end
  return json_string(value)
end

-- --- CSV (RFC 4180) ------------------------------------------------------------

local function quote(field)
  return '"' .. field:gsub('"', '""') .. '"'
end

-- NULL stays without quotes, so that it can be told from a text.
local function csv_field(value, column, null)
  if value == nil then return null end
  if type(value) == "number" then return text.number(value) end
  if type(value) == "boolean" then return tostring(value) end
  if type(value) == "table" then return quote(json_list(value, column)) end
  if is_bytes(value, column) then return text.base64(value) end
  if value == "" or value == null or value:find '[",\r\n]' then return quote(value) end
  return value
end

---@param write fun(s: string)
---@param columns moonbase.Column[]
---@param options { null: string? }
function format.csv(write, columns, options)
  local null = options.null or ""
  if null:find '[",\r\n]' then null = quote(null) end
  local fields = {}
  for i, column in ipairs(columns) do
    fields[i] = column.name:find '[",\r\n]' and quote(column.name) or column.name
  end
  write(table.concat(fields, ",") .. "\r\n")
  return {
    row = function(values)
      for i = 1, #columns do fields[i] = csv_field(values[i], columns[i], null) end
      write(table.concat(fields, ",") .. "\r\n")
    end,
    finish = function() end,
  }
end

-- --- JSON ----------------------------------------------------------------------

-- Of two columns with one name the last counts, as in a row of Moonbase's.
local function json_keys(columns)
  local keys, last = {}, {}
  for i, column in ipairs(columns) do last[column.name] = i end
  for i, column in ipairs(columns) do
    keys[i] = last[column.name] == i and json_string(column.name) .. ":"
  end
  return keys
end

---@param write fun(s: string)
---@param columns moonbase.Column[]
function format.json(write, columns)
  local keys = json_keys(columns)
  local separator = "[\n"
  return {
    row = function(values)
      local members = {}
      for i, column in ipairs(columns) do
        if keys[i] then members[#members + 1] = keys[i] .. json_value(values[i], column) end
      end
      write(separator .. "{" .. table.concat(members, ",") .. "}")
      separator = ",\n"
    end,
    finish = function(count)
      write(count == 0 and "[]\n" or "\n]\n")
    end,
  }
end

-- --- Table ---------------------------------------------------------------------

-- Rows that decide how wide columns are; later ones may stick out.
local measured_rows = 1000

local function cell_text(value, column, null)
  if value == nil then return null end
  if type(value) == "number" then return text.number(value) end
  if type(value) == "boolean" then return tostring(value) end
  if type(value) == "table" then return text.visible(json_list(value, column)) end
  if is_bytes(value, column) then return text.hex(value) end
  return text.visible(value)
end

local function pad(cell, width, right)
  local blanks = (" "):rep(width - text.width(cell))
  return right and blanks .. cell or cell .. blanks
end

local function is_number(value, column)
  return type(value) == "number" or type(value) == "string" and is_integer_text(value, column)
end

---@param write fun(s: string)
---@param columns moonbase.Column[]
---@param options { null: string? }
function format.table(write, columns, options)
  local null = text.visible(options.null or "NULL")
  local held = {}
  local widths, right = {}, {}

  local function write_line(cells, is_header)
    local padded = {}
    for i = 1, #columns do padded[i] = pad(cells[i], widths[i], right[i] and not is_header) end
    write((table.concat(padded, "  "):gsub(" +$", "")) .. "\n")
  end

  local function write_held()
    local names, rules = {}, {}
    for i, column in ipairs(columns) do
      names[i] = text.visible(column.name)
      widths[i] = math.max(widths[i] or 0, text.width(names[i]))
      rules[i] = ("-"):rep(widths[i])
      if right[i] then names[i] = pad(names[i], widths[i], true) end
    end
    write_line(names, true)
    write_line(rules, true)
    for _, cells in ipairs(held) do write_line(cells) end
    held = nil
  end

  -- A column stands at the right when all that it has are numbers.
  local function measure(values, cells)
    for i, column in ipairs(columns) do
      widths[i] = math.max(widths[i] or 0, text.width(cells[i]))
      if values[i] ~= nil then
        right[i] = right[i] ~= false and is_number(values[i], column)
      end
    end
  end

  return {
    row = function(values)
      local cells = {}
      for i, column in ipairs(columns) do cells[i] = cell_text(values[i], column, null) end
      if not held then return write_line(cells) end
      measure(values, cells)
      held[#held + 1] = cells
      if #held == measured_rows then write_held() end
    end,
    finish = function(count)
      if held then write_held() end
      write(("(%d row%s)\n"):format(count, count == 1 and "" or "s"))
    end,
  }
end

return format
