# What a developer types; `make` alone lists it.  PYTHON chooses the interpreter that the environment is made from.

PYTHON ?= python3
JOBS   ?= 2
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
DOCS   := $(VENV)/.ready-docs

.DEFAULT_GOAL := help
.PHONY: help demo test test-interop lint fuzz mutants bench peers paper zoo real gpu-check docs clean

help:
	@echo "make demo    simulate a blinking pattern, reconstruct it, write demo/"
	@echo "make test    ruff, mypy, the documentation, pytest (JOBS=2 processes)"
	@echo "make test-interop   the adapters to hosts that need an environment of their own (deepinv), in .venv-interop"
	@echo "make lint    ruff and mypy alone"
	@echo "make fuzz    read damaged TIFF files (MUTANTS=20000, SEED=1): nothing hangs, escapes or loses frames in silence"
	@echo "make mutants  change a module place by place (FILE=..., TESTS=...): do its tests notice?"
	@echo "make bench   measure, write benchmarks/results/ and the tables of docs/"
	@echo "make paper   repeat the paper's experiment, write benchmarks/results/ and docs/tables/ (JOBS=2 processes)"
	@echo "make zoo     reconstruct 200 scenes drawn at random (SEED=1, PART=1/1), write benchmarks/results/zoo.json and docs/zoo.md"
	@echo "make real    reconstruct recorded stacks (DATA=folder), write benchmarks/results/real.json and docs/real.md"
	@echo "make gpu-check RESULTS=folder    all that needs a CUDA card, with the packages that are there"
	@echo "make docs    build the documentation into docs/_build/html"
	@echo "make clean   remove the environment and everything that was built"

# Once per change of what is to be installed.
$(READY): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { \
	  echo "there is no '$(PYTHON)' here; say which Python to use: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "fluogan_core needs Python 3.11 or newer, but '$(PYTHON)' is $$($(PYTHON) --version 2>&1);" \
	       "say which to use: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,plot,cuda-check,interop,napari]'
	@touch $@

$(DOCS): $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@

demo: $(READY)
	$(BIN)/fluogan demo --output demo

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/mypy

# The documentation is built before the tests: a broken page or docstring shows within seconds.
test: lint docs
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal
	@echo "make test: ruff, mypy, the documentation and pytest passed ($$($(BIN)/python --version), $(VENV), $(JOBS) processes)"

# torchvision from the registry needs the torch that it was built with.  Three equal signs refuse builds with a local version, as
# in 2.13.0+cpu, beside which it does not load.
TORCH := $(shell sed -n 's/^torch==//p' constraints.txt)
TORCHVISION := $(shell sed -n 's/^torchvision==//p' constraints.txt)
$(VENV)-interop/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)-interop
	$(VENV)-interop/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
	  'torch===$(TORCH)' 'torchvision===$(TORCHVISION)' -e '.[test,deepinv]'
	@touch $@

test-interop: $(VENV)-interop/.ready
	$(VENV)-interop/bin/python -m pytest -q -p no:xdist tests/interop/test_deepinv.py \
	  'tests/house/test_docs.py::test_the_python_of_a_page_runs[docs/gallery/deepinv.md]'

fuzz: $(READY)
	$(BIN)/python tests/io/fuzz_tiff.py $(or $(MUTANTS),20000) $(or $(SEED),1)

# one module at a time: each change of its code runs the tests that are named
mutants: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[mutants]'
	$(BIN)/python tests/mutants.py $(or $(FILE),fluogan_core/calibration/regression.py) $(or $(TESTS),tests/calibration/test_regression.py)

# pylops and sigpy are only compared with: without a network the tables say that they were left out
bench: $(READY)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]' || \
	  echo "pylops and sigpy could not be installed; bench_psi goes without them" >&2
	$(BIN)/python -m benchmarks

# scikit-image and nanopyx are only compared with: without them the tables say that they were left out
peers: $(READY)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[peers]' || \
	  echo "scikit-image and nanopyx could not be installed; the comparison goes without what is not there" >&2

paper: peers
	$(BIN)/python -m benchmarks.paper --jobs $(JOBS)
	$(BIN)/python -m benchmarks.paper.widths --jobs $(JOBS)
	$(BIN)/python -m benchmarks.paper.evidence
	$(BIN)/python -m benchmarks.paper.planned
	$(BIN)/python -m benchmarks.paper.reference

# the stacks are not part of the repository: DATA says where they lie
# two runs on two processes share the scenes: make zoo PART=1/2, make zoo PART=2/2; the last one writes the report
zoo: peers
	$(BIN)/python -m benchmarks.zoo --seed $(or $(SEED),1) --part $(or $(PART),1/1)

real: peers
	$(BIN)/python -m benchmarks.real $(if $(DATA),--data '$(DATA)')

# a CUDA image brings its own packages: nothing is installed, the package is used as it lies here
gpu-check:
	$(PYTHON) -m benchmarks.gpu_check $(or $(RESULTS),$(error say where the results go: make gpu-check RESULTS=folder))

# Every warning is an error: a link that leads nowhere, a name that is not there, a docstring that does not parse.
docs: $(DOCS)
	$(BIN)/python -m sphinx -W --keep-going --quiet -b html docs docs/_build/html

clean:
	rm -rf $(VENV) $(VENV)-interop build dist *.egg-info docs/_build demo out
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find fluogan_core kernels tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
