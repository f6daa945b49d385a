# Everything a fresh machine needs. `make demo` and `make test` each install what they use on their first run.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt

.PHONY: demo test check parity extras full test-full judge-env test-judge format clean

demo: $(VENV)/.installed
	$(BIN)/lt-eval single --dataset demo --generator reference --out results/demo

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# Features of our networks against those of the public code on the same seeded weights. The public packages go to the
# cache folder, not into the environment; the tests use them from then on.
parity: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/parity/fid_fvd.py
	$(BIN)/python benchmarks/parity/sync.py
	$(BIN)/python benchmarks/parity/video_codecs.py
	$(BIN)/python benchmarks/parity/audio.py
	$(BIN)/python benchmarks/parity/wan.py

# The optional packages too: with them no test of the executors and decoders is skipped.
extras: $(VENV)/.installed-dev
	$(PIP) --editable '.[dev,ray,decord]'

# The public programs that metrics are compared with, at exact versions, in an environment of their own: built once into
# the cache folder (about 7 GB, a few minutes) and used from then on.
full: $(VENV)/.installed
	$(BIN)/python benchmarks/environments/build.py

test-full: full
	PYTHONPATH="$(CURDIR)" "$$($(BIN)/python benchmarks/environments/build.py)" -m pytest tests/full tests/generator/test_text.py

# vLLM on the CPU with a tiny random judge, in an environment of its own, built once like the full one (about 3.5 GB).
judge-env: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/environments/judge_server.py --build

test-judge: judge-env
	LT_EVAL_JUDGE_SERVER=1 $(BIN)/python -m pytest tests/judge_server

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis dist build

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing lt-eval into $(VENV) (a minute or two) ..."
	$(PIP) --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "Installing the development tools into $(VENV) ..."
	$(PIP) --editable '.[dev]'
	@touch $@
