-- How a password is proved to MySQL and MariaDB: each of the methods that the server has, on
-- each way to it.
local moonbase = require "moonbase"
local child = require "spec.support.child"
local expect = require "spec.support.expect"
local files = require "spec.support.files"
local mysql = require "spec.support.mysql"
local shell = require "spec.support.shell"

local whoami = "select substring_index(current_user(), '@', 1)"

describe("A password of MySQL", function()
  local server, ways

  before_each(function()
    server = mysql.shared()
    ways = {
      socket = function(given) return server:url(nil, given) end,
      plain = function(given)
        given.tls = "off"
        return server:tcp_url(nil, given)
      end,
      encrypted = function(given)
        given.tls = "require"
        return server:tcp_url(nil, given)
      end,
      verified = function(given)
        given.tls, given.ssl_ca = "verify", server:tls "root.crt"
        return server:tcp_url(nil, given)
      end,
    }
  end)

  after_each(function()
    server:sql "drop user if exists proved@'%'"
    files.clean()
  end)

  -- Whether the server has a method, which may have to be loaded first.
  local function has(method)
    return server:sql(("select count(*) from information_schema.plugins where plugin_name = '%s' "
      .. "and plugin_status = 'ACTIVE'"):format(method)) == "1\n"
  end

  local function create(how)
    server:sql(("create user proved@'%%' %s; grant all on moonbase.* to proved@'%%'"):format(
      how:format(mysql.password)))
  end

  -- A URL of the user; password: nil for the right one.
  local function url_of(way, password)
    if way ~= "socket" then return ways[way] { user = "proved", password = password } end
    local url = server:tcp_url(nil, { user = "proved", password = password,
      host = server.socket:gsub("/", "%%2F") })
    return (url:gsub(":%d+/moonbase", "/moonbase"))
  end

  local function ask(url, given)
    local db = moonbase.open(url, given)
    local ok, value = pcall(db.query_value, db, whoami)
    db:close()
    if not ok then error(value, 0) end
    return value
  end

  local function is_refused(way, password)
    local err = expect.raised("PermissionError", nil, ask, url_of(way, password))
    assert.equal(1045, err.native_code)
    assert.equal("28000", err.code)
  end

  -- Lets in who knows it by every way, again and again, and nobody else.
  local function check_all_ways()
    for way in pairs(ways) do
      for _ = 1, 2 do assert.equal("proved", ask(url_of(way)), way) end
      is_refused(way, "wrong")
      is_refused(way, mysql.password .. "x")
      is_refused(way, false)
      assert.equal("proved", ask(url_of(way)), way)
    end
  end

  it("is proved by the method that new users have", function()
    create "identified by '%s'"
    check_all_ways()
  end)

  it("is proved by mysql_native_password, where the server has that", function()
    if has "mysql_native_password" then
      create(server.is_mariadb and "identified via mysql_native_password using password('%s')"
        or "identified with mysql_native_password by '%s'")
      check_all_ways()
    else
      local _, status = server:run "create user proved@'%' identified with mysql_native_password"
      assert.are_not.equal(0, status)
    end
  end)

  it("is proved by ed25519, where the server has that", function()
    local folder = server:sql "select @@plugin_dir":gsub("\n$", "")
    if not server.is_mariadb or not files.exists(folder .. "/auth_ed25519.so") then
      local _, status = server:run "create user proved@'%' identified with ed25519"
      assert.are_not.equal(0, status)
      return
    end
    server:sql "install soname 'auth_ed25519'"
    local ok, err = pcall(function()
      create "identified via ed25519 using password('%s')"
      check_all_ways()
    end)
    server:sql "drop user if exists proved@'%'; uninstall soname 'auth_ed25519'"
    if not ok then error(err, 0) end
  end)

  -- PAM's method, and MySQL's at a first login, send it as it is where they take the connection
  -- for encrypted.
  it("is not sent where TLS was asked for, and the server has none", function()
    local open = mysql.start(server.is_mariadb and { "skip-ssl" } or { "tls-version=" })
    local ok, err = pcall(function()
      local folder = open:sql "select @@plugin_dir":gsub("\n$", "")
      local given = { user = "moonbase" }
      if open.is_mariadb and files.exists(folder .. "/auth_pam_v1.so") then
        open:sql [[install soname 'auth_pam_v1'; create user asked@'%' identified via pam;
          grant all on moonbase.* to asked@'%']]
        given.user = "asked"
      end
      for _, tls in ipairs { "require", "verify" } do
        given.tls, given.ssl_ca = tls, tls == "verify" and open:tls "root.crt" or nil
        local refused = expect.raised("ConnectivityError", nil, ask, open:tcp_url(nil, given))
        assert.are_not.equal(1045, refused.native_code)
      end
      given.tls, given.ssl_ca = "prefer", nil
      if given.user == "asked" then
        -- It comes as far as PAM, which knows nobody of that name.
        expect.raised("PermissionError", nil, ask, open:tcp_url(nil, given))
      else
        assert.equal("moonbase", ask(open:tcp_url(nil, given)))
      end
    end)
    open:close()
    if not ok then error(err, 0) end
  end)

  describe("of caching_sha2_password", function()
    -- The server forgets whom it has let in: the next login is a first one.
    local function forget()
      server:sql "flush privileges"
    end

    -- Over TCP and without TLS; given: what is there of a key.
    local function plain_url(password)
      return (server:tcp_url(nil, { user = "proved", password = password, tls = "off" }):gsub(
        "get_server_public_key=true&?", ""))
    end

    -- Whether the server has the method, with the user; where not, that it says so.
    local function begin()
      if has "caching_sha2_password" then
        create "identified with caching_sha2_password by '%s'"
        return true
      end
      local _, status = server:run "create user proved@'%' identified via caching_sha2_password"
      assert.are_not.equal(0, status)
    end

    -- It is not sent, and the error says what is missing.
    local function is_held_back(password)
      local err = expect.raised("ConnectivityError", "secure connection", ask, plain_url(password))
      assert.equal(2061, err.native_code)
      assert.match("get_server_public_key", err.hint)
    end

    -- Connector/C asks for the server's key by itself.
    local function wants_key()
      local db = moonbase.open(server:url())
      local library = db:capability().library_version
      db:close()
      return library:match "^3%." == nil
    end

    it("goes to the server once, by TLS, a socket or the server's key, and then its hash does",
      function()
        if not begin() then return end
        for way in pairs(ways) do
          forget()
          if wants_key() then is_held_back() end
          is_refused(way, "wrong")
          assert.equal("proved", ask(url_of(way)), way)
          -- Now neither TLS nor a key is needed.
          for _ = 1, 2 do assert.equal("proved", ask(plain_url()), way) end
          -- Of another hash the server wants to see the password.
          if wants_key() then is_held_back "wrong" end
        end
        check_all_ways()
      end)

    -- In a process of its own, for a library may keep the key that it has read first.
    local function ask_with_key(path)
      forget()
      return (child.run([[
        local db = require "moonbase".open((...), { server_public_key = select(2, ...) })
        local ok, value = pcall(db.query_value, db, select(3, ...))
        print(ok and value or value.class)
        db:close()]], { plain_url(), path, whoami }))
    end

    it("goes encrypted with the server's key, where that is there as a file", function()
      if not begin() then return end
      local key = server:sql "show status like 'Caching_sha2_password_rsa_public_key'":match
        "%-%-%-%-%-BEGIN.*"
      local good = files.write(files.path "good.pem", (key:gsub("\\n", "\n")))
      local other = files.path "other.pem"
      shell.must("openssl genrsa 2048 2>/dev/null | openssl rsa -pubout -out " .. shell.quote(other)
        .. " 2>/dev/null")
      assert.equal("proved\n", ask_with_key(good))
      assert.equal("PermissionError\n", ask_with_key(other))
      assert.equal("ConnectivityError\n", ask_with_key(files.path "missing.pem"))
    end)

    it("that was changed is asked for again", function()
      if not begin() then return end
      assert.equal("proved", ask(url_of "encrypted"))
      assert.equal("proved", ask(plain_url()))
      server:sql "alter user proved@'%' identified by 'another'"
      is_refused("encrypted")
      assert.equal("proved", ask(url_of("encrypted", "another")))
      assert.equal("proved", ask(plain_url "another"))
    end)
  end)
end)
