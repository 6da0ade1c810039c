-- Runs commands that test, and adds up what they say:
--
--   lua spec/run.lua "name: command" …
--
-- Two run at a time, since much of a test is waiting; what they print comes in their order.
--
-- A command prints what it likes; the last line of the form "N passed, N failed,
-- N skipped" counts.  One that prints none, or ends with another status than its
-- counts say, has failed.
local total = { passed = 0, failed = 0, skipped = 0 }
local broken = {}

local function start(argument)
  local name, command = argument:match "^([^:]+): (.*)$"
  assert(name, "an argument is no \"name: command\"")
  return { name = name, argument = argument,
    pipe = assert(io.popen("( " .. command .. " ) 2>&1; echo \"status $?\"", "r")) }
end

local function finish(job)
  local name, pipe = job.name, job.pipe
  io.write(("== %s\n"):format(name))
  io.flush()
  local counts, status
  local is_unlooked = false
  for line in pipe:lines() do
    local passed, failed, skipped = line:match "^(%d+) passed, (%d+) failed, (%d+) skipped$"
    if passed then
      counts = { passed = tonumber(passed), failed = tonumber(failed),
        skipped = tonumber(skipped) }
    end
    status = tonumber(line:match "^status (%d+)$") or status
    is_unlooked = is_unlooked or line:find("LeakSanitizer has encountered a fatal error", 1, true)
    if not line:match "^status %d+$" then io.write(line, "\n") end
    io.flush()
  end
  pipe:close()
  -- A thread that ends while it looks for leaks can end LeakSanitizer: then nothing was found.
  if is_unlooked and status ~= 0 and counts and counts.failed == 0 and not job.is_again then
    io.write "Once more: leaks could not be looked for.\n"
    local again = start(job.argument)
    again.is_again = true
    return finish(again)
  end
  if not counts or (status ~= 0) ~= (counts.failed > 0) then
    broken[#broken + 1] = ("%s: ended with status %s%s"):format(name, tostring(status),
      counts and "" or " and without a count")
    counts = counts or { passed = 0, failed = 0, skipped = 0 }
    counts.failed = counts.failed + 1
  end
  for outcome, n in pairs(counts) do total[outcome] = total[outcome] + n end
end

local jobs = {}
for i = 1, #arg do
  for ahead = #jobs + 1, math.min(i + 1, #arg) do jobs[ahead] = start(arg[ahead]) end
  finish(jobs[i])
end
for _, line in ipairs(broken) do io.write(line, "\n") end
print(("%d passed, %d failed, %d skipped"):format(total.passed, total.failed, total.skipped))
os.exit(total.failed == 0 and 0 or 1)
