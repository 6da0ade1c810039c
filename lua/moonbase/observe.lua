--- What listeners are told: db:on(event, fn).
---
--- The names of attributes are those of OpenTelemetry's semantic conventions 1.33.0, the
--- first version in which those of databases are stable; `db.response.returned_rows`,
--- `db.query.parameter.…` and `db.client.connection.…` are still in development there.
---@module moonbase.observe

local core = require "moonbase.core"
local errors = require "moonbase.errors"
local suggest = require "moonbase.suggest"

local observe = {}

-- --- Where a call comes from ---------------------------------------------------

-- How the sources of Moonbase's own files begin.
local own_folder = debug.getinfo(1, "S").source:match "^(.*[/\\])" or "\0"

-- The place of the nearest caller outside of Moonbase, as "app.lua:12"; or nil.
local function find_source()
  return core.caller(own_folder)
end

core.helpers.source = find_source

-- --- Listeners -----------------------------------------------------------------

-- From when on a query is slow, and the rest of a result takes long to be given up.
local default_seconds = { slow_query = 0.5, drain = 0.1 }

-- Listeners of a Database: { kind = list of { fn, seconds } }, where a list is replaced and
-- never changed, so that a listener may add and remove others.
local function state_of(db)
  local extra = core.extra(db)
  extra.observing = extra.observing or { listeners = {}, pending = {}, warned = {}, n_warned = 0 }
  return extra.observing
end

local function refresh(db, state)
  local events, slow = 0, math.huge
  for kind, list in pairs(state.listeners) do
    events = events + core.events[kind]
    if kind == "slow_query" then
      for _, one in ipairs(list) do slow = math.min(slow, one.seconds) end
    end
  end
  state.events = events
  core.listen(db, events, slow < 1e9 and slow or 1e9)
  if not state.telling then core.observe(db, events, 0) end
end

local function read_seconds(event, given)
  if given == nil then return default_seconds[event] end
  if type(given) ~= "table" then
    errors.usage("on: the options are a table, and not a %s", type(given))
  end
  for name in pairs(given) do
    if name ~= "seconds" or not default_seconds[event] then
      errors.usage("%s is no option of on for %s", tostring(name), event)
    end
  end
  local seconds = given.seconds
  if seconds == nil then return default_seconds[event] end
  if type(seconds) ~= "number" or not (seconds >= 0 and seconds < 2 ^ 31) then
    errors.usage "option seconds of on: wants a number of at least 0"
  end
  return seconds
end

