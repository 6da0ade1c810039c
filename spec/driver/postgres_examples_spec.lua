-- The examples and the command on PostgreSQL, as they are.
local moonbase = require "moonbase"
local files = require "spec.support.files"
local loops = require "spec.support.loops"
local postgres = require "spec.support.postgres"
local program = require "spec.support.program"

describe("On PostgreSQL", function()
  local url

  before_each(function() url = postgres.shared():fresh() end)
  after_each(files.clean)

  it("examples/timezones.lua gives the answers that it gives on SQLite, twice", function()
    local wanted = program.run("examples/timezones.lua",
      { "sqlite:" .. files.path "timezones.db" })
    for _ = 1, 2 do
      local output, status, errors = program.run("examples/timezones.lua", { url })
      assert.equal(0, status, errors)
      assert.equal(wanted, output)
    end
    local db = moonbase.open(url)
    assert.is_true(db:query_value "select count(*) from tz_rules" > 2000)
    db:close()
  end)

  it("examples/commands.lua does what it does on SQLite, twice", function()
    local wanted = program.run("examples/commands.lua", { "sqlite:" .. files.path "warehouse.db" })
    for _ = 1, 2 do
      local output, status, errors = program.run("examples/commands.lua", { url })
      assert.equal(0, status, errors)
      assert.equal(wanted, output)
    end
  end)

  for _, loop in ipairs(loops) do
    local path = "examples/" .. loop.name .. ".lua"
    if files.exists(path) then
      it(path .. " runs all its queries at once", function()
        local output, status, errors = program.run(path, { url, "80" })
        assert.equal(0, status, errors)
        local connections, took = output:match
          "^100 queries of 0%.1 s on (%d+) connections: (%S+) s\n"
        assert.is_true(tonumber(connections) <= 80, output)
        -- One after the other they would take 10 s.
        assert.is_true(tonumber(took) < 4, output)
        assert.truthy(output:find("\nthe sum of their answers is 5050\n", 1, true), output)
        local n = tonumber(output:match "\nmeanwhile [^\n]- (%d+) times\n$")
        assert.is_true(n >= 3, output)
      end)
    end
  end

  it("the command writes values of every kind, arrays too", function()
    local text = [=[select 1 as a, array[array[1, null]] as l, array['x, "y', null, ''] as t,
      1.50 as n, null as x, date '2026-11-21' as d, '\xff00'::bytea as b, true as o]=]
    local wanted = {
      json = '[\n{"a":1,"l":[[1,null]],"t":["x, \\"y",null,""],"n":"1.50","x":null,'
        .. '"d":"2026-11-21","b":"/wA=","o":true}\n]\n',
      csv = "a,l,t,n,x,d,b,o\r\n"
        .. '1,"[[1,null]]","[""x, \\""y"",null,""""]",1.50,,2026-11-21,/wA=,true\r\n',
      table = 'a  l           t                   n     x     d           b        o\n'
        .. '-  ----------  ------------------  ----  ----  ----------  -------  ----\n'
        .. '1  [[1,null]]  ["x, \\"y",null,""]  1.50  NULL  2026-11-21  x\'ff00\'  true\n(1 row)\n',
    }
    for format, expected in pairs(wanted) do
      local output, status, errors = program.run("bin/moonbase",
        { "query", "--format", format, url, text })
      assert.equal(0, status, errors)
      assert.equal(expected, output)
    end
  end)

  it("the command runs scripts, and says what is wrong with them", function()
    local script = files.write(files.path "schema.sql",
      "create table t (a integer);\ncreate function f() returns integer language sql as\n"
      .. "$$ select 1; $$;\ninsert into t values (f());\n")
    local _, status, errors = program.run("bin/moonbase", { "script", url, script })
    assert.equal(0, status, errors)
    files.write(script, "insert into t values (2);\nselect nothing from t;\n")
    _, status, errors = program.run("bin/moonbase", { "script", "--transaction", url, script })
    assert.equal(1, status)
    assert.match("SyntaxError: statement 2, at line 2", errors)
    local output = program.run("bin/moonbase", { "query", "--format", "csv", url,
      "select count(*) as n, sum(a) as s from t where a < $1", "10" })
    assert.equal("n,s\r\n1,1\r\n", output)
  end)
end)
