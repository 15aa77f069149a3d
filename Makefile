# Every target does its own set-up: Python 3.11 or newer, make and the package registry are enough.
# PYTHON=... chooses the interpreter that makes .venv and .venv-newest, OLDEST_PYTHON=... that of
# .venv-oldest.

PYTHON ?= python3
OLDEST_PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
OLDEST := .venv-oldest
NEWEST := .venv-newest
DEMO := build/demo

# Tests start hundreds of processes: they find the bytecode that the first ones have kept.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test test-quick test-long test-checked test-oldest test-newest lint oracle fuzz bench kernel-proof docs lock wheel clean

help:
	@echo "make demo          deduplicate two demo kernels into $(DEMO), and write a report on them"
	@echo "make test          the test suite"
	@echo "make test-quick    what of it is quick, in less than a minute"
	@echo "make test-long     more of runs, commands and damages, each like one in the suite"
	@echo "make test-checked  the test suite with every index of a compiled function checked"
	@echo "make test-oldest   a part of it with the oldest versions that are supported"
	@echo "make test-newest   what is about Ray with the newest one, or with RAY=VERSION"
	@echo "make lint          ruff, mypy and the order of packages (import-linter)"
	@echo "make oracle        all golden results and contract seeds, and a walk from input to output"
	@echo "                   (needs gcc and libbpf-dev)"
	@echo "make fuzz          mutants of BTF, containers, manifests and output folders; FUZZ_ARGS=--help"
	@echo "make bench         measure speed against libbpf (needs gcc and libbpf-dev)"
	@echo "make kernel-proof  boot a Debian kernel with modules that carry our BTF, and compare what"
	@echo "                   it refuses with splitbtf check; the same with slim modules (needs qemu)"
	@echo "make docs          write docs/tables.md from the schemas"
	@echo "make lock          resolve the dependencies in pyproject.toml again"
	@echo "make wheel         build the package, machine code included, into dist"
	@echo "make clean         remove what the above made"

demo: $(VENV)/.run
	$(BIN)/splitbtf run datasets/demo datasets/demo-6.12 -o $(DEMO)
	$(BIN)/splitbtf report $(DEMO) -o $(DEMO)/report.html

# On up to four cores: what starts Ray runs on one of them anyway. PYTEST_ARGS=-n0: in one process.
test: $(VENV)/.dev
	$(BIN)/python -m pytest -n logical --maxprocesses=4 --dist loadfile $(PYTEST_ARGS)

# For the daily loop, less than a minute: without what is marked slow.
test-quick: override PYTEST_ARGS += -m "not slow and not long" --durations=5
test-quick: test

# Of the kinds that make test has one of each, all others: each way to end a run on each engine, each
# command without an output, each damage of each file, whole kernels in place of small ones.
test-long: override PYTEST_ARGS += -m long
test-long: test

# With machine code that checks each index (btf/compiled/compiler/checks.py): all rooms in which tests
# are about BTF, not about files and processes; without the one that looks at how large workspaces are,
# which have no room to spare here. Of several processes, each notes what was wrong.
VIOLATIONS := $(CURDIR)/build/violations.txt
test-checked: $(VENV)/.dev
	@mkdir -p $(dir $(VIOLATIONS)) && rm -f $(VIOLATIONS)
	SPLITBTF_CHECKED=$(VIOLATIONS) $(BIN)/python -m pytest -n logical --maxprocesses=4 \
	    --dist loadfile --ignore=tests/dedup/test_equivalence_cache.py $(PYTEST_ARGS) \
	    $(patsubst %,tests/%,analyses compiled declaration dedup distill dump kernel_rules \
	    edit files format fuzz library tables walker work)
	@test ! -e $(VIOLATIONS) || { cat $(VIOLATIONS); exit 1; }

# With the oldest versions that pyproject.toml allows, what depends on them: golden results, contract,
# compiler, formats, pipeline, queries, object stores, completion, and runs on Ray; what is quick of it.
test-oldest: $(OLDEST)/.dev
	$(OLDEST)/bin/python -m pytest -n0 -m "not long" tests/run/test_run.py tests/engine/test_cluster.py \
	    -k "every_engine or cluster"
	$(OLDEST)/bin/python -m pytest -n logical --maxprocesses=4 --dist loadfile -m "not slow and not long" \
	    $(PYTEST_ARGS) tests/compiled tests/files tests/run/test_run.py tests/sources tests/store tests/tables \
	    $(patsubst %,tests/command_line/test_%.py,explain_command help_command query_command start) \
	    tests/dedup/test_contract.py tests/dedup/test_demo_golden.py tests/report/test_report.py

