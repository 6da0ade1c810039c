local moonbase = require "moonbase"
local now = require "moonbase.core".now

--- Asks a handle for the number of rows of item until it is told, within 10 seconds and at
--- the price of at most so many errors of connections.  Gives that number.
return function(x, errors)
  local failed, start = 0, now()
  while now() - start < 10 do
    local ok, value = pcall(x.query_value, x, "select count(*) from item")
    if ok then return value end
    failed = failed + 1
    if failed > errors or not moonbase.is(value, "ConnectivityError") then
      error("error " .. failed .. ": " .. tostring(value))
    end
  end
  error "the pool did not recover"
end
