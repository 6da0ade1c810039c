-- Large and odd input: it is done, or a typed error, and the connection goes on.
local moonbase = require "moonbase"
local expect = require "spec.support.expect"
local language = require "spec.support.language"

local megabyte = 2 ^ 20

for _, database in ipairs(require "spec.support.databases") do
  describe("Large input on " .. database.name, function()
    local db, conn

    before_each(function()
      db = database:open()
      database:create(db, "item (id :id, name :text, data :blob)")
      conn = db:connect()
    end)

    after_each(function()
      conn = nil
      database:clean()
    end)

    -- A call that succeeds or fails with an error of Moonbase's; conn works afterwards.
    local function settles(fn, ...)
      local ok, err = pcall(fn, ...)
      if not ok then assert.is_true(moonbase.is(err), tostring(err)) end
      assert.equal(1, conn:query_value "select 1")
      assert.is_false(conn:is_closed())
      return ok, err
    end

    it("may be a statement of 10 MB", function()
      local padding = (" "):rep(10 * megabyte)
      assert.equal(7, conn:query_value("select " .. padding .. "7"))
      assert.equal(7, conn:query_value("select /*" .. ("?"):rep(10 * megabyte) .. "*/ 7"))
      local ok, value = settles(conn.query_value, conn,
        "select '" .. ("x"):rep(10 * megabyte) .. "'")
      assert.is_true(not ok or #value == 10 * megabyte)
    end)

    it("may be a wrong statement of 10 MB, whose error stays small", function()
      local ok, err = settles(conn.query, conn, "selekt " .. ("x, "):rep(3 * megabyte))
      assert.is_false(ok)
      assert.is_true(#tostring(err) < 1000)
      ok = settles(conn.query, conn, "select " .. ("("):rep(megabyte) .. "1")
      assert.is_false(ok)
      ok = settles(conn.query, conn, "select '" .. ("x"):rep(10 * megabyte))
      assert.is_false(ok)
    end)

    it("may be a script of 10 MB", function()
      local one = "insert into item (name) values ('" .. ("x"):rep(1000) .. "');\n"
      assert.equal(1000, conn:transaction(function(tx)
        return tx:exec_script(one:rep(1000) .. (" "):rep(9 * megabyte))
      end))
      assert.equal(1000, conn:query_value "select count(*) from item")
    end)

    -- A statement with n parameters, written as place says.
    local function wide(place, n)
      local places = {}
      for i = 1, n do places[i] = place:format(i) end
      return "select 1 where 1 in (" .. table.concat(places, ",") .. ")"
    end

    it("may be 300,000 parameters", function()
      local n = 300000
      local list = {}
      for i = 1, n do list[i] = 1 end
      local text = wide("?", n)
      local ok, value = settles(conn.query_value, conn, text, moonbase.params(list))
      assert.is_true(not ok or value == 1)
      if not ok then assert.are_not.equal("UsageError", value.class) end
      assert.is_false((settles(conn.query_value, conn, text, 1)))
      settles(conn.prepare, conn, text)
    end)

    it("may be thousands of parameters in the other styles, and one that is not used", function()
      local n = 3000
      local list, named = {}, {}
      for i = 1, n do list[i], named["p" .. i] = 1, 1 end
      assert.equal(1, conn:query_value(wide("$%d", n), moonbase.params(list)))
      local text = wide(":p%d", n)
      assert.equal(1, conn:query_value(text, named))
      named.unused = 1
      expect.raised("UsageError", "parameter :unused is given but not used", conn.query_value,
        conn, text, named)
      named.unused, named[1] = nil, 1
      expect.raised("UsageError", "a key that is no string", conn.query_value, conn, text, named)
      assert.equal(1, conn:query_value(moonbase.sql("select 1 where ?", moonbase.sql.is_in(
        moonbase.sql "1", list))))
    end)

    it("may be more values than a statement takes", function()
      expect.raised("UsageError", "has 1 parameter, but 300000 were given", conn.query_value, conn,
        "select ?", moonbase.params({}, 300000))
      local n = language.many_arguments and 300000 or 5000
      expect.raised("UsageError", "has 1 parameter, but " .. n .. " were given",
        function() conn:query_value("select ?", language.unpack({}, 1, n)) end)
    end)

    it("may be text and bytes of 16 MB", function()
      local text, bytes = ("\226\130\172"):rep(5 * megabyte), ("\0\255"):rep(8 * megabyte)
      conn:exec("insert into item (name, data) values (?, ?)", text, moonbase.blob(bytes))
      local name, data = conn:query_values "select name, data from item"
      assert.is_true(name == text and data == bytes)
      assert.is_true(conn:query_row "select data from item".data == bytes)
      for row in conn:query "select data from item" do assert.is_true(row.data == bytes) end
    end)

    it("may be invalid UTF-8: bytes come back as they were sent, or are refused", function()
      for _, text in ipairs { "\255", "a\192\128b", "\237\160\128", "\244\144\128\128", "\226\130",
        ("\128"):rep(100) } do
        local ok, value = settles(conn.query_value, conn, "select ?", text)
        if ok then assert.equal(text, value) else assert.equal("DataError", value.class) end
        settles(conn.query, conn, "select '" .. text .. "'")
        settles(conn.query, conn, "select " .. text)
        settles(conn.query, conn, text)
        settles(conn.query, conn, "select :" .. text, { [text] = 1 })
        settles(conn.prepare, conn, "select ? as \"" .. text .. '"')
        settles(conn.exec_script, conn, "select 1; " .. text .. "; select 2")
        settles(conn.bulk_insert, conn, text, { "id" }, { { 1 } })
        settles(conn.bulk_insert, conn, "item", { text }, { { 1 } })
        local err = expect.raised("UsageError", nil, conn.query_value, conn, "select ?", print)
        assert.is_string(tostring(err))
      end
    end)

    it("may be errors that quote what they were given", function()
      local quote = database.quirks.quote
      for _, name in ipairs { ("n"):rep(megabyte), "\255\254", "a%sb%d%n", "line\nbreak" } do
        local ok, err = settles(conn.query, conn, "select " .. quote .. name .. quote
          .. " from item")
        assert.is_false(ok)
        assert.is_true(#tostring(err) < 2000)
        assert.is_nil(tostring(err):find "\n")
        ok, err = settles(conn.query, conn, "select :a", { [name] = 1 })
        assert.is_false(ok)
        assert.is_true(#tostring(err) < 2000)
      end
    end)

    it("may be a name of every length, in every place", function()
      for _, size in ipairs { 1, 63, 64, 255, 256, 100000 } do
        local name = ("n"):rep(size)
        settles(conn.query_value, conn, moonbase.sql("select 1 as ?",
          moonbase.sql.identifier(name)))
        assert.equal("x", conn:query_value("select :" .. name, { [name] = "x" }))
      end
    end)

    it("may be many open rows of one connection", function()
      local series = database.quirks.sql.series
      local all = {}
      for i = 1, 500 do
        all[i] = conn:query(series, 100)
        assert.equal(1, all[i]:next().i)
      end
      for i = 500, 1, -1 do assert.equal(99, #all[i]:all()) end
    end)

    it("may be many different statements, prepared and by text", function()
      local statements = {}
      for i = 1, 1000 do
        statements[i] = conn:prepare("select ? + " .. i)
        assert.equal(i + 1, conn:query_value("select " .. i .. " + ?", 1))
      end
      for i = 1000, 1, -1 do assert.equal(i + 5, statements[i]:query_value(5)) end
      for i = 1, 1000 do statements[i]:close() end
      assert.equal(1, conn:query_value "select 1")
    end)
  end)
end
