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

--- The metatable of fragments of SQL, which moonbase.sql fills.
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

--- An array of the database (PostgreSQL), from a list without holes.
---@param list table
function values.array(list)
  if type(list) ~= "table" then
    errors.usage("moonbase.array wants a list, and got a %s", type(list))
  end
  return setmetatable({ list }, Array)
end

--- Positional parameters in a list, with nils inside.
---@param list table
---@param n? integer the number of values; #list by default
function values.params(list, n)
  if type(list) ~= "table" then
    errors.usage("moonbase.params wants a list, and got a %s", type(list))
  end
  n = n or list.n or core.rawlen(list)
  if type(n) ~= "number" or n < 0 or n ~= math.floor(n) then
    errors.usage("moonbase.params: the number of values is no whole number")
  end
  local copy = { n = n }
  for i = 1, n do copy[i] = list[i] end
  return setmetatable(copy, Params)
end

--- A list whose values are as many as its statement has parameters.
---@param list table
---@param first? integer the first value; 1 by default
function values.row(list, first)
  first = first or 1
  local copy = { n = -1 }
  for i = first, core.rawlen(list) do copy[i - first + 1] = list[i] end
  return setmetatable(copy, Params)
end

-- Days from civil, and back, by Howard Hinnant's algorithms
-- (https://howardhinnant.github.io/date_algorithms.html), for the proleptic
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

--- Seconds since 1970 from a date or time as the databases give it; without a
--- zone it is read as UTC.  Fit for the types option:
--- types = { timestamptz = moonbase.epoch }.
---@param text string as "2026-11-21 09:48:00.5+00:00"
---@return number
function values.epoch(text)
  local year, month, day, rest = tostring(text):match "^(%-?%d%d%d%d+)-(%d%d)-(%d%d)(.*)$"
  if not year then
    error(errors.new("DataError", "no date: a text like 2026-11-21 09:48:00.5+00:00 is wanted"), 0)
  end
  local seconds = days_from_civil(tonumber(year), tonumber(month), tonumber(day))
    * seconds_of_a_day
  local hour, minute, second, zone = rest:match "^[ T](%d%d):(%d%d):(%d%d%.?%d*)(.*)$"
  if not hour then
    hour, minute, zone = rest:match "^[ T](%d%d):(%d%d)(.*)$"
    second = 0
  end
  if hour then
    seconds = seconds + tonumber(hour) * 3600 + tonumber(minute) * 60 + tonumber(second)
    local sign, zone_hour, zone_minute = zone:match "^([+-])(%d%d):?(%d?%d?)"
    if sign then
      local offset = tonumber(zone_hour) * 3600 + (tonumber(zone_minute) or 0) * 60
      seconds = sign == "+" and seconds - offset or seconds + offset
    end
  end
  return seconds
end

function core.helpers.encode_json(options, value)
  local json = options.json
  local encode = type(json) == "table" and json.encode or json
  return encode(value[1])
end

return values
