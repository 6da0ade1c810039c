--- Real nginx servers with Lua inside, on a free loopback port each.
---
--- They run LuaJIT, whatever the specs run on, and the modules that were built for it.  When
--- the specs run as root, their workers run as www-data.
local files = require "spec.support.files"
local guarded = require "spec.support.guarded"
local shell = require "spec.support.shell"

local nginx = {}

local quote = shell.quote
local is_root = shell.must "id -u" == "0\n"

-- What comes before the server of a case.  {…} are filled in.
local configuration = [[
load_module {modules}/ndk_http_module.so;
load_module {modules}/ngx_http_lua_module.so;
{user}
daemon on;
{environment}
pid {folder}/nginx.pid;
error_log {folder}/error.log notice;
worker_processes 1;
{main}
events { worker_connections 1024; }
http {
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  lua_package_path "{path};{project}/?.lua;;";
  lua_package_cpath "{build}/?.so;;";
  {http}
  server {
    listen 127.0.0.1:{port};
    {server}
  }
}
]]

local function find(pattern, what)
  local path = shell.run("ls -d " .. pattern .. " 2>/dev/null | head -n 1"):match "^[^\n]+"
  return path or error("there is no " .. what, 0)
end

-- The folder of the modules for LuaJIT, beside those of the Lua that runs.
local function find_build()
  for folder in package.cpath:gmatch "([^;]*)/%?%.so" do
    local suffix = folder:match "build/luajit%-[%d.]+(.*)$" or folder:match "build/lua[%d.]+(.*)$"
    if suffix then
      return find("\"$PWD\"/build/luajit-*[0-9]" .. suffix .. "/moonbase/core.so",
        "build for LuaJIT: make LUA=luajit"):match "^(.*)/moonbase/core%.so$"
    end
  end
  error("package.cpath names no folder below build/", 0)
end

local function fill(text, values)
  return (text:gsub("{(%l+)}", function(name) return values[name] end))
end

local Server = {}
Server.__index = Server

--- The path of a file in its folder, which its workers may write to.
function Server:path(name)
  return self.folder .. "/" .. name
end

--- All of the log so far.
function Server:log()
  local path = self:path "error.log"
  return files.exists(path) and files.read(path) or ""
end

-- Workers run as www-data where that can read what they load.
local function find_user(project)
  if not is_root then return "" end
  local _, status = shell.run("setpriv --reuid www-data --regid www-data --clear-groups test -r "
    .. quote(project .. "/lua/moonbase/init.lua"))
  return status == 0 and "user www-data;" or "user root;"
end

