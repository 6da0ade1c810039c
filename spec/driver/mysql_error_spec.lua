-- Numbers of MySQL's errors as classes: each raised by SIGNAL under its number, and what a
-- program can provoke for real.
local moonbase = require "moonbase"
local child = require "spec.support.child"
local expect = require "spec.support.expect"
local files = require "spec.support.files"
local mysql = require "spec.support.mysql"
local quirks = require "spec.support.mysql_quirks"

-- Numbers that a statement may end with, and the classes that they become.
local numbers = {
  { 1213, "SerializationError", "retryable" },
  { 1020, "SerializationError", "retryable" },
  { 1792, "ReadOnlyError" },
  { 1290, "ReadOnlyError" },
  { 1836, "ReadOnlyError" },
  { 1062, "ConstraintError" },
  { 1586, "ConstraintError" },
  { 1048, "ConstraintError" },
  { 1364, "ConstraintError" },
  { 1216, "ConstraintError" },
  { 1217, "ConstraintError" },
  { 1451, "ConstraintError" },
  { 1452, "ConstraintError" },
  { 3819, "ConstraintError" },
  { 4025, "ConstraintError" },
  { 1044, "PermissionError" },
  { 1045, "PermissionError" },
  { 1142, "PermissionError" },
  { 1143, "PermissionError" },
  { 1227, "PermissionError" },
  { 1370, "PermissionError" },
  { 1317, "CanceledError" },
  { 1028, "CanceledError" },
  { 3024, "TimeoutError" },
  { 1969, "TimeoutError" },
  { 1205, "TimeoutError", "retryable" },
  { 3572, "TimeoutError", "retryable" },
  { 1040, "ResourceError" },
  { 1203, "ResourceError" },
  { 1037, "ResourceError" },
  { 1041, "ResourceError" },
  { 1114, "ResourceError" },
  { 1264, "DataError" },
  { 1265, "DataError" },
  { 1366, "DataError" },
  { 1406, "DataError" },
  { 1292, "DataError" },
  { 1365, "DataError" },
  { 1411, "DataError" },
  { 1690, "DataError" },
  { 1064, "SyntaxError" },
  { 1146, "SyntaxError" },
  { 1054, "SyntaxError" },
  { 1305, "SyntaxError" },
  { 1105, "EngineError" },
  { 1644, "EngineError" },
  { 9999, "EngineError" },
}

-- Those that say that the session has come to its end.
local endings = { 1053, 1927, 3169, 4031, 1152, 1153, 1158, 1161, 1184 }

local function signal(number)
  return ("signal sqlstate '45000' set mysql_errno = %d, message_text = 'said so'"):format(number)
end

