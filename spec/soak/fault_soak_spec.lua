-- The fault driver: that it changes nothing where nothing is wanted of it, and what becomes of a
-- database to which everything happens.
local moonbase = require "moonbase"
local testing = require "moonbase.testing"
local files = require "spec.support.files"
local language = require "spec.support.language"
local length = require "spec.support.length"
local program = require "spec.support.program"

describe("The fault driver", function()
  after_each(files.clean)

  it("without rules passes all that a driver owes", function()
    local command = io.popen "command -v busted"
    local busted = command:read "*l"
    command:close()
    local output, status = program.run(busted, { "spec/conformance" },
      { environment = { "MB_DRIVER=fault+sqlite" } })
    local passed, failed = output:match "\n(%d+) passed, (%d+) failed, %d+ skipped\n$"
    assert.equal("0", failed, output)
    assert.is_true(tonumber(passed) > 1000)
    assert.equal(0, status)
  end)
end)

describe("A pool to which everything happens", function()
  local seed = os.time() % 1000000 + 1
  local state = seed

  local function random(limit)
    state = state * 16807 % 2147483647
    return state % limit + 1
  end

  local function one_of(list) return list[random(#list)] end

  local function always(n) return random(n) == 1 end

  local slots = { "connect", "prepare", "execute", "fetch", "finish", "begin", "commit",
    "rollback", "exec_text", "ping", "describe" }

  -- What a rule may leave undone is told by the error: only a loss may be silent about it.
  local function add_rule(fault)
    local rule = { nth = random(4), times = random(2) }
    local way = random(4)
    if way == 1 then
      rule.lose, rule.after, rule.session_only = true, always(2), always(2)
    elseif way == 2 then
      rule.fail = one_of { "EngineError", "SerializationError", "ResourceError", "TimeoutError" }
      rule.retryable = always(2)
    elseif way == 3 then
      rule.delay = one_of { 0.001, 0.002, math.huge }
    else
      fault:at("is_valid", { nth = random(4), answer = one_of { "dead", "alive", "readable" } })
      return
    end
    fault:at(one_of(slots), rule)
  end

  it("keeps what it has said, and its figures add up", function()
    local path = files.path "chaos.db"
    local db = moonbase.open("fault+sqlite:" .. path, { timeout = 0.02, connect_timeout = 0.05,
      pool = { max = 4, check_after_idle = 0, sweep_interval = 0.01, min_idle = 1 } })
    local fault = testing.fault(db)
    db:exec "create table item (id integer primary key)"
    -- What is known of each row: "there", "gone", or "unknown".
    local rows, n = {}, 0
    local pending
    local kept = {} -- luacheck: ignore 241

    local function insert(x)
      n = n + 1
      rows[n] = "gone"
      pending[#pending + 1] = n
      x:exec("insert into item values (?)", n)
    end

    local function undone(tx)
      local before = pending
      pending = {}
      pcall(tx.transaction, tx, function(inner)
        insert(inner)
        error "undone"
      end)
      pending = before
    end

    -- True: what is pending is there.
    local ways = {
      function()
        insert(db)
        return true
      end,
      function()
        return db:transaction(function(tx)
          pending = {}
          tx:transaction(insert)
          undone(tx)
          insert(tx)
          return true
        end, { retry = {} })
      end,
      function()
        local conn = db:connect()
        kept[random(3)] = conn
        insert(conn)
        return true
      end,
      function()
        local tx = db:begin()
        kept[random(3)] = tx
        insert(tx)
        return always(2) and tx:commit()
      end,
      function() kept[random(3)] = db:query "select a.id from item a, item b limit 500" end,
      function() db:query_value "select count(*) from item" end,
      function() db:ping() end,
      function() for i = 1, 3 do kept[i] = nil end end,
      function() fault:lose() end,
      function() fault:clear() end,
      function() collectgarbage() end,
    }

    for _ = 1, length(10000) do
      if always(3) then add_rule(fault) end
      pending = {}
      local ok, result = pcall(one_of(ways))
      assert.is_true(ok or moonbase.is(result), tostring(result) .. ", seed " .. seed)
      local outcome = ok and result and "there"
        or not ok and (result.sent or result.commit_unknown) and "unknown" or "gone"
      for _, id in ipairs(pending) do rows[id] = outcome end
    end

    fault:clear()
    for i = 1, 3 do kept[i] = nil end
    language.collect()
    db:ping()
    local stats = db:stats()
    assert.equal(stats.acquired, stats.released + stats.in_use)
    assert.equal(stats.created, stats.closed + stats.open)
    assert.is_true(stats.size <= 4)
    local found = {}
    for _, id in ipairs(db:query_column "select id from item") do found[id] = true end
    local counts = { there = 0, gone = 0, unknown = 0 }
    for id, outcome in ipairs(rows) do
      counts[outcome] = counts[outcome] + 1
      if outcome ~= "unknown" then
        assert.equal(outcome == "there", found[id] or false, ("row %d, seed %d"):format(id, seed))
      end
    end
    for outcome, count in pairs(counts) do assert.is_true(count > 0, outcome) end
    db:close()
  end)
end)
