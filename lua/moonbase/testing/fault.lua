--- Has a database fail on command: what the fault driver is told.
---@module moonbase.testing.fault

local core = require "moonbase.core"
local errors = require "moonbase.errors"
local suggest = require "moonbase.suggest"

local Fault = { __name = "moonbase.Fault" }
Fault.__index = Fault

-- What follows from an error, as its fields say it.
local flags = {
  "connection_dead", "transaction_dead", "retryable", "sent", "session_only", "stale_statement",
}

local option_types = {
  nth = "number", times = "number", sql = "string", delay = "number", lose = "boolean",
  fail = "string", answer = "string", after = "boolean", code = "string", message = "string",
}
-- Those that say more of an error.
local error_options = { "after", "code", "message" }
for _, flag in ipairs(flags) do
  option_types[flag] = "boolean"
  error_options[#error_options + 1] = flag
end

local answers = { dead = true, alive = true, readable = true }

-- A whole number that counts calls.
local function is_count(value)
  return value >= 1 and value <= 2 ^ 53 and value == math.floor(value)
end

local function check_types(given)
  if type(given) ~= "table" then
    errors.usage("a rule is a table of options, and not a %s", type(given))
  end
  for name, value in pairs(given) do
    local wanted = option_types[name]
    if not wanted then
      errors.usage("%s is no option of a rule%s", tostring(name), suggest(name, option_types))
    end
    if type(value) ~= wanted then
      errors.usage("option %s of a rule: wants a %s, and got a %s", name, wanted, type(value))
    end
  end
end

-- What a rule wants beside a delay, and whether that is an error.
local function read_act(given)
  local n = (given.lose and 1 or 0) + (given.fail and 1 or 0) + (given.answer and 1 or 0)
  if n > 1 then errors.usage "a rule has one of lose, fail and answer" end
  if n == 0 and not given.delay then
    errors.usage "a rule wants something: delay, lose, fail or answer"
  end
  if given.answer and not answers[given.answer] then
    errors.usage('option answer of a rule: wants "dead", "alive" or "readable", and got "%s"',
      given.answer)
  end
  if given.answer then return given.answer, false end
  return given.lose and "lose" or given.fail and "fail" or "", n > 0
end

local function check_numbers(given)
  if given.nth and not is_count(given.nth) then
    errors.usage "option nth of a rule: wants a whole number of at least 1"
  end
  if given.times and given.times ~= math.huge and not is_count(given.times) then
    errors.usage "option times of a rule: wants a whole number of at least 1, or math.huge"
  end
  if given.delay and not (given.delay >= 0 and given.delay <= math.huge) then
    errors.usage "option delay of a rule: wants a number of seconds"
  end
end

local function check_error_options(given, is_error)
  if is_error then return end
  for _, name in ipairs(error_options) do
    if given[name] ~= nil then
      errors.usage("option %s of a rule belongs to lose and fail", name)
    end
  end
end

-- A connection that is lost has sent what it was to send, unless that is denied.
local function flag_words(given)
  local words = {}
  for _, flag in ipairs(flags) do
    if given[flag] or flag == "sent" and given.lose and given.sent ~= false then
      words[#words + 1] = flag
    end
  end
  return table.concat(words, " ")
end

local function class_of(given, slot)
  if given.fail then return given.fail end
  return slot == "connect" and "ConnectivityError" or "ConnectionLostError"
end

--- Adds a rule for calls of one slot of the driver, counted from now over all connections.
---
--- Of several rules for one call the first is followed.
---@param slot string as in doc/drivers.md: "connect", "execute", "commit" …
---@param given moonbase.FaultRule
function Fault:at(slot, given)
  if type(slot) ~= "string" then
    errors.usage("a rule is for a slot of the driver by its name, and not for a %s", type(slot))
  end
  check_types(given)
  check_numbers(given)
  local act, is_error = read_act(given)
  check_error_options(given, is_error)
  local nth, times = given.nth or 1, given.times or 1
  core.control(self.database, "fault_at", slot, given.sql, math.floor(nth),
    times == math.huge and 0 or math.floor(times), math.min(given.delay or 0, 1e10), act,
    given.after or false, class_of(given, slot), flag_words(given), given.code, given.message)
end

--- Forgets all rules, and ends the delays that are going on.  What was lost stays lost.
function Fault:clear()
  core.control(self.database, "fault_clear")
end

--- Loses every connection that is open now, as a server does that is restarted.
function Fault:lose()
  core.control(self.database, "fault_lose")
end

--- How often a slot was called since the pool was opened.
---@param slot string
---@return integer
function Fault:calls(slot)
  if type(slot) ~= "string" then
    errors.usage("calls wants a slot of the driver by its name, and got a %s", type(slot))
  end
  return core.control(self.database, "fault_calls", slot)
end

function Fault:__tostring()
  return ("moonbase.Fault (%s)"):format(core.url(self.database))
end

--- Takes command of the faults of a database, which was opened with the fault driver around its
--- own: "fault+sqlite:test.db", or driver = "fault+sqlite".
---@param db moonbase.Database
---@return moonbase.Fault
return function(db)
  core.check_session(db)
  local ok, err = pcall(core.control, db, "fault_calls", "connect")
  if not ok and errors.is(err, "UnsupportedError") then
    errors.usage("%s has no faults to command: open it as fault+%s, or with "
      .. "driver = \"fault+%s\"", tostring(db), core.url(db), core.about(db).driver)
  end
  if not ok then error(err, 0) end
  return setmetatable({ database = db }, Fault)
end
