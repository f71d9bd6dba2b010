# `make demo` and `make test` need Python >= 3.11 and make; everything else they install into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# pytest in that many processes; each of them starts one Ray at most, with two CPUs.
PROCESSES ?= 3
PYTEST := $(BIN)/python -m pytest --numprocesses $(PROCESSES) --dist worksteal --durations 20
PACKAGES := datasets trainables analysis sweeps

.DEFAULT_GOAL := help
.PHONY: help install demo test tests lint types wheel slow schema format clean

help:
	@echo "make demo    set up, prepare the embedded faces, run examples/quickstart.yaml, write its report"
	@echo "make test    set up, then lint, type-check, build the wheel and import it, run the tests"
	@echo "make slow    the longer tests (both: in 3 processes, or PROCESSES=2)"
	@echo "make schema  write sweeps/spec/sweep.schema.json anew, after a change of what a sweep file may hold"
	@echo "make format  format and sort imports"
	@echo "make clean   remove caches and build folders (keeps .venv, data and runs)"

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "fairsweep needs Python >= 3.11, but $(PYTHON) is older; run: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv $(VENV)

# One stamp for the package, one for the tools of the gate: a change of the requirements installs anew.
$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[all]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

install: $(VENV)/.installed

demo: $(VENV)/.installed
	@test -f data/faces/dataset.json || $(BIN)/fairsweep prepare faces --to data/faces
	$(BIN)/fairsweep run examples/quickstart.yaml

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev
	MYPYPATH=.typing $(BIN)/mypy --namespace-packages --explicit-package-bases -p fairsweep

wheel: $(VENV)/.installed-dev
	bash .ci/check-wheel $(BIN)/python

tests: $(VENV)/.installed-dev
	$(PYTEST)

# The gate. Types and wheel are checked while the tests run: each is one process, and would leave a core idle. It ends with the slowest twenty tests; its last line is pytest's own.
test: lint
	@$(MAKE) --no-print-directory --jobs 3 types wheel tests

slow: $(VENV)/.installed-dev
	$(PYTEST) -m slow

schema: $(VENV)/.installed
	$(BIN)/python -W ignore -c 'from fairsweep.sweeps.spec.schema import write_schema; print(write_schema())'

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find $(PACKAGES) tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
