--- Notifications: LISTEN on a connection that comes back.
---@module moonbase.postgres.listener

local core = require "moonbase.core"
local errors = require "moonbase.errors"
local sql = require "moonbase.sql"
local suggest = require "moonbase.suggest"

local listener = {}

local first_pause, longest_pause = 0.01, 5

-- How long a session may be silent before it is asked whether it is still there, and how
-- long it has for the answer at most.
local default_ping, longest_answer = 60, 5

local Listener = { __name = "moonbase.Listener" }
Listener.__index = Listener

-- What goes away by itself, so that trying again makes sense; a time-out is that of the
-- ping.
local function passes(err)
  return errors.is(err, "ConnectivityError") or errors.is(err, "PoolTimeoutError")
    or errors.is(err, "TimeoutError")
end

local function check_channels(channels)
  if type(channels) == "string" then channels = { channels } end
  if type(channels) ~= "table" or getmetatable(channels) or #channels == 0 then
    errors.usage("listen wants the name of a channel, or a list of names")
  end
  local names = {}
  for i, name in ipairs(channels) do
    if type(name) ~= "string" then
      errors.usage("listen: channel %d is a %s, and not a string", i, type(name))
    end
    names[i] = name
  end
  return names
end

local function check_options(given)
  if type(given) ~= "table" then
    errors.usage("listen options are a table, and not a %s", type(given))
  end
  for name, value in pairs(given) do
    if name ~= "ping" then
      errors.usage("%s is no option of listen%s", tostring(name), suggest(name, { ping = true }))
    end
    if type(value) ~= "number" or not (value > 0 and value < 2 ^ 31) then
      errors.usage "option ping of listen: wants a number of seconds above 0"
    end
  end
end

-- Waits of the listener's own are not bounded by the time-out of the handle.
local function unbounded(x)
  return x:with{ timeout = 0, errors = "raise" }
end

-- Connects and listens; nothing stays behind when that fails.
local function connect(self)
  local conn = self.db:connect()
  local ok, err = pcall(function()
    for _, name in ipairs(self.channels) do
      conn:exec(sql("listen :name", { name = sql.identifier(name) }))
    end
  end)
  if not ok then
    core.close_connection(conn)
    error(err, 0)
  end
  self.conn, self.waiting, self.heard_at = conn, unbounded(conn), core.now()
end

local function disconnect(self)
  if self.conn then core.close_connection(self.conn) end
  self.conn, self.waiting = nil, nil
end

-- Connects again and again, until it succeeds (true) or the time is up (false).
local function reconnect(self, deadline)
  while true do
    local ok, err = pcall(connect, self)
    if ok then
      self.pause = first_pause
      return true
    end
    if not passes(err) then error(err, 0) end
    local pause = self.pause
    if deadline and core.now() + pause > deadline then
      core.pause(self.db, math.max(0, deadline - core.now()))
      return false
    end
    core.pause(self.db, pause)
    self.pause = math.min(longest_pause, pause * 2)
  end
end

-- One wait: takes what has come.  Asks a session that has been silent for long whether it
-- is there: a network that is gone says nothing.
local function wait(self, deadline)
  local until_then = self.heard_at + self.ping
  if deadline then until_then = math.min(until_then, deadline) end
  local got = core.command(self.waiting, "notifications",
    math.max(0, until_then - core.now())):all()
  self.queue, self.at = got, 0
  if got[1] then
    self.heard_at = core.now()
  elseif core.now() >= self.heard_at + self.ping then
    self.conn:with{ timeout = math.min(longest_answer, self.ping) }:ping()
    self.heard_at = core.now()
  end
end

local function next_of_queue(self)
  local event = self.queue[self.at + 1]
  if event then self.at = self.at + 1 end
  return event
end

-- The connection was lost, or never there: connects, and says so.
local function come_back(self, deadline)
  disconnect(self)
  if not reconnect(self, deadline) then return nil end
  return { connected = true }
end

--- The next notification, {channel, payload, pid}, or {connected = true} when the
--- connection was made: first, and each time after it was lost, with whatever was sent
--- meanwhile.  Waits at most seconds (nil: for ever), and for the answer of a server that
--- is asked whether it is there, and gives nil then.
---@param seconds? number
---@return moonbase.Notification?
function Listener:next(seconds)
  if self.closed then errors.usage "the listener is closed" end
  if seconds ~= nil and (type(seconds) ~= "number" or seconds ~= seconds or seconds < 0) then
    errors.usage "next of a listener wants a number of seconds of at least 0"
  end
  local deadline = seconds and core.now() + seconds
  while true do
    local event = next_of_queue(self)
    if event then return event end
    if not self.conn then return come_back(self, deadline) end
    local ok, err = pcall(wait, self, deadline)
    if not ok then
      if not passes(err) then error(err, 0) end
      return come_back(self, deadline)
    end
    if deadline and not self.queue[1] and core.now() >= deadline then return nil end
  end
end

--- Stops listening, and gives the connection back.
function Listener:close()
  self.closed = true
  disconnect(self)
end

Listener.__close = Listener.close

function Listener.__call(self)
  return self:next()
end

--- Listens on channels, with a connection of its own out of the pool.
---
---     for event in postgres.listen(db, "jobs") do
---       if event.connected then work_off() else work(event.payload) end
---     end
---@param db moonbase.Database
---@param channels string|string[]
---@param given? { ping: number? } seconds of silence after which the server is asked: 60
---@return moonbase.Listener
function listener.listen(db, channels, given)
  if core.kind(db) ~= "Database" then errors.usage "listen wants a Database" end
  given = given or {}
  check_options(given)
  local self = setmetatable({ db = db:with{ errors = "raise" }, channels = check_channels(channels),
    ping = given.ping or default_ping, pause = first_pause, queue = {}, at = 0 }, Listener)
  connect(self) -- what is wrong from the beginning is raised here
  self.queue = { { connected = true } }
  return self, nil, nil, self
end

return listener
