-- The sandbox of a test: a Database's methods over one transaction that is rolled back.
local commands = require "moonbase.commands"
local core = require "moonbase.core"
local moonbase = require "moonbase"
local testing = require "moonbase.testing"
local expect = require "spec.support.expect"
local language = require "spec.support.language"

for _, database in ipairs(require "spec.support.databases") do
  describe("A sandbox on " .. database.name, function()
    local db, box

    before_each(function()
      db = database:open()
      database:create(db, "item (id :id, name :text not null)")
      box = testing.sandbox(db)
    end)

    after_each(function()
      box:close()
      db, box = nil, nil
      database:clean()
    end)

    local function names(x)
      return (x or box):query_column "select name from item order by id"
    end

    local function insert(x, name)
      return (x:exec("insert into item (name) values (?)", name))
    end

    -- Options of transactions that this database does not have.
    local function lacking(x)
      local can, list = x:capability(), {}
      local function miss(name, known, words)
        local has = {}
        for _, word in ipairs(known) do has[word] = true end
        for word in pairs(words) do
          if not has[word] then list[#list + 1] = { [name] = word } end
        end
      end
      miss("isolation", can.isolation_levels, core.isolations)
      miss("mode", can.transaction_modes, core.modes)
      if not can.deferrable_transactions then list[#list + 1] = { deferrable = true } end
      assert.is_true(#list > 0)
      return list
    end

    -- What is left once the sandbox is closed.
    local function left()
      box:close()
      return names(db)
    end

    -- How each method of a Database is used.  One that is added there has to be added here.
    local uses = {
      batch = function()
        local results = box:batch { { "insert into item (name) values (?)", "a" },
          { "select name from item" } }
        assert.equal("a", results[2].rows[1].name)
      end,
      begin = function()
        local tx = box:begin { mode = nil, timeout = 60 }
        insert(tx, "a")
        assert.is_true(tx:commit())
      end,
      bulk_insert = function()
        assert.equal(3, box:bulk_insert("item", { "name" }, { { "a" }, { "b" }, { "c" } },
          { commit_every = 2 }))
      end,
      capability = function()
        assert.is_true(box:capability().savepoints)
      end,
      close = function() box:close() end,
      connect = function()
        local conn = box:connect()
        insert(conn, "a")
        conn:close()
      end,
      current = function()
        assert.is_nil(box:current())
        box:transaction(function(tx) assert.equal(tx, box:current()) end)
      end,
      exec = function() assert.equal(1, insert(box, "a")) end,
      exec_script = function()
        assert.equal(2, box:exec_script [[insert into item (name) values ('a');
          insert into item (name) values ('b')]])
      end,
      is_closed = function() assert.is_false(box:is_closed()) end,
      on = function()
        local told = {}
        local off = box:on("query", function(event) told[#told + 1] = event["db.query.text"] end)
        box:query_value "select 1"
        off()
        box:query_value "select 2"
        assert.same({ "select 1" }, told)
      end,
      ping = function() assert.is_true(box:ping()) end,
      prepare = function()
        local statement = box:prepare "insert into item (name) values (?)"
        assert.equal(2, (statement:exec_many { { "a" }, { "b" } }))
        statement:close()
      end,
      query = function()
        insert(box, "a")
        for row in box:query "select name from item" do assert.equal("a", row.name) end
      end,
      query_all = function() assert.same({ { n = 1 } }, box:query_all "select 1 as n") end,
      query_column = function() assert.same({ 1 }, box:query_column "select 1") end,
      query_row = function() assert.same({ n = 1 }, box:query_row "select 1 as n") end,
      query_value = function() assert.equal(1, box:query_value "select 1") end,
      query_values = function() assert.same({ 1, 2 }, { box:query_values "select 1, 2" }) end,
      stats = function() assert.equal(1, box:stats().in_use) end,
      transaction = function()
        assert.equal("x", box:transaction(function(tx)
          insert(tx, "a")
          return "x"
        end))
      end,
      url = function() assert.equal(db:url(), box:url()) end,
      wait_closed = function()
        expect.raised("UsageError", "for ever", box.wait_closed, box)
      end,
      with = function()
        local view = box:with { null = moonbase.null }
        insert(view, "a")
        assert.equal(moonbase.null, view:query_value "select null")
        expect.raised("UsageError", "is no option", box.with, box, { nul = 1 })
      end,
    }

    for name in pairs(core.methods.Database) do
      it("has " .. name .. ", and forgets what that has done", function()
        assert.is_function(uses[name], "no use of " .. name .. " is known here")
        uses[name]()
        assert.same({}, left())
        assert.equal(0, db:stats().in_use)
      end)

      it("refuses " .. name .. " once it is closed", function()
        box:close()
        local quiet = { close = true, current = true, is_closed = true, stats = true, url = true,
          wait_closed = true }
        if quiet[name] then
          local ok = pcall(box[name], box)
          assert.is_true(ok)
        elseif name == "with" then
          local view = box:with { null = moonbase.null }
          expect.raised("UsageError", nil, view.query_value, view, "select 1")
        else
          local arguments = {
            batch = { { { "select 1" } } }, begin = {}, on = { "query", print },
            bulk_insert = { "item", { "name" }, { { "a" } } }, transaction = { function() end },
          }
          expect.raised("UsageError", "closed", box[name], box,
            language.unpack(arguments[name] or { "select 1" }))
        end
      end)
    end

    it("has no method that a Database has not", function()
      for name in pairs(uses) do assert.is_function(core.methods.Database[name], name) end
      for name in pairs(core.methods.Transaction) do
        if not core.methods.Database[name] then assert.is_nil(box[name], name) end
      end
    end)

    it("says what it is", function()
      assert.equal(("moonbase.Database (%s, in a sandbox)"):format(db:url()), tostring(box))
      assert.equal(("moonbase.Connection (%s, in a sandbox)"):format(db:url()),
        tostring(box:connect()))
      box:close()
      assert.truthy(tostring(box):find("closed", 1, true))
    end)

    it("is made of a Database only", function()
      for _, wrong in ipairs { 1, "sqlite:app.db", {}, box } do
        expect.raised("UsageError", "sandbox wants a Database", testing.sandbox, wrong)
      end
      expect.raised("UsageError", "is no option of transaction", testing.sandbox, db,
        { isolatio = "serializable" })
    end)

    it("is empty again for the next test", function()
      for _ = 1, 3 do
        assert.same({}, names())
        insert(box, "a")
        box:transaction(function(tx) insert(tx, "b") end)
        box:close()
        box = testing.sandbox(db)
      end
      assert.same({}, left())
    end)

    it("rolls back when it is collected", function()
      insert(box, "a")
      box = nil -- luacheck: ignore 311
      for _ = 1, 2 do language.collect() end
      assert.same({}, names(db))
      box = testing.sandbox(db)
    end)

    if language.closing then
      it("is closed at the end of its block", function()
        box:close()
        language.compile([[
          local db, testing, insert = ...
          local box <close> = testing.sandbox(db)
          insert(box, "a")
          local conn <close> = box:connect()
          insert(conn, "b")
        ]], db, testing, insert)
        assert.same({}, names(db))
        assert.equal(0, db:stats().in_use)
      end)
    end

    it("may be closed twice, and inside its own transaction", function()
      expect.raised("UsageError", nil, box.transaction, box, function(tx)
        insert(tx, "a")
        box:close()
        box:close()
        insert(tx, "b")
      end)
      assert.same({}, left())
    end)

    it("ends with its Database, and with the connection", function()
      insert(box, "a")
      db:close()
      assert.is_true(box:is_closed())
      expect.raised("UsageError", "closed", box.exec, box, "select 1")
      box:close()
    end)

    it("has the options of its Database", function()
      box:close()
      local view = testing.sandbox(db:with { errors = "return", null = false })
      assert.is_false(view:query_value "select null")
      expect.returned("UnsupportedError", "no such", view:begin(lacking(view)[1]))
      expect.returned("SyntaxError", nil, view:exec "selec")
      view:close()
    end)

    describe("in which transactions are begun", function()
      it("rolls them back as a Database does", function()
        expect.raised("ConstraintError", nil, box.transaction, box, function(tx)
          insert(tx, "a")
          insert(tx, nil)
        end)
        assert.same({ nil, "no" }, { box:transaction(function(tx)
          insert(tx, "b")
          return nil, "no"
        end) })
        box:transaction(function(tx)
          insert(tx, "c")
          tx:rollback()
        end)
        assert.same({}, names())
      end)

      it("takes all options of the outermost", function()
        local levels = box:capability().isolation_levels
        local modes = box:capability().transaction_modes
        assert.equal(1, box:transaction(function(tx) return insert(tx, "a") end, {
          isolation = levels[1], mode = modes[1], read_only = false, exclusive = true, timeout = 60,
          retry = { attempts = 2 },
        }))
        assert.equal(1, box:transaction(function() return 1 end, { read_only = true }))
        local tx = box:begin { isolation = levels[1]:upper(), exclusive = true }
        insert(tx, "b")
        tx:commit()
        assert.same({ "a", "b" }, names())
      end)

      it("refuses what its Database would", function()
        for _, options in ipairs(lacking(box)) do
          for _, x in ipairs { box, box:connect() } do
            expect.raised("UnsupportedError", "this database has no such", x.begin, x, options)
            expect.raised("UnsupportedError", "this database has no such", x.transaction, x,
              function() end, options)
          end
        end
        for _, options in ipairs { { isolation = "high" }, { retry = { attempt = 1 } },
          { timeout = -1 }, { exclusiv = true } } do
          expect.raised("UsageError", nil, box.transaction, box, function() end, options)
        end
        expect.raised("UsageError", "retry needs a function", box.begin, box, { retry = {} })
      end)

      it("refuses inside of them what belongs to the outermost", function()
        box:transaction(function(tx)
          expect.raised("UsageError", "outermost", tx.transaction, tx, function() end,
            { isolation = box:capability().isolation_levels[1] })
          expect.raised("UsageError", "outermost", tx.transaction, tx, function() end,
            { retry = {} })
        end)
      end)

      it("tries them again", function()
        local attempts = {}
        local gives = box:transaction(function(tx)
          insert(tx, "try " .. tx.attempt)
          attempts[#attempts + 1] = tx.attempt
          if tx.attempt < 3 then
            local err = select(2, pcall(box.query_value, box, "selec"))
            err.class, err.retryable, err.transaction_dead = "SerializationError", true, false
            error(err, 0)
          end
          return "done"
        end, { retry = { attempts = 3 } })
        assert.equal("done", gives)
        assert.same({ 1, 2, 3 }, attempts)
        assert.same({ "try 3" }, names())
      end)

      it("runs what waits for the commit when the outermost is released", function()
        local told = {}
        local function tell(word) return function() told[#told + 1] = word end end
        box:transaction(function(tx)
          tx:on_commit(tell "outer")
          tx:transaction(function(inner) inner:on_commit(tell "inner") end)
          pcall(tx.transaction, tx, function(inner)
            inner:on_commit(tell "never")
            inner:on_rollback(tell "undone")
            error "no"
          end)
          assert.same({}, told)
        end)
        assert.same({ "outer", "inner", "undone" }, told)
        local tx = box:begin()
        tx:on_commit(tell "by hand")
        tx:commit()
        box:close()
        assert.same({ "outer", "inner", "undone", "by hand" }, told)
      end)

      it("runs what waits for the rollback", function()
        local told
        pcall(box.transaction, box, function(tx)
          tx:on_rollback(function() told = true end)
          error "no"
        end)
        assert.is_true(told)
      end)

      it("lets nobody else use its session meanwhile", function()
        box:transaction(function(tx)
          local conn = box:connect()
          for _, x in ipairs { box, conn } do
            expect.raised("UsageError", "nested transaction is open", x.query_value, x, "select 1")
          end
          assert.equal(1, tx:query_value "select 1")
        end)
        assert.equal(1, box:query_value "select 1")
      end)
    end)

    describe("in which many rows are written", function()
      it("keeps a batch and a bulk load whole", function()
        expect.raised("ConstraintError", nil, box.batch, box, {
          { "insert into item (name) values ('a')" }, { "insert into item (name) values (null)" } })
        expect.raised("ConstraintError", nil, box.bulk_insert, box, "item", { "name" },
          { { "a" }, { nil } })
        local statement = box:prepare "insert into item (name) values (?)"
        expect.raised("ConstraintError", nil, statement.exec_many, statement, { { "a" }, { nil } })
        assert.same({}, names())
      end)

      it("keeps what was committed before in parts", function()
        expect.raised("ConstraintError", nil, box.bulk_insert, box, "item", { "name" },
          { { "a" }, { "b" }, { nil } }, { commit_every = 2 })
        assert.same({ "a", "b" }, names())
      end)
    end)

    describe("that lends connections", function()
      it("lends its own session", function()
        local conn, other = box:connect(), box:connect()
        insert(conn, "a")
        assert.same({ "a" }, names(other))
        assert.same({ "a" }, names(box))
        conn:transaction(function(tx) insert(tx, "b") end, { exclusive = true })
        assert.same({ "a", "b" }, names(other))
        assert.same({}, left())
        expect.raised("UsageError", "closed", conn.query_value, conn, "select 1")
      end)

      it("has a Connection's methods and no others", function()
        local conn = box:connect()
        for name in pairs(core.methods.Connection) do assert.is_function(conn[name], name) end
        for _, name in ipairs { "connect", "stats", "commit", "on_commit" } do
          assert.is_nil(conn[name], name)
        end
      end)

      it("takes one back with all that was begun with it", function()
        local conn = box:connect()
        local view = conn:with { null = false }
        insert(conn, "a")
        local rows, statement = conn:query "select name from item", conn:prepare "select 1"
        local tx = view:begin()
        insert(tx:begin(), "b")
        conn:close()
        conn:close()
        assert.is_true(conn:is_closed())
        assert.is_true(conn:wait_closed())
        assert.is_true(view:is_closed())
        for _, call in ipairs {
          { conn.exec, conn, "select 1" }, { view.exec, view, "select 1" }, { rows.next, rows },
          { statement.query, statement }, { tx.query, tx, "select 1" },
          { conn.transaction, conn, function() end },
        } do
          expect.raised("UsageError", nil, language.unpack(call))
        end
        assert.same({ "a" }, names())
      end)

      it("leaves alone what others have begun", function()
        local conn = box:connect()
        local tx = box:begin()
        insert(tx, "a")
        conn:close()
        tx:commit()
        assert.same({ "a" }, names())
      end)

      it("closes them with a view of any kind", function()
        local conn = box:connect()
        conn:with { null = false }:close()
        assert.is_true(conn:is_closed())
        box:with { null = false }:close()
        assert.is_true(box:is_closed())
      end)
    end)

    describe("in which the program does as it likes", function()
      it("says so when a text ends the transaction", function()
        insert(box, "a")
        moonbase.pcall(box.exec, box, "rollback")
        expect.raised("EngineError", "ended by the database", box.query_value, box, "select 1")
        assert.same({}, left())
      end)

      it("knows the innermost transaction of its own", function()
        local tx = box:begin()
        local inner = tx:begin()
        assert.equal(inner, box:current())
        assert.equal(inner, box:with { null = false }:current())
        inner:rollback()
        assert.equal(tx, box:current())
        tx:commit()
        assert.is_nil(box:current())
        if database.quirks.many_connections then
          local real = db:begin { read_only = true }
          assert.is_nil(box:current())
          real:rollback()
        end
      end)

      it("hears of listeners that were there before", function()
        local n = 0
        local off = db:on("transaction", function() n = n + 1 end)
        box:transaction(function() end)
        off()
        assert.equal(1, n)
      end)
    end)

    describe("for commands", function()
      local function add(name)
        return function(tx)
          insert(tx, name)
          return name
        end
      end

      it("runs their lists, each in a transaction", function()
        local executor = commands.executor(box, { write_exclusive = true, retry = {} })
        assert.same({ "a", "b", n = 2 }, executor:execute { add "a", add "b" })
        expect.raised("ConstraintError", "command 2", executor.execute, executor,
          { add "c", function(tx) insert(tx, nil) end })
        assert.same({ "a", "b" }, names())
        assert.same({}, left())
      end)

      it("joins the transaction that is open", function()
        local executor = commands.executor(box)
        box:transaction(function(tx)
          executor:execute { add "a" }
          executor:with(tx):execute { add "b" }
          tx:rollback()
        end)
        assert.same({}, names())
      end)

      it("runs a list with a key once", function()
        local executor = commands.executor(box)
        for _ = 1, 2 do
          assert.same({ "a", n = 1 }, executor:execute({ add "a" }, { key = "k" }))
        end
        assert.same({ "a" }, names())
        assert.same({}, left())
      end)
    end)

    it("serves modules that take a Database, or is refused", function()
      expect.raised("UsageError", "wants a Database", require "moonbase.metrics".observe, box)
      if box:capability().driver ~= "sqlite" then return end
      local sqlite = require "moonbase.sqlite"
      box:exec "create table picture (data blob)"
      box:exec("insert into picture values (?)", moonbase.blob "abc")
      assert.equal("abc", sqlite.blob_reader(box, "picture", "data", 1):read())
    end)
  end)
end
