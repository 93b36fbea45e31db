# The one entry point for people: `make` lists what it can do.
#
# Everything runs in an environment of its own in .venv, which the first command makes (Python 3.11, 3.12 or 3.13, git and make are all
# that is needed). docs/install.md says more.
#   make setup PYTHON=/path/to/python3.12     another interpreter for it
#   make kit KIT=folder                       collect what setup installs; elsewhere, without network: make setup KIT=folder
#   make repro PREFLIGHT=no                   train although something that the suite needs is missing
#   make test VENV=/path/to/environment       an environment of yours, used as it is: nothing is installed into it

VENV ?= .venv
PYTHON ?=
SUITE ?=
PORT ?= 5000
ARGS ?=
PREFLIGHT ?= yes
EXTRAS ?= dev,cluster,crafter,dmc,examples,hub,minari,pretrained
KIT ?=
KIT_PYTHON ?=
KIT_PLATFORM ?= manylinux_2_28_x86_64
KIT_TORCH ?=
KIT_ONLY ?=

# Each of these may hold blanks: recipes put them into double quotes. ($(abspath) and prerequisites take no blanks.)
ROOT := $(CURDIR)
BIN := $(if $(filter /%,$(firstword $(VENV))),$(VENV),$(ROOT)/$(VENV))/bin
PY := $(BIN)/python
STAMP := $(if $(filter .venv,$(VENV)),.venv/.installed)

# Stages are commands of their own, `python -m pipeline.train ...`: they have to find the environment and this checkout.
export PATH := $(BIN):$(PATH)
export PYTHONPATH := $(ROOT)/src:$(ROOT)
export MLFLOW_DISABLE_TELEMETRY := true
export DO_NOT_TRACK := true
export DVC_NO_ANALYTICS := true

.DEFAULT_GOAL := help
.PHONY: help setup kit scm repro test test-all lint format ui doctor bench report experiments plots readme docs suite constraints clean

help:  ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /\1\t/' | awk -F '\t' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(STAMP)  ## make the environment (.venv) and install everything into it

# 3.11 first: the recorded results were made with it.
PYTHONS := $(filter $(or $(KIT_PYTHON),%),3.11 3.12 3.13)
# dm-control's suite needs nothing of labmaze, which has no wheel for Python 3.13.
BARE := $(if $(findstring dmc,$(EXTRAS)),dm-control==1.0.50)
INSTALL = .venv/bin/python -m pip install --disable-pip-version-check -c constraints.txt $(if $(KIT),--no-index --find-links "$(KIT)")

# Shell commands that set $$python to PYTHON, or else to the environment's or the first interpreter of these versions with venv and pip.
define find-python
python=""; for candidate in $(if $(PYTHON),"$(PYTHON)",.venv/bin/python $(PYTHONS:%=python%) python3 python $(foreach bin,/usr/local/bin /usr/bin,$(PYTHONS:%=$(bin)/python%))); do \
  if "$$candidate" -c 'import sys, venv, ensurepip; sys.exit("%d.%d" % sys.version_info[:2] not in sys.argv)' $(PYTHONS) >/dev/null 2>&1; then \
    python="$$candidate"; break; fi; done; \
if [ -z "$$python" ]; then \
  echo "error: no Python 3.11, 3.12 or 3.13 with venv and pip was found$(if $(PYTHON), as PYTHON=$(PYTHON))$(if $(KIT_PYTHON), for KIT_PYTHON=$(KIT_PYTHON)); install one (Debian: python3.11-venv) or say make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 2; fi
endef

# torch first and by its exact version: where pip knows a CPU build it takes that one, elsewhere the CUDA build.
.venv/.installed: pyproject.toml constraints.txt
	@$(find-python); $(if $(KIT),"$$python" -m pipeline.kit check "$(KIT)" --extras "$(EXTRAS)" &&) \
	  { test -x .venv/bin/python || "$$python" -m venv .venv; } && \
	  if [ "$$(.venv/bin/python --version)" != "$$("$$python" --version)" ]; then \
	    echo "error: .venv holds $$(.venv/bin/python --version), not $$("$$python" --version): remove it first, or leave PYTHON out" >&2; exit 2; fi
	@echo "setup     environment in $(ROOT)/.venv, with $$(.venv/bin/python --version)"
	@echo "setup     1 of 2: torch (200 MB, with CUDA some GB)"
	@$(INSTALL) torch==2.13.0
	@echo "setup     2 of 2: about 200 packages; takes minutes"
	@$(INSTALL) -e '.[$(EXTRAS)]'
	@$(if $(BARE),$(INSTALL) --no-deps $(BARE))
	@touch $@
	@echo "setup     done"

