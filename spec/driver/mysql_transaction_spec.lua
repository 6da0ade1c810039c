-- Transactions of MySQL: isolation, reading only, conflicts, what ends one by itself, what a
-- session leaves to the next borrower.
local moonbase = require "moonbase"
local child = require "spec.support.child"
local expect = require "spec.support.expect"
local files = require "spec.support.files"
local mysql = require "spec.support.mysql"

describe("A transaction on MySQL", function()
  local server, url, db

  before_each(function()
    server = mysql.shared()
    url = server:fresh()
    db = moonbase.open(url)
    db:exec "create table account (id integer primary key, balance integer not null)"
    local rows = {}
    for i = 1, 10 do rows[i] = { i, 100 } end
    db:bulk_insert("account", { "id", "balance" }, rows)
  end)

  after_each(function()
    db:close()
    files.clean()
  end)

  local function total(x)
    return tonumber(x:query_value "select sum(balance) from account")
  end

  -- What a transaction with an isolation sees of another one: uncommitted rows, committed ones.
  local function sees(isolation)
    local writer, seen = db:begin(), {}
    local conn = db:connect()
    conn:transaction(function(tx)
      seen.before = total(tx)
      writer:exec "update account set balance = 0 where id = 1"
      seen.uncommitted = total(tx)
      writer:commit()
      seen.committed = total(tx)
    end, { isolation = isolation })
    conn:close()
    return seen
  end

  it("sees what its isolation lets it see", function()
    assert.same({ before = 1000, uncommitted = 900, committed = 900 }, sees "read uncommitted")
    db:exec "update account set balance = 100"
    assert.same({ before = 1000, uncommitted = 1000, committed = 900 }, sees "read committed")
    db:exec "update account set balance = 100"
    assert.same({ before = 1000, uncommitted = 1000, committed = 1000 }, sees "repeatable read")
  end)

  it("that is serializable locks what it reads", function()
    db:transaction(function(tx)
      assert.equal(1000, total(tx))
      local other = db:connect():with{ timeout = 0.2 }
      expect.raised("TimeoutError", nil, other.exec, other, "update account set balance = 0")
    end, { isolation = "serializable" })
  end)

  it("leaves its isolation to nobody", function()
    local conn, other = db:connect(), moonbase.open(url)
    for _, isolation in ipairs { "read uncommitted", "serializable" } do
      conn:transaction(function(tx) total(tx) end, { isolation = isolation })
      conn:transaction(function(tx)
        local before = total(tx)
        other:exec "update account set balance = balance + 1 where id = 1"
        assert.equal(before, total(tx)) -- repeatable read, which is the server's own
      end)
    end
    other:close()
    conn:close()
  end)

  it("may only read", function()
    local err = expect.raised("ReadOnlyError", nil, db.transaction, db, function(tx)
      tx:exec "delete from account"
    end, { read_only = true })
    assert.equal(1792, err.native_code)
    assert.equal(10, db:query_value "select count(*) from account")
    db:transaction(function(tx)
      assert.equal(1000, total(tx))
    end, { read_only = true, isolation = "read committed" })
    assert.equal(10, (db:exec "update account set balance = 1"))
  end)

  it("has no mode, which is SQLite's, and is not deferrable", function()
    expect.raised("UnsupportedError", nil, db.begin, db, { mode = "immediate" })
    expect.raised("UnsupportedError", nil, db.begin, db, { deferrable = true })
  end)

  it("that a definition has ended says so at the next statement", function()
    local tx = db:begin()
    tx:exec "update account set balance = 0 where id = 1"
    -- It commits what came before, and the transaction is over.
    pcall(tx.exec, tx, "create table other (i integer)")
    expect.raised("EngineError", nil, tx.exec, tx, "update account set balance = 0 where id = 2")
    pcall(tx.rollback, tx)
    assert.equal(900, total(db))
    assert.is_false(db:capability().transactional_ddl)
  end)

  it("that a definition has ended is not reported as committed as a whole", function()
    local ok = pcall(db.transaction, db, function(tx)
      tx:exec "update account set balance = 0 where id = 1"
      tx:exec "create table other (i integer)"
      tx:exec "update account set balance = 0 where id = 2"
    end)
    assert.is_false(ok)
    assert.equal(900, total(db))
    assert.equal(0, db:stats().in_use)
  end)

  it("that a raw COMMIT or ROLLBACK has ended says so", function()
    for _, text in ipairs { "rollback", "commit" } do
      local tx = db:begin()
      tx:exec "update account set balance = balance where id = 1"
      tx:exec(text)
      expect.raised("EngineError", nil, tx.exec, tx, "update account set balance = 0")
      pcall(tx.rollback, tx)
      assert.equal(1000, total(db))
    end
  end)

  it("goes on behind a statement that has failed, in itself and in a savepoint", function()
    db:transaction(function(tx)
      tx:exec "update account set balance = 1 where id = 1"
      expect.raised("ConstraintError", nil, tx.exec, tx, "insert into account values (1, 1)")
      for _ = 1, 3 do
        expect.raised("ConstraintError", nil, tx.transaction, tx, function(inner)
          inner:exec "update account set balance = 2 where id = 1"
          inner:exec "insert into account values (2, 1)"
        end)
      end
      tx:transaction(function(inner) inner:exec "update account set balance = 3 where id = 2" end)
    end)
    assert.same({ 1, 3 },
      db:query_column "select balance from account where id in (1, 2) order by id")
  end)

  it("that has lost a deadlock is tried again as a whole, also from inside a savepoint", function()
    local other = child.start([[
      local moonbase = require "moonbase"
      local db = moonbase.open(...)
      local tx = db:begin()
      -- It writes more, so the other one is the victim.
      for id = 101, 120 do tx:exec("insert into account values (?, 0)", id) end
      tx:exec "update account set balance = balance + 1 where id = 2"
      print "locked"
      io.stdout:flush()
      io.read()
      tx:exec "update account set balance = balance + 1 where id = 1"
      tx:exec "delete from account where id > 100"
      tx:commit()
      print "done"
    ]], url)
    assert.equal("locked", other:hear())
    local attempts, rolled_back = 0, 0
    db:transaction(function(tx)
      attempts = attempts + 1
      tx:on_rollback(function() rolled_back = rolled_back + 1 end)
      tx:exec "update account set balance = balance + 10 where id = 1"
      if attempts == 1 then other:tell "go" end
      tx:transaction(function(inner)
        inner:exec "update account set balance = balance + 10 where id = 2"
      end)
    end, { retry = { attempts = 5 } })
    assert.equal("done\n", other:finish())
    assert.equal(2, attempts)
    assert.equal(1, rolled_back)
    assert.equal(1022, total(db))
  end)

  it("that has waited too long for a lock is tried again behind a rollback", function()
    local holder = db:begin()
    holder:exec "update account set balance = 0 where id = 1"
    local conn = db:connect()
    conn:exec "set innodb_lock_wait_timeout = 1"
    local attempts = 0
    conn:transaction(function(tx)
      attempts = attempts + 1
      tx:exec "update account set balance = balance + 1 where id = 2"
      if attempts == 2 then holder:rollback() end
      tx:exec "update account set balance = balance + 1 where id = 1"
    end, { retry = { attempts = 3 } })
    assert.equal(2, attempts)
    assert.equal(1002, total(db))
    conn:close()
  end)

  it("that is left open as raw SQL does not reach the next borrower", function()
    local single = moonbase.open(url, { pool = { max = 1 } })
    for _, begin in ipairs { "begin", "set autocommit = 0", "start transaction" } do
      local conn = single:connect()
      local id = conn:query_value "select connection_id()"
      conn:exec(begin)
      conn:exec "update account set balance = 0"
      conn:close()
      conn = single:connect()
      assert.equal(id, conn:query_value "select connection_id()")
      assert.equal(1000, total(conn))
      conn:exec "update account set balance = balance + 1 where id = 1"
      conn:close()
      assert.equal(1001, total(db))
      db:exec "update account set balance = 100"
    end
    single:close()
  end)

  it("leaves nothing of its session to the next borrower", function()
    local single = moonbase.open(url, { pool = { max = 1 }, init = "set @mine = 7" })
    local conn = single:connect()
    local id = conn:query_value "select connection_id()"
    for _ = 1, 3 do conn:query_value("select balance from account where id = ?", 1) end
    conn:exec "set @mine = 8, @other = 9"
    conn:exec "set session sort_buffer_size = 123456, sql_mode = '', time_zone = '+05:00'"
    conn:exec "set names latin1"
    conn:exec "set session transaction isolation level read uncommitted"
    conn:exec "create temporary table left_over (a integer)"
    conn:exec "lock tables account read"
    conn:exec "unlock tables"
    conn:query_value "select get_lock('moonbase spec', 0)"
    conn:close()
    conn = single:connect()
    assert.equal(id, conn:query_value "select connection_id()")
    assert.same({ "7" }, { tostring(conn:query_value "select @mine") })
    assert.is_nil(conn:query_value "select @other")
    assert.are_not.equal(123456, conn:query_value "select @@sort_buffer_size")
    assert.match("STRICT", conn:query_value "select @@sql_mode")
    assert.equal("+00:00", conn:query_value "select @@time_zone")
    assert.equal("utf8mb4", conn:query_value "select @@character_set_client")
    assert.equal("\226\130\172", conn:query_value("select ?", "\226\130\172"))
    expect.raised("SyntaxError", nil, conn.query, conn, "select * from left_over")
    assert.equal(1, db:query_value "select is_free_lock('moonbase spec')")
    for i = 1, 3 do
      assert.equal(100, conn:query_value("select balance from account where id = ?", i))
    end
    conn:close()
    single:close()
  end)

  it("keeps the total of all accounts, whoever moves what", function()
    local workers = {}
    for i = 1, 4 do workers[i] = moonbase.open(url):connect() end
    for round = 1, 50 do
      local from, to = round % 10 + 1, (round * 3) % 10 + 1
      workers[round % 4 + 1]:transaction(function(tx)
        local balance = tx:query_value("select balance from account where id = ? for update", from)
        tx:exec("update account set balance = ? where id = ?", balance - 1, from)
        tx:exec("update account set balance = balance + 1 where id = ?", to)
      end, { isolation = "repeatable read", retry = { attempts = 10 } })
    end
    assert.equal(1000, total(db))
    for _, worker in ipairs(workers) do worker:close() end
  end)
end)
