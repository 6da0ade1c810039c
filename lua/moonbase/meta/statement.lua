---@meta _
-- luacheck: ignore 212 241

--- A prepared statement.  One of a Database runs on whatever connection it gets.
---@class moonbase.Statement: userdata
local Statement = {}

--- Runs it and gives its rows.
---@param ... any parameters, or one table of named ones
---@return moonbase.Rows
function Statement:query(...) end

--- The first row by the names of its columns, or nil.
---@param ... any
---@return table<string, any>?
function Statement:query_row(...) end

--- The first column of the first row, or nil.
---@param ... any
---@return any
function Statement:query_value(...) end

--- The values of the first row as results; none without a row.
---@param ... any
---@return any ...
function Statement:query_values(...) end

--- The first column of all rows; NULL is moonbase.null.
---@param ... any
---@return any[]
function Statement:query_column(...) end

--- All rows.
---@param ... any
---@return table<string, any>[]
function Statement:query_all(...) end

--- Runs it: the affected rows, and the id that it generated.
---@param ... any
---@return integer affected
---@return integer? id
function Statement:exec(...) end

--- Runs it once for each row, all in one transaction.
---@param rows any[][]|fun(): any[]?
---@return integer affected of all
---@return integer? id the first that was generated
function Statement:exec_many(rows) end

--- Its columns; none where it gives no rows.
---@return moonbase.Column[]
function Statement:columns() end

--- How many parameters it has, and their names where they have any.
---@return integer count
---@return string[]? names
function Statement:parameters() end

--- Lets it go; its open rows go on.  Never raises.
function Statement:close() end

--- True when it, or its connection, is closed.
---@return boolean
function Statement:is_closed() end

--- Waits until another task has closed it; a UsageError in a program that blocks, where
--- nobody else could.
---@param seconds? number how long at most
---@return boolean closed false: the time is up
function Statement:wait_closed(seconds) end
