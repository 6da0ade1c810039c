--- Calls that wait for a database let others run meanwhile: option scheduler of open.
---
--- A scheduler is a table:
---   task     a function that gives the task that is running, the coroutine that the
---            scheduler resumes; nil where nobody else could run, and a call blocks; false and
---            a message where a call that waits is a mistake
---   wait     a function of a file descriptor or nil, "r", "w" or "rw", and seconds or nil, that
---            lets other tasks run until it is ready, or the time is up, or earlier
---   leave    perhaps, of a built-in one: has a call that nobody waits for taken to its end
--- The built-in ones are modules beside this one.
---@module moonbase.scheduler

local core = require "moonbase.core"
local errors = require "moonbase.errors"
local suggest = require "moonbase.suggest"

local scheduler = {}

local start, step, abandon, is_inside = core.start, core.step, core.abandon, core.is_inside
local must_wait = core.must_wait
local sleep = core.sleep
local running = coroutine.running

local known = { auto = true, blocking = true, cqueues = true, copas = true, luv = true,
  openresty = true }

-- What calls without a scheduler of their own go by; nil: auto.
local default

-- The scheduler of each name that was loaded.
local loaded = {}

local blocking = { task = function() return nil end }

-- --- Calls -----------------------------------------------------------------------

local find

-- A call that nobody waits for any more is brought to its end in place.
local function finish(state, _, _, seconds)
  while state ~= true and state ~= false do
    sleep(math.min(seconds or 0.001, 0.001))
    state, _, _, seconds = step(state)
  end
end

-- Takes a call to its end; what start and step have given stands behind.
local function continue(wait, state, ...)
  if state == true then return ... end
  if state == false then error((...), 0) end
  local fd, events, seconds = ...
  local ok, err = pcall(wait, fd, events, seconds, state)
  if not ok then
    finish(abandon(state, true))
    error(err, 0)
  end
  return continue(wait, step(state))
end

-- A function of C's as one that waits where it is called by a task.
local function waiting(call)
  return function(...)
    if is_inside() then return call(...) end
    local own = find((...))
    local task, message = own.task()
    if not task then
      if task == nil then return call(...) end
      errors.usage("%s", message)
    end
    return continue(own.wait, start(task, call, ...))
  end
end

-- Goes on with a call that may not be waited for.
local function leave(own, state, ...)
  if state == true then return ... end
  if state == false then error((...), 0) end
  own.leave(state, ...)
end

-- The same for one that closes: it has to succeed where a call that waits is a mistake.
local function closing(call)
  local wait = waiting(call)
  return function(...)
    if is_inside() then return call(...) end
    local own = find((...))
    if own.task() ~= false then return wait(...) end
    if own.leave then return leave(own, start({}, call, ...)) end
    return call(...)
  end
end

-- The same for one that reads a row: it tries by itself first.
local function fetching(call)
  local function judge(x, first, ...)
    if first ~= must_wait then return first, ... end
    local own = find(x)
    local task, message = own.task()
    if task then return continue(own.wait, start(task, call, x)) end
    if task == false then errors.usage("%s", message) end
    core.block(x)
    return call(x)
  end
  return function(x) return judge(x, call(x)) end
end

-- A function of C's that never waits, and wants to know the task behind its handle.
local function of_task(call)
  return function(x)
    if is_inside() then return call(x) end
    return call(x, (find(x).task()))
  end
end

-- Methods and functions of the binding that may wait.
local methods = {
  Database = "capability connect exec exec_script ping prepare query query_all query_column "
    .. "query_row query_value query_values quote",
  Connection = "capability exec exec_script ping prepare query query_all query_column query_row "
    .. "query_value query_values quote",
  Transaction = "capability exec exec_script ping prepare query query_all query_column query_row "
    .. "query_value query_values quote",
  Statement = "columns exec parameters query query_all query_column query_row query_value "
    .. "query_values",
  Rows = "all next_result",
}
local functions = "batch_add batch_end batch_send batch_take begin capability collect command "
  .. "commit control insert_rows pause places quote rollback takes_batches text"

