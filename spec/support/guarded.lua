--- Folders with servers in them, which end with the Lua that made them, however that
--- ends (spec/support/guard.sh).
local shell = require "spec.support.shell"

local guarded = {}

--- A new folder.  Servers whose numbers are in its NAME.pid or */postmaster.pid are
--- stopped, and it is removed, when close is called or this Lua ends.
function guarded.folder()
  local path = shell.must "mktemp -d \"${TMPDIR:-/tmp}/moonbase.XXXXXX\"":match "^[^\n]+"
  shell.must("chmod 755 " .. shell.quote(path))
  local guard = assert(io.popen("exec env -u LD_PRELOAD sh spec/support/guard.sh "
    .. shell.quote(path), "w"))
  local folder = { path = path }
  function folder.close()
    if guard then guard:close() end
    guard = nil
  end
  return folder
end

return guarded
