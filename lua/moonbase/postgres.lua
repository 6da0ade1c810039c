--- What only PostgreSQL has.
---@module moonbase.postgres

local core = require "moonbase.core"
local errors = require "moonbase.errors"
local listener = require "moonbase.postgres.listener"
local large_objects = require "moonbase.postgres.large_objects"
local replicas = require "moonbase.replicas"
local suggest = require "moonbase.suggest"
local transaction = require "moonbase.transaction"
local values = require "moonbase.values"

local postgres = {
  large_objects = large_objects,
}

-- --- COPY ------------------------------------------------------------------------

-- A function that gives the pieces of what is to be loaded, one after the other.
local function pieces_of(source)
  if type(source) == "function" then return source end
  local list = source
  if type(source) == "string" then list = { source } end
  if type(list) ~= "table" or getmetatable(list) then
    errors.usage("copy_from wants a string, a list of strings, or a function that gives one "
      .. "after the other, and got a %s", type(source))
  end
  local at = 0
  return function()
    at = at + 1
    return list[at]
  end
end

local function send_pieces(conn, next_piece)
  while true do
    local piece = next_piece()
    if piece == nil then return end
    if type(piece) ~= "string" then
      errors.usage("copy_from: a piece is a %s, and not a string", type(piece))
    end
    if piece ~= "" then core.command(conn, "copy_data", piece) end
  end
end

-- Runs fn with a connection that is the caller's alone, and gives what it returns.
local function with_own(x, fn, ...)
  if core.kind(x) ~= "Database" then return fn(x, ...) end
  local conn = x:connect()
  local function give(ok, ...)
    core.close_connection(conn)
    if not ok then error((...), 0) end
    return ...
  end
  return give(pcall(fn, conn, ...))
end

local function load(conn, text, next_piece)
  core.command(conn, "copy_in", text)
  local ok, err = pcall(send_pieces, conn, next_piece)
  if not ok then
    -- The load is undone; when that fails too the first error is the one that tells why.
    pcall(core.command, conn, "copy_end", "the program gave up")
    error(err, 0)
  end
  return core.command(conn, "copy_end", nil):one().affected
end

--- Runs a COPY … FROM STDIN with bytes of the program's own.
---
--- They are in the format that the statement names, cut anywhere.  Nothing is loaded when
--- the source raises, which goes on as it was raised.  Meanwhile x can run nothing else.
---@param x moonbase.Session
---@param sql string
---@param source string|string[]|fun(): string?
---@return integer rows
function postgres.copy_from(x, sql, source)
  core.check_session(x)
  if type(sql) ~= "string" then
    errors.usage("copy_from wants a COPY statement, and got a %s", type(sql))
  end
  local next_piece = pieces_of(source)
  return transaction.deliver(x, with_own, load, sql, next_piece)
end

local function write_all(rows, write)
  local size = 0
  local _, failure = rows:each(function(row)
    size = size + #row.data
    write(row.data)
  end)
  if failure then return nil, failure end
  return size
end

-- What takes pieces: a function, or an object with a method write, as a file.
local function writer_of(sink)
  if type(sink) == "function" then return sink end
  local ok, write = pcall(function() return sink.write end)
  if not ok or type(write) ~= "function" then
    errors.usage("copy_to wants a function, or a file, and got a %s", type(sink))
  end
  return function(data)
    -- A file answers nil and why; other objects may answer nothing at all.
    local answer, why = write(sink, data)
    if not answer and why ~= nil then error(why, 0) end
  end
end

local CopyRows = { __name = "moonbase.CopyRows" }
CopyRows.__index = CopyRows

--- The next piece, or nil at the end.
---@return string?
function CopyRows:next()
  local row, err = self.rows:next()
  if row then return row.data end
  return nil, err
end

--- Ends it; what is left is thrown away.
function CopyRows:close()
  self.rows:close()
end

CopyRows.__close = CopyRows.close

function CopyRows.__call(copy)
  local data, err = copy:next()
  if err ~= nil then error(err, 0) end
  return data
end

--- Runs a COPY … TO STDOUT.
---
--- With a sink, a function or a file, all bytes go there, and their number is returned.
--- Without one it is an iterator over pieces, each of whole rows; close what it returns
--- when the loop is left early on a Lua older than 5.4.
---@param x moonbase.Session
---@param sql string
---@param sink? fun(data: string)|file*
---@return moonbase.CopyRows|integer
function postgres.copy_to(x, sql, sink)
  core.check_session(x)
  if type(sql) ~= "string" then
    errors.usage("copy_to wants a COPY statement, and got a %s", type(sql))
  end
  local write = sink ~= nil and writer_of(sink)
  local rows, err = replicas.call(x, core.command, "copy_out", sql)
  if not rows then return nil, err end
  if write then return write_all(rows, write) end
  local copy = setmetatable({ rows = rows }, CopyRows)
  return copy, nil, nil, copy -- the last is what `for` closes on Lua 5.4
