# Two commands matter: `make reproduce` and `make test`. Both build .venv on first use and reuse it afterwards.
PYTHON ?= python3
JOBS ?= 2
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c requirements.lock
# One thread per process: the tests run in JOBS processes, and small matrices gain nothing from more.
# Threads that wait do so asleep: those of two processes would else keep both cores busy.
ONE_THREAD := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
# a test process that dies is named; with a new one in its place, pytest-xdist waits for ever
WORKERS := -n $(JOBS) --max-worker-restart=0

# glibc keeps what a layer's output occupied: without, benchmarks/latency.py times page faults.
KEEP_PAGES := MALLOC_MMAP_THRESHOLD_=500000000 MALLOC_TRIM_THRESHOLD_=2000000000

# What `make gpu` may take, and where its tables, histories and state lie. CIFAR's files: $VIBTHEORY_DATA.
MINUTES ?= 9
GPU_OUT ?= runs/gpu

# The other benchmarks want a trained run or hours; their first lines say so.
BENCHMARKS := latency train_step train_many pairwise enumeration solvers torture

.PHONY: help reproduce test lint bench gpu lab notebooks whole-notebooks gallery lite docs browser setup clean
.DEFAULT_GOAL := help

help:
	@echo "make reproduce   Table 1's LeNet-300-100 row beside the published one, and Figure 2, short versions, into figures/"
	@echo "make test        every test, in $(JOBS) processes (COVERAGE=1: with coverage and its floors)"
	@echo "make lint        ruff and mypy"
	@echo "make bench       the benchmarks that need no trained net (many minutes), into benchmarks/results/"
	@echo "make gpu         what waits for a GPU (Tables 3 and 4 first), $(MINUTES) minutes of it; again: goes on, into $(GPU_OUT)/"
	@echo "make lab         JupyterLab, opened on the first notebook"
	@echo "make notebooks   execute all notebooks again, in place"
	@echo "make whole-notebooks  execute all notebooks, and compare with what they say (make test does so on less data)"
	@echo "make gallery     the notebooks as a static site whose sliders move, into site/gallery/"
	@echo "make lite        notebooks that run in the reader's browser, without an installation, into site/lite/"
	@echo "make docs        the documentation site with the notebooks, into site/"
	@echo "make browser     documentation, notebooks and gallery in a real browser (needs chromium)"
	@echo "make clean       remove caches and build leftovers (.venv, runs/ and figures/ stay)"

# What running needs. A stamp is newer than pyproject.toml and the lock when the environment is up to date.
.venv/.core: pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed, $(PYTHON) is older. Remedy: make PYTHON=/path/to/python3.11 ..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing into .venv (a minute or two, once)"
	@$(PIP) -e .
	@touch $@

.venv/.notebooks: .venv/.core
	@$(PIP) -e '.[notebooks]'
	@touch $@

.venv/.docs: .venv/.core
	@$(PIP) -e '.[docs]'
	@touch $@

# What testing needs: everything, so that no test is skipped.
.venv/.dev: .venv/.core
	@$(PIP) -e '.[dev,notebooks,cluster,export,docs]'
	@touch $@ .venv/.notebooks .venv/.docs

setup: .venv/.dev

reproduce: .venv/.core
	$(BIN)/vibtheory table 1 --quick --jobs $(JOBS)
	$(BIN)/vibtheory figure 2 --quick --jobs $(JOBS)

# COVERAGE=1 also measures which lines the tests run, and fails below the floors: a third slower, and what .ci/run calls.
test: .venv/.dev
	@rm -f .coverage .coverage.*
	$(ONE_THREAD) $(BIN)/python -m pytest -q $(WORKERS) --dist loadfile --no-loadscope-reorder \
		$(if $(COVERAGE),--cov --cov-report=)
	$(if $(COVERAGE),@$(BIN)/python tests/coverage_floors.py)

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/.dev
	@for name in $(BENCHMARKS); do echo "== $$name"; $(KEEP_PAGES) $(BIN)/python "benchmarks/$$name.py" || exit 1; done

gpu: .venv/.core
	$(BIN)/python benchmarks/gpu_plan.py --minutes $(MINUTES) --out $(GPU_OUT)

lab: .venv/.notebooks
	$(BIN)/jupyter lab notebooks/00_quickstart.ipynb

notebooks: .venv/.notebooks
	$(ONE_THREAD) $(BIN)/python -m vibtheory.teaching run

whole-notebooks: .venv/.dev
	$(ONE_THREAD) $(BIN)/python -m pytest -q $(WORKERS) --maxschedchunk 1 tests/notebooks/full_notebooks.py

gallery: .venv/.notebooks
	$(ONE_THREAD) $(BIN)/python -m vibtheory.teaching gallery --frames

lite: .venv/.docs .venv/.notebooks
	$(BIN)/python -m vibtheory.teaching lite
	@echo "$(BIN)/python -m http.server --directory site: opens it at http://localhost:8000/lite"

docs: .venv/.docs .venv/.notebooks
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	$(BIN)/python -m vibtheory.teaching gallery
	@echo "open site/index.html; for its search: $(BIN)/python -m http.server --directory site"

browser: .venv/.dev
	$(ONE_THREAD) $(BIN)/python -m pytest -q $(WORKERS) --dist loadfile tests/notebooks/browser_*.py

clean:
	rm -rf build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks .coverage .coverage.*
	find vibtheory tests benchmarks docs notebooks -name __pycache__ -type d -prune -exec rm -rf {} +
