--- Where PostgreSQL differs from what spec/support/databases.lua takes for usual.
return {
  -- ?, ?| and ?& are operators of jsonb.
  question_operators = true,
  -- There are SQLSTATEs, and no numbers.
  native_codes = false,
}
