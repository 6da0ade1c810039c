/* driver.h: the SQLite driver, for C programs that link libmoonbase-sqlite. */
#ifndef MB_DRIVERS_SQLITE_DRIVER_H
#define MB_DRIVERS_SQLITE_DRIVER_H

#include "../../src/driver.h"

/* The driver; constant. */
const mb_driver *mb_driver_sqlite(void)
#if defined(__GNUC__) && !defined(MOONBASE_BUILTIN)
    __attribute__((visibility("default")))
#endif
    ;

#endif
