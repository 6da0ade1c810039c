--- For tests: a Database that forgets all that was done with it, and one that fails when it is
--- told to.
---
---     local testing = require "moonbase.testing"
---     local db = testing.sandbox(real_db)
---     local fault = testing.fault(moonbase.open "fault+sqlite:test.db")
---@module moonbase.testing

return {
  fault = require "moonbase.testing.fault",
  sandbox = require "moonbase.testing.sandbox",
}
