# The commands of this repository: `make` lists them. Those that need the environment make it first.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-builtin-rules
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

# The Python that .venv is made with.
PYTHON ?= python3
# The port of the Dagster UI.
PORT ?= 3000
# How many random sequences a soak takes.
N ?= 100
# What .venv was made for, else cpu.
DEVICE ?= $(or $(file < .venv/device),cpu)
ifeq ($(filter $(DEVICE),cpu cuda),)
$(error DEVICE is cpu or cuda, not "$(DEVICE)")
endif

BIN := .venv/bin
INSTALLED := .venv/installed-$(DEVICE)

# `dg check` reads no dagster.yaml, which says so too.
export DAGSTER_DISABLE_TELEMETRY := 1
# Programs that are looked up by name (ninja, which torch compiles with) come from .venv first.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
# So that a shell in which another environment is active changes nothing.
export VIRTUAL_ENV := $(CURDIR)/.venv
unexport PYTHONHOME PYTHONPATH

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore
PIP_INSTALL := $(BIN)/python -m pip install -qq --no-deps --only-binary :all:

.PHONY: help
help: ## List these commands
	@sed -nE 's/^([a-z]+):.*## (.*)/\1\t\2/p' Makefile | while IFS=$$'\t' read -r name text; do \
		printf '  make %-13s %s\n' "$$name" "$$text"; done

.PHONY: install
install: $(INSTALLED) ## Make .venv from the pinned CPU list; DEVICE=cuda takes the one for NVIDIA GPUs

.PHONY: demo
demo: install ## Run the whole asset graph on this machine's CPU, with the model that comes along
	$(BIN)/alignment-assets materialize --recipe demo

.PHONY: dev
dev: install ## Start the Dagster UI on http://127.0.0.1:3000; PORT=3001 takes another port
	$(BIN)/alignment-assets dev --port $(PORT)

.PHONY: test
test: install ## Run all tests; says first what it skips on this machine, and last what it took
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations=10 -m "not soak"

.PHONY: quick
quick: install ## Run the tests that take no engine, server, browser or run of the whole graph
	$(BIN)/python -m pytest -m "not integration and not gpu and not slow and not soak"

.PHONY: soak
soak: lake ray ## Backfill the whole graph, kill runs and writers many times over; N=1000 random sequences
	MODEL_SEQUENCES=$(N) $(BIN)/python -m pytest -m soak
	$(BIN)/python -m benchmarks.crash
	$(BIN)/python -m benchmarks.killed_writers
	$(BIN)/python -m benchmarks.writers
	$(BIN)/python -m benchmarks.killed_lake_writers
	$(BIN)/python -m benchmarks.lake_writers

.PHONY: lint
lint: install ## Check style, formatting, SQL, and links in documents
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/sqlfluff lint --disable-progress-bar sql
	$(BIN)/pytest -q --noconftest tests/unit/test_docs.py

.PHONY: docs
docs: install ## Write the files that are made from code: the recipe's schema, the commands' reference
	$(BIN)/python -m tests.support.generated

.PHONY: types
types: install ## Check types
	$(BIN)/mypy

.PHONY: check
check: install ## Check that Dagster loads the definitions
	$(BIN)/dg check defs

.PHONY: requirements
requirements: requirements-cpu requirements-cuda requirements-lake requirements-ray ## Resolve the pinned lists again; UPGRADE=1 takes newer releases

.PHONY: clean
clean: ## Remove .venv, build outputs and caches; keeps data/
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- install -----------------------------------------------------------------------------------------

# PIP_FIND_LINKS, where set, holds the CPU build of torch; else PyTorch's own index does. Torch has a call
# of its own, so that nothing else comes from there.
ifdef PIP_FIND_LINKS
TORCH_SOURCE := --no-index
else
TORCH_SOURCE := --index-url https://download.pytorch.org/whl/cpu
endif

# Both builds of vLLM bring the same module, so a change of device starts afresh.
.venv/installed-%: requirements/%.txt pyproject.toml
	@case "$$PWD" in *[[:space:]]*) echo >&2 \
		'vLLM and torch split paths at spaces (to preload, to compile): move this folder to a path without'; exit 1;; esac
	@if [ -e .venv/device ] && [ "$$(< .venv/device)" != $* ]; then rm -rf .venv; fi
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo >&2 \
		'Python 3.11 or newer is needed, $(PYTHON) is another or missing: make install PYTHON=python3.11'; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' || { echo >&2 \
		'$(PYTHON) cannot make virtual environments: install its venv package (Debian: python3-venv)'; exit 1; }
	@echo "Installing the $$(grep -c == requirements/$*.txt) packages of requirements/$*.txt into .venv: a few minutes"
	@[ -x $(BIN)/pip ] || "$(PYTHON)" -m venv .venv
	@echo $* > .venv/device
	@if [ $* = cpu ]; then $(PIP_INSTALL) $(TORCH_SOURCE) "$$(grep -o '^torch==[^ ]*' requirements/cpu.txt)"; fi
	@$(PIP_INSTALL) -r requirements/$*.txt
	@$(PIP_INSTALL) --no-build-isolation -e .
	@touch $@
	@if [ $* = cpu ] && nvidia-smi > /dev/null 2>&1; then \
		echo 'Installed for CPUs. This machine has an NVIDIA GPU: make install DEVICE=cuda uses it.'; fi

