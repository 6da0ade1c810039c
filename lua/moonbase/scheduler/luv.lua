--- Waiting in the loop of luv.
---@module moonbase.scheduler.luv

local uv = require "luv"
local coroutines = require "moonbase.scheduler.coroutines"
local errors = require "moonbase.errors"

local own = { task = coroutines.task }

-- How soon something is looked at that somebody else waits for as well: the loop tells only
-- one of them.
local look = 0.002

-- Handles that wait for nothing: those of file descriptors by their number, which is all that
-- one that was stopped knows, so that it serves whatever has the number next.  To close and
-- make them each time takes longer, and old versions of luv crash when a program ends before
-- the loop has let go of what was closed.
local idle_polls, idle_timers = {}, {}

local function keep_poll(poll, fd)
  if poll:is_closing() then return end
  poll:stop()
  if idle_polls[fd] then poll:close() else idle_polls[fd] = poll end
end

-- A handle that waits for a file descriptor; nil: somebody else has one.
local function start_poll(fd, events, wake)
  local poll = idle_polls[fd]
  idle_polls[fd] = nil
  if not poll or poll:is_closing() then poll = uv.new_poll(fd) end
  if not poll then return nil end
  if poll:start(events, wake) then return poll end
  poll:close()
  return nil
end

local function keep_timer(timer)
  if timer:is_closing() then return end
  timer:stop()
  idle_timers[#idle_timers + 1] = timer
end

local function start_timer(seconds, wake)
  local timer = table.remove(idle_timers)
  if not timer or timer:is_closing() then timer = assert(uv.new_timer()) end
  timer:start(math.ceil(seconds * 1000), 0, wake)
  return timer
end

-- An error that ends the task goes where those of other callbacks go.
local function resume(task)
  local ok, err = coroutine.resume(task)
  if not ok then error(debug.traceback(task, tostring(err)), 0) end
end

function own.wait(fd, events, seconds)
  local task, is_woken, poll, timer = coroutine.running(), false, nil, nil
  local function stop()
    if poll then keep_poll(poll, fd) end
    if timer then keep_timer(timer) end
    poll, timer = nil, nil
  end
  local function wake()
    stop()
    -- Somebody may have closed it.
    if is_woken or coroutine.status(task) ~= "suspended" then return end
    is_woken = true
    resume(task)
  end
  if fd then
    poll = start_poll(fd, events, wake)
    if not poll then seconds = math.min(seconds or look, look) end
  end
  if seconds then timer = start_timer(seconds, wake) end
  coroutine.yield()
  if is_woken then return end
  stop()
  errors.usage("a coroutine that waited for the database was resumed by somebody else than luv: "
    .. "make the call where only the loop resumes, in coroutine.wrap(function() ... end)()")
end

return own
