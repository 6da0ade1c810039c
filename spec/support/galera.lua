--- A Galera cluster of three nodes, as examples/cluster.sh starts it.
local guarded = require "spec.support.guarded"
local shell = require "spec.support.shell"
local now = require "moonbase.core".now

local galera = {}

local Cluster = {}
Cluster.__index = Cluster

local function hear_node(cluster)
  local line = assert(cluster.output:read "*l", "the cluster did not start")
  local number, pid, port, socket = line:match "^node (%d) (%d+) (%d+) (%S+)$"
  assert(number, line)
  cluster.nodes[tonumber(number)] = { pid = tonumber(pid), port = tonumber(port), socket = socket }
end

--- Starts one; close it.
function galera.start()
  local guard = guarded.folder()
  local input = guard.path .. "/input"
  shell.must("mkfifo " .. shell.quote(input))
  local cluster = setmetatable({ guard = guard, nodes = {} }, Cluster)
  local command = ("exec env -u LD_PRELOAD examples/cluster.sh %s 2>&1 <%s"):format(
    shell.quote(guard.path), shell.quote(input))
  cluster.output = assert(io.popen(command, "r"))
  cluster.input = assert(io.open(input, "w"))
  local ok, err = pcall(function()
    for _ = 1, 3 do hear_node(cluster) end
    cluster.all = assert(cluster.output:read "*l":match "^url (mysql://%S+)$")
  end)
  if not ok then
    cluster:close()
    error(err, 0)
  end
  return cluster
end

--- The URL of all nodes, or of those that are named in their order.
function Cluster:url(...)
  if select("#", ...) == 0 then return self.all end
  local hosts = {}
  for i, number in ipairs { ... } do hosts[i] = "127.0.0.1:" .. self.nodes[number].port end
  return "mysql://app@" .. table.concat(hosts, ",") .. "/app"
end

--- Kills a node, as a crash does.
function Cluster:kill(number)
  shell.must("kill -KILL " .. self.nodes[number].pid)
end

--- Starts a node that was killed, and waits until it takes part again.
function Cluster:start(number)
  self.input:write("start ", number, "\n")
  self.input:flush()
  hear_node(self)
end

--- Runs SQL on a node by the command-line client as root.
function Cluster:sql(number, text)
  return shell.must(("mariadb --no-defaults -u root -S %s -N -B -e %s"):format(
    shell.quote(self.nodes[number].socket), shell.quote(text)))
end

--- Cuts a node off from the others, or connects it again; waits until it has noticed.
function Cluster:isolate(number, is_cut)
  self:sql(number, ("set global wsrep_provider_options = 'gmcast.isolate=%d'"):format(
    is_cut and 1 or 0))
  local state, start = is_cut and "OFF" or "ON", now()
  repeat
    assert(now() - start < 60, "the node did not notice")
  until self:sql(number, "show status like 'wsrep_ready'"):find(state, 1, true)
end

--- Ends it and removes all of it.
function Cluster:close()
  if not self.input then return end
  self.input:close()
  self.output:read "*a"
  self.output:close()
  self.input = nil
  self.guard.close()
end

return galera
