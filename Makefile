# Both targets do all their set-up in .venv on a fresh machine.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# pytest's workers share the cores, so each keeps to one thread.
export OMP_NUM_THREADS ?= 1

.PHONY: simulate test lint slow bench docs clean

simulate: $(VENV)/.base
	$(BIN)/theory simulate --method rkl --n 1e5 --picture simulate.png

test: $(VENV)/.dev lint
	$(BIN)/python -m pytest -n auto -m "not slow"

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

slow: $(VENV)/.dev
	$(BIN)/python -m pytest -m slow

bench: $(VENV)/.dev
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[bench]"
	$(BIN)/python -m benchmarks

# Every page that a program writes; the figures from their cache where it is there.
docs: $(VENV)/.dev
	$(BIN)/python docs/gallery.py
	$(BIN)/python docs/notebook.py
	$(BIN)/python docs/objectives.py
	$(BIN)/python docs/reviewers.py --page
	$(BIN)/python docs/readme.py

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.base: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install -q -c constraints.txt -e .
	touch $@

$(VENV)/.dev: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[dev]"
	touch $@ $(VENV)/.base

clean:
	rm -rf $(VENV) simulate.png
