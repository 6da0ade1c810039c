-- What memory_lua_test.c runs while memory runs out: a list of steps, each called by itself.
--
-- A step that writes has a number.  It says ended(number) when nothing but its commit is left to
-- do, and done(number) when that has come back well.  Where in_tasks is true, each step is a task
-- of a scheduler, and its calls are left while they wait.
local url, copy, ended, done, in_tasks = ...

local moonbase = require "moonbase"

local db

local function decode(text) return { text = text } end

local options = {
  -- One for who writes, one for a handle that was forgotten, one more: nothing is to hang on a
  -- finalizer, which Lua 5.4 gives up when it has no memory to call it.
  max = 3,
  pragma = { "synchronous = off", "busy_timeout = 100" },
  json = { encode = function() return "[1]" end, decode = decode },
  functions = { twice = function(x) return 2 * x end },
  aggregates = {
    longest = {
      init = function() return "" end,
      step = function(found, x) return #x > #found and x or found end,
      final = function(found) return found end,
    },
  },
  collations = { by_size = function(a, b) return #a - #b end },
}

if in_tasks then
  options.scheduler = {
    task = function()
      local task, is_main = coroutine.running()
      return not is_main and task or nil
    end,
    wait = function() coroutine.yield() end,
  }
end

-- The step as a task that is resumed until it ends.
local function as_task(fn)
  return function()
    local task = coroutine.create(fn)
    repeat
      local ok, err = coroutine.resume(task)
      if not ok then error(err, 0) end
    until coroutine.status(task) == "dead"
  end
end

local long = ("x"):rep(3000)

local insert = "insert into t values (?, ?, ?, ?, ?, ?, ?)"

-- The values of a row.
local function row(part)
  return part, 0.5, true, long, moonbase.blob "\0\1\2", moonbase.json { 1 }, moonbase.null
end

local function check_row(found)
  assert(found.d == 0.5 and found.b == true and found.x == long and found.z == "\0\1\2"
    and found.j.text == "[1]" and found.n == nil, "a row is not what was written")
end

-- Calls what has to fail with an error of a class.
local function refused(class, fn, ...)
  local ok, err = pcall(fn, ...)
  assert(not ok, "it was not refused")
  if not moonbase.is(err, class) then error(err, 0) end
  assert(#tostring(err) > #class)
end

-- Inside the function of a transaction.
local can_yield = _VERSION ~= "Lua 5.1" or rawget(_G, "jit") ~= nil

-- The first step makes what the others need, or they have nothing to do.
local is_ready = false
local steps = {
  function()
    db = moonbase.open(url, options)
    db:exec "create table t (part integer, d double, b boolean, x text, z blob, j json, n text)"
    db:exec "create table one (x integer, constraint only_one unique (x))"
    is_ready = true
  end,
}

local function step(fn)
  steps[#steps + 1] = function()
    if is_ready then fn() end
  end
end

step(function()
  ended(1)
  local affected, id = db:exec(insert, row(1))
  done(1)
  assert(affected == 1 and id ~= nil)
end)

step(function()
  ended(2)
  db:exec("insert into t values (:part, :d, :b, :x, :z, :j, null)", {
    part = 2, d = moonbase.float(0.5), b = true, x = long, z = moonbase.blob "\0\1\2",
    j = moonbase.json { 1 } })
  done(2)
end)

step(function()
  db:transaction(function(tx)
    tx:exec(insert, row(3))
    tx:on_commit(function() done(3) end)
    tx:transaction(function(inner)
      refused("ConstraintError", inner.exec, inner, "insert into one values (1), (1)")
      inner:exec(insert, row(3))
    end)
    refused("SyntaxError", tx.transaction, tx, function(inner)
      inner:exec(insert, row(4))
      inner:exec "selec 1"
    end)
    tx:exec(insert, row(3))
    ended(3)
  end)
  done(3)
end)

step(function()
  local ok = pcall(db.transaction, db, function(tx)
    tx:exec(insert, row(4))
    error("enough", 0)
  end)
  assert(not ok)
  db:transaction(function(tx)
    tx:exec(insert, row(4))
    tx:rollback()
  end)
end)

step(function()
  local tx = db:begin { mode = "immediate" }
  local statement = tx:prepare(insert)
  statement:exec_many { { row(5) }, { row(5) } }
  statement:close()
  ended(5)
  tx:commit()
  done(5)
end)

step(function()
  local n = 0
  local count = db:bulk_insert("t", { "part", "d", "b", "x", "z", "j", "n" }, function()
    n = n + 1
    if n > 20 then
      ended(6)
      return nil
    end
    return { row(6) }
  end, { progress = function() end })
  done(6)
  assert(count == 20)
end)

step(function()
  db:transaction(function(tx)
    tx:batch {
      { insert, row(7) },
      { "select * from t where part = ?", 7 },
      { moonbase.sql("delete from t where part in (?)", moonbase.sql.list { 70, 71 }) },
    }
    tx:exec_script "update t set d = d where part = 7; select 1; -- and nothing else"
    ended(7)
  end)
  done(7)
end)

step(function()
  ended(8)
  assert(db:query_value("insert into t values (?, ?, ?, ?, ?, ?, ?) returning part", row(8)) == 8)
  done(8)
end)

-- A transaction that is dropped, one in a coroutine that is left unfinished, and rows that are.
step(function()
  local tx = db:begin()
  tx:exec(insert, row(4))
  tx = nil -- luacheck: ignore
  collectgarbage()
  if can_yield then
    local task = coroutine.create(function()
      db:transaction(function(inner)
        inner:exec(insert, row(4))
        coroutine.yield()
      end)
    end)
    local ok, err = coroutine.resume(task)
    if not ok then error(err, 0) end
    task = nil -- luacheck: ignore
    collectgarbage()
  end
  local rows = db:query(
    "with recursive n(i) as (select 1 union all select i + 1 from n) select i from n")
  assert(rows().i == 1)
  rows = nil -- luacheck: ignore
  collectgarbage()
end)

step(function()
  for found in db:query "select * from t" do check_row(found) end
  for _, part in db:query("select part, x from t"):tuples() do assert(part) end
  for found in db:query("select part, x from t"):arrays() do assert(found.n == 2) end
  assert(db:query_row("select * from t where part = ?", 99) == nil)
  db:query_all "select * from t"
  db:query_column "select x from t"
  local a, b, c = db:query_values("select ?, ?, ?", moonbase.params { 1, nil, "c", n = 3 })
  assert(a == 1 and b == nil and c == "c")
  assert(#db:query("select 1 as x union select 2"):columns() == 1)
end)

-- Rows that are open while others are asked for, on one connection.
step(function()
  local conn = db:connect()
  local first, count = conn:query "select * from t order by rowid", 0
  first()
  conn:exec "update t set d = d"
  for found in first do
    check_row(found)
    count = count + 1
  end
  assert(count >= 0)
  local named = conn:prepare "select :x as x"
  assert(named:query_row({ x = "y" }).x == "y")
  assert(named:columns()[1].name == "x" and named:parameters() == 1)
  named:close()
  conn:close()
end)

step(function()
  assert(db:query_value("select twice(21)") == 42)
  assert(db:query_value("select longest(x) from (select 'a' as x union select 'bb')") == "bb")
  local sorted = db:query_column([[
    select x from (select 'ccc' as x union select 'a' union select 'bb')
    order by x collate by_size desc]])
  assert(sorted[1] == "ccc" and sorted[3] == "a")
  local ok, err = pcall(db.query, db, "select twice('no number')")
  assert(not ok)
  if not tostring(err):find "memory_script" then error(err, 0) end
end)

step(function()
  local stop = moonbase.cancellation { name = "stop" }
  local view = db:with { cancel = stop, timeout = 60 }
  assert(view:query_value "select 1" == 1)
  stop:cancel "enough"
  refused("CanceledError", view.query, view, "select 1")
  refused("UsageError", db.query, db, "select :name", { nane = 1 })
  local polite = db:with { errors = "return" }
  local none, err = polite:exec "selec 1"
  assert(none == nil)
  if not moonbase.is(err, "SyntaxError") then error(err, 0) end
end)

step(function()
  local sqlite = require "moonbase.sqlite"
  sqlite.backup(db, copy)
  local reader = sqlite.blob_reader(db, "t", "z", 1)
  assert(reader:read(2) == "\0\1")
  assert(db:capability().sql and db:stats().max == 3 and db:ping())
end)

-- Called when there is memory again: everything has been given back and works.
local function finish()
  if not db then return end
  collectgarbage()
  collectgarbage()
  assert(db:query_value "select 1" == 1)
  assert(db:stats().in_use == 0, "a connection was not given back")
  db:close()
end

if in_tasks then
  for i = 1, #steps do steps[i] = as_task(steps[i]) end
end

return steps, finish
