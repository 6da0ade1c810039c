local moonbase = require "moonbase"
local files = require "spec.support.files"

-- What these cases build has folders of its own.
local suffix = (os.getenv "SUFFIX" or "") .. "-installed"

local function quote(text)
  return "'" .. text:gsub("'", "'\\''") .. "'"
end

-- Runs a command with nothing in its environment that watches it; gives its output and status.
-- One at a time, also where another Lua runs the same specs.
local function run(command)
  local pipe = assert(io.popen(('( flock 9 2>/dev/null; env -i PATH="$PATH" MAKEFLAGS=-j2 %s )'
    .. ' 9>build/packaging.lock 2>&1; echo "status $?"'):format(command), "r"))
  local output = pipe:read "*a"
  pipe:close()
  local written, status = output:match "^(.-)status (%d+)\n$"
  return written, tonumber(status)
end

local function must(command)
  local written, status = run(command)
  if status ~= 0 then error(command .. "\n" .. written, 2) end
  return written
end

local stock = "refused: not_less_than_none\n"
  .. "  6 ink, shelf ?\n"
  .. " 40 paper, shelf B7\n"
  .. "120 pen, shelf A1\n"

describe("examples/capi.c", function()
  local prefix, folder

  before_each(function()
    prefix, folder = files.folder(), files.folder()
    must(("make SUFFIX=%s PREFIX=%s install-c"):format(quote(suffix), quote(prefix)))
  end)

  after_each(files.clean)

  -- Compiles it against what was installed.
  local function compile(options)
    must(("sh -c %s"):format(quote(
      ("cc -std=c11 -Wall -Wextra -Wpedantic -Werror examples/capi.c -o %s/capi "
        .. "$(PKG_CONFIG_PATH=%s/lib/pkgconfig pkg-config --cflags --libs %s moonbase-sqlite)")
        :format(folder, prefix, options))))
  end

  local function capi(url)
    return run(("LD_LIBRARY_PATH=%s %s %s"):format(quote(prefix .. "/lib"),
      quote(folder .. "/capi"), quote(url)))
  end

  it("works with the shared libraries", function()
    compile ""
    local written, status = capi "sqlite::memory:"
    assert.equal(stock, written)
    assert.equal(0, status)
    assert.truthy(must("ldd " .. quote(folder .. "/capi")):find("libmoonbase", 1, true))
  end)

  it("works with the static libraries", function()
    must(("sh -c %s"):format(quote("rm " .. prefix .. "/lib/*.so*")))
    compile "--static"
    local written, status = capi "sqlite::memory:"
    assert.equal(stock, written)
    assert.equal(0, status)
    assert.falsy(must("ldd " .. quote(folder .. "/capi")):find("libmoonbase", 1, true))
  end)

  it("leaves in the file what it has committed, and says what goes wrong", function()
    compile ""
    local url = "sqlite:" .. folder .. "/stock.db"
    assert.equal(stock, (capi(url)))
    local db = moonbase.open(url)
    assert.same({ "ink", "paper", "pen" }, db:query_column "select name from article order by name")
    db:close()

    local written, status = capi(url)
    assert.equal("SyntaxError: table article already exists\n", written)
    assert.equal(1, status)
    written, status = capi "sqlite:/no/such/folder/stock.db"
    assert.equal("ConnectivityError: unable to open database file\n", written)
    assert.equal(1, status)
    written = capi "sqlite:stock.db?timeot=1"
    assert.truthy(written:find('did you mean "timeout"?', 1, true))
  end)
end)
