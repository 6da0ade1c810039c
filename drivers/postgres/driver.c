/* driver.c: the table. */
#include "driver.h"

#include "postgres.h"

#include <stdio.h>

static const char *const schemes[] = {"postgres", "postgresql", NULL};

/* The version of the libpq that is running. */
static const char *library_version(void)
{
  static _Thread_local char version[24];
  const int number = PQlibVersion();
  (void)snprintf(
      version, sizeof version, "%d.%d", number / 10000, number % 10000);
  return version;
}

const mb_driver mb__driver_postgres = {
    .abi = MB_DRIVER_ABI,
    .size = sizeof(mb_driver),
    .name = "postgres",
    .schemes = schemes,
    .database_name = "PostgreSQL",
    .library_version = library_version,
    .options = pg_options,
    .open_connector = pg_open_connector,
    .close_connector = pg_close_connector,
    .connect = pg_connect,
    .close = pg_close,
    .abandon = pg_abandon,
    .is_valid = pg_is_valid,
    .consume = pg_consume,
    .ping = pg_ping,
    .reset = pg_reset,
    .capability = pg_capability,
    .transaction_state = pg_transaction_state,
    .resume = pg_resume,
    .prepare = pg_prepare,
    .describe = pg_describe,
    .execute = pg_execute,
    .execute_many = pg_execute_many,
    .fetch = pg_fetch,
    .finish = pg_finish,
    .close_statement = pg_close_statement,
    .exec_text = pg_exec_text,
    .pipeline_begin = pg_pipeline_begin,
    .pipeline_sync = pg_pipeline_sync,
    .pipeline_next = pg_pipeline_next,
    .pipeline_end = pg_pipeline_end,
    .copy_in_begin = pg_copy_in_begin,
    .copy_in_put = pg_copy_in_put,
    .copy_in_end = pg_copy_in_end,
    .copy_out_begin = pg_copy_out_begin,
    .copy_out_get = pg_copy_out_get,
    .copy_out_end = pg_copy_out_end,
    .begin = pg_begin,
    .commit = pg_commit,
    .rollback = pg_rollback,
    .cancel_handle = pg_cancel_handle,
    .cancel = pg_cancel,
    .release_cancel = pg_release_cancel,
    .command = pg_command,
};

const mb_driver *mb_driver_postgres(void)
{
  return &mb__driver_postgres;
}
