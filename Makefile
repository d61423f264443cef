# Everything a newcomer needs: `make demo` and `make test` create .venv themselves when it is missing or out of date.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: help demo test test-all test-faults lint format lessons docs bench clean

help:
	@echo "make demo      the whole story on 1,797 real handwritten digits, under a minute"
	@echo "make test      lint, types and the default tests"
	@echo "make test-all  every test, the slow ones and those on real pictures too"
	@echo "make test-faults  real processes, stopped with signals and resumed"
	@echo "make lint      ruff and mypy"
	@echo "make format    let ruff write the format"
	@echo "make lessons   run the pages of docs/lessons: their numbers and figures anew"
	@echo "make docs      the site with lessons and guides, into site/; it works offline"
	@echo "make bench     the figures of the README, measured on this machine"

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Pellucid needs Python 3.11 or newer; '$(PYTHON)' is older. Name another: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	@touch $(READY)

demo: $(READY)
	$(BIN)/pellucid demo

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: lint
	$(BIN)/python -m pytest -m "not slow"

test-all: lint
	$(BIN)/python -m pytest

test-faults: $(READY)
	$(BIN)/python -m pytest -m faults

lessons: $(READY)
	$(BIN)/python docs/run_lessons.py

$(VENV)/.ready-docs: $(READY)
	$(BIN)/python -m pip install --quiet --editable ".[docs]"
	@touch $@

docs: $(VENV)/.ready-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "Open site/index.html"

.venv-bench/.ready: bench/requirements.txt
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet --requirement bench/requirements.txt
	@touch $@

bench: $(READY) .venv-bench/.ready
	$(BIN)/python -m pip install --quiet --editable ".[engines]"
	$(BIN)/python bench/run.py

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache build dist site
