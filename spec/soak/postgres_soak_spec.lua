-- PostgreSQL at length: large values, late cancels, conflicts, servers that fall and standbys
-- that take over.
local moonbase = require "moonbase"
local child = require "spec.support.child"
local files = require "spec.support.files"
local length = require "spec.support.length"
local now = require "moonbase.core".now
local postgres = require "spec.support.postgres"

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
  local done, finish = 0, now() + seconds
  while now() < finish do
    local from, to, amount = random(accounts), random(accounts), random(10)
    db:transaction(function(tx)
      local balance = tx:query_value("select balance from account where id = ?", from)
      local other = tx:query_value("select balance from account where id = ?", to)
      tx:exec("update account set balance = ? where id = ?", balance - amount, from)
      if to == from then other = balance - amount end
      tx:exec("update account set balance = ? where id = ?", other + amount, to)
      tx:exec("insert into transfer (teller, number) values (?, ?)", number, done + 1)
    end, { isolation = "serializable", retry = { attempts = 10000, max_time = seconds + 60 } })
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

describe("PostgreSQL at length", function()
  local server, db

  before_each(function()
    server = postgres.shared()
    db = moonbase.open(server:fresh())
  end)

  after_each(function()
    db:close()
    files.clean()
  end)

  it("keeps every byte of a value of 200 MB", function()
    local bytes = ("\0\255\\'x"):rep(length(40 * 2 ^ 20))
    db:exec "create table item (data bytea)"
    db:exec("insert into item values (?)", moonbase.blob(bytes))
    assert.equal(#bytes, db:query_value "select length(data) from item")
    assert.is_true(db:query_value "select data from item" == bytes)
    for row in db:query "select data from item" do assert.is_true(row.data == bytes) end
  end)

  it("never has a statement hit by the cancel of the one before", function()
    local conn = db:connect()
    local hits, in_time = 0, 0
    for i = 1, length(2000) do
      local x = conn:with{ timeout = 0.002 + i % 10 / 5000 }
      local ok, err = pcall(x.query_value, x, "select pg_sleep(0.003)")
      if ok then
        in_time = in_time + 1
      else
        assert.equal("TimeoutError", err.class)
        -- A busy machine may take longer than cancel_grace.
        if err.connection_dead then conn = db:connect() end
      end
      if not pcall(conn.query_value, conn, "select 1") then hits = hits + 1 end
    end
    assert.equal(0, hits)
    assert.is_true(in_time < length(2000))
    conn:close()
  end)

  it("keeps the total of 100 accounts when 8 processes move money between them", function()
    local accounts = 100
    db:exec "create table account (id integer primary key, balance integer not null)"
    db:exec "create table transfer (teller integer, number integer, primary key (teller, number))"
    db:exec("insert into account select i, 1000 from generate_series(1, ?) i", accounts)
    local tellers = {}
    for number = 1, 8 do
      tellers[number] = child.start(teller, server:url(), number, length(60), accounts)
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
    assert.equal(accounts * 1000, db:query_value "select sum(balance) from account")
  end)
end)

describe("A server of PostgreSQL that falls", function()
  local server

  before_each(function() server = postgres.start() end)

  after_each(function()
    server:close()
    files.clean()
  end)

  local function table_for_writers()
    local db = moonbase.open(server:url())
    db:exec "create table written (writer integer, n integer, primary key (writer, n))"
    db:close()
  end

  -- What a writer was told of is there, and at most one more for each error.
  local function check(db, number, said)
    local errors = assert(tonumber(said:match "errors (%d+)"), said)
    local lines = 0
    for line in said:gmatch "[^\n]+" do
      if line:find "^%d+$" then
        lines = lines + 1
        assert.equal(1, db:query_value(
          "select count(*) from written where writer = ? and n = ?", number, tonumber(line)))
      end
    end
    local kept = db:query_value("select count(*) from written where writer = ?", number)
    assert.is_true(kept >= lines and kept <= lines + errors,
      ("writer %d: %d were told of, %d are there, %d errors"):format(number, lines, kept, errors))
    return errors
  end

  it("loses nothing that was acknowledged, however it falls, and is used again", function()
    table_for_writers()
    local seconds = math.max(8, length(60))
    local writers = {}
    for number = 1, 4 do
      writers[number] = child.start(writer, server:url(), number, seconds)
    end
    local finish, falls = now() + seconds - 3, 0
    while now() < finish do
      for _, fall in ipairs { "immediate", "kill", "fast" } do
        if now() < finish then
          os.execute "sleep 0.5"
          if fall == "kill" then server:kill() else server:stop(fall) end
          server:start()
          falls = falls + 1
        end
      end
    end
    local db = moonbase.open(server:url())
    for number, one in ipairs(writers) do
      assert.is_true(check(db, number, one:finish()) >= 0)
    end
    assert.is_true(falls > 1)
    db:close()
  end)

  it("is followed by its standby: writers carry on with at most one error each", function()
    local standby = server:standby()
    -- Only now: the standby, which will be alone, has a copy of the server's settings.
    server:psql "alter system set synchronous_standby_names = '*'"
    server:psql "select pg_reload_conf()"
    table_for_writers()
    local url = ("postgres://moonbase@%s:%d,%s:%d/moonbase?target_session_attrs=read-write")
      :format(server.folder:gsub("/", "%%2F"), server.port, standby.folder:gsub("/", "%%2F"),
        standby.port)
    local seconds = math.max(8, length(30))
    local writers = {}
    for number = 1, 4 do writers[number] = child.start(writer, url, number, seconds) end
    os.execute "sleep 2"
    server:stop "immediate"
    standby:promote()
    local db = moonbase.open(standby:url())
    local function last(number)
      return db:query_value("select coalesce(max(n), 0) from written where writer = ?", number)
    end
    local said, before = {}, {}
    for number = 1, 4 do before[number] = last(number) end
    for number, one in ipairs(writers) do said[number] = one:finish() end
    for number = 1, 4 do
      assert.is_true(check(db, number, said[number]) <= 1,
        said[number]:match "writer.*")
      assert.is_true(last(number) > before[number], "writer " .. number .. " did not go on")
    end
    db:close()
    standby:close()
  end)
end)
