local commands = require "moonbase.commands"
local core = require "moonbase.core"
local moonbase = require "moonbase"
local lfs = require "lfs"
local files = require "spec.support.files"
local language = require "spec.support.language"
local markdown = require "spec.support.markdown"
local program = require "spec.support.program"

local check_output, expected_output = markdown.check_output, markdown.expected_output
local program_of, run, select_blocks = markdown.program_of, markdown.run, markdown.select_blocks

local function shell(command)
  assert.truthy(os.execute(command), command)
end

-- Compiles a C program with the core and the SQLite driver.
local function compile(source, folder)
  assert(lfs.mkdir(folder .. "/moonbase"))
  for name, from in pairs { moonbase = "src/moonbase.h", driver = "src/driver.h",
    sqlite = "drivers/sqlite/driver.h" } do
    files.write(("%s/moonbase/%s.h"):format(folder, name),
      (files.read(from):gsub('"%.%./%.%./src/', '"')))
  end
  files.write(folder .. "/program.c", source)
  local sources = {}
  for _, layer in ipairs { "src/core", "drivers/sqlite" } do
    for name in lfs.dir(layer) do
      if name:find "%.c$" and name ~= "module.c" then
        sources[#sources + 1] = layer .. "/" .. name
      end
    end
  end
  shell(("env -u LD_PRELOAD %s -std=c11 -D_POSIX_C_SOURCE=200809L -Wall -Wextra -Werror -I%s "
    .. "$(pkg-config --cflags sqlite3) -o %s/program %s/program.c %s $(pkg-config --libs sqlite3) "
    .. "-lm -lpthread"):format(os.getenv "CC" or "cc", folder, folder, folder,
    table.concat(sources, " ")))
end

describe("the documentation", function()
  after_each(files.clean)

  it("has a first program that works", function()
    local blocks = select_blocks("README.md", "lua")
    assert.equal(1, #blocks)
    check_output(expected_output(blocks), run("README.md", program_of(blocks), files.folder()))
    assert.is_true(#blocks[1].lines <= 12)
  end)

  describe("in its guide", function()
    local path = "doc/guide.md"

    it("has examples that are a program that works", function()
      local blocks = select_blocks(path, "lua", language.closing and "lua 5.4" or nil)
      assert.is_true(#blocks > 30)
      local folder = files.folder()
      check_output(expected_output(blocks), run(path, program_of(blocks), folder))

      -- What is said of C goes on with the file that this has left.
      local source, output = select_blocks(path, "c"), select_blocks(path, "text")
      assert.equal(1, #source)
      compile(table.concat(source[1].lines, "\n") .. "\n", folder)
      shell(("cd %s && ./program >output"):format(folder))
      assert.equal(table.concat(output[1].lines, "\n") .. "\n", files.read(folder .. "/output"))
    end)

    it("has every class of errors below its parent", function()
      local seen, above = {}, {}
      for indent, name in files.read(path):gmatch "\n    ( *)(%u%a+Error)%f[%A]" do
        local depth = #indent / 2
        above[depth] = name
        assert.equal(depth > 0 and above[depth - 1] or name, core.classes[name], name)
        seen[name] = true
      end
      for name in pairs(core.classes) do assert.is_true(seen[name], name) end
    end)

    it("has the classes of SQLite's codes as the driver has them", function()
      local source = files.read "drivers/sqlite/error.c"
      local classes = {}
      for name, constant in source:gmatch "CODE%((SQLITE_[%w_]+), (MB_[%u_]+)," do
        classes[name] = constant
      end
      local constants = {}
      for constant, name in files.read "src/driver.h":gmatch 'X%((MB_[%u_]+), "(%a+)",' do
        constants[name] = constant
      end
      local checked = 0
      for class, codes in files.read(path):gmatch "\n| (%u%a+Error)[^|]*| ([^\n]*) |" do
        for code, star in codes:gmatch "`(SQLITE_[%u_]-)_?(%*?)`" do
          for name, constant in pairs(classes) do
            local same = name == code or star == "*" and name:sub(1, #code) == code
            -- These mean different things at different times; the rest is as the table says.
            if same and name ~= "SQLITE_INTERRUPT" and name ~= "SQLITE_BUSY"
              and name ~= "SQLITE_IOERR_NOMEM" then
              assert.equal(constants[class], constant, name)
              checked = checked + 1
            end
          end
        end
      end
      assert.is_true(checked > 60)
    end)
  end)

  describe("in its page on commands", function()
    local path = "doc/commands.md"

    it("has examples that are a program that works", function()
      local blocks = select_blocks(path, "lua")
      assert.is_true(#blocks > 10)
      check_output(expected_output(blocks), run(path, program_of(blocks), files.folder()))
    end)

    it("has the table of keys as it is created", function()
      local lines = select_blocks(path, "sql")[1].lines
      local columns = {}
      for i = 2, #lines - 1 do columns[i - 1] = lines[i]:match "^%s*(.*)$" end
      local db = moonbase.open "sqlite::memory:"
      commands.executor(db):execute({ function() end }, { key = "k" })
      local text = db:query_value "select sql from sqlite_schema where name like '%command_keys'"
      assert.truthy(text:find("(" .. table.concat(columns, " ") .. ")", 1, true), text)
      db:close()
    end)
  end)

  it("has examples in its page on testing that are a program that works", function()
    local path = "doc/testing.md"
    local blocks = select_blocks(path, "lua")
    assert.is_true(#blocks > 5)
    check_output(expected_output(blocks), run(path, program_of(blocks), files.folder()))
  end)

  describe("in its reference", function()
    local text = files.read "doc/api.md"

    -- Whether a heading or a table names a function with its arguments, as `x:exec(`.
    local function has(name)
      return text:find("`" .. name .. "[(`]") ~= nil
    end

    it("has every function of the module", function()
      for name, value in pairs(moonbase) do
        if name ~= "sql" then assert.is_true(has("moonbase%." .. name), name) end
        assert.truthy(type(value) ~= "nil")
      end
      for name in pairs(moonbase.sql) do assert.is_true(has("sql%." .. name), name) end
      for _, module in ipairs { "sqlite", "commands", "metrics", "testing" } do
        for name in pairs(require("moonbase." .. module)) do
          assert.is_true(has(module .. "%." .. name), name)
        end
      end
      local executor = commands.executor(moonbase.open "sqlite::memory:")
      local fault = require "moonbase.testing".fault(moonbase.open "fault+sqlite::memory:")
      for prefix, object in pairs { executor = executor, fault = fault } do
        for name, value in pairs(getmetatable(object)) do
          if type(value) == "function" and name:sub(1, 2) ~= "__" then
            assert.is_true(has(prefix .. ":" .. name), name)
          end
        end
      end
    end)

    local prefixes = { Database = { "x", "db" }, Connection = { "x", "conn" },
      Transaction = { "x", "tx" }, Statement = { "statement" }, Rows = { "rows" },
      Cancellation = { "stop" } }

    for kind, methods in pairs(core.methods) do
      it("has every method of a " .. kind, function()
        for name, value in pairs(methods) do
          local separator = type(value) == "function" and ":" or "%."
          local found = false
          for _, prefix in ipairs(prefixes[kind]) do
            found = found or has(prefix .. separator .. name)
          end
          assert.is_true(found, name)
        end
      end)
    end

    it("has every option of open", function()
      for _, source in ipairs { "src/core/connector.c", "drivers/sqlite/connector.c" } do
        for name in files.read(source):gmatch '{"([%a_%d]+)", MB_OPTION_' do
          assert.truthy(text:find("\n| [^|\n]*`" .. name .. "`[^|\n]* |"), name)
        end
      end
    end)

    it("has every field of errors and every count", function()
      for field in files.read "lua/moonbase/meta/tables.lua":match "class moonbase%.Error\n(.-)\n\n"
        :gmatch "@field ([%a_]+)" do
        assert.truthy(text:find("`" .. field .. "`", 1, true), field)
      end
      local definitions = files.read "lua/moonbase/meta/tables.lua"
      for field in definitions:match "class moonbase%.Event\n(.-)\n\n"
        :gmatch '@field %[?"?([%a_.]+)' do
        assert.truthy(text:find("`" .. field .. "`", 1, true), field)
      end
      for name in pairs(core.events) do
        assert.truthy(text:find("\n| `" .. name .. "` |", 1, true), name)
      end
      local db = moonbase.open "sqlite::memory:"
      for name in pairs(db:stats()) do
        assert.truthy(text:find("`" .. name .. "`", 1, true), name)
      end
      for name in pairs(db:capability()) do
        assert.truthy(text:find("`" .. name .. "`", 1, true), name)
      end
      db:close()
    end)
  end)

  describe("for those who write a driver", function()
    local text = files.read "doc/drivers.md"
    local header = files.read "src/driver.h"

    -- The members of a struct, function pointers among them.
    local function members_of(name)
      local body = header:match("struct " .. name .. " (%b{})"):gsub("/%*.-%*/", "")
      local list = {}
      for declaration in body:gmatch "[^;{}]+;" do
        local pointer = declaration:match "%(%*([%l_]+)%)"
        if pointer then
          list[#list + 1] = pointer
        else
          for member in declaration:gmatch "([%a_%d]+)%s*%f[,;[]" do list[#list + 1] = member end
        end
      end
      return list
    end

    for name, least in pairs { mb_driver = 50, mb_host = 10, mb_lexical = 14, mb_capability = 40,
      mb_connector_info = 6, mb_connect_args = 4, mb_column = 5, mb_result = 9, mb_prepared = 6,
      mb_execute_options = 1, mb_begin = 4, mb_batch = 4, mb_op = 4, mb_wait = 4, mb_event = 4,
      mb_callback = 5, mb_array = 4, mb_option_spec = 3, mb_option = 2 } do
      it("has every member of " .. name, function()
        local members = members_of(name)
        assert.is_true(#members >= least, name .. " has " .. #members)
        for _, member in ipairs(members) do
          assert.truthy(text:find("`" .. member .. "`", 1, true), member)
        end
      end)
    end
  end)

  describe("of the architecture", function()
    local text = files.read "doc/architecture.md"

    -- What is said of a folder: from the line that begins with it to the next such line.
    local function part_of(folder)
      local _, first = text:find("\n`" .. folder .. "/`", 1, true)
      local last = text:find("\n`[%w/]+/`", first + 1) or text:find("\n## ", first + 1)
      return text:sub(first + 1, last)
    end

    for _, folder in ipairs { "src", "src/core", "src/lua", "drivers/sqlite", "drivers/fault",
      "lua/moonbase" } do
      it("names every file of " .. folder .. ", and no other", function()
        local part = part_of(folder)
        for name in lfs.dir(folder) do
          -- A header and its file are one.
          local stem = name:match "^([%w_]+)%.[ch]$" or name:match "^([%w_]+)%.lua$"
          if stem then assert.truthy(part:find("`" .. stem .. "%.%l+`"), name) end
        end
        for name in part:gmatch "`([%w_/]+%.[%l.]+)`" do
          assert.truthy(lfs.attributes(folder .. "/" .. name), name)
        end
      end)
    end
  end)

  local pages = { "README.md", "CHANGELOG.md", "doc/guide.md", "doc/commands.md",
    "doc/postgres.md", "doc/mysql.md", "doc/testing.md", "doc/api.md",
    "doc/architecture.md", "doc/drivers.md" }

  -- How GitHub makes an anchor of a heading.
  local function anchor_of(heading)
    return (heading:lower():gsub("[^%w_ \128-\255-]", ""):gsub(" ", "-"))
  end

  for _, page in ipairs(pages) do
    it("leads only to what is there: " .. page, function()
      local folder = page:match "^(.*/)" or ""
      for target in files.read(page):gmatch "%]%(([^)%s]+)%)" do
        if not target:find "^https?:" then
          local path, anchor = target:match "^([^#]*)#?(.*)$"
          path = path == "" and page or folder .. path
          assert.truthy(lfs.attributes(path), target)
          local found = anchor == ""
          for line in io.lines(path) do
            local heading = line:match "^#+ (.+)$"
            found = found or heading and anchor_of(heading) == anchor
          end
          assert.is_true(found, target)
        end
      end
    end)
  end

  it("promises nothing of later releases", function()
    for _, page in ipairs { "README.md", "CHANGELOG.md", "doc/guide.md", "doc/commands.md",
      "doc/postgres.md", "doc/mysql.md", "doc/api.md" } do
      local text = files.read(page)
      for _, word in ipairs { "db:table", "sql.existing", "sql.proposed", "moonbase.schema",
        "migration", "moonbase.history", "moonbase.kv" } do
        assert.is_nil(text:find(word, 1, true), page .. ": " .. word)
      end
    end
  end)

  it("names folders, targets and options that exist", function()
    local readme = files.read "README.md"
    for folder in readme:gmatch "| `([%a/]+/)`" do
      assert.equal("directory", lfs.attributes(folder, "mode"), folder)
    end
    local makefile = "\n" .. files.read "Makefile"
    for target in readme:gmatch "[\n`]make ([%l-]+)" do
      assert.truthy(makefile:find("\n" .. target:gsub("%-", "%%-") .. "[: ]"), target)
    end
    local help = program.run("bin/moonbase", { "--help" })
    for _, page in ipairs { "README.md", "doc/guide.md" } do
      for line in files.read(page):gmatch "\n(moonbase %l[^\n]+)" do
        for option in line:gmatch " (%-%-%l+)" do
          assert.truthy(help:find(option .. " ", 1, true), option)
        end
      end
    end
  end)

  it("has the test command that .ci/run calls", function()
    assert.truthy(files.read "README.md":find("```sh\nmake test\n```", 1, true))
    assert.truthy(files.read ".ci/run":find("\nmake test", 1, true))
  end)

  it("has one version", function()
    assert.equal(moonbase._VERSION, files.read "CHANGELOG.md":match "\n## ([%d.]+)")
    assert.equal(moonbase._VERSION, files.read "src/moonbase.h":match 'MB_VERSION "([%d.]+)"')
  end)
end)
