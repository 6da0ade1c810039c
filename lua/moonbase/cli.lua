--- The command moonbase: SQL from the shell.
---@module moonbase.cli

local moonbase = require "moonbase"
local format = require "moonbase.cli.format"
local suggest = require "moonbase.suggest"
local text = require "moonbase.cli.text"

local help = [[
Usage: moonbase query [option …] URL SQL [parameter …]
       moonbase script [option …] URL FILE
       moonbase --help | --version

query runs one statement and writes its rows.  SQL is the text, or - for standard
input.  Parameters are the values of ? and $1 in order, or name=value for :name.
A number in its usual form (7, -1.5) is sent as a number, all else as text.

  --format table   aligned columns; the first 1000 rows decide how wide they are
  --format csv     RFC 4180, with a header
  --format json    one array with an object for each row
  --null TEXT      what NULL is in a table (default: NULL) and in CSV (default:
                   nothing; an empty text is "" there)
  --timeout S      gives up when the database keeps it waiting for S seconds

Bytes (of columns declared as blob, and what is no UTF-8) are written as x'hex' in
a table and as base64 in CSV and JSON, NaN and infinities as null in JSON.

script runs the statements of a file (- for standard input) one after the other,
and stops at the first that fails.

  --transaction    all of them or none
  --timeout S      as above, for each statement

A URL is sqlite:FILE or sqlite::memory:, perhaps with parameters, as
sqlite:app.db?mode=ro.  Options may stand anywhere; -- ends them.

Ends with 0, with 1 when the database refuses or output cannot be written, with 2
when the command line is wrong.
]]

-- Raised by what a command finds wrong with its arguments.
local Usage = {}

local function refuse(message, ...)
  error(setmetatable({ message = message:format(...) }, Usage), 0)
end

-- Raised when nobody reads any more.
local closed_pipe = {}

-- --- Arguments -----------------------------------------------------------------

local function read_format(value)
  if not format[value] then refuse('--format wants table, csv or json, and not "%s"', value) end
  return value
end

local function read_seconds(value)
  local seconds = tonumber(value)
  if not seconds or not (seconds > 0 and seconds < 1e9) then
    refuse('--timeout wants a number of seconds, and not "%s"', value)
  end
  return seconds
end

local function read_word(value)
  return value
end

-- For each command its options, with the function that reads the value; false for
-- those that have none.
local command_options = {
  query = { format = read_format, null = read_word, timeout = read_seconds },
  script = { timeout = read_seconds, transaction = false },
}

-- --name value, --name=value or --name; the number of the last word that it took.
local function read_option(known, words, at, options)
  local name, value = words[at]:match "^%-%-([^=]*)=(.*)$"
  name = name or words[at]:sub(3)
  local read = known[name]
  if read == nil then
    local near = suggest(name, known):gsub('"(.*)"', "--%1")
    refuse("there is no option --%s%s", name, near)
  end
  if not read then
    if value then refuse("--%s has no value", name) end
    options[name] = true
    return at
  end
  if not value then
    at = at + 1
    value = words[at] or refuse("--%s wants a value", name)
  end
  options[name] = read(value)
  return at
end

