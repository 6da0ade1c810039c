--- The event loops that this Lua has, for specs: a list, and by name.
---
--- Each has name; run(fn), which calls fn in a task and drives the loop until that has ended,
--- and gives its results or raises its error; spawn(fn), which starts one more task from
--- within one; pause(seconds), which lets the others run; and handles(), the number of what
--- the loop has been given to look after.
local language = require "spec.support.language"

local loops = {}

-- --- cqueues -----------------------------------------------------------------------

local function new_cqueues()
  local ok, cqueues = pcall(require, "cqueues")
  if not ok then return nil end
  local loop = { name = "cqueues", pause = cqueues.sleep, handles = function() return 0 end }

  function loop.drive(fn, has_ended)
    local queue = cqueues.new()
    queue:wrap(fn)
    while not has_ended() do
      if queue:empty() then error("the loop is empty, and the task has not ended", 0) end
      assert(queue:step())
    end
  end

  function loop.spawn(fn)
    cqueues.running():wrap(fn)
  end

  return loop
end

-- --- luv ---------------------------------------------------------------------------

local function new_luv()
  local ok, uv = pcall(require, "luv")
  if not ok then return nil end
  local loop = { name = "luv" }

  function loop.spawn(fn)
    local timer = uv.new_timer()
    timer:start(0, 0, function()
      timer:close()
      coroutine.wrap(fn)()
    end)
  end

  function loop.pause(seconds)
    local task, timer = coroutine.running(), uv.new_timer()
    timer:start(math.floor(seconds * 1000), 0, function()
      timer:close()
      assert(coroutine.resume(task))
    end)
    coroutine.yield()
  end

  function loop.handles()
    local n = 0
    uv.walk(function() n = n + 1 end)
    return n
  end

  function loop.drive(fn, has_ended)
    loop.spawn(fn)
    while not has_ended() do
      if not uv.loop_alive() then error("the loop is empty, and the task has not ended", 0) end
      uv.run "once"
    end
    -- Old versions of luv crash when a program ends before what is closed has been let go.
    uv.run "nowait"
  end

  return loop
end

-- --- copas -------------------------------------------------------------------------

-- Its old versions have no times.
local function new_copas()
  local ok, copas = pcall(require, "copas")
  if not ok then return nil end
  local socket = require "socket"
  local loop = { name = "copas", spawn = copas.addthread, handles = function() return 0 end }

  -- Waits for what is always ready; not for the same as another one, since select would tell
  -- only one of them.
  function loop.pause(seconds)
    local until_time, ready = socket.gettime() + seconds, assert(socket.udp4())
    repeat
      local is_asked = false
      copas.connect {
        getfd = function() return ready:getfd() end,
        settimeout = function() end,
        close = function() end,
        connect = function()
          if is_asked then return 1 end
          is_asked = true
          return nil, "timeout"
        end,
      }
      socket.sleep(0.0002)
    until socket.gettime() >= until_time
    ready:close()
  end

  -- It cannot tell that nothing is left that it could wait for.
  local longest = 120

  function loop.drive(fn, has_ended)
    local until_time = socket.gettime() + longest
    copas.addthread(fn)
    while not has_ended() do
      if socket.gettime() > until_time then error("the task has not ended in time", 0) end
      copas.step(1)
    end
  end

  return loop
end

-- --- All ---------------------------------------------------------------------------

local function give(ok, ...)
  if not ok then error((...), 0) end
  return ...
end

local function pack(...)
  return { n = select("#", ...), ... }
end

local function add(loop)
  if not loop then return end
  function loop.run(fn)
    local results
    loop.drive(function() results = pack(pcall(fn)) end, function() return results end)
    return give(language.unpack(results, 1, results.n))
  end
  loops[#loops + 1] = loop
  loops[loop.name] = loop
end

if language.yields then
  add(new_cqueues())
  add(new_luv())
  add(new_copas())
end

return loops
