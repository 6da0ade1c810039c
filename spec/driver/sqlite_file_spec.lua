-- Files of SQLite: how they are named and opened, and what is wrong with them.
local lfs = require "lfs"
local moonbase = require "moonbase"
local child = require "spec.support.child"
local expect = require "spec.support.expect"
local extension = require "spec.support.extension"
local files = require "spec.support.files"
local language = require "spec.support.language"
local now = require "moonbase.core".now

local numbers = "with recursive n(i) as (select 1 union all select i + 1 from n where i < %d) "

local function encode(path)
  return (path:gsub("[^%w/._-]", function(c) return ("%%%02X"):format(c:byte()) end))
end

-- Opens a file by its path, and fills it when it is asked to.
local function open(path, options)
  return moonbase.open("sqlite:" .. encode(path), options)
end

local function fill(path, options)
  local db = open(path, options)
  db:exec "create table t (i integer, b blob)"
  db:exec(numbers:format(1000) .. "insert into t select i, zeroblob(1000) from n")
  db:close()
  return path
end

local function runs(command)
  local status = os.execute(command .. " >/dev/null 2>&1")
  return status == true or status == 0
end

local function path_of(db)
  return db:query_value "select file from pragma_database_list where name = 'main'"
end

-- Calls fn in another folder than the one that the specs run in.
local function inside(folder, fn)
  local before = lfs.currentdir()
  assert(lfs.chdir(folder))
  local ok, err = pcall(fn)
  assert(lfs.chdir(before))
  if not ok then error(err, 0) end
end

-- Runs a text in a process that the permissions of files count for: root is above them
-- unless it is without the right to be.
local function run_under_permissions(text, arguments)
  local command = language.command
  local bare = "setpriv --bounding-set=-dac_override,-dac_read_search "
  if runs "test $(id -u) = 0" then language.command = bare .. command end
  local ok, output = pcall(child.run, text, arguments)
  language.command = command
  assert(ok, output)
  return output
end

describe("The name of a SQLite file", function()
  after_each(files.clean)

  it("is a path, from the root or from where the program is", function()
    local folder = files.folder()
    for _, url in ipairs { "sqlite:one.db", "sqlite:" .. folder .. "/two.db",
      "sqlite://" .. folder .. "/three.db" } do
      local db = moonbase.open(url)
      inside(folder, function() db:exec "create table t (i)" end)
      assert.is_true(files.exists(folder .. "/" .. url:match "[^/:]+$"))
      db:close()
    end
  end)

  it("may hold any characters, percent-encoded, with options beside it and without", function()
    for _, name in ipairs { "a b", "50%", "what?", "#1", "a&b=c", "pl+us", "\226\130\172", "'\"",
      "file:x", "semi;colon", "%41", "tab\tnewline\n" } do
      for _, options in ipairs { {}, { mode = "rwc" } } do
        local path = files.folder() .. "/" .. name
        local db = open(path, options)
        db:exec "create table t (i)"
        assert.is_truthy(files.exists(path), name)
        assert.equal(path, path_of(db))
        db:close()
      end
    end
  end)

  it("is never taken for one of SQLite's own URIs", function()
    local folder = files.folder()
    for _, options in ipairs { {}, { mode = "rwc" } } do
      local db = moonbase.open("sqlite:file:x.db%3Fmode=memory", options)
      inside(folder, function() db:exec "create table if not exists t (i)" end)
      assert.is_true(files.exists(folder .. "/file:x.db?mode=memory"))
      db:close()
    end
  end)

  it("without anything is a temporary file, one connection", function()
    local db = moonbase.open { driver = "sqlite", path = "" }
    db:exec "create table t (i)"
    db:exec "insert into t values (1)"
    assert.equal(1, db:query_value "select count(*) from t")
    assert.equal(1, db:capability().max_connections)
    assert.equal("", path_of(db))
    db:close()
  end)

  it("is wanted", function()
    expect.raised("ConnectorValidationError", "path: missing", moonbase.open,
      { driver = "sqlite" })
  end)

  it("is shown by its handle, its options are not", function()
    local db = moonbase.open "sqlite:/nowhere/a.db?mode=ro"
    assert.equal("sqlite:/nowhere/a.db", db:url())
    db:close()
  end)
end)

