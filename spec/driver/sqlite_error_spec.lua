-- SQLite's result codes as errors: each class, provoked for real where a program can do it,
-- else by a function that ends its statement with the code.
local moonbase = require "moonbase"
local expect = require "spec.support.expect"
local extension = require "spec.support.extension"
local files = require "spec.support.files"

-- Code, name, class, and whether the connection is of no further use.
local codes = {
  { 1, "SQLITE_ERROR", "EngineError" },
  { 257, "SQLITE_ERROR_MISSING_COLLSEQ", "EngineError" },
  { 513, "SQLITE_ERROR_RETRY", "EngineError" },
  { 769, "SQLITE_ERROR_SNAPSHOT", "EngineError" },
  { 2, "SQLITE_INTERNAL", "EngineError" },
  { 3, "SQLITE_PERM", "PermissionError" },
  { 4, "SQLITE_ABORT", "EngineError" },
  { 516, "SQLITE_ABORT_ROLLBACK", "EngineError" },
  { 6, "SQLITE_LOCKED", "EngineError" },
  { 518, "SQLITE_LOCKED_VTAB", "EngineError" },
  { 7, "SQLITE_NOMEM", "ResourceError" },
  { 8, "SQLITE_READONLY", "ReadOnlyError" },
  { 264, "SQLITE_READONLY_RECOVERY", "ReadOnlyError" },
  { 520, "SQLITE_READONLY_CANTLOCK", "ReadOnlyError" },
  { 776, "SQLITE_READONLY_ROLLBACK", "ReadOnlyError" },
  { 1032, "SQLITE_READONLY_DBMOVED", "ReadOnlyError" },
  { 1288, "SQLITE_READONLY_CANTINIT", "ReadOnlyError" },
  { 1544, "SQLITE_READONLY_DIRECTORY", "ReadOnlyError" },
  { 9, "SQLITE_INTERRUPT", "CanceledError" },
  { 10, "SQLITE_IOERR", "ConnectivityError", true },
  { 266, "SQLITE_IOERR_READ", "ConnectivityError", true },
  { 522, "SQLITE_IOERR_SHORT_READ", "ConnectivityError", true },
  { 778, "SQLITE_IOERR_WRITE", "ConnectivityError", true },
  { 1034, "SQLITE_IOERR_FSYNC", "ConnectivityError", true },
  { 1290, "SQLITE_IOERR_DIR_FSYNC", "ConnectivityError", true },
  { 1546, "SQLITE_IOERR_TRUNCATE", "ConnectivityError", true },
  { 1802, "SQLITE_IOERR_FSTAT", "ConnectivityError", true },
  { 2058, "SQLITE_IOERR_UNLOCK", "ConnectivityError", true },
  { 2314, "SQLITE_IOERR_RDLOCK", "ConnectivityError", true },
  { 2570, "SQLITE_IOERR_DELETE", "ConnectivityError", true },
  { 3338, "SQLITE_IOERR_ACCESS", "ConnectivityError", true },
  { 3594, "SQLITE_IOERR_CHECKRESERVEDLOCK", "ConnectivityError", true },
  { 3850, "SQLITE_IOERR_LOCK", "ConnectivityError", true },
  { 4106, "SQLITE_IOERR_CLOSE", "ConnectivityError", true },
  { 4362, "SQLITE_IOERR_DIR_CLOSE", "ConnectivityError", true },
  { 4618, "SQLITE_IOERR_SHMOPEN", "ConnectivityError", true },
  { 4874, "SQLITE_IOERR_SHMSIZE", "ConnectivityError", true },
  { 5130, "SQLITE_IOERR_SHMLOCK", "ConnectivityError", true },
  { 5386, "SQLITE_IOERR_SHMMAP", "ConnectivityError", true },
  { 5642, "SQLITE_IOERR_SEEK", "ConnectivityError", true },
  { 5898, "SQLITE_IOERR_DELETE_NOENT", "ConnectivityError", true },
  { 6154, "SQLITE_IOERR_MMAP", "ConnectivityError", true },
  { 6410, "SQLITE_IOERR_GETTEMPPATH", "ConnectivityError" },
  { 6666, "SQLITE_IOERR_CONVPATH", "ConnectivityError", true },
  { 6922, "SQLITE_IOERR_VNODE", "ConnectivityError", true },
  { 7178, "SQLITE_IOERR_AUTH", "ConnectivityError", true },
  { 7434, "SQLITE_IOERR_BEGIN_ATOMIC", "ConnectivityError", true },
  { 7690, "SQLITE_IOERR_COMMIT_ATOMIC", "ConnectivityError", true },
  { 7946, "SQLITE_IOERR_ROLLBACK_ATOMIC", "ConnectivityError", true },
  { 8202, "SQLITE_IOERR_DATA", "ConnectivityError", true },
  { 11, "SQLITE_CORRUPT", "ConnectivityError", true },
  { 267, "SQLITE_CORRUPT_VTAB", "ConnectivityError" },
  { 523, "SQLITE_CORRUPT_SEQUENCE", "ConnectivityError" },
  { 779, "SQLITE_CORRUPT_INDEX", "ConnectivityError", true },
  { 12, "SQLITE_NOTFOUND", "EngineError" },
  { 13, "SQLITE_FULL", "ResourceError" },
  { 14, "SQLITE_CANTOPEN", "ConnectivityError" },
  { 270, "SQLITE_CANTOPEN_NOTEMPDIR", "ConnectivityError" },
  { 526, "SQLITE_CANTOPEN_ISDIR", "ConnectivityError" },
  { 782, "SQLITE_CANTOPEN_FULLPATH", "ConnectivityError" },
  { 1038, "SQLITE_CANTOPEN_CONVPATH", "ConnectivityError" },
  { 1294, "SQLITE_CANTOPEN_DIRTYWAL", "ConnectivityError" },
  { 1550, "SQLITE_CANTOPEN_SYMLINK", "ConnectivityError" },
  { 15, "SQLITE_PROTOCOL", "EngineError" },
  { 16, "SQLITE_EMPTY", "EngineError" },
  { 17, "SQLITE_SCHEMA", "EngineError" },
  { 18, "SQLITE_TOOBIG", "DataError" },
  { 19, "SQLITE_CONSTRAINT", "ConstraintError" },
  { 275, "SQLITE_CONSTRAINT_CHECK", "ConstraintError" },
  { 531, "SQLITE_CONSTRAINT_COMMITHOOK", "ConstraintError" },
  { 787, "SQLITE_CONSTRAINT_FOREIGNKEY", "ConstraintError" },
  { 1043, "SQLITE_CONSTRAINT_FUNCTION", "ConstraintError" },
  { 1299, "SQLITE_CONSTRAINT_NOTNULL", "ConstraintError" },
  { 1555, "SQLITE_CONSTRAINT_PRIMARYKEY", "ConstraintError" },
  { 1811, "SQLITE_CONSTRAINT_TRIGGER", "ConstraintError" },
  { 2067, "SQLITE_CONSTRAINT_UNIQUE", "ConstraintError" },
  { 2323, "SQLITE_CONSTRAINT_VTAB", "ConstraintError" },
  { 2579, "SQLITE_CONSTRAINT_ROWID", "ConstraintError" },
  { 2835, "SQLITE_CONSTRAINT_PINNED", "ConstraintError" },
  { 3091, "SQLITE_CONSTRAINT_DATATYPE", "ConstraintError" },
  { 20, "SQLITE_MISMATCH", "DataError" },
  { 21, "SQLITE_MISUSE", "EngineError" },
  { 22, "SQLITE_NOLFS", "EngineError" },
  { 23, "SQLITE_AUTH", "PermissionError" },
  { 279, "SQLITE_AUTH_USER", "PermissionError" },
  { 24, "SQLITE_FORMAT", "EngineError" },
  { 25, "SQLITE_RANGE", "EngineError" },
  { 26, "SQLITE_NOTADB", "ConnectivityError", true },
}

