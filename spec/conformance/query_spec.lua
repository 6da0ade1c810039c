-- What the methods that run SQL give, on each object that has them.
local moonbase = require "moonbase"

-- How each kind of object is had from a Database.
local kinds = {
  { name = "a Database", get = function(db) return db end },
  { name = "a Connection", get = function(db) return db:connect() end },
  { name = "a Transaction", get = function(db) return db:begin() end },
  { name = "a savepoint", get = function(db) return db:begin():begin() end },
  { name = "a view of a Database", get = function(db) return db:with{} end },
  { name = "a view of a Transaction", get = function(db) return db:begin():with{} end },
}

for _, database in ipairs(require "spec.support.databases") do
  for _, kind in ipairs(kinds) do
    describe(kind.name .. " on " .. database.name, function()
      local x

      before_each(function()
        local db = database:open()
        database:create(db, "item (id :id, name :text, price :double)")
        db:exec("insert into item (name, price) values ('pen', 1.5), ('ink', null)")
        x = kind.get(db)
      end)

      after_each(function()
        x = nil
        database:clean()
      end)

      it("gives Rows for a query, one table for each row", function()
        local got = {}
        for row in x:query "select name, price from item order by id" do got[#got + 1] = row end
        assert.same({ { name = "pen", price = 1.5 }, { name = "ink" } }, got)
      end)

      it("gives Rows without a row where the statement has none", function()
        local rows = x:query("delete from item where name = ?", "pen")
        assert.is_nil((rows:next()))
        assert.equal(1, x:query_value "select count(*) from item")
      end)

      it("gives the first row, as one value always", function()
        assert.same({ { name = "pen", price = 1.5 } },
          { x:query_row "select name, price from item order by id" })
        assert.equal(1, select("#", x:query_row "select name from item where id < 0"))
        assert.is_nil(x:query_row "select name from item where id < 0")
      end)

      it("gives the first value, as one value always", function()
        assert.same({ "pen" }, { x:query_value "select name, price from item order by id" })
        assert.equal(1, select("#", x:query_value "select name from item where id < 0"))
        assert.is_nil(x:query_value "select name from item where id < 0")
        assert.is_nil(x:query_value "select price from item where name = 'ink'")
      end)

      it("gives the first row's values as results, and none without a row", function()
        assert.same({ "pen", 1.5 }, { x:query_values "select name, price from item order by id" })
        assert.equal(2, select("#",
          x:query_values "select price, price from item where name = 'ink'"))
        assert.equal(0, select("#", x:query_values "select name from item where id < 0"))
      end)

      it("gives the first column as a list, NULL as moonbase.null", function()
        assert.same({ 1.5, moonbase.null },
          x:query_column "select price, name from item order by id")
        assert.same({}, x:query_column "select price from item where id < 0")
      end)

      it("gives all rows as a list", function()
        assert.same({ { name = "pen", price = 1.5 }, { name = "ink" } },
          x:query_all "select name, price from item order by id")
        assert.same({}, x:query_all "select name from item where id < 0")
      end)

      it("gives the affected rows", function()
        assert.equal(2, (x:exec "update item set price = 3"))
        assert.equal(0, (x:exec "update item set price = 3 where id < 0"))
        assert.equal(1, (x:exec "delete from item where name = 'pen'"))
      end)

      it("counts the rows that matched, also where nothing changed", function()
        assert.equal(1, (x:exec("update item set price = 1.5 where name = 'pen'")))
      end)

      it("gives the generated id of an INSERT where the database tells it", function()
        local affected, id = x:exec("insert into item (name) values (?)", "cup")
        assert.equal(1, affected)
        if database.quirks.gives_id then
          assert.equal("cup", x:query_value("select name from item where id = ?", id))
        else
          assert.is_nil(id)
        end
        assert.equal(1, select("#", x:exec "update item set price = 1 where name = 'cup'"))
      end)

      it("takes the rows of a statement in exec, and does all of it", function()
        assert.has_no.errors(function() x:exec "select name from item" end)
        if database.quirks.update_returning then
          assert.equal(2, (x:exec "update item set price = 4 returning id"))
          assert.same({ 4, 4 }, x:query_column "select price from item")
        end
      end)

      it("answers a ping", function()
        assert.same({ true }, { x:ping() })
      end)

      it("tells what the database can do", function()
        assert.is_true(x:capability().sql)
      end)

      it("is open, and its end is waited for in tasks only", function()
        assert.is_false(x:is_closed())
        local waited, err = pcall(x.wait_closed, x, 0.001)
        if waited then return assert.is_false(err) end
        assert.is_true(moonbase.is(err, "UsageError"))
        assert.match("nobody else", err.message)
      end)

      it("runs a prepared statement", function()
        local statement = x:prepare "select name from item where price > ?"
        assert.equal("pen", statement:query_value(1))
        assert.is_nil(statement:query_value(2))
        statement:close()
      end)

      it("runs something in a transaction", function()
        assert.equal("done", x:transaction(function(tx)
          tx:exec "delete from item"
          return "done"
        end))
        assert.equal(0, x:query_value "select count(*) from item")
      end)

      it("shows what it is, not whom it serves", function()
        assert.match("^moonbase%.%u%l+ %(", tostring(x))
      end)
    end)
  end
end
