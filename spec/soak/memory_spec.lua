-- Memory and file descriptors are where they were after many operations of each kind.
local lfs = require "lfs"
local core = require "moonbase.core"
local moonbase = require "moonbase"
local files = require "spec.support.files"
local language = require "spec.support.language"
local length = require "spec.support.length"

local function resident_kb()
  local file = io.open "/proc/self/status"
  if not file then return 0 end
  local text = file:read "*a"
  file:close()
  return tonumber(text:match "VmRSS:%s*(%d+)")
end

local function descriptors()
  local n = 0
  if not files.exists "/proc/self/fd" then return 0 end
  for _ in lfs.dir "/proc/self/fd" do n = n + 1 end
  return n
end

-- What operations may leave in all: the allocator's own rounding, and what three connections and
-- the pool's thread keep for themselves, most of it for large results that are left.
local slack_kb = 12000

local sql = moonbase.sql

local kinds = {
  ["a value"] = function(db) db:query_value("select ?", "text") end,
  ["a row"] = function(db) db:query_row "select 1 as a, 'x' as b, null as c" end,
  ["rows read to the end"] = function(db)
    for _ in db:query "select n from item" do end -- luacheck: ignore 542
  end,
  ["rows that are left"] = function(db, series) db:query(series, 1000):next() end,
  ["rows that are closed"] = function(db, series)
    local rows = db:query(series, 1000)
    rows:next()
    rows:close()
  end,
  ["a write"] = function(db) db:exec "update item set n = n + 1 where id = 1" end,
  ["a different text"] = function(db, _, i) db:query_value("select " .. i % 100000) end,
  ["columns of other names"] = function(db, _, i) db:query_row("select 1 as c" .. i % 1000) end,
  ["a statement"] = function(db)
    local statement = db:prepare "select n from item where id = ?"
    statement:query_value(1)
    statement:close()
  end,
  ["a statement that is dropped"] = function(db) db:prepare "select n from item":columns() end,
  ["a connection"] = function(db)
    local conn = db:connect()
    conn:query_value "select 1"
    conn:close()
  end,
  ["a connection that is dropped"] = function(db) db:connect():query_value "select 1" end,
  ["a transaction"] = function(db)
    db:transaction(function(tx) tx:query_value "select 1" end)
  end,
  ["a nested transaction"] = function(db)
    db:transaction(function(tx)
      tx:transaction(function(inner) inner:query_value "select 1" end)
    end)
  end,
  ["a transaction that fails"] = function(db)
    pcall(db.transaction, db, function(tx) tx:exec "insert into item (id) values (1)" end)
  end,
  ["a transaction that is dropped"] = function(db)
    db:begin{ read_only = true }:on_commit(print)
  end,
  ["a wrong text"] = function(db, _, i) pcall(db.query, db, "selekt " .. i % 1000) end,
  ["wrong parameters"] = function(db) pcall(db.query, db, "select ?", print) end,
  ["an error that is returned"] = function(db) db:with{ errors = "return" }:query "selekt" end,
  ["a view"] = function(db)
    db:with{ timeout = 5, null = moonbase.null }:query_value "select null"
  end,
  ["a fragment"] = function(db)
    db:query_column("select n from item where ?",
      sql.all { sql("n > ?", 0), sql.is_in("id", { 1, 2 }) })
  end,
  ["a batch"] = function(db) db:batch { { "select ?", 1 }, { "select :a", { a = 2 } } } end,
  ["a bulk insert that fails"] = function(db)
    pcall(db.bulk_insert, db, "item", { "id" }, { { 1000 }, { 1 } })
  end,
  ["a script"] = function(db) db:exec_script "select 1; select 2" end,
  ["a converted value"] = function(db)
    local types = { integer = tostring, bigint = tostring, int8 = tostring }
    db:with{ types = types }:query_value "select n from item"
  end,
  ["a conversion that fails"] = function(db)
    local x = db:with{ types = { integer = error, bigint = error, int8 = error } }
    pcall(x.query_all, x, "select n from item")
  end,
  ["a cancellation"] = function(db)
    local stop = moonbase.cancellation()
    local x = db:with{ cancel = stop }
    x:query_value "select 1"
    stop:cancel "enough"
    pcall(x.query_value, x, "select 1")
  end,
  ["a coroutine"] = function(db, series)
    coroutine.wrap(function()
      for _ in db:query(series, 100) do coroutine.yield() end
    end)()
  end,
}


for _, database in ipairs(require "spec.support.databases") do
  describe("Memory stays flat on " .. database.name, function()
    local db

    before_each(function()
      db = database:open { pool = { max = 3 } }
      database:create(db, "item (id :integer primary key, n :integer)")
      db:exec "insert into item (id, n) values (1, 1), (2, 2)"
    end)

    after_each(function()
      db = nil
      database:clean()
    end)

    -- However many connections were wanted at a time, so many are there.
    local function fill(pool)
      local held = {}
      for i = 1, pool:stats().max do
        local ok, conn = pcall(pool.connect, pool)
        if not ok then
          assert(moonbase.is(conn, "PoolTimeoutError"), conn) -- one is kept for who writes
          break
        end
        held[i] = conn
      end
      for _, conn in ipairs(held) do conn:close() end
    end

    local function stays_flat(n, fn)
      local function work(from, to)
        for i = from, to do
          fn(db, database.quirks.sql.series, i)
          if i % 500 == 0 then language.collect() end
        end
        -- What LuaJIT has compiled is memory of Lua's as well, and comes and goes.
        if rawget(_G, "jit") then require("jit").flush() end
        language.collect()
        fill(db)
        return resident_kb(), descriptors(), collectgarbage "count"
      end
      -- What is kept on purpose, as statements, is full after a while.
      local before, descriptors_before, lua_before = work(1, math.max(1000, math.ceil(n / 10)))
      local after, descriptors_after, lua_after = work(1, n)
      assert.is_true(after - before < slack_kb, ("%.0f KB more"):format(after - before))
      assert.is_true(lua_after - lua_before < 200, ("%.0f KB more of Lua's"):format(
        lua_after - lua_before))
      -- At the first measurement the case before may have been closing some still.
      assert.is_true(descriptors_after <= descriptors_before,
        descriptors_after .. " descriptors, " .. descriptors_before .. " before")
      -- The pool's thread may be cleaning what was dropped last.
      local deadline = core.now() + 10
      while db:stats().in_use > 0 and core.now() < deadline do core.sleep(0.01) end
      assert.equal(0, db:stats().in_use)
    end

    local names = {}
    for name in pairs(kinds) do names[#names + 1] = name end
    table.sort(names)
    for _, name in ipairs(names) do
      it("with " .. name, function()
        stays_flat(length(200000), kinds[name])
      end)
    end

    it("with a Database", function()
      local path = files.path "other.db"
      stays_flat(length(20000), function()
        local other = moonbase.open("sqlite:" .. path)
        other:query_value "select 1"
        other:close()
      end)
      stays_flat(length(20000), function() moonbase.open("sqlite:" .. path):ping() end)
    end)
  end)
end
