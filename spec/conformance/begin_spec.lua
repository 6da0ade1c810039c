-- Transactions by hand, their options, and those that SQL text begins.
local expect = require "spec.support.expect"
local language = require "spec.support.language"

for _, database in ipairs(require "spec.support.databases") do
  describe("A transaction by hand on " .. database.name, function()
    local db

    before_each(function()
      db = database:open()
      database:create(db, "item (id :id, name :text not null)")
    end)

    after_each(function()
      db = nil
      database:clean()
    end)

    local function count(x)
      return (x or db):query_value "select count(*) from item"
    end

    local function insert(x)
      return x:exec "insert into item (name) values ('a')"
    end

    it("is kept by commit and undone by rollback", function()
      local tx = db:begin()
      insert(tx)
      assert.is_true(tx:commit())
      assert.equal(1, count())
      tx = db:begin()
      insert(tx)
      assert.is_true(tx:rollback())
      assert.equal(1, count())
    end)

    it("holds its connection until its end", function()
      local tx = db:begin()
      assert.equal(1, db:stats().in_use)
      tx:commit()
      assert.equal(0, db:stats().in_use)
    end)

    it("nests", function()
      local tx = db:begin()
      insert(tx)
      local inner = tx:begin()
      insert(inner)
      inner:rollback()
      inner = tx:begin()
      insert(inner)
      inner:commit()
      tx:commit()
      assert.equal(2, count())
    end)

    it("is a place for functions, too", function()
      local tx = db:begin()
      tx:transaction(insert)
      tx:rollback()
      assert.equal(0, count())
    end)

    it("takes options", function()
      local tx = db:begin{ read_only = true }
      expect.raised("ReadOnlyError", nil, insert, tx)
      tx:rollback()
      insert(db)
      assert.equal(1, count())
    end)

    it("is not tried again", function()
      expect.raised("UsageError", "use transaction(fn)", db.begin, db, { retry = {} })
    end)

    it("lets its Database be used beside it, on other connections", function()
      if not database.quirks.many_connections then return end
      local tx = db:begin()
      insert(tx)
      assert.equal(0, count())
      assert.equal(1, count(tx))
      tx:commit()
      assert.equal(1, count())
    end)

    if language.closing then
      it("is rolled back at the end of its block where it is declared <close>", function()
        language.compile([[
          local db, insert = ...
          do
            local tx <close> = db:begin()
            insert(tx)
          end
          pcall(function()
            local tx <close> = db:begin()
            insert(tx)
            error "no"
          end)
        ]], db, insert)
        assert.equal(0, count())
        assert.equal(0, db:stats().in_use)
      end)

      it("is kept when it was committed before that", function()
        language.compile([[
          local db, insert = ...
          local tx <close> = db:begin()
          insert(tx)
          tx:commit()
        ]], db, insert)
        assert.equal(1, count())
      end)
    end

    describe("with options", function()
      it("that only reads refuses to write, and its connection writes afterwards", function()
        local conn = db:connect()
        insert(conn)
        for _, write in ipairs { "insert into item (name) values ('a')", "delete from item" } do
          local tx = conn:begin { read_only = true }
          assert.equal(1, count(tx))
          local err = expect.raised("ReadOnlyError", nil, tx.exec, tx, write)
          assert.is_false(err.connection_dead)
          tx:rollback()
        end
        insert(conn)
        assert.equal(2, count(conn))
        conn:close()
      end)

      it("that only reads lets its connection write after a rollback, too", function()
        local conn = db:connect()
        pcall(conn.transaction, conn, function() error "no" end, { read_only = true })
        insert(conn)
        local tx = conn:begin{ read_only = true }
        tx:rollback()
        conn:begin{ read_only = true }:query_value "select 1"
        language.collect()
        insert(conn)
        assert.equal(2, count(conn))
        conn:close()
      end)

      it("takes every isolation level that its database says it has", function()
        for _, level in ipairs(db:capability().isolation_levels) do
          assert.equal(1, db:transaction(function(tx)
            insert(tx)
            return 1
          end, { isolation = level }))
          assert.equal(2, db:transaction(function() return 2 end, { isolation = level:upper() }))
        end
      end)

      it("refuses the levels that its database has not, and takes no neighbour", function()
        local has = {}
        for _, level in ipairs(db:capability().isolation_levels) do has[level] = true end
        for _, level in ipairs { "read uncommitted", "read committed", "repeatable read",
          "serializable" } do
          if not has[level] then
            expect.raised("UnsupportedError", "no such isolation level", db.begin, db,
              { isolation = level })
          end
        end
        expect.raised("UsageError", 'there is no "serialisable"; did you mean "serializable"?',
          db.begin, db, { isolation = "serialisable" })
      end)

      it("refuses what its database cannot do", function()
        local can = db:capability()
        if not can.deferrable_transactions then
          expect.raised("UnsupportedError", "deferrable", db.begin, db, { deferrable = true })
        end
        if #can.transaction_modes == 0 then
          expect.raised("UnsupportedError", "transaction mode", db.begin, db,
            { mode = "immediate" })
        end
        assert.equal(0, db:stats().in_use)
      end)

      it("refuses them on a savepoint", function()
        local tx = db:begin()
        for _, given in ipairs { { isolation = "serializable" }, { read_only = true },
          { mode = "immediate" }, { deferrable = true } } do
          expect.raised("UsageError", "belong to the outermost transaction", tx.begin, tx, given)
          expect.raised("UsageError", "belong to the outermost transaction", tx.transaction, tx,
            print, given)
        end
        expect.raised("UsageError", "retry belongs to the outermost", tx.transaction, tx, print,
          { retry = { attempts = 2 } })
        insert(tx)
        tx:commit()
        assert.equal(1, count())
      end)

      it("refuses options of wrong types", function()
        for _, wrong in ipairs { { isolation = 7 }, { read_only = "yes" }, { timeout = "1" },
          { timeout = 0 }, { timeout = -1 }, { timeout = 0 / 0 }, { retry = 3 },
          { timeout = math.huge }, { timeout = 2 ^ 31 }, { retry = { attempts = "x" } },
          { deferrable = 1 }, { isolation = "" }, { mode = true }, { mode = "fast" },
          { unheard_of = 1 }, { [1] = 2 }, "serializable", 7 } do
          expect.raised("UsageError", nil, db.transaction, db, print, wrong)
        end
        assert.equal(0, db:stats().in_use)
      end)

      it("takes a time-out for the whole of it, which ends it at its next call", function()
        local clock = require "moonbase.core".now
        local err = expect.raised("TimeoutError", nil, db.transaction, db, function(tx)
          insert(tx)
          local start = clock()
          while clock() - start < 0.06 do end -- luacheck: ignore 542
          insert(tx)
        end, { timeout = 0.05 })
        assert.is_true(err.transaction_dead)
        assert.equal(0, count())
        assert.equal(0, db:stats().in_use)
      end)

      it("is not committed when its time has passed", function()
        local clock = require "moonbase.core".now
        local ok, err = pcall(db.transaction, db, function(tx)
          insert(tx)
          local start = clock()
          while clock() - start < 0.06 do end -- luacheck: ignore 542
        end, { timeout = 0.05 })
        assert.is_false(ok)
        assert.is_truthy(tostring(err):find("time", 1, true))
        assert.equal(0, count())
      end)

      it("may give a savepoint a time-out, and the rest goes on", function()
        db:transaction(function(tx)
          insert(tx)
          expect.raised("TimeoutError", nil, tx.transaction, tx, function(nested)
            nested:query_value(database.quirks.sql.endless)
          end, { timeout = 0.05 })
          insert(tx)
        end)
        assert.equal(2, count())
      end)
    end)

    describe("of a SQL text", function()
      it("is begun and ended on a connection of one's own", function()
        local conn = db:connect()
        conn:exec "begin"
        insert(conn)
        conn:exec "commit"
        conn:exec "begin"
        insert(conn)
        conn:exec "rollback"
        assert.equal(1, count(conn))
        conn:close()
      end)

      it("is rolled back when its connection is given back", function()
        local conn = db:connect()
        conn:exec "begin"
        insert(conn)
        conn:close()
        assert.equal(0, count())
        db:exec "begin" -- on a connection that is lent for this one call
        assert.equal(0, count())
        insert(db)
        assert.equal(1, count())
      end)

      it("stands in the way of one by transaction, which says so", function()
        local conn = db:connect()
        conn:exec "begin"
        expect.raised("UsageError", "begun by SQL text", conn.begin, conn)
        expect.raised("UsageError", "begun by SQL text", conn.transaction, conn, print)
        conn:exec "rollback"
        conn:transaction(insert)
        assert.equal(1, count(conn))
        conn:close()
      end)

      it("that ends one by transaction is found out: nothing runs by accident", function()
        local tx = db:begin()
        insert(tx)
        tx:exec "rollback"
        local err = expect.raised("EngineError", "was ended by the database", insert, tx)
        assert.is_true(err.transaction_dead)
        expect.raised("EngineError", "was ended by the database", tx.commit, tx)
        assert.equal(0, count())
        tx = db:begin()
        insert(tx)
        tx:exec "commit"
        expect.raised("EngineError", "was ended by the database", insert, tx)
        tx:rollback()
        assert.equal(1, count())
      end)
    end)
  end)
end
