# Every target does its own set-up: Python 3.11 or newer, make and the package registry are enough.
# PYTHON=... chooses the interpreter that makes .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := build/demo

.PHONY: help demo test lint oracle bench kernel-proof docs lock wheel clean

help:
	@echo "make demo          deduplicate the demo kernel into $(DEMO) and print what came of it"
	@echo "make test          the test suite"
	@echo "make lint          ruff, mypy and the order of packages (import-linter)"
	@echo "make oracle        all golden results and contract seeds (needs gcc and libbpf-dev)"
	@echo "make bench         measure speed against libbpf (needs gcc and libbpf-dev)"
	@echo "make kernel-proof  boot a Debian kernel with modules that carry our BTF (needs qemu)"
	@echo "make docs          write docs/tables.md from the schemas"
	@echo "make lock          resolve the dependencies in pyproject.toml again"
	@echo "make wheel         build the package, machine code included, into dist"
	@echo "make clean         remove what the above made"

demo: $(VENV)/.run
	$(BIN)/splitbtf run datasets/demo -o $(DEMO)

# On up to four cores: what starts Ray runs on one of them anyway. PYTEST_ARGS=-n0: in one process.
test: $(VENV)/.dev
	$(BIN)/python -m pytest -n logical --maxprocesses=4 --dist loadfile $(PYTEST_ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

oracle: $(VENV)/.dev
	@.ci/debian-packages gcc libbpf-dev
	$(BIN)/python tests/full_oracle.py

bench: $(VENV)/.run
	@.ci/debian-packages gcc libbpf-dev
	$(BIN)/python benchmarks/bench.py $(BENCH_ARGS)

kernel-proof: $(VENV)/.run
	@.ci/debian-packages qemu-system-x86 busybox-static
	@[ "$$(id -u)" != 0 ] || apt-get update -qq
	$(BIN)/python tests/kernel_proof/prove.py

docs: $(VENV)/.run
	$(BIN)/python -m pipeline.tables.registry > docs/tables.md

lock: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header \
	    --python-version 3.11 pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header \
	    --python-version 3.11 --extra dev pyproject.toml -o requirements-dev.lock

# Machine code for most processors comes along, so that no user has to compile.
wheel: $(VENV)/.run
	rm -rf btf/machine_code build/lib
	SPLITBTF_BUILT_FOR=x86-64-v3 $(BIN)/python -c "from btf import warmup; warmup.warm_up_all(print)"
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .
	rm -rf btf/machine_code

clean:
	rm -rf $(VENV) build dist btf/machine_code *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

# The stamps say what is installed; nothing is asked of the registry again until a lock changes.
$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("splitbtf needs Python 3.11 \
	or newer; $(PYTHON) is " + sys.version.split()[0] + ". Name another: make PYTHON=python3.12")'
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { \
	    echo "$(PYTHON) has no venv module; on Debian: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/.run: requirements.lock pyproject.toml $(VENV)/.made
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.run
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements-dev.lock
	@touch $@