local function read_arguments(command, words)
  local options, plain = {}, {}
  local at, ended = 2, false
  while at <= #words do
    local word = words[at]
    if word == "--help" and not ended then
      options.help = true
    elseif word == "--" and not ended then
      ended = true
    elseif word:find "^%-%-" and not ended then
      at = read_option(command_options[command], words, at, options)
    else
      plain[#plain + 1] = word
    end
    at = at + 1
  end
  return options, plain
end

-- --- Input and output ----------------------------------------------------------

local function read_file(name)
  if name == "-" then return io.stdin:read "*a" end
  local file, why = io.open(name, "rb")
  local content = file and file:read "*a"
  if file then file:close() end
  if not content then refuse("cannot read %s", (why or name .. ": no file"):gsub("%%", "%%%%")) end
  return content
end

local EPIPE = 32

local function check_output(ok, why, number)
  if ok then return end
  if number == EPIPE then error(closed_pipe, 0) end
  error(("cannot write: %s"):format(why), 0)
end

-- What is to be written, until it is worth the while.  The flush tells: LuaJIT's
-- compiled write does not.
local held = { n = 0, size = 0 }
local held_size = 65536

local function flush()
  local all = table.concat(held, "", 1, held.n)
  held.n, held.size = 0, 0
  check_output(io.stdout:write(all))
  check_output(io.stdout:flush())
end

local function write(s)
  held.n, held.size = held.n + 1, held.size + #s
  held[held.n] = s
  if held.size > held_size then flush() end
end

local function tell(message, ...)
  io.stderr:write("moonbase: ", message:format(...), "\n")
end

-- --- query ---------------------------------------------------------------------

-- A number that would be written in just this way; else the text.
local function read_parameter(word)
  local number = word:find "^%-?%d+%.?%d*$" and tonumber(word)
  if number and number > -2 ^ 63 and number < 2 ^ 63
    and text.number(number) == word then
    return number
  end
  return word
end

local function read_parameters(statement, words)
  local n, names = statement:parameters()
  if not names then
    local list = {}
    for i, word in ipairs(words) do list[i] = read_parameter(word) end
    return moonbase.params(list, #words)
  end
  local named = {}
  for _, word in ipairs(words) do
    local name, value = word:match "^:?([^=]+)=(.*)$"
    if not name then
      refuse("the statement has named parameters: write name=value, and not %s", word)
    end
    named[name] = read_parameter(value)
  end
  if #words < n then
    for _, name in ipairs(names) do
      if named[name] == nil then refuse("parameter :%s is missing: write %s=value", name, name) end
    end
  end
  return named
end

local function write_rows(rows, columns, options)
  local writer = format[options.format or "table"](write, columns, options)
  local count = 0
  for row in rows do
    count = count + 1
    writer.row(row)
  end
  writer.finish(count)
end

-- What changes data is done before its first row is written: whoever reads may
-- stop reading, and end this program, at any time.
local function may_write(sql)
  return sql:lower():find "%f[%w_]returning%f[^%w_]" ~= nil
end

local function list_of(list)
  local i = 0
  return function()
    i = i + 1
    return list[i]
  end
end

local function run_statement(db, sql, words, options)
  local statement = db:prepare(sql)
  local parameters = read_parameters(statement, words)
  local columns = statement:columns()
  if #columns == 0 then
    local affected, id = statement:exec(parameters)
    if options.format == "json" then write "[]\n" end
    tell("%d row%s affected%s", affected, affected == 1 and "" or "s",
      id and (", id %s"):format(id) or "")
    return
  end
  local rows = statement:query(parameters):arrays()
  if may_write(sql) then rows = list_of(rows:all()) end
  write_rows(rows, columns, options)
end

local commands = {}

function commands.query(options, words)
  local url, sql = words[1], words[2]
  if not sql then refuse "query wants a URL and an SQL text" end
  if sql == "-" then sql = read_file "-" end
  local parameters = {}
  for i = 3, #words do parameters[i - 2] = words[i] end
  local db = moonbase.open(url, { timeout = options.timeout })
  run_statement(db, sql, parameters, options)
  db:close()
end

-- --- script --------------------------------------------------------------------

function commands.script(options, words)
  local url, name = words[1], words[2]
  if not name then refuse "script wants a URL and a file" end
  if words[3] then refuse("script takes one file, and not %s too", words[3]) end
  local script = read_file(name)
  local db = moonbase.open(url, { timeout = options.timeout })
  tell("running %s, %d bytes …", name == "-" and "standard input" or name, #script)
  local count
  if options.transaction then
    count = db:transaction(function(tx) return tx:exec_script(script) end)
  else
    count = db:exec_script(script)
  end
  tell("%d statement%s run", count, count == 1 and "" or "s")
  db:close()
end

-- --- main ----------------------------------------------------------------------

local function run(words)
  local command = words[1]
  if command == "--help" or command == "-h" or command == "help" then return write(help) end
  if command == "--version" then
    return write(("moonbase %s (%s; drivers: %s)\n"):format(moonbase._VERSION, _VERSION,
      table.concat(moonbase.drivers(), ", ")))
  end
  if not command then refuse "a command is wanted: query or script" end
  if not commands[command] then
    refuse("there is no command %s%s", command, suggest(command, commands))
  end
  local options, plain = read_arguments(command, words)
  if options.help then return write(help) end
  commands[command](options, plain)
end

-- Everything that is no error object gets a traceback: it is a mistake in here.
local function remember(err)
  if moonbase.is(err) or type(err) == "table" then return err end
  if tostring(err):find "^cannot write" then return err end
  return debug.traceback(tostring(err), 2)
end

local function one_line(s)
  return (s:gsub("%s*[\r\n]%s*", " "):gsub("%c", "?"))
end

-- What an error means for the one who called, and the status to end with.
local function explain(err)
  if err == closed_pipe then return 0 end
  if getmetatable(err) == Usage then
    tell("%s", one_line(err.message))
    io.stderr:write "Try moonbase --help.\n"
    return 2
  end
  if not moonbase.is(err) then
    tell("%s", err)
    return 1
  end
  if err.message:find "use exec_script$" then
    err.message = err.message:gsub("use exec_script$", "use moonbase script")
  end
  tell("%s", one_line(tostring(err)))
  return (err:is "UsageError" or err:is "ConnectorValidationError") and 2 or 1
end

local cli = {}

--- Runs the command.
---@param words string[] the arguments
---@return integer status of the process
function cli.main(words)
  local ok, err = xpcall(function()
    run(words)
    flush()
  end, remember)
  if ok then return 0 end
  -- What came before the error is worth having.
  if moonbase.is(err) then pcall(flush) end
  return explain(err)
end

return cli