describe("A SQLite file", function()
  local folder

  before_each(function() folder = files.folder() end)
  after_each(files.clean)

  it("is made by the first call, or not, as mode says", function()
    local path = folder .. "/a.db"
    for _, mode in ipairs { "ro", "rw" } do
      local db = open(path, { mode = mode })
      local err = expect.raised("ConnectivityError", "unable to open", db.ping, db)
      assert.equal("SQLITE_CANTOPEN", err.code)
      assert.equal(14, err.native_code)
      assert.is_nil(files.exists(path) or nil)
      db:close()
    end
    local db = open(path, { mode = "rwc" })
    assert.is_false(files.exists(path))
    db:exec "create table t (i)"
    assert.is_true(files.exists(path))
    db:close()
    db = open(path, { mode = "rw" })
    assert.equal(1, db:exec "insert into t values (1)")
    db:close()
  end)

  it("with mode=ro is read and never written", function()
    local db = open(fill(folder .. "/a.db"), { mode = "ro" })
    assert.equal(1000, db:query_value "select count(*) from t")
    for _, text in ipairs { "insert into t values (1, 2)", "delete from t", "drop table t",
      "create table u (i)", "pragma user_version = 7", "vacuum" } do
      local err = expect.raised("ReadOnlyError", "readonly database", db.exec, db, text)
      assert.equal("SQLITE_READONLY", err.code)
      assert.is_false(err.connection_dead)
    end
    local err = expect.raised("ReadOnlyError", nil, db.transaction, db, function(tx)
      tx:exec "delete from t"
    end)
    assert.equal(8, err.native_code)
    assert.equal(1000, db:transaction(function(tx)
      return tx:query_value "select count(*) from t"
    end, { read_only = true }))
    db:close()
  end)

  it("with immutable=1 is read without a lock, and without anything beside it", function()
    local path = fill(folder .. "/a.db", { pragma = "journal_mode = delete" })
    local writer = open(path, { pragma = "journal_mode = delete" })
    local tx = writer:begin { mode = "exclusive" }
    tx:exec "delete from t where i = 1"
    local db = open(path, { immutable = "1" })
    assert.equal(1000, db:query_value "select count(*) from t")
    expect.raised("ReadOnlyError", nil, db.exec, db, "delete from t")
    db:close()
    tx:rollback()
    writer:close()
  end)

  it("takes SQLite's other parameters", function()
    local path = folder .. "/a.db"
    local db = open(path, { nolock = "1", psow = "0", cache = "private",
      pragma = "journal_mode = delete" })
    db:exec "create table t (i)"
    db:close()
    os.execute("chmod 640 " .. path)
    db = open(folder .. "/like.db", { modeof = path })
    db:exec "create table t (i)"
    assert.equal("rw-r-----", lfs.attributes(folder .. "/like.db", "permissions"))
    db:close()
    db = open(folder .. "/dot.db", { vfs = "unix-dotfile" })
    local tx = db:begin()
    tx:exec "create table t (i)"
    assert.is_true(files.exists(folder .. "/dot.db.lock"))
    tx:commit()
    db:close()
  end)

  it("refuses a value that a parameter does not have, before anything is opened", function()
    for option, value in pairs { mode = "write", cache = "both", immutable = "yes", nolock = "2",
      psow = "on" } do
      expect.raised("ConnectorValidationError", "option " .. option, open, folder .. "/a.db",
        { [option] = value })
    end
    assert.is_false(files.exists(folder .. "/a.db"))
  end)

  it("of a vfs that there is not cannot be opened", function()
    local db = open(folder .. "/a.db", { vfs = "no-such" })
    expect.raised("ConnectivityError", "no such vfs: no-such", db.ping, db)
    db:close()
  end)

  it("gets a write-ahead log with its first write, not before", function()
    local path = folder .. "/a.db"
    fill(path, { pragma = "journal_mode = delete" })
    local db = open(path)
    assert.equal(1000, db:query_value "select count(*) from t")
    assert.equal("delete", db:query_value "pragma journal_mode")
    db:exec "delete from t where i = 1"
    assert.equal("wal", db:query_value "pragma journal_mode")
    assert.is_true(files.exists(path .. "-wal"))
    db:close()
    assert.is_false(files.exists(path .. "-wal"))
    for _, write in ipairs {
      function(x) x:exec "create table u (i)" end,
      function(x) x:transaction(function(tx) tx:exec "create table u (i)" end) end,
      function(x) x:transaction(function(tx) tx:exec "create table u (i)" end,
        { mode = "exclusive" }) end,
      function(x) x:exec_script "create table u (i);" end,
    } do
      local new = open(files.path "new.db")
      write(new)
      assert.equal("wal", new:query_value "pragma journal_mode")
      new:close()
    end
  end)

  it("keeps the journal that the program asks for", function()
    for _, pragma in ipairs { "journal_mode = delete", "journal_mode(truncate)",
      "main.journal_mode=persist", " JOURNAL_MODE = memory" } do
      local db = open(files.path "a.db", { pragma = pragma })
      db:exec "create table t (i)"
      assert.equal(pragma:match "(%l+)%)?$", db:query_value "pragma journal_mode")
      db:close()
    end
  end)

  it("keeps the journal that a statement has set", function()
    local db = open(files.path "a.db")
    local conn = db:connect()
    conn:exec "pragma journal_mode = truncate"
    conn:exec "create table t (i)"
    assert.equal("truncate", conn:query_value "pragma journal_mode")
    db:close()
  end)

  it("keeps its journal while somebody else holds it, and is written", function()
    local path = fill(folder .. "/a.db", { pragma = "journal_mode = delete" })
    local reader = open(path, { pragma = "journal_mode = delete" })
    local tx = reader:begin { read_only = true }
    assert.equal(1000, tx:query_value "select count(*) from t")
    local db = open(path, { pragma = "busy_timeout = 200" })
    -- The lock that the log needs cannot be had, and neither can the one for the write: that is
    -- waited for once.
    local start = now()
    local err = expect.raised("TimeoutError", "locked", db.exec, db, "delete from t where i = 1")
    assert.is_true(now() - start < 2)
    assert.equal("SQLITE_BUSY", err.code)
    assert.is_true(err.retryable)
    tx:rollback()
    assert.equal(1, (db:exec "delete from t where i = 2"))
    assert.equal("wal", db:query_value "pragma journal_mode")
    db:close()
    reader:close()
  end)

  it("syncs at checkpoints, has its foreign keys enforced and its schema distrusted", function()
    local db = open(folder .. "/a.db")
    assert.equal(1, db:query_value "pragma synchronous")
    assert.equal(1, db:query_value "pragma foreign_keys")
    assert.equal(0, db:query_value "pragma trusted_schema")
    expect.raised("SyntaxError", "no such column: text", db.query, db, 'select "text"')
    expect.raised("EngineError", "not authorized", db.query, db, "select load_extension('x')")
    db:close()
  end)

  it("has its statistics refreshed when it is closed, by who may, without waiting", function()
    local path = folder .. "/a.db"
    local db = open(path)
    db:exec_script "create table t (a, b); create index t_a on t (a); create index t_b on t (b);"
    db:exec(numbers:format(3000) .. "insert into t select i, i % 7 from n")
    local function use(options)
      local user = open(path, options)
      assert.equal(1, user:query_value "select count(*) from t where a = 5 and b = 5")
      assert.equal(1, user:query_value [[select count(*) from t x join t y on x.a = y.b
        where x.b = 3 and y.a = 10]])
      local start = now()
      user:close()
      assert.is_true(now() - start < 4.5)
    end
    local function is_analyzed()
      return db:query_value "select count(*) from sqlite_master where name = 'sqlite_stat1'" == 1
    end
    use { mode = "ro" }
    use { functions = { f = function() end } }
    local tx = db:begin()
    use()
    tx:commit()
    assert.is_false(is_analyzed())
    use()
    assert.is_true(is_analyzed())
    db:close()
  end)

  it("that is a folder cannot be opened", function()
    local db = open(folder)
    for _ = 1, 2 do
      local err = expect.raised("ConnectivityError", "unable to open", db.query, db, "select 1")
      assert.equal("SQLITE_CANTOPEN", err.code)
    end
    assert.equal(0, db:stats().size)
    db:close()
  end)

  it("in a folder that there is not cannot be opened", function()
    local db = open(folder .. "/no/a.db")
    expect.raised("ConnectivityError", "unable to open", db.ping, db)
    lfs.mkdir(folder .. "/no")
    assert.is_true(db:ping()) -- and can be, once it is there
    db:close()
  end)

  it("that is a text is no database, and stays as it is", function()
    local text = ("this is no database\n"):rep(200)
    local db = open(files.write(folder .. "/a.txt", text))
    for _, call in ipairs { "ping", "exec", "query", "prepare", "begin" } do
      local err = expect.raised("ConnectivityError", "file is not a database", db[call], db,
        call ~= "begin" and "create table t (i)" or nil)
      assert.equal("SQLITE_NOTADB", err.code)
      assert.is_true(err.connection_dead)
    end
    db:close()
    assert.equal(text, files.read(folder .. "/a.txt"))
  end)

  it("that is empty is a database without tables", function()
    local db = open(files.write(folder .. "/a.db", ""))
    assert.equal(0, db:query_value "select count(*) from sqlite_master")
    db:close()
  end)

  it("with damaged pages says so, loses nothing else, and costs its connection", function()
    local path = fill(folder .. "/a.db", { pragma = "journal_mode = delete" })
    local db = open(path)
    db:exec "create table whole (i)"
    db:exec "insert into whole values (42)"
    db:close()
    local bytes = files.read(path)
    files.write(path, bytes:sub(1, 4096 * 9) .. ("\255"):rep(4096 * 20)
      .. bytes:sub(4096 * 29 + 1))
    db = open(path)
    local conn = db:connect()
    local err = expect.raised("ConnectivityError", "malformed", conn.query_value, conn,
      "select sum(length(b)) from t")
    assert.equal("SQLITE_CORRUPT", err.code)
    assert.equal(11, err.native_code)
    assert.is_true(err.connection_dead)
    expect.raised("ConnectionLostError", nil, conn.query, conn, "select 1")
    conn:close()
    assert.equal(42, db:query_value "select i from whole")
    assert.not_equal("ok", db:query_value "pragma integrity_check")
    db:close()
  end)

  it("whose end is missing, or whose beginning is damaged, says so", function()
    local path = fill(folder .. "/a.db", { pragma = "journal_mode = delete" })
    local bytes = files.read(path)
    local db = open(files.write(folder .. "/b.db", bytes:sub(1, 4096 * 3)))
    local err = expect.raised("ConnectivityError", nil, db.query_value, db,
      "select sum(length(b)) from t")
    assert.match("^SQLITE_CORRUPT", err.code)
    db:close()
    db = open(files.write(folder .. "/c.db", bytes:sub(1, 16) .. ("\7"):rep(84)
      .. bytes:sub(101)))
    err = expect.raised("ConnectivityError", nil, db.query, db, "select * from t")
    assert.equal("SQLITE_NOTADB", err.code)
    db:close()
    -- A schema of the future: SQLite's plain error, at connecting.
    db = open(files.write(folder .. "/d.db", bytes:sub(1, 44) .. "\0\0\0\99" .. bytes:sub(49)))
    err = expect.raised("ConnectivityError", "unsupported file format", db.query, db,
      "select * from t")
    assert.equal("SQLITE_ERROR", err.code)
    db:close()
  end)

  it("that is removed while it is open is written no more", function()
    local path = fill(folder .. "/a.db", { pragma = "journal_mode = delete" })
    local db = open(path, { pragma = "journal_mode = delete" })
    local conn = db:connect()
    assert.equal(1000, conn:query_value "select count(*) from t")
    assert(os.remove(path))
    local err = expect.raised("ReadOnlyError", nil, conn.exec, conn, "delete from t")
    assert.equal("SQLITE_READONLY_DBMOVED", err.code)
    db:close()
  end)

  it("whose permissions forbid it is not written", function()
    local path = fill(folder .. "/a.db", { pragma = "journal_mode = delete" })
    assert(runs("chmod 400 " .. path))
    local output = run_under_permissions([[
      local db = require "moonbase".open("sqlite:" .. (...))
      print(db:query_value "select count(*) from t")
      local ok, err = pcall(db.exec, db, "delete from t")
      print(ok, err.class, err.code)
      print(db:query_value "select count(*) from t")
    ]], { path })
    assert.equal("1000\nfalse\tReadOnlyError\tSQLITE_READONLY\n1000\n", output)
  end)

  it("in a folder whose permissions forbid it is not written", function()
    local path = fill(folder .. "/a.db", { pragma = "journal_mode = delete" })
    assert(runs("chmod 500 " .. folder))
    local output = run_under_permissions([[
      local db = require "moonbase".open("sqlite:" .. (...), { pragma = "journal_mode = delete" })
      print(db:query_value "select count(*) from t")
      local ok, err = pcall(db.exec, db, "delete from t")
      print(ok, err.class, err.code)
      local other = require "moonbase".open("sqlite:" .. (...) .. ".new")
      ok, err = pcall(other.exec, other, "create table t (i)")
      print(ok, err.class, err.code)
    ]], { path })
    assert(runs("chmod 700 " .. folder))
    assert.match("^1000\nfalse\t%w+Error\tSQLITE_[%u_]+\n", output)
    assert.match("\nfalse\tConnectivityError\tSQLITE_CANTOPEN\n$", output)
    assert.equal(1000, open(path):query_value "select count(*) from t")
  end)

  it("that may not be read cannot be opened", function()
    local path = fill(folder .. "/a.db")
    assert(runs("chmod 000 " .. path))
    local output = run_under_permissions([[
      local db = require "moonbase".open("sqlite:" .. (...))
      local ok, err = pcall(db.ping, db)
      print(ok, err.class, err.code)
    ]], { path })
    assert.equal("false\tConnectivityError\tSQLITE_CANTOPEN\n", output)
  end)

  it("that is full says so, and loses nothing", function()
    local path = fill(folder .. "/a.db")
    local db = open(path, { pragma = "max_page_count = 300" })
    local more = "insert into t select i, b from t"
    local err = expect.raised("ResourceError", "full", db.exec, db, more)
    assert.equal("SQLITE_FULL", err.code)
    assert.is_false(err.connection_dead)
    assert.equal(1000, db:query_value "select count(*) from t")
    -- In a transaction SQLite may undo all of it; then the next statement says so.
    local tx = db:begin()
    tx:exec "delete from t where i = 1"
    err = expect.raised("ResourceError", nil, tx.exec, tx, more)
    if err.transaction_dead then
      expect.raised("EngineError", "full; roll it back", tx.exec, tx, "delete from t")
      expect.raised("EngineError", "not committed", tx.commit, tx)
      assert.equal(1000, db:query_value "select count(*) from t")
    else
      tx:commit()
      assert.equal(999, db:query_value "select count(*) from t")
    end
    db:close()
  end)

  it("on a disk that is full says so, and loses nothing", function()
    -- A small disk of the process's own, where one may be mounted; else a small limit.
    local mount = "mount -t tmpfs -o size=400k none " .. folder
    local mounts = runs("unshare -rm " .. mount)
    local text = [[
      local path, limit = ...
      local db = require "moonbase".open("sqlite:" .. path, {
        pragma = limit and { "max_page_count = " .. limit } })
      db:exec "create table t (b)"
      local rows, ok, err = 0, true, nil
      while ok and rows < 2000 do
        ok, err = pcall(db.exec, db, "insert into t values (zeroblob(1000))")
        if ok then rows = rows + 1 end
      end
      print(ok, err.class, err.code, err.connection_dead)
      print(rows > 10, db:query_value "select count(*) from t" == rows)
      print(db:query_value "pragma integrity_check")
      db:close()
    ]]
    local command = language.command
    if mounts then
      language.command = ("unshare -rm sh -c '%s && exec \"$@\"' sh %s"):format(mount, command)
    end
    local ok, output = pcall(child.run, text, { folder .. "/a.db", not mounts and 100 or nil })
    language.command = command
    assert(ok, output)
    assert.equal("false\tResourceError\tSQLITE_FULL\tfalse\ntrue\ttrue\nok\n", output)
  end)

  it("that cannot be written further by its process fails, with its connection", function()
    local path = fill(folder .. "/a.db", { pragma = "journal_mode = delete" })
    local output = child.run([[
      local db = require "moonbase".open("sqlite:" .. (...), { pragma = "journal_mode = delete" })
      local ok, err = pcall(db.exec, db, "insert into t select i, zeroblob(5000) from t")
      print(ok, err.class, err.code, err.connection_dead)
      print(db:query_value "select count(*) from t")
    ]], { path }, "trap '' XFSZ; ulimit -f 4000")
    assert.equal("false\tConnectivityError\tSQLITE_IOERR_WRITE\ttrue\n1000\n", output)
  end)

  it("takes extensions that are named, and says which of them it cannot load", function()
    local good = extension.compile "sqlite_fail"
    local db = open(folder .. "/a.db", { extensions = { good, folder .. "/no-such" } })
    expect.raised("ConnectivityError", "extension 2: ", db.ping, db)
    assert.equal(0, db:stats().size)
    db:close()
    db = open(folder .. "/a.db", { extensions = good })
    expect.raised("EngineError", "not authorized", db.query, db, "select load_extension(?)", good)
    expect.raised("ResourceError", "full", db.query, db, "select fail(13)")
    db:close()
  end)

  it("wants SQLite 3.40 or a later one", function()
    local source = files.write(folder .. "/old.c", [[
      int sqlite3_libversion_number(void);
      int sqlite3_libversion_number(void) { return 3039004; }
    ]])
    assert(runs(("env -u LD_PRELOAD cc -shared -fPIC -o %s/old.so %s"):format(folder, source)))
    local output = child.run([[
      print(pcall(require "moonbase".open, "sqlite:" .. (...)))
    ]], { folder .. "/a.db" },
      "LD_PRELOAD=${LD_PRELOAD:+$LD_PRELOAD:}" .. folder .. "/old.so; export LD_PRELOAD")
    assert.match("^false\tUnsupportedError: SQLite 3.40 or a later one is needed", output)
    assert.is_true(moonbase.open "sqlite::memory:":ping())
  end)
end)

