---@meta _
-- luacheck: ignore 212 241

--- The rows of a statement, read one after the other.  A call gives the next one, so
--- that `for row in rows do` works.
---@class moonbase.Rows: userdata
---@overload fun(): table<string, any>?
local Rows = {}

--- The next row, or nil.
---@return table<string, any>?
function Rows:next() end

--- For `for n, a, b in rows:tuples() do`: the number of the row and its values.
---@return fun(rows: moonbase.Rows): integer?, ...
---@return moonbase.Rows rows
---@return integer
---@return moonbase.Rows? closing
function Rows:tuples() end

--- Rows as lists, with their length in n.
---@return moonbase.Rows self
function Rows:arrays() end

--- Calls fn with each row, stops at the first value that it gives, and closes.
---@generic T
---@param fn fun(row: table<string, any>): T?
---@return T?
function Rows:each(fn) end

--- All rows that are left.
---@return table<string, any>[]
function Rows:all() end

--- The only row; a RowCountError when there is none, or more than one.
---@return table<string, any>
function Rows:one() end

--- The columns, also before the first row.
---@return moonbase.Column[]
function Rows:columns() end

--- Goes on to the next result of a CALL.
---@return boolean there is one
function Rows:next_result() end

--- Ends reading.  Never raises.
function Rows:close() end

--- True when they were closed, or read to the end.
---@return boolean
function Rows:is_closed() end

--- Waits until another task has closed them; a UsageError in a program that blocks, where
--- nobody else could.
---@param seconds? number how long at most
---@return boolean closed false: the time is up
function Rows:wait_closed(seconds) end

--- Something that operations listen to.
---@class moonbase.Cancellation: userdata
local Cancellation = {}

--- Ends all that listens, once and for all.
---@param reason? string
function Cancellation:cancel(reason) end

--- Whether it was cancelled.
---@return boolean
function Cancellation:is_cancelled() end

--- Reads a value of SQLite's part by part.
---@class moonbase.BlobReader
---@field size integer bytes of the whole value
local BlobReader = {}

--- The next bytes, or nil at the end.
---@param size? integer 65536 by default
---@return string?
function BlobReader:read(size) end

--- Goes on reading behind offset bytes.
---@param offset integer
function BlobReader:seek(offset) end
