PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PEERS := .venv-peers
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes
COMPILE := $(BIN)/uv pip compile --quiet --no-header --universal --fork-strategy fewest --python-version 3.11 \
	--generate-hashes --no-emit-index-url

.PHONY: run restore drill keys test test-browser gauntlet fuzz bench lint format requirements translations reference clean

run: $(VENV)/.run
	@exec $(BIN)/python -m deploy.run

restore: $(VENV)/.run
	@exec $(BIN)/python -m jobs.backup restore "$(FILE)"

drill: $(VENV)/.run
	@exec $(BIN)/python -m deploy.drill "$(FILE)"

keys: $(VENV)/.run
	@$(BIN)/python -m jobs.keys $(ARGS)

test: $(VENV)/.dev
	$(BIN)/python -m pytest -m "not browser" -n 4 --dist loadfile --no-loadscope-reorder $(ARGS)

test-browser: $(VENV)/.dev
	$(BIN)/python -m pytest -m browser $(ARGS)

gauntlet: $(VENV)/.dev
	$(BIN)/python -m tests.gauntlet --seed $(or $(SEED),1) --tasks $(or $(TASKS),2000) --blows $(or $(BLOWS),42)

fuzz: $(VENV)/.dev
	$(BIN)/python -m tests.support.fuzzing --examples $(or $(EXAMPLES),250) --seed $(or $(SEED),1)

bench: $(VENV)/.run $(PEERS)/.made
	@$(BIN)/python -m tests.benchmarks --only "$(ONLY)" --rounds $(or $(ROUNDS),3) --scale $(or $(SCALE),1)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m deploy.audit

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# After a change of the .in files. Other pins stay as they are: to move one, name it in UPGRADE="--upgrade-package NAME".
requirements: $(VENV)/.dev
	$(COMPILE) $(UPGRADE) --output-file requirements.txt requirements.in
	$(COMPILE) $(UPGRADE) --output-file requirements-dev.txt requirements-dev.in
	$(COMPILE) $(UPGRADE) --output-file tests/benchmarks/peers.txt tests/benchmarks/peers.in

# After a change of what the console's pages say: brings the .po up to date, and compiles it; both are committed.
TEXTS := api/translations/zh/LC_MESSAGES/console
translations: $(VENV)/.dev
	$(BIN)/pybabel -q extract -F api/translations/babel.cfg -k _noted --no-location --project Pressroom -o $(TEXTS).pot .
	$(BIN)/pybabel -q update -i $(TEXTS).pot -o $(TEXTS).po -l zh --no-fuzzy-matching --ignore-obsolete
	$(BIN)/pybabel -q compile --use-fuzzy -i $(TEXTS).po -o $(TEXTS).mo
	@rm $(TEXTS).pot

# After a change of the API: docs/http/ from its OpenAPI document, without settings of this machine.
reference: $(VENV)/.run
	@env -i PATH="$$PATH" $(BIN)/python -m deploy.reference

clean:
	rm -rf $(VENV) $(PEERS) .mypy_cache .ruff_cache .pytest_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Quiet on standard output: that of `make keys` goes into files.
$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit("Pressroom needs Python 3.11 or newer; set PYTHON=python3.11") if sys.version_info < (3, 11) else None'
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.run: requirements.txt | $(VENV)/.made
	@echo "pressroom: installing requirements.txt into $(VENV)" >&2
	@$(INSTALL) -r requirements.txt
	@ln -sf ../../deploy/pressroom $(BIN)/pressroom
	@touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.run
	@$(INSTALL) -r requirements-dev.txt
	@touch $@

# What the benchmark compares with. Without a network it measures Pressroom alone, and says so.
$(PEERS)/.made: tests/benchmarks/peers.txt | $(VENV)/.made
	@$(PYTHON) -m venv $(PEERS)
	@$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r tests/benchmarks/peers.txt \
		&& touch $@ || echo "The peers could not be installed: their rows will be missing."
