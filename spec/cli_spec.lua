local moonbase = require "moonbase"
local files = require "spec.support.files"
local program = require "spec.support.program"

describe("the command moonbase", function()
  local url

  before_each(function() url = "sqlite:" .. files.path "case.db" end)
  after_each(files.clean)

  local function run(arguments, given)
    return program.run("bin/moonbase", arguments, given)
  end

  -- What a query writes.
  local function query(...)
    local output, status, errors = run { "query", url, ... }
    assert.equal("", errors)
    assert.equal(0, status)
    return output
  end

  local function lines(...)
    return table.concat({ ... }, "\n") .. "\n"
  end

  -- A command that ends with a status and says one line, perhaps with advice below.
  local function refused(wanted, message, arguments, given)
    local output, status, errors = run(arguments, given)
    assert.equal(wanted, status)
    assert.truthy(errors:find("^moonbase: [^\n]*\n"), errors)
    assert.truthy(errors:find(message, 1, true), errors)
    return output, errors
  end

  local function set_up(script)
    local db = moonbase.open(url)
    db:exec_script(script)
    db:close()
  end

  local function value_of(sql)
    local db = moonbase.open(url)
    local value = db:query_value(sql)
    db:close()
    return value
  end

  describe("query --format table", function()
    it("aligns columns, numbers at the right", function()
      assert.equal(lines(
        " id  name   price",
        "---  ----  ------",
        "  1  Ada      1.5",
        "200  Bob   -10000",
        "  3  Eve     NULL",
        "(3 rows)"), query [[select 1 as id, 'Ada' as name, 1.5 as price
          union all select 200, 'Bob', -10000 union all select 3, 'Eve', null]])
    end)

    it("counts the columns of the terminal, not bytes", function()
      assert.equal(lines(
        "word    n",
        "------  -",
        "é       1",
        "日本語  2",
        "e\204\129       3",
        "(3 rows)"), query [[select 'é' as word, 1 as n union all select '日本語', 2
          union all select 'e' || char(0x301), 3]])
    end)

    it("writes what would move the cursor as text, and bytes as hexadecimal digits", function()
      assert.equal(lines(
        "a            b        c",
        "-----------  -------  -----",
        "x\\ny\\tz\\x1b  x'00ff'  x'ff'",
        "(1 row)"), query [[select 'x' || char(10) || 'y' || char(9) || 'z' || char(27) as a,
          x'00ff' as b, cast(x'ff' as text) as c]])
    end)

    it("says NULL, or what --null says", function()
      assert.equal(lines("a", "----", "NULL", "(1 row)"), query "select null as a")
      assert.equal(lines("a", "-", "?", "(1 row)"), query("select null as a", "--null", "?"))
    end)

    it("has a header when there is no row", function()
      assert.equal(lines("a  b", "-  -", "(0 rows)"), query "select 1 as a, 2 as b where 1 = 0")
    end)

    it("goes on with the widths of its first 1000 rows", function()
      local output = query [[with recursive n(i) as (select 1 union all select i + 1 from n
        where i < 1001) select i, case when i < 1001 then 'x' else 'long' end as t from n]]
      local count = 0
      for line in output:gmatch "[^\n]+" do
        count = count + 1
        if count == 3 then assert.equal("   1  x", line) end
        if count == 1003 then assert.equal("1001  long", line) end
      end
      assert.equal(1004, count)
    end)
  end)

  describe("query --format csv", function()
    local function csv(...) return query(..., "--format", "csv") end

    it("quotes what has to be quoted, and ends lines as RFC 4180 says", function()
      assert.equal('"a,b",c\r\n"say ""hi""",1\r\n"x\r\ny",2.5\r\nplain,-3\r\n',
        csv [[select 'say "hi"' as "a,b", 1 as c union all select 'x' || char(13, 10) || 'y', 2.5
          union all select 'plain', -3]])
    end)

    it("tells NULL from an empty text", function()
      assert.equal('a,b,c\r\n,"",x\r\n', csv "select null as a, '' as b, 'x' as c")
      assert.equal('a,b,c\r\n-,,"-"\r\n',
        query("select null as a, '' as b, '-' as c", "--format=csv", "--null=-"):gsub('""', ""))
    end)

    it("writes bytes in base64", function()
      assert.equal("a,b\r\nAP8=,AP8Q\r\n", csv "select x'00ff' as a, x'00ff10' as b")
    end)
  end)

  describe("query --format json", function()
    local function json(sql) return query("--format", "json", sql) end

    it("is one array of objects", function()
      assert.equal('[\n{"id":1,"name":"Ada"},\n{"id":2,"name":null}\n]\n',
        json "select 1 as id, 'Ada' as name union all select 2, null")
      assert.equal("[]\n", json "select 1 as id where 1 = 0")
    end)

    it("escapes what JSON wants escaped, and nothing else", function()
      assert.equal('[\n{"a":"\\"\\\\/\\n\\t\\u0001é日"}\n]\n',
        json [[select '"\/' || char(10, 9, 1) || 'é日' as a]])
      assert.equal('[\n{"a":"x\\u0000y"}\n]\n', json "select 'x' || char(0) || 'y' as a")
    end)

    it("keeps every digit of an integer", function()
      set_up [[create table t (n integer);
        insert into t values (9223372036854775807), (-9223372036854775807), (0)]]
      assert.equal(
        '[\n{"n":9223372036854775807},\n{"n":-9223372036854775807},\n{"n":0}\n]\n',
        json "select n from t order by rowid")
    end)

    it("writes numbers so that they read back as they were", function()
      assert.equal('[\n{"a":0.1,"b":0.30000000000000004,"c":1e+300,"d":100}\n]\n',
        json "select 0.1 as a, 0.1 + 0.2 as b, 1e300 as c, 100.0 as d")
    end)

    it("has null for what JSON has no number for", function()
      assert.equal('[\n{"a":null,"b":null}\n]\n', json "select 9e999 as a, -9e999 as b")
    end)

    it("writes bytes in base64, and booleans as such", function()
      set_up "create table t (b blob, o boolean); insert into t values ('text', 1), (x'00', 0)"
      assert.equal('[\n{"b":"dGV4dA==","o":true},\n{"b":"AA==","o":false}\n]\n',
        json "select * from t order by rowid")
    end)

    it("gives a name once: the last column of that name", function()
      assert.equal('[\n{"b":2,"a":3}\n]\n', json "select 1 as a, 2 as b, 3 as a")
    end)
  end)

  describe("query", function()
    it("takes parameters in order, numbers as numbers", function()
      assert.equal('a,b,c,d\r\ninteger,real,text,text\r\n', query(
        "select typeof(?) as a, typeof(?) as b, typeof(?) as c, typeof(?) as d", "--format", "csv",
        "7", "-1.5", "007", "7 apples"))
    end)

    it("takes named parameters as name=value", function()
      assert.equal("a,b\r\n5,x=y\r\n",
        query("select :b as a, :a as b", "a=x=y", "b=5", "--format=csv"))
    end)

    it("takes everything behind -- as it is", function()
      assert.equal("a\r\n--null\r\n", query("--format=csv", "--", "select ? as a", "--null"))
    end)

    it("reads the text from standard input for -", function()
      local output, status = run({ "query", url, "-", "5" }, { input = "select\n ? as n\n" })
      assert.equal(lines("n", "-", "5", "(1 row)"), output)
      assert.equal(0, status)
    end)

    it("says what a statement without rows has done", function()
      set_up "create table t (id integer primary key, name text)"
      local output, status, errors = run { "query", url, "insert into t (name) values (?)", "Ada" }
      assert.same({ "", 0, "moonbase: 1 row affected, id 1\n" }, { output, status, errors })
      output, status, errors = run { "query", url, "--format=json", "update t set name = 'Bob'" }
      assert.same({ "[]\n", 0, "moonbase: 1 row affected\n" }, { output, status, errors })
      assert.equal("Bob", value_of "select name from t")
    end)

    it("keeps no row in memory", function()
      local count = 300000
      local sql = ([[with recursive n(i) as (select 1 union all select i + 1 from n where i < %d)
        select i, 'a text of some length' as t from n]]):format(count)
      -- A sanitizer that is loaded before takes more than that for itself.
      local limits = not os.getenv "LD_PRELOAD" and "ulimit -v 40000" or nil
      local output, status, errors = run({ "query", "--format=json", "sqlite::memory:", sql },
        { limits = limits, pipe = "wc -l" })
      assert.equal("", errors)
      assert.equal(0, status)
      assert.equal(count + 2, tonumber(output))
    end)

    it("writes what came before an error", function()
      set_up "create table t (n integer); insert into t values (1), (2), (-9223372036854775808)"
      local sql = "select abs(n) as n from t order by rowid"
      local output, status = run { "query", "--format=csv", url, sql }
      assert.equal("", output) -- a short result is read before its first row is given
      assert.equal(1, status)
      set_up [[delete from t; with recursive n(i) as (select 1 union all select i + 1 from n
        where i < 100) insert into t select i from n; insert into t values (-9223372036854775808)]]
      output, status = run { "query", "--format=csv", url, sql }
      assert.equal("100", output:match "(%d+)\r\n$")
      assert.equal(1, status)
    end)

    it("ends quietly when nobody reads on", function()
      local sql = "with recursive n(i) as (select 1 union all select i + 1 from n) select i from n"
      for _, limits in ipairs { "", "trap '' PIPE" } do
        local output, _, errors = run({ "query", "--format=csv", "sqlite::memory:", sql },
          { limits = limits, pipe = "head -2" })
        assert.equal("i\r\n1\r\n", output)
        assert.equal("", errors)
      end
    end)

    it("has changed data before it writes what the statement returns", function()
      set_up [[create table t (n integer, filler text);
        with recursive n(i) as (select 1 union all select i + 1 from n where i < 5000)
        insert into t select i, 'a text of some length, so that a pipe is full' from n]]
      run({ "query", "--format=csv", url, "delete from t returning *" }, { pipe = "head -2" })
      assert.equal(0, value_of "select count(*) from t")
    end)

    it("stops after --timeout", function()
      refused(1, "TimeoutError", { "query", "--timeout", "0.1", url,
        "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n" })
    end)

    it("says in one line what the database has refused", function()
      local output, errors = refused(1, 'SyntaxError: near "selec": syntax error',
        { "query", url, "selec\n1" })
      assert.equal("", output)
      assert.equal(1, select(2, errors:gsub("\n", "")))
      refused(1, "ConnectivityError: unable to open database file",
        { "query", "sqlite:/nowhere/at/all.db", "select 1" })
      set_up "create table t (a integer unique); insert into t values (1)"
      refused(1, "ConstraintError: UNIQUE constraint failed: t.a",
        { "query", url, "insert into t values (1)" })
    end)

    it("says that it cannot write", function()
      refused(1, "cannot write", { "query", url, "select 1" }, { pipe = ">/dev/full" })
    end)

    it("tells a wrong command line from a refusal", function()
      refused(2, "a command is wanted", {})
      refused(2, 'there is no command qery; did you mean "query"?', { "qery" })
      refused(2, "query wants a URL and an SQL text", { "query", url })
      refused(2, "there is no option --fromat; did you mean --format?",
        { "query", "--fromat", "csv", url, "select 1" })
      refused(2, '--format wants table, csv or json, and not "xml"',
        { "query", "--format", "xml", url, "select 1" })
      refused(2, "--format wants a value", { "query", url, "select 1", "--format" })
      refused(2, '--timeout wants a number of seconds, and not "soon"',
        { "query", "--timeout=soon", url, "select 1" })
      refused(2, "UsageError: the statement has 1 parameter, but 0 were given",
        { "query", url, "select ?" })
      refused(2, "write name=value, and not 5", { "query", url, "select :a", "5" })
      refused(2, "parameter :b is missing: write b=value", { "query", url, "select :a, :b", "a=1" })
      refused(2, "did you mean :name?", { "query", url, "select :name", "nane=1" })
      refused(2, "use moonbase script", { "query", url, "select 1; select 2" })
      refused(2, "there is no driver", { "query", "nosuch:thing", "select 1" })
      refused(2, "is no option of sqlite", { "query", "sqlite:x?colour=red", "select 1" })
    end)
  end)

  describe("script", function()
    it("runs the statements of a file", function()
      local path = files.write(files.path "schema.sql",
        "create table t (n integer);\n-- a comment;\ninsert into t values (1);\n"
        .. "create trigger r after insert on t begin delete from t where n = 0; end;\n")
      local output, status, errors = run { "script", url, path }
      assert.equal("", output)
      assert.equal(0, status)
      assert.truthy(errors:find("3 statements run\n", 1, true), errors)
      assert.equal(1, value_of "select n from t")
    end)

    it("reads standard input for -", function()
      local _, status = run({ "script", url, "-" }, { input = "create table t (n integer)" })
      assert.equal(0, status)
      assert.equal(0, value_of "select count(*) from t")
    end)

    it("stops at the first error and says where", function()
      local script = "create table t (n integer);\ninsert into nope values (1);\ndrop table t;"
      local arguments = { "script", url, "-" }
      local _, errors = refused(1, "", arguments, { input = script })
      assert.truthy(errors:find("statement 2, at line 2: no such table: nope", 1, true), errors)
      assert.equal(1, value_of "select count(*) from sqlite_master")
    end)

    it("runs all or nothing with --transaction", function()
      local script = "create table t (n integer);\ninsert into nope values (1);"
      refused(1, "", { "script", "--transaction", url, "-" }, { input = script })
      assert.equal(0, value_of "select count(*) from sqlite_master")
    end)

    it("tells a wrong command line from a refusal", function()
      refused(2, "script wants a URL and a file", { "script", url })
      refused(2, "cannot read", { "script", url, "/nowhere/at/all.sql" })
      refused(2, "script takes one file, and not b.sql too", { "script", url, "a.sql", "b.sql" })
      refused(2, "--transaction has no value", { "script", "--transaction=1", url, "-" })
    end)
  end)

  it("explains itself", function()
    local output, status = run { "--help" }
    assert.equal(0, status)
    assert.truthy(output:find("Usage: moonbase query", 1, true))
    assert.equal(output, (run { "query", "--help" }))
    for option in ("format null timeout transaction"):gmatch "%a+" do
      assert.truthy(output:find("--" .. option, 1, true), option)
    end
    output, status = run { "--version" }
    assert.equal(0, status)
    assert.equal("moonbase " .. moonbase._VERSION, output:match "^moonbase [%d.]+")
  end)
end)
