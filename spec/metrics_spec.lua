local moonbase = require "moonbase"
local expect = require "spec.support.expect"
local files = require "spec.support.files"
local metrics = require "moonbase.metrics"

-- The samples of a text: { ["name{labels}"] = value }.
local function samples_of(text)
  local samples = {}
  for line in text:gmatch "[^\n]+" do
    if line:sub(1, 1) ~= "#" then
      local name, value = line:match "^(.*) ([^ ]+)$"
      assert.is_nil(samples[name], name)
      samples[name] = tonumber(value)
    end
  end
  return samples
end

-- The value of a sample by its name and labels; labels are sorted by their names.
local function sample(text, name, ...)
  local labels = { 'db_client_connection_pool_name="observed"', 'db_system_name="sqlite"', ... }
  table.sort(labels)
  return samples_of(text)[name .. "{" .. table.concat(labels, ",") .. "}"]
end

-- What Prometheus' own tool says of a text: nothing when it is content.
local function check(text)
  local path = files.write(files.path "metrics", text)
  local pipe = assert(io.popen("promtool check metrics <" .. path
    .. " 2>&1; echo \"status $?\""))
  local output = pipe:read "*a"
  pipe:close()
  return output
end

describe("metrics", function()
  local opened

  local function open(url, options)
    local db = moonbase.open(url, options)
    opened[#opened + 1] = db
    return db
  end

  before_each(function()
    -- Pools of other specs that nobody holds any more.
    collectgarbage()
    collectgarbage()
    opened = {}
  end)

  after_each(function()
    for _, db in ipairs(opened) do db:close() end
    files.clean()
  end)

  it("are a text that Prometheus takes, whatever names and values are in it", function()
    local odd = open("sqlite:" .. files.path "a \"b\" \\ \195\164 \255 c.db")
    local memory = open "sqlite::memory:"
    metrics.observe(memory)
    metrics.observe(odd)
    memory:query_value "select 1"
    odd:query_value "select 1"
    pcall(odd.exec, odd, "selec")
    local text = metrics.render()
    assert.equal("status 0\n", check(text))
    assert.is_truthy(text:find("\239\191\189 c.db", 1, true))
    assert.equal("\n", text:sub(-1))
  end)

  it("have the figures of each pool", function()
    local db = open("sqlite::memory:", { name = "observed", pool = { max = 1 } })
    db:query_value "select 1"
    db:query_value "select 1"
    local conn = db:connect()
    local text = metrics.render()
    local stats = db:stats()
    assert.equal(1, sample(text, "moonbase_pool_connections", 'db_client_connection_state="used"'))
    assert.equal(0, sample(text, "moonbase_pool_connections", 'db_client_connection_state="idle"'))
    assert.equal(1, sample(text, "moonbase_pool_connections_max"))
    assert.equal(3, sample(text, "moonbase_pool_acquired_total"))
    assert.equal(stats.released, sample(text, "moonbase_pool_released_total"))
    assert.equal(1, sample(text, "moonbase_pool_created_total"))
    assert.equal(stats.cache_hits, sample(text, "moonbase_pool_statement_cache_hits_total"))
    for reason, n in pairs(stats.closed_by) do
      assert.equal(n, sample(text, "moonbase_pool_closed_total", 'reason="' .. reason .. '"'))
    end
    conn:close()
  end)

  it("have all counts of stats, once", function()
    local db = open("sqlite::memory:", { name = "observed" })
    local n = 0
    for name in pairs(samples_of(metrics.render())) do
      if name:find 'pool_name="observed"' then n = n + 1 end
    end
    -- size and open are sums of others; closed is one of closed_by; three states are one metric.
    local counts, reasons = 0, 0
    for _ in pairs(db:stats()) do counts = counts + 1 end
    for _ in pairs(db:stats().closed_by) do reasons = reasons + 1 end
    assert.equal(counts - 4 + reasons, n)
  end)

  it("have a pool that two Databases share once, and a closed one no more", function()
    local db = open("sqlite::memory:", { name = "observed" })
    local other = open("sqlite::memory:", { name = "observed" })
    db:query_value "select 1"
    assert.equal(1, sample(metrics.render(), "moonbase_pool_acquired_total"))
    db:close()
    assert.equal(1, sample(metrics.render(), "moonbase_pool_acquired_total"))
    other:close()
    assert.is_nil(metrics.render():find("observed", 1, true))
  end)

  it("tell pools with the same URL apart", function()
    local url = "sqlite:" .. files.path "same.db"
    local first = open(url)
    open(url):query_value "select 1"
    local text = metrics.render()
    assert.is_truthy(text:find('same.db"', 1, true))
    assert.is_truthy(text:find('same.db#2"', 1, true))
    first:close()
    open(url)
    assert.is_truthy(metrics.render():find('same.db"', 1, true))
  end)

  it("are empty without a pool that is open", function()
    local before = metrics.render()
    local db = open "sqlite::memory:"
    assert.is_truthy(#metrics.render() > #before)
    db:close()
    assert.equal(before, metrics.render())
  end)

  describe("of what is observed", function()
    local db

    before_each(function() db = open("sqlite::memory:", { name = "observed" }) end)

    it("have histograms with the bounds of the conventions", function()
      metrics.observe(db)
      db:query_value "select 1"
      db:query_value "SELECT 1"
      pcall(db.exec, db, "insert into nothing values (1)")
      local text = metrics.render()
      local name = "db_client_operation_duration_seconds"
      local select_label = 'db_operation_name="SELECT"'
      assert.equal(2, sample(text, name .. "_count", select_label))
      assert.is_true(sample(text, name .. "_sum", select_label) > 0)
      local last = 0
      for _, bound in ipairs { "0.001", "0.005", "0.01", "0.05", "0.1", "0.5", "1", "5", "10",
        "+Inf" } do
        local n = sample(text, name .. "_bucket", select_label, 'le="' .. bound .. '"')
        assert.is_true(n >= last)
        last = n
      end
      assert.equal(2, last)
      assert.equal(1, sample(text, name .. "_count", 'db_operation_name="INSERT"',
        'error_type="SyntaxError"'))
      assert.equal(3, sample(text, "db_client_connection_wait_time_seconds_count"))
      assert.equal(1, sample(text, "db_client_connection_create_time_seconds_count"))
    end)

    it("have no labels of a text's own words", function()
      metrics.observe(db)
      for i = 1, 20 do pcall(db.exec, db, "word" .. ("x"):rep(i)) end
      local text = metrics.render()
      assert.is_nil(text:find("word", 1, true))
      assert.equal(20, sample(text, "db_client_operation_duration_seconds_count",
        'error_type="SyntaxError"'))
    end)

    it("count once, however often that was asked for, until all have ended it", function()
      local first, second = metrics.observe(db), metrics.observe(db:with{ timeout = 5 })
      local function count()
        return sample(metrics.render(), "db_client_operation_duration_seconds_count",
          'db_operation_name="SELECT"')
      end
      db:query_value "select 1"
      assert.equal(1, count())
      first()
      first()
      db:query_value "select 1"
      assert.equal(2, count())
      second()
      db:query_value "select 1"
      assert.equal(2, count())
      metrics.observe(db)
      db:query_value "select 1"
      assert.equal(3, count())
    end)

    it("are those of a Database", function()
      expect.raised("UsageError", "wants a Database", metrics.observe, nil)
      local conn = db:connect()
      expect.raised("UsageError", "wants a Database", metrics.observe, conn)
      conn:close()
    end)
  end)
end)