kit:  ## collect what setup installs, for a machine without network (KIT=folder, KIT_PYTHON=3.12, KIT_PLATFORM=...)
	@if [ -z "$(KIT)" ]; then echo "error: say where: make kit KIT=folder" >&2; exit 2; fi
	@$(find-python); "$$python" -m pipeline.kit collect "$(KIT)" --extras "$(EXTRAS)" \
	  --platform "$(KIT_PLATFORM)" --torch "$(KIT_TORCH)" --bare "$(BARE)" --only "$(KIT_ONLY)"

# An archive of the sources is no git repository, which DVC has to be told; in a clone this does nothing.
scm: setup
	@test -e .git || grep -qs no_scm .dvc/config.local || { dvc config --local core.no_scm true && \
	  echo "no git repository here: DVC works without one from now on (.dvc/config.local), but for dvc exp, which needs" \
	    "git init, a first commit and dvc config --local --unset core.no_scm"; }

repro: scm  ## train and evaluate what the active suite asks for, then tables, figures and report
	@$(if $(filter no,$(PREFLIGHT)),true,"$(PY)" -m pipeline.preflight --missing)
	@"$(PY)" -m pipeline.repro

suite: setup  ## choose what is trained: make suite SUITE=atari100k (without SUITE: list them)
	@"$(PY)" -m pipeline.suite $(SUITE)

report: scm  ## redraw tables, figures and report from the runs that are there, training nothing
	@"$(PY)" -m pipeline.repro --report

experiments: scm  ## what differs between experiments (dvc exp show, for narrow screens; ARGS="-A")
	@"$(PY)" -m pipeline.experiments $(ARGS)

plots: scm  ## curves of this and other experiments, as a page that needs no network (ARGS="HEAD my-experiment")
	@"$(PY)" -m pipeline.vega
	dvc plots $(if $(ARGS),diff,show) $(ARGS)

readme: setup  ## make the tables in README.md and docs/ anew
	"$(PY)" analysis/readme_tables.py

# NO_MKDOCS_2_WARNING: mkdocs-material advertises its successor on every build.
docs: setup  ## build the documentation site into site/ (open site/index.html)
	NO_MKDOCS_2_WARNING=1 "$(PY)" -m mkdocs build --strict --quiet --clean
	@echo "docs      $(ROOT)/site/index.html"

doctor: setup  ## versions, hardware, folders, games, and what every suite needs: ok, or what to do
	@"$(PY)" -m tokenworlds doctor $(ARGS)

ui: setup  ## browse the runs in MLflow on http://127.0.0.1:5000 (PORT=...)
	@"$(PY)" -m tokenworlds.tracking views --server http://127.0.0.1:$(PORT)
	"$(BIN)/mlflow" server --backend-store-uri "$${MLFLOW_TRACKING_URI:-sqlite:///$(ROOT)/mlflow.db}" \
	  --artifacts-destination "$(ROOT)/mlartifacts" --host 127.0.0.1 --port $(PORT) --workers 1

test: setup  ## the fast tests, on up to eight cores (ARGS="-k resume" and the like go to pytest)
	"$(PY)" -m pytest -n auto --maxprocesses 8 $(ARGS)

test-all: test  ## these, then one by one those with real pipelines, servers, browsers and trainings
	"$(PY)" -m pytest -m "integration and not cluster and not slow and not gpu and not pretrained" $(ARGS)

lint: setup  ## formatter, linter and type checker, as pre-commit and CI run them
	"$(BIN)/ruff" format --check .
	"$(BIN)/ruff" check .
	"$(BIN)/mypy"

format: setup  ## format the sources
	"$(BIN)/ruff" format .
	"$(BIN)/ruff" check --fix .

bench: setup  ## time every phase at published size
	"$(PY)" -m benchmarks $(ARGS)

# graphene and celery do not take python-dateutil 4; without the bound they would fall back to old releases. What is
# pinned stays; ARGS=--upgrade takes the newest.
constraints: setup  ## resolve the dependencies again, for all versions of Python (needs uv; ARGS=--upgrade)
	printf '%s\n' 'python-dateutil<3' | uv pip compile pyproject.toml - --all-extras --universal --python-version 3.11 \
	  --no-emit-package torch --no-annotate --no-header $(ARGS) -q -o constraints.txt

clean: setup  ## remove what `make report` makes again, and scratch of finished runs (runs, scores and the environment stay)
	rm -rf results/tables results/figures results/report results/collected/* results/aggregated/* results/made/*
	"$(PY)" -m pipeline.clean --remove
