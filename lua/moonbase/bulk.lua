--- Many statements, or many rows, in one call.
---@module moonbase.bulk

local core = require "moonbase.core"
local errors = require "moonbase.errors"
local sql = require "moonbase.sql"
local suggest = require "moonbase.suggest"
local transaction = require "moonbase.transaction"
local values = require "moonbase.values"

local bulk = {}

-- Rows that are handed to the core at once: few at first, then as many as are about
-- this large together.
local first_rows, most_rows, wanted_size = 256, 8192, 4194304
-- Rows after which progress is told.
local told_rows = 1000

-- Inside a transaction already: nothing around it is needed.
local function in_transaction(x, fn)
  if transaction.nests(x) then return fn(x) end
  return transaction.run(x, fn)
end

local function is_plain_table(value)
  return type(value) == "table" and getmetatable(value) == nil
end

local function is_fragment(value)
  return type(value) == "table" and getmetatable(value) == values.Fragment
end

local function run_one_by_one(tx, list)
  local results = {}
  for i = 1, core.rawlen(list) do results[i] = core.collect(tx, list[i], i) end
  return results
end

-- As many at once as the connection takes.
local function run_together(tx, list)
  local results, taken = {}, 1
  local n = core.rawlen(list)
  for i = 1, n do
    if core.batch_add(tx, list[i], i) or i == n then
      core.batch_send(tx)
      while taken <= i do taken = core.batch_take(tx, nil, results, taken, i) end
    end
  end
  core.batch_end(tx)
  return results
end

local function run_batch(tx, list)
  if core.rawlen(list) > 1 and core.takes_batches(tx) then return run_together(tx, list) end
  return run_one_by_one(tx, list)
end

--- Runs several statements in one transaction.
---@param x moonbase.Session
---@param list table[] each {sql, parameter, …} or {sql, {name = parameter, …}}
---@return moonbase.BatchResult[]
function bulk.batch(x, list)
  core.check_session(x)
  if type(list) ~= "table" then
    errors.usage("batch wants a list of {sql, …}, and got a %s", type(list))
  end
  for i = 1, core.rawlen(list) do
    local entry = list[i]
    if not is_plain_table(entry) or type(entry[1]) ~= "string" and not is_fragment(entry[1]) then
      errors.usage("batch: entry %d is no {sql, …}", i)
    end
  end
  return transaction.deliver(x, in_transaction, function(tx) return run_batch(tx, list) end)
end

-- An iterator over chunks of about as many rows as are wanted: a list, and the first and
-- last row in it.
local function chunks_of_list(rows)
  local n, at = core.rawlen(rows), 1
  return function(wanted)
    if at > n then return nil end
    local first = at
    at = math.min(at + wanted, n + 1)
    return rows, first, at - 1
  end
end

local function chunks_of_function(next_row)
  local done = false
  return function(wanted)
    if done then return nil end
    local list, n = {}, 0
    while n < wanted do
      local row = next_row()
      if row == nil then
        done = true
        break
      end
      n = n + 1
      list[n] = row
    end
    if n == 0 then return nil end
    return list, 1, n
  end
end

local function chunks_of(rows, name)
  if is_plain_table(rows) then return chunks_of_list(rows) end
  if type(rows) == "function" then return chunks_of_function(rows) end
  errors.usage("%s wants a list of rows, or a function that gives one after the other, "
    .. "and got a %s", name, type(rows))
end

-- How many rows are wanted next, when n were of this size.
local function rows_wanted(n, size)
  return math.max(1, math.min(most_rows, math.floor(wanted_size * n / (size + 1))))
end

-- Runs a statement for each row; rows are numbered from start.
local function run_rows(statement, chunks, start, progress)
  local affected, id, number, wanted = 0, nil, start, first_rows
  local function rows_to_tell() return told_rows - (number - 1) % told_rows end
  while true do
    local list, first, last = chunks(progress and math.min(wanted, rows_to_tell()) or wanted)
    if not list then break end
    local count, first_id, size = core.insert_rows(statement, list, first, last, number)
    affected, id = affected + count, id or first_id
    number = number + (last - first + 1)
    wanted = rows_wanted(last - first + 1, size)
    if progress and rows_to_tell() == told_rows then progress(number - 1) end
  end
  if progress and rows_to_tell() < told_rows then progress(number - 1) end
  return affected, id, number
end

--- Runs a prepared statement once for each row, all in one transaction.
---@param statement moonbase.Statement
---@param rows table[]|fun(): table?
---@return integer affected of all
---@return integer? id the first that was generated
function bulk.exec_many(statement, rows)
  local session, text = core.source(statement)
  local chunks = chunks_of(rows, "exec_many")
  return transaction.deliver(session, in_transaction, function(tx)
    local own = tx:prepare(text)
    local affected, id = run_rows(own, chunks, 1)
    own:close()
    return affected, id
  end)
