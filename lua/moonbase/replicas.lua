--- Calls that only read, on copies of the database: option replicas of open.
---
--- Each replica is a Database of its own.  A view with replica = true has methods of its own,
--- which choose one for each call; transactions that only read are begun on one.  What is
--- particular about a database is in moonbase.DRIVER.replicas.
---@module moonbase.replicas

local core = require "moonbase.core"
local errors = require "moonbase.errors"
local observe = require "moonbase.observe"

local replicas = {}

local unpack = rawget(table, "unpack") or rawget(_G, "unpack")

-- A replica that has failed is left alone for ten times as long as that took, within these
-- limits, in seconds.
local shortest_rest, longest_rest = 1, 60

-- How long a call waits for a replica that has not replayed enough; and for how long none
-- waits after one has waited in vain.
local longest_wait, wait_rest = 0.1, 1
local first_pause, longest_pause = 0.001, 0.01

-- For a question about a position.
local answer_limit = 1

-- What the option has made of a Database:
--   driver    what is particular
--   primary   that Database; probe: a view of it for questions
--   list      of members: the replicas
--   fallback  the member where views go when there is none
--   turn      the number of the member that is asked first
--   follows   read_your_writes
--   needed    the position that a replica must have replayed for the call that goes on
--   only_reading   its sessions cannot write
--   position, acquired   what was written when that was asked for last, and how many connections
--             the primary had lent by then
--   wait_at   from when on to wait again
-- and of each member:
--   db
--   probe     a view for questions
--   retry_at  from when on to try it again
--   replayed, created   how far it was when it was asked last, and how many connections to it
--             had been made by then
local function state_of(x)
  return core.extra(x).replicas
end

-- --- Opening ---------------------------------------------------------------------

local function refuse(class, format, ...)
  error(errors.new(class, format:format(...), nil, 3), 0)
end

local function load_particular(name)
  local module_name = "moonbase." .. name .. ".replicas"
  local ok, particular = pcall(require, module_name)
  if ok then return particular end
  if not tostring(particular):find("module '" .. module_name .. "' not found", 1, true) then
    error(particular, 0)
  end
  refuse("UnsupportedError", "option replicas: driver \"%s\" has none", name)
end

local function check_urls(list)
  local n = core.rawlen(list)
  for key, url in pairs(list) do
    if type(key) ~= "number" or key < 1 or key > n or type(url) ~= "string" then
      refuse("ConnectorValidationError", "option replicas: wants a list of URLs")
    end
  end
end

-- The options of the primary for a pool beside it.
local function options_beside(given, name, left_out)
  local own = {}
  for option, value in pairs(given) do
    if not left_out[option] then own[option] = value end
  end
  own.replicas, own.read_your_writes = nil, nil
  own.name = name
  return own
end

