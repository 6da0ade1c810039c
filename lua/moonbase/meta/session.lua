---@meta _
-- luacheck: ignore 212 241

--- What runs SQL: a Database, a Connection or a Transaction.
---@class moonbase.Session: userdata
local Session = {}

--- Runs a statement and gives its rows, for `for`; none where it has none.
---@param sql string|moonbase.Fragment
---@param ... any parameters, or one table of named ones
---@return moonbase.Rows
function Session:query(sql, ...) end

--- The first row by the names of its columns, or nil.
---@param sql string|moonbase.Fragment
---@param ... any
---@return table<string, any>?
function Session:query_row(sql, ...) end

--- The first column of the first row, or nil.
---@param sql string|moonbase.Fragment
---@param ... any
---@return any
function Session:query_value(sql, ...) end

--- The values of the first row as results; none without a row.
---@param sql string|moonbase.Fragment
---@param ... any
---@return any ...
function Session:query_values(sql, ...) end

--- The first column of all rows; NULL is moonbase.null.
---@param sql string|moonbase.Fragment
---@param ... any
---@return any[]
function Session:query_column(sql, ...) end

--- All rows.
---@param sql string|moonbase.Fragment
---@param ... any
---@return table<string, any>[]
function Session:query_all(sql, ...) end

--- Runs a statement: the affected rows, and the id that it generated.
---@param sql string|moonbase.Fragment
---@param ... any
---@return integer affected
---@return integer? id
function Session:exec(sql, ...) end

--- Runs the statements of a text one after the other, up to the first error.
---@param script string
---@return integer count of the statements
function Session:exec_script(script) end

--- Prepares a statement at once.
---@param sql string
---@return moonbase.Statement
function Session:prepare(sql) end

--- Runs several statements in one transaction.
---@param entries table[] each {sql, parameter, …}, {sql, {name = parameter, …}} or {fragment}
---@return moonbase.BatchResult[]
function Session:batch(entries) end

--- Inserts many rows: a list, or a function that gives one after the other.
---@param table_name string|moonbase.Fragment
---@param columns string[]
---@param rows any[][]|fun(): any[]?
---@param options? moonbase.BulkOptions
---@return integer inserted
function Session:bulk_insert(table_name, columns, rows, options) end

--- Runs fn in a transaction, or in a savepoint, and gives what fn returns.
---@param fn fun(tx: moonbase.Transaction): ...
---@param options? moonbase.TransactionOptions
---@return any ...
function Session:transaction(fn, options) end

--- Begins a transaction, or a savepoint, that is ended by hand.
---@param options? moonbase.TransactionOptions
---@return moonbase.Transaction
function Session:begin(options) end

--- The same handle with other options.
---@generic T: moonbase.Session
---@param self T
---@param options moonbase.HandleOptions
---@return T
function Session:with(options) end

--- Makes sure that the database answers.
---@return true
function Session:ping() end

--- What the connected database can do; read-only.
---@return moonbase.Capability
function Session:capability() end

--- True when it can no longer be used.
---@return boolean
function Session:is_closed() end

--- Waits until another task has closed it; a UsageError in a program that blocks, where
--- nobody else could.
---@param seconds? number how long at most
---@return boolean closed false: the time is up
function Session:wait_closed(seconds) end

--- A database: lends connections to its calls.
---@class moonbase.Database: moonbase.Session
local Database = {}

--- A connection of one's own; close() gives it back.
---@return moonbase.Connection
function Database:connect() end

--- Closes all connections, also those that are in use.
function Database:close() end

--- The innermost open transaction, or nil.
---@return moonbase.Transaction?
function Database:current() end

--- Counts of the pool and its statement caches.
---@return moonbase.Stats
function Database:stats() end

--- Has fn called with a table about each event of a kind; gives a function that ends this.
---@param event string query, slow_query, transaction, acquire, connect, close, error, warning,
--- notice, retry, drain or leak
---@param fn fun(event: moonbase.Event)
---@param options? { seconds: number? } of slow_query and drain
---@return fun() off
function Database:on(event, fn, options) end

--- The URL, without a password.
---@return string
function Database:url() end

--- A connection of one's own.
---@class moonbase.Connection: moonbase.Session
local Connection = {}

--- Rolls back what is open and gives the connection back.  Never raises.
function Connection:close() end

--- A transaction, or a savepoint inside one.
---@class moonbase.Transaction: moonbase.Session
---@field attempt integer the number of the try, from 1
local Transaction = {}

--- Ends it well; an error says why that failed, and then it was rolled back.
---@return true
function Transaction:commit() end

--- Undoes it.
---@return true
function Transaction:rollback() end

--- Has fn called after the outermost transaction has committed.
---@param fn fun()
function Transaction:on_commit(fn) end

--- Has fn called when this transaction, or one around it, was rolled back, after the
--- outermost one has ended.
---@param fn fun()
function Transaction:on_rollback(fn) end
