-- Transactions that are run again after a conflict.
local moonbase = require "moonbase"
local expect = require "spec.support.expect"
local shell = require "spec.support.shell"
local threads = require "spec.support.threads"

local now = require "moonbase.core".now

for _, database in ipairs(require "spec.support.databases") do
  local many = database.quirks.many_connections

  describe("Retrying on " .. database.name, function()
    local db, other, conflicting

    before_each(function()
      db = database:open()
      database:create(db, "item (id :integer primary key, n :integer)")
      db:exec "insert into item values (1, 0)"
      other = many and database:open()
      conflicting = {}
      for name, value in pairs(database.quirks.conflict) do conflicting[name] = value end
    end)

    after_each(function() database:clean() end)

    -- Changes a row in a transaction that has written more than the one it waits for, which
    -- is what the database gives up then.
    local heavy = [[
      local url, driver = ...
      local db = require "moonbase".open(url, { driver = driver })
      db:transaction(function(tx)
        for n = 1, 20 do tx:exec("insert into item (id, n) values (?, 0)", -n) end
        tx:exec "update item set n = n + 100 where id = 1"
        tx:exec "delete from item where id < 0"
      end)
      db:close()
    ]]

    local function start_waiting()
      local thread = threads.start(heavy, database:url(), database.driver)
      repeat
        shell.must "sleep 0.005"
        local _, waiting = other:query_values(database.quirks.sql.waiting)
      until tonumber(waiting) > 0
      return thread
    end

    -- Reads what another connection then changes, and changes it too: the database refuses.
    -- Where that waits, the range has the rows in it that the other one has written.
    local function conflict(tx)
      tx:query_value "select n from item where id = 1"
      local thread
      if database.quirks.conflict_waits then
        thread = start_waiting()
      else
        other:exec "update item set n = n + 100 where id = 1"
      end
      local ok, err = pcall(tx.exec, tx, "update item set n = n + 1 where id <= 1")
      if thread then thread:join() end
      if not ok then error(err, 0) end
    end

    local function value() return db:query_value "select n from item where id = 1" end

    if many then
      it("is not done unless it is asked for", function()
        local err = expect.raised("SerializationError", nil, db.transaction, db, conflict,
          conflicting)
        assert.is_true(err.retryable)
        assert.is_nil(err.attempts)
        assert.equal(100, value())
      end)

      it("runs the whole function again, after a rollback, until it succeeds", function()
        local attempts = {}
        conflicting.retry = { attempts = 5 }
        local result = db:transaction(function(tx)
          attempts[#attempts + 1] = tx.attempt
          assert.is_true(tx:is_closed() == false and db:current() == tx)
          if tx.attempt < 3 then conflict(tx) end
          tx:exec "update item set n = n + 1 where id = 1"
          return "done at " .. tx.attempt
        end, conflicting)
        assert.equal("done at 3", result)
        assert.same({ 1, 2, 3 }, attempts)
        assert.equal(201, value())
        assert.equal(0, db:stats().in_use)
        assert.is_nil(db:current())
      end)

      it("tells every kind of transaction its attempt, also views and nested ones", function()
        conflicting.retry = { attempts = 2 }
        db:transaction(function(tx)
          if tx.attempt == 1 then conflict(tx) end
          assert.equal(2, tx.attempt)
          assert.match("^moonbase%.Transaction", tostring(tx))
          assert.equal("moonbase", getmetatable(tx))
          assert.equal(1, tx:transaction(function(nested) return nested.attempt end))
          assert.equal(2, tx:with{ timeout = 5 }.attempt)
          assert.is_true(tx:with{ timeout = 5 }:ping())
        end, conflicting)
        assert.equal(1, db:transaction(function(tx) return tx.attempt end))
      end)

      it("gives up after so many attempts, and says how many", function()
        local calls = 0
        conflicting.retry = { attempts = 3 }
        local err = expect.raised("SerializationError", nil, db.transaction, db, function(tx)
          calls = calls + 1
          conflict(tx)
        end, conflicting)
        assert.equal(3, calls)
        assert.equal(3, err.attempts)
        assert.is_truthy(tostring(err):find("(after 3 attempts)", 1, true))
        assert.equal(300, value())
      end)

      it("makes five attempts unless it is told otherwise", function()
        local calls = 0
        conflicting.retry = {}
        pcall(db.transaction, db, function(tx)
          calls = calls + 1
          conflict(tx)
        end, conflicting)
        assert.equal(5, calls)
      end)

      it("gives up when its time is over", function()
        local calls = 0
        conflicting.retry = { attempts = 1000000, max_time = 0.15 }
        local start = now()
        expect.raised("SerializationError", nil, db.transaction, db, function(tx)
          calls = calls + 1
          conflict(tx)
        end, conflicting)
        assert.is_true(now() - start >= 0.15)
        assert.is_true(calls > 1)
      end)

      it("gives nil and the last error where errors are returned", function()
        conflicting.retry = { attempts = 2 }
        local returning = db:with{ errors = "return" }
        local err = expect.returned("SerializationError", nil,
          returning:transaction(conflict, conflicting))
        assert.equal(2, err.attempts)
      end)

      it("runs the functions for the end of each attempt", function()
        local said = {}
        conflicting.retry = { attempts = 2 }
        db:transaction(function(tx)
          local number = tx.attempt
          tx:on_commit(function() said[#said + 1] = "committed " .. number end)
          tx:on_rollback(function() said[#said + 1] = "rolled back " .. number end)
          if number == 1 then conflict(tx) end
        end, conflicting)
        assert.same({ "rolled back 1", "committed 2" }, said)
      end)

      it("works on a connection of one's own", function()
        conflicting.retry = { attempts = 2 }
        local conn = db:connect()
        assert.equal(2, conn:transaction(function(tx)
          if tx.attempt == 1 then conflict(tx) end
          return tx.attempt
        end, conflicting))
        conn:close()
      end)

      it("is done for a conflict that the function has met inside a nested one", function()
        conflicting.retry = { attempts = 2 }
        assert.equal(2, db:transaction(function(tx)
          tx:transaction(function(nested)
            if tx.attempt == 1 then conflict(nested) end
          end)
          return tx.attempt
        end, conflicting))
      end)

      it("is not done when the function has caught the conflict", function()
        conflicting.retry = { attempts = 3 }
        local calls = 0
        assert.equal("gave up", db:transaction(function(tx)
          calls = calls + 1
          pcall(conflict, tx)
          tx:rollback()
          return "gave up"
        end, conflicting))
        assert.equal(1, calls)
      end)
    end

    it("is done for no other error", function()
      local mistake = {}
      for _, failure in ipairs {
        function() error(mistake, 0) end,
        function() error("text", 0) end,
        function() error(nil) end,
        function(tx) tx:exec "insert into item values (1, 1)" end,
        function(tx) tx:exec "selekt" end,
        function(tx) tx:exec("select ?") end,
      } do
        local calls = 0
        local ok, err = pcall(db.transaction, db, function(tx)
          calls = calls + 1
          failure(tx)
        end, { retry = { attempts = 3 } })
        assert.is_false(ok)
        assert.equal(1, calls)
        if moonbase.is(err) then assert.is_nil(err.attempts) end
      end
      assert.equal(0, db:stats().in_use)
    end)

    it("is not done for a rollback, or a failure that is returned", function()
      local calls = 0
      local options = { retry = { attempts = 3 } }
      db:transaction(function(tx)
        calls = calls + 1
        tx:rollback()
      end, options)
      assert.same({ nil, "why" }, { db:transaction(function()
        calls = calls + 1
        return nil, "why"
      end, options) })
      assert.equal(2, calls)
    end)

    it("keeps every result, nils too", function()
      local function count(...) return select("#", ...), ... end
      assert.same({ 3, "a", nil, nil }, { count(db:transaction(function()
        return "a", nil, nil
      end, { retry = {} })) })
    end)

    it("wants numbers that make sense", function()
      for _, wrong in ipairs { { attempts = 0 }, { attempts = -1 }, { attempts = 1.5 },
        { attempts = 0 / 0 }, { attempts = "3" }, { max_time = 0 }, { max_time = -1 },
        { max_time = 0 / 0 }, { max_time = "1" }, { max_time = math.huge }, { tries = 3 } } do
        expect.raised("UsageError", "of retry", db.transaction, db, print, { retry = wrong })
      end
      assert.equal(1, db:transaction(function(tx) return tx.attempt end,
        { retry = { attempts = 1, max_time = 1 } }))
    end)
  end)
end
