--- What nginx runs for spec/openresty_spec.lua: a handler for each path.
---
--- The databases are those of MB_POSTGRES, MB_MYSQL and MB_SQLITE.
local core = require "moonbase.core"
local moonbase = require "moonbase"
local ngx = require "ngx"
local openresty = require "moonbase.openresty"

local app = {}

local urls = { postgres = os.getenv "MB_POSTGRES", mysql = os.getenv "MB_MYSQL",
  sqlite = os.getenv "MB_SQLITE" }
local opened = {}

-- A database, opened once a worker for each set of options.
local function open(name, key, options)
  key = name .. (key or "")
  opened[key] = opened[key] or moonbase.open(urls[name], options or { pool = { max = 20 } })
  return opened[key]
end

local function argument(name)
  return ngx.req.get_uri_args()[name]
end

-- --- What a handler does -----------------------------------------------------------

local count_rows = [[with recursive n (i) as (select 1 union all select i + 1 from n where i < 500)
  select i, cast(i as char(3)) as name from n]]

app["/ping"] = function() ngx.say "pong" end

app["/everything"] = function()
  local db = open(argument "db")
  db:exec "create table if not exists item (id integer, name varchar(20))"
  db:exec "delete from item"
  local sum = 0
  for row in db:query(count_rows) do
    sum = sum + row.i
    -- Waiting between two rows, on another connection.
    if row.i % 100 == 0 then assert(db:query_value "select 7" == 7) end
  end
  ngx.say("sum ", sum)
  local result = db:transaction(function(tx)
    tx:exec("insert into item values (?, ?)", 1, "outer")
    ngx.sleep(0.001)
    local ok, err = pcall(tx.transaction, tx, function(inner)
      inner:exec("insert into item values (?, ?)", 2, "inner")
      error "undo it"
    end)
    assert(not ok and err:find "undo it")
    tx:transaction(function(inner) inner:exec("insert into item values (?, ?)", 3, "kept") end)
    return tx:query_value "select count(*) from item"
  end)
  ngx.say("in it ", result)
  local statement = db:prepare "select name from item where id = ?"
  ngx.say(statement:query_value(1), " ", statement:query_value(3), " ",
    tostring(statement:query_value(2)))
  statement:close()
  local generator = coroutine.wrap(function()
    for row in db:query "select id from item order by id" do coroutine.yield(row.id) end
  end)
  ngx.say("from a coroutine ", generator(), " ", generator(), " ", tostring((generator())))
  local ok, err = pcall(db.query_value, db, "select wrong from nothing")
  ngx.say(tostring(ok), " ", err.class)
end

app["/null"] = function()
  local db = open("postgres", "null", { null = ngx.null })
  ngx.say(tostring(db:query_row("select ?::text as x", ngx.null).x == ngx.null))
end

app["/limits"] = function()
  for _, given in ipairs { {}, { timeout = 3, pool = { acquire_timeout = 4 } } } do
    for _, suffix in ipairs { "", "?timeout=1&acquire_timeout=2" } do
      local db = moonbase.open("sqlite::memory:" .. suffix, given)
      ngx.say(core.option(db, "timeout"), " ", core.option(db, "acquire_timeout"))
      db:close()
    end
  end
end

-- The default limit of a call is none of a script.
app["/script"] = function()
  local db = open("postgres", "script", {})
  ngx.say(core.option(db, "timeout"))
  for _, given in ipairs { false, { timeout = 0.1 } } do
    local x = given and db:with(given) or db
    local ok, err = pcall(x.exec_script, x, "select pg_sleep(" .. (argument "s" or 0.3) .. ")")
    ngx.say(tostring(ok), " ", ok and err or err.class)
  end
end

local sleeps = { postgres = "select pg_sleep(?::float)", mysql = "select sleep(?)" }

app["/sleep"] = function()
  local name = argument "db" or "postgres"
  open(name):query_value(sleeps[name], argument "s" or "1")
  ngx.say "slept"
end

