-- What breaks between a program and a server: sessions that are ended, servers that are restarted
-- or killed, networks that are cut.  What was acknowledged is there, what was reported as rolled
-- back is not, and the pool serves again without help.
local moonbase = require "moonbase"
local databases = require "spec.support.databases"
local expect = require "spec.support.expect"
local mysql = require "spec.support.mysql"
local now = require "moonbase.core".now
local postgres = require "spec.support.postgres"
local proxy = require "spec.support.proxy"
local recovers = require "spec.support.recovers"

-- By driver.
local kinds = {
  postgres = {
    name = "PostgreSQL",
    start = postgres.start,
    --- How a server may be stopped, for restart.
    falls = { "fast", "immediate" },
    --- What it knows a session by.
    session = function(x) return x:query_value "select pg_backend_pid()" end,
    end_session = function(server, session)
      server:psql(("select pg_terminate_backend(%d)"):format(session))
    end,
    pause = "select pg_sleep(0.01)",
  },
  mysql = {
    name = "MySQL",
    start = mysql.start,
    falls = { "stop", "kill" },
    session = function(x) return x:query_value "select connection_id()" end,
    end_session = function(server, session) server:sql("kill connection " .. session) end,
    pause = "select sleep(0.01)",
  },
}

local function specify(kind)
  local server, db

  setup(function() server = kind.start() end)
  teardown(function() server:close() end)

  before_each(function()
    server:revive()
    db = moonbase.open(server:fresh(), { pool = { check_after_idle = 30 } })
    db:exec "create table item (n integer primary key)"
  end)

  after_each(function() db:close() end)

  local function fill(x)
    local rows = {}
    for n = 1, 1000 do rows[n] = { n } end
    x:bulk_insert("item", { "n" }, rows)
  end

  it("a session that is ended is one error for who uses it", function()
    local conn = db:connect()
    kind.end_session(server, kind.session(conn))
    local err = expect.raised("ConnectionLostError", nil, conn.exec, conn, "select 1")
    assert.is_true(err.connection_dead)
    expect.raised("ConnectionLostError", nil, conn.exec, conn, "select 1")
    conn:close()
    assert.equal(0, recovers(db, 0))
  end)

  it("a session that is ended in the middle of rows raises there", function()
    fill(db)
    local conn, got = db:connect(), 0
    local victim = kind.session(conn)
    local err = expect.raised("ConnectionLostError", nil, function()
      for _ in conn:query "select a.n, repeat('x', 1000) as t from item a, item b" do
        got = got + 1
        if got == 100 then kind.end_session(server, victim) end
      end
    end)
    assert.is_true(err.connection_dead)
    assert.is_true(got >= 100 and got < 1000000)
    conn:close()
    assert.equal(1000, recovers(db, 0))
  end)

  for _, how in ipairs(kind.falls) do
    it("a server that is restarted (" .. how .. ") is no error for who uses it afterwards",
      function()
        local conns = {}
        for i = 1, 5 do conns[i] = db:connect() end
        for i = 1, 5 do conns[i]:close() end
        db:exec "insert into item values (1)"
        server:restart(how)
        for _ = 1, 5 do assert.equal(1, db:query_value "select count(*) from item") end
      end)
  end

  it("a server that is killed loses no row that was acknowledged", function()
    for n = 1, 20 do db:exec("insert into item values (?)", n) end
    local tx = db:begin()
    tx:exec "insert into item values (1000)"
    server:kill()
    local err = expect.raised("ConnectionLostError", nil, tx.exec, tx,
      "insert into item values (1001)")
    assert.is_true(err.transaction_dead)
    pcall(tx.rollback, tx)
    server:start()
    assert.equal(20, recovers(db, 0))
  end)

  it("a server that is killed in the middle of rows raises there", function()
    fill(db)
    local got = 0
    expect.raised("ConnectionLostError", nil, function()
      for _ in db:query "select a.n, repeat('x', 1000) as t from item a, item b" do
        got = got + 1
        if got == 100 then server:kill() end
      end
    end)
    assert.is_true(got >= 100 and got < 1000000)
    server:start()
    assert.equal(1000, recovers(db, 0))
  end)

  it("a server that is down is told at once, not after acquire_timeout", function()
    assert.equal(0, db:query_value "select count(*) from item")
    server:kill()
    local start = now()
    for _ = 1, 3 do
      local err = expect.raised("ConnectivityError", nil, db.query, db, "select 1")
      assert.is_false(err.commit_unknown)
    end
    assert.is_true(now() - start < 3)
    server:start()
    assert.equal(0, recovers(db, 0))
  end)

  it("a transaction that is lost before its COMMIT was sent is tried again", function()
    local attempts = 0
    db:transaction(function(tx)
      attempts = attempts + 1
      tx:exec "insert into item values (1)"
      if attempts == 1 then
        kind.end_session(server, kind.session(tx))
        tx:exec "select 1"
      end
    end, { retry = { attempts = 3 } })
    assert.equal(2, attempts)
    assert.equal(1, db:query_value "select count(*) from item")
  end)

  it("a server that is frozen frees its callers in time", function()
    local other = moonbase.open(server:url(), { cancel_grace = 0.2, timeout = 0.2 })
    local conn = other:connect()
    server:freeze()
    local start = now()
    local ok, err = pcall(conn.exec, conn, "select 1")
    local took = now() - start
    server:thaw()
    assert.is_false(ok)
    assert.equal("TimeoutError", err.class)
    assert.is_true(err.connection_dead)
    assert.is_true(took >= 0.39 and took < 1, tostring(took))
    conn:close()
    assert.equal(1, other:query_value "select 1")
    other:close()
  end)

  it("a server that is frozen holds up neither a connect nor a close for long", function()
    local other = moonbase.open(server:url(), { connect_timeout = 0.3, timeout = 0.3,
      cancel_grace = 0.1, pool = { max = 2 } })
    local conn = other:connect()
    server:freeze()
    local start = now()
    local ok, err = pcall(other.connect, other)
    local connected = now() - start
    start = now()
    conn:close()
    other:close()
    local closed = now() - start
    server:thaw()
    assert.is_false(ok)
    assert.equal("ConnectivityError", err.class)
    assert.is_true(connected < 1.5, tostring(connected))
    assert.is_true(closed < 3, tostring(closed))
  end)

  describe("over a network", function()
    local network, far

    before_each(function()
      network = proxy.start(server.port)
      far = moonbase.open(server:tcp_url(nil, { port = network.port, tls = "off" }),
        { cancel_grace = 0.2 })
      far:query_value "select 1"
    end)

    after_each(function()
      network:tell "pass"
      far:close()
      network:close()
    end)

    local function rows()
      return db:query_value "select count(*) from item"
    end

    -- A write whose COMMIT meets what was told to the network.
    local function commit(timeout)
      local tx = far:begin(timeout and { timeout = timeout } or nil)
      tx:exec "insert into item values (1)"
      return pcall(tx.commit, tx)
    end

    it("that is cut before a COMMIT gets through, nothing is known, and nothing was done",
      function()
        network:tell "before drop commit"
        local ok, err = commit()
        assert.is_false(ok)
        assert.equal("ConnectionLostError", err.class)
        assert.is_true(err.commit_unknown)
        assert.equal(0, rows())
        network:tell "pass"
        recovers(far, 1)
      end)

    it("that is cut behind a COMMIT, nothing is known, and all was done", function()
      network:tell "after drop commit"
      local ok, err = commit()
      assert.is_false(ok)
      assert.equal("ConnectionLostError", err.class)
      assert.is_true(err.commit_unknown)
      -- The server may still be at it.
      local start = now()
      while rows() == 0 and now() - start < 5 do db:query_value(kind.pause) end
      assert.equal(1, rows())
    end)

    it("that falls silent behind a COMMIT, the time-out says that nothing is known", function()
      network:tell "after stop commit"
      local ok, err = commit(0.3)
      assert.is_false(ok)
      assert.equal("TimeoutError", err.class)
      assert.is_true(err.commit_unknown)
      assert.is_true(err.connection_dead)
    end)

    it("whose COMMIT is of unknown outcome, no transaction is tried again", function()
      local attempts = 0
      network:tell "before drop commit"
      local err = expect.raised("ConnectionLostError", nil, far.transaction, far, function(tx)
        attempts = attempts + 1
        tx:exec "insert into item values (1)"
      end, { retry = { attempts = 5 } })
      assert.is_true(err.commit_unknown)
      assert.equal(1, attempts)
    end)

    it("that is cut before anything of a transaction was sent, all is known", function()
      local tx = far:begin()
      network:tell "drop"
      local ok, err = pcall(tx.exec, tx, "insert into item values (1)")
      assert.is_false(ok)
      assert.is_false(err.commit_unknown)
      pcall(tx.rollback, tx)
      assert.equal(0, rows())
    end)

    it("that is cut in the middle of rows, the loop raises", function()
      fill(db)
      network:tell "cut 100000 down"
      local got = 0
      expect.raised("ConnectionLostError", nil, function()
        for _ in far:query "select n, repeat('x', 1000) as t from item" do got = got + 1 end
      end)
      assert.is_true(got > 50 and got < 100, tostring(got))
      network:tell "pass"
      recovers(far, 1)
    end)

    it("that is cut anywhere, the pool comes back, and what was acknowledged is there", function()
      local acknowledged, unknown, lost = 0, 0, 0
      local n = 0
      for round = 1, 60 do
        network:tell("cut " .. round * 17 .. (round % 2 == 0 and " up" or " down"))
        if round % 4 < 2 then network:tell "drop" end -- so that it has to connect
        repeat
          n = n + 1
          local ok, err = pcall(far.transaction, far, function(tx)
            tx:exec("insert into item values (?)", n)
          end)
          if ok then
            acknowledged = acknowledged + 1
          else
            lost = lost + 1
            assert.is_true(moonbase.is(err, "ConnectivityError"), tostring(err))
            if err.commit_unknown then unknown = unknown + 1 end
          end
        until not ok
        network:tell "pass"
        recovers(far, 1)
      end
      assert.is_true(rows() >= acknowledged and rows() <= acknowledged + unknown)
      assert.equal(60, lost)
      assert.is_true(acknowledged > 0 and unknown > 0)
    end)

    it("that delivers in small pieces, everything works", function()
      network:tell "slice 11"
      far:transaction(function(tx)
        for n = 1, 5 do tx:exec("insert into item values (?)", n) end
        assert.equal(5, tx:query_value "select count(*) from item")
      end)
      assert.equal(5, rows())
    end)
  end)
end

for _, database in ipairs(databases) do
  local kind = kinds[database.driver]
  if kind then
    describe("With " .. kind.name, function() specify(kind) end)
  end
end
