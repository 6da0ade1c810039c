---@meta _
-- luacheck: ignore 212 241

--- What the fault driver is to do with calls of one slot.  One of lose, fail and answer, or a
--- delay alone.
---@class moonbase.FaultRule
---@field nth? integer the first call that it is for, counted from now; 1 by default
---@field times? number of calls from there on; 1 by default; math.huge: all
---@field sql? string only calls for statements that have this in their text
---@field delay? number seconds before anything else; math.huge: until somebody stops it
---@field lose? boolean the connection is lost
---@field fail? string the class of an error
---@field after? boolean the call does its work before it fails
---@field answer? "dead"|"alive"|"readable" what is_valid answers
---@field code? string of the error
---@field message? string of the error
---@field connection_dead? boolean the connection is of no further use
---@field transaction_dead? boolean only a rollback will do
---@field retryable? boolean the transaction may be tried again
---@field sent? boolean the request may have reached the database; true by default with lose
---@field session_only? boolean it says nothing of other connections
---@field stale_statement? boolean nothing was run: the statement is to be prepared again

--- Commands the faults of a database, of all connections of its pool.
---@class moonbase.Fault
---@field database moonbase.Database
local Fault = {}

--- Adds a rule for the calls of a slot.
---@param slot string a function of a driver: "connect", "execute", "commit" …
---@param rule moonbase.FaultRule
function Fault:at(slot, rule) end

--- Forgets all rules, and ends the delays that are going on.
function Fault:clear() end

--- Loses every connection that is open now.
function Fault:lose() end

--- How often a slot was called since the pool was opened.
---@param slot string
---@return integer
function Fault:calls(slot) end
