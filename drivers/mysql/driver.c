/* driver.c: the table. */
#include "driver.h"

#include "mysql.h"

static const char *const schemes[] = {"mysql", "mariadb", NULL};

static mb_status init(const mb_host *host, mb_error *error)
{
  if (mysql_library_init(0, NULL, NULL) != 0)
    return mq_out_of_memory(host, error);
  return MB_OK;
}

static void enter_thread(void)
{
  (void)mysql_thread_init();
}

const mb_driver mb__driver_mysql = {
    .abi = MB_DRIVER_ABI,
    .size = sizeof(mb_driver),
    .name = "mysql",
    .schemes = schemes,
    .database_name = "MySQL",
    .library_version = mysql_get_client_info,
    .options = mq_options,
    .library_init = init,
    .thread_enter = enter_thread,
    .thread_leave = mysql_thread_end,
    .open_connector = mq_open_connector,
    .close_connector = mq_close_connector,
    .connect = mq_connect,
    .close = mq_close,
    .abandon = mq_abandon,
    .is_valid = mq_is_valid,
    .ping = mq_ping,
    .reset = mq_reset,
    .capability = mq_capability,
    .transaction_state = mq_transaction_state,
    .prepare = mq_prepare,
    .describe = mq_describe,
    .execute = mq_execute,
    .execute_many = mq_execute_many,
    .fetch = mq_fetch,
    .next_result = mq_next_result,
    .finish = mq_finish,
    .close_statement = mq_close_statement,
    .exec_text = mq_exec_text,
    .begin = mq_begin,
    .commit = mq_commit,
    .rollback = mq_rollback,
    .cancel_handle = mq_cancel_handle,
    .cancel = mq_cancel,
    .release_cancel = mq_release_cancel,
};

const mb_driver *mb_driver_mysql(void)
{
  return &mb__driver_mysql;
}
