# Moonbase.  `make help` lists the targets.

# --- What users may set -------------------------------------------------------

LUA ?= lua5.4
LUAS ?= lua5.4 luajit
CC ?= cc
CFLAGS ?= -O2 -g
LIBFLAG ?= -shared
PREFIX ?= /usr/local
# DRIVERS=…  exactly these drivers, not all whose client library is here
# SQLITE_DIR, SQLITE_INCDIR, SQLITE_LIBDIR; PGSQL_…  where a client library is
# DB=…       the databases that tests run on, not all whose driver is built
# MB_NEXT=…  the folder that test-next keeps Debian's unstable suite in
# PG_BIN=…   the folder of PostgreSQL's programs, for another version than the newest
# MYSQL_BIN=…  the folder of the programs of MariaDB or MySQL, for others than the system's
# LOOPS=…    the event loops of test-loops, each with its Lua
# SPECS=…    some of spec/**/*_spec.lua and spec/c/*_test.c
# STRICT=1   warnings are errors
# V=1        shows commands

# --- What has to be installed -------------------------------------------------
# Debian's packages, each with what shows that it is not missing (.ci/deps).

packages_lua5.4 = lua5.4:lua5.4 liblua5.4-dev:lua5.4.pc
packages_lua5.3 = lua5.3:lua5.3 liblua5.3-dev:lua5.3.pc
packages_lua5.1 = lua5.1:lua5.1 liblua5.1-0-dev:lua5.1.pc
packages_luajit = luajit2:luajit libluajit2-5.1-dev:luajit.pc
packages_compile = gcc:$(CC) libc6-dev:stdio.h pkg-config:pkg-config \
  $(if $(SQLITE_DIR)$(SQLITE_INCDIR),,libsqlite3-dev:sqlite3.pc) \
  $(if $(filter postgres%,$(URL) $(databases)),$(client_postgres)) \
  $(if $(filter mysql% mariadb%,$(URL) $(databases)),$(client_mysql))
