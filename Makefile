.PHONY: demo test lint proof chaos lock clean bench
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

proof: $(READY) ## hostile files, a provider that fails, the pixel path, killed schedulers, and chaos for long
	@$(BIN)/python -m bench.hostile
	@$(BIN)/python -m bench.failing_gemini
	@$(BIN)/python -m bench.pixels
	@$(BIN)/python -m bench.ticks --seed $(SEED)
	@$(MAKE) --no-print-directory chaos MINUTES=45

SEED ?= 7
MINUTES ?= 5
chaos: $(READY) ## every fault at real processes, then an audit: SEED, MINUTES, JOBS, KILLS, ZOMBIES, BROKER_LOSSES, DATABASE_RESTARTS
	@$(BIN)/python -m tests.chaos --seed $(SEED) --minutes $(MINUTES) $(if $(JOBS),--jobs $(JOBS)) \
		$(if $(KILLS),--kill $(KILLS)) $(if $(ZOMBIES),--zombie $(ZOMBIES)) \
		$(if $(BROKER_LOSSES),--redis-restart $(BROKER_LOSSES)) \
		$(if $(DATABASE_RESTARTS),--postgres-restart $(DATABASE_RESTARTS)) $(if $(FOLDER),--folder $(FOLDER))

lock: ## renew requirements.lock: every version and hash, no index address
	@$(PYTHON) -m venv $(VENV)/lock && $(VENV)/lock/bin/python -m pip install --quiet uv
	@$(VENV)/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-annotate --no-header --group dev --group build pyproject.toml --output-file requirements.lock

clean:
	@rm -rf $(VENV) build dist *.egg-info
