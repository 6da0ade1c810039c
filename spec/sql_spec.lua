-- moonbase.sql without a database: what makes fragments, and what it refuses.
-- spec/conformance/fragment_spec.lua runs them.
local moonbase = require "moonbase"
local expect = require "spec.support.expect"

local sql = moonbase.sql

describe("moonbase.sql", function()
  it("makes fragments that show their text, or what they are, and no value", function()
    assert.equal("moonbase.sql(a = ?)", tostring(sql("a = ?", "secret")))
    assert.equal("moonbase.sql(a = ?)", tostring(sql("a = ?")))
    assert.equal("moonbase.sql(now())", tostring(sql.raw "now()"))
    assert.equal("moonbase.sql(identifier)", tostring(sql.identifier "secret"))
    assert.equal("moonbase.sql(list)", tostring(sql.list { "secret" }))
    assert.equal("moonbase.sql(join)", tostring(sql.values { { "secret" } }))
    assert.equal("moonbase.sql(join)", tostring(sql.all { sql("a = ?", "secret") }))
    assert.equal("moonbase.sql((1 = 1))", tostring(sql.all {}))
    assert.equal("moonbase.sql((1 = 0))", tostring(sql.any {}))
    assert.equal("moonbase.sql((1 = 0))", tostring(sql.is_in("a", {})))
  end)

  it("wants a text", function()
    for _, wrong in ipairs { 7, true, {}, print, sql "1" } do
      expect.raised("UsageError", "sql(…) wants a text", sql, wrong)
    end
    expect.raised("UsageError", "and got a nil", sql)
    expect.raised("UsageError", "sql.raw wants a text, and got a nil", sql.raw)
    expect.raised("UsageError", "sql.raw wants a text, and got a number", sql.raw, 7)
  end)

  it("joins fragments, and nothing else", function()
    for _, name in ipairs { "all", "any", "join" } do
      expect.raised("UsageError", "sql." .. name .. " wants a list, and got a nil", sql[name])
      expect.raised("UsageError", "sql." .. name .. " wants a list, and got a string", sql[name],
        "1 = 1")
      expect.raised("UsageError", "item 2 is no fragment, but a string: write sql(…)", sql[name],
        { sql "1 = 1", "1 = 1" })
      expect.raised("UsageError", "item 2 is no fragment, but a nil", sql[name],
        { n = 3, sql "1 = 1", nil, sql "1 = 1" })
      expect.raised("UsageError", "item 1 is no fragment, but a table", sql[name],
        { moonbase.blob "x" })
    end
    expect.raised("UsageError", "wants a text between two, and got a number", sql.join,
      { sql "1" }, 7)
  end)

  it("wants lists whose length is one", function()
    for _, n in ipairs { "2", -1, 1.5, 0 / 0, math.huge, 1e9 } do
      expect.raised("UsageError", "sql.list: the number of values", sql.list, { n = n })
      expect.raised("UsageError", "sql.is_in: the number of values", sql.is_in, "a", { n = n })
      expect.raised("UsageError", "sql.values: the number of values", sql.values, { n = n })
    end
    expect.raised("UsageError", "sql.list wants a list, and got a nil", sql.list)
    expect.raised("UsageError", "sql.list is empty", sql.list, {})
    expect.raised("UsageError", "sql.is_in wants a list, and got a number", sql.is_in, "a", 7)
  end)

  it("wants rows that are as long as the first one, without a gap between them", function()
    expect.raised("UsageError", "sql.values is empty", sql.values, {})
    expect.raised("UsageError", "row 1 has 0 values", sql.values, { {} })
    expect.raised("UsageError", "row 2 has 3 values, and the first 2", sql.values,
      { { 1, 2 }, { 1, 2, 3 } })
    expect.raised("UsageError", "sql.values wants a list, and got a nil", sql.values,
      { n = 3, { 1 }, nil, { 2 } })
    expect.raised("UsageError", "sql.values wants a list, and got a number", sql.values, { 1 })
    expect.raised("UsageError", "sql.values wants a list, and got a nil", sql.values)
  end)

  it("wants names that are strings", function()
    expect.raised("UsageError", "and got none", sql.identifier)
    expect.raised("UsageError", "and got a nil", sql.identifier, nil)
    expect.raised("UsageError", "and got a nil", sql.identifier, nil, "a")
    expect.raised("UsageError", "and got a nil", sql.identifier, "a", nil)
    expect.raised("UsageError", "and got a number", sql.identifier, "a", 7)
    expect.raised("UsageError", "a column's name or a fragment, and got a nil", sql.is_in, nil, {})
    expect.raised("UsageError", "a column's name or a fragment, and got a table", sql.is_in, {}, {})
  end)

  it("keeps the values as they were when the fragment was made", function()
    local db = moonbase.open "sqlite::memory:"
    local list = { 1, 2 }
    local fragment = sql.list(list)
    list[1], list[3] = "changed", 3
    assert.same({ 1, 2 }, { db:query_values("select ?", fragment) })
    db:close()
  end)

  it("takes the word pairs of a text only when it is run: an error there names the text", function()
    local db = moonbase.open "sqlite::memory:"
    local fragment = sql("a = ? and b = :b", 1)
    local err = expect.raised("UsageError", "both ? and :name", db.query, db, fragment)
    assert.equal("UsageError", err.class)
    expect.raised("UsageError", "(in: a = ?)", db.query, db, "select ?", sql "a = ?")
    db:close()
  end)
end)
