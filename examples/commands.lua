-- A warehouse whose parts describe what is to be written, and one executor that writes it:
--
--   lua examples/commands.lua [URL]         sqlite:warehouse.db by default
--
-- Orders come as messages, and some messages come twice.  An order is shipped whole or not
-- at all, and once.  What an earlier run has left is replaced.
local commands = require "moonbase.commands"
local moonbase = require "moonbase"

local schema = [[
drop table if exists warehouse_stock;
drop table if exists warehouse_journal;
drop table if exists warehouse_keys;
create table warehouse_stock (
  article varchar(100) not null primary key,
  pieces integer not null
);
create table warehouse_journal (
  line integer not null primary key,
  content varchar(200) not null
);
]]

-- --- Stores ------------------------------------------------------------------------
-- Each is made for a database, a connection or a transaction, and uses transactions where
-- it needs them: inside a command they become parts of the executor's.

local Stock = {}
Stock.__index = Stock

function Stock.new(x)
  return setmetatable({ x = x }, Stock)
end

function Stock:add(article, pieces)
  self.x:transaction(function(tx)
    if tx:exec("update warehouse_stock set pieces = pieces + ? where article = ?", pieces,
      article) == 0 then
      tx:exec("insert into warehouse_stock (article, pieces) values (?, ?)", article, pieces)
    end
  end)
end

-- Takes pieces away and gives how many are left; or nil and why that is impossible.
function Stock:take(article, pieces)
  return self.x:transaction(function(tx)
    local changed = tx:exec("update warehouse_stock set pieces = pieces - :n "
      .. "where article = :article and pieces >= :n", { n = pieces, article = article })
    if changed == 0 then return nil, ("there are no %d of %s"):format(pieces, article) end
    return tx:query_value("select pieces from warehouse_stock where article = ?", article)
  end)
end

local Journal = {}
Journal.__index = Journal

function Journal.new(x)
  return setmetatable({ x = x }, Journal)
end

function Journal:write(content)
  return self.x:transaction(function(tx)
    local line = tx:query_value "select coalesce(max(line), 0) + 1 from warehouse_journal"
    tx:exec("insert into warehouse_journal (line, content) values (?, ?)", line, content)
    return line
  end)
end

-- The factories that commands are given: they make stores for a transaction.
local stores = { stock = Stock.new, journal = Journal.new }

-- --- Commands ----------------------------------------------------------------------

local Receive = commands.define("Receive", function(self, tx)
  self.stores.stock(tx):add(self.article, self.pieces)
end)

local Ship = commands.define("Ship", function(self, tx)
  return self.stores.stock(tx):take(self.article, self.pieces)
end)

local Note = commands.define("Note", function(self, tx)
  return self.stores.journal(tx):write(self.content)
end)

-- --- Parts of the program that know no database --------------------------------------

-- A delivery as commands.
local function unpack_delivery(delivery)
  local list = {}
  for _, item in ipairs(delivery) do
    list[#list + 1] = Receive { stores = stores, article = item[1], pieces = item[2] }
  end
  return list
end

-- An order as commands: "3 chair, 1 table" means two of them.
local function read_order(message)
  local list = {}
  for pieces, article in message:gmatch "(%d+) (%a+)" do
    list[#list + 1] = Ship { stores = stores, article = article, pieces = tonumber(pieces) }
  end
  return list
end

-- Adds a line for the journal to whatever a list does.
local function note_in(list, content)
  list[#list + 1] = Note { stores = stores, content = content }
  return list
end

-- --- The one that writes -------------------------------------------------------------

local db = moonbase.open(arg[1] or "sqlite:warehouse.db")
db:exec_script(schema)

local executor = commands.executor(db, {
  write_exclusive = true, retry = { attempts = 5 }, key_table = "warehouse_keys",
})

local delivery = { { "chair", 10 }, { "table", 2 }, { "chair", 2 } }
executor:execute(note_in(unpack_delivery(delivery), "a delivery has come"))

local messages = {
  { "A-1", "4 chair, 1 table" },
  { "A-2", "5 chair, 3 table" },
  { "A-1", "4 chair, 1 table" },
  { "A-3", "2 chair" },
}

for _, message in ipairs(messages) do
  local number, text = message[1], message[2]
  local list = note_in(read_order(text), "shipped " .. number)
  local results, reason, position = executor:execute(list, { key = number })
  if results then
    print(("%s  shipped, line %d of the journal"):format(number, results[results.n]))
  else
    print(("%s  not shipped: command %d says %s"):format(number, position, reason))
  end
end

-- A mistake is an error that says where: nothing of its list is left.
local ok, err = moonbase.pcall(executor.execute, executor,
  { Receive { stores = stores, article = "lamp", pieces = 5 }, Receive { stores = stores } })
print(ok, err.class, err.command, err.command_index)

print "\nStock"
for row in db:query "select article, pieces from warehouse_stock order by article" do
  print(("  %-5s %3d"):format(row.article, row.pieces))
end
print "\nJournal"
for row in db:query "select line, content from warehouse_journal order by line" do
  print(("  %d  %s"):format(row.line, row.content))
end
db:close()
