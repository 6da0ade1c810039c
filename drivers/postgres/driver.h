/* driver.h: the PostgreSQL driver, for C programs that link
 * libmoonbase-postgres. */
#ifndef MB_DRIVERS_POSTGRES_DRIVER_H
#define MB_DRIVERS_POSTGRES_DRIVER_H

#include "../../src/driver.h"

/* The driver; constant. */
const mb_driver *mb_driver_postgres(void)
#if defined(__GNUC__) && !defined(MOONBASE_BUILTIN)
    __attribute__((visibility("default")))
#endif
    ;

#endif
