-- Scripts: several statements in one text.
local expect = require "spec.support.expect"

for _, database in ipairs(require "spec.support.databases") do
  describe("exec_script on " .. database.name, function()
    local db

    before_each(function()
      db = database:open()
      database:create(db, "item (id :id, name :text not null)")
    end)

    after_each(function() database:clean() end)

    local function names(x)
      return (x or db):query_column "select name from item order by id"
    end

    it("runs every statement, and gives their number", function()
      assert.same({ 3 }, { db:exec_script [[
        insert into item (name) values ('a');
        insert into item (name) values ('b');
        update item set name = 'c' where name = 'a'
      ]] })
      assert.same({ "c", "b" }, names())
    end)

    it("runs nothing for an empty text", function()
      assert.equal(0, db:exec_script "")
      assert.equal(0, db:exec_script " ;; -- nothing\n /* at all */ ; ")
    end)

    it("splits at semicolons that are none of a string's, name's or comment's", function()
      assert.equal(3, db:exec_script [[
        insert into item (name) values ('a;b'); -- ; here
        insert into item (name) values ('c''; d') /* ; and here */;
        insert into item (name) select 'e' as "x;y";
      ]])
      assert.same({ "a;b", "c'; d", "e" }, names())
    end)

    it("leaves placeholders alone", function()
      db:exec_script "insert into item (name) values ('? :a $1')"
      assert.same({ "? :a $1" }, names())
    end)

    it("stops at the first error and says which statement, and in which line", function()
      local err = expect.raised("ConstraintError", "statement 2, at line 3: ", db.exec_script, db,
        "insert into item (name) values ('a');\n\ninsert into item (name) values (null);\n"
        .. "insert into item (name) values ('c');")
      assert.equal(2, err.entry)
      assert.equal("not_null", err.constraint_kind)
      assert.equal("name", err.column)
      assert.same({ "a" }, names()) -- each statement stands for itself
    end)

    it("gives the place of a syntax error in the whole text", function()
      local text = "select 1;\nselect (2 3);"
      local err = expect.raised("SyntaxError", "statement 2", db.exec_script, db, text)
      assert.equal((text:find("3", 1, true)), err.position)
    end)

    it("is undone as a whole inside a transaction", function()
      pcall(db.transaction, db, function(tx)
        tx:exec_script "insert into item (name) values ('a'); insert into item (name) values (null)"
      end)
      assert.same({}, names())
      db:transaction(function(tx)
        assert.equal(2, tx:exec_script
          "insert into item (name) values ('a'); insert into item (name) values ('b')")
      end)
      assert.same({ "a", "b" }, names())
    end)

    it("may hold a transaction of its own", function()
      db:exec_script "begin; insert into item (name) values ('a'); commit"
      assert.same({ "a" }, names())
      db:exec_script "begin; insert into item (name) values ('b')"
      assert.same({ "a" }, names()) -- left open, and rolled back with its connection
    end)

    it("reads the rows of its queries, and gives none", function()
      assert.equal(2, db:exec_script "select * from item; select 1")
    end)

    it("takes a long text", function()
      local lines = {}
      for i = 1, 2000 do lines[i] = "insert into item (name) values ('n" .. i .. "');" end
      assert.equal(2000, db:transaction(function(tx)
        return tx:exec_script(table.concat(lines, "\n"))
      end))
      assert.equal(2000, db:query_value "select count(*) from item")
    end)

    it("has no time-out but one that it is given", function()
      local x = db:with{ timeout = 0.05 }
      expect.raised("TimeoutError", "statement 2", x.exec_script, x,
        "select 1; " .. database.quirks.sql.endless)
    end)
  end)
end
