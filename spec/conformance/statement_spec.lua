-- Prepared statements.
local moonbase = require "moonbase"
local expect = require "spec.support.expect"
local language = require "spec.support.language"

local function names(columns)
  local list = {}
  for i, column in ipairs(columns) do list[i] = column.name end
  return list
end

for _, database in ipairs(require "spec.support.databases") do
  describe("A Statement on " .. database.name, function()
    local db

    before_each(function()
      db = database:open()
      database:create(db, "item (id :id, name :text not null, price :double)")
      db:exec("insert into item (name, price) values ('pen', 1.5), ('ink', 3), ('cup', null)")
    end)

    after_each(function()
      db = nil
      database:clean()
    end)

    it("runs again and again with other values", function()
      local statement = db:prepare "select name from item where price = ?"
      for _ = 1, 3 do
        assert.equal("pen", statement:query_value(1.5))
        assert.equal("ink", statement:query_value(3))
        assert.is_nil(statement:query_value(7))
      end
    end)

    it("has every method that runs a text", function()
      local statement = db:prepare "select name, price from item where price > ? order by id"
      assert.same({ name = "pen", price = 1.5 }, statement:query(1):next())
      assert.same({ name = "pen", price = 1.5 }, statement:query_row(1))
      assert.equal("pen", statement:query_value(1))
      assert.same({ "pen", 1.5 }, { statement:query_values(1) })
      assert.same({ "pen", "ink" }, statement:query_column(1))
      assert.same({ { name = "pen", price = 1.5 }, { name = "ink", price = 3 } },
        statement:query_all(1))
      assert.equal(1, (db:prepare "delete from item where price > ?":exec(2)))
    end)

    it("names its columns without being run", function()
      assert.same({ "id", "name", "price" }, names(db:prepare "select * from item":columns()))
      assert.same({}, db:prepare "delete from item":columns())
      assert.equal(3, db:query_value "select count(*) from item")
    end)

    it("tells the number of its parameters, and their names", function()
      assert.same({ 2 }, { db:prepare "select ?, ?":parameters() })
      assert.same({ 2 }, { db:prepare "select $2, $1, $2":parameters() })
      assert.same({ 2, { "b", "a" } }, { db:prepare "select :b, :a, :b":parameters() })
      assert.same({ 0 }, { db:prepare "select 1":parameters() })
    end)

    it("takes named parameters", function()
      local statement = db:prepare "select name from item where price > :low and price < :high"
      assert.equal("pen", statement:query_value{ low = 1, high = 2 })
      assert.equal("ink", statement:query_value{ high = 4, low = 2 })
    end)

    it("is refused at once when its text is wrong", function()
      local err = expect.raised("SyntaxError", nil, db.prepare, db, "selekt 1")
      assert.equal("prepare", err.origin)
      expect.raised("SyntaxError", nil, db.prepare, db, "select missing from item")
      expect.raised("SyntaxError", nil, db.prepare, db, "select 1 from missing")
    end)

    it("works on whichever connection its Database lends", function()
      if not database.quirks.many_connections then return end
      local statement = db:prepare "select name from item where id = ?"
      local first = statement:query_value(1)
      local conn = db:connect() -- takes the connection on which it was prepared
      assert.equal(first, statement:query_value(1))
      assert.equal(2, db:stats().size)
      conn:close()
    end)

    it("of a connection works there only", function()
      local conn = db:connect()
      local statement = conn:prepare "select name from item where id = ?"
      assert.is_string(statement:query_value(1))
      assert.is_false(statement:is_closed())
      conn:close()
      assert.is_true(statement:is_closed())
      expect.raised("UsageError", "the connection is closed", statement.query_value, statement, 1)
      expect.raised("UsageError", "the connection is closed", statement.columns, statement)
    end)

    it("of a transaction ends with it", function()
      local kept
      db:transaction(function(tx)
        kept = tx:prepare "select name from item"
        assert.equal(3, #kept:query_column())
      end)
      expect.raised("UsageError", "transaction has ended", kept.query_column, kept)
    end)

    it("of a Database runs outside of a transaction that is open, and says so", function()
      local statement = db:prepare "select name from item"
      db:transaction(function()
        expect.raised("UsageError", "inside a transaction of the same Database",
          statement.query_column, statement)
      end)
      assert.equal(3, #statement:query_column())
    end)

    it("is refused after it was closed, and closing again does nothing", function()
      local statement = db:prepare "select name from item"
      assert.is_false(statement:is_closed())
      statement:close()
      statement:close()
      assert.is_true(statement:is_closed())
      for _, name in ipairs { "query", "query_row", "query_value", "query_values",
        "query_column", "query_all", "exec", "columns", "parameters" } do
        expect.raised("UsageError", "the statement is closed", statement[name], statement)
      end
      expect.raised("UsageError", "the statement is closed", statement.exec_many, statement, {})
    end)

    it("is refused after its Database was closed", function()
      local statement = db:prepare "select name from item"
      db:close()
      expect.raised("UsageError", "the database is closed", statement.query_all, statement)
    end)

    it("can be closed while its rows are open, which go on", function()
      local statement = db:prepare(database.quirks.sql.series)
      local rows = statement:query(500)
      rows:next()
      statement:close()
      assert.equal(499, #rows:all())
    end)

    it("runs inside its own loop", function()
      local conn = db:connect()
      local statement = conn:prepare(database.quirks.sql.series)
      local n = 0
      for row in statement:query(20) do
        for _ in statement:query(row.i) do n = n + 1 end
      end
      assert.equal(210, n)
      conn:close()
    end)

    it("follows columns that were added and renamed", function()
      local statement = db:prepare "select * from item where id = 1"
      assert.is_nil(statement:query_row().extra)
      db:exec "alter table item add column extra integer default 7"
      assert.equal(7, statement:query_row().extra)
      db:exec "alter table item rename column extra to other"
      assert.equal(7, statement:query_row().other)
      assert.is_nil(statement:query_row().extra)
      assert.equal("other", names(statement:columns())[4])
      assert.equal(7, statement:query():next().other)
    end)

    it("says what is wrong when its table has gone", function()
      local statement = db:prepare "select name from item"
      assert.equal(3, #statement:query_all())
      db:exec "drop table item"
      expect.raised("SyntaxError", "item", statement.query_all, statement)
      database:create(db, "item (id :id, name :text)")
      assert.same({}, statement:query_all())
    end)

    it("runs once for each row of a list", function()
      local statement = db:prepare "insert into item (name, price) values (?, ?)"
      local affected, id = statement:exec_many { { "a", 1 }, { "b" }, { "c", 3 } }
      assert.equal(3, affected)
      if database.quirks.gives_id then
        assert.equal("a", db:query_value("select name from item where id = ?", id))
      end
      assert.same({ { name = "a", price = 1 }, { name = "b" }, { name = "c", price = 3 } },
        db:query_all "select name, price from item where name < 'cup' order by name")
    end)

    it("runs once for each row of a function", function()
      local i = 0
      local affected = db:prepare "insert into item (name, price) values (?, ?)":exec_many(
        function()
          i = i + 1
          return i <= 2500 and { "n" .. i, i } or nil
        end)
      assert.equal(2500, affected)
      assert.equal(2503, db:query_value "select count(*) from item")
    end)

    it("runs for no row at all", function()
      local statement = db:prepare "insert into item (name, price) values (?, ?)"
      assert.same({ 0 }, { statement:exec_many {} })
      assert.same({ 0 }, { statement:exec_many(function() return nil end) })
    end)

    it("runs for all rows or for none, and names the row that failed", function()
      local statement = db:prepare "insert into item (name, price) values (?, ?)"
      local err = expect.raised("ConstraintError", nil, statement.exec_many, statement,
        { { "a", 1 }, { "b", 2 }, { nil, 3 } })
      assert.equal(3, err.row)
      assert.equal(3, db:query_value "select count(*) from item")
    end)

    it("runs for many rows inside the transaction that it belongs to", function()
      local tx = db:begin()
      local statement = tx:prepare "insert into item (name, price) values (?, ?)"
      assert.equal(2, (statement:exec_many { { "a" }, { "b" } }))
      assert.equal(5, tx:query_value "select count(*) from item")
      tx:rollback()
      assert.equal(3, db:query_value "select count(*) from item")
    end)

    it("refuses a row that is too long, or is no list", function()
      local statement = db:prepare "insert into item (name, price) values (?, ?)"
      local err = expect.raised("UsageError", "more values than are wanted",
        statement.exec_many, statement, { { "a", 1 }, { "b", 2, 3 } })
      assert.equal(2, err.row)
      err = expect.raised("UsageError", "no list of values",
        statement.exec_many, statement, { { "a", 1 }, "b" })
      assert.equal(2, err.row)
      expect.raised("UsageError", "list of rows", statement.exec_many, statement, "a")
      expect.raised("UsageError", "list of rows", statement.exec_many, statement)
      assert.equal(3, db:query_value "select count(*) from item")
    end)

    it("refuses a fragment as a parameter", function()
      local statement = db:prepare "select name from item where id = ?"
      expect.raised("UsageError", "cannot be a parameter of a prepared statement",
        statement.query_value, statement, moonbase.sql "1")
    end)

    it("is kept in a cache when it was run by text", function()
      local before = db:stats()
      for _ = 1, 10 do db:query_value "select count(*) from item" end
      local after = db:stats()
      assert.equal(1, after.cache_misses - before.cache_misses)
      assert.equal(9, after.cache_hits - before.cache_hits)
    end)

    it("is not kept where the cache is off", function()
      local other = database:open{ statement_cache = 0 }
      for i = 1, 10 do other:query_value("select " .. i % 2) end
      assert.equal(0, other:stats().cache_hits)
      assert.equal(10, other:stats().cache_misses)
      local statement = other:connect():prepare "select 2"
      for _ = 1, 3 do assert.equal(2, statement:query_value()) end
    end)

    it("leaves the cache when others are used more", function()
      local other = database:open{ statement_cache = 2 }
      for round = 1, 3 do
        for i = 1, 5 do assert.equal(i, other:query_value("select " .. i), round) end
      end
      assert.equal(0, other:stats().cache_hits)
      for _ = 1, 3 do
        other:query_value "select 1"
        other:query_value "select 2"
      end
      assert.equal(4, other:stats().cache_hits)
    end)

    it("shows its text", function()
      local statement = db:prepare "select 1"
      assert.equal("moonbase.Statement (select 1)", tostring(statement))
      statement:close()
      assert.equal("moonbase.Statement (select 1, closed)", tostring(statement))
    end)

    it("keeps its Database alive", function()
      local statement = db:prepare "select count(*) from item"
      db = nil
      language.collect()
      assert.equal(3, statement:query_value())
    end)

    it("returns errors where its handle does", function()
      local returning = db:with{ errors = "return" }
      expect.returned("SyntaxError", nil, returning:prepare "selekt 1")
      local statement = returning:prepare "insert into item (name) values (?)"
      expect.returned("ConstraintError", nil, statement:exec(nil))
      expect.returned("ConstraintError", nil, statement:exec_many { { "a" }, {} })
      assert.equal(1, (statement:exec("b")))
    end)

    if language.closing then
      it("is closed at the end of its block where it is declared <close>", function()
        local statement = language.compile([[
          local statement <close> = (...):prepare "select 1"
          assert(statement:query_value() == 1)
          return statement
        ]], db)
        assert.is_true(statement:is_closed())
      end)
    end
  end)
end
