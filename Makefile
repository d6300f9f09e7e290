# clawback
#
#   make [all]      the program, build/clawback, and its plugin for nbdkit
#   make check      builds and runs the unit tests; checks headers and layers
#   make tests      builds every test program, runs none
#   make fuzz       fuzzes every decoder of bytes from outside: scripts/fuzz
#   make coverage   unit and native lanes with coverage, report on stdout
#   make install    DESTDIR= PREFIX=/usr/local SYSCONFDIR=/etc
#                   SYSTEMDUNITDIR=PREFIX/lib/systemd/system
#                   SYSTEMDSHUTDOWNDIR=/usr/lib/systemd/system-shutdown
#                   INITRAMFSDIR=/usr/share/initramfs-tools
#   make deb        a Debian package, build/deb/clawback_VERSION_ARCH.deb; compiles anew, but for
#                   DEB_OBJECTS=DIR, a build folder whose objects may be used
#   make clean
#
#   V=1             show commands
#   BUILD=DIR       output folder (default build)
#   SANITIZER=address|undefined|thread|address,undefined
#   COVERAGE=1      instrument for gcov
#   FAULTS=1        with named fault points (agent/base/fault.h); for tests only
#   FUZZ=1          compile for libFuzzer, by clang; make fuzzers builds the harnesses
#
# One static library a room; a room links only against those below it.

BUILD ?= build
PREFIX ?= /usr/local
SYSCONFDIR ?= /etc
SYSTEMDUNITDIR ?= $(PREFIX)/lib/systemd/system
# systemd and initramfs-tools look nowhere else.
SYSTEMDSHUTDOWNDIR ?= /usr/lib/systemd/system-shutdown
INITRAMFSDIR ?= /usr/share/initramfs-tools
CC ?= gcc
CLANG ?= clang
BPFTOOL ?= $(firstword $(wildcard /usr/sbin/bpftool) bpftool)
VERSION := 0.1.0
ifneq ($(FUZZ),)
CC := $(CLANG)
CFLAGS ?= -O1 -g
SANITIZER := fuzzer-no-link,address,undefined
endif

PACKAGES := libbpf devmapper libudev liburing libzstd libcurl libcrypto jansson expat \
	blkid ini_config libsystemd libmicrohttpd libqrencode
CFLAGS ?= -O2 -g
WARNINGS := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
	-Wvla -Wformat=2 -Wundef
ifneq ($(FUZZ),)
WARNINGS += -Wno-format-nonliteral	# clang's is stricter than gcc's
endif
# Position-independent for the nbdkit plugin, which is a shared object of the same objects.
HARDENING := -fPIC -fno-semantic-interposition -fstack-protector-strong -fstack-clash-protection
LINK_HARDENING := -pie -Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack
ifeq ($(SANITIZER)$(COVERAGE),)
HARDENING += -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2
endif
ifneq ($(SANITIZER),)
HARDENING += -fsanitize=$(SANITIZER) -fno-omit-frame-pointer -fno-sanitize-recover=all
LINK_HARDENING += -fsanitize=$(SANITIZER)
endif
ifneq ($(FAULTS),)
HARDENING += -DCLAWBACK_FAULTS
endif
ifneq ($(COVERAGE),)
HARDENING += --coverage -fprofile-update=atomic
LINK_HARDENING += --coverage
endif

ALL_CFLAGS := -std=gnu11 -D_GNU_SOURCE -DCLAWBACK_VERSION='"$(VERSION)"' $(WARNINGS) \
	$(HARDENING) $(CFLAGS) -pthread -I. -I$(BUILD)/include \
	$(shell pkg-config --cflags $(PACKAGES))
# agent/base/late.h: loaded when they are needed.
LATE := libcurl libmicrohttpd
# libhpdf comes without a .pc file.
LIBS := $(shell pkg-config --libs $(filter-out $(LATE),$(PACKAGES))) -lhpdf -lm -ldl -pthread

