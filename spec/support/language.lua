--- What the Lua that runs the specs can do.  A case that cannot exist in one of them
--- is defined only where it can.
local language = {
  --- The command that runs the same interpreter.
  command = arg and arg[-1] or "lua",
  --- What it is run with in the shell.  A thread that ends while a short program looks for
  --- leaks ends LeakSanitizer (of GCC 12), or looks like one: the specs themselves look.
  unwatched = 'ASAN_OPTIONS="detect_leaks=0:$ASAN_OPTIONS"',
  --- Integers of 64 bits are a type of the language.
  integers = math.type ~= nil, -- luacheck: ignore 143
  --- `local x <close>`, and what a for loop closes.
  closing = _VERSION == "Lua 5.4" or _VERSION == "Lua 5.5",
  --- A coroutine may yield through pcall, and inside an iterator's loop.
  yields = _VERSION ~= "Lua 5.1" or rawget(_G, "jit") ~= nil,
  --- 64-bit integers are cdata.
  cdata = rawget(_G, "jit") ~= nil,
  --- Calls take this many arguments and more; LuaJIT and 5.1 about 8,000.
  many_arguments = math.type ~= nil, -- luacheck: ignore 143
}

language.unpack = table.unpack or unpack -- luacheck: ignore 113 143

--- Says that the rest of a case calls from coroutines of its own.  In an event loop they
--- cannot wait, so that calls block.
function language.use_coroutines()
  require("moonbase").scheduler.default "blocking"
end

--- Compiles a text that only some Luas can read.
function language.compile(text, ...)
  local chunk = assert((loadstring or load)(text)) -- luacheck: ignore 113
  return chunk(...)
end

--- Something that nobody holds, whose finalizer calls fn.
function language.finalized(fn)
  local newproxy = rawget(_G, "newproxy") -- where tables have no finalizers
  if newproxy then
    getmetatable(newproxy(true)).__gc = fn
  else
    setmetatable({}, { __gc = fn })
  end
end

--- LuaJIT takes for alive what an earlier call has left where a later one's frame lies: it is
--- overwritten.
function language.wipe()
  assert(select("#", language.unpack({}, 1, 100)) == 100)
end

--- Everything that nobody holds is collected, finalizers included.
function language.collect()
  language.wipe()
  for _ = 1, 2 do collectgarbage() end
end

return language
