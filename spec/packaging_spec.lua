local lfs = require "lfs"

local files = require "spec.support.files"
local language = require "spec.support.language"

local version = _VERSION:match "%d.%d"

-- What these cases build has folders of its own.
local suffix = os.getenv "SUFFIX" or ""

local function quote(text)
  return "'" .. text:gsub("'", "'\\''") .. "'"
end

-- The files below a folder whose paths match, each with another beginning, sorted.
local function list(folder, pattern, beginning)
  local found = {}
  local function walk(below)
    for name in lfs.dir(folder .. below) do
      local path = below .. "/" .. name
      if lfs.symlinkattributes(folder .. path, "mode") ~= "directory" then
        if path:find(pattern or "") then found[#found + 1] = (beginning or "") .. path end
      elseif name ~= "." and name ~= ".." then
        walk(path)
      end
    end
  end
  walk ""
  table.sort(found)
  return found
end

-- The drivers that these specs run with, whose libraries are here; fault needs none.
local drivers = {}
for name in lfs.dir "drivers" do
  if name ~= "fault" and pcall(require, "moonbase.driver." .. name) then
    drivers[#drivers + 1] = name
  end
end
table.sort(drivers)
local chosen = "DRIVERS=" .. quote(table.concat(drivers, " "))

describe("an installation", function()
  local prefix, home

  before_each(function()
    prefix, home = files.folder(), files.folder()
  end)

  after_each(files.clean)

  -- Runs a command with nothing in its environment that leads into the checkout; one at a time,
  -- also where another Lua runs the same specs.
  local function run(command, folder)
    local line = ("( flock 9 2>/dev/null; cd %s && env -i PATH=\"$PATH\" HOME=%s MAKEFLAGS=-j2 %s "
      .. ") 9>build/packaging.lock 2>&1; echo \"status $?\""):format(quote(folder or "."),
      quote(home), command)
    local pipe = assert(io.popen(line, "r"))
    local output = pipe:read "*a"
    pipe:close()
    return output:match "^(.-)status (%d+)\n$"
  end

  local function must(command, folder)
    local output, status = run(command, folder)
    if status ~= "0" then error(command .. "\n" .. output, 2) end
    return output
  end

  local function luarocks(words, environment)
    return must(("SUFFIX=%s-rock %s %s luarocks --lua-version %s --tree %s %s"):format(suffix,
      chosen, environment or "", version, quote(prefix), words))
  end

  local function make(words)
    return must(("make SUFFIX=%s-installed %s LUA=%s PREFIX=%s %s"):format(suffix, chosen,
      language.command, quote(prefix), words))
  end

  -- A Lua that finds the installed modules and no others.
  local function lua(words)
    local share, lib = prefix .. "/share/lua/" .. version, prefix .. "/lib/lua/" .. version
    return must(("LUA_PATH=%s LUA_CPATH=%s %s %s"):format(
      quote(share .. "/?.lua;" .. share .. "/?/init.lua"), quote(lib .. "/?.so"),
      language.command, words), home)
  end

  local function has_modules()
    assert.same(list("lua", "", "/share/lua/" .. version), list(prefix, "^/share/lua"))
    local modules = { "/lib/lua/" .. version .. "/moonbase/core.so",
      "/lib/lua/" .. version .. "/moonbase/driver/fault.so" }
    for _, name in ipairs(drivers) do
      modules[#modules + 1] = "/lib/lua/" .. version .. "/moonbase/driver/" .. name .. ".so"
    end
    assert.same(modules, list(prefix, "^/lib/lua/"))
    assert.equal("42\n", lua("-e " .. quote [[
      print(require("moonbase").open("sqlite::memory:"):query_value("select 6 * 7"))]]))
  end

  local query = quote "sqlite::memory:" .. " " .. quote "select 6 * 7 as answer"

  it("by LuaRocks is whole, works, and leaves nothing behind", function()
    luarocks "make"
    has_modules()
    assert.equal("answer\r\n42\r\n",
      must(quote(prefix .. "/bin/moonbase") .. " query --format csv " .. query, home))
    luarocks "remove moonbase"
    local manifest = "/lib/luarocks/rocks-" .. version .. "/manifest"
    assert.same({ manifest }, list(prefix))
    assert.not_matches("moonbase", files.read(prefix .. manifest))
  end)

  it("by LuaRocks is built as its variables say", function()
    local headers, sqlite = home .. "/headers", home .. "/sqlite"
    must("mkdir -p " .. headers .. " " .. sqlite .. "/include")
    files.write(sqlite .. "/include/sqlite3.h", "")
    -- LuaRocks looks into it for its own version.
    files.write(headers .. "/lua.h", ('#define LUA_VERSION_NUM %d\n'):format(
      version:gsub("%.", "0")))
    -- With -n, make says what it would do.
    local said = luarocks(("make CC=mycc CFLAGS=-DMINE LIBFLAG=-mine LUA_INCDIR=%s SQLITE_DIR=%s")
      :format(headers, sqlite), "V=1 MAKEFLAGS=-n")
    local has = {
      ["src/core/pool.c"] = { "-DMINE" },
      ["src/lua/call.c"] = { "-DMINE", "-I" .. headers },
      ["drivers/sqlite/error.c"] = { "-DMINE", "-I" .. sqlite .. "/include" },
      ["moonbase/core.so"] = { "-mine", "-DMINE" },
      ["moonbase/driver/sqlite.so"] = { "-mine", "-L" .. sqlite .. "/lib", "-lsqlite3" },
    }
    for file, words in pairs(has) do
      local line = assert(said:match("\n(mycc [^\n]*" .. file:gsub("%p", "%%%0") .. "[^\n]*)"))
      for _, word in ipairs(words) do
        assert.truthy((line .. " "):find(" " .. word .. " ", 1, true), file .. ": " .. word)
      end
    end
  end)

  it("by make is whole, works, and leaves nothing behind", function()
    make "install"
    has_modules()
    local command = quote(prefix .. "/bin/moonbase")
    assert.equal("answer\r\n42\r\n", lua(command .. " query --format csv " .. query))
    make "uninstall"
    assert.same({}, list(prefix))
  end)

  it("by make can be gathered in another folder", function()
    local gathered = home .. "/gathered"
    make("install DESTDIR=" .. quote(gathered))
    assert.same({}, list(prefix))
    assert.truthy(files.exists(gathered .. prefix .. "/bin/moonbase"))
    assert.matches("^prefix=" .. prefix:gsub("%p", "%%%0") .. "\n",
      files.read(gathered .. prefix .. "/lib/pkgconfig/moonbase.pc"))
    make("uninstall DESTDIR=" .. quote(gathered))
    assert.same({}, list(gathered))
  end)

  it("serves programs in C, with shared and with static libraries", function()
    files.write(home .. "/answer.c", [[
      #include <moonbase/moonbase.h>
      #include <moonbase/sqlite.h>
      #include <stdio.h>
      int main(void)
      {
        static mb_error error;
        mb_pool *pool;
        mb_conn *conn;
        mb_stmt *stmt;
        const mb_value *row;
        if (mb_pool_open(mb_driver_sqlite(), "sqlite::memory:", NULL, 0, &pool, &error) != MB_OK ||
            mb_pool_acquire(pool, NULL, 0, &conn, &error) != MB_OK ||
            mb_conn_statement(conn, "select 6 * 7", 12, 0, &stmt, &error) != MB_OK ||
            mb_stmt_run(&stmt, NULL, NULL, 0, NULL, &error) != MB_ROW ||
            mb_stmt_fetch(stmt, &row, &error) != MB_ROW)
          return 1;
        printf("%d\n", (int)row[0].as.integer);
        mb_conn_release(conn);
        mb_pool_close(pool, 0);
        return 0;
      }
    ]])
    local function answer(options)
      must(([[sh -c 'cc answer.c -o answer $(
        PKG_CONFIG_PATH=%s/lib/pkgconfig pkg-config --cflags --libs %s moonbase-sqlite)']])
        :format(prefix, options), home)
      return must("LD_LIBRARY_PATH=" .. quote(prefix .. "/lib") .. " ./answer", home)
    end
    make "install-c"
    assert.equal("42\n", answer "")
    must("sh -c 'rm " .. prefix .. "/lib/*.so*'")
    assert.equal("42\n", answer "--static")
    make "uninstall"
    assert.same({}, list(prefix))
  end)

  it("goes without a driver whose library is missing", function()
    local output, status = run([[make drivers known_drivers="sqlite other" name_other=OTHER \
      header_other=other.h pkg_other=no-such-library package_other=libother-dev]])
    assert.equal("0", status)
    assert.equal("Driver other is left out: neither OTHER_DIR nor pkg-config leads to other.h "
      .. "(Debian: libother-dev).\n", output)
  end)

  it("needs one driver at least, and every driver that is named", function()
    local output, status = run("PKG_CONFIG_LIBDIR=" .. quote(home) .. " make drivers")
    assert.equal("2", status)
    assert.matches("Driver sqlite is left out: .*libsqlite3%-dev.*No driver can be built", output)
    output, status = run "make drivers DRIVERS='sqlite nosuch'"
    assert.equal("2", status)
    assert.matches("Driver nosuch is left out: there is none", output)
  end)
end)