ifeq ($(V),)
Q := @
say = @printf '  %-5s %s\n' '$(1)' '$(2)';
else
Q :=
say =
endif

# Rooms from the top down: each may use those to its right.
ROOMS := agent/cli agent/kit agent/nbd agent/recover agent/protect agent/drill agent/serve agent/restore agent/config agent/repo agent/pipeline \
	agent/adopt agent/disk agent/volume agent/store agent/crypto bpf blockmap agent/policy agent/base
room_name = $(notdir $(1))
room_sources = $(filter-out %.bpf.c,$(wildcard $(1)/*.c))
PRESENT := $(foreach r,$(ROOMS),$(if $(call room_sources,$(r)),$(r)))
LIBRARIES := $(foreach r,$(PRESENT),$(BUILD)/lib/$(call room_name,$(r)).a)

# nbdkit loads it. A sanitizer would have to be in nbdkit before.
PLUGIN := $(if $(SANITIZER),,$(BUILD)/nbdkit-clawback-plugin.so)
PLUGIN_LIBRARIES := $(filter-out %/cli.a %/nbd.a,$(LIBRARIES))

# The room and all below it, for a test of room NAME.
from_room = $(if $(filter $(1),$(call room_name,$(firstword $(2)))),$(2),$(if $(2),$(call from_room,$(1),$(wordlist 2,99,$(2)))))
archives = $(foreach r,$(1),$(BUILD)/lib/$(call room_name,$(r)).a)

all: $(BUILD)/clawback $(PLUGIN)

.DELETE_ON_ERROR:
.SECONDARY:
.PHONY: all check tests fuzz fuzzers coverage install deb clean headers layers

# ---- the eBPF program and its skeleton ------------------------------------
ARCH := $(shell uname -m | sed 's/x86_64/x86/;s/aarch64/arm64/')
MULTIARCH := $(shell $(CC) -print-multiarch)

$(BUILD)/bpf/%.bpf.o: bpf/%.bpf.c
	@mkdir -p $(@D)
	$(call say,BPF,$@)
	$(Q)$(CLANG) -O2 -g -target bpf -mcpu=v3 -D__TARGET_ARCH_$(ARCH) -Wall -Werror \
		-I. -I/usr/include/$(MULTIARCH) -MMD -MP -MF $@.d -c $< -o $@
	$(Q)llvm-strip -g $@ 2>/dev/null || true

$(BUILD)/include/%.skel.h: $(BUILD)/bpf/%.bpf.o
	@mkdir -p $(@D)
	$(call say,SKEL,$@)
	$(Q)$(BPFTOOL) gen skeleton $< >$@

# ---- rooms ------------------------------------------------------------------
$(BUILD)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC,$@)
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -c $< -o $@

# Skeletons must exist before anything in bpf/ is compiled.
$(patsubst %.c,$(BUILD)/obj/%.o,$(call room_sources,bpf)): \
	$(patsubst bpf/%.bpf.c,$(BUILD)/include/%.skel.h,$(wildcard bpf/*.bpf.c))

define room_rules
$(BUILD)/lib/$(call room_name,$(1)).a: $(patsubst %.c,$(BUILD)/obj/%.o,$(call room_sources,$(1)))
	@mkdir -p $$(@D)
	$$(call say,AR,$$@)
	$$(Q)rm -f $$@ && ar rcs $$@ $$^
endef
$(foreach r,$(PRESENT),$(eval $(call room_rules,$(r))))

$(BUILD)/clawback: $(LIBRARIES)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_CFLAGS) $(LINK_HARDENING) -o $@ -Wl,--start-group $^ -Wl,--end-group $(LIBS)

PLUGIN_OBJECTS := $(patsubst %.c,$(BUILD)/obj/%.o,$(wildcard agent/nbd/*.c))

$(BUILD)/nbdkit-clawback-plugin.so: $(PLUGIN_OBJECTS) $(PLUGIN_LIBRARIES)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_CFLAGS) $(filter-out -pie,$(LINK_HARDENING)) -shared -o $@ $(PLUGIN_OBJECTS) \
		-Wl,--exclude-libs,ALL -Wl,--as-needed \
		-Wl,--start-group $(PLUGIN_LIBRARIES) -Wl,--end-group $(LIBS)

# ---- tests --------------------------------------------------------------------
# tests/unit/ROOM_*.c and tests/native/ROOM_*.c link against ROOM and what is
# below; tests/lib/*.c is shared by all.
TEST_SOURCES := $(wildcard tests/unit/*.c tests/native/*.c tests/vm/*.c tests/store/*.c)
TEST_PROGRAMS := $(patsubst %.c,$(BUILD)/%,$(TEST_SOURCES))
UNIT_PROGRAMS := $(patsubst %.c,$(BUILD)/%,$(wildcard tests/unit/*.c))
TEST_LIB := $(patsubst %.c,$(BUILD)/obj/%.o,$(wildcard tests/lib/*.c))
test_room = $(firstword $(subst _, ,$(notdir $(basename $(1)))))

define test_rules
$(BUILD)/$(basename $(1)): $(BUILD)/obj/$(basename $(1)).o $(TEST_LIB) $(call archives,$(call from_room,$(call test_room,$(1)),$(PRESENT)))
	@mkdir -p $$(@D)
	$$(call say,LD,$$@)
	$$(Q)$$(CC) $$(ALL_CFLAGS) $$(LINK_HARDENING) -o $$@ $$< $(TEST_LIB) \
		-Wl,--start-group $(call archives,$(call from_room,$(call test_room,$(1)),$(PRESENT))) -Wl,--end-group \
		-lcmocka $$(LIBS)
endef
$(foreach t,$(TEST_SOURCES),$(eval $(call test_rules,$(t))))

tests: $(TEST_PROGRAMS)

check: headers layers $(UNIT_PROGRAMS)
	$(Q)for t in $(UNIT_PROGRAMS); do echo "== $$t"; $$t || exit 1; done

# tests/fuzz/ROOM_*.c, in a build folder of their own: all is instrumented.
FUZZ_SOURCES := $(wildcard tests/fuzz/*.c)

define fuzz_rules
$(BUILD)/$(basename $(1)): $(BUILD)/obj/$(basename $(1)).o $(call archives,$(call from_room,$(call test_room,$(1)),$(PRESENT)))
	@mkdir -p $$(@D)
	$$(call say,LD,$$@)
	$$(Q)$$(CC) $$(ALL_CFLAGS) $$(LINK_HARDENING) -fsanitize=fuzzer -o $$@ $$< \
		-Wl,--start-group $(call archives,$(call from_room,$(call test_room,$(1)),$(PRESENT))) -Wl,--end-group \
		$$(LIBS)
endef
# Without libFuzzer: the inputs kept, and changed ones (tests/fuzz/replay/replay.c).
define replay_rules
$(BUILD)/$(basename $(1)): $(BUILD)/obj/$(basename $(1)).o $(BUILD)/obj/tests/fuzz/replay/replay.o $(call archives,$(call from_room,$(call test_room,$(1)),$(PRESENT)))
	@mkdir -p $$(@D)
	$$(call say,LD,$$@)
	$$(Q)$$(CC) $$(ALL_CFLAGS) $$(LINK_HARDENING) -o $$@ $$< $(BUILD)/obj/tests/fuzz/replay/replay.o \
		-Wl,--start-group $(call archives,$(call from_room,$(call test_room,$(1)),$(PRESENT))) -Wl,--end-group \
		$$(LIBS)
endef
$(foreach f,$(FUZZ_SOURCES),$(eval $(call $(if $(FUZZ),fuzz_rules,replay_rules),$(f))))

fuzzers: $(if $(FUZZ),$(patsubst %.c,$(BUILD)/%,$(FUZZ_SOURCES)))
	$(if $(FUZZ),@:,$(error make fuzzers wants FUZZ=1 and a BUILD of its own; scripts/fuzz gives both))

fuzz:
	$(Q)scripts/fuzz

# Every header compiles alone.
HEADERS := $(wildcard agent/*/*.h blockmap/*.h bpf/*.h)
headers: $(patsubst %.h,$(BUILD)/headers/%.ok,$(filter-out bpf/tracker_abi.h,$(HEADERS)))
$(BUILD)/headers/%.ok: %.h
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -MF $@.d -MT $@ -x c -fsyntax-only -include $< /dev/null
	@touch $@

layers:
	$(Q)scripts/check-layers

coverage:
	$(Q)scripts/coverage

# ---- installing ---------------------------------------------------------------
install: $(BUILD)/clawback $(PLUGIN)
	install -D -m 755 $(BUILD)/clawback $(DESTDIR)$(PREFIX)/sbin/clawback
	install -d -m 755 $(DESTDIR)$(PREFIX)/lib/clawback
	$(if $(PLUGIN),install -m 644 $(PLUGIN) $(DESTDIR)$(PREFIX)/lib/clawback/)
	install -D -m 644 docs/clawback.8 $(DESTDIR)$(PREFIX)/share/man/man8/clawback.8
	install -d -m 755 $(DESTDIR)$(PREFIX)/share/man/man5
	sed 's|/usr/local/lib/clawback|$(PREFIX)/lib/clawback|' docs/clawback.conf.5 \
		>$(DESTDIR)$(PREFIX)/share/man/man5/clawback.conf.5
	install -d -m 755 $(DESTDIR)$(SYSTEMDUNITDIR)
	for unit in clawback-handover.service clawback-handover-root.service \
		    clawback-protect.service clawback-backup@.service clawback-backup@.timer; do \
		sed 's|@SBINDIR@|$(PREFIX)/sbin|' scripts/packaging/$$unit \
			>$(DESTDIR)$(SYSTEMDUNITDIR)/$$unit || exit; done
	install -d -m 755 $(DESTDIR)$(SYSTEMDSHUTDOWNDIR)
	sed 's|@SBINDIR@|$(PREFIX)/sbin|' scripts/packaging/system-shutdown \
		>$(DESTDIR)$(SYSTEMDSHUTDOWNDIR)/clawback
	chmod 755 $(DESTDIR)$(SYSTEMDSHUTDOWNDIR)/clawback
	install -D -m 644 scripts/packaging/grub.cfg $(DESTDIR)$(SYSCONFDIR)/default/grub.d/clawback.cfg
	install -D -m 755 scripts/packaging/initramfs-hook $(DESTDIR)$(INITRAMFSDIR)/hooks/clawback
	install -D -m 755 scripts/packaging/initramfs-premount \
		$(DESTDIR)$(INITRAMFSDIR)/scripts/local-premount/clawback
	for hook in postgresql-checkpoint mariadb-lock mongodb-lock drill-postgresql; do \
		install -D -m 755 scripts/hooks/$$hook \
			$(DESTDIR)$(PREFIX)/lib/clawback/hooks/$$hook || exit; done
	install -D -m 755 scripts/rescue-image $(DESTDIR)$(PREFIX)/lib/clawback/rescue-image
	install -d -m 755 $(DESTDIR)$(PREFIX)/lib/clawback/rescue
	for part in init session ask medium dhcp trim; do \
		install -m 755 scripts/rescue/$$part $(DESTDIR)$(PREFIX)/lib/clawback/rescue/ || exit; done
	install -m 644 scripts/rescue/grub.cfg $(DESTDIR)$(PREFIX)/lib/clawback/rescue/
	install -d -m 755 $(DESTDIR)$(SYSCONFDIR)/clawback
	install -d -m 700 $(DESTDIR)/var/lib/clawback

deb:
	$(Q)scripts/packaging/deb $(VERSION) $(BUILD)/deb $(DEB_OBJECTS)

clean:
	rm -rf $(BUILD)

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