describe("A result code of SQLite", function()
  local db

  before_each(function()
    db = moonbase.open("sqlite:" .. files.path "case.db",
      { extensions = { extension.compile "sqlite_fail" } })
    db:exec "create table item (id integer primary key, name text not null)"
  end)

  after_each(function()
    db:close()
    files.clean()
  end)

  it("has a class, a name and a number", function()
    for _, row in ipairs(codes) do
      local code, name, class, dead = row[1], row[2], row[3], row[4] or false
      local err = expect.raised(class, nil, db.query_value, db, "select fail(?)", code)
      assert.equal(name, err.code)
      assert.equal(code, err.native_code)
      assert.equal(dead, err.connection_dead, name)
      assert.is_false(err.retryable, name)
      assert.equal("sqlite", err.driver)
      assert.is_truthy(tostring(err):find("[sqlite " .. name .. "]", 1, true))
      assert.equal(1, db:query_value "select 1")
    end
  end)

  it("that says try again is retryable", function()
    for code, name in pairs { [5] = "SQLITE_BUSY", [261] = "SQLITE_BUSY_RECOVERY",
      [517] = "SQLITE_BUSY_SNAPSHOT", [262] = "SQLITE_LOCKED_SHAREDCACHE",
      [773] = "SQLITE_BUSY_TIMEOUT" } do
      local err = expect.raised("SerializationError", nil, db.query_value, db,
        "select fail(?)", code)
      assert.equal(name, err.code)
      assert.is_true(err.retryable)
    end
  end)

  it("that SQLite itself gives as a plainer one is that", function()
    local err = expect.raised("ConnectivityError", nil, db.query_value, db, "select fail(8458)")
    assert.equal("SQLITE_CORRUPT", err.code) -- a damaged file system: SQLITE_IOERR_CORRUPTFS
    assert.equal(11, err.native_code)
    err = expect.raised("ResourceError", nil, db.query_value, db, "select fail(3082)")
    assert.equal("SQLITE_NOMEM", err.code) -- SQLITE_IOERR_NOMEM
    assert.is_false(err.connection_dead)
  end)

  it("that nobody knows stays an EngineError with its number", function()
    for _, code in ipairs { 99, 27, 28, 100, 101, 12345 * 256 + 99 } do
      local err = expect.raised("EngineError", nil, db.query_value, db, "select fail(?)", code)
      assert.equal(code, err.native_code)
      assert.is_nil(err.code)
    end
  end)

  it("that nobody knows, of a family that is known, has the class of that", function()
    local err = expect.raised("ConstraintError", nil, db.query_value, db, "select fail(?)",
      200 * 256 + 19)
    assert.equal("SQLITE_CONSTRAINT", err.code)
    assert.equal(200 * 256 + 19, err.native_code)
  end)

  it("that ends a connection ends its transaction, and another connection serves", function()
    local conn = db:connect()
    local tx = conn:begin()
    tx:exec "insert into item (name) values ('a')"
    local err = expect.raised("ConnectivityError", nil, tx.query, tx, "select fail(10)")
    assert.is_true(err.transaction_dead)
    err = expect.raised("ConnectionLostError", "lost before", tx.exec, tx, "select 1")
    assert.is_true(err.transaction_dead)
    tx:rollback()
    expect.raised("ConnectionLostError", "lost before", conn.query, conn, "select 1")
    conn:close()
    assert.equal(0, db:query_value "select count(*) from item")
    assert.equal(2, db:stats().created)
  end)

  it("leaves the one connection of a database in memory alive", function()
    local memory = moonbase.open("sqlite::memory:",
      { extensions = { extension.compile "sqlite_fail" } })
    memory:exec "create table item (i integer)"
    memory:exec "insert into item values (7)"
    for _, code in ipairs { 10, 11, 26, 778 } do
      local err = expect.raised("ConnectivityError", nil, memory.query, memory,
        "select fail(?)", code)
      assert.is_false(err.connection_dead)
    end
    assert.equal(7, memory:query_value "select i from item")
    memory:close()
  end)

  it("of an interrupt that nobody asked for is a CanceledError", function()
    local err = expect.raised("CanceledError", "interrupted", db.query_value, db,
      "with recursive n(i) as (select 1 union all select i + 1 from n) "
      .. "select count(*) from n where interrupt()")
    assert.equal("SQLITE_INTERRUPT", err.code)
    assert.equal(1, db:query_value "select 1")
  end)
end)

