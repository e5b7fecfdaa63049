# `make` alone explains every command. All of them set up what they need first.
.DEFAULT_GOAL := help
.PHONY: help setup demo up down test test-faults lint proto bench

PYTHON ?=
ARGS ?=
PY := .venv/bin/python
WORKERS ?= 2
CONTRACT := hatch_build.py $(shell find protos third_party -name '*.proto')

help: ## this list
	@echo "WeConnect Executions. Needs: make, Python 3.11 or newer with venv."
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile
	@echo "  Options: make up ARGS=\"--runner 2\", make test ARGS=\"-k retries\", make bench ARGS=\"--workloads W1\"."

setup: .venv/installed .venv/compiled ## .venv with what requirements.lock pins, and the compiled contract
	@:

demo: setup ## start everything, run an order workflow before your eyes, leave nothing running
	@$(PY) -m services.local demo $(ARGS)

up: setup ## a stack in the foreground: PostgreSQL, NATS, the four services; Ctrl-C ends it, its data stays
	@$(PY) -m services.local up $(ARGS)

down: setup ## end a stack that was left behind
	@$(PY) -m services.local down $(ARGS)

test: setup ## all tests, with one kill of each kind
	$(PY) -m pytest -n $(WORKERS) --dist worksteal -m "not campaign" $(ARGS)

test-faults: setup ## the fault campaign and the mutants; after changes to scheduler, runner or adapters
	$(PY) -m pytest -m campaign $(ARGS)

lint: setup ## style, types, layers, contract, sizes and words
	@sh scripts/lint.sh

proto: setup ## compile protos/ after changing it (every other command does so too)
	@$(PY) hatch_build.py

bench: setup ## ours and the floor in turn; results in benchmarks/out/latest.json
	@$(PY) -m benchmarks $(ARGS)

.venv/installed: requirements.lock pyproject.toml scripts/setup.sh
	@PYTHON="$(PYTHON)" sh scripts/setup.sh && touch $@

.venv/compiled: .venv/installed $(CONTRACT)
	@$(PY) hatch_build.py && touch $@
