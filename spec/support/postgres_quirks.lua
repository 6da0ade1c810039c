--- Where PostgreSQL differs from what spec/support/databases.lua takes for usual.
return {
}
