# The passes of the suite, for `make test`: the first one, and beside it the second and the third. Each
# uses one core. (A shell's own background process would ignore Ctrl-C, and so would what it starts.)
.PHONY: passes native others

passes: native others

native:
	GEVENT_LOOP=libev-cext $(PYTEST) -m "not idle" $(PYTEST_ARGS)

others:
	GEVENT_LOOP=libuv GZMQSOURCE_TRANSFER=pure $(PYTEST) -m "not idle and not once" $(PYTEST_ARGS)
	GEVENT_LOOP=libev-cext GZMQSOURCE_TEST_PATCHED=1 $(PYTEST) -m "not idle and not once and not processes" $(PYTEST_ARGS)
