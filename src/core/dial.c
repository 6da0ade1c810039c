/*
 * dial.c: a connect on a thread of its own.
 */
#include "dial.h"

#include "errand.h"

#include <string.h>

#define NS_PER_SECOND INT64_C(1000000000)
/* For a session that nobody wants any more. */
#define CLOSE_LIMIT_NS (1 * NS_PER_SECOND)

struct mb__dial {
  mb__errand errand; /* first */
  mb_conn *conn;     /* a reference: its memory, and what is constant */
  mb_connect_args args;
  char *password;      /* of args; owned */
  mb__lookups lookups; /* of args; the connection's when it has ended */
  mb_op op;

  /* What came out. */
  mb_driver_conn *impl;
  mb_status status;
  mb_error error;
};

static void connect(mb__errand *errand)
{
  mb__dial *dial = (mb__dial *)errand;
  const mb_driver *driver = dial->conn->driver;
  dial->status = driver->connect(dial->conn->connector->impl, &dial->args,
      &dial->impl, &dial->op, &dial->error);
  if (dial->status == MB_WAIT)
    dial->status = mb__host.fail(&dial->error, MB_DRIVER_FAULT,
        "driver \"%s\" asked to wait, and says that its calls block",
        driver->name);
}

static void free_dial(mb__errand *errand)
{
  mb__dial *dial = (mb__dial *)errand;
  if (dial->impl != NULL)
    dial->conn->driver->close(dial->impl, mb__deadline_ns(CLOSE_LIMIT_NS));
  mb__lookups_free(&dial->lookups);
  mb__release_secret(dial->password);
  mb_conn_unref(dial->conn);
  mb__host.release(dial);
}

bool mb__dial_wants(const mb_conn *conn)
{
  return conn->connector->info.blocks && conn->op.bounded;
}

/* A driver that looks may end an attempt that nobody waits for. */
void mb__dial_leave(mb_conn *conn)
{
  mb__dial *dial = conn->opening.dial;
  if (dial == NULL)
    return;
  conn->opening.dial = NULL;
  atomic_store(&dial->op.stop, MB_STOP_CANCEL);
  mb__errand_leave(&dial->errand);
}

mb_status mb__dial_start(mb_conn *conn, mb_error *error)
{
  const mb_connect_args *args = &conn->opening.args;
  mb__dial *dial = mb__allocate_zeroed(1, sizeof *dial);
  if (dial == NULL)
    return mb__out_of_memory(error);
  if (args->password != NULL && (dial->password = mb__copy_text(args->password,
                                     strlen(args->password))) == NULL) {
    mb__host.release(dial);
    return mb__out_of_memory(error);
  }
  dial->errand.work = connect;
  dial->errand.free = free_dial;
  dial->errand.driver = conn->driver;
  dial->conn = conn;
  mb_conn_ref(conn);
  dial->args = *args;
  dial->args.password = dial->password;
  dial->lookups = conn->opening.lookups;
  conn->opening.lookups = (mb__lookups){.names = NULL};
  dial->op.bounded = true;
  dial->op.deadline_ns = conn->op.deadline_ns;
  atomic_init(&dial->op.stop, MB_GO_ON);
  conn->opening.dial = dial;
  if (mb__errand_start(&dial->errand, error) != MB_OK) {
    mb__dial_leave(conn);
    return MB_ERROR;
  }
  return mb__errand_wait(&dial->errand, MB_NEVER, &conn->op);
}

mb_status mb__dial_resume(mb_conn *conn, mb_error *error)
{
  mb__dial *dial = conn->opening.dial;
  if (!mb__errand_is_done(&dial->errand)) {
    if (!mb_op_stopped(&mb__host, &conn->op))
      return mb__errand_wait(&dial->errand, MB_NEVER, &conn->op);
    mb__dial_leave(conn);
    return mb__host.fail(error, MB_CANCELED, "could not connect in time");
  }
  const mb_status status = dial->status;
  if (status == MB_ERROR)
    *error = dial->error;
  conn->impl = dial->impl;
  dial->impl = NULL;
  conn->opening.lookups = dial->lookups;
  dial->lookups = (mb__lookups){.names = NULL};
  mb__dial_leave(conn);
  return status;
}
