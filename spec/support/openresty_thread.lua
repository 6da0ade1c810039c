--- What spec/openresty_spec.lua has one of nginx's own threads do, which has a Lua of its own.
local moonbase = require "moonbase"

return {
  query = function(url)
    local db = moonbase.open(url)
    local value = db:query_value "select 'in a thread'"
    db:close()
    return value
  end,
}
