-- What is left to the garbage collector is not waited for by the rest of the program.  What
-- happens when memory runs out is in spec/c/memory_*test.c.
local moonbase = require "moonbase"
local expect = require "spec.support.expect"
local files = require "spec.support.files"
local language = require "spec.support.language"

describe("A Database", function()
  local db

  before_each(function()
    db = moonbase.open("sqlite:" .. files.path "case.db")
    db:exec "create table item (name text)"
    collectgarbage "stop"
  end)

  after_each(function()
    collectgarbage "restart"
    db:close()
    files.clean()
  end)

  if language.yields then
    it("is not inside a transaction whose function nobody goes on with", function()
      local task = coroutine.wrap(function()
        db:transaction(function(tx)
          tx:exec "insert into item values ('pen')"
          coroutine.yield()
        end)
      end)
      task()
      expect.raised("UsageError", "inside a transaction", db.exec, db, "delete from item")
      task = nil -- luacheck: ignore
      language.wipe()
      db:exec "insert into item values ('ink')"
      assert.same({ "ink" }, db:query_column "select name from item")
    end)
  end
end)
