-- Only what every Lua has.
std = "min"
max_line_length = 100

-- A method may leave self alone: it is called as its sisters are.
self = false

files["spec"] = { std = "min+busted" }
files["examples/*_spec.lua"] = { std = "min+busted" }
files["*.rockspec"] = { std = "rockspec" }
files["config.ld"] = { std = "ldoc" }
