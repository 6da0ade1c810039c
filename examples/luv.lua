-- One hundred queries at the same time, on one thread, in the loop of luv:
--
--   lua examples/luv.lua URL       postgres://app:secret@localhost/shop, or mysql://…
--
-- Nothing about the queries is special: in a coroutine a call that waits for the database
-- lets the loop go on.
local uv = require "luv"
local moonbase = require "moonbase"

-- Nothing tells a coroutine of the loop from others, so luv has to be asked for.
moonbase.scheduler.default "luv"

local n_queries = 100

-- Each needs a connection.  PostgreSQL allows 97 and MySQL 151 unless they are told otherwise,
-- so some queries wait until another one has ended.
local db = moonbase.open(assert(arg[1], "usage: lua examples/luv.lua URL"),
  { pool = { max = tonumber(arg[2]) or 90 } })

local total, n_running = 0, 0

-- Takes a tenth of a second on the server, and gives the parameter.
local sleep = assert(({
  postgres = "select ?::integer from pg_sleep(0.1)",
  mysql = "select ? + sleep(0.1)",
})[db:capability().driver], "wants PostgreSQL or MySQL")

local function ask(number)
  local answer = db:query_value(sleep, number)
  total = total + answer
end

-- Shows that nobody is kept waiting.
local ticker, n_ticks = uv.new_timer(), 0
ticker:start(10, 10, function() n_ticks = n_ticks + 1 end)

local start = uv.hrtime()
for number = 1, n_queries do
  n_running = n_running + 1
  coroutine.wrap(function()
    local ok, err = moonbase.pcall(ask, number)
    if not ok then print(("query %d: %s"):format(number, tostring(err))) end
    n_running = n_running - 1
    if n_running == 0 then ticker:close() end
  end)()
end
uv.run()

print(("%d queries of 0.1 s on %d connections: %.2f s"):format(n_queries, db:stats().created,
  (uv.hrtime() - start) / 1e9))
print(("the sum of their answers is %d"):format(total))
print(("meanwhile the timer rang %d times"):format(n_ticks))
db:close()
