--- What is run on each database, and how fast it has to be.
---
--- A group is a list of candidates that do the same work, run in turns.  A
--- candidate is run by `lua FILE CASE` (lua = nil: a program in C) and compared with
--- the candidates that `against` names.  A number is the bar, the most that the ratio
--- of the wall times may be; a table has one for the CPU times too; false stands for a
--- ratio without a bar.  `figures` are numbers that a candidate tells of itself, or their
--- ratios to those of the candidate that is named in `against`; `bar` is the most that
--- one may be.
---@module bench.cases

local rows = 1000000

-- needs: what pkg-config has to know of.
local function c(case, name, needs)
  return { name = name or "C loop", program = "loops", case = case, needs = needs }
end

-- A program in C that uses the library, or what it is compared with.
local function program(name, text, case, against, figures)
  return { name = text, program = name, case = case, against = against, figures = figures }
end

local function ours(lua, name, case, against)
  return { name = name, lua = lua, program = "moonbase", case = case, against = against }
end

local function luasql(lua, name, case, against)
  return { name = "LuaSQL, " .. name, lua = lua, program = "luasql", case = case,
    against = against }
end

local function luadbi(lua, name, case, against)
  return { name = "LuaDBI, " .. name, lua = lua, program = "luadbi", case = case,
    against = against }
end

local function pgmoon(lua, name, case, against)
  return { name = "pgmoon, " .. name, lua = lua, program = "pgmoon", case = case,
    against = against }
end

-- --- SQLite ---------------------------------------------------------------------

local points = 200000
local live = 500000

