/*
 * pool.h: what the pool's file shares with the connections it lends.
 */
#ifndef MB_CORE_POOL_H
#define MB_CORE_POOL_H

#include "connection.h"

/* In which of the pool's lists a connection is; moved in pool.c only. */
enum mb__pool_state {
  MB__POOL_IDLE,    /* may be lent */
  MB__POOL_LENT,    /* a borrower has it */
  MB__POOL_DROPPED, /* its borrower was collected: to be cleaned */
  MB__POOL_AWAY     /* in no list: it is being made, cleaned or closed */
};

#endif
