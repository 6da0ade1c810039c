--- Real servers of MariaDB, or of MySQL.
---
--- mysql.shared() is one for a whole run; mysql.start() one of the case's own, which it may
--- stop or kill.  It is MariaDB where that is installed, else MySQL; MYSQL_BIN names the folder
--- of another version's programs.  A server listens on a unix socket in its folder and on a
--- loopback port, and runs as user mysql when the specs run as root.
local moonbase = require "moonbase"
local files = require "spec.support.files"
local guarded = require "spec.support.guarded"
local registry = require "spec.support.registry"
local shell = require "spec.support.shell"

local mysql = {}

local quote = shell.quote

-- Nothing here has to survive a power failure, and what a killed server has written the system
-- still has.  Its own zone and character set are not those of a connection.
local settings = {
  "skip-name-resolve",
  "innodb-buffer-pool-size=64M",
  "innodb-flush-log-at-trx-commit=2",
  "max-connections=200",
  "max-allowed-packet=256M",
  "default-time-zone=+01:00",
  "character-set-server=latin1",
}

-- What only one of the two has.
local mariadb_settings = { "innodb-flush-method=nosync", "debug-no-sync=ON" }
local mysql_settings = { "innodb-flush-method=fsync", "skip-log-bin", "mysqlx=OFF",
  "secure-file-priv=NULL", "innodb-redo-log-capacity=64M" }

--- The password of the users moonbase (over TCP), certified and encrypted.
mysql.password = "p\195\164ss w%rd:@/?#"

local is_root = shell.must "id -u" == "0\n"

-- Where its programs are: before all the folder that was named.
local search = ("PATH=%s\"$PATH\":/usr/local/sbin:/usr/sbin:/sbin"):format(
  (os.getenv "MYSQL_BIN" or "") ~= "" and quote(os.getenv "MYSQL_BIN") .. ":" or "")

-- A command with nothing of our environment.
local function cleanly(command)
  return ("%s; exec env -i LC_ALL=C TZ=UTC PATH=\"$PATH\" %s"):format(search, command)
end

-- The first of several programs that is there.
local function find_program(...)
  for _, name in ipairs { ... } do
    local path = shell.run(search .. "; command -v " .. name):match "^(/[^\n]+)\n"
    if path then return path end
  end
  error("none of these programs is there: " .. table.concat({ ... }, ", "), 0)
end

-- An authority, a certificate for the server (localhost and 127.0.0.1) and one for the user
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

-- The server's program, and what it says of its version.
local function find_server()
  local program = find_program("mariadbd", "mysqld")
  return program, shell.must(cleanly(quote(program) .. " --no-defaults --version"))
end

--- Whether servers are MariaDB's.
function mysql.is_mariadb()
  return select(2, find_server()):find("MariaDB", 1, true) ~= nil
end

local Server = {}
Server.__index = Server

-- A server that has not been started: no data yet.
local function new()
  local guard = guarded.folder()
  local server = setmetatable({ guard = guard, folder = guard.path, data = guard.path .. "/data",
    socket = guard.path .. "/socket", is_mariadb = mysql.is_mariadb() }, Server)
  server.program, server.version = find_server()
  server.client = find_program(server.is_mariadb and "mariadb" or "mysql")
  server.port = 20000 + tonumber((shell.must "echo $$")) % 12000
  return server
end

function Server:log()
  return files.exists(self.folder .. "/log.err") and files.read(self.folder .. "/log.err") or ""
end

local function fail(server, what, output)
  error(("%s %s\n%s\n%s"):format(server.version, what, output, server:log():sub(-3000)), 0)
end

-- Whether a process has ended, and all of its threads, which have its sockets in common.
local function has_ended(pid)
  local file = io.open("/proc/" .. pid .. "/stat")
  if not file then return true end
  local state = (file:read "*a" or ""):match "^%d+ %b() (%a)"
  file:close()
  if state == nil then return true end
  -- One that has ended stays in the table for a while where nobody asks for it.
  local threads = shell.run("ls /proc/" .. pid .. "/task 2>/dev/null | wc -l")
  return state == "Z" and tonumber(threads) <= 1
end

local function words_of(list)
  local words = {}
  for i, word in ipairs(list) do words[i] = quote("--" .. word) end
  return table.concat(words, " ")
end

