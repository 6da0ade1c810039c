-- The fault driver around SQLite's: what rules do to calls.
local core = require "moonbase.core"
local moonbase = require "moonbase"
local testing = require "moonbase.testing"
local expect = require "spec.support.expect"
local files = require "spec.support.files"

describe("The fault driver", function()
  local path, db, fault

  before_each(function()
    path = files.path "fault.db"
    db = moonbase.open("fault+sqlite:" .. path)
    db:exec "create table item (id integer primary key, name text not null)"
    fault = testing.fault(db)
  end)

  after_each(function()
    fault:clear()
    db:close()
    db, fault = nil, nil
    files.clean()
  end)

  local function insert(x, name)
    return (x:exec("insert into item (name) values (?)", name))
  end

  local function names(x)
    return (x or db):query_column "select name from item order by id"
  end

  local function seconds(fn, ...)
    local start = core.now()
    fn(...)
    return core.now() - start
  end

  describe("is opened", function()
    it("by a scheme, or by the name of the driver", function()
      assert.equal("fault+sqlite:" .. path, db:url())
      for _, url in ipairs { "sqlite:" .. path, "fault+sqlite:" .. path } do
        local other = moonbase.open(url, { driver = "fault+sqlite" })
        assert.equal("fault+sqlite:" .. path, other:url())
        assert.equal(1, testing.fault(other):calls "connect" + 1)
        other:close()
      end
      local parts = moonbase.open { driver = "fault+sqlite", path = path }
      assert.equal(0, parts:query_value "select count(*) from item")
      parts:close()
    end)

    it("with the options of the driver inside, under its name", function()
      expect.raised("ConnectorValidationError", "no option of sqlite", moonbase.open,
        "fault+sqlite:" .. path .. "?mod=ro")
      local _, err = pcall(db.exec, db, "selec")
      assert.equal("sqlite", err.driver)
      assert.equal("sqlite", db:capability().driver)
    end)

    it("around a driver that there is", function()
      for url, text in pairs {
        ["fault:x"] = 'goes around another one',
        ["fault+nothing:x"] = 'there is no driver "nothing"',
        ["sqlite+fault:x"] = 'driver "sqlite" goes around no other',
        ["fault+:x"] = "other than letters and digits",
      } do
        expect.raised("ConnectorValidationError", text, moonbase.open, url)
      end
    end)

    it("around itself", function()
      local twice = moonbase.open("fault+fault+sqlite:" .. path)
      testing.fault(twice):at("execute", { fail = "DataError" })
      expect.raised("DataError", nil, twice.exec, twice, "select 1")
      twice:close()
    end)

    it("for who wants to command it", function()
      local plain = moonbase.open("sqlite:" .. path)
      expect.raised("UsageError", "open it as fault+sqlite:" .. path, testing.fault, plain)
      plain:close()
      expect.raised("UsageError", nil, testing.fault, "fault+sqlite:" .. path)
      assert.equal("moonbase.Fault (" .. db:url() .. ")", tostring(fault))
    end)
  end)

  describe("is told", function()
    it("what to do at which call", function()
      fault:at("execute", { nth = 2, times = 2, fail = "DataError" })
      local outcomes = {}
      for i = 1, 5 do outcomes[i] = moonbase.pcall(insert, db, "a") end
      assert.same({ true, false, false, true, true }, outcomes)
    end)

    it("to do it once, unless more is said", function()
      fault:at("execute", { fail = "DataError" })
      assert.is_false((moonbase.pcall(insert, db, "a")))
      insert(db, "b")
      fault:at("execute", { fail = "DataError", times = math.huge })
      for _ = 1, 20 do assert.is_false((moonbase.pcall(insert, db, "a"))) end
      fault:clear()
      insert(db, "c")
      assert.same({ "b", "c" }, names())
    end)

    it("for which statements", function()
      for _, slot in ipairs { "prepare", "execute", "fetch", "finish" } do
        fault:at(slot, { sql = "from sqlite_schema", fail = "DataError", times = math.huge })
      end
      assert.same({}, names())
      for _ = 1, 3 do
        expect.raised("DataError", nil, db.query_all, db, "select name from sqlite_schema")
      end
      assert.same({}, names())
    end)

    it("several things, of which the first is done", function()
      fault:at("execute", { fail = "DataError" })
      fault:at("execute", { fail = "SyntaxError", times = 2 })
      fault:at("execute", { nth = 4, fail = "PermissionError" })
      expect.raised("DataError", nil, insert, db, "a")
      expect.raised("SyntaxError", nil, insert, db, "b")
      insert(db, "c")
      expect.raised("PermissionError", nil, insert, db, "d")
      assert.same({ "c" }, names())
    end)

    it("by any handle of the pool, and counts for all of its connections", function()
      local before = fault:calls "execute"
      local one, two = db:connect(), db:connect()
      testing.fault(db:with { null = false }):at("execute", { nth = 2, fail = "DataError" })
      assert.equal(1, one:query_value "select 1")
      expect.raised("DataError", nil, two.query_value, two, "select 1")
      assert.equal(before + 2, fault:calls "execute")
      one:close()
      two:close()
    end)

    it("nothing that makes no sense", function()
      for text, rule in pairs {
        ["is a table"] = 1,
        ["wants something"] = {},
        ["no option of a rule"] = { los = true },
        ["wants a boolean"] = { lose = 1 },
        ["one of lose, fail"] = { lose = true, fail = "DataError" },
        ['"dead", "alive" or "readable"'] = { answer = "no" },
        ["option nth"] = { nth = 0, lose = true },
        ["option times"] = { times = 1.5, lose = true },
        ["option delay"] = { delay = -1 },
        ["belongs to lose and fail"] = { delay = 1, message = "x" },
        ["no class of errors: NoError"] = { fail = "NoError" },
        ["can have no more than: delay lose fail after"] = { answer = "dead" },
      } do
        expect.raised("UsageError", text, fault.at, fault, "ping", rule)
      end
      expect.raised("UsageError", "delay (with an end)", fault.at, fault, "consume",
        { delay = math.huge })
      expect.raised("UsageError", "no rules for such a slot: pong", fault.at, fault, "pong",
        { lose = true })
      expect.raised("UsageError", "by its name", fault.at, fault, nil, { lose = true })
      expect.raised("UsageError", "by its name", fault.calls, fault)
      expect.raised("UnsupportedError", 'driver "sqlite" has no savepoint', fault.at, fault,
        "savepoint", { lose = true })
      insert(db, "a")
      assert.is_true(db:ping())
    end)
  end)

  describe("makes a call fail", function()
    it("with a class, a code, a message and what follows from it", function()
      fault:at("execute", { fail = "SerializationError", code = "40001", message = "not now",
        retryable = true, transaction_dead = true })
      local err = expect.raised("SerializationError", "not now", insert, db, "a")
      assert.equal("40001", err.code)
      assert.is_true(err.retryable)
      assert.is_true(err.transaction_dead)
      assert.is_false(err.connection_dead)
      assert.is_false(err.sent)
    end)

    it("and says by itself where", function()
      fault:at("commit", { fail = "EngineError" })
      expect.raised("EngineError", "a fault at commit", db.transaction, db, function() end)
    end)

    it("before it has done anything, or when it has done all", function()
      fault:at("execute", { fail = "EngineError" })
      fault:at("execute", { nth = 2, fail = "EngineError", after = true })
      expect.raised("EngineError", nil, insert, db, "before")
      expect.raised("EngineError", nil, insert, db, "after")
      assert.same({ "after" }, names())
    end)

    it("so that a transaction is tried again", function()
      fault:at("commit", { times = 2, fail = "SerializationError", retryable = true })
      local attempts = db:transaction(function(tx)
        insert(tx, "try " .. tx.attempt)
        return tx.attempt
      end, { retry = { attempts = 5 } })
      assert.equal(3, attempts)
      assert.same({ "try 3" }, names())
    end)

    it("and leaves a connection that works", function()
      local conn = db:connect()
      for _, slot in ipairs { "prepare", "execute", "fetch", "finish", "begin", "commit",
        "rollback" } do
        for _, after in ipairs { false, true } do
          fault:at(slot, { fail = "DataError", after = after })
          moonbase.pcall(conn.query_all, conn, "select 1 as " .. slot .. tostring(after))
          moonbase.pcall(conn.transaction, conn, function(tx)
            insert(tx, "x")
            local rows = tx:query "select name from item"
            rows:next()
            rows:close()
            if after then tx:rollback() end
          end)
          fault:clear()
          if not moonbase.pcall(conn.ping, conn) then
            -- Nobody knows what is left where a rollback has failed.
            conn:close()
            conn = db:connect()
          end
          assert.equal(1, conn:query_value "select 1")
        end
      end
      conn:close()
      local stats = db:stats()
      assert.equal(stats.open, stats.created - stats.closed)
    end)
  end)

  describe("delays a call", function()
    it("for a while", function()
      fault:at("execute", { delay = 0.3 })
      assert.is_true(seconds(insert, db, "a") >= 0.3)
      assert.is_true(seconds(insert, db, "b") < 0.3)
      assert.same({ "a", "b" }, names())
    end)

    it("before it fails", function()
      fault:at("ping", { delay = 0.03, fail = "EngineError" })
      assert.is_true(seconds(pcall, db.ping, db) >= 0.03)
    end)

    it("until its time is up, and then it has not taken place", function()
      fault:at("execute", { delay = math.huge, times = math.huge })
      local hasty = db:with { timeout = 0.05 }
      local took = seconds(function()
        local err = expect.raised("TimeoutError", nil, insert, hasty, "a")
        assert.is_false(err.connection_dead)
      end)
      assert.is_true(took >= 0.05 and took < 5, took)
      fault:clear()
      assert.same({}, names())
      assert.equal(1, db:stats().created)
    end)

    it("until it is cancelled", function()
      local stop = moonbase.cancellation()
      stop:cancel "enough"
      fault:at("execute", { delay = math.huge, times = math.huge })
      expect.raised("CanceledError", "enough", insert, db:with { cancel = stop }, "a")
      expect.raised("TimeoutError", nil, db.transaction, db, function(tx) insert(tx, "a") end,
        { timeout = 0.05 })
      fault:clear()
      assert.same({}, names())
    end)

    it("while it connects, until that has taken too long", function()
      local slow = moonbase.open("fault+sqlite:" .. path, { connect_timeout = 0.05 })
      local other = testing.fault(slow)
      other:at("connect", { delay = math.huge })
      local took = seconds(function()
        local err = expect.raised("ConnectivityError", nil, slow.ping, slow)
        assert.equal("TimeoutError", err.cause.class)
      end)
      assert.is_true(took >= 0.05 and took < 5, took)
      assert.is_true(slow:ping())
      slow:close()
    end)

    it("of any slot that SQLite has", function()
      for _, slot in ipairs { "connect", "is_valid", "prepare", "execute", "fetch", "finish",
        "close_statement", "begin", "commit", "rollback", "ping", "consume", "close", "describe",
        "exec_text", "command" } do
        fault:at(slot, { delay = 0.001, times = math.huge })
      end
      fault:at("is_valid", { answer = "readable", times = 2 })
      db:transaction(function(tx) insert(tx, "a") end)
      pcall(db.transaction, db, function(tx) tx:transaction(function() error "no" end) end)
      db:prepare "select name from item":query():close()
      assert.same({ "a" }, names())
    end)
  end)

  describe("loses connections", function()
    it("at a call, which is not made", function()
      fault:at("execute", { lose = true })
      local err = expect.raised("ConnectionLostError", "a fault at execute", insert, db, "a")
      assert.is_true(err.connection_dead)
      assert.is_true(err.sent)
      assert.same({}, names())
      assert.equal(1, db:stats().closed_by.dead)
    end)

    it("behind a call, whose answer is lost", function()
      fault:at("execute", { lose = true, after = true })
      expect.raised("ConnectionLostError", nil, insert, db, "a")
      assert.same({ "a" }, names())
    end)

    it("as the rule says it", function()
      fault:at("execute", { lose = true, sent = false, session_only = true, code = "57P05",
        message = "idle for too long" })
      local err = expect.raised("ConnectionLostError", "idle for too long", insert, db, "a")
      assert.is_false(err.sent)
      assert.equal("57P05", err.code)
    end)

    it("while it makes them", function()
      local other = moonbase.open("fault+sqlite:" .. path)
      testing.fault(other):at("connect", { lose = true })
      expect.raised("ConnectivityError", "a fault at connect", other.ping, other)
      other:close()
    end)

    it("that are open, all at once", function()
      local conns = {}
      for i = 1, 4 do conns[i] = db:connect() end
      insert(conns[1], "a")
      local tx = conns[2]:begin()
      insert(tx, "b")
      fault:lose()
      for _, x in ipairs { conns[1], tx, conns[3], conns[4] } do
        expect.raised("ConnectionLostError", nil, x.query_value, x, "select 1")
      end
      tx:rollback()
      for i = 1, 4 do conns[i]:close() end
      assert.same({ "a" }, names())
      assert.equal(5, db:stats().created)
    end)
  end)

  it("has a place for every slot of a driver", function()
    local table_of = files.read "drivers/fault/driver.c"
    local body = files.read "src/driver.h":match "struct mb_driver (%b{})":gsub("/%*.-%*/", "")
    local n = 0
    for slot in body:gmatch "%(%*([%l_]+)%)%(" do
      n = n + 1
      assert.truthy(table_of:find("X(" .. slot .. ")", 1, true)
        or table_of:find("." .. slot .. " = ", 1, true), slot)
    end
    assert.is_true(n > 50)
  end)
end)
