--- Waiting in the loop of copas, in all its versions: the old ones know neither times nor
--- anything but sockets.
---@module moonbase.scheduler.copas

local copas = require "copas"
local socket = require "socket"
local core = require "moonbase.core"
local coroutines = require "moonbase.scheduler.coroutines"
local errors = require "moonbase.errors"

local own = { task = coroutines.task }

-- How soon something is looked at that select cannot wait for.
local look = 0.002

local select, now, largest = socket.select, core.now, socket._SETSIZE or 1024

-- --- What copas takes for a socket -------------------------------------------------

local Wait = {}
Wait.__index = Wait

-- How many there are.
local n_waits = 0

function Wait:getfd()
  return self.fd
end

-- The first time there is nothing yet, so that copas lets others run until there is.
function Wait:receive()
  if not self.is_asked then
    self.is_asked = true
    return nil, "timeout"
  end
  if self.is_seen then return "" end
  errors.usage("a coroutine that waited for the database was resumed by somebody else than copas: "
    .. "make the call in a function that copas.addthread was given")
end

-- Copas closes what it has resumed a task with when that has ended.
function Wait.close() end

-- --- The loop ----------------------------------------------------------------------

local function add(list, one)
  if list[one] then return end
  list[#list + 1] = one
  list[one] = #list
end

-- What copas looks for as lists for the true select: all our own are among those to be read.
-- Then those that have a time, and the seconds until the first of them.
local function sort(reading, writing, timeout)
  local to_read, to_write, timed, time = {}, {}, {}, now()
  for _, one in ipairs(writing or {}) do to_write[#to_write + 1] = one end
  for _, one in ipairs(reading or {}) do
    if getmetatable(one) ~= Wait then
      to_read[#to_read + 1] = one
    else
      one.is_seen = true
      if one.fd and one.events ~= "w" then to_read[#to_read + 1] = one end
      if one.fd and one.events ~= "r" then to_write[#to_write + 1] = one end
      if one.deadline then
        local left = math.max(0, one.deadline - time)
        if not timeout or timeout < 0 or left < timeout then timeout = left end
        timed[#timed + 1] = one
      end
    end
  end
  return to_read, to_write, timed, timeout
end

-- Copas has no times of its own, and waits in here; whoever else calls it finds it as it was.
function socket.select(reading, writing, timeout)
  if n_waits == 0 then return select(reading, writing, timeout) end
  local to_read, to_write, timed
  to_read, to_write, timed, timeout = sort(reading, writing, timeout)
  local readable, ready, err = select(to_read, to_write, timeout)
  local writable, time = {}, now()
  for _, one in ipairs(ready) do add(getmetatable(one) == Wait and readable or writable, one) end
  for _, one in ipairs(timed) do
    if one.deadline <= time then add(readable, one) end
  end
  return readable, writable, err
end

-- --- Waiting -----------------------------------------------------------------------

function own.wait(fd, events, seconds)
  if fd and fd >= largest then fd, seconds = nil, math.min(seconds or look, look) end
  n_waits = n_waits + 1
  local ok, err = pcall(copas.receive, setmetatable({ fd = fd, events = events,
    deadline = seconds and now() + seconds }, Wait))
  n_waits = n_waits - 1
  if not ok then error(err, 0) end
end

return own
