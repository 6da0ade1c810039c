-- How PostgreSQL's statements are run: trips, preparing, schema changes, plans, open rows,
-- cursors, what is left early, cancelling.
local moonbase = require "moonbase"
local expect = require "spec.support.expect"
local now = require "moonbase.core".now
local postgres = require "spec.support.postgres"
local proxy = require "spec.support.proxy"

-- The statements that the session has prepared: their texts, but for this one.
local prepared = "select statement from pg_prepared_statements where statement not like "
  .. "'%pg_prepared_statements%' order by statement"

describe("A statement of PostgreSQL", function()
  local server, url, db

  before_each(function()
    server = postgres.shared()
    url = server:fresh()
    db = moonbase.open(url)
    db:exec_script [[
      create table item (id integer primary key, big bigint, name text);
      insert into item select i, i, 'n' || i from generate_series(1, 10000) i;
      create index item_big on item (big);
      create index item_name on item (name);
      analyze item]]
  end)

  after_each(function() db:close() end)

  it("is prepared by its second run, not by its first", function()
    local conn = db:connect()
    assert.equal("n7", conn:query_value("select name from item where id = ?", 7))
    assert.same({}, conn:query_column(prepared))
    assert.equal("n8", conn:query_value("select name from item where id = ?", 8))
    assert.same({ "select name from item where id = $1" }, conn:query_column(prepared))
    conn:close()
  end)

  it("has sent nothing, not even BEGIN, when its values are refused", function()
    local text, good, bad = "select ?::jsonb::text", "1", "1\0"
    local list = "select ?::text[]::text"
    local function refused(tx, fn, ...)
      expect.raised("DataError", "zero byte", fn, ...)
      assert.equal("1", tx:query_value(text, good))
    end
    local conn = db:connect()
    for _ = 1, 3 do
      assert.equal("1", conn:query_value(text, good))
      assert.equal("{a}", conn:query_value(list, moonbase.array { "a" }))
    end
    for _, way in ipairs {
      function(tx) refused(tx, tx.query_value, tx, text, bad) end,
      function(tx)
        local some = tx:with{ fetch_size = 10 }
        refused(tx, some.query_value, some, text, bad)
      end,
      function(tx) refused(tx, tx.batch, tx, { { text, good }, { text, bad } }) end,
      function(tx) refused(tx, tx.query_value, tx, list, moonbase.array { "a\0" }) end,
    } do
      conn:transaction(way)
    end
    conn:close()
  end)

  it("is prepared at once where that is asked for", function()
    local conn = db:connect()
    local statement = conn:prepare "select name from item where id = :id"
    assert.same({ "select name from item where id = $1" }, conn:query_column(prepared))
    assert.equal("n7", statement:query_value { id = 7 })
    statement:close()
    conn:close()
  end)

  it("costs one trip, the first time and the tenth, with a transaction around it", function()
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
      one() -- whatever connecting has left to be done
      for run = 2, 10 do assert.equal(1, trips(one), "run " .. run) end
      assert.equal(1, trips(function() conn:query_value "select 1 + 1" end))
      assert.equal(2, trips(function()
        conn:transaction(function(tx) tx:exec "update item set name = 'x' where id = 1" end)
      end))
      assert.equal(0, trips(function() conn:transaction(function() end) end))
    end)
    conn:close()
    other:close()
    network:close()
    if not ok then error(err, 0) end
  end)

  it("uses the index of a column for an integer, whatever its size, and for a text", function()
    local conn = db:connect()
    conn:exec "set plan_cache_mode = force_generic_plan"
    for column, value in pairs { id = 7, big = 7, name = "n7" } do
      for _ = 1, 3 do
        local plan = table.concat(conn:query_column(
          "explain select * from item where " .. column .. " = ?", value), "\n")
        assert.match("Index", plan)
        assert.is_nil(plan:find("numeric", 1, true), plan)
      end
      assert.equal(7, conn:query_value("select id from item where " .. column .. " = ?", value))
    end
    conn:close()
  end)

  it("follows its table, unseen, when nothing is open around it", function()
    local conn = db:connect()
    local text = "select * from item where id = ?"
    for _ = 1, 3 do assert.is_nil(conn:query_row(text, 1).extra) end
    db:exec "alter table item add column extra integer default 5"
    assert.equal(5, conn:query_row(text, 1).extra)
    db:exec "alter table item alter column extra type text"
    assert.equal("5", conn:query_row(text, 1).extra)
    db:exec "alter table item drop column extra"
    assert.is_nil(conn:query_row(text, 1).extra)
    conn:close()
  end)

  it("that its table has left behind fails inside a transaction, which may be tried again",
    function()
      local conn, other = db:connect(), db:connect()
      local text = "select * from item where id = ?"
      for _ = 1, 3 do conn:query_row(text, 1) end
      local attempts = 0
      local extra = conn:transaction(function(tx)
        attempts = attempts + 1
        if attempts == 1 then
          other:exec "alter table item add column extra integer default 5"
          local err = expect.raised("EngineError", nil, tx.query_row, tx, text, 1)
          assert.is_true(err.retryable)
          error(err, 0)
        end
        return tx:query_row(text, 1).extra
      end, { retry = { attempts = 3 } })
      assert.equal(2, attempts)
      assert.equal(5, extra)
      conn:close()
      other:close()
    end)

  it("that the session has forgotten is prepared again, unseen", function()
    local conn = db:connect()
    local text = "select name from item where id = ?"
    for _ = 1, 3 do conn:query_value(text, 1) end
    conn:exec "deallocate all"
    assert.equal("n2", conn:query_value(text, 2))
    conn:exec "discard all"
    assert.equal("n3", conn:query_value(text, 3))
    conn:close()
  end)

  it("is closed on the server when it leaves the cache, without a trip of its own", function()
    local other = moonbase.open(url, { statement_cache = 3 })
    local conn = other:connect()
    for i = 1, 10 do
      for _ = 1, 2 do conn:query_value("select " .. i .. " + ?", 1) end
    end
    assert.is_true(#conn:query_column(prepared) <= 4)
    conn:close()
    other:close()
  end)

  it("longer than 16 KiB is not kept", function()
    local conn = db:connect()
    local text = "select 1 -- " .. ("x"):rep(17000)
    for _ = 1, 4 do assert.equal(1, conn:query_value(text)) end
    assert.same({}, conn:query_column(prepared))
    conn:close()
  end)

  it("is never prepared where the cache is off", function()
    local other = moonbase.open(url, { statement_cache = 0 })
    local conn = other:connect()
    for i = 1, 5 do
      assert.equal("n" .. i, conn:query_value("select name from item where id = ?", i))
    end
    assert.same({}, conn:query_column(prepared))
    -- A text with a backslash could mean something else to a type that is not known.
    expect.raised("UsageError", "moonbase.blob", conn.query_value, conn,
      "select name from item where name = ?", "\\x41")
    conn:transaction(function(tx)
      assert.equal("\\x41", tx:query_value("select ?::text", "\\x41"))
      assert.is_nil(tx:query_value("select name from item where name = ?", "\\x41"))
    end)
    conn:close()
    other:close()
  end)

  it("may have operators with a question mark, doubled", function()
    assert.is_true(db:query_value([[select '{"a": 1}'::jsonb ?? ?]], "a"))
    assert.is_true(db:query_value([[select '{"a": 1}'::jsonb ? $1]], "a"))
    assert.is_true(db:query_value([[select '{"a": 1}'::jsonb ?| array[:k]::text[] ]], { k = "a" }))
  end)

  it("leaves casts, slices and dollar quotes alone", function()
    assert.equal("?", db:query_value "select $tag$?$tag$")
    assert.same({ 2, 3 }, db:query_value("select (array[1, 2, 3])[?:3]", 2))
    assert.equal("7", db:query_value("select :n::integer::text", { n = 7 }))
  end)

  it("gives no generated id: RETURNING does", function()
    assert.same({ 1 }, { db:exec "insert into item (id) values (20000)" })
    assert.equal(20001, db:query_value "insert into item (id) values (20001) returning id")
  end)

  it("with several results in one text is refused, and nothing of it is run", function()
    expect.raised("UsageError", "more than one statement", db.exec, db,
      "delete from item; delete from item")
    local plain = db:with{ placeholders = false }
    assert.is_false((pcall(plain.exec, plain, "delete from item; delete from item")))
    assert.equal(10000, db:query_value "select count(*) from item")
  end)
end)

