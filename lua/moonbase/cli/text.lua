--- What a value looks like as text: for terminals, CSV and JSON.
---@module moonbase.cli.text

local text = {}

-- What may follow the first byte of a character of UTF-8 (RFC 3629): how many
-- bytes, and between which the second one lies.
local function sequence(first)
  if first < 0x80 then return 0 end
  if first >= 0xC2 and first <= 0xDF then return 1, 0x80, 0xBF end
  if first == 0xE0 then return 2, 0xA0, 0xBF end
  if first == 0xED then return 2, 0x80, 0x9F end
  if first >= 0xE1 and first <= 0xEF then return 2, 0x80, 0xBF end
  if first == 0xF0 then return 3, 0x90, 0xBF end
  if first >= 0xF1 and first <= 0xF3 then return 3, 0x80, 0xBF end
  if first == 0xF4 then return 3, 0x80, 0x8F end
  return nil
end

-- The number of the character at byte `at`, and where the next one begins; nil
-- when it is none.
local function decode(s, at)
  local first = s:byte(at)
  local n, low, high = sequence(first)
  if n == 0 then return first, at + 1 end
  if not n then return nil end
  local code = first % 2 ^ (6 - n)
  for i = 1, n do
    local byte = s:byte(at + i)
    if not byte or byte < low or byte > high then return nil end
    code = code * 64 + byte - 0x80
    low, high = 0x80, 0xBF
  end
  return code, at + n + 1
end

--- True when all of a string is UTF-8.
---@param s string
---@return boolean
function text.is_utf8(s)
  local at = s:find "[\128-\255]"
  while at do
    local code, following = decode(s, at)
    if not code then return false end
    at = s:find("[\128-\255]", following)
  end
  return true
end

-- Characters that take no column of a terminal, and those that take two (combining
-- marks and joiners; East Asian wide and full-width letters, and pictures): first
-- and last, in order.
local no_column = {
  0x0300, 0x036F, 0x0483, 0x0489, 0x0591, 0x05BD, 0x0610, 0x061A, 0x064B, 0x065F, 0x0E31, 0x0E31,
  0x0E34, 0x0E3A, 0x0E47, 0x0E4E, 0x1AB0, 0x1AFF, 0x1DC0, 0x1DFF, 0x200B, 0x200F, 0x2028, 0x202E,
  0x2060, 0x2064, 0x20D0, 0x20FF, 0xFE00, 0xFE0F, 0xFE20, 0xFE2F, 0xFEFF, 0xFEFF, 0xE0100, 0xE01EF,
}
local two_columns = {
  0x1100, 0x115F, 0x231A, 0x231B, 0x23E9, 0x23EC, 0x2E80, 0x303E, 0x3041, 0x33FF, 0x3400, 0x4DBF,
  0x4E00, 0xA4CF, 0xA960, 0xA97F, 0xAC00, 0xD7A3, 0xF900, 0xFAFF, 0xFE30, 0xFE6F, 0xFF01, 0xFF60,
  0xFFE0, 0xFFE6, 0x16FE0, 0x18AFF, 0x1B000, 0x1B2FF, 0x1F300, 0x1F64F, 0x1F680, 0x1F6FF,
  0x1F900, 0x1FAFF, 0x20000, 0x3FFFD,
}

local function is_among(ranges, code)
  for i = 1, #ranges, 2 do
    if code < ranges[i] then return false end
    if code <= ranges[i + 1] then return true end
  end
  return false
end

--- The columns that a text of UTF-8 takes on a terminal.
---@param s string
---@return integer
function text.width(s)
  if not s:find "[\128-\255]" then return #s end
  local width, at = 0, 1
  while at <= #s do
    local code, following = decode(s, at)
    if is_among(two_columns, code) then
      width = width + 2
    elseif not is_among(no_column, code) then
      width = width + 1
    end
    at = following
  end
  return width
end

local shown = { ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t" }

--- A text in one line: what would move a terminal's cursor is written as \n, \x1b.
---@param s string
---@return string
function text.visible(s)
  s = s:gsub("%c", function(c) return shown[c] or ("\\x%02x"):format(c:byte()) end)
  -- The control characters behind ASCII.
  return (s:gsub("\194([\128-\159])", function(c) return ("\\x%02x"):format(c:byte()) end))
end

--- A number in digits, as short as it can be read back.
---@param number number
---@return string
function text.number(number)
  if number ~= number then return "NaN" end
  if number == math.huge then return "Infinity" end
  if number == -math.huge then return "-Infinity" end
  local usual = tostring(number)
  if usual:find "^%-?%d+$" then return usual end
  local is_zero = number == 0 -- which may be -0.0
  if number == math.floor(number) and math.abs(number) < 2 ^ 53 and not is_zero then
    return ("%d"):format(number)
  end
  for digits = 15, 16 do
    local short = ("%%.%dg"):format(digits):format(number)
    if tonumber(short) == number then return short end
  end
  return ("%.17g"):format(number)
end

--- Bytes as an SQL literal: x'00ff'.
---@param s string
---@return string
function text.hex(s)
  return "x'" .. s:gsub(".", function(c) return ("%02x"):format(c:byte()) end) .. "'"
end

local alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

local function letter(number)
  return alphabet:sub(number + 1, number + 1)
end

local function encode_three(three)
  local a, b, c = three:byte(1, 3)
  local bits = a * 65536 + (b or 0) * 256 + (c or 0)
  return letter(math.floor(bits / 262144)) .. letter(math.floor(bits / 4096) % 64)
    .. (b and letter(math.floor(bits / 64) % 64) or "=") .. (c and letter(bits % 64) or "=")
end

--- Bytes in base64 (RFC 4648).
---@param s string
---@return string
function text.base64(s)
  return (s:gsub("..?.?", encode_three))
end

return text