describe("An error of SQLite", function()
  local db

  before_each(function()
    db = moonbase.open("sqlite:" .. files.path "case.db")
    db:exec "create table item (id integer primary key, name text not null)"
  end)

  after_each(function()
    db:close()
    files.clean()
  end)

  it("is SQLITE_MISMATCH for a text as a rowid", function()
    local err = expect.raised("DataError", "datatype mismatch", db.exec, db,
      "insert into item values ('x', 'y')")
    assert.equal("SQLITE_MISMATCH", err.code)
  end)

  it("is SQLITE_TOOBIG for a value or a statement that is too long", function()
    local err = expect.raised("DataError", "too big", db.query, db, "select zeroblob(2000000000)")
    assert.equal("SQLITE_TOOBIG", err.code)
  end)

  it("is SQLITE_CONSTRAINT_DATATYPE for a wrong type in a strict table", function()
    db:exec "create table strict_one (i integer) strict"
    local err = expect.raised("ConstraintError", "cannot store TEXT", db.exec, db,
      "insert into strict_one values ('x')")
    assert.equal("SQLITE_CONSTRAINT_DATATYPE", err.code)
    assert.is_nil(err.constraint_kind)
  end)

  it("is the message of a trigger that raises", function()
    db:exec [[create trigger guard before delete on item
      begin select raise(abort, 'items stay'); end]]
    db:exec "insert into item values (1, 'a')"
    local err = expect.raised("ConstraintError", "items stay", db.exec, db, "delete from item")
    assert.equal("SQLITE_CONSTRAINT_TRIGGER", err.code)
  end)

  it("is SQLITE_LOCKED for a table with open rows, with a hint", function()
    db:exec "insert into item values (1, 'a'), (2, 'b')"
    local tx = db:begin()
    local rows = tx:query "select * from item"
    rows:next()
    local err = expect.raised("EngineError", "locked", tx.exec, tx, "drop table item")
    assert.equal("SQLITE_LOCKED", err.code)
    assert.is_false(err.retryable)
    assert.match("close them", err.hint)
    assert.is_truthy(tostring(err):find("(hint: ", 1, true))
    rows:close()
    tx:exec "drop table item"
    tx:rollback()
  end)

  it("is SQLITE_LOCKED_SHAREDCACHE for the lock of another connection to one cache", function()
    local shared = moonbase.open "sqlite:one-cache?mode=memory&cache=shared"
    shared:exec "create table item (i integer)"
    local writer, reader = shared:connect(), shared:connect()
    local tx = writer:begin()
    tx:exec "insert into item values (1)"
    local err = expect.raised("SerializationError", "locked", reader.query_value, reader,
      "select count(*) from item")
    assert.equal("SQLITE_LOCKED_SHAREDCACHE", err.code)
    assert.is_true(err.retryable)
    tx:commit()
    assert.equal(1, reader:query_value "select count(*) from item")
    shared:close()
  end)

  it("is SQLITE_BUSY_SNAPSHOT for a write on what is no longer the latest", function()
    local tx = db:begin{ mode = "deferred" }
    assert.equal(0, tx:query_value "select count(*) from item")
    db:connect():exec "insert into item (name) values ('newer')"
    local err = expect.raised("SerializationError", "locked", tx.exec, tx,
      "insert into item (name) values ('a')")
    assert.equal("SQLITE_BUSY_SNAPSHOT", err.code)
    assert.is_true(err.retryable)
    tx:rollback()
    assert.equal(1, db:query_value "select count(*) from item")
  end)

  it("is a SyntaxError with its place only while a text is read", function()
    local err = expect.raised("SyntaxError", "no such column: absent", db.query, db,
      "select name,\n  absent from item")
    assert.equal(16, err.position)
    assert.equal("SQLITE_ERROR", err.code)
    assert.equal(1, err.native_code)
    db:exec "create view broken as select missing from item"
    expect.raised("SyntaxError", "missing", db.query, db, "select * from broken")
    -- The same code while it runs.
    err = expect.raised("EngineError", "malformed JSON", db.query, db, "select json('{')")
    assert.equal("SQLITE_ERROR", err.code)
    assert.is_nil(err.position)
  end)

  it("never shows what detail holds", function()
    local err = expect.raised("ConstraintError", nil, db.exec, db,
      "insert into item (name) values (null)")
    err.detail = "secret value"
    assert.is_nil(tostring(err):find("secret", 1, true))
  end)
end)