-- The options that every start has.
local function options_of(server)
  local tls = server.folder .. "/tls/"
  local list = { "no-defaults", "datadir=" .. server.data, "socket=" .. server.socket,
    "port=" .. server.port, "bind-address=127.0.0.1", "pid-file=" .. server.folder .. "/server.pid",
    "log-error=" .. server.folder .. "/log.err", "ssl-ca=" .. tls .. "root.crt",
    "ssl-cert=" .. server.folder .. "/data.crt", "ssl-key=" .. server.folder .. "/data.key" }
  if is_root then list[#list + 1] = "user=mysql" end
  for _, more in ipairs { settings, server.is_mariadb and mariadb_settings or mysql_settings,
    server.given or {} } do
    for _, one in ipairs(more) do list[#list + 1] = one end
  end
  return words_of(list)
end

-- Waits until it has ended, and removes what it may have left.
local function wait_for_end(server, pid)
  for _ = 1, 6000 do
    if has_ended(pid) then
      os.remove(server.folder .. "/server.pid")
      os.remove(server.socket)
      return
    end
    shell.must "sleep 0.01"
  end
  fail(server, "did not stop", "")
end

--- Starts it, and waits until it takes connections.  after: "kill" when something else has
--- killed it.
function Server:start(after)
  if after == "kill" then wait_for_end(self, self:pid()) end
  for _ = 1, 20 do
    local pid = shell.must(("( %s %s ) >/dev/null 2>>%s </dev/null & echo $!"):format(
      cleanly(quote(self.program)), options_of(self), quote(self.folder .. "/output"))):match "%d+"
    for _ = 1, 3000 do
      if has_ended(pid) then break end
      if files.exists(self.folder .. "/server.pid") and files.exists(self.socket)
        and select(2, self:run "select 1") == 0 then
        return self
      end
      shell.must "sleep 0.02"
    end
    -- A port may be taken.
    if not self:log():find("Address already in use", 1, true) then
      fail(self, "did not start", "")
    end
    self.port = self.port + 1
    os.remove(self.folder .. "/log.err")
  end
  fail(self, "did not start", "")
end

--- Starts it where a case has left it dead.
function Server:revive()
  if not files.exists(self.folder .. "/server.pid") or has_ended(self:pid()) then
    if files.exists(self.folder .. "/server.pid") then wait_for_end(self, self:pid()) end
    self:start()
  end
end

--- Stops it in good order.
function Server:stop()
  local pid = self:pid()
  self:signal "TERM"
  wait_for_end(self, pid)
end

--- Kills it, as a crash does.
function Server:kill()
  local pid = self:pid()
  self:signal "KILL"
  wait_for_end(self, pid)
end

--- Stops it, or kills it (how: "kill"), and starts it anew.
function Server:restart(how)
  if how == "kill" then self:kill() else self:stop() end
  return self:start()
end

--- The number of its process.
function Server:pid()
  return tonumber((files.read(self.folder .. "/server.pid"):match "^%d+"))
end

--- Sends a signal to its process.
function Server:signal(name)
  shell.must(("kill -%s %d"):format(name, self:pid()))
end

--- Stops it in its tracks, and lets it go on.
function Server:freeze()
  self:signal "STOP"
  self.frozen = true
  -- One thread after the other stops.
  local states = ("cat /proc/%d/task/*/stat | grep -c -v ') T '"):format(self:pid())
  while tonumber((shell.run(states))) > 0 do shell.must "sleep 0.005" end
end

function Server:thaw()
  self:signal "CONT"
  self.frozen = nil
end

--- Runs SQL by the command-line client as root: its output without headings, and its status.
function Server:run(text, database)
  return shell.run(cleanly(("%s --no-defaults --default-character-set=utf8mb4 -u root -S %s -N -B "
    .. "-e %s %s"):format(quote(self.client), quote(self.socket), quote(text),
      quote(database or ""):gsub("^''$", ""))))
end

--- The same for what has to succeed.
function Server:sql(text, database)
  local output, status = self:run(text, database)
  if status ~= 0 then fail(self, "refused: " .. text, output) end
  return output
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

--- A URL by the unix socket, which lets everybody in; given: parameters, and user.
function Server:url(database, given)
  local rest = {}
  for name, value in pairs(given or {}) do rest[name] = value end
  local user = rest.user or "moonbase"
  rest.user = nil
  return ("mysql://%s@%s/%s%s"):format(user, encoded(self.socket), database or "moonbase",
    query_of(rest))
end

-- The handles that empty databases, by server: a session that has done that before is much
-- faster than a new one.
local cleaners = setmetatable({}, { __mode = "k" })

--- Empties its database, and gives a URL by the unix socket.
function Server:fresh(given)
  cleaners[self] = cleaners[self] or moonbase.open(self:url("mysql", { user = "root" }),
    { pool = { max = 1 } })
  -- What an earlier case has left open would hold its locks.
  for _, id in ipairs(cleaners[self]:query_column [[
    select id from information_schema.processlist
      where user not in ('root', 'system user', 'event_scheduler')]]) do
    pcall(cleaners[self].exec, cleaners[self], "kill connection " .. id)
  end
  cleaners[self]:exec_script [[
    drop database if exists moonbase;
    create database moonbase character set utf8mb4]]
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
  local user, password = take("user", "moonbase"), take("password", mysql.password)
  -- Without TLS a password is encrypted with the server's key.
  if not self.is_mariadb and (rest.tls == "off" or rest.tls == "prefer") then
    rest.get_server_public_key = true
  end
  return ("mysql://%s%s@%s:%d/%s%s"):format(user, password and ":" .. encoded(password) or "",
    take("host", "127.0.0.1"), take("port", self.port), database or "moonbase", query_of(rest))
end

--- The path of a file of its TLS: root.crt, other.crt, certified.crt, certified.key.
function Server:tls(name)
  return self.folder .. "/tls/" .. name
end

--- Ends it and removes all of it.
function Server:close()
  if cleaners[self] then cleaners[self]:close() end
  if self.frozen then self:thaw() end
  self.guard.close()
end

local function initialize(server)
  shell.must("mkdir " .. quote(server.folder .. "/tls"))
  make_certificates(server.folder .. "/tls")
  shell.must(("cd %s && cp tls/server.crt data.crt && cp tls/server.key data.key"):format(
    quote(server.folder)))
  if is_root then
    shell.must(("chown mysql: %s && chown mysql: %s/data.*"):format(quote(server.folder),
      quote(server.folder)))
  end
  local user = is_root and " --user=mysql" or ""
  local command
  if server.is_mariadb then
    command = ("%s --no-defaults --datadir=%s --auth-root-authentication-method=normal "
      .. "--skip-test-db --skip-name-resolve%s"):format(
        find_program "mariadb-install-db", quote(server.data), user)
  else
    command = ("%s --no-defaults --initialize-insecure --datadir=%s%s"):format(
      quote(server.program), quote(server.data), user)
  end
  -- MariaDB 10.11 crashes here once in a while.
  local output, status
  for _ = 1, 3 do
    output, status = shell.run(cleanly(command))
    if status == 0 then return end
    shell.must("rm -rf " .. quote(server.data))
  end
  fail(server, "was not initialized", output)
end

-- Users as applications have them, their database, and a time zone with a name.
local function populate(server)
  local text = ([[
    create user moonbase@localhost;
    create user moonbase@'%%' identified by '%s';
    create user certified@'%%' require subject '/CN=certified';
    create user encrypted@'%%' identified by '%s' require ssl;
    create database moonbase character set utf8mb4]]):format(mysql.password, mysql.password)
  for _, user in ipairs { "moonbase@localhost", "moonbase@'%'", "certified@'%'",
    "encrypted@'%'" } do
    text = ("%s; grant all on moonbase.* to %s; grant process on *.* to %s"):format(text, user,
      user)
  end
  server:sql(text)
  local zones = find_program(server.is_mariadb and "mariadb-tzinfo-to-sql"
    or "mysql_tzinfo_to_sql")
  shell.must(("( %s ) | ( %s )"):format(
    cleanly(quote(zones) .. " /usr/share/zoneinfo/Asia/Tokyo Asia/Tokyo"),
    cleanly(("%s --no-defaults -u root -S %s mysql"):format(quote(server.client),
      quote(server.socket)))))
end

--- A server of the case's own; close it.  given: a list of options for it.
function mysql.start(given)
  local server = new()
  server.given = given
  local ok, err = pcall(function()
    initialize(server)
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
function mysql.shared()
  -- The functions are those of the file of specs that asks.
  return setmetatable(registry("mysql", mysql.start), Server)
end

return mysql
