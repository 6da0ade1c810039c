--- Transactions that end by themselves.
---@module moonbase.transaction

local core = require "moonbase.core"
local errors = require "moonbase.errors"
local observe = require "moonbase.observe"
local replicas = require "moonbase.replicas"
local suggest = require "moonbase.suggest"

local transaction = {}

local option_types = {
  isolation = "string", mode = "string", read_only = "boolean", deferrable = "boolean",
  exclusive = "boolean", timeout = "number", retry = "table",
}

local retry_types = { attempts = "number", max_time = "number" }

local function check_types(given, types, what)
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

local function number_of(numbers, word, name)
  if word == nil then return 0 end
  return numbers[word:lower()]
    or errors.usage('option %s of transaction: there is no "%s"%s', name, word,
      suggest(word, numbers))
end

local function check_seconds(value, what)
  if value and not (value > 0 and value < 2 ^ 31) then
    errors.usage("option %s: wants more than 0 seconds", what)
  end
end

local function check_retry(given)
  local attempts = given.attempts
  if attempts and not (attempts >= 1 and attempts == math.floor(attempts)) then
    errors.usage "option attempts of retry: wants a whole number of at least 1"
  end
  check_seconds(given.max_time, "max_time of retry")
end

-- Checks options and turns words into the core's numbers.
local function prepare_options(given, nested)
  if given == nil then return {} end
  if type(given) ~= "table" then
    errors.usage("transaction options are a table, and not a %s", type(given))
  end
  check_types(given, option_types, "transaction")
  if given.retry then
    if nested then errors.usage "option retry belongs to the outermost transaction" end
    check_types(given.retry, retry_types, "retry")
    check_retry(given.retry)
  end
  check_seconds(given.timeout, "timeout of transaction")
  return {
    isolation = number_of(core.isolations, given.isolation, "isolation"),
    mode = number_of(core.modes, given.mode, "mode"),
    read_only = given.read_only, exclusive = given.exclusive,
    deferrable = given.deferrable, timeout = given.timeout,
  }
end

-- The sandbox of a test is a transaction, and those that are begun on it are savepoints; but
-- they are to be what they are on a Database.  So it leaves a function beside itself, which
-- makes the options of a savepoint out of theirs, or gives nil and an error.
local function as_database(x)
  return core.kind(x) == "Transaction" and core.extra(x).as_database
end

--- Whether what is begun on x is a savepoint to the program.
---@param x moonbase.Session
---@return boolean
function transaction.nests(x)
  return core.kind(x) == "Transaction" and not core.extra(x).as_database
end

local function start(x, options, managed)
  local adapt = as_database(x)
  if adapt then
    local adapted, err = adapt(x, options)
    if not adapted then
      if core.options(x).errors == "return" then return nil, err end
      error(err, 0)
    end
    options = adapted
  elseif options.read_only and core.kind(x) == "Database" then
    return replicas.begin(x, options, managed)
  end
  return core.begin(x, options, managed)
end

-- Hooks: what is to be done after the outermost end.  Those of a transaction are
-- a list of { "commit" | "rollback" | "always", function }.
local function run_hooks(list, outcome)
  for _, hook in ipairs(list) do
    if hook[1] == outcome or hook[1] == "always" then
      local ok, err = pcall(hook[2])
      if not ok then
        io.stderr:write(("moonbase: a function given to on_%s has failed: %s\n"):format(
          outcome, tostring(err)))
      end
    end
  end
end

