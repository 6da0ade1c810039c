-- MySQL at length: large values, late cancels, money that is moved under locks, servers that
-- fall, and a cluster that loses a node.
local moonbase = require "moonbase"
local child = require "spec.support.child"
local files = require "spec.support.files"
local galera = require "spec.support.galera"
local length = require "spec.support.length"
local mysql = require "spec.support.mysql"
local now = require "moonbase.core".now

-- Moves money between accounts until its time is over, and says how often it did.
local teller = [[
  local url, number, seconds, accounts = ...
  number, seconds, accounts = tonumber(number), tonumber(seconds), tonumber(accounts)
  local moonbase = require "moonbase"
  local now = require "moonbase.core".now
  local db = moonbase.open(url)
  local state = number * 7919
  local function random(n)
    state = (state * 16807 + 11) % 2147483647
    return state % n + 1
  end
  local read = "select balance from account where id = ? for update"
  local done, finish = 0, now() + seconds
  while now() < finish do
    local from, to, amount = random(accounts), random(accounts), random(10)
    db:transaction(function(tx)
      local balance = tx:query_value(read, from)
      tx:exec("update account set balance = ? where id = ?", balance - amount, from)
      local other = tx:query_value(read, to)
      tx:exec("update account set balance = ? where id = ?", other + amount, to)
      tx:exec("insert into transfer (teller, number) values (?, ?)", number, done + 1)
    end, { isolation = "repeatable read", retry = { attempts = 10000, max_time = seconds + 60 } })
    done = done + 1
  end
  db:close()
  print(done)
]]

-- Inserts rows, one after the other, for some time; says the number of each that was
-- acknowledged, and how many errors it met.  A row that no server could be found for is
-- tried again: that nothing was sent is certain then.
local writer = [[
  local url, number, seconds = ...
  local moonbase = require "moonbase"
  local now = require "moonbase.core".now
  io.stdout:setvbuf "line"
  local db = moonbase.open(url, { timeout = 20, pool = { acquire_timeout = 20 } })
  local finish, n, errors = now() + tonumber(seconds), 0, 0
  while now() < finish do
    n = n + 1
    local ok, err = moonbase.pcall(db.transaction, db, function(tx)
      tx:exec("insert into written (writer, n) values (?, ?)", tonumber(number), n)
    end, { retry = { attempts = 10000, max_time = 20 } })
    if ok then
      print(n)
    elseif err.class == "ConnectivityError" and not err.sent then
      n = n - 1
    else
      errors = errors + 1
      io.stderr:write("writer ", number, ": ", tostring(err), "\n")
    end
  end
  print("errors " .. errors)
]]

local accounts = 100

local function make_accounts(db)
  db:exec "drop table if exists account"
  db:exec "drop table if exists transfer"
  db:exec "create table account (id integer primary key, balance integer not null)"
  db:exec "create table transfer (teller integer, number integer, primary key (teller, number))"
  local rows = {}
  for i = 1, accounts do rows[i] = { i, 1000 } end
  db:bulk_insert("account", { "id", "balance" }, rows)
end

