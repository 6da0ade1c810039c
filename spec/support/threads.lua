--- Threads of this process, each with a Lua state of its own that runs a text.  Texts take and
--- give nil, booleans, numbers and strings; what they have in common is the library.
local host = require "spec.support.thread_host"

local threads = {
  --- Waits until n callers of the process have come to a place of that name.
  meet = host.meet,
}

local Thread = {}
Thread.__index = Thread

--- Starts a text; arguments are in `...` there.
function threads.start(text, ...)
  return setmetatable({ held = host.start(text, ...) }, Thread)
end

local function check(ok, ...)
  if not ok then error("in a thread: " .. tostring((...)), 0) end
  return ...
end

--- Waits for its end and gives its results; raises the error that has ended it.
function Thread:join()
  return check(host.join(self.held))
end

local function pack(ok, ...)
  return ok, { n = select("#", ...), ... }
end

--- Runs a text in n threads at once; its first argument is the thread's number.  Gives the
--- list of the lists of their results.
function threads.run(n, text, ...)
  local running, results, problem = {}, {}, nil
  for i = 1, n do running[i] = host.start(text, i, ...) end
  for i = 1, n do
    local ok
    ok, results[i] = pack(host.join(running[i]))
    if not ok then problem = problem or tostring(results[i][1]) end
  end
  if problem then error("in a thread: " .. problem, 0) end
  return results
end

return threads
