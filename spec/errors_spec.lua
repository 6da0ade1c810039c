-- Error objects, without a database: classes, fields, their one line, moonbase.is and pcall.
local moonbase = require "moonbase"
local core = require "moonbase.core"
local errors = require "moonbase.errors"
local suggest = require "moonbase.suggest"
local language = require "spec.support.language"

-- Every class with its parent.
local parents = {
  DatabaseError = "DatabaseError",
  ConnectorValidationError = "DatabaseError",
  ConnectivityError = "DatabaseError",
  ConnectionLostError = "ConnectivityError",
  PoolTimeoutError = "DatabaseError",
  EngineError = "DatabaseError",
  ConstraintError = "EngineError",
  PermissionError = "EngineError",
  SerializationError = "EngineError",
  ReadOnlyError = "EngineError",
  SyntaxError = "EngineError",
  DataError = "EngineError",
  TimeoutError = "EngineError",
  CanceledError = "EngineError",
  ResourceError = "EngineError",
  RowCountError = "DatabaseError",
  UnsupportedError = "DatabaseError",
  StoreError = "DatabaseError",
  DriverError = "DriverError",
  MissingImplementationError = "DriverError",
  UsageError = "UsageError",
}

describe("An error", function()
  it("is of one of the classes, which have one parent each", function()
    assert.same(parents, core.classes)
  end)

  it("is of its class, and of every one above it, and of no other", function()
    for class in pairs(parents) do
      local err = errors.new(class, "x")
      local above = { [class] = true }
      local one = class
      while parents[one] ~= one do
        one = parents[one]
        above[one] = true
      end
      for other in pairs(parents) do
        assert.equal(above[other] or false, err:is(other), class .. " is " .. other)
        assert.equal(above[other] or false, moonbase.is(err, other))
      end
      assert.is_true(moonbase.is(err))
    end
  end)

  it("is asked of any value", function()
    for _, value in ipairs { 7, "x", true, false, {}, print, io.stdout,
      coroutine.create(function() end),
      setmetatable({}, { __index = error }), { class = "UsageError" } } do
      assert.is_false(moonbase.is(value))
      assert.is_false(moonbase.is(value, "UsageError"))
    end
    assert.is_false(moonbase.is())
    assert.is_false(moonbase.is(nil, "UsageError"))
    assert.is_false(moonbase.is(errors.new("UsageError", "x"), 7))
    assert.is_false(moonbase.is(errors.new("UsageError", "x"), "Unheard"))
    assert.is_false(errors.new("UsageError", "x"):is())
  end)

  it("has every flag, and where it was raised", function()
    local err = errors.new("DataError", "x", { retryable = true })
    assert.is_true(err.retryable)
    for _, flag in ipairs { "connection_dead", "transaction_dead", "sent", "commit_unknown" } do
      assert.is_false(err[flag])
    end
    assert.is_truthy(err.traceback:find("errors_spec.lua", 1, true))
  end)

  it("is one line, with all that there is but the detail", function()
    local err = errors.new("ConstraintError", "no", { driver = "sqlite", code = "23505",
      detail = "secret", entry = 2, row = 3, attempts = 4, hint = "try", sql = "select\n\t 1" })
    assert.equal("ConstraintError: no [sqlite 23505] (entry 2) (row 3) (after 4 attempts) "
      .. "(hint: try) in: select 1", tostring(err))
    assert.equal("UsageError: no", tostring(errors.new("UsageError", "no")))
    assert.equal("DataError: two lines (hint: or three)", tostring(errors.new("DataError",
      "two\nlines", { hint = "or\r\nthree" })))
    assert.equal("DataError: no [sqlite]", tostring(errors.new("DataError", "no",
      { driver = "sqlite" })))
  end)

  it("shows no more than the beginning of a long statement", function()
    local text = tostring(errors.new("DataError", "no", { sql = ("x"):rep(1000) }))
    assert.equal("DataError: no in: " .. ("x"):rep(160) .. "…", text)
  end)

  it("is one line even when a program has taken its fields away", function()
    local err = errors.new("DataError", "no")
    err.class, err.message = nil, nil
    assert.equal("nil: nil", tostring(err))
    assert.is_false(err:is "DataError")
  end)

  it("may be of a class that a module defines below another one", function()
    errors.own_classes.ShelfError = "StoreError"
    local err = errors.new("ShelfError", "x")
    assert.is_true(err:is "StoreError")
    assert.is_true(err:is "DatabaseError")
    assert.is_false(err:is "EngineError")
    errors.own_classes.ShelfError = nil
  end)
end)

describe("moonbase.pcall", function()
  local function count(...) return select("#", ...), ... end

  it("gives what pcall gives", function()
    assert.same({ 1, true }, { count(moonbase.pcall(function() end)) })
    assert.same({ 4, true, nil, 2, nil },
      { count(moonbase.pcall(function() return nil, 2, nil end)) })
    assert.same({ true, 1, nil, 3 }, { moonbase.pcall(function(...) return ... end, 1, nil, 3) })
  end)

  it("catches the errors of databases only", function()
    for class in pairs(parents) do
      local mine = errors.new(class, "x")
      local ok, caught, err = pcall(moonbase.pcall, error, mine)
      if mine:is "DatabaseError" then
        assert.same({ true, false }, { ok, caught })
        assert.equal(mine, err)
      else
        assert.is_false(ok)
        assert.equal(mine, caught)
      end
    end
  end)

  it("lets every other error go on as it is", function()
    for _, mistake in ipairs { "text", 7, {}, print, false } do
      local ok, err = pcall(moonbase.pcall, error, mistake, 0)
      assert.is_false(ok)
      assert.equal(mistake, err)
    end
    local ok, err = pcall(moonbase.pcall, error)
    assert.is_false(ok)
    assert.is_nil(err)
    assert.is_false((pcall(moonbase.pcall)))
  end)

  if language.yields then
    it("can be yielded through", function()
      local thread = coroutine.wrap(function()
        return moonbase.pcall(function(a)
          local b = coroutine.yield(a)
          error(errors.new("DataError", b), 0)
        end, "first")
      end)
      assert.equal("first", thread())
      local ok, err = thread "second"
      assert.is_false(ok)
      assert.equal("second", err.message)
    end)
  end
end)

describe("moonbase.suggest", function()
  local known = { timeout = true, errors = true, int64 = true, null = true }

  it("says which name was meant", function()
    assert.equal('; did you mean "timeout"?', suggest("tmeout", known))
    assert.equal('; did you mean "timeout"?', suggest("Timeout", known))
    assert.equal('; did you mean "errors"?', suggest("error", known))
  end)

  it("says nothing when none is near", function()
    assert.equal("", suggest("something else", known))
    assert.equal("", suggest("", known))
    assert.equal("", suggest("timeout", {}))
    assert.equal("", suggest(("x"):rep(100000), known))
    assert.equal("", suggest("\0\255", known))
  end)

  it("says nothing for what is no name", function()
    for _, name in ipairs { 7, true, {}, print } do assert.equal("", suggest(name, known)) end
    assert.equal("", suggest(nil, known))
  end)
end)
