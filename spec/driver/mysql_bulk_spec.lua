-- Many rows on MySQL: array binding where the library and the server have it, INSERTs of many
-- rows elsewhere; which row has failed; which ids were made; and that values mean the same.
local moonbase = require "moonbase"
local expect = require "spec.support.expect"
local mysql = require "spec.support.mysql"

describe("Many rows on MySQL", function()
  local server, db

  before_each(function()
    server = mysql.shared()
    db = moonbase.open(server:fresh())
    db:exec "create table item (id integer primary key, name longtext)"
  end)

  after_each(function() db:close() end)

  local function generate(n, make)
    local i = 0
    return function()
      i = i + 1
      return i <= n and (make and make(i) or { i, "n" .. i }) or nil
    end
  end

  -- How many statements a connection has run while fn ran.
  local function statements(conn, fn)
    local function count()
      local sum = 0
      for row in conn:query [[show session status where variable_name in
        ('com_insert', 'com_stmt_execute', 'com_multi')]] do
        if row.Variable_name:lower() == "com_insert" then sum = tonumber(row.Value) end
      end
      return sum
    end
    local before = count()
    fn()
    return count() - before
  end

  it("are inserted in few statements", function()
    local conn = db:connect()
    local n = statements(conn, function()
      assert.equal(20000, conn:bulk_insert("item", { "id", "name" }, generate(20000)))
    end)
    assert.equal(20000, conn:query_value "select count(*) from item where name = concat('n', id)")
    if not server.is_mariadb then assert.is_true(n < 200, n .. " statements") end
    conn:close()
  end)

  it("come in one transaction, or in none at all", function()
    expect.raised("ConstraintError", nil, db.bulk_insert, db, "item", { "id", "name" },
      generate(5000, function(i) return { i == 5000 and 1 or i, "x" } end))
    assert.equal(0, db:query_value "select count(*) from item")
    expect.raised("ConstraintError", nil, db.bulk_insert, db, "item", { "id", "name" },
      generate(5000, function(i) return { i == 5000 and 1 or i, "x" } end),
      { commit_every = 1000 })
    assert.equal(4000, db:query_value "select count(*) from item")
  end)

  for _, wrong in ipairs { 1, 2, 500, 999, 1000, 1001, 2500, 3000 } do
    it("tell of row " .. wrong .. " that the server refuses it", function()
      db:exec "insert into item values (0, 'there')"
      local rows = {}
      for i = 1, 3000 do rows[i] = { i == wrong and 0 or i, "n" .. i } end
      local err = expect.raised("ConstraintError", nil, db.bulk_insert, db, "item",
        { "id", "name" }, rows)
      assert.equal(wrong, err.row)
      assert.equal("primary_key", err.constraint_kind)
      assert.equal(1, db:query_value "select count(*) from item")
      err = expect.raised("ConstraintError", nil, function()
        db:prepare "insert into item (id, name) values (?, ?)":exec_many(rows)
      end)
      assert.equal(wrong, err.row)
      assert.equal(1, db:query_value "select count(*) from item")
    end)
  end

  it("tell of a value that does not fit its row", function()
    db:exec "create table narrow (n tinyint, t varchar(3))"
    for _, wrong in ipairs { 1, 777, 2000 } do
      for column, value in pairs { n = 128, t = "four" } do
        local err = expect.raised("DataError", nil, db.bulk_insert, db, "narrow", { "n", "t" },
          generate(2000, function(i)
            return { i == wrong and column == "n" and value or 1,
              i == wrong and column == "t" and value or "abc" }
          end))
        assert.equal(wrong, err.row)
      end
    end
    assert.equal(0, db:query_value "select count(*) from narrow")
  end)

  it("may be of other types from row to row, and NULL", function()
    db:exec "create table mixed (id integer primary key, a varchar(50), b longblob)"
    local rows = {}
    local values = { 1, 1.5, "text", moonbase.null, true, moonbase.decimal "1.10", -7,
      ("x"):rep(50) }
    for i = 1, 2000 do
      rows[i] = { i, values[i % #values + 1], i % 3 == 0 and moonbase.blob "\0\255" or nil }
    end
    assert.equal(2000, db:bulk_insert("mixed", { "id", "a", "b" }, rows))
    local expected = { "1", "1.5", "text", nil, "1", "1.10", "-7", ("x"):rep(50) }
    local n = 0
    for row in db:query "select * from mixed order by id" do
      n = n + 1
      assert.equal(expected[n % #values + 1], row.a)
      assert.equal(n % 3 == 0 and "\0\255" or nil, row.b)
    end
    assert.equal(2000, n)
  end)

  it("give values the meaning that they have in an INSERT", function()
    db:exec [[create table wide (k integer auto_increment primary key, i smallint,
      b bigint unsigned, f double, r float, d decimal(30, 10), o boolean, t longtext, c char(3),
      y longblob, j json, dt datetime(6), ti time(6), e enum('a', 'b'), s set('x', 'y'), bi bit(8),
      ye year)]]
    local columns = { "i", "b", "f", "r", "d", "o", "t", "c", "y", "j", "dt", "ti", "e", "s",
      "bi", "ye" }
    local nasty = "a\\b\nc\rd\te'\"`%_\8\11\12\27\26{},NULL \195\164\240\159\140\153"
    local rows = {
      { 1, 2 ^ 53, 0.1, 1.5, "1.10", true, nasty, "x", moonbase.blob("\0\1'" .. nasty),
        '{"a": "\\n"}', "2026-11-21 09:48:00.5+00:00", "-100:00:00.25", "a", "x,y", 255, 2026 },
      { -32768, "18446744073709551615", -0.0, 1e-7, moonbase.decimal "-12.50", false, "", "",
        moonbase.blob "", "[1]", "1999-12-31 23:59:59.999999", "00:00:00", "b", "", 0, 1901 },
      { nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil },
      { 7.0, 9007199254740993, 2.2250738585072014e-308, 16777217, 0.1, true, ("long "):rep(50000) },
      { 7, nil, 1.7976931348623157e308, 3.4e38, 12345678901234567, true, "\0" },
    }
    local insert = ("insert into wide (%s) values (%s)"):format(table.concat(columns, ", "),
      ("?, "):rep(#columns):sub(1, -3))
    for _, row in ipairs(rows) do db:exec(insert, moonbase.params(row, #columns)) end
    assert.equal(#rows, db:bulk_insert("wide", columns, rows))
    local lists = {}
    for row in db:query("select " .. table.concat(columns, ", ") .. " from wide order by k")
      :arrays() do
      lists[#lists + 1] = row
    end
    assert.equal(2 * #rows, #lists)
    for i = 1, #rows do assert.same(lists[i], lists[#rows + i]) end
  end)

  it("may be larger together than what the server takes at once", function()
    server:sql "set global max_allowed_packet = 1048576"
    local small = moonbase.open(server:url())
    local ok, err = pcall(function()
      local large = ("x"):rep(200000)
      assert.equal(100, small:bulk_insert("item", { "id", "name" },
        generate(100, function(i) return { i, large } end)))
      local rows = {}
      for i = 1, 100 do rows[i] = { i + 100, large } end
      assert.equal(100, (small:prepare "insert into item (id, name) values (?, ?)"
        :exec_many(rows)))
    end)
    server:sql "set global max_allowed_packet = 268435456"
    small:close()
    if not ok then error(err, 0) end
    assert.equal(200, db:query_value "select count(*) from item where length(name) = 200000")
  end)

  it("are undone for one that the server would not take, which the error names", function()
    server:sql "set global max_allowed_packet = 1048576"
    local small = moonbase.open(server:url())
    local ok, err = pcall(function()
      local rows = generate(50, function(i) return { i, i == 30 and ("x"):rep(2000000) or "a" } end)
      local refused = expect.raised("DataError", "max_allowed_packet", small.bulk_insert, small,
        "item", { "id", "name" }, rows)
      assert.equal(30, refused.row)
      assert.is_false(refused.connection_dead)
      local list = {}
      for i = 1, 50 do list[i] = { i, i == 30 and ("x"):rep(2000000) or "a" } end
      local insert = small:prepare "insert into item (id, name) values (?, ?)"
      refused = expect.raised("DataError", "max_allowed_packet", insert.exec_many, insert, list)
      assert.equal(30, refused.row)
      insert:close()
      assert.equal(0, small:query_value "select count(*) from item")
      assert.equal(1, small:stats().created)
    end)
    server:sql "set global max_allowed_packet = 268435456"
    small:close()
    if not ok then error(err, 0) end
  end)

  it("leave out those that are there already, where that is asked for", function()
    db:exec "create unique index item_name on item (name(20))"
    db:exec "insert into item values (1, 'there')"
    assert.equal(2, db:bulk_insert("item", { "id", "name" },
      { { 1, "a" }, { 2, "b" }, { 2, "c" }, { 3, "there" }, { 4, "d" } }, { on_conflict = "skip" }))
    assert.same({ "there", "b", "d" }, db:query_column "select name from item order by id")
    -- Nothing else is left out.
    db:exec "create table strict (n tinyint not null)"
    expect.raised("DataError", nil, db.bulk_insert, db, "strict", { "n" }, { { 1 }, { 1000 } },
      { on_conflict = "skip" })
    expect.raised("ConstraintError", nil, db.bulk_insert, db, "strict", { "n" }, { { 1 }, { nil } },
      { on_conflict = "skip" })
    assert.equal(0, db:query_value "select count(*) from strict")
  end)

  it("of exec_many give the number of all and the first id that was made", function()
    db:exec "create table made (id bigint auto_increment primary key, name varchar(20))"
    db:exec "insert into made (name) values ('before')"
    local insert = db:prepare "insert into made (name) values (?)"
    local rows = {}
    for i = 1, 2500 do rows[i] = { "n" .. i } end
    assert.same({ 2500, 2 }, { insert:exec_many(rows) })
    assert.equal("n1", db:query_value "select name from made where id = 2")
    assert.equal(2500, db:query_value "select count(*) from made where name like 'n%'")
    local results = db:batch {
      { "insert into made (name) values ('batch')" },
      { "update made set name = 'first' where id = 1" },
    }
    assert.equal("batch", db:query_value("select name from made where id = ?", results[1].id))
    assert.equal(1, results[2].affected)
    assert.is_nil(results[2].id)
  end)

  it("of exec_many may be updated and deleted", function()
    db:bulk_insert("item", { "id", "name" }, generate(1500))
    local rows = {}
    for i = 1, 1500 do rows[i] = { "u" .. i, i } end
    assert.equal(1500, (db:prepare "update item set name = ? where id = ?":exec_many(rows)))
    assert.equal(1500, (db:prepare "update item set name = ? where id = ?":exec_many(rows)))
    assert.equal("u700", db:query_value "select name from item where id = 700")
    for i = 1, 1500 do rows[i] = { i } end
    assert.equal(1500, (db:prepare "delete from item where id = ?":exec_many(rows)))
    assert.same({ 0 }, { db:prepare "delete from item where id = ?":exec_many {} })
  end)

  it("quote names of every kind", function()
    db:exec "create table `a `` (b)` (`x, ``y` integer, `values (?)` text)"
    local name = "a ` (b)"
    assert.equal(2, db:bulk_insert(name, { "x, `y", "values (?)" }, { { 1, "a" }, { 2, "b" } }))
    assert.same({ "a", "b" }, db:query_column "select `values (?)` from `a `` (b)` order by 1")
    local ansi = moonbase.open(server:url(), { sql_mode = "ANSI_QUOTES,STRICT_ALL_TABLES" })
    assert.equal(1, ansi:bulk_insert(moonbase.sql.identifier("moonbase", name), { "values (?)" },
      { { "c" } }))
    ansi:close()
  end)

  it("name a table and a column that there are not", function()
    assert.equal(1146, expect.raised("SyntaxError", nil, db.bulk_insert, db, "nothing", { "id" },
      { { 1 } }).native_code)
    assert.equal(1054, expect.raised("SyntaxError", nil, db.bulk_insert, db, "item", { "nothing" },
      { { 1 } }).native_code)
  end)

  it("may go through triggers, views and tables without transactions", function()
    db:exec_script [[
      create table log (n integer);
      create trigger item_logs after insert on item for each row
        insert into log values (new.id);
      create view seen as select id, name from item;
      create table plain (id integer primary key, name varchar(20)) engine = myisam]]
    assert.equal(1200, db:bulk_insert("seen", { "id", "name" }, generate(1200)))
    assert.equal(1200, db:query_value "select count(*) from log")
    assert.equal(1200, db:bulk_insert("plain", { "id", "name" }, generate(1200)))
    assert.equal(1200, db:query_value "select count(*) from plain")
  end)

  it("leave a transaction usable when the function that gives rows raises, or a row fails",
    function()
      db:transaction(function(tx)
        local ok, err = pcall(tx.bulk_insert, tx, "item", { "id", "name" },
          generate(5000, function(i)
            if i > 3000 then error "enough" end
            return { i, "x" }
          end))
        assert.is_false(ok)
        assert.is_truthy(tostring(err):find "enough")
        assert.equal(0, tx:query_value "select count(*) from item")
        expect.raised("ConstraintError", nil, tx.bulk_insert, tx, "item", { "id", "name" },
          { { 1, "a" }, { 1, "b" } })
        assert.equal(1, tx:bulk_insert("item", { "id", "name" }, { { 1, "a" } }))
      end)
      assert.equal(1, db:query_value "select count(*) from item")
    end)
end)
