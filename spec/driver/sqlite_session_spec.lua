-- What a borrower leaves in a session of SQLite, and what every borrower finds there.
local moonbase = require "moonbase"
local core = require "moonbase.core"
local files = require "spec.support.files"
local threads = require "spec.support.threads"

-- Each leaves something behind.
local changes = { "begin immediate", "attach ':memory:' as other", "pragma cache_size = -555",
  "create temp table left_behind (i integer)", "pragma query_only = 1", "drop table temp.own" }

-- Looks whether a session is as init has made it, and as on_connect has, where there is one.
local looking = [[
  local function look(x, connected)
    assert(x:query_value "pragma cache_size" == -777)
    assert(x:query_value "pragma query_only" == 0)
    assert(x:query_value "select count(*) from own" == 0)
    assert(x:query_value "select count(*) from pragma_database_list where name = 'other'" == 0)
    assert(x:query_value "select count(*) from sqlite_temp_schema" == (connected and 2 or 1))
    if connected then assert(x:query_value "select count(*) from connected" == 0) end
    x:transaction(function(tx) tx:exec "insert into t values (1)" end)
  end
]]

describe("A session of SQLite", function()
  local path, db
  local init = { "pragma cache_size = -777", "create temp table own (i integer)" }

  before_each(function()
    path = files.path "a.db"
    db = moonbase.open("sqlite:" .. path)
    db:exec "create table t (i integer)"
    db:close()
  end)

  after_each(function()
    db:close()
    files.clean()
  end)

  it("is as init and on_connect have set it for every borrower", function()
    db = moonbase.open("sqlite:" .. path, { max = 1, init = init, on_connect = function(conn)
      conn:exec "create temp table connected (i integer)"
    end })
    local look = (loadstring or load)(looking .. "return look")() -- luacheck: ignore 113
    for _, text in ipairs(changes) do
      local conn = db:connect()
      look(conn, true)
      conn:exec(text)
      conn:close()
      look(db, true)
      db:exec(text)
      look(db, true)
    end
    assert.equal(3 * #changes, db:query_value "select count(*) from t")
  end)

  it("is so for who waits for the connection, too", function()
    db = moonbase.open("sqlite:" .. path, { name = "sessions", max = 1, init = init })
    for _, text in ipairs(changes) do
      local conn = db:connect()
      conn:exec(text)
      local waiting = threads.start(looking .. [[
        local moonbase = require "moonbase"
        local db = moonbase.open("sqlite:" .. (...), { name = "sessions", max = 1,
          init = { "pragma cache_size = -777", "create temp table own (i integer)" } })
        local conn = db:connect()
        look(conn)
        conn:close()
      ]], path)
      local limit = core.now() + 20
      while db:stats().waiting == 0 and core.now() < limit do core.sleep(0.001) end
      conn:close()
      waiting:join()
    end
    assert.equal(#changes, db:query_value "select count(*) from t")
  end)
end)
