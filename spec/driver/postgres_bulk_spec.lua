-- Many rows on PostgreSQL: COPY where it does what INSERT does, INSERT elsewhere; and that
-- values mean the same in both.
local moonbase = require "moonbase"
local expect = require "spec.support.expect"
local postgres = require "spec.support.postgres"

describe("bulk_insert into PostgreSQL", function()
  local db

  before_each(function()
    db = moonbase.open(postgres.shared():fresh())
    db:exec_script [[
      create table item (id integer primary key, name text);
      create table fired (times integer);
      insert into fired values (0);
      create function fire() returns trigger language plpgsql as
        'begin update fired set times = times + 1; return null; end';
      create trigger item_fires after insert on item for each statement execute function fire()]]
  end)

  after_each(function() db:close() end)

  local function generate(n)
    local i = 0
    return function()
      i = i + 1
      return i <= n and { i, "n" .. i } or nil
    end
  end

  -- How many statements have inserted into item.
  local function statements()
    return db:query_value "select times from fired"
  end

  it("is a COPY for thousands of rows", function()
    assert.equal(20000, db:bulk_insert("item", { "id", "name" }, generate(20000)))
    assert.equal(20000, db:query_value "select count(*) from item where name = 'n' || id")
    assert.is_true(statements() < 10)
  end)

  it("takes fewer rows at once where they are large", function()
    local large = ("x"):rep(300000)
    local i = 0
    assert.equal(300, db:bulk_insert("item", { "id", "name" }, function()
      i = i + 1
      return i <= 300 and { i, large } or nil
    end))
    assert.is_true(statements() > 3)
    assert.equal(300, db:query_value("select count(*) from item where name = ?", large))
  end)

  it("is INSERTs where rows that are there already are left out", function()
    assert.equal(3, db:bulk_insert("item", { "id", "name" },
      { { 1, "a" }, { 2, "b" }, { 2, "c" }, { 3, "d" } }, { on_conflict = "skip" }))
    assert.equal(4, statements())
  end)

  it("works without prepared statements", function()
    local plain = moonbase.open(postgres.shared():url(nil, { statement_cache = 0 }))
    assert.equal(3000, plain:bulk_insert("item", { "id", "name" }, generate(3000)))
    plain:close()
    assert.is_true(statements() < 10)
  end)

  it("quotes names of every kind", function()
    db:exec [[create table "a "" (b) from" ("x, ""y" integer, "from stdin" text)]]
    local name = [[a " (b) from]]
    assert.equal(2, db:bulk_insert(name, { [[x, "y]], "from stdin" }, { { 1, "a" }, { 2, "b" } }))
    assert.same({ "a", "b" }, db:query_column [[select "from stdin" from "a "" (b) from"
      order by 1]])
    assert.equal(1, db:bulk_insert(moonbase.sql.identifier("public", name), { "from stdin" },
      { { "c" } }))
  end)

  it("names a table and a column that there are not, in the words of an INSERT", function()
    local err = expect.raised("SyntaxError", 'relation "nothing" does not exist',
      db.bulk_insert, db, "nothing", { "id" }, { { 1 } })
    assert.equal("42P01", err.code)
    err = expect.raised("SyntaxError", 'column "nothing" of relation "item" does not exist',
      db.bulk_insert, db, "item", { "nothing" }, { { 1 } })
    assert.equal("42703", err.code)
  end)

  it("is no COPY that the user has written without the name of a table", function()
    local conn = db:connect()
    for _, text in ipairs { "copy(id) from stdin", "copy (id) from stdin",
      "copy\"item\"(id) from stdin" } do
      expect.raised("UsageError", "copy_from", conn.prepare, conn, text)
    end
    assert.equal(1, conn:query_value "select 1")
    conn:close()
  end)

  describe("is INSERTs, which do what COPY would not,", function()
    it("into a view", function()
      db:exec "create view seen as select id, name from item where id > 0"
      assert.equal(700, db:bulk_insert("seen", { "id", "name" }, generate(700)))
      assert.equal(700, db:query_value "select count(*) from item")
    end)

    it("into a table with rules", function()
      db:exec_script [[
        create table other (id integer, name text);
        create rule aside as on insert to item do instead insert into other values (new.*)]]
      db:bulk_insert("item", { "id", "name" }, generate(5))
      assert.equal(0, db:query_value "select count(*) from item")
      assert.equal(5, db:query_value "select count(*) from other")
    end)

    it("into a table with row-level security", function()
      db:exec_script [[
        alter table item enable row level security;
        alter table item force row level security;
        create policy small on item with check (id < 400)]]
      local err = expect.raised("PermissionError", nil, db.bulk_insert, db, "item",
        { "id", "name" }, generate(500))
      assert.equal(400, err.row)
      assert.equal(300, db:bulk_insert("item", { "id", "name" }, generate(300)))
    end)

    it("into a column that is always generated", function()
      db:exec_script [[
        create table numbered (id integer generated always as identity, "na""me" text);
        create table given (id integer generated by default as identity, name text)]]
      local err = expect.raised("SyntaxError", nil, db.bulk_insert, db, "numbered",
        { "id", [[na"me]] }, { { 7, "a" } })
      assert.equal("428C9", err.code)
      assert.equal(2, db:bulk_insert("numbered", { [[na"me]] }, { { "a" }, { "b" } }))
      assert.same({ 1, 2 }, db:query_column "select id from numbered order by id")
      assert.equal(1, db:bulk_insert("given", { "id", "name" }, { { 7, "a" } }))
    end)
  end)

  it("fills a partitioned table, and one of a session", function()
    db:exec_script [[
      create table part (id integer, name text) partition by range (id);
      create table part_1 partition of part for values from (0) to (500);
      create table part_2 partition of part for values from (500) to (5000)]]
    assert.equal(1000, db:bulk_insert("part", { "id", "name" }, generate(1000)))
    assert.equal(499, db:query_value "select count(*) from part_1")
    local conn = db:connect()
    conn:exec "create temporary table mine (id integer, name text)"
    assert.equal(1000, conn:bulk_insert("mine", { "id", "name" }, generate(1000)))
    conn:close()
  end)

  it("gives values the meaning that they have in an INSERT", function()
    db:exec [[create table wide (n integer generated by default as identity, i smallint,
      b bigint, f double precision, r real, d numeric, o boolean, t text, c char(3), y bytea,
      j jsonb, u uuid, a text[], ya bytea[], ts timestamptz, k interval)]]
    local columns = { "i", "b", "f", "r", "d", "o", "t", "c", "y", "j", "u", "a", "ya", "ts", "k" }
    local nasty = "a\\b\nc\rd\te\\N\\.\\\\x41\8\11\12\27'\"{},NULL \195\164\240\159\140\153"
    local rows = {
      { 1, 2 ^ 53, 0.1, 1.5, "1.10", true, nasty, "x", "\0\1\\x41" .. nasty, '{"a": "\\n"}',
        "6f1b0f7c-3b0c-4e4c-9a53-5fb6cf6a3f0b", moonbase.array { nasty, moonbase.null, "" },
        moonbase.array { moonbase.blob "\0\255" }, "2026-11-21 09:48:00.5+02:00", "1 day" },
      { -32768, -7, -0.0, 1e-7, moonbase.decimal "-12.50", false, "", "", moonbase.blob "\0\255\\",
        "[1]", nil, moonbase.array {}, nil, "infinity", nil },
      { nil, nil, 1 / 0, -1 / 0, "NaN", nil, "\\N", "\\N", "", "null", nil, nil, nil, nil, nil },
      { 7.0, 9007199254740993, 5e-324, 16777217, 0.1, true, "\\.", "\\.", "\\x41" },
      { 7, nil, 1.7976931348623157e308, 3.4e38, 12345678901234567, true, ("long "):rep(50000) },
    }
    local insert = ("insert into wide (%s) values (%s)"):format(table.concat(columns, ", "),
      ("?, "):rep(#columns):sub(1, -3))
    for _, row in ipairs(rows) do db:exec(insert, moonbase.params(row, #columns)) end
    assert.equal(#rows, db:bulk_insert("wide", columns, rows))
    local texts = db:query_column [[select (to_jsonb(wide) - 'n')::text || ' '
      || coalesce(f::text, '') from wide order by n]]
    assert.equal(2 * #rows, #texts)
    for i = 1, #rows do
      assert.is_string(texts[i])
      assert.equal(texts[i], texts[#rows + i])
    end
  end)

  it("refuses values that no column of that type can have, with their row", function()
    db:exec "create table typed (i integer, t text, y bytea)"
    local function fails(class, row, columns, ...)
      local rows = { ... }
      local err = expect.raised(class, nil, db.bulk_insert, db, "typed", columns, rows)
      assert.equal(row, err.row)
    end
    fails("DataError", 2, { "i" }, { 1 }, { "x" })
    fails("DataError", 3, { "i" }, { 1 }, { 2 }, { 2 ^ 40 })
    fails("DataError", 1, { "i" }, { 1.5 })
    fails("DataError", 2, { "t" }, { "a" }, { "a\0b" })
    fails("DataError", 2, { "t" }, { "a" }, { "\255" })
    fails("DataError", 2, { "t" }, { "a" }, { moonbase.blob "a" })
    assert.equal(0, db:query_value "select count(*) from typed")
    assert.equal(0, db:stats().in_use)
  end)

  it("names the row that the server refuses, wherever it is", function()
    for _, wrong in ipairs { 1, 255, 256, 257, 8449, 12000 } do
      local next_row, n = generate(12000), 0
      local err = expect.raised("ConstraintError", nil, db.bulk_insert, db, "item",
        { "id", "name" }, function()
          n = n + 1
          local row = next_row()
          if row and n == wrong then row[1] = nil end
          return row
        end)
      assert.equal(wrong, err.row)
      assert.equal("id", err.column)
      assert.equal(0, db:query_value "select count(*) from item")
    end
  end)

  it("says of a reference that is missing which it is", function()
    db:exec "create table child (item integer constraint child_item references item)"
    local err = expect.raised("ConstraintError", nil, db.bulk_insert, db, "child", { "item" },
      { { 1 } })
    assert.equal("child_item", err.constraint)
    assert.equal("foreign_key", err.constraint_kind)
  end)

  it("leaves a transaction usable when the function that gives rows raises", function()
    db:transaction(function(tx)
      local ok, err = pcall(tx.bulk_insert, tx, "item", { "id", "name" }, function()
        error "enough"
      end)
      assert.is_false(ok)
      assert.is_truthy(tostring(err):find "enough")
      local n = 0
      pcall(tx.bulk_insert, tx, "item", { "id", "name" }, function()
        n = n + 1
        if n > 5000 then error "enough" end
        return { n, "x" }
      end)
      assert.equal(0, tx:query_value "select count(*) from item")
      assert.equal(1, tx:bulk_insert("item", { "id", "name" }, { { 1, "a" } }))
    end)
    assert.equal(1, db:query_value "select count(*) from item")
  end)

  it("reads values that a function of the program makes", function()
    local encoding = moonbase.open(postgres.shared():url(), {
      json = { encode = function(value) return '{"n": ' .. value.n .. "}" end,
        decode = function(text) return text end },
      on_connect = function() end,
    })
    encoding:exec "create table document (id integer, data jsonb)"
    local n = 0
    assert.equal(9000, encoding:bulk_insert("document", { "id", "data" }, function()
      n = n + 1
      return n <= 9000 and { n, moonbase.json { n = n } } or nil
    end))
    assert.equal(9000, encoding:query_value
      "select count(*) from document where (data ->> 'n')::integer = id")
    encoding:close()
  end)
end)
