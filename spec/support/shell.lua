--- Commands of the shell.
local shell = {}

--- A word that the shell leaves alone.
function shell.quote(text)
  return "'" .. tostring(text):gsub("'", "'\\''") .. "'"
end

--- Runs a command to its end: its output with errors, and its exit status.  What it
--- starts in the background must have an output of its own.
function shell.run(command)
  -- Through popen, whose children do not inherit the pipes to others, as those of
  -- os.execute do: a server that held one would keep its guard from ending.  What is
  -- loaded before all to watch this Lua is not to watch other programs.
  local pipe = assert(io.popen("unset LD_PRELOAD; ( " .. command
    .. "\n) 2>&1 </dev/null; echo \"status $?\"", "r"))
  local output = pipe:read "*a"
  pipe:close()
  local written, status = output:match "^(.-)status (%d+)\n$"
  return written, tonumber(status)
end

--- Runs a command that has to succeed, and gives its output.
function shell.must(command)
  local written, status = shell.run(command)
  if status ~= 0 then
    error(("status %s of: %s\n%s"):format(tostring(status), command, tostring(written)), 2)
  end
  return written
end

--- Compiles spec/support/NAME.c as a program.
function shell.compile(name, path)
  shell.must(("env -u LD_PRELOAD cc -std=c11 -D_POSIX_C_SOURCE=200809L -O1 -o %s %s"):format(
    shell.quote(path), shell.quote("spec/support/" .. name .. ".c")))
  return path
end

return shell
