# The passes of the suite, for `make test`, and beside them the tests that need only one: those of the
# command in two halves, those of whole programs, and all others. Five go on at a time, the longest
# first: each spends more than half of its time waiting, for clocks and for other processes, and two
# cores have room for that. (A shell's own background process would ignore Ctrl-C, and so would what it
# starts.)
.PHONY: passes command-l command-z programs once pure native patched

PROGRAMS := tests/test_docs.py tests/test_examples.py tests/test_patch_servers.py tests/test_programs.py \
    tests/test_servers.py

passes: pure native command-l command-z once programs patched

command-l:
	GEVENT_LOOP=libev-cext $(PYTEST) -m "not idle" tests/cli/test_[a-l]*.py $(PYTEST_ARGS)

command-z:
	GEVENT_LOOP=libev-cext $(PYTEST) -m "not idle" tests/cli/test_[m-z]*.py $(PYTEST_ARGS)

programs:
	GEVENT_LOOP=libev-cext $(PYTEST) -m "not idle and once" $(PROGRAMS) $(PYTEST_ARGS)

once:
	GEVENT_LOOP=libev-cext $(PYTEST) -m "not idle and once" --ignore=tests/cli $(PROGRAMS:%=--ignore=%) $(PYTEST_ARGS)

pure:
	GEVENT_LOOP=libuv GZMQSOURCE_TRANSFER=pure $(PYTEST) -m "not idle and not once" --ignore=tests/cli $(PYTEST_ARGS)

native:
	GEVENT_LOOP=libev-cext $(PYTEST) -m "not idle and not once" --ignore=tests/cli $(PYTEST_ARGS)

patched:
	GEVENT_LOOP=libev-cext GZMQSOURCE_TEST_PATCHED=1 $(PYTEST) -m "not idle and not once and not processes" --ignore=tests/cli $(PYTEST_ARGS)
