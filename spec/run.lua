-- Runs commands that test, one after the other, and adds up what they say:
--
--   lua spec/run.lua "name: command" …
--
-- A command prints what it likes; the last line of the form "N passed, N failed,
-- N skipped" counts.  One that prints none, or ends with another status than its
-- counts say, has failed.
local total = { passed = 0, failed = 0, skipped = 0 }
local broken = {}

local function run(name, command)
  io.write(("== %s\n"):format(name))
  io.flush()
  local pipe = assert(io.popen("( " .. command .. " ) 2>&1; echo \"status $?\"", "r"))
  local counts, status
  for line in pipe:lines() do
    local passed, failed, skipped = line:match "^(%d+) passed, (%d+) failed, (%d+) skipped$"
    if passed then
      counts = { passed = tonumber(passed), failed = tonumber(failed),
        skipped = tonumber(skipped) }
    end
    status = tonumber(line:match "^status (%d+)$") or status
    if not line:match "^status %d+$" then io.write(line, "\n") end
    io.flush()
  end
  pipe:close()
  if not counts or (status ~= 0) ~= (counts.failed > 0) then
    broken[#broken + 1] = ("%s: ended with status %s%s"):format(name, tostring(status),
      counts and "" or " and without a count")
    counts = counts or { passed = 0, failed = 0, skipped = 0 }
    counts.failed = counts.failed + 1
  end
  for outcome, n in pairs(counts) do total[outcome] = total[outcome] + n end
end

for _, argument in ipairs(arg) do
  local name, command = argument:match "^([^:]+): (.*)$"
  run(assert(name, "an argument is no \"name: command\""), command)
end
for _, line in ipairs(broken) do io.write(line, "\n") end
print(("%d passed, %d failed, %d skipped"):format(total.passed, total.failed, total.skipped))
os.exit(total.failed == 0 and 0 or 1)
