# make run    a published index of the sample handbook, and a search in it
# make test   the whole test suite, in JOBS=4 processes
# make lint   ruff and mypy
# make bench  the measurements of benchmarks/
# make bench-train  those of them that train models, which take hours on a laptop
# make soak   the fault tests without bounds, from random seeds, for MINUTES=10

PYTHON ?= python3
JOBS ?= 4
BIN := .venv/bin
export DO_NOT_TRACK := 1
export PREFECT_HOME := $(CURDIR)/.snapdex/prefect
export PREFECT_LOGGING_LEVEL ?= WARNING
export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM := false

.PHONY: setup run test lint bench bench-train soak clean

setup: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev,train]'
	touch $@

run: setup
	mkdir -p $(PREFECT_HOME)
	$(BIN)/python -m flows.ingest --home .
	$(BIN)/snapdex log
	$(BIN)/snapdex search "What does error TM-5013 mean?" -k 3

test: setup lint
	$(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile --no-loadscope-reorder # files with few, slow tests are not last

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: setup
	$(BIN)/python -m benchmarks

bench-train: setup
	$(BIN)/python -m benchmarks behaviour notes finetune rerank

soak: setup
	SNAPDEX_SOAK_MINUTES=$(or $(MINUTES),10) $(BIN)/python -m pytest -q -s tests/faults

clean:
	-$(BIN)/snapdex db stop
	rm -rf .snapdex .venv data/store data/manifests
