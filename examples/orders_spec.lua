-- How a program that uses Moonbase is tested: a sandbox for each test, and faults for what
-- hardly ever happens.
--
--   busted examples/orders_spec.lua
--
-- The program is the shop below; in a real one it is a module of its own.
local commands = require "moonbase.commands"
local moonbase = require "moonbase"
local testing = require "moonbase.testing"

-- --- The program -------------------------------------------------------------------

local shop = {}

shop.schema = [[
create table if not exists shop_stock (
  article varchar(40) not null primary key,
  pieces integer not null
);
create table if not exists shop_order (
  number integer not null primary key,
  article varchar(40) not null,
  pieces integer not null
);
]]

--- Takes an order, once, however often it is sent.  Gives the pieces that are left, or nil and
--- why it was not taken.
function shop.order(db, order)
  local executor = commands.executor(db, { retry = { attempts = 3 } })
  local results, reason = executor:execute({ function(tx)
    local left = tx:query_value("select pieces from shop_stock where article = ?", order.article)
    if not left or left < order.pieces then return nil, "sold out" end
    tx:exec("insert into shop_order (number, article, pieces) values (?, ?, ?)", order.number,
      order.article, order.pieces)
    tx:exec("update shop_stock set pieces = ? where article = ?", left - order.pieces,
      order.article)
    return left - order.pieces
  end }, { key = "order " .. order.number })
  if not results then return nil, reason end
  return results[1]
end

--- The answer of a web page: its status and its text.
function shop.page(db, order)
  local ok, left, reason = moonbase.pcall(shop.order, db, order)
  if not ok then return 503, "try again: nothing is ordered twice" end
  if not left then return 409, reason end
  return 200, left .. " are left"
end

-- --- Its tests ---------------------------------------------------------------------

local folder = os.tmpname()
os.remove(folder)
local url = os.getenv "SHOP_URL" or "fault+sqlite:" .. folder .. ".db"

describe("The shop", function()
  local real, db, fault

  setup(function()
    real = moonbase.open(url)
    real:exec_script(shop.schema)
    fault = testing.fault(real)
  end)

  teardown(function()
    real:close()
    os.remove(folder .. ".db")
  end)

  before_each(function()
    db = testing.sandbox(real)
    db:bulk_insert("shop_stock", { "article", "pieces" }, { { "chair", 4 }, { "table", 1 } })
  end)

  after_each(function()
    fault:clear()
    db:close()
  end)

  it("sells what there is", function()
    assert.equal(2, shop.order(db, { number = 1, article = "chair", pieces = 2 }))
    assert.equal(1, db:query_value "select count(*) from shop_order")
  end)

  it("starts each test with the same stock", function()
    assert.equal(4, db:query_value "select pieces from shop_stock where article = 'chair'")
    assert.equal(0, db:query_value "select count(*) from shop_order")
  end)

  it("does not sell what there is not", function()
    assert.same({ 409, "sold out" },
      { shop.page(db, { number = 1, article = "table", pieces = 2 }) })
    assert.equal(0, db:query_value "select count(*) from shop_order")
  end)

  it("takes an order once that is sent twice", function()
    for _ = 1, 2 do
      assert.equal(3, shop.order(db, { number = 7, article = "chair", pieces = 1 }))
    end
    assert.equal(3, db:query_value "select pieces from shop_stock where article = 'chair'")
  end)

  it("tries again when another transaction was in the way", function()
    fault:at("execute", { sql = "update shop_stock", fail = "SerializationError", retryable = true,
      times = 2 })
    assert.equal(3, shop.order(db, { number = 1, article = "chair", pieces = 1 }))
    assert.equal(1, db:query_value "select count(*) from shop_order")
  end)

  -- What COMMIT does is tried on the database itself, which is cleaned afterwards.
  describe("whose database fails", function()
    before_each(function()
      db:close()
      db = real
      db:bulk_insert("shop_stock", { "article", "pieces" }, { { "chair", 4 } })
    end)

    after_each(function()
      fault:clear()
      for _, name in ipairs { "shop_order", "shop_stock", "moonbase_command_keys" } do
        real:exec("delete from " .. name)
      end
      db = testing.sandbox(real)
    end)

    it("has taken an order though the answer to COMMIT was lost", function()
      shop.order(db, { number = 1, article = "chair", pieces = 1 })
      fault:at("commit", { lose = true, after = true })
      assert.equal(2, shop.order(db, { number = 2, article = "chair", pieces = 1 }))
      assert.equal(2, db:query_value "select count(*) from shop_order")
    end)

    it("says so while the server is away, and goes on when it is back", function()
      fault:at("connect", { fail = "ConnectivityError", times = math.huge })
      fault:lose()
      assert.equal(503, (shop.page(db, { number = 1, article = "chair", pieces = 1 })))
      fault:clear()
      assert.equal(200, (shop.page(db, { number = 1, article = "chair", pieces = 1 })))
    end)
  end)
end)
