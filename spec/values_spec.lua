-- moonbase.blob, decimal, uuid, timestamp …, without a database.  spec/conformance/value_spec.lua
-- writes and reads them.
local moonbase = require "moonbase"
local expect = require "spec.support.expect"

describe("moonbase.blob, float, json and array", function()
  it("show what they are", function()
    assert.equal("moonbase.blob(x)", tostring(moonbase.blob "x"))
    assert.equal("moonbase.float(1.5)", tostring(moonbase.float(1.5)))
    assert.equal("moonbase.json(nil)", tostring(moonbase.json(nil)))
    assert.match("^moonbase%.array%(table", tostring(moonbase.array {}))
  end)

  it("want what they are made of", function()
    for _, wrong in ipairs { 7, true, {}, print } do
      expect.raised("UsageError", "moonbase.blob wants a string", moonbase.blob, wrong)
    end
    for _, wrong in ipairs { "7", true, {}, print } do
      expect.raised("UsageError", "moonbase.float wants a number", moonbase.float, wrong)
    end
    for _, wrong in ipairs { "7", true, 7, print } do
      expect.raised("UsageError", "moonbase.array wants a list", moonbase.array, wrong)
    end
    expect.raised("UsageError", "and got a nil", moonbase.blob)
    expect.raised("UsageError", "and got a nil", moonbase.float)
    expect.raised("UsageError", "and got a nil", moonbase.array)
  end)
end)

describe("moonbase.decimal", function()
  it("takes digits, with sign and point", function()
    for _, digits in ipairs { "0", "7", "-7", "+7", "1.50", "-0.001", ".5", "-.5", "5.",
      "123456789012345678901234567890.123456789" } do
      assert.equal("moonbase.decimal(" .. digits .. ")", tostring(moonbase.decimal(digits)))
    end
  end)

  it("takes whole numbers that are exact", function()
    assert.equal("moonbase.decimal(7)", tostring(moonbase.decimal(7)))
    assert.equal("moonbase.decimal(-7)", tostring(moonbase.decimal(-7)))
    assert.equal("moonbase.decimal(9007199254740991)", tostring(moonbase.decimal(2 ^ 53 - 1)))
    assert.equal("moonbase.decimal(0)", tostring(moonbase.decimal(-0.0)))
  end)

  it("refuses everything else", function()
    for _, wrong in ipairs { "", "+", "-", ".", "1e5", "0x10", "1,5", " 1", "1 ", "1\n", "--1",
      "1.2.3", "NaN", "inf", "\217\161" } do
      expect.raised("UsageError", "wants digits", moonbase.decimal, wrong)
    end
    for _, wrong in ipairs { 1.5, 2 ^ 54, 1e300, 0 / 0, math.huge, true, {} } do
      expect.raised("UsageError", "moonbase.decimal", moonbase.decimal, wrong)
    end
    expect.raised("UsageError", "and got a nil", moonbase.decimal)
  end)
end)

describe("moonbase.uuid", function()
  it("takes 32 hexadecimal digits, and writes them in one form", function()
    local wanted = "moonbase.uuid(6f9619ff-8b86-d011-b42d-00cf4fc964ff)"
    for _, text in ipairs { "6f9619ff-8b86-d011-b42d-00cf4fc964ff",
      "6F9619FF-8B86-D011-B42D-00CF4FC964FF", "6f9619ff8b86d011b42d00cf4fc964ff" } do
      assert.equal(wanted, tostring(moonbase.uuid(text)))
    end
  end)

  it("refuses everything else", function()
    for _, wrong in ipairs { "", "6f9619ff", "6f9619ff-8b86-d011-b42d-00cf4fc964fg",
      "6f9619ff-8b86-d011-b42d-00cf4fc964ff0", "{6f9619ff-8b86-d011-b42d-00cf4fc964ff}" } do
      expect.raised("UsageError", "32 hexadecimal digits", moonbase.uuid, wrong)
    end
    expect.raised("UsageError", "wants a string", moonbase.uuid, 7)
    expect.raised("UsageError", "wants a string", moonbase.uuid)
  end)
end)

describe("moonbase.params", function()
  it("copies a list with its length, nils inside", function()
    local list = { 1, nil, 3 }
    local params = moonbase.params(list, 3)
    list[1] = "changed"
    assert.same({ n = 3, 1, nil, 3 }, setmetatable(params, nil))
    assert.equal(2, moonbase.params { 1, 2 }.n)
    assert.equal(5, moonbase.params { n = 5 }.n)
    assert.equal(0, moonbase.params({ 1, 2 }, 0).n)
  end)

  it("wants a list, and a length that one has", function()
    expect.raised("UsageError", "wants a list, and got a nil", moonbase.params)
    expect.raised("UsageError", "wants a list, and got a string", moonbase.params, "x")
    for _, wrong in ipairs { "1", -1, 1.5, 0 / 0, math.huge, 2 ^ 53, false } do
      expect.raised("UsageError", "the number of values", moonbase.params, {}, wrong)
    end
  end)
end)

