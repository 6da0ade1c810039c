-- Whether two opens of a name mean the same pool hung on the order of their options, which is
-- that of a table: in another Lua state it may be another.
local moonbase = require "moonbase"
local expect = require "spec.support.expect"
local files = require "spec.support.files"

describe("A pool with a name", function()
  local opened

  before_each(function() opened = {} end)

  after_each(function()
    for i = 1, #opened do opened[i]:close() end
    files.clean()
  end)

  it("is the same in whatever order its options are given", function()
    local url = "sqlite:" .. files.path "named.db"
    local function open(suffix, options)
      opened[#opened + 1] = moonbase.open(url .. suffix, options)
    end
    local init = { "select 1", "select 2" }
    open("", { name = "order", max = 3, min_idle = 0, init = init })
    open("", { name = "order", pool = { min_idle = 0, max = 3 }, init = init })
    open("?min_idle=0&name=order&max=3", { init = init })
    expect.raised("ConnectorValidationError", "other options", open, "",
      { name = "order", max = 3, min_idle = 0, init = { "select 2", "select 1" } })
    expect.raised("ConnectorValidationError", "other options", open, "",
      { name = "order", max = 3, min_idle = 1, init = init })
    expect.raised("ConnectorValidationError", "other options", open, "",
      { name = "order", max = 3, init = init })
  end)
end)
