# The two commands: `make quickstart` runs the whole loop, `make test` runs every test. Both set up what they need.

PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# torch goes first and alone: with it in place nothing else asks for another build of it
TORCH := torch==2.13.0
JOBS ?= 2

.PHONY: quickstart test lint format bench clean sandbox-test

quickstart: $(VENV)/.run
	$(BIN)/limbeck run quickstart

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev
	$(BIN)/python bench/run.py

sandbox-test: $(VENV)/.run
	$(BIN)/python tests/sandbox/sandbox_corpus.py

$(VENV)/.run: pyproject.toml
	@echo "Setting up $(VENV) with $(PYTHON): a minute or two, once."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Limbeck needs Python 3.11 or newer; set PYTHON=..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) $(TORCH)
	$(PIP) --editable '.[train]'
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	$(PIP) --editable '.[train,dev]'
	@touch $@

clean:
	rm -rf $(VENV) runs .limbeck .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
