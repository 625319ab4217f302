PYTHON ?= python3
BIN := .venv/bin
SIMULATION := PYZMQ_BACKEND=simulation.backend GZMQSOURCE_TRANSFER=pure PYTHONPATH=tests \
    $(BIN)/python -m simulation
MINUTES ?= 20
SECONDS ?= 60
RUNS ?= 20
SIMULATE ?= --seconds 22 --examples 100
QUESTIONS := throughput roundtrip green idle fairness pressure busy startup workers proxy
PYTEST := $(BIN)/python -m pytest

.PHONY: help demo test faults mutations simulate chaos soak fuzz packages docs lint bench bench-plots quick sanitize clean

help:  ## Show the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST)

.venv/installed: setup.cfg setup.py pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[test,dev]'
	touch $@

demo: .venv/installed  ## A tour of the command: a server under load, a killed client, new code, a stop
	$(BIN)/python examples/demo.py

test: .venv/installed  ## The whole suite: native and pure, libev and libuv, patched and not
	GEVENT_LOOP=libev-cext $(PYTEST) -m "not idle" $(PYTEST_ARGS)
	GEVENT_LOOP=libuv GZMQSOURCE_TRANSFER=pure $(PYTEST) -m "not idle and not once" $(PYTEST_ARGS)
	GEVENT_LOOP=libev-cext GZMQSOURCE_TEST_PATCHED=1 $(PYTEST) -m "not idle and not once and not processes" $(PYTEST_ARGS)
	GEVENT_LOOP=libev-cext $(PYTEST) -m idle $(PYTEST_ARGS)

faults: .venv/installed  ## The faults of zmq.green, over it and over the drop-in, into docs/
	$(BIN)/python tests/green/faults.py

mutations: .venv/installed  ## Break each line that keeps an invariant, and see the suite fail
	$(BIN)/python tests/mutations.py

simulate: .venv/installed  ## Random schedules on a simulated libzmq, a fixed seed and a fresh one
	for seed in "--seed 1" ""; do $(SIMULATION) $$seed $(SIMULATE) || exit 1; done

chaos: .venv/installed  ## Faults with real processes, RUNS of each, and a table of what was lost
	PYTHONPATH=tests $(BIN)/python -m chaos --runs $(RUNS)

soak: .venv/installed  ## Mixed traffic for MINUTES: nothing may grow
	$(BIN)/python tests/soak.py --minutes $(MINUTES)

fuzz: .venv/installed  ## Bytes from a peer that atheris makes up, SECONDS for each target
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[fuzz]'
	$(BIN)/python tests/fuzz.py --seconds $(SECONDS)

packages: .venv/installed  ## Build the sdist and the wheel, and use them in empty environments
	$(BIN)/python tests/packages.py

docs: .venv/installed  ## The pages, into build/docs
	$(BIN)/python -m sphinx -W --keep-going -q docs build/docs
	@echo "open build/docs/index.html"

lint: .venv/installed  ## Style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy --strict gzmqsource
	$(BIN)/mypy --strict examples

SANITIZED := $(CURDIR)/build/sanitized

sanitize: .venv/installed  ## The native loop under AddressSanitizer: no bad access, no leak
	rm -rf $(SANITIZED)
	CFLAGS="-fsanitize=address -g -O1" $(BIN)/python setup.py --quiet build \
	    --build-base $(SANITIZED) --build-lib $(SANITIZED)
	LD_PRELOAD=$$(cc -print-file-name=libasan.so) PYTHONMALLOC=malloc \
	    PYTHONPATH=$(SANITIZED) ASAN_OPTIONS=detect_leaks=1 \
	    $(BIN)/python tests/native_memory.py $(SANITIZED)

bench: .venv/benchmarks  ## Every speed beside every peer, 20 minutes; BENCH=--short takes 3
	for question in $(QUESTIONS); do $(BIN)/python benchmarks/$$question.py $(BENCH) || exit 1; done

bench-plots: .venv/benchmarks  ## Draw what `make bench` has measured into docs/
	$(BIN)/python benchmarks/plots.py

.venv/benchmarks: .venv/installed
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[bench]'
	touch $@

quick: .venv/installed  ## Rates beside zmq.green, in about a minute
	$(BIN)/gzmqsource bench

clean:  ## Remove what was built
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .hypothesis
