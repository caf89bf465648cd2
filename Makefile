# `make train` and `make test` are all that a newcomer needs; both set up .venv first.
PYTHON ?= python3
BIN := .venv/bin
# uv where it is installed, pip where it is not; both leave compiled bytecode, which halves start-up.
UV := $(shell command -v uv 2>/dev/null)
ifdef UV
INSTALL := $(UV) pip install --quiet --compile-bytecode --python $(BIN)/python
else
INSTALL := $(BIN)/python -m pip install --quiet
endif

.PHONY: train test test-browser test-slurm lint check bench bench-gpu clean

train: .venv/ready
	$(BIN)/python train.py experiment=shapes

test: .venv/ready
	$(BIN)/python -m pytest -n 2

# Needs a Chromium on the PATH, such as Debian's `chromium`; `make test` skips these tests without one.
test-browser: .venv/ready
	$(BIN)/python -m pytest -m browser tests/report

# On a cluster of one node that the tests start; skipped without root and Debian's packages:
# apt install --no-install-recommends slurmctld slurmd slurm-client munge
test-slurm: .venv/ready
	$(BIN)/python -m pytest -m slurm

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "autocaption needs Python 3.11 or newer; set PYTHON=")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(INSTALL) --constraint constraints.txt --editable '.[dev]'
	touch $@

bench: .venv/ready
	$(BIN)/python -m benchmarks

# Needs a GPU with CUDA.
bench-gpu: .venv/ready
	$(BIN)/python -m benchmarks.gpu

clean:
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache
