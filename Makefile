# raycp: `make demo` shows it, `make test` proves it. Everything lands in .venv and .tools, nothing elsewhere
# (but `make tools`, as root on Debian, installs missing packages through apt-get).

SHELL := /bin/bash
export PATH := $(CURDIR)/.tools/bin:$(PATH)
BIN := .venv/bin
PYTEST_ARGS ?=

.PHONY: help install tools demo test lint soak bench clean

help:  ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16

install:  ## the virtual environment .venv, from pinned constraints; quick when nothing changed
	@scripts/install.sh

tools: install  ## kubectl, helm, promtool and what else tests call, in .tools/bin
	@scripts/tools.sh

demo: install  ## an embedded fleet runs 200 jobs and reports
	$(BIN)/raycp demo

test: install tools  ## all tests but the long ones
	$(BIN)/python -m pytest -m "not ray and not soak" $(PYTEST_ARGS)
	$(BIN)/python -m pytest -m "ray and not soak" $(PYTEST_ARGS) || [ $$? -eq 5 ]

lint: install  ## ruff, mypy --strict, import layers
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

soak: install tools  ## long fault and scale runs
	$(BIN)/python -m pytest -m soak --timeout 7200 $(PYTEST_ARGS)

bench: install  ## every scenario of `raycp bench`, figures in .raycp/bench
	$(BIN)/raycp bench all --out .raycp/bench

clean:  ## remove what install and tools made
	rm -rf .venv .tools .raycp build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
