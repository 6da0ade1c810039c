-- Runs a program with the URL of a server of its own in MB_URL:
--
--   lua spec/support/serve.lua PROGRAM ARGUMENT …
local postgres = require "spec.support.postgres"
local shell = require "spec.support.shell"

local words = {}
for i = 1, #arg do words[i] = shell.quote(arg[i]) end
local server = postgres.start()
local output, status = shell.run(("MB_URL=%s %s"):format(shell.quote(server:url()),
  table.concat(words, " ")))
server:close()
io.write(output)
os.exit(status)
