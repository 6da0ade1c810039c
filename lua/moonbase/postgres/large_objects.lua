--- Large objects: up to 4 TB each, read and written part by part.
---@module moonbase.postgres.large_objects

local core = require "moonbase.core"
local errors = require "moonbase.errors"
local values = require "moonbase.values"

local large_objects = {}

-- As in PostgreSQL's libpq-fs.h.
local modes = { r = 0x40000, w = 0x20000, rw = 0x60000 }
local origins = { set = 0, cur = 1, ["end"] = 2 }

local default_size = 65536
-- A value of a bytea, and so a part, has to stay below 1 GB.
local largest_size = 1024 * 1024 * 1000

local LargeObject = { __name = "moonbase.LargeObject" }
LargeObject.__index = LargeObject

local function is_whole(value, least, most)
  return type(value) == "number" and value == math.floor(value) and value >= least
    and value <= most
end

--- Makes an empty large object and gives its number (an oid).
---@param x moonbase.Session
---@return integer oid
function large_objects.create(x)
  return x:query_value "select lo_create(0)::bigint"
end

--- Removes a large object.
---@param x moonbase.Session
---@param oid integer
---@return true
function large_objects.remove(x, oid)
  local ok, err = x:exec("select lo_unlink(?::oid)", oid)
  if not ok then return nil, err end
  return true
end

--- Opens a large object.  It is closed with the transaction.
---@param tx moonbase.Transaction
---@param oid integer
---@param mode? "r"|"w"|"rw" "r" by default
---@return moonbase.LargeObject
function large_objects.open(tx, oid, mode)
  if core.kind(tx) ~= "Transaction" then
    errors.usage "a large object is opened in a Transaction, with which it is closed"
  end
  local flags = modes[mode or "r"]
  if not flags then errors.usage 'the mode of a large object is "r", "w" or "rw"' end
  local descriptor, err = tx:query_value("select lo_open(?::oid, ?::integer)", oid, flags)
  if not descriptor then return nil, err end
  return setmetatable({ tx = tx, descriptor = descriptor }, LargeObject)
end

-- Calls a function of the server with the descriptor and what follows.
local function call(self, text, ...)
  if not self.tx then errors.usage "the large object is closed" end
  return self.tx:query_value(text, self.descriptor, ...)
end

--- The next bytes, at most size of them; nil at the end.
---@param size? integer 65536 by default
---@return string?
function LargeObject:read(size)
  size = size or default_size
  if not is_whole(size, 1, largest_size) then
    errors.usage("read wants a number of bytes from 1 to %d", largest_size)
  end
  local bytes, err = call(self, "select loread(?::integer, ?::integer)", size)
  if not bytes then return nil, err end
  return bytes ~= "" and bytes or nil
end

--- Writes bytes where it stands, and gives their number.
---@param bytes string
---@return integer
function LargeObject:write(bytes)
  if type(bytes) ~= "string" then
    errors.usage("write wants a string, and got a %s", type(bytes))
  end
  return call(self, "select lowrite(?::integer, ?::bytea)", values.blob(bytes))
end

--- Goes to another place, as a file does, and gives it: seek "end" is the size.
---@param whence? "set"|"cur"|"end" "cur" by default
---@param offset? integer 0 by default
---@return integer
function LargeObject:seek(whence, offset)
  local origin = origins[whence or "cur"]
  if not origin then errors.usage 'seek wants "set", "cur" or "end"' end
  return call(self, "select lo_lseek64(?::integer, ?::bigint, ?::integer)", offset or 0, origin)
end

--- Cuts it, or makes it longer with zero bytes.
---@param size integer
---@return true
function LargeObject:truncate(size)
  local answer, err = call(self, "select lo_truncate64(?::integer, ?::bigint)", size)
  if not answer then return nil, err end
  return true
end

--- Closes it; the transaction's end does that too.
function LargeObject:close()
  local tx = self.tx
  self.tx = nil
  if tx and core.is_open(tx) then
    -- A transaction that has failed has closed it already.
    pcall(tx.exec, tx, "select lo_close(?::integer)", self.descriptor)
  end
end

LargeObject.__close = LargeObject.close

return large_objects
