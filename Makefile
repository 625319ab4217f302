PYTHON ?= python3
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest

.PHONY: help demo test lint quick clean

help:  ## Show the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST)

.venv/installed: setup.cfg setup.py pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[test,dev]'
	touch $@

demo: .venv/installed  ## A source serving client processes, with a live count
	$(BIN)/python examples/demo.py

test: .venv/installed  ## The whole suite: libev, libuv, and monkey-patched
	GEVENT_LOOP=libev-cext $(PYTEST) $(PYTEST_ARGS)
	GEVENT_LOOP=libuv $(PYTEST) $(PYTEST_ARGS)
	GEVENT_LOOP=libev-cext GZMQSOURCE_TEST_PATCHED=1 $(PYTEST) $(PYTEST_ARGS)

lint: .venv/installed  ## Style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy --strict gzmqsource

quick: .venv/installed  ## Rates beside zmq.green, in about a minute
	$(BIN)/python benchmarks/quick.py

clean:  ## Remove what was built
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .hypothesis
