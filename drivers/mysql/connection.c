/* connection.c: what concerns a session as a whole. */
#include "call.h"

#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

void mq_close(mb_driver_conn *conn, int64_t deadline_ns)
{
  const mb_host *host = conn->host;
  /* The library sends a good-bye and waits for nobody. */
  (void)deadline_ns;
  if (conn->db != NULL)
    mq_hang_up(conn->db);
  mq_end_cancel(conn->cancel, false);
  host->release(conn);
}

void mq_abandon(mb_driver_conn *conn)
{
  mq_end_cancel(conn->cancel, true);
  if (conn->db == NULL)
    return;
  /* What the library says at the end is not for the parent's server. */
  const int nowhere = open("/dev/null", O_RDWR | O_CLOEXEC);
  if (nowhere < 0)
    return;
  (void)dup2(nowhere, mq_socket(conn->db));
  (void)close(nowhere);
}

mb_validity mq_is_valid(mb_driver_conn *conn)
{
  if (conn->dead)
    return MB_DEAD;
  struct pollfd socket = {.fd = mq_socket(conn->db), .events = POLLIN};
  /* A server says nothing that it was not asked but its good-bye. */
  return poll(&socket, 1, 0) == 0 ? MB_ALIVE : MB_DEAD;
}

mb_status mq_ping(mb_driver_conn *conn, mb_op *op, mb_error *error)
{
  mq_enter(conn, op);
  conn->sent = true;
  return mq_session_ping(conn) == 0 ? MB_OK : mq_fail(conn, NULL, error);
}

mb_status mq_reset(mb_driver_conn *conn, mb_reset_mode mode, unsigned *lost,
    mb_op *op, mb_error *error)
{
  (void)mode;
  *lost = MB_LOST_STATEMENTS | MB_LOST_SETTINGS;
  mq_enter(conn, op);
  conn->begin_waits = false;
  conn->sent = true;
  if (conn->dead)
    return mq_fail_dead(conn, error);
  /* Measured with 10.11: behind a reset wsrep_sync_wait is what it was set to,
   * and has no effect. */
  if (conn->connector->waits_for_nodes)
    return conn->host->fail(error, MB_UNSUPPORTED,
        "a session that waits for other nodes cannot be reset");
  if (mq_session_reset(conn) != 0)
    return mq_fail(conn, NULL, error);
  /* The library has taken the statements from the session by itself. */
  if (mb_op_stopped(conn->host, op))
    return mq_fail_stopped(conn, error);
  return mq_settle_session(conn, error);
}

/* --- Texts of our own --------------------------------------------------- */

mb_status mq_run_text(
    mb_driver_conn *conn, const char *sql, size_t size, mb_error *error)
{
  MYSQL *db = conn->db;
  conn->sent = true;
  if (mq_real_query(conn, sql, size) != 0)
    return mq_fail(conn, NULL, error);
  for (;;) {
    MYSQL_RES *rows = mysql_use_result(db);
    if (rows != NULL) {
      while (mq_fetch_row(conn, rows) != NULL)
        continue;
      const bool failed = mysql_errno(db) != 0;
      mysql_free_result(rows);
      if (failed)
        return mq_fail(conn, NULL, error);
    } else if (mysql_field_count(db) > 0) {
      return mq_fail(conn, NULL, error);
    }
    const int more = mq_session_next_result(conn);
    if (more > 0)
      return mq_fail(conn, NULL, error);
    if (more < 0)
      return MB_DONE;
  }
}

MYSQL_RES *mq_ask(mb_driver_conn *conn, const char *sql, MYSQL_ROW *row)
{
  if (mq_real_query(conn, sql, strlen(sql)) != 0)
    return NULL;
  MYSQL_RES *rows = mq_store_result(conn);
  if (rows == NULL)
    return NULL;
  *row = mysql_fetch_row(rows);
  if (*row == NULL) {
    mysql_free_result(rows);
    return NULL;
  }
  return rows;
}

#if MQ_LIBMARIADB

int mq_await(mb_driver_conn *conn, int wanted)
{
  const mb_host *host = conn->host;
  mb_wait *wait = &conn->loop->wait;
  *wait = (mb_wait){.fd = mq_socket(conn->db), .deadline_ns = MB_NEVER};
  if (wanted & (MYSQL_WAIT_READ | MYSQL_WAIT_EXCEPT))
    wait->events |= MB_READABLE_FD;
  if (wanted & MYSQL_WAIT_WRITE)
    wait->events |= MB_WRITABLE_FD;
  if (wanted & MYSQL_WAIT_TIMEOUT)
    wait->deadline_ns = host->now_ns() +
                        (int64_t)mysql_get_timeout_value_ms(conn->db) * 1000000;
  const unsigned ready = host->await(conn->loop);
  if (conn->has_tls)
    mq_forget_tls_errors();
  return ready == 0
             ? MYSQL_WAIT_TIMEOUT
             : (ready & MB_READABLE_FD ? wanted & ~MYSQL_WAIT_WRITE : 0) |
                   (ready & MB_WRITABLE_FD ? wanted & MYSQL_WAIT_WRITE : 0);
}

#endif

void mq_refresh_status(mb_driver_conn *conn)
{
  static const char look[] = "do 0";
  static const char end[] = "rollback";
  const unsigned status = conn->db->server_status;
  const bool was_open = (status & SERVER_STATUS_IN_TRANS) != 0;
  if (conn->dead || (!was_open && (status & SERVER_STATUS_AUTOCOMMIT) != 0))
    return;
  if (mq_real_query(conn, look, sizeof look - 1) != 0)
    conn->dead = true;
  /* Of a transaction that an error has ended MariaDB keeps the mode, and takes
   * what comes next as part of one that is read only, until it is told. */
  else if (was_open && (conn->db->server_status & SERVER_STATUS_IN_TRANS) == 0)
    conn->dead = mq_real_query(conn, end, sizeof end - 1) != 0;
}
