# Targets that need the environment make it first: see docs/installation.md.
PYTHON ?= python3
VENV ?= .venv
PYTEST_ARGS ?=
TEST_PROCESSES ?= 2
RUN = $(VENV)/bin/python

# Threads that spin while they wait make everything several times slower where something else runs
# on the same cores.
export OMP_WAIT_POLICY ?= PASSIVE

.DEFAULT_GOAL := help
.PHONY: help setup test test-slow lint demo demo-instance demo-panoptic demo-point-supervision demo-micrograph benchmark docs wheelhouse clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-22s %s\n", $$1, $$2}' Makefile
	@echo
	@echo "  VENV=$(VENV)      another place for the environment, or one that exists"
	@echo "  PYTHON=$(PYTHON)  the interpreter that a new environment is made from (3.10 or newer)"

setup:  ## make or complete the environment in .venv
	@$(PYTHON) tools/setup_environment.py "$(VENV)"

test: setup  ## run the tests, without the slow ones (PYTEST_ARGS="-k points -x", TEST_PROCESSES=8)
	OMP_NUM_THREADS=1 "$(RUN)" -m pytest -m "not slow" -n $(TEST_PROCESSES) $(PYTEST_ARGS)

test-slow: setup  ## run the slow tests
	"$(RUN)" -m pytest -m slow $(PYTEST_ARGS)

lint: setup  ## check the code's rules, its format and its types
	"$(RUN)" -m ruff check .
	"$(RUN)" -m ruff format --check .
	"$(RUN)" -m mypy

demo: setup  ## make data, train a small model, show what PointRend gains (output/demo)
	"$(RUN)" tools/demo.py

demo-instance: setup  ## the same for instances, against a Mask R-CNN (output/demo-instance)
	"$(RUN)" tools/demo_instance.py

demo-panoptic: setup  ## the same for panoptic models, against a Panoptic FPN (output/demo-panoptic)
	"$(RUN)" tools/demo_panoptic.py

demo-point-supervision: setup  ## masks from 10 and 20 points of each object, and from full masks
	"$(RUN)" tools/demo_point_supervision.py

demo-micrograph: setup  ## train on a real micrograph and find its nuclei (output/demo-micrograph)
	"$(RUN)" tools/demo_micrograph.py

benchmark: setup  ## measure speed and memory against Detectron2's PointRend (BENCHMARK_ARGS="--list")
	env -u OMP_WAIT_POLICY "$(RUN)" tools/benchmark.py $(BENCHMARK_ARGS)  # threads as PyTorch has them

docs: setup  ## write the tables of docs/configuration.md from config/keys.py
	"$(RUN)" tools/write_config_reference.py

wheelhouse: setup  ## gather wheels for a GPU machine without network (WHEELHOUSE_ARGS="--help")
	"$(RUN)" tools/make_wheelhouse.py $(WHEELHOUSE_ARGS)

clean:  ## remove the environment, built wheels and caches; data and results stay
	rm -rf .venv wheelhouse wheelhouse.part build dist projects/*.egg-info *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find projects tests tools -name __pycache__ -type d -prune -exec rm -rf {} +
