-- What db:capability() says, and that it is true of the connected database.
local expect = require "spec.support.expect"
local language = require "spec.support.language"

-- The fields of doc/drivers.md, with their types.
local fields = {
  boolean = { "sql", "returning", "upsert", "select_for_update", "savepoints",
    "read_only_transactions", "deferrable_transactions", "transactional_ddl", "auto_increment",
    "multiple_open_rows", "pipeline", "non_blocking", "nulls_first", "scan",
    "backward_pagination", "json", "jsonb", "uuid", "timestamp", "date", "time", "decimal",
    "enum", "array", "varchar" },
  string = { "driver", "database", "server_version", "library_version", "placeholder",
    "bulk_insert", "insert_skip" },
  number = { "max_parameters", "statement_cache" },
  table = { "isolation_levels", "transaction_modes", "parameter_types", "result_types",
    "storage_types", "schema_mutations" },
}

for _, database in ipairs(require "spec.support.databases") do
  describe("The capability of " .. database.name, function()
    local db, can

    before_each(function()
      db = database:open()
      database:create(db, "item (id :id, name :word unique)")
      can = db:capability()
    end)

    after_each(function() database:clean() end)

    -- Whether a statement works, undone.
    local function works(text, ...)
      local tx = db:begin()
      local ok = pcall(tx.exec, tx, text, ...)
      tx:rollback()
      return ok
    end

    -- Whether a definition works, undone by another one where its transaction does not do it.
    local function defines(text, undo)
      if can.transactional_ddl then return works(text) end
      local ok = pcall(db.exec, db, text)
      if ok then db:exec(undo) end
      return ok
    end

    it("has every field, of its type", function()
      for wanted, names in pairs(fields) do
        for _, name in ipairs(names) do assert.equal(wanted, type(can[name]), name) end
      end
    end)

    it("is the same from every object", function()
      local conn = db:connect()
      assert.equal(can.server_version, conn:capability().server_version)
      conn:transaction(function(tx)
        assert.equal(can.max_parameters, tx:capability().max_parameters)
      end)
      conn:close()
    end)

    it("can be gone through", function()
      local n = 0
      for _, level in ipairs(can.isolation_levels) do
        assert.is_string(level)
        n = n + 1
      end
      assert.is_true(n > 0)
      n = 0
      for _ in pairs(can) do n = n + 1 end
      assert.is_true(n > 30)
    end)

    if language.integers then -- elsewhere it is the caller's own, for what pairs can do there
      it("cannot be changed", function()
        expect.raised("UsageError", "cannot be changed", function() can.sql = false end)
        expect.raised("UsageError", "cannot be changed", function()
          can.isolation_levels[1] = "none"
        end)
        assert.equal("moonbase.Capability", getmetatable(can))
      end)
    end

    it("changed or not, leaves the next one as it was", function()
      pcall(function() can.sql = "changed" end)
      assert.is_true(db:capability().sql)
    end)

    it("tells whether rows come back from a write", function()
      assert.equal(can.returning, works "insert into item (name) values ('a') returning id")
    end)

    it("tells whether an insert can become an update", function()
      db:exec "insert into item (name) values ('a')"
      assert.equal(can.upsert, works("insert into item (name) values ('a') "
        .. database.quirks.sql.upsert))
    end)

    it("tells whether rows can be locked by a select", function()
      assert.equal(can.select_for_update, works "select * from item for update")
    end)

    it("tells whether transactions nest", function()
      assert.equal(can.savepoints, (pcall(db.transaction, db, function(tx)
        tx:transaction(function() end)
      end)))
    end)

    it("tells whether a transaction can be made to only read", function()
      assert.equal(can.read_only_transactions,
        (pcall(db.transaction, db, function() end, { read_only = true })))
    end)

    it("tells whether definitions are undone with their transaction", function()
      local tx = db:begin()
      tx:exec "create table child (i integer)"
      tx:rollback()
      assert.equal(can.transactional_ddl, not pcall(db.query, db, "select * from child"))
    end)

    it("tells whether NULLs sort first", function()
      db:exec "insert into item (name) values ('a'), (null)"
      assert.equal(can.nulls_first,
        db:query_value "select name from item order by name" == nil)
    end)

    it("tells how many parameters a statement may have", function()
      local places = {}
      for i = 1, can.max_parameters do places[i] = "?" end
      local moonbase = require "moonbase"
      local function try(n)
        local text = "select 1 where 1 in (" .. table.concat(places, ",", 1, n) .. ")"
        local list = {}
        for i = 1, n do list[i] = 1 end
        return pcall(db.query_value, db, text, moonbase.params(list))
      end
      assert.is_true(try(can.max_parameters))
      places[#places + 1] = "?"
      assert.is_false(try(can.max_parameters + 1))
    end)

    it("tells a column type for every logical type, which the database takes", function()
      for logical, storage in pairs(can.storage_types) do
        assert.is_string(storage, logical)
        assert.is_true(defines("create table kinds (c " .. storage .. ")", "drop table kinds"),
          logical)
      end
    end)

    it("tells which columns can be changed", function()
      local may = can.schema_mutations
      assert.equal(may.rename_column, defines("alter table item rename column name to other",
        "alter table item rename column other to name"))
      -- Of every kind: SQLite adds a CHECK from 3.53 on, and no other.
      assert.equal(may.add_constraint,
        defines("alter table item add constraint c check (name <> '')",
          "alter table item drop constraint c")
        and defines("alter table item add constraint u unique (id)",
          "alter table item drop constraint u"))
      db:exec "create table child (a integer, b integer)"
      assert.equal(may.drop_column, defines("alter table child drop column b",
        "alter table child add column b integer"))
    end)

    it("tells of the versions that are running", function()
      assert.match("%d+%.%d+", can.server_version)
      assert.match("%d+%.%d+", can.library_version)
    end)
  end)
end
