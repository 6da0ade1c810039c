--- Extensions of SQLite's that specs compile for themselves.
local lfs = require "lfs"
local files = require "spec.support.files"

local extension = {}

--- Compiles spec/support/NAME.c into a folder of the case, and gives the path of what
--- SQLite loads.
function extension.compile(name)
  local path = files.path(name .. ".so")
  -- The compiler is not what a sanitizer that is loaded before all is to look at.
  local command = ("env -u LD_PRELOAD cc -shared -fPIC -o '%s' '%s/spec/support/%s.c' 2>&1"):format(
    path, lfs.currentdir(), name)
  local pipe = assert(io.popen(command))
  local output = pipe:read "*a"
  pipe:close()
  assert(files.exists(path), output)
  return path
end

return extension
