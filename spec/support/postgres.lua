--- Real PostgreSQL servers.
---
--- postgres.shared() is one for a whole run; postgres.start() one of the case's own, which
--- it may stop or kill.  PG_BIN names the folder of another version's programs.  A server
--- listens on a unix socket in its folder and on a loopback port, and runs as user
--- postgres when the specs run as root.
local lfs = require "lfs"
local moonbase = require "moonbase"
local files = require "spec.support.files"
local guarded = require "spec.support.guarded"
local registry = require "spec.support.registry"
local shell = require "spec.support.shell"

local postgres = {}

local quote = shell.quote

-- Who may come how.  The unix socket lets everybody in; over TCP a role has a password, and
-- "certified" a certificate.
local access = [[
local all,replication all trust
hostssl all certified all cert
hostnossl all certified all reject
hostssl all encrypted all scram-sha-256
hostnossl all encrypted all reject
host all all all scram-sha-256
]]

-- Nothing here has to survive a power failure: a server that is killed loses nothing
-- without fsync either.
local settings = [[
fsync = off
full_page_writes = off
max_connections = 100
shared_buffers = 32MB
max_wal_size = 4GB
autovacuum = off
deadlock_timeout = 50ms
jit = off
logging_collector = off
log_min_messages = warning
timezone = 'Europe/Berlin'
ssl = on
ssl_cert_file = 'server.crt'
ssl_key_file = 'server.key'
ssl_ca_file = 'root.crt'
]]

--- The password of the roles moonbase, certified and encrypted.
postgres.password = "p\195\164ss w%rd:@/?#"

local is_root = shell.must "id -u" == "0\n"

-- A command as the user that servers run as, with nothing of our environment.
local function as_server(command)
  return (is_root and "setpriv --reuid postgres --regid postgres --init-groups " or "")
    .. 'env -i LC_ALL=C TZ=UTC PATH="$PATH" ' .. command
end

local function find_programs()
  local given = os.getenv "PG_BIN"
  if given and given ~= "" then return given end
  local newest = shell.run "ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1"
  local path = newest:match "^/[^\n]+" or shell.run "dirname \"$(command -v postgres)\""
  return (path:gsub("\n", ""))
end

-- An authority, a certificate for the server (localhost and 127.0.0.1) and one for the role
-- certified; and an authority that nobody trusts.
local function make_certificates(folder)
  files.write(folder .. "/server.ext", "subjectAltName = DNS:localhost, IP:127.0.0.1\n")
  files.write(folder .. "/certified.ext", "")
  shell.must(([[
    cd %s || exit 1
    umask 077
    new() { openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes "$@"; }
    for authority in root other; do
      new -x509 -days 2 -subj "/CN=$authority" -keyout $authority.key -out $authority.crt || exit 1
    done
    for name in server certified; do
      new -subj "/CN=$name" -keyout $name.key -out $name.csr &&
        openssl x509 -req -days 2 -in $name.csr -CA root.crt -CAkey root.key -CAcreateserial \
          -extfile $name.ext -out $name.crt || exit 1
    done
    chmod 644 *.crt]]):format(quote(folder)))
end

local Server = {}
Server.__index = Server

-- A server that has not been started: an empty cluster.
local function new()
  local guard = guarded.folder()
  local server = setmetatable({ guard = guard, folder = guard.path, data = guard.path .. "/data",
    programs = find_programs() }, Server)
  server.port = 20000 + tonumber((shell.must "echo $$")) % 12000
  return server
end

local function hand_over(server)
  if is_root then shell.must("chown postgres: " .. quote(server.folder)) end
end

function Server:program(name)
  return quote(self.programs .. "/" .. name)
end

-- Runs one of PostgreSQL's programs as the server's user.
function Server:run(name, arguments)
  return shell.run("cd / && " .. as_server(self:program(name) .. " " .. arguments))
end

function Server:log()
  return files.exists(self.folder .. "/log") and files.read(self.folder .. "/log") or ""
end

local function fail(server, what, output)
  error(("PostgreSQL (%s) %s\n%s\n%s"):format(server.programs, what, output,
    server:log():sub(-2000)), 0)
end

