# make demo and make test set up everything they need; make help lists the rest.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
CORES = $(shell $(PYTHON) -c "import os; print(os.cpu_count() or 1)")
# Some tests wait, for signals and for processes that hang: more workers than cores keep the cores busy.
WORKERS = $(shell expr $(CORES) + $(CORES))
# One file is one worker's, as its tests share fixtures; tests/conftest.py puts the longest files first.
PYTEST = $(BIN)/python -m pytest --dist loadfile --no-loadscope-reorder --durations 20

# Processes that tests start would each compile the package anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install demo test test-fast lint clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 12

install: $(VENV)/installed  ## make .venv and install the package with its test tools

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	@echo "installing (torch is large: this takes a few minutes)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: install  ## RIPU on the embedded domain pair, in minutes; the run folder is printed at the end
	$(BIN)/ripu-train experiment=demo

test: install  ## the whole test suite; HYPOTHESIS_PROFILE=thorough draws more random examples
	$(PYTEST) -n $(WORKERS)

test-fast: install  ## tests that start no process, run no command and draw no examples at random
	$(PYTEST) -n $(CORES) -m "not process and not fuzz and not run"

lint: install  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:  ## remove the environment and caches; runs/ is kept
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
