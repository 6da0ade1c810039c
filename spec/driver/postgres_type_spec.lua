-- PostgreSQL's types: what the server has comes out in one form, and goes in again as the
-- same, the first time (unprepared) and later (prepared).
local moonbase = require "moonbase"
local expect = require "spec.support.expect"
local language = require "spec.support.language"
local postgres = require "spec.support.postgres"

local null = moonbase.null

-- An integer beyond 2^53 as this Lua has it.
local function long(digits)
  if not language.integers then return digits end
  return math.tointeger(tonumber(digits)) or math.mininteger -- luacheck: ignore 143
end

local digits_1000 = ("1234567890"):rep(100)

-- Type; then literals of the server's, each with the value that is wanted (nil: the same).
local types = {
  { "smallint", { "0", 0 }, { "-32768", -32768 }, { "32767", 32767 } },
  { "integer", { "0", 0 }, { "-2147483648", -2147483648 }, { "2147483647", 2147483647 } },
  { "bigint", { "-1", -1 }, { "9007199254740992", 2 ^ 53 },
    { "9223372036854775807", long "9223372036854775807" },
    { "-9223372036854775808", long "-9223372036854775808" } },
  { "oid", { "0", 0 }, { "4294967295", 4294967295 } },
  { "real", { "0", 0 }, { "1.5", 1.5 }, { "-3.4028235e38", -3.4028234663852886e38 },
    { "1e-45", 2 ^ -149 }, { "infinity", math.huge }, { "-infinity", -math.huge } },
  { "double precision", { "0.1", 0.1 }, { "1.7976931348623157e308", 1.7976931348623157e308 },
    { "5e-324", 2 ^ -1074 }, { "infinity", math.huge }, { "-infinity", -math.huge } },
  { "numeric", { "0" }, { "0.00" }, { "-0.5" }, { "1.10" }, { "100" }, { "10000" },
    { "12345678901234567890.123456789" }, { "0.0000000000000000001" }, { "1e20",
      "100000000000000000000" }, { digits_1000 }, { "-0." .. digits_1000 },
    { digits_1000 .. "." .. digits_1000 }, { "1" .. ("0"):rep(999) }, { "9999.9999" },
    { "NaN" }, { "Infinity" }, { "-Infinity" } },
  { "numeric(10, 4)", { "1", "1.0000" }, { "-123456.7891" } },
  { "boolean", { "true", true }, { "false", false } },
  { "text", { "" }, { "a" }, { "\226\130\172 \240\159\153\130" }, { "it's \\ \"quoted\"\n\t" },
    { ("x"):rep(100000) } },
  { "varchar(5)", { "" }, { "abcde" } },
  { "character(3)", { "a", "a  " }, { "abc" } },
  { '"char"', { "x" } },
  { "name", { "some_name" } },
  { "bytea", { "\\x", "" }, { "\\x00ff00", "\0\255\0" }, { "\\x5c78", "\\x" } },
  { "uuid", { "6f9619ff-8b86-d011-b42d-00cf4fc964ff" },
    { "00000000-0000-0000-0000-000000000000" } },
  { "date", { "2026-11-21" }, { "2000-02-29" }, { "0001-01-01" }, { "infinity" }, { "-infinity" },
    { "0044-03-15 BC" }, { "4713-01-01 BC" }, { "5874897-12-31" }, { "1999-12-31" } },
  { "time", { "00:00:00" }, { "09:48:00.5" }, { "23:59:59.999999" }, { "24:00:00" } },
  { "timestamp", { "2026-11-21 09:48:00.5" }, { "1970-01-01 00:00:00" },
    { "1999-12-31 23:59:59.999999" }, { "infinity" }, { "-infinity" },
    { "0044-03-15 12:00:00 BC" }, { "0001-12-31 23:59:59.5 BC" }, { "4713-01-01 00:00:00 BC" },
    { "294276-12-31 23:59:59.999999" } },
  { "timestamptz", { "2026-11-21 09:48:00.5+00:00" }, { "2026-11-21 10:48:00+01",
    "2026-11-21 09:48:00+00:00" }, { "infinity" }, { "-infinity" },
    { "0044-03-15 12:00:00+00 BC", "0044-03-15 12:00:00+00:00 BC" },
    { "294276-12-31 23:59:59.999999+00:00" } },
  { "json", { '{"a": [1, null]}' }, { "7" }, { '"x"' }, { "null" } },
  { "jsonb", { '{"a": [1, null]}' }, { "[]" } },
  -- What has no form of its own comes as the server writes it.
  { "interval", { "1 year 2 mons 3 days 04:05:06.789" }, { "-00:00:01" } },
  { "timetz", { "09:48:00.5+02", "09:48:00.5+02:00" } },
  { "inet", { "10.1.2.3" }, { "::1/64" } },
  { "cidr", { "10.0.0.0/8" } },
  { "macaddr", { "08:00:2b:01:02:03" } },
  { "bit(4)", { "1010" } },
  { "varbit", { "101" } },
  { "point", { "(1,2.5)" } },
  { "xml", { "<a/>" } },
  { "money", { "$1,000.00" } },
  { "int4range", { "[1,5)" }, { "empty" } },
  { "tsvector", { "'a':1 'b':2" } },
  { "pg_lsn", { "16/B374D848" } },
  -- Arrays are lists; NULLs in them are moonbase.null.
  { "integer[]", { "{}", {} }, { "{1}", { 1 } }, { "{1,NULL,-3}", { 1, null, -3 } },
    { "{{1,2},{3,4}}", { { 1, 2 }, { 3, 4 } } },
    { "{{{1},{NULL}},{{3},{4}}}", { { { 1 }, { null } }, { { 3 }, { 4 } } } },
    { "{NULL,NULL}", { null, null } } },
  { "bigint[]", { "{9223372036854775807}", { long "9223372036854775807" } } },
  { "text[]", { "{}", {} }, { [[{a,"",NULL,"NULL","b c","q\"uo\\te","{x}",]] .. "\226\130\172}",
    { "a", "", null, "NULL", "b c", 'q"uo\\te', "{x}", "\226\130\172" } } },
  { "varchar[]", { "{a,b}", { "a", "b" } } },
  { "boolean[]", { "{t,f,NULL}", { true, false, null } } },
  { "double precision[]", { "{1.5,-Infinity}", { 1.5, -math.huge } } },
  { "numeric[]", { "{1.10,-2}", { "1.10", "-2" } } },
  { "bytea[]", { [[{"\\x00ff","\\x"}]], { "\0\255", "" } } },
  { "uuid[]", { "{6f9619ff-8b86-d011-b42d-00cf4fc964ff}",
    { "6f9619ff-8b86-d011-b42d-00cf4fc964ff" } } },
  { "date[]", { "{2026-11-21,infinity}", { "2026-11-21", "infinity" } } },
  { "timestamptz[]", { '{"2026-11-21 09:48:00.5+00"}', { "2026-11-21 09:48:00.5+00:00" } } },
}

-- Wraps what went out so that it can go in.
local wrap = { bytea = moonbase.blob, ["bytea[]"] = function(list)
  local copy = {}
  for i, bytes in ipairs(list) do copy[i] = moonbase.blob(bytes) end
  return moonbase.array(copy)
end }

local function parameter(type, value)
  if wrap[type] then return wrap[type](value) end
  if _G.type(value) == "table" then return moonbase.array(value) end
  return value
end

local function quoted(literal)
  return "E'" .. literal:gsub("\\", "\\\\"):gsub("'", "\\'") .. "'"
end

describe("PostgreSQL's", function()
  local db

  setup(function() db = moonbase.open(postgres.shared():url()) end)
  teardown(function() db:close() end)

  for _, row in ipairs(types) do
    local type = row[1]
    it(type .. " comes out and goes in", function()
      for i = 2, #row do
        local literal, wanted = row[i][1], row[i][2]
        if wanted == nil then wanted = literal end
        local text = "select " .. quoted(literal) .. "::" .. type .. " as v"
        local conn = db:connect()
        for _ = 1, 3 do assert.same(wanted, conn:query_value(text)) end
        assert.same(wanted, conn:query_row(text).v)
        -- Back: the server finds what it had.
        local back = "select (?::" .. type .. ")::text = (" .. quoted(literal) .. "::" .. type
          .. ")::text"
        for run = 1, 3 do
          assert.is_true(conn:query_value(back, parameter(type, wanted)),
            literal .. " in run " .. run)
        end
        -- And what came in comes out.
        local through = "select ?::" .. type
        for _ = 1, 3 do
          assert.same(wanted, conn:query_value(through, parameter(type, wanted)))
        end
        conn:close()
      end
    end)

    it(type .. " may be NULL", function()
      local text = "select ?::" .. type
      for _ = 1, 3 do
        assert.is_nil(db:query_value(text, nil))
        assert.is_nil(db:query_value("select null::" .. type))
      end
    end)
  end
end)

describe("Values of PostgreSQL", function()
  local db

  before_each(function()
    db = moonbase.open(postgres.shared():fresh())
    db:exec "create type mood as enum ('sad', 'gr\195\188n')"
    db:exec_script [[
      create type pair as (a integer, b text);
      create domain positive as integer check (value > 0);
      create table item (id integer primary key, small smallint, n integer, big bigint,
        d double precision, amount numeric, t text, b bytea, o boolean, j jsonb, m mood,
        tags text[], at timestamptz)]]
  end)

  after_each(function() db:close() end)

  it("of enums, composites and domains come as what they are made of, or as text", function()
    assert.equal("gr\195\188n", db:query_value "select 'gr\195\188n'::mood")
    assert.equal("sad", db:query_value("select ?::mood", "sad"))
    assert.equal('(1,"a b")', db:query_value [[select row(1, 'a b')::pair]])
    assert.equal(7, db:query_value "select 7::positive")
    assert.equal("{sad,NULL}", db:query_value "select array['sad'::mood, null]")
    expect.raised("DataError", nil, db.query_value, db, "select ?::mood", "happy")
    expect.raised("ConstraintError", nil, db.query_value, db, "select ?::positive", -1)
  end)

  it("of a double keep NaN", function()
    for _ = 1, 3 do
      local nan = db:query_value("select ?::double precision", 0 / 0)
      assert.are_not.equal(nan, nan)
      nan = db:query_value "select 'NaN'::real"
      assert.are_not.equal(nan, nan)
    end
    local zero = -1 / math.huge -- Lua 5.1 takes -0.0 for another constant
    assert.equal(-math.huge, 1 / db:query_value("select ?::double precision", zero))
  end)

  it("with a place in a table have its type", function()
    local insert = [[insert into item values (:id, :small, :n, :big, :d, :amount, :t, :b, :o, :j,
      :m, :tags, :at)]]
    local given = { id = 1, small = 2, n = 3, big = 4, d = 5, amount = 6, t = "seven",
      b = moonbase.blob "\0\8", o = true, j = '{"a": 1}', m = "sad",
      tags = moonbase.array { "x", "y" }, at = moonbase.timestamp(1795254480.5) }
    for id = 1, 3 do
      given.id = id
      db:exec(insert, given)
      local row = db:query_row("select * from item where id = ?", id)
      assert.same({ id = id, small = 2, n = 3, big = 4, d = 5, amount = "6", t = "seven",
        b = "\0\8", o = true, j = '{"a": 1}', m = "sad", tags = { "x", "y" },
        at = "2026-11-21 09:48:00.5+00:00" }, row)
      if language.integers then
        assert.equal("float", math.type(row.d)) -- luacheck: ignore 143
        assert.equal("integer", math.type(row.big)) -- luacheck: ignore 143
      end
    end
  end)

  it("that are integers go where integers are wanted, and an exact float does", function()
    for _ = 1, 3 do
      db:exec "delete from item"
      db:exec("insert into item (id, n) values (?, ?)", 1, moonbase.float(7))
      assert.equal(7, db:query_value "select n from item")
      expect.raised("DataError", nil, db.exec, db, "insert into item (id, n) values (?, ?)", 2, 7.5)
      expect.raised("DataError", nil, db.exec, db, "insert into item (id, small) values (?, ?)", 3,
        32768)
      expect.raised("DataError", nil, db.exec, db, "insert into item (id, n) values (?, ?)", 4,
        2147483648)
    end
    assert.equal(1, db:query_value "select count(*) from item")
  end)

  it("that are texts mean the same in the first run and the tenth", function()
    local statements = { "select ?::text", "select ?", "insert into item (id, t) values (1, ?) "
      .. "on conflict (id) do update set t = excluded.t returning t" }
    for _, text in ipairs(statements) do
      for _, value in ipairs { "\\", "\\x41", "\\101", "a\\b", "'", "E'x'" } do
        for _ = 1, 4 do assert.equal(value, db:query_value(text, value)) end
      end
    end
    -- Where the statement declares bytes, a text is refused or is that text, never something
    -- else in one of the runs.
    local first
    for run = 1, 4 do
      local ok, value = pcall(db.query_value, db, "select ?::bytea", "\\x41")
      local outcome = tostring(ok) .. (ok and value or value.class)
      first = first or outcome
      assert.equal(first, outcome, "run " .. run)
    end
  end)

  it("that are bytes reach a text or a number as an error, never as something else", function()
    local first
    for run = 1, 4 do
      local ok, value = pcall(db.query_value, db, "select ?::text", moonbase.blob "\\x41")
      local outcome = tostring(ok) .. (ok and value or value.class)
      first = first or outcome
      assert.equal(first, outcome, "run " .. run)
    end
  end)

  it("can be decimals as numbers where that is asked for", function()
    local x = db:with{ decimal = "number" }
    assert.equal(1.5, x:query_value "select 1.50::numeric")
    assert.equal("1.50", db:query_value "select 1.50::numeric")
  end)

  it("go to the function of their type", function()
    local x = db:with{ types = { timestamptz = moonbase.epoch,
      jsonb = function(text) return "<" .. text .. ">" end, int4 = function(n) return n + 1 end } }
    assert.equal(1795254480.5, x:query_value("select ?::timestamptz",
      moonbase.timestamp(1795254480.5)))
    assert.equal("<[1]>", x:query_value "select '[1]'::jsonb")
    assert.equal(2, x:query_value "select 1")
  end)

  it("tell the names of their types", function()
    local columns = db:query "select id, big, d, amount, t, j, tags, at from item":columns()
    local names = {}
    for i, column in ipairs(columns) do names[i] = column.type end
    assert.same({ "int4", "int8", "float8", "numeric", "text", "jsonb", "text[]",
      "timestamptz" }, names)
  end)

  it("of 20 MB keep every byte", function()
    local bytes = ("\0\255\\'"):rep(5 * 2 ^ 20)
    for _ = 1, 2 do
      assert.is_true(db:query_value("select ?::bytea", moonbase.blob(bytes)) == bytes)
    end
  end)

  it("may be arrays of 100,000 elements", function()
    local list = {}
    for i = 1, 100000 do list[i] = i end
    assert.equal(5000050000, db:query_value("select sum(x)::bigint from unnest(?::integer[]) x",
      moonbase.array(list)))
    local back = db:query_value "select array_agg(i) from generate_series(1, 100000) i"
    assert.equal(100000, #back)
    assert.equal(100000, back[100000])
  end)

  it("of arrays that count from elsewhere are lists from 1", function()
    assert.same({ 1, 2 }, db:query_value "select '[5:6]={1,2}'::integer[]")
  end)

  it("choose the rows of a list with one text for every length", function()
    local sql = moonbase.sql
    db:exec "insert into item (id) select generate_series(1, 5)"
    for _, list in ipairs { { 1 }, { 2, 3 }, { 5, 6, 7 }, {} } do
      assert.equal(#list == 3 and 1 or #list, db:query_value(sql(
        "select count(*) from item where ?", sql.is_in("id", list))))
    end
  end)
end)
