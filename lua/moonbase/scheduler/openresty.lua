--- Waiting in OpenResty: a light thread waits, and nginx serves others meanwhile.
---
--- nginx waits for no file descriptors but its own.  So a thread of the process waits for
--- ours (src/lua/hub.c), and a light thread of a timer, the pump, reads from a socket what
--- became ready and posts the semaphores of those that wait for it.  There is one pump for
--- each Lua VM, while somebody waits and for some seconds more.
---
--- A light thread that is killed while it waits, because its client has gone or by
--- ngx.thread.kill, runs no code of ours.  Its semaphore tells: nobody waits for it any more.
--- The pump then takes the call to its end.
---@module moonbase.scheduler.openresty

local core = require "moonbase.core"
local ngx = require "ngx"

local abandon, step, tell = core.abandon, core.step, core.tell
local ceil, max, min = math.ceil, math.max, math.min
local is_yieldable = core.is_yieldable
local running = coroutine.running

local own = {}

-- Seconds: between two looks at who was killed; without anybody who waits, after which the
-- pump ends; after which a pump that has not come up is started again; after which one that
-- cannot be is tried again; the longest wait of a semaphore (there may come another); the
-- longest wait while no pump tells.
local tick, idle_limit, start_limit, pause = 0.5, 5, 2, 10
local longest, longest_slice = 3600, 0.02

-- nil where the hub is not to be had.
local hub = core.hub()

-- A wait has a slot: token, semaphore, state (that of the call); waiting, from its beginning
-- to its end; posted: its semaphore was; told: because what it waits for is ready; adopted:
-- its light thread was killed.
local slots = {} -- by token
local free, n_free = {}, 0
local n_waiting = 0
local n_waits = 0

-- What there is of a pump: nil, "starting", "ready" or "ending".
local pump
local n_started, started_at, not_before = 0, 0, 0
local slice = 0.001

-- --- Slots -----------------------------------------------------------------------

local function new_semaphore()
  local semaphore, err = require "ngx.semaphore".new()
  if not semaphore then error(err, 0) end
  return semaphore
end

local function take(state)
  local slot = free[n_free]
  if slot then
    free[n_free] = nil
    n_free = n_free - 1
  else
    slot = { semaphore = new_semaphore(), token = hub and hub:watch() }
    if slot.token then slots[slot.token] = slot end
  end
  slot.state, slot.waiting = state, true
  n_waiting, n_waits = n_waiting + 1, n_waits + 1
  return slot
end

local function give(slot)
  if slot.token then hub:disarm(slot.token) end
  slot.state, slot.waiting, slot.posted, slot.told, slot.adopted = nil, false, false, false, false
  n_waiting = n_waiting - 1
  n_free = n_free + 1
  free[n_free] = slot
end

-- --- The pump --------------------------------------------------------------------

-- What abandon and step have given.
local function go_on(slot, ok, state, fd, events)
  if not ok or state == true or state == false then return give(slot) end
  slot.state = state
  -- What cannot be waited for is looked at with each tick.
  if fd then hub:arm(slot.token, fd, events) end
end

local function adopt(slot)
  slot.adopted = true
  slot.semaphore = new_semaphore()
  go_on(slot, pcall(abandon, slot.state))
end

local function is_orphan(slot)
  local count = slot.semaphore:count()
  -- One that was posted and not yet resumed still counts as one who waits.
  if slot.posted then return count > 0 end
  return count == 0
end

local function look(slot)
  if slot.adopted then
    go_on(slot, pcall(step, slot.state))
  elseif is_orphan(slot) then
    adopt(slot)
  end
end

local function deliver()
  local token = hub:next()
  while token do
    local slot = slots[token]
    if slot.waiting then
      if slot.adopted or slot.posted or is_orphan(slot) then
        look(slot)
      else
        slot.posted, slot.told = true, true
        slot.semaphore:post(1)
      end
    end
    token = hub:next()
  end
end

local function look_at_all()
  for _, slot in pairs(slots) do
    if slot.waiting then look(slot) end
  end
end

-- Those who wait have to see that there is no pump any more.
local function wake_all()
  for _, slot in pairs(slots) do
    if slot.waiting and not slot.adopted and not slot.posted and not is_orphan(slot) then
      slot.posted = true
      slot.semaphore:post(1)
    end
  end
