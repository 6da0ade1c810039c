---@meta _
-- luacheck: ignore 212 241

--- A prepared statement.  One of a Database runs on whatever connection it gets.
---@class moonbase.Statement: userdata
local Statement = {}

---@param ... any parameters, or one table of named ones
---@return moonbase.Rows
function Statement:query(...) end

---@param ... any
---@return table<string, any>?
function Statement:query_row(...) end

---@param ... any
---@return any
function Statement:query_value(...) end

---@param ... any
---@return any ...
function Statement:query_values(...) end

---@param ... any
---@return any[]
function Statement:query_column(...) end

---@param ... any
---@return table<string, any>[]
function Statement:query_all(...) end

---@param ... any
---@return integer affected
---@return integer? id
function Statement:exec(...) end

--- Runs it once for each row, all in one transaction.
---@param rows any[][]|fun(): any[]?
---@return integer affected of all
---@return integer? id the first that was generated
function Statement:exec_many(rows) end

---@return moonbase.Column[]
function Statement:columns() end

--- How many parameters it has, and their names where they have any.
---@return integer count
---@return string[]? names
function Statement:parameters() end

function Statement:close() end

---@return boolean
function Statement:is_closed() end
