# make test    lint, type-check, print the sizes of the source, and test
# make demo    the main job: writes the report runs/demo/report.html
# make setup   only build the virtual environment
# make lint    only check the style and the types
# make sizes   print how large the project is, and how much of it a run imports
# make slow    run the tests that take longer, some minutes in all
# make clean   remove the virtual environment, caches and builds
#
# PYTHON=python3.12  which Python to use (default: the newest one here that JAX supports)
# VENV=.venv         where the virtual environment lives
# WORKERS=2          how many processes run the tests; 0 runs them in this one

VENV ?= .venv
PYTHON ?=
PYTEST_ARGS ?=
WORKERS ?= 2

export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/.cache/jax
ifeq ($(shell uname -s),Linux)
ifndef DISPLAY
export MUJOCO_GL ?= egl
endif
endif

.PHONY: test demo setup lint sizes slow clean

test: lint
	@$(VENV)/bin/python -m tests.sizes --fast
	$(VENV)/bin/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

demo: setup
	$(VENV)/bin/python -m experiments.demo --workdir=runs/demo

setup:
	@VENV='$(VENV)' PYTHON='$(PYTHON)' .ci/setup

lint: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/basedpyright --level error --pythonpath $(VENV)/bin/python

sizes: setup
	@$(VENV)/bin/python -m tests.sizes

slow: setup
	$(VENV)/bin/python -m pytest -m slow -n $(WORKERS) --dist loadfile $(PYTEST_ARGS)

clean:
	rm -rf $(VENV) .cache .pytest_cache .ruff_cache build dist *.egg-info
