-- Lua states in several threads of one process, which share a pool by its name.
local child = require "spec.support.child"
local expect = require "spec.support.expect"
local language = require "spec.support.language"
local length = require "spec.support.length"
local threads = require "spec.support.threads"
local core = require "moonbase.core"

-- What a text of a thread begins with.
local opening = [[
  local number, url, driver, max = ...
  local moonbase, threads = require "moonbase", require "spec.support.threads"
  local function open()
    return moonbase.open(url, { driver = driver, name = "threads", max = max })
  end
]]

-- A thread that uses a pool of few connections in every way.
local everything = [[
  local series, n = select(5, ...)
  local db, committed, most, kept = open(), 0, 0, {}
  local state = number
  local function random(limit)
    state = state * 16807 % 2147483647
    return state % limit + 1
  end
  local function insert(x)
    assert(x:exec "insert into item (name) values ('a')" == 1)
    return 1
  end
  local ways = {
    function() db:query_value "select count(*) from item" end,
    function() db:query(series, 100):next() end,
    function() kept[random(3)] = db:prepare(series):query(100) end,
    function() kept = {} end,
    function() committed = committed + insert(db) end,
    function()
      committed = committed + db:transaction(function(tx) return insert(tx) + insert(tx) end)
    end,
    function()
      assert(not pcall(db.transaction, db, function(tx) insert(tx) error "undone" end))
    end,
    function() insert(db:begin()) end,
    function()
      local conn = db:connect()
      committed = committed + insert(conn)
      conn:begin()
      if random(2) == 1 then conn:close() end
    end,
    function()
      local stop = moonbase.cancellation()
      stop:cancel()
      local x = db:with { cancel = stop }
      assert(not pcall(x.query_value, x, "select 1"))
    end,
    function() assert(not pcall(db.exec, db, "no statement")) end,
    function()
      db:close()
      db = open()
    end,
    function() collectgarbage() end,
  }
  for _ = 1, n do
    ways[random(#ways)]()
    most = math.max(most, db:stats().size)
  end
  return committed, most
]]

-- Batches of commands that are told by their numbers, and a model of what they do.
local batches = [[
  local commands = require "moonbase.commands"
  local accounts, most = 8, 1000003

  -- The steps of a batch: kind, account, and another account or a number.
  local function plan(batch)
    local state = batch % 2147483646 + 1
    local function random(limit)
      state = state * 16807 % 2147483647
      return state % limit + 1
    end
    random(1)
    local kinds, steps = { "add", "scale", "copy", "add", "scale", "copy" }, {}
    for i = 1, random(4) do
      steps[i] = { kinds[random(#kinds)], random(accounts), random(accounts) }
    end
    local ending = random(8)
    if ending < 4 then
      local failing = { "raise", "reject", "break" }
      table.insert(steps, random(#steps + 1), { failing[ending], 1, 1 })
    end
    return steps
  end

  local function apply(batch, model)
    for _, step in ipairs(plan(batch)) do
      local kind, a, b = step[1], step[2], step[3]
      if kind == "add" then model[a] = (model[a] + b) % most end
      if kind == "scale" then model[a] = (model[a] * 3 + b) % most end
      if kind == "copy" then model[a] = model[b] end
    end
  end

  -- Whether the items are what the batches of the journal have made, in their order.
  local function check(x)
    -- MySQL's serializable ones lock what they read, and those who write.
    local isolation = x:capability().driver == "mysql" and "repeatable read" or "serializable"
    return x:transaction(function(tx)
      local model = {}
      for i = 1, accounts do model[i] = i end
      local journal = tx:query_column "select batch from journal order by position"
      for _, batch in ipairs(journal) do apply(batch, model) end
      for row in tx:query "select id, n from item" do
        assert(row.n == model[row.id], "an item is not as the batches have left it")
      end
      return #journal
    end, { read_only = true, isolation = isolation })
  end

  local Step = commands.define("Step", function(self, tx)
    local kind, a, b = self[1], self[2], self[3]
    if kind == "raise" then error("told to", 0) end
    if kind == "reject" then return nil, "told to" end
    if kind == "break" then return tx:exec "insert into item (id, n) values (1, 1)" end
    local function get(id) return tx:query_value("select n from item where id = ?", id) end
    local n = kind == "copy" and get(b)
      or kind == "add" and (get(a) + b) % most or (get(a) * 3 + b) % most
    tx:exec("update item set n = ? where id = ?", n, a)
    return n
  end)

  local function record(batch)
    return function(tx)
      tx:exec("insert into journal (position, batch) values (?, ?)",
        tx:query_value "select count(*) from journal" + 1, batch)
      return batch
    end
  end

  -- Whether the batch was successful.
  local function execute(executor, batch)
    local list = {}
    for i, step in ipairs(plan(batch)) do list[i] = Step(step) end
    list[#list + 1] = record(batch)
    local ok, results, reason = pcall(executor.execute, executor, list)
    if ok and results then return results[#list] == batch end
    local err = ok and reason or results
    assert(err == "told to" or moonbase.is(err, "ConstraintError"), tostring(err))
    return false
  end
]]

-- A program that tells how many KB of memory and how many descriptors it has more after its
-- threads have worked than after a tenth of that; 0 where that cannot be found out.
local growing = [[
  local url, driver, n, n_threads, work = ...
  local lfs, threads = require "lfs", require "spec.support.threads"
  local sleep = require "moonbase.core".sleep
  require "spec.support.thread_host".limit(600)
  local function measure()
    local file = io.open "/proc/self/status"
    local text = file and file:read "*a" or ""
    if file then file:close() end
    local descriptors = 0
    for _ in lfs.dir(text ~= "" and "/proc/self/fd" or ".") do descriptors = descriptors + 1 end
    return tonumber(text:match "VmRSS:%s*(%d+)" or 0), descriptors,
      tonumber(text:match "Threads:%s*(%d+)" or 0)
  end
  local function run(times)
    threads.run(n_threads, work, url, driver, 2, math.ceil(times / n_threads))
    -- Threads in the background end by themselves.
    while select(3, measure()) > 1 do sleep(0.001) end
    return measure()
  end
  local memory, descriptors = run(math.max(1000, n / 10))
  -- A heap finds a new peak now and then; what leaks grows every time.
  for try = 1, 3 do
    local memory_after, descriptors_after = run(n)
    local more = memory_after - memory
    if more < 2000 or try == 3 then print(more .. " " .. descriptors_after - descriptors) break end
    memory = memory_after
  end
]]

-- A program that ends in some way while its threads, and it itself, have everything open.
local program = [[
  local url, driver, ending, endless, opening = ...
  local moonbase, threads = require "moonbase", require "spec.support.threads"
  require "spec.support.thread_host".limit(60)
  local works = {
    "while true do db:query_value 'select 1' end",
    "db:query_value(endless)",
    "while true do db:connect() end",
    "while true do db:exec \"insert into item (name) values ('one')\" end",
    "for i = 1, 1e9 do db:transaction(function(tx) "
      .. "for _ = 1, 2 do tx:exec \"insert into item (name) values ('half')\" end "
      .. "end) end",
  }
  if ending == "thread" then
    works[#works + 1] = "require 'moonbase.core'.sleep(0.1) print 'ending' os.exit(3)"
  end
  for i, work in ipairs(works) do
    threads.start(opening .. "local endless = select(5, ...) local db = open() db:ping() "
      .. "threads.meet('all are there', select(6, ...)) " .. work, i, url, driver, 4, endless,
      #works + 1)
  end
  db = moonbase.open(url, { driver = driver, name = "threads", max = 4 })
  threads.meet("all are there", #works + 1)
  if ending ~= "collected" then
    conn = db:connect()
    tx = conn:begin()
    tx:exec "insert into item (name) values ('lost')"
    rows = db:query((endless:gsub("count%(%*%)", "1")))
    rows:next()
  end
  require "moonbase.core".sleep(0.05)
  if ending == "thread" then while true do tx:query_value "select 1" end end
  print "ending"
  io.stdout:flush()
  if ending == "exit" then os.exit(3) end
  if ending == "close" then os.exit(3, true) end
  if ending == "error" then error "the end" end
  if ending == "database" then db:close() end
  if ending == "collected" then
    db = nil
    collectgarbage()
    collectgarbage()
  end
]]

local function wait_until(fn)
  local limit = core.now() + 20
  while not fn() and core.now() < limit do core.sleep(0.001) end
  assert.is_true(fn())
end

for _, database in ipairs(require "spec.support.databases") do
  local many = database.quirks.many_connections
  local max

  -- The same pool as the texts open.
  local function open()
    return database:open { name = "threads", max = max }
  end

  local function start(text, ...)
    return threads.start(opening .. text, 1, database:url(), database.driver, max, ...)
  end

  local function run(n, text, ...)
    return threads.run(n, opening .. text, database:url(), database.driver, max, ...)
  end

  describe("A pool with a name on " .. database.name, function()
    local db

    before_each(function()
      max = nil
      db = open()
      database:create(db, "item (id :id, name :text not null)")
    end)

    after_each(function()
      db = nil
      database:clean()
    end)

    it("is one pool for the Lua states of all threads", function()
      local before = db:stats().acquired
      run(2, [[
        local db = open()
        db:exec("insert into item (name) values (?)", "thread " .. number)
        threads.meet("both have written", 2)
        assert(db:query_value "select count(*) from item" == 2)
      ]])
      assert.equal(before + 4, db:stats().acquired)
      assert.same({ "thread 1", "thread 2" }, db:query_column "select name from item order by name")
      assert.is_true(db:stats().created <= db:stats().max)
    end)

    it("goes on when the state that has opened it is closed", function()
      db:close()
      local first = start [[
        local db = open()
        db:exec "create table child (id integer, name varchar(20))"
        db:exec "insert into child values (1, 'first')"
        threads.meet("the first has opened", 2)
        threads.meet("the second has opened", 2)
      ]]
      local second = start [[
        threads.meet("the first has opened", 2)
        local db = open()
        threads.meet("the second has opened", 2)
        threads.meet("the first has ended", 2)
        local acquired = db:stats().acquired
        db:exec "insert into child values (2, 'second')"
        return acquired, db:query_value "select count(*) from child"
      ]]
      first:join()
      threads.meet("the first has ended", 2)
      local acquired, count = second:join()
      assert.equal(2, acquired)
      assert.equal(2, count)
    end)

    it("is closed by its last handle, and the name is free then", function()
      local other = open()
      db:close()
      expect.raised("UsageError", "the database is closed", db.ping, db)
      assert.is_true(other:ping())
      run(2, "local db = open() assert(db:ping()) db:close()")
      assert.is_true(other:ping())
      local changed = { name = "threads", timeout = 5 }
      expect.raised("ConnectorValidationError", "is a pool with another URL or other options",
        database.open, database, changed)
      other:close()
      assert.is_true(database:open(changed):ping())
    end)

    it("gets back what a state has left that was closed", function()
      for _ = 1, length(200) do
        run(2, [[
          local db, series = open(), select(5, ...)
          local rows = db:query(series, 1000)
          rows:next()
          statement = db:prepare(series)
          statement:query(1000):next()
          if number == 1 then
            rows = nil
            collectgarbage()
            conn = db:connect()
            tx = conn:begin()
            nested = tx:begin()
            nested:exec "insert into item (name) values ('lost')"
          end
        ]], database.quirks.sql.series)
      end
      -- What was left is cleaned by the pool's thread, or by who asks next.
      assert.equal(0, db:query_value "select count(*) from item")
      wait_until(function() return db:stats().in_use == 0 end)
      db:exec "insert into item (name) values ('kept')"
    end)

    if many then
      it("serves those of another thread who wait", function()
        db:close()
        max = 1
        db = open()
        local conn = db:connect()
        local waiting = start [[
          return open():query_value "select count(*) from item"
        ]]
        wait_until(function() return db:stats().waiting == 1 end)
        conn:close()
        assert.equal(0, waiting:join())
      end)

      it("loses nothing when threads do everything at once", function()
        db:close()
        max = 4
        db = open()
        local results = run(8, everything, database.quirks.sql.series, length(20000))
        local committed, most = 0, 0
        for _, result in ipairs(results) do
          committed = committed + result[1]
          most = math.max(most, result[2])
        end
        wait_until(function()
          db:ping()
          return db:stats().in_use == 0
        end)
        assert.equal(committed, db:query_value "select count(*) from item")
        assert.is_true(committed > 0)
        assert.is_true(most <= 4)
        local stats = db:stats()
        assert.equal(stats.acquired, stats.released)
        assert.equal(stats.created, stats.closed + stats.open)
        assert.equal(0, stats.timeouts)
        assert.equal(0, stats.waiting)
      end)
    end
  end)

  if many then
    describe("Commands of several threads on " .. database.name, function()
      local db

      before_each(function()
        max = nil
        db = open()
        database:create(db, "item (id :integer primary key, n :integer)")
        for i = 1, 8 do db:exec("insert into item (id, n) values (?, ?)", i, i) end
        db:exec "drop table if exists journal"
        database:create(db, "journal (position :integer primary key, batch :integer)")
      end)

      after_each(function()
        db:exec "drop table journal"
        db = nil
        database:clean()
      end)

      it("leave what the successful batches make, in the order of their commits", function()
        local each = 125
        local results = run(9, batches .. [[
          local db, successful = open(), {}
          if number == 9 then -- one that reads at the same time
            for _ = 1, 20 do check(db) end
            return ""
          end
          local executor = commands.executor(db, { write_exclusive = true })
          for i = 1, select(5, ...) do
            local batch = number * 100000 + i
            if execute(executor, batch) then successful[#successful + 1] = batch end
          end
          return table.concat(successful, " ")
        ]], each)
        local successful = {}
        for _, result in ipairs(results) do
          for batch in result[1]:gmatch "%d+" do successful[#successful + 1] = tonumber(batch) end
        end
        local check = language.compile("local moonbase = require 'moonbase' " .. batches
          .. "return check")
        assert.equal(#successful, check(db))
        assert.same(successful, db:query_column "select batch from journal order by batch")
        assert.is_true(#successful > 4 * each and #successful < 8 * each)
      end)

      it("with write_exclusive keep no reader waiting, and one another", function()
        local first = start(batches .. [[
          commands.executor(open(), { write_exclusive = true }):execute {
            function(tx)
              tx:exec "update item set n = 7 where id = 1"
              threads.meet("it has written", 2)
              threads.meet("others have read", 2)
              return tx:exec "update item set n = n + 1 where id = 1"
            end,
          }
        ]])
        threads.meet("it has written", 2)
        local second = start(batches .. [[
          commands.executor(open(), { write_exclusive = true }):execute {
            function(tx) tx:exec "update item set n = n * 10 where id = 1" end,
          }
        ]])
        wait_until(function() return db:stats().waiting == 1 end)
        assert.equal(1, db:query_value "select n from item where id = 1")
        assert.equal(1, start [[
          return open():query_value "select n from item where id = 1"
        ]]:join())
        threads.meet("others have read", 2)
        first:join()
        second:join()
        assert.equal(80, db:query_value "select n from item where id = 1")
      end)
    end)

    describe("Nothing grows on " .. database.name, function()
      before_each(function() database:open():close() end)
      after_each(function() database:clean() end)

      local function stays_flat(n, n_threads, work)
        -- Each thread's own part of the heap would come and go, and a sanitizer keeps what was
        -- freed.
        local output, status = child.run(growing, { database:url(), database.driver, n, n_threads,
          opening .. work }, "export MALLOC_ARENA_MAX=1 "
          .. "ASAN_OPTIONS=quarantine_size_mb=0:thread_local_quarantine_size_kb=0")
        assert.equal(0, status, output)
        local kilobytes, descriptors = output:match "^(%-?%d+) (%-?%d+)\n$"
        assert.is_truthy(kilobytes, output)
        assert.is_true(tonumber(kilobytes) < 2000, kilobytes .. " KB more")
        assert.equal(0, tonumber(descriptors))
      end

      it("when threads borrow, and give back", function()
        stays_flat(length(1000000), 4, [[
          local db = open()
          for i = 1, select(5, ...) do
            if i % 3 == 0 then
              db:connect():close()
            elseif i % 3 == 1 then
              db:ping()
            else
              assert(db:query_value "select 1" == 1)
            end
          end
        ]])
      end)

      it("when pools are opened and closed, or left", function()
        stays_flat(length(10000), 2, [[
          for i = 1, select(5, ...) do
            local db = moonbase.open(url, { driver = driver, name = "pool " .. i % 5 })
            local conn = db:connect()
            db:ping()
            if i % 2 == 0 then
              conn:close()
              db:close()
            elseif i % 64 == 1 then
              db, conn = nil
              collectgarbage()
            end
          end
        ]])
      end)
    end)

    describe("A program on " .. database.name .. " whose threads work when it ends", function()
      after_each(function() database:clean() end)

      for ending, status in pairs { returned = 0, exit = 3, close = 3, error = 1, database = 0,
        collected = 0, thread = 3 } do
        it("ends at once, and in order: " .. ending, function()
          local db = database:open()
          database:create(db, "item (id :id, name :text not null)")
          -- What threads have that do not come to their end is never freed.
          local output, got = child.run(program, { database:url(), database.driver, ending,
            database.quirks.sql.endless, opening }, "export ASAN_OPTIONS=detect_leaks=0")
          assert.equal(status, got, output)
          if ending ~= "error" then assert.equal("ending\n", output) end
          assert.equal(0, db:query_value "select count(*) from item where name = 'lost'")
          assert.equal(0, db:query_value "select count(*) from item where name = 'half'" % 2)
          db:exec "insert into item (name) values ('free')"
        end)
      end
    end)
  end
end