--- Has fn called with a table that describes each event of a kind, on the thread and after
--- the call that it belongs to.  Gives a function that ends this.
---@param db moonbase.Database
---@param event string
---@param fn fun(event: moonbase.Event)
---@param options? { seconds: number? }
---@return fun() off
function observe.on(db, event, fn, options)
  if core.kind(db) ~= "Database" then
    errors.usage "on belongs to a Database (it is called with a colon: db:on(…))"
  end
  if not core.events[event] then
    errors.usage("on: there is no event %s%s", tostring(event), suggest(event, core.events))
  end
  if type(fn) ~= "function" then errors.usage("on wants a function, and got a %s", type(fn)) end
  if core.is_closed(db) then errors.usage "the database is closed" end
  db = core.original(db)
  local own = { fn = fn, seconds = read_seconds(event, options) }
  local state = state_of(db)
  local list = {}
  for i, one in ipairs(state.listeners[event] or {}) do list[i] = one end
  list[#list + 1] = own
  state.listeners[event] = list
  refresh(db, state)

  return function()
    if not own then return end
    local rest = {}
    for _, one in ipairs(state.listeners[event]) do
      if one ~= own then rest[#rest + 1] = one end
    end
    own = nil
    state.listeners[event] = #rest > 0 and rest or nil
    refresh(db, state)
  end
end

local function call(kind, listener, event)
  local ok, err = pcall(listener.fn, event)
  if not ok then
    io.stderr:write(("moonbase: a function given to on(\"%s\") has failed: %s\n"):format(
      kind, tostring(err)))
  end
end

local function tell(state, kind, event)
  local list = state.listeners[kind]
  if not list then return end
  event.event = kind
  for _, listener in ipairs(list) do call(kind, listener, event) end
end

-- Runs fn, in which listeners are told; what they do with the Database themselves is not
-- told of.
local function while_telling(db, state, fn, ...)
  if state.telling then return end
  state.telling = true
  core.observe(db, 0, 1)
  local ok, err = pcall(fn, db, state, ...)
  state.telling = nil
  core.observe(db, state.events, -1)
  if not ok then error(err, 0) end
end

-- --- Names ---------------------------------------------------------------------

-- Names of pools by the Databases of this Lua state, and the other way round.
local pool_names = setmetatable({}, { __mode = "k" })
local named = setmetatable({}, { __mode = "v" })

local function is_used(name)
  return named[name] ~= nil and not core.is_closed(named[name])
end

--- Gives a Database that was just opened the name of its pool: the option name, else the URL,
--- with a number behind it where it is not the only one.
---@param db moonbase.Database
---@param suffix? string what is put behind the URL
function observe.name(db, suffix)
  local name = core.option(db, "name")
  if not name then
    local url, number = core.url(db) .. (suffix or ""), 1
    name = url
    while is_used(name) do
      number = number + 1
      name = url .. "#" .. number
    end
  end
  pool_names[db] = name
  named[name] = db
end

--- The Databases of this Lua state that are open, with the names of their pools; of those that
--- share a pool one.
---@return { name: string, db: moonbase.Database }[]
function observe.pools()
  local list, seen = {}, {}
  for db, name in pairs(pool_names) do
    if not seen[name] and not core.is_closed(db) then
      seen[name] = true
      list[#list + 1] = { name = name, db = db }
    end
  end
  table.sort(list, function(a, b) return a.name < b.name end)
  return list
end

-- Drivers whose databases have another name in the conventions.
local system_names = { postgres = "postgresql" }

--- What all events of a Database have in common.
---@param db moonbase.Database
---@return table<string, any>
function observe.attributes(db)
  local about = core.about(db)
  return {
    ["db.system.name"] = system_names[about.driver] or about.driver,
    ["db.namespace"] = about.database,
    ["server.address"] = about.host,
    ["server.port"] = about.host and about.port,
    ["db.client.connection.pool.name"] = pool_names[db],
  }
end

local function new_event(db, state)
  state.attributes = state.attributes or observe.attributes(db)
  local event = {}
  for name, value in pairs(state.attributes) do event[name] = value end
  return event
end

-- The first word of a text, behind comments; none where the operation comes later.
local function operation_of(text)
  local at = 1
  while true do
    local behind = text:match("^[%s(;]+()", at) or text:match("^%-%-[^\n]*()", at)
      or text:match("^/%*.-%*/()", at)
    if not behind then break end
    at = behind
  end
  local word = text:match("^%a+", at)
  if word and word:lower() == "with" then return nil end
  return word
end

local function describe_error(event, err)
  event["error.type"] = err.class
  event.message = err.message
  event.retryable, event.sent = err.retryable, err.sent
  event.connection_dead = err.connection_dead
  event.transaction_dead = err.transaction_dead
  event.commit_unknown = err.commit_unknown
  local code = err.code
  -- Where the library's own number says more than the SQLSTATE.
  if err.driver == "mysql" and err.native_code then code = tostring(err.native_code) end
  event["db.response.status_code"] = code
end

-- An error of the program's own has passed through a transaction.
local function describe_any(event, err)
  if errors.is(err) then
    describe_error(event, err)
  elseif err ~= nil then
    event["error.type"] = "_OTHER"
    event.message = tostring(err)
  end
end

-- --- Calls ---------------------------------------------------------------------

-- The arguments of a call as parameters: one table of named ones, moonbase.params, or values.
local function add_parameters(event, list)
  local whole = list.n == 1 and type(list[1]) == "table" and list[1]
  if whole and getmetatable(whole) == nil then
    for name, value in pairs(whole) do
      event["db.query.parameter." .. tostring(name)] = tostring(value)
    end
    return
  end
  local last = list.n
  if whole and core.kinds[getmetatable(whole)] == core.kind_numbers.params then
    list, last = whole, whole.n or #whole
  end
  for i = 1, last do
    event["db.query.parameter." .. (i - 1)] = tostring(list[i])
  end
end

local function new_call_event(db, state, raw)
  local event = new_event(db, state)
  event.source = raw.source
  event.duration, event.elapsed = raw.duration, raw.elapsed
  event.queue, event.connect, event.server, event.decode =
    raw.queue, raw.connect, raw.server, raw.decode
  if raw.text then
    event["db.query.text"] = raw.text
    event["db.operation.name"] = raw.batch and "BATCH" or operation_of(raw.text)
  end
  event["db.operation.batch.size"] = raw.batch
  event["db.response.returned_rows"] = raw.is_query and raw.rows or nil
  if raw.parameters then add_parameters(event, raw.parameters) end
  if raw.error then describe_error(event, raw.error) end
  return event
end

local function tell_acquire(db, state, raw)
  local event = new_event(db, state)
  event.source = raw.source
  event.queue, event.connect = raw.queue, raw.connect
  event.duration = raw.queue + raw.connect
  if raw.refused then describe_error(event, raw.error) end
  tell(state, "acquire", event)
end

local function tell_slow(db, state, raw)
  for _, listener in ipairs(state.listeners.slow_query or {}) do
    if raw.duration >= listener.seconds then
      local event = new_call_event(db, state, raw)
      event.event, event.seconds = "slow_query", listener.seconds
      call("slow_query", listener, event)
    end
  end
end

local function tell_drain(db, state, raw)
  for _, listener in ipairs(state.listeners.drain or {}) do
    if raw.drain >= listener.seconds then
      local event = new_call_event(db, state, raw)
      event.event, event.duration = "drain", raw.drain
      call("drain", listener, event)
    end
  end
end

-- More texts than this have not been warned of once.
local warned_max = 1000

-- One warning for a statement.
local function tell_warning(db, state, raw)
  if raw.duplicate and raw.text and state.warned[raw.text] then raw.duplicate = nil end
  if not (raw.duplicate or raw.warnings) then return end
  local event = new_call_event(db, state, raw)
  event.warnings = raw.warnings
  if raw.duplicate then
    if state.n_warned >= warned_max then state.warned, state.n_warned = {}, 0 end
    state.warned[raw.text or ""] = true
    state.n_warned = state.n_warned + 1
    event.column = raw.duplicate
    event.message = ('two columns have the name "%s": a row by name has the last one')
      :format(raw.duplicate)
  else
    event.message = ("the database has given %d warnings"):format(raw.warnings)
  end
  tell(state, "warning", event)
end

local function tell_call(db, state, raw)
  local listeners = state.listeners
  if raw.borrowed and listeners.acquire then tell_acquire(db, state, raw) end
  if raw.is_query then
    if listeners.query then tell(state, "query", new_call_event(db, state, raw)) end
    tell_slow(db, state, raw)
  end
  if raw.drain then tell_drain(db, state, raw) end
  if listeners.warning then tell_warning(db, state, raw) end
  if raw.error and listeners.error then
    tell(state, "error", new_call_event(db, state, raw))
  end
end

-- --- What comes from elsewhere -------------------------------------------------

local function tell_from_pool(db, state, raw, source)
  local event = new_event(db, state)
  event.duration, event.reason, event.missed = raw.duration, raw.reason, raw.missed
  if raw.own_call then event.source = source end
  if raw.kind == "leak" then
    event.reason, event.traceback, event.source = "age", raw.text, nil
  elseif raw.kind == "notice" then
    event.severity, event.message, event.source = raw.severity, raw.message, source
    event["db.response.status_code"] = raw.code
  elseif raw.class then
    event["error.type"], event.message = raw.class, raw.text
    event["db.response.status_code"] = raw.code
  end
  tell(state, raw.kind, event)
end

-- A Connection or Transaction was collected, and had not been closed.
local function tell_dropped(db, state, begun)
  local event = new_event(db, state)
  event.reason, event.handle = "collected", begun.handle
  event.source, event.duration = begun.source, core.now() - begun.at
  tell(state, "leak", event)
end

local function tell_all(db, state, raw)
  if raw then
    raw.source = raw.source or find_source()
    tell_call(db, state, raw)
  end
  while state.pending[1] do
    local one = table.remove(state.pending, 1)
    if one.at then tell_dropped(db, state, one) else tell_call(db, state, one) end
  end
  local source
  while true do
    local one = core.next_event(db)
    if not one then return end
    source = source or find_source()
    tell_from_pool(db, state, one, source)
  end
end

-- Called by the binding after a call, with what was measured, or nil.
function core.helpers.tell(db, raw)
  while_telling(db, state_of(db), tell_all, raw)
end

-- Called by finalizers.
function core.helpers.postpone(db, raw)
  local pending = state_of(db).pending
  pending[#pending + 1] = raw
end

-- --- Transactions --------------------------------------------------------------

-- Called by the binding with what has just been begun.
function core.helpers.note_begin(x)
  core.extra(x).begun = { at = core.now(), source = find_source(), handle = core.kind(x) }
end

local function tell_transaction(db, state, begun, tx, outcome, err)
  local event = new_event(db, state)
  event.source, event.outcome = begun.source, outcome
  event.duration = core.now() - begun.at
  event.attempt = tx.attempt
  event.nested = core.kind(core.parent(core.original(tx))) == "Transaction"
  event["db.operation.name"] = outcome == "commit" and "COMMIT" or "ROLLBACK"
  describe_any(event, err)
  tell(state, "transaction", event)
end

--- A Transaction that was noted has ended.
---@param tx moonbase.Transaction
---@param outcome "commit"|"rollback"
---@param err? any why
function observe.ended(tx, outcome, err)
  local extra = core.extra(tx)
  local begun = extra.begun
  extra.begun = nil
  local db = core.database(tx)
  if db then while_telling(db, state_of(db), tell_transaction, begun, tx, outcome, err) end
end

--- A transaction is to be tried again.
---@param x moonbase.Session
---@param attempt integer the number of the one that has failed
---@param err any
function observe.retry(x, attempt, err)
  if not core.observed(x) then return end
  local db = core.database(x)
  while_telling(db, state_of(db), function(_, state)
    local event = new_event(db, state)
    event.attempt, event.source = attempt, find_source()
    describe_any(event, err)
    tell(state, "retry", event)
  end)
end

return observe
