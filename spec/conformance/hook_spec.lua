-- What runs when the outermost transaction has ended.
local child = require "spec.support.child"
local expect = require "spec.support.expect"

for _, database in ipairs(require "spec.support.databases") do
  describe("Functions for the end of a transaction on " .. database.name, function()
    local db, said
    local function say(word) return function() said[#said + 1] = word end end

    before_each(function()
      db = database:open()
      database:create(db, "item (id :id, name :text not null)")
      said = {}
    end)

    after_each(function() database:clean() end)

    it("run after the commit, in their order, and the others do not", function()
      db:transaction(function(tx)
        tx:on_commit(say "first")
        tx:on_rollback(say "never")
        tx:on_commit(say "second")
        tx:on_commit(function()
          said[#said + 1] = db:query_value "select count(*) from item"
        end)
        tx:exec "insert into item (name) values ('a')"
        assert.same({}, said)
      end)
      assert.same({ "first", "second", 1 }, said)
    end)

    it("run after the rollback, however it came about", function()
      pcall(db.transaction, db, function(tx)
        tx:on_commit(say "never")
        tx:on_rollback(say "raised")
        error "no"
      end)
      db:transaction(function(tx)
        tx:on_rollback(say "returned")
        return nil, "no"
      end)
      db:transaction(function(tx)
        tx:on_rollback(say "asked for")
        tx:rollback()
        assert.same({ "raised", "returned", "asked for" }, said)
      end)
      assert.same({ "raised", "returned", "asked for" }, said)
    end)

    it("of a nested one wait for the outermost", function()
      db:transaction(function(tx)
        tx:on_commit(say "outer before")
        tx:transaction(function(nested)
          nested:on_commit(say "inner")
          nested:transaction(function(deep) deep:on_commit(say "deep") end)
        end)
        assert.same({}, said)
        tx:on_commit(say "outer after")
      end)
      assert.same({ "outer before", "inner", "deep", "outer after" }, said)
    end)

    it("of a nested one that was rolled back say so, whatever the outer one does", function()
      db:transaction(function(tx)
        tx:transaction(function(nested)
          nested:on_commit(say "never")
          nested:on_rollback(say "inner rolled back")
          nested:rollback()
        end)
        tx:on_commit(say "outer committed")
        tx:on_rollback(say "never either")
      end)
      assert.same({ "inner rolled back", "outer committed" }, said)
    end)

    it("of a nested one that was committed follow the outer one", function()
      pcall(db.transaction, db, function(tx)
        tx:transaction(function(nested)
          nested:on_commit(say "never")
          nested:on_rollback(say "with the outer")
        end)
        error "no"
      end)
      assert.same({ "with the outer" }, said)
    end)

    it("run when it is ended by hand", function()
      local tx = db:begin()
      tx:on_commit(say "committed")
      tx:commit()
      tx = db:begin()
      tx:on_rollback(say "rolled back")
      tx:rollback()
      assert.same({ "committed", "rolled back" }, said)
    end)

    it("run for the failure of a commit as for a rollback", function()
      if database.quirks.sql.deferred == "" then return end
      database:create(db, [[child (id :id, parent_id :integer references item (id) ]]
        .. database.quirks.sql.deferred .. ")")
      expect.raised("ConstraintError", nil, db.transaction, db, function(tx)
        tx:on_commit(say "never")
        tx:on_rollback(say "failed")
        tx:exec "insert into child (parent_id) values (77)"
      end)
      assert.same({ "failed" }, said)
      for _, errors in ipairs { "raise", "return" } do
        said = {}
        local tx = db:with{ errors = errors }:begin()
        tx:on_commit(say "never")
        tx:on_rollback(say "failed")
        tx:exec "insert into child (parent_id) values (77)"
        pcall(tx.commit, tx)
        assert.same({ "failed" }, said)
      end
    end)

    it("of a view are those of the transaction", function()
      db:transaction(function(tx)
        tx:with{ timeout = 5 }:on_commit(say "by the view")
        tx:on_commit(say "by itself")
      end)
      assert.same({ "by the view", "by itself" }, said)
    end)

    it("that fail are reported on standard error, and undo nothing", function()
      local output, status = child.run([[
        local url, driver = ...
        local db = require "moonbase".open(url, { driver = driver })
        db:exec "create table pair (a integer, b integer)"
        local result = db:transaction(function(tx)
          tx:exec "insert into pair values (1, 2)"
          tx:on_commit(function() error "broken" end)
          tx:on_commit(function() io.stderr:write "the next one\n" end)
          return "committed"
        end)
        io.stderr:write(result, " ", db:query_value "select count(*) from pair", "\n")
      ]], { database:url(), database.driver })
      assert.equal(0, status)
      assert.is_truthy(output:find("a function given to on_commit has failed", 1, true))
      assert.is_truthy(output:find("broken", 1, true))
      assert.is_truthy(output:find("the next one\ncommitted 1\n", 1, true))
    end)

    it("may begin a transaction of their own", function()
      db:transaction(function(tx)
        tx:on_commit(function()
          db:transaction(function(other)
            other:exec "insert into item (name) values ('later')"
            other:on_commit(say "later")
          end)
        end)
      end)
      assert.same({ "later" }, said)
      assert.equal(1, db:query_value "select count(*) from item")
    end)

    it("are functions", function()
      local tx = db:begin()
      expect.raised("UsageError", "on_commit wants a function, and got a string",
        tx.on_commit, tx, "x")
      expect.raised("UsageError", "on_rollback wants a function, and got a nil",
        tx.on_rollback, tx)
      tx:rollback()
    end)
  end)
end
