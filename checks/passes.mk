# The passes of the suite, for `make test`, and beside them the tests that need only one: those of the
# command, and all others. Four go on at a time, the longest first: each spends more than half of its time
# waiting, for clocks and for other processes, and two cores have room for that. (A shell's own background
# process would ignore Ctrl-C, and so would what it starts.)
.PHONY: passes command once pure native patched

passes: pure native command once patched

command:
	GEVENT_LOOP=libev-cext $(PYTEST) -m "not idle and once" tests/cli $(PYTEST_ARGS)

once:
	GEVENT_LOOP=libev-cext $(PYTEST) -m "not idle and once" --ignore=tests/cli $(PYTEST_ARGS)

pure:
	GEVENT_LOOP=libuv GZMQSOURCE_TRANSFER=pure $(PYTEST) -m "not idle and not once" $(PYTEST_ARGS)

native:
	GEVENT_LOOP=libev-cext $(PYTEST) -m "not idle and not once" $(PYTEST_ARGS)

patched:
	GEVENT_LOOP=libev-cext GZMQSOURCE_TEST_PATCHED=1 $(PYTEST) -m "not idle and not once and not processes" $(PYTEST_ARGS)
