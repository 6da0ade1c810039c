-- Types of MySQL and MariaDB: what the server has comes out in one form, in rows that come as
-- text and as binary values, and goes in again as the same.
local moonbase = require "moonbase"
local expect = require "spec.support.expect"
local language = require "spec.support.language"
local mysql = require "spec.support.mysql"

-- An integer beyond 2^53 as this Lua has it.
local function long(digits)
  if not language.integers then return digits end
  return math.tointeger(tonumber(digits)) or math.mininteger -- luacheck: ignore 143
end

local nines_35, digits_30 = ("9"):rep(35), ("1234567890"):rep(3)

-- Type; then values as SQL writes them, each with what is wanted of it (nil: the same, without
-- quotes).
local types = {
  { "tinyint", { "0", 0 }, { "-128", -128 }, { "127", 127 } },
  { "tinyint unsigned", { "128", 128 }, { "255", 255 } },
  { "smallint", { "-32768", -32768 }, { "32767", 32767 } },
  { "smallint unsigned", { "60000", 60000 }, { "65535", 65535 } },
  { "mediumint", { "-8388608", -8388608 }, { "8388607", 8388607 } },
  { "mediumint unsigned", { "16777215", 16777215 } },
  { "int", { "0", 0 }, { "-2147483648", -2147483648 }, { "2147483647", 2147483647 } },
  { "int unsigned", { "4000000000", 4000000000 }, { "4294967295", 4294967295 } },
  { "bigint", { "-1", -1 }, { "9007199254740992", 2 ^ 53 },
    { "9223372036854775807", long "9223372036854775807" },
    { "-9223372036854775808", long "-9223372036854775808" } },
  { "bigint unsigned", { "0", 0 }, { "9007199254740992", 2 ^ 53 },
    { "9223372036854775807", long "9223372036854775807" },
    { "9223372036854775808", "9223372036854775808" },
    { "18446744073709551615", "18446744073709551615" } },
  { "int(8) zerofill", { "42", 42 } },
  { "boolean", { "true", true }, { "false", false }, { "2", 2 }, { "-1", -1 } },
  { "bit(1)", { "b'1'", true }, { "b'0'", false } },
  { "bit(10)", { "b'1000000001'", 513 }, { "0", 0 } },
  { "bit(64)", { "255", 255 }, { "9007199254740992", 2 ^ 53 } },
  { "year", { "2026", 2026 }, { "1901", 1901 }, { "2155", 2155 }, { "0", 0 } },
  { "float", { "0", 0 }, { "1.5", 1.5 }, { "-3.4028234e38", -3.4028234663852886e38 } },
  { "double", { "0.1", 0.1 }, { "1.7976931348623157e308", 1.7976931348623157e308 },
    { "-2.2250738585072014e-308", -2.2250738585072014e-308 } },
  { "decimal(65, 30)", { "0", "0." .. ("0"):rep(30) }, { nines_35 .. "." .. digits_30 },
    { "-" .. nines_35 .. "." .. digits_30 } },
  { "decimal(10, 4)", { "1", "1.0000" }, { "-123456.7891" } },
  { "decimal(30)", { "12345678901234567890123", "12345678901234567890123" } },
  { "date", { "'2026-11-21'" }, { "'1000-01-01'" }, { "'9999-12-31'" }, { "'2000-02-29'" } },
  { "time", { "'00:00:00'" }, { "'-838:59:59'" }, { "'838:59:59'" }, { "'-00:00:01'" },
    { "'100:00:01'" } },
  { "time(6)", { "'09:48:00.5'" }, { "'-00:00:00.000001'" }, { "'838:59:58.999999'" },
    { "'-100:00:01.25'" } },
  { "datetime", { "'2026-11-21 09:48:00'" }, { "'1000-01-01 00:00:00'" },
    { "'9999-12-31 23:59:59'" } },
  { "datetime(6)", { "'2026-11-21 09:48:00.5'" }, { "'1999-12-31 23:59:59.999999'" },
    { "'2026-11-21 09:48:00'" } },
  { "timestamp(6)", { "'2026-11-21 09:48:00.5'" }, { "'1970-01-01 00:00:01'" },
    { "'2038-01-19 03:14:07.999999'" } },
  { "char(3)", { "''" }, { "'a'" }, { "'abc'" } },
  { "varchar(5)", { "''" }, { "'a    '" }, { "'\226\130\172uro!'" } },
  { "tinytext", { "''" }, { "'a'" } },
  { "text", { "''" }, { "'\226\130\172 \240\159\153\130'" } },
  { "mediumtext", { "'" .. ("x"):rep(100000) .. "'" } },
  { "longtext", { "'" .. ("\195\164"):rep(100000) .. "'" } },
  { "binary(3)", { "x'0001'", "\0\1\0" } },
  { "varbinary(5)", { "''" }, { "x'00ff00'", "\0\255\0" } },
  { "tinyblob", { "x'00ff'", "\0\255" } },
  { "blob", { "''" }, { "x'5c27'", "\\'" } },
  { "mediumblob", { "repeat(x'00', 100000)", ("\0"):rep(100000) } },
  { "longblob", { "repeat(x'fffe', 100000)", ("\255\254"):rep(100000) } },
  { "enum('a', 'gr\195\188n')", { "'gr\195\188n'" } },
  { "set('a', 'b', 'c')", { "''" }, { "'a,c'" } },
  { "json", { "'{\"a\": [1, null]}'" }, { "'[]'" }, { "'7'" }, { "'null'" } },
}

