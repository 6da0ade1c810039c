-- Calls that wait for a database, in tasks of event loops: while one waits, others run.
local lfs = require "lfs"
local moonbase = require "moonbase"
local databases = require "spec.support.databases"
local expect = require "spec.support.expect"
local language = require "spec.support.language"
local loops = require "spec.support.loops"

local now = require "moonbase.core".now

local server
for _, database in ipairs(databases) do
  if database.name == "PostgreSQL" then server = database end
end

-- As many as a server of the specs lets in beside those who look after it.
local many = 90

describe("Option scheduler", function()
  local function refused(text, value)
    local err = expect.raised("ConnectorValidationError", "option scheduler: ", moonbase.open,
      "sqlite::memory:", { scheduler = value })
    assert.is_truthy(err.message:find(text, 1, true), err.message)
    expect.raised("ConnectorValidationError", text, moonbase.scheduler.default, value)
  end

  it("is a name, or a table with a function wait", function()
    refused("wants auto, blocking, copas, cqueues, luv or openresty, or a table with", 1)
    refused("did you mean \"cqueues\"", "cqueue")
    refused("a table with a function wait", {})
    refused("a table with a function wait", { wait = "r" })
    refused("a table with a function wait", function() end)
  end)

  local function missing(name)
    if loops[name] then return end
    it(name .. " wants its library, and a Lua that yields everywhere", function()
      expect.raised(language.yields and "ConnectorValidationError" or "UnsupportedError", name,
        moonbase.open, "sqlite::memory:", { scheduler = name })
    end)
  end

  missing "cqueues"
  missing "luv"
  missing "copas"
end)

-- Runs fn, and gives its results after how often another task has run meanwhile.
local function beside(loop, fn)
  local count, has_ended = 0, false
  loop.spawn(function()
    while not has_ended do
      loop.pause(0.001)
      count = count + 1
    end
  end)
  local function give(ok, ...)
    has_ended = true
    loop.pause(0.005) -- the other ends as well
    if not ok then error((...), 0) end
    return count, ...
  end
  return give(pcall(fn))
end

-- Calls each of n functions in a task of its own, and waits for all of them.
local function together(loop, n, fn)
  local n_left, failure = n, nil
  for i = 1, n do
    loop.spawn(function()
      local ok, err = pcall(fn, i)
      if not ok then failure = failure or err end
      n_left = n_left - 1
    end)
  end
  while n_left > 0 do loop.pause(0.001) end
  if failure then error(failure, 0) end
end

