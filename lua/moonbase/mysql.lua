--- What only MySQL and MariaDB have.
---@module moonbase.mysql

local core = require "moonbase.core"

local mysql = {}

--- What the server warned of in the statement before, on the same connection: on a Database
--- each call may have another one.
---@param x moonbase.Connection|moonbase.Transaction
---@return { level: string, code: integer, message: string }[] warnings
function mysql.warnings(x)
  core.check_session(x)
  local rows, err = x:query_all "show warnings"
  if not rows then return nil, err end
  local list = {}
  for i, row in ipairs(rows) do
    list[i] = { level = row.Level, code = row.Code, message = row.Message }
  end
  return list
end

return mysql
