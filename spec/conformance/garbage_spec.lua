-- Handles may be collected in any order, at any time, also by the end of the program.
local child = require "spec.support.child"
local language = require "spec.support.language"
local shell = require "spec.support.shell"

-- A connection that was dropped is in use until the pool has cleaned it, which over a network
-- takes a moment.
local function none_in_use(db)
  for _ = 1, 500 do
    if db:stats().in_use == 0 then return true end
    shell.must "sleep 0.01"
  end
  return false
end

-- One handle of every kind, each open, each made from another one.
local function handles(db, series)
  local conn = db:connect()
  local tx = conn:begin()
  local nested = tx:begin()
  local statement = nested:prepare(series)
  local rows = statement:query(1000)
  rows:next()
  local view = nested:with{ timeout = 5 }
  local tuples = view:query(series, 1000):tuples()
  return { conn = conn, tx = tx, nested = nested, statement = statement, rows = rows,
    view = view, tuples = tuples }
end

local kinds = { "conn", "tx", "nested", "statement", "rows", "view", "tuples" }

-- Every order would be 5,040; each kind first, each kind last, and both directions are these.
local function orders()
  local list = {}
  for first = 1, #kinds do
    local forward, backward = {}, {}
    for i = 0, #kinds - 1 do
      forward[i + 1] = kinds[(first + i - 1) % #kinds + 1]
      backward[i + 1] = kinds[(first - i - 1) % #kinds + 1]
    end
    list[#list + 1] = forward
    list[#list + 1] = backward
  end
  return list
end

-- A program that ends in some way with everything open.
local program = [[
  local url, driver, series, ending = ...
  local moonbase = require "moonbase"
  local db = moonbase.open(url, { driver = driver })
  db:exec "create table item (id integer primary key, name varchar(20))"
  db:exec "insert into item values (1, 'kept')"
  local conn = db:connect()
  local tx = conn:begin()
  tx:exec "insert into item values (2, 'lost')"
  local nested = tx:begin()
  local statement = nested:prepare(series)
  local rows = statement:query(1000)
  rows:next()
  local stop = moonbase.cancellation()
  local view = nested:with{ cancel = stop }
  local iterator = view:query(series, 1000):tuples()
  keep = { iterator, rows, nested, db, tx, view, statement, conn, stop }
  print "ending"
  if ending == "exit" then os.exit(3) end
  if ending == "close" then os.exit(3, true) end
  if ending == "error" then error "the end" end
  if ending == "database" then db:close() end
  if ending == "coroutine" then
    keep.thread = coroutine.wrap(function()
      for _ in view:query(series, 1000) do coroutine.yield() end
    end)
    keep.thread()
  end
]]

for _, database in ipairs(require "spec.support.databases") do
  local series = database.quirks.sql.series

  describe("Collecting handles on " .. database.name, function()
    local db

    before_each(function()
      db = database:open()
      database:create(db, "item (id :id, name :text)")
    end)

    after_each(function()
      db = nil
      database:clean()
    end)

    it("may go in any order", function()
      for _, order in ipairs(orders()) do
        local open = handles(db, series)
        for _, kind in ipairs(order) do
          open[kind] = nil
          collectgarbage()
        end
        assert.equal(1, db:query_value "select 1")
        assert.is_true(none_in_use(db))
        assert.is_nil(db:current())
      end
    end)

    it("may go in any order after each was closed", function()
      for _, order in ipairs(orders()) do
        local open = handles(db, series)
        for _, kind in ipairs(order) do
          local handle = open[kind]
          if kind == "tx" or kind == "nested" then
            if not handle:is_closed() then pcall(handle.rollback, handle) end
          elseif kind == "view" then
            if not handle:is_closed() then pcall(handle.commit, handle) end
          elseif kind ~= "tuples" then
            handle:close()
          end
          open[kind] = nil
          collectgarbage()
        end
        assert.equal(1, db:query_value "select 1")
        assert.is_true(none_in_use(db))
      end
    end)

    it("may begin with the Database, which the others keep alive", function()
      local open = handles(database:open(), series)
      language.collect()
      assert.equal(2, open.rows:next().i)
      assert.equal(1, open.view:query_value "select 1")
      open = nil -- luacheck: ignore 311
      language.collect()
    end)

    it("may come in the middle of an iteration", function()
      local n = 0
      for row in db:query(series, 500) do
        if row.i % 100 == 0 then language.collect() end
        n = n + 1
      end
      assert.equal(500, n)
      for count in db:connect():query(series, 500):tuples() do
        if count % 100 == 0 then language.collect() end
      end
    end)

    it("may come with every allocation", function()
      local before = collectgarbage "count"
      for _ = 1, 30 do
        local open = handles(db, series)
        collectgarbage()
        open.rows:all()
        open.nested:rollback()
        open.tx:exec "insert into item (name) values ('a')"
        open.tx:rollback()
        open.conn:close()
      end
      language.collect()
      assert.equal(0, db:query_value "select count(*) from item")
      assert.is_true(collectgarbage "count" < before + 500)
    end)

    it("may run statements in the middle of others, which lose nothing", function()
      local ran, wrong = 0, nil
      local function sow()
        for _ = 1, 100 do
          language.finalized(function()
            local ok, err = pcall(db.query_value, db, "select 7")
            ran = ran + 1
            -- The only connection may be in use, or a transaction be open.
            if ok and err ~= 7 or not ok and err.class ~= "PoolTimeoutError"
              and err.class ~= "UsageError" then
              wrong = err
            end
          end)
        end
      end
      for round = 1, 10 do
        sow()
        local all = db:query_all(series, 1000)
        assert.equal(1000, #all)
        for i = 1, 1000 do assert.equal(i, all[i].i) end
        sow()
        local n = 0
        for row in db:query(series, 1000) do
          n = n + 1
          assert.equal(n, row.i)
        end
        assert.equal(1000, n)
        sow()
        assert.equal(50, db:bulk_insert("item", { "name" }, function()
          n = n - 20
          return n >= 0 and { ("n"):rep(n) } or nil
        end))
        sow()
        assert.is_false((pcall(db.query, db, "selekt " .. round)))
        sow()
        assert.equal("x" .. round, db:query_value(require "moonbase".sql("select ?", "x" .. round)))
      end
      language.collect()
      assert.is_nil(wrong)
      assert.is_true(ran > 1000)
      assert.equal(500, db:query_value "select count(*) from item")
      assert.is_true(none_in_use(db))
    end)

    it("may come while rows share the only connection, in coroutines that are left", function()
      language.use_coroutines()
      local one = database:open{ pool = { max = 1 } }
      for i = 1, 1000 do
        coroutine.wrap(function()
          for _ in one:query(series, 100) do coroutine.yield() end
        end)()
        if i % 300 == 0 then language.collect() end
      end
      language.collect()
      assert.equal(1, one:query_value "select 1")
      assert.is_true(none_in_use(one))
    end)

    it("leaves no connection behind", function()
      for _ = 1, 50 do
        db:connect():begin{ read_only = true }:query(series, 1000):next()
      end
      language.collect()
      assert.equal(1, db:query_value "select 1")
      assert.is_true(none_in_use(db))
    end)
  end)

  describe("A program on " .. database.name .. " that ends with everything open", function()
    local url

    before_each(function()
      database:open():close()
      url = database:url()
    end)

    after_each(function() database:clean() end)

    for ending, status in pairs { returned = 0, exit = 3, close = 3, error = 1, database = 0,
      coroutine = 0 } do
      it("leaves in order: " .. ending, function()
        local output, got = child.run(program, { url, database.driver, series, ending })
        assert.equal(status, got, output)
        assert.is_truthy(output:find("ending\n", 1, true))
        if ending ~= "error" then assert.equal("ending\n", output) end
        if not database.quirks.many_connections then return end
        local db = database:open()
        assert.same({ "kept" }, db:query_column "select name from item")
        assert.has_no.errors(function() db:exec "update item set name = 'free'" end)
      end)
    end
  end)
end
