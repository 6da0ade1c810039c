--- What nginx runs for bench/openresty.lua: /DATABASE/CANDIDATE/CASE.
---
--- All get the table item of 100,000 rows: an integer key, a 64-bit integer within 2^53, a
--- double, a text of 16 bytes and a boolean.  Every request takes the next key of the same
--- order, and answers with something of what it has read.
local moonbase = require "moonbase"
local ngx = require "ngx"

package.path = os.getenv "BENCH_MODULES" .. package.path

-- Those that are measured.
local urls = { postgres = os.getenv "BENCH_POSTGRES", mysql = os.getenv "BENCH_MYSQL",
  sqlite = os.getenv "BENCH_SQLITE" }

local rows = 100000
local point = "select id, big, x, t, flag from item where id = "
local some = "select id, big, x, t, flag from item where id between %s and %s"
local sum = "select sum(x) from item where id between ? and ?"

-- --- Keys ----------------------------------------------------------------------

local state = 0

-- A linear congruential generator: keys follow each other as if by chance.
local function next_key()
  state = (state * 421 + 54773) % 259200
  return state % (rows - 1100) + 1
end

-- --- Candidates ------------------------------------------------------------------

local app = {}

local opened = {}

local function open(name, options)
  local key = name .. (options.statement_cache or "") .. (options.scheduler or "")
  opened[key] = opened[key] or moonbase.open(urls[name], options)
  return opened[key]
end

local most = { pool = { max = 50 } }
local unprepared = { pool = { max = 50 }, statement_cache = 0 }
local loop = { scheduler = "openresty" }
local blocking = { scheduler = "blocking" }

local function add_up(list)
  local total = 0
  for _, row in ipairs(list) do total = total + row.x + #row.t end
  return total
end

-- What a peer has for the rows of a text: a request has a connection of nginx's pool of sockets for
-- one query.
local peers = {}

function peers.postgres()
  local pgmoon = require "pgmoon"
  return "pgmoon", function(text)
    local connection = pgmoon.new {
      socket_path = os.getenv "BENCH_POSTGRES_SOCKET", user = "moonbase", database = "moonbase",
      pool_size = 50,
    }
    assert(connection:connect())
    local list = assert(connection:query(text))
    connection:keepalive()
    return list
  end
end

-- It makes its table of rows with the size that it is told.
function peers.mysql()
  local resty = require "resty.mysql"
  local given = {
    path = os.getenv "BENCH_MYSQL_SOCKET", user = "moonbase", database = "moonbase", pool_size = 50,
  }
  return "resty", function(text, count)
    local connection = assert(resty:new())
    assert(connection:connect(given))
    local list = assert(connection:query(text, count))
    connection:set_keepalive()
    return list
  end
end

for database, load in pairs(peers) do
  if urls[database] then
    local ours = ("/%s/moonbase/"):format(database)
    app[ours .. "point"] = function()
      ngx.say(open(database, most):query_row(point .. "?", next_key()).t)
    end

    app[ours .. "rows"] = function()
      local key = next_key()
      ngx.say(add_up(open(database, most):query_all(some:format("?", "?"), key, key + 99)))
    end

    app[ours .. "unprepared"] = function()
      ngx.say(open(database, unprepared):query_row(point .. "?", next_key()).t)
    end

    local name, query = load()
    local theirs = ("/%s/%s/"):format(database, name)
    app[theirs .. "point"] = function() ngx.say(query(point .. next_key(), 1)[1].t) end

    app[theirs .. "rows"] = function()
      local key = next_key()
      ngx.say(add_up(query(some:format(key, key + 99), 100)))
    end

    app[theirs .. "unprepared"] = app[theirs .. "point"]
  end
end

for name, options in pairs { loop = loop, blocking = blocking } do
  app[("/sqlite/%s/point"):format(name)] = function()
    ngx.say(open("sqlite", options):query_row(point .. "?", next_key()).t)
  end

  -- It takes longer than a call may stay on the thread of the worker.
  app[("/sqlite/%s/sum"):format(name)] = function()
    local key = next_key()
    ngx.say(open("sqlite", options):query_value(sum, key, key + 999))
  end
end

-- --- Data ------------------------------------------------------------------------

local analyze = { postgres = "vacuum analyze item", mysql = "analyze table item" }

app["/data"] = function()
  for name, url in pairs(urls) do
    local db = moonbase.open(url, { timeout = 0 })
    db:exec [[create table item (id integer primary key, big bigint, x double precision,
      t text, flag boolean)]]
    local list = {}
    for i = 1, rows do
      list[i] = { i, i * 90000000000, i / 7, ("text of %08d"):format(i), i % 2 == 0 }
    end
    db:bulk_insert("item", { "id", "big", "x", "t", "flag" }, list)
    if analyze[name] then db:exec(analyze[name]) end
    db:close()
  end
  ngx.say "made"
end

function app.handle()
  app[ngx.var.uri]()
end

return app
