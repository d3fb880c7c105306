# Two commands: `make demo` and `make test`. Both set everything up first, once, in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready

.PHONY: demo test check clean

demo: $(READY)
	$(BIN)/tutelage demo

test: check
	$(BIN)/python -m pytest -n auto $(PYTEST_ARGS)

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# Touched last: an interrupted set-up is done again, a finished one only when the project's metadata change.
$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Tutelage needs Python 3.11 or newer: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev,bundled]'
	touch $@

clean:
	rm -rf $(VENV) build .mypy_cache .ruff_cache
