local files = require "spec.support.files"
local markdown = require "spec.support.markdown"
local mysql = require "spec.support.mysql"

describe("the page on MySQL", function()
  local path = "doc/mysql.md"

  after_each(files.clean)

  it("has examples that are a program that works", function()
    local blocks = markdown.select_blocks(path, "lua")
    assert.is_true(#blocks > 6)
    local urls = { DATABASE_URL = mysql.shared():fresh() }
    local environment = setmetatable({
      getenv = function(name) return urls[name] or os.getenv(name) end,
    }, { __index = os })
    markdown.check_output(markdown.expected_output(blocks),
      markdown.run(path, markdown.program_of(blocks), files.folder(), { os = environment }))
  end)
end)