local sqlite = {
  {
    id = "stream",
    title = "1,000,000 rows, streamed: id, x, #t and #b are used",
    count = rows,
    peak_bar = 8,
    candidates = {
      c "stream",
      ours("lua5.4", "tables by name", "named", { ["C loop"] = 3.2, ["LuaSQL, by name"] = 0.53,
        ["LuaDBI, by name"] = false }),
      ours("lua5.4", "arrays", "arrays", { ["C loop"] = false, ["LuaSQL, arrays"] = false,
        ["LuaDBI, arrays"] = false }),
      ours("lua5.4", "tuples", "tuples", { ["C loop"] = 2.2, ["LuaSQL, values"] = 0.70 }),
      luasql("lua5.4", "by name", "named", { ["C loop"] = false }),
      luasql("lua5.4", "arrays", "arrays", { ["C loop"] = false }),
      luasql("lua5.4", "values", "values", { ["C loop"] = false }),
      luadbi("lua5.4", "by name", "named", { ["C loop"] = false }),
      luadbi("lua5.4", "arrays", "arrays", { ["C loop"] = false }),
      ours("luajit", "tables by name", "named", { ["C loop"] = 3.4, ["LuaSQL, by name"] = 0.75,
        ["LuaDBI, by name"] = false }),
      ours("luajit", "arrays", "arrays", { ["C loop"] = false, ["LuaSQL, arrays"] = false,
        ["LuaDBI, arrays"] = false }),
      ours("luajit", "tuples", "tuples", { ["C loop"] = 2.25, ["LuaSQL, values"] = 0.74 }),
      luasql("luajit", "by name", "named", { ["C loop"] = false }),
      luasql("luajit", "arrays", "arrays", { ["C loop"] = false }),
      luasql("luajit", "values", "values", { ["C loop"] = false }),
      luadbi("luajit", "by name", "named", { ["C loop"] = false }),
      luadbi("luajit", "arrays", "arrays", { ["C loop"] = false }),
    },
  },
  {
    id = "cold",
    title = "200,000 rows by key, each by itself, default page cache",
    count = points,
    candidates = {
      c "point-cold",
      ours("lua5.4", "prepared", "prepared", { ["C loop"] = 1.25 }),
      ours("lua5.4", "by text, from the pool", "by_text", { ["C loop"] = 1.3 }),
      luasql("lua5.4", "by text", "by_text", { ["C loop"] = false }),
      luadbi("lua5.4", "prepared", "prepared", { ["C loop"] = false }),
      ours("luajit", "prepared", "prepared", { ["C loop"] = 1.25 }),
      ours("luajit", "by text, from the pool", "by_text", { ["C loop"] = 1.3 }),
      luasql("luajit", "by text", "by_text", { ["C loop"] = false }),
      luadbi("luajit", "prepared", "prepared", { ["C loop"] = false }),
    },
  },
  {
    id = "cached",
    title = "200,000 rows by key, one transaction, all in the page cache",
    count = points,
    candidates = {
      c "point-cached",
      ours("lua5.4", "named row", "cached_row", { ["C loop"] = 1.65 }),
      ours("lua5.4", "values", "cached_values", { ["C loop"] = 1.4 }),
      ours("luajit", "named row", "cached_row", { ["C loop"] = 1.65 }),
      ours("luajit", "values", "cached_values", { ["C loop"] = 1.4 }),
    },
  },
  {
    id = "value",
    title = "200,000 single values by key, one transaction, all in the page cache",
    count = points,
    candidates = {
      c "value-cached",
      ours("lua5.4", "one value", "cached_value", { ["C loop"] = 1.25 }),
      ours("luajit", "one value", "cached_value", { ["C loop"] = 1.25 }),
    },
  },
  {
    id = "pool",
    title = "200,000 single values by key, no transaction, all in the page cache",
    count = points,
    candidates = {
      ours("lua5.4", "prepared, a connection", "held_value"),
      ours("lua5.4", "by text, a connection", "held_text", { ["prepared, a connection"] = false }),
      ours("lua5.4", "by text, from the pool", "pool_value",
        { ["prepared, a connection"] = 1.6 }),
      ours("luajit", "prepared, a connection", "held_value"),
      ours("luajit", "by text, a connection", "held_text", { ["prepared, a connection"] = false }),
      ours("luajit", "by text, from the pool", "pool_value",
        { ["prepared, a connection"] = 1.6 }),
    },
  },
  {
    id = "pool-borrow",
    title = "1,000,000 connections borrowed and given back by one thread, from C",
    count = 1000000,
    candidates = {
      program("pool", "lock and unlock", "locks"),
      program("pool", "12 times, and a poll", "locks-12-poll"),
      program("pool", "a driver with a flag", "flag", { ["lock and unlock"] = 12 }),
      program("pool", "a driver with a socket", "socket", { ["12 times, and a poll"] = 1 }),
    },
  },
  {
    id = "pool-share",
    title = "8 threads hold 2 connections for 200 us, 10,000 times together, from C",
    count = 10000,
    threads = true,
    candidates = {
      program("pool", "2 threads, waiting", "wait-alone"),
      program("pool", "8 threads, waiting", "wait", { ["2 threads, waiting"] = 1.25 }, {
        { name = "p999_by_median", title = "99.9th percentile of the waits by their median",
          bar = 20 },
        { name = "most_by_median", title = "longest wait by the median" },
      }),
      program("pool", "2 threads, computing", "compute-alone"),
      program("pool", "8 threads, computing", "compute", { ["2 threads, computing"] = 1.25 }, {
        { name = "p999_by_median", title = "99.9th percentile of the waits by their median",
          bar = 20 },
        { name = "most_by_median", title = "longest wait by the median" },
      }),
    },
  },
  {
    id = "pool-writers",
    title = "16 threads write 1,000 rows each into one SQLite file, from C",
    count = 1000,
    threads = true,
    writes = true,
    candidates = {
      program("writers", "sqlite3_busy_timeout", "plain", nil, {
        { name = "longest_ms", title = "longest wait, ms" },
      }),
      program("writers", "our busy handler", "handler", { ["sqlite3_busy_timeout"] = false }, {
        { name = "longest_ms", title = "longest wait", against = "sqlite3_busy_timeout" },
      }),
      program("writers", "one place to write", "place", { ["sqlite3_busy_timeout"] = 1 / 0.35 }, {
        { name = "longest_ms", title = "longest wait", against = "sqlite3_busy_timeout",
          bar = 0.2 },
        { name = "longest_ms", title = "longest wait, ms" },
      }),
    },
  },
  {
    id = "pool-readers",
    title = "one more thread reads a row each millisecond meanwhile",
    count = 1000,
    threads = true,
    writes = true,
    candidates = {
      program("writers", "sqlite3_busy_timeout", "beside-plain", nil, {
        { name = "read_us", title = "median of the reads, us" },
        { name = "read_p99_us", title = "99th percentile of the reads, us" },
      }),
      program("writers", "our busy handler", "beside-handler", nil, {
        { name = "read_us", title = "median of the reads, us" },
        { name = "read_p99_us", title = "99th percentile of the reads, us" },
      }),
      program("writers", "one place to write", "beside-place", nil, {
        { name = "read_alone_us", title = "median of the reads before, us" },
        { name = "read_us", title = "median of the reads, us" },
        { name = "read_p99_us", title = "99th percentile of the reads, us" },
        { name = "read_p99_us", title = "99th percentile of the reads",
          against = "sqlite3_busy_timeout", bar = 1 },
      }),
    },
  },
  {
    id = "insert",
    title = "1,000,000 inserts in one transaction, a new file each",
    count = rows,
    writes = true,
    candidates = {
      c "insert",
      ours("lua5.4", "prepared", "insert", { ["C loop"] = 1.4 }),
      ours("lua5.4", "bulk_insert of a list", "bulk", { ["C loop"] = 1.3 }),
      luadbi("lua5.4", "prepared", "insert", { ["C loop"] = false }),
      ours("luajit", "prepared", "insert", { ["C loop"] = 1.4 }),
      ours("luajit", "bulk_insert of a list", "bulk", { ["C loop"] = 1.3 }),
      luadbi("luajit", "prepared", "insert", { ["C loop"] = false }),
    },
  },
  {
    id = "live",
    title = "1,000,000 rows, streamed, with 500,000 other tables alive",
    count = rows,
    live = live,
    candidates = {
      ours("lua5.4", "tables by name", "named", { ["LuaSQL, by name"] = 1 }),
      ours("lua5.4", "tuples", "tuples", { ["LuaSQL, values"] = 1 }),
      luasql("lua5.4", "by name", "named"),
      luasql("lua5.4", "values", "values"),
      ours("luajit", "tables by name", "named", { ["LuaSQL, by name"] = 1 }),
      ours("luajit", "tuples", "tuples", { ["LuaSQL, values"] = 1 }),
      luasql("luajit", "by name", "named"),
      luasql("luajit", "values", "values"),
    },
  },
}

