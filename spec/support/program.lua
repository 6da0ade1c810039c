--- Programs of the project as a stranger runs them: another process of the same Lua.
local files = require "spec.support.files"
local language = require "spec.support.language"

local program = {}

local function quote(text)
  return "'" .. text:gsub("'", "'\\''") .. "'"
end

--- Runs a Lua file with arguments to its end.  given: input; environment, a list of
--- "NAME=value"; limits, a shell command that is run before; pipe, a command that reads the
--- output, or >FILE.  Gives what was written, the exit status, and the error output.
function program.run(path, arguments, given)
  given = given or {}
  local folder = files.folder()
  local function file(name) return quote(folder .. "/" .. name) end

  local words = { "env", "LUA_PATH=" .. quote(package.path), "LUA_CPATH=" .. quote(package.cpath),
    language.unwatched }
  for _, pair in ipairs(given.environment or {}) do words[#words + 1] = quote(pair) end
  words[#words + 1] = language.command
  for _, word in ipairs { path, language.unpack(arguments) } do
    words[#words + 1] = quote(word)
  end
  files.write(folder .. "/input", given.input or "")
  files.write(folder .. "/run", ("%s\n%s <%s 2>%s\necho $? >%s\n"):format(given.limits or "",
    table.concat(words, " "), file "input", file "errors", file "status"))

  local pipe = given.pipe or ""
  if pipe ~= "" and pipe:sub(1, 1) ~= ">" then pipe = "| " .. pipe end
  local output = assert(io.popen("sh " .. file "run" .. " " .. pipe, "r"))
  local written = output:read "*a"
  output:close()
  return written, tonumber(files.read(folder .. "/status")), files.read(folder .. "/errors")
end

return program