for _, loop in ipairs(server and loops or {}) do
  describe("In a loop of " .. loop.name, function()
    local db

    -- A case in a task.
    local function task(name, fn)
      it(name, function()
        loop.run(function()
          db = server:open { scheduler = loop.name, pool = { max = many } }
          fn()
        end)
      end)
    end

    after_each(function() server:clean() end)

    task("many connections wait together", function()
      local conns = {}
      together(loop, many, function(i) conns[i] = db:connect() end)
      local sum, start = 0, now()
      together(loop, many, function(i)
        local n = conns[i]:query_value("select ?::int from pg_sleep(0.1)", i)
        sum = sum + n
      end)
      local took = now() - start
      assert.equal(many * (many + 1) / 2, sum)
      -- One after the other it would be 9 s.
      assert.is_true(took >= 0.1 and took < 1.5, took)
      together(loop, many, function(i) conns[i]:close() end)
      assert.equal(0, db:stats().in_use)
    end)

    task("a query lets others run, and gives what it gives elsewhere", function()
      local count, a, b = beside(loop, function()
        return db:query_values "select 1, 'x' from pg_sleep(0.1)"
      end)
      assert.is_true(count >= 10, count)
      assert.same({ 1, "x" }, { a, b })
    end)

    task("rows come into for loops", function()
      local sql = "select g, pg_sleep(0.0005) from generate_series(1, 300) g"
      local sum = 0
      local count = beside(loop, function()
        for row in db:query(sql) do sum = sum + row.g end
        for n, g in db:query(sql):tuples() do sum = sum + g - n end
        for row in db:query(sql):arrays() do sum = sum + row[1] end
        db:query(sql):each(function(row) sum = sum + row.g end)
      end)
      assert.equal(3 * 45150, sum)
      assert.is_true(count >= 10, count)
      assert.equal(0, db:stats().in_use)
    end)

    task("transactions and those inside them", function()
      db:exec "create table item (n integer)"
      local count, result = beside(loop, function()
        return db:transaction(function(tx)
          tx:exec "insert into item values (1)"
          tx:query_value "select pg_sleep(0.05)"
          expect.raised("SyntaxError", nil, tx.transaction, tx, function(inner)
            inner:exec "insert into item values (2)"
            inner:query_value "select pg_sleep(0.05)"
            inner:exec "inser"
          end)
          tx:transaction(function(inner) inner:exec "insert into item values (3)" end)
          return "done"
        end)
      end)
      assert.is_true(count >= 10, count)
      assert.equal("done", result)
      assert.same({ 1, 3 }, db:query_column "select n from item order by n")
    end)

    task("each task has a transaction of its own", function()
      db:exec "create table item (n integer)"
      local start = now()
      together(loop, 20, function(i)
        db:transaction(function(tx)
          assert.is_true(db:current() == tx)
          tx:exec("insert into item values (?)", i)
          tx:query_value "select pg_sleep(0.1)"
          assert.is_true(db:current() == tx)
        end)
        assert.is_nil(db:current())
      end)
      assert.is_true(now() - start < 1)
      assert.equal(210, db:query_value "select sum(n) from item")
    end)

    task("transactions are run again, after a pause for others", function()
      db:exec "create table item (n integer)"
      db:exec "insert into item values (0)"
      local other = server:open { scheduler = loop.name }
      local count, attempts = beside(loop, function()
        return db:transaction(function(tx)
          tx:query_value "select n from item"
          if tx.attempt < 6 then other:exec "update item set n = n + 10" end
          tx:exec "update item set n = n + 1"
          return tx.attempt
        end, { isolation = "repeatable read", retry = { attempts = 6 } })
      end)
      assert.equal(6, attempts)
      assert.equal(51, db:query_value "select n from item")
      assert.is_true(count >= 3, count)
    end)

    task("time-outs end calls, and the connection stays", function()
      local pid = db:query_value "select pg_backend_pid()"
      local start = now()
      local count = beside(loop, function()
        expect.raised("TimeoutError", nil, function()
          db:with{ timeout = 0.1 }:query_value "select pg_sleep(30)"
        end)
      end)
      assert.is_true(now() - start < 5)
      assert.is_true(count >= 10, count)
      assert.equal(pid, db:query_value "select pg_backend_pid()")
    end)

    task("one task cancels what another waits for", function()
      local stop = moonbase.cancellation()
      local start = now()
      loop.spawn(function()
        loop.pause(0.05)
        stop:cancel "enough"
      end)
      local err = expect.raised("CanceledError", nil, function()
        db:with{ cancel = stop }:query_value "select pg_sleep(30)"
      end)
      assert.is_truthy(tostring(err):find "enough")
      assert.is_true(now() - start < 5)
      assert.equal(1, db:query_value "select 1")
    end)

    task("a connection is waited for", function()
      local narrow = server:open { scheduler = loop.name, pool = { max = 2 } }
      local start = now()
      local count = beside(loop, function()
        together(loop, 6, function() narrow:query_value "select pg_sleep(0.05)" end)
      end)
      local took = now() - start
      assert.is_true(took >= 0.15 and took < 2, took)
      assert.is_true(count >= 10, count)
      assert.equal(2, narrow:stats().size)
    end)

    task("for a connection that does not come back only so long", function()
      local narrow = server:open { scheduler = loop.name,
        pool = { max = 1, acquire_timeout = 0.1 } }
      local conn = narrow:connect()
      local failure
      local count = beside(loop, function()
        together(loop, 1, function()
          failure = expect.raised("PoolTimeoutError", nil, narrow.query_value, narrow, "select 1")
        end)
      end)
      assert.is_true(count >= 10, count)
      assert.is_truthy(failure)
      conn:close()
      assert.equal(1, narrow:query_value "select 1")
    end)

    task("what is loaded and unloaded by COPY", function()
      local postgres = require "moonbase.postgres"
      db:exec_script [[create table item (n integer);
        create function slowly() returns trigger language plpgsql as $$
          begin perform pg_sleep(0.1); return null; end $$;
        create trigger slow after insert on item for each statement execute function slowly()]]
      local n = 0
      local count, loaded = beside(loop, function()
        return postgres.copy_from(db, "copy item from stdin", function()
          n = n + 1
          return n <= 20000 and n .. "\n" or nil
        end)
      end)
      assert.equal(20000, loaded)
      assert.is_true(count >= 10, count)
      local size = 0
      count = beside(loop, function()
        for piece in postgres.copy_to(db, "copy (select n, pg_sleep(0.0001) from item limit 1000) "
          .. "to stdout") do
          size = size + #piece
        end
      end)
      assert.is_true(size > 3000, size)
      assert.is_true(count >= 10, count)
    end)

    task("notifications are listened for", function()
      local postgres = require "moonbase.postgres"
      local listener = postgres.listen(db, "jobs")
      assert.is_true(listener:next().connected)
      loop.spawn(function()
        loop.pause(0.1)
        postgres.notify(db, "jobs", "work")
      end)
      local count, event = beside(loop, function() return listener:next(10) end)
      assert.equal("work", event.payload)
      assert.is_true(count >= 10, count)
      assert.is_nil(listener:next(0.01))
      listener:close()
    end)

    task("an error goes to its task alone", function()
      local good, err
      together(loop, 2, function(i)
        if i == 1 then
          err = expect.raised("SyntaxError", "syntax error", db.exec, db, "selec")
        else
          good = db:query_value "select 'good' from pg_sleep(0.02)"
        end
      end)
      assert.equal("good", good)
      assert.is_truthy(err.traceback:find("scheduler_spec.lua", 1, true), err.traceback)
    end)

    task("what was waited with serves again", function()
      local function count()
        local n = loop.handles()
        for _ in lfs.dir "/proc/self/fd" do n = n + 1 end
        return n
      end
      local function work()
        together(loop, 10, function()
          for i = 1, 30 do
            local timed = db:with{ timeout = i % 3 == 0 and 0.001 or 30 }
            moonbase.pcall(timed.query_value, timed, "select pg_sleep(?::float)", i % 3 / 1000)
          end
        end)
      end
      local conns = {}
      together(loop, 10, function(i) conns[i] = db:connect() end)
      for i = 1, 10 do conns[i]:close() end
      work()
      local before = count()
      for _ = 1, 3 do work() end
      assert.is_true(count() <= before + 5, count() - before)
    end)

    it("nobody waits outside of it", function()
      db = server:open { scheduler = loop.name }
      assert.equal(1, db:query_value "select 1 from pg_sleep(0.01)")
      db:transaction(function(tx) tx:exec "select 1" end)
    end)

    task("a coroutine of the task's own cannot wait", function()
      db:query_value "select 1"
      local generate = coroutine.wrap(function()
        coroutine.yield "first"
        return db:query_value "select 'second' from pg_sleep(0.05)"
      end)
      assert.equal("first", generate())
      local err = expect.raised("UsageError", nil, function()
        -- Where a loop's tasks are not to be told from others, the first call comes back.
        generate()
        generate()
      end)
      assert.is_truthy(err.message:find("wrap", 1, true)
        or err.message:find("addthread", 1, true), err.message)
      assert.equal(1, db:query_value "select 1")
    end)

    task("nor can one that cannot yield", function()
      local pid = db:query_value "select pg_backend_pid()"
      local err = expect.raised("UsageError", "scheduler = \"blocking\"", table.sort, { 1, 2 },
        function() return db:query_value "select true" end)
      assert.is_truthy(err.message:find "cannot yield", err.message)
      local blocking = server:open { scheduler = "blocking" }
      table.sort({ 1, 2 }, function(a, b) return blocking:query_value("select ? < ?", a, b) end)
      assert.equal(pid, db:query_value "select pg_backend_pid()")
    end)
  end)
