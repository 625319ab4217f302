PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check
PYTEST := $(BIN)/python -m pytest
# What is no test shares helpers with the suite.
CHECK := PYTHONPATH=checks:tests $(BIN)/python
# One palette for the plots, the diagrams and the screens of the pages.
DRAW := PYTHONPATH=docs $(BIN)/python
# It takes what the cores have left.
SIMULATION := PYZMQ_BACKEND=simulation.backend GZMQSOURCE_TRANSFER=pure PYTHONPATH=checks \
    nice -n 19 $(BIN)/python -m simulation
TEST ?= tests
MINUTES ?= 20
SECONDS ?= 60
RUNS ?= 20
SIMULATE ?= --seconds 22 --examples 40
QUESTIONS := throughput roundtrip green forms idle fairness pressure busy many peers bad pools scale \
    startup workers proxy broker

.PHONY: help demo test idle one faults mutations simulate chaos service restarts moments soak fuzz pyzmq volttron \
    packages support docs links lint style types floors workflows prose changes bench bench-plots pictures screens \
    quick sanitize clean
# Two installs at a time would get into each other's way. With INSTALLED=1 there is nothing to install.
ifndef INSTALLED
.NOTPARALLEL:
endif

help:  ## Show the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST)

# One environment in three sizes, with a stamp for each. A larger one stands for the smaller, too.
DECLARED := setup.cfg setup.py pyproject.toml
EXTENSION := $(wildcard gzmqsource/*/*.pyx gzmqsource/*/*.pxi) gzmqsource/__init__.py
INSTALL := $(PYTHON) -m venv .venv && $(PIP) --editable

.venv/demo: $(DECLARED) $(EXTENSION)
	@echo "Installing the gzmqsource command and what it needs into .venv: 60 MB"
	$(INSTALL) '.[cli,metrics]'
	touch $@

.venv/test: $(DECLARED)
	@echo "Installing what most tests need into .venv: 90 MB"
	$(INSTALL) '.[test]'
	touch .venv/demo $@

.venv/installed: $(DECLARED)
	@echo "Installing what all tests, the pages and the linters need into .venv: 500 MB"
	$(INSTALL) '.[test,servers,docs,plot,dev]'
	touch .venv/demo .venv/test $@

.venv/fuzz: .venv/test
	$(PIP) --editable '.[fuzz]'
	touch $@

.venv/benchmarks: .venv/test
	$(PIP) --editable '.[bench]'
	touch $@

# An install builds the extension. This does when only its sources are newer.
.venv/native: $(EXTENSION) .venv/test
	$(if $(filter .venv/test,$?),,$(BIN)/python setup.py --quiet build_ext --inplace)
	$(BIN)/python checks/extension.py
	touch $@

# Peers in JavaScript, for tests that are skipped without them.
build/node/installed: tests/interop/package.json
	mkdir -p build/node && cp $< build/node
	if command -v npm >/dev/null && npm install --silent --no-audit --no-fund --prefix build/node; \
	    then touch $@; else echo "No npm, or no zeromq.js: tests with JavaScript will be skipped"; fi

LIGHT := .venv/test .venv/native
FULL := .venv/installed .venv/native
FOREIGN := build/node/installed

demo: .venv/demo  ## A tour of the command: a server under load, a killed client, new code, workers
	$(BIN)/python examples/demo.py

# Each of a thousand processes would compile the package for itself.
test: export PYTHONDONTWRITEBYTECODE :=
test: $(FULL) $(FOREIGN)  ## The whole suite: native and pure, libev and libuv, patched and not
	$(MAKE) --no-print-directory -j 12 --output-sync=line -f checks/passes.mk PYTEST="$(PYTEST)" PYTEST_ARGS='$(PYTEST_ARGS)'

idle: $(FULL)  ## The few tests that only a machine without other work can pass
	GEVENT_LOOP=libev-cext $(PYTEST) -m idle $(PYTEST_ARGS)

one: $(LIGHT)  ## Some tests, in one pass and a small environment: make one TEST=tests/test_edge.py
	$(PYTEST) $(TEST) $(PYTEST_ARGS)

faults: $(LIGHT)  ## The faults of zmq.green, over it and over the drop-in, into docs/
	$(BIN)/python tests/green/faults.py

mutations: $(LIGHT)  ## Break each line that keeps an invariant, and see the suite fail
	$(BIN)/python checks/mutations.py

simulate: $(LIGHT)  ## Random schedules on a simulated libzmq, a fixed seed and a fresh one
	for seed in "--seed 1" ""; do $(SIMULATION) $$seed $(SIMULATE) || exit 1; done

