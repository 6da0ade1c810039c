--- Other processes: the same Lua with the same modules, running a text.
local files = require "spec.support.files"
local language = require "spec.support.language"

local child = {}

local function quote(text)
  return "'" .. text:gsub("'", "'\\''") .. "'"
end

-- The shell command that runs a text; arguments are in `...` there.
local function command_of(text, arguments, limits)
  local path = files.write(files.path "child.lua", text)
  local words = {
    limits and (limits .. "; ") or "",
    "LUA_PATH=", quote(package.path), " LUA_CPATH=", quote(package.cpath), " ",
    language.unwatched, " exec ",
    language.command, " ", quote(path),
  }
  for _, argument in ipairs(arguments) do
    words[#words + 1] = " " .. quote(tostring(argument))
  end
  return table.concat(words)
end

--- Runs a text to its end: its output with errors, and its exit status.  limits: a shell
--- command that is run before, as "ulimit -f 8".
function child.run(text, arguments, limits)
  local pipe = assert(io.popen("( " .. command_of(text, arguments or {}, limits)
    .. " ) 2>&1; echo \"status $?\"", "r"))
  local output = pipe:read "*a"
  pipe:close()
  local status = tonumber(output:match "status (%d+)\n$")
  return (output:gsub("status %d+\n$", "")), status
end

--- Whether a program that forks has hung for a fault that is not its own: AddressSanitizer
--- (of GCC 12) does not let go of its heap's locks in a child whose parent has threads.
function child.is_stuck(output, status)
  local preload = os.getenv "LD_PRELOAD"
  return preload ~= nil and preload:find("asan", 1, true) ~= nil
    and (status == 128 + 14 or output:find("signal 14", 1, true) ~= nil)
end

local Running = {}
Running.__index = Running

--- Starts a text that goes on beside the spec.  It tells something by a line on its
--- output and is told something by a line on its input.
function child.start(text, ...)
  local input = files.path "input"
  assert(os.execute("mkfifo " .. quote(input)))
  local running = setmetatable({}, Running)
  -- The shell's number is that of the Lua that takes its place.
  running.output = assert(io.popen("exec 2>&1 <" .. quote(input) .. "; "
    .. command_of(text, { ... }, "echo $$"), "r"))
  running.input = assert(io.open(input, "w"))
  running.pid = assert(tonumber(running:hear()))
  return running
end

--- Ends it at once, as a crash does.
function Running:kill()
  os.execute("kill -9 " .. self.pid .. " 2>/dev/null")
end

--- The next line that it says.
function Running:hear()
  return self.output:read "*l"
end

function Running:tell(line)
  self.input:write(line, "\n")
  self.input:flush()
end

--- Waits until it has ended, and gives what else it said.
function Running:finish()
  if not self.output then return "" end
  self.input:close()
  local rest = self.output:read "*a"
  self.output:close()
  self.output = nil
  return rest
end

return child
