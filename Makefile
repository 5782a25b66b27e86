# Everything a newcomer needs: `make demo` and `make test` do all the set-up on a machine with Python >= 3.11.
# On Linux without a GPU, `PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make demo` fetches a smaller torch.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c tools/constraints.txt

.PHONY: help demo test check docs format packaging torture torture-smoke clean
help:
	@echo "make demo    8 peers learn handwritten digits together on this machine, with a report"
	@echo "make test    the whole test suite"
	@echo "make check   formatting, lint, types, layering"
	@echo "make docs    the site, in site/index.html"
	@echo "make packaging  wheel and sdist, tried in an empty environment"
	@echo "make torture kills, enemies, floods, full disks: everything that a node promises to bear (an hour)"

demo: $(VENV)/.installed
	$(BIN)/gossip-scenario run quickstart --engine processes --force --set scenario.alone=true

# Where nothing compiled may be kept, each worker and each process of a test compiles all it imports.
test: $(VENV)/.installed-test
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

check: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Without a word of what its makers think of other makers' plans.
docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 DISABLE_MKDOCS_2_WARNING=true $(BIN)/mkdocs build --strict --quiet
	@echo "site/index.html"

packaging: $(VENV)/bin/python
	$(BIN)/python tools/distribution.py

TORTURES := $(filter-out $(addprefix tools/torture/,$(addsuffix .py,arena client disk_% driven enemy enemy_% hostile_% malformed namespaces proxy slurm_stub verdicts)),\
  $(sort $(wildcard tools/torture/*.py)))

torture: $(VENV)/.installed
	@failed=0; for each in $(TORTURES); do OMP_NUM_THREADS=1 $(BIN)/python $$each || failed=1; done; exit $$failed

torture-smoke: $(VENV)/.installed
	@failed=0; for each in $(TORTURES); do OMP_NUM_THREADS=1 $(BIN)/python $$each --smoke || failed=1; done; exit $$failed

format: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is older than Python 3.11; name a newer one: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml tools/constraints.txt | $(VENV)/bin/python
	$(PIP) -e '.[report,scores]'
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP) -e '.[test]'
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(PIP) -e '.[docs]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed-test
	$(PIP) -e '.[test,dev]'
	@touch $@

clean:
	rm -rf $(VENV) runs build site *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
