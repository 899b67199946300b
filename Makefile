.DEFAULT_GOAL := help
.PHONY: help environment services test lint matrix soak bench demo clean

VENV := .venv
URL := memory://
# Which Python the environment is made with; empty: the newest one that is found.
PYTHON :=
ARGS :=
# How many tests run side by side, each with servers of its own: as many as there are cores, at most 4.
# What is chosen with ARGS runs one after the other.
JOBS := $(if $(ARGS),0,auto)
export JOBS
# 4 runs the tests that need RabbitMQ on RabbitMQ 4; empty: the one that is installed.
RABBITMQ :=
export RABBITMQ
PAIRS := 3.11-5.2 3.12-5.2 3.12-6.0 3.12-6.1 3.13-5.2 3.13-6.0 3.13-6.1

help: ## List what make can do
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

environment: ## Make .venv with everything (PYTHON=/path/to/python chooses the interpreter)
	@scripts/environment $(VENV) dev "$(PYTHON)"

services: environment
	@scripts/services $(VENV)/bin/python

test: services ## Run the tests with coverage (ARGS="tests/test_x.py -k word", JOBS=1, RABBITMQ=4)
	@$(VENV)/bin/coverage erase
	$(VENV)/bin/coverage run -m pytest -n $(JOBS) --maxprocesses 4 --dist worksteal $(if $(RABBITMQ),-m rabbitmq) $(ARGS)
	@$(VENV)/bin/coverage combine --quiet
	@$(VENV)/bin/coverage report $(if $(RABBITMQ)$(ARGS),--fail-under=0)

lint: environment ## Check style, types and the direction of imports
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

matrix: services ## Run the tests over pairs of Python and Django (PAIRS="3.11-5.2 3.13-6.1", RABBITMQ=4)
	@scripts/matrix $(PAIRS)

bench: ## Compare publishing and consuming with peers on private servers (ARGS="--quick", ARGS="--list")
	@scripts/environment .venvs/bench bench "$(PYTHON)"
	@scripts/services .venvs/bench/bin/python
	@.venvs/bench/bin/python -m benchmarks $(ARGS)

soak: services ## Publish through the long faults (ARGS="--only faults --faults 180")
	$(VENV)/bin/python -m tests.soak $(ARGS)

demo: environment ## Serve the example project (URL=amqp://guest:guest@127.0.0.1/ for RabbitMQ)
	$(VENV)/bin/python example_project/demo.py --url "$(URL)"

clean: ## Remove environments, caches and reports
	rm -rf .venv .venvs .rabbitmq-4 .coverage .coverage.* htmlcov build dist *.egg-info
	rm -rf .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
