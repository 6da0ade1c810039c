-- Values come back as they were given: the boundaries of every type, through a column and
-- through a parameter alone, in every form in which a row is given.
local moonbase = require "moonbase"
local expect = require "spec.support.expect"
local language = require "spec.support.language"

-- A number's exact digits, with the sign of zero.
local function exact(value)
  if type(value) ~= "number" then return tostring(value) end
  if value == 0 then return 1 / value < 0 and "-0" or "0" end
  return ("%.17g"):format(value)
end

local function bytes_of_all_values()
  local list = {}
  for i = 0, 255 do list[i + 1] = string.char(i) end
  return table.concat(list)
end

local texts = {
  [""] = "an empty text",
  ["a"] = "a letter",
  [("x"):rep(100000)] = "100,000 bytes",
  ["\226\130\172 \240\159\153\130"] = "characters of three and four bytes",
  ["it's \"quoted\" \\ and %s\n\t"] = "quotes, backslash, line end",
}

local integers = { 0, 1, -1, 127, 128, -128, 255, 256, 32767, 32768, -32768, 65536, 8388607,
  2147483647, 2147483648, -2147483648, 4294967296, 140737488355327, 2 ^ 53 - 1, 2 ^ 53,
  -(2 ^ 53) }

local doubles = { 0.5, -0.5, 1 / 3, 0.1, 1e-5, 1e300, -1e300, 2 ^ -1074, 2 ^ -1022,
  1.7976931348623157e308, 123456789.123456789 }

-- Integers beyond 2^53, as digits.
local long_integers = { "9007199254740993", "-9007199254740993", "9223372036854775807",
  "-9223372036854775808" }

