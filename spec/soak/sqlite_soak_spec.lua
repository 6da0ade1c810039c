-- SQLite at length: large values, many processes, sudden deaths, failures at random.
-- MB_SOAK is the share of the whole length that is run, 1 unless it is given.
local moonbase = require "moonbase"
local sqlite = require "moonbase.sqlite"
local child = require "spec.support.child"
local expect = require "spec.support.expect"
local files = require "spec.support.files"
local now = require "moonbase.core".now

local share = tonumber(os.getenv "MB_SOAK") or 1

-- How often something is done: n times in the whole length, at least `least` times.
local function times(n, least)
  return math.max(math.floor(n * share), least or 1)
end

-- The same numbers in each run: what fails can be run again.
local seed = 1
local function random(n)
  seed = (seed * 1103515245 + 12345) % 2147483648
  return math.floor(seed / 65536) % n + 1
end

describe("SQLite at length", function()
  local path, db

  before_each(function()
    path = files.path "a.db"
    db = moonbase.open("sqlite:" .. path)
  end)

  after_each(function()
    db:close()
    files.clean()
  end)

  local function is_whole()
    assert.equal("ok", db:query_value "pragma integrity_check")
  end

  it("keeps blobs of 100 MB", function()
    local size = 100 * 1048576
    db:exec "create table t (id integer primary key, b blob)"
    for i = 1, times(3) do
      local bytes = (string.char(i) .. ("\0\255"):rep(4) .. "1234567"):rep(size / 16)
      db:exec("insert into t values (?, ?)", i, moonbase.blob(bytes))
      assert.equal(size, db:query_value("select length(b) from t where id = ?", i))
      local got = db:query_value("select b from t where id = ?", i)
      assert.is_true(got == bytes)
      local reader = sqlite.blob_reader(db, "t", "b", i)
      assert.equal(size, reader.size)
      local at = 0
      for part in function() return reader:read(16777216) end do
        assert.is_true(part == bytes:sub(at + 1, at + #part))
        at = at + #part
      end
      assert.equal(size, at)
    end
    local copy = files.path "copy.db"
    sqlite.backup(db, copy)
    local other = moonbase.open("sqlite:" .. copy)
    assert.equal(db:query_value "select sum(length(b)) from t",
      other:query_value "select sum(length(b)) from t")
    other:close()
    is_whole()
    -- The largest that SQLite takes is refused beyond its limit, not cut.
    expect.raised("DataError", "too big", db.exec, db, "insert into t (b) values (zeroblob(?))",
      2000000000)
  end)

  it("lets every one of several writing processes have its turn", function()
    db:exec "create table done (process integer, n integer)"
    local running, seconds = {}, times(20, 2)
    for i = 1, 4 do
      running[i] = child.start([[
        local moonbase = require "moonbase"
        local now = require "moonbase.core".now
        local path, process, seconds = ...
        local db = moonbase.open("sqlite:" .. path, { pragma = "busy_timeout = 60000" })
        db:ping()
        print "ready"
        io.stdout:flush()
        io.read()
        local stop, n, worst = now() + tonumber(seconds), 0, 0
        while now() < stop do
          local start = now()
          db:transaction(function(tx)
            tx:exec("insert into done values (?, ?)", tonumber(process), n)
          end)
          n, worst = n + 1, math.max(worst, now() - start)
        end
        db:close()
        print(n .. " " .. worst)
      ]], path, i, seconds)
    end
    for _, one in ipairs(running) do assert.equal("ready", one:hear()) end
    for _, one in ipairs(running) do one:tell "go" end
    local total, least = 0, math.huge
    for i, one in ipairs(running) do
      local text = one:finish()
      local n, worst = text:match "^(%d+) ([%d.e-]+)\n$"
      assert.is_truthy(n, text)
      n = tonumber(n)
      assert.equal(n, db:query_value("select count(*) from done where process = ?", i))
      assert.is_true(tonumber(worst) < 30, "one waited for " .. worst .. " s")
      total, least = total + n, math.min(least, n)
    end
    assert.is_true(least > total / 4 / 5, "one of four had " .. least .. " of " .. total)
    is_whole()
  end)

  it("keeps what a process has committed before it is killed, and nothing else", function()
    db:exec "create table t (id integer primary key, b blob)"
    for round = 1, times(30, 5) do
      local dying = child.start([[
        local db = require "moonbase".open("sqlite:" .. (...))
        local pid = io.popen "echo $PPID"
        print(pid:read "*l")
        pid:close()
        for i = 1, 100000 do
          db:transaction(function(tx)
            local last
            for _ = 1, 3 do
              _, last = tx:exec("insert into t (b) values (randomblob(?))", 100 + i % 5000)
            end
            tx:on_commit(function()
              io.stdout:write(tostring(last), "\n")
              io.stdout:flush()
            end)
          end)
        end
      ]], path)
      local pid = assert(dying:hear())
      local last
      for _ = 1, random(40) do last = dying:hear() end
      assert(os.execute("kill -9 " .. pid))
      last = dying:finish():match "(%d+)\n[^\n]*$" or last
      is_whole()
      assert.equal(0, db:query_value "select count(*) % 3 from t")
      assert.is_true(db:query_value "select max(id) from t" >= tonumber(last), round)
    end
  end)

  it("copies a database that others write all the time", function()
    db:exec "create table t (a integer, b integer, c blob)"
    db:exec [[with recursive n(i) as (select 1 union all select i + 1 from n where i < 2000)
      insert into t select i, -i, zeroblob(500) from n]]
    local writer = child.start([[
      local db = require "moonbase".open("sqlite:" .. (...), { pragma = "busy_timeout = 60000" })
      print "ready"
      io.stdout:flush()
      local n = 0
      repeat
        n = n + 1
        db:exec("update t set a = ?, b = ? where rowid = ?", n, -n, n % 2000 + 1)
        os.execute "sleep 0.05"
      until io.open((...) .. ".stop")
    ]], path)
    assert.equal("ready", writer:hear())
    for _ = 1, times(20, 3) do
      local copy = files.path "copy.db"
      sqlite.backup(db, copy, { pages = 64 })
      local other = moonbase.open("sqlite:" .. copy .. "?mode=ro")
      assert.equal("ok", other:query_value "pragma integrity_check")
      assert.same({ 2000, 0 }, { other:query_values "select count(*), sum(a + b) from t" })
      other:close()
    end
    files.write(path .. ".stop", "")
    assert.equal("", writer:finish())
  end)

  it("stops what takes too long at any moment, and everything else goes on", function()
    db:exec "create table t (i integer)"
    db:exec [[with recursive n(i) as (select 1 union all select i + 1 from n where i < 5000)
      insert into t select i from n]]
    local conn = db:connect()
    local endless = "with recursive n(i) as (select 1 union all select i + 1 from n) "
    local stopped = 0
    for round = 1, times(300, 30) do
      local rows = conn:query "select i from t order by i"
      for i = 1, random(100) do assert.equal(i, rows:next().i) end
      local start, timeout = now(), random(30) / 1000
      local x = conn:with { timeout = timeout }
      local ok, err
      if round % 3 == 0 then
        ok, err = moonbase.pcall(x.exec, x, "update t set i = i + (" .. endless
          .. "select count(*) from n)")
      elseif round % 3 == 1 then
        ok, err = moonbase.pcall(x.query_value, x, endless .. "select count(*) from n")
      else
        ok, err = moonbase.pcall(x.transaction, x, function(tx)
          tx:exec "delete from t where i > 100"
          tx:exec("insert into t " .. endless .. "select i from n")
        end)
      end
      assert.is_false(ok)
      assert.equal("TimeoutError", err.class)
      assert.is_false(err.connection_dead)
      if now() - start < timeout + 0.05 then stopped = stopped + 1 end
      local rest = rows:all()
      assert.equal(5000, rest[#rest].i)
      assert.same({ 5000, 12502500 }, { conn:query_values "select count(*), sum(i) from t" })
    end
    -- A busy machine delays some of them.
    assert.is_true(stopped > times(300, 30) / 10, stopped .. " were stopped in time")
    conn:close()
    assert.equal(1, db:stats().created)
    is_whole()
  end)

  it("keeps indices right although comparisons fail at random", function()
    local failing = 0
    local own = moonbase.open("sqlite:" .. path, { collations = { own = function(a, b)
      if failing > 0 and random(failing) == 1 then error "at random" end
      return a < b and -1 or a > b and 1 or 0
    end } })
    own:exec "create table t (x text collate own, y text collate own unique)"
    own:exec "create index t_x on t (x)"
    local kept, failed = 0, 0
    for _ = 1, times(20000, 1000) do
      failing = 200
      local word = ("%04d"):format(random(10000))
      local ok
      if random(2) == 1 then
        ok = pcall(own.exec, own, "insert or ignore into t values (?, ?)", word, word)
      else
        ok = pcall(own.transaction, own, function(tx)
          tx:exec("delete from t where x = ?", word)
          tx:exec("insert into t values (?, ?)", word, word)
        end)
      end
      failing = 0
      kept, failed = kept + (ok and 1 or 0), failed + (ok and 0 or 1)
      if (kept + failed) % 500 == 0 then
        assert.equal("ok", own:query_value "pragma integrity_check")
      end
    end
    assert.is_true(kept > 0 and failed > 0)
    assert.equal("ok", own:query_value "pragma integrity_check")
    assert.equal(own:query_value "select count(*) from t",
      own:query_value "select count(distinct x) from t")
    own:close()
  end)

  it("loses nothing when the file is full at any page", function()
    db:exec "create table t (id integer primary key, b blob)"
    db:exec "create index t_b on t (b)"
    local conn, rows = db:connect(), 0
    for pages = 10, 10 + times(150, 20) do
      conn:exec("pragma max_page_count = " .. pages)
      local ok, err
      repeat
        ok, err = moonbase.pcall(conn.transaction, conn, function(tx)
          for _ = 1, 3 do tx:exec("insert into t (b) values (randomblob(?))", random(1500)) end
        end)
        if ok then rows = rows + 3 end
      until not ok
      assert.equal("ResourceError", err.class)
      assert.equal("SQLITE_FULL", err.code)
      assert.equal(rows, conn:query_value "select count(*) from t")
    end
    conn:close()
    assert.is_true(rows > 0)
    is_whole()
  end)
end)