client_postgres = $(if $(PGSQL_DIR)$(PGSQL_INCDIR),,libpq-dev:libpq.pc)
server_postgres = $(if $(PG_BIN),,postgresql:/usr/lib/postgresql/*/bin/postgres) \
  openssl:openssl pgbouncer:/usr/sbin/pgbouncer
client_mysql = $(if $(MYSQL_DIR)$(MYSQL_INCDIR),,libmariadb-dev:libmariadb.pc)
server_mysql = $(if $(MYSQL_BIN),,mariadb-server:/usr/sbin/mariadbd \
  galera-4:/usr/lib/galera/libgalera_smm.so rsync:rsync) openssl:openssl
# Which databases a test runs on, and their servers.
usual_databases := sqlite postgres mysql
databases = $(if $(filter-out run fuzz bench format docs,$(MAKECMDGOALS)), \
  $(or $(DB),$(DRIVERS),$(usual_databases)))
packages_run = $(packages_compile) $(packages_$(LUA)) tzdata:/usr/share/zoneinfo/tzdata.zi
packages_test = $(packages_run) $(foreach db,$(databases),$(server_$(db))) \
  $(foreach lua,$(LUAS),$(packages_$(lua))) \
  lua-busted:busted luarocks:luarocks liblua5.1-0-dev:lua5.1.pc prometheus:promtool \
  $(packages_loops)
packages_loops = lua-cqueues:/usr/lib/*/lua/5.4/_cqueues.so lua-luv:/usr/lib/*/lua/5.4/luv.so \
  lua-copas:/usr/share/lua/5.1/copas.lua lua-socket:/usr/lib/*/lua/5.4/socket/unix.so \
  nginx:/usr/sbin/nginx libnginx-mod-http-lua:/usr/lib/nginx/modules/ngx_http_lua_module.so \
  lua-resty-core:/usr/share/lua/5.1/resty/core.lua lua-cjson:/usr/lib/*/lua/5.1/cjson.so \
  curl:curl $(packages_luajit)
packages_test-all = $(packages_test) $(packages_lua5.3) $(packages_lua5.1)
packages_deps = $(packages_test)
packages_conformance = $(packages_test)
packages_soak = $(packages_test)
packages_sanitize = $(packages_test)
packages_coverage = $(packages_test)
packages_tsan = $(packages_test)
packages_valgrind = $(packages_test) valgrind:valgrind
packages_format = clang-format:clang-format
packages_lint = $(packages_test) $(packages_format) clang:clang clang-tidy:clang-tidy \
  cppcheck:cppcheck lua-check:luacheck
packages_fuzz = $(packages_compile) $(client_postgres) clang:clang \
  libclang-rt-14-dev:/usr/lib/llvm-*/lib/clang/*/lib/*/libclang_rt.fuzzer*
packages_bench = $(packages_run) $(packages_lua5.4) $(packages_luajit) \
  $(foreach db,$(or $(DB),$(usual_databases)),$(peers_$(db)))
peers_sqlite = lua-sql-sqlite3:/usr/lib/*/lua/5.4/luasql/sqlite3.so \
  lua-dbi-sqlite3:/usr/lib/*/lua/5.4/dbd/sqlite3.so
peers_postgres = $(client_postgres) $(filter-out pgbouncer:%,$(server_postgres)) \
  lua-sql-postgres:/usr/lib/*/lua/5.4/luasql/postgres.so \
  lua-dbi-postgresql:/usr/lib/*/lua/5.4/dbd/postgresql.so \
  lua-socket:/usr/lib/*/lua/5.4/socket/unix.so
packages_bench-openresty = $(packages_run) $(packages_lua5.4) $(packages_loops) wrk:wrk \
  $(if $(PGMOON),$(filter-out pgbouncer:%,$(server_postgres))) \
  $(if $(RESTY_MYSQL),$(client_mysql) $(filter mariadb-server:% openssl:%,$(server_mysql))) \
  lua-filesystem:/usr/lib/*/lua/5.4/lfs.so
peers_mysql = $(client_mysql) $(filter mariadb-server:% openssl:%,$(server_mysql)) \
  lua-sql-mysql:/usr/lib/*/lua/5.4/luasql/mysql.so lua-dbi-mysql:/usr/lib/*/lua/5.4/dbd/mysql.so
packages_docs = lua-ldoc:ldoc

# Before all else, since what follows asks pkg-config.
packages := $(sort $(foreach goal,$(MAKECMDGOALS),$(packages_$(goal))))
ifneq ($(packages),)
ifneq ($(shell .ci/deps $(packages) >&2 && echo there),there)
$(error packages are missing)
endif
endif

# --- Where and how things are built -------------------------------------------
# What sees Lua's headers is in a folder named after them, so that objects of two
# Luas cannot mix.  Builds with other flags have a SUFFIX.

find_headers = $(patsubst -I%,%,$(firstword \
  $(shell pkg-config --cflags-only-I $(notdir $(1)) 2>/dev/null) -I/usr/include/$(notdir $(1))))
luas := $(sort lua5.4 luajit lua5.3 lua5.1 $(LUAS) $(LUA))
$(foreach lua,$(luas),$(eval headers_$(lua) := $(call find_headers,$(lua))))
LUA_INCDIR ?= $(headers_$(LUA))
headers_$(LUA) := $(LUA_INCDIR:%/=%)
lua_libs = $(shell pkg-config --libs $(notdir $(1)))

folder_of = build/$(notdir $(headers_$(1)))$(SUFFIX)
OBJ := build/obj$(SUFFIX)

# CFLAGS are never added to: LuaRocks gives them on the command line.
no_plt := $(shell $(CC) -fno-plt -E -x c /dev/null >/dev/null 2>&1 && echo -fno-plt)
compile = $(CC) -std=c11 -D_POSIX_C_SOURCE=200809L -fPIC -fvisibility=hidden $(no_plt) \
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes \
  -Wwrite-strings -Wundef -Wvla $(if $(STRICT),-Werror) $(CFLAGS) -MMD -MP -MF $@.d -c
link = $(CC) $(LIBFLAG) $(CFLAGS) $(LDFLAGS)
# Inside one module nothing has to be exported.
builtin := -DMOONBASE_BUILTIN
# A pool may outlive the Lua state that loaded the module.
nodelete := $(if $(filter Darwin,$(shell uname -s)),,-Wl,-z,nodelete)

say = $(if $(V),,@echo "  $(1)  $(2)";)
submake = +$(if $(V),,@)$(MAKE) --no-print-directory

.PHONY: force
.SECONDARY:
.DELETE_ON_ERROR:

# Everything is made again when the flags have changed.
flags = $(compile) $(link) $(foreach d,$(drivers),$(client_cflags_$(d)) $(client_libs_$(d)))
$(OBJ)/flags: force
	@mkdir -p $(@D); echo '$(flags)' | cmp -s - $@ || echo '$(flags)' >$@

# --- Drivers ------------------------------------------------------------------
# A client library is where the variables NAME_… say, or pkg-config.

known_drivers := sqlite postgres mysql
name_sqlite := SQLITE
header_sqlite := sqlite3.h
lib_sqlite := sqlite3
pkg_sqlite := sqlite3
package_sqlite := libsqlite3-dev
name_postgres := PGSQL
header_postgres := libpq-fe.h
lib_postgres := pq
pkg_postgres := libpq
package_postgres := libpq-dev
# MariaDB's library, or Oracle's.
name_mysql := MYSQL
header_mysql := mysql.h
lib_mysql = $(if $(wildcard $(libdir_mysql)/libmysqlclient.*),mysqlclient,mariadb)
pkg_mysql := $(shell pkg-config --exists libmariadb && echo libmariadb || echo mysqlclient)
package_mysql := libmariadb-dev

define find_client
incdir_$(1) := $$(or $$($(2)_INCDIR),$$(addsuffix /include,$$($(2)_DIR)))
libdir_$(1) := $$(or $$($(2)_LIBDIR),$$(addsuffix /lib,$$($(2)_DIR)))
ifneq ($$(wildcard $$(incdir_$(1):%=%/$$(header_$(1)))),)
found += $(1)
client_cflags_$(1) := -I$$(incdir_$(1))
client_libs_$(1) := $$(libdir_$(1):%=-L%) $$(libdir_$(1):%=-Wl,-rpath,%) -l$$(lib_$(1))
else ifneq ($$(shell pkg-config --modversion $$(pkg_$(1)) 2>/dev/null),)
found += $(1)
client_cflags_$(1) := $$(shell pkg-config --cflags $$(pkg_$(1)))
client_libs_$(1) := $$(shell pkg-config --libs $$(pkg_$(1)))
endif
endef
$(foreach d,$(known_drivers),$(eval $(call find_client,$(d),$(name_$(d)))))
DRIVERS ?= $(found)
drivers := $(filter $(known_drivers),$(DRIVERS))
# Those around others need no library, and are always built.
wrappers := fault
driver_modules := $(drivers) $(wrappers)

.PHONY: drivers
drivers:
	@$(foreach d,$(filter-out $(found),$(sort $(known_drivers) $(DRIVERS))),echo "Driver $(d) is \
	left out: $(if $(filter $(d),$(known_drivers)),neither $(name_$(d))_DIR nor pkg-config \
	leads to $(header_$(d)) (Debian: $(package_$(d))).,there is none.)" >&2;) \
	$(if $(filter-out $(found),$(DRIVERS)),exit 1;) \
	$(if $(drivers),,echo "No driver can be built." >&2; exit 1)

# --- Modules of Lua -----------------------------------------------------------

objects_of = $(patsubst %.c,$(OBJ)/%.o,$(filter-out %/module.c,$(wildcard $(1)/*.c)))
core := $(call objects_of,src/core)
driver_objects := $(foreach d,$(driver_modules),$(call objects_of,drivers/$(d)))
driver_libs := $(foreach d,$(drivers),$(client_libs_$(d)))
binding_of = $(patsubst %.c,$(1)/obj/%.o,$(wildcard src/lua/*.c))
modules_in = $(1)/moonbase/core.so $(driver_modules:%=$(1)/moonbase/driver/%.so)
modules_of = $(call modules_in,$(call folder_of,$(1)))

.DEFAULT_GOAL := build
.PHONY: build
build: drivers $(call modules_of,$(LUA)) ## builds the modules for LUA=lua5.4

$(foreach d,$(drivers),$(eval $(OBJ)/drivers/$(d)/%.o $(OBJ)/public/drivers/$(d)/%.o: \
  client_cflags = $(client_cflags_$(d))))

$(OBJ)/%.o: %.c $(OBJ)/flags
	@mkdir -p $(@D)
	$(call say,CC,$<) $(compile) $(builtin) $(client_cflags) $< -o $@

define module_rules # headers, folder
$(2)/obj/%.o: %.c $(OBJ)/flags
	@mkdir -p $$(@D)
	$$(call say,CC,$$<) $$(compile) $(builtin) -I$(1) $$(client_cflags) $$< -o $$@

$(2)/moonbase/core.so: $(core) $(call binding_of,$(2))
	@mkdir -p $$(@D)
	$$(call say,LINK,$$@) $$(link) $$^ $(nodelete) -lpthread -o $$@

$(foreach d,$(driver_modules),$(eval \
  $(2)/moonbase/driver/$(d).so: $(call objects_of,drivers/$(d))))
$(2)/moonbase/driver/%.so: $(2)/obj/drivers/%/module.o
	@mkdir -p $$(@D)
	$$(call say,LINK,$$@) $$(link) $$^ $(nodelete) $$(client_libs_$$*) -lm -lpthread -o $$@

$(2)/spec/support/%.so: $(2)/obj/spec/support/%.o
	@mkdir -p $$(@D)
	$$(call say,LINK,$$@) $$(link) $$^ $(nodelete) -lpthread -o $$@
endef
$(foreach h,$(sort $(foreach lua,$(luas),$(headers_$(lua)))),$(eval \
  $(call module_rules,$(h),build/$(notdir $(h))$(SUFFIX))))

# --- Libraries for C ----------------------------------------------------------
# Laid out in a folder as they are installed: include/moonbase/*.h and lib*.

LIB := build/lib$(SUFFIX)
version := $(shell sed -n 's/^\#define MB_VERSION "\(.*\)"/\1/p' src/moonbase.h)
major := $(firstword $(subst ., ,$(version)))
libraries := moonbase $(driver_modules:%=moonbase-%)
headers := $(patsubst %,$(LIB)/include/moonbase/%.h, \
  moonbase driver driver_module driver_text $(driver_modules))
shared := $(libraries:%=$(LIB)/lib%.so.$(major))
archives := $(libraries:%=$(LIB)/lib%.a)

$(OBJ)/public/%.o: %.c $(OBJ)/flags
	@mkdir -p $(@D)
	$(call say,CC,$<) $(compile) $(client_cflags) $< -o $@

define library_rules # name, folder of its sources, libraries that it needs
private_$(1) := $(3) -lpthread
$(LIB)/lib$(1).so.$(major): $(patsubst $(OBJ)/%,$(OBJ)/public/%,$(call objects_of,$(2)))
	@mkdir -p $$(@D)
	$$(call say,LINK,$$@) $$(link) -Wl,-soname,$$(@F) $$^ $$(private_$(1)) -o $$@
	@ln -sf $$(@F) $$(@:.$(major)=)
$(LIB)/lib$(1).a: $(patsubst $(OBJ)/%,$(OBJ)/public/%,$(call objects_of,$(2)))
	@mkdir -p $$(@D); rm -f $$@
	$$(call say,AR,$$@) $$(AR) rcs $$@ $$^
endef
$(eval $(call library_rules,moonbase,src/core))
$(foreach d,$(driver_modules),$(eval \
  $(call library_rules,moonbase-$(d),drivers/$(d),$(client_libs_$(d)) -lm)))

$(LIB)/include/moonbase/%.h: src/%.h
	@mkdir -p $(@D); cp $< $@
$(LIB)/include/moonbase/%.h: drivers/%/driver.h
	@mkdir -p $(@D); sed 's|"../../src/|"|' $< >$@

.PHONY: libraries
libraries: drivers $(headers) $(shared) $(archives) ## the same for C programs, in build/lib

# --- Tests --------------------------------------------------------------------

SPECS ?= $(c_specs) $(lua_specs)
tested_databases = $(or $(DB),$(filter $(usual_databases),$(drivers)),$(drivers))
# Those that want a server.
served := $(wildcard spec/c/*_postgres_test.c)
c_specs := $(filter-out $(if $(filter postgres,$(tested_databases)),,$(served)), \
  $(wildcard spec/c/*_test.c))
c_lua_specs := $(wildcard spec/c/*_lua_test.c)
c_support := $(patsubst %.c,$(OBJ)/%.o,$(filter-out %_test.c,$(wildcard spec/c/*.c)))
# Specs of event loops that want PostgreSQL.
looped := spec/scheduler_spec.lua spec/task_spec.lua
lua_specs := $(sort $(filter-out $(if $(filter postgres,$(tested_databases)),,$(looped)), \
  $(wildcard spec/*_spec.lua)) $(wildcard spec/conformance/*_spec.lua \
  $(patsubst %,spec/driver/%_*_spec.lua,$(tested_databases) $(wrappers)) \
  spec/regress/*_spec.lua))
c_tests = $(patsubst %.c,$(OBJ)/%,$(filter-out $(c_lua_specs),$(filter %.c,$(SPECS))))
c_lua_tests = $(patsubst %.c,$(call folder_of,$(1))/obj/%,$(filter $(c_lua_specs),$(SPECS)))
# Those that the fault driver passes as well, where there is time.
c_around = $(if $(MB_SOAK),$(filter %/transaction_test %/wait_test %/cancellation_test,$(c_tests)))
busted := $(shell command -v busted)
# How an interpreter finds what was built for it.
with_build = LUA_PATH="lua/?.lua;lua/?/init.lua;;" \
  LUA_CPATH="$(call folder_of,$(1))/?.so;;" MB_DB="$(tested_databases)" $(WRAP) $(1)

serve = $(call with_build,$(firstword $(LUAS))) spec/support/serve.lua

$(OBJ)/spec/%.o: client_cflags = $(foreach d,$(drivers),$(client_cflags_$(d)))
$(OBJ)/spec/%_test: $(OBJ)/spec/%_test.o $(c_support) $(core) $(driver_objects)
	$(call say,LINK,$@) $(CC) $(CFLAGS) $(LDFLAGS) $^ $(driver_libs) -lm -lpthread -o $@

# Those of the binding are programs of their own for each Lua.
define lua_test_rules # Lua, folder
$(2)/obj/spec/%.o: client_cflags = $(foreach d,$(drivers),$(client_cflags_$(d)))
$(2)/obj/spec/%_test: $(2)/obj/spec/%_test.o $(core) $(call binding_of,$(2)) $(driver_objects) \
  $(driver_modules:%=$(2)/obj/drivers/%/module.o)
	$$(call say,LINK,$$@) $$(CC) $$(CFLAGS) $$(LDFLAGS) $$^ $$(driver_libs) \
	  $$(call lua_libs,$(1)) -lm -lpthread -o $$@
endef
$(foreach lua,$(LUAS),$(eval $(call lua_test_rules,$(lua),$(call folder_of,$(lua)))))

.PHONY: run test test-all test-loops test-next conformance soak
run: build ## runs examples/timezones.lua on URL=sqlite:timezones.db
	@$(call with_build,$(LUA)) examples/timezones.lua '$(or $(URL),sqlite:timezones.db)'

tested = $(call modules_of,$(1)) $(call folder_of,$(1))/spec/support/thread_host.so \
  $(call c_lua_tests,$(1))
# nginx has LuaJIT.
test: drivers $(c_tests) $(foreach lua,$(LUAS),$(call tested,$(lua))) \
  $(if $(filter spec/openresty_spec.lua,$(SPECS)),$(call modules_of,luajit)) ## all specs and C tests, on LUAS="lua5.4 luajit"
	@$(firstword $(LUAS)) spec/run.lua \
	  $(foreach t,$(c_tests),'$(notdir $(t)): $(if $(filter $(served),$(t:$(OBJ)/%=%.c)),$(serve)) \
	    $(WRAP) $(t)') \
	  $(foreach t,$(c_around),'$(notdir $(t)) with faults around: env MB_FAULT=1 $(WRAP) $(t)') \
	  $(foreach lua,$(LUAS),$(foreach t,$(call c_lua_tests,$(lua)), \
	    '$(notdir $(t)) on $(lua): $(WRAP) $(t)')) \
	  $(if $(filter-out %.c,$(SPECS)),$(foreach lua,$(LUAS), \
	    '$(lua): $(call with_build,$(lua)) $(busted) $(filter-out %.c,$(SPECS))'))

test-all: ## the same on every Lua: 5.4, LuaJIT, 5.3, 5.1
	$(submake) test LUAS="lua5.4 luajit lua5.3 lua5.1"

LOOPS ?= lua5.4:cqueues lua5.4:luv luajit:cqueues luajit:luv luajit:copas
loop_of = $(word 2,$(subst :, ,$(1)))
lua_of = $(word 1,$(subst :, ,$(1)))
test-loops: $(foreach lua,lua5.4 luajit,$(call tested,$(lua))) ## what every driver owes, in tasks of event loops
	@lua5.4 spec/run.lua $(foreach one,$(LOOPS),'$(call lua_of,$(one)) in \
	  $(call loop_of,$(one)): MB_SCHEDULER=$(call loop_of,$(one)) \
	  $(call with_build,$(call lua_of,$(one))) spec/support/tasks.lua \
	  $(wildcard spec/conformance/*_spec.lua)')

test-next: ## conformance and the specs of servers with Debian unstable's PostgreSQL, MySQL, SQLite, gcc
	@.ci/next

conformance: ## what every driver owes: DRIVER=name URL=…
	$(submake) test SPECS=spec/conformance $(if $(DRIVER),MB_DRIVER='$(DRIVER)') \
	  $(if $(URL),MB_URL='$(URL)')

soak: ## what takes long: spec/soak, and the C tests at length
	$(submake) test MB_SOAK=$(or $(MB_SOAK),1) \
	  SPECS="$(filter-out $(if $(filter mysql,$(tested_databases)),,spec/soak/mysql_%), \
	    $(wildcard spec/soak/*_spec.lua)) spec/threads_spec.lua spec/fork_spec.lua \
	    spec/driver/sqlite_writer_spec.lua $(c_specs)"

# --- The same, watched --------------------------------------------------------

watched := -O1 -g -fno-omit-frame-pointer
# gcc 12's sanitizers do not know where newer kernels put things at random.
fixed := $(shell setarch -R true 2>/dev/null && echo setarch -R)
watched_specs = SPECS="$(filter-out spec/packaging_spec.lua,$(SPECS))"
asan = $(shell $(CC) -print-file-name=libasan.so)

.PHONY: sanitize tsan valgrind fuzz coverage
sanitize: ## test under AddressSanitizer and UndefinedBehaviorSanitizer, with leaks
	$(submake) test SUFFIX=$(SUFFIX)-asan $(watched_specs) \
	  CFLAGS="$(watched) -fsanitize=address,undefined -fno-sanitize-recover" \
	  WRAP="$(fixed) env LD_PRELOAD=$(asan) UBSAN_OPTIONS=print_stacktrace=1"

tsan: ## the C tests under ThreadSanitizer, but for those of memory
	$(submake) test SUFFIX=$(SUFFIX)-tsan \
	  SPECS="$(filter-out spec/c/memory_%,$(filter %.c,$(SPECS)))" \
	  CFLAGS="$(watched) -fsanitize=thread" WRAP="$(fixed)"

# Stacks of calls lie beside those of threads: a step as large as half of one goes to another.
memcheck = valgrind --quiet --error-exitcode=9 --leak-check=full --max-stackframe=500000 \
  --show-leak-kinds=definite,indirect --errors-for-leak-kinds=definite,indirect
valgrind: ## test under valgrind
	$(submake) test SUFFIX=$(SUFFIX)-valgrind $(watched_specs) CFLAGS="$(watched)" \
	  WRAP="$(memcheck)"

# Those of a driver are named as it is, and need its library.
fuzzers := $(filter-out $(filter-out $(drivers),$(known_drivers)), \
  $(patsubst spec/fuzz/%_fuzz.c,%,$(wildcard spec/fuzz/*_fuzz.c)))
fuzz: ## every spec/fuzz/*_fuzz.c for SECONDS=60 each
	$(submake) $(fuzzers:%=fuzz-%) SUFFIX=$(SUFFIX)-fuzz CC=clang \
	  CFLAGS="$(watched) -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover"

# Inputs that are found stay in build/fuzz, which is where the next run goes on.
fuzz-%: $(OBJ)/spec/fuzz/%_fuzz
	@mkdir -p build/fuzz/$*
	$(call say,FUZZ,$*) $< -max_total_time=$(or $(SECONDS),60) -verbosity=0 -print_final_stats=1 \
	  -dict=$(or $(wildcard spec/fuzz/$*.dict),spec/fuzz/sql.dict) \
	  -artifact_prefix=build/fuzz/ build/fuzz/$* spec/fuzz/corpus/$*

corpus: $(fuzzers:%=corpus-%) ## adds what fuzz has found and what reaches new code to spec/fuzz/corpus
corpus-%: $(OBJ)-fuzz/spec/fuzz/%_fuzz
	$< -merge=1 -verbosity=0 spec/fuzz/corpus/$* build/fuzz/$*

$(foreach d,$(drivers),$(eval $(OBJ)/spec/fuzz/$(d)_fuzz: $(call objects_of,drivers/$(d))))
$(OBJ)/spec/fuzz/%_fuzz: $(OBJ)/spec/fuzz/%_fuzz.o $(core)
	$(call say,LINK,$@) $(CC) $(CFLAGS) -fsanitize=fuzzer $^ $(client_libs_$*) -lm -lpthread -o $@

coverage: ## test, then lines of src/ and drivers/ that were run; FILE=… shows the others
	@find $(OBJ)-coverage build/lua*[0-9]$(SUFFIX)-coverage -name '*.gcda' -delete 2>/dev/null || true
	$(submake) test SUFFIX=$(SUFFIX)-coverage $(watched_specs) CFLAGS="-O0 -g --coverage"
	@$(firstword $(LUAS)) spec/coverage.lua '$(SUFFIX)-coverage' $(FILE)

# --- Quality ------------------------------------------------------------------

all_files = $(wildcard $(shell git ls-files -co --exclude-standard 2>/dev/null || \
  find * -path build -prune -o -type f -print))
c_files := $(wildcard $(addsuffix /*.[ch],src src/core src/lua drivers/* spec/c spec/fuzz \
  spec/support bench examples))
checkers := format text lua gcc clang exports cppcheck tidy
lint_lua = $(firstword $(LUAS)) spec/lint.lua

.PHONY: lint $(checkers:%=lint-%) objects format bench bench-openresty docs
lint: $(checkers:%=lint-%) ## style, layers, exports, compilers, clang-tidy, cppcheck, luacheck

lint-format:
	@clang-format --dry-run -Werror $(c_files)

lint-text:
	@$(lint_lua) text $(filter-out spec/fuzz/corpus/%,$(all_files))

lint-lua:
	@luacheck --quiet lua bin/moonbase spec bench examples *.rockspec config.ld

lint-gcc lint-clang: lint-%:
	$(submake) objects STRICT=1 CC=$* SUFFIX=$(SUFFIX)-$*

objects: $(foreach lua,$(LUAS),$(call modules_of,$(lua))) $(shared) \
  $(patsubst %.c,$(OBJ)/%.o,$(filter-out $(c_lua_specs),$(c_specs)) $(wildcard spec/fuzz/*.c)) \
  $(foreach lua,$(LUAS),$(patsubst %.c,$(call folder_of,$(lua))/obj/%.o,$(c_lua_specs)))

lint-exports: $(foreach lua,$(LUAS),$(call modules_of,$(lua))) $(shared)
	@$(lint_lua) exports 'luaopen_moonbase_[%w_]+' $(filter-out $(LIB)/%,$^)
	@$(lint_lua) exports 'mb_driver_[%w_]+' $(filter $(LIB)/libmoonbase-%,$^)
	@$(lint_lua) api src/moonbase.h $(LIB)/libmoonbase.so

# autoVariables: a thread that waits stands in the pool's list with its own stack.
lint-cppcheck:
	@cppcheck --quiet --error-exitcode=1 --std=c11 --enable=warning,performance,portability \
	  --suppress=autoVariables:src/core/lending.c $(builtin) src drivers spec/fuzz bench

lint-tidy: $(patsubst %.c,$(OBJ)/%.tidy,$(filter %.c,$(c_files)))

$(OBJ)/%.tidy: %.c .clang-tidy spec/.clang-tidy $(filter %.h,$(c_files)) | $(headers)
	@mkdir -p $(@D)
	$(call say,TIDY,$<) clang-tidy --quiet $< -- -std=c11 -D_POSIX_C_SOURCE=200809L $(builtin) \
	  -isystem $(LUA_INCDIR) -I$(LIB)/include $(foreach d,$(drivers),$(client_cflags_$(d))) \
	  >$@.log 2>&1 || { cat $@.log; exit 1; }
	@touch $@

format: ## formats all C
	clang-format -i $(c_files)

bench: $(foreach lua,lua5.4 luajit,$(call modules_of,$(lua))) $(archives) ## against C, LuaSQL, LuaDBI, pgmoon; DB=, ROUNDS=, ONLY=
	@$(call with_build,lua5.4) bench/run.lua

bench-openresty: $(foreach lua,lua5.4 luajit,$(call modules_of,$(lua))) ## a worker of nginx against PGMOON=, RESTY_MYSQL=; ROUNDS=, SECONDS=, ONLY=
	@$(call with_build,lua5.4) bench/openresty.lua

# For LDoc a class is a type of a module, and what two files define for the module
# moonbase is its own.
docs: ## the reference of the Lua API, into build/docs
	@mkdir -p build/docs
	@{ echo '--- What the functions give.'; echo '---@module handles'; \
	  sed -e '/^---@meta/d; /luacheck:/d; /^---@param self/d' \
	    -e 's/^---@class moonbase\.\([A-Za-z]*\).*/---@type \1/' \
	    $(filter-out %/tables.lua,$(wildcard lua/moonbase/meta/*.lua)); } >build/docs/handles.lua
	@{ cat lua/moonbase/init.lua; for name in values errors; do \
	    tail -n +3 lua/moonbase/$$name.lua | sed "s/^\(function \)\{0,1\}$$name\./\1moonbase./"; \
	  done; } >build/docs/moonbase.lua
	@HOME="$${HOME:-/}" ldoc --quiet .

# --- Installing ---------------------------------------------------------------
# LuaRocks makes build and install-lua, and gives LUADIR, LIBDIR and BINDIR.

lua_version := $(shell $(LUA) -e 'print(_VERSION:match "%d.%d")' 2>/dev/null)
LUADIR ?= $(PREFIX)/share/lua/$(lua_version)
LIBDIR ?= $(PREFIX)/lib/lua/$(lua_version)
BINDIR ?= $(PREFIX)/bin
lua_files := $(wildcard lua/moonbase/*.lua lua/moonbase/*/*.lua lua/moonbase/*/*/*.lua)
modules := $(call modules_of,$(LUA))

define copy # mode, files, folder that they are in, folder that they go to
@for file in $(2); do to="$(DESTDIR)$(4)/$${file#$(3)/}"; \
  install -d "$${to%/*}" && install -m $(1) $$file "$$to" || exit 1; done
endef
define uncopy # files, folder that they are in, folder that they went to
@cd "$(DESTDIR)$(3)" 2>/dev/null && rm -f $(1:$(2)/%=%) && \
  if [ -d moonbase ]; then find moonbase -depth -type d -empty -delete; fi; true
endef

.PHONY: install install-lua install-c uninstall
install: install-lua install-c ## both of the next two, into PREFIX=/usr/local (below DESTDIR)

install-lua: build ## the modules for LUA, and the command moonbase
	$(call copy,644,$(lua_files),lua,$(LUADIR))
	$(call copy,755,$(modules),$(call folder_of,$(LUA)),$(LIBDIR))
	$(call copy,755,bin/moonbase,bin,$(BINDIR))
	@sed "1s|.*|#!$$(command -v $(LUA))|" bin/moonbase >"$(DESTDIR)$(BINDIR)/moonbase"

install-c: libraries ## headers, libraries and pkg-config files for C
	$(call copy,644,$(headers),$(LIB),$(PREFIX))
	$(call copy,644,$(shared) $(archives),$(LIB),$(PREFIX)/lib)
	@install -d "$(DESTDIR)$(PREFIX)/lib/pkgconfig"
	@cd "$(DESTDIR)$(PREFIX)/lib"$(foreach l,$(libraries),; ln -sf lib$(l).so.$(major) lib$(l).so)
	@$(foreach l,$(libraries),sed -e 's|@prefix@|$(PREFIX)|; s|@name@|$(l)|; s|@version@|$(version)|' \
	  -e 's|@requires@|$(if $(filter moonbase-%,$(l)),moonbase)|; s|@private@|$(private_$(l))|' \
	  src/moonbase.pc.in >"$(DESTDIR)$(PREFIX)/lib/pkgconfig/$(l).pc";)

uninstall: ## removes what install has put there
	$(call uncopy,$(lua_files),lua,$(LUADIR))
	$(call uncopy,$(modules),$(call folder_of,$(LUA)),$(LIBDIR))
	$(call uncopy,bin/moonbase,bin,$(BINDIR))
	$(call uncopy,$(headers),$(LIB)/include,$(PREFIX)/include)
	$(call uncopy,$(shared) $(shared:.$(major)=) $(archives),$(LIB),$(PREFIX)/lib)
	$(call uncopy,$(libraries:%=%.pc),,$(PREFIX)/lib/pkgconfig)

# --- And ----------------------------------------------------------------------

.PHONY: deps clean help
deps: ## installs the Debian packages that run and test need
	@echo "Everything is there."

clean: ## removes what was built
	rm -rf build

help: ## this list
	@sed -n 's/^\([a-z][a-z-]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

# x.o says in x.o.d what it includes.
-include $(shell find $(OBJ) $(foreach lua,$(luas),$(call folder_of,$(lua))) -name '*.o.d' \
  2>/dev/null)