-- Adds a statement to those of option init, which may stand in the URL.
local function add_init(url, given, text)
  if not text then return url end
  if given.init == nil and url then
    return url .. (url:find("?", 1, true) and "&" or "?") .. "init=" .. text:gsub("[^%w]",
      function(byte) return ("%%%02X"):format(byte:byte()) end)
  end
  local list = {}
  if type(given.init) == "table" then
    for i = 1, core.rawlen(given.init) do list[i] = given.init[i] end
  else
    list[1] = given.init
  end
  list[#list + 1] = text
  given.init = list
  return url
end

-- A view for questions, whatever the options of the Database.
local function new_probe(db)
  return core.configure(core.view(db),
    { timeout = answer_limit, has_setup = core.options(db).has_setup })
end

-- Asks on a new connection, since a server that was restarted may have less than it had; and
-- waits a little.
local function wait_for_new(state, member, conn)
  local x = core.configure(core.view(conn), { timeout = answer_limit })
  local deadline, pause = core.now() + longest_wait, first_pause
  while true do
    member.replayed = tonumber(x:query_value(state.driver.replayed))
    member.created = core.stats(member.db).created
    if member.replayed >= state.needed then return end
    if core.now() >= deadline then
      error(errors.new("ConnectivityError", "the replica has not replayed what was written", nil,
        1), 0)
    end
    core.pause(x, pause)
    pause = math.min(2 * pause, longest_pause)
  end
end

-- Has new connections set up by functions.  Views of replicas get the options of views of the
-- primary, so it is said of both.
local function use_setup(db)
  local own = core.options(db)
  own.has_setup = true
  core.configure(db, own)
end

-- Has new connections to a member looked at before they are lent.
local function watch_new(state, member)
  local hooks = core.extra(member.db).setup
  local before = hooks.on_connect
  function hooks.on_connect(conn)
    if before then before(conn) end
    wait_for_new(state, member, conn)
  end
  use_setup(member.db)
end

local function new_member(state, db, is_watched)
  -- Keeps the primary: what is begun on a replica belongs to it.
  core.extra(db).primary = state.primary
  core.join(db, state.primary)
  local member = { db = db, retry_at = 0, replayed = -1 }
  if is_watched then watch_new(state, member) end
  member.probe = new_probe(db)
  return member
end

local function open_replica(state, number, url, given, open)
  local name = core.option(state.primary, "name")
  local own = options_beside(given, name and ("%s, replica %d"):format(name, number),
    state.driver.places)
  local with_init = add_init(url, own, state.driver.only_reading(state.primary))
  local ok, db = pcall(open, with_init, own)
  if not ok then
    if errors.is(db) then
      db.message = ("option replicas, number %d: %s"):format(number, db.message)
    end
    error(db, 0)
  end
  state.list[number] = new_member(state, db, state.follows)
  local driver = core.about(db).driver
  if driver ~= core.about(state.primary).driver then
    refuse("ConnectorValidationError", "option replicas, number %d: is of driver \"%s\", and not "
      .. "\"%s\"", number, driver, core.about(state.primary).driver)
  end
  if state.follows and state.driver.are_several(db) then
    refuse("ConnectorValidationError", "option replicas, number %d: has several hosts; with "
      .. "read_your_writes each replica is one server, with a URL of its own", number)
  end
end

-- The primary, with sessions that only read.
local function open_fallback(state, url, given, open)
  local text = state.driver.only_reading(state.primary)
  if not text then return { db = state.primary } end
  local name = core.option(state.primary, "name")
  local own = options_beside(given, name and name .. ", only reading", {})
  local pool = {}
  for option, value in pairs(own.pool or {}) do pool[option] = value end
  pool.min_idle = nil
  own.pool, own.min_idle = pool, 0
  return new_member(state, open(add_init(url, own, text), own, ", only reading"))
end

local function close_all(state, limit)
  for _, member in ipairs(state.list) do core.close_database(member.db, limit) end
  if state.fallback then core.close_database(state.fallback.db, limit) end
end

local function open_all(state, urls, url, given, open)
  for number, one in ipairs(urls) do open_replica(state, number, one, given, open) end
  state.fallback = open_fallback(state, url, given, open)
end

--- Gives a Database that was just opened its replicas.
---@param db moonbase.Database
---@param kept table option replicas and read_your_writes, if given
---@param url? string of the primary
---@param given table the options of open
---@param open fun(url?: string, given: table, suffix?: string): moonbase.Database
function replicas.open(db, kept, url, given, open)
  if not kept.replicas then
    if kept.read_your_writes ~= nil then
      refuse("ConnectorValidationError", "option read_your_writes: wants option replicas beside it")
    end
    return
  end
  check_urls(kept.replicas)
  if kept.read_your_writes then use_setup(db) end
  local state = {
    driver = load_particular(core.about(db).driver), primary = db, list = {}, turn = 1,
    follows = kept.read_your_writes or false, wait_at = 0, needed = -1, probe = new_probe(db),
  }
  state.only_reading = state.driver.only_reading(db) ~= nil
  local ok, err = pcall(open_all, state, kept.replicas, url, given, open)
  if not ok then
    close_all(state, 0)
    error(err, 0)
  end
  core.extra(db).replicas = state
end

-- --- Whether a replica can be used -------------------------------------------------

-- Asks a member or the primary, on a connection beside what the program has open.
local function ask(whom, text)
  local conn = whom.probe:connect()
  local ok, value = pcall(conn.query_value, conn, text)
  core.close_connection(conn)
  if not ok then error(value, 0) end
  return tonumber(value)
end

local function note_failure(member, since)
  local now = core.now()
  member.retry_at = now + math.min(longest_rest, math.max(shortest_rest, 10 * (now - since)))
end

-- What was written up to now, if anything may have been since the question was asked last;
-- nil when that cannot be known.  Any use of the primary may write: a SELECT calls functions.
local function find_position(state)
  local stats = core.stats(state.primary)
  if state.position and state.acquired == stats.acquired then return state.position end
  state.position = nil
  local ok, position = pcall(ask, state, state.driver.written)
  if not ok then
    if errors.is(position) then return nil end
    error(position, 0)
  end
  -- One connection was lent for the question; who has another may still write.
  if stats.in_use == 0 then
    state.position, state.acquired = position, stats.acquired + 1
  end
  return position
end

-- Whether a member has replayed the position.  One that has no connection to lend, or does
-- not answer, has not.
local function has_replayed(member, position, text)
  if member.replayed >= position and member.created == core.stats(member.db).created then
    return true
  end
  local since = core.now()
  local ok, replayed = pcall(ask, member, text)
  if ok then
    member.replayed, member.created = replayed, core.stats(member.db).created
    return replayed >= position
  end
  if errors.is(replayed, "ConnectivityError") or errors.is(replayed, "TimeoutError") then
    note_failure(member, since)
  elseif not (errors.is(replayed, "PoolTimeoutError") or errors.is(replayed, "UsageError")) then
    error(replayed, 0)
  end
  return false
end

local function is_usable(state, member, position)
  return core.now() >= member.retry_at
    and (not position or has_replayed(member, position, state.driver.replayed))
end

-- --- Choosing --------------------------------------------------------------------

-- A call has several results, or an error, or nil and an error where the handle says so.
local function pack(...)
  return { n = select("#", ...), ... }
end

local function give(results)
  if not results[1] then error(results[2], 0) end
  return unpack(results, 2, results.n)
end

-- Calls with a member: what pcall gives, or nil when it was not to be reached, or was lost.
local function try(state, member, call)
  local since = core.now()
  local results = pack(pcall(call, member))
  local err = results[2]
  if results[1] then err = results[2] == nil and results[3] or nil end
  if not errors.is(err, "ConnectivityError") then return results end
  note_failure(member, since)
  return err.sent and not state.only_reading and results or nil
end

local function try_all(state, members, position, call)
  for _, member in ipairs(members) do
    if is_usable(state, member, position) then
      local results = try(state, member, call)
      if results then return results end
    end
  end
  return nil
end

-- All members, the one whose turn it is first.
local function take_turn(state)
  local list, n = {}, #state.list
  for i = 0, n - 1 do list[i + 1] = state.list[(state.turn - 1 + i) % n + 1] end
  state.turn = n > 0 and state.turn % n + 1 or 1
  return list
end

-- Replicas are there, and none has replayed the position: that is a matter of milliseconds,
-- or of something that is wrong.
local function wait_for_one(state, position, call)
  local deadline = core.now() + longest_wait
  local pause = first_pause
  while core.now() < deadline do
    local waiting = {}
    for _, member in ipairs(take_turn(state)) do
      if core.now() >= member.retry_at then waiting[#waiting + 1] = member end
    end
    if not waiting[1] then return nil end
    core.pause(state.primary, pause)
    pause = math.min(2 * pause, longest_pause)
    local results = try_all(state, waiting, position, call)
    if results then return results end
  end
  state.wait_at = core.now() + wait_rest
  return nil
end

-- Calls with a replica; nil when there is none to be had.
local function call_replica(state, call)
  local position
  if state.follows and state.list[1] then
    position = find_position(state)
    if not position then return nil end
    state.needed = position
  end
  local results = try_all(state, take_turn(state), position, call)
  if not results and position and core.now() >= state.wait_at then
    results = wait_for_one(state, position, call)
  end
  return results
end

local function view_of(member, own)
  return core.configure(core.view(member.db), own)
end

-- Options of a handle without what makes a view of it go to replicas.
local function plain_options(x)
  local own = core.options(x)
  return own.plain or own
end

--- Begins a transaction that only reads: on a replica, or where x is.
---@param x moonbase.Database
---@param begin table
---@param managed boolean
---@return moonbase.Transaction
function replicas.begin(x, begin, managed)
  local state = state_of(x)
  if state and not begin.exclusive and state.driver.can_run(begin)
    and not core.is_closed(x) then
    local own = plain_options(x)
    local results = call_replica(state, function(member)
      return core.begin(view_of(member, own), begin, managed)
    end)
    if results then return give(results) end
  end
  return core.begin(x, begin, managed)
end

--- Calls fn with x and what follows; of a view with replica = true with a replica in its place.
---@param x moonbase.Session
---@param fn function
---@param ... any
---@return any ...
function replicas.call(x, fn, ...)
  local own = core.kind(x) == "Database" and core.options(x).plain
  if not own then return fn(x, ...) end
  if core.is_closed(x) then errors.usage "the database is closed" end
  local state, arguments = state_of(x), pack(...)
  local function call(member)
    return fn(view_of(member, own), unpack(arguments, 1, arguments.n))
  end
  local results = call_replica(state, call)
  if results then return give(results) end
  return call(state.fallback)
end

-- --- Views -----------------------------------------------------------------------

-- Methods that run something.
local routed = { "batch", "bulk_insert", "capability", "connect", "exec", "exec_script", "ping",
  "prepare", "query", "query_all", "query_column", "query_row", "query_value", "query_values" }

local function route(method)
  return function(x, ...) return replicas.call(x, method, ...) end
end

-- Options of a transaction, which only reads.
local function reading(given)
  if given ~= nil and type(given) ~= "table" then return given end
  local own = {}
  for name, value in pairs(given or {}) do own[name] = value end
  own.read_only = true
  return own
end

local metatable

-- That of a Database, with methods that choose.
local function metatable_of(db)
  if metatable then return metatable end
  local methods = setmetatable({}, { __index = core.methods.Database })
  for _, name in ipairs(routed) do methods[name] = route(methods[name]) end
  local begin, run = methods.begin, methods.transaction
  function methods.begin(x, given) return begin(x, reading(given)) end
  function methods.transaction(x, fn, given) return run(x, fn, reading(given)) end
  local made = {}
  for name, value in pairs(debug.getmetatable(db)) do made[name] = value end
  made.__index = methods
  metatable = made
  return made
end

--- Makes a view of a Database, whose option replica is true, one that goes to replicas.
---@generic T
---@param view T
---@return T
function replicas.dress(view)
  local own, plain = core.options(view), {}
  for name, value in pairs(own) do
    if name ~= "plain" and name ~= "replica" then plain[name] = value end
  end
  own.plain = plain
  debug.setmetatable(view, metatable_of(state_of(view).primary))
  return view
end

--- Raises a UsageError where option replica of with has no meaning.
---@param x moonbase.Session
function replicas.check_view(x)
  if core.kind(x) ~= "Database" then
    errors.usage "option replica of with belongs to a Database: a connection stays where it is"
  end
  if not state_of(x) then
    errors.usage("option replica of with: the Database has no replicas; open it with replicas = "
      .. "{ } where there are none")
  end
end

-- --- The Database ------------------------------------------------------------------

--- Closes a Database with its replicas.
---@param db moonbase.Database
---@param limit? number
function replicas.close(db, limit)
  local state = state_of(db)
  if state then close_all(state, limit) end
  core.close_database(db, limit)
end

local function stats_of(member)
  local stats = core.stats(member.db)
  stats.url = core.url(member.db)
  stats.reachable = core.now() >= member.retry_at
  return stats
end

--- Figures of a Database, and of each replica.
---@param db moonbase.Database
---@return moonbase.Stats
function replicas.stats(db)
  local stats, state = core.stats(db), state_of(db)
  if not state then return stats end
  stats.replicas = {}
  for i, member in ipairs(state.list) do stats.replicas[i] = stats_of(member) end
  if state.fallback.db ~= state.primary then stats.only_reading = core.stats(state.fallback.db) end
  return stats
end

--- Listens to a Database and its replicas; as moonbase.observe.on.
---@param db moonbase.Database
---@param event string
---@param fn fun(event: moonbase.Event)
---@param options? { seconds: number? }
---@return fun() off
function replicas.on(db, event, fn, options)
  local off = observe.on(db, event, fn, options)
  local state = state_of(db)
  if not state then return off end
  local all = { off }
  for _, member in ipairs(state.list) do
    all[#all + 1] = observe.on(member.db, event, fn, options)
  end
  if state.fallback.db ~= state.primary then
    all[#all + 1] = observe.on(state.fallback.db, event, fn, options)
  end
  return function()
    for _, one in ipairs(all) do one() end
  end
end

return replicas
