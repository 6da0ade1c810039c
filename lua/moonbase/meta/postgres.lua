---@meta _
-- luacheck: ignore 212 241

--- What moonbase.postgres.listen gives: call it for the next notification, as `for` does.
---@class moonbase.Listener
---@overload fun(): moonbase.Notification?
local Listener = {}

--- The next notification; nil after so many seconds.
---@param seconds? number for ever by default
---@return moonbase.Notification?
function Listener:next(seconds) end

--- Stops listening, and gives the connection back.
function Listener:close() end

---@class moonbase.Notification
---@field connected? true the connection was made, or made again
---@field channel? string
---@field payload? string
---@field pid? integer the process of the session that sent it

--- What moonbase.postgres.copy_to gives: call it for the next piece, as `for` does.
---@class moonbase.CopyRows
---@overload fun(): string?
local CopyRows = {}

--- The next piece, of whole rows, or nil at the end.
---@return string?
function CopyRows:next() end

--- Ends it; what is left is thrown away.
function CopyRows:close() end

--- An advisory lock.
---@class moonbase.Lock
local Lock = {}

--- Gives it back: true when it was held until now.
---@return boolean
function Lock:release() end

--- A large object that is open in a transaction.
---@class moonbase.LargeObject
local LargeObject = {}

--- The next bytes, or nil at the end.
---@param size? integer at most; 65536 by default
---@return string?
function LargeObject:read(size) end

--- Writes where it stands, and gives the number of bytes.
---@param bytes string
---@return integer
function LargeObject:write(bytes) end

--- Goes to another place, and gives it.
---@param whence? "set"|"cur"|"end" "cur" by default
---@param offset? integer 0 by default
---@return integer
function LargeObject:seek(whence, offset) end

--- Cuts it, or makes it longer with zero bytes.
---@param size integer
---@return true
function LargeObject:truncate(size) end

--- Closes it; the end of the transaction does that too.
function LargeObject:close() end