-- Has 8 tellers move money for some time, each at one of several URLs.
local function move_money(db, urls, seconds)
  local tellers = {}
  for number = 1, 8 do
    tellers[number] = child.start(teller, urls[number % #urls + 1], number, seconds, accounts)
  end
  local told = 0
  for number, one in ipairs(tellers) do
    local said = one:finish()
    local done = assert(tonumber(said:match "^(%d+)\n$"), said)
    assert.equal(done, db:query_value("select count(*) from transfer where teller = ?", number))
    told = told + done
  end
  assert.is_true(told > 0)
  assert.equal(told, db:query_value "select count(*) from transfer")
  assert.equal(accounts * 1000, tonumber(db:query_value "select sum(balance) from account"))
end

local function make_written(db)
  db:exec "drop table if exists written"
  db:exec "create table written (writer integer, n integer, primary key (writer, n))"
end

-- What a writer was told of is there, and at most one more for each error.
local function check(db, number, said)
  local errors = assert(tonumber(said:match "errors (%d+)"), said)
  local there = {}
  for _, n in ipairs(db:query_column("select n from written where writer = ?", number)) do
    there[n] = true
  end
  local lines = 0
  for line in said:gmatch "[^\n]+" do
    if line:find "^%d+$" then
      lines = lines + 1
      assert.is_true(there[tonumber(line)], ("writer %d: row %s is lost"):format(number, line))
    end
  end
  local kept = db:query_value("select count(*) from written where writer = ?", number)
  assert.is_true(kept >= lines and kept <= lines + errors,
    ("writer %d: %d were told of, %d are there, %d errors"):format(number, lines, kept, errors))
  return errors
end

describe("MySQL at length", function()
  local server, db

  before_each(function()
    server = mysql.shared()
    db = moonbase.open(server:fresh())
  end)

  after_each(function()
    db:close()
    files.clean()
  end)

  it("keeps every byte of a value of 200 MB", function()
    local bytes = ("\0\255\\'x"):rep(length(40 * 2 ^ 20))
    db:exec "create table item (data longblob)"
    db:exec("insert into item values (?)", moonbase.blob(bytes))
    assert.equal(#bytes, db:query_value "select length(data) from item")
    assert.is_true(db:query_value "select data from item" == bytes)
    for row in db:query "select data from item" do assert.is_true(row.data == bytes) end
  end)

  it("never has a statement hit by the cancel of the one before", function()
    db:exec "create table item (n integer)"
    db:exec "insert into item values (1), (2), (3)"
    local conn = db:connect()
    local hits, in_time = 0, 0
    for i = 1, length(2000) do
      local x = conn:with{ timeout = 0.002 + i % 10 / 5000 }
      local ok, err = pcall(x.query_column, x, "select sleep(0.001) from item")
      if ok then
        in_time = in_time + 1
      else
        assert.equal("TimeoutError", err.class)
        -- A busy machine may take longer than cancel_grace.
        if err.connection_dead then conn = db:connect() end
      end
      if not pcall(conn.query_value, conn, "select count(*) from item") then hits = hits + 1 end
    end
    assert.equal(0, hits)
    assert.is_true(in_time < length(2000))
    conn:close()
  end)

  it("keeps the total of 100 accounts when 8 processes move money between them", function()
    make_accounts(db)
    move_money(db, { server:url() }, length(60))
  end)
end)

describe("A server of MySQL that falls", function()
  local server

  before_each(function() server = mysql.start() end)

  after_each(function()
    server:close()
    files.clean()
  end)

  it("loses nothing that was acknowledged, however it falls, and is used again", function()
    local db = moonbase.open(server:url())
    make_written(db)
    local seconds = math.max(8, length(60))
    local writers = {}
    for number = 1, 4 do
      writers[number] = child.start(writer, server:url(), number, seconds)
    end
    local finish, falls = now() + seconds - 3, 0
    while now() < finish do
      for _, how in ipairs { "kill", "stop" } do
        if now() < finish then
          os.execute "sleep 0.5"
          server:restart(how)
          falls = falls + 1
        end
      end
    end
    for number, one in ipairs(writers) do
      assert.is_true(check(db, number, one:finish()) >= 0)
    end
    assert.is_true(falls > 1)
    db:close()
  end)
end)

if mysql.is_mariadb() then
  describe("A Galera cluster at length", function()
    local cluster

    before_each(function() cluster = galera.start() end)

    after_each(function()
      cluster:close()
      files.clean()
    end)

    it("keeps the total of 100 accounts when money is moved on all of its nodes", function()
      local db = moonbase.open(cluster:url(2), { wsrep_sync_wait = 1 })
      make_accounts(db)
      move_money(db, { cluster:url(1), cluster:url(2), cluster:url(3) }, length(60))
      db:close()
    end)

    it("loses nothing that was acknowledged with a node, and writers carry on with at most one "
      .. "error each", function()
      -- Those that are left answer when they have agreed that the other one is gone.
      local db = moonbase.open(cluster:url(2), { wsrep_sync_wait = 1, connect_timeout = 30 })
      make_written(db)
      local seconds = math.max(15, length(30))
      local writers = {}
      for number = 1, 4 do writers[number] = child.start(writer, cluster:url(), number, seconds) end
      os.execute "sleep 3"
      cluster:kill(1)
      local function last(number)
        return db:query_value("select coalesce(max(n), 0) from written where writer = ?", number)
      end
      local before, said = {}, {}
      for number = 1, 4 do before[number] = last(number) end
      for number, one in ipairs(writers) do said[number] = one:finish() end
      for _, node in ipairs { 2, 3 } do
        local survivor = moonbase.open(cluster:url(node), { wsrep_sync_wait = 1 })
        for number = 1, 4 do
          assert.is_true(check(survivor, number, said[number]) <= 1, said[number]:match "writer.*")
        end
        survivor:close()
      end
      for number = 1, 4 do
        assert.is_true(before[number] > 0, "writer " .. number .. " had not begun")
        assert.is_true(last(number) > before[number], "writer " .. number .. " did not go on")
      end
      db:close()
    end)
  end)
end
