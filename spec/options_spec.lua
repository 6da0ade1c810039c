-- moonbase.open: what it takes and refuses, before any connection.
local core = require "moonbase.core"
local moonbase = require "moonbase"
local expect = require "spec.support.expect"

local url = "sqlite::memory:"

local function opens(...)
  local db = moonbase.open(...)
  assert.equal("Database", core.kind(db))
  assert.equal(0, db:stats().created)
  db:close()
end

local function refused(text, ...)
  return expect.raised("ConnectorValidationError", text, moonbase.open, ...)
end

describe("moonbase", function()
  it("tells its version and its drivers", function()
    assert.match("^%d+%.%d+%.%d+$", moonbase._VERSION)
    local found
    for _, name in ipairs(moonbase.drivers()) do
      assert.is_truthy(name:find "^[%w_]+$")
      found = found or name == "sqlite"
    end
    assert.is_true(found)
  end)

  it("has one null", function()
    assert.equal("userdata", type(moonbase.null))
    assert.equal(core.null, moonbase.null)
  end)
end)

describe("moonbase.open", function()
  it("takes a URL, a URL and options, or options alone", function()
    opens(url)
    opens(url, {})
    opens(url, { timeout = 5 })
    opens { driver = "sqlite", path = ":memory:" }
    opens(nil, { driver = "sqlite", path = ":memory:" })
    opens(url, { driver = "sqlite" })
    opens(url, { driver = require "moonbase.driver.sqlite" })
    opens { driver = require "moonbase.driver.sqlite", path = ":memory:" }
    opens "SQLite::memory:"
  end)

  it("refuses what is no URL and no table", function()
    for _, wrong in ipairs { 7, true, print, io.stdout } do
      expect.raised("UsageError", "open wants a URL", moonbase.open, wrong)
      expect.raised("UsageError", "open wants a URL", moonbase.open, url, wrong)
    end
    expect.raised("UsageError", "open wants a URL", moonbase.open, {}, {})
    refused("driver: missing")
    refused("driver: missing", {})
    refused("driver: missing", { path = "x" })
  end)

  it("wants options by name", function()
    expect.raised("UsageError", "names as keys", moonbase.open, url, { "x" })
    expect.raised("UsageError", "names as keys", moonbase.open, url, { [true] = 1 })
    expect.raised("UsageError", "names as keys", moonbase.open, url, { ["timeout\0x"] = 1 })
  end)

  it("refuses options that there are not, and says which one was meant", function()
    local err = refused('"timeot" is no option of sqlite; did you mean "timeout"?', url,
      { timeot = 5 })
    assert.is_false(err.retryable)
    refused('did you mean "on_connect"?', url, { onconnect = "x" })
    refused('did you mean "on_connect"?', url, { onconnect = print })
    refused('did you mean "functions"?', url, { function_s = {} })
    err = refused('"quite_another" is no option of sqlite', url, { quite_another = 5 })
    assert.is_nil(err.message:find("did you mean", 1, true))
    for _, name in ipairs { "cancel", "placeholders", "host", "user", "password", "port", "URL" } do
      refused(nil, url, { [name] = "x" })
    end
  end)

  it("refuses functions of one Lua state for a pool that several share", function()
    for _, name in ipairs { "functions", "aggregates", "collations", "on_connect" } do
      local value = name == "on_connect" and print or {}
      refused("option " .. name .. ": a pool with a name is shared", url,
        { name = "shared functions", [name] = value })
      refused("option " .. name, url .. "?name=shared", { [name] = value })
    end
  end)

  it("refuses a function for a password that there is not", function()
    refused('"password" is no option of sqlite', url, { password = function() return "x" end })
  end)

  it("tells who asked for it, in the traceback", function()
    local err = refused(nil, url, { timeot = 5 })
    assert.is_truthy(err.traceback:find("options_spec.lua", 1, true))
  end)

  describe("refuses a URL", function()
    local wrong = {
      [""] = "scheme: missing",
      ["sqlite"] = "scheme: missing",
      [":"] = "scheme: missing",
      ["://"] = "scheme: missing",
      [" sqlite::memory:"] = "scheme: missing",
      ["sqlite :memory:"] = "scheme: missing",
      [("s"):rep(1000) .. ":x"] = "scheme: missing",
      ["sqlite:"] = "path: missing, at byte 8",
      ["sqlite:?timeout=5"] = "path: missing, at byte 8",
      ["sqlite://host/x"] = "has a path and no host",
      ["sqlite:%"] = "path: % without two hexadecimal digits, at byte 8",
      ["sqlite:a%0"] = "path: % without two hexadecimal digits, at byte 9",
      ["sqlite:a%gg"] = "path: % without two hexadecimal digits, at byte 9",
      ["sqlite:a%00"] = "path: a zero byte, at byte 9",
      ["sqlite:a\0b"] = "URL: holds a zero byte",
      ["sqlite::memory:?x"] = "parameter: no =, at byte 17",
      ["sqlite::memory:?=x"] = "parameter: no name, at byte 17",
      ["sqlite::memory:?timeout=1&"] = "parameter: no name, at byte 27",
      ["sqlite::memory:?timeout=%"] = "parameter: % without two hexadecimal digits",
      ["sqlite::memory:?timeot=1"] = 'parameter 1 of the URL is no option of sqlite; did you mean '
        .. '"timeout"?',
      ["sqlite::memory:?timeout=1&unheard=1"] = "parameter 2 of the URL is no option of sqlite",
      ["sqlite::memory:?timeout=soon"] = "option timeout: wants a number of seconds, 0 or more",
      ["sqlite::memory:?timeout=-1"] = "option timeout: wants a number of seconds, 0 or more",
      ["sqlite::memory:?timeout="] = "option timeout: wants a number of seconds, 0 or more",
      ["sqlite::memory:?max=99999999999999999999"] = "option max: wants a whole number",
      ["sqlite::memory:?errors=throw"] = "option errors: wants one of: raise return",
      ["sqlite::memory:?on_connect=x"] = "parameter 1 of the URL is no option of sqlite",
      ["unheard:x"] = 'there is no driver "unheard"; installed: ',
      ["a/b:x"] = "scheme: missing",
      ["a.b:x"] = "the name has other than letters and digits",
      ["sqlite\255:x"] = "the name has other than letters and digits",
    }
    for text, what in pairs(wrong) do
      it(("%q"):format(text:sub(1, 40)):gsub("%z", "\\0"), function() refused(what, text) end)
    end

    it("without quoting any part of it, since each may be a secret", function()
      for _, text in ipairs { "sqlite::memory:?hunter2=1", "sqlite::memory:?timeout=hunter2",
        "sqlite://hunter2/x", "sqlite:%hunter2", "sqlite::memory:?max=hunter2&x" } do
        local err = refused(nil, text)
        assert.is_nil(tostring(err):find("hunter2", 1, true), text)
      end
    end)
  end)

  it("reads a URL as it is written: % and two digits are a byte", function()
    opens "sqlite:%3amemory%3A"
    opens "sqlite::memory:?"
    opens "sqlite::memory:?init=select%201%26&timeout=5"
    local db = moonbase.open "sqlite:a%20b#c?timeout=5"
    assert.equal("sqlite:a b#c", db:url())
    db:close()
  end)

  it("refuses values that an option does not take", function()
    local nan = 0 / 0
    local wrong = {
      timeout = { "soon", "1e3", "-1", -1, nan, math.huge, 1e300, true, {}, "5\0", print },
      connect_timeout = { "soon", -0.5, nan },
      acquire_timeout = { "soon", -0.5, nan },
      cancel_grace = { "soon", -0.5, nan },
      max = { 0, -1, 1.5, "ten", nan, math.huge, "1e3", false, { {} } },
      fetch_size = { -1, 1.5, "x", nan },
      statement_cache = { -1, 1.5, "x", nan },
      errors = { "throw", true, 1, { x = 1 } },
      int64 = { "number", false },
      decimal = { "float", 1 },
      booleans = { "maybe", 1, "" },
      init = { { {} }, { a = 1 }, print, "a\0b", { "a\0b" } },
      on_connect = { "x", 7, {}, true },
      types = { "x", 7, { 1 }, { json = 7 }, { json = {} }, print },
      json = { "x", 7, {}, true, { encode = print } },
      pool = { 7, "x", true, print, { 1 }, { timeout = 5 }, { path = "x" }, { mx = 1 },
        { max = 0 }, { max = {} }, { acquire_timeout = "x" }, { functions = {} } },
      functions = { "x", 7, print, { print }, { f = 7 }, { f = {} }, { f = { "x" } },
        { [""] = print }, { ["a\0b"] = print }, { f = { print, arguments = -1 } },
        { f = { print, arguments = "1" } }, { f = { print, unheard = 1 } } },
      aggregates = { "x", 7, print, { f = print }, { f = {} }, { f = { step = print } },
        { f = { final = print } }, { f = { step = print, final = print, init = 7 } },
        { [7] = { step = print, final = print } } },
      collations = { "x", 7, print, { f = 7 }, { f = {} }, { print } },
      driver = { 7, true, {}, "a/b", "", "../sqlite", "unheard", print },
      path = { "a\0b", {}, print },
      mode = { "write" },
      cache = { "public" },
    }
    for name, values in pairs(wrong) do
      for i, value in ipairs(values) do
        local given = { driver = "sqlite", path = ":memory:", [name] = value }
        local ok, err = pcall(moonbase.open, given)
        assert.is_false(ok, ("%s, value %d was taken"):format(name, i))
        assert.equal("ConnectorValidationError", moonbase.is(err) and err.class or tostring(err),
          name .. " " .. i)
      end
    end
    expect.raised("UsageError", "option driver", moonbase.open, url, { driver = io.stdout })
  end)

  it("takes every value that an option is said to take", function()
    local right = {
      timeout = { 0, 5, 0.5, 1e-12, "5", "0.5" },
      connect_timeout = { 0, 5 },
      acquire_timeout = { 0, 5 },
      cancel_grace = { 0, 5 },
      max = { 1, 100, "5" },
      fetch_size = { 0, 100 },
      statement_cache = { 0, 1, 1000 },
      errors = { "raise", "return" },
      int64 = { "string", "error" },
      decimal = { "string", "number" },
      booleans = { true, false, "true", "false" },
      init = { "select 1", { "select 1", "select 2" }, {} },
      on_connect = { print },
      types = { {}, { json = print }, { json = setmetatable({}, { __call = print }) } },
      json = { print, { decode = print }, { encode = print, decode = print },
        setmetatable({}, { __call = print }) },
      null = { false, 7, "", moonbase.null, {}, print },
      pool = { {}, { max = 5 }, { acquire_timeout = 0.5 } },
      functions = { {}, { f = print }, { f = { print } },
        { f = { print, deterministic = true, arguments = 2 } } },
      aggregates = { {}, { f = { step = print, final = print } },
        { f = { init = print, step = print, final = print, arguments = 0 } } },
      collations = { {}, { f = print } },
      mode = { "ro", "rw", "rwc", "memory" },
      cache = { "shared", "private" },
    }
    for name, values in pairs(right) do
      for _, value in ipairs(values) do
        opens { driver = "sqlite", path = ":memory:", [name] = value }
      end
    end
  end)

  it("takes options over those of the URL", function()
    local db = moonbase.open("sqlite:nowhere?timeout=7&max=3", { max = 5, path = "else" })
    assert.equal(5, db:stats().max)
    assert.equal("sqlite:else", db:url())
    assert.equal("7", core.option(db, "timeout"))
    db:close()
  end)

  it("takes the last of an option that the URL has twice", function()
    local db = moonbase.open "sqlite:nowhere?max=3&max=4"
    assert.equal(4, db:stats().max)
    db:close()
  end)

  it("keeps a copy: what happens to the tables later changes nothing", function()
    local given = { functions = { f = function() return "before" end }, init = { "select 1" },
      types = {}, driver = "sqlite", path = ":memory:" }
    local db = moonbase.open(given)
    given.functions.f = function() return "after" end
    given.functions.g = print
    given.init[1] = "selekt"
    given.path = "elsewhere"
    assert.equal("before", db:query_value "select f()")
    db:close()
  end)

  it("says what stops a driver from being loaded", function()
    package.preload["moonbase.driver.broken"] = function() error "its library is missing" end
    refused("its library is missing", "broken:x")
    package.preload["moonbase.driver.broken"] = nil
    package.preload["moonbase.driver.odd"] = function() return { "no driver" } end
    local ok, err = pcall(moonbase.open, "odd:x")
    assert.is_false(ok)
    assert.match("driver", tostring(err))
    package.preload["moonbase.driver.odd"], package.loaded["moonbase.driver.odd"] = nil, nil
  end)
end)

