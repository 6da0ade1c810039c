--- A client of HTTP that counts: many requests at once, on connections that are kept or not, or
--- that are given up in the middle.
---
---   LUA spec/support/requests.lua PORT keep|once|leave PATH CONNECTIONS TOTAL
---   LUA spec/support/requests.lua PORT ask PATH SECONDS
---
--- keep, once: "ok N wrong N lost N reopened N seconds S".  A connection that is kept may be closed
--- while nothing is under way on it, and is opened again; all else that is cut off is lost.
--- leave: goes 0 to 25 ms after it has asked.  ask: one request after the other; the median, the
--- 99th percentile and the longest of their times in milliseconds.
local socket = require "socket"

local port, mode, path = tonumber(arg[1]), arg[2], arg[3]

local request = ("GET %s HTTP/1.1\r\nHost: x\r\n%s\r\n"):format(path,
  mode == "once" and "Connection: close\r\n" or "")

local function connect()
  local connection = assert(socket.connect("127.0.0.1", port))
  connection:setoption("tcp-nodelay", true)
  return connection
end

-- Whether an answer is there in full: its body has a length, or comes in chunks.
local function is_whole(answer)
  local head, body = answer:match "^(.-\r\n\r\n)(.*)$"
  if not head then return false end
  local size = head:lower():match "\r\ncontent%-length: (%d+)"
  if size then return #body >= tonumber(size) end
  return body:sub(-5) == "0\r\n\r\n"
end

-- --- Many at once ------------------------------------------------------------------

local count = { ok = 0, wrong = 0, lost = 0, reopened = 0 }

local function judge(one)
  if not is_whole(one.answer) then
    count.lost = count.lost + 1
  elseif one.answer:find "^HTTP/1.1 200" then
    count.ok = count.ok + 1
  else
    count.wrong = count.wrong + 1
  end
end

-- Sends the next request of a connection, on a new one where there is none.
local function send(one)
  if not one.socket then
    one.socket, one.is_new = connect(), true
    one.socket:settimeout(0)
  end
  one.answer = ""
  one.socket:send(request)
end

local function close(one)
  one.socket:close()
  one.socket = nil
end

-- Takes what has come; whether the request is over.
local function receive(one)
  local text, err, part = one.socket:receive(65536)
  one.answer = one.answer .. (text or part or "")
  if mode == "keep" and is_whole(one.answer) then
    judge(one)
    if one.answer:find "\r\nConnection: close\r\n" then close(one) end
    one.is_new = false
    return true
  end
  if err ~= "closed" then return false end
  local was_idle = one.answer == "" and not one.is_new
  close(one)
  if was_idle then
    count.reopened = count.reopened + 1
    send(one)
    return false
  end
  judge(one)
  return true
end

local function load(n, total)
  local by_socket, list, left = {}, {}, total
  local function go_on(one)
    if left == 0 then return end
    left = left - 1
    send(one)
  end
  local all = {}
  for i = 1, n do
    all[i] = {}
    go_on(all[i])
  end
  while count.ok + count.wrong + count.lost < total do
    for i = #list, 1, -1 do list[i] = nil end
    for _, one in ipairs(all) do
      if one.answer and one.socket then
        list[#list + 1] = one.socket
        by_socket[one.socket] = one
      end
    end
    for _, ready in ipairs((socket.select(list, nil, 60))) do
      local one = by_socket[ready]
      by_socket[ready] = nil
      if receive(one) then
        one.answer = nil
        go_on(one)
      end
    end
  end
end

local function leave(n, total)
  local left, live = total, {}
  math.randomseed(port)
  while left > 0 or #live > 0 do
    while left > 0 and #live < n do
      left = left - 1
      local connection = connect()
      connection:send(request)
      live[#live + 1] = { connection, socket.gettime() + math.random() * 0.025 }
    end
    local now = socket.gettime()
    for i = #live, 1, -1 do
      if live[i][2] <= now then
        live[i][1]:close()
        table.remove(live, i)
      end
    end
    socket.sleep(0.0005)
  end
end

-- --- One after the other -----------------------------------------------------------

local function ask(seconds)
  local connection, times = connect(), {}
  connection:settimeout(0)
  local finish = socket.gettime() + seconds
  repeat
    local began, answer = socket.gettime(), ""
    connection:send(request)
    repeat
      socket.select({ connection }, nil, 10)
      local text, err, part = connection:receive(65536)
      answer = answer .. (text or part or "")
      assert(err ~= "closed", "the connection was closed")
    until is_whole(answer)
    assert(answer:find "^HTTP/1.1 200", answer)
    times[#times + 1] = (socket.gettime() - began) * 1000
    socket.sleep(0.001)
  until socket.gettime() > finish
  table.sort(times)
  local function at(share) return times[math.max(math.ceil(#times * share), 1)] end
  print(("%.3f %.3f %.3f"):format(at(0.5), at(0.99), times[#times]))
end

local began = socket.gettime()
if mode == "ask" then
  ask(tonumber(arg[4]))
elseif mode == "leave" then
  leave(tonumber(arg[4]), tonumber(arg[5]))
else
  load(tonumber(arg[4]), tonumber(arg[5]))
  print(("ok %d wrong %d lost %d reopened %d seconds %.1f"):format(count.ok, count.wrong,
    count.lost, count.reopened, socket.gettime() - began))
end
