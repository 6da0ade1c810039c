/*
 * worker.h: threads that calls go on with which would hold up an event loop.
 *
 * There are as many as such calls are going on, so that one which waits for
 * another never keeps that from running; one without work for a while ends.
 */
#ifndef MB_CORE_WORKER_H
#define MB_CORE_WORKER_H

#include "../driver.h"

typedef struct mb__worker mb__worker;

/* A worker for calls of driver, which waits for its work; NULL: none is to be
 * had. */
mb__worker *mb__worker_take(const mb_driver *driver);

/* Has a worker that was taken do its work, which ends with mb__worker_leave.
 * op: that the work goes by; or NULL. */
void mb__worker_give(mb__worker *worker, void (*work)(void *argument),
    void *argument, mb_op *op);

/* On the worker, by its work: nobody may look at its op any more. */
void mb__worker_leave(mb__worker *worker);

/* How many there are, with or without work. */
size_t mb__worker_count(void);

/* Moves in a child, which has none of its parent's workers. */
unsigned mb__worker_epoch(void);

#endif