end

local option_types = { on_conflict = "string", progress = "function", commit_every = "number" }

local function check_options(given)
  if type(given) ~= "table" then
    errors.usage("bulk_insert options are a table, and not a %s", type(given))
  end
  for name, value in pairs(given) do
    local wanted = option_types[name]
    if not wanted then
      errors.usage("%s is no option of bulk_insert%s", tostring(name),
        suggest(name, option_types))
    end
    if type(value) ~= wanted then
      errors.usage("option %s of bulk_insert: wants a %s, and got a %s", name, wanted, type(value))
    end
  end
  if given.on_conflict and given.on_conflict ~= "skip" then
    errors.usage 'option on_conflict of bulk_insert: wants "skip"'
  end
  if given.commit_every and (given.commit_every < 1
    or given.commit_every ~= math.floor(given.commit_every)) then
    errors.usage "option commit_every of bulk_insert: wants a whole number of at least 1"
  end
end

-- The clause that leaves out rows which break a unique constraint.
local function skip_clause(x, column)
  local clause = x:capability().insert_skip
  if not clause then
    error(errors.new("UnsupportedError",
      "the database cannot leave out rows that break a unique constraint"), 0)
  end
  local name = core.text(x, column)
  return " " .. clause:gsub(":c", function() return name end)
end

-- The statement whose parameters are the columns, and how its placeholders are written:
-- a COPY has none of its own.
local function insert_text(x, table_name, columns, given)
  local into = table_name
  if type(table_name) == "string" then
    into = sql.identifier(table_name)
  elseif not is_fragment(table_name) then
    errors.usage("bulk_insert wants the name of a table, and got a %s", type(table_name))
  end
  if type(columns) ~= "table" or next(columns) == nil then
    errors.usage "bulk_insert wants the list of the columns"
  end
  local n, names, places = 0, {}, {}
  for _ in pairs(columns) do n = n + 1 end
  for i = 1, n do -- one that is nil is refused
    names[i] = sql.identifier(columns[i])
    places[i] = "?"
  end
  local target = core.text(x, sql(":t (:c)", { t = into, c = sql.join(names) }))
  if x:capability().bulk_insert == "copy" and not given.on_conflict then
    return "copy " .. target .. " from stdin", { placeholders = false }
  end
  return "insert into " .. target .. " values (" .. table.concat(places, ", ") .. ")"
    .. (given.on_conflict and skip_clause(x, names[1]) or ""), { placeholders = true }
end

local function insert_some(x, text, style, chunks, start, progress)
  return transaction.run(x, function(tx)
    local statement = tx:with(style):prepare(text)
    local affected, _, number = run_rows(statement, chunks, start, progress)
    statement:close()
    return affected, number
  end)
end

-- Rows in transactions of `every` rows each: what was committed stays when a later
-- one fails.
local function insert_in_parts(x, text, style, chunks, every, progress)
  local total, start = 0, 1
  local list, first, last
  local function next_part(wanted)
    if not list or first > last then list, first, last = chunks(wanted) end
    if not list then return nil end
    return list
  end
  while next_part(first_rows) do
    local left = every
    local function part(wanted)
      if left == 0 or not next_part(wanted) then return nil end
      local to = math.min(last, first + math.min(left, wanted) - 1)
      local from = first
      left, first = left - (to - from + 1), to + 1
      return list, from, to
    end
    local affected, number = insert_some(x, text, style, part, start, progress)
    total, start = total + affected, number
  end
  return total
end

--- Inserts many rows, by the fastest way that the database has.
---@param x moonbase.Session
---@param table_name string|moonbase.Fragment
---@param columns string[]
---@param rows table[]|fun(): table?
---@param given? moonbase.BulkOptions
---@return integer inserted
function bulk.bulk_insert(x, table_name, columns, rows, given)
  core.check_session(x)
  if given == nil then given = {} end
  check_options(given)
  if given.commit_every and transaction.nests(x) then
    errors.usage "option commit_every of bulk_insert: there is a transaction open around it"
  end
  local chunks = chunks_of(rows, "bulk_insert")
  return transaction.deliver(x, function(raising)
    local text, style = insert_text(raising, table_name, columns, given)
    if given.commit_every then
      return insert_in_parts(raising, text, style, chunks, given.commit_every, given.progress)
    end
    return (insert_some(raising, text, style, chunks, 1, given.progress))
  end)
end

return bulk
