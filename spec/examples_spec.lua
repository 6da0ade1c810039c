local databases = require "spec.support.databases"
local files = require "spec.support.files"
local loops = require "spec.support.loops"
local program = require "spec.support.program"

-- What the system has; the small files below are in the same forms.
local installed = os.getenv "TZDIR" or "/usr/share/zoneinfo"

local small = {
  ["iso3166.tab"] = "# a comment\nCH\tSwitzerland\nDE\tGermany\nLI\tLiechtenstein\nXX\tNowhere\n",
  ["zone1970.tab"] = "# a comment\n"
    .. "DE\t+5230+01322\tEurope/Berlin\tmost of Germany\n"
    .. "CH,DE,LI\t+472301+0083212\tEurope/Zurich\n"
    .. "XX\t-7824-16036\tFar/South\tbelow\n",
  ["tzdata.zi"] = "# version 2000x\n"
    .. "# This zic input file is in the public domain.\n"
    .. "R c 1916 o - Ap 30 23 1 S\n"
    .. "R c 1980 ma - S lastSu 2s 0 -\n"
    .. "R C 1977 1980 - Ap Su>=1 1u 1 S\n"
    .. "Z Europe/Berlin 0:53:28 - LMT 1893 Ap\n1 c CE%sT 1980\n1 C CE%sT\n"
    .. "Z Europe/Zurich 0:34:8 - LMT 1853 Jul 16\n0:29:46 - BMT 1894 Jun\n1 C CE%sT\n"
    .. "Z Far/South -11:30 0:30 X 1950\n-2 - Y\n"
    .. "L Europe/Zurich Europe/Busingen\nL Europe/Berlin Germany\n",
}

-- How many lines of a file begin with a pattern.
local function count_lines(path, pattern)
  local count = 0
  for line in io.lines(path) do
    if line:find("^" .. pattern) then count = count + 1 end
  end
  return count
end

-- How many countries the lines of zone1970.tab name together.
local function count_pairs(path)
  local count = 0
  for line in io.lines(path) do
    if line:sub(1, 1) ~= "#" then
      count = count + select(2, line:match("^[^\t]*"):gsub("%u%u", ""))
    end
  end
  return count
end

local function specify_timezones(database)
  local url, db

  before_each(function()
    db = database:open()
    url = database:url()
  end)

  after_each(function() database:clean() end)

  local function run(folder)
    return program.run("examples/timezones.lua", { url }, { environment = { "TZDIR=" .. folder } })
  end

  local function write_small()
    local folder = files.folder()
    for name, content in pairs(small) do files.write(folder .. "/" .. name, content) end
    return folder
  end

  local function count_rows(name)
    return db:query_value("select count(*) from " .. name)
  end

  it("loads small files, field by field", function()
    local _, status, errors = run(write_small())
    assert.equal(0, status, errors)
    assert.truthy(errors:find(" into " .. db:url() .. "\n", 1, true), errors)
    assert.truthy(errors:find("release 2000x is loaded\n", 1, true), errors)
    assert.equal("2000x", db:query_value "select version from tz_release")
    assert.same({ "CH", "DE", "LI", "XX" },
      db:query_column "select code from tz_countries order by code")

    local zurich = db:query_row "select * from tz_zones where name = 'Europe/Zurich'"
    assert.equal(47 + 23 / 60 + 1 / 3600, zurich.latitude)
    assert.equal(8 + 32 / 60 + 12 / 3600, zurich.longitude)
    assert.is_nil(zurich.remark)
    local south = db:query_row "select * from tz_zones where name = 'Far/South'"
    assert.equal(-(78 + 24 / 60), south.latitude)
    assert.equal(-(160 + 36 / 60), south.longitude)
    assert.equal("below", south.remark)
    assert.same({ "CH", "DE", "LI" }, db:query_column(
      "select country from tz_zone_countries where zone = ? order by country", zurich.id))

    assert.same({
      { name = "c", first_year = 1916, last_year = 1916, in_month = 4, on_day = "30",
        at_time = "23", save_seconds = 3600, letters = "S" },
      { name = "c", first_year = 1980, in_month = 9, on_day = "lastSu", at_time = "2s",
        save_seconds = 0 },
      { name = "C", first_year = 1977, last_year = 1980, in_month = 4, on_day = "Su>=1",
        at_time = "1u", save_seconds = 3600, letters = "S" },
    }, db:query_all [[select name, first_year, last_year, in_month, on_day, at_time, save_seconds,
      letters from tz_rules join tz_rule_sets on rule_set = id order by rule_set, first_year]])

    assert.same({
      { line = 1, offset_seconds = 3208, save_seconds = 0, abbreviation = "LMT", until_year = 1893,
        until_time = "1893 Ap" },
      { line = 2, offset_seconds = 3600, name = "c", abbreviation = "CE%sT", until_year = 1980,
        until_time = "1980" },
      { line = 3, offset_seconds = 3600, name = "C", abbreviation = "CE%sT" },
    }, db:query_all [[select line, offset_seconds, save_seconds, r.name, abbreviation, until_year,
      until_time from tz_zone_lines join tz_zones z on zone = z.id
      left join tz_rule_sets r on rule_set = r.id where z.name = 'Europe/Berlin' order by line]])
    assert.same({ -41400, 1800 }, { db:query_values(
      "select offset_seconds, save_seconds from tz_zone_lines where zone = ? and line = 1",
      south.id) })

    assert.same({ "Europe/Zurich" }, db:query_column [[select z.name from tz_links l
      join tz_zones z on l.zone = z.id where l.name = 'Europe/Busingen']])
    assert.equal(2, count_rows "tz_links")
  end)

  it("answers from small files", function()
    local output, status = run(write_small())
    assert.equal(0, status)
    assert.truthy(output:find("Countries with the most zones\n  country        zones\n"
      .. "  Germany            2\n  Liechtenstein      1\n", 1, true), output)
    assert.truthy(output:find("\n  1910s       1          1\n", 1, true), output)
    assert.truthy(output:find("\n  1970s       1          1\n", 1, true), output)
    assert.truthy(output:find("\n  2020s       1          1\n", 1, true), output)
    assert.truthy(output:find("\n  Europe/Zurich        2        1\n", 1, true), output)
  end)

  it("loads all that the system has, and a second time the same", function()
    local tab, zi = installed .. "/zone1970.tab", installed .. "/tzdata.zi"
    local wanted = {
      tz_release = 1,
      tz_countries = count_lines(installed .. "/iso3166.tab", "%u%u\t"),
      tz_zones = count_lines(zi, "Z "),
      tz_zone_countries = count_pairs(tab),
      tz_rules = count_lines(zi, "R "),
      tz_zone_lines = count_lines(zi, "Z ") + count_lines(zi, "[%d-]"),
      tz_links = count_lines(zi, "L "),
    }
    local first
    for _ = 1, 2 do
      local output, status, errors = run(installed)
      assert.equal(0, status, errors)
      for name, count in pairs(wanted) do
        assert.is_true(count > 0, name)
        assert.equal(count, count_rows(name), name)
      end
      assert.equal(count_lines(tab, "%u"),
        db:query_value "select count(*) from tz_zones where latitude is not null")
      first = first or output
      assert.equal(first, output)
    end
    if database.driver == "sqlite" then
      assert.same({}, db:query_all "pragma foreign_key_check")
    end

    -- One answer is counted in the file itself.
    local zones = 0
    for line in io.lines(tab) do
      if line:match("^[%u,]*"):find("US", 1, true) then zones = zones + 1 end
    end
    assert.truthy(first:find(("\n  United States%7d\n"):format(zones), 1, true), first)
  end)

  it("leaves what was there when the new files are bad", function()
    run(write_small())
    local folder = write_small()
    files.write(folder .. "/tzdata.zi", small["tzdata.zi"] .. "L Nowhere/Land Else/Where\n")
    local _, status, errors = run(folder)
    assert.equal(1, status)
    assert.truthy(errors:find("there is no zone Nowhere/Land", 1, true), errors)
    assert.equal(2, count_rows "tz_links")
    assert.equal(3, count_rows "tz_zones")
  end)

  it("says which package is missing", function()
    local _, status, errors = run "/nowhere/at/all"
    assert.equal(1, status)
    assert.truthy(errors:find("cannot open /nowhere/at/all/", 1, true), errors)
    assert.truthy(errors:find("apt install tzdata", 1, true), errors)
  end)