-- Has calls look for a scheduler; until somebody asks for one they need not.
local function install()
  if find then return end
  find = function(x)
    local own = core.scheduler(x) or default
    if own then return own end
    return scheduler.detect()
  end
  for kind, names in pairs(methods) do
    local target = core.methods[kind]
    for name in names:gmatch "%S+" do
      if target[name] then target[name] = waiting(target[name]) end
    end
  end
  for name in functions:gmatch "%S+" do core[name] = waiting(core[name]) end
  core.current = of_task(core.current)
  core.methods.Database.current = core.current
  local rows = core.metatables[core.kind_of.Rows]
  rows.__call = fetching(rows.__call)
  core.methods.Rows.next = fetching(core.methods.Rows.next)
  if rows.__close then rows.__close = closing(rows.__close) end
  core.methods.Rows.close = closing(core.methods.Rows.close)
  core.close_connection = closing(core.close_connection)
  core.close_database = closing(core.close_database)
  core.helpers.next_tuple = fetching(core.helpers.next_tuple)
end

-- --- Which one -------------------------------------------------------------------

-- Lua 5.1 cannot yield inside a pcall or a for loop.
local yields = _VERSION ~= "Lua 5.1" or rawget(_G, "jit") ~= nil

local function load(name)
  if name == "blocking" then return blocking end
  if not loaded[name] then
    local ok, own = pcall(require, "moonbase.scheduler." .. name)
    if not ok then
      error(errors.new("ConnectorValidationError", ("option scheduler: %s cannot be loaded: %s")
        :format(name, tostring(own)), nil, 4), 0)
    end
    loaded[name] = own
  end
  return loaded[name]
end

--- What "auto" means now: OpenResty, or cqueues where it is loaded, else blocking.
---@return table
---@local
function scheduler.detect()
  if not yields then return blocking end
  if package.loaded.ngx then return load "openresty" end
  if package.loaded.cqueues then return load "cqueues" end
  return blocking
end

--- Whether others run while a call on a handle waits here.
---@param x table a handle
---@return boolean
---@local
function scheduler.is_task(x)
  return find ~= nil and (is_inside() or find(x).task()) and true or false
end

--- Checks a value of the option.
---@param value any
---@local
function scheduler.check(value)
  if type(value) == "table" and type(value.wait) == "function" then return end
  if type(value) == "string" and known[value] then return end
  error(errors.new("ConnectorValidationError", "option scheduler: wants "
    .. "auto, blocking, copas, cqueues, luv or openresty, or a table with a function wait"
    .. suggest(value, known), nil, 4), 0)
end

-- One of the program's own: whoever runs as a coroutine is its task.
local function of_program(given)
  return {
    task = given.task or function()
      local task, is_main = running()
      return not is_main and task or nil
    end,
    wait = given.wait,
  }
end

-- Called by the binding in coroutines.
function core.helpers.look_for_scheduler()
  if package.loaded.cqueues then install() end
end

--- The scheduler of a new handle, from its option; nil: the default.
---@param value? string|table
---@return table|nil
---@local
function scheduler.open(value)
  if value ~= nil and value ~= "blocking" or package.loaded.ngx or package.loaded.cqueues then
    install()
  end
  if value == nil or value == "auto" then return nil end
  if not yields and value ~= "blocking" then
    error(errors.new("UnsupportedError", ("option scheduler: %s wants LuaJIT or Lua 5.2 and later")
      :format(type(value) == "string" and value or "one of the program's own"), nil, 4), 0)
  end
  return type(value) == "table" and of_program(value) or load(value)
end

--- Makes a scheduler that of all handles that were opened without one.
---@param value string|table as the option of open
function scheduler.default(value)
  scheduler.check(value)
  default = scheduler.open(value)
end

return scheduler
