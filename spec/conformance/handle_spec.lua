-- Connections, views, figures, and what handles show of themselves.
local moonbase = require "moonbase"
local expect = require "spec.support.expect"
local language = require "spec.support.language"

for _, database in ipairs(require "spec.support.databases") do
  local many = database.quirks.many_connections

  describe("A Connection on " .. database.name, function()
    local db

    before_each(function()
      db = database:open()
      database:create(db, "item (id :id, name :text)")
    end)

    after_each(function()
      db = nil
      database:clean()
    end)

    it("is one session, lent until it is closed", function()
      local conn = db:connect()
      assert.equal(1, db:stats().in_use)
      assert.equal(1, conn:query_value "select 1")
      assert.is_false(conn:is_closed())
      conn:close()
      assert.is_true(conn:is_closed())
      assert.equal(0, db:stats().in_use)
      assert.equal(1, db:stats().idle)
    end)

    it("is used again by who comes next", function()
      for _ = 1, 5 do
        local conn = db:connect()
        conn:query_value "select 1"
        conn:close()
      end
      assert.equal(1, db:stats().created)
    end)

    it("is given back when it is collected", function()
      do
        local conn = db:connect()
        conn:query_value "select 1"
      end
      language.collect()
      assert.equal(1, db:query_value "select 1")
      assert.equal(0, db:stats().in_use)
    end)

    it("ends its transaction when it is closed, though rows keep what it was lent", function()
      local one = many and database:open{ pool = { max = 1 } } or db
      local rows = one:query(database.quirks.sql.series, 1000)
      rows:next()
      local conn = one:connect()
      local tx = conn:begin()
      tx:exec "insert into item (name) values ('undone')"
      conn:close()
      expect.raised("UsageError", "the transaction has ended", tx.commit, tx)
      assert.equal(0, one:query_value "select count(*) from item")
      assert.equal(999, #rows:all())
    end)

    it("that is open lets db:transaction be used outside of it", function()
      if not many then return end
      db:transaction(function(tx)
        tx:exec "insert into item (name) values ('inside')"
        local outside = db:connect()
        assert.equal(0, outside:query_value "select count(*) from item")
        outside:close()
      end)
      assert.equal(1, db:query_value "select count(*) from item")
    end)

    it("comes at once or not at all where nobody else could give one back", function()
      local few = database:open{ pool = { max = 2, single_writer = false } }
      if not many then return end
      local first, second = few:connect(), few:connect()
      local err = expect.raised("PoolTimeoutError", "2 of 2 are in use", few.connect, few)
      assert.is_false(err.retryable)
      expect.raised("PoolTimeoutError", nil, few.query, few, "select 1")
      assert.is_true(few:stats().timeouts >= 2)
      first:close()
      assert.equal(1, few:query_value "select 1")
      second:close()
    end)

    it("that was forgotten is collected for who needs one", function()
      local few = database:open{ pool = { max = 1 } }
      few:connect():query_value "select 1"
      assert.equal(1, few:query_value "select 1")
    end)

    if language.closing then
      it("is given back at the end of its block where it is declared <close>", function()
        language.compile([[
          local db = ...
          local conn <close> = db:connect()
          conn:query_value "select 1"
          assert(db:stats().in_use == 1)
        ]], db)
        assert.equal(0, db:stats().in_use)
      end)
    end
  end)

  describe("A view on " .. database.name, function()
    local db

    before_each(function() db = database:open() end)
    after_each(function() database:clean() end)

    it("has other options than its handle, which keeps its own", function()
      local view = db:with{ null = "nothing" }
      assert.equal("nothing", view:query_value "select null")
      assert.is_nil(db:query_value "select null")
    end)

    it("of a view adds to its options", function()
      local view = db:with{ null = "nothing" }:with{ errors = "return" }
      assert.equal("nothing", view:query_value "select null")
      expect.returned("SyntaxError", nil, view:query_value "selekt")
    end)

    it("hands its options on to what is made from it", function()
      local view = db:with{ null = "nothing" }
      local conn = view:connect()
      assert.equal("nothing", conn:query_value "select null")
      assert.equal("nothing", conn:prepare "select null":query_value())
      conn:close()
      assert.equal("nothing", view:transaction(function(tx)
        return tx:transaction(function(nested) return nested:query_value "select null" end)
      end))
      assert.equal("nothing", view:prepare "select null":query_value())
    end)

    it("is closed with its handle, and closing it closes the handle", function()
      local conn = db:connect()
      local view = conn:with{ timeout = 1 }
      view:close()
      assert.is_true(conn:is_closed())
      assert.is_true(view:is_closed())
      assert.equal(0, db:stats().in_use)
      local tx = db:begin()
      tx:with{ timeout = 1 }:rollback()
      assert.is_true(tx:is_closed())
      db:with{}:close()
      assert.is_true(db:is_closed())
    end)

    it("can be dropped without closing its handle", function()
      local conn = db:connect()
      conn:with{ timeout = 1 }:query_value "select 1"
      language.collect()
      assert.equal(1, conn:query_value "select 1")
      local tx = conn:begin()
      tx:with{ timeout = 1 }:query_value "select 1"
      language.collect()
      assert.is_false(tx:is_closed())
      tx:commit()
      conn:close()
    end)

    it("keeps its handle alive", function()
      local view = db:connect():with{ timeout = 1 }
      language.collect()
      assert.equal(1, view:query_value "select 1")
      view:close()
    end)

    it("refuses values that an option does not take", function()
      for _, wrong in ipairs { { timeout = "1" }, { timeout = -1 }, { timeout = 0 / 0 },
        { timeout = math.huge }, { fetch_size = 1.5 }, { fetch_size = -1 }, { errors = "throw" },
        { errors = true }, { int64 = "float" }, { decimal = 1 }, { booleans = 1 },
        { placeholders = "no" }, { types = "json" }, { types = { "x" } },
        { types = { json = "decode" } }, { json = 7 }, { json = {} }, { pool = {} },
        { name = "x" }, { [1] = "x" } } do
        expect.raised("UsageError", nil, db.with, db, wrong)
      end
      expect.raised("UsageError", "with wants a table", db.with, db)
      expect.raised("UsageError", "with wants a table", db.with, db, "timeout")
    end)

    it("takes every option of its list", function()
      local tx = db:begin()
      local view = tx:with{ timeout = 5, cancel = moonbase.cancellation(), errors = "return",
        null = false, types = {}, json = function(text) return text end, int64 = "string",
        decimal = "number", booleans = true, fetch_size = 100, placeholders = true }
      assert.equal(1, view:query_value "select 1")
      tx:rollback()
    end)
  end)

  describe("A Database on " .. database.name, function()
    local db

    before_each(function() db = database:open() end)
    after_each(function() database:clean() end)

    it("connects at the first use, not before", function()
      assert.equal(0, db:stats().created)
      db:ping()
      assert.equal(1, db:stats().created)
    end)

    it("counts what it does", function()
      local zero = db:stats()
      for _, name in ipairs { "max", "size", "idle", "in_use", "waiting", "acquired", "released",
        "timeouts", "created", "closed", "failures", "cache_hits", "cache_misses" } do
        assert.is_number(zero[name], name)
      end
      for _ = 1, 3 do db:query_value "select 1" end
      local stats = db:stats()
      assert.equal(3, stats.acquired)
      assert.equal(3, stats.released)
      assert.equal(1, stats.size)
      assert.equal(1, stats.idle)
      assert.equal(0, stats.waiting)
      assert.equal(2, stats.cache_hits)
      assert.equal(1, stats.cache_misses)
      db:close()
      assert.equal(0, db:stats().size)
      assert.equal(1, db:stats().closed)
    end)

    it("lends up to ten connections unless it is told otherwise", function()
      if not many then return assert.equal(1, db:stats().max) end
      assert.equal(10, db:stats().max)
      assert.equal(3, database:open{ pool = { max = 3 } }:stats().max)
      assert.equal(4, database:open{ max = 4 }:stats().max)
    end)

    it("shows driver, place and figures, and its URL", function()
      db:ping()
      local text = tostring(db)
      assert.is_truthy(text:find(db:url(), 1, true))
      assert.is_truthy(text:find("0 of " .. db:stats().max .. " connections in use", 1, true))
      assert.equal(db:capability().driver, db:url():match "(%a+):")
      db:close()
      assert.is_truthy(tostring(db):find("closed", 1, true))
    end)

    it("runs the init statements in each new connection, in order", function()
      local other = database:open{ init = { "create table parent (i integer)",
        "insert into parent values (1)" } }
      assert.equal(1, other:query_value "select i from parent")
    end)

    it("says which init statement is wrong", function()
      local other = database:open{ init = { "select 1", "selekt 2" } }
      local err = expect.raised("SyntaxError", "init statement 2", other.ping, other)
      assert.is_string(err.code)
      assert.equal(1, other:stats().failures)
      assert.equal(0, other:stats().size)
    end)

    it("lets a function set up each new connection before it is lent", function()
      local calls = 0
      local other = database:open{ on_connect = function(conn)
        calls = calls + 1
        assert(conn:query_value "select 1" == 1)
        conn:transaction(function(tx) tx:query_value "select 1" end)
      end }
      assert.equal(0, calls)
      for _ = 1, 3 do assert.equal(2, other:query_value "select 2") end
      assert.equal(1, calls)
      if many then
        local first, second = other:connect(), other:connect()
        assert.equal(2, calls)
        first:close()
        second:close()
      end
    end)

    it("raises what that function raises, and calls it again next time", function()
      local mistake, fails = {}, true
      local kept
      local other = database:open{ on_connect = function(conn)
        kept = conn
        if fails then error(mistake) end
      end }
      for _, name in ipairs { "ping", "connect", "begin", "capability" } do
        local ok, err = pcall(other[name], other)
        assert.is_false(ok)
        assert.equal(mistake, err)
      end
      assert.equal(0, other:stats().in_use)
      fails = false
      assert.is_true(other:ping())
      expect.raised("UsageError", "the connection is closed", kept.query, kept, "select 1")
    end)

    it("gives its connection to that function only until it returns", function()
      local kept
      local other = database:open{ on_connect = function(conn) kept = conn end }
      other:ping()
      assert.is_true(kept:is_closed())
      expect.raised("UsageError", "the connection is closed", kept.query, kept, "select 1")
      kept:close()
      assert.is_true(other:ping())
    end)

    it("is one of several on the same data", function()
      if not many then return end
      local other = database:open()
      database:create(db, "item (id :id, name :text)")
      db:exec "insert into item (name) values ('a')"
      assert.equal("a", other:query_value "select name from item")
      other:exec "update item set name = 'b'"
      assert.equal("b", db:query_value "select name from item")
      db:close()
      assert.equal("b", other:query_value "select name from item")
    end)

    it("closes everything it has lent in a program that only waits", function()
      local conn = db:connect()
      local rows = conn:query(database.quirks.sql.series, 1000)
      rows:next()
      db:close()
      assert.is_true(db:is_closed())
      assert.is_true(conn:is_closed())
      expect.raised("UsageError", "the connection is closed", conn.query, conn, "select 1")
      assert.equal(0, db:stats().in_use)
      assert.equal(0, db:stats().size)
      rows:close()
      conn:close()
    end)

    if language.closing then
      it("is closed at the end of its block where it is declared <close>", function()
        local closed = language.compile([[
          local database = ...
          local db <close> = database:open()
          db:ping()
          return db
        ]], database)
        assert.is_true(closed:is_closed())
      end)
    end
  end)
end
