/*
 * task.h: operations of several steps that can be left while they wait.
 *
 * A task is a function that can be called again: it remembers in an int (at)
 * where it was, and keeps everything else that must survive in structs.  Its
 * steps are calls of the driver, which answer MB_WAIT when they cannot go on.
 * On a blocking connection mb__conn_drive waits right there, so that a task
 * runs through in one call; on a non-blocking one the task answers MB_WAIT, and
 * after mb_conn_resume has brought the driver's call to its end the task is
 * entered again and goes on behind the step.  Both run the same lines.  Calls
 * that block instead are looked after while they last (mb__conn_watch).
 *
 *   static mb_status greet_step(mb_conn *conn, void *argument, mb_error *error)
 *   {
 *     greeting *greet = argument;
 *     mb_status status;
 *
 *     MB_TASK_BEGIN(greet->at);
 *     MB_TASK_AWAIT(greet->at, status, conn, driver->ping(…, error));
 *     if (status == MB_ERROR) …
 *     MB_TASK_END(greet->at);
 *     return status;
 *   }
 *
 * Between two steps no local variable keeps its value.  A `return` inside a
 * task must set at to 0 first (MB_TASK_LEAVE).
 */
#ifndef MB_CORE_TASK_H
#define MB_CORE_TASK_H

#define MB_TASK_BEGIN(at) \
  switch (at) {           \
  case 0:

/* A step that is a call of the driver; nothing is sent any more on a connection
 * that was lost in the step before. */
#define MB_TASK_AWAIT(at, status, conn, call)          \
  do {                                                 \
    (status) = mb__conn_drive((conn),                  \
        (conn)->dead ? mb__conn_lost((conn), error)    \
                     : (mb__conn_watch(conn), (call)), \
        error);                                        \
    if ((status) == MB_WAIT) {                         \
      (at) = __LINE__;                                 \
      return MB_WAIT;                                  \
    case __LINE__:                                     \
      (status) = (conn)->answer;                       \
    }                                                  \
  } while (0)

/* A step that is a task of its own. */
#define MB_TASK_CALL(at, status, call) \
  do {                                 \
    (status) = (call);                 \
    if ((status) == MB_WAIT) {         \
      (at) = __LINE__;                 \
      return MB_WAIT;                  \
    case __LINE__:                     \
      (status) = (call);               \
      if ((status) == MB_WAIT)         \
        return MB_WAIT;                \
    }                                  \
  } while (0)

#define MB_TASK_END(at) \
  }                     \
  (at) = 0

#define MB_TASK_LEAVE(at, status) \
  do {                            \
    (at) = 0;                     \
    return (status);              \
  } while (0)

#endif
