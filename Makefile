# What people type. Everything sets up what it needs by itself; see bootstrap.sh.

PYTEST_ARGUMENTS ?=
inventory = $(or $(INVENTORY),$(error say which: make $(1) INVENTORY=NAME, for inventories/NAME))

.PHONY: demo test fuzz lint format docs bench chaos check-inventory deploy upgrade drain resume backup restore wheel image testbed testbed-full clean

demo: ## run the sample suite on a cluster of its own; KEEP=1 leaves the cluster up
	@./bootstrap.sh local
	@.venv/bin/dist-test local demo

test: ## run all tests; PYTEST_ARGUMENTS="-k queue" runs some
	@./bootstrap.sh dev
	@tests/all.sh $(PYTEST_ARGUMENTS)

fuzz: ## look for inputs that something fails on, for MINUTES=10; what is found stays in tests/fuzz/corpus
	@./bootstrap.sh dev
	@.venv/bin/pytest tests/fuzz tests/services/master/test_openapi.py -k "fuzz" -q -o timeout=0 --fuzz-minutes $(or $(MINUTES),10)

lint: ## ruff and mypy --strict on code and tests, yamllint and ansible-lint on what Ansible reads
	@./bootstrap.sh dev
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/yamllint --strict inventories playbooks roles
	PATH="$$PWD/.venv/bin:$$PATH" .venv/bin/ansible-lint --offline --strict --profile production

format: ## rewrite the code in the house style
	@./bootstrap.sh dev
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

docs: ## write the pages of docs/reference/ that the code itself knows
	@./bootstrap.sh dev
	.venv/bin/python docs/reference/generate.py

bench: ## print the figures that performance is held to, and those of what users would pick instead; PART=peers for some
	@./bootstrap.sh dev
	@./bootstrap.sh bench
	@.venv/bin/python -m tests.bench $(PART)

chaos: ## break a cluster while it works, and prove that no task is lost; SEED=17 for one run, SEEDS=20 for a night
	@./bootstrap.sh dev
	@.venv/bin/python -m tests.chaos $(if $(SEED),--seed '$(SEED)') $(if $(SEEDS),--seeds '$(SEEDS)')

check-inventory: ## say what is wrong with inventories/$(INVENTORY), all at once, and touch no host
	@./bootstrap.sh deploy
	@.venv/bin/python -m inventories.check \
	    'inventories/$(or $(INVENTORY),$(error say which: make check-inventory INVENTORY=NAME, for inventories/NAME))'

deploy: ## set up the cluster of inventories/$(INVENTORY); LIMIT=hosts for some; DRY=1 only says what would change
	@./bootstrap.sh deploy
	@.venv/bin/python -m inventories.deployment $(if $(LIMIT),--limit '$(LIMIT)') $(if $(DRY),--dry) \
	    '$(or $(INVENTORY),$(error say which: make deploy INVENTORY=NAME, for inventories/NAME))'

upgrade: ## move the cluster to this checkout's release while it works; BATCH=25% of the slaves at a time
	@./bootstrap.sh deploy
	@.venv/bin/python -m inventories.upgrade $(if $(BATCH),--batch '$(BATCH)') '$(call inventory,upgrade)'

drain: ## let the slaves LIMIT= finish what they run and take no more, and wait for that
	@./bootstrap.sh deploy
	@.venv/bin/python -m inventories.operation --limit '$(LIMIT)' drain '$(call inventory,drain LIMIT=slave1)'

resume: ## let the slaves LIMIT= take tasks again
	@./bootstrap.sh deploy
	@.venv/bin/python -m inventories.operation --limit '$(LIMIT)' resume '$(call inventory,resume LIMIT=slave1)'

backup: ## dump the database now
	@./bootstrap.sh deploy
	@.venv/bin/python -m inventories.operation backup '$(call inventory,backup)'

restore: ## put back the database from the dump FILE=, a path on its host; what came after it is lost
	@./bootstrap.sh deploy
	@.venv/bin/python -m inventories.operation --data 'restore_file=$(FILE)' restore '$(call inventory,restore FILE=...)'

wheel: ## build the package that hosts get, if it is not as new as the sources
	@./bootstrap.sh deploy
	@.venv/bin/python -m inventories.wheel

image: ## build the image of a slave; TOOL=ansible deploys to it with Ansible
	@./bootstrap.sh dev
	@.venv/bin/python -m images.build $(if $(TOOL),--tool '$(TOOL)')

testbed: ## boot five hosts on this machine, deploy a cluster to them and run the sample suite; they stay up
	@./bootstrap.sh dev
	@.venv/bin/python -m tests.testbed run

testbed-full: ## that, and everything else that is tried on such machines
	@./bootstrap.sh dev
	@.venv/bin/pytest tests/testbed tests/images --full

clean: ## remove what can be made again
	rm -rf .venv .venv-bench .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -prune -exec rm -rf {} +
