-- Processes that fork: what the parent has opened is the parent's, and the child begins anew.
local child = require "spec.support.child"
local files = require "spec.support.files"
local language = require "spec.support.language"
local length = require "spec.support.length"

-- What each program begins with.  A child that raises an error ends with status 1.
local opening = [[
  local url, driver, series, other_program, n_forks = ...
  local moonbase = require "moonbase"
  local host = require "spec.support.thread_host"
  n_forks = tonumber(n_forks)
  host.limit(60 + n_forks)
  local function fork(fn)
    local pid = host.fork()
    if pid > 0 then return pid end
    local ok, err = xpcall(fn, debug.traceback)
    if not ok then io.stderr:write(tostring(err), "\n") end
    os.exit(ok and 0 or 1, true)
  end
  local function wait(pid)
    local status, signal = host.wait(pid)
    assert(status == 0, "a child has ended with status " .. tostring(status) .. ", signal "
      .. tostring(signal))
  end
  local function refused(fn, ...)
    local ok, err = pcall(fn, ...)
    assert(not ok and moonbase.is(err, "UsageError"), tostring(err))
    return err.message
  end
  local function open(options)
    options = options or {}
    options.driver = driver
    return moonbase.open(url, options)
  end
  local function add(x, who, n)
    for i = 1, n do x:exec("insert into pair (a, b) values (?, ?)", who, i) end
  end
]]

-- What a child leaves to its parent is memory that nobody frees there.
local unwatched = "export ASAN_OPTIONS=detect_leaks=0"

-- A program that a child may begin.
local writing = [[
  local url, driver = ...
  local db = require "moonbase".open(url, { driver = driver })
  db:exec "insert into pair (a, b) values (2, 1)"
  db:close()
  print "done"
]]

