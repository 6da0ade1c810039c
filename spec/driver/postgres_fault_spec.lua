-- What breaks between a program and PostgreSQL, beside what breaks with every server
-- (spec/server_fault_spec.lua).
local moonbase = require "moonbase"
local language = require "spec.support.language"
local now = require "moonbase.core".now
local postgres = require "spec.support.postgres"
local recovers = require "spec.support.recovers"

describe("With PostgreSQL", function()
  local server, db

  setup(function() server = postgres.start() end)
  teardown(function() server:close() end)

  before_each(function()
    db = moonbase.open(server:fresh(), { pool = { check_after_idle = 30 } })
    db:exec "create table item (n integer primary key)"
  end)

  after_each(function() db:close() end)

  it("a session that is killed while it idles is no error at all", function()
    local conns, pids = {}, {}
    for i = 1, 5 do
      conns[i] = db:connect()
      pids[i] = conns[i]:query_value "select pg_backend_pid()"
    end
    for i = 1, 5 do conns[i]:close() end
    -- With a time-out it waits until the process has ended.
    for i = 1, 5 do server:psql("select pg_terminate_backend(" .. pids[i] .. ", 5000)") end
    for _ = 1, 5 do assert.equal(0, db:query_value "select count(*) from item") end
  end)

  it("a session whose process is killed ends all, and all come back", function()
    local conns = {}
    for i = 1, 3 do conns[i] = db:connect() end
    server:signal("KILL", conns[1]:query_value "select pg_backend_pid()")
    for i = 1, 3 do
      -- The main process takes its time to end the others.
      local start = now()
      local ok, err
      repeat ok, err = pcall(conns[i].exec, conns[i], "select 1") until not ok or now() - start > 10
      assert.equal("ConnectionLostError", not ok and err.class)
      assert.is_true(err.connection_dead)
      conns[i]:close()
    end
    recovers(db, 1000)
    for _ = 1, 5 do assert.equal(0, db:query_value "select count(*) from item") end
  end)

  it("a task that is gone while it connects is no failure of the server's", function()
    if not language.yields then return end
    local other = moonbase.open(server:url(), { pool = { max = 1 },
      scheduler = { wait = function() coroutine.yield() end } })
    local function ask() return other:query_value "select 1" end
    server:freeze()
    local first, second = coroutine.create(ask), coroutine.create(ask)
    assert(coroutine.resume(first))
    assert(coroutine.resume(second))
    assert.equal("suspended", coroutine.status(second))
    first = nil -- luacheck: ignore 311
    language.collect()
    local ok, value
    local began = now()
    while coroutine.status(second) ~= "dead" and now() < began + 10 do
      if server.frozen and now() > began + 0.2 then server:thaw() end
      ok, value = coroutine.resume(second)
    end
    if server.frozen then server:thaw() end
    assert.is_true(ok, tostring(value))
    assert.equal(1, value)
    assert.equal(0, other:stats().failures)
    other:close()
  end)
end)
