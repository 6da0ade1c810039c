--- What only SQLite has.
---@module moonbase.sqlite

local core = require "moonbase.core"
local errors = require "moonbase.errors"
local suggest = require "moonbase.suggest"

local sqlite = {}

local largest_number = 2147483647
local default_pages = 256

-- A whole number from 1 on that C can count to.
local function is_count(value)
  return type(value) == "number" and value >= 1 and value <= largest_number
    and value == math.floor(value)
end

local function check_backup(path, given)
  if type(path) ~= "string" or path == "" or path:find("\0", 1, true) then
    errors.usage "backup wants the path of a file"
  end
  if type(given) ~= "table" then
    errors.usage("backup wants a table of options, and got a %s", type(given))
  end
  for name in pairs(given) do
    if name ~= "progress" and name ~= "pages" then
      errors.usage("%s is no option of backup%s", tostring(name),
        suggest(name, { progress = true, pages = true }))
    end
  end
  if given.progress ~= nil and type(given.progress) ~= "function" then
    errors.usage("progress wants a function, and got a %s", type(given.progress))
  end
  if given.pages ~= nil and not is_count(given.pages) then
    errors.usage "pages wants a number of pages of at least 1"
  end
end

--- Copies the database to a file while it is in use.
---
--- The copy is that of one moment.  progress(copied, total) is called with pages
--- after each step.  A file that did not exist is removed when the backup fails.
---@param x moonbase.Session
---@param path string
---@param given? { progress: fun(copied: integer, total: integer)?, pages: integer? }
---@return integer pages
function sqlite.backup(x, path, given)
  given = given or {}
  check_backup(path, given)
  local steps, err = core.command(x, "backup", path, math.floor(given.pages or default_pages))
  if not steps then return nil, err end
  local pages = 0
  local _, failure = steps:each(function(step)
    pages = step.total
    if given.progress then given.progress(step.total - step.remaining, step.total) end
  end)
  if failure then return nil, failure end
  return pages
end

local Reader = { __name = "moonbase.BlobReader" }
Reader.__index = Reader

local default_size = 65536

local function read_at(reader, offset, size)
  local place = reader.place
  local part, err = core.command(reader.session, "blob_read", place.schema, place.table,
    place.column, place.rowid, offset, size)
  if not part then return nil, err end
  return part:one()
end

--- Reads a value part by part, so that it need not fit into memory.
---
--- Reading inside a transaction sees one value from beginning to end.
---@param x moonbase.Session
---@param table_name string
---@param column string
---@param rowid integer
---@param schema? string "main" by default
---@return moonbase.BlobReader
function sqlite.blob_reader(x, table_name, column, rowid, schema)
  local reader = setmetatable({ session = x, at = 0,
    place = { schema = schema or "main", table = table_name, column = column, rowid = rowid } },
    Reader)
  local whole, err = read_at(reader, 0, 0)
  if not whole then return nil, err end
  reader.size = whole.size
  return reader
end

--- The next bytes, at most size of them; nil at the end.
---@param size? integer 65536 by default
---@return string?
function Reader:read(size)
  size = size or default_size
  if not is_count(size) then errors.usage "read wants a number of bytes of at least 1" end
  if self.at >= self.size then return nil end
  local part, err = read_at(self, self.at, math.floor(size))
  if not part then return nil, err end
  self.at = self.at + #part.bytes
  return part.bytes
end

--- Goes on reading behind offset bytes.
---@param offset integer
function Reader:seek(offset)
  if type(offset) ~= "number" or offset < 0 or offset ~= math.floor(offset) then
    errors.usage "seek wants a number of bytes of at least 0"
  end
  self.at = math.floor(offset)
end

return sqlite
