-- Moonbase inside nginx: what spec/support/openresty_app.lua does there is seen from outside.
local moonbase = require "moonbase"
local databases = require "spec.support.databases"
local files = require "spec.support.files"
local markdown = require "spec.support.markdown"
local mysql = require "spec.support.mysql"
local nginx = require "spec.support.nginx"
local postgres = require "spec.support.postgres"
local shell = require "spec.support.shell"

local is_tested = {}
for _, database in ipairs(databases) do is_tested[database.driver] = true end

-- By driver, what gives the URL of an empty database that nginx's user may write to too.
local fresh = {
  sqlite = function()
    local folder = files.folder()
    shell.must("chmod 777 " .. shell.quote(folder))
    return "sqlite:" .. folder .. "/app.db"
  end,
  postgres = function() return postgres.shared():fresh { application_name = "nginx" } end,
  mysql = function() return mysql.shared():fresh() end,
}

local locations = [[
location / { content_by_lua_block { require("spec.support.openresty_app").handle() } }
]]

-- Every place for Lua that there is.
local phases = {
  http = [[
    init_by_lua_block { app = require "spec.support.openresty_app"; app.try "init" }
    init_worker_by_lua_block { app.try "init_worker" }
    exit_worker_by_lua_block {
      ngx.log(ngx.WARN, "exit_worker=", app.try "exit_worker")
    }
    upstream example.com {
      server 127.0.0.1:1;
      balancer_by_lua_block {
        app.try "balancer"
        require("ngx.balancer").set_current_peer("127.0.0.1", {port})
      }
    }
    server {
      listen unix:{folder}/tls.sock ssl;
      ssl_certificate {tls}/server.crt;
      ssl_certificate_key {tls}/server.key;
      ssl_client_hello_by_lua_block { app.try "ssl_client_hello" }
      ssl_certificate_by_lua_block { app.try "ssl_certificate" }
      location / { return 200 "over TLS"; }
    }
  ]],
  server = [[
    server_rewrite_by_lua_block { if ngx.var.uri == "/phases" then app.try "server_rewrite" end }
    location = /phases {
      set_by_lua_block $something { app.try "set"; return 1 }
      rewrite_by_lua_block { app.try "rewrite" }
      access_by_lua_block { app.try "access" }
      content_by_lua_block {
        app.try "content"
        coroutine.wrap(function() app.try "coroutine" end)()
        ngx.thread.wait(ngx.thread.spawn(function() app.try "thread" end))
        app.try_inside_require()
        for _, name in ipairs { "header_filter", "body_filter", "log" } do app.leave_open(name) end
        local timer = require("ngx.semaphore").new()
        ngx.timer.at(0, function() app.try "timer"; timer:post() end)
        timer:wait(5)
        ngx.say "content"
      }
      header_filter_by_lua_block { app.try "header_filter"; app.close_left "header_filter" }
      body_filter_by_lua_block { app.try "body_filter"; app.close_left "body_filter" }
      log_by_lua_block { app.try "log"; app.close_left "log" }
    }
    location = /behind { proxy_pass http://example.com/ping; }
    location / { content_by_lua_block { app.handle() } }
  ]],
}

describe("in OpenResty", function()
  local database, environment
  local server

  lazy_setup(function()
    if is_tested.postgres then database = postgres.shared() end
  end)

  local function start(given)
    given.environment = environment
    given.server = given.server or locations
    server = nginx.start(given)
    return server
  end

  before_each(function()
    environment = { MB_SQLITE = fresh.sqlite() }
    for driver in pairs(is_tested) do environment["MB_" .. driver:upper()] = fresh[driver]() end
  end)

  after_each(function()
    if server then server:close() end
    server = nil
    files.clean()
  end)

  -- The sessions of the server's workers.
  local function count_sessions(condition)
    return tonumber((database:psql("select count(*) from pg_stat_activity where "
      .. "application_name = 'nginx' and " .. (condition or "true")):match "%d+"))
  end

  local function check_log()
    assert.is_nil(server:log():match "[^\n]*%[%l+%][^\n]*[Ll]ua[^\n]*error[^\n]*")
    local alerts = server:log():gsub("[^\n]*lua_code_cache is off[^\n]*", "")
    assert.is_nil(alerts:match "[^\n]*%[alert%][^\n]*")
    assert.is_nil(server:log():match "[^\n]*%[crit%][^\n]*")
  end

  local everything = "sum 125250\nin it 2\nouter kept nil\nfrom a coroutine 1 3 nil\n"
    .. "false SyntaxError\n"

  for name in pairs(is_tested) do
    it("runs a program for plain Lua as it stands: " .. name, function()
      start {}
      for _ = 1, 3 do assert.equal(everything, (server:get("/everything?db=" .. name))) end
      check_log()
    end)
  end

  for _, name in ipairs { "postgres", "mysql" } do
    if is_tested[name] then
      it("answers others while a request waits for the database: " .. name, function()
        start {}
        server:get("/sleep?s=0&db=" .. name)
        local paths = {}
        for i = 1, 10 do paths[i] = "/sleep?s=1&db=" .. name end
        for i = 11, 20 do paths[i] = "/ping" end
        local bodies, seconds = server:get_all(paths)
        for i = 1, 10 do
          assert.equal("slept\n", bodies[i])
          assert.is_true(seconds[i] >= 1 and seconds[i] < 2.5, seconds[i])
        end
        for i = 11, 20 do
          assert.equal("pong\n", bodies[i])
          assert.is_true(seconds[i] < 0.3, seconds[i])
        end
        check_log()
      end)
    end
  end

  -- All that follows is seen with PostgreSQL's functions and views.
  if not is_tested.postgres then return end

  it("waits for 50 queries at once", function()
    start {}
    server:get "/sleeps"
    assert.is_true(tonumber((server:get "/sleeps")) < 0.3)
    check_log()
  end)

  it("ends what takes too long, or is cancelled, and keeps the connection", function()
    start {}
    assert.equal("false TimeoutError true true\n", (server:get "/timeout"))
    assert.equal("false CanceledError 1\n", (server:get "/cancel"))
    check_log()
  end)

  it("has limits of its own unless others are given", function()
    start {}
    assert.equal("30 5\n1 2\n3 4\n3 4\n", (server:get "/limits"))
  end)

  it("has no limit of its own for scripts", function()
    start {}
    assert.equal("30\ntrue 1\nfalse TimeoutError\n", (server:get "/script"))
  end)

  it("takes ngx.null for NULL", function()
    start {}
    assert.equal("true\n", (server:get "/null"))
  end)

  it("answers 503 when the pool is exhausted", function()
    start {}
    local statuses = shell.must(("for i in 1 2 3; do "
      .. "curl -s -o %s -w '%%{http_code}\\n' %s & done; wait"):format(
      shell.quote(server:path "body"), shell.quote(server:url "/full")))
    local count = {}
    for status in statuses:gmatch "%d+" do count[status] = (count[status] or 0) + 1 end
    assert.same({ ["200"] = 2, ["503"] = 1 }, count)
    assert.truthy(server:log():find("PoolTimeoutError: ", 1, true))
  end)

  it("answers 500 for other errors, and logs their texts and tracebacks", function()
    start {}
    assert.equal(500, select(2, server:get "/wrong"))
    assert.truthy(server:log():find("SyntaxError: function no_such_function() does not exist",
      1, true))
    assert.truthy(server:log():find("in function 'deep'", 1, true))
    assert.equal(500, select(2, server:get "/plain-error"))
    assert.truthy(server:log():find("a plain mistake\nstack traceback:", 1, true))
    assert.equal(200, select(2, server:get "/handled"))
    -- What has begun is broken off.
    local _, status = shell.run("curl -s " .. shell.quote(server:url "/begun"))
    assert.not_equal(0, status)
    assert.truthy(server:log():find("after the beginning", 1, true))
    assert.is_nil(server:log():find("attempt to set status", 1, true))
  end)

  it("waits in every phase that can, blocks in init, and is refused elsewhere", function()
    local given = { http = phases.http:gsub("{tls}", database.folder .. "/tls"),
      server = phases.server }
    given.environment = environment
    server = nginx.start(given)
    assert.equal("content\n", (server:get "/phases"), server:log())
    assert.equal("pong\n", (server:get "/behind"))
    assert.equal("over TLS", shell.must(("curl -sk --unix-socket %s https://example.com/"):format(
      shell.quote(server:path "tls.sock"))))
    local found = {}
    for name, how in (server:get "/tried"):gmatch "([^\n=]+)=([^\n]*)" do found[name] = how end
    for _, name in ipairs { "init", "init_worker", "server_rewrite", "rewrite", "access", "content",
      "coroutine", "thread", "timer", "ssl_certificate" } do
      assert.equal("ok", found[name], name)
    end
    for _, name in ipairs { "set", "balancer", "header_filter", "body_filter", "log",
      "ssl_client_hello" } do
      assert.truthy((found[name] or "nothing"):find("UsageError: .* phase " .. name
        .. " .*scheduler = \"blocking\""), name .. ": " .. tostring(found[name]))
    end
    assert.truthy(found["inside require"]:find "UsageError: .*inside require",
      found["inside require"])
    for _, name in ipairs { "header_filter", "body_filter", "log" } do
      assert.equal("closed", found["close in " .. name])
    end
    server:wait(function() return server:get "/left":match "^0 %d" end, 5)
    assert.equal(0, count_sessions "state = 'active'")
    server:signal "QUIT"
    server:wait(function()
      return server:log():find("exit_worker=UsageError: [^\n]*phase exit_worker")
    end)
  end)

  it("waits in a timer", function()
    start {}
    assert.equal("in a timer\n", (server:get "/timer"))
    check_log()
  end)

  it("blocks in threads of nginx's", function()
    start { main = "thread_pool threads threads=2;" }
    for _ = 1, 3 do assert.equal("true in a thread\n", (server:get "/worker-thread")) end
    check_log()
  end)

  it("waits without its own timer, when there are too many", function()
    start { http = "lua_max_pending_timers 3;" }
    assert.equal("3\n", (server:get "/fill"))
    assert.equal("slept\n", (server:get "/sleep?s=0.1"))
    local _, seconds = server:get_all { "/sleep?s=0.5", "/ping" }
    assert.is_true(seconds[1] < 1 and seconds[2] < 0.2)
  end)

  it("takes calls of killed light threads to their ends", function()
    start {}
    for _ = 1, 3 do
      assert.equal("in use 0, answers 1\n", (server:get "/kill"))
    end
    assert.equal(0, count_sessions "state = 'active'")
    assert.equal(0, count_sessions "state like 'idle in transaction%'")
    check_log()
  end)

  it("takes calls of clients that have gone to their ends", function()
    start { http = "lua_check_client_abort on;" }
    -- Some go before the answer has come, some just when it comes.
    local function leave()
      shell.run(("for turn in 1 2 3 4 5 6 7 8; do "
        .. "for i in 1 2 3 4 5 6 7 8 9 10; do curl -s -o /dev/null -m 0.0$i '%s' & done; "
        .. "for i in 1 2; do curl -s -o /dev/null -m 0.05 '%s' & done; wait; done"):format(
        server:url "/sleep?s=0.03", server:url "/sleep?s=20"))
      server:wait(function() return server:get "/stats" == "0 0\n" end)
      assert.equal(0, count_sessions "state = 'active'")
    end
    leave()
    local before = { server:count "fd", server:count "task" }
    leave()
    assert.equal(before[2], server:count "task")
    -- Of 96 calls; how many there are at once is not the same each time.
    assert.is_true(server:count "fd" < before[1] + 20)
    assert.equal("slept\n", (server:get "/sleep?s=0"))
    check_log()
  end)

  it("rolls back what clients that have gone had begun", function()
    start { http = "lua_check_client_abort on;" }
    for _ = 1, 3 do
      for _ = 1, 2 do shell.run("curl -s -m 0.2 " .. server:url "/dawdle") end
      assert.equal("1 0\n", (server:get "/after-dawdling"))
      assert.equal(0, count_sessions "state like 'idle in transaction%'")
    end
    check_log()
  end)

  it("leaves nothing behind where each request has a Lua of its own", function()
    start { http = "lua_code_cache off;" }
    local idle = server:count "fd"
    assert.equal(everything, (server:get "/everything?db=postgres"))
    server:wait(function() return server:count "fd" < idle + 10 end, 12)
    local before = { server:count "fd", server:count "task" }
    local paths = {}
    for i = 1, 20 do paths[i] = "/sleep?s=0.1" end
    for _, body in ipairs((server:get_all(paths))) do assert.equal("slept\n", body) end
    server:wait(function() return server:count "fd" <= before[1] end, 12)
    assert.is_true(server:count "task" <= before[2])
    assert.equal(0, count_sessions())
    check_log()
  end)

  it("answers what was accepted before a reload", function()
    start {}
    server:get "/sleep?s=0"
    local old = server:workers()[1]
    shell.must(("(sleep 0.3; kill -HUP %d) >/dev/null 2>&1 &"):format(server:pid()))
    local paths = {}
    for i = 1, 10 do paths[i] = "/sleep?s=1" end
    for _, body in ipairs((server:get_all(paths))) do assert.equal("slept\n", body) end
    server:wait(function()
      local workers = server:workers()
      return #workers == 1 and workers[1] ~= old
    end)
    assert.equal("slept\n", (server:get "/sleep?s=0"))
    check_log()
  end)

  it("ends when nginx does, after what was asked of it", function()
    start {}
    server:get "/sleep?s=0"
    local pid = server:workers()[1]
    shell.must(("(sleep 0.3; kill -QUIT %d) >/dev/null 2>&1 &"):format(server:pid()))
    assert.equal("slept\n", server:get_all({ "/sleep?s=1" })[1])
    server:wait(function() return not files.exists("/proc/" .. pid) end, 3)
    assert.equal(0, count_sessions())
    check_log()
  end)

  it("needs no thread and no socket when nobody waits for long", function()
    start {}
    server:get "/sleep?s=0"
    local before = server:count "fd"
    server:wait(function() return server:count "fd" == before - 2 end, 10)
    assert.equal("slept\n", (server:get "/sleep?s=0"))
    check_log()
  end)
end)

describe("examples/openresty", function()
  local server

  after_each(function()
    if server then server:close() end
    server = nil
    files.clean()
  end)

  -- As it is, but for the port and the folder.
  local function configure(started)
    files.write(started:path "shop.lua", files.read "examples/openresty/shop.lua")
    return (files.read("examples/openresty/nginx.conf"):gsub("127%.0%.0%.1:8080",
      "127.0.0.1:" .. started.port):gsub("/tmp/shop", (started.folder:gsub("%%", "%%%%"))))
  end

  local function post(form)
    return server:get("/orders", "-d " .. shell.quote(form))
  end

  -- A database with its tables, for nginx's user too.
  local function prepare(url)
    local db = moonbase.open(url)
    db:exec_script(files.read "examples/openresty/schema.sql")
    db:close()
    local path = url:match "^sqlite:(.*)"
    if path then shell.must("chmod 666 " .. shell.quote(path)) end
    return url
  end

  for name in pairs(is_tested) do
    it("sells what there is: " .. name, function()
      server = nginx.start {
        configure = configure, environment = { SHOP_URL = prepare(fresh[name]()) },
      }
      local articles = server:get "/articles"
      assert.truthy(articles:find('"name":"chair"', 1, true), articles)
      assert.truthy(articles:find('"pieces":10', 1, true), articles)

      -- Two for each that ask at the same time, and 10 there are.
      local statuses = shell.must(("for i in 1 2 3 4 5 6 7; do curl -s -o %s -w '%%{http_code}\\n' "
        .. "-d article=1 -d pieces=2 %s & done; wait"):format(shell.quote(server:path "body"),
        shell.quote(server:url "/orders")))
      local count = {}
      for status in statuses:gmatch "%d+" do count[status] = (count[status] or 0) + 1 end
      assert.same({ ["201"] = 5, ["409"] = 2 }, count, server:log())
      assert.truthy(server:get "/articles":find('"pieces":0', 1, true))
      local found = server:get "/orders/5"
      assert.truthy(found:find('"article":1', 1, true), found)
      assert.equal(404, select(2, server:get "/orders/6"))
      assert.equal(400, select(2, post "article=chair"))

      local figures = server:get "/pool"
      assert.equal("0", figures:match '"in_use":(%d+)', figures)
      assert.equal("10", figures:match '"max_of_all_workers":(%d+)', figures)
      assert.is_nil(server:log():match "%[error%][^\n]*")
    end)
  end
end)

describe("the guide's configuration of nginx", function()
  if not is_tested.postgres then return end
  local server

  after_each(function()
    if server then server:close() end
    server = nil
  end)

  it("works", function()
    local blocks = markdown.select_blocks("doc/guide.md", "nginx")
    assert.equal(1, #blocks)
    server = nginx.start {
      configure = function(started)
        local folder = started.folder:gsub("%%", "%%%%")
        return (table.concat(blocks[1].lines, "\n"):gsub("127%.0%.0%.1:8080",
          "127.0.0.1:" .. started.port):gsub("/run/app%.pid", folder .. "/nginx.pid"):gsub(
          "/var/log/nginx/app%.log", folder .. "/error.log"))
      end,
      environment = { APP_DATABASE = postgres.shared():fresh() },
    }
    assert.equal("42\n", (server:get "/sum"))
    assert.is_nil(server:log():match "[^\n]*%[%l+%] [^\n]*")
  end)
end)