describe("Rows of PostgreSQL", function()
  local server, url, db

  before_each(function()
    server = postgres.shared()
    url = server:fresh()
    db = moonbase.open(url)
    db:exec "create table item (id integer primary key, name text)"
    db:exec "insert into item select i, 'n' || i from generate_series(1, 1000) i"
  end)

  after_each(function() db:close() end)

  -- The most memory that this process has ever had, in KB.
  local function resident()
    for line in io.lines "/proc/self/status" do
      local kilobytes = line:match "^VmHWM:%s*(%d+)"
      if kilobytes then return tonumber(kilobytes) end
    end
  end

  -- A sanitizer that is loaded before keeps what was freed.
  local function expect_less(growth, before)
    if os.getenv "LD_PRELOAD" then return end
    assert.is_true(resident() - before < growth, resident() - before .. " KB")
  end

  it("stream: memory does not grow with them", function()
    local text = "select i, repeat('x', 100) as t from generate_series(1, ?) i"
    db:query(text, 1000):each(function() end)
    collectgarbage()
    local before, n = resident(), 0
    db:query(text, 300000):each(function() n = n + 1 end)
    assert.equal(300000, n)
    expect_less(16000, before)
  end)

  it("of a few bytes each stream as well, many at a time from libpq 17 on", function()
    local conn = db:connect()
    local statement = conn:prepare "select i, -i as j from generate_series(1, ?::integer) i"
    for _, n in ipairs { 0, 1, 63, 64, 65, 128, 1000 } do
      local got = 0
      for row in statement:query(n) do
        got = got + 1
        assert.equal(got, row.i)
        assert.equal(-got, row.j)
        if got == 70 then assert.equal(1, conn:query_value "select 1") end
      end
      assert.equal(n, got)
    end
    local before, n = resident(), 0
    statement:query(1000000):each(function() n = n + 1 end)
    assert.equal(1000000, n)
    expect_less(4000, before)
    local rows = statement:query(1000)
    for i = 1, 100 do assert.equal(i, rows:next().i) end
    rows:close()
    local failing = conn:prepare "select 1 / (1000 - i) from generate_series(1, 2000) i"
    for _ = 1, 2 do
      local got = 0
      expect.raised("DataError", "division by zero", function()
        for _ in failing:query() do got = got + 1 end
      end)
      -- libpq gives none of those that an error has cut off from their like.
      assert.is_true(got > 900 and got < 1000, tostring(got))
    end
    conn:close()
  end)

  it("come before the last one is there", function()
    local start = now()
    local rows = db:query [[select i, repeat('x', 10000), case when i > 90 then pg_sleep(0.05) end
      from generate_series(1, 100) i]]
    assert.equal(1, rows:next().i)
    assert.is_true(now() - start < 0.4)
    rows:close()
  end)

  it("raise what goes wrong in the middle of them, where it happens", function()
    local conn = db:connect()
    for _ = 1, 3 do
      local got = 0
      local err = expect.raised("DataError", "division by zero", function()
        for row in conn:query [[select i, repeat('x', 1000), 1 / (500 - i)
          from generate_series(1, 1000) i]] do
          got = row.i
        end
      end)
      assert.equal("22012", err.code)
      assert.is_true(got > 400 and got < 500, tostring(got))
      assert.equal(1, conn:query_value "select 1")
    end
    conn:close()
  end)

  it("stay readable while the connection runs something else", function()
    local conn = db:connect()
    local rows = conn:query "select id from item order by id"
    assert.equal(1, rows:next().id)
    conn:exec "update item set name = 'x'"
    conn:exec "delete from item where id > 500"
    assert.equal(999, #rows:all())
    assert.equal(500, conn:query_value "select count(*) from item")
    conn:close()
  end)

  it("that are left do not undo what the statement does", function()
    for read = 0, 1 do
      local before = db:query_value "select count(*) from item"
      local rows = db:query("insert into item select ? + i, repeat('x', 1000) "
        .. "from generate_series(1, 5000) i returning id, name", before + 10000)
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

  it("of a long read that are left are cancelled outside a transaction, and soon", function()
    local conn = db:connect()
    local start = now()
    local rows = conn:query "select i, repeat('x', 1000) from generate_series(1, 3000000) i"
    rows:next()
    rows:close()
    -- All of it would be 3 GB.
    assert.is_true(now() - start < 2, tostring(now() - start))
    assert.equal(1, conn:query_value "select 1")
    conn:close()
    assert.equal(1, db:stats().created)
  end)

  it("of a read that are left inside a transaction leave it usable", function()
    db:transaction(function(tx)
      local rows = tx:query "select i, repeat('x', 1000) from generate_series(1, 20000) i"
      rows:next()
      rows:close()
      tx:exec "delete from item where id = 1"
    end)
    assert.equal(999, db:query_value "select count(*) from item")
  end)

  describe("of a cursor", function()
    -- The one without a name is the statement's own.
    local cursors = "select count(*) from pg_cursors where name <> ''"

    it("are fetched in parts, inside a transaction", function()
      db:transaction(function(tx)
        local x = tx:with{ fetch_size = 100 }
        local n, sum = 0, 0
        for row in x:query("select id from item where id > ? order by id", 0) do
          n, sum = n + 1, sum + row.id
          if n == 150 then
            assert.equal(1, tx:query_value(cursors))
          end
        end
        assert.equal(1000, n)
        assert.equal(500500, sum)
        assert.equal(0, tx:query_value(cursors))
      end)
    end)

    it("may be several at once, and be left", function()
      db:transaction(function(tx)
        local x = tx:with{ fetch_size = 10 }
        local first = x:query "select id from item order by id"
        local second = x:query "select id from item order by id desc"
        for i = 1, 35 do
          assert.equal(i, first:next().id)
          assert.equal(1001 - i, second:next().id)
        end
        first:close()
        assert.equal(965, second:next().id)
        second:close()
        assert.equal(0, tx:query_value(cursors))
      end)
    end)

    it("are read as what they have become when the table was changed", function()
      local conn = db:connect()
      local text = "select name from item where id <= 5 order by id"
      conn:exec "create type pair as (a integer, b integer)"
      for _, change in ipairs {
        { "integer using id", { 1, 2, 3, 4, 5 } },
        { "interval using make_interval(mins => id)",
          { "00:01:00", "00:02:00", "00:03:00", "00:04:00", "00:05:00" } },
        { "bigint using id", { 1, 2, 3, 4, 5 } },
        { "pair using (id, id)::pair", { "(1,1)", "(2,2)", "(3,3)", "(4,4)", "(5,5)" } },
      } do
        conn:exec("alter table item alter name type " .. change[1])
        conn:transaction(function(tx)
          assert.same(change[2], tx:with{ fetch_size = 2 }:query_column(text))
        end)
        -- It is described again, for the next one.
        for _ = 1, 4 do assert.same(change[2], conn:query_column(text)) end
      end
      conn:close()
    end)

    it("want a transaction", function()
      local x = db:with{ fetch_size = 10 }
      expect.raised("UsageError", "transaction", x.query, x, "select id from item")
    end)

    it("are no matter for statements without rows", function()
      db:transaction(function(tx)
        assert.equal(1, (tx:with{ fetch_size = 10 }:exec "delete from item where id = 1"))
      end)
    end)

    it("may end in an error, and their statement can be run again, with one or without", function()
      local text = "select 1 / (id - ?) as x from item where id <= 20 order by id"
      db:transaction(function(tx)
        for _ = 1, 3 do
          expect.raised("DataError", "division by zero", tx.transaction, tx, function(inner)
            inner:with{ fetch_size = 3 }:query(text, 5):each(function() end)
          end)
          assert.equal(20, #tx:query_column(text, 50))
          local n = 0
          for _ in tx:with{ fetch_size = 3 }:query(text, 50) do n = n + 1 end
          assert.equal(20, n)
        end
      end)
    end)
  end)
end)

describe("A time-out on PostgreSQL", function()
  local server, db

  before_each(function()
    server = postgres.shared()
    db = moonbase.open(server:fresh())
  end)

  after_each(function() db:close() end)

  it("stops the statement at the server", function()
    local conn = db:connect()
    local pid = conn:query_value "select pg_backend_pid()"
    local x = conn:with{ timeout = 0.1 }
    local start = now()
    local err = expect.raised("TimeoutError", nil, x.query_value, x, "select pg_sleep(10)")
    assert.is_true(now() - start < 2)
    assert.equal("57014", err.code)
    assert.equal("idle", db:query_value("select state from pg_stat_activity where pid = ?", pid))
    assert.equal(pid, conn:query_value "select pg_backend_pid()")
    conn:close()
  end)

  it("and a cancel at the last moment never hit the statement that follows", function()
    local conn = db:connect()
    local hits, late = 0, 0
    for _ = 1, 60 do
      local x = conn:with{ timeout = 0.005 }
      local ok, err = pcall(x.query_value, x, "select pg_sleep(0.005)")
      if ok then late = late + 1 end
      -- A busy machine may take longer than cancel_grace.
      if not ok and err.connection_dead then conn = db:connect() end
      if not pcall(conn.query_value, conn, "select 1") then hits = hits + 1 end
    end
    assert.equal(0, hits)
    assert.is_true(late < 60)
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
    assert.is_true(took >= 0.29 and took < 0.6, tostring(took))
    assert.is_true(err.connection_dead)
    conn:close()
    other:close()
  end)
end)
