# Everything runs from .venv, which the first target that needs it makes.
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
EXTRAS := test,viz,zoo,detection,export,log

.PHONY: quickstart test faults minimum audit lint notebooks bench clean

quickstart: $(VENV)/.core
	$(BIN)/famkd train quickstart

test: $(VENV)/.all
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest

faults: $(VENV)/.all
	$(BIN)/python tools/faults.py

minimum:  # the tests on the oldest versions that pyproject.toml admits
	$(PYTHON) -m venv .venv-minimum
	.venv-minimum/bin/python -m pip install -q uv
	.venv-minimum/bin/uv pip install -q --python .venv-minimum/bin/python --resolution lowest-direct -e '.[$(EXTRAS)]'
	.venv-minimum/bin/python -m pytest

audit: $(VENV)/.all  # asks a database of known faults, so it needs a network
	$(BIN)/python -m pip install -q pip-audit
	$(BIN)/pip-audit -r constraints.txt --no-deps --disable-pip

lint: $(VENV)/.all
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

notebooks: $(VENV)/.all
	$(BIN)/python -m pytest tests/slow/test_notebooks.py

bench: $(VENV)/.core
	$(BIN)/famkd bench cifar100/resnet56-resnet20 --noise --against naive

$(VENV)/.core: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt -e .
	touch $@

$(VENV)/.all: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[$(EXTRAS)]'
	touch $@ $(VENV)/.core

clean:
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache
