# Everything a developer types. `make help` lists it.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 8000
ROUNDS ?= 40
OPERATIONS ?= 100000
CASES ?= 2000
WORKERS ?= 2
BENCHMARKS ?= write_path lag kafka_lag kafka_batches projectors idle text cranfield recall filtered imports ranges replay replay_load memory
export PYTHONSAFEPATH := 1
export UV_LINK_MODE ?= copy

.PHONY: help up demo test test-all test-crash test-consistency test-api check docs bench bench-replay lock format clean

help: ## this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# The bootstrap: pip installs a pinned uv, uv installs the pinned rest.
$(BIN)/uv: requirements-uv.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; name one: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "python3 cannot create virtual environments; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-uv.lock
	@touch $@

define install
	@$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes $(1) requirements-uv.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@
endef

# An environment for development holds all that running needs, at the same versions.
$(VENV)/.run: $(BIN)/uv requirements.lock pyproject.toml
	@echo "Installing AindusDB Core into $(VENV)"
	$(call install,$(if $(wildcard $(VENV)/.dev),requirements-dev.lock,requirements.lock))

$(VENV)/.dev: $(BIN)/uv requirements-dev.lock pyproject.toml
	@echo "Installing the development environment into $(VENV)"
	$(call install,requirements-dev.lock)
	@touch $(VENV)/.run

up: $(VENV)/.run ## run the product on its embedded servers (PORT=8000), Ctrl-C stops it
	@$(BIN)/aindusdb up --port $(PORT)

test: $(VENV)/.dev ## the tests, on real servers, at most 10 minutes (WORKERS=2)
	@$(BIN)/python -m pytest -m "not long" --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

test-all: test ## the tests and the long ones
	@$(BIN)/python -m pytest -m long

test-crash: $(VENV)/.dev ## kill and promote under load, ROUNDS times, then lose and restore each database; nothing acknowledged may be lost
	@$(BIN)/python -m tests.crash --rounds $(ROUNDS)

test-consistency: $(VENV)/.dev ## OPERATIONS reads and writes while servers lag and die; no answer may break a promise
	@$(BIN)/python -m tests.consistency --operations $(OPERATIONS)

test-api: $(VENV)/.dev ## CASES requests to each service, made up from its OpenAPI document; each is answered as it says
	@$(BIN)/python -m tests.contract --cases $(CASES)

check: $(VENV)/.dev ## lint, types, import rules, schemas, documentation
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m events_schema.schemas check
	@$(BIN)/python -m clients.synchronous check
	@$(BIN)/python -m clients.openapi check
	@$(BIN)/python -m docs.builder

docs: $(VENV)/.dev ## the documentation as a site in site/, every link checked
	@$(BIN)/python -m docs.builder

format: $(VENV)/.dev ## format and fix what can be fixed
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

demo: $(VENV)/.dev ## the whole product on a real test collection; the last line is one JSON object
	@$(BIN)/python -m benchmarks.demo $(DEMO)

bench: $(VENV)/.dev ## every benchmark with its targets; the last line of each is one JSON object
	@for name in $(BENCHMARKS); do echo "=== $$name"; $(BIN)/python -m benchmarks.$$name --check || failed=1; done; exit $${failed:-0}

bench-replay: $(VENV)/.dev ## folding a collection anew against reading alone and a bare COPY (REPLAY="--vectors 1000000 --rounds 1")
	@$(BIN)/python -m benchmarks.replay $(REPLAY)

lock: $(BIN)/uv ## resolve the lock files anew
	@$(BIN)/uv pip compile --universal --generate-hashes --no-emit-index-url --no-header -q --python-version 3.11 requirements-uv.in -o requirements-uv.lock
	@$(BIN)/uv pip compile --universal --generate-hashes --no-emit-index-url --no-header -q --python-version 3.11 pyproject.toml --extra local --extra embed --group build -o requirements.lock
	@$(BIN)/uv pip compile --universal --generate-hashes --no-emit-index-url --no-header -q --python-version 3.11 pyproject.toml --all-extras --group build --group dev -c requirements.lock -o requirements-dev.lock

clean: ## remove what can be made again (the data in .aindusdb stays)
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .schemathesis .import_linter_cache build dist site
