# Needs Python >= 3.11, git and make; compiled torch cells also need a C++ compiler.
PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?= constraints.txt

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
READY := $(VENV)/.ready
LAB_READY := $(VENV)/.lab-ready
# JupyterLab refuses to start as root, which is the only user of many containers, unless it is told to.
AS_ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint bench lab clean

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/make \1\t\2/' | expand -t 14

setup: $(READY)  ## install everything that the other targets need into .venv

# The stamp is younger than what it was made from, so a second call installs nothing.
$(READY): pyproject.toml $(CONSTRAINTS)
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit(f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet -c $(CONSTRAINTS) -e '.[torch,jax,test]'
	@touch $@

$(LAB_READY): $(READY)
	$(PIP) install --quiet -c $(CONSTRAINTS) -e '.[lab]'
	@touch $@

demo: $(READY)  ## run examples/quickstart.ipynb and print its comparisons
	$(BIN)/python examples/demo.py

lint: $(READY)  ## ruff and mypy
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

test: lint  ## lint, then all tests with coverage
	$(BIN)/python -m pytest --cov --cov-report=term

bench: $(READY)  ## run the benchmarks (many minutes; leave the machine alone meanwhile)
	$(BIN)/python -m benchmarks

lab: $(LAB_READY)  ## open the examples in JupyterLab
	$(BIN)/jupyter lab $(AS_ROOT) --ServerApp.root_dir='$(CURDIR)' --LabApp.default_url=/lab/tree/examples/quickstart.ipynb

clean:  ## remove .venv, build outputs and caches
	rm -rf $(VENV) build dist .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
