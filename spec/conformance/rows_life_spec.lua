-- How long rows live, what they hold, and what ends them.
local expect = require "spec.support.expect"
local language = require "spec.support.language"

for _, database in ipairs(require "spec.support.databases") do
  local series = database.quirks.sql.series
  local fill = "insert into item (name) select 'x' from (" .. series .. ") s where true"

  describe("Open rows of " .. database.name, function()
    local db

    before_each(function()
      db = database:open()
      database:create(db, "item (id :id, name :text)")
    end)

    after_each(function()
      db = nil
      database:clean()
    end)

    it("hold their connection until they are read to the end", function()
      local rows = db:query(series, 1000)
      assert.equal(1, db:stats().in_use)
      rows:all()
      assert.equal(0, db:stats().in_use)
    end)

    it("hold it no longer than they are open", function()
      local rows = db:query(series, 1000)
      rows:close()
      assert.equal(0, db:stats().in_use)
    end)

    it("give it back before the loop begins when the result is small", function()
      for row in db:query(series, 60) do
        assert.equal(0, db:stats().in_use)
        assert.is_number(row.i)
      end
    end)

    it("give it back as soon as they are collected", function()
      local rows = db:query(series, 1000)
      rows:next()
      rows = nil -- luacheck: ignore 311
      language.collect()
      assert.equal(1, db:query_value "select 1")
      assert.equal(0, db:stats().in_use)
    end)

    it("are refused after they were closed, and closing again does nothing", function()
      local rows = db:query(series, 1000)
      rows:next()
      rows:close()
      rows:close()
      assert.is_true(rows:is_closed())
      expect.raised("UsageError", "the rows are closed", rows.next, rows)
      expect.raised("UsageError", "the rows are closed", rows.all, rows)
      expect.raised("UsageError", "the rows are closed", rows)
      expect.raised("UsageError", "the rows are closed", rows.one, rows)
      expect.raised("UsageError", "the rows are closed", rows.each, rows, print)
      expect.raised("UsageError", "the rows are closed", function()
        for _ in rows:tuples() do error "a row came" end
      end)
      assert.is_false(rows:next_result())
    end)

    it("are refused after they were closed also when the result was small", function()
      local rows = db:query(series, 3)
      rows:close()
      expect.raised("UsageError", "the rows are closed", rows.next, rows)
    end)

    it("tell by is_closed when they are at their end", function()
      local rows = db:query(series, 2)
      assert.is_false(rows:is_closed())
      rows:all()
      assert.is_true(rows:is_closed())
    end)

    it("end with their transaction, which refuses them afterwards", function()
      local committed
      db:transaction(function(tx)
        committed = tx:query(series, 1000)
        committed:next()
      end)
      expect.raised("UsageError", "closed with their transaction", committed.next, committed)
      local tx = db:begin()
      local rolled_back = tx:query(series, 1000)
      tx:rollback()
      expect.raised("UsageError", "closed with their transaction", rolled_back.next, rolled_back)
    end)

    it("end with their transaction also when all of them are in memory already", function()
      local rows
      db:transaction(function(tx) rows = tx:query(series, 3) end)
      expect.raised("UsageError", "closed with their transaction", rows.next, rows)
    end)

    it("of a savepoint end with it, and those around it go on", function()
      db:transaction(function(tx)
        local outer = tx:query(series, 1000)
        outer:next()
        local inner
        tx:transaction(function(nested)
          inner = nested:query(series, 1000)
          inner:next()
        end)
        expect.raised("UsageError", "closed with their transaction", inner.next, inner)
        assert.equal(2, outer:next().i)
        assert.equal(998, #outer:all())
      end)
    end)

    it("end with their connection", function()
      local conn = db:connect()
      local rows = conn:query(series, 1000)
      rows:next()
      conn:close()
      expect.raised("UsageError", "closed with their transaction or connection", rows.next, rows)
    end)

    it("end with their Database", function()
      local rows = db:query(series, 1000)
      rows:next()
      db:close()
      expect.raised("UsageError", "closed with their transaction or connection", rows.next, rows)
      rows:close()
    end)

    it("stay readable when a write runs on the same connection", function()
      db:exec "insert into item (name) values ('a'), ('b')"
      local conn = db:connect()
      local n = 0
      for row in conn:query(series, 500) do
        n = n + 1
        if n == 250 then conn:exec "update item set name = 'c'" end
        assert.equal(n, row.i)
      end
      assert.equal(500, n)
      assert.same({ "c", "c" }, conn:query_column "select name from item")
      conn:close()
    end)

    it("show the table as it was when a write beside them changes it", function()
      db:bulk_insert("item", { "name" }, { { "a" }, { "b" }, { "c" } })
      local conn = db:connect()
      local n = 0
      for _ in conn:query "select id from item order by id" do
        n = n + 1
        conn:exec "insert into item (name) values ('more')"
      end
      assert.equal(3, n)
      assert.equal(6, conn:query_value "select count(*) from item")
      conn:close()
    end)

    it("end as they would have when something runs beside the last one of them", function()
      local conn = db:connect()
      for _, beside in ipairs {
        function() conn:exec "insert into item (name) values ('a')" end,
        function()
          conn:query("insert into item (name) values ('a')"
            .. (conn:capability().returning and " returning id" or ""))
        end,
        function() conn:transaction(function(tx) tx:exec "delete from item" end) end,
        function() conn:bulk_insert("item", { "name" }, { { "a" } }) end,
        function() conn:query_value(series, 5) end,
        function() conn:ping() end,
      } do
        for last = 1, 3 do
          local n = 0
          for row in conn:query(series, last) do
            n = row.i
            if n == last then beside() end
          end
          assert.equal(last, n)
          local rows = conn:query(series, last)
          for _ = 1, last do rows:next() end
          beside()
          beside()
          assert.is_nil((rows:next()))
          assert.is_nil((rows:next()))
          rows = conn:query(series, last)
          for _ = 1, last do rows:next() end
          beside()
          rows:close()
          beside()
          conn:query(series, last):next() -- left there
          language.collect()
          beside()
        end
      end
      conn:close()
      assert.equal(0, db:stats().in_use)
    end)

    it("stay readable when a transaction begins and ends beside them", function()
      local conn = db:connect()
      local rows = conn:query(series, 500)
      rows:next()
      conn:transaction(function(tx) tx:exec "insert into item (name) values ('a')" end)
      assert.equal(499, #rows:all())
      assert.equal(1, conn:query_value "select count(*) from item")
      conn:close()
    end)

    it("belong to the handle that made them: their connection is no one else's", function()
      local conn = db:connect()
      local rows = conn:query(series, 1000)
      assert.equal(1, rows:next().i)
      assert.equal(0, conn:query_value "select count(*) from item")
      assert.equal(2, rows:next().i)
      rows:close()
      assert.equal(1, db:stats().in_use)
      conn:close()
    end)

    it("let a call on their Database use their connection where it is the only one", function()
      local one = database:open{ pool = { max = 1 } }
      local n = 0
      for _ in one:query(series, 300) do
        n = n + one:query_value "select 1"
      end
      assert.equal(300, n)
      assert.equal(0, one:stats().in_use)
    end)

    it("keep what an insert … returning did when they are left", function()
      if not db:capability().returning then return end
      local rows = db:query(fill .. " returning id", 300)
      assert.is_number(rows:next().id)
      rows:close()
      assert.equal(300, db:query_value "select count(*) from item")
    end)

    it("of an insert … returning stay readable when transactions are nested beside them",
      function()
        if not db:capability().returning then return end
        db:transaction(function(tx)
          local rows = tx:query(fill .. " returning id", 300)
          assert.is_number(rows:next().id)
          tx:transaction(function(nested)
            nested:exec "update item set name = 'y' where name = 'none'"
          end)
          pcall(tx.transaction, tx, function(nested)
            nested:exec "delete from item"
            error "no"
          end)
          assert.equal(299, #rows:all())
          tx:query(fill .. " returning id", 300) -- nobody reads them
          tx:transaction(function(nested) nested:exec "update item set name = 'z'" end)
        end)
        assert.equal(600, db:query_value "select count(*) from item where name = 'z'")
      end)

    it("keep what an update … returning did when they are collected", function()
      if not database.quirks.update_returning then return end
      db:exec(fill, 300)
      local conn = db:connect()
      local rows = conn:query "update item set name = 'y' returning id"
      rows:next()
      rows = nil -- luacheck: ignore 311
      language.collect()
      assert.equal(300, conn:query_value "select count(*) from item where name = 'y'")
      conn:close()
    end)

    it("are closed by each, whatever happens", function()
      local rows = db:query(series, 1000)
      pcall(rows.each, rows, function() error "enough" end)
      assert.equal(0, db:stats().in_use)
      rows = db:query(series, 1000)
      rows:each(function() return true end)
      assert.equal(0, db:stats().in_use)
    end)

    it("are closed by one, also when there are too many", function()
      local rows = db:query(series, 1000)
      pcall(rows.one, rows)
      assert.equal(0, db:stats().in_use)
    end)

    it("survive the handles that made them", function()
      local conn = db:connect()
      local rows = conn:prepare(series):query(1000)
      conn = nil -- luacheck: ignore 311
      language.collect()
      assert.equal(1000, #rows:all())
    end)

    if language.closing then
      it("are closed by a for loop that is left early", function()
        for _ in db:query(series, 1000) do break end -- luacheck: ignore 512
        assert.equal(0, db:stats().in_use)
        for _ in db:query(series, 1000):tuples() do break end -- luacheck: ignore 512
        assert.equal(0, db:stats().in_use)
        for _ in db:query(series, 1000):arrays() do break end -- luacheck: ignore 512
        assert.equal(0, db:stats().in_use)
      end)

      it("are closed by a for loop that an error leaves", function()
        pcall(function()
          for _ in db:query(series, 1000) do error "enough" end
        end)
        assert.equal(0, db:stats().in_use)
      end)

      it("are closed at the end of their block where they are declared <close>", function()
        language.compile([[
          local db, series = ...
          local rows <close> = db:query(series, 1000)
          rows:next()
        ]], db, series)
        assert.equal(0, db:stats().in_use)
      end)
    end
  end)
end
