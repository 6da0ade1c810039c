-- Processes that move money in one database while some of them are killed: the sum stays, and
-- what was acknowledged is there.
local child = require "spec.support.child"
local length = require "spec.support.length"

local accounts, initial = 20, 1000

-- Makes transfers until it has made as many as it was told, each told of when it is committed.
local teller = [[
  local url, driver, number, transfers, accounts = ...
  number, transfers, accounts = tonumber(number), tonumber(transfers), tonumber(accounts)
  local moonbase = require "moonbase"
  io.stdout:setvbuf "line"
  local db = moonbase.open(url, { driver = driver, timeout = 60 })
  local state = number * 7919
  local function random(n)
    state = (state * 16807 + 11) % 2147483647
    return state % n + 1
  end
  for i = 1, transfers do
    local from, to, amount = random(accounts), random(accounts), random(10)
    db:transaction(function(tx)
      local balance = tx:query_value("select balance from account where id = ?", from)
      if balance >= amount then
        tx:exec("update account set balance = balance - ? where id = ?", amount, from)
        tx:transaction(function(inner)
          inner:exec("update account set balance = balance + ? where id = ?", amount, to)
        end)
      end
      tx:exec("insert into transfer (teller, number) values (?, ?)", number, i)
    end, { retry = { attempts = 1000, max_time = 120 } })
    print(i)
  end
  print "done"
]]

for _, database in ipairs(require "spec.support.databases") do
  if database.quirks.many_connections then
    describe("Processes that write " .. database.name, function()
      local db, tellers

      before_each(function()
        db = database:open()
        db:exec "drop table if exists account"
        db:exec "drop table if exists transfer"
        db:exec "create table account (id integer primary key, balance integer not null)"
        db:exec [[create table transfer (teller integer, number integer,
          primary key (teller, number))]]
        local rows = {}
        for i = 1, accounts do rows[i] = { i, initial } end
        db:bulk_insert("account", { "id", "balance" }, rows)
        tellers = {}
      end)

      after_each(function()
        for _, one in ipairs(tellers) do
          one.process:kill()
          one.process:finish()
        end
        db:exec "drop table account"
        db:exec "drop table transfer"
        database:clean()
      end)

      it("lose and invent nothing when some of them are killed", function()
        local transfers = length(2000)
        for number = 1, 4 do
          -- Two never come to their end.
          tellers[number] = { last = 0, process = child.start(teller, database:url(),
            database.driver, number, number > 2 and transfers or 1e9, accounts) }
        end
        for number = 1, 2 do
          local one = tellers[number]
          while one.last < transfers * number / 3 do one.last = tonumber(one.process:hear()) end
          one.process:kill()
        end
        for number, one in ipairs(tellers) do
          for line in function() return one.process:hear() end do
            if line == "done" then one.done = true else
              one.last = assert(tonumber(line), line)
            end
          end
          assert.equal(number > 2, one.done or false)
        end

        assert.equal(accounts * initial,
          tonumber(db:query_value "select sum(balance) from account"))
        assert.equal(0, db:query_value "select count(*) from account where balance < 0")
        for number, one in ipairs(tellers) do
          -- One may have been committed and not been told of.
          local kept = db:query_value("select count(*) from transfer where teller = ?", number)
          assert.is_true(kept == one.last or number <= 2 and kept == one.last + 1,
            ("teller %d: %d were told of, %d are there"):format(number, one.last, kept))
          assert.equal(kept, db:query_value("select coalesce(max(number), 0) from transfer "
            .. "where teller = ?", number))
        end
      end)
    end)
  end
end