app["/timeout"] = function()
  local db = open("postgres", "timeout", { pool = { max = 1 } })
  local pid = db:query_value "select pg_backend_pid()"
  local began = ngx.now()
  local ok, err = pcall(function()
    db:with { timeout = 0.2 }:query_value "select pg_sleep(10)"
  end)
  ngx.update_time()
  ngx.say(tostring(ok), " ", err.class, " ", tostring(ngx.now() - began < 1.5), " ",
    tostring(db:query_value "select pg_backend_pid()" == pid))
end

app["/cancel"] = function()
  local stop = moonbase.cancellation()
  local db = open("postgres", "cancel", { pool = { max = 1 } })
  local thread = ngx.thread.spawn(function()
    return pcall(function() db:with { cancel = stop }:query_value "select pg_sleep(10)" end)
  end)
  ngx.sleep(0.2)
  stop:cancel "enough"
  local _, ok, err = ngx.thread.wait(thread)
  ngx.say(tostring(ok), " ", err.class, " ", db:query_value "select 1")
end

-- Two have the only connections for a second; the third gets none.
app["/full"] = openresty.handler(function()
  local db = open("postgres", "full", { pool = { max = 2, acquire_timeout = 0.3 } })
  db:query_value "select pg_sleep(1)"
  ngx.say "slept"
end)

app["/wrong"] = openresty.handler(function()
  local function deep() open("postgres"):exec "select no_such_function()" end
  deep()
end)

app["/plain-error"] = openresty.handler(function() error "a plain mistake" end)

app["/begun"] = openresty.handler(function()
  ngx.print(("x"):rep(100))
  ngx.flush(true)
  error "after the beginning"
end)

app["/handled"] = openresty.handler(function() ngx.say "all right" end)

app["/sleeps"] = function()
  local db = open("postgres", "sleeps", { pool = { max = 50 } })
  local n, threads, held = 50, {}, {}
  for i = 1, n do held[i] = db:connect() end
  ngx.update_time()
  local began = ngx.now()
  for i = 1, n do
    threads[i] = ngx.thread.spawn(function()
      held[i]:query_value "select pg_sleep(0.1)"
    end)
  end
  for i = 1, n do assert(ngx.thread.wait(threads[i])) end
  ngx.update_time()
  ngx.say(ngx.now() - began)
  for i = 1, n do held[i]:close() end
end

app["/kill"] = function()
  local db = open("postgres", "kill", { pool = { max = 10 } })
  local threads = {}
  for i = 1, 10 do
    threads[i] = ngx.thread.spawn(function()
      if i % 2 == 0 then return db:query_value "select pg_sleep(20)" end
      db:transaction(function(tx) tx:query_value "select pg_sleep(20)" end)
    end)
  end
  ngx.sleep(0.2)
  for i = 1, 10 do
    assert(ngx.thread.kill(threads[i]))
    threads[i] = nil
  end
  for _ = 1, 100 do
    if db:stats().in_use == 0 then break end
    collectgarbage()
    pcall(db.query_value, db, "select 1")
    ngx.sleep(0.05)
  end
  local stats = db:stats()
  ngx.say("in use ", stats.in_use, ", answers ", db:query_value "select 1")
end

-- Leaves a transaction open, whose client goes away while it does something else.
app["/dawdle"] = function()
  open("postgres", "dawdle", { pool = { max = 2 } }):transaction(function(tx)
    tx:query_value "select 1"
    ngx.sleep(20)
  end)
end

app["/after-dawdling"] = function()
  local db = open("postgres", "dawdle", { pool = { max = 2 } })
  ngx.say(db:query_value "select 1", " ", db:stats().in_use)
end

app["/timer"] = function()
  local semaphore = require "ngx.semaphore".new()
  local found
  assert(ngx.timer.at(0, function()
    found = open("postgres"):query_value "select 'in a timer'"
    semaphore:post()
  end))
  semaphore:wait(5)
  ngx.say(found)
end

app["/worker-thread"] = function()
  local ok, value = ngx.run_worker_thread("threads", "spec.support.openresty_thread", "query",
    urls.postgres)
  ngx.say(tostring(ok), " ", value)
end

app["/stats"] = function()
  collectgarbage()
  collectgarbage()
  local stats = open("postgres"):stats()
  ngx.say(stats.in_use, " ", stats.waiting)
end

-- --- At length ---------------------------------------------------------------------

