-- What breaks between a program and MySQL, beside what breaks with every server
-- (spec/server_fault_spec.lua).
local moonbase = require "moonbase"
local expect = require "spec.support.expect"
local mysql = require "spec.support.mysql"
local now = require "moonbase.core".now
local recovers = require "spec.support.recovers"
local shell = require "spec.support.shell"

describe("With MySQL", function()
  local server, db

  setup(function() server = mysql.start() end)
  teardown(function() server:close() end)

  before_each(function()
    server:revive()
    db = moonbase.open(server:fresh(), { pool = { check_after_idle = 30 } })
    db:exec "create table item (n integer primary key)"
  end)

  after_each(function() db:close() end)

  it("a session that is killed while it idles is no error at all", function()
    local conns, ids = {}, {}
    for i = 1, 5 do
      conns[i] = db:connect()
      ids[i] = conns[i]:query_value "select connection_id()"
    end
    for i = 1, 5 do conns[i]:close() end
    local killed = { ids[1], ids[3], ids[5] }
    for _, id in ipairs(killed) do server:sql("kill connection " .. id) end
    repeat
      local left = server:sql("select count(*) from information_schema.processlist where id in ("
        .. table.concat(killed, ", ") .. ")")
    until left == "0\n"
    for i = 1, 5 do
      conns[i] = db:connect()
      assert.equal(0, conns[i]:query_value "select count(*) from item")
    end
    for i = 1, 5 do conns[i]:close() end
    -- The others are lent as ever.
    local stats = db:stats()
    assert.same({ 3, 0, 8 }, { stats.closed_by.dead, stats.closed_by.generation, stats.created })
  end)

  -- The server closes the socket and says nothing, as one that crashes does: the pool does not
  -- trust the others any more, which costs each of them a new connection and nobody an error.
  it("a session that is killed is no error for those who use others", function()
    db:exec("insert into item select i from ("
      .. require "spec.support.mysql_quirks".sql.series .. ") s", 1000)
    local conns = {}
    for i = 1, 6 do conns[i] = db:connect() end
    local victim, tx, reader = conns[1], conns[2]:begin(), conns[3]
    local id = victim:query_value "select connection_id()"
    tx:exec "insert into item values (1001)"
    local rows = reader:query "select a.n from item a, item b limit 50000"
    assert.is_number(rows:next().n)
    for i = 4, 6 do conns[i]:close() end
    server:sql("kill connection " .. id)
    expect.raised("ConnectionLostError", nil, victim.exec, victim, "select 1")
    victim:close()

    tx:exec "insert into item values (1002)"
    tx:commit()
    local n = 1
    for _ in rows do n = n + 1 end
    assert.equal(50000, n)
    conns[2]:close()
    assert.equal(1002, reader:query_value "select count(*) from item")
    reader:close()
    for i = 1, 6 do
      conns[i] = db:connect()
      assert.equal(1002, conns[i]:query_value "select count(*) from item")
    end
    for i = 1, 6 do conns[i]:close() end
    local stats = db:stats()
    assert.same({ 1, 5, 12 }, { stats.closed_by.dead, stats.closed_by.generation, stats.created })
    assert.equal(0, stats.failures)
  end)

  it("a server that is killed during a COMMIT leaves its outcome unknown", function()
    local root = moonbase.open(server:url("mysql", { user = "root" })):connect()
    local tx = db:begin()
    tx:exec "insert into item values (1)"
    root:exec "flush tables with read lock" -- which every COMMIT waits for
    shell.must(("( sleep 0.3; kill -KILL %d ) >/dev/null 2>&1 </dev/null &"):format(server:pid()))
    local start = now()
    local err = expect.raised("ConnectionLostError", nil, tx.commit, tx)
    assert.is_true(now() - start > 0.2)
    assert.is_true(err.commit_unknown)
    assert.is_true(err.sent)
    assert.is_false(err.retryable)
    server:start "kill"
    assert.equal(0, recovers(db, 0))
  end)
end)
