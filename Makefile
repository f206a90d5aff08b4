# Pillion's daily commands. `make` alone lists them.
#
# The virtual environment is built once and again when pyproject.toml changes. Variables:
#   PYTHON=...   the interpreter to build it with (otherwise the first fit one on PATH)
#   WHEELS=dir   install from the wheels in that folder, without a network
#   ARGS=...     more arguments for the program that a target runs
#   SEEDS=, SEED=, JOBS=    of `make simulate`: how many, from which on, in how many processes
#   KILLS=, PAUSES=, LINKS=, IMAGES=, FRAMES=, OUTAGE=    of `make chaos`: how many of each

VENV := .venv
BIN := $(VENV)/bin
DEMO_READY := $(VENV)/.ready-demo
DEV_READY := $(VENV)/.ready-dev
PYTHON ?=
WHEELS ?=
ARGS ?=
SEEDS ?= 20000
SEED ?= 1000000
JOBS ?= 2
CHAOS := $(foreach name,KILLS PAUSES LINKS IMAGES FRAMES OUTAGE,$(if $($(name)),--$(shell \
	echo $(name) | tr A-Z a-z) $($(name))))

CANDIDATES := $(if $(PYTHON),$(PYTHON),python3.14 python3.13 python3.12 python3.11 python3 python)
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet \
	$(if $(WHEELS),--no-index --find-links "$(abspath $(WHEELS))")

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test check format coverage bench simulate chaos clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(DEMO_READY) ## Run real tasks, kill a sidecar in the middle, and count what was lost
	@$(BIN)/python -m examples.demo $(ARGS)

test: $(DEV_READY) ## Run the whole test suite
	@$(BIN)/python -m pytest $(ARGS)

check: $(DEV_READY) ## Check format, lint, types and the direction of imports
	@$(BIN)/ruff format --check --quiet . || { echo "Run 'make format'." >&2; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest tests/test_architecture.py

format: $(DEV_READY) ## Put the code in its format
	@$(BIN)/ruff format --quiet .
	@$(BIN)/ruff check --quiet --fix --select I .

coverage: $(DEV_READY) ## Run the suite and tell which branches it misses
	@$(BIN)/python -m coverage run -m pytest $(ARGS)
	@$(BIN)/python -m coverage report --show-missing --skip-covered

bench: $(DEV_READY) ## Run every benchmark (some minutes)
	@$(BIN)/python -m benchmarks all $(ARGS)

simulate: $(DEV_READY) ## Run 20,000 seeds of the simulation (half an hour of two cores)
	@$(BIN)/python -m tests.simulation --seeds $(SEEDS) --seed $(SEED) --jobs $(JOBS) $(ARGS)

chaos: $(DEV_READY) ## Kill, stop, cut, fill and corrupt for hours, and tell what was survived
	@$(BIN)/python -m tests.chaos $(CHAOS) $(ARGS)

clean: ## Remove everything that was built
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A name on PATH may be a shim for an interpreter that is not installed: only running it tells.
$(BIN)/python:
	@python=; \
	for name in $(CANDIDATES); do \
		if "$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
			python="$$name"; break; \
		fi; \
	done; \
	if [ -z "$$python" ]; then \
		echo "Pillion needs Python 3.11 or later; none of these runs as one: $(CANDIDATES)." >&2; \
		echo "Install one (Debian: apt install python3 python3-venv) or name one: make PYTHON=/path/to/python." >&2; \
		exit 1; \
	fi; \
	if ! "$$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then \
		package=$$("$$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])'); \
		echo "$$python has no ensurepip, so it cannot make a virtual environment." >&2; \
		echo "On Debian and Ubuntu it is the package $$package: apt install $$package" >&2; \
		exit 1; \
	fi; \
	echo "Building $(VENV) with $$("$$python" --version)"; \
	"$$python" -m venv $(VENV)

$(DEMO_READY): pyproject.toml | $(BIN)/python
	@$(PIP) --editable '.[demo]'
	@touch $@

$(DEV_READY): pyproject.toml | $(BIN)/python
	@$(PIP) --editable '.[dev]'
	@touch $(DEMO_READY) $@
