-- Commands, where SQLite's files and locks show.
local commands = require "moonbase.commands"
local moonbase = require "moonbase"
local expect = require "spec.support.expect"
local files = require "spec.support.files"

describe("Commands on a file of SQLite", function()
  local url, db

  before_each(function()
    url = "sqlite:" .. files.path "case.db"
    db = moonbase.open(url)
    db:exec "create table item (name text)"
  end)

  after_each(function()
    db:close()
    files.clean()
  end)

  it("take the lock for writing before the first of them runs", function()
    local other = moonbase.open(url, { timeout = 0.05 })
    for _, exclusive in ipairs { true, false } do
      local ran = false
      commands.executor(db, { write_exclusive = exclusive }):execute { function()
        ran = true
        local err = expect.raised("TimeoutError", nil, other.exec, other,
          "insert into item values ('a')")
        assert.equal("SQLITE_BUSY", err.code)
        assert.equal(0, other:query_value "select count(*) from item")
      end }
      assert.is_true(ran)
    end
    other:close()
  end)

  it("with a key say why the table of keys cannot be created", function()
    local reader = moonbase.open(url .. "?mode=ro")
    local list, given = { function() end }, { key = "k" }
    local executor = commands.executor(reader)
    expect.raised("ReadOnlyError", nil, executor.execute, executor, list, given)
    expect.returned("ReadOnlyError", nil,
      commands.executor(reader:with { errors = "return" }):execute(list, given))
    reader:close()
  end)

  it("with a key need not be allowed to create a table that is there", function()
    commands.executor(db):execute({ function() return "stored" end }, { key = "k" })
    local reader = moonbase.open(url .. "?mode=ro")
    assert.same({ "stored", n = 1 },
      commands.executor(reader):execute({ error }, { key = "k" }))
    reader:close()
  end)
end)
