--- A network between a program and a server that can be made to fail
--- (spec/support/proxy.c).
local guarded = require "spec.support.guarded"
local registry = require "spec.support.registry"
local shell = require "spec.support.shell"

local proxy = {}

local Proxy = {}
Proxy.__index = Proxy

-- The program, compiled once a run.
local function program()
  return registry("proxy", function()
    local folder = guarded.folder()
    return { folder = folder, path = shell.compile("proxy", folder.path .. "/proxy") }
  end).path
end

--- Starts one before a port of this machine, or a unix socket.  where: "any" has it listen
--- on all addresses of this machine.
function proxy.start(target, where)
  local folder = guarded.folder()
  local input = folder.path .. "/input"
  shell.must("mkfifo " .. shell.quote(input))
  local running = setmetatable({ folder = folder }, Proxy)
  running.output = assert(io.popen(("exec env -u LD_PRELOAD %s %s %s <%s"):format(
    shell.quote(program()), shell.quote(target), where or "", shell.quote(input)), "r"))
  running.input = assert(io.open(input, "w"))
  running.port = assert(tonumber(running.output:read "*l"))
  return running
end

--- Sends a command, and gives the answer; spec/support/proxy.c lists them.
function Proxy:tell(command)
  self.input:write(command, "\n")
  self.input:flush()
  local answer = self.output:read "*l"
  assert(answer ~= "what?", command)
  return answer
end

function Proxy:close()
  if not self.input then return end
  self.input:close()
  self.output:close()
  self.input = nil
  self.folder.close()
end

return proxy
