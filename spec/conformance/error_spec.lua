-- What errors say: class, fields, flags, text; raised or returned.
local moonbase = require "moonbase"
local expect = require "spec.support.expect"

local flags = { "retryable", "connection_dead", "transaction_dead", "sent", "commit_unknown" }

for _, database in ipairs(require "spec.support.databases") do
  local deferred = database.quirks.sql.deferred
  local tells_columns = database.quirks.columns_of_constraints

  describe("Errors of " .. database.name, function()
    local db

    before_each(function()
      db = database:open()
      database:create(db, "parent (id :id, code :word unique)")
      database:create(db, [[item (id :id, name :text not null, price :double,
        parent_id :integer references parent (id),
        late_id :integer references parent (id) ]] .. deferred
        .. ", constraint price_is_positive check (price > 0))")
      database:create(db, "pair (a :integer, b :integer, c :integer, primary key (a, b))")
      db:exec "create unique index pair_c on pair (c)"
      db:exec "insert into parent (id, code) values (1, 'one')"
    end)

    after_each(function() database:clean() end)

    local function fails(text, ...)
      return expect.raised("ConstraintError", nil, db.exec, db, text, ...)
    end

    it("name a unique constraint, its table and its column", function()
      local err = fails "insert into parent (id, code) values (2, 'one')"
      assert.equal("unique", err.constraint_kind)
      if not tells_columns then return end
      assert.equal("parent", err.table)
      assert.equal("code", err.column)
      assert.same({ "code" }, err.columns)
    end)

    it("name a unique index", function()
      db:exec "insert into pair values (1, 1, 5)"
      local err = fails "insert into pair values (1, 2, 5)"
      assert.equal("unique", err.constraint_kind)
      assert.equal("pair_c", err.constraint)
      if tells_columns then assert.same({ "c" }, err.columns) end
    end)

    it("name a primary key and all of its columns", function()
      db:exec "insert into pair values (1, 2, 3)"
      local err = fails "insert into pair values (1, 2, 4)"
      assert.equal("primary_key", err.constraint_kind)
      if tells_columns then
        assert.equal("pair", err.table)
        assert.same({ "a", "b" }, err.columns)
      end
      assert.equal("primary_key",
        fails "insert into parent (id) values (1)".constraint_kind)
    end)

    it("name a column that may not be NULL", function()
      local err = fails "insert into item (name) values (null)"
      assert.equal("not_null", err.constraint_kind)
      if tells_columns then assert.equal("item", err.table) end
      assert.equal("name", err.column)
    end)

    it("name a check", function()
      local err = fails "insert into item (name, price) values ('a', -1)"
      assert.equal("check", err.constraint_kind)
      assert.equal("price_is_positive", err.constraint)
    end)

    it("tell of a foreign key", function()
      local err = fails "insert into item (name, parent_id) values ('a', 77)"
      assert.equal("foreign_key", err.constraint_kind)
      db:exec "insert into item (name, parent_id) values ('a', 1)"
      assert.equal("foreign_key", fails "delete from parent".constraint_kind)
    end)

    it("tell of a deferred foreign key when the transaction ends, which is rolled back",
      function()
        if deferred == "" then return end
        local err = expect.raised("ConstraintError", nil, db.transaction, db, function(tx)
          tx:exec "insert into item (name, late_id) values ('a', 77)"
          assert.equal(1, tx:query_value "select count(*) from item")
        end)
        assert.equal("foreign_key", err.constraint_kind)
        assert.is_true(err.transaction_dead)
        assert.is_false(err.commit_unknown)
        assert.equal(0, db:query_value "select count(*) from item")
        assert.is_nil(db:current())
      end)

    it("are SyntaxErrors for bad SQL and unknown names, with the place", function()
      local err = expect.raised("SyntaxError", nil, db.query, db, "select (1 2)")
      assert.equal(11, err.position)
      assert.equal("select (1 2)", err.sql)
      for _, text in ipairs { "select * from missing", "select missing from item", "",
        "insert into item (missing) values (1)", "create table", "select 'open" } do
        if text ~= "" then expect.raised("SyntaxError", nil, db.query, db, text) end
      end
    end)

    it("give the place in the user's own text, behind placeholders", function()
      if not database.quirks.positions then return end
      local text = "select :first, :second, missing from item"
      local err = expect.raised("SyntaxError", "missing", db.query, db, text,
        { first = 1, second = 2 })
      assert.equal((text:find("missing", 1, true)), err.position)
      text = "select $1, $2, $3, missing from item"
      err = expect.raised("SyntaxError", "missing", db.query, db, text, 1, 2, 3)
      assert.equal((text:find("missing", 1, true)), err.position)
    end)

    it("carry the database's own code and the driver's name", function()
      local err = fails "insert into item (name) values (null)"
      assert.equal(db:capability().driver, err.driver)
      assert.is_string(err.code)
      assert.equal(database.quirks.native_codes and "number" or "nil", type(err.native_code))
      assert.equal("statement", err.origin)
    end)

    it("carry every flag, true or false", function()
      for _, err in ipairs {
        expect.raised("UsageError", nil, db.query, db, "select ?"),
        expect.raised("RowCountError", nil, function() db:query "select 1 where 1 = 0":one() end),
      } do
        for _, flag in ipairs(flags) do assert.is_false(err[flag]) end
      end
      local err = fails "insert into item (name) values (null)"
      assert.equal("boolean", type(err.sent)) -- a server has been sent something
      err.sent = false
      for _, flag in ipairs(flags) do assert.is_false(err[flag]) end
    end)

    it("are one readable line as text", function()
      local err = fails("insert into item (name)\n  values (?)", nil)
      local text = tostring(err)
      assert.is_nil(text:find "\n")
      assert.is_truthy(text:find("ConstraintError: " .. err.message .. " [", 1, true))
      assert.is_truthy(text:find(err.code, 1, true))
      assert.is_truthy(text:find("in: insert into item (name) values (?)", 1, true))
    end)

    it("show no more than the beginning of a long statement", function()
      local err = expect.raised("SyntaxError", nil, db.query, db,
        "select missing, " .. ("'padding', "):rep(1000) .. "1 from item")
      assert.is_true(#tostring(err) < 600)
      assert.is_true(#err.sql > 10000)
    end)

    it("remember where they were raised", function()
      local err = fails "insert into item (name) values (null)"
      assert.is_truthy(err.traceback:find("error_spec.lua", 1, true))
      err = expect.raised("UsageError", nil, db.query, db, "select ?")
      assert.is_truthy(err.traceback:find("error_spec.lua", 1, true))
    end)

    it("are instances of their class and of those above it", function()
      local err = fails "insert into item (name) values (null)"
      for class, wanted in pairs { ConstraintError = true, EngineError = true,
        DatabaseError = true, SyntaxError = false, UsageError = false, DriverError = false,
        ConnectivityError = false, Unheard = false } do
        assert.equal(wanted, err:is(class))
        assert.equal(wanted, moonbase.is(err, class))
      end
      assert.is_true(moonbase.is(err))
    end)

    it("leave the connection as good as it was", function()
      local conn = db:connect()
      for _ = 1, 3 do
        pcall(conn.exec, conn, "insert into item (name) values (null)")
        pcall(conn.query, conn, "select nonsense")
        pcall(conn.query, conn, "select ?")
        assert.equal(1, conn:query_value "select 1")
      end
      conn:close()
      assert.equal(0, db:stats().in_use)
    end)

    it("undo their statement only, inside a transaction that goes on", function()
      if not database.quirks.errors_keep_transaction then return end
      db:transaction(function(tx)
        tx:exec "insert into item (name) values ('a')"
        pcall(tx.exec, tx, "insert into item (name) values ('b'), (null)")
        tx:exec "insert into item (name) values ('c')"
      end)
      assert.same({ "a", "c" }, db:query_column "select name from item order by id")
    end)

    describe("that are returned", function()
      local returning

      before_each(function() returning = db:with{ errors = "return" } end)

      it("come as nil and the error from every method", function()
        for _, name in ipairs { "query", "query_row", "query_value", "query_values",
          "query_column", "query_all", "exec", "exec_script", "prepare" } do
          expect.returned("SyntaxError", nil,
            returning[name](returning, "select missing from item"))
        end
        expect.returned("SyntaxError", nil, returning:batch { { "select missing from item" } })
        expect.returned("SyntaxError", nil,
          returning:bulk_insert("item", { "missing" }, { { 1 } }))
        expect.returned("ConstraintError", nil, returning:transaction(function(tx)
          tx:exec "insert into item (name) values (null)"
        end))
      end)

      it("leave good results as they are", function()
        assert.equal(1, returning:query_value "select 1")
        assert.equal(1, (returning:exec "insert into item (name) values ('a')"))
        assert.equal(7, returning:transaction(function() return 7 end))
      end)

      it("are raised in the middle of a for loop, which has no other way", function()
        local rows = returning:query("select 1 where 1 = 0")
        rows:close()
        expect.raised("UsageError", nil, function() for _ in rows do error "row" end end)
      end)

      it("are raised for wrong use", function()
        expect.raised("UsageError", nil, returning.query, returning, "select ?")
        expect.raised("UsageError", nil, returning.query, returning, 7)
        expect.raised("UsageError", nil, returning.prepare, returning, nil)
        expect.raised("UsageError", nil, returning.batch, returning, 7)
        expect.raised("UsageError", nil, returning.transaction, returning, nil)
      end)

      it("are raised inside a transaction's function", function()
        local inner
        returning:transaction(function(tx)
          inner = expect.raised("ConstraintError", nil, tx.exec, tx,
            "insert into item (name) values (null)")
          tx:rollback()
        end)
        assert.equal("not_null", inner.constraint_kind)
      end)

      it("come out of a transaction by hand as its handle says", function()
        local tx = returning:begin()
        expect.returned("ConstraintError", nil, tx:exec "insert into item (name) values (null)")
        assert.is_true(tx:rollback())
        if deferred == "" then return end
        tx = returning:begin()
        tx:exec "insert into item (name, late_id) values ('a', 77)"
        expect.returned("ConstraintError", nil, tx:commit())
      end)

      it("are for errors of databases: others are raised, as they are", function()
        local mistake = {}
        local ok, err = pcall(returning.transaction, returning, function() error(mistake) end)
        assert.is_false(ok)
        assert.equal(mistake, err)
      end)

      it("may be what open asks for", function()
        local other = database:open{ errors = "return" }
        expect.returned("SyntaxError", nil, other:query "select missing")
        expect.raised("SyntaxError", nil, function()
          other:with{ errors = "raise" }:query "select missing"
        end)
      end)
    end)

    describe("caught by moonbase.pcall", function()
      it("are given as pcall gives them", function()
        local ok, err = moonbase.pcall(db.query, db, "select missing")
        assert.is_false(ok)
        assert.equal("SyntaxError", err.class)
      end)

      it("are those of databases only: mistakes go through", function()
        expect.raised("UsageError", nil, moonbase.pcall, db.query, db, "select ?")
        local mistake = {}
        local ok, err = pcall(moonbase.pcall, error, mistake)
        assert.is_false(ok)
        assert.equal(mistake, err)
      end)

      it("leave results as they are", function()
        local function count(...) return select("#", ...), ... end
        assert.same({ 4, true, nil, 2, nil },
          { count(moonbase.pcall(function() return nil, 2, nil end)) })
        assert.same({ 1, true }, { count(moonbase.pcall(function() end)) })
        assert.same({ true, 3 }, { moonbase.pcall(function(a, b) return a + b end, 1, 2) })
      end)
    end)
  end)
end
