# Two commands are enough: `make lab` and `make test`. Both set up .venv first, and repair it when it is damaged.
# Variables: ARGS (for the command that runs), PYTHON (3.11 or newer), TORCH_BACKEND (cpu, cu128, auto, ...).

.DEFAULT_GOAL := help
CANDIDATES := python3 python3.14 python3.13 python3.12 python3.11 python
IS_NEW_ENOUGH := 'import sys; sys.exit(sys.version_info < (3, 11))'
PYTHON ?= $(shell for name in $(CANDIDATES); do $$name -c $(IS_NEW_ENOUGH) 2>/dev/null && echo $$name && break; done)
BIN := .venv/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
RUN := $(BIN)/python
NOTEBOOKS = $(sort $(wildcard notebooks/*.ipynb))
WORKERS ?= 2
export TORCH_BACKEND

# A second thread only waits in layers as small as the tests', up to 17 times longer beside a browser.
test% notebooks bench coverage mutants: export OMP_NUM_THREADS = 1

.PHONY: help
help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' Makefile | awk -F'|' '{ printf "make %-15s %s\n", $$1, $$2 }'

# --- set-up: never needed by name, every other command asks for it --------------------------------------------

.PHONY: setup setup-test python
python:
	@test -n "$(PYTHON)" || { echo "sparsekit needs Python 3.11 or newer, found none among: $(CANDIDATES)." \
	  "Install one, or name it: make lab PYTHON=/its/path" >&2; exit 1; }

setup: python ## Make or repair .venv, without the tests' tools
	@"$(PYTHON)" tools/setup_env.py notebooks sweep

setup-test: python ## Make or repair .venv, with the tests' tools
	@"$(PYTHON)" tools/setup_env.py notebooks sweep test

# --- for readers -----------------------------------------------------------------------------------------------

.PHONY: lab
lab: setup ## Open copies of the notebooks in JupyterLab (ARGS="--no-browser --port 8899" goes to Jupyter)
	$(RUN) -m sparsekit course open $(ARGS)

.PHONY: lab-reset
lab-reset: setup ## Begin a notebook again (NN=03), and keep your copy of it
	$(RUN) -m sparsekit course reset $(NN)

.PHONY: site
site: setup ## Write the course as pages without a kernel into site/ (ARGS="--only 00" executes only that notebook)
	OMP_NUM_THREADS=1 $(RUN) -m sparsekit site site $(ARGS)

# --- for developers --------------------------------------------------------------------------------------------

.PHONY: test test-fresh test-unit test-thorough test-gpu test-notebooks test-browser
test: export SPARSEKIT_REUSE_RUNS = 1 # the browser reads the trainings that the part before has just done
test: test-fresh test-unit test-notebooks test-browser ## Run the suite: the four parts below, without the tests of tests/thorough.txt

test-fresh: setup-test ## Check that notebooks/*.ipynb were built from notebooks/src/*.py
	$(RUN) tools/build_notebooks.py --check

# in the order of the files: by size, the modules with few and slow tests would come last, one worker waiting
test-unit: setup-test ## Run the tests that need no browser (ARGS goes to pytest)
	$(RUN) -m pytest tests --ignore=tests/browser -n $(WORKERS) --dist loadscope --no-loadscope-reorder $(ARGS)

test-thorough: setup-test ## Run the slow tests that tests/thorough.txt names, and no others
	$(RUN) -m pytest tests --ignore=tests/browser -m thorough -n $(WORKERS) --dist load $(ARGS)

test-gpu: setup-test ## Run the tests that need a GPU, which the others skip aloud (ARGS goes to pytest)
	$(RUN) -m pytest tests/test_devices.py -n 0 $(ARGS)

# loadfile, because the cells of one notebook must share one worker; runs of older code must not be read
test-notebooks: setup-test ## Run the notebooks and compare what they print with what is committed
	rm -rf notebooks/runs
	$(if $(NOTEBOOKS),$(RUN) -m pytest --nbval --nbval-current-env --nbval-cell-timeout=120 \
	  --nbval-sanitize-with notebooks/sanitize.cfg -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(NOTEBOOKS))

test-browser: setup-test ## Drive the notebooks in JupyterLab and Chromium (skips aloud without Chromium)
	$(RUN) -m pytest tests/browser -n $(WORKERS) $(ARGS)

.PHONY: lint format notebooks house bench coverage mutants pins clean
lint: setup-test ## Check style, format and types
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check
	$(RUN) -m pyright

format: setup-test ## Mend style and format where that is safe
	$(RUN) -m ruff check --fix
	$(RUN) -m ruff format

notebooks: setup-test ## Execute changed notebooks anew (ARGS="--force 03" for all that start with 03)
	$(RUN) tools/build_notebooks.py $(ARGS)

house: setup-test ## Draw the figure of docs/architecture.md anew
	$(RUN) tools/draw_house.py

bench: setup-test ## Measure speed on this machine
	$(RUN) benchmarks/run.py $(ARGS)

coverage: setup-test ## Show which lines no unit test reaches
	$(RUN) -m pytest tests --ignore=tests/browser -n $(WORKERS) --dist loadscope --cov --cov-report=term-missing $(ARGS)

mutants: setup-test ## Put known defects into a copy of the package, one at a time: do the tests notice? (ARGS="--only rules")
	$(RUN) tools/mutants.py --jobs $(WORKERS) $(ARGS)

# CUDA's packages differ by backend and platform, so their versions are left to torch
pins: setup-test ## Write constraints.txt anew (ARGS=--upgrade for the newest versions)
	echo uv | $(RUN) -m uv pip compile pyproject.toml - --all-extras --universal --output-file constraints.txt \
	  --no-header --no-annotate --no-emit-index-url --quiet $(ARGS)
	{ echo "# The versions that were tested together. Written by \`make pins\`; do not edit."; \
	  grep -vE '^(#|nvidia|cuda|triton)' constraints.txt; } > constraints.txt.new
	mv constraints.txt.new constraints.txt

clean: ## Remove .venv; the next command makes it anew
	rm -rf .venv
