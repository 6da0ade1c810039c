-- What a database says without being asked.  SQLite says nothing, so its driver is made to.
local lfs = require "lfs"
local moonbase = require "moonbase"
local files = require "spec.support.files"
local language = require "spec.support.language"

-- The driver of spec/support/notice_driver.c, compiled for this Lua.
local function talking_driver()
  local path = files.path "notice_driver.so"
  local lua = language.command:match "[^/]+$"
  local pipe = assert(io.popen(("env -u LD_PRELOAD cc -std=c11 -shared -fPIC -Wl,-z,nodelete "
    .. "$(pkg-config --cflags %s) -o '%s' '%s/spec/support/notice_driver.c' 2>&1"):format(lua, path,
    lfs.currentdir())))
  local output = pipe:read "*a"
  pipe:close()
  assert(files.exists(path), output)
  local open = assert(package.loadlib(path, "luaopen_notice_driver"))
  return open(require "moonbase.driver.sqlite")
end

describe("What a database says by itself", function()
  local db

  before_each(function() db = moonbase.open("sqlite::memory:", { driver = talking_driver() }) end)

  after_each(function()
    db:close()
    files.clean()
  end)

  local function listen(event)
    local list = {}
    local off = db:on(event, function(told) list[#list + 1] = told end)
    return list, off
  end

  it("is told after the call that has read it", function()
    local told, off = listen "notice"
    db:query_value "select 1"
    assert.equal(1, #told)
    assert.equal("by the way", told[1].message)
    assert.equal("WARNING", told[1].severity)
    assert.is_truthy(told[1].source:find("notice_spec.lua", 1, true))
    off()
    db:query_value "select 1"
    assert.equal(1, #told)
  end)

  it("is told of a Connection and a transaction too, in order", function()
    local told = listen "notice"
    local conn = db:connect()
    conn:transaction(function(tx)
      tx:query_value "select 1"
      assert.equal(1, #told)
    end)
    conn:query "select 2":all()
    conn:close()
    assert.equal(2, #told)
  end)

  it("is told of warnings that were counted", function()
    local told = listen "warning"
    db:exec "create table t (a)"
    db:query "select a from t":all()
    assert.equal(2, #told)
    assert.equal(2, told[1].warnings)
    assert.equal("select a from t", told[2]["db.query.text"])
  end)

  it("is nobody's where nobody listens", function()
    db:query_value "select 1"
    local told = listen "notice"
    db:ping()
    assert.same({}, told)
  end)
end)
