# mod_usersync; README.md tells what each target is for.

SHELL = /bin/bash
APXS ?= $(firstword $(wildcard /usr/bin/apxs /usr/bin/apxs2) apxs)
SOURCES = mod_usersync.c $(sort $(wildcard src/*.c))
HEADERS = $(sort $(wildcard include/*.h))
MODULE = .libs/mod_usersync.so
PACKAGES = json-c libcurl libpq libcrypto

# httpd's and APR's headers come by -isystem: their ring macros trip
# -Wcast-qual.  apxs names the same directories by -I, which gcc then ignores.
INCLUDES = -Iinclude $(addprefix -isystem ,$(sort $(shell $(APXS) -q INCLUDEDIR) \
  $(shell $(APXS) -q APR_INCLUDEDIR) $(shell $(APXS) -q APU_INCLUDEDIR))) \
  $(shell pkg-config --cflags $(PACKAGES))
WARNINGS = -Wall -Wextra -Wshadow -Wconversion -Wcast-qual -Wstrict-prototypes \
  -Wmissing-prototypes -Wpointer-arith -Wwrite-strings -Wvla -Werror
HARDENING = -fvisibility=hidden -fstack-protector-strong $(if $(SANITIZE),,-D_FORTIFY_SOURCE=2)
OPTIMIZE ?= -O2 -g
SANITIZE ?=
COMPILE_FLAGS = -std=gnu11 $(OPTIMIZE) $(WARNINGS) $(HARDENING) $(SANITIZE)
LINK_FLAGS = -Wl,-z,relro -Wl,-z,now
LIBRARIES = $(shell pkg-config --libs $(PACKAGES))

.PHONY: all install test test-asan test-tsan test-chaos soak memcheck compare \
  bench demo lint format clean deps-build deps-test deps-bench deps-demo deps-lint

all: $(MODULE)

# The libraries' headers are what a fresh machine lacks first.
$(MODULE): $(SOURCES) $(HEADERS) Makefile | deps-build
	$(APXS) -c -o mod_usersync.la '-Wc,$(COMPILE_FLAGS) $(INCLUDES)' \
	  '-Wl,$(SANITIZE) $(LINK_FLAGS)' $(LIBRARIES) $(SOURCES)

install: $(MODULE)
	$(APXS) -i -n usersync mod_usersync.la

# --- tests -------------------------------------------------------------------

# Unit tests are C programs that print TAP: t/unit/NAME.c with the lower
# layers' objects and stand-ins for the few httpd functions they call.
UNIT_TESTS = $(patsubst t/unit/%.c,t/unit/bin/%,$(wildcard t/unit/test_*.c))
UNIT_SUPPORT = $(filter-out $(wildcard t/unit/test_*.c) $(UNIT_PARTNERS),\
  $(wildcard t/unit/*.c))
UNIT_SOURCES = $(addprefix src/us_,answer.c cache.c cafile.c config.c \
  directives.c flight.c headers.c json.c json_scan.c log.c request.c secret.c \
  values.c)

# Layers above those are linked only where they are tested, and so are
# stand-ins for their partners.
UNIT_PARTNERS = t/unit/dbd_double.c t/unit/tsan_atomics.c
t/unit/bin/test_limits t/unit/bin/test_breaker: src/us_limits.c
t/unit/bin/test_pg_pool t/unit/bin/test_pg_pool_life: src/us_pg_pool.c src/us_pg_pools.c \
  t/unit/dbd_double.c
t/unit/bin/test_http: src/us_http.c

t/unit/bin/%: t/unit/%.c $(UNIT_SUPPORT) $(UNIT_SOURCES) $(HEADERS) \
  $(wildcard t/unit/*.h) Makefile | deps-build
	@mkdir -p t/unit/bin
	$(CC) -pthread $(shell $(APXS) -q EXTRA_CPPFLAGS) $(COMPILE_FLAGS) \
	  $(INCLUDES) -It/unit -o $@ $(filter %.c,$^) \
	  $(LIBRARIES) -lapr-1 -laprutil-1

test: deps-test
	$(MAKE) all $(UNIT_TESTS)
	t/run-suite $(TEST_ARGS)

# The same suite with the module built for AddressSanitizer and
# UndefinedBehaviorSanitizer; httpd itself is Debian's, hence the preload.
test-asan: deps-test
	rm -rf build/asan && mkdir -p build/asan
	cp -R $(filter-out build,$(wildcard *)) build/asan/
	$(MAKE) -C build/asan all $(UNIT_TESTS) OPTIMIZE='-O1 -g' \
	  SANITIZE='-fsanitize=address,undefined -fno-omit-frame-pointer'
	USERSYNC_HTTPD=t/sanitized-httpd build/asan/t/run-suite $(TEST_ARGS)

# The failures of t/chaos, in which all parts go down in turn and at once: short
# in the suite, here for about ten minutes with each MPM.
test-chaos: deps-test
	$(MAKE) all
	USERSYNC_CHAOS=1 USERSYNC_LIMIT=3600 t/run-suite -v $(or $(TEST_ARGS), \
	  $(wildcard t/chaos/*.t) t/340-pgbouncer.t t/350-concurrency.t)

# What threads and children share, with ThreadSanitizer: the unit tests of it,
# then the served tests that press it hardest.  They take longer than usual.
TSAN_UNITS = limits breaker pg_pool pg_pool_life http log flight cache
TSAN_TESTS = $(addprefix t/,230-races.t 320-pg-pool.t 330-pg-away.t \
  350-concurrency.t 360-circuit-breaker.t 523-gate-parallel.t 525-gate-hang.t \
  600-ten-thousand.t)
TSAN_FLAGS = -fsanitize=thread -fno-omit-frame-pointer
TSAN_ARGS ?= --mpm event,worker $(TSAN_UNITS:%=t/unit/bin/test_%) $(TSAN_TESTS)

test-tsan: deps-test
	rm -rf build/tsan && mkdir -p build/tsan
	cp -R $(filter-out build,$(wildcard *)) build/tsan/
	rm -rf build/tsan/t/unit/bin
	$(MAKE) -C build/tsan all $(TSAN_UNITS:%=t/unit/bin/test_%) \
	  t/tsan_atomics.so OPTIMIZE='-O1 -g' SANITIZE='$(TSAN_FLAGS)'
	USERSYNC_HTTPD=t/tsan-httpd USERSYNC_PATIENCE=3 \
	  t/tsan build/tsan/t/run-suite $(TSAN_ARGS)

t/tsan_atomics.so: t/unit/tsan_atomics.c Makefile | deps-build
	$(CC) -shared -fPIC $(shell $(APXS) -q EXTRA_CPPFLAGS) \
	  $(filter-out -fvisibility=hidden,$(COMPILE_FLAGS)) $(INCLUDES) -o $@ $<

# Long measures, by hand: memory over 200 000 logins, valgrind over mixed ones.
soak: deps-test
	$(MAKE) all
	USERSYNC_LIMIT=3600 t/run-suite --mpm event -v t/long/memory.t

memcheck: deps-test
	$(MAKE) all
	USERSYNC_LIMIT=1800 USERSYNC_PATIENCE=4 t/run-suite --mpm event -v \
	  t/long/memcheck.t

# A login beside mod_proxy_http to the same upstream; figures, no judgement.
compare: deps-test
	$(MAKE) all
	t/run-suite --mpm event -v t/long/compare.t

# Side by side with what else could do it, in turn; t/bench/run tells more.
# SCENARIOS (all), ROUNDS and SECONDS of each run; KEEP=1: the others' results;
# QUIET=10: runs again what was disturbed by more than 10 % of the machine.
bench: deps-bench
	$(MAKE) all build/bench/upstream build/bench/lookups
	t/bench/node-pg
	BENCH_ROUNDS='$(ROUNDS)' BENCH_SECONDS='$(SECONDS)' BENCH_KEEP='$(KEEP)' \
	  BENCH_QUIET='$(QUIET)' t/bench/run $(SCENARIOS)

build/bench/upstream: t/bench/upstream.c t/bench/upstream_auth.c \
  t/bench/upstream_auth.h Makefile
	@mkdir -p build/bench
	$(CC) -D_GNU_SOURCE $(COMPILE_FLAGS) -o $@ $(filter %.c,$^) -lssl -lcrypto

build/bench/lookups: t/bench/lookups.c Makefile
	@mkdir -p build/bench
	$(CC) -D_GNU_SOURCE $(COMPILE_FLAGS) $(shell pkg-config --cflags libpq) \
	  -o $@ $< $(shell pkg-config --libs libpq) -lcrypto

demo: deps-demo
	$(MAKE) all
	t/demo

lint: deps-lint
	t/lint

format: deps-lint
	clang-format -i mod_usersync.c src/*.c include/*.h t/unit/*.[ch] \
	  t/fuzz/*.[ch] t/bench/*.[ch]

# What a goal lacks on this machine is installed with apt; see t/install-deps.
deps-build deps-test deps-bench deps-demo deps-lint:
	@t/install-deps build $(filter-out build,$(@:deps-%=%))

clean:
	rm -rf .libs src/.libs t/unit/bin t/logs build
	rm -f mod_usersync.la *.lo *.slo *.o src/*.lo src/*.slo src/*.o

# --- fuzzing -----------------------------------------------------------------

# t/fuzz/fuzz_NAME.c are targets, t/fuzz/corpus/NAME their first inputs.  With
# replay.c each is also a test that runs the inputs and needs no clang.
FUZZ_NAMES = $(patsubst t/fuzz/fuzz_%.c,%,$(wildcard t/fuzz/fuzz_*.c))
FUZZ_SUPPORT = t/fuzz/fuzz.c t/fuzz/strict.c $(wildcard t/unit/*_stubs.c)
FUZZ_HEADERS = $(wildcard t/fuzz/*.h t/unit/*_stubs.h) t/unit/tap.h
FUZZ_COMPILE = -pthread $(shell $(APXS) -q EXTRA_CPPFLAGS) $(COMPILE_FLAGS) \
  $(INCLUDES) -It/unit
UNIT_TESTS += $(addprefix t/unit/bin/replay_,$(FUZZ_NAMES))

t/unit/bin/replay_%: t/fuzz/fuzz_%.c t/fuzz/replay.c $(FUZZ_SUPPORT) \
  $(UNIT_SOURCES) $(HEADERS) $(FUZZ_HEADERS) Makefile | deps-build
	@mkdir -p t/unit/bin
	$(CC) $(FUZZ_COMPILE) -o $@ $(filter %.c,$^) \
	  $(LIBRARIES) -lapr-1 -laprutil-1

# clang warns of httpd's macros, which gcc takes for the system's.
build/fuzz/fuzz_%: WARNINGS += -Wno-cast-qual -Wno-missing-field-initializers
build/fuzz/fuzz_%: SANITIZE = -fsanitize=fuzzer,address,undefined \
  -fno-sanitize-recover=undefined -fno-omit-frame-pointer
build/fuzz/fuzz_%: t/fuzz/fuzz_%.c $(FUZZ_SUPPORT) $(UNIT_SOURCES) \
  $(HEADERS) $(FUZZ_HEADERS) Makefile | deps-fuzz
	@mkdir -p build/fuzz
	clang $(FUZZ_COMPILE) -o $@ $(filter %.c,$^) \
	  $(LIBRARIES) -lapr-1 -laprutil-1

# TIME seconds for each of FUZZ; what they find stays in build/fuzz.
TIME ?= 60
FUZZ ?= $(FUZZ_NAMES)

fuzz: $(addprefix build/fuzz/fuzz_,$(FUZZ))
	t/fuzz/run '$(TIME)' $(FUZZ)

.PHONY: fuzz deps-fuzz
deps-fuzz:
	@t/install-deps build fuzz
