-- moonbase.postgres: COPY, notifications, advisory locks, large objects.
local moonbase = require "moonbase"
local child = require "spec.support.child"
local expect = require "spec.support.expect"
local files = require "spec.support.files"
local language = require "spec.support.language"
local now = require "moonbase.core".now
local pg = require "moonbase.postgres"
local postgres = require "spec.support.postgres"
local proxy = require "spec.support.proxy"

describe("moonbase.postgres", function()
  local server, url, db

  before_each(function()
    server = postgres.shared()
    url = server:fresh()
    db = moonbase.open(url)
    db:exec "create table item (id integer primary key, name text, data bytea)"
  end)

  after_each(function()
    db:close()
    files.clean()
  end)

  local function count(x)
    return (x or db):query_value "select count(*) from item"
  end

  it("gives what the definitions for editors say", function()
    local defined = files.read "lua/moonbase/meta/postgres.lua"
    local listener, copy, lock = pg.listen(db, "jobs"), pg.copy_to(db, "copy item to stdout"),
      pg.lock(db, 1)
    local object = db:transaction(function(tx)
      return pg.large_objects.open(tx, pg.large_objects.create(tx))
    end)
    local objects = { Listener = listener, CopyRows = copy, Lock = lock, LargeObject = object }
    for class, given in pairs(objects) do
      local methods = getmetatable(given).__index
      for name in pairs(methods) do
        if not name:find "^__" then
          assert.is_truthy(defined:find("function " .. class .. ":" .. name .. "(", 1, true), name)
        end
      end
      for name in defined:gmatch("function " .. class .. ":(%w+)") do
        assert.equal("function", type(methods[name]), name)
      end
    end
    listener:close()
    copy:close()
    lock:release()
  end)

  describe("copy_from", function()
    local statement = "copy item (id, name) from stdin"

    it("loads a string, a list, or what a function gives, cut anywhere", function()
      assert.equal(2, pg.copy_from(db, statement, "1\ta\n2\tb\n"))
      assert.equal(2, pg.copy_from(db, statement, { "3\tc", "\n4", "", "\t\\N\n" }))
      local pieces = { "5\t\226\130", "\172\n", "6\tf\n" }
      assert.equal(2, pg.copy_from(db, statement, function() return table.remove(pieces, 1) end))
      assert.equal(0, pg.copy_from(db, statement, ""))
      assert.equal(0, pg.copy_from(db, statement, {}))
      assert.same({ "a", "b", "c", moonbase.null, "\226\130\172", "f" },
        db:query_column "select name from item order by id")
      assert.equal(0, db:stats().in_use)
    end)

    it("takes every format", function()
      assert.equal(2, pg.copy_from(db, "copy item (id, name) from stdin (format csv, header)",
        'id,name\n1,"a ""b"", c"\n2,\n'))
      assert.same({ 'a "b", c', moonbase.null },
        db:query_column "select name from item order by id")
    end)

    it("loads into the transaction that it is given", function()
      local tx = db:begin()
      assert.equal(1, pg.copy_from(tx, statement, "1\ta\n"))
      assert.equal(1, count(tx))
      tx:rollback()
      assert.equal(0, count())
      local conn = db:connect()
      pg.copy_from(conn, statement, "1\ta\n")
      assert.equal(1, conn:query_value "select count(*) from item")
      conn:close()
    end)

    it("loads nothing where its source raises, which goes on", function()
      local mistake = {}
      local given = 0
      local ok, err = pcall(pg.copy_from, db, statement, function()
        given = given + 1
        if given == 3 then error(mistake) end
        return given .. "\tx\n"
      end)
      assert.is_false(ok)
      assert.equal(mistake, err)
      assert.equal(0, count())
      assert.equal(0, db:stats().in_use)
      assert.equal(1, db:stats().created)
    end)

    it("inside a transaction that is undone leaves it failed, or to its savepoint", function()
      db:transaction(function(tx)
        tx:exec "insert into item (id) values (1)"
        pcall(tx.transaction, tx, function(inner)
          pg.copy_from(inner, statement, function() error "stop" end)
        end)
        tx:exec "insert into item (id) values (2)"
      end)
      assert.equal(2, count())
    end)

    it("tells which row was wrong", function()
      local err = expect.raised("DataError", nil, pg.copy_from, db, statement,
        "1\ta\n2\tb\nthree\tc\n")
      assert.equal(3, err.row)
      assert.equal("22P02", err.code)
      err = expect.raised("ConstraintError", nil, pg.copy_from, db, statement, "1\ta\n1\tb\n")
      assert.equal(2, err.row)
      assert.equal("item_pkey", err.constraint)
      assert.equal(0, count())
      assert.equal(1, db:query_value "select 1")
    end)

    it("notices an early error while there is more to send", function()
      local lines = 0
      local err = expect.raised("DataError", nil, pg.copy_from, db, statement, function()
        lines = lines + 1
        if lines > 30000 then return nil end
        return (lines == 10 and "x" or lines) .. "\t" .. ("y"):rep(100) .. "\n"
      end)
      assert.equal(10, err.row)
    end)

    it("loads much with little memory", function()
      local n = 0
      assert.equal(100000, pg.copy_from(db, statement, function()
        if n == 100000 then return nil end
        local lines = {}
        for i = 1, 1000 do lines[i] = n + i .. "\tname " .. i .. "\n" end
        n = n + 1000
        return table.concat(lines)
      end))
      assert.equal(100000, count())
    end)

    it("refuses what is no COPY, no text, no source", function()
      expect.raised("UsageError", nil, pg.copy_from, db, "select 1", "x")
      expect.raised("UsageError", nil, pg.copy_from, db, "copy item to stdout", "x")
      expect.raised("SyntaxError", nil, pg.copy_from, db, "copy missing from stdin", "x")
      expect.raised("UsageError", "a COPY statement", pg.copy_from, db, 7, "x")
      expect.raised("UsageError", "wants a string, a list", pg.copy_from, db, statement, 7)
      expect.raised("UsageError", "a piece is a number", pg.copy_from, db, statement, { 7 })
      expect.raised("UsageError", nil, pg.copy_from, {}, statement, "x")
      assert.equal(0, count())
      assert.equal(1, db:query_value "select 1")
      assert.equal(0, db:stats().in_use)
    end)

    it("returns errors where its handle does", function()
      local returning = db:with{ errors = "return" }
      expect.returned("DataError", nil, pg.copy_from(returning, statement, "x\ty\n"))
      assert.equal(1, pg.copy_from(returning, statement, "1\ty\n"))
    end)
  end)

  describe("copy_to", function()
    local statement = "copy (select id, name from item order by id) to stdout"

    before_each(function()
      db:exec "insert into item (id, name) select i, 'n' || i from generate_series(1, 3) i"
    end)

    it("gives everything to a function, and the number of bytes", function()
      local pieces = {}
      assert.equal(15, pg.copy_to(db, statement, function(data) pieces[#pieces + 1] = data end))
      assert.equal("1\tn1\n2\tn2\n3\tn3\n", table.concat(pieces))
      assert.equal(0, db:stats().in_use)
    end)

    it("writes to a file", function()
      local path = files.path "out"
      local file = assert(io.open(path, "wb"))
      assert.equal(15, pg.copy_to(db, statement, file))
      file:close()
      assert.equal("1\tn1\n2\tn2\n3\tn3\n", files.read(path))
    end)

    it("is an iterator over whole rows", function()
      local text = ""
      for data in pg.copy_to(db, statement) do
        assert.equal("\n", data:sub(-1))
        text = text .. data
      end
      assert.equal("1\tn1\n2\tn2\n3\tn3\n", text)
      assert.equal(0, db:stats().in_use)
    end)

    it("streams, and may be left", function()
      local long = "copy (select i, repeat('x', 1000) from generate_series(1, 100000) i) to stdout"
      local copy = pg.copy_to(db, long)
      assert.is_string(copy:next())
      copy:close()
      copy:close()
      assert.equal(0, db:stats().in_use)
      assert.equal(3, count())
      db:transaction(function(tx)
        local inner = pg.copy_to(tx, "copy item to stdout")
        inner:next()
        inner:close()
        assert.equal(3, count(tx))
      end)
    end)

    it("goes back into a table as it came out, in binary form too", function()
      db:exec("update item set data = ?", moonbase.blob "\0\255\\\n\t")
      for _, format in ipairs { "text", "csv", "binary" } do
        local pieces = {}
        for data in pg.copy_to(db, "copy item to stdout (format " .. format .. ")") do
          pieces[#pieces + 1] = data
        end
        db:transaction(function(tx)
          tx:exec "create temporary table other (like item) on commit drop"
          assert.equal(3, pg.copy_from(tx, "copy other from stdin (format " .. format .. ")",
            pieces))
          assert.equal(3, tx:query_value
            "select count(*) from (table item intersect table other) x")
        end)
      end
    end)

    it("raises what its sink raises, and goes on", function()
      local mistake = {}
      local ok, err = pcall(pg.copy_to, db, statement, function() error(mistake) end)
      assert.is_false(ok)
      assert.equal(mistake, err)
      assert.equal(3, count())
      assert.equal(0, db:stats().in_use)
      local full = io.open("/dev/full", "wb")
      full:setvbuf "no"
      assert.is_false((pcall(pg.copy_to, db, statement, full)))
      pcall(full.close, full)
    end)

    it("raises what goes wrong in the middle", function()
      expect.raised("DataError", "division by zero", function()
        for _ in pg.copy_to(db, "copy (select 1 / (2 - id) from item order by id) to stdout") do
          assert.is_true(true)
        end
      end)
      assert.equal(3, count())
    end)

    it("refuses what is no COPY, and no sink", function()
      expect.raised("UsageError", nil, pg.copy_to, db, "select 1")
      expect.raised("UsageError", nil, pg.copy_to, db, "copy item from stdin")
      expect.raised("SyntaxError", nil, pg.copy_to, db, "copy missing to stdout")
      expect.raised("UsageError", "a function, or a file", pg.copy_to, db, statement, 7)
      assert.equal(3, count())
      assert.equal(0, db:stats().in_use)
    end)
  end)

  describe("listen", function()
    local listener

    after_each(function()
      if listener then listener:close() end
      listener = nil
    end)

    it("says that it is connected, then gives what is sent, in order", function()
      listener = pg.listen(db, "jobs")
      assert.same({ connected = true }, listener:next())
      pg.notify(db, "jobs", "first")
      pg.notify(db, "jobs")
      pg.notify(db, "others", "unheard")
      db:transaction(function(tx)
        pg.notify(tx, "jobs", "third")
        assert.same({ "first", "" }, { listener:next().payload, listener:next().payload })
        assert.is_nil(listener:next(0.05))
      end)
      local event = listener:next(5)
      assert.equal("jobs", event.channel)
      assert.equal("third", event.payload)
      assert.is_number(event.pid)
    end)

    it("gives nil when the time is over, and goes on", function()
      listener = pg.listen(db, { "jobs" })
      listener:next()
      local start = now()
      assert.is_nil(listener:next(0.1))
      assert.is_true(now() - start >= 0.09)
      assert.is_nil(listener:next(0))
      pg.notify(db, "jobs", "x")
      assert.equal("x", listener:next(5).payload)
    end)

    it("is an iterator, over several channels of any name", function()
      local names = { "jobs", "Two Words", 'quo"ted', "gr\195\188n" }
      local got = {}
      for event in pg.listen(db, names) do
        if event.connected then
          for _, name in ipairs(names) do pg.notify(db, name, name) end
        else
          got[#got + 1] = event.channel
          assert.equal(event.channel, event.payload)
          if #got == #names then break end
        end
      end
      assert.same(names, got)
      language.collect()
    end)

    it("waits for what another process sends", function()
      listener = pg.listen(db, "jobs")
      listener:next()
      local other = child.start([[
        local db = require "moonbase".open(...)
        io.read()
        require "moonbase.postgres".notify(db, "jobs", "from afar")
        db:close()
      ]], url)
      other:tell "go"
      assert.equal("from afar", listener:next(10).payload)
      other:finish()
    end)

    it("comes back when its session was ended, and says so", function()
      listener = pg.listen(db, "jobs")
      listener:next()
      for round = 1, 3 do
        server:psql [[select pg_terminate_backend(pid) from pg_stat_activity
          where query ilike 'listen%' and datname = 'moonbase']]
        assert.same({ connected = true }, listener:next(10))
        pg.notify(db, "jobs", "round " .. round)
        assert.equal("round " .. round, listener:next(10).payload)
      end
    end)

    it("comes back when the network was away, and notices one that is silent", function()
      local network = proxy.start(server.port)
      local far = moonbase.open(server:tcp_url(nil, { port = network.port }),
        { cancel_grace = 0.1, connect_timeout = 0.2 })
      local ok, err = pcall(function()
        listener = pg.listen(far, "jobs", { ping = 0.2 })
        listener:next()
        network:tell "refuse"
        network:tell "drop"
        assert.is_nil(listener:next(0.3))
        network:tell "accept"
        assert.same({ connected = true }, listener:next(10))
        -- More than one ping goes well while nothing is sent.
        assert.is_nil(listener:next(0.5))
        -- It is asked also where each wait is shorter than the silence.
        network:tell "stop"
        for _ = 1, 6 do assert.is_nil(listener:next(0.1)) end
        network:tell "drop"
        network:tell "pass"
        assert.same({ connected = true }, listener:next(10))
      end)
      if listener then listener:close() end
      far:close()
      network:close()
      if not ok then error(err, 0) end
    end)

    it("keeps the order of what came with other answers", function()
      listener = pg.listen(db, "jobs")
      listener:next()
      for i = 1, 100 do pg.notify(db, "jobs", tostring(i)) end
      for i = 1, 100 do assert.equal(tostring(i), listener:next(5).payload) end
    end)

    it("is not bounded by the time-out of its handle, and ends with a cancellation", function()
      local stop = moonbase.cancellation()
      listener = pg.listen(db:with{ timeout = 0.05, cancel = stop }, "jobs")
      listener:next()
      assert.is_nil(listener:next(0.2))
      stop:cancel "enough"
      expect.raised("CanceledError", "enough", listener.next, listener, 5)
    end)

    it("gives its connection back, which hears nothing any more", function()
      listener = pg.listen(db, "jobs")
      assert.equal(1, db:stats().in_use)
      listener:close()
      listener:close()
      assert.equal(0, db:stats().in_use)
      expect.raised("UsageError", "is closed", listener.next, listener)
      assert.equal(0, db:query_value "select count(*) from pg_listening_channels()")
    end)

    it("raises what is wrong from the beginning", function()
      local gone = moonbase.open "postgres://moonbase@%2Fno%2Fsuch%2Ffolder/moonbase"
      expect.raised("ConnectivityError", nil, pg.listen, gone, "jobs")
      gone:close()
      expect.raised("UsageError", "wants the name", pg.listen, db, {})
      expect.raised("UsageError", "wants the name", pg.listen, db, 7)
      expect.raised("UsageError", "channel 2 is a number", pg.listen, db, { "a", 7 })
      expect.raised("UsageError", nil, pg.listen, db, ("x"):rep(64))
      expect.raised("UsageError", "wants a Database", pg.listen, db:connect(), "jobs")
      expect.raised("UsageError", "did you mean", pg.listen, db, "jobs", { pign = 1 })
      expect.raised("UsageError", "ping of listen", pg.listen, db, "jobs", { ping = 0 })
      assert.equal(1, db:stats().in_use) -- that of db:connect()
    end)
  end)

  describe("notify", function()
    it("refuses what the server does", function()
      expect.raised("DataError", nil, pg.notify, db, "jobs", ("x"):rep(8000))
      expect.raised("UsageError", "the name of a channel", pg.notify, db, 7)
      expect.returned("DataError", nil, pg.notify(db:with{ errors = "return" }, "jobs",
        ("x"):rep(8000)))
    end)
  end)

  describe("lock", function()
    local function is_free(key, given)
      local options = { try = true, shared = given and given.shared }
      local lock = pg.lock(db, key, options)
      if lock then lock:release() end
      return lock ~= nil
    end

    for _, key in ipairs { 7, -1, "a name", "", { 1, -2 } } do
      local name = type(key) == "table" and "{1, -2}" or ("%q"):format(tostring(key))
      it("of " .. name .. " is held until it is released", function()
        local lock = pg.lock(db, key)
        assert.equal(1, db:stats().in_use)
        assert.is_false(is_free(key))
        assert.is_true(is_free "another")
        assert.is_true(lock:release())
        assert.is_false(lock:release())
        assert.is_true(is_free(key))
        assert.equal(0, db:stats().in_use)
      end)
    end

    it("of a transaction is held until that ends", function()
      db:transaction(function(tx)
        assert.is_true(pg.lock(tx, "key"))
        assert.is_false(is_free "key")
      end)
      assert.is_true(is_free "key")
      local tx = db:begin()
      local other = pg.lock(db, "key")
      assert.is_nil(pg.lock(tx, "key", { try = true }))
      other:release()
      assert.is_true(pg.lock(tx, "key", { try = true }))
      tx:rollback()
    end)

    it("of a connection stays with it", function()
      local conn = db:connect()
      local lock = pg.lock(conn, "key")
      assert.equal(1, conn:query_value "select 1")
      assert.is_false(is_free "key")
      lock:release()
      assert.is_true(is_free "key")
      pg.lock(conn, "key")
      conn:close()
      assert.is_true(is_free "key")
    end)

    it("may be shared", function()
      local first = pg.lock(db, "key", { shared = true })
      local second = pg.lock(db, "key", { shared = true })
      assert.is_true(is_free("key", { shared = true }))
      assert.is_false(is_free "key")
      first:release()
      assert.is_false(is_free "key")
      second:release()
      assert.is_true(is_free "key")
    end)

    it("waits, at most as long as its handle does", function()
      local lock = pg.lock(db, "key")
      local x = db:with{ timeout = 0.1 }
      expect.raised("TimeoutError", nil, pg.lock, x, "key")
      expect.returned("TimeoutError", nil,
        pg.lock(db:with{ timeout = 0.1, errors = "return" }, "key"))
      assert.equal(1, db:stats().in_use)
      lock:release()
      pg.lock(x, "key"):release()
    end)

    it("that was lost with its connection says so when it is released", function()
      local lock = pg.lock(db, "key")
      server:psql [[select pg_terminate_backend(pid) from pg_locks
        where locktype = 'advisory' and pid <> pg_backend_pid()]]
      assert.is_false(lock:release())
      assert.is_true(is_free "key")
      assert.equal(0, db:stats().in_use)
    end)

    it("refuses keys and options that are none", function()
      for _, wrong in ipairs { {}, { 1 }, { 1, 2, 3 } } do
        expect.raised("UsageError", "the key of a lock", pg.lock, db, wrong)
      end
      expect.raised("UsageError", "the key of a lock", pg.lock, db)
      expect.raised("UsageError", "did you mean", pg.lock, db, 1, { tyr = true })
      expect.raised("UsageError", "option try of a lock", pg.lock, db, 1, { try = 1 })
      assert.equal(0, db:stats().in_use)
    end)

    if language.closing then
      it("ends with its block where it is declared <close>", function()
        language.compile([[
          local pg, db, is_free = ...
          do
            local lock <close> = pg.lock(db, "key")
            assert(not is_free "key")
          end
          assert(is_free "key")
        ]], pg, db, is_free)
      end)
    end
  end)

  describe("large objects", function()
    local objects = pg.large_objects

    it("are created, written, read, and removed", function()
      local oid = db:transaction(function(tx)
        local oid = objects.create(tx)
        local object = objects.open(tx, oid, "rw")
        assert.equal(6, object:write "abc\0\255d")
        assert.equal(0, object:seek "set")
        assert.equal("abc", object:read(3))
        assert.equal("\0\255d", object:read())
        assert.is_nil(object:read())
        object:close()
        object:close()
        return oid
      end)
      db:transaction(function(tx)
        local object = objects.open(tx, oid)
        assert.equal(6, object:seek "end")
        assert.equal(4, object:seek("set", 4))
        assert.equal(5, object:seek("cur", 1))
        assert.equal("d", object:read())
      end)
      assert.is_true(objects.remove(db, oid))
      expect.raised("SyntaxError", "does not exist", objects.remove, db, oid)
    end)

    it("are read part by part, and may be cut", function()
      db:transaction(function(tx)
        local oid = objects.create(tx)
        local object = objects.open(tx, oid, "rw")
        for _ = 1, 10 do object:write(("x"):rep(100000)) end
        object:seek "set"
        local size = 0
        for part in function() return object:read() end do size = size + #part end
        assert.equal(1000000, size)
        object:truncate(10)
        assert.equal(10, object:seek "end")
        object:truncate(20)
        assert.equal(20, object:seek "end")
        objects.remove(tx, oid)
      end)
    end)

    it("want a transaction, and what is right", function()
      local oid = objects.create(db)
      expect.raised("UsageError", "in a Transaction", objects.open, db, oid)
      db:transaction(function(tx)
        expect.raised("UsageError", "the mode", objects.open, tx, oid, "x")
        local object = objects.open(tx, oid, "r")
        expect.raised("UsageError", "number of bytes", object.read, object, 0)
        expect.raised("UsageError", "wants a string", object.write, object, 7)
        expect.raised("UsageError", "seek wants", object.seek, object, "there")
        object:close()
        expect.raised("UsageError", "is closed", object.read, object)
      end)
      local kept
      db:transaction(function(tx) kept = objects.open(tx, oid) end)
      expect.raised("UsageError", "has ended", kept.read, kept)
      kept:close()
      objects.remove(db, oid)
      pcall(db.transaction, db, function(tx)
        expect.raised("SyntaxError", "does not exist", objects.open, tx, oid)
      end)
    end)
  end)
end)
