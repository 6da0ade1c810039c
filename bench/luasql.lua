-- The benchmark's cases with LuaSQL, as its manual says; it has no prepared
-- statements.
local measure = require "bench.measure"

local cases = {}

local function connect(place)
  local mysql = measure.mysql(place)
  if mysql then
    return assert(require("luasql.mysql").mysql():connect(mysql.database, mysql.user, "", nil, 0,
      mysql.socket))
  end
  if measure.is_postgres(place) then
    return assert(require("luasql.postgres").postgres():connect(place))
  end
  return assert(require("luasql.sqlite3").sqlite3():connect(place))
end

function cases.named(place, count)
  local connection = connect(place)
  local sum = 0
  measure.start()
  local cursor = assert(connection:execute(measure.select))
  local row = cursor:fetch({}, "a")
  while row do
    sum = sum + row.id + row.x + #row.t + #row.b
    row = cursor:fetch({}, "a")
  end
  measure.stop(sum - measure.surplus(place, count))
end

function cases.arrays(place, count)
  local connection = connect(place)
  local sum = 0
  measure.start()
  local cursor = assert(connection:execute(measure.select))
  local row = cursor:fetch({}, "n")
  while row do
    sum = sum + row[1] + row[3] + #row[4] + #row[5]
    row = cursor:fetch({}, "n")
  end
  measure.stop(sum - measure.surplus(place, count))
end

function cases.values(place, count)
  local connection = connect(place)
  local sum = 0
  measure.start()
  local cursor = assert(connection:execute(measure.select))
  local id, _, x, t, b = cursor:fetch()
  while id do
    sum = sum + id + x + #t + #b
    id, _, x, t, b = cursor:fetch()
  end
  measure.stop(sum - measure.surplus(place, count))
end

function cases.by_text(place, count)
  local connection = connect(place)
  local sum, state, text = 0, 0, measure.point:gsub("%?", "%%d")
  measure.start()
  for _ = 1, count do
    state = (state * 364641 + 54773) % 1000000
    local cursor = assert(connection:execute(text:format(state + 1)))
    local row = cursor:fetch({}, "a")
    cursor:close()
    sum = sum + row.id + row.x + #row.t + #row.b
  end
  measure.stop(sum - measure.surplus(place, count))
end

measure.run(cases)