local bytes = { binary = true, varbinary = true, tinyblob = true, blob = true, mediumblob = true,
  longblob = true }

-- What came out as it can go in.
local function parameter(type, value)
  return bytes[type:match "^%a+"] and moonbase.blob(value) or value
end

describe("MySQL's", function()
  local server, db

  setup(function()
    server = mysql.shared()
    db = moonbase.open(server:fresh())
  end)
  teardown(function() db:close() end)

  for _, row in ipairs(types) do
    local type = row[1]
    it(type .. " comes out and goes in", function()
      db:exec "drop table if exists v"
      db:exec("create table v (id integer primary key, v " .. type .. " null)")
      local conn = db:connect()
      for i = 2, #row do
        local literal, wanted = row[i][1], row[i][2]
        if wanted == nil then wanted = literal:match "^'(.*)'$" or literal end
        local short = literal:sub(1, 40)
        conn:exec "delete from v"
        conn:exec("insert into v values (1, " .. literal .. ")")
        local texts = { "select v from v where id = 1", "select v from v where id = ?" }
        for run = 1, 3 do
          assert.same(wanted, conn:query_value(texts[1]), short .. " in run " .. run)
          assert.same(wanted, conn:query_value(texts[2], 1), short .. " in run " .. run)
        end
        assert.same(wanted, conn:query_row(texts[1]).v)
        local statement = conn:prepare(texts[1])
        assert.same(wanted, statement:query_value())
        statement:close()
        -- Back: the server finds what it had.
        for id = 2, 4 do
          conn:exec("insert into v values (?, ?)", id, parameter(type, wanted))
          assert.equal(1, conn:query_value("select a.v <=> b.v from v a, v b where a.id = 1 "
            .. "and b.id = ?", id), short)
          assert.same(wanted, conn:query_value(texts[2], id))
        end
      end
      conn:close()
    end)

    it(type .. " may be NULL", function()
      db:exec "drop table if exists v"
      db:exec("create table v (v " .. type .. " null)")
      for run = 1, 3 do
        db:exec("insert into v values (?)", nil)
        assert.same({}, db:query_row "select v from v")
        assert.equal(run, db:query_value "select count(*) from v where v is null")
      end
    end)
  end
end)

