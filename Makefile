# Every target does its own set-up.  Needs python3 >= 3.11 with venv and headers, a C++ compiler and make; nothing else.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
ARGS   ?=
PORT   ?= 9092
APT    ?= yes

# One thread per BLAS call: the workers grow by processes, and more threads make small products ten times slower.
export OPENBLAS_NUM_THREADS ?= 1
# Its Linux builds report sessions to their maker unless they are told not to.
export ORT_DISABLE_TELEMETRY ?= 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test kafka bench quality model lint format constraints clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/.stamp  ## a virtual environment with everything in it (quick the second time)

$(VENV)/.stamp: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "Python 3.11 or later is needed, but '$(PYTHON)' is $$($(PYTHON) --version 2>&1 || true)."; \
	  echo "Install it, or name another: make setup PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "'$(PYTHON)' lacks venv.  On Debian: apt-get install python3-venv"; exit 1; }
	@command -v $${CXX:-g++} >/dev/null || { \
	  echo "A C++ compiler is needed (annoy comes as source only).  On Debian: apt-get install g++"; exit 1; }
	@$(PYTHON) -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' || { \
	  echo "Python.h is missing (annoy comes as source only).  On Debian: apt-get install python3-dev"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt setuptools wheel
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-build-isolation -e '.[test]'
	@touch $@

$(VENV)/.bench-stamp: $(VENV)/.stamp
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt hnswlib
	@touch $@

$(VENV)/.training-stamp: $(VENV)/.stamp
	@echo "Installing torch (gigabytes) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-build-isolation -e '.[training]'
	@touch $@

demo: setup  ## the whole system with a tour; ARGS="--items 500 --images DIR --exit"
	@$(BIN)/kindred demo $(ARGS)

# Two processes, each with a broker of its own: some tests wait for brokers and sessions, others compute.  A file stays
# in one process, since its tests share fixtures.
test: setup  ## the whole suite; ARGS="-k shard" picks some, ARGS="-n 0" keeps to one process; APT=no installs no browser
	@$(BIN)/python -m tests.preparation APT=$(APT)
	@$(BIN)/python -m streams.brokers.apache_kafka --fetch-for-tests || export KINDRED_TEST_BROKER=embedded; \
	  $(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

kafka: setup  ## Apache Kafka in the foreground on PORT (9092), data kept in .cache/kafka
	@$(BIN)/python -m streams.brokers.apache_kafka --port $(PORT) --folder .cache/kafka

bench: $(VENV)/.bench-stamp  ## every benchmark, on Apache Kafka; results in bench/results
	@$(BIN)/python -m bench $(ARGS)

quality: setup  ## every quality figure on the shared packs beside baselines, and contact sheets; ARGS="--quick"
	@$(BIN)/python -m bench.quality $(ARGS)

model: $(VENV)/.training-stamp  ## the shipped model anew, hours, which go on after a stop; ARGS="--share .01" tries the way
	@$(BIN)/python -m bench.training --shared ../shared --folder .cache/training $(ARGS)

lint: setup  ## ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: setup  ## let ruff write the code's form
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

constraints: setup  ## write the installed versions to constraints.txt
	@sed -n '/^#/p' constraints.txt > constraints.new
	@$(BIN)/python -m pip freeze --all --exclude-editable | grep -v -E '^(pip|kindred)=' >> constraints.new
	@mv constraints.new constraints.txt

clean:  ## what was built here: environment, caches, data
	rm -rf $(VENV) .cache .pytest_cache .hypothesis .mypy_cache .ruff_cache .coverage build data demo.html look-alikes.png *.egg-info tests/algolia/node_modules tests/clients/node_modules
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
