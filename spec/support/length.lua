--- How long the specs of spec/soak are: MB_SOAK=1 is all of it; without it, what a few
--- seconds are enough for.
local share = tonumber(os.getenv "MB_SOAK" or "") or 0.01

--- A part of n, and at least a little of it.
return function(n)
  return math.max(math.ceil(n / 200), math.ceil(n * share))
end