for _, database in ipairs(require "spec.support.databases") do
  if database.quirks.many_connections then
    describe("A fork on " .. database.name, function()
      local db

      before_each(function()
        db = database:open()
        db:exec "create table pair (a integer, b integer)"
        db:close()
      end)

      after_each(function() database:clean() end)

      -- Runs a program; then the table has so many rows of parent and child.
      local function run(text, parents, childs)
        local other_program = ("%s '%s' '%s' '%s'"):format(language.command,
          files.write(files.path "other.lua", writing), database:url(), database.driver)
        local output, status
        for _ = 1, 3 do
          output, status = child.run(opening .. text,
            { database:url(), database.driver, database.quirks.sql.series, other_program,
              length(1000) }, unwatched)
          if not child.is_stuck(output, status) then break end
          db = database:open()
          db:exec "delete from pair"
          db:close()
        end
        assert.equal("", output)
        assert.equal(0, status)
        db = database:open()
        assert.equal(parents, db:query_value "select count(*) from pair where a = 1")
        assert.equal(childs, db:query_value "select count(*) from pair where a = 2")
      end

      it("with idle connections leaves two processes that both write", function()
        run([[
          local db = open()
          db:query_value "select count(*) from pair"
          add(db, 1, 10)
          local conn = db:connect()
          conn:close()
          local idle = db:stats().idle
          local pid = fork(function()
            assert(refused(db.ping, db):find("opened before a fork", 1, true))
            assert(refused(db.begin, db):find("opened before a fork", 1, true))
            local own = open()
            add(own, 2, 100)
            assert(own:query_value "select count(*) from pair where a = 2" == 100)
            assert(own:stats().created <= own:stats().max)
          end)
          add(db, 1, 90)
          wait(pid)
          assert(idle > 0 and db:query_value "select count(*) from pair" == 200)
        ]], 100, 100)
      end)

      it("with a transaction open leaves it to the parent", function()
        run([[
          local db = open()
          local conn = db:connect()
          local tx = conn:begin()
          add(tx, 1, 1)
          local rows = tx:query "select b from pair where a = 1"
          local nested = tx:begin()
          local statement = nested:prepare "insert into pair (a, b) values (?, ?)"
          statement:exec(1, 2)
          local other = db:query(series, 1000)

          local function try_all()
            refused(tx.exec, tx, "insert into pair (a, b) values (2, 1)")
            refused(conn.exec, conn, "insert into pair (a, b) values (2, 2)")
            refused(db.exec, db, "insert into pair (a, b) values (2, 3)")
            refused(statement.exec, statement, 2, 4)
            refused(other.all, other)
            refused(nested.commit, nested)
            refused(tx.commit, tx)
            refused(conn.ping, conn)
          end
          local endings = {
            function() end,
            function() try_all() host.leave(0) end,
            function() try_all() os.exit(0) end,
            function() try_all() db:close() end,
            function() pcall(tx.rollback, tx) conn:close() rows:close() statement:close() end,
            function()
              db, conn, tx, nested, statement, rows, other = nil
              collectgarbage()
              collectgarbage()
            end,
            function() wait(fork(try_all)) end,
          }
          for i = 1, #endings do wait(fork(endings[i])) end

          assert(statement:exec(1, 3) == 1)
          nested:commit()
          assert(tx:query_value "select count(*) from pair" == 3)
          assert(rows:next().b == 1)
          assert(#other:all() == 1000)
          tx:commit()
          assert(conn:ping())
          add(db, 1, 1)
          assert(db:stats().closed_by.fork == 0 and db:stats().closed_by.dead == 0)
        ]], 4, 0)
      end)

      it("with a transaction open may begin a program that opens it", function()
        run([[
          local db = open()
          local tx = db:begin()
          add(tx, 1, 1)
          local pid = fork(function()
            local program = assert(io.popen(other_program))
            assert(program:read "*a" == "done\n")
          end)
          tx:commit()
          wait(pid)
        ]], 1, 1)
      end)

      it("while threads work stops nobody, and leaves the child nothing to wait for", function()
        run([[
          local threads = require "spec.support.threads"
          local db = open { name = "forked", max = 4 }
          local working = {}
          for i = 1, 6 do
            working[i] = threads.start([=[
              -- LuaJIT tells libgcc of what it compiles, under a lock that a child would find
              -- held, and wait for when it raises an error.
              if jit then jit.off() end
              local url, driver, number = ...
              local moonbase, threads = require "moonbase", require "spec.support.threads"
              local db = moonbase.open(url, { driver = driver, name = "forked", max = 4 })
              local ended = moonbase.cancellation { name = "forked" }
              threads.meet("at work", 7)
              local n = 0
              while not ended:is_cancelled() do
                if number % 2 == 0 then
                  db:query_value "select count(*) from pair"
                else
                  db:exec "insert into pair (a, b) values (3, 1)"
                  n = n + 1
                end
                moonbase.cancellation { name = "other" }
              end
              return n
            ]=], url, driver, i)
          end
          threads.meet("at work", 7)
          local ended = moonbase.cancellation { name = "forked" }
          for i = 1, n_forks do
            wait(fork(function()
              refused(db.ping, db)
              moonbase.cancellation { name = "other" }:cancel()
              if i % 2 == 0 then db:close() end
            end))
          end
          ended:cancel()
          local total = 0
          for i = 1, 6 do total = total + working[i]:join() end
          assert(total > 0)
          assert(db:query_value "select count(*) from pair where a = 3" == total)
          local stats = db:stats()
          assert(stats.in_use == 0)
        ]], 0, 0)
      end)

      it("has the name of a pool free for the child", function()
        run([[
          local db = open { name = "forked" }
          add(db, 1, 1)
          wait(fork(function()
            refused(db.ping, db)
            local own = open { name = "forked" }
            add(own, 2, 1)
            local same = open { name = "forked" }
            same:ping()
            assert(same:stats().acquired == own:stats().acquired)
            refused(db.ping, db)
          end))
          add(open { name = "forked" }, 1, 1)
          assert(db:stats().acquired >= 2)
        ]], 2, 1)
      end)
    end)
  end
end
