-- Transactions of SQLite: modes, read-only ones, and what ends one unasked.
local moonbase = require "moonbase"
local expect = require "spec.support.expect"
local files = require "spec.support.files"
local now = require "moonbase.core".now

local endless = "with recursive n(i) as (select 1 union all select i + 1 from n) "

describe("A transaction of SQLite", function()
  local path, db

  before_each(function()
    path = files.path "a.db"
    db = moonbase.open("sqlite:" .. path, { pool = { single_writer = false } })
    db:exec_script "create table t (i integer); insert into t values (1);"
  end)

  after_each(function()
    db:close()
    files.clean()
  end)

  -- Whether another connection could write now.
  local function is_free()
    local x = db:with { timeout = 0.03 }
    local conn = x:connect()
    local ok, err = moonbase.pcall(conn.exec, conn, "update t set i = i")
    conn:close()
    if not ok then assert.equal("SQLITE_BUSY", err.code) end
    return ok
  end

  it("takes its lock as its mode says", function()
    local tx = db:begin()
    assert.is_false(is_free())
    tx:rollback()
    tx = db:begin { mode = "immediate" }
    assert.is_false(is_free())
    tx:rollback()
    tx = db:begin { mode = "exclusive" }
    assert.is_false(is_free())
    tx:rollback()
    tx = db:begin { mode = "deferred" }
    assert.is_true(is_free())
    tx:exec "insert into t values (2)"
    assert.is_false(is_free())
    tx:rollback()
    tx = db:begin { read_only = true }
    assert.equal(1, tx:query_value "select count(*) from t")
    assert.is_true(is_free())
    tx:rollback()
    assert.is_true(is_free())
  end)

  it("has the modes that its capability names, and no other", function()
    for _, mode in ipairs(db:capability().transaction_modes) do
      assert.equal(mode, db:transaction(function() return mode end, { mode = mode }))
    end
    expect.raised("UsageError", nil, db.begin, db, { mode = "concurrent" })
    expect.raised("UsageError", "takes no lock", db.begin, db,
      { mode = "immediate", read_only = true })
    expect.raised("UsageError", "takes no lock", db.begin, db,
      { mode = "exclusive", read_only = true })
    assert.equal(1, db:begin { mode = "deferred", read_only = true }:query_value
      "select count(*) from t")
  end)

  it("is serializable, and nothing else", function()
    assert.equal(1, db:transaction(function(tx)
      return tx:query_value "select count(*) from t"
    end, { isolation = "serializable" }))
    for _, isolation in ipairs { "read uncommitted", "read committed", "repeatable read" } do
      expect.raised("UnsupportedError", "isolation level", db.begin, db,
        { isolation = isolation })
    end
    expect.raised("UnsupportedError", "deferrable", db.begin, db, { deferrable = true })
  end)

  it("sees one moment of the database", function()
    local tx = db:begin { read_only = true }
    assert.equal(1, tx:query_value "select count(*) from t")
    db:connect():exec "insert into t values (2)"
    assert.equal(1, tx:query_value "select count(*) from t")
    tx:commit()
    assert.equal(2, db:query_value "select count(*) from t")
  end)

  it("that only reads refuses every kind of write", function()
    db:exec "create index t_i on t (i)"
    local conn = db:connect()
    conn:exec "create temp table scratch (i)"
    conn:exec "attach ':memory:' as other"
    conn:exec "create table other.t (i)"
    for _, text in ipairs { "insert into t values (2)", "update t set i = 2", "delete from t",
      "insert into t values (2) returning i", "create table u (i)", "drop table t",
      "create index i on t (i)", "insert into scratch values (1)", "create temp table u (i)",
      "insert into other.t values (1)", "create table other.u (i)", "pragma user_version = 7",
      "pragma application_id = 7", "pragma other.user_version = 7", "analyze", "reindex" } do
      local tx = conn:begin { read_only = true }
      local err = expect.raised("ReadOnlyError", "readonly database", tx.exec, tx, text)
      assert.equal("SQLITE_READONLY", err.code)
      assert.is_false(err.transaction_dead, text)
      assert.equal(1, tx:query_value "select count(*) from t")
      tx:commit()
    end
    -- What was prepared before is refused, too, and works again afterwards.
    local statement = conn:prepare "insert into scratch values (?)"
    assert.equal(1, (statement:exec(1)))
    local tx = conn:begin { read_only = true }
    expect.raised("ReadOnlyError", nil, tx.exec, tx, "insert into scratch values (?)", 2)
    tx:rollback()
    assert.equal(1, (statement:exec(2)))
    assert.equal(2, conn:query_value "select count(*) from scratch")
    conn:close()
  end)

  it("that only reads cannot be talked out of it", function()
    local conn = db:connect()
    for _, text in ipairs { "pragma query_only = 0", "pragma query_only(off)",
      "pragma main.query_only = false" } do
      pcall(conn.exec, conn, text) -- known to the cache, too
      local tx = conn:begin { read_only = true }
      local err = expect.raised("PermissionError", "not authorized", tx.exec, tx, text)
      assert.equal("SQLITE_AUTH", err.code)
      assert.equal(23, err.native_code)
      expect.raised("ReadOnlyError", nil, tx.exec, tx, "delete from t")
      assert.equal(1, tx:query_value "pragma query_only")
      tx:commit()
    end
    assert.equal(1, (conn:exec "delete from t"))
    conn:close()
  end)

  it("that only reads leaves a session that only reads as it was", function()
    local conn = db:connect()
    conn:exec "pragma query_only = 1"
    conn:transaction(function(tx)
      assert.equal(1, tx:query_value "select count(*) from t")
    end, { read_only = true })
    expect.raised("ReadOnlyError", nil, conn.exec, conn, "delete from t")
    conn:exec "pragma query_only = 0"
    assert.equal(1, (conn:exec "delete from t"))
    conn:close()
  end)

  it("that only reads and has a time-out is read-only no longer when it has ended", function()
    local conn = db:connect()
    expect.raised("TimeoutError", nil, conn.transaction, conn, function(tx)
      tx:query_value(endless .. "select count(*) from n")
    end, { read_only = true, timeout = 0.05 })
    assert.equal(1, (conn:exec "delete from t"))
    conn:close()
  end)

  it("whose deferred foreign key is broken fails at COMMIT, and is rolled back", function()
    db:exec_script [[create table parent (id integer primary key);
      create table child (p references parent (id) deferrable initially deferred);]]
    local tx = db:begin()
    tx:exec "insert into t values (2)"
    tx:exec "insert into child values (9)"
    local err = expect.raised("ConstraintError", "FOREIGN KEY", tx.commit, tx)
    assert.equal("SQLITE_CONSTRAINT_FOREIGNKEY", err.code)
    assert.equal("foreign_key", err.constraint_kind)
    assert.is_true(err.transaction_dead)
    assert.is_false(err.retryable)
    assert.is_false(err.commit_unknown)
    assert.same({ 1 }, db:query_column "select i from t")
    assert.equal(0, db:query_value "select count(*) from child")
    -- A savepoint's end does not look, and what is mended in time is well.
    db:transaction(function(outer)
      outer:transaction(function(inner) inner:exec "insert into child values (9)" end)
      outer:exec "insert into parent values (9)"
    end)
    assert.equal(1, db:query_value "select count(*) from child")
  end)

  it("ends with a write that its time-out interrupts, and the next statement says so", function()
    for _, write in ipairs { "insert into t " .. endless .. "select i from n",
      "update t set i = (" .. endless .. "select count(*) from n)",
      "delete from t where i = (" .. endless .. "select count(*) from n)",
      "create table u as " .. endless .. "select i from n" } do
      local tx = db:begin()
      tx:exec "insert into t values (2)"
      local started = now()
      local err = expect.raised("TimeoutError", "interrupted", function()
        tx:with { timeout = 0.05 }:exec(write)
      end)
      assert.is_true(now() - started < 20)
      assert.equal("SQLITE_INTERRUPT", err.code)
      assert.equal(9, err.native_code)
      assert.is_true(err.transaction_dead)
      assert.is_false(err.connection_dead)
      for _, text in ipairs { "insert into t values (3)", "select 1", "create table v (i)" } do
        err = expect.raised("EngineError", "not run: the transaction was ended by the database",
          tx.exec, tx, text)
        assert.is_true(err.transaction_dead)
      end
      expect.raised("EngineError", nil, tx.transaction, tx, function() error "it ran" end)
      expect.raised("EngineError", "not committed", tx.commit, tx)
      assert.same({ 1 }, db:query_column "select i from t")
    end
    assert.equal(1, db:stats().size)
  end)

  it("ends with an interrupted write inside its savepoint, too", function()
    local err = expect.raised("EngineError", "not run", db.transaction, db, function(tx)
      tx:exec "insert into t values (2)"
      expect.raised("TimeoutError", nil, tx.transaction, tx, function(inner)
        inner:with { timeout = 0.05 }:exec("insert into t " .. endless .. "select i from n")
      end)
      tx:exec "insert into t values (3)"
    end)
    assert.is_true(err.transaction_dead)
    assert.same({ 1 }, db:query_column "select i from t")
  end)

  it("stays with an interrupted read, whose rows end alone", function()
    local tx = db:begin()
    tx:exec "insert into t values (2)"
    local others = tx:query "select i from t order by i"
    assert.equal(1, others:next().i)
    local err = expect.raised("TimeoutError", nil, function()
      tx:with { timeout = 0.05 }:query_value(endless .. "select count(*) from n")
    end)
    assert.is_false(err.transaction_dead)
    assert.equal(2, others:next().i)
    tx:exec "insert into t values (3)"
    tx:commit()
    assert.same({ 1, 2, 3 }, db:query_column "select i from t order by i")
  end)

  it("may be ended by SQL text, and the next statement says so", function()
    for _, text in ipairs { "commit", "rollback", "end" } do
      local tx = db:begin()
      tx:exec "insert into t values (2)"
      tx:exec(text)
      expect.raised("EngineError", "was ended by the database", tx.exec, tx,
        "insert into t values (3)")
      tx:rollback()
      assert.equal(0, db:query_value "select count(*) from t where i = 3")
      db:exec "delete from t where i > 1"
    end
  end)

  it("may hold savepoints by SQL text beside those of its own", function()
    db:transaction(function(tx)
      tx:exec "savepoint mine"
      tx:exec "insert into t values (2)"
      tx:transaction(function(inner)
        inner:exec "insert into t values (3)"
        inner:rollback()
      end)
      tx:exec "rollback to mine"
      tx:exec "insert into t values (4)"
      tx:exec "release mine"
    end)
    assert.same({ 1, 4 }, db:query_column "select i from t order by i")
  end)

  it("refuses what SQLite cannot do in one", function()
    db:transaction(function(tx)
      for text, message in pairs { vacuum = "cannot VACUUM", ["begin"] = "within a transaction",
        ["pragma journal_mode = delete"] = "within a transaction" } do
        local err = expect.raised("EngineError", message, tx.exec, tx, text)
        assert.equal("SQLITE_ERROR", err.code)
        assert.is_false(err.transaction_dead)
      end
      tx:exec "insert into t values (2)"
    end)
    assert.equal(2, db:query_value "select count(*) from t")
  end)

  it("undoes definitions and their names", function()
    pcall(db.transaction, db, function(tx)
      tx:exec "alter table t rename to renamed"
      tx:exec "create table u (i)"
      assert.equal(1, tx:query_value "select count(*) from renamed")
      error "back"
    end)
    assert.equal(1, db:query_value "select count(*) from t")
    expect.raised("SyntaxError", "no such table", db.query, db, "select * from u")
  end)

  it("rolls back beside open rows, which were read before", function()
    local conn = db:connect()
    for i = 2, 200 do conn:exec("insert into t values (?)", i) end
    local rows = conn:query "select i from t order by i"
    assert.equal(1, rows:next().i)
    local tx = conn:begin()
    tx:exec "delete from t"
    tx:rollback()
    assert.equal(199, #rows:all())
    conn:close()
  end)
end)
