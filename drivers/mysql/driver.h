/* driver.h: the driver of MySQL and MariaDB, for C programs that link
 * libmoonbase-mysql. */
#ifndef MB_DRIVERS_MYSQL_DRIVER_H
#define MB_DRIVERS_MYSQL_DRIVER_H

#include "../../src/driver.h"

/* The driver; constant. */
const mb_driver *mb_driver_mysql(void)
#if defined(__GNUC__) && !defined(MOONBASE_BUILTIN)
    __attribute__((visibility("default")))
#endif
    ;

#endif
