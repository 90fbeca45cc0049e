# make search   a first search, from nothing to a report (installs what it needs into .venv); NAME=… for another one
# make test     the tests;  make check: ruff and mypy;  make bench: the search benchmark
# make test-all what `make test` does by a smaller design, in full;  make test-machines: as on other processors
# make docs     the documentation as a site in build/site, with the reports of the worked examples; a dead link fails
# make fuzz     20,000 damaged artifacts;  make chaos: many kills

SHELL := bash
PYTHON ?= python3
has = $(shell $(1) -c 'import importlib.util as u, sys; print("yes" if $(2) else "")' 2>/dev/null)
HAS_TORCH := $(call has,$(PYTHON),u.find_spec("torch"))
# A torch of one's own (a GPU build, say) is kept. In an active environment that has one, everything is installed there; a
# system's is seen from .venv. Where there is none, .venv gets the pinned one.
ACTIVE := $(if $(HAS_TORCH),$(call has,$(PYTHON),sys.prefix != sys.base_prefix or (__import__("os").environ.get("CONDA_PREFIX"))))
OWN := $(if $(wildcard .venv/bin/python),$(call has,.venv/bin/python,u.find_spec("torch")),$(HAS_TORCH))
PY := $(if $(ACTIVE),$(PYTHON),.venv/bin/python)
NAME ?= first

.PHONY: search test test-all test-machines check docs chaos bench fuzz clean

search: .venv/installed
	$(PY) -m golflab first --name $(NAME)

test: .venv/tested
	$(PY) -m pytest

# Every pair of techniques is trained by itself too.
test-all: .venv/tested
	$(PY) -m pytest -m "not chaos"

# What computes with numbers, under other instructions (PyTorch's, oneDNN's, NumPy's), threads and compute types: every two values
# of two of these five meet in one of six runs. What a processor does not have is ignored by the libraries. Left out is what only
# asks of many recipes whether their results are finite, or differ at all. The last line says how many runs failed; TESTS=…
# takes a part.
MACHINES := avx2:DEFAULT:Haswell:1:bfloat16 default:DEFAULT:Prescott:2:float32 avx2:AVX2:Haswell:2:float32 \
            default:AVX2:Prescott:1:bfloat16 avx2:AVX512_CORE:Prescott:1:float32 default:AVX512_CORE:Haswell:2:bfloat16
test-machines: .venv/tested
	@failed=0; for machine in $(MACHINES); do \
	  set -- $$(echo $$machine | tr : ' '); threads=$$4; \
	  set -- ATEN_CPU_CAPABILITY=$$1 ONEDNN_MAX_CPU_ISA=$$2 OPENBLAS_CORETYPE=$$3 OMP_NUM_THREADS=$$4 GOLFLAB_TEST_DTYPE=$$5 \
	    GOLFLAB_TEST_EMPTY=nan OMP_WAIT_POLICY=passive; \
	  echo "$$@"; \
	  env "$$@" $(PY) -m pytest -n $$((3 - threads)) -m "numerical and not chaos and not full" \
	      -k "not every_pair and not every_bound and not every_knob" $(TESTS) || failed=$$((failed + 1)); \
	done; echo "$$failed of $(words $(MACHINES)) runs failed"; test $$failed = 0

check: .venv/tested
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	rm -rf build/types && mkdir -p build/types/golflab
	cd build/types/golflab && ln -s ../../../golflab/*.py ../../../model ../../../spaces ../../../search ../../../analysis .
	$(PY) -m mypy

docs: .venv/documented
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict

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

.venv/documented: .venv/installed
	$(PY) -m pip install --quiet --disable-pip-version-check -c .venv/constraints.txt -e '.[docs]'
	touch $@

clean:
	rm -rf .venv build *.egg-info