describe("The option pragma of SQLite", function()
  after_each(files.clean)

  it("is run by each connection before it is used, and changes no session", function()
    local db = moonbase.open("sqlite:" .. files.path "a.db", {
      pragma = { "cache_size = -777", "recursive_triggers(on)", "busy_timeout = 300" } })
    local first, second = db:connect(), db:connect()
    for _, conn in ipairs { first, second } do
      assert.equal(-777, conn:query_value "pragma cache_size")
      assert.equal(1, conn:query_value "pragma recursive_triggers")
      conn:close()
    end
    assert.equal(2, db:stats().idle)
    db:close()
  end)

  it("may say more than what is usual, and the user's word counts", function()
    local db = moonbase.open("sqlite:" .. files.path "a.db", {
      pragma = { "foreign_keys = off", "synchronous = full" } })
    assert.equal(0, db:query_value "pragma foreign_keys")
    assert.equal(2, db:query_value "pragma synchronous")
    db:close()
  end)

  it("that is wrong is told with its number", function()
    local db = moonbase.open("sqlite::memory:", { pragma = { "cache_size = 5", "nonsense(" } })
    local err = expect.raised("SyntaxError", "incomplete input", db.ping, db)
    assert.equal("it is number 2 of the option pragma", err.hint)
    assert.is_nil(err.position)
    db:close()
    db = moonbase.open("sqlite::memory:", { pragma = "query_only = 1",
      init = "create table t (i)" })
    expect.raised("ReadOnlyError", nil, db.ping, db)
    db:close()
  end)

  it("is one setting, not several statements", function()
    local path = files.path "a.db"
    expect.raised("ConnectorValidationError", "pragma: number 2 of them", moonbase.open,
      "sqlite:" .. path, { pragma = { "cache_size = 5;", "cache_size = 6; delete from t" } })
    local db = moonbase.open("sqlite:" .. path, { pragma = "cache_size = 7 ; " })
    assert.equal(7, db:query_value "pragma cache_size")
    db:close()
  end)
end)

