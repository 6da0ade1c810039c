-- Input of a size or a kind that SQLite does not take, or just takes.
local moonbase = require "moonbase"
local child = require "spec.support.child"
local expect = require "spec.support.expect"
local files = require "spec.support.files"

local megabyte = 1048576

describe("SQLite", function()
  local db

  before_each(function() db = moonbase.open "sqlite::memory:" end)
  after_each(function()
    db:close()
    files.clean()
  end)

  it("takes a statement of 10 MB", function()
    local text = "select '" .. ("x"):rep(10 * megabyte) .. "' as x"
    assert.equal(10 * megabyte, #db:query_value(text))
    assert.equal(1, db:query_value("select 1 /*" .. ("-"):rep(10 * megabyte) .. "*/"))
    assert.equal(2, db:query_value((" "):rep(10 * megabyte) .. "select 2"))
    local placeholders = "select ? " .. ("+ 0 "):rep(900)
    assert.equal(5, db:query_value(placeholders, 5))
  end)

  it("refuses a statement that is longer than its limit", function()
    db:exec "create table t (x)"
    local values = {}
    for i = 1, 300000 do values[i] = "(" .. i .. ")" end
    assert.equal(300000, (db:exec("insert into t values " .. table.concat(values, ","))))
    -- Too deep, too many: SQLite's own limits, at prepare.
    expect.raised("SyntaxError", "too large", db.query, db, "select " .. ("1+"):rep(2000) .. "1")
    expect.raised("SyntaxError", nil, db.query, db, "select " .. ("("):rep(5000) .. "1"
      .. (")"):rep(5000))
    local columns = {}
    for i = 1, 2001 do columns[i] = "c" .. i end
    expect.raised("SyntaxError", "too many columns", db.exec, db,
      "create table wide (" .. table.concat(columns, ", ") .. ")")
    expect.raised("SyntaxError", "too many terms", db.query, db,
      ("select 1 union all "):rep(501) .. "select 1")
    assert.equal(300000, db:query_value "select count(*) from t")
  end)

  it("refuses more parameters than its limit, by the hundred thousand", function()
    local most = db:capability().max_parameters
    local function run(n)
      local list, text = {}, ("?, "):rep(n):sub(1, -3)
      for i = 1, n do list[i] = i end
      return db:query_value("select count(*) from (select 1 where 0 in (" .. text .. "))",
        moonbase.params(list, n))
    end
    assert.equal(0, run(30000))
    assert.equal(0, run(most))
    local err = expect.raised("SyntaxError", "too many SQL variables", run,
      math.max(300000, most + 1))
    assert.equal("SQLITE_ERROR", err.code)
    assert.equal(1, db:query_value "select 1")
  end)

  it("takes thousands of names and numbers, each as often as it likes", function()
    local n, names, numbers, values, list = 3000, {}, {}, {}, {}
    for i = 1, n do
      names[i], numbers[i] = ":p" .. i, "$" .. i
      values["p" .. i], list[i] = i, i
    end
    local text = "select sum(column1), count(*) from (values (%s)) where column1 <> %s"
    for style, parameters in pairs { [":p7"] = values, ["$7"] = moonbase.params(list, n) } do
      local places = table.concat(style == "$7" and numbers or names, "), (")
      assert.same({ n * (n + 1) / 2 - 7, n - 1 },
        { db:query_values(text:format(places, style), parameters) })
    end
    local err = expect.raised("SyntaxError", "no such column: missing", db.prepare, db,
      text:format(table.concat(names, "), ("), "missing"))
    assert.equal("missing", err.sql:sub(err.position, err.position + 6))
  end)

  it("refuses a value that is longer than its limit", function()
    for _, text in ipairs { "select zeroblob(2000000000)", "select hex(zeroblob(900000000))" } do
      local err = expect.raised("DataError", "too big", db.query, db, text)
      assert.equal("SQLITE_TOOBIG", err.code)
      assert.equal(18, err.native_code)
    end
    assert.equal(1, db:query_value "select 1")
  end)

  it("refuses a zero byte in a text of SQL, wherever it stands", function()
    for _, text in ipairs { "select 1\0", "\0", "select 'a\0b'", "select 1 -- \0",
      "select 1\0; drop table t" } do
      for _, name in ipairs { "query", "exec", "exec_script", "prepare" } do
        expect.raised("UsageError", "zero byte", db[name], db, text)
        expect.raised("UsageError", "zero byte", db[name], db:with { placeholders = false }, text)
      end
    end
  end)

  it("takes names of any length and with any characters but the zero byte", function()
    for _, name in ipairs { "a b", 'quo"te', "semi;colon", "--comment", "\226\130\172", "'", "?",
      "select", ("x"):rep(100000) } do
      local identifier = moonbase.sql.identifier(name)
      db:exec(moonbase.sql("create table ? (? integer)", identifier, identifier))
      db:exec(moonbase.sql("insert into ? (?) values (?)", identifier, identifier, 7))
      assert.equal(7, db:query_row(moonbase.sql("select * from ?", identifier))[name])
      assert.equal(1, db:query_value("select count(*) from sqlite_master where name = ?", name))
      db:exec(moonbase.sql("drop table ?", identifier))
    end
    expect.raised("UsageError", nil, db.exec, db,
      moonbase.sql("create table ? (i)", moonbase.sql.identifier "a\0b"))
  end)

  it("refuses placeholders of its own beside those of Moonbase's", function()
    for _, text in ipairs { "select ?5", "select @x", "select $x" } do
      expect.raised("UsageError", nil, db.query, db, text)
    end
    local plain = db:with { placeholders = false }
    assert.same({ 2, 1 }, { plain:query_values("select ?2, ?1", 1, 2) })
    assert.equal(3, plain:query_value("select @x", 3))
    expect.raised("UsageError", "has 5 parameters", plain.query, plain, "select ?5", 1)
  end)

  it("says where in the user's own text it stumbled", function()
    for text, position in pairs { ["selec 1"] = 1, ["select 1 frm t"] = 14,
      ["select :a,\n :b, missing"] = 17, ["select 'it''s', nope"] = 17 } do
      local err = expect.raised("SyntaxError", nil, db.prepare, db, text)
      assert.equal(position, err.position, text)
      assert.equal(text, err.sql)
    end
  end)

  it("gives a limit that is reached as an error of its class", function()
    db:exec "create table t (i)"
    db:exec [[create trigger again after insert on t begin
      insert into t values (new.i + 1); end]]
    db:exec "pragma recursive_triggers = 1"
    expect.raised("EngineError", "too many levels of trigger recursion", db.exec, db,
      "insert into t values (1)")
    assert.equal(0, db:query_value "select count(*) from t")
    expect.raised("EngineError", "LIKE or GLOB pattern too complex", db.query, db,
      "select 'a' like ?", ("%a"):rep(30000))
    local conn = db:connect()
    for i = 1, 10 do conn:exec("attach ':memory:' as a" .. i) end
    expect.raised("EngineError", "too many attached databases", conn.exec, conn,
      "attach ':memory:' as eleventh")
    conn:close()
  end)

  it("runs out of memory without harm", function()
    -- The limit is one of the whole process.
    local output = child.run([[
      local conn = require "moonbase".open "sqlite::memory:":connect()
      conn:exec "create table t (x)"
      conn:exec "insert into t values ('kept')"
      conn:exec "pragma hard_heap_limit = 3000000"
      for _, text in ipairs { "select length(hex(randomblob(20000000)))",
        "insert into t select zeroblob(10000000)" } do
        local ok, err = pcall(conn.exec, conn, text)
        print(ok, err.class, err.code, err.native_code, err.connection_dead)
        print(conn:query_value "select group_concat(x) from t")
      end
    ]])
    assert.equal(("false\tResourceError\tSQLITE_NOMEM\t7\tfalse\nkept\n"):rep(2), output)
  end)
end)
