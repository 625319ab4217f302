# The passes of the suite, for `make test`, and beside them the tests that need only one: those of the
# command in three parts, those of whole programs, and all others in two. Each pass has a part for the files
# of tests/ and one for its folders. All twelve run at the same time, because each waits for most of its
# time, for clocks and for other processes. Together they use some 600 s of CPU. (A shell's own
# background process would ignore Ctrl-C, and so would what it starts.)
.PHONY: passes command-l command-serve command-z programs once-m once-z pure-files pure-folders \
    native-files native-folders patched-files patched-folders

PROGRAMS := tests/test_docs.py tests/test_examples.py tests/test_patch_servers.py tests/test_programs.py \
    tests/test_servers.py
FILES := tests/test_*.py
FOLDERS := --ignore=tests/cli --ignore-glob='$(FILES)'
l := $(wildcard tests/cli/test_[a-l]*.py)
serve := $(wildcard tests/cli/test_serve*.py)
z := $(filter-out $(l) $(serve),$(wildcard tests/cli/test_*.py))
pure := GEVENT_LOOP=libuv GZMQSOURCE_TRANSFER=pure $(PYTEST) -m "not idle and not once"
native := GEVENT_LOOP=libev-cext $(PYTEST) -m "not idle and not once"
patched := GEVENT_LOOP=libev-cext GZMQSOURCE_TEST_PATCHED=1 $(PYTEST) -m "not idle and not once and not processes"

passes: once-z pure-files native-files pure-folders native-folders command-serve command-l command-z once-m \
    programs patched-files patched-folders

command-l command-serve command-z: command-%:
	GEVENT_LOOP=libev-cext $(PYTEST) -m "not idle" $($*) $(PYTEST_ARGS)

programs:
	GEVENT_LOOP=libev-cext $(PYTEST) -m "not idle and once" $(PROGRAMS) $(PYTEST_ARGS)

once-m:
	GEVENT_LOOP=libev-cext $(PYTEST) -m "not idle and once" $(filter-out $(PROGRAMS),$(wildcard tests/test_[a-m]*.py)) $(PYTEST_ARGS)

once-z:
	GEVENT_LOOP=libev-cext $(PYTEST) -m "not idle and once" --ignore=tests/cli --ignore-glob='tests/test_[a-m]*.py' \
	    $(PROGRAMS:%=--ignore=%) $(PYTEST_ARGS)

pure-files native-files patched-files: %-files:
	$($*) $(FILES) $(PYTEST_ARGS)

pure-folders native-folders patched-folders: %-folders:
	$($*) $(FOLDERS) $(PYTEST_ARGS)