service: $(LIGHT)  ## Servers that restart, stick and die under load, RUNS times, and what became of requests
	$(CHECK) -m service --runs $(RUNS) $(SERVICE)

chaos: $(LIGHT)  ## Faults with real processes, RUNS of each, and a table of what was lost
	$(CHECK) -m chaos --runs $(RUNS)

restarts: $(LIGHT)  ## What a restart loses: 70 seconds; RESTARTS=--short takes 45
	$(CHECK) checks/restarts.py $(RESTARTS)

moments: $(LIGHT)  ## Each call at each odd moment, into docs/; MOMENTS=--short takes 20 s
	$(CHECK) -m moments $(MOMENTS)

soak: $(LIGHT)  ## Mixed traffic for MINUTES: nothing may grow
	PYTHONMALLOC=malloc $(CHECK) checks/soak.py --minutes $(MINUTES)

fuzz: .venv/fuzz .venv/native  ## Bytes from a peer that atheris makes up, SECONDS for each target
	$(CHECK) checks/fuzz.py --seconds $(SECONDS)

pyzmq: $(FULL)  ## pyzmq's own tests, over the drop-in and over the patch; PYZMQ=--short takes 2 minutes
	$(BIN)/python checks/pyzmq_suites.py $(PYZMQ)

volttron: $(LIGHT)  ## VOLTTRON's router and agents, in an environment of their own
	$(BIN)/python checks/volttron.py

packages: .venv/installed  ## Build the sdist and the wheel, and use them in empty environments
	$(BIN)/python checks/packages.py

support: .venv/installed  ## The suite's core over each Python, pyzmq and gevent at hand, into docs/
	$(BIN)/python checks/support.py $(SUPPORT)

docs: .venv/installed  ## The pages, into build/docs; each name and link in them has to resolve
	$(BIN)/python -m sphinx -W --keep-going -q docs build/docs
	@echo "open build/docs/index.html"

links: .venv/installed  ## No dead link within the pages, without a network; ONLINE=1: none to elsewhere
	$(PYTEST) tests/test_reference.py -k link
	$(if $(ONLINE),$(BIN)/python -m sphinx -q -b linkcheck docs build/links)

lint: style types floors workflows prose  ## Style, types, the house, the workflows, and the prose

style: .venv/installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: .venv/installed
	$(BIN)/mypy --strict gzmqsource
	$(BIN)/mypy --strict examples
	$(BIN)/mypy --config-file checks/mypy.ini tests checks benchmarks docs/drawing

floors: .venv/installed
	$(BIN)/python checks/size.py
	$(BIN)/lint-imports --no-cache

workflows: .venv/installed  ## The workflows: pins, permissions, actionlint, and the wheels
	$(BIN)/python checks/workflows.py

prose: .venv/installed  ## The English of the pages, docstrings, comments and messages
	$(BIN)/python checks/prose.py

changes: .venv/installed  ## What the changelog of the next release will say
	$(BIN)/towncrier build --draft --version next

SANITIZED := $(CURDIR)/build/sanitized

sanitize: .venv/test  ## The native loop under AddressSanitizer: no bad access, no leak
	rm -rf $(SANITIZED)
	CFLAGS="-fsanitize=address -g -O1" $(BIN)/python setup.py --quiet build \
	    --build-base $(SANITIZED) --build-lib $(SANITIZED)
	LD_PRELOAD=$$(cc -print-file-name=libasan.so) PYTHONMALLOC=malloc \
	    PYTHONPATH=$(SANITIZED) ASAN_OPTIONS=detect_leaks=1 \
	    $(BIN)/python checks/native_memory.py $(SANITIZED)

bench: .venv/benchmarks .venv/native  ## Every speed beside every peer, 40 minutes; BENCH=--short takes 3
	rm -rf build/benchmarks/results
	for question in $(QUESTIONS); do $(BIN)/python benchmarks/$$question.py $(BENCH) || exit 1; done
	$(BIN)/python benchmarks/runs.py

bench-plots: .venv/benchmarks  ## Draw the runs that `make bench` has kept into docs/
	for page in plots scale_page history; do $(DRAW) benchmarks/$$page.py || exit 1; done

pictures: .venv/demo  ## Draw the diagrams of the pages into docs/pictures/
	$(DRAW) -m drawing

screens: .venv/test .venv/native  ## Run serve, top and bench in a terminal, and draw it into docs/pictures/
	$(DRAW) -m drawing.screens

quick: .venv/demo  ## Rates beside zmq.green, in about a minute
	$(BIN)/gzmqsource bench

clean:  ## Remove what was built
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .hypothesis
	rm -f gzmqsource/*/native.c gzmqsource/*/native.*.so
