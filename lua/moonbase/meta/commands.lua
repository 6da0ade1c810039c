---@meta _
-- luacheck: ignore 212 241

--- What an executor runs, if it is no function: a table or userdata with execute.
---@class moonbase.Command
---@field execute fun(self: moonbase.Command, tx: moonbase.Transaction): ...
---@field [any] any

--- Makes commands of one kind from tables of fields.
---@class moonbase.CommandConstructor
---@field name string
---@overload fun(fields: table?): moonbase.Command

--- What each command has returned first, by its position.
---@class moonbase.CommandResults
---@field n integer
---@field [integer] any

---@class moonbase.ExecutorOptions
---@field write_exclusive? boolean writers of this process queue, first come first served
---@field retry? { attempts: integer?, max_time: number? } 5 attempts by default
---@field isolation? "read uncommitted"|"read committed"|"repeatable read"|"serializable"
---@field timeout? number seconds for a whole transaction
---@field key_table? string the table of idempotency keys; "moonbase_command_keys" by default

---@class moonbase.ExecuteOptions
---@field key? string an idempotency key, of 1 to 255 bytes

--- Runs commands on a database.
---@class moonbase.Executor
local Executor = {}

--- The same executor inside a transaction, in which every list gets a savepoint.
---@param tx moonbase.Transaction
---@return moonbase.Executor
function Executor:with(tx) end

--- Runs commands in their order, in one transaction.
---@param list (moonbase.Command|userdata|function)[]
---@param options? moonbase.ExecuteOptions
---@return moonbase.CommandResults|nil|false results nil or false: a command has failed
---@return any reason
---@return integer? position of that command
function Executor:execute(list, options) end
