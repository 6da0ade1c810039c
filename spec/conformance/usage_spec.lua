-- Wrong use is told at once, in words that say what to do.
local core = require "moonbase.core"
local moonbase = require "moonbase"
local expect = require "spec.support.expect"

-- Every method of a session, with arguments that would do.
local session_calls = {
  query = { "select 1" },
  query_row = { "select 1" },
  query_value = { "select 1" },
  query_values = { "select 1" },
  query_column = { "select 1" },
  query_all = { "select 1" },
  exec = { "select 1" },
  exec_script = { "select 1" },
  prepare = { "select 1" },
  batch = { { { "select 1" } } },
  bulk_insert = { "item", { "id" }, { { 7 } } },
  transaction = { function() end },
  begin = {},
  ping = {},
  capability = {},
}

local function each_call(calls, fn)
  local names = {}
  for name in pairs(calls) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do fn(name, calls[name]) end
end

local unpack_arguments = require "spec.support.language".unpack

for _, database in ipairs(require "spec.support.databases") do
  describe("Wrong use on " .. database.name, function()
    local db

    before_each(function()
      db = database:open()
      database:create(db, "item (id :id, name :text)")
    end)

    after_each(function() database:clean() end)

    each_call(session_calls, function(name, arguments)
      it("of a closed object: " .. name, function()
        local conn = db:connect()
        conn:close()
        expect.raised("UsageError", "the connection is closed", conn[name], conn,
          unpack_arguments(arguments))
        local tx = db:begin()
        tx:commit()
        expect.raised("UsageError", "the transaction has ended", tx[name], tx,
          unpack_arguments(arguments))
        db:close()
        expect.raised("UsageError", "the database is closed", db[name], db,
          unpack_arguments(arguments))
      end)

      it("of a view of a closed object: " .. name, function()
        local conn = db:connect()
        local view = conn:with{}
        conn:close()
        expect.raised("UsageError", "the connection is closed", view[name], view,
          unpack_arguments(arguments))
        local tx = db:begin()
        view = tx:with{}
        tx:rollback()
        expect.raised("UsageError", "the transaction has ended", view[name], view,
          unpack_arguments(arguments))
      end)

      it("with a dot in place of the colon: " .. name, function()
        local err = expect.raised("UsageError", "with a colon", db[name],
          unpack_arguments(arguments))
        assert.is_truthy(err.message:find("wanted here, and got", 1, true))
      end)
    end)

    it("of a closed Database: connect and current", function()
      db:close()
      expect.raised("UsageError", "the database is closed", db.connect, db)
      assert.is_nil(db:current())
    end)

    it("is not to close anything twice", function()
      local conn = db:connect()
      local rows = conn:query "select 1"
      local statement = conn:prepare "select 1"
      for _ = 1, 2 do
        rows:close()
        statement:close()
        conn:close()
      end
      local tx = db:begin()
      tx:rollback()
      for _ = 1, 2 do db:close() end
      assert.is_true(db:is_closed())
      assert.is_true(db:wait_closed())
      assert.is_true(conn:is_closed())
      assert.is_true(conn:wait_closed())
      assert.is_true(tx:is_closed())
      assert.is_true(statement:is_closed())
      assert.is_true(statement:wait_closed())
      assert.is_true(rows:is_closed())
      assert.is_true(rows:wait_closed())
    end)

    it("is to end a transaction twice", function()
      local tx = db:begin()
      tx:commit()
      expect.raised("UsageError", "has ended", tx.commit, tx)
      expect.raised("UsageError", "has ended", tx.rollback, tx)
      expect.raised("UsageError", "has ended", tx.on_commit, tx, print)
      tx = db:begin()
      tx:rollback()
      expect.raised("UsageError", "has ended", tx.rollback, tx)
      expect.raised("UsageError", "has ended", tx.commit, tx)
      expect.raised("UsageError", "has ended", tx.on_rollback, tx, print)
    end)

    it("is to use a transaction while one inside it is open", function()
      local outer = db:begin()
      local inner = outer:begin()
      expect.raised("UsageError", "nested transaction is open", outer.exec, outer, "select 1")
      expect.raised("UsageError", "nested transaction is open", outer.begin, outer)
      assert.equal(1, inner:query_value "select 1")
      inner:rollback()
      assert.equal(1, outer:query_value "select 1")
      outer:rollback()
    end)

    it("is to use a connection while its transaction is open", function()
      local conn = db:connect()
      local tx = conn:begin()
      expect.raised("UsageError", "a transaction is open on this connection",
        conn.exec, conn, "select 1")
      expect.raised("UsageError", "a transaction is open on this connection", conn.begin, conn)
      tx:rollback()
      assert.equal(1, conn:query_value "select 1")
      conn:close()
    end)

    each_call(session_calls, function(name, arguments)
      if name == "capability" then return end
      it("is to use a Database inside its own transaction: " .. name, function()
        db:transaction(function()
          expect.raised("UsageError", "use the Transaction that the function was given",
            db[name], db, unpack_arguments(arguments))
        end)
        assert.has_no.errors(function() db[name](db, unpack_arguments(arguments)) end)
      end)
    end)

    it("is to wait for what nobody else could do", function()
      if database.quirks.many_connections then return end
      local conn = db:connect()
      expect.raised("UsageError", "the only connection is held by a Connection or Transaction",
        db.query, db, "select 1")
      expect.raised("UsageError", "the only connection is held", db.connect, db)
      conn:close()
      assert.equal(1, db:query_value "select 1")
    end)

    it("is a text that is none", function()
      for _, wrong in ipairs { 7, true, {}, print } do
        for _, name in ipairs { "query", "exec", "query_value", "exec_script", "prepare" } do
          expect.raised("UsageError", "string", db[name], db, wrong)
        end
      end
      expect.raised("UsageError", "string", db.query, db)
      expect.raised("UsageError", "string", db.exec_script, db)
    end)

    it("is a text without a statement", function()
      for _, empty in ipairs { "", "  \n", "-- nothing\n", "/* nothing */", ";", " ; ; " } do
        expect.raised("UsageError", "holds no statement", db.query, db, empty)
        expect.raised("UsageError", "holds no statement", db.prepare, db, empty)
      end
    end)

    it("is a text with more than one statement", function()
      expect.raised("UsageError", "more than one statement; use exec_script",
        db.exec, db, "insert into item (name) values ('a'); insert into item (name) values ('b')")
      assert.equal(0, db:query_value "select count(*) from item")
      assert.equal(1, db:query_value "select 1;")
      assert.equal(1, db:query_value "select 1; -- that was all\n ; /* really */")
    end)

    it("is a zero byte in a text", function()
      for _, name in ipairs { "query", "exec", "prepare", "exec_script" } do
        expect.raised("UsageError", "zero byte", db[name], db, "select 1\0; drop table item")
      end
      local plain = db:with{ placeholders = false }
      expect.raised("UsageError", "zero byte", plain.query, plain, "select 1\0")
      assert.equal(0, db:query_value "select count(*) from item")
    end)

    it("is an option that there is not, with the one that was meant", function()
      expect.raised("UsageError", 'tmeout is no option of with; did you mean "timeout"?',
        db.with, db, { tmeout = 1 })
      expect.raised("UsageError", 'isolatoin is no option of transaction; did you mean '
        .. '"isolation"?', db.transaction, db, print, { isolatoin = "serializable" })
      expect.raised("UsageError", 'atempts is no option of retry; did you mean "attempts"?',
        db.transaction, db, print, { retry = { atempts = 1 } })
      expect.raised("UsageError", 'on_conflct is no option of bulk_insert; did you mean '
        .. '"on_conflict"?', db.bulk_insert, db, "item", { "id" }, {}, { on_conflct = "skip" })
      expect.raised("UsageError", "quite_something_else is no option of with",
        db.with, db, { quite_something_else = 1 })
    end)

    it("leaves nothing behind", function()
      pcall(db.query, db, "select ?")
      pcall(db.query, db, 7)
      pcall(db.transaction, db, 7)
      pcall(db.exec, db, "select 1; select 2")
      pcall(db.bulk_insert, db, "item", {}, {})
      pcall(db.batch, db, { 7 })
      assert.equal(0, db:stats().in_use)
      assert.is_nil(db:current())
    end)

    -- In a task somebody else might close it.
    local function check_open(x)
      local waited, err = pcall(x.wait_closed, x, 0.001)
      if waited then return assert.is_false(err) end
      assert.equal("UsageError", err.class)
      assert.match("would wait for ever", err.message)
    end

    it("is a foreign object where one of Moonbase's is wanted", function()
      local rows = db:query "select 1"
      expect.raised("UsageError", "Rows is wanted here, and got Database", rows.next, db)
      expect.raised("UsageError", "got Rows", db.query, rows, "select 1")
      expect.raised("UsageError", "a Transaction is wanted here, and got Database",
        db:begin().commit, db)
      expect.raised("UsageError", "got no value", rows.close)
      expect.raised("UsageError", "got userdata", rows.close, io.stdout)
      expect.raised("UsageError", "got table", db.query, {}, "select 1")
      expect.raised("UsageError", "got string", moonbase.cancellation().cancel, "x")
      local statement = db:connect():prepare "select 1"
      for _, name in ipairs { "next", "tuples", "arrays", "all", "one", "each", "columns",
        "next_result", "close", "is_closed", "wait_closed" } do
        expect.raised("UsageError", "a Rows is wanted here, and got number", rows[name], 7, print)
        expect.raised("UsageError", "got Statement", rows[name], statement, print)
      end
      for _, name in ipairs { "exec_many", "columns", "parameters", "close", "is_closed",
        "wait_closed" } do
        expect.raised("UsageError", "a Statement is wanted here, and got number", statement[name],
          7, {})
        expect.raised("UsageError", "got Rows", statement[name], rows, {})
      end
      for _, name in ipairs { "connect", "close", "current", "stats", "url", "with", "is_closed",
        "wait_closed", "commit", "rollback" } do
        local method = db[name] or core.methods.Transaction[name]
        expect.raised("UsageError", "is wanted here, and got nil", method, nil, {})
        expect.raised("UsageError", "is wanted here, and got Rows", method, rows, {})
      end
      rows:close()
    end)

    it("is to wait for what only this program could close", function()
      local statement = db:connect():prepare "select 1"
      check_open(statement)
      local rows = statement:query()
      check_open(rows)
      rows:close()
    end)
  end)
end
