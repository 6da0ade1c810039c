--- What the candidates in Lua have in common: the clock, the statements, live
--- tables.
---
--- A candidate gets the PLACE of a database: SQLite's file, or a URL of PostgreSQL or MySQL,
--- which is that of a unix socket.  The keys of point SELECTs follow each other in every
--- candidate, as in rows.h, by
---   state = (state * 364641 + 54773) % 1000000, from 0, and key = state + 1,
--- a linear congruential generator that takes each key of the table once.
---@module bench.measure

local meter = require "bench_meter"

local measure = {}

-- For MySQL the word is reserved, but behind a point.
local rows = (arg[2] or ""):find "^mysql:" and "moonbase.rows" or "rows"

measure.select = "select id, big, x, t, b from " .. rows
measure.point = "select id, big, x, t, b from " .. rows .. " where id = ?"
measure.point_value = "select x from " .. rows .. " where id = ?"
measure.values = "select big, x, t, b from " .. rows .. " where id <= ?"
measure.insert = "insert into " .. rows .. " (id, big, x, t, b) values (?, ?, ?, ?, ?)"
measure.create = "create table rows (id integer primary key, big integer, x real, t text, b blob)"
measure.columns = { "id", "big", "x", "t", "b" }

-- How many rows of the table inserts take their values from.
measure.pool = 1000

--- Whether a place is PostgreSQL.
---@param place string
---@return boolean
function measure.is_postgres(place)
  return place:find "^postgres:" ~= nil
end

--- Where MySQL is, by a place that is one; nil by another.
---@param place string
---@return { user: string, socket: string, database: string }?
function measure.mysql(place)
  local user, socket, database = place:match "^mysql://([^@]+)@([^/]+)/([^?]+)"
  if not user then return nil end
  return { user = user, socket = socket:gsub("%%2F", "/"), database = database }
end

--- What is taken from the checksum of a candidate that hands bytea over as PostgreSQL
--- writes it, \x and two digits for each byte: 34 more than the 32 bytes of a row.
---@param place string
---@param count integer rows
---@return integer
function measure.surplus(place, count)
  return measure.is_postgres(place) and 34 * count or 0
end

local wall, cpu

--- Begins the part that counts.
function measure.start()
  wall, cpu = meter.read()
end

--- Ends it, and prints what loops.c prints.
---@param checksum number
function measure.stop(checksum)
  local wall_now, cpu_now = meter.read()
  print(("%.6f %.6f %d %.2f"):format(wall_now - wall, cpu_now - cpu, meter.peak_kb(), checksum))
end

--- Tables that stay alive in the state while rows are read.
---@param n integer
---@return table[]
function measure.live_tables(n)
  local live = {}
  for i = 1, n do live[i] = { id = i, name = "x" } end
  return live
end

--- Runs the case that the command line names: LUA file CASE PLACE COUNT DATA LIVE.
---@param cases table<string, fun(place: string, count: integer, data: string)>
function measure.run(cases)
  local live = measure.live_tables(tonumber(arg[5]) or 0)
  cases[arg[1]](arg[2], tonumber(arg[3]), arg[4])
  return live
end

return measure
