-- A Galera cluster: nodes that are not ready, conflicts between nodes, reads of what another node
-- has written, a node that is killed.
local moonbase = require "moonbase"
local expect = require "spec.support.expect"
local galera = require "spec.support.galera"
local now = require "moonbase.core".now

describe("A Galera cluster", function()
  local cluster, db

  setup(function() cluster = galera.start() end)
  teardown(function() cluster:close() end)

  before_each(function()
    db = moonbase.open(cluster:url())
    db:exec "drop table if exists account"
    db:exec "create table account (id integer primary key, balance integer not null)"
    db:bulk_insert("account", { "id", "balance" }, { { 1, 100 }, { 2, 100 }, { 3, 100 } })
  end)

  after_each(function() db:close() end)

  local function node_of(x)
    return x:query_value "select @@wsrep_node_name"
  end

  it("is connected to by the first of its nodes", function()
    assert.equal("node1", node_of(db))
    local other = moonbase.open(cluster:url(3, 1))
    assert.equal("node3", node_of(other))
    other:close()
  end)

  it("passes a node over that is not ready", function()
    -- It neither hears the others nor is heard.
    cluster:isolate(1, true)
    local ok, err = pcall(function()
      local other = moonbase.open(cluster:url())
      assert.are_not.equal("node1", node_of(other))
      assert.equal(3, other:query_value "select count(*) from account")
      other:close()
      -- Where there is no other one, that is why it cannot be connected to, or used.
      local alone = moonbase.open(cluster:url(1))
      local refused = expect.raised("ConnectivityError", nil, alone.query_value, alone,
        "select count(*) from account")
      assert.equal(1047, refused.native_code)
      alone:close()
    end)
    cluster:isolate(1, false)
    if not ok then error(err, 0) end
  end)

  it("makes a conflict between nodes a SerializationError, which is tried again", function()
    local first = moonbase.open(cluster:url(1)):connect()
    local second = moonbase.open(cluster:url(2)):connect()
    local err
    -- Each takes the row on its own node; the COMMIT that comes second is refused.
    for _ = 1, 20 do
      local tx, other = first:begin(), second:begin()
      tx:exec "update account set balance = balance + 1 where id = 1"
      other:exec "update account set balance = balance + 1 where id = 1"
      tx:commit()
      local ok, refused = pcall(other.commit, other)
      if not ok then
        err = refused
        break
      end
    end
    assert.equal("SerializationError", err.class)
    assert.equal(1213, err.native_code)
    assert.is_true(err.retryable)
    assert.is_false(err.commit_unknown)
    first:close()
    second:close()
  end)

  it("loses no update that is made on all nodes at once, when transactions are tried again",
    function()
      local nodes = {}
      for i = 1, 3 do nodes[i] = moonbase.open(cluster:url(i)) end
      local attempts = 0
      for round = 1, 30 do
        local inner = nodes[round % 3 + 1]
        nodes[(round + 1) % 3 + 1]:transaction(function(tx)
          attempts = attempts + 1
          local balance = tx:query_value "select balance from account where id = 1 for update"
          if tx.attempt == 1 then
            inner:transaction(function(other)
              local seen = other:query_value "select balance from account where id = 1 for update"
              other:exec("update account set balance = ? where id = 1", seen + 1)
            end, { retry = { attempts = 50 } })
          end
          tx:exec("update account set balance = ? where id = 1", balance + 1)
        end, { retry = { attempts = 50 } })
      end
      local sure = moonbase.open(cluster:url(2), { wsrep_sync_wait = 1 })
      assert.equal(160, sure:query_value "select balance from account where id = 1")
      assert.is_true(attempts > 30)
      sure:close()
      for i = 1, 3 do nodes[i]:close() end
    end)

  it("gives what another node has written at once where that is asked for", function()
    local writer = moonbase.open(cluster:url(1))
    local reader = moonbase.open(cluster:url(2), { wsrep_sync_wait = 1, pool = { max = 1 } })
    assert.equal(1, reader:query_value "select @@wsrep_sync_wait")
    for n = 1, 200 do
      writer:exec("update account set balance = ? where id = 2", n)
      assert.equal(n, reader:query_value "select balance from account where id = 2")
    end
    -- Also behind a reset.
    local conn = reader:connect()
    conn:exec "set wsrep_sync_wait = 0"
    conn:close()
    assert.equal(1, reader:query_value "select @@wsrep_sync_wait")
    writer:close()
    reader:close()
  end)

  it("goes on on another node when one is killed", function()
    for n = 10, 20 do db:exec("insert into account values (?, 0)", n) end
    assert.equal("node1", node_of(db))
    cluster:kill(1)
    local errors, start = 0, now()
    repeat
      local ok, err = pcall(db.exec, db, "insert into account values (99, 0)")
      if not ok then
        errors = errors + 1
        assert.is_true(moonbase.is(err, "ConnectivityError") or moonbase.is(err, "EngineError"),
          tostring(err))
      end
    until ok or now() - start > 30
    assert.is_true(errors <= 1, errors .. " errors")
    assert.are_not.equal("node1", node_of(db))
    assert.equal(15, db:query_value "select count(*) from account")
    cluster:start(1)
    local back = moonbase.open(cluster:url(1), { wsrep_sync_wait = 1 })
    assert.equal(15, back:query_value "select count(*) from account")
    back:close()
  end)
end)
