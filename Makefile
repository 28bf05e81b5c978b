# Two commands for a newcomer: `make demo` and `make test`. Both create what they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO_STAMP := $(VENV)/.installed-demo
KILLS ?= 300
SEED ?= 1

SEEDS ?= 2000
JOBS ?= $(shell nproc)

# Where `make install` puts the program, and a link to it.
PREFIX ?= /opt/kkt-bridge
BINDIR ?= /usr/local/bin

.PHONY: setup install demo test coverage campaign chaos simulate bench bench-quick check schemas clean

setup: $(STAMP)

PIP_INSTALL = $(PYTHON) -m venv $(VENV) && \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

$(STAMP): pyproject.toml constraints.txt
	$(PIP_INSTALL) -e '.[test,bench]'
	touch $(STAMP) $(DEMO_STAMP)

# All that a demo needs: no test tools, and nothing that draws plots.
$(DEMO_STAMP): pyproject.toml constraints.txt
	$(PIP_INSTALL) -e '.[broker]'
	touch $(DEMO_STAMP)

# For a machine that only runs the bridge: no test tools, a copy of the sources, readable by the service's user.
install:
	umask 022 && $(PYTHON) -m venv $(PREFIX)/.venv
	umask 022 && $(PREFIX)/.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt .
	rm -rf build
	mkdir -p $(BINDIR)
	ln -sf $(PREFIX)/.venv/bin/kkt-bridge $(BINDIR)/kkt-bridge

demo: $(DEMO_STAMP)
	$(BIN)/kkt-bridge demo

test: setup
	$(BIN)/python -m pytest --junitxml=tests/logs/junit.xml -n 3 --dist worksteal

# The same, with every line and branch counted, in every process: it takes half as long again.
coverage: setup
	$(BIN)/python -m pytest --cov --cov-report=term --cov-report=xml:tests/logs/coverage.xml -n 3 --dist worksteal

# Kills, cut lines and power cuts in any mixture; other seeds with TEST_SEEDS=3,4,5.
campaign: setup
	$(BIN)/python -m pytest -m campaign -n 2

# Real processes killed at random moments under load, and a verdict on every receipt.
chaos: setup
	PYTHONPATH=tests $(BIN)/python -m chaos --kills $(KILLS) --seed $(SEED) $(ARGS)

# Whole days in one thread under a seeded scheduler. DAY=7 lives that one again and tells its story; BUG=name plants one.
simulate: setup
	PYTHONPATH=tests PYTHONHASHSEED=0 $(BIN)/python -m simulation --seeds $(SEEDS) --jobs $(JOBS) \
		$(if $(DAY),--seed $(DAY)) $(if $(BUG),--mutation $(BUG)) $(ARGS)

# What it achieves on this machine, each figure against something bare in the same run: ten minutes, or one.
bench: setup
	$(BIN)/python -m benchmarks --out benchmarks/results/bench.json --plots benchmarks/results $(ARGS)

bench-quick: setup
	$(BIN)/python -m benchmarks --quick --out benchmarks/results/bench-quick.json $(ARGS)

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

schemas: setup
	$(BIN)/kkt-bridge schemas --out schemas

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache tests/logs
