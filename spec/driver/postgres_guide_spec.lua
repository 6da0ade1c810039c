local files = require "spec.support.files"
local markdown = require "spec.support.markdown"
local postgres = require "spec.support.postgres"

describe("the page on PostgreSQL", function()
  local path = "doc/postgres.md"

  after_each(files.clean)

  it("has examples that are a program that works", function()
    local blocks = markdown.select_blocks(path, "lua")
    assert.is_true(#blocks > 15)
    local url = postgres.shared():fresh()
    local standby = postgres.shared():standby()
    finally(function() standby:close() end)
    local urls = { DATABASE_URL = url, REPLICA_URL = standby:url() }
    local environment = setmetatable({
      getenv = function(name) return urls[name] or os.getenv(name) end,
    }, { __index = os })
    markdown.check_output(markdown.expected_output(blocks),
      markdown.run(path, markdown.program_of(blocks), files.folder(), { os = environment }))
  end)
end)