describe("Values of MySQL", function()
  local server, db

  before_each(function()
    server = mysql.shared()
    db = moonbase.open(server:fresh())
    db:exec [[create table item (id integer primary key, tiny tinyint, n integer,
      big bigint unsigned, d double, amount decimal(10, 2), t varchar(3), b varbinary(3),
      at datetime(6), stamp timestamp(6) null)]]
  end)

  after_each(function() db:close() end)

  it("of a geometry come as bytes, and go in as such", function()
    db:exec "create table place (id integer, at point)"
    db:exec "insert into place values (1, point(1, 2.5))"
    local point = db:query_value "select at from place"
    assert.equal(25, #point)
    assert.equal("\0\0\0\0\1\1\0\0\0", point:sub(1, 9))
    db:exec("insert into place values (2, ?)", moonbase.blob(point))
    assert.equal("POINT(1 2.5)", db:query_value "select st_astext(at) from place where id = 2")
  end)

  it("that only MariaDB has come as it writes them", function()
    if not server.is_mariadb then return end
    db:exec "create table own (u uuid, a inet6)"
    db:exec("insert into own values (?, ?)", "6f9619ff-8b86-d011-b42d-00cf4fc964ff", "::1")
    for _ = 1, 3 do
      assert.same({ u = "6f9619ff-8b86-d011-b42d-00cf4fc964ff", a = "::1" },
        db:query_row "select u, a from own")
    end
    local columns = db:query "select u, a from own":columns()
    assert.equal("uuid", columns[1].type)
    assert.equal("inet6", columns[2].type)
  end)

  it("of all 64 bits that are set come as digits", function()
    db:exec "create table wide (bits bit(64))"
    db:exec("insert into wide values (b'" .. ("1"):rep(64) .. "')")
    for _ = 1, 3 do
      assert.equal("18446744073709551615", db:query_value "select bits from wide")
    end
  end)

  describe("that are no dates", function()
    local none = { "0000-00-00", "2026-00-10", "2026-11-00" }

    -- Whether they are taken as values, by each way in.
    local function takes(x, list)
      x:exec "create table none (id integer primary key, d date, t datetime(3))"
      for i, day in ipairs(list) do
        x:exec(("insert into none values (%d, '%s', '%s 10:11:12.5')"):format(3 * i, day, day))
        x:exec("insert into none values (?, ?, ?)", 3 * i + 1, day, day .. " 10:11:12.5")
        assert.equal(1, x:bulk_insert("none", { "id", "d", "t" },
          { { 3 * i + 2, day, day .. " 10:11:12.5" } }))
      end
    end

    -- What comes out of it, as text and as binary values, and by a cursor where the mode takes
    -- them: for others MySQL gives its cursors 0000-00-00.
    local function gives(x, list, is_lax)
      for i, day in ipairs(list) do
        for _, y in ipairs { x, x, is_lax and x:with{ fetch_size = 1 } or nil } do
          for _, rows in ipairs { y:query("select d, t from none where id div 3 = " .. i),
            y:query("select d, t from none where id div 3 = ?", i) } do
            local n = 0
            for row in rows do
              assert.same({ d = day, t = day .. " 10:11:12.5" }, row)
              n = n + 1
            end
            assert.equal(3, n)
          end
        end
        assert.equal(3, x:query_value("select count(*) from none where d = ?", day))
      end
    end

    it("come as they are, whatever the mode of the session", function()
      local lax = moonbase.open(server:url(), { sql_mode = "STRICT_ALL_TABLES" })
      takes(lax, none)
      gives(lax, none, true)
      gives(db, none)
      lax:exec "create table stamp (s timestamp null)"
      lax:exec("insert into stamp values (?)", "0000-00-00 00:00:00")
      assert.equal("0000-00-00 00:00:00", db:query_value "select s from stamp")
      -- They are no moments.
      local x = db:with{ types = { date = moonbase.epoch } }
      expect.raised("DataError", "no date", x.query_value, x, "select min(d) from none")
      lax:close()
    end)

    it("are taken by default where the server takes them, else DataErrors", function()
      local ok, err = pcall(takes, db, none)
      if server:sql "select @@global.sql_mode":find "NO_ZERO_DATE" then
        assert.is_false(ok)
        assert.equal("DataError", err.class)
        assert.equal(1292, err.native_code)
      else
        assert.is_true(ok, tostring(err))
        gives(db, none, true)
      end
    end)

    it("are DataErrors where the mode that was asked for says so", function()
      local strict = moonbase.open(server:url(),
        { sql_mode = "STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE" })
      strict:exec "create table strict (d date)"
      for _, day in ipairs(none) do
        local err = expect.raised("DataError", nil, strict.exec, strict,
          "insert into strict values (?)", day)
        assert.equal(1292, err.native_code)
      end
      assert.equal(0, strict:query_value "select count(*) from strict")
      strict:close()
    end)

    it("may be days that no month has, in the mode for them", function()
      expect.raised("DataError", nil, db.exec, db, "insert into item (id, at) values (1, ?)",
        "2026-02-30")
      local lax = moonbase.open(server:url(),
        { sql_mode = "STRICT_ALL_TABLES,ALLOW_INVALID_DATES" })
      takes(lax, { "2026-02-30" })
      gives(lax, { "2026-02-30" }, true)
      lax:close()
    end)
  end)

  it("outside of what a column can have are DataErrors, and nothing is cut", function()
    local function refused(column, value)
      local err = expect.raised("DataError", nil, db.exec, db,
        "insert into item (id, " .. column .. ") values (1, ?)", value)
      assert.equal("number", type(err.native_code))
    end
    refused("tiny", 128)
    refused("tiny", -129)
    refused("n", 2 ^ 31)
    refused("big", -1)
    refused("amount", moonbase.decimal "100000000.00")
    refused("t", "four")
    refused("b", moonbase.blob "four")
    refused("n", "x")
    refused("n", "7x")
    refused("at", "2026-02-30 00:00:00")
    refused("at", "yesterday")
    assert.equal(0, db:query_value "select count(*) from item")
  end)

  it("that are integers beyond 2^53 go in and come out", function()
    db:exec("insert into item (id, big) values (1, ?), (2, ?)", "18446744073709551615",
      long "9007199254740993")
    assert.equal("18446744073709551615", db:query_value "select big from item where id = 1")
    assert.equal(1, db:query_value("select count(*) from item where big = ?",
      "18446744073709551615"))
    assert.equal(long "9007199254740993", db:query_value "select big from item where id = 2")
    assert.equal(long "9007199254740993", db:query_value("select ?", long "9007199254740993"))
    assert.equal(3000000000, db:query_value("select ?", 3000000000))
  end)

  it("that are doubles stay doubles", function()
    db:exec("insert into item (id, d) values (1, ?)", 7)
    local d = db:query_value "select d from item"
    assert.equal(7, d)
    if language.integers then assert.equal("float", math.type(d)) end -- luacheck: ignore 143
    assert.equal(0.1, db:query_value("select ?", 0.1))
  end)

  it("that no column can have are refused before anything is sent", function()
    for _, value in ipairs { math.huge, -math.huge, 0 / 0 } do
      expect.raised("DataError", nil, db.exec, db, "insert into item (id, d) values (1, ?)", value)
    end
    assert.equal(0, db:query_value "select count(*) from item")
  end)

  it("are not taken for numbers because a run before had numbers in their place", function()
    local conn = db:connect()
    conn:exec "create table mixed (id integer primary key, t longtext, d decimal(30, 2))"
    local digits, amount = "18446744073709551615", "12345678901234567890.12"
    for id, number in ipairs { 5, 1.5, true, false } do
      conn:exec("insert into mixed values (?, ?, ?)", 10 * id, number, number)
      conn:exec("insert into mixed values (?, ?, ?)", 10 * id + 1, "007",
        moonbase.decimal(amount))
      conn:exec("insert into mixed values (?, ?, ?)", 10 * id + 2, number, nil)
      conn:exec("insert into mixed values (?, ?, ?)", 10 * id + 3, digits, amount)
      assert.same({ "007", digits },
        conn:query_column("select t from mixed where id % 10 in (1, 3) and id > ? order by id",
          10 * id))
      assert.same({ amount, amount }, conn:query_column(
        "select d from mixed where id % 10 in (1, 3) and id > ? order by id", 10 * id))
    end
    conn:bulk_insert("mixed", { "id", "t" },
      { { 90, 1 }, { 91, "01" }, { 92, 1.5 }, { 93, "001" } })
    conn:bulk_insert("mixed", { "id", "t" },
      { { 94, "02" }, { 95, 2 }, { 96, "002" }, { 97, "2" } })
    assert.same({ "1", "01", "1.5", "001", "02", "2", "002", "2" },
      conn:query_column "select t from mixed where id >= 90 order by id")
    conn:close()
  end)

  it("are text or bytes by their character set", function()
    db:exec_script [[
      create table latin (t varchar(10) character set latin1, b varchar(10) character set binary,
        u text character set utf8mb4, l longtext character set utf16)]]
    db:exec("insert into latin values (?, ?, ?, ?)", "gr\195\188n", moonbase.blob "gr\252n",
      "\240\159\153\130", "\226\130\172")
    for _ = 1, 3 do
      assert.same({ t = "gr\195\188n", b = "gr\252n", u = "\240\159\153\130", l = "\226\130\172" },
        db:query_row "select * from latin")
    end
    local names = {}
    for i, column in ipairs(db:query "select * from latin":columns()) do
      names[i] = column.type
    end
    assert.is_nil(names[1]:find "b[il][no][ab]", names[1])
    assert.is_truthy(names[2]:find "b[il][no]", names[2])
    expect.raised("DataError", nil, db.exec, db, "insert into latin (t) values (?)",
      "\240\159\153\130")
    expect.raised("DataError", nil, db.exec, db, "insert into latin (u) values (?)", "\255")
  end)

  it("go to the function of their type", function()
    local x = db:with{ types = { datetime = moonbase.epoch, decimal = tonumber } }
    db:exec "insert into item (id, at, amount) values (1, '2026-11-21 09:48:00.5', 1.50)"
    assert.equal(1795254480.5, x:query_value "select at from item")
    assert.equal(1.5, x:query_value "select amount from item")
    assert.equal(1.5, db:with{ decimal = "number" }:query_value "select amount from item")
    assert.equal("1.50", db:query_value "select amount from item")
    assert.equal(1, db:with{ booleans = false }:query_value "select cast(true as signed)")
  end)

  it("of JSON are decoded where that is asked for", function()
    local json = { encode = function() return '{"n":5}' end,
      decode = function(text) return "<" .. text .. ">" end }
    local x = moonbase.open(server:url(), { json = json })
    x:exec "create table doc (id integer, j json, t text)"
    x:exec("insert into doc values (1, ?, ?)", moonbase.json {}, '{"n":5}')
    for _ = 1, 3 do
      local row = x:query_row "select j, t from doc"
      assert.match("^<{\"n\": ?5}>$", row.j)
      assert.equal('{"n":5}', row.t)
    end
    x:close()
  end)

  it("of time with a zone are of the session's", function()
    local insert = "insert into item (id, at, stamp) values (?, ?, ?)"
    local given = "2026-11-21 09:48:00.5+00:00"
    db:exec(insert, 1, given, given)
    db:exec(insert, 2, moonbase.timestamp(1795254480.5), moonbase.timestamp(1795254480.5))
    for id = 1, 2 do
      assert.same({ at = "2026-11-21 09:48:00.5", stamp = "2026-11-21 09:48:00.5" },
        db:query_row("select at, stamp from item where id = ?", id))
    end
    for zone, hour in pairs { ["+02:30"] = "12:18", ["-01:00"] = "08:48" } do
      local there = moonbase.open(server:url(), { time_zone = zone })
      there:exec(insert, hour == "12:18" and 3 or 4, given, given)
      local clock = "2026-11-21 " .. hour .. ":00.5"
      local id = hour == "12:18" and 3 or 4
      assert.same({ at = clock, stamp = clock },
        there:query_row("select at, stamp from item where id = ?", id))
      assert.equal("2026-11-21 09:48:00.5",
        db:query_value("select stamp from item where id = ?", id))
      there:close()
    end
  end)

  it("tell the names of their types", function()
    db:exec [[create table named (a integer, b bigint unsigned, c decimal(5, 2), d double,
      e varchar(10), f text, g varbinary(10), h blob, i date, j datetime(3), k timestamp null,
      l time, m year, n json, o boolean)]]
    local names = {}
    for i, column in ipairs(db:query "select * from named":columns()) do names[i] = column.type end
    assert.same({ "int", "bigint unsigned", "decimal", "double", "varchar", "text",
      "varbinary", "blob", "date", "datetime", "timestamp", "time", "year", "json", "tinyint" },
      names)
  end)

  for _, size in ipairs { 255, 256, 65535, 65536, 16777215, 16777216, 40000000 } do
    it("of " .. size .. " bytes are fetched whole", function()
      db:exec "create table long_one (id integer primary key, b longblob, t longtext, tail text)"
      local whole = ("\0\255\\'x"):rep(math.ceil(size / 5)):sub(1, size)
      db:exec("insert into long_one values (1, ?, 'short', 'behind')", moonbase.blob(whole))
      db:exec "insert into long_one values (2, 'x', 'y', 'z')"
      for _ = 1, 2 do
        local rows = db:query "select * from long_one order by id"
        local row = rows:next()
        assert.is_true(row.b == whole)
        assert.equal("short", row.t)
        assert.equal("behind", row.tail)
        row = rows:next()
        assert.same({ id = 2, b = "x", t = "y", tail = "z" }, row)
        rows:close()
      end
      assert.equal(size, db:query_value "select length(b) from long_one where id = 1")
    end)
  end

  it("may be 1,000 columns of one row", function()
    local names = {}
    for i = 1, 1000 do
      names[i] = ("%d as c%d, 'text %d' as t%d"):format(i, i, i, i)
    end
    local row = db:query_row("select " .. table.concat(names, ", "))
    for i = 1, 1000 do
      assert.equal(i, row["c" .. i])
      assert.equal("text " .. i, row["t" .. i])
    end
  end)
end)

describe("What MySQL would change in silence", function()
  local server

  before_each(function() server = mysql.shared() end)

  local function warnings(conn)
    return require "moonbase.mysql".warnings(conn)
  end

  it("is an error in the mode that sessions have", function()
    server:sql "set global sql_mode = ''"
    local ok, err = pcall(function()
      local db = moonbase.open(server:fresh())
      assert.match("STRICT_TRANS_TABLES", db:query_value "select @@sql_mode")
      db:exec "create table item (t varchar(3), n integer not null)"
      expect.raised("DataError", nil, db.exec, db, "insert into item values ('four', 1)")
      expect.raised("ConstraintError", nil, db.exec, db, "insert into item (t) values ('a')")
      db:close()
    end)
    server:sql "set global sql_mode = default"
    if not ok then error(err, 0) end
  end)

  it("is among the warnings of a connection, where the mode is another one", function()
    local db = moonbase.open(server:fresh(), { sql_mode = "" })
    assert.equal("", db:query_value "select @@sql_mode")
    db:exec "create table item (t varchar(3))"
    local conn = db:connect()
    for _ = 1, 2 do
      conn:exec("insert into item values (?)", "four")
      local list = warnings(conn)
      assert.equal(1, #list)
      assert.equal(1265, list[1].code)
      assert.match("truncated", list[1].message)
      assert.equal("warning", list[1].level:lower())
    end
    conn:exec("insert into item values (?)", "abc")
    assert.same({}, warnings(conn))
    conn:close()
    db:close()
  end)

  it("tells warnings of a read too, and none when there are none", function()
    local db = moonbase.open(server:fresh())
    local conn = db:connect()
    -- A value of a function may not be larger than max_allowed_packet either.
    assert.is_nil(conn:query_value("select repeat('x', ?)", 300000000))
    assert.equal(1301, warnings(conn)[1].code)
    assert.equal(7, conn:query_value "select cast('7x' as signed)")
    assert.equal(1292, warnings(conn)[1].code)
    conn:exec "create table item (i integer)"
    conn:query_value "select count(*) from item"
    assert.same({}, warnings(conn))
    conn:close()
    db:close()
  end)
end)
