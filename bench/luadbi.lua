-- The benchmark's cases with LuaDBI.
local dbi = require "DBI"
local measure = require "bench.measure"

local cases = {}

-- It opens a transaction with each connection unless it is told not to.
local function connect(place)
  local mysql = measure.mysql(place)
  local connection
  if mysql then
    connection = assert(dbi.Connect("MySQL", mysql.database, mysql.user, "", mysql.socket, 0))
  else
    local driver = measure.is_postgres(place) and "PostgreSQL" or "SQLite3"
    connection = assert(dbi.Connect(driver, place))
  end
  connection:autocommit(true)
  return connection
end

local function run(connection, sql, ...)
  local statement = assert(connection:prepare(sql))
  assert(statement:execute(...))
  return statement
end

function cases.named(place, count)
  local connection = connect(place)
  local sum = 0
  measure.start()
  for row in run(connection, measure.select):rows(true) do
    sum = sum + row.id + row.x + #row.t + #row.b
  end
  measure.stop(sum - measure.surplus(place, count))
end

function cases.arrays(place, count)
  local connection = connect(place)
  local sum = 0
  measure.start()
  for row in run(connection, measure.select):rows(false) do
    sum = sum + row[1] + row[3] + #row[4] + #row[5]
  end
  measure.stop(sum - measure.surplus(place, count))
end

function cases.prepared(place, count)
  local connection = connect(place)
  local statement = assert(connection:prepare(measure.point))
  local sum, state = 0, 0
  measure.start()
  for _ = 1, count do
    state = (state * 364641 + 54773) % 1000000
    assert(statement:execute(state + 1))
    local row = statement:fetch(true)
    sum = sum + row.id + row.x + #row.t + #row.b
  end
  measure.stop(sum - measure.surplus(place, count))
end

function cases.insert(place, count, data)
  local pool = {}
  local reader = connect(data)
  for row in run(reader, "select big, x, t, b from rows where id <= 1000"):rows(true) do
    pool[#pool + 1] = row
  end
  local connection = connect(place)
  run(connection, "pragma journal_mode = wal"):close()
  run(connection, "pragma synchronous = normal"):close()
  run(connection, measure.create)
  connection:autocommit(false)
  measure.start()
  local statement = assert(connection:prepare(measure.insert))
  for id = 1, count do
    local row = pool[id % 1000 + 1]
    assert(statement:execute(id, row.big, row.x, row.t, row.b))
  end
  assert(connection:commit())
  measure.stop(count)
end

measure.run(cases)
