--- What moonbase.replicas has to know of PostgreSQL.
---
--- A position is how far the log of changes goes, in bytes: a number, which only grows.
---@module moonbase.postgres.replicas

local core = require "moonbase.core"

local replicas = {}

--- Options that say where the primary is, and nothing of a replica.
replicas.places = { host = true, hostaddr = true, port = true, service = true,
  target_session_attrs = true }

--- Run with the primary: the position behind all that has been committed.
---
--- A COMMIT that was answered is on the disk, so that what has got there is enough; replicas
--- are sent nothing else.  Where synchronous_commit is off it may be anywhere in memory.  There
--- PostgreSQL says the place behind the header of a page or a segment to which nothing has been
--- written yet, and a replica gets there with the next change only.
replicas.written = [[
  select case when current_setting('synchronous_commit') <> 'off'
      then (pg_current_wal_flush_lsn() - '0/0'::pg_lsn)::bigint
      when place % current_setting('wal_block_size')::bigint = 24 then place - 24
      when place % pg_size_bytes(current_setting('wal_segment_size')) = 40 then place - 40
      else place end
    from (select (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint as place) as log]]

--- Run with a replica: the position up to which its readers see everything.
replicas.replayed = [[
  select (case when pg_is_in_recovery() then pg_last_wal_replay_lsn()
      else pg_current_wal_insert_lsn() end - '0/0'::pg_lsn)::bigint]]

--- The statement after which all transactions of a session only read, for option init.
---
--- None behind PgBouncer in transaction mode, where sessions are lent to others, too.
---@param db moonbase.Database
---@return string?
function replicas.only_reading(db)
  if core.option(db, "statement_cache") == "0" then return nil end
  return "set default_transaction_read_only = on"
end

--- Whether the connections of a Database may lead to different servers.
---@param db moonbase.Database
---@return boolean
function replicas.are_several(db)
  for _, name in ipairs { "host", "hostaddr" } do
    if (core.option(db, name) or ""):find(",", 1, true) then return true end
  end
  return false
end

--- Whether a replica can run a transaction: those that follow by streaming have no
--- serializable ones.
---@param begin table options of core.begin
---@return boolean
function replicas.can_run(begin)
  return begin.isolation ~= core.isolations.serializable
end

return replicas
