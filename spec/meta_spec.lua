local core = require "moonbase.core"
local moonbase = require "moonbase"
local files = require "spec.support.files"

local folder = "lua/moonbase/meta/"
local names = {
  "session", "statement", "rows", "tables", "commands", "postgres", "testing"
}

-- The classes of the definitions: name -> { parent =, methods = set, fields = set }.
local function read_classes()
  local classes = {}
  local current
  for _, name in ipairs(names) do
    for line in io.lines(folder .. name .. ".lua") do
      local class, parent = line:match "^%-%-%-@class moonbase%.(%a+):? ?([%a.]*)"
      if class then
        current = { parent = parent:match "^moonbase%.(%a+)$", methods = {}, fields = {} }
        classes[class] = current
      end
      local field = line:match "^%-%-%-@field ([%a_][%w_]*)%??"
      if field then current.fields[field] = true end
      local owner, method = line:match "^function (%a+):([%w_]+)%("
      if owner then classes[owner].methods[method] = true end
    end
  end
  return classes
end

-- The names of a class and of those that it extends.
local function names_of(classes, name, kind)
  local set = {}
  while name do
    for one in pairs(classes[name][kind]) do set[one] = true end
    name = classes[name].parent
  end
  return set
end

local function keys(set, wanted)
  local list = {}
  for name, value in pairs(set) do
    if not wanted or type(value) == wanted then list[#list + 1] = name end
  end
  table.sort(list)
  return list
end

describe("the definitions for editors", function()
  local classes = read_classes()

  for kind, methods in pairs(core.methods) do
    it("have the methods of a " .. kind, function()
      assert.same(keys(methods, "function"), keys(names_of(classes, kind, "methods")))
      for name, value in pairs(methods) do
        if type(value) ~= "function" then
          assert.is_true(names_of(classes, kind, "fields")[name], name)
        end
      end
    end)
  end

  it("have the methods of a BlobReader", function()
    local db = moonbase.open "sqlite::memory:"
    db:exec "create table t (b blob)"
    db:exec "insert into t values (x'00ff')"
    local reader = require "moonbase.sqlite".blob_reader(db, "t", "b", 1)
    assert.same(keys(getmetatable(reader).__index, "function"), keys(classes.BlobReader.methods))
    assert.equal(2, reader.size)
    db:close()
  end)

  it("have the methods and options of an Executor", function()
    local commands = require "moonbase.commands"
    local db = moonbase.open "sqlite::memory:"
    local options = { write_exclusive = true, retry = {}, isolation = "serializable", timeout = 5,
      key_table = "own_keys" }
    assert.same(keys(options), keys(classes.ExecutorOptions.fields))
    local executor = commands.executor(db, options)
    assert.same(keys(getmetatable(executor).__index, "function"), keys(classes.Executor.methods))
    assert.same({ "key" }, keys(classes.ExecuteOptions.fields))
    local results = executor:execute({ function() return 1 end }, { key = "k" })
    assert.same({ 1, n = 1 }, results)
    assert.same({ "n" }, keys(classes.CommandResults.fields))
    assert.same({ "name" }, keys(commands.define("X", print)))
    assert.same({ "name" }, keys(classes.CommandConstructor.fields))
    db:close()
  end)

  it("have the methods of a Fault and the options of its rules", function()
    local db = moonbase.open "fault+sqlite::memory:"
    local fault = require "moonbase.testing".fault(db)
    local methods = {}
    for _, name in ipairs(keys(getmetatable(fault), "function")) do
      if name:sub(1, 2) ~= "__" then methods[#methods + 1] = name end
    end
    assert.same(methods, keys(classes.Fault.methods))
    assert.same(keys(fault), keys(classes.Fault.fields))
    local options = { nth = 1, times = 1, sql = "x", delay = 1, fail = "DataError", after = true,
      code = "x", message = "x", connection_dead = true, transaction_dead = true,
      retryable = true, sent = true, session_only = true, stale_statement = true }
    fault:at("execute", options)
    fault:at("execute", { lose = true })
    fault:at("is_valid", { answer = "alive" })
    options.lose, options.answer = true, "alive"
    assert.same(keys(options), keys(classes.FaultRule.fields))
    db:close()
  end)

  it("have the options of with", function()
    local db = moonbase.open "sqlite::memory:"
    local values = { timeout = 1, cancel = moonbase.cancellation(), errors = "raise", null = false,
      types = {}, json = function() end, int64 = "error", decimal = "number", booleans = true,
      fetch_size = 0, placeholders = true, log_parameters = true, replica = false }
    assert.same(keys(values), keys(classes.HandleOptions.fields))
    assert.has_no.errors(function() db:with(values) end)
    db:close()
  end)

  it("have the options of open", function()
    local set = {}
    for name in pairs(classes.OpenOptions.fields) do set[name] = true end
    for name in pairs(classes.PoolOptions.fields) do set[name] = true end
    -- Those that are wanted as texts are in two tables of the sources.
    for _, source in ipairs { "src/core/connector.c", "drivers/sqlite/connector.c" } do
      for name in files.read(source):gmatch '{"([%a_%d]+)", MB_OPTION_' do
        assert.is_true(set[name], name)
        set[name] = nil
      end
    end
    -- Those of PostgreSQL; for libpq's others there is one as an example.
    for _, name in ipairs { "host", "port", "user", "database", "tls", "time_zone",
      "target_session_attrs" } do
      assert.is_true(set[name], name)
      set[name] = nil
    end
    local values = { driver = "sqlite", pool = {}, on_connect = print, password = print,
      functions = {}, aggregates = {}, collations = {}, types = {}, json = print, null = false,
      replicas = {}, read_your_writes = true }
    assert.same(keys(values), keys(set))
    -- SQLite has none of these.
    values.password, values.replicas, values.read_your_writes = nil, nil, nil
    assert.has_no.errors(function() moonbase.open("sqlite::memory:", values) end)
  end)

  it("have the fields of errors and counts", function()
    local db = moonbase.open "sqlite::memory:"
    local stats = db:stats()
    stats.replicas, stats.only_reading = {}, {} -- of a Database with replicas
    assert.same(keys(stats), keys(classes.Stats.fields))
    db:exec "create table t (a integer not null unique)"
    for _, text in ipairs { "insert into t values (null)", "selec", "select ?" } do
      local _, err = pcall(db.exec, db, text)
      for name in pairs(err) do assert.is_true(classes.Error.fields[name], name) end
    end
    for _, column in ipairs(db:query "select a from t":columns()) do
      assert.same(keys(column), keys(classes.Column.fields))
    end
    db:close()
  end)

  it("are Lua", function()
    for _, name in ipairs(names) do
      assert(loadfile(folder .. name .. ".lua"))
    end
  end)
end)
