--- Updates that any part of a program describes, and one place that runs them: each list
--- in one transaction.
---
---     local commands = require "moonbase.commands"
---     local AddEntry = commands.define("AddEntry", function(self, tx)
---       tx:exec("insert into entry (text) values (?)", self.text)
---     end)
---     local executor = commands.executor(db, { write_exclusive = true })
---     executor:execute { AddEntry { text = "a" }, AddEntry { text = "b" } }
---@module moonbase.commands

local moonbase = require "moonbase"
local core = require "moonbase.core"
local errors = require "moonbase.errors"
local keys = require "moonbase.commands.keys"
local suggest = require "moonbase.suggest"

local commands = {}

-- --- Commands ----------------------------------------------------------------------

local function is_callable(value)
  if type(value) == "function" then return true end
  local metatable = getmetatable(value)
  return type(metatable) == "table" and metatable.__call ~= nil
end

local function get(value, name)
  return value[name]
end

-- Whether a value is a table or a userdata with such a method.
local function has_method(value, name)
  if type(value) ~= "table" and type(value) ~= "userdata" then return false end
  local ok, method = pcall(get, value, name)
  return ok and is_callable(method)
end

local function is_command(value)
  return type(value) == "function" or has_method(value, "execute")
end

-- constructor -> its name; an easy mistake is to put one into a list.
local constructors = setmetatable({}, { __mode = "k" })

--- Defines a kind of command.  The result is called with a table of fields, of which it
--- makes a command with a copy.
---@param name string what errors call it
---@param fn fun(self: moonbase.Command, tx: moonbase.Transaction): ...
---@return moonbase.CommandConstructor
function commands.define(name, fn)
  if type(name) ~= "string" or name == "" then
    errors.usage "define wants the name of the command first, a string"
  end
  if type(fn) ~= "function" then
    errors.usage("define wants the function of %s, and got a %s", name, type(fn))
  end
  local class = { __name = name, __index = { execute = fn } }

  local function construct(_, fields)
    if fields ~= nil and type(fields) ~= "table" then
      errors.usage("%s wants a table of fields, and got a %s", name, type(fields))
    end
    local command = {}
    for field, value in pairs(fields or {}) do command[field] = value end
    if command.execute ~= nil then
      errors.usage("%s cannot have a field execute: that is what runs it", name)
    end
    return setmetatable(command, class)
  end

  local constructor = setmetatable({ name = name }, { __call = construct })
  constructors[constructor] = name
  return constructor
end

-- What errors call a command: the name that it was defined with (or its metatable has),
-- else where its function is.
local function name_of(command)
  local metatable = getmetatable(command)
  local name = type(metatable) == "table" and metatable.__name
  if type(name) == "string" then return name end
  local fn = type(command) == "function" and command or command.execute
  local info = type(fn) == "function" and debug.getinfo(fn, "S")
  if not info or info.what == "C" then return type(command) end
  return ("%s:%d"):format(info.short_src, info.linedefined)
end

-- --- Lists -------------------------------------------------------------------------

-- Raises a UsageError that belongs to a position of a list.
local function refuse(position, format, ...)
  error(errors.new("UsageError", ("execute: " .. format):format(...),
    { command_index = position }, 3), 0)
end

local function is_length(value)
  return type(value) == "number" and value >= 0 and value == math.floor(value)
end

-- The last position of a list.  Its field n counts where it is larger.
local function length_of(list)
  local n = 0
  for key, value in pairs(list) do
    if key == "n" then
      if not is_length(value) then errors.usage "execute: n is no length of a list" end
      n = math.max(n, value)
    elseif is_length(key) and key > 0 then
      n = math.max(n, key)
    else
      errors.usage("execute: %s is no position of a list", tostring(key))
    end
  end
  return n
end

local function check_entry(entry, position)
  if entry == nil then refuse(position, "the list has a hole at %d", position) end
  if is_command(entry) then return end
  if constructors[entry] then
    refuse(position, "entry %d is what makes commands of the kind %s, and none itself: call it",
      position, constructors[entry])
  end
  refuse(position, "entry %d is a %s, and no command (a function, or what has execute(self, tx))",
    position, type(entry))
end

-- A list of its own: what happens to the caller's meanwhile changes nothing.
local function copy_list(list)
  if type(list) ~= "table" then
    errors.usage("execute wants a list of commands, and got a %s", type(list))
  end
  if is_command(list) then
    errors.usage("execute wants a list of commands, and got one (%s): put it into { }",
      name_of(list))
  end
  local copy = { n = length_of(list) }
  for i = 1, copy.n do
    check_entry(list[i], i)
    copy[i] = list[i]
  end
  return copy
end

-- --- Running -----------------------------------------------------------------------

local function call(command, tx)
  if type(command) == "function" then return command(tx) end
  return command:execute(tx)
end

