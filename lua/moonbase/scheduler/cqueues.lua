--- Waiting in a loop of cqueues.
---@module moonbase.scheduler.cqueues

local cqueues = require "cqueues"
local coroutines = require "moonbase.scheduler.coroutines"

local running, poll, cancel, sleep = cqueues.running, cqueues.poll, cqueues.cancel, cqueues.sleep

local own = {}

-- What is waited for: the loop reads it before anybody else can run, so one is enough.
local awaited = {}

function own.task()
  local queue, is_its_own = running()
  if not queue then return nil end
  if not is_its_own then
    return false, "this would wait in a coroutine that cqueues does not resume: do it in a "
      .. "function that queue:wrap was given, or on a Database of scheduler = \"blocking\""
  end
  return coroutines.task()
end

function own.wait(fd, events, seconds)
  if not fd then return sleep(seconds) end
  awaited.pollfd, awaited.events, awaited.timeout = fd, events, seconds
  poll(awaited)
  -- The loop would remember it; but it may be closed, and another have its number, before
  -- anybody waits for it again.
  cancel(fd)
end

return own
