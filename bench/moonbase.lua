-- The benchmark's cases with Moonbase.
local moonbase = require "moonbase"
local measure = require "bench.measure"

local cases = {}

local function is_server(place)
  return place:find "^%a+://" ~= nil
end

local function open(place, options)
  return moonbase.open(is_server(place) and place or "sqlite:" .. place, options)
end

-- --- All rows -------------------------------------------------------------------

local readers = {}

function readers.named(rows)
  local sum = 0
  for row in rows do
    sum = sum + row.id + row.x + #row.t + #row.b
  end
  return sum
end

function readers.arrays(rows)
  local sum = 0
  for row in rows:arrays() do
    sum = sum + row[1] + row[3] + #row[4] + #row[5]
  end
  return sum
end

function readers.tuples(rows)
  local sum = 0
  for _, id, _, x, t, b in rows:tuples() do
    sum = sum + id + x + #t + #b
  end
  return sum
end

-- Each by text on a Database, where it is the text's first run, and prepared.
for name, read in pairs(readers) do
  cases[name] = function(place)
    local db = open(place)
    measure.start()
    measure.stop(read(db:query(measure.select)))
  end

  cases["prepared_" .. name] = function(place)
    local statement = open(place):connect():prepare(measure.select)
    measure.start()
    measure.stop(read(statement:query()))
  end
end

-- --- One row by its key ---------------------------------------------------------

-- Reads rows by name, by a prepared statement.
local function read_rows(statement, count)
  local sum, state = 0, 0
  measure.start()
  for _ = 1, count do
    state = (state * 364641 + 54773) % 1000000
    local row = statement:query_row(state + 1)
    sum = sum + row.id + row.x + #row.t + #row.b
  end
  measure.stop(sum)
end

-- Reads rows by name, by their text.
local function read_rows_by_text(handle, count)
  local sum, state = 0, 0
  measure.start()
  for _ = 1, count do
    state = (state * 364641 + 54773) % 1000000
    local row = handle:query_row(measure.point, state + 1)
    sum = sum + row.id + row.x + #row.t + #row.b
  end
  measure.stop(sum)
end

local function read_values(statement, count)
  local sum, state = 0, 0
  measure.start()
  for _ = 1, count do
    state = (state * 364641 + 54773) % 1000000
    local id, _, x, t, b = statement:query_values(state + 1)
    sum = sum + id + x + #t + #b
  end
  measure.stop(sum)
end

local function read_value(statement, count)
  local sum, state = 0, 0
  measure.start()
  for _ = 1, count do
    state = (state * 364641 + 54773) % 1000000
    sum = sum + statement:query_value(state + 1)
  end
  measure.stop(sum)
end

local function read_value_by_text(handle, count)
  local sum, state = 0, 0
  measure.start()
  for _ = 1, count do
    state = (state * 364641 + 54773) % 1000000
    sum = sum + handle:query_value(measure.point_value, state + 1)
  end
  measure.stop(sum)
end

function cases.prepared(place, count)
  read_rows(open(place):connect():prepare(measure.point), count)
end

function cases.by_text(place, count)
  read_rows_by_text(open(place), count)
end

-- In batches of as many as a pipeline of the loop in C has.
function cases.batch(place, count)
  local db = open(place)
  local sum, state = 0, 0
  measure.start()
  for _ = 1, count / 100 do
    local entries = {}
    for i = 1, 100 do
      state = (state * 364641 + 54773) % 1000000
      entries[i] = { measure.point, state + 1 }
    end
    local results = db:batch(entries)
    for i = 1, 100 do
      local row = results[i].rows[1]
      sum = sum + row.id + row.x + #row.t + #row.b
    end
  end
  measure.stop(sum)
end

-- A Database of SQLite with one connection, which has the whole table in its page cache.
local function open_cached(place)
  local db = open(place, { pragma = { "cache_size = -262144" } })
  db:query_value "select sum(length(b)) from rows"
  return db
end

-- Calls read with a statement prepared in a transaction in which all is cached.
local function in_transaction(read, sql)
  return function(place, count)
    open(place, { pragma = { "cache_size = -262144" } }):transaction(function(tx)
      tx:query_value "select sum(length(b)) from rows"
      read(tx:prepare(sql), count)
    end)
  end
end

cases.cached_row = in_transaction(read_rows, measure.point)
cases.cached_values = in_transaction(read_values, measure.point)
cases.cached_value = in_transaction(read_value, measure.point_value)

-- Outside a transaction: what lending a connection from the pool adds.
function cases.held_value(place, count)
  local conn = open_cached(place):connect()
  read_value(conn:prepare(measure.point_value), count)
end

function cases.held_text(place, count)
  read_value_by_text(open_cached(place):connect(), count)
end

function cases.pool_value(place, count)
  read_value_by_text(open_cached(place), count)
end

-- --- Inserts --------------------------------------------------------------------

-- A pool of values as the program has them: integers, numbers, strings, and
-- strings marked as bytes.
local function read_pool(data)
  local big, x, t, b = {}, {}, {}, {}
  local pool = open(data):query_all(measure.values, measure.pool)
  for i, row in ipairs(pool) do
    big[i], x[i], t[i], b[i] = row.big, row.x, row.t, moonbase.blob(row.b)
  end
  return big, x, t, b
end

local function insert_all(statement, count, big, x, t, b)
  for id = 1, count do
    local i = id % 1000 + 1
    statement:exec(id, big[i], x[i], t[i], b[i])
  end
end

function cases.insert(place, count, data)
  local db = open(place)
  local big, x, t, b = read_pool(data)
  db:exec(measure.create)
  measure.start()
  db:transaction(function(tx)
    insert_all(tx:prepare(measure.insert), count, big, x, t, b)
  end)
  measure.stop(count)
end

-- Empties what bulk_insert writes to: its name.
local function prepare_table(db, place)
  if is_server(place) then
    db:exec "truncate written"
    return "written"
  end
  db:exec(measure.create)
  return "rows"
end

function cases.bulk(place, count, data)
  local db = open(place)
  local big, x, t, b = read_pool(data)
  local name = prepare_table(db, place)
  local rows = {}
  for id = 1, count do
    local i = id % 1000 + 1
    rows[id] = { id, big[i], x[i], t[i], b[i] }
  end
  measure.start()
  local inserted = db:bulk_insert(name, measure.columns, rows)
  measure.stop(inserted)
end

measure.run(cases)
