# Two commands matter: `make reproduce` and `make test`. Both build .venv on first use and reuse it afterwards.
PYTHON ?= python3
JOBS ?= 2
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c requirements.lock
# One thread per process: the tests run in JOBS processes, and small matrices gain nothing from more.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1

.PHONY: help reproduce test lint bench notebooks setup clean
.DEFAULT_GOAL := help

help:
	@echo "make reproduce   Table 1's LeNet-300-100 row on MNIST beside the published one, and its figure, into figures/"
	@echo "make test        every test, in $(JOBS) processes"
	@echo "make lint        ruff and mypy"
	@echo "make bench       the benchmarks (ratios; minutes)"
	@echo "make notebooks   JupyterLab with what the notebooks need"
	@echo "make clean       remove caches and build leftovers (.venv, runs/ and figures/ stay)"

# What running needs. The stamp is newer than pyproject.toml and the lock when the environment is up to date.
.venv/.core: pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed, $(PYTHON) is older. Remedy: make PYTHON=/path/to/python3.11 ..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing into .venv (a minute or two, once)"
	@$(PIP) -e .
	@touch $@

# What testing needs on top.
.venv/.dev: .venv/.core
	@$(PIP) -e '.[dev,export]'
	@touch $@

setup: .venv/.dev

reproduce: .venv/.core
	$(BIN)/vibtheory table 1 --quick --jobs $(JOBS)

test: .venv/.dev
	$(ONE_THREAD) $(BIN)/python -m pytest -q -n $(JOBS)

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/.dev
	@for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python "$$script" || exit 1; done

notebooks: .venv/.core
	@$(PIP) -e '.[notebooks]'
	$(BIN)/jupyter lab notebooks

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks .coverage*
	find vibtheory tests benchmarks notebooks -name __pycache__ -type d -prune -exec rm -rf {} +
