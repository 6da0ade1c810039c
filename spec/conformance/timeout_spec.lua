-- Time-outs and cancellation.
local moonbase = require "moonbase"
local child = require "spec.support.child"
local expect = require "spec.support.expect"
local now = require "moonbase.core".now

-- How long after its time-out a call may return.
local grace = 0.05

-- The time that a call takes which runs into its time-out: the least of three, since a busy
-- machine can delay any one of them.
local function least_delay(timeout, fn)
  local least = math.huge
  for _ = 1, 3 do
    local start = now()
    expect.raised("TimeoutError", nil, fn)
    local took = now() - start
    assert.is_true(took >= timeout * 0.99, "it ended too early")
    if took < least then least = took end
    if least - timeout < grace then break end
  end
  return least - timeout
end

-- Takes the lock of a writer, says so, and keeps it until it is told to end.
local lock_holder = [[
  local moonbase = require "moonbase"
  local db = moonbase.open(..., { driver = select(2, ...) })
  local tx = db:begin()
  tx:exec "update item set name = 'locked'"
  print "locked"
  io.stdout:flush()
  io.read()
  tx:rollback()
]]

for _, database in ipairs(require "spec.support.databases") do
  local endless = database.quirks.sql.endless
  local series = database.quirks.sql.series

  describe("A time-out on " .. database.name, function()
    local db

    before_each(function()
      db = database:open()
      database:create(db, "item (id :id, name :text)")
      db:exec "insert into item (name) values ('a')"
    end)

    after_each(function() database:clean() end)

    it("ends a statement that would run for ever, within 50 ms", function()
      local x = db:with{ timeout = 0.1 }
      assert.is_true(least_delay(0.1, function() x:query_value(endless) end) < grace)
    end)

    it("ends it in every method, and the connection works afterwards", function()
      local conn = db:connect()
      local x = conn:with{ timeout = 0.02 }
      for _, name in ipairs { "query", "query_row", "query_value", "query_values",
        "query_column", "query_all", "exec", "exec_script" } do
        local err = expect.raised("TimeoutError", nil, x[name], x, endless)
        assert.is_false(err.connection_dead)
        assert.equal(1, conn:query_value "select 1")
      end
      local statement = x:prepare(endless)
      expect.raised("TimeoutError", nil, statement.query_value, statement)
      assert.equal("a", conn:query_value "select name from item")
      conn:close()
      assert.equal(1, db:stats().size)
    end)

    it("is given to open, to with, and in the URL", function()
      expect.raised("TimeoutError", nil, function()
        database:open{ timeout = 0.02 }:query_value(endless)
      end)
      local other = database:open{ timeout = 0.02 }
      assert.equal(300, #other:with{ timeout = 0 }:query_column(series, 300))
      local url = database:url()
      local by_url = moonbase.open(url .. (url:find "?" and "&" or "?") .. "timeout=0.02",
        { driver = database.driver })
      expect.raised("TimeoutError", nil, by_url.query_value, by_url, endless)
      by_url:close()
    end)

    it("does not run while the body of a loop works", function()
      local n = 0
      for _ in db:with{ timeout = 0.1 }:query(series, 200) do
        n = n + 1
        if n == 100 then
          local start = now()
          while now() - start < 0.15 do end -- luacheck: ignore 542
        end
      end
      assert.equal(200, n)
    end)

    it("ends rows in the middle of a loop", function()
      -- The first rows come at once, and then never one again.  Servers keep a few
      -- kilobytes back until more is there.
      local text = database.quirks.sql.stuck:format(("x"):rep(1000))
      local got = 0
      local err = expect.raised("TimeoutError", nil, function()
        for _ in db:with{ timeout = 0.05 }:query(text) do got = got + 1 end
      end)
      assert.is_true(got > 100 and got <= 200)
      assert.is_false(err.connection_dead)
      assert.equal(1, db:query_value "select 1")
      assert.equal(0, db:stats().in_use)
    end)

    it("leaves other open rows of the connection alone", function()
      local conn = db:connect()
      local rows = conn:query(series, 1000)
      rows:next()
      expect.raised("TimeoutError", nil, function()
        conn:with{ timeout = 0.02 }:query_value(endless)
      end)
      assert.equal(999, #rows:all())
      conn:close()
    end)

    it("of a read leaves its transaction usable where the database does", function()
      if not database.quirks.errors_keep_transaction then return end
      db:transaction(function(tx)
        tx:exec "insert into item (name) values ('b')"
        expect.raised("TimeoutError", nil, function()
          tx:with{ timeout = 0.02 }:query_value(endless)
        end)
        tx:exec "insert into item (name) values ('c')"
      end)
      assert.equal(3, db:query_value "select count(*) from item")
    end)

    it("of a write may end its transaction, and the next statement says so", function()
      if not database.quirks.stop_ends_transaction then return end
      local tx = db:begin()
      tx:exec "insert into item (name) values ('b')"
      local err = expect.raised("TimeoutError", nil, function()
        tx:with{ timeout = 0.05 }:exec("insert into item (name) select i from ("
          .. endless:gsub("count%(%*%)", "i") .. ") s")
      end)
      assert.is_true(err.transaction_dead)
      err = expect.raised("EngineError", "the transaction was ended by the database", tx.exec, tx,
        "insert into item (name) values ('c')")
      assert.is_true(err.transaction_dead)
      expect.raised("EngineError", "not committed", tx.commit, tx)
      assert.equal(1, db:query_value "select count(*) from item")
    end)

    it("of a whole transaction ends the running statement", function()
      local start = now()
      expect.raised("TimeoutError", nil, db.transaction, db, function(tx)
        tx:exec "insert into item (name) values ('b')"
        tx:query_value(endless)
      end, { timeout = 0.1 })
      assert.is_true(now() - start < 2)
      assert.equal(1, db:query_value "select count(*) from item")
      assert.equal(0, db:stats().in_use)
    end)

    if database.quirks.many_connections then
      describe("beside another process that holds a write lock", function()
        local holder

        before_each(function()
          holder = child.start(lock_holder, database:url(), database.driver)
          assert.equal("locked", holder:hear())
        end)

        after_each(function() holder:finish() end)

        it("ends the wait for the lock within 50 ms", function()
          local x = db:with{ timeout = 0.1 }
          assert.is_true(least_delay(0.1, function()
            x:exec "update item set name = 'mine'"
          end) < grace)
        end)

        it("ends the wait for the beginning of a transaction, too", function()
          local start = now()
          expect.raised("TimeoutError", nil, db.transaction, db, function(tx)
            tx:exec "update item set name = 'mine'"
          end, { timeout = 0.1 })
          assert.is_true(now() - start < 2)
        end)

        it("leaves a connection that works as soon as the lock is free", function()
          local conn = db:connect()
          expect.raised("TimeoutError", nil, function()
            conn:with{ timeout = 0.05 }:exec "update item set name = 'mine'"
          end)
          assert.equal("a", conn:query_value "select name from item")
          holder:tell "end"
          holder:finish()
          conn:exec "update item set name = 'mine'"
          assert.equal("mine", conn:query_value "select name from item")
          conn:close()
        end)

        it("may be a cancellation that has come before", function()
          local stop = moonbase.cancellation()
          stop:cancel "enough"
          expect.raised("CanceledError", "enough", function()
            db:with{ cancel = stop }:exec "update item set name = 'mine'"
          end)
        end)
      end)
    end
  end)

  describe("A cancellation on " .. database.name, function()
    local db

    before_each(function()
      db = database:open()
      database:create(db, "item (id :id, name :text)")
    end)

    after_each(function() database:clean() end)

    it("ends what uses it, with its reason", function()
      local stop = moonbase.cancellation()
      local x = db:with{ cancel = stop }
      assert.equal(1, x:query_value "select 1")
      assert.is_false(stop:is_cancelled())
      stop:cancel "the user left"
      assert.is_true(stop:is_cancelled())
      for _, name in ipairs { "query", "query_value", "exec", "prepare", "ping" } do
        expect.raised("CanceledError", "cancelled: the user left", x[name], x, "select 1")
      end
      assert.equal(1, db:query_value "select 1")
      assert.equal(0, db:stats().in_use)
    end)

    it("ends rows that are open, and other rows go on", function()
      local stop = moonbase.cancellation()
      local conn = db:connect()
      local others = conn:query(series, 1000)
      others:next()
      local got = 0
      expect.raised("CanceledError", "cancelled", function()
        for _ in conn:with{ cancel = stop }:query(series, 1000) do
          got = got + 1
          if got == 500 then stop:cancel() end
        end
      end)
      assert.equal(500, got)
      assert.equal(999, #others:all())
      assert.equal(1, conn:query_value "select 1")
      conn:close()
    end)

    it("counts once: the first reason stays", function()
      local stop = moonbase.cancellation()
      stop:cancel "first"
      stop:cancel "second"
      stop:cancel()
      expect.raised("CanceledError", "cancelled: first", function()
        db:with{ cancel = stop }:query "select 1"
      end)
    end)

    it("has no reason where none is given", function()
      local stop = moonbase.cancellation()
      stop:cancel()
      local err = expect.raised("CanceledError", nil, function()
        db:with{ cancel = stop }:query "select 1"
      end)
      assert.equal("cancelled", err.message)
    end)

    it("with a name is the same object for all who ask for it", function()
      local first = moonbase.cancellation { name = "a spec" }
      local second = moonbase.cancellation { name = "a spec" }
      local other = moonbase.cancellation { name = "another spec" }
      first:cancel "by name"
      assert.is_true(second:is_cancelled())
      assert.is_false(other:is_cancelled())
      expect.raised("CanceledError", "by name", function()
        db:with{ cancel = second }:query "select 1"
      end)
    end)

    it("that came between is found in a transaction, which is rolled back", function()
      local stop = moonbase.cancellation()
      expect.raised("CanceledError", nil, db.transaction, db:with{ cancel = stop }, function(tx)
        tx:exec "insert into item (name) values ('a')"
        stop:cancel()
        tx:exec "insert into item (name) values ('b')"
      end)
      assert.equal(0, db:query_value "select count(*) from item")
    end)

    it("that comes after the last call changes nothing", function()
      local stop = moonbase.cancellation()
      local rows = db:with{ cancel = stop }:query(series, 3)
      stop:cancel()
      assert.equal(3, #rows:all()) -- they had come already
    end)

    it("is what moonbase.cancellation gives", function()
      for _, wrong in ipairs { {}, 7, "stop", print, db } do
        expect.raised("UsageError", "moonbase.cancellation", db.with, db, { cancel = wrong })
      end
      expect.raised("UsageError", nil, moonbase.cancellation, { nmae = "x" })
      expect.raised("UsageError", nil, moonbase.cancellation, { name = 7 })
      expect.raised("UsageError", nil, moonbase.cancellation, "x")
    end)

    it("shows its state", function()
      local stop = moonbase.cancellation()
      assert.equal("moonbase.Cancellation (not cancelled)", tostring(stop))
      stop:cancel()
      assert.equal("moonbase.Cancellation (cancelled)", tostring(stop))
    end)
  end)
end