-- --- PostgreSQL -----------------------------------------------------------------

local queries = 50000
local loaded = 500000

-- The bar of a peer is that of the best one.
local function against_peers(bar, loop)
  return { ["C loop"] = loop, ["LuaSQL, by name"] = bar, ["LuaDBI, by name"] = bar,
    ["pgmoon, by name"] = bar }
end

local function batch_bars()
  return { ["C pipeline"] = 1.5, ["LuaSQL, by text"] = 0.2, ["LuaDBI, prepared"] = 0.2,
    ["pgmoon, by text"] = 0.2 }
end

local postgres = {
  {
    id = "stream",
    title = "1,000,000 rows, streamed: id, x, #t and #b are used",
    count = rows,
    peak_bar = 12,
    candidates = {
      c "stream",
      c("stream-binary", "C loop, binary"),
      c("stream-chunked", "C loop, chunks", "libpq >= 17"),
      ours("lua5.4", "tables by name", "prepared_named", against_peers(0.57, 2.1)),
      ours("lua5.4", "arrays", "prepared_arrays", { ["C loop"] = false, ["LuaSQL, arrays"] = false,
        ["LuaDBI, arrays"] = false }),
      ours("lua5.4", "tuples", "prepared_tuples", { ["C loop"] = 1.5, ["LuaSQL, values"] = false }),
      ours("lua5.4", "first run, by name", "named", against_peers(false, false)),
      ours("lua5.4", "first run, tuples", "tuples", { ["C loop"] = false }),
      luasql("lua5.4", "by name", "named", { ["C loop"] = false }),
      luasql("lua5.4", "arrays", "arrays", { ["C loop"] = false }),
      luasql("lua5.4", "values", "values", { ["C loop"] = false }),
      luadbi("lua5.4", "by name", "named", { ["C loop"] = false }),
      luadbi("lua5.4", "arrays", "arrays", { ["C loop"] = false }),
      pgmoon("lua5.4", "by name", "named", { ["C loop"] = false }),
      ours("luajit", "tables by name", "prepared_named", against_peers(0.72, 2.3)),
      ours("luajit", "arrays", "prepared_arrays", { ["C loop"] = false, ["LuaSQL, arrays"] = false,
        ["LuaDBI, arrays"] = false }),
      ours("luajit", "tuples", "prepared_tuples", { ["C loop"] = 1.7, ["LuaSQL, values"] = false }),
      ours("luajit", "first run, by name", "named", against_peers(false, false)),
      ours("luajit", "first run, tuples", "tuples", { ["C loop"] = false }),
      luasql("luajit", "by name", "named", { ["C loop"] = false }),
      luasql("luajit", "arrays", "arrays", { ["C loop"] = false }),
      luasql("luajit", "values", "values", { ["C loop"] = false }),
      luadbi("luajit", "by name", "named", { ["C loop"] = false }),
      luadbi("luajit", "arrays", "arrays", { ["C loop"] = false }),
      pgmoon("luajit", "by name", "named", { ["C loop"] = false }),
    },
  },
  {
    id = "point",
    title = "50,000 rows by key, each by itself, or 100 at a time",
    count = queries,
    candidates = {
      c "point",
      c("pipeline", "C pipeline"),
      ours("lua5.4", "prepared", "prepared", { ["C loop"] = { 1.1, 1.25 } }),
      ours("lua5.4", "by text, from the pool", "by_text", { ["C loop"] = { 1.1, 1.25 } }),
      ours("lua5.4", "batches", "batch", batch_bars()),
      luasql("lua5.4", "by text", "by_text", { ["C loop"] = false }),
      luadbi("lua5.4", "prepared", "prepared", { ["C loop"] = false }),
      pgmoon("lua5.4", "by text", "by_text", { ["C loop"] = false }),
      ours("luajit", "prepared", "prepared", { ["C loop"] = { 1.1, 1.25 } }),
      ours("luajit", "by text, from the pool", "by_text", { ["C loop"] = { 1.1, 1.25 } }),
      ours("luajit", "batches", "batch", batch_bars()),
      luasql("luajit", "by text", "by_text", { ["C loop"] = false }),
      luadbi("luajit", "prepared", "prepared", { ["C loop"] = false }),
      pgmoon("luajit", "by text", "by_text", { ["C loop"] = false }),
    },
  },
  {
    id = "bulk",
    title = "500,000 rows loaded into an empty table with a primary key",
    count = loaded,
    candidates = {
      c("bulk", "C COPY"),
      ours("lua5.4", "bulk_insert of a list", "bulk", { ["C COPY"] = 1.6 }),
      ours("luajit", "bulk_insert of a list", "bulk", { ["C COPY"] = 1.6 }),
    },
  },
}

