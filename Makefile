# Needs nothing but Python 3.11+ and make. `make quickstart` and `make test` set up what they need.
PYTHON ?= python3
VENV := .venv
TINKER_VENV := .venv-tinker
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
# One thread a process: OpenMP threads that wait for each other cost more than they bring here.
export OMP_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM = false

.PHONY: quickstart test test-slow test-tinker check format docs docs-site bench clean
.DEFAULT_GOAL := help

help:  ## what there is to make
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

quickstart: $(VENV)/.quickstart  ## a real campaign on CPU: 2 conditions x 8 seeds, verdict and report
	$(BIN)/cupel run studies/quickstart.toml

test: $(VENV)/.dev  ## lint, types, import contracts and all fast tests, with coverage
	$(MAKE) -s check
	$(BIN)/python -m pytest -m "not slow and not tinker" -n 2 --dist worksteal --cov --cov-report=
	$(BIN)/python scripts/check_coverage.py

test-slow: $(VENV)/.dev  ## calibration, rebuilds, random kills: minutes to an hour
	$(BIN)/python -m pytest -m "slow and not tinker" -n 2 --dist worksteal
	$(MAKE) -s test-tinker

test-tinker: $(VENV)/.dev $(TINKER_VENV)/.ready  ## the Tinker backend against a real server on this machine's CPU
	CUPEL_TINKER_REQUIRED=1 $(BIN)/python -m pytest -m tinker
	CUPEL_TINKER_REQUIRED=1 PYTHONPATH=$(CURDIR)/$(TINKER_VENV)/newer-client $(BIN)/python -m pytest \
		tests/tinker/test_server_contract.py tests/tinker/test_faults.py

check: $(VENV)/.dev  ## ruff, format, spelling, mypy, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(VENV)/.dev  ## rewrite the sources in the house format
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .

docs: $(VENV)/.dev  ## rebuild the generated reference pages
	$(BIN)/python scripts/build_reference.py

docs-site: $(VENV)/.dev docs  ## build the documentation site, strictly, into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "site/index.html; with search: $(BIN)/python -m http.server -d site"

bench: $(VENV)/.dev  ## side-by-side benchmarks; each prints a ratio and writes JSON
	$(PIP) install -e ".[bench]" -c constraints.txt
	for file in benchmarks/*.py; do $(BIN)/python $$file || exit 1; done

clean:  ## remove the virtual environment and caches
	rm -rf $(VENV) $(TINKER_VENV) site .mypy_cache .ruff_cache .pytest_cache .coverage

$(VENV)/.torch: constraints.txt scripts/install_torch.sh
	$(PYTHON) -c 'import sys; sys.exit("Cupel needs Python 3.11 or newer, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else 0'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	sh scripts/install_torch.sh $(BIN)/python
	@touch $@

$(VENV)/.quickstart: $(VENV)/.torch pyproject.toml
	$(PIP) install -e ".[torch,plot,teach]" -c constraints.txt
	@touch $@

$(VENV)/.dev: $(VENV)/.torch pyproject.toml
	$(PIP) install -e ".[torch,plot,teach,api,lora,textworld,arc,data,math,ray,slurm,track,tensorboard,trackio,tinker,docs,dev]" -c constraints.txt
	@touch $@ $(VENV)/.quickstart

$(TINKER_VENV)/.ready: constraints.txt constraints-tinker.txt scripts/install_tinker_server.sh
	sh scripts/install_tinker_server.sh $(PYTHON) $(TINKER_VENV)
	@touch $@
