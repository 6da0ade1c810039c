-- Values for placeholders, in each style.
local moonbase = require "moonbase"
local expect = require "spec.support.expect"
local language = require "spec.support.language"

for _, database in ipairs(require "spec.support.databases") do
  describe("Parameters on " .. database.name, function()
    local db

    local function text(sql) return database:text(sql) end

    before_each(function()
      db = database:open()
      database:create(db, "item (id :id, name :text, price :double)")
    end)

    after_each(function() database:clean() end)

    it("are given in order for ?", function()
      assert.same({ 1, "b", 3.5 },
        { db:query_values(text "select {?:integer}, ?, {?:double}", 1, "b", 3.5) })
    end)

    it("are given by number for $1, in any order and more than once", function()
      assert.same({ 2, 1, 2 }, { db:query_values(
        text "select {$2:integer}, {$1:integer}, {$2:integer}", 1, 2) })
    end)

    it("are given by name for :name, in any order and more than once", function()
      assert.same({ "x", "y", "x" },
        { db:query_values("select :b, :a, :b", { a = "y", b = "x" }) })
    end)

    it("may be nil in the middle and at the end", function()
      local three = text "select {?:integer}, ?, {?:integer}"
      assert.same({ 3, 1, nil, 3, nil }, { 3, db:query_values(three, 1, nil, 3) })
      local function values(...) return { n = select("#", ...), ... } end
      assert.same({ n = 3, 1, nil, nil }, values(db:query_values(three, 1, nil, nil)))
      assert.same({ n = 2 }, values(db:query_values("select ?, ?", nil, nil)))
    end)

    it("are counted, nils at the end too", function()
      expect.raised("UsageError", "has 2 parameters, but 1 was given",
        db.query_value, db, "select ?, ?", 1)
      expect.raised("UsageError", "has 2 parameters, but 0 were given",
        db.query_value, db, "select ?, ?")
      expect.raised("UsageError", "has 1 parameter, but 2 were given",
        db.query_value, db, "select ?", 1, nil)
      expect.raised("UsageError", "has 0 parameters, but 1 was given",
        db.query_value, db, "select 1", nil)
      expect.raised("UsageError", "has 2 parameters, but 3 were given",
        db.query_value, db, "select $1, $2", 1, 2, 3)
    end)

    it("may be a list of any length", function()
      assert.equal(7, db:query_value(text "select {?:integer} + {?:integer}",
        moonbase.params { 3, 4 }))
      assert.is_nil(db:query_value("select ?", moonbase.params({}, 1)))
      local n = language.many_arguments and 30000 or 5000
      local list, places = {}, {}
      for i = 1, n do list[i], places[i] = i, "?" end
      local union = "select count(*) from (select ?" .. (" union all select ?"):rep(499) .. ") s"
      assert.equal(500, db:query_value(union, moonbase.params(list, 500)))
      local all = "select 1 where 1 in (" .. table.concat(places, ", ") .. ")"
      assert.equal(1, db:query_value(all, moonbase.params(list)))
      assert.equal(1, db:query_value(all, language.unpack(list, 1, n)))
    end)

    it("may be a list with nils inside and its length in n", function()
      local list = moonbase.params { n = 3, 1, nil, 3 }
      local three = text "select {?:integer}, ?, {?:integer}"
      assert.same({ 1, nil, 3 }, { db:query_values(three, list) })
      assert.same({ 1, nil, nil }, { db:query_values(three, moonbase.params({ 1 }, 3)) })
    end)

    it("in a list must fit as well", function()
      expect.raised("UsageError", "has 3 parameters, but 2 were given",
        db.query_value, db, "select ?, ?, ?", moonbase.params { 1, 2 })
      expect.raised("UsageError", "must stand alone",
        db.query_value, db, "select ?, ?", moonbase.params { 1 }, 2)
    end)

    it("with an absent name are NULL", function()
      assert.equal(1, (db:exec("insert into item (name, price) values (:name, :price)",
        { name = "pen" })))
      assert.same({ name = "pen" }, db:query_row "select name, price from item")
    end)

    it("with a name that the statement lacks are refused, with the one that was meant", function()
      expect.raised("UsageError", "parameter :nmae is given but not used in the statement; "
        .. "did you mean :name?", db.exec, db, "insert into item (name) values (:name)",
        { nmae = "pen" })
      local err = expect.raised("UsageError", "parameter :zzzzzz is given but not used",
        db.exec, db, "insert into item (name) values (:name)", { name = "a", zzzzzz = 1 })
      assert.is_nil(err.message:find("did you mean", 1, true))
      assert.equal(0, db:query_value "select count(*) from item")
    end)

    it("by name want one plain table", function()
      expect.raised("UsageError", "named placeholders: give one table",
        db.query_value, db, "select :a", 1)
      expect.raised("UsageError", "named placeholders: give one table",
        db.query_value, db, "select :a", { a = 1 }, 2)
      expect.raised("UsageError", "has positional placeholders",
        db.query_value, db, "select ?", { a = 1 })
      expect.raised("UsageError", "a key that is no string",
        db.query_value, db, "select :a", { 1 })
      expect.raised("UsageError", "given but not used", db.query_value, db, "select 1", { a = 1 })
      assert.equal(1, db:query_value("select 1", {}))
      expect.raised("UsageError", "has 1 parameter, but 0 were given",
        db.query_value, db, "select :a")
    end)

    it("are of one style a statement", function()
      if not database.quirks.question_operators then
        expect.raised("UsageError", "both ? and $1", db.query, db, "select ?, $1", 1, 2)
        expect.raised("UsageError", "both ? and :name", db.query, db, "select ?, :a", 1, 2)
      end
      local err = expect.raised("UsageError", "both $1 and :name",
        db.query, db, "select $1, :a", 1, 2)
      assert.equal(12, err.position)
    end)

    it("are numbered from 1 without gaps", function()
      expect.raised("UsageError", "numbers start at $1", db.query, db, "select $0", 1)
      expect.raised("UsageError", nil, db.query, db, "select $1, $3", 1, 2, 3)
    end)

    it("of foreign styles are refused", function()
      local name = not database.quirks.dollar_names and "select $name" or nil
      for _, foreign in ipairs { "select ?5", name } do
        expect.raised("UsageError", nil, db.query, db, foreign, 1)
      end
    end)

    it("leave strings, names and comments alone", function()
      assert.same({ "? $1 :a", 7 },
        { db:query_values("select '? $1 :a', " .. text "{?:integer}" .. " -- ? :b\n /* ? $2 :c */",
          7) })
      assert.same({ ["?:a"] = "x" }, db:query_row('select ? as "?:a"', "x"))
      assert.equal("it's ?", db:query_value "select 'it''s ?'")
    end)

    it("that are invalid are named in the error", function()
      expect.raised("UsageError", "parameter 2 is a table", db.exec, db, "select ?, ?", 1, {})
      expect.raised("UsageError", "parameter 1 is a function, which no database can keep",
        db.exec, db, "select ?", print)
      expect.raised("UsageError", "parameter 1 is a thread", db.exec, db, "select ?",
        coroutine.create(function() end))
      expect.raised("UsageError", "parameter 1 is a userdata", db.exec, db, "select ?", io.stdout)
      expect.raised("UsageError", "parameter 3 is a table", db.exec, db, "select ?, ?, ?",
        moonbase.params { 1, 2, {} })
      expect.raised("UsageError", "parameter :b is a function", db.exec, db, "select :a, :b",
        { a = 1, b = print })
      expect.raised("UsageError", "is a table: write moonbase.json", db.exec, db,
        "select ?, ?", 1, setmetatable({}, {}))
    end)

    it("may be moonbase.null for NULL, alone, in a list and by name", function()
      assert.is_nil(db:query_value("select ?", moonbase.null))
      assert.is_nil(db:query_value("select ?", moonbase.params { moonbase.null }))
      assert.is_nil(db:query_value("select :a", { a = moonbase.null }))
    end)

    it("may be the configured null, alone, among others, in a list and by name", function()
      for _, null in ipairs { {}, setmetatable({}, {}), print, io.stdout } do
        local x = db:with{ null = null }
        assert.equal(null, x:query_value("select ?", null))
        assert.equal(null, (select(2, x:query_values("select ?, ?", "x", null))))
        assert.equal(null, x:query_value("select ?", moonbase.params { null }))
        assert.equal(null, x:query_value("select :a", { a = null }))
      end
    end)

    it("are bound, whatever they hold", function()
      for _, value in ipairs { "'; drop table item; --", "\\'; drop table item; --", "?", ":a",
        "$1", "/*", "%s", "\226\128\152" } do
        assert.equal(value, db:query_value("select ?", value))
        assert.equal(value, db:query_value("select :a", { a = value }))
        db:exec("insert into item (name) values (?)", value)
        assert.equal(1, db:query_value("select count(*) from item where name = ?", value))
      end
    end)

    it("are as they were when the call was made", function()
      local list = moonbase.params { 1, 2 }
      local rows = db:query("select i, ? as a, ? as b from (" .. database.quirks.sql.series
        .. ") s", moonbase.params { "x", "y", 500 })
      list[1] = "changed"
      local named = { a = "before" }
      local other = db:connect():query("select i, :a as a from (" ..
        database.quirks.sql.series:gsub("%?", "500") .. ") s", named)
      named.a = "after"
      named = nil -- luacheck: ignore 311
      collectgarbage()
      for row in rows do assert.same({ "x", "y" }, { row.a, row.b }) end
      for row in other do assert.equal("before", row.a) end
    end)

    it("are the database's own where placeholders are off", function()
      local x = db:with{ placeholders = false }
      assert.equal(":a", x:query_value "select ':a'")
    end)

    it("are twice ?? for an operator's question mark", function()
      local ok, err = pcall(db.query_value, db, "select 1 ?? 2")
      assert.is_false(ok) -- it reaches the database, which may have no such operator
      assert.is_false(moonbase.is(err, "UsageError"))
    end)
  end)
end
