-- Many rows in one call.
local moonbase = require "moonbase"
local expect = require "spec.support.expect"

for _, database in ipairs(require "spec.support.databases") do
  describe("bulk_insert on " .. database.name, function()
    local db

    before_each(function()
      db = database:open()
      database:create(db, "item (id :integer primary key, name :text not null, price :double, "
        .. "data :blob)")
    end)

    after_each(function() database:clean() end)

    local function count(x)
      return (x or db):query_value "select count(*) from item"
    end

    -- An iterator over n rows.
    local function generate(n, from)
      local i = (from or 1) - 1
      local last = i + n
      return function()
        i = i + 1
        return i <= last and { i, "n" .. i } or nil
      end
    end

    it("inserts a list, and gives the number of rows", function()
      assert.same({ 3 }, { db:bulk_insert("item", { "id", "name" },
        { { 1, "a" }, { 2, "b" }, { 3, "c" } }) })
      assert.same({ "a", "b", "c" }, db:query_column "select name from item order by id")
    end)

    it("inserts what a function gives until nil", function()
      assert.equal(2500, db:bulk_insert("item", { "id", "name" }, generate(2500)))
      assert.equal(2500, count())
      assert.equal("n2500", db:query_value "select name from item where id = 2500")
    end)

    it("calls the function no more after nil", function()
      local calls = 0
      db:bulk_insert("item", { "id", "name" }, function()
        calls = calls + 1
        return calls <= 5 and { calls, "x" } or nil
      end)
      assert.equal(6, calls)
    end)

    it("inserts no row at all", function()
      assert.equal(0, db:bulk_insert("item", { "id" }, {}))
      assert.equal(0, db:bulk_insert("item", { "id" }, function() return nil end))
      assert.equal(0, db:bulk_insert("item", { "id" }, {}, { commit_every = 10 }))
    end)

    it("takes NULLs at the end, in the middle, and as moonbase.null", function()
      db:bulk_insert("item", { "id", "price", "name", "data" }, {
        { 1, nil, "a" }, { 2, moonbase.null, "b", moonbase.null },
        { 3, 1.5, "c", moonbase.blob "\0" } })
      assert.same({ { id = 1, name = "a" }, { id = 2, name = "b" },
        { id = 3, name = "c", price = 1.5, data = "\0" } },
        db:query_all "select * from item order by id")
    end)

    it("gives rows the length of the columns, never that of #", function()
      local row = { 1, "a" }
      row[4] = moonbase.blob "x"
      assert.equal(1, db:bulk_insert("item", { "id", "name", "price", "data" }, { row }))
      assert.equal("x", db:query_value "select data from item")
      local err = expect.raised("UsageError", "more values than are wanted", db.bulk_insert, db,
        "item", { "id", "name" }, { { 2, "b" }, { 3, "c", 5 } })
      assert.equal(2, err.row)
      assert.equal(1, count())
    end)

    it("quotes the names of table and columns", function()
      local sql = moonbase.sql
      local names = sql.list { sql.identifier "select", sql.identifier "two words" }
      db:exec(sql("create table child (? integer, ? integer)", sql.identifier "select",
        sql.identifier "two words"))
      assert.equal(1, db:bulk_insert("child", { "select", "two words" }, { { 1, 2 } }))
      assert.same({ 1, 2 }, { db:query_values(sql("select ? from child", names)) })
      expect.raised("SyntaxError", nil, db.bulk_insert, db, 'item (id) values (1); --',
        { "id" }, { { 1 } })
      assert.equal(0, count())
    end)

    it("takes a fragment as the table", function()
      db:bulk_insert(moonbase.sql.identifier "item", { "id", "name" }, { { 1, "a" } })
      assert.equal(1, count())
    end)

    it("inserts all rows or none, and names the row that failed", function()
      local rows = {}
      for i = 1, 3000 do rows[i] = { i, "n" } end
      rows[2500] = { 1, "again" }
      local err = expect.raised("ConstraintError", nil, db.bulk_insert, db, "item",
        { "id", "name" }, rows)
      assert.equal(2500, err.row)
      assert.equal("primary_key", err.constraint_kind)
      assert.is_truthy(tostring(err):find("(row 2500)", 1, true))
      assert.equal(0, count())
      assert.equal(0, db:stats().in_use)
    end)

    it("names the row that failed also when a function gives them", function()
      local next_row = generate(3000)
      local n = 0
      local err = expect.raised("ConstraintError", nil, db.bulk_insert, db, "item",
        { "id", "name" }, function()
          n = n + 1
          local row = next_row()
          if n == 1234 then row[2] = nil end
          return row
        end)
      assert.equal(1234, err.row)
      assert.equal("not_null", err.constraint_kind)
    end)

    it("names the row whose value no database keeps, and the parameter", function()
      local err = expect.raised("UsageError", "parameter 2 is a function", db.bulk_insert, db,
        "item", { "id", "name" }, { { 1, "a" }, { 2, print } })
      assert.equal(2, err.row)
      err = expect.raised("UsageError", "no list of values", db.bulk_insert, db, "item",
        { "id", "name" }, { { 1, "a" }, 7 })
      assert.equal(2, err.row)
      err = expect.raised("UsageError", "no list of values", db.bulk_insert, db, "item",
        { "id", "name" }, { { 1, "a" }, moonbase.blob "x" })
      assert.equal(2, err.row)
      assert.equal(0, count())
    end)

    it("leaves out rows that break a unique constraint, where it is told to", function()
      db:exec "insert into item (id, name) values (2, 'old')"
      assert.equal(2, db:bulk_insert("item", { "id", "name" },
        { { 1, "a" }, { 2, "b" }, { 3, "c" }, { 3, "d" } }, { on_conflict = "skip" }))
      assert.same({ "a", "old", "c" }, db:query_column "select name from item order by id")
      expect.raised("ConstraintError", nil, db.bulk_insert, db, "item", { "id", "name" },
        { { 4, nil } }, { on_conflict = "skip" })
    end)

    it("commits every so many rows, where it is told to", function()
      local err = expect.raised("ConstraintError", nil, db.bulk_insert, db, "item",
        { "id", "name" }, { { 1, "a" }, { 2, "b" }, { 3, "c" }, { 4, "d" }, { 4, "again" } },
        { commit_every = 2 })
      assert.equal(5, err.row)
      assert.equal(4, count()) -- the first two parts stay
      assert.equal(2500, db:bulk_insert("item", { "id", "name" }, generate(2500, 10),
        { commit_every = 700 }))
      assert.equal(2504, count())
    end)

    it("tells how far it is", function()
      local told = {}
      db:bulk_insert("item", { "id", "name" }, generate(2500),
        { progress = function(n) told[#told + 1] = n end })
      assert.equal(2500, told[#told])
      for i = 2, #told do assert.is_true(told[i] > told[i - 1]) end
      assert.is_true(#told > 1)
      told = {}
      db:bulk_insert("item", { "id", "name" }, generate(10, 5000),
        { commit_every = 4, progress = function(n) told[#told + 1] = n end })
      assert.same({ 4, 8, 10 }, told)
    end)

    it("ends when progress raises, and inserts nothing", function()
      local mistake = {}
      local ok, err = pcall(db.bulk_insert, db, "item", { "id", "name" }, generate(10),
        { progress = function() error(mistake) end })
      assert.is_false(ok)
      assert.equal(mistake, err)
      assert.equal(0, count())
    end)

    it("ends when the function that gives rows raises, and inserts nothing", function()
      local mistake = {}
      local n = 0
      local ok, err = pcall(db.bulk_insert, db, "item", { "id", "name" }, function()
        n = n + 1
        if n > 1500 then error(mistake) end
        return { n, "x" }
      end)
      assert.is_false(ok)
      assert.equal(mistake, err)
      assert.equal(0, count())
      assert.equal(0, db:stats().in_use)
    end)

    it("belongs to the transaction in which it is called", function()
      local tx = db:begin()
      assert.equal(2, tx:bulk_insert("item", { "id", "name" }, { { 1, "a" }, { 2, "b" } }))
      assert.equal(2, count(tx))
      tx:rollback()
      assert.equal(0, count())
    end)

    it("undoes itself alone when it fails inside a transaction", function()
      db:transaction(function(tx)
        tx:exec "insert into item (id, name) values (9, 'before')"
        expect.raised("ConstraintError", nil, tx.bulk_insert, tx, "item", { "id", "name" },
          { { 1, "a" }, { 1, "b" } })
        assert.equal(1, count(tx))
      end)
      assert.equal(1, count())
      local tx = db:begin()
      expect.raised("UsageError", "there is a transaction open around it", tx.bulk_insert, tx,
        "item", { "id", "name" }, {}, { commit_every = 5 })
      tx:rollback()
    end)

    it("runs on a connection of one's own", function()
      local conn = db:connect()
      assert.equal(1, conn:bulk_insert("item", { "id", "name" }, { { 1, "a" } }))
      assert.equal(1, conn:bulk_insert("item", { "id", "name" }, { { 2, "a" } },
        { commit_every = 1 }))
      assert.equal(2, count(conn))
      conn:close()
    end)

    it("has no time-out but one that it is given", function()
      local x = db:with{ timeout = 30 }
      assert.equal(10, x:bulk_insert("item", { "id", "name" }, generate(10)))
    end)

    it("refuses what it cannot use", function()
      for _, wrong in ipairs {
        { "item", {}, {} }, { "item", nil, {} }, { "item", "id", {} }, { 7, { "id" }, {} },
        { "item", { "id" } }, { "item", { "id" }, "rows" }, { "item", { "id" }, 7 },
        { "item", { 7 }, {} }, { "item", { "id", nil, "name" }, {} },
        { "", { "id" }, {} }, { "a\0b", { "id" }, {} },
        { "item", { "id" }, {}, { on_conflict = "replace" } },
        { "item", { "id" }, {}, { on_conflict = true } },
        { "item", { "id" }, {}, { commit_every = 0 } },
        { "item", { "id" }, {}, { commit_every = 1.5 } },
        { "item", { "id" }, {}, { commit_every = "2" } },
        { "item", { "id" }, {}, { progress = true } },
        { "item", { "id" }, {}, { unheard_of = 1 } },
        { "item", { "id" }, {}, { commit_every = 0 / 0 } },
        { "item", { "id" }, {}, 7 }, { "item", { "id" }, {}, false },
      } do
        expect.raised("UsageError", nil, db.bulk_insert, db, wrong[1], wrong[2], wrong[3],
          wrong[4])
      end
      assert.equal(0, db:stats().in_use)
    end)
  end)

  describe("batch on " .. database.name, function()
    local db

    before_each(function()
      db = database:open()
      database:create(db, "item (id :id, name :text not null)")
    end)

    after_each(function() database:clean() end)

    it("gives rows, affected rows and the generated id of each entry", function()
      local results = db:batch {
        { "insert into item (name) values (?)", "a" },
        { "insert into item (name) values (:name)", { name = "b" } },
        { "update item set name = ? where name = ?", "c", "a" },
        { "select name from item order by id" },
        { "delete from item" },
      }
      assert.equal(5, #results)
      assert.equal(1, results[1].affected)
      assert.same({}, results[1].rows)
      assert.equal(database.quirks.gives_id, results[1].id ~= nil)
      assert.equal(1, results[3].affected)
      assert.is_nil(results[3].id)
      assert.same({ { name = "c" }, { name = "b" } }, results[4].rows)
      assert.equal(2, results[5].affected)
    end)

    it("takes an empty list", function()
      assert.same({}, db:batch {})
    end)

    it("takes many entries, and answers in their order", function()
      local entries = {}
      for i = 1, 700, 2 do
        entries[i] = { "insert into item (name) values (?)", "n" .. i }
        entries[i + 1] = { "select count(*) as n from item where name <> ?", "n" .. i }
      end
      local results = db:batch(entries)
      assert.equal(700, #results)
      for i = 1, 700, 2 do
        assert.equal(1, results[i].affected)
        assert.same({ { n = (i - 1) / 2 } }, results[i + 1].rows)
      end
    end)

    it("takes entries that are large together", function()
      local entries = {}
      for i = 1, 6 do
        entries[i] = { "insert into item (name) values (?)", (tostring(i)):rep(200000) }
      end
      entries[7] = { "select name from item order by id" }
      local rows = db:batch(entries)[7].rows
      for i = 1, 6 do assert.is_true(rows[i].name == entries[i][2]) end
    end)

    it("takes nils inside an entry, and moonbase.params", function()
      local results = db:batch {
        { "select ? as a, ? as b, ? as c", "1", nil, "3" },
        { "select ? as a, ? as b", "1" },
        { "select ? as a, ? as b", moonbase.params { "5", "6" } },
      }
      assert.same({ a = "1", c = "3" }, results[1].rows[1])
      assert.same({ a = "1" }, results[2].rows[1])
      assert.same({ a = "5", b = "6" }, results[3].rows[1])
    end)

    it("gives an entry the length of its statement, never that of #", function()
      -- # may be that of the first nil, or of any later one.
      local entry = { "select ? as a, ? as b, ? as c, ? as d" }
      entry[2], entry[5] = "1", "4"
      assert.same({ a = "1", d = "4" }, db:batch { entry }[1].rows[1])
      entry[6] = 5
      local err = expect.raised("UsageError", "more values are given", db.batch, db, { entry })
      assert.equal(1, err.entry)
      entry = { "select 1 as a" }
      entry[4] = 7
      expect.raised("UsageError", "more values are given", db.batch, db, { entry })
      entry[2 ^ 53] = 7
      expect.raised("UsageError", "more than any statement has", db.batch, db, { entry })
    end)

    it("takes fragments, which have their parameters already", function()
      local sql = moonbase.sql
      assert.same({ a = "x" }, db:batch { { sql("select ? as a", "x") } }[1].rows[1])
      local err = expect.raised("UsageError", "has its parameters already", db.batch, db,
        { { "select 1" }, { sql("select ? as a", 7), 8 } })
      assert.equal(2, err.entry)
    end)

    it("does everything or nothing, and names the entry that failed", function()
      local err = expect.raised("ConstraintError", nil, db.batch, db, {
        { "insert into item (name) values ('a')" },
        { "insert into item (name) values (?)", "b" },
        { "insert into item (name) values (null)" },
      })
      assert.equal(3, err.entry)
      assert.is_truthy(tostring(err):find("(entry 3)", 1, true))
      assert.equal(0, db:query_value "select count(*) from item")
      err = expect.raised("UsageError", nil, db.batch, db, {
        { "insert into item (name) values ('a')" }, { "select ?", 1, 2 } })
      assert.equal(2, err.entry)
      err = expect.raised("UsageError", nil, db.batch, db, {
        { "insert into item (name) values ('a')" }, { "select :a", { b = 1 } } })
      assert.equal(2, err.entry)
      err = expect.raised("SyntaxError", nil, db.batch, db, { { "selekt" } })
      assert.equal(1, err.entry)
      assert.equal(0, db:query_value "select count(*) from item")
      assert.equal(0, db:stats().in_use)
    end)

    it("leaves a transaction as it was that an inner one protects", function()
      db:transaction(function(tx)
        tx:exec "insert into item (name) values ('before')"
        local err = expect.raised("ConstraintError", nil, tx.transaction, tx, function(inner)
          inner:batch {
            { "insert into item (name) values ('a')" },
            { "insert into item (name) values (null)" },
            { "insert into item (name) values ('b')" },
          }
        end)
        assert.equal(2, err.entry)
        tx:batch { { "insert into item (name) values ('after')" }, { "select 1 as a" } }
      end)
      assert.same({ "after", "before" }, db:query_column "select name from item order by name")
    end)

    it("runs other statements behind an entry that could not be read", function()
      local tx = db:begin()
      local err = expect.raised("UsageError", "parameter 1 is a function", tx.batch, tx, {
        { "insert into item (name) values ('a')" }, { "select ?", print }, { "select 1" } })
      assert.equal(2, err.entry)
      assert.equal(7, tx:query_value "select 7")
      tx:batch { { "insert into item (name) values ('b')" }, { "select 1 as a" } }
      tx:commit()
      assert.equal(1, db:query_value "select count(*) from item where name = 'b'")
    end)

    it("reads rows into memory that are open on its connection", function()
      local conn = db:connect()
      local rows = conn:query(database.quirks.sql.series, 500)
      assert.is_table(rows:next())
      assert.equal(2, #conn:batch { { "select 1 as a" }, { "select 2 as a" } })
      assert.equal(499, #rows:all())
      conn:close()
    end)

    it("belongs to the transaction in which it is called", function()
      local tx = db:begin()
      tx:batch { { "insert into item (name) values ('a')" } }
      tx:rollback()
      assert.equal(0, db:query_value "select count(*) from item")
    end)

    it("refuses what is no list of entries", function()
      expect.raised("UsageError", "batch wants a list", db.batch, db, "select 1")
      expect.raised("UsageError", "batch wants a list", db.batch, db)
      expect.raised("UsageError", "entry 2 is no {sql, …}", db.batch, db,
        { { "select 1" }, "select 1" })
      expect.raised("UsageError", "entry 1 is no {sql, …}", db.batch, db, { { 7 } })
      expect.raised("UsageError", "entry 1 is no {sql, …}", db.batch, db, { {} })
      expect.raised("UsageError", "entry 1 is no {sql, …}", db.batch, db, { { {} } })
      expect.raised("UsageError", "entry 2 is no {sql, …}", db.batch, db,
        { { "select 1" }, nil, { "select 2" } })
    end)
  end)
end
