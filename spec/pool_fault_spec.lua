-- What the pool owes when connections are lost and servers do not answer: the fault driver around
-- SQLite's is the server.
local commands = require "moonbase.commands"
local core = require "moonbase.core"
local moonbase = require "moonbase"
local testing = require "moonbase.testing"
local expect = require "spec.support.expect"
local files = require "spec.support.files"
local language = require "spec.support.language"
local threads = require "spec.support.threads"

describe("A pool whose connections fail", function()
  local path, db, fault, born

  local function open(options)
    db = moonbase.open("fault+sqlite:" .. path, options)
    fault = testing.fault(db)
  end

  before_each(function()
    path, born = files.path "pool.db", 0
    local plain = moonbase.open("sqlite:" .. path)
    plain:exec "create table item (id integer primary key, name text not null)"
    plain:close()
  end)

  after_each(function()
    fault:clear()
    collectgarbage()
    db:ping()
    local stats = db:stats()
    assert.equal(stats.acquired, stats.released + stats.in_use)
    assert.equal(stats.created, stats.closed + stats.open)
    db:close()
    db, fault = nil, nil
    files.clean()
  end)

  local function seconds(fn, ...)
    local start = core.now()
    fn(...)
    return core.now() - start
  end

  -- Waits for what another thread does.
  local function await(what, fn)
    local deadline = core.now() + 10
    while not fn() do
      assert.is_true(core.now() < deadline, what)
      core.sleep(0.002)
    end
  end

  -- Has connections say which one they are, by the order of their making.
  local function number(conn)
    born = born + 1
    conn:exec("create temp table born as select " .. born .. " as n")
  end

  local function number_of(conn)
    return conn:query_value "select n from temp.born"
  end

  local function connect(n)
    local conns = {}
    for i = 1, n do conns[i] = db:connect() end
    return conns
  end

  local function close(conns, first)
    for i = first or 1, #conns do conns[i]:close() end
  end

  -- n connections that are idle.
  local function make_idle(n)
    close(connect(n))
    assert.equal(n, db:stats().idle)
  end

  local function names()
    return db:query_column "select name from item order by id"
  end

  local function insert(x, name)
    return (x:exec("insert into item (name) values (?)", name))
  end

  local function use(conns)
    for i = 1, #conns do assert.equal(1, conns[i]:query_value "select 1") end
  end

  describe("looks at idle ones:", function()
    it("one that died is never handed out as healthy with check_after_idle = 0", function()
      open { pool = { check_after_idle = 0 } }
      make_idle(4)
      fault:lose()
      -- What their sockets do not tell.
      fault:at("is_valid", { answer = "alive", times = math.huge })
      use(connect(4))
      local stats = db:stats()
      assert.equal(8, stats.created)
      assert.is_true(stats.pings >= 1)
      assert.equal(4, stats.closed_by.dead + stats.closed_by.generation)
      assert.equal(0, stats.failures)
    end)

    it("one of which the socket tells is not handed out either, and is not asked", function()
      open { pool = { check_after_idle = false } }
      make_idle(4)
      fault:lose()
      use(connect(4))
      assert.equal(0, db:stats().pings)
      assert.equal(8, db:stats().created)
    end)

    it("one that is READABLE and lives is kept", function()
      open()
      make_idle(1)
      local consumed = fault:calls "consume"
      for _ = 1, 5 do
        fault:at("is_valid", { answer = "readable" })
        assert.equal(1, db:query_value "select 1")
      end
      assert.equal(consumed + 5, fault:calls "consume")
      assert.equal(1, db:stats().created)
      assert.equal(0, db:stats().closed)
    end)

    it("one that is READABLE because it has ended is closed", function()
      open()
      make_idle(2)
      fault:at("is_valid", { answer = "readable" })
      fault:at("consume", { lose = true })
      assert.equal(1, db:query_value "select 1")
      assert.equal(1, db:stats().closed_by.dead)
      assert.equal(3, db:stats().created)
    end)

    it("one that answers a ping too late is closed, and the call gets another", function()
      open { pool = { check_after_idle = 0 } }
      make_idle(1)
      fault:at("ping", { fail = "TimeoutError" })
      assert.equal(1, db:query_value "select 1")
      assert.equal(1, db:stats().closed_by.dead)
    end)
  end)

  describe("after one user has seen ConnectionLostError", function()
    it("lends no older connection again", function()
      open { on_connect = number }
      local conns = connect(4)
      close(conns, 3) -- two are idle, two are in use
      fault:at("execute", { lose = true })
      expect.raised("ConnectionLostError", nil, conns[1].query_value, conns[1], "select 1")
      -- What is alive goes on for its borrower.
      assert.equal(2, number_of(conns[2]))
      conns[1]:close()
      conns[2]:close()
      local later = connect(4)
      for i = 1, 4 do assert.is_true(number_of(later[i]) > 4) end
      close(later)
      -- The pool's thread may be closing one of them still.
      await("three are closed", function() return db:stats().closed_by.generation >= 3 end)
      local closed = db:stats().closed_by
      assert.equal(1, closed.dead)
      assert.equal(3, closed.generation)
    end)

    it("keeps the others where the server has ended that session only", function()
      open { on_connect = number }
      local conns = connect(3)
      close(conns, 2)
      fault:at("execute", { lose = true, session_only = true })
      expect.raised("ConnectionLostError", nil, conns[1].query_value, conns[1], "select 1")
      conns[1]:close()
      assert.is_true(number_of(db) <= 3)
      assert.equal(0, db:stats().closed_by.generation)
    end)

    it("costs every user no more than one error", function()
      open { pool = { max = 7 } }
      local conns = connect(6)
      fault:lose()
      for i = 1, 6 do
        expect.raised("ConnectionLostError", nil, conns[i].query_value, conns[i], "select 1")
        conns[i]:close()
        assert.equal(1, db:query_value "select 1")
      end
    end)
  end)

  describe("asks a server that is gone:", function()
    local user = [[
      local _, url = ...
      local moonbase, threads = require "moonbase", require "spec.support.threads"
      local core = require "moonbase.core"
      local db = moonbase.open(url, { name = "faults", pool = { single_writer = false, max = 8 } })
      local conn = db:connect()
      threads.meet("borrowed", 9)
      threads.meet("lost", 9)
      local ok, err = pcall(conn.query_value, conn, "select 1")
      conn:close()
      local start = core.now()
      local value = db:query_value "select 1"
      db:close()
      return ok or err.class, value, core.now() - start
    ]]

    it("users that see it at once cause one probe", function()
      open { name = "faults", pool = { single_writer = false, max = 8 } }
      local running = {}
      for i = 1, 8 do running[i] = threads.start(user, i, "fault+sqlite:" .. path) end
      threads.meet("borrowed", 9)
      local before = fault:calls "connect"
      fault:lose()
      fault:at("connect", { delay = 0.3 })
      threads.meet("lost", 9)
      await("a probe", function() return fault:calls "connect" > before end)
      await("all wait", function()
        local stats = db:stats()
        return stats.waiting + stats.connecting == 8
      end)
      assert.equal(before + 1, fault:calls "connect")
      for i = 1, 8 do
        local class, value, took = running[i]:join()
        assert.equal("ConnectionLostError", class)
        assert.equal(1, value)
        assert.is_true(took < 3, took)
      end
    end)

    local waiter = [[
      local _, url = ...
      local moonbase, core = require "moonbase", require "moonbase.core"
      local db = moonbase.open(url, { name = "down", pool = { single_writer = false, max = 2 } })
      local start = core.now()
      local ok, err = pcall(db.query_value, db, "select 1")
      return ok or err.class, not ok and err.message, core.now() - start
    ]]

    it("its callers get the connect error within a second, and it recovers", function()
      open { name = "down", pool = { single_writer = false, max = 2 } }
      local conns = connect(2)
      local running = {}
      for i = 1, 3 do running[i] = threads.start(waiter, i, "fault+sqlite:" .. path) end
      await("all wait", function() return db:stats().waiting == 3 end)
      fault:at("connect", { fail = "ConnectivityError", message = "nobody is there",
        times = math.huge })
      fault:lose()
      for i = 1, 2 do
        expect.raised("ConnectionLostError", nil, conns[i].query_value, conns[i], "select 1")
      end
      local start = core.now()
      close(conns)
      for i = 1, 3 do
        local class, message = running[i]:join()
        assert.equal("ConnectivityError", class)
        assert.equal("nobody is there", message)
      end
      assert.is_true(core.now() - start < 1, core.now() - start)
      for _ = 1, 5 do
        local took = seconds(expect.raised, "ConnectivityError", "nobody is there", db.query_value,
          db, "select 1")
        assert.is_true(took < 1, took)
      end
      fault:clear()
      local took = seconds(db.query_value, db, "select 1")
      assert.is_true(took < 1, took)
      use(connect(2))
    end)

    it("one that is gone for a moment is noticed by nobody who is not in a call", function()
      open { pool = { max = 4 } }
      make_idle(3)
      fault:lose()
      use(connect(3))
      assert.equal(0, db:stats().failures)
    end)

    it("min_idle is filled again when it is back", function()
      open { pool = { min_idle = 2, max = 4 } }
      await("two are idle", function() return db:stats().idle == 2 end)
      fault:at("connect", { times = 3, fail = "ConnectivityError" })
      fault:lose()
      assert.is_false((moonbase.pcall(db.query_value, db, "select 1")))
      await("two are idle again", function()
        local stats = db:stats()
        return stats.idle == 2 and stats.created >= 4
      end)
      assert.equal(3, db:stats().failures)
    end)
  end)

  it("that hangs in a ping costs 5 s of the sweep, and no user's time", function()
    open { pool = { sweep_interval = 0.05, check_after_idle = false } }
    fault:at("ping", { delay = math.huge })
    make_idle(2)
    await("a ping", function() return fault:calls "ping" > 0 end)
    local start, n, longest = core.now(), 0, 0
    while db:stats().pings == 0 do
      longest = math.max(longest, seconds(db.query_value, db, "select 1"))
      n = n + 1
      assert.is_true(core.now() - start < 20)
    end
    local took = core.now() - start
    assert.is_true(took > 4.5 and took < 10, took)
    assert.is_true(n > 100, n)
    assert.is_true(longest < 2.5, longest)
    await("it is closed", function() return db:stats().closed_by.dead == 1 end)
    make_idle(2)
    await("it goes on", function() return fault:calls "ping" > 1 end)
  end)

  it("keeps nobody waiting who closes it, in a ping and while it connects", function()
    for slot, nth in pairs { ping = 1, connect = 2 } do
      open { cancel_grace = 0.1, pool = { sweep_interval = 0.01, min_idle = 2 } }
      fault:at(slot, { nth = nth, delay = math.huge })
      db:query_value "select 1"
      await("a " .. slot, function() return fault:calls(slot) == nth end)
      assert.is_true(seconds(db.close, db) < 2)
    end
    open()
  end)

  it("that another thread is making as new is waited for, not refused", function()
    for _, max in ipairs { 10, 1 } do
      open { acquire_timeout = 20, pool = { max = max, min_idle = 1 } } -- which starts the thread
      local kept = max > 1 and db:connect()
      local rollbacks = fault:calls "rollback"
      fault:at("rollback", { delay = 0.3, times = math.huge })
      local function forget(depth)
        if depth > 0 then forget(depth - 1) else db:begin():exec "delete from item" end
      end
      forget(20)
      language.collect()
      await("the pool's thread rolls back",
        function() return fault:calls "rollback" > rollbacks end)
      -- Nobody of this program holds what it needs.
      local sql = "insert into item (name) values ('a')";
      (kept or db):exec(sql)
      db:exec(sql)
      if kept then
        kept:close()
        db:close()
      end
    end
  end)

  describe("leaves handles behind", function()
    -- What can be asked of each kind without an error.
    local harmless = {
      Connection = { "capability", "close", "is_closed", "wait_closed", "with" },
      Transaction = { "capability", "is_closed", "on_commit", "on_rollback", "rollback",
        "wait_closed", "with" },
      Statement = { "close", "is_closed", "parameters", "wait_closed" },
      Rows = { "close", "is_closed", "wait_closed", "columns", "arrays", "tuples", "all", "each",
        "next", "one", "next_result" },
    }
    local arguments = {
      batch = { { { "select 1" } } }, begin = {}, transaction = { function() end }, ping = {},
      bulk_insert = { "item", { "name" }, { { "a" } } }, exec_many = { { {} } }, capability = {},
      with = { {} }, on_commit = { function() end }, on_rollback = { function() end },
      each = { function() end }, query = { "select 1" }, commit = {}, columns = {}, one = {},
    }

    local function is_harmless(kind, name)
      for _, one in ipairs(harmless[kind]) do
        if one == name then return true end
      end
      return false
    end

    -- Each method of a handle, twice; a Statement's take no text.
    local function try_all(kind, x)
      local list = {}
      for name, method in pairs(core.methods[kind]) do
        if type(method) == "function" and name ~= "close" then list[#list + 1] = name end
      end
      table.sort(list)
      list[#list + 1] = "close"
      for _, name in ipairs(list) do
        for _ = 1, x[name] and 2 or 0 do
          local given = kind ~= "Statement" and (arguments[name] or { "select 1" })
            or name == "exec_many" and arguments.exec_many or {}
          local ok, err = pcall(x[name], x, language.unpack(given))
          if not is_harmless(kind, name) then
            assert.is_false(ok, kind .. ":" .. name)
          end
          if not ok then
            assert.is_true(moonbase.is(err), kind .. ":" .. name .. ": " .. tostring(err))
            assert.is_true(err.class == "ConnectionLostError" or err.class == "UsageError"
              or err.class == "EngineError", kind .. ":" .. name .. ": " .. tostring(err))
          end
        end
      end
    end

    -- Handles of each kind on a connection that is then lost.
    local function lose_handles(how)
      local conn = db:connect()
      conn:exec "insert into item (name) values ('a'), ('b'), ('c')"
      local statement = conn:prepare "select name from item"
      local tx = conn:begin()
      local own = tx:prepare "select 1"
      local rows = tx:query "select a.name from item a, item b, item c, item d, item e"
      rows:next()
      how(tx)
      return { { "Rows", rows }, { "Statement", own }, { "Transaction", tx },
        { "Statement", statement }, { "Connection", conn } }
    end

    local ways = {
      ["by the server"] = function() fault:lose() end,
      ["in a call"] = function(tx)
        fault:at("execute", { lose = true })
        pcall(tx.exec, tx, "select 1")
      end,
      ["in the middle of rows"] = function(tx)
        fault:at("fetch", { lose = true })
        pcall(tx.query_all, tx, "select name from item")
      end,
    }

    for name, how in pairs(ways) do
      it("that answer every call with an error, lost " .. name, function()
        open { pool = { max = 2 } }
        local handles = lose_handles(how)
        for _, one in ipairs(handles) do try_all(one[1], one[2]) end
        handles[5][2]:close()
        assert.equal(1, db:query_value "select 1")
        assert.equal(0, db:stats().in_use)
      end)

      it("that may be dropped in any order, lost " .. name, function()
        open { pool = { max = 2 } }
        for first = 1, 5 do
          local handles = lose_handles(how)
          for i = 0, 4 do
            handles[(first + i - 1) % 5 + 1] = nil
            collectgarbage()
          end
          handles = nil -- luacheck: ignore 311
          language.collect()
          assert.equal(1, db:query_value "select 1")
        end
      end)
    end
  end)

  describe("in the middle of COMMIT", function()
    local function write(tx)
      return insert(tx, "attempt " .. tx.attempt)
    end

    for when, after in pairs { before = false, behind = true } do
      it("leaves the outcome unknown, lost " .. when .. " it", function()
        open()
        fault:at("commit", { lose = true, after = after })
        local err = expect.raised("ConnectionLostError", nil, db.transaction, db, write,
          { retry = { attempts = 5 } })
        assert.is_true(err.commit_unknown)
        assert.is_false(err.retryable)
        assert.same(after and { "attempt 1" } or {}, names())
      end)

      it("leaves it unknown by hand, lost " .. when .. " it", function()
        open()
        fault:at("commit", { lose = true, after = after })
        local tx = db:begin()
        insert(tx, "a")
        local told
        tx:on_commit(function() told = true end)
        assert.is_true(expect.raised("ConnectionLostError", nil, tx.commit, tx).commit_unknown)
        expect.raised("UsageError", nil, tx.commit, tx)
        assert.is_nil(told)
        assert.same(after and { "a" } or {}, names())
      end)
    end

    it("is known to have failed where nothing was sent", function()
      open()
      fault:at("commit", { lose = true, sent = false })
      assert.equal(2, db:transaction(function(tx)
        write(tx)
        return tx.attempt
      end, { retry = { attempts = 2 } }))
      assert.same({ "attempt 2" }, names())
    end)

    it("is tried again where it was lost before COMMIT", function()
      open()
      fault:at("execute", { lose = true, sql = "insert into item" })
      assert.equal(1, db:transaction(write, { retry = { attempts = 2 } }))
      assert.same({ "attempt 2" }, names())
    end)

    it("is told by commands, which do not run again", function()
      open()
      local executor = commands.executor(db, { retry = { attempts = 5 } })
      local runs = 0
      local function command(tx)
        runs = runs + 1
        return insert(tx, "a")
      end
      fault:at("commit", { lose = true })
      local err = expect.raised("ConnectionLostError", nil, executor.execute, executor, { command })
      assert.is_true(err.commit_unknown)
      assert.is_false(err.retryable)
      assert.equal(1, runs)
    end)

    for when, after in pairs { before = false, behind = true } do
      it("is found out by the key of commands, lost " .. when .. " it", function()
        open()
        local executor = commands.executor(db, { retry = { attempts = 5 } })
        local runs = 0
        local function command(tx)
          runs = runs + 1
          insert(tx, "a")
          return "run " .. runs
        end
        executor:execute({ command }, { key = "the first" }) -- creates the table of the keys
        fault:at("commit", { lose = true, after = after })
        local results = executor:execute({ command }, { key = "k" })
        assert.same({ after and "run 2" or "run 3", n = 1 }, results)
        assert.same(results, executor:execute({ command }, { key = "k" }))
        assert.same({ "a", "a" }, names())
      end)
    end

    it("is told by commands with a key that may not try again, and found out by the next call",
      function()
        open()
        local executor = commands.executor(db)
        local function command(tx) return insert(tx, "a") end
        executor:execute({}, { key = "none" })
        executor:execute({ command }, { key = "the first" })
        fault:at("commit", { lose = true, after = true })
        local err = expect.raised("ConnectionLostError", nil, executor.execute, executor,
          { command }, { key = "k" })
        assert.is_true(err.commit_unknown)
        assert.same({ 1, n = 1 }, executor:execute({ command }, { key = "k" }))
        assert.same({ "a", "a" }, names())
      end)
  end)
end)