-- What stands for {…} in configurations.
local function values_of(server, given)
  local project = shell.must "pwd":match "^[^\n]+"
  local values = { modules = find("/usr/lib/nginx/modules /usr/share/nginx/modules",
    "folder of nginx's modules"), folder = server.folder, port = tostring(server.port),
    project = project, build = find_build(), user = find_user(project),
    path = project .. "/lua/?.lua;" .. project .. "/lua/?/init.lua" }
  local variables = {}
  for name in pairs(given.environment or {}) do
    variables[#variables + 1] = "env " .. name .. ";"
  end
  values.environment = table.concat(variables, "\n")
  for _, name in ipairs { "main", "http", "server" } do
    values[name] = fill(given[name] or "", values)
  end
  return values
end

-- The variables that it is started with, for the shell.
local function assignments_of(given, values)
  local list = {
    "LUA_PATH=" .. quote(values.path .. ";;"),
    "LUA_CPATH=" .. quote(values.build .. "/?.so;;"),
  }
  -- What watches this Lua has to watch what nginx loads.
  local preload = os.getenv "LD_PRELOAD"
  if preload then
    list[#list + 1] = "LD_PRELOAD=" .. quote(preload)
    -- nginx does not free all that it has of its environment.
    list[#list + 1] = "ASAN_OPTIONS=detect_leaks=0"
  end
  for name, value in pairs(given.environment or {}) do
    list[#list + 1] = name .. "=" .. quote(value)
  end
  return table.concat(list, " ")
end

-- Writes the configuration, and starts nginx with it: its output and status.
local function launch(server, given)
  local values = values_of(server, given)
  local path = server:path "nginx.conf"
  files.write(path, given.configure and values.user .. " " .. given.configure(server)
    or fill(configuration, values))
  return shell.run(("env %s nginx -p %s -c %s"):format(assignments_of(given, values),
    quote(server.folder .. "/"), quote(path)))
end

--- Starts it.  given: server, http and main, directives for these places, in which {folder},
--- {project} and {port} mean what they say; or configure, a function of the server that gives
--- the whole configuration; environment, variables of its workers by their names.
function nginx.start(given)
  local guard = guarded.folder()
  local server = setmetatable({ guard = guard, folder = guard.path }, Server)
  shell.must("chmod 777 " .. quote(server.folder))
  local first = 33000 + tonumber((shell.must "echo $$")) % 12000
  local ok, err = pcall(function()
    for attempt = 1, 20 do
      server.port = first + attempt
      local output, status = launch(server, given)
      if status == 0 then break end
      if attempt == 20 or not output:find("Address already in use", 1, true) then
        error(output, 0)
      end
    end
    server:wait(function() return #server:workers() > 0 end)
  end)
  if ok then return server end
  server:close()
  error("nginx did not start: " .. err, 0)
end

--- Asks until what fn gives is true; gives that.  An error after 10 seconds, or the limit.
function Server:wait(fn, limit)
  for _ = 1, (limit or 10) * 50 do
    local value = fn()
    if value then return value end
    shell.must "sleep 0.02"
  end
  error("waited in vain; the log:\n" .. self:log():sub(-3000), 2)
end

--- The number of the master process.
function Server:pid()
  return tonumber((files.read(self:path "nginx.pid"):match "%d+"))
end

--- The numbers of the workers, those that are about to exit too.
function Server:workers()
  local list = {}
  if not files.exists(self:path "nginx.pid") then return list end
  for pid in shell.run("cat /proc/" .. self:pid() .. "/task/*/children"):gmatch "%d+" do
    list[#list + 1] = tonumber(pid)
  end
  return list
end

--- How many of something a worker has: "fd" or "task".
function Server:count(what, pid)
  return tonumber((shell.must(("ls /proc/%d/%s | wc -l"):format(pid or self:workers()[1], what))))
end

function Server:url(path)
  return ("127.0.0.1:%d%s"):format(self.port, path)
end

--- Asks for a path: the body and the status.  options: more of curl's.
function Server:get(path, options)
  local output = shell.must(("curl -s -m 30 -w '\\n%%{http_code}' %s %s"):format(options or "",
    quote(self:url(path))))
  local body, status = output:match "^(.*)\n(%d+)$"
  return body, tonumber(status)
end

--- Asks for paths at once; gives the bodies, and the seconds that each took.
function Server:get_all(paths)
  local commands = {}
  for i, path in ipairs(paths) do
    commands[i] = ("curl -s -m 30 -o %s -w '%%{time_total}' %s >%s 2>&1 &"):format(
      quote(self:path("body." .. i)), quote(self:url(path)), quote(self:path("time." .. i)))
  end
  shell.must(table.concat(commands, "\n") .. "\nwait")
  local bodies, seconds = {}, {}
  for i in ipairs(paths) do
    bodies[i] = files.read(self:path("body." .. i))
    seconds[i] = tonumber(files.read(self:path("time." .. i)))
  end
  return bodies, seconds
end

--- Sends a signal to the master: HUP reloads, QUIT ends gracefully.
function Server:signal(name)
  shell.must(("kill -%s %d"):format(name, self:pid()))
end

--- Ends it and removes all of it.
function Server:close()
  local workers = self:workers()
  self.guard.close()
  -- One that does not end would stay when its master is killed.
  for _, pid in ipairs(workers) do
    local _, status = shell.run("kill -KILL " .. pid)
    if status == 0 then error("a worker of nginx did not end", 2) end
  end
end

return nginx
