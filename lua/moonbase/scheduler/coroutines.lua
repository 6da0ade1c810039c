--- What the loops whose tasks are coroutines have in common.
---@module moonbase.scheduler.coroutines

local coroutines = {}

local running = coroutine.running
local is_yieldable = coroutine.isyieldable -- luacheck: ignore 143

--- The task of a loop that resumes coroutines: the one that is running; nil in the main one,
--- and false and a message where it cannot yield.
---@return thread|nil|false
---@return string|nil
---@local
function coroutines.task()
  local task, is_main = running()
  if not task or is_main then return nil end
  if is_yieldable and not is_yieldable() then
    return false, "this would wait where a coroutine cannot yield, as inside require, table.sort "
      .. "or string.gsub: do it before, or on a Database of scheduler = \"blocking\""
  end
  return task
end

return coroutines
