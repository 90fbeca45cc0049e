# make search   a first search, from nothing to a report (installs what it needs into .venv); NAME=… for another one
# make test     the tests;  make check: ruff and mypy;  make bench: the search benchmark
# make fuzz     20,000 damaged artifacts;  make chaos: many kills

PYTHON ?= python3
has = $(shell $(1) -c 'import importlib.util as u, sys; print("yes" if $(2) else "")' 2>/dev/null)
HAS_TORCH := $(call has,$(PYTHON),u.find_spec("torch"))
# A torch of one's own (a GPU build, say) is kept. In an active environment that has one, everything is installed there; a
# system's is seen from .venv. Where there is none, .venv gets the pinned one.
ACTIVE := $(if $(HAS_TORCH),$(call has,$(PYTHON),sys.prefix != sys.base_prefix or (__import__("os").environ.get("CONDA_PREFIX"))))
OWN := $(if $(wildcard .venv/bin/python),$(call has,.venv/bin/python,u.find_spec("torch")),$(HAS_TORCH))
PY := $(if $(ACTIVE),$(PYTHON),.venv/bin/python)
NAME ?= first

.PHONY: search test check chaos bench fuzz clean

search: .venv/installed
	$(PY) -m search.cli first --name $(NAME)

test: .venv/tested
	$(PY) -m pytest

check: .venv/tested
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

chaos: .venv/tested
	$(PY) -m pytest -n 0 -s -m chaos tests/chaos

# Twice 10,000 damaged and forged artifacts, instead of twice 60.
fuzz: .venv/tested
	GOLFLAB_FUZZ=10000 $(PY) -m pytest -n 0 --timeout 0 tests/test_artifact.py -k "mutation or forged"

bench: .venv/tested
	$(PY) -m benchmarks.search_efficiency

.venv/constraints.txt:
	mkdir -p .venv
	$(if $(ACTIVE),,test -x .venv/bin/python || $(PYTHON) -m venv $(if $(OWN),--system-site-packages) .venv)
	$(if $(OWN)$(ACTIVE),grep -v '^torch==',cat) constraints.txt > $@

.venv/installed: .venv/constraints.txt pyproject.toml constraints.txt
	$(PY) -m pip install --quiet --disable-pip-version-check -c .venv/constraints.txt -e .
	touch $@

.venv/tested: .venv/installed
	$(PY) -m pip install --quiet --disable-pip-version-check -c .venv/constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf .venv build *.egg-info
