/* module.c: the SQLite driver as a module of Lua's. */
#include "driver.h"

#include "../../src/driver_module.h"

MB_DRIVER_MODULE(sqlite, mb_driver_sqlite())
