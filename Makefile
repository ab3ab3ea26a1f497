.PHONY: demo test lint proof lock clean bench
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# One stamp each: a second run installs nothing and starts at once.
READY := $(VENV)/.ready

demo: $(READY) ## set everything up and run the main job
	@$(BIN)/darkroom demo

test: $(READY) ## set everything up and pass the tests
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/python -m pytest -n 2

lint: $(READY) ## repair what can be repaired, then check
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format . && $(BIN)/mypy && $(BIN)/lint-imports --no-cache

$(READY): requirements.lock pyproject.toml
	@echo "setting up $(VENV) (once) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

proof: $(READY) ## send hostile files through real workers, and measure the pixel path
	@$(BIN)/python -m bench.hostile
	@$(BIN)/python -m bench.pixels

lock: ## renew requirements.lock: every version and hash, no index address
	@$(PYTHON) -m venv $(VENV)/lock && $(VENV)/lock/bin/python -m pip install --quiet uv
	@$(VENV)/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-annotate --no-header --group dev --group build pyproject.toml --output-file requirements.lock

clean:
	@rm -rf $(VENV) build dist *.egg-info
