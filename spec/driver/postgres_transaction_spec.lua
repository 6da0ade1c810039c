-- Transactions of PostgreSQL: isolation, reading only, conflicts, COMMITs that are none.
local moonbase = require "moonbase"
local expect = require "spec.support.expect"
local postgres = require "spec.support.postgres"

describe("A transaction on PostgreSQL", function()
  local url, db

  before_each(function()
    url = postgres.shared():fresh()
    db = moonbase.open(url)
    db:exec "create table account (id integer primary key, balance integer not null)"
    db:exec "insert into account select i, 100 from generate_series(1, 10) i"
  end)

  after_each(function() db:close() end)

  local function setting(tx, name)
    return tx:query_value("select current_setting(?)", name)
  end

  for _, isolation in ipairs { "read uncommitted", "read committed", "repeatable read",
    "serializable" } do
    it("is " .. isolation .. " where that is asked for, and the next one is not", function()
      local conn = db:connect()
      conn:transaction(function(tx)
        assert.equal(isolation, setting(tx, "transaction_isolation"))
      end, { isolation = isolation })
      conn:transaction(function(tx)
        assert.equal("read committed", setting(tx, "transaction_isolation"))
      end)
      conn:close()
    end)
  end

  it("may only read, and be deferrable", function()
    db:transaction(function(tx)
      assert.equal("on", setting(tx, "transaction_read_only"))
      assert.equal("on", setting(tx, "transaction_deferrable"))
      assert.equal("serializable", setting(tx, "transaction_isolation"))
    end, { isolation = "serializable", read_only = true, deferrable = true })
    local err = expect.raised("ReadOnlyError", nil, db.transaction, db, function(tx)
      tx:exec "delete from account"
    end, { read_only = true })
    assert.equal("25006", err.code)
    assert.equal(10, db:query_value "select count(*) from account")
  end)

  it("has no mode, which is SQLite's", function()
    expect.raised("UnsupportedError", nil, db.begin, db, { mode = "immediate" })
  end)

  it("sees what it read before, where it is repeatable", function()
    db:transaction(function(tx)
      assert.equal(1000, tx:query_value "select sum(balance) from account")
      db:connect():exec "update account set balance = 0"
      assert.equal(1000, tx:query_value "select sum(balance) from account")
    end, { isolation = "repeatable read", read_only = true })
  end)

  it("in conflict with another is tried again, as a whole", function()
    local other = db:connect()
    local attempts = {}
    local total = db:transaction(function(tx)
      attempts[#attempts + 1] = tx.attempt
      local balance = tx:query_value "select balance from account where id = 1"
      if tx.attempt == 1 then other:exec "update account set balance = 50 where id = 1" end
      tx:exec("update account set balance = ? where id = 1", balance + 1)
      return balance + 1
    end, { isolation = "serializable", retry = { attempts = 5 } })
    assert.same({ 1, 2 }, attempts)
    assert.equal(51, total)
    assert.equal(51, db:query_value "select balance from account where id = 1")
    other:close()
  end)

  it("in conflict that is found at its COMMIT is tried again", function()
    -- Write skew: each reads what the other writes.
    local other = db:connect()
    local attempts = 0
    db:transaction(function(tx)
      attempts = attempts + 1
      tx:query_value "select sum(balance) from account where id in (1, 2)"
      if attempts == 1 then
        other:transaction(function(second)
          second:query_value "select sum(balance) from account where id in (1, 2)"
          second:exec "update account set balance = -50 where id = 2"
        end, { isolation = "serializable" })
      end
      local ok, err = pcall(tx.exec, tx, "update account set balance = -50 where id = 1")
      if not ok then error(err, 0) end
    end, { isolation = "serializable", retry = { attempts = 3 } })
    assert.equal(2, attempts)
    other:close()
  end)

  it("in conflict is an error that says so where it is not tried again", function()
    local other = db:connect()
    local err = expect.raised("SerializationError", nil, db.transaction, db, function(tx)
      tx:query_value "select balance from account where id = 1"
      other:exec "update account set balance = 50 where id = 1"
      tx:exec "update account set balance = 1 where id = 1"
    end, { isolation = "repeatable read" })
    assert.equal("40001", err.code)
    assert.is_true(err.retryable)
    assert.is_false(err.commit_unknown)
    other:close()
  end)

  it("that has failed is not committed by COMMIT, which is an error", function()
    local tx = db:begin()
    tx:exec "update account set balance = 0"
    pcall(tx.exec, tx, "select 1 / 0")
    local err = expect.raised("EngineError", nil, tx.commit, tx)
    assert.is_false(err.commit_unknown)
    assert.equal(1000, db:query_value "select sum(balance) from account")

    err = expect.raised("EngineError", nil, db.transaction, db, function(inner)
      inner:exec "update account set balance = 0"
      pcall(inner.exec, inner, "select 1 / 0")
    end)
    assert.is_false(err.commit_unknown)
    assert.equal(1000, db:query_value "select sum(balance) from account")
    assert.equal(0, db:stats().in_use)
  end)

  it("that a raw COMMIT or ROLLBACK has ended says so", function()
    local tx = db:begin()
    tx:exec "update account set balance = 0 where id = 1"
    tx:exec "rollback"
    expect.raised("EngineError", nil, tx.exec, tx, "update account set balance = 0")
    assert.equal(1000, db:query_value "select sum(balance) from account")
    pcall(tx.rollback, tx)
  end)

  it("that has failed inside goes on from its savepoint", function()
    db:transaction(function(tx)
      tx:exec "update account set balance = 1 where id = 1"
      for _ = 1, 3 do
        expect.raised("DataError", nil, tx.transaction, tx, function(inner)
          inner:exec "update account set balance = 2 where id = 1"
          inner:exec "select 1 / 0"
        end)
      end
      tx:transaction(function(inner) inner:exec "update account set balance = 3 where id = 2" end)
    end)
    assert.same({ 1, 3 },
      db:query_column "select balance from account where id in (1, 2) order by id")
  end)

  it("holds its definitions", function()
    local tx = db:begin()
    tx:exec "create table later (a integer)"
    tx:exec "insert into later values (1)"
    tx:rollback()
    expect.raised("SyntaxError", "later", db.query, db, "select * from later")
  end)

  it("whose deferred constraint fails at COMMIT is rolled back, and says why", function()
    db:exec "create table entry (account integer references account deferrable initially deferred)"
    local err = expect.raised("ConstraintError", nil, db.transaction, db, function(tx)
      tx:exec "insert into entry values (77)"
    end)
    assert.equal("entry_account_fkey", err.constraint)
    assert.is_false(err.commit_unknown)
    assert.equal(0, db:query_value "select count(*) from entry")
  end)

  it("that is left open as raw SQL does not reach the next borrower", function()
    local single = moonbase.open(url, { pool = { max = 1 } })
    local conn = single:connect()
    local pid = conn:query_value "select pg_backend_pid()"
    conn:exec "begin"
    conn:exec "update account set balance = 0"
    conn:close()
    conn = single:connect()
    assert.equal(pid, conn:query_value "select pg_backend_pid()")
    assert.equal(1000, conn:query_value "select sum(balance) from account")
    conn:close()
    single:close()
  end)

  it("leaves nothing of its session to the next borrower", function()
    local single = moonbase.open(url, { pool = { max = 1 },
      init = "set search_path to public, pg_temp" })
    local conn = single:connect()
    local pid = conn:query_value "select pg_backend_pid()"
    for _ = 1, 3 do conn:query_value("select balance from account where id = ?", 1) end
    conn:exec "set work_mem = '123kB'"
    conn:exec "set search_path to nowhere"
    conn:exec "create temporary table left_over (a integer)"
    conn:exec "listen something"
    conn:exec "select pg_advisory_lock(4711)"
    conn:exec "set session authorization default"
    conn:close()
    conn = single:connect()
    assert.equal(pid, conn:query_value "select pg_backend_pid()")
    assert.are_not.equal("123kB", conn:query_value "select current_setting('work_mem')")
    assert.equal("public, pg_temp", conn:query_value "select current_setting('search_path')")
    assert.equal("UTC", conn:query_value "select current_setting('TimeZone')")
    expect.raised("SyntaxError", nil, conn.query, conn, "select * from left_over")
    assert.equal(0, conn:query_value "select count(*) from pg_listening_channels()")
    assert.equal(0, conn:query_value
      "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()")
    for i = 1, 3 do
      assert.equal(100, conn:query_value("select balance from account where id = ?", i))
    end
    conn:close()
    single:close()
  end)

  it("keeps the total of all accounts, whoever moves what", function()
    local workers = {}
    for i = 1, 4 do workers[i] = moonbase.open(url):connect() end
    local moved = 0
    for round = 1, 50 do
      local from, to = round % 10 + 1, (round * 3) % 10 + 1
      local worker = workers[round % 4 + 1]
      worker:transaction(function(tx)
        tx:exec("update account set balance = balance - 1 where id = ?", from)
        tx:exec("update account set balance = balance + 1 where id = ?", to)
      end, { isolation = "serializable", retry = { attempts = 10 } })
      moved = moved + 1
    end
    assert.equal(50, moved)
    assert.equal(1000, db:query_value "select sum(balance) from account")
    for _, worker in ipairs(workers) do worker:close() end
  end)
end)
