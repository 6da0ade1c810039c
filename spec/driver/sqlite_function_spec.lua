-- Functions, aggregates and collations in Lua that SQLite calls.
local moonbase = require "moonbase"
local expect = require "spec.support.expect"
local files = require "spec.support.files"
local language = require "spec.support.language"
local now = require "moonbase.core".now

local numbers = "with recursive n(i) as (select 1 union all select i + 1 from n where i < %d) "
local endless = "with recursive n(i) as (select 1 union all select i + 1 from n) "

local function by_bytes(a, b) return a < b and -1 or a > b and 1 or 0 end

describe("A function in Lua", function()
  local db

  local function open(functions, options)
    options = options or {}
    options.functions = functions
    db = moonbase.open("sqlite::memory:", options)
    return db
  end

  after_each(function()
    db:close()
    files.clean()
  end)

  it("gets its arguments as Lua values", function()
    local got
    open { take = function(...) got = { n = select("#", ...), ... } return nil end }
    assert.is_nil(db:query_value([[select take(1, 2.5, 'three', x'00ff', null, ?, 9007199254740992,
      'a' || char(0) || 'b', zeroblob(0), '')]], true))
    assert.same({ n = 10, 1, 2.5, "three", "\0\255", nil, 1, 9007199254740992, "a\0b", "", "" },
      got)
    if language.integers then
      assert.equal("integer", math.type(got[1])) -- luacheck: ignore 143
      assert.equal("float", math.type(got[2])) -- luacheck: ignore 143
    end
    db:query_value "select take(9223372036854775807)"
    assert.equal("9223372036854775807", ("%s"):format(got[1]))
    db:query_value "select take()"
    assert.equal(0, got.n)
  end)

  it("gives a value of any type that SQLite has", function()
    local value
    open { give = function() return value end }
    local function check(class, expected)
      local got_class, got = db:query_values "select typeof(x), x from (select give() as x)"
      assert.equal(class, got_class)
      assert.equal(expected, got)
    end
    for class, one in pairs { integer = 7, real = 7.5, text = "a\0b" } do
      value = one
      check(class, one)
    end
    value = nil
    check("null", nil)
    value = moonbase.null
    check("null", nil)
    value = true
    check("integer", 1)
    value = false
    check("integer", 0)
    value = ""
    check("text", "")
    value = moonbase.blob "\0\1"
    check("blob", "\0\1")
    value = moonbase.blob ""
    check("blob", "")
    value = moonbase.float(7)
    check("real", 7)
    value = math.huge
    check("real", math.huge)
    value = moonbase.decimal "1.50"
    check("text", "1.50")
    value = moonbase.timestamp(0)
    check("text", "1970-01-01 00:00:00+00:00")
    value = ("x"):rep(1000000)
    assert.equal(1000000, db:query_value "select length(give())")
  end)

  it("gives one value: further ones are left out, none is NULL", function()
    open { several = function() return 1, 2, 3 end, none = function() end }
    assert.equal(1, db:query_value "select several()")
    assert.is_nil(db:query_value "select none()")
  end)

  it("that gives what SQLite has not ends its statement", function()
    local value
    open { give = function() return value end }
    for _, wrong in ipairs { {}, print, db, coroutine.create(function() end), moonbase.json {} } do
      value = wrong
      expect.raised("UsageError", "the result of the function is", db.query, db, "select give()")
    end
    value = 0 / 0
    expect.raised("DataError", "not a number (NaN)", db.query, db, "select give()")
    value = moonbase.array { 1 }
    expect.raised("UnsupportedError", "an array", db.query, db, "select give()")
    if language.cdata then
      value = require "ffi".new("uint64_t", -1)
      expect.raised("DataError", "above 2^63 - 1", db.query, db, "select give()")
    end
    value = 1
    assert.equal(1, db:query_value "select give()")
  end)

  it("raises out of the statement what it raises, whatever it is", function()
    local what
    open { fail = function() error(what, 0) end }
    for _, value in ipairs { "a text", { a = "table" }, 7, print, false } do
      what = value
      for _, name in ipairs { "query", "query_value", "query_row", "query_all", "query_column",
        "query_values", "exec", "exec_script" } do
        local ok, err = pcall(db[name], db, "select fail()")
        assert.is_false(ok)
        assert.equal(what, err)
      end
    end
    what = nil
    local ok, err = pcall(db.query, db, "select fail()")
    assert.is_false(ok)
    if language.command:find "5.1" == nil then assert.is_nil(err) end
    assert.equal(1, db:query_value "select 1")
  end)

  it("raises it in the middle of rows, and out of errors = \"return\", too", function()
    local mistake = {}
    open { over = function(i) if i > 200 then error(mistake) end return i end }
    local got = 0
    local ok, err = pcall(function()
      for _ in db:query(numbers:format(300) .. "select over(i) from n") do got = got + 1 end
    end)
    assert.is_false(ok)
    assert.equal(mistake, err)
    assert.equal(200, got)
    ok, err = pcall(function()
      return db:with { errors = "return" }:query_value "select over(201)"
    end)
    assert.is_false(ok)
    assert.equal(mistake, err)
    assert.equal(0, db:stats().in_use)
  end)

  it("that raises an error of Moonbase's raises that", function()
    open { fail = function() return moonbase.open "sqlite:a?no=1" end,
      other = function()
        local another = moonbase.open "sqlite::memory:"
        local value = another:query_value "select 40 + 2"
        pcall(another.query, another, "select missing")
        another:close()
        return value
      end }
    expect.raised("ConnectorValidationError", nil, db.query, db, "select fail()")
    assert.equal(42, db:query_value "select other()") -- another database may be used
  end)

  it("that raises undoes its statement, and the transaction goes on", function()
    open { third = function(i) if i == 3 then error "the third" end return i end }
    db:exec "create table t (i)"
    db:transaction(function(tx)
      tx:exec "insert into t values (0)"
      local ok = pcall(tx.exec, tx, "insert into t select third(i) from ("
        .. numbers:format(5) .. "select i from n)")
      assert.is_false(ok)
      tx:exec "insert into t values (9)"
    end)
    assert.same({ 0, 9 }, db:query_column "select i from t")
  end)

  it("is not believed to have failed when a later statement fails", function()
    open { fail = function() error "mine" end }
    assert.is_false(pcall(db.query, db, "select fail()"))
    expect.raised("SyntaxError", "no such column", db.query, db, "select missing")
    assert.is_nil(db:query_value "select null")
  end)

  it("stands in for one of SQLite's own, for one handle", function()
    open { lower = function(text) return "<" .. text .. ">" end }
    assert.equal("<A>", db:query_value "select lower('A')")
    local other = moonbase.open "sqlite::memory:"
    assert.equal("a", other:query_value "select lower('A')")
    other:close()
  end)

  it("takes as many arguments as it says, or any number", function()
    open { two = { function(a, b) return a .. b end, arguments = 2 },
      none = { function() return "none" end, arguments = 0 },
      any = function(...) return select("#", ...) end }
    assert.equal("ab", db:query_value "select two('a', 'b')")
    assert.equal("none", db:query_value "select none()")
    for _, text in ipairs { "two()", "two('a')", "two(1, 2, 3)", "none(1)" } do
      expect.raised("SyntaxError", "wrong number of arguments", db.query, db, "select " .. text)
    end
    for _, n in ipairs { 0, 1, 50, 100 } do
      assert.equal(n, db:query_value("select any(" .. ("1, "):rep(n):sub(1, -3) .. ")"))
    end
  end)

  it("is one value per row, unless it says that it is deterministic", function()
    local calls = 0
    local function count() calls = calls + 1 return 1 end
    open { counted = count, constant = { count, deterministic = true } }
    db:query_all(numbers:format(100) .. "select counted(7) from n")
    assert.equal(100, calls)
    calls = 0
    db:query_all(numbers:format(100) .. "select constant(7) from n")
    assert.equal(1, calls)
  end)

  it("that is deterministic may stand in an index, a CHECK and a view; another may not", function()
    open { pure = { function(x) return x and -x end, deterministic = true },
      mine = function() return 1 end }
    db:exec "create table t (x check (pure(x) < 0), y as (pure(x)))"
    db:exec "create unique index negative on t (pure(x))"
    db:exec "create view v as select pure(x) as z from t"
    db:exec "insert into t values (1), (2)"
    assert.same({ -1, -2 }, db:query_column "select z from v")
    assert.same({ -1, -2 }, db:query_column "select y from t")
    assert.equal(2, db:query_value "select x from t where pure(x) = -2")
    expect.raised("ConstraintError", "CHECK", db.exec, db, "insert into t values (-1)")
    expect.raised("SyntaxError", "non-deterministic", db.exec, db,
      "create index positive on t (mine())")
    -- What a file holds may not call what has effects, unless it is trusted.
    db:exec "create view w as select mine() as m"
    expect.raised("SyntaxError", "unsafe use of mine()", db.query, db, "select * from w")
    db:exec "pragma trusted_schema = 1"
    assert.equal(1, db:query_value "select m from w")
  end)

  it("may not use the database that calls it", function()
    local path = files.path "a.db"
    local conn
    local ways = {
      function(x) return x:query_value "select 1" end,
      function(x) return x:exec "create table u (i)" end,
      function(x) return x:connect() end,
      function(x) return x:begin() end,
      function(x) return x:transaction(function() return 1 end) end,
      function(x) return x:ping() end,
    }
    local way
    db = moonbase.open("sqlite:" .. path, { functions = {
      use = function() return way(db) end,
      use_own = function() return conn:query_value "select 1" end,
      through = function()
        local between = moonbase.open("sqlite::memory:", { functions = {
          deep = function() return db:query_value "select 1" end } })
        return between:query_value "select deep()"
      end,
    } })
    for _, one in ipairs(ways) do
      way = one
      expect.raised("UsageError", "inside a function that the same Database calls", db.query, db,
        "select use()")
    end
    expect.raised("UsageError", "inside a function that the same Database calls", db.query, db,
      "select through()")
    conn = db:connect()
    expect.raised("UsageError", "in the middle of another call", conn.query, conn,
      "select use_own()")
    conn:close()
    assert.equal(0, db:stats().in_use)
    assert.equal(1, db:query_value "select 1")
  end)

  it("may not yield", function()
    open { wait = function() coroutine.yield(1) return 1 end }
    local ok, err = coroutine.wrap(function()
      return pcall(db.query_value, db, "select wait()")
    end)()
    assert.is_false(ok)
    assert.match("yield", tostring(err))
    assert.equal(1, db:query_value "select 1")
  end)

  it("may close what it is called from", function()
    local conn
    open { close_all = function() db:close() return 1 end,
      close_own = function() conn:close() return 1 end }
    conn = db:connect()
    pcall(conn.query_value, conn, "select close_own()")
    assert.is_true(conn:is_closed())
    assert.equal(1, db:query_value "select 1")
    pcall(db.query_value, db, "select close_all()")
    assert.is_true(db:is_closed())
    expect.raised("UsageError", "closed", db.query, db, "select 1")
  end)

  it("may have handles of the connection that calls it collected", function()
    local function collect(i)
      language.collect()
      return i
    end
    db = moonbase.open("sqlite::memory:", { functions = { collect = collect },
      aggregates = { last = { step = function(_, i) return collect(i) end, final = collect } },
      collations = { own = function(a, b) return collect(by_bytes(a, b)) end } })
    db:exec "create table t (i)"
    db:exec(numbers:format(300) .. "insert into t select i from n")
    for _, text in ipairs { "select collect(i) from t limit 5",
      "select last(i) from (select i from t limit 5)",
      "select i || '' as x from (select i from t limit 5) order by x collate own" } do
      db:query "select i from t":next()
      db:prepare "select i from t where i > ?":query(1):next()
      assert.is_true(#db:query_all(text) > 0)
    end
    do
      local tx = db:begin()
      tx:exec "delete from t"
    end
    assert.equal(7, db:query_value "select collect(7)")
    assert.equal(300, db:query_value "select count(*) from t")
  end)

  it("is known to every connection of its handle, and to what they run first", function()
    db = moonbase.open("sqlite:" .. files.path "a.db", {
      functions = { seven = function() return 7 end },
      on_connect = function(conn) assert.equal(7, conn:query_value "select seven()") end })
    local first, second = db:connect(), db:connect()
    assert.equal(7, first:query_value "select seven()")
    assert.equal(7, second:query_value "select seven()")
    assert.equal(2, db:stats().created)
  end)

  it("ends when its handle is closed", function()
    local weak = setmetatable({}, { __mode = "k" })
    do
      local function held() return 1 end
      weak[held] = true
      open { held = held }
      assert.equal(1, db:query_value "select held()")
    end
    db:close()
    db = nil
    language.collect()
    language.collect()
    assert.is_nil(next(weak))
    db = moonbase.open "sqlite::memory:"
    expect.raised("SyntaxError", "no such function: held", db.query, db, "select held()")
  end)

  it("ends with the statement's time-out, and is not stopped itself", function()
    local calls = 0
    open { spend = function()
      calls = calls + 1
      local until_then = now() + 0.002
      while now() < until_then do end -- luacheck: ignore 542
      return calls
    end }
    local conn = db:connect()
    local rows = conn:query(numbers:format(1000) .. "select i from n")
    rows:next()
    local started = now()
    expect.raised("TimeoutError", nil, function()
      conn:with { timeout = 0.05 }:query_value(endless .. "select max(spend()) from n")
    end)
    assert.is_true(now() - started < 20)
    assert.is_true(calls > 1)
    assert.equal(999, #rows:all())
    conn:close()
  end)

  it("can cancel what it is called from", function()
    local stop = moonbase.cancellation()
    open { cancel = function(i) if i == 1000 then stop:cancel "from inside" end return i end }
    expect.raised("CanceledError", "from inside", function()
      db:with { cancel = stop }:query_value(endless .. "select max(cancel(i)) from n")
    end)
    assert.equal(1, db:query_value "select 1")
  end)

  it("is checked when the database is opened", function()
    db = moonbase.open "sqlite::memory:"
    local function refuses(message, functions)
      expect.raised("ConnectorValidationError", message, moonbase.open, "sqlite::memory:",
        { functions = functions })
    end
    refuses("f wants a function", { f = "x" })
    refuses("f wants a function", { f = {} })
    refuses("f wants a function", { f = { "x" } })
    refuses("did you mean \"deterministic\"", { f = { print, determinstic = true } })
    refuses("wants a whole number as arguments", { f = { print, arguments = "2" } })
    refuses("wants a whole number as arguments", { f = { print, arguments = 1.5 } })
    refuses("wants a whole number as arguments", { f = { print, arguments = -1 } })
    refuses("is no name", { print })
    refuses("is no name", { [""] = print })
    refuses("is no name", { ["a\0b"] = print })
    refuses("is no name", { [("x"):rep(256)] = print })
    refuses("wants a table", "x")
    local many = moonbase.open("sqlite::memory:", { functions = { f = { print,
      arguments = 1000 } } })
    local ok, err = pcall(many.ping, many) -- 127 in SQLite's versions before 3.48
    assert.is_true(ok or err.class == "UsageError")
    many:close()
  end)
end)

describe("An aggregate in Lua", function()
  local db

  local function open(aggregates)
    db = moonbase.open("sqlite::memory:", { aggregates = aggregates })
    db:exec "create table t (k text, i integer)"
    db:exec "insert into t values ('a', 1), ('a', 2), ('b', 3), ('b', null), ('b', 5)"
    return db
  end

  local longest = {
    init = function() return {} end,
    step = function(state, value) state[#state + 1] = value or "-" end,
    final = function(state) return table.concat(state, ",") end,
  }

  after_each(function() db:close() end)

  it("has a state for each group, from init through step to final", function()
    open { list = longest }
    assert.equal("1,2,3,-,5", db:query_value "select list(i) from t")
    assert.same({ "1,2", "3,-,5" }, db:query_column "select list(i) from t group by k order by k")
    assert.same({ "2,1|1,2", "5,-,3|3,-,5" }, db:query_column [[
      select list(x.i) || '|' || (select list(i) from t where k = x.k) from
      (select * from t order by rowid desc) x group by x.k order by x.k]])
  end)

  it("gives final(init()) where there is no row", function()
    open { list = longest, count_all = { step = function(n) return (n or 0) + 1 end,
      final = function(n) return n or 0 end } }
    assert.equal("", db:query_value "select list(i) from t where false")
    assert.equal(0, db:query_value "select count_all() from t where false")
    assert.equal(5, db:query_value "select count_all() from t")
    assert.is_nil(db:query_value "select list(i) from t where false group by k")
  end)

  it("keeps its state where step gives nil, and takes what it gives", function()
    open { last = { init = function() return "none" end,
      step = function(_, value) return value end, final = function(state) return state end } }
    assert.equal(5, db:query_value "select last(i) from t")
    assert.equal(3, db:query_value "select last(i) from t where i is null or i < 4")
  end)

  it("works with distinct, filter, having and several at once", function()
    open { list = longest }
    db:exec "insert into t values ('a', 2), ('a', 1)"
    assert.same({ "1,2", "1,2,2,1" },
      { db:query_values "select list(distinct i), list(i) from t where k = 'a'" })
    assert.equal("3,5", db:query_value "select list(i) filter (where i > 2) from t")
    assert.same({ "b" }, db:query_column [[
      select k from t group by k having list(i) like '%5%' order by list(i)]])
  end)

  it("takes as many arguments as it says", function()
    open { sum_of_products = { arguments = 2, init = function() return 0 end,
      step = function(sum, a, b) return sum + a * (b or 0) end,
      final = function(sum) return sum end } }
    assert.equal(39, db:query_value "select sum_of_products(i, i) from t where i is not null")
    expect.raised("SyntaxError", "wrong number of arguments", db.query, db,
      "select sum_of_products(i) from t")
  end)

  it("raises what one of its functions raises, and the next run begins anew", function()
    local where
    local mistake = {}
    local function fail_in(name)
      if where == name then error(mistake) end
    end
    open { list = {
      init = function() fail_in "init" return {} end,
      step = function(state, value)
        fail_in "step"
        state[#state + 1] = value
      end,
      final = function(state) fail_in "final" return #state end,
    } }
    for _, name in ipairs { "init", "step", "final" } do
      for _, text in ipairs { "select list(i) from t", "select list(i) from t group by k",
        "select list(i) from t where false" } do
        where = name
        local ok, err = pcall(db.query_all, db, text)
        if name == "step" and text:find "false" then
          assert.is_true(ok)
        else
          assert.is_false(ok)
          assert.equal(mistake, err)
        end
        where = nil
        assert.equal(4, db:query_value "select list(i) from t")
      end
    end
    expect.raised("UsageError", "the result of the function is a table", function()
      local other = moonbase.open("sqlite::memory:", { aggregates = {
        give = { step = function() end, final = function() return {} end } } })
      other:query "select give()"
    end)
  end)

  it("is not asked for its value when its statement has failed or was left", function()
    local finals = 0
    open { list = { init = function() return {} end, step = function() end,
      final = function() finals = finals + 1 error "nobody wants to know" end } }
    expect.raised("TimeoutError", nil, function()
      db:with { timeout = 0.05 }:query(endless .. "select list(i) from n")
    end)
    local stop = moonbase.cancellation()
    stop:cancel()
    local err = expect.raised("EngineError", "malformed JSON", db.query, db,
      "select list(json(x)) from (select '1' as x union all select '{')")
    assert.equal("SQLITE_ERROR", err.code)
    local before = finals
    assert.equal(1, db:query_value "select 1")
    assert.is_false(pcall(db.query, db, "select list(i) from t"))
    assert.equal(before + 1, finals)
  end)

  it("lets go of its states", function()
    local weak = setmetatable({}, { __mode = "k" })
    open { list = { init = function()
      local state = {}
      weak[state] = true
      return state
    end, step = function() end, final = function() return 1 end } }
    db:query_all "select list(i) from t group by k"
    expect.raised("TimeoutError", nil, function()
      db:with { timeout = 0.02 }:query(endless .. "select list(i) from n")
    end)
    local rows = db:connect():query(numbers:format(200) .. "select list(i) from n group by i")
    rows:next()
    rows:close()
    language.collect()
    assert.is_nil(next(weak))
  end)

  it("is no window function", function()
    open { list = longest }
    expect.raised("SyntaxError", "may not be used as a window function", db.query, db,
      "select list(i) over (order by i) from t")
  end)

  it("is checked when the database is opened", function()
    db = moonbase.open "sqlite::memory:"
    for message, aggregates in pairs {
      ["wants { step = fn"] = { f = print },
      ["and perhaps init"] = { f = { step = print } },
      ["final = fn"] = { f = { step = print, final = print, init = 7 } },
      ["has no field finish"] = { f = { step = print, final = print, finish = print } },
      ["whole number"] = { f = { step = print, final = print, arguments = "x" } },
      ["is no name"] = { { step = print, final = print } },
    } do
      expect.raised("ConnectorValidationError", message, moonbase.open, "sqlite::memory:",
        { aggregates = aggregates })
    end
  end)
end)

describe("A collation in Lua", function()
  local db, compare

  before_each(function()
    compare = by_bytes
    db = moonbase.open("sqlite:" .. files.path "a.db", { collations = {
      own = function(a, b) return compare(a, b) end,
      backwards = function(a, b) return by_bytes(b, a) end,
    } })
    db:exec "create table t (x text collate own)"
    db:exec "create index t_x on t (x)"
    for _, word in ipairs { "b", "a", "d", "c" } do db:exec("insert into t values (?)", word) end
  end)

  after_each(function()
    db:close()
    files.clean()
  end)

  it("orders, groups and compares texts", function()
    assert.same({ "d", "c", "b", "a" }, db:query_column
      "select x from t order by x collate backwards")
    assert.same({ "a", "b", "c", "d" }, db:query_column "select x from t order by x")
    assert.equal("a", db:query_value "select max(x collate backwards) from t")
    compare = function(a, b) return by_bytes(a:lower(), b:lower()) end
    assert.equal("b", db:query_value "select x from t where x = 'B'")
    assert.equal(1, db:query_value [[select count(distinct y collate own) from
      (select 'x' as y union all select 'X')]])
  end)

  it("gets texts whole, and is not asked for other values", function()
    local seen = {}
    compare = function(a, b)
      seen[a], seen[b] = true, true
      return by_bytes(a, b)
    end
    assert.equal(1, db:query_value("select ? < ? collate own", "a\0b", "a\0c"))
    assert.is_true(seen["a\0b"] and seen["a\0c"])
    seen = {}
    assert.equal(1, db:query_value "select 1 < 2 collate own")
    assert.equal(1, db:query_value "select null is null collate own")
    assert.is_nil(next(seen))
  end)

  it("gives any number, whose sign counts", function()
    for _, size in ipairs { 1, 0.5, 1e300, math.huge, 2 ^ -1074 } do
      compare = function(a, b) return by_bytes(a, b) * size end
      assert.equal(1, db:query_value "select 'a' < 'b' collate own")
      assert.equal(0, db:query_value "select 'b' < 'a' collate own")
    end
    for _, zero in ipairs { 0, -0.0, moonbase.float(0) } do
      compare = function() return zero end
      assert.equal(1, db:query_value "select 'a' = 'b' collate own")
    end
  end)

  it("that gives no number ends its statement", function()
    for _, wrong in ipairs { "1", true, false, {}, print, 0 / 0 } do
      compare = function() return wrong end
      expect.raised("UsageError", nil, db.query, db, "select 'a' < 'b' collate own")
    end
    compare = function() return nil end
    expect.raised("UsageError", "a collation has to give a number", db.query, db,
      "select 'a' < 'b' collate own")
    compare = by_bytes
    assert.equal(1, db:query_value "select 'a' < 'b' collate own")
  end)

  it("raises what it raises, while other rows go on", function()
    local mistake = {}
    for i = 1, 300 do db:exec("insert into t values (?)", "w" .. i) end
    local conn = db:connect()
    local rows = conn:query "select x from t"
    rows:next()
    compare = function() error(mistake) end
    for _, text in ipairs { "select 'a' < 'b' collate own",
      "select x from (select x || '' as x from t) order by x collate own",
      "select x, count(*) from (select x || '' as x from t) group by x collate own",
      "select * from t where x = 'a'" } do
      local ok, err = pcall(conn.query_all, conn, text)
      assert.is_false(ok, text)
      assert.equal(mistake, err)
    end
    compare = by_bytes
    assert.equal(303, #rows:all())
    conn:close()
  end)

  it("that fails in a write leaves no trace of that write", function()
    local mistake = {}
    local function fail() error(mistake) end
    for _, text in ipairs { "insert into t values ('ab')", "update t set x = 'ab' where rowid = 4",
      "insert into t values ('ab') returning x", "create index t_y on t (x desc)",
      "insert or replace into t values ('ab')" } do
      compare = fail
      local ok, err = pcall(db.exec, db, text)
      assert.is_false(ok, text)
      assert.equal(mistake, err)
      compare = by_bytes
      assert.equal("ok", db:query_value "pragma integrity_check")
      assert.same({ "a", "b", "c", "d" }, db:query_column "select x from t order by x")
    end
  end)

  it("that fails in a write ends the transaction, which could not be undone in part", function()
    for _, text in ipairs { "insert into t values ('ab')", "update t set x = 'ab' where rowid = 4",
      "insert into t values ('ab') returning x" } do
      local tx = db:begin()
      tx:exec "insert into t values ('e')"
      compare = function() error "the comparison" end
      local ok, err = pcall(tx.exec, tx, text)
      assert.is_false(ok)
      assert.match("the comparison", err)
      compare = by_bytes
      expect.raised("EngineError", "was ended by the database", tx.exec, tx,
        "insert into t values ('f')")
      expect.raised("EngineError", "not committed", tx.commit, tx)
      assert.equal("ok", db:query_value "pragma integrity_check")
      assert.same({ "a", "b", "c", "d" }, db:query_column "select x from t order by x")
    end
    -- A read that fails leaves its transaction alone.
    db:transaction(function(tx)
      tx:exec "insert into t values ('e')"
      compare = function() error "the comparison" end
      assert.is_false(pcall(tx.query_value, tx, "select 'a' < 'b' collate own"))
      compare = by_bytes
    end)
    assert.equal(5, db:query_value "select count(*) from t")
  end)

  it("has no function called once it has failed", function()
    local calls = 0
    local both = moonbase.open("sqlite::memory:", {
      collations = { own = function() error "the comparison" end },
      functions = { counted = function(i) calls = calls + 1 return i end },
      aggregates = { last = { step = function(_, i) calls = calls + 1 return i end,
        final = function(i) calls = calls + 1 return i end } },
    })
    for _, name in ipairs { "counted", "last" } do
      local text = ("%s select %s(i) from n where 'x' || i >= 'b' collate own"):format(
        numbers:format(10), name)
      local ok, err = pcall(both.query, both, text)
      assert.is_false(ok)
      assert.match("the comparison", err)
    end
    both:close()
    assert.equal(0, calls)
  end)

  it("ends a long statement soon after it has failed", function()
    compare = function() error "the comparison" end
    local ok, err = pcall(db.query_value, db, endless
      .. "select count(*) from n where 'a' < 'b' collate own")
    assert.is_false(ok)
    assert.match("the comparison", err)
  end)

  it("is wanted by everybody who uses what was made with it", function()
    local path = db:query_value "select file from pragma_database_list where name = 'main'"
    local stranger = moonbase.open("sqlite:" .. path)
    local err = expect.raised("SyntaxError", "no such collation sequence: own", stranger.query,
      stranger, "select x from t order by x")
    assert.equal("SQLITE_ERROR_MISSING_COLLSEQ", err.code)
    assert.equal(257, err.native_code)
    stranger:close()
  end)

  it("is checked when the database is opened", function()
    for message, collations in pairs { ["wants a function that compares"] = { c = 7 },
      ["is no name"] = { by_bytes } } do
      expect.raised("ConnectorValidationError", message, moonbase.open, "sqlite::memory:",
        { collations = collations })
    end
  end)
end)
