-- Locks of SQLite: between connections, between processes, and how they are waited for.
local moonbase = require "moonbase"
local child = require "spec.support.child"
local expect = require "spec.support.expect"
local files = require "spec.support.files"
local now = require "moonbase.core".now

-- Opens a file, does what it is told line by line, and says when it is done.
local neighbour = [[
  local db = require "moonbase".open("sqlite:" .. (...), { pragma = select(2, ...) })
  local tx
  local ways = {
    write = function() tx = db:begin() tx:exec "insert into t values (-1)" end,
    read = function() tx = db:begin { read_only = true } tx:query_all "select * from t" end,
    exclude = function() tx = db:begin { mode = "exclusive" } end,
    commit = function() tx:commit() end,
    rollback = function() tx:rollback() end,
    add = function() db:exec "insert into t values (-2)" end,
  }
  for line in io.lines() do
    ways[line]()
    print(line)
    io.stdout:flush()
  end
]]

describe("A lock of SQLite", function()
  local path, db, other

  local function start(pragma)
    db = moonbase.open("sqlite:" .. path, { pragma = pragma })
    db:exec "create table if not exists t (i)"
    other = child.start(neighbour, path, pragma or "cache_size = -2000")
  end

  local function tell(line)
    other:tell(line)
    assert.equal(line, other:hear())
  end

  before_each(function() path = files.path "a.db" end)

  after_each(function()
    other:finish()
    db:close()
    files.clean()
  end)

  -- How long a call takes that waits for a lock in vain.
  local function wait_in_vain(x, text, class)
    local start_at = now()
    local err = expect.raised(class or "TimeoutError", nil, x.exec, x, text)
    return now() - start_at, err
  end

  it("of another process's write is waited for, and no reader is kept out", function()
    start()
    tell "write"
    assert.equal(0, db:query_value "select count(*) from t")
    local took, err = wait_in_vain(db:with { timeout = 0.2 }, "insert into t values (1)")
    assert.equal("SQLITE_BUSY", err.code)
    assert.equal(5, err.native_code)
    assert.is_true(err.retryable)
    assert.is_true(took >= 0.19, "it ended too early")
    tell "commit"
    db:exec "insert into t values (1)"
    assert.same({ -1, 1 }, db:query_column "select i from t order by i")
  end)

  it("is waited for as long as busy_timeout says, from the first try on", function()
    start()
    tell "write"
    for _, ms in ipairs { 0, 50, 300 } do
      local conn = db:connect()
      conn:exec("pragma busy_timeout = " .. ms)
      local took, err = wait_in_vain(conn, "insert into t values (1)")
      assert.equal("SQLITE_BUSY", err.code)
      assert.is_true(took >= ms / 1000 * 0.99 and took < ms / 1000 + 10, ms)
      conn:close()
    end
    local set = moonbase.open("sqlite:" .. path, { pragma = "busy_timeout = 100" })
    local took = wait_in_vain(set, "insert into t values (1)")
    assert.is_true(took >= 0.09 and took < 20)
    set:close()
  end)

  it("is waited for as the last busy_timeout says, also when that is a text run before", function()
    start()
    tell "write"
    local conn = db:connect()
    for _, ms in ipairs { 200, 0, 200, 0 } do
      conn:exec("pragma busy_timeout = " .. ms)
      local took = wait_in_vain(conn, "insert into t values (1)")
      assert.is_true(took >= ms / 1000 * 0.99)
      assert.is_true(took < 4)
    end
    conn:close()
  end)

  it("is waited for by our own rules also after busy_timeout was only prepared", function()
    start()
    tell "write"
    local conn = db:connect()
    local statement = conn:prepare "pragma busy_timeout = 60000"
    -- SQLite's own handler would sleep past the end of the time-out.
    local took = wait_in_vain(conn:with { timeout = 0.1 }, "insert into t values (1)")
    assert.is_true(took >= 0.09 and took < 20)
    statement:close()
    conn:close()
  end)

  it("of five seconds is the usual wait", function()
    start()
    tell "write"
    local took = wait_in_vain(db, "insert into t values (1)")
    assert.is_true(took >= 4.9 and took < 30)
  end)

  it("is had as soon as it is free", function()
    start()
    tell "write"
    local statement = db:prepare "insert into t values (1)"
    other:tell "commit" -- while this process waits, or before
    assert.equal(1, (statement:exec()))
    assert.equal("commit", other:hear())
    statement:close()
  end)

  it("that a cancellation comes before is not waited for", function()
    start()
    tell "write"
    local stop = moonbase.cancellation()
    stop:cancel "enough"
    local took = wait_in_vain(db:with { cancel = stop }, "insert into t values (1)",
      "CanceledError")
    assert.is_true(took < 4)
  end)

  it("lets open rows of the connection go on when the wait for it ends", function()
    start()
    db:bulk_insert("t", { "i" }, (function()
      local rows = {}
      for i = 1, 500 do rows[i] = { i } end
      return rows
    end)())
    tell "write"
    local conn = db:connect()
    local rows = conn:query "select i from t order by i"
    rows:next()
    wait_in_vain(conn:with { timeout = 0.05 }, "insert into t values (1)")
    assert.equal(499, #rows:all())
    conn:close()
  end)

  it("is kept by a transaction from its beginning", function()
    start()
    tell "write"
    local err = expect.raised("TimeoutError", nil, function()
      db:with { timeout = 0.05 }:transaction(function() error "the function ran" end)
    end)
    assert.equal("begin", err.origin)
    -- A deferred one begins, and waits at its first write; one that has read could only
    -- wait for a deadlock.
    local tx = db:begin { mode = "deferred" }
    wait_in_vain(tx:with { timeout = 0.05 }, "insert into t values (1)")
    tx:rollback()
    tx = db:begin { mode = "deferred" }
    assert.equal(0, tx:query_value "select count(*) from t")
    local _, busy = wait_in_vain(tx, "insert into t values (1)", "SerializationError")
    assert.equal("SQLITE_BUSY", busy.code)
    assert.is_true(busy.retryable)
    tx:rollback()
  end)

  it("cannot be had for what somebody has changed since it was read", function()
    start()
    local tx = db:begin { mode = "deferred" }
    assert.equal(0, tx:query_value "select count(*) from t")
    tell "add"
    local err = expect.raised("SerializationError", nil, tx.exec, tx, "insert into t values (1)")
    assert.equal("SQLITE_BUSY_SNAPSHOT", err.code)
    assert.equal(517, err.native_code)
    assert.is_true(err.retryable)
    tx:rollback()
    -- Run again, as retryable says, it sees the change.
    local attempts = db:transaction(function(again)
      local n = again:query_value "select count(*) from t"
      if again.attempt == 1 then tell "add" end
      again:exec("insert into t values (?)", n)
      return again.attempt
    end, { mode = "deferred", retry = { attempts = 3 } })
    assert.equal(2, attempts)
    assert.equal(3, db:query_value "select count(*) from t")
  end)

  it("that would be a deadlock is not waited for", function()
    start "journal_mode = delete"
    -- Both have read; the other one waits for the readers to go, so this one may not wait
    -- for it.
    local tx = db:begin { mode = "deferred" }
    assert.equal(0, tx:query_value "select count(*) from t")
    local second = moonbase.open("sqlite:" .. path, {
      pragma = { "journal_mode = delete", "busy_timeout = 0" } })
    local writing = second:begin { mode = "deferred" }
    writing:exec "insert into t values (2)"
    local started = now()
    local err = expect.raised("SerializationError", nil, tx.exec, tx, "insert into t values (1)")
    assert.equal("SQLITE_BUSY", err.code)
    assert.is_true(err.retryable)
    assert.is_true(now() - started < 4)
    tx:rollback()
    writing:commit()
    second:close()
  end)

  it("may keep a COMMIT waiting without a log; when that fails all is rolled back", function()
    start "journal_mode = delete"
    tell "read"
    local x = db:with { timeout = 0.1 }
    local tx = x:begin()
    tx:exec "insert into t values (1)"
    local err = expect.raised("TimeoutError", nil, tx.commit, tx)
    assert.equal("SQLITE_BUSY", err.code)
    assert.is_true(err.retryable)
    assert.is_true(err.transaction_dead)
    assert.is_false(err.commit_unknown)
    expect.raised("UsageError", "has ended", tx.commit, tx)
    assert.equal(0, db:query_value "select count(*) from t")
    assert.equal(0, db:stats().in_use)
    tell "commit"
    x:transaction(function(again) again:exec "insert into t values (1)" end)
    assert.equal(1, db:query_value "select count(*) from t")
  end)

  it("of an exclusive transaction keeps readers out without a log, and not with one", function()
    start "journal_mode = delete"
    tell "exclude"
    local x = db:with { timeout = 0.1 }
    expect.raised("TimeoutError", nil, x.query_value, x, "select count(*) from t")
    tell "commit"
    assert.equal(0, x:query_value "select count(*) from t")
    local second = moonbase.open("sqlite:" .. path)
    second:exec "insert into t values (1)"
    assert.equal("wal", second:query_value "pragma journal_mode")
    tell "exclude"
    assert.equal(1, second:query_value "select count(*) from t")
    tell "commit"
    second:close()
  end)

  it("keeps a connection from being opened no longer than its time", function()
    start "journal_mode = delete"
    tell "exclude"
    local second = moonbase.open("sqlite:" .. path, { connect_timeout = 0.2 })
    local started = now()
    local err = expect.raised("ConnectivityError", nil, second.ping, second)
    assert.is_true(now() - started >= 0.19 and now() - started < 8)
    assert.equal("TimeoutError", err.cause and err.cause.class)
    tell "commit"
    assert.is_true(second:ping())
    second:close()
  end)

  it("that another process's death has left is none", function()
    start()
    local dying = child.start(neighbour, path, "cache_size = -2000")
    dying:tell "write"
    assert.equal("write", dying:hear())
    dying:finish() -- without an end of its transaction
    assert.equal(1, (db:exec "insert into t values (1)"))
    assert.same({ 1 }, db:query_column "select i from t")
  end)
end)

describe("Several processes", function()
  after_each(files.clean)

  it("write one file, one after the other, and nothing is lost", function()
    local path = files.path "a.db"
    local db = moonbase.open("sqlite:" .. path)
    db:exec "create table counter (n integer)"
    db:exec "insert into counter values (0)"
    local running, each = {}, 50
    for i = 1, 4 do
      running[i] = child.start([[
        local db = require "moonbase".open("sqlite:" .. (...), { pragma = "busy_timeout = 60000" })
        print "ready"
        io.stdout:flush()
        io.read()
        for _ = 1, tonumber((select(2, ...))) do
          db:transaction(function(tx)
            local n = tx:query_value "select n from counter"
            tx:exec("update counter set n = ?", n + 1)
          end)
        end
        db:close()
      ]], path, each)
    end
    for _, one in ipairs(running) do assert.equal("ready", one:hear()) end
    for _, one in ipairs(running) do one:tell "go" end
    for _, one in ipairs(running) do assert.equal("", one:finish()) end
    assert.equal(4 * each, db:query_value "select n from counter")
    assert.equal("ok", db:query_value "pragma integrity_check")
    db:close()
  end)
end)
