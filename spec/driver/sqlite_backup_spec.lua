-- moonbase.sqlite: backups of a database that is in use, and values read part by part.
local moonbase = require "moonbase"
local sqlite = require "moonbase.sqlite"
local child = require "spec.support.child"
local expect = require "spec.support.expect"
local files = require "spec.support.files"
local language = require "spec.support.language"
local now = require "moonbase.core".now

local fill = "with recursive n(i) as (select 1 union all select i + 1 from n where i < %d) "
  .. "insert into t select i, zeroblob(1000) from n"

describe("A backup of SQLite", function()
  local folder, target, db

  before_each(function()
    folder = files.folder()
    target = folder .. "/copy.db"
    db = moonbase.open("sqlite:" .. folder .. "/a.db")
    db:exec "create table t (i integer, b blob)"
    db:exec(fill:format(2000))
  end)

  after_each(function()
    db:close()
    files.clean()
  end)

  -- What a file holds: the number of rows, and their sum; it has to be whole.
  local function inspect(path)
    local copy = moonbase.open("sqlite:" .. path .. "?mode=ro")
    assert.equal("ok", copy:query_value "pragma integrity_check")
    local n, sum = copy:query_values "select count(*), sum(i) from t"
    copy:close()
    return n, sum
  end

  it("copies all of it to a new file, and gives the number of pages", function()
    local pages = sqlite.backup(db, target)
    assert.equal(db:query_value "pragma page_count", pages)
    assert.same({ 2000, 2001000 }, { inspect(target) })
    assert.is_true(db:ping())
    assert.equal(0, db:stats().in_use)
  end)

  it("takes a Connection, a transaction that reads, and a database in memory", function()
    local conn = db:connect()
    assert.is_true(sqlite.backup(conn, folder .. "/1.db") > 0)
    conn:transaction(function(tx)
      assert.equal(2000, tx:query_value "select count(*) from t")
      assert.is_true(sqlite.backup(tx, folder .. "/2.db") > 0)
    end, { read_only = true })
    conn:close()
    local memory = moonbase.open "sqlite::memory:"
    memory:exec "create table t (i integer, b blob)"
    memory:exec(fill:format(10))
    assert.is_true(sqlite.backup(memory, folder .. "/3.db") > 0)
    memory:close()
    assert.equal(2000, (inspect(folder .. "/1.db")))
    assert.equal(2000, (inspect(folder .. "/2.db")))
    assert.equal(10, (inspect(folder .. "/3.db")))
  end)

  it("is refused in a transaction that writes", function()
    db:transaction(function(tx)
      tx:exec "delete from t where i = 1"
      expect.raised("UsageError", "a transaction that writes is open", sqlite.backup, tx, target)
      assert.equal(1999, tx:query_value "select count(*) from t")
    end)
    assert.is_false(files.exists(target))
  end)

  it("tells its progress after each step, while it goes on", function()
    local last, calls, total_pages = 0, 0, nil
    local pages = sqlite.backup(db, target, { pages = 10, progress = function(done, total)
      calls = calls + 1
      assert.is_true(done > last and done <= total)
      if calls < 5 then assert.equal(10 * calls, done) end
      last, total_pages = done, total
    end })
    assert.equal(pages, last)
    assert.equal(pages, total_pages)
    assert.equal(math.ceil(pages / 10), calls)
  end)

  it("begins again when another connection has written, and is the copy of one moment", function()
    local last, again = 0, 0
    sqlite.backup(db, target, { pages = 50, progress = function(done)
      if done < last then again = again + 1 end
      last = done
      if again == 0 and done == 100 then
        local other = db:connect()
        other:exec "insert into t values (-1, null)"
        other:close()
      end
    end })
    assert.equal(1, again)
    assert.same({ 2001, 2000999 }, { inspect(target) })
  end)

  it("is brought to its end before a write of its own connection", function()
    local conn = db:connect()
    local once = true
    sqlite.backup(conn, target, { pages = 50, progress = function()
      if once then conn:exec "insert into t values (-1, null)" end
      once = false
    end })
    assert.equal(2001, conn:query_value "select count(*) from t")
    conn:close()
    assert.same({ 2000, 2001000 }, { inspect(target) })
  end)

  it("onto a database puts its own in that one's place", function()
    local old = moonbase.open("sqlite:" .. target)
    old:exec "create table old (i)"
    old:close()
    sqlite.backup(db, target)
    sqlite.backup(db, target)
    local copy = moonbase.open("sqlite:" .. target)
    expect.raised("SyntaxError", "no such table", copy.query, copy, "select * from old")
    assert.equal(2000, copy:query_value "select count(*) from t")
    copy:close()
  end)

  it("that is broken off by its progress function leaves no new file", function()
    local mistake = {}
    local ok, err = pcall(sqlite.backup, db, target, { pages = 10, progress = function(done)
      if done >= 50 then error(mistake) end
    end })
    assert.is_false(ok)
    assert.equal(mistake, err)
    for _, suffix in ipairs { "", "-wal", "-shm", "-journal" } do
      assert.is_false(files.exists(target .. suffix))
    end
    assert.equal(0, db:stats().in_use)
    assert.is_true(sqlite.backup(db, target) > 0)
  end)

  it("that is broken off leaves a file that was there before as it was", function()
    local old = moonbase.open("sqlite:" .. target, { pragma = "journal_mode = delete" })
    old:exec "create table t (i integer)"
    old:exec "insert into t values (7)"
    old:close()
    local before = files.read(target)
    assert.is_false(pcall(sqlite.backup, db, target, { pages = 10, progress = function(done)
      if done >= 50 then error "enough" end
    end }))
    assert.same({ 1, 7 }, { inspect(target) })
    assert.is_true(files.read(target) == before)
  end)

  it("ends with a cancellation, and with the time-out of a step", function()
    local stop = moonbase.cancellation()
    local err = expect.raised("CanceledError", "enough", sqlite.backup, db:with { cancel = stop },
      target, { pages = 10, progress = function(done)
        if done == 50 then stop:cancel "enough" end
      end })
    assert.is_false(err.connection_dead)
    assert.is_false(files.exists(target))
    -- Somebody else writes the target: the step waits for the lock.
    local other = moonbase.open("sqlite:" .. target)
    local tx = other:begin()
    tx:exec "create table u (i)"
    local started = now()
    err = expect.raised("TimeoutError", nil, sqlite.backup, db:with { timeout = 0.2 }, target)
    assert.is_true(now() - started >= 0.19 and now() - started < 4.5)
    assert.is_false(err.connection_dead)
    -- Without a time-out it waits as long as a statement would.
    local conn = db:connect()
    conn:exec "pragma busy_timeout = 100"
    err = expect.raised("TimeoutError", "locked", sqlite.backup, conn, target)
    assert.equal("SQLITE_BUSY", err.code)
    assert.is_true(err.retryable)
    conn:close()
    tx:rollback()
    other:close()
    assert.is_true(sqlite.backup(db, target) > 0)
    assert.same({ 2000, 2001000 }, { inspect(target) })
  end)

  it("leaves other open rows of its connection alone", function()
    local conn = db:connect()
    local rows = conn:query "select i from t order by i"
    rows:next()
    sqlite.backup(conn, target, { pages = 100 })
    assert.equal(1999, #rows:all())
    conn:close()
  end)

  it("to what is no file or no database fails, and the source stays usable", function()
    local conn = db:connect()
    local text = ("no database\n"):rep(500)
    local path = files.write(folder .. "/text", text)
    for code, where in pairs { SQLITE_CANTOPEN = folder, SQLITE_NOTADB = path } do
      local err = expect.raised("ConnectivityError", nil, sqlite.backup, conn, where)
      assert.equal(code, err.code)
      assert.is_false(err.connection_dead)
      assert.equal(2000, conn:query_value "select count(*) from t")
    end
    expect.raised("ConnectivityError", nil, sqlite.backup, conn, folder .. "/no/copy.db")
    conn:close()
    assert.equal(text, files.read(path))
  end)

  it("takes every path for that of a file", function()
    local output = child.run([[
      local source, folder = ...
      local moonbase = require "moonbase"
      local sqlite = require "moonbase.sqlite"
      local db = moonbase.open("sqlite:" .. source)
      db:ping()
      require "lfs".chdir(folder)
      for _, path in ipairs { ":memory:", "file:x.db?mode=memory", "b c%41.db" } do
        sqlite.backup(db, path)
        print(io.open(path):read(15))
      end
    ]], { folder .. "/a.db", folder })
    assert.equal(("SQLite format 3\n"):rep(3), output)
  end)

  it("returns its errors where the handle does", function()
    local quiet = db:with { errors = "return" }
    expect.returned("ConnectivityError", nil, sqlite.backup(quiet, folder))
    local stop = moonbase.cancellation()
    expect.returned("CanceledError", nil, sqlite.backup(quiet:with { cancel = stop }, target, {
      pages = 10, progress = function() stop:cancel() end }))
    assert.is_true(sqlite.backup(quiet, target) > 0)
  end)

  it("is asked for with a path and options that there are", function()
    for _, path in ipairs { "", "a\0b", 7, {}, false } do
      expect.raised("UsageError", "the path of a file", sqlite.backup, db, path)
    end
    expect.raised("UsageError", "did you mean \"pages\"", sqlite.backup, db, target, { page = 1 })
    expect.raised("UsageError", "a table of options", sqlite.backup, db, target, 7)
    expect.raised("UsageError", "progress wants a function", sqlite.backup, db, target,
      { progress = 7 })
    for _, pages in ipairs { 0, -1, 1.5, "x", 2 ^ 31, 0 / 0 } do
      expect.raised("UsageError", "a number of pages", sqlite.backup, db, target,
        { pages = pages })
    end
    expect.raised("UsageError", nil, sqlite.backup, {}, target)
    assert.is_false(files.exists(target))
  end)
end)

describe("A blob reader of SQLite", function()
  local db, bytes

  before_each(function()
    db = moonbase.open("sqlite:" .. files.path "a.db")
    db:exec [[create table t (id integer primary key, b blob, s text, i integer,
      "odd ""name""" blob)]]
    local list = {}
    for i = 0, 255 do list[i + 1] = string.char(i) end
    bytes = table.concat(list):rep(1000)
    db:exec("insert into t values (1, ?, 'text \226\130\172', 7, x'01')", moonbase.blob(bytes))
  end)

  after_each(function()
    db:close()
    files.clean()
  end)

  it("reads a value part by part, from any place", function()
    local reader = sqlite.blob_reader(db, "t", "b", 1)
    assert.equal(256000, reader.size)
    local parts = {}
    for part in function() return reader:read(100000) end do parts[#parts + 1] = part end
    assert.same({ 100000, 100000, 56000 }, { #parts[1], #parts[2], #parts[3] })
    assert.is_true(table.concat(parts) == bytes)
    assert.is_nil(reader:read())
    reader:seek(256)
    assert.equal("\0\1\2", reader:read(3))
    assert.equal("\3", reader:read(1))
    reader:seek(255999)
    assert.equal("\255", reader:read(2147483647))
    reader:seek(256000)
    assert.is_nil(reader:read(1))
    reader:seek(1e15)
    assert.is_nil(reader:read(1))
    reader:seek(0)
    assert.equal(65536, #reader:read())
  end)

  it("reads texts, empty values, odd names and other schemas", function()
    assert.equal("text \226\130\172", sqlite.blob_reader(db, "t", "s", 1):read())
    assert.equal("\1", sqlite.blob_reader(db, "t", 'odd "name"', 1):read())
    db:exec "insert into t (id, b) values (2, x'')"
    local empty = sqlite.blob_reader(db, "t", "b", 2)
    assert.equal(0, empty.size)
    assert.is_nil(empty:read())
    local conn = db:connect()
    conn:exec "create temp table u (b)"
    conn:exec "insert into u values (x'0203')"
    assert.equal("\2\3", sqlite.blob_reader(conn, "u", "b", 1, "temp"):read())
    conn:close()
  end)

  it("finds a row by any rowid", function()
    for _, id in ipairs { "9007199254740993", "-9223372036854775808" } do
      db:exec("insert into t (id, b) values (" .. id .. ", x'09')")
      local exact = db:query_value("select id from t where id = " .. id)
      assert.equal("\9", sqlite.blob_reader(db, "t", "b", exact):read())
      assert.equal("\9", sqlite.blob_reader(db, "t", "b", id):read())
    end
  end)

  it("sees one value in a transaction, and what others write outside of one", function()
    local reader = sqlite.blob_reader(db, "t", "b", 1)
    assert.equal(10, #reader:read(10))
    db:exec "update t set b = x'ffff'"
    expect.raised("EngineError", nil, function()
      db:exec "delete from t"
      reader:read(10)
    end)
  end)

  it("says what it does not find", function()
    local err = expect.raised("EngineError", "no such rowid: 99", sqlite.blob_reader, db, "t", "b",
      99)
    assert.equal("SQLITE_ERROR", err.code)
    expect.raised("SyntaxError", "no such column", sqlite.blob_reader, db, "t", "missing", 1)
    expect.raised("SyntaxError", "no such table", sqlite.blob_reader, db, "missing", "b", 1)
    expect.raised("SyntaxError", "no such table", sqlite.blob_reader, db, "t", "b", 1, "missing")
    expect.raised("EngineError", "cannot open value of type integer", sqlite.blob_reader, db, "t",
      "i", 1)
    db:exec "create view v as select b from t"
    expect.raised("EngineError", "cannot open view", sqlite.blob_reader, db, "v", "b", 1)
    db:exec "create table w (k primary key, b) without rowid"
    expect.raised("EngineError", "without rowid", sqlite.blob_reader, db, "w", "b", 1)
    assert.equal(0, db:stats().in_use)
  end)

  it("wants names, a rowid and numbers", function()
    for _, arguments in ipairs { { "", "b", 1 }, { "t", "", 1 }, { "t\0", "b", 1 },
      { ("t"):rep(256), "b", 1 }, { "t", "b", "one" }, { "t", "b", 1.5 }, { "t", "b", "" },
      { "t", "b", "99999999999999999999" }, { "t", 7, 1 }, { "t", "b" } } do
      expect.raised("UsageError", nil, sqlite.blob_reader, db, language.unpack(arguments, 1, 3))
    end
    local reader = sqlite.blob_reader(db, "t", "b", 1)
    for _, size in ipairs { 0, -1, 1.5, "x", 2 ^ 31, 0 / 0 } do
      expect.raised("UsageError", "a number of bytes", reader.read, reader, size)
    end
    for _, offset in ipairs { -1, 1.5, "x", 0 / 0 } do
      expect.raised("UsageError", "a number of bytes", reader.seek, reader, offset)
    end
    assert.equal("\0", reader:read(1))
  end)

  it("returns its errors where the handle does", function()
    local quiet = db:with { errors = "return" }
    expect.returned("EngineError", "no such rowid", sqlite.blob_reader(quiet, "t", "b", 99))
    local reader = sqlite.blob_reader(quiet, "t", "b", 1)
    db:exec "delete from t"
    expect.returned("EngineError", "no such rowid", reader:read())
  end)
end)