-- Says which command an error object belongs to.  One that comes out of a list in a list
-- tells both; one that comes again is told once.
local function blame(err, list, position)
  if not errors.is(err) then return end
  err.command, err.command_index = name_of(list[position]), position
  local place = ("command %d (%s): "):format(position, err.command)
  local message = tostring(err.message)
  if message:sub(1, #place) ~= place then err.message = place .. message end
end

local function judge(list, position, ok, ...)
  if ok then return ... end
  local err = ...
  blame(err, list, position)
  error(err, 0)
end

local function blame_usage(list, position, format, ...)
  local err = errors.new("UsageError", format:format(...), nil, 2)
  blame(err, list, position)
  error(err, 0)
end

-- Runs a list in a transaction: the results; or what a command has failed with, and its
-- position.
local function run(list, tx)
  local results = { n = list.n }
  for i = 1, list.n do
    local first, second = judge(list, i, pcall(call, list[i], tx))
    if not first and second ~= nil then return first, second, i end
    if tx:is_closed() then
      blame_usage(list, i, "it has ended the transaction, which is for the executor to do")
    end
    results[i] = first
  end
  return results
end

-- --- Running once ------------------------------------------------------------------

-- How often a key is looked for again when somebody else seems to have taken it.
local most_conflicts = 10
local usual_attempts = 5

-- What a call gave, behind true; or false, a DatabaseError, and whether it was raised: a
-- handle with errors = "return" returns it.
local function sift(ok, first, second, ...)
  if not ok then return false, first, true end
  if first == nil and select("#", ...) == 0 and errors.is(second, "DatabaseError") then
    return false, second, false
  end
  return true, first, second, ...
end

local function try(fn, ...)
  return sift(moonbase.pcall(fn, ...))
end

-- Whether a transaction is open: that of a list around this one, or a sandbox's.
local function is_inside(job)
  return job.joined or core.kind(job.session) == "Transaction"
end

-- A statement that fails may spoil the transaction around it, so inside one it gets a
-- savepoint.
local function guard(job, fn)
  local x = job.session
  if not is_inside(job) then return fn(x, job.table, job.key) end
  return x:transaction(function(tx) return fn(tx, job.table, job.key) end)
end

-- Where CREATE TABLE would commit the transaction around it, it goes by another connection; a
-- sandbox has none, so by one of its Database.
local function create_outside(job)
  local db = job.database
  if core.kind(db) == "Transaction" then db = core.extra(db).database end
  local conn = db:with { errors = "raise" }:connect()
  local ok, err = pcall(keys.create, conn, job.table)
  conn:close()
  if not ok then error(err, 0) end
end

local function create_table(job)
  local capability = job.session:with { errors = "raise" }:capability()
  if is_inside(job) and not capability.transactional_ddl then return create_outside(job) end
  return guard(job, keys.create)
end

-- The stored text, or nil.  The table is created when it is missed, and not before: who may
-- use it need not be allowed to create it.
local function find(job)
  local ok, found, raised = try(guard, job, keys.find)
  if ok or found.class ~= "SyntaxError" then return ok, found, raised end
  -- Another one who has created it at the same time is no failure.
  local created, problem = try(create_table, job)
  ok, found, raised = try(guard, job, keys.find)
  if not ok and not created and found.class == "SyntaxError" then found = problem end
  return ok, found, raised
end

-- The results that are stored, where a text was found.  A claim without results can be seen
-- only by the transaction that has made it, or where transactions see what is not
-- committed: then the claim to come waits for the other one.
local function read(job, text)
  if not text or text == "" and not job.joined then return nil end
  if text == "" then
    errors.usage "execute: the key is that of a list that this one is within, which has not ended"
  end
  return keys.decode(text)
end

-- Takes the key, runs the list, and stores the results.
local function run_claimed(job, tx)
  job.claimed, job.finished, job.n_attempts = false, false, job.n_attempts + 1
  keys.claim(tx, job.table, job.key)
  -- Nobody has committed this key: what was unknown of an earlier attempt is known now.
  job.claimed, job.unknown = true, nil
  local results, reason, position = run(job.list, tx)
  if not results then return results, reason, position end
  local text, wrong = keys.encode(results)
  if not text then
    blame_usage(job.list, wrong, "it gave a %s: with a key there can be stored nil, booleans, "
      .. "numbers and strings", type(results[wrong]))
  end
  keys.store(tx, job.table, job.key, text)
  job.finished = true
  return results
end

-- Whether a claim was refused, and nothing was run, because another transaction has taken the
-- key, or wants it at the same time.
local function is_conflict(job, err)
  if job.claimed then return false end
  return err.constraint_kind == "primary_key" or err.constraint_kind == "unique"
    or err.class == "SerializationError" and not job.joined
end

-- After an unknown outcome: has the next transaction take what is left of the attempts and
-- of the time, and says whether that is anything.
local function reduce_retry(job)
  local attempts = (job.retry.attempts or usual_attempts) - job.n_attempts
  local time = job.retry.max_time and job.retry.max_time - os.difftime(os.time(), job.start)
  local options = {}
  for name, value in pairs(job.options) do options[name] = value end
  options.retry = { attempts = attempts, max_time = time }
  job.options = options
  return attempts > 0 and (not time or time > 0)
end

local function may_look_again(job, err)
  if err.commit_unknown and job.finished and job.retry then
    job.unknown = err
    return reduce_retry(job)
  end
  job.n_conflicts = job.n_conflicts + 1
  return is_conflict(job, err) and job.n_conflicts < most_conflicts
end

local function give_up(job, err, raised)
  if is_conflict(job, err) and err.constraint_kind then
    err = errors.new("SerializationError", "another transaction has taken the key, and this one "
      .. "cannot see what it has stored", { retryable = true, cause = err }, 2)
  end
  if job.unknown and job.unknown ~= err then
    job.unknown.errors = job.unknown.errors or {}
    table.insert(job.unknown.errors, err)
    err = job.unknown
  end
  if raised then error(err, 0) end
  return nil, err
end

local function run_once(job)
  local function work(tx) return run_claimed(job, tx) end
  while true do
    job.claimed, job.finished = false, false
    local ok, first, second, third = find(job)
    local stored = ok and read(job, first)
    if stored then return stored end
    if ok then
      ok, first, second, third = try(job.session.transaction, job.session, work, job.options)
    end
    if ok and first then return first end
    if ok then return first, second, third end
    if not may_look_again(job, first) then return give_up(job, first, second) end
  end
end

-- --- Executors ---------------------------------------------------------------------

local Executor = { __name = "moonbase.Executor" }
Executor.__index = Executor

local option_types = {
  write_exclusive = "boolean", retry = "table", isolation = "string", timeout = "number",
  key_table = "string",
}

local execute_types = { key = "string" }

local function check_options(given, types, what)
  if type(given) ~= "table" then
    errors.usage("%s wants a table of options, and got a %s", what, type(given))
  end
  for name, value in pairs(given) do
    local wanted = types[name]
    if not wanted then
      errors.usage("%s is no option of %s%s", tostring(name), what, suggest(name, types))
    end
    if type(value) ~= wanted then
      errors.usage("option %s of %s: wants a %s, and got a %s", name, what, wanted, type(value))
    end
  end
end

local function check_executor(value, name)
  if type(value) ~= "table" or getmetatable(value) ~= Executor then
    errors.usage("%s belongs to an executor, as executor:%s(…)", name, name)
  end
end

--- Makes what runs commands on a database.
---@param db moonbase.Database
---@param given? moonbase.ExecutorOptions
---@return moonbase.Executor
function commands.executor(db, given)
  if given == nil then given = {} end
  check_options(given, option_types, "executor")
  if has_method(db, "commit") then
    errors.usage "executor wants a Database; executor:with(tx) runs in a transaction"
  end
  if not has_method(db, "transaction") or not has_method(db, "connect") then
    errors.usage("executor wants a Database, and got %s", tostring(db))
  end
  return setmetatable({
    database = db,
    key_table = given.key_table or keys.default_table,
    options = {
      exclusive = given.write_exclusive or nil, retry = given.retry, isolation = given.isolation,
      timeout = given.timeout,
    },
  }, Executor)
end

--- The same executor inside a transaction, in which every list gets a savepoint.
---@param tx moonbase.Transaction
---@return moonbase.Executor
function Executor:with(tx)
  check_executor(self, "with")
  if not has_method(tx, "transaction") or not has_method(tx, "commit") then
    errors.usage("with wants a transaction, and got %s", tostring(tx))
  end
  return setmetatable({
    database = self.database, key_table = self.key_table, options = self.options,
    transaction = tx,
  }, Executor)
end

-- The key of execute's options, or nil.
local function key_of(given)
  if given == nil then return nil end
  check_options(given, execute_types, "execute")
  local key = given.key
  if key and (key == "" or #key > keys.longest) then
    errors.usage("option key of execute: wants 1 to %d bytes, and got %d", keys.longest, #key)
  end
  return key
end

--- Runs commands in their order, in one transaction, or inside the one that is open.
---
--- Gives what each has returned first.  The first error rolls all back and goes on; what a
--- command reports by nil or false and a second value rolls back too, and is given with the
--- command's position behind it.
---@param list (moonbase.Command|userdata|function)[]
---@param given? moonbase.ExecuteOptions
---@return moonbase.CommandResults|nil|false results
---@return any reason
---@return integer? position
function Executor:execute(list, given)
  check_executor(self, "execute")
  local key = key_of(given)
  list = copy_list(list)
  if list.n == 0 then return { n = 0 } end
  local x, options = self.database, self.options
  local tx = self.transaction or x:current()
  -- A savepoint has no options but this one.
  if tx then x, options = tx, { timeout = options.timeout } end
  if not key then
    return x:transaction(function(inner) return run(list, inner) end, options)
  end
  return run_once {
    session = x, joined = tx ~= nil, database = self.database, options = options,
    retry = options.retry, list = list, table = self.key_table, key = key,
    start = os.time(), n_attempts = 0, n_conflicts = 0,
  }
end

return commands
