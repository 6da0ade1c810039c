--- Fragments of SQL: texts with their values, to be put together.
---
--- A fragment is a tree that is written out only when a statement runs, since
--- what counts as a placeholder, and how a name is quoted, is known only then.
--- Values never become text: each ends as a parameter.
---@module moonbase.sql

local core = require "moonbase.core"
local errors = require "moonbase.errors"
local suggest = require "moonbase.suggest"
local values = require "moonbase.values"

local Fragment = values.Fragment

local sql = {}

local function is_fragment(value)
  return type(value) == "table" and getmetatable(value) == Fragment
end

local function new(node)
  return setmetatable(node, Fragment)
end

function Fragment.__tostring(fragment)
  return ("moonbase.sql(%s)"):format(fragment.text or fragment.write_name)
end

local write -- of a node, below

-- What is being written: pieces of text, and the values for its placeholders,
-- which are $1, $2 …, so that a bare ? in a text stays an operator.
local function put_value(out, value)
  out.n = out.n + 1
  out.values[out.n] = value
  out[#out + 1] = "$" .. out.n
end

local function put_text(out, text)
  -- A placeholder must not join with a letter or digit behind it.
  if #out > 0 and out[#out]:find "^%$%d+$" and text:find "^[%w_$\128-\255]" then
    out[#out + 1] = " "
  end
  if text ~= "" then out[#out + 1] = text end
end

local function put(out, value)
  if is_fragment(value) then write(out, value) else put_value(out, value) end
end

-- The values of a text by number, and a check that all of them are used.
local function arguments_of(node, style, count)
  local given = node.arguments
  if style == ":" then
    if given.n ~= 1 or type(given[1]) ~= "table" or getmetatable(given[1]) then
      errors.usage("the fragment has named placeholders: give one table of parameters (in: %s)",
        node.text)
    end
    return given[1]
  end
  if given.n == 1 and type(given[1]) == "table" and not getmetatable(given[1]) then
    if style == "none" and next(given[1]) == nil then return {} end
    errors.usage("named parameters are given, but the fragment has none (in: %s)", node.text)
  end
  -- A row of a batch is as long as the statement is wide.
  if given.n < 0 and core.rawlen(given) <= count then return given end
  if given.n ~= count then
    errors.usage("the fragment has %d parameters, but %d are given (in: %s)", count,
      given.n < 0 and core.rawlen(given) or given.n, node.text)
  end
  return given
end

local function check_names(node, used)
  for name in pairs(node.arguments[1]) do
    if not used[name] then
      errors.usage("parameter :%s is given but not used in the fragment%s (in: %s)",
        tostring(name), suggest(name, used), node.text)
    end
  end
end

local function write_text(out, node)
  local text = node.text
  local style, count, places = core.places(text)
  local given = arguments_of(node, style, count)
  local used = {}
  local at = 1
  for i = 1, #places, 3 do
    local start, size, parameter = places[i], places[i + 1], places[i + 2]
    put_text(out, text:sub(at, start - 1))
    if style == ":" then
      local name = text:sub(start + 1, start + size - 1)
      used[name] = true
      put(out, given[name])
    else
      put(out, given[parameter])
    end
    at = start + size
  end
  put_text(out, text:sub(at))
  if style == ":" then check_names(node, used) end
end

local writers = {
  text = write_text,

  identifier = function(out, node)
    local quoted = {}
    for i, name in ipairs(node.names) do quoted[i] = core.quote(name) end
    put_text(out, table.concat(quoted, "."))
  end,

  raw = function(out, node)
    put_text(out, node.text)
  end,

  join = function(out, node)
    put_text(out, node.open)
    for i, item in ipairs(node.items) do
      if i > 1 then put_text(out, node.separator) end
      put_text(out, node.item_open)
      put(out, item)
      put_text(out, node.item_close)
    end
    put_text(out, node.close)
  end,

  list = function(out, node)
    for i = 1, node.list.n do
      if i > 1 then put_text(out, ", ") end
      put(out, node.list[i])
    end
  end,
}

function write(out, node)
  writers[node.write_name](out, node)
end

-- Joins a text or fragment and its arguments into one text and its parameters.
function core.helpers.expand(text, ...)
  local out = { n = 0, values = {} }
  if is_fragment(text) then
    if select("#", ...) > 0 then
      errors.usage "a fragment has its parameters already: none can be given beside it"
    end
    write(out, text)
  else
    local first = ...
    local arguments
    if select("#", ...) == 1 and type(first) == "table"
      and core.kinds[getmetatable(first)] == core.kind_numbers.params then
      arguments = first
    else
      arguments = { n = select("#", ...), ... }
    end
    write_text(out, { text = text, arguments = arguments })
  end
  return table.concat(out), values.params(out.values, out.n)
end

local function copy_list(list, name)
  return values.copy(list, nil, "sql." .. name)
end

local function check_fragments(list, name)
  for i = 1, list.n do
    if not is_fragment(list[i]) then
      errors.usage("sql.%s: item %d is no fragment, but a %s: write sql(…)", name, i,
        type(list[i]))
    end
  end
  return list
end

local function make_text(_, text, ...)
  if type(text) ~= "string" then
    errors.usage("sql(…) wants a text, and got a %s", type(text))
  end
  return new { write_name = "text", text = text, arguments = { n = select("#", ...), ... } }
end

local function combine(list, word, empty, name)
  list = check_fragments(copy_list(list, name), name)
  if list.n == 0 then return new { write_name = "raw", text = empty } end
  return new { write_name = "join", items = list, open = "(", close = ")", item_open = "(",
    item_close = ")", separator = " " .. word .. " " }
end

--- Conditions that must all hold: (a) and (b) …; an empty list holds.
---@param list moonbase.Fragment[]
---@return moonbase.Fragment
function sql.all(list)
  return combine(list, "and", "(1 = 1)", "all")
end

--- Conditions of which one must hold: (a) or (b) …; an empty list does not.
---@param list moonbase.Fragment[]
---@return moonbase.Fragment
function sql.any(list)
  return combine(list, "or", "(1 = 0)", "any")
end

--- Fragments in a row, with a text of SQL between two.
---@param list moonbase.Fragment[]
---@param separator? string ", " by default
---@return moonbase.Fragment
function sql.join(list, separator)
  if separator ~= nil and type(separator) ~= "string" then
    errors.usage("sql.join wants a text between two, and got a %s", type(separator))
  end
  return new { write_name = "join", items = check_fragments(copy_list(list, "join"), "join"),
    open = "", close = "", item_open = "", item_close = "", separator = separator or ", " }
end

--- Values in a row, without parentheses: ?, ?, ?.
---@param list table values, or fragments
---@return moonbase.Fragment
function sql.list(list)
  local copy = copy_list(list, "list")
  if copy.n == 0 then
    errors.usage "sql.list is empty, which no database can read: see sql.is_in"
  end
  return new { write_name = "list", list = copy }
end

--- Rows of values: (?, ?), (?, ?).
---@param rows table[]
---@return moonbase.Fragment
function sql.values(rows)
  local items = {}
  local given = copy_list(rows, "values")
  local wanted
  for i = 1, given.n do
    local list = copy_list(given[i], "values")
    wanted = wanted or list.n
    if list.n ~= wanted or list.n == 0 then
      errors.usage("sql.values: row %d has %d values, and the first %d", i, list.n, wanted)
    end
    items[i] = new { write_name = "list", list = list }
  end
  if #items == 0 then errors.usage "sql.values is empty, which no database can read" end
  return new { write_name = "join", items = items, open = "", close = "", item_open = "(",
    item_close = ")", separator = ", " }
end

--- A name, quoted for the connected database: identifier("schema", "table").
---@param ... string
---@return moonbase.Fragment
function sql.identifier(...)
  local names = { ... }
  if select("#", ...) == 0 then errors.usage "sql.identifier wants names, and got none" end
  for i = 1, select("#", ...) do
    if type(names[i]) ~= "string" then
      errors.usage("sql.identifier wants names, and got a %s", type(names[i]))
    end
  end
  return new { write_name = "identifier", names = names }
end

--- Text that is taken as it is.  Never from outside.
---@param text string
---@return moonbase.Fragment
function sql.raw(text)
  if type(text) ~= "string" then
    errors.usage("sql.raw wants a text, and got a %s", type(text))
  end
  return new { write_name = "raw", text = text }
end

--- column in (values), also right when there are none, and under not.
---@param column string|moonbase.Fragment a name, which is quoted, or a fragment
---@param list table
---@return moonbase.Fragment
function sql.is_in(column, list)
  if type(column) == "string" then column = sql.identifier(column) end
  if not is_fragment(column) then
    errors.usage("sql.is_in wants a column's name or a fragment, and got a %s", type(column))
  end
  local copy = copy_list(list, "is_in")
  if copy.n == 0 then return new { write_name = "raw", text = "(1 = 0)" } end
  return make_text(nil, "(? in (?))", column, new { write_name = "list", list = copy })
end

return setmetatable(sql, { __call = make_text })