local endless = [[with recursive n (i) as (select 1 union all select i + 1 from n)
  select count(*) from n]]

-- As long as whoever asks for "?s=seconds" wants.
app["/compute"] = function()
  local ok, err = pcall(function()
    open("sqlite"):with { timeout = tonumber(argument "s") }:query_value(endless)
  end)
  ngx.say(tostring(ok), " ", err.class)
end

app["/held"] = function()
  open("postgres", "held", { pool = { max = 50 } }):query_value "select pg_sleep(1)"
  ngx.say "held"
end

-- What the workers of one reload after the other may have of the server is little.
app["/brief"] = function()
  local db = open("postgres", "brief", { pool = { max = 5 } })
  ngx.say(db:query_value("select ?::text from pg_sleep(0.005)", "brief"))
end

local kinds = {
  function(db) return db:query_value("select ?::integer + 1", 41) end,
  function(db)
    return db:transaction(function(tx)
      local value = tx:query_value "select 40"
      return tx:query_value("select ?::integer + 2", value)
    end)
  end,
  function(db)
    local rows = db:query(count_rows)
    local first = rows:next().i
    rows:close()
    return first + 41
  end,
  function() return open("sqlite"):query_value("select ? + 1", 41) end,
  -- It goes on on a worker.
  function()
    return open("sqlite"):query_value([[with recursive n (i) as
      (select 1 union all select i + 1 from n where i < 5000) select max(i) - 4958 from n]])
  end,
}
local n_mixed = 0

app["/mixed"] = function()
  n_mixed = n_mixed + 1
  ngx.say(kinds[n_mixed % #kinds + 1](open "postgres"))
end

-- Light threads that are killed while they wait, when what they wait for has come, or with a job
-- on a worker.
app["/kill-some"] = function()
  local threads = {}
  for i = 1, 10 do
    threads[i] = ngx.thread.spawn(function()
      if i % 3 == 0 then return open("sqlite"):query_value(endless) end
      open("postgres"):query_value("select pg_sleep(?::float)", i % 3 == 1 and 20 or 0.002)
    end)
  end
  ngx.sleep(0.001 * (n_mixed % 5))
  n_mixed = n_mixed + 1
  for i = 1, 10 do
    ngx.thread.kill(threads[i])
    threads[i] = nil
  end
  ngx.say "killed"
end

-- Of both databases, once what was dropped has been collected.
app["/rest"] = function()
  collectgarbage()
  collectgarbage()
  local a, b = open("postgres"):stats(), open("sqlite"):stats()
  ngx.say(a.in_use + b.in_use, " ", a.waiting + b.waiting)
end

app["/fill"] = function()
  local n = 0
  while n < 100 and ngx.timer.at(60, function() end) do n = n + 1 end
  ngx.say(n)
end

-- --- Phases ------------------------------------------------------------------------

local tried = {}

function app.try(name)
  local ok, err = pcall(function()
    -- What was opened before nginx forks is of no use afterwards.
    local db = open("postgres", name == "init" and name or "phases")
    return db:query_value "select 1"
  end)
  tried[name] = ok and "ok" or tostring(err)
  return tried[name]
end

-- Rows of a connection that are left open, and closed by a phase that cannot wait.
local left = {}

function app.leave_open(name)
  local conn = open("postgres", "left", { pool = { max = 10 } }):connect()
  local rows = conn:query "select n from generate_series(1, 1000000) n"
  left[name] = { conn, rows, rows:next().n }
end

function app.close_left(name)
  local one = left[name]
  if not one then return end
  left[name] = nil
  tried["close in " .. name] = tostring(select(2, pcall(function()
    one[2]:close()
    one[1]:close()
    return one[1]:is_closed() and one[2]:is_closed() and "closed"
  end)))
end

app["/left"] = function()
  local stats = open("postgres", "left", { pool = { max = 10 } }):stats()
  ngx.say(stats.in_use, " ", stats.size)
end

function app.try_inside_require()
  package.preload["a module that asks"] = function() return app.try "inside require" end
  require "a module that asks"
end

app["/tried"] = function()
  for name, how in pairs(tried) do ngx.say(name, "=", how) end
end

function app.handle()
  app[ngx.var.uri]()
end

return app
