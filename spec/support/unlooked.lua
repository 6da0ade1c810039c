--- A thread that ends while it looks for leaks can end LeakSanitizer (of GCC 12), and with it
--- the program, when that had come to its end already: nothing was found then.  Gives the
--- output without what it said of that, and the status of success; else both as they are.
return function(output, status)
  local before, behind = output:match(
    "^(.-)Tracer caught signal.-LeakSanitizer has encountered a fatal error.-under ptrace[^\n]*\n"
    .. "(.*)$")
  if not before then return output, status end
  return before .. behind, 0
end
