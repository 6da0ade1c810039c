-- Constraints of SQLite: which one was broken, and what its error names.
local moonbase = require "moonbase"
local expect = require "spec.support.expect"

describe("A constraint of SQLite", function()
  local db, conn

  before_each(function()
    db = moonbase.open "sqlite::memory:"
    conn = db:connect()
  end)

  after_each(function() db:close() end)

  -- Runs a script whose last statement, given alone, breaks a constraint.
  local function breaks(script, statement, ...)
    conn:exec_script(script)
    return expect.raised("ConstraintError", nil, conn.exec, conn, statement, ...)
  end

  local function check(err, code, kind, constraint, tbl, columns)
    assert.equal(code, err.code)
    assert.equal(kind, err.constraint_kind)
    assert.equal(constraint, err.constraint)
    assert.equal(tbl, err.table)
    assert.same(columns, err.columns)
    assert.equal(columns and columns[1], err.column)
  end

  it("UNIQUE of a column is named by its table and column", function()
    local err = breaks("create table t (a unique); insert into t values (1)",
      "insert into t values (1)")
    check(err, "SQLITE_CONSTRAINT_UNIQUE", "unique", nil, "t", { "a" })
  end)

  it("UNIQUE with a name of its own is named, whatever the quotes around it", function()
    for i, quoted in ipairs { "one", '"one"', "[one]", "`one`", "'one'" } do
      local name = "t" .. i
      local err = breaks(("create table %s (a /* , ( */ int constraint %s unique, b); "
        .. "insert into %s values (1, 2)"):format(name, quoted, name),
        ("insert into %s values (1, 3)"):format(name))
      check(err, "SQLITE_CONSTRAINT_UNIQUE", "unique", "one", name, { "a" })
    end
  end)

  it("over several columns is named with all of them, in their order", function()
    local err = breaks([[create table t (a, b, c, d default (1 + (2)), -- a comment, with (
      constraint other unique (c, a), constraint wanted unique (b asc, "a" collate nocase));
      insert into t (a, b, c) values ('x', 'y', 'z')]],
      "insert into t (a, b, c) values ('X', 'y', 'q')")
    check(err, "SQLITE_CONSTRAINT_UNIQUE", "unique", "wanted", "t", { "b", "a" })
  end)

  it("by a unique index is named by the index", function()
    local err = breaks([[create table t (a, b); create unique index just_a on t (a);
      create unique index of_both on t (b, a); insert into t values (1, 2)]],
      "insert into t values (1, 3)")
    check(err, "SQLITE_CONSTRAINT_UNIQUE", "unique", "just_a", "t", { "a" })
  end)

  it("by a partial index is named by the index", function()
    local err = breaks([[create table t (a, alive); insert into t values (1, 0), (1, 0);
      create unique index of_the_living on t (a) where alive; insert into t values (1, 1)]],
      "insert into t values (1, 1)")
    check(err, "SQLITE_CONSTRAINT_UNIQUE", "unique", "of_the_living", "t", { "a" })
  end)

  it("by an index on an expression is named by the index alone", function()
    local err = breaks([[create table t (a); create unique index in_small on t (lower(a));
      insert into t values ('A')]], "insert into t values ('a')")
    check(err, "SQLITE_CONSTRAINT_UNIQUE", "unique", "in_small", nil, nil)
  end)

  it("UNIQUE of a generated column is named by that column", function()
    local err = breaks("create table t (a, twice as (2 * a) unique); insert into t values (1)",
      "insert into t (a) values (1)")
    check(err, "SQLITE_CONSTRAINT_UNIQUE", "unique", nil, "t", { "twice" })
  end)

  it("PRIMARY KEY of a rowid is named by its column", function()
    local err = breaks("create table t (id integer primary key); insert into t values (1)",
      "insert into t values (1)")
    check(err, "SQLITE_CONSTRAINT_PRIMARYKEY", "primary_key", nil, "t", { "id" })
  end)

  it("PRIMARY KEY that nobody declared is the rowid's", function()
    local err = breaks("create table t (a); insert into t (rowid, a) values (1, 2)",
      "insert into t (rowid, a) values (1, 3)")
    check(err, "SQLITE_CONSTRAINT_ROWID", "primary_key", nil, "t", { "rowid" })
  end)

  it("PRIMARY KEY with a name is named", function()
    local err = breaks([[create table t (k text constraint t_key primary key, v) without rowid;
      create unique index beside on t (k, v); insert into t values ('a', 1)]],
      "insert into t values ('a', 2)")
    check(err, "SQLITE_CONSTRAINT_PRIMARYKEY", "primary_key", "t_key", "t", { "k" })
  end)

  it("and an index on the same columns are told apart", function()
    local err = breaks([[create table t (a, b, constraint key_of_t primary key (a, b),
      constraint pair unique (b, a)) without rowid;
      create unique index beside on t (a, b); insert into t values (1, 2)]],
      "insert into t values (1, 2)")
    -- Which of them SQLite looks at first is its own affair.
    local name = { ["primary_key a"] = "key_of_t", ["unique a"] = "beside",
      ["unique b"] = "pair" }
    assert.equal(name[err.constraint_kind .. " " .. err.column], err.constraint)
  end)

  it("NOT NULL is named by its column", function()
    local err = breaks("create table t (a not null, b)", "insert into t (b) values (1)")
    check(err, "SQLITE_CONSTRAINT_NOTNULL", "not_null", nil, "t", { "a" })
  end)

  it("CHECK is named by its name, or else by its text", function()
    local err = breaks("create table t (a constraint positive check (a > 0))",
      "insert into t values (0)")
    check(err, "SQLITE_CONSTRAINT_CHECK", "check", "positive", nil, nil)
    err = breaks("create table u (a check (a > 0))", "insert into u values (0)")
    check(err, "SQLITE_CONSTRAINT_CHECK", "check", "a > 0", nil, nil)
  end)

  it("FOREIGN KEY is told as such, without a name", function()
    local err = breaks([[create table parent (id integer primary key);
      create table child (parent constraint of_parent references parent (id))]],
      "insert into child values (7)")
    check(err, "SQLITE_CONSTRAINT_FOREIGNKEY", "foreign_key", nil, nil, nil)
  end)

  it("of a temporary table is named", function()
    local err = breaks([[create temp table t (a constraint seen_once unique);
      insert into t values (1)]], "insert into t values (1)")
    check(err, "SQLITE_CONSTRAINT_UNIQUE", "unique", "seen_once", "t", { "a" })
  end)

  it("of more columns than are looked at is told without its name", function()
    local names = {}
    for i = 1, 40 do names[i] = "c" .. i end
    local list = table.concat(names, ", ")
    local err = breaks(("create table t (%s, constraint wide unique (%s)); "
      .. "insert into t values (%s)"):format(list, list, ("1, "):rep(39) .. "1"),
      ("insert into t values (%s)"):format(("1, "):rep(39) .. "1"))
    assert.equal("unique", err.constraint_kind)
    assert.equal("t", err.table)
    assert.is_nil(err.constraint)
  end)

  it("that a function of the program stands in is looked up without it", function()
    local own = moonbase.open("sqlite::memory:", {
      collations = { nocase = function(a, b) return a < b and -1 or a > b and 1 or 0 end } })
    own:exec "create table t (a constraint by_function unique collate nocase)"
    own:exec "insert into t values ('a')"
    local err = expect.raised("ConstraintError", nil, own.exec, own, "insert into t values ('a')")
    assert.equal("by_function", err.constraint)
    own:close()
  end)

  it("of a STRICT table is a wrong type of a value", function()
    local err = breaks("create table t (i integer) strict", "insert into t values ('x')")
    check(err, "SQLITE_CONSTRAINT_DATATYPE", nil, nil, nil, nil)
    assert.equal("cannot store TEXT value in INTEGER column t.i", err.message)
  end)

  it("in a trigger carries the trigger's message, and does what RAISE says", function()
    conn:exec_script [[create table t (a);
      create trigger guard before insert on t begin
        select case new.a when 'abort' then raise(abort, 'aborted') when 'fail' then
          raise(fail, 'failed') when 'ignore' then raise(ignore) end;
      end;
      create trigger undo before insert on t when new.a = 'rollback' begin
        select raise(rollback, 'rolled back');
      end;]]
    for word, message in pairs { abort = "aborted", fail = "failed", rollback = "rolled back" } do
      local err = expect.raised("ConstraintError", nil, conn.exec, conn,
        "insert into t values (?)", word)
      check(err, "SQLITE_CONSTRAINT_TRIGGER", nil, nil, nil, nil)
      assert.equal(message, err.message)
    end
    assert.equal(0, conn:exec("insert into t values ('ignore')"))

    -- FAIL keeps the rows before the failing one, ABORT undoes them.
    expect.raised("ConstraintError", "failed", conn.exec, conn,
      "insert into t values ('kept'), ('fail')")
    expect.raised("ConstraintError", "aborted", conn.exec, conn,
      "insert into t values ('undone'), ('abort')")
    assert.same({ "kept" }, conn:query_column "select a from t")

    -- ROLLBACK ends the transaction, and the next statement says so.
    local tx = conn:begin()
    tx:exec "insert into t values ('lost')"
    local err = expect.raised("ConstraintError", "rolled back", tx.exec, tx,
      "insert into t values ('rollback')")
    assert.is_true(err.transaction_dead)
    expect.raised("EngineError", "rolled back", tx.exec, tx, "insert into t values ('more')")
    tx:rollback()
    assert.same({ "kept" }, conn:query_column "select a from t")
  end)

  it("obeys the statement's conflict clause", function()
    conn:exec "create table t (a unique, b)"
    conn:exec "insert into t values (1, 'first')"
    assert.equal(0, conn:exec "insert or ignore into t values (1, 'second')")
    assert.equal(1, (conn:exec "insert or replace into t values (1, 'third')"))
    assert.equal("third", conn:query_value "select b from t")
    expect.raised("ConstraintError", nil, conn.exec, conn,
      "insert or fail into t values (2, 'kept'), (1, 'fourth')")
    assert.equal(2, conn:query_value "select count(*) from t")
    local tx = conn:begin()
    tx:exec "insert into t values (3, 'lost')"
    local err = expect.raised("ConstraintError", nil, tx.exec, tx,
      "insert or rollback into t values (1, 'fifth')")
    assert.equal("unique", err.constraint_kind)
    assert.is_true(err.transaction_dead)
    tx:rollback()
    assert.equal(2, conn:query_value "select count(*) from t")
  end)
end)
