--- Values that a plain Lua value cannot stand for.
---@module moonbase.values

local core = require "moonbase.core"
local errors = require "moonbase.errors"

local values = {}

-- A metatable that the binding knows a kind of value by.
local function define(name, kind)
  local metatable = { __name = "moonbase." .. name }
  metatable.__tostring = function(value)
    return ("moonbase.%s(%s)"):format(name, tostring(value[1]))
  end
  core.kinds[metatable] = core.kind_numbers[kind or name]
  return metatable
end

local Blob = define "blob"
local Decimal = define "decimal"
local Json = define "json"
local Uuid = define "uuid"
local Timestamp = define("timestamp", "timestamptz")
local Float = define("float", "double")
local Array = define "array"
local Params = define "params"

-- The metatable of fragments of SQL, which moonbase.sql fills.
values.Fragment = define("sql", "fragment")

--- NULL, where nil cannot stand: the light userdata NULL, as ngx.null and
--- cjson.null are.
values.null = core.null

local function check_string(value, name)
  if type(value) ~= "string" then
    errors.usage("moonbase.%s wants a string, and got a %s", name, type(value))
  end
  return value
end

--- Bytes: a string is text otherwise.
---@param bytes string
function values.blob(bytes)
  return setmetatable({ check_string(bytes, "blob") }, Blob)
end

--- An exact decimal number.
---@param digits string|integer as "-12.50"
function values.decimal(digits)
  if type(digits) == "number" and math.floor(digits) == digits and math.abs(digits) < 2 ^ 53 then
    digits = ("%d"):format(digits)
  end
  check_string(digits, "decimal")
  if not digits:match "^[+-]?%d+%.?%d*$" and not digits:match "^[+-]?%.%d+$" then
    errors.usage('moonbase.decimal wants digits, as "-12.50"')
  end
  return setmetatable({ digits }, Decimal)
end

--- A value to be encoded by the json option.
---@param value any
function values.json(value)
  return setmetatable({ value }, Json)
end

--- A UUID.
---@param text string 32 hexadecimal digits, with hyphens or without
function values.uuid(text)
  local digits = check_string(text, "uuid"):gsub("-", ""):lower()
  if #digits ~= 32 or digits:find "%X" then
    errors.usage("moonbase.uuid wants 32 hexadecimal digits")
  end
  return setmetatable({ ("%s-%s-%s-%s-%s"):format(digits:sub(1, 8), digits:sub(9, 12),
    digits:sub(13, 16), digits:sub(17, 20), digits:sub(21)) }, Uuid)
end

--- A double, also where a number would go as an integer.
---@param number number
function values.float(number)
  if type(number) ~= "number" then
    errors.usage("moonbase.float wants a number, and got a %s", type(number))
  end
  return setmetatable({ number }, Float)
end

--- An array, where the database has them, from a list without holes.
---@param list table
function values.array(list)
  if type(list) ~= "table" then
    errors.usage("moonbase.array wants a list, and got a %s", type(list))
  end
  return setmetatable({ list }, Array)
end

-- More than any database takes.
local most_values = 10000000

-- A copy of a list, nils inside, with its length in n; name is that of the function
-- that was called.
function values.copy(list, n, name)
  if type(list) ~= "table" then
    errors.usage("%s wants a list, and got a %s", name, type(list))
  end
  if n == nil then n = list.n or core.rawlen(list) end
  if type(n) ~= "number" or n < 0 or n ~= math.floor(n) or n > most_values then
    errors.usage("%s: the number of values is no whole number, or too large", name)
  end
  local copy = { n = n }
  for i = 1, n do copy[i] = list[i] end
  return copy
end

--- Positional parameters in a list, with nils inside.
---@param list table
---@param n? integer the number of values; #list by default
function values.params(list, n)
  return setmetatable(values.copy(list, n, "moonbase.params"), Params)
end

--- A list whose values are as many as its statement has parameters.  Where the last
--- one stands is not asked of #, which may stop at a nil.
---@param list table
---@param first integer the first value
---@local
function values.row(list, first)
  local last = first - 1
  for key in pairs(list) do
    if type(key) == "number" and key > last and key == math.floor(key) then last = key end
  end
  if last > most_values then
    errors.usage("value %.0f is more than any statement has", last)
  end
  local copy = { n = -1 }
  for i = first, last do
    local value = list[i]
    if value == nil then value = values.null end
    copy[i - first + 1] = value
  end
  return setmetatable(copy, Params)
end

