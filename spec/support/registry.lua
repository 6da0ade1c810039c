--- What has to last longer than a file of specs: busted loads modules anew for each.
local registry = debug.getregistry()

--- What make gave when it was called first with this name.
return function(name, make)
  name = "moonbase.spec." .. name
  if registry[name] == nil then registry[name] = make() end
  return registry[name]
end
