# The one way to build, test and run: see CONTRIBUTING.md.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamp

.DEFAULT_GOAL := help
.PHONY: help setup demo lint format unit charts integration e2e chaos soak test bench growth packages cluster-up cluster-down requirements release

help: ## Show this help
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

$(STAMP): requirements/dev.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements/dev.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

setup: $(STAMP) ## Make the virtual environment with the CLI at .venv/bin/registry-status

lint: setup ## Format check, lint, types, import arrows
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python charts/generate_readme.py --check
	$(BIN)/python manifests/generate.py --check
	$(BIN)/python docs/generate_reference.py --check
	$(BIN)/python docs/draw_timelines.py --check
	$(BIN)/python docs/draw_dashboard.py --check

format: setup ## Format and fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

demo: setup ## Watch the operator at work: embedded Kubernetes API and registry, nothing else needed
	@$(BIN)/registry-status demo

unit: setup ## Unit tests, and the docs
	$(BIN)/pytest tests/unit tests/docs

packages: # Debian's packages for the local cluster, where we may install them
	@tests/cluster/packages.sh || echo "packages could not be installed; levels that need them will say so" >&2

charts: setup ## Chart and manifests, rendered
	$(BIN)/pytest tests/charts

integration: setup ## The operator against a real kube-apiserver
	$(BIN)/pytest tests/integration

e2e: setup packages ## The built image, helm-installed, with real pods on a real kubelet
	$(BIN)/pytest tests/e2e

chaos: setup ## Every fault in its long form, with a thousand pods; about 25 minutes
	CHAOS=long $(BIN)/pytest tests/chaos --deselect tests/chaos/test_soak.py

soak: setup ## Ten minutes of changes and small faults: nothing may grow
	CHAOS=long $(BIN)/pytest tests/chaos/test_soak.py

test: setup packages ## Every level that this machine can run; E2E=required makes one that cannot an error
	$(BIN)/pytest tests/unit tests/docs tests/charts tests/integration tests/chaos tests/e2e

growth: setup ## Measure memory and cold start at 1,000, 10,000 and 50,000 pods, and draw it
	$(BIN)/python -m bench.growth

bench: setup ## Measure the operator against the Go yardstick in ../shared/bench, one table
	$(BIN)/python -m bench.run

cluster-up: setup packages ## Start a cluster (kind or the local one) and say how to reach it
	@$(BIN)/python -m tests.cluster.cli up

cluster-down: setup ## End the cluster of cluster-up, or one that was left behind
	@$(BIN)/python -m tests.cluster.cli down

release: setup ## Build all parts of a release into dist/ and try each; publishes nothing (TAG=, SOURCE=, IMAGE=required)
	$(BIN)/python -m release.build --image "$${IMAGE:-auto}" $(if $(value TAG),--tag "$$TAG") $(if $(value SOURCE),--source "$$SOURCE")

requirements: setup ## Pin the newest allowed versions, with hashes
	for set in run dev; do \
	  $(BIN)/pip-compile --quiet --upgrade --generate-hashes --allow-unsafe --strip-extras --no-header --no-emit-options \
	    --no-emit-index-url --no-emit-find-links $$([ $$set = run ] || echo --extra=dev --constraint=requirements/run.txt) \
	    --output-file requirements/$$set.txt pyproject.toml; \
	done
	$(BIN)/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras --no-header --no-emit-options \
	  --no-emit-index-url --no-emit-find-links --output-file requirements/build.txt requirements/build.in
