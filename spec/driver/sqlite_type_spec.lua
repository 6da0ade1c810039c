-- Types of SQLite: storage classes, affinities, and what declared types make of values.
local moonbase = require "moonbase"
local expect = require "spec.support.expect"
local language = require "spec.support.language"

local infinity = math.huge

describe("A value in SQLite", function()
  local db

  before_each(function() db = moonbase.open "sqlite::memory:" end)
  after_each(function() db:close() end)

  it("is of the storage class that its type in Lua asks for", function()
    for class, value in pairs { integer = 7, real = 7.5, text = "7", blob = moonbase.blob "7",
      null = moonbase.null } do
      assert.equal(class, db:query_value("select typeof(?)", value))
    end
    assert.equal("null", db:query_value("select typeof(?)", nil))
    assert.equal("integer", db:query_value("select typeof(?)", true))
    assert.equal("real", db:query_value("select typeof(?)", moonbase.float(7)))
    assert.equal("text", db:query_value("select typeof(?)", moonbase.decimal "7.50"))
    assert.equal("text", db:query_value("select typeof(?)", moonbase.timestamp(0)))
    assert.equal("text", db:query_value("select typeof(?)",
      moonbase.uuid "6f9619ff-8b86-d011-b42d-00cf4fc964ff"))
    assert.equal("7.50", db:query_value("select ?", moonbase.decimal "7.50"))
  end)

  it("may be of any class in one column, row by row", function()
    db:exec "create table t (x)"
    local values = { 1, 2.5, "three", moonbase.blob "\0four", moonbase.null, "", 6 }
    db:bulk_insert("t", { "x" }, (function()
      local rows = {}
      for i, value in ipairs(values) do rows[i] = { value } end
      return rows
    end)())
    assert.same({ "integer", "real", "text", "blob", "null", "text", "integer" },
      db:query_column "select typeof(x) from t")
    assert.same({ 1, 2.5, "three", "\0four", moonbase.null, "", 6 },
      db:query_column "select x from t")
    local seen = {}
    for n, value in db:query "select x from t":tuples() do seen[n] = value end
    assert.same({ 1, 2.5, "three", "\0four", nil, "", 6 }, seen)
  end)

  it("follows the affinity of its column", function()
    db:exec "create table t (i integer, r real, t text, n numeric, d decimal(10, 2), b blob)"
    db:exec("insert into t values (?, ?, ?, ?, ?, ?)", "12", 3, 4, "5.0", "6.50", "7")
    local row = db:query_row "select * from t"
    assert.same({ i = 12, r = 3, t = "4", n = 5, d = 6.5, b = "7" }, row)
    assert.same({ "integer", "real", "text", "integer", "real", "text" }, { db:query_values(
      "select typeof(i), typeof(r), typeof(t), typeof(n), typeof(d), typeof(b) from t") })
    if language.integers then
      assert.equal("float", math.type(row.r)) -- luacheck: ignore 143
      assert.equal("integer", math.type(row.n)) -- luacheck: ignore 143
    end
  end)

  it("may be an integer from -2^63 to 2^63 - 1", function()
    for _, digits in ipairs { "9223372036854775807", "-9223372036854775808",
      "9007199254740993", "-9007199254740993" } do
      local got = db:query_value("select " .. digits)
      assert.equal(digits, ("%s"):format(got))
      assert.equal(1, db:query_value("select " .. digits .. " = cast(? as integer)", got))
    end
    assert.equal("real", db:query_value "select typeof(9223372036854775808)")
    assert.equal("real", db:query_value "select typeof(9223372036854775807 + 1)")
    expect.raised("EngineError", "integer overflow", db.query, db,
      "select sum(x) from (select 9223372036854775807 as x union all select 1)")
    expect.raised("EngineError", "integer overflow", db.query, db,
      "select abs(-9223372036854775808)")
  end)

  if not language.integers then
    it("that this Lua cannot hold exactly is a string of digits, or an error", function()
      assert.equal("9007199254740993", db:query_value "select 9007199254740993")
      assert.equal(9007199254740992, db:query_value "select 9007199254740992")
      local strict = db:with { int64 = "error" }
      for _, name in ipairs { "query_value", "query_row", "query_all", "query_column",
        "query_values" } do
        expect.raised("DataError", "cannot hold exactly", strict[name], strict,
          "select 9007199254740993 as n")
      end
      assert.equal(1, strict:query_value "select 1")
      -- A column of integers takes the digits back as the number that they are.
      db:exec "create table t (id integer primary key)"
      db:exec("insert into t values (?)", "9007199254740993")
      assert.equal("integer", db:query_value "select typeof(id) from t")
      assert.equal("9007199254740993",
        db:query_value("select id from t where id = ?", "9007199254740993"))
      local _, id = db:exec "insert into t values (null)"
      assert.equal("9007199254740994", id)
    end)
  else
    it("keeps its subtype as a float or an integer", function()
      for _, value in ipairs { 1, 1.0, -0.0, 2 ^ 62, math.maxinteger } do -- luacheck: ignore 143
        local got = db:query_value("select ?", value)
        assert.equal(value, got)
        assert.equal(math.type(value), math.type(got)) -- luacheck: ignore 143
      end
    end)
  end

  it("may be infinite, and is never NaN", function()
    for _, value in ipairs { infinity, -infinity } do
      assert.equal(value, db:query_value("select ?", value))
      assert.equal(value, db:query_value("select ? + 1", value))
    end
    local err = expect.raised("DataError", "parameter 2 is not a number", db.query, db,
      "select ?, ?", 1, 0 / 0)
    assert.is_nil(err.code)
    expect.raised("DataError", "NaN", db.query, db, "select ?", moonbase.float(0 / 0))
    -- What SQLite computes without a result is NULL.
    assert.is_nil(db:query_value("select ? - ?", infinity, infinity))
  end)

  it("may be a text with zero bytes, which is kept whole", function()
    for _, text in ipairs { "\0", "a\0b", "\0\0\0", ("x\0"):rep(1000) } do
      assert.equal(text, db:query_value("select ?", text))
      db:exec "create table if not exists t (x text)"
      db:exec("insert into t values (?)", text)
      assert.equal(1, db:query_value("select count(*) from t where x = ?", text))
      assert.equal(#text, db:query_value "select length(cast(x as blob)) from t")
      db:exec "delete from t"
    end
  end)

  it("may be a text that is no UTF-8, which is kept byte by byte", function()
    for _, text in ipairs { "\255", "\195", "a\237\160\128b", "\240\144", "\192\128" } do
      assert.equal(text, db:query_value("select ?", text))
      assert.equal(text, db:query_value("select x from (select ? as x)", text))
    end
  end)

  it("comes as UTF-8 also from a database that keeps UTF-16", function()
    for _, encoding in ipairs { "UTF-16le", "UTF-16be" } do
      local wide = moonbase.open("sqlite::memory:", { pragma = "encoding = '" .. encoding .. "'",
        functions = { twice = function(s) return s .. s end },
        collations = { by_bytes = function(a, b) return a < b and -1 or a > b and 1 or 0 end } })
      assert.equal(encoding, wide:query_value "pragma encoding")
      wide:exec "create table t (x text collate by_bytes, y text)"
      for _, text in ipairs { "", "a", "\195\164\226\130\172\240\159\153\130", ("x"):rep(5000) } do
        assert.equal(text, wide:query_value("select ?", text))
        wide:exec("insert into t values (?, ?)", text, text)
        assert.equal(text, wide:query_value("select y from t where x = ?", text))
        assert.equal(text .. text, wide:query_value("select twice(y) from t where x = ?", text))
      end
      wide:close()
    end
  end)

  it("may be a blob, empty or of megabytes", function()
    for _, size in ipairs { 0, 1, 4096, 1048577, 5000000 } do
      local bytes = ("\0\255x"):rep(math.floor(size / 3)) .. ("y"):rep(size % 3)
      local got, class, length = db:query_values("select $1, typeof($1), length($1)",
        moonbase.blob(bytes))
      assert.is_true(got == bytes)
      assert.equal("blob", class)
      assert.equal(size, length)
    end
    assert.equal("", db:query_value "select zeroblob(0)")
    assert.equal(("\0"):rep(100), db:query_value "select zeroblob(100)")
  end)

  it("of a column declared as boolean is true or false for 1 and 0 only", function()
    for _, declared in ipairs { "boolean", "BOOLEAN", "bool", "Bool" } do
      db:exec("create table t (x " .. declared .. ", y)")
      db:exec "insert into t values (1, 1), (0, 0), (2, 2), ('a', 'a'), (1.0, 1), (null, null)"
      assert.same({ true, false, 2, "a", true, moonbase.null }, db:query_column "select x from t")
      assert.same({ 1, 0, 2, "a", 1, moonbase.null }, db:query_column "select y from t")
      assert.same({ 1, 0, 2 },
        db:with { booleans = false }:query_column "select x from t limit 3")
      -- An expression has no declared type.
      assert.equal(1, db:query_value "select x + 0 from t limit 1")
      assert.is_true(db:query_value "select max(x) from t where x < 2" == 1)
      db:exec "drop table t"
    end
  end)

  it("has its declared type among the columns, in small letters and without a length", function()
    db:exec [[create table t (id INTEGER PRIMARY KEY, name VARCHAR(20) not null,
      price DECIMAL (10, 2), at TimeStamp, anything)]]
    local rows = db:query "select *, 1 + 1 as two, name as alias from t"
    local columns = rows:columns()
    rows:close()
    local types = {}
    for i, column in ipairs(columns) do types[i] = column.type or "none" end
    assert.same({ "integer", "varchar", "decimal", "timestamp", "none", "none", "varchar" }, types)
    assert.same({ name = "name", type = "varchar", nullable = false, table = "t" }, columns[2])
    assert.same({ name = "two" }, columns[6])
    assert.same({ name = "alias", type = "varchar", nullable = false, table = "t" }, columns[7])
    assert.is_true(columns[5].nullable)
  end)

  it("is converted by its declared type where types says so", function()
    db:exec "create table t (day date, moment timestamp, amount decimal(5, 2), data json)"
    db:exec("insert into t values (?, ?, ?, ?)", "2026-11-21", moonbase.timestamp(1795254480),
      "1.50", "[1]")
    local x = db:with {
      types = {
        date = function(text) return text:sub(1, 4) end,
        timestamp = moonbase.epoch,
        decimal = function(value) return "<" .. value .. ">" end,
      },
      json = function(text) return { text } end,
    }
    assert.same({ day = "2026", moment = 1795254480, amount = "<1.5>", data = { "[1]" } },
      x:query_row "select * from t")
    -- SQLite's own functions read what was written.
    assert.equal("2026-11-21 09:48:00", db:query_value "select datetime(moment) from t")
    assert.equal("2026", db:query_value "select strftime('%Y', day) from t")
  end)

  it("of a STRICT table is of its column's type, or refused", function()
    db:exec "create table t (i integer, r real, t text, b blob, a any) strict"
    db:exec("insert into t values (?, ?, ?, ?, ?)", 1, 2, "3", moonbase.blob "4", "5")
    assert.same({ "integer", "real", "text", "blob", "text" }, { db:query_values(
      "select typeof(i), typeof(r), typeof(t), typeof(b), typeof(a) from t") })
    for column, value in pairs { i = "x", r = "x", t = moonbase.blob "x", b = "x" } do
      local err = expect.raised("ConstraintError", "cannot store", db.exec, db,
        ("insert into t (%s) values (?)"):format(column), value)
      assert.equal("SQLITE_CONSTRAINT_DATATYPE", err.code)
    end
  end)

  it("that SQLite has no type for is refused by name", function()
    expect.raised("UnsupportedError", "parameter 1 is an array", db.query, db, "select ?",
      moonbase.array { 1, 2 })
    assert.equal(1, db:query_value "select 1")
  end)

  if language.cdata then
    it("above 2^63 - 1 does not fit, and never wraps", function()
      local ffi = require "ffi"
      expect.raised("DataError", "above 2^63 - 1", db.query, db, "select ?",
        ffi.new("uint64_t", -1))
      assert.equal(5, db:query_value("select ?", ffi.new("uint64_t", 5)))
    end)
  end

  it("of an id that was generated is exact", function()
    db:exec "create table t (id integer primary key, x)"
    db:exec "insert into t values (9223372036854775806, 1)"
    local affected, id = db:exec "insert into t (x) values (2)"
    assert.equal(1, affected)
    assert.equal("9223372036854775807", ("%s"):format(id))
    local err = expect.raised("ResourceError", "full", function()
      db:exec "create table a (id integer primary key autoincrement)"
      db:exec "insert into a values (9223372036854775807)"
      db:exec "insert into a values (null)"
    end)
    assert.equal("SQLITE_FULL", err.code)
  end)

  it("of an id comes after an INSERT that has made one, and not otherwise", function()
    db:exec_script [[
      create table t (id integer primary key, x unique);
      create table w (k primary key) without rowid;
      create table log (n integer primary key);
      create view v as select x from t;
      create trigger logged after insert on t begin insert into log values (100 + new.id); end;
      create trigger through instead of insert on v begin insert into t (x) values (new.x); end;
    ]]
    local function count(...) return select("#", ...), ... end
    assert.same({ 2, 1, 1 }, { count(db:exec "insert into t (x) values ('a')") })
    assert.same({ 1, 1 }, { count(db:exec "insert into w values (5)") })
    assert.same({ 1, 0 }, { count(db:exec "insert or ignore into t (x) values ('a')") })
    assert.same({ 1, 1 }, { count(db:exec "update t set x = 'b'") })
    assert.same({ 1, 1 }, { count(db:exec [[insert into t (x) values ('b')
      on conflict (x) do update set x = 'c']]) })
    assert.same({ 2, 1, 2 }, { count(db:exec [[insert into t (x) values ('d')
      on conflict (x) do update set x = 'e']]) })
    assert.same({ 1, 0 }, { count(db:exec "create table later (i)") })
    assert.same({ 2, 1, 3 }, { count(db:exec "replace into t (x) values ('d')") })
    assert.equal(1, (select("#", db:exec "insert into v values ('z')")))
    local ids = {}
    for row in db:query "insert into t (x) values ('p'), ('q') returning id" do
      ids[#ids + 1] = row.id
    end
    assert.equal(2, #ids)
    assert.equal(ids[1] + 1, ids[2])
  end)
end)
