/*
 * transaction.c: transactions and savepoints, where the driver inside has
 * functions for them.
 */
#include "fault.h"

#include <string.h>

static mb_status begin_inside(
    mb_driver_conn *conn, ft_call *call, mb_op *op, mb_error *error)
{
  return conn->driver->begin(conn->inner, &call->begin, op, error);
}

mb_status ft_begin(
    mb_driver_conn *conn, const mb_begin *options, mb_op *op, mb_error *error)
{
  const ft_call call = {
      .slot = ft_slot_begin, .hand_on = begin_inside, .begin = *options};
  return ft_run(conn, &call, op, error);
}

static mb_status commit_inside(
    mb_driver_conn *conn, ft_call *call, mb_op *op, mb_error *error)
{
  (void)call;
  return conn->driver->commit(conn->inner, op, error);
}

mb_status ft_commit(mb_driver_conn *conn, mb_op *op, mb_error *error)
{
  const ft_call call = {.slot = ft_slot_commit, .hand_on = commit_inside};
  return ft_run(conn, &call, op, error);
}

static mb_status rollback_inside(
    mb_driver_conn *conn, ft_call *call, mb_op *op, mb_error *error)
{
  (void)call;
  return conn->driver->rollback(conn->inner, op, error);
}

mb_status ft_rollback(mb_driver_conn *conn, mb_op *op, mb_error *error)
{
  const ft_call call = {.slot = ft_slot_rollback, .hand_on = rollback_inside};
  return ft_run(conn, &call, op, error);
}

static mb_status savepoint_inside(
    mb_driver_conn *conn, ft_call *call, mb_op *op, mb_error *error)
{
  return conn->driver->savepoint(conn->inner, call->text, op, error);
}

mb_status ft_savepoint(
    mb_driver_conn *conn, const char *name, mb_op *op, mb_error *error)
{
  const ft_call call = {.slot = ft_slot_savepoint,
      .hand_on = savepoint_inside,
      .text = name,
      .size = strlen(name)};
  return ft_run(conn, &call, op, error);
}

static mb_status release_inside(
    mb_driver_conn *conn, ft_call *call, mb_op *op, mb_error *error)
{
  return conn->driver->release_savepoint(conn->inner, call->text, op, error);
}

mb_status ft_release_savepoint(
    mb_driver_conn *conn, const char *name, mb_op *op, mb_error *error)
{
  const ft_call call = {.slot = ft_slot_release_savepoint,
      .hand_on = release_inside,
      .text = name,
      .size = strlen(name)};
  return ft_run(conn, &call, op, error);
}

static mb_status rollback_to_inside(
    mb_driver_conn *conn, ft_call *call, mb_op *op, mb_error *error)
{
  return conn->driver->rollback_to(conn->inner, call->text, op, error);
}

mb_status ft_rollback_to(
    mb_driver_conn *conn, const char *name, mb_op *op, mb_error *error)
{
  const ft_call call = {.slot = ft_slot_rollback_to,
      .hand_on = rollback_to_inside,
      .text = name,
      .size = strlen(name)};
  return ft_run(conn, &call, op, error);
}