end

local function specify_commands(database)
  after_each(function() database:clean() end)

  it("ships whole orders, once, and a second time the same", function()
    local db = database:open()
    for _ = 1, 2 do
      local output, status, errors = program.run("examples/commands.lua", { database:url() })
      assert.equal(0, status, errors)
      assert.equal("A-1  shipped, line 2 of the journal\n"
        .. "A-2  not shipped: command 2 says there are no 3 of table\n"
        .. "A-1  shipped, line 2 of the journal\n"
        .. "A-3  shipped, line 3 of the journal\n"
        .. "false\tConstraintError\tReceive\t2\n"
        .. "\nStock\n  chair   6\n  table   1\n"
        .. "\nJournal\n  1  a delivery has come\n  2  shipped A-1\n  3  shipped A-3\n", output)
    end
    assert.equal(2, db:query_value "select count(*) from warehouse_keys")
    assert.equal(0, db:query_value "select count(*) from warehouse_stock where article = 'lamp'")
  end)
end

local function specify_orders(database)
  after_each(function() database:clean() end)

  it("passes", function()
    database:open()
    local busted = io.popen "command -v busted"
    local path = busted:read "*l"
    busted:close()
    -- It has a file of SQLite by itself.
    local given = database.driver ~= "sqlite"
      and { environment = { "SHOP_URL=fault+" .. database:url() } } or nil
    local output, status, errors = program.run(path, { "examples/orders_spec.lua" }, given)
    assert.equal(0, status, output .. errors)
    assert.truthy(output:find("\n7 passed, 0 failed, 0 skipped\n", 1, true), output)
  end)
end

-- What the examples for event loops do on a server.
local function specify_loop(database, name)
  after_each(function() database:clean() end)

  it("waits for a hundred queries at once", function()
    database:open()
    local output, status, errors = program.run("examples/" .. name, { database:url(), "50" })
    assert.equal(0, status, errors)
    local seconds, ticks = output:match("^100 queries of 0%.1 s on 50 connections: ([%d.]+) s\n"
      .. "the sum of their answers is 5050\nmeanwhile [%a ]+ (%d+) times\n$")
    assert.truthy(seconds, output)
    assert.is_true(tonumber(seconds) >= 0.2 and tonumber(seconds) < 5, output)
    assert.is_true(tonumber(ticks) >= 10, output)
  end)
end

for _, database in ipairs(databases) do
  local function specify(name, fn)
    describe(("examples/%s: %s"):format(name, database.name), function() fn(database, name) end)
  end

  -- The examples are programs of their own.
  if database.quirks.many_connections then
    specify("timezones.lua", specify_timezones)
    specify("commands.lua", specify_commands)
    specify("orders_spec.lua", specify_orders)
  end
  for _, name in ipairs { "cqueues", "luv" } do
    if loops[name] and database.driver ~= "sqlite" then specify(name .. ".lua", specify_loop) end
  end
end
