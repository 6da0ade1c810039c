--- Where MySQL and MariaDB differ from what spec/support/databases.lua takes for usual.

-- The numbers from 1 to one that is given, as the column i.  A recursion would end after
-- 1,000 rows, unless the server allows more.
local numbers = "json_table(concat('[0', repeat(',0', %s - 1), ']'), '$[*]' "
  .. "columns (i for ordinality)) as %s"

return {
  -- A transaction that writes what another one waits for is the victim of a deadlock; nobody
  -- comes into conflict without waiting.
  conflict_waits = true,
  -- A failed statement leaves its transaction usable.
  errors_keep_transaction = true,
  -- A text may hold any byte.
  zero_bytes_in_text = true,
  -- There is one zero, and no infinity.
  negative_zero = false,
  nan = false,
  infinity = false,
  -- Only a syntax error tells a place; the name of a constraint has to do.
  positions = false,
  columns_of_constraints = false,
  -- Only an INSERT has RETURNING, and a DELETE.
  update_returning = false,
  text_type = "longtext",
  -- A time with a zone is bound as one, and a text has no zone then.
  timestamp_in_text = "2026-11-21 09:48:00.500000",
  quote = "`",
  -- $name is a name.
  dollar_names = true,
  -- What events have for a status is the number.
  status = "native_code",
  -- exec gives the generated id of an INSERT.
  gives_id = true,
  types = {
    id = "bigint auto_increment primary key",
    integer = "bigint",
    double = "double",
    text = "longtext",
    word = "varchar(191)",
    blob = "longblob",
    boolean = "boolean",
    json = "json",
  },
  casts = {
    integer = "cast(%s as signed)",
    double = "cast(%s as double)",
    text = "cast(%s as char)",
    blob = "cast(%s as binary)",
    json = "json_extract(%s, '$')",
  },
  sql = {
    endless = "select count(*) from " .. numbers:format(10000, "a") .. ", "
      .. numbers:format(10000, "b") .. ", " .. numbers:format(10000, "c"),
    series = "select i from " .. numbers:format("?", "n"),
    stuck = "select i, '%s', if(i > 200, sleep(1000), 0) from " .. numbers:format(300, "n"),
    joined = "select concat(?,?)",
    upsert = "on duplicate key update name = 'b'",
    -- How many wait for a lock, in the second column.
    waiting = "show global status like 'innodb_row_lock_current_waits'",
    -- Every constraint is looked at with the statement.
    deferred = "",
  },
}