end

local function read(socket, control)
  while not control.ends and socket:receiveany(256) do deliver() end
  control.is_deaf = true
end

local function connect()
  local path, err = hub:listen()
  if not path then return nil, err end
  local socket = ngx.socket.tcp()
  -- Reading is not a clock: nginx would log that the time was up.
  socket:settimeouts(1000, 1000, 2 ^ 31 - 1)
  local ok
  ok, err = socket:connect("unix:" .. path)
  if ok then ok, err = hub:attach() end
  if ok then return socket end
  socket:close()
  return nil, err
end

-- Until there is nothing to do; while nginx exits it must not wait for that.
local function work(control)
  local seen, idle = n_waits, 0
  repeat
    control.semaphore:wait(tick)
    deliver()
    look_at_all()
    idle = n_waiting == 0 and n_waits == seen and idle + tick or 0
    seen = n_waits
  until control.is_deaf or n_waiting == 0 and (idle >= idle_limit or ngx.worker.exiting())
end

local function serve()
  local socket, err = connect()
  if not socket then error(err, 0) end
  local control = { semaphore = new_semaphore() }
  local reader = ngx.thread.spawn(read, socket, control)
  pump, slice = "ready", 0.001
  local ok
  ok, err = pcall(work, control)
  pump = "ending"
  control.ends = true
  hub:wake()
  ngx.thread.wait(reader)
  socket:close()
  if not ok then error(err, 0) end
end

-- number: which one was started; another one may have been meanwhile.
local function run(_, number)
  if number ~= n_started then return end
  local ok, err = pcall(serve)
  hub:detach()
  pump = nil
  if not ok then
    not_before = ngx.now() + pause
    ngx.log(ngx.ERR, "moonbase: waiting for databases: ", err)
  end
  wake_all()
end

-- Whether somebody tells when a file descriptor is ready; if not, starts who does.
local function is_pumped()
  if pump == "ready" then return true end
  local now = ngx.now()
  if not hub or pump == "ending" or now < not_before
    or pump == "starting" and now < started_at + start_limit then
    return false
  end
  n_started, started_at = n_started + 1, now
  -- There may be too many timers: then it is tried again with the next wait.
  pump = ngx.timer.at(0, run, n_started) and "starting" or nil
  return false
end

-- --- The scheduler ---------------------------------------------------------------

local waits = { server_rewrite = true, rewrite = true, access = true, content = true, timer = true,
  ssl_cert = true }
local blocks = { init = true, init_worker = true }

local function refuse(place)
  return false, ("a call that may wait is not possible %s of nginx; where it may block the whole "
    .. "worker, open the database with scheduler = \"blocking\""):format(place)
end

--- The light thread that is running, or a coroutine in it.
function own.task()
  local phase = ngx.get_phase and ngx.get_phase() or "init"
  if waits[phase] then
    if not is_yieldable() then
      return refuse("inside require or another function of C's, in phase " .. phase)
    end
    return (running())
  end
  if blocks[phase] then return nil end
  return refuse("in phase " .. phase)
end

--- Has the pump take a call to its end, where nobody may wait for it.
function own.leave(state, fd, events)
  local slot = take(state)
  -- Then others' calls do it once the state is collected.
  if not slot.token then return give(slot) end
  slot.adopted = true
  is_pumped()
  if fd then hub:arm(slot.token, fd, events) end
end

--- Lets others run until fd is ready or the time is up, or a little.
function own.wait(fd, events, seconds, state)
  local slot = take(state)
  local limit = min(seconds or longest, longest)
  local is_told = is_pumped() and slot.token
  if fd and not (is_told and hub:arm(slot.token, fd, events)) then
    limit = min(limit, slice)
    slice = min(slice * 2, longest_slice)
  end
  local semaphore = slot.semaphore
  -- Less than a millisecond would be no wait.
  local ok, err = semaphore:wait(max(ceil(limit * 1000), 1) / 1000)
  -- It may have been posted after the time was up.
  if not ok and slot.posted then
    while semaphore:count() > 0 do semaphore:wait(0) end
  end
  if slot.told then tell(state) end
  give(slot)
  if not ok and err ~= "timeout" then error(err, 0) end
end

return own
