local moonbase = require "moonbase"

describe("moonbase", function()
  it("answers a query", function()
    local db = moonbase.open "sqlite::memory:"
    assert.equal(1, db:query_value "select 1")
    db:close()
  end)
end)
