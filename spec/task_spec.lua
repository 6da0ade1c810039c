-- Tasks that share handles: whose a transaction is, whose turn it is on a connection, and what
-- becomes of calls whose tasks are gone.
local moonbase = require "moonbase"
local files = require "spec.support.files"
local loops = require "spec.support.loops"
local postgres = require "spec.support.postgres"

for _, loop in ipairs(loops) do
  describe("Tasks of " .. loop.name, function()
    local db, order

    before_each(function()
      order = {}
      db = moonbase.open(postgres.shared():url(), { max = 4, scheduler = loop.name })
    end)

    after_each(function() db:close() end)

    local function note(what) order[#order + 1] = what end

    -- Runs functions side by side until all have ended, and raises the first error.
    local function together(...)
      local functions = { ... }
      loop.run(function()
        local left, failed = #functions, nil
        for _, fn in ipairs(functions) do
          loop.spawn(function()
            local ok, err = pcall(fn)
            if not ok then failed = failed or err end
            left = left - 1
          end)
        end
        while left > 0 do loop.pause(0.005) end
        if failed then error(failed, 0) end
      end)
    end

    local function wait_in(x, seconds)
      return x:query_value("select 1 from pg_sleep(?)", seconds)
    end

    it("wait undisturbed while what their calls have made for a moment is collected", function()
      db:close()
      db = moonbase.open(postgres.shared():url(), { scheduler = loop.name,
        on_connect = function(conn) conn:exec "set application_name = 'task'" end })
      together(function()
        wait_in(db, 0.2)
        note "waited"
      end, function()
        loop.pause(0.1)
        collectgarbage()
        collectgarbage()
        note "collected"
      end)
      assert.same({ "collected", "waited" }, order)
      assert.equal("task", db:query_value "show application_name")
    end)

    describe("own what they begin:", function()
      it("a transaction is in nobody's way but its task's", function()
        together(function()
          db:transaction(function(tx)
            wait_in(tx, 0.05)
            assert.equal(tx, db:current())
            assert.has_error(function() db:query_value "select 1" end)
          end)
        end, function()
          loop.pause(0.02)
          assert.equal(1, db:query_value "select 1")
          assert.is_nil(db:current())
          note "beside"
        end)
        assert.same({ "beside" }, order)
      end)

      it("who holds all connections is told, and others wait for them", function()
        together(function()
          local held = {}
          for i = 1, 4 do held[i] = db:connect() end
          local ok, err = pcall(db.query_value, db, "select 1")
          assert.is_false(ok)
          assert.is_true(moonbase.is(err, "PoolTimeoutError"))
          loop.pause(0.05)
          note "back"
          for i = 1, 4 do held[i]:close() end
        end, function()
          loop.pause(0.02)
          assert.equal(1, db:query_value "select 1")
          note "served"
        end)
        assert.same({ "back", "served" }, order)
      end)

      it("what is forgotten while others wait for it is collected for them", function()
        local held = {}
        together(function()
          for i = 1, 4 do held[i] = db:connect() end
          loop.pause(0.1)
          held = nil
        end, function()
          loop.pause(0.02)
          assert.equal(1, db:with { timeout = 5 }:query_value "select 1")
          assert.is_nil(held)
        end)
      end)
    end)

    describe("wait for their turn", function()
      local conn

      before_each(function() conn = loop.run(function() return db:connect() end) end)
      after_each(function() conn:close() end)

      it("on a connection with a call of another task", function()
        local n = 0
        local function call()
          local one = wait_in(conn, 0.01)
          n = n + one
        end
        together(call, call, call, call, call)
        assert.equal(5, n)
      end)

      it("on a connection with a transaction of another task", function()
        local function transaction(name)
          return function()
            conn:transaction(function(tx)
              note(name)
              wait_in(tx, 0.01)
              loop.pause(0.01)
              wait_in(tx, 0.01)
              note(name)
            end)
          end
        end
        together(transaction "a", transaction "b", transaction "c")
        for i = 1, 6, 2 do assert.equal(order[i], order[i + 1]) end
      end)

      it("in a transaction with a nested one of another task", function()
        conn:close()
        together(function()
          db:transaction(function(tx)
            loop.spawn(function()
              tx:transaction(function(inner)
                wait_in(inner, 0.03)
                note "inner"
              end)
            end)
            loop.pause(0.01)
            assert.equal(1, tx:query_value "select 1")
            note "outer"
          end)
        end)
        assert.same({ "inner", "outer" }, order)
      end)

      it("but not for themselves: that is a mistake", function()
        loop.run(function()
          conn:transaction(function()
            local ok, err = pcall(conn.query_value, conn, "select 1")
            assert.is_false(ok)
            assert.is_true(moonbase.is(err, "UsageError"))
          end)
        end)
      end)

      it("at most as long as the pool would be waited for", function()
        local hasty = moonbase.open(postgres.shared():url(), { max = 1, acquire_timeout = 0.05,
          scheduler = loop.name })
        together(function()
          local own = hasty:connect()
          loop.spawn(function() wait_in(own, 0.3) end)
          loop.pause(0.01)
          local ok, err = pcall(own.query_value, own, "select 1")
          assert.is_false(ok)
          assert.is_true(moonbase.is(err, "PoolTimeoutError"))
          loop.pause(0.4)
          own:close()
        end)
        hasty:close()
      end)

      it("when one closes it, and another has a transaction there", function()
        together(function()
          conn:transaction(function(tx)
            wait_in(tx, 0.05)
            note "ended"
          end)
        end, function()
          loop.pause(0.02)
          conn:close()
          note "closed"
        end)
        assert.same({ "ended", "closed" }, order)
      end)

      it("to write, also when the turn has come for one that has not run yet", function()
        local url = "sqlite:" .. files.folder() .. "/case.db"
        local own = moonbase.open(url, { scheduler = loop.name })
        own:exec "create table number (n integer)"
        local function write()
          for i = 1, 5 do
            own:transaction(function(tx) tx:exec("insert into number values (?)", i) end)
          end
        end
        together(write, write, write)
        assert.equal(15, own:query_value "select count(*) from number")
        own:close()
        files.clean()
      end)

      it("until another has closed it, when they ask for that", function()
        together(function()
          assert.is_false(conn:wait_closed(0.02))
          assert.is_true(conn:wait_closed())
          note "seen"
        end, function()
          loop.pause(0.05)
          note "closing"
          conn:close()
        end)
        assert.same({ "closing", "seen" }, order)
      end)
    end)
  end)
end
