--- Errors that are expected.
local moonbase = require "moonbase"

local expect = {}

local function check(class, text, err, level)
  if not moonbase.is(err) then
    error(("%s was expected, and got no error of Moonbase's: %s"):format(class, tostring(err)),
      level + 1)
  end
  if err.class ~= class then
    error(("%s was expected, and got: %s"):format(class, tostring(err)), level + 1)
  end
  if text and not err.message:find(text, 1, true) then
    error(("a message with %q was expected, and got: %s"):format(text, err.message), level + 1)
  end
  return err
end

--- Calls fn with what follows, which must raise an error of just that class whose
--- message holds text (nil: any), and gives the error.
function expect.raised(class, text, fn, ...)
  local ok, err = pcall(fn, ...)
  if ok then error(("%s was expected, and nothing was raised"):format(class), 2) end
  return check(class, text, err, 2)
end

--- The same for what is returned as nil and the error.
function expect.returned(class, text, ...)
  if select("#", ...) ~= 2 or (...) ~= nil then
    error(("nil and a %s were expected, and got %d values, the first %s"):format(class,
      select("#", ...), tostring((...))), 2)
  end
  return check(class, text, select(2, ...), 2)
end

--- A method as a function: expect.method(x, "query") calls x:query(…).
function expect.method(x, name)
  return function(...) return x[name](x, ...) end
end

return expect
