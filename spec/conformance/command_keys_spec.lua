-- Idempotency keys: lists of commands that run once.
local commands = require "moonbase.commands"
local errors = require "moonbase.errors"
local moonbase = require "moonbase"
local child = require "spec.support.child"
local expect = require "spec.support.expect"
local language = require "spec.support.language"

for _, database in ipairs(require "spec.support.databases") do
  local many = database.quirks.many_connections

  describe("A key for commands on " .. database.name, function()
    local db, executor, runs

    -- Adds a row, and gives what it is told to give.
    local Add = commands.define("Add", function(self, tx)
      runs = runs + 1
      tx:exec("insert into item (name) values (?)", self.name)
      return self.gives
    end)

    before_each(function()
      runs = 0
      db = database:open()
      database:create(db, "item (id :id, name :word not null)")
      executor = commands.executor(db)
    end)

    after_each(function()
      db, executor = nil, nil
      database:clean()
    end)

    local function names(x)
      return (x or db):query_column "select name from item order by id"
    end

    local function stored(x)
      return (x or db):query_value "select count(*) from moonbase_command_keys"
    end

    -- What a list gives under a key whose results are a value: at first, and from the table.
    local function gives(key, value)
      local list = { function() return value end }
      local first = executor:execute(list, { key = key })
      local second = executor:execute({ error }, { key = key })
      assert.equal(1, first.n)
      assert.equal(1, second.n)
      return first[1], second[1]
    end

    it("lets a list run once, and gives its results again", function()
      local list = { Add { name = "a", gives = "first" }, Add { name = "b" } }
      local first = executor:execute(list, { key = "k" })
      assert.same({ "first", n = 2 }, first)
      assert.same(first, executor:execute(list, { key = "k" }))
      assert.same(first, commands.executor(db):execute({ error }, { key = "k" }))
      assert.same({ "a", "b" }, names())
      assert.equal(2, runs)
      assert.equal(1, stored())
    end)

    it("stands for its own work only", function()
      executor:execute({ Add { name = "a" } }, { key = "1" })
      executor:execute({ Add { name = "b" } }, { key = "2" })
      executor:execute { Add { name = "c" } }
      assert.same({ "a", "b", "c" }, names())
    end)

    it("is kept byte by byte", function()
      local given = { "k", "K", "k ", " k", "é", "É", "k\0", "k\0k", "%6b", "k'", "ss", "ß", "\255",
        ("x"):rep(255), ("X"):rep(255), ("x"):rep(254) }
      for i, key in ipairs(given) do
        executor:execute({ Add { name = "a", gives = i } }, { key = key })
      end
      assert.equal(#given, runs)
      for i, key in ipairs(given) do
        assert.equal(i, executor:execute({ Add { name = "a" } }, { key = key })[1])
      end
      assert.equal(#given, runs)
    end)

    it("and its results are stored as ASCII that no collation changes", function()
      executor:execute({ function() return "ä b" end, function() return -1 / math.huge end },
        { key = "Key 1:a-b_c.\255" })
      assert.same({ "%4bey%201:a-b_c.%ff", "s%c3%a4%20b d-0e0" },
        { db:query_values "select command_key, results from moonbase_command_keys" })
    end)

    it("is free again when its commands have failed", function()
      pcall(executor.execute, executor, { Add { name = "a" }, error }, { key = "k" })
      executor:execute({ Add { name = "a" }, function() return nil, "why" end }, { key = "k" })
      assert.same({ n = 1 }, executor:execute({ Add { name = "b" } }, { key = "k" }))
      assert.same({ "b" }, names())
    end)

    it("tells what has failed as ever", function()
      assert.same({ false, "why", 2 }, { executor:execute({ Add { name = "a" },
        function() return false, "why" end }, { key = "k" }) })
      local err = expect.raised("ConstraintError", "command 1 (Add): ", executor.execute, executor,
        { Add {} }, { key = "k" })
      assert.equal(1, err.command_index)
      assert.equal("no", select(2, pcall(executor.execute, executor,
        { function() error("no", 0) end }, { key = "k" })))
      assert.same({}, names())
    end)

    it("is not looked for again when it was a command that broke a unique constraint", function()
      db:exec "create unique index item_name on item (name)"
      expect.raised("ConstraintError", "command 2 (Add): ", executor.execute, executor,
        { Add { name = "a" }, Add { name = "a" } }, { key = "k" })
      assert.equal(2, runs)
    end)

    it("is not taken by an empty list", function()
      assert.same({ n = 0 }, executor:execute({}, { key = "k" }))
      executor:execute({ Add { name = "a" } }, { key = "k" })
      assert.same({ "a" }, names())
    end)

    it("is a string of 1 to 255 bytes", function()
      expect.raised("UsageError", "wants 1 to 255 bytes, and got 0", executor.execute, executor,
        { print }, { key = "" })
      expect.raised("UsageError", "wants 1 to 255 bytes, and got 256", executor.execute, executor,
        { print }, { key = ("x"):rep(256) })
      for _, wrong in ipairs { 7, true, {} } do
        expect.raised("UsageError", "wants a string, and got a " .. type(wrong), executor.execute,
          executor, { print }, { key = wrong })
      end
    end)

    it("needs no table before it is used", function()
      executor:execute { Add { name = "a" } }
      expect.raised("SyntaxError", nil, stored)
      executor:execute({ Add { name = "b" } }, { key = "k" })
      assert.equal(1, stored())
    end)

    it("may be kept in another table", function()
      local own = commands.executor(db, { key_table = "own_keys" })
      own:execute({ Add { name = "a" } }, { key = "k" })
      own:execute({ Add { name = "a" } }, { key = "k" })
      assert.equal(1, db:query_value "select count(*) from own_keys")
      assert.equal(1, runs)
      executor:execute({ Add { name = "a" } }, { key = "k" })
      assert.equal(2, runs)
    end)

    it("is kept with the time, so that old ones can be deleted", function()
      local before = os.time()
      executor:execute({ Add { name = "a" } }, { key = "k" })
      assert.equal(0, db:exec("delete from moonbase_command_keys where created < ?", before))
      assert.equal(1, db:exec("delete from moonbase_command_keys where created <= ?", os.time()))
      executor:execute({ Add { name = "a" } }, { key = "k" })
      assert.equal(2, runs)
    end)

    describe("keeps", function()
      it("nil, true and false", function()
        local list = { function() end, function() return true end, function() return false end,
          function() return nil end }
        local first = executor:execute(list, { key = "k" })
        assert.same({ nil, true, false, nil, n = 4 }, first)
        assert.same(first, executor:execute(list, { key = "k" }))
      end)

      it("numbers with every bit", function()
        local all = { 0, 1, -1, 2 ^ 53, -2 ^ 53, 0.1, -0.1, 1 / 3, 1e300, 5e-324,
          1.7976931348623157e308, 1e15, 1e16, 123456789.125, math.huge, -math.huge }
        for i, number in ipairs(all) do
          local first, second = gives("k" .. i, number)
          assert.equal(number, first)
          assert.equal(number, second)
          if language.integers then
            assert.equal(math.type(first), math.type(second)) -- luacheck: ignore 143
          end
        end
        local zero = 0.0
        assert.equal(-math.huge, 1 / select(2, gives("negative zero", -zero)))
        local nan = select(2, gives("nan", 0 / 0))
        assert.is_true(nan ~= nan)
      end)

      if language.integers then
        it("integers to 64 bits, and floats as floats", function()
          for i, text in ipairs { "math.maxinteger", "math.mininteger", "2^53 // 1 | 0",
            "9007199254740993", "-9007199254740993", "3.0", "2.0^62" } do
            local value = language.compile("return " .. text)
            local first, second = gives("k" .. i, value)
            assert.equal(value, second)
            assert.equal(math.type(first), math.type(second)) -- luacheck: ignore 143
          end
        end)
      end

      it("integers of a Lua with 64 bits, elsewhere as those of the database", function()
        executor:execute({ function() end }, { key = "k" })
        db:exec("update moonbase_command_keys set results = ?",
          "i9223372036854775807 i-9223372036854775808 i9007199254740993 i9007199254740992 i-5")
        local results = executor:execute({ error }, { key = "k" })
        assert.equal(5, results.n)
        for i, digits in ipairs { "9223372036854775807", "-9223372036854775808",
          "9007199254740993" } do
          assert.equal(digits, tostring(results[i]))
          assert.equal(language.integers and "number" or "string", type(results[i]))
        end
        assert.equal(2 ^ 53, results[4])
        assert.equal(-5, results[5])
      end)

      it("strings with every byte", function()
        local bytes = {}
        for byte = 0, 255 do bytes[#bytes + 1] = string.char(byte) end
        for i, text in ipairs { "", " ", "a b", "%41", "a\nb", "größer", table.concat(bytes),
          ("x "):rep(5000) } do
          assert.equal(text, select(2, gives("k" .. i, text)))
        end
      end)

      it("nothing else: a UsageError that names the command, and all is rolled back", function()
        for _, value in ipairs { {}, print, io.stdout, coroutine.create(function() end) } do
          local err = expect.raised("UsageError", "command 2 (Add): it gave a " .. type(value),
            executor.execute, executor, { Add { name = "a" }, Add { name = "b", gives = value } },
            { key = "k" })
          assert.equal(2, err.command_index)
          assert.equal("Add", err.command)
        end
        assert.same({}, names())
        assert.equal(0, stored())
        assert.same({ {}, n = 1 }, executor:execute { Add { name = "c", gives = {} } })
      end)
    end)

    describe("that another transaction takes", function()
      it("between looking for it and taking it gives that one's results", function()
        local first = true
        local late = setmetatable({ transaction = function(_, fn, options)
          if first then
            executor:execute({ Add { name = "first", gives = "first" } }, { key = "k" })
          end
          first = false
          return db:transaction(fn, options)
        end }, { __index = function(_, name)
          local method = db[name]
          return method and function(_, ...) return method(db, ...) end
        end })
        assert.same({ "first", n = 1 }, commands.executor(late):execute(
          { Add { name = "second", gives = "second" } }, { key = "k" }))
        assert.same({ "first" }, names())
      end)

      it("and that cannot be seen is a conflict, in the end", function()
        database:create(db, "own_keys (command_key varchar(765) not null primary key, "
          .. "results varchar(100) not null unique, created :integer not null)")
        db:exec "insert into own_keys (command_key, results, created) values ('other', '', 0)"
        local own = commands.executor(db, { key_table = "own_keys" })
        local function check()
          local err = expect.raised("SerializationError", "another transaction has taken the key",
            own.execute, own, { Add { name = "a" } }, { key = "k" })
          assert.is_true(err.retryable)
          assert.equal("ConstraintError", err.cause.class)
        end
        check()
        db:transaction(check)
        assert.equal(0, runs)
      end)
    end)

    describe("inside a transaction", function()
      it("is taken with it, and free again when it is rolled back", function()
        pcall(db.transaction, db, function()
          executor:execute({ Add { name = "a" } }, { key = "k" })
          error "no"
        end)
        db:transaction(function()
          executor:execute({ Add { name = "b" } }, { key = "k" })
          executor:execute({ Add { name = "b" } }, { key = "k" })
        end)
        executor:execute({ Add { name = "b" } }, { key = "k" })
        assert.same({ "b" }, names())
      end)

      it("is free again when its commands have failed, and the transaction goes on", function()
        db:transaction(function(tx)
          tx:exec "insert into item (name) values ('before')"
          assert.same({ nil, "why", 1 },
            { executor:execute({ function() return nil, "why" end }, { key = "k" }) })
          expect.raised("ConstraintError", nil, executor.execute, executor, { Add {} },
            { key = "k" })
          executor:execute({ Add { name = "a" } }, { key = "k" })
        end)
        assert.same({ "before", "a" }, names())
        assert.equal(1, stored())
      end)

      it("may stand for a part of the work of another key", function()
        local function outer()
          return executor:execute({ function()
            return executor:execute({ Add { name = "a", gives = 7 } }, { key = "inner" })[1]
          end }, { key = "outer" })[1]
        end
        assert.equal(7, outer())
        assert.equal(7, outer())
        assert.equal(7, executor:execute({ error }, { key = "inner" })[1])
        assert.equal(1, runs)
      end)

      it("is refused within the list that has taken it", function()
        expect.raised("UsageError", "command 1 (", executor.execute, executor, { function()
          executor:execute({ Add { name = "a" } }, { key = "k" })
        end }, { key = "k" })
        assert.same({}, names())
        assert.equal(0, runs)
      end)
    end)

    describe("and an unknown outcome:", function()
      -- The database, whose next commits seem to lose the connection: "before" they have
      -- taken place, "after", or after it and for ever.
      local function losing(x, how)
        local lost = {}
        local is_down = false

        local function lose(step)
          local err = errors.new("ConnectionLostError", "lost", { commit_unknown = true })
          lost[#lost + 1] = err
          is_down = step == "for ever"
          error(err, 0)
        end

        local function transaction(_, fn, options)
          local step = table.remove(how, 1)
          if step == "before" then
            return x:transaction(function(tx)
              fn(tx)
              lose(step)
            end, options)
          end
          local results = x:transaction(fn, options)
          if step then lose(step) end
          return results
        end

        local function find_method(_, name)
          local method = x[name]
          if is_down then error(errors.new("ConnectivityError", "the server is away"), 0) end
          return method and function(_, ...) return method(x, ...) end
        end
        return setmetatable({ transaction = transaction }, { __index = find_method }), lost
      end

      local list = { Add { name = "a", gives = "done" } }

      it("the next call gives the results of a commit that took place", function()
        local first = commands.executor((losing(db, { "after" })))
        local err = expect.raised("ConnectionLostError", nil, first.execute, first, list,
          { key = "k" })
        assert.is_true(err.commit_unknown)
        assert.same({ "done", n = 1 }, executor:execute(list, { key = "k" }))
        assert.same({ "a" }, names())
        assert.equal(1, runs)
      end)

      it("the next call runs what was not committed", function()
        local first = commands.executor((losing(db, { "before" })))
        expect.raised("ConnectionLostError", nil, first.execute, first, list, { key = "k" })
        assert.same({ "done", n = 1 }, executor:execute(list, { key = "k" }))
        assert.same({ "a" }, names())
        assert.equal(2, runs)
      end)

      it("with retry the executor finds out for itself", function()
        for _, how in ipairs { { "after" }, { "before" }, { "before", "before", "after" } } do
          db:exec "delete from item"
          runs = 0
          local wanted = #how > 1 and 3 or how[1] == "before" and 2 or 1
          local patient = commands.executor((losing(db, how)), { retry = {} })
          local key = table.concat(how)
          assert.same({ "done", n = 1 }, patient:execute(list, { key = key }))
          assert.same({ "a" }, names())
          assert.equal(wanted, runs)
        end
      end)

      it("with retry but without a key it is not touched", function()
        local patient = commands.executor((losing(db, { "after" })), { retry = {} })
        expect.raised("ConnectionLostError", nil, patient.execute, patient, list)
        assert.equal(1, runs)
      end)

      it("that of another commit, inside a command, is not this one's", function()
        local patient = commands.executor(db, { retry = {} })
        expect.raised("ConnectionLostError", nil, patient.execute, patient, { list[1], function()
          error(errors.new("ConnectionLostError", "lost elsewhere", { commit_unknown = true }), 0)
        end }, { key = "k" })
        assert.equal(1, runs)
      end)

      it("the time of retry is counted", function()
        local patient = commands.executor((losing(db, { "before" })), { retry = { max_time = 1 } })
        local function wait()
          local start = os.time()
          while os.difftime(os.time(), start) < 2 do end -- luacheck: ignore 542
        end
        expect.raised("ConnectionLostError", nil, patient.execute, patient,
          { list[1], wait }, { key = "k" })
        assert.equal(1, runs)
      end)

      it("the attempts of retry are counted, those for another reason too", function()
        local conflicts = 0
        local handle, lost = losing(db, { "before", "before", "before" })
        local patient = commands.executor(handle, { retry = { attempts = 4 } })
        expect.raised("ConnectionLostError", nil, patient.execute, patient, { list[1], function()
          conflicts = conflicts + 1
          if conflicts % 2 == 1 then
            error(errors.new("SerializationError", "again", { retryable = true }), 0)
          end
        end }, { key = "k" })
        assert.equal(2, #lost)
        assert.equal(4, runs)
      end)

      it("the attempts of retry are counted", function()
        local handle, lost = losing(db, { "before", "before", "before" })
        local patient = commands.executor(handle, { retry = { attempts = 2 } })
        local err = expect.raised("ConnectionLostError", nil, patient.execute, patient, list,
          { key = "k" })
        assert.equal(2, #lost)
        assert.equal(lost[2], err)
        assert.same({}, names())
      end)

      it("it stays unknown while nobody can find out", function()
        local handle, lost = losing(db, { "for ever" })
        local patient = commands.executor(handle, { retry = {} })
        local err = expect.raised("ConnectionLostError", nil, patient.execute, patient, list,
          { key = "k" })
        assert.equal(lost[1], err)
        assert.is_true(err.commit_unknown)
        assert.equal("ConnectivityError", err.errors[1].class)
        assert.same({ "done", n = 1 }, executor:execute(list, { key = "k" }))
        assert.equal(1, runs)
      end)

      it("it is known once the key was taken again, and what comes then is the truth", function()
        local patient = commands.executor((losing(db, { "before" })), { retry = {} })
        local err = expect.raised("ConstraintError", nil, patient.execute, patient,
          { function(tx)
            runs = runs + 1
            if runs == 2 then tx:exec "insert into item (name) values (null)" end
          end }, { key = "k" })
        assert.is_false(err.commit_unknown)
        assert.equal(2, runs)
      end)
    end)

    it("works on handles whatever their options are", function()
      local odd = db:with { errors = "return", null = moonbase.null, placeholders = false,
        types = { text = function() return "converted" end } }
      local quiet = commands.executor(odd)
      local list = { function(tx)
        runs = runs + 1
        tx:exec "insert into item (name) values ('a')"
        return "done"
      end }
      assert.same({ "done", n = 1 }, quiet:execute(list, { key = "k" }))
      assert.same({ "done", n = 1 }, quiet:execute(list, { key = "k" }))
      assert.equal(1, runs)
      expect.returned("ConstraintError", "command 1",
        quiet:execute({ function(tx)
          tx:exec "insert into item (name) values (null)"
        end }, { key = "other" }))
    end)

    it("gives nil and the error where errors are returned and the database cannot be asked",
      function()
        local stop = moonbase.cancellation()
        stop:cancel()
        local quiet = commands.executor(db:with { errors = "return", cancel = stop })
        expect.returned("CanceledError", nil, quiet:execute({ Add { name = "a" } }, { key = "k" }))
        local loud = commands.executor(db:with { cancel = stop })
        expect.raised("CanceledError", nil, loud.execute, loud, { Add { name = "a" } },
          { key = "k" })
        assert.same({}, names())
      end)

    if many then
      it("is taken by one of several processes at once, and the others get its results", function()
        local text = [[
          local url, driver, number, rounds = ...
          local db = require "moonbase".open(url, { driver = driver })
          local commands = require "moonbase.commands"
          local executor = commands.executor(db, { write_exclusive = true })
          for round = 1, tonumber(rounds) do
            print "ready"
            io.stdout:flush()
            io.read "*l"
            local results = executor:execute({ function(tx)
              tx:exec("insert into item (name) values (?)", "round " .. round)
              return number
            end }, { key = "round " .. round })
            print(results[1])
          end
        ]]
        local rounds, processes = 20, {}
        for i = 1, 4 do
          processes[i] = child.start(text, database:url(), database.driver, "process " .. i, rounds)
        end
        local answers = {}
        for round = 1, rounds do
          for _, process in ipairs(processes) do process:hear() end
          for _, process in ipairs(processes) do process:tell "go" end
          answers[round] = {}
          for i, process in ipairs(processes) do answers[round][i] = process:hear() end
        end
        for _, process in ipairs(processes) do assert.equal("", process:finish()) end
        for _, answer in ipairs(answers) do
          assert.is_truthy(answer[1]:find "^process %d$", answer[1])
          for i = 2, #processes do assert.equal(answer[1], answer[i]) end
        end
        assert.equal(rounds, #names())
        assert.equal(rounds, stored())
      end)
    end
  end)
end
