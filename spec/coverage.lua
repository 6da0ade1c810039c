-- Adds up which lines of src/ and drivers/ were run, in all builds with a suffix:
--
--   lua spec/coverage.lua SUFFIX [FILE …]
--
-- A line counts as run when it was run in one of them.  Of each FILE the lines that were
-- not run are listed.  With less than 90 % in all the status is 1.
local bar = 90

local suffix = assert(arg[1], "which suffix?")

-- file -> line -> { text, was it run? }
local files = {}

local function read(counts)
  local lines
  for count, number, text in counts:gmatch "%s*([^:\n]+):%s*(%d+):([^\n]*)" do
    if number == "0" then
      local source = text:match "^Source:(.+)"
      if source and (source:find "^src/" or source:find "^drivers/") then
        files[source] = files[source] or {}
        lines = files[source]
      elseif source then
        lines = nil
      end
    elseif lines and count ~= "-" then
      local line = lines[tonumber(number)] or { text = text, run = false }
      line.run = line.run or count:find "^%d" ~= nil
      lines[tonumber(number)] = line
    end
  end
end

local function read_builds()
  local notes = assert(io.popen(
    ("find build/obj%s build/lua*[0-9]%s -name '*.gcno' | sort"):format(suffix, suffix)))
  for note in notes:lines() do
    if note:find "/src/" or note:find "/drivers/" then
      local gcov = assert(io.popen("gcov --stdout " .. note .. " 2>/dev/null"))
      read(gcov:read "*a")
      gcov:close()
    end
  end
  notes:close()
end

local function count(lines)
  local all, run = 0, 0
  for _, line in pairs(lines) do
    all = all + 1
    if line.run then run = run + 1 end
  end
  return all, run
end

local function show(name, all, run)
  print(("%6.1f %%  %5d of %5d  %s"):format(100 * run / all, run, all, name))
end

local function list_rest(name)
  local numbers = {}
  for number, line in pairs(assert(files[name], name .. " was not built")) do
    if not line.run then numbers[#numbers + 1] = number end
  end
  table.sort(numbers)
  for _, number in ipairs(numbers) do
    print(("%s:%d: %s"):format(name, number, files[name][number].text))
  end
end

read_builds()
local names = {}
for name in pairs(files) do names[#names + 1] = name end
table.sort(names)
local all, run = 0, 0
for _, name in ipairs(names) do
  local lines, lines_run = count(files[name])
  show(name, lines, lines_run)
  all, run = all + lines, run + lines_run
end
show("all", all, run)
for i = 2, #arg do list_rest(arg[i]) end
os.exit(100 * run >= bar * all and 0 or 1)
