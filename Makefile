# Every target sets itself up: a virtual environment in .venv with the versions of constraints.txt, and what it needs there.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
BASE := .venv/ready
READY := .venv/ready-for-tests

.PHONY: test test-plain test-slow lint demo docs site setup clean

setup: $(READY)

$(BASE): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "hvdsl needs Python 3.11 or newer: make PYTHON=python3.11 …")'
	$(PYTHON) -m venv .venv
	$(PIP) setuptools wheel
	$(PIP) --no-build-isolation -e .
	touch $@

$(READY): $(BASE)
	$(PIP) --no-build-isolation -e '.[dev]'
	touch $@

test: $(READY)
	$(BIN)/python -m pytest -n 2

# The same arithmetic on a processor without vector instructions: nothing may hang on an order of summation.
test-plain: $(READY)
	ATEN_CPU_CAPABILITY=default $(BIN)/python -m pytest -n 2 tests/compiler tests/runtime

test-slow: $(READY)
	$(BIN)/python -m pytest -n 2 -m slow

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy hvdsl tests

demo: $(BASE)
	$(BIN)/python scripts/demo.py

docs: $(READY)
	$(BIN)/python scripts/generate_docs.py

# The site in site/: open site/index.html, no server is needed.
site: docs
	$(PIP) --no-build-isolation -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:
	rm -rf .venv build dist demo site *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
