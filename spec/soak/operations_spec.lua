-- Random operations on one Database, beside a model of it in Lua's tables.
local moonbase = require "moonbase"
local language = require "spec.support.language"
local length = require "spec.support.length"

-- The same numbers for one seed on every Lua (minimal standard generator of Park and Miller).
local function generator(seed)
  local state = seed % 2147483646 + 1
  return function(n)
    state = state * 16807 % 2147483647
    return state % n + 1
  end
end

local function copy(model)
  local list = {}
  for id, n in pairs(model) do list[id] = n end
  return list
end

local function replace(model, other)
  for id in pairs(model) do model[id] = nil end
  for id, n in pairs(other) do model[id] = n end
end

local function ids_of(model)
  local list = {}
  for id in pairs(model) do list[#list + 1] = id end
  table.sort(list)
  return list
end

local deepest = 4
local mark = {}

-- What is done to a session x and to its model; run has random, next_id, db, committed.
local operations = {}

function operations.insert(run, x, model)
  local id, n = run:new_id(), run.random(1000)
  local ways = {
    function() assert(x:exec("insert into item (id, n) values (?, ?)", id, n) == 1) end,
    function()
      assert(x:exec("insert into item (id, n) values (:id, :n)", { id = id, n = n }) == 1)
    end,
    function() assert(x:bulk_insert("item", { "id", "n" }, { { id, n } }) == 1) end,
    function()
      local results = x:batch { { "insert into item (id, n) values ($1, $2)", id, n } }
      assert(results[1].affected == 1)
    end,
    function() x:prepare "insert into item (id, n) values (?, ?)":exec(id, n) end,
    function()
      assert(x:query_value("insert into item (id, n) values (?, ?) returning n", id, n) == n)
    end,
    function() -- with a row unread
      x:query("insert into item (id, n) values (?, ?) returning n", id, n):close()
    end,
  }
  ways[run.random(#ways)]()
  model[id] = n
end

function operations.update(run, x, model)
  local ids = ids_of(model)
  local id = ids[run.random(#ids + 1)] or -1
  local affected = x:exec("update item set n = n + 1 where id = ?", id)
  assert(affected == (model[id] and 1 or 0))
  if model[id] then model[id] = model[id] + 1 end
end

function operations.update_all(_, x, model)
  x:exec "update item set n = n + 2"
  for id, n in pairs(model) do model[id] = n + 2 end
end

function operations.delete(run, x, model)
  local ids = ids_of(model)
  local id = ids[run.random(#ids + 1)] or -1
  assert(x:exec("delete from item where id = ?", id) == (model[id] and 1 or 0))
  model[id] = nil
end

function operations.delete_many(run, x, model)
  local ids = ids_of(model)
  if #ids < 60 then return end
  local from = ids[run.random(#ids)]
  x:exec("delete from item where id >= ?", from)
  for _, id in ipairs(ids) do if id >= from then model[id] = nil end end
end

local function compare(x, model)
  local seen = 0
  for row in x:query "select id, n from item order by id" do
    assert(model[row.id] == row.n, "a row differs")
    seen = seen + 1
  end
  assert(seen == #ids_of(model), "rows are missing")
end

function operations.compare(_, x, model) compare(x, model) end

function operations.leave_rows(run, x, model)
  local ids = ids_of(model)
  local rows = x:query "select id, n from item order by id"
  for i = 1, math.min(run.random(5), #ids) do assert(rows:next().id == ids[i]) end
  if run.random(2) == 1 then rows:close() end
end

function operations.write_beside_rows(run, x, model, depth)
  if depth > 0 then return end -- inside a transaction they may see it
  local ids = ids_of(model)
  local got = 0
  for id in x:query "select id from item order by id":tuples() do
    if id == 2 then operations.insert(run, x, model) end
    got = got + 1
  end
  assert(got == #ids, "rows beside a write are not as they were")
end

function operations.fail(run, x, model)
  local ids = ids_of(model)
  local wrong = {
    function(t) t:exec("insert into item (id, n) values (?, 1)", ids[1] or 0) end,
    function(t) t:exec "insert into item (id, n) values (1, 2), (1, 3)" end,
    function(t) t:exec "insert into item (id, n) values (-5, null)" end,
    function(t) t:query "selekt" end,
    function(t) t:query "select ?" end,
    function(t) t:query("select ?", print) end,
    function(t) t:bulk_insert("item", { "id", "n" }, { { -1, 1 }, { -2, 1 }, { -1, 1 } }) end,
    function(t)
      local types = { integer = error, bigint = error, int8 = error }
      t:with{ types = types }:query_value "select n from item"
    end,
  }
  local which = run.random(#wrong)
  if not ids[1] and (which == 1 or which == #wrong) then return end
  -- Inside a savepoint: an error may end what is around it.
  local ok = pcall(x.transaction, x, function(t) wrong[which](t) end)
  assert(not ok)
end

function operations.transaction(run, x, model, depth)
  if depth >= deepest then return end
  local inner = copy(model)
  local ending = run.random(6)
  local ok, err, why = pcall(x.transaction, x, function(tx)
    run:operate(tx, inner, depth + 1, run.random(6))
    if ending == 1 then error(mark, 0) end
    if ending == 2 then tx:rollback() end
    if ending == 3 then return nil, mark end
    return true
  end)
  if ending == 1 then
    assert(not ok and rawequal(err, mark), tostring(err))
  else
    assert(ok, tostring(err))
    assert(ending ~= 3 or rawequal(why, mark))
  end
  if ending > 3 then replace(model, inner) end
end

-- The transaction is forgotten when this returns.
local function begin_and_leave(run, x, model, depth, ending)
  local inner = copy(model)
  local tx = x:begin()
  run:operate(tx, inner, depth + 1, run.random(6))
  if ending == 1 then
    tx:commit()
    replace(model, inner)
  elseif ending == 2 then
    tx:rollback()
  end
end

function operations.begin(run, x, model, depth)
  if depth >= deepest then return end
  local ending = run.random(3)
  begin_and_leave(run, x, model, depth, ending)
  if ending == 3 then language.collect() end
end

function operations.coroutine(run, x, model, depth)
  if depth >= deepest or not language.yields then return end
  local thread = coroutine.wrap(function()
    x:transaction(function(tx)
      run:operate(tx, copy(model), depth + 1, 2)
      coroutine.yield()
    end)
  end)
  thread()
  thread = nil -- luacheck: ignore 311
  language.collect()
end

function operations.look_from_outside(run)
  if not run.many then return end
  local conn = run.db:connect()
  compare(conn, run.committed)
  if run.random(2) == 1 then conn:close() end
end

function operations.own_connection(run, x, model, depth)
  if depth > 0 or x ~= run.db then return end
  local conn = run.db:connect()
  run:operate(conn, model, depth, 3)
  if run.random(2) == 1 then conn:close() else conn = nil language.collect() end -- luacheck: ignore
end

function operations.view(run, x, model, depth)
  run:operate(x:with{ timeout = 60, null = moonbase.null }, model, depth, 1)
end

function operations.collect(run)
  if run.random(4) == 1 then language.collect() else collectgarbage "step" end
end

local names = {}
for name in pairs(operations) do names[#names + 1] = name end
table.sort(names)

local Run = {}
Run.__index = Run

function Run:new_id()
  self.last_id = self.last_id + 1
  return self.last_id
end

function Run:operate(x, model, depth, n)
  for _ = 1, n do
    local name = names[self.random(#names)]
    self.trail[#self.trail + 1] = ("  "):rep(depth) .. name
    operations[name](self, x, model, depth)
    if depth == 0 then self.committed = copy(model) end
  end
end

local function soak(database, seed, steps)
  local db = database:open()
  db:exec "drop table if exists item"
  database:create(db, "item (id :integer primary key, n :integer not null)")
  local run = setmetatable({ db = db, random = generator(seed), last_id = 0, trail = {},
    committed = {}, many = database.quirks.many_connections }, Run)
  local model = {}
  local ok, err = xpcall(function()
    for _ = 1, steps do
      run:operate(db, model, 0, 1)
      if #run.trail > 200 then run.trail = {} end
    end
    compare(db, model)
    language.collect()
    assert(db:query_value "select 1" == 1)
    assert(db:stats().in_use == 0, "a connection was not given back")
    assert(db:current() == nil, "a transaction is open")
  end, function(err) return tostring(err) .. "\n" .. debug.traceback() end)
  if not ok then
    error(("seed %d: %s\nthe last operations:\n%s"):format(seed, err,
      table.concat(run.trail, "\n", math.max(1, #run.trail - 40))), 0)
  end
  db:close()
end

for _, database in ipairs(require "spec.support.databases") do
  describe("Random operations on " .. database.name, function()
    after_each(function() database:clean() end)

    it("leave the database as the model of them is", function()
      local seed = tonumber(os.getenv "MB_SEED" or "") or os.time()
      for i = 1, length(200) do soak(database, seed + i, 300) end
    end)
  end)
end
