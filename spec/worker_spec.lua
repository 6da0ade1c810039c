-- What a database that blocks owes to a program with an event loop, by SQLite: its long calls go on
-- on other threads.
local core = require "moonbase.core"
local moonbase = require "moonbase"
local child = require "spec.support.child"
local expect = require "spec.support.expect"
local files = require "spec.support.files"
local language = require "spec.support.language"

-- What waits is left, and that is not to be had in Lua 5.1.
if not language.yields then return end

describe("SQLite in an event loop", function()
  local path, db

  -- The whole loop: whoever waits is asked again after a moment.
  local tasks, current

  local scheduler = {
    task = function() return current end,
    wait = function() coroutine.yield() end,
  }

  local function spawn(fn)
    tasks[#tasks + 1] = coroutine.create(fn)
  end

  local function loop()
    while #tasks > 0 do
      for i = #tasks, 1, -1 do
        current = tasks[i]
        local ok, err = coroutine.resume(tasks[i])
        current = nil
        if coroutine.status(tasks[i]) == "dead" then table.remove(tasks, i) end
        if not ok then error(err, 0) end
      end
      core.sleep(0.0002)
    end
  end

  local function pause() coroutine.yield() end

  local function threads()
    for line in io.lines "/proc/self/status" do
      local n = line:match "^Threads:%s*(%d+)"
      if n then return tonumber(n) end
    end
  end

  -- So many rows that nobody waits for the end of it.
  local endless = "with recursive n (i) as (select 1 union all select i + 1 from n) "
    .. "select sum(i) from n"

  before_each(function()
    tasks = {}
    path = files.path "loop.db"
    db = moonbase.open("sqlite:" .. path, { scheduler = scheduler })
    db:exec "create table item (id integer primary key, name text unique)"
  end)

  after_each(function()
    db:close()
    files.clean()
  end)

  -- The time of a query that is ended by its time-out, and the longest time that another task did
  -- not get to run meanwhile.
  local function beside(query)
    local done, longest, turns = false, 0, 0
    spawn(function()
      query()
      done = true
    end)
    spawn(function()
      local last = core.now()
      while not done do
        pause()
        local now = core.now()
        longest, last, turns = math.max(longest, now - last), now, turns + 1
      end
    end)
    local start = core.now()
    loop()
    return core.now() - start, longest, turns
  end

  it("serves other tasks while a query takes long", function()
    local took, longest, turns = beside(function()
      expect.raised("TimeoutError", nil, db.query_value, db:with { timeout = 1 }, endless)
    end)
    assert.is_true(took >= 0.99 and took < 3, took)
    assert.is_true(longest < 0.3, longest)
    assert.is_true(turns > 100, turns)
  end)

  it("serves them while it counts what it cannot look into", function()
    db:exec("insert into item with recursive n (i) as (select 1 union all "
      .. "select i + 1 from n where i < 200000) select i, 'name ' || i from n")
    local _, _, turns = beside(function()
      for _ = 1, 20 do assert.equal(200000, db:query_value "select count(*) from item") end
    end)
    assert.is_true(turns > 20, turns)
  end)

  it("serves them while a lock is waited for", function()
    local other = moonbase.open("sqlite:" .. path, { scheduler = scheduler })
    local order, locked = {}, false
    spawn(function()
      local tx = other:begin()
      tx:exec "insert into item values (1, 'first')"
      locked = true
      for _ = 1, 200 do pause() end
      order[#order + 1] = "first"
      tx:commit()
    end)
    spawn(function()
      while not locked do pause() end
      db:exec "insert into item values (2, 'second')"
      order[#order + 1] = "second"
    end)
    loop()
    assert.same({ "first", "second" }, order)
    assert.equal(2, db:query_value "select count(*) from item")
    other:close()
  end)

  it("has tasks write one after the other", function()
    for task = 1, 4 do
      spawn(function()
        local own = moonbase.open("sqlite:" .. path, { scheduler = scheduler })
        for i = 1, 10 do
          local tx = own:begin()
          local name = ("together %d %d"):format(task, i)
          tx:exec("insert into item (name) values (?)", name)
          pause()
          tx:exec("update item set name = name || '!' where name = ?", name)
          tx:commit()
          own:exec("insert into item (name) values (?)", ("alone %d %d"):format(task, i))
        end
        own:close()
      end)
    end
    loop()
    assert.equal(80, db:query_value "select count(*) from item")
    assert.equal(40, db:query_value "select count(*) from item where name like '%!'")
  end)

  it("cancels what is elsewhere", function()
    local stop = moonbase.cancellation()
    local started = core.now()
    spawn(function()
      expect.raised("CanceledError", "no more", db.query_value, db:with { cancel = stop }, endless)
      assert.equal(1, db:query_value "select 1")
    end)
    spawn(function()
      while core.now() - started < 0.05 do pause() end
      stop:cancel "no more"
    end)
    loop()
    assert.is_true(core.now() - started < 2)
  end)

  it("ends what is elsewhere when its task is", function()
    local own = { task = scheduler.task }
    function own.wait()
      coroutine.yield()
      if own.killed then error "killed" end
    end
    local killed = moonbase.open("sqlite:" .. path, { scheduler = own })
    spawn(function()
      local ok, err = pcall(killed.query_value, killed, endless)
      assert.is_false(ok)
      assert.truthy(tostring(err):find("killed", 1, true))
      own.killed = false
      assert.equal(1, killed:query_value "select 1")
    end)
    spawn(function()
      for _ = 1, 20 do pause() end
      own.killed = true
    end)
    loop()
    killed:close()
  end)

  it("raises what happens elsewhere", function()
    spawn(function()
      db:exec "insert into item values (1, 'one')"
      local err = expect.raised("ConstraintError", nil, db.exec, db,
        "insert into item values (2, 'one')")
      assert.equal("unique", err.constraint_kind)
      assert.same({ "name" }, err.columns)
      expect.raised("SyntaxError", nil, db.exec, db, "insert into nowhere values (1)")
      assert.equal(1, db:query_value "select count(*) from item")
    end)
    loop()
  end)

  it("reads rows one by one", function()
    local n = 0
    db:exec("insert into item with recursive n (i) as (select 1 union all "
      .. "select i + 1 from n where i < 3000) select i, 'name ' || i from n")
    for task = 1, 2 do
      spawn(function()
        local seen = 0
        for row in db:query "select a.id, b.name from item a join item b on b.id = 3001 - a.id" do
          seen = seen + 1
          assert.equal("name " .. 3001 - row.id, row.name)
          if seen % 500 == task then pause() end
        end
        n = n + seen
      end)
    end
    loop()
    assert.equal(6000, n)
  end)

  it("gives back what a write returns", function()
    spawn(function()
      local names = db:query_column("insert into item values (1, 'a'), (2, 'b') returning name")
      assert.same({ "a", "b" }, names)
      db:transaction(function(tx)
        assert.equal(3, tx:query_value "insert into item (name) values ('c') returning id")
      end)
    end)
    loop()
  end)

  it("has room for texts that are as deep as SQLite takes them", function()
    spawn(function()
      local deep = ("1+("):rep(20) .. "1" .. (")"):rep(20)
      assert.equal(21, db:query_value("select " .. deep))
      local wide = ("1+"):rep(980) .. "1"
      assert.equal(981, db:query_value("select " .. wide))
      local inner = "select 1 as n"
      for _ = 1, 8 do inner = "select n + 1 as n from (" .. inner .. " limit 1)" end
      assert.equal(9, db:query_value(inner))
      expect.raised("SyntaxError", nil, db.query_value, db, "select " .. ("1+"):rep(2000) .. "1")
    end)
    loop()
  end)

  it("keeps functions of the program on its own thread", function()
    local calls = 0
    local function twice(x)
      calls = calls + 1
      return x * 2
    end
    local one = moonbase.open("sqlite::memory:",
      { scheduler = scheduler, functions = { twice = twice } })
    spawn(function()
      assert.equal(9900, one:query_value("with recursive n (i) as (select 0 union all select i + 1 "
        .. "from n where i < 99) select sum(twice(i)) from n"))
      assert.equal(100, calls)
      local before = threads()
      one:query_value("with recursive n (i) as (select 0 union all select i + 1 "
        .. "from n where i < 200000) select count(*) from n")
      assert.equal(before, threads())
      expect.raised("TimeoutError", nil, one.query_value, one:with { timeout = 0.02 }, endless)
    end)
    loop()
    one:close()
  end)

  it("starts no thread without a loop", function()
    local output = child.run([[
      local moonbase = require "moonbase"
      local db = moonbase.open("sqlite:" .. ...)
      db:exec "create table t (a integer)"
      db:transaction(function(tx) tx:exec "insert into t values (1)" end)
      db:query_value("with recursive n (i) as (select 1 union all select i + 1 from n "
        .. "where i < 100000) select count(*) from n")
      for line in io.lines "/proc/self/status" do
        if line:find "^Threads:" then print((line:gsub("%s+", " "))) end
      end
    ]], { files.path "alone.db" })
    assert.equal("Threads: 1\n", output)
  end)
end)
