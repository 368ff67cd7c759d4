# One environment (.venv), one pinned list (constraints.txt). `make help` lists what there is.

PYTHON      ?= python3
PIP_ARGS    ?=
CONSTRAINTS ?= constraints.txt
EXTRAS      ?= lab,test
LAB_ARGS    ?=
DASHBOARD_ARGS ?=
GPU_ARGS    ?=
PYTEST_ARGS ?=
WORKERS     ?= auto

comma := ,
BIN   := .venv/bin
PY    := $(BIN)/python
PIP   := $(PY) -m pip --disable-pip-version-check
# The stamp carries the extras, so that asking for more of them installs more.
STAMP := .venv/.installed-$(subst $(comma),-,$(EXTRAS))

START := notebooks/00_start_here.ipynb
NAMES  = $(basename $(notdir $(NB)))

.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: dashboard slides site course gpu-check help install lab test notebooks nbval lint format bench clean distclean

help:  ## list the targets and the variables
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "  NB=04_looped_mlp   only these notebooks (notebooks, nbval)   PROFILE=smoke|full|cuda   UPDATE=1"
	@echo "  LAB_ARGS=--port=9000   passed to JupyterLab                  PYTEST_ARGS='-x tests/test_setup.py'"
	@echo "  DASHBOARD_ARGS='--theme light --port 9000'   passed to dashboard"
	@echo "  GPU_ARGS='--only cifar10 --data FOLDER'   passed to gpu-check"
	@echo "  WORKERS=1              processes that share the tests (default: one a core)"
	@echo "  PYTHON=python3.13      makes the environment                 EXTRAS=lab,test,gpu"
	@echo "  PIP_ARGS='--extra-index-url https://download.pytorch.org/whl/cpu'"
	@echo "                     passed to pip; this value spares a Linux machine without a GPU the CUDA libraries"

$(PY):
	@command -v "$(PYTHON)" >/dev/null 2>&1 || { echo "No '$(PYTHON)' here: install Python 3.11 or newer (Debian, Ubuntu: apt install python3 python3-venv; macOS: brew install python) or name one, make PYTHON=/path/to/python3." >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "'$(PYTHON)' is $$("$(PYTHON)" -c 'import sys; print(sys.version.split()[0])'), and eqprop_lab needs Python 3.11 or newer: install one and name it, make PYTHON=python3.13." >&2; exit 1; }
	@"$(PYTHON)" -c 'import venv, ensurepip' 2>/dev/null || { echo "'$(PYTHON)' cannot make environments: install its venv module (Debian, Ubuntu: apt install python3-venv)." >&2; exit 1; }
	"$(PYTHON)" -m venv --clear .venv

# setuptools first and from the pinned list: pip would build the project with the newest one otherwise.
$(STAMP): pyproject.toml $(CONSTRAINTS) | $(PY)
	$(PIP) install $(PIP_ARGS) $(CONSTRAINTS:%=-c %) setuptools
	$(PIP) install $(PIP_ARGS) $(CONSTRAINTS:%=-c %) --no-build-isolation -e '.[$(EXTRAS)]'
	@touch $@

install: $(STAMP)  ## make .venv from the pinned list (every target below does it when needed)

lab: $(STAMP)  ## open JupyterLab on the series
	@root=$$([ "$$(id -u)" != 0 ] || echo --allow-root); \
	quiet=$$([ "$$(uname -s)" = Darwin ] || [ -n "$$DISPLAY$$WAYLAND_DISPLAY" ] || echo --no-browser); \
	export JUPYTER_CONFIG_PATH="$(CURDIR)/jupyter$${JUPYTER_CONFIG_PATH:+:$$JUPYTER_CONFIG_PATH}"; \
	exec $(PY) -m jupyterlab --ServerApp.root_dir="$(CURDIR)" --LabApp.default_url=/lab/tree/$(START) \
	  $$root $$quiet $(LAB_ARGS)

dashboard: $(STAMP)  ## train and watch in the browser, on this machine only (extra dashboard)
	$(PIP) install -q $(PIP_ARGS) $(CONSTRAINTS:%=-c %) --no-build-isolation -e '.[dashboard]'
	$(PY) -m eqprop_lab dashboard $(DASHBOARD_ARGS)

# Where Python has sys.monitoring (3.12), coverage through it costs nothing; the tracer of 3.11 a third more.
test: $(STAMP)  ## run all tests, with coverage
	COVERAGE_CORE=$$($(PY) -c 'import sys; print("sysmon" if sys.version_info >= (3, 12) else "ctrace")') \
	  $(PY) -m pytest --cov=eqprop_lab -n $(WORKERS) --no-loadscope-reorder $(PYTEST_ARGS)

notebooks: $(STAMP)  ## run the series headless into runs/; UPDATE=1 rewrites the stored outputs
	$(PY) -m eqprop_lab run $(if $(UPDATE),--update) $(if $(PROFILE),--profile $(PROFILE)) $(NAMES)

nbval: $(STAMP)  ## run the notebooks through nbval
	$(PY) -m pytest --nbval-lax $(if $(NB),$(NAMES:%=notebooks/%*.ipynb),notebooks) $(PYTEST_ARGS)

lint: $(STAMP)  ## format, style, types and size of the code, notebooks included
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy
	$(PY) tools/lint_size.py
	@PATH="$(CURDIR)/$(BIN):$$PATH"; if command -v hadolint >/dev/null 2>&1; then hadolint Dockerfile; \
	  else echo "Dockerfile: not looked at, hadolint is not installed"; fi

format: $(STAMP)  ## format the code and mend what ruff can mend
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

course: $(STAMP)  ## write the student and the instructor edition; OUT=runs/course ROSTER=class.csv
	$(PY) -m eqprop_lab course build --out $(or $(OUT),runs/course) $(if $(ROSTER),--roster $(ROSTER)) $(NAMES)

site: $(STAMP)  ## write the web edition into runs/site (npm fetches MathJax once)
	$(PIP) install -q $(PIP_ARGS) $(CONSTRAINTS:%=-c %) --no-build-isolation -e '.[site]'
	$(PY) -m tools.site.site $(NAMES)

slides: $(STAMP)  ## write a deck of slides a notebook into runs/slides (npm fetches reveal.js once)
	$(PY) -m tools.site.slides $(NAMES)

gpu-check: $(STAMP)  ## run the checks that need a CUDA device
	$(PY) -m eqprop_lab gpu-check $(if $(OUT),--out $(OUT)) $(GPU_ARGS)

bench: $(STAMP)  ## measure speed and latencies (tests/benchmarks)
	@set -e; for script in tests/benchmarks/bench_*.py; do \
	  [ -e "$$script" ] || { echo "tests/benchmarks holds no bench_*.py"; exit 0; }; \
	  name=$$(basename "$$script" .py); echo "== $$name"; $(PY) -m tests.benchmarks.$$name; done

clean:  ## remove what runs and tools left behind; .venv and data stay
	rm -rf runs build dist *.egg-info .coverage htmlcov .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find eqprop_lab tests tools notebooks -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
	find notebooks -name .ipynb_checkpoints -prune -exec rm -rf {} + 2>/dev/null || true

distclean: clean  ## the same, and .venv
	rm -rf .venv
