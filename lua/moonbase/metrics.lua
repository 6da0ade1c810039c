--- Figures for Prometheus, in its text format 0.0.4.
---
---     local metrics = require "moonbase.metrics"
---     metrics.observe(db)                 -- how long calls take, too
---     response:write(metrics.render())    -- Content-Type: text/plain; version=0.0.4
---@module moonbase.metrics

local core = require "moonbase.core"
local errors = require "moonbase.errors"
local observe = require "moonbase.observe"

local metrics = {}

-- --- Text ----------------------------------------------------------------------

-- The lengths of UTF-8's characters by their patterns.
local characters = {
  "^[%z\1-\127]()", "^[\194-\223][\128-\191]()", "^\224[\160-\191][\128-\191]()",
  "^[\225-\236\238\239][\128-\191][\128-\191]()", "^\237[\128-\159][\128-\191]()",
  "^\240[\144-\191][\128-\191][\128-\191]()",
  "^[\241-\243][\128-\191][\128-\191][\128-\191]()",
  "^\244[\128-\143][\128-\191][\128-\191]()",
}

-- A text in which each byte that is not part of a character is U+FFFD.
local function to_utf8(text)
  if not text:find "[\128-\255]" then return text end
  local parts, at = {}, 1
  while at <= #text do
    local behind
    for _, pattern in ipairs(characters) do behind = behind or text:match(pattern, at) end
    parts[#parts + 1] = behind and text:sub(at, behind - 1) or "\239\191\189"
    at = behind or at + 1
  end
  return table.concat(parts)
end

local escapes = { ["\\"] = "\\\\", ["\""] = "\\\"", ["\n"] = "\\n" }

local function labels_text(labels)
  local list = {}
  for name, value in pairs(labels) do
    list[#list + 1] = name .. '="' .. to_utf8(tostring(value)):gsub('[\\"\n]', escapes) .. '"'
  end
  table.sort(list)
  return "{" .. table.concat(list, ",") .. "}"
end

-- A number with a point, whatever the locale.
local function number_text(value)
  return (("%.15g"):format(value):gsub(",", "."))
end

-- labels and further ones.
local function join(labels, name, value)
  local joined = { [name] = value }
  for key, one in pairs(labels) do joined[key] = one end
  return joined
end

-- --- Figures of pools ----------------------------------------------------------

-- name, type, help, and where it is in stats; or a function that gives it by a further label.
local pool_metrics = {
  { "moonbase_pool_connections", "gauge", "Connections by what they are doing.",
    label = "db_client_connection_state", values = function(stats)
      return { idle = stats.idle, used = stats.in_use, connecting = stats.connecting }
    end },
  { "moonbase_pool_connections_max", "gauge", "Connections that the pool may have.", "max" },
  { "moonbase_pool_waiting", "gauge", "Callers that wait for a connection.", "waiting" },
  { "moonbase_pool_acquired_total", "counter", "Connections lent.", "acquired" },
  { "moonbase_pool_released_total", "counter", "Connections that came back.", "released" },
  { "moonbase_pool_wait_seconds_total", "counter",
    "Time that callers have waited for connections, together.", "acquire_time" },
  { "moonbase_pool_timeouts_total", "counter", "Callers that got no connection in time.",
    "timeouts" },
  { "moonbase_pool_shed_total", "counter",
    "Callers that were turned away because all had waited too long.", "shed" },
  { "moonbase_pool_created_total", "counter", "Connections made.", "created" },
  { "moonbase_pool_closed_total", "counter", "Connections closed, by the reason.",
    label = "reason", values = function(stats) return stats.closed_by end },
  { "moonbase_pool_connect_failures_total", "counter", "Attempts to connect that failed.",
    "failures" },
  { "moonbase_pool_pings_total", "counter", "Idle connections that were asked for life.",
    "pings" },
  { "moonbase_pool_statement_cache_hits_total", "counter",
    "Statements that were found prepared.", "cache_hits" },
  { "moonbase_pool_statement_cache_misses_total", "counter",
    "Statements that had to be prepared.", "cache_misses" },
}

local function add_header(lines, name, kind, help)
  lines[#lines + 1] = "# HELP " .. name .. " " .. help
  lines[#lines + 1] = "# TYPE " .. name .. " " .. kind
end

local function add_sample(lines, name, labels, value)
  lines[#lines + 1] = name .. labels_text(labels) .. " " .. number_text(value)
end

local function add_pool_metric(lines, metric, pools)
  add_header(lines, metric[1], metric[2], metric[3])
  for _, pool in ipairs(pools) do
    if metric.values then
      local values, names = metric.values(pool.stats), {}
      for name in pairs(values) do names[#names + 1] = name end
      table.sort(names)
      for _, name in ipairs(names) do
        add_sample(lines, metric[1], join(pool.labels, metric.label, name), values[name])
      end
    else
      add_sample(lines, metric[1], pool.labels, pool.stats[metric[4]])
    end
  end
end

-- --- Histograms ----------------------------------------------------------------

-- The bounds that OpenTelemetry's conventions ask for, in seconds.
local bounds = { 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10 }

local histogram_metrics = {
  { "db_client_operation_duration_seconds", "How long operations took, without the program's own "
    .. "time between rows.", event = "query" },
  { "db_client_connection_wait_time_seconds", "How long callers waited for a connection.",
    event = "acquire" },
  { "db_client_connection_create_time_seconds", "How long it took to make a connection.",
    event = "connect" },
}

-- Operations that are told apart; a text may begin with anything.
local operations = {}
for word in ([[ALTER ANALYZE ATTACH BATCH BEGIN CALL COMMIT COPY CREATE DELETE DETACH DO DROP
  EXPLAIN GRANT INSERT LOCK MERGE PRAGMA REINDEX RELEASE REPLACE REVOKE ROLLBACK SAVEPOINT SELECT
  SET SHOW START TABLE TRUNCATE UPDATE VACUUM VALUES]]):gmatch "%u+" do
  operations[word] = true
end

-- The Databases that are observed: a set.  What is counted is beside each of them, in extra:
-- { event = { labels as a text = histogram } }.
local observed = setmetatable({}, { __mode = "k" })

local function labels_of(db, name)
  return {
    db_client_connection_pool_name = name,
    db_system_name = observe.attributes(db)["db.system.name"],
  }
end

local function add_value(series, labels, value)
  local key = labels_text(labels)
  local histogram = series[key]
  if not histogram then
    histogram = { labels = labels, count = 0, sum = 0, buckets = {} }
    for i = 1, #bounds do histogram.buckets[i] = 0 end
    series[key] = histogram
  end
  histogram.count, histogram.sum = histogram.count + 1, histogram.sum + value
  for i, bound in ipairs(bounds) do
    if value <= bound then histogram.buckets[i] = histogram.buckets[i] + 1 end
  end
end

local function labels_of_event(event)
  local labels = {
    db_client_connection_pool_name = event["db.client.connection.pool.name"],
    db_system_name = event["db.system.name"],
    error_type = event["error.type"],
  }
  if event.event == "query" then
    local word = (event["db.operation.name"] or ""):upper()
    labels.db_operation_name = operations[word] and word or nil
  end
  return labels
end

local function listen(db, series)
  local offs = {}
  for _, metric in ipairs(histogram_metrics) do
    local own = series[metric.event]
    offs[#offs + 1] = db:on(metric.event, function(event)
      local value = metric.event == "acquire" and event.queue or event.duration
      add_value(own, labels_of_event(event), value)
    end)
  end
  return offs
end

--- Counts from here on how long the calls of a Database, and of what is made from it, take,
--- until it is closed.  Gives a function that ends this.
---@param db moonbase.Database
---@return fun() off
function metrics.observe(db)
  if core.kind(db) ~= "Database" then errors.usage "metrics.observe wants a Database" end
  local original = core.original(db)
  local extra = core.extra(original)
  local series = extra.histograms or { query = {}, acquire = {}, connect = {}, users = 0 }
  if series.users == 0 then series.offs = listen(db, series) end
  series.users = series.users + 1
  extra.histograms, observed[original] = series, true
  local ended = false
  return function()
    if ended then return end
    ended = true
    series.users = series.users - 1
    if series.users > 0 then return end
    for _, off in ipairs(series.offs) do off() end
  end
end

local function add_histogram(lines, name, histogram)
  for i, bound in ipairs(bounds) do
    add_sample(lines, name .. "_bucket", join(histogram.labels, "le", number_text(bound)),
      histogram.buckets[i])
  end
  add_sample(lines, name .. "_bucket", join(histogram.labels, "le", "+Inf"), histogram.count)
  add_sample(lines, name .. "_sum", histogram.labels, histogram.sum)
  add_sample(lines, name .. "_count", histogram.labels, histogram.count)
end

-- Databases that share a pool have the same labels: what was observed of them is added up.
local function merge(event)
  local merged, keys = {}, {}
  local function add(key, one)
    local into = merged[key]
    if not into then
      into = { labels = one.labels, count = 0, sum = 0, buckets = {} }
      merged[key], keys[#keys + 1] = into, key
    end
    into.count, into.sum = into.count + one.count, into.sum + one.sum
    for i, n in ipairs(one.buckets) do into.buckets[i] = (into.buckets[i] or 0) + n end
  end
  for db in pairs(observed) do
    if not core.is_closed(db) then
      for key, one in pairs(core.extra(db).histograms[event]) do add(key, one) end
    end
  end
  table.sort(keys)
  return merged, keys
end

local function add_histograms(lines, metric)
  local merged, keys = merge(metric.event)
  if #keys == 0 then return end
  add_header(lines, metric[1], "histogram", metric[2])
  for _, key in ipairs(keys) do add_histogram(lines, metric[1], merged[key]) end
end

--- The figures of all pools that are open in this Lua state.
---@return string
function metrics.render()
  local lines, pools = {}, {}
  for i, pool in ipairs(observe.pools()) do
    pools[i] = { name = pool.name, stats = pool.db:stats(), labels = labels_of(pool.db, pool.name) }
  end
  if #pools == 0 then return "" end
  for _, metric in ipairs(pool_metrics) do add_pool_metric(lines, metric, pools) end
  for _, metric in ipairs(histogram_metrics) do add_histograms(lines, metric) end
  lines[#lines + 1] = ""
  return table.concat(lines, "\n")
end

return metrics
