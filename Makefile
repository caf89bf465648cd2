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

.PHONY: train demo test test-browser test-language-models test-slurm lint check bench bench-gpu bench-serve clean

train: .venv/ready
	$(BIN)/python train.py experiment=shapes

# A web page with a model that is trained here first, in about five minutes; Ctrl-C ends it.
demo: runs/demo/metrics.json
	$(BIN)/python -m autocaption.serve --checkpoint runs/demo/checkpoints/best.ckpt

runs/demo/metrics.json: | .venv/ready
	$(BIN)/python train.py experiment=demo hydra.run.dir=runs/demo logger=csv \
		$(if $(wildcard runs/demo/checkpoints/last.ckpt),resume=runs/demo)

test: .venv/ready
	$(BIN)/python -m pytest -n 2

# Needs a Chromium on the PATH, such as Debian's `chromium`; `make test` skips these tests without one.
# Screenshots are left in build/screenshots.
test-browser: .venv/ready build/axe/package/axe.min.js
	$(BIN)/python -m pytest -m browser tests/report tests/serve

# What the tests ask for mistakes in accessibility; without npm they leave that out.
build/axe/package/axe.min.js:
	mkdir -p build/axe
	-cd build/axe && npm pack --silent axe-core@4.14.1 && tar xzf axe-core-4.14.1.tgz

# Of model/decoder=language_model. Its packages are no part of what `make test` installs, since torchmetrics imports
# transformers wherever it finds it, in a fifth of the time that every command takes to start.
test-language-models: .venv/ready
	$(INSTALL) --constraint constraints.txt --editable '.[language_models]'
	$(BIN)/python -m pytest -n 2 tests/models tests/search tests/export tests/test_checks.py -k language_model

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

# The web service on loopback, with one client and many; about two minutes on two quiet cores. Needs
# ApacheBench: apt install apache2-utils
bench-serve: .venv/ready
	$(BIN)/python -m benchmarks.serving

clean:
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache
