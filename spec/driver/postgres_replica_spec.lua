-- Read replicas of PostgreSQL: a primary, and standbys that follow it by streaming.
local moonbase = require "moonbase"
local core = require "moonbase.core"
local observe = require "moonbase.observe"
local expect = require "spec.support.expect"
local postgres = require "spec.support.postgres"
local program = require "moonbase.postgres"
local testing = require "moonbase.testing"

local now = core.now

describe("Replicas of PostgreSQL", function()
  local server, standby, opened
  local admins = {} -- Databases as who may do anything, by server

  setup(function()
    server = postgres.shared()
    standby = server:standby()
  end)

  teardown(function()
    for _, admin in pairs(admins) do admin:close() end
    standby:close()
  end)

  local function as_admin(one, text, ...)
    admins[one] = admins[one] or moonbase.open(one:url "postgres", { user = "postgres" })
    return admins[one]:query_value(text, ...)
  end

  -- Waits until a standby has everything.
  local function wait_for(one)
    local place = as_admin(server, "select pg_current_wal_flush_lsn()")
    for _ = 1, 500 do
      if as_admin(one, "select pg_last_wal_replay_lsn() >= ?::pg_lsn", place) then return end
      core.sleep(0.01)
    end
    error "the standby does not follow"
  end

  local function set_delay(text)
    as_admin(standby, "alter system set recovery_min_apply_delay = " .. text)
    as_admin(standby, "select pg_reload_conf()")
  end

  local function open(given, url)
    given = given or {}
    given.replicas = given.replicas or { standby:url() }
    local db = moonbase.open(url or server:url(), given)
    opened[#opened + 1] = db
    return db
  end

  before_each(function()
    opened = {}
    local db = moonbase.open(server:fresh())
    db:exec "create table item (id integer primary key, name text)"
    db:exec "insert into item values (1, 'one'), (2, 'two')"
    db:close()
    wait_for(standby)
  end)

  after_each(function()
    for _, db in ipairs(opened) do db:close() end
  end)

  local where = "select case when pg_is_in_recovery() then 'replica' else 'primary' end"

  describe("run", function()
    it("transactions that only read, and no others", function()
      local db = open()
      assert.equal("primary", db:query_value(where))
      assert.equal("primary", db:transaction(function(tx) return tx:query_value(where) end))
      assert.equal("replica", db:transaction(function(tx)
        assert.equal(tx, db:current())
        expect.raised("UsageError", "inside a transaction of the same Database", db.exec, db,
          "delete from item")
        assert.equal("primary", db:connect():query_value(where))
        return tx:query_value(where)
      end, { read_only = true, isolation = "repeatable read" }))
      local tx = db:begin{ read_only = true }
      assert.equal("replica", tx:query_value(where))
      assert.equal("replica", tx:with{ timeout = 5 }:query_value(where))
      local err = expect.raised("ReadOnlyError", nil, tx.exec, tx, "delete from item")
      assert.equal("25006", err.code)
      tx:rollback()
      assert.is_nil(db:current())
      local conn = db:connect()
      assert.equal("primary", conn:transaction(function(inner)
        return inner:query_value(where)
      end, { read_only = true }))
    end)

    it("all calls of a view", function()
      local db = open()
      local r = db:with{ replica = true }
      assert.equal("replica", r:query_value(where))
      assert.equal("replica", r:with{ timeout = 5 }:query_value(where))
      assert.equal("primary", r:with{ replica = false }:query_value(where))
      assert.equal("replica", select(2, r:query_values("select ?::integer, (" .. where .. ")", 7)))
      assert.same({ id = 2, name = "two" }, r:query_row("select * from item where id = ?", 2))
      assert.is_nil(r:query_row "select * from item where id = 3")
      assert.same({ "one", "two" }, r:query_column "select name from item order by id")
      assert.equal(2, #r:query_all "select * from item")
      local names = {}
      for row in r:query("select name, (" .. where .. ") as place from item order by id") do
        names[#names + 1] = row.name .. " " .. row.place
      end
      assert.same({ "one replica", "two replica" }, names)
      assert.equal("replica", r:prepare(where):query_value())
      assert.equal("replica", r:batch{ { where .. " as place" } }[1].rows[1].place)
      assert.equal("replica", r:connect():query_value(where))
      assert.equal("replica", r:transaction(function(tx) return tx:query_value(where) end))
      assert.equal("on", r:begin():query_value "show transaction_read_only")
      assert.equal(1, r:exec_script(where))
      assert.is_true(r:ping())
      assert.is_true(r:capability().read_only_transactions)
      local pieces = {}
      program.copy_to(r, "copy (" .. where .. ") to stdout", function(piece)
        pieces[#pieces + 1] = piece
      end)
      assert.equal("replica\n", table.concat(pieces))
      assert.equal(0, db:stats().in_use)
      for _, wrong in ipairs { "insert into item values (3, 'three')", "drop table item" } do
        assert.equal("25006", expect.raised("ReadOnlyError", nil, r.exec, r, wrong).code)
      end
      expect.raised("ReadOnlyError", nil, r.bulk_insert, r, "item", { "id" }, { { 3 } })
      expect.raised("UsageError", "inside a transaction", db.transaction, db, function()
        r:query_value(where)
      end)
    end)

    it("calls that give errors", function()
      local r = open{ errors = "return" }:with{ replica = true }
      expect.returned("ReadOnlyError", nil, r:exec "delete from item")
      expect.returned("SyntaxError", nil, r:query "select nothing from item")
      assert.equal("replica", r:query_value(where))
      assert.equal("replica", r:transaction(function(tx) return tx:query_value(where) end))
      expect.returned("ReadOnlyError", nil, r:transaction(function(tx)
        tx:exec "delete from item"
      end))
      local lock = program.lock(r, 7)
      assert.equal("replica", lock.conn:query_value(where))
      lock:release()
      local tx = r:begin()
      expect.returned("ReadOnlyError", nil, tx:exec "delete from item")
    end)

    it("nothing that they cannot: serializable transactions", function()
      local db = open()
      for _, x in ipairs { db, db:with{ replica = true } } do
        assert.equal("primary on", x:transaction(function(tx)
          return tx:query_value(where) .. " " .. tx:query_value "show transaction_read_only"
        end, { read_only = true, isolation = "serializable" }))
      end
    end)

    it("by turns", function()
      local db = open{ replicas = {
        standby:url(nil, { application_name = "a" }), standby:url(nil, { application_name = "b" }),
      } }
      local r, seen = db:with{ replica = true }, {}
      for i = 1, 4 do seen[i] = r:query_value "show application_name" end
      assert.same({ "a", "b", "a", "b" }, seen)
    end)

    it("with the options of their Database", function()
      local asked = 0
      local function password()
        asked = asked + 1
        return postgres.password
      end
      local function tcp_url(one)
        return one:tcp_url(nil, { password = false, init = "set x.y = 1" })
      end
      local fresh = 0
      local db = open({
        replicas = { tcp_url(standby) }, password = password, null = "none",
        pool = { max = 3, min_idle = 0 }, on_connect = function() fresh = fresh + 1 end,
      }, tcp_url(server))
      local r = db:with{ replica = true }
      local row = r:query_row("select null as a, current_setting('x.y') as y, (" .. where
        .. ") as place")
      assert.same({ a = "none", y = "1", place = "replica" }, row)
      assert.same({ 1, 1 }, { asked, fresh })
      assert.equal("off", db:query_value "show default_transaction_read_only")
      assert.equal(3, db:stats().replicas[1].max)
      assert.equal(db:stats().max, db:stats().only_reading.max)
      assert.is_nil(tostring(db):find("p\195\164ss", 1, true))
      assert.is_nil(db:stats().replicas[1].url:find("p\195\164ss", 1, true))
      local other = open{ init = { "set x.y = 2" }, replicas = { standby:url() } }
      assert.equal("2", other:with{ replica = true }:query_value "select current_setting('x.y')")
    end)

    it("nothing of a sandbox, which stays what it is", function()
      local box = testing.sandbox(open())
      box:exec "insert into item values (3, 'three')"
      assert.equal(3, box:with{ replica = true }:query_value "select count(*) from item")
      assert.equal("primary", box:transaction(function(tx) return tx:query_value(where) end,
        { read_only = true }))
      box:close()
    end)

    it("calls that are told of", function()
      local db = open()
      local r, texts = db:with{ replica = true }, {}
      local off = r:on("query", function(event)
        texts[#texts + 1] = event["db.query.text"]
      end)
      r:query_value "select 1"
      db:query_value "select 2"
      off()
      r:query_value "select 3"
      assert.same({ "select 1", "select 2" }, texts)
    end)
  end)

  describe("that cannot be reached", function()
    it("are replaced by the primary, which only reads then, until they are back", function()
      local db = open()
      local r = db:with{ replica = true }
      local open_rows = r:connect()
      assert.equal("replica", r:query_value(where))
      finally(function() pcall(standby.start, standby) end)
      local places = {}
      db:transaction(function(tx)
        places[tx.attempt] = tx:query_value(where)
        if tx.attempt == 1 then
          standby:stop "immediate"
          tx:ping()
        end
      end, { read_only = true, retry = { attempts = 3 } })
      assert.same({ "replica", "primary" }, places)
      for _ = 1, 3 do assert.equal("primary", r:query_value(where)) end
      assert.equal("25006", expect.raised("ReadOnlyError", nil, r.exec, r,
        "delete from item").code)
      assert.equal("primary", db:transaction(function(tx) return tx:query_value(where) end,
        { read_only = true }))
      local stats = db:stats()
      assert.is_false(stats.replicas[1].reachable)
      assert.is_true(stats.only_reading.created >= 1)
      assert.equal(2, db:query_value "select count(*) from item")
      expect.raised("ConnectionLostError", nil, open_rows.query_value, open_rows, where)
      -- It is left alone for a moment, and then tried again.
      local failures, since = stats.replicas[1].failures, now()
      for _ = 1, 20 do r:query_value(where) end
      if now() - since < 0.3 then assert.equal(failures, db:stats().replicas[1].failures) end
      standby:start()
      repeat
        core.sleep(0.05)
      until r:query_value(where) == "replica" or now() - since > 20
      assert.equal("replica", r:query_value(where))
      assert.is_true(db:stats().replicas[1].reachable)
    end)

    it("are replaced by others", function()
      local nobody = "postgres://moonbase@127.0.0.1:1/moonbase"
      local db = open{ replicas = { nobody, standby:url(), nobody } }
      local r = db:with{ replica = true }
      for _ = 1, 5 do assert.equal("replica", r:query_value(where)) end
      assert.equal(1, db:stats().replicas[1].failures)
      db = open({ replicas = { nobody } }, nobody)
      expect.raised("ConnectivityError", nil, db.query, db:with{ replica = true }, where)
    end)

    it("do not keep others from reading when it is the primary", function()
      local db = open({ replicas = { standby:url() } },
        "postgres://moonbase@127.0.0.1:1/moonbase")
      expect.raised("ConnectivityError", nil, db.query, db, where)
      local r = db:with{ replica = true }
      assert.equal(2, r:query_value "select count(*) from item")
      r = open({ replicas = { standby:url() }, read_your_writes = true },
        "postgres://moonbase@127.0.0.1:1/moonbase"):with{ replica = true }
      expect.raised("ConnectivityError", nil, r.query_value, r, where)
    end)

    it("are lost in the middle of a call, which runs elsewhere", function()
      local r = open():with{ replica = true }
      local text = "select case when pg_is_in_recovery() then "
        .. "pg_terminate_backend(pg_backend_pid())::text else 'primary' end"
      assert.equal("primary", r:query_value(text))
      -- Where sessions may write, what was sent is not sent twice.
      r = open{ statement_cache = 0 }:with{ replica = true }
      expect.raised("ConnectionLostError", nil, r.query_value, r, text)
      assert.equal("primary", r:query_value(text))
    end)
  end)

  describe("that are behind", function()
    after_each(function()
      as_admin(standby, "select pg_wal_replay_resume()")
    end)

    it("show what was, unless read_your_writes is set", function()
      local careless, careful = open(), open{ read_your_writes = true }
      careless, careful = careless:with{ replica = true }, careful:with{ replica = true }
      assert.equal("replica", careful:query_value(where))
      as_admin(standby, "select pg_wal_replay_pause()")
      careful:with{ replica = false }:exec "insert into item values (3, 'three')"
      assert.equal(2, careless:query_value "select count(*) from item")
      local since = now()
      assert.equal(3, careful:query_value "select count(*) from item")
      assert.is_true(now() - since > 0.09)
      -- Not every call waits for what does not come.
      since = now()
      for _ = 1, 5 do
        assert.equal(3, careful:transaction(function(tx)
          return tx:query_value "select count(*) from item"
        end))
      end
      assert.is_true(now() - since < 0.4)
      as_admin(standby, "select pg_wal_replay_resume()")
      wait_for(standby)
      assert.equal("replica", careful:query_value(where))
      assert.equal(3, careful:query_value "select count(*) from item")
    end)

    it("are waited for", function()
      set_delay "'40ms'"
      finally(function() set_delay "default" end)
      local db = open{ read_your_writes = true }
      local r = db:with{ replica = true }
      r:ping()
      -- A busy machine may take longer than a call waits.
      local waited = false
      for i = 3, 12 do
        db:exec("insert into item values (?, 'more')", i)
        local since = now()
        local row = r:query_row("select count(*)::integer as n, (" .. where .. ") as place "
          .. "from item")
        assert.equal(i, row.n)
        waited = row.place == "replica" and now() - since > 0.02
        if waited then break end
        core.sleep(1)
      end
      assert.is_true(waited)
    end)

    it("are passed over for those that are not", function()
      local other = server:standby()
      finally(function() other:close() end)
      wait_for(other)
      local db = open{ replicas = { standby:url(), other:url() }, read_your_writes = true }
      local r = db:with{ replica = true }
      r:ping()
      as_admin(standby, "select pg_wal_replay_pause()")
      for i = 3, 8 do
        db:exec("insert into item values (?, 'more')", i)
        wait_for(other)
        local row = r:query_row("select current_setting('port')::integer as port, "
          .. "count(*)::integer as n from item")
        assert.equal(i, row.n)
        assert.equal(other.port, row.port)
      end
    end)

    it("only seem to be where a new segment of the log has begun", function()
      local db = open{ read_your_writes = true, init = "set synchronous_commit = off" }
      local r = db:with{ replica = true }
      for i = 3, 5 do
        db:exec("insert into item values (?, 'more')", i)
        as_admin(server, "select pg_switch_wal()")
        wait_for(standby)
        db:ping()
        local place = as_admin(server, "select pg_current_wal_insert_lsn()")
        local since = now()
        assert.equal("replica", r:query_value(where))
        if place == as_admin(server, "select pg_current_wal_insert_lsn()") then
          assert.is_true(now() - since < 0.08, place)
        end
      end
    end)

    it("are not trusted once they were restarted, since they may have gone back", function()
      local db = open{ read_your_writes = true }
      local r = db:with{ replica = true }
      r:ping()
      db:exec "insert into item values (3, 'three')"
      wait_for(standby)
      assert.equal("replica", r:query_value(where))
      local place = as_admin(standby, "select pg_last_wal_replay_lsn()")
      set_delay "'1h'"
      finally(function()
        set_delay "default"
        wait_for(standby)
      end)
      standby:stop "immediate"
      standby:start()
      assert.is_true(as_admin(standby, "select pg_last_wal_replay_lsn() < ?::pg_lsn", place))
      assert.equal(3, r:query_value "select count(*) from item")
    end)

    it("are not trusted where a COMMIT does not wait for the disk", function()
      local db = open{ read_your_writes = true, init = "set synchronous_commit = off" }
      local r = db:with{ replica = true }
      for i = 3, 10 do
        db:exec("insert into item values (?, 'more')", i)
        assert.equal(i, r:query_value "select count(*) from item")
      end
    end)

    it("are asked for when the primary was used, and not else", function()
      local db = open{ read_your_writes = true }
      local r = db:with{ replica = true }
      r:ping()
      local function asked()
        local primary, replica = db:stats().acquired, db:stats().replicas[1].acquired
        assert.equal("replica", r:query_value(where))
        return { db:stats().acquired - primary, db:stats().replicas[1].acquired - replica }
      end
      assert.same({ 0, 1 }, asked())
      db:exec "insert into item values (3, 'three')"
      wait_for(standby)
      assert.same({ 1, 2 }, asked())
      assert.same({ 0, 1 }, asked())
      -- Who has a connection may write at any time.
      local tx = db:begin()
      tx:exec "insert into item values (4, 'four')"
      assert.equal(1, asked()[1])
      assert.equal(1, asked()[1])
      tx:commit()
      assert.equal(4, r:query_value "select count(*) from item")
      wait_for(standby)
      r:ping()
      assert.same({ 0, 1 }, asked())
    end)

    it("are not needed where the only connection is in use", function()
      local db = open{ read_your_writes = true, pool = { max = 1 } }
      local tx = db:begin()
      tx:exec "insert into item values (3, 'three')"
      assert.equal(2, db:with{ replica = true }:query_value "select count(*) from item")
      tx:commit()
      assert.equal(3, db:with{ replica = true }:query_value "select count(*) from item")
    end)
  end)

  describe("are options", function()
    it("that are checked", function()
      local function refused(class, text, given, url)
        expect.raised(class, text, moonbase.open, url or server:url(), given)
      end
      local invalid = "ConnectorValidationError"
      refused("UnsupportedError", 'driver "sqlite" has none', { replicas = { } },
        "sqlite::memory:")
      refused(invalid, "option replicas: wants a table", { replicas = standby:url() })
      refused(invalid, "wants a list of URLs", { replicas = { 7 } })
      refused(invalid, "wants a list of URLs", { replicas = { first = standby:url() } })
      refused(invalid, "option replicas, number 2: ",
        { replicas = { standby:url(), "postgres://host:port/name" } })
      refused(invalid, "number 1: scheme: missing", { replicas = { "nothing" } })
      refused(invalid, 'is of driver "sqlite"', { replicas = { "sqlite::memory:" } })
      refused(invalid, "zero byte", { replicas = { "postgres://a\0b/c" } })
      refused(invalid, "wants option replicas", { read_your_writes = true })
      refused(invalid, "option read_your_writes: wants a boolean",
        { replicas = { }, read_your_writes = 1 })
      refused(invalid, "has several hosts",
        { replicas = { "postgres://a,b/c" }, read_your_writes = true })
      open{ replicas = { "postgres://a,b/c" } }
      assert.equal(0, open():stats().replicas[1].created)
    end)

    it("and replica one of with, for a Database that has them", function()
      local db = moonbase.open(server:url())
      opened[1] = db
      expect.raised("UsageError", "has no replicas", db.with, db, { replica = true })
      assert.equal("primary", db:with{ replica = false }:query_value(where))
      expect.raised("UsageError", "wants a boolean", db.with, db, { replica = 1 })
      local conn = open():connect()
      expect.raised("UsageError", "belongs to a Database", conn.with, conn, { replica = true })
    end)

    it("of which there may be none", function()
      local db = open{ replicas = {}, read_your_writes = true }
      local r = db:with{ replica = true }
      assert.equal("primary", r:query_value(where))
      expect.raised("ReadOnlyError", nil, r.exec, r, "delete from item")
      assert.same({}, db:stats().replicas)
    end)

    it("under which sessions are left alone behind PgBouncer", function()
      local db = open{ replicas = {}, statement_cache = 0 }
      local r = db:with{ replica = true }
      assert.equal("off", r:query_value "show default_transaction_read_only")
      assert.equal("on", r:transaction(function(tx)
        return tx:query_value "show transaction_read_only"
      end))
    end)

    it("that a name shares", function()
      local first = open{ name = "shop" }
      local second = open{ name = "shop" }
      first:with{ replica = true }:ping()
      second:with{ replica = true }:ping()
      assert.equal(1, first:stats().replicas[1].created)
      assert.equal(2, second:stats().replicas[1].acquired)
      local names = {}
      for _, pool in ipairs(observe.pools()) do names[pool.name] = true end
      assert.is_true(names["shop"] and names["shop, replica 1"] and names["shop, only reading"])
    end)
  end)

  it("are closed with their Database", function()
    local db = open{ replicas = { standby:url(nil, { application_name = "closing" }) } }
    local r = db:with{ replica = true }
    local tx = r:begin()
    assert.equal("closing", tx:query_value "show application_name")
    r:close()
    assert.is_true(db:is_closed() and r:is_closed() and tx:is_closed())
    expect.raised("UsageError", "the database is closed", r.query, r, where)
    expect.raised("UsageError", "the database is closed", db.begin, db, { read_only = true })
    assert.equal(0, db:stats().replicas[1].size)
    db:close()
  end)

  it("are collected with their Database", function()
    local kept = setmetatable({}, { __mode = "v" })
    do
      local db = moonbase.open(server:url(), { replicas = { standby:url() } })
      db:with{ replica = true }:ping()
      kept[1] = db
    end
    for _ = 1, 4 do collectgarbage() end
    assert.is_nil(kept[1])
  end)
end)
