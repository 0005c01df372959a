# The verbs of this repository. Each works as the first command on a fresh clone.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
GO_SOURCES := $(shell find agent launch -name '*.go' -o -name go.mod) hatch_build.py

.PHONY: help setup demo test test-fast check bench clean

help: ## this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

setup: .venv/installed ## system packages (with apt, when you may), and .venv with Sandlot in it

.venv/installed: pyproject.toml $(GO_SOURCES) scripts/system-packages
	@PYTHON=$(PYTHON) scripts/system-packages
	@echo "installing Sandlot and what it needs into .venv ..." >&2
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: setup ## an agent's program in its own microVM
	@$(BIN)/python examples/demo.py

test: setup ## all tests, real machines included
	@PYTHON=$(PYTHON) scripts/system-packages --tests
	@scripts/test

test-fast: setup ## the tests that need no machine
	@PYTHON=$(PYTHON) scripts/system-packages --tests
	@$(BIN)/pytest -q -m 'not vm and not network' -n auto tests/unit

check: setup ## ruff, mypy --strict, go vet, layers, docs
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy
	@cd agent && GOTOOLCHAIN=local ../$(BIN)/go vet ./...
	@cd launch && GOTOOLCHAIN=local ../$(BIN)/go vet ./...
	@cd tests/framework/posixcheck && GOTOOLCHAIN=local ../../../$(BIN)/go vet ./...
	@$(BIN)/pytest -q tests/unit/test_layers.py tests/unit/test_exports.py tests/unit/test_docs.py

bench: setup ## the figures of docs/benchmarks.md on this machine
	@$(BIN)/python -m bench

clean: ## everything that was built here
	rm -rf .venv build dist src/sandlot/guest/bin src/sandlot/engine/bin
