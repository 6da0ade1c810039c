-- One hundred queries at the same time, on one thread, in a loop of cqueues:
--
--   lua examples/cqueues.lua URL       postgres://app:secret@localhost/shop, or mysql://…
--
-- Nothing about the queries is special: inside the loop a call that waits for the database
-- lets the other tasks run.
local cqueues = require "cqueues"
local moonbase = require "moonbase"

local n_queries = 100

-- Each needs a connection.  PostgreSQL allows 97 and MySQL 151 unless they are told otherwise,
-- so some queries wait until another one has ended.
local db = moonbase.open(assert(arg[1], "usage: lua examples/cqueues.lua URL"),
  { pool = { max = tonumber(arg[2]) or 90 } })

local queue = cqueues.new()
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

for number = 1, n_queries do
  n_running = n_running + 1
  queue:wrap(function()
    local ok, err = moonbase.pcall(ask, number)
    if not ok then print(("query %d: %s"):format(number, tostring(err))) end
    n_running = n_running - 1
  end)
end

-- One more task, to show that nobody is kept waiting.
local n_ticks = 0
queue:wrap(function()
  while n_running > 0 do
    cqueues.sleep(0.01)
    n_ticks = n_ticks + 1
  end
end)

local start = cqueues.monotime()
assert(queue:loop())

print(("%d queries of 0.1 s on %d connections: %.2f s"):format(n_queries, db:stats().created,
  cqueues.monotime() - start))
print(("the sum of their answers is %d"):format(total))
print(("meanwhile another task ran %d times"):format(n_ticks))
db:close()
