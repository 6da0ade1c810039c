# Moonbase.  `make help` lists the targets; README.md says what they are for.

# --- What users may set -------------------------------------------------------

LUA ?= lua5.4
CC ?= cc
CFLAGS ?= -O2 -g
LIBFLAG ?= -shared
LUA_PC ?= $(LUA)
LUA_INCDIR ?= $(patsubst -I%,%,$(firstword $(shell pkg-config --cflags-only-I $(LUA_PC) 2>/dev/null) -I/usr/include/$(LUA)))
PREFIX ?= /usr/local

# --- Where things are built ---------------------------------------------------
# Objects that see Lua's headers are in a folder named after them, so that those
# of two Luas cannot mix; sanitizers add a suffix.

SUFFIX ?=
BUILD := build/$(notdir $(LUA_INCDIR))$(SUFFIX)
OBJ := build/obj$(SUFFIX)
LUAOBJ := $(BUILD)/obj

# LuaRocks gives CFLAGS on the command line, which would undo `CFLAGS +=`.
base_cflags := -std=c11 -D_POSIX_C_SOURCE=200809L -fvisibility=hidden -fPIC \
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wstrict-prototypes \
  -Wmissing-prototypes -Wwrite-strings -Wundef -Wvla
ifdef STRICT
base_cflags += -Werror
endif
all_cflags = $(base_cflags) -MMD -MP $(CFLAGS)
nodelete := $(if $(filter Darwin,$(shell uname -s)),,-Wl$(,)-z$(,)nodelete)
, := ,
nodelete := $(if $(filter Darwin,$(shell uname -s)),,-Wl,-z,nodelete)

# --- Drivers ------------------------------------------------------------------

known_drivers := sqlite
pc_sqlite := sqlite3
DRIVERS ?= $(foreach d,$(known_drivers),$(if $(shell pkg-config --exists $(pc_$(d)) && echo yes),$(d)))

core_src := $(wildcard src/core/*.c)
lua_src := $(wildcard src/lua/*.c)
core_obj := $(core_src:%.c=$(OBJ)/%.o)
lua_obj := $(lua_src:%.c=$(LUAOBJ)/%.o)
driver_src = $(filter-out %/module.c,$(wildcard drivers/$(1)/*.c))

modules := $(BUILD)/moonbase/core.so \
  $(foreach d,$(DRIVERS),$(BUILD)/moonbase/driver/$(d).so)

.SECONDARY:
.DELETE_ON_ERROR:
.PHONY: all build clean

all: build
build: $(modules)

$(OBJ)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(all_cflags) -DMOONBASE_BUILTIN $(client_cflags) -c $< -o $@

$(LUAOBJ)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(all_cflags) -DMOONBASE_BUILTIN -I$(LUA_INCDIR) -c $< -o $@

$(BUILD)/moonbase/core.so: $(core_obj) $(lua_obj)
	@mkdir -p $(@D)
	$(CC) $(LIBFLAG) $(CFLAGS) -o $@ $^ $(nodelete) -lpthread

define driver_rules
$(BUILD)/moonbase/driver/$(1).so: $(patsubst %.c,$(OBJ)/%.o,$(call driver_src,$(1))) $(LUAOBJ)/drivers/$(1)/module.o
	@mkdir -p $$(@D)
	$$(CC) $$(LIBFLAG) $$(CFLAGS) -o $$@ $$^ $$(nodelete) $$(shell pkg-config --libs $$(pc_$(1))) -lm -lpthread
$(OBJ)/drivers/$(1)/%.o: client_cflags := $$(shell pkg-config --cflags $$(pc_$(1)))
endef
$(foreach d,$(known_drivers),$(eval $(call driver_rules,$(d))))

# --- Tests --------------------------------------------------------------------

LUAS ?= lua5.4 luajit
SPECS ?= spec
busted := $(shell command -v busted)
c_tests := $(patsubst spec/c/%.c,$(OBJ)/spec/c/%,$(wildcard spec/c/*_test.c))

# The environment in which an interpreter finds what was built for it.
incdir_of = $(patsubst -I%,%,$(firstword $(shell pkg-config --cflags-only-I $(1) 2>/dev/null) -I/usr/include/$(1)))
build_of = build/$(notdir $(call incdir_of,$(1)))$(SUFFIX)
lua_env = LUA_PATH="lua/?.lua;lua/?/init.lua;;" LUA_CPATH="$(call build_of,$(1))/?.so;;"

$(OBJ)/spec/c/%: spec/c/%.c $(core_obj)
	@mkdir -p $(@D)
	$(CC) $(all_cflags) -DMOONBASE_BUILTIN -o $@ $< $(core_obj) -lsqlite3 -lpthread

.PHONY: test build-all c-tests
build-all:
	@for lua in $(LUAS); do $(MAKE) --no-print-directory build LUA=$$lua || exit 1; done
c-tests: $(c_tests)

test: build-all c-tests
	@$(firstword $(LUAS)) spec/run.lua \
	  $(foreach t,$(c_tests),"$(notdir $(t)): $(t)") \
	  $(foreach lua,$(LUAS),'$(lua): $(call lua_env,$(lua)) $(lua) $(busted) $(SPECS)')

clean:
	rm -rf build

-include $(shell find build -name '*.d' 2>/dev/null)