-- --- MySQL ----------------------------------------------------------------------

local function against_both(bar, loop)
  return { ["C loop"] = loop, ["LuaSQL, by name"] = bar, ["LuaDBI, by name"] = bar }
end

local mysql = {
  {
    id = "stream",
    title = "1,000,000 rows, streamed: id, x, #t and #b are used",
    count = rows,
    peak_bar = 12,
    candidates = {
      c "stream",
      c("stream-text", "C loop, text"),
      ours("lua5.4", "tables by name", "prepared_named", against_both(0.4, 1.9)),
      ours("lua5.4", "arrays", "prepared_arrays", { ["C loop"] = false, ["LuaSQL, arrays"] = false,
        ["LuaDBI, arrays"] = false }),
      ours("lua5.4", "tuples", "prepared_tuples", { ["C loop"] = 1.2, ["LuaSQL, values"] = false }),
      ours("lua5.4", "first run, by name", "named", against_both(false, false)),
      luasql("lua5.4", "by name", "named", { ["C loop"] = false }),
      luasql("lua5.4", "arrays", "arrays", { ["C loop"] = false }),
      luasql("lua5.4", "values", "values", { ["C loop"] = false }),
      luadbi("lua5.4", "by name", "named", { ["C loop"] = false }),
      luadbi("lua5.4", "arrays", "arrays", { ["C loop"] = false }),
      ours("luajit", "tables by name", "prepared_named", against_both(0.6, 2.4)),
      ours("luajit", "arrays", "prepared_arrays", { ["C loop"] = false, ["LuaSQL, arrays"] = false,
        ["LuaDBI, arrays"] = false }),
      ours("luajit", "tuples", "prepared_tuples", { ["C loop"] = 1.65,
        ["LuaSQL, values"] = false }),
      ours("luajit", "first run, by name", "named", against_both(false, false)),
      luasql("luajit", "by name", "named", { ["C loop"] = false }),
      luasql("luajit", "arrays", "arrays", { ["C loop"] = false }),
      luasql("luajit", "values", "values", { ["C loop"] = false }),
      luadbi("luajit", "by name", "named", { ["C loop"] = false }),
      luadbi("luajit", "arrays", "arrays", { ["C loop"] = false }),
    },
  },
  {
    id = "point",
    title = "50,000 rows by key, each by itself",
    count = queries,
    candidates = {
      c "point",
      ours("lua5.4", "prepared", "prepared", { ["C loop"] = { 1.1, 1.25 } }),
      ours("lua5.4", "by text, from the pool", "by_text", { ["C loop"] = { 1.1, 1.25 } }),
      luasql("lua5.4", "by text", "by_text", { ["C loop"] = false }),
      luadbi("lua5.4", "prepared", "prepared", { ["C loop"] = false }),
      ours("luajit", "prepared", "prepared", { ["C loop"] = { 1.1, 1.25 } }),
      ours("luajit", "by text, from the pool", "by_text", { ["C loop"] = { 1.1, 1.25 } }),
      luasql("luajit", "by text", "by_text", { ["C loop"] = false }),
      luadbi("luajit", "prepared", "prepared", { ["C loop"] = false }),
    },
  },
  {
    id = "bulk",
    title = "500,000 rows loaded into an empty table with a primary key",
    count = loaded,
    candidates = {
      c("bulk", "C arrays", "libmariadb"),
      -- Where there are no arrays; Debian's MariaDB has a file of this name too.
      c("bulk-values", "C values", "mysqlclient >= 8"),
      ours("lua5.4", "bulk_insert of a list", "bulk", { ["C arrays"] = 1.5, ["C values"] = 1.3 }),
      ours("luajit", "bulk_insert of a list", "bulk", { ["C arrays"] = 1.5, ["C values"] = 1.3 }),
    },
  },
}

return { sqlite = sqlite, postgres = postgres, mysql = mysql }
