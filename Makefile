# Everything runs from .venv, which the first target that needs it makes.
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
EXTRAS := test,viz,hosts,photos,detection,export,log,ray,tune,docs
FAST := -m "not slow" -n 2 --dist worksteal  # worksteal: a worker that is idle takes tests from the other

.PHONY: quickstart test test-all cluster-test lint type format faults minimum audit notebooks bench docs docs-notebooks dist clean

quickstart: $(VENV)/.core
	$(BIN)/famkd train quickstart

test: lint $(VENV)/.all  # some minutes
	$(BIN)/python -m pytest $(FAST)

test-all: test  # and notebooks, browser, faults, long runs
	$(BIN)/python -m pytest -m slow -n 2 --dist worksteal

cluster-test: $(VENV)/.all  # SLURM, Ray and two machines for real; installs SLURM on Debian, which needs root and a network
	command -v slurmctld >/dev/null || tools/install_slurm.sh
	$(BIN)/python -m pytest -rs tests/slow/test_slurm.py tests/slow/test_ray.py tests/slow/test_two_machines.py

lint: type $(VENV)/.all
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: $(VENV)/.all
	$(BIN)/basedpyright --level error --pythonpath $(BIN)/python

format: $(VENV)/.all
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

faults: $(VENV)/.all
	$(BIN)/python tools/faults.py

minimum:  # all tests on the oldest versions that pyproject.toml admits
	$(PYTHON) -m venv .venv-minimum
	.venv-minimum/bin/python -m pip install -q uv
	.venv-minimum/bin/uv pip install -q --python .venv-minimum/bin/python --resolution lowest-direct -e '.[$(EXTRAS)]'
	.venv-minimum/bin/python -m pytest

audit: $(VENV)/.all  # asks a database of known faults, so it needs a network
	$(BIN)/python -m pip install -q pip-audit
	$(BIN)/pip-audit -r constraints.txt --no-deps --disable-pip

notebooks: $(VENV)/.all
	$(BIN)/python -m pytest tests/slow/test_notebooks.py

docs: $(VENV)/.all  # the site in site/, without a network; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

docs-notebooks: $(VENV)/.all  # runs the notebooks, so that the site shows what they put out
	$(BIN)/python tools/run_notebooks.py

dist: $(VENV)/.all  # wheel and sdist in dist/
	$(BIN)/python -m build

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
	rm -rf build dist site *.egg-info .pytest_cache .ruff_cache
