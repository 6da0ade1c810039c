-- Fragments of SQL: values are bound, names are quoted, pieces are put together.
local moonbase = require "moonbase"
local expect = require "spec.support.expect"

local sql = moonbase.sql

for _, database in ipairs(require "spec.support.databases") do
  describe("Fragments on " .. database.name, function()
    local db

    before_each(function()
      db = database:open()
      database:create(db, "item (id :id, name :text, price :double)")
      db:exec [[insert into item (name, price) values ('pen', 1.5), ('ink', 3), ('cup', null)]]
    end)

    after_each(function() database:clean() end)

    local function names(condition)
      return db:query_column("select name from item where ? order by id", condition)
    end

    it("are a condition with its values", function()
      assert.same({ "pen" }, names(sql("price < ?", 2)))
      assert.same({ "pen" }, names(sql("price < $1 and price > $2", 2, 1)))
      assert.same({ "pen" }, names(sql("price < :high", { high = 2 })))
      assert.same({ "pen", "ink", "cup" }, names(sql "1 = 1"))
    end)

    it("stand for any placeholder, of any style, beside values", function()
      local condition = sql("price > ?", 1)
      assert.same({ "ink" }, db:query_column(
        "select name from item where ? and name like ?", condition, "i%"))
      assert.same({ "ink" }, db:query_column(
        "select name from item where $2 and name like $1", "i%", condition))
      assert.same({ "ink" }, db:query_column(
        "select name from item where :where and name like :name",
        { where = condition, name = "i%" }))
      assert.same({ "ink" }, db:query_column(
        "select name from item where ? and name like ?", moonbase.params { condition, "i%" }))
    end)

    it("may be used more than once, and run more than once", function()
      local condition = sql("price > ?", 2)
      local text = "select count(*) from item where $1 or $1"
      assert.equal(1, db:query_value(text, condition))
      assert.equal(1, db:query_value(text, condition))
    end)

    it("are a whole statement for every method", function()
      local all = sql("select name from item where price > ? order by id", 1)
      assert.equal("pen", db:query_value(all))
      assert.same({ name = "pen" }, db:query_row(all))
      assert.same({ "pen" }, { db:query_values(all) })
      assert.same({ "pen", "ink" }, db:query_column(all))
      assert.same({ { name = "pen" }, { name = "ink" } }, db:query_all(all))
      assert.same({ name = "pen" }, (db:query(all):next()))
      assert.equal(1, (db:exec(sql("delete from item where name = ?", "cup"))))
      expect.raised("UsageError", "has its parameters already", db.query, db, all, 1)
    end)

    it("hold fragments, at any depth", function()
      local inner = sql("price > ?", 2)
      local outer = sql("(? and name = ?)", inner, "ink")
      assert.same({ "ink" }, names(sql("(? or ?)", outer, sql "1 = 0")))
      local deep = sql("price > ?", 1)
      for i = 1, 30 do deep = sql("(? and ? = ?)", deep, i, i) end
      assert.same({ "pen", "ink" }, names(deep))
    end)

    it("bind what they hold: nothing gets out of a value", function()
      for _, attack in ipairs { "'; drop table item; --", "x' or '1'='1", "?", "$1", ":name",
        "/* ", "-- ", "\\'", "\"", "`", "]" } do
        assert.same({}, names(sql("name = ?", attack)))
        assert.same({}, names(sql.is_in("name", { attack })))
        assert.same({}, names(sql("name = :n", { n = attack })))
        assert.equal(attack, db:query_value(sql("select ?", attack)))
      end
      assert.equal(3, db:query_value "select count(*) from item")
    end)

    it("take nil for NULL", function()
      assert.same({ "pen", "ink", "cup" }, names(sql(database:text "{?:text} is null", nil)))
      assert.same({ "cup" }, names(sql("coalesce(price, ?) is null", nil)))
    end)

    it("leave placeholders in strings and comments alone", function()
      assert.same({ "?", "x", ":a$1" }, { db:query_values(sql("select '?', ?, ':a$1' -- ?\n",
        "x")) })
      assert.equal("y", db:query_value(sql("select /* ? :a */ ?", "y")))
    end)

    it("are joined with and, each in parentheses; none of them holds", function()
      assert.same({ "ink" }, names(sql.all { sql("price > ?", 2), sql("name = ?", "ink") }))
      assert.same({ "pen", "ink", "cup" }, names(sql.all {}))
      assert.same({}, names(sql("not ?", sql.all {})))
      -- Without parentheses the or would reach further.
      assert.same({ "pen" }, names(sql.all {
        sql("name = ? or name = ?", "pen", "ink"), sql("price < ?", 2) }))
    end)

    it("are joined with or, each in parentheses; none of them does not hold", function()
      assert.same({ "pen", "cup" }, names(sql.any { sql("price < ?", 2), sql "price is null" }))
      assert.same({}, names(sql.any {}))
      assert.same({ "pen", "ink", "cup" }, names(sql("not ?", sql.any {})))
      assert.same({}, names(sql.all { sql.any { sql "1 = 1" }, sql.any {} }))
    end)

    it("compare with a list, also an empty one, also under not", function()
      assert.same({ "pen", "cup" }, names(sql.is_in("name", { "pen", "cup", "none" })))
      assert.same({}, names(sql.is_in("name", {})))
      assert.same({ "pen", "ink", "cup" }, names(sql("not ?", sql.is_in("name", {}))))
      assert.same({ "ink" }, names(sql("not ?", sql.is_in("name", { "pen", "cup" }))))
      assert.same({ "pen" }, names(sql.is_in(sql("lower(name)"), { "pen" })))
    end)

    it("compare with a list of 1,000 values", function()
      local list = {}
      for i = 1, 1000 do list[i] = "n" .. i end
      list[1000] = "ink"
      assert.same({ "ink" }, names(sql.is_in("name", list)))
    end)

    it("are values in a row", function()
      assert.same({ "pen" }, names(sql("name in (?)", sql.list { "pen", "x" })))
      assert.same({ "1", nil, "3" },
        { db:query_values("select ?", sql.list { n = 3, "1", nil, "3" }) })
      expect.raised("UsageError", "sql.list is empty", sql.list, {})
    end)

    it("are rows of values", function()
      db:exec("insert into item (name, price) values ?",
        sql.values { { "a", 1 }, { "b", moonbase.null }, { "c", sql("1 + ?", 2) } })
      assert.same({ { name = "a", price = 1 }, { name = "b" }, { name = "c", price = 3 } },
        db:query_all "select name, price from item where name < 'cup' order by name")
      expect.raised("UsageError", "sql.values is empty", sql.values, {})
      expect.raised("UsageError", "row 2 has 1 values, and the first 2", sql.values,
        { { 1, 2 }, { 1 } })
      expect.raised("UsageError", nil, sql.values, { {} })
      expect.raised("UsageError", "wants a list", sql.values, { 1 })
    end)

    it("are quoted names", function()
      assert.same({ "pen", "ink", "cup" }, db:query_column(
        "select :c from :t order by :o", { c = sql.identifier "name",
          t = sql.identifier "item", o = sql.identifier("item", "id") }))
    end)

    it("quote names that hold anything but a zero byte", function()
      for _, name in ipairs { "select", "two words", "it's", 'quo"ted', "back`tick", "br[ac]ket",
        "semi;colon", "?", ":a", "$1", "--", "gr\195\182\195\159e", ".", "\\" } do
        local row = db:query_row("select 7 as ?", sql.identifier(name))
        assert.same({ [name] = 7 }, row)
      end
    end)

    it("refuse names that no database has", function()
      for _, name in ipairs { "", "a\0b", "\255", "\192\128", "\237\160\128" } do
        expect.raised("UsageError", "name", db.query, db, "select 7 as ?", sql.identifier(name))
      end
    end)

    it("are joined by a separator", function()
      assert.same({ name = "pen", price = 1.5 }, db:query_row("select ? from item order by id",
        sql.join { sql.identifier "name", sql.identifier "price" }))
      assert.equal(6, db:query_value("select 1 + ?",
        sql.join({ sql("?", 2), sql("?", 3) }, " + ")))
    end)

    it("are text as it is", function()
      assert.same({ "cup", "ink", "pen" }, db:query_column(
        "select name from item order by ?", sql.raw "id desc"))
    end)

    it("are a statement of their own in a batch", function()
      local results = db:batch {
        { "select name from item where ?", sql("name = ?", "pen") },
        { "select count(*) as n from item where ?", sql.is_in("name", { "pen", "ink" }) },
      }
      assert.same({ { name = "pen" } }, results[1].rows)
      assert.same({ { n = 2 } }, results[2].rows)
    end)

    it("want as many values as they have placeholders", function()
      expect.raised("UsageError", "has 2 parameters, but 1 are given", names, sql("? = ?", 1))
      expect.raised("UsageError", "has 1 parameters, but 2 are given", names, sql("?", 1, 2))
      expect.raised("UsageError", "has 0 parameters, but 1 are given", names, sql("1 = 1", nil))
      expect.raised("UsageError", "parameter :b is given but not used", names,
        sql("1 = :a", { a = 1, b = 2 }))
      expect.raised("UsageError", "did you mean", names, sql("1 = :name", { nmae = 1 }))
      expect.raised("UsageError", "give one table", names, sql("1 = :a", 1))
      expect.raised("UsageError", "named parameters are given", names, sql("1 = ?", { a = 1 }))
      if not database.quirks.question_operators then
        expect.raised("UsageError", "both ? and :name", names, sql("? = :a", 1))
      end
      assert.equal(3, db:query_value "select count(*) from item")
    end)

    it("with a value that no database keeps are refused, by its number", function()
      expect.raised("UsageError", "is a function", names, sql("price > ?", print))
      expect.raised("UsageError", "is a table", names, sql.is_in("price", { {} }))
    end)

    it("have no zero byte in their text", function()
      expect.raised("UsageError", "zero byte", names, sql "1 = 1\0")
      expect.raised("UsageError", "zero byte", names, sql.raw "1 = 1\0")
    end)

    it("do not become names when their name is a placeholder", function()
      -- A value next to a word of the text stays apart from it.
      assert.equal("12", db:query_value(sql(
        database.quirks.sql.joined, "1", "2")))
      assert.equal("1", db:query_value(sql("select ?where 1 = ?", "1", 1)))
    end)

    it("show their text, not their values", function()
      assert.equal("moonbase.sql(a = ?)", tostring(sql("a = ?", "secret")))
      assert.is_nil(tostring(sql.list { "secret" }):find "secret")
    end)
  end)
end