describe("moonbase.timestamp and moonbase.epoch", function()
  local pairs_of_both = {
    ["1970-01-01 00:00:00+00:00"] = 0,
    ["1970-01-01 00:00:00.5+00:00"] = 0.5,
    ["1969-12-31 23:59:59.5+00:00"] = -0.5,
    ["2000-02-29 12:34:56+00:00"] = 951827696,
    ["2100-03-01 00:00:00+00:00"] = 4107542400,
    ["1900-02-28 23:59:59+00:00"] = -2203891201,
    ["2026-11-21 09:48:00.000001+00:00"] = 1795254480.000001,
    ["0000-01-01 00:00:00+00:00"] = -62167219200,
    ["0000-02-29 00:00:00+00:00"] = -62162121600,
    ["9999-12-31 23:59:59+00:00"] = 253402300799,
  }

  it("are each other's inverse", function()
    for text, seconds in pairs(pairs_of_both) do
      assert.equal("moonbase.timestamp(" .. text .. ")", tostring(moonbase.timestamp(seconds)))
      assert.is_true(math.abs(moonbase.epoch(text) - seconds) < 5e-7, text)
    end
  end)

  it("are so for every day of 800 years", function()
    local before
    for day = -150000, 142000, 73 do
      local seconds = day * 86400
      local text = tostring(moonbase.timestamp(seconds)):match "%((.*)%)"
      assert.equal(seconds, moonbase.epoch(text))
      assert.is_true(before == nil or text > before)
      before = text
    end
  end)

  it("agree with the system's calendar", function()
    for _, seconds in ipairs { 0, 86399, 951782400, 1078012800, 1709164800, 1795254480,
      2147483647 } do
      assert.equal(os.date("!%Y-%m-%d %H:%M:%S", seconds),
        tostring(moonbase.timestamp(seconds)):sub(20, 38))
    end
  end)

  it("round to the microsecond, and carry", function()
    assert.equal("moonbase.timestamp(1970-01-01 00:00:01+00:00)",
      tostring(moonbase.timestamp(0.9999999)))
    assert.equal("moonbase.timestamp(1970-01-01 00:00:00.25+00:00)",
      tostring(moonbase.timestamp(0.2500000001)))
  end)

  it("read every form that databases write", function()
    local noon = moonbase.epoch "2026-11-21 12:00:00+00:00"
    for _, text in ipairs { "2026-11-21 12:00:00", "2026-11-21T12:00:00Z", "2026-11-21 12:00",
      "2026-11-21 12:00:00.000", "2026-11-21 14:00:00+02", "2026-11-21 14:30:00+0230",
      "2026-11-21 09:30:00-02:30", "2026-11-21 12:00Z" } do
      assert.equal(noon, moonbase.epoch(text), text)
    end
    assert.equal(noon - 43200, moonbase.epoch "2026-11-21")
    assert.equal(-62198755200, moonbase.epoch "-0001-01-01")
    assert.equal(253402300800, moonbase.epoch "10000-01-01")
    assert.equal(moonbase.epoch "2017-01-01", moonbase.epoch "2016-12-31 23:59:60")
  end)

  it("refuse texts that are no date", function()
    for _, wrong in ipairs { "", "now", "infinity", "12:00:00", "2026-11", "2026-1-1", "20261121",
      "2026-00-01", "2026-13-01", "2026-01-00", "2026-01-32", "2026-02-29", "2026-04-31",
      "1900-02-29", "2026-11-21 24:00:00", "2026-11-21 12:60:00", "2026-11-21 12:00:61",
      "2026-11-21 12", "2026-11-21 12:0", "2026-11-21 12:00:", "2026-11-21 12:00:0",
      "2026-11-21 12:00:00 BC", "2026-11-21 BC", "2026-11-21 12:00:00+2",
      "2026-11-21 12:00:00+02:3", "2026-11-21 12:00:00.1.2", "2026-11-21x12:00:00", " 2026-11-21",
      "2026-11-21 ", "2026-11-21 12:00:00 +02:00" } do
      expect.raised("DataError", "no date", moonbase.epoch, wrong)
    end
    for _, wrong in ipairs { 7, true, {}, print } do
      expect.raised("DataError", "no date", moonbase.epoch, wrong)
    end
    expect.raised("DataError", "no date", moonbase.epoch)
  end)

  it("refuse seconds that no database has", function()
    for _, wrong in ipairs { -62167219201, 253402300800, 0 / 0, math.huge, -math.huge, "0", {} } do
      expect.raised("UsageError", "of the years 0 to 9999", moonbase.timestamp, wrong)
    end
    expect.raised("UsageError", "of the years 0 to 9999", moonbase.timestamp)
  end)
end)
