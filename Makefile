# Everything is installed in .venv and .tools, except that `make tools`, as root on Debian, installs missing packages with apt-get.

SHELL := /bin/bash
export PATH := $(CURDIR)/.tools/bin:$(PATH)
BIN := .venv/bin
PYTEST_ARGS ?=

.PHONY: help install tools demo test test-wide nightly lint soak bench lock sbom clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 18

install:  ## create .venv from the lock file, with digests verified; returns at once when nothing changed
	@scripts/install.sh

tools: install  ## put kubectl, helm, promtool and other programs of the tests into .tools/bin
	@scripts/tools.sh

demo: install  ## run 200 jobs on an embedded fleet and report
	$(BIN)/raycp demo

# These mostly wait: four of them run at once. What measures, and what runs on Ray, runs alone.
QUICK := $(BIN)/python -m pytest -m "not ray and not wide and not soak" $(PYTEST_ARGS)

# `test`, `test-wide` and `soak` do not overlap: a test without the mark `wide` or `soak` runs in `make test`.
test: install tools  ## run the tests, at most 25 minutes on 2 cores
	$(QUICK) -n 4 --dist worksteal --ignore=tests/bench || [ $$? -eq 5 ]
	$(QUICK) tests/bench || [ $$? -eq 5 ]
	$(BIN)/python -m pytest -m "ray and not wide and not soak" $(PYTEST_ARGS) || [ $$? -eq 5 ]

test-wide: install tools  ## run the slow tests of real processes, nodes and networks, at most 35 minutes on 2 cores
	$(BIN)/python -m pytest -m wide $(PYTEST_ARGS)

nightly: install tools  ## run all properties and models with 2 000 random examples each
	$(QUICK) -n 2 --hypothesis-profile nightly --timeout 3600 $$(grep -rlE '@given|RuleBasedStateMachine' tests)

lint: install  ## run ruff, mypy --strict and the check of the import layers
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

soak: install tools  ## run the long tests: random faults, hostile answers, 500 hand-overs, repeated node losses
	$(BIN)/python -m pytest -m soak --timeout 7200 $(PYTEST_ARGS)

bench: install  ## run every scenario of `raycp bench`, with figures in .raycp/bench
	$(BIN)/raycp bench all --out .raycp/bench

lock: install  ## write the lock files from pyproject.toml; UPGRADE=1 takes the newest versions
	@UPGRADE=$(UPGRADE) scripts/lock.sh

sbom: install  ## write raycp.cdx.json, a CycloneDX bill of materials of what raycp needs to run
	@scripts/sbom.sh

clean:  ## remove everything that the other targets created
	rm -rf .venv .tools .raycp build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache raycp.cdx.json