end

-- --- Advisory locks --------------------------------------------------------------

local lock_options = { try = "boolean", shared = "boolean" }

local function check_lock_options(given)
  if type(given) ~= "table" then
    errors.usage("lock options are a table, and not a %s", type(given))
  end
  for name, value in pairs(given) do
    local wanted = lock_options[name]
    if not wanted then
      errors.usage("%s is no option of a lock%s", tostring(name), suggest(name, lock_options))
    end
    if type(value) ~= wanted then
      errors.usage("option %s of a lock: wants a %s, and got a %s", name, wanted, type(value))
    end
  end
end

-- The arguments of the lock functions: an integer, two of 32 bits, or a text, which the
-- server makes a number of.
local function read_key(key)
  if type(key) == "string" then return "hashtextextended(?, 0)", { key, n = 1 } end
  if type(key) == "table" and not getmetatable(key) and #key == 2 then
    return "?::integer, ?::integer", { key[1], key[2], n = 2 }
  end
  if type(key) == "table" or key == nil then
    errors.usage("the key of a lock is an integer, a text, or a list of two integers, "
      .. "and not a %s", type(key))
  end
  return "?::bigint", { key, n = 1 }
end

local Lock = { __name = "moonbase.Lock" }
Lock.__index = Lock

-- Frees what the lock was held with; false when it was held no longer.
local function give_up(lock)
  local conn = lock.conn
  lock.conn = nil
  local ok, held = pcall(conn.query_value, conn, lock.unlock, values.params(lock.key))
  if lock.own then core.close_connection(conn) end
  if not ok and not errors.is(held, "DatabaseError") then error(held, 0) end
  return ok and held
end

--- Gives the lock back.
---
--- True when it was held until now; false when it was not any more, because its
--- connection was lost, or it had been given back already.
---@return boolean
function Lock:release()
  if not self.conn then return false end
  return give_up(self)
end

function Lock.__close(lock)
  lock:release()
end

local function function_name(given, what, scope)
  return "pg_" .. (given.try and what == "lock" and "try_" or "") .. "advisory_" .. scope .. what
    .. (given.shared and "_shared" or "")
end

-- Takes the lock: true, or false when somebody else has it.
local function take(x, given, scope, places, key)
  local text = "select " .. function_name(given, "lock", scope) .. "(" .. places .. ")"
  if given.try then return x:query_value(text, values.params(key)) end
  x:exec(text, values.params(key))
  return true
end

local function lock_session(x, given, places, key)
  local own = core.kind(x) == "Database"
  local conn = own and x:connect() or x
  local ok, taken = pcall(take, conn, given, "", places, key)
  if not (ok and taken) then
    if own then core.close_connection(conn) end
    if not ok then error(taken, 0) end
    return nil
  end
  return setmetatable({ conn = conn, own = own, key = key,
    unlock = "select " .. function_name(given, "unlock", "") .. "(" .. places .. ")" }, Lock)
end

local function lock(x, key, given)
  local places, list = read_key(key)
  if core.kind(x) == "Transaction" then
    return take(x, given, "xact_", places, list) or nil
  end
  return lock_session(x, given, places, list)
end

--- Takes an advisory lock, and waits for it.
---
--- In a transaction it is held until that ends, and true is returned.  Elsewhere a Lock
--- is returned, to be released: that of a Database has a connection of its own.  The key is
--- an integer, a text, or a list of two integers of 32 bits.
---@param x moonbase.Session
---@param key integer|string|integer[]
---@param given? { try: boolean?, shared: boolean? } try: nil at once when somebody else has it
---@return moonbase.Lock|true|nil
function postgres.lock(x, key, given)
  core.check_session(x)
  given = given or {}
  check_lock_options(given)
  return transaction.deliver(x, lock, key, given)
end

-- --- Notifications ----------------------------------------------------------------

postgres.listen = listener.listen

--- Sends a notification: when the transaction around it commits.
---@param x moonbase.Session
---@param channel string
---@param payload? string less than 8,000 bytes
---@return true
function postgres.notify(x, channel, payload)
  if type(channel) ~= "string" then
    errors.usage("notify wants the name of a channel, and got a %s", type(channel))
  end
  local ok, err = x:exec("select pg_notify(?::text, ?::text)", channel, payload or "")
  if not ok then return nil, err end
  return true
end

return postgres
