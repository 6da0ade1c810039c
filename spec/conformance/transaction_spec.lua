-- Transactions around a function.
local expect = require "spec.support.expect"
local language = require "spec.support.language"

local function count_results(...) return select("#", ...), ... end

for _, database in ipairs(require "spec.support.databases") do
  describe("A transaction on " .. database.name, function()
    local db

    before_each(function()
      db = database:open()
      database:create(db, "item (id :id, name :text not null)")
    end)

    after_each(function()
      db = nil
      database:clean()
    end)

    local function names(x)
      return (x or db):query_column "select name from item order by id"
    end

    local function insert(x, name)
      return x:exec("insert into item (name) values (?)", name)
    end

    it("commits when its function returns, and gives what that returned", function()
      assert.same({ "a", nil, 3 }, { db:transaction(function(tx)
        insert(tx, "a")
        return "a", nil, 3
      end) })
      assert.same({ "a" }, names())
    end)

    it("gives every result, nils too, and true for none", function()
      assert.same({ 3, nil, nil, nil },
        { count_results(db:transaction(function() return nil, nil, nil end)) })
      assert.same({ 1, true }, { count_results(db:transaction(function() end)) })
      assert.same({ 2, "a", nil },
        { count_results(db:transaction(function() return "a", nil end)) })
      assert.same({ 1, false }, { count_results(db:transaction(function() return false end)) })
    end)

    it("commits when its function returns nil or false alone", function()
      assert.is_nil(db:transaction(function(tx)
        insert(tx, "a")
        return nil
      end))
      assert.is_false(db:transaction(function(tx)
        insert(tx, "b")
        return false
      end))
      db:transaction(function(tx)
        insert(tx, "c")
        return nil, nil
      end)
      assert.same({ "a", "b", "c" }, names())
    end)

    it("rolls back when its function returns nil or false and a reason, and hands them on",
      function()
        assert.same({ 3, nil, "why", 7 }, { count_results(db:transaction(function(tx)
          insert(tx, "a")
          return nil, "why", 7
        end)) })
        assert.same({ 2, false, "why" }, { count_results(db:transaction(function(tx)
          insert(tx, "a")
          return false, "why"
        end)) })
        assert.same({ 2, nil, false }, { count_results(db:transaction(function(tx)
          insert(tx, "a")
          return nil, false
        end)) })
        assert.same({}, names())
      end)

    it("rolls back when its function raises, and raises that again, whatever it is", function()
      for _, mistake in ipairs { "text", 7, {}, print, io.stdout, true, false } do
        local ok, err = pcall(db.transaction, db, function(tx)
          insert(tx, "a")
          error(mistake, 0)
        end)
        assert.is_false(ok)
        assert.equal(mistake, err)
      end
      local ok, err = pcall(db.transaction, db, function(tx)
        insert(tx, "a")
        error(nil)
      end)
      assert.is_false(ok)
      assert.is_nil(err)
      assert.same({}, names())
      assert.equal(0, db:stats().in_use)
    end)

    it("rolls back when a statement in it fails, and raises the same error", function()
      local inner
      local err = expect.raised("ConstraintError", nil, db.transaction, db, function(tx)
        insert(tx, "a")
        local ok
        ok, inner = pcall(insert, tx, nil)
        assert.is_false(ok)
        error(inner, 0)
      end)
      assert.equal(inner, err)
      assert.same({}, names())
    end)

    it("tells where its function raised an error that has no traceback", function()
      local mine = setmetatable({ class = "RowCountError", message = "mine" }, getmetatable(
        expect.raised("UsageError", nil, db.query, db, "select ?")))
      local ok, err = pcall(db.transaction, db, function() error(mine, 0) end)
      assert.is_false(ok)
      assert.equal(mine, err)
      assert.is_truthy(err.traceback:find("transaction_spec.lua", 1, true))
    end)

    it("can be rolled back by its function, which then returns normally", function()
      assert.same({ "not kept" }, { db:transaction(function(tx)
        insert(tx, "a")
        assert.is_true(tx:rollback())
        return "not kept"
      end) })
      assert.same({}, names())
    end)

    it("can be committed by its function", function()
      assert.equal(7, db:transaction(function(tx)
        insert(tx, "a")
        tx:commit()
        return 7
      end))
      assert.same({ "a" }, names())
    end)

    it("keeps a commit of its own when its function raises afterwards", function()
      pcall(db.transaction, db, function(tx)
        insert(tx, "a")
        tx:commit()
        error "too late"
      end)
      assert.same({ "a" }, names())
    end)

    it("that runs nothing gives its results", function()
      assert.equal(1, db:transaction(function() return 1 end))
      assert.equal(0, db:stats().in_use)
    end)

    it("sees what it did, and others do not before it has ended", function()
      db:transaction(function(tx)
        insert(tx, "a")
        assert.same({ "a" }, names(tx))
        if database.quirks.many_connections then
          local conn = db:connect()
          assert.same({}, names(conn))
          conn:close()
        end
      end)
      assert.same({ "a" }, names())
    end)

    it("runs in a Connection, which is usable afterwards", function()
      local conn = db:connect()
      conn:transaction(function(tx) insert(tx, "a") end)
      pcall(conn.transaction, conn, function(tx)
        insert(tx, "b")
        error "no"
      end)
      assert.same({ "a" }, names(conn))
      conn:close()
    end)

    it("inside another one is undone alone when it fails, and the outer goes on", function()
      db:transaction(function(tx)
        insert(tx, "outer")
        local ok = pcall(tx.transaction, tx, function(nested)
          insert(nested, "inner")
          error "no"
        end)
        assert.is_false(ok)
        expect.raised("ConstraintError", nil, tx.transaction, tx, function(nested)
          insert(nested, "inner")
          insert(nested, nil)
        end)
        assert.same({ "outer" }, names(tx))
        insert(tx, "after")
      end)
      assert.same({ "outer", "after" }, names())
    end)

    it("inside another one follows the same rules for results", function()
      db:transaction(function(tx)
        assert.same({ 2, nil, "why" }, { count_results(tx:transaction(function(nested)
          insert(nested, "a")
          return nil, "why"
        end)) })
        assert.is_true(tx:transaction(function(nested) insert(nested, "b") end))
        assert.equal(1, tx:transaction(function(nested)
          insert(nested, "c")
          nested:rollback()
          return 1
        end))
      end)
      assert.same({ "b" }, names())
    end)

    it("inside another one is undone when that is rolled back", function()
      pcall(db.transaction, db, function(tx)
        tx:transaction(function(nested) insert(nested, "inner") end)
        error "no"
      end)
      assert.same({}, names())
    end)

    it("nests to a depth of 20, each level for itself", function()
      local function level(x, depth)
        return x:transaction(function(tx)
          insert(tx, "depth " .. depth)
          if depth < 20 then pcall(level, tx, depth + 1) end
          if depth % 2 == 0 then error "even" end
          return depth
        end)
      end
      assert.equal(1, level(db, 1))
      -- Depth 2 fails, and everything inside it goes with it.
      assert.same({ "depth 1" }, names())

      local function good(x, depth)
        x:transaction(function(tx)
          insert(tx, tostring(depth))
          if depth < 20 then good(tx, depth + 1) end
        end)
      end
      good(db, 2)
      assert.equal(20, #names())
    end)

    it("leaves the parent usable when an error was caught inside", function()
      db:transaction(function(tx)
        for _ = 1, 3 do
          pcall(tx.transaction, tx, function(nested) insert(nested, nil) end)
          insert(tx, "kept")
        end
      end)
      assert.same({ "kept", "kept", "kept" }, names())
    end)

    it("refuses its parent while it is open", function()
      db:transaction(function(tx)
        tx:transaction(function()
          expect.raised("UsageError", "nested transaction is open", insert, tx, "a")
          expect.raised("UsageError", "nested transaction is open", tx.transaction, tx, print)
        end)
        insert(tx, "b")
      end)
      assert.same({ "b" }, names())
    end)

    it("ends those inside it when it ends", function()
      local outer = db:begin()
      local inner = outer:begin()
      insert(inner, "a")
      outer:commit()
      assert.is_true(inner:is_closed())
      expect.raised("UsageError", "has ended", inner.exec, inner, "select 1")
      assert.same({ "a" }, names())
      outer = db:begin()
      inner = outer:begin():begin()
      insert(inner, "b")
      outer:rollback()
      expect.raised("UsageError", "has ended", inner.commit, inner)
      assert.same({ "a" }, names())
    end)

    it("is db:current() while it is open, the innermost one", function()
      assert.is_nil(db:current())
      db:transaction(function(tx)
        assert.equal(tx, db:current())
        tx:transaction(function(nested) assert.equal(nested, db:current()) end)
        assert.equal(tx, db:current())
        tx:rollback()
        assert.is_nil(db:current())
      end)
      local tx = db:begin()
      assert.equal(tx, db:current())
      tx:commit()
      assert.is_nil(db:current())
    end)

    it("is refused once it has ended, also inside its own function", function()
      db:transaction(function(tx)
        tx:rollback()
        expect.raised("UsageError", "has ended", insert, tx, "a")
        expect.raised("UsageError", "has ended", tx.rollback, tx)
      end)
      local kept
      db:transaction(function(tx) kept = tx end)
      expect.raised("UsageError", "has ended", insert, kept, "a")
      assert.is_true(kept:is_closed())
    end)

    it("knows the number of its attempt", function()
      assert.equal(1, db:transaction(function(tx) return tx.attempt end))
      assert.equal(1, db:begin().attempt)
    end)

    it("that is dropped is rolled back before its connection is lent again", function()
      do
        local tx = db:begin()
        insert(tx, "a")
      end
      language.collect()
      assert.same({}, names())
      assert.equal(0, db:stats().in_use)
    end)

    it("that is dropped is rolled back before its connection begins another one", function()
      local conn = db:connect()
      for _, again in ipairs {
        function() return conn:transaction(function(tx) return insert(tx, "again") end) end,
        function()
          local tx = conn:begin()
          return insert(tx, "again"), tx:commit()
        end,
        function() return conn:exec "insert into item (name) values ('again')" end,
        function() return conn:bulk_insert("item", { "name" }, { { "again" } }) end,
      } do
        do
          local tx = conn:begin()
          insert(tx, "lost")
          tx:query("insert into item (name) values ('lost')"
            .. (conn:capability().returning and " returning name" or "")):next()
        end
        language.collect()
        assert.equal(1, (again()))
      end
      assert.same({ "again", "again", "again", "again" }, names(conn))
      conn:close()
    end)

    it("that is dropped inside another one is rolled back before that goes on", function()
      local outer = db:begin()
      insert(outer, "outer")
      do
        local inner = outer:begin()
        insert(inner, "inner")
      end
      language.collect()
      insert(outer, "after")
      outer:commit()
      assert.same({ "outer", "after" }, names())
    end)

    it("that is dropped around another one takes it along", function()
      local inner
      do
        local outer = db:connect():begin()
        inner = outer:begin()
        insert(inner, "a")
      end
      language.collect()
      assert.is_false(inner:is_closed()) -- it holds what is around it
      inner:rollback()
      inner = nil -- luacheck: ignore 311
      language.collect()
      assert.same({}, names())
    end)

    it("of a coroutine that is left unfinished and collected is rolled back", function()
      if not language.yields then return end
      language.use_coroutines()
      do
        local thread = coroutine.create(function()
          db:transaction(function(tx)
            insert(tx, "a")
            coroutine.yield()
          end)
        end)
        assert.is_true(coroutine.resume(thread))
        assert.equal("suspended", coroutine.status(thread))
      end
      language.collect()
      assert.same({}, names())
      assert.is_nil(db:current())
    end)

    if language.yields then
      it("lets its function yield", function()
        language.use_coroutines()
        local thread = coroutine.wrap(function()
          return db:transaction(function(tx)
            insert(tx, coroutine.yield "first")
            tx:transaction(function(nested) insert(nested, coroutine.yield "second") end)
            return "done"
          end)
        end)
        assert.equal("first", thread())
        assert.equal("second", thread "a")
        assert.equal("done", thread "b")
        assert.same({ "a", "b" }, names())
      end)

      it("rolls back when its function raises after it has yielded", function()
        language.use_coroutines()
        local thread = coroutine.create(function()
          return db:transaction(function(tx)
            insert(tx, "a")
            coroutine.yield()
            error("no", 0)
          end)
        end)
        assert.is_true(coroutine.resume(thread))
        local ok, err = coroutine.resume(thread)
        assert.is_false(ok)
        assert.equal("no", err)
        assert.same({}, names())
      end)
    end

    it("of a Database that is closed is rolled back", function()
      if not database.quirks.many_connections then return end
      local other = database:open()
      local tx = other:begin()
      insert(tx, "a")
      other:close()
      expect.raised("UsageError", "its connection was closed", tx.exec, tx, "select 1")
      assert.is_true(tx:is_closed())
      assert.same({}, names())
    end)

    it("whose Database or connection is closed inside its function was not committed, and says so",
      function()
        local conn = db:connect()
        expect.raised("UsageError", "its connection was given back", conn.transaction, conn,
          function(tx)
            insert(tx, "a")
            conn:close()
          end)
        assert.same({}, names())
        expect.raised("UsageError", "its connection was given back", db.transaction, db,
          function(tx)
            insert(tx, "a")
            db:close()
          end)
        assert.is_true(db:is_closed())
      end)

    it("of a connection that is closed is rolled back", function()
      local conn = db:connect()
      local tx = conn:begin()
      insert(tx, "a")
      conn:close()
      expect.raised("UsageError", "its connection was closed", tx.exec, tx, "select 1")
      assert.same({}, names())
    end)
  end)
end
