-- Loads the system's time-zone database into a database and asks it questions:
--
--   lua examples/timezones.lua [URL]        sqlite:timezones.db by default
--
-- The input are the files zone1970.tab, iso3166.tab and tzdata.zi of the package tzdata, in
-- /usr/share/zoneinfo or where the environment variable TZDIR says.  What an earlier run has
-- left is replaced.
local moonbase = require "moonbase"

local sql = moonbase.sql
local unpack = table.unpack or unpack -- luacheck: ignore 113 143

local folder = os.getenv "TZDIR" or "/usr/share/zoneinfo"

-- The tables, children behind their parents.  A rule set has a name that differs from another
-- one's perhaps only by a capital letter, which not every database tells apart: a number is
-- its key.
local schema = [[
create table if not exists tz_release (
  version text not null
);
create table if not exists tz_countries (
  code varchar(2) not null primary key,
  name text not null
);
create table if not exists tz_zones (
  id integer not null primary key,
  name text not null,
  latitude double precision,
  longitude double precision,
  remark text
);
create table if not exists tz_zone_countries (
  zone integer not null,
  country varchar(2) not null,
  primary key (zone, country),
  foreign key (zone) references tz_zones (id),
  foreign key (country) references tz_countries (code)
);
create table if not exists tz_links (
  name text not null,
  zone integer not null,
  foreign key (zone) references tz_zones (id)
);
create table if not exists tz_rule_sets (
  id integer not null primary key,
  name text not null
);
create table if not exists tz_rules (
  rule_set integer not null,
  first_year integer not null,
  last_year integer,
  in_month integer not null,
  on_day text not null,
  at_time text not null,
  save_seconds integer not null,
  letters text,
  foreign key (rule_set) references tz_rule_sets (id)
);
create table if not exists tz_zone_lines (
  zone integer not null,
  line integer not null,
  offset_seconds integer not null,
  rule_set integer,
  save_seconds integer,
  abbreviation text not null,
  until_year integer,
  until_time text,
  primary key (zone, line),
  foreign key (zone) references tz_zones (id),
  foreign key (rule_set) references tz_rule_sets (id)
);
]]

local tables = {
  "tz_release", "tz_countries", "tz_zones", "tz_zone_countries", "tz_links", "tz_rule_sets",
  "tz_rules", "tz_zone_lines",
}

-- --- Reading the files -------------------------------------------------------------

local function give_up(message)
  io.stderr:write("timezones: ", message, "\n")
  os.exit(1)
end

-- An iterator over the lines of a file that are no comments.
local function lines_of(name)
  local file, why = io.open(folder .. "/" .. name)
  if not file then
    give_up(("cannot open %s\nThe time-zone database comes with the package tzdata (on Debian: "
      .. "apt install tzdata); TZDIR names another folder."):format(why))
  end
  return function()
    for line in file:lines() do
      if line ~= "" and line:sub(1, 1) ~= "#" then return line end
    end
    file:close()
  end
end

-- "1:30", "-0:16:8" or "0" in seconds; "-" is 0.
local function seconds_of(text)
  local sign, hours, minutes, seconds = text:match "^(-?)(%d*):?(%d*):?(%d*)"
  local total = (tonumber(hours) or 0) * 3600 + (tonumber(minutes) or 0) * 60
    + (tonumber(seconds) or 0)
  return sign == "-" and -total or total
end

-- "+5230" and "-0003115" in degrees, from degrees, minutes and perhaps seconds.
local function degrees_of(text)
  local sign, digits = text:match "^([+-])(%d+)$"
  local n = #digits >= 6 and #digits - 4 or #digits - 2
  local degrees, minutes, seconds = digits:sub(1, n), digits:sub(n + 1, n + 2), digits:sub(n + 3)
  local total = degrees + minutes / 60 + (tonumber(seconds) or 0) / 3600
  return sign == "-" and -total or total
end

local months = { "january", "february", "march", "april", "may", "june", "july", "august",
  "september", "october", "november", "december" }

