/* driver.h: the fault driver, for C programs that link libmoonbase-fault. */
#ifndef MB_DRIVERS_FAULT_DRIVER_H
#define MB_DRIVERS_FAULT_DRIVER_H

#include "../../src/driver.h"

/*
 * A driver around another one, which does what that one does until rules say
 * otherwise: mb_pool_control takes them, as doc/testing.md says.  The same
 * driver gives the same pointer; constant.  inner lives as long as the process.
 * NULL: eight drivers have been wrapped, and there is no room for another.
 */
const mb_driver *mb_driver_fault(const mb_driver *inner)
#if defined(__GNUC__) && !defined(MOONBASE_BUILTIN)
    __attribute__((visibility("default")))
#endif
    ;

#endif
