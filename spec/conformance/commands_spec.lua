-- Commands, and the executor that runs lists of them.
local commands = require "moonbase.commands"
local errors = require "moonbase.errors"
local moonbase = require "moonbase"
local expect = require "spec.support.expect"
local language = require "spec.support.language"

local function count_results(...) return select("#", ...), ... end

for _, database in ipairs(require "spec.support.databases") do
  local many = database.quirks.many_connections

  describe("Commands on " .. database.name, function()
    local db, executor

    -- A command that adds a row and gives its name.
    local Add = commands.define("Add", function(self, tx)
      tx:exec("insert into item (name) values (?)", self.name)
      return self.name
    end)

    local function fail() error("no", 0) end

    before_each(function()
      db = database:open()
      database:create(db, "item (id :id, name :text not null)")
      executor = commands.executor(db)
    end)

    after_each(function()
      db, executor = nil, nil
      database:clean()
    end)

    local function names(x)
      return (x or db):query_column "select name from item order by id"
    end

    local function refuses(text, list, given)
      local err = expect.raised("UsageError", text, executor.execute, executor, list, given)
      assert.same({}, names())
      assert.equal(0, db:stats().in_use)
      return err
    end

    -- The names are those of the design that this module follows, where a connection is
    -- what a transaction is here.
    describe("of its design:", function()
      local ExampleStore = {}
      ExampleStore.__index = ExampleStore

      function ExampleStore:set_value(value)
        self.x:transaction(function(tx)
          tx:exec("insert into item (name) values (?)", value)
        end)
      end

      local ExampleStoreFactory = {}

      function ExampleStoreFactory.get_store(x)
        return setmetatable({ x = x }, ExampleStore)
      end

      local SetValueExampleStoreCommand = commands.define("SetValueExampleStoreCommand",
        function(self, tx)
          self.store_factory.get_store(tx):set_value(self.value)
        end)

      local function new(value)
        return SetValueExampleStoreCommand { value = value, store_factory = ExampleStoreFactory }
      end

      it("StoreCommand is anything with execute(self, tx), made without a database", function()
        local command = { text = "by hand" }
        function command:execute(tx) tx:exec("insert into item (name) values (?)", self.text) end
        executor:execute { command }
        assert.same({ "by hand" }, names())
      end)

      it("StoreCommand.Context is the transaction that all of a list share", function()
        local seen = {}
        local function note(tx) seen[#seen + 1] = tx end
        executor:execute { note, note }
        assert.equal(seen[1], seen[2])
        assert.is_true(seen[1]:is_closed())
      end)

      it("StoreCommand.execute runs with the command and that context, and may fail", function()
        local command = {}
        local given
        function command.execute(...) given = { ... } error("InternalError", 0) end
        local ok, err = pcall(executor.execute, executor, { command })
        assert.is_false(ok)
        assert.equal("InternalError", err)
        assert.equal(2, #given)
        assert.equal(command, given[1])
      end)

      it("StoreCommandExecutor knows nothing of commands but that they can be executed", function()
        executor:execute { new "a", Add { name = "b" }, function(tx)
          Add { name = "c" }:execute(tx)
        end }
        assert.same({ "a", "b", "c" }, names())
      end)

      it("StoreCommandExecutor.Context is its Database", function()
        expect.raised("UsageError", "executor wants a Database", commands.executor)
        assert.equal(1, commands.executor(db):execute { new "a" }.n)
      end)

      it("StoreCommandExecutor.execute runs a list in one transaction, in its order", function()
        executor:execute { new "a", new "b" }
        assert.same({ "a", "b" }, names())
        assert.is_false((pcall(executor.execute, executor, { new "c", fail, new "d" })))
        assert.same({ "a", "b" }, names())
      end)

      it("DieselStoreCommandExecutor.new is commands.executor(db)", function()
        local results = commands.executor(db):execute { new "a" }
        assert.equal(1, results.n)
        assert.same({ "a" }, names())
      end)

      it("DieselStoreCommandExecutor.new_with_write_exclusivity is write_exclusive, beside which "
        .. "readers go on", function()
        local exclusive = commands.executor(db, { write_exclusive = true })
        exclusive:execute { new "a", function(tx)
          if many then
            local reader = db:connect()
            assert.same({}, names(reader))
            reader:close()
          end
          assert.same({ "a" }, names(tx))
        end }
        assert.same({ "a" }, names())
      end)

      it("SetValueExampleStoreCommand.new makes a command with what it needs", function()
        local command = new "a"
        assert.equal("a", command.value)
        assert.equal(ExampleStoreFactory, command.store_factory)
        assert.is_function(command.execute)
        assert.same({}, names())
      end)

      it("SetValueExampleStoreCommand.execute updates by the store of its factory", function()
        db:transaction(function(tx) new "a":execute(tx) end)
        assert.same({ "a" }, names())
      end)

      it("ExampleStoreFactory.get_store gives a store bound to what it is given: its own "
        .. "transactions become savepoints", function()
        ExampleStoreFactory.get_store(db):set_value "of its own"
        pcall(executor.execute, executor, { function(tx)
          ExampleStoreFactory.get_store(tx):set_value "within"
          assert.same({ "of its own", "within" }, names(tx))
          error "no"
        end })
        assert.same({ "of its own" }, names())
        executor:execute { function(tx)
          local store = ExampleStoreFactory.get_store(tx)
          expect.raised("ConstraintError", nil, store.set_value, store, nil)
          store:set_value "after"
        end }
        assert.same({ "of its own", "after" }, names())
      end)
    end)

    describe("are", function()
      it("tables whose metatable has execute, userdata with it, and functions", function()
        local class = { execute = function(self, tx) return Add { name = self[1] }:execute(tx) end }
        class.__index = class
        local userdata = moonbase.cancellation()
        local metatable = debug.getmetatable(userdata)
        debug.setmetatable(userdata, { __index = {
          execute = function(self, tx)
            assert.equal(userdata, self)
            return Add { name = "userdata" }:execute(tx)
          end,
        } })
        local ok, results = pcall(executor.execute, executor, { setmetatable({ "class" }, class),
          userdata, function(tx) return Add { name = "function" }:execute(tx) end })
        debug.setmetatable(userdata, metatable)
        assert.is_true(ok, tostring(results))
        assert.same({ "class", "userdata", "function", n = 3 }, results)
        assert.same({ "class", "userdata", "function" }, names())
      end)

      it("tables whose execute is something that can be called", function()
        local command = { execute = setmetatable({}, { __call = function() return "called" end }) }
        assert.same({ "called", n = 1 }, executor:execute { command })
      end)

      it("made by a constructor, each with a copy of its fields", function()
        local fields = { name = "a" }
        local first, second = Add(fields), Add(fields)
        fields.name = "b"
        assert.equal("a", first.name)
        assert.not_equal(first, second)
        assert.is_nil(getmetatable(fields))
        assert.equal("Add", Add.name)
        assert.is_nil(Add().name)
      end)

      it("run as often as they are in lists", function()
        local command = Add { name = "a" }
        executor:execute { command, command }
        executor:execute { command }
        assert.same({ "a", "a", "a" }, names())
      end)

      it("defined by a name and a function", function()
        expect.raised("UsageError", "the name of the command", commands.define, nil, print)
        expect.raised("UsageError", "the name of the command", commands.define, "", print)
        expect.raised("UsageError", "the function of X, and got a table", commands.define, "X", {})
        expect.raised("UsageError", "Add wants a table of fields, and got a string", Add, "a")
        expect.raised("UsageError", "Add cannot have a field execute", Add, { execute = print })
      end)
    end)

    describe("in a list", function()
      it("may be put together in one place, extended in another, and run in a third", function()
        local list = { Add { name = "a" } }
        table.insert(list, Add { name = "b" })
        executor:execute(list)
        list[#list + 1] = Add { name = "c" }
        executor:execute(list)
        assert.same({ "a", "b", "a", "b", "c" }, names())
      end)

      it("that is extended or changed while it runs runs as it was", function()
        local list = {}
        list[1] = function()
          list[2] = fail
          list[3] = Add { name = "late" }
          list.n = 7
        end
        list[2] = Add { name = "a" }
        assert.equal(2, executor:execute(list).n)
        assert.same({ "a" }, names())
      end)

      it("may be counted by n, as table.pack does", function()
        assert.equal(1, executor:execute({ Add { name = "a" }, n = 1 }).n)
        local extended = { Add { name = "b" }, n = 1 }
        extended[2] = Add { name = "c" }
        assert.equal(2, executor:execute(extended).n)
        assert.same({ "a", "b", "c" }, names())
      end)

      it("that is empty do nothing and succeed, without a transaction", function()
        local acquired = db:stats().acquired
        assert.same({ n = 0 }, executor:execute {})
        assert.equal(acquired, db:stats().acquired)
      end)

      it("are refused with their position, before anything begins", function()
        local good = Add { name = "a" }
        for _, bad in ipairs { "text", 7, true, {}, io.stdout, { execute = "text" },
          coroutine.create(function() end), setmetatable({}, { __index = fail }) } do
          local err = refuses("entry 2 is a " .. type(bad) .. ", and no command", { good, bad })
          assert.equal(2, err.command_index)
        end
        refuses("entry 1 is a boolean", { false })
      end)

      it("that has a hole are refused with its position", function()
        local good = Add { name = "a" }
        assert.equal(2, refuses("hole at 2", { good, nil, good }).command_index)
        assert.equal(1, refuses("hole at 1", { [2] = good }).command_index)
        refuses("hole at 2", { good, n = 2 })
        refuses("hole at 1", { [2 ^ 40] = good })
        refuses("hole at 1", { [math.huge] = good })
      end)

      it("are refused when they are what makes commands", function()
        refuses("entry 1 is what makes commands of the kind Add, and none itself: call it", { Add })
      end)

      it("have to be in a list", function()
        refuses("put it into { }", Add { name = "a" })
        refuses("wants a list of commands, and got a function", print)
        refuses("wants a list of commands, and got a nil", nil)
        refuses("key is no position of a list", { Add { name = "a" }, key = "k" })
        refuses("1.5 is no position of a list", { [1.5] = print })
        refuses("0 is no position of a list", { [0] = print })
        refuses("n is no length of a list", { print, n = "1" })
      end)
    end)

    describe("give", function()
      it("a list of what each returned first, nil kept", function()
        assert.same({ "a", nil, false, nil, 5, n = 6 }, executor:execute {
          Add { name = "a" }, function() end, function() return false end,
          function() return nil, nil end, function() return 5, "more" end,
          function() return nil end,
        })
        assert.same({ "a" }, names())
      end)

      it("what one has failed with by nil or false and a second value, with its position, and all "
        .. "is rolled back", function()
        local ran = false
        local function run(how)
          return count_results(executor:execute {
            Add { name = "a" }, how, function() ran = true end,
          })
        end
        assert.same({ 3, nil, "why", 2 }, { run(function() return nil, "why", "more" end) })
        assert.same({ 3, false, "why", 2 }, { run(function() return false, "why" end) })
        assert.is_false(ran)
        assert.same({ 3, nil, false, 1 },
          { count_results(executor:execute { function() return nil, false end }) })
        assert.same({}, names())
        assert.equal(0, db:stats().in_use)
      end)

      it("functions of on_commit their turn after all of them", function()
        local said = {}
        executor:execute {
          function(tx) tx:on_commit(function() said[#said + 1] = "committed" end) end,
          function() said[#said + 1] = "second" end,
        }
        assert.same({ "second", "committed" }, said)
      end)
    end)

    describe("that fail", function()
      it("roll everything back and raise what was raised, whatever it is", function()
        for _, mistake in ipairs { "text", 7, {}, print, io.stdout, true, false } do
          local ok, err = pcall(executor.execute, executor,
            { Add { name = "a" }, function() error(mistake, 0) end })
          assert.is_false(ok)
          assert.equal(mistake, err)
        end
        assert.is_nil(select(2, pcall(executor.execute, executor, { function() error(nil) end })))
        local foreign = setmetatable({ message = "mine" }, { __newindex = fail })
        assert.equal(foreign, select(2, pcall(executor.execute, executor,
          { function() error(foreign) end })))
        assert.equal("mine", foreign.message)
        assert.same({}, names())
        assert.equal(0, db:stats().in_use)
      end)

      it("are named in error objects and their messages", function()
        local inner
        local err = expect.raised("ConstraintError", "command 2 (Broken): ", executor.execute,
          executor, { Add { name = "a" }, commands.define("Broken", function(_, tx)
            local ok
            ok, inner = pcall(tx.exec, tx, "insert into item (name) values (null)")
            assert.is_false(ok)
            error(inner, 0)
          end)() })
        assert.equal(inner, err)
        assert.equal("Broken", err.command)
        assert.equal(2, err.command_index)
        assert.is_truthy(tostring(err):find("command 2 (Broken): ", 1, true))
        assert.equal("not_null", err.constraint_kind)
      end)

      it("are named by their metatable, or by where their function is", function()
        local function broken(_, tx) (tx or _):exec(nil) end
        local line = debug.getinfo(broken, "S").linedefined
        local named = setmetatable({ execute = broken }, { __name = "shop.Command" })
        for _, case in ipairs {
          { named, "shop.Command" },
          { { execute = broken }, "commands_spec.lua:" .. line },
          { broken, "commands_spec.lua:" .. line },
          { { execute = setmetatable({}, { __call = function(_, _, tx) broken(tx) end }) },
            "table" },
        } do
          local err = expect.raised("UsageError", nil, executor.execute, executor, { case[1] })
          assert.equal(case[2], err.command:sub(-#case[2]))
          assert.equal(1, err.command_index)
        end
      end)

      it("in a list that a command runs are named by both, and belong to the outer list", function()
        local err = expect.raised("ConstraintError", "command 2 (Outer): command 1 (Add): ",
          executor.execute, executor, { function() end, commands.define("Outer", function()
            executor:execute { Add {} }
          end)() })
        assert.equal("Outer", err.command)
        assert.equal(2, err.command_index)
      end)

      it("by an error object that they keep are named in it once", function()
        local kept = errors.new("StoreError", "kept")
        for _ = 1, 3 do
          expect.raised("StoreError", nil, executor.execute, executor,
            { commands.define("Keeper", function() error(kept, 0) end)() })
        end
        assert.equal("command 1 (Keeper): kept", kept.message)
      end)

      it("only at the commit are not to be told apart", function()
        if database.quirks.sql.deferred == "" then return end
        database:create(db, "child (id :id, item_id :integer references item (id) "
          .. database.quirks.sql.deferred .. ")")
        local err = expect.raised("ConstraintError", nil, executor.execute, executor,
          { Add { name = "a" }, function(tx)
            tx:exec "insert into child (item_id) values (77)"
          end })
        assert.is_nil(err.command)
        assert.is_nil(err.command_index)
        assert.same({}, names())
      end)

      it("leave the executor as it was", function()
        pcall(executor.execute, executor, { fail })
        executor:execute { Add { name = "a" } }
        assert.same({ "a" }, names())
      end)

      it("are those that end the transaction, too", function()
        for _, method in ipairs { "rollback", "commit" } do
          local ran = false
          local err = expect.raised("UsageError", "has ended the transaction", executor.execute,
            executor, { function(tx) tx[method](tx) end, function() ran = true end })
          assert.equal(1, err.command_index)
          assert.is_false(ran)
        end
      end)
    end)

    describe("inside a transaction", function()
      it("join it as a savepoint, which fails alone", function()
        db:transaction(function(tx)
          executor:execute { Add { name = "a" } }
          assert.same({ "a" }, names(tx))
          assert.is_false((pcall(executor.execute, executor, { Add { name = "b" }, fail })))
          assert.same({ nil, "why", 2 }, { executor:execute {
            Add { name = "c" }, function() return nil, "why" end,
          } })
          assert.same({ "a" }, names(tx))
        end)
        assert.same({ "a" }, names())
      end)

      it("are undone with it", function()
        pcall(db.transaction, db, function()
          executor:execute { Add { name = "a" } }
          error "no"
        end)
        assert.same({}, names())
      end)

      it("of another command are a list in a list", function()
        assert.same({ "inner", n = 1 }, executor:execute { function()
          return executor:execute { Add { name = "inner" } }[1]
        end })
        assert.same({ "inner" }, names())
      end)

      it("of a Connection, or one begun by hand, join that", function()
        local conn = db:connect()
        conn:transaction(function(tx)
          executor:with(tx):execute { Add { name = "a" } }
          executor:execute { Add { name = "b" } }
          assert.same({ "a", "b" }, names(tx))
          tx:rollback()
        end)
        conn:close()
        local tx = db:begin()
        executor:execute { Add { name = "c" } }
        tx:rollback()
        assert.same({}, names())
      end)

      it("are bound to it by with", function()
        local tx = db:begin()
        local bound = executor:with(tx)
        bound:execute { Add { name = "a" } }
        assert.is_false((pcall(bound.execute, bound, { Add { name = "b" }, fail })))
        tx:commit()
        assert.same({ "a" }, names())
        expect.raised("UsageError", "has ended", bound.execute, bound, { Add { name = "c" } })
        executor:execute { Add { name = "d" } }
        assert.same({ "a", "d" }, names())
      end)

      it("are bound to nothing but a transaction", function()
        for _, wrong in ipairs { db, executor, {}, "tx", 7 } do
          expect.raised("UsageError", "with wants a transaction", executor.with, executor, wrong)
        end
        expect.raised("UsageError", "with wants a transaction", executor.with, executor)
      end)

      it("have the options of that, whatever the executor says", function()
        local strict = commands.executor(db, { write_exclusive = true, retry = { attempts = 3 },
          isolation = "serializable", timeout = 5 })
        db:transaction(function()
          assert.same({ 1, n = 1 }, strict:execute { function(tx) return tx.attempt end })
        end)
        local tries = 0
        expect.raised("SerializationError", nil, db.transaction, db, function(tx)
          strict:with(tx):execute { function()
            tries = tries + 1
            error(errors.new("SerializationError", "again", { retryable = true }), 0)
          end }
        end)
        assert.equal(1, tries)
      end)
    end)

    describe("with write_exclusive", function()
      local exclusive, other

      before_each(function()
        exclusive = commands.executor(db, { write_exclusive = true })
        other = commands.executor(db, { write_exclusive = true })
      end)

      local function is_free()
        other:execute { Add { name = "free" } }
        return names()[#names()] == "free"
      end

      it("are transactions with the option exclusive", function()
        local seen
        local watched = setmetatable({ transaction = function(_, fn, options)
          seen = options.exclusive
          return db:transaction(fn, options)
        end }, { __index = function(_, name)
          local method = db[name]
          return method and function(_, ...) return method(db, ...) end
        end })
        commands.executor(watched, { write_exclusive = true }):execute { Add { name = "a" } }
        assert.is_true(seen)
        commands.executor(watched, { write_exclusive = false }):execute { Add { name = "b" } }
        assert.is_nil(seen)
        assert.same({ "a", "b" }, names())
      end)

      it("run one list after the other", function()
        exclusive:execute { Add { name = "a" } }
        other:execute { Add { name = "b" } }
        assert.same({ "a", "b" }, names())
      end)

      it("never leave the place taken, however a list ends", function()
        pcall(exclusive.execute, exclusive, { fail })
        assert.is_true(is_free())
        exclusive:execute { function() return nil, "why" end }
        assert.is_true(is_free())
        pcall(exclusive.execute, exclusive, { function(tx) tx:rollback() end })
        assert.is_true(is_free())
        pcall(exclusive.execute, exclusive, { function(tx) tx:exec "no statement" end })
        assert.is_true(is_free())
      end)

      if language.yields then
        it("leave it when the coroutine that runs them is dropped", function()
          language.use_coroutines()
          local function begin_and_drop()
            local thread = coroutine.create(function()
              exclusive:execute { Add { name = "dropped" }, coroutine.yield }
            end)
            assert.is_true(coroutine.resume(thread))
          end
          begin_and_drop()
          language.collect()
          assert.is_true(is_free())
          assert.same({ "free" }, names())
        end)
      end

      it("never wait for themselves", function()
        exclusive:execute { function(tx)
          other:execute { Add { name = "a" } }
          exclusive:with(tx):execute { Add { name = "b" } }
        end }
        assert.same({ "a", "b" }, names())
      end)
    end)

    describe("with retry", function()
      local function conflict()
        error(errors.new("SerializationError", "again", { retryable = true }), 0)
      end

      it("all run again after an error that is worth it, with the number of the attempt", function()
        local attempts = {}
        local results = commands.executor(db, { retry = { attempts = 3 } }):execute {
          Add { name = "a" },
          function(tx)
            attempts[#attempts + 1] = tx.attempt
            if tx.attempt < 3 then conflict() end
            return "attempt " .. tx.attempt
          end,
          Add { name = "b" },
        }
        assert.same({ 1, 2, 3 }, attempts)
        assert.same({ "a", "attempt 3", "b", n = 3 }, results)
        assert.same({ "a", "b" }, names())
      end)

      it("give up with the last error, which names the command once", function()
        local Conflict = commands.define("Conflict", conflict)
        local eager = commands.executor(db, { retry = { attempts = 2 } })
        local err = expect.raised("SerializationError", nil, eager.execute, eager,
          { Add { name = "a" }, Conflict() })
        assert.equal(2, err.attempts)
        assert.equal(2, err.command_index)
        assert.equal("command 2 (Conflict): again", err.message)
        assert.same({}, names())
      end)

      it("run the list as it was at first", function()
        local list = {}
        list[1] = function(tx)
          list[2] = fail
          if tx.attempt == 1 then conflict() end
        end
        list[2] = Add { name = "a" }
        commands.executor(db, { retry = {} }):execute(list)
        assert.same({ "a" }, names())
      end)

      it("do not run again after what one reports, another error, or without it", function()
        local tries = 0
        local eager = commands.executor(db, { retry = {} })
        local function try(run, how)
          tries = 0
          pcall(run.execute, run, { function()
            tries = tries + 1
            return how()
          end })
          return tries
        end
        assert.equal(1, try(eager, function() return nil, "why" end))
        assert.equal(1, try(eager, fail))
        assert.equal(1, try(executor, conflict))
        assert.equal(5, try(eager, conflict))
        assert.equal(1, try(eager, function()
          error(errors.new("ConnectionLostError", "gone",
            { retryable = true, commit_unknown = true }), 0)
        end))
      end)
    end)

    describe("with a handle whose errors are returned", function()
      local quiet

      before_each(function() quiet = commands.executor(db:with { errors = "return" }) end)

      it("give nil and a DatabaseError, with all that it has otherwise", function()
        local err = expect.returned("ConstraintError", "command 1 (Add): ",
          quiet:execute { Add {} })
        assert.equal(1, err.command_index)
        assert.same({}, names())
      end)

      it("raise every other error", function()
        expect.raised("UsageError", "hole", quiet.execute, quiet, { nil, print })
        expect.raised("UsageError", nil, quiet.execute, quiet, { function(tx) tx:exec(7) end })
        assert.equal("no", select(2, pcall(quiet.execute, quiet, { fail })))
      end)

      it("get a transaction that raises", function()
        quiet:execute { function(tx)
          expect.raised("ConstraintError", nil, tx.exec, tx,
            "insert into item (name) values (null)")
          tx:rollback()
          return nil, "ended"
        end }
      end)

      it("give what a command has failed with, its position last", function()
        assert.same({ 3, nil, "why", 1 },
          { count_results(quiet:execute { function() return nil, "why" end }) })
      end)

      it("raise inside a transaction that raises", function()
        db:transaction(function(tx)
          expect.raised("ConstraintError", nil, quiet.execute, quiet, { Add {} })
          expect.returned("ConstraintError", nil,
            quiet:with(tx:with { errors = "return" }):execute { Add {} })
        end)
      end)
    end)

    describe("want", function()
      it("an executor with a Database", function()
        for _, wrong in ipairs { {}, "sqlite:app.db", 7, io.stdout } do
          expect.raised("UsageError", "executor wants a Database", commands.executor, wrong)
        end
        local conn = db:connect()
        expect.raised("UsageError", "executor wants a Database", commands.executor, conn)
        conn:close()
        local tx = db:begin()
        expect.raised("UsageError", "executor:with(tx)", commands.executor, tx)
        tx:rollback()
        local closed = database:open()
        closed:close()
        local late = commands.executor(closed)
        expect.raised("UsageError", "closed", late.execute, late, { print })
      end)

      it("options that there are, of their types", function()
        for _, wrong in ipairs { { write_exclusive = 1 }, { retry = 3 }, { isolation = true },
          { timeout = "1" }, { key_table = 7 }, { [1] = true }, "exclusive", 7 } do
          expect.raised("UsageError", nil, commands.executor, db, wrong)
        end
        expect.raised("UsageError", 'exclusive is no option of executor', commands.executor, db,
          { exclusive = true })
        expect.raised("UsageError", 'did you mean "retry"?', commands.executor, db, { rety = {} })
        refuses("keys is no option of execute", { print }, { keys = "k" })
        refuses("execute wants a table of options, and got a string", { print }, "k")
      end)

      it("to be called with a colon", function()
        expect.raised("UsageError", "executor:execute(…)", executor.execute, { print })
        expect.raised("UsageError", "executor:with(…)", executor.with, db:begin())
        language.collect()
      end)

      it("transactions with the executor's options", function()
        local hasty = commands.executor(db, { timeout = 0.05, isolation = "serializable" })
        local err = expect.raised("TimeoutError", nil, hasty.execute, hasty,
          { Add { name = "a" }, function(tx) tx:query_value(database.quirks.sql.endless) end })
        assert.equal(2, err.command_index)
        assert.same({}, names())
        expect.raised("UsageError", 'there is no "strict"', function()
          commands.executor(db, { isolation = "strict" }):execute { print }
        end)
      end)
    end)
  end)
end
