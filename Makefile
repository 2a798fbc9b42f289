# make test   lint, type-check and test          make setup   only build the virtual environment
# make demo   the main job: runs/demo/report.html  make slow    the tests that take minutes
#
# PYTHON=python3.12  which Python (default: the newest one here that JAX supports)
# VENV=.venv         where the virtual environment lives
# WORKERS=2          processes that run the tests; 0: this one alone

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

.PHONY: test demo setup lint slow clean

test: lint
	$(VENV)/bin/python -m pytest -n $(WORKERS) --dist loadfile $(PYTEST_ARGS)

demo: setup
	$(VENV)/bin/python -m experiments.demo --workdir=runs/demo

setup:
	@VENV='$(VENV)' PYTHON='$(PYTHON)' .ci/setup

lint: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/basedpyright --level error --pythonpath $(VENV)/bin/python

slow: setup
	$(VENV)/bin/python -m pytest -m slow $(PYTEST_ARGS)

clean:
	rm -rf $(VENV) .cache .pytest_cache .ruff_cache build dist *.egg-info