-- An inner transaction has ended: its hooks wait for the outer one.  What was
-- rolled back inside stays rolled back, whatever happens outside.
local function hand_up(list, parent, outcome)
  local extra = core.extra(parent)
  extra.hooks = extra.hooks or {}
  for _, hook in ipairs(list) do
    if outcome == "commit" then
      extra.hooks[#extra.hooks + 1] = hook
    elseif hook[1] ~= "commit" then
      extra.hooks[#extra.hooks + 1] = { "always", hook[2] }
    end
  end
end

local function ended(tx, outcome, err)
  local extra = core.extra(tx)
  if extra.begun then observe.ended(tx, outcome, err) end
  local list = extra.hooks
  if not list then return end
  extra.hooks = nil
  local parent = core.parent(core.original(tx))
  if transaction.nests(parent) then
    hand_up(list, core.original(parent), outcome)
  else
    run_hooks(list, outcome)
  end
end

-- Commits or rolls back, then runs what waited for it, then raises what went
-- wrong.
local function finish(tx, outcome, cause)
  local ok, err = pcall(outcome == "commit" and core.commit or core.rollback, tx)
  if ok or not core.is_open(tx) then
    ended(tx, ok and outcome or "rollback", ok and cause or not ok and err or nil)
  end
  if not ok then error(err, 0) end
  return err
end

--- Commits a transaction that was begun by hand.
---@param tx moonbase.Transaction
---@return true
function transaction.commit(tx)
  return transaction.deliver(tx, finish, "commit")
end

--- Rolls back; inside a function, the function goes on and may return normally.
---@param tx moonbase.Transaction
---@return true
function transaction.rollback(tx)
  return transaction.deliver(tx, finish, "rollback")
end

local function add_hook(tx, kind, fn)
  if type(fn) ~= "function" then
    errors.usage("on_%s wants a function, and got a %s", kind, type(fn))
  end
  if not core.is_open(tx) then
    errors.usage "the transaction has ended (it was committed or rolled back)"
  end
  local extra = core.extra(tx)
  extra.hooks = extra.hooks or {}
  extra.hooks[#extra.hooks + 1] = { kind, fn }
end

--- Has a function called after the outermost transaction has committed, unless
--- this one is rolled back.
---@param tx moonbase.Transaction
---@param fn fun()
function transaction.on_commit(tx, fn)
  add_hook(tx, "commit", fn)
end

--- Has a function called after this transaction, or one around it, was rolled
--- back; after the outermost end.
---@param tx moonbase.Transaction
---@param fn fun()
function transaction.on_rollback(tx, fn)
  add_hook(tx, "rollback", fn)
end

--- Begins a transaction that is ended by hand, or rolled back when it is dropped.
---@param x moonbase.Session
---@param given? moonbase.TransactionOptions
---@return moonbase.Transaction
function transaction.begin(x, given)
  core.check_session(x)
  local options = prepare_options(given, transaction.nests(x))
  if given and given.retry then
    errors.usage "option retry needs a function that can be run again: use transaction(fn)"
  end
  return start(x, options, false)
end

-- Two errors: the first is what happened, the second goes into its list.
local function add_error(err, further)
  if not errors.is(err) then return end
  err.errors = err.errors or {}
  table.insert(err.errors, further)
end

-- fn has ended: nothing in it is lost, neither results (nils too) nor the error.
local function conclude(tx, ok, ...)
  if not ok then
    local err = ...
    if core.is_open(tx) then
      local rolled_back, further = pcall(finish, tx, "rollback", err)
      -- Lua had no memory for it: who goes on would do so inside of what is still open.
      if not rolled_back and not errors.is(further) and core.is_open(tx) then error(further, 0) end
      if not rolled_back then add_error(err, further) end
    else
      ended(tx, "rollback", err)
    end
    error(err, 0)
  end
  local first, second = ...
  if core.is_lost(tx) then finish(tx, "commit") end -- raises: it was not committed
  if not core.is_open(tx) then return ... end
  if not first and select("#", ...) >= 2 and second ~= nil then
    finish(tx, "rollback")
    return ...
  end
  finish(tx, "commit")
  if select("#", ...) == 0 then return true end
  return ...
end

-- tx.attempt is 1 in the methods; a later attempt has a metatable of its own.
local retried = {}

--- Makes tx.attempt a number.
---@param tx moonbase.Transaction
---@param number integer
function transaction.set_attempt(tx, number)
  if number == 1 then return end
  if not retried[number] then
    local usual = debug.getmetatable(tx)
    local metatable = {}
    for name, value in pairs(usual) do metatable[name] = value end
    metatable.__index = setmetatable({ attempt = number }, { __index = usual.__index })
    retried[number] = metatable
  end
  debug.setmetatable(tx, retried[number])
end

-- An error that is raised keeps the traceback of where that was.
local function remember(err)
  if errors.is(err) and not err.traceback then err.traceback = debug.traceback("", 2) end
  return err
end

local function attempt(x, fn, options, number)
  local tx
  local function call() return fn(tx) end
  -- From here on nothing may fail for want of memory: the transaction would stay open.
  tx = start(x, options, true)
  transaction.set_attempt(tx, number)
  return conclude(tx, xpcall(call, remember))
end

local first_pause, longest_pause = 0.01, 1
local random_state = 0

-- A number from 0 to 1 that leaves math.random, which is the program's, alone
-- (minimal standard generator of Park and Miller).
local function random()
  if random_state == 0 then
    random_state = math.floor(core.now() * 1000000) % 2147483646 + 1
  end
  random_state = random_state * 16807 % 2147483647
  return random_state / 2147483647
end

local function may_retry(err, number, limits, deadline)
  return errors.is(err, "DatabaseError") and err.retryable and not err.commit_unknown
    and number < limits.attempts and (not deadline or core.now() < deadline)
end

local function attempt_often(x, fn, options, limits)
  local deadline = limits.max_time and core.now() + limits.max_time
  local number = 1
  local function judge(ok, ...)
    if ok then return true, ... end
    local err = ...
    if may_retry(err, number, limits, deadline) then
      observe.retry(x, number, err)
      return false
    end
    if errors.is(err) and number > 1 then err.attempts = number end
    error(err, 0)
  end
  local function try()
    return judge(pcall(attempt, x, fn, options, number))
  end
  local function results(done, ...)
    if done then return ... end
    core.pause(x, random() * math.min(longest_pause, first_pause * 2 ^ (number - 1)))
    number = number + 1
    return results(try())
  end
  return results(try())
end

--- Calls run with x and what follows.  Where x has errors = "return", run gets a
--- handle that raises, and a DatabaseError comes out as nil and the error.
---@param x moonbase.Session
---@param run function
---@param ... any
---@return any ...
function transaction.deliver(x, run, ...)
  local own = core.options(x)
  if not (own and own.errors == "return") then return run(x, ...) end
  local function give(ok, ...)
    if ok then return ... end
    local err = ...
    if errors.is(err, "DatabaseError") then return nil, err end
    error(err, 0)
  end
  local raising = {}
  for name, value in pairs(own) do raising[name] = value end
  raising.errors = nil
  local handle = core.configure(core.view(x), raising)
  if raising.replica then replicas.dress(handle) end
  return give(pcall(run, handle, ...))
end

local function run(x, fn, options, retry)
  if retry then
    return attempt_often(x, fn, options,
      { attempts = retry.attempts or 5, max_time = retry.max_time })
  end
  return attempt(x, fn, options, 1)
end

--- Runs fn in a transaction, or, inside one, in a savepoint.
---
--- Commits when fn returns, and gives what it returned (true for nothing).  Rolls
--- back when fn raises, which goes on as it was raised, and when fn returns nil or
--- false and a second value that is not nil, which are handed on.
---@param x moonbase.Session
---@param fn fun(tx: moonbase.Transaction): ...
---@param given? moonbase.TransactionOptions
---@return any ...
function transaction.run(x, fn, given)
  core.check_session(x)
  if type(fn) ~= "function" then
    errors.usage("transaction wants a function, and got a %s", type(fn))
  end
  local options = prepare_options(given, transaction.nests(x))
  return transaction.deliver(x, run, fn, options, given and given.retry)
end

--- What `local tx <close>` does at the end of its block.
---@param tx moonbase.Transaction
function transaction.close(tx)
  if core.is_open(tx) then pcall(finish, tx, "rollback") end
end

return transaction
