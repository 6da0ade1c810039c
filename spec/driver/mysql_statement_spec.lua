-- How MySQL's statements are run: preparing, the limit of the server, what cannot be prepared,
-- schema changes, open rows, cursors, several results, what is left early, cancelling.
local moonbase = require "moonbase"
local expect = require "spec.support.expect"
local now = require "moonbase.core".now
local mysql = require "spec.support.mysql"
local proxy = require "spec.support.proxy"
local quirks = require "spec.support.mysql_quirks"

local series = quirks.sql.series

-- How many statements all sessions have prepared.
local function prepared(server)
  return tonumber(server:sql "show global status like 'prepared_stmt_count'":match "%d+")
end

local function session_status(conn, name)
  local _, value = conn:query_values("show session status like '" .. name .. "'")
  return tonumber(value)
end

describe("A statement of MySQL", function()
  local server, url, db

  before_each(function()
    server = mysql.shared()
    url = server:fresh()
    db = moonbase.open(url)
    db:exec "create table item (id integer primary key, big bigint unsigned, name varchar(20))"
    db:exec("insert into item select i, i, concat('n', i) from (" .. series .. ") s", 1000)
  end)

  after_each(function() db:close() end)

  it("is prepared once for many runs", function()
    local conn = db:connect()
    for id = 1, 3 do
      assert.equal("n" .. id, conn:query_value("select name from item where id = ?", id))
    end
    local before = session_status(conn, "com_stmt_prepare")
    for id = 1, 20 do
      assert.equal("n" .. id, conn:query_value("select name from item where id = ?", id))
    end
    assert.is_true(session_status(conn, "com_stmt_prepare") - before <= 1)
    conn:close()
  end)

  it("is prepared at once where that is asked for, and a mistake is raised there", function()
    local conn = db:connect()
    local statement = conn:prepare "select name from item where id = :id"
    assert.equal("n7", statement:query_value { id = 7 })
    assert.equal("name", statement:columns()[1].name)
    statement:close()
    expect.raised("SyntaxError", nil, conn.prepare, conn, "select missing from item")
    conn:close()
  end)

  it("costs one trip when it is prepared, and a transaction that runs nothing none", function()
    local network = proxy.start(server.port)
    local other = moonbase.open(server:tcp_url(nil, { port = network.port, tls = "off" }))
    local conn = other:connect()
    local function trips(fn)
      local before = tonumber(network:tell "trips")
      fn()
      return tonumber(network:tell "trips") - before
    end
    local function one() conn:query_value("select name from item where id = ?", 7) end
    local ok, err = pcall(function()
      one()
      one()
      for run = 3, 10 do assert.equal(1, trips(one), "run " .. run) end
      assert.equal(0, trips(function() conn:transaction(function() end) end))
      assert.is_true(trips(function()
        conn:transaction(function(tx) tx:query_value("select name from item where id = ?", 7) end)
      end) <= 3)
    end)
    conn:close()
    other:close()
    network:close()
    if not ok then error(err, 0) end
  end)

  it("uses the index of a column for an integer and for a text", function()
    local conn = db:connect()
    local explain = server.is_mariadb and "explain" or "explain format = traditional"
    conn:exec "create index item_name on item (name)"
    conn:exec "create index item_big on item (big)"
    for column, value in pairs { id = 7, big = "7", name = "n7" } do
      for _ = 1, 3 do
        local row = conn:query_row(explain .. " select * from item where " .. column .. " = ?",
          value)
        assert.is_truthy(row.key, column)
      end
    end
    conn:close()
  end)

  it("follows its table, unseen", function()
    local conn = db:connect()
    local text = "select * from item where id = ?"
    for _ = 1, 3 do assert.is_nil(conn:query_row(text, 1).extra) end
    db:exec "alter table item add column extra integer default 5"
    for _ = 1, 2 do assert.equal(5, conn:query_row(text, 1).extra) end
    db:exec "alter table item modify extra varchar(10)"
    for _ = 1, 2 do assert.equal("5", conn:query_row(text, 1).extra) end
    db:exec "alter table item drop column extra"
    for _ = 1, 2 do assert.is_nil(conn:query_row(text, 1).extra) end
    conn:close()
  end)

  it("that the session has forgotten is prepared again, unseen", function()
    local single = moonbase.open(url, { pool = { max = 1, }, })
    for i = 1, 6 do
      local conn = single:connect()
      assert.equal("n" .. i, conn:query_value("select name from item where id = ?", i))
      conn:exec "set @a = 1" -- so that it is reset
      conn:close()
    end
    assert.equal(1, single:stats().created)
    single:close()
  end)

  it("is closed on the server when it leaves the cache", function()
    local other = moonbase.open(url, { statement_cache = 3 })
    local conn = other:connect()
    local before = prepared(server)
    for i = 1, 30 do
      for _ = 1, 3 do conn:query_value("select " .. i .. " + ?", 1) end
    end
    assert.is_true(prepared(server) - before <= 4)
    conn:close()
    other:close()
    local start = now()
    repeat until prepared(server) <= before or now() - start > 5
    assert.is_true(prepared(server) <= before)
  end)

  it("works when the server has prepared as many as it may", function()
    local before = prepared(server)
    server:sql("set global max_prepared_stmt_count = " .. before + 5)
    local ok, err = pcall(function()
      local conns = { db:connect(), db:connect() }
      for i = 1, 20 do
        for _, conn in ipairs(conns) do
          for _ = 1, 3 do
            assert.equal(i + 1, conn:query_value("select " .. i .. " + ?", 1))
            assert.equal("a'\\", conn:query_value("select ?, " .. i, "a'\\"))
          end
        end
      end
      for i = 1, 20 do assert.equal(1, (conns[1]:exec("update item set name = ? where id = ?",
        "it's " .. i, i))) end
      for _, conn in ipairs(conns) do conn:close() end
    end)
    server:sql "set global max_prepared_stmt_count = 16382"
    if not ok then error(err, 0) end
    assert.equal("it's 20", db:query_value "select name from item where id = 20")
  end)

  it("that cannot be prepared is run as text, in every method", function()
    local conn = db:connect()
    for _ = 1, 3 do
      conn:exec "create procedure p() begin select 1; end"
      conn:exec "drop procedure p"
      conn:exec "lock tables item write"
      conn:exec "unlock tables"
      conn:exec "use moonbase"
      conn:exec "start transaction"
      conn:exec "rollback"
      assert.equal("item", conn:query_value "show tables")
      assert.is_truthy(conn:query_row "show create table item"["Create Table"])
      assert.is_true(#conn:query_all "show variables" > 100)
      assert.is_true(#conn:query_all "explain select * from item" > 0)
      assert.equal("status", conn:query_row "check table item".Msg_type)
      conn:exec "xa start 'x'"
      conn:exec "xa end 'x'"
      conn:exec "xa rollback 'x'"
    end
    conn:close()
    assert.equal(1, db:stats().created)
  end)

  it("gives the id of an insert that has generated one, and matched rows", function()
    db:exec "create table made (id bigint auto_increment primary key, name varchar(10) unique)"
    local insert = "insert into made (name) values (?)"
    for i = 1, 4 do
      assert.same({ 1, i }, { db:exec(insert, "n" .. i) })
    end
    assert.same({ 3, 5 }, { db:exec "insert into made (name) values ('a'), ('b'), ('c')" })
    assert.same({ 1, 100 }, { db:exec "insert into made values (100, 'd')" })
    assert.same({ 1 }, { db:exec "update item set name = 'x' where id = 1" })
    assert.same({ 1 }, { db:exec "update item set name = 'x' where id = 1" })
    assert.same({ 0 }, { db:exec "update item set name = 'x' where id = -1" })
    assert.same({ 1 }, { db:exec "delete from item where id = 1" })
    assert.equal("n1", db:query_value "select name from made where id = 1")
  end)

  it("may return rows where the server knows how", function()
    local can = db:capability().returning
    assert.equal(server.is_mariadb, can)
    if not can then return end
    db:exec "create table made (id bigint auto_increment primary key, name varchar(10))"
    for i = 1, 3 do
      assert.equal(i, db:query_value("insert into made (name) values (?) returning id", "x"))
    end
    assert.same({ 1, 2, 3 }, db:query_column "delete from made returning id")
    assert.equal(0, db:query_value "select count(*) from made")
  end)

  it("with a second statement in one text is refused, and nothing of it is run", function()
    expect.raised("UsageError", "more than one statement", db.exec, db,
      "delete from item; delete from item")
    local plain = db:with{ placeholders = false }
    assert.is_false((pcall(plain.exec, plain, "delete from item; delete from item")))
    assert.equal(1000, db:query_value "select count(*) from item")
  end)

  it("may have comments that the server runs, and words of its own", function()
    assert.equal(2, db:query_value "select 1 /*! + 1 */")
    assert.equal("?", db:query_value "select '?' # and ?\n")
    assert.equal("a?b", db:query_value "select `a?b` from (select 'a?b' as `a?b`) t")
    assert.equal(7, db:query_value("select @a := ?", 7))
    assert.equal("\\", db:query_value "select '\\\\'")
  end)

  it("in a script may be the body of a routine, behind DELIMITER or not", function()
    db:exec_script [[
      create procedure one(n integer) begin insert into item values (n, n, ';'); end;
      delimiter //
      create procedure two(n integer) begin
        call one(n); -- ; //
        call one(n + 1);
      end//
      delimiter ;
      call two(5000);]]
    assert.equal(2, db:query_value "select count(*) from item where name = ';'")
  end)
end)

describe("Rows of MySQL", function()
  local server, url, db

  before_each(function()
    server = mysql.shared()
    url = server:fresh()
    db = moonbase.open(url)
    db:exec "create table item (id integer primary key, name varchar(20))"
    db:exec("insert into item select i, concat('n', i) from (" .. series .. ") s", 1000)
  end)

  after_each(function() db:close() end)

  -- The most memory that this process has ever had, in KB.
  local function resident()
    for line in io.lines "/proc/self/status" do
      local kilobytes = line:match "^VmHWM:%s*(%d+)"
      if kilobytes then return tonumber(kilobytes) end
    end
  end

  local wide = "select a.id, repeat('x', 100) as t from item a, item b where a.id <= "
  for name, text in pairs { ["with a parameter"] = wide .. "?", ["without one"] = wide .. 300 } do
    it("stream, " .. name .. ": memory does not grow with them", function()
      local n = 0
      local function count() n = n + 1 end
      db:query(wide .. 1):each(count)
      collectgarbage()
      local before = resident()
      n = 0
      if text == wide .. 300 then
        db:query(text):each(count)
      else
        db:query(text, 300):each(count)
      end
      assert.equal(300000, n)
      -- A sanitizer that is loaded before keeps what was freed.
      if not os.getenv "LD_PRELOAD" then
        assert.is_true(resident() - before < 16000, resident() - before .. " KB")
      end
    end)
  end

  it("come before the last one is there", function()
    local start = now()
    local rows = db:query [[select id, repeat('x', 10000), if(id > 990, sleep(0.05), 0)
      from item order by id]]
    assert.equal(1, rows:next().id)
    assert.is_true(now() - start < 0.4)
    rows:close()
  end)

  it("raise what goes wrong in the middle of them, where it happens", function()
    local conn = db:connect()
    for _ = 1, 3 do
      local got = 0
      local err = expect.raised("DataError", nil, function()
        for row in conn:query [[select id, repeat('x', 1000),
          if(id = 500, 9223372036854775807 + id, 0) from item order by id]] do
          got = row.id
        end
      end)
      assert.equal(1690, err.native_code)
      assert.is_true(got > 300 and got < 500, tostring(got))
      assert.equal(1, conn:query_value "select 1")
    end
    conn:close()
  end)

  it("stay readable while the connection runs something else", function()
    local conn = db:connect()
    local rows = conn:query "select id, repeat('x', 100) as t from item order by id"
    assert.equal(1, rows:next().id)
    conn:exec "update item set name = 'x'"
    conn:exec "delete from item where id > 500"
    local second = conn:query "select id from item order by id"
    second:next()
    assert.equal(999, #rows:all())
    assert.equal(499, #second:all())
    assert.equal(500, conn:query_value "select count(*) from item")
    conn:close()
  end)

  it("that are left do not undo what the statement does", function()
    if not server.is_mariadb then return end
    for read = 0, 1 do
      local before = db:query_value "select count(*) from item"
      local rows = db:query("insert into item select i + ?, 'y' from (" .. series
        .. ") s returning id, name", before + 10000, 5000)
      for _ = 1, read do rows:next() end
      rows:close()
      assert.equal(before + 5000, db:query_value "select count(*) from item")
    end
    db:transaction(function(tx)
      tx:query "delete from item returning *":close()
      assert.equal(0, tx:query_value "select count(*) from item")
    end)
    assert.equal(0, db:query_value "select count(*) from item")
  end)

  it("of a long read that are left are cancelled, and soon, inside a transaction too", function()
    local conn = db:connect()
    -- All of it would be 10 GB.
    local text = "select a.id, repeat('x', 10000) from item a, item b"
    local start = now()
    local rows = conn:query(text)
    rows:next()
    rows:close()
    assert.is_true(now() - start < 2, tostring(now() - start))
    assert.equal(1, conn:query_value "select 1")
    conn:transaction(function(tx)
      tx:exec "update item set name = 'kept' where id = 1"
      start = now()
      local left = tx:query(text)
      left:next()
      left:close()
      assert.is_true(now() - start < 2, tostring(now() - start))
      tx:exec "update item set name = 'kept' where id = 2"
    end)
    assert.equal(2, conn:query_value "select count(*) from item where name = 'kept'")
    conn:close()
    assert.equal(1, db:stats().created)
  end)

  describe("of a cursor", function()
    it("are fetched in parts, in a transaction and outside of one, beside other statements",
      function()
        for _, x in ipairs { db:connect(), db:begin() } do
          local n, sum = 0, 0
          for row in x:with{ fetch_size = 100 }
            :query("select id from item where id > ? order by id", 0) do
            n, sum = n + 1, sum + row.id
            if n == 150 then assert.equal(1000, x:query_value "select count(*) from item") end
          end
          assert.equal(1000, n)
          assert.equal(500500, sum)
          if x.rollback then x:rollback() else x:close() end
        end
      end)

    it("may be several at once, and be left", function()
      local conn = db:connect()
      local x = conn:with{ fetch_size = 10 }
      local first = x:query "select id from item order by id"
      local second = x:query "select id from item order by id desc"
      for i = 1, 35 do
        assert.equal(i, first:next().id)
        assert.equal(1001 - i, second:next().id)
      end
      first:close()
      assert.equal(965, second:next().id)
      second:close()
      assert.equal(1, conn:query_value "select 1")
      conn:close()
    end)

    it("are the same without one, before and after", function()
      local conn = db:connect()
      local text = "select id, name from item order by id"
      for _, size in ipairs { 0, 7, 0, 1000, 5000, 0 } do
        local x = size > 0 and conn:with{ fetch_size = size } or conn
        local n = 0
        for row in x:query(text) do
          n = n + 1
          assert.equal("n" .. n, row.name)
        end
        assert.equal(1000, n)
      end
      assert.equal(1, (conn:with{ fetch_size = 10 }:exec "delete from item where id = 1"))
      conn:close()
    end)
  end)

  describe("of a CALL", function()
    before_each(function()
      db:exec_script [[
        create procedure several(n integer) begin
          select 1 as a;
          update item set name = 'called' where id <= n;
          select id, name from item where id <= n order by id;
          select 'last' as b, n as c;
        end;
        create procedure none(n integer) begin update item set name = 'none' where id <= n; end;
        create procedure fails() begin select 1 as a; signal sqlstate '45000'; end;
        create procedure doubles(inout n integer, out m integer) begin
          set n = n * 2; set m = n + 1; end]]
    end)

    it("come one result behind the other", function()
      local conn = db:connect()
      for _ = 1, 3 do
        local rows = conn:query("call several(?)", 3)
        assert.same({ { a = 1 } }, rows:all())
        assert.is_truthy(rows:next_result())
        assert.equal("id", rows:columns()[1].name)
        assert.same({ { id = 1, name = "called" }, { id = 2, name = "called" },
          { id = 3, name = "called" } }, rows:all())
        assert.is_truthy(rows:next_result())
        assert.same({ { b = "last", c = 3 } }, rows:all())
        while rows:next_result() do assert.same({}, rows:all()) end
        rows:close()
        assert.equal(1, conn:query_value "select 1")
      end
      conn:close()
    end)

    it("that are left, or not wanted, leave the connection usable", function()
      local conn = db:connect()
      for _ = 1, 3 do
        local rows = conn:query("call several(?)", 500)
        rows:next()
        rows:close()
        rows = conn:query("call several(?)", 500)
        rows:next()
        rows:next_result()
        rows:next()
        expect.raised("UsageError", "has further results", conn.query_value, conn, "select 1")
        rows:close()
        assert.equal(1, conn:query_value("call several(?)", 2))
        conn:exec("call several(?)", 2)
        conn:exec("call none(?)", 5)
        assert.equal(5, conn:query_value "select count(*) from item where name = 'none'")
      end
      conn:close()
      assert.equal(1, db:stats().created)
    end)

    it("may fail behind the first result", function()
      local conn = db:connect()
      for _ = 1, 3 do
        local rows = conn:query "call fails()"
        local ok, err = pcall(function()
          assert.same({ { a = 1 } }, rows:all())
          rows:next_result()
        end)
        assert.is_false(ok)
        assert.equal(1644, err.native_code)
        rows:close()
        expect.raised("EngineError", nil, conn.exec, conn, "call fails()")
        assert.equal(1, conn:query_value "select 1")
      end
      conn:close()
    end)

    it("may have variables for what it gives out", function()
      local conn = db:connect()
      conn:exec "set @n = 21"
      conn:exec "call doubles(@n, @m)"
      assert.same({ 42, 43 }, { conn:query_values "select @n, @m" })
      conn:close()
    end)
  end)
end)

describe("A time-out on MySQL", function()
  local server, db

  before_each(function()
    server = mysql.shared()
    db = moonbase.open(server:fresh())
    db:exec "create table item (id integer primary key, name varchar(20))"
    db:exec("insert into item select i, 'a' from (" .. series .. ") s", 1000)
  end)

  after_each(function() db:close() end)

  it("stops the statement at the server, and the session stays", function()
    local conn = db:connect()
    local id = conn:query_value "select connection_id()"
    local x = conn:with{ timeout = 0.1 }
    for _, text in ipairs { "select count(*), sleep(10) from item, item a",
      "update item set name = sleep(1)", quirks.sql.endless } do
      local start = now()
      local err = expect.raised("TimeoutError", nil, x.exec, x, text)
      assert.is_true(now() - start < 2)
      assert.is_false(err.connection_dead)
      repeat -- it tidies up behind its answer
        local command = db:query_value(
          "select command from information_schema.processlist where id = ?", id)
      until command == "Sleep" or now() - start > 2
      assert.is_true(now() - start < 2)
      assert.equal(id, conn:query_value "select connection_id()")
    end
    assert.equal(1000, db:query_value "select count(*) from item where name = 'a'")
    conn:close()
  end)

  it("leaves a transaction as it was before the statement", function()
    db:transaction(function(tx)
      tx:exec "update item set name = 'b' where id = 1"
      local x = tx:with{ timeout = 0.1 }
      expect.raised("TimeoutError", nil, x.exec, x, "update item set name = sleep(1)")
      assert.equal(1, tx:query_value "select count(*) from item where name = 'b'")
    end)
    assert.equal(1, db:query_value "select count(*) from item where name = 'b'")
  end)

  it("ends the wait for a lock", function()
    local holder = db:begin()
    holder:exec "update item set name = 'held'"
    local x = db:with{ timeout = 0.2 }
    local start = now()
    local err = expect.raised("TimeoutError", nil, x.exec, x, "update item set name = 'c'")
    assert.is_true(now() - start < 1)
    assert.is_false(err.connection_dead)
    holder:rollback()
    assert.equal(1000, (db:exec "update item set name = 'd'"))
  end)

  it("and a cancel at the last moment never hit the statement that follows", function()
    local conn = db:connect()
    local hits, late = 0, 0
    for _ = 1, 60 do
      local x = conn:with{ timeout = 0.005 }
      local ok, err = pcall(x.exec, x, "select sleep(0.0001) from item limit 50")
      if ok then late = late + 1 end
      -- A busy machine may take longer than cancel_grace.
      if not ok and err.connection_dead then conn = db:connect() end
      if not pcall(conn.query_value, conn, "select sleep(0)") then hits = hits + 1 end
    end
    assert.equal(0, hits)
    assert.is_true(late < 60)
    conn:close()
  end)

  it("in the middle of rows frees its caller", function()
    local conn = db:connect()
    local rows = conn:with{ timeout = 0.2 }
      :query "select id, repeat('x', 10000), if(id > 500, sleep(1), 0) from item order by id"
    local got = 0
    local err = expect.raised("TimeoutError", nil, function()
      for _ in rows do got = got + 1 end
    end)
    assert.is_true(got > 100 and got <= 500, tostring(got))
    rows:close()
    if not err.connection_dead then assert.equal(1, conn:query_value "select 1") end
    conn:close()
  end)

  it("frees its caller from a network that is silent, after the time of grace", function()
    local network = proxy.start(server.port)
    local other = moonbase.open(server:tcp_url(nil, { port = network.port, cancel_grace = 0.2,
      timeout = 0.1 }))
    local conn = other:connect()
    network:tell "stop"
    local start = now()
    local err = expect.raised("TimeoutError", nil, conn.query_value, conn, "select 1")
    local took = now() - start
    network:tell "pass"
    network:close()
    assert.is_true(took >= 0.29 and took < 0.8, tostring(took))
    assert.is_true(err.connection_dead)
    conn:close()
    other:close()
  end)

  it("by a token stops it too", function()
    local stop = moonbase.cancellation()
    local x = db:with{ cancel = stop, timeout = 5 }
    stop:cancel "enough"
    expect.raised("CanceledError", nil, x.exec, x, "select sleep(10) from item")
    assert.equal(1, db:query_value "select 1")
  end)
end)