-- Whether a process is there; one that has ended stays in the table for a while where
-- nobody asks for it.
local function runs(pid)
  local file = io.open("/proc/" .. pid .. "/stat")
  if not file then return false end
  local state = (file:read "*a" or ""):match "^%d+ %b() (%a)"
  file:close()
  return state ~= nil and state ~= "Z"
end

--- Starts it, and waits until it takes connections.
function Server:start()
  for _ = 1, 20 do
    local output, status = self:run("pg_ctl", ("start -w -t 60 -D %s -l %s -o %s"):format(
      quote(self.data), quote(self.folder .. "/log"),
      quote(("-p %d -h 127.0.0.1 -k %s"):format(self.port, self.folder))))
    if status == 0 then return self end
    -- What a killed server has left lives on for a moment; a port may be taken.
    local log = self:log()
    if log:find("Address already in use", 1, true) then
      self.port = self.port + 1
    elseif not log:find("is still in use", 1, true) then
      fail(self, "did not start", output)
    end
    os.remove(self.folder .. "/log")
    shell.must "sleep 0.1"
  end
  fail(self, "did not start", "")
end

--- Starts it where a case has left it dead.
function Server:revive()
  if not files.exists(self.data .. "/postmaster.pid") or not runs(self:pid()) then self:start() end
end

--- Stops it: "smart" waits for all clients, "fast" ends their sessions, "immediate" is as a
--- crash.
function Server:stop(mode)
  local output, status = self:run("pg_ctl", ("stop -w -D %s -m %s"):format(quote(self.data),
    mode or "fast"))
  if status ~= 0 then fail(self, "did not stop", output) end
end

function Server:restart(mode)
  self:stop(mode)
  return self:start()
end

--- The number of the main process.
function Server:pid()
  return tonumber((files.read(self.data .. "/postmaster.pid"):match "^%d+"))
end

--- Sends a signal to a process: to the main one, or to the one of a session.
function Server:signal(name, pid)
  shell.must(("kill -%s %d"):format(name, pid or self:pid()))
end

