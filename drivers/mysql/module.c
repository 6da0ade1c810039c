/* module.c: the driver of MySQL and MariaDB as a module of Lua's. */
#include "driver.h"

#include "../../src/driver_module.h"

MB_DRIVER_MODULE(mysql, mb_driver_mysql())
