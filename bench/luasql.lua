-- The benchmark's cases with LuaSQL, as its manual says; it has no prepared
-- statements.
local luasql = require "luasql.sqlite3"
local measure = require "bench.measure"

local cases = {}

local environment = luasql.sqlite3()

function cases.named(file)
  local connection = assert(environment:connect(file))
  local sum = 0
  measure.start()
  local cursor = assert(connection:execute(measure.select))
  local row = cursor:fetch({}, "a")
  while row do
    sum = sum + row.id + row.x + #row.t + #row.b
    row = cursor:fetch({}, "a")
  end
  measure.stop(sum)
end

function cases.arrays(file)
  local connection = assert(environment:connect(file))
  local sum = 0
  measure.start()
  local cursor = assert(connection:execute(measure.select))
  local row = cursor:fetch({}, "n")
  while row do
    sum = sum + row[1] + row[3] + #row[4] + #row[5]
    row = cursor:fetch({}, "n")
  end
  measure.stop(sum)
end

function cases.values(file)
  local connection = assert(environment:connect(file))
  local sum = 0
  measure.start()
  local cursor = assert(connection:execute(measure.select))
  local id, _, x, t, b = cursor:fetch()
  while id do
    sum = sum + id + x + #t + #b
    id, _, x, t, b = cursor:fetch()
  end
  measure.stop(sum)
end

function cases.cold(file, count)
  local connection = assert(environment:connect(file))
  local sum, state = 0, 0
  measure.start()
  for _ = 1, count do
    state = (state * 364641 + 54773) % 1000000
    local cursor = assert(connection:execute(
      ("select id, big, x, t, b from rows where id = %d"):format(state + 1)))
    local row = cursor:fetch({}, "a")
    cursor:close()
    sum = sum + row.id + row.x + #row.t + #row.b
  end
  measure.stop(sum)
end

measure.run(cases)
