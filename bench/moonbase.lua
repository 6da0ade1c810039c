-- The benchmark's cases with Moonbase.
local moonbase = require "moonbase"
local measure = require "bench.measure"

local cases = {}

local function open(file, options)
  return moonbase.open("sqlite:" .. file, options)
end

-- --- All rows -------------------------------------------------------------------

function cases.named(file)
  local db = open(file)
  local sum = 0
  measure.start()
  for row in db:query(measure.select) do
    sum = sum + row.id + row.x + #row.t + #row.b
  end
  measure.stop(sum)
end

function cases.arrays(file)
  local db = open(file)
  local sum = 0
  measure.start()
  for row in db:query(measure.select):arrays() do
    sum = sum + row[1] + row[3] + #row[4] + #row[5]
  end
  measure.stop(sum)
end

function cases.tuples(file)
  local db = open(file)
  local sum = 0
  measure.start()
  for _, id, _, x, t, b in db:query(measure.select):tuples() do
    sum = sum + id + x + #t + #b
  end
  measure.stop(sum)
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
    local row = handle:query_row("select id, big, x, t, b from rows where id = ?", state + 1)
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
    sum = sum + handle:query_value("select x from rows where id = ?", state + 1)
  end
  measure.stop(sum)
end

function cases.cold_prepared(file, count)
  read_rows(open(file):connect():prepare(measure.point), count)
end

function cases.cold_by_text(file, count)
  read_rows_by_text(open(file), count)
end

-- A Database with one connection, which has the whole table in its page cache.
local function open_cached(file)
  local db = open(file, { pragma = { "cache_size = -262144" } })
  db:query_value "select sum(length(b)) from rows"
  return db
end

-- Calls read with a statement prepared in a transaction in which all is cached.
local function in_transaction(read, sql)
  return function(file, count)
    open(file, { pragma = { "cache_size = -262144" } }):transaction(function(tx)
      tx:query_value "select sum(length(b)) from rows"
      read(tx:prepare(sql), count)
    end)
  end
end

cases.cached_row = in_transaction(read_rows, measure.point)
cases.cached_values = in_transaction(read_values, measure.point)
cases.cached_value = in_transaction(read_value, measure.point_value)

-- Outside a transaction: what lending a connection from the pool adds.
function cases.held_value(file, count)
  local conn = open_cached(file):connect()
  read_value(conn:prepare(measure.point_value), count)
end

function cases.held_text(file, count)
  read_value_by_text(open_cached(file):connect(), count)
end

function cases.pool_value(file, count)
  read_value_by_text(open_cached(file), count)
end

-- --- Inserts --------------------------------------------------------------------

-- A pool of values as the program has them: integers, numbers, strings, and
-- strings marked as bytes.
local function read_pool(data)
  local big, x, t, b = {}, {}, {}, {}
  local pool = open(data):query_all("select big, x, t, b from rows where id <= ?", measure.pool)
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

function cases.insert(file, count, data)
  local db = open(file)
  local big, x, t, b = read_pool(data)
  db:exec(measure.create)
  measure.start()
  db:transaction(function(tx)
    insert_all(tx:prepare(measure.insert), count, big, x, t, b)
  end)
  measure.stop(count)
end

function cases.bulk(file, count, data)
  local db = open(file)
  local big, x, t, b = read_pool(data)
  db:exec(measure.create)
  local rows = {}
  for id = 1, count do
    local i = id % 1000 + 1
    rows[id] = { id, big[i], x[i], t[i], b[i] }
  end
  measure.start()
  local inserted = db:bulk_insert("rows", measure.columns, rows)
  measure.stop(inserted)
end

measure.run(cases)
