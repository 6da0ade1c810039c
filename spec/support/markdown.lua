--- Markdown whose examples are programs.
local lfs = require "lfs"

local markdown = {}

--- The code of a file in blocks: { language =, first = its first line's number, lines = }.
function markdown.read_blocks(path)
  local blocks, number = {}, 0
  local block
  for line in io.lines(path) do
    number = number + 1
    local fence = line:match "^```(.*)$"
    if fence and block then
      blocks[#blocks + 1], block = block, nil
    elseif fence then
      block = { language = fence, first = number + 1, lines = {} }
    elseif block then
      block.lines[#block.lines + 1] = line
    end
  end
  assert(not block, path .. " ends inside a block")
  return blocks
end

--- The blocks of languages, one after the other.
function markdown.select_blocks(path, ...)
  local wanted, list = {}, {}
  for _, name in ipairs { ... } do wanted[name] = true end
  for _, block in ipairs(markdown.read_blocks(path)) do
    if wanted[block.language] then list[#list + 1] = block end
  end
  return list
end

--- Blocks as one program whose lines have the numbers that they have in the file.
function markdown.program_of(blocks)
  local lines = {}
  for _, block in ipairs(blocks) do
    while #lines < block.first - 1 do lines[#lines + 1] = "" end
    for _, line in ipairs(block.lines) do lines[#lines + 1] = line end
  end
  return table.concat(lines, "\n")
end

--- What print is said to write, in order.
function markdown.expected_output(blocks)
  local list = {}
  for _, block in ipairs(blocks) do
    for _, line in ipairs(block.lines) do
      list[#list + 1] = line:match "%-%-> (.*)$"
    end
  end
  return list
end

local here = lfs.currentdir()

-- A package.path that holds in every folder.
local function absolute(path)
  return (path:gsub("[^;]+", function(part)
    return part:sub(1, 1) ~= "/" and here .. "/" .. part or nil
  end))
end

--- Runs code in a folder and gives what it printed.  given: globals that it sees in place
--- of the usual ones.
function markdown.run(name, code, folder, given)
  local printed = {}
  local environment = { print = function(...)
    local words = {}
    for i = 1, select("#", ...) do words[i] = tostring((select(i, ...))) end
    printed[#printed + 1] = table.concat(words, "  ")
  end }
  for key, value in pairs(given or {}) do environment[key] = value end
  setmetatable(environment, { __index = _G })
  local chunk
  if rawget(_G, "setfenv") then
    chunk = setfenv(assert(loadstring(code, "@" .. name)), environment) -- luacheck: ignore 113
  else
    chunk = assert(load(code, "@" .. name, "t", environment))
  end
  local path, cpath = package.path, package.cpath
  package.path, package.cpath = absolute(path), absolute(cpath)
  assert(lfs.chdir(folder))
  local ok, err = xpcall(chunk, debug.traceback)
  lfs.chdir(here)
  package.path, package.cpath = path, cpath
  if not ok then error(err, 0) end
  return printed
end

--- Compares line by line: a difference in a long list is hard to find.
function markdown.check_output(expected, printed)
  for i = 1, math.max(#expected, #printed) do
    if expected[i] ~= printed[i] then
      error(("line %d of the output is %q, and %q was said"):format(i, tostring(printed[i]),
        tostring(expected[i])), 2)
    end
  end
end

return markdown
