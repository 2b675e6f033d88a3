# Every target makes what it needs: a virtual environment in .venv, installed with the versions of constraints.txt.

PYTHON ?= python3
VENV ?= .venv
DEMO_OUT ?= runs/demo
LEADERBOARD_OUT ?= runs/leaderboard
FUZZ_SECONDS ?= 60
BIN := $(VENV)/bin
PEERS := build/peers
FLOWER := build/flower
PARTITIONS := build/partitions
ONE_THREAD := OMP_NUM_THREADS=1
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo leaderboard deploy-demo test test-slow test-partitions test-flare test-flower fuzz check lint types layers docs smoke bench bench-cost bench-peers format clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "Settings: PYTHON=$(PYTHON) (3.11 or newer) VENV=$(VENV) DEMO_OUT=$(DEMO_OUT)"

demo: $(VENV)/.ready-run ## compare the methods on the embedded benchmark, one to two minutes; a report to look at
	@$(BIN)/secfpp demo --out $(DEMO_OUT)
	@echo "Results: $(abspath $(DEMO_OUT)) (report.html, summary.json, metrics.jsonl)"
	@echo "Next: . $(VENV)/bin/activate, then secfpp --help"

leaderboard: $(VENV)/.ready-leaderboard ## every method on every included benchmark, hours; the same again goes on with it
	@$(BIN)/secfpp sweep configs/leaderboard.toml --out $(LEADERBOARD_OUT)

test: $(VENV)/.ready-test ## the test suite without the slow tests, on all cores
	$(ONE_THREAD) OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadfile

test-slow: $(VENV)/.ready-test ## only the slow tests
	$(BIN)/python -m pytest -m slow

test-partitions: $(PARTITIONS)/.ready ## our partitions beside those of flwr-datasets, in a virtual environment of their own
	$(ONE_THREAD) PYTHONPATH=src $(PARTITIONS)/bin/python -m pytest -q --noconftest -c /dev/null --rootdir . tests/unit/data/test_partition_peers.py

deploy-demo: $(VENV)/.ready-flare ## four sites and a server on NVIDIA FLARE on this machine, with the bits of one process; one minute
	@$(ONE_THREAD) $(BIN)/secfpp rehearse --engine flare --sites 4 --set rounds=6

test-flare: $(VENV)/.ready-flare ## a real NVIDIA FLARE system on loopback: payloads, kills, refusals, some minutes
	$(ONE_THREAD) $(BIN)/python -m pytest -m "slow or not slow" tests/unit/deploy tests/unit/cli/test_deploying.py tests/e2e/test_flare.py tests/e2e/test_flare_run.py

test-flower: $(FLOWER)/.ready ## a real Flower system on loopback, in a virtual environment of its own, some minutes
	$(ONE_THREAD) $(FLOWER)/bin/python -m pytest -m "slow or not slow" tests/unit/deploy tests/unit/cli/test_flower_commands.py tests/e2e/test_flower.py tests/e2e/test_flower_run.py

fuzz: $(VENV)/.ready-run ## damaged messages to everything that reads them, one minute; FUZZ_SECONDS to change that
	$(BIN)/python tools/fuzz.py --seconds $(FUZZ_SECONDS)

check: lint types layers docs smoke ## every check but the tests: style, types, imports, docs, installed wheel

lint: $(VENV)/.ready-dev ## ruff: rules, docstrings, format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.ready-dev ## mypy, strict
	$(BIN)/mypy

layers: $(VENV)/.ready-dev ## import-linter: one direction of imports
	$(BIN)/lint-imports

docs: $(VENV)/.ready-dev ## the documentation, to site/
	$(BIN)/mkdocs build --strict --quiet --site-dir site
	@echo "Documentation: $(CURDIR)/site/index.html"

smoke: $(VENV)/.ready-dev ## build the wheel, install it elsewhere, use it there
	PYTHON=$(BIN)/python tools/smoke_wheel.sh

bench: $(VENV)/.ready-run ## the micro benchmarks, numpy on one thread
	@set -e; for script in benchmarks/micro/*.py; do echo "== $$script"; $(ONE_THREAD) $(BIN)/python "$$script"; done

bench-cost: $(VENV)/.ready-run ## time and traffic of clustering on shares and of secure rounds, some minutes
	$(ONE_THREAD) $(BIN)/python benchmarks/cost/secure_kmeans.py
	$(ONE_THREAD) $(BIN)/python benchmarks/cost/means.py
	OMP_WAIT_POLICY=passive $(BIN)/python benchmarks/cost/rounds.py

bench-peers: $(PEERS)/.ready ## beside MPyC, galois and Flower, in a virtual environment of their own
	@set -e; for script in galois_field flower_mean mpyc_comparisons; do \
	  echo "== $$script"; $(ONE_THREAD) PYTHONPATH=src $(PEERS)/bin/python benchmarks/peers/$$script.py; done

format: $(VENV)/.ready-dev ## put the sources into shape
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

clean: ## remove build products and caches (keeps .venv and runs)
	rm -rf build dist site .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests tools benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

EXTRAS_run :=
EXTRAS_leaderboard := [cards,digits]
EXTRAS_test := [test]
EXTRAS_dev := [test,dev]
EXTRAS_flare := [test,flare]
# What is compared with open_clip is imported without torchvision, which its distribution asks for.
LONE := open_clip_torch

$(VENV)/.ready-%: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing the versions of constraints.txt into $(VENV) ..."
	@$(PIP) install --progress-bar on --constraint constraints.txt --editable '.$(EXTRAS_$*)'
	@$(if $(findstring test,$(EXTRAS_$*)),$(PIP) install --quiet --constraint constraints.txt --no-deps $(LONE))
	@touch $@

$(PEERS)/.ready: benchmarks/peers/requirements.txt | $(BIN)/python
	@echo "Installing the peers into $(PEERS), once ..."
	@$(BIN)/python -m venv $(PEERS)
	@PIP_DISABLE_PIP_VERSION_CHECK=1 $(PEERS)/bin/python -m pip install --progress-bar on --requirement $<
	@touch $@

$(PARTITIONS)/.ready: tests/unit/data/partition_peers.txt | $(BIN)/python
	@echo "Installing flwr-datasets into $(PARTITIONS), once ..."
	@$(BIN)/python -m venv $(PARTITIONS)
	@PIP_DISABLE_PIP_VERSION_CHECK=1 $(PARTITIONS)/bin/python -m pip install --progress-bar on --requirement $<
	@touch $@

$(FLOWER)/.ready: pyproject.toml constraints-flower.txt | $(BIN)/python
	@echo "Installing the versions of constraints-flower.txt into $(FLOWER) ..."
	@$(BIN)/python -m venv $(FLOWER)
	@PIP_DISABLE_PIP_VERSION_CHECK=1 $(FLOWER)/bin/python -m pip install --progress-bar on --constraint constraints-flower.txt --editable '.[flower,test]'
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "SecFPP needs Python 3.11 or newer, but $(PYTHON) is: $$($(PYTHON) --version 2>&1 || true)"; \
	  echo "Name a newer one, for example: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@echo "First call: this makes $(VENV) and installs into it, some minutes and 2 GB, most of it PyTorch. Later calls start at once."
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "Could not make a virtual environment; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
