/*
 * batch.c: pipelines and bulk loads.
 */
#include "fault.h"

#include <string.h>

/* --- Pipelines ---------------------------------------------------------- */

static mb_status pipeline_begin_inside(
    mb_driver_conn *conn, ft_call *call, mb_op *op, mb_error *error)
{
  (void)call;
  (void)op;
  return conn->driver->pipeline_begin(conn->inner, error);
}

mb_status ft_pipeline_begin(mb_driver_conn *conn, mb_error *error)
{
  const ft_call call = {
      .slot = ft_slot_pipeline_begin, .hand_on = pipeline_begin_inside};
  return ft_run(conn, &call, NULL, error);
}

static mb_status pipeline_sync_inside(
    mb_driver_conn *conn, ft_call *call, mb_op *op, mb_error *error)
{
  (void)call;
  return conn->driver->pipeline_sync(conn->inner, op, error);
}

mb_status ft_pipeline_sync(mb_driver_conn *conn, mb_op *op, mb_error *error)
{
  const ft_call call = {
      .slot = ft_slot_pipeline_sync, .hand_on = pipeline_sync_inside};
  return ft_run(conn, &call, op, error);
}

static mb_status pipeline_next_inside(
    mb_driver_conn *conn, ft_call *call, mb_op *op, mb_error *error)
{
  return conn->driver->pipeline_next(
      conn->inner, &call->found, call->result, op, error);
}

mb_status ft_pipeline_next(mb_driver_conn *conn, mb_driver_stmt **stmt,
    mb_result *result, mb_op *op, mb_error *error)
{
  const ft_call call = {.slot = ft_slot_pipeline_next,
      .hand_on = pipeline_next_inside,
      .out = stmt,
      .result = result};
  return ft_run(conn, &call, op, error);
}

static mb_status pipeline_end_inside(
    mb_driver_conn *conn, ft_call *call, mb_op *op, mb_error *error)
{
  (void)call;
  return conn->driver->pipeline_end(conn->inner, op, error);
}

mb_status ft_pipeline_end(mb_driver_conn *conn, mb_op *op, mb_error *error)
{
  const ft_call call = {
      .slot = ft_slot_pipeline_end, .hand_on = pipeline_end_inside};
  return ft_run(conn, &call, op, error);
}

/* --- In ----------------------------------------------------------------- */

static mb_status copy_in_begin_inside(
    mb_driver_conn *conn, ft_call *call, mb_op *op, mb_error *error)
{
  return conn->driver->copy_in_begin(
      conn->inner, call->text, call->size, op, error);
}

mb_status ft_copy_in_begin(mb_driver_conn *conn, const char *sql, size_t size,
    mb_op *op, mb_error *error)
{
  const ft_call call = {.slot = ft_slot_copy_in_begin,
      .hand_on = copy_in_begin_inside,
      .text = sql,
      .size = size};
  return ft_run(conn, &call, op, error);
}

static mb_status copy_in_put_inside(
    mb_driver_conn *conn, ft_call *call, mb_op *op, mb_error *error)
{
  return conn->driver->copy_in_put(conn->inner, call->data, call->n, op, error);
}

mb_status ft_copy_in_put(mb_driver_conn *conn, const char *data, size_t size,
    mb_op *op, mb_error *error)
{
  const ft_call call = {.slot = ft_slot_copy_in_put,
      .hand_on = copy_in_put_inside,
      .data = data,
      .n = size};
  return ft_run(conn, &call, op, error);
}

static mb_status copy_in_end_inside(
    mb_driver_conn *conn, ft_call *call, mb_op *op, mb_error *error)
{
  return conn->driver->copy_in_end(
      conn->inner, call->text, call->result, op, error);
}

mb_status ft_copy_in_end(mb_driver_conn *conn, const char *abort,
    mb_result *result, mb_op *op, mb_error *error)
{
  const ft_call call = {.slot = ft_slot_copy_in_end,
      .hand_on = copy_in_end_inside,
      .text = abort,
      .size = abort != NULL ? strlen(abort) : 0,
      .result = result};
  return ft_run(conn, &call, op, error);
}

/* --- Out ---------------------------------------------------------------- */

static mb_status copy_out_begin_inside(
    mb_driver_conn *conn, ft_call *call, mb_op *op, mb_error *error)
{
  return conn->driver->copy_out_begin(
      conn->inner, call->text, call->size, op, error);
}

mb_status ft_copy_out_begin(mb_driver_conn *conn, const char *sql, size_t size,
    mb_op *op, mb_error *error)
{
  const ft_call call = {.slot = ft_slot_copy_out_begin,
      .hand_on = copy_out_begin_inside,
      .text = sql,
      .size = size};
  return ft_run(conn, &call, op, error);
}

static mb_status copy_out_get_inside(
    mb_driver_conn *conn, ft_call *call, mb_op *op, mb_error *error)
{
  return conn->driver->copy_out_get(
      conn->inner, call->data_out, call->size_out, op, error);
}

mb_status ft_copy_out_get(mb_driver_conn *conn, const char **data, size_t *size,
    mb_op *op, mb_error *error)
{
  ft_call call = {.slot = ft_slot_copy_out_get,
      .hand_on = copy_out_get_inside,
      .data_out = data};
  call.size_out = size;
  return ft_run(conn, &call, op, error);
}

static mb_status copy_out_end_inside(
    mb_driver_conn *conn, ft_call *call, mb_op *op, mb_error *error)
{
  return conn->driver->copy_out_end(conn->inner, call->result, op, error);
}

mb_status ft_copy_out_end(
    mb_driver_conn *conn, mb_result *result, mb_op *op, mb_error *error)
{
  const ft_call call = {.slot = ft_slot_copy_out_end,
      .hand_on = copy_out_end_inside,
      .result = result};
  return ft_run(conn, &call, op, error);
}
