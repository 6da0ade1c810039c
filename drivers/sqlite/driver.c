/* driver.c: the table. */
#include "driver.h"

#include "sqlite.h"

static const char *const schemes[] = {"sqlite", NULL};

const mb_driver mb__driver_sqlite = {
    .abi = MB_DRIVER_ABI,
    .size = sizeof(mb_driver),
    .name = "sqlite",
    .schemes = schemes,
    .database_name = "SQLite",
    .library_version = sqlite3_libversion,
    .options = sl_options,
    .open_connector = sl_open_connector,
    .close_connector = sl_close_connector,
    .connect = sl_connect,
    .close = sl_close,
    .abandon = sl_abandon,
    .is_valid = sl_is_valid,
    .capability = sl_capability,
    .transaction_state = sl_transaction_state,
    .prepare = sl_prepare,
    .describe = sl_describe,
    .execute = sl_execute,
    .fetch = sl_fetch,
    .finish = sl_finish,
    .close_statement = sl_close_statement,
    .exec_text = sl_exec_text,
    .begin = sl_begin,
    .commit = sl_commit,
    .rollback = sl_rollback,
    .cancel_handle = sl_cancel_handle,
    .cancel = sl_cancel,
    .release_cancel = sl_release_cancel,
    .command = sl_command,
};

const mb_driver *mb_driver_sqlite(void)
{
  return &mb__driver_sqlite;
}