-- Names of months may be cut as long as one can tell which it is.
local function month_of(text)
  for number, name in ipairs(months) do
    if name:sub(1, #text) == text:lower() then return number end
  end
end

-- Where each zone lies, of zone1970.tab: coordinates, countries, a remark.
local function read_places()
  local places = {}
  for line in lines_of "zone1970.tab" do
    local codes, latitude, longitude, name, remark =
      line:match "^([%u,]+)\t([+-]%d+)([+-]%d+)\t([^\t]+)\t?(.*)$"
    local countries = {}
    for code in codes:gmatch "%u+" do countries[#countries + 1] = code end
    places[name] = { latitude = degrees_of(latitude), longitude = degrees_of(longitude),
      countries = countries, remark = remark ~= "" and remark or nil }
  end
  return places
end

-- Rules, zones and links of tzdata.zi, whose format is described in zic(8).
local function read_zones()
  local data = { zones = {}, lines = {}, links = {}, rules = {}, sets = {}, set_ids = {} }
  local zone

  local function set_id(name)
    local id = data.set_ids[name]
    if not id then
      id = #data.sets + 1
      data.set_ids[name], data.sets[id] = id, { id, name }
    end
    return id
  end

  local function add_rule(name, first, last, _, month, day, time, save, letters)
    local last_year = tonumber(last)
    if not last_year and last:sub(1, 1) == "o" then last_year = tonumber(first) end
    data.rules[#data.rules + 1] = { set_id(name), tonumber(first), last_year, month_of(month), day,
      time, seconds_of(save), letters ~= "-" and letters or nil }
  end

  -- In the place of a rule set a line may have a fixed saving, or none.
  local function add_line(offset, rule, abbreviation, year, ...)
    zone.n_lines = zone.n_lines + 1
    local is_set = rule:find "^%a" ~= nil
    data.lines[#data.lines + 1] = { zone.id, zone.n_lines, seconds_of(offset),
      is_set and set_id(rule) or nil, not is_set and seconds_of(rule) or nil, abbreviation,
      tonumber(year), year and table.concat({ year, ... }, " ") }
  end

  local function add_zone(name, ...)
    zone = { id = #data.zones + 1, name = name, n_lines = 0 }
    data.zones[zone.id] = zone
    add_line(...)
  end

  local function add_link(target, name)
    data.links[#data.links + 1] = { target = target, name = name }
  end

  local adders = { R = add_rule, Z = add_zone, L = add_link }
  for line in lines_of "tzdata.zi" do
    local words = {}
    for word in line:gmatch "%S+" do words[#words + 1] = word end
    local add = adders[words[1]]
    if add then add(unpack(words, 2)) else add_line(unpack(words)) end
  end
  return data
end

-- The release is in the first line of tzdata.zi, a comment.
local function read_version()
  local file = io.open(folder .. "/tzdata.zi")
  local line = file and file:read "*l"
  if file then file:close() end
  return line and line:match "^# version (%S+)" or "unknown"
end

-- --- Loading -----------------------------------------------------------------------

-- Inserts rows, which a function gives one after the other, and shows how far it is.
local function fill(tx, name, columns, next_row)
  local count = tx:bulk_insert(name, columns, next_row, {
    progress = function(n) io.stderr:write(("\r%-18s %6d rows"):format(name, n)) end,
  })
  io.stderr:write(("\r%-18s %6d rows\n"):format(name, count))
end

-- A function that gives one item of a list after the other, or what convert makes of it.
local function each(list, convert)
  local i = 0
  return function()
    i = i + 1
    local item = list[i]
    return item and convert and convert(item) or item
  end
end

-- The countries of iso3166.tab, which are read while they are inserted.
local function open_countries()
  local next_line = lines_of "iso3166.tab"
  return function()
    local line = next_line()
    local code, name = (line or ""):match "^(%u%u)\t(.+)$"
    return code and { code, name }
  end
end

-- The pairs of a zone and one of its countries.
local function each_zone_country(zones, places)
  return coroutine.wrap(function()
    for _, zone in ipairs(zones) do
      local place = places[zone.name]
      for _, country in ipairs(place and place.countries or {}) do
        coroutine.yield { zone.id, country }
      end
    end
  end)
end

local function load_all(db)
  io.stderr:write(("loading %s into %s\n"):format(folder, db:url()))
  local places, data, next_country = read_places(), read_zones(), open_countries()
  db:exec_script(schema)
  db:transaction(function(tx)
    for i = #tables, 1, -1 do tx:exec("delete from :t", { t = sql.identifier(tables[i]) }) end
    tx:exec("insert into tz_release (version) values (?)", read_version())

    fill(tx, "tz_countries", { "code", "name" }, next_country)
    fill(tx, "tz_zones", { "id", "name", "latitude", "longitude", "remark" },
      each(data.zones, function(zone)
        local place = places[zone.name] or {}
        return { zone.id, zone.name, place.latitude, place.longitude, place.remark }
      end))
    fill(tx, "tz_zone_countries", { "zone", "country" }, each_zone_country(data.zones, places))
    fill(tx, "tz_rule_sets", { "id", "name" }, each(data.sets))
    fill(tx, "tz_rules", { "rule_set", "first_year", "last_year", "in_month", "on_day", "at_time",
      "save_seconds", "letters" }, each(data.rules))
    fill(tx, "tz_zone_lines", { "zone", "line", "offset_seconds", "rule_set", "save_seconds",
      "abbreviation", "until_year", "until_time" }, each(data.lines))

    -- A link names its zone: the statement that finds it is prepared once.
    local link = tx:prepare [[
      insert into tz_links (name, zone) select ?, id from tz_zones where name = ?]]
    for _, one in ipairs(data.links) do
      if link:exec(one.name, one.target) == 0 then
        error(("link %s: there is no zone %s"):format(one.name, one.target), 0)
      end
    end
    link:close()

    tx:on_commit(function()
      io.stderr:write(("release %s is loaded\n"):format(read_version()))
    end)
  end)
end

-- --- Asking ------------------------------------------------------------------------

-- How many characters a text of UTF-8 has.
local function length_of(text)
  return #text:gsub("[\128-\191]", "")
end

-- Prints rows, each a list, below a title and a line of names; numbers at the right.
local function print_table(title, names, rows)
  local widths = {}
  local function measure(cells)
    for i = 1, #names do
      widths[i] = math.max(widths[i] or 0, length_of(tostring(cells[i] or "")))
    end
  end
  local function print_line(cells)
    local padded = {}
    for i = 1, #names do
      local text = tostring(cells[i] or "")
      local blanks = (" "):rep(widths[i] - length_of(text))
      padded[i] = type(cells[i]) == "number" and blanks .. text or text .. blanks
    end
    print((("  " .. table.concat(padded, "  ")):gsub(" +$", "")))
  end

  measure(names)
  for _, row in ipairs(rows) do measure(row) end
  print("\n" .. title)
  print_line(names)
  for _, row in ipairs(rows) do print_line(row) end
end

local function show_zones_per_country(db)
  local rows = db:query([[
    select c.name as country, count(*) as zones
    from tz_countries c join tz_zone_countries zc on zc.country = c.code
    group by c.code, c.name
    order by count(*) desc, c.name
    limit ?]], 10)
  print_table("Countries with the most zones", { "country", "zones" }, rows:arrays():all())
end

local function show_shared_zones(db)
  local countries = db:prepare [[
    select c.name from tz_countries c join tz_zone_countries zc on zc.country = c.code
    where zc.zone = ? order by c.name]]
  local rows = {}
  for _, id, name, count in db:query([[
    select z.id, z.name, count(*) as countries
    from tz_zones z join tz_zone_countries zc on zc.zone = z.id
    group by z.id, z.name having count(*) >= :least
    order by count(*) desc, z.name]], { least = 6 }):tuples() do
    local names = countries:query_column(id)
    rows[#rows + 1] = { name, count, table.concat(names, ", ", 1, 3) .. " …" }
  end
  countries:close()
  print_table("Zones that at least six countries share", { "zone", "countries", "among them" },
    rows)
end

local function show_rules_per_decade(db)
  local in_force = db:prepare [[
    select count(*), count(distinct rule_set) from tz_rules
    where first_year <= :last and (last_year is null or last_year >= :first)]]
  local rows = {}
  for first = 1910, 2020, 10 do
    local rules, sets = in_force:query_values { first = first, last = first + 9 }
    rows[#rows + 1] = { first .. "s", rules, sets }
  end
  in_force:close()
  print_table("Rules for summer time that were in force", { "decade", "rules", "rule sets" }, rows)
end

local function show_restless_zones(db)
  local rows = db:query [[
    select z.name as zone, count(*) as changes,
      count(case when b.offset_seconds > a.offset_seconds then 1 end) as forward
    from tz_zones z
      join tz_zone_lines a on a.zone = z.id
      join tz_zone_lines b on b.zone = z.id and b.line = a.line + 1
    where a.offset_seconds <> b.offset_seconds
    group by z.id, z.name
    order by count(*) desc, z.name
    limit 10]]
  print_table("Zones that changed their standard time most often",
    { "zone", "changes", "forward" }, rows:arrays():all())
end

-- Zones that a filter lets through: conditions are put together as fragments, and what they
-- compare with is always sent as a parameter.
local function find_zones(db, filter)
  local where = {}
  if filter.north_of then where[#where + 1] = sql("z.latitude > ?", filter.north_of) end
  if filter.south_of then where[#where + 1] = sql("z.latitude < ?", filter.south_of) end
  if filter.countries then
    where[#where + 1] = sql.is_in(sql.identifier("zc", "country"), filter.countries)
  end
  return db:query_all([[
    select z.name as zone, z.latitude, c.name as country, z.remark
    from tz_zones z
      join tz_zone_countries zc on zc.zone = z.id
      join tz_countries c on c.code = zc.country
    where :conditions
    order by z.latitude desc]], { conditions = sql.all(where) })
end

local function show_northern_zones(db)
  local rows = {}
  local filter = { north_of = 66.5, countries = { "CA", "GL", "RU" } }
  for _, found in ipairs(find_zones(db, filter)) do
    rows[#rows + 1] = { found.zone, ("%.1f"):format(found.latitude), found.country, found.remark }
  end
  print_table("Zones of Canada, Greenland and Russia north of the polar circle",
    { "zone", "latitude", "country", "remark" }, rows)
end

-- --- main --------------------------------------------------------------------------

local db = moonbase.open(arg[1] or "sqlite:timezones.db")
load_all(db)
show_zones_per_country(db)
show_shared_zones(db)
show_rules_per_decade(db)
show_restless_zones(db)
show_northern_zones(db)
db:close()
