-- What nginx.conf beside this file calls: articles, orders, and the figures of the pool.
local moonbase = require "moonbase"
local ngx = require "ngx"
local openresty = require "moonbase.openresty"

local shop = {}

-- One handle a worker, made when its first request needs it: nginx has forked by then.
local opened

local function database()
  opened = opened or moonbase.open(os.getenv "SHOP_URL" or "sqlite:/tmp/shop/shop.db",
    { null = ngx.null, pool = { max = 5 } })
  return opened
end

-- --- Answers -----------------------------------------------------------------------

-- Enough for the rows of this program, where cjson is missing.
local function encode(value)
  if type(value) == "string" then return ('"%s"'):format(value:gsub('["\\%c]', "_")) end
  if type(value) ~= "table" then return value == ngx.null and "null" or tostring(value) end
  local parts = {}
  if value[1] ~= nil or next(value) == nil then
    for i, item in ipairs(value) do parts[i] = encode(item) end
    return "[" .. table.concat(parts, ",") .. "]"
  end
  for name, item in pairs(value) do parts[#parts + 1] = encode(name) .. ":" .. encode(item) end
  table.sort(parts)
  return "{" .. table.concat(parts, ",") .. "}"
end

local has_cjson, cjson = pcall(require, "cjson")

local function answer(status, value)
  ngx.status = status
  ngx.say((has_cjson and cjson.encode or encode)(value))
end

-- --- Handlers ----------------------------------------------------------------------

shop.list_articles = openresty.handler(function()
  answer(200, database():query_all "select id, name, pieces from article order by id")
end)

-- Takes the pieces away and writes the order, both or neither.
local function buy(tx, article, pieces)
  local n = tx:exec("update article set pieces = pieces - :n where id = :id and pieces >= :n",
    { id = article, n = pieces })
  if n == 0 then return nil, "there are not so many" end
  local id = tx:query_value "select coalesce(max(id), 0) + 1 from purchase"
  tx:exec("insert into purchase (id, article, pieces) values (?, ?, ?)", id, article, pieces)
  return id
end

shop.order = openresty.handler(function()
  ngx.req.read_body()
  local given = ngx.req.get_post_args()
  local article, pieces = tonumber(given.article), tonumber(given.pieces)
  if not article or not pieces or pieces < 1 then
    return answer(400, { error = "wants article and pieces" })
  end
  -- Two that take the same number are in each other's way: one of them runs once more.
  local id, why = database():transaction(function(tx) return buy(tx, article, pieces) end,
    { isolation = "serializable", retry = { attempts = 20 } })
  if not id then return answer(409, { error = why }) end
  answer(201, { id = id })
end)

shop.show_order = openresty.handler(function()
  local found = database():query_row("select id, article, pieces from purchase where id = ?",
    tonumber(ngx.var.id))
  if not found then return answer(404, { error = "there is no such order" }) end
  answer(200, found)
end)

-- Each worker has a pool of its own; the server sees all of them.
shop.show_pool = openresty.handler(function()
  local stats = database():stats()
  answer(200, {
    worker = ngx.worker.id(),
    size = stats.size,
    idle = stats.idle,
    in_use = stats.in_use,
    waiting = stats.waiting,
    acquired = stats.acquired,
    timeouts = stats.timeouts,
    max = stats.max,
    max_of_all_workers = stats.max * ngx.worker.count(),
  })
end)

return shop
