# What people type. Everything sets up what it needs by itself; see bootstrap.sh.

PYTEST_ARGUMENTS ?=

.PHONY: demo test lint format docs bench clean

demo: ## run the sample suite on a cluster of its own; KEEP=1 leaves the cluster up
	@./bootstrap.sh local
	@.venv/bin/dist-test local demo

test: ## run all tests; PYTEST_ARGUMENTS="-k queue" runs some
	@./bootstrap.sh dev
	@.venv/bin/pytest $(PYTEST_ARGUMENTS)

lint: ## ruff, and mypy --strict on code and tests
	@./bootstrap.sh dev
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

format: ## rewrite the code in the house style
	@./bootstrap.sh dev
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

docs: ## write the pages of docs/reference/ that the code itself knows
	@./bootstrap.sh dev
	.venv/bin/python docs/reference/generate.py

bench: ## print the figures that performance is held to
	@./bootstrap.sh dev
	@set -e; for script in tests/bench/*.py; do .venv/bin/python $$script; done

clean: ## remove what can be made again
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -prune -exec rm -rf {} +