-- The numbers of its processes, the main one first.
function Server:processes()
  local main = self:pid()
  local list = { main }
  for name in lfs.dir "/proc" do
    local file = name:find "^%d+$" and io.open("/proc/" .. name .. "/stat")
    if file then
      if tonumber((file:read "*a" or ""):match "^%d+ %b() %a (%d+)") == main then
        list[#list + 1] = tonumber(name)
      end
      file:close()
    end
  end
  return list
end

--- Kills the main process, and waits for the others, which end by themselves.
function Server:kill()
  local processes = self:processes()
  self:signal("KILL", processes[1])
  for _, pid in ipairs(processes) do
    for _ = 1, 1000 do
      if not runs(pid) then break end
      shell.must "sleep 0.01"
    end
  end
  -- Nobody uses its memory any more; what is in the table would pass for it.
  os.remove(self.data .. "/postmaster.pid")
  os.remove(("%s/.s.PGSQL.%d.lock"):format(self.folder, self.port))
end

--- Stops all its processes in their tracks, and lets them go on.
function Server:freeze()
  self.frozen = table.concat(self:processes(), " ")
  shell.must("kill -STOP " .. self.frozen)
end

function Server:thaw()
  shell.run("kill -CONT " .. self.frozen)
  self.frozen = nil
end

--- Runs SQL by psql, and gives what it prints without headings.
function Server:psql(text, database)
  return shell.must(("%s -X -q -A -t -v ON_ERROR_STOP=1 -h %s -p %d -U postgres -d %s -c %s")
    :format(self:program "psql", quote(self.folder), self.port, quote(database or "postgres"),
      quote(text)))
end

local function encoded(text)
  return (text:gsub("[^%w_.~-]", function(byte) return ("%%%02X"):format(byte:byte()) end))
end

-- What follows the database in a URL.
local function query_of(given)
  local list = {}
  for name, value in pairs(given or {}) do
    list[#list + 1] = name .. "=" .. encoded(tostring(value))
  end
  table.sort(list)
  return list[1] and "?" .. table.concat(list, "&") or ""
end

--- A URL by the unix socket; given: parameters.
function Server:url(database, given)
  return ("postgres://moonbase@%s:%d/%s%s"):format(encoded(self.folder), self.port,
    database or "moonbase", query_of(given))
end

-- The handles that empty databases, by server: a session that has done that before is much
-- faster than a new one.
local cleaners = setmetatable({}, { __mode = "k" })

--- Empties its database, and gives a URL by the unix socket.
function Server:fresh(given)
  cleaners[self] = cleaners[self] or moonbase.open(self:url(), { pool = { max = 1 } })
  -- What an earlier case has left open would hold its locks.
  cleaners[self]:exec_script [[
    select pg_terminate_backend(pid) from pg_stat_activity
      where datname = current_database() and pid <> pg_backend_pid();
    set client_min_messages = warning;
    drop schema if exists public cascade;
    create schema public]]
  return self:url(nil, given)
end

--- A URL over TCP.  given: parameters, and user, password, host, port.
function Server:tcp_url(database, given)
  local rest = {}
  for name, value in pairs(given or {}) do rest[name] = value end
  local function take(name, default)
    local value = rest[name]
    rest[name] = nil
    if value == nil then return default end
    return value
  end
  local user, password = take("user", "moonbase"), take("password", postgres.password)
  return ("postgres://%s%s@%s:%d/%s%s"):format(user, password and ":" .. encoded(password) or "",
    take("host", "127.0.0.1"), take("port", self.port), database or "moonbase", query_of(rest))
end

--- The path of a file of its TLS: root.crt, other.crt, certified.crt, certified.key.
function Server:tls(name)
  return self.folder .. "/tls/" .. name
end

--- A standby that follows this server by streaming; close it.
function Server:standby()
  local standby = new()
  hand_over(standby)
  local output, status = standby:run("pg_basebackup",
    ("-N -D %s -h %s -p %d -U postgres -R -c fast"):format(quote(standby.data),
      quote(self.folder), self.port))
  if status ~= 0 then fail(self, "gave no copy", output) end
  return standby:start()
end

--- Makes a standby a server that writes.
function Server:promote()
  local output, status = self:run("pg_ctl", "promote -w -D " .. quote(self.data))
  if status ~= 0 then fail(self, "was not promoted", output) end
end

--- Ends it and removes all of it.
function Server:close()
  if cleaners[self] then cleaners[self]:close() end
  if self.frozen then self:thaw() end
  self.guard.close()
end

local function initialize(server)
  hand_over(server)
  local output, status = server:run("initdb", ("-N -D %s -U postgres -A trust -E UTF8 --locale=C")
    :format(quote(server.data)))
  if status ~= 0 then fail(server, "was not initialized", output) end
  shell.must("mkdir " .. quote(server.folder .. "/tls"))
  make_certificates(server.folder .. "/tls")
  shell.must(("cd %s && cp server.crt server.key root.crt ../data/%s"):format(
    quote(server.folder .. "/tls"), is_root and " && chown postgres: ../data/*.crt ../data/*.key"
      or ""))
  files.write(server.data .. "/pg_hba.conf", access)
  local file = assert(io.open(server.data .. "/postgresql.conf", "a"))
  assert(file:write(settings))
  assert(file:close())
end

-- Roles as applications have them, and their database.
local function populate(server)
  server:psql(([[create role moonbase login password '%s' createdb;
    create role certified login; create role encrypted login password '%s';
    grant pg_signal_backend, pg_monitor to moonbase;]])
    :format(postgres.password, postgres.password))
  server:psql "create database moonbase owner moonbase"
end

--- A server of the case's own; close it.  given: settings, a list of lines for its
--- configuration.
function postgres.start(given)
  local server = new()
  local ok, err = pcall(function()
    initialize(server)
    if given then
      local file = assert(io.open(server.data .. "/postgresql.conf", "a"))
      assert(file:write(table.concat(given, "\n"), "\n"))
      assert(file:close())
    end
    server:start()
    populate(server)
  end)
  if not ok then
    server:close()
    error(err, 0)
  end
  return server
end

--- The server that all specs of a run share.  It is started when the first one asks for it.
function postgres.shared()
  -- The functions are those of the file of specs that asks.
  return setmetatable(registry("postgres", postgres.start), Server)
end

return postgres
