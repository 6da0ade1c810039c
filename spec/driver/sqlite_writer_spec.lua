-- The one place to write of a SQLite file: who waits for it, and who does not.
local moonbase = require "moonbase"
local core = require "moonbase.core"
local expect = require "spec.support.expect"
local files = require "spec.support.files"
local language = require "spec.support.language"
local length = require "spec.support.length"
local threads = require "spec.support.threads"

-- What a text of a thread begins with.
local opening = [[
  local number, path, max, acquire_timeout, pragma = ...
  local moonbase, threads = require "moonbase", require "spec.support.threads"
  local db = moonbase.open("sqlite:" .. path, { name = "writers", max = max,
    acquire_timeout = acquire_timeout, pragma = pragma })
]]

local series = "with recursive n(i) as (select 1 union all select i + 1 from n where i < ?) "
  .. "select i from n"

describe("The place to write of SQLite", function()
  local path, db, given

  local function open(options)
    given = options or {}
    local copy = { name = "writers" }
    for name, value in pairs(given) do copy[name] = value end
    db = moonbase.open("sqlite:" .. path, copy)
    return db
  end

  -- A thread that uses the same pool.
  local function start(number, text, ...)
    return threads.start(opening .. text, number, path, given.max, given.acquire_timeout,
      given.pragma, ...)
  end

  local function wait_until(fn)
    local limit = core.now() + 20
    while not fn() and core.now() < limit do core.sleep(0.001) end
    assert.is_true(fn())
  end

  local function count()
    return db:query_value "select count(*) from t"
  end

  before_each(function()
    path = files.path "a.db"
    local first = moonbase.open("sqlite:" .. path)
    first:exec "create table t (writer integer, n integer, primary key (writer, n))"
    first:close()
  end)

  after_each(function()
    db:close()
    db = nil
    files.clean()
  end)

  -- 16 threads that write, in all the ways there are; `beside` runs in one more meanwhile.
  local function write_all(beside)
    local each, writers = length(10000), {}
    for i = 1, 16 do
      writers[i] = start(i, [[
        threads.meet("writers are there", 16)
        local sql = "insert into t values (?, ?)"
        for i = 1, select(6, ...) do
          if i % 4 == 0 then
            db:transaction(function(tx) tx:exec(sql, number, i) end)
          elseif i % 4 == 1 then
            local conn = db:connect()
            conn:exec(sql, number, i)
            conn:close()
          else
            db:exec(sql, number, i)
          end
        end
      ]], each)
    end
    local done = moonbase.cancellation { name = "writers are done" }
    local reader = beside and start(17, beside)
    local problems = {}
    for i = 1, 16 do
      local ok, err = pcall(writers[i].join, writers[i])
      problems[#problems + 1] = not ok and err or nil
    end
    done:cancel()
    if reader then reader:join() end
    assert.same({}, problems)
    for i = 1, 16 do
      assert.equal(each, db:query_value("select count(*) from t where writer = ?", i))
    end
    assert.equal(0, db:stats().timeouts)
    assert.equal("ok", db:query_value "pragma integrity_check")
  end

  it("is given to one after the other, so that nobody is too late for the lock", function()
    -- SQLite does not wait for a lock at all.  Every connection has read before: a first look
    -- at a file that somebody writes may take SQLite's lock for a moment.
    open { pragma = "busy_timeout = 0", max = 4 }
    local tx = db:begin()
    local lent = { tx, db:connect(), db:connect(), db:connect() }
    for _, conn in ipairs(lent) do conn:query_value "select count(*) from t" end
    tx:rollback()
    for i = 2, 4 do lent[i]:close() end
    write_all()
  end)

  it("is not in the way of who reads", function()
    open { pragma = "busy_timeout = 500" }
    write_all [[
      local done, before = moonbase.cancellation { name = "writers are done" }, 0
      while not done:is_cancelled() do
        local after = db:query_value "select count(*) from t"
        assert(after >= before)
        before = after
      end
    ]]
  end)

  it("is waited for by writers beside whom readers, and the one who has it, go on", function()
    open { max = 3 }
    local tx = db:begin()
    tx:exec "insert into t values (0, 1)"
    local writers = {}
    for i = 1, 10 do
      writers[i] = start(i, [[db:exec("insert into t values (?, 1)", number)]])
    end
    wait_until(function() return db:stats().waiting == 10 end)
    assert.equal(1, db:stats().in_use)
    -- Two connections are left for readers, at the same time.
    local conn = db:connect()
    assert.equal(0, conn:query_value "select count(*) from t")
    assert.equal(0, start(1, "return db:query_value 'select count(*) from t'"):join())
    conn:close()
    for i = 2, 100 do tx:exec("insert into t values (0, ?)", i) end
    assert.equal(100, tx:query_value "select count(*) from t")
    tx:commit()
    for _, writer in ipairs(writers) do writer:join() end
    assert.equal(110, count())
    assert.equal(0, db:stats().waiting)
    assert.is_true(db:stats().acquire_time > 0)
  end)

  it("is had in the order of arrival", function()
    open()
    local tx = db:begin()
    tx:exec "insert into t values (0, 0)"
    local writers = {}
    for i = 1, 5 do
      writers[i] = start(i, [[
        db:transaction(function(tx)
          tx:exec("insert into t values (?, ?)", number, tx:query_value "select count(*) from t")
        end)
      ]])
      wait_until(function() return db:stats().waiting == i end)
    end
    tx:commit()
    for _, writer in ipairs(writers) do writer:join() end
    assert.same({ 0, 1, 2, 3, 4, 5 }, db:query_column "select writer from t order by n")
  end)

  it("is waited for as long as acquire_timeout says, or until it is cancelled", function()
    open { acquire_timeout = 0.1 }
    local tx = db:begin()
    tx:exec "insert into t values (0, 0)"
    local class, message = start(1, [[
      local ok, err = pcall(db.exec, db, "insert into t values (1, 1)")
      return err.class, err.message
    ]]):join()
    assert.equal("PoolTimeoutError", class)
    assert.is_truthy(message:find("the place to write did not become free", 1, true))
    assert.equal(1, db:stats().timeouts)
    db:close()

    open()
    tx = db:begin()
    tx:exec "insert into t values (0, 0)"
    local stop = moonbase.cancellation { name = "writers" }
    local waiting = start(1, [[
      local x = db:with { cancel = moonbase.cancellation { name = "writers" } }
      local ok, err = pcall(x.exec, x, "insert into t values (1, 1)")
      return err.class
    ]])
    wait_until(function() return db:stats().waiting == 1 end)
    stop:cancel()
    assert.equal("CanceledError", waiting:join())
    tx:rollback()
    assert.equal(0, db:stats().timeouts)
  end)

  it("is held by a transaction that SQL text has begun, until its end", function()
    open()
    local conn = db:connect()
    conn:exec "begin immediate"
    local writer = start(1, "db:exec 'insert into t values (1, 1)'")
    wait_until(function() return db:stats().waiting == 1 end)
    conn:exec "insert into t values (0, 0)"
    conn:exec "commit"
    writer:join()
    assert.equal(2, count())
    conn:exec "begin immediate"
    writer = start(1, "db:exec 'insert into t values (1, 2)'")
    wait_until(function() return db:stats().waiting == 1 end)
    conn:close()
    writer:join()
    assert.equal(3, count())
  end)

  for name, word in pairs { writers = "shared", [false] = "its own" } do
    describe("of a pool that is " .. word, function()
      before_each(function()
        db = moonbase.open("sqlite:" .. path, { name = name or nil, acquire_timeout = 20 })
      end)

      it("is refused at once to who would wait for itself", function()
        local tx = db:begin()
        tx:exec "insert into t values (0, 0)"
        local started = core.now()
        expect.raised("UsageError", "would wait for it for ever", db.exec, db,
          "insert into t values (1, 1)")
        local rows = db:query(series, 1000)
        rows:next()
        expect.raised("UsageError", "would wait for it for ever", db.exec, db,
          "insert into t values (1, 1)")
        assert.is_true(core.now() - started < 10)
        rows:close()
        tx:commit()
        assert.equal(1, count())
      end)

      it("is left by a transaction that was forgotten, whatever else is open", function()
        local rows = db:query(series, 1000)
        rows:next()
        local conn = db:connect()
        -- So deep that no slot of the stack that is in use remembers it.
        local function forget(x, depth)
          if depth > 0 then forget(x, depth - 1) else x:begin():exec "delete from t" end
        end
        local sql, wrote = "insert into t select 1, count(*) from t", 0
        local function write(x, method, how)
          x[method](x, how)
          wrote = wrote + 1
          assert.equal(wrote, count())
        end
        local function transact(tx) tx:exec(sql) end
        for method, how in pairs { exec = sql, exec_script = sql, transaction = transact } do
          forget(db, 20)
          write(db, method, how)
          forget(db, 20)
          write(conn, method, how)
          forget(conn, 20)
          write(db, method, how)
        end
        assert.equal(999, #rows:all())
      end)

      it("is left when a transaction was collected, though its connection is kept", function()
        local conn = db:connect()
        local function forget(depth)
          if depth > 0 then forget(depth - 1) else conn:begin():exec "delete from t" end
        end
        forget(20)
        language.collect()
        db:ping()
        local other = moonbase.open("sqlite:" .. path, { pragma = "busy_timeout = 0" })
        other:exec "insert into t values (1, 1)"
        other:close()
        assert.equal(1, conn:query_value "select count(*) from t")
      end)
    end)
  end
end)
