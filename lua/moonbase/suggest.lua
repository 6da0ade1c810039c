--- "Did you mean": the name that a misspelt one comes next to.
---@module moonbase.suggest

local core = require "moonbase.core"

--- The end of a message about a name that nobody knows.
---@param name any
---@param known table a set of names
---@return string e.g. '; did you mean "timeout"?', or ""
return function(name, known)
  if type(name) ~= "string" then return "" end
  local list = {}
  for one in pairs(known) do list[#list + 1] = one end
  table.sort(list)
  local near = core.suggest(name, list)
  return near and ('; did you mean "%s"?'):format(near) or ""
end