describe("An error of MySQL", function()
  local server, db

  before_each(function()
    server = mysql.shared()
    db = moonbase.open(server:fresh())
    db:exec_script [[
      create table item (id integer auto_increment primary key, name varchar(20) not null,
        price decimal(10, 2), code varchar(3), unique key item_code (code),
        constraint price_is_positive check (price > 0));
      create table part (item_id integer, n integer, unique key part_place (item_id, n),
        constraint part_of_item foreign key (item_id) references item (id))]]
  end)

  after_each(function()
    db:close()
    files.clean()
  end)

  local function fails(class, text, ...)
    return expect.raised(class, nil, db.exec, db, text, ...)
  end

  for _, one in ipairs(numbers) do
    it("of number " .. one[1] .. " is a " .. one[2], function()
      local err = fails(one[2], signal(one[1]))
      assert.equal(one[1], err.native_code)
      assert.equal("45000", err.code)
      assert.equal("said so", err.message)
      assert.equal("mysql", err.driver)
      assert.equal(one[3] == "retryable", err.retryable)
      assert.is_true(err.sent)
      assert.is_false(err.connection_dead)
      assert.is_false(err.commit_unknown)
      assert.equal(1, db:stats().size)
    end)
  end

  for _, number in ipairs(endings) do
    it("of number " .. number .. " is a lost connection", function()
      local err = fails("ConnectionLostError", signal(number))
      assert.equal(number, err.native_code)
      assert.is_true(err.connection_dead)
      assert.equal(1, db:query_value "select 1")
    end)
  end

  it("has its SQLSTATE", function()
    assert.equal("42S02", fails("SyntaxError", "select * from missing").code)
    assert.equal("23000", fails("ConstraintError", "insert into item (name) values (null)").code)
  end)

  it("tells constraint, table and columns", function()
    db:exec "insert into item (id, name, code) values (1, 'pen', 'P'), (2, 'ink', 'I')"
    local err = fails("ConstraintError", "insert into item (id, name, code) values (3, 'x', 'P')")
    assert.equal(1062, err.native_code)
    assert.equal("unique", err.constraint_kind)
    assert.equal("item_code", err.constraint)
    assert.is_nil(tostring(err):find("moonbase.item", 1, true))

    err = fails("ConstraintError", "insert into item (id, name) values (1, 'x')")
    assert.equal("primary_key", err.constraint_kind)
    assert.equal("PRIMARY", err.constraint)

    err = fails("ConstraintError", "insert into part values (77, 1)")
    assert.equal(1452, err.native_code)
    assert.equal("foreign_key", err.constraint_kind)
    assert.equal("part_of_item", err.constraint)
    assert.equal("part", err.table)
    assert.same({ "item_id" }, err.columns)

    db:exec "insert into part values (1, 1)"
    err = fails("ConstraintError", "delete from item where id = 1")
    assert.equal(1451, err.native_code)
    assert.equal("foreign_key", err.constraint_kind)
    assert.equal("part_of_item", err.constraint)

    err = fails("ConstraintError", "insert into part values (1, 1)")
    assert.equal("part_place", err.constraint)

    err = fails("ConstraintError", "insert into item (name, price) values ('x', -1)")
    assert.equal("check", err.constraint_kind)
    assert.equal("price_is_positive", err.constraint)

    err = fails("ConstraintError", "update item set name = null where id = 1")
    assert.equal(1048, err.native_code)
    assert.equal("not_null", err.constraint_kind)
    assert.equal("name", err.column)
    err = fails("ConstraintError", "insert into item (id) values (9)")
    assert.equal(1364, err.native_code)
    assert.equal("not_null", err.constraint_kind)
    assert.equal("name", err.column)
  end)

  it("names a constraint with any name", function()
    db:exec [[create table odd (a integer, b varchar(20),
      unique key `it's a "key" for x` (a), unique key `b.c` (b))]]
    db:exec "insert into odd values (1, 'x'' for key ''y')"
    assert.equal([[it's a "key" for x]], fails("ConstraintError",
      "insert into odd values (1, 'z')").constraint)
    assert.equal("b.c", fails("ConstraintError",
      "insert into odd values (2, 'x'' for key ''y')").constraint)
  end)

  it("of a permission", function()
    assert.equal(1142, fails("PermissionError", "select * from mysql.user").native_code)
    assert.equal(1044, fails("PermissionError", "create database other_one").native_code)
    assert.equal(1227, fails("PermissionError", "set global max_connections = 20").native_code)
  end)

  it("of a write where only reads may be", function()
    local err = expect.raised("ReadOnlyError", nil, db.transaction, db, function(tx)
      tx:exec "insert into item (name) values ('x')"
    end, { read_only = true })
    assert.equal(1792, err.native_code)
    server:sql "set global read_only = on"
    local ok, refused = pcall(db.exec, db, "insert into item (name) values ('x')")
    server:sql "set global read_only = off"
    assert.is_false(ok)
    assert.equal("ReadOnlyError", refused.class)
    assert.equal(1290, refused.native_code)
  end)

  it("of values that do not fit", function()
    assert.equal(1406, fails("DataError",
      "insert into item (name, code) values ('x', 'four')").native_code)
    assert.equal(1264, fails("DataError",
      "insert into item (name, price) values ('x', 1e30)").native_code)
    assert.equal(1366, fails("DataError",
      "insert into item (name, id) values ('x', 'y')").native_code)
    assert.equal(1690, fails("DataError", "select 9223372036854775807 + 1").native_code)
    assert.equal(1365, fails("DataError",
      "insert into item (name, price) values ('x', 1 / 0)").native_code)
  end)

  it("of a full table", function()
    local conn = db:connect()
    conn:exec "set max_heap_table_size = 16384"
    conn:exec "create table small (t varchar(1000)) engine = memory"
    local err
    for _ = 1, 1000 do
      local ok, refused = pcall(conn.exec, conn, "insert into small values (repeat('x', 1000))")
      if not ok then
        err = refused
        break
      end
    end
    assert.equal("ResourceError", err.class)
    assert.equal(1114, err.native_code)
    conn:close()
  end)

  it("of a deadlock may be tried again, and has ended the transaction", function()
    db:exec "insert into item (id, name) values (1, 'a'), (2, 'b')"
    local other = child.start([[
      local moonbase = require "moonbase"
      local db = moonbase.open(...)
      local tx = db:begin()
      tx:exec "update item set name = 'x' where id = 2"
      print "locked"
      io.stdout:flush()
      io.read()
      local ok, err = pcall(tx.exec, tx, "update item set name = 'x' where id = 1")
      print(ok, not ok and err.class, not ok and err.native_code)
    ]], server:url())
    assert.equal("locked", other:hear())
    local tx = db:begin()
    tx:exec "update item set name = 'y' where id = 1"
    other:tell "go"
    -- One of the two is the victim.
    local ok, err = pcall(tx.exec, tx, "update item set name = 'y' where id = 2")
    if not ok then
      assert.equal("SerializationError", err.class)
      assert.equal(1213, err.native_code)
      assert.is_true(err.retryable)
      assert.is_true(err.transaction_dead)
      -- Nothing runs by itself behind it.
      expect.raised("EngineError", nil, tx.exec, tx, "update item set name = 'z'")
    end
    tx:rollback()
    local said = other:finish()
    if ok then assert.match("false\tSerializationError\t1213", said) end
    assert.equal(0, db:query_value "select count(*) from item where name = 'z'")
  end)

  it("of a lock that was waited for too long may be tried again, and ends the statement only",
    function()
      db:exec "insert into item (id, name) values (1, 'a'), (2, 'b')"
      local tx = db:begin()
      tx:exec "update item set name = 'c' where id = 1"
      local conn = db:connect()
      conn:exec "set innodb_lock_wait_timeout = 1"
      local second = conn:begin()
      second:exec "update item set name = 'd' where id = 2"
      local err = expect.raised("TimeoutError", nil, second.exec, second,
        "update item set name = 'd' where id = 1")
      assert.equal(1205, err.native_code)
      assert.is_true(err.retryable)
      assert.is_false(err.transaction_dead)
      assert.equal("d", second:query_value "select name from item where id = 2")
      second:rollback()
      err = fails("TimeoutError", "select * from item for update nowait")
      assert.equal(server.is_mariadb and 1205 or 3572, err.native_code)
      assert.is_true(err.retryable)
      conn:close()
      tx:rollback()
    end)

  it("of the server's own time-out is a TimeoutError", function()
    local conn = db:connect()
    local err
    if server.is_mariadb then
      conn:exec "set max_statement_time = 0.05"
      err = expect.raised("TimeoutError", nil, conn.query_value, conn, "select sleep(10)")
      assert.equal(1969, err.native_code)
      conn:exec "set max_statement_time = 0"
    else
      conn:exec "set max_execution_time = 50"
      err = expect.raised("TimeoutError", nil, conn.query_value, conn,
        "select count(*) from information_schema.collations a, information_schema.collations b, "
        .. "information_schema.collations c, information_schema.collations d")
      assert.equal(3024, err.native_code)
    end
    assert.is_false(err.connection_dead)
    assert.equal(1, conn:query_value "select 1")
    conn:close()
  end)

  it("of somebody else's KILL QUERY is a CanceledError", function()
    local other = child.start([[
      local moonbase = require "moonbase"
      local conn = moonbase.open((...)):connect()
      print(conn:query_value "select connection_id()")
      io.stdout:flush()
      local ok, err = pcall(conn.exec, conn, "insert into item (name) " .. select(2, ...))
      print(ok, not ok and err.class, not ok and err.native_code, conn:query_value "select 1")
    ]], server:url(), quirks.sql.endless)
    local id = other:hear()
    repeat
      local busy = db:query_value(
        "select count(*) from information_schema.processlist where id = ? and info like 'insert%'",
        tonumber(id))
    until busy == 1
    server:sql("kill query " .. id)
    assert.equal("false\tCanceledError\t1317\t1\n", other:finish())
  end)

  it("of a session that is killed, or idles too long, is a lost connection",
    function()
      local conn = db:connect()
      server:sql("kill connection " .. conn:query_value "select connection_id()")
      local err = expect.raised("ConnectionLostError", nil, conn.exec, conn, "select 1")
      assert.is_true(err.connection_dead)
      expect.raised("ConnectionLostError", nil, conn.exec, conn, "select 1")
      conn:close()

      local other = moonbase.open(server:url())
      local witness = other:connect()
      conn = other:connect()
      conn:exec "set wait_timeout = 1"
      witness:query_value "select sleep(1.5)"
      err = expect.raised("ConnectionLostError", nil, conn.exec, conn, "select 1")
      assert.is_true(err.connection_dead)
      conn:close()
      assert.equal(1, witness:query_value "select 1")
      witness:close()
      assert.equal(1, other:query_value "select 1")
      -- Where the server says why, and the library listens, no other session is given up for it.
      if not server.is_mariadb and not other:capability().library_version:find "^3%." then
        assert.equal(4031, err.native_code)
        assert.equal(2, other:stats().created)
      end
      other:close()
    end)

  it("of parameters that are too large for the server is a DataError, and the session stays",
    function()
    server:sql "set global max_allowed_packet = 1048576"
    local small = moonbase.open(server:url())
    local ok, err = pcall(function()
      small:exec "create table large (data longblob)"
      for _ = 1, 3 do
        local refused = expect.raised("DataError", nil, small.exec, small,
          "insert into large values (?)", moonbase.blob(("x"):rep(3000000)))
        assert.is_false(refused.connection_dead)
        expect.raised("DataError", nil, small.exec, small,
          "insert into large values ('" .. ("x"):rep(3000000) .. "')")
        expect.raised("DataError", "statement 2", small.exec_script, small,
          "do 1; insert into large values ('" .. ("x"):rep(3000000) .. "')")
      end
      -- A transaction stays usable, and rows may be larger than what may be sent.
      small:transaction(function(tx)
        for _ = 1, 3 do
          tx:exec("insert into large values (?)", moonbase.blob(("x"):rep(700000)))
          expect.raised("DataError", nil, tx.exec, tx, "insert into large values (?)",
            moonbase.blob(("x"):rep(1048576)))
        end
        local three = tx:query_row [[
          select a.data as a, b.data as b from large a, large b limit 1]]
        assert.equal(1400000, #three.a + #three.b)
        tx:exec "delete from large"
      end)
      -- Up to the last byte that the server takes, and beyond.
      for size = 1048576 - 1200, 1048576, 100 do
        local taken, refused = pcall(small.exec, small, "insert into large values (?)",
          moonbase.blob(("x"):rep(size)))
        assert.is_true(taken or refused.class == "DataError", tostring(refused))
      end
      assert.is_true(small:query_value "select max(length(data)) from large" > 1046000)
      small:exec "delete from large"
      assert.equal(0, small:query_value "select count(*) from large")
      assert.equal(1, small:stats().created)
    end)
    server:sql "set global max_allowed_packet = 268435456"
    small:close()
    if not ok then error(err, 0) end
  end)

  it("of too many connections", function()
    local open = {}
    -- Who comes later may find no place, be it root.
    local root = moonbase.open(server:url("mysql", { user = "root" }))
    local admin = root:connect()
    admin:exec "set global max_connections = 10"
    local ok, err = pcall(function()
      for i = 1, 20 do
        open[i] = moonbase.open(server:url())
        open[i]:connect()
      end
    end)
    admin:exec "set global max_connections = 200"
    admin:close()
    root:close()
    for _, one in ipairs(open) do one:close() end
    assert.is_false(ok)
    assert.equal("ResourceError", err.class)
    assert.equal(1040, err.native_code)
  end)

  it("keeps long texts within bounds", function()
    local err = fails("SyntaxError", "selekt '" .. ("\226\130\172"):rep(100000) .. "'")
    assert.is_true(#err.message < 3000)
  end)
end)