# --- what goes past one machine ----------------------------------------------------------------------

.PHONY: lake
lake: .venv/installed-lake ## Install what DuckLake, S3 and Dagster on PostgreSQL need, and their tests

.venv/installed-lake: requirements/lake.txt $(INSTALLED)
	@$(PIP_INSTALL) -r requirements/lake.txt
	@touch $@

.PHONY: ray
ray: .venv/installed-ray ## Install what the backend ray needs

.venv/installed-ray: requirements/ray.txt $(INSTALLED)
	@$(PIP_INSTALL) -r requirements/ray.txt
	@touch $@

# --- what checks Croissant metadata: its packages are not wheels alone --------------------------------

.PHONY: croissant
croissant: build/mlcroissant/bin/mlcroissant ## Install mlcroissant, which checks the metadata of exports

build/mlcroissant/bin/mlcroissant:
	"$(PYTHON)" -m venv build/mlcroissant
	build/mlcroissant/bin/python -m pip install -qq mlcroissant==1.1.1 pyarrow

# --- requirements ------------------------------------------------------------------------------------

UV := build/uv/bin/uv
UV_VERSION := 0.13.9
# The lists are resolved for the first and have to hold for the others.
PYTHON_VERSION := 3.11
OTHER_PYTHON_VERSIONS := 3.12 3.13
# By its C library: Debian 12, Ubuntu 22.04, RHEL 9 and newer.
PLATFORM := x86_64-manylinux_2_34

$(UV):
	"$(PYTHON)" -m venv build/uv
	build/uv/bin/python -m pip install -qq uv==$(UV_VERSION)

# Versions that a list has stay as long as they fit, unless UPGRADE is set.
.PHONY: requirements-cpu requirements-cuda
requirements-cpu requirements-cuda: requirements-%: | $(UV)
	@echo 'Resolving requirements/$*.txt'
	@resolve() { env -u UV_FIND_LINKS -u VIRTUAL_ENV $(UV) pip compile -q pyproject.toml requirements/$*.in \
			--extra $* --extra demo --extra train --group dev --override requirements/overrides-$*.txt \
			--python-platform $(PLATFORM) --only-binary :all: --no-python-downloads \
			--no-header --annotation-style line "$$@"; }; \
	resolve --python-version $(PYTHON_VERSION) $(if $(UPGRADE),--upgrade) -o requirements/$*.txt > /dev/null; \
	for version in $(OTHER_PYTHON_VERSIONS); do \
		resolve --python-version "$$version" -c requirements/$*.txt > /dev/null; done; \
	sed -i '1i # The whole install for $(KIND_$*), pinned: Linux on x86-64, Python $(PYTHON_VERSION) $(OTHER_PYTHON_VERSIONS).\n# Made by `make requirements` from pyproject.toml, $*.in and overrides-$*.txt. Install with --no-deps.' requirements/$*.txt

# What goes past one machine takes beyond the lists above.
EXTRAS_lake := --extra lake --extra postgres --group scale
EXTRAS_ray := --extra ray
.PHONY: requirements-lake requirements-ray
requirements-lake requirements-ray: requirements-%: requirements-cpu requirements-cuda | $(UV)
	@echo 'Resolving requirements/$*.txt'
	@[ ! -e requirements/$*.txt ] || cp requirements/$*.txt build/$*.txt
	@resolve() { env -u UV_FIND_LINKS -u VIRTUAL_ENV $(UV) pip compile -q pyproject.toml -c requirements/cpu.txt \
			$(EXTRAS_$*) \
			--python-platform $(PLATFORM) --only-binary :all: --no-python-downloads \
			--no-header --annotation-style line "$$@"; }; \
	resolve --python-version $(PYTHON_VERSION) $(if $(UPGRADE),--upgrade) -o build/$*.txt > /dev/null; \
	for version in $(OTHER_PYTHON_VERSIONS); do \
		resolve --python-version "$$version" -c build/$*.txt > /dev/null; done; \
	{ echo '# What `make $*` installs beyond cpu.txt and cuda.txt, pinned.'; \
	echo '# Made by `make requirements` from pyproject.toml. Install with --no-deps.'; \
	grep -vF "$$(grep -o '^[^ #]*==' requirements/cpu.txt)" build/$*.txt; } > requirements/$*.txt

KIND_cpu := CPUs
KIND_cuda := NVIDIA GPUs
