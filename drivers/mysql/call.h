/*
 * call.h: the library's calls that may wait for the server.
 *
 * In an event loop (conn->loop) they wait as the core does, where the library
 * lets them: each call of Connector/C has a pair that starts it and goes on
 * with it.  libmysqlclient has none for statements, and such a call blocks, on
 * a thread of the core's.
 */
#ifndef MB_DRIVERS_MYSQL_CALL_H
#define MB_DRIVERS_MYSQL_CALL_H

#include "mysql.h"

#if MQ_LIBMARIADB

/* Waits for what the library says, and answers what has come of it. */
int mq_await(mb_driver_conn *conn, int wanted);

#  define MQ_CALL(conn, type, name, handle, arguments)                 \
    if (MB_RARELY((conn)->loop != NULL)) {                             \
      type result;                                                     \
      for (int wanted = name##_start arguments; wanted != 0;)          \
        wanted = name##_cont(&result, handle, mq_await(conn, wanted)); \
      return result;                                                   \
    }

#else
#  define MQ_CALL(conn, type, name, handle, arguments) (void)(conn);
#endif

static inline int mq_real_query(
    mb_driver_conn *conn, const char *sql, size_t size)
{
  MYSQL *db = conn->db;
  const unsigned long length = (unsigned long)size;
  MQ_CALL(conn, int, mysql_real_query, db, (&result, db, sql, length))
  return mysql_real_query(db, sql, length);
}

static inline MYSQL_RES *mq_store_result(mb_driver_conn *conn)
{
  MYSQL *db = conn->db;
  MQ_CALL(conn, MYSQL_RES *, mysql_store_result, db, (&result, db))
  return mysql_store_result(db);
}

static inline MYSQL_ROW mq_fetch_row(mb_driver_conn *conn, MYSQL_RES *rows)
{
  MQ_CALL(conn, MYSQL_ROW, mysql_fetch_row, rows, (&result, rows))
  return mysql_fetch_row(rows);
}

static inline int mq_session_next_result(mb_driver_conn *conn)
{
  MYSQL *db = conn->db;
  MQ_CALL(conn, int, mysql_next_result, db, (&result, db))
  return mysql_next_result(db);
}

static inline int mq_session_ping(mb_driver_conn *conn)
{
  MYSQL *db = conn->db;
  MQ_CALL(conn, int, mysql_ping, db, (&result, db))
  return mysql_ping(db);
}

static inline int mq_session_reset(mb_driver_conn *conn)
{
  MYSQL *db = conn->db;
  MQ_CALL(conn, int, mysql_reset_connection, db, (&result, db))
  return mysql_reset_connection(db);
}

static inline int mq_stmt_prepare(mb_driver_stmt *stmt)
{
  MYSQL_STMT *handle = stmt->handle;
  const unsigned long size = (unsigned long)stmt->size;
  MQ_CALL(stmt->conn, int, mysql_stmt_prepare, handle,
      (&result, handle, stmt->sql, size))
  return mysql_stmt_prepare(handle, stmt->sql, size);
}

static inline int mq_stmt_execute(mb_driver_stmt *stmt)
{
  MYSQL_STMT *handle = stmt->handle;
  MQ_CALL(stmt->conn, int, mysql_stmt_execute, handle, (&result, handle))
  return mysql_stmt_execute(handle);
}

static inline int mq_stmt_fetch(mb_driver_stmt *stmt)
{
  MYSQL_STMT *handle = stmt->handle;
  MQ_CALL(stmt->conn, int, mysql_stmt_fetch, handle, (&result, handle))
  return mysql_stmt_fetch(handle);
}

static inline int mq_stmt_next_result(mb_driver_stmt *stmt)
{
  MYSQL_STMT *handle = stmt->handle;
  MQ_CALL(stmt->conn, int, mysql_stmt_next_result, handle, (&result, handle))
  return mysql_stmt_next_result(handle);
}

/* Of a cursor: the server gives it up. */
static inline mq_bool mq_stmt_reset(mb_driver_stmt *stmt)
{
  MYSQL_STMT *handle = stmt->handle;
  MQ_CALL(stmt->conn, mq_bool, mysql_stmt_reset, handle, (&result, handle))
  return mysql_stmt_reset(handle);
}

#undef MQ_CALL

#endif
