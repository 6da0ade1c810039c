-- The benchmark's cases with pgmoon, over LuaSocket.
local pgmoon = require "pgmoon"
local unix = require "socket.unix"
local measure = require "bench.measure"

local cases = {}

-- It would use TCP with LuaSocket: here its socket is the one that all use.  Bytea is left
-- as it comes, as with the other peers: decoding it in Lua would take as long as all else.
local function connect(url)
  local user, folder, port, database = url:match "^postgres://(%w+)@([^:]+):(%d+)/(%w+)$"
  folder = folder:gsub("%%(%x%x)", function(byte) return string.char(tonumber(byte, 16)) end)
  local connection = pgmoon.new{
    user = user, database = database, host = ("%s/.s.PGSQL.%s"):format(folder, port),
  }
  connection.sock.sock = unix()
  connection:set_type_deserializer(17, "string")
  assert(connection:connect())
  return connection
end

function cases.named(url, count)
  local connection = connect(url)
  local sum = 0
  measure.start()
  for _, row in ipairs(assert(connection:query(measure.select))) do
    sum = sum + row.id + row.x + #row.t + #row.b
  end
  measure.stop(sum - measure.surplus(url, count))
end

-- The key is in the text: as a parameter it would be NUMERIC, which has no index here.
function cases.by_text(url, count)
  local connection = connect(url)
  local sum, state = 0, 0
  measure.start()
  for _ = 1, count do
    state = (state * 364641 + 54773) % 1000000
    local row = assert(connection:query(
      ("select id, big, x, t, b from rows where id = %d"):format(state + 1)))[1]
    sum = sum + row.id + row.x + #row.t + #row.b
  end
  measure.stop(sum - measure.surplus(url, count))
end

measure.run(cases)
