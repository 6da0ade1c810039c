--- Waiting in a loop of cqueues.
---@module moonbase.scheduler.cqueues

local cqueues = require "cqueues"

local running = coroutine.running

local own = {}

function own.task()
  if not cqueues.running() then return nil end
  return (running())
end

function own.wait(fd, events, seconds)
  if not fd then return cqueues.sleep(seconds) end
  cqueues.poll({ pollfd = fd, events = events }, seconds)
  cqueues.cancel(fd) -- it may be closed before it is waited for again
end

return own
