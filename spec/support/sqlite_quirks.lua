--- Where SQLite differs from what spec/support/databases.lua takes for usual.
return {
  -- One that takes the lock for writing when it begins never comes into conflict.
  conflict = { mode = "deferred", isolation = "serializable" },
  -- Columns take values of any type.
  checks_types = false,
  -- A text with a zero byte is stored whole.
  zero_bytes_in_text = true,
  -- A failed statement leaves its transaction usable.
  errors_keep_transaction = true,
  -- There is one sign of zero in a column, and no NaN.
  negative_zero = false,
  nan = false,
  infinity = true,
  -- exec gives the generated id of an INSERT.
  gives_id = true,
  -- A write that is stopped takes the transaction around it along.
  stop_ends_transaction = true,
  -- A value is of its own type.
  casts = { integer = "%s", double = "%s", text = "%s", blob = "%s", json = "%s" },
  types = {
    id = "integer primary key",
    integer = "integer",
    double = "real",
    text = "text",
    blob = "blob",
    boolean = "boolean",
    json = "json",
  },
}
