-- Connecting to PostgreSQL: every form of a URL, several hosts, who is let in, TLS.
local moonbase = require "moonbase"
local child = require "spec.support.child"
local expect = require "spec.support.expect"
local files = require "spec.support.files"
local now = require "moonbase.core".now
local postgres = require "spec.support.postgres"
local proxy = require "spec.support.proxy"
local shell = require "spec.support.shell"

local whoami = "select current_user::text"
local is_encrypted = "select ssl from pg_stat_ssl where pid = pg_backend_pid()"

describe("A connection to PostgreSQL", function()
  local server, opened

  before_each(function()
    server, opened = postgres.shared(), {}
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

  -- A port at which nobody listens.
  local function closed_port()
    local gone = proxy.start(server.port)
    gone:close()
    return gone.port
  end

  it("is made by a unix socket in the place of the host", function()
    assert.equal("moonbase", ask(whoami, server:url()))
    assert.is_true(ask("select inet_server_port() is null", server:url()))
  end)

  it("is made by host and port among the parameters, or in options", function()
    assert.equal("moonbase", ask(whoami, ("postgresql://moonbase@/moonbase?host=%s&port=%d"):format(
      server.folder, server.port)))
    assert.equal("moonbase", ask(whoami, { driver = "postgres", host = server.folder,
      port = server.port, user = "moonbase", database = "moonbase" }))
    assert.equal("moonbase", ask("select current_database()::text",
      ("postgres://%s:%d/moonbase"):format("127.0.0.1", server.port),
      { user = "moonbase", password = postgres.password }))
  end)

  it("is made over TCP, to a name, to an IPv4 address", function()
    for _, host in ipairs { "127.0.0.1", "localhost" } do
      assert.equal(server.port, ask("select inet_server_port()",
        server:tcp_url(nil, { host = host })))
    end
  end)

  it("proves itself by a password, which is nowhere to be seen", function()
    local db = open(server:tcp_url())
    assert.equal("moonbase", db:query_value(whoami))
    for _, text in ipairs { tostring(db), db:url(), tostring(db:connect()) } do
      assert.is_nil(text:find("ss w", 1, true))
      assert.is_nil(text:find("ss%20w", 1, true))
    end
    local err = refused("PermissionError", nil,
      server:tcp_url(nil, { password = "wrong p@ssword" }))
    assert.equal("28P01", err.code)
    assert.is_nil(tostring(err):find("p@ssword", 1, true))
    refused("PermissionError", nil, server:tcp_url(nil, { password = false }))
  end)

  it("takes the password from a file", function()
    local path = files.write(files.path "passwords", ("127.0.0.1:%d:moonbase:moonbase:%s\n"):format(
      server.port, (postgres.password:gsub("[\\:]", "\\%0"))))
    os.execute("chmod 600 '" .. path .. "'")
    assert.equal("moonbase", ask(whoami, server:tcp_url(nil,
      { password = false, passfile = path })))
  end)

  it("takes what it lacks from a service", function()
    local path = files.write(files.path "services", ([[
[library]
host=127.0.0.1
port=%d
user=moonbase
dbname=moonbase
application_name=from a service
]]):format(server.port))
    local output, status = child.run([[
      local db = require "moonbase".open("postgres://?service=library", { password = ... })
      print(db:query_values "select current_user::text, current_setting('application_name')")
      db:close()]], { postgres.password }, "export PGSERVICEFILE='" .. path .. "'")
    assert.equal("moonbase\tfrom a service\n", output)
    assert.equal(0, status)
  end)

  it("has a name, and the client's character set is UTF-8 whatever the environment says",
    function()
      assert.equal("a name", ask("select current_setting('application_name')",
        server:url(nil, { application_name = "a name" })))
      local output = child.run([[
        local db = require "moonbase".open(...)
        print(db:query_values "select current_setting('client_encoding'), '\226\130\172'")
        db:close()]], { server:url() }, "export PGCLIENTENCODING=LATIN1 PGTZ=Asia/Tokyo")
      assert.equal("UTF8\t\226\130\172\n", output)
    end)

  it("is in UTC, or in the zone that is asked for, also after it was lent", function()
    local show = "select current_setting('TimeZone')"
    assert.equal("UTC", ask(show, server:url()))
    local db = open(server:url(), { time_zone = "Asia/Tokyo", pool = { max = 1 } })
    for _ = 1, 3 do
      assert.equal("Asia/Tokyo", db:query_value(show))
      local conn = db:connect()
      conn:exec "set time zone 'America/Lima'"
      conn:close()
    end
    assert.equal(1, db:stats().created)
  end)

  it("writes dates and bytes in one way, whatever the role prefers", function()
    server:psql "alter role moonbase set datestyle = 'SQL, DMY'"
    server:psql "alter role moonbase set bytea_output = 'escape'"
    server:psql "alter role moonbase set extra_float_digits = 0"
    server:psql "alter role moonbase set intervalstyle = 'iso_8601'"
    local ok, err = pcall(function()
      local db = open(server:url())
      for _ = 1, 3 do
        assert.same({ "2026-11-21", "\0\255", 0.1 + 0.2, "2 days" }, { db:query_values(
          "select date '2026-11-21', '\\x00ff'::bytea, 0.1::float8 + 0.2::float8, "
          .. "interval '2 days'") })
      end
    end)
    server:psql "alter role moonbase reset all"
    if not ok then error(err, 0) end
  end)

  it("may be to the first of several hosts that answers", function()
    local closed = closed_port()
    local hosts = ("postgres://moonbase@127.0.0.1:%d,127.0.0.1:%d/moonbase"):format(closed,
      server.port)
    assert.equal("moonbase", ask(whoami, hosts, { password = postgres.password }))
    assert.equal("moonbase", ask(whoami, ("postgres://moonbase@127.0.0.1,%s:%d/moonbase"):format(
      server.folder:gsub("/", "%%2F"), server.port)))
    local err = refused("ConnectivityError", nil,
      ("postgres://moonbase@127.0.0.1:%d,127.0.0.1:%d/moonbase"):format(closed, closed))
    assert.is_nil(err.cause and err.cause.class == "TimeoutError" or nil)
  end)

  it("is not made to a name without an address, which libpq would look up again, and block",
    function()
      local err = refused("ConnectivityError", 'could not look up host "nowhere.invalid"',
        "postgres://moonbase@%2Fno%2Fsuch%2Ffolder,nowhere.invalid/moonbase")
      assert.is_nil(err.message:find("could not translate", 1, true), err.message)
      assert.equal("moonbase", ask(whoami, ("postgres://moonbase@nowhere.invalid,%s:%d/moonbase")
        :format(server.folder:gsub("/", "%%2F"), server.port)))
    end)

  it("may be to the host that has what is wanted", function()
    server:psql "alter role certified set default_transaction_read_only = on"
    local function url(target, user)
      return server:url(nil, { target_session_attrs = target }):gsub("moonbase@", user .. "@")
    end
    local ok, err = pcall(function()
      assert.equal("moonbase", ask(whoami, (url("read-write", "moonbase"))))
      assert.equal("moonbase", ask(whoami, (url("primary", "moonbase"))))
      assert.equal("certified", ask(whoami, (url("read-only", "certified"))))
      refused("ConnectivityError", nil, (url("read-write", "certified")))
      refused("ConnectivityError", nil, (url("standby", "moonbase")))
    end)
    server:psql "alter role certified reset all"
    if not ok then error(err, 0) end
    expect.raised("ConnectorValidationError", nil, moonbase.open, (url("sideways", "moonbase")))
  end)

  it("is refused where nobody listens, where there is no database, and to who may not",
    function()
      refused("ConnectivityError", nil, server:tcp_url(nil, { port = closed_port() }))
      refused("ConnectivityError", nil, "postgres://moonbase@%2Fno%2Fsuch%2Ffolder/moonbase")
      local db = open(server:url "missing")
      local ok, err = pcall(db.connect, db)
      assert.is_false(ok)
      assert.equal("3D000", err.code)
      db = open((server:url():gsub("moonbase@", "nobody@")))
      ok, err = pcall(db.connect, db)
      assert.is_false(ok)
      assert.equal("PermissionError", err.class)
      assert.equal("28000", err.code)
    end)

  it("is refused to one too many, which is no lost connection", function()
    server:psql "alter role certified connection limit 1"
    local url = server:url():gsub("moonbase@", "certified@")
    local db = open(url)
    local conn = db:connect()
    local ok, err = pcall(db.connect, db)
    server:psql "alter role certified connection limit -1"
    assert.is_false(ok)
    assert.equal("ResourceError", err.class)
    assert.equal("53300", err.code)
    assert.equal(1, conn:query_value "select 1")
  end)

  it("is given up when its time is over, that of all hosts together", function()
    local silent = proxy.start(server.port)
    silent:tell "stop"
    local ok, err = pcall(function()
      for _, hosts in ipairs { "127.0.0.1:%d", "127.0.0.1:%d,127.0.0.1:%d,127.0.0.1:%d" } do
        local url = "postgres://moonbase@" .. hosts:gsub("%%d", tostring(silent.port))
          .. "/moonbase"
        local start = now()
        local late = refused("ConnectivityError", nil, url, { connect_timeout = 0.3 })
        local took = now() - start
        assert.is_true(took >= 0.29 and took < 1, tostring(took))
        assert.equal("TimeoutError", late.cause.class)
      end
      -- A host that is silent does not use up the time of those behind it.
      assert.equal("moonbase", ask(whoami,
        ("postgres://moonbase@127.0.0.1:%d,127.0.0.1:%d/moonbase"):format(silent.port, server.port),
        { connect_timeout = 1, password = postgres.password }))
    end)
    silent:close()
    if not ok then error(err, 0) end
  end)

  it("is made through a network that delivers in small pieces", function()
    local slow = proxy.start(server.port)
    slow:tell "slice 11"
    local ok, err = pcall(function()
      local db = open(server:tcp_url(nil, { port = slow.port, tls = "off" }))
      assert.same({ 1, "x" }, { db:query_values("select 1, ?::text", "x") })
      assert.equal(100, #db:query_all "select i, 'text' from generate_series(1, 100) i")
    end)
    slow:close()
    if not ok then error(err, 0) end
  end)

  describe("with TLS", function()
    it("is encrypted by default over TCP, and not on a unix socket", function()
      assert.is_true(ask(is_encrypted, server:tcp_url()))
      assert.is_false(ask(is_encrypted, server:url()))
    end)

    it("is encrypted, or not, as is asked for", function()
      for _, word in ipairs { "require", "prefer" } do
        assert.is_true(ask(is_encrypted, server:tcp_url(nil, { tls = word })))
      end
      assert.is_false(ask(is_encrypted, server:tcp_url(nil, { tls = "off" })))
      assert.is_true(ask(is_encrypted, server:tcp_url(nil, { sslmode = "require" })))
      assert.is_false(ask(is_encrypted, server:tcp_url(nil, { sslmode = "disable" })))
      assert.is_true(ask(is_encrypted, server:tcp_url(nil, { user = "encrypted" })))
      refused("PermissionError", nil, server:tcp_url(nil, { user = "encrypted", tls = "off" }))
      expect.raised("ConnectorValidationError", nil, moonbase.open,
        server:tcp_url(nil, { tls = "perhaps" }))
    end)

    it("is verified by the authority that is named, for the name of the host", function()
      local root, other = server:tls "root.crt", server:tls "other.crt"
      for _, host in ipairs { "localhost", "127.0.0.1" } do
        assert.is_true(ask(is_encrypted, server:tcp_url(nil, { host = host, tls = "verify",
          sslrootcert = root })))
        assert.is_true(ask(is_encrypted, server:tcp_url(nil, { host = host,
          sslmode = "verify-full", sslrootcert = root })))
        refused("ConnectivityError", nil, server:tcp_url(nil, { host = host, tls = "verify",
          sslrootcert = other }))
      end
      refused("ConnectivityError", nil, server:tcp_url(nil, { host = "db.example",
        hostaddr = "127.0.0.1", tls = "verify", sslrootcert = root }))
      assert.is_true(ask(is_encrypted, server:tcp_url(nil, { host = "db.example",
        hostaddr = "127.0.0.1", sslmode = "verify-ca", sslrootcert = root })))
    end)

    it("is verified by default for another host than this one", function()
      -- An address of this machine that is not its loopback.
      local address = assert(shell.must "hostname -I":match "%d+%.%d+%.%d+%.%d+")
      local network = proxy.start(server.port, "any")
      local given = { host = address, port = network.port }
      local ok, err = pcall(function()
        assert.match("tls", refused("ConnectivityError", nil, server:tcp_url(nil, given)).hint)
        given.tls = "require"
        assert.is_true(ask(is_encrypted, server:tcp_url(nil, given)))
        -- The certificate is of another name.
        given.tls, given.sslrootcert = "verify", server:tls "root.crt"
        refused("ConnectivityError", nil, server:tcp_url(nil, given))
        -- Without encryption a password is given away only where that was written.
        given.sslrootcert, given.tls = nil, "off"
        assert.is_false(ask(is_encrypted, server:tcp_url(nil, given)))
      end)
      network:close()
      if not ok then error(err, 0) end
    end)

    it("proves itself by a certificate", function()
      local given = { user = "certified", password = false, tls = "verify",
        sslrootcert = server:tls "root.crt", sslcert = server:tls "certified.crt",
        sslkey = server:tls "certified.key" }
      assert.equal("certified", ask(whoami, server:tcp_url(nil, given)))
      given.sslcert, given.sslkey = nil, nil
      refused("PermissionError", nil, server:tcp_url(nil, given))
    end)

    it("is cancelled over TLS too", function()
      local db = open(server:tcp_url(nil, { tls = "require" }))
      local conn = db:connect()
      local x = conn:with{ timeout = 0.05 }
      expect.raised("TimeoutError", nil, x.query, x, "select pg_sleep(10)")
      assert.is_true(conn:query_value(is_encrypted))
    end)
  end)

  it("is refused for options that make no sense, before anything is sent", function()
    for _, given in ipairs { { port = 0 }, { port = 70000 }, { target_session_attrs = "none" },
      { keepalives = "perhaps" } } do
      local ok, err = pcall(moonbase.open, "postgres://moonbase@127.0.0.1/moonbase", given)
      assert.is_false(ok)
      assert.equal("ConnectorValidationError", err.class)
    end
    expect.raised("ConnectorValidationError", "did you mean", moonbase.open,
      "postgres://moonbase@127.0.0.1/moonbase", { sslmod = "require" })
  end)

  it("reports the versions of both sides", function()
    local db = open(server:url())
    local can = db:capability()
    assert.equal("postgres", can.driver)
    assert.equal("PostgreSQL", can.database)
    assert.equal(db:query_value "select split_part(current_setting('server_version'), ' ', 1)",
      can.server_version:match "^[%w.]+")
    assert.match("^%d+%.%d+", can.library_version)
  end)
end)
