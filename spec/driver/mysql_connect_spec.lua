-- Connecting to MySQL: every form of a URL, several hosts, who is let in, TLS, what a session
-- begins with.
local moonbase = require "moonbase"
local child = require "spec.support.child"
local expect = require "spec.support.expect"
local files = require "spec.support.files"
local language = require "spec.support.language"
local now = require "moonbase.core".now
local mysql = require "spec.support.mysql"
local proxy = require "spec.support.proxy"
local shell = require "spec.support.shell"

local whoami = "select substring_index(current_user(), '@', 1)"

describe("A connection to MySQL", function()
  local server, opened

  before_each(function()
    server, opened = mysql.shared(), {}
  end)

  after_each(function()
    for _, db in ipairs(opened) do db:close() end
    files.clean()
  end)

  local function open(...)
    local db = moonbase.open(...)
    opened[#opened + 1] = db
    return db
  end

  -- Connects, and gives the first value of a text.
  local function ask(text, ...)
    return open(...):query_value(text)
  end

  local function refused(class, text, ...)
    local db = open(...)
    return expect.raised(class, text, db.connect, db)
  end

  local function cipher(...)
    local _, value = open(...):query_values "show session status like 'ssl_cipher'"
    return value
  end

  -- A port at which nobody listens.
  local function closed_port()
    local gone = proxy.start(server.port)
    gone:close()
    return gone.port
  end

  -- Runs fn with a network before the server, which ends with it.
  local function through(fn, where)
    local network = proxy.start(server.port, where)
    local ok, err = pcall(fn, network)
    network:close()
    if not ok then error(err, 0) end
  end

  it("is made by a unix socket in the place of the host", function()
    assert.equal("moonbase", ask(whoami, server:url()))
    assert.equal("localhost", ask("select substring_index(user(), '@', -1)", server:url()))
  end)

  it("is made by socket, host and port among the parameters, or in options", function()
    assert.equal("moonbase", ask(whoami, "mysql://moonbase@/moonbase?socket=" .. server.socket))
    assert.equal("moonbase", ask(whoami, "mariadb://moonbase@/moonbase?socket=" .. server.socket))
    assert.equal("moonbase", ask(whoami, { driver = "mysql", socket = server.socket,
      user = "moonbase", database = "moonbase" }))
    assert.equal("moonbase", ask("select database()", { driver = "mysql", host = "127.0.0.1",
      port = server.port, user = "moonbase", password = mysql.password, database = "moonbase" }))
    assert.equal("moonbase", ask(whoami, ("mysql://%s:%d/moonbase"):format("127.0.0.1",
      server.port), { user = "moonbase", password = mysql.password }))
  end)

  it("is made over TCP, to a name and to an address, never by the library's own socket",
    function()
      for _, host in ipairs { "127.0.0.1", "localhost" } do
        local url = server:tcp_url(nil, { host = host })
        assert.equal(server.port, ask("select @@port", url))
        assert.equal("127.0.0.1", ask("select substring_index(user(), '@', -1)", url))
      end
    end)

  it("may be without a database", function()
    local db = open(server:tcp_url "")
    assert.is_nil(db:query_value "select database()")
    assert.equal(1, db:query_value [[select count(*) from information_schema.schemata
      where schema_name = 'moonbase']])
  end)

  it("proves itself by a password, which is nowhere to be seen", function()
    local db = open(server:tcp_url())
    assert.equal("moonbase", db:query_value(whoami))
    for _, text in ipairs { tostring(db), db:url(), tostring(db:connect()) } do
      assert.is_nil(text:find("ss w", 1, true))
      assert.is_nil(text:find("ss%20w", 1, true))
    end
    local err = refused("PermissionError", nil, server:tcp_url(nil, { password = "wrong p@ss" }))
    assert.equal(1045, err.native_code)
    assert.equal("28000", err.code)
    assert.is_nil(tostring(err):find("p@ss", 1, true))
    refused("PermissionError", nil, server:tcp_url(nil, { password = false }))
  end)

  it("asks a function for its password each time", function()
    local asked = 0
    local db = open(server:tcp_url(nil, { password = false }), { password = function()
      asked = asked + 1
      return mysql.password
    end })
    local one, other = db:connect(), db:connect()
    assert.equal(2, asked)
    one:close()
    other:close()
  end)

  it("speaks utf8mb4, strictly, in UTC, whatever the server prefers", function()
    local row = open(server:url()):query_row [[select @@character_set_client as client,
      @@character_set_connection as connection, @@character_set_results as results,
      @@time_zone as zone, @@sql_mode as mode, @@global.time_zone as other]]
    assert.same({ "utf8mb4", "utf8mb4", "utf8mb4" }, { row.client, row.connection, row.results })
    assert.equal("+00:00", row.zone)
    assert.equal("+01:00", row.other)
    assert.match("STRICT_TRANS_TABLES", row.mode)
  end)

  it("reads no file of options", function()
    local path = files.write(files.path "my.cnf", "[client]\nuser=nobody\nport=1\n")
    local output = child.run([[
      local db = require "moonbase".open(...)
      print(db:query_value "select substring_index(current_user(), '@', 1)")
      db:close()]], { server:url() }, "export HOME='" .. path:match "^(.*)/" .. "' MYSQL_HOME='"
        .. path:match "^(.*)/" .. "'")
    assert.equal("moonbase\n", output)
  end)

  it("is in the zone that is asked for, also after it was lent", function()
    for given, shown in pairs { ["+05:30"] = "+05:30", UTC = "+00:00",
      ["Asia/Tokyo"] = "Asia/Tokyo" } do
      local db = open(server:url(), { time_zone = given, pool = { max = 1 } })
      for _ = 1, 3 do
        assert.equal(shown, db:query_value "select @@time_zone")
        local conn = db:connect()
        conn:exec "set time_zone = '-03:00', sql_mode = ''"
        conn:close()
        assert.match("STRICT", db:query_value "select @@sql_mode")
      end
      assert.equal(1, db:stats().created)
    end
    refused("ConnectivityError", nil, server:url(), { time_zone = "Nowhere/Land" })
  end)

  it("has the modes that are asked for", function()
    assert.equal("ANSI_QUOTES", ask("select @@sql_mode", server:url(),
      { sql_mode = "ANSI_QUOTES" }))
    assert.equal(1, ask("select 1 as \"a\"", server:url(nil, { sql_mode = "ANSI_QUOTES" })))
    assert.equal("", ask("select @@sql_mode", server:url(), { sql_mode = "" }))
    expect.raised("ConnectorValidationError", "sql_mode", moonbase.open, server:url(),
      { sql_mode = "x'" })
  end)

  it("may be compressed", function()
    for _, compress in ipairs { true, false } do
      local db = open(server:tcp_url(), { compress = compress })
      local _, value = db:query_values "show session status like 'compression'"
      assert.equal(compress and "ON" or "OFF", value)
      local text = ("moonbase "):rep(100000)
      assert.is_true(db:query_value("select ?", text) == text)
      assert.equal(text:sub(1, 90000), db:query_value("select repeat('moonbase ', ?)", 10000))
    end
  end)

  it("reads no local file unless that is asked for", function()
    local path = files.write(files.path "rows", "1\n2\n")
    local text = ("load data local infile '%s' into table loaded"):format(path)
    local db = open(server:fresh())
    db:exec "create table loaded (i integer)"
    local ok, err = pcall(db.exec, db, text)
    assert.is_false(ok)
    assert.equal("EngineError", err.class)
    assert.equal(0, db:query_value "select count(*) from loaded")
    if server.is_mariadb then
      assert.equal(2, (open(server:url(), { local_infile = true }):exec(text)))
    end
  end)

  it("may be to the first of several hosts that answers", function()
    local closed = closed_port()
    local hosts = ("mysql://moonbase@127.0.0.1:%d,127.0.0.1:%d/moonbase"):format(closed,
      server.port)
    assert.equal("moonbase", ask(whoami, hosts, { password = mysql.password }))
    assert.equal("moonbase", ask(whoami, ("mysql://moonbase@127.0.0.1:%d,%s/moonbase"):format(
      closed, server.socket:gsub("/", "%%2F"))))
    refused("ConnectivityError", nil, ("mysql://moonbase@127.0.0.1:%d,127.0.0.1:%d/moonbase")
      :format(closed, closed))
  end)

  it("is not tried elsewhere when who asks is refused", function()
    through(function(network)
      refused("PermissionError", nil, ("mysql://moonbase:wrong@127.0.0.1:%d,127.0.0.1:%d/moonbase")
        :format(server.port, network.port))
      assert.equal("0", network:tell "count")
    end)
  end)

  it("is refused where nobody listens, where there is no database, and to who may not",
    function()
      refused("ConnectivityError", nil, server:tcp_url(nil, { port = closed_port() }))
      refused("ConnectivityError", nil, "mysql://moonbase@%2Fno%2Fsuch%2Fsocket/moonbase")
      refused("ConnectivityError", nil, "mysql://moonbase@nowhere.invalid/moonbase")
      local db = open(server:url("missing", { user = "root" }))
      local ok, err = pcall(db.connect, db)
      assert.is_false(ok)
      assert.equal(1049, err.native_code)
      err = refused("PermissionError", nil, server:url("mysql"))
      assert.equal(1044, err.native_code)
      err = refused("PermissionError", nil, server:url(nil, { user = "nobody" }))
      assert.equal(1045, err.native_code)
    end)

  it("is given up when its time is over, that of all hosts together", function()
    through(function(silent)
      silent:tell "stop"
      for _, hosts in ipairs { "127.0.0.1:%d", "127.0.0.1:%d,127.0.0.1:%d,127.0.0.1:%d" } do
        local url = "mysql://moonbase@" .. hosts:gsub("%%d", tostring(silent.port)) .. "/moonbase"
        local start = now()
        local late = refused("ConnectivityError", nil, url, { connect_timeout = 0.5 })
        local took = now() - start
        assert.is_true(took >= 0.49 and took < 1.5, tostring(took))
        assert.equal("TimeoutError", late.cause.class)
      end
      -- A host that is silent does not use up the time of those behind it.
      assert.equal("moonbase", ask(whoami,
        ("mysql://moonbase@127.0.0.1:%d,127.0.0.1:%d/moonbase"):format(silent.port, server.port),
        { connect_timeout = 4, password = mysql.password }))
    end)
  end)

  it("is made through a network that delivers in small pieces", function()
    through(function(slow)
      slow:tell "slice 11"
      local db = open(server:tcp_url(nil, { port = slow.port, tls = "off" }))
      assert.same({ 1, "x" }, { db:query_values("select 1, ?", "x") })
      assert.equal(100, #db:query_all(require "spec.support.mysql_quirks".sql.series, 100))
    end)
  end)

  describe("with TLS", function()
    it("is encrypted, or not, as is asked for", function()
      assert.are_not.equal("", cipher(server:tcp_url(nil, { tls = "require" })))
      assert.are_not.equal("", cipher(server:tcp_url(nil, { tls = "prefer" })))
      assert.equal("", cipher(server:tcp_url(nil, { tls = "off" })))
      assert.equal("", cipher(server:url()))
      assert.are_not.equal("", cipher(server:tcp_url(nil, { user = "encrypted",
        tls = "require" })))
      refused("PermissionError", nil, server:tcp_url(nil, { user = "encrypted", tls = "off" }))
      expect.raised("ConnectorValidationError", nil, moonbase.open,
        server:tcp_url(nil, { tls = "perhaps" }))
    end)

    it("is verified by the authority that is named, for the name of the host", function()
      local root, other = server:tls "root.crt", server:tls "other.crt"
      for _, host in ipairs { "localhost", "127.0.0.1" } do
        assert.are_not.equal("", cipher(server:tcp_url(nil, { host = host, tls = "verify",
          ssl_ca = root })))
        refused("ConnectivityError", nil, server:tcp_url(nil, { host = host, tls = "verify",
          ssl_ca = other }))
        -- Those of the system have not signed it.
        refused("ConnectivityError", nil, server:tcp_url(nil, { host = host, tls = "verify" }))
      end
    end)

    it("is verified by default for another host than this one", function()
      -- An address of this machine that is not its loopback.
      local address = assert(shell.must "hostname -I":match "%d+%.%d+%.%d+%.%d+")
      through(function(network)
        local given = { host = address, port = network.port }
        assert.match("tls", refused("ConnectivityError", nil, server:tcp_url(nil, given)).hint)
        given.tls = "require"
        assert.are_not.equal("", cipher(server:tcp_url(nil, given)))
        -- The certificate is of another name.
        given.tls, given.ssl_ca = "verify", server:tls "root.crt"
        refused("ConnectivityError", nil, server:tcp_url(nil, given))
        -- Without encryption a password is given away only where that was written.
        given.ssl_ca, given.tls = nil, "off"
        assert.equal("", cipher(server:tcp_url(nil, given)))
      end, "any")
    end)

    it("is refused by require where the server has none", function()
      local plain = mysql.start(server.is_mariadb and { "skip-ssl" } or { "tls-version=" })
      local ok, err = pcall(function()
        for _ = 1, 2 do
          assert.equal("moonbase", ask(whoami, plain:tcp_url(nil, { tls = "prefer" })))
          plain:sql "flush privileges"
          refused("ConnectivityError", nil, plain:tcp_url(nil, { tls = "require" }))
        end
        refused("ConnectivityError", nil, plain:tcp_url(nil, { tls = "verify",
          ssl_ca = plain:tls "root.crt" }))
      end)
      plain:close()
      if not ok then error(err, 0) end
    end)

    it("proves itself by a certificate", function()
      local given = { user = "certified", password = false, tls = "verify",
        ssl_ca = server:tls "root.crt", ssl_cert = server:tls "certified.crt",
        ssl_key = server:tls "certified.key" }
      assert.equal("certified", ask(whoami, server:tcp_url(nil, given)))
      given.ssl_cert, given.ssl_key = nil, nil
      refused("PermissionError", nil, server:tcp_url(nil, given))
    end)

    it("is none the worse for one that was lost before", function()
      local lost = open(server:tcp_url(nil, { tls = "require" })):connect()
      server:sql("kill connection " .. lost:query_value "select connection_id()")
      expect.raised("ConnectionLostError", nil, lost.exec, lost, "select 1")
      lost:close()
      local db = open(server:tcp_url(nil, { tls = "require" }))
      -- The answer is waited for.
      assert.equal(0, db:query_value "select sleep(0.05)")
    end)

    it("carries what is larger than the way takes at once, blocking and in event loops", function()
      local bytes = ("\0\255x'\\"):rep(4 * 2 ^ 20)
      local function check()
        local db = open(server:tcp_url(nil, { tls = "require" }))
        local conn = db:connect()
        conn:exec "create temporary table large (b longblob)"
        conn:exec("insert into large values (?)", moonbase.blob(bytes))
        assert.is_true(conn:query_value "select b from large" == bytes)
        conn:close()
      end
      check()
      local is_there, cqueues = pcall(require, "cqueues")
      if not is_there or not language.yields then return end
      local loop = cqueues.new()
      loop:wrap(check)
      assert(loop:loop())
    end)

    it("is cancelled over TLS too", function()
      local db = open(server:tcp_url(nil, { tls = "require" }))
      local conn = db:connect()
      local x = conn:with{ timeout = 0.05 }
      expect.raised("TimeoutError", nil, x.exec, x,
        require "spec.support.mysql_quirks".sql.endless)
      local _, value = conn:query_values "show session status like 'ssl_cipher'"
      assert.are_not.equal("", value)
    end)
  end)

  it("is refused for options that make no sense, before anything is sent", function()
    for _, given in ipairs { { port = 0 }, { port = 70000 }, { charset = "latin1" },
      { compress = "perhaps" }, { socket = "/tmp/x" }, { wsrep_sync_wait = 16 },
      { time_zone = "" } } do
      local ok, err = pcall(moonbase.open, "mysql://moonbase@127.0.0.1/moonbase", given)
      assert.is_false(ok, next(given))
      assert.equal("ConnectorValidationError", err.class)
    end
    expect.raised("ConnectorValidationError", "did you mean", moonbase.open,
      "mysql://moonbase@127.0.0.1/moonbase", { ssl_cat = "x" })
  end)

  it("reports the versions of both sides, and which database it is", function()
    local db = open(server:url())
    local can = db:capability()
    assert.equal("mysql", can.driver)
    assert.equal(server.is_mariadb and "MariaDB" or "MySQL", can.database)
    assert.equal(server.is_mariadb, can.server_version:find("MariaDB", 1, true) ~= nil)
    assert.equal(db:query_value "select version()":match "^[%d.]+",
      can.server_version:match "^[%d.]+")
    assert.match("^%d+%.%d+", can.library_version)
  end)
end)
