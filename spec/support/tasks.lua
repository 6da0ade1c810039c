-- Runs specs as busted does, each case in a task of an event loop:
--
--   MB_SCHEDULER=cqueues lua spec/support/tasks.lua SPEC …
--
-- What waits for a database there lets the loop run, and nothing else is different for the
-- specs: they are those of a program that blocks.
local loops = require "spec.support.loops"

local name = os.getenv "MB_SCHEDULER"
local loop = loops[name]
if not loop then
  io.stderr:write(("this Lua has no loop %s\n"):format(tostring(name)))
  os.exit(1)
end

-- A case with what goes before and after it.
local function in_task(execute)
  return function(element)
    -- Each file of specs has modules of its own.  Cqueues is found without being asked for.
    require("moonbase").scheduler.default(name == "cqueues" and "auto" or name)
    loop.run(function() execute(element) end)
  end
end

local make = require "busted.core"
package.loaded["busted.core"] = function()
  local busted = make()
  local register = busted.register
  function busted.register(descriptor, executor, attributes)
    if descriptor == "it" then executor = in_task(executor) end
    return register(descriptor, executor, attributes)
  end
  return busted
end

require "busted.runner" { standalone = false }
