--- What OpenResty's requests need beside the database.
---@module moonbase.openresty

local errors = require "moonbase.errors"

local openresty = {}

-- Phases in which there is an answer to be given.
local answers = { server_rewrite = true, rewrite = true, access = true, content = true }

-- With where it was raised, which nobody knows later.
local function describe(err)
  local text, traceback = tostring(err), errors.is(err) and err.traceback
  return {
    text = traceback and text .. "\n" .. traceback:gsub("^%s+", "") or debug.traceback(text, 2),
    is_full = errors.is(err, "PoolTimeoutError"),
  }
end

local function answer(ok, ...)
  if ok then return ... end
  local ngx, failure = require "ngx", ...
  ngx.log(ngx.ERR, failure.text)
  if not answers[ngx.get_phase()] then return end
  local status = failure.is_full and ngx.HTTP_SERVICE_UNAVAILABLE
    or ngx.HTTP_INTERNAL_SERVER_ERROR
  -- An answer that has begun can only be broken off.
  return ngx.exit(ngx.headers_sent and ngx.ERROR or status)
end

--- Makes a function that calls fn, and logs an error that nobody has caught with its text and
--- traceback; the answer of the request then has the status 503 when the pool gave no
--- connection in time (PoolTimeoutError), else 500.
---@param fn function
---@return function
function openresty.handler(fn)
  if type(fn) ~= "function" then
    errors.usage("handler wants a function, and got a %s", type(fn))
  end
  return function(...)
    return answer(xpcall(fn, describe, ...))
  end
end

return openresty
