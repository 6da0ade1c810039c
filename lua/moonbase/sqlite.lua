--- What only SQLite has.
---@module moonbase.sqlite

local core = require "moonbase.core"
local errors = require "moonbase.errors"

local sqlite = {}

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
  if type(path) ~= "string" or path == "" or path:find("\0", 1, true) then
    errors.usage "backup wants the path of a file"
  end
  for name in pairs(given) do
    if name ~= "progress" and name ~= "pages" then
      errors.usage("%s is no option of backup%s", tostring(name),
        require "moonbase.suggest"(name, { progress = true, pages = true }))
    end
  end
  local pages = 0
  core.command(x, "backup", path, given.pages):each(function(step)
    pages = step.total
    if given.progress then given.progress(step.total - step.remaining, step.total) end
  end)
  return pages
end

local Reader = { __name = "moonbase.BlobReader" }
Reader.__index = Reader

local default_size = 65536
local largest_size = 2147483647

local function read_at(reader, offset, size)
  local place = reader.place
  return core.command(reader.session, "blob_read", place.schema, place.table, place.column,
    place.rowid, offset, size):one()
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
  reader.size = read_at(reader, 0, 0).size
  return reader
end

--- The next bytes, at most size of them; nil at the end.
---@param size? integer 65536 by default
---@return string?
function Reader:read(size)
  size = size or default_size
  if type(size) ~= "number" or size < 1 or size > largest_size or size ~= math.floor(size) then
    errors.usage "read wants a number of bytes of at least 1"
  end
  if self.at >= self.size then return nil end
  local part = read_at(self, self.at, size).bytes
  self.at = self.at + #part
  return part
end

--- Goes on reading behind offset bytes.
---@param offset integer
function Reader:seek(offset)
  if type(offset) ~= "number" or offset < 0 or offset ~= math.floor(offset) then
    errors.usage "seek wants a number of bytes of at least 0"
  end
  self.at = offset
end

return sqlite