-- Days from civil, and back, by Howard Hinnant's algorithms, for the proleptic
-- Gregorian calendar: os.date knows neither fractions nor all years.
local function days_from_civil(year, month, day)
  if month <= 2 then year = year - 1 end
  local era = math.floor(year / 400)
  local year_of_era = year - era * 400
  local shifted = (month + 9) % 12
  local day_of_year = math.floor((153 * shifted + 2) / 5) + day - 1
  local day_of_era = year_of_era * 365 + math.floor(year_of_era / 4)
    - math.floor(year_of_era / 100) + day_of_year
  return era * 146097 + day_of_era - 719468
end

local function civil_from_days(days)
  days = days + 719468
  local era = math.floor(days / 146097)
  local day_of_era = days - era * 146097
  local year_of_era = math.floor((day_of_era - math.floor(day_of_era / 1460)
    + math.floor(day_of_era / 36524) - math.floor(day_of_era / 146096)) / 365)
  local day_of_year = day_of_era
    - (365 * year_of_era + math.floor(year_of_era / 4) - math.floor(year_of_era / 100))
  local shifted = math.floor((5 * day_of_year + 2) / 153)
  local day = day_of_year - math.floor((153 * shifted + 2) / 5) + 1
  local month = shifted < 10 and shifted + 3 or shifted - 9
  local year = year_of_era + era * 400
  if month <= 2 then year = year + 1 end
  return year, month, day
end

local seconds_of_a_day = 86400
-- 1 January of the year 0 to 31 December 9999, as the databases have them.
local first_second, last_second = -62167219200, 253402300799

--- A point in time, sent as "2026-11-21 09:48:00.5+00:00".
---@param seconds number since 1970, to the microsecond
function values.timestamp(seconds)
  if type(seconds) ~= "number" or seconds ~= seconds or seconds < first_second
    or seconds >= last_second + 1 then
    errors.usage "moonbase.timestamp wants seconds since 1970, of the years 0 to 9999"
  end
  local whole = math.floor(seconds)
  local micro = math.floor((seconds - whole) * 1000000 + 0.5)
  if micro == 1000000 then whole, micro = whole + 1, 0 end
  local days = math.floor(whole / seconds_of_a_day)
  local rest = whole - days * seconds_of_a_day
  local year, month, day = civil_from_days(days)
  local text = ("%04d-%02d-%02d %02d:%02d:%02d"):format(year, month, day,
    math.floor(rest / 3600), math.floor(rest / 60) % 60, rest % 60)
  if micro > 0 then text = text .. ("." .. ("%06d"):format(micro)):gsub("0+$", "") end
  return setmetatable({ text .. "+00:00" }, Timestamp)
end

-- The seconds of a day's time without a zone; nil for another text.
local function read_time(text)
  local hour, minute, rest = text:match "^(%d%d):(%d%d)(.*)$"
  local second = rest == "" and "0" or rest and rest:match "^:(%d%d%.?%d*)$"
  hour, minute, second = tonumber(hour), tonumber(minute), tonumber(second)
  if not second or hour > 23 or minute > 59 or second >= 61 then return nil end
  return hour * 3600 + minute * 60 + second
end

-- The seconds that a zone is ahead of UTC; nil for another text.
local function read_zone(text)
  if text == "" or text == "Z" then return 0 end
  local sign, hour, rest = text:match "^([+-])(%d%d)(.*)$"
  local minute = rest == "" and "00" or rest and rest:match "^:?(%d%d)$"
  if not minute then return nil end
  local offset = tonumber(hour) * 3600 + tonumber(minute) * 60
  return sign == "-" and -offset or offset
end

-- The first day of a date, in days since 1970; nil where there is none.
local function read_date(year, month, day)
  year, month, day = tonumber(year), tonumber(month), tonumber(day)
  if not year or month < 1 or month > 12 or day < 1 then return nil end
  local days = days_from_civil(year, month, day)
  local _, same_month = civil_from_days(days)
  return same_month == month and days or nil
end

--- Seconds since 1970 from a date or time as the databases give it; without a
--- zone it is read as UTC.  Fit for the types option:
--- types = { timestamptz = moonbase.epoch }.
---@param text string as "2026-11-21 09:48:00.5+00:00"
---@return number
function values.epoch(text)
  local year, month, day, rest = tostring(text):match "^(%-?%d%d%d%d+)-(%d%d)-(%d%d)(.*)$"
  local days = read_date(year, month, day)
  local time, zone = 0, 0
  if rest ~= "" then
    local clock, behind = tostring(rest):match "^[ T]([%d:.]+)(.*)$"
    time, zone = clock and read_time(clock), behind and read_zone(behind)
  end
  if not days or not time or not zone then
    error(errors.new("DataError", "no date: a text like 2026-11-21 09:48:00.5+00:00 is wanted"), 0)
  end
  return days * seconds_of_a_day + time - zone
end

function core.helpers.encode_json(options, value)
  local json = options.json
  local encode = type(json) == "table" and json.encode or json
  return encode(value[1])
end

return values
