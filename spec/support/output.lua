-- How busted reports here: a dot each, failures with their place, and a last line
-- that spec/run.lua adds up.
return function()
  local busted = require "busted"
  local handler = require "busted.outputHandlers.base"()

  local function describe_failure(failure, kind)
    local trace = failure.element and failure.element.trace
    local place = trace and trace.short_src and (trace.short_src .. ":" .. trace.currentline) or "?"
    local message = failure.message
    if type(message) ~= "string" then message = tostring(message) end
    io.write(("\n%s: %s\n  %s\n  %s\n"):format(kind, place, failure.name,
      message:gsub("\n", "\n  ")))
    if failure.trace and failure.trace.traceback and kind == "error" then
      io.write("  ", (failure.trace.traceback:gsub("\n", "\n  ")), "\n")
    end
  end

  local function mark(_, _, status)
    io.write(status == "success" and "." or status == "pending" and "," or "x")
    io.flush()
    return nil, true
  end

  local function finish()
    io.write "\n"
    for _, failure in ipairs(handler.failures) do describe_failure(failure, "failure") end
    for _, failure in ipairs(handler.errors) do describe_failure(failure, "error") end
    for _, pending in ipairs(handler.pendings) do describe_failure(pending, "skipped") end
    io.write(("%d passed, %d failed, %d skipped\n"):format(handler.successesCount,
      handler.failuresCount + handler.errorsCount, handler.pendingsCount))
    io.flush()
    return nil, true
  end

  busted.subscribe({ "test", "end" }, function(element, parent, status)
    return mark(element, parent, status)
  end, { predicate = handler.cancelOnPending })
  busted.subscribe({ "suite", "end" }, finish)
  return handler
end
