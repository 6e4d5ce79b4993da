# make setup: everything into .venv    make demo: the method on drawn images    make test: the tests
# make lint: style                     make lock: renew the pins
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: setup demo test lint lock clean
.DEFAULT_GOAL := setup

setup: $(STAMP)

# The lock is a list of constraints, not of requirements: it pins the CUDA libraries for the machines whose torch
# asks for them and installs none where torch is a CPU build.
$(STAMP): pyproject.toml envs/requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "getam needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). Set PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || \
	  { echo "$(PYTHON) cannot make virtual environments; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint envs/requirements.lock setuptools wheel
	$(BIN)/python -m pip install --quiet --constraint envs/requirements.lock --no-build-isolation --editable '.[dev]'
	@touch $@

# A few minutes on two cores: a classifier from scratch, the maps of every method, a sheet to look at.
demo: setup
	$(BIN)/python -m benchmarks.map_quality --table results/demo/map_quality.csv --sheet results/demo/maps.png drawn

test: setup
	$(BIN)/python -m pytest

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# The pins are for every platform and Python version at once (--universal).
lock:
	uv pip compile --universal --python-version 3.11 --all-extras --no-header --upgrade --quiet \
	  pyproject.toml --output-file envs/requirements.lock

clean:
	rm -rf $(VENV)