describe("A session of SQLite that was changed", function()
  local db

  before_each(function() db = moonbase.open("sqlite:" .. files.path "a.db") end)

  after_each(function()
    db:close()
    files.clean()
  end)

  it("is not lent again", function()
    db:exec "create table t (i)"
    for _, text in ipairs { "pragma cache_size = 5", "attach ':memory:' as other",
      "create temp table x (i)", "create temp view v as select 1",
      "create temp trigger r after insert on t begin select 1; end" } do
      local conn = db:connect()
      conn:exec(text)
      local created = db:stats().created
      conn:close()
      assert.equal(0, db:stats().idle, text)
      db:exec "select 1"
      assert.equal(created + 1, db:stats().created, text)
    end
  end)

  it("is one that a setting was left in, not one that was asked", function()
    db:exec "create table t (i)"
    local created = db:stats().created
    for _, text in ipairs { "pragma cache_size", "pragma table_info(t)", "pragma user_version = 3",
      "pragma integrity_check(1)", "pragma wal_checkpoint(passive)",
      "select * from pragma_table_xinfo('t')" } do
      db:query(text):all()
    end
    assert.equal(created, db:stats().created)
    assert.equal(3, db:query_value "pragma user_version")
  end)
end)

describe("A database in memory", function()
  it("is one connection, which keeps its session", function()
    local db = moonbase.open "sqlite::memory:"
    db:exec "create table t (i)"
    db:exec "pragma cache_size = 5"
    db:exec "create temp table x (i)"
    assert.equal(5, db:query_value "pragma cache_size")
    assert.equal(0, db:query_value "select count(*) from t, x")
    assert.equal(1, db:capability().max_connections)
    assert.equal("memory", db:query_value "pragma journal_mode")
    db:close()
  end)

  for _, url in ipairs { "sqlite:shared?mode=memory&cache=shared",
    "sqlite::memory:?cache=shared", "sqlite:/shared?vfs=memdb" } do
    it("may have several connections: " .. url, function()
      local db = moonbase.open(url)
      db:exec "create table t (i)"
      local first, second = db:connect(), db:connect()
      first:exec "insert into t values (1)"
      assert.equal(1, second:query_value "select count(*) from t")
      -- Its connections are the database: none is closed for its settings.
      for _, conn in ipairs { first, second } do
        conn:exec "pragma cache_size = 5"
        conn:close()
      end
      assert.equal(2, db:stats().idle)
      assert.equal(1, db:query_value "select count(*) from t")
      db:close()
      db = moonbase.open(url)
      expect.raised("SyntaxError", "no such table", db.query, db, "select * from t")
      db:close()
    end)
  end

  it("of a vfs of memory without a name is one connection", function()
    local db = moonbase.open "sqlite:own?vfs=memdb"
    db:exec "create table t (i)"
    db:exec "pragma cache_size = 5"
    assert.equal(0, db:query_value "select count(*) from t")
    db:close()
  end)
end)