# With the newest Ray that pyproject.toml allows, where PyPI has one that is newer than the lock's, which
# all other tests use. Without network it says that PyPI cannot be asked, and does nothing.
test-newest: $(VENV)/.dev
	@ray=$${RAY:-$$($(BIN)/python .ci/newest-ray)}; [ -z "$$ray" ] || { set -ex; \
	    $(PYTHON) -m venv --clear $(NEWEST); \
	    $(NEWEST)/bin/python -m pip install --quiet --require-hashes -r requirements-dev.lock; \
	    $(NEWEST)/bin/python -m pip install --quiet "ray==$$ray"; \
	    $(NEWEST)/bin/python -m pip install --quiet --no-deps --editable .; \
	    $(NEWEST)/bin/python -m pytest -n0 tests/engine tests/run/test_run.py $(PYTEST_ARGS); }

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# WALK_ARGS=FOLDER: the walker follows the types of that kernel too.
oracle: $(VENV)/.dev
	@.ci/debian-packages gcc libbpf-dev
	$(BIN)/python tests/full_oracle.py
	$(BIN)/python tests/full_walk.py $(WALK_ARGS)

# FUZZ_ENGINE=atheris: inputs are chosen by what code they reach, with interpreted functions.
# SPLITBTF_CHECKED=FILE: with checked machine code, see test-checked.
fuzz: $(VENV)/.dev
ifeq ($(FUZZ_ENGINE),atheris)
	$(BIN)/python -m pip install --quiet atheris
	cd tests && NUMBA_DISABLE_JIT=1 PYTHONPATH=.:.. PYTHONWARNINGS=ignore \
	    ../$(BIN)/python -m fuzz.guided $(FUZZ_ARGS)
else
	PYTHONPATH=tests:. $(BIN)/python -m fuzz.main $(FUZZ_ARGS)
endif

bench: $(VENV)/.run
	@.ci/debian-packages gcc libbpf-dev
	$(BIN)/python benchmarks/bench.py $(BENCH_ARGS)

kernel-proof: $(VENV)/.run
	@.ci/debian-packages qemu-system-x86 busybox-static gcc libc6-dev
	@[ "$$(id -u)" != 0 ] || apt-get update -qq
	$(BIN)/python tests/kernel_proof/verdicts.py
	$(BIN)/python tests/kernel_proof/prove.py
	$(BIN)/python tests/kernel_proof/slim.py

docs: $(VENV)/.run
	$(BIN)/python -m pipeline.tables.registry > docs/tables.md

RESOLVE := $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url \
    --no-header --python-version 3.11 pyproject.toml

lock: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet uv
	$(RESOLVE) -o requirements.lock
	$(RESOLVE) --extra dev --extra analysis -o requirements-dev.lock
	$(RESOLVE) --extra dev --extra analysis --resolution lowest-direct -o requirements-oldest.lock

# Machine code for most processors comes along, so that no user has to compile.
wheel: $(VENV)/.run
	rm -rf btf/machine_code build/lib
	for level in x86-64-v3 aarch64; do \
	SPLITBTF_BUILT_FOR=$$level $(BIN)/python -c "from btf import warmup; warmup.warm_up_all(print)" \
	|| exit 1; done
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .
	rm -rf btf/machine_code

clean:
	rm -rf $(VENV) $(OLDEST) $(NEWEST) build dist btf/machine_code *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

# The stamps say what is installed; nothing is asked of the registry again until a lock changes.
$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("splitbtf needs Python 3.11 \
	or newer; $(PYTHON) is " + sys.version.split()[0] + ". Name another: make PYTHON=python3.12")'
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { \
	    echo "$(PYTHON) has no venv module; on Debian: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

# What pip does takes a minute or two, in which it says nothing.
INSTALLING = @echo "installing $$(grep -c == $(1)) packages into $(2), a few hundred MB: a minute or two, this once"

$(VENV)/.run: requirements.lock pyproject.toml $(VENV)/.made
	$(call INSTALLING,requirements.lock,$(VENV))
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.run
	$(call INSTALLING,requirements-dev.lock,$(VENV))
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements-dev.lock
	@touch $@

$(OLDEST)/.dev: requirements-oldest.lock pyproject.toml
	@command -v $(OLDEST_PYTHON) >/dev/null || { echo "no $(OLDEST_PYTHON): the oldest versions \
	of numba and numpy have wheels for few others. Name one: make OLDEST_PYTHON=..."; exit 1; }
	$(OLDEST_PYTHON) -m venv --clear $(OLDEST)
	$(call INSTALLING,requirements-oldest.lock,$(OLDEST))
	$(OLDEST)/bin/python -m pip install --quiet --require-hashes -r requirements-oldest.lock
	$(OLDEST)/bin/python -m pip install --quiet --no-deps --editable .
	@touch $@
