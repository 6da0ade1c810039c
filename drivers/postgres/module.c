/* module.c: the PostgreSQL driver as a module of Lua's. */
#include "driver.h"

#include "../../src/driver_module.h"

MB_DRIVER_MODULE(postgres, mb_driver_postgres())