end

if server and language.yields then
  describe("With a scheduler of the program's own", function()
    after_each(function() server:clean() end)

    -- Resumes coroutines one after the other until all have ended.
    local function run(tasks)
      while tasks[1] do
        for i = #tasks, 1, -1 do
          assert(coroutine.resume(tasks[i]))
          if coroutine.status(tasks[i]) == "dead" then table.remove(tasks, i) end
        end
      end
    end

    it("calls wait by its function, which may come back early", function()
      local waits = {}
      local db = server:open { pool = { max = 10 }, scheduler = { wait = function(...)
        waits[#waits + 1] = { n = select("#", ...), ... }
        coroutine.yield()
      end } }
      local tasks, sum, start = {}, 0, now()
      for i = 1, 10 do
        tasks[i] = coroutine.create(function()
          local n = db:with{ timeout = 30 }:query_value("select ?::int from pg_sleep(0.1)", i)
          sum = sum + n
        end)
      end
      run(tasks)
      assert.equal(55, sum)
      assert.is_true(now() - start < 1)
      assert.is_true(#waits > 20)
      for _, given in ipairs(waits) do
        local fd, events, seconds = language.unpack(given, 1, given.n)
        assert.is_true(fd == nil and seconds ~= nil or type(fd) == "number" and fd >= 0)
        assert.is_true(events == "r" or events == "w" or events == "rw")
        assert.is_true(seconds == nil or seconds >= 0 and seconds <= 30)
      end
    end)

    it("pauses are waits as well", function()
      local n_sleeps = 0
      local db = server:open { scheduler = { wait = function(fd)
        if not fd then n_sleeps = n_sleeps + 1 end
        coroutine.yield()
      end } }
      local attempts
      run { coroutine.create(function()
        attempts = db:transaction(function(tx)
          if tx.attempt < 4 then
            tx:exec "do $$ begin raise exception using errcode = '40001'; end $$"
          end
          return tx.attempt
        end, { retry = { attempts = 4 } })
      end) }
      assert.equal(4, attempts)
      assert.is_true(n_sleeps >= 3, n_sleeps)
    end)

    it("its error ends the call and drops the connection", function()
      local fails = false
      local reason = setmetatable({}, { __tostring = function() return "no more" end })
      local db = server:open { scheduler = { wait = function()
        if fails then error(reason, 0) end
        coroutine.yield()
      end } }
      local ok, err
      run { coroutine.create(function()
        db:query_value "select 1"
        fails = true
        ok, err = pcall(db.query_value, db, "select pg_sleep(30)")
        fails = false
        assert.equal(0, db:stats().in_use)
        assert.equal(0, db:stats().size)
        assert.equal(2, db:query_value "select 2")
      end) }
      assert.is_false(ok)
      assert.is_true(err == reason)
    end)

    it("a task of its own making is asked for by a function", function()
      local n_waits, task = 0, nil
      local db = server:open { scheduler = {
        task = function() return task end,
        wait = function()
          n_waits = n_waits + 1
          coroutine.yield()
        end,
      } }
      run { coroutine.create(function() db:query_value "select 1" end) }
      assert.equal(0, n_waits)
      task = coroutine.create(function() db:query_value "select pg_sleep(0.01)" end)
      run { task }
      assert.is_true(n_waits > 0)
    end)
  end)
end
