--- Files of a case: a folder of its own, removed at its end.
local lfs = require "lfs"

local files = {}

local made = {}

local function remove(path)
  if lfs.symlinkattributes(path, "mode") == "directory" then
    for name in lfs.dir(path) do
      if name ~= "." and name ~= ".." then remove(path .. "/" .. name) end
    end
    lfs.rmdir(path)
  else
    os.remove(path)
  end
end

--- A new empty folder.
function files.folder()
  local unique = os.tmpname()
  local path = unique .. ".moonbase"
  assert(lfs.mkdir(path))
  os.remove(unique)
  made[#made + 1] = path
  return path
end

--- The path of a file in a new folder; the file does not exist.
function files.path(name)
  return files.folder() .. "/" .. name
end

--- Removes every folder that was made since the last time.
function files.clean()
  for i = #made, 1, -1 do
    remove(made[i])
    made[i] = nil
  end
end

function files.exists(path)
  return lfs.attributes(path, "mode") ~= nil
end

function files.size(path)
  return lfs.attributes(path, "size")
end

function files.read(path)
  local file = assert(io.open(path, "rb"))
  local bytes = file:read "*a"
  file:close()
  return bytes
end

function files.write(path, bytes)
  local file = assert(io.open(path, "wb"))
  assert(file:write(bytes))
  assert(file:close())
  return path
end

return files