for _, database in ipairs(require "spec.support.databases") do
  local quirks = database.quirks

  describe("Values on " .. database.name, function()
    local db

    before_each(function()
      db = database:open()
      database:create(db, "kinds (i :integer, d :double, t :text, b :blob, o :boolean)")
    end)

    after_each(function() database:clean() end)

    -- Writes a value into a column and reads it in every form.
    local function through(column, value)
      db:exec "delete from kinds"
      db:exec("insert into kinds (" .. column .. ") values (?)", value)
      local text = "select " .. column .. " from kinds"
      local got = db:query_value(text)
      assert.equal(exact(got), exact(db:query_row(text)[column]))
      assert.equal(exact(got), exact((db:query_values(text))))
      assert.equal(exact(got == nil and moonbase.null or got), exact(db:query_column(text)[1]))
      assert.equal(exact(got), exact(db:query_all(text)[1][column]))
      assert.equal(exact(got), exact(db:query(text):next()[column]))
      assert.equal(exact(got), exact(db:query(text):arrays():next()[1]))
      local iterator, state = db:query(text):tuples()
      assert.equal(exact(got), exact((select(2, iterator(state)))))
      return got
    end

    for text, what in pairs(texts) do
      it("keep " .. what, function()
        assert.equal(text, through("t", text))
      end)
    end

    it("keep blobs of every byte, and an empty one, which is not NULL", function()
      local all = bytes_of_all_values()
      assert.equal(all, through("b", moonbase.blob(all)))
      assert.equal("\0", through("b", moonbase.blob "\0"))
      assert.equal("", through("b", moonbase.blob ""))
      assert.equal(1, db:query_value "select count(*) from kinds where b is not null")
    end)

    it("keep an empty text, which is not NULL", function()
      through("t", "")
      assert.equal(1, db:query_value "select count(*) from kinds where t = ''")
    end)

    it("keep integers", function()
      for _, integer in ipairs(integers) do
        local got = through("i", integer)
        assert.equal(("%.0f"):format(integer), ("%.0f"):format(got))
        if language.integers then assert.equal("integer", math.type(got)) end -- luacheck: ignore
      end
    end)

    it("keep integers beyond 2^53", function()
      for _, digits in ipairs(long_integers) do
        if language.integers then
          local integer = math.tointeger(tonumber(digits)) -- luacheck: ignore 143
            or math.mininteger -- luacheck: ignore 143
          assert.equal(integer, through("i", integer))
        else
          -- They come as strings there, which can be given back.
          assert.equal(digits, through("i", digits))
          assert.equal(1, db:query_value("select count(*) from kinds where i = " .. digits))
        end
      end
    end)

    it("keep doubles", function()
      for _, double in ipairs(doubles) do
        assert.equal(exact(double), exact(through("d", double)))
      end
    end)

    it("keep a double that is a whole number a double", function()
      local got = through("d", moonbase.float(7))
      assert.equal(7, got)
      if language.integers then assert.equal("float", math.type(got)) end -- luacheck: ignore 143
    end)

    it("keep infinities where the database has them", function()
      for _, infinite in ipairs { math.huge, -math.huge } do
        if quirks.infinity then
          assert.equal(infinite, through("d", infinite))
        else
          expect.raised("DataError", nil, through, "d", infinite)
        end
      end
    end)

    it("keep NaN where the database has it, and refuse it elsewhere", function()
      local nan = 0 / 0
      if quirks.nan then
        local got = through("d", nan)
        assert.are_not.equal(got, got)
      else
        expect.raised("DataError", "not a number", db.exec, db,
          "insert into kinds (d) values (?)", nan)
      end
    end)

    it("keep the sign of zero where the database does", function()
      local got = through("d", -0.0)
      assert.equal(0, got)
      if quirks.negative_zero then assert.equal(-math.huge, 1 / got) end
    end)

    it("keep booleans", function()
      assert.is_true(through("o", true))
      assert.is_false(through("o", false))
      assert.is_nil(through("o", nil))
    end)

    it("keep booleans as integers where that is asked for", function()
      local x = db:with{ booleans = false }
      db:exec("insert into kinds (o) values (?)", true)
      assert.equal(1, x:query_value "select o from kinds")
      assert.equal(1, x:query "select o from kinds":next().o)
    end)

    it("keep NULL apart from everything else", function()
      for _, column in ipairs { "i", "d", "t", "b", "o" } do
        assert.is_nil(through(column, nil))
        assert.is_nil(through(column, moonbase.null))
        assert.is_nil(next(db:query_row("select " .. column .. " from kinds")))
      end
    end)

    it("keep what they are as parameters alone", function()
      assert.equal("a", db:query_value("select ?", "a"))
      assert.equal("\0\1", db:query_value(database:text "select {?:blob}", moonbase.blob "\0\1"))
      assert.equal(1.5, db:query_value(database:text "select {?:double}", 1.5))
      assert.equal(2 ^ 53, db:query_value(database:text "select {?:integer}", 2 ^ 53))
    end)

    it("are the same the first time and the tenth", function()
      local statement = db:prepare "insert into kinds (i, d, t, b) values (?, ?, ?, ?)"
      for _ = 1, 10 do statement:exec(1, 0.25, "t\\x00", moonbase.blob "b\0") end
      for row in db:query "select * from kinds" do
        assert.same({ i = 1, d = 0.25, t = "t\\x00", b = "b\0" }, row)
      end
    end)

    it("with a zero byte in a text are kept whole, or refused", function()
      if quirks.zero_bytes_in_text then
        assert.equal("a\0b", through("t", "a\0b"))
      else
        expect.raised("DataError", nil, db.exec, db, "insert into kinds (t) values (?)", "a\0b")
      end
    end)

    it("can be exact decimals", function()
      assert.equal("12345678901234567890.12",
        through("t", moonbase.decimal "12345678901234567890.12"))
    end)

    it("can be UUIDs and timestamps", function()
      assert.equal("6f9619ff-8b86-d011-b42d-00cf4fc964ff",
        through("t", moonbase.uuid "6F9619FF8B86D011B42D00CF4FC964FF"))
      assert.equal(quirks.timestamp_in_text, through("t", moonbase.timestamp(1795254480.5)))
    end)

    it("of 1 MB keep every byte", function()
      local bytes = bytes_of_all_values():rep(4096)
      assert.is_true(through("b", moonbase.blob(bytes)) == bytes)
    end)

    if not language.integers then
      it("that this Lua cannot hold exactly are an error where that is asked for", function()
        db:exec("insert into kinds (i) values (9007199254740993)")
        local x = db:with{ int64 = "error" }
        expect.raised("DataError", "cannot hold exactly", x.query_value, x,
          "select i from kinds")
        expect.raised("DataError", "cannot hold exactly", function()
          for _ in x:query "select i from kinds" do error "a row came" end
        end)
        assert.equal("9007199254740993", db:query_value "select i from kinds")
        assert.equal(1, x:query_value "select 1")
      end)

      it("that are whole numbers within 2^53 go as integers, others as doubles", function()
        database:create(db, "item (id :id, t :text)")
        db:exec("insert into kinds (i, d) values (?, ?)", 2 ^ 53, 2 ^ 53 + 2)
        assert.equal(2 ^ 53, db:query_value "select i from kinds")
        assert.equal(2 ^ 53 + 2, db:query_value "select d from kinds")
      end)
    end

    if language.cdata then
      it("can be 64-bit cdata", function()
        local ffi = require "ffi"
        for _, digits in ipairs(long_integers) do
          local cdata = ffi.new("int64_t", 0)
          for digit in digits:gmatch "%d" do
            cdata = cdata * 10 - tonumber(digit)
          end
          if digits:sub(1, 1) ~= "-" then cdata = -cdata end
          assert.equal(digits, through("i", cdata))
        end
        assert.equal(7, through("i", ffi.new("uint64_t", 7)))
        expect.raised("DataError", nil, db.exec, db, "insert into kinds (i) values (?)",
          ffi.new("uint64_t", -1))
        expect.raised("UsageError", "no 64-bit integer", db.exec, db,
          "insert into kinds (i) values (?)", ffi.new "int[2]")
      end)
    end
  end)

  describe("Converted values on " .. database.name, function()
    local db
    -- JSON of one kind only: what matters here is who is called with what.
    local json = {
      encode = function(value) return '{"n":' .. value.n .. "}" end,
      decode = function(text) return { n = tonumber(text:match "%d+") } end,
    }

    before_each(function()
      db = database:open()
      database:create(db, "kinds (i :integer, t :text, j :json)")
      db:exec [[insert into kinds values (1, 'a', '{"n":5}'), (2, null, null)]]
    end)

    after_each(function() database:clean() end)

    it("are strings where no json option is given", function()
      assert.match("5", db:query_value "select j from kinds where i = 1")
    end)

    it("of json columns are decoded, in every form", function()
      local x = database:open{ json = json }
      if not quirks.many_connections then x = db:with{ json = json } end
      local text = "select j from kinds where i = 1"
      assert.same({ n = 5 }, x:query_value(text))
      assert.same({ j = { n = 5 } }, x:query_row(text))
      assert.same({ j = { n = 5 } }, (x:query(text):next()))
      assert.same({ n = 5 }, x:query(text):arrays():next()[1])
      assert.same({ n = 5 }, (x:query_values(text)))
      assert.same({ n = 5 }, x:query_column(text)[1])
      assert.same({ { j = { n = 5 } } }, x:query_all(text))
      assert.is_nil(x:query_value "select j from kinds where i = 2")
      assert.equal("a", x:query_value "select t from kinds where i = 1")
    end)

    it("are encoded for moonbase.json", function()
      local x = db:with{ json = json }
      x:exec("update kinds set j = ? where i = 2", moonbase.json { n = 7 })
      assert.same({ n = 7 }, x:query_value "select j from kinds where i = 2")
      expect.raised("UsageError", "without a json option", db.exec, db,
        "update kinds set j = ?", moonbase.json { n = 7 })
    end)

    it("are an error when encoding gives no text", function()
      local x = db:with{ json = { encode = function() return nil end, decode = print } }
      expect.raised("UsageError", "parameter 1 was not turned into a string", x.exec, x,
        "update kinds set j = ?", moonbase.json {})
    end)

    it("raise what encoding and decoding raise", function()
      local mistake = {}
      local function fail() error(mistake) end
      local x = db:with{ json = { encode = fail, decode = fail } }
      local _, err = pcall(x.exec, x, "update kinds set j = ?", moonbase.json {})
      assert.equal(mistake, err)
      for _, name in ipairs { "query_value", "query_row", "query_all", "query_column",
        "query_values" } do
        _, err = pcall(x[name], x, "select j from kinds where i = 1")
        assert.equal(mistake, err)
      end
      local rows = x:query "select j from kinds where i = 1"
      _, err = pcall(rows.next, rows)
      assert.equal(mistake, err)
      assert.equal(2, x:query_value "select count(*) from kinds")
    end)

    it("are given to the function of their type", function()
      local x = db:with{ types = {
        [quirks.text_type] = function(text) return "<" .. text .. ">" end } }
      assert.equal("<a>", x:query_value "select t from kinds where i = 1")
      assert.is_nil(x:query_value "select t from kinds where i = 2")
      assert.same({ "<a>", moonbase.null }, x:query_column "select t from kinds order by i")
      assert.equal(1, x:query_value "select i from kinds where t = 'a'")
      assert.equal("a", db:query_value "select t from kinds where i = 1")
    end)

    it("may be converted by an object that can be called", function()
      local convert = setmetatable({}, { __call = function(_, text) return #text end })
      local x = db:with{ types = { [quirks.text_type] = convert } }
      assert.equal(1, x:query_value "select t from kinds where i = 1")
    end)
  end)
end
