-- Reading rows, in each of their forms.
local moonbase = require "moonbase"
local expect = require "spec.support.expect"

local function collect(iterator, state, value)
  local list = {}
  while true do
    local results = { iterator(state, value) }
    value = results[1]
    if value == nil then return list end
    list[#list + 1] = results
  end
end

for _, database in ipairs(require "spec.support.databases") do
  describe("Rows of " .. database.name, function()
    local db
    local ordered = "select id, name, price from item order by id"

    before_each(function()
      db = database:open()
      database:create(db, "item (id :id, name :text, price :double)")
      db:exec("insert into item values (1, 'pen', 1.5), (2, null, 2), (3, 'ink', null)")
    end)

    after_each(function() database:clean() end)

    it("are an iterator over tables keyed by name, NULL an absent key", function()
      local got = {}
      for row in db:query(ordered) do got[#got + 1] = row end
      assert.same({ { id = 1, name = "pen", price = 1.5 }, { id = 2, price = 2 },
        { id = 3, name = "ink" } }, got)
    end)

    it("give a new table for each row", function()
      local rows = db:query(ordered)
      local first, second = rows:next(), rows:next()
      assert.equal(1, first.id)
      assert.equal(2, second.id)
    end)

    it("give the next row, then nil, again and again", function()
      local rows = db:query "select id from item where id = 1"
      assert.same({ id = 1 }, rows:next())
      assert.equal(1, select("#", rows:next()))
      assert.is_nil((rows:next()))
      assert.is_nil((rows:next()))
    end)

    it("count rows as tuples, so that a NULL in front does not end the loop", function()
      local got = {}
      for n, name, price in db:query "select name, price from item order by id":tuples() do
        got[#got + 1] = { n, name, price }
      end
      assert.same({ { 1, "pen", 1.5 }, { 2, nil, 2 }, { 3, "ink" } }, got)
    end)

    it("give a value for each column of a tuple, NULLs at the end too", function()
      local iterator, state = db:query "select id, price from item where id = 3":tuples()
      assert.equal(3, select("#", iterator(state)))
      assert.is_nil((iterator(state)))
    end)

    it("give arrays with their length", function()
      local got = {}
      for row in db:query "select name, price from item order by id":arrays() do
        got[#got + 1] = row
      end
      assert.same({ { "pen", 1.5, n = 2 }, { [2] = 2, n = 2 }, { "ink", n = 2 } }, got)
    end)

    it("give all rows as a list, by name or as arrays", function()
      assert.same({ { id = 1 }, { id = 2 }, { id = 3 } },
        db:query "select id from item order by id":all())
      assert.same({ { 1, n = 1 }, { 2, n = 1 }, { 3, n = 1 } },
        db:query "select id from item order by id":arrays():all())
    end)

    it("give the rest as a list when some were read", function()
      local rows = db:query "select id from item order by id"
      rows:next()
      assert.same({ { id = 2 }, { id = 3 } }, rows:all())
      assert.same({}, rows:all())
    end)

    it("call a function with each row, and close", function()
      local got = {}
      local rows = db:query(ordered)
      local result = rows:each(function(row) got[#got + 1] = row.id end)
      assert.is_nil(result)
      assert.same({ 1, 2, 3 }, got)
      assert.is_true(rows:is_closed())
    end)

    it("stop at the first value that such a function returns, and give it", function()
      local got = {}
      local rows = db:query(ordered)
      local result = rows:each(function(row)
        got[#got + 1] = row.id
        if row.id == 2 then return "found" end
      end)
      assert.equal("found", result)
      assert.same({ 1, 2 }, got)
      assert.is_true(rows:is_closed())
    end)

    it("stop at false as well", function()
      assert.is_false(db:query(ordered):each(function() return false end))
    end)

    it("close when such a function raises, and raise what it raised", function()
      local rows = db:query(ordered)
      local mistake = {}
      local ok, err = pcall(rows.each, rows, function() error(mistake) end)
      assert.is_false(ok)
      assert.equal(mistake, err)
      assert.is_true(rows:is_closed())
    end)

    it("give the only row", function()
      assert.same({ id = 2 }, db:query "select id from item where name is null":one())
    end)

    it("refuse to be one row when there is none, or another one", function()
      local none = expect.raised("RowCountError", "no row", function()
        db:query "select id from item where id < 0":one()
      end)
      assert.equal(1, none.expected)
      assert.equal(0, none.got)
      local more = expect.raised("RowCountError", "more than one", function()
        db:query "select id from item":one()
      end)
      assert.equal(1, more.expected)
      assert.equal(2, more.got)
      assert.is_true(more:is "DatabaseError")
    end)

    it("give that as nil and the error where errors are returned", function()
      local returning = db:with{ errors = "return" }
      expect.returned("RowCountError", "no row",
        returning:query "select id from item where id < 0":one())
    end)

    it("name their columns before the first row, and after the last", function()
      local rows = db:query(ordered)
      local names = {}
      for i, column in ipairs(rows:columns()) do names[i] = column.name end
      assert.same({ "id", "name", "price" }, names)
      rows:all()
      assert.equal("name", rows:columns()[2].name)
      rows:close()
      assert.equal("price", rows:columns()[3].name)
    end)

    it("give columns that are the caller's own", function()
      local rows = db:query(ordered)
      rows:columns()[1].name = "changed"
      assert.equal("id", rows:columns()[1].name)
      assert.equal(1, rows:next().id)
    end)

    it("name the columns of a result without rows", function()
      local rows = db:query "select name from item where id < 0"
      assert.equal("name", rows:columns()[1].name)
    end)

    it("have no columns for a statement without a result", function()
      assert.same({}, db:query "delete from item":columns())
    end)

    it("have no further result", function()
      local rows = db:query(ordered)
      assert.is_false(rows:next_result())
    end)

    it("give the last of two columns with one name in a keyed row", function()
      local text = "select id as a, name as a, price as b from item where id = 1"
      assert.same({ a = "pen", b = 1.5 }, db:query_row(text))
      assert.same({ a = "pen", b = 1.5 }, (db:query(text):next()))
      assert.same({ 1, "pen", 1.5, n = 3 }, (db:query(text):arrays():next()))
    end)

    it("give no key when the last of two columns with one name is NULL and the first not",
      function()
        assert.is_nil(db:query_row("select id as a, price as a from item where id = 3").a)
        assert.is_nil(db:query("select id as a, price as a from item where id = 3"):next().a)
      end)

    it("give many columns", function()
      local list, wanted = {}, {}
      for i = 1, 300 do
        list[i] = i .. " as c" .. i
        wanted["c" .. i] = i
      end
      local text = "select " .. table.concat(list, ", ")
      assert.same(wanted, db:query_row(text))
      assert.same(wanted, (db:query(text):next()))
      assert.equal(301, #collect(db:query(text):tuples())[1])
      assert.equal(300, select("#", db:query_values(text)))
    end)

    it("give a configured value for NULL, in every form", function()
      local null = {}
      local x = db:with{ null = null }
      local text = "select name, id, price from item where id = 3"
      assert.equal(null, x:query(text):next().price)
      assert.equal(null, x:query(text):arrays():next()[3])
      assert.equal(null, (select(4, x:query(text):tuples()(x:query(text)))))
      assert.equal(null, x:query_row(text).price)
      assert.equal(null, x:query_all(text)[1].price)
      assert.equal(null, x:query_value "select price from item where id = 3")
      assert.equal(null, (select(3, x:query_values(text))))
      assert.equal(null, x:query_column "select price from item where id = 3"[1])
    end)

    it("take false for NULL where that is configured", function()
      local x = db:with{ null = false }
      assert.is_false(x:query_value "select price from item where id = 3")
      assert.is_false(x:query_row "select price from item where id = 3".price)
    end)

    it("stream: ten thousand rows in order, while another statement runs", function()
      local sum, n = 0, 0
      for row in db:query(database.quirks.sql.series, 10000) do
        n = n + 1
        sum = sum + row.i
        if n % 2500 == 0 then
          assert.equal(3, db:query_value "select count(*) from item")
        end
      end
      assert.equal(10000, n)
      assert.equal(10000 * 10001 / 2, sum)
    end)

    it("are read twice at once, of the same text", function()
      local outer = 0
      for row in db:query(database.quirks.sql.series, 200) do
        local inner = 0
        for other in db:query(database.quirks.sql.series, 200) do inner = inner + other.i end
        assert.equal(20100, inner)
        outer = outer + row.i
      end
      assert.equal(20100, outer)
    end)

    it("take fetch_size", function()
      local tx = db:begin()
      local n = 0
      for _ in tx:with{ fetch_size = 10 }:query(database.quirks.sql.series, 1000) do n = n + 1 end
      assert.equal(1000, n)
      tx:rollback()
    end)

    it("show their state", function()
      local rows = db:query(ordered)
      assert.equal("moonbase.Rows (open)", tostring(rows))
      rows:all()
      assert.equal("moonbase.Rows (ended)", tostring(rows))
      rows:close()
      assert.equal("moonbase.Rows (closed)", tostring(rows))
    end)

    it("hold moonbase.null nowhere in a keyed row", function()
      for _, value in pairs(db:query_row "select * from item where id = 3") do
        assert.are_not.equal(moonbase.null, value)
      end
    end)
  end)
end
