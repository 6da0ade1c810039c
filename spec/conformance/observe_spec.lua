-- What listeners are told: db:on(event, fn).
local child = require "spec.support.child"
local core = require "moonbase.core"
local expect = require "spec.support.expect"
local language = require "spec.support.language"
local moonbase = require "moonbase"

-- The line of its caller, as events say it.
local function here(offset)
  local info = debug.getinfo(2, "Sl")
  return info.short_src .. ":" .. info.currentline + (offset or 0)
end

-- Keeps the processor busy: a loop's body that takes time.
local function spend(seconds)
  local finish = core.now() + seconds
  repeat until core.now() >= finish
end

local function keys(list, name)
  local values = {}
  for i, event in ipairs(list) do values[i] = event[name] end
  return values
end

local function sum(event)
  return event.queue + event.connect + event.server + event.decode
end

for _, database in ipairs(require "spec.support.databases") do
  local quirks = database.quirks

  describe("Listeners on " .. database.name, function()
    local db

    -- Collects events of a kind.
    local function listen(event, options, on)
      local list = {}
      local off = (on or db):on(event, function(told) list[#list + 1] = told end, options)
      return list, off
    end

    local function open(options)
      db = database:open(options)
      db:exec "create table pair (a integer, b integer)"
      db:exec "insert into pair values (1, 2), (3, 4), (5, 6)"
      return db
    end

    after_each(function() database:clean() end)

    describe("for query", function()
      before_each(function() open() end)

      it("hear of each statement what it was and where it was called", function()
        local told = listen "query"
        db:query_value "select count(*) from pair"
        local line = here(-1)
        assert.equal(1, #told)
        local event = told[1]
        assert.equal("query", event.event)
        assert.equal(line, event.source)
        assert.equal("select count(*) from pair", event["db.query.text"])
        assert.equal("select", event["db.operation.name"])
        assert.equal(1, event["db.response.returned_rows"])
        assert.equal("string", type(event["db.system.name"]))
        assert.equal("string", type(event["db.namespace"]))
        assert.equal("string", type(event["db.client.connection.pool.name"]))
        assert.is_nil(event["error.type"])
        assert.is_nil(event.message)
      end)

      it("hear of every way to run one, once", function()
        local told = listen "query"
        db:exec "insert into pair values (7, 8)"
        db:query_row "select a from pair"
        db:query_value "select b from pair"
        db:query_values "select a, b from pair"
        db:query_column "select a from pair where a > 1"
        db:query_all "select b from pair where a > 1"
        db:query "select b, a from pair where a > 100":all()
        local statement = db:prepare "select a from pair where a = ?"
        statement:query_value(3)
        db:batch{ { "delete from pair where a = ?", 7 } }
        db:bulk_insert("pair", { "a", "b" }, { { 9, 10 }, { 11, 12 } })
        db:exec_script "delete from pair where a = 9; delete from pair where a = 11"
        assert.same({ "insert into pair values (7, 8)", "select a from pair",
          "select b from pair", "select a, b from pair", "select a from pair where a > 1",
          "select b from pair where a > 1", "select b, a from pair where a > 100",
          "select a from pair where a = ?", "delete from pair where a = ?" },
          { language.unpack(keys(told, "db.query.text"), 1, 9) })
        assert.equal(11, #told)
        local rows = {}
        for i, event in ipairs(told) do rows[i] = event["db.response.returned_rows"] or "none" end
        assert.same({ "none", 1, 1, 1, 3, 3, 0, 1, 0, "none", "none" }, rows)
        for i = 10, 11 do
          assert.equal("BATCH", told[i]["db.operation.name"])
          assert.equal(2, told[i]["db.operation.batch.size"])
        end
      end)

      it("hear of each statement of a batch, and of the one that fails", function()
        local told = listen "query"
        db:batch{ { "select a from pair where a > ?", 1 }, { "delete from pair where a = ?", 1 } }
        pcall(db.batch, db, { { "select b from pair" }, { "selec" }, { "select a from pair" } })
        assert.same({ "select a from pair where a > ?", "delete from pair where a = ?",
          "select b from pair", "selec" }, keys(told, "db.query.text"))
        assert.equal(0, told[2]["db.response.returned_rows"])
        assert.is_nil(told[1]["error.type"])
        assert.equal("SyntaxError", told[4]["error.type"])
        assert.is_nil(told[1]["db.operation.batch.size"])
      end)

      it("hear of the operation behind comments, and of none where it comes later", function()
        local told = listen "query"
        db:query_value "/* what */ -- is\n  Select 1"
        db:query_value "with x as (select 1 as a) select a from x"
        assert.same({ "Select" }, keys(told, "db.operation.name"))
        assert.is_nil(told[2]["db.operation.name"])
      end)

      it("hear how long it took, and where that time went", function()
        db:query_value "select 1"
        local told = listen "query"
        local before = core.now()
        db:query_all(quirks.sql.series, 5000)
        local taken = core.now() - before
        local event = told[1]
        assert.equal(5000, event["db.response.returned_rows"])
        assert.is_true(event.duration > 0 and event.duration <= taken)
        assert.is_true(math.abs(sum(event) - event.duration) < 1e-6)
        assert.is_true(event.server > 0 and event.decode > 0)
        assert.equal(0, event.connect)
      end)

      it("hear of what fails, with the class and the database's code", function()
        local told = listen "query"
        local _, err = pcall(db.exec, db, "selec")
        assert.equal(1, #told)
        assert.equal("SyntaxError", told[1]["error.type"])
        assert.equal(tostring(err[quirks.status]), told[1]["db.response.status_code"])
        assert.equal(err.message, told[1].message)
        assert.is_nil(told[1].detail)
        assert.equal("selec", told[1]["db.query.text"])
      end)

      it("hear the same of views, connections, transactions and statements", function()
        local told = listen "query"
        db:with{ timeout = 5 }:query_value "select 1"
        local conn = db:connect()
        conn:query_value "select 2"
        conn:with{ errors = "return" }:query_value "select 3"
        conn:close()
        db:transaction(function(tx)
          tx:query_value "select 4"
          tx:transaction(function(nested) nested:query_value "select 5" end)
        end)
        assert.same({ "select 1", "select 2", "select 3", "select 4", "select 5" },
          keys(told, "db.query.text"))
      end)

      it("may be added to a view, and are those of its Database", function()
        local told, off = listen("query", nil, db:with{ timeout = 5 })
        db:query_value "select 1"
        off()
        db:query_value "select 2"
        assert.same({ "select 1" }, keys(told, "db.query.text"))
      end)

      it("hear nothing of another Database", function()
        local told = listen "query"
        local other = moonbase.open("sqlite::memory:")
        other:query_value "select 1"
        other:close()
        assert.same({}, told)
      end)
    end)

    describe("for rows that are read one by one", function()
      before_each(function() open() end)

      it("hear when they end, with their number, and without the time between", function()
        local told = listen "query"
        local rows = db:query "select a, b from pair"
        local line = here(-1)
        for _ = 1, 3 do
          assert.is_table(rows:next())
          assert.same({}, told)
          spend(0.02)
        end
        assert.is_nil(rows:next())
        assert.equal(1, #told)
        rows:close()
        assert.equal(1, #told)
        local event = told[1]
        assert.equal(3, event["db.response.returned_rows"])
        assert.equal(line, event.source)
        assert.is_true(event.elapsed >= 0.06)
        assert.is_true(event.duration < event.elapsed - 0.05)
        assert.is_true(math.abs(sum(event) - event.duration) < 1e-6)
      end)

      it("hear of them in a loop, as tuples, as arrays, all and each", function()
        local told = listen "query"
        for _ in db:query "select a from pair" do end
        for _ in db:query "select a from pair":tuples() do end
        for _ in db:query "select a from pair":arrays() do end
        db:query "select a from pair":all()
        db:query "select a from pair":each(function() return nil end)
        assert.same({ 3, 3, 3, 3, 3 }, keys(told, "db.response.returned_rows"))
      end)

      it("hear of many, which stay at the database", function()
        local told = listen "query"
        local n = 0
        for _ in db:query(quirks.sql.series, 2000) do n = n + 1 end
        assert.equal(2000, n)
        assert.same({ 2000 }, keys(told, "db.response.returned_rows"))
      end)

      it("hear when they are left early", function()
        local told = listen "query"
        local rows = db:query(quirks.sql.series, 1000)
        rows:next()
        rows:close()
        assert.same({ 1 }, keys(told, "db.response.returned_rows"))
      end)

      it("hear of what the collector has closed, with the next call", function()
        local told = listen "query"
        local function leave()
          local rows = db:query(quirks.sql.series, 1000)
          local line = here(-1)
          rows:next()
          return line
        end
        local line = leave()
        language.collect()
        assert.same({}, told)
        db:ping()
        assert.same({ 1 }, keys(told, "db.response.returned_rows"))
        assert.equal(line, told[1].source)
      end)

      it("hear of an error among them", function()
        local told, errors = listen "query", listen "error"
        local conn = db:connect()
        local rows = conn:query(quirks.sql.series, 1000)
        rows:next()
        conn:close()
        expect.raised("UsageError", "closed", rows.next, rows)
        assert.same({ "UsageError" }, keys(told, "error.type"))
        assert.same({ "UsageError" }, keys(errors, "error.type"))
      end)
    end)

    describe("and parameters", function()
      it("hear of none", function()
        open()
        local told = listen "query"
        db:query_value("select ?", "secret")
        db:query("select :a", { a = "secret" }):all()
        for _, event in ipairs(told) do
          for name, value in pairs(event) do
            assert.is_nil(tostring(name):find("parameter", 1, true))
            assert.is_nil(tostring(value):find("secret", 1, true))
          end
        end
      end)

      it("hear of them where log_parameters says so", function()
        open{ log_parameters = true }
        local told = listen "query"
        db:query_value("select ?", 7)
        db:query_value("select :name", { name = "Ada" })
        db:query("select ?", "row"):all()
        db:exec("insert into pair values (?, ?)", moonbase.params({ nil, 5 }, 2))
        db:with{ log_parameters = false }:query_value("select ?", 8)
        assert.equal("7", told[1]["db.query.parameter.0"])
        assert.equal("Ada", told[2]["db.query.parameter.name"])
        assert.equal("row", told[3]["db.query.parameter.0"])
        assert.equal("nil", told[4]["db.query.parameter.0"])
        assert.equal("5", told[4]["db.query.parameter.1"])
        assert.is_nil(told[5]["db.query.parameter.0"])
      end)

      it("hear of them where with says so", function()
        open()
        local told = listen "query"
        db:with{ log_parameters = true }:query_value("select ?", 7)
        assert.equal("7", told[1]["db.query.parameter.0"])
      end)
    end)

    it("for slow_query hear of those that take long enough", function()
      open()
      local all, some, none = listen("slow_query", { seconds = 0 }),
        listen("slow_query", { seconds = 0.05 }), listen "slow_query"
      db:query_value "select 1"
      pcall(db.with, db, {})
      local slow = db:with{ timeout = 0.1 }
      pcall(slow.query_value, slow, quirks.sql.endless)
      assert.equal(2, #all)
      assert.same({ quirks.sql.endless }, keys(some, "db.query.text"))
      assert.same({ 0.05 }, keys(some, "seconds"))
      assert.equal("TimeoutError", some[1]["error.type"])
      assert.is_true(some[1].server >= 0.09)
      assert.same({}, none)
    end)

    it("for acquire, connect and close hear of connections", function()
      db = database:open()
      local acquired, connected, closed = listen "acquire", listen "connect", listen "close"
      db:query_value "select 1"
      local line = here(-1)
      db:query_value "select 2"
      assert.equal(2, #acquired)
      assert.is_true(acquired[1].connect > 0)
      assert.equal(0, acquired[2].connect)
      assert.is_true(acquired[1].queue >= 0)
      assert.same({ line, here(-5) }, keys(acquired, "source"))
      assert.equal(1, #connected)
      assert.equal(line, connected[1].source)
      assert.is_true(math.abs(connected[1].duration - acquired[1].connect) < 1e-3)
      assert.same({}, closed)
      db:close()
      assert.same({ "pool" }, keys(closed, "reason"))
    end)

    it("for error hear of each call that fails", function()
      open()
      local told = listen "error"
      pcall(db.exec, db, "selec")
      pcall(db.exec, db, 7)
      local err = select(2, db:with{ errors = "return" }:exec "select * from nothing")
      db:query_value "select 1"
      assert.same({ "SyntaxError", "UsageError", "SyntaxError" }, keys(told, "error.type"))
      assert.equal(err.message, told[3].message)
      assert.equal("select * from nothing", told[3]["db.query.text"])
    end)

    describe("for transaction", function()
      before_each(function() open() end)

      it("hear how each has ended, and where it was begun", function()
        local told = listen "transaction"
        db:transaction(function(tx)
          tx:exec "insert into pair values (7, 8)"
          spend(0.01)
        end)
        local line = here(-4)
        pcall(db.transaction, db, function() error "no" end)
        local tx = db:begin()
        tx:rollback()
        assert.same({ "commit", "rollback", "rollback" }, keys(told, "outcome"))
        assert.same({ "COMMIT", "ROLLBACK", "ROLLBACK" }, keys(told, "db.operation.name"))
        assert.is_true(told[1].duration >= 0.01)
        assert.equal(line, told[1].source)
        assert.equal("_OTHER", told[2]["error.type"])
        assert.is_truthy(told[2].message:find("no", 1, true))
        assert.is_nil(told[3]["error.type"])
        assert.same({ 1, 1, 1 }, keys(told, "attempt"))
      end)

      it("hear of nested ones too", function()
        local told = listen "transaction"
        db:transaction(function(tx)
          tx:transaction(function(nested) nested:rollback() end)
        end)
        assert.same({ "rollback", "commit" }, keys(told, "outcome"))
        assert.same({ true, false }, keys(told, "nested"))
      end)

      it("hear of an error that has ended it", function()
        local told = listen "transaction"
        pcall(db.transaction, db, function(tx) tx:exec "selec" end)
        assert.same({ "rollback" }, keys(told, "outcome"))
        assert.same({ "SyntaxError" }, keys(told, "error.type"))
      end)
    end)

    if quirks.many_connections then
      it("for retry hear of each attempt that is followed by another", function()
        open()
        local told, ended = listen "retry", listen "transaction"
        db:transaction(function(tx)
          tx:query_value "select a from pair where a = 1"
          if tx.attempt < 3 then
            error(setmetatable({ class = "SerializationError", message = "again",
              retryable = true, commit_unknown = false }, core.helpers.error_metatable), 0)
          end
        end, { retry = { attempts = 5 } })
        assert.same({ 1, 2 }, keys(told, "attempt"))
        assert.same({ "SerializationError", "SerializationError" }, keys(told, "error.type"))
        assert.same({ 1, 2, 3 }, keys(ended, "attempt"))
        assert.same({ "rollback", "rollback", "commit" }, keys(ended, "outcome"))
      end)
    end

    it("for warning hear once a statement of columns with one name", function()
      open()
      local told = listen "warning"
      for _ = 1, 2 do
        db:query_all "select 1 as a, 2 as b, 3 as a"
        db:query "select 4 as c, 5 as c":all()
      end
      db:query_row "select 1 as a, 2 as b, 3 as a"
      db:query_values "select 6 as d, 7 as d"
      for _ in db:query "select 8 as e, 9 as e":tuples() do end
      db:query "select 8 as f, 9 as f":arrays():all()
      assert.same({ "a", "c" }, keys(told, "column"))
      assert.same({ "select 1 as a, 2 as b, 3 as a", "select 4 as c, 5 as c" },
        keys(told, "db.query.text"))
    end)

    it("for drain hear of rows that were left, by how long that took", function()
      open()
      local told, none = listen("drain", { seconds = 0 }), listen "drain"
      local rows = db:query(quirks.sql.series, 1000)
      rows:next()
      rows:close()
      db:query(quirks.sql.series, 3):all()
      assert.equal(1, #told)
      assert.equal(quirks.sql.series, told[1]["db.query.text"])
      assert.is_true(told[1].duration >= 0)
      assert.same({}, none)
    end)

    describe("for leak", function()
      it("hear of transactions and Connections that were dropped while open", function()
        open()
        local told = listen "leak"
        local function leave(method)
          local _ = db[method](db)
          local line = here(-1)
          return line
        end
        local lines = {}
        lines[1] = leave "begin"
        language.collect()
        assert.same({}, told)
        db:ping()
        assert.equal(1, #told)
        lines[2] = leave "connect"
        language.collect()
        db:ping()
        assert.same({ "Transaction", "Connection" }, keys(told, "handle"))
        assert.same({ "collected", "collected" }, keys(told, "reason"))
        assert.same(lines, keys(told, "source"))
      end)

      it("hear nothing of those that were ended", function()
        open()
        local told = listen "leak"
        local function leave()
          db:begin():rollback()
          db:connect():close()
          db:transaction(function(tx) tx:with{ timeout = 5 }:ping() end)
        end
        leave()
        language.collect()
        db:ping()
        assert.same({}, told)
      end)

      if quirks.many_connections then
        it("hear once of what is kept for longer than leak_after, with the borrower", function()
          db = database:open{ pool = { leak_after = 0.3 } }
          local told = listen "leak"
          local conn = db:connect()
          local line = here(-1)
          db:ping() -- which may have to connect
          assert.same({}, told)
          spend(0.4)
          db:ping()
          db:ping()
          conn:close()
          assert.same({ "age" }, keys(told, "reason"))
          assert.is_true(told[1].duration >= 0.3)
          assert.is_truthy(told[1].traceback:find(line, 1, true))
        end)
      end
    end)

    if quirks.many_connections then
      it("are not needed for a PoolTimeoutError to name the borrower", function()
        db = database:open{ pool = { max = 2, leak_after = 60, acquire_timeout = 0.05,
          single_writer = false } }
        local first = db:connect()
        local line = here(-1)
        local second = db:connect()
        local err = expect.raised("PoolTimeoutError", line, db.ping, db)
        assert.is_nil(tostring(err):find("\n", 1, true))
        second:close()
        first:close()
        local plain = database:open{ pool = { max = 2, acquire_timeout = 0.05,
          single_writer = false } }
        local one, two = plain:connect(), plain:connect()
        err = expect.raised("PoolTimeoutError", nil, plain.ping, plain)
        assert.is_nil(err.message:find("traceback", 1, true))
        one:close()
        two:close()
      end)

      it("for acquire hear of calls that got no connection, and why", function()
        db = database:open{ pool = { max = 2, acquire_timeout = 0.05, single_writer = false } }
        local told, queries = listen "acquire", listen "query"
        local first, second = db:connect(), db:connect()
        expect.raised("PoolTimeoutError", nil, db.query_value, db, "select 1")
        assert.same({ "PoolTimeoutError" }, { told[3]["error.type"] })
        assert.same({ "PoolTimeoutError" }, keys(queries, "error.type"))
        assert.is_nil(told[2]["error.type"])
        assert.equal(told[3].queue, queries[1].queue)
        second:close()
        first:close()
      end)

      it("hear of the connections of a pool that others use, with their next call", function()
        local name = "observed " .. tostring({})
        db = database:open{ name = name }
        local other = database:open{ name = name }
        local told = listen "connect"
        other:query_value "select 1"
        assert.same({}, told)
        db:query_value "select 1"
        assert.equal(1, #told)
        assert.is_nil(told[1].source)
        assert.equal(name, told[1]["db.client.connection.pool.name"])
      end)
    end

    describe("are functions that", function()
      before_each(function() open() end)

      it("hear nothing any more once they were taken off, which may be done twice", function()
        local told, off = listen "query"
        local others = listen "query"
        db:query_value "select 1"
        off()
        off()
        db:query_value "select 2"
        assert.equal(1, #told)
        assert.equal(2, #others)
      end)

      it("may take themselves off, and add others, for the next event", function()
        local told, late, off = {}, nil, nil
        off = db:on("query", function(event)
          told[#told + 1] = event["db.query.text"]
          off()
          late = listen "query"
        end)
        db:query_value "select 1"
        db:query_value "select 2"
        assert.same({ "select 1" }, told)
        assert.same({ "select 2" }, keys(late, "db.query.text"))
      end)

      it("may use the Database, and are not called for that", function()
        local counts = {}
        db:on("query", function()
          counts[#counts + 1] = db:query_value "select count(*) from pair"
          db:exec "insert into pair values (0, 0)"
        end)
        db:query_value "select 1"
        db:query_value "select 2"
        assert.same({ 3, 4 }, counts)
      end)

      if quirks.many_connections then
        it("may use the Database inside a transaction, beside it", function()
          local seen = {}
          db:on("query", function()
            seen[#seen + 1] = db:query_value "select count(*) from pair"
          end)
          db:transaction(function(tx)
            tx:exec "insert into pair values (7, 8)"
            expect.raised("UsageError", "inside a transaction", db.ping, db)
          end)
          assert.same({ 3 }, seen)
        end)
      end

      it("leave results and errors as they were", function()
        db:on("query", function() pcall(db.exec, db, "selec") end)
        assert.equal(3, db:query_value "select count(*) from pair")
        expect.raised("SyntaxError", nil, db.exec, db, "select * from nothing")
        assert.same({ 1, 3, 5 }, db:query_column "select a from pair order by a")
      end)

      it("are functions of events that exist", function()
        expect.raised("UsageError", "there is no event querry; did you mean \"query\"?",
          db.on, db, "querry", print)
        expect.raised("UsageError", "on wants a function, and got a nil", db.on, db, "query")
        expect.raised("UsageError", "the options are a table", db.on, db, "query", print, 1)
        expect.raised("UsageError", "seconds is no option of on for query", db.on, db, "query",
          print, { seconds = 1 })
        expect.raised("UsageError", "at least 0", db.on, db, "slow_query", print,
          { seconds = -1 })
        local conn = db:connect()
        expect.raised("UsageError", "on belongs to a Database", db.on, conn, "query", print)
        conn:close()
        db:close()
        expect.raised("UsageError", "closed", db.on, db, "query", print)
      end)
    end)

    it("that fail are reported on standard error, and undo nothing", function()
      db = database:open()
      local output, status = child.run([[
        local url, driver = ...
        local db = require "moonbase".open(url, { driver = driver })
        db:exec "create table pair (a integer, b integer)"
        db:on("query", function() error "broken" end)
        db:on("query", function() io.stderr:write "the next one\n" end)
        local affected = db:exec "insert into pair values (1, 2)"
        io.stderr:write(affected, " ", db:query_value "select count(*) from pair", "\n")
      ]], { database:url(), database.driver })
      assert.equal(0, status)
      assert.is_truthy(output:find('a function given to on("query") has failed', 1, true))
      assert.is_truthy(output:find("broken", 1, true))
      assert.is_truthy(output:find("the next one\n", 1, true))
      assert.is_truthy(output:find("\n1 1\n", 1, true))
    end)
  end)
end
