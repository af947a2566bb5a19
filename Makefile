# mod_usersync; "make help" prints the lines with two of these: ##

SHELL = /bin/bash
APXS ?= $(firstword $(wildcard /usr/bin/apxs /usr/bin/apxs2) apxs)
SOURCES = mod_usersync.c $(sort $(wildcard src/*/*.c))
HEADERS = $(sort $(wildcard include/*.h src/*/*.h))
MODULE = .libs/mod_usersync.so
RECONCILE = support/usersync-reconcile
RECONCILE_PARTS = $(sort $(wildcard support/reconcile/*.c))
RECONCILE_HEADERS = $(wildcard support/reconcile/*.h)
# What the program shares with the module.
RECONCILE_SHARED = $(addsuffix .c,$(addprefix src/base/,json json_scan jwt wipe) \
  $(addprefix src/config/,columns secret values) \
  $(addprefix src/http/,cloexec handle heap http) $(addprefix src/pg/,fault pq) \
  src/supabase/timestamp src/supabase/user src/users/batch_sql)
PACKAGES = json-c libcurl libpq libssl libcrypto

# httpd's and APR's headers come by -isystem: their ring macros trip
# -Wcast-qual.  apxs names the same directories by -I, which gcc then ignores.
INCLUDES := -Iinclude -Isrc -Isupport $(addprefix -isystem ,$(sort $(shell for dir in \
  INCLUDEDIR APR_INCLUDEDIR APU_INCLUDEDIR; do $(APXS) -q $$dir; done 2>&-))) \
  $(shell pkg-config --cflags $(PACKAGES) 2>&-)
WARNINGS = -Wall -Wextra -Wshadow -Wconversion -Wcast-qual -Wstrict-prototypes \
  -Wmissing-prototypes -Wpointer-arith -Wwrite-strings -Wvla \
  $(if $(WERROR),-Werror)
HARDENING = -fvisibility=hidden -fstack-protector-strong $(if $(SANITIZE),,-D_FORTIFY_SOURCE=2)
OPTIMIZE ?= -O2 -g
WERROR ?=
SANITIZE ?=
# CPPFLAGS, CFLAGS and LDFLAGS are the distribution's, or anybody's: they come
# last, so that they prevail.
COMPILE_FLAGS = -std=gnu11 $(OPTIMIZE) $(WARNINGS) $(HARDENING) $(SANITIZE) \
  $(CPPFLAGS) $(CFLAGS)
LINK_FLAGS = -Wl,-z,relro -Wl,-z,now $(LDFLAGS)
LIBRARIES := $(shell pkg-config --libs $(PACKAGES) 2>&-)
LIBEXECDIR ?= $(shell $(APXS) -q LIBEXECDIR)
SBINDIR ?= $(shell $(APXS) -q SBINDIR)
MANDIR ?= $(shell $(APXS) -q MANDIR)
UNITDIR ?= /lib/systemd/system
SYSUSERSDIR ?= /usr/lib/sysusers.d

.PHONY: all install uninstall help deb rpm unit test test-asan test-tsan \
  test-chaos test-deb soak memcheck compare counter-cost screenshots bench demo lint format clean \
  check-build deps deps-test deps-browser deps-bench deps-demo deps-lint deps-deb deps-rpm \
  deps-package

##   all         the module, .libs/mod_usersync.so, and
##               support/usersync-reconcile; WERROR=1: no warning passes
all: $(MODULE) $(RECONCILE)

# The libraries' headers are what a fresh machine lacks first.
$(MODULE): $(SOURCES) $(HEADERS) Makefile | check-build
	$(APXS) -c -o mod_usersync.la '-Wc,$(COMPILE_FLAGS) $(INCLUDES)' \
	  '-Wl,$(SANITIZE) $(LINK_FLAGS)' $(LIBRARIES) $(SOURCES)

CPPFLAGS_OF_HTTPD := $(shell $(APXS) -q EXTRA_CPPFLAGS 2>&-)

build/support/%.o: %.c $(HEADERS) $(RECONCILE_HEADERS) Makefile | check-build
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS_OF_HTTPD) $(COMPILE_FLAGS) -fPIE $(INCLUDES) -c -o $@ $<

$(RECONCILE): $(patsubst %.c,build/support/%.o,support/usersync-reconcile.c \
  $(RECONCILE_PARTS) $(RECONCILE_SHARED))
	$(CC) $(COMPILE_FLAGS) -pie $(LINK_FLAGS) -o $@ $^ $(LIBRARIES) \
	  -laprutil-1 -lapr-1 -lpthread

##   install     the module among httpd's own, usersync-reconcile with its units
##               and user, and manual pages, below DESTDIR; enables nothing
install: $(MODULE) $(RECONCILE)
	install -D -m 644 $(MODULE) '$(DESTDIR)$(LIBEXECDIR)/mod_usersync.so'
	install -D -m 755 $(RECONCILE) '$(DESTDIR)$(SBINDIR)/usersync-reconcile'
	install -D -m 644 docs/man/mod_usersync.7 \
	  '$(DESTDIR)$(MANDIR)/man7/mod_usersync.7'
	install -D -m 644 docs/man/usersync-reconcile.8 \
	  '$(DESTDIR)$(MANDIR)/man8/usersync-reconcile.8'
	install -D -m 644 -t '$(DESTDIR)$(UNITDIR)' \
	  $(RECONCILE).service $(RECONCILE).timer
	install -D -m 644 $(RECONCILE).sysusers \
	  '$(DESTDIR)$(SYSUSERSDIR)/usersync-reconcile.conf'

##   uninstall   removes it again
uninstall: | check-build
	rm -f '$(DESTDIR)$(LIBEXECDIR)/mod_usersync.so' \
	  '$(DESTDIR)$(SBINDIR)/usersync-reconcile' \
	  '$(DESTDIR)$(MANDIR)/man7/mod_usersync.7' \
	  '$(DESTDIR)$(MANDIR)/man8/usersync-reconcile.8' \
	  '$(DESTDIR)$(UNITDIR)/usersync-reconcile.service' \
	  '$(DESTDIR)$(UNITDIR)/usersync-reconcile.timer' \
	  '$(DESTDIR)$(SYSUSERSDIR)/usersync-reconcile.conf'

check-build:
	@t/install-deps --check

##   deps        installs what building needs, with apt; the targets below do
##               so by themselves for what they need
deps:
	@t/install-deps build

# --- packages ----------------------------------------------------------------

VERSION := $(shell sed -n 's/^.define US_VERSION "\(.*\)"/\1/p' include/usersync.h)
# A copy of the tree as it is, but without what was made here: packages build
# all, and leave nothing behind.
copy = rm -rf $(dir $(1)) && mkdir -p $(1) && \
  tar -c --exclude=./build --exclude=./.git . | tar -x -C $(1) && \
  $(MAKE) -C $(1) clean

##   deb         Debian packages of the module and of usersync-reconcile, in
##               build/deb
deb: deps-deb
	$(call copy,build/deb/mod-usersync)
	cd build/deb/mod-usersync && dpkg-buildpackage -us -uc
	rm -rf build/deb/mod-usersync

# On Debian there is no database of RPM packages to ask for dependencies, and
# the macros of httpd-devel are missing: httpd's own directories stand in.
RPM_ON_DEBIAN = --nodeps --define '_httpd_apxs $(APXS)' \
  --define '_httpd_moddir $(LIBEXECDIR)' --define '_httpd_mmn 20120211' \
  --define '_unitdir /usr/lib/systemd/system' \
  --define '_sysusersdir /usr/lib/sysusers.d'

##   rpm         RPM packages of the same, in build/rpm
rpm: deps-rpm
	$(call copy,build/rpm/mod_usersync-$(VERSION))
	mkdir build/rpm/SOURCES
	tar -C build/rpm -czf build/rpm/SOURCES/mod_usersync-$(VERSION).tar.gz \
	  mod_usersync-$(VERSION)
	rm -rf build/rpm/mod_usersync-$(VERSION)
	rpmbuild -ba --define '_topdir $(CURDIR)/build/rpm' \
	  $(if $(wildcard /etc/debian_version),$(RPM_ON_DEBIAN)) \
	  rpm/mod_usersync.spec

##   help        this list
help:
	@sed -n 's/^##  //p' Makefile

# --- tests -------------------------------------------------------------------

# Unit tests are C programs that print TAP: t/unit/test_NAME.c with what it
# needs of the module and of the stand-ins for httpd.  Both are compiled once,
# into libraries, of which the linker takes what a test refers to.
UNIT_TESTS = $(patsubst t/unit/%.c,t/unit/bin/%,$(wildcard t/unit/test_*.c))
UNIT_OBJECTS = $(patsubst %.c,build/unit/%.o,$(filter-out mod_usersync.c \
  support/reconcile/httpd.c,$(SOURCES) $(RECONCILE_PARTS)))
STAND_INS = $(patsubst %.c,build/unit/%.o,$(filter-out t/unit/test_%.c \
  t/unit/shm_double.c t/unit/tsan_atomics.c,$(wildcard t/unit/*.c)))
UNIT_COMPILE = $(CC) -pthread $(CPPFLAGS_OF_HTTPD) $(COMPILE_FLAGS) \
  $(INCLUDES) -It/unit
UNIT_LIBRARIES = build/unit/stand-ins.a build/unit/usersync.a
UNIT_LINK = -Wl,--start-group $(UNIT_LIBRARIES) -Wl,--end-group $(LIBRARIES) \
  -lapr-1 -laprutil-1

.SECONDARY: $(UNIT_OBJECTS) $(STAND_INS) \
  $(patsubst t/unit/%.c,build/unit/t/unit/%.o,$(wildcard t/unit/*.c))

# What a library is made of, and how: when that changes, all is made anew.
build/unit/made-of: FORCE | check-build
	@mkdir -p $(@D)
	@echo '$(UNIT_OBJECTS) $(STAND_INS) $(UNIT_COMPILE)' | cmp -s - $@ || \
	  echo '$(UNIT_OBJECTS) $(STAND_INS) $(UNIT_COMPILE)' >$@
FORCE:

build/unit/%.o: %.c $(HEADERS) $(RECONCILE_HEADERS) $(wildcard t/unit/*.h) Makefile build/unit/made-of
	@mkdir -p $(@D)
	$(UNIT_COMPILE) -c -o $@ $<

build/unit/usersync.a: $(UNIT_OBJECTS) build/unit/made-of
	rm -f $@ && ar rcs $@ $(UNIT_OBJECTS)

build/unit/stand-ins.a: $(STAND_INS) build/unit/made-of
	rm -f $@ && ar rcs $@ $(STAND_INS)

# in place of APR's own
t/unit/bin/test_shm: build/unit/t/unit/shm_double.o

t/unit/bin/%: build/unit/t/unit/%.o $(UNIT_LIBRARIES)
	@mkdir -p t/unit/bin
	$(UNIT_COMPILE) -o $@ $(filter %.o,$^) $(UNIT_LINK)

##   unit        the unit tests alone, which need no servers
unit:
	$(MAKE) all $(UNIT_TESTS)
	prove --exec '' $(UNIT_TESTS)

##   test        the whole suite; TEST_ARGS='--mpm event t/010-smoke.t'
test: deps-test
	$(MAKE) -j$$(nproc) all $(UNIT_TESTS)
	t/run-suite $(TEST_ARGS)

##   test-asan   the same with AddressSanitizer and UndefinedBehaviorSanitizer
# The same suite with the module built for AddressSanitizer and
# UndefinedBehaviorSanitizer; httpd itself is Debian's, hence the preload.
test-asan: deps-test
	rm -rf build/asan && mkdir -p build/asan
	cp -R $(filter-out build,$(wildcard *)) build/asan/
	$(MAKE) -j$$(nproc) -C build/asan all $(UNIT_TESTS) OPTIMIZE='-O1 -g' \
	  SANITIZE='-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer'
	USERSYNC_HTTPD=t/sanitized-httpd build/asan/t/run-suite $(TEST_ARGS)

##   test-chaos  half an hour of failures of all parts
# The failures of t/chaos, in which all parts go down in turn and at once: short
# in the suite, here for about ten minutes with each MPM.
test-chaos: deps-test
	$(MAKE) all
	USERSYNC_CHAOS=1 USERSYNC_LIMIT=3600 t/run-suite -v $(or $(TEST_ARGS), \
	  $(wildcard t/chaos/*.t) t/340-pgbouncer.t t/350-concurrency.t \
	  $(wildcard t/90?-*.t))

# What threads and children share, with ThreadSanitizer: the unit tests of it,
# then the served tests that press it hardest.  They take longer than usual.
TSAN_UNITS = limits shares breaker breaker_who pg_pool pg_pool_life http log flight \
  cache webhook
TSAN_TESTS = $(addprefix t/,230-races.t 320-pg-pool.t 330-pg-away.t \
  350-concurrency.t 360-circuit-breaker.t 523-gate-parallel.t 525-gate-hang.t \
  532-hook-outages.t 533-hook-supabase.t 534-hook-forward.t \
  600-ten-thousand.t)
TSAN_FLAGS = -fsanitize=thread -fno-omit-frame-pointer
TSAN_ARGS ?= --mpm event,worker $(TSAN_UNITS:%=t/unit/bin/test_%) $(TSAN_TESTS)

##   test-tsan   what threads and children share, with ThreadSanitizer
test-tsan: deps-test
	rm -rf build/tsan && mkdir -p build/tsan
	cp -R $(filter-out build,$(wildcard *)) build/tsan/
	rm -rf build/tsan/t/unit/bin
	$(MAKE) -j$$(nproc) -C build/tsan all $(TSAN_UNITS:%=t/unit/bin/test_%) \
	  t/tsan_atomics.so OPTIMIZE='-O1 -g' SANITIZE='$(TSAN_FLAGS)'
	USERSYNC_HTTPD=t/tsan-httpd USERSYNC_PATIENCE=3 \
	  t/tsan build/tsan/t/run-suite $(TSAN_ARGS)

t/tsan_atomics.so: t/unit/tsan_atomics.c Makefile | check-build
	$(CC) -shared -fPIC $(CPPFLAGS_OF_HTTPD) \
	  $(filter-out -fvisibility=hidden,$(COMPILE_FLAGS)) $(INCLUDES) -o $@ $<

##   test-deb    what make deb has built: lintian, then installed, upgraded, removed
##               and purged; it changes this machine, see t/package
test-deb: deps-package
	lintian -EviI --pedantic --fail-on error,warning build/deb/*.changes
	t/package build/deb

# Long measures, by hand: memory over 200 000 logins, valgrind over mixed ones.
##   soak        memory over 200 000 logins
soak: deps-test
	$(MAKE) all
	USERSYNC_LIMIT=3600 t/run-suite --mpm event -v t/long/memory.t

##   memcheck    valgrind over mixed logins
memcheck: deps-test
	$(MAKE) all
	USERSYNC_LIMIT=1800 USERSYNC_PATIENCE=4 t/run-suite --mpm event -v \
	  t/long/memcheck.t

##   counter-cost  what a login costs with and without the status page's counters
# Instructions, by callgrind; in build/uncounted nothing is counted.
counter-cost: deps-test
	$(MAKE) all
	rm -rf build/uncounted && mkdir -p build/uncounted
	cp -R $(filter-out build,$(wildcard *)) build/uncounted/
	perl -0pi -e 's/^(void us_stats_(?:outcome|time|tally|topic|trouble_add)\([^)]*\))\n\{.*?^\}/$$1\n{\n}/gms' \
	  build/uncounted/src/base/stats.c
	$(MAKE) -C build/uncounted $(MODULE)
	d=$$(mktemp -d) && chmod 755 $$d && cp build/uncounted/$(MODULE) $$d/ && \
	  USERSYNC_UNCOUNTED=$$d/mod_usersync.so USERSYNC_LIMIT=1800 \
	  USERSYNC_PATIENCE=4 t/run-suite --mpm event -v t/long/instructions.t; \
	  s=$$?; rm -rf $$d; exit $$s

##   screenshots  the status page in a real browser, for docs/images
screenshots: deps-browser
	$(MAKE) all
	t/screenshots

##   compare     a login beside mod_proxy_http to the same upstream
# A login beside mod_proxy_http to the same upstream; figures, no judgement.
compare: deps-test
	$(MAKE) all
	t/run-suite --mpm event -v t/long/compare.t

##   bench       beside what else could do it; SCENARIOS, ROUNDS, SECONDS
# Side by side with what else could do it, in turn; t/bench/run tells more.
# SCENARIOS (all), ROUNDS and SECONDS of each run; KEEP=1: the others' results;
# QUIET=10: runs again what was disturbed by more than 10 % of the machine.
# USERS: how many the scenarios "reconcile-..." have (100000).
bench: deps-bench
	$(MAKE) all build/bench/upstream build/bench/lookups
	t/bench/node-pg
	t/bench/supabase-py
	BENCH_ROUNDS='$(ROUNDS)' BENCH_SECONDS='$(SECONDS)' BENCH_KEEP='$(KEEP)' \
	  BENCH_QUIET='$(QUIET)' BENCH_USERS='$(USERS)' t/bench/run $(SCENARIOS)

build/bench/upstream: t/bench/upstream.c t/bench/upstream_auth.c \
  t/bench/upstream_auth.h Makefile
	@mkdir -p build/bench
	$(CC) -D_GNU_SOURCE $(COMPILE_FLAGS) -o $@ $(filter %.c,$^) -lssl -lcrypto

build/bench/lookups: t/bench/lookups.c Makefile
	@mkdir -p build/bench
	$(CC) -D_GNU_SOURCE $(COMPILE_FLAGS) $(shell pkg-config --cflags libpq) \
	  -o $@ $< $(shell pkg-config --libs libpq) -lcrypto

##   demo        a tour with servers of its own
demo: deps-demo
	$(MAKE) all
	t/demo

##   lint        looks at all code without running it
lint: deps-lint
	t/lint

##   format      puts C into the form that lint asks for
format: deps-lint
	clang-format -i mod_usersync.c src/*/*.[ch] include/*.h support/*.c \
	  support/*/*.[ch] t/unit/*.[ch] \
	  t/fuzz/*.[ch] t/bench/*.[ch]

# What a goal lacks on this machine is installed with apt; see t/install-deps.
deps-test deps-browser deps-bench deps-demo deps-lint deps-deb deps-rpm \
  deps-package:
	@t/install-deps build $(@:deps-%=%)
	@$(if $(filter deps-test,$@),t/openapi/install && t/clients/install)

# A copy of the tree, such as build/asan, uses what was fetched here.
export USERSYNC_OPENAPI ?= $(CURDIR)/build/openapi
export USERSYNC_CLIENTS ?= $(CURDIR)/build/clients

##   clean       removes all that was made here
clean:
	rm -rf .libs src/*/.libs t/unit/bin t/logs build
	rm -f $(RECONCILE) mod_usersync.la *.lo *.slo *.o src/*/*.lo src/*/*.slo src/*/*.o

# --- fuzzing -----------------------------------------------------------------

# t/fuzz/fuzz_NAME.c are targets, t/fuzz/corpus/NAME their first inputs.  With
# replay.c each is also a test that runs the inputs and needs no clang.
FUZZ_NAMES = $(patsubst t/fuzz/fuzz_%.c,%,$(wildcard t/fuzz/fuzz_*.c))
FUZZ_SUPPORT = $(addprefix t/fuzz/,fuzz.c identity.c paths.c strict.c)
FUZZ_HEADERS = $(wildcard t/fuzz/*.h t/unit/*_stubs.h) t/unit/tap.h
FUZZ_COMPILE = -pthread $(CPPFLAGS_OF_HTTPD) $(COMPILE_FLAGS) \
  $(INCLUDES) -It/unit
UNIT_TESTS += $(addprefix t/unit/bin/replay_,$(FUZZ_NAMES))

t/unit/bin/replay_%: t/fuzz/fuzz_%.c t/fuzz/replay.c $(FUZZ_SUPPORT) \
  $(UNIT_LIBRARIES) $(FUZZ_HEADERS)
	@mkdir -p t/unit/bin
	$(UNIT_COMPILE) -o $@ $(filter %.c,$^) $(UNIT_LINK)

# clang warns of httpd's macros, which gcc takes for the system's.
build/fuzz/fuzz_%: WARNINGS += -Wno-cast-qual -Wno-missing-field-initializers
build/fuzz/fuzz_%: SANITIZE = -fsanitize=fuzzer,address,undefined \
  -fno-sanitize-recover=undefined -fno-omit-frame-pointer
# The fuzzer has to see inside of all that a target calls.
FUZZED = $(addsuffix .c,$(addprefix src/base/,call json json_scan jwt log shm stats wipe) \
  $(addprefix src/config/,cache_choice cafile columns config directives \
  directives_dir event_header hook_secret secret values) $(addprefix src/supabase/,answer \
  answer_code answer_error answer_text claims event_payload hook_payload \
  log_name proxied session timestamp user webhook) \
  $(addprefix src/doors/,headers request) \
  $(addprefix support/reconcile/,answer ids state run))

build/fuzz/fuzz_%: t/fuzz/fuzz_%.c $(FUZZ_SUPPORT) $(FUZZED) \
  $(wildcard t/unit/*_stubs.c) $(HEADERS) $(FUZZ_HEADERS) Makefile | deps-fuzz
	@mkdir -p build/fuzz
	clang $(FUZZ_COMPILE) -o $@ $(filter %.c,$^) \
	  $(LIBRARIES) -lapr-1 -laprutil-1

# TIME seconds for each of FUZZ; what they find stays in build/fuzz.
TIME ?= 60
FUZZ ?= $(FUZZ_NAMES)

##   fuzz        TIME seconds for each of FUZZ
fuzz: $(addprefix build/fuzz/fuzz_,$(FUZZ))
	t/fuzz/run '$(TIME)' $(FUZZ)

.PHONY: fuzz deps-fuzz
deps-fuzz:
	@t/install-deps build fuzz
