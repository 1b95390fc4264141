# Works as the first command on a machine that has git, make and Python 3.11 or newer.

VENV ?= .venv
# The newest interpreter that runs and can make a virtual environment; a name in PATH may be an empty shim.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python; do \
	$$p -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo $$p; break; }; \
	done)
# Real conversations for the demo, where there are some; empty means generated ones.
DEMO_DATA ?= $(wildcard ../shared/data/sample)
# More arguments for pytest: make test ARGS="-k watch".
ARGS ?=

RUN := $(VENV)/bin/python
PIP := $(RUN) -m pip --disable-pip-version-check --quiet
# Twice as many workers as cores: most tests wait for another process or for the disk.
XDIST = $(shell $(RUN) -c 'import os, xdist; print(" -n", 2 * (os.cpu_count() or 1), "--dist worksteal")' 2>/dev/null)

.PHONY: help demo test lint types unit bench wheel clean
.DELETE_ON_ERROR:

help:
	@echo 'make demo     play the whole story with the real agent, in a throw-away home'
	@echo 'make test     lint, type check and run every test'
	@echo 'make lint     ruff: rules and format'
	@echo 'make types    mypy, strict'
	@echo 'make unit     the tests alone, e.g. make unit ARGS="tests/core -k names"'
	@echo 'make bench    measure the budgets, beside floors and other programs; ARGS="--quick" for a short one'
	@echo 'make wheel    build the wheel and the sdist into dist/'
	@echo 'make clean    remove everything that was made'

demo: $(VENV)/run.stamp
	@CONVSYNC_DEMO_DATA='$(DEMO_DATA)' $(RUN) -m convsync_cli demo

test: lint types unit

lint: $(VENV)/dev.stamp
	@echo '== lint'
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .

types: $(VENV)/dev.stamp
	@echo '== types'
	@$(RUN) -m mypy

unit: $(VENV)/dev.stamp
	@echo '== tests'
	@$(RUN) -m pytest -q $(XDIST) $(ARGS)

bench: $(VENV)/dev.stamp
	@$(RUN) -m benchmarks $(ARGS)

wheel: $(VENV)/dev.stamp
	@rm -rf dist
	@$(RUN) -m build --outdir dist . >/dev/null
	@ls dist/*

clean:
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(RUN):
	@test -n '$(PYTHON)' || { echo 'error: no Python 3.11 or newer that can make a virtual environment' >&2; \
		echo 'hint: apt install python3-venv, or: make PYTHON=/path/to/python3' >&2; exit 1; }
	@echo "== $(VENV), with $$($(PYTHON) -V)"
	@$(PYTHON) -m venv $(VENV)

# What a user gets; enough for the demo.
$(VENV)/run.stamp: pyproject.toml | $(RUN)
	@echo '== installing convsync'
	@$(PIP) install --editable .
	@touch $@

$(VENV)/dev.stamp: pyproject.toml | $(RUN)
	@echo '== installing convsync and the tools of its developers'
	@$(PIP) install --editable '.[dev]'
	@touch $(VENV)/run.stamp $@
