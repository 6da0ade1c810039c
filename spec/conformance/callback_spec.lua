-- Functions of the program that Moonbase calls: what they raise comes out as it is, nothing is
-- left behind, and they may yield wherever Lua lets them.
local moonbase = require "moonbase"
local child = require "spec.support.child"
local expect = require "spec.support.expect"
local language = require "spec.support.language"

-- Errors of every kind.
local function mistakes()
  return { "text", 7, {}, setmetatable({}, { __tostring = error }), print, false }
end

for _, database in ipairs(require "spec.support.databases") do
  local series = database.quirks.sql.series

  describe("A function that raises on " .. database.name, function()
    local db

    before_each(function()
      db = database:open()
      database:create(db, "item (id :integer primary key, name :text, j :json)")
      db:exec [[insert into item values (1, 'a', '{"n":1}'), (2, 'b', null)]]
    end)

    after_each(function() database:clean() end)

    -- Calls fn with a function that raises, for every kind of error; db is as before.
    local function each_mistake(fn)
      for _, mistake in ipairs(mistakes()) do
        local ok, err = pcall(fn, function() error(mistake, 0) end)
        assert.is_false(ok)
        assert.equal(mistake, err)
        assert.equal(0, db:stats().in_use)
        assert.is_nil(db:current())
        assert.equal(2, db:query_value "select count(*) from item")
      end
    end

    it("for rows, by each", function()
      each_mistake(function(fail) db:query(series, 1000):each(fail) end)
      each_mistake(function(fail) db:query(series, 3):each(fail) end)
    end)

    it("for a transaction, at any depth", function()
      each_mistake(function(fail)
        db:transaction(function(tx)
          tx:exec "delete from item"
          fail()
        end)
      end)
      each_mistake(function(fail)
        db:transaction(function(tx)
          tx:transaction(function(nested)
            nested:exec "delete from item"
            nested:query(series, 1000):next()
            fail()
          end)
        end)
      end)
      each_mistake(function(fail) db:transaction(fail, { retry = { attempts = 3 } }) end)
    end)

    it("for rows of bulk_insert, its progress, and rows of exec_many", function()
      local function after(n, fail)
        return function()
          n = n - 1
          if n < 0 then fail() end
          return { 100 + n, "x" }
        end
      end
      for _, n in ipairs { 0, 1, 1500 } do
        each_mistake(function(fail) db:bulk_insert("item", { "id", "name" }, after(n, fail)) end)
        each_mistake(function(fail)
          db:prepare "insert into item (id, name) values (?, ?)":exec_many(after(n, fail))
        end)
      end
      each_mistake(function(fail)
        db:bulk_insert("item", { "id" }, { { 5 } }, { progress = fail })
      end)
    end)

    it("for a type, in every form of a row", function()
      each_mistake(function(fail)
        db:with{ types = { [database.quirks.text_type] = fail } }:query_value
          "select name from item where id = 1"
      end)
      for _, fn in ipairs {
        function(x) x:query "select name from item":next() end,
        function(x) x:query "select name from item":arrays():next() end,
        function(x) x:query "select name from item":all() end,
        function(x) x:query "select name from item":one() end,
        function(x) x:query "select name from item":each(print) end,
        function(x) for _ in x:query "select name from item":tuples() do error "a row" end end,
        function(x) for _ in x:query "select name from item" do error "a row" end end,
        function(x) x:query_row "select name from item" end,
        function(x) x:query_values "select name from item" end,
        function(x) x:query_column "select name from item" end,
        function(x) x:query_all "select name from item" end,
        function(x) x:batch { { "select name from item" } } end,
        function(x) x:prepare "select name from item":query_all() end,
      } do
        each_mistake(function(fail)
          fn(db:with{ types = { [database.quirks.text_type] = fail } })
        end)
      end
    end)

    it("for a type, which leaves no lock behind", function()
      if not database.quirks.many_connections then return end
      local x = db:with{ types = { [database.quirks.text_type] = function() error "no" end } }
      for _, name in ipairs { "query_value", "query_row", "query_all", "query_column" } do
        assert.is_false((pcall(x[name], x, "update item set name = 'c' returning name")))
        local output = child.run([[
          local url, driver = ...
          local db = require "moonbase".open(url, { driver = driver, timeout = 5 })
          print(db:exec "update item set name = 'd'")
        ]], { database:url(), database.driver })
        assert.equal("2\n", output)
      end
    end)

    it("for a type, which leaves rows behind it readable", function()
      local fails = true
      local x = db:with{ types = { [database.quirks.text_type] = function(text)
        if fails then error "not yet" end
        return text
      end } }
      local rows = x:query "select name from item order by id"
      assert.is_false((pcall(rows.next, rows)))
      fails = false
      assert.equal("b", rows:next().name)
      assert.is_nil((rows:next()))
    end)

    it("for json, decoding and encoding", function()
      each_mistake(function(fail)
        db:with{ json = fail }:query_all "select j from item"
      end)
      for _, fn in ipairs {
        function(x) x:exec("update item set j = ?", moonbase.json {}) end,
        function(x) x:exec("update item set j = :j", { j = moonbase.json {} }) end,
        function(x) x:exec("update item set j = ?", moonbase.params { moonbase.json {} }) end,
        function(x) x:query("select ?", moonbase.json {}) end,
        function(x) x:prepare "select ?":query_value(moonbase.json {}) end,
        function(x) x:query_value(moonbase.sql("select ?", moonbase.json {})) end,
        function(x) x:batch { { "update item set j = ?", moonbase.json {} } } end,
        function(x) x:bulk_insert("item", { "id", "j" }, { { 5, moonbase.json {} } }) end,
      } do
        each_mistake(function(fail)
          fn(db:with{ json = { encode = fail, decode = fail } })
        end)
      end
    end)

    it("when a connection is set up, each time that it is tried", function()
      local fail
      local other = database:open{ on_connect = function() if fail then fail() end end }
      each_mistake(function(given)
        fail = given
        other:query_value "select 1"
      end)
      each_mistake(function(given)
        fail = given
        other:transaction(print)
      end)
      assert.equal(0, other:stats().in_use)
      fail = nil
      assert.equal(1, other:query_value "select 1")
    end)

    it("when a connection is set up, with something still open on it", function()
      local other = database:open{ on_connect = function(conn)
        local tx = conn:begin()
        tx:query(series, 1000):next()
        error("in the middle", 0)
      end }
      for _ = 1, 3 do
        local ok, err = pcall(other.query_value, other, "select 1")
        assert.is_false(ok)
        assert.equal("in the middle", err)
      end
      assert.equal(0, other:stats().in_use)
    end)

    it("when it is to be a mistake of the program, goes through moonbase.pcall", function()
      local mistake = {}
      local function fail() error(mistake, 0) end
      for _, fn in ipairs {
        function() db:transaction(fail) end,
        function() db:query(series, 3):each(fail) end,
        function() db:with{ json = fail }:query_all "select j from item" end,
        function() db:bulk_insert("item", { "id" }, fail) end,
      } do
        local ok, err = pcall(moonbase.pcall, fn)
        assert.is_false(ok)
        assert.equal(mistake, err)
      end
    end)

    it("for the end of a transaction is reported and changes nothing", function()
      local output, status = child.run([[
        local url, driver = ...
        local db = require "moonbase".open(url, { driver = driver })
        db:exec "create table pair (a integer, b integer)"
        for _, mistake in ipairs { "text", 7, {}, false } do
          local ok, err = pcall(db.transaction, db, function(tx)
            tx:exec "insert into pair values (1, 2)"
            tx:on_rollback(function() error(mistake) end)
            tx:on_rollback(function() io.stderr:write "and the next one\n" end)
            error("why", 0)
          end)
          assert(not ok and err == "why")
          assert(db:transaction(function(tx)
            tx:on_commit(function() error(mistake) end)
            return "committed"
          end) == "committed")
        end
        assert(db:stats().in_use == 0)
        io.stderr:write(db:query_value "select count(*) from pair", "\n")
      ]], { database:url(), database.driver })
      assert.equal(0, status, output)
      local _, rollbacks = output:gsub("a function given to on_rollback has failed", "")
      local _, commits = output:gsub("a function given to on_commit has failed", "")
      assert.same({ 4, 4 }, { rollbacks, commits })
      assert.is_truthy(output:find("and the next one", 1, true))
      assert.match("\n0\n$", output)
    end)
  end)

  describe("A function that closes what it is called for on " .. database.name, function()
    local db

    before_each(function()
      db = database:open()
      database:create(db, "item (id :integer primary key, name :text)")
      for i = 1, 100 do db:exec("insert into item values (?, ?)", i, ("x"):rep(1000) .. i) end
    end)

    after_each(function() database:clean() end)

    local function closers(conn, tx, rows)
      return {
        connection = function() conn:close() end,
        database = function() db:close() end,
        transaction = function() pcall(tx.rollback, tx) end,
        rows = function() if rows() then rows():close() end end,
      }
    end

    local ways = {
      query_row = function(x) return x:query_row "select * from item order by id".name end,
      query_value = function(x) return x:query_value "select name from item order by id" end,
      query_values = function(x) return (x:query_values "select name from item order by id") end,
      query_all = function(x) return x:query_all "select * from item order by id"[1].name end,
      query_column = function(x) return x:query_column "select name from item order by id"[1] end,
    }

    for name, way in pairs(ways) do
      for _, what in ipairs { "connection", "database", "transaction" } do
        it("has it closed when the call has ended: " .. name .. ", " .. what, function()
          local conn = db:connect()
          local tx = conn:begin()
          local close = closers(conn, tx)[what]
          local x = tx:with{ types = { [database.quirks.text_type] = function(text)
            close()
            collectgarbage()
            return text
          end } }
          assert.equal(("x"):rep(1000) .. 1, way(x))
          db:close()
          assert.equal(0, db:stats().in_use)
        end)
      end
    end

    for _, what in ipairs { "connection", "database", "transaction", "rows" } do
      it("has it closed when the row was handed out: " .. what, function()
        local conn = db:connect()
        local tx = conn:begin()
        local rows
        local close = closers(conn, tx, function() return rows end)[what]
        local x = tx:with{ types = { [database.quirks.text_type] = function(text)
          close()
          collectgarbage()
          return text
        end } }
        rows = x:query "select * from item order by id"
        assert.equal(("x"):rep(1000) .. 1, rows:next().name)
        if what == "rows" then expect.raised("UsageError", "closed", rows.next, rows) end
        db:close()
        assert.equal(0, db:stats().in_use)
      end)
    end

    it("has it closed when the statement has run: while values are encoded", function()
      local conn = db:connect()
      local x = conn:with{ json = { decode = function(text) return text end, encode = function()
        conn:close()
        collectgarbage()
        return "7"
      end } }
      assert.equal("7", tostring(x:query_value("select ?", moonbase.json {})))
      assert.is_true(conn:is_closed())
      assert.equal(0, db:stats().in_use)
    end)
  end)

  describe("A function that uses its own database on " .. database.name, function()
    local db

    before_each(function()
      db = database:open()
      database:create(db, "item (id :integer primary key, name :text, j :json)")
      db:exec [[insert into item values (1, 'a', '{"n":1}')]]
    end)

    after_each(function() database:clean() end)

    it("while rows are converted, on another connection", function()
      if not database.quirks.many_connections then return end
      local x = db:with{ types = { [database.quirks.text_type] = function(text)
        return text .. db:query_value "select count(*) from item"
      end } }
      assert.equal("a1", x:query_value "select name from item")
      assert.equal("a1", x:query "select name from item":next().name)
      assert.same({ "a1" }, x:query_column "select name from item")
      db:transaction(function(tx)
        local inner = tx:with{ types = { [database.quirks.text_type] = function(text)
          return text .. tx:query_value "select count(*) from item"
        end } }
        expect.raised("UsageError", "in the middle of another call", inner.query_value, inner,
          "select name from item")
        assert.equal(1, tx:query_value "select count(*) from item")
      end)
      assert.equal(0, db:stats().in_use)
    end)

    it("while values are encoded, on another connection", function()
      local conn = db:connect()
      local other = database.quirks.many_connections and db or conn
      local x = conn:with{ json = { decode = function(text) return text end,
        encode = function() return tostring(other:query_value "select 7") end } }
      if other == db then
        assert.equal("7", tostring(x:query_value("select ?", moonbase.json {})))
      else
        expect.raised("UsageError", "in the middle of another call", x.query_value, x, "select ?",
          moonbase.json {})
      end
      conn:close()
      assert.equal(0, db:stats().in_use)
    end)

    it("while it gives rows, reading on another connection", function()
      if not database.quirks.many_connections then return end
      local source = db:connect()
      local rows = source:query(series, 500)
      assert.equal(500, db:bulk_insert("item", { "id" }, function()
        local row = rows:next()
        return row and { 1000 + row.i }
      end))
      source:close()
      assert.equal(501, db:query_value "select count(*) from item")
    end)

    it("while it gives rows to the same Database, which is a mistake", function()
      local err = expect.raised("UsageError", "inside a transaction of the same Database",
        db.bulk_insert, db, "item", { "id" }, function()
          return { db:query_value "select 1" }
        end)
      assert.is_nil(err.row)
      assert.equal(1, db:query_value "select count(*) from item")
    end)

    it("by closing what it is called for", function()
      local rows
      rows = db:query(series, 1000)
      expect.raised("UsageError", "the rows are closed", rows.each, rows, function()
        rows:close()
      end)
      rows = db:query(series, 1000)
      assert.equal(1, rows:each(function(row)
        rows:close()
        return row.i
      end))
      local conn = db:connect()
      rows = conn:query(series, 1000)
      expect.raised("UsageError", "closed with their transaction or connection", rows.each, rows,
        function() conn:close() end)
      conn = db:connect()
      local x = conn:with{ types = { [database.quirks.text_type] = function(text)
        conn:close()
        return text
      end } }
      assert.equal("a", x:query_value "select name from item")
      assert.equal(0, db:stats().in_use)
    end)

    it("as deep as calls go, and is told where they end", function()
      local depth = 0
      local conn = db:connect()
      local x
      x = conn:with{ json = { decode = print, encode = function()
        depth = depth + 1
        return x:query_value("select ?", moonbase.json {})
      end } }
      expect.raised("UsageError", "nested too deeply", x.query_value, x, "select ?",
        moonbase.json {})
      assert.is_true(depth >= 10)
      assert.equal(1, conn:query_value "select 1")
      conn:close()
      assert.equal(0, db:stats().in_use)
    end)
  end)

  if language.yields then
    describe("A coroutine on " .. database.name, function()
      local db

      before_each(function()
        language.use_coroutines()
        db = database:open()
        database:create(db, "item (id :integer primary key, name :text, j :json)")
      end)

      after_each(function() database:clean() end)

      -- Runs fn in a coroutine to its end, and gives what it yielded and what it returned.
      local function run(fn)
        local thread = coroutine.create(fn)
        local yielded = {}
        while true do
          local results = { coroutine.resume(thread) }
          assert(results[1], results[2])
          if coroutine.status(thread) == "dead" then return yielded, results[2] end
          yielded[#yielded + 1] = results[2]
        end
      end

      it("may yield inside a loop over rows, in each of its forms", function()
        assert.equal(300, #run(function()
          for row in db:query(series, 300) do coroutine.yield(row.i) end
        end))
        assert.equal(300, #run(function()
          for n in db:query(series, 300):tuples() do coroutine.yield(n) end
        end))
        assert.equal(300, #run(function()
          for row in db:query(series, 300):arrays() do coroutine.yield(row[1]) end
        end))
        assert.equal(300, #run(function()
          db:query(series, 300):each(function(row) coroutine.yield(row.i) end)
        end))
        assert.equal(0, db:stats().in_use)
      end)

      it("may yield inside transactions, nested ones, and what is caught", function()
        local yielded, result = run(function()
          return db:transaction(function(tx)
            coroutine.yield "outer"
            tx:exec "insert into item (id) values (1)"
            local ok, err = moonbase.pcall(tx.transaction, tx, function(nested)
              coroutine.yield "inner"
              nested:exec "insert into item (id) values (1)"
            end)
            coroutine.yield(err.class)
            tx:on_commit(function() coroutine.yield "committed" end)
            return ok
          end, { retry = { attempts = 2 } })
        end)
        assert.same({ "outer", "inner", "ConstraintError", "committed" }, yielded)
        assert.is_false(result)
        assert.equal(1, db:query_value "select count(*) from item")
      end)

      it("may yield in functions that give rows and hear of progress", function()
        local n = 0
        local function next_row()
          coroutine.yield "row"
          n = n + 1
          return n <= 3 and { n } or nil
        end
        local yielded = run(function()
          db:bulk_insert("item", { "id" }, next_row,
            { progress = function(rows) coroutine.yield(rows) end })
        end)
        assert.same({ "row", "row", "row", "row", 3 }, yielded)
        n = 0
        yielded = run(function()
          local statement = db:prepare "delete from item where id = ?"
          return statement:exec_many(next_row)
        end)
        assert.equal(4, #yielded)
        assert.equal(0, db:query_value "select count(*) from item")
      end)

      it("may not yield where the core waits for a value, and is told by Lua", function()
        db:exec [[insert into item values (1, 'a', '{"n":1}')]]
        local function try(fn)
          local thread = coroutine.create(fn)
          local ok, err = coroutine.resume(thread)
          assert.is_false(ok)
          assert.match("yield", tostring(err))
          assert.equal(0, db:stats().in_use)
          assert.equal(1, db:query_value "select count(*) from item")
        end
        try(function() db:with{ json = coroutine.yield }:query_all "select j from item" end)
        try(function()
          db:with{ json = { encode = coroutine.yield, decode = print } }
            :query_value("select ?", moonbase.json {})
        end)
        try(function()
          database:open{ on_connect = function() coroutine.yield() end }:ping()
        end)
      end)

      it("may take turns with others, each with rows of its own", function()
        local threads, sums = {}, {}
        for k = 1, 4 do
          sums[k] = 0
          threads[k] = coroutine.wrap(function()
            for row in db:query(series, 200 + k) do
              sums[k] = sums[k] + row.i
              coroutine.yield(true)
            end
            return false
          end)
        end
        local left = 4
        while left > 0 do
          for k = 1, 4 do
            if threads[k] and not threads[k]() then
              threads[k] = nil
              left = left - 1
            end
          end
        end
        for k = 1, 4 do assert.equal((200 + k) * (201 + k) / 2, sums[k]) end
        assert.equal(0, db:stats().in_use)
      end)

      it("may use what another one has made, and be collected before it", function()
        local rows, statement, tx
        coroutine.wrap(function()
          tx = db:begin()
          statement = tx:prepare(series)
          rows = statement:query(1000)
          rows:next()
        end)()
        language.collect()
        coroutine.wrap(function() assert.equal(2, rows:next().i) end)()
        language.collect()
        assert.equal(998, #rows:all())
        assert.equal(10, #statement:query_all(10))
        assert.is_true(tx:commit())
      end)

      it("that is never resumed is collected, with what it had open", function()
        for _ = 1, 20 do
          local thread = coroutine.wrap(function()
            db:connect():transaction(function(tx)
              tx:exec "insert into item (id) values (1)"
              for _ in tx:query(series, 1000) do coroutine.yield() end
            end)
          end)
          thread()
          thread = nil -- luacheck: ignore 311
          language.collect()
        end
        assert.equal(0, db:query_value "select count(*) from item")
        assert.equal(0, db:stats().in_use)
      end)

      if language.closing then
        it("that is closed closes what it had open", function()
          local thread = coroutine.create(function()
            for _ in db:query(series, 1000) do coroutine.yield() end
          end)
          coroutine.resume(thread)
          assert.equal(1, db:stats().in_use)
          coroutine.close(thread) -- luacheck: ignore 143
          assert.equal(0, db:stats().in_use)
        end)
      end
    end)
  end
end