describe("moonbase.cancellation", function()
  it("gives one of its own, or the one of a name", function()
    local own, other = moonbase.cancellation(), moonbase.cancellation {}
    local named, same = moonbase.cancellation { name = "x" }, moonbase.cancellation { name = "x" }
    own:cancel()
    assert.is_false(other:is_cancelled())
    assert.is_false(named:is_cancelled())
    named:cancel "because"
    assert.is_true(same:is_cancelled())
  end)

  it("forgets a name when nobody holds it", function()
    moonbase.cancellation { name = "held by nobody" }:cancel()
    require "spec.support.language".collect()
    assert.is_false(moonbase.cancellation { name = "held by nobody" }:is_cancelled())
  end)

  it("wants a table with a name, and a reason that is a text", function()
    for _, wrong in ipairs { "x", 7, true, print } do
      expect.raised("UsageError", "wants a table of options", moonbase.cancellation, wrong)
    end
    expect.raised("UsageError", 'nmae is no option of cancellation; did you mean "name"?',
      moonbase.cancellation, { nmae = "x" })
    expect.raised("UsageError", "wants a string, and got a number", moonbase.cancellation,
      { name = 7 })
    expect.raised("UsageError", "holds a zero byte", moonbase.cancellation, { name = "a\0b" })
    local stop = moonbase.cancellation()
    for _, wrong in ipairs { 7, true, {}, print } do
      expect.raised("UsageError", "cancel wants a reason, a string", stop.cancel, stop, wrong)
    end
    assert.is_false(stop:is_cancelled())
    stop:cancel(nil)
    assert.is_true(stop:is_cancelled())
  end)
end)
