PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run restore keys test test-browser gauntlet lint format clean

run: $(VENV)/.run
	@exec $(BIN)/python -m deploy.run

restore: $(VENV)/.run
	@exec $(BIN)/python -m jobs.backup restore "$(FILE)"

keys: $(VENV)/.run
	@$(BIN)/python -m jobs.keys $(ARGS)

test: $(VENV)/.dev
	$(BIN)/python -m pytest -m "not browser" -n 4 --dist loadfile $(ARGS)

test-browser: $(VENV)/.dev
	$(BIN)/python -m pytest -m browser $(ARGS)

gauntlet: $(VENV)/.dev
	$(BIN)/python -m tests.gauntlet --seed $(or $(SEED),1) --tasks $(or $(TASKS),2000) --blows $(or $(BLOWS),42)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit("Pressroom needs Python 3.11 or newer; set PYTHON=python3.11") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.run: requirements.txt | $(VENV)/.made
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.run
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@
