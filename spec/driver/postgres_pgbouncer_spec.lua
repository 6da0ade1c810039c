-- Behind PgBouncer in transaction mode, where two transactions of one connection may meet
-- two sessions.
local moonbase = require "moonbase"
local expect = require "spec.support.expect"
local files = require "spec.support.files"
local guarded = require "spec.support.guarded"
local postgres = require "spec.support.postgres"
local shell = require "spec.support.shell"

local settings = [[
[databases]
moonbase = host=%s port=%d user=moonbase dbname=moonbase
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 3
ignore_startup_parameters = extra_float_digits,options
logfile = %s/log
pidfile = %s/pgbouncer.pid
]]

-- From 1.21 on it can carry prepared statements from session to session.
local can_prepare = (function()
  local major, minor = shell.run('PATH="$PATH:/usr/sbin" pgbouncer --version')
    :match "PgBouncer (%d+)%.(%d+)"
  return major and major * 1000 + minor >= 1021
end)()

-- A pooler in front of a server, on a port that is free.  prepared: how many statements it
-- carries.
local function start(server, prepared)
  local folder = guarded.folder()
  shell.must("chmod 777 " .. shell.quote(folder.path))
  local pooler = { close = folder.close }
  for attempt = 1, 10 do
    pooler.port = server.port + 100 + attempt
    files.write(folder.path .. "/ini", settings:format(server.folder, server.port, pooler.port,
      folder.path, folder.path)
      .. (can_prepare and "max_prepared_statements = " .. prepared .. "\n" or ""))
    -- Root, which it refuses to be, is user postgres instead.
    local user = shell.must "id -u" == "0\n"
      and "setpriv --reuid postgres --regid postgres --init-groups" or ""
    local output, status = shell.run(("env -u LD_PRELOAD PATH=\"$PATH:/usr/sbin\" %s pgbouncer -d "
      .. "%s/ini >%s/output"):format(user, folder.path, folder.path))
    shell.must(("for i in 1 2 3 4 5 6 7 8 9 10; do [ -s %s/pgbouncer.pid ] && break; sleep 0.1; "
      .. "done"):format(folder.path))
    if status == 0 and files.exists(folder.path .. "/pgbouncer.pid") then return pooler end
    pooler.output = output .. files.read(folder.path .. "/output")
  end
  folder.close()
  error("PgBouncer did not start: " .. pooler.output, 0)
end

describe("Behind PgBouncer", function()
  local server, pooler, url

  setup(function()
    server = postgres.shared()
    pooler = start(server, 0)
  end)
  teardown(function() pooler.close() end)

  before_each(function()
    local db = moonbase.open(server:fresh())
    db:exec "create table item (id integer primary key, name text)"
    db:exec "insert into item select i, 'n' || i from generate_series(1, 100) i"
    db:close()
    url = ("postgres://moonbase@127.0.0.1:%d/moonbase?tls=off"):format(pooler.port)
  end)

  -- Several connections that take the pooler's sessions in turns.
  local function use(db)
    local conns = {}
    for i = 1, 4 do conns[i] = db:connect() end
    for round = 1, 5 do
      local tx = conns[1]:begin()
      tx:exec "select 1"
      for i = 2, 4 do
        assert.equal("n" .. round,
          conns[i]:query_value("select name from item where id = ?", round))
        assert.equal(1, (conns[i]:exec("update item set name = name where id = ?", round)))
      end
      assert.equal("n7", tx:query_value("select name from item where id = ?", 7))
      tx:commit()
      table.insert(conns, 1, table.remove(conns))
    end
    for i = 1, 4 do conns[i]:close() end
  end

  it("everything works with statement_cache = 0", function()
    local db = moonbase.open(url, { statement_cache = 0 })
    use(db)
    assert.equal(100, #db:query_all "select * from item")
    db:transaction(function(tx)
      tx:transaction(function(inner) inner:exec("delete from item where id = ?", 1) end)
    end)
    assert.equal(99, db:query_value "select count(*) from item")
    local x = db:with{ timeout = 0.1 }
    expect.raised("TimeoutError", nil, x.query, x, "select pg_sleep(5)")
    assert.equal(1, db:query_value "select 1")
    db:close()
  end)

  it("it is noticed that statement_cache = 0 was forgotten, and things go on", function()
    local db = moonbase.open(url)
    local told = {}
    db:on("warning", function(event) told[#told + 1] = event end)
    db:on("notice", function(event) told[#told + 1] = event end)
    use(db)
    use(db)
    assert.is_true(#told > 0)
    local said = {}
    for i, event in ipairs(told) do said[i] = tostring(event.message) end
    assert.match("statement_cache", table.concat(said, "\n"))
    db:close()
  end)

  if can_prepare then
    it("that carries prepared statements, nothing has to be said", function()
      local carrier = start(server, 100)
      local db = moonbase.open(("postgres://moonbase@127.0.0.1:%d/moonbase?tls=off"):format(
        carrier.port))
      local told = {}
      db:on("warning", function(event) told[#told + 1] = event end)
      db:on("notice", function(event) told[#told + 1] = event end)
      local ok, err = pcall(use, db)
      db:close()
      carrier.close()
      if not ok then error(err, 0) end
      assert.same({}, told)
    end)
  end

  it("a prepared statement works with statement_cache = 0", function()
    local db = moonbase.open(url, { statement_cache = 0 })
    local statement = db:prepare "select name from item where id = ?"
    for i = 1, 5 do assert.equal("n" .. i, statement:query_value(i)) end
    statement:close()
    db:close()
  end)
end)
