-- Forks and files of SQLite, whose locks belong to a process.
local child = require "spec.support.child"
local files = require "spec.support.files"

local opening = [[
  local path = ...
  local moonbase = require "moonbase"
  local host = require "spec.support.thread_host"
  host.limit(60)
  local function in_child(fn)
    local pid = host.fork()
    if pid == 0 then
      local ok, err = xpcall(fn, debug.traceback)
      if not ok then io.stderr:write(tostring(err), "\n") end
      os.exit(ok and 0 or 1, true)
    end
    assert(host.wait(pid) == 0, "the child has failed")
  end
  local function refused(text, fn, ...)
    local ok, err = pcall(fn, ...)
    assert(not ok and moonbase.is(err, "UsageError"), tostring(err))
    assert(err.message:find(text, 1, true), err.message)
  end
  local db = moonbase.open("sqlite:" .. path)
  db:exec "create table t (i integer)"
]]

describe("After a fork a file of SQLite", function()
  after_each(files.clean)

  local function run(text)
    -- What a child leaves to its parent is memory that nobody frees there.
    local output, status = child.run(opening .. text, { files.path "a.db" },
      "export ASAN_OPTIONS=detect_leaks=0")
    assert.equal("", output)
    assert.equal(0, status)
  end

  it("is not opened by a child whose parent was using it", function()
    run [[
      local conn = db:connect()
      local folder, name = path:match "^(.*)/(.*)$"
      in_child(function()
        for _, other in ipairs { path, folder .. "/./" .. name } do
          local own = moonbase.open("sqlite:" .. other)
          refused("open after fork", own.ping, own)
          refused("open after fork", own.begin, own)
          assert(own:stats().failures == 2 and own:stats().size == 0)
        end
        in_child(function()
          local own = moonbase.open("sqlite:" .. path)
          refused("open after fork", own.ping, own)
        end)
        local other = moonbase.open("sqlite:" .. path .. ".other")
        other:exec "create table t (i integer)"
        other:close()
      end)
      conn:exec "insert into t values (1)"
      conn:close()
      assert(db:query_value "select count(*) from t" == 1)
    ]]
  end)

  it("is opened by a child whose parent had it open and did not use it", function()
    run [[
      local conn = db:connect()
      db:ping()
      conn:close()
      assert(db:stats().idle >= 2)
      in_child(function()
        local own = moonbase.open("sqlite:" .. path)
        own:exec "insert into t values (1)"
      end)
      -- Its idle connections were closed for the child's sake.
      assert(db:stats().closed_by.fork >= 2 and db:stats().size == 0)
      assert(db:query_value "select count(*) from t" == 1)
    ]]
  end)

  it("is the child's own when it has opened it after that, also for its children", function()
    run [[
      in_child(function()
        local own = moonbase.open("sqlite:" .. path)
        local tx = own:begin()
        tx:exec "insert into t values (1)"
        in_child(function()
          refused("opened before a fork", own.ping, own)
          refused("opened before a fork", db.ping, db)
          local next_own = moonbase.open("sqlite:" .. path)
          refused("open after fork", next_own.ping, next_own)
        end)
        tx:commit()
      end)
      assert(db:query_value "select count(*) from t" == 1)
    ]]
  end)

  it("in memory stays with the parent", function()
    run [[
      local memory = moonbase.open "sqlite::memory:"
      memory:exec "create table t (i integer)"
      in_child(function()
        refused("opened before a fork", memory.ping, memory)
        local own = moonbase.open "sqlite::memory:"
        own:exec "create table t (i integer)"
      end)
      assert(memory:query_value "select count(*) from t" == 0)
      assert(memory:stats().created == 1)
    ]]
  end)
end)
