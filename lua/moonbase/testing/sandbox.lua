--- A handle with a Database's methods over one transaction, which is rolled back at its end.
---
--- A sandbox is a view of that transaction, with the methods of a Database: those that run SQL are
--- the same functions for both.  Only what borrows, begins and ends is different, and is here.
---@module moonbase.testing.sandbox

local core = require "moonbase.core"
local errors = require "moonbase.errors"
local observe = require "moonbase.observe"
local options = require "moonbase.options"
local transaction = require "moonbase.transaction"

-- Of each handle what it belongs to: a sandbox, or a connection of one.
--   tx        the transaction that is rolled back
--   database  the real one; of a sandbox
--   closed
--   handles   views, rows and statements that end with it; weak
local owners = setmetatable({}, { __mode = "k" })

local weak = { __mode = "k" }

-- kind -> metatable
local metatables = {}

local function adopt(view, owner, kind)
  owners[view] = owner
  owner.handles[view] = core.leave
  debug.setmetatable(view, metatables[kind])
  return view
end

-- Another view of the transaction, with the options of x.
local function view_of(x, owner, kind)
  return adopt(core.configure(core.view(owner.tx), core.options(x)), owner, kind)
end

-- --- What a Database's options are here ----------------------------------------

local function has(list, words, number)
  for word, one in pairs(words) do
    if one == number then
      for _, known in ipairs(list) do
        if known == word then return true end
      end
    end
  end
  return false
end

-- What a Database would refuse is refused; the rest cannot be had of a savepoint, but for the
-- time-out, and is left out.
local function adapt(x, given)
  local can = core.capability(x)
  local missing
  if given.isolation ~= 0 and given.isolation
    and not has(can.isolation_levels, core.isolations, given.isolation) then
    missing = "isolation level"
  elseif given.mode ~= 0 and given.mode
    and not has(can.transaction_modes, core.modes, given.mode) then
    missing = "transaction mode"
  elseif given.read_only and not can.read_only_transactions then
    missing = "read-only transaction"
  elseif given.deferrable and not can.deferrable_transactions then
    missing = "deferrable transaction"
  end
  if missing then
    return nil, errors.new("UnsupportedError", "this database has no such " .. missing, nil, 2)
  end
  return { timeout = given.timeout }
end

-- --- Methods --------------------------------------------------------------------

local function with(kind)
  return function(x, changes)
    local view = core.configure(core.view(x), options.overlay(core.options(x), changes))
    return adopt(view, owners[x], kind)
  end
end

local function is_closed(x)
  return owners[x].closed or core.is_closed(x)
end

local function wait_closed(x)
  if is_closed(x) then return true end
  errors.usage "this would wait for ever: nobody else can close it in a blocking program"
end

local function end_all(owner)
  owner.closed = true
  for handle, close in pairs(owner.handles) do close(handle) end
end

local function close_sandbox(x)
  local owner = owners[x]
  if owner.closed then return end
  end_all(owner)
  if core.is_open(owner.tx) then pcall(core.rollback, owner.tx) end
end

-- The transaction in which tx was begun, or nil.
local function around(tx)
  local parent = core.parent(tx)
  return core.kind(parent) == "Transaction" and core.original(parent) or nil
end

-- The owner of the handle that a transaction was begun with, perhaps by a view of that one.
local function owner_of(tx)
  local handle = core.parent(tx)
  while not owners[handle] and not rawequal(handle, core.original(handle)) do
    handle = core.parent(handle)
  end
  return owners[handle]
end

-- The outermost transaction that was begun by the owner's handles and is open, or nil.
local function outermost_of(owner)
  local tx = core.current(owner.tx)
  while tx and not rawequal(tx, owner.tx) do
    local found = owner_of(tx)
    if found then return found == owner and tx or nil end
    tx = around(tx)
  end
  return nil
end

local function close_connection(x)
  local owner = owners[x]
  if owner.closed then return end
  local tx = outermost_of(owner)
  if tx then pcall(transaction.rollback, tx) end
  end_all(owner)
end

local function connect(x)
  local owner = owners[x]
  if is_closed(x) then errors.usage "the database is closed" end
  return view_of(x, { tx = owner.tx, handles = setmetatable({}, weak) }, "Connection")
end

-- Rows and statements of a connection end with it.
local function remember(method)
  local function keep(x, first, ...)
    if first then owners[x].handles[first] = first.close end
    return first, ...
  end
  return function(x, ...) return keep(x, method(x, ...)) end
end

local function current(x)
  local own = owners[x].tx
  local tx = core.current(own)
  local outer = tx
  while outer and not rawequal(outer, own) do outer = around(outer) end
  if rawequal(tx, own) or not outer then return nil end
  return tx
end

local function on(x, ...)
  if is_closed(x) then errors.usage "the database is closed" end
  return observe.on(owners[x].database, ...)
end

local function text_of(kind)
  return function(x)
    return ("moonbase.%s (%s, in a sandbox%s)"):format(kind, core.url(x),
      is_closed(x) and ", closed" or "")
  end
end

local own_methods = {
  Database = {
    close = close_sandbox, connect = connect, current = current, on = on,
  },
  Connection = {
    close = close_connection,
    prepare = remember(core.methods.Connection.prepare),
    query = remember(core.methods.Connection.query),
  },
}

local function make_metatable(kind, usual)
  local metatable, methods = {}, {}
  for name, value in pairs(usual) do metatable[name] = value end
  for name, method in pairs(core.methods[kind]) do methods[name] = method end
  for name, method in pairs(own_methods[kind]) do methods[name] = method end
  methods.with, methods.is_closed, methods.wait_closed = with(kind), is_closed, wait_closed
  metatable.__index = methods
  metatable.__close = methods.close
  metatable.__tostring = text_of(kind)
  return metatable
end

--- Begins a transaction, and gives a handle that is to the code under test what the Database is;
--- close rolls back.
---@param db moonbase.Database
---@param given? moonbase.TransactionOptions of that transaction
---@return moonbase.Database
return function(db, given)
  if core.kind(db) ~= "Database" then
    errors.usage("sandbox wants a Database, and got %s", tostring(db))
  end
  local tx = transaction.begin(db:with { errors = "raise" }, given)
  for _, kind in ipairs { "Database", "Connection" } do
    metatables[kind] = metatables[kind] or make_metatable(kind, debug.getmetatable(tx))
  end
  core.extra(tx).as_database, core.extra(tx).database = adapt, db
  local owner = { tx = tx, database = db, handles = setmetatable({}, weak) }
  return view_of(db, owner, "Database")
end
